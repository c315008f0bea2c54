//! What an operator sees: health, metrics, the throttle on wrong passwords, and how the server ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::thread::sleep;
use std::time::Duration;

use common::shop::{CHEAP, NO_ORDER, STORE};
use common::{Answer, Client, Server, Shop, User, request, wait_until};
use serde_json::json;

/// The sum of all samples of this metric whose labels contain all of these texts.
fn metric(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, of) = series.split_once('{').unwrap_or((series, ""));
        let wanted = found == name && labels.iter().all(|label| of.contains(label));
        if wanted { value.parse::<f64>().ok() } else { None }
    });
    samples.reduce(|a, b| a + b)
}

#[test]
fn health_ready_and_metrics_answer_a_get() {
    let server = Server::start(&[]);
    let client = server.client();
    assert_eq!(client.get("/healthz").status, 200);
    assert_eq!(client.get("/readyz").status, 200);
    let metrics = client.get("/metrics");
    assert_eq!(metrics.status, 200);
    let content_type = metrics.header("content-type").unwrap();
    assert!(content_type.starts_with("text/plain") || content_type.starts_with("application/openmetrics-text"));
}

#[test]
fn with_an_admin_port_the_metrics_are_there_and_nowhere_else() {
    let mut server = Server::start(&["--admin-listen", "127.0.0.1:0", "--connections-max", "2"]);
    let (public, admin) = (server.client(), Client::new(server.admin_port()));
    for client in [&public, &admin] {
        assert_eq!(client.get("/healthz").status, 200);
        assert_eq!(client.get("/readyz").status, 200);
    }
    let metrics = admin.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.text().contains("bookstore_http_requests_total"));
    let hidden = public.get("/metrics");
    Answer::read("/metrics", &hidden).unwrap().is(404);
    assert_eq!(hidden.body, public.get("/no_such_path").body, "it does not even say that there is such a path");
    // As everywhere: a 404 comes before a 405.
    public.post("/metrics", json!({})).is(404);
    admin.post("/metrics", json!({})).is(405);
    // Nobody does business by the side door.
    let anna = User::new("anna");
    admin.register(&anna).is(404);
    Answer::read("/openapi.json", &admin.get("/openapi.json")).unwrap().is(404);
    public.register(&anna).ok();
    // A shop that is full still shows how full it is.
    let second = server.connect();
    wait_until("the shop is full", || server.connect().response().is_ok_and(|answer| answer.status == 503));
    assert_eq!(Client::new(server.admin_port()).get("/metrics").status, 200);
    drop(second);
    let idle = Client::new(server.admin_port());
    assert_eq!(idle.get("/healthz").status, 200);
    assert_eq!(server.sigterm().code(), Some(0), "an idle connection there does not keep the server from ending");
}

#[test]
fn an_admin_port_that_is_taken_is_told_before_anything_is_opened() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let parent = tempfile::TempDir::new().unwrap();
    let data = parent.path().join("data");
    let output = std::process::Command::new(common::binary())
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            &format!("127.0.0.1:{}", server.admin_port()),
            "--data-dir",
        ])
        .arg(&data)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("choose another with --admin-listen"), "{said}");
    assert!(!data.exists());
}

#[test]
fn the_metrics_have_their_names_and_count() {
    let shop = Shop::open(&["--snapshot-interval", "1s"]);
    for i in 0..3 {
        shop.client.register(&User::new(&format!("user-{i}"))).ok();
    }
    shop.client.register(&User::new("user-0")).refused(512, "user-0");
    let registered = |code: &str| {
        let text = shop.client.get("/metrics").text();
        metric(&text, "bookstore_http_requests_total", &["register\"", &format!("\"{code}\"")])
    };
    assert_eq!(registered("200"), Some(5.0), "the shop's own two and three more");
    assert_eq!(registered("512"), Some(1.0));

    let text = shop.client.get("/metrics").text();
    let seen = metric(&text, "bookstore_http_request_seconds_count", &["register\""]).unwrap();
    assert!(seen >= 6.0, "{seen}");
    for name in
        ["bookstore_journal_batches_total", "bookstore_journal_frames_total", "bookstore_journal_sync_seconds_count"]
    {
        let value = metric(&text, name, &[]).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        assert!(value >= 1.0, "{name} {value}");
    }
    for name in [
        "bookstore_watermark_lag",
        "bookstore_actors_live",
        "bookstore_actors_dormant",
        "bookstore_snapshot_age_seconds",
        "bookstore_snapshot_duration_seconds",
        "bookstore_permits_in_use",
    ] {
        // A histogram shows itself by its count.
        let found = metric(&text, name, &[]).or_else(|| metric(&text, &format!("{name}_count"), &[]));
        assert!(found.is_some(), "no {name} in\n{text}");
    }
}

