//! How long a search takes in a large shop, what the index costs, and how long it takes to be rebuilt.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bookstore::{Durability, Engine, Error, NewBook, Search, SearchFields};
use serde_json::Value;

use crate::flags::Flags;
use crate::variations::{Book, Dice, Variations};
use crate::{Failure, machine, shop};

/// Opens what was listed and searches it, with a heap that nothing else has used.
pub(crate) const CHILD: &str = "search-child";

const STORES: usize = 10;
/// Copies of each book.
const STOCK: i64 = 10;
/// Books whose texts are looked through for keywords.
const SAMPLE: usize = 2_000;
/// Two-character keywords of each frequency.
const KEYWORDS: usize = 10;
/// Searches of each keyword that are not counted.
const WARM_UP: usize = 3;
/// Books on a page.
const PAGE: u64 = 20;
/// Books that one caller adds, one after the other.
const ADDED: usize = 500;

/// A kind of keyword, and how many of a hundred are of it.
const MIX: [(&str, u64); 6] =
    [("title", 30), ("two characters", 35), ("one character", 10), ("author", 15), ("isbn", 5), ("two words", 5)];

pub(crate) async fn run(mut flags: Flags) -> Result<(), Failure> {
    let books: usize = flags.number("books", 100_000)?;
    let searches: usize = flags.number("searches", 200)?;
    let dir = shop::WorkDir::new(&mut flags)?;
    flags.finish()?;
    if books == 0 || searches == 0 {
        return Err("--books and --searches must be 1 or more".into());
    }
    machine::print(dir.path())?;
    let data = dir.path().join("data");
    list(&data, books).await?;
    let flags =
        [("data", data.display().to_string()), ("books", books.to_string()), ("searches", searches.to_string())];
    // What it prints is waited for, so it is not cut from the report.
    let output = shop::child(CHILD, &flags)?.wait_with_output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("the searching process ended with {}", output.status).into())
    }
}

async fn list(data: &Path, books: usize) -> Result<(), Failure> {
    let engine = Engine::open(shop::quiet_config(data, Durability::Buffered)).await?;
    let hash = shop::cheap_hash()?;
    for store in 0..STORES {
        engine.register_hashed(&shop::seller(store), &hash).await?;
        engine.create_store(&shop::seller(store), shop::TRUSTED, &shop::store(store)).await?;
    }
    let variations = Arc::new(Variations::load()?);
    let start = Instant::now();
    shop::each(&engine, books, move |engine, number| {
        let variations = variations.clone();
        async move { add(&engine, &variations, number).await }
    })
    .await?;
    let took = start.elapsed().as_secs_f64();
    println!("listed: {books} books by many callers in {took:.1} s, {:.0} a second", books as f64 / took);
    engine.close().await?;
    Ok(())
}

async fn add(engine: &Engine, variations: &Variations, number: usize) -> Result<(), Failure> {
    let Book { id, document, .. } = variations.book(number);
    let store = number % STORES;
    let book = NewBook { id: &id, price: shop::PRICE, document: &document };
    Ok(engine.add_book(&shop::seller(store), shop::TRUSTED, &shop::store(store), book, STOCK).await?)
}

