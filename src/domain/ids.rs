//! Numbers and ids of things.

use serde::{Deserialize, Serialize};

/// Money: 1/100 yuan.
pub type Fen = i64;

/// Time in milliseconds since the Unix epoch.
pub type Millis = u64;

/// Coordinator shards. An order id carries a byte of its buyer's number, which says the shard.
pub const SHARDS: usize = 16;

/// Dense number of an account. An id that is registered anew gets a new number, so it inherits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountNo(pub u32);

impl AccountNo {
    /// The coordinator shard that holds this buyer's orders.
    pub fn shard(self) -> usize {
        (self.0 as u8) as usize % SHARDS
    }
}

/// Dense number of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreNo(pub u32);

/// Place of a book in its store, counted from 0 in the order of listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BookNo(pub u32);

/// Names the caller that waits for an answer; 0 is nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

impl Ticket {
    /// Nobody waits: timers and recovery.
    pub const NOBODY: Ticket = Ticket(0);
}

/// An order's id: a version 7 UUID, so ids sort by time. Calls take it as text, which is what `Display` gives.
///
/// After the 48 bits of milliseconds come 20 bits that count
/// within the millisecond, so that ids of one engine sort by the order in which they were given, then random bits; the
/// last byte is the low byte of the buyer's number, which says the shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(u128);

/// Orders that can be told apart by the count within one millisecond, in bits.
pub const ORDER_COUNT_BITS: u32 = 20;

impl OrderId {
    /// An id for an order of `buyer`. `stamp` is milliseconds << 20 plus the count.
    #[doc(hidden)]
    pub fn new(stamp: u64, buyer: AccountNo, random: u64) -> Self {
        let time = u128::from(stamp >> ORDER_COUNT_BITS & 0xffff_ffff_ffff) << 80;
        let count = u128::from(stamp & ((1 << ORDER_COUNT_BITS) - 1));
        let version = 7u128 << 76;
        let variant = 0b10u128 << 62;
        let random = u128::from(random & ((1 << 46) - 1)) << 8;
        OrderId(
            time | version | (count >> 8) << 64 | variant | (count & 0xff) << 54 | random | u128::from(buyer.0 as u8),
        )
    }

    /// Reads a lower-case hyphenated UUID; any other text is no order of ours.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        uuid::Uuid::try_parse(text).ok().map(|uuid| OrderId(uuid.as_u128()))
    }

    /// The coordinator shard that holds the order.
    #[doc(hidden)]
    pub fn shard(self) -> usize {
        (self.0 as u8) as usize % SHARDS
    }

    /// When it was given, in milliseconds since the Unix epoch.
    pub(crate) fn millis(self) -> Millis {
        (self.0 >> 80) as u64
    }

    /// The id of that number. Whether an order has it is another question.
    pub fn from_u128(number: u128) -> Self {
        OrderId(number)
    }

    /// The id as a number.
    pub fn as_u128(self) -> u128 {
        self.0
    }

    /// Writes the 36 characters of the id into a buffer, which is quicker than formatting.
    pub fn encode(self, buffer: &mut [u8; 36]) -> &str {
        uuid::Uuid::from_u128(self.0).hyphenated().encode_lower(buffer)
    }
}

impl std::fmt::Display for OrderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut buffer = [0; 36];
        f.write_str(self.encode(&mut buffer))
    }
}

impl std::fmt::Debug for OrderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for OrderId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_be_bytes())
    }
}

impl<'de> Deserialize<'de> for OrderId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = OrderId;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("16 bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<OrderId, E> {
                let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| E::invalid_length(bytes.len(), &self))?;
                Ok(OrderId(u128::from_be_bytes(bytes)))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_id_is_a_version_7_uuid_that_knows_its_shard_and_sorts_by_its_stamp() {
        let stamp = 1_700_000_000_000 << ORDER_COUNT_BITS;
        let mut last = OrderId::new(stamp - 1, AccountNo(0xff), u64::MAX);
        for (count, buyer) in [(0, 0x123), (1, 3), (0xff, 9), (0x100, 0), (0xf_ffff, 7)] {
            let id = OrderId::new(stamp + count, AccountNo(buyer), u64::MAX * (count & 1));
            let uuid = uuid::Uuid::try_parse(&id.to_string()).unwrap();
            assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
            let (seconds, nanos) = uuid.get_timestamp().unwrap().to_unix();
            assert_eq!((seconds, nanos), (1_700_000_000, 0));
            assert_eq!(id.shard(), AccountNo(buyer).shard());
            assert_eq!(OrderId::parse(&id.to_string()), Some(id));
            assert!(id > last, "{id} {last}");
            last = id;
        }
    }

    #[test]
    fn only_a_lower_case_hyphenated_uuid_is_an_order_id() {
        let id = OrderId::new(0x0abc_def0_1234 << ORDER_COUNT_BITS, AccountNo(0xfe), 0xabcd_ef01).to_string();
        assert!(OrderId::parse(&id).is_some());
        for text in [id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}"), String::new(), "x".repeat(36)] {
            assert_eq!(OrderId::parse(&text), None, "{text}");
        }
    }
}
