//! The routes for operators over real sockets: who may not use them, what they tell, what they do.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use bookstore::http::{HttpConfig, serve_with_admin};
use bookstore::{Config, Engine};
use common::shop::{CHEAP, CHEAP_PRICE, FUNDS, NO_ORDER, STORE};
use common::{Client, Conn, Response, Shop, User, request, wait_until};
use serde_json::{Value, json};

const ROUTES: [&str; 9] = [
    "/admin/status",
    "/admin/order",
    "/admin/user",
    "/admin/search",
    "/admin/snapshot",
    "/admin/audit",
    "/admin/backup",
    "/admin/backup_progress",
    "/admin/drain",
];
const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];

/// Sends a request as this machine's own programs do, but for what `headers` say.
fn send(port: u16, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
    let mut bytes = format!("POST {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        bytes.push_str("host: 127.0.0.1\r\n");
    }
    for (name, value) in headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body.to_string();
    Client::new(port).send(format!("{bytes}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap()
}

#[track_caller]
fn ask(port: u16, path: &str, body: &Value) -> Value {
    let answer = send(port, path, &[], body);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

#[track_caller]
fn refused(port: u16, path: &str, body: &Value, code: u16) {
    let answer = send(port, path, &[], body);
    assert_eq!((answer.status, answer.json()["code"].as_u64()), (code, Some(code.into())), "{}", answer.text());
}

#[test]
fn every_route_is_for_operators_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "a-token-of-operators").unwrap();
    let mut with_token = ADMIN.to_vec();
    with_token.extend(["--admin-token-file", file.path().to_str().unwrap()]);
    let (open, closed) = (Shop::open(&ADMIN), Shop::open(&with_token));
    let body = json!({"user_id": "buyer", "order_id": NO_ORDER, "keyword": "title"});
    for path in ROUTES {
        for headers in [[("host", "bookstore.example")], [("origin", "http://bookstore.example")]] {
            assert_eq!(send(open.server.admin_port(), path, &headers, &body).status, 403, "{path} {headers:?}");
        }
        for headers in [&[][..], &[("authorization", "Bearer a-token-of-operatorz")]] {
            let answer = send(closed.server.admin_port(), path, headers, &body);
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{path} {headers:?}");
        }
        for shop in [&open, &closed] {
            let shown = [("authorization", "Bearer a-token-of-operators")];
            assert_eq!(send(shop.server.port(), path, &shown, &body).status, 404, "{path}");
        }
    }
    // None of it did anything.
    let status = send(
        closed.server.admin_port(),
        "/admin/status",
        &[("authorization", "Bearer a-token-of-operators")],
        &json!({}),
    );
    let status = status.json();
    assert_eq!(
        (&status["state"], &status["audit"], &status["snapshots"]["taken"]),
        (&json!("serving"), &Value::Null, &json!(0))
    );
}

#[test]
fn the_status_tells_what_goes_on() {
    let shop = Shop::open(&ADMIN);
    let admin = shop.server.admin_port();
    let order = shop.order(&[(CHEAP, 2)]);
    shop.client.pay_to_platform(&shop.buyer, &order).ok();
    shop.order(&[(CHEAP, 1)]);
    shop.client.new_order(&shop.buyer, STORE, &[(CHEAP, 1_000)]).is(517);
    // The first look asks for the orders to be counted.
    wait_until("the orders are counted", || ask(admin, "/admin/status", &json!({}))["orders"].is_object());
    let status = ask(admin, "/admin/status", &json!({}));
    assert_eq!((&status["state"], &status["http"]["mode"]), (&json!("serving"), &json!("strict")));
    let states = json!({"pending": 1, "paid": 1, "shipped": 0, "received": 0, "completed": 0, "canceled": 0});
    assert_eq!((&status["orders"]["by_state"], &status["orders"]["escrow"]), (&states, &json!(2 * CHEAP_PRICE)));
    assert!(status["orders"]["age_s"].as_f64().unwrap() < 60.0, "{status}");
    let routes = status["http"]["routes"].as_array().unwrap();
    let route = |path: &str| routes.iter().find(|route| route["path"] == path);
    let placed = route("/buyer/new_order").unwrap();
    assert_eq!(placed["codes"], json!({"200": 2, "517": 1}));
    let times = placed["us"].as_array().unwrap();
    assert_eq!(times.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 3);
    assert_eq!(times.len(), status["http"]["bounds_us"].as_array().unwrap().len() + 1);
    assert!(route("/admin/status").is_none(), "who looks does not see himself");
    assert_eq!((&status["accounts"], &status["stores"], &status["net_put_in"]), (&json!(2), &json!(1), &json!(FUNDS)));
    assert_eq!(status["search"]["books"], 2);
    let journal = &status["journal"];
    assert!(
        journal["head"].as_u64() >= journal["durable"].as_u64() && journal["events"].as_u64() > Some(10),
        "{journal}"
    );
    assert!(status["permits"]["max"].as_u64() > Some(0) && status["actors"]["awake"].as_u64() > Some(0), "{status}");
    assert!(status["disk"]["free_bytes"].as_u64() > Some(0), "{status}");
}

#[test]
fn an_order_a_user_and_books_are_shown_without_a_password() {
    let shop = Shop::open(&ADMIN);
    let admin = shop.server.admin_port();
    let order = shop.order(&[(CHEAP, 2)]);
    shop.client.payment(&shop.buyer, &order).ok();
    let shown = ask(admin, "/admin/order", &json!({"order_id": order}));
    assert_eq!(shown["order"], shop.client.buyer_order(&shop.buyer, &order).ok().body["order"]);
    for unknown in [NO_ORDER, "no id of ours"] {
        refused(admin, "/admin/order", &json!({"order_id": unknown}), 518);
    }
    refused(admin, "/admin/order", &json!({}), 530);

    for _ in 0..24 {
        shop.order(&[("dear", 1)]);
        if shop.client.get_stock_level(STORE, "dear").ok().number("stock_level") == 0 {
            shop.client.add_stock_level(&shop.seller, STORE, "dear", 10).ok();
        }
    }
    shop.client.query_balance(&shop.buyer.with_password("wrong")).is(401);
    let told = ask(admin, "/admin/user", &json!({"user_id": "buyer"}));
    let user = &told["user"];
    assert_eq!(
        (&user["balance"], &user["orders"], &user["open_orders"]),
        (&json!(FUNDS - 2 * CHEAP_PRICE), &json!(25), &json!(25))
    );
    assert_eq!((&user["wrong_passwords"], &user["throttled_s"]), (&json!(1), &Value::Null));
    let newest = told["newest_orders"].as_array().unwrap();
    assert_eq!((newest.len(), &newest[0]["status"]), (20, &json!("pending")));
    let listed = shop.client.query_buyer_all_orders(&shop.buyer).ok().orders()[0]["order_id"].clone();
    assert_eq!(newest[0]["order_id"], listed);
    let seller = ask(admin, "/admin/user", &json!({"user_id": "seller"}));
    assert_eq!(seller["user"]["stores"], json!([{"store_id": STORE, "is_closed": false, "books": 2}]));
    refused(admin, "/admin/user", &json!({"user_id": "nobody"}), 511);

    let books = ask(admin, "/admin/search", &json!({"keyword": "title", "page_size": 1}));
    assert_eq!((&books["total"], books["books"].as_array().unwrap().len()), (&json!(2), 1));
    refused(admin, "/admin/search", &json!({"keyword": "nowhere"}), 523);
}

#[test]
fn snapshot_and_audit_are_done_when_they_are_answered() {
    let shop = Shop::open(&ADMIN);
    let admin = shop.server.admin_port();
    let order = shop.order(&[(CHEAP, 2)]);
    shop.client.pay_to_platform(&shop.buyer, &order).ok();
    let audit = &ask(admin, "/admin/audit", &json!({}))["audit"];
    assert_eq!((&audit["is_conserved"], &audit["contradictions"]), (&json!(true), &json!(0)));
    assert_eq!((&audit["escrow"], &audit["balances"]), (&json!(2 * CHEAP_PRICE), &json!(FUNDS - 2 * CHEAP_PRICE)));
    let remembered = &ask(admin, "/admin/status", &json!({}))["audit"];
    assert_eq!(remembered["state_hash"], audit["state_hash"]);

    let taken = ask(admin, "/admin/snapshot", &json!({}));
    let path = std::path::PathBuf::from(taken["path"].as_str().unwrap());
    assert_eq!(std::fs::metadata(path).unwrap().len(), taken["bytes"].as_u64().unwrap());
    assert_eq!(ask(admin, "/admin/status", &json!({}))["snapshots"]["taken"], 1);
}

#[test]
fn drain_ends_the_service_as_a_signal_does() {
    let mut shop = Shop::open(&ADMIN);
    let admin = shop.server.admin_port();
    // A request that is being sent when the drain begins is answered.
    let user = User::new("late");
    let body = json!({"user_id": user.id, "password": user.password}).to_string();
    let bytes = request("POST", "/auth/register", &[], body.as_bytes());
    let mut begun = Conn::open(shop.server.port()).unwrap();
    begun.send(&bytes[..bytes.len() - 1]).unwrap();
    wait_until("it is connected beside the client of the shop", || {
        ask(admin, "/admin/status", &json!({}))["http"]["connections"].as_u64() >= Some(2)
    });
    ask(admin, "/admin/drain", &json!({}));
    begun.send(&bytes[bytes.len() - 1..]).unwrap();
    assert_eq!(begun.response().unwrap().status, 200);
    let status = shop.server.wait();
    assert!(status.success(), "{status}");
    let said = shop.server.output();
    assert!(said.contains("draining, as an operator wished") && said.contains("closed"), "{said}");
    shop.server.restart();
    shop.client = shop.server.client();
    shop.client.login(&user).ok();
}

/// Who embeds the service is told by the end of `serve_with_admin`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_service_returns_when_it_is_drained() {
    let engine = Engine::open(Config::memory()).await.unwrap();
    let (public, admin) = (bind().await, bind().await);
    let port = admin.local_addr().unwrap().port();
    let served =
        tokio::spawn(serve_with_admin(public, admin, engine.clone(), HttpConfig::default(), std::future::pending()));
    let drained = tokio::task::spawn_blocking(move || ask(port, "/admin/drain", &json!({}))).await.unwrap();
    assert_eq!(drained["message"], "ok");
    served.await.unwrap().unwrap();
    assert_eq!(engine.not_ready(), None, "the engine is the caller's");
    engine.close().await.unwrap();
}

async fn bind() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}
