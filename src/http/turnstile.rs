//! Turns requests away before hyper sees them.
//!
//! In an overload most requests are refused, and what a refusal costs decides what is left for the others. Of a refusal
//! by the router two thirds were hyper's and the runtime's. Here a request is looked at as it was read: if it came alone
//! and whole, is a plain `POST` of ours, and there is no room, ready-made bytes, with its id, go back at once and nothing of it
//! is kept.
//! Whatever is out of the ordinary goes on to hyper and the router, which refuse as well.
//!
//! It rests on this: when hyper reads and the next byte begins a request, everything hyper was given before is answered,
//! and written. hyper reads a next head only then, as long as every answer that is given before the end of its request's
//! body either reads the rest of it or ends the connection, which `service.rs` sees to.
//!
//! The answer has no `date`: a 5xx need not have one (RFC 9110, 6.6.1).

use std::sync::OnceLock;
use std::time::Instant;

use super::answer::{Failure, SHED_STATUS, shed_raw};
use super::connection::Conn;
use super::{request_id, told};
use crate::trace::Request;

/// More headers are nothing ordinary.
const HEADERS_MAX: usize = 32;

/// The answer for a request that is refused: `bytes`, the whole of what was read, with the connection between two
/// requests. It is put into `out`, which is empty. `None`: the request is served, or refused, above.
pub(super) fn turn_away(conn: &Conn, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let shared = &conn.shared;
    if !shared.shed.is_limiting() || conn.is_distrusted() || shared.is_ending() {
        return None;
    }
    let began = Instant::now();
    let plain = plain(bytes)?;
    let config = &shared.config;
    let (index, route) = shared.route(plain.path, conn.door())?;
    let is_ordinary = route.is_shed()
        && plain.head_bytes <= config.header_bytes_max
        && bytes.len() - plain.head_bytes <= route.limit.bytes_max(config);
    if !is_ordinary {
        return None;
    }
    if shared.shed.admits(&shared.engine, began) {
        conn.admit();
        return None;
    }
    let took = began.elapsed();
    shared.metrics.record(index, 503, took);
    let request = Request::begin(plain.id, route.path);
    request.clone().run(|| told::not_served(route.path, &"too much to do"));
    told::answered(&request, index, 503, took);
    conn.await_head();
    put_answer(out, route.failure, &request);
    Some(())
}

fn put_answer(out: &mut Vec<u8>, failure: Failure, request: &Request) {
    out.extend_from_slice(SHED_STATUS.as_bytes());
    request_id::put_line(out, request);
    out.extend_from_slice(rest(failure));
}

/// The answer behind its id, ready made.
fn rest(failure: Failure) -> &'static [u8] {
    static ANSWERS: [OnceLock<Vec<u8>>; Failure::COUNT] = [const { OnceLock::new() }; Failure::COUNT];
    ANSWERS[failure as usize].get_or_init(|| shed_raw(failure))
}

/// A `POST` whose body ends where its length says, over a connection that is kept.
struct Plain<'a> {
    path: &'a str,
    head_bytes: usize,
    /// The id that it brought.
    id: Option<&'a str>,
}

fn plain(bytes: &[u8]) -> Option<Plain<'_>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = request.parse(bytes).ok()? else { return None };
    if request.method != Some("POST") || request.version != Some(1) {
        return None;
    }
    let (mut length, mut id) = (None, None);
    for header in &*request.headers {
        match header.name {
            name if name.eq_ignore_ascii_case("content-length") => {
                // Digits only: hyper takes nothing else.
                let is_number = !header.value.is_empty() && header.value.iter().all(u8::is_ascii_digit);
                let value = std::str::from_utf8(header.value).ok().filter(|_| is_number && length.is_none())?;
                length = Some(value.parse::<usize>().ok()?);
            }
            name if name.eq_ignore_ascii_case("connection") => {
                header.value.eq_ignore_ascii_case(b"keep-alive").then_some(())?;
            }
            name if name.eq_ignore_ascii_case(request_id::NAME) => id = id.or(Some(header.value)),
            name if ["transfer-encoding", "expect", "upgrade"].iter().any(|odd| name.eq_ignore_ascii_case(odd)) => {
                return None;
            }
            _ => {}
        }
    }
    let is_whole = length.unwrap_or(0) == bytes.len() - head_bytes;
    is_whole.then_some(Plain { path: request.path?, head_bytes, id: id.and_then(request_id::sound) })
}

#[cfg(test)]
mod tests {
    use super::super::routes;
    use super::*;

    #[test]
    fn only_a_plain_request_is_turned_away() {
        let head = "POST /buyer/payment HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n";
        let path = |text: &str| plain(text.as_bytes()).map(|plain| (plain.path.to_owned(), plain.head_bytes));
        let expected = Some(("/buyer/payment".to_owned(), head.len()));
        assert_eq!(path(&format!("{head}{{}}")), expected);
        let kept = format!("{head}{{}}").replace("Host: x", "connection: Keep-Alive");
        assert!(path(&kept).is_some());
        let bare = "POST /buyer/auto_cancel_expired_orders HTTP/1.1\r\n\r\n";
        assert_eq!(path(bare), Some(("/buyer/auto_cancel_expired_orders".to_owned(), bare.len())));
        for (what, odd) in [
            ("cut off", head.to_owned() + "{"),
            ("two", format!("{head}{{}}").repeat(2)),
            ("half a head", head[..20].to_owned()),
            ("to be closed", kept.replace("Keep-Alive", "close")),
            ("a list", kept.replace("Keep-Alive", "keep-alive, close")),
            ("chunked", kept.replace("connection: Keep-Alive", "Transfer-Encoding: chunked")),
            ("waits", kept.replace("connection: Keep-Alive", "Expect: 100-continue")),
            ("upgrades", kept.replace("connection: Keep-Alive", "Upgrade: h2c")),
            ("two lengths", kept.replace("connection: Keep-Alive", "Content-Length: 2")),
            ("a sign", kept.replace("Content-Length: 2", "Content-Length: +2")),
            ("another method", kept.replace("POST", "PUT")),
            ("HTTP/1.0", kept.replace("HTTP/1.1", "HTTP/1.0")),
            ("no HTTP", "\0\0\0\0\r\n\r\n".to_owned()),
            ("many headers", kept.replace("connection: Keep-Alive", &"a: b\r\n".repeat(40))),
        ] {
            assert_eq!(path(&odd), None, "{what}: {odd:?}");
        }
    }

    #[test]
    fn the_answer_is_the_one_of_the_router() {
        for route in routes::ROUTES {
            let mut raw = Vec::new();
            put_answer(&mut raw, route.failure, &Request::begin(Some("a-1"), route.path));
            let raw = String::from_utf8(raw).unwrap();
            let (head, body) = raw.split_once("\r\n\r\n").unwrap();
            assert_eq!(body.as_bytes(), super::super::answer::Reply::shed(route.failure).json_body());
            assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
            for line in [
                "x-request-id: a-1",
                "content-type: application/json",
                "retry-after: 1",
                &format!("content-length: {}", body.len()),
            ] {
                assert!(head.lines().any(|found| found == line), "{line}: {head}");
            }
            assert!(!head.contains("connection"), "{head}");
        }
    }
}
