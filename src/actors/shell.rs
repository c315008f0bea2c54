//! The one actor that every entity is: a mailbox, and a shell that interprets effects and has no rule of its own.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use super::directory::Directory;
use super::inbox::{Inbox, Put};
use super::runner::{Runner, Turn};
use super::slot::Mailbox;
use super::system::System;
use crate::domain::{
    Account, EVENT_VERSION, Effect, Effects, Entity, Evidence, Millis, OrderShard, Persistent, Resting, Store,
    StoreEvent, Ticket,
};
use crate::trace::{self, Request, What};

/// A look at an entity from outside its rules: for snapshots and audits.
pub(crate) type Look<E> = Box<dyn FnOnce(&E, &<E as Entity>::Work) + Send>;

/// A change that is no event, because it says nothing new: rows come into memory or leave it. The message, if there is
/// one, is handled next.
pub(crate) type Change<E> = Box<dyn FnOnce(&mut E, &mut <E as Entity>::Work) -> Option<<E as Entity>::Msg> + Send>;

/// What is in a mailbox.
pub(crate) enum Mail<E: Entity> {
    /// A message of the domain, and for whose request it is.
    Msg(E::Msg, Request),
    /// Evidence whose saga is closed.
    Forget(Vec<Evidence>),
    /// Shows the state.
    Look(Look<E>),
    /// Changes what is in memory of the state, not the state.
    Change(Change<E>, Request),
    /// Nothing follows: publish the row and stop.
    Sleep,
}

impl<E: Entity> Debug for Mail<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mail::Msg(msg, _) => msg.fmt(f),
            Mail::Forget(evidence) => evidence.fmt(f),
            Mail::Look(_) => f.write_str("Look"),
            Mail::Change(..) => f.write_str("Change"),
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

    /// Of what a runner keeps for its actors, that for this kind.
    fn desk(desks: &mut Desks) -> &mut Desk<Self>;
    /// Tells the engine what was applied.
    fn observe(&self, system: &System, event: &Self::Event);
    /// Answers a question about orders at rest.
    fn resting(system: &Arc<System>, _question: Resting) {
        system.fail(format!("a {} asks for orders at rest", Self::KIND));
    }
    /// Lies down in its directory, unless it has to go on.
    fn lie_down(&self, system: &System, myself: &Living<Self>);
    /// What a message asks of it, for people.
    fn step(&self, system: &System, msg: &Self::Msg) -> What;
    /// Who waits for what comes of a message that it told itself.
    fn ticket(_msg: &Self::Msg) -> Option<Ticket> {
        None
    }
}

impl Resident for Account {
    const KIND: &'static str = "account";
    type Extra = ();
    /// There may be millions, and hardly any is handed out.
    type Name = Box<str>;

    fn desk(desks: &mut Desks) -> &mut Desk<Self> {
        &mut desks.accounts
    }

    fn observe(&self, system: &System, event: &Self::Event) {
        system.observer.account_changed(self.number, system.accounts.name(self.number.0).map(|name| &**name), event);
    }

    fn lie_down(&self, system: &System, myself: &Living<Self>) {
        Directory::lie_down(&system.accounts, system, self.number.0, myself, self);
    }

    fn step(&self, system: &System, msg: &Self::Msg) -> What {
        let (step, order) = msg.step();
        let user = system.accounts.name(self.number.0).map(|name| name.to_string());
        What { step, user, store: None, order: order.map(|id| id.to_string()) }
    }
}

impl Resident for Store {
    const KIND: &'static str = "store";
    /// Book ids by place.
    type Extra = std::sync::RwLock<Vec<Arc<str>>>;
    type Name = Arc<str>;

    fn desk(desks: &mut Desks) -> &mut Desk<Self> {
        &mut desks.stores
    }

    fn observe(&self, system: &System, event: &Self::Event) {
        if let StoreEvent::BookAdded { id, .. } = event {
            let mut books = system.stores.extra(self.number.0).write().unwrap_or_else(PoisonError::into_inner);
            books.push(id.clone());
        }
        system.observer.store_changed(self.number, system.stores.name(self.number.0), event);
    }

    fn lie_down(&self, system: &System, myself: &Living<Self>) {
        Directory::lie_down(&system.stores, system, self.number.0, myself, self);
    }

