//! Who waits for an answer, how many may, and the gate that keeps an answer back until what it rests on is durable.

use std::sync::PoisonError;

use tokio::sync::oneshot;

use crate::domain::{Outcome, Ticket};
use crate::journal::{Journal, Lsn};
use crate::planted::{Fault, planted};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, Notify};
use crate::trace::{self, Commit, Request};

const SHARDS: usize = 64;

/// Beside the count in the word at the door: nobody is admitted any more.
const DRAINING: usize = 1 << (usize::BITS - 1);
/// Whoever comes waits.
const HELD: usize = 1 << (usize::BITS - 2);
const COUNT: usize = HELD - 1;

/// Runs when the answer is known, also if the caller has gone.
pub type Then = Box<dyn FnOnce(&Outcome) + Send>;

/// Why a command was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// As many commands as may be are in flight.
    Permits,
    /// The journal's buffer is promised to others.
    Buffer,
    /// The engine is closing.
    Draining,
    /// The journal failed.
    Failed,
}

/// What a command waits with.
#[derive(Debug)]
pub struct Admission {
    /// Names who waits.
    pub ticket: Ticket,
    /// Gets the answer when it may leave.
    pub answer: oneshot::Receiver<Outcome>,
}

struct Waiter {
    answer: oneshot::Sender<Outcome>,
    bytes: usize,
    then: Option<Then>,
    /// For whose request it is.
    request: Request,
}

struct Gated {
    lsn: Lsn,
    waiter: Waiter,
    outcome: Outcome,
    /// Ends when the answer leaves.
    _commit: Option<Box<Commit>>,
}

#[derive(Default)]
struct Slab {
    waiters: Vec<Option<Waiter>>,
    free: Vec<u32>,
}

