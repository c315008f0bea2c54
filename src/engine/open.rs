//! Opening: lock the directory, load the newest sound snapshot, replay the journal after it, finish what a crash had
//! interrupted, start the actors. Nothing is served before all of that is durable.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::close::Guard;
use super::image::{Image, Receive};
use super::names::Names;
use super::overflow::Overflow;
use super::search::{self, SearchIndex};
use super::snapshots::{Loaded, Snapshots, Unloadable, load};
use super::{Config, Core, Engine, IdSource, OpenError, Recovered, Storage, background};
use crate::actors::{Answers, Clock, Observer, Resident, System};
use crate::auth::{AuthError, AuthMemory, Hasher, PasswordError, Throttle, TokenKey, Tokens, WAITERS_MAX_DEFAULT};
use crate::catalog::{Listed, Place};
use crate::cold::{Documents, Orders};
use crate::disk::{Disk, MemoryDisk, RealDisk};
use crate::domain::{AccountEvent, AccountNo, BookNo, OrderShard, Store, StoreNo};
use crate::journal::{self, Durability, FileLog, FileLogOptions, Journal, JournalOptions, LogError, LogStore, Lsn};
use crate::snapshot::{SnapshotError, list_snapshots, remove_leftovers};

/// redb's cache of each file: both are read seldom, and are in the system's page cache, too.
const COLD_CACHE_BYTES: usize = 16 << 20;

/// What an open is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// `snapshot` or `journal`.
    pub stage: &'static str,
    /// Rows or events so far.
    pub done: u64,
}

type Report = dyn Fn(Progress) + Send + Sync;

impl Engine {
    /// Opens an engine, creating its data if there is none, and recovers what was acknowledged. Nothing is served
    /// before all of that is durable.
    ///
    /// The engine runs on the tokio runtime that this is called on, which must have time enabled. It is of no use any
    /// more once that runtime has ended; drop it before, or close it.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as all of tokio does.
    ///
    /// # Cancellation
    /// Dropping the future does not stop a recovery under way: it holds the directory until it is through, then lets it
    /// go. A next open is refused as [`OpenError::Locked`] until then. Nothing is lost.
    ///
    /// # Errors
    /// See [`OpenError`]. Damaged data is never passed over in silence.
    pub async fn open(config: Config) -> Result<Engine, OpenError> {
        Self::open_with_progress(config, |_| {}).await
    }

    /// As [`Engine::open`]; `progress` is called about once a second while that takes long, on another thread.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open_with_progress(
        config: Config,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Engine, OpenError> {
        Ok(recover(config, progress).await?.start())
    }

