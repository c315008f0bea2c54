//! Two engines in one process, opened and ended a hundred times: each keeps its own, and nothing stays behind, be it a
//! thread, a file, a task (an actor is one) or memory.
//!
//! Alone in its file, because it counts what the whole process has.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use bookstore::{Config, Credential, Engine, NewBook, NewLine};

const T: Credential<'static> = Credential::Trusted;
const ROUNDS: u32 = 100;
/// After so many everything that is made once was made.
const SETTLED: u32 = 30;
/// A leak of a few actors or buffers a round would be more than that; what an allocator keeps is less.
const GROWTH_MAX_BYTES: u64 = 10 << 20;

/// What the process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    threads: usize,
    files: usize,
    tasks: usize,
}

fn entries(dir: &str) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

fn held() -> Held {
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    Held { threads: entries("/proc/self/task"), files: entries("/proc/self/fd"), tasks }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn cheap(mut config: Config) -> Config {
    config.password_params.memory_kib = 64;
    config.password_params.iterations = 1;
    config.segment_bytes = 16 << 20;
    config
}

/// Registers, sells and pays; the ids are the round's. Returns what the engine holds in money.
async fn trade(engine: &Engine, round: u32) -> i128 {
    let (seller, buyer, store) = (format!("seller-{round}"), format!("buyer-{round}"), format!("store-{round}"));
    engine.register(&seller, "pw").await.unwrap();
    engine.register(&buyer, "pw").await.unwrap();
    engine.create_store(&seller, T, &store).await.unwrap();
    let document = r#"{"id":"book","title":"m","price":10}"#;
    engine.add_book(&seller, T, &store, NewBook { id: "book", price: 10, document }, 100).await.unwrap();
    engine.add_funds(&buyer, T, 1_000).await.unwrap();
    let lines = [NewLine { book_id: "book", count: 3 }];
    for _ in 0..5 {
        let order = engine.new_order(&buyer, T, &store, &lines).await.unwrap().to_string();
        engine.pay(&buyer, &order, T).await.unwrap();
    }
    let report = engine.audit().await.unwrap();
    assert!(report.is_conserved(), "{report:?}");
    report.net_put_in
}

async fn end(engine: Engine, in_order: bool) {
    if in_order {
        engine.close().await.unwrap();
    }
    // A drop waits for the journal's thread.
    tokio::task::spawn_blocking(move || drop(engine)).await.unwrap();
}

#[test]
fn a_hundred_pairs_of_engines_leave_nothing_behind() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Threads for blocking work go when they are idle, so that they can be counted.
        .thread_keep_alive(Duration::from_millis(20))
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::spawn(rounds()).await.unwrap() });
}

async fn rounds() {
    let before = held();
    let mut settled = 0;
    let dir = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        if round == SETTLED {
            settled = resident_bytes();
        }
        let one = Engine::open(cheap(Config::memory())).await.unwrap();
        // Every other one in a directory, in which five find what the one before left.
        let config = match round % 2 {
            0 => Config::memory(),
            _ => Config::directory(dir.path().join((round / 10).to_string())),
        };
        let other = Engine::open(cheap(config)).await.unwrap();
        let (in_one, in_other) = tokio::join!(trade(&one, round), trade(&other, round));
        assert_eq!(in_one, 1_000, "it has the other engine's money");
        let earlier = if round % 2 == 0 { 0 } else { round % 10 / 2 };
        assert_eq!(in_other, i128::from(earlier + 1) * 1_000, "it lost what was there");
        end(one, round % 3 == 0).await;
        end(other, round % 4 < 2).await;
    }
    let began = Instant::now();
    while held() != before && began.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(held(), before, "something stayed behind");
    let grown = resident_bytes().saturating_sub(settled);
    println!("{before:?} before and after; {grown} bytes more than after {SETTLED} rounds, of {settled}");
    assert!(grown < GROWTH_MAX_BYTES, "{grown} bytes in {} rounds", ROUNDS - SETTLED);
}
