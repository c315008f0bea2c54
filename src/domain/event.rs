//! What happened. An event belongs to one entity, carries that entity's next sequence number and holds results
//! (prices, times, numbers), so that replay needs no clock and no randomness.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::{AccountNo, BookNo, Fen, Millis, OrderId, StoreNo};
use super::key::Key;

/// Opaque bytes, which are not printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Box<[u8]>);

/// A password hash as the auth room encodes it; opaque here.
pub type Secret = Blob;

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blob(..)")
    }
}

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Which of the two payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum PayKind {
    /// The seller is paid at once.
    Direct,
    /// The platform holds the money until the order is confirmed.
    Platform,
}

impl From<PayKind> for u8 {
    fn from(kind: PayKind) -> u8 {
        match kind {
            PayKind::Direct => 0,
            PayKind::Platform => 1,
        }
    }
}

impl TryFrom<u8> for PayKind {
    type Error = &'static str;

    fn try_from(byte: u8) -> Result<Self, &'static str> {
        match byte {
            0 => Ok(PayKind::Direct),
            1 => Ok(PayKind::Platform),
            _ => Err("no such payment"),
        }
    }
}

/// Who took a step of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum By {
    /// Who placed the order.
    Buyer,
    /// The owner of its store.
    Seller,
    /// Nobody: its time had come.
    Deadline,
}

impl By {
    /// In the order of their numbers in files.
    pub const ALL: [By; 3] = [By::Buyer, By::Seller, By::Deadline];

    /// As the service writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            By::Buyer => "buyer",
            By::Seller => "seller",
            By::Deadline => "deadline",
        }
    }
}

impl From<By> for u8 {
    fn from(by: By) -> u8 {
        by as u8
    }
}

impl TryFrom<u8> for By {
    type Error = &'static str;

    fn try_from(byte: u8) -> Result<Self, &'static str> {
        By::ALL.get(usize::from(byte)).copied().ok_or("nobody takes such a step")
    }
}

/// Why an account was credited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum CreditCause {
    /// The seller's, by a direct payment; closed by the order's `Paid`.
    Payment,
    /// The seller's, by the confirmation of an order that the platform holds; closed by the order's `Completed`.
    Confirmation,
    /// The buyer's, by the refund of an order that was paid like this; closed by the order's `Canceled`.
    Refund(PayKind),
}

impl From<CreditCause> for u8 {
    fn from(cause: CreditCause) -> u8 {
        match cause {
            CreditCause::Payment => 0,
            CreditCause::Confirmation => 1,
            CreditCause::Refund(PayKind::Direct) => 2,
            CreditCause::Refund(PayKind::Platform) => 3,
        }
    }
}

impl TryFrom<u8> for CreditCause {
    type Error = &'static str;

    fn try_from(byte: u8) -> Result<Self, &'static str> {
        match byte {
            0 => Ok(CreditCause::Payment),
            1 => Ok(CreditCause::Confirmation),
            2 => Ok(CreditCause::Refund(PayKind::Direct)),
            3 => Ok(CreditCause::Refund(PayKind::Platform)),
            _ => Err("no such cause of a credit"),
        }
    }
}

/// A line of an order: one book, at the price of order time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The book's place in the store.
    pub book: BookNo,
    /// Copies, 1 or more.
    pub count: i64,
    /// Price of a copy.
    pub price: Fen,
}

/// A book as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// Its id, unique in the store.
    pub id: Arc<str>,
    /// Price of a copy.
    pub price: Fen,
    /// Copies on the shelf, never below 0.
    pub stock: i64,
    /// Copies in orders that are not canceled. `stock + taken` is all that was ever put in.
    pub taken: i64,
    /// Content hash of the book's document.
    pub document: DocumentHash,
}

/// BLAKE3 hash of a book document.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentHash(pub [u8; 32]);

impl DocumentHash {
    /// The name of a document.
    pub fn of(document: &[u8]) -> Self {
        DocumentHash(*blake3::hash(document).as_bytes())
    }
}

impl std::fmt::Display for DocumentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for DocumentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for DocumentHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for DocumentHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Blob::deserialize(deserializer)?.0;
        let bytes = <[u8; 32]>::try_from(&*bytes).map_err(|_| serde::de::Error::custom("a hash has 32 bytes"))?;
        Ok(DocumentHash(bytes))
    }
}

/// What is fixed when an order is placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Who pays.
    pub buyer: AccountNo,
    /// Who is paid: the store's owner.
    pub seller: AccountNo,
    /// Where the copies come from.
    pub store: StoreNo,
    /// One line per book.
    pub lines: Box<[Line]>,
    /// Sum of count × price.
    pub total: Fen,
    /// When it was placed.
    pub created: Millis,
    /// When it is canceled if it is unpaid.
    pub deadline: Millis,
    /// The caller's idempotency key.
    pub key: Option<Key>,
}

/// Evidence in a store that copies were taken for an order whose `Placed` may not be journaled yet.
pub type Reservation = Facts;

