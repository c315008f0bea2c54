//! What the callers of a journal and its thread share.

use std::sync::PoisonError;
use std::sync::mpsc::Sender;

use crate::stats::{Histogram, HistogramSnapshot};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

use super::{Durability, JournalFailed, Lsn};

/// Upper bounds of the sync time's buckets, in microseconds.
const SYNC_MICROS: [u64; 14] =
    [25, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 204_800, 1_000_000];
/// Upper bounds of the batch size's buckets, in frames.
const BATCH_FRAMES: [u64; 15] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 16_384, 65_536];

/// Why a journal that ended as in a crash is over.
pub(super) const ABANDONED: &str = "it was abandoned";

#[derive(Debug)]
pub(super) struct Shared {
    /// One short critical section gives a frame its number and its place. A std mutex, because it is
    /// never held across I/O or an await.
    state: Mutex<State>,
    /// The journal thread waits here for work.
    pub(super) work: Condvar,
    /// Callers wait here for the thread's progress.
    pub(super) progress: Condvar,
    pub(super) head: AtomicU64,
    pub(super) durable: AtomicU64,
    pub(super) synced: AtomicU64,
    pub(super) failed: AtomicBool,
    pub(super) buffered_bytes: AtomicUsize,
    pub(super) counters: Counters,
    pub(super) durability: Durability,
    pub(super) epoch: u32,
}

#[derive(Debug)]
pub(super) struct State {
    /// Encoded frames that the thread has not taken yet.
    pub(super) pending: Vec<u8>,
    /// The first of them.
    pub(super) pending_first: Lsn,
    pub(super) next_lsn: Lsn,
    /// The thread is through with everything up to here, the tap included.
    pub(super) done: Lsn,
    pub(super) tap: Option<Tap>,
    /// Numbers the taps, so that a sink that went away is not mistaken for its successor.
    pub(super) taps: u64,
    pub(super) trim: Option<Lsn>,
    /// Somebody waits for a sync up to here.
    pub(super) flush_upto: Lsn,
    pub(super) asleep: bool,
    pub(super) waiters: usize,
    pub(super) ending: Option<Ending>,
    /// The thread has taken the last frames before a close; what comes now is dropped.
    pub(super) closed: bool,
    /// Why nothing will become durable any more.
    pub(super) dead: Option<String>,
}

/// Who gets a copy of every frame past `after`.
#[derive(Debug, Clone)]
pub(super) struct Tap {
    pub(super) number: u64,
    pub(super) sink: Sender<Vec<u8>>,
    pub(super) after: Lsn,
}

/// How the journal thread ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// After everything is written and synced.
    Close,
    /// After the batch in flight.
    Crash,
}

#[derive(Debug)]
pub(super) struct Counters {
    pub(super) batches: AtomicU64,
    pub(super) frames: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) sync_micros: Histogram,
    pub(super) batch_frames: Histogram,
}

/// What a journal has done since it was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalStats {
    /// Batches written.
    pub batches: u64,
    /// Frames in them.
    pub frames: u64,
    /// Bytes of these frames, batch headers not counted.
    pub bytes: u64,
    /// How long syncs took, in microseconds.
    pub syncs: HistogramSnapshot,
    /// Frames per batch.
    pub batch_frames: HistogramSnapshot,
}

impl Shared {
    pub(super) fn new(durability: Durability, last_lsn: Lsn, epoch: u32) -> Self {
        Self {
            state: Mutex::new(State {
                pending: Vec::new(),
                pending_first: last_lsn + 1,
                next_lsn: last_lsn + 1,
                done: last_lsn,
                tap: None,
                taps: 0,
                trim: None,
                flush_upto: 0,
                asleep: false,
                waiters: 0,
                ending: None,
                closed: false,
                dead: None,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            head: AtomicU64::new(last_lsn),
            durable: AtomicU64::new(last_lsn),
            synced: AtomicU64::new(last_lsn),
            failed: AtomicBool::new(false),
            buffered_bytes: AtomicUsize::new(0),
            counters: Counters {
                batches: AtomicU64::new(0),
                frames: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                sync_micros: Histogram::new(&SYNC_MICROS),
                batch_frames: Histogram::new(&BATCH_FRAMES),
            },
            durability,
            epoch,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread if it sleeps; under load it does not, and this costs nothing.
    pub(super) fn wake(&self, mut state: MutexGuard<'_, State>) {
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.work.notify_one();
        }
    }

    /// Waits until `reached`. After a failure, a halt or an end as in a crash nothing counts as reached;
    /// after a close, what was done before it does.
    pub(super) fn wait_until(
        &self,
        mut state: MutexGuard<'_, State>,
        reached: impl Fn(&Self, &State) -> bool,
    ) -> Result<(), JournalFailed> {
        while !self.look(&state, &reached)? {
            state.waiters += 1;
            state = self.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiters -= 1;
        }
        Ok(())
    }

    /// Whether it was `reached`; an error if it never will be, or if nothing counts any more.
    pub(super) fn look(&self, state: &State, reached: impl Fn(&Self, &State) -> bool) -> Result<bool, JournalFailed> {
        if let Some(why) = self.crashed(state) {
            return Err(JournalFailed { why });
        }
        if reached(self, state) {
            return Ok(true);
        }
        match &state.dead {
            Some(why) => Err(JournalFailed { why: why.clone() }),
            None => Ok(false),
        }
    }
}

impl Shared {
    /// Fails the journal from outside its thread, which finds `dead` and ends.
    pub(super) fn fail(&self, mut state: MutexGuard<'_, State>, why: String) {
        self.failed.store(true, Ordering::Release);
        state.die(self, why);
        self.wake(state);
    }

    /// Why the journal ended otherwise than by a close, if it did.
    fn crashed(&self, state: &State) -> Option<String> {
        if state.ending != Some(Ending::Crash) && !self.failed.load(Ordering::Acquire) {
            return None;
        }
        Some(state.dead.clone().unwrap_or_else(|| ABANDONED.to_owned()))
    }
}

impl State {
    /// Whether a frame that comes now is dropped.
    pub(super) fn is_over(&self) -> bool {
        self.closed || self.dead.is_some() || self.ending == Some(Ending::Crash)
    }

    /// Ends the journal for all callers. What is pending is dropped; it was never acknowledged.
    pub(super) fn die(&mut self, shared: &Shared, why: String) {
        if self.dead.is_none() {
            self.dead = Some(why);
        }
        self.tap = None;
        self.drop_pending(shared);
        shared.progress.notify_all();
    }

    /// Ends the tap. Without a log it was the only reader of what is pending.
    pub(super) fn untap(&mut self, shared: &Shared) {
        self.tap = None;
        if shared.durability == Durability::Snapshot {
            self.drop_pending(shared);
            self.done = self.head();
            shared.progress.notify_all();
        }
    }

    fn drop_pending(&mut self, shared: &Shared) {
        let bytes = std::mem::take(&mut self.pending).len();
        shared.buffered_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The last LSN given so far.
    pub(super) fn head(&self) -> Lsn {
        self.next_lsn - 1
    }
}

impl Counters {
    pub(super) fn batch(&self, frames: u32, bytes: usize) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.frames.fetch_add(u64::from(frames), Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.batch_frames.observe(u64::from(frames));
    }

    pub(super) fn read(&self) -> JournalStats {
        JournalStats {
            batches: self.batches.load(Ordering::Relaxed),
            frames: self.frames.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            syncs: self.sync_micros.snapshot(),
            batch_frames: self.batch_frames.snapshot(),
        }
    }
}
