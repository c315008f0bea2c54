//! A small shop to test in: a seller with a store of two books and a buyer with money.

use serde_json::{Value, json};

use super::client::{Client, User};
use super::server::Server;

pub const STORE: &str = "store";
/// Price and stock of the two books, in fen and copies.
pub const CHEAP: &str = "cheap";
pub const CHEAP_PRICE: i64 = 100;
pub const DEAR: &str = "dear";
pub const DEAR_PRICE: i64 = 250;
pub const STOCK: i64 = 10;
pub const FUNDS: i64 = 100_000;
/// An id as ours look, of no order.
pub const NO_ORDER: &str = "0198c0de-0000-7000-8000-000000000000";

/// The least that a book must say.
pub fn book(id: &str, price: i64) -> Value {
    json!({"id": id, "title": format!("title of {id}"), "price": price})
}

pub struct Shop {
    pub server: Server,
    pub client: Client,
    pub seller: User,
    pub buyer: User,
}

impl Shop {
    pub fn open(flags: &[&str]) -> Shop {
        let server = Server::start(flags);
        let client = server.client();
        let seller = client.new_user("seller");
        client.create_store(&seller, STORE).ok();
        client.add_book(&seller, STORE, book(CHEAP, CHEAP_PRICE), STOCK).ok();
        client.add_book(&seller, STORE, book(DEAR, DEAR_PRICE), STOCK).ok();
        let buyer = client.buyer_with_funds("buyer", FUNDS);
        Shop { server, client, seller, buyer }
    }

    /// The buyer orders these books.
    #[track_caller]
    pub fn order(&self, lines: &[(&str, i64)]) -> String {
        self.client.order(&self.buyer, STORE, lines)
    }

    /// A new order of one cheap book, brought into the state; paid to the seller.
    #[track_caller]
    pub fn order_in(&self, state: &str) -> String {
        let order = self.order(&[(CHEAP, 1)]);
        match state {
            "pending" => {}
            "canceled" => {
                self.client.cancel(&self.buyer, &order).ok();
            }
            _ => {
                self.client.payment(&self.buyer, &order).ok();
                if state == "shipped" {
                    self.client.ship(&self.seller, STORE, &order).ok();
                } else if state == "completed" {
                    self.client.confirm(&self.buyer, &order).ok();
                } else {
                    assert_eq!(state, "paid");
                }
            }
        }
        assert_eq!(self.status(&order), state);
        order
    }

    #[track_caller]
    pub fn status(&self, order: &str) -> String {
        self.client.order_status(&self.buyer, order).ok().text("order_status")
    }

    #[track_caller]
    pub fn stock(&self, book: &str) -> i64 {
        self.client.stock(STORE, book)
    }

    #[track_caller]
    pub fn balances(&self) -> (i64, i64) {
        (self.client.balance(&self.buyer), self.client.balance(&self.seller))
    }

    /// Ends the process with kill -9 and starts it again on what it left.
    pub fn crash(&mut self) {
        self.server.kill9();
        self.server.restart();
        self.client = self.server.client();
    }

    /// Ends the process in good order and starts it again.
    pub fn reopen(&mut self) {
        let status = self.server.sigterm();
        assert!(status.success(), "SIGTERM ended the server with {status}");
        self.server.restart();
        self.client = self.server.client();
    }
}

/// What most tests need done and do not test themselves.
impl Client {
    /// Registers the user and logs him in.
    #[track_caller]
    pub fn new_user(&self, id: &str) -> User {
        let user = User::new(id);
        self.register(&user).ok();
        self.logged_in(&user)
    }

    #[track_caller]
    pub fn logged_in(&self, user: &User) -> User {
        user.with_token(&self.login(user).ok().text("token"))
    }

    #[track_caller]
    pub fn buyer_with_funds(&self, id: &str, funds: i64) -> User {
        let user = self.new_user(id);
        self.add_funds(&user, funds).ok();
        user
    }

    #[track_caller]
    pub fn order(&self, user: &User, store: &str, lines: &[(&str, i64)]) -> String {
        self.new_order(user, store, lines).ok().text("order_id")
    }

    #[track_caller]
    pub fn balance(&self, user: &User) -> i64 {
        self.query_balance(user).ok().number("balance")
    }

    #[track_caller]
    pub fn stock(&self, store: &str, book: &str) -> i64 {
        self.get_stock_level(store, book).ok().number("stock_level")
    }

    #[track_caller]
    pub fn order_count(&self, user: &str) -> i64 {
        self.check_order_count(user).ok().number("order_count")
    }
}
