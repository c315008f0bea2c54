//! The HTTP service: the wire contract on top of an [`Engine`]. The only room that knows hyper.
//!
//! - [`serve`] takes a listener and does all of it: connections, limits, timeouts, drain. The program `bookstore` is
//!   this with a command line.
//! - [`HttpService`] is a `tower::Service` for a program that has a server of its own.
//!
//! Either way every route is a `POST` with a JSON object in and out, but for `GET` of `/healthz`, `/readyz`, `/metrics`,
//! `/openapi.json` and the pages for people; the document describes all routes but those and the ones for operators. The outcome's code is the status and the field `code`.
//!
//! ```
//! use bookstore::http::{HttpConfig, HttpService, Mode};
//! # use bookstore::{Config, Engine};
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let engine = Engine::open(Config::memory()).await?;
//! let mut config = HttpConfig::default();
//! config.mode = Mode::Compat; // old clients, which send no token
//! config.book_body_bytes_max = 4 << 20;
//! let service = HttpService::new(engine, config);
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! A request walks down this list and its answer walks back up.
//!
//! - `server`: the accept loop, the limit of connections, the drain.
//! - `connection`: one task a connection: hyper, the timeouts of heads and of writes, the slow goodbye.
//! - `socket`: the socket below that, which remembers whether the client takes what is written.
//! - `tls`: the handshake before that, if the service has a certificate.
//! - `framing`: looks for heads that say in two ways where their body ends.
//! - `io`: the socket as hyper sees it. It gives hyper's own error answers the contract's JSON shape.
//! - `tower`: the same for connections of somebody else: [`HttpService`].
//! - `service`: one request: transport limits, 404, 405, the body, the handler, the counters.
//! - `request_id`: the id of a request, taken or made; `told`: what the log is told of requests.
//! - `shed`: which requests are refused because the engine has more to do than it can.
//! - `body`: reads a request's body within its limits.
//! - `routes`: **the** table of routes. Router, metrics, failure values and `openapi` all read it.
//! - `openapi`: the document, from that table, `schema` (fields and answers) and `about` (what each route means).
//! - `auth`, `seller`, `buyer`, `search`, `ops`: the handlers.
//! - `fields`: typed extraction of a body's fields; each failure names its field.
//! - `hot`: the same for the busiest routes, in one pass, when there is nothing to refuse.
//! - `answer`, `orders`: outcome codes and JSON out; long order lists are streamed.
//! - `pages`: the files of `/docs`, `/shop` and `/console`.
//! - `operator`: who may use the routes for operators; `admin`: those routes; `backup`: that of backups; `console`: what
//!   `/admin/status` tells.
//! - `client`: the other end, for the command line.
//! - `stages`: single stages of a request, for the benches.
//! - `metrics`: counters without locks, and their Prometheus text.

mod about;
mod admin;
mod answer;
mod auth;
mod backup;
mod body;
mod buyer;
mod call;
pub(crate) mod client;
mod connection;
mod console;
mod dispatch;
pub(crate) mod fields;
mod framing;
mod hot;
mod io;
mod json;
mod metrics;
pub(crate) mod openapi;
mod operator;
mod ops;
mod orders;
mod pages;
mod passes;
mod request_id;
mod routes;
mod schema;
mod search;
mod seller;
mod server;
mod service;
mod shared;
mod shed;
mod socket;
pub(crate) mod stages;
mod tls;
mod told;
mod tower;
mod turnstile;

use std::path::PathBuf;
use std::time::Duration;

pub use self::answer::ResponseBody;
pub use self::operator::{AdminToken, AdminTokenError};
pub use self::tls::{TlsError, TlsIdentity};
pub use self::tower::{HttpService, PeerAddr, ResponseFuture};
use crate::engine::Engine;

/// Whether the `token` header is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// Routes that need a token check it. The default.
    #[default]
    Strict,
    /// For old clients that send an empty token: only `logout` checks it. Whoever can connect can act for any
    /// user on the token routes; ownership is still judged. An order without lines is an order of 0 fen.
    Compat,
}

impl Mode {
    /// The mode's name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Strict => "strict",
            Mode::Compat => "compat",
        }
    }
}

