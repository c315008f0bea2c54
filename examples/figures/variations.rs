//! Any number of books made out of the 100 real ones of `examples/books.jsonl`: titles, authors and texts are put
//! together from parts of several, so that words are as frequent as they are, and no two books are the same.

use serde_json::{Value, json};

/// Whatever ends it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A small generator of numbers (xorshift), so that a run can be repeated.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `below`.
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

/// A book as it is listed, and what a search would take from it.
pub(crate) struct Book {
    pub(crate) id: String,
    pub(crate) document: String,
    pub(crate) title: String,
    pub(crate) author: String,
    pub(crate) isbn: String,
}

/// The real books.
pub(crate) struct Variations(Vec<Value>);

impl Variations {
    pub(crate) fn load() -> Result<Self, Failure> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/books.jsonl");
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Variations(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?))
    }

    /// The book of this number, always the same.
    pub(crate) fn book(&self, number: usize) -> Book {
        let mut dice = Dice::new(number as u64);
        let id = format!("book-{number}");
        let title = format!("{}{}", self.part("title", 2, &mut dice), self.part("title", 2, &mut dice));
        let author = self.whole("author", &mut dice);
        let isbn = format!("978{:010}", dice.roll(10_000_000_000));
        let texts: Vec<String> =
            (0..6).map(|number| self.part(if number < 3 { "content" } else { "book_intro" }, 3, &mut dice)).collect();
        let tags = self.0[dice.roll(self.0.len() as u64) as usize]["tags"].clone();
        let document = json!({
            "id": id, "title": title, "author": author, "publisher": self.whole("publisher", &mut dice),
            "price": 100, "isbn": isbn, "tags": tags, "content": texts[..3].concat(), "book_intro": texts[3..].concat(),
            "pictures": [],
        });
        Book { id, document: document.to_string(), title, author, isbn }
    }

    fn whole(&self, field: &str, dice: &mut Dice) -> String {
        let book = &self.0[dice.roll(self.0.len() as u64) as usize];
        book[field].as_str().filter(|text| !text.is_empty()).unwrap_or("佚名").to_owned()
    }

    /// One of some equal parts of a text of some book.
    fn part(&self, field: &str, parts: usize, dice: &mut Dice) -> String {
        let letters: Vec<char> = self.whole(field, dice).chars().collect();
        let length = letters.len().div_ceil(parts).max(1);
        let which = dice.roll(letters.len().div_ceil(length) as u64) as usize;
        letters.into_iter().skip(which * length).take(length).collect()
    }
}
