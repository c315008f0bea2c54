//! A whole day of a shop with the 100 real books: everything that a shop does, crashes and restarts in between, searches
//! all the time; in the evening stock and money agree. And the same day on top of a shop that `load` has made up, which
//! `check` finds sound afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::thread::sleep;
use std::time::Duration;

use common::tool::bookstore;
use common::{Client, Dice, Server, User, wait_until};
use serde_json::{Value, json};

const STORES: [&str; 2] = ["新华书店", "store-2"];
const STOCK: i64 = 50;
const FUNDS: i64 = 10_000_000;
const ORDER_TTL: Duration = Duration::from_secs(3);

fn real_books() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/books.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the shop should look like, kept beside it.
struct Ledger {
    books: Vec<(String, i64)>,
    stock: HashMap<(usize, String), i64>,
    /// Balances of the sellers and of the buyers.
    sellers: [i64; 2],
    buyers: [i64; 3],
    orders: Vec<Placed>,
}

struct Placed {
    id: String,
    buyer: usize,
    store: usize,
    lines: Vec<(String, i64)>,
    total: i64,
    status: &'static str,
    escrow: i64,
}

struct Day {
    server: Server,
    client: Client,
    sellers: Vec<User>,
    buyers: Vec<User>,
    ledger: Ledger,
    dice: Dice,
}

impl Day {
    fn begin(server: Server) -> Day {
        let client = server.client();
        let books = real_books();
        assert_eq!(books.len(), 100);
        let sellers: Vec<User> = (0..2).map(|i| client.new_user(&format!("卖家-{i}"))).collect();
        let buyers: Vec<User> = (0..3).map(|i| client.buyer_with_funds(&format!("buyer-{i}"), FUNDS)).collect();
        let mut stock = HashMap::new();
        for (i, seller) in sellers.iter().enumerate() {
            client.create_store(seller, STORES[i]).ok();
            for book in &books {
                client.add_book(seller, STORES[i], book.clone(), STOCK).ok();
                stock.insert((i, book["id"].as_str().unwrap().to_owned()), STOCK);
            }
        }
        let books = books
            .iter()
            .map(|book| (book["id"].as_str().unwrap().to_owned(), book["price"].as_i64().unwrap()))
            .collect();
        let ledger = Ledger { books, stock, sellers: [0; 2], buyers: [FUNDS; 3], orders: Vec::new() };
        Day { server, client, sellers, buyers, ledger, dice: Dice::new(7) }
    }

    /// A few orders of a few books each.
    fn place(&mut self, count: usize) {
        for _ in 0..count {
            let (buyer, store) = (self.dice.roll(3) as usize, self.dice.roll(2) as usize);
            let first = self.dice.roll(100) as usize;
            let mut lines: Vec<(String, i64)> = Vec::new();
            let mut total = 0;
            for step in 0..1 + self.dice.roll(4) as usize {
                let (book, price) = self.ledger.books[(first + 7 * step) % 100].clone();
                let copies = 1 + self.dice.roll(2) as i64;
                total += price * copies;
                *self.ledger.stock.get_mut(&(store, book.clone())).unwrap() -= copies;
                lines.push((book, copies));
            }
            let wire: Vec<(&str, i64)> = lines.iter().map(|(id, copies)| (id.as_str(), *copies)).collect();
            let id = self.client.order(&self.buyers[buyer], STORES[store], &wire);
            self.ledger.orders.push(Placed { id, buyer, store, lines, total, status: "pending", escrow: 0 });
        }
    }

