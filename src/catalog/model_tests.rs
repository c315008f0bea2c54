//! The search beside a naive one, which looks through all texts of all books each time.

use proptest::prelude::*;
use serde_json::json;

use super::fields::{NAMES, SearchFields};
use super::index::{Found, Place};
use super::library::Library;
use super::{Outline, shown};
use crate::domain::{BookNo, StoreNo};

/// A book with a text in each field, or two in the tags.
#[derive(Debug, Clone)]
struct Book {
    place: Place,
    texts: Vec<Vec<String>>,
}

impl Book {
    fn document(&self) -> String {
        let members = NAMES.iter().zip(&self.texts).map(|(name, texts)| {
            let value = if *name == "tags" { json!(texts) } else { json!(texts[0]) };
            format!("{}:{value}", json!(name))
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    /// The fields of the scope that have all of a word.
    fn fields_with(&self, word: &Word, scope: SearchFields) -> Vec<usize> {
        let has = |text: &String| -> Vec<bool> {
            match word {
                Word::Letters(word) => vec![letters(text).any(|other| other == *word)],
                Word::Signs(signs) if signs.chars().count() == 1 => vec![text.contains(signs)],
                Word::Signs(signs) => {
                    let signs: Vec<char> = signs.chars().collect();
                    signs.windows(2).map(|pair| text.contains(&pair.iter().collect::<String>())).collect()
                }
            }
        };
        let all_in = |texts: &Vec<String>| {
            let found: Vec<Vec<bool>> = texts.iter().map(has).collect();
            (0..found[0].len()).all(|part| found.iter().any(|text| text[part]))
        };
        (0..NAMES.len())
            .filter(|field| scope.bits() & SearchFields::at(*field).bits() != 0 && all_in(&self.texts[*field]))
            .collect()
    }

    /// How good a match it is, and the length of its title where that counts.
    fn rank(&self, keyword: &str, words: &[Word], scope: SearchFields) -> Option<(u8, usize)> {
        let fields: Vec<Vec<usize>> = words.iter().map(|word| self.fields_with(word, scope)).collect();
        if fields.is_empty() || fields.iter().any(Vec::is_empty) {
            return None;
        }
        let class_of = |field: usize| [0, 1, 2, 2, 2, 3, 3][field];
        let best = |fields: &Vec<usize>| fields.iter().map(|field| class_of(*field)).min();
        let class = fields.iter().filter_map(best).max()?;
        let row = units(keyword);
        let whole = |field: &usize| fields.iter().all(|fields| fields.contains(field));
        let in_a_row = (0..NAMES.len()).filter(|field| class_of(*field) == class).filter(whole).any(|field| {
            row.len() < 3 && row.iter().all(|unit| unit.chars().all(is_sign))
                || self.texts[field].iter().any(|text| has_row(&units(text), &row))
        });
        if class > 0 {
            return Some((2 + 2 * class + u8::from(!in_a_row), 0));
        }
        let title = units(&self.texts[0][0]);
        let good = match in_a_row {
            true if plain(keyword) == plain(&self.texts[0][0]) => 0,
            true => 1 + u8::from(!title.starts_with(&row[..row.len().min(2)])),
            false => 3,
        };
        Some((good, title.len()))
    }
}

/// Signs one by one, and words.
fn units(text: &str) -> Vec<String> {
    let cut = |word: String| match word.chars().all(is_sign) {
        true => word.chars().map(String::from).collect(),
        false => vec![word],
    };
    plain(text).into_iter().flat_map(cut).collect()
}

fn has_row(text: &[String], row: &[String]) -> bool {
    // As the index: each three in a row, or the two.
    row.windows(row.len().clamp(1, 3)).all(|part| text.windows(part.len()).any(|other| other == part))
}

#[derive(Debug)]
enum Word {
    Letters(String),
    Signs(String),
}

fn is_sign(letter: char) -> bool {
    matches!(letter, '红' | '楼' | '梦' | '米')
}

/// Words of Latin letters, small.
fn letters(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(str::to_ascii_lowercase).collect::<Vec<_>>().into_iter()
}

fn words(text: &str) -> Vec<Word> {
    let signs = text.split(|letter: char| !is_sign(letter)).filter(|part| !part.is_empty());
    letters(text).map(Word::Letters).chain(signs.map(|part| Word::Signs(part.to_owned()))).collect()
}

/// The words of a text in their order, whatever separates them.
fn plain(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut before = ' ';
    for letter in text.chars().map(|letter| letter.to_ascii_lowercase()) {
        let kind = |letter: char| (is_sign(letter), letter.is_ascii_alphanumeric());
        if kind(letter) != (false, false) {
            match all.last_mut() {
                Some(word) if kind(before) == kind(letter) => word.push(letter),
                _ => all.push(letter.to_string()),
            }
        }
        before = letter;
    }
    all
}

fn naive(books: &[Book], keyword: &str, scope: SearchFields, store: Option<StoreNo>, page: (usize, usize)) -> Found {
    let wanted = words(keyword);
    let mut found: Vec<((u8, usize), Place)> = books
        .iter()
        .filter(|book| store.is_none_or(|store| store == book.place.store))
        .filter_map(|book| Some((book.rank(keyword, &wanted, scope)?, book.place)))
        .collect();
    found.sort();
    let places = found.iter().map(|(_, place)| *place).skip(page.0).take(page.1).collect();
    Found { total: found.len(), places }
}

/// Short enough that all that a book has in a row is kept as it is.
const TEXT: &str = "[红楼梦米aB1 ,。]{0,5}";

fn books() -> impl Strategy<Value = Vec<Book>> {
    let texts = || prop::collection::vec(prop::collection::vec(TEXT, 2), NAMES.len());
    let book = (1u32..4, texts());
    prop::collection::vec(book, 0..40).prop_map(|books| {
        let mut listed = [0; 4];
        books
            .into_iter()
            .map(|(store, mut texts)| {
                for (field, texts) in texts.iter_mut().enumerate() {
                    texts.truncate(if NAMES[field] == "tags" { 2 } else { 1 });
                }
                let place = Place { store: StoreNo(store), book: BookNo(listed[store as usize]) };
                listed[store as usize] += 1;
                Book { place, texts }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn the_index_finds_what_a_naive_search_finds(
        books in books(),
        searches in prop::collection::vec(
            ("[红楼梦米Ab1 ,]{1,6}", 1u8..128, prop::option::of(1u32..4), 0usize..12, 1usize..8),
            1..12,
        ),
        turn in any::<bool>(),
        hidden in prop::collection::vec(any::<bool>(), 40),
    ) {
        let library = Library::new();
        books.iter().zip(&hidden).filter(|(_, hidden)| **hidden).for_each(|(book, _)| library.set_hidden(book.place, true));
        // The order of listing is not the order of the index after a rebuild; it must not matter.
        let mut order: Vec<&Book> = books.iter().collect();
        if turn {
            order.reverse();
        }
        for book in order {
            let document = book.document();
            let outline = Outline::of(&document).unwrap();
            library.add(book.place, library.study(&document, &outline));
            prop_assert!(shown(&document).is_some());
        }
        // Hidden before they come or after, and shown again: only what it came to in the end counts.
        for (book, hidden) in books.iter().zip(&hidden) {
            library.set_hidden(book.place, !hidden);
            library.set_hidden(book.place, *hidden);
        }
        let mut shown_at_all = hidden.iter().map(|hidden| !hidden);
        let mut books = books;
        books.retain(|_| shown_at_all.next().unwrap_or(true));
        for (keyword, bits, store, skip, take) in searches {
            let names: Vec<_> = (0..NAMES.len()).filter(|place| bits & 1 << place != 0).map(|place| NAMES[place]).collect();
            let scope = SearchFields::parse(&names.join(" "));
            let store = store.map(StoreNo);
            let found = library.find(&keyword, scope, store, skip, take);
            let expected = naive(&books, &keyword, scope, store, (skip, take));
            prop_assert_eq!(found, expected, "{:?} in {:?}, {:?}", keyword, names, store);
        }
    }
}