/// Evidence in a store that the copies of a canceled or refunded order came back, while its `Canceled` may not be journaled yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// What came back.
    pub lines: Box<[Line]>,
    /// Who canceled it.
    pub by: By,
    /// The caller's idempotency key; none if the deadline canceled it.
    pub key: Option<Key>,
}

/// Evidence in the buyer's account that money was taken for an order whose `Paid` may not be journaled yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Which payment.
    pub kind: PayKind,
    /// Who is to be credited by a direct payment.
    pub seller: AccountNo,
    /// How much.
    pub amount: Fen,
    /// The caller's idempotency key.
    pub key: Option<Key>,
}

/// Evidence in an account that it was credited for an order whose closing event may not be journaled yet. An account may
/// have several of one order, if its owner buys in a store of his own: they differ in their cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// Why.
    pub cause: CreditCause,
    /// How much.
    pub amount: Fen,
    /// Who paid, confirmed or asked for the refund.
    pub by: By,
    /// The caller's idempotency key.
    pub key: Option<Key>,
}

/// Evidence in the seller's account that the money of a direct payment was taken back for an order whose `Canceled` may
/// not be journaled yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Who gets it.
    pub buyer: AccountNo,
    /// How much.
    pub amount: Fen,
    /// The caller's idempotency key.
    pub key: Option<Key>,
}

/// Events of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountEvent {
    /// The account exists, with balance 0.
    Registered {
        /// The user id.
        user_id: Box<str>,
        /// The password's hash.
        secret: Secret,
    },
    /// A new password; every token is void.
    PasswordChanged {
        /// The new password's hash.
        secret: Secret,
    },
    /// One token is void.
    TokenRevoked {
        /// The token's id.
        token: u64,
        /// When it would have expired; the revocation is kept until then.
        expires: Millis,
    },
    /// Money was put in (or withdrawn, if negative).
    FundsAdded {
        /// The change of the balance.
        value: Fen,
        /// The caller's idempotency key.
        key: Option<Key>,
    },
    /// The owner's account counts a store before the store exists.
    StoreOpened {
        /// The store's number.
        store: StoreNo,
        /// Its id.
        store_id: Box<str>,
    },
    /// A payment's first step: the buyer's money is taken.
    Held {
        /// For which order.
        order: OrderId,
        /// What the rest of the saga needs.
        hold: Hold,
    },
    /// The seller's money has come, or the buyer's has come back.
    Credited {
        /// For which order.
        order: OrderId,
        /// What the rest of the saga needs.
        credit: Credit,
    },
    /// Unregistered. The row stays as a tombstone.
    Closed,
    /// The first step of the refund of a direct payment: the seller's money is taken.
    TakenBack {
        /// For which order.
        order: OrderId,
        /// What the rest of the saga needs.
        refund: Refund,
    },
}

/// Events of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// The store exists.
    Created {
        /// Its id.
        store_id: Box<str>,
        /// Who sells.
        owner: AccountNo,
    },
    /// A book is listed.
    BookAdded {
        /// Its id.
        id: Arc<str>,
        /// Price of a copy.
        price: Fen,
        /// Copies on the shelf.
        stock: i64,
        /// Content hash of its document.
        document: DocumentHash,
    },
    /// The stock level was changed.
    StockAdded {
        /// Of which book.
        book: BookNo,
        /// By how many copies.
        delta: i64,
    },
    /// new_order's first step: copies were taken.
    Reserved {
        /// For which order.
        order: OrderId,
        /// What the rest of the saga needs.
        facts: Facts,
    },
    /// Cancel's first step, and the last but one of a refund: copies came back.
    Released {
        /// For which order.
        order: OrderId,
        /// What the rest of the saga needs.
        release: Release,
    },
}

/// Events of an order. Each closes a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderEvent {
    /// The order exists.
    Placed(Facts),
    /// It is paid.
    Paid {
        /// To whom.
        kind: PayKind,
        /// The caller's idempotency key.
        key: Option<Key>,
    },
    /// The seller shipped it.
    Shipped {
        /// When it is confirmed by itself, if it ever is.
        confirm_by: Option<Millis>,
    },
    /// The buyer waits for it still: it is confirmed by itself later.
    ReceiptExtended {
        /// When now.
        confirm_by: Millis,
    },
    /// The buyer received it and confirmed, or time did: through `received` to `completed` in one step.
    Completed {
        /// Who confirmed.
        by: By,
        /// The caller's idempotency key.
        key: Option<Key>,
    },
    /// Canceled by the buyer or by its deadline; refunded, if it was paid.
    Canceled {
        /// Who canceled it.
        by: By,
        /// The caller's idempotency key.
        key: Option<Key>,
    },
}

/// Names a piece of evidence that is to be dropped because the order's event is journaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// A store's reservation.
    Reservation(OrderId),
    /// A store's release.
    Release(OrderId),
    /// A buyer's hold.
    Hold(OrderId),
    /// A credit, by its cause.
    Credit(OrderId, CreditCause),
    /// What was taken back from a seller.
    Refund(OrderId),
    /// An owner's opening of a store.
    Opening(StoreNo),
}
