//! The state of the shop while it is recovered: rows of a snapshot, the events after them, and the sagas that a crash
//! had interrupted. The third interpreter of the domain's effects, after the actors and the tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::cold::{ColdError, Orders};
use crate::domain::{
    Account, AccountEvent, AccountMsg, AccountNo, Credit, CreditCause, EVENT_VERSION, Effect, Entity, Evidence, Glance,
    Hold, Millis, Order, OrderEvent, OrderId, OrderMsg, OrderShard, OrderStatus, Persistent, Record, SHARDS, Send,
    Store, StoreEvent, StoreMsg, StoreNo, decode,
};
use crate::journal::Journal;
use crate::planted::{Fault, planted};

/// An account while it is recovered: most stay the row that they are.
enum Form {
    Row(Box<[u8]>),
    Hot(Box<Account>),
}

struct AccountEntry {
    name: Box<str>,
    closed: bool,
    /// In fen; beside the row, so that the sum over all needs no row decoded again.
    net_put_in: i64,
    form: Form,
}

/// Everything, single-threaded.
pub(super) struct Image {
    accounts: Vec<Option<AccountEntry>>,
    /// Accounts with evidence in their rows.
    busy: Vec<AccountNo>,
    stores: BTreeMap<StoreNo, (Arc<str>, Store)>,
    shards: Vec<OrderShard>,
    /// Orders that had left memory. One that anything happened to since comes back.
    resting: Arc<Orders>,
    /// The time of the newest event.
    pub(super) newest: Millis,
    /// Events that were not in the rows already.
    pub(super) applied: u64,
    /// A row at rest was asked for and could not be read.
    lacks_rows: std::cell::Cell<bool>,
}

/// What the recovered state is handed over to.
pub trait Receive {
    /// An account, as its row.
    fn account(&mut self, number: AccountNo, name: Box<str>, closed: bool, row: Box<[u8]>);
    /// A store.
    fn store(&mut self, number: StoreNo, name: Arc<str>, store: Store);
}

impl Image {
    pub(super) fn new(resting: Arc<Orders>) -> Self {
        Image {
            resting,
            lacks_rows: false.into(),
            accounts: Vec::new(),
            busy: Vec::new(),
            stores: BTreeMap::new(),
            shards: (0..SHARDS).map(|_| OrderShard::default()).collect(),
            newest: 0,
            applied: 0,
        }
    }

    fn entry(&mut self, number: AccountNo) -> &mut Option<AccountEntry> {
        let index = number.0 as usize;
        if self.accounts.len() <= index {
            self.accounts.resize_with(index + 1, || None);
        }
        &mut self.accounts[index]
    }

    /// Takes in an account's row.
    pub(super) fn account_row(&mut self, name: Box<str>, row: Box<[u8]>) -> Result<(), String> {
        let Glance { number, closed, has_evidence, net_put_in } =
            Glance::at(&row).map_err(|error| format!("an account's row: {error}"))?;
        if has_evidence {
            self.busy.push(number);
        }
        *self.entry(number) = Some(AccountEntry { name, closed, net_put_in, form: Form::Row(row) });
        Ok(())
    }

    /// Takes in a store's row.
    pub(super) fn store_row(&mut self, name: Arc<str>, row: &[u8]) -> Result<(), String> {
        let store = Store::decode(row).map_err(|error| format!("a store's row: {error}"))?;
        self.stores.insert(store.number, (name, store));
        Ok(())
    }

    /// Takes in an order's row.
    pub(super) fn order_row(&mut self, id: OrderId, order: Order) {
        self.shards[id.shard()].insert(id, order);
    }

    /// Applies a journaled event: skips what the rows hold already, takes a gap for corruption.
    pub(super) fn apply(&mut self, kind: u8, version: u8, payload: &[u8]) -> Result<(), String> {
        let record = decode(kind, version, payload).map_err(|error| error.to_string())?;
        match record {
            Record::Account(number, seq, at, event) => {
                self.newest = self.newest.max(at);
                self.apply_account(number, seq, at, event)
            }
            Record::Store(number, seq, at, event) => {
                self.newest = self.newest.max(at);
                self.apply_store(number, seq, at, event)
            }
            Record::Order(id, seq, at, event) => {
                self.newest = self.newest.max(at);
                self.apply_order(id, seq, at, event)
            }
        }
    }

