//! The routes of /seller: each row of the contract's table, its checks in their order.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::shop::{CHEAP, DEAR, NO_ORDER, STOCK, STORE};
use common::{Server, Shop, User, book};
use serde_json::json;

#[test]
fn create_store_checks_user_then_token_then_id() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    let nobody = User::new("nobody").with_token("bad");
    client.create_store(&nobody, STORE).refused(511, "nobody");
    client.create_store(&shop.seller.with_token("bad"), STORE).unauthorised();
    client.create_store(&shop.seller, STORE).refused(514, STORE);
    client.create_store(&shop.buyer, STORE).refused(514, STORE);
    client.create_store(&shop.buyer, "another").ok();
    client.create_store(&shop.seller, "another").refused(514, "another");
}

#[test]
fn add_book_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let (client, known) = (&shop.client, book(CHEAP, 1));
    let nobody = User::new("nobody").with_token("bad");
    client.add_book(&nobody, "none", known.clone(), 1).refused(511, "nobody");
    client.add_book(&shop.buyer.with_token("bad"), "none", known.clone(), 1).unauthorised();
    client.add_book(&shop.buyer, "none", known.clone(), 1).refused(513, "none");
    client.add_book(&shop.buyer, STORE, known.clone(), 1).unauthorised();
    client.add_book(&shop.seller, STORE, known.clone(), 1).refused(516, CHEAP);
    assert_eq!(shop.stock(CHEAP), STOCK);
    client.add_book(&shop.seller, STORE, book("new", 1), 1).ok();
    // A book id is unique within the store only.
    client.create_store(&shop.buyer, "another").ok();
    client.add_book(&shop.buyer, "another", known, 3).ok();
    assert_eq!(client.stock("another", CHEAP), 3);
    assert_eq!(shop.stock(CHEAP), STOCK);
}

#[test]
fn add_book_takes_every_field_and_defaults_the_stock_to_0() {
    let shop = Shop::open(&[]);
    let whole = json!({
        "id": "whole", "title": "美丽心灵", "price": 0, "author": "[美] 西尔维娅·娜萨", "publisher": "x",
        "original_title": "A Beautiful Mind", "translator": "王尔山", "pub_year": "2002-1", "pages": 594,
        "currency_unit": "元", "binding": "平装", "isbn": "9787542823823", "author_intro": "a\nb",
        "book_intro": "", "content": "", "tags": ["传记", "数学"], "pictures": ["/9j/4AAQSkZJRgABAQ=="],
        "not known": {"any": ["thing", 1.5, null]},
    });
    let empty = json!({
        "id": "empty", "title": "t", "price": i64::MAX, "author": null, "publisher": null,
        "original_title": null, "translator": null, "pub_year": null, "pages": null, "currency_unit": null,
        "binding": null, "isbn": null, "author_intro": null, "book_intro": null, "content": null,
    });
    for info in [whole, empty] {
        let body = json!({"user_id": "seller", "store_id": STORE, "book_info": info});
        shop.client.post_with_token(&shop.seller.token, "/seller/add_book", body).ok();
        assert_eq!(shop.stock(info["id"].as_str().unwrap()), 0);
    }
    let body = json!({"user_id": "seller", "store_id": STORE, "book_info": book("null", 1), "stock_level": null});
    shop.client.post_with_token(&shop.seller.token, "/seller/add_book", body).ok();
    assert_eq!(shop.stock("null"), 0);
    shop.client.add_book(&shop.seller, STORE, book("many", 1), i64::MAX).ok();
    assert_eq!(shop.stock("many"), i64::MAX);
}

#[test]
fn add_book_takes_pictures_of_many_megabytes_and_they_survive_a_crash() {
    let mut shop = Shop::open(&[]);
    let mut info = book("pictures", 5);
    info["pictures"] = json!(vec!["iVBORw0K".repeat(128 * 1024); 4]);
    shop.client.add_book(&shop.seller, STORE, info, 2).ok();
    shop.crash();
    assert_eq!(shop.stock("pictures"), 2);
    shop.order(&[("pictures", 2)]);
}

#[test]
fn add_stock_level_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    let nobody = User::new("nobody").with_token("bad");
    client.add_stock_level(&nobody, "none", "none", -100).refused(511, "nobody");
    client.add_stock_level(&shop.buyer.with_token("bad"), "none", "none", -100).unauthorised();
    client.add_stock_level(&shop.buyer, "none", "none", -100).refused(513, "none");
    client.add_stock_level(&shop.buyer, STORE, "none", -100).unauthorised();
    client.add_stock_level(&shop.seller, STORE, "none", -100).refused(515, "none");
    client.add_stock_level(&shop.seller, STORE, CHEAP, -STOCK - 1).is(530);
    assert_eq!(shop.stock(CHEAP), STOCK);
    client.add_stock_level(&shop.seller, STORE, CHEAP, -STOCK).ok();
    assert_eq!(shop.stock(CHEAP), 0);
    client.add_stock_level(&shop.seller, STORE, CHEAP, 0).ok();
    client.add_stock_level(&shop.seller, STORE, CHEAP, -1).is(530);
    client.add_stock_level(&shop.seller, STORE, CHEAP, i64::MIN).is(530);
    client.add_stock_level(&shop.seller, STORE, CHEAP, i64::MAX).ok();
    client.add_stock_level(&shop.seller, STORE, CHEAP, 1).is(530);
    assert_eq!(shop.stock(CHEAP), i64::MAX);
    client.add_stock_level(&shop.seller, STORE, CHEAP, -i64::MAX).ok();
    assert_eq!(shop.stock(CHEAP), 0);
    assert_eq!(shop.stock(DEAR), STOCK);
}

