//! The orders in memory, and where they are found. Indexes are rebuilt from the rows, never persisted.

use std::collections::{BTreeSet, HashMap};

use super::super::event::OrderEvent;
use super::super::hash::{NumberMap, NumberSet};
use super::super::ids::{AccountNo, Millis, OrderId, StoreNo};
use super::super::key::{Kept, Scope};
use super::super::order::{Order, OrderStatus};
use super::keys::KeysAtRest;
use super::queue::{Queue, ROOM_USED_LEAST};
use crate::planted::{Fault, planted};

/// The orders of the buyers of one shard: those in memory. Others rest on disk.
#[derive(Debug, Default)]
pub struct OrderShard {
    /// Each in a box: so the table is small, and little is moved and zeroed when it grows.
    pub(crate) orders: NumberMap<OrderId, Box<Order>>,
    pub(super) by_buyer: NumberMap<AccountNo, OfBuyer>,
    pub(super) by_store: NumberMap<StoreNo, Vec<OrderId>>,
    pub(super) deadlines: BTreeSet<(Millis, OrderId)>,
    /// When orders are confirmed by themselves: those in memory, and those on disk that leave only this behind.
    pub(super) awaited: BTreeSet<(Millis, OrderId)>,
    pub(super) resting: Queue,
    /// Which order keeps a buyer's idempotency key, the newest if there are several, with the time of its event.
    pub(super) keys: HashMap<(AccountNo, Scope), (OrderId, Millis)>,
    /// What is known of the keys of orders on disk.
    pub(super) keys_at_rest: KeysAtRest,
}

/// What a buyer has in memory.
#[derive(Debug, Default)]
pub(super) struct OfBuyer {
    pub(super) ids: Vec<OrderId>,
    pub(super) pending: usize,
    pub(super) open: usize,
    /// Those of `ids` that may have a row on disk as well.
    pub(super) on_disk: NumberSet<OrderId>,
}

impl OrderShard {
    /// Takes in an order that was placed, or a row.
    pub fn insert(&mut self, id: OrderId, order: Order) {
        if let Some(old) = self.orders.remove(&id) {
            self.await_confirmation(id, old.awaits(), None);
            self.unindex(&NumberMap::from_iter([(id, old)]));
        }
        self.await_confirmation(id, None, order.awaits());
        let of_buyer = self.by_buyer.entry(order.buyer).or_default();
        of_buyer.ids.push(id);
        of_buyer.open += usize::from(order.is_open());
        if order.status == OrderStatus::Pending {
            of_buyer.pending += 1;
            self.deadlines.insert((order.deadline, id));
        } else {
            self.resting.push(id, order.seq);
        }
        self.by_store.entry(order.store).or_default().push(id);
        for kept in &order.keys {
            keep(&mut self.keys, id, order.buyer, kept);
        }
        self.orders.insert(id, Box::new(order));
    }

    /// Notes that an order in memory may have a row on disk.
    pub(super) fn on_disk(&mut self, id: OrderId, buyer: AccountNo) {
        if let Some(of_buyer) = self.by_buyer.get_mut(&buyer) {
            of_buyer.on_disk.insert(id);
        }
    }

    /// Orders in memory.
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// The first time at which something happens to an order by itself.
    pub fn next_deadline(&self) -> Option<Millis> {
        let first = |times: &BTreeSet<(Millis, OrderId)>| times.first().map(|(time, _)| *time);
        first(&self.deadlines).into_iter().chain(first(&self.awaited)).min()
    }

    /// Notes that an order on disk is confirmed by itself at this time. Nothing is if it is in memory: then that counts.
    pub fn awaits_at_rest(&mut self, id: OrderId, at: Millis) {
        if !self.orders.contains_key(&id) {
            self.awaited.insert((at, id));
        }
    }

    /// Whether this is noted as the time at which an order is confirmed by itself.
    pub(super) fn is_noted(&self, id: OrderId, at: Millis) -> bool {
        self.awaited.contains(&(at, id))
    }

    /// Drops whatever is noted of an order's time. Looks through all, so only for what was noted wrongly.
    pub(super) fn forget_time(&mut self, id: OrderId) {
        self.awaited.retain(|(_, other)| *other != id);
    }

    /// The time at which an order is confirmed by itself has changed.
    fn await_confirmation(&mut self, id: OrderId, before: Option<Millis>, now: Option<Millis>) {
        if before != now {
            if let Some(at) = before {
                self.awaited.remove(&(at, id));
            }
            self.awaited.extend(now.map(|at| (at, id)));
        }
    }

