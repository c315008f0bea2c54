//! Everything that can be set when an engine is opened, with its default.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{self, PasswordParams};
use crate::disk::Disk;
use crate::engine::OpenError;
use crate::journal::Durability;

/// Where an engine keeps its data.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Storage {
    /// A directory of the file system. It is created, and locked against a second engine.
    Directory(PathBuf),
    /// Nowhere: all is gone when the engine is dropped. Every durability mode behaves as on a perfect disk.
    Memory,
    /// A directory on a disk of the caller's making; for tests that lose, tear and fail operations.
    Disk(Arc<dyn Disk>, PathBuf),
}

/// Upper bounds. Everything that can grow has one. What is beyond them is refused, and nothing was done then.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Commands that are admitted and not answered yet; more are refused as overloaded. Default 65,536.
    pub in_flight_max: usize,
    /// Bytes in the journal's buffer, promised or waiting for the disk; more is refused as overloaded. Default 256 MiB.
    pub journal_buffer_bytes: usize,
    /// Lines of one order, 1 to 10,000. Default 1,000.
    pub order_lines_max: usize,
    /// Books in one store, 1 to 100,000: a store is one row of a snapshot. Default 100,000.
    pub store_books_max: usize,
    /// Pending orders of one user; one more is throttled. Default 100,000.
    pub pending_orders_max: usize,
    /// Deposits and withdrawals of one user whose idempotency keys are kept at once; one more with a key is throttled.
    /// Each is 40 bytes of the account. Default 10,000.
    pub deposit_keys_max: usize,
    /// Orders in one list; a longer list is refused as a whole, never cut. Default 100,000.
    pub orders_listed_max: usize,
    /// Account and store actors alive at once; beyond it the longest idle ones go to sleep. Default 50,000.
    pub live_actors_max: usize,
    /// Orders at rest (not pending, no step under way) that stay in memory; beyond it the longest unchanged ones are
    /// written to disk. Default 200,000, about 70 MB.
    pub resting_orders_max: usize,
    /// An actor without a message for this long goes to sleep, and an order at rest leaves memory for the disk; in
    /// whole seconds, looked at once a second. Default 60 s.
    pub idle_after: Duration,
    /// Accounts whose verified password or tokens are remembered. Default 1,000,000.
    pub password_memory_max: usize,
    /// Password hashes computed at once. Default: the number of cores.
    pub password_hashes_max: usize,
    /// Wrong passwords a minute for one user before it is throttled; 0 = never. Default 20.
    pub throttle_user: u32,
    /// Wrong passwords a minute from one address before it is throttled; 0 = never. Default 1,000.
    pub throttle_address: u32,
    /// Free bytes on the disk below which changes are refused and reads go on; 0 = never. The rest of the journal's
    /// next segment, which is written beforehand, counts as used. Default 256 MiB.
    pub free_disk_min_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            in_flight_max: 65_536,
            journal_buffer_bytes: 256 << 20,
            order_lines_max: 1_000,
            store_books_max: 100_000,
            pending_orders_max: 100_000,
            deposit_keys_max: 10_000,
            orders_listed_max: 100_000,
            live_actors_max: 50_000,
            resting_orders_max: 200_000,
            idle_after: Duration::from_secs(60),
            password_memory_max: auth::REMEMBERED_ACCOUNTS_DEFAULT,
            password_hashes_max: auth::default_concurrency(),
            throttle_user: auth::USER_PER_MINUTE_DEFAULT,
            throttle_address: auth::ADDRESS_PER_MINUTE_DEFAULT,
            free_disk_min_bytes: 256 << 20,
        }
    }
}

