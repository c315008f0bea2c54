//! Inputs by the hundred thousand, made from valid ones and a seed, for everything that reads what others wrote: the
//! files' formats, the body of every route, the bytes of a connection, tokens. 122,000 of them in a plain `cargo test`, and
//! 10,000 lines of `load` in `src/cli/load/lines_tests.rs`; `BOOKSTORE_FUZZ_SECONDS=1800` with `--test-threads 1` goes on
//! for half an hour, `BOOKSTORE_FUZZ_SEED=N` gives others.
//!
//! What must hold: no panic, no memory that a length alone asked for, what was read is what would be written, a refused
//! request has no effect, and the answer has the contract's shape.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "fuzz/budget.rs"]
mod budget;
mod common;
#[path = "fuzz/formats.rs"]
mod formats;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/requests.rs"]
mod requests;
