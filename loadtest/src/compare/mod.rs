//! `loadtest compare`: this service beside the limit and beside what people would use instead, in turns, so that a busy
//! neighbour on the machine slows them all.
//!
//! - `contender`: who they are, and how to get what is not installed.
//! - `http`: those that speak HTTP, under the load of `drive`.
//! - `postgres`, `redis`: those that do not, with the same shop (`shop`).
//! - `process`: programs that are found, started, ended, and the CPU time of all their processes.
//! - `table`: medians, ranges and ratios, for people, as Markdown and as JSON.

mod contender;
mod http;
mod postgres;
mod process;
mod redis;
mod shop;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use contender::{Contender, Installed};
use postgres::{Bench, CLIENTS, Cluster};
use redis::{Fsync, Redis};
use shop::Shop;
use table::{Sample, Table};

use crate::Failure;
use crate::args::{Load, Scenario, parse_duration};
use crate::machine::Machine;
use crate::mix::Mix;
use crate::report::{Latency, write_json};
use crate::server::{Program, TemporaryDirectory};

/// Below this, in µs, a sync did not reach a disk.
const SYNC_US_PLAUSIBLE: u64 = 5;
/// How long each number of clients is tried at most.
const TRIAL: Duration = Duration::from_secs(2);
/// Of the JSON file: raised when a field changes its meaning or goes.
const SCHEMA: u32 = 1;

/// Flags of `compare`.
#[derive(Args)]
pub(crate) struct CompareArgs {
    /// Who is measured; everybody, if not given. What is not installed is skipped.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Contender>,
    /// What is measured: new-order (one request) and paid (two requests). PostgreSQL's and Redis' functions have paid only.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["new-order", "paid"])]
    scenario: Vec<Scenario>,
    #[command(flatten)]
    program: Program,
    /// Where the data directories are made and removed: must be on the disk that is to be measured.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    temp_dir: PathBuf,
    /// How often each is measured, started anew each time.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Connections that each send a request, wait for its answer, and send the next. Redis has always 50.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Time that is measured, for each contender and scenario of a round.
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    duration: Duration,
    #[command(flatten)]
    load: Load,
    /// How long a server may take to start.
    #[arg(long, default_value = "2m", value_parser = parse_duration)]
    start_timeout: Duration,
    /// Where initdb, postgres, pgbench and psql are; if not given, they are looked for in PATH and where Debian puts them.
    #[arg(long, value_name = "DIR")]
    postgres_bin: Option<PathBuf>,
    /// Clients of pgbench; if not given, 4, 8, 16, 32 and 64 are tried and the best is measured.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=190))]
    postgres_clients: Option<u32>,
    /// redis-server; if not given, it is looked for in PATH.
    #[arg(long, value_name = "PATH")]
    redis: Option<PathBuf>,
    /// The axum server; if not given, `axum-postgres` beside this program. Built from the root of the repository with
    /// `cargo build --release --manifest-path loadtest/axum-postgres/Cargo.toml --target-dir target`.
    #[arg(long, value_name = "PATH")]
    axum: Option<PathBuf>,
    /// Its connections to PostgreSQL.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=190))]
    axum_pool: u32,
    /// Write everything to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables to this file, as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Who is left out, and why.
#[derive(Serialize)]
struct Skipped {
    contender: Contender,
    why: String,
}

/// Everything, for the JSON file.
#[derive(Serialize)]
struct Comparison {
    schema: u32,
    command: String,
    machine: Machine,
    skipped: Vec<Skipped>,
    /// How pgbench did with each number of clients.
    postgres_trials: Vec<Bench>,
    tables: Vec<Table>,
    samples: Vec<Sample>,
}

/// Measures, prints, and says whether every audit agreed. What was started is stopped and removed, whatever ends it.
pub(crate) async fn compare(args: &CompareArgs) -> Result<bool, Failure> {
    if let Some(other) = args.scenario.iter().find(|scenario| !matches!(scenario, Scenario::NewOrder | Scenario::Paid))
    {
        return Err(format!("{other} is nothing that all of them can do: new-order or paid").into());
    }
    if !matches!(args.load.mix, Mix::Reference | Mix::Uniform | Mix::Catalogue) {
        return Err(format!("of a mix {} not all do the same: reference, uniform or catalogue", args.load.mix).into());
    }
    let machine = Machine::measure(TemporaryDirectory::new(&args.temp_dir)?.path())?;
    println!("{}", machine.line());
    if machine.sync_p50_us < SYNC_US_PLAUSIBLE {
        println!("warning: {} is not on a disk; name one that is with --temp-dir", args.temp_dir.display());
    }
    let installed = Installed::find(args)?;
    let (contenders, skipped) = choose(args, &installed);
    for Skipped { contender, why } in &skipped {
        println!("skipped: {contender}: {why}");
    }
    if contenders.is_empty() {
        return Err("nothing of it can be measured here".into());
    }
    if contenders.iter().any(|contender| contender.durability().is_some()) {
        // Better now than after the others.
        args.program.path()?;
    }
    let mut run = Run { args, installed, trials: Vec::new(), samples: Vec::new() };
    for round in 1..=args.rounds {
        // Forwards and backwards, so that nobody is always the one after the most writing.
        let turns: Vec<Contender> = match round % 2 {
            1 => contenders.clone(),
            _ => contenders.iter().rev().copied().collect(),
        };
        for contender in turns {
            for sample in run.measure(round, contender).await? {
                println!("round {round}: {sample}");
                run.samples.push(sample);
            }
        }
    }
    let Run { trials, samples, .. } = run;
    let tables: Vec<Table> = args.scenario.iter().filter_map(|scenario| Table::of(*scenario, &samples)).collect();
    for table in &tables {
        print!("\n{table}");
    }
    let sound = samples.iter().all(Sample::sound);
    println!("\n{}", if sound { "every audit agrees" } else { "NOT SOUND: see above" });
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    if let Some(file) = &args.markdown {
        let mut text = format!("`loadtest {command}`\n\n{}\n", machine.line());
        tables.iter().for_each(|table| text.push_str(&format!("\n{}", table.markdown())));
        for Skipped { contender, why } in &skipped {
            text.push_str(&format!("\nNot measured: {contender}: {why}\n"));
        }
        std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let all = Comparison { schema: SCHEMA, command, machine, skipped, postgres_trials: trials, tables, samples };
    write_json(args.json.as_deref(), &all)?;
    Ok(sound)
}

/// Who is measured, and who is not.
fn choose(args: &CompareArgs, installed: &Installed) -> (Vec<Contender>, Vec<Skipped>) {
    let mut contenders = Vec::new();
    let mut skipped = Vec::new();
    for contender in Contender::value_variants() {
        let is_wanted = match args.only.is_empty() {
            true => args.load.keys || *contender != Contender::Keyed,
            false => args.only.contains(contender),
        };
        let has_work = args.scenario.iter().any(|scenario| contender.does(*scenario));
        match installed.missing(*contender, args.load.connection) {
            _ if !is_wanted || !has_work => {}
            Some(why) => skipped.push(Skipped { contender: *contender, why }),
            None => contenders.push(*contender),
        }
    }
    (contenders, skipped)
}

struct Run<'a> {
    args: &'a CompareArgs,
    installed: Installed,
    trials: Vec<Bench>,
    samples: Vec<Sample>,
}

impl Run<'_> {
    async fn measure(&mut self, round: u32, contender: Contender) -> Result<Vec<Sample>, Failure> {
        let fsync = match contender {
            Contender::Postgres => return Ok(vec![self.measure_postgres(round).await?]),
            Contender::RedisAlways => Fsync::Always,
            Contender::RedisEverysec => Fsync::EverySecond,
            _ => return http::measure(self.args, &self.installed, round, contender).await,
        };
        Ok(vec![self.measure_redis(round, contender, fsync).await?])
    }