pub(crate) async fn child(mut flags: Flags) -> Result<(), Failure> {
    let data = flags.text("data").ok_or("--data is missing")?;
    let books: usize = flags.number("books", 0)?;
    let searches: usize = flags.number("searches", 0)?;
    flags.finish()?;
    let engine = Engine::open(shop::quiet_config(Path::new(&data), Durability::Sync)).await?;
    let (before, cpu) = (machine::memory("VmRSS")?, machine::cpu_time()?);
    let opened = Instant::now();
    engine.search_ready().await?;
    let (ready, after) = (opened.elapsed(), machine::memory("VmRSS")?);
    let cpu = machine::cpu_time()? - cpu;
    let stats = engine.stats();
    println!(
        "search: {} books, {} tokens; index {:.0} MB, {:.0} bytes a book; resident {:.0} MB more than after the open",
        stats.search_books,
        stats.search_tokens,
        stats.search_index_bytes as f64 / 1e6,
        stats.search_index_bytes as f64 / stats.search_books as f64,
        after.saturating_sub(before) as f64 / 1e6,
    );
    println!(
        "  index complete {:.2} s after the open (CPU {:.2} s), which took {:.2} s",
        ready.as_secs_f64(),
        cpu.as_secs_f64(),
        engine.recovered().took.as_secs_f64()
    );
    let variations = Arc::new(Variations::load()?);
    println!("  two-character keywords, {KEYWORDS} of each frequency, {searches} searches each, {PAGE} books a page:");
    let all = Frequent::of(&variations, books.min(SAMPLE), &["title", "author", "publisher", "content", "book_intro"]);
    let titles = Frequent::of(&variations, books.min(SAMPLE), &["title"]);
    for (scope, fields, keywords) in [("all fields", SearchFields::ALL, &all), ("title", SearchFields::TITLE, &titles)]
    {
        for (frequency, keywords) in
            [("frequent", &keywords.often), ("medium", &keywords.sometimes), ("rare", &keywords.seldom)]
        {
            let asked = Asked { fields, ..Asked::default() };
            measure(&engine, &format!("{frequency}, {scope}"), keywords, asked, searches).await?;
        }
    }
    let deep = Asked { deep: true, ..Asked::default() };
    measure(&engine, "frequent, all fields, last page", &all.often, deep, searches).await?;
    let store = shop::store(0);
    let in_store = Asked { store: Some(&store), ..Asked::default() };
    measure(&engine, "frequent, all fields, in a store", &all.often, in_store, searches).await?;

    let mut times = Vec::new();
    for number in books..books + ADDED {
        let start = Instant::now();
        add(&engine, &variations, number).await?;
        times.push(start.elapsed());
    }
    report("add_book, one caller", times, "");
    let stop = Arc::new(AtomicBool::new(false));
    let adding = tokio::spawn({
        let (engine, variations, stop) = (engine.clone(), variations.clone(), stop.clone());
        async move {
            let (start, mut number) = (Instant::now(), books + ADDED);
            while !stop.load(Ordering::Relaxed) {
                add(&engine, &variations, number).await?;
                number += 1;
            }
            Ok::<_, Failure>((number - books - ADDED) as f64 / start.elapsed().as_secs_f64())
        }
    });
    measure(&engine, "frequent, while books are added", &all.often, Asked::default(), searches).await?;
    stop.store(true, Ordering::Relaxed);
    println!("    ({:.0} books a second were added meanwhile)", adding.await??);

    println!("  keywords out of the listed books, in all fields:");
    mixed(&engine, &variations, books, searches * KEYWORDS).await?;
    engine.close().await?;
    Ok(())
}

/// Pairs of characters by how many books of a sample have them.
struct Frequent {
    /// The most.
    often: Vec<String>,
    /// Some hundredth of the books.
    sometimes: Vec<String>,
    /// One of the sample.
    seldom: Vec<String>,
}

impl Frequent {
    fn of(variations: &Variations, sample: usize, fields: &[&str]) -> Frequent {
        let mut counts: HashMap<[char; 2], usize> = HashMap::new();
        for number in 0..sample {
            let document: Value = serde_json::from_str(&variations.book(number).document).unwrap_or_default();
            let texts = fields.iter().filter_map(|field| document[*field].as_str());
            let mut pairs: Vec<[char; 2]> = texts.flat_map(pairs).collect();
            pairs.sort_unstable();
            pairs.dedup();
            pairs.into_iter().for_each(|pair| *counts.entry(pair).or_default() += 1);
        }
        let mut pairs: Vec<(usize, [char; 2])> = counts.into_iter().map(|(pair, count)| (count, pair)).collect();
        pairs.sort_unstable_by(|one, other| other.cmp(one));
        let from = |place: usize| -> Vec<String> {
            pairs.iter().skip(place).take(KEYWORDS).map(|(_, pair)| pair.iter().collect()).collect()
        };
        let place = |most: usize| pairs.partition_point(|(count, _)| *count > most);
        Frequent { often: from(0), sometimes: from(place(sample / 100)), seldom: from(place(1)) }
    }
}

