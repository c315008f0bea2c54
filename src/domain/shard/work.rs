//! What a shard keeps between messages and may lose in a crash.

use std::collections::{BTreeMap, HashMap};

use super::super::effect::{Effect, Effects, Outcome};
use super::super::event::Evidence;
use super::super::hash::{NumberMap, NumberSet};
use super::super::ids::{AccountNo, Millis, OrderId, Ticket};
use super::super::key::Scope;
use super::super::message::{Address, OrderMsg, Send};
use super::OrderShard;
use crate::planted::{Fault, planted};

/// Evidence for one entity that is collected before it is told to drop it: a message per order would cost a wake-up.
const EVIDENCE_AT_ONCE: usize = 8;

/// What a shard keeps between messages: sagas in flight and who waits for them.
#[derive(Debug, Default)]
pub struct Work {
    pub(super) sagas: NumberMap<OrderId, Saga>,
    pub(super) placing: NumberMap<AccountNo, usize>,
    /// Buyers who are being unregistered, with the orders (and second unregistrations) that wait for the outcome.
    pub(super) closing: NumberMap<AccountNo, Vec<OrderMsg>>,
    /// Buyers who were unregistered since the start; a late order of theirs is refused.
    pub(super) closed: NumberSet<AccountNo>,
    /// Messages that wait for several sagas, with the number of those.
    pub(super) parts: NumberMap<u64, (OrderMsg, usize)>,
    pub(super) next_part: u64,
    /// Sorted, so that it is dropped in an order that can be repeated.
    pub(super) settled: BTreeMap<Address, Vec<Evidence>>,
    /// Orders that could not be canceled or confirmed by themselves, and when that is tried again.
    pub(super) paused: BTreeMap<OrderId, Millis>,
    /// A `Due` waits for what is due; another one would find no more.
    pub(super) sweeping: bool,
    /// Who waits for that: lists, and the like.
    pub(super) behind: Vec<OrderMsg>,
    /// All up to here that are to be confirmed by themselves are paused.
    pub(super) skipped: Option<(Millis, OrderId)>,
    /// Orders that are being brought into memory, with the commands that wait for them.
    pub(super) loading: HashMap<OrderId, Vec<OrderMsg>>,
    /// Idempotency keys whose command is in flight, or that are looked up on disk, with the commands that wait.
    pub(super) keys: HashMap<(AccountNo, Scope), Vec<OrderMsg>>,
    /// The key that was looked up on disk for the message that is being handled, and is not there.
    pub(super) not_at_rest: Option<(AccountNo, Scope)>,
}

#[derive(Debug)]
pub(super) struct Saga {
    ticket: Ticket,
    key: Option<(AccountNo, Scope)>,
    pub(super) waiting: Vec<OrderMsg>,
}

impl Work {
    /// No saga in flight, nobody waits.
    pub fn is_quiet(&self) -> bool {
        self.sagas.is_empty()
            && self.closing.is_empty()
            && self.parts.is_empty()
            && self.behind.is_empty()
            && self.loading.is_empty()
            && self.keys.is_empty()
    }

    /// A saga begins. Its key, which nobody else may have in flight, is taken until it ends.
    pub(super) fn begin(&mut self, order: OrderId, ticket: Ticket, key: Option<(AccountNo, Scope)>) {
        if let Some(key) = key {
            self.keys.entry(key).or_default();
        }
        self.sagas.insert(order, Saga { ticket, key, waiting: Vec::new() });
    }

    /// Whether the order's saga began by itself, for nobody.
    pub(super) fn is_for_nobody(&self, order: OrderId) -> bool {
        self.sagas.get(&order).is_some_and(|saga| saga.ticket == Ticket::NOBODY)
    }

    /// Ends a saga: answers its caller and lets those who waited go on.
    pub(super) fn end(&mut self, order: OrderId, outcome: Outcome, fx: &mut Effects<OrderShard>) {
        // Recovery closes sagas that nobody began in this process.
        let Some(saga) = self.sagas.remove(&order) else {
            return;
        };
        fx.push(Effect::Reply(saga.ticket, outcome));
        let same_key = saga.key.and_then(|key| self.keys.remove(&key)).unwrap_or_default();
        fx.extend(saga.waiting.into_iter().chain(same_key).map(Effect::Again));
    }

    pub(super) fn settle(&mut self, address: Address, evidence: Evidence, fx: &mut Effects<OrderShard>) {
        if planted(Fault::EvidenceKept) {
            return;
        }
        let collected = self.settled.entry(address).or_default();
        collected.push(evidence);
        if collected.len() >= EVIDENCE_AT_ONCE {
            fx.push(Effect::Send(Send::Forget(address, std::mem::take(collected))));
            self.settled.remove(&address);
        }
    }

    pub(super) fn flush(&mut self, fx: &mut Effects<OrderShard>) {
        let settled = std::mem::take(&mut self.settled).into_iter();
        fx.extend(settled.map(|(address, evidence)| Effect::Send(Send::Forget(address, evidence))));
    }

    pub(super) fn placed(&mut self, buyer: AccountNo) {
        if let Some(count) = self.placing.get_mut(&buyer) {
            *count -= 1;
            if *count == 0 {
                self.placing.remove(&buyer);
            }
        }
    }
}
