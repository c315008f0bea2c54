//! Events and rows as bytes: MessagePack arrays of closed structs. The frame around an event carries its kind byte
//! and version, so neither is repeated here. `skip_serializing_if` would silently corrupt this layout: never use it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::event::{AccountEvent, OrderEvent, StoreEvent};
use super::ids::{AccountNo, Millis, OrderId, StoreNo};

/// Version byte of every event written by this code.
pub const EVENT_VERSION: u8 = 3;

/// Bytes that are no event or row of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The kind byte names no event.
    #[error("unknown event kind {kind} version {version}")]
    UnknownKind {
        /// The frame's kind byte.
        kind: u8,
        /// The frame's version byte.
        version: u8,
    },
    /// The bytes do not have the layout.
    #[error("{0}")]
    Layout(#[from] rmp_serde::decode::Error),
}

/// A journaled event with its entity, that entity's sequence number, and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Of an account.
    Account(AccountNo, u64, Millis, AccountEvent),
    /// Of a store.
    Store(StoreNo, u64, Millis, StoreEvent),
    /// Of an order.
    Order(OrderId, u64, Millis, OrderEvent),
}

/// An event that can be journaled.
pub trait Payload {
    /// What names its entity.
    type Key: Copy;

    /// Writes the event to `out` and returns the frame's kind byte.
    fn write(&self, key: Self::Key, seq: u64, at: Millis, out: &mut Vec<u8>) -> u8;
}

/// Clears `out`, writes an event to it, and returns the frame's kind byte.
pub fn encode<P: Payload>(event: &P, key: P::Key, seq: u64, at: Millis, out: &mut Vec<u8>) -> u8 {
    out.clear();
    event.write(key, seq, at, out)
}

#[expect(clippy::expect_used, reason = "no value of these types can fail to encode, nor can memory fail to be written")]
fn put<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    rmp_serde::encode::write(out, value).expect("plain data always encodes into memory");
}

/// A row of a snapshot, or a dormant entity.
#[expect(clippy::expect_used, reason = "as for events")]
pub fn encode_row<T: Serialize>(row: &T) -> Vec<u8> {
    rmp_serde::to_vec(row).expect("plain data always encodes into memory")
}

/// The reverse of [`encode_row`].
pub fn decode_row<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    Ok(rmp_serde::from_slice(bytes)?)
}

impl Payload for AccountEvent {
    type Key = AccountNo;

    fn write(&self, key: AccountNo, seq: u64, at: Millis, out: &mut Vec<u8>) -> u8 {
        match self {
            AccountEvent::Registered { user_id, secret } => {
                put(out, &(key, seq, at, user_id, secret));
                1
            }
            AccountEvent::PasswordChanged { secret } => {
                put(out, &(key, seq, at, secret));
                2
            }
            AccountEvent::TokenRevoked { token, expires } => {
                put(out, &(key, seq, at, token, expires));
                3
            }
            AccountEvent::FundsAdded { value, key: idempotency } => {
                put(out, &(key, seq, at, value, idempotency));
                4
            }
            AccountEvent::StoreOpened { store, store_id } => {
                put(out, &(key, seq, at, store, store_id));
                5
            }
            AccountEvent::Held { order, hold } => {
                put(out, &(key, seq, at, order, hold));
                6
            }
            AccountEvent::Credited { order, credit } => {
                put(out, &(key, seq, at, order, credit));
                7
            }
            AccountEvent::Closed => {
                put(out, &(key, seq, at));
                8
            }
            AccountEvent::TakenBack { order, refund } => {
                put(out, &(key, seq, at, order, refund));
                9
            }
        }
    }
}

impl Payload for StoreEvent {
    type Key = StoreNo;

    fn write(&self, key: StoreNo, seq: u64, at: Millis, out: &mut Vec<u8>) -> u8 {
        match self {
            StoreEvent::Created { store_id, owner } => {
                put(out, &(key, seq, at, store_id, owner));
                32
            }
            StoreEvent::BookAdded { id, price, stock, document } => {
                put(out, &(key, seq, at, id, price, stock, document));
                33
            }
            StoreEvent::StockAdded { book, delta } => {
                put(out, &(key, seq, at, book, delta));
                34
            }
            StoreEvent::Reserved { order, facts } => {
                put(out, &(key, seq, at, order, facts));
                35
            }
            StoreEvent::Released { order, release } => {
                put(out, &(key, seq, at, order, release));
                36
            }
        }
    }
}

