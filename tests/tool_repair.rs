//! `bookstore repair`: without `--yes` it shows what is to be done and lost, and changes no byte; with it the service
//! starts again, `check` finds it sound, and what was cut lies beside it. Where nothing can be saved it says so.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use bookstore::offline::{Repair, RepairError};
use common::files::{content, copy, files, flip, killed_shop};
use common::{Done, Server, Shop, bookstore, bookstore_fed};
use tempfile::TempDir;

/// Shows, and sees to it that nothing changed.
#[track_caller]
fn shown(dir: &Path) -> Done {
    let before = content(dir);
    let done = bookstore(&[&"repair", &dir]);
    assert!(before == content(dir), "a repair without --yes changed the directory");
    done
}

/// Nothing that was there is gone, wherever it is now.
#[track_caller]
fn nothing_was_destroyed(before: &Path, after: &Path) {
    let now: Vec<Vec<u8>> = content(after).into_values().collect();
    for segment in files(before, ".seg").into_iter().chain(files(before, ".snap")) {
        let mut bytes = fs::read(&segment).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        bytes.truncate(end);
        assert!(now.iter().any(|file| file.starts_with(&bytes)), "{} is gone", segment.display());
    }
}

/// Makes a stretch in the middle of the only segment unreadable.
fn make_hole(dir: &Path) {
    let segment = files(dir, ".seg").pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let from = end / 2;
    bytes[from..from + 40].iter_mut().for_each(|byte| *byte ^= 0x77);
    fs::write(segment, bytes).unwrap();
}

#[test]
fn a_hole_in_the_journal_is_cut_and_the_service_starts_again() {
    // No snapshot: all is in the journal.
    let mut shop = Shop::open(&["--snapshot-interval", "1h", "--segment-bytes", "16777216"]);
    for state in ["pending", "paid", "shipped", "completed", "canceled"] {
        shop.order_in(state);
    }
    shop.server.kill9();
    let dir = shop.server.data_dir();
    let (_sound, sound) = copy(&dir);
    shown(&dir).ok().says("nothing to repair");
    make_hole(&dir);
    bookstore(&[&"check", &dir]).ends_with_status(1).says("bookstore repair");
    bookstore(&[&"serve", &"--listen", &"127.0.0.1:0", &"--data-dir", &dir]).ends_with_status(1).says("damaged");
    let told = shown(&dir).ends_with_status(1).says("nothing was changed").says("--yes").says("would be done: ");
    let told = told.says("the shop goes on from the journal alone").says("can still be read").says("orders named");
    let told = told.says("put in 100000; on shelves").says("accounts named");
    assert!(!told.stdout.contains("DOES NOT ADD UP"), "{}", told.stdout);
    let (_damaged, damaged) = copy(&dir);
    bookstore(&[&"repair", &"--yes", &dir]).ok().says("kept: ").says("a check finds it sound");
    nothing_was_destroyed(&damaged, &dir);
    assert_eq!(files(&dir, ".seg.cut").len(), 1);
    bookstore(&[&"check", &dir]).ok().says("sound");
    shown(&dir).ok().says("nothing to repair");
    assert!(content(&sound).len() < content(&dir).len());
    // It goes on: the seller and the buyer are there, and buy and sell.
    shop.server.restart();
    shop.client = shop.server.client();
    shop.seller = shop.client.logged_in(&shop.seller);
    shop.buyer = shop.client.logged_in(&shop.buyer);
    shop.order_in("completed");
}

