//! The offline repair on a simulated disk: a shop that was damaged in its journal, its snapshots or its orders at rest
//! comes back as the very shop that it was at some event, to the hash of its state; what was cut is kept; and a repair
//! that is killed at any operation of the disk is begun again and ends in the same.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "common/sim_disk.rs"]
mod sim_disk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bookstore::internals::journal::{FileLog, FileLogOptions, Frame, LogStore, encode_frame};
use bookstore::offline::{Repair, RepairReport};
use bookstore::{AuditReport, Config, Credential, Engine, NewBook, NewLine, OpenError, Storage};
use sim_disk::{Crash, SimDisk};

const T: Credential<'static> = Credential::Trusted;
const SEGMENT_HEADER_BYTES: usize = 32;
const BATCH_HEADER_BYTES: usize = 40;
/// Segments of the log that is damaged. An engine makes far larger ones; recovery reads any.
const SEGMENT_BYTES: u64 = 1_024;

fn storage(disk: &SimDisk) -> Storage {
    Storage::Disk(Arc::new(disk.clone()), PathBuf::from("/data"))
}

fn config(disk: &SimDisk) -> Config {
    let mut config = Config::with(storage(disk));
    config.password_params.memory_kib = 64;
    config.password_params.iterations = 1;
    config.segment_bytes = 16 << 20;
    config.snapshot_interval = Duration::from_secs(3_600);
    config.order_ttl = Duration::from_secs(1_000_000);
    config
}

/// In the long form each case, else one of so many.
fn every(nth: usize) -> usize {
    if std::env::var_os("BOOKSTORE_EVERY_CRASH").is_some() { 1 } else { nth }
}

/// A shop, and what it was at each event at which nothing was in flight.
struct Shop {
    disk: SimDisk,
    was: BTreeMap<u64, AuditReport>,
    /// The last event of each snapshot, older first.
    snapshots: Vec<u64>,
}

struct Maker {
    engine: Engine,
    was: BTreeMap<u64, AuditReport>,
}

impl Maker {
    async fn note(&mut self) {
        let audit = self.engine.audit().await.unwrap();
        assert!(audit.is_conserved());
        self.was.insert(self.engine.stats().journal_head, audit);
    }

    async fn place(&mut self, buyer: &str, copies: i64) -> String {
        let lines = [NewLine { book_id: "one", count: copies }, NewLine { book_id: "two", count: 1 }];
        let order = self.engine.new_order(buyer, T, "store", &lines).await.unwrap().to_string();
        self.note().await;
        order
    }

    /// A letter a command: pay, pay to the platform, ship, confirm, refund, cancel.
    async fn go(&mut self, buyer: &str, order: &str, way: &str) {
        for letter in way.chars() {
            match letter {
                'p' => self.engine.pay(buyer, order, T).await.unwrap(),
                'P' => self.engine.pay_to_platform(buyer, order, T).await.unwrap(),
                's' => self.engine.ship("seller", T, "store", order).await.unwrap(),
                'c' => self.engine.confirm(buyer, order, T).await.unwrap(),
                'r' => self.engine.refund_order(buyer, order, T).await.unwrap(),
                _ => self.engine.cancel_order(buyer, order, T).await.unwrap(),
            }
            self.note().await;
        }
    }
}

