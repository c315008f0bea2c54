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
