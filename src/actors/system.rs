//! What all actors of one engine share. Nothing here is global: two engines live in one process.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot, watch};

use super::answers::Answers;
use super::clock::Clock;
use super::directory::Directory;
use super::runner::Runner;
use super::shell::{Living, Mail};
use super::slot::Mailbox;
use crate::cold::Orders;
use crate::domain::{
    Account, AccountEvent, AccountNo, Address, Millis, OrderMsg, OrderShard, SHARDS, Send, Store, StoreEvent, StoreNo,
};
use crate::journal::Journal;
use crate::trace;

/// Threads that read orders at rest at once.
const READERS_MAX: usize = 64;

/// Of these, those that read for no caller.
const READERS_FOR_NOBODY_MAX: usize = 8;

/// Runners for each thread of the runtime.
const RUNNERS_PER_THREAD: usize = 2;

/// Told what was applied, before anybody is told of it: keeps indexes and memories true.
pub(crate) trait Observer: std::marker::Send + Sync {
    /// An event of an account was applied.
    fn account_changed(&self, account: AccountNo, user_id: Option<&str>, event: &AccountEvent);
    /// An event of a store was applied.
    fn store_changed(&self, store: StoreNo, store_id: Option<&Arc<str>>, event: &StoreEvent);
}

/// The actors' world.
pub(crate) struct System {
    pub(crate) journal: Journal,
    pub(crate) answers: Arc<Answers>,
    pub(crate) clock: Clock,
    pub(crate) accounts: Directory<Account>,
    pub(crate) stores: Directory<Store>,
    pub(crate) observer: Box<dyn Observer>,
    /// Orders that are not in memory.
    pub(crate) resting: Arc<Orders>,
    /// Of the runtime's threads for blocking work, those that may read them at once: others need some, too.
    pub(super) readers: Arc<Semaphore>,
    /// Those that may do so for no caller; they need one of `readers` as well.
    pub(crate) readers_for_nobody: Arc<Semaphore>,
    /// Sum of the times of callers' questions, from the moment they were asked, in µs.
    pub(super) reads_us: AtomicU64,
    /// The runtime that the engine was opened on. A caller may be on another one, which may end before the engine.
    pub(crate) runtime: tokio::runtime::Handle,
    runners: Vec<Arc<Runner>>,
    shards: OnceLock<Vec<Living<OrderShard>>>,
    /// The earliest deadline of all shards; `u64::MAX` if there is none.
    earliest: AtomicU64,
    earlier: Notify,
    /// How many hold deadlines up; they are looked at when nobody does. The lock is held while `Due` is sent.
    paused: Mutex<u32>,
    stopped: AtomicBool,
    seconds: AtomicU32,
    failure: watch::Sender<Option<String>>,
    #[cfg(test)]
    pub(crate) trap: super::trap::Trap,
}

impl System {
    pub(crate) fn new(
        journal: Journal,
        answers: Arc<Answers>,
        clock: Clock,
        observer: Box<dyn Observer>,
        resting: Arc<Orders>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let runners = runtime.metrics().num_workers() * RUNNERS_PER_THREAD;
        System {
            runners: (0..runners).map(|_| Arc::new(Runner::new())).collect(),
            runtime,
            journal,
            answers,
            clock,
            accounts: Directory::new(),
            stores: Directory::new(),
            observer,
            resting,
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            readers_for_nobody: Arc::new(Semaphore::new(READERS_FOR_NOBODY_MAX)),
            reads_us: AtomicU64::new(0),
            shards: OnceLock::new(),
            earliest: AtomicU64::new(u64::MAX),
            earlier: Notify::new(),
            paused: Mutex::new(0),
            stopped: AtomicBool::new(false),
            seconds: AtomicU32::new(0),
            failure: watch::Sender::new(None),
            #[cfg(test)]
            trap: super::trap::Trap::default(),
        }
    }

    /// Starts the coordinator shards, and whoever runs actors.
    pub(crate) fn start(self: &Arc<Self>, shards: Vec<OrderShard>) {
        let deadlines = shards.iter().filter_map(OrderShard::next_deadline);
        self.earliest.store(deadlines.min().unwrap_or(u64::MAX), Ordering::Release);
        let actors = shards.into_iter().enumerate().map(|(number, shard)| Living::new(self.runner(number), shard));
        let _ = self.shards.set(actors.collect());
        for runner in &self.runners {
            if let Err(error) = runner.start(self) {
                self.fail(format!("a runner of actors does not start: {error}"));
            }
        }
    }

    /// The runner that runs the actor of this number for messages from outside.
    pub(super) fn runner(&self, number: usize) -> Arc<Runner> {
        self.runners[number % self.runners.len()].clone()
    }

    /// Delivers a message, which takes the current request along.
    pub(crate) fn send(self: &Arc<Self>, message: Send) {
        let request = trace::current();
        match message {
            Send::Account(account, msg) => self.accounts.route(self, account.0, Mail::Msg(msg, request)),
            Send::Store(store, msg) => self.stores.route(self, store.0, Mail::Msg(msg, request)),
            Send::Order(shard, msg) => self.to_shard(shard, Mail::Msg(msg, request)),
            Send::Forget(Address::Account(account), evidence) => {
                self.accounts.route(self, account.0, Mail::Forget(evidence));
            }
            Send::Forget(Address::Store(store), evidence) => self.stores.route(self, store.0, Mail::Forget(evidence)),
        }
    }

