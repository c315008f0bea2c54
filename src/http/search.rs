//! `/buyer/search`, `/seller/search`, `/search/search_books` and `/buyer/query_book`.

use super::answer::Reply;
use super::call::{Call, Handled};
use super::fields::{Common, SearchBody, flag, id, keyword, number_from_1, optional_id, optional_text, parse};
use crate::engine::{BookView, Search, SearchPage};

/// The contract's size of a page that does not say one.
const PAGE_SIZE: u64 = 20;

/// What stands as `message` in a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Ok,
    /// The list of books itself.
    Books,
}

pub(super) async fn search(call: Call<'_>, message: Message) -> Handled {
    let body: SearchBody<'_> = parse(call.body)?;
    let keyword = keyword(body.keyword)?;
    let scope = optional_text(body.search_scope, "search_scope")?;
    let in_store = flag(body.search_in_store, "search_in_store")?;
    optional_id(body.store_id, "store_id")?;
    let store_id = optional_text(body.store_id, "store_id")?;
    let page = number_from_1(body.page, "page", 1, None)?;
    let page_size = number_from_1(body.page_size, "page_size", PAGE_SIZE, Some(crate::engine::PAGE_SIZE_MAX))?;
    let mut search = Search::new(&keyword).in_scope(&scope).page(page, page_size);
    if in_store {
        // A store that is missing is as unknown as any other.
        search = search.in_store(&store_id);
    }
    let found = call.engine().search(search).await?;
    Ok(Reply::ok_body(found_body(&found, message)))
}

pub(super) async fn query_book(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let store_id = id(body.store_id, "store_id")?;
    let book_id = id(body.book_id, "book_id")?;
    let BookView { document, stock_level, is_listed, .. } = call.engine().book(&store_id, &book_id).await?;
    let body = format!(
        r#"{{"code":200,"message":"ok","book_info":{document},"stock_level":{stock_level},"is_listed":{is_listed}}}"#
    );
    Ok(Reply::ok_body(body))
}

fn found_body(found: &SearchPage, message: Message) -> String {
    let mut books = String::from("[");
    for book in &found.books {
        if books.len() > 1 {
            books.push(',');
        }
        // The document is an object: what stands beside it goes in before its end.
        books.push_str(book.document.strip_suffix('}').unwrap_or("{"));
        if books.ends_with('{') {
            books.push_str(r#""store_id":"#);
        } else {
            books.push_str(r#","store_id":"#);
        }
        books.push_str(&quoted(&book.store_id));
        books.push_str(&format!(r#","stock_level":{}}}"#, book.stock_level));
    }
    books.push(']');
    let SearchPage { total, page, page_size, .. } = found;
    let message = match message {
        Message::Ok => r#""ok""#,
        Message::Books => &books,
    };
    format!(
        r#"{{"code":200,"message":{message},"books":{books},"total":{total},"page":{page},"page_size":{page_size}}}"#
    )
}

fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    super::json::put_text(&mut out, text);
    // JSON text is UTF-8.
    String::from_utf8(out).unwrap_or_default()
}
