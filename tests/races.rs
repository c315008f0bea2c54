//! Many clients want the same thing at the same moment: whoever wins, money and stock add up.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::shop::{CHEAP, CHEAP_PRICE, FUNDS, STORE};
use common::{Client, Dice, Server, Shop, User, book, wait_until};

#[test]
fn clients_64_race_for_1000_copies_with_10000_tries_and_1000_are_sold() {
    const CLIENTS: i64 = 64;
    const TRIES: i64 = 10_000;
    const COPIES: i64 = 1_000;
    let shop = Shop::open(&[]);
    shop.client.add_book(&shop.seller, STORE, book("hot", 5), COPIES).ok();
    let users: Vec<User> = (0..CLIENTS).map(|i| shop.client.new_user(&format!("user-{i}"))).collect();
    let tries = AtomicI64::new(TRIES);
    let sold = AtomicI64::new(0);
    let barrier = Barrier::new(users.len());
    thread::scope(|scope| {
        for user in &users {
            scope.spawn(|| {
                let client = shop.server.client();
                barrier.wait();
                let mut mine = 0;
                while tries.fetch_sub(1, Ordering::Relaxed) > 0 {
                    let answer = client.new_order(user, STORE, &[("hot", 1)]);
                    if answer.status == 200 {
                        mine += 1;
                    } else {
                        answer.refused(517, "hot");
                    }
                }
                sold.fetch_add(mine, Ordering::Relaxed);
                assert_eq!(client.order_count(&user.id), mine);
            });
        }
    });
    assert_eq!(sold.into_inner(), COPIES);
    assert_eq!(shop.stock("hot"), 0);
    let orders = shop.client.query_one_store_orders(&shop.seller, STORE).orders().len();
    assert_eq!(orders, usize::try_from(COPIES).unwrap());
}

