//! Snapshots: rows and events of one walk beside the traffic, loadable by itself.
//!
//! The walk first taps the journal, then reads row after row, each at its own time; the tap's events bring all rows
//! to the walk's end. It never stops the traffic: a row of a live entity is shown by its actor between two messages.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::chunks::{self, CHUNK_BYTES, CHUNK_ROWS, Part, chunk};
use super::image::Image;
use super::{Core, Engine, Error, Result, SnapshotReport, Storage};
use crate::cold::Orders;
use crate::disk::Disk;
use crate::domain::SHARDS;
use crate::journal::{Lsn, decode_frames};
use crate::snapshot::{SnapshotError, SnapshotSummary, SnapshotWriter, list_snapshots, read_snapshot, retain};

/// Snapshots that are kept. The older one is what a damaged newer one falls back to.
const KEPT: usize = 2;

/// Rest after each chunk, so that the walk takes about half of a core at most.
const PACE: Duration = Duration::from_millis(1);

/// What is known of snapshots in this process.
pub(super) struct Snapshots {
    /// One at a time; holds the LSN of the newest.
    pub(super) newest: tokio::sync::Mutex<Option<Lsn>>,
    /// When the newest was published and how long it took; the open, until then.
    last: Mutex<(Instant, Duration)>,
    /// Nothing is published any more; the lock is held while something is.
    stopped: Mutex<bool>,
    published: AtomicU64,
    failures: AtomicU64,
    /// The journal's bytes when the newest was taken.
    pub(super) journal_bytes: AtomicU64,
    /// Both kept snapshots hold everything up to this LSN.
    pub(super) both_hold: AtomicU64,
    epoch: u32,
}

impl Snapshots {
    pub(super) fn new(newest: Option<Lsn>, epoch: u32) -> Self {
        Snapshots {
            newest: tokio::sync::Mutex::new(newest),
            last: Mutex::new((Instant::now(), Duration::ZERO)),
            stopped: Mutex::new(false),
            published: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            journal_bytes: AtomicU64::new(0),
            both_hold: AtomicU64::new(0),
            epoch,
        }
    }

    fn last(&self) -> (Instant, Duration) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the newest was published.
    pub(super) fn age(&self) -> Duration {
        self.last().0.elapsed()
    }

    /// Publishes nothing any more; waits for what is being published.
    pub(super) fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    pub(super) fn took(&self) -> Duration {
        self.last().1
    }

    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Takes a snapshot now, beside the traffic. Of several calls at once each takes its own, one after the other. The
    /// engine takes them by itself; see [`Config::snapshot_interval`](crate::Config::snapshot_interval).
    ///
    /// # Errors
    /// [`Error::Draining`] if the engine is closing or closed; [`Error::Overloaded`] if the snapshot could not be
    /// written: the journal is whole, so nothing is lost and it may be tried again; [`Error::OutcomeUnknown`] if the
    /// engine has failed.
    ///
    /// # Cancellation
    /// The snapshot is taken all the same, only nobody hears of it.
    pub async fn snapshot(&self) -> Result<SnapshotReport> {
        if self.core.system.answers.is_draining() {
            return Err(Error::Draining);
        }
        self.core.take_snapshot(false).await.map(|report| report.unwrap_or_else(SnapshotReport::nothing))
    }
}

impl SnapshotReport {
    fn nothing() -> Self {
        SnapshotReport { path: None, bytes: 0, rows: 0, took: Duration::ZERO }
    }
}

impl Core {
    /// `only_if_changed`: `None` if nothing was journaled since the newest. In a task of its own: a caller who goes
    /// away must not leave a half-made one behind that the next one stumbles over.
    pub(super) async fn take_snapshot(self: &Arc<Self>, only_if_changed: bool) -> Result<Option<SnapshotReport>> {
        let core = self.clone();
        let task = self.system.runtime.spawn(async move { core.take_snapshot_alone(only_if_changed).await });
        task.await.unwrap_or_else(|_| Err(self.unknown()))
    }

    async fn take_snapshot_alone(self: Arc<Self>, only_if_changed: bool) -> Result<Option<SnapshotReport>> {
        let mut newest = self.snapshots.newest.lock().await;
        if self.system.answers.is_failed() {
            return Err(self.unknown());
        }
        if only_if_changed && *newest == Some(self.system.journal.head()) {
            return Ok(None);
        }
        let start = Instant::now();
        match self.write_snapshot().await {
            Ok((mut report, lsn)) => {
                *newest = Some(lsn);
                report.took = start.elapsed();
                let mut last = self.snapshots.last.lock().unwrap_or_else(PoisonError::into_inner);
                *last = (Instant::now(), report.took);
                self.snapshots.published.fetch_add(1, Ordering::Relaxed);
                Ok(Some(report))
            }
            Err(why) => {
                self.system.journal.untap();
                self.snapshots.failures.fetch_add(1, Ordering::Relaxed);
                if self.system.answers.is_failed() {
                    return Err(self.unknown());
                }
                tracing::error!(%why, "a snapshot failed; the journal is kept, so nothing is lost");
                Err(Error::Overloaded("the snapshot could not be written"))
            }
        }
    }

