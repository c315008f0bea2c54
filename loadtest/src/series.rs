//! What happened in each second of a run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Failure;
use crate::counts::{LATENCY_US_MAX, Window};
use crate::live::Live;

const SECOND: Duration = Duration::from_secs(1);
/// A percent is precise enough for a curve, and such a histogram is small: it stays in the cache, and a second's end,
/// which is under a lock, takes microseconds.
const DIGITS: u8 = 2;

/// One second of the measured time.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub(crate) struct Second {
    /// Since the measured time began.
    pub(crate) second: u64,
    /// How long it was: less than 1 if the run ended in it.
    pub(crate) seconds: f64,
    /// Requests answered in it, whatever the answer.
    pub(crate) requests: u64,
    /// Answers but 200, and requests that got none.
    pub(crate) errors: u64,
    /// Latencies of what was answered 200 in it, in µs; `None` if nothing was.
    pub(crate) p50_us: Option<u64>,
    pub(crate) p99_us: Option<u64>,
    pub(crate) p99_9_us: Option<u64>,
    pub(crate) max_us: Option<u64>,
}

/// Counts the second that is under way and keeps those that have ended.
pub(crate) struct Series {
    window: Window,
    /// Seconds before the measured time.
    warm: u64,
    slot: u64,
    slot_end: Instant,
    latency_us: Histogram<u64>,
    requests: u64,
    errors: u64,
    requests_ever: u64,
    ended: Vec<Second>,
    live: Arc<Live>,
}

impl Series {
    pub(crate) fn new(window: Window, live: Arc<Live>) -> Result<Self, Failure> {
        let now = Instant::now();
        let warm = u64::from(window.start.saturating_duration_since(now) > Duration::ZERO)
            + window.start.saturating_duration_since(now).as_secs();
        // The first ends a whole number of seconds before the measured time begins.
        let after_first = u32::try_from(warm.saturating_sub(1))?;
        let slot_end = if warm == 0 { window.start + SECOND } else { window.start - after_first * SECOND };
        Ok(Self {
            window,
            warm,
            slot: 0,
            slot_end,
            latency_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)?,
            requests: 0,
            errors: 0,
            requests_ever: 0,
            ended: Vec::new(),
            live,
        })
    }

    /// A request has ended; `latency_us` if it was answered 200.
    pub(crate) fn ended(&mut self, now: Instant, latency_us: Option<u64>) {
        while now >= self.slot_end {
            self.roll();
        }
        self.requests += 1;
        self.requests_ever += 1;
        self.live.answered(self.requests_ever);
        match latency_us {
            Some(us) => self.latency_us.saturating_record(us),
            None => {
                self.errors += 1;
                self.live.failed();
            }
        }
    }

    /// The second under way has ended.
    fn roll(&mut self) {
        let quantile = |at: f64| (!self.latency_us.is_empty()).then(|| self.latency_us.value_at_quantile(at));
        let p99_us = quantile(0.99);
        self.live.second(p99_us);
        if let Some(second) = self.slot.checked_sub(self.warm) {
            let began = self.slot_end - SECOND;
            // After the measured time only late answers come; those seconds are whole.
            let ended = if began < self.window.end { self.slot_end.min(self.window.end) } else { self.slot_end };
            self.ended.push(Second {
                second,
                seconds: (ended - began).as_secs_f64(),
                requests: self.requests,
                errors: self.errors,
                p50_us: quantile(0.5),
                p99_us,
                p99_9_us: quantile(0.999),
                max_us: quantile(1.0),
            });
        }
        self.latency_us.reset();
        (self.requests, self.errors) = (0, 0);
        self.slot += 1;
        self.slot_end += SECOND;
    }

    /// Every second from the start of the measured time to its end, and on to the last answer if that came later.
    pub(crate) fn finish(mut self) -> Vec<Second> {
        while self.slot_end - SECOND < self.window.end {
            self.roll();
        }
        if self.requests > 0 {
            self.roll();
        }
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_in_the_second_of_its_end() {
        let start = Instant::now() + Duration::from_millis(1_500);
        let window = Window { start, end: start + Duration::from_millis(2_250) };
        let mut series = Series::new(window, Arc::default()).unwrap();
        let at = |ms: u64| start + Duration::from_millis(ms);
        series.ended(start - Duration::from_millis(1_400), Some(9));
        series.ended(start - Duration::from_millis(1), Some(9));
        for (ms, latency_us) in [(0, Some(100)), (999, Some(300)), (2_000, None), (2_100, Some(50)), (4_500, Some(70))]
        {
            series.ended(at(ms), latency_us);
        }
        let seconds = series.finish();
        let shown: Vec<_> = seconds.iter().map(|it| (it.second, it.seconds, it.requests, it.errors)).collect();
        assert_eq!(shown, [(0, 1.0, 2, 0), (1, 1.0, 0, 0), (2, 0.25, 2, 1), (3, 1.0, 0, 0), (4, 1.0, 1, 0)]);
        assert_eq!((seconds[0].p50_us, seconds[0].max_us, seconds[1].p99_us), (Some(100), Some(301), None));
    }

    #[test]
    fn a_run_without_warm_up_begins_at_once() {
        let start = Instant::now() - Duration::from_millis(1);
        let window = Window { start, end: start + SECOND };
        let mut series = Series::new(window, Arc::default()).unwrap();
        series.ended(start + Duration::from_millis(500), Some(1));
        assert_eq!(series.finish().iter().map(|second| second.requests).collect::<Vec<_>>(), [1]);
    }
}
