//! A backup of a data directory that no engine has open. The directory stays as it is.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::check;
use crate::disk::{Disk, OpenMode, RealDisk};
use crate::engine::backup::{BackupError, BackupReport, Cold, Source, Target, open_if_there};
use crate::engine::open::refuse_if_files_are_missing;
use crate::engine::{OpenError, Progress, versions};
use crate::journal::{self, HeldSegment, hold_segments};
use crate::snapshot::list_snapshots;

/// Makes a backup of the data directory `dir`, which no engine has open, in `target`, which must not exist or be empty:
/// what the next open of `dir` would recover. As [`Engine::backup`](crate::Engine::backup) does of an engine that goes on.
/// Nothing in `dir` is changed. `progress` is called often and may end it.
///
/// Every frame of the journal and the snapshot is verified on the way; orders at rest and documents are copied as they
/// are: see [`verify`](super::verify).
///
/// # Errors
/// [`BackupError`]. What was made is removed then; if that fails, too, it keeps the file `backup.unfinished`.
pub fn backup(
    dir: &Path,
    target: &Path,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<BackupReport, BackupError> {
    let lock = lock_of(dir)?;
    let source = hold(dir)?;
    let target = Target::begin(Arc::new(RealDisk), dir, target)?;
    let tell = &mut |at| match progress(at) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(BackupError::CutShort),
    };
    let report = source.copy(target, 0, tell, || match &lock {
        Some(_) => Ok(()),
        // Nothing kept an engine off. If one came, the files are not of one moment.
        None => match lock_of(dir)? {
            None => Ok(()),
            Some(_) => Err(BackupError::Locked { dir: dir.display().to_string(), holder: "unknown".into() }),
        },
    });
    drop(lock);
    report
}

fn lock_of(dir: &Path) -> Result<Option<File>, BackupError> {
    check::lock(dir).map_err(|error| match error {
        check::CheckError::Locked { dir, holder } => BackupError::Locked { dir, holder },
        error => BackupError::Io { what: "the lock".into(), source: std::io::Error::other(error.to_string()) },
    })
}

fn hold(dir: &Path) -> Result<Source, BackupError> {
    let no_data = || Err(BackupError::NoData(dir.display().to_string()));
    let snapshots = match list_snapshots(&RealDisk, dir) {
        Ok(snapshots) => snapshots,
        Err(_) if !dir.exists() => return no_data(),
        Err(error) => {
            let source = std::io::Error::other(error.to_string());
            return Err(BackupError::Io { what: "the snapshots".into(), source });
        }
    };
    // What no engine opens is no backup either.
    refuse_if_files_are_missing(&RealDisk, dir).map_err(|error| match error {
        OpenError::Damaged(what) => BackupError::Damaged(what),
        error => BackupError::Io { what: "the files".into(), source: std::io::Error::other(error.to_string()) },
    })?;
    let journal = dir.join("journal");
    let segments = if journal.exists() { journal::list_segments(&RealDisk, &journal)? } else { Vec::new() };
    if snapshots.is_empty() && segments.is_empty() {
        return no_data();
    }
    if let Some(what) = versions::other_version(&RealDisk, dir) {
        return Err(BackupError::OtherVersion(what));
    }
    let snapshot = match snapshots.first() {
        None => None,
        Some((lsn, path)) => Some((*lsn, RealDisk.open(path, OpenMode::Read).map_err(BackupError::io("open", path))?)),
    };
    let after = snapshot.as_ref().map_or(0, |(lsn, _)| *lsn);
    // A torn end is no part of it: the next open would cut it.
    let end = match segments.last() {
        None => 0,
        Some(last) => journal::read_segment(&RealDisk, last, true, &mut |_| Ok(()))?.next_lsn - 1,
    };
    // A snapshot may have overtaken the journal; then nothing of that is needed.
    let segments = match end < after || segments.is_empty() {
        true => Vec::new(),
        false => hold_segments(&RealDisk, &journal, after, end)?,
    };
    let [orders, documents, token_key] =
        ["orders.redb", "documents.redb", "token.key"].map(|name| open_if_there(&RealDisk, &dir.join(name)));
    let (orders, documents) = (orders?, documents?);
    let len =
        |file: &Option<Arc<dyn crate::disk::DiskFile>>| file.as_ref().and_then(|file| file.len().ok()).unwrap_or(0);
    let bytes = snapshot.as_ref().and_then(|(_, file)| file.len().ok()).unwrap_or(0)
        + segments.iter().rev().skip(1).map(HeldSegment::len).sum::<u64>()
        + len(&orders)
        + len(&documents);
    Ok(Source {
        lsn: end.max(after),
        snapshot,
        segments,
        orders: Cold::File(orders),
        documents: Cold::File(documents),
        token_key: token_key?,
        bytes,
    })
}
