//! Engine time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::Millis;
use crate::planted::{Fault, planted};

/// Wall clock at open plus monotonic time since, and never below the newest journaled time: a wall clock that is
/// set back moves no deadline.
#[derive(Debug)]
pub(crate) struct Clock {
    base: Millis,
    start: Instant,
}

/// Where engine time begins at an open, given the wall clock and the newest journaled time.
pub fn base(wall: Millis, floor: Millis) -> Millis {
    if planted(Fault::ClockGoesBack) { wall } else { wall.max(floor) }
}

impl Clock {
    /// A clock that starts at the wall clock's time, or at `floor` if that is later.
    pub(crate) fn start(floor: Millis) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis);
        Clock { base: base(wall, floor), start: Instant::now() }
    }

    /// Now.
    pub(crate) fn now(&self) -> Millis {
        self.base + self.start.elapsed().as_millis() as Millis
    }

    /// Time until `at`; zero if it is past.
    pub(crate) fn until(&self, at: Millis) -> Duration {
        Duration::from_millis(at.saturating_sub(self.base)).saturating_sub(self.start.elapsed())
    }
}
