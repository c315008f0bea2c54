//! `loadtest compare`: the bare server and the real one in turns, so that a busy neighbour on the machine slows both.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::Failure;
use crate::args::{Load, Pace, Scenario, parse_duration};
use crate::drive::drive;
use crate::machine::Machine;
use crate::report::{Latency, Report, Spread, to_f64, write_json};
use crate::run::conclude;
use crate::scenario::Plan;
use crate::server::{Durability, Journal, Server, ServerArgs, TemporaryDirectory};

/// Below this, in µs, a sync did not reach a disk.
const SYNC_US_PLAUSIBLE: u64 = 5;

/// Flags of `compare`.
#[derive(Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Where the data directories are made and removed: must be on the disk that is to be measured.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    temp_dir: PathBuf,
    /// How often each server is measured, started anew each time.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Connections that each send a request, wait for its answer, and send the next.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Time that is measured, for each server and scenario of a round.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    #[command(flatten)]
    load: Load,
    /// How long a server may take to start.
    #[arg(long, default_value = "2m", value_parser = parse_duration)]
    start_timeout: Duration,
    /// Write the result to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    Bare,
    Bookstore,
}

/// One measurement.
#[derive(Serialize)]
struct Sample {
    round: u32,
    server: Which,
    report: Report,
    /// Frames in an average journal batch, if the server tells.
    journal_frames_per_batch: Option<f64>,
    /// Average time of a journal sync, if the server tells.
    journal_sync_us: Option<f64>,
}

/// Everything, for the JSON file.
#[derive(Serialize)]
struct Comparison {
    machine: Machine,
    durability: Durability,
    summaries: Vec<Summary>,
    samples: Vec<Sample>,
}

/// Measures, prints, and says whether every audit of the real server agreed.
pub(crate) async fn compare(args: &CompareArgs) -> Result<bool, Failure> {
    let directory = TemporaryDirectory::new(&args.temp_dir)?;
    let machine = Machine::measure(directory.path())?;
    println!("{}", machine.line());
    if machine.sync_p50_us < SYNC_US_PLAUSIBLE {
        println!("warning: {} is not on a disk; name one that is with --temp-dir", args.temp_dir.display());
    }
    let mut samples = Vec::new();
    for round in 1..=args.rounds {
        // Each goes first in every other round.
        let turns = match round % 2 {
            1 => [Which::Bare, Which::Bookstore],
            _ => [Which::Bookstore, Which::Bare],
        };
        for server in turns {
            measure(args, round, server, &mut samples).await?;
        }
    }
    let summaries: Vec<_> = [Scenario::NewOrder, Scenario::Paid]
        .into_iter()
        .filter_map(|scenario| Summary::of(scenario, &samples))
        .collect();
    for summary in &summaries {
        summary.print(args.server.durability);
    }
    let sound = samples.iter().all(|sample| sample.report.sound());
    println!("{}", if sound { "every audit of bookstore agrees" } else { "NOT SOUND: see above" });
    let durability = args.server.durability;
    write_json(args.json.as_deref(), &Comparison { machine, durability, summaries, samples })?;
    Ok(sound)
}

/// Starts one server, measures both scenarios on it, stops it.
async fn measure(args: &CompareArgs, round: u32, which: Which, samples: &mut Vec<Sample>) -> Result<(), Failure> {
    let data = TemporaryDirectory::new(&args.temp_dir)?;
    let server = match which {
        Which::Bare => Server::start_bare(args.start_timeout).await?,
        Which::Bookstore => Server::start_real(&args.server, data.path(), &[], args.start_timeout).await?,
    };
    for scenario in [Scenario::NewOrder, Scenario::Paid] {
        let sample = measure_scenario(args, round, which, &server, scenario).await?;
        print!("round {round}, {which:?}, {}", sample.report);
        samples.push(sample);
    }
    server.stop().await
}

async fn measure_scenario(
    args: &CompareArgs,
    round: u32,
    which: Which,
    server: &Server,
    scenario: Scenario,
) -> Result<Sample, Failure> {
    let pace = Pace { connections: args.connections, duration: args.duration };
    let plan = Arc::new(Plan::set_up(server.target.clone(), &args.load).await?);
    // After the set-up, whose lonely requests would make the average batch look small.
    let before = Journal::scrape(&server.target).await;
    let measured = drive(&plan, &args.load, pace, scenario, Some(server.pid)).await?;
    let after = Journal::scrape(&server.target).await;
    let report = conclude(&plan, pace, scenario, &measured, which == Which::Bookstore).await?;
    let journal = before.zip(after);
    Ok(Sample {
        round,
        server: which,
        report,
        journal_frames_per_batch: journal.and_then(|(before, after)| after.frames_per_batch_since(before)),
        journal_sync_us: journal.and_then(|(before, after)| after.sync_us_since(before)),
    })
}

