//! The files of a data directory, of a moment, copied: whoever holds them still, an engine that goes on or the lock of a
//! directory that no engine has open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::target::{PIECE_BYTES, Target, each_piece};
use super::{BackupError, BackupReport};
use crate::cold::Still;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::engine::Progress;
use crate::journal::{HeldSegment, Lsn};
use crate::snapshot::{snapshot_path, verify_snapshot};

/// All that a backup holds, such that it stays as it is.
#[derive(Debug)]
pub(crate) struct Source {
    /// The newest event in it.
    pub(crate) lsn: Lsn,
    /// The snapshot that it begins with.
    pub(crate) snapshot: Option<(Lsn, Arc<dyn DiskFile>)>,
    /// What comes after that.
    pub(crate) segments: Vec<HeldSegment>,
    pub(crate) orders: Cold,
    pub(crate) documents: Cold,
    pub(crate) token_key: Option<Arc<dyn DiskFile>>,
    /// Bytes of all that, nearly.
    pub(crate) bytes: u64,
}

/// A file of redb.
#[derive(Debug)]
pub(crate) enum Cold {
    /// One that goes on being written to.
    Still(Still),
    /// One that nobody has open; `None` if it is not there.
    File(Option<Arc<dyn DiskFile>>),
}

/// Told how far the copy is; an error ends it.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(Progress) -> Result<(), BackupError>;

/// Opens a file that may be missing.
pub(crate) fn open_if_there(disk: &dyn Disk, path: &Path) -> Result<Option<Arc<dyn DiskFile>>, BackupError> {
    match disk.open(path, OpenMode::Read) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BackupError::io("open", path)(error)),
    }
}

impl Source {
    /// Copies everything, and says at the end that it is whole. So many bytes have to stay free at the target; `last` is
    /// asked when everything is copied.
    pub(crate) fn copy(
        self,
        target: Target,
        stay_free: u64,
        tell: Tell<'_>,
        last: impl FnOnce() -> Result<(), BackupError>,
    ) -> Result<BackupReport, BackupError> {
        let began = Instant::now();
        let made_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        let mut copy = Copy { target, tell, damaged: Vec::new() };
        copy.refuse_if_it_does_not_fit(self.bytes, stay_free)?;
        if let Some((lsn, file)) = &self.snapshot {
            let path = snapshot_path(Path::new(""), *lsn);
            copy.file(&path.to_string_lossy(), &**file, "snapshot")?;
            // One that was taken earlier may have been damaged meanwhile, and there is no second one in a backup.
            let path = copy.target.dir.join(path);
            verify_snapshot(copy.target.disk(), &path).map_err(|error| BackupError::Damaged(error.to_string()))?;
        }
        copy.segments(&self.segments, self.lsn)?;
        if let Some(file) = &self.token_key {
            copy.file("token.key", &**file, "token key")?;
        }
        copy.cold("orders.redb", &self.orders, "orders at rest")?;
        copy.cold("documents.redb", &self.documents, "documents")?;
        let Copy { target, damaged, .. } = copy;
        last()?;
        let dir = target.dir.clone();
        let manifest = target.finish(self.lsn, made_ms as u64)?;
        let (lsn, files, bytes) = (manifest.lsn, manifest.files.len() as u64, manifest.bytes());
        Ok(BackupReport { dir, lsn, files, bytes, damaged, took: began.elapsed() })
    }
}

struct Copy<'a> {
    target: Target,
    tell: Tell<'a>,
    damaged: Vec<String>,
}

impl Copy<'_> {
    fn refuse_if_it_does_not_fit(&self, needed: u64, stay_free: u64) -> Result<(), BackupError> {
        let dir = &self.target.dir;
        let free = self.target.disk().free_bytes(dir).map_err(BackupError::io("measure", dir))?;
        if free >= needed.saturating_add(stay_free) {
            return Ok(());
        }
        let rest = match stay_free {
            0 => String::new(),
            _ => format!(", and {stay_free} have to stay free there for changes"),
        };
        Err(BackupError::NoRoom(format!("{needed} bytes are needed at {}, {free} are free{rest}", dir.display())))
    }

    fn file(&mut self, name: &str, file: &dyn DiskFile, stage: &'static str) -> Result<(), BackupError> {
        let total = file.len().ok();
        let mut new = self.target.file(name)?;
        each_piece(file, Path::new(name), |piece, done| {
            new.put(piece)?;
            (self.tell)(Progress { stage, done, total })
        })?;
        self.target.keep(new)
    }

    fn segments(&mut self, segments: &[HeldSegment], upto: Lsn) -> Result<(), BackupError> {
        // How many events there are is known, how many bytes is not.
        let mut first = None;
        let mut untold = 0;
        for segment in segments {
            let mut new = self.target.file(&format!("journal/{}", segment.name()))?;
            segment.read(|bytes, lsn| {
                let before = *first.get_or_insert(lsn);
                new.put(bytes)?;
                untold += bytes.len();
                if untold < PIECE_BYTES {
                    return Ok(());
                }
                untold = 0;
                (self.tell)(Progress { stage: "journal", done: lsn - before, total: Some(upto.saturating_sub(before)) })
            })?;
            self.target.keep(new)?;
        }
        Ok(())
    }

    fn cold(&mut self, name: &str, cold: &Cold, stage: &'static str) -> Result<(), BackupError> {
        let still = match cold {
            Cold::File(None) => return Ok(()),
            Cold::File(Some(file)) => return self.file(name, &**file, stage),
            Cold::Still(still) => still,
        };
        let total = still.entries()?;
        let mut told = Ok(());
        let path: PathBuf = self.target.dir.join(name);
        let copied = still.copy_to(self.target.disk(), &path, &mut |done| {
            told = (self.tell)(Progress { stage, done, total: Some(total) });
            told.is_ok()
        });
        told?;
        self.damaged.extend(copied?.damaged.into_iter().map(|what| format!("{name}: {what}")));
        self.target.adopt(name, &mut |done| (self.tell)(Progress { stage: "reading back", done, total: None }))
    }
}
