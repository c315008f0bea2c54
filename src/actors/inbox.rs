//! What waits to be handled, by one at a time.
//!
//! Whoever puts the first thing into an inbox that nobody looks after has to see that somebody does; until that one says
//! that nothing is left, nobody else is asked to. So what is put in is handled in its order, once, and never by two at
//! once. `tests/interleavings` tries all orders; therefore nothing in here knows ractor.

use std::sync::PoisonError;

use crate::sync::{Mutex, MutexGuard};

/// What became of what was put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// Somebody looks after the inbox, and will find it.
    Waits,
    /// Nobody does: whoever put it in has to see to it.
    First,
    /// It was dropped: the inbox is closed.
    Refused,
}

/// A queue, and whether somebody looks after it.
#[derive(Debug)]
pub(super) struct Inbox<M> {
    state: Mutex<State<M>>,
}

#[derive(Debug)]
struct State<M> {
    waiting: Vec<M>,
    looked_after: bool,
    closed: bool,
}

impl<M> Inbox<M> {
    pub(super) fn new() -> Self {
        Inbox { state: Mutex::new(State { waiting: Vec::new(), looked_after: false, closed: false }) }
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in.
    pub(super) fn put(&self, item: M) -> Put {
        let mut state = self.lock();
        if state.closed {
            return Put::Refused;
        }
        state.waiting.push(item);
        if std::mem::replace(&mut state.looked_after, true) { Put::Waits } else { Put::First }
    }

    /// Moves all that waits to the end of `all`. For who looks after it.
    pub(super) fn take(&self, all: &mut impl Extend<M>) {
        all.extend(self.lock().waiting.drain(..));
    }

    /// All that was taken is handled. True if more has come; else nobody looks after the inbox any more.
    pub(super) fn goes_on(&self) -> bool {
        let mut state = self.lock();
        state.looked_after = !state.waiting.is_empty();
        state.looked_after
    }

    /// Drops what waits and whatever comes.
    pub(super) fn close(&self) {
        let waiting = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        // Not under the lock: who waits for an answer hears of it.
        drop(waiting);
    }
}
