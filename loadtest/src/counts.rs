//! What a load counts, whichever loop sends it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Failure;
use crate::args::Scenario;
use crate::audit::Tally;
use crate::calls::{Call, Route};
use crate::figures::micros;
use crate::live::Live;
use crate::machine;
use crate::scenario::{OrderId, Plan};
use crate::series::{Second, Series};

/// Latencies above a minute are counted as a minute.
pub(crate) const LATENCY_US_MAX: u64 = 60_000_000;

/// The kind of error that says a request was due and never left.
pub(crate) const NEVER_SENT: &str = "never sent";

/// The measured time; before it is warm-up.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
}

impl Window {
    /// From `warmup` from now on.
    pub(crate) fn after(warmup: Duration, duration: Duration) -> Self {
        let start = Instant::now() + warmup;
        Self { start, end: start + duration }
    }

    /// Whether `now` lies in it.
    pub(crate) fn holds(self, now: Instant) -> bool {
        self.start <= now && now < self.end
    }
}

/// What a run measured.
pub(crate) struct Measured {
    /// What was acknowledged, warm-up included: the audit's side of the account.
    pub(crate) tally: Tally,
    /// Requests of the measured time, whatever the answer.
    pub(crate) requests: u64,
    /// Whole operations of the scenario that succeeded in the measured time; mere looks are none.
    pub(crate) operations: u64,
    /// µs of what was answered 200, by the number of its route.
    pub(crate) routes_us: Vec<Histogram<u64>>,
    /// µs that requests had waited at least when they were given up; what they would have been is not known.
    pub(crate) unsent_us: Histogram<u64>,
    /// Requests that began in the measured time and were never answered: they are in no histogram.
    pub(crate) unanswered: u64,
    /// Everything but success, by code or kind, warm-up included.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) series: Vec<Second>,
    /// The measured time.
    pub(crate) window: Duration,
    /// CPU time of the server in the measured time, if its process is known.
    pub(crate) server_cpu: Option<Duration>,
    /// CPU time of this process in the measured time.
    pub(crate) client_cpu: Option<Duration>,
}

impl Measured {
    /// µs of everything that was answered 200, whatever its route, and of what was never sent; `None` if there is neither.
    pub(crate) fn all_us(&self) -> Option<Histogram<u64>> {
        let mut routes = self.routes_us.iter().chain([&self.unsent_us]).filter(|histogram| !histogram.is_empty());
        let first = routes.next()?.clone();
        Some(routes.fold(first, |mut all, histogram| {
            all += histogram;
            all
        }))
    }
}

/// What the server said, or did not say.
pub(crate) enum Outcome {
    /// Done.
    Acknowledged,
    /// Answered with this status: not done, and no trace left.
    Refused(u16),
    /// No request reached the server.
    NotSent,
    /// Done or not.
    Unknown,
}

/// The counts of all connections together. One for all, because a thousand histograms would not fit in a cache;
/// a lock around it is held for less than 100 ns a request.
pub(crate) struct Counts {
    tally: Tally,
    window: Window,
    requests: u64,
    operations: u64,
    routes_us: Vec<Histogram<u64>>,
    unsent_us: Histogram<u64>,
    unanswered: u64,
    errors: BTreeMap<String, u64>,
    series: Series,
}

impl Counts {
    pub(crate) fn new(plan: &Plan, scenario: Scenario, window: Window, live: &Arc<Live>) -> Result<Self, Failure> {
        let mut tally = Tally::new(plan.orders.len());
        tally.to_platform = scenario == Scenario::Shipped;
        let histogram = || Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Ok(Self {
            tally,
            window,
            requests: 0,
            operations: 0,
            routes_us: Route::ALL.iter().map(|_| histogram()).collect::<Result<_, _>>()?,
            unsent_us: histogram()?,
            unanswered: 0,
            errors: BTreeMap::new(),
            series: Series::new(window, Arc::clone(live))?,
        })
    }

    /// Books what became of a request. `began` is when it was sent, or due; `is_measured` whether it is one of the
    /// measured time's requests. Its latency belongs to that time if it began in it, whenever it ended: else the longest
    /// were missing.
    pub(crate) fn book(
        &mut self,
        (call, route): (Call, Route),
        outcome: &Outcome,
        is_measured: bool,
        (began, now): (Instant, Instant),
    ) {
        let us = micros(now - began);
        let mut latency_us = None;
        match outcome {
            Outcome::Acknowledged => {
                self.tally.acknowledged(call);
                latency_us = Some(us);
            }
            Outcome::Unknown => self.tally.unknown(call),
            Outcome::Refused(code) => self.error(&code.to_string()),
            Outcome::NotSent => {}
        }
        if is_measured || now < self.window.end {
            self.series.ended(now, latency_us);
        }
        self.requests += u64::from(is_measured && !matches!(outcome, Outcome::NotSent));
        if latency_us.is_some() && self.window.holds(began) {
            self.routes_us[route as usize].saturating_record(us);
        }
    }

    /// new_order was answered 200, with this id.
    pub(crate) fn placed(&mut self, index: usize, order_id: OrderId) {
        self.tally.sampled.placed(index, order_id);
    }