    async fn measure_postgres(&mut self, round: u32) -> Result<Sample, Failure> {
        let programs = self.installed.postgres.as_ref().ok_or("PostgreSQL is not there")?;
        let (args, shop) = (self.args, Shop::new(&self.args.load)?);
        let cluster = Cluster::start(programs, &args.temp_dir, args.start_timeout).await?;
        cluster.fill(&shop).await?;
        let mut paid = 0;
        let clients = match (args.postgres_clients, best(&self.trials)) {
            (Some(clients), _) | (None, Some(clients)) => clients,
            (None, None) => {
                paid += cluster.bench(CLIENTS[0], args.load.warmup).await?.paid;
                // Up and down again, so that nobody's only chance is the first or the last.
                for clients in CLIENTS.into_iter().chain(CLIENTS.into_iter().rev()) {
                    let bench = cluster.bench(clients, args.duration.min(TRIAL)).await?;
                    println!("pgbench with {clients} clients: {:.0} paid orders/s", bench.paid_per_second);
                    paid += bench.paid;
                    self.trials.push(bench);
                }
                best(&self.trials).unwrap_or(CLIENTS[0])
            }
        };
        paid += cluster.bench(clients, args.load.warmup).await?.paid;
        let bench = cluster.bench(clients, args.duration).await?;
        let wrong = cluster.audit(&shop, paid + bench.paid).await?;
        let cpu_us = bench.server_cores.map(|cores| cores * 1e6 / bench.paid_per_second);
        Ok(Sample {
            clients,
            operations_per_second: bench.paid_per_second,
            // The order and its payment.
            requests_per_second: 2.0 * bench.paid_per_second,
            cpu_us_per_request: cpu_us.map(|us| us / 2.0),
            cpu_us_per_operation: cpu_us,
            wrong,
            ..Sample::empty(round, Contender::Postgres, Scenario::Paid)
        })
    }

    async fn measure_redis(&self, round: u32, contender: Contender, fsync: Fsync) -> Result<Sample, Failure> {
        let binary = self.installed.redis.as_ref().ok_or("Redis is not there")?;
        let (args, shop) = (self.args, Shop::new(&self.args.load)?);
        let redis = Redis::start(binary, &args.temp_dir, fsync, args.start_timeout).await?;
        let measured = redis.measure(&shop, &args.load, args.duration).await?;
        let cpu_us = measured.server_cores.filter(|_| measured.paid_per_second > 0.0);
        let cpu_us = cpu_us.map(|cores| cores * 1e6 / measured.paid_per_second);
        Ok(Sample {
            clients: redis::CLIENTS,
            operations_per_second: measured.paid_per_second,
            requests_per_second: measured.paid_per_second,
            cpu_us_per_request: cpu_us,
            cpu_us_per_operation: cpu_us,
            p99_us: Latency::of(&measured.latency_us).map(|latency| latency.p99_us),
            wrong: measured.wrong,
            ..Sample::empty(round, contender, Scenario::Paid)
        })
    }
}

/// The number of clients with which pgbench did most.
fn best(trials: &[Bench]) -> Option<u32> {
    let best = trials.iter().max_by(|a, b| a.paid_per_second.total_cmp(&b.paid_per_second))?;
    Some(best.clients)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_number_of_clients_is_taken() {
        let bench =
            |clients, paid_per_second| Bench { clients, paid: 1, paid_per_second, average_ms: 1.0, server_cores: None };
        assert_eq!(best(&[bench(4, 1.0), bench(8, 3.0), bench(16, 2.0)]), Some(8));
        assert_eq!(best(&[]), None);
    }
}