/// Tickets, permits and the gate.
///
/// A permit is taken at the door and given back when the answer leaves; it promises room in the journal's buffer, so
/// that an append inside an actor never waits and never fails.
pub struct Answers {
    slabs: [Mutex<Slab>; SHARDS],
    turn: AtomicUsize,
    /// How many are in flight, and whether the door is shut. One word, so that who comes in and who shuts the door
    /// cannot miss one another.
    door: AtomicUsize,
    in_flight_max: usize,
    promised: AtomicUsize,
    promised_max: usize,
    /// A std mutex: it is held for a push or a scan, never across an await.
    gate: Mutex<Vec<Gated>>,
    /// As far as the journal's thread has said.
    durable: AtomicU64,
    moved: Notify,
    failed: AtomicBool,
    resumed: Notify,
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answers {
    /// With the most commands that may be in flight, and the most bytes that may be promised to them.
    pub fn new(in_flight_max: usize, promised_max: usize) -> Self {
        Answers {
            slabs: std::array::from_fn(|_| Mutex::default()),
            turn: AtomicUsize::new(0),
            door: AtomicUsize::new(0),
            in_flight_max,
            promised: AtomicUsize::new(0),
            promised_max,
            gate: Mutex::default(),
            durable: AtomicU64::new(0),
            moved: Notify::new(),
            failed: AtomicBool::new(false),
            resumed: Notify::new(),
        }
    }

    /// Commands that were admitted and are not answered.
    pub fn in_flight(&self) -> usize {
        self.door.load(Ordering::Acquire) & COUNT
    }

    /// The most that may be in flight.
    pub(crate) fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    /// Admits a command that journals at most `bytes`. Waits only while an audit holds admission.
    pub async fn admit(&self, bytes: usize, then: Option<Then>) -> Result<Admission, Busy> {
        loop {
            let door = self.door.fetch_add(1, Ordering::AcqRel);
            let busy = if door & DRAINING != 0 {
                Some(Busy::Draining)
            } else if self.is_failed() {
                Some(Busy::Failed)
            } else {
                (door & COUNT >= self.in_flight_max).then_some(Busy::Permits)
            };
            if let Some(busy) = busy {
                self.leave();
                return Err(busy);
            }
            if door & HELD == 0 {
                break;
            }
            self.leave();
            let resumed = self.resumed.notified();
            if self.door.load(Ordering::Acquire) & HELD != 0 {
                resumed.await;
            }
        }
        if self.promised.fetch_add(bytes, Ordering::AcqRel) + bytes > self.promised_max {
            self.promised.fetch_sub(bytes, Ordering::AcqRel);
            self.leave();
            return Err(Busy::Buffer);
        }
        let (sender, answer) = oneshot::channel();
        let ticket = self.insert(Waiter { answer: sender, bytes, then, request: trace::current() });
        // A failure between the look above and here has not seen this waiter.
        if let Some(waiter) = self.is_failed().then(|| self.remove(ticket)).flatten() {
            self.release(waiter, Outcome::Unknown);
        }
        Ok(Admission { ticket, answer })
    }

    fn insert(&self, waiter: Waiter) -> Ticket {
        let shard = self.turn.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut slab = lock(&self.slabs[shard]);
        let index = match slab.free.pop() {
            Some(index) => {
                slab.waiters[index as usize] = Some(waiter);
                index as usize
            }
            None => {
                slab.waiters.push(Some(waiter));
                slab.waiters.len() - 1
            }
        };
        Ticket((index * SHARDS + shard) as u64 + 1)
    }

    fn remove(&self, ticket: Ticket) -> Option<Waiter> {
        let place = ticket.0.checked_sub(1)? as usize;
        let mut slab = lock(&self.slabs[place % SHARDS]);
        let waiter = slab.waiters.get_mut(place / SHARDS)?.take()?;
        slab.free.push((place / SHARDS) as u32);
        Some(waiter)
    }

    /// For whose request the command is that waits with this ticket; nobody's if it was answered.
    pub(crate) fn request(&self, ticket: Ticket) -> Request {
        let Some(place) = ticket.0.checked_sub(1).map(|place| place as usize) else { return Request::None };
        let slab = lock(&self.slabs[place % SHARDS]);
        let waiter = slab.waiters.get(place / SHARDS).and_then(Option::as_ref);
        waiter.map(|waiter| waiter.request.clone()).unwrap_or_default()
    }

    /// Gives an answer. It leaves when the journal is durable up to its head of now: whatever the answer was judged
    /// from, nothing that was told can vanish.
    pub fn reply(&self, ticket: Ticket, outcome: Outcome, journal: &Journal) {
        let Some(mut waiter) = self.remove(ticket) else { return };
        if let Some(then) = waiter.then.take() {
            then(&outcome);
        }
        let lsn = journal.head() - u64::from(planted(Fault::GateOffByOne));
        if (journal.durable() >= lsn && !self.is_failed()) || planted(Fault::AnswerBeforeGate) {
            return self.release(waiter, outcome);
        }
        let mut gate = lock(&self.gate);
        // Looked at again under the lock: the journal's thread moves its mark first and scans the gate second.
        if self.is_failed() {
            drop(gate);
            self.release(waiter, Outcome::Unknown);
        } else if journal.durable() >= lsn {
            drop(gate);
            self.release(waiter, outcome);
        } else {
            let _commit = waiter.request.commit();
            gate.push(Gated { lsn, waiter, outcome, _commit });
        }
    }

    /// Gives a permit back.
    fn leave(&self) {
        self.door.fetch_sub(1, Ordering::AcqRel);
    }

    fn release(&self, waiter: Waiter, outcome: Outcome) {
        self.promised.fetch_sub(waiter.bytes, Ordering::AcqRel);
        self.leave();
        // The caller may have dropped his future; what he asked for is done all the same.
        let _ = waiter.answer.send(outcome);
    }

    /// Everything up to `durable` is durable. Called by the journal's thread, which only wakes the task that lets the
    /// answers go: a wake-up from outside the runtime costs more than one from inside, and there are many.
    pub fn advanced(&self, durable: Lsn) {
        self.durable.store(durable, Ordering::Release);
        self.moved.notify_one();
    }

    /// Lets answers go whenever the journal has advanced. Ends only when its task is aborted.
    pub(crate) async fn release_durable(&self) {
        loop {
            self.moved.notified().await;
            self.release_ready();
        }
    }

    /// Lets go what rests on nothing past the journal's mark.
    pub fn release_ready(&self) {
        self.release_upto(self.durable.load(Ordering::Acquire));
    }

    fn release_upto(&self, durable: Lsn) {
        let mut ready = Vec::new();
        {
            let mut gate = lock(&self.gate);
            if gate.iter().all(|gated| gated.lsn <= durable) {
                std::mem::swap(&mut *gate, &mut ready);
            } else {
                ready.extend(gate.extract_if(.., |gated| gated.lsn <= durable));
            }
        }
        for gated in ready {
            self.release(gated.waiter, gated.outcome);
        }
    }

    /// From now on every answer is "outcome unknown".
    pub fn fail(&self) {
        let gated = {
            let mut gate = lock(&self.gate);
            self.failed.store(true, Ordering::Release);
            std::mem::take(&mut *gate)
        };
        for gated in gated {
            self.release(gated.waiter, Outcome::Unknown);
        }
        // Whoever waits inside an actor or for a saga will not hear of it any more.
        for slab in &self.slabs {
            let waiters: Vec<_> = lock(slab).waiters.iter_mut().filter_map(Option::take).collect();
            for waiter in waiters {
                self.release(waiter, Outcome::Unknown);
            }
        }
    }

    /// Whether every answer is "outcome unknown".
    pub fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Admits nothing any more.
    pub(crate) fn drain(&self) {
        self.door.fetch_or(DRAINING, Ordering::AcqRel);
        self.resume();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.door.load(Ordering::Acquire) & DRAINING != 0
    }

    /// Lets new commands wait at the door.
    pub(crate) fn hold(&self) {
        self.door.fetch_or(HELD, Ordering::AcqRel);
    }

    /// Lets them in.
    pub(crate) fn resume(&self) {
        self.door.fetch_and(!HELD, Ordering::AcqRel);
        self.resumed.notify_waiters();
    }
}
