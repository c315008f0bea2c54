//! What stock, balances and single orders must be after a run, and whether the server agrees.
//!
//! Acknowledged operations must show exactly. An operation with an unknown outcome may have been done or not, so
//! it widens what is permitted from a number to a range.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Failure;
use crate::api::{Api, ORDER_STATUS, OrderTold};
use crate::calls::Call;
use crate::sampled::{Known, Sampled};
use crate::scenario::{OrderId, Plan, User};

/// How long an audit waits for orders that are confirmed by themselves.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(60);
/// Disagreements listed by name; more are only counted.
const LISTED_MAX: usize = 20;

/// How often each prepared order was placed, paid and refunded, by its index.
pub(crate) struct Tally {
    /// Answered 200.
    pub(crate) ordered: Vec<u64>,
    /// Perhaps done.
    pub(crate) ordered_unknown: Vec<u64>,
    /// Answered 200.
    pub(crate) paid: Vec<u64>,
    /// Perhaps done.
    pub(crate) paid_unknown: Vec<u64>,
    /// Answered 200.
    pub(crate) refunded: Vec<u64>,
    /// Perhaps done.
    pub(crate) refunded_unknown: Vec<u64>,
    /// The payments went to the platform: a seller has the money when his order is confirmed, which it is by itself.
    pub(crate) to_platform: bool,
    /// How often it was shipped: answered 200.
    pub(crate) shipped: Vec<u64>,
    /// Perhaps done.
    pub(crate) shipped_unknown: Vec<u64>,
    /// Some of the orders by their ids.
    pub(crate) sampled: Sampled,
}

impl Tally {
    /// Nothing done yet.
    pub(crate) fn new(orders: usize) -> Self {
        let zeros = || vec![0; orders];
        Self {
            ordered: zeros(),
            ordered_unknown: zeros(),
            paid: zeros(),
            paid_unknown: zeros(),
            refunded: zeros(),
            refunded_unknown: zeros(),
            to_platform: false,
            shipped: zeros(),
            shipped_unknown: zeros(),
            sampled: Sampled::new(),
        }
    }

    /// It was answered 200.
    pub(crate) fn acknowledged(&mut self, call: Call) {
        self.sampled.acknowledged(call);
        if let Some([acknowledged, _]) = self.counts_of(call) {
            *acknowledged += 1;
        }
    }

    /// It was perhaps done.
    pub(crate) fn unknown(&mut self, call: Call) {
        self.sampled.unknown(call);
        if let Some([_, unknown]) = self.counts_of(call) {
            *unknown += 1;
        }
    }

    /// How often such a call was acknowledged, and how often it was perhaps done; none if it changes nothing.
    fn counts_of(&mut self, call: Call) -> Option<[&mut u64; 2]> {
        let (acknowledged, unknown, index) = match call {
            Call::Order(index) => (&mut self.ordered, &mut self.ordered_unknown, index),
            Call::Payment(index, _) | Call::ToPlatform(index, _) => (&mut self.paid, &mut self.paid_unknown, index),
            Call::Refund(index, _) => (&mut self.refunded, &mut self.refunded_unknown, index),
            Call::Shipping(index, _) => (&mut self.shipped, &mut self.shipped_unknown, index),
            Call::Status(..) | Call::Look(_) => return None,
        };
        Some([&mut acknowledged[index], &mut unknown[index]])
    }

    fn unknown_outcomes(&self) -> u64 {
        [&self.ordered_unknown, &self.paid_unknown, &self.refunded_unknown, &self.shipped_unknown]
            .into_iter()
            .flatten()
            .sum()
    }
}

/// What a number may be: both ends included. Wide integers, so that no sum of them can overflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Permitted {
    min: i128,
    max: i128,
}

impl Permitted {
    fn exactly(value: i64) -> Self {
        Self { min: value.into(), max: value.into() }
    }

    /// `known` times `amount` have left for certain, `unknown` times perhaps.
    fn take(&mut self, amount: i64, known: u64, unknown: u64) {
        let (known, unknown) = (i128::from(amount) * i128::from(known), i128::from(amount) * i128::from(unknown));
        self.min -= known + unknown;
        self.max -= known;
    }

