//! Pins what a collector gets: real spans over real HTTP, read here by hand from their protobuf; and that a collector that
//! is not there, or hangs, harms nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::shop::{CHEAP, STORE};
use common::{Shop, request, wait_until};
use serde_json::json;

/// A field of a protobuf message: its number, and its bytes or its number.
struct Field<'a> {
    number: u64,
    bytes: &'a [u8],
}

/// The fields of a message that have bytes; numbers are passed over.
fn fields(mut message: &[u8]) -> Vec<Field<'_>> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (&byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let length = match tag & 7 {
            0 => {
                varint(&mut message);
                continue;
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            kind => panic!("no such kind of field: {kind}"),
        };
        let (bytes, rest) = message.split_at(length);
        found.push(Field { number: tag >> 3, bytes });
        message = rest;
    }
    found
}

fn all(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).into_iter().filter(move |field| field.number == number).map(|field| field.bytes)
}

fn first(message: &[u8], number: u64) -> &[u8] {
    all(message, number).next().unwrap_or_default()
}

/// The attribute of a span (its field 9) or of a resource (1), if it is a text.
fn attribute(message: &[u8], number: u64, name: &str) -> Option<String> {
    let found = all(message, number).find(|pair| first(pair, 1) == name.as_bytes())?;
    Some(String::from_utf8(first(first(found, 2), 1).to_vec()).unwrap())
}

#[derive(Debug, Clone)]
struct Span {
    service: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    name: String,
    request: Option<String>,
    order: Option<String>,
}

/// The spans of an ExportTraceServiceRequest.
fn spans(body: &[u8]) -> Vec<Span> {
    let mut found = Vec::new();
    for of_resource in all(body, 1) {
        let service = attribute(first(of_resource, 1), 1, "service.name").unwrap();
        for of_scope in all(of_resource, 2) {
            found.extend(all(of_scope, 2).map(|span| Span {
                service: service.clone(),
                trace: first(span, 1).to_vec(),
                id: first(span, 2).to_vec(),
                parent: first(span, 4).to_vec(),
                name: String::from_utf8(first(span, 5).to_vec()).unwrap(),
                request: attribute(span, 9, "request_id"),
                order: attribute(span, 9, "order_id"),
            }));
        }
    }
    found
}

/// A collector, which takes all that comes.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let into = taken.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let into = into.clone();
                std::thread::spawn(move || serve(stream.unwrap(), &into));
            }
        });
        Collector { url, spans: taken }
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }
}

/// Takes batches until the connection ends.
fn serve(mut stream: TcpStream, into: &Mutex<Vec<Span>>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read_exact(&mut byte).is_err() {
                return;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        into.lock().unwrap().extend(spans(&body));
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
    }
}

const TRACE: [u8; 16] =
    [0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36];
const PARENT: [u8; 8] = [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_collector_gets_each_request_with_the_steps_of_its_saga() {
    let collector = Collector::start();
    let mut shop = Shop::open(&["--otlp-endpoint", &collector.url]);
    let traceparent = format!("00-{}-{}-01", hexadecimal(&TRACE), hexadecimal(&PARENT));
    let headers =
        [("token", shop.buyer.token.as_str()), ("x-request-id", "bought-1"), ("traceparent", traceparent.as_str())];
    let body = json!({"user_id": shop.buyer.id, "store_id": STORE, "books": [{"id": CHEAP, "count": 1}]});
    let mut conn = shop.server.connect();
    conn.send(&request("POST", "/buyer/new_order", &headers, body.to_string().as_bytes())).unwrap();
    let answer = conn.response().unwrap();
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some("bought-1")), "{}", answer.text());
    let order = answer.json()["order_id"].as_str().unwrap().to_owned();
    shop.client.payment(&shop.buyer, &order).ok();
    // What was gathered leaves before the end.
    assert!(shop.server.sigterm().success());

    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.service == "bookstore"), "{spans:?}");
    let one = |name: &str| spans.iter().find(|span| span.name == name && span.request.as_deref() == Some("bought-1"));
    let whole = one("/buyer/new_order").unwrap_or_else(|| panic!("{spans:?}"));
    assert_eq!((whole.trace.as_slice(), whole.parent.as_slice()), (&TRACE[..], &PARENT[..]));
    for step in ["place", "reserve", "reserved"] {
        let step = one(step).unwrap_or_else(|| panic!("no {step}: {spans:?}"));
        assert_eq!((&step.trace, &step.parent), (&whole.trace, &whole.id), "{step:?}");
        assert_eq!(step.order.as_deref(), Some(order.as_str()), "{step:?}");
    }
    // Not there where the journal was sooner than the answer.
    assert!(one("journal_commit").is_none_or(|commit| (&commit.trace, &commit.parent) == (&whole.trace, &whole.id)));
    assert!(spans.iter().any(|span| span.name == "journal_commit"), "{spans:?}");
    // Without a `traceparent` a trace begins here.
    let paid = spans.iter().find(|span| span.name == "/buyer/payment").unwrap();
    assert!(paid.parent.is_empty() && paid.trace != TRACE && paid.order.as_deref() == Some(&order), "{paid:?}");
    for step in ["pay", "debit", "credit", "credited"] {
        let of_it = |span: &&Span| span.name == step && span.parent == paid.id;
        assert_eq!(spans.iter().filter(of_it).count(), 1, "{step}: {spans:?}");
    }
}

/// Nobody there; somebody who never answers; somebody who refuses. The service serves, and ends in order and in time.
#[test]
fn a_collector_that_fails_harms_nobody() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = refusing.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in refusing.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    for address in [nobody, silent.local_addr().unwrap(), refused] {
        let mut shop = Shop::open(&["--otlp-endpoint", &format!("http://{address}")]);
        let order = shop.order(&[(CHEAP, 1)]);
        shop.client.payment(&shop.buyer, &order).ok();
        let began = Instant::now();
        assert!(shop.server.sigterm().success());
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        let said = shop.server.output();
        assert!(said.matches("lost until they do").count() <= 1, "{said}");
        assert!(address != nobody || said.contains("spans do not reach the collector"), "{said}");
    }
}

#[test]
fn the_log_is_what_it_is_without_a_collector() {
    let shop = Shop::open(&["--log-level", "info,bookstore::http=debug"]);
    shop.order(&[(CHEAP, 1)]);
    wait_until("the answer is told", || shop.server.output().contains("answered route=\"/buyer/new_order\""));
    assert!(!shop.server.output().contains("step="), "{}", shop.server.output());
    let refused = common::bookstore(&[&"serve", &"--otlp-endpoint", &"https://127.0.0.1:4318"]);
    refused.ends_with_status(2).says("must begin with http://");
}
