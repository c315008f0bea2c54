//! The lists of all tokens: add a book, find books in their order.
//!
//! # The order of what is found
//! 1. The keyword is the whole title.
//! 2. The title begins with the keyword; 3. it has the keyword in a row; 4. it has all words of it.
//! 5. The author has the keyword in a row; 6. every word is in the title or the author.
//! 7. The publisher, the ISBN or a tag has it in a row; 8. every word is in one of all these.
//! 9. The content or the introduction has it in a row; 10. the rest.
//!
//! Within those of the title the shorter title comes first; then it goes by the store's number and the book's place in
//! the store. None of this ever changes for a book: so pages are stable, also over a restart, and a book that is added
//! moves others, but never past one another.

use std::collections::HashMap;

use super::fields::SearchFields;
use super::phrases::{Phrases, Row};
use super::postings::{Entry, Postings};
use crate::domain::{BookNo, NumberSet, StoreNo};

/// Where a book is: its store, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) store: StoreNo,
    pub(crate) book: BookNo,
}

/// What a book brings to the index.
pub(crate) struct Entrance {
    pub(super) tokens: Box<[(u64, SearchFields)]>,
    pub(super) title: Title,
    pub(super) phrases: Phrases,
}

/// What is kept of a title.
#[derive(Debug, Clone, Copy)]
pub(super) struct Title {
    /// What it says, as a number.
    pub(super) whole: u32,
    /// Its characters and words, at most 255.
    pub(super) length: u8,
}

/// What is looked for.
pub(super) struct Wanted<'a> {
    /// Each word is the tokens that one of the fields must have.
    pub(super) words: &'a [Vec<u64>],
    /// What the keyword says, as a number.
    pub(super) whole: u32,
    /// What the keyword has in a row.
    pub(super) row: Row,
    pub(super) fields: SearchFields,
    pub(super) store: Option<StoreNo>,
    /// Results before the first that is wanted.
    pub(super) skip: usize,
    /// Results that are wanted.
    pub(super) take: usize,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// How many books match.
    pub(crate) total: usize,
    /// Those that are wanted, in their order.
    pub(crate) places: Vec<Place>,
}

/// Parts of the dictionary, so that only a part of it moves when it grows.
const PARTS: usize = 256;

pub(super) struct Index {
    parts: Box<[HashMap<u64, Postings>]>,
    /// By number, which begins at 1.
    books: Vec<Book>,
    /// Books that are not for sale, so that they are not found. They need not be in the index yet.
    hidden: NumberSet<Place>,
    /// Stores that are closed, none of whose books is found.
    closed: NumberSet<StoreNo>,
    /// Bytes of the lists beside the dictionary.
    list_bytes: usize,
    /// Bytes of what books have in a row.
    phrase_bytes: usize,
}

struct Book {
    place: Place,
    title: Title,
    phrases: Phrases,
}

/// A book that has all tokens looked at so far.
struct Candidate {
    book: u32,
    /// The fields that have all tokens of the word that is looked at.
    word: u8,
    /// The fields that have every word.
    all: u8,
    /// The class of fields that it takes to have every word: the place in [`SearchFields::CLASSES`]. In the end how good
    /// it is, as the list at the top says, from 0.
    class: u8,
}

/// Classes of results.
const CLASSES: usize = 10;
/// The last of those of the title.
const IN_TITLE: u8 = 3;

/// How good a result is, the length of the title if that tells results apart, and its place.
type Rank = (u8, u8, Place);

impl Index {
    pub(super) fn new() -> Self {
        Index {
            parts: (0..PARTS).map(|_| HashMap::new()).collect(),
            books: Vec::new(),
            hidden: NumberSet::default(),
            closed: NumberSet::default(),
            list_bytes: 0,
            phrase_bytes: 0,
        }
    }

    /// Takes in a book.
    pub(super) fn add(&mut self, place: Place, entrance: Entrance) {
        let Entrance { tokens, title, phrases } = entrance;
        self.phrase_bytes += phrases.heap_bytes();
        self.books.push(Book { place, title, phrases });
        let book = self.books.len() as u32;
        for (token, fields) in tokens {
            let list = self.parts[part(token)].entry(token).or_default();
            let before = list.heap_bytes();
            list.push(Entry { book, fields: fields.bits() });
            self.list_bytes += list.heap_bytes() - before;
        }
    }

    /// Hides a book, or shows it again. It is the same if it is so already.
    pub(super) fn set_hidden(&mut self, place: Place, hidden: bool) {
        match hidden {
            true => self.hidden.insert(place),
            false => self.hidden.remove(&place),
        };
    }

    /// Hides every book of a store for good.
    pub(super) fn close_store(&mut self, store: StoreNo) {
        self.closed.insert(store);
        self.hidden.retain(|place| place.store != store);
    }

    /// Books in the index, hidden ones included.
    pub(super) fn books(&self) -> usize {
        self.books.len()
    }

    /// Tokens in the index.
    pub(super) fn tokens(&self) -> usize {
        self.parts.iter().map(HashMap::len).sum()
    }

