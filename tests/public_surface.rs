//! Pins what the crate gives to everybody: a name that comes or goes, or a type that loses what people expect of it,
//! is a decision and has to be made here, too. The names are read from the sources, which needs no special compiler.
#![allow(clippy::unwrap_used, reason = "a failure of the test's own plumbing is a failure of the test")]

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::fmt::Debug;
use std::path::Path;

use bookstore::{
    AuditReport, BackupError, BackupReport, BookView, By, Config, Credential, Durability, Engine, Error, FoundBook,
    HistogramSnapshot, Limits, LineView, NewBook, NewLine, OpenError, OrderDetails, OrderId, OrderStatus, OrderStep,
    OrderTotals, OrderView, PasswordError, PasswordHash, PasswordParams, PayKind, Progress, Recovered, Refusal, Search,
    SearchFields, SearchPage, SnapshotReport, Stats, Storage, StoreStanding, UserStanding,
};

/// What the file's `pub` items and `pub use` lists name, without those that are for the crate only. A hidden module is
/// marked.
fn public_names(path: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let mut names = BTreeSet::new();
    let mut hidden = false;
    let mut rest = text.as_str();
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        if line == "#[doc(hidden)]" {
            hidden = true;
        } else if let Some(list) = line.strip_prefix("pub use ") {
            // A list may go on for some lines.
            let list = if list.contains(';') { list } else { &text[text.len() - after.len() - list.len() - 1..] };
            let list = list.split_once(';').unwrap().0;
            let list = list.split_once('{').map_or(list.rsplit("::").next().unwrap(), |(_, list)| list);
            names.extend(list.split([',', '}']).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()));
        } else if let Some(item) = line.strip_prefix("pub ") {
            let mut words = item.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
            let kind = words.by_ref().find(|word| !["async", "const", "unsafe"].contains(word)).unwrap();
            // `const NAME: …` lost its kind above.
            let name = if kind.chars().all(|letter| !letter.is_lowercase()) { kind } else { words.next().unwrap() };
            names.insert(if hidden { format!("hidden {name}") } else { name.to_owned() });
            hidden = false;
        } else if !line.starts_with("#[") {
            hidden = false;
        }
    }
    names
}

fn assert_public(path: &str, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
    let found = public_names(path);
    let (new, gone): (Vec<_>, Vec<_>) = (found.difference(&expected).collect(), expected.difference(&found).collect());
    assert!(new.is_empty() && gone.is_empty(), "{path}: new {new:?}, gone {gone:?}");
}

#[test]
fn the_names_at_the_root_are_those() {
    assert_public(
        "src/lib.rs",
        &[
            "hidden cli",
            "hidden internals",
            "disk",
            "http",
            "offline",
            "AuditReport",
            "BackupError",
            "BackupReport",
            "BookView",
            "By",
            "Config",
            "Credential",
            "Durability",
            "Engine",
            "Error",
            "Fen",
            "FoundBook",
            "HistogramSnapshot",
            "ID_BYTES_MAX",
            "KEYWORD_BYTES_MAX",
            "KEY_BYTES_MAX",
            "Keyed",
            "Limits",
            "LineView",
            "NewBook",
            "NewLine",
            "OpenError",
            "OrderDetails",
            "OrderId",
            "OrderStatus",
            "OrderStep",
            "OrderTotals",
            "OrderView",
            "PAGE_SIZE_MAX",
            "PASSWORD_BYTES_MAX",
            "PayKind",
            "PasswordError",
            "PasswordHash",
            "PasswordParams",
            "Progress",
            "Recovered",
            "Refusal",
            "Result",
            "Search",
            "SearchFields",
            "SearchPage",
            "SnapshotReport",
            "Stats",
            "Storage",
            "StoreStanding",
            "UserStanding",
            "offline",
        ],
    );
}

