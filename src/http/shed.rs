//! Load shedding: which requests are refused because the engine has more to do than it can.
//!
//! There is a *crowd* when many commands are in the engine and each takes much longer than the disk does, or when many
//! requests begin in each pass of the runtime and a pass takes long ([`Passes`]): they stand in the engine or at the
//! door. A burst is a crowd for a moment; when it stays for [`PATIENCE`], more comes in than can be done, and the queue
//! would only grow. From then on there are two limits. No more than so many commands may be in the engine, which falls
//! while commands take too long and rises while they do not. And what begins late in a pass is refused: work that is let
//! in makes the pass longer, so each lets in what fits into its time. Who is refused gets his 503 before the body is
//! read: a refusal has to be much cheaper than what it spares. The limits are lifted when nothing had to be refused for
//! [`CALM`].
//!
//! The [`Rule`] is pure. It is told of every look at the sums; requests look, one every few milliseconds, so nothing
//! happens while nobody asks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use super::passes::{Passes, Sums};
use crate::engine::{Engine, Load};

/// What was a crowd for less than this was a burst.
const PATIENCE: Duration = Duration::from_millis(50);
/// The limit is lifted when nothing had to be refused for this long.
const CALM: Duration = Duration::from_millis(500);
/// Time between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// Sums that are further apart are not of one stretch of work.
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(100);
/// So many commands in the engine are no crowd, however long they take, nor are so many requests in a pass.
const CROWD: f64 = 128.0;
/// So many requests between two looks, and passes are worth watching.
const BUSY: u64 = 50;
/// So many commands may be in the engine however long a pass takes: what makes it long may be something else.
const ALWAYS: usize = 4;
/// The limit is never lower: with fewer the journal would have nothing to gather.
const LIMIT_MIN: usize = 32;
/// An answer waits for the sync that is under way and for its own.
const SYNCS_A_COMMAND: u32 = 2;
/// No limit.
const UNLIMITED: usize = usize::MAX;

/// What a look at the engine tells of the time since the look before.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// Since the beginning of all looks.
    now: Duration,
    /// How long ago the look before was.
    span: Duration,
    /// How long commands took on average; `None` if none was answered.
    took: Option<Duration>,
    /// How many were in the engine on average.
    inside: f64,
    /// What the disk took for a sync, on average.
    sync: Duration,
    /// How long a pass took on average; `None` if none ended, or nobody told.
    pass: Option<Duration>,
    /// How many requests began in a pass on average.
    at_once: f64,
    /// A request was refused.
    refused: bool,
}

/// When to limit, and how narrowly.
#[derive(Debug)]
struct Rule {
    /// Time that a command may take on average, beyond its syncs.
    delay_max: Duration,
    crowded_since: Option<Duration>,
    /// `None`: no limit.
    limit: Option<usize>,
    refused_at: Duration,
}

impl Rule {
    fn new(delay_max: Duration) -> Self {
        Rule { delay_max, crowded_since: None, limit: None, refused_at: Duration::ZERO }
    }

    /// How many commands may be in the engine from now on; `None` for any number.
    fn observe(&mut self, look: Look) -> Option<usize> {
        let allowed = self.delay_max + look.sync * SYNCS_A_COMMAND;
        match self.limit {
            None => {
                if look.span > LOOK_PAUSE_MAX {
                    // Nobody looked for long: whatever crowded it then is over.
                    self.crowded_since = None;
                }
                if look.took.is_none() && look.pass.is_none() {
                    return None;
                }
                let is_slow = look.took.is_some_and(|took| took > allowed);
                let is_full = look.inside >= CROWD;
                let waits = look.at_once >= CROWD && look.pass.is_some_and(|pass| pass > self.delay_max);
                if !(is_slow && is_full || waits) {
                    self.crowded_since = None;
                } else if look.now - *self.crowded_since.get_or_insert(look.now - look.span) >= PATIENCE {
                    // What was done in that time, by what it may take: as many can be inside.
                    let took = look.took.unwrap_or(allowed).max(allowed);
                    let fits = look.inside * allowed.as_secs_f64() / took.as_secs_f64();
                    self.limit = Some((fits as usize).max(LIMIT_MIN));
                    self.refused_at = look.now;
                }
            }
            Some(limit) => {
                if look.refused {
                    self.refused_at = look.now;
                } else if look.now - self.refused_at >= CALM {
                    self.crowded_since = None;
                    self.limit = None;
                    return None;
                }
                let is_slow = look.took.is_some_and(|took| took > allowed);
                let limit = if is_slow {
                    limit - limit / 8
                } else if look.refused {
                    limit + 1 + limit / 32
                } else {
                    limit
                };
                self.limit = Some(limit.max(LIMIT_MIN));
            }
        }
        self.limit
    }
}