    /// Every pending order in turn: paid at once, paid to the platform, canceled or left alone.
    fn settle_pending(&mut self) {
        let Day { client, buyers, ledger, .. } = self;
        let pending = ledger.orders.iter_mut().filter(|order| order.status == "pending");
        for (i, order) in pending.enumerate() {
            let buyer = &buyers[order.buyer];
            match i % 4 {
                0 => {
                    client.payment(buyer, &order.id).ok();
                    ledger.sellers[order.store] += order.total;
                }
                1 => {
                    client.pay_to_platform(buyer, &order.id).ok();
                    order.escrow = order.total;
                }
                2 => {
                    client.cancel(buyer, &order.id).ok();
                    give_back(&mut ledger.stock, order, "canceled");
                    continue;
                }
                _ => continue,
            }
            order.status = "paid";
            ledger.buyers[order.buyer] -= order.total;
        }
    }

    fn ship(&mut self) {
        let Day { client, sellers, ledger, .. } = self;
        let paid = ledger.orders.iter_mut().filter(|order| order.status == "paid");
        for order in paid.step_by(2) {
            client.ship(&sellers[order.store], STORES[order.store], &order.id).ok();
            order.status = "shipped";
        }
    }

    fn confirm(&mut self) {
        let Day { client, buyers, ledger, .. } = self;
        let arrived = ledger.orders.iter_mut().filter(|order| ["paid", "shipped"].contains(&order.status));
        for order in arrived.step_by(2) {
            client.confirm(&buyers[order.buyer], &order.id).ok();
            ledger.sellers[order.store] += order.escrow;
            order.escrow = 0;
            order.status = "completed";
        }
    }

    /// Whoever has not paid by now never will.
    fn let_expire(&mut self) {
        sleep(ORDER_TTL);
        self.client.auto_cancel().ok();
        let Day { ledger, .. } = self;
        for order in ledger.orders.iter_mut().filter(|order| order.status == "pending") {
            give_back(&mut ledger.stock, order, "canceled");
        }
    }

    fn crash(&mut self) {
        self.server.kill9();
        self.server.restart();
        self.client = self.server.client();
    }

    fn close_and_open(&mut self) {
        assert!(self.server.sigterm().success());
        self.server.restart();
        self.client = self.server.client();
    }

    /// Finds some of the books by their titles, in both stores, with the stock of the ledger.
    fn browse(&self) {
        for title in ["红楼梦", "围城", "米", "马桥词典", "三国演义"] {
            let body = json!({"keyword": title, "search_scope": "title", "page_size": 100});
            let search = || self.client.post("/buyer/search", body.clone());
            wait_until("the search index is complete", || search().status != 503);
            let answer = search();
            let found = answer.ok().body["books"].as_array().unwrap();
            // Beside the real ones there may be hundreds of made-up ones; a title that is the keyword comes first.
            assert_eq!(found.len() as i64, answer.number("total").min(100));
            for (place, store) in STORES.iter().enumerate() {
                assert!(found.iter().any(|book| book["store_id"] == json!(store) && book["title"] == json!(title)));
                for book in found.iter().filter(|book| book["store_id"] == json!(store)) {
                    let level = self.ledger.stock[&(place, book["id"].as_str().unwrap().to_owned())];
                    assert_eq!(book["stock_level"], json!(level), "{title}");
                }
            }
        }
    }

    /// Holds the shop against the ledger.
    fn audit(&self) {
        self.browse();
        let (client, ledger) = (&self.client, &self.ledger);
        for ((store, book), level) in &ledger.stock {
            assert_eq!(client.stock(STORES[*store], book), *level, "{book}");
        }
        for (user, balance) in self.sellers.iter().zip(ledger.sellers) {
            assert_eq!(client.balance(user), balance, "{}", user.id);
        }
        for (user, balance) in self.buyers.iter().zip(ledger.buyers) {
            assert_eq!(client.balance(user), balance, "{}", user.id);
        }
        let escrow: i64 = ledger.orders.iter().map(|order| order.escrow).sum();
        let balances = ledger.sellers.iter().sum::<i64>() + ledger.buyers.iter().sum::<i64>();
        assert_eq!(balances + escrow, 3 * FUNDS, "the ledger itself is wrong");

        for (i, buyer) in self.buyers.iter().enumerate() {
            let mut mine: Vec<&Placed> = ledger.orders.iter().filter(|order| order.buyer == i).collect();
            mine.reverse();
            let answer = client.query_buyer_all_orders(buyer);
            compare(answer.orders(), &mine);
            assert_eq!(client.order_count(&buyer.id), mine.len() as i64);
        }
        for (i, seller) in self.sellers.iter().enumerate() {
            let mut mine: Vec<&Placed> = ledger.orders.iter().filter(|order| order.store == i).collect();
            mine.reverse();
            let answer = client.query_all_store_orders(seller);
            compare(answer.ok().body["orders"][STORES[i]].as_array().unwrap(), &mine);
        }
    }
}

