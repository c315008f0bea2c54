//! The core of an online bookstore: an actor-model, in-memory engine whose state is durable.
//!
//! Per-user wallet actors and per-store inventory actors serialise every change through their mailboxes, an order
//! coordinator runs a saga across them, a journal with group commit and periodic snapshots make the state durable.
//! An answer means that what it says will be there after a crash (see [`Durability`]).
//!
//! ```
//! use bookstore::{Config, Credential, Engine, NewBook, NewLine};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::memory(); // or Config::directory("snapshots")
//! config.password_params.memory_kib = 64; // for the example; the default is argon2id with 19 MiB
//! let engine = Engine::open(config).await?;
//!
//! engine.register("seller", "secret").await?;
//! engine.register("buyer", "secret").await?;
//! engine.create_store("seller", Credential::Trusted, "store").await?;
//! let book = NewBook { id: "1000067", price: 4_500, document: r#"{"id":"1000067","title":"米","price":4500}"# };
//! engine.add_book("seller", Credential::Trusted, "store", book, 10).await?;
//!
//! let password = Credential::password("secret");
//! engine.add_funds("buyer", password, 10_000).await?;
//! let lines = [NewLine { book_id: "1000067", count: 2 }];
//! let order = engine.new_order("buyer", Credential::Trusted, "store", &lines).await?.to_string();
//! engine.pay("buyer", &order, password).await?;
//!
//! assert_eq!(engine.balance("buyer", password).await?, 1_000);
//! assert_eq!(engine.balance("seller", password).await?, 9_000);
//! assert!(engine.audit().await?.is_conserved());
//! engine.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! The public API is [`Engine`] with its [`Config`], and [`offline`] for data that no engine has open. Inside, data walks one way through the rooms and comes back
//! once:
//!
//! - `domain`: the rules, pure: no I/O, no clock, no actor;
//! - `actors`: the one shell that runs them on ractor, sleep and wake, the gate before answers;
//! - `engine`: open, recover, close; the calls; limits, deadlines, audit;
//! - `auth`: password hashes, tokens; `cold`: book documents by content hash;
//! - `journal`, `snapshot`, `disk`: bytes in, durable bytes out;
//! - `stats`: histograms;
//! - `http` and `cli` (feature `server`): the service and its command line.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking"))]

#[cfg(feature = "server")]
pub mod cli;
pub mod disk;
#[cfg(feature = "server")]
pub mod http;
pub mod journal;
pub mod snapshot;
pub mod stats;

mod actors;
mod auth;
mod cold;
mod domain;
mod engine;

pub use auth::{AuthError, PasswordHash, PasswordParams};
pub use domain::Refusal;
pub use engine::offline;
pub use engine::{
    AuditReport, BookView, Config, Credential, Engine, Error, ID_BYTES_MAX, Limits, LineView, NewBook, NewLine,
    OpenError, OrderId, OrderStatus, OrderView, PASSWORD_BYTES_MAX, Progress, Recovered, Result, SnapshotReport, Stats,
    Storage,
};
pub use journal::Durability;
