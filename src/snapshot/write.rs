//! Writing a snapshot and publishing it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::planted::{Fault, planted};

use super::dir::{snapshot_path, tmp_path};
use super::format::{CHUNK_BYTES_MAX, ChunkHeader, END_KIND, End, encode_file_header};
use super::read::read_as;
use super::{Lsn, SnapshotError};

/// The file is synced whenever this much was written.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;
/// Chunks are gathered into writes of about this size.
const WRITE_BYTES: usize = 256 * 1024;

/// A snapshot that is being written, under a temporary name. Dropping it gives it up.
#[derive(Debug)]
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    tmp: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Encoded and not written yet.
    buffer: Vec<u8>,
    /// Bytes handed to the file.
    written: u64,
    synced: u64,
    chunks: u32,
    crc: crc32fast::Hasher,
    /// Set by the first error: what is in the file is unknown from then on.
    broken: bool,
    published: bool,
}

/// A snapshot that is on the disk, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedSnapshot {
    /// Its file.
    pub path: PathBuf,
    /// The length of the file.
    pub bytes: u64,
}

impl SnapshotWriter {
    /// Begins a snapshot in `dir`, which is created if it is missing. `name_lsn` names the temporary
    /// file only. One that a crash left under that name is replaced.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn create(disk: Arc<dyn Disk>, dir: &Path, name_lsn: Lsn) -> Result<Self, SnapshotError> {
        disk.create_dir_all(dir).map_err(SnapshotError::io("create", dir))?;
        let tmp = tmp_path(dir, name_lsn);
        match disk.remove(&tmp) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SnapshotError::io("remove", &tmp)(error));
            }
            _ => {}
        }
        let file = disk.open(&tmp, OpenMode::CreateNew).map_err(SnapshotError::io("create", &tmp))?;
        let mut writer = Self {
            disk,
            dir: dir.to_owned(),
            tmp,
            file,
            buffer: Vec::new(),
            written: 0,
            synced: 0,
            chunks: 0,
            crc: crc32fast::Hasher::new(),
            broken: false,
            published: false,
        };
        writer.put(&encode_file_header());
        Ok(writer)
    }

    /// Adds a chunk. Kind 255 is reserved for the end.
    ///
    /// # Errors
    /// [`SnapshotError::BadChunk`], [`SnapshotError::Io`]; after either the snapshot is lost and
    /// everything else answers [`SnapshotError::Broken`].
    pub fn chunk(&mut self, kind: u8, payload: &[u8]) -> Result<(), SnapshotError> {
        if self.broken {
            return Err(SnapshotError::Broken);
        }
        let result = self.add_chunk(kind, payload);
        self.broken = result.is_err();
        result
    }

    /// Bytes written so far, for pacing and progress.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Ends the snapshot: writes the end chunk, syncs, reads everything back and verifies it, and
    /// gives it the name of `final_lsn`, durably. `end_payload` is what a reader is told at the end.
    ///
    /// # Errors
    /// [`SnapshotError::Io`], [`SnapshotError::BadChunk`], [`SnapshotError::Broken`], or
    /// [`SnapshotError::Damaged`] if what was read back is not what was written. Nothing was
    /// published then; only if the last step failed, the sync of the directory, the file may be
    /// there, and it is sound.
    pub fn publish(mut self, end_payload: &[u8], final_lsn: Lsn) -> Result<PublishedSnapshot, SnapshotError> {
        if self.broken {
            return Err(SnapshotError::Broken);
        }
        let end =
            End { chunks: u64::from(self.chunks), bytes: self.bytes(), crc: self.crc.clone().finalize(), final_lsn };
        self.add(END_KIND, &end.encode(end_payload))?;
        self.write_out()?;
        self.sync()?;
        read_as(&*self.disk, &self.tmp, Some(final_lsn), &mut |_, _| Ok(()))?;
        let path = snapshot_path(&self.dir, final_lsn);
        self.disk.rename(&self.tmp, &path).map_err(SnapshotError::io("rename", &self.tmp))?;
        self.published = true;
        if !planted(Fault::SnapshotNameNotSynced) {
            self.disk.sync_dir(&self.dir).map_err(SnapshotError::io("sync", &self.dir))?;
        }
        Ok(PublishedSnapshot { path, bytes: self.written })
    }

    fn add_chunk(&mut self, kind: u8, payload: &[u8]) -> Result<(), SnapshotError> {
        if kind == END_KIND {
            let bytes = payload.len();
            return Err(SnapshotError::BadChunk { kind, bytes });
        }
        self.add(kind, payload)
    }

    fn add(&mut self, kind: u8, payload: &[u8]) -> Result<(), SnapshotError> {
        // The index is what bounds the number of chunks: 2^32 of them.
        let next = self.chunks.checked_add(1);
        let (true, Some(next)) = (payload.len() <= CHUNK_BYTES_MAX, next) else {
            let bytes = payload.len();
            return Err(SnapshotError::BadChunk { kind, bytes });
        };
        let header = ChunkHeader::new(self.chunks, kind, payload);
        self.put(&header.encode());
        self.put(payload);
        self.chunks = next;
        if self.buffer.len() >= WRITE_BYTES {
            self.write_out()?;
        }
        if self.written - self.synced >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.buffer.extend_from_slice(bytes);
    }

    fn write_out(&mut self) -> Result<(), SnapshotError> {
        self.file.write_all_at(self.written, &self.buffer).map_err(SnapshotError::io("write", &self.tmp))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SnapshotError> {
        self.file.sync_data().map_err(SnapshotError::io("sync", &self.tmp))?;
        self.synced = self.written;
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.published {
            // Gives the space back. If it does not work, `remove_leftovers` does it at the next start.
            drop(self.disk.remove(&self.tmp));
        }
    }
}
