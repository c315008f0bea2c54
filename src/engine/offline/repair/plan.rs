//! What a repair has to do: found by reading, decided before anything is changed.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::report::{Lost, RepairReport, RepairStep};
use super::rows::{End, Known, RowChanges, Undone, judge_rows};
use super::{RepairError, unreadable};
use crate::cold::{ColdError, Documents, Orders};
use crate::disk::{Disk, OverlayDisk};
use crate::domain::{Account, AccountEvent, AccountNo, Order, OrderId, Persistent, Record, Store, decode};
use crate::engine::chunks::{self, Part};
use crate::engine::offline::Finding;
use crate::engine::versions;
use crate::journal::{self, Chain, Change, Frame, LogError, Lsn, Survey};
use crate::snapshot::{SnapshotError, list_snapshots, read_snapshot};

const CACHE_BYTES: usize = 64 << 20;

/// Files of a data directory that a repair changes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    pub(super) report: RepairReport,
    pub(super) rows: Option<RowWork>,
    pub(super) snapshots: Vec<PathBuf>,
    pub(super) journal: Vec<Change>,
    /// Numbers of accounts that lost events name, with the user id if an event says it.
    pub(super) named: BTreeMap<AccountNo, String>,
}

impl Plan {
    /// Whether it does the same to the same files, and leads to the same event.
    pub(super) fn does_what(&self, other: &Plan) -> bool {
        let (this, that) = (&self.report, &other.report);
        (&self.rows, &self.snapshots, &self.journal) == (&other.rows, &other.snapshots, &other.journal)
            && (&this.steps, &this.refused, this.last_lsn) == (&that.steps, &that.refused, that.last_lsn)
            && (&this.findings, this.lost.events) == (&that.findings, that.lost.events)
    }
}

/// What is done with `orders.redb`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RowWork {
    Mend(Vec<(OrderId, Option<Order>)>, Lsn),
    /// A new file; true if an unreadable one has to make room.
    Anew(bool),
}

struct SnapshotFile {
    lsn: Lsn,
    path: PathBuf,
    /// Why it cannot be used.
    damage: Option<String>,
    taken_ms: u64,
    written: u64,
}

enum OrdersFile {
    Missing,
    Unreadable(String),
    Sound(Orders),
}

impl OrdersFile {
    fn written(&self) -> u64 {
        match self {
            OrdersFile::Sound(orders) => orders.written(),
            _ => 0,
        }
    }

    fn upto(&self) -> Lsn {
        match self {
            OrdersFile::Sound(orders) => orders.upto(),
            _ => 0,
        }
    }
}

/// What the shop can go on from.
struct Base {
    /// Its place among the snapshots; none for the journal alone.
    snapshot: Option<usize>,
    chain: Option<Chain>,
    lsn: Lsn,
    /// How far the journal leads from there.
    reach: Lsn,
}

pub(super) fn plan(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Plan, RepairError> {
    let names = disk.list(dir).or_else(|error| unreadable(&dir.display().to_string(), &error))?;
    let journal = dir.join("journal");
    let no_segments = disk.list(&journal).map_or(true, |names| !names.iter().any(|name| name.ends_with(".seg")));
    if let Some(what) = versions::other_version(&**disk, dir) {
        return Err(RepairError::OtherVersion(what));
    }
    let mut report = RepairReport::default();
    let snapshots = read_snapshots(&**disk, dir, &mut report)?;
    let set_aside_before = names.iter().any(|name| name.contains(".snap."));
    if snapshots.is_empty() && no_segments && !set_aside_before {
        return Err(RepairError::NoData(dir.display().to_string()));
    }
    let orders = open_orders(disk, dir, &mut report)?;
    let newest_snapshot = snapshots.iter().map(|snapshot| snapshot.lsn).max().unwrap_or(0);
    let synced = newest_snapshot.max(orders.upto());
    let mut other_version = None;
    let mut judge = |frame: &Frame<'_>| {
        if other_version.is_none() {
            other_version = versions::other_event(frame);
        }
        decode(frame.kind, frame.version, frame.payload).map(drop).map_err(|error| error.to_string())
    };
    let survey = journal::survey(&**disk, &journal, synced, &mut judge).or_else(|error| match error {
        LogError::Corrupt { .. } => Err(RepairError::Impossible(error.to_string())),
        LogError::OtherVersion(what) => Err(RepairError::OtherVersion(format!("the journal: {what}"))),
        error => unreadable("the journal", &error),
    })?;
    // Its checksum is right, so it is no damage that could be cut out.
    if let Some(what) = other_version {
        return Err(RepairError::OtherVersion(what));
    }
    let mut planner = Planner { disk: disk.clone(), dir, report, snapshots, survey, set_aside_before, synced };
    planner.tell_holes();
    planner.plan(&orders)
}

