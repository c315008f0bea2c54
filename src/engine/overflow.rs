//! Orders at rest leave memory, so that memory follows the work and not the history.
//!
//! A round (`leaving`) names those that have rested for long or are too many, writes their rows to `orders.redb`, and
//! lets go those that have not changed meanwhile.
//!
//! Without a journal (`Durability::Snapshot`) a crash goes back to a snapshot, if need be to the older of the two. So
//! its second step waits until both hold what was named.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::background::{Urgency, in_background};
use super::leaving::{Round, RoundStep};
use super::{Core, Engine, Error, Result};
use crate::domain::{Leaving, Order, OrderId, OrderShard, SHARDS};
use crate::journal::{Durability, Lsn};

/// Orders that one shard names at once. A round of all shards is one commit of redb, unless they have many lines.
const NAMED_AT_ONCE: usize = 2_048;

/// Without a journal the named ones wait for two snapshots, so all that are due are named.
const NAMED_AT_ONCE_UNLOGGED: usize = 1 << 20;

/// Rest between two rounds, so that the traffic goes first.
const PACE: Duration = Duration::from_millis(2);

/// What is known of orders that leave.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    /// One round at a time, and none while an audit counts. Holds what waits for snapshots.
    pub(super) alone: tokio::sync::Mutex<Option<Round>>,
    in_memory: AtomicU64,
    left: AtomicU64,
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
            while core.round(Duration::ZERO, 0, Urgency::Awaited).await? {}
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
        match self.round(limits.idle_after, limits.resting_orders_max, Urgency::Idle).await {
            Ok(more) => {
                tokio::time::sleep(PACE).await;
                more
            }
            Err(_) => false,
        }
    }

    async fn round(self: &Arc<Self>, idle: Duration, keep: usize, urgency: Urgency) -> Result<bool> {
        // In a task of its own: what was named must be given back, whether or not the caller waits.
        let core = self.clone();
        let task = self.system.runtime.spawn(async move { core.round_alone(idle, keep, urgency).await });
        task.await.unwrap_or_else(|_| Err(self.unknown()))
    }

    async fn round_alone(self: Arc<Self>, idle: Duration, keep: usize, urgency: Urgency) -> Result<bool> {
        let mut waiting = self.overflow.alone.lock().await;
        let unlogged = self.config.durability == Durability::Snapshot;
        let at_most = if unlogged { NAMED_AT_ONCE_UNLOGGED } else { NAMED_AT_ONCE };
        let leaving = Leaving { now: self.system.clock.now(), idle: millis(idle), keep: keep / SHARDS, at_most };
        let mut in_memory = 0;
        let before = waiting.take();
        let is_new = before.is_none();
        let mut round = before.unwrap_or_else(|| Round::new(leaving));
        loop {
            match round.step() {
                RoundStep::Name(shard, leaving) => {
                    let name =
                        move |shard: &mut OrderShard, work: &mut _| (shard.leaving(work, leaving), shard.len() as u64);
                    let ((named, more), len) =
                        self.system.change_shard(shard, name).await.ok_or_else(|| self.unknown())?;
                    in_memory += len;
                    round.named(named, more);
                }
                RoundStep::Sync => {
                    let head = round.sync(&self.system.journal);
                    if is_new {
                        self.overflow.in_memory.store(in_memory, Ordering::Relaxed);
                    }
                    if unlogged && self.snapshots.both_hold.load(Ordering::Acquire) < head {
                        *waiting = Some(round);
                        return Ok(false);
                    }
                    self.wait_for_sync(&mut round).await?;
                }
                RoundStep::Show(shard, named) => {
                    let asked = named.clone();
                    let show = move |shard: &mut OrderShard, work: &mut _| shard.rows(work, &named);
                    let rows = self.system.change_shard(shard, show).await.ok_or_else(|| self.unknown())?;
                    round.shown(shard, &asked, rows);
                }
                RoundStep::Write(rows, upto) => round.written(self.write_rows(rows, upto, urgency).await?),
                RoundStep::Leave(shard, named, written) => {
                    let leave = move |shard: &mut OrderShard, work: &mut _| shard.leave(work, named, &written);
                    let left = self.system.change_shard(shard, leave).await.ok_or_else(|| self.unknown())?;
                    round.left(left);
                }
                RoundStep::Nothing => break,
            }
        }
        if is_new {
            self.overflow.in_memory.store(in_memory, Ordering::Relaxed);
        }
        self.overflow.left.fetch_add(round.left_so_far(), Ordering::Relaxed);
        Ok(round.has_more())
    }

    async fn wait_for_sync(&self, round: &mut Round) -> Result<()> {
        let journal = self.system.journal.clone();
        let synced = tokio::task::spawn_blocking(move || journal.flush_blocking()).await;
        match (synced, round.is_synced(&self.system.journal)) {
            (Ok(Ok(())), Ok(true)) => Ok(()),
            _ => Err(self.unknown()),
        }
    }

    async fn write_rows(&self, rows: Vec<(OrderId, Order)>, upto: Lsn, urgency: Urgency) -> Result<HashSet<OrderId>> {
        let resting = self.system.resting.clone();
        match in_background(urgency, move || resting.write(&rows, upto)).await {
            Some(Ok(written)) => Ok(written),
            Some(Err(error)) => {
                self.system.resting_failed(&error);
                Ok(HashSet::new())
            }
            None => Err(self.unknown()),
        }
    }
}
