//! The log on a disk: a directory of segments.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::planted::{Fault, planted};

use super::batch::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, encode_batch};
use super::replay::Replay;
use super::scan::{Scanned, Segment};
use super::segment::{SEGMENT_HEADER_BYTES, TMP_SUFFIX, encode_header, fill_zeros, parse_name, segment_path};
use super::spare::Spare;
use super::store::check_batch;
use super::{Frame, LogError, LogStore, Lsn, Recovered};

/// How a [`FileLog`] lays out its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLogOptions {
    /// Bytes of a segment, written as zeros beforehand; 64 MiB unless set. A batch that is larger
    /// gets a segment of its own, which grows.
    pub segment_bytes: u64,
}

impl Default for FileLogOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024 }
    }
}

/// A log in the segments of a directory. One process at a time may have it open; the caller sees
/// to that.
#[derive(Debug)]
pub struct FileLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    spare: Spare,
    /// The first LSN of each segment, oldest first; the last one is written to.
    segments: VecDeque<Lsn>,
    current: Current,
    next_lsn: Lsn,
    /// Everything up to here is synced; told by each batch, for the judgement of a hole at the next open.
    synced: Lsn,
    /// Bytes written since.
    unsynced_bytes: u64,
    /// The batch being written; kept for its allocation.
    scratch: Vec<u8>,
    /// Set by the first error: what is on the disk is unknown from then on.
    broken: bool,
}

/// The segment that is written to.
#[derive(Debug)]
struct Current {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Where the next batch goes.
    offset: u64,
    len: u64,
}

