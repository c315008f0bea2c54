//! Crashes of the whole engine at disk operation after disk operation: what was acknowledged is there, nothing is
//! there twice, money and copies are conserved, and recovery does the same when it is done again. The documents of
//! the books lie on the same disk. And what callers see when the disk fails and the process lives on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "common/sim_disk.rs"]
mod sim_disk;
#[path = "common/watched_disk.rs"]
mod watched_disk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bookstore::{
    Config, Credential, Durability, Engine, Error, NewBook, NewLine, OpenError, OrderStatus, Search, Storage,
};
use sim_disk::{Crash, SimDisk};
use watched_disk::{Watch, WatchedDisk};

const T: Credential<'static> = Credential::Trusted;
const BUYERS: usize = 3;
const FUNDS: i64 = 1_000;
const STOCK: i64 = 50;
const PRICE: i64 = 10;

fn config(disk: &SimDisk) -> Config {
    let mut config = Config::with(Storage::Disk(Arc::new(disk.clone()), PathBuf::from("/data")));
    config.password_params.memory_kib = 64;
    config.password_params.iterations = 1;
    config.segment_bytes = 16 << 20;
    config.auto_confirm = Some(Duration::from_secs(86_400));
    // Only where the workload says so: operations shall come in the same order each time.
    config.snapshot_interval = Duration::from_secs(3_600);
    config
}

async fn open(disk: &SimDisk) -> Engine {
    match Engine::open(config(disk)).await {
        Ok(engine) => engine,
        Err(error) => panic!("{error}; files: {:?}", disk.files()),
    }
}

fn buyer(index: usize) -> String {
    format!("buyer {index}")
}

fn book(index: usize) -> String {
    format!("book {index}")
}

