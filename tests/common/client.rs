//! A client of the service: one method a route. Every answer is held against the common rules.

use std::cell::RefCell;
use std::io;

use serde_json::{Value, json};

use super::answer::Answer;
use super::http::{Conn, Response, request};

/// A user as a client knows him. The token is empty until he has logged in.
#[derive(Clone, Debug)]
pub struct User {
    pub id: String,
    pub password: String,
    pub token: String,
}

impl User {
    pub fn new(id: &str) -> User {
        User { id: id.to_owned(), password: format!("pw of {id}"), token: String::new() }
    }

    pub fn with_password(&self, password: &str) -> User {
        User { password: password.to_owned(), ..self.clone() }
    }

    pub fn with_token(&self, token: &str) -> User {
        User { token: token.to_owned(), ..self.clone() }
    }

    /// The same password and token under another id.
    pub fn with_id(&self, id: &str) -> User {
        User { id: id.to_owned(), ..self.clone() }
    }
}

pub struct Client {
    port: u16,
    conn: RefCell<Option<Conn>>,
    keep_alive: bool,
    key: Option<String>,
}

impl Client {
    pub fn new(port: u16) -> Client {
        Client { port, conn: RefCell::new(None), keep_alive: true, key: None }
    }

    /// A client of the same server with a connection of its own.
    pub fn another(&self) -> Client {
        Client::new(self.port)
    }

    /// A client of the same server that sends this `Idempotency-Key` with every POST.
    pub fn with_key(&self, key: &str) -> Client {
        Client { key: Some(key.to_owned()), ..self.another() }
    }

    /// From now on each request opens a connection of its own, as the old clients do.
    pub fn one_connection_per_request(mut self) -> Client {
        self.keep_alive = false;
        self
    }

    /// Sends one request and reads its answer. An error means that nothing is known of the outcome.
    pub fn send(&self, bytes: &[u8]) -> io::Result<Response> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => Conn::open(self.port)?,
        };
        conn.send(bytes)?;
        let response = conn.response()?;
        if self.keep_alive && !response.closes() {
            self.conn.replace(Some(conn));
        }
        Ok(response)
    }

    pub fn try_post(&self, path: &str, token: Option<&str>, body: &Value) -> io::Result<Answer> {
        let token = token.map(|token| ("token", token));
        let key = self.key.as_deref().map(|key| ("Idempotency-Key", key));
        let headers: Vec<(&str, &str)> = token.into_iter().chain(key).collect();
        let response = self.send(&request("POST", path, &headers, body.to_string().as_bytes()))?;
        Ok(Answer::read(path, &response).unwrap_or_else(|why| panic!("{why}")))
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.try_post(path, None, &body).unwrap()
    }

    #[track_caller]
    pub fn post_with_token(&self, token: &str, path: &str, body: Value) -> Answer {
        self.try_post(path, Some(token), &body).unwrap()
    }

    /// Any bytes as the body.
    #[track_caller]
    pub fn post_bytes(&self, path: &str, body: &[u8]) -> Answer {
        let response = self.send(&request("POST", path, &[], body)).unwrap();
        Answer::read(path, &response).unwrap_or_else(|why| panic!("{why}"))
    }

    pub fn get(&self, path: &str) -> Response {
        self.send(&request("GET", path, &[], b"")).unwrap()
    }
}

/// The routes of /auth.
impl Client {
    pub fn register(&self, user: &User) -> Answer {
        self.post("/auth/register", json!({"user_id": user.id, "password": user.password}))
    }

    pub fn unregister(&self, user: &User) -> Answer {
        self.post("/auth/unregister", json!({"user_id": user.id, "password": user.password}))
    }

    pub fn login(&self, user: &User) -> Answer {
        let body = json!({"user_id": user.id, "password": user.password, "terminal": "my terminal"});
        self.post("/auth/login", body)
    }

