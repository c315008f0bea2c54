//! `/buyer/refund_order`: an order that is paid and not shipped is canceled, and everything is as before. Its checks in
//! their order, who pays it back, and what may race with it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::shop::{CHEAP, CHEAP_PRICE, FUNDS, NO_ORDER, STOCK, STORE};
use common::{Shop, User, book};
use serde_json::json;

const PAYMENT: &str = "/buyer/payment";
const PLATFORM: &str = "/buyer/pay_to_platform";
const REFUND: &str = "/buyer/refund_order";

/// A new order of two cheap books, paid like this.
fn paid(shop: &Shop, how: &str) -> String {
    let order = shop.order(&[(CHEAP, 2)]);
    shop.client.try_on_order(how, &shop.buyer, &order).unwrap().ok();
    order
}

#[test]
fn refund_order_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    client.refund(&User::new("nobody"), NO_ORDER).refused(511, "nobody");
    client.refund(&shop.buyer.with_password("wrong"), NO_ORDER).unauthorised();
    for id in [NO_ORDER, "none"] {
        client.refund(&shop.buyer, id).refused(518, id);
    }
    let pending = shop.order(&[(CHEAP, 1)]);
    client.refund(&shop.seller, &pending).refused(518, &pending);
    client.refund(&shop.buyer.with_password("wrong"), &pending).unauthorised();
    // Nothing is to be paid back: this is cancel_order's.
    client.refund(&shop.buyer, &pending).refused(520, &pending);
    assert_eq!(shop.status(&pending), "pending");
    for state in ["shipped", "completed", "canceled"] {
        let order = shop.order_in(state);
        let before = (shop.balances(), shop.stock(CHEAP));
        client.refund(&shop.buyer, &order).refused(521, &order);
        client.refund(&shop.seller, &order).refused(518, &order);
        assert_eq!((shop.balances(), shop.stock(CHEAP)), before);
        assert_eq!(shop.status(&order), state);
    }
    // The token decides nothing here.
    let order = paid(&shop, PAYMENT);
    client
        .post_with_token(
            "bad",
            REFUND,
            json!({
                "user_id": "buyer", "order_id": order, "password": shop.buyer.password,
            }),
        )
        .ok();
}

#[test]
fn money_and_copies_come_back_from_the_seller_or_the_platform() {
    let mut shop = Shop::open(&[]);
    for how in [PAYMENT, PLATFORM] {
        let order = paid(&shop, how);
        let sellers = if how == PAYMENT { 2 * CHEAP_PRICE } else { 0 };
        assert_eq!((shop.balances(), shop.stock(CHEAP)), ((FUNDS - 2 * CHEAP_PRICE, sellers), STOCK - 2));
        let answer = shop.client.refund(&shop.buyer, &order);
        assert_eq!(answer.ok().body, json!({"code": 200, "message": "ok"}));
        assert_eq!((shop.balances(), shop.stock(CHEAP)), ((FUNDS, 0), STOCK), "{how}");
        assert_eq!(shop.status(&order), "canceled");
        let listed = shop.client.query_one_store_orders(&shop.seller, STORE);
        let element = &listed.orders()[0];
        assert_eq!((&element["order_id"], &element["status"]), (&json!(order), &json!("canceled")));
        for is in ["is_paid", "is_shipped", "is_received", "order_completed"] {
            assert_eq!(element[is], false, "{is}");
        }
        // That it was paid, and how, is not forgotten.
        let whole = shop.client.buyer_order(&shop.buyer, &order).ok().body["order"].clone();
        assert_eq!(whole["paid_to"], if how == PAYMENT { "seller" } else { "platform" });
        for step in ["placed", "paid", "canceled"] {
            assert_eq!(whole["history"][step]["by"], "buyer", "{step}");
        }
        assert!(whole["history"]["shipped"].is_null() && whole["history"]["confirmed"].is_null());
        // It is over: nothing moves it any more.
        shop.client.refund(&shop.buyer, &order).refused(521, &order);
        shop.client.cancel(&shop.buyer, &order).refused(521, &order);
        shop.client.payment(&shop.buyer, &order).refused(526, &order);
        shop.client.pay_to_platform(&shop.buyer, &order).refused(526, &order);
        shop.client.confirm(&shop.buyer, &order).refused(520, &order);
        shop.client.ship(&shop.seller, STORE, &order).refused(520, &order);
        // Also after a crash, which drops no evidence too early and runs nothing again.
        shop.crash();
        assert_eq!((shop.balances(), shop.stock(CHEAP)), ((FUNDS, 0), STOCK), "{how}");
        assert_eq!(shop.status(&order), "canceled");
    }
    // Nothing is open any more, so the buyer may go.
    shop.client.add_funds(&shop.buyer, -FUNDS).ok();
    shop.client.unregister(&shop.buyer).ok();
    assert!(shop.server.sigterm().success());
    common::audit::audit(&shop.server.data_dir(), bookstore::Durability::Sync, true);
}

