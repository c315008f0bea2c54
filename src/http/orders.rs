//! Lists of orders as JSON. A list of 100,000 orders is tens of megabytes, so long ones are written as fast as
//! the client takes them and their text never stands in memory as a whole. The orders do, and count as a long answer.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use std::vec;

use bytes::Bytes;

use super::json::{put, put_text};
use crate::domain::OrderStatus;
use crate::engine::{LineView, OrderDetails, OrderStep, OrderView, PayKind};

/// Bytes of one piece of a streamed list.
const CHUNK_BYTES: usize = 64 << 10;
/// 9999-12-31T23:59:59.999Z, the last moment that RFC 3339 can write.
const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// Orders on their way to JSON: one list, or a list for each store.
pub(super) struct OrderList {
    groups: vec::IntoIter<(Option<Arc<str>>, Vec<OrderView>)>,
    open: Option<vec::IntoIter<OrderView>>,
    by_store: bool,
    len: usize,
    stage: Stage,
    /// The next element is not the first of its list or object.
    comma: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Orders,
    Done,
}

impl OrderList {
    /// `orders` becomes a list.
    pub(super) fn list(orders: Vec<OrderView>) -> Self {
        OrderList::new(vec![(None, orders)], false)
    }

    /// `orders` becomes an object store id → list.
    pub(super) fn by_store(stores: Vec<(Arc<str>, Vec<OrderView>)>) -> Self {
        OrderList::new(stores.into_iter().map(|(id, orders)| (Some(id), orders)).collect(), true)
    }

    fn new(groups: Vec<(Option<Arc<str>>, Vec<OrderView>)>, by_store: bool) -> Self {
        // A store weighs as much as an order, so that a seller of many empty stores is streamed, too.
        let len = groups.iter().map(|(_, orders)| 1 + orders.len()).sum();
        OrderList { groups: groups.into_iter(), open: None, by_store, len, stage: Stage::Head, comma: false }
    }

    /// Elements at the beginning, stores included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that the orders which are not written yet take in memory. Ids are not among them: they are the engine's own.
    pub(super) fn bytes(&self) -> usize {
        let orders = |orders: &[OrderView]| {
            let lines: usize = orders.iter().map(|order| order.lines.capacity()).sum();
            size_of_val(orders) + lines * size_of::<LineView>()
        };
        let groups = self.groups.as_slice();
        size_of_val(groups)
            + groups.iter().map(|(_, group)| orders(group)).sum::<usize>()
            + self.open.as_ref().map_or(0, |open| orders(open.as_slice()))
    }

    /// Nothing is left to be written.
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The next piece of the text, `None` at the end. hyper asks for one when its buffer has room.
    pub(super) fn next_chunk(&mut self) -> Option<Bytes> {
        if self.is_done() {
            return None;
        }
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + (CHUNK_BYTES >> 3));
        self.fill(&mut chunk, CHUNK_BYTES);
        Some(chunk.into())
    }

    /// Appends to `out` until it is `enough` bytes long or all is written.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, enough: usize) {
        while !self.is_done() && out.len() < enough {
            self.step(out);
        }
    }

    fn step(&mut self, out: &mut Vec<u8>) {
        if self.stage == Stage::Head {
            out.extend_from_slice(br#"{"code":200,"message":"ok","orders":"#);
            if self.by_store {
                out.push(b'{');
            }
            self.stage = Stage::Orders;
        } else if let Some(orders) = &mut self.open {
            match orders.next() {
                Some(order) => {
                    separate(out, &mut self.comma);
                    put_order(out, &order);
                }
                None => {
                    out.push(b']');
                    self.open = None;
                    self.comma = true;
                }
            }
        } else if let Some((store, orders)) = self.groups.next() {
            if let Some(store) = store {
                separate(out, &mut self.comma);
                put_text(out, &store);
                out.push(b':');
            }
            out.push(b'[');
            self.open = Some(orders.into_iter());
            self.comma = false;
        } else {
            out.extend_from_slice(if self.by_store { b"}}" } else { b"}" });
            self.stage = Stage::Done;
        }
    }
}

fn separate(out: &mut Vec<u8>, comma: &mut bool) {
    if std::mem::replace(comma, true) {
        out.push(b',');
    }
}

