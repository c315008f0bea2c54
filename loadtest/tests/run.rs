//! `loadtest run` against the real server: each mix in both loops with its audit, the shape of the JSON, the judgement
//! on a baseline, and the page.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

/// The server's binary: `BOOKSTORE_TEST_BINARY`, or the one beside the tool's. `cargo test --workspace` has made that one
/// anew; alone, these tests take what is there, and make it only if nothing is.
fn bookstore() -> PathBuf {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Some(binary) = std::env::var_os("BOOKSTORE_TEST_BINARY") {
            // Of the workspace's directory, as for the tests of the server itself.
            return Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(binary);
        }
        let directory = Path::new(LOADTEST).parent().unwrap();
        let binary = directory.join("bookstore");
        if !binary.exists() {
            let mut command = Command::new(env!("CARGO"));
            command.args(["build", "--quiet", "--package", "bookstore", "--bin", "bookstore"]);
            if directory.ends_with("release") {
                command.arg("--release");
            }
            assert!(command.status().unwrap().success());
        }
        binary
    });
    BINARY.clone()
}

/// A directory that goes with its content.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("loadtest-run-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The real server on an empty directory, killed at the end of the test, however it ends.
struct Server {
    child: Child,
    url: String,
    files: Directory,
}

impl Server {
    fn start(name: &str) -> Self {
        let files = Directory::new(name);
        let mut child = Command::new(bookstore())
            .args(["serve", "--listen", "127.0.0.1:0", "--argon2-memory-kib", "64", "--argon2-iterations", "1"])
            .args(["--data-dir", &files.file("data")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| Some(line.unwrap().split_once("listening on http://")?.1.split(' ').next()?.to_owned()))
            .unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url: format!("http://{address}"), files }
    }

    fn run(&self, flags: &[&str]) -> Output {
        run(&self.url, flags)
    }

