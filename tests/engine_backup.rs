//! Backups of an engine that goes on: what was acknowledged before is in them, whatever happens meanwhile; what fails
//! leaves nothing that could be taken for a backup.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "common/sim_disk.rs"]
mod sim_disk;
#[path = "common/watched_disk.rs"]
mod watched_disk;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, io};

use bookstore::disk::{OpenMode, RealDisk};
use bookstore::offline::{self, restore, verify};
use bookstore::{
    BackupError, BackupReport, Config, Credential, Durability, Engine, Error, NewBook, NewLine, OpenError, OrderStatus,
    Storage,
};
use sim_disk::{Crash, SimDisk};
use tempfile::TempDir;
use watched_disk::{Watch, WatchedDisk};

const TRUSTED: Credential<'_> = Credential::Trusted;
const GO_ON: fn(bookstore::Progress) -> ControlFlow<()> = |_| ControlFlow::Continue(());

fn config(dir: &Path) -> Config {
    let mut config = Config::directory(dir);
    config.segment_bytes = 16 << 20;
    config.password_params.memory_kib = 64;
    config
}

/// A store with a book, and so many buyers with money.
async fn shop(config: Config, buyers: usize) -> Engine {
    let engine = Engine::open(config).await.unwrap();
    engine.register("seller", "p").await.unwrap();
    engine.create_store("seller", TRUSTED, "s").await.unwrap();
    let book = NewBook { id: "b", price: 7, document: r#"{"id":"b","title":"a title","pictures":["aGVsbG8="]}"# };
    engine.add_book("seller", TRUSTED, "s", book, 1_000_000).await.unwrap();
    for buyer in 0..buyers {
        engine.register(&format!("u{buyer}"), "p").await.unwrap();
        engine.add_funds(&format!("u{buyer}"), TRUSTED, 1_000_000).await.unwrap();
    }
    engine
}

async fn order(engine: &Engine, buyer: &str) -> String {
    let lines = [NewLine { book_id: "b", count: 1 }];
    engine.new_order(buyer, TRUSTED, "s", &lines).await.unwrap().to_string()
}

/// Restores the backup beside it, opens it and audits it.
async fn restored(backup: &Path, name: &str) -> (PathBuf, Engine) {
    let target = backup.with_file_name(name);
    let (from, to) = (backup.to_path_buf(), target.clone());
    tokio::task::spawn_blocking(move || restore(&from, &to, &mut |_| ControlFlow::Continue(())))
        .await
        .unwrap()
        .unwrap();
    let engine = Engine::open(config(&target)).await.unwrap();
    let audit = engine.audit().await.unwrap();
    assert!(audit.is_conserved() && audit.contradictions == 0, "{audit:?}");
    (target, engine)
}

/// The states that orders must at least have reached.
type Known = Arc<Mutex<BTreeMap<String, (String, OrderStatus)>>>;

fn reached(status: OrderStatus) -> u32 {
    match status {
        OrderStatus::Pending => 0,
        OrderStatus::Paid => 1,
        OrderStatus::Shipped => 2,
        _ => 3,
    }
}

/// Buys, pays, ships and confirms, and notes what was acknowledged.
async fn buy(engine: Engine, buyer: String, known: Known, stop: Arc<AtomicBool>) {
    let note = |order: &str, status| known.lock().unwrap().insert(order.to_owned(), (buyer.clone(), status));
    while !stop.load(Ordering::Relaxed) {
        let id = order(&engine, &buyer).await;
        note(&id, OrderStatus::Pending);
        engine.pay_to_platform(&buyer, &id, TRUSTED).await.unwrap();
        note(&id, OrderStatus::Paid);
        engine.ship("seller", TRUSTED, "s", &id).await.unwrap();
        note(&id, OrderStatus::Shipped);
        engine.confirm(&buyer, &id, TRUSTED).await.unwrap();
        note(&id, OrderStatus::Completed);
        // Else the backups have a hundred thousand orders to verify, and a slow machine buys the shop empty meanwhile.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_is_in_it_while_orders_move_and_snapshots_come_and_go() {
    for durability in [Durability::Sync, Durability::Buffered, Durability::Snapshot] {
        let parent = TempDir::new().unwrap();
        let mut config = config(&parent.path().join("data"));
        config.durability = durability;
        let engine = shop(config, 4).await;
        let (known, stop) = (Known::default(), Arc::new(AtomicBool::new(false)));
        let mut tasks: Vec<_> = (0..4)
            .map(|buyer| tokio::spawn(buy(engine.clone(), format!("u{buyer}"), known.clone(), stop.clone())))
            .collect();
        let (others, stopped) = (engine.clone(), stop.clone());
        tasks.push(tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                others.offload().await.unwrap();
                others.snapshot().await.unwrap();
            }
        }));
        for round in 0..2 {
            let at_least = 30 * (round + 1);
            while known.lock().unwrap().len() < at_least {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let backup = parent.path().join(format!("backup-{round}"));
            let before = known.lock().unwrap().clone();
            let made = engine.backup(&backup).await.unwrap();
            assert_eq!((made.dir.as_path(), made.damaged.len()), (backup.as_path(), 0));
            let verified = verify(&backup, |_| {}).await.unwrap();
            assert!(verified.is_sound(), "{verified:?}");
            assert_eq!((verified.lsn, verified.files, verified.bytes), (made.lsn, made.files, made.bytes));
            let notes = verified.check.unwrap().notes;
            assert!(
                !notes.iter().any(|note| note.contains("tore") || note.contains("not a file of ours")),
                "{notes:?}"
            );
            let (_, copy) = restored(&backup, &format!("copy-{round}")).await;
            for (id, (buyer, status)) in &before {
                let there = copy.buyer_order(buyer, id, TRUSTED).await.unwrap();
                assert!(reached(there.order.status) >= reached(*status), "{id} was {status:?}: {there:?}");
            }
            assert!(copy.book("s", "b").await.unwrap().document.contains("aGVsbG8="));
        }
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        assert!(engine.audit().await.unwrap().is_conserved());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_engine_and_its_directory_at_rest_give_the_same_shop() {
    let parent = TempDir::new().unwrap();
    let data = parent.path().join("data");
    let engine = shop(config(&data), 1).await;
    for _ in 0..5 {
        let id = order(&engine, "u0").await;
        engine.pay("u0", &id, TRUSTED).await.unwrap();
    }
    engine.offload().await.unwrap();
    order(&engine, "u0").await;
    let hash = engine.audit().await.unwrap().state_hash;
    let token = engine.login("u0", TRUSTED, "t").await.unwrap();
    let [live, after_kill, after_close] = ["live", "killed", "closed"].map(|name| parent.path().join(name));
    let made = engine.backup(&live).await.unwrap();
    assert_eq!(made.lsn, engine.stats().journal_head);
    // Dropped as in a crash, and then closed in order.
    drop(engine);
    let before = files(&data);
    assert_eq!(offline::backup(&data, &after_kill, &mut GO_ON.clone()).unwrap().lsn, made.lsn);
    assert_eq!(before, files(&data), "nothing was changed");
    Engine::open(config(&data)).await.unwrap().close().await.unwrap();
    offline::backup(&data, &after_close, &mut GO_ON.clone()).unwrap();
    for backup in [&live, &after_kill, &after_close] {
        assert!(verify(backup, |_| {}).await.unwrap().is_sound());
        let name = format!("{}-again", backup.file_name().unwrap().to_str().unwrap());
        let (_, copy) = restored(backup, &name).await;
        assert_eq!(copy.audit().await.unwrap().state_hash, hash, "{name}");
        assert_eq!(copy.balance("u0", Credential::Token(&token)).await.unwrap(), 1_000_000 - 35, "{name}");
        // What is restored can be backed up again.
        copy.backup(backup.with_extension("again")).await.unwrap();
    }
}

/// Names and bytes of all files below, without the lock.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_cannot_be_one_is_refused_and_nothing_is_done() {
    let parent = TempDir::new().unwrap();
    let data = parent.path().join("data");
    let engine = shop(config(&data), 0).await;
    let full = parent.path().join("full");
    fs::create_dir_all(full.join("only a directory")).unwrap();
    std::os::unix::fs::symlink(&data, parent.path().join("link")).unwrap();
    let made_on_the_way = ["new/../data/x", "new/../link/x"].map(|name| parent.path().join(name));
    let inside = [data.join("backup"), data.clone(), parent.path().join("link/backup"), data.join("../data/x")];
    let inside = [inside.as_slice(), &made_on_the_way].concat();
    for place in inside.iter().chain([&full]) {
        let error = engine.backup(place).await.unwrap_err();
        assert!(matches!(error, BackupError::Target { .. }), "{}: {error}", place.display());
    }
    assert!(!data.join("backup").exists() && fs::read_dir(&full).unwrap().count() == 1);
    assert_eq!(engine.stats().snapshots, 0, "no snapshot was taken for nothing");
    let on_a_file = data.join("token.key/backup");
    assert!(engine.backup(&on_a_file).await.is_err());
    // An empty one is taken, with its parents.
    let empty = parent.path().join("deep/er");
    fs::create_dir_all(&empty).unwrap();
    engine.backup(&empty).await.unwrap();
    assert!(matches!(engine.backup(&empty).await, Err(BackupError::Target { .. })), "a backup is in it");
    let memory = Engine::open(Config::memory()).await.unwrap();
    assert!(matches!(memory.backup(parent.path().join("m")).await, Err(BackupError::InMemory)));
    engine.close().await.unwrap();
    let error = engine.backup(parent.path().join("late")).await.unwrap_err();
    assert!(matches!(error, BackupError::Engine(Error::Draining)), "{error}");
    assert!(!parent.path().join("late").exists() && !parent.path().join("m").exists());
}

/// Fails the n-th operation on files below a directory; holds them while it is told to.
#[derive(Debug)]
struct Failing {
    dir: PathBuf,
    left: AtomicI64,
    seen: AtomicU64,
    hold: AtomicBool,
    /// Free bytes, if not 0.
    free: AtomicU64,
}

impl Failing {
    fn count(&self, path: &Path) -> io::Result<()> {
        if !path.starts_with(&self.dir) {
            return Ok(());
        }
        self.seen.fetch_add(1, Ordering::SeqCst);
        while self.hold.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1 => Err(io::Error::other("on purpose")),
            _ => Ok(()),
        }
    }
}