/// Neighbouring Chinese characters.
fn pairs(text: &str) -> Vec<[char; 2]> {
    let letters: Vec<char> = text.chars().collect();
    let is_han = |letter: &char| ('\u{4e00}'..='\u{9fff}').contains(letter);
    letters.windows(2).filter(|pair| pair.iter().all(is_han)).map(|pair| [pair[0], pair[1]]).collect()
}

/// What is asked for beside a keyword.
#[derive(Clone, Copy, Default)]
struct Asked<'a> {
    fields: SearchFields,
    store: Option<&'a str>,
    /// The last page instead of the first.
    deep: bool,
}

/// Searches by each keyword, and tells also of the one that takes longest.
async fn measure(
    engine: &Engine,
    what: &str,
    keywords: &[String],
    asked: Asked<'_>,
    searches: usize,
) -> Result<(), Failure> {
    let (mut all, mut totals) = (Vec::new(), Vec::new());
    let (mut worst, cpu) = ((Duration::ZERO, ""), machine::cpu_time()?);
    for keyword in keywords {
        let mut search = Search::new(keyword).in_fields(asked.fields);
        if let Some(store) = asked.store {
            search = search.in_store(store);
        }
        let total = engine.search(search).await?.total;
        totals.push(total);
        search = search.page(if asked.deep { total.div_ceil(PAGE) } else { 1 }, PAGE);
        let mut times = Vec::with_capacity(searches);
        for number in 0..WARM_UP + searches {
            let start = Instant::now();
            engine.search(search).await?;
            if number >= WARM_UP {
                times.push(start.elapsed());
            }
        }
        times.sort_unstable();
        worst = worst.max((at(&times, 0.99), keyword));
        all.extend(times);
    }
    let cpu =
        (machine::cpu_time()? - cpu).as_secs_f64() * 1e3 / ((WARM_UP + 1 + searches) * keywords.len().max(1)) as f64;
    totals.sort_unstable();
    let (least, most) = (totals.first().unwrap_or(&0), totals.last().unwrap_or(&0));
    let worst_ms = worst.0.as_secs_f64() * 1e3;
    let more =
        format!(", CPU {cpu:.2} ms; the slowest, {}: p99 {worst_ms:.2} ms; {least} to {most} books found", worst.1);
    report(what, all, &more);
    Ok(())
}

/// Searches by keywords of many kinds, each out of a book that is listed.
async fn mixed(engine: &Engine, variations: &Variations, books: usize, searches: usize) -> Result<(), Failure> {
    let mut dice = Dice::new(1);
    let mut times: HashMap<&'static str, Vec<Duration>> = HashMap::new();
    for _ in 0..searches {
        let book = variations.book(dice.roll(books as u64) as usize);
        let (kind, keyword) = keyword(&book, &mut dice);
        let start = Instant::now();
        match engine.search(Search::new(&keyword)).await {
            Ok(page) if page.total > 0 => times.entry(kind).or_default().push(start.elapsed()),
            // Cut from a title at random, so it may be a comma.
            Err(Error::Refused(refusal)) if refusal.code() == 523 && !keyword.chars().all(char::is_alphanumeric) => {}
            other => return Err(format!("{keyword:?}: {other:?}").into()),
        }
    }
    report("all", times.values().flatten().copied().collect(), "");
    for (kind, _) in MIX {
        report(kind, times.remove(kind).unwrap_or_default(), "");
    }
    Ok(())
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

/// The time that `share` of the sorted times do not exceed.
fn at(times: &[Duration], share: f64) -> Duration {
    times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn report(what: &str, mut times: Vec<Duration>, more: &str) {
    times.sort_unstable();
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| at(&times, share).as_secs_f64() * 1e3);
    println!("    {what:<33} {:>5} times: p50 {p50:.2} ms, p99 {p99:.2} ms, most {most:.2} ms{more}", times.len());
}
