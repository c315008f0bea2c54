//! The walk of a snapshot, in steps: which row is wanted next, what stands in which chunk, and when the file may be
//! published. Who asks the entities, and who waits for the journal, is somebody else: the engine does it beside its
//! traffic, a simulator step by step.
//!
//! The journal is tapped first. Then row after row is read, each at its own time; the tap's events bring all rows to
//! the walk's end.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::chunks::{self, CHUNK_BYTES, CHUNK_ROWS, chunk};
use crate::disk::Disk;
use crate::domain::{Millis, OrderId, OrderShard, SHARDS};
use crate::journal::{Flush, Journal, Lsn, decode_frames};
use crate::planted::{Fault, planted};
use crate::snapshot::{PublishedSnapshot, SnapshotError, SnapshotWriter, list_snapshots, retain};

/// Snapshots that are kept. The older one is what a damaged newer one falls back to.
const KEPT: usize = 2;

/// Kind and payload.
pub type Chunk = (u8, Vec<u8>);

/// What the walk wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The row of an account: [`Walk::account`].
    Account(u32),
    /// The row of a store: [`Walk::store`].
    Store(u32),
    /// The ids of the orders that a shard has in memory: [`Walk::ids`].
    Ids(usize),
    /// Rows of orders of a shard, as [`encode_orders`] gives them: [`Walk::orders`].
    Orders(usize, Vec<OrderId>),
    /// Nothing: it is through.
    Nothing,
}

/// Where a walk is.
#[derive(Debug)]
pub struct Walk {
    accounts: std::ops::Range<u32>,
    stores: std::ops::Range<u32>,
    shard: usize,
    /// Of the shard that it is at; none before they were asked for.
    ids: Option<Vec<OrderId>>,
    chunk: Vec<u8>,
    rows: u64,
    orders_at_once: usize,
}

impl Walk {
    /// A walk over the accounts and stores below these numbers, and all orders. The journal must be tapped already: who
    /// comes later is in the tap. A chunk holds few of orders that may have more than a thousand lines, so that it
    /// stays far below what a reader takes.
    pub fn new(accounts_end: u32, stores_end: u32, order_lines_max: usize) -> Self {
        Walk {
            accounts: 1..accounts_end.max(1),
            stores: 1..stores_end.max(1),
            shard: 0,
            ids: None,
            chunk: Vec::new(),
            rows: 0,
            orders_at_once: if order_lines_max > 1_000 { 16 } else { CHUNK_ROWS / 2 },
        }
    }

    /// What is wanted next. Asking changes nothing but for orders, which are wanted once.
    pub fn wanted(&mut self) -> Wanted {
        if !self.accounts.is_empty() {
            return Wanted::Account(self.accounts.start);
        }
        if !self.stores.is_empty() {
            return Wanted::Store(self.stores.start);
        }
        loop {
            match &mut self.ids {
                None if self.shard == SHARDS => return Wanted::Nothing,
                None => return Wanted::Ids(self.shard),
                Some(ids) if ids.is_empty() => {
                    self.shard += 1;
                    self.ids = None;
                }
                Some(ids) => {
                    let some = ids.drain(..ids.len().min(self.orders_at_once)).collect();
                    return Wanted::Orders(self.shard, some);
                }
            }
        }
    }

    /// The row of the account that was wanted, if it exists; perhaps a chunk is full.
    pub fn account(&mut self, name: Option<&str>, row: Option<Box<[u8]>>) -> Option<Chunk> {
        let number = self.accounts.next()?;
        self.put(name, row);
        let full = (number as usize).is_multiple_of(CHUNK_ROWS) || self.chunk.len() >= CHUNK_BYTES;
        self.take(chunk::ACCOUNTS, full || self.accounts.is_empty())
    }

    /// The row of the store that was wanted, if it exists. Each is a chunk.
    pub fn store(&mut self, name: Option<&str>, row: Option<Box<[u8]>>) -> Option<Chunk> {
        self.stores.next()?;
        self.put(name, row);
        self.take(chunk::STORES, true)
    }

    /// The ids that were wanted. Orders placed from now on are in the tap.
    pub fn ids(&mut self, mut ids: Vec<OrderId>) {
        // So that a walk can be repeated exactly.
        ids.sort_unstable();
        self.rows += ids.len() as u64;
        self.ids = Some(ids);
    }

