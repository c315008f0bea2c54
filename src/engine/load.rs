//! How busy the engine is: for who has to decide whether to let more in.

use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "server")]
use std::time::Duration;
use std::time::Instant;

#[cfg(feature = "server")]
use super::Engine;
use crate::domain::Ticket;
#[cfg(feature = "server")]
use crate::journal::Durability;

/// One command in so many is timed: looking at the clock costs, too.
const TIMED_EVERY: u64 = 8;

/// Times of commands from their admission until their caller goes on, summed up.
#[derive(Debug, Default)]
pub(super) struct Times {
    timed: AtomicU64,
    micros: AtomicU64,
}

impl Times {
    /// The moment at which a command begins, if it is one that is timed.
    pub(super) fn begin(ticket: Ticket) -> Option<Instant> {
        ticket.0.is_multiple_of(TIMED_EVERY).then(Instant::now)
    }

    /// It was answered.
    pub(super) fn end(&self, began: Option<Instant>) {
        let Some(began) = began else { return };
        self.micros.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        self.timed.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(feature = "server")]
/// What the engine has done since its open, in sums: the difference of two says how busy it was in between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Commands that were timed: about one in [`Load::TIMED_EVERY`].
    pub(crate) timed: u64,
    /// The sum of their times from admission to answer, syncs included; hashing of passwords is before it.
    pub(crate) times: Duration,
    /// The sum of the times that commands waited for orders on disk.
    pub(crate) reads: Duration,
    /// Syncs that answers wait for; none unless an answer means "on the disk".
    pub(crate) syncs: u64,
    /// The sum of their times.
    pub(crate) sync_times: Duration,
}

#[cfg(feature = "server")]
impl Load {
    /// See [`Load::timed`].
    pub(crate) const TIMED_EVERY: u64 = TIMED_EVERY;
}

#[cfg(feature = "server")]
impl Engine {
    /// Commands that are admitted and not answered now.
    pub(crate) fn in_flight(&self) -> usize {
        self.core.system.answers.in_flight()
    }

    /// How busy the engine was so far.
    pub(crate) fn load(&self) -> Load {
        let core = &self.core;
        let (syncs, sync_micros) = match core.config.durability {
            Durability::Sync => core.system.journal.syncs(),
            _ => (0, 0),
        };
        Load {
            timed: core.times.timed.load(Ordering::Relaxed),
            times: Duration::from_micros(core.times.micros.load(Ordering::Relaxed)),
            reads: core.system.reads(),
            syncs,
            sync_times: Duration::from_micros(sync_micros),
        }
    }
}
