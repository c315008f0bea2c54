//! Pins what the service does below the contract's business answers: limits, malformed traffic, framing, drain.
//! Everything runs over real sockets against a service in this process; none of it depends on the engine's data.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a failure of the test's own plumbing is a failure of the test")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use common::service::{Answer, PATIENCE, Service, assert_closed, post};

#[test]
fn unknown_paths_and_wrong_methods() {
    let service = Service::start(|_| {});
    for path in ["/", "/nothing", "/buyer/new_order/", "/BUYER/new_order", "/auth"] {
        service.ask(post(path, "{}")).json(404);
    }
    let wrong = service.ask("GET /buyer/new_order?x=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(wrong.header("allow"), Some("post"));
    assert_eq!(wrong.json(405)["order_id"], "");
    let wrong = service.ask(post("/healthz", ""));
    assert_eq!(wrong.header("allow"), Some("get, head"));
    wrong.json(405);
}

#[test]
fn a_bad_field_is_a_530_with_the_failure_value() {
    let service = Service::start(|_| {});
    let json = service.ask(post("/auth/login", "{\"user_id\":\"u\"}")).json(530);
    assert_eq!(json["message"], "invalid parameter password: is missing");
    assert_eq!(json["token"], "");
    let json = service.ask(post("/buyer/check_stock_level", "[]")).json(530);
    assert_eq!(json["message"], "invalid parameter body: must be a JSON object");
    assert_eq!(json["stock_level"], -1);
}

#[test]
fn large_bodies_are_refused_and_the_answer_arrives() {
    let service = Service::start(|config| {
        config.body_bytes_max = 1_000;
        config.book_body_bytes_max = 2_000;
    });
    let mut stream = service.connect();
    // The connection survives: the rest of the body was read.
    for _ in 0..2 {
        stream.write_all(post("/buyer/new_order", &"x".repeat(3_000_000)).as_bytes()).unwrap();
        assert_eq!(Answer::read(&mut stream).json(413)["order_id"], "");
    }
    service.ask(post("/seller/add_book", &"x".repeat(2_001))).json(413);
    service.ask(post("/seller/add_book", &"x".repeat(2_000))).json(530);
    service.ask(post("/nothing", &"x".repeat(1_001))).json(413);
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1_000));
    let head = "POST /auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = service.ask(format!("{head}{}0\r\n\r\n", chunk.repeat(200)));
    assert_eq!(answer.json(413)["token"], "");
    service.ask(format!("{head}{chunk}0\r\n\r\n")).json(530);
}

#[test]
fn expect_100_continue() {
    let service = Service::start(|config| config.body_bytes_max = 1_000);
    let head = |length: usize| {
        format!("POST /auth/login HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut stream = service.connect();
    stream.write_all(head(2).as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 100);
    stream.write_all(b"{}").unwrap();
    Answer::read(&mut stream).json(530);
    // Refused before a byte of the body is sent.
    stream.write_all(head(1_001).as_bytes()).unwrap();
    Answer::read(&mut stream).json(413);
    assert_closed(&mut stream);
}

#[test]
fn large_headers_are_a_431() {
    let service = Service::start(|config| config.header_bytes_max = 4_000);
    let request = |bytes: usize| {
        format!("POST /auth/login HTTP/1.1\r\nHost: x\r\nX: {}\r\nContent-Length: 2\r\n\r\n{{}}", "x".repeat(bytes))
    };
    service.ask(request(3_000)).json(530);
    assert_eq!(service.ask(request(4_000)).json(431)["token"], "");
    // Beyond hyper's own buffer, and beyond its number of headers, where it answers by itself.
    service.ask(request(2_000_000)).json(431);
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    service.ask(format!("GET /healthz HTTP/1.1\r\n{many}\r\n")).json(431);
    service.ask(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000))).json(414);
}

