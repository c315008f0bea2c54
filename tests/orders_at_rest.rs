//! Orders that rest leave memory for the disk and come back when a command on them comes: nothing is lost, nothing is
//! there twice, lists and counts are complete and in order, whatever crashes in between.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "common/sim_disk.rs"]
mod sim_disk;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bookstore::{Config, Credential, Durability, Engine, Error, NewBook, NewLine, OpenError, OrderStatus, Storage};
use sim_disk::{Crash, SimDisk};

const T: Credential<'static> = Credential::Trusted;
const PRICE: i64 = 10;
const STOCK: i64 = 100_000;
const FUNDS: i64 = 1_000_000;

fn settings(mut config: Config) -> Config {
    config.password_params.memory_kib = 64;
    config.password_params.iterations = 1;
    config.segment_bytes = 16 << 20;
    config.snapshot_interval = Duration::from_secs(3_600);
    // Orders leave when a test says so.
    config.limits.idle_after = Duration::from_secs(3_600);
    config
}

fn config(dir: &Path) -> Config {
    settings(Config::directory(dir))
}

async fn shop(engine: &Engine, buyers: usize) {
    engine.register("seller", "pw").await.unwrap();
    engine.create_store("seller", T, "store").await.unwrap();
    let document = r#"{"id":"book","title":"米","price":10}"#;
    engine.add_book("seller", T, "store", NewBook { id: "book", price: PRICE, document }, STOCK).await.unwrap();
    for index in 0..buyers {
        engine.register(&buyer(index), "pw").await.unwrap();
        engine.add_funds(&buyer(index), T, FUNDS).await.unwrap();
    }
}

fn buyer(index: usize) -> String {
    format!("buyer {index}")
}

async fn place(engine: &Engine, buyer: &str) -> Result<String, Error> {
    let lines = [NewLine { book_id: "book", count: 1 }];
    Ok(engine.new_order(buyer, T, "store", &lines).await?.to_string())
}

fn refused(outcome: Result<(), Error>) -> u16 {
    match outcome {
        Err(Error::Refused(refusal)) => refusal.code(),
        other => panic!("{other:?} is no refusal"),
    }
}

/// One order in each state, of buyer 0.
async fn in_every_state(engine: &Engine) -> Vec<(String, OrderStatus)> {
    let user = buyer(0);
    let mut orders = Vec::new();
    for status in
        [OrderStatus::Pending, OrderStatus::Paid, OrderStatus::Shipped, OrderStatus::Completed, OrderStatus::Canceled]
    {
        let id = place(engine, &user).await.unwrap();
        match status {
            OrderStatus::Paid => engine.pay(&user, &id, T).await.unwrap(),
            OrderStatus::Shipped | OrderStatus::Completed => {
                engine.pay_to_platform(&user, &id, T).await.unwrap();
                engine.ship("seller", T, "store", &id).await.unwrap();
            }
            OrderStatus::Canceled => engine.cancel_order(&user, &id, T).await.unwrap(),
            _ => {}
        }
        if status == OrderStatus::Completed {
            engine.confirm(&user, &id, T).await.unwrap();
        }
        orders.push((id, status));
    }
    orders
}

async fn check(engine: &Engine, orders: &[(String, OrderStatus)]) {
    let newest_first: Vec<_> = orders.iter().rev().cloned().collect();
    let listed = engine.buyer_orders(&buyer(0), T).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|order| (order.order_id.to_string(), order.status)).collect();
    assert_eq!(listed, newest_first);
    let of_store = engine.store_orders("seller", T, "store").await.unwrap();
    let of_store: Vec<_> = of_store.iter().map(|order| (order.order_id.to_string(), order.status)).collect();
    assert_eq!(of_store, newest_first);
    assert_eq!(engine.order_count(&buyer(0)).await.unwrap(), orders.len() as i64);
    assert!(engine.audit().await.unwrap().is_conserved());
}

