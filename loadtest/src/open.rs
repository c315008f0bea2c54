//! The open loop: requests leave when they are due, whether or not earlier ones were answered.
//!
//! Latency is counted from the moment a request was due, so whatever makes it late (the server, its queue, this
//! generator) is in the figures: nothing is left out because the server was too slow to be asked. One thread waits
//! for all sockets itself. A request that is due while every connection has one under way waits for a connection; there
//! is no pipelining. What still waits when the time is over is sent then, and what cannot be sent has waited until it is
//! given up. The same connections can also run a closed loop, so that capacity is measured by the same means.
//!
//! What is sent, and what an answer means, is a [`Traffic`].

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Failure;
use crate::alarm::Alarm;
use crate::client::{Answer, whole_answer};
use crate::drive::NOT_CONNECTED;
use crate::figures::micros;
pub(crate) use crate::figures::{Figures, Sample, Verdict};
use crate::interrupt;
use crate::scenario::Random;

/// Connections that are being made at once: fewer than a server's backlog holds.
const CONNECTING_MAX: usize = 256;
/// How long all connections together may take to come about.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);
/// Pause after a connection did not come about, so that a server that is away is not hammered.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Requests that may be due and wait for a connection; what is due beyond it is never sent, and counted.
const WAITING_MAX: usize = 200_000;
/// Those beyond it are kept together if they were due within this.
const BEYOND_TIME: Duration = Duration::from_millis(1);
/// Requests sent between two looks at the sockets, so that no answer waits long for its time to be taken.
const SENT_AT_ONCE_MAX: usize = 16;
/// Longest sleep between two looks at whether a signal has come.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// Room for the pieces of an answer.
const READ_BYTES: usize = 16 << 10;

/// What is sent and what becomes of it.
pub(crate) trait Traffic {
    /// What a request was, until its answer is there.
    type Call: Copy;

    /// Writes the next request into `request`, which is empty.
    fn next(&mut self, now: Instant, request: &mut Vec<u8>) -> Self::Call;

    /// Books an answer to a request that was due at `due`.
    fn answered(&mut self, due: Instant, now: Instant, call: Self::Call, answer: &Answer<'_>) -> Verdict;

    /// Books a request without an answer: it may have been done.
    fn lost(&mut self, due: Instant, call: Self::Call, kind: &'static str);

    /// Books that a connection did not come about, or not again.
    fn not_connected(&mut self, now: Instant);

    /// Books a request that was due at `due` and had not been sent by `now`, when it was given up.
    fn never_sent(&mut self, due: Instant, now: Instant);
}

/// What becomes of requests that still wait for a connection when the last phase is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// They are sent, as long as the patience lasts.
    Sent,
    /// They are given up at once: for who sends more than can be done anyway, and wants to rest afterwards.
    Dropped,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// This many connections each send, wait for the answer, and send the next.
    Closed { connections: usize },
    /// This many requests a second are due, at random moments (a Poisson process), answered or not.
    Open { per_second: f64 },
}

/// A request that is due.
#[derive(Clone, Copy)]
struct Due {
    phase: usize,
    at: Instant,
    /// A connection was free when it was due.
    had_connection: bool,
}

/// Requests that were due while too many waited.
struct Beyond {
    phase: usize,
    /// When the first and the last of them were due.
    first: Instant,
    last: Instant,
    count: u64,
}

/// A request under way.
struct Under<C> {
    due: Due,
    call: C,
}

struct Connection<C> {
    stream: Option<TcpStream>,
    connected: bool,
    /// The server said that it closes. Let it be the first: who closes first keeps the port busy for a minute.
    closing: bool,
    under: Option<Under<C>>,
    /// The request, and how much of it has left.
    request: Vec<u8>,
    sent: usize,
    /// The answer as far as it has come.
    answer: Vec<u8>,
}

/// Connections to one server, and what they counted.
pub(crate) struct Generator<T: Traffic> {
    address: SocketAddr,
    poll: Poll,
    events: Events,
    connections: Vec<Connection<T::Call>>,
    /// Those that may send, the one that has rested longest first.
    free: VecDeque<usize>,
    /// Those that are not connected yet.
    connecting: usize,
    /// Those that did not come about, by the moment from which they may be tried again.
    refused: VecDeque<(Instant, usize)>,
    /// Every connection has been there once: from then on one that is refused is tried again.
    is_set_up: bool,
    waiting: VecDeque<Due>,
    /// What is never sent, until the end, when it is known how long it has waited at least.
    beyond: Vec<Beyond>,
    /// Requests under way, of whatever phase.
    under_way: usize,
    /// When each phase began, and its figures.
    phases: Vec<(Instant, Figures)>,
    random: Random,
    /// The generator has a core of its own and need not sleep on it.
    spins: bool,
    alarm: Alarm,
    pub(crate) traffic: T,
}

impl<T: Traffic> Generator<T> {
    /// Connects. With `spins` the thread never sleeps while requests are due: for a generator with its own core.
    pub(crate) fn connect(
        address: SocketAddr,
        connections: usize,
        traffic: T,
        seed: u64,
        spins: bool,
    ) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let alarm = Alarm::new(&poll)?;
        let mut generator = Self {
            address,
            poll,
            events: Events::with_capacity(1_024),
            connections: Vec::with_capacity(connections),
            free: VecDeque::with_capacity(connections),
            connecting: 0,
            refused: VecDeque::new(),
            is_set_up: false,
            waiting: VecDeque::new(),
            beyond: Vec::new(),
            under_way: 0,
            phases: Vec::new(),
            random: Random::new(seed),
            spins,
            alarm,
            traffic,
        };
        let deadline = Instant::now() + CONNECT_TIME_MAX;
        while generator.connections.len() < connections || generator.connecting > 0 {
            while generator.connections.len() < connections && generator.connecting < CONNECTING_MAX {
                generator.connections.push(Connection {
                    stream: None,
                    connected: false,
                    closing: false,
                    under: None,
                    request: Vec::new(),
                    sent: 0,
                    answer: Vec::with_capacity(1_024),
                });
                generator.open(generator.connections.len() - 1)?;
            }
            if Instant::now() > deadline {
                return Err(format!("{connections} connections did not come about in time").into());
            }
            generator.turn(Some(Duration::from_millis(10)), None)?;
        }
        generator.is_set_up = true;
        Ok(generator)
    }

