//! How the cost of a paid order grows with the shop: each size beside a small shop, in turns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bookstore::offline::{LoadAccount, LoadLine, LoadOptions, LoadOrder, LoadPassword, LoadTimes, Loader};
use bookstore::{Durability, Engine, NewBook, NewLine, OrderStatus};

use crate::flags::{self, Flags};
use crate::paid::phase;
use crate::variations::Dice;
use crate::{Failure, machine, shop};

/// Funds of a buyer in fen: more than is spent, and in sum below what an engine takes.
const FUNDS: i64 = 1_000_000_000;
/// When the first order of the past was placed, in ms since the Unix epoch; one each ms follows.
const PAST_MS: u64 = 1_600_000_000_000;
const SMALL_USERS: usize = 10_000;
const SMALL_STORES: usize = 100;
const SMALL_BOOKS: usize = 10;

/// Over all turns.
static CALLERS_SO_FAR: AtomicU64 = AtomicU64::new(0);

/// What a data directory holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Size {
    users: usize,
    stores: usize,
    /// Books of each store.
    books: usize,
    /// Orders of the past, completed.
    orders: usize,
}

const SMALL: Size = Size { users: SMALL_USERS, stores: SMALL_STORES, books: SMALL_BOOKS, orders: 0 };

/// A shop and what is ordered in it.
#[derive(Clone, Copy)]
struct Point {
    size: Size,
    /// Every order goes to one store.
    hot: bool,
    /// Lines of each order.
    lines: usize,
}

const USUAL: Point = Point { size: SMALL, hot: false, lines: 1 };

/// One direction in which a shop grows: names of the points, the first of which is the one that the others stand beside.
struct Axis {
    name: &'static str,
    points: Vec<(String, Point)>,
}

fn axes(flags: &mut Flags) -> Result<Vec<Axis>, Failure> {
    let of = flags.text("of").unwrap_or_else(|| "all".to_owned());
    let mut numbers = |name: &str, default: &str| -> Result<Vec<usize>, Failure> {
        let text = flags.text(name).unwrap_or_else(|| default.to_owned());
        let numbers = text.split(',').map(|number| number.parse().map_err(|_| format!("--{name} {text}: no numbers")));
        Ok(numbers.collect::<Result<_, _>>()?)
    };
    let many = |numbers: Vec<usize>, unit: &str, point: &dyn Fn(usize) -> Point| -> Vec<(String, Point)> {
        numbers.into_iter().map(|number| (format!("{number} {unit}"), point(number))).collect()
    };
    let users = numbers("users", "10000,100000,1000000,10000000")?;
    let stores = numbers("stores", "100,4,1000,10000")?;
    let lines = numbers("lines", "1,5,10,100")?;
    let orders = numbers("orders", "0,1000000,4000000")?;
    let books = lines.iter().copied().max().unwrap_or(1).max(SMALL_BOOKS);
    let axes = vec![
        Axis { name: "users", points: many(users, "users", &|users| Point { size: Size { users, ..SMALL }, ..USUAL }) },
        Axis {
            name: "stores",
            points: many(stores, "stores", &|stores| Point { size: Size { stores, ..SMALL }, ..USUAL }),
        },
        Axis {
            name: "hot",
            points: vec![("uniform".to_owned(), USUAL), ("one hot store".to_owned(), Point { hot: true, ..USUAL })],
        },
        Axis {
            name: "lines",
            points: many(lines, "lines", &|lines| Point { size: Size { books, ..SMALL }, lines, ..USUAL }),
        },
        Axis {
            name: "history",
            points: many(orders, "orders of the past", &|orders| Point { size: Size { orders, ..SMALL }, ..USUAL }),
        },
    ];
    if of == "all" {
        return Ok(axes);
    }
    let known: Vec<_> = axes.into_iter().filter(|axis| of.split(',').any(|name| name == axis.name)).collect();
    if known.len() != of.split(',').count() {
        return Err(format!("--of {of}: not all, users, stores, hot, lines or history").into());
    }
    Ok(known)
}

/// How a point is measured.
struct Turns {
    callers: usize,
    rounds: usize,
    seconds: f64,
    warm_up: f64,
}