    /// Bytes that it takes, but for what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        // A map has a slot and a byte of control for each place, an eighth of which stay free.
        let slot = size_of::<(u64, Postings)>() + 1;
        let slots: usize = self.parts.iter().map(|part| part.capacity() * 8 / 7 * slot).sum();
        slots + self.list_bytes + self.phrase_bytes + self.books.capacity() * size_of::<Book>()
    }

    /// Finds books. Nothing is found without words.
    pub(super) fn find(&self, wanted: &Wanted<'_>) -> Found {
        let mut found = self.candidates(wanted);
        let mut counts = [0; CLASSES];
        found.retain_mut(|candidate| {
            let book = self.book(candidate);
            let is_wanted = wanted.store.is_none_or(|store| store == book.place.store)
                && !self.hidden.contains(&book.place)
                && !self.closed.contains(&book.place.store);
            if is_wanted {
                candidate.class = good(candidate, book, wanted);
                counts[usize::from(candidate.class)] += 1;
            }
            is_wanted
        });
        let total = found.len();
        // Only classes that have something of the page are looked at, and of them only the page is sorted.
        let (mut skip, mut on_page, mut end) = (wanted.skip, [false; CLASSES], 0usize);
        for (class, count) in counts.into_iter().enumerate() {
            let begin = end;
            end += count;
            on_page[class] = end > wanted.skip && begin < wanted.skip.saturating_add(wanted.take);
            if end <= wanted.skip {
                skip -= count;
            }
        }
        let wanted_ones = found.iter().filter(|candidate| on_page[usize::from(candidate.class)]);
        let mut ranks: Vec<Rank> = wanted_ones.map(|candidate| rank(candidate, self.book(candidate))).collect();
        let end = skip.saturating_add(wanted.take);
        if end < ranks.len() {
            ranks.select_nth_unstable(end);
            ranks.truncate(end);
        }
        let skip = skip.min(ranks.len());
        if skip > 0 && skip < ranks.len() {
            ranks.select_nth_unstable(skip);
        }
        let mut page = ranks.split_off(skip);
        page.sort_unstable();
        Found { total, places: page.into_iter().map(|(_, _, place)| place).collect() }
    }

    fn book(&self, candidate: &Candidate) -> &Book {
        &self.books[candidate.book as usize - 1]
    }

    /// The books that match, by number.
    fn candidates(&self, wanted: &Wanted<'_>) -> Vec<Candidate> {
        let mut words = Vec::with_capacity(wanted.words.len());
        for word in wanted.words {
            let mut lists = Vec::with_capacity(word.len());
            for token in word {
                match self.parts[part(*token)].get(token) {
                    Some(list) => lists.push(list),
                    None => return Vec::new(),
                }
            }
            // Short lists first: they leave little to look for in the long ones.
            lists.sort_unstable_by_key(|list| list.weight());
            words.push(lists);
        }
        words.sort_unstable_by_key(|lists| lists.first().map(|list| list.weight()));
        let fields = wanted.fields.bits();
        let mut found: Option<Vec<Candidate>> = None;
        for lists in words {
            if let Some(candidates) = &mut found {
                candidates.iter_mut().for_each(|candidate| candidate.word = fields);
            }
            for list in lists {
                match &mut found {
                    None => found = Some(all_of(list, fields)),
                    Some(candidates) => keep_common(candidates, list),
                }
            }
            for candidate in found.iter_mut().flatten() {
                candidate.all &= candidate.word;
                candidate.class = candidate.class.max(class(candidate.word));
            }
        }
        found.unwrap_or_default()
    }
}

/// Neighbouring characters are neighbouring numbers, so the bits are mixed.
fn part(token: u64) -> usize {
    (token.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

/// The best class of these fields.
fn class(fields: u8) -> u8 {
    let best = SearchFields::CLASSES.iter().position(|class| class.bits() & fields != 0);
    best.unwrap_or(SearchFields::CLASSES.len() - 1) as u8
}

/// How good a candidate is, 0 the best. Its class is one of fields until then.
fn good(candidate: &Candidate, book: &Book, wanted: &Wanted<'_>) -> u8 {
    let fields = SearchFields::CLASSES[usize::from(candidate.class)].bits() & candidate.all;
    let is_in_a_row = book.phrases.have(&wanted.row, SearchFields::of_bits(fields));
    match (candidate.class, is_in_a_row) {
        (0, true) if book.title.whole == wanted.whole => 0,
        (0, true) => 1 + u8::from(!book.phrases.title_begins(&wanted.row)),
        (0, false) => IN_TITLE,
        (class, is_in_a_row) => IN_TITLE - 1 + 2 * class + u8::from(!is_in_a_row),
    }
}

fn rank(candidate: &Candidate, book: &Book) -> Rank {
    let length = if candidate.class <= IN_TITLE { book.title.length } else { 0 };
    (candidate.class, length, book.place)
}

/// The books of a list that have its token in one of the fields.
fn all_of(list: &Postings, fields: u8) -> Vec<Candidate> {
    let entries = list.entries().filter(|entry| entry.fields & fields != 0);
    entries.map(|entry| Candidate { book: entry.book, word: entry.fields & fields, all: fields, class: 0 }).collect()
}

/// Keeps the candidates that are in the list, in one of the fields that the word is in so far.
fn keep_common(candidates: &mut Vec<Candidate>, list: &Postings) {
    if candidates.is_empty() {
        return;
    }
    let mut entries = list.entries();
    let mut entry = entries.next();
    candidates.retain_mut(|candidate| {
        while let Some(Entry { book, fields }) = entry {
            if book >= candidate.book {
                candidate.word &= if book == candidate.book { fields } else { 0 };
                return candidate.word != 0;
            }
            entry = entries.next();
        }
        false
    });
}
