//! What happened, line by line. A run keeps the last lines and a checksum over all; one that is replayed shows them as
//! they come.

use std::collections::VecDeque;

/// Lines that a failure shows.
const SHOWN: usize = 60;

pub(crate) struct Trace {
    last: VecDeque<String>,
    hasher: blake3::Hasher,
    lines: u64,
    verbose: bool,
    /// All of them, for who compares.
    all: Option<String>,
}

impl Trace {
    pub(crate) fn new(verbose: bool) -> Self {
        Trace { last: VecDeque::new(), hasher: blake3::Hasher::new(), lines: 0, verbose, all: None }
    }

    pub(crate) fn keep_all(&mut self) {
        self.all = Some(String::new());
    }

    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
        let line = what();
        self.lines += 1;
        self.hasher.update(line.as_bytes());
        if self.verbose {
            println!("{line}");
        }
        if let Some(all) = &mut self.all {
            all.push_str(&line);
            all.push('\n');
        }
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    pub(crate) fn last(&self) -> String {
        self.last.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn all(&self) -> &str {
        self.all.as_deref().unwrap_or_default()
    }

    /// Of all lines.
    pub(crate) fn sum(&self) -> String {
        format!("{} lines, {}", self.lines, &self.hasher.finalize().to_hex()[..16])
    }
}
