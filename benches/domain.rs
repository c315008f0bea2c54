//! What the rules cost by themselves: judging and applying with every event encoded, as an actor does it, but with no
//! actor, no journal and no disk; and events and rows as bytes.
//!
//! ```sh
//! cargo bench --bench domain
//! cargo bench --bench domain -- --test   # each once, in seconds
//! ```

#![allow(clippy::unwrap_used, reason = "a bench ends by panicking")]

#[path = "common/world.rs"]
mod world;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bookstore::internals::domain::{Account, EVENT_VERSION, Persistent, Store, decode, decode_row, encode_row};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use world::{World, encode_record};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Judged, encoded and applied: one entity, and the sagas across several.
fn handle_apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handle_apply");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(1));
    group.bench_function("add_funds", |bencher| {
        let mut world = World::new();
        bencher.iter(|| world.add_funds(black_box(1)));
    });
    for lines in [1, 5] {
        group.bench_function(format!("new_order_{lines}_lines"), |bencher| {
            bencher.iter_custom(|count| {
                let mut world = World::new();
                let began = Instant::now();
                for number in 0..count {
                    black_box(world.place(number, lines));
                }
                began.elapsed()
            });
        });
    }
    group.bench_function("payment", |bencher| {
        bencher.iter_custom(|count| {
            let mut world = World::new();
            let orders: Vec<_> = (0..count).map(|number| world.place(number, 1)).collect();
            let began = Instant::now();
            for order in orders {
                world.pay(order);
            }
            began.elapsed()
        });
    });
    group.finish();
}

/// Events as the journal holds them, rows as a snapshot and a sleeping entity hold them.
fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    let mut world = World::new();
    for (name, event) in world.events_of_a_paid_order(5) {
        let mut bytes = Vec::new();
        let kind = encode_record(&event, &mut bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut out = Vec::new();
        group.bench_function(format!("encode_event_{name}"), |bencher| {
            bencher.iter(|| encode_record(black_box(&event), &mut out));
        });
        group.bench_function(format!("decode_event_{name}"), |bencher| {
            bencher.iter(|| decode(kind, EVENT_VERSION, black_box(&bytes)).unwrap());
        });
    }
    let row = world.buyer.entity.encode();
    group.throughput(Throughput::Bytes(row.len() as u64));
    group.bench_function("encode_row_account", |bencher| bencher.iter(|| black_box(&world.buyer.entity).encode()));
    group.bench_function("decode_row_account", |bencher| {
        bencher.iter(|| Account::decode(black_box(&row)).unwrap());
    });
    let row = encode_row(&world.store.entity);
    group.throughput(Throughput::Bytes(row.len() as u64));
    group.bench_function("encode_row_store_1000_books", |bencher| {
        bencher.iter(|| encode_row(black_box(&world.store.entity)));
    });
    group.bench_function("decode_row_store_1000_books", |bencher| {
        bencher.iter(|| decode_row::<Store>(black_box(&row)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, handle_apply, codec);
criterion_main!(benches);
