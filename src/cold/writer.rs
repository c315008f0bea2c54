//! The thread that writes: it takes all that wait and commits them in one transaction, so that
//! the two syncs of a commit are shared by all who came during the last one.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, PoisonError};

use redb::{Database, ReadableTable};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::ColdError;
use super::database::{begin_write, guarded};
use super::documents::{DOCUMENTS, Store};
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
    fn take(&self) -> Option<Vec<Put>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = self
            .changed
            .wait_while(waiting, |waiting| waiting.puts.is_empty() && !waiting.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let puts = mem::take(&mut waiting.puts);
        (!puts.is_empty()).then_some(puts)
    }
}

/// Commits batch after batch until the queue is closed.
pub(super) fn run(store: &Store) {
    while let Some(batch) = store.queue.take() {
        let outcome = store.commit(&batch);
        for (place, put) in batch.into_iter().enumerate() {
            let reply = outcome.as_ref().map(|hashes| hashes[place]).map_err(ColdError::clone);
            // A caller who went away needs no answer.
            let _ = put.reply.send(reply);
        }
    }
}

impl Store {
    /// Stores a batch durably and gives the names in its order.
    fn commit(&self, batch: &[Put]) -> Result<Vec<DocumentHash>, ColdError> {
        self.health.check()?;
        // Hashed here rather than by the callers: they are on async threads.
        let documents: Vec<(DocumentHash, &[u8])> = batch
            .iter()
            .map(|put| (*put.document).as_ref())
            .map(|document| (DocumentHash::of(document), document))
            .collect();
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(ColdError::Closed)?;
        let committed = guarded(|| commit(database, &documents));
        if committed.map_err(|fault| fault.report(&self.health))? {
            self.commits.fetch_add(1, Ordering::Relaxed);
        }
        Ok(documents.into_iter().map(|(hash, _)| hash).collect())
    }
}

/// Whether anything had to be written.
pub(super) fn commit(database: &Database, documents: &[(DocumentHash, &[u8])]) -> Result<bool, redb::Error> {
    let transaction = begin_write(database)?;
    let mut table = transaction.open_table(DOCUMENTS)?;
    let mut written = false;
    for (hash, document) in documents {
        // The bytes themselves are compared: a stored copy that was damaged is written anew,
        // else its owner would be told it is safe.
        let stored = table.get(&hash.0)?.is_some_and(|stored| stored.value() == *document);
        if !stored {
            table.insert(&hash.0, *document)?;
            written = true;
        }
    }
    drop(table);
    if written {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(written)
}