    /// As [`Engine::open`], but no order is canceled by its deadline: what is found stays as it is. Nor are books
    /// searched.
    pub(super) async fn open_still(
        config: Config,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Engine, OpenError> {
        let mut prepared = recover(config, progress).await?;
        prepared.core.system.pause_deadlines();
        // Nobody searches it.
        prepared.listed.clear();
        Ok(prepared.start())
    }
}

async fn recover(config: Config, progress: impl Fn(Progress) + Send + Sync + 'static) -> Result<Prepared, OpenError> {
    config.check()?;
    let runtime = tokio::runtime::Handle::current();
    let opened = tokio::task::spawn_blocking(move || prepare(config, runtime, &progress)).await;
    opened.map_err(|error| OpenError::Damaged(format!("recovery panicked: {error}")))?
}

/// A snapshot or a journal rests on documents and orders in files of their own, which are made before either. Empty
/// ones in their place would be a shop whose books and old orders are gone, and nobody told.
fn refuse_if_files_are_missing(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let names = disk.list(dir).map_err(|source| io(format!("list {}", dir.display()), source))?;
    let journal = disk.list(&dir.join("journal")).unwrap_or_default();
    if !names.iter().any(|name| name.ends_with(".snap")) && !journal.iter().any(|name| name.ends_with(".seg")) {
        return Ok(());
    }
    match ["documents.redb", "orders.redb"].into_iter().find(|file| !names.iter().any(|name| name == file)) {
        Some(missing) => Err(OpenError::Damaged(format!(
            "{missing}: not there, but a snapshot or a journal is, which needs it; they belong together"
        ))),
        None => Ok(()),
    }
}

/// Everything but the actors, which need the runtime.
struct Prepared {
    core: Core,
    shards: Vec<OrderShard>,
    /// Books that the search index has to take in.
    listed: Vec<Listed>,
    lock: Option<File>,
}

impl Prepared {
    fn start(self) -> Engine {
        let core = Arc::new(self.core);
        core.system.start(self.shards);
        let mut tasks = background::start(&core);
        tasks.push(tokio::spawn(search::rebuild(core.clone(), self.listed)));
        let guard = Arc::new(Guard::new(core.clone(), tasks, self.lock));
        Engine { core, guard }
    }
}

fn prepare(mut config: Config, runtime: tokio::runtime::Handle, report: &Report) -> Result<Prepared, OpenError> {
    let start = Instant::now();
    let (disk, dir): (Arc<dyn Disk>, PathBuf) = match &config.storage {
        Storage::Directory(dir) => (Arc::new(RealDisk), dir.clone()),
        Storage::Memory => (Arc::new(MemoryDisk::new()), PathBuf::from("memory")),
        Storage::Disk(disk, dir) => (disk.clone(), dir.clone()),
    };
    if matches!(config.storage, Storage::Memory) {
        config.durability = Durability::Snapshot;
    }
    disk.create_dir_all(&dir).map_err(|source| io(format!("create {}", dir.display()), source))?;
    let lock = match config.storage {
        Storage::Directory(_) => Some(lock(&dir)?),
        _ => None,
    };
    refuse_if_files_are_missing(&*disk, &dir)?;
    let key = match config.storage {
        Storage::Directory(_) => TokenKey::load_or_create(&dir.join("token.key")).map_err(auth)?,
        _ => TokenKey::from_bytes(random()?),
    };
    let documents = Documents::open(disk.clone(), &dir.join("documents.redb"), COLD_CACHE_BYTES)
        .map_err(|error| OpenError::Damaged(format!("documents.redb: {error}")))?;
    let resting = Orders::open(&*disk, &dir.join("orders.redb"), COLD_CACHE_BYTES)
        .map_err(|error| OpenError::Damaged(format!("orders.redb: {error}")))?;
    let resting = Arc::new(resting);
    for (repaired, file) in [(documents.repaired(), "documents.redb"), (resting.repaired(), "orders.redb")] {
        if repaired {
            tracing::warn!("{file} was walked and repaired, which took its time");
        }
    }
    let mut recovered = Recovered::default();
    let (loaded, damaged) = load_newest(&*disk, &dir, &resting, &mut recovered, report)?;
    let Loaded { mut image, lsn, epoch: snapshot_epoch } =
        loaded.unwrap_or_else(|| Loaded { image: Image::new(resting.clone()), lsn: 0, epoch: 0 });
    let log = replay(&config, &disk, &dir, lsn, &mut image, report)?;
    let (upto, end) = (resting.upto(), log.found.last_lsn.max(lsn));
    if upto > end {
        let why = format!("orders.redb holds orders as of event {upto}, and snapshot and journal end at {end}");
        return Err(OpenError::Damaged(why));
    }
    // Only now: if the journal does not fit the older snapshot, nothing was changed.
    set_aside(&*disk, &dir, &damaged, &mut recovered)?;
    recovered.replayed_events = log.found.frames;
    recovered.cut_bytes = log.found.cut_bytes;

    let limits = &config.limits;
    let answers = Arc::new(Answers::new(limits.in_flight_max, limits.journal_buffer_bytes));
    let gate = Arc::new(Gate { answers: answers.clone(), system: OnceLock::new() });
    let options = JournalOptions {
        durability: config.durability,
        sync_interval: config.sync_interval,
        commit_delay: config.commit_delay,
    };
    let epoch = snapshot_epoch.max(log.found.last_epoch) + 1;
    let last_lsn = log.found.last_lsn;
    let journal = Journal::start(log.store, last_lsn, epoch, options, gate.clone())
        .map_err(|source| io("start the journal's thread".into(), source))?;
    let clock = Clock::start(image.newest);
    recovered.finished_sagas = image.finish_sagas(&journal, clock.now()).map_err(OpenError::Damaged)?;
    journal.flush_blocking().map_err(|error| OpenError::Damaged(error.to_string()))?;

    let names = Arc::new(Names::new());
    let memory = Arc::new(AuthMemory::new(limits.password_memory_max).map_err(auth)?);
    let observer = Box::new(Indexes { names: names.clone(), memory: memory.clone() });
    let deposits = image.net_put_in();
    let system = Arc::new(System::new(journal, answers, clock, observer, resting, runtime));
    let _ = gate.system.set(Arc::downgrade(&system));
    let mut indexing = Indexing { system: &system, names: &names, recovered: &mut recovered, listed: Vec::new() };
    let mut shards = image.hand_over(&mut indexing);
    if matches!(config.storage, Storage::Memory) {
        shards.iter_mut().for_each(OrderShard::stay);
    }
    let listed = indexing.listed;
    recovered.orders = shards.iter().map(|shard| shard.len() as u64).sum();
    recovered.resting_orders = system.resting.len();
    recovered.took = start.elapsed();

    let snapshots = Snapshots::new(recovered.snapshot.is_some().then_some(lsn), epoch);
    let hasher = Hasher::new(config.password_params, limits.password_hashes_max, WAITERS_MAX_DEFAULT).map_err(auth)?;
    let core = Core {
        disk,
        dir,
        system,
        names,
        hasher,
        tokens: Tokens::new(&key, config.token_ttl.as_millis() as u64),
        memory,
        throttle: Throttle::new(limits.throttle_user, limits.throttle_address),
        documents,
        search: SearchIndex::new(listed.is_empty()),
        deposits: Arc::new(AtomicI64::new(deposits)),
        ids: IdSource::new(random()?),
        disk_low: AtomicBool::new(false),
        overflow: Overflow::default(),
        snapshots,
        recovered,
        config,
    };
    Ok(Prepared { core, shards, listed, lock })
}

/// Snapshots that were passed over, with the reason.
type Damaged = Vec<(PathBuf, SnapshotError)>;

/// The newest snapshot that is sound, and the damaged ones that are newer. A damaged one is set aside, never deleted;
/// if all are damaged the engine does not start, because a fresh start would lose everything in silence.
fn load_newest(
    disk: &dyn Disk,
    dir: &Path,
    resting: &Arc<Orders>,
    recovered: &mut Recovered,
    report: &Report,
) -> Result<(Option<Loaded>, Damaged), OpenError> {
    remove_leftovers(disk, dir).map_err(snapshot)?;
    let mut damaged = Vec::new();
    for (_, path) in list_snapshots(disk, dir).map_err(snapshot)? {
        let mut ticker = Ticker::new("snapshot", report);
        match load(disk, &path, resting.clone(), &mut |rows| ticker.at(rows)) {
            Ok(loaded) => {
                recovered.snapshot = Some(path);
                return Ok((Some(loaded), damaged));
            }
            // What cannot be read now may be sound: falling back could lose it.
            Err(Unloadable::Snapshot(error @ SnapshotError::Io { .. })) => return Err(snapshot(error)),
            Err(Unloadable::Snapshot(error)) => damaged.push((path, error)),
            Err(Unloadable::AtRest(why)) => return Err(OpenError::Damaged(why)),
        }
    }
    match damaged.first() {
        None => Ok((None, damaged)),
        Some((_, error)) => Err(OpenError::Damaged(format!("no snapshot is sound; the newest: {error}"))),
    }
}

fn set_aside(
    disk: &dyn Disk,
    dir: &Path,
    damaged: &[(PathBuf, SnapshotError)],
    recovered: &mut Recovered,
) -> Result<(), OpenError> {
    for (path, error) in damaged {
        tracing::error!(path = %path.display(), %error, "a damaged snapshot is passed over and set aside");
        let aside = path.with_extension("snap.damaged");
        disk.rename(path, &aside).map_err(|source| io(format!("rename {}", path.display()), source))?;
        recovered.damaged_snapshots.push(error.to_string());
    }
    if !damaged.is_empty() {
        disk.sync_dir(dir).map_err(|source| io(format!("sync {}", dir.display()), source))?;
    }
    Ok(())
}

struct Replayed {
    store: Option<Box<dyn LogStore>>,
    found: journal::Recovered,
}

/// Replays the journal after `lsn`. Also in `snapshot` mode, where a journal of an earlier mode may lie; then it is
/// read but not written.
fn replay(
    config: &Config,
    disk: &Arc<dyn Disk>,
    dir: &Path,
    lsn: Lsn,
    image: &mut Image,
    report: &Report,
) -> Result<Replayed, OpenError> {
    let dir = dir.join("journal");
    let unlogged = config.durability == Durability::Snapshot;
    if unlogged && disk.list(&dir).map_or(true, |names| names.is_empty()) {
        let found = journal::Recovered { last_lsn: lsn, last_epoch: 0, cut_bytes: 0, frames: 0 };
        return Ok(Replayed { store: None, found });
    }
    let mut ticker = Ticker::new("journal", report);
    let mut events = 0;
    let mut visit = |frame: journal::Frame<'_>| {
        events += 1;
        ticker.at(events);
        image
            .apply(frame.kind, frame.version, frame.payload)
            .map_err(|error| LogError::Visit(format!("event {}: {error}", frame.lsn)))
    };
    let options = FileLogOptions { segment_bytes: config.segment_bytes };
    let (log, found) = FileLog::open(disk.clone(), &dir, options, lsn, &mut visit).map_err(|error| match error {
        LogError::Io { .. } => {
            OpenError::Io { what: "the journal".into(), source: std::io::Error::other(error.to_string()) }
        }
        error => OpenError::Damaged(error.to_string()),
    })?;
    let store: Option<Box<dyn LogStore>> = if unlogged { None } else { Some(Box::new(log)) };
    Ok(Replayed { store, found })
}

