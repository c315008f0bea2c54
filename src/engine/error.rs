//! What can go wrong for a caller of the engine.

use crate::domain::Refusal;

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A business answer. Nothing was changed; the same call may succeed later.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many wrong passwords or too many pending orders. Nothing was changed.
    #[error("{why}, try again in {retry_after_s} s")]
    Throttled {
        /// What there was too much of.
        why: &'static str,
        /// When it makes sense to try again, in seconds.
        retry_after_s: u64,
    },
    /// A limit of the engine is reached. Nothing was done; try again in a moment.
    #[error("overloaded: {0}")]
    Overloaded(&'static str),
    /// The engine is closing or closed. Nothing was done.
    #[error("draining")]
    Draining,
    /// The journal failed. The change may or may not survive; after the next open its fate is settled.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(String),
}

/// Why an engine could not be opened. Nothing was changed on disk that was not safe to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is out of its range; the text names it.
    #[error("invalid setting {name}: {why}")]
    Config {
        /// The setting's name.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Another process holds the data directory.
    #[error("data directory {dir} is in use by process {holder}")]
    Locked {
        /// The directory.
        dir: String,
        /// The process id in the lock file, or `unknown`.
        holder: String,
    },
    /// The data is damaged in a way that no crash explains. Restore a backup; nothing was cut.
    #[error("the data is damaged: {0}")]
    Damaged(String),
    /// The file system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, on which file.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}
