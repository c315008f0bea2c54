//! What a failing, tearing, forgetting disk does to the journal: nothing that was acknowledged is
//! lost, nothing that was altered is believed, and after an error nothing is acknowledged.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that meets the unexpected should panic")]

#[path = "common/sim_disk.rs"]
mod sim_disk;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bookstore::disk::{Disk, RealDisk};
use bookstore::internals::journal::{
    BATCH_BYTES_MAX, BATCH_HEADER_BYTES, Durability, FileLog, FileLogOptions, Frame, Journal, JournalOptions, LogError,
    LogStore, Lsn, Observer, Recovered, encode_frame,
};
use sim_disk::{Crash, SimDisk};

const SEGMENT_HEADER_BYTES: usize = 32;

fn dir() -> &'static Path {
    Path::new("/data/journal")
}

fn payload(lsn: Lsn) -> Vec<u8> {
    let len = 5 + usize::try_from(lsn * 37 % 90).unwrap();
    (0..len).map(|at| (lsn as usize + at) as u8 | 1).collect()
}

/// Opens the log; every frame that is shown must be the one that was written.
fn open(disk: Arc<dyn Disk>, dir: &Path, segment_bytes: u64, after: Lsn) -> Result<(FileLog, Recovered), LogError> {
    let mut next = after + 1;
    let options = FileLogOptions { segment_bytes };
    let opened = FileLog::open(disk, dir, options, after, &mut |frame| {
        assert_eq!(frame.lsn, next, "frames are shown in order, without gaps");
        assert_eq!(frame.payload, payload(frame.lsn), "frame {}", frame.lsn);
        next += 1;
        Ok(())
    })?;
    assert_eq!(opened.1.frames, next - after - 1);
    Ok(opened)
}

fn open_sim(disk: &SimDisk, segment_bytes: u64) -> Result<(FileLog, Recovered), LogError> {
    open(Arc::new(disk.clone()), dir(), segment_bytes, 0)
}

fn body(lsns: std::ops::RangeInclusive<Lsn>, epoch: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for lsn in lsns {
        let payload = payload(lsn);
        let frame = Frame { lsn, epoch, kind: 1, version: 1, payload: &payload };
        encode_frame(&mut body, &frame);
    }
    body
}

/// A log of `batches` batches of one to three frames, and the end of each batch: the file, the
/// offset and the last LSN.
fn written(segment_bytes: u64, batches: u32) -> (SimDisk, Vec<(PathBuf, usize, Lsn)>) {
    let disk = SimDisk::new();
    let (mut log, recovered) = open_sim(&disk, segment_bytes).unwrap();
    assert_eq!(recovered.last_lsn, 0);
    let mut ends: Vec<(PathBuf, usize, Lsn)> = Vec::new();
    let mut first = 1;
    for batch in 0..batches {
        let frames = batch % 3 + 1;
        let last = first + Lsn::from(frames) - 1;
        let body = body(first..=last, 1);
        log.append(first, frames, 1, &body).unwrap();
        log.sync().unwrap();
        let file = segments(&disk).pop().unwrap();
        let start = match ends.last() {
            Some((before, end, _)) if *before == file => *end,
            _ => SEGMENT_HEADER_BYTES,
        };
        ends.push((file, start + BATCH_HEADER_BYTES + body.len(), last));
        first = last + 1;
    }
    drop(log);
    (disk, ends)
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "seg"));
    files
}

#[track_caller]
fn assert_corrupt(result: Result<(FileLog, Recovered), LogError>) {
    match result {
        Err(LogError::Corrupt { .. }) => {}
        Err(other) => panic!("{other}"),
        Ok((_, recovered)) => panic!("opened: {recovered:?}"),
    }
}

