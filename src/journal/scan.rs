//! Reading one segment back, and the rule for what may be cut off its end.
//!
//! A crash can tear or lose only what was not synced. That is always in the last segment, because a
//! segment is synced before the next one begins, and it is never longer than the longest batch,
//! because the log syncs before more piles up. In [`super::Durability::Sync`] it is one batch; in
//! [`super::Durability::Buffered`] it may be several, and a power loss may take any of them and leave
//! a later one whole. Each batch says how far the log was synced when it was written.
//!
//! So an invalid stretch is cut, with everything behind it, if and only if
//! - it is in the last segment,
//! - from its first to the last byte that is not zero it is no longer than the longest batch, and
//! - every valid batch behind it says that the frame at the hole was not synced yet.
//!
//! A segment's header is on the disk before the segment has its name. So a header that is not right is damage, also of a
//! last segment that is empty or all zeros: what was in it may have been acknowledged.
//!
//! Anything else was not done by a crash and is reported, not repaired. If every batch was synced
//! before the next one was written, one valid batch behind the hole is proof of damage.
//!
//! One thing cannot be told apart: a byte that flipped among the batches since the last sync that a
//! later batch knows of (in `Sync` the very last batch) looks like one that was torn. It is cut, and
//! [`super::Recovered::cut_bytes`] says so.

use std::path::Path;

use crate::disk::DiskFile;
use crate::planted::{Fault, planted};

use super::batch::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader};
use super::replay::Replay;
use super::segment::{SEGMENT_HEADER_BYTES, decode_header};
use super::{LogError, Lsn};

/// The tail is searched in windows of this size.
const WINDOW_BYTES: usize = 1024 * 1024;

/// One segment file to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) file: &'a dyn DiskFile,
    pub(super) path: &'a Path,
    /// From its name.
    pub(super) first_lsn: Lsn,
    /// Whether it is the last one, the only one that a crash can have torn.
    pub(super) last: bool,
}

/// What was found of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Where its valid batches end.
    pub(super) end: u64,
    /// Bytes behind them that no sync has covered.
    pub(super) cut_bytes: u64,
}

