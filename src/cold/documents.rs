//! The store of documents by content hash.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;

use super::ColdError;
use super::backend::Health;
use super::database::{self, guarded};
use super::queue::{Put, Queue};
use super::store::{DOCUMENTS, Store, run};
use crate::disk::Disk;
use crate::domain::DocumentHash;

/// The longest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How many bytes of documents wait for their commit at most; a `put` beyond them waits before
/// it is queued. A single longer document takes all of it.
pub const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a waiting document counts at least, so that the number of small ones is bounded, too.
const WAITING_BYTES_LEAST: usize = 4 * 1024;

/// Documents on disk, by content hash. See the [module](super) for what it promises.
///
/// Dropping it without [`close`](Self::close) commits what waits, too, but tells no error. Both
/// block until the running commit is through.
#[derive(Debug)]
pub struct Documents {
    pub(super) store: Arc<Store>,
    thread: Mutex<Option<JoinHandle<()>>>,
    repaired: bool,
}

impl Documents {
    /// Opens the store at `path`, or makes an empty one if the file does not exist; its directory
    /// must. `cache_bytes` bounds redb's page cache. Blocks on the disk; starts a thread.
    ///
    /// # Errors
    /// [`ColdError::Open`], also when the file is damaged; [`ColdError::OtherVersion`].
    pub fn open(disk: Arc<dyn Disk>, path: &Path, cache_bytes: usize) -> Result<Self, ColdError> {
        Self::open_bounded(disk, path, cache_bytes, WAITING_BYTES_MAX)
    }

    pub(super) fn open_bounded(
        disk: Arc<dyn Disk>,
        path: &Path,
        cache_bytes: usize,
        waiting_bytes_max: usize,
    ) -> Result<Self, ColdError> {
        let health = Arc::new(Health::default());
        let make = |transaction: &redb::WriteTransaction| Ok(transaction.open_table(DOCUMENTS).map(drop)?);
        let find = |transaction: &redb::ReadTransaction| Ok(transaction.open_table(DOCUMENTS).map(drop)?);
        let (database, repaired) = database::open(&*disk, path, cache_bytes, &health, make, find)?;
        let store = Arc::new(Store {
            health,
            database: RwLock::new(Some(database)),
            queue: Queue::default(),
            budget: Arc::new(Semaphore::new(waiting_bytes_max)),
            waiting_bytes_max,
            commits: AtomicU64::new(0),
        });
        let shared = Arc::clone(&store);
        let thread = thread::Builder::new()
            .name("cold-writer".to_owned())
            .spawn(move || run(&shared))
            .map_err(|error| ColdError::Open { path: path.to_owned(), why: format!("no thread for it: {error}") })?;
        Ok(Self { store, thread: Mutex::new(Some(thread)), repaired })
    }

    /// Stores a document and gives its name, once it is durable. One that is stored already is
    /// not written again. All that wait share one commit.
    ///
    /// Cancellation: a dropped future either stored nothing, because it still waited for room, or
    /// leaves the document to be stored as if it had not been dropped. A document that nothing
    /// names does no harm.
    ///
    /// # Errors
    /// [`ColdError::TooLarge`], [`ColdError::Failed`], [`ColdError::Damaged`],
    /// [`ColdError::Closed`].
    pub async fn put(&self, document: impl AsRef<[u8]> + Send + 'static) -> Result<DocumentHash, ColdError> {
        let bytes = document.as_ref().len();
        if bytes > DOCUMENT_BYTES_MAX {
            return Err(ColdError::TooLarge { bytes });
        }
        self.store.health.check()?;
        let most = self.store.waiting_bytes_max;
        let permits = bytes.max(WAITING_BYTES_LEAST).min(most);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.store.budget).acquire_many_owned(permits).await.map_err(|_| ColdError::Closed)?;
        let (reply, outcome) = oneshot::channel();
        self.store.queue.push(Put { document: Box::new(document), reply, _room: room })?;
        match outcome.await {
            Ok(outcome) => outcome,
            // Only a panic of the writer thread outside redb drops a reply.
            Err(_) => {
                self.store.health.fail("the writer thread ended");
                self.store.health.check().and(Err(ColdError::Closed))
            }
        }
    }

    /// The document of that name, or none if it was never stored. Blocks on the disk, and hashes
    /// what it read.
    ///
    /// # Errors
    /// [`ColdError::Damaged`] when the bytes are not those of the name, [`ColdError::Failed`],
    /// [`ColdError::Closed`].
    pub fn get_blocking(&self, hash: &DocumentHash) -> Result<Option<Vec<u8>>, ColdError> {
        self.store.get(hash)
    }

    /// As [`get_blocking`](Self::get_blocking), on the runtime's blocking pool. Dropping the
    /// future changes nothing.
    ///
    /// # Errors
    /// As [`get_blocking`](Self::get_blocking); [`ColdError::Closed`] also when the runtime shuts
    /// down.
    pub async fn get(&self, hash: &DocumentHash) -> Result<Option<Vec<u8>>, ColdError> {
        let (store, hash) = (Arc::clone(&self.store), *hash);
        let task = spawn_blocking(move || store.get(&hash));
        task.await.unwrap_or(Err(ColdError::Closed))
    }

    /// Whether the open had to walk the whole file to repair it. An open after a crash need not;
    /// if it was so, say so to the operator, who will wonder at the time it took.
    pub fn repaired(&self) -> bool {
        self.repaired
    }

    /// How many commits were made since the open: for metrics.
    pub fn commits(&self) -> u64 {
        self.store.commits.load(Ordering::Relaxed)
    }

    /// Commits what waits, ends the thread and closes the file. Blocks on the disk. Every later
    /// call ends in [`ColdError::Closed`], but a second close, which does nothing.
    ///
    /// # Errors
    /// [`ColdError::Failed`] when the store was out of service or the closing failed. What was
    /// acknowledged is durable all the same.
    pub fn close(&self) -> Result<(), ColdError> {
        self.store.budget.close();
        self.store.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            self.store.health.fail("the writer thread panicked");
        }
        let database = self.store.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(database) = database else {
            return Ok(());
        };
        let closed = guarded(|| Ok(database.close()?));
        self.store.health.check()?;
        closed.map_err(|fault| fault.report(&self.store.health))
    }
}

impl Drop for Documents {
    fn drop(&mut self) {
        // Nobody is left to hear of an error; what was acknowledged is durable without this.
        let _ = self.close();
    }
}
