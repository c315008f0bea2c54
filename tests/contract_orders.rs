//! The life of an order: its states by both payments, where the money is at every moment, its element
//! in the lists, and its end when nobody pays.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::shop::{CHEAP, CHEAP_PRICE, DEAR, DEAR_PRICE, FUNDS, STOCK, STORE};
use common::{Shop, book, wait_until};
use serde_json::{Value, json};

/// The element of this order as the buyer and the seller see it; it must be one and the same.
#[track_caller]
fn element(shop: &Shop, order: &str) -> Value {
    let find = |orders: &[Value]| orders.iter().find(|element| element["order_id"] == json!(order)).cloned();
    let buyers = find(shop.client.query_buyer_all_orders(&shop.buyer).orders()).unwrap();
    let sellers = find(shop.client.query_one_store_orders(&shop.seller, STORE).orders()).unwrap();
    assert_eq!(buyers, sellers);
    buyers
}

/// (status, is_paid, is_shipped, is_received), and that the fourth flag has both its names.
#[track_caller]
fn flags(shop: &Shop, order: &str) -> (String, bool, bool, bool) {
    let element = element(shop, order);
    let flag = |name: &str| element[name].as_bool().unwrap_or_else(|| panic!("no {name}: {element}"));
    assert_eq!(flag("is_received"), flag("order_completed"));
    let status = element["status"].as_str().unwrap().to_owned();
    assert_eq!(shop.status(order), status);
    (status, flag("is_paid"), flag("is_shipped"), flag("is_received"))
}

/// Seconds since 1970 of an RFC 3339 text in UTC.
fn seconds(text: &str) -> i64 {
    let utc = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"));
    let utc = utc.unwrap_or_else(|| panic!("not UTC: {text}"));
    let (date, time) = utc.split_once('T').unwrap_or_else(|| panic!("not RFC 3339: {text}"));
    let time = time.split('.').next().unwrap();
    let numbers = |text: &str, mark| -> [i64; 3] {
        let parts: Vec<i64> = text.split(mark).map(|part| part.parse().unwrap()).collect();
        parts.try_into().unwrap()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-'), numbers(time, ':'));
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468;
    ((days * 24 + hour) * 60 + minute) * 60 + second
}

#[test]
fn an_element_of_orders_has_its_shape() {
    let shop = Shop::open(&[]);
    let order = shop.order(&[(DEAR, 2), (CHEAP, 3)]);
    let element = element(&shop, &order);
    let mut expected = json!({
        "order_id": order, "user_id": "buyer", "store_id": STORE, "status": "pending",
        "total_price": 2 * DEAR_PRICE + 3 * CHEAP_PRICE,
        "is_paid": false, "is_shipped": false, "is_received": false, "order_completed": false,
        "books": [
            {"id": DEAR, "count": 2, "price": DEAR_PRICE},
            {"id": CHEAP, "count": 3, "price": CHEAP_PRICE},
        ],
    });
    expected["created_time"] = element["created_time"].clone();
    assert_eq!(element, expected);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let created = seconds(element["created_time"].as_str().unwrap());
    assert!(i64::try_from(now).unwrap().abs_diff(created) < 120, "{element}");

    let id = order.as_bytes();
    assert_eq!(id.len(), 36);
    for (at, byte) in id.iter().enumerate() {
        let good = match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
        };
        assert!(good, "not a lower-case hyphenated UUID: {order}");
    }
}

#[test]
fn lists_are_newest_first_and_complete() {
    let mut shop = Shop::open(&[]);
    shop.client.add_stock_level(&shop.seller, STORE, CHEAP, 1_000).ok();
    let mut ids: Vec<String> = (0..50).map(|_| shop.order(&[(CHEAP, 1)])).collect();
    shop.client.cancel(&shop.buyer, &ids[7]).ok();
    shop.client.payment(&shop.buyer, &ids[9]).ok();
    ids.reverse();
    for round in 0..2 {
        let buyers = shop.client.query_buyer_all_orders(&shop.buyer);
        let sellers = shop.client.query_one_store_orders(&shop.seller, STORE);
        for answer in [buyers, sellers] {
            let listed: Vec<&str> = answer.orders().iter().map(|e| e["order_id"].as_str().unwrap()).collect();
            assert_eq!(listed, ids);
        }
        assert_eq!(shop.client.order_count("buyer"), 50);
        if round == 0 {
            shop.crash();
        }
    }
}

