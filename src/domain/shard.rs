//! The coordinator of one shard of orders: it starts sagas, closes them with the order's event, and keeps a queue
//! per order while one is in flight.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::effect::{Effect, Effects, Entity, OnPanic, Outcome, Ticket};
use super::event::{CreditCause, Evidence, OrderEvent, PayKind};
use super::ids::{AccountNo, Millis, OrderId, StoreNo};
use super::message::{AccountMsg, Address, Cred, OrderMsg, Send, StoreMsg};
use super::order::{Command, Judgement, Order, OrderStatus, judge};
use super::refusal::Refusal;

/// Expired orders that are canceled in one go, so that a flood of deadlines does not flood the stores.
const EXPIRED_AT_ONCE: usize = 1_000;

/// Evidence for one entity that is collected before it is told to drop it: a message per order would cost a wake-up.
const EVIDENCE_AT_ONCE: usize = 64;

/// The orders of the buyers of one shard, with their indexes (which are rebuilt from the rows, never persisted).
#[derive(Debug, Default)]
pub struct OrderShard {
    pub(crate) orders: HashMap<OrderId, Order>,
    by_buyer: HashMap<AccountNo, OfBuyer>,
    by_store: HashMap<StoreNo, Vec<OrderId>>,
    deadlines: BTreeSet<(Millis, OrderId)>,
}

#[derive(Debug, Default)]
struct OfBuyer {
    ids: Vec<OrderId>,
    pending: usize,
    open: usize,
}

/// What a shard keeps between messages: sagas in flight and who waits for them.
#[derive(Debug, Default)]
pub struct Work {
    sagas: HashMap<OrderId, Saga>,
    placing: HashMap<AccountNo, usize>,
    /// Buyers who are being unregistered, with the orders (and second unregistrations) that wait for the outcome.
    closing: HashMap<AccountNo, Vec<OrderMsg>>,
    /// Buyers who were unregistered since the start; a late order of theirs is refused.
    closed: HashSet<AccountNo>,
    /// Messages that wait for several sagas, with the number of those.
    parts: HashMap<u64, (OrderMsg, usize)>,
    next_part: u64,
    settled: HashMap<Address, Vec<Evidence>>,
}

#[derive(Debug)]
struct Saga {
    ticket: Ticket,
    expired: bool,
    waiting: Vec<OrderMsg>,
}

impl Work {
    /// No saga in flight, nobody waits.
    pub fn is_quiet(&self) -> bool {
        self.sagas.is_empty() && self.closing.is_empty() && self.parts.is_empty()
    }

    fn begin(&mut self, order: OrderId, ticket: Ticket, expired: bool) {
        self.sagas.insert(order, Saga { ticket, expired, waiting: Vec::new() });
    }

    /// Ends a saga: answers its caller and lets those who waited go on.
    fn end(&mut self, order: OrderId, outcome: Outcome, fx: &mut Effects<OrderShard>) {
        // Recovery closes sagas that nobody began in this process.
        let Some(saga) = self.sagas.remove(&order) else {
            return;
        };
        fx.push(Effect::Reply(saga.ticket, outcome));
        fx.extend(saga.waiting.into_iter().map(Effect::Again));
    }

    fn settle(&mut self, address: Address, evidence: Evidence, fx: &mut Effects<OrderShard>) {
        let collected = self.settled.entry(address).or_default();
        collected.push(evidence);
        if collected.len() >= EVIDENCE_AT_ONCE {
            fx.push(Effect::Send(Send::Forget(address, std::mem::take(collected))));
            self.settled.remove(&address);
        }
    }

    fn flush(&mut self, fx: &mut Effects<OrderShard>) {
        fx.extend(self.settled.drain().map(|(address, evidence)| Effect::Send(Send::Forget(address, evidence))));
    }

    fn placed(&mut self, buyer: AccountNo) {
        if let Some(count) = self.placing.get_mut(&buyer) {
            *count -= 1;
            if *count == 0 {
                self.placing.remove(&buyer);
            }
        }
    }
}

fn refused(ticket: Ticket, refusal: Refusal) -> Effect<OrderMsg, (OrderId, OrderEvent)> {
    Effect::Reply(ticket, Outcome::Refused(refusal))
}

impl OrderShard {
    /// Takes a row of a snapshot in.
    pub fn insert(&mut self, id: OrderId, order: Order) {
        if let Some(old) = self.orders.remove(&id) {
            self.unindex(id, &old);
        }
        self.index(id, &order);
        self.orders.insert(id, order);
    }

