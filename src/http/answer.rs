//! Answers: outcome codes, bodies, headers.

use std::convert::Infallible;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use super::body::{Budget, Share};
use super::json::{put, put_text};
use super::orders::{OrderList, put_details};
use super::pages::Asset;
use super::routes::ROUTES;
use super::{request_id, told};
use crate::domain::OrderId;
use crate::engine::{Error, OrderDetails};
use crate::trace;

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const TOKEN: HeaderValue = HeaderValue::from_static("Token");
const BEARER: HeaderValue = HeaderValue::from_static("Bearer");
/// When it makes sense to come back after a 503.
const OVERLOAD_RETRY_S: u64 = 1;
/// Every answer with an outcome begins with this.
const OK: &str = r#"{"code":200,"message":"ok""#;
/// Up to this many orders the list is one buffer with a known length.
const ORDERS_BUFFERED_MAX: usize = 200;

/// What a route gives in place of its result with every answer but 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The route has only a message.
    Nothing,
    Token,
    OrderId,
    OrderStatus,
    Order,
    Orders,
    StockLevel,
    OrderCount,
    Balance,
    /// As [`Failure::StockLevel`], for a route that gives a whole book beside it.
    Book,
    /// A page of books, in place of which nothing is given.
    Books,
    /// As [`Failure::Books`]; in a success the message is the list of books.
    BooksAsMessage,
}

impl Failure {
    /// How many there are.
    pub(super) const COUNT: usize = Failure::BooksAsMessage as usize + 1;

    /// The member of the JSON object, with the comma before it.
    pub(super) fn member(self) -> &'static str {
        match self {
            Failure::Nothing | Failure::Books | Failure::BooksAsMessage => "",
            Failure::Token => r#","token":"""#,
            Failure::OrderId => r#","order_id":"""#,
            Failure::OrderStatus => r#","order_status":"None""#,
            Failure::Order => r#","order":"None""#,
            Failure::Orders => r#","orders":"None""#,
            Failure::StockLevel | Failure::Book => r#","stock_level":-1"#,
            Failure::OrderCount => r#","order_count":-1"#,
            Failure::Balance => r#","balance":-1"#,
        }
    }
}

