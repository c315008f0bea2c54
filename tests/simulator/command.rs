//! What callers ask for, and how it is said to the engine.

use std::sync::Arc;

use bookstore::internals::domain::{
    AccountMsg, AccountNo, Blob, Cred, DocumentHash, Key, NewBook, NewLine, Operation, OrderId, OrderMsg, PayKind,
    Secret, Send, StoreMsg, StoreNo, Ticket,
};

use crate::shadow::Act;

/// An unpaid order lives so long, in ms.
pub(crate) const TTL: u64 = 400;

/// An order that is shipped and that the platform was paid for is confirmed by itself after this time, in ms.
pub(crate) const CONFIRM_AFTER: u64 = 700;

/// User, operation and number of an idempotency key.
pub(crate) type KeyId = (u32, u8, u64);

const ORDERS_LISTED_MAX: usize = 1_000;

#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// The number is known when the name was claimed.
    Register {
        name: Arc<str>,
        secret: u64,
        number: Option<u32>,
    },
    Unregister {
        user: u32,
    },
    SetPassword {
        user: u32,
        secret: u64,
    },
    AddFunds {
        user: u32,
        value: i64,
        key: Option<u64>,
    },
    Balance {
        user: u32,
    },
    CreateStore {
        user: u32,
        store: u32,
        name: Arc<str>,
    },
    CloseStore {
        user: u32,
        store: u32,
    },
    AddBook {
        user: u32,
        store: u32,
        book: Arc<str>,
        price: i64,
        stock: i64,
    },
    AddStock {
        user: u32,
        store: u32,
        book: Arc<str>,
        delta: i64,
    },
    SetPrice {
        user: u32,
        store: u32,
        book: Arc<str>,
        price: i64,
    },
    SetListed {
        user: u32,
        store: u32,
        book: Arc<str>,
        listed: bool,
    },
    Level {
        store: u32,
        book: Arc<str>,
    },
    Browse {
        store: u32,
        book: Arc<str>,
    },
    Place {
        user: u32,
        store: u32,
        order: OrderId,
        lines: Vec<(Arc<str>, i64)>,
        key: Option<u64>,
    },
    Pay {
        user: u32,
        order: OrderId,
        kind: PayKind,
        key: Option<u64>,
    },
    Ship {
        user: u32,
        store: u32,
        order: OrderId,
    },
    Confirm {
        user: u32,
        order: OrderId,
        key: Option<u64>,
    },
    Cancel {
        user: u32,
        order: OrderId,
        key: Option<u64>,
    },
    Extend {
        user: u32,
        order: OrderId,
    },
    Refund {
        user: u32,
        order: OrderId,
        key: Option<u64>,
    },
    Status {
        user: u32,
        order: OrderId,
    },
    Look {
        user: u32,
        order: OrderId,
        is_seller: bool,
    },
    OfBuyer {
        user: u32,
    },
    OfStore {
        store: u32,
        shard: usize,
    },
    Count {
        user: u32,
    },
    Sweep {
        shard: usize,
    },
}

/// A password's hash, which nobody looks into.
pub(crate) fn secret(number: u64) -> Secret {
    Blob(number.to_le_bytes().into())
}

