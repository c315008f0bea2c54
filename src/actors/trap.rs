//! A panic on purpose, for tests of this crate: nothing of it is in any other build.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};

/// Where an actor panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// A message was judged, and no effect has taken place.
    Judged,
    /// Its event is encoded and not appended.
    BeforeAppend,
    /// Its event is appended and not applied.
    AfterAppend,
    /// Its event is applied, and nobody was told.
    Applied,
    /// It is shown, changed in memory, told to forget or to lie down: nothing that is judged.
    Aside,
}

/// Springs once.
#[derive(Debug, Default)]
pub(crate) struct Trap(Mutex<Option<(&'static str, Point, u32)>>);

impl Trap {
    /// The actor of this kind panics there when it has passed so often.
    pub(crate) fn set(&self, kind: &'static str, point: Point, passes: u32) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((kind, point, passes));
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn pass(&self, kind: &'static str, point: Point) {
        let mut trap = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *trap {
            Some((trapped, at, passes)) if *trapped == kind && *at == point => {
                if *passes == 0 {
                    *trap = None;
                    drop(trap);
                    // Not by `panic!`, whose message and backtrace nobody wants to see a hundred times.
                    resume_unwind(Box::new("on purpose"));
                }
                *passes -= 1;
            }
            _ => {}
        }
    }
}
