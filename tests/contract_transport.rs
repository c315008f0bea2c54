//! What lies between a client and the routes: requests split, pipelined, too large, too slow or not
//! HTTP at all. None of it may cost more than its own connection.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::io::ErrorKind;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::shop::{CHEAP, STOCK, STORE};
use common::{Answer, Conn, Server, Shop, User, request};
use serde_json::json;

const ROUTES: [&str; 32] = [
    "/auth/register",
    "/auth/unregister",
    "/auth/login",
    "/auth/password",
    "/auth/logout",
    "/seller/create_store",
    "/seller/add_book",
    "/seller/add_stock_level",
    "/seller/set_price",
    "/seller/close_store",
    "/seller/delist_book",
    "/seller/relist_book",
    "/seller/ship",
    "/seller/query_one_store_orders",
    "/seller/query_all_store_orders",
    "/seller/get_stock_level",
    "/buyer/new_order",
    "/buyer/payment",
    "/buyer/pay_to_platform",
    "/buyer/confirm_receipt_and_pay_toseller",
    "/buyer/add_funds",
    "/buyer/query_order_status",
    "/buyer/query_buyer_all_orders",
    "/buyer/query_order",
    "/buyer/extend_receipt",
    "/seller/query_order",
    "/buyer/cancel_order",
    "/buyer/refund_order",
    "/buyer/auto_cancel_expired_orders",
    "/buyer/check_stock_level",
    "/buyer/check_order_count",
    "/buyer/query_balance",
];

/// A registration, as the smallest request with an effect.
fn registration(user: &str) -> Vec<u8> {
    let body = json!({"user_id": user, "password": "p"}).to_string();
    request("POST", "/auth/register", &[], body.as_bytes())
}

#[track_caller]
fn answer(path: &str, conn: &mut Conn) -> Answer {
    Answer::read(path, &conn.response().unwrap()).unwrap_or_else(|why| panic!("{why}"))
}

/// The server still serves strangers.
#[track_caller]
fn is_alive(server: &Server) {
    server.client().check_order_count("anybody").ok();
}

#[test]
fn an_unknown_path_is_404_before_the_body_is_looked_at() {
    let server = Server::start(&[]);
    let client = server.client();
    for path in ["/", "/nothing", "/buyer", "/buyer/nothing", "/auth/registers", "/AUTH/REGISTER"] {
        for method in ["POST", "GET", "DELETE"] {
            let response = client.send(&request(method, path, &[], b"not json")).unwrap();
            Answer::read(path, &response).unwrap().is(404);
        }
    }
}

#[test]
fn a_wrong_method_is_405_with_allow_before_the_body_is_looked_at() {
    let server = Server::start(&[]);
    let client = server.client();
    for path in ROUTES {
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let response = client.send(&request(method, path, &[], b"not json")).unwrap();
            let answer = Answer::read(path, &response).unwrap();
            answer.is(405);
            assert_eq!(answer.header("allow"), Some("POST"), "{method} {path}");
        }
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let response = client.send(&request("POST", path, &[], b"")).unwrap();
        let answer = Answer::read(path, &response).unwrap();
        answer.is(405);
        assert!(answer.header("allow").unwrap().contains("GET"), "{path}");
    }
}

#[test]
fn head_is_answered_without_a_body() {
    let server = Server::start(&[]);
    let mut conn = server.connect();
    for path in ["/buyer/payment", "/nothing", "/healthz"] {
        conn.send(&request("HEAD", path, &[], b"")).unwrap();
        let response = conn.head_response().unwrap();
        assert!(response.status < 500, "{path} {}", response.status);
    }
    // Had one of them sent a body, it would stand before this answer.
    conn.send(&registration("anna")).unwrap();
    answer("/auth/register", &mut conn).ok();
}

#[test]
fn the_content_type_of_a_request_is_not_looked_at() {
    let server = Server::start(&[]);
    let client = server.client();
    let types = ["text/plain", "application/x-www-form-urlencoded", "nonsense", "application/json; charset=gbk"];
    for (i, content_type) in types.into_iter().enumerate() {
        let body = json!({"user_id": format!("user-{i}"), "password": "p"}).to_string();
        let bytes = request("POST", "/auth/register", &[("Content-Type", content_type)], body.as_bytes());
        Answer::read("/auth/register", &client.send(&bytes).unwrap()).unwrap().ok();
    }
}

