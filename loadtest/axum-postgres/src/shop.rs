//! What must be there before somebody can order, and what an audit asks for.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use deadpool_postgres::Pool;
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::{Answer, Done, Refusal, connect, refuse};

#[derive(Deserialize)]
pub struct User {
    user_id: String,
    password: String,
}

/// A new account, without money.
pub async fn register(State(pool): State<Pool>, Json(user): Json<User>) -> Answer {
    let sql = "INSERT INTO users (id, password) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    match execute(&pool, sql, &[&user.user_id, &user.password]).await? {
        0 => refuse(512, format!("exist user id {}", user.user_id)),
        _ => Done::plain(),
    }
}

/// A token, until the next one.
pub async fn login(State(pool): State<Pool>, Json(user): Json<User>) -> Answer {
    let token = Uuid::new_v4().to_string();
    let sql = "UPDATE users SET token = $3 WHERE id = $1 AND password = $2";
    match execute(&pool, sql, &[&user.user_id, &user.password, &token]).await? {
        0 => refuse(401, "authorization fail"),
        _ => Done::with("token", token),
    }
}

#[derive(Deserialize)]
pub struct Store {
    user_id: String,
    store_id: String,
}

/// An empty store.
pub async fn create_store(State(pool): State<Pool>, headers: HeaderMap, Json(store): Json<Store>) -> Answer {
    check_token(&pool, &headers, &store.user_id).await?;
    let sql = "INSERT INTO stores (id, owner) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    match execute(&pool, sql, &[&store.store_id, &store.user_id]).await? {
        0 => refuse(514, format!("exist store id {}", store.store_id)),
        _ => Done::plain(),
    }
}

#[derive(Deserialize)]
pub struct Book {
    user_id: String,
    store_id: String,
    book_info: Value,
    #[serde(default)]
    stock_level: i64,
}

/// A book on the shelf of one's own store.
pub async fn add_book(State(pool): State<Pool>, headers: HeaderMap, Json(book): Json<Book>) -> Answer {
    check_token(&pool, &headers, &book.user_id).await?;
    let (Some(id), Some(price)) = (book.book_info["id"].as_str(), book.book_info["price"].as_i64()) else {
        return refuse(530, "invalid parameter book_info");
    };
    if price < 0 || book.stock_level < 0 {
        return refuse(530, "invalid parameter price or stock_level");
    }
    let owner = find(&pool, "SELECT owner FROM stores WHERE id = $1", &[&book.store_id]).await?;
    match owner {
        None => return refuse(513, format!("non exist store id {}", book.store_id)),
        Some(owner) if owner.get::<_, &str>(0) != book.user_id => return refuse(401, "authorization fail"),
        Some(_) => {}
    }
    let sql = "WITH document AS (INSERT INTO books (store_id, book_id, info) VALUES ($1, $2, $5) ON CONFLICT DO NOTHING) \
               INSERT INTO stock (store_id, book_id, price, level) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    match execute(&pool, sql, &[&book.store_id, &id, &price, &book.stock_level, &book.book_info]).await? {
        0 => refuse(516, format!("exist book id {id}")),
        _ => Done::plain(),
    }
}

#[derive(Deserialize)]
pub struct Funds {
    user_id: String,
    password: String,
    add_value: i64,
}

/// Money in, or out.
pub async fn add_funds(State(pool): State<Pool>, Json(funds): Json<Funds>) -> Answer {
    let sql = "UPDATE users SET balance = balance + $3 WHERE id = $1 AND password = $2";
    match execute(&pool, sql, &[&funds.user_id, &funds.password, &funds.add_value]).await? {
        0 => refuse(401, "authorization fail"),
        _ => Done::plain(),
    }
}

/// Somebody's money.
pub async fn query_balance(State(pool): State<Pool>, Json(user): Json<User>) -> Answer {
    let sql = "SELECT balance FROM users WHERE id = $1 AND password = $2";
    match find(&pool, sql, &[&user.user_id, &user.password]).await? {
        None => refuse(401, "authorization fail"),
        Some(row) => Done::with("balance", row.get::<_, i64>(0)),
    }
}

#[derive(Deserialize)]
pub struct Order {
    user_id: String,
    password: String,
    order_id: String,
}

/// How far somebody's order has come.
pub async fn query_order_status(State(pool): State<Pool>, Json(order): Json<Order>) -> Answer {
    let sql = "SELECT id FROM users WHERE id = $1 AND password = $2";
    if find(&pool, sql, &[&order.user_id, &order.password]).await?.is_none() {
        return refuse(401, "authorization fail");
    }
    // What is no UUID is no order of ours.
    let id = order.order_id.parse::<Uuid>().unwrap_or_default();
    match find(&pool, "SELECT state FROM orders WHERE id = $1 AND user_id = $2", &[&id, &order.user_id]).await? {
        None => refuse(518, format!("invalid order id {}", order.order_id)),
        Some(row) => Done::with("order_status", row.get::<_, &str>(0)),
    }
}

#[derive(Deserialize)]
pub struct Shelf {
    store_id: String,
    book_id: String,
}

/// Copies of a book.
pub async fn check_stock_level(State(pool): State<Pool>, Json(shelf): Json<Shelf>) -> Answer {
    let sql = "SELECT level FROM stock WHERE store_id = $1 AND book_id = $2";
    match find(&pool, sql, &[&shelf.store_id, &shelf.book_id]).await? {
        None => refuse(515, format!("non exist book id {}", shelf.book_id)),
        Some(row) => Done::with("stock_level", row.get::<_, i64>(0)),
    }
}

async fn check_token(pool: &Pool, headers: &HeaderMap, user_id: &str) -> Result<(), Refusal> {
    let token = headers.get("token").map_or("", |token| token.to_str().unwrap_or(""));
    let Some(user) = find(pool, "SELECT token FROM users WHERE id = $1", &[&user_id]).await? else {
        return refuse(511, format!("non exist user id {user_id}"));
    };
    if token.is_empty() || user.get::<_, &str>(0) != token { refuse(401, "authorization fail") } else { Ok(()) }
}

async fn execute(pool: &Pool, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Refusal> {
    let client = connect(pool).await?;
    let statement = client.prepare_cached(sql).await?;
    Ok(client.execute(&statement, values).await?)
}

async fn find(pool: &Pool, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Option<tokio_postgres::Row>, Refusal> {
    let client = connect(pool).await?;
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query_opt(&statement, values).await?)
}