#[test]
fn malformed_traffic_gets_json_and_is_closed() {
    let service = Service::start(|_| {});
    for bytes in [
        "nonsense\r\n\r\n",
        "GET /healthz HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "\0\0\0\0",
    ] {
        let mut stream = service.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        let answer = Answer::read(&mut stream);
        answer.json(400);
        assert_eq!(answer.header("connection"), Some("close"), "{bytes:?}");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_closed(&mut stream);
    }
    let broken = "POST /auth/login HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    assert_eq!(service.ask(broken).json(400)["token"], "");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let service = Service::start(|_| {});
    let mut stream = service.connect();
    let requests = [
        post("/auth/login", "{}"),
        post("/nothing", ""),
        "GET /healthz HTTP/1.1\r\n\r\n".to_owned(),
        post("/buyer/check_order_count", "[1]"),
        "rubbish\r\n\r\n".to_owned(),
    ];
    stream.write_all(requests.concat().as_bytes()).unwrap();
    for status in [530, 404, 200, 530, 400] {
        Answer::read(&mut stream).json(status);
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_closed(&mut stream);
}

/// hyper's `pipeline_flush` fails these two: it flushes only when no byte of a next request is there.
#[test]
fn an_answer_does_not_wait_for_the_next_request() {
    let service = Service::start(|_| {});
    let mut stream = service.connect();
    let next = post("/nothing", "{}");
    let (half, rest) = next.split_at(20);
    stream.write_all((post("/auth/login", "{}") + half).as_bytes()).unwrap();
    Answer::read(&mut stream).json(530);
    stream.write_all(rest.as_bytes()).unwrap();
    Answer::read(&mut stream).json(404);
}

#[test]
fn the_answer_before_a_close_arrives_though_more_was_sent() {
    let service = Service::start(|_| {});
    let close = "POST /auth/login HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    service.ask(close.to_owned() + &post("/auth/login", "{}")).json(530);
}

#[test]
fn requests_may_come_in_any_pieces() {
    let service = Service::start(|_| {});
    let mut stream = service.connect();
    stream.set_nodelay(true).unwrap();
    for byte in post("/auth/login", "{\"user_id\": \"\u{4e66}\"}").as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    assert!(Answer::read(&mut stream).json(530)["message"].as_str().unwrap().contains("password"));
}

#[test]
fn http_10_head_and_half_closed_clients() {
    let service = Service::start(|_| {});
    let mut stream = service.connect();
    stream.write_all(b"POST /auth/login HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    Answer::read(&mut stream).json(530);
    assert_closed(&mut stream);

    let mut stream = service.connect();
    stream.write_all(b"HEAD /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n"), "{text}");
    assert!(!text.contains("content-length: 0"), "{text}");

    let mut stream = service.connect();
    stream.write_all(post("/auth/login", "{}").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    Answer::read(&mut stream).json(530);
    assert_closed(&mut stream);
}

#[test]
fn slow_clients_get_a_408_and_idle_ones_are_closed() {
    let service = Service::start(|config| {
        config.header_timeout = Duration::from_millis(300);
        config.body_timeout = Duration::from_millis(300);
    });
    let mut stream = service.connect();
    stream.write_all(b"POST /auth/login HTTP/1.1\r\nHost").unwrap();
    Answer::read(&mut stream).json(408);

    let mut stream = service.connect();
    stream.write_all(b"POST /auth/login HTTP/1.1\r\nContent-Length: 5\r\n\r\n{").unwrap();
    assert_eq!(Answer::read(&mut stream).json(408)["token"], "");

    // From the first byte on, and after a request, too.
    assert_closed(&mut service.connect());
    let mut stream = service.connect();
    for _ in 0..4 {
        stream.write_all(post("/auth/login", "{}").as_bytes()).unwrap();
        Answer::read(&mut stream).json(530);
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_closed(&mut stream);
}

#[test]
fn too_many_connections_are_told_so() {
    let service = Service::start(|config| config.connections_max = 1);
    let mut first = service.connect();
    first.write_all(post("/auth/login", "{}").as_bytes()).unwrap();
    Answer::read(&mut first).json(530);
    let mut second = service.connect();
    let answer = Answer::read(&mut second);
    answer.json(503);
    assert!(answer.header("retry-after").is_some());
    drop(first);
    // The place is free again as soon as the service has seen the end of the first.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = service.connect();
        // The answer 503 may come, and the connection close, before the request is sent.
        let sent = stream.write_all(post("/auth/login", "{}").as_bytes());
        if sent.is_ok() && Answer::read(&mut stream).status == 530 {
            break;
        }
        assert!(Instant::now() < deadline, "the place was not given back");
    }
}

#[test]
fn all_bodies_together_have_a_limit() {
    let service = Service::start(|config| config.bodies_in_flight_bytes_max = 1_000);
    let answer = service.ask(post("/buyer/new_order", &"x".repeat(1_001)));
    assert_eq!(answer.json(503)["order_id"], "");
    assert!(answer.header("retry-after").is_some());
    // The share is given back, every time.
    for _ in 0..3 {
        service.ask(post("/buyer/new_order", &"x".repeat(900))).json(530);
    }
}

/// Clients that ask for a book with large pictures and do not read would hold all of them in memory.
#[test]
fn all_long_answers_together_have_a_limit() {
    let service = Service::start(|config| config.bodies_in_flight_bytes_max = 20_000_000);
    service.ask(post("/auth/register", r#"{"user_id":"s","password":"p"}"#)).json(200);
    let login = service.ask(post("/auth/login", r#"{"user_id":"s","password":"p","terminal":"t"}"#)).json(200);
    let token = format!("HTTP/1.1\r\ntoken: {}\r\n", login["token"].as_str().unwrap());
    let asked = |path, body: &str| service.ask(post(path, body).replacen("HTTP/1.1\r\n", &token, 1)).json(200);
    asked("/seller/create_store", r#"{"user_id":"s","store_id":"store"}"#);
    let info = format!(r#"{{"id":"large","title":"t","price":1,"pictures":["{}"]}}"#, "x".repeat(12_000_000));
    asked("/seller/add_book", &format!(r#"{{"user_id":"s","store_id":"store","book_info":{info}}}"#));
    let wanted = post("/buyer/query_book", r#"{"store_id":"store","book_id":"large"}"#);
    let mut unread = service.connect();
    unread.write_all(wanted.as_bytes()).unwrap();
    // Its head is there, so its answer is made; most of it fits into no socket's buffer.
    let mut first = [0; 12];
    unread.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let refused = service.ask(&wanted);
    assert_eq!(refused.json(503)["stock_level"], -1);
    assert!(refused.header("retry-after").is_some());
    drop(unread);
    let deadline = Instant::now() + PATIENCE;
    while service.ask(&wanted).status != 200 {
        assert!(Instant::now() < deadline, "the share was not given back");
    }
}

#[test]
fn a_drain_finishes_what_was_begun() {
    let mut service = Service::start(|_| {});
    let mut idle = service.connect();
    idle.write_all(post("/auth/login", "{}").as_bytes()).unwrap();
    Answer::read(&mut idle).json(530);
    let mut busy = service.connect();
    busy.write_all(b"POST /auth/login HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut busy).status, 100);
    service.stop();
    assert_closed(&mut idle);
    busy.write_all(b"{}").unwrap();
    let answer = Answer::read(&mut busy);
    answer.json(530);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_closed(&mut busy);
    service.thread.take().unwrap().join().unwrap();
    assert!(TcpStream::connect(service.address).is_err(), "nobody listens any more");
}

#[test]
fn a_drain_ends_in_time() {
    let mut service = Service::start(|config| config.drain_timeout = Duration::from_millis(200));
    let mut stuck = service.connect();
    stuck.write_all(b"POST /auth/login HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut stuck).status, 100);
    service.stop();
    service.thread.take().unwrap().join().unwrap();
    assert_closed(&mut stuck);
}
