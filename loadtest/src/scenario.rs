//! The people, stores, books and ready-made requests of one run, and the set-up over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::Failure;
use crate::args::{ConnectionMode, Load};
use crate::calls::{Call, Route};
use crate::client::{self, Headers, Target};
use crate::live::Live;
use crate::mix::{Mix, Operation};
use crate::setup::{set_up, wait_for_search};

/// Copies of each book at the start: more than any run sells.
pub(crate) const STOCK_AT_START: i64 = 1_000_000_000_000;
/// What all buyers together get, in fen. A server bounds the sum of all deposits below 2^62: some 4,600 runs.
const FUNDS_ALL_BUYERS: i64 = 1_000_000_000_000_000;
/// Most copies of a book that a line asks for.
const COUNT_MAX: u64 = 5;
/// Length of an order id in bytes: a hyphenated UUID.
pub(crate) const ORDER_ID_BYTES: usize = 36;
/// Length of an idempotency key in bytes. That of a payment is the id of its order.
const KEY_BYTES: usize = ORDER_ID_BYTES;
/// An order id as it travels.
pub(crate) type OrderId = [u8; ORDER_ID_BYTES];

/// Somebody with an account.
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) password: String,
    /// What login gave; empty until then.
    pub(crate) token: String,
    /// What he has when the load begins, in fen.
    pub(crate) balance_fen: i64,
}

impl User {
    /// Somebody who has nothing yet.
    pub(crate) fn new(id: String, password: String) -> Self {
        Self { id, password, token: String::new(), balance_fen: 0 }
    }
}

/// A store, its owner and what is on its shelves.
pub(crate) struct Store {
    pub(crate) id: String,
    pub(crate) owner: User,
    pub(crate) books: Vec<Book>,
}

/// A book of a store.
pub(crate) struct Book {
    pub(crate) id: String,
    pub(crate) price_fen: i64,
    /// Copies on the shelf when the load begins.
    pub(crate) stock: i64,
}

impl Book {
    pub(crate) fn title(&self) -> String {
        format!("The title of {}", self.id)
    }
}

/// One order that can be sent as it stands, and what it takes from whom.
pub(crate) struct PreparedOrder {
    /// Index of the buyer.
    pub(crate) buyer: usize,
    /// Index of the store.
    pub(crate) store: usize,
    /// Book index and copies; no book twice.
    pub(crate) lines: Vec<(usize, i64)>,
    /// What it costs, in fen.
    pub(crate) total_fen: i64,
    /// The whole HTTP request.
    pub(crate) request: Prepared,
}

/// A request that is ready but for its idempotency key.
#[derive(Default)]
pub(crate) struct Prepared {
    bytes: Vec<u8>,
    /// Where the key stands, if there is one.
    key_at: Option<usize>,
}

impl Prepared {
    fn new(target: &Target, mode: ConnectionMode, path: &str, token: Option<&str>, keys: bool, body: &str) -> Self {
        let room = "0".repeat(KEY_BYTES);
        let key = keys.then_some(room.as_str());
        let bytes = client::post(target, mode, path, Headers { token, key }, body.as_bytes());
        let line = format!("\r\nidempotency-key: {room}\r\n");
        let found = keys.then(|| bytes.windows(line.len()).position(|window| window == line.as_bytes())).flatten();
        Self { bytes, key_at: found.map(|at| at + line.len() - KEY_BYTES - 2) }
    }

    /// Any bytes, without a key.
    #[cfg(test)]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), key_at: None }
    }

    /// Replaces what is in `request`, which is reused from call to call.
    fn write(&self, key: &[u8; KEY_BYTES], request: &mut Vec<u8>) {
        request.clear();
        request.extend_from_slice(&self.bytes);
        if let Some(at) = self.key_at {
            request[at..at + KEY_BYTES].copy_from_slice(key);
        }
    }
}

/// Everything that is fixed before the load begins.
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) mode: ConnectionMode,
    pub(crate) stores: Vec<Store>,
    pub(crate) buyers: Vec<User>,
    pub(crate) orders: Vec<PreparedOrder>,
    /// For each buyer the request that pays an order, with room for the order id.
    payments: Vec<Prepared>,
    /// For each buyer the request that wants the money back, the same.
    refunds: Vec<Prepared>,
    /// The same to the platform.
    to_platform: Vec<Prepared>,
    /// For each store the request that ships an order, with room for the order id.
    shippings: Vec<Prepared>,
    /// For each buyer the request that asks for the status of an order, the same.
    statuses: Vec<Prepared>,
    /// Requests that only look, ready as they are.
    looks: Vec<(Route, Vec<u8>)>,
    pub(crate) mix: Mix,
    /// Whether requests carry an idempotency key.
    pub(crate) keys: bool,
    /// Makes keys different from those of other runs on the same server.
    run: u64,
    orders_sent: AtomicU64,
}