/// Orders of every way; they leave memory again and again, in the middle of their ways, too.
async fn shop(with_snapshots: bool) -> Shop {
    let disk = SimDisk::new();
    let engine = Engine::open(config(&disk)).await.unwrap();
    let mut maker = Maker { engine, was: BTreeMap::new() };
    for user in ["seller", "ann", "bob"] {
        maker.engine.register(user, "pw").await.unwrap();
        maker.engine.add_funds(user, T, 10_000).await.unwrap();
    }
    maker.engine.create_store("seller", T, "store").await.unwrap();
    for id in ["one", "two"] {
        let document = format!(r#"{{"id":"{id}","title":"米","price":7}}"#);
        maker.engine.add_book("seller", T, "store", NewBook { id, price: 7, document: &document }, 100).await.unwrap();
    }
    maker.note().await;
    let mut snapshots = Vec::new();
    let mut open: Vec<(&str, String, &str)> = Vec::new();
    for round in 0..3 {
        let ways = [
            ("ann", "P", "sc"),
            ("bob", "p", "c"),
            ("ann", "Ps", "c"),
            ("bob", "x", ""),
            ("ann", "p", "r"),
            ("bob", "Pr", ""),
        ];
        for (buyer, now, later) in ways {
            let order = maker.place(buyer, 1 + round).await;
            maker.go(buyer, &order, now).await;
            open.push((buyer, order, later));
        }
        maker.place("bob", 1).await;
        maker.engine.offload().await.unwrap();
        if with_snapshots && round < 2 {
            maker.engine.snapshot().await.unwrap();
            snapshots.push(maker.engine.stats().journal_head);
        }
        // One step on for those that rest, and to rest again.
        for (buyer, order, way) in &mut open {
            if !way.is_empty() {
                let (step, rest) = way.split_at(1);
                maker.go(buyer, order, step).await;
                *way = rest;
            }
        }
        maker.engine.offload().await.unwrap();
    }
    // The last event is one that no row at rest knows of.
    maker.engine.add_funds("bob", T, 1).await.unwrap();
    maker.note().await;
    let was = maker.was;
    drop(maker.engine);
    disk.crash(Crash::LoseAll);
    resegment(&disk);
    Shop { disk: disk.copy(), was, snapshots }
}

/// Writes the log anew in small segments.
fn resegment(disk: &SimDisk) {
    let mut frames = Vec::new();
    let (from, to) = (Path::new("/data/journal"), Path::new("/other/journal"));
    let mut options = FileLogOptions { segment_bytes: 16 << 20 };
    let read = FileLog::open(Arc::new(disk.clone()), from, options, 0, &mut |frame| {
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, &Frame { ..frame });
        frames.push((frame.lsn, frame.epoch, bytes));
        Ok(())
    });
    drop(read.unwrap());
    options.segment_bytes = SEGMENT_BYTES;
    let other = SimDisk::new();
    let (mut log, _) = FileLog::open(Arc::new(other.clone()), to, options, 0, &mut |_| Ok(())).unwrap();
    // Batches of one to three frames.
    let mut rest = &frames[..];
    while let Some((lsn, epoch, _)) = rest.first() {
        let count = (*lsn as usize % 3 + 1).min(rest.len());
        let body: Vec<u8> = rest[..count].iter().flat_map(|(.., bytes)| bytes.clone()).collect();
        log.append(*lsn, count as u32, *epoch, &body).unwrap();
        log.sync().unwrap();
        rest = &rest[count..];
    }
    drop(log);
    for path in segments(disk) {
        disk.steal(&path);
    }
    for path in segments(&other) {
        disk.plant(&from.join(path.file_name().unwrap()), &other.content(&path));
    }
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "seg")).collect()
}

fn snapshots(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "snap")).collect()
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn take_number(bytes: &mut &[u8]) -> u64 {
    let len = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let (number, rest) = bytes.split_at(len);
    *bytes = rest;
    number.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f))
}

/// Where each event stands: file, offset, length.
fn places(disk: &SimDisk) -> BTreeMap<u64, (PathBuf, usize, usize)> {
    let mut places = BTreeMap::new();
    for path in segments(disk) {
        let bytes = disk.content(&path);
        let mut at = SEGMENT_HEADER_BYTES;
        while at + BATCH_HEADER_BYTES < bytes.len() && bytes[at..at + 4] == *b"BKJB" {
            let end = at + BATCH_HEADER_BYTES + u32_at(&bytes, at + 4);
            at += BATCH_HEADER_BYTES;
            while at < end {
                // Its payload may be damaged. Kind and version, which stand behind the length, are one byte here.
                let mut rest = &bytes[at + 4..end];
                let [len, _kind, _epoch, lsn] = std::array::from_fn(|_| take_number(&mut rest));
                let len = end - at - rest.len() + len as usize;
                places.insert(lsn, (path.clone(), at, len));
                at += len;
            }
        }
    }
    places
}

