//! Many tasks at once on one engine: whatever the order in which things happen, exactly one wins what there is once,
//! effects are whole, and no money and no copy appears or vanishes. Afterwards the data is opened anew, after a clean
//! close and after a drop, and is the same.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bookstore::{AuditReport, Config, Credential, Durability, Engine, Error, NewBook, NewLine, OrderStatus, Refusal};
use tokio::task::JoinSet;

const T: Credential<'static> = Credential::Trusted;
const PRICE: i64 = 10;

fn config(dir: &Path) -> Config {
    let mut config = Config::directory(dir);
    config.password_params.memory_kib = 64;
    config.password_params.iterations = 1;
    config.durability = Durability::Buffered;
    config.segment_bytes = 16 << 20;
    config
}

/// A shop on a directory that can be opened anew.
struct Shop {
    dir: tempfile::TempDir,
    config: Config,
    engine: Engine,
}

impl Shop {
    /// A seller with a store and a book of `stock` copies, and buyers with `funds` each.
    async fn open(stock: i64, buyers: usize, funds: i64, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        let engine = Engine::open(config.clone()).await.unwrap();
        engine.register("seller", "pw").await.unwrap();
        engine.create_store("seller", T, "store").await.unwrap();
        let book = NewBook { id: "book", price: PRICE, document: "{}" };
        engine.add_book("seller", T, "store", book, stock).await.unwrap();
        for buyer in 0..buyers {
            engine.register(&name(buyer), "pw").await.unwrap();
            engine.add_funds(&name(buyer), T, funds).await.unwrap();
        }
        Shop { dir, config, engine }
    }

    /// Audits now, after a crash and after a clean close: each time the same.
    async fn check_and_reopen(self) -> AuditReport {
        let Shop { dir, config, engine } = self;
        let before = audit(&engine).await;
        drop(engine);
        let engine = Engine::open(config.clone()).await.unwrap();
        assert_eq!(audit(&engine).await, before, "after a crash");
        engine.close().await.unwrap();
        drop(engine);
        let engine = Engine::open(config).await.unwrap();
        assert_eq!(audit(&engine).await, before, "after a clean close");
        drop(engine);
        drop(dir);
        before
    }
}

async fn audit(engine: &Engine) -> AuditReport {
    let audit = engine.audit().await.unwrap();
    assert!(audit.is_conserved(), "{audit:?}");
    audit
}

fn name(buyer: usize) -> String {
    format!("buyer {buyer}")
}

async fn order(engine: &Engine, buyer: usize, count: i64) -> Result<String, Error> {
    let lines = [NewLine { book_id: "book", count }];
    engine.new_order(&name(buyer), T, "store", &lines).await.map(|id| id.to_string())
}

fn code(error: &Error) -> u16 {
    match error {
        Error::Refused(refusal) => refusal.code(),
        other => panic!("{other}"),
    }
}

/// Runs `tasks` of them at once and gives their outcomes.
async fn race<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    tasks: usize,
    task: impl Fn(usize) -> F,
) -> Vec<T> {
    let mut running = JoinSet::new();
    for index in 0..tasks {
        running.spawn(task(index));
    }
    running.join_all().await
}

/// A small generator (xorshift).
struct Dice(u64);