#[tokio::test]
async fn lists_and_commands_are_the_same_on_orders_at_rest() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    shop(&engine, 2).await;
    let orders = in_every_state(&engine).await;
    let before = engine.audit().await.unwrap();
    // All but the pending one leave, and none twice.
    assert_eq!(engine.offload().await.unwrap(), 4);
    assert_eq!(engine.offload().await.unwrap(), 0);
    assert_eq!(engine.stats().orders_resting, 4);
    assert_eq!(engine.audit().await.unwrap(), before);
    check(&engine, &orders).await;
    let user = buyer(0);
    let id = |status| &orders.iter().find(|(_, found)| *found == status).unwrap().0;
    for (id, status) in &orders {
        assert_eq!(engine.order_status(&user, id, T).await.unwrap(), *status);
        assert_eq!(refused(engine.order_status(&buyer(1), id, T).await.map(drop)), 518);
        assert_eq!(refused(engine.pay(&buyer(1), id, T).await), 401);
    }
    // Having been looked at, they are in memory and on disk, and count once.
    check(&engine, &orders).await;
    assert_eq!(engine.offload().await.unwrap(), 4);
    assert_eq!(refused(engine.pay(&user, id(OrderStatus::Completed), T).await), 527);
    assert_eq!(refused(engine.pay(&user, id(OrderStatus::Canceled), T).await), 526);
    assert_eq!(refused(engine.pay_to_platform(&user, id(OrderStatus::Shipped), T).await), 400);
    assert_eq!(refused(engine.cancel_order(&user, id(OrderStatus::Paid), T).await), 521);
    assert_eq!(refused(engine.ship("seller", T, "store", id(OrderStatus::Canceled)).await), 520);
    assert_eq!(refused(engine.unregister(&user, T).await), 530);

    engine.offload().await.unwrap();
    engine.ship("seller", T, "store", id(OrderStatus::Paid)).await.unwrap();
    engine.confirm(&user, id(OrderStatus::Paid), T).await.unwrap();
    engine.offload().await.unwrap();
    engine.confirm(&user, id(OrderStatus::Shipped), T).await.unwrap();
    engine.cancel_order(&user, id(OrderStatus::Pending), T).await.unwrap();
    engine.offload().await.unwrap();
    let ended = |status| match status {
        OrderStatus::Pending | OrderStatus::Canceled => OrderStatus::Canceled,
        _ => OrderStatus::Completed,
    };
    let orders: Vec<_> = orders.iter().map(|(id, status)| (id.clone(), ended(*status))).collect();
    check(&engine, &orders).await;

    // Nothing is open any more, so the user may go, and who comes after him inherits nothing.
    let balance = engine.balance(&user, T).await.unwrap();
    engine.add_funds(&user, T, -balance).await.unwrap();
    engine.unregister(&user, T).await.unwrap();
    engine.register(&user, "pw").await.unwrap();
    assert_eq!(engine.order_count(&user).await.unwrap(), 0);
    assert_eq!(refused(engine.pay(&user, &orders[0].0, T).await), 511);
    assert_eq!(engine.store_orders("seller", T, "store").await.unwrap().len(), 5);
    engine.close().await.unwrap();
}

#[tokio::test]
async fn what_rests_is_there_after_every_kind_of_restart() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    shop(&engine, 1).await;
    let mut orders = in_every_state(&engine).await;
    engine.snapshot().await.unwrap();
    engine.offload().await.unwrap();
    // In the older snapshot all are in memory, in the newer one only the pending one; one changes after both.
    engine.register("somebody", "pw").await.unwrap();
    engine.snapshot().await.unwrap();
    engine.ship("seller", T, "store", &orders[1].0).await.unwrap();
    orders[1].1 = OrderStatus::Shipped;
    let audit = engine.audit().await.unwrap();
    drop(engine);

    let engine = Engine::open(config(dir.path())).await.unwrap();
    assert_eq!((engine.recovered().orders, engine.recovered().resting_orders), (2, 4));
    assert_eq!(engine.audit().await.unwrap(), audit);
    check(&engine, &orders).await;
    drop(engine);

    // The newer snapshot is damaged: the older one has rows that the disk has newer ones of.
    let snapshots = |name: &str| name.ends_with(".snap").then(|| dir.path().join(name));
    let names = std::fs::read_dir(dir.path()).unwrap();
    let mut found: Vec<_> = names.filter_map(|entry| snapshots(entry.unwrap().file_name().to_str().unwrap())).collect();
    found.sort();
    assert_eq!(found.len(), 2);
    let mut bytes = std::fs::read(&found[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&found[1], bytes).unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    assert_eq!(engine.recovered().damaged_snapshots.len(), 1);
    assert_eq!(engine.audit().await.unwrap(), audit);
    check(&engine, &orders).await;
    engine.offload().await.unwrap();
    engine.close().await.unwrap();

    let engine = Engine::open(config(dir.path())).await.unwrap();
    assert_eq!((engine.recovered().orders, engine.recovered().replayed_events), (1, 0));
    assert_eq!(engine.audit().await.unwrap(), audit);
    check(&engine, &orders).await;
}

