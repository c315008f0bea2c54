//! The one shell that runs an entity on ractor: it interprets effects and has no rule of its own.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};

use ractor::{Actor, ActorProcessingErr, ActorRef, ActorRuntime, SpawnErr};

use super::directory::Directory;
use super::system::System;
use crate::domain::{
    Account, EVENT_VERSION, Effect, Effects, Entity, Evidence, OrderShard, Persistent, Resting, Store, StoreEvent,
};

/// A look at an entity from outside its rules: for snapshots and audits.
pub(crate) type Look<E> = Box<dyn FnOnce(&E, &<E as Entity>::Work) + Send>;

/// A change that is no event, because it says nothing new: rows come into memory or leave it. The message, if there is
/// one, is handled next.
pub(crate) type Change<E> = Box<dyn FnOnce(&mut E, &mut <E as Entity>::Work) -> Option<<E as Entity>::Msg> + Send>;

/// What is in a mailbox.
pub(crate) enum Mail<E: Entity> {
    /// A message of the domain.
    Msg(E::Msg),
    /// Evidence whose saga is closed.
    Forget(Vec<Evidence>),
    /// Shows the state.
    Look(Look<E>),
    /// Changes what is in memory of the state, not the state.
    Change(Change<E>),
    /// Nothing follows: publish the row and stop.
    Sleep,
}

impl<E: Entity> Debug for Mail<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mail::Msg(msg) => msg.fmt(f),
            Mail::Forget(evidence) => evidence.fmt(f),
            Mail::Look(_) => f.write_str("Look"),
            Mail::Change(_) => f.write_str("Change"),
            Mail::Sleep => f.write_str("Sleep"),
        }
    }
}

/// An entity as the shell needs it.
pub(crate) trait Resident: Persistent + Sync {
    /// For messages to people.
    const KIND: &'static str;
    /// What everybody may read beside the entity.
    type Extra: Default + Send + Sync;
    /// How its id is kept.
    type Name: std::ops::Deref<Target = str> + Send + Sync;

    /// Tells the engine what was applied.
    fn observe(&self, system: &System, event: &Self::Event);
    /// Answers a question about orders at rest.
    fn resting(system: &Arc<System>, _question: Resting) {
        system.fail(format!("a {} asks for orders at rest", Self::KIND));
    }
    /// Lies down in its directory; true if the actor may stop.
    fn lie_down(&self, system: &System, myself: &ActorRef<Mail<Self>>) -> bool;
}

impl Resident for Account {
    const KIND: &'static str = "account";
    type Extra = ();
    /// There may be millions, and hardly any is handed out.
    type Name = Box<str>;

    fn observe(&self, system: &System, event: &Self::Event) {
        system.observer.account_changed(self.number, system.accounts.name(self.number.0).map(|name| &**name), event);
    }

    fn lie_down(&self, system: &System, myself: &ActorRef<Mail<Self>>) -> bool {
        Directory::lie_down(&system.accounts, system, self.number.0, myself, self)
    }
}

impl Resident for Store {
    const KIND: &'static str = "store";
    /// Book ids by place.
    type Extra = std::sync::RwLock<Vec<Arc<str>>>;
    type Name = Arc<str>;

    fn observe(&self, system: &System, event: &Self::Event) {
        if let StoreEvent::BookAdded { id, .. } = event {
            let mut books = system.stores.extra(self.number.0).write().unwrap_or_else(PoisonError::into_inner);
            books.push(id.clone());
        }
        system.observer.store_changed(self.number, system.stores.name(self.number.0), event);
    }

    fn lie_down(&self, system: &System, myself: &ActorRef<Mail<Self>>) -> bool {
        Directory::lie_down(&system.stores, system, self.number.0, myself, self)
    }
}

impl Resident for OrderShard {
    const KIND: &'static str = "order shard";
    type Extra = ();
    type Name = Box<str>;

    fn observe(&self, _system: &System, _event: &Self::Event) {}

    fn resting(system: &Arc<System>, question: Resting) {
        system.ask_resting(question);
    }

    /// A shard never sleeps.
    fn lie_down(&self, _system: &System, _myself: &ActorRef<Mail<Self>>) -> bool {
        false
    }
}

/// The actor of an entity.
struct Shell<E>(std::marker::PhantomData<fn() -> E>);

/// What the actor owns.
struct Running<E: Resident> {
    system: Arc<System>,
    entity: E,
    work: E::Work,
    /// Kept between messages so that they are not allocated anew.
    effects: Effects<E>,
    bytes: Vec<u8>,
}

