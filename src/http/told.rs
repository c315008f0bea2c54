//! What the log is told of requests: each answer, for who wants to know, and failures of the service, for who operates it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::level_filters::LevelFilter;
use tracing::{Level, debug, enabled, warn};

use super::routes::{ROUTES, UNROUTED};
use crate::engine::Error;
use crate::trace::{self, About, Request};

/// The target of the line about each answer.
const TARGET: &str = "bookstore::http";

/// An answer leaves. `route` is the index in the table, or the table's length. One relaxed load if nobody listens.
#[inline]
pub(super) fn answered(request: &Request, route: usize, code: u16, took: Duration) {
    if LevelFilter::current() >= LevelFilter::DEBUG {
        tell(request, route, code, took);
    }
}

#[cold]
fn tell(request: &Request, route: usize, code: u16, took: Duration) {
    if !enabled!(target: TARGET, Level::DEBUG) && !trace::is_on() {
        return;
    }
    let route = ROUTES.get(route).map_or(UNROUTED, |route| route.path);
    let took_us = took.as_micros() as u64;
    let About { user_id, store_id, order_id } = request.about();
    request.clone().run(|| {
        let span = request.span();
        if let Some(span) = span {
            span.record("code", code);
        }
        let _span = span.map(tracing::Span::enter);
        // Who follows sagas wants to see how they ended.
        if enabled!(target: TARGET, Level::DEBUG) {
            debug!(target: TARGET, route, code, took_us, user_id, store_id, order_id, "answered");
        } else {
            debug!(target: trace::TARGET, route, code, took_us, user_id, store_id, order_id, "answered");
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

/// A request was not served and nothing was done.
pub(super) fn not_served(route: &'static str, why: &dyn std::fmt::Display) {
    static SPARING: Sparing = Sparing::new();
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if let Some(others) = SPARING.turn(second) {
        warn!(target: TARGET, route, %why, others, "refused; nothing was done");
    }
}

/// Of what may happen a hundred thousand times a second one a second is told: a line for each would take the time of those
/// that are served.
struct Sparing {
    second: AtomicU64,
    kept_back: AtomicU64,
}

impl Sparing {
    const fn new() -> Self {
        Sparing { second: AtomicU64::new(0), kept_back: AtomicU64::new(0) }
    }

    /// Whether one in this second is told; then how many before it were not.
    fn turn(&self, second: u64) -> Option<u64> {
        // Only read, as a rule: the line of memory is that of all cores.
        if self.second.load(Ordering::Relaxed) == second || self.second.swap(second, Ordering::Relaxed) == second {
            self.kept_back.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.kept_back.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::domain::Refusal;

    #[test]
    fn one_a_second_is_told_with_the_number_of_the_others() {
        let sparing = Sparing::new();
        let turns = [7, 7, 7, 8, 9, 9, 12].map(|second| sparing.turn(second));
        assert_eq!(turns, [Some(0), None, None, Some(2), Some(0), None, Some(1)]);
    }

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A business answer, though a 5xx, is none.
    #[test]
    fn what_operators_care_for_is_a_warning() {
        let said = Said::default();
        let to = said.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone()).finish();
        tracing::subscriber::with_default(log, || {
            failed("/a", &Error::Refused(Refusal::Unauthorized));
            failed("/b", &Error::Draining);
            failed("/c", &Error::Throttled { why: "too many", retry_after_s: 1 });
            failed("/d", &Error::OutcomeUnknown("the disk is gone".into()));
            failed("/e", &Error::OutcomeUnknown("the disk is gone".into()));
        });
        let said = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
        assert_eq!(said.lines().count(), 2, "{said}");
        for (line, route) in said.lines().zip(["/d", "/e"]) {
            let is_told = line.contains(" WARN bookstore::http: outcome unknown") && line.contains("the disk is gone");
            assert!(is_told && line.contains(&format!("route=\"{route}\"")), "{line}");
        }
    }
}