#[tokio::test]
async fn orders_leave_by_themselves_when_they_are_idle_or_too_many() {
    for (idle, most) in [(Duration::from_secs(1), 1_000_000), (Duration::from_secs(3_600), 0)] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        config.limits.idle_after = idle;
        config.limits.resting_orders_max = most;
        let engine = Engine::open(config).await.unwrap();
        shop(&engine, 1).await;
        let orders = in_every_state(&engine).await;
        let start = Instant::now();
        while engine.stats().orders_left < 4 {
            assert!(start.elapsed() < Duration::from_secs(60), "orders stay in memory");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        check(&engine, &orders).await;
    }
}

#[tokio::test]
async fn a_list_is_whole_or_refused_wherever_its_orders_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.limits.orders_listed_max = 10;
    let engine = Engine::open(config).await.unwrap();
    shop(&engine, 1).await;
    for count in 1..=12 {
        let id = place(&engine, &buyer(0)).await.unwrap();
        engine.pay(&buyer(0), &id, T).await.unwrap();
        if count % 3 == 0 {
            engine.offload().await.unwrap();
        }
        assert_eq!(engine.order_count(&buyer(0)).await.unwrap(), count);
        let listed = engine.buyer_orders(&buyer(0), T).await;
        let of_store = engine.store_orders("seller", T, "store").await;
        if count <= 10 {
            assert_eq!((listed.unwrap().len(), of_store.unwrap().len()), (count as usize, count as usize));
        } else {
            assert_eq!(refused(listed.map(drop)), 530);
            assert_eq!(refused(of_store.map(drop)), 530);
        }
    }
}

/// While orders leave as fast as they can, others buy, and every command finds its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_and_orders_that_leave_do_not_harm_each_other() {
    const BUYERS: usize = 8;
    const ROUNDS: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    shop(&engine, BUYERS).await;
    let leaving = engine.clone();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let offload = tokio::spawn(async move {
        let mut left = 0;
        while stopped.try_recv().is_err() {
            left += leaving.offload().await.unwrap();
            tokio::task::yield_now().await;
        }
        // However few rounds there were beside the traffic, each order has left once now.
        left + leaving.offload().await.unwrap()
    });
    let mut buyers = tokio::task::JoinSet::new();
    for index in 0..BUYERS {
        let engine = engine.clone();
        buyers.spawn(async move {
            let user = buyer(index);
            for round in 0..ROUNDS {
                let id = place(&engine, &user).await.unwrap();
                engine.pay_to_platform(&user, &id, T).await.unwrap();
                assert_eq!(engine.order_status(&user, &id, T).await.unwrap(), OrderStatus::Paid);
                // Two at once on one order: one wins, and both hear the truth.
                let (ship, confirm) =
                    tokio::join!(engine.ship("seller", T, "store", &id), engine.confirm(&user, &id, T));
                confirm.unwrap();
                assert!(ship.is_ok() || refused(ship) == 529);
                assert_eq!(refused(engine.confirm(&user, &id, T).await), 528);
                let listed = engine.buyer_orders(&user, T).await.unwrap();
                assert_eq!(listed.len(), round + 1);
                assert!(listed.iter().all(|order| order.status == OrderStatus::Completed));
                assert!(listed.is_sorted_by_key(|order| std::cmp::Reverse(order.order_id)));
                assert_eq!(engine.order_count(&user).await.unwrap(), round as i64 + 1);
            }
        });
    }
    while let Some(ended) = buyers.join_next().await {
        ended.unwrap();
    }
    stop.send(()).unwrap();
    assert!(offload.await.unwrap() >= (BUYERS * ROUNDS) as u64);
    let audit = engine.audit().await.unwrap();
    assert!(audit.is_conserved());
    assert_eq!((audit.orders, audit.escrow), ((BUYERS * ROUNDS) as u64, 0));
    assert_eq!(engine.store_orders("seller", T, "store").await.unwrap().len(), BUYERS * ROUNDS);
    drop(engine);
    let engine = Engine::open(config(dir.path())).await.unwrap();
    assert_eq!(engine.audit().await.unwrap(), audit);
}