/// Makes an event unreadable.
fn damage(disk: &SimDisk, lsn: u64) {
    let (path, at, len) = places(disk)[&lsn].clone();
    disk.alter(&path, |content| content[at + len / 2..at + len].iter_mut().for_each(|byte| *byte ^= 0x5a));
}

fn damage_snapshot(disk: &SimDisk, place: usize) {
    let path = snapshots(disk)[place].clone();
    disk.alter(&path, |content| {
        let middle = content.len() / 2;
        content[middle] ^= 0xff;
    });
}

async fn refused(disk: &SimDisk) {
    match Engine::open(config(disk)).await {
        Err(OpenError::Damaged(_)) => {}
        other => panic!("{other:?}"),
    }
}

/// Repairs, and sees to it that what was told before is what came. Returns the report and the audit after it.
async fn repair(disk: &SimDisk) -> (RepairReport, AuditReport) {
    let before: Vec<_> = disk.files().into_iter().map(|path| (disk.content(&path), path)).collect();
    let repair = Repair::plan(&storage(disk)).await.unwrap();
    let after: Vec<_> = disk.files().into_iter().map(|path| (disk.content(&path), path)).collect();
    assert!(before == after, "planning changed the disk");
    let told = repair.report().clone();
    assert_eq!(told.refused, None);
    let done = repair.carry_out().await.unwrap();
    let engine = Engine::open(config(disk)).await.unwrap_or_else(|error| panic!("{error}: {told:#?}"));
    let audit = engine.audit().await.unwrap();
    assert_eq!(Some(&audit), told.audit.as_ref(), "it was told otherwise");
    // It goes on, and what it does is kept.
    engine.add_funds("ann", T, 1).await.unwrap();
    drop(engine);
    disk.crash(Crash::LoseAll);
    let engine = Engine::open(config(disk)).await.unwrap();
    assert_eq!(engine.audit().await.unwrap().net_put_in, audit.net_put_in + 1);
    drop(engine);
    let again = Repair::plan(&storage(disk)).await.unwrap();
    assert!(again.report().is_sound(), "{:#?}", again.report());
    (done, audit)
}

