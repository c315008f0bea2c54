//! The deterministic simulator. The engine's own rules, sagas, journal, snapshots, orders at rest and recovery run on one
//! thread, under a scheduler, a disk and a clock that follow a seed; see "The simulator" in ARCHITECTURE.md.
//!
//! - `cargo test --test simulator`: 500 seeds, and one of them twice, to see that nothing but the seed decides.
//! - `cargo test --test simulator -- --seed 17`: this one, with all that happens.
//! - `cargo test --release --test simulator -- --seeds 20000`: so many, from `--from N` on.
//! - `cargo test --features planted-faults --test simulator`: each planted fault must be found.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "simulator/command.rs"]
mod command;
#[path = "simulator/dice.rs"]
mod dice;
#[path = "simulator/disk.rs"]
mod disk;
#[path = "simulator/jobs.rs"]
mod jobs;
#[path = "simulator/mail.rs"]
mod mail;
#[path = "simulator/process.rs"]
mod process;
#[path = "simulator/recovery.rs"]
mod recovery;
#[path = "simulator/run.rs"]
mod run;
#[path = "simulator/setting.rs"]
mod setting;
#[path = "simulator/shadow.rs"]
mod shadow;
#[path = "simulator/sim.rs"]
mod sim;
#[path = "simulator/trace.rs"]
mod trace;

fn main() -> std::process::ExitCode {
    run::main()
}
