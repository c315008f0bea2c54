//! What the engine does by itself: it puts idle actors to sleep, drops evidence, takes snapshots, watches the disk
//! and the deadlines. The tasks hold the core weakly or are aborted when the engine goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Core, Storage};
use crate::actors::Sweep;
use crate::journal;
use crate::priority;

/// Whether somebody waits for what is done in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A caller does, or the end of the engine.
    Awaited,
    /// Nobody: it may take as long as it takes.
    Idle,
}

/// Does work that takes a core for long, on a thread of its own. What nobody waits for has a low priority: otherwise it
/// would take half of what a saturated core leaves to callers. `None` if it panicked.
pub(super) async fn in_background<T: Send + 'static>(
    urgency: Urgency,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = oneshot::channel();
    let work = move || {
        if urgency == Urgency::Idle {
            priority::lower();
        }
        // Who does not want it any more has gone.
        let _ = done.send(work());
    };
    if let Err(error) = std::thread::Builder::new().name("background".to_owned()).spawn(work) {
        tracing::error!(%error, "no thread for the background");
    }
    result.await.ok()
}

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

/// Bytes a second that nobody fills a disk by: a look comes before the margin can be gone.
const FILLED_PER_SECOND_MAX: u64 = 2 << 30;

/// The shortest time between two looks.
const LOOK_LEAST: Duration = Duration::from_millis(20);

/// Whether `free` bytes are too few, and when to look again. `promised` are bytes that will be needed without anybody
/// asking: the rest of the journal's next segment, which is written as zeros while the current one fills. Without it the
/// journal could not go on, so it counts as used. A limit of 0 means that nobody wants this to be watched.
fn judge_room(free: u64, promised: u64, least: u64) -> (bool, Duration) {
    if least == 0 {
        return (false, TICK);
    }
    let needed = least.saturating_add(promised);
    match free.checked_sub(needed) {
        None => (true, TICK / 4),
        Some(margin) => {
            let filled_in = Duration::from_millis(margin / (FILLED_PER_SECOND_MAX / 1_000));
            (false, filled_in.clamp(LOOK_LEAST, TICK))
        }
    }
}

/// Below the limit changes are refused and reads go on; when space returns, so do changes.
async fn watch_disk(core: Arc<Core>) {
    if matches!(core.config.storage, Storage::Memory) {
        return;
    }
    let least = core.config.limits.free_disk_min_bytes;
    let segment_bytes = core.config.next_segment_bytes();
    loop {
        let (disk, dir) = (core.disk.clone(), core.dir.clone());
        let look = move || {
            let spare = journal::spare_bytes(&*disk, &dir.join("journal"));
            disk.free_bytes(&dir).map(|free| (free, segment_bytes.saturating_sub(spare)))
        };
        let mut wait = TICK;
        if let Ok(Ok((free, promised))) = tokio::task::spawn_blocking(look).await {
            let (low, until_next) = judge_room(free, promised, least);
            wait = until_next;
            core.disk_free.store(free, Ordering::Relaxed);
            if core.disk_low.swap(low, Ordering::Relaxed) != low {
                match low {
                    true => tracing::error!(
                        free_bytes = free,
                        promised_bytes = promised,
                        "the disk is nearly full: changes are refused"
                    ),
                    false => tracing::info!(free_bytes = free, "the disk has room again: changes are taken"),
                }
            }
        }
        tokio::time::sleep(wait).await;
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
            failed = core.take_snapshot(true, Urgency::Idle).await.is_err();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_is_free_without_what_is_promised_and_is_looked_at_before_it_can_be_gone() {
        const MIB: u64 = 1 << 20;
        let low = |free, promised| judge_room(free * MIB, promised * MIB, 256 * MIB).0;
        assert!(low(255, 0) && !low(256, 0));
        assert!(low(319, 64) && !low(320, 64));
        assert_eq!(judge_room(0, 64 * MIB, 0), (false, TICK), "not watched");
        assert!(judge_room(u64::MAX - 1, 1, u64::MAX).0, "sums do not overflow");
        let wait = |margin| judge_room((256 + margin) * MIB, 0, 256 * MIB).1;
        assert_eq!(wait(0), LOOK_LEAST);
        assert_eq!(wait(1 << 20), TICK);
        for margin in [64, 300, 1_024] {
            let filled = wait(margin).as_secs_f64() * FILLED_PER_SECOND_MAX as f64;
            assert!(filled <= (margin * MIB) as f64 * 1.01, "{margin} MiB");
        }
    }
}
