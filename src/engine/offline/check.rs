//! Every byte of a data directory, and what adds up in it. Reads the files themselves and recovers over them in memory:
//! the directory stays as it is, to the byte.

use std::collections::{HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::{PasswordHash, TokenKey};
use crate::catalog::pictures_of;
use crate::cold::{ColdError, Documents, Orders};
use crate::disk::{Disk, OverlayDisk, RealDisk};
use crate::domain::{Account, DocumentHash, OrderShard, Persistent, SHARDS, Store};
use crate::engine::backup::{MANIFEST, UNFINISHED};
use crate::engine::chunks::{self, Part};
use crate::engine::{AuditReport, Config, Engine, OpenError, Progress, Recovered, Storage, versions};
use crate::journal::{self, LogError};
use crate::snapshot::{SnapshotError, list_snapshots, read_snapshot};

const COLD_CACHE_BYTES: usize = 64 << 20;

/// Something that no crash explains.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// In which file.
    pub file: PathBuf,
    /// Where in it, in bytes, if that can be told.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{} at byte {offset}: {}", self.file.display(), self.what),
            None => write!(f, "{}: {}", self.file.display(), self.what),
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Damage. The data is sound if there is none.
    pub findings: Vec<Finding>,
    /// What is worth to be known and no damage: what a crash left, files that are not ours.
    pub notes: Vec<String>,
    /// Snapshots that were read whole, and the rows in them.
    pub snapshots: u64,
    /// Rows in all snapshots.
    pub snapshot_rows: u64,
    /// Journal segments.
    pub segments: u64,
    /// Frames, in segments and snapshots.
    pub frames: u64,
    /// Book documents.
    pub documents: u64,
    /// Orders at rest.
    pub resting_orders: u64,
    /// Bytes of all files that were read.
    pub bytes: u64,
    /// The newest event.
    pub last_lsn: u64,
    /// What recovery over the files came to; `None` if it was refused, which is among the findings.
    pub recovered: Option<Recovered>,
    /// The audit of the recovered state. No order was canceled by its deadline.
    pub audit: Option<AuditReport>,
    /// How long it took.
    pub took: Duration,
}

impl CheckReport {
    /// Whether there is no damage.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, file: &Path, offset: Option<u64>, what: impl Into<String>) {
        self.findings.push(Finding { file: file.to_path_buf(), offset, what: what.into() });
    }
}

/// Why a directory could not be checked. Nothing is known of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// An engine has it open, or another check or repair. End that process, or check a copy.
    #[error("{dir} is in use by process {holder}, or a check or a repair of it is running")]
    Locked {
        /// The directory.
        dir: String,
        /// The process id in the lock file, or `unknown`. A check, and a repair that is only planned, write none.
        holder: String,
    },
    /// There is neither a snapshot nor a journal in it.
    #[error("{0} holds no data to check")]
    NoData(String),
    /// Another version of the program made it. Check it with that one.
    #[error("the data was made by another version of the program: {0}")]
    OtherVersion(String),
    /// Something cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

type Tell = Arc<dyn Fn(Progress) + Send + Sync>;

/// Verifies every frame of every segment, every snapshot, every document, every order at rest, and what else there
/// is; recovers the state
/// over the files in memory, and counts money and copies. Changes nothing. `progress` is called often, on another
/// thread. Must be called within a tokio runtime.
///
/// Dropping the future lets a check that is under way go on in the background, which harms nobody.
///
/// # Errors
/// [`CheckError`] if nothing can be said of the data. Damage is no error but in the report.
pub async fn check(dir: &Path, progress: impl Fn(Progress) + Send + Sync + 'static) -> Result<CheckReport, CheckError> {
    let start = Instant::now();
    let tell: Tell = Arc::new(progress);
    let (path, teller) = (dir.to_path_buf(), tell.clone());
    let files = tokio::task::spawn_blocking(move || {
        let lock = lock(&path)?;
        let mut files = Files { dir: path, report: CheckReport::default(), documents: HashMap::new(), tell: teller };
        files.verify()?;
        Ok((lock, files))
    });
    let (lock, mut files) = files.await.unwrap_or_else(|error| unreadable("the check was cut short", &error))?;
    recover(dir, &mut files, tell).await?;
    if lock.is_none() && dir.join("lock").exists() {
        return Err(CheckError::Unreadable(format!("an engine was started on {} meanwhile", dir.display())));
    }
    files.report.took = start.elapsed();
    Ok(files.report)
}

