//! The order of what a search finds, on the real books, and pages while books are added.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use bookstore::{Config, Credential, Engine, FoundBook, NewBook, Search, SearchFields};
use serde_json::Value;

const T: Credential<'static> = Credential::Trusted;

fn real_books() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/books.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn shop() -> Engine {
    let mut config = Config::memory();
    config.password_params.memory_kib = 64;
    config.password_params.iterations = 1;
    let engine = Engine::open(config).await.unwrap();
    engine.register("seller", "pw").await.unwrap();
    for store in ["s0", "s1"] {
        engine.create_store("seller", T, store).await.unwrap();
    }
    engine
}

async fn list(engine: &Engine, store: &str, document: &Value) {
    let (id, text) = (document["id"].as_str().unwrap(), document.to_string());
    engine.add_book("seller", T, store, NewBook { id, price: 1, document: &text }, 1).await.unwrap();
}

async fn real_shop() -> Engine {
    let engine = shop().await;
    for book in real_books() {
        list(&engine, "s0", &book).await;
    }
    engine
}

async fn page(engine: &Engine, search: Search<'_>) -> (u64, Vec<FoundBook>) {
    let found = engine.search(search).await.unwrap();
    (found.total, found.books)
}

fn title(book: &FoundBook) -> String {
    let document: Value = serde_json::from_str(&book.document).unwrap();
    document["title"].as_str().unwrap().to_owned()
}

async fn titles(engine: &Engine, search: Search<'_>) -> Vec<String> {
    page(engine, search.page(1, 100)).await.1.iter().map(title).collect()
}

/// What a reader of this keyword wants first, and in which order.
#[tokio::test]
async fn what_a_reader_looks_for_comes_first() {
    let engine = real_shop().await;
    for (keyword, first) in [
        // The whole title, before all titles that only have it.
        ("米", &["米"][..]),
        ("红楼梦", &["红楼梦"]),
        ("童年", &["童年"]),
        ("富爸爸 穷爸爸", &["富爸爸，穷爸爸"]),
        ("笑傲江湖", &["笑傲江湖（全四册）"]),
        // A title that begins with it, before one that has it further on.
        ("毛泽东", &["毛泽东、斯大林与朝鲜战争", "早年毛泽东"]),
        ("三国", &["三国演义"]),
        ("中国历代", &["中国历代年号考", "中国历代政治得失"]),
        ("中国", &["中国历代年号考", "中国历代政治得失", "中国社会的个体化", "十六世纪明代中国之财政与税收"]),
        // Among titles that have it, the shorter one, which is more about it.
        ("李敖", &["李敖回忆录", "李敖快意恩仇录"]),
        ("流浪记", &["苦儿流浪记", "三毛流浪记全集", "三毛流浪记（全集）"]),
        ("日记", &["男生日记", "女生日记-中华儿童文学金奖书库"]),
        ("回忆录", &["李敖回忆录", "李宗仁回忆录（上下）", "第二次世界大战回忆录（全六卷）"]),
        // Who wrote it, before books that are only tagged with the name or speak of it.
        ("金庸", &["笑傲江湖（全四册）"]),
        ("余华", &["在细雨中呼喊"]),
        ("杨红樱", &["女生日记-中华儿童文学金奖书库", "男生日记", "那个骑轮箱来的蜜儿", "漂亮老师和坏小子"]),
        ("苏童 米", &["米"]),
        ("钱钟书《围城》", &["围城"]),
        ("鲁迅", &["呐喊"]),
    ] {
        let found = titles(&engine, Search::new(keyword)).await;
        assert_eq!(
            found.get(..first.len()),
            Some(first.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>()).as_deref(),
            "{keyword}: {found:?}"
        );
    }
}

