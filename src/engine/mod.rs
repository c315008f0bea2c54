//! The engine: opens, recovers and closes; the typed API; limits, deadlines, audit.
//!
//! # Layout
//! - `open`: lock, recover, start; `recovery`: what there is, read; `image`: the state while it is recovered; `close`: drain, last snapshot, end.
//! - `accounts`, `stores`, `orders`: the calls, each in the contract's order of checks.
//! - `keyed`: the six changes that may carry an idempotency key, with and without one.
//! - `search`: the search, its index and the index's rebuild.
//! - `credential`: passwords and tokens become a value that entities judge.
//! - `chunks`: what is in a snapshot's chunks; `snapshots`: the walk beside the traffic, in the steps of `walk`; `audit`: all money and all
//!   copies while nothing moves.
//! - `load`: how busy the engine is, for who decides whether to let more in.
//! - `standing`: what somebody asks who operates the service.
//! - `overflow`: orders at rest leave memory, in the steps of `leaving`.
//! - `backup`: a copy of all of it, made beside the traffic.
//! - `offline`: work on data directories that no engine has open.
//! - `stages`: single stages of a call, for the benches.
//! - `versions`: data that another version of the program made.
//! - `background`: ticks, sleep, snapshots by time and size, free disk.

mod accounts;
mod audit;
mod background;
mod backup;
mod chunks;
mod close;
mod config;
mod credential;
mod error;
mod image;
mod keyed;
mod leaving;
mod load;
mod names;
pub mod offline;
mod open;
mod orders;
mod overflow;
#[cfg(test)]
mod panic_tests;
mod recovery;
mod search;
#[cfg(test)]
mod sleep_tests;
mod snapshots;
mod stages;
mod standing;
mod stores;
#[cfg(all(test, feature = "server"))]
mod trace_tests;
mod types;
mod versions;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crate::actors::{Admission, Busy, System, Then};
use crate::auth::{AuthMemory, Hasher, Throttle, Tokens};
use crate::cold::Documents;
use crate::disk::Disk;
use crate::domain::{AccountNo, Millis, ORDER_COUNT_BITS, Outcome, Refusal, Send, Ticket};
use crate::trace;

pub use audit::Tally;
pub use backup::{BackupError, BackupReport};
pub use config::{Config, Limits, Storage};
pub use error::{Error, OpenError};
pub use image::Receive;
#[cfg(feature = "server")]
pub(crate) use keyed::KEY_FIELD;
pub use keyed::{KEY_BYTES_MAX, Keyed};
pub use leaving::{Named, Round, RoundStep};
#[cfg(feature = "server")]
pub(crate) use load::Load;
pub use open::Progress;
pub use recovery::{Data, Recovery};
pub use search::{KEYWORD_BYTES_MAX, PAGE_SIZE_MAX};
pub use stages::hop;
pub use types::{
    AuditReport, BookView, By, Credential, FoundBook, LineView, NewBook, NewLine, OrderDetails, OrderId, OrderStatus,
    OrderStep, OrderTotals, OrderView, PayKind, Recovered, Search, SearchPage, SnapshotReport, Stats, StoreStanding,
    UserStanding,
};
pub use walk::{Chunk, Walk, Wanted, WriteError, Writing, clean_up, encode_orders, ids_of};

/// Result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// The longest id of a user, store or book, in bytes of UTF-8.
pub const ID_BYTES_MAX: usize = 256;

pub use crate::auth::PASSWORD_BYTES_MAX;

