//! `loadtest run`: one run against a server that is there already.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::Failure;
use crate::args::{Load, Pace, Scenario, parse_duration, parse_percent, parse_rate};
use crate::audit::{self, AuditReport};
use crate::baseline::{Baseline, Comparison, Kind};
use crate::client::Target;
use crate::counts::{Counts, Measured, Window, cpu_in};
use crate::document::{Document, JournalSecond, LoadShown, OpenShown, SCHEMA, percentiles};
use crate::drive::drive_shown;
use crate::environment::Environment;
use crate::html;
use crate::live::{Live, Ticker};
use crate::machine;
use crate::market::Market;
use crate::open::{self, Generator, Rest};
use crate::report::{Latency, Report, to_f64, write_json};
use crate::scenario::Plan;
use crate::server::Journal;
use crate::traffic::Shop;

/// Connections of a closed loop unless said otherwise.
const CONNECTIONS_CLOSED: u32 = 64;
/// Connections of an open loop unless said otherwise: as many requests may be under way.
const CONNECTIONS_OPEN: u32 = 256;
/// A generator that sends one in a hundred later than this after it was due measures itself.
const LATE_US_MAX: u64 = 1_000;

/// Flags of `run`.
#[derive(Args)]
pub(crate) struct RunArgs {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:5000")]
    url: String,
    /// What is done with each order.
    #[arg(long, value_enum, default_value = "paid")]
    scenario: Scenario,
    /// An open loop: so many requests a second are due (`5000/s`), at random moments, whether or not earlier ones were
    /// answered. Without it the loop is closed.
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Closed loop: connections that each send a request, wait for its answer, and send the next [default: 64]. Open
    /// loop: as many requests may be under way [default: 256].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: Option<u32>,
    /// Time that is measured (`10s`, `500ms`, `2m`).
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    output: OutputArgs,
    /// Do not compare stock and balances with what was acknowledged.
    #[arg(long)]
    no_audit: bool,
}

/// What is told, and where.
#[derive(Args)]
#[command(next_help_heading = "The report")]
struct OutputArgs {
    /// Process id of the server, to tell its flags, and the CPU time a request costs it with all that it has started.
    #[arg(long)]
    pid: Option<u32>,
    /// Where the latency of a disk sync is measured first: should be on the disk of the server's data.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    temp_dir: PathBuf,
    /// Write the result to this file (docs/loadtest-json.md).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the result as one page with charts that needs no other file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Compare with an earlier run, which was written with --json.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Exit status 1 if it is worse than the baseline: answers 200 or operations a second, or p99, over all or of a
    /// route with 100 answers, by more than this (`10%`), or the share of errors by more than 0.1 percentage points. Exit
    /// status 2, before anything is sent, if the baseline is of another load.
    #[arg(long, value_name = "N%", requires = "baseline", value_parser = parse_percent)]
    fail_on_regression: Option<f64>,
    /// No progress on standard error.
    #[arg(long)]
    quiet: bool,
}

impl RunArgs {
    fn connections(&self) -> u32 {
        let default = if self.rate.is_some() { CONNECTIONS_OPEN } else { CONNECTIONS_CLOSED };
        self.connections.unwrap_or(default)
    }

    /// What must be the same in a run to compare with.
    fn kind(&self) -> Kind {
        Kind {
            mix: self.load.mix,
            scenario: self.scenario,
            connections: self.connections(),
            connection: self.load.connection,
        }
    }
}

/// Sets up, loads, prints, audits. `false` if nothing was sold, the audit disagrees, or it is worse than permitted.
pub(crate) async fn run(args: &RunArgs) -> Result<bool, Failure> {
    machine::raise_open_files()?;
    let target = Target::resolve(&args.url).await?;
    let output = &args.output;
    let shown = LoadShown::new(&args.load, args.rate);
    let baseline = match &output.baseline {
        // Now, not when all the work is done.
        Some(file) => Some(Baseline::read(file, output.fail_on_regression, &shown, &args.kind())?),
        None => None,
    };
    let environment = Environment::look(&output.temp_dir, &args.url, &target, output.pid).await?;
    let live = Arc::new(Live::default());
    let ticker = (!output.quiet).then(|| Ticker::start(Arc::clone(&live)));
    let loaded = load(args, target, &live).await;
    if let Some(ticker) = ticker {
        ticker.end();
    }
    let Loaded { measured, open, report, journal } = loaded?;
    let baseline = baseline.map(|baseline| baseline.compare(&report));
    let document = Document {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        environment,
        load: shown,
        open,
        percentiles: percentiles(measured.all_us().as_ref()),
        series: measured.series,
        result: report,
        journal,
        baseline,
    };
    print(&document);
    write_files(output, &document)?;
    Ok(document.result.sound() && document.baseline.as_ref().is_none_or(Comparison::holds))
}

/// Writes what is wanted; one that cannot be written does not prevent the other.
fn write_files(output: &OutputArgs, document: &Document) -> Result<(), Failure> {
    let json = write_json(output.json.as_deref(), document);
    let html = match &output.html {
        Some(file) => {
            std::fs::write(file, html::page(document)).map_err(|error| format!("{}: {error}", file.display()).into())
        }
        None => Ok(()),
    };
    match (json, html) {
        (Err(json), Err(html)) => Err(format!("{json}; {html}").into()),
        (json, html) => json.and(html),
    }
}

/// What a load leaves behind.
struct Loaded {
    measured: Measured,
    open: Option<OpenShown>,
    report: Report,
    journal: Option<Vec<JournalSecond>>,
}