/// The fields of a book as texts.
fn texts(book: &Value, field: &str) -> Vec<String> {
    match &book[field] {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

const CLASSES: [&[&str]; 4] = [&["title"], &["author"], &["publisher", "isbn", "tags"], &["content", "book_intro"]];

/// Whether each neighbouring two of the keyword's characters stand in one field of the class; and whether all stand in a row.
fn matches(book: &Value, class: &[&str], keyword: &str) -> (bool, bool) {
    let letters: Vec<char> = keyword.chars().collect();
    let pairs: Vec<String> = letters.windows(2).map(|pair| pair.iter().collect()).collect();
    let mut found = (false, false);
    for field in class {
        let texts = texts(book, field);
        found.0 |= pairs.iter().all(|pair| texts.iter().any(|text| text.contains(pair)));
        found.1 |= texts.iter().any(|text| text.contains(keyword));
    }
    found
}

/// Every keyword of two to four Chinese characters out of the real titles, and long ones that some books have in a row and
/// others scattered: what is found never goes from a worse class of fields back to a better one, nor within a class from
/// scattered characters to a row of them.
#[tokio::test]
async fn fields_that_name_a_book_come_before_long_texts_and_rows_before_scattered_characters() {
    let engine = real_shop().await;
    let books: BTreeMap<String, Value> =
        real_books().into_iter().map(|book| (book["id"].as_str().unwrap().to_owned(), book)).collect();
    let mut keywords: BTreeSet<String> =
        ["第一部", "中国历史", "人类学", "第十六章", "是一部", "第一次", "的时间", "中国文学"]
            .map(str::to_owned)
            .into();
    for book in books.values() {
        let letters: Vec<char> = book["title"].as_str().unwrap().chars().collect();
        let runs = letters.split(|letter| !('\u{4e00}'..='\u{9fff}').contains(letter));
        keywords.extend(
            runs.flat_map(|run| (2..=4).flat_map(|length| run.windows(length))).map(|part| part.iter().collect()),
        );
    }
    let (mut rows, mut scattered) = (0, 0);
    for keyword in &keywords {
        let mut before = (0, false);
        for book in page(&engine, Search::new(keyword).page(1, 100)).await.1 {
            let book = &books[&*book.book_id];
            let found = CLASSES.iter().map(|class| matches(book, class, keyword));
            let (class, (_, is_row)) = found.enumerate().find(|(_, found)| found.0).expect(keyword);
            let now = (class, !is_row);
            assert!(before <= now, "{keyword}: {} comes too late", book["title"]);
            before = now;
            rows += usize::from(is_row);
            scattered += usize::from(!is_row);
        }
    }
    assert!(keywords.len() > 500 && rows > 2_000 && scattered > 20, "{} keywords: {rows}, {scattered}", keywords.len());
    let parts = titles(&engine, Search::new("第一部")).await;
    for title in ["三国演义", "围城", "战争论"] {
        // They have 第一 and 一部, far from one another.
        let at = parts.iter().position(|other| other == title).unwrap();
        assert!(at >= parts.len() - 4, "{title} is number {at} of {parts:?}");
    }
}

async fn whole(engine: &Engine, search: Search<'_>, size: u64) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for number in 1.. {
        let (total, books) = page(engine, search.page(number, size)).await;
        if books.is_empty() {
            assert_eq!(all.len() as u64, total, "pages of {size} of {search:?}");
            break;
        }
        all.extend(books.into_iter().map(|book| (book.store_id.to_string(), book.book_id.to_string())));
    }
    all
}

#[tokio::test]
async fn pages_put_together_are_the_whole_list_whatever_their_size() {
    let engine = real_shop().await;
    for book in real_books().iter().take(40) {
        list(&engine, "s1", book).await;
    }
    for keyword in ["小说", "历史", "中国", "的", "文学", "第一部", "中国历史", "1", "金庸", "日记"]
    {
        for fields in [SearchFields::ALL, SearchFields::TITLE | SearchFields::TAGS, SearchFields::CONTENT] {
            for store in [None, Some("s1")] {
                let search = Search::new(keyword).in_fields(fields);
                let search = store.map_or(search, |store| search.in_store(store));
                if engine.search(search).await.is_err() {
                    continue;
                }
                let list = whole(&engine, search, 100).await;
                assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len(), "one is there twice");
                for size in [1, 3, 20] {
                    assert_eq!(whole(&engine, search, size).await, list, "pages of {size} of {search:?}");
                }
            }
        }
    }
}

/// Who turns pages while books are added misses none that was there when he began, and sees at most as many twice as were
/// added meanwhile; none changes its place beside another.
#[tokio::test]
async fn pages_that_are_turned_while_books_are_added_miss_none() {
    let engine = real_shop().await;
    for (keyword, size) in [("小说", 7), ("历史", 3), ("中国", 10)] {
        let search = Search::new(keyword);
        let before = whole(&engine, search, 100).await;
        let (mut seen, mut added) = (Vec::new(), 0);
        for number in 1.. {
            let books = page(&engine, search.page(number, size)).await.1;
            if books.is_empty() {
                break;
            }
            seen.extend(books.into_iter().map(|book| (book.store_id.to_string(), book.book_id.to_string())));
            // One that comes first of all, one in the midst, one at the end, in turns; another that is not found.
            let id = format!("{keyword}{number}");
            let document = match number % 3 {
                0 => serde_json::json!({"id": id, "title": keyword, "price": 1}),
                1 => serde_json::json!({"id": id, "title": "x", "tags": [keyword], "price": 1}),
                _ => serde_json::json!({"id": id, "title": "x", "content": keyword, "price": 1}),
            };
            list(&engine, "s0", &document).await;
            list(&engine, "s1", &serde_json::json!({"id": id, "title": "x", "price": 1})).await;
            added += 1;
        }
        let different: BTreeSet<_> = seen.iter().collect();
        assert!(before.iter().all(|book| different.contains(book)), "{keyword}: one was missed");
        assert!(seen.len() - different.len() <= added, "{keyword}: {} twice of {added}", seen.len() - different.len());
        let after = whole(&engine, search, 100).await;
        let old: Vec<_> = after.into_iter().filter(|book| before.contains(book)).collect();
        assert_eq!(old, before, "{keyword}: a book went past another");
    }
}
