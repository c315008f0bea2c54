//! `bookstore load`.
//!
//! - `lines`: a JSON line to a typed row.
//! - `generate`: rows that are made up.

mod generate;
mod lines;

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use self::generate::Spec;
use self::lines::{OrderIds, Wrong};
use super::args::{HashArgs, duration};
use super::exit::{Exit, scarce};
use super::input::Input;
use super::progress::{ProgressLines, rate, say};
use super::signals::Asked;
use crate::engine::offline::{LoadError, LoadOptions, LoadReport, Loader};

/// Wrong lines that are named before the rest is not looked at any more.
const WRONG_LINES_MAX: usize = 20;

/// Flags of `load`.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "bookstore load [OPTIONS] <FILE> <DIR>\n       bookstore load [OPTIONS] --generate <SPEC> <DIR>"
)]
pub(super) struct LoadArgs {
    /// JSON lines to load (`-`: stdin), and the directory to make; with --generate the directory alone
    #[arg(value_names = ["FILE", "DIR"], num_args = 1..=2, required = true)]
    paths: Vec<PathBuf>,
    /// Make the data up: users=N,stores=N,books=N,orders=N, each over all. docs/load-format.md tells their ids
    #[arg(long, value_name = "SPEC")]
    generate: Option<Spec>,
    /// Another seed makes up other data
    #[arg(long, value_name = "N", default_value_t = 1, requires = "generate")]
    seed: u64,
    /// The password of all users that are made up
    #[arg(long, value_name = "PASSWORD", default_value = "password", requires = "generate")]
    password: String,
    /// Write which new id each order got: {"order_id": …, "new_order_id": …} a line
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    order_ids: Option<PathBuf>,
    /// A pending order without a deadline is canceled this long after it was placed
    #[arg(long, env = "BOOKSTORE_ORDER_TTL", value_name = "TIME", default_value = "30m", value_parser = duration)]
    order_ttl: Duration,
    /// Say nothing but what is wrong
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    hash: HashArgs,
}

/// Why a load did not come to its end.
enum Stopped {
    /// These lines are wrong.
    Wrong(Vec<Wrong>),
    Failed(LoadError),
    Input(String),
}

impl From<LoadError> for Stopped {
    fn from(error: LoadError) -> Self {
        Stopped::Failed(error)
    }
}

/// Loads and says what was loaded.
pub(super) fn run(args: &LoadArgs) -> Result<(), Exit> {
    let (file, dir) = match (&args.paths[..], &args.generate) {
        ([dir], Some(_)) => (None, dir),
        ([file, dir], None) => (Some(file), dir),
        (_, Some(_)) => usage("--generate takes the directory alone"),
        (_, None) => usage("name the file to load (`-`: stdin) and the directory to make"),
    };
    let asked = Asked::listen().map_err(|error| Exit::failure(scarce("cannot listen for signals", &error)))?;
    let ended = load(args, file.map(PathBuf::as_path), dir, &asked);
    match ended {
        Ok(report) => {
            if !args.quiet {
                say(&summary(&report));
            }
            Ok(())
        }
        Err(Stopped::Failed(LoadError::CutShort)) => {
            let (status, name) = asked.by().map_or((1, "a failure"), |signal| (signal.status(), signal.name));
            Err(Exit { status, why: format!("{name}: nothing was loaded") })
        }
        Err(Stopped::Failed(LoadError::Io { what, source })) if source.kind() == ErrorKind::DirectoryNotEmpty => {
            Err(Exit::failure(format!("could not {what}: {source}; nothing was loaded")))
        }
        Err(Stopped::Failed(error)) => Err(Exit::failure(format!(
            "{error}; nothing was loaded. Look at the mode and the disk of the directory above it"
        ))),
        Err(Stopped::Input(why)) => Err(Exit::failure(format!("{why}; nothing was loaded"))),
        Err(Stopped::Wrong(wrong)) => {
            for Wrong { line, why } in &wrong {
                eprintln!("line {line}: {why}");
            }
            let more = if wrong.len() >= WRONG_LINES_MAX { " or more" } else { "" };
            Err(Exit::failure(format!(
                "wrong lines: {}{more}; nothing was loaded: mend them, as docs/load-format.md says, and load again",
                wrong.len()
            )))
        }
    }
}

fn usage(why: &str) -> ! {
    // The subcommand's own usage, not that of all of them.
    let mut all = super::command();
    let command = all.find_subcommand_mut("load").map_or_else(super::command, |load| load.clone());
    command.bin_name("bookstore load").error(clap::error::ErrorKind::WrongNumberOfValues, why).exit()
}

fn summary(report: &LoadReport) -> String {
    let rows = report.accounts + report.stores + report.books + report.orders;
    format!(
        "loaded {} accounts ({} passwords hashed), {} stores, {} books, {} orders into {}: balances {}, escrow {}, \
         stock {}; snapshot {} bytes, {:.1} s, {} rows",
        report.accounts,
        report.hashed,
        report.stores,
        report.books,
        report.orders,
        report.dir.display(),
        report.balances,
        report.escrow,
        report.stock,
        report.snapshot_bytes,
        report.took.as_secs_f64(),
        rate(rows, report.took),
    )
}

fn load(args: &LoadArgs, file: Option<&Path>, dir: &Path, asked: &Asked) -> Result<LoadReport, Stopped> {
    let options =
        LoadOptions { password_params: args.hash.params(), order_ttl: args.order_ttl, ..LoadOptions::default() };
    // Before the directory is begun: a file that is not there is no reason to make one.
    let input = file.map(Input::open).transpose().map_err(Stopped::Input)?;
    let mut loader = Loader::begin(dir, options)?;
    let mut progress = ProgressLines::new(args.quiet);
    let mut order_ids = match &args.order_ids {
        Some(path) => Some(OrderIdsFile::create(path).map_err(Stopped::Input)?),
        None => None,
    };
    match (input, &args.generate) {
        (Some(input), _) => {
            let ids = order_ids.as_mut().map(|file| &mut file.writer as OrderIds<'_>);
            lines::load(input, &mut loader, ids, &mut progress, asked)?;
        }
        (None, Some(spec)) => generate::load(spec, args, &mut loader, &mut progress, asked)?,
        (None, None) => {}
    }
    if let Some(file) = &mut order_ids {
        file.sync().map_err(Stopped::Input)?;
    }
    let report = loader.finish_with_progress(&mut |at| {
        progress.at(at.stage, at.done, at.total);
        if asked.by().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(file) = order_ids {
        file.keep();
    }
    Ok(report)
}

/// The file of `--order-ids`. Dropping it without [`OrderIdsFile::keep`] removes it.
struct OrderIdsFile {
    path: PathBuf,
    writer: BufWriter<File>,
    kept: bool,
}

impl OrderIdsFile {
    fn create(path: &Path) -> Result<Self, String> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        Ok(OrderIdsFile { path: path.to_path_buf(), writer: BufWriter::new(file), kept: false })
    }

    fn sync(&mut self) -> Result<(), String> {
        let synced = self.writer.flush().and_then(|()| self.writer.get_ref().sync_all());
        synced.map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for OrderIdsFile {
    fn drop(&mut self) {
        if !self.kept {
            // It tells of orders that are nowhere.
            let _ = fs::remove_file(&self.path);
        }
    }
}
