//! The files of a data directory that is made, as a running engine leaves them: a snapshot, orders at rest, documents.

use std::path::Path;
use std::sync::Arc;

use super::rows::LoadError;
use crate::cold::{Documents, Orders};
use crate::disk::{Disk, RealDisk};
use crate::domain::{DocumentHash, Order, OrderId, OrderStatus};
use crate::engine::chunks::{self, CHUNK_BYTES, CHUNK_ROWS, chunk};
use crate::snapshot::SnapshotWriter;

/// redb's cache of each file: its indexes are written all over.
const CACHE_BYTES: usize = 256 << 20;

/// Orders at rest that share a commit.
const ORDERS_AT_ONCE: usize = 1 << 17;

/// Documents that share a commit.
const DOCUMENTS_AT_ONCE: usize = 4_096;
const DOCUMENT_BYTES_AT_ONCE: usize = 32 << 20;

/// The journal is empty: the snapshot stands before its first event.
const LSN: u64 = 0;
const EPOCH: u32 = 0;

pub(super) struct Output {
    writer: SnapshotWriter,
    documents: Documents,
    waiting: Vec<Vec<u8>>,
    waiting_bytes: usize,
    resting: Orders,
    resting_waiting: Vec<(OrderId, Order)>,
    pending: Rows,
}

/// Rows of one kind on their way into chunks.
pub(super) struct Rows {
    kind: u8,
    bytes: Vec<u8>,
    rows: usize,
}

impl Rows {
    pub(super) fn new(kind: u8) -> Self {
        Rows { kind, bytes: Vec::new(), rows: 0 }
    }

    pub(super) fn named(&mut self, name: &Arc<str>, row: Box<[u8]>) {
        chunks::put_named(&mut self.bytes, Some(name), row);
        self.rows += 1;
    }

    fn is_full(&self) -> bool {
        self.rows >= CHUNK_ROWS || self.bytes.len() >= CHUNK_BYTES
    }
}

impl Output {
    pub(super) fn create(dir: &Path, now_ms: u64) -> Result<Self, LoadError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let documents = Documents::open(disk.clone(), &dir.join("documents.redb"), CACHE_BYTES);
        let resting = Orders::open(&*disk, &dir.join("orders.redb"), CACHE_BYTES).map_err(LoadError::failed)?;
        let mut writer = SnapshotWriter::create(disk, dir, LSN).map_err(LoadError::failed)?;
        writer.chunk(chunk::HEADER, &chunks::header(EPOCH, now_ms)).map_err(LoadError::failed)?;
        Ok(Output {
            writer,
            documents: documents.map_err(LoadError::failed)?,
            waiting: Vec::new(),
            waiting_bytes: 0,
            resting,
            resting_waiting: Vec::new(),
            pending: Rows::new(chunk::ORDERS),
        })
    }

    /// Takes a book's document, or its pictures; it is durable when all is finished.
    pub(super) fn document(&mut self, document: Vec<u8>) -> Result<DocumentHash, LoadError> {
        let hash = DocumentHash::of(&document);
        self.waiting_bytes += document.len();
        self.waiting.push(document);
        if self.waiting.len() >= DOCUMENTS_AT_ONCE || self.waiting_bytes >= DOCUMENT_BYTES_AT_ONCE {
            self.put_documents()?;
        }
        Ok(hash)
    }

    fn put_documents(&mut self) -> Result<(), LoadError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.documents.put_all(&self.waiting).map_err(LoadError::failed)?;
        self.waiting.clear();
        self.waiting_bytes = 0;
        Ok(())
    }

    /// Takes an order: to rest, if it has no deadline.
    pub(super) fn order(&mut self, id: OrderId, order: Order) -> Result<(), LoadError> {
        if order.status != OrderStatus::Pending {
            self.resting_waiting.push((id, order));
            return if self.resting_waiting.len() >= ORDERS_AT_ONCE { self.put_orders() } else { Ok(()) };
        }
        chunks::put_order(&mut self.pending.bytes, id, &order);
        self.pending.rows += 1;
        if self.pending.is_full() {
            write(&mut self.writer, &mut self.pending)?;
        }
        Ok(())
    }

    fn put_orders(&mut self) -> Result<(), LoadError> {
        if self.resting_waiting.is_empty() {
            return Ok(());
        }
        let written = self.resting.write(&self.resting_waiting, LSN).map_err(LoadError::failed)?;
        if written.len() != self.resting_waiting.len() {
            return Err(LoadError::failed("an order could not be written to rest"));
        }
        self.resting_waiting.clear();
        Ok(())
    }

    /// Writes rows if there are enough for a chunk.
    pub(super) fn rows(&mut self, rows: &mut Rows) -> Result<(), LoadError> {
        if rows.is_full() { write(&mut self.writer, rows) } else { Ok(()) }
    }

    /// Writes the rows that are left of their kind.
    pub(super) fn last_rows(&mut self, mut rows: Rows) -> Result<(), LoadError> {
        write(&mut self.writer, &mut rows)
    }

    /// Makes all of it durable. Returns the bytes of the snapshot.
    pub(super) fn finish(mut self) -> Result<u64, LoadError> {
        self.put_documents()?;
        self.documents.close().map_err(LoadError::failed)?;
        self.put_orders()?;
        let at_rest = chunks::at_rest(self.resting.written());
        self.resting.close().map_err(LoadError::failed)?;
        write(&mut self.writer, &mut self.pending)?;
        self.writer.chunk(chunk::AT_REST, &at_rest).map_err(LoadError::failed)?;
        let published = self.writer.publish(&[], LSN).map_err(LoadError::failed)?;
        Ok(published.bytes)
    }
}

fn write(writer: &mut SnapshotWriter, rows: &mut Rows) -> Result<(), LoadError> {
    if rows.rows > 0 {
        writer.chunk(rows.kind, &rows.bytes).map_err(LoadError::failed)?;
        rows.bytes.clear();
        rows.rows = 0;
    }
    Ok(())
}