#[test]
fn what_snapshot_and_journal_still_hold_is_not_lost() {
    let shop = killed_shop();
    let dir = shop.server.data_dir();
    let state = |dir: &Path| {
        let done = bookstore(&[&"check", &dir]).ok();
        done.stdout.lines().find(|line| line.starts_with("state hash")).unwrap().to_owned()
    };
    let sound = state(&dir);
    let repaired = |damage: &dyn Fn(&Path)| {
        let (parent, copied) = copy(&dir);
        damage(&copied);
        bookstore(&[&"check", &copied]).ends_with_status(1);
        shown(&copied).ends_with_status(1).says("lost: nothing");
        let (_before, before) = copy(&copied);
        let done = bookstore(&[&"repair", &copied, &"--yes"]).ok();
        nothing_was_destroyed(&before, &copied);
        assert_eq!(state(&copied), sound);
        (parent, copied, done)
    };
    let flip_snapshot = |dir: &Path, place: usize| {
        let path = files(dir, ".snap")[place].clone();
        flip(&path, fs::metadata(&path).unwrap().len() as usize / 2);
    };
    repaired(&|dir| flip_snapshot(dir, 1)).2.says(".snap.damaged");
    repaired(&|dir| flip_snapshot(dir, 0));
    // The journal's beginning, which both snapshots hold.
    let (_parent, copied, done) = repaired(&|dir| flip(&files(dir, ".seg")[0], 32 + 40 + 30));
    done.says("is made of events");
    // The segment's header.
    repaired(&|dir| flip(&files(dir, ".seg")[0], 5));
    // What was set aside is told and no damage.
    let first_is_one = files(&dir, ".seg")[0].ends_with("00000000000000000001.seg");
    assert!(first_is_one && !files(&copied, ".cut").is_empty());
    // Both snapshots, and a journal that is whole.
    repaired(&|dir| (0..2).for_each(|place| flip_snapshot(dir, place))).2.says("the journal alone");
    // Both, and one that is not: nothing is begun anew.
    let (_parent, copied) = copy(&dir);
    (0..2).for_each(|place| flip_snapshot(&copied, place));
    fs::remove_file(files(&copied, ".seg")[0].clone()).unwrap();
    let before = content(&copied);
    shown(&copied).ends_with_status(1).says("it cannot be repaired: no snapshot is sound").says("restore a backup");
    bookstore(&[&"repair", &"--yes", &copied]).ends_with_status(1).says("Nothing was changed");
    assert!(before == content(&copied));
    bookstore(&[&"serve", &"--listen", &"127.0.0.1:0", &"--data-dir", &copied]).ends_with_status(1);
}

#[test]
fn a_damaged_row_at_rest_is_put_right_or_missed_aloud() {
    const PRICE: u32 = 0x3ade_68b1;
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("data");
    let order = |price: u32| {
        format!(
            r#"{{"type":"order","user_id":"u","store_id":"s","status":"paid","paid_to":"platform","created_time":1700000000000,"books":[{{"id":"b","count":1,"price":{price}}}]}}"#
        )
    };
    let lines = format!(
        "{}\n{}\n{}\n{}\n{}",
        r#"{"type":"account","user_id":"u","password":"p"}"#,
        r#"{"type":"store","store_id":"s","user_id":"u"}"#,
        r#"{"type":"book","store_id":"s","book_info":{"id":"b","title":"t","price":1}}"#,
        order(PRICE),
        order(7),
    );
    bookstore_fed(&[&"load", &"--argon2-memory-kib", &"64", &"-", &dir], lines.as_bytes()).ok();
    let places: Vec<usize> = fs::read(dir.join("orders.redb"))
        .unwrap()
        .windows(4)
        .enumerate()
        .filter(|(_, window)| *window == PRICE.to_be_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    // One byte: the checksum says which.
    let (_one, one) = copy(&dir);
    flip(&one.join("orders.redb"), places[0]);
    bookstore(&[&"check", &one]).ends_with_status(1);
    shown(&one).ends_with_status(1).says("1 are put right by their checksum").says("lost: nothing");
    bookstore(&[&"repair", &"--yes", &one]).ok();
    bookstore(&[&"check", &one]).ok().says(&format!("held by the platform {}", PRICE + 7));
    // More: the order is gone, and the money that the platform held for it is told to be missing.
    let (_more, more) = copy(&dir);
    for at in &places {
        flip(&more.join("orders.redb"), *at);
        flip(&more.join("orders.redb"), at + 2);
    }
    shown(&more).ends_with_status(1).says("IT DOES NOT ADD UP").says(&format!("{PRICE} fen and 1 copies"));
    let done =
        bookstore(&[&"repair", &"--yes", &more]).ends_with_status(1).says("orders at rest whose rows are damaged, 1");
    done.says("the service starts");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = bookstore::Engine::open(bookstore::Config::directory(&more)).await.unwrap();
        assert_eq!(engine.buyer_orders("u", bookstore::Credential::Trusted).await.unwrap().len(), 1);
        engine.close().await.unwrap();
    });
}

#[test]
fn what_is_in_use_or_no_shop_is_left_alone() {
    let server = Server::start(&[]);
    let done = bookstore(&[&"repair", &"--yes", &server.data_dir()]).ends_with_status(75);
    done.says(&format!("in use by process {}", server.pid()));
    let parent = TempDir::new().unwrap();
    bookstore(&[&"repair", &parent.path().join("nowhere")]).ends_with_status(75);
    bookstore(&[&"repair", &parent.path(), &"--yes"]).ends_with_status(75).says("holds no data");
    bookstore(&[&"repair", &"--force"]).ends_with_status(2);
}

