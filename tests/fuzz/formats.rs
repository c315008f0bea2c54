//! What the engine reads from its files: frames, segments, snapshots, events, rows, password hashes. The inputs are those
//! of a real shop, changed; half of them with checksums that fit again, so that what stands behind these is reached.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bookstore::disk::{Disk, MemoryDisk, OpenMode};
use bookstore::internals::domain::{
    Account, AccountEvent, AccountNo, EVENT_VERSION, Entity, OrderEvent, OrderId, Persistent, Record, Store,
    StoreEvent, StoreNo, decode, decode_row, encode, encode_row,
};
use bookstore::internals::journal::{
    BATCH_HEADER_BYTES, FRAME_HEADER_MIN_BYTES, Frame, decode_frames, encode_frame, read_segment,
};
use bookstore::internals::snapshot::{read_snapshot, verify_snapshot};
use bookstore::{Config, Credential, Engine, NewBook, NewLine, PasswordHash};

use super::budget::{run, seed};
use super::mutate::{self, Random};

/// What a day in a shop left behind.
struct Day {
    segment: Vec<u8>,
    snapshots: Vec<(PathBuf, Vec<u8>)>,
    /// Kind and payload.
    events: Vec<(u8, Vec<u8>)>,
    accounts: Vec<Vec<u8>>,
    stores: Vec<Vec<u8>>,
    hashes: Vec<String>,
}

fn day() -> &'static Day {
    static DAY: OnceLock<Day> = OnceLock::new();
    DAY.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(shop_day())
    })
}

async fn shop_day() -> Day {
    let directory = tempfile::TempDir::new().unwrap();
    let mut config = Config::directory(directory.path());
    (config.password_params.memory_kib, config.password_params.iterations) = (8, 1);
    config.segment_bytes = 16 << 20;
    let engine = Engine::open(config).await.unwrap();
    let trusted = Credential::Trusted;
    for user in ["anna", "ben", "用户", "gone"] {
        engine.register(user, user).await.unwrap();
    }
    engine.unregister("gone", trusted).await.unwrap();
    engine.add_funds("ben", trusted, 1_000_000).await.unwrap();
    engine.add_funds("ben", trusted, -5).await.unwrap();
    engine.change_password("ben", Credential::password("ben"), "new").await.unwrap();
    let token = engine.login("anna", Credential::password("anna"), "t").await.unwrap();
    engine.logout("anna", &token).await.unwrap();
    engine.create_store("anna", trusted, "store").await.unwrap();
    for id in ["b1", "b2", "书"] {
        engine.add_book("anna", trusted, "store", NewBook { id, price: 70, document: "{}" }, 1_000).await.unwrap();
    }
    engine.add_stock_level("anna", trusted, "store", "b1", -3).await.unwrap();
    engine.create_store("anna", trusted, "closed").await.unwrap();
    engine.close_store("anna", trusted, "closed").await.unwrap();
    engine.set_price("anna", trusted, "store", "b2", 75).await.unwrap();
    engine.delist_book("anna", trusted, "store", "b2").await.unwrap();
    engine.delist_book("anna", trusted, "store", "书").await.unwrap();
    engine.relist_book("anna", trusted, "store", "书").await.unwrap();
    for state in ["pending", "canceled", "paid", "shipped", "completed", "escrow", "settled", "refunded"] {
        let lines = [NewLine { book_id: "b1", count: 2 }, NewLine { book_id: "书", count: 1 }];
        let order = engine.new_order("ben", trusted, "store", &lines).await.unwrap().to_string();
        match state {
            "pending" => {}
            "canceled" => engine.cancel_order("ben", &order, trusted).await.unwrap(),
            "escrow" | "settled" => engine.pay_to_platform("ben", &order, trusted).await.unwrap(),
            _ => engine.pay("ben", &order, trusted).await.unwrap(),
        }
        if state == "shipped" {
            engine.ship("anna", trusted, "store", &order).await.unwrap();
        }
        if state == "refunded" {
            engine.refund_order("ben", &order, trusted).await.unwrap();
        }
        if ["completed", "settled"].contains(&state) {
            engine.confirm("ben", &order, trusted).await.unwrap();
        }
    }
    drop(engine.snapshot().await.unwrap());
    drop(engine);
    // The segment is as long as the valid part of it and some zeros.
    let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    for dir in [directory.path().to_owned(), directory.path().join("journal")] {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    let of = |suffix: &'static str| files.iter().filter(move |(path, _)| path.to_string_lossy().ends_with(suffix));
    let segment = of(".seg").next().unwrap().1;
    let end = segment.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let segment = segment[..end + 64].to_vec();
    let snapshots: Vec<_> =
        of(".snap").map(|(path, bytes)| (Path::new("/d").join(path.file_name().unwrap()), bytes.clone())).collect();
    assert!(!snapshots.is_empty());
    let mut events = Vec::new();
    let (disk, path) = on_disk("00000000000000000001.seg", &segment);
    let keep = &mut |frame: Frame<'_>| {
        events.push((frame.kind, frame.payload.to_vec()));
        Ok(())
    };
    read_segment(&disk, &path, true, keep).unwrap();
    let mut kinds: Vec<u8> = events.iter().map(|(kind, _)| *kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(
        kinds,
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 32, 33, 34, 35, 36, 37, 38, 39, 40, 64, 65, 66, 67, 68],
        "every event there is"
    );
    let (accounts, stores) = rows(&events);
    let params = bookstore::PasswordParams { memory_kib: 8, iterations: 1, lanes: 1 };
    let hashes = vec![PasswordHash::new(b"p", params).unwrap().to_phc()];
    Day { segment, snapshots, events, accounts, stores, hashes }
}

