//! One life of the engine: what is in memory between an open and a crash. The second interpreter of the domain's
//! effects; all rules, the journal, the gate, snapshots and orders at rest are the engine's own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bookstore::AuditReport;
use bookstore::internals::actors::{Answered, Answers, answer};
use bookstore::internals::cold::{ColdError, Orders, View};
use bookstore::internals::domain::{
    Account, AccountEvent, AccountNo, EVENT_VERSION, Effect, Effects, Entity, Millis, Order, OrderId, OrderMsg,
    OrderShard, Outcome, Persistent, Resting, SHARDS, Send, Store, StoreNo, Ticket,
};
use bookstore::internals::engine::{IdSource, Receive, Tally};
use bookstore::internals::journal::{Journal, LogError, LogStore, Lsn, Observer, Stepper, decode_frames};

use crate::mail::{End, Mail, Post};

/// A frame that was given to the log.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) kind: u8,
    pub(crate) version: u8,
    pub(crate) payload: Vec<u8>,
}

/// Every frame that was ever given to the log, by its number; shared with the log that notes them.
pub(crate) type History = Arc<Mutex<Vec<Written>>>;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The engine's own log, and a note of what goes into it.
pub(crate) struct Noted {
    pub(crate) log: Box<dyn LogStore>,
    pub(crate) history: History,
}

impl LogStore for Noted {
    fn append(&mut self, first_lsn: Lsn, frames: u32, epoch: u32, body: &[u8]) -> Result<(), LogError> {
        let mut history = lock(&self.history);
        history.truncate(first_lsn as usize - 1);
        for frame in decode_frames(body) {
            let frame = frame.unwrap();
            let (kind, version, payload) = (frame.kind, frame.version, frame.payload.to_vec());
            history.push(Written { kind, version, payload });
        }
        drop(history);
        self.log.append(first_lsn, frames, epoch, body)
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.log.sync()
    }

    fn trim(&mut self, upto: Lsn) -> Result<(), LogError> {
        self.log.trim(upto)
    }
}

/// What the journal tells.
pub(crate) struct Gate {
    pub(crate) answers: Arc<Answers>,
    pub(crate) failed: AtomicBool,
}

impl Observer for Gate {
    fn advanced(&self, durable: Lsn) {
        self.answers.advanced(durable);
    }

    fn failed(&self, _why: &str) {
        self.failed.store(true, Ordering::SeqCst);
    }
}

/// Where an account or a store is.
pub(crate) enum Place<E> {
    Row(Box<[u8]>),
    Awake(Box<E>),
}

/// A question about orders at rest, and the view that was taken when it was asked.
pub(crate) struct Reading {
    question: Resting,
    view: View,
}

pub(crate) struct Slot<E> {
    pub(crate) name: Arc<str>,
    pub(crate) place: Place<E>,
}

/// What entities are run with.
pub(crate) struct Hub {
    pub(crate) journal: Journal,
    pub(crate) answers: Arc<Answers>,
    pub(crate) post: Post,
    pub(crate) resting: Arc<Orders>,
    pub(crate) readings: Vec<Reading>,
    /// The first deadline that somebody has told.
    pub(crate) earliest: Millis,
    /// The journal's head when an answer was given.
    pub(crate) answered_at: BTreeMap<u64, Lsn>,
    pub(crate) users: BTreeMap<Arc<str>, u32>,
    pub(crate) store_ids: BTreeMap<Arc<str>, (u32, u32)>,
    pub(crate) failure: Option<String>,
    bytes: Vec<u8>,
}

pub(crate) struct Process {
    pub(crate) hub: Hub,
    pub(crate) stepper: Stepper,
    pub(crate) gate: Arc<Gate>,
    pub(crate) accounts: BTreeMap<u32, Slot<Account>>,
    pub(crate) stores: BTreeMap<u32, Slot<Store>>,
    pub(crate) next_account: u32,
    pub(crate) next_store: u32,
    pub(crate) shards: Vec<OrderShard>,
    pub(crate) works: Vec<<OrderShard as Entity>::Work>,
    pub(crate) ids: IdSource,
    pub(crate) epoch: u32,
    /// Engine time at the open.
    pub(crate) base: Millis,
    /// Time since the first open, at this one.
    pub(crate) opened: Millis,
}