#[test]
fn the_names_of_the_public_modules_are_those() {
    let http = [
        "AdminToken",
        "AdminTokenError",
        "HttpConfig",
        "HttpService",
        "Mode",
        "PeerAddr",
        "ResponseBody",
        "ResponseFuture",
        "TlsError",
        "TlsIdentity",
        "serve",
        "serve_with_admin",
    ];
    assert_public("src/http/mod.rs", &http);
    assert_public(
        "src/engine/offline/mod.rs",
        &[
            "CheckError",
            "CheckReport",
            "Finding",
            "LoadAccount",
            "LoadError",
            "LoadLine",
            "LoadOptions",
            "LoadOrder",
            "LoadPassword",
            "LoadReport",
            "LoadTimes",
            "Loader",
            "Lost",
            "Repair",
            "RepairError",
            "RepairReport",
            "RepairStep",
            "VerifyReport",
            "backup",
            "check",
            "restore",
            "verify",
        ],
    );
    assert_public("src/disk/mod.rs", &["Disk", "DiskFile", "MemoryDisk", "OpenMode", "RealDisk"]);
}

/// What comes out of the engine grows; what goes in as it stands does not.
#[test]
fn what_grows_is_marked() {
    let marked = |path: &str, name: &str| {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let is_it = |line: &&str| {
            let name_of = |kind| line.strip_prefix(kind).map(|rest: &str| rest.split([' ', '<']).next());
            name_of("pub struct ").or_else(|| name_of("pub enum ")) == Some(Some(name))
        };
        let at = lines.iter().position(is_it).unwrap_or_else(|| panic!("no {name} in {path}"));
        lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| *line == "#[non_exhaustive]")
    };
    let growing: &[(&str, &[&str])] = &[
        ("src/engine/config.rs", &["Config", "Limits", "Storage"]),
        ("src/engine/error.rs", &["Error", "OpenError"]),
        ("src/engine/open.rs", &["Progress"]),
        ("src/engine/backup/mod.rs", &["BackupError", "BackupReport"]),
        ("src/engine/offline/restore.rs", &["VerifyReport"]),
        ("src/engine/offline/check.rs", &["CheckError", "CheckReport", "Finding"]),
        ("src/engine/offline/repair/mod.rs", &["RepairError"]),
        ("src/engine/offline/repair/report.rs", &["Lost", "RepairReport", "RepairStep"]),
        ("src/engine/offline/rows.rs", &["LoadError", "LoadOptions", "LoadPassword", "LoadReport", "LoadTimes"]),
        ("src/engine/types.rs", &["FoundBook", "OrderDetails", "OrderStep", "Search", "SearchPage"]),
        ("src/engine/types.rs", &["OrderTotals", "StoreStanding", "UserStanding"]),
        (
            "src/engine/types.rs",
            &["AuditReport", "BookView", "Credential", "LineView", "OrderView", "Recovered", "SnapshotReport", "Stats"],
        ),
        ("src/domain/refusal.rs", &["Refusal"]),
        ("src/journal/handle.rs", &["Durability"]),
        ("src/stats.rs", &["HistogramSnapshot"]),
        ("src/auth/mod.rs", &["PasswordError"]),
        ("src/http/mod.rs", &["HttpConfig", "Mode"]),
        ("src/http/tls.rs", &["TlsError"]),
    ];
    for (path, names) in growing {
        for name in *names {
            assert!(marked(path, name), "{name} in {path} is not #[non_exhaustive]");
        }
    }
    assert!(!marked("src/engine/types.rs", "NewBook") && !marked("src/engine/types.rs", "NewLine"));
}

fn shared<T: Send + Sync + Debug + 'static>() {}
fn data<T: Send + Sync + Debug + Clone>() {}
fn compared<T: Send + Sync + Debug + Clone + PartialEq>() {}
fn error<T: StdError + Send + Sync + 'static>() {}
fn sent<T: Send>(_: T) {}

