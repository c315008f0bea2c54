//! Maps by numbers that the engine itself gave: a hash of one multiplication, where std's costs more than the rest of a
//! look-up. Not for anything that a client can choose, who could then choose numbers that fall together; an order's id
//! holds random bits.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map by numbers of ours.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// A set of numbers of ours.
pub(crate) type NumberSet<K> = HashSet<K, BuildHasherDefault<NumberHasher>>;

/// Multiplies and folds the two halves of the product, so that each bit of the number reaches each bit of the hash.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct NumberHasher(u64);

/// Odd, and without a pattern.
const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

/// From the digits of π.
const START: u64 = 0x243f_6a88_85a3_08d3;

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number ^ START) * u128::from(FACTOR);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
        self.write_u64((number >> 64) as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::super::{AccountNo, OrderId};
    use super::*;

    /// How full the fullest of 1,024 places is, if a place is told by the hash's low bits, and by its high ones.
    fn fullest(hashes: &[u64]) -> [usize; 2] {
        let mut places = [[0; 1_024]; 2];
        for hash in hashes {
            places[0][(hash & 1_023) as usize] += 1;
            places[1][(hash >> 54) as usize] += 1;
        }
        places.map(|places| places.into_iter().max().unwrap_or(0))
    }

    /// 32 a place on average. Drawn at random the fullest of 1,024 has some 52.
    #[test]
    fn numbers_that_follow_one_another_do_not_fall_together() {
        let hasher = BuildHasherDefault::<NumberHasher>::default();
        for step in [1, 2, 16, 1_024] {
            let accounts: Vec<_> = (0..1 << 15).map(|number| hasher.hash_one(AccountNo(number * step))).collect();
            let full = fullest(&accounts);
            assert!(full.iter().all(|most| *most < 64), "accounts {step} apart: {full:?}");
            // As orders of one shard and one millisecond are; without any random bits.
            let order = |number: u32| OrderId::new(1 << 50 | u64::from(number * step), AccountNo(7), 0);
            let orders: Vec<_> = (0..1 << 15).map(|number| hasher.hash_one(order(number))).collect();
            let full = fullest(&orders);
            assert!(full.iter().all(|most| *most < 64), "orders {step} apart: {full:?}");
        }
    }
}
