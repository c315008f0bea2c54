//! Idempotency keys of commands on orders. All orders of a buyer are in one shard, so its shard knows all his keys but
//! those of his deposits: those of orders in memory by an index, those of orders at rest by a look at the disk, and
//! those whose command is in flight.

use std::collections::HashSet;

use super::super::effect::{Effect, Effects, Entity, Outcome, Resting};
use super::super::ids::{AccountNo, Millis, OrderId};
use super::super::key::{Kept, Key, Scope, is_alive};
use super::super::message::OrderMsg;
use super::super::refusal::Refusal;
use super::resting::caller;
use super::{OrderShard, Work, refused};

/// Commands that wait for the outcome of one key at once. They are all judged anew after a refusal, so this bounds what
/// one refusal may cost.
const WAITING_MAX: usize = 64;
use crate::planted::{Fault, planted};

/// Keys at rest of one shard that are remembered one by one.
const REMEMBERED_MAX: usize = 1 << 19;

/// Which keys an order on disk may keep: a look at the disk for each new key would cost more than the command.
#[derive(Debug, Default)]
pub(super) struct KeysAtRest {
    /// Hashes of those that were written by this process.
    written: HashSet<u64>,
    /// The newest of them.
    newest: Option<Millis>,
    /// There are others, and this is the time of the newest one.
    others: Option<Millis>,
}