/// Rows as they were after each event.
fn rows(events: &[(u8, Vec<u8>)]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut accounts, mut stores) = (BTreeMap::new(), BTreeMap::new());
    let (mut account_rows, mut store_rows) = (Vec::new(), Vec::new());
    for (kind, payload) in events {
        match decode(*kind, EVENT_VERSION, payload).unwrap() {
            Record::Account(number, _, at, event) => {
                let account = accounts.entry(number.0).or_insert_with(|| Account::new(number));
                account.apply(&event, at);
                account_rows.push(account.encode().into());
            }
            Record::Store(number, _, at, event) => {
                let store = stores.entry(number.0).or_insert_with(|| Store::new(number));
                store.apply(&event, at);
                store_rows.push(encode_row(store));
            }
            Record::Order(..) => {}
        }
    }
    (account_rows, store_rows)
}

fn on_disk(name: &str, bytes: &[u8]) -> (MemoryDisk, PathBuf) {
    let disk = MemoryDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    let path = Path::new("/d").join(name);
    disk.open(&path, OpenMode::CreateNew).unwrap().write_all_at(0, bytes).unwrap();
    (disk, path)
}

/// Where what looks like a frame would end.
fn frame_end(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes.get(4..)?;
    let mut number = || {
        let mut number = 0u64;
        for shift in (0..63).step_by(7) {
            let (byte, behind) = rest.split_first()?;
            rest = behind;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    };
    let len = number()? as usize;
    let kind = number()?;
    if kind > 0x7f {
        return None;
    }
    let (_epoch, _lsn) = (number()?, number()?);
    let end = (bytes.len() - rest.len()).checked_add(len)?;
    (end <= bytes.len()).then_some(end)
}

/// Gives a frame whose bytes were changed the checksum that fits.
fn seal_frame(bytes: &mut [u8]) {
    if bytes.len() >= FRAME_HEADER_MIN_BYTES {
        let crc = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn frames() {
    let day = day();
    run("frames", 15_000, 5, |number| {
        let random = &mut Random::new(seed(), number);
        let mut whole = Vec::new();
        let frames: Vec<(u8, &[u8])> =
            (0..1 + random.below(4)).map(|_| random.pick(&day.events)).map(|(k, p)| (*k, &p[..])).collect();
        let mut starts = Vec::new();
        for (place, (kind, payload)) in frames.iter().enumerate() {
            starts.push(whole.len());
            let lsn = 1 + place as u64;
            encode_frame(&mut whole, &Frame { lsn, epoch: 1, kind: *kind, version: EVENT_VERSION, payload });
        }
        let decoded: Vec<(u8, &[u8])> =
            decode_frames(&whole).map(|frame| frame.unwrap()).map(|frame| (frame.kind, frame.payload)).collect();
        assert_eq!(decoded, frames, "decode∘encode is not the identity");
        let mut changed = mutate::bytes(&whole, random);
        if random.below(2) == 0 {
            let start = *random.pick(&starts);
            if let Some(rest) = changed.get_mut(start..) {
                seal_frame(rest);
            }
        }
        let mut again = Vec::new();
        for frame in decode_frames(&changed).map_while(Result::ok) {
            encode_frame(&mut again, &frame);
            // What a frame holds is read, too; nobody has promised that it is an event.
            let _ = decode(frame.kind, frame.version, frame.payload);
        }
        assert!(changed.starts_with(&again), "what was read is not what was written");
    });
}

#[test]
fn segments() {
    let day = day();
    let original = seen_in(&day.segment).unwrap();
    run("segments", 8_000, 7, |number| {
        let random = &mut Random::new(seed(), number);
        let mut changed = mutate::bytes(&day.segment, random);
        let sealed = random.below(2) == 0;
        if sealed {
            seal_batches(&mut changed);
        }
        if let Ok(seen) = seen_in(&changed) {
            // Without the checksums there is no way to something that was not written; a torn end is cut.
            assert!(sealed || original.starts_with(&seen), "frames that nobody wrote");
        }
    });
}

fn seen_in(segment: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, String> {
    let (disk, path) = on_disk("00000000000000000001.seg", segment);
    let mut seen = Vec::new();
    let keep = &mut |frame: Frame<'_>| {
        seen.push((frame.lsn, frame.payload.to_vec()));
        Ok(())
    };
    read_segment(&disk, &path, true, keep).map_err(|error| error.to_string())?;
    Ok(seen)
}

/// Walks over what looks like batches and gives each the checksum that fits, and each of its frames.
fn seal_batches(bytes: &mut [u8]) {
    const SEGMENT_HEADER_BYTES: usize = 32;
    let mut at = SEGMENT_HEADER_BYTES;
    while let Some(header) = bytes.get(at..at + BATCH_HEADER_BYTES) {
        let len = u32::from_le_bytes(header[4..8].try_into().unwrap()) as usize;
        let end = at.saturating_add(BATCH_HEADER_BYTES).saturating_add(len);
        if len == 0 || end > bytes.len() {
            return;
        }
        let batch = &mut bytes[at..end];
        let mut frame = BATCH_HEADER_BYTES;
        while let Some(next) = frame_end(&batch[frame..]).map(|len| frame + len) {
            seal_frame(&mut batch[frame..next]);
            frame = next;
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&batch[..32]);
        crc.update(&batch[36..]);
        let crc = crc.finalize().to_le_bytes();
        batch[32..36].copy_from_slice(&crc);
        at = end;
    }
}

#[test]
fn snapshots() {
    let day = day();
    run("snapshots", 8_000, 7, |number| {
        let random = &mut Random::new(seed(), number);
        let (path, bytes) = random.pick(&day.snapshots);
        let name = path.file_name().unwrap().to_str().unwrap();
        let changed = mutate::bytes(bytes, random);
        let (disk, path) = on_disk(name, &changed);
        let sound = verify_snapshot(&disk, &path);
        assert_eq!(sound.is_ok(), changed == *bytes, "{sound:?}");
        // A visitor sees sound chunks only, up to the damage.
        let mut chunks = 0;
        let _ = read_snapshot(&disk, &path, &mut |_, payload| {
            chunks += 1;
            assert!(payload.is_empty() || contains(bytes, payload), "a chunk that nobody wrote");
            Ok(())
        });
        assert!(chunks < 100);
    });
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn events() {
    let day = day();
    run("events", 15_000, 7, |number| {
        let random = &mut Random::new(seed(), number);
        let (kind, payload) = random.pick(&day.events);
        let whole = decode(*kind, EVENT_VERSION, payload).unwrap();
        assert_eq!(encoded(&whole), (*kind, payload.clone()), "encode∘decode is not the identity");
        let changed = mutate::bytes(payload, random);
        let kind = if random.below(4) == 0 { random.next() as u8 } else { *kind };
        if let Ok(record) = decode(kind, EVENT_VERSION, &changed) {
            let (kind, bytes) = encoded(&record);
            assert_eq!(decode(kind, EVENT_VERSION, &bytes).unwrap(), record, "decode∘encode is not the identity");
        }
    });
}

fn encoded(record: &Record) -> (u8, Vec<u8>) {
    let mut out = Vec::new();
    let kind = match record {
        Record::Account(key, seq, at, event) => encode::<AccountEvent>(event, *key, *seq, *at, &mut out),
        Record::Store(key, seq, at, event) => encode::<StoreEvent>(event, *key, *seq, *at, &mut out),
        Record::Order(key, seq, at, event) => encode::<OrderEvent>(event, *key, *seq, *at, &mut out),
    };
    (kind, out)
}

#[test]
fn rows_and_hashes() {
    let day = day();
    run("rows", 10_000, 5, |number| {
        let random = &mut Random::new(seed(), number);
        if random.below(2) == 0 {
            let row: &Vec<u8> = random.pick(&day.accounts);
            let changed = mutate::bytes(row, random);
            if let Ok(row) = Account::decode(&changed) {
                assert_eq!(Account::decode(&row.encode()).unwrap(), row);
            }
        } else {
            let row: &Vec<u8> = random.pick(&day.stores);
            let changed = mutate::bytes(row, random);
            if let Ok(row) = decode_row::<Store>(&changed) {
                assert_eq!(decode_row::<Store>(&encode_row(&row)).unwrap(), row);
            }
        }
    });
    run("password hashes", 3_000, 2, |number| {
        let random = &mut Random::new(seed(), number);
        let changed = mutate::bytes(random.pick(&day.hashes).as_bytes(), random);
        if let Ok(hash) = PasswordHash::from_phc(&String::from_utf8_lossy(&changed)) {
            assert_eq!(PasswordHash::from_phc(&hash.to_phc()).unwrap(), hash);
        }
    });
}

/// Numbers and ids have the same names in the formats and in the engine.
#[test]
fn what_names_an_entity_survives() {
    for number in [0, 1, u32::MAX] {
        assert_eq!(decode_row::<AccountNo>(&encode_row(&AccountNo(number))).unwrap(), AccountNo(number));
        assert_eq!(decode_row::<StoreNo>(&encode_row(&StoreNo(number))).unwrap(), StoreNo(number));
    }
    run("order ids", 2_000, 2, |number| {
        let random = &mut Random::new(seed(), number);
        let text = format!(
            "{:08x}-{:04x}-7{:03x}-8{:03x}-{:012x}",
            random.next() as u32,
            random.below(1 << 16),
            random.below(1 << 12),
            random.below(1 << 12),
            random.next() >> 16
        );
        let changed = if number % 2 == 0 { text.clone().into_bytes() } else { mutate::bytes(text.as_bytes(), random) };
        if let Ok(text) = String::from_utf8(changed)
            && let Some(id) = OrderId::parse(&text)
        {
            assert_eq!(id.to_string(), text, "an id has one spelling");
            assert_eq!(decode_row::<OrderId>(&encode_row(&id)).unwrap(), id);
        }
    });
}
