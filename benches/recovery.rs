//! What a snapshot costs, and an open after a crash and after a clean close.
//!
//! ```sh
//! cargo bench --bench recovery
//! cargo bench --bench recovery -- --test   # each once with few rows, in seconds
//! ```
//!
//! The files lie in `target/tmp`, so the figures are those of that disk.

#![allow(clippy::unwrap_used, reason = "a bench ends by panicking")]

mod common;

use std::time::{Duration, Instant};

use bookstore::Durability;
use common::{BUYERS, each, fill, group, is_short, open, order, temporary};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

/// As in the program: actors box every message.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Users of the snapshot, orders of the recovery.
fn rows() -> u64 {
    if is_short() { 2_000 } else { 50_000 }
}

/// A snapshot of users who do nothing.
fn snapshot(criterion: &mut Criterion) {
    let rows = rows();
    let runtime = Runtime::new().unwrap();
    let dir = temporary();
    let engine = runtime.block_on(async {
        let engine = open(Some(dir.path()), Durability::Buffered).await;
        fill(&engine, rows).await;
        engine
    });
    let mut group = group(criterion, "snapshot");
    group.throughput(Throughput::Elements(rows));
    group.bench_function(BenchmarkId::new("users", rows), |bencher| {
        bencher.iter(|| runtime.block_on(engine.snapshot()).unwrap());
    });
    group.finish();
}

/// An open after a crash: all orders in the journal; and after a clean close: all in a snapshot.
fn recovery(criterion: &mut Criterion) {
    let rows = rows();
    let runtime = Runtime::new().unwrap();
    let mut group = group(criterion, "recovery");
    group.throughput(Throughput::Elements(rows));
    for (name, clean) in [("orders_in_journal", false), ("orders_in_snapshot", true)] {
        let dir = temporary();
        runtime.block_on(async {
            let engine = open(Some(dir.path()), Durability::Buffered).await;
            fill(&engine, BUYERS).await;
            each(&engine, 256, rows, |engine, number| async move { drop(order(&engine, number).await) }).await;
            if clean {
                engine.close().await.unwrap();
            }
        });
        group.bench_function(BenchmarkId::new(name, rows), |bencher| {
            bencher.iter_custom(|count| {
                let mut took = Duration::ZERO;
                for _ in 0..count {
                    let began = Instant::now();
                    let engine = runtime.block_on(open(Some(dir.path()), Durability::Buffered));
                    took += began.elapsed();
                    assert_eq!(engine.recovered().orders, rows);
                    // As by a crash, so that the next one finds the same.
                    runtime.block_on(async { drop(engine) });
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group!(benches, snapshot, recovery);
criterion_main!(benches);