    fn apply_account(&mut self, number: AccountNo, seq: u64, at: Millis, event: AccountEvent) -> Result<(), String> {
        let entry = self.entry(number);
        if let (None, AccountEvent::Registered { user_id, .. }) = (&entry, &event) {
            let name = user_id.clone();
            *entry = Some(AccountEntry {
                name,
                closed: false,
                net_put_in: 0,
                form: Form::Hot(Box::new(Account::new(number))),
            });
        }
        let Some(entry) = entry else { return Err(format!("account {} was never registered", number.0)) };
        let account = entry.form.hot()?;
        if is_new(account.seq, seq, || format!("account {}", number.0))? {
            account.apply(&event, at);
            (entry.closed, entry.net_put_in) = (account.closed, account.net_put_in);
            self.applied += 1;
            if let AccountEvent::StoreOpened { .. }
            | AccountEvent::Held { .. }
            | AccountEvent::Credited { .. }
            | AccountEvent::TakenBack { .. } = event
            {
                self.busy.push(number);
            }
        }
        Ok(())
    }

    fn apply_store(&mut self, number: StoreNo, seq: u64, at: Millis, event: StoreEvent) -> Result<(), String> {
        if let (false, StoreEvent::Created { store_id, .. }) = (self.stores.contains_key(&number), &event) {
            self.stores.insert(number, (Arc::from(&**store_id), Store::new(number)));
        }
        let (_, store) = self.stores.get_mut(&number).ok_or_else(|| format!("store {} was never created", number.0))?;
        if is_new(store.seq, seq, || format!("store {}", number.0))? {
            store.apply(&event, at);
            self.applied += 1;
        }
        Ok(())
    }

    /// An order's base is the higher of its row in the snapshot and its row at rest. The latter is looked for only
    /// where the former cannot be it, for most orders never rested: one that is placed has every event in the journal,
    /// and one in the snapshot has every event since, unless a gap shows.
    fn apply_order(&mut self, id: OrderId, seq: u64, at: Millis, event: OrderEvent) -> Result<(), String> {
        let placed = matches!(event, OrderEvent::Placed(_));
        let mut base = self.base(id);
        if base + 1 < seq && !placed {
            self.bring_in(id)?;
            base = self.base(id);
        }
        if base == 0 && !placed {
            return Err(format!("order {id} was never placed"));
        }
        if is_new(base, seq, || format!("order {id}"))? {
            self.shards[id.shard()].apply(&(id, event), at);
            self.applied += 1;
        }
        Ok(())
    }

    fn base(&self, id: OrderId) -> u64 {
        self.shards[id.shard()].orders.get(&id).map_or(0, |order| u64::from(order.seq))
    }

    /// Takes an order at rest into memory, if there is one and it is newer than what is there.
    fn bring_in(&mut self, id: OrderId) -> Result<(), String> {
        if let Some(order) = self.at_rest(id)?
            && u64::from(order.seq) > self.base(id)
        {
            self.shards[id.shard()].insert(id, order);
        }
        Ok(())
    }

    fn at_rest(&self, id: OrderId) -> Result<Option<Order>, String> {
        if planted(Fault::ColdRowIgnored) {
            return Ok(None);
        }
        self.resting.get(id).map_err(|error| {
            self.lacks_rows.set(true);
            format!("orders.redb: {error}")
        })
    }

    /// Whether what went wrong is the fault of the orders at rest.
    pub(super) fn lacks_rows(&self) -> bool {
        self.lacks_rows.get()
    }

    fn account(&mut self, number: AccountNo) -> Result<&mut Account, String> {
        match self.entry(number) {
            Some(entry) => entry.form.hot(),
            None => Err(format!("account {} is named but does not exist", number.0)),
        }
    }

    /// Where an order stands, in memory or at rest; `None` if it was never placed.
    fn status(&self, id: OrderId) -> Result<Option<OrderStatus>, String> {
        match self.shards[id.shard()].orders.get(&id) {
            Some(order) => Ok(Some(order.status)),
            None => Ok(self.at_rest(id)?.map(|order| order.status)),
        }
    }

    /// Looks every piece of evidence up: with its closing event it is dropped, without it the rest of the saga is
    /// done. Returns how many sagas had to be finished. Doing it twice is as doing it once.
    pub(super) fn finish_sagas(&mut self, journal: &Journal, now: Millis) -> Result<u64, String> {
        let mut unfinished = self.settle_stores()?;
        unfinished.extend(self.settle_accounts()?);
        let finished = unfinished.len() as u64;
        if planted(Fault::SagasNotFinished) {
            return Ok(0);
        }
        for message in unfinished {
            self.run(message, journal, now)?;
        }
        // What was finished just now left evidence of its own.
        let left = self.settle_stores()?.len() + self.settle_accounts()?.len();
        match left {
            0 => Ok(finished),
            _ if planted(Fault::SettledSagaRunAgain) => Ok(finished),
            _ => Err(format!("{left} sagas could not be finished")),
        }
    }