    /// The rows that were wanted.
    pub fn orders(&mut self, rows: Vec<u8>) -> Option<Chunk> {
        (!rows.is_empty()).then_some((chunk::ORDERS, rows))
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn put(&mut self, name: Option<&str>, row: Option<Box<[u8]>>) {
        if let Some(row) = row {
            chunks::put_named(&mut self.chunk, name, row);
            self.rows += 1;
        }
    }

    fn take(&mut self, kind: u8, full: bool) -> Option<Chunk> {
        (full && !self.chunk.is_empty()).then(|| (kind, std::mem::take(&mut self.chunk)))
    }
}

/// The orders that a shard has in memory.
pub fn ids_of(shard: &OrderShard) -> Vec<OrderId> {
    shard.orders.keys().copied().collect()
}

/// The rows of orders, but of those that have left memory.
pub fn encode_orders(shard: &OrderShard, ids: &[OrderId]) -> Vec<u8> {
    let mut chunk = Vec::new();
    for id in ids {
        if let Some(order) = shard.orders.get(id) {
            chunks::put_order(&mut chunk, *id, order);
        }
    }
    chunk
}

/// Why a snapshot could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The file of a walk while it is written.
#[derive(Debug)]
pub struct Writing {
    writer: SnapshotWriter,
    /// The newest event in it, or the one before the walk.
    last: Lsn,
    /// Asked for when the walk was through, and again when the tap was closed.
    flush: Option<Flush>,
    /// Nothing more comes from the tap.
    sealed: bool,
}

impl Writing {
    /// Begins the file of a walk for which the journal was tapped after `start_lsn`.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn begin(disk: Arc<dyn Disk>, dir: &Path, start_lsn: Lsn, epoch: u32, now: Millis) -> Result<Self, WriteError> {
        let mut writer = SnapshotWriter::create(disk, dir, start_lsn)?;
        writer.chunk(chunk::HEADER, &chunks::header(epoch, now))?;
        Ok(Writing { writer, last: start_lsn, flush: None, sealed: false })
    }

    /// Writes a chunk of the walk.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn chunk(&mut self, kind: u8, payload: &[u8]) -> Result<(), WriteError> {
        Ok(self.writer.chunk(kind, payload)?)
    }

    /// Writes what the tap has sent.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn events(&mut self, tap: &Receiver<Vec<u8>>) -> Result<(), WriteError> {
        loop {
            let frames = match tap.try_recv() {
                Ok(frames) => frames,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(()),
            };
            for frame in decode_frames(&frames) {
                let frame = frame.map_err(|error| WriteError::Other(error.to_string()))?;
                self.last = self.last.max(frame.lsn);
            }
            if !planted(Fault::SnapshotWithoutEvents) {
                self.writer.chunk(chunk::EVENTS, &frames)?;
            }
        }
    }

    /// The walk is through: from here on the journal has to become durable past it.
    pub fn walked(&mut self, journal: &Journal) {
        self.flush = Some(journal.request_flush());
    }

    /// Whether the snapshot may be published: the journal is synced past the walk, and past all that the tap has sent
    /// until then. With `--durability buffered` the tap is ahead of the sync, and a snapshot past the end of the journal
    /// would let go of what the older one needs. To be asked again after each flush of the journal.
    ///
    /// # Errors
    /// [`WriteError`] if it never will be.
    pub fn is_ready(&mut self, journal: &Journal, tap: &Receiver<Vec<u8>>) -> Result<bool, WriteError> {
        if !self.is_flushed(journal)? {
            return Ok(false);
        }
        if !self.sealed {
            journal.untap();
            self.events(tap)?;
            self.flush = Some(journal.request_flush());
            self.sealed = true;
        }
        self.is_flushed(journal)
    }

    fn is_flushed(&self, journal: &Journal) -> Result<bool, WriteError> {
        match &self.flush {
            None => Ok(false),
            Some(_) if planted(Fault::SnapshotBeforeSync) => Ok(true),
            Some(flush) => journal.is_flushed(flush).map_err(|error| WriteError::Other(error.to_string())),
        }
    }

    /// Publishes it; gives the LSN that it stands for, too. `written`: rows at rest so far, for whatever is not in this
    /// file was written there by now.
    ///
    /// # Errors
    /// [`WriteError`], also if it is not ready. Nothing was published then, but see [`SnapshotWriter::publish`].
    pub fn publish(mut self, journal: &Journal, written: u64) -> Result<(PublishedSnapshot, Lsn), WriteError> {
        if !self.sealed || !self.is_flushed(journal)? {
            return Err(WriteError::Other("the walk was cut short, or the journal is behind it".into()));
        }
        self.writer.chunk(chunk::AT_REST, &chunks::at_rest(written))?;
        Ok((self.writer.publish(&[], self.last)?, self.last))
    }
}

/// Keeps two snapshots, and lets go of the segments that the older one does not need. Gives the LSN that both hold, if
/// there are two.
///
/// # Errors
/// [`SnapshotError`]: what is too much is still there.
pub fn clean_up(disk: &dyn Disk, dir: &Path, journal: &Journal, newest: Lsn) -> Result<Option<Lsn>, SnapshotError> {
    retain(disk, dir, KEPT)?;
    let kept = list_snapshots(disk, dir)?;
    let Some((older, _)) = kept.iter().find(|(lsn, _)| *lsn < newest) else {
        return Ok(None);
    };
    journal.trim(if planted(Fault::SegmentDroppedEarly) { newest } else { *older });
    Ok(Some(*older))
}
