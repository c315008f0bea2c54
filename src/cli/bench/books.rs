//! Made-up books, and searches for them.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::report::{Searches, Times};
use super::{failed, shop};
use crate::cli::exit::Exit;
use crate::engine::{Credential, Engine, NewBook, Search};

/// Callers that list at once.
const LISTING: usize = 64;
/// Characters of a text, of a title, and different ones.
const TEXT: usize = 200;
const TITLE: usize = 6;
const LETTERS: u64 = 1_500;
/// Where the common Han characters begin.
const FIRST_LETTER: u32 = 0x4e00;

/// A small generator of numbers (xorshift), so that runs do the same.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Dice(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Han characters, few of which are much more frequent than the others, as in any text.
    fn text(&mut self, length: usize) -> String {
        (0..length).map(|_| self.letter()).collect()
    }

    fn letter(&mut self) -> char {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let (one, other) = ((self.0 >> 40) % LETTERS, (self.0 >> 20) % LETTERS);
        let place = one * other / LETTERS * one / LETTERS;
        char::from_u32(FIRST_LETTER + place as u32).unwrap_or('书')
    }
}

/// Lists books for so long, and tells how many.
pub(super) async fn list(engine: &Engine, time: Duration) -> Result<u64, Exit> {
    let end = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for caller in 0..LISTING {
        let engine = engine.clone();
        tasks.spawn(async move {
            let (seller, store) = (shop::seller(caller), shop::store(caller));
            let mut listed = 0;
            while listed == 0 || Instant::now() < end {
                let id = format!("listed-{caller}-{listed}");
                let mut dice = Dice::new(caller as u64 * 1_000_003 + listed);
                let (title, author, text) = (dice.text(TITLE), dice.text(3), dice.text(TEXT));
                let document =
                    format!(r#"{{"id":"{id}","title":"{title}","author":"{author}","price":1,"content":"{text}"}}"#);
                let book = NewBook { id: &id, price: 1, document: &document };
                engine.add_book(&seller, Credential::Trusted, &store, book, 1).await?;
                listed += 1;
            }
            Ok::<u64, crate::engine::Error>(listed)
        });
    }
    let mut listed = 0;
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|error| failed("listing books", &error))?;
        listed += done.map_err(|error| failed("listing books", &error))?;
    }
    Ok(listed)
}

/// Searches for two characters that stand in one of the books, one search after the other.
pub(super) async fn search(engine: &Engine, books: u64, time: Duration) -> Result<Searches, Exit> {
    let began = Instant::now();
    let mut searches = Vec::new();
    while searches.is_empty() || began.elapsed() < time {
        // The title comes first out of a book's dice.
        let keyword: String = Dice::new(searches.len() as u64 % LISTING as u64 * 1_000_003).text(2);
        let asked = Instant::now();
        engine.search(Search::new(&keyword)).await.map_err(|error| failed("a search", &error))?;
        searches.push(asked.elapsed().as_micros() as u32);
    }
    Ok(Searches { books, times: Times::of(searches, began.elapsed()) })
}
