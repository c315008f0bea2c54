//! What a [`super::Loader`] takes and what it answers.

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::{PasswordHash, PasswordParams};
use crate::domain::{By, OrderStatus};

/// How a data directory is made. Start from [`LoadOptions::default`] and set fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Cost of the hash of a password that comes in clear. Default argon2id, 19 MiB, 2 passes, 1 lane.
    pub password_params: PasswordParams,
    /// Threads that hash passwords in clear. Default: the number of cores.
    pub hash_threads: usize,
    /// A pending order that names no deadline is canceled this long after it was placed. Default 30 min.
    pub order_ttl: Duration,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            password_params: PasswordParams::default(),
            hash_threads: crate::auth::default_concurrency(),
            order_ttl: Duration::from_secs(30 * 60),
        }
    }
}

/// A user with his money of now.
#[derive(Debug, Clone)]
pub struct LoadAccount<'a> {
    /// 1 to 256 bytes without control characters.
    pub user_id: &'a str,
    /// How he logs in.
    pub password: LoadPassword<'a>,
    /// In fen, 0 or more. Orders that are loaded do not change it.
    pub balance: i64,
}

/// A password in clear or hashed.
#[derive(Clone)]
#[non_exhaustive]
pub enum LoadPassword<'a> {
    /// In clear, 1 to 1,024 bytes. It is hashed while the load goes on, which costs tens of ms of a core.
    Clear(&'a str),
    /// Hashed before.
    Hash(PasswordHash),
}

impl std::fmt::Debug for LoadPassword<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LoadPassword::Clear(_) => "Clear(..)",
            LoadPassword::Hash(_) => "Hash(..)",
        })
    }
}

/// A line of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadLine<'a> {
    /// A book of the order's store.
    pub book_id: &'a str,
    /// Copies, 1 or more.
    pub count: i64,
    /// What a copy cost when the order was placed, in fen, 0 or more.
    pub price: i64,
}

/// An order in any state.
#[derive(Debug, Clone)]
pub struct LoadOrder<'a> {
    /// The id that it had, if any; 1 to 1,024 bytes. Only to tell a doubled order: it is given a new id.
    pub order_id: Option<&'a str>,
    /// Who ordered.
    pub user_id: &'a str,
    /// Where.
    pub store_id: &'a str,
    /// Where it stands.
    pub status: OrderStatus,
    /// Whether it was paid to the platform, which pays the seller on completion; else to the seller. Looked at only if
    /// it was paid.
    pub paid_to_platform: bool,
    /// Whether the seller shipped it. `None`: it did, unless the order is pending, paid or canceled.
    pub is_shipped: Option<bool>,
    /// When it was placed, in ms since the Unix epoch.
    pub created_ms: u64,
    /// When it is canceled if it is pending, in ms since the Unix epoch. `None`: see [`LoadOptions::order_ttl`].
    pub deadline_ms: Option<u64>,
    /// When its other steps were taken.
    pub times: LoadTimes,
    /// One line a book, at most 10,000.
    pub lines: &'a [LoadLine<'a>],
}

/// When an order took its steps after it was placed, in ms since the Unix epoch. A step whose time is not known is given
/// that of the step before; a time of a step that the order has not taken is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadTimes {
    /// When it was paid. Of a canceled order: it was refunded; without it nobody had paid.
    pub paid_ms: Option<u64>,
    /// When it was shipped.
    pub shipped_ms: Option<u64>,
    /// When its buyer confirmed it.
    pub confirmed_ms: Option<u64>,
    /// When it was canceled.
    pub canceled_ms: Option<u64>,
    /// Who canceled it; `None`: the buyer. [`By::Deadline`] only from the order's deadline on, and if nobody had paid.
    pub canceled_by: Option<By>,
    /// When it shall be confirmed by itself, if it is shipped and was paid to the platform; `None`: never.
    pub confirm_deadline_ms: Option<u64>,
}

/// What was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Where it is now.
    pub dir: PathBuf,
    /// Accounts.
    pub accounts: u64,
    /// Passwords that came in clear and were hashed.
    pub hashed: u64,
    /// Stores.
    pub stores: u64,
    /// Books, over all stores.
    pub books: u64,
    /// Orders.
    pub orders: u64,
    /// Sum of all balances, in fen.
    pub balances: i64,
    /// What the platform holds for orders that are paid to it and not completed, in fen.
    pub escrow: i64,
    /// Copies on the shelves.
    pub stock: i128,
    /// Bytes of the snapshot; book documents are beside it.
    pub snapshot_bytes: u64,
    /// From the begin to the end.
    pub took: Duration,
}

/// Why something was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A row is wrong in itself or does not fit what came before it. It was not taken; the loader can go on.
    #[error("{field}: {why}")]
    Row {
        /// The row's field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The file system refused, or the directory is not one to load into. The loader cannot go on; drop it.
    #[error("could not {what}: {source}")]
    Io {
        /// What was attempted, on which file.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Files could not be written as they should be, or a password could not be hashed. The loader cannot go on.
    #[error("{0}")]
    Failed(String),
    /// Whoever was told the progress said that it shall end. Nothing is left.
    #[error("cut short")]
    CutShort,
}

impl LoadError {
    pub(super) fn row(field: &'static str, why: impl Into<String>) -> Self {
        LoadError::Row { field, why: why.into() }
    }

    pub(super) fn failed(error: impl std::fmt::Display) -> Self {
        LoadError::Failed(error.to_string())
    }
}

impl From<super::building::Failed> for LoadError {
    fn from((what, source): super::building::Failed) -> Self {
        LoadError::Io { what, source }
    }
}
