//! One slot of a directory: where the state of an entity is, and how a message finds it.
//!
//! - wake: a message for a dormant row starts the actor and is its first message;
//! - sleep: the place becomes `Sleeping` and the actor is told so by a last message; what comes meanwhile waits here;
//!   on that last message the actor publishes its row, or goes on with what waits.
//!
//! All of it under the slot's lock. So no message is lost, and there are never two actors of one number.
//! `tests/interleavings` tries all orders; therefore nothing in here knows ractor.

/// An actor as a slot needs it.
pub(super) trait Mailbox<M>: Clone {
    /// Puts a message into the mailbox; false if the actor is gone.
    fn put(&self, mail: M) -> bool;
}

/// Where the state of an entity is.
pub(super) enum Place<A, M> {
    /// Nowhere: the number is not given.
    Empty,
    /// Given, before the first event.
    Fresh,
    /// In its encoded row.
    Dormant(Box<[u8]>),
    /// In its actor.
    Live {
        actor: A,
        /// Seconds since open at the last message.
        used: u32,
    },
    /// In its actor, which is about to publish its row. Boxed so that a slot stays small.
    #[expect(clippy::box_collection, reason = "a slot is paid for a million times, a sleeping one hardly ever")]
    Sleeping(Box<Vec<M>>),
}

/// What a delivery did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// The actor has it, or gets it instead of falling asleep.
    Awake,
    /// An actor was started for it; from its row if it `slept`.
    Woken { slept: bool },
}

impl<A: Mailbox<M>, M> Place<A, M> {
    /// Delivers a message. `wake` starts the actor, from its row or before its first event.
    pub(super) fn deliver(
        &mut self,
        mail: M,
        now_s: u32,
        wake: impl FnOnce(Option<&[u8]>) -> Result<A, String>,
    ) -> Result<Delivered, String> {
        let (actor, slept) = match self {
            Place::Live { actor, used } => {
                *used = now_s;
                // It stops only after its place is not `Live` any more, or with the whole engine.
                return if actor.put(mail) { Ok(Delivered::Awake) } else { Err("is gone".to_owned()) };
            }
            Place::Sleeping(waiting) => {
                waiting.push(mail);
                return Ok(Delivered::Awake);
            }
            Place::Empty => return Err("does not exist and is sent a message".to_owned()),
            Place::Fresh => (wake(None)?, false),
            Place::Dormant(row) => (wake(Some(row))?, true),
        };
        actor.put(mail);
        *self = Place::Live { actor, used: now_s };
        Ok(Delivered::Woken { slept })
    }

    /// Tells a living actor to lie down, by the message `sleep`. False if it is not alive.
    pub(super) fn doze(&mut self, sleep: M) -> bool {
        let Place::Live { actor, .. } = self else { return false };
        actor.put(sleep);
        *self = Place::Sleeping(Box::default());
        true
    }

    /// Whether the actor that was told to lie down has to go on, because messages wait. It has them then.
    pub(super) fn go_on(&mut self, myself: &A, now_s: u32) -> bool {
        let Place::Sleeping(waiting) = self else { return false };
        if waiting.is_empty() {
            return false;
        }
        // Under the lock, so that nothing overtakes what waited.
        for mail in waiting.drain(..) {
            myself.put(mail);
        }
        *self = Place::Live { actor: myself.clone(), used: now_s };
        true
    }
}
