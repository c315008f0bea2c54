//! Orders that come into memory and leave it. An order with no saga in flight and no deadline rests: nothing happens
//! to it by itself, so it need not be in memory. Whoever runs the shard writes it to disk and then lets it go; the next
//! command brings it back.

use std::collections::{HashSet, VecDeque};

use super::super::effect::{Effect, Effects, Outcome, Resting, Ticket};
use super::super::ids::{Millis, OrderId};
use super::super::message::OrderMsg;
use super::super::order::{Order, OrderStatus};
use super::super::refusal::Refusal;
use super::{OrderShard, Work, refused};

/// Orders in the order in which they began to rest, each with its sequence number then. One that changes gets a new
/// entry, and the old one means nothing any more.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<(OrderId, u32)>,
    /// Entries that were taken from the front so far.
    taken: u64,
    /// How many entries there had been, at some times.
    marks: VecDeque<(Millis, u64)>,
}

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

impl Queue {
    pub(super) fn push(&mut self, id: OrderId, seq: u32) {
        self.entries.push_back((id, seq));
    }

    /// Takes the entries that are due.
    fn take(&mut self, leaving: Leaving) -> Vec<(OrderId, u32)> {
        self.marks.push_back((leaving.now, self.taken + self.entries.len() as u64));
        let mut old = 0;
        while let Some((at, count)) = self.marks.front().copied()
            && at + leaving.idle <= leaving.now
        {
            old = count.saturating_sub(self.taken) as usize;
            self.marks.pop_front();
        }
        let due = old.max(self.entries.len().saturating_sub(leaving.keep)).min(leaving.at_most);
        if due < old {
            // The rest of them are due at once the next time.
            self.marks.push_front((leaving.now.saturating_sub(leaving.idle), self.taken + old as u64));
        }
        self.taken += due as u64;
        let taken = self.entries.drain(..due).collect();
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(2 * self.entries.len());
        }
        taken
    }
}

impl OrderShard {
    /// Orders that may leave memory, with their sequence numbers. What does not leave in the end must be given back
    /// through [`OrderShard::leave`], for it is not named again.
    pub fn leaving(&mut self, work: &Work, leaving: Leaving) -> Vec<(OrderId, u32)> {
        let mut entries = self.resting.take(leaving);
        entries.retain(|(id, seq)| self.orders.get(id).is_some_and(|order| order.seq == *seq));
        let (rest, busy) = entries.into_iter().partition(|(id, _)| !work.sagas.contains_key(id));
        let busy: Vec<_> = busy;
        for (id, seq) in busy {
            self.resting.push(id, seq);
        }
        rest
    }

    /// The rows of those that still rest as they did.
    pub fn rows(&self, work: &Work, named: &[(OrderId, u32)]) -> Vec<(OrderId, Order)> {
        let still = named.iter().filter(|entry| self.rests(work, entry));
        still.filter_map(|(id, _)| self.orders.get(id).map(|order| (*id, order.clone()))).collect()
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
        let same = |order: &Order| order.seq == *seq && order.status != OrderStatus::Pending;
        self.orders.get(id).is_some_and(same) && !work.sagas.contains_key(id)
    }

    /// A command on an order that is not in memory: it waits until the order is, or is known not to be.
    pub(super) fn load(work: &mut Work, id: OrderId, msg: OrderMsg, fx: &mut Effects<Self>) {
        let waiting = work.loading.entry(id).or_default();
        if waiting.is_empty() {
            fx.push(Effect::Resting(Resting::Load(id)));
        }
        waiting.push(msg);
    }

    /// The order was taken in, or it does not exist.
    pub(super) fn loaded(&self, work: &mut Work, id: OrderId, unreadable: bool, fx: &mut Effects<Self>) {
        let waiting = work.loading.remove(&id).unwrap_or_default();
        if self.orders.contains_key(&id) {
            return fx.extend(waiting.into_iter().map(Effect::Again));
        }
        fx.extend(waiting.iter().map(|msg| match unreadable {
            true => Effect::Reply(caller(msg), Outcome::Unreadable),
            false => refused(caller(msg), Refusal::NoOrder(id.to_string())),
        }));
    }
}

/// Who waits for the answer to a command on one order.
fn caller(msg: &OrderMsg) -> Ticket {
    match msg {
        OrderMsg::Pay { ticket, .. }
        | OrderMsg::Confirm { ticket, .. }
        | OrderMsg::Ship { ticket, .. }
        | OrderMsg::Cancel { ticket, .. }
        | OrderMsg::Status { ticket, .. }
        | OrderMsg::Buyer { ticket, .. } => *ticket,
        // No other message waits for an order to come in.
        _ => Ticket::NOBODY,
    }
}
