//! The routes of /buyer: each row of the contract's table, its checks in their order, and the bounds of
//! money.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::shop::{CHEAP, CHEAP_PRICE, DEAR, DEAR_PRICE, FUNDS, NO_ORDER, STOCK, STORE};
use common::{Server, Shop, User, book};
use serde_json::json;

const STATES: [&str; 5] = ["pending", "paid", "shipped", "completed", "canceled"];

#[test]
fn new_order_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    let nobody = User::new("nobody").with_token("bad");
    let lines = [("none", 1), (CHEAP, STOCK + 1)];
    client.new_order(&nobody, "none", &lines).refused(511, "nobody");
    client.new_order(&shop.buyer.with_token("bad"), "none", &lines).unauthorised();
    client.new_order(&shop.buyer, "none", &lines).refused(513, "none");
    // The lines are judged one after another, as they stand in the request.
    client.new_order(&shop.buyer, STORE, &lines).refused(515, "none");
    let lines = [(CHEAP, STOCK + 1), ("none", 1)];
    client.new_order(&shop.buyer, STORE, &lines).refused(517, CHEAP);
    client.new_order(&shop.buyer, STORE, &[(CHEAP, 1), ("none", 1), (DEAR, 99)]).refused(515, "none");
    client.new_order(&shop.buyer, STORE, &[(CHEAP, 1), (DEAR, 99), ("none", 1)]).refused(517, DEAR);

    // All or nothing: none of the refused took a copy or left an order.
    assert_eq!((shop.stock(CHEAP), shop.stock(DEAR)), (STOCK, STOCK));
    assert_eq!(client.order_count("buyer"), 0);
    let order = shop.order(&[(CHEAP, STOCK), (DEAR, 1)]);
    assert_eq!((shop.stock(CHEAP), shop.stock(DEAR)), (0, STOCK - 1));
    assert_eq!(client.order_count("buyer"), 1);
    assert_eq!(shop.status(&order), "pending");
    client.new_order(&shop.buyer, STORE, &[(CHEAP, 1)]).refused(517, CHEAP);
}

#[test]
fn the_same_book_on_two_lines_counts_together() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    let lines = [(CHEAP, 6), (DEAR, 1), (CHEAP, 5)];
    client.new_order(&shop.buyer, STORE, &lines).refused(517, CHEAP);
    client.new_order(&shop.buyer, STORE, &[(CHEAP, 6), (CHEAP, 5), ("none", 1)]).refused(517, CHEAP);
    assert_eq!((shop.stock(CHEAP), shop.stock(DEAR)), (STOCK, STOCK));

    shop.order(&[(CHEAP, 6), (DEAR, 1), (CHEAP, 4)]);
    assert_eq!((shop.stock(CHEAP), shop.stock(DEAR)), (0, STOCK - 1));
    let answer = client.query_buyer_all_orders(&shop.buyer);
    let books = &answer.orders()[0]["books"];
    let merged = json!([
        {"id": CHEAP, "count": 10, "price": CHEAP_PRICE},
        {"id": DEAR, "count": 1, "price": DEAR_PRICE},
    ]);
    assert_eq!(books, &merged);
    assert_eq!(answer.orders()[0]["total_price"], json!(10 * CHEAP_PRICE + DEAR_PRICE));
}

#[test]
fn a_seller_may_buy_in_his_own_store() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    client.add_funds(&shop.seller, 1_000).ok();
    let at_once = client.order(&shop.seller, STORE, &[(CHEAP, 2)]);
    client.payment(&shop.seller, &at_once).ok();
    assert_eq!(client.balance(&shop.seller), 1_000);
    let by_escrow = client.order(&shop.seller, STORE, &[(CHEAP, 3)]);
    client.pay_to_platform(&shop.seller, &by_escrow).ok();
    assert_eq!(client.balance(&shop.seller), 700);
    client.ship(&shop.seller, STORE, &by_escrow).ok();
    for order in [&at_once, &by_escrow] {
        client.confirm(&shop.seller, order).ok();
    }
    assert_eq!(client.balance(&shop.seller), 1_000);
    // Money that one does not have does not come from oneself, either.
    let dear = client.order(&shop.seller, STORE, &[(DEAR, 5)]);
    client.payment(&shop.seller, &dear).refused(519, &dear);
    assert_eq!(shop.stock(CHEAP), STOCK - 5);
}

