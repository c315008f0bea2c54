//! The closed loop: each connection sends a request, waits for its answer, keeps count, and sends the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Deserialize;

use crate::Failure;
use crate::args::{Load, Pace, Scenario};
use crate::audit::Tally;
use crate::client::{Answer, Client, NoAnswer};
use crate::machine;
use crate::scenario::{ORDER_ID_BYTES, OrderId, Plan, Random};

/// Latencies above a minute are counted as a minute.
pub(crate) const LATENCY_US_MAX: u64 = 60_000_000;
/// Pause after a connection was refused, so that a server that is away is not hammered.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// What a run measured.
pub(crate) struct Measured {
    /// What all connections counted.
    pub(crate) counts: Counts,
    /// The measured time.
    pub(crate) window: Duration,
    /// CPU time of the server in the measured time, if its process is known.
    pub(crate) server_cpu: Option<Duration>,
    /// CPU time of this process in the measured time.
    pub(crate) client_cpu: Option<Duration>,
}

/// The counts of all connections together. One for all, because a thousand histograms would not fit in a cache;
/// the lock is held for some 50 ns a request.
pub(crate) struct Counts {
    /// What was acknowledged, warm-up included: the audit's side of the account.
    pub(crate) tally: Tally,
    /// Requests that ended in the measured time, whatever the answer.
    pub(crate) requests: u64,
    /// Whole operations of the scenario that succeeded in the measured time.
    pub(crate) operations: u64,
    /// µs of acknowledged new_orders that began and ended in the measured time.
    pub(crate) new_order_us: Histogram<u64>,
    /// The same for payments.
    pub(crate) payment_us: Histogram<u64>,
    /// The same for refunds.
    pub(crate) refund_us: Histogram<u64>,
    /// Everything but success, by code or kind, warm-up included.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Counts {
    fn new(orders: usize) -> Result<Self, Failure> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Ok(Self {
            tally: Tally::new(orders),
            requests: 0,
            operations: 0,
            new_order_us: histogram()?,
            payment_us: histogram()?,
            refund_us: histogram()?,
            errors: BTreeMap::new(),
        })
    }

    fn acknowledged(&mut self, what: Pending) {
        match what {
            Pending::Order(index) => self.tally.ordered[index] += 1,
            Pending::Payment(index) => self.tally.paid[index] += 1,
            Pending::Refund(index) => self.tally.refunded[index] += 1,
            Pending::Shipping(index) => self.tally.shipped[index] += 1,
        }
    }

    fn unknown(&mut self, what: Pending) {
        match what {
            Pending::Order(index) => self.tally.ordered_unknown[index] += 1,
            Pending::Payment(index) => self.tally.paid_unknown[index] += 1,
            Pending::Refund(index) => self.tally.refunded_unknown[index] += 1,
            Pending::Shipping(index) => self.tally.shipped_unknown[index] += 1,
        }
    }

    fn latency(&mut self, what: Pending, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        match what {
            Pending::Order(_) => self.new_order_us.saturating_record(us),
            Pending::Payment(_) => self.payment_us.saturating_record(us),
            Pending::Refund(_) => self.refund_us.saturating_record(us),
            Pending::Shipping(_) => {}
        }
    }

    fn error(&mut self, kind: &str) {
        *self.errors.entry(kind.to_owned()).or_default() += 1;
    }
}

/// The measured time; before it is warm-up.
#[derive(Clone, Copy)]
struct Window {
    start: Instant,
    end: Instant,
}

/// Loads the server as `load` says and counts.
pub(crate) async fn drive(
    plan: &Arc<Plan>,
    load: &Load,
    pace: Pace,
    scenario: Scenario,
    server_pid: Option<u32>,
) -> Result<Measured, Failure> {
    let start = Instant::now() + load.warmup;
    let window = Window { start, end: start + pace.duration };
    let give_up = tokio::time::Instant::from_std(window.end + load.timeout);
    let mut counts = Counts::new(plan.orders.len())?;
    counts.tally.to_platform = scenario == Scenario::Shipped;
    let counts = Arc::new(Mutex::new(counts));
    let connections: Vec<_> = (0..u64::from(pace.connections))
        .map(|number| {
            let random = Random::new(load.seed ^ (number << 32));
            let mut connection = Connection::new(Arc::clone(plan), scenario, window, random, Arc::clone(&counts));
            tokio::spawn(async move {
                if tokio::time::timeout_at(give_up, connection.work()).await.is_err() {
                    connection.abandon();
                }
            })
        })
        .collect();
    let (server_cpu, client_cpu) = tokio::task::spawn_blocking(move || cpu_in(window, server_pid)).await?;
    for connection in connections {
        connection.await?;
    }
    let counts = Arc::into_inner(counts).ok_or("a connection outlived the run")?;
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Measured { counts, window: pace.duration, server_cpu, client_cpu })
}