#[test]
fn every_cut_of_the_last_4096_offsets_loses_only_what_was_cut() {
    let (disk, ends) = written(8 * 1024, 40);
    let (file, end, last) = ends.last().unwrap();
    assert!(*end > 4096 + SEGMENT_HEADER_BYTES && *last > 70);
    assert_eq!(segments(&disk).len(), 1);
    for cut in end - 4096..=*end {
        let kept = ends.iter().rev().find(|(_, end, _)| *end <= cut);
        let kept = kept.map_or(0, |(_, _, lsn)| *lsn);

        let shorter = disk.copy();
        shorter.alter(file, |content| content.truncate(cut));
        let (mut log, recovered) = open_sim(&shorter, 8 * 1024).unwrap();
        assert_eq!(recovered.last_lsn, kept, "cut at {cut}");

        let zeroed = disk.copy();
        zeroed.alter(file, |content| content[cut..].fill(0));
        let (_, recovered) = open_sim(&zeroed, 8 * 1024).unwrap();
        assert_eq!(recovered.last_lsn, kept, "zeros from {cut}");

        // What was cut is gone for good, and the log goes on over it.
        log.append(kept + 1, 1, 2, &body(kept + 1..=kept + 1, 2)).unwrap();
        log.sync().unwrap();
        drop(log);
        let (_, recovered) = open_sim(&shorter, 8 * 1024).unwrap();
        assert_eq!((recovered.last_lsn, recovered.cut_bytes), (kept + 1, 0));
    }
}

/// A segment has its name after its header was synced, so a crash leaves none of these; what was in it was acknowledged.
#[test]
fn a_last_segment_that_is_empty_or_all_zeros_is_damage() {
    let (disk, ends) = written(2 * 1024, 40);
    let (file, ..) = ends.last().unwrap();
    assert!(segments(&disk).len() > 1);
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 4] = [
        |content| content.fill(0),
        Vec::clear,
        |content| content.truncate(SEGMENT_HEADER_BYTES - 1),
        |content| {
            content.fill(0);
            content.truncate(SEGMENT_HEADER_BYTES - 1);
        },
    ];
    for damage in damages {
        let damaged = disk.copy();
        damaged.alter(file, damage);
        let before = damaged.content(file);
        assert_corrupt(open_sim(&damaged, 2 * 1024));
        assert_eq!(damaged.content(file), before, "it was touched");
    }
}

#[test]
fn every_flipped_byte_is_noticed() {
    let (disk, ends) = written(1024, 18);
    let files = segments(&disk);
    assert!(files.len() > 2);
    let (last_file, last_end, last) = ends.last().unwrap();
    let (before_file, before_end, before) = &ends[ends.len() - 2];
    assert_eq!(before_file, last_file, "the last segment holds two batches");
    for file in &files {
        for at in 0..disk.content(file).len() {
            for flip in [0x01, 0x80, 0xFF] {
                let flipped = disk.copy();
                flipped.alter(file, |content| content[at] ^= flip);
                let opened = open_sim(&flipped, 1024);
                if file != last_file || at < *before_end {
                    assert_corrupt(opened);
                    continue;
                }
                // In the very last batch it looks like a torn write; behind it, like rubbish.
                let (_, recovered) = opened.unwrap();
                let kept = if at < *last_end { before } else { last };
                assert_eq!(recovered.last_lsn, *kept, "byte {at}");
                assert!(recovered.cut_bytes > 0, "byte {at}");
            }
        }
    }
}

#[test]
fn a_refused_log_is_left_as_it_was() {
    let (disk, ends) = written(1024, 18);
    disk.plant(&dir().join("spare.tmp"), b"rubbish");
    disk.alter(&ends[3].0, |content| content[100] ^= 1);
    let before: Vec<_> = disk.files().iter().map(|file| disk.content(file)).collect();
    let operations = disk.operations();
    assert_corrupt(open_sim(&disk, 1024));
    let after: Vec<_> = disk.files().iter().map(|file| disk.content(file)).collect();
    assert!(before == after);
    let done = disk.operation_log().split_off(operations as usize);
    assert!(done.iter().all(|what| what.starts_with("sync-dir")), "{done:?}");
}

#[test]
fn a_missing_segment_is_noticed() {
    let (disk, _) = written(1024, 18);
    let files = segments(&disk);
    for gone in &files[..files.len() - 1] {
        let copy = disk.copy();
        copy.steal(gone);
        assert_corrupt(open_sim(&copy, 1024));
    }
    let copy = disk.copy();
    let content = copy.content(&files[1]);
    copy.alter(&files[2], |other| *other = content);
    assert_corrupt(open_sim(&copy, 1024));
    disk.plant(&dir().join("backup.seg"), b"");
    assert_corrupt(open_sim(&disk, 1024));
}