    /// `known` times `amount` have come for certain, `unknown` times perhaps.
    fn give(&mut self, amount: i64, known: u64, unknown: u64) {
        let (known, unknown) = (i128::from(amount) * i128::from(known), i128::from(amount) * i128::from(unknown));
        self.min += known;
        self.max += known + unknown;
    }

    fn allows(self, value: i64) -> bool {
        (self.min..=self.max).contains(&value.into())
    }
}

impl fmt::Display for Permitted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { write!(out, "{}", self.min) } else { write!(out, "{}..{}", self.min, self.max) }
    }
}

/// What the server must say now.
#[derive(PartialEq, Eq, Debug)]
struct Expected {
    /// Stock level by store and book.
    stock: Vec<Vec<Permitted>>,
    /// Balance in fen by buyer.
    buyers: Vec<Permitted>,
    /// Balance in fen of each store's owner.
    sellers: Vec<Permitted>,
    /// What the platform holds, in fen.
    held: Permitted,
}

impl Expected {
    fn new(plan: &Plan, tally: &Tally) -> Self {
        let balance = |user: &User| Permitted::exactly(user.balance_fen);
        let mut expected = Self {
            stock: Vec::new(),
            buyers: plan.buyers.iter().map(balance).collect(),
            sellers: plan.stores.iter().map(|store| balance(&store.owner)).collect(),
            held: Permitted::exactly(0),
        };
        for store in &plan.stores {
            expected.stock.push(store.books.iter().map(|book| Permitted::exactly(book.stock)).collect());
        }
        for (index, order) in plan.orders.iter().enumerate() {
            for (book, count) in &order.lines {
                let (known, unknown) = (tally.ordered[index], tally.ordered_unknown[index]);
                expected.stock[order.store][*book].take(*count, known, unknown);
                let (known, unknown) = (tally.refunded[index], tally.refunded_unknown[index]);
                expected.stock[order.store][*book].give(*count, known, unknown);
            }
            let (known, unknown) = (tally.paid[index], tally.paid_unknown[index]);
            expected.buyers[order.buyer].take(order.total_fen, known, unknown);
            if tally.to_platform {
                expected.held.give(order.total_fen, known, unknown);
                let (known, unknown) = (tally.shipped[index], tally.shipped_unknown[index]);
                expected.held.take(order.total_fen, known, unknown);
                expected.sellers[order.store].give(order.total_fen, known, unknown);
            } else {
                expected.sellers[order.store].give(order.total_fen, known, unknown);
                let (known, unknown) = (tally.refunded[index], tally.refunded_unknown[index]);
                expected.buyers[order.buyer].give(order.total_fen, known, unknown);
                expected.sellers[order.store].take(order.total_fen, known, unknown);
            }
        }
        expected
    }
}

/// What an audit found.
#[derive(Serialize, Clone, Debug, Default)]
pub(crate) struct AuditReport {
    /// Stock levels and balances compared.
    pub(crate) checked: u64,
    /// Orders asked for by their ids, of those that were acknowledged.
    pub(crate) orders_checked: u64,
    /// How many of them are not there, or not in the state that was acknowledged.
    pub(crate) orders_disagree: u64,
    /// Why none was asked for, if the server cannot tell.
    pub(crate) orders_not_checked: Option<String>,
    /// Orders, payments and refunds whose outcome is unknown.
    pub(crate) unknown_outcomes: u64,
    /// Prices that the market beside the load set.
    pub(crate) prices_set: u64,
    /// Books that it took off the shelf.
    pub(crate) delisted: u64,
    /// Stores that it closed.
    pub(crate) closed: u64,
    /// It could not be done, or not to its end: that is a disagreement, and listed.
    pub(crate) not_done: bool,
    /// How many comparisons failed, those of orders as well.
    pub(crate) disagreements: u64,
    /// The first of them.
    pub(crate) listed: Vec<String>,
}

impl AuditReport {
    /// Nothing disagreed.
    pub(crate) fn agrees(&self) -> bool {
        self.disagreements == 0
    }