fn unreadable<T>(what: &str, error: &dyn std::fmt::Display) -> Result<T, CheckError> {
    Err(CheckError::Unreadable(format!("{what}: {error}")))
}

/// The lock of the directory, without writing to it. `None` if there never was an engine on it.
pub(super) fn lock(dir: &Path) -> Result<Option<File>, CheckError> {
    let path = dir.join("lock");
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound && !dir.exists() => {
            return Err(CheckError::NoData(dir.display().to_string()));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return unreadable(&path.display().to_string(), &error),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The process id is a courtesy; the lock is what counts.
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "unknown".into() } else { holder.trim().to_string() };
            Err(CheckError::Locked { dir: dir.display().to_string(), holder })
        }
        Err(TryLockError::Error(error)) => unreadable(&path.display().to_string(), &error),
    }
}

struct Files {
    dir: PathBuf,
    report: CheckReport,
    /// Those that are sound, each with the name of its pictures, if it has any.
    documents: HashMap<DocumentHash, Option<DocumentHash>>,
    tell: Tell,
}

impl Files {
    fn verify(&mut self) -> Result<(), CheckError> {
        let names = RealDisk.list(&self.dir).or_else(|error| unreadable(&self.dir.display().to_string(), &error))?;
        let journal = self.dir.join("journal");
        let mut segments = Vec::new();
        match RealDisk.list(&journal) {
            Ok(_) => match journal::list_segments(&RealDisk, &journal) {
                Ok(found) => segments = found,
                Err(error) => self.log_error(&journal, error)?,
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return unreadable(&journal.display().to_string(), &error),
        }
        let snapshots = match list_snapshots(&RealDisk, &self.dir) {
            Ok(snapshots) => snapshots,
            Err(error) => return unreadable("the snapshots", &error),
        };
        if snapshots.is_empty() && segments.is_empty() && !names.iter().any(|name| name.ends_with(".snap.damaged")) {
            return Err(CheckError::NoData(self.dir.display().to_string()));
        }
        if let Some(what) = versions::other_version(&RealDisk, &self.dir) {
            return Err(CheckError::OtherVersion(what));
        }
        self.note_others(&names);
        for (_, path) in &snapshots {
            self.snapshot(path)?;
        }
        self.segments(&segments)?;
        match snapshots.first() {
            Some((lsn, _)) if *lsn > 0 && segments.is_empty() => self.report.notes.push(format!(
                "{}: no segments, so what was changed after event {lsn} is not here, if anything was; it is as \
                 `--durability snapshot` leaves it",
                journal.display(),
            )),
            _ => {}
        }
        self.documents()?;
        self.orders()?;
        self.token_key()
    }

    fn note_others(&mut self, names: &[String]) {
        for name in names {
            let path = self.dir.join(name);
            let what = match name.as_str() {
                "lock" | "token.key" | "documents.redb" | "orders.redb" | "README.md" | MANIFEST => continue,
                name if name.ends_with(".snap") => continue,
                name if name.contains(".snap.damaged") => "a snapshot that was damaged and set aside; not looked at",
                name if name.contains(".redb.damaged") => "a file that a repair set aside; not looked at",
                name if name.ends_with(".tmp") => {
                    "what a crash left of a file in the making; the next start removes it"
                }
                UNFINISHED => "the mark of a backup, a restore or a load that was not finished",
                _ => "not a file of ours; not looked at",
            };
            self.report.notes.push(format!("{}: {what}", path.display()));
        }
    }

    fn count_bytes(&mut self, path: &Path) -> Result<(), CheckError> {
        let bytes = path.metadata().or_else(|error| unreadable(&path.display().to_string(), &error))?.len();
        self.report.bytes += bytes;
        Ok(())
    }

    fn snapshot(&mut self, path: &Path) -> Result<(), CheckError> {
        self.count_bytes(path)?;
        let (mut rows, mut frames, mut read_bytes) = (0u64, 0u64, 0u64);
        let tell = self.tell.clone();
        let len = path.metadata().ok().map(|metadata| u128::from(metadata.len()));
        let read = read_snapshot(&RealDisk, path, &mut |kind, payload| {
            let visited = chunks::read(kind, payload, &mut |part| {
                rows += u64::from(part.is_row());
                match part {
                    Part::Header(_) | Part::Order(..) | Part::AtRest(_) => Ok(()),
                    Part::Account(_, row) => Account::decode(&row).map(drop).map_err(|error| error.to_string().into()),
                    Part::Store(_, row) => Store::decode(&row).map(drop).map_err(|error| error.to_string().into()),
                    Part::Events(bytes) => versions::each_record(bytes, &mut |_| frames += 1),
                }
            });
            read_bytes += payload.len() as u64;
            let total = len.map(|len| (u128::from(rows) * len / u128::from(read_bytes.max(1))) as u64);
            tell(Progress { stage: "snapshot rows", done: rows, total });
            visited
        });
        self.report.snapshots += 1;
        self.report.snapshot_rows += rows;
        self.report.frames += frames;
        match read {
            Ok(_) => {}
            Err(SnapshotError::Damaged { file, offset, why }) => self.report.find(&file, Some(offset), why),
            Err(error @ SnapshotError::Io { .. }) => return unreadable("a snapshot", &error),
            Err(SnapshotError::OtherVersion(what)) => {
                return Err(CheckError::OtherVersion(format!("{}: {what}", path.display())));
            }
            Err(error) => self.report.find(path, None, error.to_string()),
        }
        Ok(())
    }

    fn segments(&mut self, segments: &[PathBuf]) -> Result<(), CheckError> {
        // The frame that must come next and the epoch that it may not fall below; unknown behind damage.
        let mut before = None;
        let (mut frames_before, total) = (0, journal::expected_frames(segments, 0));
        for (place, path) in segments.iter().enumerate() {
            self.count_bytes(path)?;
            let mut frames = 0u64;
            let tell = self.tell.clone();
            let read = journal::read_segment(&RealDisk, path, place + 1 == segments.len(), &mut |frame| {
                frames += 1;
                if frames.is_multiple_of(1_024) {
                    tell(Progress { stage: "journal frames", done: frames_before + frames, total });
                }
                versions::record(&frame)?;
                Ok(())
            });
            self.report.segments += 1;
            frames_before += frames;
            self.report.frames += frames;
            let summary = match read {
                Ok(summary) => summary,
                Err(error) => {
                    self.log_error(path, error)?;
                    before = None;
                    continue;
                }
            };
            if let Some((next, epoch)) = before {
                if summary.first_lsn != next {
                    let what = format!("begins with frame {}, but frame {next} comes next", summary.first_lsn);
                    self.report.find(path, Some(0), what);
                } else if summary.frames > 0 && summary.last_epoch < epoch {
                    self.report.find(path, None, format!("epoch {} comes after {epoch}", summary.last_epoch));
                }
            }
            if summary.cut_bytes > 0 {
                self.report.notes.push(format!(
                    "{} at byte {}: {} bytes of a batch that a crash tore, or that was damaged later, which cannot be told \
                     apart; the next start cuts them",
                    path.display(),
                    summary.end,
                    summary.cut_bytes,
                ));
            }
            before = Some((summary.next_lsn, summary.last_epoch));
        }
        Ok(())
    }

    fn log_error(&mut self, path: &Path, error: LogError) -> Result<(), CheckError> {
        match error {
            LogError::Corrupt { file, offset, why } => self.report.find(&file, Some(offset), why),
            LogError::Visit(what) => self.report.find(path, None, what),
            LogError::OtherVersion(what) => {
                return Err(CheckError::OtherVersion(format!("{}: {what}", path.display())));
            }
            error => return unreadable("the journal", &error),
        }
        Ok(())
    }

    fn documents(&mut self) -> Result<(), CheckError> {
        let mut hashes = HashMap::new();
        let tell = self.tell.clone();
        let verify = |disk: Arc<dyn Disk>, path: &Path| {
            let documents = Documents::open(disk, path, COLD_CACHE_BYTES)?;
            let total = documents.still().and_then(|still| still.entries()).ok();
            let damaged = documents.verify(&mut |hash, document| {
                hashes.insert(hash, pictures_of(document));
                tell(Progress { stage: "documents", done: hashes.len() as u64, total });
            })?;
            Ok((hashes.len() as u64, damaged))
        };
        self.report.documents = self.cold_file("documents.redb", verify)?;
        self.documents = hashes;
        Ok(())
    }

    fn orders(&mut self) -> Result<(), CheckError> {
        let tell = self.tell.clone();
        let verify = |disk: Arc<dyn Disk>, path: &Path| {
            let orders = Orders::open(&*disk, path, COLD_CACHE_BYTES)?;
            let total = Some(orders.len());
            orders.verify(|rows| tell(Progress { stage: "orders at rest", done: rows, total }))
        };
        self.report.resting_orders = self.cold_file("orders.redb", verify)?;
        Ok(())
    }

    /// Verifies a file of redb, through an overlay: redb writes when it opens. Returns what it holds.
    fn cold_file(
        &mut self,
        name: &str,
        verify: impl FnOnce(Arc<dyn Disk>, &Path) -> Result<(u64, Vec<String>), ColdError>,
    ) -> Result<u64, CheckError> {
        let path = self.dir.join(name);
        match File::open(&path) {
            // If something needs it, that is told by what needs it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return unreadable(&path.display().to_string(), &error),
            Ok(_) => self.count_bytes(&path)?,
        }
        match verify(Arc::new(OverlayDisk::new(Arc::new(RealDisk))), &path) {
            Ok((count, damaged)) => {
                damaged.into_iter().for_each(|what| self.report.find(&path, None, what));
                return Ok(count);
            }
            Err(ColdError::Damaged { what }) => self.report.find(&path, None, what),
            Err(ColdError::Open { why, .. }) => self.report.find(&path, None, why),
            Err(error @ ColdError::OtherVersion { .. }) => {
                return Err(CheckError::OtherVersion(format!("{}: {error}", path.display())));
            }
            Err(error) => return unreadable(&path.display().to_string(), &error),
        }
        Ok(0)
    }

    fn token_key(&mut self) -> Result<(), CheckError> {
        let path = self.dir.join("token.key");
        match TokenKey::check(&path) {
            Ok(()) => Ok(()),
            Err(error @ crate::auth::AuthError::KeyUnusable { .. }) => {
                self.report.find(&path, None, error.to_string());
                Ok(())
            }
            // Nothing is wrong with the data. The start refuses it, and says the same.
            Err(error @ crate::auth::AuthError::KeyOpen { .. }) => {
                self.report.notes.push(error.to_string());
                Ok(())
            }
            Err(error) => unreadable("the token key", &error),
        }
    }
}

/// Recovers as an engine does. The disk is one that keeps what is written to itself: so it is as little as can be, and no
/// order is canceled by its deadline.
pub(super) async fn open_in_memory(
    disk: Arc<dyn Disk>,
    dir: &Path,
    tell: impl Fn(Progress) + Send + Sync + 'static,
) -> Result<Engine, OpenError> {
    let mut config = Config::with(Storage::Disk(disk, dir.to_path_buf()));
    config.segment_bytes = 16 << 20;
    config.snapshot_interval = Duration::from_secs(365 * 86_400);
    config.snapshot_journal_bytes = u64::MAX;
    config.limits.idle_after = Duration::from_secs(365 * 86_400);
    config.limits.resting_orders_max = usize::MAX;
    Engine::open_still(config, tell).await
}

/// Recovers over the files, in memory, and counts.
async fn recover(dir: &Path, files: &mut Files, tell: Tell) -> Result<(), CheckError> {
    let overlay = Arc::new(OverlayDisk::new(Arc::new(RealDisk)));
    let report = &mut files.report;
    let engine = match open_in_memory(overlay, dir, move |at| tell(at)).await {
        Ok(engine) => engine,
        Err(OpenError::Damaged(what)) => {
            // As a rule this is what was found before, in other words.
            if report.is_sound() {
                report.find(dir, None, format!("recovery: {what}"));
            }
            return Ok(());
        }
        Err(OpenError::OtherVersion(what)) => return Err(CheckError::OtherVersion(what)),
        Err(error) => return unreadable("recovery", &error),
    };
    let recovered = engine.recovered();
    if recovered.finished_sagas > 0 {
        let what =
            format!("{} orders were in the middle of a step; the next start finishes them", recovered.finished_sagas);
        report.notes.push(what);
    }
    report.last_lsn = engine.stats().journal_head;
    report.recovered = Some(recovered);
    let audit = match engine.audit().await {
        Ok(audit) => audit,
        // A row at rest that is damaged stops the count.
        Err(_) if !report.is_sound() => return Ok(()),
        Err(error) => return unreadable("the audit", &error),
    };
    if audit.balances + audit.escrow != audit.net_put_in {
        let what = format!(
            "money is not conserved: balances {} and what the platform holds {} are not what was put in, {}",
            audit.balances, audit.escrow, audit.net_put_in
        );
        report.find(dir, None, what);
    }
    if audit.stock + audit.ordered != audit.stock_put_in {
        let what = format!(
            "copies are not conserved: {} on shelves and {} in orders are not what was put in, {}",
            audit.stock, audit.ordered, audit.stock_put_in
        );
        report.find(dir, None, what);
    }
    if audit.contradictions > 0 {
        let what = format!(
            "{} contradictions: orders that are open in a closed store, or stores that their owner's account wrongly takes \
             for closed or open",
            audit.contradictions
        );
        report.find(dir, None, what);
    }
    report.audit = Some(audit);
    find_unknown_passwords(&engine, dir, report).await?;
    find_flawed_orders(&engine, dir, report).await?;
    find_missing_documents(&engine, dir, files).await
}

/// An account whose user cannot log in here, whatever the password.
async fn find_unknown_passwords(engine: &Engine, dir: &Path, report: &mut CheckReport) -> Result<(), CheckError> {
    let accounts = &engine.core.system.accounts;
    for number in 1..accounts.end() {
        let row = accounts.row(number).await.or_else(|error| unreadable("an account", &error))?;
        let Some(row) = row else { continue };
        let account = Account::decode(&row).or_else(|error| unreadable("an account's row", &error))?;
        if let (false, Err(error)) = (account.closed, PasswordHash::from_stored(&account.secret.0)) {
            let name = accounts.name(number).map_or("", |name| name);
            report.find(dir, None, format!("the password of user {name:?} is of a form that is not known: {error}"));
        }
    }
    Ok(())
}

/// An order that does not stand where its history leads.
async fn find_flawed_orders(engine: &Engine, dir: &Path, report: &mut CheckReport) -> Result<(), CheckError> {
    let system = &engine.core.system;
    let (mut in_memory, mut flawed) = (HashSet::new(), Vec::new());
    for shard in 0..SHARDS {
        let look = move |shard: &OrderShard, _: &_| {
            let flaws = shard.orders.iter().filter_map(|(id, order)| order.flaw().map(|flaw| (*id, flaw)));
            (shard.orders.keys().copied().collect::<Vec<_>>(), flaws.collect::<Vec<_>>())
        };
        let Some((ids, flaws)) = system.look_at_shard(shard, look).await else {
            return unreadable("the orders", &"the engine has failed");
        };
        in_memory.extend(ids);
        flawed.extend(flaws);
    }
    let view = system.resting.view().or_else(|error| unreadable("the orders at rest", &error))?;
    let resting = view.each(|id, order| {
        if !in_memory.contains(&id) {
            flawed.extend(order.flaw().map(|flaw| (id, flaw)));
        }
    });
    resting.or_else(|error| unreadable("the orders at rest", &error))?;
    flawed.sort_unstable();
    for (id, flaw) in flawed {
        report.find(dir, None, format!("order {id}: {flaw}"));
    }
    Ok(())
}

/// A book whose document is not there, or damaged, or whose pictures are.
async fn find_missing_documents(engine: &Engine, dir: &Path, files: &mut Files) -> Result<(), CheckError> {
    let stores = &engine.core.system.stores;
    for number in 1..stores.end() {
        let row = stores.row(number).await.or_else(|error| unreadable("a store", &error))?;
        let Some(row) = row else { continue };
        let store = Store::decode(&row).or_else(|error| unreadable("a store's row", &error))?;
        for book in &store.books {
            let missing = match files.documents.get(&book.document) {
                None => Some(("document", book.document)),
                Some(Some(pictures)) if !files.documents.contains_key(pictures) => Some(("pictures", *pictures)),
                Some(_) => None,
            };
            if let Some((kind, hash)) = missing {
                let name = stores.name(number).map_or("", |name| name);
                let what = format!("the {kind} {hash} of book {:?} in store {name:?}: not there", book.id);
                files.report.find(&dir.join("documents.redb"), None, what);
            }
        }
    }
    Ok(())
}
