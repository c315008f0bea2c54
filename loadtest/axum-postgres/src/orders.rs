//! The two routes that are measured.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use deadpool_postgres::Pool;
use serde::Deserialize;
use uuid::Uuid;

use crate::{Answer, Done, connect, refuse};

#[derive(Deserialize)]
pub struct NewOrder {
    user_id: String,
    store_id: String,
    books: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    id: String,
    count: i64,
}

/// Takes the stock and writes the order, or nothing.
pub async fn new_order(State(pool): State<Pool>, headers: HeaderMap, Json(mut order): Json<NewOrder>) -> Answer {
    if order.books.is_empty() || order.books.iter().any(|line| line.count < 1) {
        return refuse(530, "invalid parameter books");
    }
    let mut client = connect(&pool).await?;
    // What is refused from here on is rolled back when the transaction is dropped.
    let transaction = client.transaction().await?;
    let statement = transaction.prepare_cached("SELECT token FROM users WHERE id = $1").await?;
    let Some(user) = transaction.query_opt(&statement, &[&order.user_id]).await? else {
        return refuse(511, format!("non exist user id {}", order.user_id));
    };
    let token = headers.get("token").map_or("", |token| token.to_str().unwrap_or(""));
    if token.is_empty() || user.get::<_, &str>(0) != token {
        return refuse(401, "authorization fail");
    }
    let statement = transaction.prepare_cached("SELECT 1 FROM stores WHERE id = $1").await?;
    if transaction.query_opt(&statement, &[&order.store_id]).await?.is_none() {
        return refuse(513, format!("non exist store id {}", order.store_id));
    }
    // In the same order everywhere, so that two orders cannot wait for each other.
    order.books.sort_by(|a, b| a.id.cmp(&b.id));
    let sql =
        "UPDATE stock SET level = level - $3 WHERE store_id = $1 AND book_id = $2 AND level >= $3 RETURNING price";
    let take = transaction.prepare_cached(sql).await?;
    let (mut books, mut counts, mut prices, mut total) = (Vec::new(), Vec::new(), Vec::new(), 0_i64);
    for line in &order.books {
        let Some(row) = transaction.query_opt(&take, &[&order.store_id, &line.id, &line.count]).await? else {
            let sql = "SELECT 1 FROM stock WHERE store_id = $1 AND book_id = $2";
            return match transaction.query_opt(sql, &[&order.store_id, &line.id]).await? {
                Some(_) => refuse(517, format!("stock level low, book id {}", line.id)),
                None => refuse(515, format!("non exist book id {}", line.id)),
            };
        };
        let price: i64 = row.get(0);
        let Some(sum) = line.count.checked_mul(price).and_then(|cost| total.checked_add(cost)) else {
            return refuse(530, "the total is too large");
        };
        total = sum;
        books.push(line.id.as_str());
        counts.push(line.count);
        prices.push(price);
    }
    let id = Uuid::now_v7();
    let sql = "INSERT INTO orders (id, user_id, store_id, total) VALUES ($1, $2, $3, $4)";
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, &[&id, &order.user_id, &order.store_id, &total]).await?;
    let sql = "INSERT INTO order_lines (order_id, book_id, count, price) \
               SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bigint[])";
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, &[&id, &books, &counts, &prices]).await?;
    transaction.commit().await?;
    Done::with("order_id", id.to_string())
}

#[derive(Deserialize)]
pub struct Payment {
    user_id: String,
    order_id: String,
    password: String,
}

/// Moves the money and marks the order, or nothing.
pub async fn payment(State(pool): State<Pool>, Json(payment): Json<Payment>) -> Answer {
    let unknown = || format!("invalid order id {}", payment.order_id);
    let Ok(id) = payment.order_id.parse::<Uuid>() else { return refuse(518, unknown()) };
    let mut client = connect(&pool).await?;
    let transaction = client.transaction().await?;
    let sql = "SELECT user_id, store_id, total, state FROM orders WHERE id = $1 FOR UPDATE";
    let statement = transaction.prepare_cached(sql).await?;
    let Some(order) = transaction.query_opt(&statement, &[&id]).await? else { return refuse(518, unknown()) };
    let (store, total): (&str, i64) = (order.get(1), order.get(2));
    let statement = transaction.prepare_cached("SELECT password FROM users WHERE id = $1").await?;
    let user = transaction.query_opt(&statement, &[&payment.user_id]).await?;
    let known = user.is_some_and(|user| user.get::<_, &str>(0) == payment.password);
    if order.get::<_, &str>(0) != payment.user_id || !known {
        return refuse(401, "authorization fail");
    }
    if order.get::<_, &str>(3) != "pending" {
        return refuse(527, format!("order is paid, order id {id}"));
    }
    let sql = "UPDATE users SET balance = balance - $2 WHERE id = $1 AND balance >= $2";
    let statement = transaction.prepare_cached(sql).await?;
    if transaction.execute(&statement, &[&payment.user_id, &total]).await? == 0 {
        return refuse(519, format!("not sufficient funds, order id {id}"));
    }
    let statement = transaction.prepare_cached("UPDATE orders SET state = 'paid' WHERE id = $1").await?;
    transaction.execute(&statement, &[&id]).await?;
    // Last, because many buyers pay the same few sellers, and the row is held until the commit.
    let sql = "UPDATE users SET balance = balance + $2 WHERE id = (SELECT owner FROM stores WHERE id = $1)";
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, &[&store, &total]).await?;
    transaction.commit().await?;
    Done::plain()
}
