//! `bookstore backup`, `verify` and `restore`, with the real program: a shop that is bought from while it is backed up,
//! killed and restored; damage in each file; what cannot be a backup.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use common::files::{content, copy, files, flip, killed_shop};
use common::tool::command;
use common::{Client, Server, Shop, bookstore, wait_until};
use serde_json::Value;
use tempfile::TempDir;

/// The port that the server tells for those who operate it.
fn admin_url(server: &Server) -> String {
    let said = server.output();
    let (_, rest) = said.split_once("console on ").unwrap_or_else(|| panic!("{said}"));
    rest.split_once("/console").unwrap().0.to_owned()
}

/// Orders and pays until it is told to stop, and keeps the orders that were acknowledged as paid.
fn buy(port: u16, shop: &Shop, stop: Arc<AtomicBool>, paid: Arc<Mutex<Vec<String>>>) -> thread::JoinHandle<()> {
    let (seller, store) = (shop.seller.clone(), common::shop::STORE);
    thread::spawn(move || {
        let client = Client::new(port);
        let buyer = client.buyer_with_funds(&format!("{:?}", thread::current().id()), 1_000_000);
        while !stop.load(Ordering::Relaxed) {
            client.add_stock_level(&seller, store, common::shop::CHEAP, 1).ok();
            let order = client.order(&buyer, store, &[(common::shop::CHEAP, 1)]);
            client.payment(&buyer, &order).ok();
            paid.lock().unwrap().push(order);
        }
    })
}

#[test]
fn a_busy_shop_is_backed_up_killed_and_restored_with_all_that_was_acknowledged() {
    let place = TempDir::new().unwrap();
    let backups = place.path().join("backups");
    let token_file = place.path().join("token");
    fs::write(&token_file, "0123456789abcdef0123\n").unwrap();
    let flags = [
        ("--admin-listen", "127.0.0.1:0"),
        ("--backup-dir", backups.to_str().unwrap()),
        ("--admin-token-file", token_file.to_str().unwrap()),
        ("--idle-after", "1s"),
        ("--snapshot-interval", "1s"),
        ("--segment-bytes", "16777216"),
    ];
    let flags: Vec<&str> = flags.iter().flat_map(|(name, value)| [*name, *value]).collect();
    let mut shop = Shop::open(&flags);
    let (stop, paid) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let buyers: Vec<_> = (0..3).map(|_| buy(shop.server.port(), &shop, stop.clone(), paid.clone())).collect();
    let url = admin_url(&shop.server);
    let admin = Client::new(url.rsplit_once(':').unwrap().1.parse().unwrap());
    wait_until("orders rest on disk", || {
        let metrics = String::from_utf8(admin.get("/metrics").body).unwrap();
        let resting = metrics.lines().find_map(|line| line.strip_prefix("bookstore_orders_resting "));
        resting.unwrap().parse::<f64>().unwrap() > 100.0
    });
    let before = paid.lock().unwrap().clone();
    let refused = bookstore(&[&"backup", &"--url", &url]).ends_with_status(1);
    refused.says("no backup: 401").says("--token-file");
    let done = bookstore(&[&"backup", &"--url", &url, &"--token-file", &token_file]).ok().says("up to event");
    let backup = PathBuf::from(done.stdout.trim());
    assert_eq!(backup.parent(), Some(backups.as_path()));
    assert!(backup.file_name().unwrap().to_str().unwrap().starts_with("backup-2"));
    assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);
    stop.store(true, Ordering::Relaxed);
    buyers.into_iter().for_each(|buyer| buyer.join().unwrap());
    // Something that came later is not in it.
    shop.client.new_user("later");
    shop.server.kill9();

    let verified = bookstore(&[&"verify", &backup]).ok().says("sound").says("up to event");
    assert!(!verified.stdout.contains(" 0 orders at rest"), "{}", verified.stdout);
    let target = place.path().join("restored");
    bookstore(&[&"restore", &backup, &"--data-dir", &target]).ok().says("restored").says("start it with");
    bookstore(&[&"check", &target]).ok().says("sound");
    let restored = Server::start_on(&flags, |data| fs::rename(&target, data).unwrap());
    let client = restored.client();
    for order in &before {
        let asked = client.query_order_of_seller(&shop.seller, order);
        assert_eq!(asked, "paid", "{order}");
    }
    client.login(&common::User::new("later")).unauthorised();
    // The tokens of before hold: the key is in it.
    client.add_stock_level(&shop.seller, common::shop::STORE, common::shop::CHEAP, 1).ok();
}

trait Asked {
    fn query_order_of_seller(&self, seller: &common::User, order: &str) -> String;
}

