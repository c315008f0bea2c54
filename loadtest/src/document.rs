//! The whole result of `run`: what the JSON file holds and the page shows. `docs/loadtest-json.md` describes it; a
//! change that would break a reader needs another [`SCHEMA`].

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::args::{LineRange, Load};
use crate::baseline::Comparison;
use crate::environment::Environment;
use crate::report::{Latency, Report, thousands};
use crate::series::Second;

/// The shape of the document.
pub(crate) const SCHEMA: u32 = 1;
/// Points of the percentile curve between two nines.
const POINTS_A_NINE: u32 = 10;

/// Everything a run found.
#[derive(Serialize)]
pub(crate) struct Document {
    pub(crate) schema: u32,
    /// Of this tool.
    pub(crate) version: &'static str,
    pub(crate) environment: Environment,
    pub(crate) load: LoadShown,
    pub(crate) result: Report,
    /// Only of an open loop.
    pub(crate) open: Option<OpenShown>,
    pub(crate) series: Vec<Second>,
    pub(crate) percentiles: Vec<Point>,
    /// One for each second, if the server tells of its journal.
    pub(crate) journal: Option<Vec<JournalSecond>>,
    pub(crate) baseline: Option<Comparison>,
}

/// How the load was made; what is not here is in the result.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub(crate) struct LoadShown {
    #[serde(rename = "loop")]
    pub(crate) kind: Loop,
    /// Requests a second that were due, in an open loop.
    pub(crate) rate_per_second: Option<f64>,
    pub(crate) warmup_seconds: f64,
    pub(crate) buyers: u32,
    pub(crate) stores: u32,
    pub(crate) books: u32,
    pub(crate) lines_min: usize,
    pub(crate) lines_max: usize,
    pub(crate) idempotency_keys: bool,
    pub(crate) seed: u64,
}

/// When requests are sent.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Loop {
    /// Each connection sends when it has its answer.
    Closed,
    /// They are sent when they are due.
    Open,
}

impl LoadShown {
    pub(crate) fn new(load: &Load, rate: Option<f64>) -> Self {
        let LineRange { min: lines_min, max: lines_max } = load.lines;
        Self {
            kind: if rate.is_some() { Loop::Open } else { Loop::Closed },
            rate_per_second: rate,
            warmup_seconds: load.warmup.as_secs_f64(),
            buyers: load.buyers,
            stores: load.stores,
            books: load.books,
            lines_min,
            lines_max,
            idempotency_keys: load.keys,
            seed: load.seed,
        }
    }
}

/// What only an open loop knows.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct OpenShown {
    /// Requests that were due.
    pub(crate) due: u64,
    /// Those that found every connection occupied; the wait is in their latency.
    pub(crate) waited_for_a_connection: u64,
    /// Those that were never sent: still without a connection when the time-out after the measured time had passed, or
    /// due while too many waited. They are errors, and in the latency of all with what they had waited by then.
    pub(crate) dropped: u64,
    /// How late requests left although a connection was free: the generator's own fault, and in their latency, too.
    pub(crate) generator_late: Option<Latency>,
}

impl OpenShown {
    /// What to say if not all was sent.
    pub(crate) fn never_sent(&self) -> Option<String> {
        (self.dropped > 0).then(|| {
            format!(
                "{} of {} requests were never sent: they count as errors, and in the latency of all with the time they \
                 had waited when they were given up, so p99 and above may be higher in truth",
                thousands(self.dropped),
                thousands(self.due)
            )
        })
    }
}

/// A point of the percentile curve.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// From 0 to 1.
    pub(crate) quantile: f64,
    /// No more than this, in µs.
    pub(crate) us: u64,
}

/// The journal between two looks at the server's metrics.
#[derive(Serialize, Clone, Copy, Debug, PartialEq)]
pub(crate) struct JournalSecond {
    /// When it ended, in seconds since the measured time began.
    pub(crate) second: f64,
    /// Events in an average batch; `None` if there was no batch.
    pub(crate) frames_per_batch: Option<f64>,
    /// Average time of a sync, in µs; `None` if there was none.
    pub(crate) sync_us: Option<f64>,
}

/// The percentile curve, from 0 on towards 1 by tenths of a nine, as far as there are values, and the greatest of all.
pub(crate) fn percentiles(all_us: Option<&Histogram<u64>>) -> Vec<Point> {
    let Some(histogram) = all_us.filter(|histogram| !histogram.is_empty()) else { return Vec::new() };
    let mut points = Vec::new();
    for step in 0.. {
        let above = 10_f64.powf(-f64::from(step) / f64::from(POINTS_A_NINE));
        if above * crate::report::to_f64(histogram.len()) < 1.0 {
            break;
        }
        points.push(Point { quantile: 1.0 - above, us: histogram.value_at_quantile(1.0 - above) });
    }
    points.push(Point { quantile: 1.0, us: histogram.max() });
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_sent_is_warned_of() {
        let open = |dropped| OpenShown { due: 5_000, waited_for_a_connection: 0, dropped, generator_late: None };
        assert_eq!(open(0).never_sent(), None);
        assert!(open(1_234).never_sent().unwrap().starts_with("1,234 of 5,000 requests were never sent"));
    }

    #[test]
    fn the_percentile_curve_goes_on_as_far_as_there_are_values() {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        assert_eq!(percentiles(Some(&histogram)), []);
        (1..=1_000).for_each(|us| histogram.record(us).unwrap());
        let points = percentiles(Some(&histogram));
        assert_eq!(points.len(), 32);
        let at = |step: usize| (points[step].quantile, points[step].us);
        assert_eq!((at(0), at(10), at(31)), ((0.0, 1), (0.9, 900), (1.0, 1_000)));
        assert!((points[20].quantile - 0.99).abs() < 1e-12 && points[20].us == 990);
        assert!(points.windows(2).all(|two| two[0].quantile < two[1].quantile && two[0].us <= two[1].us));
    }
}
