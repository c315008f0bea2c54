//! The wallet: credentials, balance, and the evidence of payments on their way.

use std::collections::BTreeMap;

use super::DEPOSITS_MAX;
use super::effect::{Effect, Effects, Entity, OnPanic, Outcome};
use super::event::{AccountEvent, By, Credit, CreditCause, Evidence, Hold, PayKind, Refund, Secret};
use super::ids::{AccountNo, Fen, Millis, OrderId, StoreNo, Ticket};
use super::key::{Kept, Key};
use super::message::{AccountMsg, Address, Cred, OrderMsg, Send, StoreMsg};
use super::refusal::Refusal;
use crate::planted::{Fault, planted};

/// Revocations that an account remembers at once; a logout beyond them must wait until one has expired.
const REVOKED_MAX: usize = 10_000;

/// A user's account. Its row in a snapshot and its dormant form are this struct, packed; see `row`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub(crate) number: AccountNo,
    pub(crate) seq: u64,
    pub(crate) closed: bool,
    pub(crate) secret: Secret,
    pub(crate) epoch: u32,
    pub(crate) balance: Fen,
    pub(crate) net_put_in: Fen,
    pub(crate) stores: Vec<StoreNo>,
    /// Those of `stores` that are closed.
    pub(crate) closed_stores: Vec<StoreNo>,
    /// Revoked tokens with the time until which they must be remembered.
    pub(crate) revoked: Vec<(u64, Millis)>,
    pub(crate) openings: BTreeMap<StoreNo, Box<str>>,
    pub(crate) holds: BTreeMap<OrderId, Hold>,
    /// By their cause as well: what one saga leaves here is dropped late, and the next one of the same order may come
    /// before that.
    pub(crate) credits: BTreeMap<(OrderId, CreditCause), Credit>,
    pub(crate) refunds: BTreeMap<OrderId, Refund>,
    /// Idempotency keys of deposits and withdrawals, oldest first.
    pub(crate) keys: Vec<Kept>,
}

impl Account {
    /// An account before its first event.
    pub fn new(number: AccountNo) -> Self {
        Account {
            number,
            seq: 0,
            closed: false,
            secret: Secret::default(),
            epoch: 0,
            balance: 0,
            net_put_in: 0,
            stores: Vec::new(),
            closed_stores: Vec::new(),
            revoked: Vec::new(),
            openings: BTreeMap::new(),
            holds: BTreeMap::new(),
            credits: BTreeMap::new(),
            refunds: BTreeMap::new(),
            keys: Vec::new(),
        }
    }

    /// Whether a saga left something here that was not dropped yet.
    pub fn has_evidence(&self) -> bool {
        let on_the_way = !(self.holds.is_empty() && self.credits.is_empty() && self.refunds.is_empty());
        on_the_way || !self.openings.is_empty()
    }

    fn authorise(&self, cred: Cred) -> Result<(), Refusal> {
        if self.closed || !cred.is_good(self.epoch) {
            return Err(Refusal::Unauthorized);
        }
        Ok(())
    }

    fn set_password(&self, cred: Cred, secret: Secret) -> Result<AccountEvent, Refusal> {
        self.authorise(cred)?;
        Ok(AccountEvent::PasswordChanged { secret })
    }

    fn revoke(&self, epoch: u32, token: u64, expires: Millis) -> Result<AccountEvent, Refusal> {
        self.authorise(Cred::Epoch(epoch))?;
        if self.revoked.iter().any(|(id, _)| *id == token) {
            return Err(Refusal::Unauthorized);
        }
        Ok(AccountEvent::TokenRevoked { token, expires })
    }

    fn add_funds(&self, cred: Cred, money: Money, key: Option<Key>, keys_max: usize, now: Millis) -> Deposit {
        let Money { value, has_room } = money;
        self.authorise(cred).map_err(Outcome::Refused)?;
        if let Some(key) = &key {
            self.judge_key(key, keys_max, now)?;
        }
        self.judge_funds(value, has_room).map_err(Outcome::Refused)?;
        Ok(AccountEvent::FundsAdded { value, key })
    }