struct Planner<'a> {
    disk: Arc<dyn Disk>,
    dir: &'a Path,
    report: RepairReport,
    snapshots: Vec<SnapshotFile>,
    survey: Survey,
    set_aside_before: bool,
    /// Events up to here were on disk once.
    synced: Lsn,
}

impl Planner<'_> {
    fn tell_holes(&mut self) {
        for hole in &self.survey.holes {
            let (file, what) = (hole.file.clone(), format!("{} bytes: {}", hole.bytes, hole.why));
            self.report.findings.push(Finding { file, offset: Some(hole.offset), what });
        }
        for pair in self.survey.chains().windows(2) {
            let (last, next) = (pair[0].last_lsn, pair[1].first_lsn);
            let file = self.dir.join("journal");
            let what = format!("events {} to {} are not readable", last + 1, next - 1);
            self.report.findings.push(Finding { file, offset: None, what });
        }
    }

    fn plan(mut self, orders: &OrdersFile) -> Result<Plan, RepairError> {
        self.documents()?;
        let chains = self.survey.chains();
        let Some(base) = self.choose(orders, &chains)? else {
            return Ok(self.refuse(orders, &chains));
        };
        let snapshot = base.snapshot.map(|place| &self.snapshots[place]);
        let (end, taken_ms) = (base.reach, snapshot.map_or(0, |snapshot| snapshot.taken_ms));
        self.report.snapshot = snapshot.map(|snapshot| snapshot.path.clone());
        self.report.last_lsn = end;
        let snapshots: Vec<(PathBuf, String)> = self.snapshots_to_set_aside(orders);
        let journal = self.survey.changes(&self.dir.join("journal"), base.chain.as_ref(), end);
        let known = self.known(&base)?;
        let whole_journal = base.snapshot.is_none();

        let mut named = BTreeMap::new();
        let undone = self.lose(end, &mut named)?;
        let lost = &self.report.lost;
        let all_readable = lost.events.is_none_or(|(first, last)| lost.readable == last - first + 1);
        let rows = self.rows(orders, &known, &End { lsn: end, taken_ms, undone: &undone, all_readable })?;
        if whole_journal && rows.as_ref().is_some_and(|(changes, _)| changes.foreign > 0) {
            self.report.refused = Some(
                "no snapshot is sound, and orders.redb holds orders that the journal does not: it is not all there was"
                    .to_owned(),
            );
            return Ok(self.without_steps());
        }
        let work = self.row_steps(orders, rows, end);
        for (file, why) in &snapshots {
            self.report.steps.push(RepairStep::SetAside { file: file.clone(), why: why.clone() });
        }
        for change in &journal {
            self.report.steps.push(journal_step(change));
        }
        if self.report.lost.events.is_some() {
            self.report.lost.bytes = self.survey.bytes_past(end);
        }
        let snapshots = snapshots.into_iter().map(|(file, _)| file).collect();
        Ok(Plan { dir: self.dir.to_owned(), report: self.report, rows: work, snapshots, journal, named })
    }

    /// Every book's document must be there; nothing here can replace one.
    fn documents(&mut self) -> Result<(), RepairError> {
        let path = self.dir.join("documents.redb");
        let stays = "restore it from a backup: a copy from any later time will do, for documents are only added";
        if !exists(&*self.disk, self.dir, "documents.redb")? {
            self.report.refused = Some(format!("documents.redb is not there; {stays}"));
            return Ok(());
        }
        let overlay = Arc::new(OverlayDisk::new(self.disk.clone()));
        let found = Documents::open(overlay, &path, CACHE_BYTES).and_then(|documents| documents.verify(&mut |_, _| {}));
        let damaged = match found {
            Ok(damaged) => damaged,
            Err(error @ ColdError::OtherVersion { .. }) => {
                return Err(RepairError::OtherVersion(format!("documents.redb: {error}")));
            }
            Err(ColdError::Open { why, .. } | ColdError::Damaged { what: why }) => {
                self.report.refused = Some(format!("documents.redb: {why}; {stays}"));
                vec![why]
            }
            Err(error) => return unreadable("documents.redb", &error),
        };
        for what in damaged {
            self.report.stays.push(format!("documents.redb: {what}; {stays}"));
            self.report.findings.push(Finding { file: path.clone(), offset: None, what });
        }
        Ok(())
    }

    /// The base from which the journal leads farthest; of several the newest.
    fn choose(&self, orders: &OrdersFile, chains: &[Chain]) -> Result<Option<Base>, RepairError> {
        if self.report.refused.is_some() {
            return Ok(None);
        }
        let from = |lsn: Lsn, snapshot: Option<usize>| {
            let leads_on = |chain: &&Chain| chain.first_lsn <= lsn + 1 && lsn <= chain.last_lsn;
            let chain = chains.iter().filter(leads_on).max_by_key(|chain| chain.last_lsn).cloned();
            let reach = chain.as_ref().map_or(lsn, |chain| chain.last_lsn);
            Base { snapshot, chain, lsn, reach }
        };
        let snapshots = self.snapshots.iter().enumerate();
        let usable = snapshots.filter(|(_, found)| found.damage.is_none() && found.written <= orders.written());
        let mut bases: Vec<Base> = usable.map(|(place, snapshot)| from(snapshot.lsn, Some(place))).collect();
        if let Some(first) = chains.first().filter(|chain| chain.first_lsn == 1)
            && self.is_all_there_was(first)?
        {
            bases.push(from(0, None));
        }
        Ok(bases.into_iter().max_by_key(|base| (base.reach, base.lsn)))
    }

    /// Whether a journal from event 1 is the whole shop. It is not if the shop began with loaded data, which only
    /// snapshots hold; but then account 1 was loaded, and numbers are given once.
    fn is_all_there_was(&self, chain: &Chain) -> Result<bool, RepairError> {
        if self.snapshots.is_empty() && !self.set_aside_before {
            return Ok(true);
        }
        let mut found = false;
        self.show(chain, 1, &mut |record| {
            found |= matches!(record, Record::Account(AccountNo(1), _, _, AccountEvent::Registered { .. }));
        })?;
        Ok(found)
    }

    fn show(&self, chain: &Chain, from: Lsn, visit: &mut dyn FnMut(&Record)) -> Result<(), RepairError> {
        let shown = self.survey.replay(&*self.disk, chain, from, &mut |frame| {
            let record = decode(frame.kind, frame.version, frame.payload);
            visit(&record.map_err(|error| LogError::Visit(error.to_string()))?);
            Ok(())
        });
        shown.or_else(|error| unreadable("the journal", &error))
    }

    fn known(&self, base: &Base) -> Result<Known, RepairError> {
        let mut known = Known::default();
        if let Some(snapshot) = base.snapshot.map(|place| &self.snapshots[place]) {
            let read = read_snapshot(&*self.disk, &snapshot.path, &mut |kind, payload| {
                chunks::read(kind, payload, &mut |part| {
                    match part {
                        Part::Order(id, order) => known.row(id, &order),
                        Part::Events(frames) => versions::each_record(frames, &mut |record| known.event(record))?,
                        _ => {}
                    }
                    Ok(())
                })
            });
            read.or_else(|error| unreadable("a snapshot", &error))?;
        }
        if let Some(chain) = &base.chain {
            self.show(chain, base.lsn + 1, &mut |record| known.event(record))?;
        }
        Ok(known)
    }

    /// Tells what is lost. Returns what that says of orders.
    fn lose(&mut self, end: Lsn, named: &mut BTreeMap<AccountNo, String>) -> Result<Undone, RepairError> {
        let mut newest = self.synced;
        let mut undone = Undone::default();
        let mut lost = Lost::default();
        let shown = self.survey.readable(&*self.disk, end, &mut |frame| {
            newest = newest.max(frame.lsn);
            let record = decode(frame.kind, frame.version, frame.payload);
            let record = record.map_err(|error| LogError::Visit(error.to_string()))?;
            lost.add(&record, named);
            undone.add(&record);
            Ok(())
        });
        shown.or_else(|error| unreadable("the journal", &error))?;
        lost.events = (newest > end).then_some((end + 1, newest));
        self.report.lost = lost;
        Ok(undone)
    }

    /// What becomes of the rows, and whether lists and counts have to be made anew.
    fn rows(
        &self,
        orders: &OrdersFile,
        known: &Known,
        end: &End<'_>,
    ) -> Result<Option<(RowChanges, Option<String>)>, RepairError> {
        let OrdersFile::Sound(orders) = orders else { return Ok(None) };
        let changes = judge_rows(orders, known, end).or_else(|error| unreadable("orders.redb", &error))?;
        let verified = match orders.view().and_then(|view| view.verify(|_| {})) {
            Ok(_) => None,
            Err(ColdError::Damaged { what }) => Some(what),
            Err(error) => return unreadable("orders.redb", &error),
        };
        Ok(Some((changes, verified)))
    }

    fn row_steps(
        &mut self,
        orders: &OrdersFile,
        rows: Option<(RowChanges, Option<String>)>,
        end: Lsn,
    ) -> Option<RowWork> {
        let (Some((rows, verified)), OrdersFile::Sound(orders)) = (rows, orders) else {
            let old = matches!(orders, OrdersFile::Unreadable(_));
            self.report.steps.push(RepairStep::NewOrdersFile { old });
            return Some(RowWork::Anew(old));
        };
        let file = self.dir.join("orders.redb");
        let lists = verified.filter(|_| rows.damage.is_empty());
        for what in rows.damage.iter().cloned().chain(lists.clone()) {
            self.report.findings.push(Finding { file: file.clone(), offset: None, what });
        }
        if rows.changes.is_empty() && lists.is_none() && orders.upto() <= end {
            return None;
        }
        let RowChanges { changes, mended, rewound, removed, lost, inferred, .. } = rows;
        self.report.lost.rows = lost;
        self.report.lost.inferred = inferred;
        self.report.steps.push(RepairStep::OrdersAtRest { mended, rewound, removed });
        Some(RowWork::Mend(changes, end))
    }

    fn snapshots_to_set_aside(&self, orders: &OrdersFile) -> Vec<(PathBuf, String)> {
        let aside = self.snapshots.iter().filter_map(|snapshot| {
            let why = match &snapshot.damage {
                Some(_) => "it is damaged".to_owned(),
                None if snapshot.written > orders.written() => "orders.redb lacks orders that belong to it".to_owned(),
                None => return None,
            };
            Some((snapshot.path.clone(), why))
        });
        aside.collect()
    }

    fn refuse(mut self, orders: &OrdersFile, chains: &[Chain]) -> Plan {
        if self.report.refused.is_none() {
            let sound = self.snapshots.iter().filter(|snapshot| snapshot.damage.is_none());
            let lacking = sound.max_by_key(|snapshot| snapshot.lsn);
            let journal = match chains.first() {
                None => "no event of the journal can be read".to_owned(),
                Some(first) if first.first_lsn == 1 => {
                    "the journal begins with event 1, but the shop began with loaded data, which is not in it"
                        .to_owned()
                }
                Some(first) => format!("the journal begins with event {} only", first.first_lsn),
            };
            self.report.refused = Some(match lacking {
                Some(snapshot) => {
                    let why = match orders {
                        OrdersFile::Missing => "orders.redb is not there".to_owned(),
                        OrdersFile::Unreadable(why) => format!("orders.redb cannot be read: {why}"),
                        OrdersFile::Sound(orders) => {
                            format!("orders.redb is an older one, of {} rows", orders.written())
                        }
                    };
                    format!(
                        "{why}, the snapshot of event {} belongs to one of {} rows, and {journal}: orders at rest are \
                         gone; restore orders.redb from a backup, taken after that event",
                        snapshot.lsn, snapshot.written
                    )
                }
                None => format!("no snapshot is sound, and {journal}: restore a backup"),
            });
        }
        self.without_steps()
    }

    fn without_steps(mut self) -> Plan {
        self.report.steps.clear();
        self.report.snapshot = None;
        self.report.last_lsn = 0;
        let (dir, named) = (self.dir.to_owned(), BTreeMap::new());
        Plan { dir, report: self.report, rows: None, snapshots: Vec::new(), journal: Vec::new(), named }
    }
}