pub(crate) async fn run(mut flags: Flags) -> Result<(), Failure> {
    let turns = Turns {
        callers: flags.number("callers", 1_024)?,
        rounds: flags.number("rounds", 4)?,
        seconds: flags.number("seconds", 2.0)?,
        warm_up: flags.number("warm-up", 0.5)?,
    };
    let durabilities = match flags.text("durability") {
        None => vec![Durability::Sync, Durability::Snapshot],
        Some(one) => vec![flags::durability(&one)?],
    };
    let axes = axes(&mut flags)?;
    let from = flags.text("from").map(PathBuf::from);
    let only_builds = flags.text("build-only").is_some();
    let mut work = shop::WorkDir::new(&mut flags)?;
    if only_builds {
        work.keep();
    }
    flags.finish()?;
    if turns.callers == 0 || turns.rounds == 0 || axes.iter().any(|axis| axis.points.is_empty()) {
        return Err("--callers, --rounds and the sizes must be 1 or more".into());
    }
    let dir = from.as_deref().unwrap_or(work.path());
    for (_, point) in axes.iter().flat_map(|axis| &axis.points) {
        build(&dir_of(dir, point.size), point.size)?;
    }
    if only_builds {
        return Ok(());
    }
    machine::print(work.path())?;
    for durability in durabilities {
        for axis in &axes {
            grow(&Dirs { built: dir, work: work.path() }, axis, durability, &turns).await?;
        }
    }
    Ok(())
}

fn dir_of(dir: &Path, size: Size) -> PathBuf {
    let Size { users, stores, books, orders } = size;
    dir.join(format!("users-{users}-stores-{stores}-books-{books}-orders-{orders}"))
}

/// Makes a shop, unless it is there.
fn build(dir: &Path, size: Size) -> Result<(), Failure> {
    if dir.exists() {
        return Ok(());
    }
    let hash = shop::cheap_hash()?;
    let mut loader = Loader::begin(dir, LoadOptions::default())?;
    let account = |user_id: &str, loader: &mut Loader| {
        loader.account(&LoadAccount { user_id, password: LoadPassword::Hash(hash), balance: FUNDS })
    };
    for number in 0..size.users {
        account(&shop::buyer(number), &mut loader)?;
    }
    for number in 0..size.stores {
        account(&shop::seller(number), &mut loader)?;
        loader.store(&shop::store(number), &shop::seller(number))?;
        for book in 0..size.books {
            let listed = NewBook { id: &shop::book(book), price: shop::PRICE, document: "{}" };
            loader.book(&shop::store(number), &listed, shop::STOCK)?;
        }
    }
    let mut dice = Dice::new(0);
    for number in 0..size.orders {
        let user = shop::buyer(dice.roll(size.users as u64) as usize);
        let store = shop::store(dice.roll(size.stores as u64) as usize);
        let book = shop::book(number % size.books);
        loader.order(&LoadOrder {
            order_id: None,
            user_id: &user,
            store_id: &store,
            status: OrderStatus::Completed,
            paid_to_platform: true,
            is_shipped: None,
            created_ms: PAST_MS + number as u64,
            deadline_ms: None,
            times: LoadTimes::default(),
            lines: &[LoadLine { book_id: &book, count: 1, price: shop::PRICE }],
        })?;
    }
    let report = loader.finish()?;
    println!("built in {:.1} s: {}", report.took.as_secs_f64(), dir.display());
    Ok(())
}

/// An engine on a copy of a shop, which is removed with it: so each begins with the shop as it was built.
struct Opened {
    /// Dropped first: then no file is written any more.
    engine: Engine,
    _copy: Copied,
}

/// Removed in the end.
struct Copied(PathBuf);

impl Opened {
    async fn new(dirs: &Dirs<'_>, size: Size, durability: Durability) -> Result<Self, Failure> {
        let built = dir_of(dirs.built, size);
        let copy = Copied(dir_of(dirs.work, size).with_extension("copy"));
        std::fs::create_dir(&copy.0)?;
        for file in std::fs::read_dir(&built)? {
            let file = file?;
            if file.file_type()?.is_file() {
                std::fs::copy(file.path(), copy.0.join(file.file_name()))?;
            }
        }
        let mut config = shop::quiet_config(&copy.0, durability);
        // Orders of one engine would go to the disk while the other is measured.
        config.limits.resting_orders_max = usize::MAX;
        let engine = Engine::open(config).await?;
        // Else its index would be built while it is measured.
        engine.search_ready().await?;
        Ok(Opened { engine, _copy: copy })
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}

/// Where the shops are as they were built, and where they are copied to.
struct Dirs<'a> {
    built: &'a Path,
    work: &'a Path,
}

