//! The routes of /auth, the tokens they give, and what an id that is registered anew inherits: nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::collections::HashSet;
use std::thread::sleep;
use std::time::Duration;

use common::shop::{CHEAP, CHEAP_PRICE, DEAR, DEAR_PRICE, NO_ORDER, STOCK, STORE};
use common::{Server, Shop, User, book};
use serde_json::json;

#[test]
fn register_gives_an_account_with_balance_0_and_refuses_a_known_id() {
    let server = Server::start(&[]);
    let client = server.client();
    let user = User::new("anna");
    client.register(&user).ok();
    assert_eq!(client.balance(&user), 0);
    assert_eq!(client.order_count("anna"), 0);
    client.register(&user).refused(512, "anna");
    client.register(&user.with_password("another")).refused(512, "anna");
    client.login(&user.with_password("another")).unauthorised();
    client.login(&user).ok();
}

#[test]
fn login_is_401_for_an_unknown_user_and_a_wrong_password() {
    let server = Server::start(&[]);
    let client = server.client();
    let user = User::new("anna");
    client.login(&user).unauthorised();
    client.register(&user).ok();
    client.login(&user.with_password("wrong")).unauthorised();
    assert_ne!(client.login(&user).ok().text("token"), "");
    client.post("/auth/login", json!({"user_id": "anna", "password": user.password})).ok();
    client.post("/auth/login", json!({"user_id": "anna", "password": user.password, "terminal": null})).ok();
}

#[test]
fn many_tokens_are_valid_at_once_and_logout_revokes_the_one_it_is_given() {
    let server = Server::start(&[]);
    let client = server.client();
    let user = client.new_user("anna");
    let tokens: Vec<String> = (0..100).map(|_| client.login(&user).ok().text("token")).collect();
    assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), 100, "one token a login");

    for token in tokens.iter().step_by(2) {
        client.logout(&user.with_token(token)).ok();
    }
    for (i, token) in tokens.iter().enumerate() {
        let answer = client.create_store(&user.with_token(token), &format!("store-{i}"));
        answer.is(if i % 2 == 0 { 401 } else { 200 });
    }
    client.create_store(&user, "the first token is still good").ok();
}

#[test]
fn logout_is_401_for_every_token_that_is_not_this_users() {
    let server = Server::start(&[]);
    let client = server.client();
    let anna = client.new_user("anna");
    let ben = client.new_user("ben");
    client.logout(&anna.with_id("nobody")).unauthorised();
    client.logout(&anna.with_token("")).unauthorised();
    client.logout(&anna.with_token("nonsense")).unauthorised();
    client.logout(&anna.with_token(&ben.token)).unauthorised();
    client.post("/auth/logout", json!({"user_id": "anna"})).unauthorised();
    client.logout(&anna).ok();
    client.logout(&anna).unauthorised();
    client.logout(&ben).ok();
}

#[test]
fn a_token_ends_after_its_time() {
    let server = Server::start(&["--token-ttl", "1s"]);
    let client = server.client();
    let anna = client.new_user("anna");
    sleep(Duration::from_millis(2_500));
    client.create_store(&anna, "store").unauthorised();
    client.logout(&anna).unauthorised();
    let anna = client.logged_in(&anna);
    client.create_store(&anna, "store").ok();
}

