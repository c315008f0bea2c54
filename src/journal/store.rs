//! The seam below group commit: a log that takes batches of bytes.

use super::batch::BATCH_BODY_MAX;
use super::{LogError, Lsn};

/// One log. It takes whole batches, one at a time; gathering frames into batches, waking waiters
/// and deciding when to sync stay above it. An error of any method is final: every later call
/// answers [`LogError::Broken`].
pub trait LogStore: Send + 'static {
    /// Writes one batch of encoded frames. It has reached the kernel then, not the disk. `first_lsn`
    /// must be the LSN right after the last one, else nothing is written.
    ///
    /// # Errors
    /// [`LogError::OutOfOrder`], [`LogError::BatchSize`], [`LogError::Io`], [`LogError::Broken`].
    fn append(&mut self, first_lsn: Lsn, frames: u32, epoch: u32, body: &[u8]) -> Result<(), LogError>;

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// [`LogError::Io`], [`LogError::Broken`]; what was not durable before may or may not be.
    fn sync(&mut self) -> Result<(), LogError>;

    /// Drops what is no longer needed: whole segments whose every frame is at or below `upto`, never
    /// the one that is written to. Frames above `upto` stay.
    ///
    /// A segment that the system refuses to remove is no error: it stays, with all later ones, and the
    /// next call tries again. Whoever wants to know looks at the disk.
    ///
    /// # Errors
    /// [`LogError::Io`] if what was removed could not be made durable, [`LogError::Broken`].
    fn trim(&mut self, upto: Lsn) -> Result<(), LogError>;
}

/// What opening a log found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// New frames go on after this LSN: the last one in the log, or `after` if the log ends before.
    pub last_lsn: Lsn,
    /// The highest epoch in the log, 0 if there is no frame. The next writer has to use a higher one.
    pub last_epoch: u32,
    /// Bytes that were cut off the end, from the first torn or lost batch to the last byte written. No
    /// sync had covered any of them.
    pub cut_bytes: u64,
    /// How many frames were visited.
    pub frames: u64,
}

/// What every log refuses before it writes.
pub(super) fn check_batch(next_lsn: Lsn, first_lsn: Lsn, frames: u32, body: &[u8]) -> Result<(), LogError> {
    if first_lsn != next_lsn {
        return Err(LogError::OutOfOrder { expected: next_lsn, got: first_lsn });
    }
    if frames == 0 || body.is_empty() || body.len() > BATCH_BODY_MAX {
        return Err(LogError::BatchSize { bytes: body.len(), frames });
    }
    Ok(())
}