    /// An error is the answer: the deposit was made already, or is another one, or there are too many keys.
    fn judge_key(&self, key: &Key, keys_max: usize, now: Millis) -> Result<(), Outcome> {
        let alive = &self.keys[self.keys_over(now)..];
        if planted(Fault::DepositKeyIgnored) {
            return Ok(());
        }
        match alive.iter().rev().find(|kept| kept.key.scope() == key.scope()) {
            Some(kept) if kept.key.has_fields_of(key) => Err(Outcome::Kept),
            Some(_) => Err(Outcome::Refused(Refusal::KeyReused)),
            None if alive.len() >= keys_max => Err(Outcome::Throttled("too many idempotency keys")),
            None => Ok(()),
        }
    }

    /// How many keys there are whose time is over. They are the oldest, so they stand first.
    fn keys_over(&self, now: Millis) -> usize {
        self.keys.partition_point(|kept| !kept.is_alive(now))
    }

    fn judge_funds(&self, value: Fen, has_room: bool) -> Result<(), Refusal> {
        if !has_room {
            return Err(Refusal::invalid("add_value", "the sum of all deposits would overflow"));
        }
        match self.balance.checked_add(value) {
            Some(balance) if balance < 0 => {
                Err(Refusal::invalid("add_value", "the balance does not cover the withdrawal"))
            }
            Some(balance) if balance < DEPOSITS_MAX => Ok(()),
            _ => Err(Refusal::invalid("add_value", "the balance would overflow")),
        }
    }

    fn close(&self, cred: Cred) -> Result<AccountEvent, Refusal> {
        self.authorise(cred)?;
        if self.balance != 0 {
            return Err(Refusal::invalid("user_id", "the balance is not 0"));
        }
        if self.stores.len() > self.closed_stores.len() || !self.openings.is_empty() {
            return Err(Refusal::invalid("user_id", "the user owns a store"));
        }
        Ok(AccountEvent::Closed)
    }

    fn hold(&self, order: OrderId, cred: Cred, hold: Hold, fx: &mut Effects<Self>) {
        let refuse = |refusal| Effect::Send(Send::Order(order.shard(), OrderMsg::NotHeld { order, refusal }));
        if !self.holds.contains_key(&order) {
            if let Err(refusal) = self.authorise(cred) {
                return fx.push(refuse(refusal));
            }
            if self.balance < hold.amount {
                return fx.push(refuse(Refusal::InsufficientFunds(order.to_string())));
            }
        }
        let next = hold.next(order);
        if !self.holds.contains_key(&order) {
            fx.push(Effect::Append(AccountEvent::Held { order, hold }));
        }
        fx.push(Effect::Send(next));
    }

    fn credit(&self, order: OrderId, credit: Credit, fx: &mut Effects<Self>) {
        let next = credit.next(order);
        let is_refund = matches!(credit.cause, CreditCause::Refund(_));
        let has_evidence = match planted(Fault::CreditCauseIgnored) {
            true => self.credits.keys().any(|(of, _)| *of == order),
            false => self.credits.contains_key(&(order, credit.cause)),
        };
        if !has_evidence || planted(Fault::CreditEvidenceIgnored) {
            if planted(Fault::DoubleCredit) || (is_refund && planted(Fault::RefundedTwice)) {
                fx.push(Effect::Append(AccountEvent::Credited { order, credit: credit.clone() }));
            }
            fx.push(Effect::Append(AccountEvent::Credited { order, credit }));
        }
        fx.push(Effect::Send(next));
    }

    /// The one step of a refund that may refuse: the seller may have spent it.
    fn take_back(&self, order: OrderId, refund: Refund, fx: &mut Effects<Self>) {
        let next = refund.next(order);
        if !self.refunds.contains_key(&order) {
            if self.balance < refund.amount {
                let refusal = Refusal::InsufficientFunds(order.to_string());
                return fx.push(Effect::Send(Send::Order(order.shard(), OrderMsg::NotTakenBack { order, refusal })));
            }
            if !planted(Fault::SellerKeepsRefund) {
                fx.push(Effect::Append(AccountEvent::TakenBack { order, refund }));
            }
        }
        fx.push(Effect::Send(next));
    }

    fn open_store(&self, ticket: Ticket, cred: Cred, store: StoreNo, store_id: Box<str>, fx: &mut Effects<Self>) {
        if let Err(refusal) = self.authorise(cred) {
            return fx.push(Effect::Reply(ticket, Outcome::Refused(refusal)));
        }
        fx.push(Effect::Append(AccountEvent::StoreOpened { store, store_id: store_id.clone() }));
        fx.push(Effect::Send(Send::Store(store, StoreMsg::Create { ticket, owner: self.number, store_id })));
    }

