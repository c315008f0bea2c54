//! The journal: bytes in, durable bytes out, in one order.
//!
//! # Layout
//! - `frame`: one record, with its number and checksum.
//! - `batch`: the frames of one write; whole on the disk or not there.
//! - `segment`: files of batches, written as zeros beforehand.
//! - `scan`, `replay`: reading back, and the rule for a torn end.
//! - `inspect`: one segment by itself, for tools.
//! - `copy`: segments of a log that goes on, for a backup.
//! - `salvage`: what is left of a damaged log, for the offline repair.
//! - `store`: [`LogStore`], the seam below group commit; `file_log` and `memory_log` implement it.
//! - `spare`: the next segment, prepared in the background.
//! - `handle`, `shared`, `commit`: [`Journal`], what its callers and its thread share, and the
//!   thread that writes and syncs everything that piled up while it wrote and synced before.
//!
//! # Promises
//! - LSNs are given in the order of `append` calls, without gaps; the log holds them in that order,
//!   so whatever a crash leaves is a prefix.
//! - The first failed write or sync ends the journal. Nothing is acknowledged after it, and nothing
//!   is synced a second time.
//! - [`Journal::halt`] ends it in the same way.
//! - Corruption is never repaired in silence: see `scan` for the one thing that is cut.
//!
//! In [`Durability::Buffered`] several batches may be unsynced at once. A power loss (not a crash of
//! the process) may then take one that another follows. Each batch says how far the log was synced
//! when it was written, so that such a hole can be told from damage: see `scan`.

mod batch;
mod commit;
mod copy;
mod error;
mod file_log;
mod frame;
mod handle;
mod inspect;
mod memory_log;
mod replay;
mod salvage;
mod scan;
mod segment;
mod shared;
mod spare;
mod store;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod ending_tests;
#[cfg(test)]
mod group_commit_tests;

pub use batch::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES};
pub use commit::{Stepped, Stepper};
pub use copy::{HeldSegment, hold_segments};
pub use error::{JournalFailed, LogError};
pub use file_log::{FileLog, FileLogOptions};
pub use frame::{
    FRAME_HEADER_MIN_BYTES, FRAME_KIND_MAX, FRAME_PAYLOAD_MAX, Frame, FrameError, Frames, decode_frames, encode_frame,
};
pub use handle::{Durability, Flush, Journal, JournalOptions, Observer};
pub use inspect::{SegmentSummary, expected_frames, foreign_header, foreign_segment, list_segments, read_segment};
pub use memory_log::{MemoryLog, MemoryMedium};
pub use salvage::{Chain, Change, Hole, Piece, Survey, survey};
pub use shared::JournalStats;
pub use spare::spare_bytes;
pub use store::{LogStore, Recovered};

/// The number of a frame in its log. The first frame is 1; 0 stands for "nothing yet".
pub type Lsn = u64;