/// Without a journal a crash goes back to a snapshot, so nothing may be on disk that it does not hold.
#[tokio::test]
async fn without_a_journal_orders_leave_when_two_snapshots_hold_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.durability = Durability::Snapshot;
    let engine = Engine::open(config.clone()).await.unwrap();
    shop(&engine, 1).await;
    let orders = in_every_state(&engine).await;
    assert_eq!(engine.offload().await.unwrap(), 0);
    engine.snapshot().await.unwrap();
    assert_eq!(engine.offload().await.unwrap(), 0);
    // A snapshot is named by its LSN, so something has to happen between two.
    engine.add_funds(&buyer(0), T, 1).await.unwrap();
    engine.snapshot().await.unwrap();
    assert_eq!(engine.offload().await.unwrap(), 4);
    check(&engine, &orders).await;
    // This is lost, and the row on disk does not know of it.
    engine.confirm(&buyer(0), &orders[1].0, T).await.unwrap();
    assert_eq!(engine.offload().await.unwrap(), 0);
    drop(engine);
    let engine = Engine::open(config).await.unwrap();
    check(&engine, &orders).await;
}

#[tokio::test]
async fn a_damaged_row_is_told_and_the_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    shop(&engine, 2).await;
    let mut ids = Vec::new();
    for index in 0..2 {
        let id = place(&engine, &buyer(index)).await.unwrap();
        engine.pay(&buyer(index), &id, T).await.unwrap();
        ids.push(id);
    }
    engine.offload().await.unwrap();
    engine.close().await.unwrap();
    drop(engine);
    // The row holds the id, as its key does: the last place is in the row.
    let path = dir.path().join("orders.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let id = u128::from_str_radix(&ids[0].replace('-', ""), 16).unwrap().to_be_bytes();
    let row = [&[0xc4, 16][..], &id].concat();
    let places: Vec<_> =
        bytes.windows(row.len()).enumerate().filter(|(_, part)| *part == row).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + row.len() + 4] ^= 1;
    }
    std::fs::write(&path, bytes).unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let user = buyer(0);
    for outcome in [
        engine.order_status(&user, &ids[0], T).await.map(drop),
        engine.confirm(&user, &ids[0], T).await,
        engine.buyer_orders(&user, T).await.map(drop),
        engine.store_orders("seller", T, "store").await.map(drop),
        engine.audit().await.map(drop),
    ] {
        assert!(matches!(outcome, Err(Error::Overloaded(_))), "{outcome:?}");
    }
    assert_eq!(engine.not_ready(), None);
    assert_eq!(engine.order_status(&buyer(1), &ids[1], T).await.unwrap(), OrderStatus::Paid);
    engine.confirm(&buyer(1), &ids[1], T).await.unwrap();
    assert_eq!(engine.buyer_orders(&buyer(1), T).await.unwrap().len(), 1);
}

fn damaged(opened: Result<Engine, OpenError>) -> String {
    match opened {
        Err(OpenError::Damaged(why)) => why,
        other => panic!("{other:?} is no refusal to open"),
    }
}