    fn settle_stores(&mut self) -> Result<Vec<Send>, String> {
        let mut unfinished = Vec::new();
        let mut closed = Vec::new();
        let closures = self.stores.iter().filter(|(_, (_, store))| store.closure);
        let closures: Vec<_> = closures.map(|(number, (_, store))| (*number, store.owner)).collect();
        for (store, owner) in closures {
            if self.account(owner)?.closed_stores.contains(&store) || planted(Fault::ClosureDropped) {
                closed.push((store, Evidence::Closure(store)));
            } else {
                let ticket = crate::domain::Ticket::NOBODY;
                unfinished.push(Send::Account(owner, AccountMsg::StoreClosed { ticket, store }));
            }
        }
        for (number, (_, store)) in &self.stores {
            for (id, facts) in &store.reservations {
                if self.status(*id)?.is_some() || planted(Fault::ReservationDropped) {
                    closed.push((*number, Evidence::Reservation(*id)));
                } else {
                    let reserved = OrderMsg::Reserved { order: *id, facts: facts.clone() };
                    unfinished.push(Send::Order(id.shard(), reserved));
                }
            }
            for (id, release) in &store.releases {
                match self.status(*id)? {
                    Some(OrderStatus::Canceled) | None => closed.push((*number, Evidence::Release(*id))),
                    Some(_) => {
                        let released = OrderMsg::Released { order: *id, by: release.by, key: release.key };
                        unfinished.push(Send::Order(id.shard(), released));
                    }
                }
            }
        }
        for (number, evidence) in closed {
            if let Some((_, store)) = self.stores.get_mut(&number) {
                store.forget(&[evidence]);
            }
        }
        Ok(unfinished)
    }

    fn settle_accounts(&mut self) -> Result<Vec<Send>, String> {
        let mut unfinished = Vec::new();
        self.busy.sort_unstable();
        self.busy.dedup();
        for number in self.busy.clone() {
            let account = self.account(number)?.clone();
            let mut closed = Vec::new();
            for (id, hold) in &account.holds {
                self.settle_hold(*id, hold, &mut closed, &mut unfinished)?;
            }
            for ((id, _), credit) in &account.credits {
                self.settle_credit(*id, credit, &mut closed, &mut unfinished)?;
            }
            for (id, refund) in &account.refunds {
                match self.status(*id)? {
                    Some(OrderStatus::Paid) if !planted(Fault::RefundDropped) => unfinished.push(refund.next(*id)),
                    _ => closed.push(Evidence::Refund(*id)),
                }
            }
            for (store, store_id) in &account.openings {
                if self.stores.contains_key(store) {
                    closed.push(Evidence::Opening(*store));
                } else {
                    let (ticket, owner) = (crate::domain::Ticket::NOBODY, number);
                    let create = StoreMsg::Create { ticket, owner, store_id: store_id.clone() };
                    unfinished.push(Send::Store(*store, create));
                }
            }
            self.account(number)?.forget(&closed);
        }
        Ok(unfinished)
    }

    fn settle_hold(
        &self,
        id: OrderId,
        hold: &Hold,
        closed: &mut Vec<Evidence>,
        unfinished: &mut Vec<Send>,
    ) -> Result<(), String> {
        match self.status(id)? {
            Some(OrderStatus::Pending) => unfinished.push(hold.next(id)),
            Some(_) if planted(Fault::SettledSagaRunAgain) => unfinished.push(hold.next(id)),
            _ => closed.push(Evidence::Hold(id)),
        }
        Ok(())
    }

    fn settle_credit(
        &self,
        id: OrderId,
        credit: &Credit,
        closed: &mut Vec<Evidence>,
        unfinished: &mut Vec<Send>,
    ) -> Result<(), String> {
        // The order was placed before any money moved for it.
        let status =
            self.status(id)?.ok_or_else(|| format!("money was credited for order {id}, which is not there"))?;
        let open = match credit.cause {
            CreditCause::Payment => status == OrderStatus::Pending,
            CreditCause::Confirmation => status != OrderStatus::Completed,
            CreditCause::Refund(_) => status == OrderStatus::Paid,
        };
        match (open, credit.cause) {
            (false, _) => closed.push(Evidence::Credit(id, credit.cause)),
            // The buyer's hold is evidence of the same saga and brings it here again.
            (true, CreditCause::Payment) => {}
            (true, CreditCause::Confirmation | CreditCause::Refund(_)) => unfinished.push(credit.next(id)),
        }
        Ok(())
    }

