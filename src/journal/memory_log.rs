//! A log in memory, for tests of what stands above it: it can lose what was not synced.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batch::{BATCH_HEADER_BYTES, BatchHeader, encode_batch};
use super::replay::Replay;
use super::store::check_batch;
use super::{Frame, LogError, LogStore, Lsn, Recovered};

/// Where a [`MemoryLog`] keeps its batches. Clones share them, so that a test can take the medium
/// through a crash and open the log on it again.
#[derive(Debug, Clone, Default)]
pub struct MemoryMedium {
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    /// Encoded as in a file, each a segment of its own when it comes to trimming.
    batches: Vec<StoredBatch>,
    /// How many of them survive a crash.
    synced: usize,
}

#[derive(Debug)]
struct StoredBatch {
    first_lsn: Lsn,
    frames: u32,
    bytes: Vec<u8>,
}

impl StoredBatch {
    /// Its header and its frames, if it is whole.
    fn decode(&self) -> Option<(BatchHeader, &[u8])> {
        let (header, body) = self.bytes.split_first_chunk::<BATCH_HEADER_BYTES>()?;
        let header = BatchHeader::parse(header)?;
        (header.matches(body) && header.foreign(0).is_ok()).then_some((header, body))
    }
}

impl MemoryMedium {
    /// An empty medium.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses every batch that was not synced, as a power loss would.
    pub fn crash(&self) {
        let mut content = self.content();
        let synced = content.synced;
        content.batches.truncate(synced);
    }

    /// Makes the batch that begins with this frame unreadable.
    #[cfg(test)]
    pub(super) fn lose(&self, first_lsn: Lsn) {
        let mut content = self.content();
        let batch = content.batches.iter_mut().find(|batch| batch.first_lsn == first_lsn).unwrap();
        batch.bytes.fill(0);
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log on a [`MemoryMedium`].
#[derive(Debug)]
pub struct MemoryLog {
    medium: MemoryMedium,
    next_lsn: Lsn,
    synced: Lsn,
}

impl MemoryLog {
    /// Reads back what the medium holds, shows the frames past `after` in order, and goes on after
    /// the last one. What is invalid is cut, with everything behind it, if no sync had covered it.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if frames are missing that were synced, or the first past `after`, and whatever `visit` answers.
    pub fn open(
        medium: &MemoryMedium,
        after: Lsn,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), LogError>,
    ) -> Result<(Self, Recovered), LogError> {
        let place = Path::new("(memory)");
        let mut content = medium.content();
        let mut replay = Replay::new(after, visit);
        let mut kept = content.batches.len();
        for (index, batch) in content.batches.iter().enumerate() {
            if index == 0 {
                replay.segment(batch.first_lsn, place)?;
            }
            let Some((header, body)) = batch.decode() else {
                kept = index;
                break;
            };
            replay.batch(&header, body, place, index as u64)?;
        }
        let tail = content.batches.get(kept..).unwrap_or_default();
        if tail.iter().filter_map(StoredBatch::decode).any(|(header, _)| header.forbids_cut(replay.next_lsn())) {
            return Err(LogError::corrupt(place, kept as u64, "not a batch, but it was synced before a later one"));
        }
        let cut_bytes = tail.iter().map(|batch| batch.bytes.len() as u64).sum();
        content.batches.truncate(kept);
        if replay.next_lsn() <= after {
            content.batches.clear();
        }
        content.synced = content.batches.len();
        let last_lsn = after.max(replay.next_lsn() - 1);
        let recovered = Recovered { last_lsn, last_epoch: replay.last_epoch(), cut_bytes, frames: replay.frames() };
        drop(content);
        let log = Self { medium: medium.clone(), next_lsn: last_lsn + 1, synced: last_lsn };
        Ok((log, recovered))
    }
}

impl LogStore for MemoryLog {
    fn append(&mut self, first_lsn: Lsn, frames: u32, epoch: u32, body: &[u8]) -> Result<(), LogError> {
        check_batch(self.next_lsn, first_lsn, frames, body)?;
        let mut bytes = Vec::new();
        encode_batch(&mut bytes, first_lsn, frames, epoch, self.synced, body);
        self.medium.content().batches.push(StoredBatch { first_lsn, frames, bytes });
        self.next_lsn += Lsn::from(frames);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        let mut content = self.medium.content();
        content.synced = content.batches.len();
        self.synced = self.next_lsn - 1;
        Ok(())
    }

    fn trim(&mut self, upto: Lsn) -> Result<(), LogError> {
        let mut content = self.medium.content();
        let current = content.batches.len().saturating_sub(1);
        let gone = content.batches[..current]
            .iter()
            .take_while(|batch| batch.first_lsn + Lsn::from(batch.frames) - 1 <= upto)
            .count();
        content.batches.drain(..gone);
        content.synced = content.synced.saturating_sub(gone);
        Ok(())
    }
}