    /// The orders in it.
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// The first deadline.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn index(&mut self, id: OrderId, order: &Order) {
        let of_buyer = self.by_buyer.entry(order.buyer).or_default();
        of_buyer.ids.push(id);
        of_buyer.open += usize::from(order.is_open());
        if order.status == OrderStatus::Pending {
            of_buyer.pending += 1;
            self.deadlines.insert((order.deadline, id));
        }
        self.by_store.entry(order.store).or_default().push(id);
    }

    fn unindex(&mut self, id: OrderId, order: &Order) {
        self.leave_pending(id, order);
        if let Some(of_buyer) = self.by_buyer.get_mut(&order.buyer) {
            of_buyer.open -= usize::from(order.is_open());
            of_buyer.ids.retain(|known| *known != id);
        }
        if let Some(ids) = self.by_store.get_mut(&order.store) {
            ids.retain(|known| *known != id);
        }
    }

    fn leave_pending(&mut self, id: OrderId, order: &Order) {
        if order.status == OrderStatus::Pending {
            self.deadlines.remove(&(order.deadline, id));
            if let Some(of_buyer) = self.by_buyer.get_mut(&order.buyer) {
                of_buyer.pending -= 1;
            }
        }
    }

    /// Finds the order for a command, or says why not: another saga is in flight, or it must be canceled first, or
    /// it does not exist. `None`: the message was queued or answered.
    fn find(
        &self,
        work: &mut Work,
        id: OrderId,
        ticket: Ticket,
        msg: &OrderMsg,
        now: Millis,
        fx: &mut Effects<Self>,
    ) -> Option<&Order> {
        let Some(order) = self.orders.get(&id) else {
            fx.push(refused(ticket, Refusal::NoOrder(id.to_string())));
            return None;
        };
        if order.is_expired(now) {
            Self::expire(work, id, order, fx);
        }
        if let Some(saga) = work.sagas.get_mut(&id) {
            saga.waiting.push(msg.clone());
            return None;
        }
        Some(order)
    }

    fn start_cancel(
        work: &mut Work,
        id: OrderId,
        order: &Order,
        ticket: Ticket,
        expired: bool,
        fx: &mut Effects<Self>,
    ) {
        work.begin(id, ticket, expired);
        fx.push(Effect::Send(Send::Store(order.store, StoreMsg::Release { order: id, lines: order.lines.clone() })));
    }

    /// Cancels an order whose deadline is past, unless a saga is in flight: a payment that started in time wins.
    fn expire(work: &mut Work, id: OrderId, order: &Order, fx: &mut Effects<Self>) {
        if !work.sagas.contains_key(&id) && judge(order.status, Command::Expire, id) != Judgement::Ignore {
            Self::start_cancel(work, id, order, Ticket::NOBODY, true, fx);
        }
    }

    /// Parks `msg` until every one of the expired orders is canceled (or paid, if a payment was on its way).
    /// Gives the message back if there is none.
    fn park(&self, work: &mut Work, msg: OrderMsg, expired: Vec<OrderId>, fx: &mut Effects<Self>) -> Option<OrderMsg> {
        if expired.is_empty() {
            return Some(msg);
        }
        let part = work.next_part;
        work.next_part += 1;
        work.parts.insert(part, (msg, expired.len()));
        for id in expired {
            if let Some(order) = self.orders.get(&id) {
                Self::expire(work, id, order, fx);
            }
            if let Some(saga) = work.sagas.get_mut(&id) {
                saga.waiting.push(OrderMsg::PartEnded { part });
            }
        }
        None
    }

    fn expired_of(&self, ids: &[OrderId], now: Millis) -> Vec<OrderId> {
        let expired = |id: &&OrderId| self.orders.get(id).is_some_and(|order| order.is_expired(now));
        ids.iter().filter(expired).copied().collect()
    }

    /// The orders of a buyer, or this shard's part of a store's.
    fn list(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let (ticket, limit, ids) = match &msg {
            OrderMsg::OfBuyer { ticket, buyer, limit } => (*ticket, *limit, self.ids_of(*buyer)),
            OrderMsg::OfStore { ticket, store, limit } => {
                (*ticket, *limit, self.by_store.get(store).map_or(&[][..], |ids| ids))
            }
            _ => return,
        };
        if ids.len() > limit {
            return fx.push(Effect::Reply(ticket, Outcome::TooMany(ids.len())));
        }
        if self.park(work, msg, self.expired_of(ids, now), fx).is_some() {
            let rows = ids.iter().filter_map(|id| self.orders.get(id).map(|order| (*id, order.clone())));
            fx.push(Effect::Reply(ticket, Outcome::Orders(rows.collect())));
        }
    }

    fn ids_of(&self, buyer: AccountNo) -> &[OrderId] {
        self.by_buyer.get(&buyer).map_or(&[], |of_buyer| &of_buyer.ids)
    }

    fn sweep(&self, work: &mut Work, msg: OrderMsg, ticket: Ticket, now: Millis, fx: &mut Effects<Self>) {
        let due = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        let expired = due.take(EXPIRED_AT_ONCE).map(|(_, id)| *id).collect();
        if self.park(work, msg, expired, fx).is_some() {
            fx.push(Effect::Reply(ticket, Outcome::Done));
            fx.extend(self.next_deadline().map(Effect::Deadline));
        }
    }

    fn place(&self, work: &mut Work, msg: OrderMsg, fx: &mut Effects<Self>) {
        let OrderMsg::Place { ticket, order, buyer, store, lines, ttl, pending_max } = msg else {
            return;
        };
        if work.closed.contains(&buyer) {
            return fx.push(Effect::Reply(ticket, Outcome::AccountGone));
        }
        if let Some(waiting) = work.closing.get_mut(&buyer) {
            return waiting.push(OrderMsg::Place { ticket, order, buyer, store, lines, ttl, pending_max });
        }
        let pending = self.by_buyer.get(&buyer).map_or(0, |of_buyer| of_buyer.pending);
        let placing = work.placing.get(&buyer).copied().unwrap_or_default();
        if pending + placing >= pending_max {
            return fx.push(Effect::Reply(ticket, Outcome::Throttled("too many pending orders")));
        }
        work.placing.insert(buyer, placing + 1);
        work.begin(order, ticket, false);
        fx.push(Effect::Send(Send::Store(store, StoreMsg::Reserve { order, buyer, lines, ttl })));
    }

    fn pay(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::Pay { ticket, order: id, user, cred, kind } = msg else {
            return;
        };
        let Some(order) = self.find_own(work, id, ticket, user, cred, &msg, now, fx) else {
            return;
        };
        let command = match kind {
            PayKind::Direct => Command::Pay,
            PayKind::Platform => Command::PayToPlatform,
        };
        if !go(order, command, id, ticket, fx) {
            return;
        }
        work.begin(id, ticket, false);
        let hold = AccountMsg::Hold { order: id, cred, kind, seller: order.seller, amount: order.total };
        fx.push(Effect::Send(Send::Account(order.buyer, hold)));
    }

    fn confirm(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::Confirm { ticket, order: id, user, cred } = msg else {
            return;
        };
        let Some(order) = self.find_own(work, id, ticket, user, cred, &msg, now, fx) else {
            return;
        };
        if !go(order, Command::Confirm, id, ticket, fx) {
            return;
        }
        if order.payment == Some(PayKind::Platform) {
            work.begin(id, ticket, false);
            let credit = AccountMsg::Credit { order: id, cause: CreditCause::Confirmation, amount: order.total };
            return fx.push(Effect::Send(Send::Account(order.seller, credit)));
        }
        fx.push(Effect::Append((id, OrderEvent::Completed)));
        fx.push(Effect::Reply(ticket, Outcome::Done));
    }

    /// As `find`, for the two payments and the confirmation: 518, then whose order it is, then the password.
    #[expect(clippy::too_many_arguments, reason = "the fields of one message and where it is handled")]
    fn find_own(
        &self,
        work: &mut Work,
        id: OrderId,
        ticket: Ticket,
        user: Option<AccountNo>,
        cred: Cred,
        msg: &OrderMsg,
        now: Millis,
        fx: &mut Effects<Self>,
    ) -> Option<&Order> {
        let order = self.find(work, id, ticket, msg, now, fx)?;
        if user != Some(order.buyer) {
            fx.push(Effect::Reply(ticket, Outcome::NotYours(order.buyer)));
            return None;
        }
        if cred == Cred::Refused {
            fx.push(refused(ticket, Refusal::Unauthorized));
            return None;
        }
        Some(order)
    }

    fn ship(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::Ship { ticket, order: id, store } = msg else {
            return;
        };
        let Some(order) = self.find(work, id, ticket, &msg, now, fx) else {
            return;
        };
        if order.store != store {
            return fx.push(refused(ticket, Refusal::NoOrder(id.to_string())));
        }
        if go(order, Command::Ship, id, ticket, fx) {
            fx.push(Effect::Append((id, OrderEvent::Shipped)));
            fx.push(Effect::Reply(ticket, Outcome::Done));
        }
    }

    fn cancel(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::Cancel { ticket, order: id, user } = msg else {
            return;
        };
        let Some(order) = self.find(work, id, ticket, &msg, now, fx) else {
            return;
        };
        if order.buyer != user {
            return fx.push(refused(ticket, Refusal::NoOrder(id.to_string())));
        }
        if go(order, Command::Cancel, id, ticket, fx) {
            Self::start_cancel(work, id, order, ticket, false, fx);
        }
    }

    /// A read answers from the state, also while a saga is in flight; only an expired order is canceled first.
    fn status(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::Status { ticket, order: id, user } = msg else {
            return;
        };
        match self.orders.get(&id).filter(|order| order.buyer == user) {
            None => fx.push(refused(ticket, Refusal::NoOrder(id.to_string()))),
            Some(order) if order.is_expired(now) => {
                let _ = self.find(work, id, ticket, &msg, now, fx);
            }
            Some(order) => fx.push(Effect::Reply(ticket, Outcome::Status(order.status))),
        }
    }

    fn unregister(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::Unregister { ticket, buyer, cred } = msg else {
            return;
        };
        if cred == Cred::Refused {
            return fx.push(refused(ticket, Refusal::Unauthorized));
        }
        if let Some(waiting) = work.closing.get_mut(&buyer) {
            return waiting.push(msg);
        }
        if self.park(work, msg, self.expired_of(self.ids_of(buyer), now), fx).is_none() {
            return;
        }
        let open = self.by_buyer.get(&buyer).map_or(0, |of_buyer| of_buyer.open);
        if open > 0 || work.placing.contains_key(&buyer) {
            return fx.push(refused(ticket, Refusal::invalid("user_id", "the user has open orders")));
        }
        work.closing.insert(buyer, Vec::new());
        fx.push(Effect::Send(Send::Account(buyer, AccountMsg::Close { ticket, cred })));
    }

    fn unregister_ended(
        work: &mut Work,
        ticket: Ticket,
        buyer: AccountNo,
        refusal: Option<Refusal>,
        fx: &mut Effects<Self>,
    ) {
        let outcome = match refusal {
            Some(refusal) => Outcome::Refused(refusal),
            None => {
                work.closed.insert(buyer);
                Outcome::Done
            }
        };
        fx.push(Effect::Reply(ticket, outcome));
        let waiting = work.closing.remove(&buyer).unwrap_or_default();
        fx.extend(waiting.into_iter().map(Effect::Again));
    }

    /// Closes a saga with the order's event, unless an earlier process did.
    fn close(&self, work: &mut Work, id: OrderId, event: OrderEvent, fx: &mut Effects<Self>) {
        let Some(order) = self.orders.get(&id) else {
            return;
        };
        let (done, evidence) = match &event {
            OrderEvent::Paid(kind) => {
                work.settle(Address::Account(order.buyer), Evidence::Hold(id), fx);
                let credit =
                    (*kind == PayKind::Direct).then_some((Address::Account(order.seller), Evidence::Credit(id)));
                (order.status != OrderStatus::Pending, credit)
            }
            OrderEvent::Completed => {
                let credit = (Address::Account(order.seller), Evidence::Credit(id));
                (order.status == OrderStatus::Completed, Some(credit))
            }
            OrderEvent::Canceled { .. } => {
                let release = (Address::Store(order.store), Evidence::Release(id));
                (order.status == OrderStatus::Canceled, Some(release))
            }
            OrderEvent::Placed(_) | OrderEvent::Shipped => return,
        };
        if !done {
            fx.push(Effect::Append((id, event)));
        }
        if let Some((address, evidence)) = evidence {
            work.settle(address, evidence, fx);
        }
        work.end(id, Outcome::Done, fx);
    }
}

