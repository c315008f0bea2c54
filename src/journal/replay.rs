//! What every log checks while it is read back: nothing missing, nothing doubled, nothing altered.

use std::path::Path;

use super::batch::{BATCH_HEADER_BYTES, BatchHeader};
use super::frame::{Frame, decode_frames};
use super::{LogError, Lsn};

/// Takes the batches of a log in order, checks them and shows the frames past `after` to the caller.
pub(super) struct Replay<'v> {
    after: Lsn,
    /// The LSN that must come next; `None` before the first segment.
    expected: Option<Lsn>,
    last_epoch: u32,
    frames: u64,
    visit: &'v mut dyn FnMut(Frame<'_>) -> Result<(), LogError>,
}

impl<'v> Replay<'v> {
    pub(super) fn new(after: Lsn, visit: &'v mut dyn FnMut(Frame<'_>) -> Result<(), LogError>) -> Self {
        Self { after, expected: None, last_epoch: 0, frames: 0, visit }
    }

    /// A segment that begins with `first_lsn` follows.
    pub(super) fn segment(&mut self, first_lsn: Lsn, file: &Path) -> Result<(), LogError> {
        match self.expected {
            None if first_lsn == 0 => Err(LogError::corrupt(file, 0, "there is no frame 0")),
            None if first_lsn > self.after + 1 => Err(LogError::corrupt(
                file,
                0,
                format!("the journal begins with frame {first_lsn}, but frame {} is needed", self.after + 1),
            )),
            Some(expected) if first_lsn != expected => Err(LogError::corrupt(
                file,
                0,
                format!("begins with frame {first_lsn}, but frame {expected} comes next"),
            )),
            _ => {
                self.expected = Some(first_lsn);
                Ok(())
            }
        }
    }

    /// A batch whose checksum is right follows; it begins at `offset` of `file`.
    pub(super) fn batch(
        &mut self,
        header: &BatchHeader,
        body: &[u8],
        file: &Path,
        offset: u64,
    ) -> Result<(), LogError> {
        if header.epoch < self.last_epoch {
            return Err(LogError::corrupt(
                file,
                offset,
                format!("epoch {} comes after {}", header.epoch, self.last_epoch),
            ));
        }
        self.last_epoch = header.epoch;
        let mut found = 0;
        let mut frames = decode_frames(body);
        loop {
            let at = offset + (BATCH_HEADER_BYTES + frames.offset()) as u64;
            let Some(frame) = frames.next() else { break };
            let frame = frame.map_err(|error| LogError::corrupt(file, at, error.why))?;
            let expected = self.expected.unwrap_or(header.first_lsn);
            if frame.lsn != expected || (found == 0 && header.first_lsn != expected) {
                return Err(LogError::corrupt(file, at, format!("frame {} stands where {expected} should", frame.lsn)));
            }
            if frame.epoch != header.epoch {
                return Err(LogError::corrupt(file, at, "not of its batch's epoch"));
            }
            self.expected = Some(expected + 1);
            found += 1;
            if frame.lsn > self.after {
                self.frames += 1;
                (self.visit)(frame)?;
            }
        }
        if found != header.frames {
            let why = format!("{found} frames in a batch of {}", header.frames);
            return Err(LogError::corrupt(file, offset, why));
        }
        Ok(())
    }

    /// The LSN that must come next.
    pub(super) fn next_lsn(&self) -> Lsn {
        self.expected.unwrap_or(self.after + 1)
    }

    pub(super) fn last_epoch(&self) -> u32 {
        self.last_epoch
    }

    /// How many frames were shown.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }
}
