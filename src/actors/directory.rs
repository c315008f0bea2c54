//! Who is alive and who sleeps: number → slot.
//!
//! An actor that is awake costs several times of what its row does, so memory follows the work. A slot is routed,
//! woken and put to sleep under its own lock, which is never held across an await; `slot` says how.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::oneshot;

use super::segmented::Segmented;
use super::shell::{Living, Mail, Resident};
use super::slot::{Delivered, Mailbox};
use super::system::System;

type Place<E> = super::slot::Place<Living<E>, Mail<E>>;

/// A number's slot.
struct Slot<E: Resident> {
    name: OnceLock<E::Name>,
    extra: E::Extra,
    place: Mutex<Place<E>>,
}

impl<E: Resident> Default for Slot<E> {
    fn default() -> Self {
        Slot { name: OnceLock::new(), extra: E::Extra::default(), place: Mutex::new(Place::Empty) }
    }
}

impl<E: Resident> Slot<E> {
    fn lock(&self) -> MutexGuard<'_, Place<E>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All entities of one kind.
pub(crate) struct Directory<E: Resident> {
    slots: Segmented<Slot<E>>,
    next: AtomicU32,
    dormant: AtomicUsize,
    live: AtomicUsize,
    /// Numbers that may be alive, for the sweep: so it need not walk a million slots.
    woken: Mutex<Vec<u32>>,
    /// Nobody publishes a row any more. Set before the slots are gone through; looked at under their locks.
    stopped: AtomicBool,
}

/// An actor that went away with its engine.
#[derive(Debug, thiserror::Error)]
#[error("an actor is gone: the engine stopped")]
pub(crate) struct Gone;

/// What a sweep puts to sleep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sweep {
    /// Seconds since open.
    pub(crate) now_s: u32,
    /// Idle for at least this many seconds.
    pub(crate) idle_s: u32,
    /// At most this many stay alive.
    pub(crate) live_max: usize,
}