    fn step(&self, system: &System, msg: &Self::Msg) -> What {
        let (step, order) = msg.step();
        let store = system.stores.name(self.number.0).map(|name| name.to_string());
        What { step, user: None, store, order: order.map(|id| id.to_string()) }
    }
}

impl Resident for OrderShard {
    const KIND: &'static str = "order shard";
    type Extra = ();
    type Name = Box<str>;

    fn desk(desks: &mut Desks) -> &mut Desk<Self> {
        &mut desks.shards
    }

    fn observe(&self, _system: &System, _event: &Self::Event) {}

    fn resting(system: &Arc<System>, question: Resting) {
        system.ask_resting(question);
    }

    /// A shard never sleeps.
    fn lie_down(&self, _system: &System, _myself: &Living<Self>) {}

    fn step(&self, _system: &System, msg: &Self::Msg) -> What {
        let (step, order) = msg.step();
        What { step, order: order.map(|id| id.to_string()), ..What::default() }
    }

    fn ticket(msg: &Self::Msg) -> Option<Ticket> {
        msg.ticket()
    }
}

/// An entity that is awake: its mailbox and its state. One runner at a time has it, so it handles one message after the
/// other.
pub(crate) struct Actor<E: Resident> {
    mailbox: Inbox<Mail<E>>,
    /// Whoever has the turn; nobody waits for this lock.
    running: Mutex<Running<E>>,
    /// Who runs it for messages from outside.
    runner: Arc<Runner>,
}

/// A handle on an actor.
pub(crate) struct Living<E: Resident>(Arc<Actor<E>>);

impl<E: Resident> Clone for Living<E> {
    fn clone(&self) -> Self {
        Living(self.0.clone())
    }
}

/// What the actor owns.
struct Running<E: Resident> {
    entity: E,
    work: E::Work,
}

impl<E: Resident> Living<E> {
    /// Brings an entity to life.
    pub(super) fn new(runner: Arc<Runner>, entity: E) -> Self {
        let running = Mutex::new(Running { entity, work: E::Work::default() });
        Living(Arc::new(Actor { mailbox: Inbox::new(), running, runner }))
    }

    /// Handles nothing any more. What waits is dropped.
    pub(super) fn stop(&self) {
        self.0.mailbox.close();
    }
}

impl<E: Resident> Mailbox<Mail<E>> for Living<E> {
    fn put(&self, mail: Mail<E>) -> bool {
        let put = self.0.mailbox.put(mail);
        if put == Put::First {
            self.0.runner.ask(self.0.clone());
        }
        put != Put::Refused
    }
}

/// What all actors that one runner runs use in turn, kept for its allocations.
#[derive(Default)]
pub(crate) struct Desks {
    accounts: Desk<Account>,
    stores: Desk<Store>,
    shards: Desk<OrderShard>,
}

/// The same, for actors of one kind.
pub(crate) struct Desk<E: Entity> {
    mail: Vec<Mail<E>>,
    effects: Effects<E>,
    bytes: Vec<u8>,
}

impl<E: Entity> Default for Desk<E> {
    fn default() -> Self {
        Desk { mail: Vec::new(), effects: Vec::new(), bytes: Vec::new() }
    }
}

impl<E: Resident> Turn for Actor<E> {
    fn run(self: Arc<Self>, system: &Arc<System>, desks: &mut Desks) -> Option<Arc<dyn Turn>> {
        let myself = Living(self);
        let actor = &*myself.0;
        let desk = E::desk(desks);
        let mut mail = std::mem::take(&mut desk.mail);
        actor.mailbox.take(&mut mail);
        // After whatever was told to who sent them.
        let now = system.clock.now();
        {
            let mut running = actor.running.lock().unwrap_or_else(PoisonError::into_inner);
            for mail in mail.drain(..) {
                if !system.is_stopped() {
                    Step { running: &mut running, system, desk, now }.handle(&myself, mail);
                }
            }
        }
        desk.mail = mail;
        let goes_on = actor.mailbox.goes_on();
        goes_on.then_some(myself.0 as Arc<dyn Turn>)
    }
}

/// One message and what it needs.
struct Step<'a, E: Resident> {
    running: &'a mut Running<E>,
    system: &'a Arc<System>,
    desk: &'a mut Desk<E>,
    now: Millis,
}

