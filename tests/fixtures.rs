//! Data directories that older versions left behind load for ever. Each directory in `tests/fixtures` is one of them:
//! `clean` was closed, `killed` is what a copy found while the engine ran. `expected.txt` beside them says what is in
//! them, as the engine that made them told it.
//!
//! A fixture is made once, by the version that it is named after, and then it stays:
//! `BOOKSTORE_MAKE_FIXTURE=1 cargo test --test fixtures` makes the one of this version where there is none. What a
//! snapshot catches of evidence is chance: if `the_fixture_holds_every_kind_of_thing` misses some, remove it and make it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bookstore::disk::RealDisk;
use bookstore::internals::cold::Orders;
use bookstore::internals::domain::{EVENT_VERSION, is_known};
use bookstore::internals::journal::{Frame, read_segment};
use bookstore::internals::snapshot::read_snapshot;
use bookstore::{Config, Credential, Engine, NewBook, NewLine, OrderStep, PasswordHash, PasswordParams, Search};
use common::bookstore;
use common::files::{content, copy, files};
use serde_json::Value;

const T: Credential<'static> = Credential::Trusted;
/// `dear` has a password of the default cost, all others cheap ones.
const USERS: [&str; 6] = ["anna", "ben", "用户", "gone", "eve", "dear"];
const PASSWORDS: [(&str, &str); 3] = [("ben", "ben"), ("eve", "changed"), ("dear", "dear")];
const STORES: [&str; 3] = ["store", "书店", "closed"];
const BOOKS: [&str; 5] = ["b1", "b2", "书", "pictures", "delisted"];
/// Long enough that no order of a fixture is ever canceled or confirmed by its time, and that no token expires. Those that
/// are canceled and confirmed by their time are so while it is made.
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
    config.token_ttl = LONG;
    config
}

async fn place(engine: &Engine) -> String {
    engine.new_order("ben", T, "store", &[NewLine { book_id: "b1", count: 1 }]).await.unwrap().to_string()
}