impl Asked for Client {
    fn query_order_of_seller(&self, seller: &common::User, order: &str) -> String {
        let body = serde_json::json!({"user_id": seller.id, "order_id": order, "password": seller.password});
        let answer = self.post("/seller/query_order", body);
        answer.ok().body["order"]["status"].as_str().unwrap().to_owned()
    }
}

/// A backup of a shop that was killed.
fn backup_of_a_killed_shop() -> (TempDir, PathBuf) {
    let shop = killed_shop();
    let place = TempDir::new().unwrap();
    let backup = place.path().join("backup");
    let before = content(&shop.server.data_dir());
    let done = bookstore(&[&"backup", &"--data-dir", &shop.server.data_dir(), &"--to", &backup]).ok();
    assert_eq!(done.stdout, format!("{}\n", backup.display()));
    assert!(before == content(&shop.server.data_dir()), "the directory was changed");
    (place, backup)
}

#[test]
fn a_flipped_byte_is_found_in_each_file_by_verify_and_by_restore() {
    let (place, backup) = backup_of_a_killed_shop();
    let sound = bookstore(&[&"verify", &backup]).ok().says("sound").says("2 accounts");
    assert!(!sound.stdout.contains("note:"), "{}", sound.stdout);
    assert_eq!(bookstore(&[&"verify", &"--quiet", &backup]).ok().stdout, "");
    let files: Vec<PathBuf> = content(&backup).into_keys().collect();
    assert!(files.len() == 6, "{files:?}");
    for (number, file) in files.iter().enumerate() {
        let len = fs::metadata(file).unwrap().len() as usize;
        for at in [0, len / 2, len - 1] {
            flip(file, at);
            let name = file.file_name().unwrap().to_str().unwrap();
            let done = bookstore(&[&"verify", &backup]).ends_with_status(1).says("damaged: ").says(name);
            done.says("use another one");
            let target = place.path().join(format!("copy-{number}-{at}"));
            bookstore(&[&"restore", &backup, &"--data-dir", &target]).ends_with_status(1).says(name);
            assert!(!target.exists());
            flip(file, at);
        }
        // Nor may one be missing.
        let aside = place.path().join("aside");
        fs::rename(file, &aside).unwrap();
        bookstore(&[&"verify", &backup]).ends_with_status(1);
        fs::rename(&aside, file).unwrap();
    }
    // What would count in a data directory and is not of it.
    let foreign = backup.join("00000000000099999999.snap");
    fs::write(&foreign, "x").unwrap();
    bookstore(&[&"verify", &backup]).ends_with_status(1).says("99999999.snap: it is not of the backup");
    fs::remove_file(&foreign).unwrap();
    bookstore(&[&"verify", &backup]).ok();
}

#[test]
fn what_is_no_backup_is_refused_with_what_to_do() {
    let (place, backup) = backup_of_a_killed_shop();
    let target = place.path().join("target");
    let verify = |dir: &Path| bookstore(&[&"verify", &dir]);
    let restore = |dir: &Path, to: &Path| bookstore(&[&"restore", &dir, &"--data-dir", &to]);
    let gone = place.path().join("gone");
    verify(&gone).ends_with_status(1).says("no such directory");
    restore(&gone, &target).ends_with_status(1).says("no such directory");
    // A full target, and a backup that is a target.
    let (_full_place, full) = copy(&backup);
    let told = restore(&backup, &full).ends_with_status(1).says("not empty");
    assert!(!told.stderr.contains("owner"), "{}", told.stderr);
    restore(&backup, &backup).ends_with_status(1).says("it is in the backup");
    restore(&backup, &backup.join("journal/data")).ends_with_status(1).says("it is in the backup");
    // One that is half made.
    let (_half_place, half) = copy(&backup);
    fs::remove_file(half.join("backup.json")).unwrap();
    verify(&half).ends_with_status(1).says("no backup.json");
    fs::write(half.join("backup.unfinished"), "").unwrap();
    verify(&half).ends_with_status(1).says("not finished").says("make another one");
    restore(&half, &target).ends_with_status(1).says("not finished");
    // One of a later version, under a right checksum.
    let (_later_place, later) = copy(&backup);
    let text = fs::read_to_string(later.join("backup.json")).unwrap();
    let (body, _) = text.rsplit_once("  \"checksum\"").unwrap();
    let body = body.replacen("\"version\": 1", "\"version\": 9", 1);
    let checksum = blake3::hash(body.as_bytes()).to_hex();
    fs::write(later.join("backup.json"), format!("{body}  \"checksum\": \"{checksum}\"\n}}\n")).unwrap();
    verify(&later).ends_with_status(75).says("a backup of version 9, 1 is known").says("use that version");
    restore(&later, &target).ends_with_status(75).says("a backup of version 9");
    // Places that a backup cannot have, and data that is none.
    let again = |data: &Path, to: &Path| bookstore(&[&"backup", &"--data-dir", &data, &"--to", &to]);
    again(&backup, &backup.join("inside")).ends_with_status(1).says("in the data directory");
    again(&backup, &half).ends_with_status(1).says("there is something in it");
    again(&gone, &target).ends_with_status(1).says("holds no data");
    assert!(!target.exists());
    bookstore(&[&"backup"]).ends_with_status(2).says("--url");
    bookstore(&[&"backup", &"--data-dir", &backup]).ends_with_status(2).says("--to");
}

