//! The journal's three files about threads, with what they need of the others.

#[path = "../../src/journal/commit.rs"]
mod commit;
#[path = "../../src/journal/handle.rs"]
mod handle;
#[path = "../../src/journal/shared.rs"]
mod shared;

/// As much of `src/journal/batch.rs` as the thread of the journal asks for.
mod batch {
    pub const BATCH_BYTES_MAX: usize = bookstore::internals::journal::BATCH_BYTES_MAX;
    pub const BATCH_BODY_MAX: usize = BATCH_BYTES_MAX - bookstore::internals::journal::BATCH_HEADER_BYTES;
}

/// As much of `src/journal/frame.rs`; the batches of these models are small.
mod frame {
    pub use bookstore::internals::journal::{FRAME_PAYLOAD_MAX, Frame, decode_frames, encode_frame};

    pub fn frames_within(_body: &[u8], _bytes_max: usize) -> (usize, u32) {
        unreachable!("a batch of these models is never too large")
    }

    pub fn frames_after(body: &[u8], _first_lsn: super::Lsn, after: super::Lsn) -> &[u8] {
        let mut passed = 0;
        for frame in decode_frames(body) {
            let frame = frame.unwrap();
            if frame.lsn > after {
                break;
            }
            passed += frame.encoded_len();
        }
        &body[passed..]
    }
}

pub use bookstore::internals::journal::{JournalFailed, LogError, LogStore, Lsn};
pub use frame::decode_frames;
pub use handle::{Durability, Journal, JournalOptions, Observer};
pub use shared::JournalStats;
