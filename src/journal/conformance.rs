//! What every [`LogStore`] must do, run against each of them.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, MemoryDisk, OpenMode};

use super::batch::BATCH_MAGIC;
use super::*;

/// Opens logs on one medium, again and again.
trait Medium {
    fn open(
        &self,
        after: Lsn,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), LogError>,
    ) -> Result<(Box<dyn LogStore>, Recovered), LogError>;

    /// Makes the batch that begins with this frame unreadable, as a power loss or rot would.
    fn lose(&self, first_lsn: Lsn);
}

struct Files(Arc<dyn Disk>);

impl Medium for Files {
    fn open(
        &self,
        after: Lsn,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), LogError>,
    ) -> Result<(Box<dyn LogStore>, Recovered), LogError> {
        let options = FileLogOptions { segment_bytes: 1536 };
        let disk = Arc::clone(&self.0);
        let (log, recovered) = FileLog::open(disk, Path::new("/d/journal"), options, after, visit)?;
        Ok((Box::new(log), recovered))
    }

    fn lose(&self, first_lsn: Lsn) {
        let dir = Path::new("/d/journal");
        for name in self.0.list(dir).unwrap() {
            let file = self.0.open(&dir.join(name), OpenMode::ReadWrite).unwrap();
            let mut content = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            file.read_exact_at(0, &mut content).unwrap();
            let header = [&BATCH_MAGIC[..], &[0; 4], &first_lsn.to_le_bytes()].concat();
            let begins = |at: &[u8]| at[..4] == header[..4] && at[8..16] == header[8..];
            if let Some(at) = content.windows(16).position(begins) {
                file.write_all_at(at as u64, &[0; BATCH_HEADER_BYTES]).unwrap();
                return;
            }
        }
        panic!("no batch begins with frame {first_lsn}");
    }
}

