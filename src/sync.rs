//! The locks, atomics and threads of what is synchronised by hand: those of std, and tokio's `Notify`.
//!
//! `tests/interleavings` compiles the same files again, in a crate whose `sync` is loom's, and tries what the scheduler
//! and the memory model allow. So a file that is tried there takes these names from here, and nothing in it knows of
//! loom.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use std::thread;

pub(crate) use tokio::sync::Notify;

pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
}
