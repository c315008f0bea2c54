//! The journal as its callers see it.

use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use crate::sync::thread::{self, JoinHandle};

use super::commit::{Committer, Stepper};
use super::frame::{FRAME_PAYLOAD_MAX, Frame, encode_frame};
use super::shared::{Ending, Shared, State, Tap};
use super::{JournalFailed, JournalStats, LogStore, Lsn};

/// What an answer promises: when an event counts as durable. Set it with `Config::durability`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// When it is on the disk. A power loss loses nothing that was acknowledged.
    Sync,
    /// When it was written to the kernel. A crash of the process loses nothing, a power loss what
    /// was written since the last sync.
    Buffered,
    /// At once: there is no log. A crash loses everything since the last snapshot.
    Snapshot,
}

/// How a [`Journal`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalOptions {
    /// When a frame counts as durable.
    pub durability: Durability,
    /// In [`Durability::Buffered`]: how long a written frame may stay unsynced.
    pub sync_interval: Duration,
    /// When the last batch had several callers behind it, the thread waits this long before the next, so that it
    /// holds more and there are fewer syncs. A lone caller never waits. Zero: never.
    pub commit_delay: Duration,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { durability: Durability::Sync, sync_interval: Duration::from_millis(100), commit_delay: Duration::ZERO }
    }
}

/// Is told of the journal's progress, on the journal's thread: it must be quick and must not wait
/// for the journal.
pub trait Observer: Send + Sync + 'static {
    /// Everything up to `durable` is durable; called after each batch. Not called in
    /// [`Durability::Snapshot`], where every frame is durable as soon as it has its LSN.
    fn advanced(&self, durable: Lsn);

    /// The journal failed and nothing will become durable any more; called once at most.
    fn failed(&self, why: &str);
}

/// Everything up to the head of a moment, on the disk and sent to the tap; see [`Journal::request_flush`].
#[derive(Debug, Clone, Copy)]
pub struct Flush {
    target: Lsn,
}

impl Flush {
    fn is_reached(&self, shared: &Shared, state: &State) -> bool {
        let unlogged = shared.durability == Durability::Snapshot;
        state.done >= self.target && (unlogged || shared.synced.load(Ordering::Acquire) >= self.target)
    }
}

