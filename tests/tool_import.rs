//! `bookstore import`: every book of a file is listed in a running service, whatever happened to the service under way;
//! and the status is 0 only then.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use common::{Client, Done, Server, User, book, bookstore, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Books {
    _dir: TempDir,
    path: PathBuf,
}

fn books(lines: &[Value]) -> Books {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("books.jsonl");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&path, text).unwrap();
    Books { _dir: dir, path }
}

fn url(server: &Server) -> String {
    format!("http://127.0.0.1:{}", server.port())
}

fn import(server: &Server, books: &Books, more: &[&str]) -> Done {
    let url = url(server);
    let mut args = vec!["import", "--url", &url, "--store", "corner", "--user", "seller"];
    args.extend(["--password", "pw of seller", "--books", books.path.to_str().unwrap()]);
    args.extend(more);
    let args: Vec<&dyn AsRef<std::ffi::OsStr>> = args.iter().map(|arg| arg as &dyn AsRef<std::ffi::OsStr>).collect();
    bookstore(&args)
}

fn start() -> (Server, Client, User) {
    let server = Server::start(&[]);
    let client = server.client();
    let seller = client.new_user("seller");
    (server, client, seller)
}

#[test]
fn real_books_are_listed_and_a_second_time_passed_over() {
    let (server, client, _) = start();
    let real = Books {
        _dir: TempDir::new().unwrap(),
        path: concat!(env!("CARGO_MANIFEST_DIR"), "/examples/books.jsonl").into(),
    };
    import(&server, &real, &["--create-store", "--stock", "7"]).ok().says("100 books listed, 0 were there already");
    assert_eq!(client.stock("corner", "1000067"), 7);
    import(&server, &real, &["--create-store"]).ok().says("0 books listed, 100 were there already");
    assert_eq!(client.stock("corner", "1000067"), 7);
    assert_eq!(import(&server, &real, &["--quiet"]).ok().stderr, "");
}

#[test]
fn a_line_may_say_its_stock_and_a_wrong_one_is_named() {
    let (server, client, seller) = start();
    client.create_store(&seller, "corner").ok();
    let lines = [
        json!({"book_info": book("a", 5), "stock_level": 3}),
        book("b", 5),
        json!({"id": "c", "price": 5}),
        json!([1]),
        json!({"book_info": book("d", 5), "stock": 3}),
        json!({"book_info": book("e", 5), "stock_level": -1}),
        json!({"book_info": book("f", 5)}),
    ];
    let done = import(&server, &books(&lines), &["--stock", "9"]).ends_with_status(1);
    let done = done.says("line 3: 530 invalid parameter title").says("line 4: is not a JSON object");
    let done = done.says("line 5: unknown field `stock`").says("line 6: 530 invalid parameter stock_level");
    done.says("3 books listed, 0 were there already, 4 lines failed");
    let stocks = ["a", "b", "f"].map(|id| client.stock("corner", id));
    assert_eq!(stocks, [3, 9, 9]);
    client.get_stock_level("corner", "e").is(515);
}

#[test]
fn what_stops_everything_is_told_once() {
    let (server, client, seller) = start();
    let other = client.new_user("other");
    let some = books(&(0..50).map(|n| book(&format!("b{n}"), 1)).collect::<Vec<_>>());
    let done =
        import(&server, &some, &[]).ends_with_status(1).says("there is no store corner; --create-store opens it");
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    client.create_store(&other, "corner").ok();
    import(&server, &some, &["--create-store"]).ends_with_status(1).says("store corner is not seller's");
    client.change_password(&seller, "another").ok();
    import(&server, &some, &[]).ends_with_status(1).says("user seller cannot log in: 401");

    let address = url(&server);
    let path = some.path.to_str().unwrap();
    let bare = |args: &[&dyn AsRef<std::ffi::OsStr>]| bookstore(args);
    bare(&[&"import", &"--url", &address, &"--store", &"s", &"--user", &"u", &"--books", &path]).ends_with_status(2);
    let missing = ["import", "--store", "s", "--user", "u", "--password", "p", "--books", path, "--url"];
    let with_url = |url: &str| {
        let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = missing.iter().map(|arg| arg as _).collect();
        args.push(&url);
        bookstore(&args)
    };
    with_url("ftp://x").ends_with_status(1).says("must begin with http://");
    with_url("http://127.0.0.1:1").ends_with_status(1).says("the service does not answer");
}

#[test]
fn the_password_may_come_by_the_environment() {
    let (server, client, _) = start();
    let some = books(&[book("a", 1)]);
    let url = url(&server);
    let status = common::tool::command(&[&"import", &"--url", &url, &"--store", &"corner", &"--user", &"seller"])
        .args(["--create-store", "--books"])
        .arg(&some.path)
        .env("BOOKSTORE_PASSWORD", "pw of seller")
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(client.stock("corner", "a"), 0);
}

/// The process is killed under way and comes back on the same port: the import goes on and lists every book.
#[test]
fn a_service_that_is_killed_and_comes_back_gets_every_book() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let parent = TempDir::new().unwrap();
    let data = parent.path().join("data");
    let serve = || {
        let mut child = common::tool::command(&[&"serve", &"--listen", &listen, &"--data-dir", &data])
            .args(["--argon2-memory-kib", "64", "--argon2-iterations", "1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("it listens", || {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            std::net::TcpStream::connect(&listen).is_ok()
        });
        child
    };
    let mut server = serve();
    Client::new(port).new_user("seller");
    let some = books(&(0..3_000).map(|n| book(&format!("b{n}"), 1)).collect::<Vec<_>>());
    let url = format!("http://{listen}");
    let importing = common::tool::command(&[&"import", &"--url", &url, &"--store", &"corner", &"--user", &"seller"])
        .args(["--password", "pw of seller", "--create-store", "--books"])
        .arg(&some.path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let client = Client::new(port);
    wait_until("some are listed", || client.get_stock_level("corner", "b100").status == 200);
    drop(client);
    server.kill().unwrap();
    server.wait().unwrap();
    thread::sleep(Duration::from_millis(200));
    let mut server = serve();
    let done = importing.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{said}");
    let client = Client::new(port);
    for n in [0, 100, 1_500, 2_999] {
        assert_eq!(client.stock("corner", &format!("b{n}")), 0);
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

/// From stdin, which stays open: a signal ends it, and what was read is told.
#[test]
fn a_signal_ends_it() {
    let (server, client, _) = start();
    let url = url(&server);
    let mut child = common::tool::command(&[&"import", &"--url", &url, &"--store", &"corner", &"--user", &"seller"])
        .args(["--password", "pw of seller", "--create-store", "--books", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", book("a", 1)).unwrap();
    wait_until("it has opened the store", || client.get_stock_level("corner", "a").status == 515);
    let status = std::process::Command::new("/bin/kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    drop(stdin);
}