/// A directory put together from parts of different times: without the file of orders at rest, or with an older one,
/// the open would succeed and their orders would be gone, or be as they were.
#[tokio::test]
async fn a_missing_or_older_file_of_orders_at_rest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, older) = (dir.path().join("orders.redb"), dir.path().join("older"));
    let engine = Engine::open(config(dir.path())).await.unwrap();
    shop(&engine, 1).await;
    let mut orders = in_every_state(&engine).await;
    engine.offload().await.unwrap();
    engine.close().await.unwrap();
    std::fs::copy(&path, &older).unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    // As many rows as before, but one of them is newer.
    engine.ship("seller", T, "store", &orders[1].0).await.unwrap();
    orders[1].1 = OrderStatus::Shipped;
    engine.offload().await.unwrap();
    engine.close().await.unwrap();
    let whole = std::fs::read(&path).unwrap();

    std::fs::remove_file(&path).unwrap();
    assert!(damaged(Engine::open(config(dir.path())).await).contains("orders.redb"));
    std::fs::copy(&older, &path).unwrap();
    assert!(damaged(Engine::open(config(dir.path())).await).contains("orders.redb"));
    std::fs::write(&path, whole).unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    check(&engine, &orders).await;
}

/// The other way round: snapshots and journal of a backup, beside a file of orders at rest that went on. Its orders
/// would be there twice, or be newer than the money.
#[tokio::test]
async fn a_state_older_than_the_orders_at_rest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    shop(&engine, 1).await;
    let id = place(&engine, &buyer(0)).await.unwrap();
    engine.close().await.unwrap();
    let backup = tempfile::tempdir().unwrap();
    copy(dir.path(), backup.path());
    let engine = Engine::open(config(dir.path())).await.unwrap();
    engine.pay(&buyer(0), &id, T).await.unwrap();
    assert_eq!(engine.offload().await.unwrap(), 1);
    engine.close().await.unwrap();
    std::fs::copy(dir.path().join("orders.redb"), backup.path().join("orders.redb")).unwrap();
    assert!(damaged(Engine::open(config(backup.path())).await).contains("orders.redb"));
    let engine = Engine::open(config(dir.path())).await.unwrap();
    check(&engine, &[(id, OrderStatus::Paid)]).await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// "Never" is a time, too.
#[tokio::test]
async fn orders_stay_in_memory_for_the_longest_time_that_can_be_set() {
    for idle in [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_secs(1 << 32)] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        config.limits.idle_after = idle;
        let engine = Engine::open(config).await.unwrap();
        shop(&engine, 1).await;
        let orders = in_every_state(&engine).await;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(engine.not_ready(), None);
        assert_eq!(engine.stats().orders_left, 0);
        assert!(engine.stats().live_actors > 0);
        check(&engine, &orders).await;
    }
}

fn on(disk: &SimDisk) -> Config {
    settings(Config::with(Storage::Disk(Arc::new(disk.clone()), PathBuf::from("/data"))))
}

/// Orders go out, come back by a command, change, and go out again, with a snapshot between. `told` gets what was
/// acknowledged.
async fn out_and_back(engine: &Engine, told: &mut Vec<(String, OrderStatus)>) -> Result<(), Error> {
    let user = buyer(0);
    for round in 0..3 {
        let id = place(engine, &user).await?;
        told.push((id.clone(), OrderStatus::Pending));
        engine.pay_to_platform(&user, &id, T).await?;
        told[round].1 = OrderStatus::Paid;
        engine.offload().await?;
        engine.ship("seller", T, "store", &id).await?;
        told[round].1 = OrderStatus::Shipped;
        if round == 1 {
            engine.snapshot().await?;
        }
        engine.offload().await?;
        if let Some(earlier) = round.checked_sub(1) {
            engine.confirm(&user, &told[earlier].0, T).await?;
            told[earlier].1 = OrderStatus::Completed;
        }
    }
    engine.offload().await?;
    Ok(())
}

fn rank(status: OrderStatus) -> usize {
    OrderStatus::ALL.iter().position(|found| *found == status).unwrap()
}

