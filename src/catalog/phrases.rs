//! Whether the words of a keyword stand in a row in a field of a book, without keeping the text.
//!
//! A text is a row of *units*: a character of a script that is cut into grams, a word, a number, a symbol; what only
//! separates them is nothing. A book keeps a number for every three neighbouring units of every field, and for every two
//! of which one is a word (two characters in a row are a token of the index already). A keyword stands in a field in a
//! row if all numbers of the keyword are there. The numbers of a title's first units tell whether it begins so.
//!
//! The numbers of the short fields are kept as they are, and so are up to [`FEW`] of the long ones. More of those are kept
//! as a Bloom filter, ten bits a number: one in a hundred that are not there seems to be. So among the books that have the
//! characters of a long keyword scattered over a long text, one in a hundred ranks as if they stood in a row. No book that
//! has them in a row is ever missed.

use super::fields::SearchFields;
use super::text::is_word;

/// Numbers of long texts that are kept as they are, 4 bytes each.
const FEW: usize = 64;
/// Bytes of the longest filter. A text that would want more is found in a row more often than it should be.
const FILTER_BYTES_MAX: usize = 64 << 10;
/// Bits of a filter for each number, and those of them that it sets.
const FILTER_BITS: usize = 10;
const PROBES: u32 = 5;
/// The fields whose texts are long.
const LONG: SearchFields = SearchFields::CLASSES[3];
/// Stands before the first unit. No unit is it: characters are smaller, and words have their highest bit.
const OPENING: u64 = 1 << 61;

/// What a keyword must have in a row. Without any number it always has.
#[derive(Debug, Default)]
pub(super) struct Row {
    parts: Vec<u64>,
    opening: u64,
}

impl Row {
    /// The row of a keyword with these units.
    pub(super) fn of(units: &[u64]) -> Row {
        let parts = match units {
            [first, second] if is_word(*first) || is_word(*second) => vec![mixed(units)],
            units => units.windows(3).map(mixed).collect(),
        };
        Row { parts, opening: opening(units) }
    }
}

/// What a book's texts have in a row.
pub(super) struct Phrases {
    /// Those that are kept as they are, sorted.
    exact: Box<[u32]>,
    /// Those of long texts, unless they are few.
    filter: Box<[u8]>,
}

impl Phrases {
    /// Whether one of the fields has the row.
    pub(super) fn have(&self, row: &Row, fields: SearchFields) -> bool {
        fields.places().any(|field| row.parts.iter().all(|part| self.has(*part, field)))
    }

    /// Whether the title begins with what the row begins with: its first unit, or the first two if it has more.
    pub(super) fn title_begins(&self, row: &Row) -> bool {
        SearchFields::TITLE.places().all(|title| self.has(row.opening, title))
    }

    fn has(&self, part: u64, field: usize) -> bool {
        let number = in_field(part, field);
        if !self.filter.is_empty() && is_long(field) {
            return probes(number, self.filter.len()).all(|(byte, bit)| self.filter[byte] & bit != 0);
        }
        self.exact.binary_search(&number).is_ok()
    }

    /// Bytes that it takes beside itself.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.exact) + self.filter.len()
    }
}

/// Gathers what a book's texts have in a row.
#[derive(Default)]
pub(super) struct Gathered {
    short: Vec<u32>,
    long: Vec<u32>,
}

impl Gathered {
    /// Takes a text of a field, as its units.
    pub(super) fn take(&mut self, units: &[u64], field: SearchFields) {
        let pairs = units.windows(2).filter(|pair| pair.iter().any(|unit| is_word(*unit)));
        let parts = units.windows(3).chain(pairs).map(mixed);
        for place in field.places() {
            let numbers = if is_long(place) { &mut self.long } else { &mut self.short };
            numbers.extend(parts.clone().map(|part| in_field(part, place)));
            if field == SearchFields::TITLE && !units.is_empty() {
                numbers.extend([&units[..1], units].map(|units| in_field(opening(units), place)));
            }
        }
    }

