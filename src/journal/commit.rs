//! Group commit: the thread that writes everything that piled up while it was writing before. What it does is cut into
//! steps, so that a simulator can make them without a thread.

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
    /// How often it goes on at once when it was woken; 0: it lets others go first.
    goes_on_at_once: u32,
    /// How often in a row that brought little.
    vain_yields: u32,
}

/// A batch of so many frames has several callers behind it: then it pays to wait for more before the next sync.
const CROWD_FRAMES: u32 = 8;

/// The thread that was woken lets others go first. If that brought fewer bytes than these so many times in a row, it does
/// not do so for the next times.
const YIELD_BYTES_MIN: usize = 1 << 10;
const VAIN_YIELDS_MAX: u32 = 16;
const YIELDS_LEFT_OUT: u32 = 1_000;

/// What was taken at once, and how far it has come. Each [`Committer::advance`] is one step of it, with at most one
/// operation on the log.
#[derive(Debug)]
struct Work {
    /// The LSN that the batch written next begins with.
    next_lsn: Lsn,
    last_lsn: Lsn,
    /// How much of `body` was written.
    offset: usize,
    tap: Option<Tap>,
    trim: Option<Lsn>,
    sync: bool,
    close: bool,
    stage: Stage,
}

/// The next step.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Write,
    Sync(Batch),
    Publish(Batch),
    SyncAll,
    Trim,
}

/// A part of `body` that is one write.
#[derive(Debug, Clone, Copy)]
struct Batch {
    first_lsn: Lsn,
    frames: u32,
    start: usize,
    end: usize,
}

/// What was found at a look.
enum Turn {
    Work(Work),
    /// There is nothing to do.
    Nothing,
    /// Stop where we are; a caller may have failed the journal.
    Stop {
        failed: Option<String>,
    },
}

/// What a [`Stepper`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// Nothing: there is nothing to do until somebody asks for something.
    Idle,
    /// One step, with at most one operation on the log.
    Went,
    /// Nothing, and nothing ever again: the journal is closed, was abandoned or has failed.
    Over,
}

/// The journal's thread without a thread: whoever holds it makes the steps, see `Journal::by_hand`.
pub struct Stepper {
    committer: Committer,
    work: Option<Work>,
    over: bool,
}

impl std::fmt::Debug for Stepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepper").field("work", &self.work).field("over", &self.over).finish_non_exhaustive()
    }
}

impl Stepper {
    pub(super) fn new(committer: Committer) -> Self {
        Self { committer, work: None, over: false }
    }

    /// Makes one step: takes what piled up, writes a batch, syncs, publishes, or trims.
    pub fn step(&mut self) -> Stepped {
        if self.over {
            return Stepped::Over;
        }
        let outcome = self.try_step();
        if let Ok(Some(stepped)) = outcome {
            return stepped;
        }
        self.over = true;
        self.committer.end(outcome.err());
        Stepped::Over
    }

