//! The figures, as a table and as JSON; what limits, and what to worry about.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::exit::Exit;
use crate::cli::progress::put;
use crate::engine::{Engine, Recovered, SnapshotReport};
use crate::machine::{cpu_time, cpu_time_of_all, quantile};

/// Of the JSON's form. What is added to it later does not raise it.
const VERSION: u32 = 1;
/// No drive makes a write safe so soon: it goes to memory, of this machine or of the drive.
const TOO_FAST_US: u32 = 20;
/// A lone caller waits for this at every order.
const SLOW_US: u32 = 5_000;
/// One of a hundred waits for this.
const UNEVEN_US: u32 = 25_000;
/// Of the cores: so many are busy when nothing is left.
const ALL_BUSY: f64 = 0.85;
/// Of the orders in memory: as many durable ones do not wait for the disk.
const AS_IN_MEMORY: f64 = 0.8;
/// Of the cores: what others may take before the figures are theirs.
const OTHERS: f64 = 0.15;

/// Cores of this machine.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Many of the same thing, each timed.
#[derive(Debug, Default, Serialize)]
pub(super) struct Times {
    count: u64,
    seconds: f64,
    per_second: f64,
    p50_us: u32,
    p99_us: u32,
}

impl Times {
    /// `micros` of each; all of them took so long.
    pub(super) fn of(mut micros: Vec<u32>, took: Duration) -> Self {
        let (count, seconds) = (micros.len() as u64, took.as_secs_f64().max(1e-6));
        let [p50_us, p99_us] = [0.5, 0.99].map(|share| quantile(&mut micros, share));
        Times { count, seconds, per_second: count as f64 / seconds, p50_us, p99_us }
    }
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Passwords {
    hashes: u64,
    seconds: f64,
    per_second: f64,
}

impl Passwords {
    pub(super) fn of(hashes: u64, took: Duration) -> Self {
        let seconds = took.as_secs_f64().max(1e-6);
        Passwords { hashes, seconds, per_second: hashes as f64 / seconds }
    }
}

/// Orders that were placed and paid, by two calls each.
#[derive(Debug, Default, Serialize)]
pub(super) struct Load {
    pub(super) callers: usize,
    pub(super) orders: u64,
    orders_per_second: f64,
    calls: Times,
    /// How much each sync carried; `None` without a disk.
    events_per_sync: Option<f64>,
    /// Cores that this process took, and all others together; `None` where the kernel does not tell.
    cores_busy: Option<f64>,
    cores_busy_with_others: Option<f64>,
}

/// Orders under way.
pub(super) struct Work {
    callers: usize,
    began: Instant,
    pub(super) end: Instant,
    frames: u64,
    batches: u64,
    cpu: Option<(Duration, Duration)>,
}

fn cpu() -> Option<(Duration, Duration)> {
    Some((cpu_time().ok()?, cpu_time_of_all().ok()?))
}

impl Work {
    pub(super) fn begin(engine: &Engine, callers: usize, time: Duration) -> Self {
        let (stats, began) = (engine.stats(), Instant::now());
        let (frames, batches) = (stats.journal_frames, stats.journal_batches);
        Work { callers, began, end: began + time, frames, batches, cpu: cpu() }
    }