/// Starts the actor of an entity, without waiting for it.
pub(super) fn spawn<E: Resident>(system: &Arc<System>, entity: E) -> Result<ActorRef<Mail<E>>, SpawnErr> {
    let running =
        Running { system: system.clone(), entity, work: E::Work::default(), effects: Vec::new(), bytes: Vec::new() };
    let _entered = system.runtime.enter();
    let (actor, _joined) = ActorRuntime::spawn_instant(None, Shell(std::marker::PhantomData), running)?;
    Ok(actor)
}

impl<E: Resident> Actor for Shell<E> {
    type Msg = Mail<E>;
    type State = Running<E>;
    type Arguments = Running<E>;

    async fn pre_start(&self, _: ActorRef<Mail<E>>, running: Running<E>) -> Result<Running<E>, ActorProcessingErr> {
        Ok(running)
    }

    async fn handle(
        &self,
        myself: ActorRef<Mail<E>>,
        mail: Mail<E>,
        running: &mut Running<E>,
    ) -> Result<(), ActorProcessingErr> {
        if let Mail::Msg(msg) = mail {
            running.run(msg);
        } else if catch_unwind(AssertUnwindSafe(|| running.take_aside(&myself, mail))).is_err() {
            // The actor would be gone, and whoever waits for it would wait for ever.
            running.system.fail(format!("a {} panicked beside its changes", E::KIND));
        }
        Ok(())
    }
}

impl<E: Resident> Running<E> {
    /// What is no message of the domain.
    fn take_aside(&mut self, myself: &ActorRef<Mail<E>>, mail: Mail<E>) {
        #[cfg(test)]
        self.system.trap.pass(E::KIND, super::trap::Point::Aside);
        match mail {
            Mail::Msg(msg) => self.run(msg),
            Mail::Forget(evidence) => self.entity.forget(&evidence),
            Mail::Look(look) => look(&self.entity, &self.work),
            Mail::Change(change) => {
                if let Some(msg) = change(&mut self.entity, &mut self.work) {
                    self.run(msg);
                }
            }
            Mail::Sleep => {
                if self.entity.lie_down(&self.system, myself) {
                    myself.stop(None);
                }
            }
        }
    }

    /// Handles a message and whatever it makes the entity tell itself. A panic after the first effect took place
    /// leaves it open what was told to whom, so the engine stops.
    fn run(&mut self, msg: E::Msg) {
        let mut again = VecDeque::new();
        let mut next = Some(msg);
        while let Some(msg) = next {
            let mut effects = std::mem::take(&mut self.effects);
            let on_panic = E::on_panic(&msg);
            let now = self.system.clock.now();
            let judged = catch_unwind(AssertUnwindSafe(|| {
                self.entity.handle(&mut self.work, msg, now, &mut effects);
                #[cfg(test)]
                self.system.trap.pass(E::KIND, super::trap::Point::Judged);
            }));
            if judged.is_err() {
                effects.clear();
                match on_panic.effect() {
                    Some(effect) => effects.push(effect),
                    None => return self.system.fail(format!("a {} panicked in a later step", E::KIND)),
                }
            }
            let done = catch_unwind(AssertUnwindSafe(|| {
                for effect in effects.drain(..) {
                    self.interpret(effect, now, &mut again);
                }
            }));
            if done.is_err() {
                return self.system.fail(format!("a {} panicked while a change took place", E::KIND));
            }
            self.effects = effects;
            next = again.pop_front();
        }
    }

    fn interpret(&mut self, effect: Effect<E::Msg, E::Event>, now: u64, again: &mut VecDeque<E::Msg>) {
        match effect {
            Effect::Append(event) => {
                let kind = self.entity.encode_event(&event, now, &mut self.bytes);
                #[cfg(test)]
                self.system.trap.pass(E::KIND, super::trap::Point::BeforeAppend);
                self.system.journal.append(kind, EVENT_VERSION, &self.bytes);
                #[cfg(test)]
                self.system.trap.pass(E::KIND, super::trap::Point::AfterAppend);
                self.entity.apply(&event, now);
                self.entity.observe(&self.system, &event);
                #[cfg(test)]
                self.system.trap.pass(E::KIND, super::trap::Point::Applied);
            }
            Effect::Send(message) => self.system.send(message),
            Effect::Reply(ticket, outcome) => self.system.answers.reply(ticket, outcome, &self.system.journal),
            Effect::Deadline(at) => self.system.deadline(at),
            Effect::Resting(question) => E::resting(&self.system, question),
            Effect::Again(msg) => again.push_back(msg),
        }
    }
}
