//! What a restart brings back: after a clean close, after a drop (which is as a crash), from the older snapshot, and
//! over a change of the durability mode. The state hash is compared each time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use bookstore::{AuditReport, Config, Credential, Durability, Engine, Error, NewBook, NewLine, OpenError, OrderStatus};

const T: Credential<'static> = Credential::Trusted;

fn config(dir: &Path) -> Config {
    let mut config = Config::directory(dir);
    config.password_params.memory_kib = 64;
    config.password_params.iterations = 1;
    config.segment_bytes = 16 << 20;
    config
}

async fn open(dir: &Path) -> Engine {
    Engine::open(config(dir)).await.unwrap()
}

async fn stock(engine: &Engine) -> i64 {
    engine.stock_level("store", "book").await.unwrap()
}

/// A seller, a buyer with money, a store with a book of 100 copies at 10 fen.
async fn shop(engine: &Engine) {
    engine.register("seller", "pw").await.unwrap();
    engine.register("buyer", "pw").await.unwrap();
    engine.create_store("seller", T, "store").await.unwrap();
    let document = r#"{"id":"book","title":"米","price":10}"#;
    engine.add_book("seller", T, "store", NewBook { id: "book", price: 10, document }, 100).await.unwrap();
    engine.add_funds("buyer", T, 1_000).await.unwrap();
}

async fn order(engine: &Engine, count: i64) -> String {
    let lines = [NewLine { book_id: "book", count }];
    engine.new_order("buyer", T, "store", &lines).await.unwrap().to_string()
}

/// One order in each state.
async fn orders(engine: &Engine) -> Vec<(String, OrderStatus)> {
    let pending = order(engine, 1).await;
    let paid = order(engine, 2).await;
    engine.pay("buyer", &paid, T).await.unwrap();
    let held = order(engine, 3).await;
    engine.pay_to_platform("buyer", &held, T).await.unwrap();
    let shipped = order(engine, 4).await;
    engine.pay_to_platform("buyer", &shipped, T).await.unwrap();
    engine.ship("seller", T, "store", &shipped).await.unwrap();
    let completed = order(engine, 5).await;
    engine.pay_to_platform("buyer", &completed, T).await.unwrap();
    engine.confirm("buyer", &completed, T).await.unwrap();
    let canceled = order(engine, 6).await;
    engine.cancel_order("buyer", &canceled, T).await.unwrap();
    let refunded = [order(engine, 7).await, order(engine, 8).await];
    engine.pay("buyer", &refunded[0], T).await.unwrap();
    engine.pay_to_platform("buyer", &refunded[1], T).await.unwrap();
    for order in &refunded {
        engine.refund_order("buyer", order, T).await.unwrap();
    }
    let [direct, platform] = refunded;
    vec![
        (pending, OrderStatus::Pending),
        (paid, OrderStatus::Paid),
        (held, OrderStatus::Paid),
        (shipped, OrderStatus::Shipped),
        (completed, OrderStatus::Completed),
        (canceled, OrderStatus::Canceled),
        (direct, OrderStatus::Canceled),
        (platform, OrderStatus::Canceled),
    ]
}

async fn check(engine: &Engine, orders: &[(String, OrderStatus)], audit: &AuditReport) {
    for (id, status) in orders {
        assert_eq!(engine.order_status("buyer", id, T).await.unwrap(), *status);
    }
    assert_eq!(stock(engine).await, 100 - 15);
    assert_eq!(engine.balance("buyer", T).await.unwrap(), 1_000 - 140);
    assert_eq!(engine.balance("seller", T).await.unwrap(), 70);
    let now = engine.audit().await.unwrap();
    assert!(now.is_conserved(), "{now:?}");
    assert_eq!((now.escrow, &now), (70, audit));
}

#[tokio::test]
async fn a_clean_close_replays_nothing_and_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    shop(&engine).await;
    let orders = orders(&engine).await;
    let audit = engine.audit().await.unwrap();
    engine.close().await.unwrap();
    for _ in 0..2 {
        let engine = open(dir.path()).await;
        assert_eq!(engine.recovered().replayed_events, 0);
        check(&engine, &orders, &audit).await;
        engine.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_drop_is_a_crash_and_loses_nothing_acknowledged() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        config.durability = durability;
        let engine = Engine::open(config.clone()).await.unwrap();
        shop(&engine).await;
        let orders = orders(&engine).await;
        let audit = engine.audit().await.unwrap();
        drop(engine);
        for round in 0..3 {
            let engine = Engine::open(config.clone()).await.unwrap();
            assert!(engine.recovered().replayed_events > 0);
            check(&engine, &orders, &audit).await;
            // With a snapshot in the middle of it the next open replays the rest only.
            if round == 1 {
                engine.snapshot().await.unwrap();
                engine.add_funds("buyer", T, 1).await.unwrap();
                engine.add_funds("buyer", T, -1).await.unwrap();
            }
            drop(engine);
            if round == 1 {
                let engine = Engine::open(config.clone()).await.unwrap();
                assert_eq!(engine.recovered().replayed_events, 2);
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_older_snapshot_stands_in_for_a_damaged_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    shop(&engine).await;
    engine.snapshot().await.unwrap();
    let orders = orders(&engine).await;
    let newest = engine.snapshot().await.unwrap().path.unwrap();
    let audit = engine.audit().await.unwrap();
    drop(engine);

    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, &bytes).unwrap();
    let engine = open(dir.path()).await;
    assert_eq!(engine.recovered().damaged_snapshots.len(), 1);
    check(&engine, &orders, &audit).await;
    drop(engine);

    // With every snapshot damaged there is a refusal, never a fresh start.
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "snap") {
            std::fs::write(&path, b"nonsense").unwrap();
        }
    }
    assert!(matches!(Engine::open(config(dir.path())).await, Err(OpenError::Damaged(_))));
}

