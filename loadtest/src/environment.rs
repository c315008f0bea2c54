//! Where, with what and on what a run was measured.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::Failure;
use crate::api::Api;
use crate::client::Target;
use crate::machine::Machine;
use crate::server::TemporaryDirectory;

/// What a compiler leaves in each program it makes, before its version.
const COMPILER_MARK: &[u8] = b"rustc version ";
/// A version behind the mark is not longer.
const VERSION_BYTES_MAX: usize = 80;

/// All that figures depend on and that can be found out.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Environment {
    /// When the run began, UTC.
    pub(crate) started: String,
    pub(crate) machine: Machine,
    /// Where the syncs were measured.
    pub(crate) sync_directory: String,
    pub(crate) kernel: String,
    /// The compiler that made this tool.
    pub(crate) rustc: Option<String>,
    /// The commit that the working directory is at, with a `+` if files differ from it.
    pub(crate) commit: Option<String>,
    /// The command line of this tool.
    pub(crate) command: Vec<String>,
    pub(crate) server: ServerSeen,
}

/// What is known of the server.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct ServerSeen {
    pub(crate) url: String,
    /// Name and version, from `/openapi.json`.
    pub(crate) version: Option<String>,
    /// Its command line, if its process is known.
    pub(crate) command: Option<Vec<String>>,
    /// The compiler that made it, the same.
    pub(crate) rustc: Option<String>,
}

impl Environment {
    /// Looks around, and measures the syncs in a new directory in `temp_dir`, which is removed again.
    pub(crate) async fn look(
        temp_dir: &Path,
        url: &str,
        target: &Target,
        server_pid: Option<u32>,
    ) -> Result<Self, Failure> {
        let directory = TemporaryDirectory::new(temp_dir)?;
        let machine = Machine::measure(directory.path())?;
        let kernel = rustix::system::uname();
        Ok(Self {
            started: utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())),
            machine,
            sync_directory: temp_dir.display().to_string(),
            kernel: format!("{} {}", kernel.sysname().to_string_lossy(), kernel.release().to_string_lossy()),
            rustc: compiler_of(Path::new("/proc/self/exe")),
            commit: commit(),
            command: std::env::args().collect(),
            server: ServerSeen {
                url: url.to_owned(),
                version: version(target).await,
                command: server_pid.and_then(command_of),
                rustc: server_pid.and_then(|pid| compiler_of(Path::new(&format!("/proc/{pid}/exe")))),
            },
        })
    }
}

async fn version(target: &Target) -> Option<String> {
    let page = Api::new(target.clone()).page("/openapi.json").await.ok()?;
    let document: serde_json::Value = serde_json::from_str(&page).ok()?;
    let info = &document["info"];
    Some(format!("{} {}", info["title"].as_str()?, info["version"].as_str()?))
}

fn command_of(pid: u32) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    Some(words.filter(|word| !word.is_empty()).collect())
}

fn compiler_of(program: &Path) -> Option<String> {
    compiler_in(&fs::read(program).ok()?)
}

/// The version that stands in a program's comments.
fn compiler_in(program: &[u8]) -> Option<String> {
    // This program holds the mark by itself as well; there no version is behind it.
    let marks = program.windows(COMPILER_MARK.len()).enumerate().filter(|(_, window)| *window == COMPILER_MARK);
    marks
        .map(|(at, _)| &program[at + COMPILER_MARK.len()..])
        .filter(|rest| rest.first().is_some_and(u8::is_ascii_digit))
        .find_map(|rest| {
            let end = rest.iter().take(VERSION_BYTES_MAX).position(|byte| *byte == b')' || *byte == 0)?;
            let bracket = usize::from(rest[end] == b')');
            String::from_utf8(rest[..end + bracket].to_vec()).ok()
        })
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(format!("{}{}", commit.trim(), if changes.is_empty() { "" } else { "+" }))
}

/// Seconds since 1970 as `2026-11-22T17:00:01Z`.
fn utc(seconds: u64) -> String {
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_their_date() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_795_366_801), "2026-11-22T17:00:01Z");
        assert_eq!(utc(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn a_program_tells_its_compiler() {
        let found = |text: &str| compiler_in(text.as_bytes());
        assert_eq!(found("\0rustc version 1.95.0 (5980 2026)\0x").as_deref(), Some("1.95.0 (5980 2026)"));
        assert_eq!(found("rustc version {}\0 rustc version 1.2.3\0").as_deref(), Some("1.2.3"));
        assert_eq!(found("rustc"), None);
        assert!(compiler_of(Path::new("/proc/self/exe")).is_some_and(|version| version.starts_with("1.")));
    }
}