    /// Until the load has begun.
    fn wait_for_payments(&self) {
        let address = self.url.strip_prefix("http://").unwrap();
        loop {
            let mut metrics = String::new();
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
            stream.read_to_string(&mut metrics).unwrap();
            if metrics.contains("{route=\"/buyer/payment\",code=\"200\"}") {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The JSON result of a run that must end well.
    fn result(&self, name: &str, flags: &[&str]) -> Value {
        let file = self.files.file(name);
        let output = self.run(&[flags, &["--json", &file]].concat());
        assert!(output.status.success(), "{name}: {}", shown(&output));
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A short run against `url`.
fn run(url: &str, flags: &[&str]) -> Output {
    let seconds = if flags.contains(&"--duration") { &[][..] } else { &["--duration", "1s"] };
    let short = [&["--quiet", "--warmup", "200ms"], seconds].concat();
    Command::new(LOADTEST).args(["run", "--url", url]).args(short).args(flags).output().unwrap()
}

fn shown(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_mix_sells_in_both_loops_and_its_audit_agrees() {
    let server = Server::start("mixes");
    let small = ["--buyers", "12", "--stores", "5", "--books", "15"];
    std::thread::scope(|scope| {
        for mix in ["reference", "uniform", "hot-store", "hot-buyer", "browse", "catalogue"] {
            let server = &server;
            scope.spawn(move || {
                for (kind, flags) in [("closed", ["--connections", "4"]), ("open", ["--rate", "120/s"])] {
                    let found =
                        server.result(&format!("{mix}-{kind}"), &[&["--mix", mix], &small[..], &flags].concat());
                    let result = &found["result"];
                    assert_eq!((&found["load"]["loop"], &result["mix"]), (&json!(kind), &json!(mix)));
                    assert!(result["operations"].as_u64().unwrap() > 0, "{mix}: {result}");
                    assert_eq!((&result["errors"], &result["audit"]["disagreements"]), (&json!({}), &json!(0)));
                    let audit = &result["audit"];
                    let orders = audit["orders_checked"].as_u64().unwrap();
                    assert!((1..=1_000).contains(&orders) && audit["orders_disagree"] == 0, "{mix}: {audit}");
                    // Every shelf, the market's, every balance.
                    assert!(result["audit"]["checked"].as_u64().unwrap() >= 75 + 12 + 5, "{mix}: {result}");
                    let routes: BTreeSet<&str> =
                        result["routes"].as_object().unwrap().keys().map(String::as_str).collect();
                    assert!(routes.is_superset(&BTreeSet::from(["new_order", "payment"])), "{routes:?}");
                    let looks = ["search", "query_book", "check_stock_level", "query_order_status", "query_balance"];
                    assert_eq!(routes.is_superset(&BTreeSet::from(looks)), mix == "browse", "{routes:?}");
                }
            });
        }
    });
}

#[test]
fn other_scenarios_and_a_connection_for_each_request_work_in_both_loops() {
    let server = Server::start("scenarios");
    for (name, flags) in [("closed", ["--connections", "3"]), ("open", ["--rate", "100/s"])] {
        let flags = [&flags[..], &["--scenario", "refunded", "--connection", "per-request"]].concat();
        let found = server.result(name, &flags);
        assert!(found["result"]["routes"]["refund_order"]["count"].as_u64().unwrap() > 0, "{found}");
        assert_eq!((&found["result"]["errors"], &found["result"]["connection"]), (&json!({}), &json!("per-request")));
    }
}

/// Each path of a document with its type; of a list the element that knows most.
fn shape(value: &Value, path: &str, out: &mut Vec<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::String(_) => "text",
        Value::Array(list) => {
            let nulls = |element: &&Value| {
                element.as_object().map_or(0, |map| map.values().filter(|value| value.is_null()).count())
            };
            if let Some(element) = list.iter().min_by_key(nulls) {
                shape(element, &format!("{path}[]"), out);
            }
            "list"
        }
        Value::Object(map) => {
            map.iter().for_each(|(name, value)| shape(value, &format!("{path}.{name}"), out));
            "map"
        }
    };
    out.push(format!("{path}: {kind}"));
}

#[test]
fn the_json_has_the_promised_shape() {
    let server = Server::start("shape");
    let pid = server.child.id().to_string();
    let flags = ["--rate", "100/s", "--duration", "2s", "--pid", &pid];
    server.result("first", &flags);
    let baseline = ["--baseline", &server.files.file("first"), "--fail-on-regression", "999999%"];
    let found = server.result("second", &[&flags[..], &baseline].concat());
    assert_eq!(found["schema"], 1, "a change of the shape needs another number, here and in docs/loadtest-json.md");
    let mut lines = Vec::new();
    shape(&found, "", &mut lines);
    lines.sort();
    // Where git has nothing to tell, there is no commit, and not every kernel tells the processor's name.
    let told =
        |line: &String| line.replace("commit: null", "commit: text").replace("processor: null", "processor: text");
    let lines: Vec<_> = lines.iter().map(told).collect();
    let promised = include_str!("schema-1.txt");
    assert_eq!(lines.join("\n"), promised.trim_end(), "the shape of schema 1");
    let seconds = found["series"].as_array().unwrap();
    let of_seconds: u64 = seconds.iter().map(|second| second["requests"].as_u64().unwrap()).sum();
    // What was due in the warm-up may have been answered after it.
    assert!(of_seconds >= found["result"]["requests"].as_u64().unwrap(), "{found}");
    let document = include_str!("../../docs/loadtest-json.md");
    for line in promised.lines() {
        let name = line.split(':').next().unwrap().rsplit('.').next().unwrap().trim_end_matches("[]");
        assert!(document.contains(&format!("`{name}`")) || name.is_empty(), "docs/loadtest-json.md lacks {name}");
    }
}

#[test]
fn a_regression_is_named_and_ends_with_status_1() {
    let server = Server::start("baseline");
    let before = server.result("before", &["--connections", "4"]);
    let judged = |operations_per_second: f64, p99_us: u64, errors: Value, flags: &[&str]| {
        let mut before = before.clone();
        before["result"]["operations_per_second"] = json!(operations_per_second);
        before["result"]["latency"]["p99_us"] = json!(p99_us);
        before["result"]["errors"] = errors;
        for route in before["result"]["routes"].as_object_mut().unwrap().values_mut() {
            // The least to be judged by, so that no machine is worse in answers a second.
            (route["count"], route["p99_us"]) = (json!(100), json!(p99_us));
        }
        let file = server.files.file("changed");
        std::fs::write(&file, before.to_string()).unwrap();
        let output = server.run(&[&["--connections", "4", "--baseline", &file], flags].concat());
        (output.status.code(), shown(&output))
    };
    let fail = ["--fail-on-regression", "10%"];
    let worse = "worse by more than 10 % (errors: 0.1 points)";
    let (status, printed) = judged(1e9, 60_000_000, json!({}), &fail);
    assert!(status == Some(1) && printed.contains(&format!("{worse}: operations/s\n")), "{status:?} {printed}");
    let (status, printed) = judged(0.001, 1, json!({}), &fail);
    let all = format!("{worse}: p99, ms; p99, ms, new_order; p99, ms, payment\n");
    assert!(status == Some(1) && printed.contains(&all), "{status:?} {printed}");
    let (status, printed) = judged(0.001, 60_000_000, json!({"503": 100}), &fail);
    assert!(status == Some(0) && !printed.contains("worse"), "{status:?} {printed}");
    let (status, printed) = judged(1e9, 1, json!({}), &[]);
    assert!(status == Some(0) && printed.contains("baseline"), "{status:?} {printed}");
    let (status, printed) = judged(0.001, 60_000_000, json!({}), &["--seed", "2"]);
    assert!(status == Some(0) && printed.contains("not the same load: seed 2, was 1"), "{status:?} {printed}");
    let (status, printed) = judged(0.001, 60_000_000, json!({}), &[&fail[..], &["--seed", "2"]].concat());
    assert!(status == Some(2) && printed.contains("not the same load"), "{status:?} {printed}");
    assert!(!printed.contains("answered 200"), "before the load: {printed}");
    std::fs::write(server.files.file("other"), "{}").unwrap();
    let output = server.run(&["--baseline", &server.files.file("other")]);
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
}

/// A run whose server is killed in the middle of it.
fn outlives_its_server(name: &str, load: &[&str]) -> Value {
    let server = Server::start(name);
    let (json, html, pid) =
        (server.files.file("result.json"), server.files.file("result.html"), server.child.id().to_string());
    let flags = [&["--duration", "3s", "--timeout", "1s", "--json", &json, "--html", &html], load].concat();
    let output = std::thread::scope(|scope| {
        let run = scope.spawn(|| server.run(&flags));
        server.wait_for_payments();
        // The warm-up is over by then, and the measured time is not.
        std::thread::sleep(Duration::from_secs(1));
        assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        run.join().unwrap()
    });
    let printed = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("NOT DONE") && printed.contains("new_order"), "{printed}");
    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(found["result"]["audit"]["not_done"], true, "{found}");
    assert_ne!(found["result"]["errors"], json!({}), "{found}");
    assert!(std::fs::read_to_string(&html).unwrap().contains("It could not be done."));
    found
}

#[test]
fn figures_outlive_the_server() {
    let closed = || {
        let found = outlives_its_server("gone-closed", &["--connections", "4"]);
        // Each connection had one under way.
        assert_eq!(found["result"]["unanswered"], 4, "{found}");
    };
    let open = || {
        let found = outlives_its_server("gone-open", &["--rate", "200/s", "--connections", "8"]);
        let (errors, open) = (&found["result"]["errors"], &found["open"]);
        assert!(errors["cannot connect"].as_u64().unwrap() > 8, "tried again: {errors}");
        // All but a second of three, and no second answer to what was lost.
        assert!(open["dropped"].as_u64().unwrap() > 200 && errors["never sent"] == open["dropped"], "{errors} {open}");
        assert!(found["result"]["latency"]["max_us"].as_u64().unwrap() > 2_000_000, "{found}");
    };
    std::thread::scope(|scope| {
        scope.spawn(closed);
        scope.spawn(open);
    });
}

#[test]
fn a_file_that_cannot_be_written_does_not_cost_the_other() {
    let server = Server::start("files");
    let (nowhere, html) = (server.files.file("nowhere/file"), server.files.file("page.html"));
    let output = server.run(&["--connections", "2", "--json", &nowhere, "--html", &html]);
    assert!(output.status.code() == Some(2) && shown(&output).contains(&nowhere), "{}", shown(&output));
    assert!(std::fs::read_to_string(&html).unwrap().contains("It agrees."));
    let page = format!("{nowhere}.html");
    let printed = shown(&server.run(&["--connections", "2", "--json", &nowhere, "--html", &page]));
    assert!(printed.contains(&format!("{nowhere}: ")) && printed.contains(&format!("{page}: ")), "{printed}");
}

/// A whole request or answer; `None` at the end of the connection.
fn message(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut message = String::new();
    while !message.ends_with("\r\n\r\n") {
        if stream.read_line(&mut message).ok()? == 0 {
            return None;
        }
    }
    let length = message.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    message.push_str(std::str::from_utf8(&body).unwrap());
    Some(message)
}

/// A server that does all that `server` does, but for what `liar` says of a request and its true answer. Gives its URL.
fn lying_server(server: &Server, liar: fn(&str, String) -> String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut honest) =
                (BufReader::new(client.unwrap()), BufReader::new(TcpStream::connect(&address).unwrap()));
            std::thread::spawn(move || {
                while let Some(request) = message(&mut client) {
                    // The real server may have been killed by then, with the test.
                    let _ = honest.get_mut().write_all(request.as_bytes());
                    let Some(answer) = message(&mut honest) else { return };
                    let _ = client.get_mut().write_all(liar(&request, answer).as_bytes());
                }
            });
        }
    });
    url
}

