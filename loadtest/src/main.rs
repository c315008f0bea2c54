//! A load generator and measuring tool for servers that speak the bookstore contract.
//!
//! It knows the service only by its wire contract, so it measures any build of it, and a bare server too.
//!
//! # Layout
//!
//! - `args`: what the command line's words mean (durations, rates, the flags several subcommands share).
//! - `mix`: who buys what where: the named mixes.
//! - `client`: a lean HTTP/1.1 client; the client's CPU comes out of the same cores as the server's.
//! - `api`: the calls of set-up and audit, each answer looked at.
//! - `scenario`: the people, stores, books and ready-made requests of one run; `setup`: how they come about over HTTP.
//! - `calls`: the requests of a load, and which one follows which.
//! - `generated`: a big shop made up by `bookstore load --generate`, and a load on it.
//! - `drive`: the closed loop: connections that send, wait, and keep count.
//! - `open`: the open loop: requests leave when they are due, and latency is counted from then.
//! - `traffic`: what the open loop sends; `alarm`: how it waits to the microsecond; `figures`: what it counts.
//! - `counts`: what either loop counts; `series`: the same for each second; `live`: the line that tells how it goes.
//! - `audit`: what stock and balances must be after a run, and whether the server agrees; `sampled`: the orders that it
//!   asks for one by one.
//! - `report`: figures, how they are printed and written as JSON.
//! - `document`: the whole result of `run`; `environment`, `baseline`: parts of it; `html`, `chart`: the page made of it.
//! - `machine`: cores, CPU time of a process, the cost of a disk sync.
//! - `bare`: the ceiling: hyper and JSON with no bookstore behind it.
//! - `server`: servers that are started as children, and their temporary directories.
//! - `interrupt`: signals, and that nothing is left behind.
//! - `compare`: bare, the real server, PostgreSQL and Redis in turns, in one run.
//! - `snapshot`: latency with and without snapshots running.
//! - `pinned`: server and generator with a core each.
//! - `overload`: twice what the server can do, and whether it stays on its feet.
//! - `crowd`: thousands of connections that say nothing, or a byte a second, and what the others notice.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod alarm;
mod api;
mod args;
mod audit;
mod bare;
mod baseline;
mod calls;
mod chart;
mod client;
mod compare;
mod counts;
mod crowd;
mod document;
mod drive;
mod environment;
mod figures;
mod generated;
mod help;
mod html;
mod interrupt;
mod live;
mod machine;
mod market;
mod mix;
mod open;
mod overload;
mod pinned;
mod report;
mod run;
mod sampled;
mod scenario;
mod series;
mod server;
mod setup;
mod snapshot;
mod traffic;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever ends a subcommand early: printed, and the exit status is 2.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Load generator for servers that speak the bookstore contract.
#[derive(Parser)]
#[command(version, long_about = help::ABOUT, after_long_help = help::MORE)]
struct Cli {
    /// Threads of the load generator. They share the cores with the server, so more are seldom better. An open loop has
    /// one thread in any case.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load a running server, print the figures, then audit its stock and its money.
    #[command(after_long_help = help::RUN)]
    Run(run::RunArgs),
    /// Serve the contract's routes with nothing behind them: the ceiling to compare with.
    Bare(bare::BareArgs),
    /// Measure a bookstore binary beside a bare server, PostgreSQL, Redis, and axum with PostgreSQL, in turns, in one run.
    Compare(compare::CompareArgs),
    /// Build a data directory of made-up users, stores and orders, start a server on it, and load that.
    Generated(generated::GeneratedArgs),
    /// Measure the latency of new_order with snapshots forced all the time and with none.
    SnapshotP99(snapshot::SnapshotArgs),
    /// Send twice what the server can do, server and generator on a core each, and judge how it takes it.
    Overload(overload::OverloadArgs),
    /// Keep thousands of idle connections and slow senders, and judge what the others notice.
    Crowd(crowd::CrowdArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match cli.command {
        // The bare server gets what the service gets: a thread for each core, and many tasks between two looks at the
        // sockets.
        Command::Bare(_) => runtime.event_interval(1_024),
        _ => runtime.worker_threads(usize::from(cli.threads)),
    };
    let outcome = runtime.enable_all().build().map_err(Failure::from).and_then(|runtime| {
        let outcome = runtime.block_on(dispatch(cli.command));
        // What still sleeps on a thread of its own is not waited for.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("loadtest: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Runs a subcommand. `false`: it ran, and what it checked was wrong. A signal ends it, and all that it has started.
async fn dispatch(command: Command) -> Result<bool, Failure> {
    interrupt::or_interrupted(async {
        match command {
            Command::Run(args) => run::run(&args).await,
            Command::Bare(args) => bare::serve(&args).await.map(|()| true),
            Command::Compare(args) => compare::compare(&args).await,
            Command::Generated(args) => generated::run(&args).await,
            Command::SnapshotP99(args) => snapshot::measure(&args).await,
            Command::Overload(args) => overload::measure(&args).await,
            Command::Crowd(args) => crowd::measure(&args).await,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
