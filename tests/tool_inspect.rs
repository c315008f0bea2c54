//! `bookstore inspect`: a segment and a snapshot row by row, up to where they are damaged.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::files::{copy, files, flip, killed_shop};
use common::{Shop, bookstore};
use serde_json::Value;
use tempfile::TempDir;

/// The rows of a kind.
fn rows<'a>(lines: &'a [Value], field: &str, name: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line[field] == name).collect()
}

#[test]
fn a_segment_is_shown_as_json_lines() {
    let mut shop = Shop::open(&[]);
    for state in ["completed", "canceled"] {
        shop.order_in(state);
    }
    let refunded = shop.order_in("paid");
    shop.client.refund(&shop.buyer, &refunded).ok();
    let platform = shop.order(&[("cheap", 1), ("dear", 2)]);
    shop.client.pay_to_platform(&shop.buyer, &platform).ok();
    shop.client.change_password(&shop.buyer, "another").ok();
    shop.server.kill9();
    let segment = files(&shop.server.data_dir(), ".seg")[0].clone();
    let done = bookstore(&[&"inspect", &segment]).ok();
    assert!(done.stderr.contains("whole"), "{}", done.stderr);
    let lines = done.lines();
    for (lsn, line) in (1..).zip(&lines) {
        assert_eq!(line["lsn"], lsn);
        let time = line["time"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    }
    assert_eq!(rows(&lines, "event", "Registered")[0]["user_id"], "seller");
    assert_eq!(rows(&lines, "event", "BookAdded")[0]["book_id"], "cheap");
    assert_eq!(rows(&lines, "event", "FundsAdded")[0]["value"], 100_000);
    let paid: Vec<&Value> = rows(&lines, "event", "Paid").into_iter().map(|line| &line["paid_to"]).collect();
    assert_eq!(paid, ["seller", "seller", "platform"]);
    let taken = rows(&lines, "event", "TakenBack");
    assert_eq!((&taken[0]["order_id"], &taken[0]["amount"]), (&Value::from(refunded), &Value::from(100)));
    assert_eq!(rows(&lines, "event", "Credited")[2]["cause"], "refund");
    assert_eq!(rows(&lines, "event", "Placed")[3]["order_id"], platform);
    assert_eq!(rows(&lines, "event", "Placed")[3]["books"][1]["count"], 2);
    for name in ["Created", "StoreOpened", "Held", "Credited", "Reserved", "Released", "Completed", "Canceled"] {
        assert!(!rows(&lines, "event", name).is_empty(), "{name}");
    }
    // Neither hash nor salt, unless asked for.
    assert!(!done.stdout.contains("argon2") && done.stdout.contains("redacted"));
    assert!(bookstore(&[&"inspect", &"--secrets", &segment]).ok().stdout.contains("$argon2id$v=19$m=64,t=1,p=1$"));
    // Under any name.
    let copied = segment.parent().unwrap().parent().unwrap().parent().unwrap().join("copy.bin");
    fs::copy(&segment, &copied).unwrap();
    assert_eq!(bookstore(&[&"inspect", &copied]).ok().stdout, done.stdout);
}

#[test]
fn a_snapshot_is_shown_as_json_lines() {
    let shop = killed_shop();
    let snapshot = files(&shop.server.data_dir(), ".snap")[1].clone();
    let done = bookstore(&[&"inspect", &snapshot]).ok();
    let lines = done.lines();
    assert_eq!((&lines[0]["row"], &lines[0]["format"]), (&Value::from("header"), &Value::from("bookstore snapshot")));
    let accounts = rows(&lines, "row", "account");
    assert_eq!(accounts.len(), 2);
    let buyer = accounts.iter().find(|row| row["user_id"] == "buyer").unwrap();
    assert_eq!((&buyer["net_put_in"], &buyer["password_hash"]), (&Value::from(100_000), &Value::from("redacted")));
    let stores = rows(&lines, "row", "store");
    assert_eq!((&stores[0]["store_id"], &stores[0]["books"][0]["id"]), (&Value::from("store"), &Value::from("cheap")));
    // An event of the snapshot's own time is among its frames; orders may rest elsewhere.
    assert!(done.stderr.contains("a snapshot up to event"), "{}", done.stderr);
}

#[test]
fn damage_ends_an_inspection_behind_what_is_sound() {
    let shop = killed_shop();
    let (_parent, dir) = copy(&shop.server.data_dir());
    let snapshot = files(&dir, ".snap").pop().unwrap();
    let whole = bookstore(&[&"inspect", &snapshot]).ok().lines().len();
    let at = fs::metadata(&snapshot).unwrap().len() as usize / 2;
    flip(&snapshot, at);
    let done = bookstore(&[&"inspect", &snapshot]).ends_with_status(1).says("damaged").says("at byte");
    assert!((1..whole).contains(&done.lines().len()), "{}", done.stdout);

    let segment = files(&dir, ".seg").pop().unwrap();
    flip(&segment, 32 + 40 + 30);
    bookstore(&[&"inspect", &segment]).ends_with_status(1).says("at byte 32");
    bookstore(&[&"inspect", &dir.join("token.key")])
        .ends_with_status(1)
        .says("neither a journal segment nor a snapshot");
    bookstore(&[&"inspect", &dir.join("nothing.seg")]).ends_with_status(75);
    bookstore(&[&"inspect"]).ends_with_status(2);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("data");
    bookstore(&[&"load", &"--generate", &"users=20000", &"--argon2-memory-kib", &"64", &dir]).ok();
    let mut child = common::tool::command(&[&"inspect", &dir.join("00000000000000000000.snap")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let head = Command::new("head").arg("-1").stdin(child.stdout.take().unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&head.stdout).contains("bookstore snapshot"));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