fn http(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

const STATUS: &str = "POST /buyer/query_order_status ";

/// Has no memory of one in eight orders, whose stock and money it has all the same.
fn forgets(request: &str, answer: String) -> String {
    match request.starts_with(STATUS) && ["0\"}", "8\"}"].iter().any(|end| request.ends_with(end)) {
        true => http(518, r#"{"code":518,"message":"invalid order id","order_status":"None"}"#),
        false => answer,
    }
}

#[test]
fn an_order_that_is_lost_or_in_another_state_is_found_though_all_sums_agree() {
    let server = Server::start("lies");
    let pending = |request: &str, answer: String| match request.starts_with(STATUS) {
        true => http(200, r#"{"code":200,"message":"ok","order_status":"pending"}"#),
        false => answer,
    };
    for (liar, told, load) in [
        (forgets as fn(&str, String) -> String, ": 518 invalid order id, must be paid", ["--connections", "2"]),
        (pending, ": pending, must be paid", ["--rate", "100/s"]),
    ] {
        let json = server.files.file("lies.json");
        let output = run(&lying_server(&server, liar), &[&load[..], &["--json", &json]].concat());
        let printed = shown(&output);
        assert!(output.status.code() == Some(1) && printed.contains("DISAGREES"), "{printed}");
        assert!(printed.contains("            order ") && printed.contains(told), "{printed}");
        let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        let audit = &found["result"]["audit"];
        let number = |name: &str| audit[name].as_u64().unwrap();
        assert!((1..=number("orders_checked")).contains(&number("orders_disagree")), "{audit}");
        assert_eq!(number("disagreements"), number("orders_disagree"), "{audit}");
    }
}

/// Has too much to do for every second price. (Setting it again changes nothing more.)
fn refuses(request: &str, answer: String) -> String {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    match request.starts_with("POST /seller/set_price ") && ASKED.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
        true => http(503, r#"{"code":503,"message":"overloaded: too much to do; nothing was done"}"#),
        false => answer,
    }
}

#[test]
fn a_server_that_has_too_much_to_do_for_the_market_is_asked_again() {
    let server = Server::start("refuses");
    let json = server.files.file("refuses.json");
    let output = run(&lying_server(&server, refuses), &["--connections", "2", "--json", &json]);
    assert!(output.status.success(), "{}", shown(&output));
    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert!(found["result"]["audit"]["prices_set"].as_u64().unwrap() > 0, "{found}");
}

#[test]
fn orders_of_a_server_that_does_not_tell_of_them_are_not_asked_for() {
    let server = Server::start("silent");
    let has_no_route = |request: &str, answer: String| match request.starts_with(STATUS) {
        true => http(404, "<h1>Not Found</h1>"),
        false => answer,
    };
    let (json, html) = (server.files.file("silent.json"), server.files.file("silent.html"));
    let flags = ["--connections", "2", "--json", &json, "--html", &html];
    let output = run(&lying_server(&server, has_no_route), &flags);
    let printed = shown(&output);
    let why = "no order was asked for by its id: /buyer/query_order_status is answered 404";
    assert!(output.status.success() && printed.contains(why), "{printed}");
    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let audit = &found["result"]["audit"];
    assert_eq!((&audit["orders_checked"], &audit["disagreements"]), (&json!(0), &json!(0)));
    assert_eq!(audit["orders_not_checked"], "/buyer/query_order_status is answered 404");
    assert!(std::fs::read_to_string(&html).unwrap().contains(&why.replace("no order", "No order")));
}

/// The names of all elements, after a look at whether each is closed where it must be.
fn elements(page: &str) -> Vec<String> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    let body = page.strip_prefix("<!DOCTYPE html>").unwrap();
    for piece in body.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap();
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name), "closed here"),
            None => {
                let name = tag.split([' ', '/']).next().unwrap().to_owned();
                all.push(name.clone());
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
        }
    }
    assert_eq!(open, [""; 0], "never closed");
    all
}

