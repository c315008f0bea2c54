//! Snapshots: rows and events of one walk beside the traffic, loadable by itself.
//!
//! The walk (`walk`) never stops the traffic: a row of a live entity is shown by its actor between two messages.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::background::{Urgency, in_background};
use super::chunks::{self, Part, chunk};
use super::image::Image;
use super::walk::{self, Walk, Wanted, WriteError, Writing, clean_up};
use super::{Core, Engine, Error, Result, SnapshotReport, Storage, versions};
use crate::cold::Orders;
use crate::disk::{Disk, OpenMode};
use crate::journal::{Lsn, decode_frames};
use crate::snapshot::{SnapshotError, SnapshotSummary, read_snapshot};
use crate::trace;

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
        self.core
            .take_snapshot(false, Urgency::Awaited)
            .await
            .map(|report| report.unwrap_or_else(SnapshotReport::nothing))
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
    pub(super) async fn take_snapshot(
        self: &Arc<Self>,
        only_if_changed: bool,
        urgency: Urgency,
    ) -> Result<Option<SnapshotReport>> {
        let core = self.clone();
        let task = self
            .system
            .runtime
            .spawn(trace::carried(async move { core.take_snapshot_alone(only_if_changed, urgency).await }));
        task.await.unwrap_or_else(|_| Err(self.unknown()))
    }

    async fn take_snapshot_alone(
        self: Arc<Self>,
        only_if_changed: bool,
        urgency: Urgency,
    ) -> Result<Option<SnapshotReport>> {
        let mut newest = self.snapshots.newest.lock().await;
        self.take_snapshot_holding(&mut newest, only_if_changed, urgency).await
    }

    /// As [`Core::take_snapshot`], for who holds the lock already, in a task that runs to its end.
    pub(super) async fn take_snapshot_holding(
        self: &Arc<Self>,
        newest: &mut Option<Lsn>,
        only_if_changed: bool,
        urgency: Urgency,
    ) -> Result<Option<SnapshotReport>> {
        if self.system.answers.is_failed() {
            return Err(self.unknown());
        }
        if only_if_changed && *newest == Some(self.system.journal.head()) {
            return Ok(None);
        }
        let start = Instant::now();
        match self.write_snapshot(urgency).await {
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

    async fn write_snapshot(self: &Arc<Self>, urgency: Urgency) -> std::result::Result<(SnapshotReport, Lsn), String> {
        let bytes_at_start = self.system.journal.stats().bytes;
        let (sink, events) = channel();
        let start_lsn = self.system.journal.tap(sink);
        // Bounded, so that a slow disk slows the walk and not the memory.
        let (rows, chunks) = mpsc::channel::<(u8, Vec<u8>)>(4);
        let core = self.clone();
        let writer = tokio::spawn(in_background(urgency, move || core.write_chunks(start_lsn, chunks, &events)));
        let walked = self.walk(&rows).await;
        drop(rows);
        let written = writer.await.map_err(|error| error.to_string())?.ok_or("writing it was cut short")?;
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
    ) -> std::result::Result<(crate::snapshot::PublishedSnapshot, Lsn), WriteError> {
        let now = self.system.clock.now();
        let mut writing = Writing::begin(self.disk.clone(), &self.dir, start_lsn, self.snapshots.epoch, now)?;
        let mut complete = false;
        while let Some((kind, payload)) = rows.blocking_recv() {
            // The space comes back when the unfinished file goes. At the end of the engine it is worth the try.
            if self.disk_low.load(Ordering::Relaxed) && !self.system.answers.is_draining() {
                return Err(WriteError::Other("the disk is nearly full".into()));
            }
            // An empty chunk of rows is the walk's word that it came to its end.
            complete = payload.is_empty();
            if !complete {
                writing.chunk(kind, &payload)?;
            }
            writing.events(events)?;
        }
        if !complete {
            return Err(WriteError::Other("the walk was cut short".into()));
        }
        writing.walked(&self.system.journal);
        while !writing.is_ready(&self.system.journal, events)? {
            self.system.journal.flush_blocking().map_err(|error| WriteError::Other(error.to_string()))?;
        }
        let stopped = self.snapshots.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if *stopped || self.system.answers.is_failed() {
            return Err(WriteError::Other("the engine stopped".into()));
        }
        let (published, last) = writing.publish(&self.system.journal, self.system.resting.written())?;
        self.after_publishing(last);
        drop(stopped);
        Ok((published, last))
    }

    /// Keeps two, and lets go of the segments that the older one does not need.
    fn after_publishing(&self, newest: Lsn) {
        match clean_up(&*self.disk, &self.dir, &self.system.journal, newest) {
            Ok(Some(both)) => self.snapshots.both_hold.store(both, Ordering::Release),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "old snapshots could not be removed"),
        }
    }

    /// Sends every row, and an empty chunk at the end. Returns how many rows.
    async fn walk(&self, rows: &mpsc::Sender<(u8, Vec<u8>)>) -> std::result::Result<u64, String> {
        let system = &self.system;
        let ended = || "the snapshot's writer ended".to_string();
        let stopped = || "the engine stopped".to_string();
        let mut walk = Walk::new(system.accounts.end(), system.stores.end(), self.config.limits.order_lines_max);
        loop {
            let chunk = match walk.wanted() {
                Wanted::Account(number) => {
                    let row = system.accounts.row(number).await.map_err(|gone| gone.to_string())?;
                    walk.account(system.accounts.name(number).map(|name| &**name), row)
                }
                Wanted::Store(number) => {
                    let row = system.stores.row(number).await.map_err(|gone| gone.to_string())?;
                    walk.store(system.stores.name(number).map(|name| &**name), row)
                }
                Wanted::Ids(shard) => {
                    let ids = system.look_at_shard(shard, |shard, _| walk::ids_of(shard)).await;
                    walk.ids(ids.ok_or_else(stopped)?);
                    None
                }
                Wanted::Orders(shard, ids) => {
                    let encode = move |shard: &crate::domain::OrderShard, _: &_| walk::encode_orders(shard, &ids);
                    walk.orders(system.look_at_shard(shard, encode).await.ok_or_else(stopped)?)
                }
                Wanted::Nothing => break,
            };
            if let Some(chunk) = chunk {
                rows.send(chunk).await.map_err(|_| ended())?;
                tokio::time::sleep(PACE).await;
            }
        }
        rows.send((chunk::ORDERS, Vec::new())).await.map_err(|_| ended())?;
        Ok(walk.rows())
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

/// Reads a snapshot whole. `progress` is told the rows so far, and how many there will be if they go on like this.
pub(super) fn load(
    disk: &dyn Disk,
    path: &Path,
    resting: Arc<Orders>,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> std::result::Result<Loaded, Unloadable> {
    let written = resting.written();
    let len = disk.open(path, OpenMode::Read).and_then(|file| file.len()).ok();
    let mut read = 0;
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
                Part::Header(header) => {
                    epoch = header.epoch;
                    // What happened before the walk is in the rows, which do not say when.
                    image.newest = image.newest.max(header.taken_ms);
                }
                Part::Account(name, row) => image.account_row(name, row)?,
                Part::Store(name, row) => image.store_row(name, &row)?,
                Part::Order(id, order) => image.order_row(id, order),
                Part::Events(frames) => events.push(frames.to_vec()),
                Part::AtRest(at_rest) => written_then = at_rest.written,
            }
            Ok(())
        });
        read += payload.len() as u64;
        progress(rows, len.map(|len| (u128::from(rows) * u128::from(len) / u128::from(read.max(1))) as u64));
        visited
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
            applied.map_err(|error| match versions::other_event(&frame) {
                Some(what) => SnapshotError::OtherVersion(what).into(),
                None if image.lacks_rows() => Unloadable::AtRest(error),
                None => SnapshotError::Visit(error).into(),
            })?;
        }
    }
    image.applied = 0;
    Ok(Loaded { image, lsn: final_lsn, epoch })
}