/// A running engine. Clones are cheap handles of the same one, to be used from any task or thread.
///
/// Ids are 1 to [`ID_BYTES_MAX`] bytes of text without control characters, passwords 1 to [`PASSWORD_BYTES_MAX`]
/// bytes. Money is in fen (1/100 yuan), a stock level and a count in copies.
///
/// # Errors
///
/// Numbers in the docs of the calls are [`Refusal::code`]s of [`Error::Refused`]. They stand in the order in which
/// they are judged: the first that fails is the answer. Besides its own, every call can answer
///
/// - 530 with the argument's name, before anything else, if an argument is out of its bounds;
/// - [`Error::Overloaded`]: a limit of the engine is reached, or, for changes, the disk is nearly full;
/// - [`Error::Throttled`], with [`Credential::Password`]: too many wrong ones;
/// - [`Error::Draining`] once [`Engine::close`] was called;
/// - [`Error::OutcomeUnknown`] once the engine has failed, reads included: what it would tell may not be durable.
///
/// # Answers
///
/// An answer leaves when what it rests on is durable as [`Config::durability`](crate::Config::durability) says, a
/// refusal or a read included. So an answer never shows what a crash could take back.
///
/// # Cancellation
///
/// A call is a future that does nothing until it is polled. A change first resolves its credential and judges what
/// it can; then it is *admitted*, in one step with being sent on its way. Dropping the future before that changes
/// nothing. Dropping it later changes nothing either: what was asked for is done, only nobody hears of it. There is
/// no third case, whatever the call; so a timeout around a change says no more than "perhaps". A password that is
/// being hashed is hashed to its end.
///
/// # The end
///
/// [`Engine::close`] ends in order. When the last handle is dropped without it, it is as if the process had crashed:
/// what was acknowledged is durable, what was not may be lost. That drop blocks its thread until no file is written
/// any more, for a sync at most.
#[derive(Clone)]
pub struct Engine {
    pub(super) core: Arc<Core>,
    /// Ends everything when the last handle goes.
    guard: Arc<close::Guard>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("dir", &self.core.dir).finish_non_exhaustive()
    }
}

/// What the calls and the background share.
pub(super) struct Core {
    config: Config,
    disk: Arc<dyn Disk>,
    dir: std::path::PathBuf,
    system: Arc<System>,
    names: Arc<names::Names>,
    hasher: Hasher,
    tokens: Tokens,
    memory: Arc<AuthMemory>,
    throttle: Throttle,
    documents: Documents,
    search: search::SearchIndex,
    /// Sum over all accounts of what was put in, with deposits on their way.
    deposits: Arc<AtomicI64>,
    ids: IdSource,
    disk_low: AtomicBool,
    /// Free bytes as of the last look; `u64::MAX` before it.
    disk_free: AtomicU64,
    overflow: overflow::Overflow,
    backups: backup::Backups,
    snapshots: snapshots::Snapshots,
    times: load::Times,
    recovered: Recovered,
}

/// Gives order ids that sort by the order in which they were given. The random bits are a keyed hash of the stamp,
/// which costs a tenth of the system's random source.
pub struct IdSource {
    key: [u8; 32],
    /// The stamp given last: milliseconds, then a count within the millisecond.
    last: AtomicU64,
}

impl std::fmt::Debug for IdSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdSource")
    }
}

impl IdSource {
    /// With a key that nobody can guess.
    pub fn new(key: [u8; 32]) -> Self {
        IdSource { key, last: AtomicU64::new(0) }
    }

    /// The next id.
    pub fn next(&self, now: Millis, buyer: AccountNo) -> OrderId {
        let stamp = now << ORDER_COUNT_BITS;
        let next = |last: u64| stamp.max(last + 1);
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        let stamp = next(last.unwrap_or_else(|last| last));
        let hash = blake3::keyed_hash(&self.key, &stamp.to_le_bytes());
        let random = u64::from_le_bytes(std::array::from_fn(|index| hash.as_bytes()[index]));
        OrderId::new(stamp, buyer, random)
    }
}

impl Engine {
    /// What open found. It does not change afterwards.
    pub fn recovered(&self) -> Recovered {
        self.core.recovered.clone()
    }