    pub(super) fn done(mut self) -> Phrases {
        let mut filter = Vec::new();
        if self.long.len() > FEW {
            filter = vec![0; (self.long.len() * FILTER_BITS / 8).min(FILTER_BYTES_MAX)];
            for number in self.long {
                probes(number, filter.len()).for_each(|(byte, bit)| filter[byte] |= bit);
            }
        } else {
            self.short.append(&mut self.long);
        }
        self.short.sort_unstable();
        self.short.dedup();
        Phrases { exact: self.short.into(), filter: filter.into() }
    }
}

fn is_long(field: usize) -> bool {
    LONG.bits() & 1 << field != 0
}

/// The number of an opening.
fn opening(units: &[u64]) -> u64 {
    match units {
        [] => OPENING,
        [first] => mixed(&[OPENING, *first]),
        [first, second, ..] => mixed(&[OPENING, *first, *second]),
    }
}

/// Odd, and without a pattern.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(before: u64, number: u64) -> u64 {
    let product = (before ^ number).wrapping_mul(FACTOR);
    product ^ product >> 32
}

fn mixed(units: &[u64]) -> u64 {
    units.iter().fold(0, |before, unit| mix(before, *unit).wrapping_mul(FACTOR))
}

fn in_field(part: u64, field: usize) -> u32 {
    (mix(part, field as u64 + 1).wrapping_mul(FACTOR) >> 32) as u32
}

/// The bits of a number in a filter of so many bytes.
fn probes(number: u32, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
    let bits = bytes as u64 * 8;
    let step = number.wrapping_mul(0x85eb_ca6b).rotate_left(15) | 1;
    (0..PROBES).map(move |probe| {
        let at = (u64::from(number.wrapping_add(step.wrapping_mul(probe))) * bits) >> 32;
        ((at / 8) as usize, 1 << (at % 8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLE: SearchFields = SearchFields::TITLE;
    const CONTENT: SearchFields = SearchFields::CONTENT;

    fn of(texts: &[(&[u64], SearchFields)]) -> Phrases {
        let mut gathered = Gathered::default();
        texts.iter().for_each(|(units, field)| gathered.take(units, *field));
        gathered.done()
    }

    #[test]
    fn a_row_is_in_the_field_that_has_it() {
        let phrases = of(&[(&[1, 2, 3, 4], TITLE), (&[4, 3, 2, 1], CONTENT)]);
        assert!(phrases.filter.is_empty());
        for (row, in_title, in_content) in [
            (&[1, 2, 3, 4][..], true, false),
            (&[2, 3, 4], true, false),
            (&[3, 2, 1], false, true),
            (&[1, 3, 4], false, false),
            // Of two characters the index knows, and of one.
            (&[9, 8], true, true),
            (&[9], true, true),
        ] {
            let row = Row::of(row);
            assert_eq!((phrases.have(&row, TITLE), phrases.have(&row, CONTENT)), (in_title, in_content), "{row:?}");
        }
        assert!(!phrases.have(&Row::of(&[1, 2, 3]), SearchFields::AUTHOR));
        for (row, begins) in [(&[1][..], true), (&[1, 2], true), (&[1, 2, 3], true), (&[2], false), (&[4, 3], false)] {
            assert_eq!(phrases.title_begins(&Row::of(row)), begins, "{row:?}");
        }
    }

    #[test]
    fn two_words_in_a_row_are_told_from_two_that_are_not() {
        let words = [5, 6, 7].map(|word| word | 1 << 63);
        let phrases = of(&[(&words, TITLE)]);
        assert!(phrases.have(&Row::of(&words[..2]), TITLE));
        assert!(!phrases.have(&Row::of(&[words[0], words[2]]), TITLE));
    }

    #[test]
    fn a_long_text_misses_none_and_adds_few() {
        let units: Vec<u64> = (0..3_000).map(|number| number * 7_919 % 20_000).collect();
        let phrases = of(&[(&units, CONTENT)]);
        assert_eq!((phrases.exact.len(), phrases.filter.len()), (0, (units.len() - 2) * FILTER_BITS / 8));
        assert!(units.windows(5).all(|row| phrases.have(&Row::of(row), CONTENT)));
        let wrong = (0..10_000).filter(|number| phrases.have(&Row::of(&[30_000 + number, 1, 2]), CONTENT)).count();
        assert!((30..200).contains(&wrong), "{wrong} of 10,000");
    }
}