impl Plan {
    /// Registers everybody, opens and fills the stores, funds the buyers, prepares the requests.
    pub(crate) async fn set_up(target: Target, load: &Load) -> Result<Self, Failure> {
        Self::set_up_shown(target, load, &Arc::default()).await
    }

    /// The same; `live` is told how far it has come.
    pub(crate) async fn set_up_shown(target: Target, load: &Load, live: &Arc<Live>) -> Result<Self, Failure> {
        if load.lines.max > load.books as usize {
            return Err(format!("an order of {} lines needs as many books", load.lines.max).into());
        }
        let prefix = run_prefix();
        let mut random = Random::new(load.seed);
        let user = |kind: &str, number: u32| {
            User::new(format!("{prefix}-{kind}-{number}"), format!("password of {kind} {number}"))
        };
        let book = |number: u32| Book {
            id: format!("book-{number}"),
            price_fen: 100 + random.below(9_900).cast_signed(),
            stock: STOCK_AT_START,
        };
        let books: Vec<Book> = (0..load.books).map(book).collect();
        let stores = (0..load.stores)
            .map(|number| Store {
                id: format!("{prefix}-store-{number}"),
                owner: user("seller", number),
                books: books.iter().map(|book| Book { id: book.id.clone(), ..*book }).collect(),
            })
            .collect();
        let balance_fen = FUNDS_ALL_BUYERS / i64::from(load.buyers);
        let buyers = (0..load.buyers).map(|number| User { balance_fen, ..user("buyer", number) }).collect();
        let (stores, buyers) = set_up(&target, live, stores, buyers).await?;
        if load.mix == Mix::Browse {
            wait_for_search(&target, &stores).await?;
        }
        Ok(Self::new(target, load, stores, buyers, random))
    }

    /// Prepares the requests of people who are logged in and stores that are filled.
    pub(crate) fn new(target: Target, load: &Load, stores: Vec<Store>, buyers: Vec<User>, mut random: Random) -> Self {
        let mut plan = Self {
            target,
            mode: load.connection,
            stores,
            buyers,
            orders: Vec::new(),
            payments: Vec::new(),
            refunds: Vec::new(),
            to_platform: Vec::new(),
            shippings: Vec::new(),
            statuses: Vec::new(),
            looks: Vec::new(),
            mix: load.mix,
            keys: load.keys,
            run: ns_since_1970() as u64 ^ u64::from(std::process::id()).rotate_right(16),
            orders_sent: AtomicU64::new(0),
        };
        let prepared = load.mix.orders_prepared(load.buyers, load.stores);
        plan.orders = (0..prepared).map(|_| plan.prepare_order(load, &mut random)).collect();
        for (route, path, body) in load.mix.looks(&mut random, &plan.stores, &plan.buyers) {
            let request = client::post(&plan.target, plan.mode, path, Headers::default(), body.to_string().as_bytes());
            plan.looks.push((route, request));
        }
        plan.prepare_on_orders();
        plan
    }

    fn prepare_on_orders(&mut self) {
        let prepare =
            |path: &str, keys| self.buyers.iter().map(|buyer| self.prepare_on_order(path, buyer, keys)).collect();
        let payments = prepare("/buyer/payment", self.keys);
        let refunds = prepare("/buyer/refund_order", self.keys);
        let to_platform = prepare("/buyer/pay_to_platform", self.keys);
        let statuses = prepare("/buyer/query_order_status", false);
        self.shippings = self.stores.iter().map(|store| self.prepare_shipping(store)).collect();
        (self.payments, self.refunds, self.to_platform, self.statuses) = (payments, refunds, to_platform, statuses);
    }

    fn prepare_order(&self, load: &Load, random: &mut Random) -> PreparedOrder {
        let buyer = load.mix.buyer(random, self.buyers.len());
        let store = load.mix.store(random, self.stores.len());
        let shelf = &self.stores[store].books;
        let span = load.lines.max - load.lines.min + 1;
        let count = load.lines.min + random.index(span);
        let books = random.distinct(count, shelf.len());
        let lines: Vec<(usize, i64)> =
            books.into_iter().map(|book| (book, 1 + random.below(COUNT_MAX).cast_signed())).collect();
        let listed: Vec<Value> =
            lines.iter().map(|(book, count)| json!({"id": shelf[*book].id, "count": count})).collect();
        let User { id, token, .. } = &self.buyers[buyer];
        let body = json!({"user_id": id, "store_id": self.stores[store].id, "books": listed}).to_string();
        PreparedOrder {
            buyer,
            store,
            total_fen: lines.iter().map(|(book, count)| shelf[*book].price_fen * count).sum(),
            lines,
            request: Prepared::new(&self.target, self.mode, "/buyer/new_order", Some(token), self.keys, &body),
        }
    }