/// Reports about once a second.
struct Ticker<'a> {
    stage: &'static str,
    report: &'a Report,
    last: Instant,
}

impl<'a> Ticker<'a> {
    fn new(stage: &'static str, report: &'a Report) -> Self {
        Ticker { stage, report, last: Instant::now() }
    }

    fn at(&mut self, done: u64) {
        if done.is_multiple_of(256) && self.last.elapsed() >= Duration::from_secs(1) {
            self.last = Instant::now();
            (self.report)(Progress { stage: self.stage, done });
        }
    }
}

/// Takes the recovered rows into the directories and indexes.
struct Indexing<'a> {
    system: &'a System,
    names: &'a Names,
    recovered: &'a mut Recovered,
    listed: Vec<Listed>,
}

impl Receive for Indexing<'_> {
    fn account(&mut self, number: AccountNo, name: Arc<str>, closed: bool, row: Box<[u8]>) {
        self.system.accounts.reserve(number.0);
        if !closed {
            self.names.insert_account(name.clone(), number);
        }
        self.system.accounts.create(number.0, name, || row);
        self.recovered.accounts += 1;
    }

    fn store(&mut self, number: StoreNo, name: Arc<str>, store: Store) {
        self.system.stores.reserve(number.0);
        self.names.insert_store(name.clone(), number, store.owner);
        let mut books = self.system.stores.extra(number.0).write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *books = store.books.iter().map(|book| book.id.clone()).collect();
        drop(books);
        self.listed.extend((0..).zip(&store.books).map(|(place, book)| {
            let place = Place { store: number, book: BookNo(place) };
            Listed { place, document: book.document }
        }));
        self.system.stores.create(number.0, name, || store.encode());
        self.recovered.stores += 1;
    }
}

