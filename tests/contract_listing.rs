//! Prices, and books that are not for sale: /seller/set_price, /seller/delist_book and /seller/relist_book, each check in
//! its order, over real sockets, restarts included.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::shop::{CHEAP, CHEAP_PRICE, DEAR, DEAR_PRICE, STOCK, STORE};
use common::{Answer, Client, Shop, User, book, request, wait_until};
use serde_json::{Value, json};

const SEARCHES: [&str; 3] = ["/buyer/search", "/seller/search", "/search/search_books"];

fn total(shop: &Shop, order: &str) -> i64 {
    let answer = shop.client.query_buyer_all_orders(&shop.buyer);
    let found = answer.orders().iter().find(|element| element["order_id"] == json!(order)).unwrap();
    found["total_price"].as_i64().unwrap()
}

/// Total and prices by id of what a keyword finds.
fn found(shop: &Shop, keyword: &str) -> (i64, Vec<(String, Value)>) {
    let answer = shop.client.post("/buyer/search", json!({"keyword": keyword}));
    if answer.status == 523 {
        return (0, Vec::new());
    }
    let books = answer.ok().body["books"].as_array().unwrap();
    let books = books.iter().map(|book| (book["id"].as_str().unwrap().to_owned(), book["price"].clone()));
    (answer.number("total"), books.collect())
}

fn ids(found: (i64, Vec<(String, Value)>)) -> Vec<String> {
    assert_eq!(found.0, found.1.len() as i64);
    found.1.into_iter().map(|(id, _)| id).collect()
}

fn wait_for_search(shop: &Shop) {
    let answer = || shop.client.post("/buyer/search", json!({"keyword": "nothing like this"}));
    wait_until("the index is complete", || answer().status == 523);
}

#[test]
fn each_of_the_three_checks_in_its_order() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    type Route = fn(&Client, &User, &str, &str) -> Answer;
    let routes: [Route; 3] = [
        |client, user, store, book| client.set_price(user, store, book, 7),
        |client, user, store, book| client.delist_book(user, store, book),
        |client, user, store, book| client.relist_book(user, store, book),
    ];
    let nobody = User::new("nobody").with_token("bad");
    for route in routes {
        route(client, &nobody, "none", "none").refused(511, "nobody");
        route(client, &shop.buyer.with_token("bad"), "none", "none").unauthorised();
        route(client, &shop.seller.with_token(&shop.buyer.token), STORE, CHEAP).unauthorised();
        route(client, &shop.buyer, "none", "none").refused(513, "none");
        route(client, &shop.buyer, STORE, "none").unauthorised();
        route(client, &shop.seller, STORE, "none").refused(515, "none");
    }
    // What is wrong with a field comes first of all.
    client.set_price(&nobody, "none", "none", -1).invalid("price");
    for price in [json!("5"), json!(2.0), json!(null), json!(true)] {
        let body = json!({"user_id": "seller", "store_id": STORE, "book_id": CHEAP, "price": price});
        client.post_with_token(&shop.seller.token, "/seller/set_price", body).invalid("price");
    }
    assert_eq!(client.query_book(STORE, CHEAP).ok().body["book_info"]["price"], json!(CHEAP_PRICE));
    shop.order(&[(CHEAP, 1)]);
}

#[test]
fn an_order_keeps_the_price_it_was_placed_at() {
    let mut shop = Shop::open(&[]);
    let before = shop.order(&[(CHEAP, 2), (DEAR, 1)]);
    shop.client.set_price(&shop.seller, STORE, CHEAP, 7).ok();
    let after = shop.order(&[(CHEAP, 2), (DEAR, 1)]);
    shop.client.set_price(&shop.seller, STORE, CHEAP, 0).ok();
    let free = shop.order(&[(CHEAP, 3)]);
    let totals = [2 * CHEAP_PRICE + DEAR_PRICE, 14 + DEAR_PRICE, 0];
    for round in 0..2 {
        for (order, expected) in [&before, &after, &free].into_iter().zip(totals) {
            assert_eq!(total(&shop, order), expected, "round {round}");
        }
        shop.crash();
    }
    let (buyer, seller) = shop.balances();
    for order in [&before, &after, &free] {
        shop.client.payment(&shop.buyer, order).ok();
    }
    let sum: i64 = totals.iter().sum();
    assert_eq!(shop.balances(), (buyer - sum, seller + sum));
}

