//! The coordinator of one shard of orders: it starts sagas, closes them with the order's event, and keeps a queue
//! per order while one is in flight.
//!
//! - here: the commands, and the events that close their sagas;
//! - `work`: sagas in flight and who waits;
//! - `index`: the orders in memory, by id, buyer, store and deadline;
//! - `keys`: idempotency keys;
//! - `due`: what happens to orders by itself, when its time has come;
//! - `refund`: the way back of an order that is paid;
//! - `lists`: what is asked of many orders at once, and unregister;
//! - `resting`: orders that come into memory and leave it, by a `queue` of who rests longest.

mod due;
mod index;
mod keys;
mod lists;
mod queue;
mod refund;
mod resting;
mod work;

pub use index::OrderShard;
pub use resting::Leaving;
pub use work::Work;

use super::effect::{Effect, Effects, Entity, OnPanic, Outcome, Resting};
use super::event::{By, Credit, CreditCause, Evidence, OrderEvent, PayKind, Release};
use super::ids::{AccountNo, Millis, OrderId, Ticket};
use super::key::{Key, Scope};
use super::message::{AccountMsg, Address, Cred, OrderMsg, Send, StoreMsg};
use super::order::{Command, Judgement, Order, OrderStatus, judge};
use super::refusal::Refusal;
use super::store::open_orders;
use crate::planted::{Fault, planted};

fn refused(ticket: Ticket, refusal: Refusal) -> Effect<OrderMsg, (OrderId, OrderEvent)> {
    Effect::Reply(ticket, Outcome::Refused(refusal))
}

