//! `examples/purchase.sh` against the real binary: a whole purchase with curl, twice, and what it says of a wrong address.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::process::{Command, Output};

use common::Server;

fn purchase(url: &str) -> Output {
    Command::new("sh").args([concat!(env!("CARGO_MANIFEST_DIR"), "/examples/purchase.sh"), url]).output().unwrap()
}

#[test]
fn a_purchase_with_curl_goes_through_and_an_error_ends_it() {
    // Cargo needs no curl, so the test says that it did nothing and passes.
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: there is no curl");
        return;
    }
    let server = Server::start(&[]);
    let url = format!("http://127.0.0.1:{}", server.port());
    for _ in 0..2 {
        let output = purchase(&url);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        // 10,000 fen, less two books of 3,880.
        assert!(said.trim_end().ends_with(r#""balance":2240}"#), "{said}");
    }
    let output = purchase(&format!("{url}/nowhere"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(r#"/auth/register: {"code":404"#), "{output:?}");
}
