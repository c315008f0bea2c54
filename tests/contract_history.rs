//! The history of an order: when each of its steps was taken and by whom, as buyer and seller see it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::shop::{CHEAP, CHEAP_PRICE, NO_ORDER, STORE};
use common::{Shop, User, wait_until};
use serde_json::{Value, json};

const STEPS: [&str; 6] = ["placed", "paid", "shipped", "extended", "confirmed", "canceled"];

/// The order as buyer and seller see it, which must be the same, and beside its history as both see it in their lists.
#[track_caller]
fn order(shop: &Shop, id: &str) -> Value {
    let order = shop.client.buyer_order(&shop.buyer, id).ok().body["order"].clone();
    assert_eq!(order, shop.client.seller_order(&shop.seller, id).ok().body["order"]);
    let lists = shop.client.query_buyer_all_orders(&shop.buyer);
    let listed = lists.orders().iter().find(|listed| listed["order_id"] == json!(id)).unwrap().as_object().unwrap();
    for (name, value) in listed {
        assert_eq!(order[name], *value, "{name}");
    }
    let mut beside: Vec<&String> = order.as_object().unwrap().keys().filter(|key| !listed.contains_key(*key)).collect();
    beside.sort();
    assert_eq!(beside, ["confirm_deadline", "deadline", "history", "paid_to"]);
    order
}

/// The steps that were taken and by whom; their times go up.
#[track_caller]
fn way(order: &Value) -> Vec<(&'static str, String)> {
    let history = order["history"].as_object().unwrap();
    assert_eq!(history.len(), STEPS.len());
    let taken: Vec<&'static str> = STEPS.into_iter().filter(|step| !history[*step].is_null()).collect();
    // RFC 3339 with as many digits each sorts as text.
    let times: Vec<&str> = taken.iter().map(|step| history[*step]["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && times.iter().all(|time| time.len() == 24 && time.ends_with('Z')), "{history:?}");
    assert_eq!(history["placed"]["time"], order["created_time"]);
    taken.into_iter().map(|step| (step, history[step]["by"].as_str().unwrap().to_owned())).collect()
}

fn steps(way: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    way.iter().map(|(step, by)| (*step, (*by).to_owned())).collect()
}

#[test]
fn both_routes_check_in_their_order() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    let id = shop.order(&[(CHEAP, 1)]);
    type Ask = fn(&common::Client, &User, &str) -> common::Answer;
    let routes: [(_, _, Ask); 2] = [
        (&shop.buyer, &shop.seller, |client, user, id| client.buyer_order(user, id)),
        (&shop.seller, &shop.buyer, |client, user, id| client.seller_order(user, id)),
    ];
    for (right, other, ask) in routes {
        ask(client, &User::new("nobody"), NO_ORDER).refused(511, "nobody");
        ask(client, &right.with_password("wrong"), NO_ORDER).unauthorised();
        ask(client, &right.with_password("wrong"), &id).unauthorised();
        ask(client, right, NO_ORDER).refused(518, NO_ORDER);
        ask(client, right, "no order").refused(518, "no order");
        ask(client, other, &id).refused(518, &id);
        // Who sells something else sees no more than who sells nothing.
        let stranger = client.new_user(&format!("stranger to {}", right.id));
        client.create_store(&stranger, &format!("store of {}", stranger.id)).ok();
        ask(client, &stranger, &id).refused(518, &id);
        ask(client, right, &id).ok();
    }
}

#[test]
fn each_step_is_told_with_its_time_and_who_took_it() {
    let mut shop = Shop::open(&[]);
    let placed = shop.order(&[(CHEAP, 2)]);
    let whole = order(&shop, &placed);
    assert_eq!(way(&whole), steps(&[("placed", "buyer")]));
    assert_eq!((&whole["paid_to"], &whole["confirm_deadline"]), (&Value::Null, &Value::Null));
    assert_eq!(whole["total_price"], json!(2 * CHEAP_PRICE));
    assert!(whole["deadline"].as_str().unwrap() > whole["created_time"].as_str().unwrap());

    let canceled = shop.order_in("canceled");
    let direct = shop.order_in("completed");
    let shipped = shop.order(&[(CHEAP, 1)]);
    shop.client.pay_to_platform(&shop.buyer, &shipped).ok();
    shop.client.ship(&shop.seller, STORE, &shipped).ok();
    let whole = shop.order(&[(CHEAP, 1)]);
    shop.client.pay_to_platform(&shop.buyer, &whole).ok();
    shop.client.ship(&shop.seller, STORE, &whole).ok();
    shop.client.confirm(&shop.buyer, &whole).ok();
    let mut before = None;
    for round in 0..3 {
        let orders = [&canceled, &direct, &shipped, &whole].map(|id| order(&shop, id));
        let expected: [(&[_], _); 4] = [
            (&[("placed", "buyer"), ("canceled", "buyer")], Value::Null),
            (&[("placed", "buyer"), ("paid", "buyer"), ("confirmed", "buyer")], json!("seller")),
            (&[("placed", "buyer"), ("paid", "buyer"), ("shipped", "seller")], json!("platform")),
            (
                &[("placed", "buyer"), ("paid", "buyer"), ("shipped", "seller"), ("confirmed", "buyer")],
                json!("platform"),
            ),
        ];
        for (order, (expected, paid_to)) in orders.iter().zip(expected) {
            assert_eq!(way(order), steps(expected));
            assert_eq!(order["paid_to"], paid_to);
        }
        // The times are those of the steps, whatever happens to the process.
        assert_eq!(*before.get_or_insert(orders.clone()), orders);
        match round {
            0 => shop.crash(),
            _ => shop.reopen(),
        }
    }
}

#[test]
fn an_order_that_nobody_paid_was_canceled_by_its_deadline() {
    let mut shop = Shop::open(&["--order-ttl", "1s"]);
    let late = shop.order(&[(CHEAP, 1)]);
    // One question at a time: between two of them the deadline may come.
    wait_until("the order has expired", || shop.status(&late) == "canceled");
    let canceled = order(&shop, &late);
    assert_eq!(way(&canceled), steps(&[("placed", "buyer"), ("canceled", "deadline")]));
    assert!(canceled["history"]["canceled"]["time"].as_str().unwrap() >= canceled["deadline"].as_str().unwrap());
    shop.crash();
    assert_eq!(order(&shop, &late), canceled);
}
