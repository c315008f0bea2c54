//! Faults that the engine once had, each with the test that failed on it: entities lost from snapshots, callers who
//! never got an answer, tokens that opened another account, snapshots published by an engine that had failed or gone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "common/watched_disk.rs"]
mod watched_disk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bookstore::disk::{Disk, MemoryDisk, OpenMode};
use bookstore::{Config, Credential, Durability, Engine, Error, Limits, NewBook, NewLine, Storage};
use watched_disk::{Watch, WatchedDisk};

const T: Credential<'static> = Credential::Trusted;

fn cheap(mut config: Config) -> Config {
    config.password_params.memory_kib = 64;
    config.password_params.iterations = 1;
    config.segment_bytes = 16 << 20;
    config
}

async fn shop(engine: &Engine) {
    engine.register("seller", "pw").await.unwrap();
    engine.register("buyer", "pw").await.unwrap();
    engine.create_store("seller", T, "store").await.unwrap();
    let document = r#"{"id":"book","title":"m","price":10}"#;
    engine.add_book("seller", T, "store", NewBook { id: "book", price: 10, document }, 1_000_000).await.unwrap();
    engine.add_funds("buyer", T, 1_000).await.unwrap();
}

async fn order(engine: &Engine, count: i64) -> Result<String, Error> {
    let lines = [NewLine { book_id: "book", count }];
    engine.new_order("buyer", T, "store", &lines).await.map(|id| id.to_string())
}

#[tokio::test]
async fn a_throttled_order_does_not_keep_its_user_from_leaving() {
    let mut config = cheap(Config::memory());
    config.limits.pending_orders_max = 1;
    let engine = Engine::open(config).await.unwrap();
    shop(&engine).await;
    let first = order(&engine, 1).await.unwrap();
    assert!(matches!(order(&engine, 1).await, Err(Error::Throttled { .. })));
    engine.cancel_order("buyer", &first, T).await.unwrap();
    engine.add_funds("buyer", T, -1_000).await.unwrap();
    engine.unregister("buyer", T).await.unwrap();
}

#[tokio::test]
async fn two_unregisters_at_once_are_judged_alike() {
    let engine = Engine::open(cheap(Config::memory())).await.unwrap();
    shop(&engine).await;
    let (one, two) = tokio::join!(engine.unregister("buyer", T), engine.unregister("buyer", T));
    assert!(one.unwrap_err().to_string().contains("balance"));
    assert!(two.as_ref().unwrap_err().to_string().contains("balance"), "{two:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_is_conserved_while_deadlines_come() {
    let mut config = cheap(Config::memory());
    config.order_ttl = Duration::from_millis(300);
    let engine = Engine::open(config).await.unwrap();
    shop(&engine).await;
    for store in 0..3_000 {
        engine.create_store("seller", T, &format!("s{store}")).await.unwrap();
    }
    for round in 0..10 {
        for _ in 0..100 {
            order(&engine, 1).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let end = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end {
            let audit = engine.audit().await.unwrap();
            assert!(audit.is_conserved(), "round {round}: {audit:?}");
        }
    }
}

#[test]
fn an_account_that_another_runtime_woke_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let main = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let engine = main.block_on(Engine::open(cheap(Config::directory(dir.path())))).unwrap();
    main.block_on(engine.register("buyer", "pw")).unwrap();
    let other = runtime();
    other.block_on(engine.add_funds("buyer", T, 5)).unwrap();
    drop(other);
    main.block_on(async {
        engine.snapshot().await.unwrap();
        engine.register("another", "pw").await.unwrap();
        engine.snapshot().await.unwrap();
        drop(engine);
        let engine = Engine::open(cheap(Config::directory(dir.path()))).await.unwrap();
        assert_eq!(engine.balance("buyer", T).await.unwrap(), 5);
    });
}

#[test]
fn callers_outlive_the_runtime_that_the_engine_was_opened_on() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let engine = first.block_on(Engine::open(cheap(Config::memory()))).unwrap();
    first.block_on(engine.register("buyer", "pw")).unwrap();
    drop(first);
    second.block_on(async {
        let limit = Duration::from_secs(20);
        let funds = tokio::time::timeout(limit, engine.add_funds("buyer", T, 5)).await.expect("a call waits");
        assert!(matches!(funds, Err(Error::OutcomeUnknown(_))), "{funds:?}");
        let closed = tokio::time::timeout(limit, engine.close()).await.expect("the close waits");
        assert!(matches!(closed, Err(Error::OutcomeUnknown(_))), "{closed:?}");
    });
}