    fn close_and_tell(&self, ticket: Ticket, cred: Cred, fx: &mut Effects<Self>) {
        let buyer = self.number;
        let refusal = match self.close(cred) {
            Ok(event) => {
                fx.push(Effect::Append(event));
                None
            }
            Err(refusal) => Some(refusal),
        };
        fx.push(Effect::Send(Send::Order(buyer.shard(), OrderMsg::UnregisterEnded { ticket, buyer, refusal })));
    }
}

/// What is to be put in, and whether the sum of all deposits has room for it.
struct Money {
    value: Fen,
    has_room: bool,
}

/// The event of a deposit, or its answer.
type Deposit = Result<AccountEvent, Outcome>;

/// The password epoch of a (salted) hash. It is not a count, because a number that a crash in `snapshot` mode has lost
/// is given again: a token of the lost account must not open the new one.
pub(super) fn fingerprint(secret: &Secret) -> u32 {
    let hash = blake3::hash(&secret.0);
    u32::from_le_bytes(std::array::from_fn(|index| hash.as_bytes()[index]))
}

impl Hold {
    /// Whom the saga goes to after the buyer's money is held.
    pub fn next(&self, order: OrderId) -> Send {
        match self.kind {
            PayKind::Platform => Send::Order(order.shard(), OrderMsg::Held { order, key: self.key }),
            PayKind::Direct => {
                let cause = CreditCause::Payment;
                let credit = Credit { cause, amount: self.amount, by: By::Buyer, key: self.key };
                Send::Account(self.seller, AccountMsg::Credit { order, credit })
            }
        }
    }
}

impl Refund {
    /// Whom the saga goes to after the money is taken back.
    pub fn next(&self, order: OrderId) -> Send {
        let cause = CreditCause::Refund(PayKind::Direct);
        let credit = Credit { cause, amount: self.amount, by: By::Buyer, key: self.key };
        Send::Account(self.buyer, AccountMsg::Credit { order, credit })
    }
}

impl Credit {
    /// Whom the saga goes to after the account is credited.
    pub fn next(&self, order: OrderId) -> Send {
        Send::Order(order.shard(), OrderMsg::Credited { order, credit: self.clone() })
    }
}

/// Appends what was judged good, if anything is to be done, and answers either way.
pub(super) fn append_and_answer<M, E>(
    ticket: Ticket,
    judged: Result<impl Into<Option<E>>, Refusal>,
    fx: &mut Vec<Effect<M, E>>,
) {
    match judged {
        Ok(event) => {
            fx.extend(event.into().map(Effect::Append));
            fx.push(Effect::Reply(ticket, Outcome::Done));
        }
        Err(refusal) => fx.push(Effect::Reply(ticket, Outcome::Refused(refusal))),
    }
}

impl Entity for Account {
    type Msg = AccountMsg;
    type Event = AccountEvent;
    type Work = ();

    fn handle(&self, _work: &mut (), msg: AccountMsg, now: Millis, fx: &mut Effects<Self>) {
        let read =
            |ticket, judged: Result<Outcome, Refusal>| Effect::Reply(ticket, judged.unwrap_or_else(Outcome::Refused));
        match msg {
            AccountMsg::Secret { ticket } if self.closed => fx.push(Effect::Reply(ticket, Outcome::AccountGone)),
            AccountMsg::Secret { ticket } => {
                fx.push(Effect::Reply(ticket, Outcome::Secret(self.secret.clone(), self.epoch)));
            }
            AccountMsg::CheckToken { ticket, epoch, token } => {
                let revoked = self.revoked.iter().any(|(id, _)| *id == token);
                let cred = if revoked { Cred::Refused } else { Cred::Epoch(epoch) };
                fx.push(read(ticket, self.authorise(cred).map(|()| Outcome::Done)));
            }
            AccountMsg::SetPassword { ticket, cred, secret } => {
                append_and_answer(ticket, self.set_password(cred, secret), fx)
            }
            AccountMsg::Revoke { ticket, .. }
                if self.revoked.iter().filter(|(_, until)| *until > now).count() >= REVOKED_MAX =>
            {
                fx.push(Effect::Reply(ticket, Outcome::Throttled("too many logouts")));
            }
            AccountMsg::Revoke { ticket, epoch, token, expires } => {
                append_and_answer(ticket, self.revoke(epoch, token, expires), fx);
            }
            AccountMsg::AddFunds { ticket, cred, value, has_room, key, keys_max } => {
                match self.add_funds(cred, Money { value, has_room }, key, keys_max, now) {
                    Ok(event) => append_and_answer(ticket, Ok(event), fx),
                    Err(outcome) => fx.push(Effect::Reply(ticket, outcome)),
                }
            }
            AccountMsg::Balance { ticket, cred } => {
                fx.push(read(ticket, self.authorise(cred).map(|()| Outcome::Balance(self.balance))));
            }
            AccountMsg::Stores { ticket, cred } => {
                fx.push(read(ticket, self.authorise(cred).map(|()| Outcome::Stores(self.stores.clone()))));
            }
            AccountMsg::OpenStore { ticket, cred, store, store_id } => {
                self.open_store(ticket, cred, store, store_id, fx);
            }
            AccountMsg::Hold { order, cred, kind, seller, amount, key } => {
                self.hold(order, cred, Hold { kind, seller, amount, key }, fx);
            }
            AccountMsg::Credit { order, credit } => self.credit(order, credit, fx),
            AccountMsg::TakeBack { order, refund } => self.take_back(order, refund, fx),
            AccountMsg::StoreClosed { ticket, store } => {
                if !self.closed_stores.contains(&store) {
                    fx.push(Effect::Append(AccountEvent::StoreClosed { store }));
                }
                // Sent before the answer, so that it is in the store's mailbox when nothing is in flight any more.
                fx.push(Effect::Send(Send::Forget(Address::Store(store), vec![Evidence::Closure(store)])));
                fx.push(Effect::Reply(ticket, Outcome::Done));
            }
            AccountMsg::Close { ticket, cred } => self.close_and_tell(ticket, cred, fx),
        }
    }