/// CPU time of the server and of this process between the window's ends. Sleeps on a thread of its own, so that the
/// samples are not late when the runtime's threads are busy.
fn cpu_in(window: Window, server_pid: Option<u32>) -> (Option<Duration>, Option<Duration>) {
    let sample = || (server_pid.and_then(machine::cpu_time), machine::cpu_time(std::process::id()));
    std::thread::sleep(window.start.saturating_duration_since(Instant::now()));
    let before = sample();
    std::thread::sleep(window.end.saturating_duration_since(Instant::now()));
    let after = sample();
    let spent = |before: Option<Duration>, after: Option<Duration>| Some(after?.saturating_sub(before?));
    (spent(before.0, after.0), spent(before.1, after.1))
}

/// The request that is under way, by the index of its prepared order.
#[derive(Clone, Copy)]
enum Pending {
    Order(usize),
    Payment(usize),
    Refund(usize),
    Shipping(usize),
}

/// What the server said, or did not say.
enum Outcome {
    /// Done.
    Acknowledged,
    /// Answered with this status: not done, and no trace left.
    Refused(u16),
    /// No request reached the server.
    NotSent,
    /// Done or not.
    Unknown,
}

/// One connection of the load.
struct Connection {
    plan: Arc<Plan>,
    scenario: Scenario,
    window: Window,
    client: Client,
    random: Random,
    /// The request being sent.
    request: Vec<u8>,
    /// So that a request cut off by the run's end is counted as unknown.
    pending: Option<Pending>,
    counts: Arc<Mutex<Counts>>,
}

impl Connection {
    fn new(plan: Arc<Plan>, scenario: Scenario, window: Window, random: Random, counts: Arc<Mutex<Counts>>) -> Self {
        let client = Client::new(plan.target.address, plan.mode);
        Self { plan, scenario, window, client, random, request: Vec::new(), pending: None, counts }
    }

    /// Works until the window's end; the answer under way then is still waited for.
    async fn work(&mut self) {
        let mut began = Instant::now();
        while began < self.window.end {
            let index = self.random.index(self.plan.orders.len());
            let (mut now, order_id) = self.new_order(index, began).await;
            let mut done = order_id.is_some();
            if let (Some(order_id), Scenario::Paid | Scenario::Refunded | Scenario::Shipped) = (order_id, self.scenario)
            {
                (now, done) = self.on_order(Pending::Payment(index), &order_id, now).await;
                let next = match self.scenario {
                    Scenario::Refunded => Some(Pending::Refund(index)),
                    Scenario::Shipped => Some(Pending::Shipping(index)),
                    Scenario::Paid | Scenario::NewOrder => None,
                };
                if let Some(next) = next.filter(|_| done) {
                    (now, done) = self.on_order(next, &order_id, now).await;
                }
            }
            if done && self.measured(now) {
                self.counts().operations += 1;
            }
            began = now;
        }
    }

    async fn new_order(&mut self, index: usize, began: Instant) -> (Instant, Option<OrderId>) {
        self.pending = Some(Pending::Order(index));
        self.plan.order_request(index, &mut self.request);
        let (outcome, error, order_id) = self.exchange().await;
        let now = Instant::now();
        if !self.book(&outcome, error, began, now).await {
            return (Instant::now(), None);
        }
        if order_id.is_none() {
            self.counts().error("200 without an order id");
        }
        (now, order_id)
    }

    /// Pays, refunds or ships.
    async fn on_order(&mut self, pending: Pending, order_id: &OrderId, began: Instant) -> (Instant, bool) {
        self.pending = Some(pending);
        let (plan, request) = (&self.plan, &mut self.request);
        let buyer = |index: usize| plan.orders[index].buyer;
        match pending {
            Pending::Order(_) => {}
            Pending::Payment(index) if self.scenario == Scenario::Shipped => {
                plan.platform_request(buyer(index), order_id, request);
            }
            Pending::Payment(index) => plan.payment_request(buyer(index), order_id, request),
            Pending::Refund(index) => plan.refund_request(buyer(index), order_id, request),
            Pending::Shipping(index) => plan.shipping_request(plan.orders[index].store, order_id, request),
        }
        let (mut outcome, error, _) = self.exchange().await;
        // Shipping has no key and needs none: nobody else ships this order, so who is told that it is shipped did it.
        if matches!((pending, &outcome), (Pending::Shipping(_), Outcome::Refused(529))) {
            outcome = Outcome::Acknowledged;
        }
        let now = Instant::now();
        if self.book(&outcome, error, began, now).await { (now, true) } else { (Instant::now(), false) }
    }