/// How an engine is opened. [`Config::directory`] and [`Config::memory`] give the defaults; set fields from there.
/// [`Engine::open`](crate::Engine::open) checks them and names the one that is out of its range.
///
/// ```
/// use std::time::Duration;
///
/// let mut config = bookstore::Config::directory("snapshots");
/// config.durability = bookstore::Durability::Buffered;
/// config.order_ttl = Duration::from_secs(15 * 60);
/// config.limits.order_lines_max = 100;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where the data is.
    pub storage: Storage,
    /// What an answer promises. Default [`Durability::Sync`].
    pub durability: Durability,
    /// With [`Durability::Buffered`]: at most this long between two syncs. Default 50 ms.
    pub sync_interval: Duration,
    /// When several callers are at work, the journal gathers for this long before each sync: fewer syncs, which cost
    /// CPU time. Below 50 µs the system's timer decides. A lone caller never waits. Default 50 µs.
    pub commit_delay: Duration,
    /// Time between two snapshots. Default 60 s.
    pub snapshot_interval: Duration,
    /// A snapshot is also taken when this many bytes were journaled since the last. Default 512 MiB.
    pub snapshot_journal_bytes: u64,
    /// Bytes of one journal segment, 16 MiB to 1 GiB. Default 64 MiB.
    pub segment_bytes: u64,
    /// An unpaid order is canceled after this time. Default 30 min.
    pub order_ttl: Duration,
    /// A shipped order that was paid to the platform is confirmed by itself after this time, and its seller is paid.
    /// It is fixed when the order is shipped. `None`, the default: it waits for its buyer, however long.
    pub auto_confirm: Option<Duration>,
    /// A login is valid for this time. Default 1 h.
    pub token_ttl: Duration,
    /// Cost of a new password hash; existing hashes carry their own. Default argon2id, 19 MiB, 2 passes, 1 lane.
    pub password_params: PasswordParams,
    /// Upper bounds.
    pub limits: Limits,
}

impl Config {
    /// Defaults, with the data in `dir`.
    pub fn directory(dir: impl Into<PathBuf>) -> Self {
        Self::with(Storage::Directory(dir.into()))
    }

    /// Defaults, with nothing on disk.
    pub fn memory() -> Self {
        Self::with(Storage::Memory)
    }

    /// Defaults, with the given storage.
    pub fn with(storage: Storage) -> Self {
        Config {
            storage,
            durability: Durability::Sync,
            sync_interval: Duration::from_millis(50),
            commit_delay: Duration::from_micros(50),
            snapshot_interval: Duration::from_secs(60),
            snapshot_journal_bytes: 512 << 20,
            segment_bytes: 64 << 20,
            order_ttl: Duration::from_secs(30 * 60),
            auto_confirm: None,
            token_ttl: Duration::from_secs(60 * 60),
            password_params: PasswordParams::default(),
            limits: Limits::default(),
        }
    }

    /// Bytes of the journal's next segment, which is written as zeros while the current one fills; 0 without a journal.
    pub(crate) fn next_segment_bytes(&self) -> u64 {
        match self.durability {
            Durability::Snapshot => 0,
            _ => self.segment_bytes,
        }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let bad = |name, why: &str| Err(OpenError::Config { name, why: why.into() });
        if !(1..=10_000).contains(&self.limits.order_lines_max) {
            return bad("order_lines_max", "must be 1 to 10,000");
        }
        if self.limits.in_flight_max < 64 {
            return bad("in_flight_max", "must be at least 64: a sweep of expired orders takes 16");
        }
        if self.limits.store_books_max == 0 || self.limits.store_books_max > 100_000 {
            return bad("store_books_max", "must be 1 to 100,000");
        }
        if self.limits.journal_buffer_bytes < 16 << 20 {
            return bad("journal_buffer_bytes", "must be at least 16 MiB");
        }
        if self.limits.live_actors_max == 0 {
            return bad("live_actors_max", "must be at least 1");
        }
        if self.limits.password_hashes_max == 0 {
            return bad("password_hashes_max", "must be at least 1");
        }
        if !((16 << 20)..=(1 << 30)).contains(&self.segment_bytes) {
            return bad("segment_bytes", "must be 16 MiB to 1 GiB");
        }
        if self.snapshot_interval.is_zero() {
            return bad("snapshot_interval", "must be longer than 0");
        }
        if self.commit_delay > Duration::from_millis(100) {
            return bad("commit_delay", "must be at most 100 ms");
        }
        if self.order_ttl > Duration::from_secs(100 * 365 * 86_400) {
            return bad("order_ttl", "must be at most 100 years");
        }
        let a_century = Duration::from_secs(100 * 365 * 86_400);
        if self.auto_confirm.is_some_and(|after| after.as_millis() == 0 || after > a_century) {
            return bad("auto_confirm", "must be 1 ms to 100 years");
        }
        if self.token_ttl.as_secs() == 0 {
            return bad("token_ttl", "must be at least 1 s");
        }
        Ok(())
    }
}
