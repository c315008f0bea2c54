//! A seller and a buyer beside the load, who do what a load of ready-made requests cannot: prices change, books leave
//! the shelf and come back, and stores close. Each waits for the other, so they know to the fen and to the copy what must come of it, and
//! the audit compares it exactly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Failure;
use crate::api::Api;
use crate::audit::AuditReport;
use crate::client::Target;
use crate::scenario::{Random, User, run_prefix};

/// Between two steps: now and then, so that the load is measured and not this.
const PAUSE: Duration = Duration::from_millis(20);
const BOOKS: usize = 3;
const COPIES: i64 = 1_000_000;
const FUNDS_FEN: i64 = 1_000_000_000;
const PRICE_MAX_FEN: u64 = 1_000;

struct Book {
    id: String,
    price_fen: i64,
    stock: i64,
    listed: bool,
}

/// A store, its seller and its only buyer.
pub(crate) struct Market {
    api: Api,
    random: Random,
    store: String,
    seller: User,
    buyer: User,
    books: Vec<Book>,
    /// What the buyer has paid so far.
    paid_fen: i64,
    prices_set: u64,
    delisted: u64,
    closed: u64,
    /// Answers that cannot be right.
    wrong: Vec<String>,
}

/// A market that is open; or why there is none, which the audit tells.
pub(crate) struct Open {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<Market, Failure>>,
}

