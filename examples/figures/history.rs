//! What finished orders cost: memory, time until ready, and lists and lookups over them.

use std::path::Path;
use std::time::{Duration, Instant};

use bookstore::{Durability, Engine, NewLine};

use crate::flags::Flags;
use crate::machine::quantile;
use crate::{Failure, machine, shop};

/// Opens the directory in a process of its own and prints what is resident.
pub(crate) const CHILD: &str = "history-child";

const SETTLE: Duration = Duration::from_secs(2);
/// Looks of each kind.
const LOOKS: usize = 1_000;
const STORES: usize = 8;

pub(crate) async fn run(mut flags: Flags) -> Result<(), Failure> {
    let orders: usize = flags.number("orders", 1_000_000)?;
    let buyers: usize = flags.number("buyers", 1_000)?;
    let dir = shop::WorkDir::new(&mut flags)?;
    flags.finish()?;
    if orders == 0 || buyers == 0 {
        return Err("--orders and --buyers must be 1 or more".into());
    }
    machine::print(dir.path())?;
    let mut measured = Vec::new();
    for (name, orders) in [("none", 0), ("all", orders)] {
        let data = dir.path().join(name);
        build(&data, buyers, orders).await?;
        measured.push(measure(&data, buyers)?);
    }
    let [none, all] = &measured[..] else { return Err("two were measured".into()) };
    println!(
        "history: {:.1} resident bytes per finished order after an open ({} orders at rest, {} in memory; {} MB, {} MB with none)",
        all.rss.saturating_sub(none.rss) as f64 / orders as f64,
        all.resting,
        all.in_memory,
        all.rss / 1_000_000,
        none.rss / 1_000_000,
    );
    println!("  ready after {} ms, {} ms with none", all.took_ms, none.took_ms);
    println!(
        "  of {} orders a buyer: list p50 {} µs, count p50 {} µs; status of an order at rest p50 {} µs, p99 {} µs",
        orders / buyers,
        all.list_us,
        all.count_us,
        all.status_us,
        all.status_p99_us,
    );
    Ok(())
}

/// A day in which every order is placed, paid and confirmed, with the limits as they are by default.
async fn build(data: &Path, buyers: usize, orders: usize) -> Result<(), Failure> {
    let mut config = shop::quiet_config(data, Durability::Sync);
    config.snapshot_journal_bytes = 512 << 20;
    let engine = Engine::open(config).await?;
    shop::open_stores(&engine, STORES).await?;
    shop::register(&engine, buyers, shop::cheap_hash()?).await?;
    shop::each(&engine, buyers, |engine, number| async move {
        Ok(engine.add_funds(&shop::buyer(number), shop::TRUSTED, 1 << 40).await?)
    })
    .await?;
    let began = Instant::now();
    shop::each(&engine, orders, move |engine, number| async move {
        let buyer = shop::buyer(number % buyers);
        let (book_id, store) = (shop::book(number), shop::store(number % STORES));
        let lines = [NewLine { book_id: &book_id, count: 1 }];
        let order = engine.new_order(&buyer, shop::TRUSTED, &store, &lines).await?.to_string();
        engine.pay_to_platform(&buyer, &order, shop::TRUSTED).await?;
        Ok(engine.confirm(&buyer, &order, shop::TRUSTED).await?)
    })
    .await?;
    let day = began.elapsed();
    let began = Instant::now();
    let moved = engine.offload().await?;
    let offload = began.elapsed();
    if orders > 0 {
        let disk = std::fs::metadata(data.join("orders.redb"))?.len();
        println!(
            "  the day: {:.0} orders/s placed, paid and confirmed, {} of them left memory meanwhile; then {:.0} orders/s \
             left; {} MB at most; {:.0} bytes of disk an order",
            orders as f64 / day.as_secs_f64(),
            engine.stats().orders_left - moved,
            moved as f64 / offload.as_secs_f64(),
            machine::memory("VmHWM")? / 1_000_000,
            disk as f64 / orders as f64,
        );
    }
    engine.close().await?;
    Ok(())
}

struct Measured {
    rss: u64,
    took_ms: u64,
    in_memory: u64,
    resting: u64,
    list_us: u64,
    count_us: u64,
    status_us: u64,
    status_p99_us: u64,
}

fn measure(data: &Path, buyers: usize) -> Result<Measured, Failure> {
    let flags = [("data", data.display().to_string()), ("buyers", buyers.to_string())];
    let output = shop::child(CHILD, &flags)?.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match numbers[..] {
        [rss, took_ms, in_memory, resting, list_us, count_us, status_us, status_p99_us] if output.status.success() => {
            Ok(Measured { rss, took_ms, in_memory, resting, list_us, count_us, status_us, status_p99_us })
        }
        _ => Err(format!("the child printed {text:?} and ended with {}", output.status).into()),
    }
}

pub(crate) async fn child(mut flags: Flags) -> Result<(), Failure> {
    let data = flags.text("data").ok_or("--data is missing")?;
    let buyers: usize = flags.number("buyers", 1)?;
    flags.finish()?;
    let engine = Engine::open(shop::quiet_config(Path::new(&data), Durability::Sync)).await?;
    tokio::time::sleep(SETTLE).await;
    let rss = machine::memory("VmRSS")?;
    let (mut lists, mut counts, mut statuses) = (Vec::new(), Vec::new(), Vec::new());
    for look in 0..LOOKS {
        let buyer = shop::buyer(look % buyers);
        let began = Instant::now();
        engine.order_count(&buyer).await?;
        counts.push(began.elapsed().as_micros() as u32);
        if look >= LOOKS / 10 {
            continue;
        }
        let began = Instant::now();
        let listed = engine.buyer_orders(&buyer, shop::TRUSTED).await?;
        lists.push(began.elapsed().as_micros() as u32);
        for order in listed.iter().step_by(listed.len() / 10 + 1) {
            let id = order.order_id.to_string();
            let began = Instant::now();
            engine.order_status(&buyer, &id, shop::TRUSTED).await?;
            statuses.push(began.elapsed().as_micros() as u32);
        }
    }
    let recovered = engine.recovered();
    println!(
        "{rss} {} {} {} {} {} {} {}",
        recovered.took.as_millis(),
        recovered.orders,
        recovered.resting_orders,
        quantile(&mut lists, 0.5),
        quantile(&mut counts, 0.5),
        quantile(&mut statuses, 0.5),
        quantile(&mut statuses, 0.99),
    );
    Ok(())
}