#[test]
fn a_running_service_keeps_its_directory_and_says_how_it_is_backed_up() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let place = TempDir::new().unwrap();
    let target = place.path().join("backup");
    let done = bookstore(&[&"backup", &"--data-dir", &server.data_dir(), &"--to", &target]).ends_with_status(75);
    done.says("in use by process").says("--url");
    let url = admin_url(&server);
    bookstore(&[&"backup", &"--url", &url]).ends_with_status(1).says("start the service with --backup-dir DIR");
    let public = format!("http://127.0.0.1:{}", server.port());
    bookstore(&[&"backup", &"--url", &public]).ends_with_status(1).says("404").says("--admin-listen");
    let silent = "http://127.0.0.1:1";
    bookstore(&[&"backup", &"--url", &silent]).ends_with_status(1).says("cannot connect");
    let admin = Client::new(url.rsplit_once(':').unwrap().1.parse().unwrap());
    let at =
        admin.send(b"POST /admin/backup_progress HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n").unwrap();
    let at: Value = serde_json::from_slice(&at.body).unwrap();
    assert_eq!((at["code"].as_i64(), at["running"].as_bool()), (Some(200), Some(false)));
}

/// What a program writes to a terminal of 100 columns, by `script` of util-linux; `None` where that is not.
fn on_a_terminal(command_line: &str, dir: &Path) -> Option<String> {
    let typescript = dir.join("typescript");
    let line = format!("stty cols 100; {command_line}");
    let mut script = std::process::Command::new("script");
    script.args(["-q", "-e", "-c", &line]).arg(&typescript).env("TERM", "xterm").stdin(std::process::Stdio::null());
    let done = match script.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        done => done.unwrap(),
    };
    assert!(done.status.success(), "{done:?}");
    Some(fs::read_to_string(typescript).unwrap())
}

#[test]
fn a_terminal_gets_a_bar_that_goes_and_a_pipe_gets_lines() {
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    let binary = common::binary();
    let spec = "users=300000,stores=4,books=40,orders=0";
    let line = format!("{} load --generate {spec} {} > stdout", binary.display(), data.display());
    let line = format!("cd {}; {line}", place.path().display());
    let Some(told) = on_a_terminal(&line, place.path()) else {
        eprintln!("skipped: there is no `script` here");
        return;
    };
    let bars: Vec<&str> = told.split('\r').filter(|part| part.contains("left")).collect();
    assert!(!bars.is_empty(), "{told:?}");
    for bar in &bars {
        assert!(bar.contains('[') && bar.contains("] ") && bar.contains(" %") && bar.contains("/s"), "{bar:?}");
        assert!(bar.trim_end_matches("\u{1b}[K").chars().count() < 100, "{bar:?}");
    }
    // The last bar is taken away before the summary is written, and stdout has nothing of it.
    let (_, end) = told.rsplit_once("\u{1b}[K").unwrap();
    assert!(end.contains("loaded 300000 accounts"), "{end:?}");
    assert_eq!(fs::read_to_string(place.path().join("stdout")).unwrap(), "");
    // The same with a pipe, and where the terminal can do nothing.
    let output = command(&[&"check", &data]).env("TERM", "xterm").output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!told.contains('\u{1b}') && !told.contains('\r'), "{told:?}");
    let line = format!("TERM=dumb {} check {}", binary.display(), data.display());
    let told = on_a_terminal(&line, place.path()).unwrap();
    assert!(!told.contains('\u{1b}') && told.contains("sound"), "{told:?}");
}

#[test]
fn a_place_in_which_no_backup_can_be_is_refused_at_the_start() {
    let dir = TempDir::new().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("file"));
    fs::write(&file, "x").unwrap();
    for (place, says) in [
        (data.join("backups"), "in the data directory"),
        (data.clone(), "in the data directory"),
        (file, "no directory"),
    ] {
        // The last flag keeps it from serving in any case.
        let told = bookstore(&[
            &"serve",
            &"--listen",
            &"127.0.0.1:0",
            &"--admin-listen",
            &"127.0.0.1:0",
            &"--data-dir",
            &data,
            &"--backup-dir",
            &place,
            &"--in-flight-max",
            &"1",
        ]);
        told.ends_with_status(2).says("--backup-dir").says(says);
        assert!(!data.exists());
    }
}

