//! What an order and its payment cost in process: in memory and with each answer on the disk, with one caller and
//! with many. For whole runs at full size see `examples/figures`.
//!
//! ```sh
//! cargo bench --bench engine
//! cargo bench --bench engine -- --test   # each once, in seconds
//! ```
//!
//! The files lie in `target/tmp`, so the figures are those of that disk.

#![allow(clippy::unwrap_used, reason = "a bench ends by panicking")]

mod common;

use std::time::Instant;

use bookstore::{Durability, Engine};
use common::{BUYERS, CALLERS, each, fill, group, open, order, paid_order, temporary};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

/// As in the program: actors box every message.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
            for callers in CALLERS {
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

criterion_group!(benches, orders);
criterion_main!(benches);
