//! The command line.
//!
//! # Layout
//!
//! - `args`: every flag, its variable of the environment, its default, and what becomes of it.
//! - `config_file`: the file of `--config`, whose keys are those flags; and the commented example of it.
//! - `manual`: completions and man pages.
//! - `exit`: the exit statuses.
//! - `serve`: `bookstore serve`, from the listener to the exit status. `log`: its log; `otlp`: its spans to a collector (feature `otlp`); `reload`: what SIGHUP does.
//! - `load`: `bookstore load`, JSON lines or made-up rows to a data directory.
//! - `backup`: `bookstore backup`, `verify` and `restore`.
//! - `check`, `inspect`, `repair`: a data directory, or one of its files, that no service has open.
//! - `bench`: what this machine can do.
//! - `import`: books into a running service. `health`: whether it is ready. `input`: lines of a file or of stdin.
//! - `progress`: what long work says meanwhile. `signals`: SIGTERM and SIGINT.

mod args;
mod backup;
mod bench;
mod check;
mod config_file;
mod exit;
mod health;
mod import;
mod input;
mod inspect;
mod load;
mod log;
mod manual;
#[cfg(feature = "otlp")]
mod otlp;
mod progress;
mod reload;
mod repair;
mod serve;
mod signals;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::args::{ServeArgs, shaped};
use self::backup::{BackupArgs, RestoreArgs, VerifyArgs};
use self::bench::BenchArgs;
use self::check::CheckArgs;
use self::exit::Exit;
use self::health::HealthArgs;
use self::import::ImportArgs;
use self::inspect::InspectArgs;
use self::load::LoadArgs;
use self::manual::{CompletionsArgs, ManArgs};
use self::reload::Settings;
use self::repair::RepairArgs;

/// A bookstore engine with a durable journal, served over HTTP.
#[derive(Debug, Parser)]
#[command(
    name = "bookstore",
    version,
    args_conflicts_with_subcommands = true,
    override_usage = "bookstore [COMMAND] [FLAGS]    without a command: serve",
    help_template = "{about}\n\n{usage-heading} {usage}\n\n{subcommands}{after-help}",
    after_help = "The flags of a command: `bookstore serve -h`; all of them, and all that is to be\n\
                  said of each: `bookstore serve --help`. What this is: `bookstore --version`."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API until SIGTERM or SIGINT
    #[command(after_help = SOURCES)]
    Serve(Box<ServeArgs>),
    /// Make a data directory from JSON lines, or with made-up data
    ///
    /// The lines are those of docs/load-format.md.
    Load(LoadArgs),
    /// Verify every byte of a data directory at rest
    ///
    /// No service may have it open. Then it is recovered in memory, and it is looked whether money and copies add up.
    Check(CheckArgs),
    /// Back up a running service, or a data directory at rest
    Backup(BackupArgs),
    /// Look whether a backup is as it was made, and its data sound
    Verify(VerifyArgs),
    /// Make a data directory from a backup
    Restore(RestoreArgs),
    /// Print a journal segment or a snapshot as JSON lines
    Inspect(InspectArgs),
    /// Show what is damaged and would be lost; --yes cuts it out
    ///
    /// No service may have the data directory open.
    Repair(RepairArgs),
    /// List books in a running service, over HTTP
    Import(ImportArgs),
    /// Measure in ten seconds what this machine can do
    ///
    /// Disk, passwords, orders, search, recovery.
    Bench(BenchArgs),
    /// Ask a running service whether it is ready
    ///
    /// The exit status tells.
    Health(HealthArgs),
    /// Print the description of the API, as in /openapi.json
    Openapi,
    /// Print a file for `serve --config` with every key
    ExampleConfig,
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the man page of the program or of a command
    Man(ManArgs),
}

