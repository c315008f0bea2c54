//! `bookstore check`: it finds a flipped byte in each kind of file, takes what a crash leaves for what it is, refuses
//! what is in use, and never changes a byte.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bookstore::disk::RealDisk;
use bookstore::internals::domain::{EVENT_VERSION, Record, StoreEvent, StoreNo, decode, encode};
use bookstore::internals::journal::{FileLog, FileLogOptions, Frame, LogStore, encode_frame};
use bookstore::{Config, Credential, Engine, NewBook, NewLine};
use common::files::{content, copy, files, flip, killed_shop};
use common::{Done, Server, bookstore, bookstore_fed};
use tempfile::TempDir;

/// Checks, and sees to it that nothing changed.
#[track_caller]
fn check(dir: &Path) -> Done {
    let before = content(dir);
    let done = bookstore(&[&"check", &dir]);
    assert!(before == content(dir), "check changed the directory");
    done
}

#[test]
fn a_killed_shop_is_sound_and_stays_as_it_is() {
    let shop = killed_shop();
    let dir = shop.server.data_dir();
    let done = check(&dir).ok().says("sound").says("2 accounts");
    let done = done.says("put in 100000").says("2 snapshots");
    assert!(!done.stdout.contains("note:"), "{}", done.stdout);
    // Again, and on a copy without lock and key: the same state.
    let hash = |text: &str| text.lines().find(|line| line.starts_with("state hash")).unwrap().to_owned();
    let (_parent, other) = copy(&dir);
    fs::remove_file(other.join("lock")).unwrap();
    fs::remove_file(other.join("token.key")).unwrap();
    assert_eq!(hash(&check(&other).ok().stdout), hash(&done.stdout));
    assert_eq!(bookstore(&[&"check", &"--quiet", &dir]).ok().stdout, "");
}

#[test]
fn a_flipped_byte_is_found_in_each_kind_of_file() {
    let shop = killed_shop();
    let dir = shop.server.data_dir();
    let damaged = |suffix: &str, number: usize, at: fn(&[u8]) -> usize| {
        let (parent, copied) = copy(&dir);
        let file = files(&copied, suffix)[number].clone();
        let offset = at(&fs::read(&file).unwrap());
        flip(&file, offset);
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let done = check(&copied).ends_with_status(1).says("damaged: ").says(&name);
        drop(parent);
        done
    };
    let middle = |bytes: &[u8]| bytes.len() / 2;
    // The newest and the older snapshot; the second alone would not stop a start.
    damaged(".snap", 1, middle).says("at byte");
    damaged(".snap", 0, middle).says("at byte").says("newest event");
    damaged(".snap", 0, |_| 3).says("at byte 0");
    damaged(".snap", 0, |bytes| bytes.len() - 1);
    // The journal: its header, and its first batch, which later ones know to be synced.
    damaged(".seg", 0, |_| 5).says("at byte 0");
    damaged(".seg", 0, |_| 32 + 40 + 30).says("at byte 32");
    // A document: its text stands in the file as it is, in live pages and maybe in left ones.
    let (_parent, copied) = copy(&dir);
    let file = copied.join("documents.redb");
    let bytes = fs::read(&file).unwrap();
    let places = bytes.windows(13).enumerate().filter(|(_, window)| *window == b"title of dear").map(|(at, _)| at);
    places.for_each(|at| flip(&file, at));
    check(&copied).ends_with_status(1).says("documents.redb: the document ").says("of book \"dear\" in store");
}

#[test]
fn a_flipped_byte_in_an_order_at_rest_is_found() {
    const PRICE: u32 = 0x3ade_68b1;
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("data");
    let lines = format!(
        r#"{{"type":"account","user_id":"u","password":"p"}}
        {{"type":"store","store_id":"s","user_id":"u"}}
        {{"type":"book","store_id":"s","book_info":{{"id":"b","title":"t","price":1}}}}
        {{"type":"order","user_id":"u","store_id":"s","status":"paid","paid_to":"platform","created_time":1700000000000,
          "books":[{{"id":"b","count":1,"price":{PRICE}}}]}}"#
    );
    let lines = lines.replace(",\n          ", ",");
    bookstore_fed(&[&"load", &"--argon2-memory-kib", &"64", &"-", &dir], lines.as_bytes()).ok();
    check(&dir).ok().says("1 orders at rest").says(&format!("held by the platform {PRICE}"));
    let file = dir.join("orders.redb");
    let bytes = fs::read(&file).unwrap();
    let places: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, window)| *window == PRICE.to_be_bytes()).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| flip(&file, at));
    check(&dir).ends_with_status(1).says("damaged: ").says("orders.redb: ");
}

#[test]
fn a_flipped_byte_in_pictures_is_found() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("data");
    let picture = "aGVsbG8".repeat(3_000);
    let lines = format!(
        r#"{{"type":"account","user_id":"u","password":"p"}}
        {{"type":"store","store_id":"s","user_id":"u"}}
        {{"type":"book","store_id":"s","book_info":{{"id":"b","title":"t","price":1,"pictures":["{picture}"]}}}}"#
    );
    bookstore_fed(&[&"load", &"--argon2-memory-kib", &"64", &"-", &dir], lines.as_bytes()).ok();
    // The book's text and its pictures are two documents.
    check(&dir).ok().says("2 documents");
    let file = dir.join("documents.redb");
    let bytes = fs::read(&file).unwrap();
    let at = bytes.windows(14).position(|window| window == b"aGVsbG8aGVsbG8").unwrap();
    flip(&file, at + 9_000);
    check(&dir).ends_with_status(1).says("the pictures ").says("of book \"b\" in store \"s\": not there");
}