/// What a look at an entity gave to who asked.
pub(crate) enum Shown {
    Account(Arc<str>, Box<[u8]>),
    /// None: it is not created yet.
    Store(Arc<str>, Option<Box<[u8]>>),
    Ids(Vec<OrderId>),
    Orders(Vec<u8>),
    Named(Vec<(OrderId, u32)>, bool),
    Rows(usize, Vec<(OrderId, u32)>, Vec<(OrderId, Order)>),
    Left(usize),
}

impl Hub {
    pub(crate) fn new(journal: Journal, answers: Arc<Answers>, resting: Arc<Orders>) -> Self {
        Hub {
            journal,
            answers,
            resting,
            post: Post::default(),
            readings: Vec::new(),
            earliest: Millis::MAX,
            answered_at: BTreeMap::new(),
            users: BTreeMap::new(),
            store_ids: BTreeMap::new(),
            failure: None,
            bytes: Vec::new(),
        }
    }

    /// As the engine fails: nothing is acknowledged or journaled any more.
    pub(crate) fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
        self.journal.halt();
        self.answers.fail();
    }

    pub(crate) fn reply(&mut self, ticket: Ticket, outcome: Outcome) {
        self.answered_at.insert(ticket.0, self.journal.head());
        self.answers.reply(ticket, outcome, &self.journal);
    }

    fn ask_resting(&mut self, question: Resting) {
        if self.resting.is_empty() {
            return self.answer_resting(question, None);
        }
        match self.resting.view() {
            Ok(view) => self.readings.push(Reading { question, view }),
            Err(error) => self.resting_failed(&error),
        }
    }

    fn answer_resting(&mut self, question: Resting, view: Option<&View>) {
        let (answered, trouble) = answer(question, view);
        if let Some(error) = trouble {
            self.resting_failed(&error);
        }
        match answered {
            Answered::Reply(ticket, outcome) => self.reply(ticket, outcome),
            Answered::Tell(shard, msg) => self.post.put(End::Reader, End::Shard(shard), Mail::Order(msg)),
            Answered::Loaded(id, found, msg) => {
                self.post.put(End::Reader, End::Shard(id.shard()), Mail::Loaded(id, found, msg));
            }
        }
    }

    /// Reads for one of those who wait.
    pub(crate) fn read(&mut self, index: usize) {
        let Reading { question, view } = self.readings.remove(index);
        self.answer_resting(question, Some(&view));
    }

    pub(crate) fn resting_failed(&mut self, error: &ColdError) {
        self.fail(format!("orders at rest: {error}"));
    }

    /// Runs one message of an entity, and what it tells itself.
    fn run<E: Persistent>(
        &mut self,
        me: End,
        entity: &mut E,
        work: &mut E::Work,
        msg: E::Msg,
        now: Millis,
        observe: fn(&mut Hub, &E, &E::Event),
    ) {
        let mut next = VecDeque::from([msg]);
        while let Some(msg) = next.pop_front() {
            let mut effects: Effects<E> = Vec::new();
            entity.handle(work, msg, now, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Append(event) => {
                        let kind = entity.encode_event(&event, now, &mut self.bytes);
                        self.journal.append(kind, EVENT_VERSION, &self.bytes);
                        entity.apply(&event, now);
                        observe(self, entity, &event);
                    }
                    Effect::Send(message) => self.post.send(me, message),
                    Effect::Reply(ticket, outcome) => self.reply(ticket, outcome),
                    Effect::Deadline(at) => self.earliest = self.earliest.min(at),
                    Effect::Resting(question) => self.ask_resting(question),
                    Effect::Again(msg) => next.push_back(msg),
                }
            }
        }
    }
}

