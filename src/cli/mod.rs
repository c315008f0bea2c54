//! The command line.
//!
//! # Layout
//!
//! - `args`: every flag, its variable of the environment, its default, and what becomes of it.
//! - `exit`: the exit statuses.
//! - `serve`: `bookstore serve`, from the listener to the exit status.
//! - `load`: `bookstore load`, JSON lines or made-up rows to a data directory.
//! - `check`, `inspect`, `repair`: a data directory, or one of its files, that no service has open.
//! - `import`: books into a running service. `health`: whether it is ready. `input`: lines of a file or of stdin.
//! - `progress`: what long work says meanwhile. `signals`: SIGTERM and SIGINT.

mod args;
mod check;
mod exit;
mod health;
mod import;
mod input;
mod inspect;
mod load;
mod progress;
mod repair;
mod serve;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::args::ServeArgs;
use self::check::CheckArgs;
use self::health::HealthArgs;
use self::import::ImportArgs;
use self::inspect::InspectArgs;
use self::load::LoadArgs;
use self::repair::RepairArgs;

/// A bookstore engine with a durable journal, served over HTTP.
///
/// Without a command, `bookstore` does what `bookstore serve` does.
#[derive(Debug, Parser)]
#[command(name = "bookstore", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API until SIGTERM or SIGINT
    Serve(Box<ServeArgs>),
    /// Make a data directory from JSON lines (docs/load-format.md), or one with made-up data
    Load(LoadArgs),
    /// Verify every byte of a data directory that no service has open, and that money and copies add up
    Check(CheckArgs),
    /// Print a journal segment or a snapshot as JSON lines
    Inspect(InspectArgs),
    /// Show what a damaged data directory would lose if what is damaged were cut out, and do it with --yes
    Repair(RepairArgs),
    /// List books in a running service, over HTTP
    Import(ImportArgs),
    /// Ask a running service whether it is ready; the exit status tells
    Health(HealthArgs),
}

/// Runs the program: reads arguments and environment, and does what they say.
///
/// The exit status is 0 after a clean end, 1 for a failure or damage (told on stderr), 2 for wrong usage, 70 when the
/// journal failed under way, 75 when `check`, `inspect` or `repair` could not read what it was to look at, and 130 or 143 when a
/// signal cut the work short (of `serve`: the second one).
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.command {
        Some(Command::Serve(args)) => return serve::run(&args),
        None => return serve::run(&cli.serve),
        Some(Command::Load(args)) => load::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Inspect(args)) => inspect::run(&args),
        Some(Command::Repair(args)) => repair::run(&args),
        Some(Command::Import(args)) => import::run(args),
        Some(Command::Health(args)) => health::run(&args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.end(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_and_takes_the_same_flags() {
        let bare = Cli::try_parse_from(["bookstore", "--listen", "127.0.0.1:0", "--mode", "compat"]).unwrap();
        assert!(bare.command.is_none());
        let named = Cli::try_parse_from(["bookstore", "serve", "--listen", "127.0.0.1:0", "--mode", "compat"]).unwrap();
        let Some(Command::Serve(named)) = named.command else { panic!("no command") };
        assert_eq!(format!("{named:?}"), format!("{:?}", bare.serve));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for wrong in [
            vec!["bookstore", "--mode", "lax"],
            vec!["bookstore", "--durability", "none"],
            vec!["bookstore", "--order-ttl", "soon"],
            vec!["bookstore", "--body-limit", "-1"],
            vec!["bookstore", "sell"],
        ] {
            assert!(Cli::try_parse_from(&wrong).is_err(), "{wrong:?}");
        }
    }
}