    /// `None` when calls are served; else why not: the engine failed, or it is closing or closed.
    pub fn not_ready(&self) -> Option<&'static str> {
        let (system, answers) = (&self.core.system, &self.core.system.answers);
        if system.failure().is_some() {
            Some("the engine failed")
        } else if answers.is_draining() {
            // Also once it is closed, when answers are stopped as by a failure.
            Some("draining")
        } else {
            answers.is_failed().then_some("the engine failed")
        }
    }

    /// Waits until the engine fails, for good, and says why. A program that serves others should end then, and open
    /// the data anew. An engine that is closed has not failed, so this never returns for it.
    ///
    /// # Cancellation
    /// The future may be dropped at any time.
    pub async fn failed(&self) -> String {
        self.core.system.failed().await
    }

    /// Counters and gauges, read without stopping anything: they are not of one moment.
    pub fn stats(&self) -> Stats {
        let core = &self.core;
        let journal = core.system.journal.stats();
        let (accounts, stores) = (&core.system.accounts, &core.system.stores);
        let mut stats = Stats {
            journal_head: core.system.journal.head(),
            journal_durable: core.system.journal.durable(),
            journal_batches: journal.batches,
            journal_frames: journal.frames,
            journal_bytes: journal.bytes,
            journal_batch_frames: journal.batch_frames,
            journal_sync_micros: journal.syncs,
            live_actors: (accounts.live() + stores.live()) as u64,
            dormant_actors: (accounts.dormant() + stores.dormant()) as u64,
            permits_in_use: core.system.answers.in_flight() as u64,
            permits_max: core.system.answers.in_flight_max() as u64,
            orders_in_memory: core.overflow.in_memory(),
            orders_resting: core.system.resting.len(),
            orders_left: core.overflow.left(),
            snapshot_age: core.snapshots.age(),
            snapshot_took: core.snapshots.took(),
            snapshots: core.snapshots.published(),
            snapshot_failures: core.snapshots.failures(),
            backups: core.backups.made(),
            backup_failures: core.backups.failed(),
            last_backup: core.backups.last(),
            disk_low: core.disk_low.load(Ordering::Relaxed),
            disk_free: Some(core.disk_free.load(Ordering::Relaxed)).filter(|free| *free != u64::MAX),
            accounts: (accounts.live() + accounts.dormant()) as u64,
            stores: (stores.live() + stores.dormant()) as u64,
            net_put_in: core.deposits.load(Ordering::Relaxed),
            document_commits: core.documents.commits(),
            resting_rows_written: core.system.resting.written(),
            search_books: 0,
            search_tokens: 0,
            search_index_bytes: 0,
            search_ready: false,
            search_rebuild: std::time::Duration::ZERO,
            search_unread: 0,
            password_hashes: self.core.hasher.computed(),
        };
        core.search.fill_stats(&mut stats);
        stats
    }
}

/// What a command journals besides its texts, generously.
const COMMAND_BYTES: usize = 1_024;

impl Core {
    /// The account that a user id names now.
    fn account(&self, user_id: &str) -> Option<AccountNo> {
        self.names.account(user_id, &self.system.accounts)
    }

    fn busy(&self, busy: Busy) -> Error {
        match busy {
            Busy::Permits => Error::Overloaded("too many requests in flight"),
            Busy::Buffer => Error::Overloaded("the journal's buffer is full"),
            Busy::Draining => Error::Draining,
            Busy::Failed => self.unknown(),
        }
    }

    fn unknown(&self) -> Error {
        Error::OutcomeUnknown(self.system.failure().unwrap_or_else(|| "the engine stopped".into()))
    }

