//! Data that another version of the program made is told as such by `serve`, `check` and `repair`, whichever file says
//! so, and stays as it is: it is not damaged, and nothing of it may be cut out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;

use bookstore::internals::journal::{BATCH_HEADER_BYTES, FRAME_HEADER_MIN_BYTES, Frame, decode_frames, encode_frame};
use common::bookstore;
use common::files::{content, copy, files, killed_shop};
use redb::{Database, TableDefinition};

const STATE: TableDefinition<'static, &str, u64> = TableDefinition::new("state");
const SEGMENT_HEADER_BYTES: usize = 32;

#[track_caller]
fn refused_by_all(dir: &Path, file: &str) {
    let before = content(dir);
    for tool in ["check", "repair"] {
        bookstore(&[&tool, &dir]).ends_with_status(75).says("made by another version of the program").says(file);
    }
    bookstore(&[&"repair", &dir, &"--yes"]).ends_with_status(75).says("another version");
    assert!(before == content(dir), "a tool changed something");
    let done = bookstore(&[&"serve", &"--listen", &"127.0.0.1:0", &"--data-dir", &dir]).ends_with_status(1);
    done.says("made by another version of the program").says(file).says("open");
    for (path, bytes) in content(dir) {
        // redb keeps house when it opens a file, and the lock names its last holder.
        let is_kept = !path.ends_with("lock") && path.extension().is_none_or(|ending| ending != "redb");
        assert!(!is_kept || before.get(&path) == Some(&bytes), "a start changed {}", path.display());
    }
}

/// Not damaged: another version, told after what could be read.
#[track_caller]
fn shown_as_anothers(file: &Path, what: &str) {
    bookstore(&[&"inspect", &file]).ends_with_status(75).says("made by another version of the program").says(what);
}

fn change_state(path: &Path, change: impl Fn(&mut redb::Table<'_, &'static str, u64>)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&mut transaction.open_table(STATE).unwrap());
    transaction.commit().unwrap();
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Changes every frame of a segment, or only those of the last batch; all checksums are right.
fn change_frames(segment: &Path, only_last: bool, change: impl Fn(Frame<'_>) -> Frame<'_>) {
    let mut bytes = fs::read(segment).unwrap();
    let (mut at, mut batch) = (SEGMENT_HEADER_BYTES, 0);
    while bytes.get(at..at + 4).is_some_and(|magic| magic == b"BKJB") {
        let mut end = at + BATCH_HEADER_BYTES + u32_at(&bytes, at + 4);
        if !only_last || bytes.get(end..end + 4).is_none_or(|magic| magic != b"BKJB") {
            let mut body = Vec::new();
            for frame in decode_frames(&bytes[at + BATCH_HEADER_BYTES..end]) {
                encode_frame(&mut body, &change(frame.unwrap()));
            }
            let old = at + BATCH_HEADER_BYTES..end;
            end = old.start + body.len();
            bytes.splice(old, body);
            put(&mut bytes, at + 4, (end - at - BATCH_HEADER_BYTES) as u32);
            seal_batch(&mut bytes[at..end]);
        }
        (at, batch) = (end, batch + 1);
    }
    assert!(batch > 1, "too few batches");
    fs::write(segment, bytes).unwrap();
}

/// Gives a batch the checksum that fits.
fn seal_batch(batch: &mut [u8]) {
    let mut hasher = crc32fast::Hasher::new();
    [&batch[..32], &batch[36..]].into_iter().for_each(|part| hasher.update(part));
    put(batch, 32, hasher.finalize());
}

/// The chunks of a snapshot: kind, what is reserved, payload.
type Chunks = Vec<(u8, [u8; 3], Vec<u8>)>;

/// Changes the chunks of a snapshot; all checksums and the end are right.
fn change_chunks(snapshot: &Path, change: impl Fn(&mut Chunks)) {
    let old = fs::read(snapshot).unwrap();
    let (mut chunks, mut at) = (Chunks::new(), 16);
    while at < old.len() {
        let end = at + 16 + u32_at(&old, at);
        chunks.push((old[at + 12], [0; 3], old[at + 16..end].to_vec()));
        at = end;
    }
    let (_, _, mut last) = chunks.pop().unwrap();
    change(&mut chunks);
    let mut bytes = old[..16].to_vec();
    let add = |bytes: &mut Vec<u8>, index: usize, kind: u8, reserved: [u8; 3], payload: &[u8]| {
        let place = [(payload.len() as u32).to_le_bytes(), (index as u32).to_le_bytes()].concat();
        let mut hasher = crc32fast::Hasher::new();
        [&place[..], &[kind], &reserved, payload].into_iter().for_each(|part| hasher.update(part));
        bytes.extend([&place[..], &hasher.finalize().to_le_bytes(), &[kind], &reserved, payload].concat());
    };
    for (index, (kind, reserved, payload)) in chunks.iter().enumerate() {
        add(&mut bytes, index, *kind, *reserved, payload);
    }
    last[..8].copy_from_slice(&(chunks.len() as u64).to_le_bytes());
    last[8..16].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    last[16..20].copy_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    add(&mut bytes, chunks.len(), 255, [0; 3], &last);
    fs::write(snapshot, bytes).unwrap();
}

/// A chunk of one event.
fn events(frame: &Frame<'_>) -> (u8, [u8; 3], Vec<u8>) {
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, frame);
    (5, [0; 3], bytes)
}