fn journal_step(change: &Change) -> RepairStep {
    match change {
        Change::Write { from, to, pieces, first_lsn, .. } => {
            let last = pieces.last().map_or(*first_lsn, |piece| piece.last_lsn);
            RepairStep::RewriteSegment { from: from.clone(), to: to.clone(), events: (*first_lsn, last) }
        }
        Change::Aside { file } => {
            let why = "the shop goes on without its events, or has them elsewhere".to_owned();
            RepairStep::SetAside { file: file.clone(), why }
        }
    }
}

fn exists(disk: &dyn Disk, dir: &Path, name: &str) -> Result<bool, RepairError> {
    match disk.open(&dir.join(name), crate::disk::OpenMode::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => unreadable(name, &error),
    }
}

fn open_orders(disk: &Arc<dyn Disk>, dir: &Path, report: &mut RepairReport) -> Result<OrdersFile, RepairError> {
    let path = dir.join("orders.redb");
    let mut find = |what: String| report.findings.push(Finding { file: path.clone(), offset: None, what });
    if !exists(&**disk, dir, "orders.redb")? {
        find("not there".to_owned());
        return Ok(OrdersFile::Missing);
    }
    let overlay = OverlayDisk::new(disk.clone());
    let opened = Orders::open(&overlay, &path, CACHE_BYTES).and_then(|orders| {
        // All of it, so that what cannot be read shows now.
        orders.survey(&mut |_| {})?;
        Ok(orders)
    });
    match opened {
        Ok(orders) => Ok(OrdersFile::Sound(orders)),
        Err(ColdError::Open { why, .. } | ColdError::Damaged { what: why }) => {
            find(why.clone());
            Ok(OrdersFile::Unreadable(why))
        }
        Err(error @ ColdError::OtherVersion { .. }) => Err(RepairError::OtherVersion(format!("orders.redb: {error}"))),
        Err(error) => unreadable("orders.redb", &error),
    }
}