/// Its snapshot has everything, and the journal's one segment holds no event yet.
#[test]
fn a_shop_in_which_nothing_happened_since_its_snapshot_is_sound() {
    let data = "users=3,stores=1,books=2,orders=2";
    let mut server = Server::start_on(&[], |dir| {
        bookstore(&[&"load", &"--generate", &data, &"--argon2-memory-kib", &"8", &dir]).ok();
        shown(dir).ok().says("nothing to repair");
    });
    assert!(server.sigterm().success());
    let loaded = server.data_dir();
    shown(&loaded).ok().says("nothing to repair");
    let parent = TempDir::new().unwrap();
    // As it comes out of a backup, of which the journal begins behind the snapshot.
    let [backup, restored] = ["backup", "restored"].map(|name| parent.path().join(name));
    bookstore(&[&"backup", &"--data-dir", &loaded, &"--to", &backup]).ok();
    bookstore(&[&"restore", &backup, &"--data-dir", &restored]).ok();
    shown(&restored).ok().says("nothing to repair");
}

/// A restored backup has no lock file, so a service may come and go between the plan and its doing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_since_the_plan_is_not_cut() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("data");
    let trusted = bookstore::Credential::Trusted;
    let open = || bookstore::Engine::open(bookstore::Config::directory(&dir));
    let engine = open().await.unwrap();
    engine.register("ann", "pw").await.unwrap();
    for _ in 0..2 {
        engine.add_funds("ann", trusted, 1).await.unwrap();
        engine.snapshot().await.unwrap();
    }
    engine.close().await.unwrap();
    // One that a start does not look at, and so leaves there.
    let older = files(&dir, ".snap")[0].clone();
    flip(&older, fs::metadata(&older).unwrap().len() as usize / 2);
    fs::remove_file(dir.join("lock")).unwrap();
    let storage = bookstore::Storage::Directory(dir.clone());
    let planned = Repair::plan(&storage).await.unwrap();
    assert!(!planned.report().is_sound() && !dir.join("lock").exists());
    let engine = open().await.unwrap();
    engine.add_funds("ann", trusted, 1).await.unwrap();
    drop(engine);
    // It ends in the background.
    while fs::File::open(dir.join("lock")).unwrap().try_lock().is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = content(&dir);
    let error = planned.carry_out().await.unwrap_err();
    assert!(matches!(error, RepairError::Changed(_)) && error.to_string().contains("begin again"), "{error}");
    assert!(before == content(&dir), "it went on");
    // If nobody came, it goes on.
    fs::remove_file(dir.join("lock")).unwrap();
    let planned = Repair::plan(&storage).await.unwrap();
    planned.carry_out().await.unwrap();
    let engine = open().await.unwrap();
    assert_eq!(engine.audit().await.unwrap().balances, 3);
}

/// Whoever is kept out by a repair is told by whom: the process, once it writes, and until then that it may be one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_names_the_repair() {
    const DEAD: &str = "4194305";
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("data");
    let engine = bookstore::Engine::open(bookstore::Config::directory(&dir)).await.unwrap();
    engine.register("ann", "pw").await.unwrap();
    engine.snapshot().await.unwrap();
    engine.register("bob", "pw").await.unwrap();
    engine.close().await.unwrap();
    let newest = files(&dir, ".snap").pop().unwrap();
    flip(&newest, fs::metadata(&newest).unwrap().len() as usize / 2);
    fs::write(dir.join("lock"), DEAD).unwrap();
    let planned = Repair::plan(&bookstore::Storage::Directory(dir.clone())).await.unwrap();
    assert_eq!(fs::read_to_string(dir.join("lock")).unwrap(), DEAD, "planning changes no byte");
    bookstore(&[&"serve", &"--listen", &"127.0.0.1:0", &"--data-dir", &dir])
        .ends_with_status(1)
        .says("a check or a repair of it is running");
    bookstore(&[&"check", &dir]).ends_with_status(75).says("a check or a repair of it is running");
    bookstore(&[&"repair", &dir]).ends_with_status(75).says("a check or a repair of it is running");
    planned.carry_out().await.unwrap();
    assert_eq!(fs::read_to_string(dir.join("lock")).unwrap(), std::process::id().to_string());
}
