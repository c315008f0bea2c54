//! Opening: lock the directory, load the newest sound snapshot, replay the journal after it, finish what a crash had
//! interrupted, start the actors. Nothing is served before all of that is durable.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use super::close::Guard;
use super::image::Receive;
use super::load::Times;
use super::names::Names;
use super::overflow::Overflow;
use super::recovery::{Data, Recovery};
use super::search::{self, SearchIndex};
use super::snapshots::Snapshots;
use super::{Config, Core, Engine, IdSource, OpenError, Recovered, Storage, background, versions};
use crate::actors::{Answers, Clock, Observer, System};
use crate::auth::{AuthError, AuthMemory, Hasher, PasswordError, Throttle, TokenKey, Tokens, WAITERS_MAX_DEFAULT};
use crate::catalog::{Library, Listed, Place};
use crate::cold::{Documents, Orders};
use crate::disk::{Disk, MemoryDisk, RealDisk};
use crate::domain::{AccountEvent, AccountNo, BookNo, OrderShard, Persistent, Store, StoreEvent, StoreNo};
use crate::journal::{self, Durability, Journal, JournalOptions, Lsn};

/// redb's cache of each file: both are read seldom, and are in the system's page cache, too.
const COLD_CACHE_BYTES: usize = 16 << 20;

/// What long work is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done, in a word or two: of an open `snapshot` or `journal`.
    pub stage: &'static str,
    /// Rows, events or bytes of the stage so far.
    pub done: u64,
    /// How many there will be in the stage, if that is known; of an open it is an estimate.
    pub total: Option<u64>,
}

pub(super) type Report = dyn Fn(Progress) + Send + Sync;

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

    /// As [`Engine::open`]; `progress` is called some times a second while that takes long, on another thread.
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
pub(super) fn refuse_if_files_are_missing(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let names = disk.list(dir).map_err(|source| io(format!("list {}", dir.display()), source))?;
    if names.iter().any(|name| name == super::backup::UNFINISHED) {
        return Err(OpenError::Damaged(format!(
            "{}: the backup, or the directory that is made of one, was not finished: it is to be made anew",
            dir.display()
        )));
    }
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
    if let Some(what) = versions::other_version(&*disk, &dir) {
        return Err(OpenError::OtherVersion(what));
    }
    let key = match config.storage {
        Storage::Directory(_) => TokenKey::load_or_create(&dir.join("token.key")).map_err(auth)?,
        _ => TokenKey::from_bytes(random()?),
    };
    let documents = Documents::open(disk.clone(), &dir.join("documents.redb"), COLD_CACHE_BYTES)
        .map_err(|error| versions::cold("documents.redb", &error))?;
    let resting = Orders::open(&*disk, &dir.join("orders.redb"), COLD_CACHE_BYTES)
        .map_err(|error| versions::cold("orders.redb", &error))?;
    let resting = Arc::new(resting);
    for (repaired, file) in [(documents.repaired(), "documents.redb"), (resting.repaired(), "orders.redb")] {
        if repaired {
            tracing::warn!("{file} was walked and repaired, which took its time");
        }
    }
    let data = Data {
        disk: &disk,
        dir: &dir,
        durability: config.durability,
        segment_bytes: config.segment_bytes,
        threads: true,
        report,
    };
    let mut recovery = Recovery::read(&data, &resting)?;

    let limits = &config.limits;
    let answers = Arc::new(Answers::new(limits.in_flight_max, limits.journal_buffer_bytes));
    let gate = Arc::new(Gate { answers: answers.clone(), system: OnceLock::new() });
    let options = JournalOptions {
        durability: config.durability,
        sync_interval: config.sync_interval,
        commit_delay: config.commit_delay,
    };
    let (log, last_lsn, epoch) = recovery.take_log();
    let journal = Journal::start(log, last_lsn, epoch, options, gate.clone())
        .map_err(|source| io("start the journal's thread".into(), source))?;
    let clock = Clock::start(recovery.newest());
    recovery.finish_sagas(&journal, clock.now())?;
    journal.flush_blocking().map_err(|error| OpenError::Damaged(error.to_string()))?;

    let names = Arc::new(Names::new());
    let memory = Arc::new(AuthMemory::new(limits.password_memory_max).map_err(auth)?);
    let library = Arc::new(Library::new());
    let observer = Box::new(Indexes { names: names.clone(), memory: memory.clone(), library: library.clone() });
    let deposits = recovery.net_put_in();
    let mut recovered = recovery.recovered();
    let snapshot = recovery.snapshot();
    let system = Arc::new(System::new(journal, answers, clock, observer, resting, runtime));
    let _ = gate.system.set(Arc::downgrade(&system));
    let mut indexing =
        Indexing { system: &system, names: &names, library: &library, recovered: &mut recovered, listed: Vec::new() };
    let mut shards = recovery.hand_over(&mut indexing);
    if matches!(config.storage, Storage::Memory) {
        shards.iter_mut().for_each(OrderShard::stay);
    }
    let listed = indexing.listed;
    recovered.orders = shards.iter().map(|shard| shard.len() as u64).sum();
    recovered.resting_orders = system.resting.len();
    recovered.took = start.elapsed();

    let snapshots = Snapshots::new(snapshot, epoch);
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
        search: SearchIndex::new(library, listed.is_empty()),
        deposits: Arc::new(AtomicI64::new(deposits)),
        ids: IdSource::new(random()?),
        disk_low: AtomicBool::new(false),
        disk_free: AtomicU64::new(u64::MAX),
        overflow: Overflow::default(),
        backups: Default::default(),
        snapshots,
        times: Times::default(),
        recovered,
        config,
    };
    Ok(Prepared { core, shards, listed, lock })
}

