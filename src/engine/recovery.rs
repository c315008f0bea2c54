//! Recovery, whoever does it: the engine that opens, or a simulator. The newest sound snapshot, the journal after it,
//! the orders at rest, and the sagas that a crash interrupted. Nothing here waits, and the journal that it finishes
//! sagas on is the caller's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::image::{Image, Receive};
use super::open::{Report, io};
use super::snapshots::{Loaded, Unloadable, load};
use super::versions::Untaken;
use super::{OpenError, Progress, Recovered};
use crate::cold::Orders;
use crate::disk::Disk;
use crate::domain::{Millis, OrderShard};
use crate::journal::{self, Durability, FileLog, FileLogOptions, Journal, LogError, LogStore, Lsn};
use crate::snapshot::{SnapshotError, list_snapshots, remove_leftovers};

/// Where the data is and how it is read.
pub struct Data<'a> {
    /// The disk.
    pub disk: &'a Arc<dyn Disk>,
    /// The data directory.
    pub dir: &'a Path,
    /// The mode that the engine is opened in.
    pub durability: Durability,
    /// Bytes of one journal segment.
    pub segment_bytes: u64,
    /// Whether the journal prepares its segments on a thread of its own.
    pub threads: bool,
    /// Told of the progress.
    pub report: &'a (dyn Fn(Progress) + Send + Sync + 'static),
}

impl std::fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Data").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// A state that is being recovered.
pub struct Recovery {
    image: Image,
    /// What the snapshot holds; 0 if there was none.
    lsn: Lsn,
    snapshot_epoch: u32,
    log: Option<Box<dyn LogStore>>,
    found: journal::Recovered,
    recovered: Recovered,
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery").field("recovered", &self.recovered).finish_non_exhaustive()
    }
}

impl Recovery {
    /// Reads everything, cuts the journal's torn end, and writes its last segment anew.
    ///
    /// # Errors
    /// See [`OpenError`]. Damaged data is never passed over in silence.
    pub fn read(data: &Data<'_>, resting: &Arc<Orders>) -> Result<Self, OpenError> {
        let mut recovered = Recovered::default();
        let (loaded, damaged) = load_newest(&**data.disk, data.dir, resting, &mut recovered, data.report)?;
        let Loaded { mut image, lsn, epoch: snapshot_epoch } =
            loaded.unwrap_or_else(|| Loaded { image: Image::new(resting.clone()), lsn: 0, epoch: 0 });
        let log = replay(data, lsn, &mut image)?;
        let (upto, end) = (resting.upto(), log.found.last_lsn.max(lsn));
        if upto > end {
            let why = format!("orders.redb holds orders as of event {upto}, and snapshot and journal end at {end}");
            return Err(OpenError::Damaged(why));
        }
        // A snapshot is published when the journal is synced past it. Without that journal, as after
        // `--durability snapshot`, the older one would be an older shop, and nobody told.
        let newest = damaged.iter().filter_map(|(path, _)| path.file_stem()?.to_str()?.parse::<Lsn>().ok()).max();
        if let Some(newest) = newest.filter(|newest| *newest > end) {
            let why = format!(
                "the newest snapshot, of event {newest}, is damaged, and the older one and the journal end at {end}"
            );
            return Err(OpenError::Damaged(why));
        }
        // Only now: if the journal does not fit the older snapshot, nothing was changed.
        set_aside(&**data.disk, data.dir, &damaged, &mut recovered)?;
        recovered.replayed_events = log.found.frames;
        recovered.cut_bytes = log.found.cut_bytes;
        Ok(Recovery { image, lsn, snapshot_epoch, log: log.store, found: log.found, recovered })
    }

    /// Of a shop in which nothing has happened yet; for who replays events that he has from elsewhere.
    pub fn nothing(resting: &Arc<Orders>) -> Self {
        let found = journal::Recovered { last_lsn: 0, last_epoch: 0, cut_bytes: 0, frames: 0 };
        let (image, recovered) = (Image::new(resting.clone()), Recovered::default());
        Recovery { image, lsn: 0, snapshot_epoch: 0, log: None, found, recovered }
    }

