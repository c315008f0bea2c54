//! `bookstore bench`: what this machine can do, measured in some seconds with an engine and a service in this process.
//!
//! - `place`: where it is measured: a directory of its own on the data's disk, which is removed again.
//! - `shop`: the users, stores and books that are needed, and orders by the engine's API.
//! - `over_http`: the same orders over loopback.
//! - `books`: made-up books, and searches for them.
//! - `report`: the figures, as a table and as JSON; what limits, and what to worry about.

mod books;
mod over_http;
mod place;
mod report;
mod shop;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use self::place::WorkDir;
use self::report::{Passwords, Recovery, Report, Snapshot, Table, Times};
use super::exit::{Exit, scarce};
use super::progress::put;
use super::signals::Signals;
use crate::engine::{Config, Engine, OpenError};
use crate::machine;
use crate::{PasswordHash, PasswordParams};

/// Callers in process: enough that each sync has much to carry.
const CALLERS: usize = 256;
/// Connections over loopback.
const CONNECTIONS: usize = 16;
/// Blocks that are synced at most, one by one: a file of 16 MB.
const BLOCKS: usize = 4_096;
/// What is done with time that is given: the rest goes to opening, filling and reading again.
const DISK_SHARE: f64 = 0.08;
const PASSWORDS_SHARE: f64 = 0.06;
const MEMORY_SHARE: f64 = 0.10;
const ALONE_SHARE: f64 = 0.06;
const SYNC_SHARE: f64 = 0.12;
const HTTP_SHARE: f64 = 0.12;
const LIST_SHARE: f64 = 0.08;
const SEARCH_SHARE: f64 = 0.05;
/// Time that the runtime's threads get at the end.
const RUNTIME_END: Duration = Duration::from_secs(2);
/// The lock of an engine that was dropped goes with the last of its tasks.
const LOCK_TIME_MAX: Duration = Duration::from_secs(10);

/// Flags of `bench`.
#[derive(Debug, Clone, Args)]
pub(super) struct BenchArgs {
    /// About how long it takes
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// The data directory on whose disk to measure; it is not touched, and need not be there
    #[arg(long, env = "BOOKSTORE_DATA_DIR", value_name = "DIR", default_value = "snapshots")]
    data_dir: PathBuf,
    /// A directory to measure in, instead of beside the data
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
}

impl BenchArgs {
    fn share(&self, share: f64) -> Duration {
        Duration::from_secs(u64::from(self.seconds)).mul_f64(share)
    }
}

/// Measures, tells, and removes what it made, also after a signal.
pub(super) fn run(args: &BenchArgs) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::failure(scarce("cannot start the runtime", &error)))?;
    let mut signals = {
        let _in_runtime = runtime.enter();
        Signals::new().map_err(|error| Exit::failure(scarce("cannot listen for signals", &error)))?
    };
    let dir = match &args.dir {
        Some(dir) => WorkDir::within(dir)?,
        None => WorkDir::beside(&args.data_dir)?,
    };
    let measured = runtime.block_on(async {
        tokio::select! {
            measured = measure(args, dir.path()) => measured,
            signal = signals.next() => {
                let why = format!("{}: what it made is removed", signal.name);
                Err(Exit { status: signal.status(), why })
            }
        }
    });
    // Its tasks hold what is open in the directory.
    runtime.shutdown_timeout(RUNTIME_END);
    let removed = dir.remove();
    let report = measured?;
    removed?;
    if args.json { put(&report.json()) } else { put(&report.verdict()) }
}

fn failed(what: &str, why: &dyn std::fmt::Display) -> Exit {
    Exit::failure(format!("{what}: {why}; look at the disk of --dir, at memory and at the limits of `ulimit -a`"))
}