#[test]
fn pending_orders_are_limited_and_other_orders_do_not_count() {
    let shop = Shop::open(&["--pending-orders-max", "2"]);
    let client = &shop.client;
    let first = shop.order(&[(CHEAP, 1)]);
    let second = shop.order(&[(CHEAP, 1)]);
    client.new_order(&shop.buyer, STORE, &[(CHEAP, 1)]).is(429);
    assert_eq!(shop.stock(CHEAP), STOCK - 2);
    client.order(&shop.seller, STORE, &[(CHEAP, 1)]);
    client.payment(&shop.buyer, &first).ok();
    shop.order(&[(CHEAP, 1)]);
    client.new_order(&shop.buyer, STORE, &[(CHEAP, 1)]).is(429);
    client.cancel(&shop.buyer, &second).ok();
    shop.order(&[(CHEAP, 1)]);
}

#[test]
fn payment_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let (client, buyer, wrong) = (&shop.client, &shop.buyer, shop.buyer.with_password("wrong"));
    client.payment(&User::new("nobody"), NO_ORDER).refused(518, NO_ORDER);
    client.add_funds(buyer, -FUNDS + 4 * CHEAP_PRICE).ok();
    for state in STATES {
        let order = shop.order_in(state);
        client.payment(&User::new("nobody"), &order).unauthorised();
        client.payment(&shop.seller, &order).unauthorised();
        client.payment(&wrong, &order).unauthorised();
        match state {
            "pending" => {}
            "canceled" => {
                client.payment(buyer, &order).refused(526, &order);
            }
            _ => {
                client.payment(buyer, &order).refused(527, &order);
            }
        }
        assert_eq!(shop.status(&order), state);
    }
    // Three were paid; one price is left, and it is not enough for two.
    let order = shop.order(&[(CHEAP, 2)]);
    client.payment(&wrong, &order).unauthorised();
    client.payment(buyer, &order).refused(519, &order);
    assert_eq!(shop.status(&order), "pending");
    assert_eq!(shop.balances(), (CHEAP_PRICE, 3 * CHEAP_PRICE));
    // The state is judged before the funds.
    client.cancel(buyer, &order).ok();
    client.payment(buyer, &order).refused(526, &order);
    let order = shop.order(&[(CHEAP, 1)]);
    client.payment(buyer, &order).ok();
    client.payment(buyer, &order).refused(527, &order);
    assert_eq!(shop.balances(), (0, 4 * CHEAP_PRICE));
}

#[test]
fn pay_to_platform_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let (client, buyer, wrong) = (&shop.client, &shop.buyer, shop.buyer.with_password("wrong"));
    client.pay_to_platform(&User::new("nobody"), NO_ORDER).refused(518, NO_ORDER);
    client.add_funds(buyer, -FUNDS + 4 * CHEAP_PRICE).ok();
    for state in STATES {
        let order = shop.order_in(state);
        client.pay_to_platform(&User::new("nobody"), &order).unauthorised();
        client.pay_to_platform(&shop.seller, &order).unauthorised();
        client.pay_to_platform(&wrong, &order).unauthorised();
        let code = match state {
            "pending" => continue,
            "canceled" => 526,
            "paid" => 527,
            _ => 400,
        };
        client.pay_to_platform(buyer, &order).refused(code, &order);
        assert_eq!(shop.status(&order), state);
    }
    let order = shop.order(&[(CHEAP, 2)]);
    client.pay_to_platform(&wrong, &order).unauthorised();
    client.pay_to_platform(buyer, &order).refused(519, &order);
    assert_eq!(shop.status(&order), "pending");
    client.cancel(buyer, &order).ok();
    client.pay_to_platform(buyer, &order).refused(526, &order);
    let order = shop.order(&[(CHEAP, 1)]);
    client.pay_to_platform(buyer, &order).ok();
    client.pay_to_platform(buyer, &order).refused(527, &order);
    client.payment(buyer, &order).refused(527, &order);
    client.ship(&shop.seller, STORE, &order).ok();
    client.pay_to_platform(buyer, &order).refused(400, &order);
    client.payment(buyer, &order).refused(527, &order);
    assert_eq!(shop.balances(), (0, 3 * CHEAP_PRICE));
}

#[test]
fn confirm_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let (client, buyer) = (&shop.client, &shop.buyer);
    client.confirm(&User::new("nobody"), NO_ORDER).refused(518, NO_ORDER);
    for state in STATES {
        let order = shop.order_in(state);
        client.confirm(&User::new("nobody"), &order).unauthorised();
        client.confirm(&shop.seller, &order).unauthorised();
        client.confirm(&buyer.with_password("wrong"), &order).unauthorised();
        assert_eq!(shop.status(&order), state);
        match state {
            "pending" | "canceled" => {
                client.confirm(buyer, &order).refused(520, &order);
                assert_eq!(shop.status(&order), state);
            }
            "completed" => {
                client.confirm(buyer, &order).refused(528, &order);
            }
            _ => {
                client.confirm(buyer, &order).ok();
                assert_eq!(shop.status(&order), "completed");
                client.confirm(buyer, &order).refused(528, &order);
            }
        }
    }
}

