//! The `Idempotency-Key` header: however often a change is sent, it has one effect; over restarts, too.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::sync::Barrier;
use std::thread;

use common::shop::{CHEAP, CHEAP_PRICE, DEAR, FUNDS, NO_ORDER, STOCK, STORE};
use common::{Client, Conn, Shop, User, request};
use serde_json::json;

const PAYMENT: &str = "/buyer/payment";
const PLATFORM: &str = "/buyer/pay_to_platform";
const CONFIRM: &str = "/buyer/confirm_receipt_and_pay_toseller";
const CANCEL: &str = "/buyer/cancel_order";
const REFUND: &str = "/buyer/refund_order";

#[track_caller]
fn order(client: &Client, user: &User) -> String {
    client.order(user, STORE, &[(CHEAP, 1)])
}

/// Each of the seven routes succeeds under a key, is repeated, and is asked for with other fields.
fn each_once(shop: &Shop) -> Vec<(String, Vec<String>)> {
    let (client, buyer) = (&shop.client, &shop.buyer);
    client.with_key("add").try_add_funds(buyer, 7).unwrap().ok();
    let placed = order(&client.with_key("order"), buyer);
    let (direct, platform, confirmed) = (order(client, buyer), order(client, buyer), order(client, buyer));
    let (canceled, refunded) = (order(client, buyer), order(client, buyer));
    client.pay_to_platform(buyer, &confirmed).ok();
    client.payment(buyer, &refunded).ok();
    let done = [(PAYMENT, direct), (PLATFORM, platform), (CONFIRM, confirmed), (CANCEL, canceled), (REFUND, refunded)];
    for (path, id) in &done {
        client.with_key("key").try_on_order(path, buyer, id).unwrap().ok();
    }
    let mut all = vec![("order".to_owned(), vec![placed])];
    all.extend(done.into_iter().map(|(path, id)| (path.to_owned(), vec![id])));
    all
}

#[track_caller]
fn repeats_change_nothing(shop: &Shop, done: &[(String, Vec<String>)]) {
    let (client, buyer) = (&shop.client, &shop.buyer);
    let before = (shop.balances(), shop.stock(CHEAP), client.order_count("buyer"));
    for _ in 0..3 {
        client.with_key("add").try_add_funds(buyer, 7).unwrap().ok();
        assert_eq!(order(&client.with_key("order"), buyer), done[0].1[0]);
        for (path, ids) in &done[1..] {
            let answer = client.with_key("key").try_on_order(path, buyer, &ids[0]).unwrap();
            assert_eq!(answer.ok().body, json!({"code": 200, "message": "ok"}), "{path}");
        }
    }
    assert_eq!((shop.balances(), shop.stock(CHEAP), client.order_count("buyer")), before);
}

#[track_caller]
fn other_fields_are_told(shop: &Shop, done: &[(String, Vec<String>)]) {
    let (client, buyer) = (&shop.client, &shop.buyer);
    let before = (shop.balances(), shop.stock(CHEAP), shop.stock(DEAR), client.order_count("buyer"));
    client.with_key("add").try_add_funds(buyer, 8).unwrap().refused(422, "");
    let with = client.with_key("order");
    for lines in [&[(CHEAP, 2)][..], &[(DEAR, 1)], &[(CHEAP, 1), (CHEAP, 1)], &[("none", 1)]] {
        with.new_order(buyer, STORE, lines).refused(422, "");
    }
    with.new_order(buyer, "none", &[(CHEAP, 1)]).refused(422, "");
    for (path, ids) in &done[1..] {
        // Another order of this buyer, which the route would take.
        let other = order(client, buyer);
        if path == CONFIRM || path == REFUND {
            client.payment(buyer, &other).ok();
        }
        client.with_key("key").try_on_order(path, buyer, &other).unwrap().refused(422, "");
        assert_ne!(&ids[0], &other);
        let end = if path == CONFIRM || path == REFUND { path } else { CANCEL };
        client.try_on_order(end, buyer, &other).unwrap().ok();
    }
    // What is no order of ours has another body, too, where the key is looked at before the order.
    for id in [NO_ORDER, "none"] {
        client.with_key("key").cancel(buyer, id).refused(422, "");
        client.with_key("new").cancel(buyer, id).refused(518, id);
        client.with_key("key").refund(buyer, id).refused(422, "");
        client.with_key("new").refund(buyer, id).refused(518, id);
        client.with_key("key").payment(buyer, id).refused(518, id);
    }
    let paid = CHEAP_PRICE;
    let ((buyers, sellers), cheap, dear, count) = before;
    let after = ((buyers - paid, sellers + paid), cheap - 1, dear, count + 5);
    assert_eq!((shop.balances(), shop.stock(CHEAP), shop.stock(DEAR), client.order_count("buyer")), after);
}

