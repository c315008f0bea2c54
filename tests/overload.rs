//! Pins what clients see of an engine that has too much to do: what cannot be served in time is refused at once, in
//! order, with no trace; the connection goes on; operators still see in; and all of it can be switched off.
//!
//! A long `--commit-delay` keeps every command in the engine for that long, whatever the machine: so some hundred callers
//! are a crowd that takes much longer than the disk, and nothing here depends on speed.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Conn, Response, Server, request, wait_until};
use serde_json::json;

/// More than the 128 that are no crowd.
const CALLERS: usize = 200;
const SLOW_COMMITS: [&str; 2] = ["--commit-delay", "20ms"];

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

#[test]
fn it_can_be_switched_off() {
    let server = Server::start(&[&SLOW_COMMITS[..], &["--engine-delay-max", "0s"]].concat());
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
