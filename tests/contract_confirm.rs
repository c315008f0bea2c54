//! Automatic confirmation: a shipped order whose money the platform holds is confirmed by itself, and its buyer may put
//! that off once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::thread::sleep;
use std::time::{Duration, SystemTime};

use common::shop::{CHEAP, CHEAP_PRICE, FUNDS, NO_ORDER, STORE};
use common::{Shop, User, bookstore, wait_until};
use serde_json::{Value, json};

/// An order whose money the platform has.
fn paid_to_platform(shop: &Shop) -> String {
    let order = shop.order(&[(CHEAP, 1)]);
    shop.client.pay_to_platform(&shop.buyer, &order).ok();
    order
}

fn shipped(shop: &Shop) -> String {
    let order = paid_to_platform(shop);
    shop.client.ship(&shop.seller, STORE, &order).ok();
    order
}

#[track_caller]
fn look(shop: &Shop, order: &str) -> Value {
    shop.client.buyer_order(&shop.buyer, order).ok().body["order"].clone()
}

/// A time of the order, in ms since the Unix epoch.
#[track_caller]
fn ms(time: &Value) -> i128 {
    let time = humantime::parse_rfc3339(time.as_str().unwrap()).unwrap();
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i128
}

#[test]
fn extend_receipt_checks_in_its_order() {
    let shop = Shop::open(&["--auto-confirm", "10d"]);
    let client = &shop.client;
    let order = shipped(&shop);
    client.extend_receipt(&User::new("nobody"), NO_ORDER).refused(511, "nobody");
    client.extend_receipt(&shop.buyer.with_password("wrong"), NO_ORDER).unauthorised();
    client.extend_receipt(&shop.buyer.with_password("wrong"), &order).unauthorised();
    client.extend_receipt(&shop.buyer, NO_ORDER).refused(518, NO_ORDER);
    client.extend_receipt(&shop.buyer, "no order").refused(518, "no order");
    client.extend_receipt(&shop.seller, &order).refused(518, &order);
    for state in ["pending", "canceled"] {
        let order = shop.order_in(state);
        client.extend_receipt(&shop.buyer, &order).refused(520, &order);
    }
    let refused = client.extend_receipt(&shop.buyer, &paid_to_platform(&shop));
    assert!(refused.is(530).text("message").contains("invalid parameter order_id: the order is not on its way"));
    let completed = shipped(&shop);
    client.confirm(&shop.buyer, &completed).ok();
    client.extend_receipt(&shop.buyer, &completed).refused(528, &completed);
    // Who was paid directly need not wait for his money.
    let refused = client.extend_receipt(&shop.buyer, &shop.order_in("shipped"));
    assert!(refused.is(530).text("message").contains("not confirmed by itself"));

    let before = look(&shop, &order);
    let (at, due) = (ms(&before["history"]["shipped"]["time"]), ms(&before["confirm_deadline"]));
    assert_eq!(due - at, 10 * 86_400_000);
    assert_eq!(before["history"]["extended"], Value::Null);
    client.extend_receipt(&shop.buyer, &order).ok();
    let after = look(&shop, &order);
    assert_eq!(ms(&after["confirm_deadline"]) - at, 20 * 86_400_000);
    assert_eq!(after["history"]["extended"]["by"], json!("buyer"));
    assert_eq!((&after["status"], shop.balances().1), (&json!("shipped"), 2 * CHEAP_PRICE));
    let refused = client.extend_receipt(&shop.buyer, &order);
    assert!(refused.is(530).text("message").contains("put off before"));
    assert_eq!(look(&shop, &order), after);
}

#[test]
fn without_the_flag_an_order_waits_for_its_buyer() {
    let shop = Shop::open(&[]);
    let order = shipped(&shop);
    assert_eq!(look(&shop, &order)["confirm_deadline"], Value::Null);
    let refused = shop.client.extend_receipt(&shop.buyer, &order);
    assert!(refused.is(530).text("message").contains("not confirmed by itself"));
    bookstore(&[&"serve", &"--auto-confirm", &"0s", &"--listen", &"127.0.0.1:0", &"--data-dir", &"nowhere"])
        .ends_with_status(2)
        .says("--auto-confirm: must be");
}

#[test]
fn a_shipped_order_is_confirmed_by_itself_and_the_seller_is_paid() {
    let shop = Shop::open(&["--auto-confirm", "1s"]);
    let waits = paid_to_platform(&shop);
    let put_off = shipped(&shop);
    shop.client.extend_receipt(&shop.buyer, &put_off).ok();
    let direct = shop.order_in("shipped");
    assert_eq!(shop.balances(), (FUNDS - 3 * CHEAP_PRICE, CHEAP_PRICE));
    let order = shipped(&shop);
    // Nobody asks for it: the seller has the money all the same.
    wait_until("the seller is paid", || shop.client.balance(&shop.seller) >= 2 * CHEAP_PRICE);
    let confirmed = look(&shop, &order);
    assert_eq!((&confirmed["status"], &confirmed["is_received"]), (&json!("completed"), &json!(true)));
    assert_eq!(confirmed["history"]["confirmed"]["by"], json!("deadline"));
    assert!(ms(&confirmed["history"]["confirmed"]["time"]) >= ms(&confirmed["confirm_deadline"]));
    shop.client.confirm(&shop.buyer, &order).refused(528, &order);
    shop.client.extend_receipt(&shop.buyer, &order).refused(528, &order);
    wait_until("that which was put off is confirmed", || look(&shop, &put_off)["status"] == json!("completed"));
    let history = &look(&shop, &put_off)["history"];
    assert!(ms(&history["confirmed"]["time"]) - ms(&history["shipped"]["time"]) >= 2_000, "{history}");
    // Neither what is not shipped, nor what was paid to the seller.
    assert_eq!((shop.status(&waits), shop.status(&direct)), ("paid".into(), "shipped".into()));
    assert_eq!(shop.balances(), (FUNDS - 4 * CHEAP_PRICE, 3 * CHEAP_PRICE));
}

/// Orders that wait leave memory, the process is gone when their time comes, and the next one does not wait to be asked.
#[test]
fn an_order_at_rest_is_confirmed_over_restarts() {
    let mut shop = Shop::open(&["--auto-confirm", "2s", "--idle-after", "1s", "--resting-orders-max", "0"]);
    let orders: Vec<String> = (0..3).map(|_| shipped(&shop)).collect();
    wait_until("they leave memory", || {
        let metrics = shop.client.get("/metrics").text().to_owned();
        let left = metrics.lines().find_map(|line| line.strip_prefix("bookstore_orders_left_total "));
        left.is_some_and(|left| left.trim().parse::<u64>().unwrap() >= 3) || shop.status(&orders[0]) == "completed"
    });
    shop.server.kill9();
    sleep(Duration::from_secs(2));
    shop.server.restart();
    shop.client = shop.server.client();
    // From its time on every route treats it so, also a list.
    let listed = shop.client.query_one_store_orders(&shop.seller, STORE);
    assert!(listed.orders().iter().all(|order| order["status"] == json!("completed")), "{}", listed.body);
    wait_until("the seller is paid", || shop.client.balance(&shop.seller) == 3 * CHEAP_PRICE);
    for round in 0..2 {
        for order in &orders {
            assert_eq!(look(&shop, order)["history"]["confirmed"]["by"], json!("deadline"));
        }
        assert_eq!(shop.balances(), (FUNDS - 3 * CHEAP_PRICE, 3 * CHEAP_PRICE));
        match round {
            0 => shop.crash(),
            _ => shop.reopen(),
        }
    }
}