impl Medium for MemoryMedium {
    fn open(
        &self,
        after: Lsn,
        visit: &mut dyn FnMut(Frame<'_>) -> Result<(), LogError>,
    ) -> Result<(Box<dyn LogStore>, Recovered), LogError> {
        let (log, recovered) = MemoryLog::open(self, after, visit)?;
        Ok((Box::new(log), recovered))
    }

    fn lose(&self, first_lsn: Lsn) {
        self.lose(first_lsn);
    }
}

type Case = fn(&dyn Medium);

const CASES: [(&str, Case); 12] = [
    ("a new log is empty", a_new_log_is_empty),
    ("what is appended is found", what_is_appended_is_found),
    ("only later frames are shown", only_later_frames_are_shown),
    ("it goes on where it ended", it_goes_on_where_it_ended),
    ("a snapshot may overtake it", a_snapshot_may_overtake_it),
    ("only the next batch is taken", only_the_next_batch_is_taken),
    ("trimming keeps what is later", trimming_keeps_what_is_later),
    ("trimming leaves the last batch", trimming_leaves_the_last_batch),
    ("needed frames must be there", needed_frames_must_be_there),
    ("a visitor can refuse", a_visitor_can_refuse),
    ("a hole that no sync had covered is cut", a_hole_that_no_sync_had_covered_is_cut),
    ("a hole that a later batch knows to be synced is damage", a_hole_in_what_was_synced_is_damage),
];

#[test]
fn a_log_in_files_conforms() {
    for (name, case) in CASES {
        println!("{name}");
        case(&Files(Arc::new(MemoryDisk::new())));
    }
}

#[test]
fn a_log_in_memory_conforms() {
    for (name, case) in CASES {
        println!("{name}");
        case(&MemoryMedium::new());
    }
}

fn payload(lsn: Lsn) -> Vec<u8> {
    let bytes = usize::try_from(lsn % 7 * 31).unwrap();
    std::iter::repeat_n(lsn as u8, bytes).collect()
}

fn append(log: &mut dyn LogStore, first: Lsn, frames: u32, epoch: u32) -> Result<(), LogError> {
    let mut body = Vec::new();
    for lsn in first..first + Lsn::from(frames) {
        let payload = payload(lsn);
        let frame = Frame { lsn, epoch, kind: (lsn % 5) as u8, version: 2, payload: &payload };
        encode_frame(&mut body, &frame);
    }
    log.append(first, frames, epoch, &body)
}

/// Opens the log and gives the LSNs that were shown, after checking the rest of each frame.
fn reopen(medium: &dyn Medium, after: Lsn) -> (Box<dyn LogStore>, Recovered, Vec<Lsn>) {
    let mut shown = Vec::new();
    let (log, recovered) = medium
        .open(after, &mut |frame| {
            assert_eq!(frame.payload, payload(frame.lsn));
            assert_eq!(u64::from(frame.kind), frame.lsn % 5);
            assert_eq!(frame.version, 2);
            shown.push(frame.lsn);
            Ok(())
        })
        .unwrap();
    assert_eq!(recovered.frames, shown.len() as u64);
    (log, recovered, shown)
}

/// 60 frames in batches of three: several segments.
fn filled(medium: &dyn Medium) {
    let (mut log, ..) = reopen(medium, 0);
    for first in (1..=60).step_by(3) {
        append(&mut *log, first, 3, 1).unwrap();
        log.sync().unwrap();
    }
}

fn a_new_log_is_empty(medium: &dyn Medium) {
    for after in [0, 0, 41] {
        let (_, recovered, _) = reopen(medium, after);
        let nothing = Recovered { last_lsn: after, last_epoch: 0, cut_bytes: 0, frames: 0 };
        assert_eq!(recovered, nothing);
    }
}

fn what_is_appended_is_found(medium: &dyn Medium) {
    filled(medium);
    for _ in 0..2 {
        let (_, recovered, shown) = reopen(medium, 0);
        assert_eq!(shown, (1..=60).collect::<Vec<_>>());
        assert_eq!((recovered.last_lsn, recovered.last_epoch), (60, 1));
    }
}

fn only_later_frames_are_shown(medium: &dyn Medium) {
    filled(medium);
    for after in [0, 1, 29, 30, 31, 59, 60] {
        let (_, recovered, shown) = reopen(medium, after);
        assert_eq!(shown, (after + 1..=60).collect::<Vec<_>>());
        assert_eq!((recovered.last_lsn, recovered.last_epoch), (60, 1));
    }
}

fn it_goes_on_where_it_ended(medium: &dyn Medium) {
    for epoch in 1..=5 {
        let (mut log, recovered, _) = reopen(medium, 0);
        assert_eq!(recovered.last_epoch, epoch - 1);
        append(&mut *log, recovered.last_lsn + 1, 7, epoch).unwrap();
        log.sync().unwrap();
    }
    assert_eq!(reopen(medium, 0).2, (1..=35).collect::<Vec<_>>());
}

fn a_snapshot_may_overtake_it(medium: &dyn Medium) {
    filled(medium);
    let (mut log, recovered, shown) = reopen(medium, 100);
    assert_eq!((recovered.last_lsn, shown), (100, Vec::new()));
    append(&mut *log, 101, 2, 2).unwrap();
    log.sync().unwrap();
    drop(log);
    assert_eq!(reopen(medium, 100).2, vec![101, 102]);
    assert!(matches!(medium.open(99, &mut |_| Ok(())), Err(LogError::Corrupt { .. })), "frame 100 is nowhere");
}

fn only_the_next_batch_is_taken(medium: &dyn Medium) {
    let (mut log, ..) = reopen(medium, 0);
    append(&mut *log, 1, 3, 1).unwrap();
    log.sync().unwrap();
    let wrong = append(&mut *log, 5, 1, 1);
    assert!(matches!(wrong, Err(LogError::OutOfOrder { expected: 4, got: 5 })));
    drop(log);
    let (mut log, _, shown) = reopen(medium, 0);
    assert_eq!(shown, vec![1, 2, 3]);
    assert!(matches!(log.append(4, 0, 1, &[]), Err(LogError::BatchSize { .. })));
    drop(log);
    let (mut log, ..) = reopen(medium, 0);
    assert!(matches!(log.append(4, 9, 1, &vec![0; BATCH_BYTES_MAX]), Err(LogError::BatchSize { .. })));
}

fn trimming_keeps_what_is_later(medium: &dyn Medium) {
    for upto in [0, 10, 35, 59] {
        filled_to(medium, upto);
        let (_, _, shown) = reopen(medium, upto);
        assert_eq!(shown, (upto + 1..=60).collect::<Vec<_>>());
    }
}

/// Fills the log, if it is empty, and trims it.
fn filled_to(medium: &dyn Medium, upto: Lsn) {
    if upto == 0 {
        filled(medium);
    }
    let (mut log, ..) = reopen(medium, upto);
    log.trim(upto).unwrap();
}

fn trimming_leaves_the_last_batch(medium: &dyn Medium) {
    filled(medium);
    let (mut log, ..) = reopen(medium, 0);
    log.trim(60).unwrap();
    append(&mut *log, 61, 1, 1).unwrap();
    log.sync().unwrap();
    drop(log);
    assert!(reopen(medium, 60).2 == vec![61]);
    assert!(reopen(medium, 59).2 == vec![60, 61], "the current segment");
}

fn needed_frames_must_be_there(medium: &dyn Medium) {
    filled(medium);
    let (mut log, ..) = reopen(medium, 0);
    log.trim(50).unwrap();
    drop(log);
    let refused = medium.open(0, &mut |_| Ok(()));
    assert!(matches!(refused, Err(LogError::Corrupt { .. })));
    assert_eq!(reopen(medium, 50).2, (51..=60).collect::<Vec<_>>());
}

fn a_visitor_can_refuse(medium: &dyn Medium) {
    filled(medium);
    let refused = medium.open(0, &mut |frame| match frame.lsn {
        17 => Err(LogError::Visit("no 17".to_owned())),
        _ => Ok(()),
    });
    match refused {
        Err(LogError::Visit(why)) => assert_eq!(why, "no 17"),
        other => panic!("{:?}", other.map(|(_, recovered)| recovered)),
    }
    assert_eq!(reopen(medium, 0).2.len(), 60, "nothing was changed");
}

/// Frames 1 to 6, a batch each, in one segment; synced after 3 and, if asked, after 5.
fn six_batches(medium: &dyn Medium, sync_at_5: bool) {
    let (mut log, ..) = reopen(medium, 0);
    for lsn in 1..=6 {
        append(&mut *log, lsn, 1, 1).unwrap();
        if lsn == 3 || (lsn == 5 && sync_at_5) {
            log.sync().unwrap();
        }
    }
}

fn a_hole_that_no_sync_had_covered_is_cut(medium: &dyn Medium) {
    six_batches(medium, false);
    medium.lose(5);
    let (mut log, recovered, shown) = reopen(medium, 0);
    assert_eq!(shown, vec![1, 2, 3, 4]);
    assert!(recovered.cut_bytes > 0);
    // What stood behind the hole is gone for good.
    append(&mut *log, 5, 1, 2).unwrap();
    log.sync().unwrap();
    drop(log);
    let (mut log, recovered, shown) = reopen(medium, 0);
    assert_eq!((shown, recovered.cut_bytes), (vec![1, 2, 3, 4, 5], 0));
    append(&mut *log, 6, 1, 3).unwrap();
    drop(log);
    // An open makes durable what it finds; the batch after it says so.
    medium.lose(5);
    assert!(matches!(medium.open(0, &mut |_| Ok(())), Err(LogError::Corrupt { .. })));
}

fn a_hole_in_what_was_synced_is_damage(medium: &dyn Medium) {
    six_batches(medium, true);
    medium.lose(4);
    assert!(matches!(medium.open(0, &mut |_| Ok(())), Err(LogError::Corrupt { .. })), "6 knows of the sync at 5");
    medium.lose(6);
    // Without that proof it looks like the work of a crash.
    assert_eq!(reopen(medium, 0).2, vec![1, 2, 3], "5 knows of the sync at 3 only");
    medium.lose(2);
    assert_eq!(reopen(medium, 0).2, vec![1], "3 was written before any sync");
}

#[test]
fn a_crash_of_the_memory_medium_loses_what_was_not_synced() {
    let medium = MemoryMedium::new();
    let (mut log, ..) = reopen(&medium, 0);
    append(&mut *log, 1, 2, 1).unwrap();
    log.sync().unwrap();
    append(&mut *log, 3, 2, 1).unwrap();
    medium.crash();
    assert_eq!(reopen(&medium, 0).2, vec![1, 2]);
}

#[test]
fn trimmed_segments_leave_the_directory_and_large_batches_fit() {
    let disk = MemoryDisk::new();
    let files = Files(Arc::new(disk.clone()));
    filled(&files);
    let dir = Path::new("/d/journal");
    let count = || {
        let names = disk.list(dir).unwrap();
        names.iter().filter(|name| name.ends_with(".seg")).count()
    };
    let before = count();
    assert!(before > 3, "{before} segments");
    let (mut log, ..) = reopen(&files, 0);
    log.trim(60).unwrap();
    assert_eq!(count(), 1);
    // Larger than a segment: it gets one for itself.
    append(&mut *log, 61, 50, 1).unwrap();
    append(&mut *log, 111, 50, 1).unwrap();
    append(&mut *log, 161, 1, 1).unwrap();
    log.sync().unwrap();
    drop(log);
    assert_eq!(count(), 4);
    assert_eq!(reopen(&files, 60).2, (61..=161).collect::<Vec<_>>());
    assert!(disk.list(dir).unwrap().iter().all(|name| name.ends_with(".seg") || name == "spare.tmp"));
}