/// Settings of the service. Start from [`HttpConfig::default`] and set fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Whether tokens are checked. Default [`Mode::Strict`].
    pub mode: Mode,
    /// Lines of one order; a longer order is a 530. Default 1,000, as the engine's own limit.
    pub order_lines_max: usize,
    /// Bytes of a request's body, but for `add_book`. Default 1 MiB.
    pub body_bytes_max: usize,
    /// Bytes of an `add_book` body, pictures included. Default 16 MiB.
    pub book_body_bytes_max: usize,
    /// Bytes of all bodies that are read and not answered yet, and, counted apart, of all answers above 64 KiB that have
    /// not left; beyond it requests get 503. Default 256 MiB.
    pub bodies_in_flight_bytes_max: usize,
    /// Bytes of a request's target and headers together; more is a 431. Default 64 KiB.
    pub header_bytes_max: usize,
    /// Time for a request's head to arrive; an idle connection is closed after it. Default 30 s.
    pub header_timeout: Duration,
    /// Time for a request's body to arrive, counted from its head. Default 30 s.
    pub body_timeout: Duration,
    /// Time in which a client must take at least something of an answer that waits for it; who takes nothing is cut, at the
    /// latest after twice this time. What the system's buffers hold counts as taken. Default 30 s.
    pub write_timeout: Duration,
    /// With what the service shows itself: then it speaks TLS only. Default `None`, which is plain HTTP.
    pub tls: Option<TlsIdentity>,
    /// Time for the TLS handshake, from the connection's first moment; then it is dropped. Default 10 s.
    pub tls_handshake_timeout: Duration,
    /// Connections served at once; one more gets 503 and is closed. Default 20,000.
    pub connections_max: usize,
    /// Time that accepted requests have to finish once the service drains. Default 10 s.
    pub drain_timeout: Duration,
    /// Time that commands may take in the engine on average, beyond what the disk takes. When they take longer for more
    /// than a moment, and there are more than 128 of them, the engine has too much to do: a limit is put on the commands
    /// in it, and a `POST` that finds it full gets 503 before its body is read. Zero: never. Default 1 ms.
    pub engine_delay_max: Duration,
    /// Whether there are `/docs` and `/shop`, pages that show the API to people. Default `true`.
    pub pages: bool,
    /// What the routes for operators on the admin port (`/admin/…`, which `/console` uses) want to be shown, as
    /// `Authorization: Bearer …`. Without one they are for programs of this machine only. Default `None`.
    pub admin_token: Option<AdminToken>,
    /// Where `/admin/backup` makes backups, each in a directory of its own below this one. It must not be in the data
    /// directory. Default `None`: it makes none.
    pub backup_dir: Option<PathBuf>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            mode: Mode::Strict,
            order_lines_max: 1_000,
            body_bytes_max: 1 << 20,
            book_body_bytes_max: 16 << 20,
            bodies_in_flight_bytes_max: 256 << 20,
            header_bytes_max: 64 << 10,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            tls: None,
            tls_handshake_timeout: Duration::from_secs(10),
            connections_max: 20_000,
            drain_timeout: Duration::from_secs(10),
            engine_delay_max: Duration::from_millis(50),
            pages: true,
            admin_token: None,
            backup_dir: None,
        }
    }
}

/// Serves the contract on `listener` until `shutdown` resolves, then drains: no new connection is taken, every
/// request that was read is answered, and after [`HttpConfig::drain_timeout`] what is left is cut.
///
/// The engine is not closed: that is the caller's, after this returns. Must be called within a tokio runtime with I/O
/// and time enabled.
///
/// # Cancellation
///
/// Dropping the future stops the accepting at once but leaves open connections to their tasks, which are not drained
/// any more: resolve `shutdown` instead.
///
/// # Errors
///
/// When the listener is unusable from the start. Failures of single connections never end the service.
pub async fn serve(
    listener: tokio::net::TcpListener,
    engine: Engine,
    config: HttpConfig,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    server::serve(listener, None, engine, config, shutdown).await
}

/// As [`serve`], with a second port for those who operate the service: `/console` and `/admin/…` are served there and
/// nowhere else (see [`HttpConfig::admin_token`]), `/metrics` is served on `admin` only and is a 404 on `listener`, `/healthz` and `/readyz` on both, and everything else on `listener` only. Both speak TLS when
/// [`HttpConfig::tls`] is set. At most 64 connections are served on `admin` at once; they do not count among
/// [`HttpConfig::connections_max`].
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_with_admin(
    listener: tokio::net::TcpListener,
    admin: tokio::net::TcpListener,
    engine: Engine,
    config: HttpConfig,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    server::serve(listener, Some(admin), engine, config, shutdown).await
}
