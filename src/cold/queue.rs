//! Documents that wait to be stored.

use std::mem;
use std::sync::{Condvar, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::ColdError;
use crate::domain::DocumentHash;

/// A document that waits to be stored.
pub(super) struct Put {
    /// Whatever holds the bytes, so that nobody has to copy them.
    pub(super) document: Box<dyn AsRef<[u8]> + Send>,
    pub(super) reply: oneshot::Sender<Result<DocumentHash, ColdError>>,
    /// Its share of the waiting bytes, given back when it is dropped.
    pub(super) _room: OwnedSemaphorePermit,
}

/// The documents that wait for the next commit. A std mutex and condition variable, because the
/// thread has no runtime; the lock is held for a push or a swap only.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    puts: Vec<Put>,
    closed: bool,
}

impl Queue {
    pub(super) fn push(&self, put: Put) -> Result<(), ColdError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return Err(ColdError::Closed);
        }
        waiting.puts.push(put);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    pub(super) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_one();
    }

    /// Waits for documents; none once the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Vec<Put>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = self
            .changed
            .wait_while(waiting, |waiting| waiting.puts.is_empty() && !waiting.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let puts = mem::take(&mut waiting.puts);
        (!puts.is_empty()).then_some(puts)
    }
}
