//! How long the runtime takes to give every task that can go on its turn.
//!
//! That is what a request waits for before anybody has seen it: it stands in its socket, and the task of its connection
//! in the runtime's queue. No counter of ours knows of it. So a task lets all others go before it, again and again, and
//! looks at the clock: from one of its turns to the next is a *pass*. It costs one wake-up a pass, a thousand a second
//! when passes are short, and it is there only while many requests come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// A pass that was shorter than this is followed by a pause: the runtime has little to do.
const SHORT: Duration = Duration::from_micros(200);
const PAUSE: Duration = Duration::from_millis(1);
/// After so many passes somebody looks whether they are still worth the trouble: only if there were as many requests.
const WORTH: u64 = 64;

/// What passes were so far, in sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) passes: u64,
    /// The sum of their times.
    pub(super) times: Duration,
    /// The requests that began in them.
    pub(super) requests: u64,
}

/// The passes of the runtime that serves requests.
#[derive(Debug)]
pub(super) struct Passes {
    opened: Instant,
    /// Requests that began.
    requests: AtomicU64,
    /// When the pass under way began, in µs since `opened`; in the future during a pause.
    began_us: AtomicU64,
    /// Somebody tells when a pass begins.
    told: AtomicBool,
    passes: AtomicU64,
    times_us: AtomicU64,
    requests_in_passes: AtomicU64,
}

impl Passes {
    pub(super) fn new(opened: Instant) -> Self {
        Passes {
            opened,
            requests: AtomicU64::new(0),
            began_us: AtomicU64::new(u64::MAX),
            told: AtomicBool::new(false),
            passes: AtomicU64::new(0),
            times_us: AtomicU64::new(0),
            requests_in_passes: AtomicU64::new(0),
        }
    }

    /// A request began.
    pub(super) fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that began so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn sums(&self) -> Sums {
        Sums {
            passes: self.passes.load(Ordering::Relaxed),
            times: Duration::from_micros(self.times_us.load(Ordering::Relaxed)),
            requests: self.requests_in_passes.load(Ordering::Relaxed),
        }
    }

    /// How long the pass has lasted that is under way at `now`, which is the time since `opened`; zero if nobody knows.
    pub(super) fn under_way(&self, now: Duration) -> Duration {
        let now_us = now.as_micros() as u64;
        Duration::from_micros(now_us.saturating_sub(self.began_us.load(Ordering::Relaxed)))
    }

    /// Sees to it that passes are told from now on, until few requests come. Where there is no runtime nobody tells.
    pub(super) fn tell(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.told.load(Ordering::Relaxed) && !self.told.swap(true, Ordering::Relaxed) {
            runtime.spawn(Telling(Arc::clone(self)).run());
        }
    }

    fn begin(&self, at: Duration) {
        self.began_us.store(at.as_micros() as u64, Ordering::Relaxed);
    }
}

/// The task that tells. However it ends, another one may begin after it.
struct Telling(Arc<Passes>);

impl Telling {
    async fn run(self) {
        let passes = &*self.0;
        let mut requests_at_check = passes.requests();
        for told in 1.. {
            let (began, requests) = (passes.opened.elapsed(), passes.requests());
            passes.begin(began);
            tokio::task::yield_now().await;
            let now = passes.opened.elapsed();
            passes.times_us.fetch_add((now - began).as_micros() as u64, Ordering::Relaxed);
            passes.requests_in_passes.fetch_add(passes.requests() - requests, Ordering::Relaxed);
            passes.passes.fetch_add(1, Ordering::Relaxed);
            if now - began < SHORT {
                passes.begin(now + PAUSE);
                tokio::time::sleep(PAUSE).await;
            }
            if told % WORTH == 0 {
                let requests = passes.requests();
                if requests - requests_at_check < WORTH {
                    return;
                }
                requests_at_check = requests;
            }
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.began_us.store(u64::MAX, Ordering::Relaxed);
        self.0.told.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A task that blocks the only thread makes a long pass, which is seen while it lasts.
    #[tokio::test]
    async fn a_long_pass_is_told() {
        let passes = Arc::new(Passes::new(Instant::now()));
        assert_eq!(passes.under_way(Duration::MAX / 2), Duration::ZERO, "nobody knows");
        passes.tell();
        passes.tell();
        tokio::task::yield_now().await;
        for _ in 0..10 {
            passes.count();
        }
        std::thread::sleep(5 * MS);
        assert!(passes.under_way(passes.opened.elapsed()) >= 5 * MS);
        while passes.sums().passes == 0 {
            tokio::task::yield_now().await;
        }
        let sums = passes.sums();
        assert!(sums.times >= 5 * MS && sums.requests == 10, "{sums:?}");
    }

    #[tokio::test]
    async fn when_few_requests_come_nobody_tells() {
        let passes = Arc::new(Passes::new(Instant::now()));
        passes.tell();
        while passes.told.load(Ordering::Relaxed) {
            tokio::time::sleep(MS).await;
        }
        assert_eq!(passes.sums().passes, WORTH);
        assert_eq!(passes.under_way(Duration::MAX / 2), Duration::ZERO);
        passes.tell();
        assert!(passes.told.load(Ordering::Relaxed), "it can begin again");
    }
}