/// The journal that leads from the older snapshot to the damaged newer one is not there: what lies between would be gone
/// in silence.
#[tokio::test]
async fn the_older_snapshot_is_no_way_out_without_the_journal_between_them() {
    for durability in [Durability::Sync, Durability::Snapshot] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        config.durability = durability;
        let engine = Engine::open(config.clone()).await.unwrap();
        shop(&engine).await;
        engine.snapshot().await.unwrap();
        engine.register("somebody new", "pw").await.unwrap();
        let newest = engine.snapshot().await.unwrap().path.unwrap();
        drop(engine);
        let _ = std::fs::remove_dir_all(dir.path().join("journal"));
        std::fs::write(&newest, b"nonsense").unwrap();
        for _ in 0..2 {
            match Engine::open(config.clone()).await {
                Err(OpenError::Damaged(why)) => assert!(why.contains("the newest snapshot"), "{why}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(newest.exists(), "it was set aside");
    }
}

#[tokio::test]
async fn the_durability_mode_may_change_between_opens() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let engine = Engine::open(config.clone()).await.unwrap();
    shop(&engine).await;
    let orders = orders(&engine).await;
    let audit = engine.audit().await.unwrap();
    drop(engine);
    use Durability::{Buffered, Snapshot, Sync};
    let mut put_in = audit.net_put_in;
    for durability in [Snapshot, Snapshot, Sync, Snapshot, Buffered, Sync, Sync] {
        config.durability = durability;
        let engine = Engine::open(config.clone()).await.unwrap();
        for (id, status) in &orders {
            assert_eq!(engine.order_status("buyer", id, T).await.unwrap(), *status);
        }
        let audit = engine.audit().await.unwrap();
        assert!(audit.is_conserved(), "{audit:?}");
        assert_eq!((audit.net_put_in, audit.stock), (put_in, 85), "{durability:?}");
        engine.add_funds("buyer", T, 5).await.unwrap();
        engine.snapshot().await.unwrap();
        put_in += 5;
        // In snapshot mode a crash loses what came after the snapshot, and nothing else.
        engine.add_funds("buyer", T, 7).await.unwrap();
        put_in += if durability == Snapshot { 0 } else { 7 };
        drop(engine);
    }
}

#[tokio::test]
async fn deadlines_hold_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.order_ttl = Duration::from_millis(400);
    let engine = Engine::open(config.clone()).await.unwrap();
    shop(&engine).await;
    let id = order(&engine, 7).await;
    assert_eq!(stock(&engine).await, 93);
    drop(engine);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let engine = Engine::open(config).await.unwrap();
    assert_eq!(engine.order_status("buyer", &id, T).await.unwrap(), OrderStatus::Canceled);
    assert_eq!(stock(&engine).await, 100);
    assert!(engine.audit().await.unwrap().is_conserved());
}

#[tokio::test]
async fn tokens_and_passwords_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    engine.register("seller", "pw").await.unwrap();
    let password = Credential::password("pw");
    let kept = engine.login("seller", password, "phone").await.unwrap();
    let revoked = engine.login("seller", password, "phone").await.unwrap();
    engine.logout("seller", &revoked).await.unwrap();
    drop(engine);
    let engine = open(dir.path()).await;
    engine.create_store("seller", Credential::Token(&kept), "one").await.unwrap();
    let refused = engine.create_store("seller", Credential::Token(&revoked), "two").await;
    assert_eq!(refused.unwrap_err().to_string(), "authorization fail");
    engine.change_password("seller", password, "new").await.unwrap();
    drop(engine);
    let engine = open(dir.path()).await;
    assert!(engine.create_store("seller", Credential::Token(&kept), "two").await.is_err());
    assert!(engine.login("seller", password, "phone").await.is_err());
    engine.login("seller", Credential::password("new"), "phone").await.unwrap();
}

#[tokio::test]
async fn one_process_a_directory_and_two_engines_a_process() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = open(one.path()).await;
    let second = open(two.path()).await;
    shop(&first).await;
    shop(&second).await;
    match Engine::open(config(one.path())).await {
        Err(OpenError::Locked { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
        other => panic!("{other:?}"),
    }
    first.close().await.unwrap();
    order(&second, 1).await;
    assert_eq!(stock(&second).await, 99);
    open(one.path()).await;
}

#[tokio::test]
async fn a_closed_engine_answers_that_it_drains() {
    let engine = Engine::open(Config::memory()).await.unwrap();
    let other = engine.clone();
    engine.close().await.unwrap();
    assert_eq!(other.stock_level("store", "book").await, Err(Error::Draining));
}