    pub fn change_password(&self, user: &User, new: &str) -> Answer {
        let body = json!({"user_id": user.id, "oldPassword": user.password, "newPassword": new});
        self.post("/auth/password", body)
    }

    pub fn logout(&self, user: &User) -> Answer {
        self.post_with_token(&user.token, "/auth/logout", json!({"user_id": user.id}))
    }
}

/// The routes of /seller.
impl Client {
    pub fn create_store(&self, user: &User, store: &str) -> Answer {
        let body = json!({"user_id": user.id, "store_id": store});
        self.post_with_token(&user.token, "/seller/create_store", body)
    }

    pub fn close_store(&self, user: &User, store: &str) -> Answer {
        let body = json!({"user_id": user.id, "store_id": store});
        self.post_with_token(&user.token, "/seller/close_store", body)
    }

    pub fn add_book(&self, user: &User, store: &str, book_info: Value, stock: i64) -> Answer {
        let body = json!({"user_id": user.id, "store_id": store, "book_info": book_info, "stock_level": stock});
        self.post_with_token(&user.token, "/seller/add_book", body)
    }

    pub fn try_add_stock_level(&self, user: &User, store: &str, book: &str, add: i64) -> io::Result<Answer> {
        let body = json!({"user_id": user.id, "store_id": store, "book_id": book, "add_stock_level": add});
        self.try_post("/seller/add_stock_level", Some(&user.token), &body)
    }

    #[track_caller]
    pub fn add_stock_level(&self, user: &User, store: &str, book: &str, add: i64) -> Answer {
        self.try_add_stock_level(user, store, book, add).unwrap()
    }

    pub fn set_price(&self, user: &User, store: &str, book: &str, price: i64) -> Answer {
        let body = json!({"user_id": user.id, "store_id": store, "book_id": book, "price": price});
        self.post_with_token(&user.token, "/seller/set_price", body)
    }

    pub fn delist_book(&self, user: &User, store: &str, book: &str) -> Answer {
        let body = json!({"user_id": user.id, "store_id": store, "book_id": book});
        self.post_with_token(&user.token, "/seller/delist_book", body)
    }

    pub fn relist_book(&self, user: &User, store: &str, book: &str) -> Answer {
        let body = json!({"user_id": user.id, "store_id": store, "book_id": book});
        self.post_with_token(&user.token, "/seller/relist_book", body)
    }

    pub fn query_book(&self, store: &str, book: &str) -> Answer {
        self.post("/buyer/query_book", json!({"store_id": store, "book_id": book}))
    }

    pub fn ship(&self, user: &User, store: &str, order: &str) -> Answer {
        let body = json!({"user_id": user.id, "store_id": store, "order_id": order});
        self.post_with_token(&user.token, "/seller/ship", body)
    }

    pub fn query_one_store_orders(&self, user: &User, store: &str) -> Answer {
        let body = json!({"user_id": user.id, "store_id": store, "password": user.password});
        self.post("/seller/query_one_store_orders", body)
    }

    pub fn query_all_store_orders(&self, user: &User) -> Answer {
        let body = json!({"user_id": user.id, "password": user.password});
        self.post("/seller/query_all_store_orders", body)
    }

    /// An order of a store of the user.
    #[track_caller]
    pub fn seller_order(&self, user: &User, order: &str) -> Answer {
        self.try_on_order("/seller/query_order", user, order).unwrap()
    }

    pub fn get_stock_level(&self, store: &str, book: &str) -> Answer {
        self.try_stock(None, store, book).unwrap()
    }

    /// Asked as the user, on the buyers' route, or as nobody, on the sellers'.
    pub fn try_stock(&self, user: Option<&User>, store: &str, book: &str) -> io::Result<Answer> {
        let mut body = json!({"store_id": store, "book_id": book});
        let Some(user) = user else {
            return self.try_post("/seller/get_stock_level", None, &body);
        };
        body["user_id"] = json!(user.id);
        self.try_post("/buyer/check_stock_level", None, &body)
    }
}

