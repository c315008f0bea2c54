//! What the engine does by itself: it puts idle actors to sleep, drops evidence, takes snapshots, watches the disk
//! and the deadlines. The tasks hold the core weakly or are aborted when the engine goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{Core, Storage};
use crate::actors::Sweep;

const TICK: Duration = Duration::from_secs(1);

/// Starts the background's tasks.
pub(super) fn start(core: &Arc<Core>) -> Vec<JoinHandle<()>> {
    let answers = core.system.answers.clone();
    let mut tasks = vec![
        tokio::spawn(async move { answers.release_durable().await }),
        tokio::spawn(core.system.clone().watch_deadlines()),
        tokio::spawn(tick(core.clone())),
        tokio::spawn(watch_disk(core.clone())),
    ];
    // An engine in memory has nothing to come back to.
    if !matches!(core.config.storage, Storage::Memory) {
        tasks.push(tokio::spawn(snapshot_now_and_then(core.clone())));
        tasks.push(tokio::spawn(let_orders_leave(core.clone())));
    }
    tasks
}

async fn tick(core: Arc<Core>) {
    let start = Instant::now();
    let limits = &core.config.limits;
    let idle_s = u32::try_from(limits.idle_after.as_secs()).unwrap_or(u32::MAX);
    loop {
        tokio::time::sleep(TICK).await;
        let now_s = start.elapsed().as_secs() as u32;
        core.system.tick(now_s);
        core.system.flush_evidence();
        let sweep = Sweep { now_s, idle_s, live_max: limits.live_actors_max };
        core.system.stores.sweep(sweep);
        core.system.accounts.sweep(sweep);
    }
}

/// Below the limit changes are refused and reads go on; when space returns, so do changes.
async fn watch_disk(core: Arc<Core>) {
    if matches!(core.config.storage, Storage::Memory) {
        return;
    }
    loop {
        let (disk, dir) = (core.disk.clone(), core.dir.clone());
        let free = tokio::task::spawn_blocking(move || disk.free_bytes(&dir)).await;
        if let Ok(Ok(free)) = free {
            let low = free < core.config.limits.free_disk_min_bytes;
            if core.disk_low.swap(low, Ordering::Relaxed) != low {
                match low {
                    true => tracing::error!(free_bytes = free, "the disk is nearly full: changes are refused"),
                    false => tracing::info!(free_bytes = free, "the disk has room again: changes are taken"),
                }
            }
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn snapshot_now_and_then(core: Arc<Core>) {
    let mut last = Instant::now();
    let mut failed = false;
    loop {
        let left = core.config.snapshot_interval.saturating_sub(last.elapsed());
        tokio::time::sleep(left.clamp(Duration::from_millis(10), TICK)).await;
        let journaled =
            core.system.journal.stats().bytes.saturating_sub(core.snapshots.journal_bytes.load(Ordering::Relaxed));
        let due = last.elapsed() >= core.config.snapshot_interval;
        let large = !failed && journaled >= core.config.snapshot_journal_bytes;
        // A snapshot needs room of its own; the journal's segments wait until there is some.
        if (due || large) && !core.disk_low.load(Ordering::Relaxed) {
            // A failure is logged and counted where it happens; the next try comes with the next interval.
            failed = core.take_snapshot(true).await.is_err();
            last = Instant::now();
        }
    }
}

/// Writes orders at rest to disk, once a second, and on and on while there are many.
async fn let_orders_leave(core: Arc<Core>) {
    loop {
        tokio::time::sleep(TICK).await;
        let mut more = true;
        while more {
            // It needs room of its own, too.
            more = !core.disk_low.load(Ordering::Relaxed) && core.overflow_round().await;
        }
    }
}