async fn measure(args: &BenchArgs, dir: &Path) -> Result<Report, Exit> {
    let began = Instant::now();
    let file_system = machine::file_system(dir);
    let table = Table::new(!args.json);
    table.head(args.seconds, dir, file_system)?;

    let disk = measure_disk(dir, args.share(DISK_SHARE)).await?;
    table.disk(&disk)?;
    let passwords = measure_passwords(args.share(PASSWORDS_SHARE)).await?;
    table.passwords(&passwords)?;

    let engine = open(Config::memory()).await?;
    shop::fill(&engine).await?;
    let memory = shop::load(&engine, CALLERS, args.share(MEMORY_SHARE)).await?;
    drop(engine);
    table.load("in process, in memory only", &memory)?;

    let data = dir.join("data");
    let engine = open(Config::directory(&data)).await?;
    shop::fill(&engine).await?;
    let alone = shop::load(&engine, 1, args.share(ALONE_SHARE)).await?;
    table.load("in process, durable", &alone)?;
    let sync = shop::load(&engine, CALLERS, args.share(SYNC_SHARE)).await?;
    table.load("in process, durable", &sync)?;
    let http = over_http::load(&engine, CONNECTIONS, args.share(HTTP_SHARE)).await?;
    table.load("over HTTP, durable", &http)?;
    let listed = books::list(&engine, args.share(LIST_SHARE)).await?;
    // Without `close`: what a crash leaves.
    drop(engine);

    let engine = open(Config::directory(&data)).await?;
    let recovery = Recovery::of(&engine.recovered());
    let orders = [&alone, &sync, &http].map(|load| load.orders).iter().sum();
    judge(&engine, orders).await?;
    engine.search_ready().await.map_err(|error| failed("the search index", &error))?;
    let search = books::search(&engine, listed, args.share(SEARCH_SHARE)).await?;
    table.search(&search)?;
    let written = engine.snapshot().await.map_err(|error| failed("a snapshot", &error))?;
    let snapshot = Snapshot::of(&written);
    table.snapshot(&snapshot)?;
    table.recovery(&recovery)?;
    drop(engine);

    let mut report = Report::new(dir, file_system, args.seconds);
    (report.disk, report.passwords) = (disk, passwords);
    (report.orders.memory, report.orders.alone, report.orders.sync, report.orders.http) = (memory, alone, sync, http);
    report.orders.durable = orders;
    (report.search, report.snapshot, report.recovery) = (search, snapshot, recovery);
    report.judge(began.elapsed());
    Ok(report)
}

/// Opens an engine; waits for the end of one that was dropped.
async fn open(config: Config) -> Result<Engine, Exit> {
    let began = Instant::now();
    loop {
        match Engine::open(config.clone()).await {
            Err(OpenError::Locked { .. }) if began.elapsed() < LOCK_TIME_MAX => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => return opened.map_err(|error| failed("cannot open an engine", &error)),
        }
    }
}

/// All that was acknowledged must be there after the crash, and money and copies must add up.
async fn judge(engine: &Engine, orders: u64) -> Result<(), Exit> {
    let audit = engine.audit().await.map_err(|error| failed("the audit", &error))?;
    if audit.orders != orders || !audit.is_conserved() {
        let found = audit.orders;
        let why = format!(
            "{orders} orders were acknowledged, {found} are there, and money and copies add up: {}",
            audit.is_conserved()
        );
        return Err(failed("the recovered shop is not what was written", &why));
    }
    Ok(())
}

async fn measure_disk(dir: &Path, time: Duration) -> Result<Times, Exit> {
    let path = dir.join("probe");
    let syncs = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        machine::measure_syncs(&path, BLOCKS, time).map(|syncs| (syncs, began.elapsed()))
    });
    match syncs.await {
        Ok(Ok((syncs, _))) => {
            // One after the other, so the rate is of their sum: making the file does not count.
            let took = Duration::from_micros(syncs.iter().map(|sync| u64::from(*sync)).sum());
            Ok(Times::of(syncs, took))
        }
        Ok(Err(error)) => Err(failed("the probe of the disk", &error)),
        Err(error) => Err(failed("the probe of the disk", &error)),
    }
}

/// Hashes as for a new password, on every core.
async fn measure_passwords(time: Duration) -> Result<Passwords, Exit> {
    let cores = report::cores();
    let began = Instant::now();
    let hash = move || {
        let mut hashes = 0;
        while hashes == 0 || began.elapsed() < time {
            PasswordHash::new(shop::PASSWORD.as_bytes(), PasswordParams::default())?;
            hashes += 1;
        }
        Ok::<u64, crate::PasswordError>(hashes)
    };
    let hashing: Vec<_> = (0..cores).map(|_| tokio::task::spawn_blocking(hash)).collect();
    let mut hashes = 0;
    for thread in hashing {
        let done = thread.await.map_err(|error| failed("password hashes", &error))?;
        hashes += done.map_err(|error| failed("password hashes", &error))?;
    }
    Ok(Passwords::of(hashes, began.elapsed()))
}
