//! Orders at rest leave memory, so that memory follows the work and not the history.
//!
//! A round, for orders that have rested for long or are too many:
//!
//! 1. the shards name them, with their sequence numbers;
//! 2. the journal is synced past those numbers (so that no row is ever ahead of the journal);
//! 3. the rows of those that are unchanged are written to `orders.redb`, durably;
//! 4. those that are still unchanged, and that no command holds, leave memory.
//!
//! A crash between any two steps loses nothing and doubles nothing: recovery takes the higher of an order's two rows
//! as its base, and its journaled events after that. Rows are never deleted, only overwritten by newer ones.
//!
//! Without a journal (`Durability::Snapshot`) a crash goes back to a snapshot, if need be to the older of the two. So
//! step 2 waits until both hold what was named.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Core, Engine, Error, Result};
use crate::domain::{Leaving, Order, OrderId, SHARDS};
use crate::journal::{Durability, Lsn};

/// Orders that one shard names at once. A round of all shards is one commit of redb, unless they have many lines.
const NAMED_AT_ONCE: usize = 2_048;

/// Without a journal the named ones wait for two snapshots, so all that are due are named.
const NAMED_AT_ONCE_UNLOGGED: usize = 1 << 20;

/// Rows that a shard shows before it turns to its other messages.
const SHOWN_AT_ONCE: usize = 256;

/// Lines of orders after which a commit is full, so that what is copied for it is bounded whatever the orders are.
const LINES_AT_ONCE: usize = 1 << 18;

/// Rest between two rounds, so that the traffic goes first.
const PACE: Duration = Duration::from_millis(2);

/// Orders by shard, with their sequence numbers.
type Named = Vec<Vec<(OrderId, u32)>>;

/// What is known of orders that leave.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    /// One round at a time, and none while an audit counts. Holds what waits for snapshots.
    pub(super) alone: tokio::sync::Mutex<Option<Waiting>>,
    in_memory: AtomicU64,
    left: AtomicU64,
}

/// Named, and not covered yet.
#[derive(Debug)]
pub(super) struct Waiting {
    named: Named,
    /// Everything that happened to them is at or below it.
    head: Lsn,
    /// Others are due as well.
    more: bool,
}

impl Overflow {
    pub(super) fn in_memory(&self) -> u64 {
        self.in_memory.load(Ordering::Relaxed)
    }

    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Writes orders at rest to disk and lets them leave memory, however short they have rested. The engine does so by
    /// itself as [`super::Limits::idle_after`] and [`super::Limits::resting_orders_max`] say. Returns how many left.
    /// Nothing leaves an engine in memory; with [`Durability::Snapshot`] orders leave when two snapshots hold them.
    ///
    /// Dropping the future may leave orders in memory, which leave later.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] if the engine has failed, [`Error::Draining`] if it is closing;
    /// [`Error::Overloaded`] if the disk is nearly full.
    pub async fn offload(&self) -> Result<u64> {
        let core = &self.core;
        if core.system.answers.is_draining() {
            return Err(Error::Draining);
        }
        core.check_disk()?;
        let before = core.overflow.left();
        if !matches!(core.config.storage, super::Storage::Memory) {
            while core.round(Duration::ZERO, 0).await? {}
        }
        Ok(core.overflow.left() - before)
    }
}