/// Asks the table; a refusal is answered.
fn go(order: &Order, command: Command, id: OrderId, ticket: Ticket, fx: &mut Effects<OrderShard>) -> bool {
    match judge(order.status, command, id) {
        Judgement::Go(_) => true,
        Judgement::Refuse(refusal) => {
            fx.push(refused(ticket, refusal));
            false
        }
        Judgement::Ignore => false,
    }
}

impl Entity for OrderShard {
    type Msg = OrderMsg;
    type Event = (OrderId, OrderEvent);
    type Work = Work;

    fn handle(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        match msg {
            OrderMsg::Place { .. } => self.place(work, msg, fx),
            OrderMsg::Reserved { order, facts } => {
                work.placed(facts.buyer);
                work.settle(Address::Store(facts.store), Evidence::Reservation(order), fx);
                if !self.orders.contains_key(&order) {
                    let deadline = facts.deadline;
                    fx.push(Effect::Append((order, OrderEvent::Placed(facts))));
                    fx.push(Effect::Deadline(deadline));
                }
                work.end(order, Outcome::Placed(order), fx);
            }
            OrderMsg::NotReserved { order, buyer, refusal } => {
                work.placed(buyer);
                work.end(order, Outcome::Refused(refusal), fx);
            }
            OrderMsg::Pay { .. } => self.pay(work, msg, now, fx),
            OrderMsg::Held { order } => self.close(work, order, OrderEvent::Paid(PayKind::Platform), fx),
            OrderMsg::Credited { order, cause: CreditCause::Payment } => {
                self.close(work, order, OrderEvent::Paid(PayKind::Direct), fx);
            }
            OrderMsg::Credited { order, cause: CreditCause::Confirmation } => {
                self.close(work, order, OrderEvent::Completed, fx);
            }
            OrderMsg::Released { order } => {
                let expired = match work.sagas.get(&order) {
                    Some(saga) => saga.expired,
                    None => self.orders.get(&order).is_some_and(|order| order.is_expired(now)),
                };
                self.close(work, order, OrderEvent::Canceled { expired }, fx);
            }
            OrderMsg::NotHeld { order, refusal }
            | OrderMsg::NotCredited { order, refusal }
            | OrderMsg::NotReleased { order, refusal } => work.end(order, Outcome::Refused(refusal), fx),
            OrderMsg::Confirm { .. } => self.confirm(work, msg, now, fx),
            OrderMsg::Ship { .. } => self.ship(work, msg, now, fx),
            OrderMsg::Cancel { .. } => self.cancel(work, msg, now, fx),
            OrderMsg::Status { .. } => self.status(work, msg, now, fx),
            OrderMsg::Buyer { ticket, order } => fx.push(match self.orders.get(&order) {
                Some(found) => Effect::Reply(ticket, Outcome::Buyer(found.buyer)),
                None => refused(ticket, Refusal::NoOrder(order.to_string())),
            }),
            OrderMsg::OfBuyer { .. } | OrderMsg::OfStore { .. } => self.list(work, msg, now, fx),
            OrderMsg::Count { ticket, buyer } => {
                fx.push(Effect::Reply(ticket, Outcome::Count(self.ids_of(buyer).len())));
            }
            OrderMsg::Unregister { .. } => self.unregister(work, msg, now, fx),
            OrderMsg::UnregisterEnded { ticket, buyer, refusal } => {
                Self::unregister_ended(work, ticket, buyer, refusal, fx);
            }
            OrderMsg::Due => self.sweep(work, msg, Ticket::NOBODY, now, fx),
            OrderMsg::Sweep { ticket } => self.sweep(work, msg, ticket, now, fx),
            OrderMsg::Flush => work.flush(fx),
            OrderMsg::PartEnded { part } => {
                if let Some((_, left)) = work.parts.get_mut(&part) {
                    *left -= 1;
                    if *left == 0 {
                        fx.extend(work.parts.remove(&part).map(|(msg, _)| Effect::Again(msg)));
                    }
                }
            }
        }
    }

    fn apply(&mut self, (id, event): &(OrderId, OrderEvent)) {
        if let OrderEvent::Placed(facts) = event {
            let order = Order::placed(facts);
            self.index(*id, &order);
            self.orders.insert(*id, order);
            return;
        }
        let Some(mut order) = self.orders.remove(id) else {
            return;
        };
        self.leave_pending(*id, &order);
        let was_open = order.is_open();
        order.apply(event);
        if let (true, false, Some(of_buyer)) = (was_open, order.is_open(), self.by_buyer.get_mut(&order.buyer)) {
            of_buyer.open -= 1;
        }
        self.orders.insert(*id, order);
    }

    fn forget(&mut self, _evidence: &[Evidence]) {}

    fn on_panic(_msg: &OrderMsg) -> OnPanic {
        // The queues may be half changed: no answer would be sure.
        OnPanic::Stop
    }
}
