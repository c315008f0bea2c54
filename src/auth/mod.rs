//! Who somebody is: password hashes, signed tokens, the memory of what was verified, and the
//! throttle on wrong passwords.
//!
//! | module | purpose |
//! |---|---|
//! | `password` | argon2id at rest: hash, verify, the stored form |
//! | `phc` | the same as a PHC string, as other systems write it |
//! | `hasher` | runs argon2 on the blocking pool, a few at a time, with a bounded queue |
//! | `key` | the key that signs tokens, in a file of its own |
//! | `tokens` | signed stateless tokens |
//! | `memory` | what was verified, so that argon2 and HMAC need not run again |
//! | `throttle` | wrong passwords by user and by address |
//!
//! This room knows neither accounts nor the journal: an account is a number with a password epoch,
//! and the caller passes in the engine's time. Whether an epoch is still the current one, and
//! whether a token was revoked, only the account's actor can judge.
//!
//! # The way of a password
//!
//! 1. [`AuthMemory::password`]: if it answers, the password is right as of that epoch.
//! 2. [`Throttle::check`], then [`AuthMemory::generation`], and only then read the stored hash.
//! 3. [`Hasher::turn`]. It may have waited long: ask 1 and [`Throttle::check`] again, so that a
//!    burst of the same password costs one argon2 and a burst of guesses stops at the limit.
//! 4. [`Turn::verify`], then [`AuthMemory::remember_password`] or [`Throttle::failed`].

mod hasher;
mod key;
mod memory;
mod password;
mod phc;
mod throttle;
mod tokens;

pub use hasher::{Hasher, WAITERS_MAX_DEFAULT, default_concurrency};
pub use key::TokenKey;
pub use memory::{AuthMemory, REMEMBERED_ACCOUNTS_DEFAULT};
pub use password::{PASSWORD_BYTES_MAX, PasswordHash, PasswordParams};
pub use throttle::{ADDRESS_PER_MINUTE_DEFAULT, Throttle, USER_PER_MINUTE_DEFAULT};
pub use tokens::{Claims, Tokens};

use std::io;
use std::path::PathBuf;

/// Why a password could not be hashed. Nothing was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// The password is empty or longer than [`PASSWORD_BYTES_MAX`]. Choose another one.
    #[error("a password has 1 to {PASSWORD_BYTES_MAX} bytes")]
    Length,
    /// A setting, or a stored hash, asks for a cost outside the limits. Correct the setting.
    #[error("invalid password hashing parameters: {0}")]
    Parameters(String),
    /// The system's random source failed. Trying again may help.
    #[error("no random bytes: {0}")]
    Random(String),
    /// There was not enough memory for argon2. Trying again may help; so may a lower cost.
    #[error("argon2 could not run: {0}")]
    Argon2(String),
}

/// What can go wrong in this room. A wrong password or a bad token is not an error but an answer.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A password could not be hashed, or there are no random bytes for a key.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// More password checks wait than the limit allows. Nothing was done: try again later.
    #[error("too many password checks are waiting")]
    Busy,
    /// The runtime is shutting down, or the blocking task panicked. The outcome is unknown, but
    /// hashing changes nothing.
    #[error("the password check was cut short")]
    Stopped,
    /// The token could not be signed.
    #[error("the token could not be signed: {0}")]
    Signing(String),
    /// The token key file could not be read or created. See the source; the engine cannot start.
    #[error("token key {path}: {source}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner of the token key file may read or change it.
    #[error(
        "token key {path}: mode {mode:03o} lets others at the key; set it to 600 (chmod 600) if nobody had the key"
    )]
    KeyOpen {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The token key file is not usable as it is. Correct it, or remove it: a new key is then
    /// made and every token given so far becomes invalid.
    #[error("token key {path}: {why}")]
    KeyUnusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// `N` bytes of the system's random source.
fn random<const N: usize>() -> Result<[u8; N], PasswordError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| PasswordError::Random(error.to_string()))?;
    Ok(bytes)
}
