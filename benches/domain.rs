//! What the rules cost by themselves: judging and applying with every event encoded, as an actor does it, but with no
//! actor, no journal and no disk; and events and rows as bytes.
//!
//! ```sh
//! cargo bench --bench domain
//! cargo bench --bench domain -- --test   # each once, in seconds
//! ```

#![allow(clippy::unwrap_used, reason = "a bench ends by panicking")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bookstore::internals::domain::{
    Account, AccountEvent, AccountMsg, AccountNo, Address, Blob, Cred, DocumentHash, EVENT_VERSION, Effect, Entity,
    NewBook, NewLine, ORDER_COUNT_BITS, OrderId, OrderMsg, OrderShard, Outcome, PayKind, Send, Store, StoreEvent,
    StoreMsg, StoreNo, Ticket, decode, decode_row, encode, encode_row,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: u64 = 1_700_000_000_000;
/// No order expires.
const TTL: u64 = 1 << 40;
const BUYER: AccountNo = AccountNo(1);
const SELLER: AccountNo = AccountNo(2);
const STORE: StoreNo = StoreNo(1);
const TICKET: Ticket = Ticket(1);
const PLENTY: i64 = 1 << 50;
const BOOKS: u64 = 1_000;

/// An entity, and what it may lose.
struct Living<E: Entity> {
    entity: E,
    work: E::Work,
}

impl<E: Entity> Living<E> {
    fn new(entity: E) -> Self {
        Living { entity, work: E::Work::default() }
    }

    /// One step of the shell: judge, encode and apply, pass on. An answer is the step's outcome.
    fn step(
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
struct World {
    buyer: Living<Account>,
    seller: Living<Account>,
    store: Living<Store>,
    shard: Living<OrderShard>,
    queue: VecDeque<Send>,
    /// The event encoded last.
    bytes: Vec<u8>,
}

impl World {
    fn new() -> Self {
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
            bytes: Vec::new(),
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
        let (queue, bytes) = (&mut self.queue, &mut self.bytes);
        while let Some(send) = queue.pop_front() {
            let said = match send {
                Send::Account(number, msg) => {
                    let living = if number == BUYER { &mut self.buyer } else { &mut self.seller };
                    living.step(msg, queue, &mut |_, event| {
                        encode(event, number, 1, NOW, bytes);
                    })
                }
                Send::Store(_, msg) => self.store.step(msg, queue, &mut |_, event| {
                    encode(event, STORE, 1, NOW, bytes);
                }),
                Send::Order(_, msg) => self.shard.step(msg, queue, &mut |_, (id, event)| {
                    encode(event, *id, 1, NOW, bytes);
                }),
                Send::Forget(address, evidence) => {
                    match address {
                        Address::Account(BUYER) => self.buyer.entity.forget(&evidence),
                        Address::Account(_) => self.seller.entity.forget(&evidence),
                        Address::Store(_) => self.store.entity.forget(&evidence),
                    }
                    None
                }
            };
            answer = said.or(answer);
        }
        answer
    }

    fn done(&mut self, send: Send) {
        let answer = self.run(send);
        assert!(matches!(answer, Some(Outcome::Done)), "{answer:?}");
    }

    fn add_funds(&mut self, value: i64) {
        self.done(Send::Account(
            BUYER,
            AccountMsg::AddFunds { ticket: TICKET, cred: Cred::Trusted, value, has_room: true, key: None, keys_max: 0 },
        ));
    }

    fn place(&mut self, number: u64, lines: u64) -> OrderId {
        let order = OrderId::new((NOW << ORDER_COUNT_BITS) + number, BUYER, number);
        let lines = wanted(number, lines);
        let (ticket, buyer, store, ttl, pending_max) = (TICKET, BUYER, STORE, TTL, usize::MAX);
        let msg = OrderMsg::Place { ticket, order, buyer, store, lines, ttl, pending_max, key: None };
        let answer = self.run(Send::Order(order.shard(), msg));
        assert!(matches!(answer, Some(Outcome::Placed(_))), "{answer:?}");
        order
    }

    fn pay(&mut self, order: OrderId) {
        let (ticket, user, cred, kind) = (TICKET, Some(BUYER), Cred::Trusted, PayKind::Direct);
        self.done(Send::Order(order.shard(), OrderMsg::Pay { ticket, order, user, cred, kind, key: None }));
    }
}

fn book(number: u64) -> String {
    format!("book-{number:04}")
}

fn wanted(number: u64, lines: u64) -> Vec<NewLine> {
    (number..number + lines).map(|line| NewLine { book_id: book(line % BOOKS).into(), count: 1 }).collect()
}

/// Judged, encoded and applied: one entity, and the sagas across several.
fn handle_apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handle_apply");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(1));
    group.bench_function("add_funds", |bencher| {
        let mut world = World::new();
        bencher.iter(|| world.add_funds(black_box(1)));
    });
    for lines in [1, 5] {
        group.bench_function(format!("new_order_{lines}_lines"), |bencher| {
            bencher.iter_custom(|count| {
                let mut world = World::new();
                let began = Instant::now();
                for number in 0..count {
                    black_box(world.place(number, lines));
                }
                began.elapsed()
            });
        });
    }
    group.bench_function("payment", |bencher| {
        bencher.iter_custom(|count| {
            let mut world = World::new();
            let orders: Vec<_> = (0..count).map(|number| world.place(number, 1)).collect();
            let began = Instant::now();
            for order in orders {
                world.pay(order);
            }
            began.elapsed()
        });
    });
    group.finish();
}

/// The event of an order of five lines.
fn reserved() -> StoreEvent {
    let mut world = World::new();
    let order = OrderId::new(NOW << ORDER_COUNT_BITS, BUYER, 1);
    let msg = StoreMsg::Reserve { order, buyer: BUYER, lines: wanted(0, 5), ttl: TTL, key: None };
    let mut effects = Vec::new();
    world.store.entity.handle(&mut world.store.work, msg, NOW, &mut effects);
    let event = effects.into_iter().find_map(|effect| match effect {
        Effect::Append(event) => Some(event),
        _ => None,
    });
    event.unwrap()
}

/// Events as the journal holds them, rows as a snapshot and a sleeping entity hold them.
fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    let event = reserved();
    let mut bytes = Vec::new();
    let kind = encode(&event, STORE, 1, NOW, &mut bytes);
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let mut out = Vec::new();
    group.bench_function("encode_event_5_lines", |bencher| {
        bencher.iter(|| encode(black_box(&event), STORE, 1, NOW, &mut out));
    });
    group.bench_function("decode_event_5_lines", |bencher| {
        bencher.iter(|| decode(kind, EVENT_VERSION, black_box(&bytes)).unwrap());
    });
    let world = World::new();
    let row = encode_row(&world.buyer.entity);
    group.throughput(Throughput::Bytes(row.len() as u64));
    group.bench_function("encode_row_account", |bencher| bencher.iter(|| encode_row(black_box(&world.buyer.entity))));
    group.bench_function("decode_row_account", |bencher| {
        bencher.iter(|| decode_row::<Account>(black_box(&row)).unwrap());
    });
    let row = encode_row(&world.store.entity);
    group.throughput(Throughput::Bytes(row.len() as u64));
    group.bench_function("encode_row_store_1000_books", |bencher| {
        bencher.iter(|| encode_row(black_box(&world.store.entity)));
    });
    group.bench_function("decode_row_store_1000_books", |bencher| {
        bencher.iter(|| decode_row::<Store>(black_box(&row)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, handle_apply, codec);
criterion_main!(benches);
