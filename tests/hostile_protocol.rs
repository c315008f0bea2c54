//! Requests that are made to be misread. A shape is either refused (4xx, JSON, nothing done, the connection ended) or
//! read in one way; a second request that somebody else would see in it is never carried out. That is judged by the
//! engine's state, not by the answers.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use bookstore::Config;
use bookstore::http::HttpConfig;
use common::api::routes;
use common::service::{Answer, PATIENCE, Service, post};
use common::{Client, User, book};
use serde_json::json;

/// Not long, for what has no other end than its time.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

fn service(change: impl FnOnce(&mut HttpConfig)) -> Service {
    let mut config = Config::memory();
    config.password_params.memory_kib = 64;
    config.password_params.iterations = 1;
    Service::start_with(config, |http| {
        http.body_timeout = BODY_TIMEOUT;
        change(http);
    })
}

fn registration(user: &str) -> String {
    json!({"user_id": user, "password": "p"}).to_string()
}

/// A request that must not be seen.
fn smuggled() -> String {
    post("/auth/register", &registration("smuggled"))
}

/// Sends all of it, ends the sending side, and gives every answer until the server ends its own.
fn exchange(service: &Service, bytes: &[u8]) -> Vec<Answer> {
    let mut stream = service.connect();
    // A server that has seen enough may have ended already.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap_or_else(|error| panic!("{error}: {}", shown(bytes)));
    let mut rest = all.as_slice();
    let mut answers = Vec::new();
    while !rest.is_empty() {
        answers.push(Answer::read(&mut rest));
    }
    answers
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(300).collect::<String>().escape_debug().collect()
}

fn accounts(service: &Service) -> u64 {
    service.run(service.engine.audit()).unwrap().accounts
}

/// One answer, a refusal of the contract's shape; nothing was done, and others are served.
fn assert_refused(service: &Service, bytes: &[u8]) {
    let answers = exchange(service, bytes);
    let what = shown(bytes);
    assert_eq!(answers.len(), 1, "{what}: {answers:?}");
    let status = answers[0].status;
    assert!((400..500).contains(&status), "{what}: {answers:?}");
    answers[0].json(status);
    assert_eq!(answers[0].header("connection"), Some("close"), "{what}: {answers:?}");
    assert_eq!(accounts(service), 0, "{what} had an effect");
}

/// A registration whose head has these lines and which is followed by `rest`.
fn with_head(lines: &str, rest: &str) -> Vec<u8> {
    format!("POST /auth/register HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n{rest}").into_bytes()
}