impl<E: Resident> Directory<E> {
    pub(super) fn new() -> Self {
        Directory {
            slots: Segmented::new(),
            next: AtomicU32::new(1),
            dormant: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            woken: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// A number that was never given. A refused creation leaves a gap, which is allowed.
    pub(crate) fn allocate(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// No number at or above it was given.
    pub(crate) fn end(&self) -> u32 {
        self.next.load(Ordering::Acquire)
    }

    /// Makes sure that `number` is not given again.
    pub(crate) fn reserve(&self, number: u32) {
        self.next.fetch_max(number.saturating_add(1), Ordering::AcqRel);
    }

    /// Actors alive.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Entities asleep.
    pub(crate) fn dormant(&self) -> usize {
        self.dormant.load(Ordering::Relaxed)
    }

    /// The id that a number was given for.
    pub(crate) fn name(&self, number: u32) -> Option<&E::Name> {
        self.slots.get(number).name.get()
    }

    /// What is kept beside the entity for everybody to read.
    pub(crate) fn extra(&self, number: u32) -> &E::Extra {
        &self.slots.get(number).extra
    }

    /// Puts an entity's row into its slot. `row` runs under the slot's lock: who walks the slots either comes before
    /// what it journals, or finds the row.
    pub(crate) fn create(&self, number: u32, name: E::Name, row: impl FnOnce() -> Box<[u8]>) {
        let slot = self.slots.get(number);
        let _ = slot.name.set(name);
        let mut place = slot.lock();
        *place = Place::Dormant(row());
        self.dormant.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the slot back that was readied for an entity which was refused.
    pub(crate) fn discard(&self, number: u32) {
        *self.slots.get(number).lock() = Place::Empty;
    }

    /// Readies a slot for the message that creates its entity.
    pub(crate) fn prepare(&self, number: u32, name: E::Name) {
        let slot = self.slots.get(number);
        let _ = slot.name.set(name);
        *slot.lock() = Place::Fresh;
    }

    /// Delivers a message; wakes the entity if it sleeps. A message to a number that was never given is a bug of
    /// the caller and stops the engine.
    pub(crate) fn route(&self, system: &Arc<System>, number: u32, mail: Mail<E>) {
        let slot = self.slots.get(number);
        let mut place = slot.lock();
        // Looked at under the lock: whoever stops the actors sets this first and takes every lock second.
        if system.is_stopped() {
            return;
        }
        let wake = |row: Option<&[u8]>| {
            let state = match row {
                None => E::fresh(number),
                Some(row) => E::decode(row).map_err(|error| format!("does not decode: {error}"))?,
            };
            Ok(Living::new(system.runner(number as usize), state))
        };
        match place.deliver(mail, system.seconds(), wake) {
            Ok(Delivered::Awake) => {}
            Ok(Delivered::Woken { slept }) => {
                if slept {
                    self.dormant.fetch_sub(1, Ordering::Relaxed);
                }
                self.live.fetch_add(1, Ordering::Relaxed);
                self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(number);
            }
            Err(why) => system.fail(format!("{} {number} {why}", E::KIND)),
        }
    }

    /// An actor's last act: publishes its row, unless messages wait; then it gets them and lives on.
    pub(super) fn lie_down(&self, system: &System, number: u32, myself: &Living<E>, state: &E) {
        let row = state.encode();
        let mut place = self.slots.get(number).lock();
        if !system.is_stopped() && place.go_on(myself, system.seconds()) {
            self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(number);
            return;
        }
        *place = Place::Dormant(row);
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.dormant.fetch_add(1, Ordering::Relaxed);
    }

    /// Puts the idle ones to sleep, and the longest idle ones of too many. Returns how many were told to.
    pub(crate) fn sweep(&self, sweep: Sweep) -> usize {
        let woken = std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner));
        let mut by_age: Vec<(u32, u32)> = Vec::with_capacity(woken.len());
        for number in woken {
            if let Place::Live { used, .. } = &*self.slots.get(number).lock() {
                by_age.push((*used, number));
            }
        }
        by_age.sort_unstable();
        let too_many = by_age.len().saturating_sub(sweep.live_max);
        let mut kept = Vec::new();
        let mut told = 0;
        for (index, (used, number)) in by_age.into_iter().enumerate() {
            if index >= too_many && sweep.now_s.saturating_sub(used) < sweep.idle_s {
                kept.push(number);
                continue;
            }
            told += usize::from(self.slots.get(number).lock().doze(Mail::Sleep));
        }
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).append(&mut kept);
        told
    }

    /// The entity's encoded row of now; `None` if the number has no entity.
    ///
    /// # Errors
    /// [`Gone`] if its actor went away: to take that for "no entity" would lose it from a snapshot.
    pub(crate) async fn row(&self, number: u32) -> Result<Option<Box<[u8]>>, Gone> {
        let answer = {
            let mut place = self.slots.get(number).lock();
            let (sender, answer) = oneshot::channel();
            let mail = Mail::Look(Box::new(move |state: &E, _: &E::Work| {
                let _ = sender.send(state.encode());
            }));
            match &mut *place {
                Place::Empty | Place::Fresh => return Ok(None),
                Place::Dormant(row) => return Ok(Some(row.clone())),
                Place::Live { actor, .. } => {
                    actor.put(mail);
                    answer
                }
                Place::Sleeping(_) if self.stopped.load(Ordering::Acquire) => return Err(Gone),
                // Waits with the others, which wakes it for a moment.
                Place::Sleeping(waiting) => {
                    waiting.push(mail);
                    answer
                }
            }
        };
        answer.await.map(Some).map_err(|_| Gone)
    }

    /// Stops every actor. What they had not journaled is lost, as in a crash.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        for number in 1..self.end() {
            match &mut *self.slots.get(number).lock() {
                Place::Live { actor, .. } => actor.stop(),
                // Its last message may be dropped with its runner, and then nobody would take these.
                Place::Sleeping(waiting) => waiting.clear(),
                Place::Empty | Place::Fresh | Place::Dormant(_) => {}
            }
        }
    }
}