#[test]
fn a_price_may_be_anything_from_0_on_and_an_order_that_it_makes_too_dear_is_refused() {
    let shop = Shop::open(&[]);
    shop.client.set_price(&shop.seller, STORE, CHEAP, i64::MAX).ok();
    shop.client.new_order(&shop.buyer, STORE, &[(CHEAP, 1)]).invalid("books");
    shop.client.set_price(&shop.seller, STORE, CHEAP, (1 << 53) - 1).ok();
    shop.order(&[(CHEAP, 1)]);
    shop.client.new_order(&shop.buyer, STORE, &[(CHEAP, 2)]).invalid("books");
    assert_eq!(shop.stock(CHEAP), STOCK - 1);
}

#[test]
fn search_and_the_whole_book_show_the_price_of_now_and_the_rest_as_it_was_sent() {
    let mut shop = Shop::open(&[]);
    let text = r#"{ "title":"美丽心灵",  "price" : 1 ,"id":"b","more":{"price":1,"x":[ 1.50 ]},"pictures":["aGk="],"pages":null }"#;
    let body = format!(r#"{{"user_id":"seller","store_id":"{STORE}","book_info":{text}}}"#);
    let bytes = request("POST", "/seller/add_book", &[("token", &shop.seller.token)], body.as_bytes());
    assert_eq!(shop.client.send(&bytes).unwrap().status, 200);
    let whole = |shop: &Shop, price: &str| {
        let body = json!({"store_id": STORE, "book_id": "b"}).to_string();
        let response = shop.client.send(&request("POST", "/buyer/query_book", &[], body.as_bytes())).unwrap();
        let response = response.text();
        let expected = text.replacen("\"price\" : 1 ", &format!("\"price\" : {price} "), 1);
        assert!(response.contains(&format!(r#""book_info":{expected},"#)), "{response}");
    };
    whole(&shop, "1");
    for price in [7, 123_456_789, 0, 1] {
        shop.client.set_price(&shop.seller, STORE, "b", price).ok();
        whole(&shop, &price.to_string());
        assert_eq!(found(&shop, "美丽心灵"), (1, vec![("b".to_owned(), json!(price))]));
    }
    shop.client.set_price(&shop.seller, STORE, "b", 55).ok();
    shop.crash();
    wait_for_search(&shop);
    whole(&shop, "55");
    for route in SEARCHES {
        let answer = shop.client.post(route, json!({"keyword": "美丽"}));
        let element = &answer.ok().body["books"][0];
        assert_eq!((&element["price"], &element["more"]), (&json!(55), &json!({"price": 1, "x": [1.50]})), "{route}");
    }
}

#[test]
fn a_delisted_book_is_not_ordered_and_can_be_prepared_for_its_return() {
    let shop = Shop::open(&[]);
    let client = &shop.client;
    let (canceled, paid) = (shop.order(&[(CHEAP, 3)]), shop.order(&[(CHEAP, 1)]));
    client.delist_book(&shop.seller, STORE, CHEAP).ok();
    // Again: it is so already.
    client.delist_book(&shop.seller, STORE, CHEAP).ok();
    client.new_order(&shop.buyer, STORE, &[(CHEAP, 1)]).refused(515, CHEAP);
    // 515 before 517, line by line; nothing is taken.
    client.new_order(&shop.buyer, STORE, &[(CHEAP, 1_000)]).refused(515, CHEAP);
    client.new_order(&shop.buyer, STORE, &[(DEAR, STOCK + 1), (CHEAP, 1)]).refused(517, DEAR);
    client.new_order(&shop.buyer, STORE, &[(DEAR, 1), (CHEAP, 1)]).refused(515, CHEAP);
    assert_eq!(shop.stock(DEAR), STOCK);
    // Its orders go on, and what is canceled comes back to it.
    client.cancel(&shop.buyer, &canceled).ok();
    assert_eq!(shop.stock(CHEAP), STOCK - 1);
    client.payment(&shop.buyer, &paid).ok();
    client.ship(&shop.seller, STORE, &paid).ok();
    client.confirm(&shop.buyer, &paid).ok();
    // It is there for who asks for it, and its id is taken.
    let whole = client.query_book(STORE, CHEAP);
    assert_eq!((whole.ok().number("stock_level"), &whole.body["is_listed"]), (STOCK - 1, &json!(false)));
    client.try_stock(Some(&shop.buyer), STORE, CHEAP).unwrap().ok();
    client.add_book(&shop.seller, STORE, book(CHEAP, 5), 1).refused(516, CHEAP);
    client.add_stock_level(&shop.seller, STORE, CHEAP, 5).ok();
    client.set_price(&shop.seller, STORE, CHEAP, 3).ok();
    client.new_order(&shop.buyer, STORE, &[(CHEAP, 1)]).refused(515, CHEAP);
    client.relist_book(&shop.seller, STORE, CHEAP).ok();
    client.relist_book(&shop.seller, STORE, CHEAP).ok();
    assert_eq!(client.query_book(STORE, CHEAP).body["is_listed"], json!(true));
    let order = shop.order(&[(CHEAP, STOCK + 4)]);
    assert_eq!((total(&shop, &order), shop.stock(CHEAP)), (3 * (STOCK + 4), 0));
}

#[test]
fn a_delisted_book_is_not_found_nor_counted_until_it_is_relisted_restarts_included() {
    let mut shop = Shop::open(&[]);
    for number in 0..5 {
        let info = json!({"id": format!("b{number}"), "title": "米", "price": 1});
        shop.client.add_book(&shop.seller, STORE, info, 1).ok();
    }
    let all = ["b0", "b1", "b2", "b3", "b4"];
    assert_eq!(ids(found(&shop, "米")), all);
    for id in ["b1", "b3"] {
        shop.client.delist_book(&shop.seller, STORE, id).ok();
    }
    for _ in 0..2 {
        assert_eq!(ids(found(&shop, "米")), ["b0", "b2", "b4"]);
        for route in SEARCHES {
            let page = |page: u64| {
                let body =
                    json!({"keyword": "米", "page": page, "page_size": 2, "search_in_store": true, "store_id": STORE});
                let answer = shop.client.post(route, body);
                let books = answer.ok().body["books"].as_array().unwrap();
                let ids = books.iter().map(|book| book["id"].as_str().unwrap().to_owned());
                (answer.number("total"), ids.collect::<Vec<_>>())
            };
            assert_eq!(page(1), (3, vec!["b0".to_owned(), "b2".to_owned()]));
            assert_eq!(page(2), (3, vec!["b4".to_owned()]));
            assert_eq!(page(3), (3, Vec::new()));
        }
        shop.crash();
        wait_for_search(&shop);
    }
    for id in ["b0", "b2", "b4"] {
        shop.client.delist_book(&shop.seller, STORE, id).ok();
    }
    shop.client.post("/buyer/search", json!({"keyword": "米"})).refused(523, "米");
    let inside = json!({"keyword": "米", "search_in_store": true, "store_id": STORE});
    shop.client.post("/buyer/search", inside).is(525);
    for id in all {
        shop.client.relist_book(&shop.seller, STORE, id).ok();
    }
    assert_eq!(ids(found(&shop, "米")), all);
    shop.reopen();
    wait_for_search(&shop);
    assert_eq!(ids(found(&shop, "米")), all);
}