#[test]
fn a_repeat_gets_the_kept_answer_and_moves_nothing_restarts_included() {
    let mut shop = Shop::open(&[]);
    shop.client.add_stock_level(&shop.seller, STORE, CHEAP, 100).ok();
    let done = each_once(&shop);
    repeats_change_nothing(&shop, &done);
    other_fields_are_told(&shop, &done);
    shop.crash();
    repeats_change_nothing(&shop, &done);
    shop.reopen();
    repeats_change_nothing(&shop, &done);
    other_fields_are_told(&shop, &done);
    assert!(shop.server.sigterm().success());
    common::audit::audit(&shop.server.data_dir(), bookstore::Durability::Sync, true);
}

#[test]
fn orders_that_left_memory_still_know_their_keys() {
    let mut shop = Shop::open(&["--resting-orders-max", "0"]);
    let done = each_once(&shop);
    let at_rest = || {
        let text = shop.client.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix("bookstore_orders_resting "));
        line.and_then(|number| number.parse::<f64>().ok()) == Some(5.0)
    };
    common::wait_until("five settled orders are at rest", at_rest);
    repeats_change_nothing(&shop, &done);
    shop.crash();
    repeats_change_nothing(&shop, &done);
    other_fields_are_told(&shop, &done);
}

#[test]
fn a_key_counts_for_one_user_and_one_route() {
    let shop = Shop::open(&[]);
    let other = shop.client.buyer_with_funds("other", FUNDS);
    let with = shop.client.with_key("k");
    let (mine, others) = (order(&with, &shop.buyer), order(&with, &other));
    assert_ne!(mine, others);
    with.payment(&shop.buyer, &mine).ok();
    with.payment(&other, &others).ok();
    with.confirm(&shop.buyer, &mine).ok();
    with.try_add_funds(&shop.buyer, 1).unwrap().ok();
    with.try_add_funds(&other, 1).unwrap().ok();
    assert_eq!(shop.client.balance(&other), FUNDS - CHEAP_PRICE + 1);
    // An id that is registered anew inherits no key.
    let gone = shop.client.new_user("gone");
    with.try_add_funds(&gone, 5).unwrap().ok();
    shop.client.try_add_funds(&gone, -5).unwrap().ok();
    shop.client.unregister(&gone).ok();
    let gone = shop.client.new_user("gone");
    with.try_add_funds(&gone, 6).unwrap().ok();
    assert_eq!(shop.client.balance(&gone), 6);
}

#[test]
fn authorisation_comes_first() {
    let shop = Shop::open(&[]);
    let with = shop.client.with_key("k");
    let id = order(&with, &shop.buyer);
    with.payment(&shop.buyer, &id).ok();
    with.try_add_funds(&shop.buyer, 5).unwrap().ok();
    let canceled = order(&shop.client, &shop.buyer);
    with.cancel(&shop.buyer, &canceled).ok();
    let wrong = shop.buyer.with_password("wrong").with_token("wrong");
    with.new_order(&wrong, STORE, &[(CHEAP, 1)]).unauthorised();
    with.payment(&wrong, &id).unauthorised();
    with.try_add_funds(&wrong, 5).unwrap().unauthorised();
    with.cancel(&wrong, &canceled).unauthorised();
    with.refund(&wrong, &id).unauthorised();
    with.payment(&shop.seller, &id).unauthorised();
    with.payment(&User::new("nobody"), &id).unauthorised();
    // The credential is no part of what was asked for: a new password may ask again.
    shop.client.change_password(&shop.buyer, "new").ok();
    let buyer = shop.client.logged_in(&shop.buyer.with_password("new"));
    assert_eq!(order(&with, &buyer), id);
    with.payment(&buyer, &id).ok();
    with.try_add_funds(&buyer, 5).unwrap().ok();
    with.cancel(&buyer, &canceled).ok();
    assert_eq!(shop.client.balance(&buyer), FUNDS + 5 - CHEAP_PRICE);
}

#[test]
fn a_refusal_is_judged_anew() {
    let shop = Shop::open(&[]);
    let poor = shop.client.new_user("poor");
    let with = shop.client.with_key("k");
    with.new_order(&poor, STORE, &[(CHEAP, STOCK + 1)]).refused(517, CHEAP);
    shop.client.add_stock_level(&shop.seller, STORE, CHEAP, 1).ok();
    let id = with.order(&poor, STORE, &[(CHEAP, STOCK + 1)]);
    with.payment(&poor, &id).refused(519, &id);
    with.try_add_funds(&poor, -1).unwrap().invalid("add_value");
    // A refusal keeps nothing, not even the fields.
    with.try_add_funds(&poor, CHEAP_PRICE * (STOCK + 1)).unwrap().ok();
    with.payment(&poor, &id).ok();
    with.payment(&poor, &id).ok();
    assert_eq!(shop.client.balance(&poor), 0);
}

