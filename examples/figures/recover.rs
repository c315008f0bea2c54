//! Seconds until ready after a crash.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bookstore::{Durability, Engine, NewLine};

use crate::flags::Flags;
use crate::shop::TRUSTED;
use crate::{Failure, machine, shop};

/// Builds a directory, says so, and waits to be killed.
pub(crate) const BUILD: &str = "recover-build";
/// Opens it.
pub(crate) const OPEN: &str = "recover-open";

const STORES: usize = 8;
/// Events of one [`round`].
const ROUND_EVENTS: usize = 7;

pub(crate) async fn run(mut flags: Flags) -> Result<(), Failure> {
    let from = flags.text("from").map(PathBuf::from);
    let keep = flags.text("keep").is_some();
    let mut build = Vec::new();
    for (name, default) in [("users", 100_000), ("orders", 1_000_000), ("events", 1_000_000), ("lines", 1)] {
        let number: usize = flags.number(name, default)?;
        build.push((name, number.to_string()));
    }
    let mut dir = shop::WorkDir::new(&mut flags)?;
    flags.finish()?;
    machine::print(dir.path())?;
    let data = match from {
        Some(from) => from,
        None => {
            let data = dir.path().join("data");
            build.push(("data", data.display().to_string()));
            build_and_kill(&build)?;
            data
        }
    };
    let mut opening = shop::child(OPEN, &[("data", data.display().to_string())])?;
    for line in BufReader::new(opening.stdout.take().ok_or("the child has no output")?).lines() {
        println!("{}", line?);
    }
    let ended = opening.wait()?;
    if keep {
        dir.keep();
    }
    if ended.success() { Ok(()) } else { Err(format!("the opening process ended with {ended}").into()) }
}

fn build_and_kill(flags: &[(&str, String)]) -> Result<(), Failure> {
    let mut building = shop::child(BUILD, flags)?;
    let mut line = String::new();
    BufReader::new(building.stdout.take().ok_or("the child has no output")?).read_line(&mut line)?;
    // SIGKILL, so that nothing is closed or flushed.
    building.kill()?;
    building.wait()?;
    if line.is_empty() {
        return Err("the building process ended early".into());
    }
    print!("{line}");
    Ok(())
}

pub(crate) async fn build(mut flags: Flags) -> Result<(), Failure> {
    let data = flags.text("data").ok_or("--data is missing")?;
    let users: usize = flags.number("users", 0)?;
    let orders: usize = flags.number("orders", 0)?;
    let events: usize = flags.number("events", 0)?;
    let lines: usize = flags.number("lines", 0)?;
    flags.finish()?;
    if users == 0 || !(1..=shop::BOOKS).contains(&lines) {
        return Err(format!("--users must be 1 or more, --lines 1 to {}", shop::BOOKS).into());
    }
    let mut config = shop::quiet_config(Path::new(&data), Durability::Buffered);
    config.limits.pending_orders_max = usize::MAX;
    let engine = Engine::open(config).await?;
    shop::open_stores(&engine, STORES).await?;
    shop::register(&engine, users, shop::cheap_hash()?).await?;
    shop::each(
        &engine,
        orders,
        move |engine, number| async move { order(&engine, number, users, lines).await.map(|_| ()) },
    )
    .await?;
    let snapshot = engine.snapshot().await?;
    let before = engine.stats();
    let rounds = events.div_ceil(ROUND_EVENTS);
    shop::each(&engine, rounds, move |engine, number| async move { round(&engine, number, users, lines).await })
        .await?;
    let after = engine.stats();
    println!(
        "built: {users} users, {orders} pending orders of {lines} lines, a snapshot of {} MB, {} events of {} MB after it; killed",
        snapshot.bytes / 1_000_000,
        after.journal_head - before.journal_head,
        (after.journal_bytes - before.journal_bytes) / 1_000_000,
    );
    std::future::pending().await
}

async fn order(engine: &Engine, number: usize, users: usize, lines: usize) -> Result<String, Failure> {
    let ids: Vec<String> = (0..lines).map(|line| shop::book(number + line)).collect();
    let lines: Vec<_> = ids.iter().map(|id| NewLine { book_id: id, count: 1 }).collect();
    let (user, store) = (shop::buyer(number % users), shop::store(number % STORES));
    Ok(engine.new_order(&user, TRUSTED, &store, &lines).await?.to_string())
}

/// Money in, an order, its payment, copies in: what a shop does, as seven events.
async fn round(engine: &Engine, number: usize, users: usize, lines: usize) -> Result<(), Failure> {
    let user = shop::buyer(number % users);
    engine.add_funds(&user, TRUSTED, shop::PRICE * lines as i64).await?;
    let order = order(engine, number, users, lines).await?;
    engine.pay(&user, &order, TRUSTED).await?;
    let (seller, store) = (shop::seller(number % STORES), shop::store(number % STORES));
    engine.add_stock_level(&seller, TRUSTED, &store, &shop::book(number), 1).await?;
    Ok(())
}

pub(crate) async fn open(mut flags: Flags) -> Result<(), Failure> {
    let data = flags.text("data").ok_or("--data is missing")?;
    flags.finish()?;
    let began = Instant::now();
    let engine = Engine::open(shop::quiet_config(Path::new(&data), Durability::Sync)).await?;
    let (took, cpu, peak) = (began.elapsed(), machine::cpu_time()?, machine::memory("VmHWM")?);
    let found = engine.recovered();
    println!(
        "recover: ready after {:.2} s (CPU {:.2} s): {} accounts, {} orders, {} events replayed, {} sagas finished",
        took.as_secs_f64(),
        cpu.as_secs_f64(),
        found.accounts,
        found.orders,
        found.replayed_events,
        found.finished_sagas,
    );
    println!(
        "  most resident while opening: {} MB, then {} MB",
        peak / 1_000_000,
        machine::memory("VmRSS")? / 1_000_000
    );
    let audit = engine.audit().await?;
    println!("  audit: money and stock conserved: {}", audit.is_conserved());
    if audit.is_conserved() { Ok(()) } else { Err(format!("not conserved: {audit:?}").into()) }
}
