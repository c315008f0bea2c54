//! Latency beside a snapshot.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bookstore::HistogramSnapshot;
use bookstore::{Durability, Engine, NewLine};
use tokio::time::MissedTickBehavior;

use crate::flags::Flags;
use crate::machine::quantile;
use crate::shop::TRUSTED;
use crate::{Failure, machine, shop};

const TICK: Duration = Duration::from_millis(1);
/// Between two phases, so that one does not see the end of the other.
const REST: Duration = Duration::from_millis(500);

/// What an order is placed with.
#[derive(Clone, Copy)]
struct Shop {
    buyers: usize,
    stores: usize,
}

/// What a phase measured.
struct Phase {
    p50_us: u32,
    p99_us: u32,
    orders: usize,
    cpu: Duration,
    took: Duration,
    /// The journal's.
    syncs: HistogramSnapshot,
}

pub(crate) async fn run(mut flags: Flags) -> Result<(), Failure> {
    let users: usize = flags.number("users", 1_000_000)?;
    let rate: usize = flags.number("rate", 5_000)?;
    let rounds: usize = flags.number("rounds", 5)?;
    let seconds: f64 = flags.number("seconds", 3.0)?;
    let shop = Shop { buyers: flags.number("buyers", 1_000)?, stores: flags.number("stores", 8)? };
    let durability = flags.durability(Durability::Sync)?;
    let dir = shop::WorkDir::new(&mut flags)?;
    flags.finish()?;
    if shop.buyers == 0 || users < shop.buyers || shop.stores == 0 || rounds == 0 {
        return Err("--buyers, --stores and --rounds must be 1 or more, --users at least as many as buyers".into());
    }
    machine::print(dir.path())?;

    // Seeded with less waiting, then opened as it shall be measured.
    let data = dir.path().join("data");
    let engine = Engine::open(shop::quiet_config(&data, Durability::Buffered)).await?;
    shop::open_stores(&engine, shop.stores).await?;
    shop::register(&engine, users, shop::cheap_hash()?).await?;
    engine.close().await?;
    drop(engine);
    let engine = Engine::open(shop::quiet_config(&data, durability)).await?;

    let least = Duration::from_secs_f64(seconds);
    // Wakes everybody and fills the caches; not counted.
    phase(&engine, shop, rate, tokio::time::sleep(least)).await?;
    let (mut without, mut with, mut walks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let taken = Mutex::new(Vec::new());
        with.push(phase(&engine, shop, rate, back_to_back(&engine, least, &taken)).await?);
        tokio::time::sleep(REST).await;
        // As long, so that a stall of the disk weighs as much in both.
        let as_long = with.last().map_or(least, |phase| phase.took);
        without.push(phase(&engine, shop, rate, tokio::time::sleep(as_long)).await?);
        for taken in taken.into_inner().unwrap_or_else(PoisonError::into_inner) {
            walks.push(taken?);
        }
        tokio::time::sleep(REST).await;
    }
    println!("snapshot: new_order at {rate}/s, durability {durability:?}, {users} users, {rounds} rounds, medians:");
    let quiet = print_phases("without", &without);
    let busy = print_phases("with", &with);
    let ratio = |with: u32, without: u32| f64::from(with) / f64::from(without.max(1));
    let mut ratios: Vec<_> =
        with.iter().zip(&without).map(|(with, without)| ratio(with.p99_us, without.p99_us)).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    println!(
        "  p99 with / without: {:.2} of the medians; {:.2} median of the rounds' own",
        ratio(busy, quiet),
        ratios[ratios.len() / 2],
    );
    let (rows, bytes) = walks.last().map_or((0, 0), |(_, rows, bytes)| (*rows, *bytes));
    let mut took: Vec<u32> = walks.iter().map(|(took, ..)| took.as_millis() as u32).collect();
    println!(
        "  {} snapshots, each {} ms (median), {rows} rows and {} MB the last one",
        walks.len(),
        quantile(&mut took, 0.5),
        bytes / 1_000_000,
    );
    Ok(())
}

type Walk = Result<(Duration, u64, u64), bookstore::Error>;