#[test]
fn rubbish_behind_the_end_is_cut_if_a_batch_could_have_left_it() {
    let far = BATCH_BYTES_MAX + 64 * 1024;
    let (disk, ends) = written(far as u64 + 64 * 1024, 3);
    let (file, end, last) = ends.last().unwrap().clone();
    for (at, fine) in [(0, true), (BATCH_BYTES_MAX - 1, true), (BATCH_BYTES_MAX, false)] {
        let copy = disk.copy();
        copy.alter(&file, |content| content[end + at] = 1);
        let opened = open_sim(&copy, far as u64);
        if fine {
            let (_, recovered) = opened.unwrap();
            assert_eq!(recovered.cut_bytes, at as u64 + 1);
            assert_eq!(recovered.last_lsn, last);
        } else {
            assert_corrupt(opened);
        }
    }
}

#[test]
fn leftovers_of_a_crash_are_removed() {
    let (disk, ends) = written(1024, 18);
    let last = ends.last().unwrap().2;
    let copy = disk.copy();
    copy.plant(&dir().join("spare.tmp"), b"rubbish");
    copy.plant(&dir().join("00000000000000000001.seg.tmp"), b"rubbish");
    let (log, recovered) = open_sim(&copy, 1024).unwrap();
    drop(log);
    assert_eq!((recovered.last_lsn, recovered.cut_bytes), (last, 0));
    let left = copy.files();
    let left: Vec<_> = left.iter().filter(|file| !segments(&copy).contains(file)).collect();
    assert!(left.iter().all(|file| file.ends_with("spare.tmp")), "{left:?}");
    if let Some(spare) = left.first() {
        assert!(copy.content(spare).iter().all(|byte| *byte == 0));
    }
    // With the name of a segment, it is no leftover.
    for content in [&b""[..], b"BKST", &[0; 1024], &[7; 32]] {
        let copy = disk.copy();
        copy.plant(&dir().join(format!("{:020}.seg", last + 1)), content);
        assert_corrupt(open_sim(&copy, 1024));
    }
}

#[test]
fn a_torn_batch_is_cut_whole() {
    for seed in 0..300 {
        let (disk, ends) = written(16 * 1024, 5);
        let last = ends.last().unwrap().2;
        let (mut log, _) = open_sim(&disk, 16 * 1024).unwrap();
        let frames = 40;
        let batch = body(last + 1..=last + frames, 2);
        log.append(last + 1, frames as u32, 2, &batch).unwrap();
        disk.crash(Crash::Tear(seed));
        drop(log);
        let (_, recovered) = open_sim(&disk, 16 * 1024).unwrap();
        let whole = recovered.last_lsn == last + frames && recovered.cut_bytes == 0;
        assert!(whole || recovered.last_lsn == last, "{recovered:?}");
    }
}

/// What every log may leave unsynced at most is what an open may cut at most.
#[test]
fn no_more_than_the_longest_batch_is_ever_unsynced() {
    let disk = SimDisk::new();
    let segment_bytes = 4 * BATCH_BYTES_MAX as u64;
    let (mut log, _) = open_sim(&disk, segment_bytes).unwrap();
    let large = vec![1; 3 * 1024 * 1024];
    for lsn in 1..=3 {
        let mut body = Vec::new();
        encode_frame(&mut body, &Frame { lsn, epoch: 1, kind: 1, version: 1, payload: &large });
        log.append(lsn, 1, 1, &body).unwrap();
    }
    disk.crash(Crash::LoseAll);
    drop(log);
    let mut shown = 0;
    let options = FileLogOptions { segment_bytes };
    FileLog::open(Arc::new(disk), dir(), options, 0, &mut |frame| {
        shown = frame.lsn;
        Ok(())
    })
    .unwrap();
    assert_eq!(shown, 2, "the third did not fit beside the two");
}

