//! Snapshot files: a run of checksummed chunks, published whole or not at all.
//!
//! ```text
//! file    magic 8 bytes `BKSTSNP` and a zero, version u32, crc32 of these 12 bytes
//!         chunks, then one end chunk, then nothing
//! chunk   len u32, index u32, crc32 u32 (over len, index, kind, reserved and payload),
//!         kind u8, reserved 3 bytes 0, payload
//! end     a chunk of kind 255; its payload is: chunks before it u64, bytes of the file before it u64,
//!         crc32 of these bytes u32, final LSN u64, and the caller's own end payload
//! ```
//! All numbers are little endian. What is in the chunks is the caller's business.
//!
//! A file is written under a temporary name, synced every few MiB, so that the journal's sync never
//! queues behind it, read back and verified, and only then renamed. So a file with a snapshot's name
//! was whole once, and whatever is wrong with it later is damage.

mod dir;
mod format;
mod read;
mod write;

use std::io;
use std::path::{Path, PathBuf};

pub use dir::{list_snapshots, remove_leftovers, retain, snapshot_path};
pub use format::CHUNK_BYTES_MAX;
pub use read::{ChunkVisitor, SnapshotSummary, foreign_snapshot, read_snapshot, verify_snapshot};
pub use write::{PublishedSnapshot, SnapshotWriter};

/// The journal position that a snapshot stands for, as in [`crate::journal::Lsn`].
pub type Lsn = u64;

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The disk refused an operation. A snapshot being written is lost; earlier ones are untouched.
    #[error("could not {op} {}: {source}", file.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what was written. Fall back to an older snapshot.
    #[error("the snapshot is damaged: {} at byte {offset}: {why}", file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The chunk is longer than [`CHUNK_BYTES_MAX`] or of the kind reserved for the end. It was not
    /// written; the caller has a bug.
    #[error("a chunk of kind {kind} and {bytes} bytes can not be written")]
    BadChunk {
        /// Its kind.
        kind: u8,
        /// The length of its payload.
        bytes: usize,
    },
    /// An earlier operation on this writer failed, so this one was not tried.
    #[error("the snapshot being written failed before")]
    Broken,
    /// Whoever was shown the chunks refused one; the text is his.
    #[error("a chunk of the snapshot was refused: {0}")]
    Visit(String),
    /// Its checksums are right, but something in it is not known here: another version of the program made it, and it
    /// is no damage.
    #[error("another version of the program made the snapshot: {0}")]
    OtherVersion(String),
}

impl From<String> for SnapshotError {
    /// What a visitor says.
    fn from(why: String) -> Self {
        Self::Visit(why)
    }
}

impl SnapshotError {
    fn io(op: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { op, file: file.to_owned(), source }
    }

    fn damaged(file: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), offset, why: why.into() }
    }
}
