//! `bookstore serve`.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::args::{Mode, ServeArgs};
use super::exit::{Exit, scarce};
use super::log::Log;
#[cfg(feature = "otlp")]
use super::otlp::Export;
use super::progress::{self, ProgressLines};
use super::reload::{Reload, Settings};
use super::signals::{Hangups, Signals};
use crate::engine::{Engine, OpenError, Recovered};
use crate::http::{self, HttpConfig};

/// After a failure of the journal: time for the answers "outcome unknown" to leave.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Files that are open beside connections: journal, snapshots, the stores on disk, the runtime's own, and the connections of
/// operators.
const FILES_BESIDE: u64 = 128;
/// A signal that comes again so soon is the same one.
const SAME_SIGNAL: Duration = Duration::from_millis(200);
/// How many tasks a thread of the runtime runs, if so many can go on, before it asks the system who else can. What has
/// begun ends first this way. With tokio's 61, requests that came in later went before earlier ones: an overload fills a
/// thread's queue, and what spills over waits for as long as the queue is refilled.
const EVENT_INTERVAL: u32 = 1_024;
/// Time that the runtime's threads get at the end.
const RUNTIME_END: Duration = Duration::from_millis(500);

/// Serves until a signal or a failure and gives the exit status.
pub(super) fn run(args: &ServeArgs, settings: Settings) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(EVENT_INTERVAL).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Exit::failure(scarce("cannot start the runtime", &error)).end(),
    };
    #[cfg(feature = "otlp")]
    let export = match Export::begin(args.otlp_endpoint.as_deref(), runtime.handle()) {
        Ok(export) => export,
        Err(why) => return Exit::failure(why).end(),
    };
    let log = Log::begin(
        args,
        #[cfg(feature = "otlp")]
        export.as_ref(),
    );
    if let Some(file) = &args.config {
        info!(file = %file.display(), "what neither flags nor environment set is taken from the file");
    }
    let strange = super::strange_variables();
    if !strange.is_empty() {
        warn!(variables = strange.join(" "), "no flag of this build has these variables: they count for nothing");
    }
    if !args.huge_pages {
        small_pages();
    }
    let served = runtime.block_on(serve(args, settings, log));
    #[cfg(feature = "otlp")]
    if let Some(export) = export {
        export.end();
    }
    // A password hash under way is not waited for.
    runtime.shutdown_timeout(RUNTIME_END);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.end(),
    }
}

/// Turns transparent huge pages off for this process. The allocator asks for them, and the first use of one zeroes 2 MiB
/// while a request waits: of the answers at half of capacity the slowest hundredth took three times as long.
fn small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "transparent huge pages stay as they are");
    }
}

async fn serve(args: &ServeArgs, settings: Settings, log: Log) -> Result<(), Exit> {
    // Signals first: one that comes during recovery must not find the default handler and a half-made state.
    let no_signals = |error| Exit::failure(scarce("cannot listen for signals", &error));
    let (mut signals, hangups) = (Signals::new().map_err(no_signals)?, Hangups::new().map_err(no_signals)?);
    let mut config = args.http().map_err(Exit::failure)?;
    refuse_backup(args)?;
    if let Some(why) = args.refused_backup_dir() {
        return Err(Exit::usage(why));
    }
    args.warn_of_open_secrets();
    let reload = Reload { args: args.clone(), settings, log, tls: config.tls.clone() };
    tokio::spawn(reload.watch(hangups));
    // Then the ports, before any data is touched. Clients wait in the backlog while the engine recovers.
    let (listener, address) = bind("--listen", &args.listen).await?;
    let admin = match &args.admin_listen {
        Some(listen) => Some(bind("--admin-listen", listen).await?),
        None => None,
    };
    warn_of_compat(args, address);
    config.connections_max = connections_served(config.connections_max);
    let engine = tokio::select! {
        opened = Engine::open_with_progress(args.engine(), ProgressLines::shared(false)) => opened.map_err(|e| not_opened(&e, args))?,
        signal = signals.next() => {
            let why = format!("{} during recovery; nothing was changed that the next start does not redo", signal.name);
            return Err(Exit { status: signal.status(), why });
        }
    };
    say(&recovered(&engine.recovered(), &args.data_dir()));
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let (admin, admin_address) = admin.unzip();
    if let Some(address) = admin_address {
        say(&format_args!("metrics on {scheme}://{address}/metrics"));
        say(&format_args!("console on {scheme}://{address}/console"));
    }
    say(&format_args!(
        "listening on {scheme}://{address} (durability {}, mode {}, data in {})",
        args.durability(),
        config.mode.as_str(),
        args.data_dir(),
    ));
    if config.pages {
        say(&format_args!("to look at: {scheme}://{address}/shop and {scheme}://{address}/docs"));
    }
    run_until_signal(Ports { listener, admin, config }, &engine, signals).await?;
    info!("closing");
    tokio::select! {
        closed = engine.close() => {
            closed.map_err(|error| Exit::engine(format!("the engine did not close cleanly: {error}; look at the disk: the next start recovers all that was answered")))?;
        }
        why = engine.failed() => return Err(journal_failed(&why)),
    }
    info!("closed");
    Ok(())
}

