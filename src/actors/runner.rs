//! Who runs mailboxes: a few actors of ractor, of which each has a turn again and again.
//!
//! A mailbox that gets its first message asks for a turn. What is sent from outside goes to the runner that the entity's
//! number says; what an entity sends in its own turn stays with the runner that runs it, so that a saga is not handed from
//! thread to thread, and nothing is woken for a hop.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use ractor::{Actor, ActorProcessingErr, ActorRef, ActorRuntime, SpawnErr};

use super::inbox::{Inbox, Put};
use super::shell::Desks;
use super::system::System;

/// A mailbox that has messages.
pub(super) trait Turn: Send + Sync {
    /// Handles what waits. Itself if more has come meanwhile: it is not done then.
    fn run(self: Arc<Self>, system: &Arc<System>, desks: &mut Desks) -> Option<Arc<dyn Turn>>;
}

/// Turns that a runner gives in a round. After it, it yields, and the other tasks of its thread have theirs. A turn takes one
/// to three microseconds; with 128 a quarter of the orders a second were lost to looks at the sockets between rounds.
const TURNS_MAX: usize = 1_024;

thread_local! {
    /// In a runner's turn: what asked for a turn of its own meanwhile.
    static NEXT: RefCell<Option<Vec<Arc<dyn Turn>>>> = const { RefCell::new(None) };
}

/// One of the runners.
pub(super) struct Runner {
    waiting: Inbox<Arc<dyn Turn>>,
    actor: OnceLock<ActorRef<GoOn>>,
}

/// The one message of a runner: something waits.
struct GoOn;

impl Runner {
    pub(super) fn new() -> Self {
        Runner { waiting: Inbox::new(), actor: OnceLock::new() }
    }

    /// Starts it. What waits already has its turn now.
    pub(super) fn start(self: &Arc<Self>, system: &Arc<System>) -> Result<(), SpawnErr> {
        let running = Running {
            runner: self.clone(),
            system: system.clone(),
            queue: VecDeque::new(),
            asked: Vec::new(),
            desks: Desks::default(),
        };
        let _entered = system.runtime.enter();
        let (actor, _joined) = ActorRuntime::spawn_instant(None, Shell, running)?;
        let actor = self.actor.get_or_init(|| actor);
        let _ = actor.cast(GoOn);
        Ok(())
    }

    /// Sees to it that a mailbox is run.
    pub(super) fn ask(&self, turn: Arc<dyn Turn>) {
        let outside = NEXT.with_borrow_mut(|next| match next {
            Some(next) => {
                next.push(turn);
                None
            }
            None => Some(turn),
        });
        let Some(turn) = outside else { return };
        if self.waiting.put(turn) == Put::First
            && let Some(actor) = self.actor.get()
        {
            // It is gone only with the whole engine.
            let _ = actor.cast(GoOn);
        }
    }

    /// Ends after the turn in hand.
    pub(super) fn stop(&self) {
        self.waiting.close();
        if let Some(actor) = self.actor.get() {
            actor.stop(None);
        }
    }
}

/// The actor of a runner.
struct Shell;

/// What it owns.
struct Running {
    runner: Arc<Runner>,
    system: Arc<System>,
    /// Who waits, the longest first.
    queue: VecDeque<Arc<dyn Turn>>,
    /// Who was sent something in this round, the next one last. They go before the queue, and join it with the round's
    /// end.
    asked: Vec<Arc<dyn Turn>>,
    desks: Desks,
}

impl Actor for Shell {
    type Msg = GoOn;
    type State = Running;
    type Arguments = Running;

    async fn pre_start(&self, _: ActorRef<GoOn>, running: Running) -> Result<Running, ActorProcessingErr> {
        Ok(running)
    }

    async fn handle(&self, myself: ActorRef<GoOn>, _: GoOn, running: &mut Running) -> Result<(), ActorProcessingErr> {
        if catch_unwind(AssertUnwindSafe(|| running.go_on())).is_err() {
            // Whose turn it was never has one again, nor has who was told last. So all mailboxes are closed: what waits in
            // them is dropped, and who waits for an answer hears of it.
            NEXT.set(None);
            running.system.fail("a runner of actors panicked".to_owned());
            running.system.stop();
        }
        if !running.queue.is_empty() || running.runner.waiting.goes_on() {
            // Other tasks first. A message alone would not do: ractor takes one to oneself without waiting.
            tokio::task::yield_now().await;
            let _ = myself.cast(GoOn);
        }
        Ok(())
    }
}

/// A runtime that ends drops its runners, whatever they are at, but the engine may be in use on another one.
impl Drop for Running {
    fn drop(&mut self) {
        if !self.system.is_stopped() {
            self.system.fail("a runner of actors is gone: its runtime ended".to_owned());
            // Nobody runs what waits, so that nobody may wait.
            self.system.stop();
        }
    }
}

impl Running {
    /// Gives a round of turns. What one of them asks for goes before the others, so that a saga runs to its end while
    /// what it touches is in the cache; but only within the round, else what waits could wait for ever.
    fn go_on(&mut self) {
        self.runner.waiting.take(&mut self.queue);
        NEXT.set(Some(Vec::new()));
        for _ in 0..TURNS_MAX {
            let Some(turn) = self.asked.pop().or_else(|| self.queue.pop_front()) else { break };
            let goes_on = turn.run(&self.system, &mut self.desks);
            NEXT.with_borrow_mut(|next| self.asked.extend(next.iter_mut().flat_map(|next| next.drain(..)).rev()));
            // Who gets message after message does not go before who waits.
            self.queue.extend(goes_on);
        }
        NEXT.set(None);
        self.queue.extend(self.asked.drain(..).rev());
    }
}
