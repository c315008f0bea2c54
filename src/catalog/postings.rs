//! A compact list: which books have a token, in which fields.
//!
//! Books come in ascending numbers. An entry is the distance to the book before, times two, as a variable-length
//! number; the low bit says that the fields are those of the entry before, else a byte with the fields follows. Most
//! tokens are in a book or two: up to 14 bytes of entries lie in the list itself, which takes 16 bytes.

/// Bytes of entries that need no allocation.
const INLINE_BYTES: usize = 14;

pub(super) enum Postings {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Heap(Box<Long>),
}

pub(super) struct Long {
    /// The newest entry's book and fields.
    last: Entry,
    bytes: Vec<u8>,
}

/// A book that has the token, and the fields in which it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) book: u32,
    pub(super) fields: u8,
}

/// Before the first entry. No book has its number, so that the first distance is at least 1.
const START: Entry = Entry { book: 0, fields: 0 };

impl Default for Postings {
    fn default() -> Self {
        Postings::Inline { len: 0, bytes: [0; INLINE_BYTES] }
    }
}

impl Postings {
    /// Appends an entry. Its book must come after all that are in the list; numbers begin at 1.
    pub(super) fn push(&mut self, entry: Entry) {
        let mut encoded = [0; 7];
        match self {
            Postings::Heap(long) => {
                debug_assert!(entry.book > long.last.book);
                let added = encode(long.last, entry, &mut encoded);
                reserve(&mut long.bytes, added.len());
                long.bytes.extend_from_slice(added);
                long.last = entry;
            }
            Postings::Inline { len, bytes } => {
                let used = usize::from(*len);
                let last = Entries { bytes: &bytes[..used], last: START }.last().unwrap_or(START);
                debug_assert!(entry.book > last.book);
                let added = encode(last, entry, &mut encoded);
                let whole = used + added.len();
                if whole <= INLINE_BYTES {
                    bytes[used..whole].copy_from_slice(added);
                    *len = whole as u8;
                } else {
                    let mut all = Vec::with_capacity(2 * INLINE_BYTES);
                    all.extend_from_slice(&bytes[..used]);
                    all.extend_from_slice(added);
                    *self = Postings::Heap(Box::new(Long { last: entry, bytes: all }));
                }
            }
        }
    }

    /// All entries, in ascending books.
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries { bytes: self.bytes(), last: START }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Postings::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Postings::Heap(long) => &long.bytes,
        }
    }

    /// How long it takes to walk: bytes.
    pub(super) fn weight(&self) -> usize {
        self.bytes().len()
    }

    /// Bytes that it takes beside itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Postings::Inline { .. } => 0,
            Postings::Heap(long) => size_of::<Long>() + long.bytes.capacity(),
        }
    }
}

/// A quarter more, where `Vec` would take twice as much.
fn reserve(bytes: &mut Vec<u8>, more: usize) {
    if bytes.capacity() - bytes.len() < more {
        bytes.reserve_exact(more.max(bytes.len() / 4));
    }
}

fn encode(last: Entry, entry: Entry, buffer: &mut [u8; 7]) -> &[u8] {
    let same = entry.fields == last.fields;
    let mut number = u64::from(entry.book.wrapping_sub(last.book)) << 1 | u64::from(same);
    let mut len = 0;
    while number >= 0x80 {
        buffer[len] = number as u8 | 0x80;
        number >>= 7;
        len += 1;
    }
    buffer[len] = number as u8;
    len += 1;
    if !same {
        buffer[len] = entry.fields;
        len += 1;
    }
    &buffer[..len]
}

/// Walks a list.
pub(super) struct Entries<'a> {
    bytes: &'a [u8],
    last: Entry,
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let (mut number, mut shift) = (0u64, 0);
        loop {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if number & 1 == 0 {
            let (fields, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            self.last.fields = *fields;
        }
        self.last.book += (number >> 1) as u32;
        Some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_list_is_16_bytes() {
        assert_eq!(size_of::<Postings>(), 16);
    }

    proptest! {
        #[test]
        fn what_is_pushed_is_walked(steps in prop::collection::vec((1u32..40_000, 1u8..128), 0..60)) {
            let mut list = Postings::default();
            let mut expected = Vec::new();
            let mut book = 0;
            for (step, fields) in steps {
                book += step;
                list.push(Entry { book, fields });
                expected.push(Entry { book, fields });
            }
            prop_assert_eq!(list.entries().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn the_largest_distance_fits() {
        let mut list = Postings::default();
        let entries = [Entry { book: 1, fields: 0x7f }, Entry { book: u32::MAX, fields: 1 }];
        entries.into_iter().for_each(|entry| list.push(entry));
        assert_eq!(list.entries().collect::<Vec<_>>(), entries);
    }
}
