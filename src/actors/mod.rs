//! Runs the domain's entities: one generic shell with a mailbox, the runners that give turns to it, the directory of who
//! is alive and who sleeps, and the answers that wait for the journal.
//!
//! The only room that knows ractor, of which the runners are actors. They are never named (the registry is global to the
//! process) and never killed (a kill cuts a handler in the middle of an await); they are stopped.

mod answers;
mod clock;
mod directory;
mod inbox;
mod resting;
mod runner;
mod segmented;
mod shell;
mod slot;
mod system;
#[cfg(test)]
mod trap;

pub use answers::{Admission, Answers, Busy, Then};
pub(crate) use clock::Clock;
pub use clock::base as clock_base;
pub(crate) use directory::{Directory, Sweep};
pub use resting::{Answered, answer};
pub(crate) use system::{Observer, System};
#[cfg(test)]
pub(crate) use trap::Point;