/// In buffered mode many batches are unsynced at once, and a power loss takes any of them: lives upon
/// lives of a log that syncs now and then, rolls, and is torn.
#[test]
fn a_power_loss_takes_any_of_the_unsynced_batches_and_none_of_the_others() {
    let (mut holes, mut lost) = (0, 0);
    for seed in 0..300_u64 {
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut below = |bound: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 32) % bound
        };
        let disk = SimDisk::new();
        let (mut synced, mut head) = (0, 0);
        for epoch in 1..=4 {
            let (mut log, recovered) = open_sim(&disk, 4096).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!((synced..=head).contains(&recovered.last_lsn), "seed {seed}: {synced} synced, {recovered:?}");
            holes += u32::from(recovered.cut_bytes > 0);
            lost += u32::from(recovered.last_lsn < head);
            (synced, head) = (recovered.last_lsn, recovered.last_lsn);
            for _ in 0..5 + below(40) {
                let frames = 1 + below(4);
                log.append(head + 1, frames as u32, epoch, &body(head + 1..=head + frames, epoch)).unwrap();
                head += frames;
                if below(12) == 0 {
                    log.sync().unwrap();
                    synced = head;
                }
            }
            let how = if below(8) == 0 { Crash::LoseAll } else { Crash::Tear(seed * 10 + u64::from(epoch)) };
            disk.crash(how);
            drop(log);
        }
    }
    assert!(holes > 300 && lost > 300, "{holes} holes, {lost} losses: too few to prove anything");
}

#[test]
fn what_a_later_batch_knows_to_be_synced_is_never_cut() {
    let (disk, ends) = written(16 * 1024, 6);
    let (mut log, recovered) = open_sim(&disk, 16 * 1024).unwrap();
    // Three batches without a sync in between, the sync, and one more.
    let first = recovered.last_lsn + 1;
    for lsn in first..first + 3 {
        log.append(lsn, 1, 2, &body(lsn..=lsn, 2)).unwrap();
    }
    let unsynced = disk.copy();
    log.sync().unwrap();
    log.append(first + 3, 1, 2, &body(first + 3..=first + 3, 2)).unwrap();
    drop(log);
    let (file, start, _) = ends.last().unwrap();
    for at in *start..start + BATCH_HEADER_BYTES + body(first..=first, 2).len() {
        let flip = |disk: &SimDisk| disk.alter(file, |content| content[at] ^= 0x10);
        let flipped = disk.copy();
        flip(&flipped);
        assert_corrupt(open_sim(&flipped, 16 * 1024));
        // The same byte while no sync was known to have covered it: all three are cut.
        let flipped = unsynced.copy();
        flip(&flipped);
        let (_, recovered) = open_sim(&flipped, 16 * 1024).unwrap();
        assert_eq!(recovered.last_lsn, first - 1);
        let three = 3 * BATCH_HEADER_BYTES + body(first..=first + 2, 2).len();
        assert_eq!(recovered.cut_bytes, three as u64);
    }
}

#[test]
fn a_segment_that_can_not_be_removed_is_tried_again() {
    let (disk, ends) = written(1024, 18);
    let last = ends.last().unwrap().2;
    let (mut log, _) = open_sim(&disk, 1024).unwrap();
    let before = segments(&disk);
    disk.fail_at(0);
    log.trim(last).unwrap();
    assert!(disk.operation_log().last().unwrap().starts_with("remove"));
    assert_eq!(segments(&disk), before, "the later ones wait for it");
    log.append(last + 1, 1, 2, &body(last + 1..=last + 1, 2)).unwrap();
    log.sync().unwrap();
    // Somebody else has removed it meanwhile; that is as good.
    disk.steal(&before[0]);
    log.trim(last).unwrap();
    assert_eq!(segments(&disk).len(), 1);
    drop(log);
    let (_, recovered) = open(Arc::new(disk), dir(), 1024, last).unwrap();
    assert_eq!(recovered.last_lsn, last + 1);
}

#[derive(Default)]
struct Told {
    advanced: Mutex<Vec<Lsn>>,
    failures: AtomicUsize,
}