impl OrderShard {
    /// Finds the order for a command. `None`: the message waits, because another saga is in flight, or the order must
    /// be canceled first, or it is not in memory.
    fn find(
        &self,
        work: &mut Work,
        id: OrderId,
        msg: &OrderMsg,
        now: Millis,
        fx: &mut Effects<Self>,
    ) -> Option<&Order> {
        let Some(order) = self.orders.get(&id) else {
            Self::load(work, id, msg.clone(), fx);
            return None;
        };
        let late_is_fine = planted(Fault::LatePaymentTaken) && matches!(msg, OrderMsg::Pay { .. });
        if !late_is_fine {
            Self::begin_due(work, id, order, now, fx);
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
        by: By,
        key: Option<Key>,
        fx: &mut Effects<Self>,
    ) {
        if planted(Fault::ReservationNotReleased) {
            fx.push(Effect::Append((id, OrderEvent::Canceled { by, key })));
            return fx.push(Effect::Reply(ticket, Outcome::Done));
        }
        work.begin(id, ticket, scope(order.buyer, key));
        fx.push(release(id, order, by, key, false));
    }

    fn place(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::Place { ticket, buyer, key, .. } = msg else {
            return;
        };
        if work.closed.contains(&buyer) {
            return fx.push(Effect::Reply(ticket, Outcome::AccountGone));
        }
        if let Some(waiting) = work.closing.get_mut(&buyer) {
            return waiting.push(msg);
        }
        if !self.judge_key(work, buyer, key, &msg, now, fx) {
            return;
        }
        let OrderMsg::Place { order, store, lines, ttl, pending_max, .. } = msg else {
            return;
        };
        let pending = self.by_buyer.get(&buyer).map_or(0, |of_buyer| of_buyer.pending);
        let placing = work.placing.get(&buyer).copied().unwrap_or_default();
        if pending + placing >= pending_max {
            return fx.push(Effect::Reply(ticket, Outcome::Throttled("too many pending orders")));
        }
        work.placing.insert(buyer, placing + 1);
        work.begin(order, ticket, scope(buyer, key));
        fx.push(Effect::Send(Send::Store(store, StoreMsg::Reserve { order, buyer, lines, ttl, key })));
    }

    fn pay(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::Pay { ticket, order: id, user, cred, kind, key } = msg else {
            return;
        };
        let Some(order) = self.find_own(work, id, ticket, user, cred, &msg, now, fx) else {
            return;
        };
        if !self.judge_key(work, order.buyer, key, &msg, now, fx) {
            return;
        }
        let command = match kind {
            PayKind::Direct => Command::Pay,
            PayKind::Platform => Command::PayToPlatform,
        };
        // Its cancellation failed: it is too late all the same.
        let is_late = order.is_expired(now) && !planted(Fault::LatePaymentTaken);
        let status = if is_late { OrderStatus::Canceled } else { order.status };
        if !go_from(status, command, id, ticket, fx) {
            return;
        }
        work.begin(id, ticket, scope(order.buyer, key));
        let hold = AccountMsg::Hold { order: id, cred, kind, seller: order.seller, amount: order.total, key };
        fx.push(Effect::Send(Send::Account(order.buyer, hold)));
        if planted(Fault::EvidenceForgottenEarly) {
            fx.push(Effect::Send(Send::Forget(Address::Account(order.buyer), vec![Evidence::Hold(id)])));
        }
    }

    fn confirm(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::Confirm { ticket, order: id, user, cred, key } = msg else {
            return;
        };
        let Some(order) = self.find_own(work, id, ticket, user, cred, &msg, now, fx) else {
            return;
        };
        if !self.judge_key(work, order.buyer, key, &msg, now, fx) || !go(order, Command::Confirm, id, ticket, fx) {
            return;
        }
        if order.payment == Some(PayKind::Platform) {
            return Self::start_confirm(work, id, order, ticket, By::Buyer, key, fx);
        }
        fx.push(Effect::Append((id, OrderEvent::Completed { by: By::Buyer, key })));
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
        let order = self.find(work, id, msg, now, fx)?;
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
        let OrderMsg::Ship { ticket, order: id, store, confirm_after } = msg else {
            return;
        };
        let Some(order) = self.find(work, id, &msg, now, fx) else {
            return;
        };
        if order.store != store {
            return fx.push(refused(ticket, Refusal::NoOrder(id.to_string())));
        }
        if go(order, Command::Ship, id, ticket, fx) {
            // Who was paid directly has the money: it makes no difference to him.
            let is_awaited = order.payment == Some(PayKind::Platform) || planted(Fault::DirectlyPaidIsAwaited);
            let confirm_by = confirm_after.filter(|_| is_awaited).map(|after| now.saturating_add(after));
            fx.push(Effect::Append((id, OrderEvent::Shipped { confirm_by })));
            fx.extend(confirm_by.map(Effect::Deadline));
            fx.push(Effect::Reply(ticket, Outcome::Done));
        }
    }

    fn cancel(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::Cancel { ticket, order: id, user, key } = msg else {
            return;
        };
        if !self.judge_key(work, user, key, &msg, now, fx) {
            return;
        }
        let Some(order) = self.find(work, id, &msg, now, fx) else {
            return;
        };
        if order.buyer != user {
            return fx.push(refused(ticket, Refusal::NoOrder(id.to_string())));
        }
        if go(order, Command::Cancel, id, ticket, fx) {
            Self::start_cancel(work, id, order, ticket, By::Buyer, key, fx);
        }
    }

    /// A read answers from the state, also while a saga is in flight; only what is due happens first.
    fn read(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let (ticket, id, user, is_seller) = match msg {
            OrderMsg::Status { ticket, order, user } => (ticket, order, user, false),
            OrderMsg::Look { ticket, order, user, is_seller } => (ticket, order, user, is_seller),
            _ => return,
        };
        let Some(order) = self.orders.get(&id) else {
            return Self::load(work, id, msg, fx);
        };
        if user != if is_seller { order.seller } else { order.buyer } {
            return fx.push(refused(ticket, Refusal::NoOrder(id.to_string())));
        }
        if work.is_due(id, order, now) {
            let _ = self.find(work, id, &msg, now, fx);
            return;
        }
        let outcome = match msg {
            OrderMsg::Status { .. } => Outcome::Status(order.status),
            _ => Outcome::Order(order.clone()),
        };
        fx.push(Effect::Reply(ticket, outcome));
    }

    /// Closes a saga with the order's event, unless an earlier process did.
    fn close(&self, work: &mut Work, id: OrderId, event: OrderEvent, fx: &mut Effects<Self>) {
        let Some(order) = self.orders.get(&id) else {
            return;
        };
        let (buyer, seller) = (Address::Account(order.buyer), Address::Account(order.seller));
        let (done, evidence) = match &event {
            OrderEvent::Paid { kind, .. } => {
                let credit = (*kind == PayKind::Direct).then_some((seller, Evidence::Credit(id, CreditCause::Payment)));
                (order.status != OrderStatus::Pending, [Some((buyer, Evidence::Hold(id))), credit, None])
            }
            OrderEvent::Completed { .. } => {
                let credit = (seller, Evidence::Credit(id, CreditCause::Confirmation));
                (order.status == OrderStatus::Completed, [Some(credit), None, None])
            }
            OrderEvent::Canceled { .. } => {
                let release = (Address::Store(order.store), Evidence::Release(id));
                // What was paid is refunded.
                let credit = order.payment.map(|kind| (buyer, Evidence::Credit(id, CreditCause::Refund(kind))));
                let taken = (order.payment == Some(PayKind::Direct)).then_some((seller, Evidence::Refund(id)));
                (order.status == OrderStatus::Canceled, [Some(release), credit, taken])
            }
            OrderEvent::Placed(_) | OrderEvent::Shipped { .. } | OrderEvent::ReceiptExtended { .. } => return,
        };
        if !done || planted(Fault::SettledSagaRunAgain) {
            fx.push(Effect::Append((id, event)));
        }
        for (address, evidence) in evidence.into_iter().flatten() {
            work.settle(address, evidence, fx);
        }
        work.end(id, Outcome::Done, fx);
    }
}

/// The step that gives an order's copies back.
fn release(
    id: OrderId,
    order: &Order,
    by: By,
    key: Option<Key>,
    is_refund: bool,
) -> Effect<OrderMsg, (OrderId, OrderEvent)> {
    let release = Release { lines: order.lines.clone(), by, key };
    Effect::Send(Send::Store(order.store, StoreMsg::Release { order: id, release, is_refund }))
}

/// What a key counts for.
fn scope(buyer: AccountNo, key: Option<Key>) -> Option<(AccountNo, Scope)> {
    key.map(|key| (buyer, key.scope()))
}

/// Asks the table; a refusal is answered.
fn go(order: &Order, command: Command, id: OrderId, ticket: Ticket, fx: &mut Effects<OrderShard>) -> bool {
    go_from(order.status, command, id, ticket, fx)
}

fn go_from(status: OrderStatus, command: Command, id: OrderId, ticket: Ticket, fx: &mut Effects<OrderShard>) -> bool {
    match judge(status, command, id) {
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
            OrderMsg::Place { .. } => self.place(work, msg, now, fx),
            OrderMsg::Refuse { ticket, buyer, key, refusal } => {
                let msg = OrderMsg::Refuse { ticket, buyer, key, refusal: refusal.clone() };
                if self.judge_key(work, buyer, Some(key), &msg, now, fx) {
                    fx.push(refused(ticket, refusal));
                }
            }
            OrderMsg::KeyLookedUp { .. } => self.key_looked_up(work, msg, now, fx),
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
                work.end(order, refusal.map_or(Outcome::StoreClosed, Outcome::Refused), fx);
            }
            OrderMsg::Pay { .. } => self.pay(work, msg, now, fx),
            OrderMsg::Held { order, key } => {
                self.close(work, order, OrderEvent::Paid { kind: PayKind::Platform, key }, fx);
            }
            OrderMsg::Credited { order, credit: Credit { cause, by, key, .. } } => {
                let event = match cause {
                    CreditCause::Payment => OrderEvent::Paid { kind: PayKind::Direct, key },
                    CreditCause::Confirmation => OrderEvent::Completed { by, key },
                    CreditCause::Refund(_) => return self.refunded(work, order, by, key, fx),
                };
                self.close(work, order, event, fx);
            }
            OrderMsg::Released { order, by, key } => {
                self.close(work, order, OrderEvent::Canceled { by, key }, fx);
            }
            OrderMsg::NotCredited { order, refusal } | OrderMsg::NotReleased { order, refusal } => {
                if work.is_for_nobody(order) {
                    work.pause(order, now);
                }
                work.end(order, Outcome::Refused(refusal), fx);
            }
            OrderMsg::NotHeld { order, refusal } | OrderMsg::NotTakenBack { order, refusal } => {
                work.end(order, Outcome::Refused(refusal), fx)
            }
            OrderMsg::Confirm { .. } => self.confirm(work, msg, now, fx),
            OrderMsg::Ship { .. } => self.ship(work, msg, now, fx),
            OrderMsg::ExtendReceipt { .. } => self.extend_receipt(work, msg, now, fx),
            OrderMsg::Cancel { .. } => self.cancel(work, msg, now, fx),
            OrderMsg::Refund { .. } => self.refund(work, msg, now, fx),
            OrderMsg::Status { .. } | OrderMsg::Look { .. } => self.read(work, msg, now, fx),
            OrderMsg::Buyer { ticket, order } => match self.orders.get(&order) {
                Some(found) => fx.push(Effect::Reply(ticket, Outcome::Buyer(found.buyer))),
                None => Self::load(work, order, msg, fx),
            },
            OrderMsg::Loaded { order, unreadable } => self.loaded(work, order, unreadable, now, fx),
            OrderMsg::Overdue { order, part } => self.overdue_loaded(work, order, part, now, fx),
            OrderMsg::OfBuyer { .. } | OrderMsg::OfStore { .. } => self.list(work, msg, now, fx),
            OrderMsg::Count { ticket, buyer } => {
                let (in_memory, orders) = (self.ids_of(buyer).len(), self.on_disk_of(buyer));
                fx.push(Effect::Resting(Resting::Count { ticket, buyer, in_memory, orders }));
            }
            OrderMsg::OpenOfStore { .. } => self.open_of_store(work, msg, now, fx),
            OrderMsg::OpenOfStoreAtRest { ticket, shard, store, placed, open } => fx.push(match open {
                Some(0) => Effect::Send(Send::Store(store, StoreMsg::NoneOpen { ticket, shard, placed })),
                Some(_) => refused(ticket, open_orders()),
                None => Effect::Reply(ticket, Outcome::Unreadable),
            }),
            OrderMsg::Unregister { .. } => self.unregister(work, msg, now, fx),
            OrderMsg::OpenAtRest { ticket, buyer, cred, open } => {
                Self::unregister_or_not(work, ticket, buyer, cred, open, fx);
            }
            OrderMsg::UnregisterEnded { ticket, buyer, refusal } => {
                Self::unregister_ended(work, ticket, buyer, refusal, fx);
            }
            OrderMsg::Due => self.sweep(work, msg, Ticket::NOBODY, now, fx),
            OrderMsg::Sweep { ticket } => self.sweep(work, msg, ticket, now, fx),
            OrderMsg::Flush => work.flush(fx),
            OrderMsg::AsOf { asked, msg } => self.handle(work, *msg, asked, fx),
            OrderMsg::PartEnded { part } => work.part_ended(part, now, fx),
        }
    }

    fn apply(&mut self, (id, event): &(OrderId, OrderEvent), at: Millis) {
        if let OrderEvent::Placed(facts) = event {
            return self.insert(*id, Order::placed(facts, at));
        }
        self.change(*id, event, at);
    }

    fn forget(&mut self, _evidence: &[Evidence]) {}

    fn on_panic(_msg: &OrderMsg) -> OnPanic {
        // The queues may be half changed: no answer would be sure.
        OnPanic::Stop
    }
}
