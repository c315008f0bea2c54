//! What happens to orders by itself: who is not paid in time is canceled, who is not confirmed in time is confirmed.
//!
//! Whoever meets an order that is due lets that happen first, and then judges what he wanted of it. Orders that wait for
//! their confirmation may be on disk: they are brought into memory when their time comes.

use std::ops::Bound;

use super::super::effect::{Effect, Effects, Outcome};
use super::super::event::{By, Credit, CreditCause, OrderEvent};
use super::super::ids::{Millis, OrderId, Ticket};
use super::super::key::Key;
use super::super::message::{AccountMsg, OrderMsg, Send};
use super::super::order::{Command, Judgement, Order, judge};
use super::super::refusal::Refusal;
use super::{OrderShard, Work, go, refused, scope};

/// Due orders that are seen to in one go, so that a flood of them floods neither stores nor accounts nor the disk.
const DUE_AT_ONCE: usize = 1_000;

/// A confirmation that could not be made by itself is tried again after this time, in ms.
const PAUSE_MS: Millis = 60_000;

impl Work {
    /// It cannot be confirmed now.
    pub(super) fn pause(&mut self, id: OrderId, now: Millis) {
        self.paused.insert(id, now.saturating_add(PAUSE_MS));
    }

    fn is_paused(&self, id: OrderId, now: Millis) -> bool {
        self.paused.get(&id).is_some_and(|until| *until > now)
    }

    /// Something is to happen to it by itself, and its time has come.
    pub(super) fn is_due(&self, id: OrderId, order: &Order, now: Millis) -> bool {
        (order.is_expired(now) || order.awaits().is_some_and(|at| at <= now)) && !self.is_paused(id, now)
    }

    /// One of those that `part` waits for is through.
    pub(super) fn part_ended(&mut self, part: u64, now: Millis, fx: &mut Effects<OrderShard>) {
        let Some((_, left)) = self.parts.get_mut(&part) else {
            return;
        };
        *left -= 1;
        if *left > 0 {
            return;
        }
        match self.parts.remove(&part) {
            Some((OrderMsg::Due, _)) => {
                self.sweeping = false;
                // The next wave comes from outside, where it can be held up; those who wait for one start it themselves.
                fx.push(Effect::Deadline(now));
                fx.extend(std::mem::take(&mut self.behind).into_iter().map(Effect::Again));
            }
            Some((msg, _)) => fx.push(Effect::Again(msg)),
            None => {}
        }
    }

    /// Pauses that are over. Who was skipped because of one is looked at again.
    fn end_pauses(&mut self, now: Millis) {
        let paused = self.paused.len();
        self.paused.retain(|_, until| *until > now);
        if self.paused.len() < paused {
            self.skipped = None;
        }
    }
}

impl OrderShard {
    /// Cancels an order whose deadline is past, or confirms one whose time has come; unless a saga is in flight: a
    /// payment that started in time wins.
    pub(super) fn begin_due(work: &mut Work, id: OrderId, order: &Order, now: Millis, fx: &mut Effects<Self>) {
        if work.sagas.contains_key(&id) {
            return;
        }
        if !work.is_due(id, order, now) {
            return;
        }
        if order.is_expired(now) && judge(order.status, Command::Expire, id) != Judgement::Ignore {
            Self::start_cancel(work, id, order, Ticket::NOBODY, By::Deadline, None, fx);
        } else if order.awaits().is_some() {
            Self::start_confirm(work, id, order, Ticket::NOBODY, By::Deadline, None, fx);
        }
    }

    /// The platform's money goes to the seller.
    pub(super) fn start_confirm(
        work: &mut Work,
        id: OrderId,
        order: &Order,
        ticket: Ticket,
        by: By,
        key: Option<Key>,
        fx: &mut Effects<Self>,
    ) {
        work.begin(id, ticket, scope(order.buyer, key));
        let credit = Credit { cause: CreditCause::Confirmation, amount: order.total, by, key };
        fx.push(Effect::Send(Send::Account(order.seller, AccountMsg::Credit { order: id, credit })));
    }

