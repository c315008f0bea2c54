//! Pins how an engine ends and what a caller who goes away leaves behind: closing is done once however often it is
//! asked for, every call says the same afterwards, and a dropped future is all or nothing.
#![allow(clippy::unwrap_used, reason = "a failure of the test's own plumbing is a failure of the test")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bookstore::{Config, Credential, Engine, Error, NewBook, NewLine, OpenError, PasswordHash, PasswordParams};

const TRUSTED: Credential<'static> = Credential::Trusted;

fn config(dir: &std::path::Path) -> Config {
    let mut config = Config::directory(dir);
    config.password_params.memory_kib = 8;
    config.password_params.iterations = 1;
    config
}

async fn open(dir: &std::path::Path) -> Engine {
    Engine::open(config(dir)).await.unwrap()
}

fn hash() -> PasswordHash {
    PasswordHash::new(b"secret", PasswordParams { memory_kib: 8, iterations: 1, lanes: 1 }).unwrap()
}

/// Polls once and drops.
fn begin_and_drop<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_twice_is_closing_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    engine.register_hashed("u", &hash()).await.unwrap();
    let other = engine.clone();
    let (one, two) = tokio::join!(engine.close(), other.close());
    assert_eq!((one, two), (Ok(()), Ok(())));
    assert_eq!(other.close().await, Ok(()));
    // The directory is free although handles live on.
    let again = open(dir.path()).await;
    assert_eq!(again.recovered().accounts, 1);
    again.close().await.unwrap();
}

/// An audit that runs when an engine is closed lets go of the deadlines in the end, but they stay with the close: an order
/// that expired after the last snapshot would make the next open replay something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_expires_between_the_last_snapshot_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.durability = bookstore::Durability::Buffered;
    config.order_ttl = Duration::from_millis(900);
    let engine = Engine::open(config).await.unwrap();
    let hash = hash();
    for number in 0..8_000 {
        engine.register_hashed(&format!("u{number}"), &hash).await.unwrap();
    }
    engine.create_store("u0", TRUSTED, "s").await.unwrap();
    let document = r#"{"id":"b","title":"b","price":1}"#;
    engine.add_book("u0", TRUSTED, "s", NewBook { id: "b", price: 1, document }, 1_000).await.unwrap();
    let lines = [NewLine { book_id: "b", count: 1 }];
    let began = std::time::Instant::now();
    // One deadline a millisecond or so, so that some come while the engine ends.
    while began.elapsed() < Duration::from_millis(850) {
        engine.new_order("u1", TRUSTED, "s", &lines).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let auditor = engine.clone();
    let (audit, closed) = tokio::join!(auditor.audit(), engine.close());
    assert!(audit.is_ok_and(|audit| audit.is_conserved()));
    closed.unwrap();
    assert_eq!(open(dir.path()).await.recovered().replayed_events, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_engine_says_so_and_did_not_fail() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    engine.register_hashed("u", &hash()).await.unwrap();
    assert_eq!(engine.not_ready(), None);
    engine.close().await.unwrap();
    assert_eq!(engine.not_ready(), Some("draining"));
    assert_eq!(engine.register("v", "secret").await, Err(Error::Draining));
    assert_eq!(engine.register("u", "secret").await, Err(Error::Draining));
    assert_eq!(engine.balance("u", TRUSTED).await, Err(Error::Draining));
    assert_eq!(engine.cancel_expired().await, Err(Error::Draining));
    assert_eq!(engine.snapshot().await.unwrap_err(), Error::Draining);
    assert_eq!(engine.audit().await, Err(Error::Draining));
    let failed = tokio::time::timeout(Duration::from_millis(50), engine.failed()).await;
    assert!(failed.is_err(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_was_dropped_is_taken_up_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    engine.register_hashed("u", &hash()).await.unwrap();
    assert_eq!(begin_and_drop(engine.close()), None, "it has a snapshot to write");
    assert_eq!(engine.balance("u", TRUSTED).await, Err(Error::Draining), "it has begun");
    engine.close().await.unwrap();
    let again = open(dir.path()).await;
    assert_eq!((again.recovered().accounts, again.recovered().replayed_events), (1, 0));
    again.close().await.unwrap();
}

/// A recovery that nobody waits for lets its directory go when it is through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_that_was_dropped_frees_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    engine.register_hashed("u", &hash()).await.unwrap();
    drop(engine);
    assert!(begin_and_drop(Engine::open(config(dir.path()))).is_none(), "it recovers on another thread");
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let again = loop {
        match Engine::open(config(dir.path())).await {
            Ok(engine) => break engine,
            Err(OpenError::Locked { .. }) if std::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(again.recovered().accounts, 1);
    again.close().await.unwrap();
}

/// Each of these was admitted at its first poll, so it is done although nobody waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_admitted_is_done_though_its_future_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    engine.register_hashed("seller", &hash()).await.unwrap();
    begin_and_drop(engine.register_hashed("buyer", &hash()));
    begin_and_drop(engine.create_store("seller", TRUSTED, "store"));
    begin_and_drop(engine.add_funds("buyer", TRUSTED, 100));
    // The second claimant of a store's id waits for the first, whose caller has gone.
    let second = engine.create_store("buyer", TRUSTED, "store").await;
    assert_eq!(second.unwrap_err().to_string(), "exist store id store");
    assert_eq!(engine.balance("buyer", TRUSTED).await, Ok(100));

    let book = NewBook { id: "book", price: 60, document: r#"{"id":"book","title":"t","price":60}"# };
    engine.add_book("seller", TRUSTED, "store", book, 1).await.unwrap();
    let lines = [NewLine { book_id: "book", count: 1 }];
    begin_and_drop(engine.new_order("buyer", TRUSTED, "store", &lines));
    engine.audit().await.unwrap();
    let order = engine.buyer_orders("buyer", TRUSTED).await.unwrap()[0].order_id.to_string();
    begin_and_drop(engine.pay("buyer", &order, TRUSTED));
    let audit = engine.audit().await.unwrap();
    assert!(audit.is_conserved(), "{audit:?}");
    assert_eq!(engine.balance("seller", TRUSTED).await, Ok(60));
    begin_and_drop(engine.snapshot());
    engine.close().await.unwrap();
}

/// While an audit holds admission nothing is admitted, so a call that is dropped then has done nothing.
/// On one thread, so that no shard can answer the audit while it is polled.
#[tokio::test(flavor = "current_thread")]
async fn what_was_not_admitted_is_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    engine.register_hashed("seller", &hash()).await.unwrap();
    engine.register_hashed("buyer", &hash()).await.unwrap();
    {
        let mut audit = Box::pin(engine.audit());
        assert!(audit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "it asks every shard");
        assert_eq!(begin_and_drop(engine.register_hashed("late", &hash())), None);
        assert_eq!(begin_and_drop(engine.create_store("seller", TRUSTED, "store")), None);
        assert_eq!(begin_and_drop(engine.add_funds("buyer", TRUSTED, 100)), None);
    }
    // The audit was dropped, which lets calls in again.
    assert_eq!(engine.balance("buyer", TRUSTED).await, Ok(0));
    engine.register_hashed("late", &hash()).await.unwrap();
    engine.create_store("seller", TRUSTED, "store").await.unwrap();
    engine.add_funds("buyer", TRUSTED, (1 << 62) - 1).await.unwrap();
    engine.close().await.unwrap();
}
