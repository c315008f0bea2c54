//! What `handle` asks for. Whoever runs an entity interprets these, in their order, and knows nothing else of it.

use std::sync::Arc;

use super::event::{DocumentHash, Secret};
use super::ids::{AccountNo, Fen, Millis, OrderId, StoreNo, Ticket};
use super::key::Scope;
use super::message::{Cred, OrderMsg, Send};
use super::order::{Order, OrderStatus};
use super::refusal::Refusal;

/// An answer.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// 200.
    Done,
    /// Done before, under the same idempotency key. Nothing was done now.
    Kept,
    /// A business refusal.
    Refused(Refusal),
    /// Too much of something in too short a time.
    Throttled(&'static str),
    /// A list is longer than allowed.
    TooMany,
    /// A password's hash and its epoch.
    Secret(Secret, u32),
    /// A balance.
    Balance(Fen),
    /// A stock level.
    Level(i64),
    /// A book.
    Book(Shelved),
    /// The book of each place that was asked for.
    Shelf(Vec<Shelved>),
    /// A number of orders.
    Count(usize),
    /// A new order.
    Placed(OrderId),
    /// Where an order stands.
    Status(OrderStatus),
    /// A whole order.
    Order(Box<Order>),
    /// Who placed an order.
    Buyer(AccountNo),
    /// Orders, in no order.
    Orders(Vec<(OrderId, Order)>),
    /// Stores of an owner.
    Stores(Vec<StoreNo>),
    /// The order belongs to this account, which is not the caller's.
    NotYours(AccountNo),
    /// The account is closed.
    AccountGone,
    /// The store is closed. Its id, which only the door knows, belongs into the answer.
    StoreClosed,
    /// An order at rest could not be read. Nothing was done.
    Unreadable,
    /// Too many wait for the outcome of one idempotency key. Nothing was done.
    Crowded,
    /// The journal failed; it may have been done.
    Unknown,
}

/// What a store says of a book on its shelf.
#[derive(Debug, Clone)]
pub struct Shelved {
    /// Its id.
    pub id: Arc<str>,
    /// Content hash of its document.
    pub document: DocumentHash,
    /// Copies on the shelf.
    pub stock: i64,
    /// Price of a copy now, in fen.
    pub price: Fen,
    /// Whether the price in its document is an old one.
    pub repriced: bool,
    /// Whether it is for sale.
    pub listed: bool,
}

/// Whose orders: the two lists that an order is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrdersOf {
    /// All orders of a buyer.
    Buyer(AccountNo),
    /// The orders of a store that are in one coordinator shard.
    Store(StoreNo, usize),
}

/// A question about orders that rest on disk. Its answer is as of the moment when the effect takes place.
#[derive(Debug)]
pub enum Resting {
    /// Take the order into memory; [`OrderMsg::Loaded`] follows.
    Load(OrderId),
    /// The same, for nobody: its time to be confirmed by itself has come.
    LoadOverdue(OrderId),
    /// Answer with the given orders, which are in memory, and all others at rest; more than `limit` are counted only.
    List { ticket: Ticket, of: OrdersOf, limit: usize, orders: Vec<(OrderId, Order)> },
    /// Answer with the number of the buyer's orders: `in_memory` ones, of which the given ones may be on disk as well,
    /// and all others at rest.
    Count { ticket: Ticket, buyer: AccountNo, in_memory: usize, orders: Vec<OrderId> },
    /// Which order keeps this key of the buyer, if it does at `now`? [`OrderMsg::KeyLookedUp`] follows.
    Key { buyer: AccountNo, scope: Scope, now: Millis },
    /// How many open orders of the buyer are on disk, but for the given ones? [`OrderMsg::OpenAtRest`] follows.
    Open { ticket: Ticket, buyer: AccountNo, cred: Cred, orders: Vec<OrderId> },
    /// How many open orders of the store are on disk, in this shard's part, but for the given ones?
    /// [`OrderMsg::OpenOfStoreAtRest`] follows.
    OpenOfStore { ticket: Ticket, shard: usize, store: StoreNo, placed: u64, orders: Vec<OrderId> },
}

/// One effect.
#[derive(Debug)]
pub enum Effect<M, E> {
    /// Journal the event, then apply it.
    Append(E),
    /// Deliver the message. What it says was journaled before.
    Send(Send),
    /// Answer the caller, once the journal is durable up to its head of now.
    Reply(Ticket, Outcome),
    /// Send `Due` at this time.
    Deadline(Millis),
    /// Something about orders at rest. Only a coordinator shard asks.
    Resting(Resting),
    /// Handle this message of one's own next, after the effects before it took place.
    Again(M),
}

/// Effects in the order in which they take place.
pub type Effects<E> = Vec<Effect<<E as Entity>::Msg, <E as Entity>::Event>>;

/// One thing whose changes are serialised.
pub trait Entity: Sized + std::marker::Send + 'static {
    /// What it is told.
    type Msg: std::marker::Send + std::fmt::Debug + 'static;
    /// What happens to it.
    type Event: std::marker::Send + 'static;
    /// What it keeps between messages and may lose in a crash: callers in flight, queues.
    type Work: Default + std::marker::Send + 'static;

    /// Judges a message. Nothing changes but `work`; what shall change or be told is an effect.
    fn handle(&self, work: &mut Self::Work, msg: Self::Msg, now: Millis, fx: &mut Effects<Self>);

    /// Takes in an event that was journaled at engine time `at`. Total: an event that was journaled always applies.
    fn apply(&mut self, event: &Self::Event, at: Millis);

    /// Drops evidence whose saga is closed. Not an event: replay drops it by itself.
    fn forget(&mut self, evidence: &[super::event::Evidence]);

    /// Who is told when `handle` panics on `msg`.
    fn on_panic(msg: &Self::Msg) -> OnPanic;
}

/// What follows a panic in `handle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPanic {
    /// A later step of a saga, which only goes forward: the engine must stop.
    Stop,
    /// The first step: the caller is told 530.
    Reply(Ticket),
    /// The first step of new_order: the coordinator is told 530.
    NotReserved(OrderId, AccountNo),
    /// The first step of a payment: the coordinator is told 530.
    NotHeld(OrderId),
    /// The first step of a confirmation, or of a refund by the platform: the coordinator is told 530.
    NotCredited(OrderId),
    /// The first step of a cancellation: the coordinator is told 530.
    NotReleased(OrderId),
    /// The first step of a refund by the seller: the coordinator is told 530.
    NotTakenBack(OrderId),
}

impl OnPanic {
    /// The one effect that answers, or `None` if the engine must stop.
    pub fn effect<M, E>(self) -> Option<Effect<M, E>> {
        let refusal = Refusal::invalid("request", "the engine failed on it, nothing was done");
        let (order, msg) = match self {
            OnPanic::Stop => return None,
            OnPanic::Reply(ticket) => {
                return Some(Effect::Reply(ticket, Outcome::Refused(refusal)));
            }
            OnPanic::NotReserved(order, buyer) => {
                (order, OrderMsg::NotReserved { order, buyer, refusal: Some(refusal) })
            }
            OnPanic::NotHeld(order) => (order, OrderMsg::NotHeld { order, refusal }),
            OnPanic::NotCredited(order) => (order, OrderMsg::NotCredited { order, refusal }),
            OnPanic::NotReleased(order) => (order, OrderMsg::NotReleased { order, refusal }),
            OnPanic::NotTakenBack(order) => (order, OrderMsg::NotTakenBack { order, refusal }),
        };
        Some(Effect::Send(Send::Order(order.shard(), msg)))
    }
}
