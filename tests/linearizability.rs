//! Pins that the service answers as one thing would that does one call after the other: each wallet, each book and
//! each order for itself, while up to 16 clients call at once over HTTP and the server is killed and started again in
//! the middle. The number of histories is 24, or what BOOKSTORE_HISTORIES says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use common::linearizability::{Call, Counter, CounterOp, Model, OrderOp, OrderStates, check};
use common::{Answer, Client, Dice, Server, User, book};

const CLIENTS_MAX: u64 = 16;
const BUYERS: u64 = 3;
const BOOKS: [(&str, i64); 2] = [("a", 2), ("b", 3)];
const STOCK: i64 = 12;

/// What calls are about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Thing {
    Wallet(String),
    Book(&'static str),
    Order(String),
}

#[derive(Clone, Debug)]
enum Op {
    Counter(CounterOp),
    Order(OrderOp),
}

/// What a call did to one thing.
type Part = (Thing, Op);

#[derive(Clone)]
struct Order {
    id: String,
    buyer: usize,
    lines: Vec<(&'static str, i64)>,
    to_platform: bool,
}

impl Order {
    fn total(&self) -> i64 {
        let price = |id| BOOKS.iter().find(|(known, _)| *known == id).unwrap().1;
        self.lines.iter().map(|(id, count)| price(*id) * count).sum()
    }
}

/// The users and the store of one history, and the orders that its clients know of.
struct World {
    store: String,
    seller: User,
    buyers: Vec<User>,
    orders: Mutex<Vec<Order>>,
    began: Instant,
}

/// One client: it calls, and notes what it was told.
struct Caller<'a> {
    world: &'a World,
    client: Client,
    dice: Dice,
    calls: Vec<Call<Part>>,
    /// The server was gone, or told so; nothing is known of the last call.
    cut: bool,
}

impl World {
    fn new(client: &Client, number: u64) -> World {
        let store = format!("store-{number}");
        let seller = client.new_user(&format!("seller-{number}"));
        client.create_store(&seller, &store).ok();
        for (id, price) in BOOKS {
            client.add_book(&seller, &store, book(id, price), STOCK).ok();
        }
        let buyers = (0..BUYERS).map(|buyer| client.new_user(&format!("buyer-{number}-{buyer}"))).collect();
        World { store, seller, buyers, orders: Mutex::default(), began: Instant::now() }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn orders(&self) -> MutexGuard<'_, Vec<Order>> {
        self.orders.lock().unwrap()
    }
}

fn wallet(user: &User, op: CounterOp) -> Part {
    (Thing::Wallet(user.id.clone()), Op::Counter(op))
}

fn copies(book: &'static str, op: CounterOp) -> Part {
    (Thing::Book(book), Op::Counter(op))
}

fn state(order: &Order, op: OrderOp) -> Part {
    (Thing::Order(order.id.clone()), Op::Order(op))
}

impl<'a> Caller<'a> {
    fn new(world: &'a World, port: u16, seed: u64) -> Self {
        Caller { world, client: Client::new(port), dice: Dice::new(seed), calls: Vec::new(), cut: false }
    }

    /// Calls `times`, or until the server is gone.
    fn work(mut self, times: u64) -> Vec<Call<Part>> {
        for _ in 0..times {
            match self.dice.roll(16) {
                0..3 => self.funds(),
                3..5 => self.balance(),
                5..8 => self.place(),
                8..12 => self.on_order(),
                12..14 => self.add_stock(),
                _ => self.read_stock(),
            }
            if self.cut {
                break;
            }
        }
        self.calls
    }

    /// Sends one request and notes what each thing must have done for its answer. `parts` is given the answer, or
    /// `None` if there was none: then it says what the call would have done.
    fn call(&mut self, send: impl FnOnce(&Client) -> io::Result<Answer>, parts: impl Fn(Option<&Answer>) -> Vec<Part>) {
        let invoked = self.world.now();
        let answer = send(&self.client).ok().filter(|answer| answer.status != 503);
        let returned = if answer.is_some() { self.world.now().max(invoked + 1) } else { u64::MAX };
        self.cut = answer.is_none();
        for op in parts(answer.as_ref()) {
            self.calls.push(Call { invoked, returned, op, answered: answer.is_some() });
        }
    }

