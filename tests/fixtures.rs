//! Data directories that older versions left behind load for ever. Each directory in `tests/fixtures` is one of them:
//! `clean` was closed, `killed` is what a copy found while the engine ran. `expected.txt` beside them says what is in
//! them, as the engine that made them told it.
//!
//! A fixture is made once, by the version that it is named after, and then it stays:
//! `BOOKSTORE_MAKE_FIXTURE=1 cargo test --test fixtures` makes the one of this version where there is none.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bookstore::internals::domain::{EVENT_VERSION, is_known};
use bookstore::internals::journal::read_segment;
use bookstore::{Config, Credential, Engine, NewBook, NewLine, OrderStep, Search};
use common::bookstore;
use common::files::{content, copy, files};

const T: Credential<'static> = Credential::Trusted;
const USERS: [&str; 5] = ["anna", "ben", "用户", "gone", "eve"];
const STORES: [&str; 3] = ["store", "书店", "closed"];
const BOOKS: [&str; 4] = ["b1", "b2", "书", "pictures"];
/// Long enough that no order of a fixture is ever canceled or confirmed by its time.
const LONG: Duration = Duration::from_secs(90 * 365 * 86_400);

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn config(dir: &Path) -> Config {
    let mut config = Config::directory(dir);
    (config.password_params.memory_kib, config.password_params.iterations) = (8, 1);
    config.segment_bytes = 16 << 20;
    config.order_ttl = LONG;
    config.auto_confirm = Some(LONG);
    config.snapshot_interval = LONG;
    config
}

/// Orders in every state, paid in both ways, with keys and without.
async fn trade(engine: &Engine, day: &str) {
    for state in [
        "pending",
        "canceled",
        "paid",
        "shipped",
        "completed",
        "escrow",
        "sent",
        "late",
        "settled",
        "refunded",
        "returned",
    ] {
        let key = format!("{day}-{state}");
        let keyed = engine.with_key(&key).unwrap();
        let lines = [NewLine { book_id: "b1", count: 2 }, NewLine { book_id: "书", count: 1 }];
        let order = keyed.new_order("ben", T, "store", &lines).await.unwrap().to_string();
        match state {
            "pending" => {}
            "canceled" => engine.cancel_order("ben", &order, T).await.unwrap(),
            "escrow" | "sent" | "late" | "settled" | "returned" => {
                keyed.pay_to_platform("ben", &order, T).await.unwrap();
            }
            _ => engine.pay("ben", &order, T).await.unwrap(),
        }
        if ["shipped", "sent", "late"].contains(&state) {
            engine.ship("anna", T, "store", &order).await.unwrap();
        }
        if state == "late" {
            engine.extend_receipt("ben", &order, T).await.unwrap();
        }
        if ["refunded", "returned"].contains(&state) {
            keyed.refund_order("ben", &order, T).await.unwrap();
        }
        if ["completed", "settled"].contains(&state) {
            keyed.confirm("ben", &order, T).await.unwrap();
        }
    }
}

/// Everything that a user or a seller can do.
async fn manage(engine: &Engine, day: &str) {
    let (guest, shop) = (format!("guest {day}"), format!("shop {day}"));
    engine.register(&guest, "password").await.unwrap();
    engine.change_password(&guest, Credential::password("password"), "new").await.unwrap();
    let token = engine.login(&guest, Credential::password("new"), "t").await.unwrap();
    engine.logout(&guest, &token).await.unwrap();
    engine.unregister(&guest, T).await.unwrap();
    engine.with_key(day).unwrap().add_funds("ben", T, 1_000_000).await.unwrap();
    engine.add_funds("ben", T, -5).await.unwrap();
    engine.create_store("anna", T, &shop).await.unwrap();
    engine.add_book("anna", T, &shop, NewBook { id: "b", price: 1, document: "{}" }, 1).await.unwrap();
    engine.add_stock_level("anna", T, &shop, "b", 4).await.unwrap();
    engine.set_price("anna", T, "store", "b2", 75 + day.len() as i64).await.unwrap();
    engine.delist_book("anna", T, "store", "b2").await.unwrap();
    engine.delist_book("anna", T, "store", "书").await.unwrap();
    engine.relist_book("anna", T, "store", "书").await.unwrap();
    engine.close_store("anna", T, &shop).await.unwrap();
    engine.relist_book("anna", T, "store", "b2").await.unwrap();
}