#[test]
fn wrong_passwords_are_throttled_for_the_user_and_only_for_him() {
    let shop = Shop::open(&["--throttle-user", "5"]);
    let client = &shop.client;
    let wrong = shop.buyer.with_password("wrong");
    for i in 0..5 {
        let answer = if i % 2 == 0 { client.login(&wrong) } else { client.add_funds(&wrong, 1) };
        answer.unauthorised();
    }
    // `Answer` sees to the Retry-After.
    client.login(&wrong).is(429);
    client.query_buyer_all_orders(&wrong).is(429);
    client.login(&shop.seller).ok();
    client.login(&shop.seller.with_password("wrong")).unauthorised();
}

#[test]
fn the_throttle_stands_at_20_a_minute_unless_set() {
    let server = Server::start(&["--throttle-user", "20"]);
    let client = server.client();
    let user = client.new_user("anna");
    for _ in 0..20 {
        client.login(&user.with_password("wrong")).unauthorised();
    }
    client.login(&user.with_password("wrong")).is(429);
}

#[test]
fn right_passwords_never_count() {
    let shop = Shop::open(&["--throttle-user", "3", "--throttle-address", "5"]);
    for _ in 0..50 {
        shop.client.login(&shop.buyer).ok();
        shop.client.query_balance(&shop.buyer).ok();
    }
    shop.client.order_status(&shop.buyer, NO_ORDER).refused(518, NO_ORDER);
}

#[test]
fn wrong_passwords_are_throttled_for_the_address() {
    let server = Server::start(&["--throttle-address", "4"]);
    let client = server.client();
    let users: Vec<User> = (0..6).map(|i| client.new_user(&format!("user-{i}"))).collect();
    for user in &users[..4] {
        client.login(&user.with_password("wrong")).unauthorised();
    }
    // Another user and another connection, but the same address.
    server.client().login(&users[4].with_password("wrong")).is(429);
}

#[test]
fn sigterm_saves_all_and_the_next_start_replays_nothing() {
    let mut shop = Shop::open(&[]);
    let order = shop.order_in("paid");
    let status = shop.server.sigterm();
    assert_eq!(status.code(), Some(0), "{status}");
    shop.server.restart();
    shop.client = shop.server.client();
    assert_eq!(shop.status(&order), "paid");
    let said = shop.server.output();
    assert!(said.to_lowercase().contains("replayed 0") || said.contains("replayed nothing"), "{said}");

    shop.order_in("pending");
    shop.crash();
    let said = shop.server.output();
    assert!(!said.to_lowercase().contains("replayed 0 ") && !said.contains("replayed nothing"), "{said}");
}

#[test]
fn sigterm_lets_a_request_in_flight_be_answered() {
    let mut server = Server::start(&[]);
    let bytes = request("POST", "/auth/register", &[], br#"{"user_id": "late", "password": "p"}"#);
    let (first, second) = bytes.split_at(bytes.len() - 10);
    let mut conn = server.connect();
    conn.send(first).unwrap();
    // The server must have begun to read it, else it is not in flight.
    sleep(Duration::from_millis(300));
    let idle = server.connect();
    server.send_sigterm();
    sleep(Duration::from_millis(300));
    conn.send(second).unwrap();
    let response = conn.response().unwrap();
    let answer = Answer::read("/auth/register", &response).unwrap();
    assert!([200, 503].contains(&answer.status), "{}", answer.body);
    assert_eq!(server.wait().code(), Some(0), "an idle connection does not keep the server from ending");
    drop(idle);
    server.restart();
    let expected = if answer.status == 200 { 512 } else { 200 };
    server.client().post("/auth/register", json!({"user_id": "late", "password": "p"})).is(expected);
}

#[test]
fn after_sigterm_nobody_new_is_served() {
    let mut server = Server::start(&[]);
    let port = server.port();
    assert_eq!(server.sigterm().code(), Some(0));
    assert!(common::Conn::open(port).is_err());
}

#[test]
fn snapshots_beside_the_traffic_lose_nothing() {
    let mut shop = Shop::open(&["--snapshot-interval", "1s"]);
    shop.client.add_stock_level(&shop.seller, STORE, CHEAP, 1_000_000).ok();
    shop.client.add_funds(&shop.buyer, 1_000_000_000).ok();
    let taken = || metric(&shop.client.get("/metrics").text(), "bookstore_snapshots_total", &[]).unwrap();
    let first = taken();
    let mut orders = Vec::new();
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        orders.push(shop.order_in("paid"));
    }
    wait_until("a snapshot is taken", || taken() > first);
    let before = (shop.balances(), shop.stock(CHEAP), shop.client.order_count("buyer"));
    shop.crash();
    assert_eq!((shop.balances(), shop.stock(CHEAP), shop.client.order_count("buyer")), before);
    for order in &orders {
        assert_eq!(shop.status(order), "paid");
    }
}
