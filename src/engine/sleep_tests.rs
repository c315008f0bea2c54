//! Actors fall asleep and are woken a hundred thousand times under traffic. A message that was lost would leave its
//! caller waiting; two actors of one id would each count for themselves, and journal one sequence number twice, which
//! the next open takes for corruption.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Config, Credential, Engine, NewBook, NewLine, OrderStatus, Storage};
use crate::actors::Sweep;
use crate::disk::MemoryDisk;

const T: Credential<'static> = Credential::Trusted;
const RACES: usize = 100_000;
const CALLERS: usize = 96;
/// Fewer than callers, so that several are about one actor.
const ACCOUNTS: usize = 64;

fn config(disk: &MemoryDisk) -> Config {
    let mut config = Config::with(Storage::Disk(Arc::new(disk.clone()), PathBuf::from("/data")));
    config.password_params.memory_kib = 64;
    config.password_params.iterations = 1;
    config.segment_bytes = 16 << 20;
    config.limits.live_actors_max = 1;
    config
}

/// What one caller was told.
#[derive(Default, Clone, Copy, Debug)]
struct Told {
    calls: u64,
    funds: i64,
    ordered: i64,
}

async fn call(engine: Engine, number: usize, going: Arc<AtomicBool>) -> Told {
    let user = format!("user-{}", number % ACCOUNTS);
    let mut told = Told::default();
    while going.load(Ordering::Relaxed) {
        match (told.calls + number as u64) % 8 {
            0 => {
                let lines = [NewLine { book_id: "book", count: 1 }];
                engine.new_order(&user, T, "store", &lines).await.unwrap();
                told.ordered += 1;
            }
            1 => {
                engine.balance(&user, T).await.unwrap();
            }
            2 => {
                engine.stock_level("store", "book").await.unwrap();
            }
            _ => {
                engine.add_funds(&user, T, 1).await.unwrap();
                told.funds += 1;
            }
        }
        told.calls += 1;
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_thousand_races_of_sleep_and_wake_lose_no_message() {
    let disk = MemoryDisk::new();
    let engine = Engine::open(config(&disk)).await.unwrap();
    engine.register("seller", "pw").await.unwrap();
    engine.create_store("seller", T, "store").await.unwrap();
    engine.add_book("seller", T, "store", NewBook { id: "book", price: 1, document: "{}" }, 1 << 40).await.unwrap();
    for account in 0..ACCOUNTS {
        engine.register(&format!("user-{account}"), "pw").await.unwrap();
    }
    let going = Arc::new(AtomicBool::new(true));
    let calling = (0..CALLERS).map(|number| tokio::spawn(call(engine.clone(), number, going.clone())));
    let calling: Vec<_> = calling.collect();
    // On a thread of its own, at once and again: what is told to sleep has messages on their way.
    let sweeping = std::thread::spawn({
        let engine = engine.clone();
        move || {
            let sweep = Sweep { now_s: u32::MAX, idle_s: 0, live_max: 0 };
            let mut told = 0;
            while told < RACES {
                told += engine.core.system.accounts.sweep(sweep) + engine.core.system.stores.sweep(sweep);
                std::thread::yield_now();
            }
            going.store(false, Ordering::Relaxed);
            told
        }
    });
    let mut sum = Told::default();
    for caller in calling {
        let told = tokio::time::timeout(Duration::from_secs(120), caller).await;
        let told = told.expect("a message was lost: its caller waits").unwrap();
        sum.calls += told.calls;
        sum.funds += told.funds;
        sum.ordered += told.ordered;
    }
    println!("{} times told to sleep, {sum:?}", sweeping.join().unwrap());

    let system = &engine.core.system;
    assert_eq!(system.answers.in_flight(), 0);
    let must_hold = async |engine: &Engine| {
        let report = engine.audit().await.unwrap();
        assert!(report.is_conserved(), "{report:?}");
        assert_eq!(report.net_put_in, i128::from(sum.funds));
        assert_eq!(engine.stock_level("store", "book").await.unwrap(), (1 << 40) - sum.ordered);
        report
    };
    let before = must_hold(&engine).await;
    // Every actor lies down, and each entity is there once.
    let sweep = Sweep { now_s: u32::MAX, idle_s: 0, live_max: 0 };
    let began = std::time::Instant::now();
    while system.accounts.live() + system.stores.live() > 0 {
        system.accounts.sweep(sweep);
        system.stores.sweep(sweep);
        assert!(began.elapsed() < Duration::from_secs(20), "an actor does not lie down");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((system.accounts.dormant(), system.stores.dormant()), (ACCOUNTS + 1, 1));
    drop(engine);
    let engine = Engine::open(config(&disk)).await.unwrap();
    assert_eq!(must_hold(&engine).await, before, "what was replayed is not what was there");
}

/// Nothing runs between the sweep and the stop: so the actor never gets the message by which it would lie down.
#[tokio::test]
async fn who_waits_for_a_row_that_is_never_published_hears_of_it() {
    let engine = Engine::open(config(&MemoryDisk::new())).await.unwrap();
    engine.register("user", "pw").await.unwrap();
    engine.add_funds("user", T, 1).await.unwrap();
    let system = &engine.core.system;
    let number = system.accounts.end() - 1;
    assert_eq!(system.accounts.sweep(Sweep { now_s: u32::MAX, idle_s: 0, live_max: 0 }), 1);
    let both = async { tokio::join!(system.accounts.row(number), async { system.stop() }) };
    let (before, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("who asked before waits");
    assert!(before.is_err());
    let after = tokio::time::timeout(Duration::from_secs(20), system.accounts.row(number)).await;
    assert!(after.expect("who asked afterwards waits").is_err());
}

/// Orders that are overdue are read for nobody: however many wait for that, callers are not behind them, and it is not
/// counted as their waiting.
#[cfg(feature = "server")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_not_wait_behind_overdue_orders() {
    let mut config = config(&MemoryDisk::new());
    config.limits.resting_orders_max = 0;
    config.auto_confirm = Some(Duration::from_secs(4));
    let engine = Engine::open(config).await.unwrap();
    for user in ["seller", "buyer"] {
        engine.register(user, "pw").await.unwrap();
    }
    engine.create_store("seller", T, "store").await.unwrap();
    let book = NewBook { id: "book", price: 10, document: "{}" };
    engine.add_book("seller", T, "store", book, 2).await.unwrap();
    engine.add_funds("buyer", T, 20).await.unwrap();
    let mut orders = Vec::new();
    for _ in 0..2 {
        let lines = [NewLine { book_id: "book", count: 1 }];
        let order = engine.new_order("buyer", T, "store", &lines).await.unwrap().to_string();
        engine.pay_to_platform("buyer", &order, T).await.unwrap();
        orders.push(order);
    }
    engine.ship("seller", T, "store", &orders[0]).await.unwrap();
    let shipped = std::time::Instant::now();
    let system = &engine.core.system;
    let no_turn = system.readers_for_nobody.clone().acquire_many_owned(8).await.unwrap();
    assert_eq!(system.readers_for_nobody.available_permits(), 0);
    tokio::time::sleep(Duration::from_millis(5_500).saturating_sub(shipped.elapsed())).await;
    // The overdue one stands and waits; the other one is read.
    let before = system.reads();
    assert_eq!(engine.order_status("buyer", &orders[1], T).await.unwrap(), OrderStatus::Paid);
    // It is counted just after the answer.
    while system.reads() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let counted = system.reads();
    assert_eq!(engine.balance("seller", T).await.unwrap(), 0);
    drop(no_turn);
    while engine.balance("seller", T).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(system.reads(), counted);
}
