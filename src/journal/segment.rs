//! The segment: a file of batches, its header, its name, and how a new one is laid out.
//!
//! ```text
//! offset  0  magic      8 bytes, `BKSTSEG` and a zero
//!         8  version    u32
//!        12  reserved   u32, 0; anything else is a later version's
//!        16  first_lsn  u64, the first frame of the file; also its name
//!        24  crc32      over bytes 0..24 and 28..32
//!        28  reserved   u32, 0
//!        32  batches, then zeros to the end
//! ```
//! The zeros are written beforehand: syncing bytes that overwrite written blocks is cheaper than
//! syncing a file that grows, because no metadata has to follow.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::{Disk, DiskFile, OpenMode};

use super::frame::{u32_at, u64_at};
use super::{LogError, Lsn};

/// Bytes in front of the first batch of a segment.
pub(super) const SEGMENT_HEADER_BYTES: usize = 32;

const MAGIC: [u8; 8] = *b"BKSTSEG\0";
const VERSION: u32 = 2;

const SUFFIX: &str = ".seg";
/// Files of this suffix are not part of the log yet; what is found of them at open is removed.
pub(super) const TMP_SUFFIX: &str = ".tmp";

/// Zeros are written in pieces of this size.
const ZERO_CHUNK_BYTES: usize = 1024 * 1024;
/// And synced this often, so that a batch's sync never queues behind a whole segment of zeros.
const ZERO_SYNC_BYTES: u64 = 8 * 1024 * 1024;

pub(super) fn segment_path(dir: &Path, first_lsn: Lsn) -> PathBuf {
    dir.join(format!("{first_lsn:020}{SUFFIX}"))
}

/// The first LSN in a segment's file name: `Ok(None)` if the file is none of ours, an error if it
/// pretends to be.
pub(super) fn parse_name(dir: &Path, name: &str) -> Result<Option<Lsn>, LogError> {
    let Some(stem) = name.strip_suffix(SUFFIX) else {
        return Ok(None);
    };
    match stem.parse() {
        Ok(lsn) if segment_path(dir, lsn).ends_with(name) => Ok(Some(lsn)),
        _ => Err(LogError::corrupt(&dir.join(name), 0, "not the name of a segment")),
    }
}

pub(super) fn encode_header(first_lsn: Lsn) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&first_lsn.to_le_bytes());
    let crc = checksum(&bytes);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The first LSN that a sound header names, else what is wrong with the header.
pub(super) fn decode_header(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<Lsn, String> {
    match decode_version(bytes) {
        Some(VERSION) if marks(bytes) == [0, 0] => Ok(u64_at(bytes, 16)),
        Some(VERSION) => Err(format!("segment with the unknown marks {:x?}", marks(bytes))),
        Some(other) => Err(format!("segment of version {other}, {VERSION} is known")),
        None => Err("not a segment header".to_owned()),
    }
}

/// The version that a sound header names.
fn decode_version(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Option<u32> {
    (bytes[..8] == MAGIC && u32_at(bytes, 24) == checksum(bytes)).then(|| u32_at(bytes, 8))
}

/// What is reserved: 0, as long as no later version says something there.
fn marks(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> [u32; 2] {
    [u32_at(bytes, 12), u32_at(bytes, 28)]
}

/// What is wrong with the segment's version, if its header is sound and names another one.
pub(super) fn other_version(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Option<String> {
    decode_version(bytes).and_then(|_| decode_header(bytes).err())
}

fn checksum(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..24]);
    hasher.update(&bytes[28..]);
    hasher.finalize()
}

/// Creates a file of `len` written and synced zeros, in place of one of that name. `Ok(None)` if it
/// was told to stop meanwhile. If it fails, what was written is removed: on a full disk the
/// rubbish would keep the disk full.
pub(super) fn create_zeroed(
    disk: &dyn Disk,
    path: &Path,
    len: u64,
    stop: &AtomicBool,
) -> Result<Option<Arc<dyn DiskFile>>, LogError> {
    remove_if_there(disk, path)?;
    let file = disk.open(path, OpenMode::CreateNew).map_err(LogError::io("create", path))?;
    match fill_zeros(&*file, path, 0, len, stop) {
        Ok(whole) => Ok(whole.then_some(file)),
        Err(error) => {
            // The first error counts. What can not be removed now is removed by the next attempt.
            drop(remove_if_there(disk, path));
            Err(error)
        }
    }
}

/// Writes zeros from `from` to `to` and syncs them. False if it was told to stop meanwhile.
pub(super) fn fill_zeros(
    file: &dyn DiskFile,
    path: &Path,
    from: u64,
    to: u64,
    stop: &AtomicBool,
) -> Result<bool, LogError> {
    let zeros = vec![0; ZERO_CHUNK_BYTES];
    let (mut at, mut synced) = (from, from);
    while at < to {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let chunk = (to - at).min(ZERO_CHUNK_BYTES as u64);
        file.write_all_at(at, &zeros[..chunk as usize]).map_err(LogError::io("write", path))?;
        at += chunk;
        if at - synced >= ZERO_SYNC_BYTES {
            file.sync_data().map_err(LogError::io("sync", path))?;
            synced = at;
        }
    }
    file.sync_data().map_err(LogError::io("sync", path))?;
    Ok(true)
}

pub(super) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    match disk.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(LogError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let header = encode_header(77);
        assert_eq!(decode_header(&header), Ok(77));
        for byte in 0..header.len() {
            for bit in 0..8 {
                let mut flipped = header;
                flipped[byte] ^= 1 << bit;
                assert!(decode_header(&flipped).is_err(), "byte {byte}, bit {bit}");
            }
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let dir = Path::new("j");
        let path = segment_path(dir, 42);
        assert_eq!(path, Path::new("j/00000000000000000042.seg"));
        assert!(matches!(parse_name(dir, "00000000000000000042.seg"), Ok(Some(42))));
        assert!(matches!(parse_name(dir, "README"), Ok(None)));
        for wrong in ["42.seg", "+0000000000000000042.seg", "x.seg", ".seg"] {
            assert!(parse_name(dir, wrong).is_err(), "{wrong}");
        }
    }
}
