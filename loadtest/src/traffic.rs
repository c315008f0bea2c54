//! What the open loop sends: orders and their payments.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::audit::Tally;
use crate::client::Answer;
use crate::drive::{contains, parse_order_id};
use crate::open::{Traffic, Verdict};
use crate::scenario::{OrderId, Plan, Random};

/// How long a client leaves a server alone that told it to come back later: the contract's `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Places orders and pays each of them: a payment that was refused is sent again when the server said so. So the
/// server has as many payments as orders to do, however much it refuses, and what it holds stays as large.
pub(crate) struct Paid {
    plan: Arc<Plan>,
    random: Random,
    /// Orders to pay, by the moment from which they may be.
    unpaid: VecDeque<(Instant, usize, OrderId)>,
    /// Orders whose payment was refused, the same.
    refused: VecDeque<(Instant, usize, OrderId)>,
    /// For the audit.
    pub(crate) tally: Tally,
}

impl Paid {
    pub(crate) fn new(plan: Arc<Plan>, seed: u64) -> Self {
        let tally = Tally::new(plan.orders.len());
        Self { plan, random: Random::new(seed), unpaid: VecDeque::new(), refused: VecDeque::new(), tally }
    }
}

/// A request under way, by the index of its prepared order.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    Order(usize),
    Payment(usize, OrderId),
}

impl Traffic for Paid {
    type Call = Call;

    fn next(&mut self, now: Instant, request: &mut Vec<u8>) -> Call {
        for queue in [&mut self.refused, &mut self.unpaid] {
            if queue.front().is_some_and(|(from, ..)| *from <= now)
                && let Some((_, index, order_id)) = queue.pop_front()
            {
                self.plan.payment_request(self.plan.orders[index].buyer, &order_id, request);
                return Call::Payment(index, order_id);
            }
        }
        let index = self.random.index(self.plan.orders.len());
        self.plan.order_request(index, request);
        Call::Order(index)
    }

    fn answered(&mut self, now: Instant, call: Call, answer: &Answer<'_>) -> Verdict {
        match (answer.status, call) {
            (200, Call::Order(index)) => {
                self.tally.ordered[index] += 1;
                let Some(order_id) = parse_order_id(answer.body) else {
                    return Verdict::Wrong("200 without an order id");
                };
                self.unpaid.push_back((now, index, order_id));
                Verdict::Accepted
            }
            (200, Call::Payment(index, _)) => {
                self.tally.paid[index] += 1;
                Verdict::Accepted
            }
            (503, _) if contains(answer.body, b"outcome unknown") => {
                self.lost(call);
                Verdict::Wrong("503 outcome unknown")
            }
            (503, _) => {
                if let Call::Payment(index, order_id) = call {
                    self.refused.push_back((now + RETRY_AFTER, index, order_id));
                }
                if answer.retry_after { Verdict::Refused } else { Verdict::Wrong("503 without Retry-After") }
            }
            (429, _) => Verdict::Wrong("429"),
            _ => Verdict::Wrong("another status"),
        }
    }

    fn lost(&mut self, call: Call) {
        match call {
            Call::Order(index) => self.tally.ordered_unknown[index] += 1,
            Call::Payment(index, _) => self.tally.paid_unknown[index] += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::small_plan;
    use crate::scenario::{Prepared, PreparedOrder};

    const ID: &[u8] = br#"{"code":200,"message":"ok","order_id":"01234567-89ab-7cde-8f01-23456789abcd"}"#;

    fn answer(status: u16, body: &[u8], retry_after: bool) -> Answer<'_> {
        Answer { status, body, retry_after }
    }

    fn paid() -> Paid {
        let (request, lines) = (Prepared::of(b"order"), vec![(0, 1)]);
        let order = PreparedOrder { buyer: 0, store: 0, lines, total_fen: 10, request };
        Paid::new(Arc::new(small_plan(vec![order])), 1)
    }

    #[test]
    fn an_order_is_paid_next_and_again_after_a_refusal() {
        let mut paid = paid();
        let (now, mut request) = (Instant::now(), Vec::new());
        let order = paid.next(now, &mut request);
        assert!(matches!(order, Call::Order(0)) && request == b"order");
        assert_eq!(paid.answered(now, order, &answer(200, ID, false)), Verdict::Accepted);

        request.clear();
        let payment = paid.next(now, &mut request);
        assert!(matches!(payment, Call::Payment(0, _)) && contains(&request, b"/buyer/payment"));
        assert_eq!(paid.answered(now, payment, &answer(503, b"{}", true)), Verdict::Refused);
        assert!(matches!(paid.next(now, &mut Vec::new()), Call::Order(0)), "not at once");
        let again = paid.next(now + RETRY_AFTER, &mut Vec::new());
        assert!(matches!(again, Call::Payment(0, _)));
        assert_eq!(paid.answered(now, again, &answer(200, b"{}", false)), Verdict::Accepted);
        assert_eq!((paid.tally.ordered[0], paid.tally.paid[0]), (1, 1));
    }

    #[test]
    fn what_is_not_refused_by_the_book_is_wrong() {
        let mut paid = paid();
        let now = Instant::now();
        let wrong = |verdict| matches!(verdict, Verdict::Wrong(_));
        assert!(wrong(paid.answered(now, Call::Order(0), &answer(503, b"overloaded", false))), "no Retry-After");
        assert!(wrong(paid.answered(now, Call::Order(0), &answer(517, b"", false))));
        assert_eq!(paid.tally.ordered_unknown[0], 0);
        assert!(wrong(paid.answered(now, Call::Order(0), &answer(503, b"outcome unknown", false))));
        assert_eq!((paid.tally.ordered[0], paid.tally.ordered_unknown[0]), (0, 1));
    }
}
