//! The command line.
//!
//! # Layout
//!
//! - `args`: every flag, its variable of the environment, its default, and what becomes of it.
//! - `serve`: `bookstore serve`, from the listener to the exit status.
//! - `signals`: SIGTERM and SIGINT.

mod args;
mod serve;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::args::ServeArgs;

/// Something failed; the reason stands on stderr.
const FAILURE: u8 = 1;
/// The journal failed while the service ran (`EX_SOFTWARE`). Whatever restarts the service may do so.
const ENGINE_FAILED: u8 = 70;

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
}

/// Runs the program: reads arguments and environment, and does what they say.
///
/// The exit status is 0 after a clean end, 1 for a failure (told on stderr), 2 for wrong usage, 70 when the
/// journal failed under way, and 130 or 143 when a second signal cut the end short.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let args = match cli.command {
        Some(Command::Serve(args)) => *args,
        None => cli.serve,
    };
    serve::run(&args)
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