/// A document of more than a page, another for each book. Some have pictures, which are stored apart.
fn document(index: usize) -> String {
    let pictures = if index.is_multiple_of(2) { format!(r#"["{}"]"#, "iVBO".repeat(1_500)) } else { "[]".into() };
    let content = "字".repeat(2_000 + index);
    format!(r#"{{"id":"book {index}","title":"米","price":{PRICE},"pictures":{pictures},"content":"{content}"}}"#)
}

/// What the callers were told, and what they asked for last without being told.
#[derive(Debug, Default, Clone)]
struct Told {
    registered: usize,
    funded: usize,
    stores: usize,
    closed: usize,
    books: usize,
    /// The order's id and the last status that was acknowledged.
    orders: Vec<(String, usize, OrderStatus)>,
    /// The command that was not answered.
    open: Option<Open>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Open {
    Register,
    Funds,
    Store,
    /// A store closes, and its owner's account is told.
    Close,
    Book,
    /// By this buyer.
    Place(usize),
    /// This order would go to this status.
    Order(usize, OrderStatus),
    /// Changes nothing.
    Snapshot,
}

type Step = Result<(), Error>;

/// The workload: a shop is set up, orders go through every state, with snapshots in between, and leave
/// memory at the end of each round. Ends at the first error.
async fn work(engine: &Engine, told: &mut Told) -> Step {
    told.open = Some(Open::Register);
    engine.register("seller", "pw").await?;
    told.registered += 1;
    told.open = Some(Open::Store);
    engine.create_store("seller", T, "store").await?;
    told.stores += 1;
    for index in 0..BUYERS {
        told.open = Some(Open::Register);
        engine.register(&buyer(index), "pw").await?;
        told.registered += 1;
        told.open = Some(Open::Funds);
        engine.add_funds(&buyer(index), T, FUNDS).await?;
        told.funded += 1;
        told.open = Some(Open::Book);
        let (id, document) = (book(index), document(index));
        engine.add_book("seller", T, "store", NewBook { id: &id, price: PRICE, document: &document }, STOCK).await?;
        told.books += 1;
        // Found as soon as it is listed, and by nobody who could not order it after a crash.
        told.open = None;
        let found = engine.search(Search::new("米")).await?;
        assert_eq!(found.total as usize, told.books);
    }
    told.open = Some(Open::Snapshot);
    engine.snapshot().await?;
    for round in 0..3 {
        for index in 0..BUYERS {
            trade(engine, told, index, round).await?;
        }
        open_and_close(engine, told, round).await?;
        told.open = Some(Open::Snapshot);
        engine.snapshot().await?;
        engine.offload().await?;
    }
    told.open = None;
    Ok(())
}

/// A store that is opened, and closed again.
async fn open_and_close(engine: &Engine, told: &mut Told, number: usize) -> Step {
    let id = format!("side {number}");
    told.open = Some(Open::Store);
    engine.create_store("seller", T, &id).await?;
    told.stores += 1;
    told.open = Some(Open::Close);
    engine.close_store("seller", T, &id).await?;
    told.closed += 1;
    told.open = None;
    let again = engine.close_store("seller", T, &id).await;
    // Or the disk has died.
    assert!(!matches!(&again, Err(Error::Refused(refusal)) if refusal.code() != 513) && again.is_err());
    Ok(())
}

async fn trade(engine: &Engine, told: &mut Told, index: usize, round: usize) -> Step {
    let user = buyer(index);
    told.open = Some(Open::Place(index));
    let (first, second) = (book(index), book((index + 1) % BUYERS));
    let lines = [NewLine { book_id: &first, count: 1 }, NewLine { book_id: &second, count: 2 }];
    let id = engine.new_order(&user, T, "store", &lines).await?.to_string();
    let place = told.orders.len();
    told.orders.push((id.clone(), index, OrderStatus::Pending));
    use OrderStatus::{Canceled, Completed, Paid, Shipped};
    let way: &[OrderStatus] = match (index + round) % 5 {
        0 => &[Paid, Shipped, Completed],
        1 => &[Canceled],
        2 => &[Paid, Completed],
        3 => &[Paid, Canceled],
        _ => &[Paid, Shipped],
    };
    for status in way {
        told.open = Some(Open::Order(place, *status));
        match status {
            Paid if round == 1 => engine.pay(&user, &id, T).await?,
            Paid => engine.pay_to_platform(&user, &id, T).await?,
            Shipped => {
                engine.ship("seller", T, "store", &id).await?;
                // Its order stands where it stood.
                if round != 1 {
                    engine.extend_receipt(&user, &id, T).await?;
                }
            }
            Completed => engine.confirm(&user, &id, T).await?,
            _ if told.orders[place].2 == Paid => engine.refund_order(&user, &id, T).await?,
            _ => engine.cancel_order(&user, &id, T).await?,
        }
        told.orders[place].2 = *status;
    }
    Ok(())
}

/// Checks what was recovered against what was told; gives the state hash.
async fn check(engine: &Engine, told: &Told) -> u128 {
    assert_eq!(engine.not_ready(), None);
    let audit = engine.audit().await.unwrap();
    assert!(audit.is_conserved(), "{audit:?}");
    let maybe = |open: &Open, done: usize| done..=done + usize::from(told.open.as_ref() == Some(open));
    assert!(maybe(&Open::Register, told.registered).contains(&(audit.accounts as usize)), "{audit:?}");
    assert!(maybe(&Open::Store, told.stores).contains(&(audit.stores as usize)), "{audit:?}");
    assert!(maybe(&Open::Close, told.closed).contains(&(audit.closed_stores as usize)), "{audit:?}");
    assert_eq!(audit.contradictions, 0, "{audit:?}");
    let funded = audit.net_put_in / i128::from(FUNDS);
    assert!(maybe(&Open::Funds, told.funded).contains(&(funded as usize)), "{audit:?}");
    assert_eq!(audit.net_put_in, funded * i128::from(FUNDS));

    let mut books = 0;
    for index in 0..BUYERS {
        match engine.book("store", &book(index)).await {
            Ok(found) => {
                assert_eq!(found.document, document(index));
                books += 1;
            }
            // The code is 513 or 515.
            Err(error) => assert!(matches!(&error, Error::Refused(refusal) if [513, 515].contains(&refusal.code()))),
        }
    }
    assert!(maybe(&Open::Book, told.books).contains(&books), "{books} books");
    engine.search_ready().await.unwrap();
    let found = engine.search(Search::new("米").page(1, 100)).await;
    assert_eq!(found.map_or(0, |page| page.books.len()), books, "found and listed");
    assert_eq!(audit.stock_put_in, i128::from(STOCK) * books as i128);

    for index in 0..told.registered.saturating_sub(1) {
        let listed = engine.buyer_orders(&buyer(index), T).await.unwrap();
        let mine: Vec<_> = told.orders.iter().enumerate().filter(|(_, (_, by, _))| *by == index).collect();
        let found = mine.len()..=mine.len() + usize::from(told.open == Some(Open::Place(index)));
        assert!(found.contains(&listed.len()), "{listed:?}");
        for (place, (id, _, status)) in mine {
            let order = listed.iter().find(|order| order.order_id.to_string() == *id).unwrap();
            let open = matches!(&told.open, Some(Open::Order(open, to)) if *open == place && *to == order.status);
            assert!(order.status == *status || open, "{order:?} was {status:?}");
            assert_eq!(order.total_price, 3 * PRICE);
        }
        // Each balance is the deposit without what the orders took.
        let paid = listed.iter().filter(|order| !matches!(order.status, OrderStatus::Pending | OrderStatus::Canceled));
        let spent = paid.count() as i64 * 3 * PRICE;
        let balance = engine.balance(&buyer(index), T).await.unwrap();
        assert!([FUNDS - spent, 0].contains(&balance), "{balance} after {spent}");
    }
    assert_eq!(audit.stock + audit.ordered, audit.stock_put_in);
    audit.state_hash
}

/// The whole life of a shop: a day and its end in good order; a morning that ends as in a crash; an afternoon. Ends at
/// the first error.
async fn live(disk: &SimDisk, told: &mut Told) -> Step {
    let opened = |opened: Result<Engine, OpenError>| opened.map_err(|error| Error::OutcomeUnknown(error.to_string()));
    let engine = opened(Engine::open(config(disk)).await)?;
    work(&engine, told).await?;
    told.open = Some(Open::Snapshot);
    engine.close().await?;
    drop(engine);
    let engine = opened(Engine::open(config(disk)).await)?;
    for index in 0..BUYERS {
        trade(&engine, told, index, 3).await?;
    }
    open_and_close(&engine, told, 3).await?;
    told.open = Some(Open::Snapshot);
    engine.offload().await?;
    drop(engine);
    let engine = opened(Engine::open(config(disk)).await)?;
    for index in 0..BUYERS {
        trade(&engine, told, index, 4).await?;
    }
    told.open = Some(Open::Snapshot);
    engine.snapshot().await?;
    engine.offload().await?;
    told.open = None;
    Ok(())
}

/// Lives on a disk that dies at the `at`-th operation, crashes, and opens twice.
async fn crash_at(at: u64, how: Crash) {
    let disk = SimDisk::new();
    disk.kill_at(at);
    let mut told = Told::default();
    match live(&disk, &mut told).await {
        Ok(()) | Err(Error::OutcomeUnknown(_) | Error::Overloaded(_)) => {}
        Err(error) => panic!("{error}"),
    }
    disk.crash(how);
    let engine = open(&disk).await;
    let hash = check(&engine, &told).await;
    drop(engine);
    disk.crash(how);
    let engine = open(&disk).await;
    assert_eq!(check(&engine, &told).await, hash, "recovery does the same twice");

    if !at.is_multiple_of(3) {
        return;
    }
    // It goes on: what is missing is done now, and a clean close keeps it.
    engine.register("somebody new", "pw").await.unwrap();
    let hash = engine.audit().await.unwrap().state_hash;
    engine.close().await.unwrap();
    drop(engine);
    disk.crash(Crash::LoseAll);
    let engine = open(&disk).await;
    assert_eq!(engine.audit().await.unwrap().state_hash, hash);
    assert_eq!(engine.recovered().replayed_events, 0);
}

/// How many operations the workload takes when nothing fails.
async fn operations() -> u64 {
    let disk = SimDisk::new();
    let mut told = Told::default();
    live(&disk, &mut told).await.unwrap();
    disk.crash(Crash::LoseAll);
    let operations = disk.operations();
    check(&open(&disk).await, &told).await;
    operations
}

/// Crashes before each operation, which is after the one before it: in the long form each, else one of `step` from
/// `from` on. Names the crash point of a test that fails.
async fn crash_points(from: u64, step: u64, how: impl Fn(u64) -> Crash) {
    let (from, step) = if std::env::var_os("BOOKSTORE_EVERY_CRASH").is_some() { (0, 1) } else { (from, step) };
    let end = operations().await;
    assert!(end > 300, "{end} operations");
    let points: Vec<u64> = (from..=end).step_by(step as usize).collect();
    println!("{} crashes in {end} operations", points.len());
    for at in points {
        let how = how(at);
        let ended = tokio::spawn(crash_at(at, how)).await;
        assert!(ended.is_ok(), "crash at operation {at} of {end}, {how:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_that_loses_what_was_not_synced() {
    crash_points(0, 17, |_| Crash::LoseAll).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_that_tears_what_was_not_synced_at_a_sector() {
    crash_points(3, 17, Crash::TearSectors).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_that_tears_what_was_not_synced_at_a_byte() {
    crash_points(6, 17, Crash::Tear).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_of_the_process_that_keeps_what_was_written() {
    crash_points(9, 29, |_| Crash::KeepAll).await;
}

/// Syncs of one kind of file: fails the n-th, and counts those after it.
#[derive(Debug)]
struct Syncs {
    of: &'static str,
    fails_at: u64,
    seen: AtomicU64,
}

impl Watch for Syncs {
    fn sync(&self, path: &Path) -> io::Result<()> {
        // The thread that prepares spare segments comes when it likes.
        let is_watched = path.to_string_lossy().contains(self.of);
        if !is_watched || std::thread::current().name() == Some("journal-spare") {
            return Ok(());
        }
        match self.seen.fetch_add(1, Ordering::SeqCst) == self.fails_at {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    }
}

/// Runs the workload on a disk where the `fails_at`-th sync of such files fails. Gives what was told, and why the
/// engine failed; `None` if it did not get that far.
async fn with_failing_sync(of: &'static str, fails_at: u64, how: Crash) -> Option<String> {
    let disk = SimDisk::new();
    let syncs = Arc::new(Syncs { of, fails_at, seen: AtomicU64::new(0) });
    let mut config = config(&disk);
    config.storage = Storage::Disk(Arc::new(WatchedDisk::new(disk.clone(), syncs.clone())), PathBuf::from("/data"));
    let mut told = Told::default();
    let mut failure = None;
    if let Ok(engine) = Engine::open(config).await
        && let Err(error) = work(&engine, &mut told).await
    {
        assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
        assert!(engine.not_ready().is_some());
        let why = tokio::time::timeout(Duration::from_secs(10), engine.failed()).await.unwrap();
        let snapshots = engine.stats().snapshots;
        // Every call ends, reads too, and nothing is synced again.
        assert!(matches!(engine.add_funds("seller", T, 1).await, Err(Error::OutcomeUnknown(_))));
        assert!(matches!(engine.stock_level("store", "book").await, Err(Error::OutcomeUnknown(_))));
        assert!(matches!(engine.snapshot().await, Err(Error::OutcomeUnknown(_))));
        assert!(matches!(engine.audit().await, Err(Error::OutcomeUnknown(_))));
        assert!(matches!(engine.close().await, Err(Error::OutcomeUnknown(_))));
        assert_eq!(syncs.seen.load(Ordering::SeqCst), fails_at + 1, "a sync after the failed one");
        assert_eq!(engine.stats().snapshots, snapshots, "a snapshot of an engine that failed");
        failure = Some(why);
    }
    // The page cache may have kept what the disk did not: it was not acknowledged, so both are right.
    disk.crash(how);
    let engine = open(&disk).await;
    let hash = check(&engine, &told).await;
    drop(engine);
    assert_eq!(check(&open(&disk).await, &told).await, hash);
    failure
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let mut failed = 0;
    for at in (0..40).step_by(3) {
        let how = if at % 2 == 0 { Crash::LoseAll } else { Crash::KeepAll };
        if let Some(why) = with_failing_sync("/journal/", at, how).await {
            assert!(why.starts_with("the journal failed"), "{why}");
            failed += 1;
        }
    }
    assert!(failed > 8, "{failed} syncs of the journal failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_is_not_on_disk_is_not_listed() {
    let mut failed = 0;
    for at in 4..20 {
        if let Some(why) = with_failing_sync("/documents.redb", at, Crash::LoseAll).await {
            assert!(why.starts_with("a book document could not be stored"), "{why}");
            failed += 1;
        }
    }
    assert!(failed >= 3, "{failed} syncs of the documents failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_fails_harms_nobody() {
    let disk = SimDisk::new();
    let engine = open(&disk).await;
    let mut told = Told::default();
    work(&engine, &mut told).await.unwrap();
    engine.add_funds("seller", T, 5).await.unwrap();
    for n in 0..4 {
        let before = disk.operation_log().len();
        disk.fail_at(n);
        let outcome = engine.snapshot().await;
        let log = disk.operation_log();
        assert!(matches!(outcome, Err(Error::Overloaded(_))), "{outcome:?}: {:?}", &log[before..]);
        assert_eq!(engine.not_ready(), None);
        engine.add_funds("seller", T, 5).await.unwrap();
        assert_eq!(engine.stats().snapshot_failures, n + 1);
    }
    engine.snapshot().await.unwrap();
    let hash = engine.audit().await.unwrap().state_hash;
    drop(engine);
    disk.crash(Crash::LoseAll);
    let engine = open(&disk).await;
    assert_eq!(engine.audit().await.unwrap().state_hash, hash);
    assert_eq!(engine.recovered().replayed_events, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buffered_keeps_a_prefix_when_the_power_fails() {
    for seed in 0..12 {
        let disk = SimDisk::new();
        let mut config = config(&disk);
        config.durability = Durability::Buffered;
        config.sync_interval = Duration::from_millis(1 + seed);
        let engine = Engine::open(config.clone()).await.unwrap();
        let mut told = Told::default();
        work(&engine, &mut told).await.unwrap();
        // Each sum of the first so many says how many there were.
        engine.register("prefix", "pw").await.unwrap();
        for power in 0..40 {
            engine.add_funds("prefix", T, 1 << power).await.unwrap();
        }
        drop(engine);
        disk.crash(if seed % 2 == 0 { Crash::LoseAll } else { Crash::Tear(seed) });
        let engine = Engine::open(config.clone()).await.unwrap();
        let audit = engine.audit().await.unwrap();
        assert!(audit.is_conserved(), "{audit:?}");
        let kept = engine.balance("prefix", T).await.unwrap_or_default();
        assert!((kept + 1).count_ones() == 1, "{kept:b} has a hole");
        if kept > 0 {
            // Then all that came before is there.
            assert_eq!((audit.accounts as usize, audit.orders as usize), (told.registered + 1, told.orders.len()));
        }
        drop(engine);
        disk.crash(Crash::KeepAll);
        assert_eq!(Engine::open(config).await.unwrap().audit().await.unwrap(), audit);
    }
}