/// What syncs took in the last two looks in which one ended. Answers of one sync come in several looks, of which most
/// see none end.
#[derive(Debug, Default)]
struct Syncs([Duration; 2]);

impl Syncs {
    /// The slower of the two. `sync`: of this look, if one ended.
    fn slowest(&mut self, sync: Option<Duration>) -> Duration {
        if let Some(sync) = sync {
            self.0 = [sync, self.0[0]];
        }
        self.0[0].max(self.0[1])
    }
}

/// The rule and what it goes by.
#[derive(Debug)]
struct Watch {
    rule: Rule,
    syncs: Syncs,
    at: Duration,
    load: Load,
    passes: Sums,
    requests: u64,
    refused: u64,
}

/// The shedding of one service.
pub(super) struct Shed {
    began: Instant,
    /// Never sheds.
    off: bool,
    delay_max: Duration,
    passes: Arc<Passes>,
    limit: AtomicUsize,
    refused: AtomicU64,
    /// When somebody has to look again, in µs since the beginning.
    look_at_us: AtomicU64,
    /// A std mutex: it is held for some 100 ns, and who finds it taken goes on without.
    watch: Mutex<Watch>,
}

impl Shed {
    /// With a time of zero nothing is ever shed.
    pub(super) fn new(delay_max: Duration) -> Self {
        let watch = Watch {
            rule: Rule::new(delay_max),
            syncs: Syncs::default(),
            at: Duration::ZERO,
            load: Load::default(),
            passes: Sums::default(),
            requests: 0,
            refused: 0,
        };
        let began = Instant::now();
        Shed {
            began,
            off: delay_max.is_zero(),
            delay_max,
            passes: Arc::new(Passes::new(began)),
            limit: AtomicUsize::new(UNLIMITED),
            refused: AtomicU64::new(0),
            look_at_us: AtomicU64::new(0),
            watch: Mutex::new(watch),
        }
    }

    /// Whether somebody may be refused now.
    pub(super) fn is_limiting(&self) -> bool {
        self.limit.load(Ordering::Relaxed) != UNLIMITED
    }

