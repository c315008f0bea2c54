//! What long work says meanwhile, on stderr: a bar on a terminal, else a line about once a second.
//!
//! There is one bar at a time. Whoever writes anything else, on either stream, has it taken away first ([`clear`]); it
//! comes back with the next progress.

use std::fmt::Display;
use std::io::{IsTerminal, Stderr, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::exit::Exit;
use crate::engine::Progress;

/// Between two lines, and between two looks of the bar.
const LINE_EVERY: Duration = Duration::from_secs(1);
const BAR_EVERY: Duration = Duration::from_millis(100);

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// Whether a bar stands on the terminal now.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Says how far the work is, and nothing if it is over soon.
#[derive(Debug)]
pub(super) struct ProgressLines {
    quiet: bool,
    bar: bool,
    stage: String,
    last: Instant,
    done_then: u64,
    /// Things a second, smoothed; none before the first look.
    rate: Option<f64>,
}

impl ProgressLines {
    pub(super) fn new(quiet: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let bar = !is_dumb && std::io::stderr().is_terminal();
        ProgressLines { quiet, bar, stage: String::new(), last: Instant::now(), done_then: 0, rate: None }
    }

    /// For callbacks that come on any thread.
    pub(super) fn shared(quiet: bool) -> impl Fn(Progress) + Send + Sync + 'static {
        let lines = Mutex::new(Self::new(quiet));
        move |at| {
            // Whoever finds it taken has nothing to say that the other one does not.
            if let Ok(mut lines) = lines.try_lock() {
                lines.at(at.stage, at.done, at.total);
            }
        }
    }

    /// `done` things of a stage are done, of so many, if that is known.
    pub(super) fn at(&mut self, stage: &str, done: u64, total: Option<u64>) {
        if self.quiet {
            return;
        }
        if self.stage != stage {
            // The rate is the stage's own.
            (self.stage, self.last, self.done_then, self.rate) = (stage.to_owned(), Instant::now(), 0, None);
        }
        let elapsed = self.last.elapsed();
        if elapsed < if self.bar { BAR_EVERY } else { LINE_EVERY } {
            return;
        }
        let now = done.saturating_sub(self.done_then) as f64 / elapsed.as_secs_f64();
        (self.last, self.done_then) = (Instant::now(), done);
        if !self.bar {
            say(&line(stage, done, total, now));
            return;
        }
        let rate = self.rate.map_or(now, |before| before * 0.8 + now * 0.2);
        self.rate = Some(rate);
        show(&bar(stage, done, total, rate, columns()));
    }
}

impl Drop for ProgressLines {
    fn drop(&mut self) {
        if self.bar {
            clear();
        }
    }
}

/// A line for who reads it later.
fn line(stage: &str, done: u64, total: Option<u64>, rate: f64) -> String {
    match total.filter(|total| *total >= done) {
        Some(total) => format!("{stage}: {done} of {total} done, {rate:.0}/s"),
        None => format!("{stage}: {done} done, {rate:.0}/s"),
    }
}

/// A line for who looks on, no longer than the terminal is wide.
fn bar(stage: &str, done: u64, total: Option<u64>, rate: f64, columns: usize) -> String {
    const CELLS: usize = 20;
    const CELLS_MIN: usize = 4;
    let mut text = format!("{stage:<16} ");
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let total = total.max(done);
            let part = |of: u64| (u128::from(done) * u128::from(of) / u128::from(total)) as u64;
            let figures = format!("{:>3} %  {}/s", part(100), short(rate));
            // The figures tell more than the bar, which takes the room that is left.
            let cells = columns.saturating_sub(text.len() + figures.len() + 4).min(CELLS);
            if cells >= CELLS_MIN {
                let full = part(cells as u64) as usize;
                text.push_str(&format!("[{}{}] ", "#".repeat(full), "-".repeat(cells - full)));
            }
            text.push_str(&figures);
            if rate > 0.0 {
                let left = Duration::from_secs_f64(((total - done) as f64 / rate).min(1e9));
                text.push_str(&format!(
                    "  {} left",
                    humantime::format_duration(Duration::from_secs(left.as_secs() + 1))
                ));
            }
            let counted = format!("  ({} of {})", short(done as f64), short(total as f64));
            // Whole or not at all.
            if text.chars().count() + counted.chars().count() < columns {
                text.push_str(&counted);
            }
        }
        None => text.push_str(&format!("{} done  {}/s", short(done as f64), short(rate))),
    }
    text.chars().take(columns.saturating_sub(1)).collect()
}

