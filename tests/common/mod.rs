//! The harness of the black-box tests: it starts the real binary in a temporary directory and talks
//! to it over real sockets. It knows the wire contract and nothing of the program inside.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "shared by many test binaries, each of which uses a part; tests may unwrap"
)]

pub mod answer;
pub mod api;
pub mod audit;
pub mod client;
pub mod files;
pub mod http;
pub mod linearizability;
pub mod server;
pub mod service;
pub mod shop;
pub mod tls;
pub mod tool;

pub use answer::Answer;
pub use client::{Client, User};
pub use http::{Conn, Response, request};
pub use server::Server;
pub use shop::{Shop, book};
pub use tool::{Done, bookstore, bookstore_fed};

use std::time::{Duration, Instant};

/// Waits until `done` says so, at most 20 seconds; panics with `what` after that.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A small generator of numbers (xorshift), so that a run can be repeated from its seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number in `0..below`.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

/// The program that is tested. `BOOKSTORE_TEST_BINARY` names another build of it: a release build, for what is big.
pub fn binary() -> std::path::PathBuf {
    let built = || env!("CARGO_BIN_EXE_bookstore").into();
    std::env::var_os("BOOKSTORE_TEST_BINARY")
        .map_or_else(built, |named| std::path::PathBuf::from(named).canonicalize().unwrap())
}
