//! A backup is looked at, and made into a data directory again.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::building::{Building, Failed};
use super::{CheckError, CheckReport, Finding, check};
use crate::disk::{Disk, OpenMode, RealDisk};
use crate::engine::Progress;
use crate::engine::backup::{BackupError, BackupReport, MANIFEST, Manifest, NewFile, each_piece, hash_of, lies_in};

/// Whether the directory is a finished backup, which is not to be served.
#[cfg(feature = "server")]
pub(crate) fn is_backup(dir: &Path) -> bool {
    dir.join(MANIFEST).is_file()
}

/// How the name of each backup begins that a service makes of itself.
#[cfg(feature = "server")]
pub(crate) const BACKUP_NAME_PREFIX: &str = "backup-";

/// When the newest finished backup below this directory was begun, of those that the service named: their names sort by
/// time. `None` if there is none, or nobody can tell. Blocks on the disk.
#[cfg(feature = "server")]
pub(crate) fn newest_backup(parent: &Path) -> Option<std::time::SystemTime> {
    let entries = std::fs::read_dir(parent).ok()?;
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with(BACKUP_NAME_PREFIX));
    names.sort_unstable();
    let made_ms = |name: &String| Manifest::read(&RealDisk, &parent.join(name)).ok().map(|manifest| manifest.made_ms);
    let made_ms = names.iter().rev().find_map(made_ms)?;
    std::time::SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(made_ms))
}

/// What was found of a backup.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VerifyReport {
    /// What is wrong with it. It is as it was made if there is nothing.
    pub findings: Vec<Finding>,
    /// The newest event in it.
    pub lsn: u64,
    /// When it was begun, in ms since the Unix epoch.
    pub made_ms: u64,
    /// Its files.
    pub files: u64,
    /// Their bytes, as they were written.
    pub bytes: u64,
    /// What a check of the data found, which is made if every file is as it was written.
    pub check: Option<CheckReport>,
    /// How long it took.
    pub took: Duration,
}

impl VerifyReport {
    /// Whether it is as it was made, and what is in it is sound.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.check.as_ref().is_some_and(CheckReport::is_sound)
    }
}

/// Looks whether every file of the backup in `dir` has the length and the hash that it was written with, and then does
/// what [`check()`] does. Changes nothing. `progress` is called often, on another thread. Must be called within a tokio
/// runtime.
///
/// Dropping the future lets it go on in the background, which harms nobody.
///
/// # Errors
/// [`BackupError`] if nothing can be said of it, as it is no backup, or if its list of files is damaged. Other damage is
/// no error but in the report.
pub async fn verify(
    dir: &Path,
    progress: impl Fn(Progress) + Send + Sync + 'static,
) -> Result<VerifyReport, BackupError> {
    let start = Instant::now();
    let (path, progress) = (dir.to_path_buf(), Arc::new(progress));
    let tell = progress.clone();
    let compared = tokio::task::spawn_blocking(move || {
        let manifest = Manifest::read(&RealDisk, &path)?;
        let findings = compare(&path, &manifest, &*tell)?;
        Ok((manifest, findings))
    });
    let (manifest, findings) = compared.await.unwrap_or(Err(BackupError::CutShort))?;
    let checked = match findings.is_empty() {
        true => Some(check(dir, move |at| progress(at)).await.map_err(not_checked)?),
        false => None,
    };
    Ok(VerifyReport {
        findings,
        lsn: manifest.lsn,
        made_ms: manifest.made_ms,
        files: manifest.files.len() as u64,
        bytes: manifest.bytes(),
        check: checked,
        took: start.elapsed(),
    })
}

fn not_checked(error: CheckError) -> BackupError {
    match error {
        CheckError::Locked { dir, holder } => BackupError::Locked { dir, holder },
        CheckError::NoData(dir) => BackupError::NoData(dir),
        CheckError::OtherVersion(what) => BackupError::OtherVersion(what),
        CheckError::Unreadable(what) => BackupError::Io { what: "check".into(), source: std::io::Error::other(what) },
    }
}

