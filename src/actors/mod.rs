//! Runs the domain's entities on ractor: one generic shell, the directory of who is alive and who sleeps, and the
//! answers that wait for the journal.
//!
//! The only room that knows ractor. Actors are never named (the registry is global to the process) and never
//! killed (a kill cuts a handler in the middle of an await); they are stopped.

mod answers;
mod clock;
mod directory;
mod resting;
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