impl FileLog {
    /// Opens the log in `dir`, which is created if it is missing. Checks every frame, shows those
    /// past `after` to `visit` in order and without gaps, cuts off the end what a crash has torn and no
    /// sync had covered, and writes what is left of the last segment anew: after a crash it may be in
    /// the page cache only.
    ///
    /// If the log ends before `after`, a snapshot has overtaken it: its segments are removed, and new
    /// frames go on after `after`.
    ///
    /// A flipped byte in a batch that no later batch knows to be synced cannot be told from a torn write
    /// and is cut like one; anywhere else it is an error. In [`super::Durability::Sync`] that is the
    /// very last batch.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] for anything that a crash cannot have done, missing segments and frames
    /// included; nothing was changed then. [`LogError::Io`], and whatever `visit` answers.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: FileLogOptions,
        after: Lsn,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), LogError>,
    ) -> Result<(Self, Recovered), LogError> {
        Self::open_with(Spare::new(Arc::clone(&disk), dir, options.segment_bytes), disk, dir, options, after, visit)
    }

    /// As [`FileLog::open`], without a thread of its own: the next segment is made when it is needed. For simulations.
    ///
    /// # Errors
    /// As [`FileLog::open`].
    pub fn open_without_thread(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: FileLogOptions,
        after: Lsn,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), LogError>,
    ) -> Result<(Self, Recovered), LogError> {
        let spare = Spare::when_needed(Arc::clone(&disk), dir, options.segment_bytes);
        Self::open_with(spare, disk, dir, options, after, visit)
    }

    fn open_with(
        mut spare: Spare,
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: FileLogOptions,
        after: Lsn,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), LogError>,
    ) -> Result<(Self, Recovered), LogError> {
        create_dir(&*disk, dir)?;
        let mut segments = list_segments(&*disk, dir)?;
        let mut replay = Replay::new(after, visit);
        let found = read_segments(&*disk, dir, &segments, &mut replay)?;

        // Reading is over and nothing was changed so far; from here on the disk is tidied.
        remove_leftovers(&*disk, dir)?;
        let recovered = Recovered {
            last_lsn: after.max(replay.next_lsn() - 1),
            last_epoch: replay.last_epoch(),
            cut_bytes: found.cut_bytes,
            frames: replay.frames(),
        };
        if replay.next_lsn() <= after {
            // Oldest first, so that a crash in between leaves a log without a hole.
            for first_lsn in segments.drain(..) {
                remove_segment(&*disk, dir, first_lsn)?;
            }
        }
        let (first_lsn, end) = match segments.back() {
            Some(first_lsn) => (*first_lsn, found.end),
            None => (recovered.last_lsn + 1, SEGMENT_HEADER_BYTES as u64),
        };
        let current = match planted(Fault::TornTailNotRewritten) && !segments.is_empty() {
            true => go_on(&*disk, dir, first_lsn, end)?,
            false => write_anew(&*disk, dir, first_lsn, end, options.segment_bytes)?,
        };
        if segments.is_empty() {
            segments.push_back(first_lsn);
        }
        spare.prepare();
        let log = Self {
            disk,
            dir: dir.to_owned(),
            spare,
            segments,
            current,
            next_lsn: recovered.last_lsn + 1,
            synced: recovered.last_lsn,
            unsynced_bytes: 0,
            scratch: Vec::new(),
            broken: false,
        };
        Ok((log, recovered))
    }

    /// Runs an operation unless one failed before, and remembers if this one does.
    fn unless_broken(&mut self, operation: impl FnOnce(&mut Self) -> Result<(), LogError>) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        let result = operation(self);
        self.broken = result.is_err();
        result
    }

    /// Goes on in a new segment that begins with the next frame.
    fn roll(&mut self) -> Result<(), LogError> {
        // A hole is forgiven in the last segment only: so this one is made whole first.
        self.sync_current()?;
        let file = self.spare.take()?;
        let (spare, path) = (self.spare.path(), segment_path(&self.dir, self.next_lsn));
        file.write_all_at(0, &encode_header(self.next_lsn)).map_err(LogError::io("write", spare))?;
        sync_file(&*file, spare)?;
        self.disk.rename(spare, &path).map_err(LogError::io("rename", spare))?;
        sync_dir(&*self.disk, &self.dir)?;
        self.segments.push_back(self.next_lsn);
        self.current = Current {
            len: file.len().map_err(LogError::io("measure", &path))?,
            offset: SEGMENT_HEADER_BYTES as u64,
            file,
            path,
        };
        self.spare.prepare();
        Ok(())
    }

    fn sync_current(&mut self) -> Result<(), LogError> {
        if !planted(Fault::MissingSync) {
            let synced = sync_file(&*self.current.file, &self.current.path);
            if !planted(Fault::SyncErrorIgnored) {
                synced?;
            }
        }
        self.synced = self.next_lsn - 1;
        self.unsynced_bytes = 0;
        Ok(())
    }

    fn write_batch(&mut self, first_lsn: Lsn, frames: u32, epoch: u32, body: &[u8]) -> Result<(), LogError> {
        let batch_len = (BATCH_HEADER_BYTES + body.len()) as u64;
        // At open nothing longer is taken for the work of a crash.
        if self.unsynced_bytes + batch_len > BATCH_BYTES_MAX as u64 {
            self.sync_current()?;
        }
        let empty = self.current.offset == SEGMENT_HEADER_BYTES as u64;
        if !empty && self.current.offset + batch_len > self.current.len {
            self.roll()?;
        }
        // Only now: what was synced above is told by this batch.
        encode_batch(&mut self.scratch, first_lsn, frames, epoch, self.synced, body);
        self.unsynced_bytes += batch_len;
        let current = &mut self.current;
        current.file.write_all_at(current.offset, &self.scratch).map_err(LogError::io("write", &current.path))?;
        current.offset += batch_len;
        current.len = current.len.max(current.offset);
        Ok(())
    }
}

impl LogStore for FileLog {
    fn append(&mut self, first_lsn: Lsn, frames: u32, epoch: u32, body: &[u8]) -> Result<(), LogError> {
        self.unless_broken(|log| {
            check_batch(log.next_lsn, first_lsn, frames, body)?;
            log.write_batch(first_lsn, frames, epoch, body)?;
            log.next_lsn += Lsn::from(frames);
            Ok(())
        })
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.unless_broken(Self::sync_current)
    }

    fn trim(&mut self, upto: Lsn) -> Result<(), LogError> {
        self.unless_broken(|log| {
            // A segment ends right before the next one begins.
            while let (Some(first_lsn), Some(next)) = (log.segments.front(), log.segments.get(1)) {
                if next - 1 > upto || !unlink(&*log.disk, &segment_path(&log.dir, *first_lsn)) {
                    break;
                }
                log.segments.pop_front();
                // Before the next one goes, as in `remove_segment`.
                sync_dir(&*log.disk, &log.dir)?;
            }
            Ok(())
        })
    }
}

