//! What stands in `deploy/` and the Dockerfile: it names metrics, routes, variables and commands, and those must be there.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;

use common::service::{Service, post};
use common::{Server, bookstore};
use serde_json::Value;

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The words in a text that begin so.
fn words<'a>(text: &'a str, beginning: &'a str) -> BTreeSet<&'a str> {
    let ends = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    text.match_indices(beginning)
        .map(|(at, _)| &text[at..at + text[at..].find(ends).unwrap_or(text.len() - at)])
        .collect()
}

/// The type of each metric, by its name without a suffix.
fn metrics(service: &Service) -> BTreeMap<String, String> {
    service.ask(post("/auth/login", "{}")).json(530);
    let answer = service.ask("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8(answer.body).unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// The metric that a series belongs to, as its type says.
fn metric_of<'a>(series: &'a str, metrics: &BTreeMap<String, String>) -> &'a str {
    let name = ["_bucket", "_sum", "_count", "_total"].iter().find_map(|suffix| {
        let name = series.strip_suffix(suffix)?;
        metrics.contains_key(name).then_some((name, *suffix))
    });
    let (name, suffix) = name.unwrap_or((series, ""));
    let kind = metrics.get(name).unwrap_or_else(|| panic!("{series} is no metric"));
    let right = match suffix {
        "" => kind == "gauge",
        "_total" => kind == "counter",
        _ => kind == "histogram",
    };
    assert!(right, "{series} of a {kind}");
    name
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let service = Service::start(|_| {});
    let metrics = metrics(&service);
    let text = file("deploy/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut shown = BTreeSet::new();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "an id is there twice");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{} tells nothing", panel["title"]);
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let named = words(expression, "bookstore_");
            assert!(!named.is_empty(), "{expression}");
            shown.extend(named.into_iter().map(|series| metric_of(series, &metrics).to_owned()));
        }
    }
    assert_eq!(shown, metrics.into_keys().collect());
    // Nothing lies on anything else.
    let mut cells = BTreeSet::new();
    for panel in panels {
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in place("x")..place("x") + place("w") {
            assert!(x < 24, "{} is beyond the edge", panel["title"]);
            for y in place("y")..place("y") + place("h") {
                assert!(cells.insert((x, y)), "{} lies on another", panel["title"]);
            }
        }
    }
    let answer = service.ask("GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    for route in ["/buyer/payment", "/buyer/pay_to_platform"] {
        assert!(text.contains("/buyer/(payment|pay_to_platform)") && document["paths"].get(route).is_some(), "{route}");
    }
}

/// It is what one writes in a query, `le="0.0001"`, and not the last digits of a product.
#[test]
fn the_bound_of_a_bucket_is_a_short_number() {
    let service = Service::start(|_| {});
    service.ask(post("/auth/login", "{}")).json(530);
    let answer = service.ask("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8(answer.body).unwrap();
    let bounds = |metric: &str| -> BTreeSet<String> {
        let series = text.lines().filter_map(|line| line.strip_prefix(metric)?.split_once("_bucket{le=\""));
        series.map(|(_, rest)| rest.split('"').next().unwrap().to_owned()).collect()
    };
    for (metric, expected) in [
        ("bookstore_http_request_seconds", ["0.0001", "0.00025", "0.05", "10.0"]),
        ("bookstore_journal_sync_seconds", ["0.000025", "0.0002", "0.0512", "+Inf"]),
    ] {
        let bounds = bounds(metric);
        assert!(expected.iter().all(|bound| bounds.contains(*bound)), "{metric}: {bounds:?}");
        assert!(bounds.iter().all(|bound| bound.len() <= "0.000025".len()), "{metric}: {bounds:?}");
    }
}

#[test]
fn every_alert_is_about_a_metric_and_gives_its_reason() {
    let service = Service::start(|_| {});
    let metrics = metrics(&service);
    let text = file("deploy/alerts.yml");
    let alerts: Vec<&str> = text.split("      - alert: ").skip(1).collect();
    assert!(alerts.len() >= 10, "{}", alerts.len());
    let mut names = BTreeSet::new();
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        assert!(names.insert(name), "{name} is there twice");
        for part in ["expr: ", "labels: {severity: ", "summary: \"", "description: >-\n"] {
            assert_eq!(alert.matches(part).count(), 1, "{name}: {part}");
        }
        let expression = alert.split("expr: ").nth(1).unwrap();
        let expression = &expression[..expression.find("labels:").unwrap()];
        let named = words(expression, "bookstore_");
        assert!(!named.is_empty() || expression.contains("up{job=\"bookstore\"}"), "{name}");
        for series in named {
            metric_of(series, &metrics);
        }
    }
}

