//! Group commit: the thread that writes everything that piled up while it was writing before.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crate::sync::atomic::Ordering;
use crate::sync::{MutexGuard, thread};

use super::batch::{BATCH_BODY_MAX, BATCH_BYTES_MAX};
use super::frame::{frames_after, frames_within};
use super::shared::{ABANDONED, Ending, Shared, State, Tap};
use super::{Durability, JournalOptions, LogError, LogStore, Lsn, Observer};

/// A buffer that a burst has grown beyond this is given back.
const KEPT_CAPACITY_BYTES: usize = 2 * BATCH_BYTES_MAX;

pub(super) struct Committer {
    shared: Arc<Shared>,
    /// None in [`Durability::Snapshot`].
    log: Option<Box<dyn LogStore>>,
    observer: Arc<dyn Observer>,
    options: JournalOptions,
    /// The last batch held the frames of many, so more are on their way.
    crowded: bool,
    /// The frames being written; swapped with the pending ones, so that both allocations are kept.
    body: Vec<u8>,
    /// The last LSN written to the log.
    written: Lsn,
    /// In [`Durability::Buffered`]: when what was written has to be synced.
    sync_due: Option<Instant>,
}

/// A batch of so many frames has several callers behind it: then it pays to wait for more before the next sync.
const CROWD_FRAMES: u32 = 8;