    /// Applies one more event.
    ///
    /// # Errors
    /// What is wrong with it, or with its place.
    pub fn apply(&mut self, kind: u8, version: u8, payload: &[u8]) -> Result<(), String> {
        self.image.apply(kind, version, payload)
    }

    /// The log to go on with, the last LSN in it, and the epoch to write with.
    pub fn take_log(&mut self) -> (Option<Box<dyn LogStore>>, Lsn, u32) {
        let epoch = self.snapshot_epoch.max(self.found.last_epoch) + 1;
        (self.log.take(), self.found.last_lsn, epoch)
    }

    /// The time of the newest event.
    pub fn newest(&self) -> Millis {
        self.image.newest
    }

    /// Drops the evidence of sagas that are through and finishes the others. Then finds what at rest waits for its time. What that journals has to be durable
    /// before anything is served.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] if the state contradicts itself.
    pub fn finish_sagas(&mut self, journal: &Journal, now: Millis) -> Result<(), OpenError> {
        self.recovered.finished_sagas = self.image.finish_sagas(journal, now).map_err(OpenError::Damaged)?;
        // From here on what is in memory is the newest.
        self.image.find_awaited().map_err(|error| OpenError::Damaged(format!("orders.redb: {error}")))
    }

    /// What all accounts put in, in fen.
    pub fn net_put_in(&self) -> i64 {
        self.image.net_put_in()
    }

    /// What was found so far.
    pub fn recovered(&self) -> Recovered {
        self.recovered.clone()
    }

    /// The LSN of the snapshot that was loaded.
    pub fn snapshot(&self) -> Option<Lsn> {
        self.recovered.snapshot.is_some().then_some(self.lsn)
    }

    /// Hands everything over.
    pub fn hand_over(self, receiver: &mut impl Receive) -> Vec<OrderShard> {
        self.image.hand_over(receiver)
    }
}

/// Snapshots that were passed over, with the reason.
type Damaged = Vec<(PathBuf, SnapshotError)>;

/// The newest snapshot that is sound, and the damaged ones that are newer. A damaged one is set aside, never deleted;
/// if all are damaged the engine does not start, because a fresh start would lose everything in silence.
fn load_newest(
    disk: &dyn Disk,
    dir: &Path,
    resting: &Arc<Orders>,
    recovered: &mut Recovered,
    report: &Report,
) -> Result<(Option<Loaded>, Damaged), OpenError> {
    remove_leftovers(disk, dir).map_err(snapshot)?;
    let mut damaged = Vec::new();
    for (_, path) in list_snapshots(disk, dir).map_err(snapshot)? {
        let mut ticker = Ticker::new("snapshot", report);
        match load(disk, &path, resting.clone(), &mut |rows, total| ticker.at(rows, total)) {
            Ok(loaded) => {
                recovered.snapshot = Some(path);
                return Ok((Some(loaded), damaged));
            }
            // What cannot be read now may be sound: falling back could lose it.
            Err(Unloadable::Snapshot(error @ SnapshotError::Io { .. })) => return Err(snapshot(error)),
            // An older one would be an older shop, and this one would be set aside.
            Err(Unloadable::Snapshot(SnapshotError::OtherVersion(what))) => {
                return Err(OpenError::OtherVersion(format!("{}: {what}", path.display())));
            }
            Err(Unloadable::Snapshot(error)) => damaged.push((path, error)),
            Err(Unloadable::AtRest(why)) => return Err(OpenError::Damaged(why)),
        }
    }
    match damaged.first() {
        None => Ok((None, damaged)),
        Some((_, error)) => Err(OpenError::Damaged(format!("no snapshot is sound; the newest: {error}"))),
    }
}

fn set_aside(
    disk: &dyn Disk,
    dir: &Path,
    damaged: &[(PathBuf, SnapshotError)],
    recovered: &mut Recovered,
) -> Result<(), OpenError> {
    for (path, error) in damaged {
        tracing::error!(path = %path.display(), %error, "a damaged snapshot is passed over and set aside");
        let aside = path.with_extension("snap.damaged");
        disk.rename(path, &aside).map_err(|source| io(format!("rename {}", path.display()), source))?;
        recovered.damaged_snapshots.push(error.to_string());
    }
    if !damaged.is_empty() {
        disk.sync_dir(dir).map_err(|source| io(format!("sync {}", dir.display()), source))?;
    }
    Ok(())
}