async fn repair_refused(disk: &SimDisk) -> String {
    let repair = Repair::plan(&storage(disk)).await.unwrap();
    let why = repair.report().refused.clone().expect("it should be refused");
    assert!(repair.report().steps.is_empty());
    let before = disk.files();
    assert!(repair.carry_out().await.is_err());
    assert_eq!(disk.files(), before, "a refused repair changed something");
    why
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_shop_needs_no_repair() {
    let shop = shop(true).await;
    let repair = Repair::plan(&storage(&shop.disk)).await.unwrap();
    assert!(repair.report().is_sound() && repair.report().findings.is_empty(), "{:#?}", repair.report());
    assert!(segments(&shop.disk).len() > 3, "{:?}", segments(&shop.disk));
    let mut torn = shop.disk.copy();
    // What a crash leaves is no damage either.
    let (path, at, len) = places(&torn).pop_last().unwrap().1;
    torn.alter(&path, |content| content[at + len - 1] ^= 1);
    assert!(Repair::plan(&storage(&torn)).await.unwrap().report().is_sound());
    torn = SimDisk::new();
    assert!(Repair::plan(&storage(&torn)).await.is_err(), "nothing is there");
}

/// Wherever the hole is, what comes back is the shop as it was right before it, with every order where it stood: rows at
/// rest that are ahead go back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_in_the_journal_takes_the_shop_back_to_right_before_it() {
    for with_snapshots in [false, true] {
        let shop = shop(with_snapshots).await;
        let newest = shop.snapshots.last().copied().unwrap_or(0);
        let last = *shop.was.last_key_value().unwrap().0;
        let (mut cut, mut rewound, mut inferred) = (0, 0, 0);
        for (lsn, was) in shop.was.range(newest..last).step_by(every(11)) {
            let disk = shop.disk.copy();
            damage(&disk, lsn + 1);
            if places(&disk).range(lsn + 1..).count() > 4 {
                refused(&disk).await;
            }
            let (report, audit) = match Engine::open(config(&disk)).await {
                // Among the very last events it looks as a torn write does.
                Ok(_) => continue,
                Err(_) => repair(&disk).await,
            };
            assert_eq!(report.last_lsn, *lsn);
            assert_eq!(report.lost.events, Some((lsn + 1, last)));
            assert_eq!(report.lost.readable, last - lsn - 1, "only one event is damaged");
            assert!(audit.is_conserved(), "{audit:?}");
            match report.lost.inferred.len() {
                0 => assert_eq!(audit, *was, "as it was at event {lsn}: {report:?}"),
                _ => inferred += 1,
            }
            assert!(report.kept.iter().all(|kept| disk.files().contains(kept)) && !report.kept.is_empty());
            rewound += usize::from(format!("{:?}", report.steps).contains("OrdersAtRest"));
            cut += 1;
        }
        assert!(cut > 1 && rewound > 0, "{cut} cut, {rewound} with orders ahead");
        assert!(cut > inferred, "{inferred} inferred in {cut} cuts");
    }
}

