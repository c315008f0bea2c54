//! Any number of books made out of the 100 real ones of `examples/books.jsonl`: titles, authors and texts are put
//! together from parts of several, so that words are as frequent as they are, and no two books are the same. Characters
//! drawn one by one, each as often as it is in the real texts, stand between: a hundred books have fewer pairs of
//! characters than a hundred thousand, and an index grows with them.

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

/// Characters of each introduction that are drawn one by one.
const DRAWN: usize = 40;

/// The real books.
pub(crate) struct Variations {
    books: Vec<Value>,
    /// All Chinese characters of their introductions, so that one at random is one that is frequent.
    letters: Vec<char>,
}

impl Variations {
    pub(crate) fn load() -> Result<Self, Failure> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/books.jsonl");
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let books: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let texts = books.iter().filter_map(|book| book["book_intro"].as_str());
        let letters = texts.flat_map(str::chars).filter(|letter| ('\u{4e00}'..='\u{9fff}').contains(letter)).collect();
        Ok(Variations { books, letters })
    }

    /// The book of this number, always the same.
    pub(crate) fn book(&self, number: usize) -> Book {
        let mut dice = Dice::new(number as u64);
        let id = format!("book-{number}");
        let mut title = format!("{}{}", self.part("title", 2, &mut dice), self.part("title", 2, &mut dice));
        if dice.roll(3) == 0 {
            title.push_str(&self.drawn(2, &mut dice));
        }
        let author = if dice.roll(2) == 0 { self.drawn(3, &mut dice) } else { self.whole("author", &mut dice) };
        let isbn = format!("978{:010}", dice.roll(10_000_000_000));
        let texts: Vec<String> =
            (0..6).map(|number| self.part(if number < 3 { "content" } else { "book_intro" }, 3, &mut dice)).collect();
        let drawn = self.drawn(DRAWN, &mut dice);
        let tags = self.books[dice.roll(self.books.len() as u64) as usize]["tags"].clone();
        let document = json!({
            "id": id, "title": title, "author": author, "publisher": self.whole("publisher", &mut dice),
            "price": 100, "isbn": isbn, "tags": tags, "content": texts[..3].concat(), "book_intro": format!("{}{drawn}", texts[3..].concat()),
            "pictures": [],
        });
        Book { id, document: document.to_string(), title, author, isbn }
    }

    fn drawn(&self, count: usize, dice: &mut Dice) -> String {
        (0..count).map(|_| self.letters[dice.roll(self.letters.len() as u64) as usize]).collect()
    }

    fn whole(&self, field: &str, dice: &mut Dice) -> String {
        let book = &self.books[dice.roll(self.books.len() as u64) as usize];
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
