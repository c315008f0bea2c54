//! Every flag of `bookstore serve`; in `config`, what becomes of them.

mod config;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, Args, Command, ValueEnum};

use crate::PasswordParams;
use crate::http::{TlsError, TlsIdentity};

/// Flags of `serve`. Every one can also be set as `BOOKSTORE_…` in the environment, and in the file of `--config`; the flag
/// wins, then the variable. The first paragraph of a flag's comment is its one line in `-h`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Service")]
pub(super) struct ServeArgs {
    /// TOML file of flags; see `bookstore example-config`
    ///
    /// What the command line and the environment do not set is taken from it.
    #[arg(long, env = "BOOKSTORE_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Address and port to listen on
    ///
    /// Port 0 takes a free one.
    #[arg(long, env = "BOOKSTORE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    pub(super) listen: String,
    /// Address and port for operators
    ///
    /// `/console` and `/admin/...` are there only, and `/metrics` as well, which is then a 404 on the other port; probes are
    /// answered on both.
    #[arg(long, env = "BOOKSTORE_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub(super) admin_listen: Option<String>,
    /// File with the token of operators
    ///
    /// Whoever shows it as `Authorization: Bearer TOKEN` may use `/admin/...`; without one only programs of this machine may.
    /// 16 or more characters, as `openssl rand -hex 32` makes them.
    #[arg(long, env = "BOOKSTORE_ADMIN_TOKEN_FILE", value_name = "FILE", requires = "admin_listen")]
    admin_token_file: Option<PathBuf>,
    /// Serve /docs and /shop
    ///
    /// Pages that show the API to people.
    #[arg(long, env = "BOOKSTORE_PAGES", value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value_t = true)]
    pages: bool,
    /// Whether tokens are checked
    #[arg(long, env = "BOOKSTORE_MODE", value_name = "strict|compat", value_enum, default_value_t = Mode::Strict)]
    pub(super) mode: Mode,
    /// Format of the log, on stderr
    #[arg(long, env = "BOOKSTORE_LOG_FORMAT", value_name = "text|json", value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
    /// Levels of the log: one, and others for targets
    ///
    /// As in `info,bookstore::saga=debug`: a line for each step of a saga. Levels are off, error, warn, info, debug, trace.
    /// In the file of --config it may change while the service runs: SIGHUP reads it again.
    #[arg(long, env = "BOOKSTORE_LOG_LEVEL", value_name = "LEVELS", default_value = "info", value_parser = super::log::judged)]
    pub(super) log_level: String,
    /// Collector of spans, over OTLP/HTTP
    ///
    /// As in http://127.0.0.1:4318. Each request is a span, and each step of its saga one below it.
    #[cfg(feature = "otlp")]
    #[arg(long, env = "BOOKSTORE_OTLP_ENDPOINT", value_name = "URL", value_parser = super::otlp::judged)]
    pub(super) otlp_endpoint: Option<String>,
    /// Time to end requests after a signal
    ///
    /// Accepted requests have this time to finish after SIGTERM or SIGINT.
    #[arg(long, env = "BOOKSTORE_DRAIN_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration)]
    drain_timeout: Duration,
    /// Use transparent huge pages
    ///
    /// Fewer misses in a very large shop, but a stall of up to some milliseconds for each 2 MiB of memory that is first
    /// used.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_HUGE_PAGES", value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value_t = false)]
    pub(super) huge_pages: bool,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    transport: TransportArgs,
    #[command(flatten)]
    capacity: CapacityArgs,
    #[command(flatten)]
    passwords: PasswordArgs,
}

/// Whether the ports speak TLS.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "TLS")]
pub(super) struct TlsArgs {
    /// Certificate chain in PEM, with --tls-key
    ///
    /// The service's own first; with it both ports speak TLS and nothing else. SIGHUP reads both files again.
    #[arg(long, env = "BOOKSTORE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate in PEM
    ///
    /// Without a passphrase.
    #[arg(long, env = "BOOKSTORE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Time for the TLS handshake
    ///
    /// Then the connection is dropped.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_TLS_HANDSHAKE_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration)]
    tls_handshake_timeout: Duration,
}