#[test]
fn unit_and_image_name_variables_and_commands_that_are_there() {
    let help = bookstore(&[&"serve", &"--help"]).ok().stdout;
    for name in ["deploy/bookstore.service", "Dockerfile"] {
        let text = file(name);
        let named = words(&text, "BOOKSTORE_");
        assert!(named.contains("BOOKSTORE_DATA_DIR"), "{name}");
        for variable in named {
            // The help tells the rule, and the flag that the variable is by it.
            let flag = variable.strip_prefix("BOOKSTORE_").unwrap().to_lowercase().replace('_', "-");
            let is_there = help.lines().any(|line| line.trim_start().starts_with(&format!("--{flag} ")));
            assert!(is_there, "{name}: {variable}");
        }
    }
    assert!(file("Dockerfile").contains("CMD [\"/usr/local/bin/bookstore\", \"health\"]"));
    let unit = file("deploy/bookstore.service");
    assert!(unit.contains("ExecStart=/usr/local/bin/bookstore serve\n"));
    assert!(unit.contains("ExecReload=/bin/kill -HUP $MAINPID\n"));
}

/// What the unit of backups runs, on a service of the tests.
#[test]
fn the_unit_of_backups_makes_one_and_looks_at_it() {
    let unit = file("deploy/bookstore-backup.service");
    let service = file("deploy/bookstore.service");
    assert!(file("deploy/bookstore-backup.timer").contains("OnCalendar=") && unit.contains("User=bookstore\n"));
    for said in ["BOOKSTORE_ADMIN_LISTEN=127.0.0.1:5001", "BOOKSTORE_BACKUP_DIR=/var/lib/bookstore-backups"] {
        let (_, value) = said.split_once('=').unwrap();
        assert!(service.contains(said) && unit.contains(value), "{said}");
    }
    let place = tempfile::TempDir::new().unwrap();
    let backups = place.path().join("backups");
    let server = Server::start(&["--admin-listen", "127.0.0.1:0", "--backup-dir", backups.to_str().unwrap()]);
    let said = server.output();
    let (_, admin) = said.split_once("console on ").unwrap();
    let admin = admin.split_once("/console").unwrap().0;
    let line = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    let script = line("ExecStart=/bin/sh -ec ").trim_matches('\'').replace("http://127.0.0.1:5001", admin);
    let script = script.replace("/usr/local/bin/bookstore", common::binary().to_str().unwrap());
    let run = |program: &str, args: &[&str]| std::process::Command::new(program).args(args).output().unwrap();
    let done = run("/bin/sh", &["-ec", &script]);
    assert!(done.status.success(), "{done:?}");
    let made = String::from_utf8(done.stdout).unwrap();
    assert!(std::path::Path::new(made.trim()).join("backup.json").exists(), "{made}");
    // What is too old goes, and nothing else.
    let [old, other] = ["backup-of-once", "other"].map(|name| backups.join(name));
    for dir in [&old, &other] {
        std::fs::create_dir(dir).unwrap();
        assert!(run("touch", &["-d", "2020-01-01", dir.to_str().unwrap()]).status.success());
    }
    // DynamicUser makes a link of it, to /var/lib/private.
    let link = place.path().join("link");
    std::os::unix::fs::symlink(&backups, &link).unwrap();
    let find = line("ExecStartPost=/usr/bin/find ").replace("/var/lib/bookstore-backups", link.to_str().unwrap());
    let done = run("find", &find.split_whitespace().collect::<Vec<_>>());
    assert!(done.status.success(), "{done:?}");
    assert!(!old.exists() && other.exists() && std::path::Path::new(made.trim()).exists());
    drop(server);
    // Nobody there: no verify of nothing.
    let done = run("/bin/sh", &["-ec", &script]);
    assert!(!done.status.success() && String::from_utf8_lossy(&done.stderr).contains("no backup: cannot connect"));
}

#[test]
fn health_tells_by_its_status() {
    let mut server = Server::start(&[]);
    let url = format!("http://127.0.0.1:{}", server.port());
    let health = |url: &str| bookstore(&[&"health", &"--timeout", &"2s", &"--url", &url]);
    assert_eq!(health(&url).ok().stdout, "");
    assert!(server.sigterm().success());
    health(&url).ends_with_status(1).says("not ready: cannot connect");
    // Somebody who takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    health(&silent_url).ends_with_status(1).says("not ready: no answer within 2s");
    // A port that there cannot be is not another one.
    health("http://127.0.0.1:70000").ends_with_status(1).says("70000 is no port");
    let other_protocol = TcpListener::bind("127.0.0.1:0").unwrap();
    let other_url = format!("http://{}", other_protocol.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut client, _) = other_protocol.accept().unwrap();
        std::io::Write::write_all(&mut client, b"SSH-2.0-x\r\n").unwrap();
        // Until it has gone, or the connection would be reset.
        let _ = std::io::Read::read_to_end(&mut client, &mut Vec::new());
    });
    health(&other_url).ends_with_status(1).says("does not speak HTTP");
    health("https://127.0.0.1").ends_with_status(1).says("https needs --tls-ca FILE");
    // Somebody else, who does not know the route.
    let other = Service::start(|_| {});
    health(&format!("http://{}/shop", other.address)).ends_with_status(1).says("not ready: status 404");
}
