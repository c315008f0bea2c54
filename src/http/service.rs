//! One request, from its head to its answer.
//!
//! The order of judgement: transport limits, 404, 405, the body and every field, then the engine.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hyper::body::{Body, Incoming};
use hyper::header::{EXPECT, HeaderName};
use hyper::{Request, Response};

use super::answer::{AnswerBody, Failure, Reply};
use super::body::{self, BodyError};
use super::connection::Conn;
use super::routes::{self, BodyLimit, Call, ROUTES, Route};
use super::server::Phase;

static TOKEN: HeaderName = HeaderName::from_static("token");
/// What `: ` and the end of the line add to a header.
const HEADER_LINE_BYTES: usize = 4;

/// Answers a request and counts it.
pub(super) async fn handle(
    conn: Arc<Conn>,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let began = Instant::now();
    let found = routes::find(request.uri().path());
    let mut reply = judge(&conn, &mut request, found.map(|(_, route)| route)).await;
    if reply.close {
        conn.linger.store(true, Ordering::Relaxed);
    }
    // A client that keeps the connection should learn that there is no next request on it.
    reply.close |= conn.shared.gate.phase() != Phase::Serving;
    let index = found.map_or(ROUTES.len(), |(index, _)| index);
    conn.shared.metrics.record(index, reply.code, began.elapsed());
    Ok(reply.into_response())
}

async fn judge(conn: &Conn, request: &mut Request<Incoming>, route: Option<&'static Route>) -> Reply {
    let config = &conn.shared.config;
    let (failure, limit) = route.map_or((Failure::Nothing, BodyLimit::Standard), |route| (route.failure, route.limit));
    let body_max = limit.bytes_max(config);
    if header_bytes(request) > config.header_bytes_max {
        return refuse(conn, request, Reply::transport(431, "headers too large", failure)).await;
    }
    if request.body().size_hint().lower() > body_max as u64 {
        return refuse(conn, request, too_large(body_max, failure)).await;
    }
    let Some(route) = route else {
        return refuse(conn, request, Reply::transport(404, "not found", failure)).await;
    };
    if !route.verb.takes(request.method()) {
        return refuse(conn, request, Reply::wrong_method(route.verb.allow(), failure)).await;
    }
    let read = body::read(request.body_mut(), body_max, &conn.shared.budget, config.body_timeout).await;
    let (body, _held) = match read {
        Ok(read) => read,
        Err(error) => return unread(conn, request, error, body_max, failure).await,
    };
    let token = if route.wants_token() { token(request) } else { "" };
    route.run(Call { shared: &conn.shared, body: &body, token, peer: conn.peer }).await
}

/// The `token` header; one that is no text belongs to nobody, as an empty one.
fn token(request: &Request<Incoming>) -> &str {
    request.headers().get(&TOKEN).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Bytes of the target and the headers, as they came.
fn header_bytes(request: &Request<Incoming>) -> usize {
    let uri = request.uri();
    let target = uri.path().len() + uri.query().map_or(0, str::len);
    let headers = request.headers().iter();
    target + headers.map(|(name, value)| name.as_str().len() + value.len() + HEADER_LINE_BYTES).sum::<usize>()
}

fn too_large(bytes_max: usize, failure: Failure) -> Reply {
    Reply::transport(413, &format!("body too large, at most {bytes_max} bytes"), failure)
}

/// Answers a request whose body was not read to its end.
async fn unread(
    conn: &Conn,
    request: &mut Request<Incoming>,
    error: BodyError,
    body_max: usize,
    failure: Failure,
) -> Reply {
    match error {
        BodyError::TooLarge => refuse(conn, request, too_large(body_max, failure)).await,
        BodyError::OverBudget => {
            let reply = Reply::transport(503, "overloaded: bodies in flight; nothing was done", failure);
            refuse(conn, request, reply).await
        }
        BodyError::Slow => closing(Reply::transport(408, "request timeout: the body took too long", failure)),
        BodyError::Broken => closing(Reply::transport(400, "malformed request body", failure)),
    }
}

/// Refuses a request before its body: the body is thrown away first, else the client, still sending, would meet
/// a reset in place of the answer. A client that waits for `100 Continue` sends none.
async fn refuse(conn: &Conn, request: &mut Request<Incoming>, reply: Reply) -> Reply {
    let waits = request.headers().contains_key(EXPECT) && !request.body().is_end_stream();
    if !waits && body::discard(request.body_mut(), conn.shared.config.body_timeout).await {
        return reply;
    }
    closing(reply)
}

fn closing(mut reply: Reply) -> Reply {
    reply.close = true;
    reply
}