impl TlsArgs {
    /// The certificate with its key, if there is to be TLS.
    pub(super) fn identity(&self) -> Result<Option<TlsIdentity>, String> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let (cert_file, key_file) = (certificate.display(), key.display());
        TlsIdentity::from_files(certificate, key).map(Some).map_err(|error| match &error {
            TlsError::Certificate(_) => format!("--tls-cert {cert_file}: {error}"),
            TlsError::Key(_) => format!("--tls-key {key_file}: {error}"),
            TlsError::Mismatch => format!("--tls-cert {cert_file} and --tls-key {key_file}: {error}"),
            TlsError::Read { path, .. } if path == certificate => format!("--tls-cert: {error}"),
            TlsError::Read { .. } => format!("--tls-key: {error}"),
        })
    }
}

/// Where the data is and what an answer promises.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
struct DataArgs {
    /// Directory of journal and snapshots
    ///
    /// Created if missing, for one process at a time.
    #[arg(long, env = "BOOKSTORE_DATA_DIR", value_name = "DIR", default_value = "snapshots")]
    data_dir: PathBuf,
    /// Where `bookstore backup --url` makes backups
    ///
    /// Each in a directory of its own below this one, which must not be in the data directory; best on another disk.
    #[arg(long, env = "BOOKSTORE_BACKUP_DIR", value_name = "DIR", requires = "admin_listen")]
    backup_dir: Option<PathBuf>,
    /// What an answer promises
    ///
    /// And so what a failure may cost.
    #[arg(long, env = "BOOKSTORE_DURABILITY", value_name = "sync|buffered|snapshot", value_enum, default_value_t = Durability::Sync)]
    durability: Durability,
    /// Longest time between two syncs
    ///
    /// With `--durability buffered`.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_SYNC_INTERVAL", value_name = "TIME", default_value = "50ms", value_parser = duration)]
    sync_interval: Duration,
    /// Under load: time before a sync
    ///
    /// To gather for it, so that there are fewer. A lone caller never waits.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_COMMIT_DELAY", value_name = "TIME", default_value = "50us", value_parser = duration)]
    commit_delay: Duration,
    /// Time between two snapshots
    #[arg(long, env = "BOOKSTORE_SNAPSHOT_INTERVAL", value_name = "TIME", default_value = "60s", value_parser = duration)]
    snapshot_interval: Duration,
    /// Bytes of journal between snapshots
    ///
    /// A snapshot is taken as well when this many bytes were journaled since the last one.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_SNAPSHOT_JOURNAL_BYTES", value_name = "BYTES", default_value_t = 512 << 20)]
    snapshot_journal_bytes: u64,
    /// Size of one journal segment
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_SEGMENT_BYTES", value_name = "BYTES", default_value_t = 64 << 20)]
    segment_bytes: u64,
    /// No changes below these free bytes
    ///
    /// They are refused with 503; reads go on. The rest of the journal's next segment counts as used. 0 = never.
    #[arg(long, env = "BOOKSTORE_MIN_FREE_DISK", value_name = "BYTES", default_value_t = 256 << 20)]
    min_free_disk: u64,
}

/// The shop's rules.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rules")]
struct RuleArgs {
    /// An order unpaid for this long is canceled
    #[arg(long, env = "BOOKSTORE_ORDER_TTL", value_name = "TIME", default_value = "30m", value_parser = duration)]
    order_ttl: Duration,
    /// Confirm a shipped order after this time, as in `10d`
    ///
    /// Only one that was paid to the platform; without the flag it waits for its buyer.
    #[arg(long, env = "BOOKSTORE_AUTO_CONFIRM", value_name = "TIME", value_parser = duration)]
    auto_confirm: Option<Duration>,
    /// A login is valid for this long
    #[arg(long, env = "BOOKSTORE_TOKEN_TTL", value_name = "TIME", default_value = "1h", value_parser = duration)]
    token_ttl: Duration,
    /// Lines of one order
    ///
    /// A longer one is a 530.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_ORDER_LINES_MAX", value_name = "N", default_value_t = 1_000)]
    order_lines_max: usize,
    /// Pending orders of one user
    ///
    /// One more is a 429.
    #[arg(
        long,
        hide_short_help = true,
        env = "BOOKSTORE_PENDING_ORDERS_MAX",
        value_name = "N",
        default_value_t = 100_000
    )]
    pending_orders_max: usize,
    /// Kept idempotency keys of one user
    ///
    /// Of deposits and withdrawals; one more with a key is a 429.
    #[arg(
        long,
        hide_short_help = true,
        env = "BOOKSTORE_DEPOSIT_KEYS_MAX",
        value_name = "N",
        default_value_t = 10_000
    )]
    deposit_keys_max: usize,
    /// Books in one store, at most 100000
    ///
    /// One more is a 530.
    #[arg(
        long,
        hide_short_help = true,
        env = "BOOKSTORE_STORE_BOOKS_MAX",
        value_name = "N",
        default_value_t = 100_000
    )]
    store_books_max: usize,
    /// Orders in one list
    ///
    /// A longer list is a 530, never cut.
    #[arg(
        long,
        hide_short_help = true,
        env = "BOOKSTORE_ORDERS_LISTED_MAX",
        value_name = "N",
        default_value_t = 100_000
    )]
    orders_listed_max: usize,
}