/// Orders in every state, paid in both ways, with keys and without.
async fn trade(engine: &Engine, day: &str) {
    for state in [
        "pending",
        "canceled",
        "paid",
        "shipped",
        "completed",
        "keyed",
        "completed-plainly",
        "refunded-plainly",
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
            "keyed" => keyed.pay("ben", &order, T).await.unwrap(),
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
        match state {
            "completed-plainly" => engine.confirm("ben", &order, T).await.unwrap(),
            "refunded-plainly" => engine.refund_order("ben", &order, T).await.unwrap(),
            _ => {}
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
        if user == "dear" {
            let hash = PasswordHash::new(user.as_bytes(), PasswordParams::default()).unwrap();
            engine.register_hashed(user, &hash).await.unwrap();
        } else {
            engine.register(user, user).await.unwrap();
        }
    }
    engine.change_password("eve", Credential::password("eve"), "changed").await.unwrap();
    engine.unregister("gone", T).await.unwrap();
    for store in STORES {
        engine.create_store("anna", T, store).await.unwrap();
    }
    for id in BOOKS {
        let pictures = if id == "pictures" { r#"["a picture","another"]"# } else { "[]" };
        let document = format!(r#"{{"id":"{id}","title":"A book of {id}","tags":["fixture"],"pictures":{pictures}}}"#);
        engine.add_book("anna", T, "store", NewBook { id, price: 70, document: &document }, 1_000).await.unwrap();
    }
    engine.delist_book("anna", T, "store", "delisted").await.unwrap();
    engine.close_store("anna", T, "closed").await.unwrap();
    engine.add_funds("ben", T, 500_000).await.unwrap();
    engine.add_funds("用户", T, 7).await.unwrap();
}

/// What only a time that comes, or none, brings about: an order that waits for its buyer for ever, one that is confirmed by
/// itself and one that expires.
async fn let_time_pass(dir: &Path) {
    let mut slow = config(dir);
    slow.auto_confirm = None;
    let engine = Engine::open(slow).await.unwrap();
    let (for_ever, by_itself) = (place(&engine).await, place(&engine).await);
    for order in [&for_ever, &by_itself] {
        engine.pay_to_platform("ben", order, T).await.unwrap();
    }
    engine.ship("anna", T, "store", &for_ever).await.unwrap();
    engine.close().await.unwrap();

    let mut quick = config(dir);
    quick.order_ttl = Duration::from_millis(1);
    quick.auto_confirm = Some(quick.order_ttl);
    let engine = Engine::open(quick).await.unwrap();
    engine.ship("anna", T, "store", &by_itself).await.unwrap();
    let expires = place(&engine).await;
    for (order, end) in [(by_itself, "completed"), (expires, "canceled")] {
        while engine.order_status("ben", &order, T).await.unwrap().as_str() != end {
            engine.cancel_expired().await.unwrap();
            tokio::time::sleep(quick_look()).await;
        }
    }
    engine.close().await.unwrap();
}

/// Evidence of each kind, too little to be dropped before a second is over.
async fn leave_evidence(engine: &Engine) {
    // What there is goes first.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let keyed = engine.with_key("evidence").unwrap();
    let (settled, paid, refunded) = (place(engine).await, place(engine).await, place(engine).await);
    keyed.pay_to_platform("ben", &settled, T).await.unwrap();
    keyed.confirm("ben", &settled, T).await.unwrap();
    engine.pay("ben", &paid, T).await.unwrap();
    keyed.pay("ben", &refunded, T).await.unwrap();
    keyed.refund_order("ben", &refunded, T).await.unwrap();
}

/// A snapshot with events in it: it is taken beside traffic.
async fn snapshot_beside_traffic(engine: &Engine) {
    let taken = AtomicBool::new(false);
    let snapshot = async {
        drop(engine.snapshot().await.unwrap());
        taken.store(true, Ordering::Relaxed);
    };
    let traffic = async {
        while !taken.load(Ordering::Relaxed) {
            let order = place(engine).await;
            engine.pay("ben", &order, T).await.unwrap();
            engine.add_funds("用户", T, 1).await.unwrap();
            tokio::time::sleep(quick_look()).await;
        }
    };
    tokio::join!(snapshot, traffic);
}

fn quick_look() -> Duration {
    Duration::from_millis(5)
}

/// What is in the engine, in words, and what becomes of these tokens of eve's.
async fn told(engine: &Engine, tokens: &[String]) -> String {
    engine.search_ready().await.unwrap();
    let mut text = String::new();
    for token in tokens {
        let judged = engine.balance("eve", Credential::Token(token)).await.map_err(|error| error.code());
        writeln!(text, "token {token}: {judged:?}").unwrap();
    }
    for user in USERS {
        match engine.balance(user, T).await {
            Ok(balance) => writeln!(text, "user {user}: {balance} fen").unwrap(),
            Err(error) => writeln!(text, "user {user}: {:?}", error.code()).unwrap(),
        }
    }
    for (user, password) in PASSWORDS {
        engine.balance(user, Credential::password(password)).await.expect("the password is the same");
        assert!(engine.balance(user, Credential::password("another")).await.is_err());
    }
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
    assert!(engine.offload().await.unwrap() > 0);
    engine.close().await.unwrap();
    let_time_pass(&dir).await;
    let engine = Engine::open(config(&dir)).await.unwrap();
    let mut tokens = Vec::new();
    for terminal in ["stays", "goes"] {
        tokens.push(engine.login("eve", Credential::password("changed"), terminal).await.unwrap());
    }
    engine.logout("eve", &tokens[1]).await.unwrap();
    snapshot_beside_traffic(&engine).await;
    trade(&engine, "2").await;
    leave_evidence(&engine).await;
    snapshot_beside_traffic(&engine).await;
    trade(&engine, "3").await;
    manage(&engine, "3").await;
    let shipped = engine.buyer_orders("ben", T).await.unwrap();
    // An order at rest goes on, and its newest events are in the journal only.
    let rested = shipped.iter().rev().find(|order| order.status.as_str() == "shipped").unwrap();
    engine.confirm("ben", &rested.order_id.to_string(), T).await.unwrap();
    let expected = told(&engine, &tokens).await;
    keep(&dir, &version.join("killed"));
    assert_eq!(told(&engine, &tokens).await, expected, "it changed while it was copied");
    engine.close().await.unwrap();
    keep(&dir, &version.join("clean"));
    fs::write(version.join("expected.txt"), expected).unwrap();
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

fn versions() -> Vec<PathBuf> {
    let own = fixtures().join(env!("CARGO_PKG_VERSION"));
    if std::env::var_os("BOOKSTORE_MAKE_FIXTURE").is_some() {
        // Both tests come here.
        static MADE: Once = Once::new();
        MADE.call_once(|| {
            if !own.exists() {
                on_a_runtime(make(&own));
            }
        });
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
        let tokens = expected.lines().filter_map(|line| line.strip_prefix("token ")?.split_once(": "));
        let tokens: Vec<String> = tokens.map(|(token, _)| token.to_owned()).collect();
        // Of all rows, over their BLAKE3 hashes: no field that `told` leaves out may change.
        let hash = expected.lines().find(|line| line.starts_with("state hash ")).unwrap();
        for left in ["clean", "killed"] {
            let (_parent, dir) = taken_out(&version.join(left));
            bookstore(&[&"check", &dir]).ok().says("sound").says(hash);
            for open in 1..=2 {
                let now = on_a_runtime(async {
                    let engine = Engine::open(config(&dir)).await.unwrap();
                    let now = told(&engine, &tokens).await;
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

/// What of a kind there must be in the fixture of 0.1.0: kinds of chunks, and what `inspect` shows of rows and events.
/// Not there are an opening and a closure of a store that are under way: they are between two messages.
const HELD: &str = "
    a chunk 1, a chunk 2, a chunk 3, a chunk 4, a chunk 5, a chunk 6,
    header,
    account, account closed, account has stores, account has closed_stores, account has revoked_tokens,
    account has holds, account has credits, account has refunds, account has keys,
    account has a password of m=19456;t=2;p=1, account has a password of m=8;t=1;p=1,
    hold paid_to seller, hold paid_to platform, hold with key, hold without key,
    credit cause payment, credit cause confirmation, credit cause refund,
    refund with key,
    store, store closed, store has books, store has reservations, store has releases,
    book, book repriced, book not listed,
    order pending, order paid to seller, order paid to platform, order shipped to seller, order shipped to platform,
    order completed to seller, order completed to platform, order canceled, order canceled to seller,
    order canceled to platform, order has keys,
    order waits, order is confirmed by itself, order was extended, order ended by buyer, order ended by deadline,
    Registered, PasswordChanged, TokenRevoked, account Closed,
    FundsAdded with key, FundsAdded without key, StoreOpened, StoreClosed,
    Held to seller with key, Held to seller without key, Held to platform with key, Held to platform without key,
    Credited for payment by buyer with key, Credited for payment by buyer without key,
    Credited for confirmation by buyer with key, Credited for confirmation by deadline without key,
    Credited for refund by buyer with key, Credited for refund by buyer without key,
    TakenBack with key, TakenBack without key,
    Created, BookAdded, StockAdded, Reserved with key, Reserved without key,
    Released by buyer with key, Released by buyer without key, Released by deadline without key,
    PriceSet, Delisted, Relisted, store Closed,
    Placed with key, Placed without key,
    Paid to seller with key, Paid to seller without key, Paid to platform with key, Paid to platform without key,
    Shipped, Shipped is confirmed by itself, ReceiptExtended,
    Completed by buyer with key, Completed by buyer without key, Completed by deadline without key,
    Canceled by buyer with key, Canceled by buyer without key, Canceled by deadline without key,
    at rest Paid Direct, at rest Paid Platform, at rest Shipped Direct, at rest Shipped Platform,
    at rest Completed Direct, at rest Completed Platform, at rest Canceled, at rest Canceled Direct,
    at rest Canceled Platform, at rest awaited, at rest extended, at rest with keys";

fn is_full(value: &Value) -> bool {
    value.as_array().is_some_and(|list| !list.is_empty()) || value.as_object().is_some_and(|map| !map.is_empty())
}

/// What an event or a row is one of, in the words of [`HELD`].
fn kinds_of(row: &Value, kinds: &mut BTreeSet<String>) {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let keyed = |value: &Value| if value["key"].is_null() { " without key" } else { " with key" };
    let list = |name: &str| row[name].as_array().cloned().unwrap_or_default();
    if let Some(event) = row["event"].as_str() {
        let mut kind = event.to_owned();
        if event == "Closed" {
            kind = format!("{} {event}", text(row, "entity"));
        }
        for (name, word) in [("paid_to", "to"), ("cause", "for"), ("by", "by")] {
            if let Some(value) = row[name].as_str() {
                kind += &format!(" {word} {value}");
            }
        }
        if row["event"] == "Shipped" && !row["confirm_by"].is_null() {
            kind += " is confirmed by itself";
        }
        if row.get("key").is_some() {
            kind += keyed(row);
        }
        kinds.insert(kind);
        return;
    }
    let name = text(row, "row");
    match &*name {
        "order" => {
            let paid = row["paid_to"].as_str().map(|to| format!(" to {to}")).unwrap_or_default();
            kinds.insert(format!("order {}{paid}", text(row, "status")));
            if text(row, "status") == "shipped" {
                let how = if row["receipt"].is_null() { "waits" } else { "is confirmed by itself" };
                kinds.insert(format!("order {how}"));
            }
            if !row["receipt"]["extended"].is_null() {
                kinds.insert("order was extended".into());
            }
            if let Some(by) = row["ended"]["by"].as_str() {
                kinds.insert(format!("order ended by {by}"));
            }
        }
        _ if row["closed"] == true => drop(kinds.insert(format!("{name} closed"))),
        _ => drop(kinds.insert(name.clone())),
    }
    let lists = row.as_object().unwrap().iter().filter(|(_, value)| is_full(value));
    kinds.extend(lists.map(|(list, _)| format!("{name} has {list}")));
    if let Some(hash) = row["password_hash"].as_str() {
        kinds.insert(format!("account has a password of {}", hash.split('$').nth(3).unwrap().replace(',', ";")));
    }
    for hold in list("holds") {
        kinds.insert(format!("hold paid_to {}", text(&hold, "paid_to")));
        kinds.insert(format!("hold{}", keyed(&hold)));
    }
    kinds.extend(list("credits").iter().map(|credit| format!("credit cause {}", text(credit, "cause"))));
    kinds.extend(list("refunds").iter().map(|refund| format!("refund{}", keyed(refund))));
    for book in list("books").iter().filter(|_| name == "store") {
        let listed = if book["listed"] == true { "book" } else { "book not listed" };
        kinds.insert(if book["repriced"] == true { "book repriced" } else { listed }.into());
    }
}

/// What rests in the file of orders, in the words of [`HELD`].
fn kinds_at_rest(path: &Path, kinds: &mut BTreeSet<String>) {
    let resting = Orders::open(&RealDisk, path, 1 << 20).unwrap();
    let word = |text: &str, name: &str| {
        let (_, value) = text.split_once(&format!(" {name}: ")).unwrap();
        value.split([',', ' ', '(', '{']).next().unwrap().to_owned()
    };
    let each = |_, order| {
        // Its fields are the crate's own.
        let text = format!("{order:?}");
        let payment = ["Direct", "Platform"].into_iter().find(|kind| text.contains(&format!("Some({kind})")));
        let status = word(&text, "status");
        kinds.insert(format!("at rest {status}{}", payment.map(|kind| format!(" {kind}")).unwrap_or_default()));
        if status == "Shipped" && word(&text, "receipt") == "Some" {
            kinds.insert("at rest awaited".into());
        }
        if text.contains("extended: Some(") {
            kinds.insert("at rest extended".into());
        }
        if !text.contains("keys: []") {
            kinds.insert("at rest with keys".into());
        }
    };
    resting.view().unwrap().each(each).unwrap();
    resting.close().unwrap();
}

/// Without this the fixture would promise less than it says. All rows must be in the snapshot that `killed` is loaded from,
/// which is also the one that `clean` falls back to.
#[test]
fn the_fixture_holds_every_kind_of_thing() {
    let version = versions().into_iter().find(|version| version.ends_with("0.1.0")).unwrap();
    let (_parent, killed) = taken_out(&version.join("killed"));
    let snapshots = files(&killed, ".snap");
    assert_eq!(snapshots.len(), 2);
    assert!(version.join("clean").join(snapshots[1].file_name().unwrap()).exists());

    let mut kinds = BTreeSet::new();
    let mut chunks = BTreeSet::new();
    let summary = read_snapshot(&RealDisk, &snapshots[1], &mut |kind, _| {
        chunks.insert(kind);
        Ok(())
    });
    summary.unwrap();
    kinds.extend(chunks.iter().map(|kind| format!("a chunk {kind}")));
    let segments = files(&killed, ".seg");
    let shown = [&snapshots[1]].into_iter().chain(&segments);
    for row in shown.flat_map(|file| bookstore(&[&"inspect", &"--secrets", file]).ok().lines()) {
        kinds_of(&row, &mut kinds);
    }
    kinds_at_rest(&killed.join("orders.redb"), &mut kinds);
    let held: BTreeSet<String> = HELD.split(',').map(|kind| kind.trim().to_owned()).collect();
    let missing: Vec<_> = held.difference(&kinds).collect();
    assert!(missing.is_empty(), "not in the fixture: {missing:?}\nthere is {kinds:?}");

    let mut events = BTreeSet::new();
    for (place, segment) in segments.iter().enumerate() {
        let keep = &mut |frame: Frame<'_>| {
            events.insert(frame.kind);
            Ok(())
        };
        read_segment(&RealDisk, segment, place + 1 == segments.len(), keep).unwrap();
    }
    let known: BTreeSet<u8> = (0..=255).filter(|kind| is_known(*kind, EVENT_VERSION)).collect();
    // Kind 69 and the others of 0.1.0; what later versions add is in their own fixtures.
    let of_0_1_0: BTreeSet<u8> = (1..=10).chain(32..=40).chain(64..=69).collect();
    assert!(of_0_1_0.is_subset(&known));
    assert_eq!(events, of_0_1_0);

    let expected = fs::read_to_string(version.join("expected.txt")).unwrap();
    for judged in ["Ok(0)", "Err(401)"] {
        let is = |line: &str| line.starts_with("token ") && line.ends_with(judged);
        assert!(expected.lines().any(is), "no token that is {judged}");
    }
    let bytes: usize = content(&version).values().map(Vec::len).sum();
    assert!(bytes < 8 << 20, "{bytes} bytes are too many for a repository");
}
