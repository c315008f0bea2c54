//! Backups: a consistent copy of a data directory, made beside the traffic or of a directory at rest.
//!
//! # Layout
//! - `manifest`: what a backup says of itself; `target`: the directory while it is made; `copying`: the files, copied.
//! - here: the copy of an engine that goes on. `offline` has that of a directory that nobody has open, the way back, and
//!   the check of a backup.
//!
//! A backup is a crash image on purpose: a snapshot, the journal from there up to an event that is synced, the orders at
//! rest and the documents. Recovery takes it for what a `kill -9` right after that event would have left.
//!
//! # Why it fits together
//! Held at the same time, while no other snapshot is taken:
//! 1. The snapshot of LSN L, newer than the call. Whatever it does not hold was at rest before.
//! 2. The orders at rest as of after that. So what the snapshot does not hold is in them.
//! 3. The journal, synced up to E, and its segments from L on, opened: an open file stays when its name goes, so nothing
//!    keeps the engine from trimming. A row at rest is written when the journal is synced past it; so no row of step 2 is
//!    ahead of E.
//! 4. The documents as of after that. A document is durable before the event that names it is appended, so those of all
//!    events up to E are there.

mod copying;
mod manifest;
mod target;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::background::{Urgency, in_background};
use super::{Core, Engine, Error, Progress, Storage};
use crate::cold::ColdError;
use crate::disk::OpenMode;
use crate::journal::{Durability, HeldSegment, LogError, Lsn, hold_segments};
use crate::snapshot::snapshot_path;
use crate::trace;

pub(super) use copying::{Cold, Source, open_if_there};
pub(super) use manifest::{MANIFEST, Manifest, UNFINISHED};
pub(crate) use target::lies_in;
pub(super) use target::{NewFile, Target, each_piece, hash_of, make_dirs};

/// Rest after each piece, so that the traffic goes first.
const PACE: Duration = Duration::from_millis(1);

/// What a backup, or the way back from one, has made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// The directory that was made.
    pub dir: PathBuf,
    /// The newest event in it.
    pub lsn: u64,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Orders at rest and documents that are damaged in the engine's own files, and so in the backup. All else in it is
    /// as it should be; look for an older backup of these.
    pub damaged: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Why there is no backup, or why one cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The directory cannot be written to: name another one. Nothing was done.
    #[error("{}: {why}", dir.display())]
    #[non_exhaustive]
    Target {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The engine is making another backup: wait for its end. Nothing was done.
    #[error("another backup is being made")]
    Running,
    /// An engine in memory has no files. Nothing was done.
    #[error("an engine in memory has nothing to back up")]
    InMemory,
    /// There is too little room: make some, or name another disk. What was made was removed.
    #[error("too little room: {0}")]
    NoRoom(String),
    /// The engine is closing, has failed, or could not take a snapshot. What was made was removed.
    #[error(transparent)]
    Engine(#[from] Error),
    /// The file system refused: look at the source. What was made was removed, or is marked as unfinished.
    #[error("{what}: {source}")]
    #[non_exhaustive]
    Io {
        /// What was attempted, on which file.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// What is to be copied is damaged, so there would be no backup of it. What was made was removed. Of a backup: use
    /// another one.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The work was ended: the future was dropped, the engine closed, or the progress was answered with a break. What
    /// was made was removed.
    #[error("cut short")]
    CutShort,
    /// An engine has the directory open: have it make the backup itself, see
    /// [`Engine::backup`](crate::Engine::backup). Nothing was done.
    #[error("{dir} is in use by process {holder}, or a check or a repair of it is running")]
    #[non_exhaustive]
    Locked {
        /// The directory.
        dir: String,
        /// The process id in the lock file, or `unknown`.
        holder: String,
    },
    /// There is no data in the directory. Nothing was done.
    #[error("{0} holds no data")]
    NoData(String),
    /// There is no backup, or one that was not finished. Nothing was done.
    #[error("{} is no backup: {why}", dir.display())]
    #[non_exhaustive]
    NoBackup {
        /// The directory.
        dir: PathBuf,
        /// How that is known.
        why: &'static str,
    },
    /// Another version of the program made it: use that version. Nothing was done.
    #[error("another version of the program made it: {0}")]
    OtherVersion(String),
}

impl BackupError {
    /// For a disk operation: what was tried on which file.
    pub(super) fn io(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{what} {}", path.display());
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                BackupError::NoRoom(format!("{what}: {source}"))
            }
            _ => BackupError::Io { what, source },
        }
    }
}

impl From<LogError> for BackupError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Corrupt { .. } => BackupError::Damaged(error.to_string()),
            LogError::OtherVersion(what) => BackupError::OtherVersion(what),
            error => BackupError::Io { what: "the journal".into(), source: io::Error::other(error.to_string()) },
        }
    }
}