#[test]
fn ship_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    let nobody = User::new("nobody").with_token("bad");
    client.ship(&nobody, "none", NO_ORDER).refused(511, "nobody");
    client.ship(&shop.buyer.with_token("bad"), "none", NO_ORDER).unauthorised();
    client.ship(&shop.buyer, "none", NO_ORDER).refused(513, "none");
    client.ship(&shop.buyer, STORE, NO_ORDER).unauthorised();
    client.ship(&shop.seller, STORE, NO_ORDER).refused(518, NO_ORDER);

    // An order of another store, even one of the same seller.
    client.create_store(&shop.seller, "second").ok();
    let paid = shop.order_in("paid");
    client.ship(&shop.seller, "second", &paid).refused(518, &paid);
    // Somebody else's store: the owner is judged before the order.
    client.ship(&shop.buyer, STORE, &paid).unauthorised();

    for state in ["pending", "canceled"] {
        let order = shop.order_in(state);
        client.ship(&shop.seller, STORE, &order).refused(520, &order);
        assert_eq!(shop.status(&order), state);
    }
    client.ship(&shop.seller, STORE, &paid).ok();
    assert_eq!(shop.status(&paid), "shipped");
    for state in ["shipped", "completed"] {
        let order = shop.order_in(state);
        client.ship(&shop.seller, STORE, &order).refused(529, &order);
        assert_eq!(shop.status(&order), state);
    }
}

#[test]
fn any_text_that_is_no_order_id_of_ours_is_an_invalid_order() {
    let shop = Shop::open(&[]);
    let order = shop.order_in("paid");
    let texts = ["x", "订单", "1", &order.to_uppercase(), &order.replace('-', ""), &format!(" {order}")];
    for text in texts.iter().filter(|text| **text != order) {
        shop.client.ship(&shop.seller, STORE, text).refused(518, text);
        shop.client.payment(&shop.buyer, text).refused(518, text);
        shop.client.pay_to_platform(&shop.buyer, text).refused(518, text);
        shop.client.confirm(&shop.buyer, text).refused(518, text);
        shop.client.cancel(&shop.buyer, text).refused(518, text);
        shop.client.order_status(&shop.buyer, text).refused(518, text);
    }
    assert_eq!(shop.status(&order), "paid");
}

#[test]
fn query_one_store_orders_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    client.query_one_store_orders(&User::new("nobody"), "none").refused(511, "nobody");
    client.query_one_store_orders(&shop.buyer.with_password("wrong"), "none").refused(513, "none");
    client.query_one_store_orders(&shop.buyer.with_password("wrong"), STORE).unauthorised();
    client.query_one_store_orders(&shop.buyer, STORE).refused(522, "buyer");
    assert!(client.query_one_store_orders(&shop.seller, STORE).orders().is_empty());
    let order = shop.order(&[(CHEAP, 1)]);
    let answer = client.query_one_store_orders(&shop.seller, STORE);
    assert_eq!(answer.orders().len(), 1);
    assert_eq!(answer.orders()[0]["order_id"], json!(order));
}

#[test]
fn query_all_store_orders_checks_in_its_order_and_names_every_store() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    client.query_all_store_orders(&User::new("nobody")).refused(511, "nobody");
    client.query_all_store_orders(&shop.buyer.with_password("wrong")).unauthorised();
    client.query_all_store_orders(&shop.buyer).refused(522, "buyer");

    client.create_store(&shop.seller, "empty").ok();
    client.create_store(&shop.buyer, "not the seller's").ok();
    let first = shop.order(&[(CHEAP, 1)]);
    let second = shop.order(&[(DEAR, 1)]);
    let answer = client.query_all_store_orders(&shop.seller);
    let stores = answer.ok().body["orders"].as_object().unwrap();
    assert_eq!(stores.len(), 2, "{stores:?}");
    assert_eq!(stores["empty"], json!([]));
    let ids: Vec<_> = stores[STORE].as_array().unwrap().iter().map(|order| &order["order_id"]).collect();
    assert_eq!(ids, [&json!(second), &json!(first)]);
    assert_eq!(stores[STORE], json!(client.query_one_store_orders(&shop.seller, STORE).orders()));
}

#[test]
fn get_stock_level_checks_store_then_book_and_needs_no_authorisation() {
    let shop = Shop::open(&[]);
    shop.client.get_stock_level("none", "none").refused(513, "none");
    shop.client.get_stock_level(STORE, "none").refused(515, "none");
    assert_eq!(shop.stock(CHEAP), STOCK);
}

#[test]
fn ids_with_any_signs_work_from_end_to_end() {
    let mut server = Server::start(&[]);
    let client = server.client();
    let id = "a_b-c.d:e 用户 \"\\/ é 🦀".to_owned();
    let user = client.buyer_with_funds(&id, 10);
    client.register(&user).refused(512, &id);
    client.create_store(&user, &id).ok();
    client.add_book(&user, &id, book(&id, 5), 3).ok();
    client.add_book(&user, &id, book(&id, 5), 3).refused(516, &id);
    client.new_order(&user, &id, &[(&id, 4)]).refused(517, &id);
    let order = client.order(&user, &id, &[(&id, 2)]);
    client.payment(&user, &order).ok();
    client.ship(&user, &id, &order).ok();
    server.kill9();
    server.restart();
    let client = server.client();
    let answer = client.query_one_store_orders(&user, &id);
    let element = &answer.orders()[0];
    assert_eq!(element["user_id"], json!(id));
    assert_eq!(element["store_id"], json!(id));
    assert_eq!(element["books"], json!([{"id": id, "count": 2, "price": 5}]));
}