    /// One that could not be done, because of `why`. Nobody knows what of the load holds.
    pub(crate) fn impossible(tally: &Tally, why: &dyn fmt::Display) -> Self {
        let mut report = Self { unknown_outcomes: tally.unknown_outcomes(), not_done: true, ..Self::default() };
        report.disagreements = 1;
        report.listed.push(format!("the audit could not be done: {why}"));
        report
    }

    pub(crate) fn check(&mut self, agrees: bool, describe: impl FnOnce() -> String) {
        self.checked += 1;
        if !agrees {
            self.disagrees(describe);
        }
    }

    /// Compares what was said of orders with what is known of them.
    fn check_orders(&mut self, told: &[(&OrderId, &Known, OrderTold)]) {
        let missing = |told: &OrderTold| if let OrderTold::NoRoute(status) = told { Some(*status) } else { None };
        let statuses: Vec<u16> = told.iter().map_while(|(.., told)| missing(told)).collect();
        if let Some(status) = statuses.first().filter(|_| statuses.len() == told.len()) {
            self.orders_not_checked = Some(format!("{ORDER_STATUS} is answered {status}"));
            return;
        }
        for (id, known, told) in told {
            self.orders_checked += 1;
            let is = match told {
                _ if known.is_twice => "given to two orders",
                OrderTold::State(state) if known.states().any(|permitted| permitted == state) => continue,
                OrderTold::State(text) | OrderTold::Refusal(text) => text,
                OrderTold::NoRoute(status) => &status.to_string(),
            };
            self.orders_disagree += 1;
            self.disagrees(|| {
                let permitted: Vec<&str> = known.states().collect();
                format!("order {}: {is}, must be {}", String::from_utf8_lossy(*id), permitted.join(" or "))
            });
        }
    }

    fn disagrees(&mut self, describe: impl FnOnce() -> String) {
        self.disagreements += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(describe());
        }
    }
}