    pub(super) fn to_shard(&self, shard: usize, mail: Mail<OrderShard>) {
        let Some(actor) = self.shards.get().and_then(|shards| shards.get(shard)) else { return };
        if !actor.put(mail) && !self.is_stopped() {
            self.fail(format!("order shard {shard} is gone"));
        }
    }

    /// Looks at a shard; `None` if the engine stopped.
    pub(crate) async fn look_at_shard<T: std::marker::Send + 'static>(
        &self,
        shard: usize,
        look: impl FnOnce(&OrderShard, &<OrderShard as crate::domain::Entity>::Work) -> T + std::marker::Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        let look = move |shard: &OrderShard, work: &_| {
            let _ = sender.send(look(shard, work));
        };
        self.to_shard(shard, Mail::Look(Box::new(look)));
        answer.await.ok()
    }

    /// Changes what a shard has in memory; `None` if the engine stopped.
    pub(crate) async fn change_shard<T: std::marker::Send + 'static>(
        &self,
        shard: usize,
        change: impl FnOnce(&mut OrderShard, &mut <OrderShard as crate::domain::Entity>::Work) -> T
        + std::marker::Send
        + 'static,
    ) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        let change = move |shard: &mut OrderShard, work: &mut _| {
            let _ = sender.send(change(shard, work));
            None
        };
        self.to_shard(shard, Mail::Change(Box::new(change), trace::current()));
        answer.await.ok()
    }

    /// Drops collected evidence everywhere.
    pub(crate) fn flush_evidence(self: &Arc<Self>) {
        for shard in 0..SHARDS {
            self.send(Send::Order(shard, OrderMsg::Flush));
        }
    }

    /// Somebody must look at deadlines at this time.
    pub(super) fn deadline(&self, at: Millis) {
        if self.earliest.fetch_min(at, Ordering::AcqRel) > at {
            self.earlier.notify_one();
        }
    }

    /// Sends `Due` to every shard whenever the earliest deadline has come. Ends only when its task is aborted.
    pub(crate) async fn watch_deadlines(self: Arc<Self>) {
        loop {
            let earliest = self.earliest.load(Ordering::Acquire);
            // The clock is read once. One that came to its deadline between two looks would be taken for one that is
            // paused, and nobody would wake this again.
            let is_due = earliest <= self.clock.now();
            if is_due && self.send_due() {
                continue;
            }
            let earlier = self.earlier.notified();
            if is_due || earliest == u64::MAX {
                // They are paused, or none is known.
                earlier.await;
            } else {
                // A millisecond more, so that it is past and not just about to be.
                let wait = self.clock.until(earliest) + std::time::Duration::from_millis(1);
                let _ = tokio::time::timeout(wait, earlier).await;
            }
        }
    }

    /// Each shard answers with its next deadline. False while deadlines are paused.
    fn send_due(self: &Arc<Self>) -> bool {
        let paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        if *paused > 0 {
            return false;
        }
        self.earliest.store(u64::MAX, Ordering::Release);
        for shard in 0..SHARDS {
            self.send(Send::Order(shard, OrderMsg::Due));
        }
        true
    }

    /// Starts no cancellation by deadline until [`System::resume_deadlines`] was called as often. Those that have
    /// started go on.
    pub(crate) fn pause_deadlines(&self) {
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    /// Looks at deadlines again, unless somebody else holds them up.
    pub(crate) fn resume_deadlines(&self) {
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.earlier.notify_one();
    }

    /// Whether the actors were stopped for good.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Seconds since open, as of the last tick: good enough to see who is idle.
    pub(super) fn seconds(&self) -> u32 {
        self.seconds.load(Ordering::Relaxed)
    }

    /// Moves the seconds on.
    pub(crate) fn tick(&self, seconds: u32) {
        self.seconds.store(seconds, Ordering::Relaxed);
    }

    /// Stops for good: nothing is acknowledged, journaled or published any more. The first reason is kept.
    pub(crate) fn fail(&self, why: String) {
        self.failure.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(why);
            }
            first
        });
        // After the reason: the journal's thread tells in turn that it was halted.
        self.journal.halt();
        self.answers.fail();
    }

    /// Why the engine failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Waits for the failure.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        // Cloned at once: what is lent here is a lock, with which this future could not go to another thread.
        let why = failure.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        match why {
            Some(why) => why,
            // The sender lives in `self`, so this is never reached; waiting on is what a healthy engine does.
            None => std::future::pending().await,
        }
    }

    /// Stops every actor, and lets none start any more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.accounts.stop();
        self.stores.stop();
        for shard in self.shards.get().into_iter().flatten() {
            shard.stop();
        }
        for runner in &self.runners {
            runner.stop();
        }
    }
}