#[tokio::test]
async fn a_token_of_a_lost_account_is_not_another_users() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = cheap(Config::directory(dir.path()));
    config.durability = Durability::Snapshot;
    let engine = Engine::open(config.clone()).await.unwrap();
    engine.register("mallory", "pw").await.unwrap();
    let token = engine.login("mallory", Credential::password("pw"), "t").await.unwrap();
    drop(engine);
    let engine = Engine::open(config).await.unwrap();
    engine.register("alice", "secret").await.unwrap();
    let done = engine.create_store("alice", Credential::Token(&token), "hers").await;
    assert!(done.is_err(), "mallory's token opened a store as alice");
}

#[tokio::test]
async fn a_document_that_is_too_long_is_refused_and_nothing_more() {
    let engine = Engine::open(cheap(Config::memory())).await.unwrap();
    shop(&engine).await;
    let document = format!("{{\"x\":\"{}\"}}", "x".repeat(256 << 20));
    let put = engine.add_book("seller", T, "store", NewBook { id: "long", price: 1, document: &document }, 1).await;
    let refused = put.unwrap_err();
    assert!(refused.to_string().contains("268435456"), "{refused}");
    assert!(matches!(refused, Error::Refused(_)), "{refused:?}");
    assert_eq!(engine.balance("buyer", T).await.unwrap(), 1_000);
}

