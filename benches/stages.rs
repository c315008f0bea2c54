//! Each stage of an order alone, and all of them together, in process: with one caller, with 64 and with 1,024, in memory
//! and with each answer on the disk.
//!
//! ```sh
//! cargo bench --bench stages
//! cargo bench --bench stages -- gate      # one stage
//! cargo test --bench stages               # each once, in seconds
//! ```
//!
//! | group | one iteration is |
//! |---|---|
//! | `parse` | a request's body becomes typed fields |
//! | `admit` | a permit, a ticket, and both given back; nothing is waited for |
//! | `hop` | one message to an actor through its mailbox and the shell, and word back |
//! | `handle_apply` | one step of the saga judged and applied, by its event; nothing is encoded |
//! | `encode` | an event written as the journal holds it |
//! | `append` | a frame put into the journal's buffer; nobody writes it out meanwhile |
//! | `gate` | a command admitted, its frame appended, its answer released when the frame is durable |
//! | `answer` | an outcome becomes an HTTP answer |
//! | `service` | a whole `new_order` through the HTTP service, without a socket |
//!
//! Whole calls without HTTP are in the bench `engine`. With several callers the time is that of all of them together,
//! divided by the calls: they use all cores, so it may be below the time of one caller. The files lie in `target/tmp`, so
//! the figures are those of that disk.

#![allow(clippy::unwrap_used, reason = "a bench ends by panicking")]

#[path = "common/bodies.rs"]
mod bodies;
mod common;
#[path = "common/world.rs"]
mod world;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bodies::{headers, new_order_body, payment_body};
use bookstore::disk::RealDisk;
use bookstore::http::{HttpConfig, HttpService, Mode};
use bookstore::internals::actors::Answers;
use bookstore::internals::domain::Outcome;
use bookstore::internals::engine::hop;
use bookstore::internals::http::{answer_new_order, answer_payment, parse_new_order, parse_payment};
use bookstore::internals::journal::{
    FileLog, FileLogOptions, Journal, JournalOptions, Lsn, MemoryLog, MemoryMedium, Observer, Stepped, Stepper,
};
use bookstore::{Durability, Engine};
use common::{BUYERS, CALLERS, buyer, each, fill, group, open, store, temporary};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tower_service::Service;
use world::{World, encode_record, order_id};

/// As in the program: actors box every message.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Orders that make a step together.
const TOGETHER: u64 = 512;
/// As large as the event of a small order.
const PAYLOAD: [u8; 64] = [0x5a; 64];
/// Frames that pile up before they are taken out.
const PILE: u64 = 4_096;

fn parse(criterion: &mut Criterion) {
    let mut group = group(criterion, "parse");
    group.throughput(Throughput::Elements(1));
    for lines in [1, 5] {
        let body = new_order_body(lines);
        assert_eq!(parse_new_order(body.as_bytes(), 1_000), Some(lines as usize));
        group.bench_function(format!("new_order_{lines}_lines"), |bencher| {
            bencher.iter(|| parse_new_order(black_box(body.as_bytes()), 1_000));
        });
    }
    let body = payment_body(order_id(1));
    assert!(parse_payment(body.as_bytes()).is_some());
    group.bench_function("payment", |bencher| bencher.iter(|| parse_payment(black_box(body.as_bytes()))));
    group.finish();
}

fn answer(criterion: &mut Criterion) {
    let mut group = group(criterion, "answer");
    group.throughput(Throughput::Elements(1));
    let order = order_id(1);
    let headers = headers();
    group.bench_function("new_order", |bencher| bencher.iter(|| answer_new_order(&headers, black_box(order))));
    group.bench_function("payment", |bencher| bencher.iter(|| answer_payment(&headers)));
    group.finish();
}