#[test]
fn payment_pays_the_seller_at_once_and_confirm_moves_nothing() {
    let shop = Shop::open(&[]);
    let order = shop.order(&[(CHEAP, 3)]);
    let total = 3 * CHEAP_PRICE;
    assert_eq!(flags(&shop, &order), ("pending".into(), false, false, false));
    assert_eq!(shop.balances(), (FUNDS, 0));
    shop.client.payment(&shop.buyer, &order).ok();
    assert_eq!(flags(&shop, &order), ("paid".into(), true, false, false));
    assert_eq!(shop.balances(), (FUNDS - total, total));
    shop.client.ship(&shop.seller, STORE, &order).ok();
    assert_eq!(flags(&shop, &order), ("shipped".into(), true, true, false));
    shop.client.confirm(&shop.buyer, &order).ok();
    assert_eq!(flags(&shop, &order), ("completed".into(), true, true, true));
    assert_eq!(shop.balances(), (FUNDS - total, total));
    assert_eq!(shop.stock(CHEAP), STOCK - 3);
}

#[test]
fn pay_to_platform_holds_the_money_until_confirm() {
    let mut shop = Shop::open(&[]);
    let order = shop.order(&[(CHEAP, 3)]);
    let total = 3 * CHEAP_PRICE;
    shop.client.pay_to_platform(&shop.buyer, &order).ok();
    assert_eq!(flags(&shop, &order), ("paid".into(), true, false, false));
    assert_eq!(shop.balances(), (FUNDS - total, 0));
    shop.client.ship(&shop.seller, STORE, &order).ok();
    assert_eq!(flags(&shop, &order), ("shipped".into(), true, true, false));
    assert_eq!(shop.balances(), (FUNDS - total, 0));
    shop.crash();
    assert_eq!(shop.balances(), (FUNDS - total, 0));
    shop.client.confirm(&shop.buyer, &order).ok();
    assert_eq!(flags(&shop, &order), ("completed".into(), true, true, true));
    assert_eq!(shop.balances(), (FUNDS - total, total));
    shop.client.confirm(&shop.buyer, &order).refused(528, &order);
    assert_eq!(shop.balances(), (FUNDS - total, total));
}

#[test]
fn an_order_can_be_confirmed_without_having_been_shipped() {
    let shop = Shop::open(&[]);
    let at_once = shop.order(&[(CHEAP, 1)]);
    let by_escrow = shop.order(&[(CHEAP, 1)]);
    shop.client.payment(&shop.buyer, &at_once).ok();
    shop.client.pay_to_platform(&shop.buyer, &by_escrow).ok();
    assert_eq!(shop.balances(), (FUNDS - 2 * CHEAP_PRICE, CHEAP_PRICE));
    for order in [&at_once, &by_escrow] {
        shop.client.confirm(&shop.buyer, order).ok();
        assert_eq!(flags(&shop, order), ("completed".into(), true, false, true));
        shop.client.ship(&shop.seller, STORE, order).refused(529, order);
    }
    assert_eq!(shop.balances(), (FUNDS - 2 * CHEAP_PRICE, 2 * CHEAP_PRICE));
}

#[test]
fn cancel_gives_the_stock_back_once() {
    let mut shop = Shop::open(&[]);
    let order = shop.order(&[(CHEAP, 4), (DEAR, 1)]);
    assert_eq!((shop.stock(CHEAP), shop.stock(DEAR)), (STOCK - 4, STOCK - 1));
    shop.client.cancel(&shop.buyer, &order).ok();
    assert_eq!(flags(&shop, &order), ("canceled".into(), false, false, false));
    shop.client.cancel(&shop.buyer, &order).refused(521, &order);
    assert_eq!((shop.stock(CHEAP), shop.stock(DEAR)), (STOCK, STOCK));
    shop.crash();
    assert_eq!((shop.stock(CHEAP), shop.stock(DEAR)), (STOCK, STOCK));
    assert_eq!(flags(&shop, &order), ("canceled".into(), false, false, false));
    assert_eq!(shop.balances(), (FUNDS, 0));
}

#[test]
fn everything_told_is_there_after_a_crash_and_after_a_clean_restart() {
    let mut shop = Shop::open(&[]);
    let states = ["pending", "paid", "shipped", "completed", "canceled"];
    let orders: Vec<String> = states.iter().map(|state| shop.order_in(state)).collect();
    let before = shop.client.query_buyer_all_orders(&shop.buyer).orders().clone();
    let balances = shop.balances();
    for clean in [false, true, false] {
        if clean {
            shop.reopen()
        } else {
            shop.crash()
        }
        for (order, state) in orders.iter().zip(states) {
            assert_eq!(shop.status(order), state);
        }
        assert_eq!(shop.client.query_buyer_all_orders(&shop.buyer).orders(), &before);
        assert_eq!(shop.balances(), balances);
        assert_eq!(shop.stock(CHEAP), STOCK - 4);
        shop.client.register(&shop.buyer).refused(512, "buyer");
        shop.client.create_store(&shop.seller, STORE).refused(514, STORE);
        shop.client.add_book(&shop.seller, STORE, book(CHEAP, 1), 1).refused(516, CHEAP);
    }
}