impl Payload for OrderEvent {
    type Key = OrderId;

    fn write(&self, key: OrderId, seq: u64, at: Millis, out: &mut Vec<u8>) -> u8 {
        match self {
            OrderEvent::Placed(facts) => {
                put(out, &(key, seq, at, facts));
                64
            }
            OrderEvent::Paid { kind, key: idempotency } => {
                put(out, &(key, seq, at, kind, idempotency));
                65
            }
            OrderEvent::Shipped { confirm_by } => {
                put(out, &(key, seq, at, confirm_by));
                66
            }
            OrderEvent::Completed { by, key: idempotency } => {
                put(out, &(key, seq, at, by, idempotency));
                67
            }
            OrderEvent::Canceled { by, key: idempotency } => {
                put(out, &(key, seq, at, by, idempotency));
                68
            }
            OrderEvent::ReceiptExtended { confirm_by } => {
                put(out, &(key, seq, at, confirm_by));
                69
            }
        }
    }
}

fn get<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    Ok(rmp_serde::from_slice(bytes)?)
}

/// Reads a frame's payload.
///
/// # Errors
/// [`CodecError`] if the kind or version is unknown, or the layout is another.
pub fn decode(kind: u8, version: u8, bytes: &[u8]) -> Result<Record, CodecError> {
    if version != EVENT_VERSION {
        return Err(CodecError::UnknownKind { kind, version });
    }
    let account = |(key, seq, at, event)| Ok(Record::Account(key, seq, at, event));
    let store = |(key, seq, at, event)| Ok(Record::Store(key, seq, at, event));
    let order = |(key, seq, at, event)| Ok(Record::Order(key, seq, at, event));
    match kind {
        1 => {
            let (key, seq, at, user_id, secret) = get(bytes)?;
            account((key, seq, at, AccountEvent::Registered { user_id, secret }))
        }
        2 => {
            let (key, seq, at, secret) = get(bytes)?;
            account((key, seq, at, AccountEvent::PasswordChanged { secret }))
        }
        3 => {
            let (key, seq, at, token, expires) = get(bytes)?;
            account((key, seq, at, AccountEvent::TokenRevoked { token, expires }))
        }
        4 => {
            let (entity, seq, at, value, key) = get(bytes)?;
            account((entity, seq, at, AccountEvent::FundsAdded { value, key }))
        }
        5 => {
            let (key, seq, at, store, store_id) = get(bytes)?;
            account((key, seq, at, AccountEvent::StoreOpened { store, store_id }))
        }
        6 => {
            let (key, seq, at, order, hold) = get(bytes)?;
            account((key, seq, at, AccountEvent::Held { order, hold }))
        }
        7 => {
            let (key, seq, at, order, credit) = get(bytes)?;
            account((key, seq, at, AccountEvent::Credited { order, credit }))
        }
        8 => {
            let (key, seq, at) = get(bytes)?;
            account((key, seq, at, AccountEvent::Closed))
        }
        9 => {
            let (key, seq, at, order, refund) = get(bytes)?;
            account((key, seq, at, AccountEvent::TakenBack { order, refund }))
        }
        32 => {
            let (key, seq, at, store_id, owner) = get(bytes)?;
            store((key, seq, at, StoreEvent::Created { store_id, owner }))
        }
        33 => {
            let (key, seq, at, id, price, stock, document) = get(bytes)?;
            store((key, seq, at, StoreEvent::BookAdded { id, price, stock, document }))
        }
        34 => {
            let (key, seq, at, book, delta) = get(bytes)?;
            store((key, seq, at, StoreEvent::StockAdded { book, delta }))
        }
        35 => {
            let (key, seq, at, order_id, facts) = get(bytes)?;
            store((key, seq, at, StoreEvent::Reserved { order: order_id, facts }))
        }
        36 => {
            let (key, seq, at, order_id, release) = get(bytes)?;
            store((key, seq, at, StoreEvent::Released { order: order_id, release }))
        }
        64 => {
            let (key, seq, at, facts) = get(bytes)?;
            order((key, seq, at, OrderEvent::Placed(facts)))
        }
        65 => {
            let (entity, seq, at, kind, key) = get(bytes)?;
            order((entity, seq, at, OrderEvent::Paid { kind, key }))
        }
        66 => {
            let (key, seq, at, confirm_by) = get(bytes)?;
            order((key, seq, at, OrderEvent::Shipped { confirm_by }))
        }
        67 => {
            let (entity, seq, at, by, key) = get(bytes)?;
            order((entity, seq, at, OrderEvent::Completed { by, key }))
        }
        68 => {
            let (entity, seq, at, by, key) = get(bytes)?;
            order((entity, seq, at, OrderEvent::Canceled { by, key }))
        }
        69 => {
            let (key, seq, at, confirm_by) = get(bytes)?;
            order((key, seq, at, OrderEvent::ReceiptExtended { confirm_by }))
        }
        _ => Err(CodecError::UnknownKind { kind, version }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{
        Blob, By, Credit, CreditCause, DocumentHash, Facts, Hold, Line, PayKind, Refund, Release,
    };
    use crate::domain::ids::BookNo;
    use crate::domain::key::{Key, Operation};

    fn key() -> Key {
        Key::new(Operation::NewOrder, "k", [])
    }

    fn facts() -> Facts {
        let lines = vec![Line { book: BookNo(3), count: 2, price: 4_500 }];
        Facts {
            buyer: AccountNo(7),
            seller: AccountNo(1),
            store: StoreNo(2),
            lines: lines.into(),
            total: 9_000,
            created: 1_700_000_000_000,
            deadline: 1_700_001_800_000,
            key: Some(key()),
        }
    }

    /// One of each, so that a kind byte used twice or a field left out fails here.
    #[test]
    fn every_event_comes_back_from_its_bytes() {
        let order = OrderId::new(1_700_000_000_000, AccountNo(7), 42);
        let secret = Blob(Box::from([1u8; 58]));
        let accounts = [
            AccountEvent::Registered { user_id: "买家:1".into(), secret: secret.clone() },
            AccountEvent::PasswordChanged { secret },
            AccountEvent::TokenRevoked { token: u64::MAX, expires: 9 },
            AccountEvent::FundsAdded { value: -3, key: Some(key()) },
            AccountEvent::StoreOpened { store: StoreNo(4), store_id: "s".into() },
            AccountEvent::Held {
                order,
                hold: Hold { kind: PayKind::Direct, seller: AccountNo(1), amount: 8, key: None },
            },
            AccountEvent::Credited {
                order,
                credit: Credit { cause: CreditCause::Confirmation, amount: 8, by: By::Deadline, key: Some(key()) },
            },
            AccountEvent::Closed,
            AccountEvent::TakenBack { order, refund: Refund { buyer: AccountNo(7), amount: 8, key: Some(key()) } },
        ];
        let stores = [
            StoreEvent::Created { store_id: "s".into(), owner: AccountNo(1) },
            StoreEvent::BookAdded { id: "米".into(), price: 1, stock: 2, document: DocumentHash([9; 32]) },
            StoreEvent::StockAdded { book: BookNo(1), delta: -1 },
            StoreEvent::Reserved { order, facts: facts() },
            StoreEvent::Released { order, release: Release { lines: facts().lines, by: By::Seller, key: Some(key()) } },
        ];
        let orders = [
            OrderEvent::Placed(facts()),
            OrderEvent::Paid { kind: PayKind::Platform, key: Some(key()) },
            OrderEvent::Shipped { confirm_by: Some(9) },
            OrderEvent::ReceiptExtended { confirm_by: 10 },
            OrderEvent::Completed { by: By::Buyer, key: None },
            OrderEvent::Canceled { by: By::Deadline, key: None },
        ];
        let mut kinds = std::collections::BTreeSet::new();
        let mut bytes = Vec::new();
        let mut check = |kind: u8, bytes: &[u8], record: Record| {
            assert!(kinds.insert(kind), "kind {kind} is used twice");
            assert_eq!(decode(kind, EVENT_VERSION, bytes).unwrap(), record);
            assert!(decode(kind, EVENT_VERSION, &bytes[..bytes.len() - 1]).is_err());
        };
        for event in accounts {
            let kind = encode(&event, AccountNo(7), 3, 5, &mut bytes);
            check(kind, &bytes, Record::Account(AccountNo(7), 3, 5, event));
        }
        for event in stores {
            let kind = encode(&event, StoreNo(2), 3, 5, &mut bytes);
            check(kind, &bytes, Record::Store(StoreNo(2), 3, 5, event));
        }
        for event in orders {
            let kind = encode(&event, order, 3, 5, &mut bytes);
            check(kind, &bytes, Record::Order(order, 3, 5, event));
        }
        assert!(decode(200, EVENT_VERSION, &bytes).is_err());
        assert!(decode(1, EVENT_VERSION + 1, &bytes).is_err());
    }
}