/// Limits of the transport.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Transport limits")]
struct TransportArgs {
    /// Connections at once
    ///
    /// One more gets 503.
    #[arg(long, env = "BOOKSTORE_CONNECTIONS_MAX", value_name = "N", default_value_t = 20_000)]
    connections_max: usize,
    /// Size of a request's body
    ///
    /// More is a 413.
    #[arg(long, env = "BOOKSTORE_BODY_LIMIT", value_name = "BYTES", default_value_t = 1 << 20)]
    body_limit: usize,
    /// Size of an add_book body, with pictures
    ///
    /// More is a 413.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_BOOK_BODY_LIMIT", value_name = "BYTES", default_value_t = 16 << 20)]
    book_body_limit: usize,
    /// Size of all bodies in flight
    ///
    /// Together, and, counted apart, of all long answers in flight; more is a 503.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_BODIES_IN_FLIGHT", value_name = "BYTES", default_value_t = 256 << 20)]
    bodies_in_flight: usize,
    /// Size of a request's target and headers
    ///
    /// More is a 431.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_HEADER_LIMIT", value_name = "BYTES", default_value_t = 64 << 10)]
    header_limit: usize,
    /// Time for a request's headers
    ///
    /// Then 408; idle connections are closed after it.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_HEADER_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = duration)]
    header_timeout: Duration,
    /// Time for a request's body
    ///
    /// Then 408.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_BODY_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = duration)]
    body_timeout: Duration,
    /// Time for a client to take something
    ///
    /// Of its answer; who takes nothing for so long is cut.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_WRITE_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = duration)]
    write_timeout: Duration,
    /// Average time of a command in the engine
    ///
    /// Beyond the disk's; what would make it longer gets 503 at once. 0s = never.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_ENGINE_DELAY_MAX", value_name = "TIME", default_value = "50ms", value_parser = duration)]
    engine_delay_max: Duration,
}

/// Limits of the engine.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine limits")]
struct CapacityArgs {
    /// Commands admitted and not answered
    ///
    /// More is a 503.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_IN_FLIGHT_MAX", value_name = "N", default_value_t = 65_536)]
    in_flight_max: usize,
    /// Size of the journal's buffer
    ///
    /// Changes that find it full get 503.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_JOURNAL_BUFFER", value_name = "BYTES", default_value_t = 256 << 20)]
    journal_buffer: usize,
    /// Account and store actors alive at once
    ///
    /// Beyond it the longest idle ones go to sleep.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_LIVE_ACTORS_MAX", value_name = "N", default_value_t = 50_000)]
    live_actors_max: usize,
    /// Orders at rest (not pending) in memory
    ///
    /// Beyond it the longest unchanged ones go to disk.
    #[arg(
        long,
        hide_short_help = true,
        env = "BOOKSTORE_RESTING_ORDERS_MAX",
        value_name = "N",
        default_value_t = 200_000
    )]
    resting_orders_max: usize,
    /// What is idle for this long leaves
    ///
    /// An actor without work goes to sleep, an order at rest to disk.
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_IDLE_AFTER", value_name = "TIME", default_value = "60s", value_parser = duration)]
    idle_after: Duration,
}

/// Passwords and their throttling.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Passwords")]
struct PasswordArgs {
    /// Wrong passwords a minute for one user
    ///
    /// Before it gets 429. 0 = never.
    #[arg(long, env = "BOOKSTORE_THROTTLE_USER", value_name = "N", default_value_t = 20)]
    throttle_user: u32,
    /// Wrong passwords a minute from one address
    ///
    /// Before it gets 429. 0 = never.
    #[arg(long, env = "BOOKSTORE_THROTTLE_ADDRESS", value_name = "N", default_value_t = 1_000)]
    throttle_address: u32,
    #[command(flatten)]
    hash: HashArgs,
    /// Password hashes computed at once [default: the number of cores]
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_PASSWORD_HASHES_MAX", value_name = "N")]
    password_hashes_max: Option<usize>,
    /// Users whose password is remembered
    ///
    /// Once it was verified, and their tokens, so that they are not hashed again.
    #[arg(
        long,
        hide_short_help = true,
        env = "BOOKSTORE_PASSWORD_MEMORY_MAX",
        value_name = "N",
        default_value_t = 1_000_000
    )]
    password_memory_max: usize,
}

