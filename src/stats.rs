//! Counters that hot paths can touch: a lock-free histogram of fixed buckets.
//!
//! Whoever reads gets a snapshot of plain numbers; how they are shown (Prometheus or otherwise) is
//! the reader's business.

use std::sync::atomic::{AtomicU64, Ordering};

/// A histogram of whole numbers with buckets fixed at its creation. Observing is wait-free.
#[derive(Debug)]
pub struct Histogram {
    bounds: Box<[u64]>,
    /// One per bound, and one more for everything above the last bound.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    count: AtomicU64,
}

/// What a histogram held at one moment. Observations that race with the reading may be in one
/// field and not yet in another.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistogramSnapshot {
    /// Upper bounds of the buckets, inclusive, ascending.
    pub bounds: Vec<u64>,
    /// Observations per bucket (not cumulative); one element more than `bounds`, the last one for
    /// everything above the last bound.
    pub counts: Vec<u64>,
    /// The sum of all observed values.
    pub sum: u64,
    /// How many values were observed.
    pub count: u64,
}

impl Histogram {
    /// A histogram with these inclusive upper bounds, which must ascend.
    #[must_use]
    pub fn new(bounds: &[u64]) -> Self {
        debug_assert!(bounds.is_sorted(), "bucket bounds ascend");
        Self {
            bounds: bounds.into(),
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }

    /// Counts one value.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many values were observed, and their sum; cheaper than the whole.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.sum.load(Ordering::Relaxed))
    }

    /// The numbers as they stand.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds.to_vec(),
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
            count: self.count.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_land_in_the_bucket_whose_bound_they_do_not_exceed() {
        let histogram = Histogram::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 100, 101, 5_000] {
            histogram.observe(value);
        }
        let seen = histogram.snapshot();
        assert_eq!(seen.counts, vec![2, 2, 2, 2]);
        assert_eq!(seen.count, 8);
        assert_eq!(seen.sum, 1 + 2 + 10 + 11 + 100 + 101 + 5_000);
    }

    #[test]
    fn without_bounds_everything_is_in_the_last_bucket() {
        let histogram = Histogram::new(&[]);
        histogram.observe(7);
        assert_eq!(histogram.snapshot().counts, vec![1]);
    }
}
