//! Questions of the coordinator shards about orders that are not in memory. A view of them is taken while the shard
//! stands still, so that an order is seen in memory or on disk; the disk is read elsewhere.

use std::collections::HashSet;
use std::sync::Arc;

use super::shell::Mail;
use super::system::System;
use crate::cold::{ColdError, Counts, View};
use crate::domain::{OrderId, OrderMsg, OrderStatus, OrdersOf, Outcome, Resting};

impl System {
    /// Answers a question of a shard, which is in its handler.
    pub(super) fn ask_resting(self: &Arc<Self>, question: Resting) {
        let keyless = matches!(question, Resting::Key { .. }) && !self.resting.has_keys();
        if self.resting.is_empty() || keyless {
            return self.answer_resting(question, None);
        }
        match self.resting.view() {
            Ok(view) => {
                let system = self.clone();
                self.runtime.spawn(async move {
                    // Never closed.
                    let _turn = system.readers.clone().acquire_owned().await;
                    let reader = system.clone();
                    let read = move || reader.answer_resting(question, Some(&view));
                    if system.runtime.spawn_blocking(read).await.is_err_and(|error| error.is_panic()) {
                        system.fail("the reader of orders at rest panicked".into());
                    }
                });
            }
            Err(error) => self.resting_failed(&error),
        }
    }

    /// `view`: none if nothing is at rest.
    fn answer_resting(self: &Arc<Self>, question: Resting, view: Option<&View>) {
        match question {
            Resting::Load(order) => self.load(order, view),
            Resting::List { ticket, of, limit, mut orders } => {
                let outcome = match self.add_resting(&mut orders, of, limit, view) {
                    Some(count) if count > limit => Outcome::TooMany,
                    Some(_) => Outcome::Orders(orders),
                    None => Outcome::Unreadable,
                };
                self.answers.reply(ticket, outcome, &self.journal);
            }
            Resting::Count { ticket, buyer, in_memory, orders } => {
                let outcome = match self.count(OrdersOf::Buyer(buyer), &orders, view) {
                    Some(counts) => Outcome::Count(in_memory + counts.orders as usize),
                    None => Outcome::Unreadable,
                };
                self.answers.reply(ticket, outcome, &self.journal);
            }
            Resting::Key { buyer, scope } => {
                let found = self.readable(view.map_or(Ok(None), |view| view.keeper(buyer, scope)));
                let unreadable = found.is_none();
                let found = found.flatten();
                let msg = OrderMsg::KeyLookedUp { buyer, scope, found, unreadable };
                self.to_shard(buyer.shard(), Mail::Msg(msg));
            }
            Resting::Open { ticket, buyer, cred, orders } => {
                let open = self.count(OrdersOf::Buyer(buyer), &orders, view).map(|counts| counts.open);
                self.to_shard(buyer.shard(), Mail::Msg(OrderMsg::OpenAtRest { ticket, buyer, cred, open }));
            }
        }
    }

    fn load(&self, id: OrderId, view: Option<&View>) {
        let found = self.readable(view.map_or(Ok(None), |view| view.get(id)));
        let take_in = move |shard: &mut crate::domain::OrderShard, _: &mut _| {
            let unreadable = found.is_none();
            if let Some(order) = found.flatten() {
                shard.bring_back(id, order);
            }
            Some(OrderMsg::Loaded { order: id, unreadable })
        };
        self.to_shard(id.shard(), Mail::Change(Box::new(take_in)));
    }

    /// Adds the orders at rest, unless there are too many in all; returns how many there are.
    fn add_resting(
        &self,
        orders: &mut Vec<(OrderId, crate::domain::Order)>,
        of: OrdersOf,
        limit: usize,
        view: Option<&View>,
    ) -> Option<usize> {
        let Some(view) = view else {
            return Some(orders.len());
        };
        // A pending order is never on disk.
        let settled = orders.iter().filter(|(_, order)| order.status != OrderStatus::Pending);
        let in_memory: Vec<_> = settled.map(|(id, _)| *id).collect();
        let count = orders.len() + self.count(of, &in_memory, Some(view))?.orders as usize;
        if count > orders.len() && count <= limit {
            let in_memory: HashSet<_> = in_memory.into_iter().collect();
            orders.extend(self.readable(view.list(of, &in_memory))?);
        }
        Some(count)
    }

    fn count(&self, of: OrdersOf, in_memory: &[OrderId], view: Option<&View>) -> Option<Counts> {
        self.readable(view.map_or(Ok(Counts::default()), |view| view.count(of, in_memory)))
    }

    /// What was read; `None` after the failure was reported.
    fn readable<T>(&self, read: Result<T, ColdError>) -> Option<T> {
        read.inspect_err(|error| self.resting_failed(error)).ok()
    }

    /// One damaged row is told to whoever asks for it, and harms nobody else. Any other error is final.
    pub(crate) fn resting_failed(&self, error: &ColdError) {
        tracing::error!(%error, "orders at rest cannot be read");
        match error {
            // The engine is closing: nobody waits any more.
            ColdError::Closed => {}
            ColdError::Damaged { .. } if self.resting.is_sound() => {}
            _ => self.fail(format!("orders at rest: {error}")),
        }
    }
}
