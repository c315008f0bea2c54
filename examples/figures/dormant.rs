//! Resident bytes per user who does nothing.

use std::path::Path;
use std::time::Duration;

use bookstore::{Durability, Engine, PasswordHash, PasswordParams};

use crate::flags::Flags;
use crate::{Failure, machine, shop};

/// Opens the directory in a process of its own and prints what is resident.
pub(crate) const CHILD: &str = "dormant-child";

/// After the open, so that the allocator can give back what the open needed.
const SETTLE: Duration = Duration::from_secs(2);
/// Requests after the open that touch no user. An allocator gives back while it is used, not while it rests.
const REQUESTS: usize = 200_000;

pub(crate) async fn run(mut flags: Flags) -> Result<(), Failure> {
    let users: usize = flags.number("users", 1_000_000)?;
    let dir = shop::WorkDir::new(&mut flags)?;
    flags.finish()?;
    if users == 0 {
        return Err("--users must be 1 or more".into());
    }
    machine::print(dir.path())?;

    let (empty, full) = (dir.path().join("empty"), dir.path().join("full"));
    let engine = Engine::open(shop::quiet_config(&full, Durability::Buffered)).await?;
    // One hash for all, of the default cost, because the row holds the cost, too.
    let hash = PasswordHash::new(shop::PASSWORD.as_bytes(), PasswordParams::default())?;
    shop::register(&engine, users, hash).await?;
    engine.close().await?;
    drop(engine);

    let baseline = measure(&empty)?;
    let resident = measure(&full)?;
    if resident.dormant < users as u64 {
        return Err(format!("only {} of {users} users are dormant", resident.dormant).into());
    }
    let per_user = |bytes: u64, of: u64| bytes.saturating_sub(of) as f64 / users as f64;
    println!(
        "dormant: {:.0} resident bytes per dormant user after {REQUESTS} requests ({} users; {} MB, {} MB with none; allocator mimalloc)",
        per_user(resident.rss, baseline.rss),
        resident.dormant,
        resident.rss / 1_000_000,
        baseline.rss / 1_000_000,
    );
    println!(
        "  before the first request: {:.0} bytes per user; most while opening: {:.0}; ready after {:.2} s",
        per_user(resident.at_rest, baseline.at_rest),
        per_user(resident.peak, baseline.peak),
        resident.took_ms as f64 / 1e3,
    );
    Ok(())
}

/// What a child printed.
struct Measured {
    dormant: u64,
    /// After some requests.
    rss: u64,
    /// Before them.
    at_rest: u64,
    peak: u64,
    took_ms: u64,
}

fn measure(data: &Path) -> Result<Measured, Failure> {
    let output = shop::child(CHILD, &[("data", data.display().to_string())])?.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match numbers[..] {
        [dormant, rss, at_rest, peak, took_ms] if output.status.success() => {
            Ok(Measured { dormant, rss, at_rest, peak, took_ms })
        }
        _ => Err(format!("the child printed {text:?} and ended with {}", output.status).into()),
    }
}

pub(crate) async fn child(mut flags: Flags) -> Result<(), Failure> {
    let data = flags.text("data").ok_or("--data is missing")?;
    flags.finish()?;
    let engine = Engine::open(shop::quiet_config(Path::new(&data), Durability::Buffered)).await?;
    tokio::time::sleep(SETTLE).await;
    let at_rest = machine::memory("VmRSS")?;
    shop::each(&engine, REQUESTS, |engine, _| async move {
        engine.order_count("nobody").await?;
        Ok(())
    })
    .await?;
    tokio::time::sleep(SETTLE).await;
    let took_ms = engine.recovered().took.as_millis();
    let (rss, peak) = (machine::memory("VmRSS")?, machine::memory("VmHWM")?);
    println!("{} {rss} {at_rest} {peak} {took_ms}", engine.stats().dormant_actors);
    Ok(())
}
