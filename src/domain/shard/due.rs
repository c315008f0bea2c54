//! What happens to orders by itself: who is not paid in time is canceled, who is not confirmed in time is confirmed.
//!
//! Whoever meets an order that is due lets that happen first, and then judges what he wanted of it. Orders that wait for
//! their confirmation may be on disk: they are brought into memory when their time comes.

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

    /// Its time to be confirmed by itself has come.
    pub(super) fn is_overdue(&self, id: OrderId, order: &Order, now: Millis) -> bool {
        order.awaits().is_some_and(|at| at <= now) && !self.is_paused(id, now)
    }

    /// One of those that `part` waits for is through.
    pub(super) fn part_ended(&mut self, part: u64, fx: &mut Effects<OrderShard>) {
        let Some((msg, left)) = self.parts.get_mut(&part) else {
            return;
        };
        *left -= 1;
        if *left == 0 {
            self.sweeping &= !matches!(msg, OrderMsg::Due);
            fx.extend(self.parts.remove(&part).map(|(msg, _)| Effect::Again(msg)));
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
        if order.is_expired(now) && judge(order.status, Command::Expire, id) != Judgement::Ignore {
            Self::start_cancel(work, id, order, Ticket::NOBODY, By::Deadline, None, fx);
        } else if work.is_overdue(id, order, now) {
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

    /// Parks `msg` until what is due happened to every one of these orders (or a saga that was on its way ended).
    /// Gives the message back if there is none.
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
        work.parts.insert(part, (msg, due.len()));
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
                    let due = self.orders.get(&id).and_then(Order::awaits).filter(|at| *at > now);
                    let later = now.saturating_add(PAUSE_MS);
                    work.paused.insert(id, due.map_or(later, |at| at.min(later)));
                }
                fx.push(Effect::Again(OrderMsg::PartEnded { part }));
            }
        }
    }

    /// What must happen before these orders are told: those of them that have expired, and whatever is overdue.
    pub(super) fn due_of(&self, work: &Work, ids: &[OrderId], now: Millis) -> Vec<OrderId> {
        let expired = |id: &&OrderId| self.orders.get(id).is_some_and(|order| order.is_expired(now));
        ids.iter().filter(expired).copied().chain(self.overdue(work, now)).collect()
    }

    /// The orders that were to be confirmed by themselves first, of all buyers: whose those on disk are is not known.
    fn overdue(&self, work: &Work, now: Millis) -> impl Iterator<Item = OrderId> {
        let due = self.awaited.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id);
        due.filter(move |id| !work.is_paused(*id, now)).take(DUE_AT_ONCE)
    }

    /// Cancels what has expired; a `Due` confirms what is overdue as well, and says when it wants to come again.
    pub(super) fn sweep(&self, work: &mut Work, msg: OrderMsg, ticket: Ticket, now: Millis, fx: &mut Effects<Self>) {
        let by_itself = matches!(msg, OrderMsg::Due);
        if by_itself && work.sweeping {
            return;
        }
        work.paused.retain(|_, until| *until > now);
        let expired = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        let mut due: Vec<OrderId> = expired.take(DUE_AT_ONCE).map(|(_, id)| *id).collect();
        if by_itself {
            due.extend(self.overdue(work, now));
        }
        if self.park(work, msg, due, now, fx).is_none() {
            work.sweeping |= by_itself;
            return;
        }
        fx.push(Effect::Reply(ticket, Outcome::Done));
        let awaited = self.awaited.iter().find(|(_, id)| !work.paused.contains_key(id)).map(|(at, _)| *at);
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
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
    }

    impl Running {
        fn new(orders: std::ops::Range<u64>) -> Self {
            let mut shard = OrderShard::default();
            orders.for_each(|number| shard.insert(id(number), order()));
            Running { shard, work: Work::default() }
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

    #[test]
    fn an_order_on_disk_is_brought_back_when_its_time_comes() {
        let mut running = Running::new(0..0);
        running.shard.awaits_at_rest(id(1), 150);
        let load = running.tell(OrderMsg::Due, 150);
        assert!(matches!(load[..], [Effect::Resting(Resting::Load(_))]), "{load:?}");
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