    /// The wrong thing, see `Fault::DeadlineSkippedAtRecovery`.
    pub(crate) fn forget_deadlines(&mut self) {
        self.deadlines.clear();
    }

    /// Applies an event after `Placed`.
    pub(super) fn change(&mut self, id: OrderId, event: &OrderEvent, at: Millis) {
        let Some(order) = self.orders.get_mut(&id) else {
            return;
        };
        let (was_pending, was_open) = (order.status == OrderStatus::Pending, order.is_open());
        let (keys, awaited) = (order.keys.len(), order.awaits());
        order.apply(event, at);
        for kept in &order.keys[keys..] {
            keep(&mut self.keys, id, order.buyer, kept);
        }
        let (deadline, seq, is_open) = (order.deadline, order.seq, order.is_open());
        let awaits = order.awaits();
        if let Some(of_buyer) = self.by_buyer.get_mut(&order.buyer) {
            of_buyer.pending -= usize::from(was_pending);
            of_buyer.open -= usize::from(was_open && !is_open);
        }
        if was_pending {
            self.deadlines.remove(&(deadline, id));
        }
        self.await_confirmation(id, awaited, awaits);
        // No event leaves an order pending.
        self.resting.push(id, seq);
    }

    /// Takes orders out of memory. When they are confirmed by themselves stays.
    pub(super) fn remove(&mut self, ids: impl IntoIterator<Item = OrderId>) -> usize {
        let gone = ids.into_iter().filter_map(|id| self.orders.remove(&id).map(|order| (id, order)));
        let gone: NumberMap<_, _> = gone.collect();
        if planted(Fault::AwaitedForgottenAtRest) {
            self.awaited.retain(|(_, id)| !gone.contains_key(id));
        }
        self.unindex(&gone);
        shrink(&mut self.orders);
        shrink(&mut self.by_buyer);
        shrink(&mut self.by_store);
        shrink(&mut self.keys);
        gone.len()
    }

    /// Takes orders out of the indexes: one pass over each list, however many of its orders go.
    fn unindex(&mut self, gone: &NumberMap<OrderId, Box<Order>>) {
        for (id, order) in gone {
            let pending = order.status == OrderStatus::Pending;
            if pending {
                self.deadlines.remove(&(order.deadline, *id));
            }
            if let Some(of_buyer) = self.by_buyer.get_mut(&order.buyer) {
                of_buyer.pending -= usize::from(pending);
                of_buyer.open -= usize::from(order.is_open());
                of_buyer.on_disk.remove(id);
            }
            for scope in order.keys.iter().map(|kept| (order.buyer, kept.key.scope())) {
                if self.keys.get(&scope).is_some_and(|(keeper, _)| keeper == id) {
                    self.keys.remove(&scope);
                }
            }
        }
        for buyer in gone.values().map(|order| order.buyer).collect::<NumberSet<_>>() {
            if let Some(of_buyer) = self.by_buyer.get_mut(&buyer) {
                of_buyer.ids.retain(|id| !gone.contains_key(id));
                if of_buyer.ids.is_empty() {
                    self.by_buyer.remove(&buyer);
                } else {
                    shrink_list(&mut of_buyer.ids);
                    shrink_set(&mut of_buyer.on_disk);
                }
            }
        }
        for store in gone.values().map(|order| order.store).collect::<NumberSet<_>>() {
            if let Some(ids) = self.by_store.get_mut(&store) {
                ids.retain(|id| !gone.contains_key(id));
                if ids.is_empty() {
                    self.by_store.remove(&store);
                } else {
                    shrink_list(ids);
                }
            }
        }
    }
}

/// A key that was used again after its time names the later order.
fn keep(keys: &mut HashMap<(AccountNo, Scope), (OrderId, Millis)>, id: OrderId, buyer: AccountNo, kept: &Kept) {
    let newest = keys.entry((buyer, kept.key.scope())).or_insert((id, kept.at));
    if newest.1 <= kept.at {
        *newest = (id, kept.at);
    }
}

fn shrink_list(list: &mut Vec<OrderId>) {
    if list.len() < list.capacity() / ROOM_USED_LEAST {
        list.shrink_to(2 * list.len());
    }
}

fn shrink_set(set: &mut NumberSet<OrderId>) {
    if set.len() < set.capacity() / ROOM_USED_LEAST {
        set.shrink_to(2 * set.len());
    }
}

fn shrink<K: Eq + std::hash::Hash, V, S: std::hash::BuildHasher>(map: &mut HashMap<K, V, S>) {
    if map.len() < map.capacity() / ROOM_USED_LEAST {
        map.shrink_to(2 * map.len());
    }
}