    /// Sends the request. If its outcome is not told and it has a key, it is sent again until one is.
    async fn exchange(&mut self) -> (Outcome, Option<&'static str>, Option<OrderId>) {
        let mut may_be_done = false;
        loop {
            let answer = self.client.exchange(&self.request).await;
            let (outcome, error) = judge(&answer);
            may_be_done |= matches!(outcome, Outcome::Unknown);
            let is_settled = match outcome {
                Outcome::Acknowledged => true,
                Outcome::Refused(code) => code != 503 || !may_be_done,
                Outcome::NotSent => !may_be_done,
                Outcome::Unknown => !self.plan.keys,
            };
            if is_settled {
                return (outcome, error, answer.ok().and_then(|answer| parse_order_id(answer.body)));
            }
            self.counts().error("sent again under its key");
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Books the outcome of the pending request; whether it was acknowledged.
    async fn book(&mut self, outcome: &Outcome, error: Option<&'static str>, began: Instant, now: Instant) -> bool {
        let Some(pending) = self.pending.take() else {
            return false;
        };
        let not_connected = error == Some(NOT_CONNECTED);
        let acknowledged = matches!(outcome, Outcome::Acknowledged);
        {
            let measured = self.measured(now);
            let mut counts = self.counts();
            counts.requests += u64::from(measured && !not_connected);
            match outcome {
                Outcome::Acknowledged => counts.acknowledged(pending),
                Outcome::Unknown => counts.unknown(pending),
                Outcome::Refused(code) => counts.error(&code.to_string()),
                Outcome::NotSent => {}
            }
            if let Some(kind) = error {
                counts.error(kind);
            }
            if acknowledged && measured && began >= self.window.start {
                counts.latency(pending, now - began);
            }
        }
        if not_connected {
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
        acknowledged
    }

    /// The run's patience has ended while an answer was still awaited.
    fn abandon(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.counts().unknown(pending);
        }
        self.counts().error("no answer until the time-out");
    }

    /// Whether `now` lies in the window.
    fn measured(&self, now: Instant) -> bool {
        self.window.start <= now && now < self.window.end
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind of error that says no connection came about.
const NOT_CONNECTED: &str = "cannot connect";

/// What an exchange did, and the kind of trouble if it is not a plain answer.
fn judge(answer: &Result<Answer<'_>, NoAnswer>) -> (Outcome, Option<&'static str>) {
    match answer {
        Ok(Answer { status: 200, .. }) => (Outcome::Acknowledged, None),
        // The one refusal that is none: the server could not find out whether its journal has it.
        Ok(Answer { status: 503, body, .. }) if contains(body, b"outcome unknown") => {
            (Outcome::Unknown, Some("503 outcome unknown"))
        }
        Ok(Answer { status, .. }) => (Outcome::Refused(*status), None),
        Err(NoAnswer::NotSent(_)) => (Outcome::NotSent, Some(NOT_CONNECTED)),
        Err(NoAnswer::Lost(_)) => (Outcome::Unknown, Some("connection lost")),
    }
}

pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

pub(crate) fn parse_order_id(body: &[u8]) -> Option<OrderId> {
    #[derive(Deserialize)]
    struct Body<'a> {
        order_id: &'a str,
    }
    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    <[u8; ORDER_ID_BYTES]>::try_from(body.order_id.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_ids_are_found_wherever_they_stand() {
        let id = "01234567-89ab-7cde-8f01-23456789abcd";
        let found = |body: String| parse_order_id(body.as_bytes());
        assert_eq!(
            found(format!(r#"{{"code": 200, "message": "ok", "order_id": "{id}"}}"#)).as_ref().map(|id| &id[..]),
            Some(id.as_bytes())
        );
        assert_eq!(found(format!(r#"{{"order_id":"{id}x"}}"#)), None);
        assert_eq!(found(r#"{"code": 200}"#.to_owned()), None);
        assert_eq!(found("ok".to_owned()), None);
    }

    #[test]
    fn only_an_unknown_outcome_is_unknown() {
        let judged = |status, body: &[u8]| judge(&Ok(Answer { status, body, retry_after: false }));
        assert!(matches!(judged(200, b""), (Outcome::Acknowledged, None)));
        assert!(matches!(judged(517, b""), (Outcome::Refused(517), None)));
        assert!(matches!(judged(503, br#"{"message": "overloaded"}"#), (Outcome::Refused(503), None)));
        assert!(matches!(judged(503, br#"{"message": "outcome unknown"}"#), (Outcome::Unknown, Some(_))));
        assert!(matches!(judge(&Err(NoAnswer::Lost(String::new()))), (Outcome::Unknown, Some(_))));
        let refused = NoAnswer::NotSent(std::io::ErrorKind::ConnectionRefused.into());
        assert!(matches!(judge(&Err(refused)), (Outcome::NotSent, Some(NOT_CONNECTED))));
    }
}