#[test]
fn a_missing_empty_forged_or_foreign_token_is_401_on_every_route_that_needs_one() {
    let mut shop = Shop::open(&[]);
    let order = shop.order_in("paid");
    let forged: String = {
        let (head, last) = shop.seller.token.split_at(shop.seller.token.len() - 4);
        let flipped = if last.starts_with('A') { "BBBB" } else { "AAAA" };
        format!("{head}{flipped}")
    };
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzZWxsZXIifQ.";
    let bearer = format!("Bearer {}", shop.seller.token);
    let bad = ["", "x", forged.as_str(), unsigned, bearer.as_str(), shop.buyer.token.as_str()];
    let requests = [
        ("/seller/create_store", json!({"user_id": "seller", "store_id": "second"})),
        ("/seller/add_book", json!({"user_id": "seller", "store_id": STORE, "book_info": book("new", 1)})),
        (
            "/seller/add_stock_level",
            json!({"user_id": "seller", "store_id": STORE, "book_id": CHEAP, "add_stock_level": 1}),
        ),
        ("/seller/set_price", json!({"user_id": "seller", "store_id": STORE, "book_id": CHEAP, "price": 1})),
        ("/seller/delist_book", json!({"user_id": "seller", "store_id": STORE, "book_id": CHEAP})),
        ("/seller/relist_book", json!({"user_id": "seller", "store_id": STORE, "book_id": CHEAP})),
        ("/seller/ship", json!({"user_id": "seller", "store_id": STORE, "order_id": order})),
        ("/buyer/new_order", json!({"user_id": "seller", "store_id": STORE, "books": [{"id": CHEAP, "count": 1}]})),
        ("/seller/close_store", json!({"user_id": "seller", "store_id": "second"})),
        ("/auth/logout", json!({"user_id": "seller"})),
    ];
    for (path, body) in &requests {
        shop.client.post(path, body.clone()).unauthorised();
        for token in bad {
            shop.client.post_with_token(token, path, body.clone()).unauthorised();
        }
    }
    assert_eq!(shop.stock(CHEAP), STOCK - 1, "no refused request left a trace");
    // The tokens are good on the other side of a crash, and the same requests with the right one pass.
    shop.crash();
    for (path, body) in requests {
        shop.client.post_with_token(&shop.seller.token, path, body).ok();
    }
}

#[test]
fn routes_with_a_password_do_not_look_at_the_token() {
    let shop = Shop::open(&[]);
    let order = shop.order(&[(CHEAP, 1)]);
    let body = json!({"user_id": "buyer", "order_id": order, "password": shop.buyer.password});
    shop.client.post_with_token("nonsense", "/buyer/payment", body).ok();
    let body = json!({"user_id": "buyer", "order_id": NO_ORDER, "password": "wrong"});
    shop.client.post_with_token(&shop.buyer.token, "/buyer/query_order_status", body).unauthorised();
}

#[test]
fn a_new_password_revokes_every_token_and_ends_the_old_password_everywhere() {
    let shop = Shop::open(&[]);
    let (client, old) = (&shop.client, &shop.buyer);
    let order = shop.order(&[(CHEAP, 1)]);
    let second = client.logged_in(old);
    client.change_password(&User::new("nobody"), "new").unauthorised();
    client.change_password(&old.with_password("wrong"), "new").unauthorised();
    client.create_store(&second, "still valid").ok();

    client.change_password(old, "new").ok();
    for user in [old, &second] {
        client.create_store(user, "too late").unauthorised();
        client.logout(user).unauthorised();
    }
    client.login(old).unauthorised();
    client.change_password(old, "newer").unauthorised();
    client.payment(old, &order).unauthorised();
    client.add_funds(old, 1).unauthorised();
    client.order_status(old, &order).unauthorised();

    let new = client.logged_in(&old.with_password("new"));
    client.create_store(&new, "with the new token").ok();
    client.payment(&new, &order).ok();
    assert_eq!(client.order_count("buyer"), 1);
}

#[test]
fn tokens_revocations_and_passwords_survive_a_crash_and_a_clean_restart() {
    let mut shop = Shop::open(&[]);
    let revoked = shop.client.logged_in(&shop.seller);
    shop.client.logout(&revoked).ok();
    shop.client.change_password(&shop.buyer, "new").ok();
    let new = shop.client.logged_in(&shop.buyer.with_password("new"));
    for round in 0..2 {
        if round == 0 {
            shop.crash()
        } else {
            shop.reopen()
        }
        let client = &shop.client;
        client.create_store(&shop.seller, &format!("seller's, round {round}")).ok();
        client.create_store(&new, &format!("buyer's, round {round}")).ok();
        client.create_store(&revoked, "never").unauthorised();
        client.create_store(&shop.buyer, "never").unauthorised();
        client.login(&shop.buyer).unauthorised();
        client.login(&new).ok();
    }
}

