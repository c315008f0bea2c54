//! One request, from its head to its answer.
//!
//! The order of judgement: transport limits, 404, 405, the body and every field, then the engine.

use std::net::IpAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Body;
use hyper::header::{EXPECT, HeaderName, TRANSFER_ENCODING};
use hyper::http::request::Parts;

use super::answer::{Failure, Reply};
use super::body::{self, BodyError};
use super::call::{Call, Caller};
use super::routes::{Authority, BodyLimit, ROUTES, Route};
use super::shared::Shared;
use super::{dispatch, operator, pages, request_id, told};
use crate::domain::Refusal;
use crate::engine::KEY_FIELD;
use crate::trace;

static TOKEN: HeaderName = HeaderName::from_static("token");
static KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What `: ` and the end of the line add to a header.
const HEADER_LINE_BYTES: usize = 4;

/// Judges a request and counts it, whoever's connection it came on. `is_admitted`: it was found already that there is
/// room for it. Gives the answer, and for whose request it is.
pub(super) async fn answer<B: Body>(
    shared: &Shared,
    caller: Caller,
    is_admitted: bool,
    request: Request<B>,
) -> (Reply, trace::Request) {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let found = shared.route(head.uri.path(), caller.door);
    let mut working = request_id::begin(&head.headers, found.map(|(_, route)| route));
    let mut incoming = Incomplete { shared, head: &head, body: pin!(body), began, is_admitted };
    let judging = pin!(judge(&mut incoming, caller.peer, found.map(|(_, route)| route)));
    let reply = trace::within(&mut working, judging).await;
    let reply = reply.weighed(&shared.answers, found.map_or(Failure::Nothing, |(_, route)| route.failure));
    let index = found.map_or(ROUTES.len(), |(index, _)| index);
    let took = began.elapsed();
    shared.metrics.record(index, reply.code, took);
    told::answered(&working, index, reply.code, took);
    (reply, working)
}

/// Refuses a request of a connection on which nobody can say where a request ends. The connection ends with it.
pub(super) fn refuse_ambiguous<B>(shared: &Shared, caller: Caller, request: &Request<B>) -> (Reply, trace::Request) {
    let found = shared.route(request.uri().path(), caller.door);
    let failure = found.map_or(Failure::Nothing, |(_, route)| route.failure);
    let index = found.map_or(ROUTES.len(), |(index, _)| index);
    shared.metrics.record(index, 400, Duration::ZERO);
    let working = request_id::begin(request.headers(), found.map(|(_, route)| route));
    told::answered(&working, index, 400, Duration::ZERO);
    let message = "malformed request: more than one Content-Length or Transfer-Encoding";
    (closing(Reply::transport(400, message, failure)), working)
}

/// A request whose body has not been read to its end. `B` is a pinned reference.
struct Incomplete<'a, B> {
    shared: &'a Shared,
    head: &'a Parts,
    body: B,
    began: Instant,
    is_admitted: bool,
}

