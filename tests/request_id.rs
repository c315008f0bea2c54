//! Pins that each request has an id, that its answer tells it, and that whatever the log says of the request has it too,
//! through every step of its saga.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::service::{Answer, Service, post};
use common::{Conn, Server, Shop, request, wait_until};
use serde_json::{Value, json};

/// The id of an answer, which must have exactly one.
#[track_caller]
fn id(answer: &Answer) -> String {
    assert_eq!(answer.head.matches("\r\nx-request-id: ").count(), 1, "{}", answer.head);
    answer.header("x-request-id").unwrap().to_owned()
}

#[track_caller]
fn made(answer: &Answer) -> String {
    let id = id(answer);
    assert!(id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    id
}

#[test]
fn every_answer_has_one_and_no_two_are_the_same() {
    let service = Service::start(|config| {
        config.header_timeout = Duration::from_millis(300);
        config.body_timeout = Duration::from_millis(300);
        config.header_bytes_max = 4_000;
        config.connections_max = 100;
    });
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut seen = BTreeSet::new();
    for (status, request) in [
        (200, get("/healthz")),
        (200, get("/metrics")),
        (200, get("/openapi.json")),
        (200, post("/auth/register", r#"{"user_id":"u","password":"p"}"#)),
        (530, post("/auth/login", "{}")),
        (404, post("/nothing", "{}")),
        (405, get("/auth/login")),
        (413, post("/auth/login", &"x".repeat(2_000_000))),
        (431, get("/healthz").replace("Host: x", &format!("x: {}", "x".repeat(5_000)))),
        (431, get("/healthz").replace("Host: x", &format!("x: {}", "x".repeat(600_000)))),
        // No head was read whole, or nobody can tell what it says.
        (400, "nonsense\r\n\r\n".to_owned()),
        (408, "POST /auth/login HTTP/1.1\r\nHo".to_owned()),
        (408, "POST /auth/login HTTP/1.1\r\nContent-Length: 5\r\n\r\n{".to_owned()),
        (400, post("/auth/login", "{}").replace("Host: x", "Content-Length: 2")),
    ] {
        let answer = service.ask(&request);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(seen.insert(made(&answer)), "{} came twice", id(&answer));
    }
}

#[test]
fn an_id_that_came_along_is_returned_if_it_is_sound() {
    let service = Service::start(|_| {});
    let ask = |value: &str| {
        let head = format!("Host: x\r\nX-Request-Id: {value}");
        service.ask(post("/auth/login", "{}").replace("Host: x", &head))
    };
    let long = "x".repeat(128);
    for sound in ["a", "7f3a-22.9:c/1=+_~{}%41", &long] {
        assert_eq!(id(&ask(sound)), sound);
    }
    let longer = "x".repeat(129);
    for unsound in ["", "a b", "a\"b", "a'b", "a\\b", "\u{e4}", "a\tb", &longer] {
        made(&ask(unsound));
    }
    // Of several the first, and also where no route is.
    assert_eq!(id(&ask("one\r\nX-Request-Id: two")), "one");
    let lost = post("/nothing", "{}").replace("Host: x", "Host: x\r\nx-request-id: lost");
    assert_eq!(id(&service.ask(lost)), "lost");
}

#[test]
fn who_finds_no_room_has_one() {
    let service = Service::start(|config| config.connections_max = 1);
    let mut first = service.connect();
    std::io::Write::write_all(&mut first, post("/auth/login", "{}").as_bytes()).unwrap();
    made(&Answer::read(&mut first));
    let answer = Answer::read(&mut service.connect());
    answer.json(503);
    made(&answer);
}

#[tokio::test]
async fn inside_another_server_it_is_the_same() {
    use tower_service::Service as _;

    let engine = bookstore::Engine::open(bookstore::Config::memory()).await.unwrap();
    let mut shop = bookstore::http::HttpService::new(engine.clone(), bookstore::http::HttpConfig::default());
    let ask = |id: &str| {
        hyper::Request::get("/healthz").header("x-request-id", id).body(http_body_util::Empty::<&[u8]>::new()).unwrap()
    };
    assert_eq!(shop.call(ask("mine")).await.unwrap().headers()["x-request-id"], "mine");
    assert_eq!(shop.call(ask("not mine")).await.unwrap().headers()["x-request-id"].len(), 24);
    engine.close().await.unwrap();
}

/// Posts with an id of the caller's.
fn ask(server: &Server, id: &str, path: &str, body: &Value) -> Value {
    let mut conn: Conn = server.connect();
    conn.send(&request("POST", path, &[("x-request-id", id)], body.to_string().as_bytes())).unwrap();
    let answer = conn.response().unwrap();
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some(id)), "{}", answer.text());
    answer.json()
}

/// An order is placed, paid to the platform, shipped by another way, confirmed; another one is canceled.
fn purchase(shop: &Shop) -> [String; 2] {
    let (buyer, server) = (&shop.buyer, &shop.server);
    let order = |id: &str| {
        let body = json!({"user_id": buyer.id, "store_id": common::shop::STORE,
            "books": [{"id": common::shop::CHEAP, "count": 1}]});
        let mut conn = server.connect();
        let headers = [("x-request-id", id), ("token", buyer.token.as_str())];
        conn.send(&request("POST", "/buyer/new_order", &headers, body.to_string().as_bytes())).unwrap();
        let answer = conn.response().unwrap();
        assert_eq!((answer.status, answer.header("x-request-id")), (200, Some(id)), "{}", answer.text());
        answer.json()["order_id"].as_str().unwrap().to_owned()
    };
    let on = |order: &str| json!({"user_id": buyer.id, "password": buyer.password, "order_id": order});
    let first = order("place-1");
    ask(server, "pay-1", "/buyer/pay_to_platform", &on(&first));
    shop.client.ship(&shop.seller, common::shop::STORE, &first).ok();
    ask(server, "confirm-1", "/buyer/confirm_receipt_and_pay_toseller", &on(&first));
    let second = order("place-2");
    ask(server, "cancel-2", "/buyer/cancel_order", &on(&second));
    [first, second]
}

/// The steps that an id's lines tell, in their order, but for those that only judge who asks.
fn steps(lines: &[Value], id: &str) -> Vec<String> {
    let of_it = lines.iter().filter(|line| line["request_id"] == id);
    let steps = of_it.filter_map(|line| line["fields"]["step"].as_str());
    steps.filter(|step| !["secret", "check_token", "buyer"].contains(step)).map(str::to_owned).collect()
}

#[test]
fn the_log_tells_each_step_of_a_saga_with_the_id_of_its_request() {
    let shop = Shop::open(&["--log-format", "json", "--log-level", "info,bookstore::saga=debug"]);
    let orders = purchase(&shop);
    let lines = || -> Vec<Value> {
        let all = shop.server.output();
        all.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let told = |id: &str| lines().iter().any(|line| line["request_id"] == id && line["fields"]["code"] == 200);
    wait_until("the last answer is told", || told("cancel-2"));
    let lines = lines();
    let expected: [(&str, &[&str], &str, &str); 5] = [
        ("place-1", &["place", "reserve", "reserved"], "/buyer/new_order", &orders[0]),
        ("pay-1", &["pay", "debit", "debited"], "/buyer/pay_to_platform", &orders[0]),
        ("confirm-1", &["confirm", "credit", "credited"], "/buyer/confirm_receipt_and_pay_toseller", &orders[0]),
        ("place-2", &["place", "reserve", "reserved"], "/buyer/new_order", &orders[1]),
        ("cancel-2", &["cancel", "release", "released"], "/buyer/cancel_order", &orders[1]),
    ];
    let mut waited = 0;
    for (id, wanted, route, order) in expected {
        let mut found = steps(&lines, id);
        // Where the journal was sooner than the answer, there was no wait to tell of.
        waited += found.pop_if(|step| step == "journal_commit").into_iter().count();
        assert_eq!(found, wanted, "{id}");
        let of_it: Vec<_> = lines.iter().filter(|line| line["request_id"] == id).collect();
        let answers: Vec<_> = of_it.iter().filter(|line| line["fields"]["message"] == "answered").collect();
        assert_eq!(answers.len(), 1, "{answers:?}");
        let fields = &answers[0]["fields"];
        assert!(fields["route"] == route && fields["took_us"].is_u64(), "{fields}");
        assert_eq!(fields["user_id"], shop.buyer.id.as_str(), "{fields}");
        // Each step of the order, and the answer: who looks for an order finds all of it.
        let about = |line: &&&Value| line["fields"]["order_id"].as_str().is_some_and(|told| told == order);
        assert_eq!(of_it.iter().filter(about).count(), 4, "{of_it:?}");
    }
    assert!(waited > 0, "no answer waited for the journal");
    // Who does the step is told by name.
    let of_step = |name: &str, step: &str| {
        let line = lines.iter().find(|line| line["request_id"] == name && line["fields"]["step"] == step);
        line.unwrap()["fields"].clone()
    };
    assert_eq!(of_step("place-1", "reserve")["store_id"], common::shop::STORE);
    assert_eq!(of_step("pay-1", "debit")["user_id"], shop.buyer.id.as_str());
    assert_eq!(of_step("confirm-1", "credit")["user_id"], shop.seller.id.as_str());
}

/// The order is read on another thread, and the command goes on when it is there.
#[test]
fn the_id_goes_along_to_the_disk_and_back() {
    let shop =
        Shop::open(&["--resting-orders-max", "0", "--log-format", "json", "--log-level", "warn,bookstore::saga=debug"]);
    let order = shop.order_in("shipped");
    let at_rest = || shop.client.get("/metrics").text().contains("\nbookstore_orders_resting 1.0\n");
    wait_until("the order is at rest", at_rest);
    let body = json!({"user_id": shop.buyer.id, "password": shop.buyer.password, "order_id": order});
    ask(&shop.server, "confirm-3", "/buyer/confirm_receipt_and_pay_toseller", &body);
    let lines = || -> Vec<Value> {
        let all = shop.server.output();
        all.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let answered = |line: &Value| line["request_id"] == "confirm-3" && line["fields"]["message"] == "answered";
    wait_until("the answer is told", || lines().iter().any(answered));
    let mut steps = steps(&lines(), "confirm-3");
    let _ = steps.pop_if(|step| step == "journal_commit");
    assert_eq!(steps, ["confirm", "loaded", "confirm"]);
}

#[test]
fn a_line_to_read_ends_with_the_id_and_the_usual_level_tells_no_step() {
    let shop = Shop::open(&["--log-level", "info,bookstore::http=debug"]);
    purchase(&shop);
    let told = |id: &str| {
        let all = shop.server.output();
        all.lines().filter(|line| line.ends_with(&format!(" request_id={id}"))).map(str::to_owned).collect::<Vec<_>>()
    };
    wait_until("the last answer is told", || !told("cancel-2").is_empty());
    for id in ["place-1", "pay-1", "confirm-1", "place-2", "cancel-2"] {
        let lines = told(id);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(" DEBUG bookstore::http: answered route=\"/buyer/"), "{lines:?}");
        assert!(lines[0].contains(" code=200 took_us="), "{lines:?}");
    }
    assert!(!shop.server.output().contains("step="), "{}", shop.server.output());
}
