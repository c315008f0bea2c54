//! The two ends of an engine: closed in order, or dropped as in a crash.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::{Core, Engine, Result, Storage};
use crate::journal::Durability;

/// Ends everything when the last handle of the engine goes. It is not part of `Core`, because the background's tasks
/// hold that.
pub(super) struct Guard {
    core: Arc<Core>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Held for its lock on the data directory; released last.
    lock: Mutex<Option<File>>,
}

impl Guard {
    pub(super) fn new(core: Arc<Core>, tasks: Vec<JoinHandle<()>>, lock: Option<File>) -> Self {
        Guard { core, tasks: Mutex::new(tasks), lock: Mutex::new(lock) }
    }

    fn stop(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        self.core.system.answers.drain();
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
    /// replays nothing), and syncs the journal. Other handles of this engine answer [`super::Error::Draining`] from
    /// then on. Blocks until the files are closed.
    ///
    /// # Errors
    /// [`super::Error::OutcomeUnknown`] if the engine has failed; what was acknowledged is durable all the same. With
    /// [`Durability::Snapshot`] also if the last snapshot could not be written: what came after the one before is lost.
    pub async fn close(&self) -> Result<()> {
        let core = self.core.clone();
        core.system.answers.drain();
        // In flight may be somebody who waits for a password hash or a saga, so this waits without a limit; who
        // cannot wait drops the future, and the engine with it.
        while core.system.answers.in_flight() > 0 && !core.system.answers.is_failed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        core.system.pause_deadlines();
        let mut ended = core.quiesce().await;
        if ended.is_ok() && !matches!(core.config.storage, Storage::Memory) {
            match core.take_snapshot(true).await {
                Ok(_) => {}
                // Without a journal the last snapshot is all there is.
                Err(error) if core.config.durability == Durability::Snapshot => ended = Err(error),
                // The next open replays the journal, which is whole; so the failure is not the caller's.
                Err(error) => tracing::warn!(%error, "no last snapshot"),
            }
        }
        let journal = core.system.journal.clone();
        let closed = tokio::task::spawn_blocking(move || journal.close()).await;
        if !matches!(closed, Ok(Ok(()))) {
            ended = Err(core.unknown());
        }
        let guard = self.guard.clone();
        let _ = tokio::task::spawn_blocking(move || guard.stop()).await;
        ended
    }
}
