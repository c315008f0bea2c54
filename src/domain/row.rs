//! How an entity is kept: as its row, and as its events.

use super::codec::{CodecError, decode_row, encode, encode_row};
use super::effect::Entity;
use super::ids::{AccountNo, StoreNo};
use super::{Account, OrderShard, Store};

/// An entity that is kept as bytes.
pub trait Persistent: Entity {
    /// The entity before its first event.
    fn fresh(number: u32) -> Self;
    /// From its dormant row.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are no row of ours.
    fn decode(row: &[u8]) -> Result<Self, CodecError>;
    /// To its dormant row.
    fn encode(&self) -> Box<[u8]>;
    /// Writes the event that is next for this entity; returns the frame's kind.
    fn encode_event(&self, event: &Self::Event, at: u64, out: &mut Vec<u8>) -> u8;
}

impl Persistent for Account {
    fn fresh(number: u32) -> Self {
        Account::new(AccountNo(number))
    }

    fn decode(row: &[u8]) -> Result<Self, CodecError> {
        decode_row(row)
    }

    fn encode(&self) -> Box<[u8]> {
        encode_row(self).into()
    }

    fn encode_event(&self, event: &Self::Event, at: u64, out: &mut Vec<u8>) -> u8 {
        encode(event, self.number, self.seq + 1, at, out)
    }
}

impl Persistent for Store {
    fn fresh(number: u32) -> Self {
        Store::new(StoreNo(number))
    }

    fn decode(row: &[u8]) -> Result<Self, CodecError> {
        let mut store: Store = decode_row(row)?;
        store.index();
        Ok(store)
    }

    fn encode(&self) -> Box<[u8]> {
        encode_row(self).into()
    }

    fn encode_event(&self, event: &Self::Event, at: u64, out: &mut Vec<u8>) -> u8 {
        encode(event, self.number, self.seq + 1, at, out)
    }
}

/// A shard has no row of its own, its orders have.
impl Persistent for OrderShard {
    fn fresh(_number: u32) -> Self {
        OrderShard::default()
    }

    fn decode(_row: &[u8]) -> Result<Self, CodecError> {
        Ok(OrderShard::default())
    }

    fn encode(&self) -> Box<[u8]> {
        Box::default()
    }

    fn encode_event(&self, (id, event): &Self::Event, at: u64, out: &mut Vec<u8>) -> u8 {
        let seq = self.orders.get(id).map_or(0, |order| u64::from(order.seq));
        encode(event, *id, seq + 1, at, out)
    }
}
