//! The catalogue: what is in a book's document, and the search over all books.
//!
//! | module | purpose |
//! |---|---|
//! | `document` | a book's JSON text: its pictures are cut out and put back, its searched texts are found |
//! | `text` | text → what is looked for: NFKC, case folded, words and pairs of characters |
//! | `fields` | the fields that are searched, as a set |
//! | `phrases` | what a book's texts have in a row, as numbers: a phrase comes before scattered characters |
//! | `postings` | a compact list: which books have a token, in which fields |
//! | `index` | the lists of all tokens; add a book, find books in their order |
//! | `library` | the index as the engine shares it: its lock, and taking in documents at start |
//!
//! The index is in memory and is rebuilt at every start from the stores' rows and the documents. It holds no text.
//!
//! No lock of this room is held across an await: nothing in here is async.

mod document;
mod fields;
mod index;
mod library;
mod phrases;
mod postings;
mod text;

#[cfg(test)]
mod model_tests;

pub(crate) use document::{Outline, Stored, pictures_of, shown};
pub use fields::SearchFields;
pub(crate) use index::Place;
pub(crate) use library::{Library, Listed, Unread};
