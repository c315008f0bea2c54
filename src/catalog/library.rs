//! The index as the engine shares it.

use std::sync::{PoisonError, RwLock};

use super::document::{Outline, Stored};
use super::fields::{NAMES, SearchFields};
use super::index::{Entrance, Found, Index, Place, Title, Wanted};
use super::phrases::{Gathered, Row};
use super::text::{Tokens, merged, normalise};
use crate::cold::{ColdError, Documents};
use crate::domain::{DocumentHash, StoreNo};

/// All books that can be found.
pub(crate) struct Library {
    tokens: Tokens,
    /// A std lock: it is held for one search, or for one book that is added, never across an await.
    index: RwLock<Index>,
}

/// A book that a store's row lists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    pub(crate) place: Place,
    pub(crate) document: DocumentHash,
}

/// A book whose document cannot be read.
pub(crate) struct Unread {
    pub(crate) place: Place,
    pub(crate) why: String,
}

impl Library {
    pub(crate) fn new() -> Self {
        Library { tokens: Tokens::new(), index: RwLock::new(Index::new()) }
    }

    /// What a document brings to the index. Takes some 100 µs for a book, and longer the more text it has.
    pub(crate) fn study(&self, document: &str, outline: &Outline) -> Entrance {
        let (mut tokens, mut gathered) = (Vec::new(), Gathered::default());
        let (mut title, mut length) = (0, 0);
        for place in 0..NAMES.len() {
            let field = SearchFields::at(place);
            for text in outline.texts(document, place) {
                let text = normalise(&text);
                let mut take = |token| tokens.push((token, field));
                if field == SearchFields::ISBN {
                    self.tokens.of_isbn(&text, &mut take);
                } else {
                    self.tokens.of_book(&text, &mut take);
                }
                let units = self.tokens.units(&text);
                gathered.take(&units, field);
                if field == SearchFields::TITLE {
                    title = self.tokens.whole(&text);
                    length = units.len();
                }
            }
        }
        let length = u8::try_from(length).unwrap_or(u8::MAX);
        Entrance { tokens: merged(tokens), title: Title { whole: title, length }, phrases: gathered.done() }
    }

    /// Adds a book, which is found from now on. A place is added once only.
    pub(crate) fn add(&self, place: Place, entrance: Entrance) {
        self.index.write().unwrap_or_else(PoisonError::into_inner).add(place, entrance);
    }

    /// Hides a book from searches, or shows it again, whether it is in the index yet or not.
    pub(crate) fn set_hidden(&self, place: Place, hidden: bool) {
        self.index.write().unwrap_or_else(PoisonError::into_inner).set_hidden(place, hidden);
    }

    /// Hides every book of a store for good.
    pub(crate) fn close_store(&self, store: StoreNo) {
        self.index.write().unwrap_or_else(PoisonError::into_inner).close_store(store);
    }

    /// Finds books by a keyword: `take` results after the first `skip`.
    pub(crate) fn find(
        &self,
        keyword: &str,
        fields: SearchFields,
        store: Option<StoreNo>,
        skip: usize,
        take: usize,
    ) -> Found {
        let words = self.tokens.of_keyword(keyword);
        let text = normalise(keyword);
        let (whole, row) = (self.tokens.whole(&text), Row::of(&self.tokens.units(&text)));
        let wanted = Wanted { words: &words, whole, row, fields, store, skip, take };
        self.index.read().unwrap_or_else(PoisonError::into_inner).find(&wanted)
    }

    /// Reads the documents of books and adds them; gives back those that cannot be read, which are left out. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// The documents are out of service or closed: some of the books were not added.
    pub(crate) fn take_in(&self, documents: &Documents, books: &[Listed]) -> Result<Vec<Unread>, ColdError> {
        let mut unread = Vec::new();
        for Listed { place, document } in books {
            let why = match documents.get_blocking(document) {
                Ok(Some(bytes)) => match self.entrance(bytes) {
                    Ok(entrance) => {
                        self.add(*place, entrance);
                        continue;
                    }
                    Err(why) => why,
                },
                Ok(None) => "it is not there".to_owned(),
                Err(ColdError::Damaged { what }) => what,
                Err(error) => return Err(error),
            };
            unread.push(Unread { place: *place, why });
        }
        Ok(unread)
    }

    fn entrance(&self, bytes: Vec<u8>) -> Result<Entrance, String> {
        let stored = Stored::read(bytes).ok_or("it is no text")?;
        let outline = Outline::of(&stored.text)?;
        Ok(self.study(&stored.text, &outline))
    }

    /// Books that can be found, different tokens, and bytes of the index (an estimate).
    pub(crate) fn size(&self) -> (usize, usize, usize) {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        (index.books(), index.tokens(), index.bytes())
    }
}