/// What a new password hash costs.
#[derive(Debug, Clone, Args)]
pub(super) struct HashArgs {
    /// Memory of one password hash
    ///
    /// Of argon2id, in KiB; existing hashes keep theirs.
    #[arg(
        long,
        hide_short_help = true,
        env = "BOOKSTORE_ARGON2_MEMORY_KIB",
        value_name = "KIB",
        default_value_t = 19_456
    )]
    argon2_memory_kib: u32,
    /// Passes of one password hash
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_ARGON2_ITERATIONS", value_name = "N", default_value_t = 2)]
    argon2_iterations: u32,
    /// Lanes of one password hash
    #[arg(long, hide_short_help = true, env = "BOOKSTORE_ARGON2_LANES", value_name = "N", default_value_t = 1)]
    argon2_lanes: u32,
}

impl HashArgs {
    pub(super) fn params(&self) -> PasswordParams {
        PasswordParams {
            memory_kib: self.argon2_memory_kib,
            iterations: self.argon2_iterations,
            lanes: self.argon2_lanes,
        }
    }
}

/// `--mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// The token header is checked where the contract says so
    Strict,
    /// For old clients that send an empty token: it is not checked (but on logout), so whoever can connect can act for any user. Ownership still holds
    Compat,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Lines to read
    Text,
    /// One JSON object a line
    Json,
}

/// `--durability`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Durability {
    /// An answer means on disk. A crash or a power loss costs nothing that was answered
    Sync,
    /// An answer means handed to the system. A crash of the process costs nothing; a power loss or a crash of the system costs up to the sync interval of answered changes
    Buffered,
    /// No journal. Any crash costs everything since the last snapshot, answered or not
    Snapshot,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; a time is a number with a unit, as in 50ms, 30m, 1h"))
}

/// Brings the flags of `serve` into the form of their help: what can be chosen stands in the value's place, which says it in
/// one line, and what it means in `--help`. The variables follow a rule, which is told once.
pub(super) fn shaped(flags: Command) -> Command {
    flags.mut_args(|arg| choices_told(arg.hide_env(true)))
}

fn choices_told(arg: Arg) -> Arg {
    let choices = arg.get_possible_values();
    if choices.is_empty() {
        return arg;
    }
    let mut help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    for choice in &choices {
        if let Some(means) = choice.get_help() {
            help.push_str(&format!("\n\n- {}: {means}", choice.get_name()));
        }
    }
    arg.long_help(help).hide_possible_values(true)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::engine::Config;
    use crate::http::HttpConfig;

    #[derive(Debug, Parser)]
    struct Probe {
        #[command(flatten)]
        serve: ServeArgs,
    }

    /// The defaults stand twice, in the help and in the library; they have to agree.
    #[test]
    fn the_defaults_are_the_library_defaults() {
        let args = Probe::try_parse_from(["probe"]).unwrap().serve;
        assert_eq!(format!("{:?}", args.engine()), format!("{:?}", Config::directory("snapshots")));
        assert_eq!(format!("{:?}", args.http().unwrap()), format!("{:?}", HttpConfig::default()));
    }

    /// So a file's `true` can be undone by a flag, and each key is `--key=value`.
    #[test]
    fn every_flag_takes_a_value_and_stands_in_a_group() {
        use clap::CommandFactory;
        for arg in Probe::command().get_arguments() {
            assert!(arg.get_action().takes_values(), "{arg}");
            assert!(arg.get_help_heading().is_some(), "{arg}");
            let choices: Vec<String> = arg.get_possible_values().iter().map(|it| it.get_name().to_owned()).collect();
            if !choices.is_empty() {
                assert_eq!(arg.get_value_names().unwrap(), [choices.join("|")], "{arg}");
            }
        }
    }

    #[test]
    fn every_flag_has_its_variable() {
        use clap::CommandFactory;
        for arg in Probe::command().get_arguments() {
            let flag = arg.get_long().unwrap_or_default();
            let variable = format!("BOOKSTORE_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(variable.as_str()), "--{flag}");
        }
    }
}
