//! What entities tell each other, and what the engine tells them. Plain values: no channel, no shared state, no
//! closure, so that a message could cross a machine one day.

use std::sync::Arc;

use super::event::{By, Credit, DocumentHash, Evidence, Facts, PayKind, Refund, Release, Secret};
use super::ids::{AccountNo, BookNo, Fen, Millis, OrderId, StoreNo, Ticket};
use super::key::{Kept, Key, Scope};
use super::refusal::Refusal;

/// A credential after it was resolved at the door. `handle` judges it in the contract's order of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cred {
    /// Wrong.
    Refused,
    /// Right while the account's password epoch is this one.
    Epoch(u32),
    /// The embedder vouches.
    Trusted,
}

impl Cred {
    /// Whether the credential is good for an account whose password epoch is `epoch`.
    pub fn is_good(self, epoch: u32) -> bool {
        match self {
            Cred::Refused => false,
            Cred::Epoch(known) => known == epoch,
            Cred::Trusted => true,
        }
    }
}

/// A line of an order that is being placed.
#[derive(Debug, Clone)]
pub struct NewLine {
    /// The book's id.
    pub book_id: Arc<str>,
    /// Copies, 1 or more.
    pub count: i64,
}

/// A book that is being listed.
#[derive(Debug, Clone)]
pub struct NewBook {
    /// Its id.
    pub id: Arc<str>,
    /// Price of a copy, 0 or more.
    pub price: Fen,
    /// Copies on the shelf, 0 or more.
    pub stock: i64,
    /// Content hash of its document, which is durable already.
    pub document: DocumentHash,
}

/// Messages to an account.
#[derive(Debug)]
pub enum AccountMsg {
    /// Gives the password's hash and epoch.
    Secret { ticket: Ticket },
    /// Judges a token whose signature is good.
    CheckToken { ticket: Ticket, epoch: u32, token: u64 },
    /// Changes the password.
    SetPassword { ticket: Ticket, cred: Cred, secret: Secret },
    /// Revokes a token.
    Revoke { ticket: Ticket, epoch: u32, token: u64, expires: Millis },
    /// Puts money in, or takes it out. `has_room`: the sum of all deposits stays in its bounds.
    /// `keys_max`: keys that the account may keep.
    AddFunds { ticket: Ticket, cred: Cred, value: Fen, has_room: bool, key: Option<Key>, keys_max: usize },
    /// Gives the balance.
    Balance { ticket: Ticket, cred: Cred },
    /// Gives the numbers of the stores it owns.
    Stores { ticket: Ticket, cred: Cred },
    /// First step of create_store.
    OpenStore { ticket: Ticket, cred: Cred, store: StoreNo, store_id: Box<str> },
    /// First step of a payment.
    Hold { order: OrderId, cred: Cred, kind: PayKind, seller: AccountNo, amount: Fen, key: Option<Key> },
    /// Second step of a direct payment and of its refund, first step of a confirmation or refund of escrow.
    Credit { order: OrderId, credit: Credit },
    /// First step of the refund of a direct payment.
    TakeBack { order: OrderId, refund: Refund },
    /// Last step of close_store: the account counts the store no more.
    StoreClosed { ticket: Ticket, store: StoreNo },
    /// Second step of unregister, after the coordinator found no open order.
    Close { ticket: Ticket, cred: Cred },
}

/// Messages to a store.
#[derive(Debug)]
pub enum StoreMsg {
    /// Second step of create_store.
    Create { ticket: Ticket, owner: AccountNo, store_id: Box<str> },
    /// Lists a book.
    AddBook { ticket: Ticket, user: AccountNo, book: NewBook, books_max: usize },
    /// Changes a stock level.
    AddStock { ticket: Ticket, user: AccountNo, book_id: Arc<str>, delta: i64 },
    /// Changes a price.
    SetPrice { ticket: Ticket, user: AccountNo, book_id: Arc<str>, price: Fen },
    /// Takes a book out of sale, or puts it back.
    SetListed { ticket: Ticket, user: AccountNo, book_id: Arc<str>, listed: bool },
    /// Gives a book as it is on the shelf, listed or not.
    Book { ticket: Ticket, book_id: Arc<str> },
    /// Gives the books at these places, which must exist.
    Shelf { ticket: Ticket, places: Vec<BookNo> },
    /// Gives a stock level.
    Stock { ticket: Ticket, book_id: Arc<str> },
    /// First step of new_order.
    Reserve { order: OrderId, buyer: AccountNo, lines: Vec<NewLine>, ttl: Millis, key: Option<Key> },
    /// First step of close_store.
    Close { ticket: Ticket, user: AccountNo },
    /// This shard has no open order of the store, as of when `placed` orders had taken copies there.
    NoneOpen { ticket: Ticket, shard: usize, placed: u64 },
    /// First step of a cancellation; a later one of a refund, which cannot be refused any more.
    Release { order: OrderId, release: Release, is_refund: bool },
}