#[test]
fn the_page_needs_nothing_else_and_holds_the_figures() {
    let server = Server::start("page");
    let hostile = Directory::new("<script>alert('&\"1');<");
    let (html, temp_dir) = (server.files.file("page.html"), hostile.0.to_str().unwrap());
    let before = ["--json", &server.files.file("before"), "--connections", "4", "--no-audit"];
    assert!(server.run(&before).status.success());
    let baseline = ["--baseline", &server.files.file("before")];
    let found = server.result(
        "page",
        &[&["--connections", "4", "--duration", "2s", "--html", &html, "--temp-dir", temp_dir], &baseline[..]].concat(),
    );
    let page = std::fs::read_to_string(&html).unwrap();
    let elements = elements(&page);
    let count = |name: &str| elements.iter().filter(|element| *element == name).count();
    // Two sizes of each: throughput, latency, sync, batch, percentiles.
    assert_eq!((count("svg"), count("script"), count("link"), count("img")), (10, 0, 0, 0));
    let without_target = page.replace(&server.url, "");
    for foreign in ["http:", "https:", "url(", "src=", "href=", "@import", "<script"] {
        assert!(!without_target.contains(foreign), "{foreign}");
    }
    assert!(page.contains("&lt;script&gt;alert(&#39;&amp;&quot;1&#39;);&lt;"), "escaped");
    for second in found["series"].as_array().unwrap() {
        let number = |name: &str| second[name].as_u64().unwrap();
        let ms = |name: &str| number(name) as f64 / 1e3;
        let requests: String = number("requests").to_string();
        let requests = match requests.len() {
            0..=3 => requests,
            length => format!("{},{}", &requests[..length - 3], &requests[length - 3..]),
        };
        let row = format!(
            "<tr><td>{}</td><td class=\"n\">{requests}</td><td class=\"n\">0</td><td class=\"n\">{:.2}</td>",
            number("second"),
            ms("p50_us")
        );
        assert!(page.contains(&row), "{row}");
    }
    for text in ["It agrees.", "Beside the baseline", "new_order", "Disk sync", "prefers-color-scheme: dark"] {
        assert!(page.contains(text), "{text}");
    }
}