async fn begin(engine: &Engine) {
    for user in USERS {
        engine.register(user, user).await.unwrap();
    }
    engine.unregister("gone", T).await.unwrap();
    for store in STORES {
        engine.create_store("anna", T, store).await.unwrap();
    }
    for id in BOOKS {
        let pictures = if id == "pictures" { r#"["a picture","another"]"# } else { "[]" };
        let document = format!(r#"{{"id":"{id}","title":"A book of {id}","tags":["fixture"],"pictures":{pictures}}}"#);
        engine.add_book("anna", T, "store", NewBook { id, price: 70, document: &document }, 1_000).await.unwrap();
    }
    engine.close_store("anna", T, "closed").await.unwrap();
    engine.add_funds("ben", T, 500_000).await.unwrap();
    engine.add_funds("用户", T, 7).await.unwrap();
}

/// What is in the engine, in words.
async fn told(engine: &Engine) -> String {
    engine.search_ready().await.unwrap();
    let mut text = String::new();
    for user in USERS {
        match engine.balance(user, T).await {
            Ok(balance) => writeln!(text, "user {user}: {balance} fen").unwrap(),
            Err(error) => writeln!(text, "user {user}: {:?}", error.code()).unwrap(),
        }
    }
    engine.balance("ben", Credential::password("ben")).await.expect("the password is the same");
    for store in STORES {
        for id in BOOKS {
            let Ok(book) = engine.book(store, id).await else { continue };
            let (stock, price, listed) = (book.stock_level, book.price, book.is_listed);
            writeln!(text, "book {store}/{id}: {stock} at {price}, listed {listed}, {}", book.document).unwrap();
        }
    }
    let found = engine.search(Search::new("fixture")).await.unwrap();
    let ids: Vec<&str> = found.books.iter().map(|book| &*book.book_id).collect();
    writeln!(text, "search: {ids:?}").unwrap();
    for user in USERS {
        for order in engine.buyer_orders(user, T).await.unwrap_or_default() {
            let id = order.order_id.to_string();
            let details = engine.buyer_order(user, &id, T).await.unwrap();
            let step = |step: &Option<OrderStep>| {
                step.as_ref().map_or("-".to_owned(), |step| format!("{} by {}", step.at_ms, step.by.as_str()))
            };
            let lines: Vec<_> =
                order.lines.iter().map(|line| format!("{} {} {}", line.book_id, line.count, line.price)).collect();
            writeln!(
                text,
                "order {id} of {} in {}: {}, {} fen, {lines:?}, created {}, deadline {}, paid {}, shipped {}, extended {}, \
                 confirmed {}, canceled {}, confirmed by itself {:?}",
                order.user_id,
                order.store_id,
                order.status.as_str(),
                order.total_price,
                order.created_ms,
                details.deadline_ms,
                step(&details.paid),
                step(&details.shipped),
                step(&details.extended),
                step(&details.confirmed),
                step(&details.canceled),
                details.confirm_deadline_ms,
            )
            .unwrap();
        }
    }
    let audit = engine.audit().await.unwrap();
    writeln!(text, "{} accounts, {} stores, {} orders", audit.accounts, audit.stores, audit.orders).unwrap();
    assert!(audit.is_conserved());
    writeln!(text, "state hash {:032x}", audit.state_hash).unwrap();
    text
}

/// Copies a data directory. The zeros behind a segment's content stay behind: they are 16 MiB and no content.
fn keep(from: &Path, to: &Path) {
    for (path, mut bytes) in content(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        if target.ends_with("spare.tmp") {
            continue;
        }
        if target.extension().is_some_and(|ending| ending == "seg") {
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            bytes.truncate(end + 64);
        }
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(&target, bytes).unwrap();
    }
}

/// As [`copy`], with the key as private as a checkout cannot make it.
fn taken_out(from: &Path) -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let (parent, dir) = copy(from);
    fs::set_permissions(dir.join("token.key"), fs::Permissions::from_mode(0o600)).unwrap();
    (parent, dir)
}

async fn make(version: &Path) {
    let parent = tempfile::TempDir::new().unwrap();
    let dir = parent.path().join("data");
    let engine = Engine::open(config(&dir)).await.unwrap();
    begin(&engine).await;
    trade(&engine, "1").await;
    manage(&engine, "1").await;
    drop(engine.snapshot().await.unwrap());
    assert!(engine.offload().await.unwrap() > 0);
    trade(&engine, "2").await;
    drop(engine.snapshot().await.unwrap());
    trade(&engine, "3").await;
    manage(&engine, "3").await;
    let shipped = engine.buyer_orders("ben", T).await.unwrap();
    // An order at rest goes on, and its newest events are in the journal only.
    let rested = shipped.iter().rev().find(|order| order.status.as_str() == "shipped").unwrap();
    engine.confirm("ben", &rested.order_id.to_string(), T).await.unwrap();
    let expected = told(&engine).await;
    keep(&dir, &version.join("killed"));
    assert_eq!(told(&engine).await, expected, "it changed while it was copied");
    engine.close().await.unwrap();
    keep(&dir, &version.join("clean"));
    fs::write(version.join("expected.txt"), expected).unwrap();
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

fn versions() -> Vec<PathBuf> {
    let own = fixtures().join(env!("CARGO_PKG_VERSION"));
    if std::env::var_os("BOOKSTORE_MAKE_FIXTURE").is_some() && !own.exists() {
        on_a_runtime(make(&own));
    }
    let mut versions: Vec<PathBuf> = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    assert!(!versions.is_empty());
    versions
}

#[test]
fn what_an_older_version_left_loads_and_is_the_same_shop() {
    for version in versions() {
        let expected = fs::read_to_string(version.join("expected.txt")).unwrap();
        for left in ["clean", "killed"] {
            let (_parent, dir) = taken_out(&version.join(left));
            bookstore(&[&"check", &dir]).ok().says("sound");
            for open in 1..=2 {
                let now = on_a_runtime(async {
                    let engine = Engine::open(config(&dir)).await.unwrap();
                    let now = told(&engine).await;
                    // It is no museum: the shop goes on from there.
                    if open == 2 {
                        trade(&engine, "new").await;
                        assert!(engine.audit().await.unwrap().is_conserved());
                    }
                    engine.close().await.unwrap();
                    now
                });
                for (now, expected) in now.lines().zip(expected.lines()) {
                    assert_eq!(now, expected, "{} {left}, open {open}", version.display());
                }
                assert_eq!(now, expected);
            }
            bookstore(&[&"check", &dir]).ok().says("sound");
        }
    }
}

/// Without this the fixture would promise less than it says.
#[test]
fn the_fixture_holds_every_kind_of_event_and_file() {
    let version = fixtures().join("0.1.0");
    let killed = version.join("killed");
    let mut kinds = std::collections::BTreeSet::new();
    let segments = files(&killed, ".seg");
    for (place, segment) in segments.iter().enumerate() {
        let keep = &mut |frame: bookstore::internals::journal::Frame<'_>| {
            kinds.insert(frame.kind);
            Ok(())
        };
        read_segment(&bookstore::disk::RealDisk, segment, place + 1 == segments.len(), keep).unwrap();
    }
    let known: std::collections::BTreeSet<u8> = (0..=255).filter(|kind| is_known(*kind, EVENT_VERSION)).collect();
    // Kind 69 and the others of 0.1.0; what later versions add is in their own fixtures.
    let of_0_1_0: std::collections::BTreeSet<u8> = (1..=10).chain(32..=40).chain(64..=69).collect();
    assert!(of_0_1_0.is_subset(&known));
    assert_eq!(kinds, of_0_1_0);
    assert_eq!(files(&killed, ".snap").len(), 2);
    let bytes: usize = content(&version).values().map(Vec::len).sum();
    assert!(bytes < 8 << 20, "{bytes} bytes are too many for a repository");
}
