//! Orders that come into memory and leave it. An order with no saga in flight and no deadline rests: nothing happens
//! to it by itself, so it need not be in memory. Whoever runs the shard writes it to disk and then lets it go; the next
//! command brings it back.

use std::collections::HashSet;

use super::super::effect::{Effect, Effects, Outcome, Resting};
use super::super::ids::{Millis, OrderId, Ticket};
use super::super::message::OrderMsg;
use super::super::order::{Order, OrderStatus};
use super::super::refusal::Refusal;
use super::{OrderShard, Work, refused};
use crate::planted::{Fault, planted};

/// Which orders shall leave memory.
#[derive(Debug, Clone, Copy)]
pub struct Leaving {
    /// The time of now.
    pub now: Millis,
    /// Those that have rested for so long, as far as earlier calls have marked the time.
    pub idle: Millis,
    /// And of the others those that have rested longest, but for so many.
    pub keep: usize,
    /// At most so many.
    pub at_most: usize,
}

impl OrderShard {
    /// Orders that may leave memory, with their sequence numbers, and whether there are more of them. What does not
    /// leave in the end must be given back through [`OrderShard::leave`], for it is not named again.
    pub fn leaving(&mut self, work: &Work, leaving: Leaving) -> (Vec<(OrderId, u32)>, bool) {
        let old = self.resting.old(leaving.now, leaving.idle);
        // All but those with a deadline rest, or will when their saga is over.
        let too_many = (self.orders.len() - self.deadlines.len()).saturating_sub(leaving.keep);
        let is_due = |looked_at: usize, named: &Vec<_>| looked_at < old || named.len() < too_many;
        let entries = self.resting.len();
        let (mut named, mut looked_at) = (Vec::new(), 0);
        while looked_at < entries
            && named.len() < leaving.at_most
            && is_due(looked_at, &named)
            && let Some((id, seq)) = self.resting.pop()
        {
            looked_at += 1;
            if self.orders.get(&id).is_none_or(|order| order.seq != seq) {
                continue;
            }
            match work.sagas.contains_key(&id) {
                true => self.resting.push(id, seq),
                false => named.push((id, seq)),
            }
        }
        self.resting.shrink();
        let more = looked_at < entries && is_due(looked_at, &named);
        (named, more)
    }

    /// Nothing is going to leave: there is no disk.
    pub fn stay(&mut self) {
        self.resting.turn_off();
    }

    /// The rows of those that still rest as they did, to be written: from now on they may be on disk.
    pub fn rows(&mut self, work: &Work, named: &[(OrderId, u32)]) -> Vec<(OrderId, Order)> {
        let still = named.iter().filter(|entry| self.rests(work, entry));
        let rows = still.filter_map(|(id, _)| self.orders.get(id).map(|order| (*id, Order::clone(order))));
        let rows: Vec<_> = rows.collect();
        for (id, order) in &rows {
            self.on_disk(*id, order.buyer);
            order.keys.iter().for_each(|kept| self.keys_at_rest.add(order.buyer, kept));
        }
        rows
    }

    /// Takes in an order that was at rest. Its row stays on disk. False if the time at which it is confirmed by itself
    /// was noted wrongly; then the row's counts.
    pub fn bring_back(&mut self, work: &Work, id: OrderId, order: Order) -> bool {
        let buyer = order.buyer;
        let for_its_time = |waiting: &Vec<_>| waiting.iter().any(|msg| matches!(msg, OrderMsg::Overdue { .. }));
        let noted_well = match order.awaits() {
            Some(at) => self.is_noted(id, at),
            None => !work.loading.get(&id).is_some_and(for_its_time),
        };
        if !noted_well {
            self.forget_time(id);
        }
        self.insert(id, order);
        self.on_disk(id, buyer);
        noted_well
    }

