//! Servers that are started as children, the directories they get, and what their metrics say.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

use crate::Failure;
use crate::api::Api;
use crate::client::Target;

/// Pause between two looks at `/readyz`.
const READY_PAUSE: Duration = Duration::from_millis(50);
/// How long a server that was killed may take to be gone.
const END_WAIT: Duration = Duration::from_secs(5);
/// How often the removal of a directory is tried, for what a program that was killed may still have been writing.
const REMOVALS: u32 = 20;

/// What an answer of the real server promises.
#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    Sync,
    Buffered,
    Snapshot,
}

impl Durability {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Buffered => "buffered",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Which server is started, and how: flags that the subcommands share which start one.
#[derive(Args, Clone)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) program: Program,
    /// What its answers promise.
    #[arg(long, value_enum, default_value = "sync")]
    pub(crate) durability: Durability,
}

/// The bookstore binary and its flags.
#[derive(Args, Clone)]
pub(crate) struct Program {
    /// The bookstore binary; if not given, `bookstore` beside this program.
    #[arg(long = "server", value_name = "PATH")]
    path: Option<PathBuf>,
    /// One more flag for the server; may be given several times (`--server-arg=--flag=value`).
    #[arg(long, allow_hyphen_values = true)]
    server_arg: Vec<String>,
}

impl Program {
    /// Where the binary is.
    pub(crate) fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        let path = beside_this("bookstore")?;
        match path.is_file() {
            true => Ok(path),
            false => Err(format!("{} is not there: `cargo build --release`, or --server PATH", path.display()).into()),
        }
    }
}

/// The path of a program in the directory of this one.
pub(crate) fn beside_this(name: &str) -> Result<PathBuf, Failure> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

/// A server that runs as a child and ends with this value.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) target: Target,
    /// Its process.
    pub(crate) pid: u32,
}

impl Server {
    /// Starts this very program as the bare server.
    pub(crate) async fn start_bare(timeout: Duration) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare", "--listen", "127.0.0.1:0"]);
        Self::start(command, Instant::now() + timeout).await
    }

    /// Starts `binary serve` on `data_dir`, with `first` before the flags of the user, and waits until it is ready.
    pub(crate) async fn start_real(
        args: &ServerArgs,
        data_dir: &Path,
        first: &[String],
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(args.program.path()?);
        command.args(["serve", "--listen", "127.0.0.1:0", "--durability", args.durability.word(), "--data-dir"]);
        command.arg(data_dir).args(first).args(&args.program.server_arg);
        let deadline = Instant::now() + timeout;
        let server = Self::start(command, deadline).await?;
        let mut api = Api::new(server.target.clone());
        while let Err(error) = api.page("/readyz").await {
            if Instant::now() > deadline {
                return Err(format!("the server did not get ready in time: {error}").into());
            }
            tokio::time::sleep(READY_PAUSE).await;
        }
        Ok(server)
    }

    /// Starts a command that says where it listens.
    pub(crate) async fn start(mut command: Command, deadline: Instant) -> Result<Self, Failure> {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let stdout = child.stdout.take().ok_or("the child has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = timeout_at(deadline, read_address(&mut lines))
            .await
            .map_err(|_| format!("{name} did not say in time where it listens"))?
            .map_err(|error| format!("{name}: {error}"))?;
        // Read on, or the child would stop at a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let pid = child.id().ok_or_else(|| format!("{name} has ended at once"))?;
        Ok(Self { child, target: Target::from(address), pid })
    }

    /// Kills the child and waits until it is gone, so that its directory can be removed.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await?)
    }
}

impl Drop for Server {
    /// Waits as well, so that its directory can be removed.
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.start_kill();
        let deadline = std::time::Instant::now() + END_WAIT;
        while matches!(self.child.try_wait(), Ok(None)) && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

async fn read_address(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<SocketAddr, Failure> {
    while let Some(line) = lines.next_line().await? {
        if let Some(address) = find_address(&line) {
            return Ok(address);
        }
    }
    Err("ended without saying where it listens".into())
}

/// The address behind `listening on`, with or without `http://`.
fn find_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    let rest = rest.strip_prefix("http://").unwrap_or(rest);
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c))).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// A directory that is removed with this value.
pub(crate) struct TemporaryDirectory {
    path: PathBuf,
}

