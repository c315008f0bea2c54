//! A shop moves over: the tables of the Flask bookstore, as SQLite, are exported with the script, loaded and checked,
//! and its users log in with the passwords they had.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{Server, User, bookstore};
use serde_json::Value;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/export_reference.py");

/// The tables as the reference makes them.
const REFERENCE: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript('''
CREATE TABLE user (user_id TEXT PRIMARY KEY, password TEXT NOT NULL, balance INTEGER NOT NULL, token TEXT, terminal TEXT);
CREATE TABLE user_store (user_id TEXT, store_id TEXT, PRIMARY KEY (user_id, store_id));
CREATE TABLE store (store_id TEXT, book_id TEXT, book_info TEXT, stock_level INTEGER, PRIMARY KEY (store_id, book_id));
CREATE TABLE new_order (order_id TEXT PRIMARY KEY, user_id TEXT, store_id TEXT, status TEXT, created_time TIMESTAMP);
CREATE TABLE new_order_detail (order_id TEXT, book_id TEXT, count INTEGER, price INTEGER, PRIMARY KEY (order_id, book_id));
INSERT INTO user VALUES ('卖家', 'pw of 卖家', 500, 't', 'x'), ('buyer', 'pw of buyer', 1000, NULL, NULL);
INSERT INTO user_store VALUES ('卖家', 'corner');
INSERT INTO store VALUES ('corner', '1', '{"id": "1", "title": "美丽心灵", "price": 3880, "pictures": ["aGk="]}', 7),
                         ('corner', '2', "{'id': '2', 'title': 'two', 'price': 5, 'pages': None}", 0);
INSERT INTO new_order VALUES ('buyer_corner_1', 'buyer', 'corner', 'completed', '2025-01-01 08:00:00'),
                             ('buyer_corner_2', 'buyer', 'corner', 'cancelled', '2025-01-02 08:00:00.500000'),
                             ('buyer_corner_3', 'buyer', 'corner', 'paid', '2025-01-03 08:00:00');
INSERT INTO new_order_detail VALUES ('buyer_corner_1', '1', 2, 3880), ('buyer_corner_1', '2', 1, 5),
                                    ('buyer_corner_2', '1', 1, 3880), ('buyer_corner_3', '2', 3, 5), ('gone', '1', 1, 1);
''')
"#;

/// Other names, books in columns, flags for the status.
const VARIANT: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript('''
CREATE TABLE members (uid TEXT PRIMARY KEY, pwd TEXT, balance INTEGER);
CREATE TABLE stores (id TEXT PRIMARY KEY, owner TEXT);
CREATE TABLE store_book (store_id TEXT, book_id TEXT, price INTEGER, stock INTEGER);
CREATE TABLE book (id TEXT PRIMARY KEY, title TEXT, author TEXT, pages INTEGER, price INTEGER, tags TEXT, picture BLOB);
CREATE TABLE orders (order_id TEXT PRIMARY KEY, buyer_id TEXT, store_id TEXT, placed_at INTEGER, is_paid INTEGER, is_shipped INTEGER);
CREATE TABLE order_items (order_id TEXT, book_id TEXT, quantity INTEGER, price INTEGER);
INSERT INTO members VALUES ('u', 'pw of u', 9);
INSERT INTO stores VALUES ('s', 'u');
INSERT INTO store_book VALUES ('s', 'b', 70, 4);
INSERT INTO book VALUES ('b', 'title', 'author', 9, 60, 'x' || char(10) || 'y', x'6869');
INSERT INTO orders VALUES ('o1', 'u', 's', 1700000000, 1, 1), ('o2', 'u', 's', 1700000001, 0, 0);
INSERT INTO order_items VALUES ('o1', 'b', 1, 70), ('o2', 'b', 2, 70);
''')
"#;

/// Whether there is a Python to run it with. Cargo needs none, so the test says that it did nothing and passes.
fn has_python() -> bool {
    let check = "import sqlite3, sys; sys.exit(sys.version_info < (3, 9))";
    let found = Command::new("python3").args(["-c", check]).status().is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: there is no python3 of 3.9 or later with sqlite3");
    }
    found
}

fn make(tables: &str, database: &Path) {
    let status = Command::new("python3").args(["-c", tables]).arg(database).status().unwrap();
    assert!(status.success());
}

fn export(args: &[&str], database: &Path) -> Output {
    Command::new("python3").arg(SCRIPT).arg(database).args(args).output().unwrap()
}