/// What differs from the manifest.
fn compare(dir: &Path, manifest: &Manifest, tell: &dyn Fn(Progress)) -> Result<Vec<Finding>, BackupError> {
    let mut findings = Vec::new();
    let mut find = |name: &str, what: String| findings.push(Finding { file: dir.join(name), offset: None, what });
    let total = Some(manifest.bytes());
    let mut before = 0;
    for file in &manifest.files {
        let path = dir.join(&file.name);
        let opened = match RealDisk.open(&path, OpenMode::Read) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                find(&file.name, "it is missing".into());
                continue;
            }
            Err(error) => return Err(BackupError::io("open", &path)(error)),
        };
        let hashed = hash_of(&*opened, &path, &mut |done| {
            tell(Progress { stage: "comparing", done: before + done, total });
            Ok(())
        });
        let (bytes, hash) = hashed?;
        before += file.bytes;
        if bytes != file.bytes {
            find(&file.name, format!("it has {bytes} bytes, {} were written", file.bytes));
        } else if hash != file.hash {
            find(&file.name, "it has other bytes than were written".into());
        }
    }
    for name in others(dir, manifest)? {
        find(&name, "it is not of the backup".into());
    }
    Ok(findings)
}

/// Files that would count in a data directory, and are not in the manifest.
fn others(dir: &Path, manifest: &Manifest) -> Result<BTreeSet<String>, BackupError> {
    let list = |below: &Path| match RealDisk.list(below) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(BackupError::io("list", below)),
    };
    let mut names: BTreeSet<String> = list(dir)?.into_iter().collect();
    names.extend(list(&dir.join("journal"))?.into_iter().map(|name| format!("journal/{name}")));
    names.retain(|name| name != MANIFEST && [".snap", ".seg", ".redb", ".key"].iter().any(|end| name.ends_with(end)));
    for file in &manifest.files {
        names.remove(&file.name);
    }
    Ok(names)
}

/// Makes the data directory `target`, which must not exist or be empty, from the backup in `dir`. Each file is compared
/// with the hash that it was written with while it is copied. If `target` is not there, nothing has its name before all of
/// it is there and synced; an empty one is filled where it is. Until it is whole it has a file `backup.unfinished`, which
/// keeps engines off, and what a process left of it that died is cleared away by the next. `progress` is called often and may end it. Blocks on the disk.
///
/// The shop goes back to what it was when the backup was made: what came later is gone, old passwords hold again, and so
/// do logins that are not expired.
///
/// # Errors
/// [`BackupError`]: nothing was made then.
pub fn restore(
    dir: &Path,
    target: &Path,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<BackupReport, BackupError> {
    let start = Instant::now();
    let manifest = Manifest::read(&RealDisk, dir)?;
    if lies_in(target, dir) {
        // It would go with the backup when that gets too old.
        return Err(BackupError::Target {
            dir: target.to_path_buf(),
            why: "it is in the backup; name one that is elsewhere",
        });
    }
    let building = Building::begin(target, "restore").map_err(failed)?;
    let journal = building.dir.join("journal");
    RealDisk.create_dir_all(&journal).map_err(BackupError::io("create", &journal))?;
    let (mut before, total) = (0, Some(manifest.bytes()));
    for file in &manifest.files {
        let path = dir.join(&file.name);
        let damaged = |what: &str| Err(BackupError::Damaged(format!("{}: {what}", path.display())));
        let opened = match RealDisk.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return damaged("it is missing"),
            opened => opened.map_err(BackupError::io("open", &path))?,
        };
        let mut new = NewFile::create(&RealDisk, &building.dir, &file.name)?;
        each_piece(&*opened, &path, |piece, done| {
            new.put(piece)?;
            match progress(Progress { stage: "restoring", done: before + done, total }) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(BackupError::CutShort),
            }
        })?;
        before += file.bytes;
        if new.finish()? != *file {
            return damaged("it has other bytes than were written");
        }
    }
    RealDisk.sync_dir(&journal).map_err(BackupError::io("sync", &journal))?;
    let made: PathBuf = building.finish().map_err(failed)?;
    Ok(BackupReport {
        dir: made,
        lsn: manifest.lsn,
        files: manifest.files.len() as u64,
        bytes: manifest.bytes(),
        damaged: Vec::new(),
        took: start.elapsed(),
    })
}

fn failed((what, source): Failed) -> BackupError {
    BackupError::Io { what, source }
}
