//! A shop with no actor, no journal and no disk: the entities and a small interpreter of their effects.

#![allow(dead_code, unreachable_pub, reason = "shared by several benches, each of which uses a part")]

use std::collections::VecDeque;

use bookstore::internals::domain::{
    Account, AccountEvent, AccountMsg, AccountNo, Address, Blob, Cred, DocumentHash, Effect, Entity, NewBook, NewLine,
    ORDER_COUNT_BITS, Order, OrderEvent, OrderId, OrderMsg, OrderShard, Outcome, PayKind, Record, Send, Store,
    StoreMsg, StoreNo, Ticket, encode,
};

pub const NOW: u64 = 1_700_000_000_000;
/// No order expires.
const TTL: u64 = 1 << 40;
pub const BUYER: AccountNo = AccountNo(1);
const SELLER: AccountNo = AccountNo(2);
pub const STORE: StoreNo = StoreNo(1);
const TICKET: Ticket = Ticket(1);
const PLENTY: i64 = 1 << 50;
pub const BOOKS: u64 = 1_000;

/// An entity, and what it may lose.
pub struct Living<E: Entity> {
    pub entity: E,
    pub work: E::Work,
}

impl<E: Entity> Living<E> {
    pub fn new(entity: E) -> Self {
        Living { entity, work: E::Work::default() }
    }

    /// One step of the shell: judge, encode and apply, pass on. An answer is the step's outcome.
    pub fn step(
        &mut self,
        msg: E::Msg,
        queue: &mut VecDeque<Send>,
        encode: &mut dyn FnMut(&E, &E::Event),
    ) -> Option<Outcome> {
        let mut effects = Vec::new();
        self.entity.handle(&mut self.work, msg, NOW, &mut effects);
        let mut answer = None;
        for effect in effects {
            match effect {
                Effect::Append(event) => {
                    encode(&self.entity, &event);
                    self.entity.apply(&event, NOW);
                }
                Effect::Send(send) => queue.push_back(send),
                Effect::Reply(_, outcome) => answer = Some(outcome),
                Effect::Again(msg) => answer = self.step(msg, queue, encode).or(answer),
                // Timers and what moves between memory and disk: nothing of it happens here.
                _ => {}
            }
        }
        answer
    }
}

/// One shop: a buyer, a seller with a store of [`BOOKS`] books, and the shard of the buyer's orders.
pub struct World {
    pub buyer: Living<Account>,
    pub seller: Living<Account>,
    pub store: Living<Store>,
    pub shard: Living<OrderShard>,
    queue: VecDeque<Send>,
    /// Whether each event is encoded before it is applied, as an actor does it.
    pub encodes: bool,
    /// The event encoded last.
    bytes: Vec<u8>,
    /// Events since somebody asked for them.
    events: Option<Vec<Record>>,
}

impl World {
    pub fn new() -> Self {
        let account = |number| {
            let mut account = Account::new(number);
            account.apply(&AccountEvent::Registered { user_id: "user".into(), secret: Blob(Box::default()) }, NOW);
            Living::new(account)
        };
        let mut world = World {
            buyer: account(BUYER),
            seller: account(SELLER),
            store: Living::new(Store::new(STORE)),
            shard: Living::new(OrderShard::default()),
            queue: VecDeque::new(),
            encodes: true,
            bytes: Vec::new(),
            events: None,
        };
        world.done(Send::Store(STORE, StoreMsg::Create { ticket: TICKET, owner: SELLER, store_id: "store".into() }));
        for number in 0..BOOKS {
            let document = DocumentHash::of(b"{}");
            let book = NewBook { id: book(number).into(), price: 100, stock: PLENTY, document };
            world
                .done(Send::Store(STORE, StoreMsg::AddBook { ticket: TICKET, user: SELLER, book, books_max: 100_000 }));
        }
        world.add_funds(PLENTY);
        world
    }

    /// Delivers a message and all that it causes. What was answered.
    fn run(&mut self, send: Send) -> Option<Outcome> {
        self.queue.push_back(send);
        let mut answer = None;
        while let Some(send) = self.queue.pop_front() {
            answer = self.deliver(send).or(answer);
        }
        answer
    }

    /// Delivers a message; what it causes is in the queue then.
    fn deliver(&mut self, send: Send) -> Option<Outcome> {
        let (queue, bytes, encodes, events) = (&mut self.queue, &mut self.bytes, self.encodes, &mut self.events);
        match send {
            Send::Account(number, msg) => {
                let living = if number == BUYER { &mut self.buyer } else { &mut self.seller };
                living.step(msg, queue, &mut |_, event| {
                    if encodes {
                        encode(event, number, 1, NOW, bytes);
                    }
                    if let Some(events) = events {
                        events.push(Record::Account(number, 1, NOW, event.clone()));
                    }
                })
            }
            Send::Store(number, msg) => self.store.step(msg, queue, &mut |_, event| {
                if encodes {
                    encode(event, number, 1, NOW, bytes);
                }
                if let Some(events) = events {
                    events.push(Record::Store(number, 1, NOW, event.clone()));
                }
            }),
            Send::Order(_, msg) => self.shard.step(msg, queue, &mut |_, (id, event)| {
                if encodes {
                    encode(event, *id, 1, NOW, bytes);
                }
                if let Some(events) = events {
                    events.push(Record::Order(*id, 1, NOW, event.clone()));
                }
            }),
            Send::Forget(address, evidence) => {
                match address {
                    Address::Account(BUYER) => self.buyer.entity.forget(&evidence),
                    Address::Account(_) => self.seller.entity.forget(&evidence),
                    Address::Store(_) => self.store.entity.forget(&evidence),
                }
                None
            }
        }
    }

