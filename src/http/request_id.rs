//! The id of a request: taken from it or made, returned, and in each line of the log that the request causes.

use std::sync::LazyLock;

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::routes::{Route, UNROUTED};
use crate::trace::{Id, Request, digits};

/// The header, in a request and in its answer.
pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static(NAME);
pub(super) const NAME: &str = "x-request-id";
/// A longer id is not taken.
const ID_BYTES_MAX: usize = 128;

/// The request that begins with these headers. Of several ids the first is looked at.
pub(super) fn begin(headers: &HeaderMap, route: Option<&'static Route>) -> Request {
    // There are few, and to compare each costs less than to look one up.
    let brought = headers.iter().find(|(name, _)| **name == REQUEST_ID);
    let taken = brought.and_then(|(_, value)| sound(value.as_bytes()));
    let request = Request::begin(taken, route.map_or(UNROUTED, |route| route.path));
    #[cfg(feature = "otlp")]
    continue_trace(headers, &request);
    request
}

/// Puts the request's span below the one that `traceparent` names (W3C Trace Context), if somebody listens.
#[cfg(feature = "otlp")]
fn continue_trace(headers: &HeaderMap, request: &Request) {
    use opentelemetry::propagation::TextMapPropagator as _;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    let Some(span) = request.span().filter(|_| headers.contains_key("traceparent")) else { return };
    let propagator = opentelemetry_sdk::propagation::TraceContextPropagator::new();
    // It fails only where nothing is exported. What is no good `traceparent` gives an empty context: a trace begins here.
    let _ = span.set_parent(propagator.extract(&opentelemetry_http::HeaderExtractor(headers)));
}

/// A request of which nothing is known but that it came.
pub(super) fn begin_unrouted() -> Request {
    Request::begin(None, UNROUTED)
}

/// An id that may stand in a log and in a header as it is: visible ASCII without quotes and backslashes. So no line can be
/// made to say something else.
pub(super) fn sound(id: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'`' | b'\\');
    let is_sound = (1..=ID_BYTES_MAX).contains(&id.len()) && id.iter().all(is_plain);
    is_sound.then(|| std::str::from_utf8(id).ok()).flatten()
}

/// The headers of an answer in JSON: that it is that, and the request's id. A copy costs less than to put in one after the
/// other.
pub(super) fn json_headers(request: &Request) -> HeaderMap {
    static COMMON: LazyLock<HeaderMap> = LazyLock::new(|| {
        let json = HeaderValue::from_static("application/json");
        let no_id = HeaderValue::from_static("");
        HeaderMap::from_iter([(CONTENT_TYPE, json), (REQUEST_ID.clone(), no_id)])
    });
    let mut headers = COMMON.clone();
    let value = match request {
        Request::None => None,
        // Digits, or what has come as a header.
        Request::Made(number) => HeaderValue::from_bytes(&digits(*number)).ok(),
        Request::Shared(_) => request.id().and_then(|id| HeaderValue::from_str(&id.to_string()).ok()),
    };
    match (value, headers.values_mut().find(|value| value.is_empty())) {
        (Some(value), Some(place)) => *place = value,
        _ => drop(headers.remove(&REQUEST_ID)),
    }
    headers
}

/// The id as a line of a head that is written by hand, with its end.
pub(super) fn put_line(out: &mut Vec<u8>, request: &Request) {
    let Some(id) = request.id() else { return };
    out.extend_from_slice(NAME.as_bytes());
    out.extend_from_slice(b": ");
    match id {
        Id::Made(number) => out.extend_from_slice(&digits(number)),
        Id::Taken(text) => out.extend_from_slice(text.as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_stand_in_a_line_is_taken() {
        let long = "x".repeat(ID_BYTES_MAX);
        for id in ["a", "7f3a-22.9:c/1=+_~", "%7B%7D", long.as_str()] {
            assert_eq!(sound(id.as_bytes()), Some(id));
        }
        let longer = format!("{long}x");
        for id in ["", " ", "a b", "a\tb", "a\"b", "a'b", "a`b", "a\\b", "\u{7f}", "ä", "a\r\nb", longer.as_str()] {
            assert_eq!(sound(id.as_bytes()), None, "{id:?}");
        }
        assert_eq!(sound(&[0xff]), None);
    }

    #[test]
    fn made_ids_differ_and_have_one_length() {
        let id = |request: Request| request.id().map(|id| id.to_string()).unwrap_or_default();
        let (one, other) = (id(begin_unrouted()), id(begin_unrouted()));
        assert!(one != other && one[..8] == other[..8], "{one} {other}");
        for id in [one, other] {
            assert!(id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        }
    }

    #[test]
    fn header_and_line_say_the_same() {
        for request in [begin_unrouted(), Request::begin(Some("from-afar"), "/x")] {
            let (headers, mut line) = (json_headers(&request), Vec::new());
            put_line(&mut line, &request);
            let expected = format!("x-request-id: {}\r\n", headers[&REQUEST_ID].to_str().unwrap());
            assert_eq!(String::from_utf8(line).unwrap(), expected);
            assert_eq!((headers.len(), headers[CONTENT_TYPE].as_bytes()), (2, &b"application/json"[..]));
        }
        assert_eq!(json_headers(&Request::None).len(), 1);
    }
}