/// The rounds of one server in one scenario.
#[derive(Serialize)]
struct Row {
    operations_per_second: Spread,
    new_order_p99_us: Option<Spread>,
    payment_p99_us: Option<Spread>,
    server_cpu_us_per_request: Option<Spread>,
    journal_frames_per_batch: Option<Spread>,
    journal_sync_us: Option<Spread>,
}

impl Row {
    fn of(samples: &[&Sample]) -> Option<Self> {
        let spread = |figure: &dyn Fn(&Sample) -> Option<f64>| {
            Spread::of(samples.iter().filter_map(|sample| figure(sample)).collect())
        };
        let p99 = |latency: &Option<Latency>| latency.as_ref().map(|latency| to_f64(latency.p99_us));
        Some(Self {
            operations_per_second: spread(&|sample| Some(sample.report.operations_per_second))?,
            new_order_p99_us: spread(&|sample| p99(&sample.report.new_order)),
            payment_p99_us: spread(&|sample| p99(&sample.report.payment)),
            server_cpu_us_per_request: spread(&|sample| sample.report.server_cpu_us_per_request),
            journal_frames_per_batch: spread(&|sample| sample.journal_frames_per_batch),
            journal_sync_us: spread(&|sample| sample.journal_sync_us),
        })
    }

    fn print(&self, name: &str) {
        println!("  {name}");
        let line = |label: &str, spread: Option<Spread>, digits: usize| {
            if let Some(spread) = spread {
                println!("    {label:<30} {}", spread.show(digits));
            }
        };
        line("operations/s", Some(self.operations_per_second), 0);
        line("new_order p99, µs", self.new_order_p99_us, 0);
        line("payment p99, µs", self.payment_p99_us, 0);
        line("server CPU, µs a request", self.server_cpu_us_per_request, 1);
        line("journal frames a batch", self.journal_frames_per_batch, 1);
        line("journal sync, µs on average", self.journal_sync_us, 0);
    }
}

/// Both servers in one scenario.
#[derive(Serialize)]
struct Summary {
    scenario: Scenario,
    bare: Row,
    bookstore: Row,
    /// Operations a second of bookstore by those of bare, from the same round.
    ratio_to_bare: Spread,
}

impl Summary {
    fn of(scenario: Scenario, samples: &[Sample]) -> Option<Self> {
        let of = |which: Which| -> Vec<&Sample> {
            samples.iter().filter(|sample| sample.server == which && sample.report.scenario == scenario).collect()
        };
        let (bare, bookstore) = (of(Which::Bare), of(Which::Bookstore));
        let ratios = bookstore
            .iter()
            .filter_map(|mine| {
                let theirs = bare.iter().find(|theirs| theirs.round == mine.round)?;
                let bare_per_second = theirs.report.operations_per_second;
                (bare_per_second > 0.0).then(|| mine.report.operations_per_second / bare_per_second)
            })
            .collect();
        Some(Self {
            scenario,
            bare: Row::of(&bare)?,
            bookstore: Row::of(&bookstore)?,
            ratio_to_bare: Spread::of(ratios)?,
        })
    }

    fn print(&self, durability: Durability) {
        println!("\n{}: median (least to most) over the rounds", self.scenario);
        self.bare.print("bare hyper");
        self.bookstore.print(&format!("bookstore, --durability {}", durability.word()));
        println!("  ratio to bare                    {}\n", self.ratio_to_bare.show(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ConnectionMode;

    fn sample(round: u32, server: Which, operations_per_second: f64) -> Sample {
        let report = Report {
            scenario: Scenario::NewOrder,
            connections: 1,
            connection: ConnectionMode::Kept,
            seconds: 1.0,
            operations: 1,
            operations_per_second,
            requests: 1,
            requests_per_second: operations_per_second,
            new_order: None,
            payment: None,
            refund: None,
            errors: std::collections::BTreeMap::new(),
            server_cpu_us_per_request: None,
            client_cpu_us_per_request: None,
            audit: None,
        };
        Sample { round, server, report, journal_frames_per_batch: Some(8.0), journal_sync_us: None }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let samples = [
            sample(1, Which::Bare, 100.0),
            sample(1, Which::Bookstore, 50.0),
            sample(2, Which::Bookstore, 15.0),
            sample(2, Which::Bare, 20.0),
        ];
        let summary = Summary::of(Scenario::NewOrder, &samples).unwrap();
        assert_eq!(summary.ratio_to_bare, Spread { median: 0.625, min: 0.5, max: 0.75 });
        assert_eq!(summary.bare.operations_per_second.median, 60.0);
        assert_eq!(summary.bookstore.journal_sync_us, None);
        assert!(Summary::of(Scenario::Paid, &samples).is_none());
    }
}