fn give_back(stock: &mut HashMap<(usize, String), i64>, order: &mut Placed, status: &'static str) {
    for (book, copies) in &order.lines {
        *stock.get_mut(&(order.store, book.clone())).unwrap() += copies;
    }
    order.status = status;
}

fn compare(listed: &[Value], expected: &[&Placed]) {
    assert_eq!(listed.len(), expected.len());
    for (element, order) in listed.iter().zip(expected) {
        assert_eq!(element["order_id"], json!(order.id));
        assert_eq!(element["status"], json!(order.status), "{element}");
        assert_eq!(element["total_price"], json!(order.total));
        assert_eq!(element["books"].as_array().unwrap().len(), order.lines.len());
    }
}

const FLAGS: &[&str] = &["--order-ttl", "3s", "--snapshot-interval", "1s"];

#[test]
fn a_whole_day_with_a_crash_and_restarts_adds_up() {
    whole_day(Day::begin(Server::start(FLAGS)));
}

/// `BOOKSTORE_SHOP_DAY_USERS=1000000` makes it as big as a shop may be (then with a release build, see README).
#[test]
fn the_same_day_on_top_of_a_big_shop_adds_up() {
    let users: u64 = std::env::var("BOOKSTORE_SHOP_DAY_USERS").map_or(3_000, |text| text.parse().unwrap());
    let generate = format!("users={users},stores=100,books={},orders={users}", (users / 100).max(200));
    // Orders at rest leave memory while the day goes on.
    let flags = [FLAGS, &["--idle-after", "1s"]].concat();
    let server = Server::start_on(&flags, |data| {
        let cheap = ["--argon2-memory-kib", "64", "--argon2-iterations", "1"];
        bookstore(&[&"load", &"--generate", &generate, &cheap[0], &cheap[1], &cheap[2], &cheap[3], &data]).ok();
        bookstore(&[&"check", &data]).ok().says(&format!("recovered {users} accounts"));
    });
    let day = whole_day(Day::begin(server));
    // Who was there before has his orders still: of the first hundred users each tenth.
    for number in (0..100).step_by(10) {
        let user = User { id: format!("user{number}"), password: "password".to_owned(), token: String::new() };
        let listed = day.client.query_buyer_all_orders(&user).orders().len();
        assert_eq!(day.client.order_count(&user.id), listed as i64);
    }
    let mut server = day.server;
    assert!(server.sigterm().success());
    let checked = bookstore(&[&"check", &server.data_dir()]).ok().says("sound");
    assert!(!checked.stdout.contains(" 0 orders at rest"), "{}", checked.stdout);
}

fn whole_day(mut day: Day) -> Day {
    // Each hour ends within the time-to-live of its orders, so the ledger knows who expires.
    day.place(24);
    day.settle_pending();
    day.ship();
    day.crash();
    day.confirm();
    day.let_expire();
    day.audit();

    day.place(24);
    day.settle_pending();
    day.close_and_open();
    day.ship();
    day.let_expire();
    day.audit();
    day.crash();
    day.confirm();
    day.audit();

    day.place(24);
    day.crash();
    day.let_expire();
    day.ship();
    day.confirm();
    day.audit();
    day.close_and_open();
    day.audit();
    day
}