    /// Places and pays orders of so many lines, step by step: first all make their first step, then their second.
    /// `timed` is given each step's name and what runs it for all orders.
    pub fn steps(
        &mut self,
        orders: std::ops::Range<u64>,
        lines: u64,
        timed: &mut dyn FnMut(&'static str, &mut dyn FnMut()),
    ) {
        let ids: Vec<_> = orders.map(|number| (number, order_id(number))).collect();
        self.queue.extend(ids.iter().map(|&(number, order)| place_message(order, number, lines)));
        self.step_by_step(timed);
        self.queue.extend(ids.iter().map(|&(_, order)| pay_message(order)));
        self.step_by_step(timed);
    }

    fn step_by_step(&mut self, timed: &mut dyn FnMut(&'static str, &mut dyn FnMut())) {
        while let Some(name) = self.queue.front().map(step_name) {
            // What drops evidence comes in between, once for many orders.
            let (mut batch, rest): (VecDeque<_>, _) = self.queue.drain(..).partition(|send| step_name(send) == name);
            self.queue = rest;
            timed(name, &mut || {
                for send in batch.drain(..) {
                    self.deliver(send);
                }
            });
        }
    }

    /// The events of one order, with their names.
    pub fn events_of_a_paid_order(&mut self, lines: u64) -> Vec<(&'static str, Record)> {
        self.events = Some(Vec::new());
        let order = self.place(0, lines);
        self.pay(order);
        let events = self.events.take().unwrap_or_default();
        events.into_iter().map(|event| (event_name(&event), event)).collect()
    }

    fn done(&mut self, send: Send) {
        let answer = self.run(send);
        assert!(matches!(answer, Some(Outcome::Done)), "{answer:?}");
    }

    pub fn add_funds(&mut self, value: i64) {
        self.done(Send::Account(
            BUYER,
            AccountMsg::AddFunds { ticket: TICKET, cred: Cred::Trusted, value, has_room: true, key: None, keys_max: 0 },
        ));
    }

    pub fn place(&mut self, number: u64, lines: u64) -> OrderId {
        let order = order_id(number);
        let answer = self.run(place_message(order, number, lines));
        assert!(matches!(answer, Some(Outcome::Placed(_))), "{answer:?}");
        order
    }

    /// An order as it stands now.
    pub fn order(&mut self, order: OrderId) -> Box<Order> {
        let look = OrderMsg::Look { ticket: TICKET, order, user: BUYER, is_seller: false };
        match self.run(Send::Order(order.shard(), look)) {
            Some(Outcome::Order(order)) => order,
            other => panic!("{other:?}"),
        }
    }

    pub fn pay(&mut self, order: OrderId) {
        self.done(pay_message(order));
    }
}

/// The id of the order of this number.
pub fn order_id(number: u64) -> OrderId {
    OrderId::new((NOW << ORDER_COUNT_BITS) + number, BUYER, number)
}

fn place_message(order: OrderId, number: u64, lines: u64) -> Send {
    let lines = wanted(number, lines);
    let (ticket, buyer, store, ttl, pending_max) = (TICKET, BUYER, STORE, TTL, usize::MAX);
    Send::Order(order.shard(), OrderMsg::Place { ticket, order, buyer, store, lines, ttl, pending_max, key: None })
}

fn pay_message(order: OrderId) -> Send {
    let (ticket, user, cred, kind) = (TICKET, Some(BUYER), Cred::Trusted, PayKind::Direct);
    Send::Order(order.shard(), OrderMsg::Pay { ticket, order, user, cred, kind, key: None })
}

/// A step by the event that it appends, or by its message if it appends none.
fn step_name(send: &Send) -> &'static str {
    match send {
        Send::Order(_, OrderMsg::Place { .. }) => "place",
        Send::Order(_, OrderMsg::Reserved { .. }) => "placed",
        Send::Order(_, OrderMsg::Pay { .. }) => "pay",
        Send::Order(_, OrderMsg::Credited { .. }) => "paid",
        Send::Store(_, StoreMsg::Reserve { .. }) => "reserved",
        Send::Account(_, AccountMsg::Hold { .. }) => "held",
        Send::Account(_, AccountMsg::Credit { .. }) => "credited",
        Send::Forget(..) => "forget",
        Send::Order(..) | Send::Store(..) | Send::Account(..) => "other",
    }
}

fn event_name(event: &Record) -> &'static str {
    match event {
        Record::Store(..) => "reserved",
        Record::Order(.., OrderEvent::Placed(_)) => "placed",
        Record::Order(..) => "paid",
        Record::Account(.., AccountEvent::Held { .. }) => "held",
        Record::Account(..) => "credited",
    }
}

/// Writes an event as the journal holds it; its kind.
pub fn encode_record(record: &Record, out: &mut Vec<u8>) -> u8 {
    match record {
        Record::Account(number, seq, at, event) => encode(event, *number, *seq, *at, out),
        Record::Store(number, seq, at, event) => encode(event, *number, *seq, *at, out),
        Record::Order(id, seq, at, event) => encode(event, *id, *seq, *at, out),
    }
}

fn book(number: u64) -> String {
    format!("book-{number:04}")
}

fn wanted(number: u64, lines: u64) -> Vec<NewLine> {
    (number..number + lines).map(|line| NewLine { book_id: book(line % BOOKS).into(), count: 1 }).collect()
}