/// A number in four characters or so.
fn short(number: f64) -> String {
    let (number, unit) = match number {
        n if n >= 1e9 => (n / 1e9, " G"),
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e4 => (n / 1e3, " k"),
        n => return format!("{n:.0}"),
    };
    if number < 9.95 { format!("{number:.1}{unit}") } else { format!("{number:.0}{unit}") }
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.map(|size| usize::from(size.ws_col)).ok().filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

/// Puts the bar where the last one stood.
fn show(text: &str) {
    let mut out = std::io::stderr().lock();
    SHOWN.store(true, Ordering::Relaxed);
    let _ = write!(out, "\r{text}\x1b[K").and_then(|()| out.flush());
}

/// Takes the bar away, if there is one, so that something else may be written.
pub(super) fn clear() {
    if SHOWN.load(Ordering::Relaxed) {
        let mut out = std::io::stderr().lock();
        if SHOWN.swap(false, Ordering::Relaxed) {
            let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
        }
    }
}

/// Where the log is written to.
pub(super) fn stderr() -> Stderr {
    clear();
    std::io::stderr()
}

/// A line on stderr. Whoever started the program may have closed it; that is no reason to end.
pub(super) fn say(line: &dyn Display) {
    clear();
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Things a second, for a summary.
pub(super) fn rate(done: u64, took: Duration) -> String {
    format!("{:.0}/s", done as f64 / took.as_secs_f64().max(1e-3))
}

/// Text on stdout. A reader that went away is no error.
pub(super) fn print(text: &str) -> std::io::Result<()> {
    clear();
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// As [`print`], for who can do nothing about a failure but end.
pub(super) fn put(text: &str) -> Result<(), Exit> {
    print(text).map_err(|error| not_printed(&error))
}

/// What is said of text that stdout did not take.
pub(super) fn not_printed(error: &std::io::Error) -> Exit {
    Exit::failure(format!("cannot print: {error}; look at where stdout leads"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_tells_part_rate_and_time_and_is_never_too_long() {
        let text = bar("journal", 450, Some(1_000), 50.0, 100);
        assert_eq!(text, "journal          [#########-----------]  45 %  50/s  12s left  (450 of 1000)");
        assert_eq!(bar("journal", 7, None, 2.0, 80), "journal          7 done  2/s");
        assert_eq!(bar("journal", 70_000, None, 2.34e6, 80), "journal          70 k done  2.3 M/s");
        assert_eq!([0.0, 9_999.0, 10_000.0, 9.97e9].map(short), ["0", "9999", "10 k", "10 G"]);
        // An estimate may be wrong, and nothing may be done yet.
        assert!(bar("x", 9, Some(4), 1.0, 80).contains("] 100 %"));
        assert!(bar("x", 0, Some(4), 0.0, 80).contains("]   0 %  0/s  ("));
        assert_eq!(bar("x", 0, Some(0), 0.0, 80), format!("{:<16} 0 done  0/s", "x"));
        assert!(bar("x", u64::MAX, Some(u64::MAX), 1e-300, 80).contains("100 %"));
        let narrow = bar("orders at rest", 71_000, Some(147_000), 97_000.0, 66);
        assert!(narrow.ends_with(" left"), "{narrow}");
        let [forty, thirty] = [40, 30].map(|columns| bar("journal", 450, Some(1_000), 50.0, columns));
        assert_eq!(forty, "journal          [###-----]  45 %  50/s");
        assert_eq!(thirty, "journal           45 %  50/s ");
        for columns in 0..90 {
            assert!(bar("journal", 450, Some(1_000), 50.0, columns).chars().count() < columns.max(1));
        }
    }

    #[test]
    fn a_line_tells_how_many_there_are_if_that_is_known() {
        assert_eq!(line("books", 3, Some(4), 1.4), "books: 3 of 4 done, 1/s");
        assert_eq!(line("books", 3, None, 1.6), "books: 3 done, 2/s");
        assert_eq!(line("books", 3, Some(2), 1.0), "books: 3 done, 1/s");
    }
}