#[test]
fn auto_cancel_comes_without_body_length_and_content_type() {
    let server = Server::start(&[]);
    let path = "/buyer/auto_cancel_expired_orders";
    let mut conn = server.connect();
    for head in ["", "content-length: 0\r\n", "transfer-encoding: chunked\r\n"] {
        let end = if head.starts_with("transfer") { "0\r\n\r\n" } else { "" };
        conn.send(format!("POST {path} HTTP/1.1\r\nhost: b\r\n{head}\r\n{end}").as_bytes()).unwrap();
        answer(path, &mut conn).ok();
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let shop = Shop::open(&[]);
    let mut conn = shop.server.connect();
    let mut bytes = Vec::new();
    for i in 0..200 {
        // Slow and quick ones in turn: a write that waits for the disk, a read that does not.
        bytes.extend(registration(&format!("user-{i}")));
        let body = json!({"store_id": STORE, "book_id": format!("book-{i}")}).to_string();
        bytes.extend(request("POST", "/seller/get_stock_level", &[], body.as_bytes()));
    }
    conn.send(&bytes).unwrap();
    for i in 0..200 {
        answer("/auth/register", &mut conn).ok();
        answer("/seller/get_stock_level", &mut conn).refused(515, &format!("book-{i}"));
    }
}

#[test]
fn a_request_split_at_every_few_bytes_is_whole_again() {
    let server = Server::start(&[]);
    for size in [1, 7, 64] {
        let mut conn = server.connect();
        for part in registration(&format!("用户-{size}")).chunks(size) {
            conn.send(part).unwrap();
            sleep(Duration::from_micros(300));
        }
        answer("/auth/register", &mut conn).ok();
        // The end of one request and the start of the next in one packet.
        let mut two = registration(&format!("second-{size}"));
        two.extend(registration(&format!("third-{size}")));
        let (first, second) = two.split_at(two.len() - 20);
        conn.send(first).unwrap();
        answer("/auth/register", &mut conn).ok();
        conn.send(second).unwrap();
        answer("/auth/register", &mut conn).ok();
    }
}

#[test]
fn one_connection_per_request_and_one_kept_alive_serve_the_same() {
    let server = Server::start(&[]);
    let single = server.client().one_connection_per_request();
    let kept = server.client();
    for i in 0..200 {
        let user = User::new(&format!("user-{i}"));
        single.register(&user).ok();
        kept.register(&user).refused(512, &user.id);
    }
    let mut conn = server.connect();
    let body = br#"{"user_id": "last", "password": "p"}"#;
    conn.send(&request("POST", "/auth/register", &[("Connection", "close")], body)).unwrap();
    answer("/auth/register", &mut conn).ok();
    assert!(conn.is_closed());
}

#[test]
fn an_http_1_0_client_is_answered_and_let_go() {
    let server = Server::start(&[]);
    let mut conn = server.connect();
    let body = r#"{"user_id": "old", "password": "p"}"#;
    let head = format!("POST /auth/register HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
    conn.send(format!("{head}{body}").as_bytes()).unwrap();
    answer("/auth/register", &mut conn).ok();
    assert!(conn.is_closed());
}

#[test]
fn a_chunked_body_is_read() {
    let server = Server::start(&[]);
    let mut conn = server.connect();
    let head = "POST /auth/register HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n";
    conn.send(head.as_bytes()).unwrap();
    for part in [r#"{"user_id": "ch"#, r#"unked", "pass"#, r#"word": "p"}"#] {
        conn.send(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).unwrap();
        sleep(Duration::from_millis(5));
    }
    conn.send(b"0\r\n\r\n").unwrap();
    answer("/auth/register", &mut conn).ok();
    conn.send(&registration("chunked")).unwrap();
    answer("/auth/register", &mut conn).refused(512, "chunked");
}

#[test]
fn expect_100_continue_is_met() {
    let server = Server::start(&[]);
    let mut conn = server.connect();
    let whole = request("POST", "/auth/register", &[("Expect", "100-continue")], br#"{"user_id":"a","password":"p"}"#);
    let (head, body) = whole.split_at(whole.len() - 30);
    conn.send(head).unwrap();
    assert_eq!(conn.interim().unwrap().status, 100);
    conn.send(body).unwrap();
    answer("/auth/register", &mut conn).ok();
}

/// A registration whose body has exactly this many bytes.
fn padded(user: &str, length: usize) -> Vec<u8> {
    let mut body = json!({"user_id": user, "password": "p"}).to_string().into_bytes();
    body.resize(length, b' ');
    body
}

#[test]
fn a_body_too_large_is_413_and_the_client_sees_the_answer() {
    let server = Server::start(&[]);
    let mib = 1024 * 1024;
    for (length, status) in [(mib, 200), (mib + 1, 413), (4 * mib, 413)] {
        let path = "/auth/register";
        let mut conn = server.connect();
        conn.send(&request("POST", path, &[], &padded(&format!("user-{length}"), length))).unwrap();
        let response = conn.response().unwrap();
        Answer::read(path, &response).unwrap().is(status);
        if !response.closes() {
            conn.send(&registration(&format!("after-{length}"))).unwrap();
            answer(path, &mut conn).ok();
        }
    }
    // On a route with failure values they go with a 413, too; `Answer` looks for them.
    server.client().post_bytes("/buyer/new_order", &vec![b' '; 2 * mib]).is(413);
    let huge = vec![b' '; 16 * mib + 1];
    server.client().post_bytes("/seller/add_book", &huge[1..]).is(530);
    server.client().post_bytes("/seller/add_book", &huge).is(413);
    is_alive(&server);
}

#[test]
fn a_chunked_body_too_large_is_413() {
    let server = Server::start(&["--body-limit", "1000"]);
    let mut conn = server.connect();
    let head = "POST /auth/register HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n";
    conn.send(head.as_bytes()).unwrap();
    for _ in 0..20 {
        conn.send(format!("64\r\n{}\r\n", " ".repeat(100)).as_bytes()).unwrap();
    }
    conn.send(b"0\r\n\r\n").unwrap();
    answer("/auth/register", &mut conn).is(413);
}

#[test]
fn the_body_limits_are_flags() {
    let server = Server::start(&["--body-limit", "1000", "--book-body-limit", "2000"]);
    let client = server.client();
    client.post_bytes("/auth/register", &padded("a", 1_000)).ok();
    server.client().post_bytes("/auth/register", &padded("b", 1_001)).is(413);
    server.client().post_bytes("/seller/add_book", &[b' '; 2_000]).is(530);
    server.client().post_bytes("/seller/add_book", &[b' '; 2_001]).is(413);
}

#[test]
fn too_many_and_too_large_headers_are_431() {
    let server = Server::start(&[]);
    let mut conn = server.connect();
    let many: String = (0..500).map(|i| format!("x-{i}: {i}\r\n")).collect();
    conn.send(format!("GET /healthz HTTP/1.1\r\nhost: b\r\n{many}\r\n").as_bytes()).unwrap();
    answer("", &mut conn).is(431);

    // Here the server may let go while we still send; then the answer can be lost on the way.
    let mut conn = server.connect();
    let large = "x".repeat(4 * 1024 * 1024);
    let sent = conn.send(format!("GET /healthz HTTP/1.1\r\nhost: b\r\nx: {large}\r\n\r\n").as_bytes());
    match conn.response() {
        Ok(response) => {
            Answer::read("", &response).unwrap().is(431);
        }
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{sent:?}, {error}")
        }
    }
    is_alive(&server);
}

#[test]
fn what_is_not_http_is_answered_400_and_let_go() {
    let server = Server::start(&[]);
    for garbage in [
        "this is not http\r\n\r\n",
        "GET\r\n\r\n",
        "POST /auth/register HTTP/9.9\r\n\r\n",
        "POST /auth/register HTTP/1.1\r\nhost: b\r\ncontent-length: x\r\n\r\n",
        "POST /auth/register HTTP/1.1\r\nno colon\r\n\r\n",
    ] {
        let mut conn = server.connect();
        conn.send(garbage.as_bytes()).unwrap();
        let response = conn.response().unwrap_or_else(|error| panic!("{garbage:?}: {error}"));
        assert!((400..=505).contains(&response.status), "{garbage:?}: {}", response.status);
        assert!(conn.is_closed(), "{garbage:?}");
    }
    is_alive(&server);
}

#[test]
fn slow_headers_end_in_408_or_a_closed_connection() {
    let server = Server::start(&["--header-timeout", "1s"]);
    for start in ["", "POST /auth/register HTTP/1.1\r\nhost: b\r\n"] {
        let mut conn = server.connect();
        conn.send(start.as_bytes()).unwrap();
        match conn.response() {
            Ok(response) => assert_eq!(response.status, 408),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
                "not closed within the time to read: {error}"
            ),
        }
    }
    // Trickling does not make the time longer.
    let mut conn = server.connect();
    let begun = Instant::now();
    while conn.send(b"x").is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "a trickling client is never let go");
        sleep(Duration::from_millis(50));
    }
    is_alive(&server);
}

