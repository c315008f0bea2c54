//! An existing client, in Python, against the real binary: it lists the 100 real books and goes through its day, the
//! process is killed, the client comes again; in both modes. The server's end is an audit of its data.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::process::Command;

use common::Server;

/// Whether there is a Python to run it with. Cargo needs none, so the test says that it did nothing and passes.
fn has_python() -> bool {
    let check = "import sys; sys.exit(sys.version_info < (3, 11))";
    let found = Command::new("python3").args(["-c", check]).status().is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: there is no python3 of 3.11 or later");
    }
    found
}

fn day(server: &Server, mode: &str) {
    let url = format!("http://127.0.0.1:{}", server.port());
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/python_client.py");
    let output = Command::new("python3").args([client, "--url", &url, "--mode", mode]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("100 books"), "{said}");
}

#[test]
fn the_python_client_has_its_day_before_and_after_a_kill() {
    if !has_python() {
        return;
    }
    for mode in ["strict", "compat"] {
        let mut server = Server::start(&["--mode", mode]);
        day(&server, mode);
        server.kill9();
        server.restart();
        day(&server, mode);
        assert_eq!(server.sigterm().code(), Some(0));
    }
}
