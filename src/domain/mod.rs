//! The rules of the shop, pure: no I/O, no clock, no async, no actor.
//!
//! Three kinds of entity: [`Account`], [`Store`], and the orders of one coordinator shard, [`OrderShard`].
//! Each is a `handle(&State, &mut Work, Msg, Now, &mut Effects)` and a total `apply(&mut State, &Event)`; see
//! [`Entity`]. Whoever interprets the effects (the actor shell, recovery) has no rules of his own.

mod account;
mod codec;
mod effect;
mod event;
#[cfg(test)]
mod golden_tests;
mod hash;
mod history;
mod ids;
mod key;
mod look;
mod message;
mod order;
mod pack;
mod refusal;
mod row;
mod shard;
mod step;
mod store;

pub use account::Account;
pub use codec::{CodecError, EVENT_VERSION, Record, decode, decode_row, encode, encode_row, is_known};
pub use effect::{Effect, Effects, Entity, OrdersOf, Outcome, Resting, Shelved};
pub use event::{
    AccountEvent, Blob, Book, By, Credit, CreditCause, DocumentHash, Evidence, Facts, Hold, Line, OrderEvent, PayKind,
    Refund, Release, Reservation, Secret, StoreEvent,
};
pub(crate) use hash::{NumberMap, NumberSet};
pub use history::Receipt;
pub use ids::{AccountNo, BookNo, Fen, Millis, ORDER_COUNT_BITS, OrderId, SHARDS, StoreNo, Ticket};
pub use key::{KEPT_FOR, Kept, Key, Operation, Scope, is_alive};
pub use message::{AccountMsg, Address, Cred, NewBook, NewLine, OrderMsg, Send, StoreMsg};
pub use order::{Order, OrderStatus};
pub use refusal::Refusal;
pub use row::{Glance, Persistent};
pub use shard::{Leaving, OrderShard};
pub use store::Store;

/// Sum of all deposits stays below this, in fen: so a credit can never overflow a balance.
pub const DEPOSITS_MAX: Fen = 1 << 62;

/// An order's total stays below this, in fen.
pub const ORDER_TOTAL_MAX: Fen = 1 << 53;