/// A registration in one chunk.
fn chunked(user: &str) -> String {
    let body = registration(user);
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// Heads that say more than one thing about where the body ends, or nothing that can be understood.
fn heads_with_two_readings() -> Vec<Vec<u8>> {
    let body = registration("outer");
    let length = body.len();
    let mut shapes = Vec::new();
    // Both: as a body of that length, as chunks, and with a request behind either end.
    for (first, second) in [
        ("Content-Length: {}", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: {}"),
        ("content-length:{}", "tRANSFER-eNCODING:chunked"),
        ("Transfer-Encoding: chunked\r\nX: y", "Content-Length: {}"),
        ("Content-Length: {}", "Transfer-Encoding: identity"),
        ("Content-Length: {}", "Transfer-Encoding: xchunked"),
        ("Content-Length: {}", "Transfer-Encoding:"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: identity", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: gzip", "Transfer-Encoding: chunked"),
    ] {
        for (length, rest) in [
            (0, chunked("outer") + &smuggled()),
            (length, body.clone() + &smuggled()),
            (5, format!("0\r\n\r\n{}", smuggled())),
            (5 + smuggled().len(), format!("0\r\n\r\n{}", smuggled())),
        ] {
            shapes.push(with_head(&format!("{first}\r\n{second}").replace("{}", &length.to_string()), &rest));
        }
    }
    // Two lengths.
    for (one, two) in [
        (format!("{length}"), format!("{length}")),
        (format!("{length}"), "0".into()),
        ("0".into(), format!("{length}")),
        (format!("{length}"), format!("{}", length + 1)),
        (format!("{length}"), "x".into()),
    ] {
        let lines = format!("Content-Length: {one}\r\nContent-Length: {two}");
        shapes.push(with_head(&lines, &(body.clone() + &smuggled())));
    }
    // Lengths that are none, or that some read as another one.
    for value in [
        "{}, {}",
        "{},{}",
        "{},0",
        "+{}",
        "-{}",
        "0x{}",
        "{}.0",
        "{}e0",
        "{} {}",
        "{};",
        "{},",
        ",{}",
        "\"{}\"",
        "x",
        "\u{0b}{}",
        "{}\u{0b}",
        "{}\u{0}",
        "\u{664}\u{667}",
        "{}\u{a0}",
        "{}_",
        "1_0",
        "{}L",
        "",
        "18446744073709551616",
        "99999999999999999999999999",
        "0x0",
        "00x",
        "NaN",
        "{}\r{}",
    ] {
        let lines = format!("Content-Length: {}", value.replace("{}", &length.to_string()));
        shapes.push(with_head(&lines, &(body.clone() + &smuggled())));
    }
    // Codings that some skip and some do not.
    for value in [
        "identity",
        "chunked, identity",
        "xchunked",
        "chunkedx",
        "chunk",
        "gzip, chunked",
        "deflate,chunked",
        "gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "\"chunked\"",
        "'chunked'",
        "chunked\u{0b}",
        "\u{0b}chunked",
        "chunked\u{0}",
        "chun ked",
        "chunked identity",
        "trailers",
        "",
        "cow",
        "chunKed\u{212a}",
        "chunked\r\n\tidentity",
        "\r\n chunked",
        "identity, chunked",
        "chunked\rx",
    ] {
        shapes.push(with_head(&format!("Transfer-Encoding: {value}"), &(chunked("outer") + &smuggled())));
    }
    shapes.push(
        format!("POST /auth/register HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{}{}", chunked("outer"), smuggled())
            .into_bytes(),
    );
    shapes
}

/// Lines that are headers for some and not for others.
fn heads_with_crooked_lines() -> Vec<Vec<u8>> {
    let body = registration("outer");
    let length = body.len();
    let mut shapes: Vec<Vec<u8>> = [
        "Content-Length : {}",
        "Content-Length\t: {}",
        "Transfer-Encoding : chunked\r\nContent-Length: {}",
        " Content-Length: {}",
        "\tContent-Length: {}",
        "X: a\r\n Content-Length: {}",
        "X: a\r\n\tTransfer-Encoding: chunked\r\nContent-Length: {}",
        "Content-Length:\r\n {}",
        "Content-Length: {}\r\n 0",
        "Content-Length\u{0}: {}",
        "Content-Length\u{a0}: {}",
        "Content Length: {}",
        "Content-Length {}",
        "Content-Length: {}\r\nno colon",
        "Content-Length: {}\r\n: empty name",
        "Content-Length: {}\r\n\u{7f}: x",
        "Content-Length: {}\r\nx\u{1}y: z",
        "Content-Length: {}\r\n(x): z",
        "Content-Length: {}\r\nx: \u{0}",
        "Content-Length: {}\r\nx: a\rContent-Length: 0",
        "Content-Length: {}\rx: y",
        "Content-Length: {}\r\r\nx: y",
        "\rContent-Length: {}",
        "Content-Length: {}\r\nx: \u{1}\u{2}",
        "Content-Length: {}\r\nx\r: y",
        "Content-Length: {}\r\n\u{e9}: y",
    ]
    .into_iter()
    .map(|lines| with_head(&lines.replace("{}", &length.to_string()), &(body.clone() + &smuggled())))
    .collect();
    // Request lines.
    for line in [
        "POST /auth/register",
        "POST /auth/register HTTP/1.1 x",
        "POST /auth/register  HTTP/1.1",
        "POST  /auth/register HTTP/1.1",
        "POST\t/auth/register\tHTTP/1.1",
        " POST /auth/register HTTP/1.1",
        "POST /auth/register HTTP/1.2",
        "POST /auth/register HTTP/2.0",
        "POST /auth/register HTTP/0.9",
        "POST /auth/register http/1.1",
        "POST /auth/register HTTP/1.1\r",
        "POST /auth/register\rHTTP/1.1",
        "POST /auth/reg ister HTTP/1.1",
        "POST /auth/register\u{0} HTTP/1.1",
        "POST /auth/register\u{7f} HTTP/1.1",
        "P\u{0}ST /auth/register HTTP/1.1",
        "POST(x) /auth/register HTTP/1.1",
        "POST HTTP/1.1",
        "/auth/register HTTP/1.1",
        "\u{feff}POST /auth/register HTTP/1.1",
        "POST auth/register HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        shapes.push(format!("{line}\r\nContent-Length: {length}\r\n\r\n{body}{}", smuggled()).into_bytes());
    }
    // Bare carriage returns for every line end.
    shapes.push(format!("POST /auth/register HTTP/1.1\rContent-Length: {length}\r\r{body}").into_bytes());
    // Bytes that are no text at all.
    for byte in [0x00, 0x80, 0xff, 0x16, 0x7f] {
        shapes.push([vec![byte; 3], with_head(&format!("Content-Length: {length}"), &body)].concat());
    }
    shapes
}

/// Chunked bodies that are broken or that some read differently; the registration in them is whole for a lax reader.
fn broken_chunks() -> Vec<Vec<u8>> {
    let body = registration("outer");
    let size = format!("{:x}", body.len());
    let end = format!("0\r\n\r\n{}", smuggled());
    let mut bodies: Vec<String> = [
        "zz",
        "-{}",
        "+{}",
        "0x{}",
        "{}x",
        "{}.",
        "{},0",
        "",
        ";x",
        "{}\u{0}",
        "{}\u{0b}",
        "FFFFFFFFFFFFFFFFF",
        "10000000000000000{}",
        "{}\r",
        "{} {}",
        "{}\t{}",
        "\u{0660}",
        "g",
        "{}h",
    ]
    .into_iter()
    .map(|line| format!("{}\r\n{body}\r\n{end}", line.replace("{}", &size)))
    .collect();
    bodies.extend([
        // A chunk that is longer or shorter than it says, and line ends that are none.
        format!("{size}\r\n{body}x\r\n{end}"),
        format!("{size}\r\n{body}{end}"),
        format!("{size}\r\n{body}\n{end}"),
        format!("{size}\r\n{body}\r{end}"),
        format!("{size}\r\n{body}\rx{end}"),
        format!("{size}\n{body}\r\n{end}"),
        format!("{size}\r{body}\r\n{end}"),
        format!("{:x}\r\n{body}\r\n{end}", body.len() - 1),
        format!("{:x}\r\n{body}\r\n{end}", body.len() + 1),
        format!("{size};a\nb\r\n{body}\r\n{end}"),
        format!("{size}\r\n{body}\r\n0\n\n{}", smuggled()),
        format!("{size}\r\n{body}\r\n0\r\rx"),
        format!("{size}\r\n{body}\r\n0\r\n\rx"),
        // Never ended.
        format!("{size}\r\n{body}"),
        format!("{size}\r\n{body}\r\n"),
        format!("{size}\r\n{body}\r\n0"),
        format!("{size}\r\n{body}\r\n0\r\n"),
        format!("{size}\r\n{body}\r\n0\r\nX: y\r\n"),
        // Trailers that are none, or too many, or too long.
        format!("{size}\r\n{body}\r\n0\r\nno colon\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\nx\u{0}: y\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\n: y\r\n\r\n"),
        format!("{size}\r\n{body}\r\n0\r\n{}\r\n", "x: y\r\n".repeat(5_000)),
        format!("{size}\r\n{body}\r\n0\r\nx: {}\r\n\r\n", "y".repeat(100_000)),
        // Extensions without end.
        format!("{size};{}\r\n{body}\r\n{end}", "x".repeat(100_000)),
        format!(
            "{}0\r\n\r\n",
            "1;".to_owned()
                + &"x".repeat(1_000)
                + "\r\n \r\n"
                + &("1;".to_owned() + &"x".repeat(1_000) + "\r\n \r\n").repeat(50)
        ),
    ]);
    bodies.iter().map(|body| with_head("Transfer-Encoding: chunked", body)).collect()
}

#[test]
fn a_head_with_two_readings_is_refused_and_nothing_in_it_is_done() {
    let service = service(|_| {});
    let shapes = heads_with_two_readings();
    for shape in &shapes {
        assert_refused(&service, shape);
    }
    println!("{} shapes refused", shapes.len());
}

#[test]
fn a_head_with_crooked_lines_is_refused_and_nothing_in_it_is_done() {
    let service = service(|_| {});
    let shapes = heads_with_crooked_lines();
    for shape in &shapes {
        assert_refused(&service, shape);
    }
    println!("{} shapes refused", shapes.len());
}

#[test]
fn a_broken_chunked_body_is_refused_and_nothing_in_it_is_done() {
    let service = service(|_| {});
    let shapes = broken_chunks();
    for shape in &shapes {
        assert_refused(&service, shape);
    }
    println!("{} shapes refused", shapes.len());
}

/// The same in pieces: what decides must not depend on where a read ends.
#[test]
fn pieces_change_nothing() {
    let service = service(|_| {});
    for shape in heads_with_two_readings().iter().step_by(7) {
        for piece in [1, 17] {
            let mut stream = service.connect();
            stream.set_nodelay(true).unwrap();
            for bytes in shape.chunks(piece) {
                if stream.write_all(bytes).is_err() {
                    break;
                }
            }
            let answer = Answer::read(&mut stream);
            assert!((400..500).contains(&answer.status), "{}: {answer:?}", shown(shape));
        }
    }
    assert_eq!(accounts(&service), 0);
}

/// A connection that was distrusted stays so, and what was answered before stays answered.
#[test]
fn what_comes_before_is_done_and_what_comes_after_is_not() {
    let service = service(|_| {});
    let good = post("/auth/register", &registration("before"));
    let mut stream = service.connect();
    stream.write_all(good.as_bytes()).unwrap();
    Answer::read(&mut stream).json(200);
    let shape = with_head("Transfer-Encoding: chunked\r\nContent-Length: 0", &(chunked("outer") + &smuggled()));
    stream.write_all(&shape).unwrap();
    Answer::read(&mut stream).json(400);
    let _ = stream.write_all(smuggled().as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
    common::service::assert_closed(&mut stream);
    assert_eq!(accounts(&service), 1);
}

/// Unusual, but there is only one way to read it. Each is done once, and what follows is a request of its own.
#[test]
fn what_has_one_reading_is_read_so() {
    let service = service(|_| {});
    let mut users = 0;
    let mut accepted = |before: &str, lines: &str, body: &dyn Fn(&str) -> String| {
        let (one, two) = (format!("one-{users}"), format!("two-{users}"));
        let length = registration(&one).len();
        let lines = lines.replace("{}", &length.to_string());
        let bytes = format!(
            "{before}POST /auth/register HTTP/1.1\r\n{lines}\r\n\r\n{}{}",
            body(&one),
            post("/auth/register", &registration(&two))
        );
        let answers = exchange(&service, bytes.as_bytes());
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200], "{bytes:?}");
        users += 2;
        assert_eq!(accounts(&service), users, "{bytes:?}");
    };
    let plain = |user: &str| registration(user);
    accepted("", "Content-Length: {}", &plain);
    accepted("\r\n\r\n", "Content-Length: {}", &plain);
    accepted("", "Content-Length:{}\t ", &plain);
    accepted("", "Content-Length: 000{}", &plain);
    accepted("", "Content-Length: {}\r\nX-Content-Length: 5\r\nTE: chunked\r\nUpgrade: h2c\r\nTrailer: x", &plain);
    // A line feed alone ends a line (RFC 9112, 2.2).
    accepted("", "Content-Length: {}\nX: y\nX: z", &plain);
    let chunks = |user: &str| {
        let body = registration(user);
        let (first, last) = body.split_at(7);
        format!(
            "7\r\n{first}\r\n{:X};name=\"value\"\r\n{last}\r\n{}\r\nContent-Length: 5\r\n\r\n",
            last.len(),
            "0".repeat(1_000)
        )
    };
    accepted("", "Transfer-Encoding: chunked", &chunks);
    accepted("", "tRANSFER-eNCODING:  CHUNKED\t", &chunks);
}

/// Sends `start` and then `piece` for ever; the server must end it, with an answer.
fn flood(service: &Service, start: &str, piece: &str, statuses: &[u16]) {
    let mut stream = service.connect();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let answered = std::thread::spawn(move || Answer::read(&mut reader).status);
    let began = Instant::now();
    let block = piece.repeat(8_192 / piece.len() + 1);
    let mut sent = stream.write_all(start.as_bytes()).is_ok();
    let mut bytes = 0;
    while sent && !answered.is_finished() {
        assert!(began.elapsed() < PATIENCE, "{bytes} bytes of {piece:?} and no end");
        sent = stream.write_all(block.as_bytes()).is_ok();
        bytes += block.len();
    }
    let status = answered.join().unwrap_or_else(|_| panic!("no answer to {start:?} and {piece:?} for ever"));
    assert!(statuses.contains(&status), "{start:?} and {piece:?} for ever: {status}");
}

#[test]
fn floods_are_ended() {
    let service = service(|_| {});
    let head = "POST /auth/register HTTP/1.1\r\n";
    let coded = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let large = format!("{head}Content-Length: 99999999999999\r\n\r\n");
    let many: String = (0..101).map(|number| format!("X-{number}: 1\r\n")).collect();
    exchange(&service, format!("{head}{many}\r\n").as_bytes())[0].json(431);
    for (start, piece, statuses) in [
        (head, "x: y\r\n", &[431][..]),
        (head, "x", &[431]),
        ("POST /", "x", &[414, 431]),
        ("", "X", &[400, 431]),
        (head, "X: ", &[431]),
        (&large, "x", &[413]),
        (&coded, "0", &[408]),
        (&coded, "1;x", &[400]),
        (&coded, "1\r\nx\r\n", &[408, 413]),
        (&format!("{coded}0\r\n"), "x: y\r\n", &[400]),
        (&format!("{coded}0\r\nx: "), "y", &[400]),
    ] {
        flood(&service, start, piece, statuses);
    }
    assert_eq!(accounts(&service), 0);
}

/// Texts that are no JSON, or that no field of any route takes, and bytes that are no text.
const NO_VALUES: [&[u8]; 40] = [
    b"\"a\0b\"",
    b"\"a\nb\"",
    b"\"a\x1fb\"",
    b"\"\xff\"",
    b"\"\xc0\x80\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xe7\x94\"",
    b"\"\\ud800\"",
    b"\"\\udc00\"",
    b"\"\\udc00\\ud800\"",
    b"\"\\ud800x\"",
    b"\"\\u12\"",
    b"\"\\uzzzz\"",
    b"\"\\x41\"",
    b"\"\\0\"",
    b"\"unfinished",
    b"'single'",
    b"bare",
    b"undefined",
    b"NaN",
    b"-Infinity",
    b"0x10",
    b"1_000",
    b"+1",
    b".5",
    b"1.",
    b"01",
    b"-",
    b"1e",
    b"1e999999999",
    b"-1e400",
    b"99999999999999999999999999999999999999999999999999999999999999999999999999999999",
    b"[",
    b"{\"a\":}",
    b"[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]",
    b"{\"$gt\":\"\"}",
    b"[1,]",
    b"/* */ 1",
    b"",
];

#[test]
fn what_is_no_value_is_a_530_in_every_field_of_every_route() {
    let service = service(|_| {});
    let client = Client::new(service.address.port());
    let anna = client.new_user("anna");
    client.create_store(&anna, "store").ok();
    client.add_book(&anna, "store", book("b", 1), 10).ok();
    let before = service.run(service.engine.audit()).unwrap().state_hash;
    let mut sent = 0;
    for route in routes(&client) {
        for field in &route.fields {
            for value in NO_VALUES {
                let others = route.fields.iter().filter(|name| *name != field);
                let mut body = b"{".to_vec();
                for name in others {
                    let good = match name.as_str() {
                        "books" => json!([{"id": "b", "count": 1}]),
                        "book_info" => book("new", 1),
                        "add_value" | "add_stock_level" | "stock_level" | "price" | "page" | "page_size" => json!(1),
                        "search_in_store" => json!(false),
                        "password" | "oldPassword" => json!(anna.password),
                        "user_id" => json!("anna"),
                        "book_id" => json!("b"),
                        _ => json!("store"),
                    };
                    body.extend(format!("\"{name}\":{good},").bytes());
                }
                body.extend([format!("\"{field}\":").as_bytes(), value, b"}"].concat());
                let answer = client.post_bytes(&route.path, &body);
                assert_eq!(answer.status, 530, "{} {}: {}", route.path, shown(&body), answer.body);
                sent += 1;
            }
        }
    }
    println!("{sent} bodies refused");
    assert!(service.run(service.engine.audit()).unwrap().state_hash == before, "one of them had an effect");
}

/// An id is a name and nothing else: it is never a path, a pattern or a piece of another language.
#[test]
fn ids_that_mean_something_elsewhere_are_ids() {
    let parent = tempfile::TempDir::new().unwrap();
    let mut config = Config::directory(parent.path().join("data"));
    (config.password_params.memory_kib, config.password_params.iterations) = (8, 1);
    let service = Service::start_with(config, |_| {});
    let client = Client::new(service.address.port());
    let names = [
        "..",
        "../../../../tmp/x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "C:\\x",
        "%2e%2e%2f",
        "x' OR '1'='1",
        "$(id)",
        "`id`",
        "{{7*7}}",
        "<script>",
        "*",
        "?",
        "~",
        "-rf",
        "null",
        "true",
        "0",
        "\u{202e}x",
        "\u{feff}",
        "e\u{301}",
        "é",
    ];
    for (place, name) in names.into_iter().enumerate() {
        let user = client.new_user(name);
        client.create_store(&user, name).ok();
        client.add_book(&user, name, book(name, 1), 5).ok();
        let order = client.order(&user, name, &[(name, 1)]);
        assert_eq!(client.stock(name, name), 4);
        client.cancel(&user, &order).ok();
        client.cancel(&user, name).refused(518, name);
        client.register(&User::new(name)).refused(512, name);
        assert_eq!(accounts(&service), place as u64 + 1, "no two of them are one");
    }
    // 256 bytes and not one more.
    client.register(&User::new(&"x".repeat(256))).ok();
    for long in [257, 4_096, 500_000] {
        client.register(&User::new(&"x".repeat(long))).invalid("user_id");
    }
    drop(service);
    let mut files: Vec<_> = std::fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.extend(std::fs::read_dir(parent.path().join("data")).unwrap().map(|entry| entry.unwrap().file_name()));
    for file in files {
        let name = file.to_str().unwrap();
        let known = ["data", "journal", "lock", "token.key", "orders.redb", "documents.redb"].contains(&name);
        assert!(known || name.ends_with(".snap"), "{name} was made");
    }
}