    fn prepare_on_order(&self, path: &str, buyer: &User, keys: bool) -> Prepared {
        let room = "0".repeat(ORDER_ID_BYTES);
        let (id, password) = (json!(buyer.id), json!(buyer.password));
        let body = format!(r#"{{"user_id":{id},"password":{password},"order_id":"{room}"}}"#);
        Prepared::new(&self.target, self.mode, path, None, keys, &body)
    }

    fn prepare_shipping(&self, store: &Store) -> Prepared {
        let room = "0".repeat(ORDER_ID_BYTES);
        let (id, store_id) = (json!(store.owner.id), json!(store.id));
        let body = format!(r#"{{"user_id":{id},"store_id":{store_id},"order_id":"{room}"}}"#);
        Prepared::new(&self.target, self.mode, "/seller/ship", Some(&store.owner.token), false, &body)
    }

    /// What comes next; `last` is the order that was placed last.
    pub(crate) fn next(&self, random: &mut Random, last: Option<(usize, OrderId)>) -> Call {
        match (self.mix.operation(random), last) {
            (Operation::Order, _) => Call::Order(random.index(self.orders.len())),
            (Operation::Status, Some((index, order_id))) => Call::Status(index, order_id),
            (Operation::Status | Operation::Look, _) => Call::Look(random.index(self.looks.len())),
        }
    }

    /// Where a call goes.
    pub(crate) fn route(&self, call: Call) -> Route {
        match call {
            Call::Order(_) => Route::NewOrder,
            Call::Payment(..) => Route::Payment,
            Call::ToPlatform(..) => Route::PayToPlatform,
            Call::Refund(..) => Route::RefundOrder,
            Call::Shipping(..) => Route::Ship,
            Call::Status(..) => Route::QueryOrderStatus,
            Call::Look(index) => self.looks[index].0,
        }
    }

    /// Writes a request into `request`, which is reused from call to call. Each order has a key of its own, and what is
    /// about an order has the order's id for a key: who does not hear of it may send the same bytes again. Shipping has
    /// no key: once it is done it is refused.
    pub(crate) fn write(&self, call: Call, request: &mut Vec<u8>) {
        let buyer = |index: usize| self.orders[index].buyer;
        match call {
            Call::Order(index) => self.write_order(index, request),
            Call::Payment(index, order_id) => fill_in(&self.payments[buyer(index)], &order_id, request),
            Call::ToPlatform(index, order_id) => fill_in(&self.to_platform[buyer(index)], &order_id, request),
            Call::Refund(index, order_id) => fill_in(&self.refunds[buyer(index)], &order_id, request),
            Call::Status(index, order_id) => fill_in(&self.statuses[buyer(index)], &order_id, request),
            Call::Shipping(index, order_id) => {
                fill_in(&self.shippings[self.orders[index].store], &order_id, request);
            }
            Call::Look(index) => {
                request.clear();
                request.extend_from_slice(&self.looks[index].1);
            }
        }
    }

    fn write_order(&self, index: usize, request: &mut Vec<u8>) {
        let number = self.orders_sent.fetch_add(1, Ordering::Relaxed);
        let mut key = [b'0'; KEY_BYTES];
        for (at, byte) in key.iter_mut().enumerate().take(32) {
            let (word, nibble) = if at < 16 { (self.run, at) } else { (number, at - 16) };
            *byte = b"0123456789abcdef"[(word >> (60 - 4 * nibble) & 15) as usize];
        }
        self.orders[index].request.write(&key, request);
    }
}

/// Writes a request about an order, whose id is its key and its last field: behind it come a quote and a brace.
fn fill_in(prepared: &Prepared, order_id: &OrderId, request: &mut Vec<u8>) {
    prepared.write(order_id, request);
    let start = request.len() - ORDER_ID_BYTES - 2;
    request[start..start + ORDER_ID_BYTES].copy_from_slice(order_id);
}

/// Different in each run, so that runs against one server do not meet.
pub(crate) fn run_prefix() -> String {
    format!("load-{:x}-{:x}", ns_since_1970(), std::process::id())
}

fn ns_since_1970() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos())
}

