//! `loadtest snapshot-p99`: what running snapshots cost those who order meanwhile.
//!
//! Phases with snapshots forced one after the other and phases with none alternate. Each phase gets its own copy of
//! the same data directory, so all begin with the same state.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::Failure;
use crate::args::{Load, Pace, Scenario, parse_duration};
use crate::calls::Route;
use crate::drive::drive;
use crate::report::{Report, Spread, to_f64, write_json};
use crate::run::conclude;
use crate::scenario::Plan;
use crate::server::{Server, ServerArgs, TemporaryDirectory};

/// Pause between two looks at the snapshot files.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Flags of `snapshot-p99`.
#[derive(Args)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// A data directory that no server uses; each phase runs on a copy of it. Empty if left out.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where the copies are made and removed.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    temp_dir: PathBuf,
    /// `--snapshot-interval` of the phases with snapshots.
    #[arg(long, default_value = "1s")]
    interval: String,
    /// How often each kind of phase is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Connections that each send a new_order, wait for its answer, and send the next.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Time that is measured in each phase.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    #[command(flatten)]
    load: Load,
    /// How long the server may take to start, recovery included.
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    start_timeout: Duration,
    /// Write the result to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One phase.
#[derive(Serialize)]
struct Phase {
    round: u32,
    with_snapshots: bool,
    /// Snapshot files that appeared while the load ran, warm-up included.
    snapshots: usize,
    report: Report,
}

impl Phase {
    fn p99_us(&self) -> Option<f64> {
        self.report.routes.get(&Route::NewOrder).map(|latency| to_f64(latency.p99_us))
    }
}

/// p99 of new_order over the rounds.
#[derive(Serialize)]
struct Result99 {
    without_us: Spread,
    with_us: Spread,
    /// With by without, from the same round.
    ratio: Spread,
}

/// Measures and prints; `false` if an audit disagrees or the snapshots did not run as they should.
pub(crate) async fn measure(args: &SnapshotArgs) -> Result<bool, Failure> {
    let mut phases = Vec::new();
    for round in 1..=args.rounds {
        // Each goes first in every other round.
        for with_snapshots in [round % 2 == 0, round % 2 == 1] {
            let phase = run_phase(args, round, with_snapshots).await?;
            let kind = if with_snapshots { "with snapshots" } else { "without" };
            print!("round {round}, {kind} ({} published), {}", phase.snapshots, phase.report);
            phases.push(phase);
        }
    }
    let result = Result99::of(&phases).ok_or("not one new_order was acknowledged in some phase")?;
    println!("\np99 of new_order, µs, {} connections: median (least to most) over the rounds", args.connections);
    println!("  without snapshots   {}", result.without_us.show(0));
    println!("  with snapshots      {}", result.with_us.show(0));
    println!("  ratio               {}", result.ratio.show(2));
    let mut sound = phases.iter().all(|phase| phase.report.sound());
    if phases.iter().any(|phase| phase.with_snapshots && phase.snapshots == 0) {
        println!("NOT SOUND: a phase with snapshots published none");
        sound = false;
    }
    if phases.iter().any(|phase| !phase.with_snapshots && phase.snapshots > 0) {
        // A server may also write one when its journal has grown; that makes the ratio too small, not wrong.
        println!("warning: a phase without snapshots published some; shorten --duration");
    }
    write_json(args.json.as_deref(), &(&result, &phases))?;
    Ok(sound)
}

async fn run_phase(args: &SnapshotArgs, round: u32, with_snapshots: bool) -> Result<Phase, Failure> {
    let directory = TemporaryDirectory::new(&args.temp_dir)?;
    if let Some(source) = &args.data_dir {
        copy_directory(source, directory.path()).map_err(|error| format!("{}: {error}", source.display()))?;
    }
    let interval = if with_snapshots { args.interval.clone() } else { "1h".to_owned() };
    let more = vec!["--snapshot-interval".to_owned(), interval];
    let server = Server::start_real(&args.server, directory.path(), &more, args.start_timeout).await?;
    let plan = Arc::new(Plan::set_up(server.target.clone(), &args.load).await?);
    let pace = Pace { connections: args.connections, duration: args.duration };
    let mut seen = snapshot_files(directory.path());
    let before = seen.len();
    let measured = {
        let load = drive(&plan, &args.load, pace, Scenario::NewOrder, Some(server.pid));
        tokio::pin!(load);
        // Old snapshots are removed while the load runs, so one look at its end would miss some.
        loop {
            tokio::select! {
                measured = &mut load => break measured?,
                () = tokio::time::sleep(LOOK_PAUSE) => seen.append(&mut snapshot_files(directory.path())),
            }
        }
    };
    seen.append(&mut snapshot_files(directory.path()));
    let report = conclude(&plan, pace, Scenario::NewOrder, &measured, true).await?;
    server.stop().await?;
    Ok(Phase { round, with_snapshots, snapshots: seen.len() - before, report })
}

impl Result99 {
    fn of(phases: &[Phase]) -> Option<Self> {
        let of = |with: bool| -> Vec<f64> {
            phases.iter().filter(|phase| phase.with_snapshots == with).filter_map(Phase::p99_us).collect()
        };
        let (without, with) = (of(false), of(true));
        let ratios = without.iter().zip(&with).map(|(without, with)| with / without).collect();
        (without.len() == with.len()).then_some(())?;
        Some(Self { without_us: Spread::of(without)?, with_us: Spread::of(with)?, ratio: Spread::of(ratios)? })
    }
}

/// All published snapshots below a directory. What vanishes while it is read is not there.
fn snapshot_files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.append(&mut snapshot_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "snap") {
            found.insert(path);
        }
    }
    found
}

/// Copies files and directories; both directories must exist.
fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_whole_and_its_snapshots_are_found() {
        let source = TemporaryDirectory::new(&std::env::temp_dir()).unwrap();
        fs::create_dir(source.path().join("inner")).unwrap();
        fs::write(source.path().join("inner/1.snap"), "one").unwrap();
        fs::write(source.path().join("2.snap"), "two").unwrap();
        fs::write(source.path().join("2.snap.tmp"), "not yet").unwrap();
        let copy = TemporaryDirectory::new(&std::env::temp_dir()).unwrap();
        copy_directory(source.path(), copy.path()).unwrap();
        assert_eq!(fs::read_to_string(copy.path().join("inner/1.snap")).unwrap(), "one");
        let expected = BTreeSet::from([copy.path().join("2.snap"), copy.path().join("inner/1.snap")]);
        assert_eq!(snapshot_files(copy.path()), expected);
    }
}