    fn apply(&mut self, event: &AccountEvent, at: Millis) {
        self.seq += 1;
        self.keys.drain(..self.keys_over(at));
        match event {
            AccountEvent::Registered { secret, .. } => {
                self.secret = secret.clone();
                self.epoch = fingerprint(secret);
            }
            AccountEvent::PasswordChanged { secret } => {
                let epoch = fingerprint(secret);
                self.epoch = if epoch == self.epoch { epoch.wrapping_add(1) } else { epoch };
                self.secret = secret.clone();
                self.revoked.clear();
            }
            AccountEvent::TokenRevoked { token, expires } => {
                self.revoked.retain(|(_, until)| *until > at);
                self.revoked.push((*token, *expires));
            }
            AccountEvent::FundsAdded { value, key } => {
                self.balance += value;
                self.net_put_in += value;
                self.keys.extend(key.map(|key| Kept { key, at }));
            }
            AccountEvent::StoreOpened { store, store_id } => {
                self.stores.push(*store);
                self.openings.insert(*store, store_id.clone());
            }
            AccountEvent::StoreClosed { store } => self.closed_stores.push(*store),
            AccountEvent::Held { order, hold } => {
                self.balance -= hold.amount;
                self.holds.insert(*order, hold.clone());
            }
            AccountEvent::Credited { order, credit } => {
                self.balance += credit.amount;
                self.credits.insert((*order, credit.cause), credit.clone());
            }
            AccountEvent::TakenBack { order, refund } => {
                self.balance -= refund.amount;
                self.refunds.insert(*order, refund.clone());
            }
            AccountEvent::Closed => {
                self.closed = true;
                self.secret = Secret::default();
                self.revoked = Vec::new();
                self.keys = Vec::new();
            }
        }
    }

    fn forget(&mut self, evidence: &[Evidence]) {
        for piece in evidence {
            match piece {
                Evidence::Hold(order) => {
                    self.holds.remove(order);
                }
                Evidence::Credit(order, cause) => {
                    self.credits.remove(&(*order, *cause));
                }
                Evidence::Refund(order) => {
                    self.refunds.remove(order);
                }
                Evidence::Opening(store) => {
                    self.openings.remove(store);
                }
                Evidence::Reservation(_) | Evidence::Release(_) | Evidence::Closure(_) => {}
            }
        }
    }

