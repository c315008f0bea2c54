//! The routes for operators, on the admin port; `operator` has judged who asks.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing::info;

use super::answer::Reply;
use super::call::{Call, Handled};
use super::console;
use super::fields::{Common, id, parse, required_text};
use super::orders::rfc3339;
use crate::engine::{Credential, OrderView, UserStanding};

/// Of a user's orders the newest are shown.
const ORDERS_SHOWN: usize = 20;
/// Of a user with more orders none: all of them would have to be read.
const ORDERS_READ_MAX: u64 = 10_000;

/// Everything of the moment.
pub(super) fn status(call: Call<'_>) -> Reply {
    Reply::ok_body(console::status(call.shared))
}

/// An order with its way, whoever's it is.
pub(super) async fn order(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let order_id = required_text(body.order_id, "order_id")?;
    Ok(Reply::ok_details(&call.engine().order(&order_id).await?))
}

/// How a user stands, with his newest orders.
pub(super) async fn user(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let standing = call.engine().user_standing(&user_id).await?;
    let newest = match standing.orders {
        0..=ORDERS_READ_MAX => {
            let mut orders = call.engine().buyer_orders(&user_id, Credential::Trusted).await?;
            orders.truncate(ORDERS_SHOWN);
            orders.iter().map(glance).collect()
        }
        _ => Value::Null,
    };
    let body = json!({ "code": 200, "message": "ok", "user": told(&standing), "newest_orders": newest });
    Ok(Reply::ok_body(body.to_string()))
}

fn told(standing: &UserStanding) -> Value {
    let stores = standing
        .stores
        .iter()
        .map(|store| json!({ "store_id": &*store.store_id, "is_closed": store.is_closed, "books": store.books }));
    json!({
        "user_id": standing.user_id,
        "balance": standing.balance,
        "net_put_in": standing.net_put_in,
        "orders": standing.orders,
        "open_orders": standing.open_orders,
        "stores": stores.collect::<Value>(),
        "is_password_remembered": standing.is_password_remembered,
        "remembered_tokens": standing.remembered_tokens,
        "revoked_tokens": standing.revoked_tokens,
        "deposit_keys": standing.deposit_keys,
        "wrong_passwords": standing.wrong_passwords,
        "throttled_s": standing.throttled_s,
    })
}

fn glance(order: &OrderView) -> Value {
    json!({
        "order_id": order.order_id.to_string(),
        "store_id": &*order.store_id,
        "status": order.status.as_str(),
        "total_price": order.total_price,
        "created_time": rfc3339(order.created_ms).to_string(),
    })
}

/// Takes a snapshot now. Answers when it is on the disk.
pub(super) async fn snapshot(call: Call<'_>) -> Handled {
    let report = call.engine().snapshot().await?;
    info!(peer = call.peer.map(display), bytes = report.bytes, "a snapshot was taken as an operator wished");
    let body = json!({
        "code": 200,
        "message": "ok",
        "path": report.path.map(|path| path.display().to_string()),
        "bytes": report.bytes,
        "rows": report.rows,
        "took_ms": millis(report.took),
    });
    Ok(Reply::ok_body(body.to_string()))
}

/// Counts all money and all copies now, while commands wait.
pub(super) async fn audit(call: Call<'_>) -> Handled {
    let began = Instant::now();
    let report = call.engine().audit().await?;
    let took = began.elapsed();
    info!(
        peer = call.peer.map(display),
        is_conserved = report.is_conserved(),
        contradictions = report.contradictions,
        took_ms = millis(took),
        "audited as an operator wished"
    );
    let told = call.shared.console.audited(&report, took);
    Ok(Reply::ok_body(json!({ "code": 200, "message": "ok", "audit": told }).to_string()))
}

/// Ends the service as a SIGTERM does: what was read is answered, nothing else is taken.
pub(super) fn drain(call: Call<'_>) -> Reply {
    info!(peer = call.peer.map(display), "draining, as an operator wished");
    call.shared.console.drain();
    Reply::ok()
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}