/// Pseudo-random numbers (SplitMix64): plenty for picking orders, and the same from the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any of all numbers.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `end` - 1; the bias is below `end` in 2^64.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// An index into something of `len` elements, which must not be empty.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        let picked = self.next() % (len as u64);
        usize::try_from(picked).expect("smaller than a usize")
    }

    /// The time until the next of events that happen `per_second` times at random moments.
    pub(crate) fn gap(&mut self, per_second: f64) -> Duration {
        // From above 0 to 1, in steps of 2^-53.
        let even = ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-even.ln() / per_second)
    }

    /// `count` different indices below `len`.
    pub(crate) fn distinct(&mut self, count: usize, len: usize) -> Vec<usize> {
        let mut picked = Vec::with_capacity(count);
        while picked.len() < count.min(len) {
            let index = self.index(len);
            if !picked.contains(&index) {
                picked.push(index);
            }
        }
        picked
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn user(id: &str) -> User {
        User { token: "t".to_owned(), balance_fen: 1_000, ..User::new(id.to_owned(), "p\"w".to_owned()) }
    }

    /// Two stores, two buyers with 1,000 fen each, two books for 10 and 20 fen, and the orders given.
    pub(crate) fn small_plan(orders: Vec<PreparedOrder>) -> Plan {
        let book = |price_fen: i64| Book { id: format!("book-{price_fen}"), price_fen, stock: STOCK_AT_START };
        let store = |number: u32| Store {
            id: format!("s{number}"),
            owner: User { balance_fen: 0, ..user(&format!("seller{number}")) },
            books: vec![book(10), book(20)],
        };
        let mut plan = Plan {
            target: Target::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1))),
            mode: ConnectionMode::Kept,
            stores: vec![store(0), store(1)],
            buyers: vec![user("b0"), user("b1")],
            orders,
            payments: Vec::new(),
            refunds: Vec::new(),
            to_platform: Vec::new(),
            shippings: Vec::new(),
            statuses: Vec::new(),
            looks: Vec::new(),
            mix: Mix::Reference,
            keys: true,
            run: 0xabc,
            orders_sent: AtomicU64::new(16),
        };
        plan.prepare_on_orders();
        plan
    }

    #[test]
    fn a_payment_and_a_refund_carry_the_order_id() {
        let mut plan = small_plan(Vec::new());
        let id: OrderId = *b"01234567-89ab-7cde-8f01-23456789abcd";
        let mut request = b"old".to_vec();
        plan.orders =
            vec![PreparedOrder { buyer: 1, store: 0, lines: Vec::new(), total_fen: 0, request: Prepared::default() }];
        plan.write(Call::Payment(0, id), &mut request);
        let text = String::from_utf8(request.clone()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let value: Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            value,
            json!({"user_id": "b1", "password": "p\"w", "order_id": "01234567-89ab-7cde-8f01-23456789abcd"})
        );
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
        assert!(head.contains("\r\nidempotency-key: 01234567-89ab-7cde-8f01-23456789abcd\r\n"), "{head}");
        assert!(head.starts_with("POST /buyer/payment "), "{head}");
        for (call, path) in
            [(Call::Refund(0, id), "/buyer/refund_order "), (Call::ToPlatform(0, id), "/buyer/pay_to_platform ")]
        {
            plan.write(call, &mut request);
            assert_eq!(std::str::from_utf8(&request).unwrap(), text.replace("/buyer/payment ", path));
        }
        // What only looks needs no key.
        plan.write(Call::Status(0, id), &mut request);
        let status = std::str::from_utf8(&request).unwrap();
        assert!(status.ends_with(body) && !status.contains("idempotency-key"), "{status}");
    }

    #[test]
    fn each_order_has_a_key_of_its_own() {
        let mut plan = small_plan(Vec::new());
        let request = Prepared::new(&plan.target, plan.mode, "/buyer/new_order", Some("t"), true, "{}");
        let (buyer, store, lines, total_fen) = (0, 0, Vec::new(), 0);
        plan.orders = vec![PreparedOrder { buyer, store, lines, total_fen, request }];
        let mut request = Vec::new();
        for key in ["0000000000000abc00000000000000100000", "0000000000000abc00000000000000110000"] {
            plan.write(Call::Order(0), &mut request);
            let text = std::str::from_utf8(&request).unwrap();
            assert!(text.contains(&format!("\r\nidempotency-key: {key}\r\n")), "{text}");
        }
    }

    #[test]
    fn distinct_picks_are_distinct_and_in_range() {
        let mut random = Random::new(7);
        for count in 0..=10 {
            let mut picked = random.distinct(count, 10);
            picked.sort_unstable();
            picked.dedup();
            assert_eq!(picked.len(), count);
            assert!(picked.iter().all(|index| *index < 10));
        }
        assert_eq!(Random::new(3).next(), Random::new(3).next());
    }

    #[test]
    fn gaps_are_as_long_as_they_should_be_on_average() {
        let mut random = Random::new(5);
        let sum: Duration = (0..10_000).map(|_| random.gap(1_000.0)).sum();
        assert!((9.5..10.5).contains(&sum.as_secs_f64()), "{sum:?}");
    }
}
