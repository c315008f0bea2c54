//! Clients that send each change 1 to 5 times, over connections that are cut at random and through three kills: each has
//! exactly one effect, and every answer to it is the same. `BOOKSTORE_EXACTLY_ONCE` is the number of changes; without it
//! there are 10,000.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Answer, Conn, Dice, Server, User, book, request};
use serde_json::{Value, json};

const STORE: &str = "store";
const BOOK: &str = "book";
const PRICE: i64 = 7;
const STOCK: i64 = 1_000_000_000;
const CLIENTS: u64 = 16;
const USERS_A_CLIENT: u64 = 4;
const KILLS: u64 = 3;
/// A change that is not answered for so long has failed the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all clients share.
struct World {
    port: AtomicU16,
    /// Changes begun, and changes that succeeded.
    begun: AtomicU64,
    done: AtomicU64,
    goal: u64,
    /// How often requests went out, at least in part.
    sent: AtomicU64,
    cut: AtomicU64,
    lost: AtomicU64,
}

/// What must come of one buyer's changes.
struct Ledger {
    user: User,
    balance: i64,
    orders: HashMap<String, &'static str>,
    /// What the seller got from him.
    paid: i64,
}

struct Sender<'a> {
    world: &'a World,
    dice: Dice,
    conn: Option<Conn>,
    /// Connections whose answer is not read: their requests are in flight while the next are sent.
    abandoned: Vec<Conn>,
}

impl Sender<'_> {
    /// Makes one change, and returns its answer. `None`: all changes are made.
    fn change(&mut self, path: &str, token: Option<&str>, body: &Value) -> Option<Answer> {
        let number = self.world.begun.fetch_add(1, Ordering::Relaxed);
        if number >= self.world.goal {
            return None;
        }
        let key = format!("change-{number}");
        let token = token.map(|token| ("token", token));
        let headers: Vec<_> = token.into_iter().chain([("Idempotency-Key", key.as_str())]).collect();
        let bytes = request("POST", path, &headers, body.to_string().as_bytes());
        let mut heard: Option<Answer> = None;
        for _ in 0..self.dice.roll(5) {
            if let Some(answer) = self.roughly(path, &bytes) {
                agree(&mut heard, answer);
            }
        }
        let end = Instant::now() + PATIENCE;
        let last = loop {
            match self.whole(path, &bytes) {
                Ok(answer) if answer.status == 200 => break answer,
                Ok(answer) => drop(answer.is(503)),
                Err(_) => {
                    self.world.lost.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
            }
            assert!(Instant::now() < end, "{path} is not answered");
        };
        agree(&mut heard, last);
        self.abandoned.clear();
        self.world.done.fetch_add(1, Ordering::Relaxed);
        heard
    }

    /// Sends it in one of the ways in which a bad network may.
    fn roughly(&mut self, path: &str, bytes: &[u8]) -> Option<Answer> {
        self.world.sent.fetch_add(1, Ordering::Relaxed);
        let how = self.dice.roll(4);
        if how == 0 {
            return self.whole(path, bytes).ok().filter(|answer| answer.status == 200);
        }
        self.world.cut.fetch_add(1, Ordering::Relaxed);
        let mut conn = Conn::open(self.world.port.load(Ordering::Relaxed)).ok()?;
        match how {
            // Not all of it arrives.
            1 => drop(conn.send(&bytes[..1 + self.dice.roll(bytes.len() as u64 - 1) as usize])),
            // All of it, but nobody is there to hear the answer.
            2 => drop(conn.send(bytes)),
            _ => {
                if conn.send(bytes).is_ok() {
                    self.abandoned.push(conn);
                }
            }
        }
        None
    }

    fn whole(&mut self, path: &str, bytes: &[u8]) -> io::Result<Answer> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => Conn::open(self.world.port.load(Ordering::Relaxed))?,
        };
        self.world.sent.fetch_add(1, Ordering::Relaxed);
        conn.send(bytes)?;
        let response = conn.response()?;
        if !response.closes() && self.dice.roll(8) > 0 {
            self.conn = Some(conn);
        }
        Ok(Answer::read(path, &response).unwrap_or_else(|why| panic!("{why}")))
    }

    /// One round of a buyer; `None` when all changes are made.
    fn shop(&mut self, ledger: &mut Ledger) -> Option<()> {
        let (id, password, token) = (ledger.user.id.clone(), ledger.user.password.clone(), ledger.user.token.clone());
        let on_order = |order: &str| json!({"user_id": id, "order_id": order, "password": password});
        let count = 1 + self.dice.roll(5) as i64;
        let total = count * PRICE;
        let value = total + self.dice.roll(1_000_000) as i64;
        let body = json!({"user_id": id, "password": password, "add_value": value});
        self.change("/buyer/add_funds", None, &body)?;
        ledger.balance += value;
        let body = json!({"user_id": id, "store_id": STORE, "books": [{"id": BOOK, "count": count}]});
        let order = self.change("/buyer/new_order", Some(&token), &body)?.text("order_id");
        assert!(ledger.orders.insert(order.clone(), "pending").is_none(), "two changes, one order");
        let kind = self.dice.roll(4);
        if kind == 0 {
            self.change("/buyer/cancel_order", None, &on_order(&order))?;
            ledger.orders.insert(order, "canceled");
            return Some(());
        }
        let path = if kind == 1 { "/buyer/payment" } else { "/buyer/pay_to_platform" };
        self.change(path, None, &on_order(&order))?;
        // The changes may be all made before the next one.
        let directly = if kind == 1 { total } else { 0 };
        ledger.balance -= total;
        ledger.paid += directly;
        ledger.orders.insert(order.clone(), "paid");
        if self.dice.roll(4) == 0 {
            self.change("/buyer/refund_order", None, &on_order(&order))?;
            ledger.balance += total;
            ledger.paid -= directly;
            ledger.orders.insert(order, "canceled");
            return Some(());
        }
        self.change("/buyer/confirm_receipt_and_pay_toseller", None, &on_order(&order))?;
        ledger.orders.insert(order, "completed");
        ledger.paid += total - directly;
        Some(())
    }
}