/// Whether a process has `word` in its command line.
fn is_running(word: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().any(|entry| {
        let command = std::fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(word)
    })
}

/// One that awaits, and one that keeps its thread to itself.
#[test]
fn a_signal_leaves_no_server_and_no_directory_behind() {
    std::thread::scope(|scope| {
        for (subcommand, signal, told) in
            [("snapshot-p99", "-TERM", "told to end"), ("overload", "-INT", "interrupted")]
        {
            scope.spawn(move || {
                let files = Directory::new(&format!("signal-{subcommand}"));
                let path = files.0.to_str().unwrap();
                let mut child = Command::new(LOADTEST)
                    .args([subcommand, "--duration", "5m", "--temp-dir", path, "--server"])
                    .arg(bookstore())
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                let server_data = format!("{path}/");
                while !is_running(&server_data) && child.try_wait().unwrap().is_none() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                // Well into the load.
                std::thread::sleep(Duration::from_secs(3));
                let pid = child.id().to_string();
                assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
                let output = child.wait_with_output().unwrap();
                let printed = shown(&output);
                assert!(output.status.code() == Some(2) && printed.contains(&format!("loadtest: {told}")), "{printed}");
                assert!(!is_running(&server_data), "{subcommand}: its server");
                assert_eq!(std::fs::read_dir(&files.0).unwrap().count(), 0, "{subcommand}: its directory");
            });
        }
    });
}

#[test]
fn the_help_explains_itself() {
    let help = |arguments: &[&str]| String::from_utf8(Command::new(LOADTEST).args(arguments).output().unwrap().stdout);
    let whole = help(&["--help"]).unwrap();
    for text in ["Closed and open loop:", "Units:", "Exit status:", "Examples:", "loadtest run --rate 5000/s"] {
        assert!(whole.contains(text), "{text}");
    }
    let run = help(&["run", "--help"]).unwrap();
    for text in ["hot-store", "catalogue", "--rate <N/s>", "--fail-on-regression <N%>", "docs/loadtest-json.md"] {
        assert!(run.contains(text), "{text}");
    }
}
