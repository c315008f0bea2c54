//! What is known of something that callers set again and again, while nobody knows in which order.

/// Something that is set to another value again and again.
#[derive(Debug, Clone)]
pub(crate) struct Setting<T> {
    /// What it was at the last time that nothing moved, and what was asked for since, in that order.
    asked: Vec<T>,
    /// It is one of those from here on.
    now_since: usize,
    /// How many have no answer yet. One whose answer never comes stays among them.
    in_flight: usize,
    /// The first that was asked for while nothing was in flight before it.
    busy_since: usize,
    /// One of those since then was done.
    was_set: bool,
}

impl<T: Copy + PartialEq + std::fmt::Debug> Setting<T> {
    pub(crate) fn new(value: T) -> Self {
        Setting { asked: vec![value], now_since: 0, in_flight: 0, busy_since: 0, was_set: false }
    }

    /// From where on values may be seen by who asks now.
    pub(crate) fn now_since(&self) -> usize {
        self.now_since
    }

    pub(crate) fn ask(&mut self, value: T) {
        if self.in_flight == 0 {
            (self.busy_since, self.was_set) = (self.asked.len(), false);
        }
        self.in_flight += 1;
        self.asked.push(value);
    }

    /// An answer has come.
    pub(crate) fn answered(&mut self, done: bool) {
        self.was_set |= done;
        self.in_flight -= 1;
        if self.in_flight == 0 && self.was_set {
            self.now_since = self.busy_since;
        }
    }

    pub(crate) fn may_be(&self, since: usize, value: T) -> bool {
        self.asked[since.min(self.asked.len())..].contains(&value)
    }

    /// What somebody was told who asked at `since`.
    pub(crate) fn judge(&self, since: usize, value: T) -> Result<(), String> {
        match self.may_be(since, value) {
            true => Ok(()),
            false => Err(format!("{value:?} is none of {:?}", &self.asked[since.min(self.asked.len())..])),
        }
    }
}