/// Where the values of `serve` come from.
const SOURCES: &str = "\
What few need stands in `bookstore serve --help` alone. Each flag is also a variable
of the environment (--order-ttl is BOOKSTORE_ORDER_TTL) and a key of the file of
--config (order-ttl = \"30m\"). The flag wins, then the variable, then the file.
TIME is a number with a unit, as in 50ms, 30m, 1h.";

/// The whole command line, with the flags of `serve` in the form of their help.
fn command() -> clap::Command {
    // Without a command they are taken as well, but `bookstore --help` is a page about the commands.
    let command =
        shaped(Cli::command()).mut_args(|arg| arg.hide(true)).mut_subcommands(|command| match command.get_name() {
            "serve" => shaped(command),
            _ => command,
        });
    command.mut_args(without_empty).mut_subcommands(|command| command.mut_args(without_empty))
}

/// A variable that is empty counts as not set: so a unit or an image that sets one can be overruled.
fn without_empty(arg: Arg) -> Arg {
    match arg.get_env().and_then(std::env::var_os) {
        Some(value) if value.is_empty() => arg.env(Resettable::Reset),
        _ => arg,
    }
}

/// The variables of all commands that this build knows.
fn variables() -> Vec<(String, OsString)> {
    let all = Cli::command();
    let commands = std::iter::once(&all).chain(all.get_subcommands());
    let args = commands.flat_map(clap::Command::get_arguments);
    args.filter_map(|arg| Some((arg.get_long().unwrap_or_default().to_owned(), arg.get_env()?.to_owned()))).collect()
}

/// Variables of the environment with our prefix that no flag has: perhaps mistyped.
fn strange_variables() -> Vec<String> {
    let known = variables();
    let set = std::env::vars_os().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name);
    let strange = set.filter(|name| known.iter().all(|(_, variable)| variable != name));
    let mut strange: Vec<String> = strange.filter_map(|name| name.into_string().ok()).collect();
    strange.retain(|name| name.starts_with("BOOKSTORE_"));
    strange.sort_unstable();
    strange
}

/// The variable that a refused value came from, if it did not stand among the arguments.
fn variable_of(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = flag.strip_prefix("--")?.split([' ', '=', '[']).next()?;
    let names = |word: &OsString| word.to_string_lossy().strip_prefix("--")?.split('=').next().map(str::to_owned);
    if std::env::args_os().any(|word| names(&word).is_some_and(|name| name == flag)) {
        return None;
    }
    let (_, variable) = variables().into_iter().find(|(long, _)| long == flag)?;
    std::env::var_os(&variable)?;
    variable.into_string().ok()
}

/// Why there is nothing to do.
enum Unread {
    /// What stands in the arguments or in the environment, `--help` included.
    Words(clap::Error),
    /// The file cannot be read, or something in it is wrong.
    File(Exit),
    /// Something is wrong with all of it together.
    Together(clap::Error, Exit),
}

impl Unread {
    /// Tells it. The status is 2 for what is wrong, and 0 for `--help`.
    fn end(&self) -> ExitCode {
        match self {
            Unread::Words(error) => match variable_of(error) {
                Some(variable) => {
                    let _ = error.print();
                    Exit::usage(format!("that value is the one of the variable {variable}")).end()
                }
                None => error.exit(),
            },
            Unread::File(exit) => exit.end(),
            Unread::Together(error, exit) => {
                let _ = error.print();
                exit.end()
            }
        }
    }

    /// In a line.
    fn told(&self) -> String {
        match self {
            Unread::Words(error) => config_file::words(error),
            Unread::File(exit) => exit.why.replace('\n', "; "),
            Unread::Together(error, exit) => format!("{}; {}", config_file::words(error), exit.why),
        }
    }
}

/// What is given to `serve`, if that is the command.
fn of_serve(given: &ArgMatches) -> Option<&ArgMatches> {
    match given.subcommand() {
        None => Some(given),
        Some(("serve", serve)) => Some(serve),
        Some(_) => None,
    }
}

/// Reads arguments, environment and the file of `--config`. The settings are those of `serve`, and none for other commands.
fn read(mut words: Vec<OsString>) -> Result<(Cli, Settings), Unread> {
    let mut from_file = None;
    // What a flag requires may stand in the file, so the first look does not ask for it.
    let look =
        command().mut_args(config_file::alone).mut_subcommand("serve", |serve| serve.mut_args(config_file::alone));
    let given = look.try_get_matches_from(&words).map_err(Unread::Words)?;
    let serve = of_serve(&given).map(|serve| (serve, if given.subcommand().is_none() { 1 } else { 2 }));
    if let Some((serve, at)) = serve
        && let Some(path) = serve.get_one::<PathBuf>("config")
    {
        let more = config_file::arguments(path, serve).map_err(Unread::File)?;
        let at = at.min(words.len());
        from_file = Some((path.display().to_string(), more.join(" ")));
        words.splice(at..at, more.into_iter().map(OsString::from));
    }
    let parsed = command().try_get_matches_from(words).and_then(|matches| {
        let settings = of_serve(&matches).map(Settings::of).unwrap_or_default();
        Ok((Cli::from_arg_matches(&matches)?, settings))
    });
    parsed.map_err(|error| match from_file {
        Some((file, flags)) if error.use_stderr() => {
            Unread::Together(error, Exit::usage(format!("what {file} says counts as these flags: {flags}")))
        }
        _ => Unread::Words(error),
    })
}