/// Messages to a coordinator shard.
#[derive(Debug, Clone)]
pub enum OrderMsg {
    /// new_order.
    Place {
        ticket: Ticket,
        order: OrderId,
        buyer: AccountNo,
        store: StoreNo,
        lines: Vec<NewLine>,
        ttl: Millis,
        pending_max: usize,
        key: Option<Key>,
    },
    /// A command with a key that can only be refused, unless the key says otherwise; the credential is judged already.
    Refuse { ticket: Ticket, buyer: AccountNo, key: Key, refusal: Refusal },
    /// The store took the copies.
    Reserved { order: OrderId, facts: Facts },
    /// The store refused; without a refusal: it is closed.
    NotReserved { order: OrderId, buyer: AccountNo, refusal: Option<Refusal> },
    /// A payment. `user` is the account that the caller's user id names now.
    Pay { ticket: Ticket, order: OrderId, user: Option<AccountNo>, cred: Cred, kind: PayKind, key: Option<Key> },
    /// The buyer's account refused.
    NotHeld { order: OrderId, refusal: Refusal },
    /// The platform has the money.
    Held { order: OrderId, key: Option<Key> },
    /// The seller has the money, or the buyer has it again.
    Credited { order: OrderId, credit: Credit },
    /// confirm_receipt_and_pay_toseller.
    Confirm { ticket: Ticket, order: OrderId, user: Option<AccountNo>, cred: Cred, key: Option<Key> },
    /// An account refused a credit (only after a panic).
    NotCredited { order: OrderId, refusal: Refusal },
    /// ship, by the owner of `store`. If the platform has the money the order is confirmed by itself so long after.
    Ship { ticket: Ticket, order: OrderId, store: StoreNo, confirm_after: Option<Millis> },
    /// extend_receipt; the credential is judged already.
    ExtendReceipt { ticket: Ticket, order: OrderId, user: AccountNo },
    /// cancel_order; the credential is judged already. With a key the order is one of the user's shard.
    Cancel { ticket: Ticket, order: OrderId, user: AccountNo, key: Option<Key> },
    /// refund_order; as `Cancel`.
    Refund { ticket: Ticket, order: OrderId, user: AccountNo, key: Option<Key> },
    /// The seller's account refused to give the money back.
    NotTakenBack { order: OrderId, refusal: Refusal },
    /// The copies are back on the shelf.
    Released { order: OrderId, by: By, key: Option<Key> },
    /// The store refused a release (only after a panic).
    NotReleased { order: OrderId, refusal: Refusal },
    /// query_order_status.
    Status { ticket: Ticket, order: OrderId, user: AccountNo },
    /// query_order of the buyer, or of the seller.
    Look { ticket: Ticket, order: OrderId, user: AccountNo, is_seller: bool },
    /// Whose order is it? Judged before a password is hashed.
    Buyer { ticket: Ticket, order: OrderId },
    /// query_buyer_all_orders; more than `limit` orders are counted only.
    OfBuyer { ticket: Ticket, buyer: AccountNo, limit: usize },
    /// The shard's part of a store's orders.
    OfStore { ticket: Ticket, shard: usize, store: StoreNo, limit: usize },
    /// Has the shard an open order of this store? The store is told if not, its caller if so.
    OpenOfStore { ticket: Ticket, shard: usize, store: StoreNo, placed: u64 },
    /// As above, with the number of the store's open orders at rest; `None` if they could not be read.
    OpenOfStoreAtRest { ticket: Ticket, shard: usize, store: StoreNo, placed: u64, open: Option<u64> },
    /// check_order_count.
    Count { ticket: Ticket, buyer: AccountNo },
    /// unregister.
    Unregister { ticket: Ticket, buyer: AccountNo, cred: Cred },
    /// How many of the buyer's orders at rest are open; `None` if they could not be read.
    OpenAtRest { ticket: Ticket, buyer: AccountNo, cred: Cred, open: Option<u64> },
    /// The account is closed, or stays open.
    UnregisterEnded { ticket: Ticket, buyer: AccountNo, refusal: Option<Refusal> },
    /// An order that was asked for was taken into memory, unless it does not exist or could not be read.
    Loaded { order: OrderId, unreadable: bool },
    /// The order at rest that keeps a key, if there is one.
    KeyLookedUp { buyer: AccountNo, scope: Scope, found: Option<(OrderId, Kept)>, unreadable: bool },
    /// A deadline has come.
    Due,
    /// auto_cancel_expired_orders: answered when everything expired is canceled.
    Sweep { ticket: Ticket },
    /// Evidence that has collected is dropped now.
    Flush,
    /// An order that shall be confirmed by itself was taken into memory; `part` waits for that.
    Overdue { order: OrderId, part: u64 },
    /// A message that had to wait for what was due when it was asked, and is judged as of then.
    AsOf { asked: Millis, msg: Box<OrderMsg> },
    /// A saga that `part` waited for has ended.
    PartEnded { part: u64 },
}

impl OrderMsg {
    /// The idempotency key of a command.
    pub fn key(&self) -> Option<Key> {
        match self {
            OrderMsg::Place { key, .. }
            | OrderMsg::Pay { key, .. }
            | OrderMsg::Confirm { key, .. }
            | OrderMsg::Cancel { key, .. }
            | OrderMsg::Refund { key, .. } => *key,
            OrderMsg::Refuse { key, .. } => Some(*key),
            _ => None,
        }
    }

    /// The order whose saga this message closes or takes on, if it does: the order must be in memory for it.
    pub fn closes(&self) -> Option<OrderId> {
        match self {
            OrderMsg::Reserved { order, .. }
            | OrderMsg::Held { order, .. }
            | OrderMsg::Credited { order, .. }
            | OrderMsg::Released { order, .. } => Some(*order),
            _ => None,
        }
    }
}

/// To whom a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An account.
    Account(AccountNo),
    /// A store.
    Store(StoreNo),
}

/// A message on its way.
#[derive(Debug)]
pub enum Send {
    /// To an account.
    Account(AccountNo, AccountMsg),
    /// To a store.
    Store(StoreNo, StoreMsg),
    /// To the shard of an order.
    Order(usize, OrderMsg),
    /// Evidence to drop.
    Forget(Address, Vec<Evidence>),
}