    /// The measured time.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// An operation of the measured time is complete.
    pub(crate) fn operation_done(&mut self) {
        self.operations += 1;
    }

    /// Nobody will hear what became of a request.
    pub(crate) fn lost(&mut self, call: Call) {
        self.tally.unknown(call);
    }

    /// A request that began, or was due, at `began` was sent and never answered.
    pub(crate) fn unanswered(&mut self, began: Instant) {
        self.unanswered += u64::from(self.window.holds(began));
    }

    /// A request that was due at `due` was given up `now`: its latency would have been greater.
    pub(crate) fn unsent(&mut self, due: Instant, now: Instant) {
        self.error(NEVER_SENT);
        if self.window.holds(due) {
            self.unsent_us.saturating_record(micros(now - due));
        }
    }

    pub(crate) fn error(&mut self, kind: &str) {
        *self.errors.entry(kind.to_owned()).or_default() += 1;
    }

    /// The end, with the CPU times of server and client.
    pub(crate) fn finish(self, (server_cpu, client_cpu): (Option<Duration>, Option<Duration>)) -> Measured {
        let Self { tally, window, requests, operations, routes_us, unsent_us, unanswered, errors, series } = self;
        Measured {
            tally,
            requests,
            operations,
            routes_us,
            unsent_us,
            unanswered,
            errors,
            series: series.finish(),
            window: window.end - window.start,
            server_cpu,
            client_cpu,
        }
    }
}

/// CPU time of the server, with all processes that it has started, and of this process between the window's ends. Sleeps on the thread that calls, which should
/// be one of its own, so that the samples are not late when others are busy.
pub(crate) fn cpu_in(window: Window, server_pid: Option<u32>) -> (Option<Duration>, Option<Duration>) {
    let sample = || (server_pid.and_then(|pid| machine::tree_cpu_time(&[pid])), machine::cpu_time(std::process::id()));
    std::thread::sleep(window.start.saturating_duration_since(Instant::now()));
    let before = sample();
    std::thread::sleep(window.end.saturating_duration_since(Instant::now()));
    let after = sample();
    let spent = |before: Option<Duration>, after: Option<Duration>| Some(after?.saturating_sub(before?));
    (spent(before.0, after.0), spent(before.1, after.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::small_plan;

    #[test]
    fn a_latency_counts_where_it_began_and_a_request_where_it_ended() {
        let start = Instant::now();
        let window = Window { start, end: start + Duration::from_secs(1) };
        let order = crate::scenario::PreparedOrder {
            buyer: 0,
            store: 0,
            lines: vec![(0, 1)],
            total_fen: 10,
            request: crate::scenario::Prepared::of(b"order"),
        };
        let mut counts = Counts::new(&small_plan(vec![order]), Scenario::Paid, window, &Arc::default()).unwrap();
        let (early, late) = (start - Duration::from_millis(5), window.end + Duration::from_millis(700));
        let (from, to) = (start + Duration::from_millis(300), start + Duration::from_millis(400));
        for (began, now) in [(early, from), (from, to), (from, late), (window.end, late)] {
            counts.book((Call::Order(0), Route::NewOrder), &Outcome::Acknowledged, window.holds(now), (began, now));
        }
        let measured = counts.finish((None, None));
        let latency_us = &measured.routes_us[Route::NewOrder as usize];
        let ms: Vec<u64> = latency_us.iter_recorded().map(|it| it.value_iterated_to() / 10_000).collect();
        assert_eq!((measured.requests, ms), (2, vec![10, 140]), "the one that was cut off by the end is the longest");
        assert_eq!(measured.tally.ordered[0], 4);
    }

    #[test]
    fn what_was_never_sent_is_an_error_and_in_the_latency_of_all() {
        let start = Instant::now();
        let window = Window { start, end: start + Duration::from_secs(1) };
        let mut counts = Counts::new(&small_plan(Vec::new()), Scenario::Paid, window, &Arc::default()).unwrap();
        let given_up = window.end + Duration::from_secs(3);
        counts.unsent(start, given_up);
        counts.unsent(start - Duration::from_millis(1), given_up);
        let measured = counts.finish((None, None));
        assert_eq!(measured.errors, BTreeMap::from([(NEVER_SENT.to_owned(), 2)]), "that of the warm-up as well");
        let all_us = measured.all_us().unwrap();
        assert_eq!((all_us.len(), all_us.max() / 10_000, measured.requests), (1, 400, 0));
    }

    #[test]
    fn the_servers_children_are_in_its_cpu_time() {
        // The parent only waits.
        let mut server =
            std::process::Command::new("timeout").args(["2", "sh", "-c", "while :; do :; done"]).spawn().unwrap();
        let window = Window::after(Duration::from_millis(100), Duration::from_millis(900));
        let (server_cpu, client_cpu) = cpu_in(window, Some(server.id()));
        server.wait().unwrap();
        assert!(server_cpu.unwrap() >= Duration::from_millis(50) && client_cpu.is_some(), "{server_cpu:?}");
        assert_eq!(cpu_in(window, None).0, None);
    }
}
