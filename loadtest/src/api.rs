//! The calls of set-up and audit: one at a time, each answer looked at.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Failure;
use crate::args::ConnectionMode;
use crate::client::{self, Answer, Client, Headers, Target};
use crate::counts::Outcome;
use crate::drive::judge_answer;
use crate::scenario::{OrderId, Store, User};

/// How long a server may have too much to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// Until it is asked again.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);
/// The contract's route that tells the state of one order.
pub(crate) const ORDER_STATUS: &str = "/buyer/query_order_status";

/// What a server says of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OrderTold {
    State(String),
    /// Code and message: it has no such order, or did not want to tell.
    Refusal(String),
    /// It does not know the route, and answered this status.
    NoRoute(u16),
}

/// The JSON of an answer whose body says the code that its head says.
fn code_and_json(path: &str, answer: &Answer<'_>) -> Result<Value, Failure> {
    let shown = String::from_utf8_lossy(answer.body);
    let value: Value = serde_json::from_slice(answer.body).map_err(|error| format!("{path}: {error}: {shown}"))?;
    if value["code"] != answer.status {
        return Err(format!("{path}: status {}, but the body says {shown}", answer.status).into());
    }
    Ok(value)
}

/// Calls of which each must succeed: set-up and audit.
pub(crate) struct Api {
    target: Target,
    client: Client,
    /// How long a call is made again that was refused with 503, by which nothing was done.
    patience: Duration,
}

impl Api {
    pub(crate) fn new(target: Target) -> Self {
        let client = Client::new(target.address, ConnectionMode::Kept);
        Self { target, client, patience: Duration::ZERO }
    }

    /// One for the middle of a load, when a server may have too much to do.
    pub(crate) fn patient(target: Target) -> Self {
        Self { patience: PATIENCE, ..Self::new(target) }
    }

    /// Posts `body` and gives the answer's JSON; anything but 200 in status and body is an error.
    pub(crate) async fn call(&mut self, path: &str, token: Option<&str>, body: &Value) -> Result<Value, Failure> {
        match self.ask(path, token, body).await? {
            (200, value) => Ok(value),
            (status, value) => Err(format!("{path}: status {status}: {value}").into()),
        }
    }

    /// Posts `body` and gives status and JSON of the answer; that the body says another code is an error.
    pub(crate) async fn ask(&mut self, path: &str, token: Option<&str>, body: &Value) -> Result<(u16, Value), Failure> {
        let end = Instant::now() + self.patience;
        loop {
            let answer = self.post(path, token, body).await?;
            let is_refused = matches!(judge_answer(&answer), (Outcome::Refused(503), _));
            if !is_refused || Instant::now() >= end {
                return Ok((answer.status, code_and_json(path, &answer)?));
            }
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }

    /// The state of a buyer's order.
    pub(crate) async fn order_status(&mut self, buyer: &User, order_id: &OrderId) -> Result<OrderTold, Failure> {
        let order_id = String::from_utf8_lossy(order_id);
        let body = json!({"user_id": buyer.id, "password": buyer.password, "order_id": order_id});
        let answer = self.post(ORDER_STATUS, None, &body).await?;
        // From somebody who does not know the route; in whatever words.
        if [404, 405, 501].contains(&answer.status) {
            return Ok(OrderTold::NoRoute(answer.status));
        }
        let value = code_and_json(ORDER_STATUS, &answer)?;
        let told = match answer.status {
            200 => value["order_status"].as_str().map(|state| OrderTold::State(state.to_owned())),
            status => value["message"].as_str().map(|message| OrderTold::Refusal(format!("{status} {message}"))),
        };
        told.ok_or_else(|| format!("{ORDER_STATUS} answered {value}").into())
    }

    async fn post(&mut self, path: &str, token: Option<&str>, body: &Value) -> Result<Answer<'_>, Failure> {
        let headers = Headers { token, key: None };
        let request = client::post(&self.target, ConnectionMode::Kept, path, headers, body.to_string().as_bytes());
        self.client.exchange(&request).await.map_err(|error| format!("{path}: {error}").into())
    }

    /// Registers a user and logs him in.
    pub(crate) async fn enrol(&mut self, user: &mut User) -> Result<(), Failure> {
        self.call("/auth/register", None, &json!({"user_id": user.id, "password": user.password})).await?;
        self.log_in(user).await
    }

    /// Opens a store.
    pub(crate) async fn create_store(&mut self, owner: &User, store_id: &str) -> Result<(), Failure> {
        let body = json!({"user_id": owner.id, "store_id": store_id});
        self.call("/seller/create_store", Some(&owner.token), &body).await.map(drop)
    }

    /// Lists a book.
    pub(crate) async fn add_book(
        &mut self,
        owner: &User,
        store_id: &str,
        info: &Value,
        stock: i64,
    ) -> Result<(), Failure> {
        let body = json!({"user_id": owner.id, "store_id": store_id, "book_info": info, "stock_level": stock});
        self.call("/seller/add_book", Some(&owner.token), &body).await.map(drop)
    }

    /// Logs a user in and keeps his token.
    pub(crate) async fn log_in(&mut self, user: &mut User) -> Result<(), Failure> {
        let body = json!({"user_id": user.id, "password": user.password, "terminal": "loadtest"});
        let answer = self.call("/auth/login", None, &body).await?;
        let token = answer["token"].as_str().ok_or("login answered without a token")?;
        if token.bytes().any(|byte| byte.is_ascii_control()) {
            return Err("login answered a token that no header can carry".into());
        }
        user.token = token.to_owned();
        Ok(())
    }

    /// Puts money in.
    pub(crate) async fn add_funds(&mut self, user: &User, fen: i64) -> Result<(), Failure> {
        let body = json!({"user_id": user.id, "password": user.password, "add_value": fen});
        self.call("/buyer/add_funds", None, &body).await.map(drop)
    }

    /// What a user has, in fen.
    pub(crate) async fn balance(&mut self, user: &User) -> Result<i64, Failure> {
        let body = json!({"user_id": user.id, "password": user.password});
        self.number("/buyer/query_balance", &body, "balance").await
    }

    /// Copies of a book on the shelf.
    pub(crate) async fn stock(&mut self, store: &Store, book_id: &str) -> Result<i64, Failure> {
        let body = json!({"user_id": store.owner.id, "store_id": store.id, "book_id": book_id});
        self.number("/buyer/check_stock_level", &body, "stock_level").await
    }

    async fn number(&mut self, path: &str, body: &Value, field: &str) -> Result<i64, Failure> {
        let answer = self.call(path, None, body).await?;
        answer[field].as_i64().ok_or_else(|| format!("{path} answered {answer}").into())
    }

    /// Gets a text page, such as `/metrics`.
    pub(crate) async fn page(&mut self, path: &str) -> Result<String, Failure> {
        let request = client::get(&self.target, ConnectionMode::Kept, path);
        let answer = self.client.exchange(&request).await.map_err(|error| format!("{path}: {error}"))?;
        if answer.status != 200 {
            return Err(format!("{path}: status {}", answer.status).into());
        }
        Ok(String::from_utf8_lossy(answer.body).into_owned())
    }
}
