//! The line that tells how a run is going: rewritten in place on a terminal, now and then a new one elsewhere.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::report::{thousands, to_f64};

/// Between two looks on a terminal.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two lines where each is a new one.
const PAUSE_ELSEWHERE: Duration = Duration::from_secs(5);
/// Width of the bar.
const BAR: usize = 24;

/// What a run is at.
#[derive(Clone, Copy, Default)]
enum Stage {
    #[default]
    SetUp,
    /// From the beginning of the warm-up to the end of the measured time.
    Load { began: Instant, start: Instant, end: Instant },
    /// Answers are waited for, then stock and money are compared.
    Audit,
}

/// What those who load tell those who show it. Each store costs nothing that matters: nobody waits for it.
#[derive(Default)]
pub(crate) struct Live {
    stage: Mutex<Stage>,
    set_up_all: AtomicU64,
    set_up_done: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
    /// Of the last second that has ended.
    p99_us: AtomicU64,
}

impl Live {
    /// So many more steps of the set-up are ahead.
    pub(crate) fn set_up_has(&self, steps: u64) {
        self.set_up_all.fetch_add(steps, Ordering::Relaxed);
    }

    pub(crate) fn set_up_did_one(&self) {
        self.set_up_done.fetch_add(1, Ordering::Relaxed);
    }

    /// The load begins now; `start` and `end` are those of the measured time.
    pub(crate) fn load_begins(&self, start: Instant, end: Instant) {
        self.at(Stage::Load { began: Instant::now(), start, end });
    }

    pub(crate) fn audit_begins(&self) {
        self.at(Stage::Audit);
    }

    fn at(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// So many requests were answered until now, from the beginning of the warm-up.
    pub(crate) fn answered(&self, requests: u64) {
        self.requests.store(requests, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// A second has ended.
    pub(crate) fn second(&self, p99_us: Option<u64>) {
        self.p99_us.store(p99_us.unwrap_or(0), Ordering::Relaxed);
    }

    /// What is shown at `now`; `since` is how long ago `requests_then` requests had been answered.
    fn line(&self, now: Instant, since: Duration, requests_then: u64) -> String {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        match *self.stage.lock().unwrap_or_else(PoisonError::into_inner) {
            Stage::SetUp => {
                let (done, all) = (count(&self.set_up_done), count(&self.set_up_all));
                let bar = Bar(if all == 0 { 0.0 } else { to_f64(done) / to_f64(all) });
                format!("set-up   {bar} {} of {} people, stores and books", thousands(done), thousands(all))
            }
            Stage::Load { began, start, end } => {
                let (name, from, to) = if now < start { ("warm-up", began, start) } else { ("load", start, end) };
                let (gone, whole) = (now.min(to) - from, to - from);
                let bar = Bar(gone.as_secs_f64() / whole.as_secs_f64());
                let answered = count(&self.requests) - requests_then;
                let per_second = to_f64(answered) / since.as_secs_f64();
                let p99_us = count(&self.p99_us);
                let p99 = match answered {
                    0 => "-".to_owned(),
                    _ => format!("{:.2} ms", to_f64(p99_us) / 1e3),
                };
                format!(
                    "{name:<8} {bar} {:.0} of {:.0} s  {} requests/s  p99 {p99}  errors {}",
                    gone.as_secs_f64(),
                    whole.as_secs_f64(),
                    thousands(per_second.round() as u64),
                    thousands(count(&self.errors))
                )
            }
            Stage::Audit => "audit    comparing stock and money".to_owned(),
        }
    }
}

/// How much is done, from 0 to 1.
struct Bar(f64);

impl fmt::Display for Bar {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = (self.0.clamp(0.0, 1.0) * BAR as f64) as usize;
        write!(out, "[{}{}]", "#".repeat(full), "-".repeat(BAR - full))
    }
}

/// Shows a [`Live`] on standard error, on a thread of its own, until it is ended.
pub(crate) struct Ticker {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Ticker {
    pub(crate) fn start(live: Arc<Live>) -> Self {
        let (stop, stopped) = mpsc::channel();
        let in_place = std::io::stderr().is_terminal();
        let thread = std::thread::spawn(move || show(&live, &stopped, in_place));
        Self { stop, thread }
    }

    /// The line goes away.
    pub(crate) fn end(self) {
        drop(self.stop);
        // It has nothing to say but its lines, and what it could not write nobody reads.
        let _ = self.thread.join();
    }
}

fn show(live: &Live, stopped: &mpsc::Receiver<()>, in_place: bool) {
    let pause = if in_place { PAUSE } else { PAUSE_ELSEWHERE };
    let (mut then, mut requests_then) = (Instant::now(), 0);
    while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
        let now = Instant::now();
        let line = live.line(now, now - then, requests_then);
        (then, requests_then) = (now, live.requests.load(Ordering::Relaxed));
        let mut out = std::io::stderr().lock();
        // A closed standard error must not end the run.
        let _ = match in_place {
            true => write!(out, "\r{line}\x1b[K").and_then(|()| out.flush()),
            false => writeln!(out, "{line}"),
        };
    }
    if in_place {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_follows_the_run() {
        let live = Live::default();
        let second = Duration::from_secs(1);
        let now = Instant::now();
        live.set_up_has(1_200);
        (0..600).for_each(|_| live.set_up_did_one());
        let line = live.line(now, second, 0);
        assert_eq!(line, "set-up   [############------------] 600 of 1,200 people, stores and books");

        live.at(Stage::Load { began: now, start: now + 2 * second, end: now + 12 * second });
        assert!(live.line(now + second, second, 0).starts_with("warm-up  [############------------] 1 of 2 s "));
        live.answered(45_000);
        live.second(Some(2_310));
        live.failed();
        let line = live.line(now + 5 * second, 2 * second, 5_000);
        assert_eq!(line, "load     [#######-----------------] 3 of 10 s  20,000 requests/s  p99 2.31 ms  errors 1");
        let stalled = live.line(now + 60 * second, second, 45_000);
        assert_eq!(stalled, "load     [########################] 10 of 10 s  0 requests/s  p99 -  errors 1");
    }
}