impl KeysAtRest {
    fn hash((buyer, scope): (AccountNo, Scope)) -> u64 {
        let half = u64::from_le_bytes(std::array::from_fn(|index| scope.0[index]));
        half ^ u64::from(buyer.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// An order with this key is going to be written.
    pub(super) fn add(&mut self, buyer: AccountNo, kept: &Kept) {
        if self.written.len() >= REMEMBERED_MAX {
            self.others = self.others.max(self.newest);
            self.written = HashSet::new();
        }
        self.written.insert(Self::hash((buyer, kept.key.scope())));
        self.newest = self.newest.max(Some(kept.at));
    }

    /// Somebody else has written some, the newest one at this time.
    pub(super) fn unknown_until(&mut self, newest: Option<Millis>) {
        self.others = self.others.max(newest);
    }

    /// Whether the disk has to be asked.
    fn may_have(&self, scope: (AccountNo, Scope), now: Millis) -> bool {
        let alive = |newest: Option<Millis>| newest.is_some_and(|at| is_alive(at, now));
        alive(self.others) || (alive(self.newest) && self.written.contains(&Self::hash(scope)))
    }
}

impl OrderShard {
    /// Judges the key of a command whose credential is good. True: the command is new, go on. Else it is answered as
    /// its success was, or refused, or waits: for the command in flight with this key, or for the disk.
    pub(super) fn judge_key(
        &self,
        work: &mut Work,
        buyer: AccountNo,
        key: Option<Key>,
        msg: &OrderMsg,
        now: Millis,
        fx: &mut Effects<Self>,
    ) -> bool {
        let Some(key) = key else { return true };
        let scope = (buyer, key.scope());
        if let Some((id, kept)) = self.kept(scope, now) {
            answer(msg, &key, id, &kept, fx);
            return false;
        }
        if let Some(waiting) = work.keys.get_mut(&scope)
            && !planted(Fault::KeyInFlightIgnored)
        {
            match waiting.len() {
                WAITING_MAX.. => fx.push(Effect::Reply(caller(msg), Outcome::Crowded)),
                _ => waiting.push(msg.clone()),
            }
            return false;
        }
        if !self.keys_at_rest.may_have(scope, now)
            || work.not_at_rest == Some(scope)
            || planted(Fault::KeyAtRestIgnored)
        {
            return true;
        }
        work.keys.insert(scope, vec![msg.clone()]);
        fx.push(Effect::Resting(Resting::Key { buyer, scope: scope.1, now }));
        false
    }

    /// The order in memory that keeps a key whose time is not over.
    fn kept(&self, scope: (AccountNo, Scope), now: Millis) -> Option<(OrderId, Kept)> {
        let (id, _) = self.keys.get(&scope)?;
        let kept = self.orders.get(id)?.kept(scope.1).copied()?;
        kept.is_alive(now).then_some((*id, kept))
    }

    /// The disk was looked at. What it keeps is the answer to all who wait; without it the first one goes on.
    pub(super) fn key_looked_up(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::KeyLookedUp { buyer, scope, found, unreadable } = msg else {
            return;
        };
        let waiting = work.keys.remove(&(buyer, scope)).unwrap_or_default();
        if unreadable {
            return fx.extend(waiting.iter().map(|msg| Effect::Reply(caller(msg), Outcome::Unreadable)));
        }
        if let Some((id, kept)) = found.filter(|(_, kept)| kept.is_alive(now)) {
            for msg in &waiting {
                if let Some(key) = msg.key() {
                    answer(msg, &key, id, &kept, fx);
                }
            }
            return;
        }
        // The first is judged here and now, as nothing can have come to rest since the look. The others see what
        // becomes of it.
        let mut waiting = waiting.into_iter();
        if let Some(first) = waiting.next() {
            work.not_at_rest = Some((buyer, scope));
            self.handle(work, first, now, fx);
            work.not_at_rest = None;
        }
        fx.extend(waiting.map(Effect::Again));
    }
}

/// Answers a command with a key that is kept.
fn answer(msg: &OrderMsg, key: &Key, id: OrderId, kept: &Kept, fx: &mut Effects<OrderShard>) {
    let ticket = caller(msg);
    fx.push(match (kept.key.has_fields_of(key), msg) {
        (false, _) => refused(ticket, Refusal::KeyReused),
        (true, OrderMsg::Place { .. }) => Effect::Reply(ticket, Outcome::Placed(id)),
        // It was refused before, or would be: what succeeded had other fields.
        (true, OrderMsg::Refuse { .. }) => refused(ticket, Refusal::KeyReused),
        (true, _) => Effect::Reply(ticket, Outcome::Kept),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Facts, OrderEvent, PayKind};
    use crate::domain::ids::{StoreNo, Ticket};
    use crate::domain::key::{KEPT_FOR, Operation};
    use crate::domain::message::Cred;
    use crate::domain::order::Order;

    const BUYER: AccountNo = AccountNo(1);

    fn id(number: u64) -> OrderId {
        OrderId::new(number << 20, BUYER, number)
    }

    fn key(text: &str, fields: &[u8]) -> Key {
        Key::new(Operation::Payment, text, [fields])
    }

    fn facts() -> Facts {
        let (seller, store, lines) = (AccountNo(2), StoreNo(1), Box::default());
        Facts { buyer: BUYER, seller, store, lines, total: 5, created: 0, deadline: u64::MAX, key: None }
    }

    /// A shard with pending orders of these numbers.
    fn shard(numbers: std::ops::Range<u64>) -> OrderShard {
        let mut shard = OrderShard::default();
        for number in numbers {
            shard.apply(&(id(number), OrderEvent::Placed(facts())), 0);
        }
        shard
    }

    fn pay(ticket: u64, number: u64, key: Key) -> OrderMsg {
        let (user, cred, kind) = (Some(BUYER), Cred::Trusted, PayKind::Platform);
        OrderMsg::Pay { ticket: Ticket(ticket), order: id(number), user, cred, kind, key: Some(key) }
    }

    fn paid(key: Key) -> OrderEvent {
        OrderEvent::Paid { kind: PayKind::Platform, key: Some(key) }
    }

    /// What comes of a message, in short.
    fn told(shard: &OrderShard, work: &mut Work, msg: OrderMsg, now: Millis) -> Vec<String> {
        let mut fx = Effects::<OrderShard>::new();
        shard.handle(work, msg, now, &mut fx);
        let tell = |effect| match effect {
            Effect::Append(_) => "append".to_owned(),
            Effect::Send(_) => "send".to_owned(),
            Effect::Reply(Ticket(ticket), Outcome::Refused(refusal)) => format!("{ticket}: {}", refusal.code()),
            Effect::Reply(Ticket(ticket), outcome) => format!("{ticket}: {outcome:?}"),
            Effect::Resting(Resting::Key { .. }) => "look".to_owned(),
            Effect::Again(_) => "again".to_owned(),
            other => format!("{other:?}"),
        };
        fx.into_iter().map(tell).collect()
    }

    #[test]
    fn a_success_is_kept_for_a_day_of_event_time() {
        let (mut shard, mut work) = (shard(0..2), Work::default());
        shard.apply(&(id(0), paid(key("k", b"0"))), 1_000);
        let mut ask = |msg, now| told(&shard, &mut work, msg, now);
        assert_eq!(ask(pay(1, 0, key("k", b"0")), 1_000), ["1: Kept"]);
        assert_eq!(ask(pay(1, 1, key("k", b"1")), 999 + KEPT_FOR), ["1: 422"]);
        // Its time is over: it is a new key.
        assert_eq!(ask(pay(1, 0, key("k", b"0")), 1_000 + KEPT_FOR), ["1: 527"]);
        assert_eq!(ask(pay(1, 1, key("k", b"1")), 1_000 + KEPT_FOR), ["send"]);
    }

    #[test]
    fn a_key_in_flight_holds_others_back_whatever_their_order() {
        let (mut shard, mut work) = (shard(0..2), Work::default());
        assert_eq!(told(&shard, &mut work, pay(1, 0, key("k", b"0")), 0), ["send"]);
        assert_eq!(told(&shard, &mut work, pay(2, 1, key("k", b"1")), 0), Vec::<String>::new());
        assert_eq!(told(&shard, &mut work, pay(3, 1, key("l", b"1")), 0), ["send"]);
        let held = OrderMsg::Held { order: id(0), key: Some(key("k", b"0")) };
        assert_eq!(told(&shard, &mut work, held, 0), ["append", "1: Done", "again"]);
        shard.apply(&(id(0), paid(key("k", b"0"))), 0);
        // What was held back finds a key that was used, though its order is busy now: it waits for that first.
        assert_eq!(told(&shard, &mut work, pay(2, 1, key("k", b"1")), 0), Vec::<String>::new());
        let held = OrderMsg::Held { order: id(1), key: Some(key("l", b"1")) };
        assert_eq!(told(&shard, &mut work, held, 0), ["append", "3: Done", "again"]);
        shard.apply(&(id(1), paid(key("l", b"1"))), 0);
        assert_eq!(told(&shard, &mut work, pay(2, 1, key("k", b"1")), 0), ["2: 422"]);
        assert!(work.is_quiet());
    }

    #[test]
    fn a_refusal_frees_its_key() {
        let (shard, mut work) = (shard(0..1), Work::default());
        assert_eq!(told(&shard, &mut work, pay(1, 0, key("k", b"0")), 0), ["send"]);
        assert_eq!(told(&shard, &mut work, pay(2, 0, key("k", b"0")), 0), Vec::<String>::new());
        let refusal = Refusal::InsufficientFunds(id(0).to_string());
        let not_held = OrderMsg::NotHeld { order: id(0), refusal };
        assert_eq!(told(&shard, &mut work, not_held, 0), ["1: 519", "again"]);
        assert_eq!(told(&shard, &mut work, pay(2, 0, key("k", b"0")), 0), ["send"]);
    }

    /// Orders on disk keep keys, too: the disk is asked once for all who wait.
    #[test]
    fn what_is_not_in_memory_is_looked_up() {
        let (mut shard, mut work) = (shard(0..3), Work::default());
        shard.all_may_be_on_disk(Some(9));
        let looked_up = |found, unreadable| {
            let scope = key("k", b"").scope();
            OrderMsg::KeyLookedUp { buyer: BUYER, scope, found, unreadable }
        };
        let first_two = |shard: &OrderShard, work: &mut Work| {
            assert_eq!(told(shard, work, pay(1, 0, key("k", b"0")), 9), ["look"]);
            assert_eq!(told(shard, work, pay(2, 1, key("k", b"1")), 9), Vec::<String>::new());
            assert!(!work.is_quiet());
        };
        first_two(&shard, &mut work);
        let kept = Kept { key: key("k", b"0"), at: 5 };
        assert_eq!(told(&shard, &mut work, looked_up(Some((id(7), kept)), false), 9), ["1: Kept", "2: 422"]);
        first_two(&shard, &mut work);
        assert_eq!(told(&shard, &mut work, looked_up(None, true), 9), ["1: Unreadable", "2: Unreadable"]);
        assert!(work.is_quiet());
        // Nothing there, or its time is over: the first goes on, the other waits for it.
        for found in [None, Some((id(7), kept))] {
            first_two(&shard, &mut work);
            let now = if found.is_some() { 5 + KEPT_FOR } else { 9 };
            assert_eq!(told(&shard, &mut work, looked_up(found, false), now), ["send", "again"]);
            assert_eq!(told(&shard, &mut work, pay(2, 1, key("k", b"1")), now), Vec::<String>::new());
            let refusal = Refusal::InsufficientFunds(String::new());
            told(&shard, &mut work, OrderMsg::NotHeld { order: id(0), refusal }, now);
            // Each who asks anew looks anew: the one before may have left something.
            assert_eq!(told(&shard, &mut work, pay(3, 2, key("k", b"2")), now), ["look"]);
            told(&shard, &mut work, looked_up(None, true), now);
        }
        // What is in memory needs no look.
        shard.apply(&(id(2), paid(key("k", b"2"))), 9);
        assert_eq!(told(&shard, &mut work, pay(3, 2, key("k", b"2")), 9), ["3: Kept"]);
    }

    #[test]
    fn only_so_many_wait_for_one_key() {
        let (shard, mut work) = (shard(0..1), Work::default());
        assert_eq!(told(&shard, &mut work, pay(1, 0, key("k", b"0")), 0), ["send"]);
        // They wait for the key, not for the order.
        let refuse = |ticket| OrderMsg::Refuse {
            ticket: Ticket(ticket),
            buyer: BUYER,
            key: key("k", b"1"),
            refusal: Refusal::Unauthorized,
        };
        for ticket in 0..WAITING_MAX as u64 {
            assert_eq!(told(&shard, &mut work, refuse(ticket), 0), Vec::<String>::new());
        }
        assert_eq!(told(&shard, &mut work, refuse(99), 0), ["99: Crowded"]);
    }

    /// Nobody can make two sets of fields that look the same; but should it happen, it is a refusal and no more.
    #[test]
    fn what_can_only_be_refused_is_refused_under_the_very_key_that_is_kept() {
        let (mut shard, mut work) = (shard(0..1), Work::default());
        shard.apply(&(id(0), paid(key("k", b"0"))), 0);
        let refusal = Refusal::NoStore("s".into());
        let refuse = OrderMsg::Refuse { ticket: Ticket(1), buyer: BUYER, key: key("k", b"0"), refusal };
        assert_eq!(told(&shard, &mut work, refuse, 0), ["1: 422"]);
    }

    /// Keys that this process wrote are known one by one; too many, and the disk is asked for each.
    #[test]
    fn only_keys_that_may_be_at_rest_are_looked_up() {
        let (mut shard, mut work) = (shard(0..1), Work::default());
        shard.keys_at_rest.add(BUYER, &Kept { key: key("k", b""), at: 5 });
        assert_eq!(told(&shard, &mut work, pay(1, 0, key("k", b"0")), 9), ["look"]);
        work.keys.clear();
        let now = 5 + KEPT_FOR;
        assert!(!shard.keys_at_rest.may_have((BUYER, key("k", b"").scope()), now));
        assert!(!shard.keys_at_rest.may_have((BUYER, key("l", b"").scope()), 9));
        assert!(!shard.keys_at_rest.may_have((AccountNo(2), key("k", b"").scope()), 9));
        for number in 0..=REMEMBERED_MAX {
            shard.keys_at_rest.written.insert(number as u64);
        }
        shard.keys_at_rest.add(BUYER, &Kept { key: key("m", b""), at: 6 });
        assert!(shard.keys_at_rest.may_have((BUYER, key("l", b"").scope()), 9));
        assert!(!shard.keys_at_rest.may_have((BUYER, key("l", b"").scope()), now));
    }

    /// The same key a day later is another order's; the earlier order coming and going changes nothing.
    #[test]
    fn the_newest_order_keeps_a_key() {
        let (mut shard, mut work) = (shard(0..2), Work::default());
        shard.apply(&(id(0), paid(key("k", b"0"))), 1);
        shard.apply(&(id(1), paid(key("k", b"1"))), 1 + KEPT_FOR);
        let old: Vec<Order> = shard.orders.get(&id(0)).map(|order| (**order).clone()).into_iter().collect();
        let now = 2 + KEPT_FOR;
        assert_eq!(told(&shard, &mut work, pay(1, 1, key("k", b"1")), now), ["1: Kept"]);
        for order in old {
            shard.remove([id(0)]);
            assert_eq!(told(&shard, &mut work, pay(1, 1, key("k", b"1")), now), ["1: Kept"]);
            shard.bring_back(&work, id(0), order);
            assert_eq!(told(&shard, &mut work, pay(1, 1, key("k", b"1")), now), ["1: Kept"]);
        }
        shard.remove([id(1)]);
        assert!(shard.keys.is_empty());
    }
}
