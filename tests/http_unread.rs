//! Clients that ask and do not read: what they hold is limited, and not for ever. Over real sockets against a service in
//! this process.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a failure of the test's own plumbing is a failure of the test")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bookstore::http::TlsIdentity;
use bookstore::{Credential, Engine, NewBook, NewLine};
use common::service::{Answer, PATIENCE, Service, post};
use common::tls::Authority;
use serde_json::json;

/// More than fits into the buffers of both sockets.
const LONG: usize = 12_000_000;
const STALL: Duration = Duration::from_millis(300);

/// A user with a store of such books. Made in the engine itself, which is quicker and knows no limit of the transport.
async fn stocked(engine: &Engine, books: &[(String, String)]) {
    engine.register("s", "p").await.unwrap();
    engine.create_store("s", Credential::Trusted, "store").await.unwrap();
    for (id, document) in books {
        let book = NewBook { id, price: 1, document };
        engine.add_book("s", Credential::Trusted, "store", book, 1_000_000).await.unwrap();
    }
}

/// The request for a book that is [`LONG`].
fn long_book(service: &Service) -> String {
    let info = json!({"id": "large", "title": "t", "price": 1, "pictures": ["x".repeat(LONG)]}).to_string();
    service.run(stocked(&service.engine, &[("large".to_owned(), info)]));
    post("/buyer/query_book", r#"{"store_id":"store","book_id":"large"}"#)
}

/// A client whose own buffer is small, so that what it has not read stays with the service.
fn narrow(service: &Service) -> TcpStream {
    let stream = service.run(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        socket.connect(service.address).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads to the end of the connection and gives the bytes there were.
fn drained(stream: &mut impl Read) -> usize {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
            "not cut: {error}, after {} bytes",
            rest.len()
        ),
    }
    rest.len()
}

/// Waits until there is room for a long answer again, whose place an unread one had.
fn comes_back(mut status: impl FnMut() -> u16) {
    let deadline = Instant::now() + PATIENCE;
    while status() != 200 {
        assert!(Instant::now() < deadline, "the share was not given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A long list leaves in pieces that are made as the client reads, so the orders wait in memory until it does.
#[test]
fn lists_of_orders_count_among_the_long_answers() {
    let service = Service::start(|config| config.bodies_in_flight_bytes_max = 2_000_000);
    let ids: Vec<_> = (0..200).map(|book| format!("{book}-{}", "b".repeat(240))).collect();
    let books: Vec<_> =
        ids.iter().map(|id| (id.clone(), json!({"id": id, "title": "t", "price": 1}).to_string())).collect();
    let lines: Vec<_> = ids.iter().map(|book_id| NewLine { book_id, count: 1 }).collect();
    service.run(async {
        stocked(&service.engine, &books).await;
        for _ in 0..220 {
            service.engine.new_order("s", Credential::Trusted, "store", &lines).await.unwrap();
        }
    });
    let wanted = post("/buyer/query_buyer_all_orders", r#"{"user_id":"s","password":"p"}"#);
    let mut unread = narrow(&service);
    unread.write_all(wanted.as_bytes()).unwrap();
    let mut first = [0; 12];
    unread.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let refused = service.ask(&wanted);
    assert_eq!(refused.json(503)["orders"], "None");
    assert!(refused.header("retry-after").is_some());
    drop(unread);
    comes_back(|| service.ask(&wanted).status);
}

#[test]
fn who_takes_nothing_of_an_answer_is_cut() {
    let service = Service::start(|config| {
        config.bodies_in_flight_bytes_max = 20_000_000;
        config.write_timeout = STALL;
    });
    let wanted = long_book(&service);
    let mut unread = narrow(&service);
    unread.write_all(wanted.as_bytes()).unwrap();
    let mut first = [0; 12];
    unread.read_exact(&mut first).unwrap();
    // It is still connected, and its share is free all the same.
    comes_back(|| service.ask(&wanted).status);
    assert!(drained(&mut unread) < LONG);
}

/// The answers are short, but nobody takes them: they fill the buffers, and then the service's own.
#[test]
fn who_asks_on_and_on_and_takes_nothing_is_cut() {
    let service = Service::start(|config| config.write_timeout = STALL);
    let mut unread = narrow(&service);
    unread.set_write_timeout(Some(PATIENCE)).unwrap();
    let many = "GET /openapi.json HTTP/1.1\r\n\r\n".repeat(100);
    let error = loop {
        if let Err(error) = unread.write_all(many.as_bytes()) {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "not cut: {error}");
}

#[test]
fn over_tls_too() {
    let authority = Authority::new();
    let identity = TlsIdentity::from_pem(authority.certificate.as_bytes(), authority.key.as_bytes()).unwrap();
    let service = Service::start(|config| {
        config.tls = Some(identity);
        config.bodies_in_flight_bytes_max = 20_000_000;
        config.write_timeout = STALL;
    });
    let wanted = long_book(&service);
    let mut unread = authority.client(service.address);
    unread.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    unread.write_all(wanted.as_bytes()).unwrap();
    let mut first = [0; 12];
    unread.read_exact(&mut first).unwrap();
    comes_back(|| {
        let mut other = authority.client(service.address);
        other.write_all(wanted.as_bytes()).unwrap();
        Answer::read(&mut other).status
    });
    assert!(drained(&mut unread) < LONG);
}

/// Neither the time for writes nor the time for the next head ends an answer that is being taken.
#[test]
fn who_reads_slowly_but_steadily_gets_all_of_it() {
    let service = Service::start(|config| {
        config.write_timeout = Duration::from_millis(800);
        config.header_timeout = Duration::from_millis(100);
    });
    let wanted = long_book(&service);
    let mut slow = narrow(&service);
    slow.write_all(wanted.as_bytes()).unwrap();
    let (mut came, mut piece) = (0, vec![0; 1_000_000]);
    while came < LONG {
        let read = slow.read(&mut piece).unwrap();
        assert!(read > 0, "cut after {came} bytes");
        came += read;
        // A megabyte in 200 ms, however it comes.
        std::thread::sleep(Duration::from_micros(read as u64 / 5));
    }
}

/// A connection without an answer on its way is no business of the time for writes.
#[test]
fn who_waits_or_is_idle_is_not_cut() {
    let service = Service::start(|config| config.write_timeout = Duration::from_millis(50));
    let mut stream = service.connect();
    let request = post("/auth/login", "{}");
    let (half, rest) = request.split_at(request.len() - 1);
    for _ in 0..2 {
        stream.write_all(half.as_bytes()).unwrap();
        // The handler waits for the body.
        std::thread::sleep(Duration::from_millis(200));
        stream.write_all(rest.as_bytes()).unwrap();
        Answer::read(&mut stream).json(530);
        std::thread::sleep(Duration::from_millis(200));
    }
}