struct Replayed {
    store: Option<Box<dyn LogStore>>,
    found: journal::Recovered,
}

/// Replays the journal after `lsn`. Also in `snapshot` mode, where a journal of an earlier mode may lie; then it is
/// read but not written.
fn replay(data: &Data<'_>, lsn: Lsn, image: &mut Image) -> Result<Replayed, OpenError> {
    let (disk, dir) = (data.disk, data.dir.join("journal"));
    let unlogged = data.durability == Durability::Snapshot;
    if unlogged && disk.list(&dir).map_or(true, |names| names.is_empty()) {
        let found = journal::Recovered { last_lsn: lsn, last_epoch: 0, cut_bytes: 0, frames: 0 };
        return Ok(Replayed { store: None, found });
    }
    let mut ticker = Ticker::new("journal", data.report);
    let mut events = 0;
    let segments = journal::list_segments(&**disk, &dir).unwrap_or_default();
    let total = journal::expected_frames(&segments, lsn);
    let mut visit = |frame: journal::Frame<'_>| {
        events += 1;
        ticker.at(events, total);
        let applied = image.apply(frame.kind, frame.version, frame.payload);
        applied.map_err(|error| Untaken::event(&frame, &error).into())
    };
    let options = FileLogOptions { segment_bytes: data.segment_bytes };
    let opened = match data.threads {
        true => FileLog::open(disk.clone(), &dir, options, lsn, &mut visit),
        false => FileLog::open_without_thread(disk.clone(), &dir, options, lsn, &mut visit),
    };
    let (log, found) = opened.map_err(|error| match error {
        LogError::Io { .. } => {
            OpenError::Io { what: "the journal".into(), source: std::io::Error::other(error.to_string()) }
        }
        LogError::OtherVersion(what) => OpenError::OtherVersion(format!("the journal: {what}")),
        error => OpenError::Damaged(error.to_string()),
    })?;
    let store: Option<Box<dyn LogStore>> = if unlogged { None } else { Some(Box::new(log)) };
    Ok(Replayed { store, found })
}

/// Between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Reports now and then.
struct Ticker<'a> {
    stage: &'static str,
    report: &'a Report,
    last: Instant,
}

impl<'a> Ticker<'a> {
    fn new(stage: &'static str, report: &'a Report) -> Self {
        Ticker { stage, report, last: Instant::now() }
    }

    fn at(&mut self, done: u64, total: Option<u64>) {
        if done.is_multiple_of(256) && self.last.elapsed() >= REPORT_EVERY {
            self.last = Instant::now();
            (self.report)(Progress { stage: self.stage, done, total });
        }
    }
}