/// Whatever is heard of one change is the same.
fn agree(heard: &mut Option<Answer>, answer: Answer) {
    if let Some(before) = heard {
        assert_eq!(before.body, answer.body, "two answers to one change");
    }
    *heard = Some(answer);
}

#[test]
fn each_change_has_exactly_one_effect() {
    let goal = std::env::var("BOOKSTORE_EXACTLY_ONCE").map_or(10_000, |number| number.parse().unwrap());
    let mut server = Server::start(&["--resting-orders-max", "500", "--snapshot-interval", "2s"]);
    let client = server.client();
    let seller = client.new_user("seller");
    client.create_store(&seller, STORE).ok();
    client.add_book(&seller, STORE, book(BOOK, PRICE), STOCK).ok();
    let world = World {
        port: server.port().into(),
        begun: 0.into(),
        done: 0.into(),
        goal,
        sent: 0.into(),
        cut: 0.into(),
        lost: 0.into(),
    };
    let ledgers: Vec<Ledger> = thread::scope(|scope| {
        let work = |number: u64| {
            let world = &world;
            let client = server.client();
            let users: Vec<User> =
                (0..USERS_A_CLIENT).map(|user| client.new_user(&format!("buyer {number} {user}"))).collect();
            scope.spawn(move || {
                let ledger = |user| Ledger { user, balance: 0, orders: HashMap::new(), paid: 0 };
                let mut ledgers: Vec<_> = users.into_iter().map(ledger).collect();
                let mut sender = Sender { world, dice: Dice::new(number + 1), conn: None, abandoned: Vec::new() };
                let mut turn = (0..ledgers.len()).cycle();
                while turn.next().and_then(|index| sender.shop(&mut ledgers[index])).is_some() {}
                ledgers
            })
        };
        let threads: Vec<_> = (0..CLIENTS).map(work).collect();
        for kill in 1..=KILLS {
            while world.done.load(Ordering::Relaxed) < goal * kill / (KILLS + 1) {
                assert!(!threads.iter().any(thread::ScopedJoinHandle::is_finished), "a client ended early");
                thread::sleep(Duration::from_millis(1));
            }
            server.kill9();
            server.restart();
            world.port.store(server.port(), Ordering::Relaxed);
        }
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(world.done.load(Ordering::Relaxed), goal);

    let client = server.client();
    let (mut sold, mut earned) = (0, 0);
    for Ledger { user, balance, orders, paid } in ledgers {
        earned += paid;
        assert_eq!(client.balance(&user), balance, "{}", user.id);
        let listed = client.query_buyer_all_orders(&user);
        let listed = listed.orders();
        assert_eq!(listed.len(), orders.len(), "{}", user.id);
        for order in listed {
            let status = orders[order["order_id"].as_str().unwrap()];
            assert_eq!(order["status"], status);
            if status != "canceled" {
                sold += order["books"][0]["count"].as_i64().unwrap();
            }
        }
    }
    assert_eq!(client.stock(STORE, BOOK), STOCK - sold);
    assert_eq!(client.balance(&seller), earned);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{goal} changes, {} requests of which {} were cut and {} got no answer, {KILLS} kills: {goal} effects",
        count(&world.sent),
        count(&world.cut),
        count(&world.lost)
    );
    assert!(server.sigterm().success());
    common::audit::audit(&server.data_dir(), bookstore::Durability::Sync, true);
}