#[test]
fn what_is_missing_is_found() {
    let shop = killed_shop();
    let dir = shop.server.data_dir();
    for file in ["documents.redb", "orders.redb"] {
        let (_parent, copied) = copy(&dir);
        fs::remove_file(copied.join(file)).unwrap();
        check(&copied).ends_with_status(1).says(&format!("{file}: not there"));
        // A service that began with an empty one would have lost books and orders, and said nothing.
        let before = content(&copied);
        bookstore(&[&"serve", &"--listen", &"127.0.0.1:0", &"--data-dir", &copied]).ends_with_status(1).says(file);
        assert_eq!(content(&copied).len(), before.len(), "the start made a file");
    }

    let (_parent, copied) = copy(&dir);
    for snapshot in files(&copied, ".snap") {
        fs::remove_file(snapshot).unwrap();
    }
    let done = check(&copied);
    // If the journal still begins with the first event it is all there is to need; else something is missing.
    let first = files(&copied, ".seg")[0].ends_with("00000000000000000001.seg");
    done.ends_with_status(i32::from(!first));

    // Nothing tells a journal that is gone from one that never was; so it is said, and is no damage.
    let (_parent, copied) = copy(&dir);
    fs::remove_dir_all(copied.join("journal")).unwrap();
    check(&copied).ok().says("journal: no segments");

    let (_parent, copied) = copy(&dir);
    let key = copied.join("token.key");
    fs::write(&key, b"short").unwrap();
    check(&copied).ends_with_status(1).says("token.key").says("put the right file in its place");

    // A start refuses it, but nothing is damaged.
    let (_parent, copied) = copy(&dir);
    fs::set_permissions(copied.join("token.key"), fs::Permissions::from_mode(0o644)).unwrap();
    check(&copied).ok().says("note: ").says("chmod 600").says("sound");
    bookstore(&[&"check", &copied.join("nowhere")]).ends_with_status(75).says("has as --data-dir");
}

#[test]
fn a_torn_end_is_told_and_no_damage() {
    let shop = killed_shop();
    let (_parent, dir) = copy(&shop.server.data_dir());
    let segment = files(&dir, ".seg").pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end - 3..=end].fill(0);
    fs::write(&segment, bytes).unwrap();
    check(&dir).ok().says("note: ").says("a crash tore").says("sound");
    bookstore(&[&"inspect", &segment]).ok().says("a crash tore");
    // Leftovers and strangers are told, too.
    fs::write(dir.join("00000000000000000009.snap.tmp"), b"x").unwrap();
    fs::write(dir.join("notes.txt"), b"x").unwrap();
    check(&dir).ok().says("snap.tmp").says("notes.txt: not a file of ours");
}

#[test]
fn what_cannot_be_checked_is_not_called_sound() {
    let server = Server::start(&[]);
    let done = bookstore(&[&"check", &server.data_dir()]).ends_with_status(75);
    done.says(&format!("in use by process {}", server.pid()));
    let parent = TempDir::new().unwrap();
    bookstore(&[&"check", &parent.path().join("nowhere")]).ends_with_status(75);
    bookstore(&[&"check", &parent.path()]).ends_with_status(75).says("holds no data");
    bookstore(&[&"check", &"--fast"]).ends_with_status(2);
    // Without a name it is the directory that `serve` takes without one.
    let done = common::tool::command(&[&"check"]).current_dir(parent.path()).output().unwrap();
    assert_eq!(done.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&done.stderr).contains("snapshots"));
    let named = common::tool::command(&[&"check"]).env("BOOKSTORE_DATA_DIR", "elsewhere").output().unwrap();
    assert!(String::from_utf8_lossy(&named.stderr).contains("elsewhere"), "{named:?}");
}

/// No checksum is wrong, but the shop contradicts itself: a store is closed, and an order of it is open.
#[test]
fn an_open_order_in_a_closed_store_is_found() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("data");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut config = Config::directory(&dir);
        (config.password_params.memory_kib, config.password_params.iterations) = (8, 1);
        let engine = Engine::open(config).await.unwrap();
        engine.register("seller", "pw").await.unwrap();
        engine.create_store("seller", Credential::Trusted, "store").await.unwrap();
        let book = NewBook { id: "b", price: 1, document: "{}" };
        engine.add_book("seller", Credential::Trusted, "store", book, 5).await.unwrap();
        let lines = [NewLine { book_id: "b", count: 1 }];
        engine.new_order("seller", Credential::Trusted, "store", &lines).await.unwrap();
    });
    drop(runtime);
    check(&dir).ok().says("sound");
    let (mut seq, mut at) = (0, 0);
    let visit = &mut |frame: Frame<'_>| {
        if let Record::Store(_, of_store, when, _) = decode(frame.kind, frame.version, frame.payload).unwrap() {
            (seq, at) = (of_store, when);
        }
        Ok(())
    };
    let options = FileLogOptions { segment_bytes: 64 << 20 };
    let (mut log, found) = FileLog::open(Arc::new(RealDisk), &dir.join("journal"), options, 0, visit).unwrap();
    let (mut payload, mut body) = (Vec::new(), Vec::new());
    let kind = encode(&StoreEvent::Closed, StoreNo(1), seq + 1, at, &mut payload);
    let (lsn, epoch) = (found.last_lsn + 1, found.last_epoch + 1);
    encode_frame(&mut body, &Frame { lsn, epoch, kind, version: EVENT_VERSION, payload: &payload });
    log.append(lsn, 1, epoch, &body).unwrap();
    log.sync().unwrap();
    drop(log);
    check(&dir).ends_with_status(1).says("1 contradictions: orders that are open in a closed store");
}