/// Each step of an order and its payment for itself.
fn handle_apply(criterion: &mut Criterion) {
    for lines in [1, 5] {
        let mut group = group(criterion, &format!("handle_apply_{lines}_lines"));
        group.throughput(Throughput::Elements(1));
        for step in ["place", "reserved", "placed", "pay", "held", "credited", "paid"] {
            group.bench_function(step, |bencher| {
                bencher.iter_custom(|count| {
                    let mut world = World::new();
                    world.encodes = false;
                    let (mut took, mut was_there) = (Duration::ZERO, false);
                    for first in (0..count).step_by(TOGETHER as usize) {
                        world.steps(first..count.min(first + TOGETHER), lines, &mut |name, run| {
                            let began = Instant::now();
                            run();
                            if name == step {
                                took += began.elapsed();
                                was_there = true;
                            }
                        });
                    }
                    assert!(was_there, "no order makes the step {step}");
                    took
                });
            });
        }
        group.finish();
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = group(criterion, "encode");
    group.throughput(Throughput::Elements(1));
    for (name, event) in World::new().events_of_a_paid_order(5) {
        let mut out = Vec::new();
        group.bench_function(name, |bencher| bencher.iter(|| encode_record(black_box(&event), &mut out)));
    }
    group.finish();
}

/// Tells the gate, as the engine does it: the journal's thread wakes one task.
struct Gate {
    answers: Answers,
    moved: Notify,
}

impl Observer for Gate {
    fn advanced(&self, durable: Lsn) {
        self.answers.advanced(durable);
        self.moved.notify_one();
    }
    fn failed(&self, why: &str) {
        panic!("the journal failed: {why}");
    }
}

fn gate_of(runtime: &Runtime) -> Arc<Gate> {
    let gate = Arc::new(Gate { answers: Answers::new(65_536, 256 << 20), moved: Notify::new() });
    let released = gate.clone();
    runtime.spawn(async move {
        loop {
            released.moved.notified().await;
            released.answers.release_ready();
        }
    });
    gate
}

fn options(durability: Durability) -> JournalOptions {
    JournalOptions { durability, sync_interval: Duration::from_millis(50), commit_delay: Duration::from_micros(50) }
}

/// A journal without a log: what is appended is durable at once.
fn unlogged(gate: &Arc<Gate>) -> Journal {
    Journal::start(None, 0, 1, options(Durability::Snapshot), gate.clone()).unwrap()
}

/// With several callers: `count` calls of `call` on all cores.
fn timed<S, F>(
    runtime: &Runtime,
    shared: &S,
    callers: u64,
    count: u64,
    call: impl Fn(S, u64) -> F + Clone + Send + 'static,
) -> Duration
where
    S: Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let began = Instant::now();
    runtime.block_on(each(shared, callers, count, call));
    began.elapsed()
}

async fn pass(gate: Arc<Gate>, journal: Journal, appends: bool) {
    let admission = gate.answers.admit(64, None).await.unwrap();
    if appends {
        journal.append(1, 1, black_box(&PAYLOAD));
    }
    gate.answers.reply(admission.ticket, Outcome::Done, &journal);
    admission.answer.await.unwrap();
}

fn admit(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let gate = gate_of(&runtime);
    let journal = unlogged(&gate);
    let mut group = group(criterion, "admit");
    group.throughput(Throughput::Elements(1));
    for callers in CALLERS {
        group.bench_function(format!("{callers}_callers"), |bencher| {
            bencher.iter_custom(|count| {
                timed(&runtime, &(gate.clone(), journal.clone()), callers, count, |(gate, journal), _| {
                    pass(gate, journal, false)
                })
            });
        });
    }
    group.finish();
    journal.close().unwrap();
}

fn actor_hop(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let engine = runtime.block_on(open(None, Durability::Snapshot));
    let mut group = group(criterion, "hop");
    group.throughput(Throughput::Elements(1));
    for callers in CALLERS {
        group.bench_function(format!("{callers}_callers"), |bencher| {
            bencher.iter_custom(|count| {
                timed(&runtime, &engine, callers, count, |engine, number| async move {
                    assert!(hop(&engine, number as usize).await);
                })
            });
        });
    }
    group.finish();
}

/// Lets all steps of the journal happen that wait for nobody.
fn drain(stepper: &mut Stepper) {
    while matches!(stepper.step(), Stepped::Went) {}
}

