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

/// An order's id: a version 7 UUID, so ids sort by time. Byte 6's low nibble and byte 7 hold the low byte of
/// the buyer's number (and four random bits), the rest is random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(u128);

impl OrderId {
    /// An id for an order that `buyer` places at `now`, from 64 random bits.
    pub fn new(now: Millis, buyer: AccountNo, random: u64, random_nibble: u8) -> Self {
        let time = u128::from(now & 0xffff_ffff_ffff) << 80;
        let version = 7u128 << 76;
        let shard = (u128::from(random_nibble & 0xf) << 72) | (u128::from(buyer.0 as u8) << 64);
        let variant = 0b10u128 << 62;
        OrderId(time | version | shard | variant | u128::from(random >> 2))
    }

    /// Reads a lower-case hyphenated UUID; any other text is no order of ours.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        uuid::Uuid::try_parse(text).ok().map(|uuid| OrderId(uuid.as_u128()))
    }

    /// The coordinator shard that holds the order.
    pub fn shard(self) -> usize {
        ((self.0 >> 64) as u8) as usize % SHARDS
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
    fn an_order_id_is_a_version_7_uuid_that_knows_its_shard_and_sorts_by_time() {
        let id = OrderId::new(1_700_000_000_000, AccountNo(0x1_23), u64::MAX, 5);
        let uuid = uuid::Uuid::try_parse(&id.to_string()).unwrap();
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
        assert_eq!(id.shard(), AccountNo(0x1_23).shard());
        assert_eq!(OrderId::parse(&id.to_string()), Some(id));
        assert!(OrderId::new(1_700_000_000_001, AccountNo(0), 0, 0) > id);
    }

    #[test]
    fn only_a_lower_case_hyphenated_uuid_is_an_order_id() {
        let id = OrderId::new(0x0abc_def0_1234, AccountNo(0xfe), 0xabcd_ef01, 0xa).to_string();
        assert!(OrderId::parse(&id).is_some());
        for text in [id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}"), String::new(), "x".repeat(36)] {
            assert_eq!(OrderId::parse(&text), None, "{text}");
        }
    }
}
