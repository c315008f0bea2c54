//! Pins what is synchronised by hand, under the orders of threads and the reorderings of memory that loom tries: the
//! journal with its thread, permits and the gate before answers, mailboxes, slots that fall asleep and wake, claims of store ids.
//!
//! The files of the engine are compiled here a second time, with loom's locks and atomics in the place of std's (see
//! `src/sync.rs`). tokio's `oneshot` and `Notify` and dashmap are taken as single steps; they are tested by those who
//! make them. loom knows SeqCst accesses as AcqRel, so nothing that is tried may rest on more.
//!
//! Each model is explored with two preemptions to the end, and with more for a second in all, or for as many as
//! BOOKSTORE_INTERLEAVINGS_SECONDS says, unless there are no more orders.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "files of the engine, of which each model uses a part; tests may unwrap"
)]

mod claims;
mod gate;
mod log;
mod mailbox;
mod sleep;

mod sync {
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};

    pub(crate) mod atomic {
        pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    }

    pub(crate) mod thread {
        pub(crate) use loom::thread::*;

        pub(crate) fn sleep(_: std::time::Duration) {
            yield_now();
        }
    }

    /// tokio's, of which loom is told that who is notified sees what was done before.
    pub(crate) struct Notify {
        inner: tokio::sync::Notify,
        told: atomic::AtomicUsize,
    }

    impl Notify {
        pub(crate) fn new() -> Notify {
            Notify { inner: tokio::sync::Notify::new(), told: atomic::AtomicUsize::new(0) }
        }

        pub(crate) fn notify_one(&self) {
            self.told.fetch_add(1, atomic::Ordering::AcqRel);
            self.inner.notify_one();
        }

        pub(crate) fn notify_waiters(&self) {
            self.told.fetch_add(1, atomic::Ordering::AcqRel);
            self.inner.notify_waiters();
        }

        pub(crate) fn notified(&self) -> impl Future<Output = ()> {
            // Made here, not when it is first polled: from now on it hears.
            let notified = self.inner.notified();
            async move {
                notified.await;
                self.told.fetch_add(1, atomic::Ordering::AcqRel);
            }
        }
    }
}

mod domain {
    pub(crate) use bookstore::internals::domain::*;
}

mod stats {
    pub(crate) use bookstore::internals::stats::*;
}

mod journal;

#[path = "../../src/planted.rs"]
#[allow(dead_code, reason = "no fault is planted here")]
mod planted;

#[path = "../../src/trace.rs"]
mod trace;

#[path = "../../src/actors/answers.rs"]
mod answers;

#[path = "../../src/actors/inbox.rs"]
mod inbox;

#[path = "../../src/actors/slot.rs"]
mod slot;

#[path = "../../src/engine/names.rs"]
mod names;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Explores a model: with one preemption (a thread is interrupted where it could go on), with two, and so on, until
/// one more allows nothing new or the time is up. Says how far it came.
fn explore(name: &str, model: impl Fn() + Clone + Send + Sync + 'static) {
    let set = std::env::var("BOOKSTORE_INTERLEAVINGS_SECONDS").ok();
    let most = Duration::from_secs(set.map_or(1, |text| text.parse().unwrap()));
    let began = Instant::now();
    let (mut sum, mut before) = (0, 0);
    for preemptions in 1.. {
        let executions = Arc::new(AtomicU64::new(0));
        let (count, model) = (executions.clone(), model.clone());
        let mut builder = loom::model::Builder::new();
        builder.max_threads = 5;
        builder.max_branches = 100_000;
        builder.preemption_bound = Some(preemptions);
        // Two are always tried to the end: most faults need no more.
        builder.max_duration = (preemptions > 2).then(|| most.saturating_sub(began.elapsed()));
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            model();
        });
        let executions = executions.load(Ordering::Relaxed);
        sum += executions;
        let over = preemptions > 2 && began.elapsed() >= most;
        if over || executions == before {
            let reached = if over {
                format!("up to {} preemptions and some of more", preemptions - 1)
            } else {
                "all orders".into()
            };
            println!("{name}: {sum} executions, {reached}");
            return;
        }
        before = executions;
    }
}