pub(crate) fn secret_number(secret: &Secret) -> u64 {
    secret.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Command {
    /// Who asks, where a password is asked for.
    pub(crate) fn user(&self) -> Option<u32> {
        match self {
            Command::Unregister { user }
            | Command::SetPassword { user, .. }
            | Command::AddFunds { user, .. }
            | Command::Balance { user }
            | Command::CreateStore { user, .. }
            | Command::CloseStore { user, .. }
            | Command::AddBook { user, .. }
            | Command::AddStock { user, .. }
            | Command::SetPrice { user, .. }
            | Command::SetListed { user, .. }
            | Command::Place { user, .. }
            | Command::Pay { user, .. }
            | Command::Ship { user, .. }
            | Command::Confirm { user, .. }
            | Command::Cancel { user, .. }
            | Command::Extend { user, .. }
            | Command::Refund { user, .. }
            | Command::Status { user, .. }
            | Command::Look { user, .. }
            | Command::OfBuyer { user } => Some(*user),
            Command::Register { .. }
            | Command::Level { .. }
            | Command::Browse { .. }
            | Command::OfStore { .. }
            | Command::Count { .. }
            | Command::Sweep { .. } => None,
        }
    }

    /// The store that it would change.
    pub(crate) fn store(&self) -> Option<u32> {
        match self {
            Command::CloseStore { store, .. }
            | Command::AddBook { store, .. }
            | Command::AddStock { store, .. }
            | Command::SetPrice { store, .. }
            | Command::SetListed { store, .. }
            | Command::Place { store, .. } => Some(*store),
            _ => None,
        }
    }

    /// What it does to an order.
    pub(crate) fn act(&self) -> Option<(OrderId, Act)> {
        match self {
            Command::Pay { order, kind: PayKind::Direct, .. } => Some((*order, Act::Direct)),
            Command::Pay { order, kind: PayKind::Platform, .. } => Some((*order, Act::Platform)),
            Command::Ship { order, .. } => Some((*order, Act::Ship)),
            Command::Confirm { order, .. } => Some((*order, Act::Confirm)),
            Command::Cancel { order, .. } => Some((*order, Act::Cancel)),
            Command::Extend { order, .. } => Some((*order, Act::Extend)),
            Command::Refund { order, .. } => Some((*order, Act::Refund)),
            _ => None,
        }
    }

    /// User, operation and number of its idempotency key, and the fields that it comes with.
    pub(crate) fn key_and_fields(&self) -> Option<(KeyId, String)> {
        let (user, operation, key, fields) = match self {
            Command::AddFunds { user, value, key } => (user, Operation::AddFunds, key, value.to_string()),
            Command::Place { user, store, lines, key, .. } => {
                (user, Operation::NewOrder, key, format!("{store} {lines:?}"))
            }
            Command::Pay { user, order, kind: PayKind::Direct, key } => {
                (user, Operation::Payment, key, order.to_string())
            }
            Command::Pay { user, order, kind: PayKind::Platform, key } => {
                (user, Operation::PayToPlatform, key, order.to_string())
            }
            Command::Confirm { user, order, key } => (user, Operation::Confirm, key, order.to_string()),
            Command::Cancel { user, order, key } => (user, Operation::CancelOrder, key, order.to_string()),
            Command::Refund { user, order, key } => (user, Operation::RefundOrder, key, order.to_string()),
            _ => return None,
        };
        Some(((*user, operation as u8, (*key)?), fields))
    }

    fn key(&self) -> Option<Key> {
        let ((_, operation, number), fields) = self.key_and_fields()?;
        let operation = match operation {
            1 => Operation::NewOrder,
            2 => Operation::Payment,
            3 => Operation::PayToPlatform,
            4 => Operation::Confirm,
            5 => Operation::AddFunds,
            6 => Operation::CancelOrder,
            _ => Operation::RefundOrder,
        };
        Some(Key::new(operation, &number.to_string(), [fields.as_bytes()]))
    }

    /// The order that it is about.
    pub(crate) fn order(&self) -> Option<OrderId> {
        match self {
            Command::Status { order, .. } | Command::Look { order, .. } => Some(*order),
            other => other.act().map(|(order, _)| order),
        }
    }

    /// The message that carries it. Those whose credential is judged at the door come here only with a good one.
    pub(crate) fn message(&self, ticket: Ticket, cred: Cred) -> Send {
        let account = |user: &u32, msg| Send::Account(AccountNo(*user), msg);
        let store_of = |store: &u32, msg| Send::Store(StoreNo(*store), msg);
        let limit = ORDERS_LISTED_MAX;
        match self {
            Command::Register { .. } => unreachable!("it is no message"),
            Command::Unregister { user } => {
                let buyer = AccountNo(*user);
                Send::Order(buyer.shard(), OrderMsg::Unregister { ticket, buyer, cred })
            }
            Command::SetPassword { user, secret: number } => {
                account(user, AccountMsg::SetPassword { ticket, cred, secret: secret(*number) })
            }
            Command::AddFunds { user, value, .. } => account(
                user,
                AccountMsg::AddFunds { ticket, cred, value: *value, has_room: true, key: self.key(), keys_max: 10_000 },
            ),
            Command::Balance { user } => account(user, AccountMsg::Balance { ticket, cred }),
            Command::CreateStore { user, store, name } => {
                let store_id = (**name).into();
                account(user, AccountMsg::OpenStore { ticket, cred, store: StoreNo(*store), store_id })
            }
            Command::CloseStore { user, store } => store_of(store, StoreMsg::Close { ticket, user: AccountNo(*user) }),
            Command::AddBook { user, store, book, price, stock } => {
                let document = DocumentHash::of(book.as_bytes());
                let book = NewBook { id: book.clone(), price: *price, stock: *stock, document };
                store_of(store, StoreMsg::AddBook { ticket, user: AccountNo(*user), book, books_max: 100 })
            }
            Command::AddStock { user, store, book, delta } => {
                let (user, book_id) = (AccountNo(*user), book.clone());
                store_of(store, StoreMsg::AddStock { ticket, user, book_id, delta: *delta })
            }
            Command::SetPrice { user, store, book, price } => {
                let (user, book_id) = (AccountNo(*user), book.clone());
                store_of(store, StoreMsg::SetPrice { ticket, user, book_id, price: *price })
            }
            Command::SetListed { user, store, book, listed } => {
                let (user, book_id) = (AccountNo(*user), book.clone());
                store_of(store, StoreMsg::SetListed { ticket, user, book_id, listed: *listed })
            }
            Command::Browse { store, book } => store_of(store, StoreMsg::Book { ticket, book_id: book.clone() }),
            Command::Level { store, book } => store_of(store, StoreMsg::Stock { ticket, book_id: book.clone() }),
            Command::Place { user, store, order, lines, .. } => {
                let line = |(book, count): &(Arc<str>, i64)| NewLine { book_id: book.clone(), count: *count };
                let place = OrderMsg::Place {
                    ticket,
                    order: *order,
                    buyer: AccountNo(*user),
                    store: StoreNo(*store),
                    lines: lines.iter().map(line).collect(),
                    ttl: TTL,
                    pending_max: 30,
                    key: self.key(),
                };
                Send::Order(order.shard(), place)
            }
            Command::Pay { user, order, kind, .. } => {
                let (user, order, kind) = (Some(AccountNo(*user)), *order, *kind);
                Send::Order(order.shard(), OrderMsg::Pay { ticket, order, user, cred, kind, key: self.key() })
            }
            Command::Ship { store, order, .. } => {
                let (order, store) = (*order, StoreNo(*store));
                let confirm_after = Some(CONFIRM_AFTER);
                Send::Order(order.shard(), OrderMsg::Ship { ticket, order, store, confirm_after })
            }
            Command::Confirm { user, order, .. } => {
                let (user, order) = (Some(AccountNo(*user)), *order);
                Send::Order(order.shard(), OrderMsg::Confirm { ticket, order, user, cred, key: self.key() })
            }
            Command::Cancel { user, order, .. } => {
                let (user, order) = (AccountNo(*user), *order);
                Send::Order(order.shard(), OrderMsg::Cancel { ticket, order, user, key: self.key() })
            }
            Command::Refund { user, order, .. } => {
                let (user, order) = (AccountNo(*user), *order);
                Send::Order(order.shard(), OrderMsg::Refund { ticket, order, user, key: self.key() })
            }
            Command::Status { user, order } => {
                let (user, order) = (AccountNo(*user), *order);
                Send::Order(order.shard(), OrderMsg::Status { ticket, order, user })
            }
            Command::Extend { user, order } => {
                let (user, order) = (AccountNo(*user), *order);
                Send::Order(order.shard(), OrderMsg::ExtendReceipt { ticket, order, user })
            }
            Command::Look { user, order, is_seller } => {
                let (user, order, is_seller) = (AccountNo(*user), *order, *is_seller);
                Send::Order(order.shard(), OrderMsg::Look { ticket, order, user, is_seller })
            }
            Command::OfBuyer { user } => {
                let buyer = AccountNo(*user);
                Send::Order(buyer.shard(), OrderMsg::OfBuyer { ticket, buyer, limit })
            }
            Command::OfStore { store, shard } => {
                let (shard, store) = (*shard, StoreNo(*store));
                Send::Order(shard, OrderMsg::OfStore { ticket, shard, store, limit })
            }
            Command::Count { user } => {
                let buyer = AccountNo(*user);
                Send::Order(buyer.shard(), OrderMsg::Count { ticket, buyer })
            }
            Command::Sweep { shard } => Send::Order(*shard, OrderMsg::Sweep { ticket }),
        }
    }
}