fn append(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let gate = gate_of(&runtime);
    let mut group = group(criterion, "append");
    group.throughput(Throughput::Elements(1));
    for callers in CALLERS {
        let (log, _) = MemoryLog::open(&MemoryMedium::new(), 0, &mut |_| Ok(())).unwrap();
        let (journal, mut stepper) =
            Journal::by_hand(Some(Box::new(log)), 0, 1, options(Durability::Sync), gate.clone()).unwrap();
        group.bench_function(format!("{callers}_callers"), |bencher| {
            bencher.iter_custom(|count| {
                let mut took = Duration::ZERO;
                for first in (0..count).step_by(PILE as usize) {
                    let pile = PILE.min(count - first);
                    took += timed(&runtime, &journal, callers, pile, |journal, _| async move {
                        journal.append(1, 1, black_box(&PAYLOAD));
                    });
                    drain(&mut stepper);
                    journal.trim(journal.durable());
                    drain(&mut stepper);
                }
                took
            });
        });
    }
    group.finish();
}

fn gate(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = temporary();
    let memory = gate_of(&runtime);
    let sync = gate_of(&runtime);
    let segment = FileLogOptions { segment_bytes: 64 << 20 };
    let (log, _) = FileLog::open(Arc::new(RealDisk), dir.path(), segment, 0, &mut |_| Ok(())).unwrap();
    let logged = Journal::start(Some(Box::new(log)), 0, 1, options(Durability::Sync), sync.clone()).unwrap();
    let journals = [("memory", memory.clone(), unlogged(&memory)), ("sync", sync, logged)];
    let mut group = group(criterion, "gate");
    group.throughput(Throughput::Elements(1));
    for (mode, gate, journal) in journals {
        for callers in CALLERS {
            group.bench_function(BenchmarkId::new(mode, format!("{callers}_callers")), |bencher| {
                bencher.iter_custom(|count| {
                    timed(&runtime, &(gate.clone(), journal.clone()), callers, count, |(gate, journal), _| {
                        pass(gate, journal, true)
                    })
                });
            });
            // Old segments go, so that the disk does not fill.
            journal.trim(journal.durable());
        }
        journal.close().unwrap();
    }
    group.finish();
}

async fn post(mut service: HttpService, number: u64) {
    let (buyer, store) = (buyer(number % BUYERS), store(number));
    let body = format!(r#"{{"user_id":"{buyer}","store_id":"{store}","books":[{{"id":"book","count":1}}]}}"#);
    let request = Request::post("/buyer/new_order").body(Full::new(Bytes::from(body))).unwrap();
    let answer = service.call(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    black_box(answer.into_body().collect().await.unwrap());
}

/// A whole request, from its body to its answer's.
fn service(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = temporary();
    let memory = runtime.block_on(open(None, Durability::Snapshot));
    let sync = runtime.block_on(open(Some(dir.path()), Durability::Sync));
    let mut group = group(criterion, "service");
    group.throughput(Throughput::Elements(1));
    for (mode, engine) in [("memory", memory), ("sync", sync)] {
        runtime.block_on(fill(&engine, BUYERS));
        let service = service_of(engine.clone());
        for callers in CALLERS {
            group.bench_function(BenchmarkId::new(mode, format!("{callers}_callers")), |bencher| {
                bencher.iter_custom(|count| timed(&runtime, &service, callers, count, post));
            });
        }
        let audit = runtime.block_on(engine.audit()).unwrap();
        assert!(audit.is_conserved(), "{audit:?}");
    }
    group.finish();
}

/// Without tokens, and nothing is shed: what is measured is how long all of it takes.
fn service_of(engine: Engine) -> HttpService {
    let mut config = HttpConfig::default();
    config.mode = Mode::Compat;
    config.engine_delay_max = Duration::ZERO;
    HttpService::new(engine, config)
}

criterion_group!(benches, parse, admit, actor_hop, handle_apply, encode, append, gate, answer, service);
criterion_main!(benches);