impl Observer for Told {
    fn advanced(&self, durable: Lsn) {
        self.advanced.lock().unwrap().push(durable);
    }

    fn failed(&self, _why: &str) {
        self.failures.fetch_add(1, Ordering::SeqCst);
    }
}

/// One life of a process: opens the log, appends, trims, closes. Gives what it found, what was
/// acknowledged and what was given at all.
struct Life {
    opened: bool,
    failed: bool,
    acknowledged: Lsn,
    synced: Lsn,
    head: Lsn,
}

const LIFE_SEGMENT_BYTES: u64 = 1024;

fn live(disk: &SimDisk, epoch: u32, trimmed: Lsn, durability: Durability) -> Life {
    let mut life = Life { opened: false, failed: false, acknowledged: 0, synced: 0, head: 0 };
    let opened = open(Arc::new(disk.clone()), dir(), LIFE_SEGMENT_BYTES, trimmed);
    let (log, recovered) = match opened {
        Ok(opened) => opened,
        Err(LogError::Io { .. }) => return life,
        Err(other) => panic!("{other}\n{:#?}", disk.operation_log()),
    };
    assert!(recovered.last_epoch < epoch);
    life.opened = true;
    (life.acknowledged, life.synced) = (recovered.last_lsn, recovered.last_lsn);
    let told = Arc::new(Told::default());
    // Long: only what asks for it, a roll and the close, syncs. So much is unsynced at once.
    let options = JournalOptions { durability, sync_interval: Duration::from_secs(3_600), ..JournalOptions::default() };
    let observer = Arc::clone(&told) as Arc<dyn Observer>;
    let journal = Journal::start(Some(Box::new(log)), recovered.last_lsn, epoch, options, observer).unwrap();
    for round in 0..12 {
        for _ in 0..round % 4 {
            journal.append(1, 1, &payload(journal.head() + 1));
        }
        let lsn = journal.append(1, 1, &payload(journal.head() + 1));
        if journal.wait_durable(lsn).is_ok() {
            life.acknowledged = lsn;
        }
        if round == 9 {
            journal.trim(trimmed);
        }
    }
    life.head = journal.head();
    life.failed = journal.close().is_err();
    let durable = journal.durable();
    assert_eq!(life.failed, journal.is_failed());
    assert_eq!(told.failures.load(Ordering::SeqCst), usize::from(life.failed));
    let advanced = told.advanced.lock().unwrap();
    assert!(advanced.is_sorted());
    assert!(advanced.last().is_none_or(|last| *last == durable));
    assert!(durable >= life.acknowledged);
    life.acknowledged = durable;
    life.synced = journal.synced();
    if !life.failed {
        assert_eq!(durable, life.head);
    }
    life
}

/// Breaks the disk at each operation of the second of three lives, crashes, and looks at what the
/// third one finds.
fn break_each_operation(durability: Durability, break_at: fn(&SimDisk, u64), crash: impl Fn(u64) -> Crash) {
    let mut operation = 0;
    loop {
        let disk = SimDisk::new();
        let first = live(&disk, 1, 0, durability);
        assert!(first.opened && !first.failed);
        let before = disk.operations();
        break_at(&disk, operation);
        let second = live(&disk, 2, 20, durability);
        // A power loss takes what is only in the kernel.
        let crash = crash(operation);
        let promised = |life: &Life| match (durability, crash) {
            (Durability::Buffered, Crash::LoseAll | Crash::Tear(_)) => life.synced,
            _ => life.acknowledged,
        };
        let acknowledged = promised(&first).max(promised(&second));
        let head = first.head.max(second.head);
        let through = second.opened && !second.failed;
        let log = disk.operation_log().split_off(before as usize);
        if !through {
            // A segment that can not be removed is no failure; then the next operation of the killed one is.
            let harmless = |what: &String| what.starts_with("remove ") && what.ends_with(".seg");
            let broken_at = operation as usize + usize::from(harmless(&log[operation as usize]));
            let broken = log.get(broken_at);
            assert!(
                log.iter().skip(broken_at + 1).all(|next| !next.starts_with("sync ")),
                "synced after {broken:?} failed: {log:?}"
            );
        }
        disk.crash(crash);
        let (_, recovered) = open(Arc::new(disk.clone()), dir(), LIFE_SEGMENT_BYTES, 20)
            .unwrap_or_else(|error| panic!("{error} after {:?}", &log[operation as usize..]));
        assert!(
            (acknowledged..=head).contains(&recovered.last_lsn),
            "operation {operation}: {acknowledged} acknowledged, {recovered:?}"
        );
        if through && operation > log.len() as u64 {
            break;
        }
        operation += 1;
    }
    assert!(operation > 30, "only {operation} operations were broken");
}

