//! Pins what clients see of an engine that has too much to do: what cannot be served in time is refused at once, in
//! order, with no trace; the connection goes on; operators still see in; and all of it can be switched off.
//!
//! A long `--commit-delay` keeps every command in the engine for that long, whatever the machine: so some hundred callers
//! are a crowd that takes much longer than the disk, and nothing here depends on speed.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Conn, Response, Server, request, wait_until};
use serde_json::json;

/// More than the 128 that are no crowd.
const CALLERS: usize = 200;
const SLOW_COMMITS: [&str; 4] = ["--commit-delay", "20ms", "--engine-delay-max", "1ms"];

fn ask(conn: &mut Conn, path: &str, body: &serde_json::Value) -> Response {
    conn.send(&request("POST", path, &[], body.to_string().as_bytes())).unwrap();
    conn.response().unwrap()
}

fn metric(server: &Server, name: &str) -> f64 {
    let mut conn = server.connect();
    conn.send(&request("GET", "/metrics", &[], b"")).unwrap();
    let text = conn.response().unwrap().text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect(name);
    value.parse().unwrap()
}

fn deposit(conn: &mut Conn) -> Response {
    ask(conn, "/buyer/add_funds", &json!({"user_id": "saver", "password": "secret", "add_value": 1}))
}

fn balance(server: &Server) -> u64 {
    let answer = ask(&mut server.connect(), "/buyer/query_balance", &json!({"user_id": "saver", "password": "secret"}));
    assert_eq!(answer.status, 200);
    answer.json()["balance"].as_u64().unwrap()
}

fn register(server: &Server) {
    let answer = ask(&mut server.connect(), "/auth/register", &json!({"user_id": "saver", "password": "secret"}));
    assert_eq!(answer.status, 200);
}

/// Lets the callers end, also when the test fails before: a scope waits for its threads.
struct Enough<'a>(&'a AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_is_too_much_is_refused_at_once_and_leaves_no_trace() {
    let server = Server::start(&SLOW_COMMITS);
    register(&server);
    let (accepted, refused, enough) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _enough = Enough(&enough);
        for _ in 0..CALLERS {
            scope.spawn(|| {
                // One connection for all of a caller's requests: a refusal does not end it.
                let mut conn = server.connect();
                while !enough.load(Ordering::Relaxed) {
                    let answer = deposit(&mut conn);
                    assert!(!answer.closes());
                    if answer.status == 200 {
                        accepted.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    refused.fetch_add(1, Ordering::Relaxed);
                    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
                    assert_eq!(answer.header("x-request-id").map(str::len), Some(24));
                    let message = answer.json()["message"].as_str().unwrap().to_owned();
                    assert!(message.contains("overloaded") && message.contains("nothing was done"), "{message}");
                }
            });
        }
        wait_until("some are refused", || refused.load(Ordering::Relaxed) > 1_000);
        // Those who operate the service are let in, and see why.
        for path in ["/healthz", "/readyz"] {
            let mut conn = server.connect();
            conn.send(&request("GET", path, &[], b"")).unwrap();
            assert_eq!(conn.response().unwrap().status, 200, "{path}");
        }
        assert!(metric(&server, "bookstore_commands_limit") >= 1.0);
        // Those who are refused are not all.
        let before = accepted.load(Ordering::Relaxed);
        wait_until("some are served", || accepted.load(Ordering::Relaxed) > before + 100);
    });
    assert_eq!(metric(&server, "bookstore_http_shed_total"), refused.into_inner() as f64);
    // A lone caller lifts the limit: whoever comes looks whether it is still needed.
    let accepted = accepted.into_inner();
    let mut more = 0;
    wait_until("the limit is lifted", || {
        assert_eq!(deposit(&mut server.connect()).status, 200);
        more += 1;
        metric(&server, "bookstore_commands_limit") == 0.0
    });
    assert_eq!(balance(&server), accepted + more);
}

/// Keeps a crowd in the service while `look` looks at it from outside.
fn beside_a_crowd(server: &Server, look: impl FnOnce()) {
    let enough = AtomicBool::new(false);
    let refused = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let _enough = Enough(&enough);
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut conn = server.connect();
                while !enough.load(Ordering::Relaxed) {
                    refused.fetch_add(u64::from(deposit(&mut conn).status == 503), Ordering::Relaxed);
                }
            });
        }
        wait_until("some are refused", || refused.load(Ordering::Relaxed) > 100);
        look();
    });
}

