//! A wait that ends when it should.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::Failure;

/// Ends a wait for sockets to the microsecond, which their system call cannot.
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    /// What its event is called; no connection has this number.
    const TOKEN: Token = Token(usize::MAX);

    /// Does not go off yet.
    pub(crate) fn new(poll: &Poll) -> Result<Self, Failure> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), Self::TOKEN, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Goes off once, `after` from now, which must be above zero. An earlier one is forgotten.
    pub(crate) fn set(&self, after: Duration) -> Result<(), Failure> {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval: never, it_value: after.try_into()? };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use mio::Events;

    use super::*;

    #[test]
    fn it_goes_off_each_time_it_is_set_and_not_before() {
        let mut poll = Poll::new().unwrap();
        let alarm = Alarm::new(&poll).unwrap();
        let mut events = Events::with_capacity(4);
        for after in [Duration::from_micros(300), Duration::from_micros(700)] {
            let began = Instant::now();
            alarm.set(after).unwrap();
            poll.poll(&mut events, Some(Duration::from_secs(60))).unwrap();
            assert!(began.elapsed() >= after && events.iter().all(|event| event.token() == Alarm::TOKEN));
            assert_eq!(events.iter().count(), 1);
        }
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "it is not set");
    }
}
