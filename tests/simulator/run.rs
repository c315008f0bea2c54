//! The command line, which takes what libtest takes as well, and the tests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use crate::sim::Sim;

/// Seeds of the short form.
const SEEDS: u64 = 500;

/// A planted fault has to be found by one of so many.
#[cfg(feature = "planted-faults")]
const FAULT_SEEDS: u64 = 1_000;

/// What one run came to.
struct Ran {
    outcome: Result<(), String>,
    sum: String,
    all: String,
    last: String,
    done: u64,
    opens: u64,
    crashes: u64,
}

thread_local! {
    static PANIC: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

fn run(seed: u64, verbose: bool, keep_all: bool) -> Ran {
    let mut sim = Sim::new(seed, verbose);
    if keep_all {
        sim.trace.keep_all();
    }
    // What a planted fault breaks may panic a thousand times: the message is kept, and shown once.
    std::panic::set_hook(Box::new(|panic| PANIC.set(panic.to_string())));
    let outcome = catch_unwind(AssertUnwindSafe(|| sim.run()));
    drop(std::panic::take_hook());
    let outcome = outcome.unwrap_or_else(|_| Err(PANIC.take()));
    // Nobody writes to a disk of a run that is over.
    sim.disk.kill();
    Ran {
        outcome,
        sum: sim.trace.sum(),
        all: sim.trace.all().to_owned(),
        last: sim.trace.last(),
        done: sim.shadow.done,
        opens: sim.opens,
        crashes: sim.crashes,
    }
}

fn tell(seed: u64, ran: &Ran) {
    if let Err(why) = &ran.outcome {
        println!("\nthe last lines of seed {seed}:\n{}", ran.last);
        println!("\nseed {seed}: {why}");
        println!("again, with all lines: cargo test --test simulator -- --seed {seed}");
    }
}

/// Many seeds; false at the first that fails.
fn seeds(from: u64, count: u64) -> bool {
    let start = Instant::now();
    let (mut done, mut opens, mut crashes) = (0, 0, 0);
    for seed in from..from + count {
        let ran = run(seed, false, false);
        tell(seed, &ran);
        if ran.outcome.is_err() {
            return false;
        }
        (done, opens, crashes) = (done + ran.done, opens + ran.opens, crashes + ran.crashes);
        if count > 2_000 && (seed - from + 1).is_multiple_of(1_000) {
            println!("{} seeds, {:.0} s", seed - from + 1, start.elapsed().as_secs_f64());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    println!(
        "{count} seeds from {from} on ran clean in {seconds:.1} s ({rate:.0} a second): {done} changes acknowledged, \
         {crashes} crashes, {opens} opens"
    );
    true
}

/// One seed twice: not a byte may differ.
fn twice(seed: u64) -> bool {
    let (first, second) = (run(seed, false, true), run(seed, false, true));
    if first.all != second.all || first.all.is_empty() {
        let differ = first.all.lines().zip(second.all.lines()).position(|(a, b)| a != b);
        println!("seed {seed} is not the same twice; the first line that differs: {differ:?}");
        if let Some(line) = differ {
            println!("{:?}\n{:?}", first.all.lines().nth(line), second.all.lines().nth(line));
        }
        return false;
    }
    true
}

/// Asked for on the command line.
#[derive(Default)]
struct Args {
    seed: Option<u64>,
    from: u64,
    seeds: Option<u64>,
    list: bool,
    ignored: bool,
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
}

fn args() -> Result<Args, String> {
    let mut args = Args::default();
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        let mut text = || value.clone().or_else(|| given.next()).ok_or(format!("{name} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{name} needs a number, not {text}"));
        match name.as_str() {
            "--seed" => args.seed = Some(number(text()?)?),
            "--seeds" => args.seeds = Some(number(text()?)?),
            "--from" => args.from = number(text()?)?,
            "--list" => args.list = true,
            "--exact" => args.exact = true,
            "--ignored" => args.ignored = true,
            "--skip" => args.skips.push(text()?),
            // Of libtest, with a value that means nothing here.
            "--test-threads" | "--format" | "--color" | "--logfile" | "--report-time" | "-Z" | "--shuffle-seed" => {
                drop(text()?);
            }
            flag if flag.starts_with('-') => {}
            _ => args.filters.push(name),
        }
    }
    if let Ok(seed) = std::env::var("BOOKSTORE_SIMULATOR_SEED") {
        args.seed = Some(seed.parse().map_err(|_| "BOOKSTORE_SIMULATOR_SEED is no number")?);
    }
    Ok(args)
}

/// Each planted fault must be found, by some seed; without one those seeds run clean.
#[cfg(feature = "planted-faults")]
fn every_planted_fault_is_found() -> bool {
    use bookstore::internals::planted::{FAULTS, plant};
    let mut missed = 0;
    println!("{:<28} {:>6}  how it was seen", "planted fault", "seed");
    for fault in FAULTS {
        plant(Some(fault));
        let found = (0..FAULT_SEEDS).find_map(|seed| {
            let why = run(seed, false, false).outcome.err()?;
            Some((seed, why))
        });
        plant(None);
        match found {
            Some((seed, why)) => {
                let why: String = why.lines().next().unwrap_or_default().chars().take(110).collect();
                println!("{:<28} {seed:>6}  {why}", format!("{fault:?}"));
            }
            None => {
                missed += 1;
                println!("{:<28} {:>6}  not found in {FAULT_SEEDS} seeds", format!("{fault:?}"), "-");
            }
        }
    }
    println!("{} of {} planted faults were found", FAULTS.len() - missed, FAULTS.len());
    missed == 0
}

type Test = (&'static str, fn() -> bool);

const TESTS: &[Test] = &[
    ("a_seed_is_the_same_twice", || (0..3).all(|seed| twice(seed * 97))),
    ("five_hundred_seeds_run_clean", || seeds(0, SEEDS)),
    #[cfg(feature = "planted-faults")]
    ("every_planted_fault_is_found", every_planted_fault_is_found),
];

pub(crate) fn main() -> ExitCode {
    let args = match args() {
        Ok(args) => args,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(seed) = args.seed {
        let ran = run(seed, true, false);
        tell(seed, &ran);
        println!("seed {seed}: {}", ran.sum);
        return if ran.outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(101) };
    }
    if let Some(count) = args.seeds {
        return if seeds(args.from, count) { ExitCode::SUCCESS } else { ExitCode::from(101) };
    }
    let is_meant =
        |name: &str, filter: &String| if args.exact { name == filter } else { name.contains(filter.as_str()) };
    let tests = TESTS.iter().filter(|(name, _)| {
        (args.filters.is_empty() || args.filters.iter().any(|filter| is_meant(name, filter)))
            && !args.skips.iter().any(|skip| is_meant(name, skip))
            // None is marked as ignored.
            && !args.ignored
    });
    let tests: Vec<_> = tests.collect();
    if args.list {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        println!("\n{} tests, 0 benchmarks", tests.len());
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", tests.len());
    let mut failed = 0;
    for (name, test) in &tests {
        let start = Instant::now();
        let ok = test();
        println!("test {name} ... {} ({:.1} s)", if ok { "ok" } else { "FAILED" }, start.elapsed().as_secs_f64());
        failed += usize::from(!ok);
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {} passed; {failed} failed", tests.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}