#[test]
fn a_seller_who_has_spent_it_is_519_and_nothing_moves() {
    let shop = Shop::open(&[]);
    let (direct, platform) = (paid(&shop, PAYMENT), paid(&shop, PLATFORM));
    shop.client.add_funds(&shop.seller, -1).ok();
    let before = (shop.balances(), shop.stock(CHEAP));
    let with = shop.client.with_key("k");
    for _ in 0..2 {
        with.refund(&shop.buyer, &direct).refused(519, &direct);
        shop.client.refund(&shop.buyer, &direct).refused(519, &direct);
        assert_eq!((shop.balances(), shop.stock(CHEAP)), before);
        assert_eq!(shop.status(&direct), "paid");
    }
    // The platform's is not his.
    shop.client.refund(&shop.buyer, &platform).ok();
    // A refusal keeps nothing: with the money there the same request succeeds.
    shop.client.add_funds(&shop.seller, 1).ok();
    with.refund(&shop.buyer, &direct).ok();
    with.refund(&shop.buyer, &direct).ok();
    assert_eq!((shop.balances(), shop.stock(CHEAP)), ((FUNDS, 0), STOCK));
    // Or he ships, and then it is too late.
    let shipped = paid(&shop, PAYMENT);
    shop.client.add_funds(&shop.seller, -1).ok();
    shop.client.refund(&shop.buyer, &shipped).refused(519, &shipped);
    shop.client.ship(&shop.seller, STORE, &shipped).ok();
    shop.client.refund(&shop.buyer, &shipped).refused(521, &shipped);
}

/// Then payment and refund leave their evidence in one account.
#[test]
fn who_buys_in_his_own_store_gets_it_back_once() {
    let mut shop = Shop::open(&[]);
    let both = shop.client.buyer_with_funds("both", 500);
    shop.client.create_store(&both, "own").ok();
    shop.client.add_book(&both, "own", book("b", 100), 5).ok();
    for how in [PAYMENT, PLATFORM, PAYMENT] {
        let order = shop.client.order(&both, "own", &[("b", 3)]);
        shop.client.try_on_order(how, &both, &order).unwrap().ok();
        shop.client.refund(&both, &order).ok();
        assert_eq!((shop.client.balance(&both), shop.client.stock("own", "b")), (500, 5), "{how}");
    }
    shop.crash();
    assert_eq!((shop.client.balance(&both), shop.client.stock("own", "b")), (500, 5));
}

#[test]
fn an_order_at_rest_is_refunded() {
    let mut shop = Shop::open(&["--resting-orders-max", "0"]);
    let orders = [paid(&shop, PAYMENT), paid(&shop, PLATFORM)];
    let resting = |shop: &Shop, count: f64| {
        let text = shop.client.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix("bookstore_orders_resting "));
        line.and_then(|number| number.parse::<f64>().ok()) == Some(count)
    };
    common::wait_until("both are at rest", || resting(&shop, 2.0));
    shop.client.unregister(&shop.buyer).is(530);
    shop.crash();
    for order in &orders {
        shop.client.refund(&shop.buyer, order).ok();
        assert_eq!(shop.status(order), "canceled");
    }
    assert_eq!((shop.balances(), shop.stock(CHEAP)), ((FUNDS, 0), STOCK));
    common::wait_until("both are at rest again", || resting(&shop, 2.0));
    shop.crash();
    for order in &orders {
        assert_eq!(shop.status(order), "canceled");
        shop.client.refund(&shop.buyer, order).refused(521, order);
    }
    assert_eq!(shop.client.order_count("buyer"), 2);
    shop.client.add_funds(&shop.buyer, -FUNDS).ok();
    shop.client.unregister(&shop.buyer).ok();
}
