//! Closing a store: /seller/close_store, its checks in their order, and what is left of a closed store, over real sockets,
//! crashes included. And orders that come while it closes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::shop::{CHEAP, CHEAP_PRICE, DEAR, STOCK, STORE};
use common::{Client, Shop, User, book, wait_until};
use serde_json::{Value, json};

const SEARCHES: [&str; 3] = ["/buyer/search", "/seller/search", "/search/search_books"];

/// To everybody and for every change the store is not there; to who reads it is.
#[track_caller]
fn is_closed(shop: &Shop) {
    let client = &shop.client;
    for user in [&shop.seller, &shop.buyer] {
        client.new_order(user, STORE, &[(CHEAP, 1)]).refused(513, STORE);
        client.add_book(user, STORE, book("new", 1), 1).refused(513, STORE);
        client.add_stock_level(user, STORE, CHEAP, 1).refused(513, STORE);
        client.ship(user, STORE, common::shop::NO_ORDER).refused(513, STORE);
        client.set_price(user, STORE, CHEAP, 1).refused(513, STORE);
        client.delist_book(user, STORE, CHEAP).refused(513, STORE);
        client.relist_book(user, STORE, CHEAP).refused(513, STORE);
        client.close_store(user, STORE).refused(513, STORE);
        // Its id stays taken, for others as well.
        client.create_store(user, STORE).refused(514, STORE);
    }
    for (book, stock) in [(CHEAP, STOCK - 1), (DEAR, STOCK)] {
        assert_eq!(shop.stock(book), stock);
        client.try_stock(Some(&shop.buyer), STORE, book).unwrap().ok();
        client.query_book(STORE, book).ok();
    }
    client.query_book(STORE, "none").refused(515, "none");
}

fn search(client: &Client, route: &str, body: Value) -> u16 {
    client.post(route, body).status
}

#[test]
fn close_store_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    let nobody = User::new("nobody").with_token("bad");
    client.close_store(&nobody, "none").refused(511, "nobody");
    client.close_store(&shop.buyer.with_token("bad"), "none").unauthorised();
    client.close_store(&shop.seller.with_token(&shop.buyer.token), STORE).unauthorised();
    client.close_store(&shop.buyer, "none").refused(513, "none");
    let order = shop.order_in("pending");
    client.close_store(&shop.buyer, STORE).unauthorised();
    for state in ["pending", "paid", "shipped"] {
        match state {
            "paid" => drop(client.payment(&shop.buyer, &order)),
            "shipped" => drop(client.ship(&shop.seller, STORE, &order)),
            _ => {}
        }
        assert_eq!(shop.status(&order), state);
        let answer = client.close_store(&shop.seller, STORE);
        answer.invalid("store_id");
        assert_eq!(answer.message(), "invalid parameter store_id: the store has open orders");
    }
    // Nothing has happened to it.
    client.cancel(&shop.buyer, &shop.order(&[(CHEAP, 1)])).ok();
    client.confirm(&shop.buyer, &order).ok();
    client.close_store(&shop.seller, STORE).ok();
    client.close_store(&shop.seller, STORE).refused(513, STORE);
}

#[test]
fn a_closed_store_takes_no_change_and_its_orders_still_answer_crashes_included() {
    let mut shop = Shop::open(&[]);
    let done = shop.order_in("completed");
    let canceled = shop.order_in("canceled");
    shop.client.create_store(&shop.seller, "second").ok();
    shop.client.close_store(&shop.seller, STORE).ok();
    for round in 0..3 {
        is_closed(&shop);
        let answer = shop.client.query_one_store_orders(&shop.seller, STORE);
        let ids: Vec<_> = answer.orders().iter().map(|order| order["order_id"].as_str().unwrap()).collect();
        assert_eq!(ids, [&canceled, &done], "round {round}");
        shop.client.query_one_store_orders(&shop.buyer, STORE).refused(522, "buyer");
        let all = shop.client.query_all_store_orders(&shop.seller);
        assert_eq!(all.ok().body["orders"][STORE], json!(answer.orders()));
        assert_eq!(all.body["orders"]["second"], json!([]));
        assert_eq!((shop.status(&done), shop.status(&canceled)), ("completed".into(), "canceled".into()));
        shop.client.cancel(&shop.buyer, &done).refused(521, &done);
        shop.client.confirm(&shop.buyer, &done).refused(528, &done);
        match round {
            0 => shop.crash(),
            _ => shop.reopen(),
        }
    }
}

#[test]
fn the_books_of_a_closed_store_are_not_found_restarts_included() {
    let mut shop = Shop::open(&[]);
    shop.client.create_store(&shop.buyer, "other").ok();
    for store in [STORE, "other"] {
        let owner = if store == STORE { &shop.seller } else { &shop.buyer };
        shop.client.add_book(owner, store, json!({"id": "m", "title": "米", "price": 1}), 1).ok();
    }
    let inside = |store: &str| json!({"keyword": "米", "search_in_store": true, "store_id": store});
    for route in SEARCHES {
        assert_eq!(shop.client.post(route, json!({"keyword": "米"})).number("total"), 2);
        assert_eq!(search(&shop.client, route, inside(STORE)), 200);
    }
    shop.client.delist_book(&shop.seller, STORE, "m").ok();
    shop.client.relist_book(&shop.seller, STORE, "m").ok();
    shop.client.close_store(&shop.seller, STORE).ok();
    for _ in 0..2 {
        for route in SEARCHES {
            let found = shop.client.post(route, json!({"keyword": "米"}));
            assert_eq!((found.number("total"), &found.body["books"][0]["store_id"]), (1, &json!("other")));
            shop.client.post(route, inside(STORE)).refused(524, STORE);
            assert_eq!(search(&shop.client, route, inside("other")), 200);
        }
        shop.crash();
        let client = &shop.client;
        wait_until("the index is complete", || search(client, SEARCHES[0], json!({"keyword": "none of it"})) == 523);
    }
}

