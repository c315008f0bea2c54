//! Pins what signals do to a server under load: SIGTERM answers everything that was accepted and leaves nothing to
//! replay, SIGSTOP and SIGCONT lose no time and no request, and a second process never gets at data that one holds.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use common::shop::{CHEAP, CHEAP_PRICE, STORE, Shop};
use common::{Client, Server, User, wait_until};

const CLIENTS: usize = 8;

/// What one client did and was told.
#[derive(Default, Debug)]
struct Told {
    funds: i64,
    orders: Vec<String>,
    /// The server said that it drains: nothing was done.
    drained: u32,
    /// No answer came: the connection was closed before the request was taken.
    cut: u32,
}

/// Deposits and orders in turn, until `going` is off or the server is gone.
fn load(port: u16, user: &User, going: &AtomicBool) -> Told {
    let client = Client::new(port);
    let mut told = Told::default();
    while going.load(Ordering::Relaxed) {
        let answer = match told.orders.len() % 2 == told.funds as usize % 2 {
            true => client.try_add_funds(user, 1),
            false => client.try_new_order(user, STORE, &[(CHEAP, 1)]),
        };
        match answer {
            Ok(answer) if answer.status == 503 => {
                assert!(answer.header("retry-after").is_some(), "{}", answer.body);
                told.drained += 1;
                break;
            }
            Ok(answer) if answer.path == "/buyer/add_funds" => {
                answer.ok();
                told.funds += 1;
            }
            Ok(answer) => told.orders.push(answer.ok().text("order_id")),
            Err(_) => {
                told.cut += 1;
                break;
            }
        }
    }
    told
}

/// A shop with much stock.
fn shop(flags: &[&str]) -> Shop {
    let shop = Shop::open(flags);
    shop.client.add_stock_level(&shop.seller, STORE, CHEAP, 1_000_000).ok();
    shop
}

fn users(client: &Client, round: u64) -> Vec<User> {
    (0..CLIENTS).map(|number| client.new_user(&format!("user-{round}-{number}"))).collect()
}

