#![cfg_attr(not(feature = "server"), doc = "[`http`]: crate#features")]
//! The core of an online bookstore: an actor-model, in-memory engine whose state is durable.
//!
//! Per-user wallet actors and per-store inventory actors serialise every change through their mailboxes, an order
//! coordinator runs a saga across them, a journal with group commit and periodic snapshots make the state durable.
//! An answer means that what it says will be there after a crash (see [`Durability`]).
//!
//! - [In memory](#in-memory): the whole way of an order
//! - [In a directory](#in-a-directory): a crash, and open again
//! - [Errors](#errors): which to retry, which are final
//! - [Several tasks at once](#several-tasks-at-once)
//! - [The end](#the-end)
//! - [Without the server](#without-the-server), [the HTTP service in one's own program](#the-http-service)
//! - [Features](#features), [what is stable](#what-is-stable), [layout](#layout)
//!
//! # In memory
//!
//! For tests, and for what need not last. The engine runs on the caller's tokio runtime, and several engines can live
//! in one process.
//!
//! ```
//! use bookstore::{Config, Credential, Engine, NewBook, NewLine, OrderStatus};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::memory();
//! config.password_params.memory_kib = 64; // for the example; the default is argon2id with 19 MiB
//! let engine = Engine::open(config).await?;
//!
//! // A program that has authenticated its users itself vouches for them; a service passes passwords or tokens on.
//! let trusted = Credential::Trusted;
//! engine.register("seller", "a seller's secret").await?;
//! engine.register("buyer", "a buyer's secret").await?;
//! engine.create_store("seller", trusted, "corner").await?;
//! let document = r#"{"id":"1000067","title":"米","price":4500}"#;
//! let book = NewBook { id: "1000067", price: 4_500, document }; // fen
//! engine.add_book("seller", trusted, "corner", book, 10).await?;
//!
//! let password = Credential::password("a buyer's secret");
//! engine.add_funds("buyer", password, 10_000).await?;
//! let lines = [NewLine { book_id: "1000067", count: 2 }];
//! let order = engine.new_order("buyer", trusted, "corner", &lines).await?.to_string();
//! engine.pay("buyer", &order, password).await?;
//!
//! assert_eq!(engine.order_status("buyer", &order, password).await?, OrderStatus::Paid);
//! assert_eq!(engine.balance("buyer", password).await?, 1_000);
//! assert_eq!(engine.balance("seller", trusted).await?, 9_000);
//! assert!(engine.audit().await?.is_conserved());
//! engine.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # In a directory
//!
//! ```
//! use bookstore::{Config, Credential, Durability, Engine};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let temporary = tempfile::tempdir()?;
//! # let dir = temporary.path();
//! let config = || {
//!     let mut config = Config::directory(dir);
//!     config.durability = Durability::Sync; // the default: an answer means "on the disk"
//! #   config.password_params.memory_kib = 64;
//!     config
//! };
//! let engine = Engine::open(config()).await?;
//! engine.register("reader", "secret").await?;
//! engine.add_funds("reader", Credential::Trusted, 500).await?;
//! drop(engine); // without `close`, this is what a crash of the process leaves
//!
//! let engine = Engine::open(config()).await?;
//! assert_eq!(engine.recovered().replayed_events, 2);
//! assert_eq!(engine.balance("reader", Credential::password("secret")).await?, 500);
//! engine.close().await?; // takes a last snapshot, so that the next open replays nothing
//!
//! assert_eq!(Engine::open(config()).await?.recovered().replayed_events, 0);
//! # Ok(())
//! # }
//! ```
//!
//! One engine holds a directory at a time; a second one is refused with [`OpenError::Locked`].
//!
//! # Search
//!
//! A book is found from the moment [`Engine::add_book`] answers: by words, by any part of a Chinese title, by ISBN.
//!
//! ```
//! use bookstore::{Config, Credential, Engine, NewBook, Search, SearchFields};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut config = Config::memory();
//! # config.password_params.memory_kib = 64;
//! # let engine = Engine::open(config).await?;
//! # engine.register("seller", "secret").await?;
//! # engine.create_store("seller", Credential::Trusted, "store").await?;
//! let document = r#"{"id":"1","title":"红楼梦","author":"曹雪芹","price":5970}"#;
//! let book = NewBook { id: "1", price: 5_970, document };
//! engine.add_book("seller", Credential::Trusted, "store", book, 10).await?;
//!
//! engine.search_ready().await?; // after an open the index is rebuilt in the background
//! let page = engine.search(Search::new("红楼 曹雪芹").page(1, 20)).await?;
//! assert_eq!((page.total, page.books[0].stock_level), (1, 10));
//! let in_titles = Search::new("曹雪芹").in_fields(SearchFields::TITLE).in_store("store");
//! assert_eq!(engine.search(in_titles).await.unwrap_err().code(), 525); // nothing found in that store
//! # engine.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! [`Error`] says of each kind what happened and what to do. In short: a [`Refusal`] is an answer for the user, what
//! [`Error::is_retryable`] did nothing and passes by itself, and the rest is final for this engine.
//!
//! ```
//! use bookstore::{Config, Credential, Engine, Error, Refusal};
//!
//! /// What to tell the user, or why this engine has to be given up.
//! async fn withdraw(engine: &Engine, user: &str, password: &str, fen: i64) -> Result<String, Error> {
//!     for _ in 0..3 {
//!         match engine.add_funds(user, Credential::password(password), -fen).await {
//!             Ok(()) => return Ok("done".into()),
//!             Err(Error::Refused(Refusal::Unauthorized)) => return Ok("wrong user or password".into()),
//!             // 400, 401 and 511 to 530, each with its text.
//!             Err(Error::Refused(refusal)) => return Ok(format!("{}: {refusal}", refusal.code())),
//!             // Nothing was done: throttled, or the engine has its hands full.
//!             Err(error) if error.is_retryable() => tokio::time::sleep(error.retry_after().unwrap()).await,
//!             // Closing, or failed: a change may have been made or not. Open anew, and look before repeating it.
//!             Err(error) => return Err(error),
//!         }
//!     }
//!     Ok("try again later".into())
//! }
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut config = Config::memory();
//! # config.password_params.memory_kib = 64;
//! # let engine = Engine::open(config).await?;
//! # engine.register("reader", "secret").await?;
//! assert_eq!(withdraw(&engine, "reader", "guess", 5).await?, "wrong user or password");
//! assert!(withdraw(&engine, "reader", "secret", 5).await?.starts_with("530: invalid parameter add_value"));
//! engine.close().await?;
//! assert_eq!(withdraw(&engine, "reader", "secret", 5).await, Err(Error::Draining));
//! # Ok(())
//! # }
//! ```
//!
//! # Several tasks at once
//!
//! [`Engine`] is a cheap handle: clone it into every task. Calls of different tasks are judged one after the other
//! wherever they meet, and nobody has to lock anything. Many callers share each sync of the journal, so calls that wait
//! together are much cheaper than one after the other.
//!
//! ```
//! use bookstore::{Config, Credential, Engine, Error, NewBook, NewLine, Refusal};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut config = Config::memory();
//! # config.password_params.memory_kib = 64;
//! # let engine = Engine::open(config).await?;
//! # let trusted = Credential::Trusted;
//! # engine.register("seller", "secret").await?;
//! # engine.create_store("seller", trusted, "corner").await?;
//! # let book = NewBook { id: "rare", price: 100, document: "{}" };
//! engine.add_book("seller", trusted, "corner", book, 5).await?; // five copies
//! let mut tasks = tokio::task::JoinSet::new();
//! for number in 0..8 {
//!     let engine = engine.clone();
//!     tasks.spawn(async move {
//!         let reader = format!("reader {number}");
//!         engine.register(&reader, "secret").await?;
//!         let lines = [NewLine { book_id: "rare", count: 1 }];
//!         engine.new_order(&reader, Credential::Trusted, "corner", &lines).await
//!     });
//! }
//! let outcomes = tasks.join_all().await;
//! let low = |outcome: &&Result<_, Error>| matches!(outcome, Err(Error::Refused(Refusal::StockLow(_))));
//! assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 5);
//! assert_eq!(outcomes.iter().filter(low).count(), 3);
//! # Ok(())
//! # }
//! ```
//!
//! What dropping the future of a call does is said at [`Engine`](Engine#cancellation): a change is made whole or not
//! at all.
//!
//! # The end
//!
//! [`Engine::close`] ends in order; dropping the last handle ends as a crash does, which loses nothing acknowledged in
//! the modes with a journal. An engine fails for good when its journal does: every call says so from then on, and
//! [`Engine::failed`] wakes whoever runs the program.
//!
//! ```
//! use bookstore::{Config, Engine};
//!
//! async fn run(engine: Engine, stop: impl Future<Output = ()>) -> Result<(), Box<dyn std::error::Error>> {
//!     tokio::select! {
//!         // Whatever restarts the program opens the data anew, and what was acknowledged is there.
//!         why = engine.failed() => Err(why.into()),
//!         () = stop => Ok(engine.close().await?),
//!     }
//! }
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! run(Engine::open(Config::memory()).await?, async {}).await
//! # }
//! ```
//!
//! # Without the server
//!
//! ```toml
//! [dependencies]
//! bookstore = { path = "../bookstore", default-features = false }
//! tokio = { version = "1", features = ["rt-multi-thread", "macros"] }
//! ```
//!
//! Then there is neither hyper nor clap in the tree, and everything on this page but the next section is there.
//! `examples/embed.rs` is such a program.
//!
//! # The HTTP service
//!
//! [`http`] (feature `server`) puts the wire contract on an engine that is open: `http::serve` takes a listener and has
//! every limit itself; `http::HttpService` is a `tower::Service` that stands in another server, see
//! `examples/embed_axum.rs`.
//!
//! ```
//! # #[cfg(feature = "server")]
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use bookstore::http::{HttpConfig, serve};
//! use bookstore::{Config, Engine};
//!
//! let engine = Engine::open(Config::memory()).await?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let stop = async {}; // a signal, in a program that shall run for longer
//! serve(listener, engine.clone(), HttpConfig::default(), stop).await?; // drains before it returns
//! engine.close().await?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "server"))]
//! # fn main() {}
//! ```
//!
//! # Features
//!
//! | feature | default | what it brings |
//! |---|---|---|
//! | `server` | yes | [`http`], and what the program `bookstore` needs: hyper, clap, a log, signals |
//! | `otlp` | no | spans of requests to a collector, by `bookstore serve --otlp-endpoint`; brings `server` |
//! | `planted-faults` | **never** | faults on purpose, for this crate's own simulator; no program has a use for it |
//!
//! # What is stable
//!
//! From 0.1.0 on the names on this page follow semantic versioning. Until then anything may change.
//!
//! - Errors, settings and whatever the engine gives out are `#[non_exhaustive]`: they will grow. Settings start from a
//!   constructor ([`Config::memory`], [`Config::directory`], `Default`) and are set field by field. [`NewBook`],
//!   [`NewLine`], [`PasswordParams`], [`OrderStatus`] and the rows that [`offline::Loader`] takes are complete: they can
//!   be written and matched as they stand.
//! - No type of another crate is in the signatures, but for those of hyper and tower-service in [`http`], where they
//!   are the point, and tokio's `TcpListener` there. serde's traits on ids and hashes serve the engine's own files;
//!   what they write is no format to rely on.
//! - [`disk`] is for those who want to put an engine on a file system of their own making, mostly in tests. Its traits
//!   may get new methods, with a default body.
//! - `internals` and `cli` are hidden here because they are no API: this crate's own benches, tests and program use
//!   them.
//! - The oldest Rust that works is in `rust-version`; raising it is a minor release.
//!
//! # Layout
//!
//! The public API is [`Engine`] with its [`Config`], and [`offline`] for data that no engine has open. Inside, data
//! walks one way through the rooms and comes back once:
//!
//! - `domain`: the rules, pure: no I/O, no clock, no actor;
//! - `actors`: the one shell that each of them is, who runs it on ractor, sleep and wake, the gate before answers;
//! - `engine`: open, recover, close; the calls; limits, deadlines, audit;
//! - `catalog`: what is in a book's document, and the search over all books;
//! - `auth`: password hashes, tokens; `cold`: book documents by content hash;
//! - `journal`, `snapshot`, [`disk`]: bytes in, durable bytes out;
//! - `stats`: histograms; `sync`: the locks that the tests can exchange; `trace`: for whose request something is done;
//! - [`offline`]: a data directory from rows of another system, and the check of one;
//! - [`http`] and `cli` (feature `server`): the service and its command line.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking"))]

