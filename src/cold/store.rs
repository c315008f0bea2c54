//! What the calls and the writing thread share, and the thread itself: it takes all that wait and commits them in one
//! transaction, so that the two syncs of a commit are shared by all who came during the last one.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::Semaphore;

use super::ColdError;
use super::backend::Health;
use super::database::{begin_write, guarded};
use super::queue::{Put, Queue};
use crate::domain::DocumentHash;

/// The documents by the blake3 hash of their bytes.
pub(super) const DOCUMENTS: TableDefinition<'static, &[u8; 32], &[u8]> = TableDefinition::new("documents");

/// What callers and the writer thread share.
pub(super) struct Store {
    pub(super) health: Arc<Health>,
    /// Taken out on close. A lock for reading is held over each use, so that closing waits for
    /// reads that run.
    pub(super) database: RwLock<Option<Database>>,
    pub(super) queue: Queue,
    /// One permit for each byte that may wait; closed with the store.
    pub(super) budget: Arc<Semaphore>,
    pub(super) waiting_bytes_max: usize,
    pub(super) commits: AtomicU64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("health", &self.health).finish_non_exhaustive()
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
    pub(super) fn get(&self, hash: &DocumentHash) -> Result<Option<Vec<u8>>, ColdError> {
        self.health.check()?;
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(ColdError::Closed)?;
        let found = guarded(|| {
            let table = database.begin_read()?.open_table(DOCUMENTS)?;
            Ok(table.get(&hash.0)?.map(|document| document.value().to_vec()))
        });
        let found = found.map_err(|fault| fault.report(&self.health))?;
        match found {
            Some(document) if DocumentHash::of(&document) != *hash => {
                Err(ColdError::Damaged { what: format!("the document {hash} has other bytes") })
            }
            found => Ok(found),
        }
    }

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