    fn buyer(&mut self) -> &'a User {
        &self.world.buyers[self.dice.roll(BUYERS) as usize]
    }

    fn funds(&mut self) {
        let (user, value) = (self.buyer(), self.dice.roll(12) as i64 - 4);
        self.call(
            |client| client.try_add_funds(user, value),
            |answer| match answer.map(|answer| answer.status) {
                Some(200) | None => vec![wallet(user, CounterOp::Add(value))],
                Some(530) => vec![wallet(user, CounterOp::TooFew(-value))],
                _ => panic!("add_funds: {answer:?}"),
            },
        );
    }

    fn balance(&mut self) {
        let user = if self.dice.roll(4) == 0 { &self.world.seller } else { self.buyer() };
        self.call(
            |client| client.try_on_user("/buyer/query_balance", user),
            |answer| {
                answer.map(|answer| wallet(user, CounterOp::Read(answer.ok().number("balance")))).into_iter().collect()
            },
        );
    }

    fn place(&mut self) {
        let buyer = self.dice.roll(BUYERS) as usize;
        let mut lines = vec![("a", 1 + self.dice.roll(3) as i64), ("b", 1 + self.dice.roll(3) as i64)];
        if self.dice.roll(2) == 0 {
            lines.remove(self.dice.roll(2) as usize);
        }
        let order = Order { id: String::new(), buyer, lines, to_platform: self.dice.roll(2) == 0 };
        let world = self.world;
        self.call(
            |client| client.try_new_order(&world.buyers[buyer], &world.store, &order.lines),
            |answer| match answer.map(|answer| answer.status) {
                Some(200) | None => {
                    if let Some(answer) = answer {
                        world.orders().push(Order { id: answer.text("order_id"), ..order.clone() });
                    }
                    order.lines.iter().map(|(book, count)| copies(book, CounterOp::Add(-count))).collect()
                }
                Some(517) => {
                    let message = answer.unwrap().message();
                    let (book, count) = order.lines.iter().find(|(book, _)| message.ends_with(book)).unwrap();
                    vec![copies(book, CounterOp::TooFew(*count))]
                }
                _ => panic!("new_order: {answer:?}"),
            },
        );
    }

    /// One of the youngest orders, so that several clients are about it at once.
    fn on_order(&mut self) {
        let order = {
            let orders = self.world.orders();
            if orders.is_empty() {
                return;
            }
            let youngest = (orders.len() as u64).min(4);
            orders[orders.len() - 1 - self.dice.roll(youngest) as usize].clone()
        };
        match self.dice.roll(8) {
            0 | 1 => self.pay(&order),
            2 => self.confirm(&order),
            3 | 4 => self.cancel(&order),
            5 | 6 => self.refund(&order),
            _ => self.status(&order),
        }
    }

    fn pay(&mut self, order: &Order) {
        let (buyer, seller) = (&self.world.buyers[order.buyer], &self.world.seller);
        let path = if order.to_platform { "/buyer/pay_to_platform" } else { "/buyer/payment" };
        self.call(
            |client| client.try_on_order(path, buyer, &order.id),
            |answer| match answer.map(|answer| answer.status) {
                Some(200) | None => {
                    let mut parts = vec![
                        state(order, OrderOp::Move(&["pending"], "paid")),
                        wallet(buyer, CounterOp::Add(-order.total())),
                    ];
                    if !order.to_platform {
                        parts.push(wallet(seller, CounterOp::Add(order.total())));
                    }
                    parts
                }
                Some(519) => {
                    vec![state(order, OrderOp::In(&["pending"])), wallet(buyer, CounterOp::TooFew(order.total()))]
                }
                Some(526) => vec![state(order, OrderOp::In(&["canceled"]))],
                Some(527) => vec![state(order, OrderOp::In(&["paid", "completed"]))],
                Some(400) => vec![state(order, OrderOp::In(&["completed"]))],
                _ => panic!("payment: {answer:?}"),
            },
        );
    }

    fn confirm(&mut self, order: &Order) {
        let buyer = &self.world.buyers[order.buyer];
        let seller = &self.world.seller;
        self.call(
            |client| client.try_on_order("/buyer/confirm_receipt_and_pay_toseller", buyer, &order.id),
            |answer| match answer.map(|answer| answer.status) {
                Some(200) | None => {
                    let mut parts = vec![state(order, OrderOp::Move(&["paid"], "completed"))];
                    if order.to_platform {
                        parts.push(wallet(seller, CounterOp::Add(order.total())));
                    }
                    parts
                }
                Some(520) => vec![state(order, OrderOp::In(&["pending", "canceled"]))],
                Some(528) => vec![state(order, OrderOp::In(&["completed"]))],
                _ => panic!("confirm: {answer:?}"),
            },
        );
    }

    fn cancel(&mut self, order: &Order) {
        let buyer = &self.world.buyers[order.buyer];
        self.call(
            |client| client.try_on_order("/buyer/cancel_order", buyer, &order.id),
            |answer| match answer.map(|answer| answer.status) {
                Some(200) | None => {
                    let back = order.lines.iter().map(|(book, count)| copies(book, CounterOp::Add(*count)));
                    back.chain([state(order, OrderOp::Move(&["pending"], "canceled"))]).collect()
                }
                Some(521) => vec![state(order, OrderOp::In(&["paid", "completed", "canceled"]))],
                _ => panic!("cancel: {answer:?}"),
            },
        );
    }

    fn refund(&mut self, order: &Order) {
        let (buyer, seller) = (&self.world.buyers[order.buyer], &self.world.seller);
        self.call(
            |client| client.try_on_order("/buyer/refund_order", buyer, &order.id),
            |answer| match answer.map(|answer| answer.status) {
                Some(200) | None => {
                    let mut parts = vec![
                        state(order, OrderOp::Move(&["paid"], "canceled")),
                        wallet(buyer, CounterOp::Add(order.total())),
                    ];
                    if !order.to_platform {
                        parts.push(wallet(seller, CounterOp::Add(-order.total())));
                    }
                    parts.extend(order.lines.iter().map(|(book, count)| copies(book, CounterOp::Add(*count))));
                    parts
                }
                Some(519) => {
                    vec![state(order, OrderOp::In(&["paid"])), wallet(seller, CounterOp::TooFew(order.total()))]
                }
                Some(520) => vec![state(order, OrderOp::In(&["pending"]))],
                Some(521) => vec![state(order, OrderOp::In(&["completed", "canceled"]))],
                _ => panic!("refund: {answer:?}"),
            },
        );
    }

    fn status(&mut self, order: &Order) {
        let buyer = &self.world.buyers[order.buyer];
        self.call(
            |client| client.try_on_order("/buyer/query_order_status", buyer, &order.id),
            |answer| {
                let read = |answer: &Answer| state(order, OrderOp::Read(answer.ok().text("order_status")));
                answer.map(read).into_iter().collect()
            },
        );
    }

    fn book(&mut self) -> &'static str {
        BOOKS[self.dice.roll(2) as usize].0
    }

    fn add_stock(&mut self) {
        let (book, count) = (self.book(), self.dice.roll(8) as i64 - 3);
        let world = self.world;
        self.call(
            |client| client.try_add_stock_level(&world.seller, &world.store, book, count),
            |answer| match answer.map(|answer| answer.status) {
                Some(200) | None => vec![copies(book, CounterOp::Add(count))],
                Some(530) => vec![copies(book, CounterOp::TooFew(-count))],
                _ => panic!("add_stock_level: {answer:?}"),
            },
        );
    }

    fn read_stock(&mut self) {
        let book = self.book();
        let (world, user) = (self.world, (self.dice.roll(2) == 0).then(|| self.buyer()));
        self.call(
            |client| client.try_stock(user, &world.store, book),
            |answer| {
                let read = |answer: &Answer| copies(book, CounterOp::Read(answer.ok().number("stock_level")));
                answer.map(read).into_iter().collect()
            },
        );
    }
}

