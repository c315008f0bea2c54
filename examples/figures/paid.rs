//! Paid orders a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bookstore::{Credential, Durability, Engine, NewLine};

use crate::flags::Flags;
use crate::machine::quantile;
use crate::{Failure, machine, shop};

/// What the callers shall do now.
pub(crate) mod phase {
    pub(crate) const WARM_UP: u8 = 0;
    pub(crate) const MEASURE: u8 = 1;
    pub(crate) const END: u8 = 2;
}

/// Funds of a buyer in fen: more than can be spent.
const FUNDS: i64 = 1_000_000_000_000;

/// Latencies in microseconds.
#[derive(Default)]
struct Latencies {
    order: Vec<u32>,
    pay: Vec<u32>,
}

pub(crate) async fn run(mut flags: Flags) -> Result<(), Failure> {
    let callers: usize = flags.number("callers", 1_024)?;
    let seconds: f64 = flags.number("seconds", 5.0)?;
    let warm_up: f64 = flags.number("warm-up", 1.0)?;
    let buyers: usize = flags.number("buyers", 1_000)?;
    let stores: usize = flags.number("stores", 8)?;
    let durability = flags.durability(Durability::Sync)?;
    let credential = match flags.text("credential").as_deref() {
        None | Some("password") => Credential::password(shop::PASSWORD),
        Some("trusted") => Credential::Trusted,
        Some(other) => return Err(format!("--credential {other}: not password or trusted").into()),
    };
    let dir = shop::WorkDir::new(&mut flags)?;
    flags.finish()?;
    if callers == 0 || buyers == 0 || stores == 0 {
        return Err("--callers, --buyers and --stores must be 1 or more".into());
    }
    machine::print(dir.path())?;

    let engine = Engine::open(shop::quiet_config(&dir.path().join("data"), durability)).await?;
    shop::open_stores(&engine, stores).await?;
    shop::register(&engine, buyers, shop::cheap_hash()?).await?;
    // This also verifies each password once; from then on it is remembered.
    shop::each(&engine, buyers, move |engine, number| async move {
        Ok(engine.add_funds(&shop::buyer(number), credential, FUNDS).await?)
    })
    .await?;

    let now = Arc::new(AtomicU8::new(phase::WARM_UP));
    let tasks: Vec<_> = (0..callers)
        .map(|caller| tokio::spawn(call(engine.clone(), caller, buyers, stores, credential, now.clone())))
        .collect();
    tokio::time::sleep(Duration::from_secs_f64(warm_up)).await;
    let (before, cpu_before, all_before) = (engine.stats(), machine::cpu_time()?, machine::cpu_time_of_all()?);
    let began = Instant::now();
    now.store(phase::MEASURE, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    now.store(phase::END, Ordering::Relaxed);
    let took = began.elapsed();
    let (after, cpu, all) = (engine.stats(), machine::cpu_time()? - cpu_before, machine::cpu_time_of_all()?);
    let others = (all - all_before).saturating_sub(cpu);

    let mut all = Latencies::default();
    for task in tasks {
        let some = task.await??;
        all.order.extend(some.order);
        all.pay.extend(some.pay);
    }
    let paid = all.pay.len() as f64;
    let batches = (after.journal_batches - before.journal_batches).max(1);
    let frames = after.journal_frames - before.journal_frames;
    let bytes = after.journal_bytes - before.journal_bytes;
    println!(
        "paid: {:.0} paid orders/s for {:.1} s ({callers} callers, {buyers} buyers, {stores} stores, durability {durability:?}, {credential:?})",
        paid / took.as_secs_f64(),
        took.as_secs_f64(),
    );
    let cores = |time: Duration| time.as_secs_f64() / took.as_secs_f64();
    println!(
        "  CPU {:.1} µs a paid order ({:.2} cores busy here, {:.2} with others)",
        cpu.as_secs_f64() * 1e6 / paid,
        cores(cpu),
        cores(others),
    );
    println!(
        "  journal: {:.1} frames and {:.0} bytes a paid order, {:.0} frames a batch, {:.0} batches/s",
        frames as f64 / paid,
        bytes as f64 / paid,
        frames as f64 / batches as f64,
        batches as f64 / took.as_secs_f64(),
    );
    for (name, values) in [("new_order", &mut all.order), ("pay", &mut all.pay)] {
        println!("  {name}: p50 {} µs, p99 {} µs", quantile(values, 0.5), quantile(values, 0.99));
    }
    let audit = engine.audit().await?;
    println!("  audit: {} orders, money and stock conserved: {}", audit.orders, audit.is_conserved());
    if !audit.is_conserved() {
        return Err(format!("not conserved: {audit:?}").into());
    }
    Ok(())
}

/// One caller: orders and pays, one after the other.
async fn call(
    engine: Engine,
    caller: usize,
    buyers: usize,
    stores: usize,
    credential: Credential<'static>,
    now: Arc<AtomicU8>,
) -> Result<Latencies, Failure> {
    let user = shop::buyer(caller % buyers);
    let store = shop::store(caller % stores);
    let mut latencies = Latencies::default();
    for turn in caller.. {
        let phase = now.load(Ordering::Relaxed);
        if phase == phase::END {
            break;
        }
        let book = shop::book(turn);
        let start = Instant::now();
        let lines = [NewLine { book_id: &book, count: 1 }];
        let order = engine.new_order(&user, credential, &store, &lines).await?.to_string();
        let ordered = Instant::now();
        engine.pay(&user, &order, credential).await?;
        // Only what began and ended while it was measured counts.
        if phase == phase::MEASURE && now.load(Ordering::Relaxed) == phase::MEASURE {
            latencies.order.push((ordered - start).as_micros() as u32);
            latencies.pay.push(ordered.elapsed().as_micros() as u32);
        }
    }
    Ok(latencies)
}
