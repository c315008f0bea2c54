//! What the engine's parts cost: journal, orders, snapshot, recovery.
//!
//! ```sh
//! cargo bench --bench engine
//! cargo bench --bench engine -- --test   # each once, in seconds
//! ```
//!
//! The files lie in `target/tmp`, so the figures are those of that disk. For whole runs at full size see
//! `examples/figures`.

#![allow(clippy::unwrap_used, reason = "a bench ends by panicking")]

use std::future::Future;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bookstore::disk::RealDisk;
use bookstore::internals::journal::{FileLog, FileLogOptions, Journal, JournalOptions, Lsn, Observer};
use bookstore::{Config, Credential, Durability, Engine, NewBook, NewLine, PasswordHash, PasswordParams};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// As in the program: actors box every message.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TRUSTED: Credential<'static> = Credential::Trusted;
const BUYERS: u64 = 1_000;
const STORES: u64 = 8;
/// Copies on a shelf and fen in a purse: more than can be spent.
const PLENTY: i64 = 1_000_000_000_000;
/// Rows of the snapshot, and of the recovery.
const ROWS: u64 = 50_000;
/// Nothing of its kind happens while it is measured.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

fn temporary() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn group<'c>(criterion: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group
}

struct Deaf;

impl Observer for Deaf {
    fn advanced(&self, _durable: Lsn) {}
    fn failed(&self, why: &str) {
        panic!("the journal failed: {why}");
    }
}

/// A batch of frames appended at once, and the wait until they are on the disk.
fn journal(criterion: &mut Criterion) {
    const PAYLOAD: [u8; 64] = [0x5a; 64];
    let dir = temporary();
    let options = FileLogOptions { segment_bytes: 64 << 20 };
    let (log, _) = FileLog::open(Arc::new(RealDisk), dir.path(), options, 0, &mut |_| Ok(())).unwrap();
    let journal = Journal::start(Some(Box::new(log)), 0, 1, JournalOptions::default(), Arc::new(Deaf)).unwrap();
    let mut group = group(criterion, "journal_append_sync");
    for frames in [1, 64, 1_024] {
        group.throughput(Throughput::Elements(frames));
        group.bench_function(BenchmarkId::new("frames", frames), |bencher| {
            bencher.iter(|| {
                let mut last = 0;
                for _ in 0..frames {
                    last = journal.append(1, 1, black_box(&PAYLOAD));
                }
                journal.wait_durable(last).unwrap();
            });
        });
        // Old segments go, so that the disk does not fill.
        journal.trim(journal.durable());
    }
    group.finish();
    journal.close().unwrap();
}

/// An engine that does nothing by itself.
async fn open(dir: Option<&Path>, durability: Durability) -> Engine {
    let mut config = dir.map_or_else(Config::memory, Config::directory);
    config.durability = durability;
    config.order_ttl = NEVER;
    config.snapshot_interval = NEVER;
    config.snapshot_journal_bytes = u64::MAX;
    config.limits.pending_orders_max = usize::MAX;
    Engine::open(config).await.unwrap()
}

fn buyer(number: u64) -> String {
    format!("buyer-{number:05}")
}

fn store(number: u64) -> String {
    format!("store-{}", number % STORES)
}

/// Buyers, rich ones if they are few, and stores with one book each.
async fn fill(engine: &Engine, buyers: u64) {
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

/// `count` calls by `callers` at once; each caller waits for one call before the next.
async fn each<F>(engine: &Engine, callers: u64, count: u64, call: impl Fn(Engine, u64) -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..callers.min(count) {
        let (engine, next, call) = (engine.clone(), next.clone(), call.clone());
        tasks.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    break;
                }
                call(engine.clone(), number).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

async fn order(engine: &Engine, number: u64) -> String {
    let lines = [NewLine { book_id: "book", count: 1 }];
    let order = engine.new_order(&buyer(number % BUYERS), TRUSTED, &store(number), &lines).await;
    order.unwrap().to_string()
}

async fn paid_order(engine: &Engine, number: u64) {
    let id = order(engine, number).await;
    engine.pay(&buyer(number % BUYERS), &id, TRUSTED).await.unwrap();
}

/// Orders in process: in memory and with each answer on the disk, with few and many callers.
fn orders(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = temporary();
    let memory = runtime.block_on(open(None, Durability::Snapshot));
    let sync = runtime.block_on(open(Some(dir.path()), Durability::Sync));
    let timed = |engine: &Engine, callers, count, paid: bool| {
        let began = Instant::now();
        runtime.block_on(each(engine, callers, count, move |engine, number| async move {
            match paid {
                true => paid_order(&engine, number).await,
                false => drop(order(&engine, number).await),
            }
        }));
        began.elapsed()
    };
    for engine in [&memory, &sync] {
        runtime.block_on(fill(engine, BUYERS));
    }
    for (name, paid) in [("new_order", false), ("paid_order", true)] {
        let mut group = group(criterion, name);
        group.throughput(Throughput::Elements(1));
        for (mode, engine) in [("memory", &memory), ("sync", &sync)] {
            for callers in [1, 64, 1_024] {
                group.bench_function(BenchmarkId::new(mode, format!("{callers}_callers")), |bencher| {
                    bencher.iter_custom(|count| timed(engine, callers, count, paid));
                });
            }
        }
        group.finish();
    }
    for engine in [memory, sync] {
        let audit = runtime.block_on(engine.audit()).unwrap();
        assert!(audit.is_conserved(), "{audit:?}");
    }
}

/// A snapshot of users who do nothing.
fn snapshot(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = temporary();
    let engine = runtime.block_on(async {
        let engine = open(Some(dir.path()), Durability::Buffered).await;
        fill(&engine, ROWS).await;
        engine
    });
    let mut group = group(criterion, "snapshot");
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function(BenchmarkId::new("users", ROWS), |bencher| {
        bencher.iter(|| runtime.block_on(engine.snapshot()).unwrap());
    });
    group.finish();
}

/// An open after a crash: all orders in the journal; and after a clean close: all in a snapshot.
fn recovery(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = group(criterion, "recovery");
    group.throughput(Throughput::Elements(ROWS));
    for (name, clean) in [("orders_in_journal", false), ("orders_in_snapshot", true)] {
        let dir = temporary();
        runtime.block_on(async {
            let engine = open(Some(dir.path()), Durability::Buffered).await;
            fill(&engine, BUYERS).await;
            each(&engine, 256, ROWS, |engine, number| async move { drop(order(&engine, number).await) }).await;
            if clean {
                engine.close().await.unwrap();
            }
        });
        group.bench_function(BenchmarkId::new(name, ROWS), |bencher| {
            bencher.iter_custom(|count| {
                let mut took = Duration::ZERO;
                for _ in 0..count {
                    let began = Instant::now();
                    let engine = runtime.block_on(open(Some(dir.path()), Durability::Buffered));
                    took += began.elapsed();
                    assert_eq!(engine.recovered().orders, ROWS);
                    // As by a crash, so that the next one finds the same.
                    runtime.block_on(async { drop(engine) });
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group!(benches, journal, orders, snapshot, recovery);
criterion_main!(benches);
