//! What can go wrong with a log.

use std::io;
use std::path::{Path, PathBuf};

use super::Lsn;

/// Why a log could not be opened, written, synced or trimmed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk refused an operation. After a write or a sync that is final: the log answers
    /// nothing but [`LogError::Broken`] from then on. The process has to open it anew.
    #[error("the journal could not {op} {}: {source}", file.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log holds something that no crash of this program can have left behind. Nothing was
    /// changed. Restore the file from a copy; only an explicit offline command may cut it.
    #[error("the journal is damaged: {} at byte {offset}: {why}", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// Whoever was shown the frames refused one; the text is his.
    #[error("a frame of the journal was refused: {0}")]
    Visit(String),
    /// Whoever was shown the frames knows no such version; the text is his.
    #[error("{0}")]
    OtherVersion(String),
    /// The batch does not continue the log. Nothing was written; the caller has a bug.
    #[error("the journal goes on with frame {expected}, not with {got}")]
    OutOfOrder {
        /// The LSN that the log goes on with.
        expected: Lsn,
        /// The LSN that was offered.
        got: Lsn,
    },
    /// The batch is empty or larger than [`super::BATCH_BYTES_MAX`]. Nothing was written; the
    /// caller has a bug.
    #[error("a batch of {bytes} bytes in {frames} frames can not be written")]
    BatchSize {
        /// Bytes of its frames.
        bytes: usize,
        /// Number of its frames.
        frames: u32,
    },
    /// An earlier operation failed, so this one was not even tried.
    #[error("the journal failed before and takes nothing any more")]
    Broken,
}

impl LogError {
    pub(super) fn io(op: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { op, file: file.to_owned(), source }
    }

    pub(super) fn corrupt(file: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, why: why.into() }
    }
}

/// The journal is over: a write or sync failed, or it was closed, and what was waited for is not
/// durable. Whether it will be found after a restart is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal ended: {why}")]
pub struct JournalFailed {
    /// What ended it.
    pub why: String,
}