impl From<ColdError> for BackupError {
    fn from(error: ColdError) -> Self {
        match error {
            ColdError::Damaged { what } => BackupError::Damaged(what),
            // The engine ended meanwhile.
            ColdError::Closed => BackupError::CutShort,
            error => BackupError::Io {
                what: "orders.redb or documents.redb".into(),
                source: io::Error::other(error.to_string()),
            },
        }
    }
}

/// What is known of backups in this process.
#[derive(Debug, Default)]
pub(super) struct Backups {
    /// One at a time.
    alone: Arc<tokio::sync::Mutex<()>>,
    made: AtomicU64,
    failed: AtomicU64,
    /// When the newest was begun, in ms since the Unix epoch; 0 if there was none.
    last_ms: AtomicU64,
}

impl Backups {
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// When the newest of this process was begun.
    pub(super) fn last(&self) -> Option<SystemTime> {
        let last_ms = Some(self.last_ms.load(Ordering::Relaxed)).filter(|last_ms| *last_ms > 0)?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(last_ms))
    }

    /// Waits until none is under way.
    pub(super) async fn ended(&self) {
        drop(self.alone.lock().await);
    }

    fn count(&self, ended: &Result<BackupReport, BackupError>) {
        let counter = match ended {
            Ok(report) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                self.last_ms.store(now.saturating_sub(report.took).as_millis() as u64, Ordering::Relaxed);
                &self.made
            }
            Err(BackupError::CutShort | BackupError::Engine(Error::Draining)) => return,
            Err(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The work did not come to an end of its own.
fn no_thread() -> BackupError {
    let source = io::Error::other("its thread panicked or could not be started; the log says which");
    BackupError::Io { what: "the backup".into(), source }
}

/// Ends a backup whose caller went away.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Engine {
    /// Makes a backup of this engine in `dir`, beside the traffic: a directory from which an engine can be opened that
    /// knows everything that was acknowledged before this call, and perhaps some of what came during it.
    ///
    /// `dir` must not exist, or be empty, and not be in the data directory. The backup is whole and synced when this
    /// returns, and has a file `backup.json` with the hash of every other; until then it has a file
    /// `backup.unfinished`, and is opened by no engine. To use it, see [`offline::restore`](crate::offline::restore); to
    /// look whether it is as it was made, [`offline::verify`](crate::offline::verify).
    ///
    /// The work is done by a thread of low priority that copies piece by piece; commands go on meanwhile. A snapshot is
    /// taken first. One backup is made at a time.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bookstore::{Config, Engine, offline};
    ///
    /// # let parent = tempfile::tempdir()?;
    /// # let [data, backup, other] = ["data", "backup", "other"].map(|name| parent.path().join(name));
    /// let engine = Engine::open(Config::directory(&data)).await?;
    /// engine.register("ann", "secret").await?;
    /// engine.backup(&backup).await?;
    ///
    /// assert!(offline::verify(&backup, |_| {}).await?.is_sound());
    /// offline::restore(&backup, &other, &mut |_| std::ops::ControlFlow::Continue(()))?;
    /// let copy = Engine::open(Config::directory(&other)).await?;
    /// assert!(copy.register("ann", "secret").await.is_err(), "she is there");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BackupError`]. What was made is removed then; if that fails, too, it keeps the file `backup.unfinished`.
    ///
    /// # Cancellation
    /// Dropping the future ends the backup after the piece under way, and removes it. So does the end of the engine.
    pub async fn backup(&self, dir: impl AsRef<Path>) -> Result<BackupReport, BackupError> {
        self.backup_with_progress(dir, |_| {}).await
    }

    /// As [`Engine::backup`]; `progress` is called often, on another thread.
    ///
    /// # Errors
    /// As [`Engine::backup`].
    pub async fn backup_with_progress(
        &self,
        dir: impl AsRef<Path>,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<BackupReport, BackupError> {
        let (core, dir) = (self.core.clone(), dir.as_ref().to_path_buf());
        let alone = core.backups.alone.clone().try_lock_owned().map_err(|_| BackupError::Running)?;
        let stop = Arc::new(AtomicBool::new(false));
        let _stop_on_drop = StopOnDrop(stop.clone());
        // In a task of its own: what was made is removed there, whether or not the caller waits.
        let runtime = self.core.system.runtime.clone();
        let task = runtime.spawn(trace::carried(async move {
            let ended = core.clone().back_up(dir, stop, progress).await;
            core.backups.count(&ended);
            drop(alone);
            ended
        }));
        task.await.unwrap_or_else(|error| {
            if error.is_panic() {
                self.core.backups.failed.fetch_add(1, Ordering::Relaxed);
                return Err(no_thread());
            }
            Err(BackupError::CutShort)
        })
    }
}

impl Core {
    async fn back_up(
        self: Arc<Self>,
        dir: PathBuf,
        stop: Arc<AtomicBool>,
        progress: impl Fn(Progress) + Send + 'static,
    ) -> Result<BackupReport, BackupError> {
        if matches!(self.config.storage, Storage::Memory) {
            return Err(BackupError::InMemory);
        }
        if self.system.answers.is_draining() {
            return Err(Error::Draining.into());
        }
        let core = self.clone();
        self.refuse_if_disk_is_low()?;
        // The place first, so that no snapshot is taken for nothing.
        let begin = move || Target::begin(core.disk.clone(), &core.dir, &dir);
        let target = in_background(Urgency::Idle, begin).await.ok_or_else(no_thread)??;
        let held = self.hold_still().await;
        let core = self.clone();
        let copy = move || {
            // Dropped here, and not by a thread of the runtime, if there is nothing to copy.
            let (target, source) = (target, held?);
            let stay_free = core.stay_free_at(&target.dir);
            let tell = &mut |at| {
                progress(at);
                std::thread::sleep(PACE);
                core.goes_on(&stop)
            };
            source.copy(target, stay_free, tell, || Ok(()))
        };
        in_background(Urgency::Idle, copy).await.unwrap_or_else(|| Err(no_thread()))
    }

    /// Whether a backup may go on.
    fn goes_on(&self, stop: &AtomicBool) -> Result<(), BackupError> {
        if self.system.answers.is_failed() {
            return Err(self.unknown().into());
        }
        if stop.load(Ordering::Relaxed) || self.system.answers.is_draining() {
            return Err(BackupError::CutShort);
        }
        // The space comes back when what was made goes.
        self.refuse_if_disk_is_low()
    }

    fn refuse_if_disk_is_low(&self) -> Result<(), BackupError> {
        match self.disk_low.load(Ordering::Relaxed) {
            true => Err(BackupError::NoRoom("the disk of the data directory is nearly full".into())),
            false => Ok(()),
        }
    }

    /// Bytes that have to stay free where `target` is, so that changes are not refused: those that the watch of the disk
    /// wants, if it is the disk of the data directory.
    fn stay_free_at(&self, target: &Path) -> u64 {
        let device = |dir: &Path| std::fs::metadata(dir).ok().map(|found| found.dev());
        let elsewhere = device(target).zip(device(&self.dir)).is_some_and(|(target, data)| target != data);
        match self.config.limits.free_disk_min_bytes {
            0 => 0,
            _ if elsewhere => 0,
            least => least.saturating_add(self.config.next_segment_bytes()),
        }
    }

    /// Takes a snapshot and holds it still, with all that belongs to it. See the head of this file.
    async fn hold_still(self: &Arc<Self>) -> Result<Source, BackupError> {
        // While this is held no other snapshot is taken, so nothing goes that this one needs.
        let mut newest = self.snapshots.newest.lock().await;
        self.take_snapshot_holding(&mut newest, true, Urgency::Idle).await?;
        let lsn = newest.ok_or(Error::Overloaded("the snapshot could not be written"))?;
        let core = self.clone();
        let held = tokio::task::spawn_blocking(move || core.hold_files(lsn)).await;
        // Not run at all is what the end of the runtime does to it.
        held.unwrap_or_else(|error| Err(if error.is_panic() { no_thread() } else { BackupError::CutShort }))
    }

    fn hold_files(&self, snapshot: Lsn) -> Result<Source, BackupError> {
        let (disk, dir) = (&*self.disk, &*self.dir);
        let path = snapshot_path(dir, snapshot);
        let file = disk.open(&path, OpenMode::Read).map_err(BackupError::io("open", &path))?;
        let orders = self.system.resting.still()?;
        self.system.journal.flush_blocking().map_err(|_| BackupError::Engine(self.unknown()))?;
        let (lsn, segments) = match self.config.durability {
            // The snapshot is all there is.
            Durability::Snapshot => (snapshot, Vec::new()),
            _ => {
                let synced = self.system.journal.synced();
                (synced, hold_segments(disk, &dir.join("journal"), snapshot, synced)?)
            }
        };
        let documents = self.documents.still()?;
        let (_, upto) = orders.marks()?;
        if upto > lsn {
            // It would be refused by the next open.
            let why = format!("orders.redb holds orders as of event {upto}, and the backup would end at {lsn}");
            return Err(BackupError::Damaged(why));
        }
        // How much of the last segment is in use is not known.
        let whole = segments.iter().rev().skip(1).map(HeldSegment::len);
        let mut bytes = file.len().unwrap_or(0) + whole.sum::<u64>();
        for name in ["orders.redb", "documents.redb"] {
            let file = open_if_there(disk, &dir.join(name))?;
            bytes += file.and_then(|file| file.len().ok()).unwrap_or(0);
        }
        let token_key = match self.config.storage {
            Storage::Directory(_) => open_if_there(disk, &dir.join("token.key"))?,
            _ => None,
        };
        Ok(Source {
            lsn,
            snapshot: Some((snapshot, file)),
            segments,
            orders: Cold::Still(orders),
            documents: Cold::Still(documents),
            token_key,
            bytes,
        })
    }
}