#[test]
fn add_funds_checks_the_password_and_then_the_balance() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    client.add_funds(&User::new("nobody"), i64::MAX).unauthorised();
    client.add_funds(&shop.buyer.with_password("wrong"), -FUNDS - 1).unauthorised();
    client.add_funds(&shop.buyer, -FUNDS - 1).is(530);
    client.add_funds(&shop.buyer, i64::MIN).is(530);
    client.add_funds(&shop.buyer, i64::MAX).is(530);
    assert_eq!(client.balance(&shop.buyer), FUNDS);
    client.add_funds(&shop.buyer, 0).ok();
    client.add_funds(&shop.buyer, 1).ok();
    client.add_funds(&shop.buyer, -FUNDS).ok();
    assert_eq!(client.balance(&shop.buyer), 1);
    client.add_funds(&shop.buyer, -1).ok();
    client.add_funds(&shop.buyer, -1).is(530);
    assert_eq!(client.balance(&shop.buyer), 0);
}

#[test]
fn deposits_stay_below_2_to_the_62() {
    let mut server = Server::start(&[]);
    let client = server.client();
    let rich = client.new_user("rich");
    let other = client.new_user("other");
    let most = (1_i64 << 62) - 1;
    client.add_funds(&rich, 1 << 62).is(530);
    client.add_funds(&rich, i64::MAX).is(530);
    assert_eq!(client.balance(&rich), 0);
    client.add_funds(&rich, most).ok();
    client.add_funds(&rich, 1).is(530);
    client.add_funds(&rich, i64::MAX).is(530);
    // The bound is on the sum over all accounts: a credit can then never overflow.
    client.add_funds(&other, most).is(530);
    client.add_funds(&other, i64::MAX).is(530);
    server.kill9();
    server.restart();
    let client = server.client();
    assert_eq!(client.balance(&rich), most);
    assert_eq!(client.balance(&other), 0);
    client.add_funds(&rich, 1).is(530);
    client.add_funds(&rich, -most).ok();
    assert_eq!(client.balance(&rich), 0);
}

#[test]
fn an_orders_total_stays_below_2_to_the_53_and_a_refused_one_leaves_no_trace() {
    let shop = Shop::open(&[]);
    let (client, seller, buyer) = (&shop.client, &shop.seller, &shop.buyer);
    let limit = 1_i64 << 53;
    client.add_book(seller, STORE, book("half", limit / 2), 10).ok();
    client.add_book(seller, STORE, book("under", limit - 1), 10).ok();
    client.add_book(seller, STORE, book("one", 1), 10).ok();
    client.add_book(seller, STORE, book("max", i64::MAX), i64::MAX).ok();
    client.add_book(seller, STORE, book("free", 0), i64::MAX).ok();
    for lines in [
        vec![("half", 2)],
        vec![("half", 1), ("half", 1)],
        vec![("under", 1), ("one", 1)],
        vec![("max", 2)],
        vec![("max", 1), ("one", 1)],
        vec![("max", i64::MAX)],
        vec![("max", 1), ("max", 1)],
    ] {
        client.new_order(buyer, STORE, &lines).is(530);
    }
    // It is about state, so it comes after the lines' own checks.
    client.new_order(buyer, STORE, &[("max", 2), ("none", 1)]).refused(515, "none");
    client.new_order(buyer, STORE, &[("max", 2), ("one", 11)]).refused(517, "one");
    // Two lines that together overflow the count itself: there cannot be so many copies.
    let answer = client.new_order(buyer, STORE, &[("free", i64::MAX), ("free", i64::MAX)]);
    assert!([517, 530].contains(&answer.status), "{}", answer.body);
    for book in ["half", "under", "one"] {
        assert_eq!(shop.stock(book), 10, "{book}");
    }
    assert_eq!((shop.stock("max"), shop.stock("free")), (i64::MAX, i64::MAX));
    assert_eq!(client.order_count("buyer"), 0);

    let order = shop.order(&[("under", 1)]);
    client.payment(buyer, &order).refused(519, &order);
    client.add_funds(buyer, limit).ok();
    client.payment(buyer, &order).ok();
    assert_eq!(shop.balances(), (FUNDS + 1, limit - 1));
    shop.order(&[("free", i64::MAX)]);
    assert_eq!(shop.stock("free"), 0);
    client.add_stock_level(seller, STORE, "free", 0).ok();
}

#[test]
fn stock_that_comes_back_never_overflows() {
    let shop = Shop::open(&[]);
    let order = shop.order(&[(CHEAP, STOCK)]);
    let added = shop.client.add_stock_level(&shop.seller, STORE, CHEAP, i64::MAX);
    // Either the level is refused while copies are out, or they find room when they come back.
    assert!([200, 530].contains(&added.status), "{}", added.body);
    let before = shop.stock(CHEAP);
    shop.client.cancel(&shop.buyer, &order).ok();
    let after = shop.stock(CHEAP);
    assert!(after >= before, "{before} became {after}");
    if added.status == 530 {
        assert_eq!(after, STOCK);
    }
}