/// Takes whole snapshots one after the other, for at least this long.
async fn back_to_back(engine: &Engine, least: Duration, taken: &Mutex<Vec<Walk>>) {
    let began = Instant::now();
    while began.elapsed() < least {
        let walk = engine.snapshot().await.map(|report| (report.took, report.rows, report.bytes));
        taken.lock().unwrap_or_else(PoisonError::into_inner).push(walk);
    }
}

/// Places orders at a steady rate until `until` is done. An order's time runs from when it was due, so that a stall
/// counts for everyone who came meanwhile.
async fn phase(engine: &Engine, shop: Shop, rate: usize, until: impl Future<Output = ()>) -> Result<Phase, Failure> {
    let cpu = machine::cpu_time()?;
    let before = engine.stats().journal_sync_micros;
    let began = Instant::now();
    let (orders, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let arrivals = tokio::spawn(arrive(engine.clone(), shop, rate, orders));
    until.await;
    let took = began.elapsed();
    arrivals.abort();
    // The senders in flight close the channel when they are done.
    let mut micros = Vec::new();
    while let Some(order) = ended.recv().await {
        micros.push(order?);
    }
    let orders = micros.len();
    let (p50_us, p99_us) = (quantile(&mut micros, 0.5), quantile(&mut micros, 0.99));
    let mut syncs = engine.stats().journal_sync_micros;
    syncs.counts.iter_mut().zip(before.counts).for_each(|(count, before)| *count -= before);
    Ok(Phase { p50_us, p99_us, orders, cpu: machine::cpu_time()? - cpu, took, syncs })
}

type Ended = tokio::sync::mpsc::UnboundedSender<Result<u32, bookstore::Error>>;

async fn arrive(engine: Engine, shop: Shop, rate: usize, ended: Ended) {
    let ids: Arc<Vec<String>> = Arc::new((0..shop.buyers).map(shop::buyer).collect());
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    for number in 0.. {
        // As many as were due since the last tick.
        let due_at = began + Duration::from_secs_f64(number as f64 / rate as f64);
        while due_at > Instant::now() {
            ticks.tick().await;
        }
        let (engine, ids, ended) = (engine.clone(), ids.clone(), ended.clone());
        tokio::spawn(async move {
            let (book, store) = (shop::book(number), shop::store(number % shop.stores));
            let lines = [NewLine { book_id: &book, count: 1 }];
            let placed = engine.new_order(&ids[number % ids.len()], TRUSTED, &store, &lines).await;
            let micros = due_at.elapsed().as_micros() as u32;
            // Nobody listens any more if another order failed.
            let _ = ended.send(placed.map(|_| micros));
        });
    }
}

/// Prints the medians and returns that of the p99.
fn print_phases(name: &str, phases: &[Phase]) -> u32 {
    let median = |of: fn(&Phase) -> u32| quantile(&mut phases.iter().map(of).collect::<Vec<_>>(), 0.5);
    let (p50, p99) = (median(|phase| phase.p50_us), median(|phase| phase.p99_us));
    let took: Duration = phases.iter().map(|phase| phase.took).sum();
    let cpu: Duration = phases.iter().map(|phase| phase.cpu).sum();
    let orders: usize = phases.iter().map(|phase| phase.orders).sum();
    let sync_p99 = median(|phase| sync_bound(&phase.syncs, 0.99));
    let seconds = took.as_secs_f64();
    let all: Vec<_> = phases.iter().map(|phase| phase.p99_us).collect();
    println!(
        "  {name}: p50 {p50} µs, p99 {p99} µs (each round {all:?}); 99 of 100 journal syncs within {sync_p99} µs; {:.0} orders/s, {:.2} cores busy",
        orders as f64 / seconds,
        cpu.as_secs_f64() / seconds,
    );
    p99
}

/// The bound of the bucket that this share of all syncs does not exceed.
fn sync_bound(syncs: &HistogramSnapshot, share: f64) -> u32 {
    let mut left = (syncs.counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
    for (count, bound) in syncs.counts.iter().zip(&syncs.bounds) {
        left = left.saturating_sub(*count);
        if left == 0 {
            return *bound as u32;
        }
    }
    u32::MAX
}
