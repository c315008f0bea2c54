//! Pins the promise of the journal: after a kill -9 under load no acknowledged change is lost, none is
//! doubled, and nothing is there that nobody asked for.
//!
//! Each thread keeps its own books: what was acknowledged, and the one request whose outcome the kill
//! left unknown. After each restart the server is held against them, to the last fen and copy. The
//! number of kills is 20 in all, or what BOOKSTORE_KILLS says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use common::{Answer, Client, Dice, Server, User, book};

const THREADS: u64 = 8;
const STORE: &str = "store";
const BOOKS: [(&str, i64); 4] = [("a", 7), ("b", 13), ("c", 101), ("d", 1)];
const STOCK: i64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Paid {
    No,
    ToSeller,
    ToPlatform,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Action {
    Pay,
    PayToPlatform,
    Confirm,
    Cancel,
    Refund,
}

#[derive(Clone, Debug)]
struct Order {
    lines: Vec<(&'static str, i64)>,
    status: &'static str,
    paid: Paid,
}

impl Order {
    fn total(&self) -> i64 {
        let price = |id| BOOKS.iter().find(|(known, _)| *known == id).unwrap().1;
        self.lines.iter().map(|(id, count)| price(*id) * count).sum()
    }

    fn after(&self, action: Action) -> Order {
        let (status, paid) = match action {
            Action::Pay => ("paid", Paid::ToSeller),
            Action::PayToPlatform => ("paid", Paid::ToPlatform),
            Action::Confirm => ("completed", self.paid),
            Action::Cancel => ("canceled", self.paid),
            // It is as if it never was.
            Action::Refund => ("canceled", Paid::No),
        };
        Order { lines: self.lines.clone(), status, paid }
    }
}

/// The request that was under way when the server died.
#[derive(Clone, Debug)]
enum Unknown {
    Placement(Order),
    Change(String, Action),
    Funds(i64),
}

/// One thread's user and its own account of what is true.
struct Books {
    user: User,
    orders: HashMap<String, Order>,
    /// Ids among which are all orders that can still change; the others are sorted out when met.
    open: Vec<String>,
    put_in: i64,
    unknown: Option<Unknown>,
    dice: Dice,
}

impl Books {
    /// Works until the server is gone, and notes what was then under way.
    fn work(&mut self, port: u16) {
        let client = Client::new(port);
        while self.unknown.is_none() {
            match self.dice.roll(10) {
                0..4 => self.place(&client),
                4 => self.funds(&client),
                _ => self.change(&client),
            }
        }
    }

    fn place(&mut self, client: &Client) {
        let first = self.dice.roll(4) as usize;
        let second = (first + 1 + self.dice.roll(3) as usize) % 4;
        let count = |dice: &mut Dice| 1 + dice.roll(3) as i64;
        let lines = vec![(BOOKS[first].0, count(&mut self.dice)), (BOOKS[second].0, count(&mut self.dice))];
        let order = Order { lines, status: "pending", paid: Paid::No };
        match outcome(client.try_new_order(&self.user, STORE, &order.lines)) {
            Some(answer) => {
                let id = answer.ok().text("order_id");
                self.open.push(id.clone());
                assert!(self.orders.insert(id, order).is_none(), "an order id was given twice");
            }
            None => self.unknown = Some(Unknown::Placement(order)),
        }
    }

    fn funds(&mut self, client: &Client) {
        let value = self.dice.roll(1_000) as i64 - 100;
        match outcome(client.try_add_funds(&self.user, value)) {
            Some(answer) if answer.status == 530 && value < 0 => {}
            Some(answer) => {
                answer.ok();
                self.put_in += value;
            }
            None => self.unknown = Some(Unknown::Funds(value)),
        }
    }

    fn change(&mut self, client: &Client) {
        let Some(id) = self.an_open_order() else {
            return self.place(client);
        };
        let order = &self.orders[&id];
        let action = match (order.status, self.dice.roll(5)) {
            ("pending", 0..2) => Action::Pay,
            ("pending", 2..4) => Action::PayToPlatform,
            ("pending", _) => Action::Cancel,
            (_, 0) => Action::Refund,
            _ => Action::Confirm,
        };
        let path = match action {
            Action::Pay => "/buyer/payment",
            Action::PayToPlatform => "/buyer/pay_to_platform",
            Action::Confirm => "/buyer/confirm_receipt_and_pay_toseller",
            Action::Cancel => "/buyer/cancel_order",
            Action::Refund => "/buyer/refund_order",
        };
        match outcome(client.try_on_order(path, &self.user, &id)) {
            Some(answer) if answer.status == 519 => {
                assert!(self.balance() < order.total(), "519 with enough money: {}", answer.body);
                self.funds(client);
            }
            Some(answer) => {
                answer.ok();
                let after = order.after(action);
                self.orders.insert(id, after);
            }
            None => self.unknown = Some(Unknown::Change(id, action)),
        }
    }

    fn an_open_order(&mut self) -> Option<String> {
        while !self.open.is_empty() {
            let at = self.dice.roll(self.open.len() as u64) as usize;
            if is_open(&self.orders[&self.open[at]]) {
                return Some(self.open[at].clone());
            }
            self.open.swap_remove(at);
        }
        None
    }

    fn balance(&self) -> i64 {
        let paid = self.orders.values().filter(|order| order.paid != Paid::No);
        self.put_in - paid.map(Order::total).sum::<i64>()
    }

    /// Holds the server against these books, and settles what was unknown.
    fn settle(&mut self, client: &Client) {
        let answer = client.query_buyer_all_orders(&self.user);
        let mut listed: HashMap<&str, &str> = HashMap::new();
        for element in answer.orders() {
            let id = element["order_id"].as_str().unwrap();
            let seen = listed.insert(id, element["status"].as_str().unwrap());
            assert!(seen.is_none(), "{id} is listed twice");
            if !self.orders.contains_key(id) {
                let Some(Unknown::Placement(order)) = self.unknown.take() else {
                    panic!("nobody placed {element}");
                };
                assert_eq!(element["total_price"].as_i64(), Some(order.total()));
                assert_eq!(element["status"], order.status);
                self.open.push(id.to_owned());
                self.orders.insert(id.to_owned(), order);
            }
        }
        if let Some(Unknown::Change(id, action)) = &self.unknown {
            let changed = self.orders[id].after(*action);
            if listed.get(id.as_str()) == Some(&changed.status) {
                self.orders.insert(id.clone(), changed);
            }
        }
        for (id, order) in &self.orders {
            assert_eq!(listed.get(id.as_str()), Some(&order.status), "{id} {order:?} {:?}", self.unknown);
        }
        let balance = client.balance(&self.user);
        if let Some(Unknown::Funds(value)) = self.unknown
            && balance != self.balance()
        {
            self.put_in += value;
        }
        assert_eq!(balance, self.balance(), "{} {:?}", self.user.id, self.unknown);
        assert_eq!(client.order_count(&self.user.id), self.orders.len() as i64);
        self.unknown = None;
    }
}

fn is_open(order: &Order) -> bool {
    order.status == "pending" || order.status == "paid"
}

/// The answer, or nothing when the outcome is unknown: the connection broke, or the server said so.
fn outcome(answer: std::io::Result<Answer>) -> Option<Answer> {
    answer.ok().filter(|answer| answer.status != 503)
}

/// What belongs to nobody's books alone: the stock, the seller's money and the sum of all money.
fn check_the_whole(client: &Client, seller: &User, all: &[Books]) {
    let orders = || all.iter().flat_map(|books| books.orders.values());
    for (id, _) in BOOKS {
        let sold: i64 = orders()
            .filter(|order| order.status != "canceled")
            .flat_map(|order| &order.lines)
            .filter(|(line, _)| *line == id)
            .map(|(_, count)| count)
            .sum();
        assert_eq!(client.stock(STORE, id), STOCK - sold, "stock of {id}");
    }
    let credited = |order: &&Order| {
        order.paid == Paid::ToSeller || (order.paid == Paid::ToPlatform && order.status == "completed")
    };
    let earned: i64 = orders().filter(credited).map(Order::total).sum();
    assert_eq!(client.balance(seller), earned, "the seller's balance");

    let escrow: i64 =
        orders().filter(|order| order.paid == Paid::ToPlatform && order.status == "paid").map(Order::total).sum();
    let balances: i64 = all.iter().map(|books| client.balance(&books.user)).sum();
    let put_in: i64 = all.iter().map(|books| books.put_in).sum();
    assert_eq!(balances + client.balance(seller) + escrow, put_in, "the sum of all money");
    let listed = client.query_one_store_orders(seller, STORE).orders().len();
    assert_eq!(listed, orders().count(), "orders of the store");
}

fn kill_under_load(flags: &[&str], kills: u64) {
    // The longer form makes more orders than one may list unless it is set.
    let flags = [flags, &["--orders-listed-max", "100000000"]].concat();
    let mut server = Server::start(&flags);
    let client = server.client();
    let seller = client.new_user("seller");
    client.create_store(&seller, STORE).ok();
    for (id, price) in BOOKS {
        client.add_book(&seller, STORE, book(id, price), STOCK).ok();
    }
    let open_books = |i| Books {
        user: client.new_user(&format!("buyer-{i}")),
        orders: HashMap::new(),
        open: Vec::new(),
        put_in: 0,
        unknown: None,
        dice: Dice::new(i + 1),
    };
    let mut all: Vec<Books> = (0..THREADS).map(open_books).collect();
    let mut dice = Dice::new(42);
    for kill in 0..kills {
        let port = server.port();
        let load_for = Duration::from_millis(100 + dice.roll(900));
        all = thread::scope(|scope| {
            let work = |mut books: Books| {
                scope.spawn(move || {
                    books.work(port);
                    books
                })
            };
            let threads: Vec<_> = all.drain(..).map(work).collect();
            thread::sleep(load_for);
            server.kill9();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        server.restart();
        let client = server.client();
        let before: usize = all.iter().map(|books| books.orders.len()).sum();
        for books in &mut all {
            books.settle(&client);
        }
        check_the_whole(&client, &seller, &all);
        assert!(before > 0, "no order was acknowledged before kill {kill}");
    }
    let orders: usize = all.iter().map(|books| books.orders.len()).sum();
    println!("{flags:?}: {kills} kills, {orders} orders");
    // Once more after a clean end: what recovery made of the crash is itself durable.
    assert!(server.sigterm().success());
    server.restart();
    let client = server.client();
    for books in &mut all {
        books.settle(&client);
    }
    check_the_whole(&client, &seller, &all);
}

/// So many of twenty kills.
fn kills(of_twenty: u64) -> u64 {
    let all: u64 = std::env::var("BOOKSTORE_KILLS").ok().map_or(20, |text| text.parse().unwrap());
    (all * of_twenty).div_ceil(20)
}

#[test]
fn kill_9_under_load_loses_nothing_acknowledged() {
    kill_under_load(&["--snapshot-interval", "60s"], kills(8));
}

#[test]
fn kill_9_in_the_middle_of_snapshots_loses_nothing_acknowledged() {
    kill_under_load(&["--snapshot-interval", "1s"], kills(7));
}

#[test]
fn kill_9_in_buffered_mode_loses_nothing_acknowledged() {
    kill_under_load(&["--durability", "buffered"], kills(5));
}