#[test]
fn unregister_judges_the_password_first_and_wants_an_account_at_rest() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    let user = client.new_user("anna");
    client.unregister(&User::new("nobody")).unauthorised();
    client.unregister(&user.with_password("wrong")).unauthorised();

    // A balance: the wrong password is judged before it.
    client.add_funds(&user, CHEAP_PRICE).ok();
    client.unregister(&user.with_password("wrong")).unauthorised();
    client.unregister(&user).is(530);
    // The balance is 0 from here on; first a pending order, then a paid one, then a shipped one.
    client.add_funds(&user, -CHEAP_PRICE).ok();
    let order = client.order(&user, STORE, &[(CHEAP, 1)]);
    client.unregister(&user).is(530);
    client.add_funds(&user, CHEAP_PRICE).ok();
    client.payment(&user, &order).ok();
    assert_eq!(client.balance(&user), 0);
    client.unregister(&user).is(530);
    client.ship(&shop.seller, STORE, &order).ok();
    client.unregister(&user).is(530);
    client.confirm(&user, &order).ok();
    // A store: it can never be given up, so a seller stays.
    client.add_funds(&shop.seller, -CHEAP_PRICE).ok();
    assert_eq!(client.balance(&shop.seller), 0);
    client.unregister(&shop.seller).is(530);

    client.login(&user).ok();
    client.unregister(&user).ok();
    client.unregister(&user).unauthorised();
    client.login(&user).unauthorised();
    client.query_balance(&user).unauthorised();
    client.query_buyer_all_orders(&user).refused(511, "anna");
    client.new_order(&user, STORE, &[(CHEAP, 1)]).refused(511, "anna");
}

#[test]
fn an_order_paid_to_the_platform_is_open_too() {
    let shop = Shop::open(&[]);
    let user = shop.client.buyer_with_funds("anna", DEAR_PRICE);
    let order = shop.client.order(&user, STORE, &[(DEAR, 1)]);
    shop.client.pay_to_platform(&user, &order).ok();
    assert_eq!(shop.client.balance(&user), 0);
    shop.client.unregister(&user).is(530);
    shop.client.confirm(&user, &order).ok();
    shop.client.unregister(&user).ok();
}

#[test]
fn an_id_registered_anew_inherits_nothing() {
    let mut shop = Shop::open(&[]);
    let old = shop.client.new_user("anna");
    let canceled = shop.client.order(&old, STORE, &[(CHEAP, 1)]);
    shop.client.cancel(&old, &canceled).ok();
    shop.client.add_funds(&old, CHEAP_PRICE).ok();
    let completed = shop.client.order(&old, STORE, &[(CHEAP, 1)]);
    shop.client.payment(&old, &completed).ok();
    shop.client.confirm(&old, &completed).ok();
    shop.client.unregister(&old).ok();
    assert_eq!(shop.client.order_count("anna"), 0);

    // Gone: the orders still bear the id, but nobody is behind it.
    for order in [&canceled, &completed] {
        shop.client.payment(&old, order).refused(511, "anna");
        shop.client.pay_to_platform(&old, order).refused(511, "anna");
        shop.client.confirm(&old, order).unauthorised();
        shop.client.cancel(&old, order).refused(511, "anna");
        shop.client.order_status(&old, order).refused(511, "anna");
    }

    // A newer account of the same id and the same password, before and after a crash.
    let new = shop.client.new_user("anna");
    for round in 0..2 {
        let client = &shop.client;
        for order in [&canceled, &completed] {
            client.payment(&new, order).refused(511, "anna");
            client.pay_to_platform(&new, order).refused(511, "anna");
            client.confirm(&new, order).unauthorised();
            client.cancel(&new, order).refused(518, order);
            client.order_status(&new, order).refused(518, order);
        }
        assert_eq!(client.balance(&new), 0);
        assert_eq!(client.order_count("anna"), 0);
        assert!(client.query_buyer_all_orders(&new).orders().is_empty());
        client.create_store(&old, "with the old token").unauthorised();
        client.logout(&old).unauthorised();
        if round == 0 {
            shop.crash();
        }
    }
    shop.client.create_store(&new, "with the new token").ok();
    // The store keeps its history.
    assert_eq!(shop.client.query_one_store_orders(&shop.seller, STORE).orders().len(), 2);
}

#[test]
fn query_balance_is_401_as_add_funds() {
    let shop = Shop::open(&[]);
    shop.client.query_balance(&User::new("nobody")).unauthorised();
    shop.client.query_balance(&shop.buyer.with_password("wrong")).unauthorised();
    shop.client.query_balance(&shop.buyer).ok();
}
