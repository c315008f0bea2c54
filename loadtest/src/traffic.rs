//! What the open loop sends: the operations of a scenario, step by step, each step when a request is due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::args::Scenario;
use crate::audit::Tally;
use crate::calls::{Call, Route};
use crate::client::Answer;
use crate::counts::{Counts, Outcome};
use crate::drive::{NOT_CONNECTED, judge_answer, parse_order_id};
use crate::open::{Traffic, Verdict};
use crate::scenario::{OrderId, Plan, Random};

/// How long a client leaves a server alone that told it to come back later: the contract's `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who wants to know what became of the requests.
pub(crate) trait Ledger {
    /// A request that was due at `due` was answered `now`.
    fn answered(&mut self, call: (Call, Route), outcome: &Outcome, due: Instant, now: Instant);

    /// new_order was answered 200, with this id.
    fn placed(&mut self, index: usize, order_id: OrderId);

    /// The last step of an operation was answered 200; it was due at `due`.
    fn done(&mut self, due: Instant);

    /// Something that is not the outcome of a request; or, with its call, why there is none.
    fn trouble(&mut self, call: Option<(Call, Route)>, kind: &'static str, due: Instant);

    /// A request that was due at `due` was given up `now`, and never sent.
    fn never_sent(&mut self, due: Instant, now: Instant);
}

/// Only for the audit.
impl Ledger for Tally {
    fn answered(&mut self, (call, _): (Call, Route), outcome: &Outcome, _: Instant, _: Instant) {
        match outcome {
            Outcome::Acknowledged => self.acknowledged(call),
            Outcome::Unknown => self.unknown(call),
            Outcome::Refused(_) | Outcome::NotSent => {}
        }
    }

    fn placed(&mut self, index: usize, order_id: OrderId) {
        self.sampled.placed(index, order_id);
    }

    fn done(&mut self, _: Instant) {}

    fn trouble(&mut self, call: Option<(Call, Route)>, _: &'static str, _: Instant) {
        if let Some((call, _)) = call {
            self.unknown(call);
        }
    }

    fn never_sent(&mut self, _: Instant, _: Instant) {}
}

/// For the figures of a run: a request belongs to the time in which it was due.
impl Ledger for Counts {
    fn answered(&mut self, call: (Call, Route), outcome: &Outcome, due: Instant, now: Instant) {
        self.book(call, outcome, self.window().holds(due), (due, now));
    }

    fn placed(&mut self, index: usize, order_id: OrderId) {
        self.placed(index, order_id);
    }

    fn done(&mut self, due: Instant) {
        if self.window().holds(due) {
            self.operation_done();
        }
    }

    fn trouble(&mut self, call: Option<(Call, Route)>, kind: &'static str, due: Instant) {
        if let Some(call) = call {
            self.book(call, &Outcome::Unknown, self.window().holds(due), (due, Instant::now()));
            self.unanswered(due);
        }
        self.error(kind);
    }

    fn never_sent(&mut self, due: Instant, now: Instant) {
        self.unsent(due, now);
    }
}

/// Places orders and does with each what the scenario says: a step that was refused is sent again when the server said
/// so. So the server has as many payments as orders to do, however much it refuses, and what it holds stays as large.
pub(crate) struct Shop<L> {
    plan: Arc<Plan>,
    scenario: Scenario,
    random: Random,
    /// Steps to do, by the moment from which they may be.
    ahead: VecDeque<(Instant, Call)>,
    /// Steps that were refused, the same.
    refused: VecDeque<(Instant, Call)>,
    /// The order that was placed last.
    last: Option<(usize, OrderId)>,
    pub(crate) ledger: L,
}

impl<L: Ledger> Shop<L> {
    pub(crate) fn new(plan: Arc<Plan>, scenario: Scenario, seed: u64, ledger: L) -> Self {
        let (ahead, refused) = (VecDeque::new(), VecDeque::new());
        Self { plan, scenario, random: Random::new(seed), ahead, refused, last: None, ledger }
    }

    /// A request was answered 200.
    fn acknowledged(&mut self, due: Instant, now: Instant, call: Call, body: &[u8]) -> Verdict {
        let order_id = match call {
            Call::Order(index) => {
                let Some(order_id) = parse_order_id(body) else {
                    let kind = "200 without an order id";
                    self.ledger.trouble(None, kind, due);
                    return Verdict::Wrong(kind);
                };
                self.ledger.placed(index, order_id);
                self.last = Some((index, order_id));
                Some(order_id)
            }
            _ => None,
        };
        match call.followed_by(self.scenario, order_id) {
            Some(next) => self.ahead.push_back((now, next)),
            None if !call.only_looks() => self.ledger.done(due),
            None => {}
        }
        Verdict::Accepted
    }
}

impl<L: Ledger> Traffic for Shop<L> {
    type Call = Call;

