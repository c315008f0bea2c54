//! What the log is told of requests: each answer, for who wants to know, and failures of the service, for who operates it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::{Level, debug, enabled, warn};

use super::routes::{ROUTES, UNROUTED};
use crate::engine::Error;
use crate::trace::{self, Request};

/// The target of the line about each answer.
const TARGET: &str = "bookstore::http";

/// An answer leaves. `route` is the index in the table, or the table's length. One relaxed load if nobody listens.
#[inline]
pub(super) fn answered(request: &Request, route: usize, code: u16, took: Duration) {
    if enabled!(target: TARGET, Level::DEBUG) || trace::is_on() {
        tell(request, route, code, took);
    }
}

#[cold]
fn tell(request: &Request, route: usize, code: u16, took: Duration) {
    let route = ROUTES.get(route).map_or(UNROUTED, |route| route.path);
    let took_us = took.as_micros() as u64;
    request.clone().run(|| {
        trace::note("code", code);
        let _span = request.span().map(tracing::Span::enter);
        // Who follows sagas wants to see how they ended.
        if enabled!(target: TARGET, Level::DEBUG) {
            debug!(target: TARGET, route, code, took_us, "answered");
        } else {
            debug!(target: trace::TARGET, route, code, took_us, "answered");
        }
    });
}

/// A request that came to nothing by a failure of the service, and not by what was asked. Within the request.
pub(super) fn failed(route: &'static str, error: &Error) {
    match error {
        // Whoever asked may look for it; so each is told.
        Error::OutcomeUnknown(_) => warn!(target: TARGET, route, %error, "outcome unknown"),
        Error::Overloaded(_) => not_served(route, error),
        Error::Draining | Error::Refused(_) | Error::Throttled { .. } => {}
    }
}

/// A request was not served and nothing was done. There may be a hundred thousand of them a second, and a line for each
/// would take the time of those that are served: so one a second is told, with the number of those before it that were not.
pub(super) fn not_served(route: &'static str, why: &dyn std::fmt::Display) {
    static KEPT_BACK: AtomicU64 = AtomicU64::new(0);
    static SECOND: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if SECOND.swap(now, Ordering::Relaxed) == now {
        KEPT_BACK.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let others = KEPT_BACK.swap(0, Ordering::Relaxed);
    warn!(target: TARGET, route, %why, others, "refused; nothing was done");
}