fn snapshot(error: SnapshotError) -> OpenError {
    OpenError::Io { what: "snapshots".into(), source: std::io::Error::other(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::disk::MemoryDisk;
    use crate::domain::{
        AccountEvent, AccountNo, Blob, By, Credit, CreditCause, EVENT_VERSION, OrderId, PayKind, encode,
    };
    use crate::engine::walk::{Walk, Wanted, Writing};
    use crate::journal::JournalOptions;

    struct Nobody;

    impl journal::Observer for Nobody {
        fn advanced(&self, _durable: Lsn) {}

        fn failed(&self, _why: &str) {}
    }

    #[test]
    fn money_that_was_credited_for_no_order_is_told_whatever_for() {
        let causes = [CreditCause::Payment, CreditCause::Confirmation, CreditCause::Refund(PayKind::Platform)];
        for cause in causes {
            let (disk, dir) = (MemoryDisk::new(), Path::new("/shop"));
            disk.create_dir_all(dir).unwrap();
            let resting = Arc::new(Orders::open(&disk, &dir.join("orders.redb"), 1 << 20).unwrap());
            let mut recovery = Recovery::nothing(&resting);
            let order = OrderId::new(1 << 20, AccountNo(1), 1);
            let credit = Credit { cause, amount: 5, by: By::Buyer, key: None };
            let secret = Blob(b"hash"[..].into());
            for (seq, event) in
                [AccountEvent::Registered { user_id: "ann".into(), secret }, AccountEvent::Credited { order, credit }]
                    .iter()
                    .enumerate()
            {
                let mut payload = Vec::new();
                let kind = encode(event, AccountNo(1), seq as u64 + 1, 1, &mut payload);
                recovery.apply(kind, EVENT_VERSION, &payload).unwrap();
            }
            let options = JournalOptions { durability: Durability::Snapshot, ..JournalOptions::default() };
            let (journal, _) = Journal::by_hand(None, 0, 1, options, Arc::new(Nobody)).unwrap();
            let told = recovery.finish_sagas(&journal, 2).unwrap_err().to_string();
            assert!(told.contains(&order.to_string()), "{cause:?}: {told}");
        }
    }

    /// Found by the simulator: after a clean end everything is in the snapshot's rows and nothing is replayed. Engine time
    /// must not begin below the time of what is in them, wherever the wall clock was set meanwhile.
    #[test]
    fn time_does_not_begin_before_a_snapshot_that_holds_everything() {
        let (disk, dir): (Arc<dyn Disk>, _) = (Arc::new(MemoryDisk::new()), Path::new("/shop"));
        disk.create_dir_all(dir).unwrap();
        let resting = Arc::new(Orders::open(&*disk, &dir.join("orders.redb"), 1 << 20).unwrap());
        let options = JournalOptions { durability: Durability::Snapshot, ..JournalOptions::default() };
        let (journal, _) = Journal::by_hand(None, 0, 1, options, Arc::new(Nobody)).unwrap();
        let (sink, tap) = channel();
        let start = journal.tap(sink);
        let mut writing = Writing::begin(disk.clone(), dir, start, 1, 5_000).unwrap();
        let mut walk = Walk::new(1, 1, 1_000);
        while let Wanted::Ids(_) = walk.wanted() {
            walk.ids(Vec::new());
        }
        writing.walked(&journal);
        assert!(writing.is_ready(&journal, &tap).unwrap());
        writing.publish(&journal, 0).unwrap();
        let durability = Durability::Snapshot;
        let data = Data { disk: &disk, dir, durability, segment_bytes: 1 << 12, threads: false, report: &|_| {} };
        assert_eq!(Recovery::read(&data, &resting).unwrap().newest(), 5_000);
    }

    /// Found by the simulator: the tap is ahead of the sync where answers do not wait for one. A snapshot past the end of
    /// a journal that lost its unsynced end makes the next open drop all segments, those of the older snapshot, too.
    #[test]
    fn a_snapshot_is_not_published_past_what_is_synced() {
        let (disk, dir): (Arc<dyn Disk>, _) = (Arc::new(MemoryDisk::new()), Path::new("/shop"));
        disk.create_dir_all(dir).unwrap();
        let options = JournalOptions {
            durability: Durability::Buffered,
            sync_interval: std::time::Duration::from_secs(3_600),
            ..JournalOptions::default()
        };
        let medium = journal::MemoryMedium::new();
        let (log, _) = journal::MemoryLog::open(&medium, 0, &mut |_| Ok(())).unwrap();
        let (journal, mut stepper) = Journal::by_hand(Some(Box::new(log)), 0, 1, options, Arc::new(Nobody)).unwrap();
        let mut rest = || while stepper.step() != journal::Stepped::Idle {};
        let (sink, tap) = channel();
        let start = journal.tap(sink);
        let mut writing = Writing::begin(disk, dir, start, 1, 5_000).unwrap();
        journal.append(1, 1, b"during the walk");
        writing.walked(&journal);
        rest();
        assert_eq!(journal.synced(), 1);
        journal.append(1, 1, b"after it");
        rest();
        assert_eq!((journal.durable(), journal.synced()), (2, 1));
        assert!(!writing.is_ready(&journal, &tap).unwrap());
        rest();
        assert!(writing.is_ready(&journal, &tap).unwrap());
        let (_, last) = writing.publish(&journal, 0).unwrap();
        assert_eq!((last, journal.synced()), (2, 2));
    }
}
