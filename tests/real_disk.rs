//! The real disk: syncs and writes that fail, a file system that is full, one that is nearly full. The real program under
//! load over HTTP. It needs `strace`, or a small file system and the right to change its size; so `.ci/real-disk` runs
//! it, and plain `cargo test` says that it does not.
//!
//! `BOOKSTORE_REAL_DISK` names what is done: `errors`; or, with a tmpfs at `BOOKSTORE_REAL_DISK_MOUNT` that the data
//! lies in, `full` or `low`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use common::{Client, Server, Shop, User, book, request, wait_until};
use serde_json::json;

const SMALL_SEGMENTS: [&str; 4] = ["--segment-bytes", "16777216", "--snapshot-interval", "1h"];
/// Of the exit status that tells an engine that failed.
const ENGINE_FAILED: i32 = 70;
const ENDS_WITHIN: Duration = Duration::from_secs(1);
/// How long a call takes that is to fail: an answer that leaves meanwhile does not wait for it.
const DELAY_US: u64 = 300_000;

fn main() {
    match std::env::var("BOOKSTORE_REAL_DISK").as_deref() {
        Ok("errors") => errors(),
        Ok("full") => full(),
        Ok("low") => low(),
        Ok(other) => panic!("{other}: errors, full or low"),
        Err(_) => println!("real_disk: SKIPPED. It needs strace and a small file system; .ci/real-disk runs it"),
    }
}

/// What one buyer was told.
#[derive(Default)]
struct Told {
    /// Orders that were acknowledged.
    orders: Vec<String>,
    /// Deposits of one fen that were acknowledged.
    deposits: i64,
    /// Requests that were not answered.
    open: usize,
    /// When the last acknowledgement arrived.
    last: Option<SystemTime>,
    /// When the first request was not served.
    first_failure: Option<SystemTime>,
}

impl Told {
    fn failed(&mut self, open: usize) {
        self.open += open;
        self.first_failure.get_or_insert_with(SystemTime::now);
    }
}

/// Buyers that order and put money in until they are told to stop or the service is gone.
struct Load {
    stop: Arc<AtomicBool>,
    buyers: Vec<(User, JoinHandle<Told>)>,
}

impl Load {
    fn start(shop: &Shop, lines: &[(String, i64)]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let buyers = (0..8).map(|number| {
            let user = shop.client.new_user(&format!("buyer {number}"));
            let (client, stop, lines) = (shop.server.client(), stop.clone(), lines.to_vec());
            (user.clone(), thread::spawn(move || buy(&client, &user, &lines, &stop)))
        });
        Load { buyers: buyers.collect(), stop }
    }

    fn end(self) -> Vec<(User, Told)> {
        self.stop.store(true, Ordering::SeqCst);
        self.buyers.into_iter().map(|(user, thread)| (user, thread.join().unwrap())).collect()
    }
}

fn buy(client: &Client, user: &User, lines: &[(String, i64)], stop: &AtomicBool) -> Told {
    let lines: Vec<(&str, i64)> = lines.iter().map(|(id, count)| (id.as_str(), *count)).collect();
    let mut told = Told::default();
    while !stop.load(Ordering::SeqCst) {
        match client.try_new_order(user, common::shop::STORE, &lines) {
            Ok(answer) if answer.status == 200 => {
                told.last = Some(SystemTime::now());
                told.orders.push(answer.text("order_id"));
            }
            // The journal failed: it may have been made or not.
            Ok(answer) if answer.status == 503 => told.failed(1),
            Ok(answer) => panic!("{answer:?}"),
            Err(_) => {
                told.failed(0);
                return told;
            }
        }
        match client.try_add_funds(user, 1) {
            Ok(answer) if answer.status == 200 => {
                told.last = Some(SystemTime::now());
                told.deposits += 1;
            }
            Ok(answer) if answer.status == 503 => told.failed(1),
            Ok(answer) => panic!("{answer:?}"),
            Err(_) => {
                told.failed(1);
                return told;
            }
        }
    }
    told
}