    /// Whether a request that comes at `now` may be served. Called on the runtime that serves requests.
    pub(super) fn admits(&self, engine: &Engine, now: Instant) -> bool {
        if self.off {
            return true;
        }
        self.passes.count();
        let now = now.saturating_duration_since(self.began);
        if now.as_micros() as u64 >= self.look_at_us.load(Ordering::Relaxed) {
            self.look(engine, now);
        }
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == UNLIMITED {
            return true;
        }
        let inside = engine.in_flight();
        if inside < ALWAYS || (inside < limit && self.passes.under_way(now) <= self.delay_max) {
            return true;
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn look(&self, engine: &Engine, now: Duration) {
        let mut watch = match self.watch.try_lock() {
            Ok(watch) => watch,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if now < watch.at + LOOK_PAUSE {
            return;
        }
        self.look_at_us.store((now + LOOK_PAUSE).as_micros() as u64, Ordering::Relaxed);
        let (load, refused) = (engine.load(), self.refused());
        let (passes, requests) = (self.passes.sums(), self.passes.requests());
        if requests - watch.requests >= BUSY {
            self.passes.tell();
        }
        let (pass, at_once) = passes_between(watch.passes, passes);
        let look = Look {
            now,
            span: now - watch.at,
            refused: refused > watch.refused,
            sync: {
                let sync = sync_between(watch.load, load);
                watch.syncs.slowest(sync)
            },
            pass,
            at_once,
            ..between(watch.load, load, now - watch.at)
        };
        (watch.at, watch.load, watch.refused) = (now, load, refused);
        (watch.passes, watch.requests) = (passes, requests);
        let limit = watch.rule.observe(look);
        self.limit.store(limit.unwrap_or(UNLIMITED), Ordering::Relaxed);
    }

    /// Requests refused since the start.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many commands may be in the engine now; `None` for any number.
    pub(super) fn limit(&self) -> Option<usize> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit != UNLIMITED)
    }
}

/// What a sync took between two sums, on average, if one ended.
fn sync_between(before: Load, after: Load) -> Option<Duration> {
    average(after.sync_times.saturating_sub(before.sync_times), after.syncs.saturating_sub(before.syncs))
}

fn average(sum: Duration, count: u64) -> Option<Duration> {
    sum.checked_div(u32::try_from(count).unwrap_or(u32::MAX))
}

/// How long a pass took between two sums, and how many requests began in one, on average.
fn passes_between(before: Sums, after: Sums) -> (Option<Duration>, f64) {
    let passes = after.passes.saturating_sub(before.passes);
    let requests = after.requests.saturating_sub(before.requests);
    let at_once = if passes == 0 { 0.0 } else { requests as f64 / passes as f64 };
    (average(after.times.saturating_sub(before.times), passes), at_once)
}

/// What two sums tell of the time between them, but for syncs and passes.
fn between(before: Load, after: Load, span: Duration) -> Look {
    let timed = after.timed.saturating_sub(before.timed);
    // One command in so many is timed, each read is.
    let reads = after.reads.saturating_sub(before.reads) / Load::TIMED_EVERY as u32;
    let times = after.times.saturating_sub(before.times).saturating_sub(reads);
    let inside = times.as_secs_f64() * Load::TIMED_EVERY as f64 / span.as_secs_f64().max(1e-9);
    Look {
        now: Duration::ZERO,
        span,
        // Of long ago nothing can be said.
        took: average(times, timed).filter(|_| span <= LOOK_PAUSE_MAX),
        inside,
        sync: Duration::ZERO,
        pass: None,
        at_once: 0.0,
        refused: false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const STEP: Duration = Duration::from_micros(50);

    /// An engine with one core: a command costs `cost` of it and then waits for a sync; a refusal costs `refusal`.
    struct Shop {
        cost: Duration,
        refusal: Duration,
        sync: Duration,
        rule: Rule,
        now: Duration,
        /// When the commands in the queue came.
        queue: VecDeque<Duration>,
        /// Commands that wait for their sync: when they came, when it ends.
        syncing: VecDeque<(Duration, Duration)>,
        /// Time of the core that is left over, or owed.
        spare: Duration,
        limit: Option<usize>,
        limits_seen: usize,
        /// Since the last look.
        looked_at: Duration,
        times: Vec<Duration>,
        refused_since: u64,
        /// Since the last question.
        took: Vec<Duration>,
        accepted: u64,
        refused: u64,
        /// Requests that would have come by now.
        due: f64,
    }

    impl Shop {
        fn new(cost_us: u64, refusal_us: u64, sync_us: u64) -> Self {
            Shop {
                cost: Duration::from_micros(cost_us),
                refusal: Duration::from_micros(refusal_us),
                sync: Duration::from_micros(sync_us),
                rule: Rule::new(Duration::from_millis(1)),
                now: Duration::ZERO,
                queue: VecDeque::new(),
                syncing: VecDeque::new(),
                spare: Duration::ZERO,
                limit: None,
                limits_seen: 0,
                looked_at: Duration::ZERO,
                times: Vec::new(),
                refused_since: 0,
                took: Vec::new(),
                accepted: 0,
                refused: 0,
                due: 0.0,
            }
        }

        fn inside(&self) -> usize {
            self.queue.len() + self.syncing.len()
        }

        fn arrive(&mut self) {
            if self.limit.is_some_and(|limit| self.inside() >= limit) {
                self.spare = self.spare.saturating_sub(self.refusal);
                self.refused += 1;
                self.refused_since += 1;
            } else {
                self.queue.push_back(self.now);
                self.accepted += 1;
            }
        }

        /// One step of time, in which requests come that many a second.
        fn step(&mut self, per_second: f64) {
            self.now += STEP;
            self.spare += STEP;
            self.due += per_second * STEP.as_secs_f64();
            while self.due >= 1.0 {
                self.due -= 1.0;
                self.arrive();
            }
            while self.spare >= self.cost
                && let Some(came) = self.queue.pop_front()
            {
                self.spare -= self.cost;
                self.syncing.push_back((came, self.now + self.sync));
            }
            if self.queue.is_empty() {
                self.spare = self.spare.min(STEP);
            }
            while self.syncing.front().is_some_and(|(_, done)| *done <= self.now)
                && let Some((came, _)) = self.syncing.pop_front()
            {
                self.times.push(self.now - came);
                self.took.push(self.now - came);
            }
            if self.now - self.looked_at >= LOOK_PAUSE {
                self.look();
            }
        }

        fn look(&mut self) {
            let span = self.now - self.looked_at;
            let sum: Duration = self.times.iter().sum();
            self.limit = self.rule.observe(Look {
                now: self.now,
                span,
                took: sum.checked_div(self.times.len() as u32),
                inside: sum.as_secs_f64() / span.as_secs_f64(),
                sync: self.sync,
                pass: None,
                at_once: 0.0,
                refused: self.refused_since > 0,
            });
            self.limits_seen += usize::from(self.limit.is_some());
            self.looked_at = self.now;
            self.refused_since = 0;
            self.times.clear();
        }

        fn run(&mut self, per_second: f64, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.step(per_second);
            }
        }

        /// Callers that each wait for their answer and come again.
        fn run_closed(&mut self, callers: usize, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                for _ in self.inside()..callers {
                    self.arrive();
                }
                self.step(0.0);
            }
        }

        fn forget(&mut self) {
            self.took.clear();
            (self.accepted, self.refused) = (0, 0);
        }

        fn p99(&mut self) -> Duration {
            self.took.sort_unstable();
            self.took[self.took.len() * 99 / 100]
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// 25 µs a command are 40,000 a second.
    fn shop() -> Shop {
        Shop::new(25, 8, 150)
    }

    #[test]
    fn below_its_capacity_nothing_is_refused() {
        let mut shop = shop();
        shop.run(38_000.0, 5 * SECOND);
        assert_eq!((shop.refused, shop.limits_seen), (0, 0));
    }

    #[test]
    fn those_who_wait_for_their_answers_are_no_crowd() {
        let mut shop = shop();
        shop.run_closed(64, 5 * SECOND);
        assert_eq!(shop.refused, 0);
        assert!(shop.took.len() > 180_000, "{}", shop.took.len());
    }

    #[test]
    fn a_burst_is_not_refused() {
        let mut shop = shop();
        for _ in 0..5 {
            (0..1_024).for_each(|_| shop.arrive());
            shop.run(10_000.0, SECOND / 2);
        }
        assert_eq!(shop.refused, 0);
    }

    /// Bursts with silence between them: patience begins anew with each.
    #[test]
    fn silence_ends_a_burst() {
        let mut rule = Rule::new(Duration::from_millis(1));
        let ms = Duration::from_millis;
        let look = |now, span, took| {
            let (now, span, took) = (ms(now), ms(span), Some(ms(took)).filter(|_| span <= 100));
            Look { now, span, took, inside: 500.0, sync: Duration::ZERO, pass: None, at_once: 0.0, refused: false }
        };
        for second in 1..9 {
            let now = 10_000 * second;
            assert_eq!(rule.observe(look(now, 9_900, 20)), None, "second {second}");
            assert_eq!(rule.observe(look(now + 10, 10, 20)), None, "second {second}");
            assert_eq!(rule.observe(look(now + 20, 10, 20)), None, "second {second}");
        }
    }

    /// What stands at the door is in nobody's count; the passes tell.
    #[test]
    fn a_crowd_at_the_door_is_one() {
        let ms = Duration::from_millis;
        let look = |now, pass, at_once| {
            let (now, span, took) = (ms(now), ms(10), Some(ms(1)));
            Look { now, span, took, inside: 20.0, sync: Duration::ZERO, pass: Some(pass), at_once, refused: false }
        };
        let limited = |pass, at_once| {
            let mut rule = Rule::new(ms(1));
            (1..20).any(|count| rule.observe(look(10 * count, pass, at_once)).is_some())
        };
        assert!(limited(ms(5), 300.0));
        assert!(!limited(ms(5), 100.0), "64 callers, say, and a slow machine");
        assert!(!limited(Duration::from_micros(900), 300.0), "many, and they are served at once");
    }

    /// Answers of one sync come in several looks, and the next sync ends in a later one.
    #[test]
    fn a_look_without_a_sync_goes_by_the_syncs_before() {
        let ms = Duration::from_millis;
        let mut syncs = Syncs::default();
        assert_eq!(syncs.slowest(None), Duration::ZERO);
        assert_eq!(syncs.slowest(Some(ms(30))), ms(30));
        assert_eq!(syncs.slowest(None), ms(30));
        assert_eq!(syncs.slowest(Some(ms(5))), ms(30));
        assert_eq!(syncs.slowest(None), ms(30));
        assert_eq!(syncs.slowest(Some(ms(5))), ms(5));
    }

    /// What commands wait for orders on disk is no crowd.
    #[test]
    fn reads_of_the_disk_are_no_crowd() {
        let ms = Duration::from_millis;
        let load = |timed, times, reads| Load { timed, times, reads, ..Load::default() };
        let look = between(load(0, ms(0), ms(0)), load(100, ms(2_000), ms(15_800)), ms(10));
        assert_eq!(look.took, Some(Duration::from_micros(250)));
        let look = between(load(0, ms(0), ms(0)), load(100, ms(2_000), ms(99_000)), ms(10));
        assert_eq!(look.took, Some(Duration::ZERO));
    }

    #[test]
    fn a_slow_disk_is_no_crowd() {
        let mut shop = Shop::new(25, 8, 15_000);
        shop.run(35_000.0, 5 * SECOND);
        assert_eq!(shop.refused, 0);
    }

    #[test]
    fn too_much_is_refused_and_the_rest_is_quick() {
        for times in [1.2, 2.0, 2.5] {
            let mut shop = shop();
            shop.run(40_000.0 * times, SECOND);
            shop.forget();
            shop.run(40_000.0 * times, 3 * SECOND);
            // What the refusals leave of the core.
            let share = (1.0 - times * 40_000.0 * 8e-6) / (1.0 - 8.0 / 25.0);
            let most = 3.0 * 40_000.0 * share;
            let (p99, accepted) = (shop.p99(), shop.accepted as f64);
            assert!(p99 < Duration::from_millis(4), "{times}: {p99:?}");
            assert!(accepted > 0.8 * most && shop.refused > 0, "{times}: {accepted} of {most}");
        }
    }

    #[test]
    fn the_queue_of_an_overload_is_gone_soon_after_it_began() {
        let mut shop = shop();
        shop.run(80_000.0, SECOND / 2);
        // 100 ms of patience let 4,000 too many in.
        assert!(shop.inside() < 200, "{}", shop.inside());
    }

    #[test]
    fn after_an_overload_all_are_served_again() {
        let mut shop = shop();
        shop.run(80_000.0, 2 * SECOND);
        shop.run(20_000.0, SECOND / 10);
        shop.forget();
        shop.run(20_000.0, SECOND);
        assert_eq!((shop.refused, shop.limit), (0, None));
        assert!(shop.p99() < Duration::from_millis(1));
    }

    #[test]
    fn sums_become_averages() {
        let ms = Duration::from_millis;
        let before = Load { timed: 10, times: ms(5), reads: ms(0), syncs: 100, sync_times: ms(10) };
        let after = Load { timed: 30, times: ms(45), reads: ms(0), syncs: 110, sync_times: ms(12) };
        let look = between(before, after, ms(20));
        assert_eq!((look.took, sync_between(before, after)), (Some(ms(2)), Some(Duration::from_micros(200))));
        assert_eq!(sync_between(after, after), None);
        // One of eight was timed.
        assert!((look.inside - 16.0).abs() < 1e-9, "{}", look.inside);
        assert_eq!(between(before, after, SECOND).took, None, "too long ago");
        assert_eq!(between(after, after, ms(20)).took, None);
    }
}
