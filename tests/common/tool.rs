//! Runs the binary as a tool: arguments in, status and both streams out.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub struct Done {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    #[track_caller]
    pub fn ok(self) -> Done {
        self.ends_with_status(0)
    }

    #[track_caller]
    pub fn ends_with_status(self, status: i32) -> Done {
        assert_eq!(self.status, Some(status), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// What it says, on either stream.
    #[track_caller]
    pub fn says(self, text: &str) -> Done {
        let said = format!("{}{}", self.stdout, self.stderr);
        assert!(said.contains(text), "{text:?} is not in:\n{said}");
        self
    }

    /// Its stdout as JSON lines.
    pub fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The binary, with the flags of the caller's environment taken away.
pub fn command(args: &[&dyn AsRef<OsStr>]) -> Command {
    let mut command = Command::new(super::binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BOOKSTORE_") {
            command.env_remove(name);
        }
    }
    command.args(args.iter().map(|arg| arg.as_ref()));
    command
}

/// Runs it with nothing on stdin.
pub fn bookstore(args: &[&dyn AsRef<OsStr>]) -> Done {
    done(command(args).stdin(Stdio::null()).output().unwrap())
}

/// Runs it with this on stdin.
pub fn bookstore_fed(args: &[&dyn AsRef<OsStr>], input: &[u8]) -> Done {
    let mut child = command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What it does not want to read may break the pipe.
    let _ = child.stdin.take().unwrap().write_all(input);
    done(child.wait_with_output().unwrap())
}

fn done(output: Output) -> Done {
    Done {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