/// Keeps names and the memory of passwords true while accounts change.
struct Indexes {
    names: Arc<Names>,
    memory: Arc<AuthMemory>,
}

impl Observer for Indexes {
    fn account_changed(&self, account: AccountNo, user_id: Option<&Arc<str>>, event: &AccountEvent) {
        match event {
            AccountEvent::PasswordChanged { .. } => self.memory.invalidate(account.0),
            AccountEvent::TokenRevoked { token, .. } => self.memory.invalidate_token(account.0, *token),
            AccountEvent::Closed => {
                self.memory.invalidate(account.0);
                if let Some(user_id) = user_id {
                    self.names.remove_account(user_id, account);
                }
            }
            _ => {}
        }
    }
}

/// The journal's progress goes to the answers that wait for it.
struct Gate {
    answers: Arc<Answers>,
    /// Set once the system exists, which holds the journal, which holds this.
    system: OnceLock<Weak<System>>,
}

impl journal::Observer for Gate {
    fn advanced(&self, durable: Lsn) {
        self.answers.advanced(durable);
    }

    fn failed(&self, why: &str) {
        match self.system.get().and_then(Weak::upgrade) {
            Some(system) => system.fail(format!("the journal failed: {why}")),
            None => self.answers.fail(),
        }
    }
}

/// One process a data directory.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let what = |verb: &str| format!("{verb} {}", path.display());
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| io(what("open"), source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The process id is a courtesy; the lock is what counts.
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "unknown".into() } else { holder.trim().to_string() };
            return Err(OpenError::Locked { dir: dir.display().to_string(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(io(what("lock"), source)),
    }
    file.set_len(0)
        .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()))
        .map_err(|source| io(what("write"), source))?;
    Ok(file)
}

fn io(what: String, source: std::io::Error) -> OpenError {
    OpenError::Io { what, source }
}

fn snapshot(error: SnapshotError) -> OpenError {
    OpenError::Io { what: "snapshots".into(), source: std::io::Error::other(error.to_string()) }
}

fn auth(error: AuthError) -> OpenError {
    match error {
        AuthError::KeyFile { path, source } => io(format!("token key {}", path.display()), source),
        AuthError::Password(PasswordError::Parameters(why)) => OpenError::Config { name: "password_params", why },
        error => OpenError::Damaged(error.to_string()),
    }
}

fn random() -> Result<[u8; 32], OpenError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io("random bytes".into(), std::io::Error::other(error.to_string())))?;
    Ok(bytes)
}
