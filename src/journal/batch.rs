//! The batch: what one write puts into the log, whole or not at all.
//!
//! ```text
//! offset  0  magic      u32
//!         4  body_len   u32, bytes of the frames that follow
//!         8  first_lsn  u64, of the first frame
//!        16  frames     u32, how many
//!        20  epoch      u32, of every one of them
//!        24  synced     u64, the LSN up to which the log was synced when this batch was written
//!        32  crc32      over bytes 0..32, 36..40 and the body
//!        36  reserved   u32, 0; anything else is a later version's
//!        40  body
//! ```
//! All numbers are little endian. `synced` is below `first_lsn`, and right below it if every batch is
//! synced before the next one is written. What it is good for is told in `scan`.

use super::frame::{u32_at, u64_at};
use super::{LogError, Lsn};

/// Bytes in front of the frames of a batch.
pub const BATCH_HEADER_BYTES: usize = 40;

/// The longest batch, header included, in bytes. A writer splits what is longer at a frame's end.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The most bytes of frames in one batch.
pub(super) const BATCH_BODY_MAX: usize = BATCH_BYTES_MAX - BATCH_HEADER_BYTES;

/// `BKJB`, as bytes in the file.
pub(super) const BATCH_MAGIC: [u8; 4] = *b"BKJB";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) body_len: u32,
    pub(super) first_lsn: Lsn,
    pub(super) frames: u32,
    pub(super) epoch: u32,
    pub(super) synced: Lsn,
    crc: u32,
    reserved: u32,
}

impl BatchHeader {
    /// Reads a header whose fields are plausible; whether it is true only the body can tell.
    pub(super) fn parse(bytes: &[u8; BATCH_HEADER_BYTES]) -> Option<Self> {
        let header = Self {
            body_len: u32_at(bytes, 4),
            first_lsn: u64_at(bytes, 8),
            frames: u32_at(bytes, 16),
            epoch: u32_at(bytes, 20),
            synced: u64_at(bytes, 24),
            crc: u32_at(bytes, 32),
            reserved: u32_at(bytes, 36),
        };
        let plausible = bytes[..4] == BATCH_MAGIC
            && header.body_len as usize <= BATCH_BODY_MAX
            && header.frames > 0
            && header.synced < header.first_lsn;
        plausible.then_some(header)
    }

    /// What is wrong with a batch whose checksum is right: a later version of this program says there something that
    /// this one does not know, so it is no damage.
    pub(super) fn foreign(&self, offset: u64) -> Result<(), LogError> {
        match self.reserved {
            0 => Ok(()),
            mark => Err(LogError::OtherVersion(format!("the batch at byte {offset} has the unknown mark {mark:#x}"))),
        }
    }

    /// Whether `body` is what the header was written for.
    pub(super) fn matches(&self, body: &[u8]) -> bool {
        self.body_len as usize == body.len() && checksum(&self.bytes(), body) == self.crc
    }

    /// Whether this batch, found behind an invalid stretch that begins where frame `hole` should, proves
    /// that no crash has made that stretch: the frame was synced already when this batch was written,
    /// or this batch does not belong behind it at all.
    pub(super) fn forbids_cut(&self, hole: Lsn) -> bool {
        self.synced >= hole || self.first_lsn <= hole
    }

    /// Bytes of the whole batch.
    pub(super) fn batch_len(&self) -> u64 {
        BATCH_HEADER_BYTES as u64 + u64::from(self.body_len)
    }

    /// As it stands in the file.
    pub(super) fn bytes(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        bytes[..4].copy_from_slice(&BATCH_MAGIC);
        bytes[4..8].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first_lsn.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.frames.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.synced.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.crc.to_le_bytes());
        bytes[36..].copy_from_slice(&self.reserved.to_le_bytes());
        bytes
    }
}

fn checksum(header: &[u8; BATCH_HEADER_BYTES], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..32]);
    hasher.update(&header[36..]);
    hasher.update(body);
    hasher.finalize()
}

/// Replaces `out` by the batch of these frames. The body must not exceed [`BATCH_BODY_MAX`], and
/// `synced` must be below `first_lsn`.
pub(super) fn encode_batch(out: &mut Vec<u8>, first_lsn: Lsn, frames: u32, epoch: u32, synced: Lsn, body: &[u8]) {
    debug_assert!(body.len() <= BATCH_BODY_MAX && synced < first_lsn);
    let body_len = body.len() as u32;
    let mut header = BatchHeader { body_len, first_lsn, frames, epoch, synced, crc: 0, reserved: 0 };
    header.crc = checksum(&header.bytes(), body);
    out.clear();
    out.extend_from_slice(&header.bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Option<(BatchHeader, &[u8])> {
        let header = BatchHeader::parse(bytes.first_chunk()?)?;
        let body = bytes.get(BATCH_HEADER_BYTES..header.batch_len() as usize)?;
        header.matches(body).then_some((header, body))
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            first_lsn in 1..u64::MAX,
            frames in 1..u32::MAX,
            epoch: u32,
            unsynced in 1..u64::MAX,
            body in prop::collection::vec(any::<u8>(), 0..500),
        ) {
            let mut bytes = vec![1, 2, 3];
            let synced = first_lsn.saturating_sub(unsynced);
            encode_batch(&mut bytes, first_lsn, frames, epoch, synced, &body);
            let (header, decoded) = decode(&bytes).unwrap();
            prop_assert_eq!(decoded, &body[..]);
            prop_assert_eq!((header.first_lsn, header.frames, header.epoch), (first_lsn, frames, epoch));
            prop_assert_eq!(header.synced, synced);
        }
    }

    #[test]
    fn a_later_batch_forbids_the_cut_of_what_was_synced_before_it() {
        let mut bytes = Vec::new();
        encode_batch(&mut bytes, 9, 1, 1, 5, b"x");
        let (header, _) = decode(&bytes).unwrap();
        assert!(header.forbids_cut(4) && header.forbids_cut(5));
        assert!(!header.forbids_cut(6) && !header.forbids_cut(8));
        assert!(header.forbids_cut(9), "the frames that are missing come before it");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        encode_batch(&mut bytes, 5, 2, 1, 3, b"two frames, say");
        assert!(decode(&bytes).is_some());
        for byte in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[byte] ^= 1 << bit;
                assert!(decode(&flipped).is_none(), "byte {byte}, bit {bit}");
            }
        }
    }
}