/// What the service is served on, and how.
struct Ports {
    listener: TcpListener,
    admin: Option<TcpListener>,
    config: HttpConfig,
}

impl Ports {
    async fn serve(self, engine: Engine, shutdown: impl Future<Output = ()>) -> std::io::Result<()> {
        match self.admin {
            Some(admin) => http::serve_with_admin(self.listener, admin, engine, self.config, shutdown).await,
            None => http::serve(self.listener, engine, self.config, shutdown).await,
        }
    }
}

/// Serves until the first signal and drains. A second signal ends the process on the spot, also after this.
async fn run_until_signal(ports: Ports, engine: &Engine, mut signals: Signals) -> Result<(), Exit> {
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let first = signals.next().await;
        info!("{}: draining; once more ends at once", first.name);
        // The receiver is gone only when the service has ended by itself.
        let _ = stop.send(());
        // `timeout` and wrappers of programs send the same signal twice: to the process, and to its group.
        let asked = Instant::now();
        let second = loop {
            let next = signals.next().await;
            if asked.elapsed() > SAME_SIGNAL {
                break next;
            }
        };
        super::exit::tell(&format!("second signal ({}), ending at once", second.name));
        std::process::exit(i32::from(second.status()));
    });
    let shutdown = async {
        // The sender lives in a task that ends only with the process.
        let _ = stopped.await;
    };
    tokio::select! {
        served = ports.serve(engine.clone(), shutdown) => {
            served.map_err(|error| Exit::failure(format!("cannot serve: {error}; all that was answered is kept: look at the network and start again")))
        }
        why = engine.failed() => {
            error!(why, "the journal has failed");
            tokio::time::sleep(LAST_WORDS).await;
            Err(journal_failed(&why))
        }
    }
}

fn journal_failed(why: &str) -> Exit {
    Exit::engine(format!(
        "the journal failed: {why}. Requests in flight were answered \"outcome unknown\". \
         Check the disk, then start again: all that was acknowledged is there"
    ))
}

async fn bind(flag: &str, listen: &str) -> Result<(TcpListener, SocketAddr), Exit> {
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => format!("another process has the port; end it or choose another with {flag}"),
            ErrorKind::PermissionDenied => format!("choose a port above 1023 with {flag}"),
            _ => format!("check {flag}: it wants ADDRESS:PORT of this machine, as in 127.0.0.1:5000"),
        };
        let told = format!("cannot listen on {listen}: {error}; {advice}");
        if error.kind() == ErrorKind::InvalidInput { Exit::usage(told) } else { Exit::failure(told) }
    })?;
    let address =
        listener.local_addr().map_err(|error| Exit::failure(scarce("cannot read the bound address", &error)))?;
    Ok((listener, address))
}

fn warn_of_compat(args: &ServeArgs, address: SocketAddr) {
    if args.mode == Mode::Compat && !address.ip().to_canonical().is_loopback() {
        warn!(%address, "--mode compat checks no tokens: whoever reaches this address can act for any user");
    }
}

