//! `bookstore bench`: what it tells adds up, and nothing of it stays.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::tool::command;
use common::{bookstore, wait_until};
use serde_json::Value;
use tempfile::TempDir;

#[track_caller]
fn assert_empty(dir: &Path) {
    let left: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Every number in it, by its path.
fn numbers(path: &str, value: &Value, found: &mut Vec<(String, f64)>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| numbers(&format!("{path}.{name}"), value, found));
        }
        Value::Number(number) => found.push((path.to_owned(), number.as_f64().unwrap())),
        _ => {}
    }
}

#[test]
fn the_figures_are_positive_and_their_sums_agree() {
    let dir = TempDir::new().unwrap();
    let done = bookstore(&[&"bench", &"--seconds", &"1", &"--json", &"--dir", &dir.path()]).ok();
    assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);
    let report = &done.lines()[0];
    assert_eq!((report["version"].as_u64(), report["seconds"].as_u64()), (Some(1), Some(1)));
    assert_eq!(report["dir"].as_str(), dir.path().to_str());
    let mut found = Vec::new();
    numbers("", report, &mut found);
    assert!(found.len() > 50, "{found:?}");
    for (path, number) in &found {
        // CPU time is counted in steps of 10 ms.
        assert!(*number > 0.0 || path.contains("cores_busy"), "{path} is {number}: {report}");
    }

    let whole = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {report}"));
    let part = |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {report}"));
    for (load, callers) in [("memory", 256), ("alone", 1), ("sync", 256), ("http", 16)] {
        let load = format!("/orders/{load}");
        assert_eq!(whole(&format!("{load}/callers")), callers);
        assert!(whole(&format!("{load}/orders")) >= callers, "{report}");
        assert_eq!(whole(&format!("{load}/calls/count")), 2 * whole(&format!("{load}/orders")));
        let rate = part(&format!("{load}/orders_per_second"));
        let expected = part(&format!("{load}/calls/per_second")) / 2.0;
        assert!((rate - expected).abs() < 1e-6 * rate, "{report}");
    }
    for times in ["/disk", "/search", "/orders/memory/calls", "/orders/sync/calls", "/orders/http/calls"] {
        let of = |name: &str| part(&format!("{times}/{name}"));
        assert!(of("p50_us") <= of("p99_us"), "{times}: {report}");
        let rate = of("count") / of("seconds");
        assert!((of("per_second") - rate).abs() < 1e-6 * rate, "{times}: {report}");
    }
    // What was acknowledged is what the recovery found, and all of it is in the snapshot.
    let durable = ["alone", "sync", "http"].map(|load| whole(&format!("/orders/{load}/orders"))).iter().sum::<u64>();
    assert_eq!((whole("/orders/durable"), whole("/recovery/orders")), (durable, durable));
    assert!(whole("/snapshot/rows") > durable && whole("/recovery/events") > durable, "{report}");
    assert_eq!(report.pointer("/orders/memory/events_per_sync"), Some(&Value::Null));

    assert!(matches!(report["limit"].as_str(), Some("processor" | "disk")), "{report}");
    assert!(report["limit_why"].as_str().unwrap().contains("% of the rate without a disk"), "{report}");
    assert!(report["warnings"].is_array());
    assert_empty(dir.path());
}

#[test]
fn the_table_has_a_line_for_each_figure_and_ends_with_what_limits() {
    let dir = TempDir::new().unwrap();
    // Beside a data directory that is not there yet: it is on the disk that will have it.
    let data = dir.path().join("data");
    let done = bookstore(&[&"bench", &"--seconds", &"1", &"--data-dir", &data]).ok();
    assert_eq!(done.stderr, "");
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert!(lines[0].contains(dir.path().to_str().unwrap()), "{}", lines[0]);
    let rows = ["disk", "passwords", "orders", "orders", "orders", "orders", "search", "snapshot", "recovery"];
    for (line, row) in lines[2..].iter().zip(rows) {
        assert!(line.starts_with(row) && line.contains("/s") && line.len() <= 130, "{line}");
    }
    let below: Vec<&str> = lines[2 + rows.len()..].iter().copied().filter(|line| !line.is_empty()).collect();
    assert!(below[0].starts_with("The processor limits: ") || below[0].starts_with("The disk limits: "), "{below:?}");
    assert!(below[1..].iter().all(|line| line.starts_with("Warning: ") || line.starts_with("Nothing to worry")));
    assert!(below.len() > 1, "{below:?}");
    assert_empty(dir.path());
}

#[test]
fn a_signal_ends_it_and_nothing_stays() {
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let dir = TempDir::new().unwrap();
        let child = command(&[&"bench", &"--seconds", &"60", &"--dir", &dir.path()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until("it has begun", || fs::read_dir(dir.path()).unwrap().count() == 1);
        let sent = Command::new("/bin/kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(status), "{said}");
        assert!(said.contains("what it made is removed"), "{said}");
        assert_empty(dir.path());
    }
}

#[test]
fn wrong_usage_is_told_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    let none = dir.path().join("none");
    bookstore(&[&"bench", &"--dir", &none]).ends_with_status(1).says("--dir");
    for seconds in ["0", "61", "soon"] {
        bookstore(&[&"bench", &"--seconds", &seconds]).ends_with_status(2).says("--seconds");
    }
    assert_empty(dir.path());
}