    fn next(&mut self, now: Instant, request: &mut Vec<u8>) -> Call {
        let waiting = [&mut self.refused, &mut self.ahead].into_iter().find_map(|queue| {
            let may_be = queue.front().is_some_and(|(from, _)| *from <= now);
            if may_be { queue.pop_front() } else { None }
        });
        let call = waiting.map_or_else(|| self.plan.next(&mut self.random, self.last), |(_, call)| call);
        self.plan.write(call, request);
        call
    }

    fn answered(&mut self, due: Instant, now: Instant, call: Call, answer: &Answer<'_>) -> Verdict {
        let (outcome, trouble) = judge_answer(answer);
        self.ledger.answered((call, self.plan.route(call)), &outcome, due, now);
        if let Some(kind) = trouble {
            self.ledger.trouble(None, kind, due);
        }
        match outcome {
            Outcome::Acknowledged => self.acknowledged(due, now, call, answer.body),
            Outcome::Refused(503) => {
                // An order that was refused is forgotten: there are more.
                if !matches!(call, Call::Order(_)) && !call.only_looks() {
                    self.refused.push_back((now + RETRY_AFTER, call));
                }
                if answer.retry_after { Verdict::Refused } else { Verdict::Wrong("503 without Retry-After") }
            }
            Outcome::Refused(429) => Verdict::Wrong("429"),
            _ => Verdict::Wrong(trouble.unwrap_or("another status")),
        }
    }

    fn lost(&mut self, due: Instant, call: Call, kind: &'static str) {
        self.ledger.trouble(Some((call, self.plan.route(call))), kind, due);
    }

    fn not_connected(&mut self, now: Instant) {
        self.ledger.trouble(None, NOT_CONNECTED, now);
    }

    fn never_sent(&mut self, due: Instant, now: Instant) {
        self.ledger.never_sent(due, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::contains;
    use crate::scenario::tests::small_plan;
    use crate::scenario::{Prepared, PreparedOrder};

    const ID: &[u8] = br#"{"code":200,"message":"ok","order_id":"01234567-89ab-7cde-8f01-23456789abcd"}"#;

    fn answer(status: u16, body: &[u8], retry_after: bool) -> Answer<'_> {
        Answer { status, body, retry_after }
    }

    fn paid() -> Shop<Tally> {
        let (request, lines) = (Prepared::of(b"order"), vec![(0, 1)]);
        let order = PreparedOrder { buyer: 0, store: 0, lines, total_fen: 10, request };
        Shop::new(Arc::new(small_plan(vec![order])), Scenario::Paid, 1, Tally::new(1))
    }

    #[test]
    fn an_order_is_paid_next_and_again_after_a_refusal() {
        let mut paid = paid();
        let (now, mut request) = (Instant::now(), Vec::new());
        let order = paid.next(now, &mut request);
        assert!(matches!(order, Call::Order(0)) && request == b"order");
        assert_eq!(paid.answered(now, now, order, &answer(200, ID, false)), Verdict::Accepted);

        request.clear();
        let payment = paid.next(now, &mut request);
        assert!(matches!(payment, Call::Payment(0, _)) && contains(&request, b"/buyer/payment"));
        assert_eq!(paid.answered(now, now, payment, &answer(503, b"{}", true)), Verdict::Refused);
        assert!(matches!(paid.next(now, &mut Vec::new()), Call::Order(0)), "not at once");
        let again = paid.next(now + RETRY_AFTER, &mut Vec::new());
        assert!(matches!(again, Call::Payment(0, _)));
        assert_eq!(paid.answered(now, now, again, &answer(200, b"{}", false)), Verdict::Accepted);
        assert_eq!((paid.ledger.ordered[0], paid.ledger.paid[0]), (1, 1));
    }

    #[test]
    fn what_is_not_refused_by_the_book_is_wrong() {
        let mut paid = paid();
        let now = Instant::now();
        let wrong = |verdict| matches!(verdict, Verdict::Wrong(_));
        assert!(wrong(paid.answered(now, now, Call::Order(0), &answer(503, b"overloaded", false))), "no Retry-After");
        assert!(wrong(paid.answered(now, now, Call::Order(0), &answer(517, b"", false))));
        assert_eq!(paid.ledger.ordered_unknown[0], 0);
        assert!(wrong(paid.answered(now, now, Call::Order(0), &answer(503, b"outcome unknown", false))));
        assert_eq!((paid.ledger.ordered[0], paid.ledger.ordered_unknown[0]), (0, 1));
    }
}