#[test]
fn query_order_status_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    let order = shop.order(&[(CHEAP, 1)]);
    client.order_status(&User::new("nobody"), NO_ORDER).refused(511, "nobody");
    client.order_status(&shop.buyer.with_password("wrong"), NO_ORDER).unauthorised();
    client.order_status(&shop.buyer, NO_ORDER).refused(518, NO_ORDER);
    client.order_status(&shop.seller, &order).refused(518, &order);
    assert_eq!(shop.status(&order), "pending");
}

#[test]
fn query_buyer_all_orders_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    client.query_buyer_all_orders(&User::new("nobody")).refused(511, "nobody");
    client.query_buyer_all_orders(&shop.buyer.with_password("wrong")).unauthorised();
    assert!(client.query_buyer_all_orders(&shop.buyer).orders().is_empty());
    shop.order(&[(CHEAP, 1)]);
    assert_eq!(client.query_buyer_all_orders(&shop.buyer).orders().len(), 1);
    assert!(client.query_buyer_all_orders(&shop.seller).orders().is_empty());
}

#[test]
fn a_list_longer_than_its_limit_is_530_and_never_cut() {
    let shop = Shop::open(&["--orders-listed-max", "2"]);
    for _ in 0..2 {
        shop.order(&[(CHEAP, 1)]);
    }
    assert_eq!(shop.client.query_buyer_all_orders(&shop.buyer).orders().len(), 2);
    assert_eq!(shop.client.query_one_store_orders(&shop.seller, STORE).orders().len(), 2);
    shop.order(&[(CHEAP, 1)]);
    shop.client.query_buyer_all_orders(&shop.buyer).is(530);
    shop.client.query_one_store_orders(&shop.seller, STORE).is(530);
    shop.client.query_all_store_orders(&shop.seller).is(530);
    assert_eq!(shop.client.order_count("buyer"), 3);
}

#[test]
fn cancel_order_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    client.cancel(&User::new("nobody"), NO_ORDER).refused(511, "nobody");
    client.cancel(&shop.buyer.with_password("wrong"), NO_ORDER).unauthorised();
    client.cancel(&shop.buyer, NO_ORDER).refused(518, NO_ORDER);
    let pending = shop.order(&[(CHEAP, 3)]);
    client.cancel(&shop.seller, &pending).refused(518, &pending);
    client.cancel(&shop.buyer.with_password("wrong"), &pending).unauthorised();
    assert_eq!(shop.stock(CHEAP), STOCK - 3);
    client.cancel(&shop.buyer, &pending).ok();
    assert_eq!(shop.stock(CHEAP), STOCK);
    for state in ["paid", "shipped", "completed", "canceled"] {
        let order = shop.order_in(state);
        let stock = shop.stock(CHEAP);
        client.cancel(&shop.buyer, &order).refused(521, &order);
        assert_eq!((shop.status(&order).as_str(), shop.stock(CHEAP)), (state, stock));
    }
}

#[test]
fn check_stock_level_checks_store_then_book_and_the_user_is_optional() {
    let shop = Shop::open(&[]);
    let path = "/buyer/check_stock_level";
    shop.client.check_stock_level("buyer", "none", "none").refused(513, "none");
    shop.client.check_stock_level("buyer", STORE, "none").refused(515, "none");
    for body in [
        json!({"user_id": "buyer", "store_id": STORE, "book_id": CHEAP}),
        json!({"user_id": "nobody", "store_id": STORE, "book_id": CHEAP}),
        json!({"user_id": null, "store_id": STORE, "book_id": CHEAP}),
        json!({"store_id": STORE, "book_id": CHEAP}),
    ] {
        assert_eq!(shop.client.post(path, body).ok().number("stock_level"), STOCK);
    }
}

#[test]
fn check_order_count_counts_every_state_and_an_unknown_user_has_0() {
    let shop = Shop::open(&[]);
    assert_eq!(shop.client.order_count("nobody"), 0);
    assert_eq!(shop.client.order_count("buyer"), 0);
    for (i, state) in STATES.into_iter().enumerate() {
        shop.order_in(state);
        assert_eq!(shop.client.order_count("buyer"), i64::try_from(i).unwrap() + 1);
    }
    assert_eq!(shop.client.order_count("seller"), 0);
}

#[test]
fn auto_cancel_answers_ok_when_nothing_is_expired() {
    let shop = Shop::open(&[]);
    let order = shop.order(&[(CHEAP, 1)]);
    shop.client.auto_cancel().ok();
    assert_eq!(shop.status(&order), "pending");
}
