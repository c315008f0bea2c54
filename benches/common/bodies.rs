//! Bodies of requests.

use bookstore::internals::domain::OrderId;

/// An order of so many books.
pub fn new_order_body(lines: u64) -> String {
    let lines: Vec<_> = (0..lines).map(|line| format!(r#"{{"id":"book-{line:04}","count":1}}"#)).collect();
    format!(r#"{{"user_id":"buyer-00001","store_id":"store-0001","books":[{}]}}"#, lines.join(","))
}

/// The payment of an order.
pub fn payment_body(order: OrderId) -> String {
    format!(r#"{{"user_id":"buyer-00001","order_id":"{order}","password":"secret"}}"#)
}

/// What stands above such a body.
pub fn headers() -> hyper::HeaderMap {
    let headers = [("host", "127.0.0.1:5000"), ("content-type", "application/json"), ("token", "x")];
    headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).into_iter().collect()
}