    /// Sends at `pace` for `time`, and gives the number of the phase. Its last requests may be answered later.
    pub(crate) fn phase(&mut self, pace: Pace, time: Duration, with_samples: bool) -> Result<usize, Failure> {
        // Connections that the server has closed meanwhile are made anew first.
        while self.under_way == 0 && (self.turn(Some(Duration::ZERO), None)? > 0 || self.connecting > 0) {}
        self.phase_from(Instant::now(), pace, time, with_samples)
    }

    /// The same from `began` on, which may be over: what was due since then is sent at once.
    pub(crate) fn phase_from(
        &mut self,
        began: Instant,
        pace: Pace,
        time: Duration,
        with_samples: bool,
    ) -> Result<usize, Failure> {
        let phase = self.phases.len();
        self.phases.push((began, Figures::new(time, with_samples)?));
        let end = began + time;
        let mut next = began;
        loop {
            let now = Instant::now();
            // Also if the end is over: who was held up over it owes what was due before it.
            if let Pace::Open { per_second } = pace {
                while next <= now && next < end {
                    self.due(phase, next);
                    next += self.random.gap(per_second);
                }
            }
            if now >= end {
                return Ok(phase);
            }
            let (sleep, closed) = match pace {
                Pace::Closed { connections } => {
                    // Those of the phase before are still under way, so they count.
                    for _ in self.under_way + self.waiting.len()..connections {
                        self.due(phase, now);
                    }
                    (end - now, Some((phase, connections)))
                }
                Pace::Open { .. } => (next.min(end).saturating_duration_since(Instant::now()), None),
            };
            self.send_waiting()?;
            let sleep = if self.waiting.is_empty() || self.free.is_empty() { sleep } else { Duration::ZERO };
            // The system sleeps in whole milliseconds; the rest is for the alarm.
            let is_short = sleep < Duration::from_millis(2);
            let sleep = match is_short {
                true if self.spins || sleep.is_zero() => Duration::ZERO,
                true => {
                    self.alarm.set(sleep)?;
                    Duration::from_millis(2)
                }
                false => sleep - Duration::from_millis(1),
            };
            self.turn(Some(sleep), closed)?;
        }
    }

