//! `/seller`: stores, books, stock, shipping.

use super::answer::Reply;
use super::buyer::order_fields;
use super::call::{Call, Handled};
use super::fields::{AddBook, Common, amount, book, id, integer, optional_amount, parse, password, required};
use super::orders::OrderList;
use crate::engine::NewBook;

pub(super) async fn create_store(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let store_id = id(body.store_id, "store_id")?;
    call.engine().create_store(&user_id, call.by_token(), &store_id).await?;
    Ok(Reply::ok())
}

pub(super) async fn close_store(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let store_id = id(body.store_id, "store_id")?;
    call.engine().close_store(&user_id, call.by_token(), &store_id).await?;
    Ok(Reply::ok())
}

pub(super) async fn add_book(call: Call<'_>) -> Handled {
    let body: AddBook<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let store_id = id(body.store_id, "store_id")?;
    let book = book(body.book_info)?;
    let stock_level = optional_amount(body.stock_level, "stock_level")?;
    let new = NewBook { id: &book.id, price: book.price, document: book.document };
    call.engine().add_book(&user_id, call.by_token(), &store_id, new, stock_level).await?;
    Ok(Reply::ok())
}

pub(super) async fn add_stock_level(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let store_id = id(body.store_id, "store_id")?;
    let book_id = id(body.book_id, "book_id")?;
    let delta = integer(body.add_stock_level, "add_stock_level")?;
    call.engine().add_stock_level(&user_id, call.by_token(), &store_id, &book_id, delta).await?;
    Ok(Reply::ok())
}

pub(super) async fn set_price(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let store_id = id(body.store_id, "store_id")?;
    let book_id = id(body.book_id, "book_id")?;
    let price = amount(required(body.price, "price")?, "price")?;
    call.engine().set_price(&user_id, call.by_token(), &store_id, &book_id, price).await?;
    Ok(Reply::ok())
}

pub(super) async fn delist_book(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let store_id = id(body.store_id, "store_id")?;
    let book_id = id(body.book_id, "book_id")?;
    call.engine().delist_book(&user_id, call.by_token(), &store_id, &book_id).await?;
    Ok(Reply::ok())
}

pub(super) async fn relist_book(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let store_id = id(body.store_id, "store_id")?;
    let book_id = id(body.book_id, "book_id")?;
    call.engine().relist_book(&user_id, call.by_token(), &store_id, &book_id).await?;
    Ok(Reply::ok())
}

pub(super) async fn ship(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let store_id = id(body.store_id, "store_id")?;
    let order_id = id(body.order_id, "order_id")?;
    call.engine().ship(&user_id, call.by_token(), &store_id, &order_id).await?;
    Ok(Reply::ok())
}

pub(super) async fn query_one_store_orders(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let store_id = id(body.store_id, "store_id")?;
    let password = password(body.password, "password")?;
    let orders = call.engine().store_orders(&user_id, call.by_password(&password), &store_id).await?;
    Ok(Reply::ok_orders(OrderList::list(orders)))
}

pub(super) async fn query_all_store_orders(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let password = password(body.password, "password")?;
    let stores = call.engine().all_store_orders(&user_id, call.by_password(&password)).await?;
    Ok(Reply::ok_orders(OrderList::by_store(stores)))
}

pub(super) async fn query_order(call: Call<'_>) -> Handled {
    let fields = order_fields(call.body)?;
    let credential = call.by_password(&fields.password);
    Ok(Reply::ok_details(&call.engine().seller_order(&fields.user_id, &fields.order_id, credential).await?))
}

pub(super) async fn get_stock_level(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let store_id = id(body.store_id, "store_id")?;
    let book_id = id(body.book_id, "book_id")?;
    Ok(Reply::ok_number("stock_level", call.engine().stock_level(&store_id, &book_id).await?))
}