    /// `None` at the end.
    fn try_step(&mut self) -> Result<Option<Stepped>, String> {
        let Some(work) = &mut self.work else {
            return match self.committer.look() {
                Turn::Nothing => Ok(Some(Stepped::Idle)),
                Turn::Stop { failed: None } => Ok(None),
                Turn::Stop { failed: Some(why) } => Err(why),
                Turn::Work(work) => {
                    self.work = Some(work);
                    Ok(Some(Stepped::Went))
                }
            };
        };
        if self.committer.advance(work)? && self.work.take().is_some_and(|work| work.close) {
            return Ok(None);
        }
        Ok(Some(Stepped::Went))
    }
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        log: Option<Box<dyn LogStore>>,
        last_lsn: Lsn,
        options: JournalOptions,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            shared,
            log,
            observer,
            options,
            crowded: false,
            body: Vec::new(),
            written: last_lsn,
            sync_due: None,
            goes_on_at_once: 0,
            vain_yields: 0,
        }
    }

    /// The thread. Returns when the journal is closed, dropped or has failed; after a failure the
    /// log is never touched again.
    pub(super) fn run(mut self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.turns()));
        self.end(match outcome {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            // An observer or a log that panics leaves unknown what was done.
            Err(_) => Some("the journal's thread panicked".to_owned()),
        });
    }

    /// The last act, whatever the end.
    fn end(&self, failure: Option<String>) {
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
            match self.wait_for_work() {
                Turn::Nothing => {}
                Turn::Stop { failed: None } => return Ok(()),
                Turn::Stop { failed: Some(why) } => return Err(why),
                Turn::Work(mut work) => {
                    while !self.advance(&mut work)? {}
                    if work.close {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Takes all there is to do, without waiting.
    fn look(&mut self) -> Turn {
        self.clear_body();
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        self.take(&mut state)
    }

    /// Waits for something to do and takes all of it.
    fn wait_for_work(&mut self) -> Turn {
        self.clear_body();
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        loop {
            match self.take(&mut state) {
                Turn::Nothing => {}
                turn => return turn,
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
            if self.goes_on_at_once == 0 {
                let pending = state.pending.len();
                drop(state);
                // Who woke this thread was about to append more. Where no core is free, the system would let this one
                // go first, again and again, and each sync would carry little.
                thread::yield_now();
                state = shared.state();
                self.judge_yield(state.pending.len().saturating_sub(pending));
            } else {
                self.goes_on_at_once -= 1;
            }
        }
    }

    /// `brought`: bytes that were appended while others went first. If it is little again and again they were not those
    /// who append, or there were none; the wait may have been a slice of the system's scheduler all the same.
    fn judge_yield(&mut self, brought: usize) {
        if brought >= YIELD_BYTES_MIN {
            self.vain_yields = 0;
            return;
        }
        self.vain_yields += 1;
        if self.vain_yields == VAIN_YIELDS_MAX {
            self.vain_yields = 0;
            self.goes_on_at_once = YIELDS_LEFT_OUT;
        }
    }

    fn clear_body(&mut self) {
        if self.body.capacity() > KEPT_CAPACITY_BYTES {
            self.body = Vec::new();
        }
        self.body.clear();
    }

    fn take(&mut self, state: &mut State) -> Turn {
        if state.dead.is_some() || state.ending == Some(Ending::Crash) {
            let failed = state.dead.clone();
            return Turn::Stop { failed };
        }
        let sync = self.must_sync(state);
        let close = state.ending == Some(Ending::Close);
        if state.pending.is_empty() && !sync && !close && state.trim.is_none() {
            return Turn::Nothing;
        }
        std::mem::swap(&mut state.pending, &mut self.body);
        if close {
            // Under the same lock: what is appended from here on is dropped.
            state.closed = true;
        }
        Turn::Work(Work {
            next_lsn: state.pending_first,
            last_lsn: state.head(),
            offset: 0,
            tap: state.tap.clone(),
            trim: state.trim.take(),
            sync,
            close,
            stage: Stage::Write,
        })
    }

    fn must_sync(&self, state: &State) -> bool {
        state.flush_upto > self.shared.synced.load(Ordering::Relaxed)
            || self.sync_due.is_some_and(|due| Instant::now() >= due)
    }

    /// Makes the next step of what was taken; true when it was the last.
    fn advance(&mut self, work: &mut Work) -> Result<bool, String> {
        work.stage = match work.stage {
            Stage::Write if work.offset == self.body.len() => Stage::SyncAll,
            Stage::Write => {
                let batch = self.next_batch(work);
                self.write(batch)?
            }
            Stage::Sync(batch) => {
                self.sync()?;
                Stage::Publish(batch)
            }
            Stage::Publish(batch) => {
                self.finish(batch, work.tap.as_ref())?;
                work.next_lsn += Lsn::from(batch.frames);
                work.offset = batch.end;
                Stage::Write
            }
            Stage::SyncAll => {
                if work.sync || work.close {
                    self.sync()?;
                }
                Stage::Trim
            }
            Stage::Trim => {
                self.trim(work.trim)?;
                return Ok(true);
            }
        };
        Ok(false)
    }

    /// As many of the taken frames as one batch may hold.
    fn next_batch(&self, work: &Work) -> Batch {
        let rest = &self.body[work.offset..];
        let (bytes, frames) = if rest.len() <= BATCH_BODY_MAX {
            // Bounded by the bytes: a frame has a header.
            (rest.len(), (work.last_lsn - work.next_lsn + 1) as u32)
        } else {
            frames_within(rest, BATCH_BODY_MAX)
        };
        Batch { first_lsn: work.next_lsn, frames, start: work.offset, end: work.offset + bytes }
    }

    fn write(&mut self, batch: Batch) -> Result<Stage, String> {
        self.unless_failed()?;
        let Some(log) = &mut self.log else {
            return Ok(Stage::Publish(batch));
        };
        let body = &self.body[batch.start..batch.end];
        log.append(batch.first_lsn, batch.frames, self.shared.epoch, body).map_err(text)?;
        self.written = batch.last_lsn();
        if self.shared.durability == Durability::Sync {
            return Ok(Stage::Sync(batch));
        }
        if self.sync_due.is_none() {
            self.sync_due = Some(Instant::now() + self.options.sync_interval);
        }
        Ok(Stage::Publish(batch))
    }

    fn finish(&mut self, batch: Batch, tap: Option<&Tap>) -> Result<(), String> {
        let body = &self.body[batch.start..batch.end];
        if self.log.is_some() {
            self.shared.counters.batch(batch.frames, body.len());
            self.crowded = batch.frames >= CROWD_FRAMES;
        }
        // Before the frames are published: whoever waits for them finds them in the tap.
        self.send(batch.first_lsn, body, tap);
        self.publish(batch.last_lsn(), body.len())
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

impl Batch {
    fn last_lsn(&self) -> Lsn {
        self.first_lsn + Lsn::from(self.frames) - 1
    }
}

fn text(error: LogError) -> String {
    error.to_string()
}
