//! `bookstore check`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::{Exit, scarce};
use super::progress::{ProgressLines, rate};
use crate::engine::offline::{CheckError, CheckReport, check};

/// Flags of `check`.
#[derive(Debug, Clone, Args)]
pub(super) struct CheckArgs {
    /// The data directory
    #[arg(env = "BOOKSTORE_DATA_DIR", value_name = "DIR", default_value = "snapshots")]
    dir: PathBuf,
    /// Say nothing but what is damaged
    #[arg(long, short)]
    quiet: bool,
}

/// Checks and prints what was found.
pub(super) fn run(args: &CheckArgs) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::not_checked(scarce("cannot start the runtime", &error)))?;
    let checked = runtime.block_on(check(&args.dir, ProgressLines::shared(args.quiet)));
    let report = checked.map_err(|error| Exit::not_checked(format!("not checked: {error}; {}", advice(&error))))?;
    runtime.shutdown_background();
    super::progress::put(&told_of(&report, &args.dir, args.quiet))?;
    match report.findings.len() {
        0 => Ok(()),
        count => Err(Exit::failure(format!(
            "damaged, findings: {count}. Nothing was changed; keep the directory as it is and restore a backup, or see what \
             `bookstore repair` would do"
        ))),
    }
}

/// What to do about an error.
fn advice(error: &CheckError) -> &'static str {
    match error {
        CheckError::Locked { .. } => "wait for its end, or end that process, or check a copy of the directory",
        CheckError::NoData(_) => "name the directory that `bookstore serve` has as --data-dir",
        CheckError::OtherVersion(_) => "check it with that version",
        CheckError::Unreadable(_) => "look at its owner and mode, and at its disk; then check again",
    }
}

/// What is said of a report.
pub(super) fn told_of(report: &CheckReport, dir: &Path, quiet: bool) -> String {
    let mut text = String::new();
    if !quiet {
        text.push_str(&summary(report, dir));
        for note in &report.notes {
            text.push_str(&format!("note: {note}\n"));
        }
    }
    for finding in &report.findings {
        text.push_str(&format!("damaged: {finding}\n"));
    }
    if !quiet && report.is_sound() {
        text.push_str("sound\n");
    }
    text
}

fn summary(report: &CheckReport, dir: &Path) -> String {
    let mut text = format!(
        "read {}: {} snapshots with {} rows, {} journal segments, {} frames, {} orders at rest, {} documents; {} bytes in {:.1} s\n",
        dir.display(),
        report.snapshots,
        report.snapshot_rows,
        report.segments,
        report.frames,
        report.resting_orders,
        report.documents,
        report.bytes,
        report.took.as_secs_f64(),
    );
    if let (Some(recovered), Some(audit)) = (&report.recovered, &report.audit) {
        let snapshot = recovered.snapshot.as_ref().and_then(|path| path.file_name());
        let snapshot = snapshot.map_or_else(|| "none".into(), |name| name.to_string_lossy());
        text.push_str(&format!(
            "recovered {} accounts, {} stores, {} orders: snapshot {snapshot}, {} events replayed, newest event {}\n",
            audit.accounts, audit.stores, audit.orders, recovered.replayed_events, report.last_lsn,
        ));
        text.push_str(&format!(
            "money: balances {} + held by the platform {} = put in {}\n",
            audit.balances, audit.escrow, audit.net_put_in
        ));
        text.push_str(&format!(
            "copies: on shelves {} + in orders {} = put in {}\n",
            audit.stock, audit.ordered, audit.stock_put_in
        ));
        text.push_str(&format!("state hash {:032x}\n", audit.state_hash));
    }
    let things = report.snapshot_rows + report.frames + report.resting_orders + report.documents;
    let megabytes = report.bytes as f64 / 1e6 / report.took.as_secs_f64().max(1e-3);
    text.push_str(&format!(
        "{} rows, frames, orders at rest and documents, {megabytes:.0} MB/s\n",
        rate(things, report.took)
    ));
    text
}
