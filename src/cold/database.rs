//! Makes and opens a database file, and tells redb's errors in this room's words.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase, TableDefinition, TableError, WriteTransaction};

use super::ColdError;
use super::backend::{Backend, Health};
use crate::disk::{Disk, OpenMode};

/// Makes the tables of a new database.
type Tables = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// Numbers by name, in each of the files.
pub(super) const STATE: TableDefinition<'static, &str, u64> = TableDefinition::new("state");
/// In `state`: which layout the file has. Written when it is made, and never again.
const FORMAT: &str = "format";
/// Of both files. Any change of a table or of what is in it makes it another one.
const FORMAT_KNOWN: u64 = 1;

/// Opens the database, or makes an empty one if the file does not exist. Says, too, whether redb
/// had to walk the whole file, which quick repair is there to avoid. `find_tables` opens the tables
/// that must be there; before that the layout is judged.
pub(super) fn open(
    disk: &dyn Disk,
    path: &Path,
    cache_bytes: usize,
    health: &Arc<Health>,
    make_tables: Tables,
    find_tables: impl FnOnce(&ReadTransaction) -> Result<(), redb::Error>,
) -> Result<(Database, bool), ColdError> {
    let refuse = |why: String| ColdError::Open { path: path.to_owned(), why };
    let file = match disk.open(path, OpenMode::ReadWrite) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(disk, path, make_tables)?;
            disk.open(path, OpenMode::ReadWrite)
        }
        other => other,
    }
    .map_err(|error| refuse(error.to_string()))?;
    // redb would take an empty file for a new database. Ours is never empty, see `create`.
    if file.is_empty().map_err(|error| refuse(error.to_string()))? {
        return Err(refuse("the file is empty".to_owned()));
    }
    let backend = Backend::new(file, Arc::clone(health));
    let repaired = Arc::new(AtomicBool::new(false));
    let repairing = Arc::clone(&repaired);
    let opened = guarded(|| {
        let database = Builder::new()
            .set_cache_size(cache_bytes)
            .set_repair_callback(move |_| repairing.store(true, Ordering::Relaxed))
            .create_with_backend(backend)?;
        let transaction = database.begin_read()?;
        let found = format_of(&transaction)?;
        if found != Some(FORMAT_KNOWN) {
            return Ok(Err(ColdError::OtherVersion { found, known: FORMAT_KNOWN }));
        }
        find_tables(&transaction)?;
        drop(transaction);
        Ok(Ok((database, repaired.load(Ordering::Relaxed))))
    });
    opened.map_err(|fault| refuse(fault.to_string()))?
}

fn format_of(transaction: &ReadTransaction) -> Result<Option<u64>, redb::Error> {
    match transaction.open_table(STATE) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(table?.get(FORMAT)?.map(|format| format.value())),
    }
}

/// Makes an empty database under another name and then gives it its own: redb refuses a file
/// whose making was cut short, so a crash must not leave one under that name.
fn create(disk: &dyn Disk, path: &Path, make_tables: Tables) -> Result<(), ColdError> {
    let refuse = |why: String| ColdError::Open { path: path.to_owned(), why };
    let failed = |error: io::Error| refuse(error.to_string());
    let temporary = temporary_beside(path);
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = disk.open(&temporary, OpenMode::CreateNew).map_err(failed)?;
    // A health of its own, so that whatever happens here is told by the error alone.
    let backend = Backend::new(file, Arc::default());
    let made = guarded(|| {
        let database = Builder::new().create_with_backend(backend)?;
        let transaction = begin_write(&database)?;
        make_tables(&transaction)?;
        transaction.open_table(STATE)?.insert(FORMAT, FORMAT_KNOWN)?;
        transaction.commit()?;
        database.close()?;
        Ok(())
    });
    made.map_err(|fault| refuse(fault.to_string()))?;
    disk.rename(&temporary, path).map_err(failed)?;
    disk.sync_dir(directory_of(path)).map_err(failed)
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A write transaction with the durability that this room promises.
///
/// *Quick repair*: the state of the page allocator is saved with each commit, so that the open
/// after a crash is instant; else redb walks the whole file, which holds gigabytes of pictures.
/// It brings *two-phase commit* with it, said here all the same because we want it for itself:
/// the new root is synced before the byte that names it the root, so an open after a crash need
/// not tell a torn commit from a whole one by checksums. It costs a second sync a commit, which
/// the batch shares.
pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(redb::Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// What redb ended in, if not in a value.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Redb(#[from] redb::Error),
    /// redb takes a file it wrote for sound and panics when it is not.
    #[error("the database is damaged: {0}")]
    Panic(String),
}

impl Fault {
    /// Puts the store out of service and says why: none of these faults can be worked around.
    pub(super) fn report(self, health: &Health) -> ColdError {
        // A read that was under way when its database was closed is no fault of the file.
        if let Fault::Redb(redb::Error::DatabaseClosed) = self {
            return ColdError::Closed;
        }
        // The operation that failed beneath has more to say than redb; it came first.
        health.fail(&self.to_string());
        match self {
            Fault::Panic(what) | Fault::Redb(redb::Error::Corrupted(what)) => ColdError::Damaged { what },
            Fault::Redb(error) => match health.check() {
                Err(failed) => failed,
                Ok(()) => ColdError::Failed { why: Arc::from(error.to_string()) },
            },
        }
    }
}

/// Runs work on redb and catches its panics.
///
/// Unwind safety: after a panic the caller puts the store out of service, so nobody sees what
/// the panic left half done.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => Ok(outcome?),
        Err(payload) => Err(Fault::Panic(panic_text(&*payload))),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}