#[test]
fn what_another_version_put_into_a_snapshot_is_no_damage() {
    let shop = killed_shop();
    let dir = shop.server.data_dir();
    let frame = Frame { lsn: 1, epoch: 1, kind: 64, version: 1, payload: &[1; 40] };
    // Number, sequence number, time, then flags of which one is not known; or the last two bits of who took a step.
    let by_nobody = [&[1; 17][..], &[0, 0b110]].concat();
    type Change<'a> = &'a dyn Fn(&mut Chunks);
    let changes: [(&str, Change<'_>); 7] = [
        ("is of kind 99", &|chunks| chunks.push(events(&Frame { kind: 99, ..frame }))),
        ("is of version 2", &|chunks| chunks.push(events(&Frame { version: 2, ..frame }))),
        ("a flag is not known", &|chunks| {
            chunks.push(events(&Frame { kind: 4, payload: &[1, 9, 1, 0x80, 2], ..frame }))
        }),
        ("nobody takes such a step", &|chunks| chunks.push(events(&Frame { kind: 68, payload: &by_nobody, ..frame }))),
        ("chunk of kind 77", &|chunks| chunks.push((77, [0; 3], b"what is it".to_vec()))),
        ("has unknown marks", &|chunks| chunks.last_mut().unwrap().1 = [0, 1, 0]),
        ("has unknown marks", &|chunks| chunks[0].1 = [1, 0, 0]),
    ];
    for (what, change) in changes {
        for is_journaled in [true, false] {
            let (_parent, newer) = copy(&dir);
            if !is_journaled {
                fs::remove_dir_all(newer.join("journal")).unwrap();
            }
            change_chunks(&files(&newer, ".snap").pop().unwrap(), change);
            shown_as_anothers(&files(&newer, ".snap").pop().unwrap(), what);
            refused_by_all(&newer, what);
            let before = files(&newer, ".snap");
            let serve: [&dyn AsRef<std::ffi::OsStr>; 7] =
                [&"serve", &"--listen", &"127.0.0.1:0", &"--data-dir", &newer, &"--durability", &"snapshot"];
            bookstore(&serve).ends_with_status(1).says("made by another version of the program").says(what);
            assert_eq!(files(&newer, ".snap"), before);
        }
    }
    // It is the change that is refused, not how it is made.
    let (_parent, same) = copy(&dir);
    let before = content(&same);
    change_chunks(&files(&same, ".snap").pop().unwrap(), |_| {});
    assert!(content(&same) == before);
}

#[test]
fn what_another_version_made_is_no_damage() {
    let shop = killed_shop();
    let dir = shop.server.data_dir();

    for file in ["orders.redb", "documents.redb"] {
        let (_parent, older) = copy(&dir);
        change_state(&older.join(file), |state| drop(state.remove("format").unwrap()));
        refused_by_all(&older, file);

        let (_parent, newer) = copy(&dir);
        change_state(&newer.join(file), |state| drop(state.insert("format", 2).unwrap()));
        refused_by_all(&newer, file);
    }

    // As a build from before left it: a table is not there that is needed now, and no word of a layout.
    let (_parent, older) = copy(&dir);
    let database = Database::open(older.join("orders.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.delete_table(TableDefinition::<&[u8; 24], ()>::new("awaited")).unwrap();
    transaction.open_table(STATE).unwrap().remove("format").unwrap();
    transaction.commit().unwrap();
    drop(database);
    refused_by_all(&older, "orders.redb");

    for only_last in [false, true] {
        let (_parent, older) = copy(&dir);
        change_frames(&files(&older, ".seg").pop().unwrap(), only_last, |frame| Frame { version: 2, ..frame });
        refused_by_all(&older, "is of version 2");

        let (_parent, newer) = copy(&dir);
        change_frames(&files(&newer, ".seg").pop().unwrap(), only_last, |frame| Frame { kind: 99, ..frame });
        shown_as_anothers(&files(&newer, ".seg").pop().unwrap(), "is of kind 99");
        refused_by_all(&newer, "is of kind 99");
    }
    let (_parent, newer) = copy(&dir);
    let segment = files(&newer, ".seg").pop().unwrap();
    change_frames(&segment, true, |frame| Frame { kind: 4, payload: &[1, 9, 1, 0x80, 2], ..frame });
    refused_by_all(&newer, "a flag is not known");

    // Beside a hole the repair reads frame by frame.
    let (_parent, holed) = copy(&dir);
    let segment = files(&holed, ".seg").pop().unwrap();
    change_frames(&segment, true, |frame| Frame { version: 2, ..frame });
    let mut bytes = fs::read(&segment).unwrap();
    bytes[SEGMENT_HEADER_BYTES + BATCH_HEADER_BYTES + FRAME_HEADER_MIN_BYTES] ^= 0x10;
    fs::write(&segment, bytes).unwrap();
    bookstore(&[&"repair", &holed, &"--yes"]).ends_with_status(75).says("another version").says("is of version 2");

    // By the header of a segment, and by what is reserved there and in the header of a batch.
    for (at, value, what) in
        [(8, 3, "segment of version 3"), (12, 1, "segment with the unknown marks"), (28, 1, "unknown marks")]
    {
        let (_parent, newer) = copy(&dir);
        let segment = files(&newer, ".seg").pop().unwrap();
        let mut bytes = fs::read(&segment).unwrap();
        put(&mut bytes, at, value);
        let mut hasher = crc32fast::Hasher::new();
        [0..24, 28..SEGMENT_HEADER_BYTES].into_iter().for_each(|part| hasher.update(&bytes[part]));
        put(&mut bytes, 24, hasher.finalize());
        fs::write(&segment, bytes).unwrap();
        shown_as_anothers(&segment, what);
        refused_by_all(&newer, what);
    }
    let (_parent, newer) = copy(&dir);
    let segment = files(&newer, ".seg").pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let end = SEGMENT_HEADER_BYTES + BATCH_HEADER_BYTES + u32_at(&bytes, SEGMENT_HEADER_BYTES + 4);
    put(&mut bytes, SEGMENT_HEADER_BYTES + 36, 1);
    seal_batch(&mut bytes[SEGMENT_HEADER_BYTES..end]);
    fs::write(&segment, bytes).unwrap();
    shown_as_anothers(&segment, "the unknown mark");
    refused_by_all(&newer, "the unknown mark");

    // A snapshot, by the header of its file.
    let (_parent, newer) = copy(&dir);
    let snapshot = files(&newer, ".snap").pop().unwrap();
    let mut bytes = fs::read(&snapshot).unwrap();
    put(&mut bytes, 8, 2);
    let checksum = crc32fast::hash(&bytes[..12]);
    put(&mut bytes, 12, checksum);
    fs::write(&snapshot, bytes).unwrap();
    shown_as_anothers(&snapshot, "snapshot of version 2");
    refused_by_all(&newer, "snapshot of version 2");
    // And by what its first chunk says of the others.
    let (_parent, newer) = copy(&dir);
    let snapshot = files(&newer, ".snap").pop().unwrap();
    let version = |chunk: &mut Vec<u8>| {
        let at = chunk.windows(8).position(|name| name == b"\xa7version").unwrap() + 8;
        chunk[at] += 1;
    };
    change_chunks(&snapshot, |chunks| version(&mut chunks[0].2));
    shown_as_anothers(&snapshot, "of version 5");
    refused_by_all(&newer, "of version 5");
}
