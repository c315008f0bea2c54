//! Which room may know which: data walks one way through the rooms. Reads every `crate::` path in `src/` and the
//! names of the crates that belong to some rooms only. What `lib.rs` gives to everybody (`crate::Durability`) is no
//! room's.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A room and those it may use. `planted` is open to all, `domain` and `stats` to all but those that say so in [`CLOSED_TO_DOMAIN`].
const ROOMS: &[(&str, &[&str])] = &[
    ("http", &["engine"]),
    ("cli", &["http", "engine", "machine"]),
    ("engine", &["actors", "catalog", "auth", "cold", "journal", "snapshot", "disk", "priority"]),
    ("actors", &["journal", "cold"]),
    ("catalog", &["cold"]),
    ("auth", &[]),
    ("cold", &["disk"]),
    // A snapshot holds the journal's frames.
    ("snapshot", &["disk", "journal"]),
    ("journal", &["disk"]),
    ("disk", &[]),
    ("domain", &[]),
    ("stats", &[]),
    ("sync", &[]),
    ("trace", &[]),
    ("varint", &[]),
    ("priority", &[]),
    // Reads `/proc` and probes the disk; no engine asks for it.
    ("machine", &[]),
    // Asked wherever a fault can be planted.
    ("planted", &[]),
    // Hands the inside to benches and tests.
    ("internals", &["actors", "cold", "engine", "http", "journal", "machine", "planted", "snapshot"]),
];

/// These know bytes only. (`cold` names a document by its hash, which is the domain's.)
const CLOSED_TO_DOMAIN: &[&str] = &["journal", "snapshot", "disk", "stats"];

/// The domain is pure and `disk` is the lowest: neither counts nor measures.
const CLOSED_TO_STATS: &[&str] = &["domain", "disk"];

/// A foreign crate and the only rooms that mention it. An empty room is the crate's root.
const CRATES: &[(&str, &[&str])] = &[
    ("ractor", &["actors"]),
    ("hyper", &["http"]),
    ("hyper_util", &["http"]),
    ("http_body_util", &["http"]),
    ("tokio_rustls", &["http"]),
    ("httparse", &["http"]),
    ("memchr", &["http"]),
    ("tower_service", &["http"]),
    ("opentelemetry", &["cli", "http"]),
    ("opentelemetry_http", &["cli", "http"]),
    ("opentelemetry_otlp", &["cli"]),
    ("opentelemetry_sdk", &["cli", "http"]),
    ("tracing_opentelemetry", &["cli", "http"]),
    ("utoipa", &["http"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("toml", &["cli"]),
    ("humantime", &["cli", "http"]),
    // What a backup says of itself is for people and other programs, too.
    ("serde_json", &["http", "cli", "catalog", "engine"]),
    ("unicode_normalization", &["catalog"]),
    ("redb", &["cold"]),
    ("argon2", &["auth"]),
    ("jsonwebtoken", &["auth"]),
    ("dashmap", &["engine"]),
    ("hashbrown", &["engine"]),
    ("prometheus_client", &["http"]),
    ("rustix", &["disk", "cli", "machine", "priority"]),
    ("tokio", &["actors", "auth", "cli", "cold", "engine", "http", "journal", "sync"]),
];

const FILE_LINES_MAX: usize = 600;

struct Source {
    path: PathBuf,
    /// The first part of the path below `src`; empty for `lib.rs` and `main.rs`.
    room: String,
    /// Without comments and texts.
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut dirs = vec![root.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(read(&root, &path));
            }
        }
    }
    assert!(found.len() > 50, "src is not where it was: {}", root.display());
    found
}

fn read(root: &Path, path: &Path) -> Source {
    let text = std::fs::read_to_string(path).unwrap();
    let path = path.strip_prefix(root).unwrap().to_path_buf();
    let first = path.iter().next().unwrap().to_str().unwrap();
    let room = match first.trim_end_matches(".rs") {
        "lib" | "main" => "",
        room => room,
    };
    Source { room: room.to_owned(), code: strip(&text), lines: text.lines().count(), path }
}

/// Takes comments and the insides of simple texts away: what is said there binds nobody.
fn strip(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let mut in_text = false;
        let mut before = ' ';
        for (at, letter) in line.char_indices() {
            if !in_text && line[at..].starts_with("//") {
                break;
            }
            if letter == '"' && before != '\\' && before != '\'' {
                in_text = !in_text;
            } else if !in_text {
                code.push(letter);
            }
            before = if before == '\\' { ' ' } else { letter };
        }
        code.push('\n');
    }
    code
}

