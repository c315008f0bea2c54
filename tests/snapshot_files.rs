//! Snapshot files on a failing disk: there is the old one or the new one, and no altered byte is
//! believed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that meets the unexpected should panic")]

#[path = "common/sim_disk.rs"]
mod sim_disk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bookstore::disk::{Disk, OpenMode, RealDisk};
use bookstore::internals::snapshot::{
    CHUNK_BYTES_MAX, Lsn, SnapshotError, SnapshotSummary, SnapshotWriter, list_snapshots, read_snapshot,
    remove_leftovers, retain, snapshot_path, verify_snapshot,
};
use sim_disk::{Crash, SimDisk};

fn dir() -> &'static Path {
    Path::new("/data")
}

fn chunks(seed: Lsn) -> Vec<(u8, Vec<u8>)> {
    (0..12_u64)
        .map(|n| {
            let len = (seed * 31 + n * 17) % 90;
            let payload = (0..len).map(|at| (seed + n * 3 + at) as u8).collect();
            (n as u8, payload)
        })
        .collect()
}

fn write(disk: Arc<dyn Disk>, dir: &Path, lsn: Lsn) -> Result<PathBuf, SnapshotError> {
    let mut writer = SnapshotWriter::create(disk, dir, lsn - 1)?;
    for (kind, payload) in chunks(lsn) {
        writer.chunk(kind, &payload)?;
    }
    Ok(writer.publish(b"the end", lsn)?.path)
}

fn write_sim(disk: &SimDisk, lsn: Lsn) -> Result<PathBuf, SnapshotError> {
    write(Arc::new(disk.clone()), dir(), lsn)
}

/// Reads it and compares with what was written for that LSN.
fn read(disk: &dyn Disk, path: &Path) -> Result<SnapshotSummary, SnapshotError> {
    let mut found = Vec::new();
    let summary = read_snapshot(disk, path, &mut |kind, payload| {
        found.push((kind, payload.to_vec()));
        Ok(())
    })?;
    assert_eq!(found, chunks(summary.final_lsn));
    assert_eq!(summary.chunks, 12);
    assert_eq!(summary.end_payload, b"the end");
    Ok(summary)
}