impl Watch for Failing {
    fn open(&self, path: &Path, _mode: OpenMode) -> io::Result<()> {
        self.count(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.count(path)
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(self.free.load(Ordering::SeqCst)).filter(|free| *free > 0)
    }
}

async fn watched_shop(parent: &Path) -> (Engine, Arc<Failing>, PathBuf) {
    let target = parent.join("backup");
    let (left, seen, hold, free) = Default::default();
    let watch = Arc::new(Failing { dir: target.clone(), left, seen, hold, free });
    let data = parent.join("data");
    fs::create_dir(&data).unwrap();
    let mut config = config(&data);
    config.storage = Storage::Disk(Arc::new(WatchedDisk::new(RealDisk, watch.clone())), data);
    let engine = shop(config, 1).await;
    let id = order(&engine, "u0").await;
    engine.pay("u0", &id, TRUSTED).await.unwrap();
    engine.offload().await.unwrap();
    (engine, watch, target)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_the_service_goes_on_and_no_half_backup_is_taken_for_one() {
    let parent = TempDir::new().unwrap();
    let (engine, watch, target) = watched_shop(parent.path()).await;
    let (mut failed, mut last) = (0, None);
    for n in 1.. {
        watch.left.store(n, Ordering::SeqCst);
        match engine.backup(&target).await {
            Ok(made) => {
                assert!(verify(&target, |_| {}).await.unwrap().is_sound());
                assert_eq!(made.dir, target);
                break;
            }
            Err(error) => {
                failed += 1;
                assert!(error.to_string().contains("on purpose"), "{n}: {error}");
            }
        }
        watch.left.store(0, Ordering::SeqCst);
        // But for the very last sync it is removed, and then it is whole.
        match target.exists() {
            true => assert!(verify(&target, |_| {}).await.unwrap().is_sound() && last.replace(n).is_none(), "{n}"),
            false => assert!(last.is_none(), "{n}"),
        }
        let _ = fs::remove_dir_all(&target);
        order(&engine, "u0").await;
    }
    assert!(failed > 15, "{failed}");
    assert_eq!((engine.stats().backups, engine.stats().backup_failures), (1, failed));
    assert!(engine.audit().await.unwrap().is_conserved());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_future_and_the_end_of_the_engine_end_it_and_there_is_one_at_a_time() {
    let parent = TempDir::new().unwrap();
    let (engine, watch, target) = watched_shop(parent.path()).await;
    let begun = |hold: bool| {
        watch.seen.store(0, Ordering::SeqCst);
        watch.hold.store(hold, Ordering::SeqCst);
        let (engine, target) = (engine.clone(), target.clone());
        tokio::spawn(async move { engine.backup(&target).await })
    };
    let is_under_way = || async {
        while watch.seen.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let first = begun(true);
    is_under_way().await;
    let second = engine.backup(parent.path().join("second")).await;
    assert!(matches!(second, Err(BackupError::Running)), "{second:?}");
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    watch.hold.store(false, Ordering::SeqCst);
    // It is removed, and then there may be another one.
    let made: BackupReport = loop {
        match engine.backup(&target).await {
            Ok(made) => break made,
            Err(BackupError::Running) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(made.dir, target);
    fs::remove_dir_all(&target).unwrap();
    assert_eq!((engine.stats().backups, engine.stats().backup_failures), (1, 0));
    let last = begun(true);
    is_under_way().await;
    let closing = tokio::spawn({
        let engine = engine.clone();
        async move { engine.close().await }
    });
    while engine.balance("u0", TRUSTED).await != Err(Error::Draining) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    watch.hold.store(false, Ordering::SeqCst);
    closing.await.unwrap().unwrap();
    assert!(!target.exists(), "the end waits until it is removed");
    let ended = last.await.unwrap();
    assert!(matches!(ended, Err(BackupError::CutShort | BackupError::Engine(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_backup_is_opened_by_nobody() {
    let parent = TempDir::new().unwrap();
    let [data, backup] = ["data", "backup"].map(|name| parent.path().join(name));
    let engine = shop(config(&data), 1).await;
    engine.backup(&backup).await.unwrap();
    fs::write(backup.join("backup.unfinished"), "").unwrap();
    let told = Engine::open(config(&backup)).await.unwrap_err();
    assert!(matches!(&told, OpenError::Damaged(why) if why.contains("not finished")), "{told}");
    let target = parent.path().join("copy");
    let told = restore(&backup, &target, &mut GO_ON.clone()).unwrap_err();
    assert!(matches!(told, BackupError::NoBackup { .. }), "{told}");
    assert!(!target.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_ended_or_finds_damage_leaves_nothing() {
    let parent = TempDir::new().unwrap();
    let [data, backup, target] = ["data", "backup", "copy"].map(|name| parent.path().join(name));
    let engine = shop(config(&data), 1).await;
    engine.backup(&backup).await.unwrap();
    let ended = restore(&backup, &target, &mut |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(ended, BackupError::CutShort), "{ended}");
    let file = backup.join("documents.redb");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    let told = restore(&backup, &target, &mut GO_ON.clone()).unwrap_err().to_string();
    assert!(told.contains("documents.redb: it has other bytes"), "{told}");
    let left: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("x"), "").unwrap();
    let told = restore(&backup, &target, &mut GO_ON.clone()).unwrap_err().to_string();
    assert!(told.contains("not empty"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_does_not_take_the_room_that_changes_need() {
    let parent = TempDir::new().unwrap();
    let (engine, watch, target) = watched_shop(parent.path()).await;
    let needed_by_changes = config(parent.path()).limits.free_disk_min_bytes + (16 << 20);
    let told = |free| {
        watch.free.store(free, Ordering::SeqCst);
        engine.backup(&target)
    };
    let error = told(needed_by_changes + 4_096).await.unwrap_err();
    assert!(matches!(&error, BackupError::NoRoom(why) if why.contains("stay free")), "{error}");
    // While changes are refused already, it is for the same reason, and no snapshot is tried.
    watch.free.store(1 << 20, Ordering::SeqCst);
    while !engine.stats().disk_low {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let failures = engine.stats().snapshot_failures;
    let error = told(1 << 20).await.unwrap_err();
    assert!(matches!(&error, BackupError::NoRoom(why) if why.contains("nearly full")), "{error}");
    assert_eq!(engine.stats().snapshot_failures, failures);
    assert!(!target.exists());
    watch.free.store(needed_by_changes * 2, Ordering::SeqCst);
    while engine.stats().disk_low {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    engine.backup(&target).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_a_failure_and_is_told_as_one() {
    let parent = TempDir::new().unwrap();
    let target = parent.path().join("backup");
    let engine = shop(config(&parent.path().join("data")), 0).await;
    let error = engine.backup_with_progress(&target, |_| panic!("on purpose")).await.unwrap_err();
    assert!(matches!(&error, BackupError::Io { source, .. } if source.to_string().contains("panicked")), "{error}");
    let stats = engine.stats();
    assert_eq!((stats.backups, stats.backup_failures, stats.last_backup), (0, 1, None));
    assert!(!target.exists());
    let before = std::time::SystemTime::now() - Duration::from_secs(1);
    engine.backup(&target).await.unwrap();
    assert!(engine.stats().last_backup.is_some_and(|last| last > before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_no_engine_opens_gives_no_backup() {
    let parent = TempDir::new().unwrap();
    let [data, target] = ["data", "target"].map(|name| parent.path().join(name));
    drop(shop(config(&data), 1).await);
    for name in ["orders.redb", "documents.redb"] {
        let aside = parent.path().join(name);
        fs::rename(data.join(name), &aside).unwrap();
        let error = offline::backup(&data, &target, &mut GO_ON.clone()).unwrap_err();
        assert!(matches!(&error, BackupError::Damaged(why) if why.contains(name)), "{error}");
        fs::rename(&aside, data.join(name)).unwrap();
    }
    fs::write(data.join("backup.unfinished"), "").unwrap();
    let error = offline::backup(&data, &target, &mut GO_ON.clone()).unwrap_err();
    assert!(matches!(&error, BackupError::Damaged(why) if why.contains("not finished")), "{error}");
    fs::remove_file(data.join("backup.unfinished")).unwrap();
    // No lock, as in a copy: so an engine may come.
    fs::remove_file(data.join("lock")).unwrap();
    let mut come = |_| {
        fs::write(data.join("lock"), "").unwrap();
        ControlFlow::Continue(())
    };
    let error = offline::backup(&data, &target, &mut come).unwrap_err();
    assert!(matches!(error, BackupError::Locked { .. }), "{error}");
    assert!(!target.exists());
    offline::backup(&data, &target, &mut GO_ON.clone()).unwrap();
}

/// It may be the top of a disk, or all that a container may write to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_directory_is_filled_where_it_is_and_what_a_dead_process_left_does_not_block() {
    use std::os::unix::fs::MetadataExt;
    let parent = TempDir::new().unwrap();
    let [data, backup, target, new] = ["data", "backup", "disk", "new"].map(|name| parent.path().join(name));
    let engine = shop(config(&data), 1).await;
    engine.backup(&backup).await.unwrap();
    fs::create_dir_all(target.join("lost+found")).unwrap();
    let inode = fs::metadata(&target).unwrap().ino();
    let mut mark = Vec::new();
    for place in [&target, &new] {
        // While it is made nobody opens it, nor makes it as well.
        let mut looked = false;
        let mut during = |_| {
            let made_in = if *place == target { target.clone() } else { parent.path().join(".new.unfinished") };
            mark = fs::read(made_in.join("backup.unfinished")).unwrap();
            if !std::mem::replace(&mut looked, true) {
                let told = restore(&backup, place, &mut GO_ON.clone()).unwrap_err().to_string();
                assert!(told.contains("another process is making it"), "{told}");
                let told = offline::Loader::begin(place, offline::LoadOptions::default()).unwrap_err().to_string();
                assert!(told.contains("another process is making it"), "{told}");
            }
            ControlFlow::Break(())
        };
        restore(&backup, place, &mut during).unwrap_err();
        assert!(looked && new.exists() == parent.path().join(".new.unfinished").exists());
        let left = fs::read_dir(&target).unwrap().count();
        assert_eq!(left, 1, "what was there before stays, and nothing else");
    }
    // Of a process that was killed.
    for left in [&target, &parent.path().join(".new.unfinished")] {
        fs::create_dir_all(left.join("journal")).unwrap();
        fs::write(left.join("journal/00000000000000000001.seg"), "half").unwrap();
        fs::write(left.join("orders.redb"), "half").unwrap();
        fs::write(left.join("backup.unfinished"), &mark).unwrap();
        let told = Engine::open(config(left)).await.unwrap_err();
        assert!(matches!(&told, OpenError::Damaged(why) if why.contains("not finished")), "{told}");
    }
    for place in [&target, &new] {
        restore(&backup, place, &mut GO_ON.clone()).unwrap();
        assert!(!place.join("backup.unfinished").exists() && !place.join("lock").exists());
        let copy = Engine::open(config(place)).await.unwrap();
        assert_eq!(copy.balance("u0", TRUSTED).await.unwrap(), 1_000_000);
    }
    assert_eq!(fs::metadata(&target).unwrap().ino(), inode, "it is another directory");
    assert!(target.join("lost+found").exists() && !parent.path().join(".new.unfinished").exists());
    // What is no left-over of ours stays, whatever its name.
    let half = parent.path().join("half");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("backup.unfinished"), "").unwrap();
    fs::write(half.join("orders.redb"), "mine").unwrap();
    let told = restore(&backup, &half, &mut GO_ON.clone()).unwrap_err().to_string();
    assert!(told.contains("not empty") && fs::read_dir(&half).unwrap().count() == 2, "{told}");
}

/// An engine on a simulated disk, which does nothing by itself.
async fn simulated(disk: &SimDisk, dir: &str) -> Result<Engine, OpenError> {
    let mut config = config(Path::new(dir));
    config.storage = Storage::Disk(Arc::new(disk.clone()), PathBuf::from(dir));
    config.snapshot_interval = Duration::from_secs(3_600);
    Engine::open(config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_loss_leaves_a_whole_backup_or_one_that_is_marked() {
    let prepared = SimDisk::new();
    let engine = {
        let mut config = config(Path::new("/data"));
        config.storage = Storage::Disk(Arc::new(prepared.clone()), PathBuf::from("/data"));
        shop(config, 1).await
    };
    let orders = [order(&engine, "u0").await, order(&engine, "u0").await];
    engine.pay("u0", &orders[0], TRUSTED).await.unwrap();
    engine.offload().await.unwrap();
    engine.pay("u0", &orders[1], TRUSTED).await.unwrap();
    drop(engine);
    let step = if std::env::var_os("BOOKSTORE_EVERY_CRASH").is_some() { 1 } else { 7 };
    let (mut whole, mut marked, mut n) = (0, 0, 0);
    loop {
        let disk = prepared.copy();
        let engine = simulated(&disk, "/data").await.unwrap();
        disk.kill_at(n);
        let made = engine.backup("/backups/one").await;
        disk.crash([Crash::LoseAll, Crash::Tear(n), Crash::KeepAll][n as usize % 3]);
        drop(engine);
        let there = |name: &str| disk.files().contains(&Path::new("/backups/one").join(name));
        if there("backup.json") && !there("backup.unfinished") {
            whole += 1;
            let copy = simulated(&disk, "/backups/one").await.unwrap();
            for id in &orders {
                let status = copy.buyer_order("u0", id, TRUSTED).await.unwrap().order.status;
                assert_eq!(status, OrderStatus::Paid, "{n}");
            }
            assert!(copy.audit().await.unwrap().is_conserved(), "{n}");
        } else {
            marked += 1;
            assert!(made.is_err(), "{n}: what was told to be made is not there");
        }
        // Wherever it came to, the service itself lost nothing.
        let again = simulated(&disk, "/data").await.unwrap();
        assert_eq!(again.buyer_order("u0", &orders[1], TRUSTED).await.unwrap().order.status, OrderStatus::Paid, "{n}");
        if made.is_ok() {
            break;
        }
        n += step;
    }
    assert!(whole > 0 && marked as u64 > 60 / step, "{whole} {marked}");
}