impl<E: Resident> Step<'_, E> {
    fn handle(&mut self, myself: &Living<E>, mail: Mail<E>) {
        if let Mail::Msg(msg, request) = mail {
            self.run_for(request, msg);
        } else if catch_unwind(AssertUnwindSafe(|| self.take_aside(myself, mail))).is_err() {
            // The actor would be gone, and whoever waits for it would wait for ever.
            self.system.fail(format!("a {} panicked beside its changes", E::KIND));
        }
    }

    /// What is no message of the domain.
    fn take_aside(&mut self, myself: &Living<E>, mail: Mail<E>) {
        #[cfg(test)]
        self.system.trap.pass(E::KIND, super::trap::Point::Aside);
        match mail {
            Mail::Msg(msg, request) => self.run_for(request, msg),
            Mail::Forget(evidence) => self.running.entity.forget(&evidence),
            Mail::Look(look) => look(&self.running.entity, &self.running.work),
            Mail::Change(change, request) => {
                let (entity, work) = (&mut self.running.entity, &mut self.running.work);
                if let Some(msg) = request.clone().run(|| change(entity, work)) {
                    self.run_for(request, msg);
                }
            }
            Mail::Sleep => self.running.entity.lie_down(self.system, myself),
        }
    }

    /// Handles a message for a request, and whatever it makes the entity tell itself, for whoever waits for that.
    fn run_for(&mut self, request: Request, msg: E::Msg) {
        let mut again = VecDeque::new();
        let mut next = Some((request, msg));
        while let Some((request, msg)) = next {
            if !request.run(|| self.run(msg, &mut again)) {
                return;
            }
            next = again.pop_front().map(|msg| {
                let request = E::ticket(&msg).map(|ticket| self.system.answers.request(ticket));
                (request.unwrap_or_default(), msg)
            });
        }
    }

    /// Handles one message; false if the engine stopped. A panic after the first effect took place leaves it open what was
    /// told to whom, so the engine stops.
    fn run(&mut self, msg: E::Msg, again: &mut VecDeque<E::Msg>) -> bool {
        let _step = trace::Step::begin(|| self.running.entity.step(self.system, &msg));
        let mut effects = std::mem::take(&mut self.desk.effects);
        let on_panic = E::on_panic(&msg);
        let now = self.now;
        let judged = catch_unwind(AssertUnwindSafe(|| {
            self.running.entity.handle(&mut self.running.work, msg, now, &mut effects);
            #[cfg(test)]
            self.system.trap.pass(E::KIND, super::trap::Point::Judged);
        }));
        if judged.is_err() {
            effects.clear();
            match on_panic.effect() {
                Some(effect) => effects.push(effect),
                None => {
                    self.system.fail(format!("a {} panicked in a later step", E::KIND));
                    return false;
                }
            }
        }
        let done = catch_unwind(AssertUnwindSafe(|| {
            for effect in effects.drain(..) {
                self.interpret(effect, now, again);
            }
        }));
        if done.is_err() {
            self.system.fail(format!("a {} panicked while a change took place", E::KIND));
            return false;
        }
        self.desk.effects = effects;
        true
    }

    fn interpret(&mut self, effect: Effect<E::Msg, E::Event>, now: Millis, again: &mut VecDeque<E::Msg>) {
        match effect {
            Effect::Append(event) => {
                let entity = &mut self.running.entity;
                let kind = entity.encode_event(&event, now, &mut self.desk.bytes);
                #[cfg(test)]
                self.system.trap.pass(E::KIND, super::trap::Point::BeforeAppend);
                self.system.journal.append(kind, EVENT_VERSION, &self.desk.bytes);
                #[cfg(test)]
                self.system.trap.pass(E::KIND, super::trap::Point::AfterAppend);
                entity.apply(&event, now);
                entity.observe(self.system, &event);
                #[cfg(test)]
                self.system.trap.pass(E::KIND, super::trap::Point::Applied);
            }
            Effect::Send(message) => self.system.send(message),
            Effect::Reply(ticket, outcome) => self.system.answers.reply(ticket, outcome, &self.system.journal),
            Effect::Deadline(at) => self.system.deadline(at),
            Effect::Resting(question) => E::resting(self.system, question),
            Effect::Again(msg) => again.push_back(msg),
        }
    }
}
