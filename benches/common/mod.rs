//! What the benches share: directories on the disk that is measured, and a shop.

#![allow(dead_code, unreachable_pub, reason = "shared by several benches, each of which uses a part")]

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bookstore::{Config, Credential, Durability, Engine, NewBook, NewLine, PasswordHash, PasswordParams};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use tempfile::TempDir;

pub const TRUSTED: Credential<'static> = Credential::Trusted;
/// Buyers with money.
pub const BUYERS: u64 = 1_000;
const STORES: u64 = 8;
/// Copies on a shelf and fen in a purse: more than can be spent.
pub const PLENTY: i64 = 1_000_000_000_000;
/// Nothing of its kind happens while it is measured.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// Whether this is the short form, `cargo bench -- --test` or `cargo test --benches`: everything once, with little
/// data.
pub fn is_short() -> bool {
    let has = |wanted| std::env::args().any(|argument| argument == wanted);
    has("--test") || !has("--bench")
}

pub fn temporary() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

pub fn group<'c>(criterion: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group
}

/// An engine that does nothing by itself.
pub async fn open(dir: Option<&Path>, durability: Durability) -> Engine {
    let mut config = dir.map_or_else(Config::memory, Config::directory);
    config.durability = durability;
    config.order_ttl = NEVER;
    config.snapshot_interval = NEVER;
    config.snapshot_journal_bytes = u64::MAX;
    config.limits.pending_orders_max = usize::MAX;
    Engine::open(config).await.unwrap()
}

pub fn buyer(number: u64) -> String {
    format!("buyer-{number:05}")
}

pub fn store(number: u64) -> String {
    format!("store-{}", number % STORES)
}

/// Buyers, rich ones if they are few, and stores with one book each.
pub async fn fill(engine: &Engine, buyers: u64) {
    let hash = PasswordHash::new(b"secret", PasswordParams { memory_kib: 8, iterations: 1, lanes: 1 }).unwrap();
    for number in 0..STORES {
        let seller = format!("seller-{number}");
        engine.register_hashed(&seller, &hash).await.unwrap();
        engine.create_store(&seller, TRUSTED, &store(number)).await.unwrap();
        let book = NewBook { id: "book", price: 100, document: r#"{"id":"book","title":"book","price":100}"# };
        engine.add_book(&seller, TRUSTED, &store(number), book, PLENTY).await.unwrap();
    }
    each(engine, 256, buyers, move |engine, number| async move {
        engine.register_hashed(&buyer(number), &hash).await.unwrap();
        if buyers == BUYERS {
            engine.add_funds(&buyer(number), TRUSTED, PLENTY).await.unwrap();
        }
    })
    .await;
}

/// Callers at once.
pub const CALLERS: [u64; 3] = [1, 64, 1_024];

/// `count` calls by `callers` at once; each caller waits for one call before the next.
pub async fn each<S, F>(shared: &S, callers: u64, count: u64, call: impl Fn(S, u64) -> F + Clone + Send + 'static)
where
    S: Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..callers.min(count) {
        let (shared, next, call) = (shared.clone(), next.clone(), call.clone());
        tasks.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    break;
                }
                call(shared.clone(), number).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

pub async fn order(engine: &Engine, number: u64) -> String {
    let lines = [NewLine { book_id: "book", count: 1 }];
    let order = engine.new_order(&buyer(number % BUYERS), TRUSTED, &store(number), &lines).await;
    order.unwrap().to_string()
}

pub async fn paid_order(engine: &Engine, number: u64) {
    let id = order(engine, number).await;
    engine.pay(&buyer(number % BUYERS), &id, TRUSTED).await.unwrap();
}
