//! What the journal costs: frames appended at once and the wait until they are durable, on the disk (`sync`) or
//! handed to the system (`buffered`).
//!
//! ```sh
//! cargo bench --bench journal
//! cargo bench --bench journal -- --test   # each once, in seconds
//! ```
//!
//! The files lie in `target/tmp`, so the figures are those of that disk.

#![allow(clippy::unwrap_used, reason = "a bench ends by panicking")]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bookstore::Durability;
use bookstore::disk::RealDisk;
use bookstore::internals::journal::{FileLog, FileLogOptions, Journal, JournalOptions, Lsn, Observer};
use common::{group, temporary};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// As large as the event of a small order.
const PAYLOAD: [u8; 64] = [0x5a; 64];

struct Deaf;

impl Observer for Deaf {
    fn advanced(&self, _durable: Lsn) {}
    fn failed(&self, why: &str) {
        panic!("the journal failed: {why}");
    }
}

fn append(criterion: &mut Criterion) {
    for (name, durability) in [("sync", Durability::Sync), ("buffered", Durability::Buffered)] {
        let dir = temporary();
        let segment = FileLogOptions { segment_bytes: 64 << 20 };
        let (log, _) = FileLog::open(Arc::new(RealDisk), dir.path(), segment, 0, &mut |_| Ok(())).unwrap();
        let options =
            JournalOptions { durability, sync_interval: Duration::from_millis(50), commit_delay: Duration::ZERO };
        let journal = Journal::start(Some(Box::new(log)), 0, 1, options, Arc::new(Deaf)).unwrap();
        let mut group = group(criterion, "journal_append");
        for frames in [1, 64, 1_024] {
            group.throughput(Throughput::Elements(frames));
            group.bench_function(BenchmarkId::new(name, format!("{frames}_frames")), |bencher| {
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
}

criterion_group!(benches, append);
criterion_main!(benches);