/// However a request is written, and however its bytes come, a refusal is the same answer, and what comes behind it on
/// the same connection is answered in its turn.
#[test]
fn every_shape_of_a_request_is_refused_alike() {
    let server = Server::start(&SLOW_COMMITS);
    register(&server);
    let body = br#"{"user_id":"saver","password":"secret","add_value":0}"#;
    let plain = request("POST", "/buyer/add_funds", &[], body);
    let with = |name, value| request("POST", "/buyer/add_funds", &[(name, value)], body);
    let text = String::from_utf8(plain.clone()).unwrap();
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    let head = head.lines().filter(|line| !line.to_lowercase().starts_with("content-length")).collect::<Vec<_>>();
    let mut chunked =
        (head.join("\r\n") + &format!("\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len())).into_bytes();
    chunked.extend_from_slice(body);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let end_of_head = plain.len() - body.len();
    let shapes: Vec<(&str, Vec<Vec<u8>>, usize, bool)> = vec![
        ("plain", vec![plain.clone()], 1, false),
        ("kept by name", vec![with("Connection", "keep-alive")], 1, false),
        ("chunked", vec![chunked], 1, false),
        ("to be closed", vec![with("Connection", "close")], 1, true),
        ("head, then body", vec![plain[..end_of_head].to_vec(), plain[end_of_head..].to_vec()], 1, false),
        ("in the middle of the head", vec![plain[..20].to_vec(), plain[20..].to_vec()], 1, false),
        ("three at once", vec![plain.repeat(3)], 3, false),
        ("one and a half", vec![[&plain[..], &plain[..30]].concat(), plain[30..].to_vec()], 2, false),
    ];
    beside_a_crowd(&server, || {
        for (shape, pieces, answers, closes) in &shapes {
            let mut seen = 0;
            wait_until(&format!("{shape} is refused"), || {
                let mut conn = server.connect();
                // The shape between two plain ones.
                let mut got = vec![deposit(&mut conn)];
                for (index, piece) in pieces.iter().enumerate() {
                    if index > 0 {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    conn.send(piece).unwrap();
                }
                got.extend((0..*answers).map(|_| conn.response().unwrap()));
                if *closes {
                    assert!(conn.is_closed(), "{shape}");
                } else {
                    got.push(deposit(&mut conn));
                }
                for answer in &got {
                    match answer.status {
                        200 => assert_eq!(answer.json()["message"], "ok", "{shape}"),
                        503 => {
                            assert_eq!(answer.header("retry-after"), Some("1"), "{shape}");
                            assert_eq!(answer.header("content-type"), Some("application/json"), "{shape}");
                            assert!(answer.text().contains("nothing was done"), "{shape}: {}", answer.text());
                        }
                        other => panic!("{shape}: {other}"),
                    }
                }
                seen += got[1..=*answers].iter().filter(|answer| answer.status == 503).count();
                seen >= 5
            });
        }
        // What belongs to no route, or is no request, is told so also now.
        for (bytes, status) in [
            (request("POST", "/nowhere", &[], b"{}"), 404),
            (request("PUT", "/buyer/add_funds", &[], b"{}"), 405),
            (b"POST /buyer/add_funds HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}".to_vec(), 400),
        ] {
            for _ in 0..20 {
                let mut conn = server.connect();
                conn.send(&bytes).unwrap();
                assert_eq!(conn.response().unwrap().status, status);
            }
        }
    });
}

/// What stands in a body is never answered as a request, whatever was said of lengths before, and wherever reads end.
#[test]
fn a_body_is_not_taken_for_a_request() {
    let server = Server::start(&SLOW_COMMITS);
    register(&server);
    let post = |path: &str, body: &[u8]| request("POST", path, &[], body);
    let like_a_head = b"content-length: 40\n";
    let inner = post("/buyer/add_funds", b"{}");
    let outer = post("/nowhere", &inner);
    beside_a_crowd(&server, || {
        for round in 0..30 {
            let mut conn = server.connect();
            let pause = || std::thread::sleep(Duration::from_millis(2));
            let first = post("/nowhere", like_a_head);
            let head_bytes = first.len() - like_a_head.len();
            conn.send(&first[..head_bytes]).unwrap();
            pause();
            conn.send(like_a_head).unwrap();
            assert_eq!(conn.response().unwrap().status, 404);
            conn.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            assert_eq!(conn.response().unwrap().status, 200);
            // A head of 40 bytes, as the first body said, so that what follows would stand at a beginning.
            let head = format!("POST /{} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", "y", inner.len());
            let head = head.replacen("/y", &format!("/{}", "y".repeat(1 + 40usize.saturating_sub(head.len()))), 1);
            conn.send(head.as_bytes()).unwrap();
            pause();
            conn.send(&inner).unwrap();
            assert_eq!(conn.response().unwrap().status, 404, "round {round}");
            // One answer, and the next belongs to the next request.
            conn.send(&outer).unwrap();
            assert_eq!(conn.response().unwrap().status, 404, "round {round}");
            let status = deposit(&mut conn).status;
            assert!(status == 200 || status == 503, "{status}");
        }
    });
}

#[test]
fn it_can_be_switched_off() {
    let server = Server::start(&[&SLOW_COMMITS[..2], &["--engine-delay-max", "0s"]].concat());
    register(&server);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut conn = server.connect();
                for _ in 0..20 {
                    assert_eq!(deposit(&mut conn).status, 200);
                }
            });
        }
    });
    assert_eq!(metric(&server, "bookstore_http_shed_total"), 0.0);
    assert_eq!(balance(&server), 20 * CALLERS as u64);
}
