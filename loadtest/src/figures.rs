//! What the open loop counts of each of its phases.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Failure;
use crate::counts::LATENCY_US_MAX;

/// What an answer means for the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done.
    Accepted,
    /// 503 with `Retry-After`: nothing was done, come back later.
    Refused,
    /// Anything else; it should not be there. The text is its kind.
    Wrong(&'static str),
}

/// One request's way: when it was due, how long until its answer, and what it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Since the phase began.
    pub(crate) due: Duration,
    pub(crate) took: Duration,
    pub(crate) verdict: Verdict,
}

/// What was counted of the requests that were due in one phase.
pub(crate) struct Figures {
    /// How long requests were sent for.
    pub(crate) time: Duration,
    pub(crate) due: u64,
    /// µs from the moment a request was due to its answer.
    pub(crate) accepted_us: Histogram<u64>,
    /// The same for those that were refused.
    pub(crate) refused_us: Histogram<u64>,
    /// µs that requests left after they were due although a connection was free: the generator's own fault.
    pub(crate) late_us: Histogram<u64>,
    /// Requests that found no free connection when they were due.
    pub(crate) waited: u64,
    /// Requests that were never sent: given up at the end, or due while too many waited.
    pub(crate) dropped: u64,
    /// Everything that should not be there, by kind.
    pub(crate) wrong: BTreeMap<&'static str, u64>,
    /// Every request, in the order of their answers, if they were wanted.
    pub(crate) samples: Option<Vec<Sample>>,
}

impl Figures {
    pub(crate) fn new(time: Duration, with_samples: bool) -> Result<Self, Failure> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Ok(Self {
            time,
            due: 0,
            accepted_us: histogram()?,
            refused_us: histogram()?,
            late_us: histogram()?,
            waited: 0,
            dropped: 0,
            wrong: BTreeMap::new(),
            samples: with_samples.then(Vec::new),
        })
    }

    pub(crate) fn count(&mut self, sample: Sample) {
        match sample.verdict {
            Verdict::Accepted => self.accepted_us.saturating_record(micros(sample.took)),
            Verdict::Refused => self.refused_us.saturating_record(micros(sample.took)),
            Verdict::Wrong(kind) => *self.wrong.entry(kind).or_default() += 1,
        }
        if let Some(samples) = &mut self.samples {
            samples.push(sample);
        }
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