/// The disk dies at one operation after the other, in every way that a crash may leave it. The short form takes every
/// other operation, and one way for each; `BOOKSTORE_EVERY_CRASH=1` takes all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_steps_loses_nothing_and_doubles_nothing() {
    let every = std::env::var("BOOKSTORE_EVERY_CRASH").is_ok();
    let mut at = 0;
    let mut crashes = 0;
    loop {
        let mut done = false;
        let ways = [Crash::LoseAll, Crash::Tear(at), Crash::KeepAll];
        let taken = if every { &ways[..] } else { &ways[at as usize / 2 % 3..][..1] };
        for how in taken.iter().copied() {
            let disk = SimDisk::new();
            let engine = Engine::open(on(&disk)).await.unwrap();
            shop(&engine, 1).await;
            disk.kill_at(at);
            let mut told = Vec::new();
            let ended = out_and_back(&engine, &mut told).await;
            done = ended.is_ok();
            crashes += usize::from(!done);
            drop(engine);
            disk.crash(how);
            let engine = Engine::open(on(&disk)).await.unwrap();
            let audit = engine.audit().await.unwrap();
            assert!(audit.is_conserved(), "operation {at}, {how:?}: {audit:?}");
            let listed = engine.buyer_orders(&buyer(0), T).await.unwrap();
            // One more may have been placed without an answer.
            assert!((told.len()..=told.len() + usize::from(!done)).contains(&listed.len()), "operation {at}, {how:?}");
            for (id, status) in &told {
                let found: Vec<_> = listed.iter().filter(|order| order.order_id.to_string() == *id).collect();
                assert_eq!(found.len(), 1, "operation {at}, {how:?}: {id}");
                // The command that was not answered may have been done.
                assert!(rank(found[0].status) >= rank(*status), "operation {at}, {how:?}: {found:?} was {status:?}");
                assert_eq!(engine.order_status(&buyer(0), id, T).await.unwrap(), found[0].status);
            }
            assert_eq!(engine.order_count(&buyer(0)).await.unwrap(), listed.len() as i64);
            // Once more, from what is there now.
            engine.offload().await.unwrap();
            drop(engine);
            disk.crash(Crash::LoseAll);
            let engine = Engine::open(on(&disk)).await.unwrap();
            assert_eq!(engine.audit().await.unwrap(), audit, "operation {at}, {how:?}");
        }
        if done {
            break;
        }
        at += if every { 1 } else { 2 };
    }
    assert!(crashes > 20, "{crashes} crashes");
}

/// One operation fails, and the disk works on as if nothing had been: the engine tells nobody anything any more, ends,
/// and what it had told is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_disk_is_final_and_loses_nothing() {
    let step = if std::env::var("BOOKSTORE_EVERY_CRASH").is_ok() { 1 } else { 5 };
    for at in (0..).step_by(step) {
        let disk = SimDisk::new();
        let engine = Engine::open(on(&disk)).await.unwrap();
        shop(&engine, 1).await;
        disk.fail_at(at);
        let before = disk.operations();
        let mut told = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(60), out_and_back(&engine, &mut told)).await;
        let failed = disk.operation_log().get((before + at) as usize).cloned();
        if let Err(error) = ended.expect("a call hangs") {
            assert!(!matches!(error, Error::Refused(_)), "{at}, {failed:?}: {error}");
        }
        if failed.as_ref().is_some_and(|operation| operation.contains("orders.redb")) {
            let why = tokio::time::timeout(Duration::from_secs(60), engine.failed()).await.expect("it does not fail");
            assert!(why.contains("orders at rest"), "{at}, {failed:?}: {why}");
            assert!(matches!(engine.order_count(&buyer(0)).await, Err(Error::OutcomeUnknown(_))), "{at}, {failed:?}");
        }
        let _ = tokio::time::timeout(Duration::from_secs(60), engine.close()).await.expect("the end hangs");
        drop(engine);
        disk.crash(Crash::LoseAll);
        let engine = Engine::open(on(&disk)).await.unwrap();
        assert!(engine.audit().await.unwrap().is_conserved(), "{at}, {failed:?}");
        for (id, status) in &told {
            let found = engine.order_status(&buyer(0), id, T).await.unwrap();
            assert!(rank(found) >= rank(*status), "{at}, {failed:?}: {found:?} was {status:?}");
        }
        if failed.is_none() {
            break;
        }
    }
}