/// A connection is an open file. Raises the number that this process may have to what the system allows, and gives the
/// connections that can be served with it: one more would fail where it is accepted, and could not be told why.
fn connections_served(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let allowed = match raised {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let served = connections_within(allowed, wanted);
    // A few less than a round number are no news.
    if served < wanted - wanted / 10 {
        warn!(served, wanted, "fewer connections than --connections-max, for want of open files: raise `ulimit -Hn`");
    }
    served
}

/// The connections for which there are files, of those that are wanted. `allowed`: open files; `None`: any number.
fn connections_within(allowed: Option<u64>, wanted: usize) -> usize {
    let room = allowed.map_or(u64::MAX, |allowed| allowed.saturating_sub(FILES_BESIDE).max(1));
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

/// A service that is started on a backup makes another shop of it, and the backup is none any more.
fn refuse_backup(args: &ServeArgs) -> Result<(), Exit> {
    let dir = args.data_dir();
    if !args.is_backup() {
        return Ok(());
    }
    Err(Exit::failure(format!(
        "{dir} is a backup, which a service would change: make a data directory of it with \
         `bookstore restore {dir} --data-dir NEW`, and serve that"
    )))
}

/// What the engine refuses of a field of its settings, by the flag that sets it.
pub(super) fn refused_setting(name: &str, why: &str) -> String {
    let flag = match name {
        "password_params" => "argon2-memory-kib, --argon2-iterations, --argon2-lanes".into(),
        name => name.replace('_', "-").replace("journal-buffer-bytes", "journal-buffer"),
    };
    format!("--{flag}: {why}")
}

fn not_opened(error: &OpenError, args: &ServeArgs) -> Exit {
    let advice = match error {
        OpenError::Config { name, why } => return Exit::usage(refused_setting(name, why)),
        OpenError::Locked { .. } => "wait for its end, or end it, or choose another --data-dir".to_owned(),
        OpenError::Damaged(_) => {
            format!(
                "nothing was changed; restore {0} from a backup, or see what `bookstore repair {0}` would save",
                args.data_dir()
            )
        }
        OpenError::OtherVersion(_) => {
            format!("nothing is wrong with it, nothing was changed; open {} with that version", args.data_dir())
        }
        OpenError::TokenKey(_) => "or remove it: a new one is made then, and everybody has to log in again".to_owned(),
        OpenError::Io { .. } => {
            format!("look at owner, mode and disk of {}, or choose another --data-dir", args.data_dir())
        }
    };
    Exit::failure(format!("{error}; {advice}"))
}

fn recovered(found: &Recovered, dir: &dyn Display) -> String {
    for damaged in &found.damaged_snapshots {
        warn!(snapshot = damaged, "a damaged snapshot was passed over");
    }
    if found.accounts == 0 && found.replayed_events == 0 && found.snapshot.is_none() {
        return format!("a new, empty shop in {dir}, {} ms", found.took.as_millis());
    }
    let snapshot = found.snapshot.as_ref().and_then(|path| path.file_name());
    format!(
        "recovered {} accounts, {} stores, {} orders in memory, {} at rest: replayed {} events, cut {} bytes, finished {} sagas, \
         snapshot {}, {} ms",
        found.accounts,
        found.stores,
        found.orders,
        found.resting_orders,
        found.replayed_events,
        found.cut_bytes,
        found.finished_sagas,
        snapshot.map_or_else(|| "none".into(), |name| name.to_string_lossy()),
        found.took.as_millis(),
    )
}

/// A line on stdout, at once. Whoever started the program may have closed it; that is no reason to end.
fn say(line: &dyn Display) {
    progress::clear();
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_served_as_far_as_there_are_files() {
        assert_eq!(connections_within(Some(20_000), 20_000), 20_000 - FILES_BESIDE as usize);
        assert_eq!(connections_within(Some(1 << 20), 20_000), 20_000);
        assert_eq!(connections_within(None, 20_000), 20_000);
        assert_eq!(connections_within(Some(10), 20_000), 1);
    }
}