    /// Parks `msg` until what is due happened to every one of these orders (or a saga that was on its way ended). Then it
    /// is judged as of `now`, so that it ends: what has become due meanwhile is not waited for. Gives the message back
    /// if there is none.
    pub(super) fn park(
        &self,
        work: &mut Work,
        msg: OrderMsg,
        due: Vec<OrderId>,
        now: Millis,
        fx: &mut Effects<Self>,
    ) -> Option<OrderMsg> {
        if due.is_empty() {
            return Some(msg);
        }
        let part = work.next_part;
        work.next_part += 1;
        work.parts.insert(part, (as_of(now, msg), due.len()));
        for id in due {
            match self.orders.contains_key(&id) {
                true => self.overdue_loaded(work, id, part, now, fx),
                false => Self::load(work, id, OrderMsg::Overdue { order: id, part }, fx),
            }
        }
        None
    }

    /// The order is in memory: what is due begins, and `part` waits for it.
    pub(super) fn overdue_loaded(&self, work: &mut Work, id: OrderId, part: u64, now: Millis, fx: &mut Effects<Self>) {
        if let Some(order) = self.orders.get(&id) {
            Self::begin_due(work, id, order, now, fx);
        }
        match work.sagas.get_mut(&id) {
            Some(saga) => saga.waiting.push(OrderMsg::PartEnded { part }),
            None => {
                // What brought it here does not hold. To look again at once would find the same, for ever.
                if !work.is_paused(id, now) {
                    let due = self.orders.get(&id).and_then(|order| order.awaits()).filter(|at| *at > now);
                    let later = now.saturating_add(PAUSE_MS);
                    work.paused.insert(id, due.map_or(later, |at| at.min(later)));
                }
                fx.push(Effect::Again(OrderMsg::PartEnded { part }));
            }
        }
    }

    /// What must happen before these orders are told: whatever is due of them, and whatever is overdue on disk, of all
    /// buyers: whose those are is not known. Gives the message back if there is nothing; else it waits.
    pub(super) fn settle_due(
        &self,
        work: &mut Work,
        msg: OrderMsg,
        ids: &[OrderId],
        now: Millis,
        fx: &mut Effects<Self>,
    ) -> Option<OrderMsg> {
        let is_due = |id: &&OrderId| self.orders.get(id).is_some_and(|order| work.is_due(**id, order, now));
        let due = ids.iter().filter(is_due).copied().collect();
        let msg = self.park(work, msg, due, now, fx)?;
        self.skip_paused(work, now);
        // All wait for the same wave, which serves a sweep as well.
        let at_most = if work.sweeping { 1 } else { DUE_AT_ONCE };
        let on_disk = self.overdue(work, now).filter(|id| !self.orders.contains_key(id));
        let wave: Vec<_> = on_disk.take(at_most).collect();
        if wave.is_empty() {
            return Some(msg);
        }
        work.behind.push(as_of(now, msg));
        if !work.sweeping {
            work.sweeping = true;
            self.park(work, OrderMsg::Due, wave, now, fx);
        }
        None
    }

    /// The orders that were to be confirmed by themselves first.
    fn overdue(&self, work: &Work, now: Millis) -> impl Iterator<Item = OrderId> {
        let from = work.skipped.map_or(Bound::Unbounded, Bound::Excluded);
        let due = self.awaited.range((from, Bound::Unbounded)).take_while(move |(at, _)| *at <= now);
        due.map(|(_, id)| *id).filter(move |id| !work.is_paused(*id, now))
    }

    /// Moves on past those that are paused, so that however many there are, not everybody goes through them.
    fn skip_paused(&self, work: &mut Work, now: Millis) {
        let from = work.skipped.map_or(Bound::Unbounded, Bound::Excluded);
        let due = self.awaited.range((from, Bound::Unbounded)).take_while(|(at, _)| *at <= now);
        if let Some(last) = due.take_while(|(_, id)| work.is_paused(*id, now)).last() {
            work.skipped = Some(*last);
        }
    }

