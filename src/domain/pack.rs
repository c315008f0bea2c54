//! How the values in an event are written: as few bytes as they need, one after the other, with no names and no types.
//!
//! - For a *number* see `varint`.
//! - A *signed* number is folded first, so that small ones stay short: 0, -1, 1, -2 become 0, 1, 2, 3.
//! - A *time* is written as its signed difference from another one that is near.
//! - *Bytes* are their number and they themselves; so is text, in UTF-8.
//! - *Flags* are one byte. A bit without a meaning is 0.

use super::codec::CodecError;
use super::event::{Blob, Line};
use super::ids::{AccountNo, BookNo, Millis, OrderId, StoreNo};
use super::key::Key;
use crate::varint;

pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    varint::put(out, number);
}

pub(super) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, (number << 1 ^ number >> 63) as u64);
}

/// Whatever the two times are, it comes back.
pub(super) fn put_time(out: &mut Vec<u8>, time: Millis, near: Millis) {
    put_signed(out, time.wrapping_sub(near) as i64);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_order(out: &mut Vec<u8>, order: OrderId) {
    out.extend_from_slice(&order.as_u128().to_be_bytes());
}

/// Whether there is a key stands in the flags.
pub(super) fn put_key(out: &mut Vec<u8>, key: Option<&Key>) {
    if let Some(key) = key {
        out.extend_from_slice(key.bytes());
    }
}

pub(super) fn put_lines(out: &mut Vec<u8>, lines: &[Line]) {
    put_number(out, lines.len() as u64);
    for Line { book, count, price } in lines {
        put_number(out, u64::from(book.0));
        put_number(out, *count as u64);
        put_number(out, *price as u64);
    }
}

/// What is left of an event's bytes.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// The shortest line.
const LINE_MIN_BYTES: usize = 3;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Nothing may follow.
    pub(super) fn end(self) -> Result<(), CodecError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CodecError::Packed("longer than it should be")) }
    }

    pub(super) fn number(&mut self) -> Result<u64, CodecError> {
        varint::take(&mut self.rest).ok_or(CodecError::Packed("no number where one should be"))
    }

    pub(super) fn small(&mut self) -> Result<u32, CodecError> {
        u32::try_from(self.number()?).map_err(|_| CodecError::Packed("a number is too high"))
    }

    pub(super) fn account(&mut self) -> Result<AccountNo, CodecError> {
        self.small().map(AccountNo)
    }

    pub(super) fn store(&mut self) -> Result<StoreNo, CodecError> {
        self.small().map(StoreNo)
    }

    pub(super) fn book(&mut self) -> Result<BookNo, CodecError> {
        self.small().map(BookNo)
    }

    /// What was written as a number, though it is a signed one: it is hardly ever below 0.
    pub(super) fn count(&mut self) -> Result<i64, CodecError> {
        Ok(self.number()? as i64)
    }

    pub(super) fn signed(&mut self) -> Result<i64, CodecError> {
        let folded = self.number()?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    pub(super) fn time(&mut self, near: Millis) -> Result<Millis, CodecError> {
        Ok(near.wrapping_add(self.signed()? as u64))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(CodecError::Packed("cut short"))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(CodecError::Packed("cut short"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let len = self.number()?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    pub(super) fn blob(&mut self) -> Result<Blob, CodecError> {
        self.bytes().map(|bytes| Blob(bytes.into()))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, CodecError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| CodecError::Packed("a text is not UTF-8"))
    }

    pub(super) fn order(&mut self) -> Result<OrderId, CodecError> {
        self.array().map(|bytes| OrderId::from_u128(u128::from_be_bytes(bytes)))
    }

    /// Their number, and they themselves. Each takes a byte at least, so the number is bounded before it is believed.
    pub(super) fn several<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let count = self.number()?;
        if count > self.rest.len() as u64 {
            return Err(CodecError::Packed("cut short"));
        }
        (0..count).map(|_| one(self)).collect()
    }

    pub(super) fn lines(&mut self) -> Result<Box<[Line]>, CodecError> {
        let count = self.number()?;
        // Before anything is allocated.
        if count > (self.rest.len() / LINE_MIN_BYTES) as u64 {
            return Err(CodecError::Packed("cut short"));
        }
        let mut line = || Ok(Line { book: self.book()?, count: self.count()?, price: self.count()? });
        (0..count).map(|_| line()).collect()
    }

    /// Flags of which only these bits may be set.
    pub(super) fn flags(&mut self, known: u8) -> Result<u8, CodecError> {
        let [flags] = self.array()?;
        if flags & !known == 0 { Ok(flags) } else { Err(CodecError::Unknown("a flag is not known")) }
    }

    pub(super) fn key(&mut self, is_there: bool) -> Result<Option<Key>, CodecError> {
        if is_there { Ok(Some(Key::from_bytes(self.array()?))) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_numbers_and_times_come_back() {
        let around = |bit: u32| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1];
        for number in (0..64).flat_map(around).chain([u64::MAX]) {
            for signed in [number as i64, (number as i64).wrapping_neg()] {
                let mut bytes = Vec::new();
                put_signed(&mut bytes, signed);
                put_time(&mut bytes, 7, signed as u64);
                let mut reader = Reader::new(&bytes);
                assert_eq!(reader.signed().unwrap(), signed);
                assert_eq!(reader.time(signed as u64).unwrap(), 7);
                reader.end().unwrap();
            }
        }
        let small = [-1, 0, 1, -64, 63].map(|number| {
            let mut bytes = Vec::new();
            put_signed(&mut bytes, number);
            bytes
        });
        assert_eq!(small, [vec![1], vec![0], vec![2], vec![127], vec![126]]);
    }

    #[test]
    fn a_length_is_not_believed_before_the_bytes_are_there() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, u64::MAX);
        bytes.extend([1, 1, 1]);
        assert!(Reader::new(&bytes).bytes().is_err());
        assert!(Reader::new(&bytes).lines().is_err());
        assert!(Reader::new(&bytes).small().is_err());
    }
}