/// An order with its way.
pub(super) fn put_details(out: &mut Vec<u8>, details: &OrderDetails) {
    put_order(out, &details.order);
    // Its brace is opened again.
    out.pop();
    let paid_to = details.payment.map(|kind| match kind {
        PayKind::Direct => "seller",
        PayKind::Platform => "platform",
    });
    out.extend_from_slice(br#","paid_to":"#);
    match paid_to {
        Some(word) => put_text(out, word),
        None => out.extend_from_slice(b"null"),
    }
    put(out, &format_args!(r#","deadline":"{}","confirm_deadline":"#, rfc3339(details.deadline_ms)));
    match details.confirm_deadline_ms {
        Some(ms) => put(out, &format_args!(r#""{}""#, rfc3339(ms))),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","history":{"#);
    let steps = [
        ("placed", Some(details.placed)),
        ("paid", details.paid),
        ("shipped", details.shipped),
        ("extended", details.extended),
        ("confirmed", details.confirmed),
        ("canceled", details.canceled),
    ];
    let mut comma = false;
    for (name, step) in steps {
        separate(out, &mut comma);
        match step {
            Some(OrderStep { at_ms, by, .. }) => {
                put(out, &format_args!(r#""{name}":{{"time":"{}","by":"{}"}}"#, rfc3339(at_ms), by.as_str()));
            }
            None => put(out, &format_args!(r#""{name}":null"#)),
        }
    }
    out.extend_from_slice(b"}}");
}

pub(super) fn rfc3339(ms: u64) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms.min(TIME_MS_MAX)))
}

fn put_order(out: &mut Vec<u8>, order: &OrderView) {
    let status = order.status;
    let is_paid =
        matches!(status, OrderStatus::Paid | OrderStatus::Shipped | OrderStatus::Received | OrderStatus::Completed);
    let is_completed = status == OrderStatus::Completed;
    put(out, &format_args!(r#"{{"order_id":"{}","user_id":"#, order.order_id));
    put_text(out, &order.user_id);
    out.extend_from_slice(br#","store_id":"#);
    put_text(out, &order.store_id);
    put(
        out,
        &format_args!(
            concat!(
                r#","status":"{}","total_price":{},"created_time":"{}","is_paid":{},"is_shipped":{},"#,
                r#""is_received":{},"order_completed":{},"books":["#
            ),
            status.as_str(),
            order.total_price,
            rfc3339(order.created_ms),
            is_paid,
            order.is_shipped,
            is_completed,
            is_completed,
        ),
    );
    let mut comma = false;
    for line in &order.lines {
        separate(out, &mut comma);
        out.extend_from_slice(br#"{"id":"#);
        put_text(out, &line.book_id);
        put(out, &format_args!(r#","count":{},"price":{}}}"#, line.count, line.price));
    }
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::OrderId;
    use crate::engine::By;
    use crate::http::answer::Reply;
    use crate::http::io::Io;

    fn order() -> OrderView {
        OrderView {
            order_id: OrderId::parse("018bcfe5-687b-7000-8000-000000000001").unwrap(),
            user_id: "u".into(),
            store_id: "s\"".into(),
            status: OrderStatus::Completed,
            total_price: 14,
            created_ms: 1_700_000_000_123,
            is_shipped: false,
            lines: vec![LineView { book_id: "b".into(), count: 2, price: 7 }; 2],
        }
    }

    fn text(mut list: OrderList, enough: usize) -> String {
        let mut whole = Vec::new();
        while !list.is_done() {
            let mut piece = Vec::new();
            list.fill(&mut piece, enough);
            whole.extend_from_slice(&piece);
        }
        String::from_utf8(whole).unwrap()
    }

    const ORDER: &str = concat!(
        r#"{"order_id":"018bcfe5-687b-7000-8000-000000000001","user_id":"u","store_id":"s\"","status":"completed","#,
        r#""total_price":14,"created_time":"2023-11-14T22:13:20.123Z","is_paid":true,"is_shipped":false,"#,
        r#""is_received":true,"order_completed":true,"#,
        r#""books":[{"id":"b","count":2,"price":7},{"id":"b","count":2,"price":7}]}"#,
    );

    #[test]
    fn a_list_is_the_same_whole_and_in_pieces() {
        let expected = format!(r#"{{"code":200,"message":"ok","orders":[{ORDER},{ORDER}]}}"#);
        for enough in [1, 100, usize::MAX] {
            assert_eq!(text(OrderList::list(vec![order(), order()]), enough), expected);
        }
        assert_eq!(text(OrderList::list(Vec::new()), 1), r#"{"code":200,"message":"ok","orders":[]}"#);
    }

    #[test]
    fn an_order_with_its_way_has_its_shape() {
        let step = |at_ms, by| OrderStep { at_ms, by };
        let details = OrderDetails {
            order: order(),
            payment: Some(PayKind::Platform),
            deadline_ms: 1_700_001_800_123,
            confirm_deadline_ms: None,
            placed: step(1_700_000_000_123, By::Buyer),
            paid: Some(step(1_700_000_001_000, By::Buyer)),
            shipped: None,
            extended: None,
            confirmed: Some(step(u64::MAX, By::Deadline)),
            canceled: None,
        };
        let mut text = Vec::new();
        put_details(&mut text, &details);
        let expected = concat!(
            r#","paid_to":"platform","deadline":"2023-11-14T22:43:20.123Z","confirm_deadline":null,"#,
            r#""history":{"placed":{"time":"2023-11-14T22:13:20.123Z","by":"buyer"},"#,
            r#""paid":{"time":"2023-11-14T22:13:21.000Z","by":"buyer"},"shipped":null,"extended":null,"#,
            r#""confirmed":{"time":"9999-12-31T23:59:59.999Z","by":"deadline"},"canceled":null}}"#,
        );
        assert_eq!(String::from_utf8(text).unwrap(), format!("{}{expected}", ORDER.strip_suffix('}').unwrap()));
    }

    #[test]
    fn a_list_weighs_what_is_left_of_it() {
        let one = size_of::<OrderView>() + 2 * size_of::<LineView>();
        let mut list = OrderList::by_store(vec![("a".into(), vec![order(); 3]), ("b".into(), vec![order()])]);
        let whole = list.bytes();
        assert!((4 * one..5 * one).contains(&whole), "{whole}");
        let mut left = whole;
        while !list.is_done() {
            list.step(&mut Vec::new());
            assert!(list.bytes() <= left);
            left = list.bytes();
        }
        assert_eq!(left, 0);
    }

    #[test]
    fn stores_without_orders_are_there() {
        let stores = vec![("a\"".into(), Vec::new()), ("b".into(), vec![order(), order()]), ("c".into(), Vec::new())];
        let expected = format!(r#"{{"code":200,"message":"ok","orders":{{"a\"":[],"b":[{ORDER},{ORDER}],"c":[]}}}}"#);
        assert_eq!(text(OrderList::by_store(stores), usize::MAX), expected);
        assert_eq!(text(OrderList::by_store(Vec::new()), 1), r#"{"code":200,"message":"ok","orders":{}}"#);
    }

    /// A client that does not read must hold the list up, and a client that reads at last must get all of it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_long_list_waits_for_its_client() {
        use std::io::{Read, Write};

        const ORDERS: usize = 80_000;
        let user_id: Arc<str> = "u".into();
        let list = vec![OrderView { user_id: Arc::clone(&user_id), ..order() }; ORDERS];
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"POST / HTTP/1.0\r\n\r\n").unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let list = std::sync::Mutex::new(Some(OrderList::list(list)));
            let service = hyper::service::service_fn(move |_| {
                let reply = Reply::ok_orders(list.lock().unwrap().take().unwrap());
                async move { Ok::<_, std::convert::Infallible>(reply.into_response(&crate::trace::Request::None)) }
            });
            hyper::server::conn::http1::Builder::new().serve_connection(Io::new(stream), service).await.unwrap();
        });
        // Every order that is not written yet holds the user's name.
        let mut left = ORDERS + 1;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = Arc::strong_count(&user_id);
            if std::mem::replace(&mut left, now) == now {
                break;
            }
        }
        assert!(left > ORDERS / 4, "{left} orders were left");
        let body = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            text.split_once("\r\n\r\n").unwrap().1.to_owned()
        });
        let body: serde_json::Value = serde_json::from_str(&body.await.unwrap()).unwrap();
        assert_eq!(body["orders"].as_array().unwrap().len(), ORDERS);
        assert_eq!(Arc::strong_count(&user_id), 1);
    }
}