#[tokio::test]
async fn a_failed_engine_publishes_no_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(cheap(Config::directory(dir.path()))).await.unwrap();
    shop(&engine).await;
    // Any failure that is not the journal's; here a document.
    let document = format!("{{\"x\":\"{}\"}}", "x".repeat(256 << 20));
    let _ = engine.add_book("seller", T, "store", NewBook { id: "long", price: 1, document: &document }, 1).await;
    if engine.not_ready().is_some() {
        assert!(engine.snapshot().await.is_err(), "a snapshot of a failed engine was published");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn no_answer_is_stuck_without_a_journal() {
    let engine = Engine::open(cheap(Config::memory())).await.unwrap();
    shop(&engine).await;
    for user in 0..8 {
        engine.register(&format!("u{user}"), "pw").await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stuck = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for task in 0..64 {
        let (engine, stop, stuck) = (engine.clone(), stop.clone(), stuck.clone());
        tasks.push(tokio::spawn(async move {
            let user = format!("u{}", task % 8);
            while !stop.load(Ordering::Relaxed) {
                let call = async {
                    if task % 2 == 0 {
                        engine.add_funds(&user, T, 1).await.unwrap();
                    } else {
                        engine.stock_level("store", "book").await.unwrap();
                    }
                };
                if tokio::time::timeout(Duration::from_secs(8), call).await.is_err() {
                    stuck.fetch_add(1, Ordering::Relaxed);
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }));
    }
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let left = engine.stats().permits_in_use;
    assert_eq!((stuck.load(Ordering::Relaxed), left), (0, 0));
}

/// Holds the creation of each snapshot file until it is let go.
#[derive(Debug, Default)]
struct Slow {
    /// Files that wait or waited, and how many may go on.
    state: Mutex<(usize, usize)>,
    changed: Condvar,
}

impl Slow {
    fn let_go(&self, upto: usize) {
        self.state.lock().unwrap().1 = upto;
        self.changed.notify_all();
    }

    fn waiting(&self) -> usize {
        self.state.lock().unwrap().0
    }
}

impl Watch for Slow {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<()> {
        if mode == OpenMode::CreateNew && path.to_string_lossy().ends_with(".snap.tmp") {
            let mut state = self.state.lock().unwrap();
            state.0 += 1;
            let mine = state.0;
            drop(self.changed.wait_while(state, |state| state.1 < mine).unwrap());
        }
        Ok(())
    }
}

async fn until(what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !what() {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What holds the snapshots, the disk beneath, and an engine's settings on it.
fn slow() -> (Arc<Slow>, MemoryDisk, Config) {
    let (slow, disk) = (Arc::new(Slow::default()), MemoryDisk::new());
    let watched = Arc::new(WatchedDisk::new(disk.clone(), slow.clone()));
    let mut config = cheap(Config::with(Storage::Disk(watched, PathBuf::from("/data"))));
    config.durability = Durability::Snapshot;
    config.snapshot_interval = Duration::from_secs(3_600);
    (slow, disk, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_whose_caller_went_away_does_not_spoil_the_next() {
    let (slow, disk, config) = slow();
    let engine = Engine::open(config.clone()).await.unwrap();
    shop(&engine).await;
    let id = order(&engine, 7).await.unwrap();
    let first = tokio::spawn({
        let engine = engine.clone();
        async move { engine.snapshot().await }
    });
    until(|| slow.waiting() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.abort();
    let _ = first.await;
    for store in 0..8 {
        engine.create_store("seller", T, &format!("s{store}")).await.unwrap();
    }
    let second = tokio::spawn({
        let engine = engine.clone();
        async move { engine.snapshot().await }
    });
    // The second begins when the first, whose caller has gone, is through.
    tokio::time::sleep(Duration::from_millis(100)).await;
    slow.let_go(1);
    until(|| slow.waiting() == 2).await;
    until(|| disk.list(Path::new("/data")).unwrap().iter().any(|name| name.ends_with(".snap"))).await;
    engine.pay("buyer", &id, T).await.unwrap();
    slow.let_go(2);
    second.await.unwrap().unwrap();
    slow.let_go(100);
    drop(engine);
    let engine = Engine::open(config).await.unwrap();
    let audit = engine.audit().await.unwrap();
    let status = engine.order_status("buyer", &id, T).await.unwrap();
    let balances = (engine.balance("buyer", T).await.unwrap(), engine.balance("seller", T).await.unwrap());
    let fits = match status.as_str() {
        "paid" => balances == (930, 70),
        _ => balances == (1_000, 0),
    };
    assert!(fits && audit.is_conserved(), "{status:?} {balances:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_engine_publishes_nothing_any_more() {
    let (slow, _, config) = slow();
    let engine = Engine::open(config.clone()).await.unwrap();
    engine.register("old", "pw").await.unwrap();
    for _ in 0..20 {
        engine.add_funds("old", T, 1).await.unwrap();
    }
    let snapshot = tokio::spawn({
        let engine = engine.clone();
        async move { engine.snapshot().await }
    });
    until(|| slow.waiting() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    snapshot.abort();
    let _ = snapshot.await;
    // Here the lock of the directory is given back.
    drop(engine);
    let engine = Engine::open(config.clone()).await.unwrap();
    engine.register("new", "pw").await.unwrap();
    slow.let_go(1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    slow.let_go(100);
    engine.close().await.unwrap();
    drop(engine);
    let engine = Engine::open(config).await.unwrap();
    engine.balance("new", T).await.expect("a clean close keeps what was acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_store_can_be_snapshotted() {
    let engine = Engine::open(cheap(Config::memory())).await.unwrap();
    shop(&engine).await;
    // All but the shop's own book.
    let left = Arc::new(AtomicUsize::new(Limits::default().store_books_max - 1));
    let mut tasks = Vec::new();
    for _ in 0..64 {
        let (engine, left) = (engine.clone(), left.clone());
        tasks.push(tokio::spawn(async move {
            while let Ok(book) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
                let id = format!("{book:0256}");
                engine.add_book("seller", T, "store", NewBook { id: &id, price: 1, document: "{}" }, 1).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    engine.snapshot().await.expect("a store as large as may be");
    let more = engine.add_book("seller", T, "store", NewBook { id: "more", price: 1, document: "{}" }, 1).await;
    assert!(matches!(more, Err(Error::Refused(_))), "{more:?}");
}
