//! Events and rows as bytes. The frame around an event carries its kind byte and version, so neither is repeated here.
//!
//! Events are packed by hand, see `pack`: an order makes five of them, and their bytes are what its answer waits for. Rows
//! are MessagePack arrays of closed structs, but that of an account, of which there are most: see `row`.
//! `skip_serializing_if` would silently corrupt the layout of an array: never use it.
//!
//! These layouts are promised since 0.1.0. Another layout of an event gets another kind, or another version.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::event::{
    AccountEvent, By, Credit, CreditCause, DocumentHash, Facts, Hold, Line, OrderEvent, PayKind, Refund, Release,
    StoreEvent,
};
use super::ids::{AccountNo, Fen, Millis, OrderId, StoreNo};
use super::key::Key;
use super::pack::{Reader, put_bytes, put_key, put_lines, put_number, put_order, put_signed, put_time};

/// Version of every event written by this code. It is not in the bytes of a frame as long as it is 1.
pub const EVENT_VERSION: u8 = 1;

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
    /// The bytes do not have the layout of a row.
    #[error("{0}")]
    Layout(#[from] rmp_serde::decode::Error),
    /// The bytes do not have the layout of an event, or of an account's row.
    #[error("{0}")]
    Packed(&'static str),
    /// A mark that only a later version can have written, if the bytes are sound.
    #[error("{0}")]
    Unknown(&'static str),
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

/// A row of a snapshot, or a dormant entity, as MessagePack.
#[expect(clippy::expect_used, reason = "no value of these types can fail to encode, nor can memory fail to be written")]
pub fn encode_row<T: Serialize>(row: &T) -> Vec<u8> {
    rmp_serde::to_vec(row).expect("plain data always encodes into memory")
}

/// The reverse of [`encode_row`].
pub fn decode_row<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    Ok(rmp_serde::from_slice(bytes)?)
}

/// Flags of an event. Which of them it may have says its kind.
mod flag {
    /// An idempotency key stands at the event's end.
    pub(super) const KEY: u8 = 1;
    /// The payment is held by the platform.
    pub(super) const PLATFORM: u8 = 2;
    /// The total is the sum of the lines and is not written.
    pub(super) const SUMMED: u8 = 2;
    /// A time follows.
    pub(super) const TIME: u8 = 1;
    /// Two bits: who took the step.
    pub(super) const BY: u8 = 6;
    pub(super) const BY_SHIFT: u8 = 1;
    /// Two bits: why an account was credited.
    pub(super) const CAUSE: u8 = 0x18;
    pub(super) const CAUSE_SHIFT: u8 = 3;
}

fn keyed(key: Option<&Key>) -> u8 {
    if key.is_some() { flag::KEY } else { 0 }
}

fn paid(kind: PayKind) -> u8 {
    u8::from(kind) * flag::PLATFORM
}

fn by(by: By) -> u8 {
    u8::from(by) << flag::BY_SHIFT
}

fn get_by(flags: u8) -> Result<By, CodecError> {
    By::try_from((flags & flag::BY) >> flag::BY_SHIFT).map_err(CodecError::Unknown)
}

fn get_kind(flags: u8) -> PayKind {
    if flags & flag::PLATFORM == 0 { PayKind::Direct } else { PayKind::Platform }
}

/// What the lines cost, as far as that can be counted.
fn sum(lines: &[Line]) -> Fen {
    lines.iter().fold(0, |sum: Fen, line| sum.wrapping_add(line.count.wrapping_mul(line.price)))
}

fn put_facts(out: &mut Vec<u8>, facts: &Facts, at: Millis) {
    let summed = if facts.total == sum(&facts.lines) { flag::SUMMED } else { 0 };
    out.push(keyed(facts.key.as_ref()) | summed);
    for number in [facts.buyer.0, facts.seller.0, facts.store.0] {
        put_number(out, u64::from(number));
    }
    put_time(out, facts.created, at);
    put_time(out, facts.deadline, facts.created);
    put_lines(out, &facts.lines);
    if summed == 0 {
        put_number(out, facts.total as u64);
    }
    put_key(out, facts.key.as_ref());
}

fn get_facts(from: &mut Reader<'_>, at: Millis) -> Result<Facts, CodecError> {
    let flags = from.flags(flag::KEY | flag::SUMMED)?;
    let (buyer, seller, store) = (from.account()?, from.account()?, from.store()?);
    let created = from.time(at)?;
    let deadline = from.time(created)?;
    let lines = from.lines()?;
    let total = if flags & flag::SUMMED == 0 { from.count()? } else { sum(&lines) };
    let key = from.key(flags & flag::KEY != 0)?;
    Ok(Facts { buyer, seller, store, lines, total, created, deadline, key })
}

/// What every event begins with: its entity, that entity's sequence number, and when it happened.
fn put_head(out: &mut Vec<u8>, number: u32, seq: u64, at: Millis) {
    put_number(out, u64::from(number));
    put_number(out, seq);
    put_number(out, at);
}

/// The same of an event that names an order. Its id knows when it was given.
fn put_order_head(out: &mut Vec<u8>, number: Option<u32>, order: OrderId, seq: u64, at: Millis) {
    if let Some(number) = number {
        put_number(out, u64::from(number));
    }
    put_number(out, seq);
    put_order(out, order);
    put_time(out, at, order.millis());
}

impl Payload for AccountEvent {
    type Key = AccountNo;

    fn write(&self, AccountNo(number): AccountNo, seq: u64, at: Millis, out: &mut Vec<u8>) -> u8 {
        if let AccountEvent::Held { order, .. }
        | AccountEvent::Credited { order, .. }
        | AccountEvent::TakenBack { order, .. } = self
        {
            put_order_head(out, Some(number), *order, seq, at);
        } else {
            put_head(out, number, seq, at);
        }
        match self {
            AccountEvent::Registered { user_id, secret } => {
                put_bytes(out, user_id.as_bytes());
                put_bytes(out, &secret.0);
                1
            }
            AccountEvent::PasswordChanged { secret } => {
                put_bytes(out, &secret.0);
                2
            }
            AccountEvent::TokenRevoked { token, expires } => {
                out.extend_from_slice(&token.to_be_bytes());
                put_time(out, *expires, at);
                3
            }
            AccountEvent::FundsAdded { value, key } => {
                out.push(keyed(key.as_ref()));
                put_signed(out, *value);
                put_key(out, key.as_ref());
                4
            }
            AccountEvent::StoreOpened { store, store_id } => {
                put_number(out, u64::from(store.0));
                put_bytes(out, store_id.as_bytes());
                5
            }
            AccountEvent::Held { hold: Hold { kind, seller, amount, key }, .. } => {
                out.push(keyed(key.as_ref()) | paid(*kind));
                put_number(out, u64::from(seller.0));
                put_number(out, *amount as u64);
                put_key(out, key.as_ref());
                6
            }
            AccountEvent::Credited { credit, .. } => {
                let cause = u8::from(credit.cause) << flag::CAUSE_SHIFT;
                out.push(keyed(credit.key.as_ref()) | by(credit.by) | cause);
                put_number(out, credit.amount as u64);
                put_key(out, credit.key.as_ref());
                7
            }
            AccountEvent::Closed => 8,
            AccountEvent::TakenBack { refund: Refund { buyer, amount, key }, .. } => {
                out.push(keyed(key.as_ref()));
                put_number(out, u64::from(buyer.0));
                put_number(out, *amount as u64);
                put_key(out, key.as_ref());
                9
            }
            AccountEvent::StoreClosed { store } => {
                put_number(out, u64::from(store.0));
                10
            }
        }
    }
}

impl Payload for StoreEvent {
    type Key = StoreNo;

    fn write(&self, StoreNo(number): StoreNo, seq: u64, at: Millis, out: &mut Vec<u8>) -> u8 {
        if let StoreEvent::Reserved { order, .. } | StoreEvent::Released { order, .. } = self {
            put_order_head(out, Some(number), *order, seq, at);
        } else {
            put_head(out, number, seq, at);
        }
        match self {
            StoreEvent::Created { store_id, owner } => {
                put_bytes(out, store_id.as_bytes());
                put_number(out, u64::from(owner.0));
                32
            }
            StoreEvent::BookAdded { id, price, stock, document } => {
                put_bytes(out, id.as_bytes());
                put_number(out, *price as u64);
                put_number(out, *stock as u64);
                out.extend_from_slice(&document.0);
                33
            }
            StoreEvent::StockAdded { book, delta } => {
                put_number(out, u64::from(book.0));
                put_signed(out, *delta);
                34
            }
            StoreEvent::Reserved { facts, .. } => {
                put_facts(out, facts, at);
                35
            }
            StoreEvent::Released { release, .. } => {
                out.push(keyed(release.key.as_ref()) | by(release.by));
                put_lines(out, &release.lines);
                put_key(out, release.key.as_ref());
                36
            }
            StoreEvent::PriceSet { book, price } => {
                put_number(out, u64::from(book.0));
                put_number(out, *price as u64);
                37
            }
            StoreEvent::Delisted { book } => {
                put_number(out, u64::from(book.0));
                38
            }
            StoreEvent::Relisted { book } => {
                put_number(out, u64::from(book.0));
                39
            }
            StoreEvent::Closed => 40,
        }
    }
}

impl Payload for OrderEvent {
    type Key = OrderId;

    fn write(&self, order: OrderId, seq: u64, at: Millis, out: &mut Vec<u8>) -> u8 {
        put_order_head(out, None, order, seq, at);
        let ended = |out: &mut Vec<u8>, who: By, key: &Option<Key>| {
            out.push(keyed(key.as_ref()) | by(who));
            put_key(out, key.as_ref());
        };
        match self {
            OrderEvent::Placed(facts) => {
                put_facts(out, facts, at);
                64
            }
            OrderEvent::Paid { kind, key } => {
                out.push(keyed(key.as_ref()) | paid(*kind));
                put_key(out, key.as_ref());
                65
            }
            OrderEvent::Shipped { confirm_by } => {
                out.push(if confirm_by.is_some() { flag::TIME } else { 0 });
                if let Some(confirm_by) = confirm_by {
                    put_time(out, *confirm_by, at);
                }
                66
            }
            OrderEvent::Completed { by, key } => {
                ended(out, *by, key);
                67
            }
            OrderEvent::Canceled { by, key } => {
                ended(out, *by, key);
                68
            }
            OrderEvent::ReceiptExtended { confirm_by } => {
                put_time(out, *confirm_by, at);
                69
            }
        }
    }
}

/// Whether a frame of this kind and version holds an event that this program knows.
pub fn is_known(kind: u8, version: u8) -> bool {
    version == EVENT_VERSION && matches!(kind, 1..=10 | 32..=40 | 64..=69)
}

/// Reads a frame's payload.
///
/// # Errors
/// [`CodecError`] if the kind or version is unknown, or the layout is another.
pub fn decode(kind: u8, version: u8, bytes: &[u8]) -> Result<Record, CodecError> {
    if !is_known(kind, version) {
        return Err(CodecError::UnknownKind { kind, version });
    }
    let mut from = Reader::new(bytes);
    let record = match kind {
        6 | 7 | 9 => {
            let (number, seq, (order, at)) = (from.account()?, from.number()?, get_order(&mut from)?);
            Record::Account(number, seq, at, decode_payment(kind, order, &mut from)?)
        }
        35 | 36 => {
            let (number, seq, (order, at)) = (from.store()?, from.number()?, get_order(&mut from)?);
            Record::Store(number, seq, at, decode_copies(kind, order, at, &mut from)?)
        }
        0..32 => {
            let (number, seq, at) = (from.account()?, from.number()?, from.number()?);
            Record::Account(number, seq, at, decode_account(kind, at, &mut from)?)
        }
        32..64 => {
            let (number, seq, at) = (from.store()?, from.number()?, from.number()?);
            Record::Store(number, seq, at, decode_store(kind, &mut from)?)
        }
        _ => {
            let (seq, (order, at)) = (from.number()?, get_order(&mut from)?);
            Record::Order(order, seq, at, decode_order(kind, at, &mut from)?)
        }
    };
    from.end()?;
    Ok(record)
}

fn get_order(from: &mut Reader<'_>) -> Result<(OrderId, Millis), CodecError> {
    let order = from.order()?;
    Ok((order, from.time(order.millis())?))
}

fn unknown(kind: u8) -> CodecError {
    CodecError::UnknownKind { kind, version: EVENT_VERSION }
}

fn decode_account(kind: u8, at: Millis, from: &mut Reader<'_>) -> Result<AccountEvent, CodecError> {
    Ok(match kind {
        1 => AccountEvent::Registered { user_id: from.text()?.into(), secret: from.blob()? },
        2 => AccountEvent::PasswordChanged { secret: from.blob()? },
        3 => AccountEvent::TokenRevoked { token: u64::from_be_bytes(from.array()?), expires: from.time(at)? },
        4 => {
            let flags = from.flags(flag::KEY)?;
            AccountEvent::FundsAdded { value: from.signed()?, key: from.key(flags & flag::KEY != 0)? }
        }
        5 => AccountEvent::StoreOpened { store: from.store()?, store_id: from.text()?.into() },
        8 => AccountEvent::Closed,
        10 => AccountEvent::StoreClosed { store: from.store()? },
        _ => return Err(unknown(kind)),
    })
}

fn decode_payment(kind: u8, order: OrderId, from: &mut Reader<'_>) -> Result<AccountEvent, CodecError> {
    Ok(match kind {
        6 => {
            let flags = from.flags(flag::KEY | flag::PLATFORM)?;
            let (kind, seller, amount) = (get_kind(flags), from.account()?, from.count()?);
            let key = from.key(flags & flag::KEY != 0)?;
            AccountEvent::Held { order, hold: Hold { kind, seller, amount, key } }
        }
        7 => {
            let flags = from.flags(flag::KEY | flag::BY | flag::CAUSE)?;
            let cause =
                CreditCause::try_from((flags & flag::CAUSE) >> flag::CAUSE_SHIFT).map_err(CodecError::Unknown)?;
            let (by, amount, key) = (get_by(flags)?, from.count()?, from.key(flags & flag::KEY != 0)?);
            AccountEvent::Credited { order, credit: Credit { cause, amount, by, key } }
        }
        9 => {
            let flags = from.flags(flag::KEY)?;
            let (buyer, amount, key) = (from.account()?, from.count()?, from.key(flags & flag::KEY != 0)?);
            AccountEvent::TakenBack { order, refund: Refund { buyer, amount, key } }
        }
        _ => return Err(unknown(kind)),
    })
}

fn decode_store(kind: u8, from: &mut Reader<'_>) -> Result<StoreEvent, CodecError> {
    Ok(match kind {
        32 => StoreEvent::Created { store_id: from.text()?.into(), owner: from.account()? },
        33 => {
            let (id, price, stock) = (from.text()?.into(), from.count()?, from.count()?);
            StoreEvent::BookAdded { id, price, stock, document: DocumentHash(from.array()?) }
        }
        34 => StoreEvent::StockAdded { book: from.book()?, delta: from.signed()? },
        37 => StoreEvent::PriceSet { book: from.book()?, price: from.count()? },
        38 => StoreEvent::Delisted { book: from.book()? },
        39 => StoreEvent::Relisted { book: from.book()? },
        40 => StoreEvent::Closed,
        _ => return Err(unknown(kind)),
    })
}

fn decode_copies(kind: u8, order: OrderId, at: Millis, from: &mut Reader<'_>) -> Result<StoreEvent, CodecError> {
    Ok(match kind {
        35 => StoreEvent::Reserved { order, facts: get_facts(from, at)? },
        36 => {
            let flags = from.flags(flag::KEY | flag::BY)?;
            let (lines, by) = (from.lines()?, get_by(flags)?);
            StoreEvent::Released { order, release: Release { lines, by, key: from.key(flags & flag::KEY != 0)? } }
        }
        _ => return Err(unknown(kind)),
    })
}

fn decode_order(kind: u8, at: Millis, from: &mut Reader<'_>) -> Result<OrderEvent, CodecError> {
    Ok(match kind {
        64 => OrderEvent::Placed(get_facts(from, at)?),
        65 => {
            let flags = from.flags(flag::KEY | flag::PLATFORM)?;
            OrderEvent::Paid { kind: get_kind(flags), key: from.key(flags & flag::KEY != 0)? }
        }
        66 => {
            let flags = from.flags(flag::TIME)?;
            let confirm_by = if flags & flag::TIME == 0 { None } else { Some(from.time(at)?) };
            OrderEvent::Shipped { confirm_by }
        }
        67 | 68 => {
            let flags = from.flags(flag::KEY | flag::BY)?;
            let (by, key) = (get_by(flags)?, from.key(flags & flag::KEY != 0)?);
            if kind == 67 { OrderEvent::Completed { by, key } } else { OrderEvent::Canceled { by, key } }
        }
        69 => OrderEvent::ReceiptExtended { confirm_by: from.time(at)? },
        _ => return Err(unknown(kind)),
    })
}