#[track_caller]
fn assert_damaged<T: std::fmt::Debug>(result: Result<T, SnapshotError>) {
    match result {
        Err(SnapshotError::Damaged { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_read() {
    let disk = SimDisk::new();
    let path = write_sim(&disk, 7).unwrap();
    assert_eq!(path, snapshot_path(dir(), 7));
    let summary = read(&disk, &path).unwrap();
    assert_eq!(summary.final_lsn, 7);
    assert_eq!(summary.bytes, disk.content(&path).len() as u64);
    assert_eq!(disk.files(), vec![path]);

    let data = tempfile::tempdir().unwrap();
    let path = write(Arc::new(RealDisk), data.path(), 9).unwrap();
    assert_eq!(read(&RealDisk, &path).unwrap().final_lsn, 9);
}

#[test]
fn large_snapshots_are_synced_on_the_way_and_read_in_pieces() {
    let disk = SimDisk::new();
    let mut writer = SnapshotWriter::create(Arc::new(disk.clone()), dir(), 1).unwrap();
    for n in 0..20_u8 {
        writer.chunk(n, &vec![n; 1024 * 1024]).unwrap();
    }
    let syncs = |disk: &SimDisk| {
        let log = disk.operation_log();
        log.iter().filter(|what| what.starts_with("sync ")).count()
    };
    assert!(syncs(&disk) >= 4);
    let published = writer.publish(b"", 2).unwrap();
    assert!(published.bytes > 20 * 1024 * 1024);
    let mut sizes = Vec::new();
    read_snapshot(&disk, &published.path, &mut |kind, payload| {
        assert!(payload.iter().all(|byte| *byte == kind));
        sizes.push(payload.len());
        Ok(())
    })
    .unwrap();
    assert_eq!(sizes, vec![1024 * 1024; 20]);
}

#[test]
fn every_flipped_byte_cut_and_addition_is_noticed() {
    let disk = SimDisk::new();
    let path = write_sim(&disk, 7).unwrap();
    let sound = disk.content(&path);
    for at in 0..sound.len() {
        for flip in [0x01, 0x80, 0xFF] {
            disk.alter(&path, |content| content[at] ^= flip);
            assert_damaged(verify_snapshot(&disk, &path));
            disk.alter(&path, |content| content[at] ^= flip);
        }
        disk.alter(&path, |content| content.truncate(at));
        assert_damaged(verify_snapshot(&disk, &path));
        disk.alter(&path, |content| content.clone_from(&sound));
    }
    for more in [1, 16, 5_000] {
        disk.alter(&path, |content| content.resize(sound.len() + more, 0));
        assert_damaged(verify_snapshot(&disk, &path));
    }
    disk.alter(&path, |content| {
        content.clone_from(&sound);
        content.extend_from_slice(&sound);
    });
    assert_damaged(verify_snapshot(&disk, &path));
    disk.alter(&path, |content| content.clone_from(&sound));
    verify_snapshot(&disk, &path).unwrap();
}

#[test]
fn chunks_that_change_places_and_files_that_change_names_are_noticed() {
    let disk = SimDisk::new();
    let mut writer = SnapshotWriter::create(Arc::new(disk.clone()), dir(), 1).unwrap();
    writer.chunk(1, b"one").unwrap();
    writer.chunk(1, b"two").unwrap();
    let path = writer.publish(b"", 2).unwrap().path;
    let sound = disk.content(&path);
    let (one, two) = (16..35, 35..54);
    disk.alter(&path, |content| {
        content[one.clone()].copy_from_slice(&sound[two.clone()]);
        content[two.clone()].copy_from_slice(&sound[one.clone()]);
    });
    assert_damaged(verify_snapshot(&disk, &path));
    disk.plant(&snapshot_path(dir(), 3), &sound);
    assert_damaged(verify_snapshot(&disk, &snapshot_path(dir(), 3)));
    disk.plant(&dir().join("a copy"), &sound);
    verify_snapshot(&disk, &dir().join("a copy")).unwrap();
}

#[test]
fn a_length_is_not_believed_before_it_is_checked() {
    let disk = SimDisk::new();
    let path = write_sim(&disk, 7).unwrap();
    for len in [u32::MAX, CHUNK_BYTES_MAX as u32 + 1, 100_000] {
        disk.alter(&path, |content| {
            content[16..20].copy_from_slice(&len.to_le_bytes());
        });
        assert_damaged(verify_snapshot(&disk, &path));
    }
}

/// Breaks the disk at each operation of a second snapshot, crashes, and looks at what is left.
fn break_each_operation(break_at: fn(&SimDisk, u64), crash: impl Fn(u64) -> Crash) {
    let mut operation = 0;
    loop {
        let disk = SimDisk::new();
        write_sim(&disk, 10).unwrap();
        let before = disk.operations();
        break_at(&disk, operation);
        let result = write_sim(&disk, 20);
        let done = disk.operations() - before;
        disk.crash(crash(operation));
        remove_leftovers(&disk, dir()).unwrap();

        let found = list_snapshots(&disk, dir()).unwrap();
        let lsns: Vec<_> = found.iter().map(|(lsn, _)| *lsn).collect();
        match result {
            Ok(_) => assert_eq!(lsns, vec![20, 10], "operation {operation}"),
            Err(_) => assert!(lsns == [10] || lsns == [20, 10], "{lsns:?}"),
        }
        for (lsn, path) in &found {
            let summary =
                read(&disk, path).unwrap_or_else(|error| panic!("operation {operation}, snapshot {lsn}: {error}"));
            assert_eq!(summary.final_lsn, *lsn);
        }
        assert_eq!(disk.files().len(), found.len(), "leftovers are removed");
        // Whatever happened, the next one works.
        write_sim(&disk, 20).unwrap();
        if operation > done {
            break;
        }
        operation += 1;
    }
    assert!(operation >= 5, "only {operation} operations were broken");
}

#[test]
fn an_error_at_any_operation_leaves_whole_snapshots_only() {
    break_each_operation(SimDisk::fail_at, |_| Crash::KeepAll);
    break_each_operation(SimDisk::fail_at, |_| Crash::LoseAll);
    for round in 0..20 {
        break_each_operation(SimDisk::fail_at, move |at| Crash::Tear(at + round * 100));
    }
}

#[test]
fn a_kill_at_any_operation_leaves_whole_snapshots_only() {
    break_each_operation(SimDisk::kill_at, |_| Crash::KeepAll);
    break_each_operation(SimDisk::kill_at, |_| Crash::LoseAll);
    for round in 0..20 {
        break_each_operation(SimDisk::kill_at, move |at| Crash::Tear(at + round * 100));
    }
}

#[test]
fn a_damaged_newest_one_leaves_the_older() {
    let disk = SimDisk::new();
    write_sim(&disk, 10).unwrap();
    let newest = write_sim(&disk, 20).unwrap();
    disk.alter(&newest, |content| content[60] ^= 4);
    let sound = list_snapshots(&disk, dir()).unwrap().into_iter().find(|(_, path)| read(&disk, path).is_ok());
    assert_eq!(sound, Some((10, snapshot_path(dir(), 10))));
}

#[test]
fn only_the_newest_are_kept() {
    let disk = SimDisk::new();
    for lsn in [30, 10, 40, 20] {
        write_sim(&disk, lsn).unwrap();
    }
    disk.plant(&dir().join("README.md"), b"not ours");
    disk.plant(&dir().join("00000000000000000050.snap.tmp"), b"rubbish");
    let removed = retain(&disk, dir(), 2).unwrap();
    assert_eq!(removed, vec![snapshot_path(dir(), 10), snapshot_path(dir(), 20)]);
    let left: Vec<_> = list_snapshots(&disk, dir()).unwrap();
    assert_eq!(left.iter().map(|(lsn, _)| *lsn).collect::<Vec<_>>(), vec![40, 30]);
    assert!(retain(&disk, dir(), 2).unwrap().is_empty());
    remove_leftovers(&disk, dir()).unwrap();
    assert_eq!(disk.files().len(), 3, "two snapshots and what is not ours");
    disk.crash(Crash::LoseAll);
    assert_eq!(list_snapshots(&disk, dir()).unwrap().len(), 2);
}

#[test]
fn a_kill_while_old_ones_are_removed_leaves_the_newest_whole() {
    for how in [Crash::KeepAll, Crash::LoseAll, Crash::Tear(1), Crash::Tear(2), Crash::Tear(3)] {
        let mut at = 0;
        loop {
            let disk = SimDisk::new();
            for lsn in [10, 20, 30, 40] {
                write_sim(&disk, lsn).unwrap();
            }
            disk.kill_at(at);
            let removed = retain(&disk, dir(), 2);
            disk.crash(how);
            let left = list_snapshots(&disk, dir()).unwrap();
            assert_eq!(left[..2].iter().map(|(lsn, _)| *lsn).collect::<Vec<_>>(), vec![40, 30], "killed at {at}");
            left.iter().for_each(|(_, path)| drop(read(&disk, path).unwrap()));
            retain(&disk, dir(), 2).unwrap();
            assert_eq!(list_snapshots(&disk, dir()).unwrap().len(), 2);
            if removed.is_ok() {
                break;
            }
            at += 1;
        }
        // Two are removed, and the directory is synced.
        assert_eq!(at, 3);
    }
}

#[test]
fn a_writer_that_failed_or_was_dropped_publishes_nothing() {
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut writer = SnapshotWriter::create(Arc::clone(&shared), dir(), 1).unwrap();
    assert!(matches!(writer.chunk(255, b""), Err(SnapshotError::BadChunk { .. })));
    assert!(matches!(writer.chunk(1, b""), Err(SnapshotError::Broken)));
    assert!(matches!(writer.publish(b"", 1), Err(SnapshotError::Broken)));

    let mut writer = SnapshotWriter::create(Arc::clone(&shared), dir(), 1).unwrap();
    writer.chunk(1, b"never finished").unwrap();
    drop(writer);
    let mut writer = SnapshotWriter::create(shared, dir(), 1).unwrap();
    let too_long = vec![0; CHUNK_BYTES_MAX + 1];
    assert!(matches!(writer.chunk(1, &too_long), Err(SnapshotError::BadChunk { .. })));
    drop(writer);
    assert!(disk.files().is_empty(), "{:?}", disk.files());
}

#[test]
fn what_is_not_what_was_written_is_not_published() {
    let disk = SimDisk::new();
    write_sim(&disk, 10).unwrap();
    let mut writer = SnapshotWriter::create(Arc::new(disk.clone()), dir(), 20).unwrap();
    for _ in 0..4 {
        writer.chunk(1, &vec![1; 256 * 1024]).unwrap();
    }
    // The medium goes bad under the first bytes.
    let tmp = dir().join("00000000000000000020.snap.tmp");
    let file = disk.open(&tmp, OpenMode::ReadWrite).unwrap();
    file.write_all_at(1_000, b"?").unwrap();
    assert_damaged(writer.publish(b"", 20));
    assert_eq!(disk.files(), vec![snapshot_path(dir(), 10)]);
}

#[test]
fn a_visitor_can_refuse() {
    let disk = SimDisk::new();
    let path = write_sim(&disk, 7).unwrap();
    let refused = read_snapshot(&disk, &path, &mut |_, _| Err(SnapshotError::Visit("not mine".to_owned())));
    assert!(matches!(refused, Err(SnapshotError::Visit(_))));
}
