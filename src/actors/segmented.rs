//! A growing array whose elements never move, so that they can be borrowed while it grows.

use std::sync::OnceLock;

const FIRST: usize = 1_024;
const SEGMENTS: usize = 23;

/// Segment `k` holds `FIRST << k` elements and is made when its first element is asked for; all of them together
/// hold any `u32`.
#[derive(Debug)]
pub(super) struct Segmented<T> {
    segments: [OnceLock<Box<[T]>>; SEGMENTS],
}

impl<T: Default> Segmented<T> {
    pub(super) fn new() -> Self {
        Segmented { segments: std::array::from_fn(|_| OnceLock::new()) }
    }

    fn place(index: u32) -> (usize, usize) {
        let shifted = index as usize + FIRST;
        let segment = (usize::BITS - 1 - shifted.leading_zeros()) as usize - FIRST.ilog2() as usize;
        (segment, shifted - (FIRST << segment))
    }

    /// The element, made with its segment if need be.
    pub(super) fn get(&self, index: u32) -> &T {
        let (segment, offset) = Self::place(index);
        let elements = self.segments[segment].get_or_init(|| (0..FIRST << segment).map(|_| T::default()).collect());
        &elements[offset]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let mut next = (0, 0);
        for index in 0..(FIRST as u32) * 15 {
            assert_eq!(Segmented::<u8>::place(index), next, "{index}");
            next = if next.1 + 1 == FIRST << next.0 { (next.0 + 1, 0) } else { (next.0, next.1 + 1) };
        }
        let (segment, offset) = Segmented::<u8>::place(u32::MAX);
        assert!(segment < SEGMENTS && offset < FIRST << segment);
    }
}