/// The rooms that the code names: `crate::room`, `crate::{room::…, room}`, and as many `super` as lead to the root.
fn rooms_used(source: &Source) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    // In `room/mod.rs` the root is one step up, but not in a module within that file.
    let is_head = source.path.file_name().is_some_and(|name| name == "mod.rs");
    let lines = source.code.lines().map(|line| match line.strip_prefix("use super::") {
        Some(rest) if is_head => format!("use crate::{rest}"),
        _ => line.to_owned(),
    });
    let code = lines.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    let up = "super::".repeat(source.path.iter().count());
    for start in ["crate::", up.as_str()] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|letter| is_name(letter) || letter == ':' || letter == '$') {
                continue;
            }
            used.extend(first_names(&code[at + start.len()..]));
        }
    }
    used.retain(|name| ROOMS.iter().any(|(room, _)| room == name));
    used.remove(&source.room);
    used
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The first name of a path, or of each path in a group.
fn first_names(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![path.chars().take_while(|letter| is_name(*letter)).collect()];
    };
    let mut names = vec![String::new()];
    let mut depth = 0;
    let mut in_first = true;
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(String::new());
                in_first = true;
            }
            letter if depth == 0 && in_first && is_name(letter) => names.last_mut().unwrap().push(letter),
            ' ' => {}
            _ => in_first = false,
        }
    }
    names
}

/// Whether the crate is named as a path's beginning.
fn mentions(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        !before.is_some_and(|letter| is_name(letter) || letter == ':' || letter == '.') && after.starts_with("::")
    })
}

fn may_use(room: &str, other: &str) -> bool {
    match other {
        "domain" => !CLOSED_TO_DOMAIN.contains(&room),
        "planted" => true,
        "stats" => !CLOSED_TO_STATS.contains(&room),
        // The locks of std, by the name under which a test can exchange them.
        "sync" => true,
        // For whose request something is done.
        "trace" => true,
        // How numbers are written in files.
        "varint" => true,
        _ => ROOMS.iter().any(|(known, allowed)| *known == room && allowed.contains(&other)),
    }
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn every_room_is_known() {
    let unknown: BTreeSet<String> = sources()
        .into_iter()
        .map(|source| source.room)
        .filter(|room| !room.is_empty() && ROOMS.iter().all(|(known, _)| known != room))
        .collect();
    assert!(unknown.is_empty(), "say in this file whom they may use: {unknown:?}");
}

#[test]
fn data_walks_one_way_through_the_rooms() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| !source.room.is_empty()) {
        for other in rooms_used(source) {
            if !may_use(&source.room, &other) {
                violations.push(format!("{}: {} may not use {other}", source.path.display(), source.room));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn a_foreign_crate_is_known_to_its_rooms_only() {
    let mut violations = Vec::new();
    for source in sources() {
        for (name, rooms) in CRATES {
            let is_root = source.room.is_empty();
            if !is_root && !rooms.contains(&source.room.as_str()) && mentions(&source.code, name) {
                violations.push(format!("{}: {} may not use {name}", source.path.display(), source.room));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn every_crate_with_a_room_is_still_used() {
    let sources = sources();
    for (name, _) in CRATES {
        assert!(sources.iter().any(|source| mentions(&source.code, name)), "{name} is not mentioned any more");
    }
}

#[test]
fn no_file_is_long() {
    let long = sources().into_iter().filter(|source| source.lines > FILE_LINES_MAX);
    let long: Vec<_> = long.map(|source| format!("{}: {} lines", source.path.display(), source.lines)).collect();
    assert_none(&long);
}

#[test]
fn the_reader_finds_what_it_looks_for() {
    let source = |path: &str, text: &str| Source {
        path: path.into(),
        room: Path::new(path).iter().next().unwrap().to_str().unwrap().to_owned(),
        code: strip(text),
        lines: 1,
    };
    let used = |path: &str, text: &str| rooms_used(&source(path, text)).into_iter().collect::<Vec<_>>();
    assert_eq!(used("disk/mod.rs", "use crate::domain::Fen;"), ["domain"]);
    assert_eq!(used("disk/mod.rs", "use crate::{\n  domain::{self, engine},\n  http,\n};"), ["domain", "http"]);
    assert_eq!(used("disk/mod.rs", "use super::http;"), ["http"]);
    assert_eq!(used("disk/mod.rs", "mod tests {\n    use super::http;\n}"), [""; 0]);
    assert_eq!(used("disk/real.rs", "use super::super::http;"), ["http"]);
    assert_eq!(used("disk/real.rs", "use super::http;"), [""; 0]);
    assert_eq!(used("disk/mod.rs", "let x = crate::engine::f(\"crate::http\"); // crate::cli"), ["engine"]);
    assert!(mentions("use hyper::body;", "hyper") && !mentions("use my::hyper::body;", "hyper"));
    assert!(!mentions("use hyper_util::x;", "hyper"));
}