/// A handle to a running journal. Clones share it.
///
/// Dropping the last handle without [`Journal::close`] behaves like a crash: the batch in flight is
/// finished, what is still pending is lost.
#[derive(Debug, Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Starts the journal's thread on a log that ends with `last_lsn`. `epoch` is written into every
    /// frame and must be higher than any in the log. There is no log in [`Durability::Snapshot`],
    /// and only there.
    ///
    /// # Errors
    /// `InvalidInput` if a log is missing or superfluous; otherwise the thread could not be started.
    pub fn start(
        log: Option<Box<dyn LogStore>>,
        last_lsn: Lsn,
        epoch: u32,
        options: JournalOptions,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Self> {
        let (shared, committer) = Self::prepare(log, last_lsn, epoch, options, observer)?;
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || committer.run())?;
        Ok(Self { inner: Arc::new(Inner { shared, thread: Mutex::new(Some(thread)) }) })
    }

    /// As [`Journal::start`], without a thread: the caller makes its steps, one by one, and nothing goes on by itself.
    /// So nobody may wait for it: [`Journal::flush_blocking`] would never return, [`Journal::request_flush`] is for
    /// this. For simulations.
    ///
    /// # Errors
    /// `InvalidInput` if a log is missing or superfluous.
    pub fn by_hand(
        log: Option<Box<dyn LogStore>>,
        last_lsn: Lsn,
        epoch: u32,
        options: JournalOptions,
        observer: Arc<dyn Observer>,
    ) -> io::Result<(Self, Stepper)> {
        let (shared, committer) = Self::prepare(log, last_lsn, epoch, options, observer)?;
        let journal = Self { inner: Arc::new(Inner { shared, thread: Mutex::new(None) }) };
        Ok((journal, Stepper::new(committer)))
    }

    fn prepare(
        log: Option<Box<dyn LogStore>>,
        last_lsn: Lsn,
        epoch: u32,
        options: JournalOptions,
        observer: Arc<dyn Observer>,
    ) -> io::Result<(Arc<Shared>, Committer)> {
        if log.is_none() != (options.durability == Durability::Snapshot) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a journal has a log in every durability mode but `snapshot`",
            ));
        }
        let shared = Arc::new(Shared::new(options.durability, last_lsn, epoch));
        let committer = Committer::new(Arc::clone(&shared), log, last_lsn, options, observer);
        Ok((shared, committer))
    }

    /// Appends a frame and gives its LSN. Never waits for the disk and never fails: whether the
    /// frame became durable is told by [`Journal::durable`] and the observer. After a failure or a
    /// close LSNs are still given, and the bytes are dropped.
    ///
    /// A payload longer than [`FRAME_PAYLOAD_MAX`] could never be read back; it fails the journal.
    pub fn append(&self, kind: u8, version: u8, payload: &[u8]) -> Lsn {
        let shared = &*self.inner.shared;
        let mut state = shared.state();
        let lsn = state.next_lsn;
        state.next_lsn += 1;
        let over = state.is_over();
        let too_long = payload.len() > FRAME_PAYLOAD_MAX;
        let unlogged = shared.durability == Durability::Snapshot;
        if unlogged && !over && !too_long {
            // Before the head: whoever sees the new head finds it durable.
            shared.durable.store(lsn, Ordering::Release);
        }
        shared.head.store(lsn, Ordering::Release);
        if over {
            return lsn;
        }
        if too_long {
            shared.fail(state, format!("frame {lsn} of {} bytes is too long", payload.len()));
            return lsn;
        }
        if unlogged && state.tap.is_none() {
            state.done = lsn;
            return lsn;
        }
        if state.pending.is_empty() {
            state.pending_first = lsn;
        }
        let frame = Frame { lsn, epoch: shared.epoch, kind, version, payload };
        encode_frame(&mut state.pending, &frame);
        shared.buffered_bytes.fetch_add(frame.encoded_len(), Ordering::Relaxed);
        shared.wake(state);
        lsn
    }

    /// The LSN given last.
    #[must_use]
    pub fn head(&self) -> Lsn {
        self.inner.shared.head.load(Ordering::Acquire)
    }

    /// Everything up to this LSN is durable, in the meaning of the durability mode. Frames that a
    /// tap gets were sent to it before this passes them, except in [`Durability::Snapshot`]. There it
    /// is never below a [`Journal::head`] that was read before, until the journal ends.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.inner.shared.durable.load(Ordering::Acquire)
    }

    /// Everything up to this LSN is on the disk, whatever the mode. In [`Durability::Snapshot`] it
    /// stays where the journal was started.
    #[must_use]
    pub fn synced(&self) -> Lsn {
        self.inner.shared.synced.load(Ordering::Acquire)
    }

    /// Whether the journal failed. A journal that was closed did not fail.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.inner.shared.failed.load(Ordering::Acquire)
    }

    /// Bytes of frames that were appended and are not durable yet.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.inner.shared.buffered_bytes.load(Ordering::Relaxed)
    }

    /// From now on every frame past the returned LSN is also sent to `sink`, encoded and in order, a
    /// batch at a time, when it is durable. Replaces an earlier tap. A sink whose receiver is gone is
    /// forgotten; all senders are dropped when the journal ends.
    pub fn tap(&self, sink: Sender<Vec<u8>>) -> Lsn {
        let mut state = self.inner.shared.state();
        let after = state.head();
        state.taps += 1;
        state.tap = Some(Tap { number: state.taps, sink, after });
        after
    }

    /// Ends the tap. A batch in flight may still be sent.
    pub fn untap(&self) {
        let shared = &*self.inner.shared;
        shared.state().untap(shared);
    }

    /// Waits until everything appended before is on the disk, in [`Durability::Buffered`] as well,
    /// and was sent to the tap. Blocks the thread: not for the async runtime.
    ///
    /// # Errors
    /// [`JournalFailed`] if that will never be, and whenever the journal failed, was halted or was
    /// abandoned, in every mode.
    pub fn flush_blocking(&self) -> Result<(), JournalFailed> {
        let flush = self.request_flush();
        let shared = &*self.inner.shared;
        shared.wait_until(shared.state(), |shared, state| flush.is_reached(shared, state))
    }

    /// Asks for what [`Journal::flush_blocking`] waits for, without waiting.
    pub fn request_flush(&self) -> Flush {
        let shared = &*self.inner.shared;
        let mut state = shared.state();
        let flush = Flush { target: state.head() };
        if shared.durability != Durability::Snapshot {
            state.flush_upto = state.flush_upto.max(flush.target);
            shared.wake(state);
        }
        flush
    }

    /// Whether what was asked for came true.
    ///
    /// # Errors
    /// As [`Journal::flush_blocking`].
    pub fn is_flushed(&self, flush: &Flush) -> Result<bool, JournalFailed> {
        let shared = &*self.inner.shared;
        shared.look(&shared.state(), |shared, state| flush.is_reached(shared, state))
    }

    /// Waits until `lsn`, which must have been given, is durable in the meaning of the mode and was
    /// sent to the tap. Blocks the thread: not for the async runtime.
    ///
    /// # Errors
    /// [`JournalFailed`] if that will never be. In [`Durability::Snapshot`] also whenever the journal
    /// failed, was halted or was abandoned; with a log, what became durable before that stays so.
    pub fn wait_durable(&self, lsn: Lsn) -> Result<(), JournalFailed> {
        let shared = &*self.inner.shared;
        let logged_durable = || shared.durability != Durability::Snapshot && self.durable() >= lsn;
        if logged_durable() {
            return Ok(());
        }
        match shared.wait_until(shared.state(), |_, state| state.done >= lsn) {
            // It became durable, and then the journal ended.
            Err(_) if logged_durable() => Ok(()),
            waited => waited,
        }
    }

    /// Lets the journal's thread drop segments whose every frame is at or below `upto`, between two
    /// batches. Does not wait for it.
    pub fn trim(&self, upto: Lsn) {
        let shared = &*self.inner.shared;
        let mut state = shared.state();
        state.trim = Some(state.trim.map_or(upto, |earlier| earlier.max(upto)));
        shared.wake(state);
    }

    /// Writes and syncs everything, then ends the thread. Later appends are dropped. Closing twice
    /// is fine. Blocks the thread: not for the async runtime, nor for an [`Observer`].
    ///
    /// # Errors
    /// [`JournalFailed`] if the journal failed, now or before.
    pub fn close(&self) -> Result<(), JournalFailed> {
        self.inner.end(Ending::Close);
        let state = self.inner.shared.state();
        match &state.dead {
            Some(why) if self.is_failed() => Err(JournalFailed { why: why.clone() }),
            _ => Ok(()),
        }
    }

    /// Ends as in a crash: the batch in flight is finished, what is still pending is lost, later appends are
    /// dropped. Returns when nothing writes any more. Blocks the thread, for a sync at most. After a
    /// [`Journal::close`] it changes nothing.
    pub fn abandon(&self) {
        self.inner.end(Ending::Crash);
    }

    /// Fails the journal on purpose: for a caller that must not let what was appended last become
    /// durable. When this returns, appends are dropped, [`Journal::durable`] stands still, waiters get
    /// [`JournalFailed`], and the thread begins no write and no sync any more; the observer is told
    /// as of any failure. A write or sync in hand may still reach the disk, unacknowledged.
    ///
    /// Does not wait for the thread, so the [`Observer`] may call it. Halting twice is fine, and
    /// halting a journal that is over changes nothing.
    pub fn halt(&self) {
        let shared = &*self.inner.shared;
        let state = shared.state();
        if state.dead.is_none() {
            shared.fail(state, "it was halted".to_owned());
        }
    }

    /// What was done since the start.
    #[must_use]
    pub fn stats(&self) -> JournalStats {
        self.inner.shared.counters.read()
    }

    /// Syncs since the start, and the sum of their times in microseconds: cheap enough to ask all the time.
    #[must_use]
    pub fn syncs(&self) -> (u64, u64) {
        self.inner.shared.counters.sync_micros.totals()
    }
}

impl Inner {
    /// Tells the thread to end and waits until it has.
    fn end(&self, ending: Ending) {
        let mut state = self.shared.state();
        state.ending.get_or_insert(ending);
        self.shared.wake(state);
        // Held while waiting, so that a second caller returns after the end as well.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = thread.take() {
            // An observer may drop the last handle on the journal's own thread, which cannot wait
            // for itself; it ends by itself.
            if handle.thread().id() != thread::current().id() {
                // A panic on the thread was turned into a failure already.
                drop(handle.join());
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end(Ending::Crash);
    }
}