#[test]
fn an_error_at_any_operation_is_final_and_loses_nothing_acknowledged() {
    let fail = SimDisk::fail_at;
    break_each_operation(Durability::Sync, fail, |_| Crash::KeepAll);
    break_each_operation(Durability::Sync, fail, |_| Crash::LoseAll);
    break_each_operation(Durability::Sync, fail, Crash::Tear);
}

#[test]
fn a_kill_at_any_operation_loses_nothing_acknowledged() {
    let kill = SimDisk::kill_at;
    break_each_operation(Durability::Sync, kill, |_| Crash::KeepAll);
    break_each_operation(Durability::Sync, kill, |_| Crash::LoseAll);
    for round in 1..20 {
        let tear = move |at| Crash::Tear(at + round * 1_000);
        break_each_operation(Durability::Sync, kill, tear);
    }
}

#[test]
fn buffered_frames_outlive_the_process() {
    break_each_operation(Durability::Buffered, SimDisk::fail_at, |_| Crash::KeepAll);
    break_each_operation(Durability::Buffered, SimDisk::kill_at, |_| Crash::KeepAll);
}

#[test]
fn buffered_frames_that_were_synced_outlive_the_power() {
    break_each_operation(Durability::Buffered, SimDisk::fail_at, Crash::Tear);
    break_each_operation(Durability::Buffered, SimDisk::kill_at, |_| Crash::LoseAll);
    for round in 0..20 {
        let tear = move |at| Crash::Tear(at + round * 1_000);
        break_each_operation(Durability::Buffered, SimDisk::kill_at, tear);
    }
}

#[test]
fn a_log_that_failed_takes_nothing_any_more() {
    let (disk, ends) = written(1024, 4);
    let last = ends.last().unwrap().2;
    let (mut log, _) = open_sim(&disk, 1024).unwrap();
    disk.fail_at(0);
    let next = body(last + 1..=last + 1, 2);
    assert!(matches!(log.append(last + 1, 1, 2, &next), Err(LogError::Io { .. })));
    let operations = disk.operations();
    assert!(matches!(log.append(last + 1, 1, 2, &next), Err(LogError::Broken)));
    assert!(matches!(log.sync(), Err(LogError::Broken)));
    assert!(matches!(log.trim(last), Err(LogError::Broken)));
    assert_eq!(disk.operations(), operations);
}

#[test]
fn the_real_disk_keeps_it_over_rolls_trims_and_restarts() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("journal");
    let mut head = 0;
    for epoch in 1..=4 {
        let after = head / 2;
        let (log, recovered) = open(Arc::new(RealDisk), &dir, 16 * 1024, after).unwrap();
        assert_eq!((recovered.last_lsn, recovered.last_epoch), (head, epoch - 1));
        let journal =
            Journal::start(Some(Box::new(log)), head, epoch, JournalOptions::default(), Arc::new(Told::default()))
                .unwrap();
        for _ in 0..1_000 {
            let lsn = journal.append(1, 1, &payload(journal.head() + 1));
            if lsn.is_multiple_of(50) {
                journal.wait_durable(lsn).unwrap();
            }
        }
        head = journal.head();
        journal.trim(head / 2);
        journal.close().unwrap();
    }
    let left = RealDisk.list(&dir).unwrap().len();
    assert!((2..20).contains(&left), "{left} files");
    assert_corrupt(open(Arc::new(RealDisk), &dir, 16 * 1024, 0));
}
