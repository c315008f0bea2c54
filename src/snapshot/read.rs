//! Reading a snapshot, chunk by chunk, believing nothing.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode};

use super::dir::parse_name;
use super::format::{
    CHUNK_BYTES_MAX, CHUNK_HEADER_BYTES, ChunkHeader, END_KIND, End, FILE_HEADER_BYTES, check_file_header,
    other_version,
};
use super::{Lsn, SnapshotError};

/// Small chunks are read this much at a time.
const READ_BYTES: usize = 256 * 1024;

/// What the end of a snapshot says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// The journal position it stands for.
    pub final_lsn: Lsn,
    /// Chunks, the end not counted.
    pub chunks: u64,
    /// The length of the file.
    pub bytes: u64,
    /// What the writer gave to `publish`.
    pub end_payload: Vec<u8>,
}

/// Is shown the kind and the payload of each chunk.
pub type ChunkVisitor<'v> = dyn FnMut(u8, &[u8]) -> Result<(), SnapshotError> + 'v;

/// Shows every chunk (kind, payload) to `visit` in order, each verified before it is shown, and
/// verifies that the file is whole. What was shown counts only if this returns `Ok`.
///
/// # Errors
/// [`SnapshotError::Damaged`] for a flipped, missing or additional byte anywhere, or if the file
/// bears another snapshot's name; [`SnapshotError::OtherVersion`] if a chunk is marked by a later version;
/// [`SnapshotError::Io`]; whatever `visit` answers.
pub fn read_snapshot(
    disk: &dyn Disk,
    path: &Path,
    visit: &mut ChunkVisitor<'_>,
) -> Result<SnapshotSummary, SnapshotError> {
    let name = path.file_name().and_then(|name| name.to_str());
    read_as(disk, path, name.and_then(parse_name), visit)
}

/// What its header says, if that is sound and names a version of the file that this program does not know. What cannot
/// be read is passed over: whoever reads all of it will tell.
pub fn foreign_snapshot(disk: &dyn Disk, path: &Path) -> Option<String> {
    let mut header = [0; FILE_HEADER_BYTES];
    Reader::open(disk, path).and_then(|mut reader| reader.fill(&mut header)).ok()?;
    other_version(&header)
}

/// Reads the whole snapshot and says whether it is sound.
///
/// # Errors
/// As [`read_snapshot`].
pub fn verify_snapshot(disk: &dyn Disk, path: &Path) -> Result<SnapshotSummary, SnapshotError> {
    read_snapshot(disk, path, &mut |_, _| Ok(()))
}

/// [`read_snapshot`], with the final LSN that the file must have, if it is known.
pub(super) fn read_as(
    disk: &dyn Disk,
    path: &Path,
    final_lsn: Option<Lsn>,
    visit: &mut ChunkVisitor<'_>,
) -> Result<SnapshotSummary, SnapshotError> {
    let mut reader = Reader::open(disk, path)?;
    let mut header = [0; FILE_HEADER_BYTES];
    reader.fill(&mut header)?;
    check_file_header(&header).map_err(|why| SnapshotError::damaged(path, 0, why))?;

    let mut payload = Vec::new();
    let mut index = 0;
    loop {
        let (at, crc) = (reader.at, reader.crc.clone());
        let damaged = |why: &str| SnapshotError::damaged(path, at, why);
        let kind = reader.chunk(index, &mut payload)?;
        if kind != END_KIND {
            visit(kind, &payload)?;
            index = index.checked_add(1).ok_or(damaged("too many chunks"))?;
            continue;
        }
        let (end, end_payload) = End::decode(&payload).ok_or(damaged("not an end"))?;
        if end.chunks != u64::from(index) || end.bytes != at || end.crc != crc.finalize() {
            return Err(damaged("the end does not fit what stands before it"));
        }
        if final_lsn.is_some_and(|lsn| lsn != end.final_lsn) {
            return Err(damaged("the file bears another snapshot's name"));
        }
        if reader.at != reader.len {
            return Err(damaged("something follows the end"));
        }
        return Ok(SnapshotSummary {
            final_lsn: end.final_lsn,
            chunks: end.chunks,
            bytes: reader.len,
            end_payload: end_payload.to_vec(),
        });
    }
}

/// Reads forward through a small buffer and sums up what it has read.
struct Reader<'a> {
    file: Arc<dyn DiskFile>,
    path: &'a Path,
    len: u64,
    /// Where the next byte to give stands in the file.
    at: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was given.
    given: usize,
    crc: crc32fast::Hasher,
}

impl<'a> Reader<'a> {
    fn open(disk: &dyn Disk, path: &'a Path) -> Result<Self, SnapshotError> {
        let file = disk.open(path, OpenMode::Read).map_err(SnapshotError::io("open", path))?;
        Ok(Self {
            len: file.len().map_err(SnapshotError::io("measure", path))?,
            file,
            path,
            at: 0,
            buffer: Vec::new(),
            given: 0,
            crc: crc32fast::Hasher::new(),
        })
    }

    /// Reads the chunk that must have this index, and verifies it.
    fn chunk(&mut self, index: u32, payload: &mut Vec<u8>) -> Result<u8, SnapshotError> {
        let at = self.at;
        let damaged = |why: &str| SnapshotError::damaged(self.path, at, why);
        let mut bytes = [0; CHUNK_HEADER_BYTES];
        self.fill(&mut bytes)?;
        let header = ChunkHeader::decode(&bytes);
        // Before anything is allocated.
        if header.len as usize > CHUNK_BYTES_MAX || u64::from(header.len) > self.len - self.at {
            return Err(damaged("longer than it can be"));
        }
        payload.resize(header.len as usize, 0);
        self.fill(payload)?;
        if header.index != index || !header.matches(payload) {
            return Err(damaged("not the chunk that was written"));
        }
        if !header.is_known() {
            return Err(SnapshotError::OtherVersion(format!("the chunk at byte {at} has unknown marks")));
        }
        Ok(header.kind)
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), SnapshotError> {
        if into.len() as u64 > self.len - self.at {
            return Err(SnapshotError::damaged(self.path, self.at, "it was cut"));
        }
        let mut done = 0;
        while done < into.len() {
            if self.given == self.buffer.len() {
                let left = self.len - (self.at + done as u64);
                self.buffer.resize(left.min(READ_BYTES as u64) as usize, 0);
                self.given = 0;
                self.file
                    .read_exact_at(self.at + done as u64, &mut self.buffer)
                    .map_err(SnapshotError::io("read", self.path))?;
            }
            let part = (into.len() - done).min(self.buffer.len() - self.given);
            into[done..done + part].copy_from_slice(&self.buffer[self.given..self.given + part]);
            self.given += part;
            done += part;
        }
        self.at += done as u64;
        self.crc.update(into);
        Ok(())
    }
}