    async fn write_snapshot(self: &Arc<Self>) -> std::result::Result<(SnapshotReport, Lsn), String> {
        let bytes_at_start = self.system.journal.stats().bytes;
        let (sink, events) = channel();
        let start_lsn = self.system.journal.tap(sink);
        // Bounded, so that a slow disk slows the walk and not the memory.
        let (rows, chunks) = mpsc::channel::<(u8, Vec<u8>)>(4);
        let core = self.clone();
        let writer = tokio::task::spawn_blocking(move || core.write_chunks(start_lsn, chunks, &events));
        let walked = self.walk(&rows).await;
        drop(rows);
        let written = writer.await.map_err(|error| error.to_string())?;
        let (published, lsn) = written.map_err(|error| error.to_string())?;
        let count = walked?;
        self.snapshots.journal_bytes.store(bytes_at_start, Ordering::Relaxed);
        let path = (!matches!(self.config.storage, Storage::Memory)).then_some(published.path);
        Ok((SnapshotReport { path, bytes: published.bytes, rows: count, took: Duration::ZERO }, lsn))
    }

    /// Off the runtime: writes chunks as they come, with the tap's events between them.
    fn write_chunks(
        &self,
        start_lsn: Lsn,
        mut rows: mpsc::Receiver<(u8, Vec<u8>)>,
        events: &Receiver<Vec<u8>>,
    ) -> std::result::Result<(crate::snapshot::PublishedSnapshot, Lsn), SnapshotWriteError> {
        let mut writer = SnapshotWriter::create(self.disk.clone(), &self.dir, start_lsn)?;
        writer.chunk(chunk::HEADER, &chunks::header(self.snapshots.epoch, self.system.clock.now()))?;
        let mut last = start_lsn;
        let mut complete = false;
        while let Some((kind, payload)) = rows.blocking_recv() {
            // An empty chunk of rows is the walk's word that it came to its end.
            complete = payload.is_empty();
            if !complete {
                writer.chunk(kind, &payload)?;
            }
            write_events(&mut writer, events, &mut last)?;
        }
        if !complete {
            return Err(SnapshotWriteError::Other("the walk was cut short".into()));
        }
        // Published only when the journal is synced past the walk; the tap has everything up to there, too.
        self.system.journal.flush_blocking().map_err(|error| SnapshotWriteError::Other(error.to_string()))?;
        self.system.journal.untap();
        write_events(&mut writer, events, &mut last)?;
        let stopped = self.snapshots.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if *stopped || self.system.answers.is_failed() {
            return Err(SnapshotWriteError::Other("the engine stopped".into()));
        }
        // Whatever is not in this file was written there by now.
        writer.chunk(chunk::AT_REST, &chunks::at_rest(self.system.resting.written()))?;
        let published = writer.publish(&[], last)?;
        self.after_publishing(last);
        drop(stopped);
        Ok((published, last))
    }

    /// Keeps two, and lets go of the segments that the older one does not need.
    fn after_publishing(&self, newest: Lsn) {
        let cleaned = retain(&*self.disk, &self.dir, KEPT).and_then(|_| list_snapshots(&*self.disk, &self.dir));
        match cleaned {
            Ok(kept) => {
                if let Some((older, _)) = kept.iter().find(|(lsn, _)| *lsn < newest) {
                    self.snapshots.both_hold.store(*older, Ordering::Release);
                    self.system.journal.trim(*older);
                }
            }
            Err(error) => tracing::warn!(%error, "old snapshots could not be removed"),
        }
    }

    /// Sends every row, and an empty chunk at the end. Returns how many rows.
    async fn walk(&self, rows: &mpsc::Sender<(u8, Vec<u8>)>) -> std::result::Result<u64, String> {
        let mut count = 0;
        let system = &self.system;
        let gone = || "the snapshot's writer ended".to_string();
        let mut chunk = Vec::new();
        let accounts = system.accounts.end();
        for number in 1..accounts {
            if let Some(row) = system.accounts.row(number).await.map_err(|gone| gone.to_string())? {
                chunks::put_named(&mut chunk, system.accounts.name(number), row);
                count += 1;
            }
            let full = (number as usize).is_multiple_of(CHUNK_ROWS) || chunk.len() >= CHUNK_BYTES;
            if full && !chunk.is_empty() {
                rows.send((chunk::ACCOUNTS, std::mem::take(&mut chunk))).await.map_err(|_| gone())?;
                tokio::time::sleep(PACE).await;
            }
        }
        if !chunk.is_empty() {
            rows.send((chunk::ACCOUNTS, std::mem::take(&mut chunk))).await.map_err(|_| gone())?;
        }
        for number in 1..system.stores.end() {
            if let Some(row) = system.stores.row(number).await.map_err(|gone| gone.to_string())? {
                let mut chunk = Vec::new();
                chunks::put_named(&mut chunk, system.stores.name(number), row);
                rows.send((chunk::STORES, chunk)).await.map_err(|_| gone())?;
                count += 1;
                tokio::time::sleep(PACE).await;
            }
        }
        for shard in 0..SHARDS {
            count += self.walk_shard(shard, rows).await?;
        }
        rows.send((chunk::ORDERS, Vec::new())).await.map_err(|_| gone())?;
        Ok(count)
    }

