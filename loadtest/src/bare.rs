//! The ceiling: hyper and JSON with no bookstore behind them.
//!
//! It reads the whole body, parses a new_order or a payment into a typed struct that borrows from it, as the service does,
//! and answers what the contract answers, as long. It has no timeouts, which cost the service something. It keeps nothing, so its stock and balances never move:
//! an audit of it must fail.

use std::borrow::Cow;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::Failure;

/// Flags of `bare`.
#[derive(Args)]
pub(crate) struct BareArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// Serves until the process is ended.
pub(crate) async fn serve(args: &BareArgs) -> Result<(), Failure> {
    let listener = TcpListener::bind(args.listen).await?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    out.flush()?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file handles, or a client that went away: the next accept may do better.
                eprintln!("loadtest: accept: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        // Without it the answer would wait for the client's acknowledgement; a refusal means the peer has gone.
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            // An error here is the client's: it went away, or sent no HTTP.
            let _ = http1::Builder::new()
                .header_read_timeout(None)
                .pipeline_flush(false)
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service_fn(handle))
                .await;
        });
    }
}

/// A string, borrowed unless it holds escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The body of new_order.
#[derive(Deserialize)]
struct NewOrder<'a> {
    #[serde(borrow)]
    user_id: Text<'a>,
    store_id: Text<'a>,
    books: Vec<Line<'a>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    count: i64,
}

/// The body of payment.
#[derive(Deserialize)]
struct Payment<'a> {
    #[serde(borrow)]
    user_id: Text<'a>,
    order_id: Text<'a>,
    password: Text<'a>,
}

/// What has no fields of its own answers this.
const OK: &str = r#"{"code":200,"message":"ok"}"#;

async fn handle(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (status, answer) = answer(head.uri.path(), &body);
    let mut response = Response::new(Full::new(answer));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn answer(path: &str, body: &[u8]) -> (StatusCode, Bytes) {
    let fixed = |text: &'static str| (StatusCode::OK, Bytes::from_static(text.as_bytes()));
    match path {
        "/buyer/new_order" => new_order(body),
        "/auth/login" => fixed(r#"{"code":200,"message":"ok","token":"bare"}"#),
        "/buyer/check_stock_level" | "/seller/get_stock_level" => {
            fixed(r#"{"code":200,"message":"ok","stock_level":0}"#)
        }
        "/buyer/query_balance" => fixed(r#"{"code":200,"message":"ok","balance":0}"#),
        "/buyer/payment" => payment(body),
        "/auth/register" | "/seller/create_store" | "/seller/add_book" | "/buyer/add_funds" => fixed(OK),
        _ => (StatusCode::NOT_FOUND, Bytes::from_static(br#"{"code":404,"message":"not found"}"#)),
    }
}

fn invalid() -> StatusCode {
    StatusCode::from_u16(530).expect("530 is a number a status may have")
}

fn payment(body: &[u8]) -> (StatusCode, Bytes) {
    let sound = serde_json::from_slice::<Payment<'_>>(body).is_ok_and(|payment| {
        !payment.user_id.0.is_empty() && !payment.order_id.0.is_empty() && !payment.password.0.is_empty()
    });
    match sound {
        true => (StatusCode::OK, Bytes::from_static(OK.as_bytes())),
        false => (invalid(), Bytes::from_static(br#"{"code":530,"message":"invalid parameter"}"#)),
    }
}

fn new_order(body: &[u8]) -> (StatusCode, Bytes) {
    static ORDERS: AtomicU64 = AtomicU64::new(0);
    let sound = serde_json::from_slice::<NewOrder<'_>>(body).is_ok_and(|order| {
        !order.user_id.0.is_empty()
            && !order.store_id.0.is_empty()
            && !order.books.is_empty()
            && order.books.iter().all(|line| !line.id.0.is_empty() && line.count > 0)
    });
    if !sound {
        return (invalid(), Bytes::from_static(br#"{"code":530,"message":"invalid parameter","order_id":""}"#));
    }
    let number = ORDERS.fetch_add(1, Ordering::Relaxed);
    let (high, low) = (number >> 48, number & 0xffff_ffff_ffff);
    let text = format!(r#"{{"code":200,"message":"ok","order_id":"00000000-0000-7000-{high:04x}-{low:012x}"}}"#);
    (StatusCode::OK, Bytes::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_ids_have_the_shape_of_a_uuid() {
        let body = br#"{"user_id":"u","store_id":"s","books":[{"id":"b","count":2}]}"#;
        let (status, answer) = answer("/buyer/new_order", body);
        let value: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let id = value["order_id"].as_str().unwrap();
        assert_eq!((status.as_u16(), id.len()), (200, 36));
        let hyphens: Vec<_> = id.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!(hyphens, [8, 13, 18, 23]);
        // As long as the service's answers, to the byte.
        let paid = super::answer("/buyer/payment", br#"{"user_id":"u","order_id":"o","password":"p"}"#).1;
        assert_eq!((answer.len(), paid.len()), (77, 27));
    }

    #[test]
    fn bodies_are_looked_at() {
        for body in ["", "[]", r#"{"user_id":"u","store_id":"s","books":[{"id":"b","count":0}]}"#] {
            assert_eq!(answer("/buyer/new_order", body.as_bytes()).0.as_u16(), 530, "{body}");
        }
        let payment = |body: &str| answer("/buyer/payment", body.as_bytes()).0.as_u16();
        assert_eq!(payment(r#"{"user_id":"u","order_id":"o","password":"p"}"#), 200);
        assert_eq!(payment(r#"{"user_id":"u","order_id":"o"}"#), 530);
        assert_eq!(answer("/nowhere", b"").0.as_u16(), 404);
    }
}
