//! `loadtest run`: one run against a server that is there already.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::Failure;
use crate::args::{Load, Pace, Scenario, parse_duration};
use crate::audit;
use crate::client::Target;
use crate::drive::{Measured, drive};
use crate::market::Market;
use crate::report::{Report, write_json};
use crate::scenario::Plan;

/// Flags of `run`.
#[derive(Args)]
pub(crate) struct RunArgs {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:5000")]
    url: String,
    /// What each connection does over and over.
    #[arg(long, value_enum, default_value = "paid")]
    scenario: Scenario,
    /// Connections that each send a request, wait for its answer, and send the next.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Time that is measured (`10s`, `500ms`, `2m`).
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    #[command(flatten)]
    load: Load,
    /// Process id of the server, to print the CPU time a request costs it.
    #[arg(long)]
    pid: Option<u32>,
    /// Write the result to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Do not compare stock and balances with what was acknowledged.
    #[arg(long)]
    no_audit: bool,
}

/// Sets up, loads, prints, audits. `false` if nothing was sold or the audit disagrees.
pub(crate) async fn run(args: &RunArgs) -> Result<bool, Failure> {
    let target = Target::resolve(&args.url).await?;
    let plan = Arc::new(Plan::set_up(target, &args.load).await?);
    let market = match args.no_audit {
        true => None,
        false => Some(Market::open(&plan.target, args.load.seed).await),
    };
    let pace = Pace { connections: args.connections, duration: args.duration };
    let measured = drive(&plan, &args.load, pace, args.scenario, args.pid).await?;
    let mut report = conclude(&plan, pace, args.scenario, &measured, !args.no_audit).await?;
    if let (Some(market), Some(audit)) = (market, &mut report.audit) {
        market.close(audit).await;
    }
    print!("{report}");
    write_json(args.json.as_deref(), &report)?;
    Ok(report.sound())
}

/// Audits, if wanted, and makes the report.
pub(crate) async fn conclude(
    plan: &Plan,
    pace: Pace,
    scenario: Scenario,
    measured: &Measured,
    wants_audit: bool,
) -> Result<Report, Failure> {
    let audit = match wants_audit {
        true => Some(audit::audit(plan, &measured.counts.tally).await?),
        false => None,
    };
    Ok(Report::new(pace, plan.mode, scenario, measured, audit))
}