#[track_caller]
fn exported(args: &[&str], database: &Path) -> Vec<Value> {
    let output = export(args, database);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_reference_moves_over() {
    if !has_python() {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let (database, lines) = (parent.path().join("be.db"), parent.path().join("shop.jsonl"));
    make(REFERENCE, &database);
    let before = fs::read(&database).unwrap();
    let done = export(&["--paid-to", "platform", "--utc-offset", "+08:00", "-o", lines.to_str().unwrap()], &database);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    assert!(said.contains("2 accounts, 1 stores, 2 books, 3 orders"), "{said}");
    assert!(said.contains("1 orders are paid and not completed"), "{said}");
    assert_eq!(fs::read(&database).unwrap(), before, "it only reads");

    let server = Server::start_on(&[], |dir| {
        bookstore(&[&"load", &"--argon2-memory-kib", &"64", &lines, &dir]).ok();
        bookstore(&[&"check", &dir]).ok().says("held by the platform 15").says("sound");
    });
    let client = server.client();
    let (buyer, seller) = (User::new("buyer"), client.logged_in(&User::new("卖家")));
    client.login(&buyer).ok();
    assert_eq!((client.balance(&buyer), client.balance(&seller)), (1_000, 500));
    assert_eq!((client.stock("corner", "1"), client.stock("corner", "2")), (7, 0));
    let orders = client.query_buyer_all_orders(&buyer).ok().orders().clone();
    let seen: Vec<(&str, &str)> = orders
        .iter()
        .map(|order| (order["status"].as_str().unwrap(), order["created_time"].as_str().unwrap()))
        .collect();
    let expected = [
        ("paid", "2025-01-03T00:00:00.000Z"),
        ("canceled", "2025-01-02T00:00:00.500Z"),
        ("completed", "2025-01-01T00:00:00.000Z"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(orders[2]["total_price"], 7_765);
    client.confirm(&buyer, orders[0]["order_id"].as_str().unwrap()).ok();
    assert_eq!(client.balance(&seller), 515);
    client.add_stock_level(&seller, "corner", "2", 3).ok();
}

#[test]
fn names_that_differ_are_found_or_given() {
    if !has_python() {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let database = parent.path().join("shop.db");
    make(VARIANT, &database);
    let refused = export(&[], &database);
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("no table of users") && why.contains("members"), "{why}");

    let names = ["--table", "users=members", "--column", "orders.created_time=placed_at"];
    let lines = exported(&names, &database);
    assert_eq!(lines[0]["password"], "pw of u");
    let info = &lines[2]["book_info"];
    assert_eq!((&info["title"], &info["price"], &info["pages"]), (&"title".into(), &70.into(), &9.into()));
    assert_eq!((&info["tags"][1], &info["pictures"][0]), (&"y".into(), &"aGk=".into()));
    let states: Vec<&Value> = lines[3..].iter().map(|line| &line["status"]).collect();
    assert_eq!(states, ["shipped", "pending"]);
    assert_eq!(lines[3]["created_time"], 1_700_000_000_000i64);
    assert_eq!(lines[4]["books"][0]["count"], 2);
    let shown = export(&[&names[..], &["--show"]].concat(), &database);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("store_books=store_book: store_id=store_id"));
}

#[test]
fn what_it_cannot_read_it_says() {
    if !has_python() {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let nothing = export(&[], &parent.path().join("no.db"));
    assert_eq!(nothing.status.code(), Some(1));
    let garbage = parent.path().join("garbage.db");
    fs::write(&garbage, "this is no database, it only is a file of some length").unwrap();
    assert_eq!(export(&[], &garbage).status.code(), Some(1));
    let database = parent.path().join("be.db");
    make(&REFERENCE.replace("'cancelled'", "'lost'"), &database);
    let output = parent.path().join("shop.jsonl");
    let lost = export(&["-o", output.to_str().unwrap()], &database);
    assert_eq!(lost.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&lost.stderr).contains("order buyer_corner_2 has the status 'lost'"));
    let nowhere = export(&["-o", parent.path().join("no/shop.jsonl").to_str().unwrap()], &database);
    assert_eq!(nowhere.status.code(), Some(1));
    let told = String::from_utf8_lossy(&nowhere.stderr);
    assert!(told.starts_with("export_reference: cannot write ") && !told.contains("Traceback"), "{told}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2, "half a file does not stay: passwords are in it");
}
