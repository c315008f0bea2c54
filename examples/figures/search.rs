//! How long a search takes, what the index costs, and how long it takes to be rebuilt.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bookstore::{Durability, Engine, Error, NewBook, Search};

use crate::flags::Flags;
use crate::variations::{Book, Dice, Variations};
use crate::{Failure, machine, shop};

const STORES: usize = 10;
/// Copies of each book.
const STOCK: i64 = 10;
/// Before anything is counted.
const WARM_UP: usize = 200;

/// A kind of keyword, and how many of a hundred are of it.
const MIX: [(&str, u64); 6] =
    [("title", 30), ("two characters", 35), ("one character", 10), ("author", 15), ("isbn", 5), ("two words", 5)];

pub(crate) async fn run(mut flags: Flags) -> Result<(), Failure> {
    let books: usize = flags.number("books", 10_000)?;
    let searches: usize = flags.number("searches", 20_000)?;
    let callers: usize = flags.number("callers", 1)?;
    let dir = shop::WorkDir::new(&mut flags)?;
    flags.finish()?;
    if books == 0 || searches == 0 || callers == 0 {
        return Err("--books, --searches and --callers must be 1 or more".into());
    }
    machine::print(dir.path())?;

    let variations = Arc::new(Variations::load()?);
    let data = dir.path().join("data");
    list(&data, books, &variations).await?;

    let engine = Engine::open(shop::quiet_config(&data, Durability::Buffered)).await?;
    let opened = Instant::now();
    engine.search_ready().await?;
    let ready = opened.elapsed();
    let stats = engine.stats();
    println!(
        "search: {} books, {} tokens; index {:.1} MB, {:.0} bytes a book; resident {} MB in all",
        stats.search_books,
        stats.search_tokens,
        stats.search_index_bytes as f64 / 1e6,
        stats.search_index_bytes as f64 / stats.search_books as f64,
        machine::memory("VmRSS")? / 1_000_000,
    );
    println!(
        "  index complete {:.2} s after the open, which took {:.2} s",
        ready.as_secs_f64(),
        engine.recovered().took.as_secs_f64()
    );
    let mut times: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
    measure(&engine, &variations, books, WARM_UP, 0).await?;
    let mut tasks = Vec::new();
    for caller in 0..callers {
        let (engine, variations) = (engine.clone(), variations.clone());
        let searches = searches / callers;
        tasks
            .push(tokio::spawn(async move { measure(&engine, &variations, books, searches, 1 + caller as u64).await }));
    }
    for task in tasks {
        for (kind, took) in task.await?? {
            times.entry(kind).or_default().push(took);
        }
    }
    let all = times.values().flatten().copied().collect();
    println!("  Engine::search of 20 books, {callers} callers, keywords out of titles, in all fields:");
    report("all", all);
    for (kind, times) in times {
        report(kind, times);
    }
    engine.close().await?;
    Ok(())
}

async fn list(data: &Path, books: usize, variations: &Arc<Variations>) -> Result<(), Failure> {
    let engine = Engine::open(shop::quiet_config(data, Durability::Buffered)).await?;
    let hash = shop::cheap_hash()?;
    for store in 0..STORES {
        engine.register_hashed(&shop::seller(store), &hash).await?;
        engine.create_store(&shop::seller(store), shop::TRUSTED, &shop::store(store)).await?;
    }
    let start = Instant::now();
    let shared = variations.clone();
    shop::each(&engine, books, move |engine, number| {
        let Book { id, document, .. } = shared.book(number);
        async move {
            let store = number % STORES;
            let book = NewBook { id: &id, price: shop::PRICE, document: &document };
            Ok(engine.add_book(&shop::seller(store), shop::TRUSTED, &shop::store(store), book, STOCK).await?)
        }
    })
    .await?;
    println!("listed: {books} books in {:.2} s", start.elapsed().as_secs_f64());
    engine.close().await?;
    Ok(())
}

/// Searches one after the other; each keyword is out of a book that is listed.
async fn measure(
    engine: &Engine,
    variations: &Variations,
    books: usize,
    searches: usize,
    seed: u64,
) -> Result<Vec<(&'static str, Duration)>, Failure> {
    let mut dice = Dice::new(seed);
    let mut times = Vec::with_capacity(searches);
    for _ in 0..searches {
        let book = variations.book(dice.roll(books as u64) as usize);
        let (kind, keyword) = keyword(&book, &mut dice);
        let start = Instant::now();
        match engine.search(Search::new(&keyword)).await {
            Ok(page) if page.total > 0 => times.push((kind, start.elapsed())),
            // Cut from a title at random, so it may be a comma.
            Err(Error::Refused(refusal)) if refusal.code() == 523 && !keyword.chars().all(char::is_alphanumeric) => {}
            other => return Err(format!("{keyword:?}: {other:?}").into()),
        }
    }
    Ok(times)
}

fn keyword(book: &Book, dice: &mut Dice) -> (&'static str, String) {
    let letters: Vec<char> = book.title.chars().collect();
    let part = |length: usize, dice: &mut Dice| -> String {
        let from = dice.roll(letters.len().saturating_sub(length) as u64 + 1) as usize;
        letters[from..(from + length).min(letters.len())].iter().collect()
    };
    let mut left = dice.roll(100);
    for (kind, share) in MIX {
        if left < share {
            let keyword = match kind {
                "title" => book.title.clone(),
                "two characters" => part(2, dice),
                "one character" => part(1, dice),
                "author" => book.author.clone(),
                "isbn" => book.isbn.clone(),
                _ => format!("{} {}", part(2, dice), book.author),
            };
            return (kind, keyword);
        }
        left -= share;
    }
    ("title", book.title.clone())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| match times.len() {
        0 => 0.0,
        len => times[((len as f64 * share) as usize).min(len - 1)].as_secs_f64() * 1e3,
    };
    println!(
        "    {what:<15} {:>6} searches: p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999)
    );
}