#[test]
fn a_backup_whose_place_cannot_be_printed_is_told_of() {
    let (place, backup) = backup_of_a_killed_shop();
    let again = place.path().join("again");
    let mut command = command(&[&"backup", &"--data-dir", &backup, &"--to", &again]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("the backup is made, in {}", again.display())), "{told}");
    bookstore(&[&"verify", &again]).ok();
}

#[test]
fn a_backup_is_not_repaired_but_a_copy_of_it() {
    let (_parent, backup) = backup_of_a_killed_shop();
    let snapshot = files(&backup, ".snap").pop().unwrap();
    let length = fs::metadata(&snapshot).unwrap().len() as usize;
    flip(&snapshot, length / 2);
    let before = content(&backup);
    for more in [&[][..], &["--yes"]] {
        let flags: Vec<&dyn AsRef<OsStr>> = more.iter().map(|flag| flag as &dyn AsRef<OsStr>).collect();
        let told = bookstore(&[&[&"repair" as &dyn AsRef<OsStr>, &backup][..], &flags].concat());
        told.ends_with_status(1).says("is a backup").says("remove backup.json");
    }
    let (_place, copied) = copy(&backup);
    assert!(before.into_values().eq(content(&copied).into_values()), "the backup was changed");
}

#[test]
fn a_backup_is_not_served_but_restored() {
    let (_parent, backup) = backup_of_a_killed_shop();
    let served = bookstore(&[&"serve", &"--listen", &"127.0.0.1:0", &"--data-dir", &backup]);
    served.ends_with_status(1).says("is a backup").says("bookstore restore");
    bookstore(&[&"verify", &backup]).ok().says("sound");
}

/// The work is done in tasks of its own, and told as what the request caused.
#[test]
fn what_an_operator_wished_is_told_with_the_id_of_his_request() {
    let place = TempDir::new().unwrap();
    let backups = place.path().to_str().unwrap();
    let server = Server::start(&["--admin-listen", "127.0.0.1:0", "--backup-dir", backups]);
    let ask = |path: &str, id: &str| {
        let request =
            format!("POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-request-id: {id}\r\ncontent-length: 0\r\n\r\n");
        let answer = Client::new(server.admin_port()).send(request.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    ask("/admin/snapshot", "snap-1");
    ask("/admin/backup", "back-1");
    ask("/admin/audit", "audit-1");
    for (what, id) in [
        ("a snapshot was taken as an operator wished peer=127.0.0.1", "request_id=snap-1"),
        ("a backup was made", "request_id=back-1"),
        ("audited as an operator wished peer=127.0.0.1", "request_id=audit-1"),
    ] {
        let told = || server.output().lines().any(|line| line.contains(what) && line.ends_with(id));
        wait_until(what, told);
    }
}

#[test]
fn the_time_of_the_newest_backup_outlives_a_restart() {
    const NAME: &str = "bookstore_backup_last_timestamp_seconds";
    let time = |server: &Server| {
        let admin = Client::new(server.admin_port());
        let metrics = String::from_utf8(admin.get("/metrics").body).unwrap();
        assert!(metrics.contains(&format!("# TYPE {NAME} gauge")));
        let told = metrics.lines().find_map(|line| line.strip_prefix(NAME)).map(str::trim);
        told.map(|told| told.parse::<f64>().unwrap())
    };
    let none = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    assert_eq!(time(&none), None);
    let place = TempDir::new().unwrap();
    let mut server = Server::start(&["--admin-listen", "127.0.0.1:0", "--backup-dir", place.path().to_str().unwrap()]);
    assert_eq!(time(&server), Some(0.0));
    let backup = |server: &Server| bookstore(&[&"backup", &"--url", &admin_url(server)]).ok().stdout.trim().to_owned();
    let first = backup(&server);
    let second = backup(&server);
    let made = time(&server).unwrap();
    // What is no backup, or not a whole one, is none.
    fs::write(place.path().join("backup-note"), "later").unwrap();
    fs::create_dir(place.path().join("backup-29990101T000000.000Z-000000000001")).unwrap();
    fs::write(Path::new(&second).join("backup.unfinished"), "").unwrap();
    let begun = |dir: &str| {
        let manifest = fs::read(Path::new(dir).join("backup.json")).unwrap();
        serde_json::from_slice::<Value>(&manifest).unwrap()["made_ms"].as_f64().unwrap() / 1_000.0
    };
    assert!((made - begun(&second)).abs() < 1.0, "{made} and {}", begun(&second));
    server.kill9();
    server.restart();
    wait_until("the backups are looked through", || time(&server) != Some(0.0));
    assert_eq!(time(&server), Some(begun(&first)));
    assert!(begun(&first) < begun(&second));
}