/// Orders that were shipped are confirmed by themselves, a while after that.
async fn wait_for_sellers(plan: &Plan, expected: &Expected, api: &mut Api) -> Result<(), Failure> {
    let patience = Instant::now() + CONFIRMED_WITHIN;
    for (store, permitted) in plan.stores.iter().zip(&expected.sellers) {
        while i128::from(api.balance(&store.owner).await?) < permitted.min && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Asks the server for every stock level and balance of the run, and for some of its orders, and compares.
pub(crate) async fn audit(plan: &Plan, tally: &Tally) -> Result<AuditReport, Failure> {
    let expected = Expected::new(plan, tally);
    let mut api = Api::new(plan.target.clone());
    if tally.to_platform {
        wait_for_sellers(plan, &expected, &mut api).await?;
    }
    let mut report = AuditReport { unknown_outcomes: tally.unknown_outcomes(), ..AuditReport::default() };
    for (store, levels) in plan.stores.iter().zip(&expected.stock) {
        for (book, permitted) in store.books.iter().zip(levels) {
            let level = api.stock(store, &book.id).await?;
            report.check(permitted.allows(level), || {
                format!("stock of {} in {}: {level}, must be {permitted}", book.id, store.id)
            });
        }
    }
    let people = plan.buyers.iter().zip(&expected.buyers);
    let owners = plan.stores.iter().map(|store| &store.owner).zip(&expected.sellers);
    let (mut sum, mut before): (i128, i128) = (0, 0);
    for (user, permitted) in people.chain(owners) {
        let balance = api.balance(user).await?;
        sum += i128::from(balance);
        before += i128::from(user.balance_fen);
        report
            .check(permitted.allows(balance), || format!("balance of {}: {balance} fen, must be {permitted}", user.id));
    }
    // Whatever became of the unknown payments and refunds: each of them took and gave the same, or the platform holds it.
    let held = expected.held;
    let agrees = before - held.max <= sum && sum <= before - held.min;
    report.check(agrees, || format!("sum of all balances: {sum} fen, at the start: {before}, held: {held}"));
    let mut told = Vec::new();
    for (id, known) in tally.sampled.orders() {
        let buyer = &plan.buyers[plan.orders[known.index].buyer];
        told.push((id, known, api.order_status(buyer, id).await?));
    }
    report.check_orders(&told);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Prepared;
    use crate::scenario::tests::small_plan;
    use crate::scenario::{PreparedOrder, STOCK_AT_START};

    fn order(buyer: usize, store: usize, lines: Vec<(usize, i64)>, total_fen: i64) -> PreparedOrder {
        PreparedOrder { buyer, store, lines, total_fen, request: Prepared::default() }
    }

    #[test]
    fn acknowledged_is_exact_and_unknown_is_a_range() {
        let plan = small_plan(vec![order(0, 0, vec![(0, 2), (1, 1)], 40), order(1, 1, vec![(1, 3)], 60)]);
        let mut tally = Tally::new(2);
        tally.ordered = vec![5, 1];
        tally.ordered_unknown = vec![0, 2];
        tally.paid = vec![4, 0];
        tally.paid_unknown = vec![1, 1];
        tally.refunded = vec![3, 0];
        tally.refunded_unknown = vec![0, 1];
        let range = |min: i64, max: i64| Permitted { min: min.into(), max: max.into() };
        let full = STOCK_AT_START;
        assert_eq!(
            Expected::new(&plan, &tally),
            Expected {
                stock: vec![
                    vec![range(full - 4, full - 4), range(full - 2, full - 2)],
                    vec![range(full, full), range(full - 9, full)],
                ],
                buyers: vec![range(1_000 - 80, 1_000 - 40), range(1_000 - 60, 1_000 + 60)],
                sellers: vec![range(40, 80), range(-60, 60)],
                held: range(0, 0),
            }
        );
        // Three of four to five that were paid to the platform are shipped, and perhaps one more.
        tally.to_platform = true;
        (tally.shipped, tally.shipped_unknown) = (vec![3, 0], vec![1, 0]);
        let expected = Expected::new(&plan, &tally);
        assert_eq!(expected.sellers, vec![range(120, 160), range(0, 0)]);
        assert_eq!(expected.buyers, vec![range(1_000 - 200, 1_000 - 160), range(1_000 - 60, 1_000)]);
        assert_eq!(expected.held, range(0, 80 + 60));
    }

    #[test]
    fn the_ends_of_a_range_belong_to_it() {
        let permitted = Permitted { min: 3, max: 5 };
        assert_eq!([2, 3, 5, 6].map(|value| permitted.allows(value)), [false, true, true, false]);
        assert_eq!(permitted.to_string(), "3..5");
        assert_eq!(Permitted::exactly(-1).to_string(), "-1");
    }

    #[test]
    fn orders_are_compared_unless_the_server_never_tells_of_any() {
        let mut sampled = Sampled::new();
        for number in 0..4_u8 {
            sampled.placed(0, [b'a' + number; 36]);
        }
        let checked = |answers: [OrderTold; 4]| {
            let orders = sampled.orders().zip(answers);
            let mut report = AuditReport::default();
            report.check_orders(&orders.map(|((id, known), told)| (id, known, told)).collect::<Vec<_>>());
            report
        };
        let state = |state: &str| OrderTold::State(state.to_owned());
        let good = || state("pending");
        assert_eq!(checked([good(), good(), good(), good()]).orders_checked, 4);
        let report = checked([good(), state("paid"), OrderTold::Refusal("518 no".to_owned()), OrderTold::NoRoute(404)]);
        assert_eq!((report.orders_disagree, report.disagreements, report.orders_not_checked), (3, 3, None));
        let ends = [": paid, must be pending", ": 518 no, must be pending", ": 404, must be pending"];
        assert!(report.listed.iter().zip(ends).all(|(line, end)| line.ends_with(end)), "{:?}", report.listed);
        let report = checked([(); 4].map(|()| OrderTold::NoRoute(405)));
        assert_eq!((report.orders_checked, report.agrees()), (0, true));
        assert!(report.orders_not_checked.unwrap().ends_with("answered 405"));
    }

    #[test]
    fn a_report_counts_all_and_lists_the_first() {
        let mut report = AuditReport::default();
        assert!(report.agrees());
        for number in 0..25 {
            report.check(number % 5 == 0, || number.to_string());
        }
        assert_eq!((report.checked, report.disagreements, report.agrees()), (25, 20, false));
        assert_eq!(report.listed.len(), LISTED_MAX);
    }
}