    /// Says that any order that may rest may be on disk as well: who recovers does not know. `keys`: so may idempotency
    /// keys be, the newest one since then.
    pub fn all_may_be_on_disk(&mut self, keys: Option<Millis>) {
        self.keys_at_rest.unknown_until(keys);
        let settled = self.orders.iter().filter(|(_, order)| order.status != OrderStatus::Pending);
        let settled: Vec<_> = settled.map(|(id, order)| (*id, order.buyer)).collect();
        for (id, buyer) in settled {
            self.on_disk(id, buyer);
        }
    }

    /// Lets go what is in `written`, if it still rests as it did; the others of `named` stay, and are named again
    /// later. Returns how many left.
    pub fn leave(&mut self, work: &Work, named: Vec<(OrderId, u32)>, written: &HashSet<OrderId>) -> usize {
        let (go, stay): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|entry| written.contains(&entry.0) && self.rests(work, entry));
        for (id, seq) in stay {
            // One that has changed has an entry of its own.
            if self.orders.get(&id).is_some_and(|order| order.seq == seq) {
                self.resting.push(id, seq);
            }
        }
        self.remove(go.into_iter().map(|(id, _)| id))
    }

    fn rests(&self, work: &Work, (id, seq): &(OrderId, u32)) -> bool {
        if planted(Fault::ChangedOrderLeaves) {
            return self.orders.get(id).is_some_and(|order| order.status != OrderStatus::Pending);
        }
        let same = |order: &Order| order.seq == *seq && order.status != OrderStatus::Pending;
        self.orders.get(id).is_some_and(|order| same(order)) && !work.sagas.contains_key(id)
    }

    /// A command on an order that is not in memory: it waits until the order is, or is known not to be.
    pub(super) fn load(work: &mut Work, id: OrderId, msg: OrderMsg, fx: &mut Effects<Self>) {
        let waiting = work.loading.entry(id).or_default();
        if waiting.is_empty() {
            fx.push(Effect::Resting(match msg {
                OrderMsg::Overdue { .. } => Resting::LoadOverdue(id),
                _ => Resting::Load(id),
            }));
        }
        waiting.push(msg);
    }

    /// The order was taken in, or it does not exist.
    pub(super) fn loaded(&self, work: &mut Work, id: OrderId, unreadable: bool, now: Millis, fx: &mut Effects<Self>) {
        let waiting = work.loading.remove(&id).unwrap_or_default();
        if self.orders.contains_key(&id) {
            return fx.extend(waiting.into_iter().map(Effect::Again));
        }
        fx.extend(waiting.iter().map(|msg| match (msg, unreadable) {
            (OrderMsg::Overdue { part, .. }, _) => {
                work.pause(id, now);
                Effect::Again(OrderMsg::PartEnded { part: *part })
            }
            (msg, true) => Effect::Reply(caller(msg), Outcome::Unreadable),
            (msg, false) => refused(caller(msg), Refusal::NoOrder(id.to_string())),
        }));
    }
}

