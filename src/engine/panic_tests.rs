//! A panic in each kind of actor, at each point of a change: who asked is told 530 and nothing was done, or the engine
//! stops. Nothing that was acknowledged is lost, and what is recovered is whole.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Config, Credential, Engine, Error, NewBook, NewLine, OrderStatus, Result, Storage};
use crate::actors::{Point, Sweep};
use crate::disk::MemoryDisk;
use crate::domain::Refusal;

const T: Credential<'static> = Credential::Trusted;
const PRICE: i64 = 10;
const BUYERS: usize = 4;
const POINTS: [Point; 4] = [Point::Judged, Point::BeforeAppend, Point::AfterAppend, Point::Applied];

fn config(disk: &MemoryDisk) -> Config {
    let mut config = Config::with(Storage::Disk(Arc::new(disk.clone()), PathBuf::from("/data")));
    config.password_params.memory_kib = 64;
    config.password_params.iterations = 1;
    config.segment_bytes = 16 << 20;
    config
}

async fn shop(engine: &Engine) {
    engine.register("seller", "pw").await.unwrap();
    engine.create_store("seller", T, "store").await.unwrap();
    engine.add_book("seller", T, "store", NewBook { id: "book", price: PRICE, document: "{}" }, 1_000).await.unwrap();
    for buyer in 0..BUYERS {
        engine.register(&format!("buyer-{buyer}"), "pw").await.unwrap();
    }
}

/// What one buyer was told, and the call of which he knows nothing.
#[derive(Default, Debug)]
struct Told {
    funds: i64,
    orders: BTreeMap<String, OrderStatus>,
    /// Calls that were answered with 530 by the panic.
    failed: u32,
    unknown: Option<Unknown>,
}

#[derive(Debug)]
enum Unknown {
    Funds(i64),
    Order,
    Change(String, OrderStatus),
}

