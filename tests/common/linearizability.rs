//! A checker of histories: is there one order of the calls, each at some moment between its invocation and its return,
//! in which one thing that does one call after the other would have answered like that?
//!
//! The search is Wing and Gong's with the memory of Lowe: a set of calls that are done and the state they lead to are
//! never looked at twice. A call that was cut has an unknown outcome. It may have happened, at some moment up to its
//! end, or never; its end is when the process that might do it was surely gone.
//!
//! The checker is our own: the one in stateright has no such memory, so a history with a few cut calls is beyond it,
//! and it brings a web server.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// One call of a history. The times are of one clock that never goes back.
#[derive(Clone, Debug)]
pub struct Call<O> {
    pub invoked: u64,
    /// When the answer was there; for a cut call, when it could not happen any more.
    pub returned: u64,
    pub op: O,
    /// Whether an answer came. Without one the call happened or did not.
    pub answered: bool,
}

/// What one thing does when its calls come one after the other.
pub trait Model {
    type State: Clone + Eq + Hash + Debug;
    /// A call with what was answered.
    type Op: Debug;

    /// The state after the call; `None` if it would have been answered otherwise from this one. For a cut call: the
    /// state after it succeeded, or `None` if it cannot have.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;
}

/// Why a history is wrong.
#[derive(Debug)]
pub struct Violation {
    /// The longest part of the history that can be explained, and a state it leads to.
    pub explained: usize,
    pub state: String,
    /// The calls that were open there, of which none can be next.
    pub stuck: Vec<String>,
}

/// The calls that are done: all before `first`, and those of `later` (a bit each, beginning with `first`).
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done {
    first: usize,
    later: Vec<u64>,
}

impl Done {
    fn has(&self, call: usize) -> bool {
        let Some(place) = call.checked_sub(self.first) else { return true };
        self.later.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    /// With `call`, in the one form that equal sets have: the first call that is not done is the first bit.
    fn with(&self, call: usize) -> Done {
        let mut first = self.first;
        while first == call || self.has(first) {
            first += 1;
        }
        let mut later = Vec::new();
        let end = (self.first + self.later.len() * 64).max(call + 1);
        for done in (first..end).filter(|&one| one == call || self.has(one)) {
            let place = done - first;
            later.resize(later.len().max(place / 64 + 1), 0);
            later[place / 64] |= 1 << (place % 64);
        }
        Done { first, later }
    }
}

/// Finds an order that explains the history, from `start` on.
pub fn check<M: Model>(model: &M, start: M::State, mut calls: Vec<Call<M::Op>>) -> Result<(), Violation> {
    calls.sort_by_key(|call| call.invoked);
    assert!(calls.iter().all(|call| call.invoked < call.returned), "a call returns after it was invoked");
    let nothing = Done { first: 0, later: Vec::new() };
    let mut known = HashSet::from([(nothing.clone(), start.clone())]);
    let mut open = vec![(nothing, start, 0)];
    let mut best = Violation { explained: 0, state: String::new(), stuck: Vec::new() };
    while let Some((done, state, explained)) = open.pop() {
        if done.first >= calls.len() {
            return Ok(());
        }
        let next = candidates(&calls, &done);
        if explained >= best.explained {
            let stuck = next.iter().map(|&call| format!("{:?}", calls[call])).collect();
            best = Violation { explained, state: format!("{state:?}"), stuck };
        }
        let ends_first = next.iter().copied().min_by_key(|&call| calls[call].returned);
        for call in next {
            let mut states = Vec::new();
            states.extend(model.step(&state, &calls[call].op));
            // That a cut call never happened need not be said before it is in the way of others.
            if !calls[call].answered && ends_first == Some(call) {
                states.push(state.clone());
            }
            for after in states {
                let place = (done.with(call), after);
                if known.insert(place.clone()) {
                    open.push((place.0, place.1, explained + 1));
                }
            }
        }
    }
    Err(best)
}

/// The calls that may be next: not done, and invoked before any other that is not done has returned. Those that
/// return late come first, so that the search, which takes the last, tries the others before.
fn candidates<O>(calls: &[Call<O>], done: &Done) -> Vec<usize> {
    let mut first_return = u64::MAX;
    let mut found = Vec::new();
    for (place, call) in calls.iter().enumerate().skip(done.first) {
        if call.invoked > first_return {
            break;
        }
        if !done.has(place) {
            first_return = first_return.min(call.returned);
            found.push(place);
        }
    }
    found.retain(|&place| calls[place].invoked < first_return);
    found.sort_by_key(|&place| std::cmp::Reverse(calls[place].returned));
    found
}

/// A number that calls add to and read, and that never goes below zero: a wallet in fen, a book's copies.
pub struct Counter;

#[derive(Clone, Debug, PartialEq)]
pub enum CounterOp {
    /// Added, or taken if negative. Cut: it would be that.
    Add(i64),
    /// Could not be taken: there was less.
    TooFew(i64),
    Read(i64),
}

impl Model for Counter {
    type State = i64;
    type Op = CounterOp;

    fn step(&self, state: &i64, op: &CounterOp) -> Option<i64> {
        match *op {
            CounterOp::Add(value) => Some(state + value).filter(|level| *level >= 0),
            CounterOp::TooFew(count) => (*state < count).then_some(*state),
            CounterOp::Read(level) => (*state == level).then_some(*state),
        }
    }
}

/// An order's state, which calls move on and read.
pub struct OrderStates;

#[derive(Clone, Debug, PartialEq)]
pub enum OrderOp {
    /// From one of these states into that one.
    Move(&'static [&'static str], &'static str),
    /// Not done: it was in one of these states.
    In(&'static [&'static str]),
    Read(String),
}

impl Model for OrderStates {
    type State = &'static str;
    type Op = OrderOp;

    fn step(&self, state: &&'static str, op: &OrderOp) -> Option<&'static str> {
        match op {
            OrderOp::Move(from, to) => from.contains(state).then_some(*to),
            OrderOp::In(states) => states.contains(state).then_some(*state),
            OrderOp::Read(read) => (*state == read.as_str()).then_some(*state),
        }
    }
}