/// Who waits for the answer to a command that may have to wait for what is on disk.
pub(super) fn caller(msg: &OrderMsg) -> Ticket {
    match msg {
        OrderMsg::Place { ticket, .. } | OrderMsg::Refuse { ticket, .. } => *ticket,
        OrderMsg::Pay { ticket, .. }
        | OrderMsg::Confirm { ticket, .. }
        | OrderMsg::Ship { ticket, .. }
        | OrderMsg::Cancel { ticket, .. }
        | OrderMsg::Refund { ticket, .. }
        | OrderMsg::Status { ticket, .. }
        | OrderMsg::Look { ticket, .. }
        | OrderMsg::ExtendReceipt { ticket, .. }
        | OrderMsg::Buyer { ticket, .. } => *ticket,
        // No other message waits for that.
        _ => Ticket::NOBODY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{AccountNo, StoreNo};

    fn id(number: u64) -> OrderId {
        OrderId::new(number << 20, AccountNo(1), number)
    }

    /// A shard with orders of the given numbers, which began to rest in this order.
    fn shard(numbers: std::ops::Range<u64>) -> OrderShard {
        let mut shard = OrderShard::default();
        for number in numbers {
            shard.insert(id(number), order(OrderStatus::Paid));
        }
        shard
    }

    fn order(status: OrderStatus) -> Order {
        Order {
            seq: 2,
            status,
            payment: None,
            buyer: AccountNo(1),
            seller: AccountNo(2),
            store: StoreNo(1),
            lines: Box::default(),
            total: 0,
            created: 0,
            deadline: 9,
            paid: None,
            shipped: None,
            receipt: None,
            ended: None,
            keys: Vec::new(),
        }
    }

    fn leaving(now: Millis) -> Leaving {
        Leaving { now, idle: 100, keep: 1_000, at_most: 1_000 }
    }

    fn numbers(named: &[(OrderId, u32)], of: std::ops::Range<u64>) -> Vec<u64> {
        of.filter(|number| named.contains(&(id(*number), 2))).collect()
    }

    #[test]
    fn the_longest_resting_are_named_when_their_time_has_come() {
        let (mut shard, work) = (shard(0..3), Work::default());
        assert_eq!(shard.leaving(&work, leaving(1_000)), (vec![], false));
        shard.insert(id(3), order(OrderStatus::Paid));
        assert_eq!(shard.leaving(&work, leaving(1_099)).0, vec![]);
        let (named, more) = shard.leaving(&work, Leaving { at_most: 2, ..leaving(1_100) });
        assert_eq!((numbers(&named, 0..4), more), (vec![0, 1], true));
        let (named, more) = shard.leaving(&work, leaving(1_100));
        assert_eq!((numbers(&named, 0..4), more), (vec![2], false));
        let (named, _) = shard.leaving(&work, leaving(1_199));
        assert_eq!(numbers(&named, 0..4), vec![3]);
        // Nobody gave them back, so none is named again.
        assert_eq!(shard.leaving(&work, leaving(9_999)), (vec![], false));
    }

    #[test]
    fn beyond_those_that_may_stay_they_are_named_at_once() {
        let (mut shard, work) = (shard(0..5), Work::default());
        let (named, more) = shard.leaving(&work, Leaving { keep: 2, ..leaving(1_000) });
        assert_eq!((numbers(&named, 0..5), more), (vec![0, 1, 2], false));
    }

    /// What may stay is counted in orders, however often each has changed; and where nothing leaves nothing is noted.
    #[test]
    fn changes_are_not_orders() {
        let (mut shard, work) = (shard(0..3), Work::default());
        for number in 0..3 {
            shard.change(id(number), &crate::domain::OrderEvent::Shipped { confirm_by: None }, 0);
            shard.change(
                id(number),
                &crate::domain::OrderEvent::Completed { by: crate::domain::By::Buyer, key: None },
                0,
            );
        }
        assert_eq!(shard.resting.len(), 9);
        assert_eq!(shard.leaving(&work, Leaving { keep: 3, ..leaving(1_000) }), (vec![], false));
        let (named, more) = shard.leaving(&work, Leaving { keep: 1, ..leaving(1_000) });
        assert_eq!((named.len(), more), (2, false));

        shard.stay();
        shard.insert(id(7), order(OrderStatus::Paid));
        assert_eq!(shard.resting.len(), 0);
        assert_eq!(shard.leaving(&work, Leaving { idle: 0, keep: 0, ..leaving(2_000) }), (vec![], false));
    }

    #[test]
    fn pending_busy_and_changed_orders_stay() {
        let (mut shard, mut work) = (shard(0..3), Work::default());
        shard.insert(id(7), order(OrderStatus::Pending));
        let all = Leaving { idle: 0, keep: 0, ..leaving(1_000) };
        work.begin(id(0), Ticket::NOBODY, None);
        let (named, _) = shard.leaving(&work, all);
        assert_eq!(numbers(&named, 0..9), vec![1, 2]);
        // One begins a saga and one changes while their rows are written.
        work.begin(id(1), Ticket::NOBODY, None);
        assert_eq!(shard.rows(&work, &named).len(), 1);
        shard.change(id(2), &crate::domain::OrderEvent::Shipped { confirm_by: None }, 0);
        let written = HashSet::from([id(1), id(2)]);
        assert_eq!(shard.leave(&work, named, &written), 0);
        assert_eq!(shard.len(), 4);
        // When the sagas are over all are named again, each once.
        let mut fx = Effects::<OrderShard>::new();
        work.end(id(0), Outcome::Done, &mut fx);
        work.end(id(1), Outcome::Done, &mut fx);
        let (named, more) = shard.leaving(&work, all);
        assert_eq!((named.len(), more), (3, false));
        let written: HashSet<_> = named.iter().map(|(id, _)| *id).collect();
        assert_eq!(shard.leave(&work, named, &written), 3);
        // The pending one stays, and is found by every index.
        assert_eq!((shard.len(), shard.ids_of(AccountNo(1)).len(), shard.next_deadline()), (1, 1, Some(9)));
    }

    #[test]
    fn however_long_orders_stay_few_times_are_marked() {
        let (mut shard, work) = (shard(0..1), Work::default());
        for idle in [0, 1, 100, 1_000_000, u64::MAX] {
            for now in 1_000..3_000 {
                shard.leaving(&work, Leaving { at_most: 0, idle, ..leaving(now) });
            }
            assert!(
                shard.resting.marks() as u64 <= crate::domain::shard::queue::MARKS + 3,
                "{idle}: {}",
                shard.resting.marks()
            );
        }
    }

    /// Who counts an order here and its row there asks the disk for those that may be in both places, and for no other:
    /// anybody may ask for a count.
    #[test]
    fn only_orders_that_may_be_in_both_places_are_looked_up() {
        let (mut shard, work) = (shard(0..4), Work::default());
        shard.insert(id(4), order(OrderStatus::Pending));
        let both = |shard: &OrderShard| {
            let mut both = shard.on_disk_of(AccountNo(1));
            both.sort_unstable();
            both
        };
        assert_eq!(both(&shard), []);
        let (named, _) = shard.leaving(&work, Leaving { idle: 0, keep: 0, at_most: 3, ..leaving(1_000) });
        assert_eq!(shard.rows(&work, &named).len(), 3);
        shard.change(id(1), &crate::domain::OrderEvent::Shipped { confirm_by: None }, 0);
        shard.leave(&work, named, &HashSet::from([id(0), id(1), id(2)]));
        // One changed while it was written and stays.
        assert_eq!(both(&shard), [id(1)]);
        shard.bring_back(&work, id(0), order(OrderStatus::Paid));
        assert_eq!(both(&shard), [id(0), id(1)]);
        shard.all_may_be_on_disk(None);
        assert_eq!(both(&shard), [id(0), id(1), id(3)]);
    }

    #[test]
    fn one_load_serves_all_who_wait() {
        let (mut shard, mut work) = (OrderShard::default(), Work::default());
        let mut fx = Effects::<OrderShard>::new();
        for ticket in [Ticket(1), Ticket(2)] {
            OrderShard::load(&mut work, id(1), OrderMsg::Buyer { ticket, order: id(1) }, &mut fx);
        }
        assert!(matches!(fx[..], [Effect::Resting(Resting::Load(_))]), "{fx:?}");
        assert!(!work.is_quiet());
        fx.clear();
        shard.bring_back(&work, id(1), order(OrderStatus::Paid));
        shard.loaded(&mut work, id(1), false, 0, &mut fx);
        assert!(matches!(fx[..], [Effect::Again(_), Effect::Again(_)]), "{fx:?}");
        assert!(work.is_quiet());

        fx.clear();
        OrderShard::load(&mut work, id(2), OrderMsg::Buyer { ticket: Ticket(3), order: id(2) }, &mut fx);
        shard.loaded(&mut work, id(2), false, 0, &mut fx);
        let [_, Effect::Reply(Ticket(3), Outcome::Refused(refusal))] = &fx[..] else { panic!("{fx:?}") };
        assert_eq!(refusal.code(), 518);
    }
}