/// The routes of /buyer.
impl Client {
    pub fn try_new_order(&self, user: &User, store: &str, lines: &[(&str, i64)]) -> io::Result<Answer> {
        let books: Vec<Value> = lines.iter().map(|(id, count)| json!({"id": id, "count": count})).collect();
        let body = json!({"user_id": user.id, "store_id": store, "books": books});
        self.try_post("/buyer/new_order", Some(&user.token), &body)
    }

    #[track_caller]
    pub fn new_order(&self, user: &User, store: &str, lines: &[(&str, i64)]) -> Answer {
        self.try_new_order(user, store, lines).unwrap()
    }

    /// A route that takes user and password.
    pub fn try_on_user(&self, path: &str, user: &User) -> io::Result<Answer> {
        self.try_post(path, None, &json!({"user_id": user.id, "password": user.password}))
    }

    /// A route that takes user, order and password.
    pub fn try_on_order(&self, path: &str, user: &User, order: &str) -> io::Result<Answer> {
        let body = json!({"user_id": user.id, "order_id": order, "password": user.password});
        self.try_post(path, None, &body)
    }

    #[track_caller]
    pub fn payment(&self, user: &User, order: &str) -> Answer {
        self.try_on_order("/buyer/payment", user, order).unwrap()
    }

    #[track_caller]
    pub fn pay_to_platform(&self, user: &User, order: &str) -> Answer {
        self.try_on_order("/buyer/pay_to_platform", user, order).unwrap()
    }

    #[track_caller]
    pub fn confirm(&self, user: &User, order: &str) -> Answer {
        self.try_on_order("/buyer/confirm_receipt_and_pay_toseller", user, order).unwrap()
    }

    #[track_caller]
    pub fn cancel(&self, user: &User, order: &str) -> Answer {
        self.try_on_order("/buyer/cancel_order", user, order).unwrap()
    }

    #[track_caller]
    pub fn refund(&self, user: &User, order: &str) -> Answer {
        self.try_on_order("/buyer/refund_order", user, order).unwrap()
    }

    #[track_caller]
    pub fn order_status(&self, user: &User, order: &str) -> Answer {
        self.try_on_order("/buyer/query_order_status", user, order).unwrap()
    }

    #[track_caller]
    pub fn extend_receipt(&self, user: &User, order: &str) -> Answer {
        self.try_on_order("/buyer/extend_receipt", user, order).unwrap()
    }

    #[track_caller]
    pub fn buyer_order(&self, user: &User, order: &str) -> Answer {
        self.try_on_order("/buyer/query_order", user, order).unwrap()
    }

    pub fn try_add_funds(&self, user: &User, value: i64) -> io::Result<Answer> {
        let body = json!({"user_id": user.id, "password": user.password, "add_value": value});
        self.try_post("/buyer/add_funds", None, &body)
    }

    #[track_caller]
    pub fn add_funds(&self, user: &User, value: i64) -> Answer {
        self.try_add_funds(user, value).unwrap()
    }

    pub fn query_buyer_all_orders(&self, user: &User) -> Answer {
        let body = json!({"user_id": user.id, "password": user.password});
        self.post("/buyer/query_buyer_all_orders", body)
    }

    /// No body and no Content-Type, as the old client sends it.
    pub fn auto_cancel(&self) -> Answer {
        self.post_bytes("/buyer/auto_cancel_expired_orders", b"")
    }

    pub fn check_stock_level(&self, user: &str, store: &str, book: &str) -> Answer {
        let body = json!({"user_id": user, "store_id": store, "book_id": book});
        self.post("/buyer/check_stock_level", body)
    }

    pub fn check_order_count(&self, user: &str) -> Answer {
        self.post("/buyer/check_order_count", json!({"user_id": user}))
    }

    pub fn query_balance(&self, user: &User) -> Answer {
        let body = json!({"user_id": user.id, "password": user.password});
        self.post("/buyer/query_balance", body)
    }
}
