//! The closed loop: each connection sends a request, waits for its answer, keeps count, and sends the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::Failure;
use crate::args::{Load, Pace, Scenario};
use crate::calls::Call;
use crate::client::{Answer, Client, NoAnswer};
use crate::counts::{Counts, Measured, Outcome, Window, cpu_in};
use crate::live::Live;
use crate::scenario::{ORDER_ID_BYTES, OrderId, Plan, Random};

/// Pause after a connection was refused, so that a server that is away is not hammered.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// Loads the server as `load` says and counts.
pub(crate) async fn drive(
    plan: &Arc<Plan>,
    load: &Load,
    pace: Pace,
    scenario: Scenario,
    server_pid: Option<u32>,
) -> Result<Measured, Failure> {
    let window = Window::after(load.warmup, pace.duration);
    drive_shown(plan, load, pace.connections, scenario, server_pid, window, &Arc::default()).await
}

/// The same, measured in `window`; `live` is told how it goes.
pub(crate) async fn drive_shown(
    plan: &Arc<Plan>,
    load: &Load,
    connections: u32,
    scenario: Scenario,
    server_pid: Option<u32>,
    window: Window,
    live: &Arc<Live>,
) -> Result<Measured, Failure> {
    live.load_begins(window.start, window.end);
    let give_up = tokio::time::Instant::from_std(window.end + load.timeout);
    let counts = Arc::new(Mutex::new(Counts::new(plan, scenario, window, live)?));
    let connections: Vec<_> = (0..u64::from(connections))
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
    let cpu = tokio::task::spawn_blocking(move || cpu_in(window, server_pid)).await?;
    for connection in connections {
        connection.await?;
    }
    let counts = Arc::into_inner(counts).ok_or("a connection outlived the run")?;
    Ok(counts.into_inner().unwrap_or_else(PoisonError::into_inner).finish(cpu))
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
    /// So that a request cut off by the run's end is counted as unknown; and when it began.
    pending: Option<(Call, Instant)>,
    /// The order that was placed last.
    last: Option<(usize, OrderId)>,
    counts: Arc<Mutex<Counts>>,
}

impl Connection {
    fn new(plan: Arc<Plan>, scenario: Scenario, window: Window, random: Random, counts: Arc<Mutex<Counts>>) -> Self {
        let client = Client::new(plan.target.address, plan.mode);
        let (request, pending, last) = (Vec::new(), None, None);
        Self { plan, scenario, window, client, random, request, pending, last, counts }
    }

    /// Works until the window's end; the answer under way then is still waited for.
    async fn work(&mut self) {
        let mut began = Instant::now();
        while began < self.window.end {
            let mut call = self.plan.next(&mut self.random, self.last);
            loop {
                let (now, next, done) = self.step(call, began).await;
                began = now;
                match next {
                    Some(next) => call = next,
                    None if done && self.window.holds(now) && !call.only_looks() => {
                        break self.counts().operation_done();
                    }
                    None => break,
                }
            }
        }
    }

    /// Sends a request and books what becomes of it: when that was, what follows, and whether it was done.
    async fn step(&mut self, call: Call, began: Instant) -> (Instant, Option<Call>, bool) {
        self.pending = Some((call, began));
        self.plan.write(call, &mut self.request);
        let (mut outcome, error, order_id) = self.exchange(call).await;
        // Shipping has no key and needs none: nobody else ships this order, so who is told that it is shipped did it.
        if matches!((call, &outcome), (Call::Shipping(..), Outcome::Refused(529))) {
            outcome = Outcome::Acknowledged;
        }
        let now = Instant::now();
        self.pending = None;
        {
            let mut counts = self.counts();
            counts.book((call, self.plan.route(call)), &outcome, self.window.holds(now), (began, now));
            if let Some(kind) = error {
                counts.error(kind);
            }
            if error == Some(CONNECTION_LOST) {
                counts.unanswered(began);
            }
            if let (Call::Order(index), Outcome::Acknowledged, Some(order_id)) = (call, &outcome, order_id) {
                counts.placed(index, order_id);
            }
        }
        if !matches!(outcome, Outcome::Acknowledged) {
            if error == Some(NOT_CONNECTED) {
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
            return (Instant::now(), None, false);
        }
        if let Call::Order(index) = call {
            let Some(order_id) = order_id else {
                self.counts().error("200 without an order id");
                return (now, None, false);
            };
            self.last = Some((index, order_id));
        }
        (now, call.followed_by(self.scenario, order_id), true)
    }

    /// Sends the request. If its outcome is not told and it has a key, it is sent again until one is.
    async fn exchange(&mut self, call: Call) -> (Outcome, Option<&'static str>, Option<OrderId>) {
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
                let order_id = match (call, answer) {
                    (Call::Order(_), Ok(answer)) => parse_order_id(answer.body),
                    _ => None,
                };
                return (outcome, error, order_id);
            }
            self.counts().error("sent again under its key");
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// The run's patience has ended while an answer was still awaited.
    fn abandon(&mut self) {
        let pending = self.pending.take();
        let mut counts = self.counts();
        if let Some((pending, began)) = pending {
            counts.lost(pending);
            counts.unanswered(began);
        }
        counts.error("no answer until the time-out");
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind of error that says no connection came about.
pub(crate) const NOT_CONNECTED: &str = "cannot connect";
/// The kind of error that says an answer did not come, or not whole.
const CONNECTION_LOST: &str = "connection lost";

/// What an exchange did, and the kind of trouble if it is not a plain answer.
fn judge(answer: &Result<Answer<'_>, NoAnswer>) -> (Outcome, Option<&'static str>) {
    match answer {
        Ok(answer) => judge_answer(answer),
        Err(NoAnswer::NotSent(_)) => (Outcome::NotSent, Some(NOT_CONNECTED)),
        Err(NoAnswer::Lost(_)) => (Outcome::Unknown, Some(CONNECTION_LOST)),
    }
}

/// The same for an answer that is there.
pub(crate) fn judge_answer(answer: &Answer<'_>) -> (Outcome, Option<&'static str>) {
    match answer {
        Answer { status: 200, .. } => (Outcome::Acknowledged, None),
        // The one refusal that is none: the server could not find out whether its journal has it.
        Answer { status: 503, body, .. } if contains(body, b"outcome unknown") => {
            (Outcome::Unknown, Some("503 outcome unknown"))
        }
        Answer { status, .. } => (Outcome::Refused(*status), None),
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