/// Starts again, and sees to it that all that was told is there. The shop's money and copies are audited at its end.
fn recover(shop: &mut Shop, told: &[(User, Told)]) -> usize {
    shop.server.restart();
    let client = shop.server.client();
    for (user, told) in told {
        let listed = client.query_buyer_all_orders(user);
        let text = listed.ok().body.to_string();
        for order in &told.orders {
            assert!(text.contains(order), "order {order} of {} was acknowledged and is lost", user.id);
        }
        let balance = client.balance(user);
        let most = told.deposits + told.open as i64;
        assert!((told.deposits..=most).contains(&balance), "{balance} of {} to {most} fen", told.deposits);
    }
    client.add_funds(&shop.buyer, 1).ok();
    told.iter().map(|(_, told)| told.orders.len()).sum()
}

fn strace(pid: u32, call: &str, when: u32, output: &Path) -> Child {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-ttt", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:error=EIO:delay_enter={DELAY_US}:when={when}"), "-o"]).arg(output);
    command.args(["-p", &pid.to_string()]).stdin(Stdio::null()).spawn().expect("strace runs")
}

/// When the first call began whose answer was an error.
fn injected(output: &Path) -> Option<SystemTime> {
    let text = fs::read_to_string(output).unwrap_or_default();
    let line = text.lines().find(|line| line.contains("INJECTED"))?;
    let seconds: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

/// EIO of the n-th sync, and of the n-th write, of the journal.
fn errors() {
    let parent = tempfile::tempdir().unwrap();
    for (call, when) in
        [("fdatasync", 1), ("fdatasync", 2), ("fdatasync", 7), ("fdatasync", 50), ("pwrite64", 1), ("pwrite64", 20)]
    {
        let mut shop = Shop::open(&SMALL_SEGMENTS);
        shop.client.add_stock_level(&shop.seller, common::shop::STORE, common::shop::CHEAP, 1_000_000).ok();
        let load = Load::start(&shop, &[(common::shop::CHEAP.to_owned(), 1)]);
        thread::sleep(Duration::from_millis(200));
        let output = parent.path().join(format!("{call}-{when}"));
        let mut strace = strace(shop.server.pid(), call, when, &output);
        let status = shop.server.wait();
        let ended = SystemTime::now();
        let _ = strace.wait();
        let told = load.end();
        let fault = injected(&output).expect("an error was injected");
        assert_eq!(status.code(), Some(ENGINE_FAILED), "{call} {when}: {}", shop.server.output());
        let failed = fault + Duration::from_micros(DELAY_US);
        let after = ended.duration_since(failed).unwrap_or_default();
        assert!(after < ENDS_WITHIN, "{call} {when}: ended {after:?} after the fault");
        // What the calls before it made durable has long been told by then; nothing else may be.
        let last = told.iter().filter_map(|(_, told)| told.last).max().unwrap();
        assert!(last < failed - Duration::from_millis(150), "{call} {when}: acknowledged beside the fault");
        let orders = recover(&mut shop, &told);
        println!("real_disk: {call} {when}: ended {} ms after the fault, {orders} orders are there", after.as_millis());
    }
}

fn mount_point() -> PathBuf {
    std::env::var_os("BOOKSTORE_REAL_DISK_MOUNT").expect("BOOKSTORE_REAL_DISK_MOUNT").into()
}

/// Gives the file system another size. What is in it stays.
fn resize(mib: u32) {
    let options = format!("remount,size={mib}m");
    let done = Command::new("mount").args(["-o", &options]).arg(mount_point()).status().unwrap();
    assert!(done.success(), "mount -o {options}");
}

/// What lies in the file system, in MiB, rounded up.
fn used() -> u32 {
    let done = Command::new("df").args(["--output=used", "-B1M"]).arg(mount_point()).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    text.lines().last().and_then(|line| line.trim().parse().ok()).expect("df tells what is used")
}

/// A file system that is full: of orders, so that the journal finds no room for a segment, and of books.
fn full() {
    assert!(std::env::temp_dir().starts_with(mount_point()), "TMPDIR does not lie in BOOKSTORE_REAL_DISK_MOUNT");
    let flags = [&SMALL_SEGMENTS[..], &["--min-free-disk", "0"]].concat();
    // Room for one segment, and not for the next one.
    resize(30);
    let mut shop = Shop::open(&flags);
    let books: Vec<(String, i64)> = (0..1_000).map(|number| (format!("book {number}"), 1)).collect();
    for (id, _) in &books {
        shop.client.add_book(&shop.seller, common::shop::STORE, book(id, 1), 1_000_000_000).ok();
    }
    resize(used() + 1);
    let load = Load::start(&shop, &books);
    let began = Instant::now();
    let status = shop.server.wait();
    let ended = SystemTime::now();
    let told = load.end();
    let noticed = told.iter().filter_map(|(_, told)| told.first_failure).min().unwrap();
    let after = ended.duration_since(noticed).unwrap_or_default();
    assert!(after < ENDS_WITHIN, "ended {after:?} after the first who was not served");
    assert_eq!(status.code(), Some(ENGINE_FAILED), "{}", shop.server.output());
    assert!(shop.server.output().contains("No space left"), "{}", shop.server.output());
    resize(256);
    let orders = recover(&mut shop, &told);
    println!(
        "real_disk: the journal found no room after {} ms, {orders} orders are there",
        began.elapsed().as_millis()
    );
    assert!(orders > 100);
    drop(shop);

    resize(64);
    let mut shop = Shop::open(&flags);
    let mut listed = 0;
    let info = |number: usize| {
        let mut info = book(&format!("large {number}"), 1);
        info["content"] = json!("x".repeat(500_000));
        info
    };
    let (failed, client) = (Instant::now(), shop.server.client());
    while let Ok(answer) = {
        let body = json!({"user_id": shop.seller.id, "store_id": common::shop::STORE, "book_info": info(listed),
            "stock_level": 1});
        client.try_post("/seller/add_book", Some(&shop.seller.token), &body)
    } {
        if answer.status != 200 {
            assert_eq!(answer.status, 503, "{answer:?}");
            break;
        }
        listed += 1;
    }
    let status = shop.server.wait();
    assert_eq!(status.code(), Some(ENGINE_FAILED), "{}", shop.server.output());
    println!("real_disk: the books found no room after {listed}, in {} ms", failed.elapsed().as_millis());
    resize(256);
    shop.server.restart();
    let client = shop.server.client();
    for number in 0..listed {
        assert_eq!(client.stock(common::shop::STORE, &format!("large {number}")), 1);
    }
}

/// A change that is to be refused, or not. Returns the status and whether the answer says when to try again.
fn change(shop: &Shop) -> (u16, bool) {
    let body = json!({"user_id": shop.buyer.id, "password": shop.buyer.password, "add_value": 1}).to_string();
    let response = shop.client.send(&request("POST", "/buyer/add_funds", &[], body.as_bytes())).unwrap();
    (response.status, response.header("retry-after").is_some())
}

/// Less than `--min-free-disk` is left: changes are refused, reads answered; room comes back, and so do changes.
fn low() {
    resize(128);
    let flags = [&SMALL_SEGMENTS[..], &["--min-free-disk", "33554432"]].concat();
    let shop = Shop::open(&flags);
    let order = shop.order(&[(common::shop::CHEAP, 1)]);
    assert_eq!(change(&shop), (200, false));
    let filler = mount_point().join("filler");
    fs::write(&filler, vec![1; 75 << 20]).unwrap();
    let began = Instant::now();
    wait_until("changes are refused", || change(&shop).0 == 503);
    println!("real_disk: changes were refused after {} ms", began.elapsed().as_millis());
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        assert_eq!(change(&shop), (503, true));
        assert_eq!(shop.status(&order), "pending");
        assert_eq!(shop.stock(common::shop::CHEAP), common::shop::STOCK - 1);
        let found = shop.client.post("/buyer/search", json!({"keyword": "title"}));
        assert_eq!(found.ok().number("total"), 2);
    }
    assert!(shop.client.get("/metrics").text().contains("bookstore_disk_low 1"));
    assert_eq!(shop.client.get("/readyz").status, 200);
    fs::remove_file(&filler).unwrap();
    let began = Instant::now();
    wait_until("changes are taken", || change(&shop).0 == 200);
    println!("real_disk: changes were taken {} ms after there was room", began.elapsed().as_millis());
    shop.client.payment(&shop.buyer, &order).ok();
    drop(shop);

    // There is room, but not for the journal's next segment: that is foreseen, not suffered.
    resize(100);
    let server = Server::start(&["--segment-bytes", "67108864", "--min-free-disk", "1048576"]);
    let client = server.client();
    let mut number = 0;
    let mut register = || {
        number += 1;
        client.register(&User::new(&format!("user {number}"))).status
    };
    wait_until("changes are refused", || register() == 503);
    resize(256);
    wait_until("changes are taken", || register() == 200);
    println!("real_disk: no room for the next segment: changes were refused, and taken again");
}