impl Dice {
    fn new(seed: usize) -> Self {
        Dice((seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn payment_cancel_and_expiry_race_for_one_order_and_one_wins() {
    let ttl = Duration::from_millis(30);
    let shop = Shop::open(1_000, 1, 1_000_000, |config| config.order_ttl = ttl).await;
    let won = race(150, |round| {
        let engine = shop.engine.clone();
        async move {
            let id = order(&engine, 0, 1).await.unwrap();
            // Some race early, most around the deadline.
            let wait = Duration::from_micros(Dice::new(round).roll(40_000));
            tokio::time::sleep(wait).await;
            let outcomes = race(4, |what| {
                let (engine, id) = (engine.clone(), id.clone());
                async move {
                    match what {
                        0 => engine.pay("buyer 0", &id, T).await,
                        1 => engine.pay_to_platform("buyer 0", &id, T).await,
                        2 => engine.cancel_order("buyer 0", &id, T).await,
                        _ => engine.cancel_expired().await.and(Err(Refusal::Unauthorized.into())),
                    }
                    .map(|()| what)
                    .map_err(|error| (what, code(&error)))
                }
            })
            .await;
            let winners: Vec<usize> = outcomes.iter().filter_map(|outcome| outcome.ok()).collect();
            let status = engine.order_status("buyer 0", &id, T).await;
            let status = match winners.as_slice() {
                // Then it was late: wait until it is so for everybody.
                [] => OrderStatus::Canceled,
                [0 | 1] => OrderStatus::Paid,
                [2] => OrderStatus::Canceled,
                more => panic!("{more:?} all won: {status:?}"),
            };
            assert_eq!(engine.order_status("buyer 0", &id, T).await, Ok(status), "{outcomes:?}");
            for (what, code) in outcomes.iter().filter_map(|outcome| outcome.err()) {
                let expected = match (what, status) {
                    (0 | 1, OrderStatus::Paid) => 527,
                    (0 | 1, _) => 526,
                    (2, _) => 521,
                    _ => 401,
                };
                assert_eq!(code, expected, "{what} of {outcomes:?}");
            }
            (winners, status)
        }
    })
    .await;
    let paid = won.iter().filter(|(_, status)| *status == OrderStatus::Paid).count() as i64;
    assert!(won.iter().any(|(winners, _)| winners.is_empty()), "no order expired: {won:?}");
    assert!(paid > 0, "no order was paid");
    assert_eq!(shop.engine.stock_level("store", "book").await, Ok(1_000 - paid));
    assert_eq!(shop.engine.balance("buyer 0", T).await, Ok(1_000_000 - paid * PRICE));
    let audit = shop.check_and_reopen().await;
    assert_eq!((audit.orders, audit.ordered), (150, i128::from(paid)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_copies_are_sold_a_thousand_times() {
    let shop = Shop::open(1_000, 64, 100_000, |_| {}).await;
    let sold = race(64, |buyer| {
        let engine = shop.engine.clone();
        async move {
            let mut sold = 0;
            for attempt in 0..40 {
                let count = 1 + attempt % 3;
                match order(&engine, buyer, count).await {
                    Ok(id) => {
                        sold += count;
                        engine.pay(&name(buyer), &id, T).await.unwrap();
                    }
                    Err(error) => assert_eq!(error, Refusal::StockLow("book".into()).into()),
                }
            }
            // The last copies are too few for some.
            while order(&engine, buyer, 1).await.is_ok() {
                sold += 1;
            }
            sold
        }
    })
    .await;
    assert_eq!(sold.iter().sum::<i64>(), 1_000);
    assert_eq!(shop.engine.stock_level("store", "book").await, Ok(0));
    let audit = shop.check_and_reopen().await;
    assert_eq!((audit.stock, audit.ordered), (0, 1_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_gets_an_id() {
    let shop = Shop::open(0, 8, 0, |_| {}).await;
    let exactly_one = |outcomes: Vec<Result<(), Error>>, refusal: Refusal| {
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert!(outcomes.into_iter().all(|outcome| outcome.is_ok() || outcome == Err(refusal.clone().into())));
    };
    for round in 0..30 {
        let engine = &shop.engine;
        let outcomes = race(16, |index| {
            let engine = engine.clone();
            async move { engine.create_store(&name(index % 8), T, &format!("contested {round}")).await }
        })
        .await;
        exactly_one(outcomes, Refusal::StoreExists(format!("contested {round}")));
        let outcomes = race(16, |index| {
            let engine = engine.clone();
            async move { engine.register(&format!("name {round}"), &format!("pw {index}")).await }
        })
        .await;
        exactly_one(outcomes, Refusal::UserExists(format!("name {round}")));
    }
    let audit = shop.check_and_reopen().await;
    assert_eq!((audit.accounts, audit.stores), (1 + 8 + 30, 1 + 30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unregister_and_new_order_exclude_each_other() {
    let shop = Shop::open(1_000, 0, 0, |_| {}).await;
    let outcomes = race(120, |round| {
        let engine = shop.engine.clone();
        async move {
            engine.register(&name(round), "pw").await.unwrap();
            let placing = tokio::spawn({
                let engine = engine.clone();
                async move { order(&engine, round, 1).await }
            });
            if round % 3 == 0 {
                tokio::task::yield_now().await;
            }
            let closed = engine.unregister(&name(round), T).await;
            let placed = placing.await.unwrap();
            match (&placed, &closed) {
                (Ok(id), Err(error)) => {
                    assert_eq!(code(error), 530);
                    assert_eq!(engine.order_status(&name(round), id, T).await, Ok(OrderStatus::Pending));
                }
                (Err(error), Ok(())) => {
                    assert!(matches!(code(error), 511 | 401), "{error}");
                    engine.register(&name(round), "anew").await.unwrap();
                    assert_eq!(engine.order_count(&name(round)).await, Ok(0));
                }
                both => panic!("{both:?}"),
            }
            placed.is_ok()
        }
    })
    .await;
    let placed = outcomes.iter().filter(|placed| **placed).count();
    assert_eq!(shop.engine.stock_level("store", "book").await, Ok(1_000 - placed as i64));
    let audit = shop.check_and_reopen().await;
    assert_eq!((audit.accounts, audit.orders), (1 + 120, placed as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deposits_never_reach_their_bound() {
    const BOUND: i64 = 1 << 62;
    const PART: i64 = BOUND / 16;
    let shop = Shop::open(0, 8, 0, |_| {}).await;
    let kept = race(32, |index| {
        let engine = shop.engine.clone();
        async move {
            let mut kept = 0;
            for round in 0..20 {
                let buyer = name(index % 8);
                match engine.add_funds(&buyer, T, PART).await {
                    Ok(()) if (round + index) % 2 == 0 => {
                        engine.add_funds(&buyer, T, -PART).await.unwrap();
                    }
                    Ok(()) => kept += 1,
                    Err(error) => assert_eq!(code(&error), 530),
                }
            }
            kept
        }
    })
    .await;
    // Fifteen parts are below the bound and sixteen are not.
    let kept: i64 = kept.iter().sum();
    assert_eq!(kept, 15, "every try but the last ones had room");
    // What was refused gave its room back: exactly the rest still fits.
    let rest = BOUND - 1 - kept * PART;
    let refused = shop.engine.add_funds("buyer 0", T, rest + 1).await.unwrap_err();
    assert_eq!(code(&refused), 530);
    shop.engine.add_funds("buyer 0", T, rest).await.unwrap();
    let audit = shop.check_and_reopen().await;
    assert_eq!(audit.balances, i128::from(BOUND - 1));
}

/// A day at the shop by one buyer: every command may be refused, none may go wrong.
async fn trade(engine: &Engine, buyer: usize, dice: &mut Dice) -> Result<(), Error> {
    let user = name(buyer);
    let id = order(engine, buyer, 1 + dice.roll(3) as i64).await?;
    if dice.roll(4) == 0 {
        return engine.cancel_order(&user, &id, T).await;
    }
    match dice.roll(2) {
        0 => engine.pay(&user, &id, Credential::password("pw")).await?,
        _ => engine.pay_to_platform(&user, &id, Credential::password("pw")).await?,
    }
    if dice.roll(2) == 0 {
        engine.ship("seller", T, "store", &id).await?;
    }
    if dice.roll(2) == 0 {
        engine.confirm(&user, &id, T).await?;
    }
    engine.add_stock_level("seller", T, "store", "book", 1).await
}

/// Polls a call at most `times` times; then its future is dropped. A clock would be too coarse for it.
async fn polled<T>(times: u64, call: impl Future<Output = T>) -> Option<T> {
    let mut call = std::pin::pin!(call);
    let mut left = times;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match call.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn must_be_refused(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        assert!(matches!(error, Error::Refused(Refusal::StockLow(_) | Refusal::InsufficientFunds(_))), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dropped_call_happens_whole_or_not_at_all() {
    let shop = Shop::open(500, 16, 3_000, |_| {}).await;
    race(16, |buyer| {
        let engine = shop.engine.clone();
        async move {
            let mut dice = Dice::new(buyer);
            for round in 0..60 {
                let user = name(buyer);
                let store = format!("store of {buyer}, {}", round / 4);
                let mut day = Dice::new(buyer * 1_000 + round);
                if let Some(outcome) = polled(dice.roll(14), trade(&engine, buyer, &mut day)).await {
                    must_be_refused(outcome);
                }
                if let Some(Err(error)) = polled(dice.roll(4), engine.create_store(&user, T, &store)).await {
                    assert_eq!(error, Refusal::StoreExists(store).into());
                }
                if let Some(outcome) = polled(dice.roll(3), engine.add_funds(&user, T, 7)).await {
                    outcome.unwrap();
                }
            }
        }
    })
    .await;
    // Nothing is stuck: no claim on a store id, no order in a queue, no permit.
    for buyer in 0..16 {
        for number in 0..15 {
            let store = format!("store of {buyer}, {number}");
            let outcome = shop.engine.create_store(&name(buyer), T, &store).await;
            assert!(outcome.is_ok() || outcome == Err(Refusal::StoreExists(store.clone()).into()), "{outcome:?}");
        }
        for order in shop.engine.buyer_orders(&name(buyer), T).await.unwrap() {
            if order.status == OrderStatus::Pending {
                shop.engine.cancel_order(&name(buyer), &order.order_id.to_string(), T).await.unwrap();
            }
        }
    }
    assert_eq!(shop.engine.stats().permits_in_use, 0);
    // The room for deposits is what the balances leave.
    let put_in = i64::try_from(audit(&shop.engine).await.net_put_in).unwrap();
    shop.engine.add_funds("seller", T, (1 << 62) - 1 - put_in).await.unwrap();
    shop.check_and_reopen().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn audits_and_snapshots_in_the_middle_of_traffic() {
    let shop = Shop::open(300, 12, 5_000, |config| config.snapshot_interval = Duration::from_millis(50)).await;
    let going = Arc::new(AtomicBool::new(true));
    let audits = Arc::new(AtomicU64::new(0));
    let watcher = tokio::spawn({
        let (engine, going, done) = (shop.engine.clone(), going.clone(), audits.clone());
        async move {
            let mut audits = 0;
            while going.load(Ordering::Relaxed) {
                audit(&engine).await;
                engine.snapshot().await.unwrap();
                audits += 1;
                done.store(audits, Ordering::Relaxed);
                // An audit whose caller goes away lets the others in again.
                polled(audits % 7, engine.audit()).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            audits
        }
    });
    race(12, |buyer| {
        let (engine, audits) = (shop.engine.clone(), audits.clone());
        async move {
            let mut dice = Dice::new(buyer);
            let mut traded = 0;
            // However slow the machine is, some audits have traffic about them from their beginning to their end.
            while traded < 80 || audits.load(Ordering::Relaxed) < 3 && traded < 100_000 {
                must_be_refused(trade(&engine, buyer, &mut dice).await);
                traded += 1;
            }
        }
    })
    .await;
    going.store(false, Ordering::Relaxed);
    assert!(watcher.await.unwrap() >= 3);
    shop.check_and_reopen().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_message_is_lost_while_actors_fall_asleep() {
    let shop = Shop::open(0, 40, 0, |config| {
        config.limits.live_actors_max = 1;
        config.limits.idle_after = Duration::ZERO;
    })
    .await;
    let end = tokio::time::Instant::now() + Duration::from_millis(3_500);
    let sums: Vec<i64> = race(8, |task| {
        let engine = shop.engine.clone();
        async move {
            let mut sum = 0;
            let mut dice = Dice::new(task);
            while tokio::time::Instant::now() < end {
                // Each user by several tasks, so that a message comes while its actor falls asleep.
                let value = 1 + dice.roll(9) as i64;
                let buyer = name(dice.roll(40) as usize);
                let calls = async {
                    engine.add_funds(&buyer, T, value).await.unwrap();
                    engine.add_stock_level("seller", T, "store", "book", value).await.unwrap();
                };
                // Far beyond what any call takes: a lost message is never answered.
                tokio::time::timeout(Duration::from_secs(30), calls).await.expect("a message was lost");
                sum += value;
            }
            sum
        }
    })
    .await;
    let sum: i64 = sums.iter().sum();
    let stats = shop.engine.stats();
    assert_eq!(stats.live_actors + stats.dormant_actors, 42, "40 buyers, the seller and the store");
    assert_eq!(shop.engine.stock_level("store", "book").await, Ok(sum));
    let audit = shop.check_and_reopen().await;
    assert_eq!((audit.balances, audit.stock), (i128::from(sum), i128::from(sum)));
}

/// What tasks were told until the engine went away, and what they asked for at most.
#[derive(Default)]
struct Told {
    acknowledged: AtomicI64,
    asked: AtomicI64,
    orders: AtomicU64,
}

/// Calls until the engine goes away; then says how.
async fn call_until_it_ends(engine: Engine, buyer: usize, told: Arc<Told>) -> Error {
    loop {
        told.asked.fetch_add(1, Ordering::Relaxed);
        match engine.add_funds(&name(buyer), T, 1).await {
            Ok(()) => told.acknowledged.fetch_add(1, Ordering::Relaxed),
            Err(error) => return error,
        };
        match order(&engine, buyer, 1).await {
            Ok(_) => told.orders.fetch_add(1, Ordering::Relaxed),
            Err(error) => return error,
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_close_while_tasks_call_answers_all_of_them() {
    let Shop { dir: _dir, config, mut engine } = Shop::open(1_000_000, 8, 0, |_| {}).await;
    let (mut put_in, mut orders) = (0, 0);
    for _ in 0..5 {
        let told = Arc::new(Told::default());
        let mut callers = JoinSet::new();
        for buyer in 0..8 {
            callers.spawn(call_until_it_ends(engine.clone(), buyer, told.clone()));
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
        engine.close().await.unwrap();
        for error in callers.join_all().await {
            assert_eq!(error, Error::Draining);
        }
        engine = Engine::open(config.clone()).await.unwrap();
        assert_eq!(engine.recovered().replayed_events, 0);
        let audit = audit(&engine).await;
        put_in += told.acknowledged.load(Ordering::Relaxed);
        orders += told.orders.load(Ordering::Relaxed);
        // Every call was answered, so it is exactly what was acknowledged.
        assert_eq!((audit.net_put_in, audit.orders), (i128::from(put_in), orders));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_drop_while_tasks_call_loses_nothing_acknowledged() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let change = |config: &mut Config| config.durability = durability;
        let Shop { dir: _dir, config, mut engine } = Shop::open(1_000_000, 8, 0, change).await;
        let mut put_in = 0;
        let mut orders = 0;
        for _ in 0..4 {
            let told = Arc::new(Told::default());
            let mut callers = JoinSet::new();
            for buyer in 0..8 {
                callers.spawn(call_until_it_ends(engine.clone(), buyer, told.clone()));
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
            // The last handle goes with the last caller.
            drop(engine);
            callers.shutdown().await;
            engine = Engine::open(config.clone()).await.unwrap();
            let found = audit(&engine).await;
            let least = put_in + i128::from(told.acknowledged.load(Ordering::Relaxed));
            let most = put_in + i128::from(told.asked.load(Ordering::Relaxed));
            assert!((least..=most).contains(&found.net_put_in), "{least} to {most}: {found:?}");
            let least = orders + told.orders.load(Ordering::Relaxed);
            assert!((least..=least + 8).contains(&found.orders), "{least}: {found:?}");
            (put_in, orders) = (found.net_put_in, found.orders);
            drop(engine);
            engine = Engine::open(config.clone()).await.unwrap();
            assert_eq!(audit(&engine).await, found, "recovery does the same twice");
        }
    }
}

/// Nobody looks at the orders: that they expire is seen by their copies, which come back. Deadlines come in every
/// millisecond, while others are being looked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_deadline_is_slept_through() {
    const STOCK: i64 = 1_000_000;
    for round in 1..=10 {
        let ttl = Duration::from_millis(1 + round as u64 % 5);
        let shop = Shop::open(STOCK, 4, 1_000_000, |config| config.order_ttl = ttl).await;
        race(4, |buyer| {
            let engine = shop.engine.clone();
            async move {
                let mut dice = Dice::new(round * 4 + buyer);
                for _ in 0..100 {
                    order(&engine, buyer, 1).await.unwrap();
                    tokio::time::sleep(Duration::from_micros(dice.roll(2_000))).await;
                }
            }
        })
        .await;
        let all_back = async {
            while shop.engine.stock_level("store", "book").await.unwrap() < STOCK {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all_back).await.expect("an order never expired");
    }
}