#[cfg(feature = "server")]
#[doc(hidden)]
pub mod cli;
pub mod disk;
#[cfg(feature = "server")]
pub mod http;
#[doc(hidden)]
pub mod internals;

mod actors;
mod auth;
mod catalog;
mod cold;
// Reachable through `internals` only, which is no API; the fields of messages say by their names what they are.
#[allow(missing_docs, clippy::len_without_is_empty, reason = "what is API stands below as `pub use`")]
mod domain;
mod engine;
mod journal;
mod machine;
mod planted;
mod priority;
mod snapshot;
mod stats;
mod sync;
// Only the service begins requests.
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "there are none without the service"))]
mod trace;
mod varint;

pub use auth::{PasswordError, PasswordHash, PasswordParams};
pub use catalog::SearchFields;
pub use domain::{Fen, Refusal};
pub use engine::offline;
pub use engine::{
    AuditReport, BackupError, BackupReport, BookView, By, Config, Credential, Engine, Error, FoundBook, ID_BYTES_MAX,
    KEY_BYTES_MAX, KEYWORD_BYTES_MAX, Keyed, Limits, LineView, NewBook, NewLine, OpenError, OrderDetails, OrderId,
    OrderStatus, OrderStep, OrderTotals, OrderView, PAGE_SIZE_MAX, PASSWORD_BYTES_MAX, PayKind, Progress, Recovered,
    Result, Search, SearchPage, SnapshotReport, Stats, Storage, StoreStanding, UserStanding,
};
pub use journal::Durability;
pub use stats::HistogramSnapshot;
