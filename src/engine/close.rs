//! The two ends of an engine: closed in order, or dropped as in a crash.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::background::Urgency;
use super::{Core, Engine, Result, Storage};
use crate::journal::Durability;

/// How long the end waits for a backup to be removed.
const BACKUP_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Ends everything when the last handle of the engine goes. It is not part of `Core`, because the background's tasks
/// hold that.
pub(super) struct Guard {
    core: Arc<Core>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Held for its lock on the data directory; released last.
    lock: Mutex<Option<File>>,
    /// One close at a time.
    turn: tokio::sync::Mutex<()>,
    /// What the first close came to, for all that follow.
    ended: Mutex<Option<Result<()>>>,
}

impl Guard {
    pub(super) fn new(core: Arc<Core>, tasks: Vec<JoinHandle<()>>, lock: Option<File>) -> Self {
        let (turn, ended) = (tokio::sync::Mutex::default(), Mutex::default());
        Guard { core, tasks: Mutex::new(tasks), lock: Mutex::new(lock), turn, ended }
    }

    fn ended(&self) -> MutexGuard<'_, Option<Result<()>>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        self.core.system.answers.drain();
        self.core.search.close();
        // Nobody writes any more when the lock is released: no snapshot is published, the journal's thread is joined.
        self.core.snapshots.stop();
        self.core.system.journal.abandon();
        self.core.system.answers.fail();
        self.core.system.stop();
        if let Err(error) = self.core.documents.close() {
            tracing::warn!(%error, "the documents did not close cleanly; what was acknowledged is durable");
        }
        if let Err(error) = self.core.system.resting.close() {
            tracing::warn!(%error, "the orders at rest did not close cleanly; what was written is durable");
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Engine {
    /// Ends in order: admits nothing more, waits for what is in flight, takes a last snapshot (so that the next open
    /// replays nothing), syncs the journal and releases the data directory. Every other call on any handle of this
    /// engine answers [`Error::Draining`](super::Error::Draining) from the moment this begins. Closing again, or from
    /// several tasks at once, gives the same answer when the one end is reached.
    ///
    /// It waits as long as it has to. What is in flight ends by itself within a few syncs and password hashes; the
    /// snapshot takes about a second for a million rows.
    ///
    /// # Cancellation
    /// Dropping the future leaves the engine as it is then: it admits nothing, and it holds its directory. Call it
    /// again to go on, or drop all handles to end as in a crash.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`](super::Error::OutcomeUnknown) if the engine has failed; what was acknowledged is
    /// durable all the same. With [`Durability::Snapshot`] also [`Error::Overloaded`](super::Error::Overloaded) if the
    /// last snapshot could not be written: what came after the one before is lost.
    pub async fn close(&self) -> Result<()> {
        self.core.system.answers.drain();
        let _turn = self.guard.turn.lock().await;
        let known = self.guard.ended().clone();
        let ended = match known {
            Some(ended) => ended,
            None => self.core.end().await,
        };
        let guard = self.guard.clone();
        let outcome = ended.clone();
        // Runs to its end also if this future is dropped.
        let stop = move || {
            *guard.ended() = Some(outcome);
            guard.stop();
        };
        let _ = tokio::task::spawn_blocking(stop).await;
        ended
    }
}

impl Core {
    /// Waits until nothing moves, and makes it durable.
    async fn end(self: &Arc<Self>) -> Result<()> {
        // In flight may be somebody who waits for a password hash or a saga, so this waits without a limit; who
        // cannot wait drops the future, and the engine with it.
        while self.system.answers.in_flight() > 0 && !self.system.answers.is_failed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // A backup that is under way gives up by itself, and removes what it made. Not on a disk that hangs.
        let _ = tokio::time::timeout(BACKUP_ENDS_WITHIN, self.backups.ended()).await;
        self.system.pause_deadlines();
        let mut ended = self.quiesce().await;
        if ended.is_ok() && !matches!(self.config.storage, Storage::Memory) {
            match self.take_snapshot(true, Urgency::Awaited).await {
                Ok(_) => {}
                // Without a journal the last snapshot is all there is.
                Err(error) if self.config.durability == Durability::Snapshot => ended = Err(error),
                // The next open replays the journal, which is whole; so the failure is not the caller's.
                Err(error) => tracing::warn!(%error, "no last snapshot"),
            }
        }
        let journal = self.system.journal.clone();
        let closed = tokio::task::spawn_blocking(move || journal.close()).await;
        if !matches!(closed, Ok(Ok(()))) {
            ended = Err(self.unknown());
        }
        ended
    }
}