impl TemporaryDirectory {
    /// A new directory in `parent`.
    pub(crate) fn new(parent: &Path) -> Result<Self, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("loadtest-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        for _ in 1..REMOVALS {
            if fs::remove_dir_all(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("loadtest: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// What the server's journal has done so far, from its metrics.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct Journal {
    frames: f64,
    batches: f64,
    syncs: f64,
    sync_seconds: f64,
}

impl Journal {
    /// Reads `/metrics`; `None` if there is no such page or it does not speak of a journal.
    pub(crate) async fn scrape(target: &Target) -> Option<Self> {
        let page = Api::new(target.clone()).page("/metrics").await.ok()?;
        Self::parse(&page)
    }

    fn parse(page: &str) -> Option<Self> {
        Some(Self {
            frames: metric(page, "bookstore_journal_frames_total")?,
            batches: metric(page, "bookstore_journal_batches_total")?,
            syncs: metric(page, "bookstore_journal_sync_seconds_count").unwrap_or(0.0),
            sync_seconds: metric(page, "bookstore_journal_sync_seconds_sum").unwrap_or(0.0),
        })
    }

    /// Frames in an average batch since `before`; `None` if there was none.
    pub(crate) fn frames_per_batch_since(self, before: Self) -> Option<f64> {
        let batches = self.batches - before.batches;
        (batches > 0.0).then(|| (self.frames - before.frames) / batches)
    }

    /// Average time of a sync since `before`, in µs; `None` if there was none.
    pub(crate) fn sync_us_since(self, before: Self) -> Option<f64> {
        let syncs = self.syncs - before.syncs;
        (syncs > 0.0).then(|| (self.sync_seconds - before.sync_seconds) * 1e6 / syncs)
    }
}

/// Asks the server for one figure of its metrics.
pub(crate) async fn scrape(target: &Target, name: &str) -> Option<f64> {
    metric(&Api::new(target.clone()).page("/metrics").await.ok()?, name)
}

/// The sum of all samples of a metric in Prometheus' text form; `None` if there is none.
fn metric(page: &str, name: &str) -> Option<f64> {
    page.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once('}')?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.split_ascii_whitespace().next()?.parse::<f64>().ok()
        })
        .reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_any_line() {
        let found = |line: &str| find_address(line).map(|address| address.to_string());
        assert_eq!(found("listening on 127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(found("bookstore listening on http://127.0.0.1:5000, data in x").as_deref(), Some("127.0.0.1:5000"));
        assert_eq!(found(r#"{"message":"listening on http://[::1]:5"}"#).as_deref(), Some("[::1]:5"));
        assert_eq!(found("recovered 3 orders"), None);
        assert_eq!(found("listening on nothing"), None);
    }

    #[test]
    fn metrics_are_summed_over_labels() {
        let page = "# HELP bookstore_journal_frames_total x\n\
                    bookstore_journal_frames_total 100\n\
                    bookstore_journal_frames_total_other 7\n\
                    bookstore_journal_batches_total{kind=\"a b\"} 4\n\
                    bookstore_journal_batches_total{kind=\"c\"} 1 1700000000\n\
                    bookstore_journal_sync_seconds_sum 0.5\n\
                    bookstore_journal_sync_seconds_count 1000\n";
        let journal = Journal::parse(page).unwrap();
        assert_eq!(journal.frames_per_batch_since(Journal::default()), Some(20.0));
        assert_eq!(journal.sync_us_since(Journal::default()), Some(500.0));
        assert_eq!(journal.sync_us_since(journal), None);
        assert_eq!(Journal::parse("up 1\n"), None);
    }

    #[test]
    fn a_temporary_directory_goes_with_its_content() {
        let directory = TemporaryDirectory::new(&std::env::temp_dir()).unwrap();
        let path = directory.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        drop(directory);
        assert!(!path.exists());
    }
}
