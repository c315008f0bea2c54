//! Pins that the load generator and the bare server understand each other over real sockets, and that an audit of a
//! server that keeps nothing fails.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

/// A bare server, killed at the end of the test, however it ends.
struct Bare {
    child: Child,
    url: String,
}

impl Bare {
    fn start() -> Self {
        let mut child = Command::new(LOADTEST).arg("bare").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").unwrap();
        Self { url: format!("http://{address}"), child }
    }

    fn load(&self, flags: &[&str]) -> Output {
        let small = ["--duration", "1s", "--warmup", "100ms", "--connections", "4", "--books", "10"];
        Command::new(LOADTEST).args(["run", "--url", &self.url]).args(small).args(flags).output().unwrap()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The JSON result of a run that must end well.
fn result(bare: &Bare, name: &str, flags: &[&str]) -> serde_json::Value {
    let file = std::env::temp_dir().join(format!("loadtest-{}-{name}.json", std::process::id()));
    let pid = bare.child.id().to_string();
    let output = bare.load(&[flags, &["--no-audit", "--pid", &pid, "--json", file.to_str().unwrap()]].concat());
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    document["result"].clone()
}

#[test]
fn paid_orders_on_kept_connections() {
    let result = result(&Bare::start(), "paid", &["--scenario", "paid"]);
    assert!(result["operations"].as_u64().unwrap() > 0);
    assert!(result["requests"].as_u64() > result["operations"].as_u64());
    assert!(result["routes"]["payment"]["p50_us"].as_u64().unwrap() > 0);
    assert!(result["server_cpu_us_per_request"].as_f64().unwrap() > 0.0);
    assert_eq!(result["errors"], serde_json::json!({}));
}

#[test]
fn orders_with_a_connection_for_each() {
    let result = result(&Bare::start(), "new-order", &["--scenario", "new-order", "--connection", "per-request"]);
    assert!(result["operations"].as_u64().unwrap() > 0);
    assert_eq!(result["routes"]["payment"], serde_json::Value::Null);
    assert_eq!(result["errors"], serde_json::json!({}));
}

#[test]
fn an_audit_notices_that_nothing_was_kept() {
    let output = Bare::start().load(&["--scenario", "new-order"]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("audit     DISAGREES"), "{printed}");
    assert!(printed.contains("stock of book-0 in"), "{printed}");
}

#[test]
fn no_server_is_an_error_and_not_a_result() {
    let output = Command::new(LOADTEST).args(["run", "--url", "http://127.0.0.1:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/auth/register: cannot connect"));
}