/// The body of 503 for a request that was not looked at, with a member.
macro_rules! shed_body {
    ($member:literal) => {
        concat!(r#"{"code":503,"message":"overloaded: too much to do; nothing was done""#, $member, "}")
    };
}

impl Failure {
    /// The whole body of a 503, ready made.
    fn shed_body(self) -> &'static str {
        match self {
            Failure::Nothing | Failure::Books | Failure::BooksAsMessage => shed_body!(""),
            Failure::Token => shed_body!(r#","token":"""#),
            Failure::OrderId => shed_body!(r#","order_id":"""#),
            Failure::OrderStatus => shed_body!(r#","order_status":"None""#),
            Failure::Order => shed_body!(r#","order":"None""#),
            Failure::Orders => shed_body!(r#","orders":"None""#),
            Failure::StockLevel | Failure::Book => shed_body!(r#","stock_level":-1"#),
            Failure::OrderCount => shed_body!(r#","order_count":-1"#),
            Failure::Balance => shed_body!(r#","balance":-1"#),
        }
    }
}

/// An answer longer than this leaves in pieces of this size and counts until it has left: clients that read slowly, or
/// not at all, hold it. A list that is streamed always does. Only reads have such answers, so nothing was done when one is refused.
const LONG_ANSWER_BYTES: usize = 64 << 10;

/// An answer before it becomes HTTP.
pub(super) struct Reply {
    /// The outcome code, which is also the HTTP status.
    pub(super) code: u16,
    body: ReplyBody,
    retry_after_s: Option<u64>,
    allow: Option<&'static str>,
    /// The connection cannot be used after this answer.
    pub(super) close: bool,
    /// Of a 401: what is wanted is the token of operators.
    wants_bearer: bool,
}

enum ReplyBody {
    Json(Bytes),
    /// The same bytes for everybody: however many ask, they are there once.
    Document(Bytes),
    Metrics(Bytes),
    /// A file of a page; `None` in place of bytes that the browser has.
    Asset(&'static Asset, Option<Bytes>),
    Orders(OrderList, Option<Share>),
}

impl Reply {
    fn json(code: u16, body: impl Into<Bytes>) -> Self {
        Reply {
            code,
            body: ReplyBody::Json(body.into()),
            retry_after_s: None,
            allow: None,
            close: false,
            wants_bearer: false,
        }
    }

    /// The same, if it is short or there is room for it among the long ones that have not left; else 503.
    pub(super) fn weighed(mut self, budget: &Arc<Budget>, failure: Failure) -> Self {
        let fits = match &mut self.body {
            ReplyBody::Json(body) if body.len() > LONG_ANSWER_BYTES => {
                budget.weigh(std::mem::take(body)).map(|weighed| *body = weighed).is_some()
            }
            ReplyBody::Orders(list, share) => {
                *share = budget.share(list.bytes());
                share.is_some()
            }
            ReplyBody::Json(_) | ReplyBody::Document(_) | ReplyBody::Metrics(_) | ReplyBody::Asset(..) => true,
        };
        if fits {
            return self;
        }
        Reply::transport(503, "overloaded: long answers in flight; nothing was done", failure)
    }

    /// Success without a result.
    pub(super) fn ok() -> Self {
        Reply::json(200, Bytes::from_static(br#"{"code":200,"message":"ok"}"#))
    }

    /// Success with a string. `name` is a name of the contract and needs no escapes.
    pub(super) fn ok_text(name: &'static str, value: &str) -> Self {
        let mut body = Vec::with_capacity(OK.len() + name.len() + value.len() + 16);
        put(&mut body, &format_args!(r#"{OK},"{name}":"#));
        put_text(&mut body, value);
        body.push(b'}');
        Reply::json(200, body)
    }

    /// Success with a whole body that was made elsewhere.
    pub(super) fn ok_body(body: String) -> Self {
        Reply::json(200, body)
    }

    /// Success with a number.
    pub(super) fn ok_number(name: &'static str, value: i64) -> Self {
        let mut body = Vec::with_capacity(OK.len() + name.len() + 32);
        put(&mut body, &format_args!(r#"{OK},"{name}":{value}}}"#));
        Reply::json(200, body)
    }

    /// Success of `new_order`, the hot one: exactly one allocation.
    pub(super) fn ok_order(id: OrderId) -> Self {
        const BEFORE: &[u8] = br#"{"code":200,"message":"ok","order_id":""#;
        const UUID_BYTES: usize = 36;
        let mut body = Vec::with_capacity(BEFORE.len() + UUID_BYTES + 2);
        body.extend_from_slice(BEFORE);
        put(&mut body, &id);
        body.extend_from_slice(b"\"}");
        Reply::json(200, body)
    }

    /// Success with one order and its way.
    pub(super) fn ok_details(details: &OrderDetails) -> Self {
        let mut body = Vec::with_capacity(1 << 10);
        put(&mut body, &format_args!(r#"{OK},"order":"#));
        put_details(&mut body, details);
        body.push(b'}');
        Reply::json(200, body)
    }

    /// Success with orders.
    pub(super) fn ok_orders(mut list: OrderList) -> Self {
        if list.len() > ORDERS_BUFFERED_MAX {
            return Reply { body: ReplyBody::Orders(list, None), ..Reply::json(200, Bytes::new()) };
        }
        let mut body = Vec::new();
        list.fill(&mut body, usize::MAX);
        Reply::json(200, body)
    }

    /// The counters.
    pub(super) fn metrics(text: String) -> Self {
        Reply { body: ReplyBody::Metrics(text.into()), ..Reply::json(200, Bytes::new()) }
    }

    /// A JSON document that is no outcome.
    pub(super) fn document(json: Bytes) -> Self {
        Reply { body: ReplyBody::Document(json), ..Reply::json(200, Bytes::new()) }
    }

    /// A file of a page. `is_known`: the browser has it already.
    pub(super) fn asset(asset: &'static Asset, is_known: bool) -> Self {
        let code = if is_known { 304 } else { 200 };
        let bytes = (!is_known).then(|| Bytes::from_static(asset.bytes));
        Reply { body: ReplyBody::Asset(asset, bytes), ..Reply::json(code, Bytes::new()) }
    }

    /// 401 of the routes for operators.
    pub(super) fn not_operator() -> Self {
        let message = "missing or wrong token; send the one of --admin-token-file as `Authorization: Bearer …`";
        let mut reply = Reply::transport(401, message, Failure::Nothing);
        reply.wants_bearer = true;
        reply
    }

    /// Anything but success.
    pub(super) fn failed(code: u16, message: &dyn Display, failure: Failure) -> Self {
        Reply::json(code, failed_body(code, message, failure))
    }

    /// 404, 405 and the transport limits.
    pub(super) fn transport(code: u16, message: &str, failure: Failure) -> Self {
        let mut reply = Reply::failed(code, &message, failure);
        reply.retry_after_s = (code == 503).then_some(OVERLOAD_RETRY_S);
        reply
    }

    /// 503 for a request that was not looked at. Made without a copy: it is given when there is no time.
    pub(super) fn shed(failure: Failure) -> Self {
        let mut reply = Reply::json(503, Bytes::from_static(failure.shed_body().as_bytes()));
        reply.retry_after_s = Some(OVERLOAD_RETRY_S);
        reply
    }

    /// 405 with the methods that are allowed.
    pub(super) fn wrong_method(allow: &'static str, failure: Failure) -> Self {
        let mut reply = Reply::transport(405, "method not allowed", failure);
        reply.allow = Some(allow);
        reply
    }

    /// What the engine refused.
    pub(super) fn refused(error: &Error, failure: Failure) -> Self {
        match error {
            Error::Refused(refusal) => Reply::failed(refusal.code(), refusal, failure),
            Error::Throttled { retry_after_s, .. } => {
                let mut reply = Reply::failed(429, error, failure);
                reply.retry_after_s = Some((*retry_after_s).max(1));
                reply
            }
            Error::Overloaded(_) | Error::Draining => {
                Reply::transport(503, &format!("{error}; nothing was done"), failure)
            }
            // No Retry-After: a retry could do it twice, but under its idempotency key.
            Error::OutcomeUnknown(_) => Reply::failed(503, error, failure),
        }
    }

    /// The sweep of expired orders has a message of its own for a failure.
    pub(super) fn not_swept() -> Self {
        Reply::failed(530, &"not", Failure::Nothing)
    }

    /// The body, for tests that look at handlers without a socket.
    #[cfg(test)]
    pub(super) fn json_body(&self) -> &[u8] {
        match &self.body {
            ReplyBody::Json(bytes) | ReplyBody::Document(bytes) | ReplyBody::Metrics(bytes) => bytes,
            ReplyBody::Orders(..) | ReplyBody::Asset(..) => panic!("no short body"),
        }
    }

    /// The answer to a request as hyper takes it.
    pub(super) fn into_response(self, request: &trace::Request) -> Response<ResponseBody> {
        let mut asset = None;
        // Most are JSON, as their headers say already.
        let (other_type, body) = match self.body {
            ReplyBody::Json(bytes) | ReplyBody::Document(bytes) => (None, Content::Whole(Some(bytes))),
            ReplyBody::Asset(file, bytes) => {
                asset = Some(file);
                (Some(HeaderValue::from_static(file.content_type)), Content::Whole(bytes))
            }
            ReplyBody::Metrics(bytes) => (Some(OPEN_METRICS), Content::Whole(Some(bytes))),
            ReplyBody::Orders(list, share) => (None, Content::Orders(list, share)),
        };
        let mut response = Response::new(ResponseBody(body));
        // Every code of ours is a valid status; the fallback is never taken.
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        *headers = request_id::json_headers(request);
        if let Some(other) = other_type {
            headers.insert(CONTENT_TYPE, other);
        }
        if self.code == 401 {
            headers.insert(WWW_AUTHENTICATE, if self.wants_bearer { BEARER } else { TOKEN });
        }
        if let Some(asset) = asset {
            asset.put_headers(headers);
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if self.close {
            headers.insert(CONNECTION, CLOSE);
        }
        response
    }
}

fn failed_body(code: u16, message: &dyn Display, failure: Failure) -> Vec<u8> {
    let mut body = Vec::with_capacity(128);
    put(&mut body, &format_args!(r#"{{"code":{code},"message":"#));
    put_text(&mut body, &message.to_string());
    body.extend_from_slice(failure.member().as_bytes());
    body.push(b'}');
    body
}

/// The body of an answer that belongs to no route.
pub(super) fn plain_body(code: u16, message: &str) -> Vec<u8> {
    failed_body(code, &message, Failure::Nothing)
}

/// A whole answer for a connection that is closed without hyper. Its request's id was made, for there is no head.
pub(super) fn raw(code: u16, reason: &str, message: &str) -> Vec<u8> {
    let mut last_headers = Vec::from(b"connection: close\r\n");
    let request = request_id::begin_unrouted();
    request_id::put_line(&mut last_headers, &request);
    told::answered(&request, ROUTES.len(), code, Duration::ZERO);
    raw_with(&last_headers, code, reason, &plain_body(code, message))
}

/// [`Reply::shed`] for a connection that is kept, but for the beginning, [`SHED_STATUS`], and the request's id after that.
pub(super) fn shed_raw(failure: Failure) -> Vec<u8> {
    let mut whole = raw_with(b"", 503, "Service Unavailable", failure.shed_body().as_bytes());
    whole.split_off(SHED_STATUS.len())
}

/// How [`Reply::shed`] begins.
pub(super) const SHED_STATUS: &str = "HTTP/1.1 503 Service Unavailable\r\n";

fn raw_with(last_headers: &[u8], code: u16, reason: &str, body: &[u8]) -> Vec<u8> {
    let retry = if code == 503 { format!("retry-after: {OVERLOAD_RETRY_S}\r\n") } else { String::new() };
    let mut out = Vec::with_capacity(body.len() + 160);
    put(
        &mut out,
        &format_args!(
            "HTTP/1.1 {code} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{retry}",
            body.len()
        ),
    );
    out.extend_from_slice(last_headers);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

/// The body of an answer on its way out: JSON, or the text of `/metrics`. A long answer comes in pieces, as fast as they
/// are polled. All but a list of orders has a known length. It never fails.
pub struct ResponseBody(Content);

enum Content {
    Whole(Option<Bytes>),
    /// The list holds its share of the long answers until it is dropped: what it frees on the way is the lesser part.
    Orders(OrderList, #[expect(dead_code, reason = "it is held, not looked at")] Option<Share>),
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody").field("size", &self.size_hint().exact()).finish_non_exhaustive()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.get_mut().0 {
            // hyper copies what it is given, so a slow client would have a copy that does not count.
            Content::Whole(Some(rest)) if rest.len() > LONG_ANSWER_BYTES => {
                Poll::Ready(Some(Ok(Frame::data(rest.split_to(LONG_ANSWER_BYTES)))))
            }
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Orders(list, _) => Poll::Ready(list.next_chunk().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Orders(list, _) => list.is_done(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Orders(..) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Refusal;

    fn body(reply: Reply) -> String {
        String::from_utf8(reply.json_body().to_vec()).unwrap()
    }

    #[test]
    fn a_document_is_given_however_many_long_answers_are_in_flight() {
        let budget = Arc::new(Budget::new(0));
        let long = || Bytes::from(vec![b' '; LONG_ANSWER_BYTES + 1]);
        let first = Reply::json(200, long()).weighed(&budget, Failure::Nothing);
        assert_eq!(first.code, 200, "one alone is never too long");
        assert_eq!(Reply::json(200, long()).weighed(&budget, Failure::Nothing).code, 503);
        assert_eq!(Reply::document(long()).weighed(&budget, Failure::Nothing).code, 200);
    }

    #[test]
    fn bodies_are_exact() {
        assert_eq!(body(Reply::ok()), r#"{"code":200,"message":"ok"}"#);
        assert_eq!(body(Reply::ok_text("token", "a\"b")), r#"{"code":200,"message":"ok","token":"a\"b"}"#);
        assert_eq!(body(Reply::ok_number("stock_level", -1)), r#"{"code":200,"message":"ok","stock_level":-1}"#);
        assert_eq!(body(Reply::not_swept()), r#"{"code":530,"message":"not"}"#);
        let refused = Reply::refused(&Refusal::NoOrder("x\n\"".into()).into(), Failure::OrderStatus);
        assert_eq!(refused.code, 518);
        assert_eq!(body(refused), r#"{"code":518,"message":"invalid order id x\n\"","order_status":"None"}"#);
    }

    #[test]
    fn every_failure_value_makes_valid_json() {
        let all = [
            (Failure::Token, "token", "\"\""),
            (Failure::OrderId, "order_id", "\"\""),
            (Failure::OrderStatus, "order_status", "\"None\""),
            (Failure::Order, "order", "\"None\""),
            (Failure::Orders, "orders", "\"None\""),
            (Failure::StockLevel, "stock_level", "-1"),
            (Failure::OrderCount, "order_count", "-1"),
            (Failure::Balance, "balance", "-1"),
            (Failure::Book, "stock_level", "-1"),
        ];
        for (failure, name, value) in all {
            let text = body(Reply::failed(530, &"m", failure));
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json[name].to_string(), value);
        }
    }

    #[test]
    fn ready_made_refusals_are_as_those_that_are_made() {
        let all = [
            Failure::Nothing,
            Failure::Token,
            Failure::OrderId,
            Failure::OrderStatus,
            Failure::Order,
            Failure::Orders,
            Failure::StockLevel,
            Failure::OrderCount,
            Failure::Balance,
            Failure::Book,
            Failure::Books,
            Failure::BooksAsMessage,
        ];
        for failure in all {
            let made = Reply::transport(503, "overloaded: too much to do; nothing was done", failure);
            let ready = Reply::shed(failure);
            assert_eq!((ready.code, ready.retry_after_s), (made.code, made.retry_after_s));
            assert_eq!(body(ready), body(made));
        }
    }

    #[test]
    fn only_what_did_nothing_may_be_retried() {
        let unknown = Reply::refused(&Error::OutcomeUnknown("disk".into()), Failure::Nothing);
        assert_eq!((unknown.code, unknown.retry_after_s), (503, None));
        assert!(body(unknown).contains("outcome unknown"));
        for error in [Error::Draining, Error::Overloaded("x")] {
            let reply = Reply::refused(&error, Failure::Nothing);
            assert_eq!(reply.code, error.code());
            assert_eq!((reply.code, reply.retry_after_s), (503, Some(1)));
            assert!(body(reply).contains("nothing was done"));
        }
        let throttled = Reply::refused(&Error::Throttled { why: "w", retry_after_s: 7 }, Failure::Token);
        assert_eq!((throttled.code, throttled.retry_after_s), (429, Some(7)));
    }
}
