//! Messages on their way. The order of two messages is kept only between the same two ends, as in a mailbox; whatever
//! else may overtake.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use bookstore::internals::domain::{AccountMsg, Address, Evidence, Leaving, Order, OrderId, OrderMsg, Send, StoreMsg};
use bookstore::internals::engine::Named;

use crate::dice::{Dice, mix};

/// Who sends and who is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum End {
    Account(u32),
    Store(u32),
    Shard(usize),
    /// The calls.
    Door,
    /// Deadlines, and evidence to drop.
    Timer,
    /// The walk of a snapshot.
    Walk,
    /// A round of orders that leave memory.
    Round,
    /// Who reads orders at rest.
    Reader,
}

#[derive(Debug)]
pub(crate) enum Mail {
    Account(AccountMsg),
    Store(StoreMsg),
    Order(OrderMsg),
    Forget(Vec<Evidence>),
    /// An order that was at rest, and what follows.
    Loaded(OrderId, Option<Order>, OrderMsg),
    /// The row for a snapshot.
    Row,
    Ids,
    Orders(Vec<OrderId>),
    Name(Leaving),
    Show(Named),
    Leave(Named, Written),
}

/// Orders whose rows are on disk. Shown by their number: they have no order.
pub(crate) struct Written(pub(crate) Arc<HashSet<OrderId>>);

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} written", self.0.len())
    }
}

/// All mailboxes, by receiver and sender.
#[derive(Debug, Default)]
pub(crate) struct Post {
    queues: BTreeMap<(End, End), VecDeque<Mail>>,
}

impl Post {
    pub(crate) fn put(&mut self, from: End, to: End, mail: Mail) {
        self.queues.entry((to, from)).or_default().push_back(mail);
    }

    pub(crate) fn send(&mut self, from: End, send: Send) {
        match send {
            Send::Account(account, msg) => self.put(from, End::Account(account.0), Mail::Account(msg)),
            Send::Store(store, msg) => self.put(from, End::Store(store.0), Mail::Store(msg)),
            Send::Order(shard, msg) => self.put(from, End::Shard(shard), Mail::Order(msg)),
            Send::Forget(Address::Account(account), evidence) => {
                self.put(from, End::Account(account.0), Mail::Forget(evidence));
            }
            Send::Forget(Address::Store(store), evidence) => {
                self.put(from, End::Store(store.0), Mail::Forget(evidence));
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Takes the next message of any pair. `era` changes now and then; during each, some pairs are slow.
    pub(crate) fn take(&mut self, dice: &mut Dice, era: u64) -> Option<(End, End, Mail)> {
        if self.queues.is_empty() {
            return None;
        }
        let mut key = None;
        for _ in 0..4 {
            let index = dice.index(self.queues.len());
            let (to, from) = *self.queues.keys().nth(index)?;
            key = Some((to, from));
            if !is_slow(to, from, era) {
                break;
            }
        }
        let key = key?;
        let queue = self.queues.get_mut(&key)?;
        let mail = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&key);
        }
        Some((key.1, key.0, mail))
    }
}

fn is_slow(to: End, from: End, era: u64) -> bool {
    let number = |end: End| match end {
        End::Account(number) => 1_000 + u64::from(number),
        End::Store(number) => 2_000 + u64::from(number),
        End::Shard(number) => 3_000 + number as u64,
        End::Door => 1,
        End::Timer => 2,
        End::Walk => 3,
        End::Round => 4,
        End::Reader => 5,
    };
    mix(era ^ number(to) << 32 ^ number(from)).is_multiple_of(3)
}
