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

pub(crate) use answers::{Admission, Answers, Busy, Then};
pub(crate) use clock::Clock;
pub(crate) use directory::Sweep;
pub(crate) use shell::Resident;
pub(crate) use system::{Observer, System};
