//! Orders in the order in which they began to rest: who rests longest is found without a search.

use std::collections::VecDeque;

use super::super::ids::{Millis, OrderId};

/// A collection that has shrunk to less than this part of what it has room for gives room back.
pub(super) const ROOM_USED_LEAST: usize = 4;

/// Orders in the order in which they began to rest, each with its sequence number then. One that changes gets a new
/// entry, and the old one means nothing any more.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<(OrderId, u32)>,
    /// Entries that were taken from the front so far.
    taken: u64,
    /// How many entries there had been, at some times: about [`MARKS`] of them, however long orders stay.
    marks: VecDeque<(Millis, u64)>,
    /// Nothing ever leaves, so nothing is noted.
    off: bool,
}

/// The time that orders stay is told to one part in so many.
pub(super) const MARKS: u64 = 64;

impl Queue {
    pub(super) fn push(&mut self, id: OrderId, seq: u32) {
        if !self.off {
            self.entries.push_back((id, seq));
        }
    }

    /// Notes nothing any more.
    pub(super) fn turn_off(&mut self) {
        *self = Queue { off: true, ..Queue::default() };
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many entries at the front are as old as `idle`. Marks the time for later calls.
    pub(super) fn old(&mut self, now: Millis, idle: Millis) -> usize {
        let lately = |(at, _): &(Millis, u64)| at.saturating_add(idle.div_ceil(MARKS)) > now;
        if !self.marks.back().is_some_and(lately) {
            self.marks.push_back((now, self.taken + self.entries.len() as u64));
        }
        let mut old = 0;
        while let Some((at, count)) = self.marks.front().copied()
            && at.saturating_add(idle) <= now
        {
            old = count.saturating_sub(self.taken) as usize;
            self.marks.pop_front();
        }
        // Should they not all be taken now, they are due at once the next time.
        if old > 0 {
            self.marks.push_front((now.saturating_sub(idle), self.taken + old as u64));
        }
        old
    }

    pub(super) fn pop(&mut self) -> Option<(OrderId, u32)> {
        let entry = self.entries.pop_front()?;
        self.taken += 1;
        Some(entry)
    }

    pub(super) fn shrink(&mut self) {
        if self.entries.len() < self.entries.capacity() / ROOM_USED_LEAST {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }
}

#[cfg(test)]
impl Queue {
    pub(super) fn marks(&self) -> usize {
        self.marks.len()
    }
}
