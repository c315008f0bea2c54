//! The frame: one record of the journal, also found inside snapshot files.
//!
//! ```text
//! offset  0  crc32     over bytes 4..24 and the payload
//!         4  len       u32, bytes of the payload
//!         8  lsn       u64
//!        16  epoch     u32, which open of the log wrote it
//!        20  kind      u8
//!        21  version   u8
//!        22  reserved  u16, 0
//!        24  payload
//! ```
//! All numbers are little endian.

use super::Lsn;

/// Bytes in front of each payload.
pub const FRAME_HEADER_BYTES: usize = 24;

/// The longest payload of a frame, in bytes. Readers check it before they believe a length.
pub const FRAME_PAYLOAD_MAX: usize = 4 * 1024 * 1024;

/// One record. The journal knows its place and gives it back; kind, version and payload are the
/// caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its number in the log.
    pub lsn: Lsn,
    /// Which open of the log wrote it.
    pub epoch: u32,
    /// What the payload is; the caller's.
    pub kind: u8,
    /// In which version it is encoded; the caller's.
    pub version: u8,
    /// The record itself.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes it takes when encoded.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload.len()
    }
}

/// Bytes that should be a frame are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no valid frame at byte {offset}: {why}")]
pub struct FrameError {
    /// Where in the decoded bytes the frame begins.
    pub offset: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Appends the encoded frame to `out`. The payload must not exceed [`FRAME_PAYLOAD_MAX`], else no
/// reader will take it.
pub fn encode_frame(out: &mut Vec<u8>, frame: &Frame<'_>) {
    debug_assert!(frame.payload.len() <= FRAME_PAYLOAD_MAX);
    let start = out.len();
    out.reserve(frame.encoded_len());
    out.extend_from_slice(&[0; 4]);
    // The length fits: the payload is bounded far below.
    out.extend_from_slice(&(frame.payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&frame.lsn.to_le_bytes());
    out.extend_from_slice(&frame.epoch.to_le_bytes());
    out.extend_from_slice(&[frame.kind, frame.version, 0, 0]);
    out.extend_from_slice(frame.payload);
    let crc = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The frames in `bytes`, which must hold nothing else. Ends after the first error.
#[must_use]
pub fn decode_frames(bytes: &[u8]) -> Frames<'_> {
    Frames { bytes, offset: 0 }
}

/// Iterates over encoded frames; see [`decode_frames`].
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Frames<'_> {
    /// Where in the bytes the next frame begins.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.offset..];
        if rest.is_empty() {
            return None;
        }
        match decode_one(rest) {
            Ok(frame) => {
                self.offset += frame.encoded_len();
                Some(Ok(frame))
            }
            Err(why) => {
                let offset = self.offset;
                self.offset = self.bytes.len();
                Some(Err(FrameError { offset, why }))
            }
        }
    }
}

fn decode_one(bytes: &[u8]) -> Result<Frame<'_>, &'static str> {
    if bytes.len() < FRAME_HEADER_BYTES {
        return Err("shorter than a frame header");
    }
    let len = u32_at(bytes, 4) as usize;
    if len > FRAME_PAYLOAD_MAX {
        return Err("longer than a frame may be");
    }
    let Some(payload) = bytes.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + len) else {
        return Err("longer than what is there");
    };
    if crc32fast::hash(&bytes[4..FRAME_HEADER_BYTES + len]) != u32_at(bytes, 0) {
        return Err("wrong checksum");
    }
    if bytes[22..24] != [0, 0] {
        return Err("written by a newer version");
    }
    Ok(Frame { lsn: u64_at(bytes, 8), epoch: u32_at(bytes, 16), kind: bytes[20], version: bytes[21], payload })
}

/// How many bytes and frames of `body`, a run of frames that this process encoded itself, fit into
/// `bytes_max`. The first frame always counts, so that a caller makes progress.
pub(super) fn frames_within(body: &[u8], bytes_max: usize) -> (usize, u32) {
    let (mut bytes, mut frames) = (0, 0);
    while bytes < body.len() {
        let next = FRAME_HEADER_BYTES + u32_at(body, bytes + 4) as usize;
        if frames > 0 && bytes + next > bytes_max {
            break;
        }
        bytes += next;
        frames += 1;
    }
    (bytes, frames)
}

/// The part of `body`, a run of frames that this process encoded itself and that begins with
/// `first_lsn`, whose frames come after `after`.
pub(super) fn frames_after(body: &[u8], first_lsn: Lsn, after: Lsn) -> &[u8] {
    let mut offset = 0;
    for _ in first_lsn..=after {
        if offset >= body.len() {
            break;
        }
        offset += FRAME_HEADER_BYTES + u32_at(body, offset + 4) as usize;
    }
    &body[offset..]
}

/// The little-endian number at `at`, which must lie inside.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

/// The little-endian number at `at`, which must lie inside.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(lsn: Lsn, payload: &[u8]) -> Frame<'_> {
        Frame { lsn, epoch: 3, kind: 7, version: 1, payload }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            frames in prop::collection::vec(
                (any::<u64>(), any::<u32>(), any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)),
                0..20,
            )
        ) {
            let frames: Vec<_> = frames
                .iter()
                .map(|(lsn, epoch, kind, version, payload)| Frame {
                    lsn: *lsn, epoch: *epoch, kind: *kind, version: *version, payload,
                })
                .collect();
            let mut bytes = Vec::new();
            for frame in &frames {
                encode_frame(&mut bytes, frame);
            }
            let decoded: Result<Vec<_>, _> = decode_frames(&bytes).collect();
            prop_assert_eq!(decoded, Ok(frames));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode_frames(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, &frame(9, b"payload"));
        for byte in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[byte] ^= 1 << bit;
                let first = decode_frames(&flipped).next().unwrap();
                assert!(first.is_err(), "byte {byte}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_cut_frame_is_an_error_at_its_offset_and_ends_the_run() {
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, &frame(1, b"one"));
        let second = bytes.len();
        encode_frame(&mut bytes, &frame(2, b"two"));
        for end in second + 1..bytes.len() {
            let mut frames = decode_frames(&bytes[..end]);
            assert_eq!(frames.next(), Some(Ok(frame(1, b"one"))));
            assert_eq!(frames.next().unwrap().unwrap_err().offset, second);
            assert_eq!(frames.next(), None);
        }
    }

    #[test]
    fn runs_are_split_at_frame_boundaries() {
        let mut bytes = Vec::new();
        for lsn in 1..=4 {
            encode_frame(&mut bytes, &frame(lsn, &[0; 6]));
        }
        assert_eq!(frames_within(&bytes, 120), (120, 4));
        assert_eq!(frames_within(&bytes, 119), (90, 3));
        assert_eq!(frames_within(&bytes, 1), (30, 1));
        assert_eq!(frames_after(&bytes, 1, 0).len(), 120);
        assert_eq!(frames_after(&bytes, 1, 3).len(), 30);
        assert_eq!(frames_after(&bytes, 1, 9).len(), 0);
        assert_eq!(frames_after(&bytes, 5, 3).len(), 120);
    }
}