/// Compiles, or does not.
#[test]
fn the_types_are_what_people_expect() {
    shared::<Engine>();
    data::<Engine>();
    data::<(Config, Limits, Storage, Credential<'static>)>();
    data::<(Recovered, SnapshotReport, Stats)>();
    compared::<(OrderDetails, OrderStep, By, PayKind)>();
    compared::<(OrderTotals, StoreStanding, UserStanding)>();
    compared::<(AuditReport, BookView, LineView, OrderView, HistogramSnapshot, Progress)>();
    compared::<(SearchFields, SearchPage, FoundBook)>();
    data::<Search<'static>>();
    compared::<(NewBook<'static>, NewLine<'static>, PasswordHash, PasswordParams)>();
    compared::<(OrderId, OrderStatus, Durability, Error, Refusal)>();
    error::<Error>();
    error::<OpenError>();
    error::<Refusal>();
    error::<PasswordError>();
    error::<bookstore::offline::LoadError>();
    error::<bookstore::offline::CheckError>();
    error::<bookstore::offline::RepairError>();
    error::<BackupError>();
    compared::<BackupReport>();
    data::<bookstore::offline::VerifyReport>();
    sent(bookstore::offline::verify(Path::new("nowhere"), |_| {}));
    data::<(bookstore::offline::CheckReport, bookstore::offline::LoadOptions, bookstore::offline::LoadReport)>();
    data::<(bookstore::offline::LoadAccount<'static>, bookstore::offline::LoadOrder<'static>)>();
    sent::<Option<bookstore::offline::Loader>>(None);
    sent(bookstore::offline::check(Path::new("nowhere"), |_| {}));
    data::<(bookstore::offline::RepairReport, bookstore::offline::RepairStep)>();
    sent(bookstore::offline::Repair::plan(&Storage::Memory));
    #[cfg(feature = "server")]
    {
        use bookstore::http::{
            HttpConfig, HttpService, Mode, PeerAddr, ResponseBody, ResponseFuture, TlsError, TlsIdentity,
        };
        data::<(HttpConfig, HttpService, TlsIdentity)>();
        error::<TlsError>();
        compared::<(Mode, PeerAddr)>();
        sent::<Option<(ResponseBody, ResponseFuture)>>(None);
    }
}

/// Every call can be made from a spawned task: its future can be sent to another thread.
#[tokio::test]
async fn every_call_can_be_spawned() {
    let engine = Engine::open(Config::memory()).await.unwrap();
    let who = Credential::password("p");
    let book = NewBook { id: "b", price: 1, document: "{}" };
    sent(Engine::open(Config::memory()));
    sent(Engine::open_with_progress(Config::memory(), |_| {}));
    sent(engine.search(Search::new("k")));
    sent(engine.search_ready());
    sent(engine.backup("nowhere"));
    sent(engine.backup_with_progress("nowhere", |_| {}));
    sent(engine.register("u", "p"));
    sent(engine.unregister("u", who));
    sent(engine.login("u", who, "t"));
    sent(engine.change_password("u", who, "q"));
    sent(engine.logout("u", "t"));
    sent(engine.add_funds("u", who, 1));
    sent(engine.balance("u", who));
    sent(engine.create_store("u", who, "s"));
    sent(engine.add_book("u", who, "s", book, 1));
    sent(engine.add_stock_level("u", who, "s", "b", 1));
    sent(engine.close_store("u", who, "s"));
    sent(engine.set_price("u", who, "s", "b", 1));
    sent(engine.delist_book("u", who, "s", "b"));
    sent(engine.relist_book("u", who, "s", "b"));
    sent(engine.ship("u", who, "s", "o"));
    sent(engine.store_orders("u", who, "s"));
    sent(engine.all_store_orders("u", who));
    sent(engine.stock_level("s", "b"));
    sent(engine.book("s", "b"));
    sent(engine.new_order("u", who, "s", &[NewLine { book_id: "b", count: 1 }]));
    sent(engine.pay("u", "o", who));
    sent(engine.pay_to_platform("u", "o", who));
    sent(engine.confirm("u", "o", who));
    sent(engine.cancel_order("u", "o", who));
    sent(engine.refund_order("u", "o", who));
    sent(engine.order_status("u", "o", who));
    sent(engine.buyer_order("u", "o", who));
    sent(engine.seller_order("u", "o", who));
    sent(engine.extend_receipt("u", "o", who));
    sent(engine.buyer_orders("u", who));
    sent(engine.order_count("u"));
    sent(engine.order("o"));
    sent(engine.order_totals());
    sent(engine.user_standing("u"));
    sent(engine.cancel_expired());
    sent(engine.snapshot());
    sent(engine.audit());
    sent(engine.failed());
    sent(engine.close());
    // None of them was polled, so none of them did anything.
    assert_eq!(engine.audit().await.unwrap().accounts, 0);
    engine.close().await.unwrap();
}