impl Segment<'_> {
    /// Reads the segment, shows its batches to `replay` and applies the rule to its tail.
    pub(super) fn scan(&self, replay: &mut Replay<'_>) -> Result<Scanned, LogError> {
        let len = self.file.len().map_err(LogError::io("measure", self.path))?;
        replay.segment(self.first_lsn, self.path)?;
        if let Err(why) = self.check_header(len)? {
            return Err(LogError::corrupt(self.path, 0, why));
        }
        let end = self.batches(len, replay)?;
        let tail = self.tail(end, len, replay.next_lsn())?;
        let Some(nonzero_end) = tail.nonzero_end else {
            return Ok(Scanned { end, cut_bytes: 0 });
        };
        let corrupt = |why: String| Err(LogError::corrupt(self.path, end, why));
        if let Some(at) = tail.proof {
            return corrupt(format!("no valid batch, but the one at byte {at} was written after it was synced"));
        }
        let cut_bytes = nonzero_end - end;
        if !self.last {
            return corrupt(format!("no valid batch, but {cut_bytes} bytes of content"));
        }
        if cut_bytes > BATCH_BYTES_MAX as u64 {
            return corrupt(format!("{cut_bytes} bytes are invalid, more than can have been unsynced"));
        }
        Ok(Scanned { end, cut_bytes })
    }

    /// What is wrong with the header of a file of this length, if anything is.
    pub(super) fn check_header(&self, len: u64) -> Result<Result<(), String>, LogError> {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        if len < bytes.len() as u64 {
            return Ok(Err("shorter than a segment header".to_owned()));
        }
        self.read(0, &mut bytes)?;
        Ok(match decode_header(&bytes) {
            Ok(lsn) if lsn == self.first_lsn => Ok(()),
            Ok(lsn) => Err(format!("the header says that frame {lsn} is the first")),
            Err(why) => Err(why),
        })
    }

    /// Shows the batches up to the first invalid one, and says where that begins.
    fn batches(&self, len: u64, replay: &mut Replay<'_>) -> Result<u64, LogError> {
        let mut at = SEGMENT_HEADER_BYTES as u64;
        let mut body = Vec::new();
        while let Some(header) = self.batch_at(at, len, &mut body)? {
            replay.batch(&header, &body, self.path, at)?;
            at += header.batch_len();
        }
        Ok(at)
    }

    /// The batch at `at`, its frames in `body`; `None` if there is no valid one.
    pub(super) fn batch_at(&self, at: u64, len: u64, body: &mut Vec<u8>) -> Result<Option<BatchHeader>, LogError> {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        if at + bytes.len() as u64 > len {
            return Ok(None);
        }
        self.read(at, &mut bytes)?;
        let Some(header) = BatchHeader::parse(&bytes) else {
            return Ok(None);
        };
        // The length is bounded by `parse`, and by the file, before anything is allocated.
        if at + header.batch_len() > len {
            return Ok(None);
        }
        body.resize(header.body_len as usize, 0);
        self.read(at + bytes.len() as u64, body)?;
        if !header.matches(body) {
            return Ok(None);
        }
        header.foreign(at).map(|()| Some(header))
    }

    /// Looks through everything from `from` on, where frame `hole` should begin.
    fn tail(&self, from: u64, len: u64, hole: Lsn) -> Result<Tail, LogError> {
        let mut tail = Tail { nonzero_end: None, proof: None };
        let mut window = Vec::new();
        let mut body = Vec::new();
        let mut at = from;
        while at < len {
            // Windows overlap, so that no magic number hides between two of them.
            let overlapping = (WINDOW_BYTES + BATCH_MAGIC.len() - 1) as u64;
            window.resize((len - at).min(overlapping) as usize, 0);
            self.read(at, &mut window)?;
            if let Some(last) = last_nonzero(&window) {
                tail.nonzero_end = Some(at + last as u64 + 1);
                for found in find_magic(&window) {
                    let candidate = at + found as u64;
                    let header = self.batch_at(candidate, len, &mut body)?;
                    // What looks like an older batch is part of a payload of the torn one.
                    let proves = header.is_some_and(|header| header.first_lsn >= hole && header.forbids_cut(hole));
                    if proves && !planted(Fault::HoleAccepted) {
                        tail.proof = Some(candidate);
                        return Ok(tail);
                    }
                }
            }
            at += WINDOW_BYTES as u64;
        }
        Ok(tail)
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> Result<(), LogError> {
        self.file.read_exact_at(at, buf).map_err(LogError::io("read", self.path))
    }
}

/// What follows the valid batches of a segment.
struct Tail {
    /// Where the last byte that is not zero ends.
    nonzero_end: Option<u64>,
    /// Where a valid batch begins that no crash can have left behind the hole.
    proof: Option<u64>,
}

/// Where the last byte that is not zero stands. Most of a segment is zeros, so blocks of them are passed over at once.
pub(super) fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    const BLOCK_BYTES: usize = 4096;
    static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    let mut end = bytes.len();
    while end >= BLOCK_BYTES && bytes[end - BLOCK_BYTES..end] == ZEROS {
        end -= BLOCK_BYTES;
    }
    bytes[..end].iter().rposition(|byte| *byte != 0)
}

fn find_magic(window: &[u8]) -> impl Iterator<Item = usize> {
    window.windows(BATCH_MAGIC.len()).enumerate().filter(|(_, bytes)| *bytes == BATCH_MAGIC).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::last_nonzero;

    #[test]
    fn the_last_byte_that_is_not_zero_is_found_wherever_it_is() {
        for len in [0, 1, 4095, 4096, 4097, 9000] {
            assert_eq!(last_nonzero(&vec![0; len]), None);
            for at in (0..len).step_by(61).chain(len.checked_sub(1)) {
                let mut bytes = vec![0; len];
                bytes[at] = 7;
                assert_eq!(last_nonzero(&bytes), Some(at), "of {len}");
                bytes[0] = 1;
                assert_eq!(last_nonzero(&bytes), Some(at), "of {len}");
            }
        }
    }
}