/// What was seen in all histories.
#[derive(Default, Debug)]
struct Seen {
    histories: u64,
    things: usize,
    parts: usize,
    cut: usize,
    refused: usize,
}

/// Lets clients loose on the server, stops it in their middle, starts it, and lets them loose again.
fn record(server: &mut Server, world: &World, number: u64) -> Vec<Call<Part>> {
    let mut dice = Dice::new(number + 1);
    let clients = 2 + dice.roll(CLIENTS_MAX - 1);
    let kill = dice.roll(8) > 0;
    let port = server.port();
    let mut calls: Vec<Call<Part>> = thread::scope(|scope| {
        let start = |client| scope.spawn(move || Caller::new(world, port, number * 64 + client).work(u64::MAX));
        let threads: Vec<_> = (0..clients).map(start).collect();
        thread::sleep(Duration::from_millis(10 + dice.roll(90)));
        if kill {
            server.kill9();
        } else {
            assert!(server.sigterm().success());
        }
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    server.restart();
    // What was cut did not happen after the process was gone, nor does recovery do it after the server listens.
    let gone = world.now();
    for call in &mut calls {
        call.returned = call.returned.min(gone);
    }
    let port = server.port();
    let times = 10 + dice.roll(20);
    calls.extend(thread::scope(|scope| {
        let start = |client| scope.spawn(move || Caller::new(world, port, number * 64 + 32 + client).work(times));
        let threads: Vec<_> = (0..clients).map(start).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    }));
    calls.extend(last_look(server, world));
    calls
}

/// What is there when nobody calls any more.
fn last_look(server: &Server, world: &World) -> Vec<Call<Part>> {
    let client = server.client();
    let mut parts = Vec::new();
    for user in world.buyers.iter().chain([&world.seller]) {
        parts.push(wallet(user, CounterOp::Read(client.balance(user))));
    }
    for (book, _) in BOOKS {
        parts.push(copies(book, CounterOp::Read(client.stock(&world.store, book))));
    }
    for order in world.orders().iter() {
        let status = client.order_status(&world.buyers[order.buyer], &order.id).ok().text("order_status");
        parts.push(state(order, OrderOp::Read(status)));
    }
    let now = world.now();
    parts.into_iter().map(|op| Call { invoked: now, returned: now + 1, op, answered: true }).collect()
}

fn held_against<M: Model>(
    model: &M,
    start: M::State,
    calls: &[Call<Part>],
    op: impl Fn(&Op) -> Option<M::Op>,
) -> Result<(), String> {
    let calls = calls.iter().map(|call| Call {
        invoked: call.invoked,
        returned: call.returned,
        op: op(&call.op.1).unwrap(),
        answered: call.answered,
    });
    check(model, start, calls.collect()).map_err(|violation| format!("{violation:#?}"))
}

fn judge(calls: Vec<Call<Part>>, seen: &mut Seen) {
    seen.histories += 1;
    seen.parts += calls.len();
    seen.cut += calls.iter().filter(|call| !call.answered).count();
    let refused = |op: &Op| matches!(op, Op::Counter(CounterOp::TooFew(_)) | Op::Order(OrderOp::In(_)));
    seen.refused += calls.iter().filter(|call| refused(&call.op.1)).count();
    let mut things: BTreeMap<Thing, Vec<Call<Part>>> = BTreeMap::new();
    for call in calls {
        things.entry(call.op.0.clone()).or_default().push(call);
    }
    seen.things += things.len();
    let counter = |op: &Op| if let Op::Counter(op) = op { Some(op.clone()) } else { None };
    let order = |op: &Op| if let Op::Order(op) = op { Some(op.clone()) } else { None };
    for (thing, calls) in things {
        let judged = match &thing {
            Thing::Wallet(_) => held_against(&Counter, 0, &calls, counter),
            Thing::Book(_) => held_against(&Counter, STOCK, &calls, counter),
            Thing::Order(_) => held_against(&OrderStates, "pending", &calls, order),
        };
        judged.unwrap_or_else(|why| panic!("{thing:?} is not one thing after the other: {why}"));
    }
}

fn histories_of(flags: &[&str], first: u64, count: u64) {
    let mut server = Server::start(flags);
    let mut seen = Seen::default();
    for number in first..first + count {
        let world = World::new(&server.client(), number);
        let calls = record(&mut server, &world, number);
        judge(calls, &mut seen);
    }
    println!("{flags:?}: {seen:?}");
    assert!(seen.cut as u64 > count, "hardly a call was cut: {seen:?}");
    assert!(seen.refused as u64 > count, "hardly a call was refused: {seen:?}");
}

fn histories() -> u64 {
    std::env::var("BOOKSTORE_HISTORIES").ok().map_or(24, |text| text.parse().unwrap())
}

#[test]
fn histories_with_kills_are_linearizable() {
    histories_of(&[], 0, histories() / 2);
}

#[test]
fn histories_with_sleep_snapshots_and_orders_at_rest_are_linearizable() {
    let flags = ["--durability", "buffered", "--snapshot-interval", "1s", "--idle-after", "1s"];
    let flags = [&flags[..], &["--live-actors-max", "1", "--resting-orders-max", "1"]].concat();
    histories_of(&flags, 1_000_000, histories().div_ceil(2));
}

/// Invoked, returned, and what; a return of 0 is a cut call that ended at 1,000.
type Noted = (u64, u64, CounterOp);

fn counter(start: i64, calls: &[Noted]) -> Result<(), String> {
    let read = |(invoked, returned, op): &Noted| Call {
        invoked: *invoked,
        returned: if *returned == 0 { 1_000 } else { *returned },
        op: op.clone(),
        answered: *returned != 0,
    };
    check(&Counter, start, calls.iter().map(read).collect()).map_err(|violation| format!("{violation:?}"))
}

use CounterOp::{Add, Read, TooFew};

#[test]
fn the_checker_takes_what_one_order_explains() {
    counter(0, &[(1, 2, Add(5)), (3, 4, Read(5))]).unwrap();
    // Two at once: either may be first.
    for read in [0, 5] {
        counter(0, &[(1, 10, Add(5)), (2, 9, Read(read))]).unwrap();
    }
    // The second read sees what the first did not, during one long call.
    counter(0, &[(1, 10, Add(5)), (2, 3, Read(0)), (4, 5, Read(5))]).unwrap();
    counter(3, &[(1, 10, Add(-3)), (2, 9, Add(-3)), (3, 8, Add(3))]).unwrap();
    counter(3, &[(1, 10, Add(-3)), (2, 9, TooFew(2)), (20, 21, Read(0))]).unwrap();
}

#[test]
fn the_checker_refuses_what_no_order_explains() {
    let wrong: [(&str, i64, &[Noted]); 8] = [
        ("a stale read", 0, &[(1, 2, Add(5)), (3, 4, Read(0))]),
        ("a read that goes back", 0, &[(1, 10, Add(5)), (2, 3, Read(5)), (4, 5, Read(0))]),
        ("a lost update", 0, &[(1, 4, Add(5)), (2, 3, Add(7)), (5, 6, Read(7))]),
        ("a double effect", 0, &[(1, 2, Add(5)), (3, 4, Read(10))]),
        ("money out of nothing", 0, &[(1, 2, Read(1))]),
        ("an overdraft", 4, &[(1, 10, Add(-3)), (2, 9, Add(-3))]),
        ("refused although there was enough", 4, &[(1, 10, Add(-2)), (2, 9, TooFew(2))]),
        ("an effect before its call", 0, &[(1, 2, Read(5)), (3, 4, Add(5))]),
    ];
    for (what, start, calls) in wrong {
        assert!(counter(start, calls).is_err(), "{what}");
    }
}

#[test]
fn a_cut_call_happens_once_or_never_and_not_after_its_end() {
    counter(0, &[(1, 0, Add(5)), (2, 3, Read(0)), (4, 5, Read(5)), (1_001, 1_002, Read(5))]).unwrap();
    counter(0, &[(1, 0, Add(5)), (1_001, 1_002, Read(0))]).unwrap();
    assert!(counter(0, &[(1, 0, Add(5)), (2, 3, Read(5)), (4, 5, Read(0))]).is_err(), "it is taken back");
    assert!(counter(0, &[(1, 0, Add(5)), (2, 3, Read(10))]).is_err(), "it happens twice");
    assert!(counter(0, &[(1, 0, Add(5)), (1_001, 1_002, Read(0)), (1_003, 1_004, Read(5))]).is_err(), "it comes late");
}

#[test]
fn the_checker_follows_an_order_through_its_states() {
    let of = |calls: &[(u64, u64, OrderOp)]| {
        let read = |(invoked, returned, op): &(u64, u64, OrderOp)| Call {
            invoked: *invoked,
            returned: *returned,
            op: op.clone(),
            answered: true,
        };
        check(&OrderStates, "pending", calls.iter().map(read).collect()).is_ok()
    };
    let (pay, cancel) = (OrderOp::Move(&["pending"], "paid"), OrderOp::Move(&["pending"], "canceled"));
    assert!(of(&[(1, 10, pay.clone()), (2, 9, OrderOp::In(&["paid"])), (3, 8, OrderOp::Read("pending".into()))]));
    assert!(!of(&[(1, 10, pay.clone()), (2, 9, cancel.clone())]), "paid and canceled");
    assert!(!of(&[(1, 10, pay.clone()), (2, 9, pay)]), "paid twice");
    assert!(!of(&[(1, 10, cancel), (11, 12, OrderOp::Read("paid".into()))]));
}

/// As a plain search through all orders finds it, which is slow and surely right.
fn by_all_orders(calls: &[Call<CounterOp>], state: i64) -> bool {
    let first_return = calls.iter().map(|call| call.returned).min();
    if !calls.iter().any(|call| call.answered) {
        return true;
    }
    (0..calls.len()).filter(|&next| Some(calls[next].invoked) < first_return).any(|next| {
        let mut rest = calls.to_vec();
        let call = rest.remove(next);
        let after = Counter.step(&state, &call.op);
        after.is_some_and(|after| by_all_orders(&rest, after)) || (!call.answered && by_all_orders(&rest, state))
    })
}

#[test]
fn the_checker_judges_as_a_search_through_all_orders_does() {
    let mut dice = Dice::new(7);
    let mut verdicts: HashMap<bool, u32> = HashMap::new();
    for _ in 0..20_000 {
        let calls: Vec<_> = (0..2 + dice.roll(5))
            .map(|number| {
                let invoked = dice.roll(20) * 10 + number;
                let returned = invoked + 10 * (1 + dice.roll(10));
                let value = dice.roll(5) as i64;
                let op = match dice.roll(4) {
                    0 => Read(value),
                    1 => TooFew(value + 1),
                    _ => Add(value - 2),
                };
                let answered = !matches!(op, Add(_)) || dice.roll(4) > 0;
                Call { invoked, returned, op, answered }
            })
            .collect();
        let expected = by_all_orders(&calls, 2);
        assert_eq!(check(&Counter, 2, calls.clone()).is_ok(), expected, "{calls:?}");
        *verdicts.entry(expected).or_default() += 1;
    }
    assert!(verdicts.values().all(|&count| count > 1_000) && verdicts.len() == 2, "{verdicts:?}");
}