    /// Sends what was due and waits, if `rest` says so, and waits for what is under way, both together at most for
    /// `patience`. What is not sent then has waited until then, which is the least that can be said of its latency; what
    /// has no answer then is lost, and its connection closed.
    pub(crate) fn settle(&mut self, patience: Duration, rest: Rest) -> Result<(), Failure> {
        let end = Instant::now() + patience;
        if rest == Rest::Dropped {
            self.give_up_waiting();
        }
        while (self.under_way > 0 || !self.waiting.is_empty()) && Instant::now() < end {
            self.send_waiting()?;
            let may_send = !self.waiting.is_empty() && !self.free.is_empty();
            self.turn(Some(if may_send { Duration::ZERO } else { Duration::from_millis(10) }), None)?;
        }
        self.give_up_waiting();
        for number in 0..self.connections.len() {
            if self.connections[number].under.is_some() {
                self.lose(number, "no answer in time");
                self.open(number)?;
            }
        }
        Ok(())
    }

    /// Nothing that waits is sent any more.
    fn give_up_waiting(&mut self) {
        let now = Instant::now();
        for due in std::mem::take(&mut self.waiting) {
            self.phases[due.phase].1.dropped += 1;
            self.traffic.never_sent(due.at, now);
        }
        for Beyond { phase, last, count, .. } in std::mem::take(&mut self.beyond) {
            self.phases[phase].1.dropped += count;
            (0..count).for_each(|_| self.traffic.never_sent(last, now));
        }
    }

    /// What a phase counted so far.
    pub(crate) fn figures(&self, phase: usize) -> &Figures {
        &self.phases[phase].1
    }

    fn due(&mut self, phase: usize, at: Instant) {
        let had_connection = self.waiting.len() < self.free.len();
        let figures = &mut self.phases[phase].1;
        figures.due += 1;
        figures.waited += u64::from(!had_connection);
        if self.waiting.len() < WAITING_MAX {
            return self.waiting.push_back(Due { phase, at, had_connection });
        }
        match self.beyond.last_mut() {
            Some(beyond) if beyond.phase == phase && at.duration_since(beyond.first) < BEYOND_TIME => {
                beyond.last = at;
                beyond.count += 1;
            }
            _ => self.beyond.push(Beyond { phase, first: at, last: at, count: 1 }),
        }
    }

    fn send_waiting(&mut self) -> Result<(), Failure> {
        for _ in 0..SENT_AT_ONCE_MAX {
            if self.waiting.is_empty() || self.free.is_empty() {
                break;
            }
            let (Some(due), Some(number)) = (self.waiting.pop_front(), self.free.pop_front()) else { break };
            let now = Instant::now();
            if due.had_connection {
                self.phases[due.phase].1.late_us.saturating_record(micros(now - due.at));
            }
            let connection = &mut self.connections[number];
            connection.request.clear();
            connection.sent = 0;
            connection.answer.clear();
            connection.under = Some(Under { due, call: self.traffic.next(now, &mut connection.request) });
            self.under_way += 1;
            self.write(number)?;
        }
        Ok(())
    }