/// The longest time that fits, for one that does not: it never comes.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Core {
    /// True if there is more to do at once.
    pub(super) async fn overflow_round(self: &Arc<Self>) -> bool {
        let limits = &self.config.limits;
        match self.round(limits.idle_after, limits.resting_orders_max).await {
            Ok(more) => {
                tokio::time::sleep(PACE).await;
                more
            }
            Err(_) => false,
        }
    }

    async fn round(self: &Arc<Self>, idle: Duration, keep: usize) -> Result<bool> {
        // In a task of its own: what was named must be given back, whether or not the caller waits.
        let core = self.clone();
        let task = self.system.runtime.spawn(async move { core.round_alone(idle, keep).await });
        task.await.unwrap_or_else(|_| Err(self.unknown()))
    }

    async fn round_alone(self: Arc<Self>, idle: Duration, keep: usize) -> Result<bool> {
        let mut waiting = self.overflow.alone.lock().await;
        let unlogged = self.config.durability == Durability::Snapshot;
        let at_most = if unlogged { NAMED_AT_ONCE_UNLOGGED } else { NAMED_AT_ONCE };
        let named = match waiting.take() {
            Some(before) => before,
            None => self.name(idle, keep, at_most).await?,
        };
        if named.named.iter().all(Vec::is_empty) {
            return Ok(false);
        }
        if unlogged && self.snapshots.both_hold.load(Ordering::Acquire) < named.head {
            *waiting = Some(named);
            return Ok(false);
        }
        if !unlogged {
            let journal = self.system.journal.clone();
            let synced = tokio::task::spawn_blocking(move || journal.flush_blocking()).await;
            if !matches!(synced, Ok(Ok(()))) {
                return Err(self.unknown());
            }
        }
        let more = named.more;
        let left = self.write_and_leave(named.named, named.head).await?;
        // Where none could leave, the next round would not help.
        Ok(more && left > 0)
    }

    async fn name(&self, idle: Duration, keep: usize, at_most: usize) -> Result<Waiting> {
        let leaving = Leaving { now: self.system.clock.now(), idle: millis(idle), keep: keep / SHARDS, at_most };
        let mut named = Vec::with_capacity(SHARDS);
        let mut in_memory = 0;
        let mut more = false;
        for shard in 0..SHARDS {
            let name = move |shard: &mut crate::domain::OrderShard, work: &mut _| {
                (shard.leaving(work, leaving), shard.len() as u64)
            };
            let ((of_shard, more_of_shard), len) =
                self.system.change_shard(shard, name).await.ok_or_else(|| self.unknown())?;
            named.push(of_shard);
            more |= more_of_shard;
            in_memory += len;
        }
        self.overflow.in_memory.store(in_memory, Ordering::Relaxed);
        Ok(Waiting { named, head: self.system.journal.head(), more })
    }

    /// Writes what was named, a commit after the other, and lets it leave. Returns how many left.
    async fn write_and_leave(&self, named: Named, upto: Lsn) -> Result<u64> {
        let mut left = 0;
        let mut piece = Piece::default();
        for (shard, named) in named.iter().enumerate() {
            for some in named.chunks(SHOWN_AT_ONCE) {
                let shown = some.to_vec();
                let show = move |shard: &mut crate::domain::OrderShard, work: &mut _| shard.rows(work, &shown);
                let rows = self.system.change_shard(shard, show).await.ok_or_else(|| self.unknown())?;
                piece.add(shard, some, rows);
                if piece.lines >= LINES_AT_ONCE {
                    left += self.write_piece(std::mem::take(&mut piece), upto).await?;
                }
            }
        }
        left += self.write_piece(piece, upto).await?;
        self.overflow.left.fetch_add(left, Ordering::Relaxed);
        Ok(left)
    }

    async fn write_piece(&self, piece: Piece, upto: Lsn) -> Result<u64> {
        let Piece { named, rows, .. } = piece;
        let resting = self.system.resting.clone();
        let written = match tokio::task::spawn_blocking(move || resting.write(&rows, upto)).await {
            Ok(Ok(written)) => written,
            Ok(Err(error)) => {
                self.system.resting_failed(&error);
                HashSet::new()
            }
            Err(_) => return Err(self.unknown()),
        };
        let written = Arc::new(written);
        let mut left = 0;
        for (shard, named) in named {
            let written = written.clone();
            let leave = move |shard: &mut crate::domain::OrderShard, work: &mut _| shard.leave(work, named, &written);
            left += self.system.change_shard(shard, leave).await.ok_or_else(|| self.unknown())?;
        }
        Ok(left as u64)
    }
}

/// What goes into one commit.
#[derive(Debug, Default)]
struct Piece {
    /// By shard.
    named: BTreeMap<usize, Vec<(OrderId, u32)>>,
    rows: Vec<(OrderId, Order)>,
    /// Of all its orders, each of which counts as one more.
    lines: usize,
}

impl Piece {
    fn add(&mut self, shard: usize, named: &[(OrderId, u32)], rows: Vec<(OrderId, Order)>) {
        self.named.entry(shard).or_default().extend_from_slice(named);
        self.lines += rows.iter().map(|(_, order)| 1 + order.lines.len()).sum::<usize>();
        self.rows.extend(rows);
    }
}