async fn judge<B: Body + Unpin>(
    request: &mut Incomplete<'_, B>,
    peer: Option<IpAddr>,
    route: Option<&'static Route>,
) -> Reply {
    let (shared, head) = (request.shared, request.head);
    let config = &shared.config;
    let (failure, limit) = route.map_or((Failure::Nothing, BodyLimit::Standard), |route| (route.failure, route.limit));
    let body_max = limit.bytes_max(config);
    if header_bytes(head) > config.header_bytes_max {
        return refuse(request, Reply::transport(431, "headers too large", failure)).await;
    }
    if !is_coding_known(head) {
        // Nobody knows where its body ends, so nothing after it is read.
        return closing(Reply::transport(400, "malformed request: unknown Transfer-Encoding", failure));
    }
    if request.body.size_hint().lower() > body_max as u64 {
        return refuse(request, too_large(body_max, failure)).await;
    }
    let Some(route) = route else {
        return refuse(request, Reply::transport(404, "not found", failure)).await;
    };
    if !route.verb.takes(&head.method) {
        return refuse(request, Reply::wrong_method(route.verb.allow(), failure)).await;
    }
    if route.authority == Authority::Operator
        && let Some(reply) = operator::refusal(config.admin_token.as_ref(), peer, head)
    {
        return refuse(request, reply).await;
    }
    if route.is_shed() && !request.is_admitted && !shared.shed.admits(&shared.engine, request.began) {
        told::not_served(route.path, &"too much to do");
        return refuse(request, Reply::shed(failure)).await;
    }
    let read = body::read(&mut request.body, body_max, &shared.budget, config.body_timeout).await;
    let (body, _held) = match read {
        Ok(read) => read,
        Err(error) => return unread(request, error, body_max, failure).await,
    };
    if route.handler.is_page() {
        return pages::asset(head.uri.path()).map_or_else(
            || Reply::transport(404, "not found", failure),
            |asset| Reply::asset(asset, asset.is_known(&head.headers)),
        );
    }
    let token = if route.wants_token() { token(head) } else { "" };
    let key = match route.takes_key().then(|| key(head)).transpose() {
        Ok(key) => key.flatten(),
        Err(refusal) => return Reply::refused(&refusal.into(), failure),
    };
    dispatch::run(route, Call { shared, body: &body, token, key, peer }).await
}

/// The `Idempotency-Key` header. Two of them would be two intents.
fn key(head: &Parts) -> Result<Option<&str>, Refusal> {
    let mut values = head.headers.get_all(&KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::invalid(KEY_FIELD, "must be sent once"));
    }
    // What is no text is no key either; the engine says so.
    Ok(Some(value.to_str().unwrap_or_default()))
}

/// `chunked` once, or none. hyper takes every list that ends in `chunked` for it, and would give a zipped body as it is.
fn is_coding_known(head: &Parts) -> bool {
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    first && codings.next().is_none()
}

/// The `token` header; one that is no text belongs to nobody, as an empty one.
fn token(head: &Parts) -> &str {
    head.headers.get(&TOKEN).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Bytes of the target and the headers, as they came.
fn header_bytes(head: &Parts) -> usize {
    let target = head.uri.path().len() + head.uri.query().map_or(0, str::len);
    let headers = head.headers.iter();
    target + headers.map(|(name, value)| name.as_str().len() + value.len() + HEADER_LINE_BYTES).sum::<usize>()
}

fn too_large(bytes_max: usize, failure: Failure) -> Reply {
    Reply::transport(413, &format!("body too large, at most {bytes_max} bytes"), failure)
}

/// Answers a request whose body was not read to its end.
async fn unread<B: Body + Unpin>(
    request: &mut Incomplete<'_, B>,
    error: BodyError,
    body_max: usize,
    failure: Failure,
) -> Reply {
    match error {
        BodyError::TooLarge => refuse(request, too_large(body_max, failure)).await,
        BodyError::OverBudget => {
            let reply = Reply::transport(503, "overloaded: bodies in flight; nothing was done", failure);
            refuse(request, reply).await
        }
        BodyError::Slow => closing(Reply::transport(408, "request timeout: the body took too long", failure)),
        BodyError::Broken => closing(Reply::transport(400, "malformed request body", failure)),
    }
}

/// Refuses a request before its body: the body is thrown away first, else the client, still sending, would meet
/// a reset in place of the answer. A client that waits for `100 Continue` sends none.
async fn refuse<B: Body + Unpin>(request: &mut Incomplete<'_, B>, reply: Reply) -> Reply {
    let waits = request.head.headers.contains_key(EXPECT) && !request.body.is_end_stream();
    if !waits && body::discard(&mut request.body, request.shared.config.body_timeout).await {
        return reply;
    }
    closing(reply)
}

fn closing(mut reply: Reply) -> Reply {
    reply.close = true;
    reply
}
