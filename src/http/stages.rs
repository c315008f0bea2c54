//! Single stages of a request, each by itself, for this crate's own benches; reachable through `internals` only.

use std::time::Duration;

use hyper::{HeaderMap, Response};

use super::answer::{Reply, ResponseBody};
use super::buyer::{new_order_fields, order_fields};
use super::routes::ROUTES;
use super::{hot, request_id, told};
use crate::domain::OrderId;

/// Reads the body of a `new_order` in mode `strict`; its number of lines, or `None` if it is refused.
pub fn parse_new_order(body: &[u8], lines_max: usize) -> Option<usize> {
    let quick = hot::new_order(body, lines_max).map(|order| order.lines.len());
    quick.or_else(|| new_order_fields(body, lines_max, false).ok().map(|fields| fields.books.len()))
}

/// Reads the body of a `payment`; the bytes of its order id, or `None` if it is refused.
pub fn parse_payment(body: &[u8]) -> Option<usize> {
    order_fields(body).ok().map(|fields| fields.order_id.len())
}

/// The answer to a `new_order` with these headers, from the request's id to headers and body; told to a log that does not
/// listen.
pub fn answer_new_order(headers: &HeaderMap, id: OrderId) -> Response<ResponseBody> {
    answer(headers, Reply::ok_order(id))
}

/// The same for a `payment`.
pub fn answer_payment(headers: &HeaderMap) -> Response<ResponseBody> {
    answer(headers, Reply::ok())
}

fn answer(headers: &HeaderMap, reply: Reply) -> Response<ResponseBody> {
    let request = request_id::begin(headers, ROUTES.first());
    told::answered(&request, 0, 200, Duration::ZERO);
    reply.into_response(&request)
}