/// Reads all segments in order, and tells of the last one what was found.
fn read_segments(
    disk: &dyn Disk,
    dir: &Path,
    segments: &VecDeque<Lsn>,
    replay: &mut Replay<'_>,
) -> Result<Scanned, LogError> {
    let mut found = Scanned { end: SEGMENT_HEADER_BYTES as u64, cut_bytes: 0 };
    let last = segments.back().copied();
    for first_lsn in segments.iter().copied() {
        let path = &segment_path(dir, first_lsn);
        let file = disk.open(path, OpenMode::Read).map_err(LogError::io("open", path))?;
        let segment = Segment { file: &*file, path, first_lsn, last: last == Some(first_lsn) };
        found = segment.scan(replay)?;
    }
    Ok(found)
}

/// Writes a segment from what is valid in the one of that name, if any, and puts it in its place,
/// durably.
fn write_anew(disk: &dyn Disk, dir: &Path, first_lsn: Lsn, end: u64, segment_bytes: u64) -> Result<Current, LogError> {
    const COPY_BYTES: u64 = 1024 * 1024;
    let path = segment_path(dir, first_lsn);
    let mut tmp = path.clone().into_os_string();
    tmp.push(TMP_SUFFIX);
    let tmp = PathBuf::from(tmp);

    let file = disk.open(&tmp, OpenMode::CreateNew).map_err(LogError::io("create", &tmp))?;
    let mut at = SEGMENT_HEADER_BYTES as u64;
    file.write_all_at(0, &encode_header(first_lsn)).map_err(LogError::io("write", &tmp))?;
    if at < end {
        let old = disk.open(&path, OpenMode::Read).map_err(LogError::io("open", &path))?;
        let mut chunk = Vec::new();
        while at < end {
            chunk.resize((end - at).min(COPY_BYTES) as usize, 0);
            old.read_exact_at(at, &mut chunk).map_err(LogError::io("read", &path))?;
            file.write_all_at(at, &chunk).map_err(LogError::io("write", &tmp))?;
            at += chunk.len() as u64;
        }
    }
    fill_zeros(&*file, &tmp, at, segment_bytes, &AtomicBool::new(false))?;
    disk.rename(&tmp, &path).map_err(LogError::io("rename", &tmp))?;
    sync_dir(disk, dir)?;
    Ok(Current { file, path, offset: end, len: end.max(segment_bytes) })
}

/// The wrong thing: a segment as it is found.
fn go_on(disk: &dyn Disk, dir: &Path, first_lsn: Lsn, end: u64) -> Result<Current, LogError> {
    let path = segment_path(dir, first_lsn);
    let file = disk.open(&path, OpenMode::ReadWrite).map_err(LogError::io("open", &path))?;
    let len = file.len().map_err(LogError::io("measure", &path))?;
    Ok(Current { file, path, offset: end, len })
}

fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    disk.create_dir_all(dir).map_err(LogError::io("create", dir))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(disk, parent),
        _ => Ok(()),
    }
}

pub(super) fn list_segments(disk: &dyn Disk, dir: &Path) -> Result<VecDeque<Lsn>, LogError> {
    let mut segments = Vec::new();
    for name in disk.list(dir).map_err(LogError::io("list", dir))? {
        segments.extend(parse_name(dir, &name)?);
    }
    segments.sort_unstable();
    Ok(segments.into())
}

/// Removes what a crash left of files that were not part of the log yet, the spare included.
fn remove_leftovers(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    for name in disk.list(dir).map_err(LogError::io("list", dir))? {
        if name.ends_with(TMP_SUFFIX) {
            let path = dir.join(name);
            disk.remove(&path).map_err(LogError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Removes a segment durably. Directory entries may reach the disk in any order, and a later segment
/// without an earlier one would look like damage: hence a sync for each.
fn remove_segment(disk: &dyn Disk, dir: &Path, first_lsn: Lsn) -> Result<(), LogError> {
    let path = segment_path(dir, first_lsn);
    disk.remove(&path).map_err(LogError::io("remove", &path))?;
    sync_dir(disk, dir)
}

/// Whether the file is gone. One that the system does not let go takes space and does no harm.
fn unlink(disk: &dyn Disk, path: &Path) -> bool {
    disk.remove(path).map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |()| true)
}

fn sync_file(file: &dyn DiskFile, path: &Path) -> Result<(), LogError> {
    file.sync_data().map_err(LogError::io("sync", path))
}

fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    disk.sync_dir(dir).map_err(LogError::io("sync", dir))
}