#[test]
fn from_its_deadline_on_every_route_treats_an_unpaid_order_as_canceled() {
    let shop = Shop::open(&["--order-ttl", "2s"]);
    let client = &shop.client;
    // One order for each route, so that each is the first to meet its order.
    let orders: Vec<String> = (0..8).map(|_| shop.order(&[(CHEAP, 1)])).collect();
    let paid = shop.order(&[(DEAR, 1)]);
    client.payment(&shop.buyer, &paid).ok();
    assert_eq!(shop.stock(CHEAP), STOCK - 8);
    sleep(Duration::from_millis(2_050));
    client.payment(&shop.buyer, &orders[0]).refused(526, &orders[0]);
    client.pay_to_platform(&shop.buyer, &orders[1]).refused(526, &orders[1]);
    client.cancel(&shop.buyer, &orders[2]).refused(521, &orders[2]);
    client.confirm(&shop.buyer, &orders[3]).refused(520, &orders[3]);
    client.ship(&shop.seller, STORE, &orders[4]).refused(520, &orders[4]);
    assert_eq!(shop.status(&orders[5]), "canceled");
    assert_eq!(element(&shop, &orders[6])["status"], json!("canceled"));
    client.auto_cancel().ok();
    assert_eq!(shop.stock(CHEAP), STOCK);
    assert_eq!(shop.stock(DEAR), STOCK - 1);
    for order in &orders {
        assert_eq!(flags(&shop, order), ("canceled".into(), false, false, false));
    }
    assert_eq!(shop.status(&paid), "paid");
    assert_eq!(client.order_count("buyer"), 9);
    assert_eq!(shop.balances(), (FUNDS - DEAR_PRICE, DEAR_PRICE));
}

#[test]
fn an_unpaid_order_is_canceled_though_nobody_asks() {
    let shop = Shop::open(&["--order-ttl", "1s"]);
    shop.order(&[(CHEAP, 4)]);
    assert_eq!(shop.stock(CHEAP), STOCK - 4);
    // The stock is all that is looked at: no route touches the order.
    wait_until("the stock is given back", || shop.stock(CHEAP) == STOCK);
}

#[test]
fn auto_cancel_has_given_the_stock_back_when_it_answers() {
    let shop = Shop::open(&["--order-ttl", "1s"]);
    let order = shop.order(&[(CHEAP, STOCK)]);
    shop.client.auto_cancel().ok();
    sleep(Duration::from_millis(1_050));
    shop.client.auto_cancel().ok();
    assert_eq!(shop.stock(CHEAP), STOCK);
    assert_eq!(shop.status(&order), "canceled");
}

#[test]
fn deadlines_hold_over_a_crash_and_over_a_clean_restart() {
    for clean in [false, true] {
        let mut shop = Shop::open(&["--order-ttl", "2s"]);
        let late = shop.order(&[(CHEAP, 4)]);
        let paid = shop.order(&[(DEAR, 1)]);
        shop.client.pay_to_platform(&shop.buyer, &paid).ok();
        if clean {
            shop.reopen()
        } else {
            shop.crash()
        }
        wait_until("the stock is given back", || shop.stock(CHEAP) == STOCK);
        shop.client.payment(&shop.buyer, &late).refused(526, &late);
        assert_eq!(shop.status(&late), "canceled");
        assert_eq!(shop.status(&paid), "paid");

        // The deadline passes while no server runs.
        let late = shop.order(&[(CHEAP, 4)]);
        shop.server.kill9();
        sleep(Duration::from_millis(2_050));
        shop.server.restart();
        shop.client = shop.server.client();
        assert_eq!(shop.status(&late), "canceled");
        assert_eq!(shop.stock(CHEAP), STOCK);
        assert_eq!(shop.balances(), (FUNDS - DEAR_PRICE, 0));
    }
}

#[test]
fn every_durability_mode_keeps_its_promise_over_a_clean_restart() {
    for mode in ["sync", "buffered", "snapshot"] {
        let mut shop = Shop::open(&["--durability", mode]);
        let order = shop.order_in("shipped");
        shop.reopen();
        assert_eq!(shop.status(&order), "shipped", "{mode}");
        assert_eq!(shop.balances(), (FUNDS - CHEAP_PRICE, CHEAP_PRICE), "{mode}");
        assert_eq!(shop.stock(CHEAP), STOCK - 1, "{mode}");
        if mode != "snapshot" {
            let order = shop.order_in("paid");
            shop.crash();
            assert_eq!(shop.status(&order), "paid", "{mode}");
        }
    }
}
