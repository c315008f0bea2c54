//! `/buyer`: orders, payments, funds.

use std::borrow::Cow;

use super::answer::Reply;
use super::call::{Call, Handled};
use super::fields::{Common, NewOrder, id, integer, lines, optional_id, parse, password};
use super::hot;
use super::orders::OrderList;
use crate::domain::Refusal;
use crate::engine::{Error, NewLine};

pub(super) async fn new_order(call: Call<'_>) -> Handled {
    if let Some(order) = hot::new_order(call.body, call.shared.config.order_lines_max) {
        let changes = call.changes()?;
        let order_id = changes.new_order(order.user_id, call.by_token(), order.store_id, &order.lines).await?;
        return Ok(Reply::ok_order(order_id));
    }
    let wanted = new_order_fields(call.body, call.shared.config.order_lines_max, call.is_compat())?;
    let lines: Vec<NewLine<'_>> =
        wanted.books.iter().map(|(book_id, count)| NewLine { book_id, count: *count }).collect();
    let order_id = call.changes()?.new_order(&wanted.user_id, call.by_token(), &wanted.store_id, &lines).await?;
    Ok(Reply::ok_order(order_id))
}

/// The fields of `new_order`.
pub(super) struct NewOrderFields<'a> {
    pub(super) user_id: Cow<'a, str>,
    pub(super) store_id: Cow<'a, str>,
    pub(super) books: Vec<(Cow<'a, str>, i64)>,
}

pub(super) fn new_order_fields(
    body: &[u8],
    lines_max: usize,
    may_be_empty: bool,
) -> Result<NewOrderFields<'_>, Refusal> {
    let body: NewOrder<'_> = parse(body)?;
    Ok(NewOrderFields {
        user_id: id(body.user_id, "user_id")?,
        store_id: id(body.store_id, "store_id")?,
        books: lines(body.books, lines_max, may_be_empty)?,
    })
}

/// The fields of every route that is about one order of a user.
pub(super) struct OrderFields<'a> {
    pub(super) user_id: Cow<'a, str>,
    pub(super) order_id: Cow<'a, str>,
    pub(super) password: Cow<'a, str>,
}

pub(super) fn order_fields(body: &[u8]) -> Result<OrderFields<'_>, Refusal> {
    let Some(fields) = hot::of_order(body) else { return order_fields_with_care(body) };
    Ok(OrderFields {
        user_id: fields.user_id.into(),
        order_id: fields.order_id.into(),
        password: fields.password.into(),
    })
}

/// Field by field, so that a refusal names the first bad one.
pub(super) fn order_fields_with_care(body: &[u8]) -> Result<OrderFields<'_>, Refusal> {
    let body: Common<'_> = parse(body)?;
    Ok(OrderFields {
        user_id: id(body.user_id, "user_id")?,
        order_id: id(body.order_id, "order_id")?,
        password: password(body.password, "password")?,
    })
}

pub(super) async fn payment(call: Call<'_>) -> Handled {
    let fields = order_fields(call.body)?;
    call.changes()?.pay(&fields.user_id, &fields.order_id, call.by_password(&fields.password)).await?;
    Ok(Reply::ok())
}

pub(super) async fn pay_to_platform(call: Call<'_>) -> Handled {
    let fields = order_fields(call.body)?;
    call.changes()?.pay_to_platform(&fields.user_id, &fields.order_id, call.by_password(&fields.password)).await?;
    Ok(Reply::ok())
}

pub(super) async fn confirm(call: Call<'_>) -> Handled {
    let fields = order_fields(call.body)?;
    call.changes()?.confirm(&fields.user_id, &fields.order_id, call.by_password(&fields.password)).await?;
    Ok(Reply::ok())
}

pub(super) async fn cancel_order(call: Call<'_>) -> Handled {
    let fields = order_fields(call.body)?;
    call.changes()?.cancel_order(&fields.user_id, &fields.order_id, call.by_password(&fields.password)).await?;
    Ok(Reply::ok())
}

pub(super) async fn extend_receipt(call: Call<'_>) -> Handled {
    let fields = order_fields(call.body)?;
    let credential = call.by_password(&fields.password);
    call.engine().extend_receipt(&fields.user_id, &fields.order_id, credential).await?;
    Ok(Reply::ok())
}

pub(super) async fn refund_order(call: Call<'_>) -> Handled {
    let fields = order_fields(call.body)?;
    call.changes()?.refund_order(&fields.user_id, &fields.order_id, call.by_password(&fields.password)).await?;
    Ok(Reply::ok())
}

pub(super) async fn query_order_status(call: Call<'_>) -> Handled {
    let fields = order_fields(call.body)?;
    let credential = call.by_password(&fields.password);
    let status = call.engine().order_status(&fields.user_id, &fields.order_id, credential).await?;
    Ok(Reply::ok_text("order_status", status.as_str()))
}

pub(super) async fn query_order(call: Call<'_>) -> Handled {
    let fields = order_fields(call.body)?;
    let credential = call.by_password(&fields.password);
    Ok(Reply::ok_details(&call.engine().buyer_order(&fields.user_id, &fields.order_id, credential).await?))
}

pub(super) async fn add_funds(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let password = password(body.password, "password")?;
    let value = integer(body.add_value, "add_value")?;
    call.changes()?.add_funds(&user_id, call.by_password(&password), value).await?;
    Ok(Reply::ok())
}

pub(super) async fn query_balance(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let password = password(body.password, "password")?;
    Ok(Reply::ok_number("balance", call.engine().balance(&user_id, call.by_password(&password)).await?))
}

pub(super) async fn query_buyer_all_orders(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let password = password(body.password, "password")?;
    let orders = call.engine().buyer_orders(&user_id, call.by_password(&password)).await?;
    Ok(Reply::ok_orders(OrderList::list(orders)))
}

/// Arrives without a body; one that comes anyway is not looked at.
pub(super) async fn auto_cancel_expired_orders(call: Call<'_>) -> Handled {
    match call.engine().cancel_expired().await {
        Ok(()) => Ok(Reply::ok()),
        Err(Error::Refused(_)) => Ok(Reply::not_swept()),
        Err(error) => Err(error),
    }
}

/// `user_id` may be there but decides nothing.
pub(super) async fn check_stock_level(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    optional_id(body.user_id, "user_id")?;
    let store_id = id(body.store_id, "store_id")?;
    let book_id = id(body.book_id, "book_id")?;
    Ok(Reply::ok_number("stock_level", call.engine().stock_level(&store_id, &book_id).await?))
}

pub(super) async fn check_order_count(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    Ok(Reply::ok_number("order_count", call.engine().order_count(&user_id).await?))
}