/// Lets clients call while `meanwhile` runs.
fn under_load(server: &mut Server, users: &[User], meanwhile: impl FnOnce(&mut Server, &AtomicBool)) -> Vec<Told> {
    let (port, going) = (server.port(), AtomicBool::new(true));
    thread::scope(|scope| {
        let going = &going;
        let start = |user| scope.spawn(move || load(port, user, going));
        let threads: Vec<_> = users.iter().map(start).collect();
        meanwhile(server, going);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Every answer holds, and nothing is there that was not answered.
fn must_hold_exactly(client: &Client, users: &[User], told: &[Told]) {
    for (user, told) in users.iter().zip(told) {
        assert_eq!(client.balance(user), told.funds, "{told:?}");
        let answer = client.query_buyer_all_orders(user);
        let mut found: Vec<_> = answer.orders().iter().map(|order| order["order_id"].as_str().unwrap()).collect();
        found.sort_unstable();
        let mut expected: Vec<_> = told.orders.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "orders of {}", user.id);
    }
}

#[test]
fn sigterm_under_load_answers_what_it_took_and_leaves_nothing_to_replay() {
    let mut shop = shop(&[]);
    let mut orders = 0;
    for round in 0..4 {
        let users = users(&shop.client, round);
        let told = under_load(&mut shop.server, &users, |server, _| {
            sleep(Duration::from_millis(150 + 70 * round));
            assert_eq!(server.sigterm().code(), Some(0));
        });
        orders += told.iter().map(|told| told.orders.len()).sum::<usize>();
        assert!(told.iter().all(|told| told.drained + told.cut == 1), "{told:?}");
        shop.server.restart();
        let said = shop.server.output();
        assert!(said.contains("replayed 0 events") && said.contains("finished 0 sagas"), "{said}");
        shop.client = shop.server.client();
        // Were a request done and not answered, it would be here.
        must_hold_exactly(&shop.client, &users, &told);
    }
    assert!(orders > 20, "hardly any load: {orders} orders");
}

#[test]
fn a_stopped_server_goes_on_where_it_was() {
    let mut shop = shop(&["--order-ttl", "3s", "--header-timeout", "3s", "--body-timeout", "3s"]);
    let users = users(&shop.client, 0);
    let placed = Instant::now();
    let late = shop.order(&[(CHEAP, 1)]);
    let (client, buyer) = (shop.server.client(), shop.buyer.clone());
    let told = under_load(&mut shop.server, &users, |server, going| {
        sleep(Duration::from_millis(300));
        server.sigstop();
        sleep(Duration::from_secs(4));
        server.sigcont();
        // It slept past the deadline, and knows it at once: on the first read, and to the first who would pay.
        client.payment(&buyer, &late).refused(526, &late);
        assert!(placed.elapsed() < Duration::from_secs(10), "the deadline came late");
        // What was placed after the stop is not late.
        let fresh = client.order(&buyer, STORE, &[(CHEAP, 1)]);
        client.payment(&buyer, &fresh).ok();
        sleep(Duration::from_millis(300));
        going.store(false, Ordering::Relaxed);
    });
    // Connections were open and requests in flight all the while: each was answered.
    assert!(told.iter().all(|told| told.drained + told.cut == 0 && told.funds > 0), "{told:?}");
    // The connection that was idle was closed by its timeout.
    shop.client = shop.server.client();
    must_hold_exactly(&shop.client, &users, &told);
    // Unpaid, they are canceled by themselves, and their copies come back: only the paid one is sold.
    wait_until("all unpaid orders are canceled", || shop.stock(CHEAP) == 1_000_000 + common::shop::STOCK - 1);
    assert_eq!(shop.balances().1, CHEAP_PRICE);
    shop.crash();
    must_hold_exactly(&shop.client, &users, &told);
}

/// It ends by itself, and soon.
fn second_server(server: &Server) -> Output {
    let mut second = Command::new(common::binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(server.data_dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while second.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(30) {
            second.kill().unwrap();
            panic!("a second server runs: {:?}", second.wait_with_output().unwrap());
        }
        sleep(Duration::from_millis(20));
    }
    second.wait_with_output().unwrap()
}

/// The exit status of a program that did not come to serve, and the pid of the one to end.
fn must_be_refused(refused: &Output, holder: u32) {
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains(&holder.to_string()), "the holder is {holder}: {why}");
    assert!(!String::from_utf8_lossy(&refused.stdout).contains("listening"), "{refused:?}");
}

#[test]
fn a_second_server_on_the_same_directory_is_refused_with_the_holders_pid() {
    let mut server = Server::start(&[]);
    must_be_refused(&second_server(&server), server.pid());
    // One that stands still holds it as well.
    server.sigstop();
    must_be_refused(&second_server(&server), server.pid());
    server.sigcont();
    let anna = server.client().new_user("anna");
    must_be_refused(&second_server(&server), server.pid());
    // Neither did the refused ones harm anything, nor is a lock left by a process that was killed.
    server.kill9();
    server.restart();
    assert_eq!(server.client().balance(&anna), 0);
}

/// `timeout` and many wrappers send a signal to the process and to its group. A person who wants the end now asks later.
#[test]
fn a_signal_that_is_sent_twice_drains_and_a_later_one_ends_at_once() {
    let mut server = Server::start(&["--drain-timeout", "60s"]);
    let mut slow = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    slow.write_all(b"POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").unwrap();
    wait_until("the request is taken", || {
        server.client().get("/metrics").text().contains("bookstore_http_connections 2")
    });
    server.send_sigterm();
    server.send_sigterm();
    wait_until("it drains", || server.output().contains("draining"));
    sleep(Duration::from_millis(400));
    assert!(server.is_running(), "{}", server.output());
    server.send_sigterm();
    assert_eq!(server.wait().code(), Some(143), "{}", server.output());
    assert!(server.output().contains("second signal (SIGTERM), ending at once"));
    drop(slow);
}