    /// Cancels what has expired; a `Due` confirms what is overdue as well, and says when it wants to come again.
    pub(super) fn sweep(&self, work: &mut Work, msg: OrderMsg, ticket: Ticket, now: Millis, fx: &mut Effects<Self>) {
        let by_itself = matches!(msg, OrderMsg::Due);
        if by_itself && work.sweeping {
            return;
        }
        work.end_pauses(now);
        self.skip_paused(work, now);
        let waits = |id: &OrderId| !work.is_paused(*id, now);
        let expired = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, id)| *id);
        let mut due: Vec<OrderId> = expired.filter(waits).take(DUE_AT_ONCE).collect();
        if by_itself {
            due.extend(self.overdue(work, now).take(DUE_AT_ONCE));
        }
        if self.park(work, msg, due, now, fx).is_none() {
            work.sweeping |= by_itself;
            return;
        }
        fx.push(Effect::Reply(ticket, Outcome::Done));
        let from = work.skipped.map_or(Bound::Unbounded, Bound::Excluded);
        let waits = |(_, id): &&(Millis, OrderId)| !work.paused.contains_key(id);
        let awaited = self.awaited.range((from, Bound::Unbounded)).find(waits).map(|(at, _)| *at);
        let deadline = self.deadlines.iter().find(waits).map(|(deadline, _)| *deadline);
        let next = awaited.into_iter().chain(deadline).chain(work.paused.values().copied()).min();
        fx.extend(next.map(Effect::Deadline));
    }

    /// The buyer still waits for the parcel.
    pub(super) fn extend_receipt(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::ExtendReceipt { ticket, order: id, user } = msg else {
            return;
        };
        let Some(order) = self.find(work, id, &msg, now, fx) else {
            return;
        };
        if order.buyer != user {
            return fx.push(refused(ticket, Refusal::NoOrder(id.to_string())));
        }
        if !go(order, Command::ExtendReceipt, id, ticket, fx) {
            return;
        }
        match order.extension() {
            Ok(confirm_by) => {
                fx.push(Effect::Append((id, OrderEvent::ReceiptExtended { confirm_by })));
                fx.push(Effect::Reply(ticket, Outcome::Done));
            }
            Err(why) => fx.push(refused(ticket, Refusal::invalid("order_id", why))),
        }
    }
}