/// What `serve` would be started with now: the arguments and the environment are those of the start, the file may be another.
///
/// # Errors
///
/// What is wrong with the file, in a line.
fn reread() -> Result<(ServeArgs, Settings), String> {
    let (cli, settings) = read(std::env::args_os().collect()).map_err(|unread| unread.told())?;
    Ok(match cli.command {
        Some(Command::Serve(args)) => (*args, settings),
        // Of another command nobody asks.
        _ => (cli.serve, settings),
    })
}

/// Runs the program: reads arguments and environment, and does what they say.
///
/// The exit status is 0 after a clean end, 1 for a failure or damage (told on stderr), 2 for wrong usage, 70 when the
/// journal failed under way, 75 when `check`, `inspect`, `repair`, `backup`,
/// `verify` or `restore` could not read what it was to look at, and 130 or 143 when a
/// signal cut the work short (of `serve`: the second one).
pub fn main() -> ExitCode {
    let (cli, settings) = match read(std::env::args_os().collect()) {
        Ok(read) => read,
        Err(unread) => return unread.end(),
    };
    let ended = match cli.command {
        Some(Command::Serve(args)) => return serve::run(&args, settings),
        None => return serve::run(&cli.serve, settings),
        Some(Command::Load(args)) => load::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Backup(args)) => backup::run(&args),
        Some(Command::Verify(args)) => backup::run_verify(&args),
        Some(Command::Restore(args)) => backup::run_restore(&args),
        Some(Command::Inspect(args)) => inspect::run(&args),
        Some(Command::Repair(args)) => repair::run(&args),
        Some(Command::Import(args)) => import::run(args),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Health(args)) => health::run(&args),
        Some(Command::ExampleConfig) => progress::put(&config_file::example()),
        Some(Command::Completions(args)) => manual::completions(&args),
        Some(Command::Man(args)) => manual::man(&args),
        Some(Command::Openapi) => progress::put(&format!("{}\n", crate::http::openapi::pretty())),
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
        command().debug_assert();
    }

    #[test]
    fn a_flag_is_one_line_of_the_short_help_unless_few_need_it() {
        let mut all = command();
        all.build();
        let serve = all.find_subcommand_mut("serve").unwrap();
        let flags =
            serve.get_arguments().filter_map(|arg| Some((arg.get_long()?.to_owned(), arg.is_hide_short_help_set())));
        let flags: Vec<(String, bool)> = flags.filter(|(flag, _)| flag != "help").collect();
        let (help, long) = (serve.render_help().to_string(), serve.render_long_help().to_string());
        for (flag, is_rare) in flags {
            let starts = |line: &&str| {
                let rest = line.trim_start().strip_prefix("--").and_then(|line| line.strip_prefix(flag.as_str()));
                rest.is_some_and(|rest| rest.starts_with([' ', '[']))
            };
            assert!(long.lines().any(|line| starts(&line)), "no --{flag} in:\n{long}");
            let line = help.lines().find(starts);
            assert_eq!(line.is_none(), is_rare, "--{flag} in:\n{help}");
            let Some(line) = line else { continue };
            assert!(line.len() <= 100, "{} columns: {line}", line.len());
            let (_, text) = line.trim_start().split_once("  ").unwrap_or_else(|| panic!("nothing beside {line}"));
            assert!(!text.trim().is_empty(), "{line}");
        }
        assert!(help.lines().count() <= 48, "{help}");
    }

    #[test]
    fn the_help_of_the_program_fits_the_smallest_screen() {
        for help in [command().render_help(), command().render_long_help()] {
            let help = help.to_string();
            assert!(help.lines().count() <= 24 && help.contains("serve -h"), "{help}");
            assert!(help.lines().all(|line| line.len() <= 80), "{help}");
            assert!(!help.contains("--order-ttl"), "{help}");
        }
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