/// Sends these requests for one order at the same moment, each from its own connection; the statuses.
fn at_once(clients: &[Client], user: &User, order: &str, paths: &[&str]) -> Vec<u16> {
    let barrier = Barrier::new(paths.len());
    thread::scope(|scope| {
        // A client cannot be shared between threads, so each thread makes its own from the port.
        let threads: Vec<_> = paths
            .iter()
            .zip(clients)
            .map(|(path, client)| {
                let fresh = client.another();
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    fresh.try_on_order(path, user, order).unwrap().status
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn of_two_payments_and_a_cancel_exactly_one_wins() {
    const ROUNDS: i64 = 300;
    let shop = Shop::open(&[]);
    let paths = ["/buyer/payment", "/buyer/pay_to_platform", "/buyer/cancel_order", "/buyer/payment"];
    let clients: Vec<Client> = paths.iter().map(|_| shop.server.client()).collect();
    shop.client.add_stock_level(&shop.seller, STORE, CHEAP, ROUNDS).ok();
    let stock = shop.stock(CHEAP);
    let (mut at_once_paid, mut by_escrow) = (0, 0);
    for round in 0..ROUNDS {
        let order = shop.order(&[(CHEAP, 1)]);
        let statuses = at_once(&clients, &shop.buyer, &order, &paths);
        let winners: Vec<usize> = (0..paths.len()).filter(|i| statuses[*i] == 200).collect();
        assert_eq!(winners.len(), 1, "round {round}: {statuses:?}");
        let state = if winners == [2] { "canceled" } else { "paid" };
        assert_eq!(shop.status(&order), state);
        match winners[0] {
            0 | 3 => at_once_paid += 1,
            1 => by_escrow += 1,
            _ => {}
        }
        for (path, status) in paths.iter().zip(&statuses) {
            let lost: &[u16] = match (*path, state) {
                ("/buyer/cancel_order", _) => &[200, 521],
                (_, "canceled") => &[526],
                _ => &[200, 527],
            };
            assert!(lost.contains(status), "round {round}: {path} {statuses:?}");
        }
        let paid = at_once_paid + by_escrow;
        assert_eq!(shop.balances(), (FUNDS - paid * CHEAP_PRICE, at_once_paid * CHEAP_PRICE));
        assert_eq!(shop.stock(CHEAP), stock - paid);
    }
}

/// However they meet, the order ends once, and the money is where the order says.
#[test]
fn of_refund_ship_and_confirm_the_first_decides() {
    const ROUNDS: i64 = 200;
    let shop = Shop::open(&[]);
    shop.client.add_stock_level(&shop.seller, STORE, CHEAP, ROUNDS).ok();
    let stock = shop.stock(CHEAP);
    let (refund, confirm) = ("/buyer/refund_order", "/buyer/confirm_receipt_and_pay_toseller");
    let clients: Vec<Client> = (0..4).map(|_| shop.server.client()).collect();
    let (mut bought, mut earned, mut refunds) = (0, 0, 0);
    for round in 0..ROUNDS {
        let order = shop.order(&[(CHEAP, 1)]);
        let to_platform = round % 2 == 0;
        let path = if to_platform { "/buyer/pay_to_platform" } else { "/buyer/payment" };
        shop.client.try_on_order(path, &shop.buyer, &order).unwrap().ok();
        let paths = [refund, if round % 4 < 2 { confirm } else { refund }, refund, refund];
        let (seller, fresh) = (&shop.seller, shop.client.another());
        let (shipped, statuses) = thread::scope(|scope| {
            let order = &order;
            let shipping = scope.spawn(move || fresh.ship(seller, STORE, order).status);
            let statuses = at_once(&clients, &shop.buyer, order, &paths);
            (shipping.join().unwrap(), statuses)
        });
        let state = shop.status(&order);
        let what = format!("round {round}: {state}, ship {shipped}, {statuses:?}");
        let won = |wanted| paths.iter().zip(&statuses).filter(|won| *won == (&wanted, &200)).count();
        let (refunded, confirmed) = (won(refund), won(confirm));
        assert_eq!((refunded, refunded == 1), (usize::from(state == "canceled"), shipped == 520), "{what}");
        assert_eq!(confirmed, usize::from(state == "completed"), "{what}");
        assert!(statuses.iter().all(|status| [200, 520, 521, 528].contains(status)), "{what}");
        if refunded == 1 {
            refunds += 1;
        } else {
            bought += 1;
            earned += i64::from(!to_platform || state == "completed");
        }
        assert_eq!(shop.balances(), (FUNDS - bought * CHEAP_PRICE, earned * CHEAP_PRICE), "{what}");
        assert_eq!(shop.stock(CHEAP), stock - bought, "{what}");
    }
    println!("{refunds} of {ROUNDS} orders were refunded");
}

/// The seller takes his money out while the buyer wants it back: one of them gets it.
#[test]
fn of_refund_and_withdrawal_one_gets_the_money() {
    const ROUNDS: i64 = 150;
    let shop = Shop::open(&[]);
    shop.client.add_stock_level(&shop.seller, STORE, CHEAP, ROUNDS).ok();
    let (mut gone, mut refunds) = (0, 0);
    for round in 0..ROUNDS {
        let order = shop.order_in("paid");
        let (refund, withdrawal) = thread::scope(|scope| {
            let (buyers, sellers) = (shop.client.another(), shop.client.another());
            let (buyer, seller, order) = (&shop.buyer, &shop.seller, &order);
            let refunding = scope.spawn(move || buyers.refund(buyer, order).status);
            let taking = scope.spawn(move || sellers.add_funds(seller, -CHEAP_PRICE).status);
            (refunding.join().unwrap(), taking.join().unwrap())
        });
        assert!([(200, 530), (519, 200)].contains(&(refund, withdrawal)), "round {round}: {refund} {withdrawal}");
        assert_eq!(shop.status(&order), if refund == 200 { "canceled" } else { "paid" });
        refunds += i64::from(refund == 200);
        gone += i64::from(withdrawal == 200);
        assert_eq!(shop.balances(), (FUNDS - gone * CHEAP_PRICE, 0), "round {round}");
    }
    println!("{refunds} of {ROUNDS} orders were refunded");
}

#[test]
fn of_payment_cancel_and_expiry_exactly_one_wins() {
    const ORDERS: i64 = 120;
    let ttl = Duration::from_secs(3);
    let shop = Shop::open(&["--order-ttl", "3s"]);
    shop.client.add_stock_level(&shop.seller, STORE, CHEAP, ORDERS).ok();
    let stock = shop.stock(CHEAP);
    let orders: Vec<(String, Instant)> = (0..ORDERS)
        .map(|_| {
            // Placed some time apart, for their deadlines are met one after another.
            thread::sleep(Duration::from_millis(10));
            let before = Instant::now();
            let order = shop.order(&[(CHEAP, 1)]);
            (order, before + before.elapsed() / 2)
        })
        .collect();

    // Each racer meets every order within a few milliseconds of its deadline, before or after it.
    let race = |path: &'static str, seed: u64| {
        let (client, orders, buyer) = (shop.client.another(), &orders, &shop.buyer);
        move || -> Vec<u16> {
            let mut dice = Dice::new(seed);
            let meet = |(order, placed): &(String, Instant)| {
                let at = *placed + ttl + Duration::from_micros(dice.roll(8_000)) - Duration::from_millis(5);
                thread::sleep(at.saturating_duration_since(Instant::now()));
                client.try_on_order(path, buyer, order).unwrap().status
            };
            orders.iter().map(meet).collect()
        }
    };
    let (payments, cancels, confirms) = thread::scope(|scope| {
        let payments = scope.spawn(race("/buyer/payment", 1));
        let cancels = scope.spawn(race("/buyer/cancel_order", 2));
        let confirms = scope.spawn(race("/buyer/confirm_receipt_and_pay_toseller", 3));
        (payments.join().unwrap(), cancels.join().unwrap(), confirms.join().unwrap())
    });

    let mut paid = 0;
    for (i, (order, _)) in orders.iter().enumerate() {
        let (payment, cancel, confirm) = (payments[i], cancels[i], confirms[i]);
        let outcome = format!("{order}: {payment} {cancel} {confirm}");
        assert!([200, 526].contains(&payment), "{outcome}");
        assert!([200, 521].contains(&cancel), "{outcome}");
        assert!([200, 520].contains(&confirm), "{outcome}");
        assert!(payment != 200 || cancel != 200, "both won: {outcome}");
        assert!(confirm != 200 || payment == 200, "confirmed without payment: {outcome}");
        let state = match (payment, confirm) {
            (200, 200) => "completed",
            (200, _) => "paid",
            _ => "canceled",
        };
        assert_eq!(shop.status(order), state, "{outcome}");
        paid += i64::from(payment == 200);
    }
    wait_until("the stock is given back", || shop.stock(CHEAP) == stock - paid);
    assert_eq!(shop.balances(), (FUNDS - paid * CHEAP_PRICE, paid * CHEAP_PRICE));
}

#[test]
fn five_threads_of_one_user_who_is_buyer_and_seller_add_up() {
    const THREADS: u64 = 5;
    const ROUNDS: usize = 60;
    const STOCK: i64 = 10_000;
    const MONEY: i64 = 1_000_000;
    let mut server = Server::start(&["--mode", "compat"]);
    let client = server.client();
    let user = client.buyer_with_funds("both", MONEY).with_token("");
    client.create_store(&user, "own").ok();
    client.add_book(&user, "own", book("b", 3), STOCK).ok();

    // Copies still taken, orders placed, and fen in escrow at the end.
    let (taken, placed, held) = (AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0));
    thread::scope(|scope| {
        for seed in 1..=THREADS {
            let (client, user) = (client.another().one_connection_per_request(), &user);
            let (taken, placed, held) = (&taken, &placed, &held);
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                for _ in 0..ROUNDS {
                    let copies = 1 + i64::try_from(dice.roll(4)).unwrap();
                    let order = client.order(user, "own", &[("b", copies)]);
                    placed.fetch_add(1, Ordering::Relaxed);
                    taken.fetch_add(copies, Ordering::Relaxed);
                    match dice.roll(5) {
                        0 => {
                            client.payment(user, &order).ok();
                        }
                        1 => {
                            client.pay_to_platform(user, &order).ok();
                            held.fetch_add(3 * copies, Ordering::Relaxed);
                        }
                        2 => {
                            client.pay_to_platform(user, &order).ok();
                            client.ship(user, "own", &order).ok();
                            client.confirm(user, &order).ok();
                        }
                        3 => {
                            client.cancel(user, &order).ok();
                            taken.fetch_sub(copies, Ordering::Relaxed);
                        }
                        _ => {}
                    }
                    client.add_stock_level(user, "own", "b", 1).ok();
                    client.add_funds(user, 1).ok();
                }
            });
        }
    });
    let rounds = i64::try_from(THREADS).unwrap() * i64::try_from(ROUNDS).unwrap();
    for round in 0..2 {
        let client = server.client();
        assert_eq!(client.stock("own", "b"), STOCK + rounds - taken.load(Ordering::Relaxed));
        assert_eq!(client.order_count("both"), placed.load(Ordering::Relaxed));
        assert_eq!(client.balance(&user), MONEY + rounds - held.load(Ordering::Relaxed));
        if round == 0 {
            server.kill9();
            server.restart();
        }
    }
}

#[test]
fn of_many_who_want_one_id_exactly_one_gets_it() {
    const CLIENTS: usize = 16;
    let server = Server::start(&[]);
    let client = server.client();
    let users: Vec<User> = (0..CLIENTS).map(|i| client.new_user(&format!("user-{i}"))).collect();
    for round in 0..20 {
        let store = format!("store-{round}");
        let same = User::new(&format!("same-{round}"));
        let barrier = Barrier::new(CLIENTS);
        let statuses: Vec<(u16, u16)> = thread::scope(|scope| {
            let threads: Vec<_> = users
                .iter()
                .map(|user| {
                    let (client, barrier, store, same) = (client.another(), &barrier, &store, &same);
                    scope.spawn(move || {
                        barrier.wait();
                        (client.create_store(user, store).status, client.register(same).status)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|(store, _)| *store == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|(_, user)| *user == 200).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|(store, user)| { [200, 514].contains(store) && [200, 512].contains(user) }));
    }
}

#[test]
fn withdrawals_and_payments_at_once_never_overdraw() {
    const THREADS: usize = 8;
    let shop = Shop::open(&[]);
    let user = shop.client.buyer_with_funds("poor", 50 * CHEAP_PRICE);
    shop.client.add_stock_level(&shop.seller, STORE, CHEAP, 1_000).ok();
    let (withdrawn, paid) = (AtomicI64::new(0), AtomicI64::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let client = shop.client.another();
            let (user, withdrawn, paid) = (&user, &withdrawn, &paid);
            scope.spawn(move || {
                for _ in 0..10 {
                    let order = client.order(user, STORE, &[(CHEAP, 1)]);
                    let answer = client.payment(user, &order);
                    if answer.status == 200 {
                        paid.fetch_add(CHEAP_PRICE, Ordering::Relaxed);
                    } else {
                        answer.refused(519, &order);
                    }
                    let answer = client.add_funds(user, -CHEAP_PRICE);
                    if answer.status == 200 {
                        withdrawn.fetch_add(CHEAP_PRICE, Ordering::Relaxed);
                    } else {
                        answer.is(530);
                    }
                }
            });
        }
    });
    let (withdrawn, paid) = (withdrawn.into_inner(), paid.into_inner());
    assert_eq!(withdrawn + paid, 50 * CHEAP_PRICE, "more was wanted than there was");
    assert_eq!(shop.client.balance(&user), 0);
    assert_eq!(shop.client.balance(&shop.seller), paid);
}
