//! Holds the tree of dependencies against deny.toml: licences, bans and sources. It reads the lists of that file, so there
//! is one place to change them, and needs neither cargo-deny nor a network.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The texts in a list of deny.toml, in the section and under the key; those of `crate = "…"` too.
fn list(toml: &str, section: &str, key: &str) -> Vec<String> {
    let lines = toml.lines().map(|line| line.split('#').next().unwrap().trim());
    let within =
        lines.skip_while(|line| *line != format!("[{section}]")).skip(1).take_while(|line| !line.starts_with('['));
    let text: String = within.collect::<Vec<_>>().join(" ");
    let (_, rest) =
        text.split_once(&format!("{key} = [")).unwrap_or_else(|| panic!("deny.toml has no {section}.{key}"));
    let (inside, _) = rest.split_once(']').unwrap();
    inside.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Everything that any feature brings in, and whether it is of every platform: of this one only, if the crates of the
/// others were never fetched.
fn metadata() -> (Value, bool) {
    let run = |more: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["metadata", "--format-version", "1", "--locked", "--offline", "--all-features"]).args(more);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
    };
    let mut output = run(&[]);
    let whole = output.status.success();
    if !whole {
        let version = Command::new("rustc").arg("-vV").output().unwrap().stdout;
        let version = String::from_utf8(version).unwrap();
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        output = run(&["--filter-platform", host]);
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (serde_json::from_slice(&output.stdout).unwrap(), whole)
}

fn packages(metadata: &Value) -> impl Iterator<Item = (&str, &Value)> {
    metadata["packages"].as_array().unwrap().iter().map(|package| (package["name"].as_str().unwrap(), package))
}

/// Whether a licence expression (SPDX, or the older `A/B`) can be met by these licences alone.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any_of(&words, &mut at, allowed);
    met && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all_of(words, at, allowed);
    }
    met
}

fn all_of(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = any_of(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return met && closed;
    }
    let mut name = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&name)
}

#[test]
fn expressions_are_read_as_they_are_meant() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned(), "Apache-2.0".to_owned()];
    for met in [
        "MIT",
        "GPL-3.0 OR MIT",
        "GPL-3.0/MIT",
        "MIT AND ISC",
        "(MIT OR X) AND ISC",
        "X WITH Y OR MIT",
        "X AND Y OR MIT",
    ] {
        assert!(is_allowed(met, &allowed), "{met}");
    }
    for not in ["", "GPL-3.0", "MIT AND X", "MIT AND (X OR Y)", "Apache-2.0 WITH X", "(MIT", "MIT ISC", "X OR Y"] {
        assert!(!is_allowed(not, &allowed), "{not}");
    }
}

#[test]
fn every_licence_is_allowed_and_every_allowed_one_is_needed() {
    let allowed = list(&file("deny.toml"), "licenses", "allow");
    assert!(allowed.len() > 2);
    let (metadata, whole) = metadata();
    let mut wrong = Vec::new();
    let mut all = Vec::new();
    for (name, package) in packages(&metadata) {
        let licence = package["license"].as_str().unwrap_or_default();
        all.push(licence.to_owned());
        if !is_allowed(licence, &allowed) {
            wrong.push(format!("{name}: `{licence}`"));
        }
    }
    assert!(all.len() > 100, "the tree is not what it was: {} crates", all.len());
    assert!(wrong.is_empty(), "not under the licences of deny.toml:\n{}", wrong.join("\n"));
    for unneeded in allowed.iter().filter(|_| whole) {
        let rest: Vec<String> = allowed.iter().filter(|licence| *licence != unneeded).cloned().collect();
        assert!(!all.iter().all(|licence| is_allowed(licence, &rest)), "nothing needs {unneeded} any more");
    }
}

#[test]
fn nothing_that_is_banned_is_in_the_tree() {
    let banned: BTreeSet<String> = list(&file("deny.toml"), "bans", "deny").into_iter().collect();
    assert!(banned.contains("openssl-sys") && banned.contains("smol"));
    // The lock file has the crates of every platform and feature.
    let lock = file("Cargo.lock");
    let names: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(names.len() > 100);
    let found: Vec<&&str> = names.iter().filter(|name| banned.contains(**name)).collect();
    assert!(found.is_empty(), "banned by deny.toml: {found:?}");
    let (metadata, _) = metadata();
    for (name, package) in packages(&metadata).filter(|(_, package)| package["source"].is_null()) {
        for dependency in package["dependencies"].as_array().unwrap() {
            assert_ne!(dependency["req"], "*", "{name} takes any version of {}", dependency["name"]);
        }
    }
}

#[test]
fn every_crate_comes_from_the_registry_with_its_checksum() {
    let deny = file("deny.toml");
    let registries = list(&deny, "sources", "allow-registry");
    assert!(list(&deny, "sources", "allow-git").is_empty());
    let ours = ["bookstore", "loadtest", "axum-postgres"];
    // The second is of a workspace of its own, which is measured beside ours and is no part of it.
    let locks = [file("Cargo.lock"), file("loadtest/axum-postgres/Cargo.lock")];
    let entries: Vec<&str> = locks.iter().flat_map(|lock| lock.split("[[package]]").skip(1)).collect();
    assert!(entries.len() > 200);
    for entry in entries {
        let field =
            |name: &str| entry.lines().find_map(|line| line.strip_prefix(&format!("{name} = \""))?.strip_suffix('"'));
        let name = field("name").unwrap();
        let Some(source) = field("source") else {
            assert!(ours.contains(&name), "{name} has no source");
            continue;
        };
        let registry = source.strip_prefix("registry+").unwrap_or_else(|| panic!("{name} comes from {source}"));
        assert!(registries.iter().any(|known| known == registry), "{name} comes from {source}");
        let checksum = field("checksum").unwrap_or_default();
        assert!(
            checksum.len() == 64 && checksum.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{name} has no checksum"
        );
    }
}