fn observe_account(hub: &mut Hub, account: &Account, event: &AccountEvent) {
    if let AccountEvent::Closed = event {
        let number = account.number().0;
        hub.users.retain(|_, known| *known != number);
    }
}

impl<E: Persistent> Slot<E> {
    pub(crate) fn row(&self) -> Box<[u8]> {
        match &self.place {
            Place::Row(row) => row.clone(),
            Place::Awake(entity) => entity.encode(),
        }
    }

    pub(crate) fn is_awake(&self) -> bool {
        matches!(self.place, Place::Awake(_))
    }

    pub(crate) fn sleep(&mut self) {
        self.place = Place::Row(self.row());
    }

    pub(crate) fn wake(&mut self) -> &mut E {
        if let Place::Row(row) = &self.place {
            self.place = Place::Awake(Box::new(E::decode(row).unwrap()));
        }
        match &mut self.place {
            Place::Awake(entity) => entity,
            Place::Row(_) => unreachable!("it was woken just now"),
        }
    }
}

impl Process {
    pub(crate) fn now(&self, time: Millis) -> Millis {
        self.base + (time - self.opened)
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.hub.failure.is_some()
    }

    /// What the journal told of its failure is done to everything else.
    pub(crate) fn notice_failure(&mut self) {
        if self.gate.failed.swap(false, Ordering::SeqCst) {
            self.hub.fail("the journal failed".into());
        }
    }

    /// Delivers one message; what it showed goes to who asked.
    pub(crate) fn deliver(&mut self, to: End, mail: Mail, now: Millis) -> Option<Shown> {
        match to {
            End::Account(number) => {
                let slot = self.accounts.get_mut(&number).unwrap_or_else(|| panic!("a message to account {number}"));
                match mail {
                    Mail::Account(msg) => {
                        let hub = &mut self.hub;
                        hub.run(to, slot.wake(), &mut (), msg, now, observe_account);
                    }
                    Mail::Forget(evidence) => slot.wake().forget(&evidence),
                    Mail::Row => return Some(Shown::Account(slot.name.clone(), slot.row())),
                    other => panic!("account {number} got {other:?}"),
                }
            }
            End::Store(number) => {
                let slot = self.stores.get_mut(&number).unwrap_or_else(|| panic!("a message to store {number}"));
                match mail {
                    Mail::Store(msg) => {
                        let hub = &mut self.hub;
                        hub.run(to, slot.wake(), &mut (), msg, now, |_, _, _| {});
                    }
                    Mail::Forget(evidence) => slot.wake().forget(&evidence),
                    Mail::Row => {
                        return Some(Shown::Store(slot.name.clone(), (slot.wake().seq() > 0).then(|| slot.row())));
                    }
                    other => panic!("store {number} got {other:?}"),
                }
            }
            End::Shard(number) => return self.deliver_to_shard(number, mail, now),
            other => panic!("a message to {other:?}"),
        }
        None
    }

    fn deliver_to_shard(&mut self, number: usize, mail: Mail, now: Millis) -> Option<Shown> {
        let (shard, work) = (&mut self.shards[number], &mut self.works[number]);
        let msg = match mail {
            Mail::Order(msg) => msg,
            Mail::Loaded(id, found, msg) => {
                if let Some(order) = found {
                    shard.bring_back(work, id, order);
                }
                msg
            }
            Mail::Forget(_) => return None,
            Mail::Ids => return Some(Shown::Ids(bookstore::internals::engine::ids_of(shard))),
            Mail::Orders(ids) => {
                return Some(Shown::Orders(bookstore::internals::engine::encode_orders(shard, &ids)));
            }
            Mail::Name(leaving) => {
                let (named, more) = shard.leaving(work, leaving);
                return Some(Shown::Named(named, more));
            }
            Mail::Show(named) => {
                let rows = shard.rows(work, &named);
                return Some(Shown::Rows(number, named, rows));
            }
            Mail::Leave(named, written) => return Some(Shown::Left(shard.leave(work, named, &written.0))),
            other => panic!("shard {number} got {other:?}"),
        };
        self.hub.run(End::Shard(number), shard, work, msg, now, |_, _, _| {});
        None
    }