#[test]
fn a_slow_body_is_408() {
    let server = Server::start(&["--body-timeout", "1s"]);
    let path = "/buyer/new_order";
    let mut conn = server.connect();
    let bytes = request("POST", path, &[], &[b' '; 100]);
    conn.send(&bytes[..bytes.len() - 50]).unwrap();
    answer(path, &mut conn).is(408);
    is_alive(&server);
}

#[test]
fn a_client_that_goes_away_in_mid_request_harms_nothing() {
    let server = Server::start(&[]);
    let bytes = registration("never");
    for end in [1, 20, bytes.len() - 1] {
        let mut conn = server.connect();
        conn.send(&bytes[..end]).unwrap();
        drop(conn);
        let mut conn = server.connect();
        conn.send(&bytes[..end]).unwrap();
        conn.finish_sending().unwrap();
    }
    server.client().register(&User::new("never")).ok();
}

#[test]
fn a_client_that_ends_its_side_after_the_request_is_answered() {
    let server = Server::start(&[]);
    let mut conn = server.connect();
    conn.send(&registration("half")).unwrap();
    conn.finish_sending().unwrap();
    answer("/auth/register", &mut conn).ok();
}

#[test]
fn in_compat_mode_the_token_is_off_but_ownership_and_logout_are_judged() {
    let shop = Shop::open(&["--mode", "compat"]);
    let client = &shop.client;
    for token in ["", "nonsense"] {
        let (seller, buyer) = (shop.seller.with_token(token), shop.buyer.with_token(token));
        client.create_store(&seller, &format!("new {token}")).ok();
        client.add_book(&seller, STORE, common::book(&format!("new {token}"), 1), 1).ok();
        client.add_stock_level(&seller, STORE, CHEAP, 1).ok();
        let order = client.order(&buyer, STORE, &[(CHEAP, 1)]);
        client.payment(&buyer, &order).ok();
        client.add_book(&buyer, STORE, common::book("other", 1), 1).unauthorised();
        client.add_stock_level(&buyer, STORE, CHEAP, 1).unauthorised();
        client.ship(&buyer, STORE, &order).unauthorised();
        client.ship(&seller, STORE, &order).ok();
        client.logout(&seller).unauthorised();
        client.create_store(&seller.with_id("nobody"), "x").refused(511, "nobody");
        client.payment(&buyer.with_password("wrong"), &order).unauthorised();
    }
    let body = json!({"user_id": "buyer", "store_id": STORE, "books": [{"id": CHEAP, "count": 1}]});
    client.post("/buyer/new_order", body).ok();
    client.post("/auth/logout", json!({"user_id": "seller"})).unauthorised();
    client.logout(&shop.seller).ok();
    client.logout(&shop.seller).unauthorised();
    assert_eq!(shop.stock(CHEAP), STOCK - 1);
}
