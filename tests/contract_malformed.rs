//! Malformed input for every route: each is 530, names the field, and comes before everything else.
//!
//! A table says which fields a route has. The requests are from nobody, with no token: a body in order
//! is answered by the first check of the route's own column, anything malformed is answered by 530.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::shop::{CHEAP, STOCK, STORE};
use common::{Answer, Client, Server, Shop, request};
use serde_json::{Value, json};

/// What a field takes.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Id,
    OptionalId,
    Password,
    OptionalText,
    OrderId,
    Integer,
    Amount,
    OptionalLevel,
    Lines,
    Book,
    Keyword,
    OptionalFlag,
    OptionalPage,
    OptionalPageSize,
}
use Kind::{
    Amount, Book, Id, Integer, Keyword, Lines, OptionalFlag, OptionalId, OptionalLevel, OptionalPage, OptionalPageSize,
    OptionalText, OrderId, Password,
};

struct Route {
    path: &'static str,
    fields: &'static [(&'static str, Kind)],
    /// What nobody, without a token, is answered when the body is in order.
    in_order: u16,
}

const fn route(path: &'static str, fields: &'static [(&'static str, Kind)], in_order: u16) -> Route {
    Route { path, fields, in_order }
}

const USER: (&str, Kind) = ("user_id", Id);
const STORE_ID: (&str, Kind) = ("store_id", Id);
const BOOK_ID: (&str, Kind) = ("book_id", Id);
const ORDER: (&str, Kind) = ("order_id", OrderId);
const PASSWORD: (&str, Kind) = ("password", Password);

const SEARCH: &[(&str, Kind)] = &[
    ("keyword", Keyword),
    ("search_scope", OptionalText),
    ("search_in_store", OptionalFlag),
    ("store_id", OptionalId),
    ("page", OptionalPage),
    ("page_size", OptionalPageSize),
];

const ROUTES: [Route; 35] = [
    route("/auth/unregister", &[USER, PASSWORD], 401),
    route("/auth/login", &[USER, PASSWORD, ("terminal", OptionalText)], 401),
    route("/auth/password", &[USER, ("oldPassword", Password), ("newPassword", Password)], 401),
    route("/auth/logout", &[USER], 401),
    route("/seller/create_store", &[USER, STORE_ID], 511),
    route("/seller/add_book", &[USER, STORE_ID, ("book_info", Book), ("stock_level", OptionalLevel)], 511),
    route("/seller/add_stock_level", &[USER, STORE_ID, BOOK_ID, ("add_stock_level", Integer)], 511),
    route("/seller/set_price", &[USER, STORE_ID, BOOK_ID, ("price", Amount)], 511),
    route("/seller/close_store", &[USER, STORE_ID], 511),
    route("/seller/delist_book", &[USER, STORE_ID, BOOK_ID], 511),
    route("/seller/relist_book", &[USER, STORE_ID, BOOK_ID], 511),
    route("/seller/ship", &[USER, STORE_ID, ORDER], 511),
    route("/seller/query_one_store_orders", &[USER, STORE_ID, PASSWORD], 511),
    route("/seller/query_all_store_orders", &[USER, PASSWORD], 511),
    route("/seller/get_stock_level", &[STORE_ID, BOOK_ID], 513),
    route("/buyer/new_order", &[USER, STORE_ID, ("books", Lines)], 511),
    route("/buyer/payment", &[USER, ORDER, PASSWORD], 518),
    route("/buyer/pay_to_platform", &[USER, ORDER, PASSWORD], 518),
    route("/buyer/confirm_receipt_and_pay_toseller", &[USER, ORDER, PASSWORD], 518),
    route("/buyer/add_funds", &[USER, PASSWORD, ("add_value", Integer)], 401),
    route("/buyer/query_order_status", &[USER, ORDER, PASSWORD], 511),
    route("/buyer/query_buyer_all_orders", &[USER, PASSWORD], 511),
    route("/buyer/extend_receipt", &[USER, ORDER, PASSWORD], 511),
    route("/buyer/query_order", &[USER, ORDER, PASSWORD], 511),
    route("/seller/query_order", &[USER, ORDER, PASSWORD], 511),
    route("/buyer/cancel_order", &[USER, ORDER, PASSWORD], 511),
    route("/buyer/refund_order", &[USER, ORDER, PASSWORD], 511),
    route("/buyer/check_stock_level", &[("user_id", OptionalId), STORE_ID, BOOK_ID], 513),
    route("/buyer/check_order_count", &[USER], 200),
    route("/buyer/query_balance", &[USER, PASSWORD], 401),
    route("/buyer/query_book", &[STORE_ID, BOOK_ID], 513),
    route("/buyer/search", SEARCH, 523),
    route("/seller/search", SEARCH, 523),
    route("/search/search_books", SEARCH, 523),
    // Last, for it leaves a user behind.
    route("/auth/register", &[USER, PASSWORD], 200),
];

impl Kind {
    /// A value in order, as JSON text.
    fn good(self) -> &'static str {
        match self {
            Id | OptionalId | OrderId => r#""nobody""#,
            Password | OptionalText => r#""text""#,
            Integer | Amount | OptionalLevel => "1",
            Lines => r#"[{"id": "b", "count": 1}]"#,
            Book => r#"{"id": "b", "title": "t", "price": 1}"#,
            Keyword => r#""text""#,
            OptionalFlag => "false",
            OptionalPage | OptionalPageSize => "1",
        }
    }

    fn optional(self) -> bool {
        matches!(self, OptionalId | OptionalText | OptionalLevel | OptionalFlag | OptionalPage | OptionalPageSize)
    }

    /// Other values that are in order.
    fn also_good(self) -> Vec<String> {
        let mut values: Vec<String> = match self {
            Id | OptionalId => vec![
                r#""a_b-c.d:e""#.into(),
                r#""用户""#.into(),
                r#""\u7528\u6237 and more""#.into(),
                format!(r#""{}""#, "x".repeat(256)),
                format!(r#""{}""#, "用".repeat(85)),
            ],
            OrderId => vec![r#""订单""#.into(), r#""0198C0DE-0000-7000-8000-000000000000""#.into()],
            Password => vec![r#"" ""#.into(), r#""密码""#.into(), format!(r#""{}""#, "x".repeat(1_024))],
            OptionalText => vec![r#""终端""#.into()],
            Integer => texts(&["0", "-1", "9223372036854775807", "-9223372036854775808"]),
            Amount | OptionalLevel => texts(&["0", "9223372036854775807"]),
            Lines => texts(&[
                r#"[{"id": "b", "count": "2"}]"#,
                r#"[{"id": "b", "count": "002"}]"#,
                r#"[{"id": "b", "count": "999999999999999999"}]"#,
                r#"[{"id": "b", "count": 9223372036854775807}]"#,
                r#"[{"id": "b", "count": 1}, {"count": 2, "id": "b", "note": [null]}]"#,
            ]),
            Keyword => vec![r#"" ""#.into(), r#""a\u0000b""#.into(), format!(r#""{}""#, "x".repeat(1_024))],
            OptionalFlag => vec![],
            OptionalPage => texts(&["2", "9223372036854775807"]),
            OptionalPageSize => texts(&["100"]),
            Book => texts(&[
                r#"{"id": "b", "title": "t", "price": 0, "pages": null, "author": null, "x": {"y": 1.5}}"#,
                r#"{"id": "书", "title": "t", "price": 9223372036854775807, "pages": 3, "tags": ["a"],
                    "pictures": ["aGk="]}"#,
            ]),
        };
        if self.optional() {
            values.push("null".into());
        }
        values
    }

    /// Values out of order, each with the word that the message must name: the field, or one in it.
    fn bad(self, field: &'static str) -> Vec<(String, &'static str)> {
        let mut values: Vec<(String, &str)> = Vec::new();
        let mut all = |list: &[&str]| values.extend(list.iter().map(|text| ((*text).to_owned(), field)));
        match self {
            Id | OptionalId => {
                all(&["1", "true", "[]", "{}", "1.5", r#"["x"]"#]);
                all(&[r#""a\u0000b""#, r#""a\nb""#, r#""\u001f""#, r#""\u007f""#]);
                all(&[&format!(r#""{}""#, "x".repeat(257)), &format!(r#""{}""#, "用".repeat(86))]);
            }
            OrderId => all(&["1", "true", "[]", "{}"]),
            Password => all(&["1", "true", "[]", "{}", &format!(r#""{}""#, "x".repeat(1_025))]),
            OptionalText => all(&["1", "true", "[]", "{}"]),
            Integer => all(&[
                "2.0",
                "1e3",
                "1.5",
                "true",
                "false",
                r#""5""#,
                "[]",
                "{}",
                "9223372036854775808",
                "-9223372036854775809",
                "1e400",
                "123456789012345678901234567890",
            ]),
            Amount | OptionalLevel => {
                all(&["2.0", "1e3", "true", r#""5""#, "[]", "{}", "-1", "9223372036854775808", "-9223372036854775808"])
            }
            Lines => {
                all(&["1", "true", r#""x""#, "{}", "[]", "[1]", "[null]", r#"["x"]"#, "[[]]", r#"[["b", 1]]"#]);
                for count in [
                    "0",
                    "-1",
                    "2.0",
                    "1e3",
                    "true",
                    "null",
                    r#""""#,
                    r#""0x2""#,
                    r#""0""#,
                    r#""-1""#,
                    r#""+2""#,
                    r#"" 2""#,
                    r#""2.0""#,
                    r#""２""#,
                    r#""1234567890123456789""#,
                    "9223372036854775808",
                    "[]",
                    "{}",
                ] {
                    values.push((format!(r#"[{{"id": "b", "count": {count}}}]"#), "count"));
                }
                values.push((r#"[{"id": "b", "count": 1}, {"id": "c"}]"#.into(), "count"));
                for id in ["1", "null", r#""""#, r#""a\nb""#, "[]"] {
                    values.push((format!(r#"[{{"id": {id}, "count": 1}}]"#), "id"));
                }
                values.push((r#"[{"count": 1}]"#.into(), "id"));
            }
            Keyword => {
                all(&["1", "true", "[]", "{}", r#""\ud800""#, &format!(r#""{}""#, "x".repeat(1_025))]);
            }
            OptionalFlag => all(&["0", "1", r#""true""#, r#""""#, "[]", "{}"]),
            OptionalPage => all(&["0", "-1", "1.0", "1e0", "true", r#""1""#, "[]", "{}", "9223372036854775808"]),
            OptionalPageSize => all(&["0", "-1", "101", "1.0", "true", r#""20""#, "[]", "{}"]),
            Book => {
                all(&["1", "true", r#""x""#, "[]", r#"["b", "t", 1]"#]);
                values.extend(bad_books());
            }
        }
        if !self.optional() {
            values.push(("null".into(), field));
            values.push((r#""""#.into(), field));
        }
        values
    }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn bad_books() -> Vec<(String, &'static str)> {
    let mut values = Vec::new();
    let mut with = |field: &'static str, list: &[&str]| {
        for value in list {
            let mut members = vec![r#""id": "b""#, r#""title": "t""#, r#""price": 1"#];
            members.retain(|member| !member.contains(&format!("\"{field}\":")));
            let member = format!("\"{field}\": {value}");
            if *value != "missing" {
                members.push(&member);
            }
            values.push((format!("{{{}}}", members.join(", ")), field));
        }
    };
    with("id", &["missing", "null", "1", r#""""#, r#""a\nb""#, "[]"]);
    with("title", &["missing", "null", "1", r#""""#, "[]"]);
    with("price", &["missing", "null", "-1", "2.0", "1e3", r#""5""#, "true", "9223372036854775808"]);
    with("pages", &[r#""5""#, "1.5", "[]"]);
    for field in [
        "author",
        "publisher",
        "original_title",
        "translator",
        "pub_year",
        "currency_unit",
        "binding",
        "isbn",
        "author_intro",
        "book_intro",
        "content",
    ] {
        with(field, &["1", "[]", "true"]);
    }
    for field in ["tags", "pictures"] {
        with(field, &[r#""x""#, "1", "{}", "[1]", "[null]"]);
    }
    values
}

impl Route {
    /// The body with one field replaced, or left out.
    fn body(&self, changed: Option<(&str, Option<&str>)>) -> String {
        let members = self.fields.iter().filter_map(|(name, kind)| {
            let value = match changed {
                Some((other, value)) if other == *name => value?,
                _ => kind.good(),
            };
            Some(format!("\"{name}\": {value}"))
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
    }
}

/// Sends the body; the answer, or what is wrong with it.
fn post(client: &Client, path: &str, body: &[u8]) -> Result<Answer, String> {
    let response = client.send(&request("POST", path, &[], body)).map_err(|error| format!("{path}: {error}"))?;
    Answer::read(path, &response)
}

/// What was not as it should be; all of it is shown at the end.
#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn expect(&mut self, client: &Client, path: &str, body: &[u8], status: u16, names: &str) {
        let shown: String = String::from_utf8_lossy(body).chars().take(160).collect();
        match post(client, path, body) {
            Err(why) => self.0.push(format!("{shown}: {why}")),
            Ok(answer) if answer.status != status => {
                self.0.push(format!("{path} {shown}: wanted {status}, got {}", answer.body));
            }
            Ok(answer) if status == 530 => {
                let message = answer.message();
                if !message.starts_with("invalid parameter ") || !message.contains(names) {
                    self.0.push(format!("{path} {shown}: wanted `{names}` named, got {message}"));
                }
            }
            Ok(_) => {}
        }
    }
}

impl Drop for Complaints {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{} complaints:\n{}", self.0.len(), self.0.join("\n"));
        }
    }
}

#[test]
fn a_body_that_is_no_json_object_is_530_on_every_route() {
    let server = Server::start(&[]);
    let client = server.client();
    let mut complaints = Complaints::default();
    let bodies: [&[u8]; 18] = [
        b"[\"nobody\", \"text\", \"text\"]",
        b"",
        b" ",
        b"not json",
        b"[]",
        b"null",
        b"true",
        b"1",
        b"\"x\"",
        b"{",
        b"}",
        b"{\"user_id\": ",
        b"{} {}",
        b"{}x",
        b"{'user_id': 'x'}",
        b"{\"user_id\": \"\xff\xfe\"}",
        b"user_id=x&password=y",
        b"\xef\xbb\xbf[]",
    ];
    for route in &ROUTES {
        for body in bodies {
            complaints.expect(&client, route.path, body, 530, "");
        }
        complaints.expect(&client, route.path, b"{}", 530, "");
    }
}

#[test]
fn every_field_of_every_route_is_judged_before_anything_else() {
    let server = Server::start(&[]);
    let client = server.client();
    let mut complaints = Complaints::default();
    for route in &ROUTES {
        for (name, kind) in route.fields {
            for (value, names) in kind.bad(name) {
                let body = route.body(Some((name, Some(&value))));
                complaints.expect(&client, route.path, body.as_bytes(), 530, names);
            }
            if !kind.optional() {
                let body = route.body(Some((name, None)));
                complaints.expect(&client, route.path, body.as_bytes(), 530, name);
            }
        }
    }
}

#[test]
fn the_message_is_invalid_parameter_field_and_why() {
    let server = Server::start(&[]);
    let client = server.client();
    for route in &ROUTES {
        for (name, _) in route.fields.iter().filter(|(_, kind)| !kind.optional()) {
            let answer = client.post_bytes(route.path, route.body(Some((name, None))).as_bytes());
            answer.invalid(name);
            let answer = client.post_bytes(route.path, route.body(Some((name, Some("true")))).as_bytes());
            answer.invalid(name);
        }
    }
}

#[test]
fn what_is_in_order_is_answered_by_the_routes_own_column() {
    let server = Server::start(&[]);
    let client = server.client();
    let mut complaints = Complaints::default();
    for route in ROUTES.iter().filter(|route| route.path != "/auth/register") {
        let (path, in_order) = (route.path, route.in_order);
        complaints.expect(&client, path, route.body(None).as_bytes(), in_order, "");
        for (name, kind) in route.fields {
            for value in kind.also_good() {
                let body = route.body(Some((name, Some(&value))));
                complaints.expect(&client, path, body.as_bytes(), in_order, "");
            }
            if kind.optional() {
                let body = route.body(Some((name, None)));
                complaints.expect(&client, path, body.as_bytes(), in_order, "");
            }
        }
        // Unknown fields are ignored, whatever they are.
        let body = route.body(None).replacen('{', r#"{"": 1, "更多": {"a": [1.5, null]}, "#, 1);
        complaints.expect(&client, path, body.as_bytes(), in_order, "");
        let spaced = format!(" \r\n\t{} \n", route.body(None));
        complaints.expect(&client, path, spaced.as_bytes(), in_order, "");
    }
    for id in Id.also_good() {
        let body = format!(r#"{{"user_id": {id}, "password": "p"}}"#);
        complaints.expect(&client, "/auth/register", body.as_bytes(), 200, "");
        complaints.expect(&client, "/auth/register", body.as_bytes(), 512, "");
    }
}

#[test]
fn deep_nesting_is_refused_and_harms_nothing() {
    let server = Server::start(&[]);
    let client = server.client();
    let deep = "[".repeat(100_000);
    let closed = format!("{deep}{}", "]".repeat(100_000));
    let objects = r#"{"a":"#.repeat(100_000);
    let mut complaints = Complaints::default();
    for route in &ROUTES {
        for body in [&deep, &closed, &objects] {
            complaints.expect(&client, route.path, body.as_bytes(), 530, "");
        }
        for (name, _) in route.fields {
            let body = route.body(Some((name, Some(&closed))));
            complaints.expect(&client, route.path, body.as_bytes(), 530, "");
        }
    }
    let book = format!(r#"{{"id": "b", "title": "t", "price": 1, "deep": {closed}}}"#);
    let add_book = ROUTES.iter().find(|route| route.path == "/seller/add_book").unwrap();
    let body = add_book.body(Some(("book_info", Some(&book))));
    complaints.expect(&client, add_book.path, body.as_bytes(), 530, "");
    assert_eq!(client.get("/healthz").status, 200);
}

#[test]
fn counts_as_numbers_and_as_strings_order_the_same() {
    let shop = Shop::open(&[]);
    for (count, copies) in [(json!(1), 1), (json!("2"), 2), (json!("0003"), 3)] {
        let before = shop.stock(CHEAP);
        let body = json!({"user_id": "buyer", "store_id": STORE, "books": [{"id": CHEAP, "count": count}]});
        shop.client.post_with_token(&shop.buyer.token, "/buyer/new_order", body).ok();
        assert_eq!(shop.stock(CHEAP), before - copies);
        let answer = shop.client.query_buyer_all_orders(&shop.buyer);
        assert_eq!(answer.orders()[0]["books"][0]["count"], json!(copies));
    }
}

fn lines(count: usize) -> Value {
    Value::Array(vec![json!({"id": CHEAP, "count": 1}); count])
}

#[test]
fn an_order_has_1_to_1000_lines() {
    let shop = Shop::open(&[]);
    let post = |count| {
        let body = json!({"user_id": "buyer", "store_id": STORE, "books": lines(count)});
        shop.client.post_with_token(&shop.buyer.token, "/buyer/new_order", body)
    };
    post(0).invalid("books");
    post(1_001).invalid("books");
    assert_eq!(shop.stock(CHEAP), STOCK);
    post(1_000).refused(517, CHEAP);
    shop.client.add_stock_level(&shop.seller, STORE, CHEAP, 1_000).ok();
    post(1_000).ok();
    assert_eq!(shop.stock(CHEAP), STOCK);
}

#[test]
fn the_limit_of_lines_is_a_flag() {
    let shop = Shop::open(&["--order-lines-max", "3"]);
    let post = |count| {
        let body = json!({"user_id": "buyer", "store_id": STORE, "books": lines(count)});
        shop.client.post_with_token(&shop.buyer.token, "/buyer/new_order", body)
    };
    post(4).invalid("books");
    post(3).ok();
}

#[test]
fn in_compat_mode_no_books_are_an_order_of_0_fen() {
    let mut shop = Shop::open(&["--mode", "compat"]);
    let body = json!({"user_id": "buyer", "store_id": STORE, "books": []});
    let order = shop.client.post_with_token("", "/buyer/new_order", body).ok().text("order_id");
    let body = json!({"user_id": "buyer", "store_id": STORE});
    shop.client.post_with_token("", "/buyer/new_order", body).invalid("books");
    let answer = shop.client.query_buyer_all_orders(&shop.buyer);
    assert_eq!(answer.orders()[0]["books"], json!([]));
    assert_eq!(answer.orders()[0]["total_price"], json!(0));
    let before = shop.balances();
    shop.client.payment(&shop.buyer, &order).ok();
    assert_eq!(shop.balances(), before);
    shop.crash();
    assert_eq!(shop.status(&order), "paid");
    shop.client.confirm(&shop.buyer, &order).ok();
}
