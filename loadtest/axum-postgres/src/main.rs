//! The orders of the bookstore contract as most people would write them: axum, a pool of PostgreSQL connections, a
//! transaction for each request, ordinary statements. `loadtest compare` measures it.
//!
//! It has the routes that a load with its set-up and its audit needs, and no others. What it leaves out is to its
//! advantage: passwords are stored and compared as they are, there are no idempotency keys, and an order has no deadline.
//!
//! `axum-postgres DATABASE [CONNECTIONS]`: DATABASE as libpq takes it (`host=/run/postgresql user=postgres`).

#![forbid(unsafe_code)]

mod orders;
mod shop;

use axum::Json;
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use serde_json::{Map, Value, json};
use tokio_postgres::NoTls;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections to the database if the command line does not say.
const CONNECTIONS: usize = 8;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let database = args.next().ok_or("usage: axum-postgres DATABASE [CONNECTIONS]")?;
    let connections = args.next().map_or(Ok(CONNECTIONS), |number| number.parse())?;
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(database.parse()?, NoTls, config);
    let pool = Pool::builder(manager).max_size(connections).build()?;
    pool.get().await?.batch_execute(include_str!("../schema.sql")).await?;

    let routes = Router::new()
        .route("/auth/register", post(shop::register))
        .route("/auth/login", post(shop::login))
        .route("/seller/create_store", post(shop::create_store))
        .route("/seller/add_book", post(shop::add_book))
        .route("/buyer/add_funds", post(shop::add_funds))
        .route("/buyer/query_balance", post(shop::query_balance))
        .route("/buyer/query_order_status", post(shop::query_order_status))
        .route("/buyer/check_stock_level", post(shop::check_stock_level))
        .route("/buyer/new_order", post(orders::new_order))
        .route("/buyer/payment", post(orders::payment))
        .with_state(pool);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(
        axum::serve::ListenerExt::tap_io(listener, |stream| {
            // Without it answers would wait for acknowledgements; a refusal means that the client has gone.
            let _ = stream.set_nodelay(true);
        }),
        routes,
    )
    .await?;
    Ok(())
}

/// An answer that is not 200.
pub struct Refusal {
    code: u16,
    message: String,
}

/// What a route gives: its own fields of the answer.
pub type Answer = Result<Done, Refusal>;

/// 200, with these fields beside code and message.
pub struct Done(Map<String, Value>);

impl Done {
    /// No more than the code and the message.
    pub fn plain() -> Answer {
        Ok(Self(Map::new()))
    }

    /// With one field.
    pub fn with(field: &str, value: impl Into<Value>) -> Answer {
        Ok(Self(Map::from_iter([(field.to_owned(), value.into())])))
    }
}

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        let mut body = self.0;
        body.insert("code".to_owned(), 200.into());
        body.insert("message".to_owned(), "ok".into());
        Json(body).into_response()
    }
}

/// Refuses with the contract's code.
pub fn refuse<T>(code: u16, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into() })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({"code": self.code, "message": self.message}))).into_response()
    }
}

impl From<tokio_postgres::Error> for Refusal {
    fn from(error: tokio_postgres::Error) -> Self {
        Self { code: 530, message: error.to_string() }
    }
}

/// A connection of the pool, waited for if all are busy.
pub async fn connect(pool: &Pool) -> Result<Object, Refusal> {
    pool.get().await.map_err(|error| Refusal { code: 503, message: error.to_string() })
}
