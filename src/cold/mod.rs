//! What rests on disk outside the journal, in redb: book documents, by content hash, and orders that rest.
//!
//! | module | purpose |
//! |---|---|
//! | `backend` | redb's storage trait over the engine's [`Disk`](crate::disk::Disk), and the fail-stop |
//! | `database` | makes and opens a database file |
//! | `documents` | the store of documents: put, get, close |
//! | `queue` | documents that wait |
//! | `store` | what calls and the writing thread share, and the thread: it commits everything that waits in one transaction |
//! | `verify` | every byte of both files, for the offline check |
//! | `bulk` | many documents in one commit, for the loader |
//! | `orders` | the store of orders: write, get, list, count |
//! | `copy` | either file as it was at one moment, written to another file, for a backup |
//! | `awaited` | which of them are confirmed by themselves, and when |
//! | `mend` | rows of orders for the offline repair: damaged ones, and those that are ahead of a journal that was cut |
//!
//! Only this room knows redb.
//!
//! # What is relied upon
//!
//! - A document is stored under the blake3 hash of its bytes and never changes; storing it again
//!   writes nothing. Nothing is ever deleted.
//! - An acknowledged document is durable: the caller may journal an event that names it.
//! - Any I/O error is final. The file is not touched again, every later call fails with
//!   [`ColdError::Failed`], and the process has to be started anew: after a failed sync the kernel
//!   may have dropped the pages it could not write, so another sync proves nothing.
//! - redb does not check its pages when it reads them. Each document is therefore hashed again on
//!   its way out, and a panic of redb over a damaged page is caught and told as damage.

mod awaited;
mod backend;
mod bulk;
mod copy;
mod database;
mod documents;
mod mend;
mod orders;
mod queue;
mod store;
mod verify;

#[cfg(test)]
mod orders_tests;
#[cfg(test)]
mod test_disk;
#[cfg(test)]
mod tests;

pub use copy::Still;
pub use documents::{DOCUMENT_BYTES_MAX, Documents};
pub use mend::{RestingRow, RowState};
pub use orders::{Counts, Orders, View};

use std::path::PathBuf;
use std::sync::Arc;

/// What can go wrong in this room.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ColdError {
    /// The file could not be opened or made. The engine cannot start; correct what is named.
    #[error("{path}: {why}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The document is longer than `DOCUMENT_BYTES_MAX`. Nothing was done.
    #[error("a document of {bytes} bytes is longer than {DOCUMENT_BYTES_MAX}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Another version of the program made the file. Nothing is wrong with it; open it with that version.
    #[error("{}", other_version(*found, *known))]
    OtherVersion {
        /// The version of its layout; `None` for one from before there were any.
        found: Option<u64>,
        /// The version that this program knows.
        known: u64,
    },
    /// What is stored is not what was put in. Restore the file from a backup; putting the same
    /// document in again mends one that is damaged alone.
    #[error("damaged: {what}")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// An I/O error, now or earlier, put the store out of service until the next start. Whether
    /// this document was stored is unknown.
    #[error("out of service: {why}")]
    Failed {
        /// The first error.
        why: Arc<str>,
    },
    /// The store was closed. Nothing was done.
    #[error("closed")]
    Closed,
}

fn other_version(found: Option<u64>, known: u64) -> String {
    match found {
        Some(found) => format!("it has layout {found}, and this program knows layout {known}"),
        None => format!("its layout is older than layout {known}, which this program knows"),
    }
}