/// A sweep for nobody looks at what is due when it comes.
fn as_of(asked: Millis, msg: OrderMsg) -> OrderMsg {
    match msg {
        OrderMsg::Due => msg,
        msg => OrderMsg::AsOf { asked, msg: Box::new(msg) },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::effect::{Entity, Resting};
    use super::super::super::event::{Facts, PayKind};
    use super::super::super::ids::{AccountNo, StoreNo};
    use super::super::super::order::OrderStatus;
    use super::*;

    const SHIPPED: Millis = 100;
    const AFTER: Millis = 50;

    fn id(number: u64) -> OrderId {
        OrderId::new(number << 20, AccountNo(1), number)
    }

    /// Shipped, and to be confirmed by itself at 150.
    fn order() -> Order {
        let (buyer, seller, store) = (AccountNo(1), AccountNo(2), StoreNo(1));
        let facts = Facts { buyer, seller, store, lines: Box::new([]), total: 5, created: 10, deadline: 19, key: None };
        let mut order = Order::placed(&facts, 10);
        order.apply(&OrderEvent::Paid { kind: PayKind::Platform, key: None }, 12);
        order.apply(&OrderEvent::Shipped { confirm_by: Some(SHIPPED + AFTER) }, SHIPPED);
        order
    }

    struct Running {
        shard: OrderShard,
        work: Work,
        /// Deadlines are held up, as for an audit.
        held_up: bool,
    }

    impl Running {
        fn new(orders: std::ops::Range<u64>) -> Self {
            let mut shard = OrderShard::default();
            orders.for_each(|number| shard.insert(id(number), order()));
            Running { shard, work: Work::default(), held_up: false }
        }

        /// Handles the message and what follows of it in the shard; gives the effects that leave it.
        fn tell(&mut self, msg: OrderMsg, now: Millis) -> Effects<OrderShard> {
            let (mut queue, mut left) = (std::collections::VecDeque::from([msg]), Vec::new());
            let mut handled = 0;
            while let Some(msg) = queue.pop_front() {
                handled += 1;
                assert!(handled < 10_000, "it does not come to an end");
                let mut fx = Vec::new();
                self.shard.handle(&mut self.work, msg, now, &mut fx);
                for effect in fx {
                    match effect {
                        Effect::Append(event) => self.shard.apply(&event, now),
                        Effect::Again(msg) => queue.push_back(msg),
                        Effect::Deadline(at) if at <= now && !self.held_up => queue.push_back(OrderMsg::Due),
                        // Nobody waits for it.
                        Effect::Reply(Ticket::NOBODY, _) => {}
                        effect => left.push(effect),
                    }
                }
            }
            left
        }
    }

    impl Running {
        fn bring_back(&mut self, number: u64) -> bool {
            self.shard.bring_back(&self.work, id(number), order())
        }
    }

    /// The table that they are noted in has no checksums.
    #[test]
    fn a_time_that_was_noted_wrongly_holds_nobody_up() {
        for noted in [120, 150, 170] {
            let mut running = Running::new(0..0);
            running.shard.awaits_at_rest(id(1), noted);
            let now = if noted < 150 { 130 } else { 149 };
            let (ends, loads) = (running.tell(OrderMsg::Due, now), running.tell(look(1), now));
            assert_eq!((deadlines(&ends).is_empty(), loads.is_empty()), (noted < 150, noted < 150));
            assert_eq!(running.bring_back(1), noted == 150);
            let loaded = running.tell(OrderMsg::Loaded { order: id(1), unreadable: false }, now);
            assert_eq!((answered(&loaded), running.shard.next_deadline()), (vec![OrderStatus::Shipped], Some(150)));
            assert!(running.work.is_quiet() && credited(&running.tell(OrderMsg::Due, 149)).is_empty());
            assert_eq!(credited(&running.tell(OrderMsg::Due, 150)).len(), 1, "{noted}");
        }
        // One that waits for nothing; and one that is noted twice, which nobody can know.
        let mut running = Running::new(0..0);
        running.shard.awaits_at_rest(id(1), 120);
        running.shard.awaits_at_rest(id(2), 120);
        running.shard.awaits_at_rest(id(2), 150);
        running.tell(OrderMsg::Due, 130);
        let mut over = order();
        over.apply(&OrderEvent::Completed { by: By::Buyer, key: None }, 110);
        assert!(!running.shard.bring_back(&running.work, id(1), over));
        assert!(running.bring_back(2));
        running.tell(OrderMsg::Loaded { order: id(1), unreadable: false }, 130);
        let pauses = running.tell(OrderMsg::Loaded { order: id(2), unreadable: false }, 130);
        assert_eq!((deadlines(&pauses), running.work.is_quiet()), (vec![150], true));
        assert_eq!(credited(&running.tell(OrderMsg::Due, 150)).len(), 1);
    }

    fn credited(effects: &Effects<OrderShard>) -> Vec<(OrderId, Credit)> {
        let credit = |effect: &_| match effect {
            Effect::Send(Send::Account(_, AccountMsg::Credit { order, credit })) => Some((*order, credit.clone())),
            _ => None,
        };
        effects.iter().filter_map(credit).collect()
    }

    fn deadlines(effects: &Effects<OrderShard>) -> Vec<Millis> {
        effects.iter().filter_map(|effect| if let Effect::Deadline(at) = effect { Some(*at) } else { None }).collect()
    }

    fn look(ticket: u64) -> OrderMsg {
        OrderMsg::Status { ticket: Ticket(ticket), order: id(1), user: AccountNo(1) }
    }

    fn answered(effects: &Effects<OrderShard>) -> Vec<OrderStatus> {
        let status = |effect: &_| match effect {
            Effect::Reply(_, Outcome::Status(status)) => Some(*status),
            _ => None,
        };
        effects.iter().filter_map(status).collect()
    }

    #[test]
    fn an_overdue_order_is_confirmed_once_and_whoever_asks_waits_for_it() {
        let mut running = Running::new(1..2);
        assert_eq!(running.shard.next_deadline(), Some(150));
        let before = running.tell(look(1), 149);
        assert_eq!(answered(&before), [OrderStatus::Shipped]);
        // A sweep, and two who ask.
        let credit = credited(&running.tell(OrderMsg::Due, 150)).pop().unwrap().1;
        assert_eq!((credit.by, credit.amount), (By::Deadline, 5));
        for ticket in [1, 2] {
            let waits = running.tell(look(ticket), 150);
            assert!(waits.is_empty(), "{waits:?}");
        }
        assert!(running.tell(OrderMsg::Due, 151).is_empty(), "one sweep is enough");
        let after = running.tell(OrderMsg::Credited { order: id(1), credit }, 152);
        assert_eq!(answered(&after), [OrderStatus::Completed; 2]);
        assert_eq!(running.shard.orders[&id(1)].ended, Some((152, By::Deadline)));
        assert_eq!((running.shard.next_deadline(), deadlines(&after)), (None, vec![]));
        assert!(running.work.is_quiet());
    }

    /// Only a panic in the seller's account refuses a credit. It must not be asked for again at once, nor forgotten.
    #[test]
    fn what_is_refused_is_tried_again_after_a_pause() {
        let mut running = Running::new(1..2);
        assert_eq!(credited(&running.tell(OrderMsg::Due, 200)).len(), 1);
        assert!(running.tell(look(1), 200).is_empty());
        let refusal = Refusal::invalid("request", "the engine failed on it, nothing was done");
        let refused = running.tell(OrderMsg::NotCredited { order: id(1), refusal: refusal.clone() }, 201);
        let again = 201 + PAUSE_MS;
        assert!(credited(&refused).is_empty());
        assert_eq!((answered(&refused), deadlines(&refused)), (vec![OrderStatus::Shipped], vec![again]));
        // Meanwhile nobody is held up, and the buyer may try himself.
        let early = running.tell(OrderMsg::Due, again - 1);
        assert_eq!((credited(&early).len(), deadlines(&early)), (0, vec![again]));
        let (order, user) = (id(1), Some(AccountNo(1)));
        let cred = super::super::Cred::Trusted;
        let confirm = OrderMsg::Confirm { ticket: Ticket(9), order, user, cred, key: None };
        assert_eq!(credited(&running.tell(confirm, 300))[0].1.by, By::Buyer);
        let refused = running.tell(OrderMsg::NotCredited { order, refusal }, 301);
        assert!(matches!(refused[..], [Effect::Reply(Ticket(9), Outcome::Refused(_))]), "{refused:?}");
        // Its own time comes again.
        assert_eq!(credited(&running.tell(OrderMsg::Due, again)).len(), 1);
    }

    #[test]
    fn a_flood_of_overdue_orders_is_seen_to_in_parts() {
        let mut running = Running::new(0..2_500);
        let mut waves = Vec::new();
        let mut effects = running.tell(OrderMsg::Due, 150);
        while !running.work.is_quiet() {
            let wave = credited(&effects);
            effects = wave
                .iter()
                .flat_map(|(order, credit)| {
                    running.tell(OrderMsg::Credited { order: *order, credit: credit.clone() }, 150)
                })
                .collect();
            waves.push(wave.len());
        }
        assert_eq!(waves, [1_000, 1_000, 500]);
        assert!(running.shard.orders.values().all(|order| order.status == OrderStatus::Completed));
    }

    /// An audit and an orderly end wait until nothing moves.
    #[test]
    fn a_flood_can_be_held_up_between_its_parts() {
        let mut running = Running::new(0..1_001);
        running.held_up = true;
        let wave = credited(&running.tell(OrderMsg::Due, 150));
        let mut last = Vec::new();
        for (order, credit) in wave {
            last = running.tell(OrderMsg::Credited { order, credit }, 151);
        }
        assert_eq!((running.work.is_quiet(), deadlines(&last)), (true, vec![151]));
        assert_eq!(credited(&running.tell(OrderMsg::Due, 152)).len(), 1);
    }

    fn list(ticket: u64) -> OrderMsg {
        OrderMsg::OfStore { ticket: Ticket(ticket), shard: 0, store: StoreNo(1), limit: 5_000 }
    }

    fn listed(effects: &Effects<OrderShard>) -> Vec<Ticket> {
        let ticket = |effect: &_| match effect {
            Effect::Resting(Resting::List { ticket, .. }) => Some(*ticket),
            _ => None,
        };
        effects.iter().filter_map(ticket).collect()
    }

    #[test]
    fn lists_wait_for_what_was_overdue_when_they_were_asked_and_for_nothing_in_memory_of_others() {
        let mut running = Running::new(0..1);
        running.held_up = true;
        // Those of somebody else are in memory, or were read at once.
        let of_other = OrderMsg::OfBuyer { ticket: Ticket(1), buyer: AccountNo(7), limit: 10 };
        assert_eq!(listed(&running.tell(of_other, 150)), [Ticket(1)]);
        // All lists wait for one wave, though this is more than one.
        let at = |number| if number <= 1_500 { 160 } else { 170 };
        (1..=1_501).for_each(|number| running.shard.awaits_at_rest(id(number), at(number)));
        let own = credited(&running.tell(list(2), 165));
        assert_eq!(own.len(), 1);
        let (order, credit) = own[0].clone();
        let wave = running.tell(OrderMsg::Credited { order, credit }, 166);
        assert_eq!(wave.len(), 1_000);
        let of_other = OrderMsg::OfBuyer { ticket: Ticket(3), buyer: AccountNo(7), limit: 10 };
        assert!(running.tell(of_other, 165).is_empty());
        assert_eq!((running.work.parts.len(), running.work.behind.len()), (1, 2));
        let (mut loads, mut waves, mut told) = (wave, 0, Vec::new());
        while !running.work.is_quiet() {
            let mut next = Vec::new();
            for load in std::mem::take(&mut loads) {
                let Effect::Resting(Resting::LoadOverdue(order)) = load else { continue };
                next.extend(running.tell(OrderMsg::Loaded { order, unreadable: true }, 180));
            }
            waves += 1;
            told.extend(listed(&next));
            loads = next;
        }
        // What has become overdue meanwhile is not waited for.
        assert_eq!((waves, told, running.work.loading.len()), (2, vec![Ticket(2), Ticket(3)], 0));
        // Whoever comes now does not go through all that could not be read.
        let Some((at, last)) = running.work.skipped else { panic!("nothing is skipped") };
        assert_eq!((at, last), (160, id(1_500)));
        assert_eq!(running.shard.overdue(&running.work, 180).count(), 1);
        assert_eq!(running.tell(OrderMsg::Due, 180 + PAUSE_MS).len(), 1_000);
        assert_eq!(running.work.skipped, None);
    }

    /// Only a panic in the store refuses that.
    #[test]
    fn a_cancellation_that_is_refused_is_tried_again_after_a_pause() {
        let mut running = Running::new(0..0);
        let (buyer, seller, store) = (AccountNo(1), AccountNo(2), StoreNo(1));
        let facts = Facts { buyer, seller, store, lines: Box::new([]), total: 5, created: 10, deadline: 19, key: None };
        running.shard.insert(id(1), Order::placed(&facts, 10));
        let releases = |effects: &Effects<OrderShard>| {
            effects.iter().filter(|effect| matches!(effect, Effect::Send(Send::Store(..)))).count()
        };
        assert_eq!(releases(&running.tell(OrderMsg::Due, 20)), 1);
        assert!(running.tell(OrderMsg::Sweep { ticket: Ticket(1) }, 20).is_empty());
        let refusal = Refusal::invalid("request", "the engine failed on it, nothing was done");
        let refused = running.tell(OrderMsg::NotReleased { order: id(1), refusal }, 21);
        assert_eq!((releases(&refused), running.work.is_quiet()), (0, true));
        assert!(deadlines(&refused).iter().all(|at| *at == 21 + PAUSE_MS), "{refused:?}");
        assert!(refused.iter().any(|effect| matches!(effect, Effect::Reply(Ticket(1), Outcome::Done))));
        // Nothing can be paid any more, and the buyer may try himself.
        let (order, user, cred) = (id(1), Some(buyer), super::super::Cred::Trusted);
        let pay = OrderMsg::Pay { ticket: Ticket(2), order, user, cred, kind: PayKind::Direct, key: None };
        let paid = running.tell(pay, 22);
        assert!(matches!(paid[..], [Effect::Reply(Ticket(2), Outcome::Refused(_))]), "{paid:?}");
        assert_eq!(listed(&running.tell(list(3), 22)), [Ticket(3)]);
        let cancel = OrderMsg::Cancel { ticket: Ticket(4), order, user: buyer, key: None };
        assert_eq!(releases(&running.tell(cancel, 22)), 1);
        let canceled = running.tell(OrderMsg::Released { order, by: By::Buyer, key: None }, 23);
        assert!(matches!(canceled[..], [Effect::Reply(Ticket(4), Outcome::Done)]), "{canceled:?}");
    }

    #[test]
    fn an_order_on_disk_is_brought_back_when_its_time_comes() {
        let mut running = Running::new(0..0);
        running.shard.awaits_at_rest(id(1), 150);
        let load = running.tell(OrderMsg::Due, 150);
        assert!(matches!(load[..], [Effect::Resting(Resting::LoadOverdue(_))]), "{load:?}");
        // It cannot be read: later, perhaps.
        let unread = running.tell(OrderMsg::Loaded { order: id(1), unreadable: true }, 160);
        assert_eq!(deadlines(&unread), [160 + PAUSE_MS]);
        assert!(running.work.is_quiet());
        // It can, and who lists meanwhile waits for it: whose it is, nobody knows before.
        let now = 160 + PAUSE_MS;
        running.tell(OrderMsg::Due, now);
        let list = OrderMsg::OfBuyer { ticket: Ticket(5), buyer: AccountNo(7), limit: 10 };
        assert!(running.tell(list, now).is_empty());
        running.bring_back(1);
        let effects = running.tell(OrderMsg::Loaded { order: id(1), unreadable: false }, now);
        let (order, credit) = credited(&effects).pop().unwrap();
        let listed = running.tell(OrderMsg::Credited { order, credit }, now);
        assert!(matches!(listed[..], [Effect::Resting(Resting::List { ticket: Ticket(5), .. })]), "{listed:?}");
        assert_eq!(running.shard.next_deadline(), None);
    }

    #[test]
    fn a_confirmation_is_put_off_once_and_by_as_long_again() {
        let mut running = Running::new(1..2);
        let (order, user) = (id(1), AccountNo(1));
        let extend = |ticket| OrderMsg::ExtendReceipt { ticket: Ticket(ticket), order, user };
        let done = running.tell(extend(1), 149);
        assert!(matches!(done[..], [Effect::Reply(Ticket(1), Outcome::Done)]), "{done:?}");
        assert_eq!(running.shard.next_deadline(), Some(200));
        let again = running.tell(extend(2), 150);
        let [Effect::Reply(Ticket(2), Outcome::Refused(refusal))] = &again[..] else { panic!("{again:?}") };
        assert_eq!(refusal.code(), 530);
        let due = running.tell(OrderMsg::Due, 199);
        assert_eq!((credited(&due).len(), deadlines(&due)), (0, vec![200]));
        assert_eq!(credited(&running.tell(OrderMsg::Due, 200)).len(), 1);
    }
}