async fn load(args: &RunArgs, target: Target, live: &Arc<Live>) -> Result<Loaded, Failure> {
    let plan = Arc::new(Plan::set_up_shown(target, &args.load, live).await?);
    let market = match args.no_audit {
        true => None,
        false => Some(Market::open(&plan.target, args.load.seed).await),
    };
    let connections = args.connections();
    let pace = Pace { connections, duration: args.duration };
    let (measured, open, journal) = match args.rate {
        None => {
            let window = Window::after(args.load.warmup, args.duration);
            let journal = watch_journal(plan.target.clone(), window);
            let pid = args.output.pid;
            let measured = drive_shown(&plan, &args.load, connections, args.scenario, pid, window, live).await?;
            (measured, None, journal)
        }
        Some(rate) => {
            let (measured, open, journal) = drive_open(args, &plan, connections, rate, live)?;
            (measured, Some(open), journal)
        }
    };
    live.audit_begins();
    let mut report = conclude(&plan, pace, args.scenario, &measured, !args.no_audit).await?;
    if let (Some(market), Some(audit)) = (market, &mut report.audit) {
        market.close(audit).await;
    }
    Ok(Loaded { measured, open, report, journal: journal.await? })
}

type JournalTask = tokio::task::JoinHandle<Option<Vec<JournalSecond>>>;

/// The open loop runs on the thread that calls.
fn drive_open(
    args: &RunArgs,
    plan: &Arc<Plan>,
    connections: u32,
    rate: f64,
    live: &Arc<Live>,
) -> Result<(Measured, OpenShown, JournalTask), Failure> {
    let seed = args.load.seed;
    let window = Window::after(args.load.warmup, args.duration);
    let counts = Counts::new(plan, args.scenario, window, live)?;
    let shop = Shop::new(Arc::clone(plan), args.scenario, seed, counts);
    let mut generator = Generator::connect(plan.target.address, connections as usize, shop, seed, false)?;
    // Now that all are connected: the time begins here.
    let window = Window::after(args.load.warmup, args.duration);
    generator.traffic.ledger = Counts::new(plan, args.scenario, window, live)?;
    live.load_begins(window.start, window.end);
    let journal = watch_journal(plan.target.clone(), window);
    let pid = args.output.pid;
    let cpu = std::thread::spawn(move || cpu_in(window, pid));
    let pace = open::Pace::Open { per_second: rate };
    // One after the other without a gap, so that nothing is lost if this thread does not run when one ends.
    generator.phase_from(window.start - args.load.warmup, pace, args.load.warmup, false)?;
    let phase = generator.phase_from(window.start, pace, args.duration, false)?;
    generator.settle(args.load.timeout, Rest::Sent)?;
    let figures = generator.figures(phase);
    let open = OpenShown {
        due: figures.due,
        waited_for_a_connection: figures.waited,
        dropped: figures.dropped,
        generator_late: Latency::of(&figures.late_us),
    };
    let cpu = cpu.join().unwrap_or_default();
    Ok((generator.traffic.ledger.finish(cpu), open, journal))
}

/// Looks at the server's metrics at each second of the measured time, as long as it has any.
fn watch_journal(target: Target, window: Window) -> JournalTask {
    tokio::spawn(async move {
        let mut seconds = Vec::new();
        let mut before: Option<Journal> = None;
        let mut due = window.start;
        while due <= window.end {
            tokio::time::sleep_until(due.into()).await;
            let now = Journal::scrape(&target).await?;
            if let Some(before) = before {
                seconds.push(JournalSecond {
                    second: window.start.elapsed().as_secs_f64(),
                    frames_per_batch: now.frames_per_batch_since(before),
                    sync_us: now.sync_us_since(before),
                });
            }
            before = Some(now);
            due += Duration::from_secs(1);
        }
        Some(seconds)
    })
}

/// Audits, if wanted, and makes the report. An audit that cannot be done, since the server has gone, does not take the
/// figures with it.
pub(crate) async fn conclude(
    plan: &Plan,
    pace: Pace,
    scenario: Scenario,
    measured: &Measured,
    wants_audit: bool,
) -> Result<Report, Failure> {
    let audit = match wants_audit {
        true => {
            let audited = audit::audit(plan, &measured.tally).await;
            Some(audited.unwrap_or_else(|why| AuditReport::impossible(&measured.tally, &why)))
        }
        false => None,
    };
    Ok(Report::new(pace, plan, scenario, measured, audit))
}

/// For people.
fn print(document: &Document) {
    println!("{}", document.environment.machine.line());
    print!("{}", document.result);
    if let Some(open) = &document.open {
        println!(
            "  open loop {} requests due, {:.0} a second; {} found every connection occupied, {} were never sent",
            open.due,
            document.load.rate_per_second.unwrap_or_default(),
            open.waited_for_a_connection,
            open.dropped
        );
        if let Some(text) = open.never_sent() {
            println!("  warning   {text}");
        }
        if let Some(late) = open.generator_late.as_ref().filter(|late| late.p99_us > LATE_US_MAX) {
            println!("  warning   the generator fell behind its schedule, and that is in the figures: {late}");
        }
    }
    let average = |figure: &dyn Fn(&JournalSecond) -> Option<f64>| {
        let figures: Vec<f64> = document.journal.iter().flatten().filter_map(figure).collect();
        (!figures.is_empty()).then(|| figures.iter().sum::<f64>() / to_f64(figures.len() as u64))
    };
    if let Some(frames) = average(&|second| second.frames_per_batch) {
        let sync = average(&|second| second.sync_us).map_or_else(String::new, |us| format!(", {us:.0} µs a sync"));
        println!("  journal   {frames:.1} events a batch{sync}");
    }
    if let Some(baseline) = &document.baseline {
        print!("{baseline}");
    }
}