/// Takes the recovered rows into the directories and indexes.
struct Indexing<'a> {
    system: &'a System,
    names: &'a Names,
    library: &'a Library,
    recovered: &'a mut Recovered,
    listed: Vec<Listed>,
}

impl Receive for Indexing<'_> {
    fn account(&mut self, number: AccountNo, name: Box<str>, closed: bool, row: Box<[u8]>) {
        self.system.accounts.reserve(number.0);
        let accounts = &self.system.accounts;
        accounts.create(number.0, name, || row);
        if let Some(name) = accounts.name(number.0).filter(|_| !closed) {
            self.names.insert_account(name, number, accounts);
        }
        self.recovered.accounts += 1;
    }

    fn store(&mut self, number: StoreNo, name: Arc<str>, store: Store) {
        self.system.stores.reserve(number.0);
        self.names.insert_store(name.clone(), number, store.owner);
        let mut books = self.system.stores.extra(number.0).write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *books = store.books.iter().map(|book| book.id.clone()).collect();
        drop(books);
        if store.closed {
            self.names.close_store(&name);
        }
        // Nobody will ever find those of a closed store.
        let books = if store.closed { &[] } else { &store.books[..] };
        self.listed.extend((0..).zip(books).map(|(place, book)| {
            let place = Place { store: number, book: BookNo(place) };
            if !book.listed {
                self.library.set_hidden(place, true);
            }
            Listed { place, document: book.document }
        }));
        self.system.stores.create(number.0, name, || store.encode());
        self.recovered.stores += 1;
    }
}

/// Keeps names, the memory of passwords and the search true while accounts and stores change.
struct Indexes {
    names: Arc<Names>,
    memory: Arc<AuthMemory>,
    library: Arc<Library>,
}

impl Observer for Indexes {
    fn account_changed(&self, account: AccountNo, user_id: Option<&str>, event: &AccountEvent) {
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

    /// Before anybody is told: so a search that begins when the answer has come finds what it should.
    fn store_changed(&self, store: StoreNo, store_id: Option<&Arc<str>>, event: &StoreEvent) {
        match event {
            StoreEvent::Closed => {
                if let Some(store_id) = store_id {
                    self.names.close_store(store_id);
                }
                self.library.close_store(store);
            }
            StoreEvent::Delisted { book } => self.library.set_hidden(Place { store, book: *book }, true),
            StoreEvent::Relisted { book } => self.library.set_hidden(Place { store, book: *book }, false),
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
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
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

pub(super) fn io(what: String, source: std::io::Error) -> OpenError {
    OpenError::Io { what, source }
}

fn auth(error: AuthError) -> OpenError {
    match error {
        AuthError::KeyFile { path, source } => io(format!("token key {}", path.display()), source),
        AuthError::Password(PasswordError::Parameters(why)) => OpenError::Config { name: "password_params", why },
        error @ (AuthError::KeyUnusable { .. } | AuthError::KeyOpen { .. }) => OpenError::TokenKey(error.to_string()),
        error => io("passwords and tokens".into(), std::io::Error::other(error.to_string())),
    }
}

fn random() -> Result<[u8; 32], OpenError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io("random bytes".into(), std::io::Error::other(error.to_string())))?;
    Ok(bytes)
}