impl Told {
    /// Whether the call was done. 530 of a panic: not done.
    fn done<T>(&mut self, outcome: Result<T>, unknown: Unknown) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(Error::Refused(refusal)) if refusal.to_string().contains("nothing was done") => {
                self.failed += 1;
                None
            }
            // The deposit was the one that failed.
            Err(Error::Refused(Refusal::InsufficientFunds(_))) => None,
            Err(Error::OutcomeUnknown(_)) => {
                self.unknown.get_or_insert(unknown);
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// One call of everything that changes, again and again.
    async fn trade(engine: Engine, name: String) -> Told {
        let mut told = Told::default();
        // One that the seller was paid for, one that the platform was.
        let mut refunded = 0;
        for round in 0..3 {
            if told.done(engine.add_funds(&name, T, 100).await, Unknown::Funds(100)).is_some() {
                told.funds += 100;
            }
            let lines = [NewLine { book_id: "book", count: 1 }];
            for _ in 0..2 {
                let placed = engine.new_order(&name, T, "store", &lines).await;
                if let Some(order) = told.done(placed, Unknown::Order) {
                    told.orders.insert(order.to_string(), OrderStatus::Pending);
                }
            }
            for order in told.orders.clone().into_keys() {
                let steps = match (told.orders[&order], round) {
                    (OrderStatus::Pending, 0) => vec![OrderStatus::Paid],
                    (OrderStatus::Pending, 1) => vec![OrderStatus::Canceled],
                    (OrderStatus::Pending, _) if refunded < 2 => vec![OrderStatus::Paid, OrderStatus::Canceled],
                    (OrderStatus::Pending, _) => vec![OrderStatus::Paid, OrderStatus::Shipped, OrderStatus::Completed],
                    (OrderStatus::Paid, 1) if refunded == 0 => vec![OrderStatus::Canceled],
                    _ => vec![],
                };
                for status in steps {
                    let is_refund = told.orders[&order] == OrderStatus::Paid && status == OrderStatus::Canceled;
                    refunded += u32::from(is_refund);
                    let outcome = match status {
                        OrderStatus::Paid if round == 0 => engine.pay(&name, &order, T).await,
                        OrderStatus::Paid => engine.pay_to_platform(&name, &order, T).await,
                        OrderStatus::Canceled if is_refund => engine.refund_order(&name, &order, T).await,
                        OrderStatus::Canceled => engine.cancel_order(&name, &order, T).await,
                        OrderStatus::Shipped => engine.ship("seller", T, "store", &order).await,
                        _ => engine.confirm(&name, &order, T).await,
                    };
                    if told.done(outcome, Unknown::Change(order.clone(), status)).is_none() {
                        break;
                    }
                    told.orders.insert(order.clone(), status);
                }
                if told.unknown.is_some() {
                    return told;
                }
            }
        }
        told
    }

    /// Holds what is there against what was told.
    async fn check(&self, engine: &Engine, name: &str) {
        let mut found = BTreeMap::new();
        for order in engine.buyer_orders(name, T).await.unwrap() {
            found.insert(order.order_id.to_string(), order.status);
        }
        let mut funds = self.funds;
        let spent = |status: &OrderStatus| !matches!(status, OrderStatus::Pending | OrderStatus::Canceled);
        let mut expected = self.orders.clone();
        match &self.unknown {
            Some(Unknown::Order) if found.len() == expected.len() + 1 => {
                let new = found.keys().find(|id| !expected.contains_key(*id)).unwrap();
                expected.insert(new.clone(), OrderStatus::Pending);
            }
            Some(Unknown::Change(order, after)) if found[order] == *after => {
                expected.insert(order.clone(), *after);
            }
            _ => {}
        }
        assert_eq!(found, expected, "{self:?}");
        let balance = engine.balance(name, T).await.unwrap();
        let paid = found.values().filter(|status| spent(status)).count() as i64 * PRICE;
        if let Some(Unknown::Funds(value)) = self.unknown
            && balance != funds - paid
        {
            funds += value;
        }
        assert_eq!(balance, funds - paid, "{self:?}");
    }
}

/// Runs the shop until the trap springs, and says how it ended: `None` if it never sprang, else whether the engine
/// stopped.
async fn spring(kind: &'static str, point: Point, passes: u32) -> Option<bool> {
    let disk = MemoryDisk::new();
    let engine = Engine::open(config(&disk)).await.unwrap();
    shop(&engine).await;
    engine.core.system.trap.set(kind, point, passes);
    let trading = (0..BUYERS).map(|buyer| tokio::spawn(Told::trade(engine.clone(), format!("buyer-{buyer}"))));
    let trading: Vec<_> = trading.collect();
    let mut all = Vec::new();
    for task in trading {
        let told = tokio::time::timeout(Duration::from_secs(20), task).await;
        all.push(told.expect("a caller waits for ever").unwrap());
    }
    let sprung = !engine.core.system.trap.is_set();
    let stopped = engine.not_ready().is_some();
    let failed: u32 = all.iter().map(|told| told.failed).sum();
    let unknown = all.iter().any(|told| told.unknown.is_some());
    // One panic is one 530 or the end; neither without it.
    assert_eq!(stopped || failed > 0, sprung, "{kind} {point:?} {passes}: {all:?}");
    assert!(failed <= 1 && (failed == 0 || !stopped), "{kind} {point:?} {passes}: {all:?}");
    assert!(stopped || !unknown, "an unknown outcome of an engine that goes on: {all:?}");
    if !stopped {
        // It goes on as if nothing had been.
        for (buyer, told) in all.iter().enumerate() {
            told.check(&engine, &format!("buyer-{buyer}")).await;
        }
        assert!(engine.audit().await.unwrap().is_conserved());
        assert_eq!(engine.core.system.answers.in_flight(), 0);
    }
    drop(engine);
    let mut reports = Vec::new();
    // Opening is slow without optimisation, so only some are opened twice.
    for _ in 0..1 + u32::from(passes == 0) {
        let engine = Engine::open(config(&disk)).await.unwrap();
        for (buyer, told) in all.iter().enumerate() {
            told.check(&engine, &format!("buyer-{buyer}")).await;
        }
        let report = engine.audit().await.unwrap();
        assert!(report.is_conserved(), "{kind} {point:?} {passes}: {report:?}");
        reports.push(report);
    }
    assert_eq!(reports.first(), reports.last(), "recovering twice gives another state");
    sprung.then_some(stopped)
}

async fn spring_everywhere(kind: &'static str) -> (u32, u32) {
    let (mut answered, mut stopped) = (0, 0);
    for point in POINTS {
        for passes in [0, 1, 2, 3, 8, 17] {
            match spring(kind, point, passes).await {
                None => {}
                Some(true) => stopped += 1,
                Some(false) => {
                    answered += 1;
                    assert_eq!(point, Point::Judged, "answered, although an effect had begun");
                }
            }
        }
    }
    println!("{kind}: {answered} panics answered with 530, {stopped} ended the engine");
    (answered, stopped)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_an_account_is_answered_or_ends_the_engine() {
    let (answered, stopped) = spring_everywhere("account").await;
    assert!(answered > 1 && stopped > 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_store_is_answered_or_ends_the_engine() {
    let (answered, stopped) = spring_everywhere("store").await;
    assert!(answered > 1 && stopped > 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_an_order_shard_ends_the_engine() {
    let (answered, stopped) = spring_everywhere("order shard").await;
    assert!(answered == 0 && stopped > 20);
}

/// Beside the changes: while a snapshot looks, while evidence is dropped, while it lies down. Nobody is told 530, but
/// nobody waits for an actor that is gone, either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_beside_the_changes_ends_the_engine() {
    for kind in ["account", "store", "order shard"] {
        let engine = Engine::open(config(&MemoryDisk::new())).await.unwrap();
        shop(&engine).await;
        let system = &engine.core.system;
        system.trap.set(kind, Point::Aside, 0);
        if kind == "order shard" {
            let _ = engine.audit().await;
        } else {
            let sweep = Sweep { now_s: 1_000, idle_s: 0, live_max: 0 };
            system.stores.sweep(sweep);
            system.accounts.sweep(sweep);
        }
        let calls = async {
            // Each is answered, whichever of them meets the actor that is gone.
            let _ = engine.add_funds("buyer-1", T, 1).await;
            let _ = engine.stock_level("store", "book").await;
            engine.failed().await
        };
        let why = tokio::time::timeout(Duration::from_secs(10), calls).await.expect("somebody waits for ever");
        assert!(why.contains("panicked"), "{why}");
    }
}

/// While a store closes: it is closed or it is open, whoever panics, and its owner's account knows which.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_a_store_closes_leaves_it_open_or_closed() {
    let (mut answered, mut stopped) = (0, 0);
    for kind in ["account", "store", "order shard"] {
        for point in POINTS {
            for passes in [0, 1, 16] {
                let disk = MemoryDisk::new();
                let engine = Engine::open(config(&disk)).await.unwrap();
                shop(&engine).await;
                engine.core.system.trap.set(kind, point, passes);
                let closing = tokio::time::timeout(Duration::from_secs(20), engine.close_store("seller", T, "store"));
                let outcome = closing.await.expect("a caller waits for ever");
                match &outcome {
                    Ok(()) => {}
                    Err(Error::OutcomeUnknown(_)) => stopped += 1,
                    Err(Error::Refused(refusal)) => {
                        assert!(refusal.to_string().contains("nothing was done"), "{refusal}");
                        answered += 1;
                        engine.close_store("seller", T, "store").await.unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
                drop(engine);
                let engine = Engine::open(config(&disk)).await.unwrap();
                let report = engine.audit().await.unwrap();
                assert_eq!(report.contradictions, 0, "{kind} {point:?} {passes}: {report:?}");
                if !matches!(outcome, Err(Error::OutcomeUnknown(_))) {
                    assert_eq!(report.closed_stores, 1, "{kind} {point:?} {passes}");
                }
                let lines = [NewLine { book_id: "book", count: 1 }];
                let order = engine.new_order("buyer-0", T, "store", &lines).await;
                assert_eq!(order.is_ok(), report.closed_stores == 0, "{order:?}");
            }
        }
    }
    println!("{answered} panics answered with 530, {stopped} ended the engine");
    assert!(answered > 1 && stopped > 5, "{answered} {stopped}");
}

/// A seller's account that fails on the credit of an order that confirms itself: nothing was done, nobody asks it again
/// at once, and the order is neither lost nor held up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_way_of_a_confirmation_by_itself_holds_nobody_up() {
    let mut config = config(&MemoryDisk::new());
    config.auto_confirm = Some(Duration::from_millis(300));
    let engine = Engine::open(config).await.unwrap();
    shop(&engine).await;
    engine.add_funds("buyer-0", T, 100).await.unwrap();
    let lines = [NewLine { book_id: "book", count: 1 }];
    let mut orders = Vec::new();
    for _ in 0..2 {
        let order = engine.new_order("buyer-0", T, "store", &lines).await.unwrap().to_string();
        engine.pay_to_platform("buyer-0", &order, T).await.unwrap();
        engine.ship("seller", T, "store", &order).await.unwrap();
        orders.push(order);
    }
    // Nothing but the first credit comes to an account now.
    let trap = &engine.core.system.trap;
    trap.set("account", Point::Judged, 0);
    let head = || engine.core.system.journal.head();
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while trap.is_set() || engine.balance("seller", T).await.unwrap() != PRICE {
        assert!(std::time::Instant::now() < end, "it does not come to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(engine.not_ready(), None);
    let mut stands = Vec::new();
    for order in &orders {
        stands.push(engine.order_status("buyer-0", order, T).await.unwrap());
    }
    stands.sort_by_key(|status| *status as u8);
    assert_eq!(stands, [OrderStatus::Shipped, OrderStatus::Completed]);
    let before = head();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(head(), before, "something is done over and over");
    for order in &orders {
        let confirmed = engine.confirm("buyer-0", order, T).await;
        assert!(matches!(&confirmed, Ok(()) | Err(Error::Refused(Refusal::OrderConfirmed(_)))), "{confirmed:?}");
    }
    assert_eq!(engine.balance("seller", T).await.unwrap(), 2 * PRICE);
    assert!(engine.audit().await.unwrap().is_conserved());
}
