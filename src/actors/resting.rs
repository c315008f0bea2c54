//! Questions of the coordinator shards about orders that are not in memory. A view of them is taken while the shard
//! stands still, so that an order is seen in memory or on disk; the disk is read elsewhere.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
#[cfg(feature = "server")]
use std::time::Duration;
use std::time::Instant;

use super::shell::Mail;
use super::system::System;
use crate::cold::{ColdError, Counts, View};
use crate::domain::{Order, OrderId, OrderMsg, OrderShard, OrderStatus, OrdersOf, Outcome, Resting, Ticket};
use crate::trace;

impl System {
    /// Answers a question of a shard, which is in its handler.
    pub(super) fn ask_resting(self: &Arc<Self>, question: Resting) {
        if self.resting.is_empty() {
            return self.answer_resting(question, None);
        }
        match self.resting.view() {
            Ok(view) => {
                let (system, asked, request) = (self.clone(), Instant::now(), trace::current());
                let for_nobody = matches!(question, Resting::LoadOverdue(_));
                self.runtime.spawn(async move {
                    // Neither is ever closed. A flood of these stands in a queue of its own, and not before callers.
                    let _first = match for_nobody {
                        true => Some(system.readers_for_nobody.clone().acquire_owned().await),
                        false => None,
                    };
                    let _turn = system.readers.clone().acquire_owned().await;
                    let reader = system.clone();
                    let read = move || request.run(|| reader.answer_resting(question, Some(&view)));
                    if system.runtime.spawn_blocking(read).await.is_err_and(|error| error.is_panic()) {
                        system.fail("the reader of orders at rest panicked".into());
                    }
                    if !for_nobody {
                        system.reads_us.fetch_add(asked.elapsed().as_micros() as u64, Ordering::Relaxed);
                    }
                });
            }
            Err(error) => self.resting_failed(&error),
        }
    }

    /// How long questions of callers about orders on disk took, in sum.
    #[cfg(feature = "server")]
    pub(crate) fn reads(&self) -> Duration {
        Duration::from_micros(self.reads_us.load(Ordering::Relaxed))
    }

    fn answer_resting(self: &Arc<Self>, question: Resting, view: Option<&View>) {
        let (answered, trouble) = answer(question, view);
        if let Some(error) = trouble {
            self.resting_failed(&error);
        }
        match answered {
            Answered::Reply(ticket, outcome) => self.answers.reply(ticket, outcome, &self.journal),
            Answered::Tell(shard, msg) => self.to_shard(shard, Mail::Msg(msg, trace::current())),
            Answered::Loaded(id, found, msg) => {
                let take_in = move |shard: &mut OrderShard, work: &mut _| {
                    if let Some(order) = found
                        && !shard.bring_back(work, id, order)
                    {
                        tracing::warn!(%id, "the time to confirm this order by itself was noted wrongly");
                    }
                    Some(msg)
                };
                self.to_shard(id.shard(), Mail::Change(Box::new(take_in), trace::current()));
            }
        }
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

/// What follows from a question about orders at rest.
#[derive(Debug)]
pub enum Answered {
    /// The caller is answered.
    Reply(Ticket, Outcome),
    /// The shard that asked is told.
    Tell(usize, OrderMsg),
    /// The order's shard takes it into memory, if it is there, and is told.
    Loaded(OrderId, Option<Order>, OrderMsg),
}

/// Answers a question from a view that was taken while the shard that asks stood still; `None` if nothing is at rest.
/// Also says what could not be read; nothing was done then.
pub fn answer(question: Resting, view: Option<&View>) -> (Answered, Option<ColdError>) {
    match question {
        Resting::Load(order) | Resting::LoadOverdue(order) => {
            let (found, trouble) = split(view.map_or(Ok(None), |view| view.get(order)));
            let loaded = OrderMsg::Loaded { order, unreadable: trouble.is_some() };
            (Answered::Loaded(order, found.flatten(), loaded), trouble)
        }
        Resting::List { ticket, of, limit, orders } => {
            let (listed, trouble) = split(list(orders, of, limit, view));
            let outcome = match listed {
                Some(Some(orders)) => Outcome::Orders(orders),
                Some(None) => Outcome::TooMany,
                None => Outcome::Unreadable,
            };
            (Answered::Reply(ticket, outcome), trouble)
        }
        Resting::Count { ticket, buyer, in_memory, orders } => {
            let (counted, trouble) = split(count(OrdersOf::Buyer(buyer), &orders, view));
            let outcome = match counted {
                Some(counts) => Outcome::Count(in_memory + counts.orders as usize),
                None => Outcome::Unreadable,
            };
            (Answered::Reply(ticket, outcome), trouble)
        }
        Resting::Key { buyer, scope, now } => {
            let (found, trouble) = split(view.map_or(Ok(None), |view| view.keeper(buyer, scope, now)));
            let unreadable = trouble.is_some();
            let found = found.flatten();
            (Answered::Tell(buyer.shard(), OrderMsg::KeyLookedUp { buyer, scope, found, unreadable }), trouble)
        }
        Resting::Open { ticket, buyer, cred, orders } => {
            let (counted, trouble) = split(count(OrdersOf::Buyer(buyer), &orders, view));
            let open = counted.map(|counts| counts.open);
            (Answered::Tell(buyer.shard(), OrderMsg::OpenAtRest { ticket, buyer, cred, open }), trouble)
        }
        Resting::OpenOfStore { ticket, shard, store, placed, orders } => {
            let (counted, trouble) = split(count(OrdersOf::Store(store, shard), &orders, view));
            let open = counted.map(|counts| counts.open);
            (Answered::Tell(shard, OrderMsg::OpenOfStoreAtRest { ticket, shard, store, placed, open }), trouble)
        }
    }
}

/// Adds the orders at rest; `None` if there are too many in all.
fn list(
    mut orders: Vec<(OrderId, Order)>,
    of: OrdersOf,
    limit: usize,
    view: Option<&View>,
) -> Result<Option<Vec<(OrderId, Order)>>, ColdError> {
    let Some(view) = view else {
        return Ok((orders.len() <= limit).then_some(orders));
    };
    // A pending order is never on disk.
    let settled = orders.iter().filter(|(_, order)| order.status != OrderStatus::Pending);
    let in_memory: Vec<_> = settled.map(|(id, _)| *id).collect();
    let sum = orders.len() + view.count(of, &in_memory)?.orders as usize;
    if sum > orders.len() && sum <= limit {
        let in_memory: HashSet<_> = in_memory.into_iter().collect();
        orders.extend(view.list(of, &in_memory)?);
    }
    Ok((sum <= limit).then_some(orders))
}

fn count(of: OrdersOf, in_memory: &[OrderId], view: Option<&View>) -> Result<Counts, ColdError> {
    view.map_or(Ok(Counts::default()), |view| view.count(of, in_memory))
}

fn split<T>(read: Result<T, ColdError>) -> (Option<T>, Option<ColdError>) {
    match read {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error)),
    }
}