    /// Waits for an answer and takes the refusals out.
    async fn answer(&self, admission: Admission) -> Result<Outcome> {
        let began = load::Times::begin(admission.ticket);
        let outcome = admission.answer.await;
        self.times.end(began);
        match outcome {
            Ok(Outcome::Refused(refusal)) => Err(Error::Refused(refusal)),
            Ok(Outcome::Throttled(why)) => Err(Error::Throttled { why, retry_after_s: 60 }),
            Ok(Outcome::TooMany) => Err(self.too_many()),
            Ok(Outcome::Unreadable) => Err(Error::Overloaded("an order on disk cannot be read")),
            Ok(Outcome::Crowded) => Err(Error::Overloaded("too many requests wait for one idempotency key")),
            Ok(Outcome::Unknown) | Err(_) => Err(self.unknown()),
            Ok(outcome) => Ok(outcome),
        }
    }

    fn too_many(&self) -> Error {
        let max = self.config.limits.orders_listed_max;
        let why = format!("there are more than orders_listed_max allows ({max})");
        Error::Refused(Refusal::invalid("orders", why))
    }

    /// A read: admitted, sent, answered.
    async fn ask(&self, message: impl FnOnce(Ticket) -> Send) -> Result<Outcome> {
        let admission = self.system.answers.admit(0, None).await.map_err(|busy| self.busy(busy))?;
        self.system.send(message(admission.ticket));
        self.answer(admission).await
    }

    /// A change: as a read, with room in the journal for `bytes` of texts.
    async fn change(&self, bytes: usize, message: impl FnOnce(Ticket) -> Send) -> Result<Outcome> {
        self.change_then(bytes, None, message).await
    }

    async fn change_then(
        &self,
        bytes: usize,
        then: Option<Then>,
        message: impl FnOnce(Ticket) -> Send,
    ) -> Result<Outcome> {
        self.check_disk()?;
        let bytes = bytes + COMMAND_BYTES;
        let admission = self.system.answers.admit(bytes, then).await.map_err(|busy| self.busy(busy))?;
        self.system.send(message(admission.ticket));
        self.answer(admission).await
    }

    fn check_disk(&self) -> Result<()> {
        if self.disk_low.load(Ordering::Relaxed) {
            return Err(Error::Overloaded("the disk is nearly full"));
        }
        Ok(())
    }

    /// Refuses at the door. Also such an answer rests on what was read, so it passes the gate.
    async fn refuse<T>(&self, refusal: Refusal) -> Result<T> {
        self.pass_gate().await?;
        Err(Error::Refused(refusal))
    }

    /// Waits until the journal is durable up to its head of now.
    async fn pass_gate(&self) -> Result<()> {
        let admission = self.system.answers.admit(0, None).await.map_err(|busy| self.busy(busy))?;
        self.system.answers.reply(admission.ticket, Outcome::Done, &self.system.journal);
        self.answer(admission).await.map(|_| ())
    }

    /// An outcome that no entity gives to this message.
    fn unexpected<T>(&self, outcome: &Outcome) -> Result<T> {
        self.system.fail(format!("an entity answered {outcome:?} to another question"));
        Err(self.unknown())
    }
}

/// The contract's rule for ids: 1 to 256 bytes without control characters. What is sound is noted for who follows the request.
fn check_id(field: &'static str, id: &str) -> Result<()> {
    let why = if id.is_empty() {
        "must not be empty"
    } else if id.len() > ID_BYTES_MAX {
        "must be at most 256 bytes"
    } else if has_control(id) {
        "must not contain control characters"
    } else {
        trace::note(field, id);
        return Ok(());
    };
    Err(Error::Refused(Refusal::invalid(field, why)))
}

/// Whether there is a control character in a text.
pub(crate) fn has_control(text: &str) -> bool {
    // Most ids are printable ASCII, which is seen without decoding characters, many bytes at a time.
    let is_plain = text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'));
    !is_plain && text.chars().any(char::is_control)
}

/// The contract's rule for passwords: 1 to 1,024 bytes.
fn check_password(field: &'static str, password: &str) -> Result<()> {
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Err(Error::Refused(Refusal::invalid(field, "must be 1 to 1,024 bytes")));
    }
    Ok(())
}
