//! The frame: one record of the journal, also found inside snapshot files.
//!
//! ```text
//! crc32    4 bytes, little endian, over everything behind it
//! len      number, bytes of the payload
//! kind     1 byte; 0x80 is added if the version is not 1
//! version  1 byte, only if it is not 1
//! epoch    number, which open of the log wrote it
//! lsn      number
//! payload
//! ```
//! For numbers see `varint`. There are several frames to an order, so what is in front of each has to be short.

use super::Lsn;
use crate::varint;

/// Bytes in front of a payload, at least.
pub const FRAME_HEADER_MIN_BYTES: usize = 8;

/// The highest kind.
pub const FRAME_KIND_MAX: u8 = VERSION_FOLLOWS - 1;

/// Stands in the byte of the kind.
const VERSION_FOLLOWS: u8 = 0x80;

/// The version that is not written down.
const COMMON_VERSION: u8 = 1;

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
    /// What the payload is, at most [`FRAME_KIND_MAX`]; the caller's.
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
        let numbers = [self.payload.len() as u64, u64::from(self.epoch), self.lsn];
        let version = usize::from(self.version != COMMON_VERSION);
        4 + 1 + version + numbers.into_iter().map(varint::len).sum::<usize>() + self.payload.len()
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
    debug_assert!(frame.kind <= FRAME_KIND_MAX);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    varint::put(out, frame.payload.len() as u64);
    match frame.version {
        COMMON_VERSION => out.push(frame.kind),
        version => out.extend_from_slice(&[frame.kind | VERSION_FOLLOWS, version]),
    }
    varint::put(out, u64::from(frame.epoch));
    varint::put(out, frame.lsn);
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
    let (frame, end) = outline(bytes)?;
    if crc32fast::hash(&bytes[4..end]) != u32_at(bytes, 0) {
        return Err("wrong checksum");
    }
    Ok(frame)
}

/// What may be a frame, and where it ends. Only its checksum can tell whether it is one.
pub(super) fn outline(bytes: &[u8]) -> Result<(Frame<'_>, usize), &'static str> {
    const SHORT: &str = "shorter than a frame header";
    let mut rest = bytes.get(4..).ok_or(SHORT)?;
    let len = varint::take(&mut rest).ok_or(SHORT)?;
    if len > FRAME_PAYLOAD_MAX as u64 {
        return Err("longer than a frame may be");
    }
    let mut byte = || {
        let (first, behind) = rest.split_first()?;
        rest = behind;
        Some(*first)
    };
    let kind = byte().ok_or(SHORT)?;
    let version = if kind & VERSION_FOLLOWS == 0 { COMMON_VERSION } else { byte().ok_or(SHORT)? };
    if kind & VERSION_FOLLOWS != 0 && version == COMMON_VERSION {
        return Err("its version need not be written");
    }
    let epoch = varint::take(&mut rest).ok_or(SHORT)?;
    let epoch = u32::try_from(epoch).map_err(|_| "its epoch is too high")?;
    let lsn = varint::take(&mut rest).ok_or(SHORT)?;
    let payload = rest.get(..len as usize).ok_or("longer than what is there")?;
    let end = bytes.len() - rest.len() + payload.len();
    Ok((Frame { lsn, epoch, kind: kind & FRAME_KIND_MAX, version, payload }, end))
}

/// Bytes of a run of frames that this process encoded itself, up to the end of the first.
fn first_len(body: &[u8]) -> usize {
    outline(body).map_or(body.len(), |(_, end)| end)
}

/// How many bytes and frames of `body`, a run of frames that this process encoded itself, fit into
/// `bytes_max`. The first frame always counts, so that a caller makes progress.
pub(super) fn frames_within(body: &[u8], bytes_max: usize) -> (usize, u32) {
    let (mut bytes, mut frames) = (0, 0);
    while bytes < body.len() {
        let next = first_len(&body[bytes..]);
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
        offset += first_len(&body[offset..]);
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
                (any::<u64>(), any::<u32>(), 0..=FRAME_KIND_MAX, any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)),
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
                let before = bytes.len();
                encode_frame(&mut bytes, frame);
                prop_assert_eq!(bytes.len() - before, frame.encoded_len());
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
        assert_eq!(frames_within(&bytes, 56), (56, 4));
        assert_eq!(frames_within(&bytes, 55), (42, 3));
        assert_eq!(frames_within(&bytes, 1), (14, 1));
        assert_eq!(frames_after(&bytes, 1, 0).len(), 56);
        assert_eq!(frames_after(&bytes, 1, 3).len(), 14);
        assert_eq!(frames_after(&bytes, 1, 9).len(), 0);
        assert_eq!(frames_after(&bytes, 5, 3).len(), 56);
    }

    /// The layout is promised: a change of it needs another version of the segment.
    #[test]
    fn the_bytes_of_a_frame() {
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, &Frame { lsn: 300, epoch: 2, kind: 65, version: 1, payload: b"pay" });
        assert_eq!(bytes[4..], [3, 65, 2, 0xac, 2, b'p', b'a', b'y']);
        assert_eq!(u32_at(&bytes, 0), crc32fast::hash(&bytes[4..]));
        bytes.clear();
        encode_frame(&mut bytes, &Frame { lsn: 1, epoch: 1, kind: 65, version: 7, payload: b"" });
        assert_eq!(bytes[4..], [0, 0x80 + 65, 7, 1, 1]);
    }
}