    fn on_panic(msg: &AccountMsg) -> OnPanic {
        match msg {
            AccountMsg::Secret { ticket }
            | AccountMsg::CheckToken { ticket, .. }
            | AccountMsg::SetPassword { ticket, .. }
            | AccountMsg::Revoke { ticket, .. }
            | AccountMsg::AddFunds { ticket, .. }
            | AccountMsg::Balance { ticket, .. }
            | AccountMsg::Stores { ticket, .. }
            | AccountMsg::OpenStore { ticket, .. } => OnPanic::Reply(*ticket),
            AccountMsg::Hold { order, .. } => OnPanic::NotHeld(*order),
            AccountMsg::Credit { order, credit }
                if matches!(credit.cause, CreditCause::Confirmation | CreditCause::Refund(PayKind::Platform)) =>
            {
                OnPanic::NotCredited(*order)
            }
            AccountMsg::TakeBack { order, .. } => OnPanic::NotTakenBack(*order),
            AccountMsg::Credit { .. } | AccountMsg::StoreClosed { .. } | AccountMsg::Close { .. } => OnPanic::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::{KEPT_FOR, Operation};

    const KEYS_MAX: usize = 100;

    fn add(account: &mut Account, text: &str, value: Fen, now: Millis) -> String {
        let key = Some(Key::new(Operation::AddFunds, text, [&value.to_le_bytes()[..]]));
        let (ticket, cred, has_room) = (Ticket(1), Cred::Trusted, true);
        let mut fx = Effects::<Account>::new();
        account.handle(
            &mut (),
            AccountMsg::AddFunds { ticket, cred, value, has_room, key, keys_max: KEYS_MAX },
            now,
            &mut fx,
        );
        let mut answer = String::new();
        for effect in fx {
            match effect {
                Effect::Append(event) => account.apply(&event, now),
                Effect::Reply(_, Outcome::Refused(refusal)) => answer = refusal.code().to_string(),
                Effect::Reply(_, outcome) => answer = format!("{outcome:?}"),
                other => answer = format!("{other:?}"),
            }
        }
        answer
    }

    #[test]
    fn a_deposit_is_kept_for_its_time_and_then_forgotten() {
        let mut account = Account::new(AccountNo(1));
        assert_eq!(add(&mut account, "k", 5, 10), "Done");
        assert_eq!(add(&mut account, "k", 5, 9 + KEPT_FOR), "Kept");
        assert_eq!(add(&mut account, "k", 6, 9 + KEPT_FOR), "422");
        assert_eq!(add(&mut account, "k", 6, 10 + KEPT_FOR), "Done");
        assert_eq!((account.balance, account.keys.len()), (11, 1));
        // A refusal keeps nothing.
        assert_eq!(add(&mut account, "l", -12, 11 + KEPT_FOR), "530");
        assert_eq!(add(&mut account, "l", -11, 11 + KEPT_FOR), "Done");
    }

    #[test]
    fn who_has_closed_his_stores_may_go() {
        let mut account = Account::new(AccountNo(1));
        let open = |number| AccountEvent::StoreOpened { store: StoreNo(number), store_id: "s".into() };
        for number in [1, 2] {
            account.apply(&open(number), 0);
            account.forget(&[Evidence::Opening(StoreNo(number))]);
        }
        let told = |account: &mut Account, store| {
            let mut fx = Effects::<Account>::new();
            account.handle(&mut (), AccountMsg::StoreClosed { ticket: Ticket(1), store }, 0, &mut fx);
            let events = fx.iter().filter(|effect| matches!(effect, Effect::Append(_))).count();
            for effect in fx {
                if let Effect::Append(event) = effect {
                    account.apply(&event, 0);
                }
            }
            events
        };
        assert_eq!(told(&mut account, StoreNo(2)), 1);
        assert!(account.close(Cred::Trusted).is_err());
        // A crash may have it told twice.
        assert_eq!(told(&mut account, StoreNo(2)), 0);
        assert!(account.close(Cred::Trusted).is_err());
        assert_eq!(told(&mut account, StoreNo(1)), 1);
        assert!(account.close(Cred::Trusted).is_ok());
        assert_eq!(account.stores, [StoreNo(1), StoreNo(2)], "their orders are still listed");
    }

    #[test]
    fn so_many_keys_and_no_more() {
        let mut account = Account::new(AccountNo(1));
        for number in 0..KEYS_MAX {
            let key = Some(Key::new(Operation::AddFunds, &number.to_string(), [&1i64.to_le_bytes()[..]]));
            account.apply(&AccountEvent::FundsAdded { value: 1, key }, 10 + number as Millis);
        }
        let now = 9 + KEPT_FOR;
        assert!(add(&mut account, "new", 1, now).starts_with("Throttled"));
        assert_eq!(add(&mut account, "0", 1, now), "Kept");
        assert_eq!(add(&mut account, "new", 1, now + 1), "Done");
        assert_eq!(account.keys.len(), KEYS_MAX);
    }
}
