//! What is asked of many orders at once: lists, and whether a buyer may go.

use super::super::effect::{Effect, Effects, OrdersOf, Outcome, Resting};
use super::super::ids::{AccountNo, Millis, OrderId, Ticket};
use super::super::message::{AccountMsg, Cred, OrderMsg, Send};
use super::super::refusal::Refusal;
use super::{OrderShard, Work, refused};
use crate::planted::{Fault, planted};

impl OrderShard {
    /// The orders of a buyer, or this shard's part of a store's: those in memory; those at rest are added to them.
    pub(super) fn list(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let (ticket, limit, of, ids) = match &msg {
            OrderMsg::OfBuyer { ticket, buyer, limit } => {
                (*ticket, *limit, OrdersOf::Buyer(*buyer), self.ids_of(*buyer))
            }
            OrderMsg::OfStore { ticket, shard, store, limit } => {
                let ids = self.by_store.get(store).map_or(&[][..], |ids| ids);
                (*ticket, *limit, OrdersOf::Store(*store, *shard), ids)
            }
            _ => return,
        };
        if ids.len() > limit {
            return fx.push(Effect::Reply(ticket, Outcome::TooMany));
        }
        if self.settle_due(work, msg, ids, now, fx).is_some() {
            let rows = ids.iter().filter_map(|id| self.orders.get(id).map(|order| (*id, (**order).clone())));
            let orders = rows.collect();
            fx.push(Effect::Resting(Resting::List { ticket, of, limit, orders }));
        }
    }

    pub(super) fn ids_of(&self, buyer: AccountNo) -> &[OrderId] {
        self.by_buyer.get(&buyer).map_or(&[], |of_buyer| &of_buyer.ids)
    }

    /// How many orders of a buyer are in memory, how many of them are open, and which may be on disk as well.
    pub fn orders_of(&self, buyer: AccountNo) -> (usize, usize, Vec<OrderId>) {
        let open = self.by_buyer.get(&buyer).map_or(0, |of_buyer| of_buyer.open);
        (self.ids_of(buyer).len(), open, self.on_disk_of(buyer))
    }

    /// Those in memory that may be on disk as well.
    pub(super) fn on_disk_of(&self, buyer: AccountNo) -> Vec<OrderId> {
        self.by_buyer.get(&buyer).map_or_else(Vec::new, |of_buyer| of_buyer.on_disk.iter().copied().collect())
    }

    /// Whether this shard has an open order of a store that is being closed, in memory or at rest. One that is being paid,
    /// confirmed or canceled is open until that is through.
    pub(super) fn open_of_store(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::OpenOfStore { ticket, shard, store, placed } = msg else {
            return;
        };
        let ids = self.by_store.get(&store).map_or(&[][..], |ids| ids);
        if self.settle_due(work, msg, ids, now, fx).is_none() {
            return;
        }
        let orders = || ids.iter().filter_map(|id| self.orders.get(id).map(|order| (*id, order)));
        if orders().any(|(_, order)| order.is_open()) {
            return fx.push(refused(ticket, super::super::store::open_orders()));
        }
        // Any of these may be at rest as well, as it was before.
        let orders = orders().map(|(id, _)| id).collect();
        if planted(Fault::OrdersAtRestNotAsked) {
            let open = Some(0);
            return fx.push(Effect::Again(OrderMsg::OpenOfStoreAtRest { ticket, shard, store, placed, open }));
        }
        fx.push(Effect::Resting(Resting::OpenOfStore { ticket, shard, store, placed, orders }));
    }

    /// Refused while an order of the user is open or being placed, in memory or at rest.
    pub(super) fn unregister(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::Unregister { ticket, buyer, cred } = msg else {
            return;
        };
        if cred == Cred::Refused {
            return fx.push(refused(ticket, Refusal::Unauthorized));
        }
        if let Some(waiting) = work.closing.get_mut(&buyer) {
            return waiting.push(msg);
        }
        if self.settle_due(work, msg, self.ids_of(buyer), now, fx).is_none() {
            return;
        }
        let open = self.by_buyer.get(&buyer).map_or(0, |of_buyer| of_buyer.open);
        if open > 0 || work.placing.contains_key(&buyer) {
            return fx.push(refused(ticket, open_orders()));
        }
        // From here on no order of his is placed, so none becomes open while those at rest are looked at.
        work.closing.insert(buyer, Vec::new());
        let orders = self.on_disk_of(buyer);
        fx.push(Effect::Resting(Resting::Open { ticket, buyer, cred, orders }));
    }

    /// The orders at rest were looked at; `None` if they could not be.
    pub(super) fn unregister_or_not(
        work: &mut Work,
        ticket: Ticket,
        buyer: AccountNo,
        cred: Cred,
        open: Option<u64>,
        fx: &mut Effects<Self>,
    ) {
        match open {
            Some(0) => fx.push(Effect::Send(Send::Account(buyer, AccountMsg::Close { ticket, cred }))),
            Some(_) => Self::unregister_ended(work, ticket, buyer, Some(open_orders()), fx),
            None => {
                fx.push(Effect::Reply(ticket, Outcome::Unreadable));
                Self::stop_closing(work, buyer, fx);
            }
        }
    }

    /// The account is closed, or stays open.
    pub(super) fn unregister_ended(
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
        Self::stop_closing(work, buyer, fx);
    }

    fn stop_closing(work: &mut Work, buyer: AccountNo, fx: &mut Effects<Self>) {
        let waiting = work.closing.remove(&buyer).unwrap_or_default();
        fx.extend(waiting.into_iter().map(Effect::Again));
    }
}

fn open_orders() -> Refusal {
    Refusal::invalid("user_id", "the user has open orders")
}