/// Measures each point beside the first, in turns, on engines that are open at once.
async fn grow(dirs: &Dirs<'_>, axis: &Axis, durability: Durability, turns: &Turns) -> Result<(), Failure> {
    let Some((small_name, small)) = axis.points.first() else { return Ok(()) };
    println!(
        "{}, durability {durability:?}: {} callers, each point beside {small_name} in {} pairs of {} s; medians",
        axis.name, turns.callers, turns.rounds, turns.seconds,
    );
    println!(
        "  {:<28} {:>14} {:>24} {:>12} {:>8} {:>12} {:>9}",
        "", "paid orders/s", "÷ the first (range)", "CPU µs each", "÷", "live actors", "RSS MB"
    );
    let mut engines = BTreeMap::from([(small.size, Opened::new(dirs, small.size, durability).await?)]);
    for (name, point) in &axis.points {
        if !engines.contains_key(&point.size) {
            engines.retain(|size, _| *size == small.size);
            engines.insert(point.size, Opened::new(dirs, point.size, durability).await?);
        }
        let (Some(first), Some(engine)) = (engines.get(&small.size), engines.get(&point.size)) else { continue };
        let mut pairs = Vec::new();
        for round in 0..turns.rounds {
            // Each is the first of a pair as often as the other.
            pairs.push(if round % 2 == 0 {
                let before = measure(&first.engine, *small, turns).await?;
                (before, measure(&engine.engine, *point, turns).await?)
            } else {
                let before = measure(&engine.engine, *point, turns).await?;
                (measure(&first.engine, *small, turns).await?, before)
            });
        }
        let ratios =
            |value: fn(&Measured) -> f64| pairs.iter().map(move |(one, two)| value(two) / value(one)).collect();
        let (rates, cpu): (Vec<f64>, Vec<f64>) = (ratios(|one| one.rate), ratios(|one| one.cpu_us));
        let range = rates.iter().fold((f64::MAX, 0f64), |(low, high), ratio| (low.min(*ratio), high.max(*ratio)));
        println!(
            "  {name:<28} {:>14.0} {:>24} {:>12.2} {:>8.2} {:>12} {:>9}",
            median(pairs.iter().map(|(_, point)| point.rate)),
            format!("{:.2} ({:.2} to {:.2})", median(rates.iter().copied()), range.0, range.1),
            median(pairs.iter().map(|(_, point)| point.cpu_us)),
            median(cpu.iter().copied()),
            engine.engine.stats().live_actors,
            machine::memory("VmRSS")? / 1_000_000,
        );
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    values.get(low).zip(values.get(high)).map_or(0.0, |(low, high)| f64::midpoint(*low, *high))
}

struct Measured {
    /// Paid orders a second.
    rate: f64,
    /// CPU time of this process for each, its callers included.
    cpu_us: f64,
}

/// One turn: everybody orders and pays at random.
async fn measure(engine: &Engine, point: Point, turns: &Turns) -> Result<Measured, Failure> {
    let now = Arc::new(AtomicU8::new(phase::WARM_UP));
    let tasks: Vec<_> = (0..turns.callers)
        .map(|_| {
            // Other users in each turn.
            let dice = Dice::new(CALLERS_SO_FAR.fetch_add(1, Ordering::Relaxed));
            tokio::spawn(call(engine.clone(), dice, point, now.clone()))
        })
        .collect();
    tokio::time::sleep(Duration::from_secs_f64(turns.warm_up)).await;
    let cpu_before = machine::cpu_time()?;
    let began = Instant::now();
    now.store(phase::MEASURE, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs_f64(turns.seconds)).await;
    now.store(phase::END, Ordering::Relaxed);
    let (took, cpu) = (began.elapsed(), machine::cpu_time()? - cpu_before);
    let mut paid = 0;
    for task in tasks {
        paid += task.await??;
    }
    if paid == 0 {
        return Err("nothing was paid".into());
    }
    Ok(Measured { rate: paid as f64 / took.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / paid as f64 })
}

/// One caller: orders and pays for somebody at random, one after the other. How often while it was measured.
async fn call(engine: Engine, mut dice: Dice, point: Point, now: Arc<AtomicU8>) -> Result<u64, Failure> {
    let Size { users, stores, books, .. } = point.size;
    let mut paid = 0;
    loop {
        let phase = now.load(Ordering::Relaxed);
        if phase == phase::END {
            return Ok(paid);
        }
        let user = shop::buyer(dice.roll(users as u64) as usize);
        let store = shop::store(if point.hot { 0 } else { dice.roll(stores as u64) as usize });
        let first = dice.roll(books as u64) as usize;
        let ids: Vec<String> = (0..point.lines).map(|line| shop::book((first + line) % books)).collect();
        let lines: Vec<_> = ids.iter().map(|book_id| NewLine { book_id, count: 1 }).collect();
        let order = engine.new_order(&user, shop::TRUSTED, &store, &lines).await?.to_string();
        engine.pay(&user, &order, shop::TRUSTED).await?;
        // Only what began and ended while it was measured counts.
        paid += u64::from(phase == phase::MEASURE && now.load(Ordering::Relaxed) == phase::MEASURE);
    }
}