/// The same, but nothing behind the hole can be read: where orders at rest stood is inferred. Money and copies add up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_that_swallows_the_rest_still_adds_up() {
    let shop = shop(true).await;
    let newest = *shop.snapshots.last().unwrap();
    let last = *shop.was.last_key_value().unwrap().0;
    let mut inferred = 0;
    let all: Vec<_> = shop.was.range(newest..last - 6).collect();
    for (lsn, was) in all.into_iter().step_by(every(11)) {
        let disk = shop.disk.copy();
        for lost in lsn + 1..=last {
            damage(&disk, lost);
        }
        let (report, audit) = repair(&disk).await;
        assert_eq!((report.last_lsn, report.lost.readable), (*lsn, 0));
        assert!(audit.is_conserved(), "{audit:?}");
        assert_eq!((audit.balances, audit.stock, audit.orders), (was.balances, was.stock, was.orders));
        if report.lost.inferred.is_empty() {
            assert_eq!(audit, *was);
        }
        inferred += report.lost.inferred.len();
    }
    assert!(inferred > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_is_missing_or_damaged_before_the_snapshot_costs_nothing() {
    let shop = shop(true).await;
    let whole = shop.was.last_key_value().unwrap().1;
    let newest = *shop.snapshots.last().unwrap();
    let first_lsn = |path: &Path| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let all = segments(&shop.disk);
    let old: Vec<_> = all.windows(2).filter(|pair| first_lsn(&pair[1]) <= newest).map(|pair| pair[0].clone()).collect();
    assert!(old.len() >= 2, "{all:?}, snapshot {newest}");
    for (place, path) in old.iter().enumerate() {
        let disk = shop.disk.copy();
        match place % 2 {
            0 => disk.alter(path, |content| content[20..].fill(0)),
            _ => disk.steal(path),
        }
        if place > 0 || first_lsn(path) == 1 {
            let (report, audit) = match Engine::open(config(&disk)).await {
                // The first one may go if a snapshot holds it.
                Ok(_) => continue,
                Err(_) => repair(&disk).await,
            };
            assert!(report.lost.is_nothing(), "{report:#?}");
            assert_eq!(audit, *whole);
        }
    }
    // In the middle of the very segment that the shop needs, but before the snapshot.
    let disk = shop.disk.copy();
    damage(&disk, newest - 1);
    refused(&disk).await;
    let (report, audit) = repair(&disk).await;
    assert!(report.lost.is_nothing() && audit == *whole, "{report:#?}");
    // Only a header: its name and its batches say the same.
    let disk = shop.disk.copy();
    disk.alter(&all[all.len() - 2], |content| content[9] ^= 1);
    refused(&disk).await;
    let (report, audit) = repair(&disk).await;
    assert!(report.lost.is_nothing() && audit == *whole, "{report:#?}");
    // The last one, of which nothing is left: whatever was in it is lost, so nobody but a repair goes on without it.
    for len in [0, 31, usize::MAX] {
        let disk = shop.disk.copy();
        let last = all.last().unwrap();
        assert!(first_lsn(last) > newest);
        disk.alter(last, |content| {
            content.fill(0);
            content.truncate(len);
        });
        refused(&disk).await;
        let (report, audit) = repair(&disk).await;
        assert_eq!(report.last_lsn, first_lsn(last) - 1);
        assert!(audit.is_conserved(), "{audit:#?} {report:#?}");
    }
    // One behind the snapshot: the shop ends before it.
    let disk = shop.disk.copy();
    let gone = all.iter().find(|path| first_lsn(path) > newest).unwrap().clone();
    disk.steal(&gone);
    refused(&disk).await;
    let (report, audit) = repair(&disk).await;
    assert_eq!(report.last_lsn, first_lsn(&gone) - 1);
    assert!(audit.is_conserved() && report.lost.events.is_some(), "{audit:#?} {report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_snapshots() {
    let shop = shop(true).await;
    let (last, whole) = shop.was.last_key_value().unwrap();
    // The newest: the older one and the journal hold everything. So does the journal alone.
    for both in [false, true] {
        let disk = shop.disk.copy();
        damage_snapshot(&disk, 1);
        if both {
            damage_snapshot(&disk, 0);
            refused(&disk).await;
        }
        let (report, audit) = repair(&disk).await;
        assert!(report.lost.is_nothing() && audit == *whole, "{report:#?}");
        assert_eq!(report.snapshot.is_none(), both);
        assert_eq!(report.kept.len(), 1 + usize::from(both));
    }
    // The journal is damaged as well: what it leads to.
    let disk = shop.disk.copy();
    (0..2).for_each(|place| damage_snapshot(&disk, place));
    let (at, was) = shop.was.iter().nth(shop.was.len() / 2).unwrap();
    damage(&disk, at + 1);
    let (report, audit) = repair(&disk).await;
    assert_eq!((report.last_lsn, &audit), (*at, was));
    assert_eq!(report.lost.events, Some((at + 1, *last)));
    // And at its beginning: nothing here is the shop any more.
    let disk = shop.disk.copy();
    (0..2).for_each(|place| damage_snapshot(&disk, place));
    disk.steal(&segments(&disk)[0]);
    refused(&disk).await;
    assert!(repair_refused(&disk).await.contains("no snapshot is sound"));
    // Nor are files that have lost their names: that would be a fresh start.
    let disk = shop.disk.copy();
    for path in snapshots(&disk) {
        disk.plant(&path.with_extension("snap.damaged"), b"what it was");
        disk.steal(&path);
    }
    segments(&disk).iter().for_each(|path| disk.steal(path));
    repair_refused(&disk).await;
}

/// A journal from event 1 is not all there was if the shop began with loaded data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loaded_data_is_in_snapshots_only() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let mut options = bookstore::offline::LoadOptions::default();
    options.password_params.memory_kib = 64;
    let mut loader = bookstore::offline::Loader::begin(&dir, options).unwrap();
    let password = bookstore::offline::LoadPassword::Clear("pw");
    loader.account(&bookstore::offline::LoadAccount { user_id: "loaded", password, balance: 5 }).unwrap();
    loader.finish().unwrap();
    let engine = Engine::open(Config::directory(&dir)).await.unwrap();
    engine.register("new", "pw").await.unwrap();
    engine.add_funds("new", T, 5).await.unwrap();
    drop(engine);
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "snap") {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[40] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let repair = Repair::plan(&Storage::Directory(dir.clone())).await.unwrap();
    assert!(repair.report().refused.as_ref().unwrap().contains("loaded data"), "{:?}", repair.report());
    // It is locked as long as the plan is kept.
    assert!(matches!(Engine::open(Config::directory(&dir)).await, Err(OpenError::Locked { .. })));
    assert!(Repair::plan(&Storage::Directory(dir)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_at_rest_that_are_gone_are_in_the_journal_or_missed() {
    let whole_journal = shop(false).await;
    let whole = whole_journal.was.last_key_value().unwrap().1;
    let file = Path::new("/data/orders.redb");
    for unreadable in [false, true] {
        let disk = whole_journal.disk.copy();
        match unreadable {
            true => disk.alter(file, |content| content.iter_mut().for_each(|byte| *byte ^= 0x33)),
            false => disk.steal(file),
        }
        refused(&disk).await;
        let (report, audit) = repair(&disk).await;
        assert!(report.lost.is_nothing() && audit == *whole, "{report:#?}");
        assert_eq!(report.kept.len(), usize::from(unreadable));
    }
    // With snapshots, too, as long as the journal is whole; else they are missed.
    let shop = shop(true).await;
    let disk = shop.disk.copy();
    disk.steal(file);
    let (report, audit) = repair(&disk).await;
    assert!(report.lost.is_nothing() && audit == *shop.was.last_key_value().unwrap().1);
    assert_eq!(report.snapshot, None);
    let disk = shop.disk.copy();
    disk.steal(file);
    disk.steal(&segments(&disk)[0]);
    let why = repair_refused(&disk).await;
    assert!(why.contains("orders at rest are gone") && why.contains("backup"), "{why}");
    // Documents are nowhere else.
    let disk = shop.disk.copy();
    disk.steal(Path::new("/data/documents.redb"));
    assert!(repair_refused(&disk).await.contains("documents.redb is not there"));
}

/// Killed at each operation, whatever the disk keeps of it: an engine refuses what is there or opens the same shop, and
/// the repair that is begun again ends in that shop, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_is_killed_is_begun_again() {
    let shop = shop(true).await;
    let newest = *shop.snapshots.last().unwrap();
    let (lsn, was) = shop.was.range(newest + 8..).next().unwrap();
    let damaged = |disk: &SimDisk| {
        damage(disk, lsn + 1);
        damage(disk, newest - 2);
        damage_snapshot(disk, 0);
    };
    let disk = shop.disk.copy();
    damaged(&disk);
    let planned = Repair::plan(&storage(&disk)).await.unwrap();
    assert!(planned.report().steps.len() >= 5, "{:#?}", planned.report());
    let before = disk.operations();
    planned.carry_out().await.unwrap();
    let operations = disk.operations() - before;
    assert!(operations > 30, "{operations}");
    for at in (0..operations).step_by(every(8)) {
        for how in [Crash::LoseAll, Crash::Tear(at), Crash::KeepAll] {
            if every(8) > 1 && matches!(how, Crash::KeepAll) {
                continue;
            }
            let disk = shop.disk.copy();
            damaged(&disk);
            let planned = Repair::plan(&storage(&disk)).await.unwrap();
            disk.kill_at(at);
            assert!(planned.carry_out().await.is_err());
            disk.crash(how);
            let probe = disk.copy();
            match Engine::open(config(&probe)).await {
                Ok(engine) => assert_eq!(engine.audit().await.unwrap(), *was, "killed at {at}, {how:?}"),
                Err(OpenError::Damaged(_)) => {}
                Err(error) => panic!("killed at {at}, {how:?}: {error}"),
            }
            let again = Repair::plan(&storage(&disk)).await.unwrap();
            again.carry_out().await.unwrap_or_else(|error| panic!("killed at {at}, {how:?}: {error}"));
            let engine = Engine::open(config(&disk)).await.unwrap_or_else(|error| panic!("{at}, {how:?}: {error}"));
            assert_eq!(engine.audit().await.unwrap(), *was, "killed at {at}, {how:?}");
        }
    }
}

/// One segment, a whole batch of it destroyed before the snapshot. Without the rest of it the snapshot opens, too.
async fn damaged_before_the_snapshot() -> (SimDisk, AuditReport) {
    let disk = SimDisk::new();
    let engine = Engine::open(config(&disk)).await.unwrap();
    engine.register("ann", "pw").await.unwrap();
    for event in 0..30 {
        engine.add_funds("ann", T, 1).await.unwrap();
        if event == 15 {
            engine.snapshot().await.unwrap();
        }
    }
    let was = engine.audit().await.unwrap();
    drop(engine);
    disk.crash(Crash::LoseAll);
    let (path, at, len) = places(&disk).pop_last().unwrap().1;
    // What is allocated in advance is left out, to be quick.
    disk.alter(&path, |content| content.truncate(at + len));
    assert_eq!(segments(&disk), [path]);
    damage(&disk, 8);
    refused(&disk).await;
    (disk.copy(), was)
}

/// Killed between the new segment and the old one's going: both hold the same events, and the new one stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_is_begun_again_keeps_the_segment_that_it_made() {
    let (damaged, was) = damaged_before_the_snapshot().await;
    assert_eq!(repair(&damaged.copy()).await.1, was);
    let mut both = 0;
    'kills: for at in 0.. {
        for how in [Crash::LoseAll, Crash::Tear(at), Crash::KeepAll] {
            let disk = damaged.copy();
            let planned = Repair::plan(&storage(&disk)).await.unwrap();
            disk.kill_at(at);
            if planned.carry_out().await.is_ok() {
                break 'kills;
            }
            disk.crash(how);
            let made = segments(&disk).get(1).cloned();
            both += u64::from(made.is_some());
            // The new one may be damaged as well, and then both begin and end alike.
            for header_damaged in [false, true] {
                let disk = disk.copy();
                match &made {
                    Some(made) if header_damaged => disk.alter(made, |content| content[9] ^= 1),
                    None if header_damaged => continue,
                    _ => {}
                }
                let was_made = made.as_ref().map(|made| disk.content(made));
                match Engine::open(config(&disk.copy())).await {
                    Ok(engine) => assert_eq!(engine.audit().await.unwrap(), was, "killed at {at}, {how:?}"),
                    Err(error) => assert!(matches!(error, OpenError::Damaged(_)), "killed at {at}, {how:?}: {error}"),
                }
                let again = Repair::plan(&storage(&disk)).await.unwrap();
                assert_eq!(again.report().last_lsn, *places(&damaged).last_key_value().unwrap().0);
                let done = again.carry_out().await.unwrap_or_else(|error| panic!("killed at {at}, {how:?}: {error}"));
                let untouched = made.is_none() || header_damaged || done.kept.len() == 1;
                assert!(done.lost.is_nothing() && untouched, "{done:#?}");
                let engine = Engine::open(config(&disk)).await.unwrap();
                assert_eq!(engine.audit().await.unwrap(), was, "killed at {at}, {how:?}, {header_damaged}");
                let kept = was_made.is_none_or(|bytes| {
                    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
                    disk.files().iter().any(|file| disk.content(file).starts_with(&bytes[..=end]))
                });
                assert!(kept, "killed at {at}, {how:?}: what the first repair made is destroyed");
            }
        }
    }
    assert!(both > 0, "never were both there");
}