    /// Delivers a message and all that follow from it.
    fn run(&mut self, message: Send, journal: &Journal, now: Millis) -> Result<(), String> {
        let mut queue = VecDeque::from([message]);
        while let Some(message) = queue.pop_front() {
            match message {
                Send::Account(number, msg) => {
                    self.busy.push(number);
                    step(self.account(number)?, &mut (), msg, journal, now, &mut queue);
                }
                Send::Store(number, msg) => {
                    if let StoreMsg::Create { store_id, .. } = &msg {
                        let store = || (Arc::from(&**store_id), Store::new(number));
                        self.stores.entry(number).or_insert_with(store);
                    }
                    let (_, store) =
                        self.stores.get_mut(&number).ok_or_else(|| format!("store {} does not exist", number.0))?;
                    step(store, &mut (), msg, journal, now, &mut queue);
                }
                Send::Order(shard, msg) => {
                    if let Some(id) = msg.closes() {
                        self.bring_in(id)?;
                    }
                    let mut work = <OrderShard as Entity>::Work::default();
                    step(&mut self.shards[shard], &mut work, msg, journal, now, &mut queue);
                }
                // Evidence is looked up again at the end.
                Send::Forget(..) => {}
            }
        }
        Ok(())
    }

    /// Tells the shards which orders at rest are confirmed by themselves.
    pub(super) fn find_awaited(&mut self) -> Result<(), ColdError> {
        if self.resting.is_empty() || planted(Fault::AwaitedSkippedAtRecovery) {
            return Ok(());
        }
        let shards = &mut self.shards;
        self.resting.view()?.awaited(&mut |at, id| shards[id.shard()].awaits_at_rest(id, at))
    }

    /// Hands everything over.
    pub(super) fn hand_over(mut self, receiver: &mut impl Receive) -> Vec<OrderShard> {
        if !self.resting.is_empty() {
            let keys = self.resting.newest_key();
            self.shards.iter_mut().for_each(|shard| shard.all_may_be_on_disk(keys));
        }
        if planted(Fault::DeadlineSkippedAtRecovery) {
            self.shards.iter_mut().for_each(OrderShard::forget_deadlines);
        }
        for (number, entry) in (0..).zip(self.accounts) {
            if let Some(AccountEntry { name, closed, form, .. }) = entry {
                receiver.account(AccountNo(number), name, closed, form.into_row());
            }
        }
        for (number, (name, store)) in self.stores {
            receiver.store(number, name, store);
        }
        self.shards
    }

    /// What all accounts put in, in fen.
    pub(super) fn net_put_in(&self) -> i64 {
        self.accounts.iter().flatten().map(|entry| entry.net_put_in).sum()
    }
}

impl Form {
    fn hot(&mut self) -> Result<&mut Account, String> {
        if let Form::Row(row) = self {
            let account = Account::decode(row).map_err(|error| format!("an account's row: {error}"))?;
            *self = Form::Hot(Box::new(account));
        }
        match self {
            Form::Hot(account) => Ok(account),
            Form::Row(_) => Err("an account's row did not decode".into()),
        }
    }

    fn into_row(self) -> Box<[u8]> {
        match self {
            Form::Row(row) => row,
            Form::Hot(account) => account.encode(),
        }
    }
}

/// Whether an event is past its entity's base. A gap means that something is missing.
fn is_new(base: u64, seq: u64, what: impl FnOnce() -> String) -> Result<bool, String> {
    if seq > base + 1 {
        return Err(format!("{} goes from event {base} to event {seq}", what()));
    }
    Ok(seq == base + 1)
}

/// Handles one message of an entity, with all effects.
fn step<E: Persistent>(
    entity: &mut E,
    work: &mut E::Work,
    msg: E::Msg,
    journal: &Journal,
    now: Millis,
    queue: &mut VecDeque<Send>,
) {
    let mut next = VecDeque::from([msg]);
    let mut bytes = Vec::new();
    while let Some(msg) = next.pop_front() {
        let mut effects = Vec::new();
        entity.handle(work, msg, now, &mut effects);
        for effect in effects {
            match effect {
                Effect::Append(event) => {
                    let kind = entity.encode_event(&event, now, &mut bytes);
                    journal.append(kind, EVENT_VERSION, &bytes);
                    entity.apply(&event, now);
                }
                Effect::Send(message) => queue.push_back(message),
                Effect::Again(msg) => next.push_back(msg),
                // Nobody waits, deadlines are read from the state when the actors start, and who closes a saga asks
                // nothing.
                Effect::Reply(..) | Effect::Deadline(_) | Effect::Resting(_) => {}
            }
        }
    }
}