/// What to do before looking again.
enum Turn {
    /// `body` holds the frames from `first_lsn` to `last_lsn`, or none.
    Work { first_lsn: Lsn, last_lsn: Lsn, tap: Option<Tap>, trim: Option<Lsn>, sync: bool, close: bool },
    /// Stop where we are; a caller may have failed the journal.
    Stop { failed: Option<String> },
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        log: Option<Box<dyn LogStore>>,
        last_lsn: Lsn,
        options: JournalOptions,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self { shared, log, observer, options, crowded: false, body: Vec::new(), written: last_lsn, sync_due: None }
    }

    /// The thread. Returns when the journal is closed, dropped or has failed; after a failure the
    /// log is never touched again.
    pub(super) fn run(mut self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.turns()));
        let failure = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            // An observer or a log that panics leaves unknown what was done.
            Err(_) => Some("the journal's thread panicked".to_owned()),
        };
        let mut state = self.shared.state();
        if failure.is_some() {
            self.shared.failed.store(true, Ordering::Release);
        }
        let ended = if state.ending == Some(Ending::Crash) { ABANDONED } else { "it was closed" };
        state.die(&self.shared, failure.as_deref().unwrap_or(ended).to_owned());
        drop(state);
        // A batch that failed is not waiting for anything any more.
        self.shared.buffered_bytes.store(0, Ordering::Relaxed);
        if let Some(why) = failure {
            self.observer.failed(&why);
        }
    }

    fn turns(&mut self) -> Result<(), String> {
        loop {
            if std::mem::take(&mut self.crowded) && !self.options.commit_delay.is_zero() {
                thread::sleep(self.options.commit_delay);
            }
            match self.next_turn() {
                Turn::Stop { failed: None } => return Ok(()),
                Turn::Stop { failed: Some(why) } => return Err(why),
                Turn::Work { first_lsn, last_lsn, tap, trim, sync, close } => {
                    self.commit(first_lsn, last_lsn, tap)?;
                    if sync || close {
                        self.sync()?;
                    }
                    self.trim(trim)?;
                    if close {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits for something to do and takes all of it.
    fn next_turn(&mut self) -> Turn {
        if self.body.capacity() > KEPT_CAPACITY_BYTES {
            self.body = Vec::new();
        }
        self.body.clear();
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        loop {
            if state.dead.is_some() || state.ending == Some(Ending::Crash) {
                let failed = state.dead.clone();
                return Turn::Stop { failed };
            }
            let sync = self.must_sync(&state);
            let close = state.ending == Some(Ending::Close);
            if !state.pending.is_empty() || sync || close || state.trim.is_some() {
                std::mem::swap(&mut state.pending, &mut self.body);
                if close {
                    // Under the same lock: what is appended from here on is dropped.
                    state.closed = true;
                }
                return Turn::Work {
                    first_lsn: state.pending_first,
                    last_lsn: state.head(),
                    tap: state.tap.clone(),
                    trim: state.trim.take(),
                    sync,
                    close,
                };
            }
            state.asleep = true;
            state = match self.sync_due {
                None => shared.work.wait(state),
                Some(due) => shared
                    .work
                    .wait_timeout(state, due.saturating_duration_since(Instant::now()))
                    .map(|(state, _)| state)
                    .map_err(|poisoned| PoisonError::new(poisoned.into_inner().0)),
            }
            .unwrap_or_else(PoisonError::into_inner);
            state.asleep = false;
        }
    }

    fn must_sync(&self, state: &State) -> bool {
        state.flush_upto > self.shared.synced.load(Ordering::Relaxed)
            || self.sync_due.is_some_and(|due| Instant::now() >= due)
    }

    /// Writes the taken frames, in as many batches as their size asks for.
    fn commit(&mut self, mut first_lsn: Lsn, last_lsn: Lsn, tap: Option<Tap>) -> Result<(), String> {
        let body = std::mem::take(&mut self.body);
        let mut rest = &body[..];
        while !rest.is_empty() {
            let (bytes, frames) = if rest.len() <= BATCH_BODY_MAX {
                // Bounded by the bytes: a frame has a header.
                (rest.len(), (last_lsn - first_lsn + 1) as u32)
            } else {
                frames_within(rest, BATCH_BODY_MAX)
            };
            let (batch, later) = rest.split_at(bytes);
            self.commit_batch(first_lsn, frames, batch, tap.as_ref())?;
            first_lsn += Lsn::from(frames);
            rest = later;
        }
        self.body = body;
        Ok(())
    }

    fn commit_batch(&mut self, first_lsn: Lsn, frames: u32, batch: &[u8], tap: Option<&Tap>) -> Result<(), String> {
        self.unless_failed()?;
        let last_lsn = first_lsn + Lsn::from(frames) - 1;
        if let Some(log) = &mut self.log {
            log.append(first_lsn, frames, self.shared.epoch, batch).map_err(text)?;
            self.written = last_lsn;
            if self.shared.durability == Durability::Sync {
                self.sync()?;
            } else if self.sync_due.is_none() {
                self.sync_due = Some(Instant::now() + self.options.sync_interval);
            }
            self.shared.counters.batch(frames, batch.len());
            self.crowded = frames >= CROWD_FRAMES;
        }
        // Before the frames are published: whoever waits for them finds them in the tap.
        self.send(first_lsn, batch, tap);
        self.publish(last_lsn, batch.len())
    }

    /// Syncs what was written; nothing to do if it is synced already.
    fn sync(&mut self) -> Result<(), String> {
        self.unless_failed()?;
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        self.sync_due = None;
        if self.shared.synced.load(Ordering::Relaxed) >= self.written {
            return Ok(());
        }
        let started = Instant::now();
        log.sync().map_err(text)?;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.counters.sync_micros.observe(micros);
        self.shared.synced.store(self.written, Ordering::Release);
        if self.shared.durability == Durability::Buffered {
            let mut state = self.living()?;
            self.notify(&mut state, self.written);
        }
        Ok(())
    }

    fn send(&self, first_lsn: Lsn, batch: &[u8], tap: Option<&Tap>) {
        let Some(tap) = tap else { return };
        let frames = frames_after(batch, first_lsn, tap.after);
        if frames.is_empty() || tap.sink.send(frames.to_vec()).is_ok() {
            return;
        }
        // Its receiver is gone. A tap that has replaced it meanwhile stays.
        let mut state = self.shared.state();
        if state.tap.as_ref().map(|tap| tap.number) == Some(tap.number) {
            state.untap(&self.shared);
        }
    }

    fn publish(&self, last_lsn: Lsn, bytes: usize) -> Result<(), String> {
        // Under the lock that a failure takes: nothing is acknowledged after one.
        let mut state = self.living()?;
        self.shared.buffered_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if self.log.is_some() {
            self.shared.durable.store(last_lsn, Ordering::Release);
        }
        self.notify(&mut state, last_lsn);
        drop(state);
        if self.log.is_some() {
            self.observer.advanced(last_lsn);
        }
        Ok(())
    }

    /// The state, unless somebody has failed the journal meanwhile.
    fn living(&self) -> Result<MutexGuard<'_, State>, String> {
        let state = self.shared.state();
        match &state.dead {
            Some(why) => Err(why.clone()),
            None => Ok(state),
        }
    }

    /// Asked before each operation on the log; the lock is taken only if there is something to say.
    fn unless_failed(&self) -> Result<(), String> {
        if self.shared.failed.load(Ordering::Acquire) { self.living().map(drop) } else { Ok(()) }
    }

    /// Lets those who wait look again.
    fn notify(&self, state: &mut State, done: Lsn) {
        state.done = state.done.max(done);
        if state.waiters > 0 {
            self.shared.progress.notify_all();
        }
    }

    fn trim(&mut self, upto: Option<Lsn>) -> Result<(), String> {
        self.unless_failed()?;
        match (&mut self.log, upto) {
            (Some(log), Some(upto)) => log.trim(upto).map_err(text),
            _ => Ok(()),
        }
    }
}

fn text(error: LogError) -> String {
    error.to_string()
}