    async fn walk_shard(&self, shard: usize, rows: &mpsc::Sender<(u8, Vec<u8>)>) -> std::result::Result<u64, String> {
        let stopped = || "the engine stopped".to_string();
        // Orders placed from now on are in the tap.
        let ids = |shard: &crate::domain::OrderShard, _: &_| shard.orders.keys().copied().collect::<Vec<_>>();
        let ids = self.system.look_at_shard(shard, ids).await.ok_or_else(stopped)?;
        // Few of orders that may be long, so that a chunk stays far below what a reader takes.
        let rows_at_once = if self.config.limits.order_lines_max > 1_000 { 16 } else { CHUNK_ROWS / 2 };
        for some in ids.chunks(rows_at_once) {
            let some = some.to_vec();
            let encode = move |shard: &crate::domain::OrderShard, _: &_| {
                let mut chunk = Vec::new();
                for id in some {
                    if let Some(order) = shard.orders.get(&id) {
                        chunks::put_order(&mut chunk, id, order);
                    }
                }
                chunk
            };
            let chunk = self.system.look_at_shard(shard, encode).await.ok_or_else(stopped)?;
            if !chunk.is_empty() {
                rows.send((chunk::ORDERS, chunk)).await.map_err(|_| "the snapshot's writer ended".to_string())?;
            }
            tokio::time::sleep(PACE).await;
        }
        Ok(ids.len() as u64)
    }
}

#[derive(Debug, thiserror::Error)]
enum SnapshotWriteError {
    #[error(transparent)]
    File(#[from] SnapshotError),
    #[error("{0}")]
    Other(String),
}

/// Writes what the tap has sent.
fn write_events(
    writer: &mut SnapshotWriter,
    events: &Receiver<Vec<u8>>,
    last: &mut Lsn,
) -> std::result::Result<(), SnapshotWriteError> {
    loop {
        let frames = match events.try_recv() {
            Ok(frames) => frames,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(()),
        };
        for frame in decode_frames(&frames) {
            let frame = frame.map_err(|error| SnapshotWriteError::Other(error.to_string()))?;
            *last = (*last).max(frame.lsn);
        }
        writer.chunk(chunk::EVENTS, &frames)?;
    }
}

/// What a snapshot brought.
pub(super) struct Loaded {
    pub(super) image: Image,
    pub(super) lsn: Lsn,
    pub(super) epoch: u32,
}

/// Why a snapshot cannot be loaded.
pub(super) enum Unloadable {
    /// It is damaged or cannot be read.
    Snapshot(SnapshotError),
    /// It is sound, but the orders at rest that belong to it are not there. An older one would not help, only hide it.
    AtRest(String),
}

impl From<SnapshotError> for Unloadable {
    fn from(error: SnapshotError) -> Self {
        Unloadable::Snapshot(error)
    }
}

/// Reads a snapshot whole. `progress` is told the rows so far.
pub(super) fn load(
    disk: &dyn Disk,
    path: &Path,
    resting: Arc<Orders>,
    progress: &mut dyn FnMut(u64),
) -> std::result::Result<Loaded, Unloadable> {
    let written = resting.written();
    let mut image = Image::new(resting);
    let mut written_then = 0;
    let mut epoch = 0;
    let mut rows = 0;
    // Rows come at different times of the walk, so events are applied when all are there.
    let mut events: Vec<Vec<u8>> = Vec::new();
    let mut visit = |kind: u8, payload: &[u8]| {
        let visited = chunks::read(kind, payload, &mut |part| {
            rows += u64::from(part.is_row());
            match part {
                Part::Header(header) => epoch = header.epoch,
                Part::Account(name, row) => image.account_row(name, row)?,
                Part::Store(name, row) => image.store_row(name, &row)?,
                Part::Order(id, order) => image.order_row(id, order),
                Part::Events(frames) => events.push(frames.to_vec()),
                Part::AtRest(at_rest) => written_then = at_rest.written,
            }
            Ok(())
        });
        progress(rows);
        visited.map_err(SnapshotError::Visit)
    };
    let SnapshotSummary { final_lsn, .. } = read_snapshot(disk, path, &mut visit)?;
    if written < written_then {
        return Err(Unloadable::AtRest(format!(
            "orders.redb is missing or an older one: {written} rows were ever written to it, {written_then} were when \
             the newest snapshot was taken"
        )));
    }
    for frames in events {
        for frame in decode_frames(&frames) {
            let frame = frame.map_err(|error| SnapshotError::Visit(error.to_string()))?;
            let applied = image.apply(frame.kind, frame.version, frame.payload);
            applied.map_err(|error| match image.lacks_rows() {
                true => Unloadable::AtRest(error),
                false => SnapshotError::Visit(error).into(),
            })?;
        }
    }
    image.applied = 0;
    Ok(Loaded { image, lsn: final_lsn, epoch })
}