#[test]
fn the_answer_is_kept_whatever_becomes_of_the_order() {
    let shop = Shop::open(&["--order-ttl", "1s"]);
    let (client, buyer) = (&shop.client, &shop.buyer);
    let expired = order(&client.with_key("e"), buyer);
    let paid = order(&client.with_key("p"), buyer);
    client.with_key("p").payment(buyer, &paid).ok();
    client.ship(&shop.seller, STORE, &paid).ok();
    client.confirm(buyer, &paid).ok();
    client.with_key("p").payment(buyer, &paid).ok();
    client.payment(buyer, &paid).refused(527, &paid);
    common::wait_until("the order has expired", || shop.status(&expired) == "canceled");
    assert_eq!(order(&client.with_key("e"), buyer), expired);
    // The deadline canceled it, not this request.
    client.with_key("e").cancel(buyer, &expired).refused(521, &expired);
    assert_eq!(order(&client.with_key("p"), buyer), paid);
}

#[test]
fn keys_are_1_to_255_visible_ascii_characters() {
    let shop = Shop::open(&[]);
    let long = "k".repeat(255);
    for good in [long.as_str(), "!", "~", "\"a,b\"", "{}"] {
        shop.client.with_key(good).try_add_funds(&shop.buyer, 1).unwrap().ok();
    }
    assert_eq!(shop.client.balance(&shop.buyer), FUNDS + 5);
    let too_long = "k".repeat(256);
    for bad in ["", "a b", "a\tb", "é", "钥匙", too_long.as_str()] {
        shop.client.with_key(bad).try_add_funds(&shop.buyer, 1).unwrap().invalid("Idempotency-Key");
        shop.client.with_key(bad).new_order(&shop.buyer, STORE, &[(CHEAP, 1)]).invalid("Idempotency-Key");
        // Other routes do not look at it.
        shop.client.with_key(bad).query_balance(&shop.buyer).ok();
    }
    let body = json!({"user_id": "buyer", "password": shop.buyer.password, "add_value": 1}).to_string();
    let twice = [("Idempotency-Key", "a"), ("idempotency-key", "a")];
    let mut conn = Conn::open(shop.server.port()).unwrap();
    conn.send(&request("POST", "/buyer/add_funds", &twice, body.as_bytes())).unwrap();
    let answer = conn.response().unwrap();
    assert_eq!(answer.status, 530, "{}", answer.text());
    assert_eq!(shop.client.balance(&shop.buyer), FUNDS + 5);
}

/// All at once, of each kind: one effect, and all hear of it.
#[test]
fn who_comes_while_the_first_is_in_flight_gets_its_answer() {
    const CLIENTS: usize = 16;
    const ROUNDS: usize = 20;
    let shop = Shop::open(&[]);
    let at_once = |send: &(dyn Fn(&Client) -> String + Sync), key: &str| {
        let barrier = Barrier::new(CLIENTS);
        let port = shop.server.port();
        let answers: Vec<String> = thread::scope(|scope| {
            let sender = || {
                let client = Client::new(port).with_key(key);
                barrier.wait();
                send(&client)
            };
            let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(sender)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        answers[0].clone()
    };
    let (buyer, stock) = (&shop.buyer, shop.stock(CHEAP));
    let mut sold = 0;
    for round in 0..ROUNDS {
        let key = format!("round-{round}");
        let id = at_once(&|client| client.new_order(buyer, STORE, &[(CHEAP, 1)]).ok().text("order_id"), &key);
        let on_order = |path: &'static str, id: &str| {
            let id = id.to_owned();
            at_once(&move |client| client.try_on_order(path, buyer, &id).unwrap().ok().body.to_string(), &key);
        };
        if round % 2 == 0 {
            on_order(CANCEL, &id);
            assert_eq!(shop.stock(CHEAP), stock);
            continue;
        }
        on_order(if round % 4 == 1 { PAYMENT } else { PLATFORM }, &id);
        if round % 8 > 4 {
            on_order(REFUND, &id);
            assert_eq!(shop.stock(CHEAP), stock);
            continue;
        }
        on_order(CONFIRM, &id);
        sold += 1;
        at_once(&|client| client.try_add_funds(buyer, CHEAP_PRICE).unwrap().ok().body.to_string(), &key);
        shop.client.add_stock_level(&shop.seller, STORE, CHEAP, 1).ok();
    }
    assert_eq!(shop.client.order_count("buyer"), ROUNDS as i64);
    assert_eq!(shop.balances(), (FUNDS, CHEAP_PRICE * sold));
    assert_eq!(sold, 6);
}
