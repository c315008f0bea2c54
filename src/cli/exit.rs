//! The exit statuses.

use std::io::Write;
use std::process::ExitCode;

/// Something failed; the reason stands on stderr.
const FAILURE: u8 = 1;
/// Wrong usage: as when clap tells it.
const USAGE: u8 = 2;
/// The journal failed while the service ran (`EX_SOFTWARE`). Whatever restarts the service may do so.
const ENGINE_FAILED: u8 = 70;
/// Nothing is known of what was to be checked: it cannot be read, or is in use (`EX_TEMPFAIL`).
const NOT_CHECKED: u8 = 75;

/// Why the program ends other than well, with its exit status.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) status: u8,
    pub(super) why: String,
}

impl Exit {
    pub(super) fn failure(why: impl Into<String>) -> Self {
        Exit { status: FAILURE, why: why.into() }
    }

    pub(super) fn usage(why: impl Into<String>) -> Self {
        Exit { status: USAGE, why: why.into() }
    }

    pub(super) fn engine(why: impl Into<String>) -> Self {
        Exit { status: ENGINE_FAILED, why: why.into() }
    }

    pub(super) fn not_checked(why: impl Into<String>) -> Self {
        Exit { status: NOT_CHECKED, why: why.into() }
    }

    /// Tells the reason and gives the status.
    pub(super) fn end(&self) -> ExitCode {
        tell(&self.why);
        ExitCode::from(self.status)
    }
}

/// What the system did not give, and where to look.
pub(super) fn scarce(what: &str, error: &std::io::Error) -> String {
    format!("{what}: {error}; memory, threads or open files run short: free some, or raise what `ulimit -a` shows")
}

/// Writes lines to stderr, if that takes it. It may lie on a disk that is full, and `eprintln!` would panic then, with an
/// exit status that tells nothing.
pub(super) fn tell(what: &str) {
    super::progress::clear();
    for line in what.lines() {
        let _ = writeln!(std::io::stderr(), "bookstore: {line}");
    }
}