impl Market {
    /// Opens a market until it is closed.
    pub(crate) async fn open(target: &Target, seed: u64) -> Open {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let market = Market::set_up(target.clone(), seed).await;
        let task = tokio::spawn(async move {
            let mut market = market?;
            // One step at least, however short the run.
            loop {
                market.step().await?;
                if stopped.load(Ordering::Relaxed) {
                    return Ok(market);
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Open { stop, task }
    }

    /// Registers everybody and fills the shelf.
    async fn set_up(target: Target, seed: u64) -> Result<Market, Failure> {
        let prefix = run_prefix();
        let user = |kind: &str| User::new(format!("{prefix}-market-{kind}"), format!("password of the {kind}"));
        let mut market = Market {
            api: Api::patient(target),
            random: Random::new(seed),
            store: format!("{prefix}-market"),
            seller: user("seller"),
            buyer: user("buyer"),
            books: Vec::new(),
            paid_fen: 0,
            prices_set: 0,
            delisted: 0,
            closed: 0,
            wrong: Vec::new(),
        };
        market.api.enrol(&mut market.seller).await?;
        market.api.enrol(&mut market.buyer).await?;
        market.api.add_funds(&market.buyer, FUNDS_FEN).await?;
        market.api.create_store(&market.seller, &market.store).await?;
        for number in 0..BOOKS {
            let id = format!("market-book-{number}");
            let info = json!({"id": id, "title": format!("The title of {id}"), "price": 100});
            market.api.add_book(&market.seller, &market.store, &info, COPIES).await?;
            market.books.push(Book { id, price_fen: 100, stock: COPIES, listed: true });
        }
        Ok(market)
    }

    /// Whatever a book is, an order of it must come out as that.
    async fn step(&mut self) -> Result<(), Failure> {
        if self.random.index(10) == 0 {
            self.open_and_close().await?;
        }
        let place = self.random.index(BOOKS);
        match self.random.index(3) {
            0 => {
                let price = self.random.below(PRICE_MAX_FEN).cast_signed();
                self.change(place, "/seller/set_price", Some(price)).await?;
                (self.books[place].price_fen, self.prices_set) = (price, self.prices_set + 1);
            }
            1 => {
                let listed = !self.books[place].listed;
                self.change(place, if listed { "/seller/relist_book" } else { "/seller/delist_book" }, None).await?;
                self.books[place].listed = listed;
                self.delisted += u64::from(!listed);
            }
            _ => {}
        }
        self.order(place).await
    }

    /// Another store, which is closed as soon as its one order is over. From then on it takes no order.
    async fn open_and_close(&mut self) -> Result<(), Failure> {
        let store = format!("{}-{}", self.store, self.closed);
        let info = json!({"id": "b", "title": "A title", "price": 1});
        self.api.create_store(&self.seller, &store).await?;
        self.api.add_book(&self.seller, &store, &info, 1).await?;
        let new_order = json!({"user_id": self.buyer.id, "store_id": store, "books": [{"id": "b", "count": 1}]});
        let close = json!({"user_id": self.seller.id, "store_id": store});
        let (buyer, seller) = (self.buyer.token.clone(), self.seller.token.clone());
        let placed = self.api.call("/buyer/new_order", Some(&buyer), &new_order).await?;
        self.expect("/seller/close_store", &seller, &close, 530).await?;
        let cancel = json!({
            "user_id": self.buyer.id, "password": self.buyer.password, "order_id": placed["order_id"],
        });
        self.api.call("/buyer/cancel_order", None, &cancel).await?;
        self.expect("/seller/close_store", &seller, &close, 200).await?;
        self.expect("/buyer/new_order", &buyer, &new_order, 513).await?;
        self.expect("/seller/create_store", &seller, &close, 514).await?;
        self.closed += 1;
        Ok(())
    }

    async fn expect(&mut self, path: &str, token: &str, body: &Value, expected: u16) -> Result<(), Failure> {
        let (status, answer) = self.api.ask(path, Some(token), body).await?;
        if status != expected {
            self.wrong.push(format!("{path}: {answer}, must be {expected}"));
        }
        Ok(())
    }

    async fn change(&mut self, place: usize, path: &str, price: Option<i64>) -> Result<(), Failure> {
        let mut body = json!({"user_id": self.seller.id, "store_id": self.store, "book_id": self.books[place].id});
        if let Some(price) = price {
            body["price"] = json!(price);
        }
        self.api.call(path, Some(&self.seller.token), &body).await.map(drop)
    }

    async fn order(&mut self, place: usize) -> Result<(), Failure> {
        let count = 1 + self.random.below(3).cast_signed();
        let book = &mut self.books[place];
        let lines = json!([{"id": book.id, "count": count}]);
        let body = json!({"user_id": self.buyer.id, "store_id": self.store, "books": lines});
        let token = Some(self.buyer.token.as_str());
        let (status, answer) = self.api.ask("/buyer/new_order", token, &body).await?;
        match (status, book.listed) {
            (200, true) => {}
            (515, false) => return Ok(()),
            _ => {
                self.wrong.push(format!(
                    "{} is {}for sale, and an order: {answer}",
                    book.id,
                    if book.listed { "" } else { "not " }
                ));
                return Ok(());
            }
        }
        book.stock -= count;
        let order = &answer["order_id"];
        if self.random.index(4) == 0 {
            let body = json!({"user_id": self.buyer.id, "password": self.buyer.password, "order_id": order});
            // It comes back, also to a book that is not for sale by then.
            if self.random.index(2) == 0 {
                book.listed = false;
                self.delisted += 1;
                self.change(place, "/seller/delist_book", None).await?;
            }
            self.api.call("/buyer/cancel_order", None, &body).await?;
            self.books[place].stock += count;
            return Ok(());
        }
        // At the price of then, whatever it costs when it is paid.
        let owed = book.price_fen * count;
        if self.random.index(2) == 0 {
            book.price_fen += 1;
            let price = book.price_fen;
            self.prices_set += 1;
            self.change(place, "/seller/set_price", Some(price)).await?;
        }
        let body = json!({"user_id": self.buyer.id, "password": self.buyer.password, "order_id": order});
        self.api.call("/buyer/payment", None, &body).await?;
        self.paid_fen += owed;
        Ok(())
    }

    /// Compares stock, prices, what is for sale, and money with what must be.
    async fn audit(&mut self, report: &mut AuditReport) -> Result<(), Failure> {
        for book in &self.books {
            let body = json!({"store_id": self.store, "book_id": book.id});
            let found = self.api.call("/buyer/query_book", None, &body).await?;
            let is = json!([found["book_info"]["price"], found["stock_level"], found["is_listed"]]);
            let must_be = json!([book.price_fen, book.stock, book.listed]);
            report.check(is == must_be, || format!("price, stock and sale of {}: {is}, must be {must_be}", book.id));
        }
        for (user, must_be) in [(&self.buyer, FUNDS_FEN - self.paid_fen), (&self.seller, self.paid_fen)] {
            let is = self.api.balance(user).await?;
            report.check(is == must_be, || format!("balance of {}: {is} fen, must be {must_be}", user.id));
        }
        report.check(self.wrong.is_empty(), || self.wrong.join("; "));
        // The closed ones are there for who asks, with the copy that came back.
        for number in 0..self.closed {
            let body = json!({"store_id": format!("{}-{number}", self.store), "book_id": "b"});
            let found = self.api.call("/seller/get_stock_level", None, &body).await?;
            report.check(found["stock_level"] == 1, || format!("stock of a closed store: {found}"));
        }
        (report.prices_set, report.delisted, report.closed) = (self.prices_set, self.delisted, self.closed);
        Ok(())
    }
}

impl Open {
    /// Lets the step under way come to its end, and compares.
    pub(crate) async fn close(self, report: &mut AuditReport) {
        self.stop.store(true, Ordering::Relaxed);
        let audited = match self.task.await {
            Ok(Ok(mut market)) => market.audit(report).await,
            Ok(Err(failed)) => Err(failed),
            Err(error) => Err(error.into()),
        };
        report.check(audited.is_ok(), || {
            format!("the market beside the load: {}", audited.err().map_or_else(String::new, |why| why.to_string()))
        });
    }
}
