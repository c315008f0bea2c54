//! Pins that `compare` skips what is not installed, measures and audits what is, and leaves nothing behind, also when it
//! is interrupted.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

/// A directory that must be empty at the end of the test.
struct Work(PathBuf);

impl Work {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("compare-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(LOADTEST);
        let small = ["--rounds", "1", "--warmup", "100ms", "--connections", "4", "--books", "10"];
        command.arg("compare").args(small).args(flags).arg("--temp-dir").arg(&self.0);
        command
    }

    fn json(&self) -> PathBuf {
        self.0.with_extension("json")
    }

    fn run(&self, flags: &[&str]) -> (String, serde_json::Value) {
        let output = self.command(flags).args(["--duration", "1s", "--json"]).arg(self.json()).output().unwrap();
        (text(&output), self.result(&output))
    }

    /// What a run wrote that must have ended well.
    fn result(&self, output: &Output) -> serde_json::Value {
        assert!(output.status.success(), "{}", text(output));
        let result = serde_json::from_slice(&std::fs::read(self.json()).unwrap()).unwrap();
        std::fs::remove_file(self.json()).unwrap();
        result
    }

    fn content(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        } else {
            // Fails if anything was left in it.
            std::fs::remove_dir(&self.0).unwrap();
        }
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn what_is_missing_is_skipped_with_a_line_that_helps() {
    let work = Work::new("skipped");
    let nowhere = ["--postgres-bin", "/nowhere", "--redis", "/nowhere/redis-server", "--axum", "/nowhere/axum"];
    let who = ["--only", "bare,postgres,redis-always,redis-everysec,axum"];
    let (printed, result) = work.run(&[&who[..], &nowhere].concat());
    for line in [
        "skipped: PostgreSQL functions, pgbench: PostgreSQL is missing: apt install postgresql",
        "skipped: Redis function, fsync always: Redis is missing: apt install redis-server",
        "skipped: axum + PostgreSQL: PostgreSQL is missing: apt install postgresql",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}\n{printed}");
    }
    assert_eq!(result["schema"], 1);
    assert_eq!(result["skipped"].as_array().unwrap().len(), 4);
    let samples = result["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 2);
    for sample in samples {
        assert!(sample["contender"] == "bare" && sample["operations_per_second"].as_f64().unwrap() > 0.0, "{sample}");
        assert!(sample["cpu_us_per_request"].as_f64().unwrap() > 0.0, "{sample}");
    }
}

#[test]
fn nothing_is_found_without_a_path() {
    let work = Work::new("path");
    let flags = ["--only", "bare,redis-always", "--scenario", "paid", "--duration", "1s"];
    let output = work.command(&flags).env("PATH", "").output().unwrap();
    assert!(text(&output).contains("skipped: Redis function, fsync always: Redis is missing"), "{}", text(&output));
    assert!(output.status.success());
}

#[test]
fn what_has_no_http_is_not_measured_with_new_connections() {
    let work = Work::new("new-connections");
    let flags = ["--only", "bare,redis-always", "--scenario", "paid", "--connection", "per-request"];
    let markdown = work.0.with_extension("md");
    let (printed, _) = work.run(&[&flags[..], &["--markdown", markdown.to_str().unwrap()]].concat());
    assert!(printed.contains("skipped: Redis function, fsync always: it has no HTTP"), "{printed}");
    let table = std::fs::read_to_string(&markdown).unwrap();
    std::fs::remove_file(&markdown).unwrap();
    assert!(table.contains("\n| bare hyper, 4 clients | "), "{table}");
    assert!(table.contains("\nNot measured: Redis function, fsync always: it has no HTTP"), "{table}");
}

/// Said when nothing of what is wanted is installed.
const NOTHING: &str = "loadtest: nothing of it can be measured here\n";

/// The JSON of one contender alone; `None`, said aloud, if it is not installed.
fn alone(contender: &str) -> Option<serde_json::Value> {
    let work = Work::new(contender);
    let flags = ["--only", contender, "--scenario", "paid", "--postgres-clients", "4", "--duration", "1s"];
    let output = work.command(&flags).arg("--json").arg(work.json()).output().unwrap();
    if output.stderr == NOTHING.as_bytes() {
        println!("{}", text(&output));
        return None;
    }
    let result = work.result(&output);
    assert!(text(&output).ends_with("every audit agrees\n"), "{}", text(&output));
    Some(result["samples"][0].clone())
}

#[test]
fn postgres_pays_orders_if_it_is_installed() {
    if let Some(sample) = alone("postgres") {
        assert!(sample["operations_per_second"].as_f64().unwrap() > 0.0, "{sample}");
        assert!(sample["cpu_us_per_operation"].as_f64().unwrap() > 0.0, "{sample}");
    }
}

#[test]
fn redis_pays_orders_if_it_is_installed() {
    if let Some(sample) = alone("redis-always") {
        assert!(sample["operations_per_second"].as_f64().unwrap() > 0.0, "{sample}");
        assert!(sample["p99_us"].as_u64().unwrap() > 0, "{sample}");
    }
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    for contender in ["bare", "redis-always", "postgres"] {
        let work = Work::new(&format!("interrupted-{contender}"));
        let flags = ["--only", contender, "--scenario", "paid", "--duration", "10m"];
        let mut child = work.command(&flags).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // A server's directory, after that of the measuring of the disk.
        let is_server = |path: &PathBuf| path.is_dir() && !path.join("sync-probe").exists();
        while !work.content().iter().any(is_server) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(500));
        if child.try_wait().unwrap().is_none() {
            kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::INT).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told == NOTHING || told == "loadtest: interrupted\n", "{contender}: {told}");
    }
}