    /// `calls`: the microseconds of each.
    pub(super) fn done(self, engine: &Engine, calls: Vec<u32>) -> Load {
        let (took, stats) = (self.began.elapsed(), engine.stats());
        let calls = Times::of(calls, took);
        let batches = stats.journal_batches - self.batches;
        let is_durable = stats.journal_sync_micros.count > 0;
        let events = (stats.journal_frames - self.frames) as f64 / batches.max(1) as f64;
        let busy = self.cpu.zip(cpu()).map(|(before, now)| {
            let own = now.0.saturating_sub(before.0).as_secs_f64() / took.as_secs_f64();
            // The two are not read at the same moment.
            (own, (now.1.saturating_sub(before.1).as_secs_f64() / took.as_secs_f64()).max(own))
        });
        Load {
            callers: self.callers,
            orders: calls.count / 2,
            orders_per_second: calls.per_second / 2.0,
            calls,
            events_per_sync: is_durable.then_some(events),
            cores_busy: busy.map(|busy| busy.0),
            cores_busy_with_others: busy.map(|busy| busy.1),
        }
    }
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Orders {
    /// In memory only.
    pub(super) memory: Load,
    /// One caller alone; durable, as all that follow.
    pub(super) alone: Load,
    pub(super) sync: Load,
    pub(super) http: Load,
    /// All that were acknowledged as durable, and found again.
    pub(super) durable: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Searches {
    pub(super) books: u64,
    #[serde(flatten)]
    pub(super) times: Times,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Snapshot {
    bytes: u64,
    rows: u64,
    seconds: f64,
    bytes_per_second: f64,
}

impl Snapshot {
    pub(super) fn of(written: &SnapshotReport) -> Self {
        let seconds = written.took.as_secs_f64().max(1e-6);
        let bytes_per_second = written.bytes as f64 / seconds;
        Snapshot { bytes: written.bytes, rows: written.rows, seconds, bytes_per_second }
    }
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Recovery {
    events: u64,
    orders: u64,
    seconds: f64,
    events_per_second: f64,
}

impl Recovery {
    pub(super) fn of(found: &Recovered) -> Self {
        let (events, seconds) = (found.replayed_events, found.took.as_secs_f64().max(1e-6));
        Recovery { events, orders: found.orders, seconds, events_per_second: events as f64 / seconds }
    }
}

/// What has the last word in a busy hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
enum Limit {
    #[default]
    Processor,
    Disk,
}

/// All of it, as `--json` prints it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    version: u32,
    program: &'static str,
    dir: String,
    file_system: Option<&'static str>,
    cores: usize,
    seconds: u32,
    took_seconds: f64,
    pub(super) disk: Times,
    pub(super) passwords: Passwords,
    pub(super) orders: Orders,
    pub(super) search: Searches,
    pub(super) snapshot: Snapshot,
    pub(super) recovery: Recovery,
    limit: Limit,
    limit_why: String,
    warnings: Vec<String>,
}

impl Report {
    pub(super) fn new(dir: &Path, file_system: Option<&'static str>, seconds: u32) -> Self {
        Report {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION"),
            dir: dir.parent().unwrap_or(dir).display().to_string(),
            file_system,
            cores: cores(),
            seconds,
            ..Report::default()
        }
    }

    /// Says what limits and what to worry about; it all took so long.
    pub(super) fn judge(&mut self, took: Duration) {
        self.took_seconds = took.as_secs_f64();
        (self.limit, self.limit_why) = self.limit();
        self.warnings = self.warnings();
    }

    fn limit(&self) -> (Limit, String) {
        let (sync, memory) = (&self.orders.sync, &self.orders.memory);
        let share = sync.orders_per_second / memory.orders_per_second.max(1e-6);
        let of_memory = format!("durable orders come at {:.0} % of the rate without a disk", share * 100.0);
        let others =
            self.others().map_or_else(String::new, |others| format!(", {others:.1} of them with other programs"));
        match sync.cores_busy_with_others {
            Some(busy) if busy >= ALL_BUSY * self.cores as f64 => (
                Limit::Processor,
                format!("{busy:.1} of {} cores are busy under load{others}; {of_memory}", self.cores),
            ),
            _ if share >= AS_IN_MEMORY => (Limit::Processor, of_memory),
            busy => {
                let busy =
                    busy.map_or_else(String::new, |busy| format!("; {busy:.1} of {} cores are busy", self.cores));
                (Limit::Disk, format!("{of_memory}{busy}"))
            }
        }
    }

    /// Cores that others took under load, if that is too many for the figures to be ours.
    fn others(&self) -> Option<f64> {
        let sync = &self.orders.sync;
        let others = sync.cores_busy_with_others? - sync.cores_busy?;
        (others > OTHERS * self.cores as f64).then_some(others)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (p50, p99) = (self.disk.p50_us, self.disk.p99_us);
        match self.file_system {
            Some("tmpfs" | "ramfs") => warnings.push(format!(
                "{} is in memory: nothing there outlives the machine, and no figure here is one of a disk; measure where the data is to be, with --dir",
                self.dir
            )),
            Some(far @ ("nfs" | "cifs" | "9p" | "fuse")) => warnings.push(format!(
                "{far} is not a disk of this machine: whether a synced write is safe is up to what is behind it"
            )),
            Some("overlay") => warnings.push(
                "overlay is a container's own layer, which goes with it: put the data on a volume, and measure there with --dir".into(),
            ),
            _ if p50 < TOO_FAST_US => warnings.push(format!(
                "the disk lies, or is memory: it calls a write safe after {p50} µs, which no drive can do; after a power loss acknowledged orders may be gone"
            )),
            _ => {}
        }
        if p50 > SLOW_US {
            warnings.push(format!(
                "the disk is slow: a lone order waits {} for it; a drive with protection against power loss takes less than 0.2 ms",
                ms(p50)
            ));
        }
        if p99 > UNEVEN_US && p50 <= SLOW_US {
            warnings
                .push(format!("the disk is uneven: one write in a hundred takes {}; look who else uses it", ms(p99)));
        }
        if let Some(others) = self.others() {
            warnings.push(format!(
                "other programs took {others:.1} of {} cores meanwhile: measure again when the machine is quiet",
                self.cores
            ));
        }
        if cfg!(debug_assertions) {
            warnings.push("this program was built without optimisation: its figures mean nothing".into());
        }
        warnings
    }

    /// What stands below the table.
    pub(super) fn verdict(&self) -> String {
        let limit = match self.limit {
            Limit::Processor => "The processor limits",
            Limit::Disk => "The disk limits",
        };
        let mut text = format!("\n{limit}: {}.\n", self.limit_why);
        for warning in &self.warnings {
            text.push_str(&format!("Warning: {warning}.\n"));
        }
        if self.warnings.is_empty() {
            let orders = count(self.orders.http.orders_per_second);
            text.push_str(&format!(
                "Nothing to worry about. Expect {orders} paid orders a second over HTTP, or more: the test's own clients took some of the cores.\n"
            ));
        }
        text
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        // Plain numbers and texts: there is nothing in it that cannot be written.
        serde_json::to_string(self).map_or_else(|error| error.to_string(), |json| format!("{json}\n"))
    }
}

/// Each line when it is known.
pub(super) struct Table {
    is_shown: bool,
}

impl Table {
    pub(super) fn new(is_shown: bool) -> Self {
        Table { is_shown }
    }

    fn show(&self, text: &str) -> Result<(), Exit> {
        if self.is_shown { put(text) } else { Ok(()) }
    }

    fn row(&self, what: &str, kind: &str, rate: &str, times: &str, beside: &str) -> Result<(), Exit> {
        let line = format!("{what:<10}{kind:<28}{rate:>14}  {times:<30}{beside}");
        self.show(&format!("{}\n", line.trim_end()))
    }

    fn times(times: &Times) -> String {
        format!("p50 {:>9}, p99 {:>9}", ms(times.p50_us), ms(times.p99_us))
    }

    pub(super) fn head(&self, seconds: u32, dir: &Path, file_system: Option<&str>) -> Result<(), Exit> {
        let place = dir.parent().unwrap_or(dir).display();
        let file_system = file_system.unwrap_or("a file system without a name here");
        self.show(&format!(
            "About {seconds} s on {} cores, in {place} ({file_system}); what is made there is removed.\n\n",
            cores()
        ))
    }

    pub(super) fn disk(&self, disk: &Times) -> Result<(), Exit> {
        self.row("disk", "4 KiB made durable", &per_second(disk.per_second), &Self::times(disk), "one after the other")
    }

    pub(super) fn passwords(&self, passwords: &Passwords) -> Result<(), Exit> {
        self.row("passwords", "new, or not remembered", &per_second(passwords.per_second), "", "on all cores")
    }

    pub(super) fn load(&self, kind: &str, load: &Load) -> Result<(), Exit> {
        let who = if kind.contains("HTTP") { "connections" } else { "callers" };
        let mut beside = if load.callers == 1 { "1 caller".to_owned() } else { format!("{} {who}", load.callers) };
        if let Some(events) = load.events_per_sync {
            beside.push_str(&format!(", {events:.0} events a sync"));
        }
        self.row("orders", kind, &per_second(load.orders_per_second), &Self::times(&load.calls), &beside)
    }

    pub(super) fn search(&self, search: &Searches) -> Result<(), Exit> {
        let books = format!("{} books, one after the other", count(search.books as f64));
        self.row("search", "two characters", &per_second(search.times.per_second), &Self::times(&search.times), &books)
    }

    pub(super) fn snapshot(&self, snapshot: &Snapshot) -> Result<(), Exit> {
        let rate = format!("{:.0} MB/s", snapshot.bytes_per_second / 1e6);
        let beside = format!("{:.1} MB, {:.2} s", snapshot.bytes as f64 / 1e6, snapshot.seconds);
        self.row("snapshot", "of that shop", &rate, "", &beside)
    }

    pub(super) fn recovery(&self, recovery: &Recovery) -> Result<(), Exit> {
        let beside = format!(
            "{} events, {} orders, {:.2} s",
            count(recovery.events as f64),
            count(recovery.orders as f64),
            recovery.seconds
        );
        self.row("recovery", "events after a crash", &per_second(recovery.events_per_second), "", &beside)
    }
}

fn per_second(rate: f64) -> String {
    format!("{}/s", count(rate))
}

fn ms(micros: u32) -> String {
    format!("{:.2} ms", f64::from(micros) / 1e3)
}

/// A whole number with a comma at each thousand.
fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(orders_per_second: f64, own: f64, all: f64) -> Load {
        Load { orders_per_second, cores_busy: Some(own), cores_busy_with_others: Some(all), ..Load::default() }
    }

    fn report(p50_us: u32, p99_us: u32, file_system: &'static str, sync: Load) -> Report {
        let mut report = Report { cores: 4, file_system: Some(file_system), ..Report::default() };
        report.disk = Times { p50_us, p99_us, ..Times::default() };
        report.orders.memory.orders_per_second = 100_000.0;
        report.orders.sync = sync;
        report.judge(Duration::from_secs(1));
        report
    }

    /// Warnings, but for that of a build without optimisation, which all tests have.
    fn warned(report: &Report) -> Vec<&str> {
        let mut warnings: Vec<&str> = report.warnings.iter().map(String::as_str).collect();
        warnings.retain(|warning| !warning.contains("without optimisation"));
        warnings
    }

    #[test]
    fn what_limits_is_told_from_how_busy_the_cores_are_and_how_much_the_disk_costs() {
        for (sync, limit) in [
            (load(50_000.0, 3.8, 3.9), Limit::Processor),
            (load(90_000.0, 1.0, 1.0), Limit::Processor),
            (load(50_000.0, 1.0, 1.2), Limit::Disk),
            (Load { cores_busy: None, cores_busy_with_others: None, ..load(50_000.0, 0.0, 0.0) }, Limit::Disk),
        ] {
            assert_eq!(report(100, 300, "ext4", sync).limit, limit);
        }
    }

    #[test]
    fn a_disk_that_lies_is_slow_or_is_none_is_told() {
        let warning = |p50, p99, kind| {
            let report = report(p50, p99, kind, load(50_000.0, 1.0, 1.1));
            let warned = warned(&report);
            assert!(warned.len() <= 1, "{warned:?}");
            warned.first().map_or(String::new(), |warning| (*warning).to_owned())
        };
        assert_eq!(warning(100, 300, "ext4"), "");
        assert!(warning(3, 9, "ext4").contains("lies"));
        assert!(warning(3, 9, "tmpfs").contains("in memory"));
        assert!(warning(300, 900, "nfs").contains("nfs is not a disk"));
        assert!(warning(300, 900, "overlay").contains("volume"));
        assert!(warning(8_000, 90_000, "ext4").contains("is slow: a lone order waits 8.00 ms"));
        assert!(warning(800, 90_000, "xfs").contains("uneven"));
    }

    #[test]
    fn a_machine_that_others_use_is_told() {
        let report = report(100, 300, "ext4", load(50_000.0, 2.0, 3.5));
        assert!(warned(&report)[0].starts_with("other programs took 1.5 of 4 cores"), "{:?}", report.warnings);
        assert!(
            report.limit_why.contains("3.5 of 4 cores are busy under load, 1.5 of them with other programs"),
            "{}",
            report.limit_why
        );
    }

    #[test]
    fn numbers_are_read_at_a_glance() {
        for (number, text) in [(0.0, "0"), (7.4, "7"), (999.6, "1,000"), (12_345.0, "12,345"), (1e6, "1,000,000")] {
            assert_eq!(count(number), text);
        }
        assert_eq!((ms(1), ms(123_456)), ("0.00 ms".to_owned(), "123.46 ms".to_owned()));
    }
}