    /// The engine's `register`: the name is claimed and the event appended in one step.
    pub(crate) fn register(&mut self, name: &Arc<str>, secret: &[u8], ticket: Ticket, now: Millis) -> Option<u32> {
        if self.hub.users.contains_key(name) {
            let refusal = bookstore::Refusal::UserExists(name.to_string());
            self.hub.reply(ticket, Outcome::Refused(refusal));
            return None;
        }
        let number = self.next_account;
        self.next_account += 1;
        let mut account = Account::new(AccountNo(number));
        let secret = bookstore::internals::domain::Blob(secret.into());
        let event = AccountEvent::Registered { user_id: (**name).into(), secret };
        let kind = account.encode_event(&event, now, &mut self.hub.bytes);
        self.hub.journal.append(kind, EVENT_VERSION, &self.hub.bytes);
        account.apply(&event, now);
        self.hub.users.insert(name.clone(), number);
        self.accounts.insert(number, Slot { name: name.clone(), place: Place::Row(account.encode()) });
        self.hub.reply(ticket, Outcome::Done);
        Some(number)
    }

    /// A number and a slot for a store that is going to be created.
    pub(crate) fn prepare_store(&mut self, name: &Arc<str>) -> u32 {
        let number = self.next_store;
        self.next_store += 1;
        let store = Box::new(Store::new(StoreNo(number)));
        self.stores.insert(number, Slot { name: name.clone(), place: Place::Awake(store) });
        number
    }

    /// Drops collected evidence.
    pub(crate) fn flush_evidence(&mut self) {
        for shard in 0..SHARDS {
            self.hub.post.send(End::Timer, Send::Order(shard, OrderMsg::Flush));
        }
    }

    /// Everything, counted: what is in memory, and what is on disk alone.
    pub(crate) fn tally(&self) -> Result<AuditReport, String> {
        let mut tally = Tally::new();
        for slot in self.accounts.values() {
            tally.add_account(Some(&slot.name), &slot.row()).map_err(|error| error.to_string())?;
        }
        for slot in self.stores.values() {
            let row = slot.row();
            if Store::decode(&row).map_err(|error| error.to_string())?.seq() > 0 {
                tally.add_store(Some(&slot.name), &row).map_err(|error| error.to_string())?;
            }
        }
        for (id, order) in self.orders()? {
            tally.add_order(id, &order);
        }
        Ok(tally.report())
    }

    /// Every order, wherever it is.
    pub(crate) fn orders(&self) -> Result<BTreeMap<OrderId, Order>, String> {
        let mut orders = BTreeMap::new();
        if !self.hub.resting.is_empty() {
            let view = self.hub.resting.view().map_err(|error| error.to_string())?;
            let all = view.each(|id, order| drop(orders.insert(id, order)));
            all.map_err(|error| error.to_string())?;
        }
        for shard in &self.shards {
            orders.extend(shard.in_memory().into_iter().map(|(id, order)| (id, order.clone())));
        }
        Ok(orders)
    }
}

type Recovered = (Box<str>, bool, Box<[u8]>);

/// Takes what was recovered.
#[derive(Default)]
pub(crate) struct Receiver {
    /// Name, whether it is closed, and row.
    pub(crate) accounts: BTreeMap<u32, Recovered>,
    pub(crate) stores: BTreeMap<u32, (Arc<str>, Store)>,
}

impl Receive for Receiver {
    fn account(&mut self, number: AccountNo, name: Box<str>, closed: bool, row: Box<[u8]>) {
        self.accounts.insert(number.0, (name, closed, row));
    }

    fn store(&mut self, number: StoreNo, name: Arc<str>, store: Store) {
        self.stores.insert(number.0, (name, store));
    }
}
