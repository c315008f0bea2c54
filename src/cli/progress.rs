//! What long work says meanwhile, on stderr.

use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, Instant};

use super::exit::Exit;

const EVERY: Duration = Duration::from_secs(1);

/// Says about once a second how far the work is, and nothing if it is over sooner.
#[derive(Debug)]
pub(super) struct ProgressLines {
    quiet: bool,
    stage: &'static str,
    last: Instant,
    done_then: u64,
}

impl ProgressLines {
    pub(super) fn new(quiet: bool) -> Self {
        ProgressLines { quiet, stage: "", last: Instant::now(), done_then: 0 }
    }

    /// `done` things of a stage are done.
    pub(super) fn at(&mut self, stage: &'static str, done: u64) {
        if self.quiet {
            return;
        }
        if self.stage != stage {
            // The rate is the stage's own.
            (self.stage, self.last, self.done_then) = (stage, Instant::now(), 0);
        }
        let elapsed = self.last.elapsed();
        if elapsed < EVERY {
            return;
        }
        let rate = (done - self.done_then.min(done)) as f64 / elapsed.as_secs_f64();
        say(&format_args!("{stage}: {done} done, {rate:.0}/s"));
        (self.last, self.done_then) = (Instant::now(), done);
    }
}

/// A line on stderr. Whoever started the program may have closed it; that is no reason to end.
pub(super) fn say(line: &dyn Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Things a second, for a summary.
pub(super) fn rate(done: u64, took: Duration) -> String {
    format!("{:.0}/s", done as f64 / took.as_secs_f64().max(1e-3))
}

/// Text on stdout. A reader that went away is no error.
pub(super) fn print(text: &str) -> std::io::Result<()> {
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