    /// One look at all sockets; how many had something to tell.
    fn turn(&mut self, sleep: Option<Duration>, closed: Option<(usize, usize)>) -> Result<usize, Failure> {
        interrupt::check()?;
        let sleep = sleep.map(|sleep| sleep.min(SLEEP_MAX));
        let sleep = match self.open_refused()? {
            // A moment later rather than too early.
            Some(until) => sleep.map(|sleep| sleep.min(until + Duration::from_millis(1))),
            None => sleep,
        };
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, sleep) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            self.happened(event, closed)?;
        }
        let told = events.iter().count();
        self.events = events;
        Ok(told)
    }

    fn happened(&mut self, event: &Event, closed: Option<(usize, usize)>) -> Result<(), Failure> {
        let number = event.token().0;
        // The alarm has nothing to tell but that it is time.
        let Some(connection) = self.connections.get(number) else { return Ok(()) };
        if connection.stream.is_none() {
            return Ok(());
        }
        if !connection.connected {
            return self.connected(number, event);
        }
        if connection.closing {
            return self.wait_for_close(number);
        }
        if event.is_writable() && connection.sent < connection.request.len() {
            self.write(number)?;
        }
        if event.is_readable() && self.read(number)? {
            // In the closed loop the next request leaves at once.
            if let Some((phase, connections)) = closed
                && self.under_way + self.waiting.len() < connections
            {
                self.due(phase, Instant::now());
                self.send_waiting()?;
            }
        }
        Ok(())
    }

    fn connected(&mut self, number: usize, event: &Event) -> Result<(), Failure> {
        if !event.is_writable() && !event.is_error() {
            return Ok(());
        }
        let Some(stream) = &self.connections[number].stream else { return Ok(()) };
        let made =
            stream.take_error().and_then(|error| error.map_or(Ok(()), Err)).and_then(|()| stream.set_nodelay(true));
        self.connecting -= 1;
        if let Err(error) = made {
            return self.not_connected(number, &error);
        }
        self.connections[number].connected = true;
        self.free.push_back(number);
        Ok(())
    }

    fn open(&mut self, number: usize) -> Result<(), Failure> {
        let mut stream = match TcpStream::connect(self.address) {
            Ok(stream) => stream,
            Err(error) => return self.not_connected(number, &error),
        };
        self.poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        let connection = &mut self.connections[number];
        connection.stream = Some(stream);
        connection.connected = false;
        connection.closing = false;
        connection.request.clear();
        connection.sent = 0;
        self.connecting += 1;
        Ok(())
    }

    /// Before the load that is the end; under it the connection is tried again later, and requests wait meanwhile.
    fn not_connected(&mut self, number: usize, error: &std::io::Error) -> Result<(), Failure> {
        if !self.is_set_up {
            return Err(format!("cannot connect: {error}").into());
        }
        self.connections[number].stream = None;
        let now = Instant::now();
        if let Some((_, figures)) = self.phases.last_mut() {
            *figures.wrong.entry(NOT_CONNECTED).or_default() += 1;
        }
        self.traffic.not_connected(now);
        self.refused.push_back((now + RECONNECT_PAUSE, number));
        Ok(())
    }

    /// Tries those again that have rested; how long until the next may be.
    fn open_refused(&mut self) -> Result<Option<Duration>, Failure> {
        let now = Instant::now();
        while let Some((from, number)) = self.refused.front().copied() {
            if from > now {
                return Ok(Some(from - now));
            }
            self.refused.pop_front();
            self.open(number)?;
        }
        Ok(None)
    }

    fn write(&mut self, number: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[number];
        let Some(stream) = &mut connection.stream else { return Ok(()) };
        while connection.sent < connection.request.len() {
            match stream.write(&connection.request[connection.sent..]) {
                Ok(sent) => connection.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => {
                    self.lose(number, "connection lost");
                    return self.open(number);
                }
            }
        }
        Ok(())
    }

    /// Reads what is there; whether the answer is whole.
    fn read(&mut self, number: usize) -> Result<bool, Failure> {
        let connection = &mut self.connections[number];
        let Some(stream) = &mut connection.stream else { return Ok(false) };
        let mut piece = [0; READ_BYTES];
        loop {
            match stream.read(&mut piece) {
                Ok(0) => {
                    self.lose(number, "connection closed");
                    self.open(number)?;
                    return Ok(false);
                }
                Ok(read) => {
                    connection.answer.extend_from_slice(&piece[..read]);
                    if read < piece.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.lose(number, "connection lost");
                    self.open(number)?;
                    return Ok(false);
                }
            }
        }
        self.judge(number)
    }

    /// Books the answer if it is whole.
    fn judge(&mut self, number: usize) -> Result<bool, Failure> {
        let now = Instant::now();
        let connection = &mut self.connections[number];
        if connection.under.is_none() {
            return Ok(false);
        }
        let (head, end) = match whole_answer(&connection.answer, false) {
            Ok(None) => return Ok(false),
            Ok(Some(whole)) => whole,
            Err(_) => {
                self.lose(number, "malformed answer");
                self.open(number)?;
                return Ok(false);
            }
        };
        let Some(Under { due, call }) = connection.under.take() else { return Ok(false) };
        self.under_way -= 1;
        let verdict = self.traffic.answered(due.at, now, call, &head.answer(&connection.answer[..end]));
        let (began, figures) = &mut self.phases[due.phase];
        figures.count(Sample { due: due.at - *began, took: now - due.at, verdict });
        if head.close {
            connection.closing = true;
            self.wait_for_close(number)?;
        } else {
            self.free.push_back(number);
        }
        Ok(true)
    }

    /// Connects anew if the server has closed.
    fn wait_for_close(&mut self, number: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[number];
        let Some(stream) = &mut connection.stream else { return Ok(()) };
        match stream.read(&mut [0; 16]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            _ => {
                connection.stream = None;
                self.open(number)
            }
        }
    }

    /// Gives a connection up, with what is under way on it.
    fn lose(&mut self, number: usize, kind: &'static str) {
        let connection = &mut self.connections[number];
        connection.stream = None;
        match connection.under.take() {
            Some(Under { due, call }) => {
                self.under_way -= 1;
                *self.phases[due.phase].1.wrong.entry(kind).or_default() += 1;
                self.traffic.lost(due.at, call, kind);
            }
            None => self.free.retain(|free| *free != number),
        }
    }
}

#[cfg(test)]
mod tests;