/// All snapshots, newest first, each read whole.
fn read_snapshots(disk: &dyn Disk, dir: &Path, report: &mut RepairReport) -> Result<Vec<SnapshotFile>, RepairError> {
    let listed = list_snapshots(disk, dir).or_else(|error| unreadable("the snapshots", &error))?;
    let mut snapshots = Vec::new();
    for (lsn, path) in listed {
        let (mut taken_ms, mut written) = (0, 0);
        let read = read_snapshot(disk, &path, &mut |kind, payload| {
            chunks::read(kind, payload, &mut |part| match part {
                Part::Header(header) => {
                    taken_ms = header.taken_ms;
                    Ok(())
                }
                Part::AtRest(at_rest) => {
                    written = at_rest.written;
                    Ok(())
                }
                Part::Account(_, row) => Account::decode(&row).map(drop).map_err(|error| error.to_string().into()),
                Part::Store(_, row) => Store::decode(&row).map(drop).map_err(|error| error.to_string().into()),
                Part::Order(..) => Ok(()),
                Part::Events(frames) => versions::each_record(frames, &mut |_| {}),
            })
        });
        let (offset, damage) = match read {
            Ok(_) => (None, None),
            Err(error @ SnapshotError::Io { .. }) => return unreadable("a snapshot", &error),
            Err(SnapshotError::OtherVersion(what)) => {
                return Err(RepairError::OtherVersion(format!("{}: {what}", path.display())));
            }
            Err(SnapshotError::Damaged { offset, why, .. }) => (Some(offset), Some(why)),
            Err(error) => (None, Some(error.to_string())),
        };
        if let Some(what) = damage.clone() {
            report.findings.push(Finding { file: path.clone(), offset, what });
        }
        snapshots.push(SnapshotFile { lsn, path, damage, taken_ms, written });
    }
    Ok(snapshots)
}