#[test]
fn who_has_closed_his_stores_may_unregister_and_leaves_nothing_to_his_name() {
    let mut shop = Shop::open(&[]);
    let order = shop.order_in("completed");
    shop.client.create_store(&shop.seller, "second").ok();
    shop.client.add_funds(&shop.seller, -CHEAP_PRICE).ok();
    shop.client.close_store(&shop.seller, STORE).ok();
    shop.client.unregister(&shop.seller).invalid("user_id");
    shop.client.close_store(&shop.seller, "second").ok();
    shop.crash();
    shop.client.unregister(&shop.seller).ok();
    for _ in 0..2 {
        // The order is the buyer's as well.
        assert_eq!(shop.status(&order), "completed");
        shop.client.create_store(&shop.buyer, STORE).refused(514, STORE);
        shop.crash();
    }
    let heir = shop.client.new_user("seller");
    shop.client.create_store(&heir, STORE).refused(514, STORE);
    shop.client.close_store(&heir, STORE).refused(513, STORE);
    shop.client.query_one_store_orders(&heir, STORE).refused(522, "seller");
    shop.client.query_all_store_orders(&heir).refused(522, "seller");
}

#[test]
fn an_order_that_expires_does_not_keep_a_store_open_nor_does_one_at_rest_that_is_over() {
    let shop = Shop::open(&["--order-ttl", "300ms", "--idle-after", "0s", "--resting-orders-max", "0"]);
    let paid = shop.order(&[(CHEAP, 1)]);
    shop.client.payment(&shop.buyer, &paid).ok();
    shop.order(&[(DEAR, 1)]);
    // The one that is open rests on disk by then.
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    shop.client.close_store(&shop.seller, STORE).invalid("store_id");
    shop.client.confirm(&shop.buyer, &paid).ok();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    shop.client.close_store(&shop.seller, STORE).ok();
    is_closed(&shop);
}

/// A repeat under a key is answered as before, also when the store is closed meanwhile; a new key is not.
#[test]
fn a_kept_order_is_answered_when_its_store_is_closed() {
    let mut shop = Shop::open(&[]);
    let order = shop.client.with_key("k").order(&shop.buyer, STORE, &[(CHEAP, 1)]);
    shop.client.cancel(&shop.buyer, &order).ok();
    shop.client.close_store(&shop.seller, STORE).ok();
    for _ in 0..2 {
        assert_eq!(shop.client.with_key("k").order(&shop.buyer, STORE, &[(CHEAP, 1)]), order);
        shop.client.with_key("k").new_order(&shop.buyer, STORE, &[(CHEAP, 2)]).is(422);
        shop.client.with_key("other").new_order(&shop.buyer, STORE, &[(CHEAP, 1)]).refused(513, STORE);
        shop.crash();
    }
}

/// Buyers place and cancel while the seller tries to close: once it is closed no order is open, and none is placed any
/// more. The audit at the server's end counts contradictions.
#[test]
fn orders_that_come_while_a_store_closes() {
    const ROUNDS: u64 = 12;
    const BUYERS: u64 = 4;
    let shop = Shop::open(&[]);
    let buyers: Vec<User> = (0..BUYERS).map(|number| shop.client.new_user(&format!("buyer {number}"))).collect();
    let (mut refused, mut placed) = (0, 0);
    for round in 0..ROUNDS {
        let store = format!("store {round}");
        shop.client.create_store(&shop.seller, &store).ok();
        shop.client.add_book(&shop.seller, &store, book("b", 0), 1_000_000).ok();
        let (closed, began) = (AtomicBool::new(false), AtomicBool::new(false));
        let counts: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = buyers
                .iter()
                .enumerate()
                .map(|(number, buyer)| {
                    let (client, store, closed, began) = (shop.client.another(), &store, &closed, &began);
                    scope.spawn(move || {
                        let mut placed = 0;
                        for turn in 0.. {
                            let was_closed = closed.load(Ordering::SeqCst);
                            let answer = client.new_order(buyer, store, &[("b", 1)]);
                            if answer.status == 513 {
                                break;
                            }
                            assert!(!was_closed, "an order was placed in a closed store");
                            placed += 1;
                            began.store(true, Ordering::SeqCst);
                            client.cancel(buyer, &answer.ok().text("order_id")).ok();
                            // Room for the seller: not all at once.
                            if turn % 3 == number {
                                std::thread::sleep(std::time::Duration::from_millis(2));
                            }
                        }
                        placed
                    })
                })
                .collect();
            let client = shop.client.another();
            // Before the first order, or in the middle of them.
            if round % 2 == 0 {
                wait_until("an order is placed", || began.load(Ordering::SeqCst));
            }
            loop {
                match client.close_store(&shop.seller, &store).status {
                    200 => break,
                    530 => refused += 1,
                    other => panic!("{other}"),
                }
            }
            closed.store(true, Ordering::SeqCst);
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        placed += counts.iter().sum::<u64>();
        let orders = shop.client.query_one_store_orders(&shop.seller, &store);
        assert_eq!(orders.orders().len() as u64, counts.iter().sum::<u64>());
        assert!(orders.orders().iter().all(|order| order["status"] == json!("canceled")), "{orders:?}");
    }
    println!("{placed} orders in {ROUNDS} stores, {refused} closings refused");
    assert!(placed >= ROUNDS / 2);
}
