//! What can go wrong for a caller of the engine.

use std::time::Duration;

use crate::domain::Refusal;

/// Why a call did not succeed.
///
/// | variant | what happened | what to do |
/// |---|---|---|
/// | `Refused` | nothing; the rules say no | tell the user. Once the state has changed the same call may succeed |
/// | `Throttled` | nothing | the same call again after [`Error::retry_after`] |
/// | `Overloaded` | nothing | the same call again in a moment, not at once and not for ever |
/// | `Draining` | nothing | this engine takes no call any more: open it anew |
/// | `OutcomeUnknown` | all of it or nothing | this engine is over: end it and open it anew. A change made [with a key](crate::Engine::with_key): make the same call with the same key, and it is done once. Any other: look before repeating it |
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A business answer. Nothing was changed; the same call may succeed later.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many wrong passwords or too many pending orders. Nothing was changed.
    #[error("{why}, try again in {retry_after_s} s")]
    #[non_exhaustive]
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
    /// The engine failed, mostly because its journal did; the text says why. A change may or may not survive; after
    /// the next open its fate is settled, and the same call with the same [key](crate::Engine::with_key) completes it.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(String),
}

impl Error {
    /// Whether the very same call may simply be made again: nothing was done, and the reason passes by itself.
    /// Everything else is final for this engine or wants a decision.
    pub fn is_retryable(&self) -> bool {
        self.retry_after().is_some()
    }

    /// When it makes sense to make the same call again; `None` unless [`Error::is_retryable`].
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Throttled { retry_after_s, .. } => Some(Duration::from_secs((*retry_after_s).max(1))),
            Error::Overloaded(_) => Some(Duration::from_secs(1)),
            Error::Refused(_) | Error::Draining | Error::OutcomeUnknown(_) => None,
        }
    }

    /// The contract's outcome code, which is also the HTTP status: [`Refusal::code`], 429 or 503.
    pub fn code(&self) -> u16 {
        match self {
            Error::Refused(refusal) => refusal.code(),
            Error::Throttled { .. } => 429,
            Error::Overloaded(_) | Error::Draining | Error::OutcomeUnknown(_) => 503,
        }
    }
}

/// Why an engine could not be opened. Nothing was changed on disk that was not safe to change, so after the reason is
/// gone the same open may be tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is out of its range. Correct it.
    #[error("invalid setting {name}: {why}")]
    #[non_exhaustive]
    Config {
        /// The setting's name.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Another process, or another engine of this one, holds the data directory; or a check or a repair does. Wait for
    /// its end.
    #[error("data directory {dir} is in use by process {holder}, or a check or a repair of it is running")]
    #[non_exhaustive]
    Locked {
        /// The directory.
        dir: String,
        /// The process id in the lock file, or `unknown`. A check, and a repair that is only planned, write none.
        holder: String,
    },
    /// The data is damaged in a way that no crash explains. Nothing was cut. Keep the files to look at, and restore a
    /// backup; trying again does not help.
    #[error("the data is damaged: {0}")]
    Damaged(String),
    /// The file of the key that signs tokens cannot be used as it is: others may read it, or it has another length. Correct
    /// what the text says, or remove the file: a new key is made then, and every token given so far is invalid.
    #[error("{0}")]
    TokenKey(String),
    /// Another version of the program made the data. Nothing is wrong with it and nothing was changed: open it with
    /// the version that made it.
    #[error("the data was made by another version of the program: {0}")]
    OtherVersion(String),
    /// The file system refused: permissions, no room, a broken disk. Look at the source.
    #[error("{what}: {source}")]
    #[non_exhaustive]
    Io {
        /// What was attempted, on which file.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_did_nothing_and_passes_by_itself_is_retryable() {
        let retryable = [Error::Throttled { why: "w", retry_after_s: 0 }, Error::Overloaded("o")];
        for error in retryable {
            assert!(error.is_retryable() && error.retry_after() >= Some(Duration::from_secs(1)), "{error}");
        }
        for error in [Error::Refused(Refusal::Unauthorized), Error::Draining, Error::OutcomeUnknown("u".into())] {
            assert!(!error.is_retryable() && error.retry_after().is_none(), "{error}");
        }
    }
}
