//! `/console` in a browser: the figures move under load, the actions act, what is looked up is shown, the token is asked
//! for, and a service that is gone is told.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use crate::Stage;
use crate::access::assert_accessible;
use crate::common::shop::{CHEAP, DEAR, NO_ORDER, STORE};
use crate::common::{Server, Shop, wait_until};
use crate::webdriver::{Browser, Size};

const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";

fn open(browser: &Browser, server: &Server) {
    browser.goto(&format!("http://127.0.0.1:{}/console", server.admin_port()));
}

/// Digits of what is shown there.
fn number(browser: &Browser, css: &str) -> f64 {
    let text = browser.text(css);
    let digits: String = text.chars().filter(|letter| letter.is_ascii_digit() || *letter == '.').collect();
    digits.parse().unwrap_or(0.0)
}

/// That nothing is wider than the window and all can be used by everybody, and a picture of the whole.
fn look(browser: &Browser, name: &str) {
    let excess = browser.run("return document.documentElement.scrollWidth - window.innerWidth");
    assert!(excess.as_i64() <= Some(0), "{name}: it is {excess} too wide");
    assert_accessible(browser);
    browser.picture(name);
}

/// Buys until it is dropped.
struct Load(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Load {
    fn begin(shop: &Shop) -> Load {
        let (stop, client, buyer, seller) =
            (Arc::new(AtomicBool::new(false)), shop.client.another(), shop.buyer.clone(), shop.seller.clone());
        let stopped = stop.clone();
        let run = thread::spawn(move || {
            client.add_stock_level(&seller, STORE, CHEAP, 1_000_000).ok();
            while !stopped.load(Ordering::Relaxed) {
                let order = client.order(&buyer, STORE, &[(CHEAP, 1)]);
                client.pay_to_platform(&buyer, &order).ok();
                client.cancel(&buyer, &order).is(521);
                client.add_funds(&buyer, 100).ok();
            }
        });
        Load(stop, Some(run))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let ended = self.1.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the load failed");
    }
}

pub fn the_figures_move_under_load(stage: &Stage) {
    let shop = Shop::open(&ADMIN);
    let browser = stage.browser("en-US");
    open(&browser, &shop.server);
    browser.wait_text("#state", "serving");
    browser.wait_text("#about", "strict");
    let curve = || browser.run("return document.querySelector('#chart-throughput path').getAttribute('d')");
    wait_until("there is a curve", || curve().as_str().is_some_and(|drawn| drawn.contains('L')));
    let (before, events) = (curve(), number(&browser, "#head"));
    let load = Load::begin(&shop);
    for (what, css) in [("throughput", "#rate"), ("latency", "#p99"), ("the journal", "#events"), ("syncs", "#sync")] {
        wait_until(what, || number(&browser, css) > 0.0);
    }
    for series in ["done", "refused"] {
        let rate = format!("#chart-throughput li:nth-child({}) b", if series == "done" { 1 } else { 2 });
        wait_until(series, || number(&browser, &rate) > 0.0);
    }
    assert_ne!(curve(), before);
    wait_until("events", || number(&browser, "#head") > events);
    // Orders are counted every few seconds.
    wait_until("orders by state", || number(&browser, "#states tr:nth-child(2) td:last-child") > 0.0);
    browser.wait_text("#states tr:nth-child(2)", "paid");
    wait_until("escrow", || number(&browser, "#escrow") > 0.0);
    browser.wait_text("#orders-age", "beside the traffic");
    browser.wait_text("#routes", "/buyer/pay_to_platform");
    assert!(number(&browser, "#awake") > 0.0 && number(&browser, "#permits-max") > 0.0);
    let earlier = number(&browser, "#orders-all");
    wait_until("they are counted again", || number(&browser, "#orders-all") > earlier);
    for (size, width) in [(Size::Desktop, "desktop"), (Size::Phone, "phone")] {
        browser.resize(size);
        for (dark, colours) in [(false, "light"), (true, "dark")] {
            browser.prefer_dark(dark);
            look(&browser, &format!("{width}-{colours}"));
        }
    }
    drop(load);
    browser.resize(Size::Desktop);
    // What was, where it is pointed at.
    let axis = browser.text("#chart-throughput .axis");
    browser.run(
        "const plot = document.querySelector('#chart-throughput .plot svg'), box = plot.getBoundingClientRect();
         plot.dispatchEvent(new PointerEvent('pointermove', {clientX: box.right - box.width / 20}))",
    );
    assert_eq!(browser.count("#chart-throughput .cursor[visibility=visible]"), 1);
    assert_ne!(browser.text("#chart-throughput .axis"), axis);
    // And they come to rest.
    wait_until("nothing is asked any more", || browser.text("#rate") == "0");
    browser.assert_content(&[]);
}

pub fn the_actions_act(stage: &Stage) {
    let mut shop = Shop::open(&ADMIN);
    let browser = stage.browser("en-US");
    open(&browser, &shop.server);
    browser.wait_text("#state", "serving");
    let snapshots = || -> Vec<String> {
        let names = fs::read_dir(shop.server.data_dir()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".snap")).collect()
    };
    let before = snapshots();
    shop.order_in("paid");
    browser.click("#snapshot");
    browser.wait_text("#said", "Snapshot taken: ");
    let said = browser.text("#said");
    let new: Vec<_> = snapshots().into_iter().filter(|name| !before.contains(name)).collect();
    assert!(matches!(&new[..], [name] if said.contains(name.as_str())), "{said}: {new:?}");
    browser.wait_text("#snapshots", "1");

    browser.click("#audit");
    browser.wait_text("#said", "Audited 2 users, 1 stores, 1 orders: all is there.");
    browser.wait_text("#verdict", "All money and all copies are there");
    browser.wait_text("#audit-facts", "= ¥1,000.00");
    // The page asks at once what came of it, which is too soon for a rate.
    let closest = "const steps = document.querySelector('#chart-throughput path').getAttribute('d')?.split(/[ML]/)
        .map(step => parseFloat(step)).filter(x => !isNaN(x));
        return !(steps?.length >= 3) ? -1 : Math.min(...steps.slice(1).map((x, at) => x - steps[at]))";
    wait_until("there are some steps", || browser.run(closest) != -1);
    let closest = browser.run(closest).as_f64().unwrap() * 60.0;
    assert!(closest > 450.0, "two steps are {closest} ms from each other");
    // It is remembered by the service, not by the page.
    browser.reload();
    browser.wait_text("#verdict", "All money and all copies are there");
    browser.assert_content(&[]);

    // Drained by the keyboard alone, after two second thoughts.
    let focused = || browser.run("return document.activeElement.id || document.activeElement.className");
    wait_until("the button is there", || browser.run("return !document.querySelector('#drain').disabled") == true);
    browser.press(TAB);
    assert_eq!(focused(), "skip");
    for expected in ["snapshot", "audit", "drain"] {
        browser.press(TAB);
        assert_eq!(focused(), expected);
    }
    browser.run("document.querySelector('#audit').focus()");
    browser.press(ENTER);
    browser.wait_text("#said", "Audited 2 users");
    assert_eq!(focused(), "audit", "the place is not lost");
    browser.press(TAB);
    let is_asked = || browser.run("return document.querySelector('#confirm-drain').open") == true;
    for answer in [ENTER, ESCAPE] {
        browser.press(ENTER);
        assert!(is_asked() && focused() == "drain-no");
        browser.press(answer);
        assert!(!is_asked() && focused() == "drain");
    }
    browser.wait_text("#state", "serving");
    browser.press(ENTER);
    look(&browser, "confirm");
    browser.press(TAB);
    assert_eq!(focused(), "drain-yes");
    browser.press(ENTER);
    let status = shop.server.wait();
    assert!(status.success(), "{status}");
    assert!(shop.server.output().contains("as an operator wished"), "{}", shop.server.output());
    browser.wait_text("#state", "drained");
    browser.wait_text("#banner", "The service was drained");
    look(&browser, "drained");
    assert_only_unreachable(&browser);
    shop.server.restart();
}

/// The browser says of each request by itself that nobody was there.
fn assert_only_unreachable(browser: &Browser) {
    let other: Vec<_> = browser
        .complaints()
        .into_iter()
        .filter(|line| !line.contains("/admin/") || !line.contains("net::ERR_"))
        .collect();
    assert!(other.is_empty(), "{other:#?}");
}

pub fn a_service_that_is_gone_is_told(stage: &Stage) {
    let mut server = Server::start(&ADMIN);
    let browser = stage.browser("en-US");
    open(&browser, &server);
    browser.wait_text("#state", "serving");
    server.sigstop();
    browser.wait_text("#state", "not reachable");
    browser.wait_text("#banner", "Not reachable since");
    assert_eq!(browser.run("return document.querySelector('#audit').disabled"), true);
    look(&browser, "lost");
    server.sigcont();
    browser.wait_text("#state", "serving");
    wait_until("the banner is gone", || browser.text("#banner").is_empty());

    // It crashes, is started again where it was, and the page goes on.
    let parts = || {
        let curve = browser.run("return document.querySelector('#chart-permits path').getAttribute('d')");
        curve.as_str().unwrap().matches('M').count()
    };
    let before = parts();
    let address = format!("127.0.0.1:{}", server.admin_port());
    server.kill9();
    browser.wait_text("#state", "not reachable");
    server.restart_with(&["--admin-listen", &address]);
    browser.wait_text("#state", "serving");
    wait_until("the charts go on behind a gap", || parts() > before);
    assert_only_unreachable(&browser);
}

pub fn what_is_looked_up_is_shown(stage: &Stage) {
    let shop = Shop::open(&ADMIN);
    let order = shop.order_in("completed");
    shop.order(&[(DEAR, 2)]);
    let browser = stage.browser("en-US");
    open(&browser, &shop.server);
    browser.fill("#order-id", &order);
    browser.press(ENTER);
    for told in ["completed", "placed", "paid", "by the buyer", "¥1.00", CHEAP, STORE] {
        browser.wait_text("#found", told);
    }
    look(&browser, "order");
    browser.click("#found button[aria-label='user buyer']");
    browser.wait_text("#found h3", "User buyer");
    assert_eq!(browser.run("return document.activeElement.textContent"), "User buyer");
    assert_eq!(browser.run("return document.querySelector('#found-said').textContent"), "User buyer");
    let (balance, _) = shop.balances();
    browser.wait_text("#found dl", &format!("¥{}", yuan(balance)));
    browser.wait_text("#found dl", "2, 1 open");
    browser.resize(Size::Phone);
    browser.run("document.querySelector('#h-lookup').scrollIntoView()");
    look(&browser, "user-phone");
    // And back to the order, by its row.
    browser.click(&format!("#found button[aria-label='order {order}']"));
    browser.wait_text("#found h3", &format!("Order {order}"));
    browser.resize(Size::Desktop);

    browser.fill("#user-id", "seller");
    browser.click("#find-user button");
    browser.wait_text("#found table", STORE);
    browser.fill("#keyword", "title of");
    browser.click("#find-books button");
    browser.wait_text("#found h3", "2 books for “title of”");
    browser.wait_text("#found table", "title of dear");
    look(&browser, "books");
    browser.assert_content(&[]);

    for (field, button, what, message) in [
        ("#order-id", "#find-order button", NO_ORDER, "invalid order id"),
        ("#user-id", "#find-user button", "<img src=x onerror=alert(1)>", "non exist user id <img src=x"),
        ("#keyword", "#find-books button", "nowhere", "book with keyword nowhere not found"),
    ] {
        browser.fill(field, what);
        browser.click(button);
        browser.wait_text("#found .bad", message);
    }
    browser.assert_content(&[("/admin/order", 518), ("/admin/user", 511), ("/admin/search", 523)]);
}

/// Also where a number of a script has no more digits.
pub fn money_is_told_to_the_fen(stage: &Stage) {
    let server = Server::start(&ADMIN);
    let user = server.client().new_user("reader");
    server.client().add_funds(&user, 9_007_199_254_740_993).ok();
    let browser = stage.browser("en-US");
    open(&browser, &server);
    let money = "¥90,071,992,547,409.93";
    browser.wait_text("#put-in", money);
    browser.wait_text("#with-users", money);
    browser.click("#audit");
    browser.wait_text("#audit-facts", &format!("{money} + ¥0.00 = {money}"));
    browser.fill("#user-id", &user.id);
    browser.press(ENTER);
    browser.wait_text("#found dl", money);
    browser.assert_content(&[]);
}

/// Fen as the page shows them, below a thousand yuan.
fn yuan(fen: i64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

pub fn the_token_is_asked_for(stage: &Stage) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "a-token-of-operators").unwrap();
    let mut flags = ADMIN.to_vec();
    flags.extend(["--admin-token-file", file.path().to_str().unwrap()]);
    let server = Server::start(&flags);
    let browser = stage.browser("en-US");
    open(&browser, &server);
    browser.wait_text("#ask-token", "the token of its operators");
    assert_eq!(browser.run("return document.activeElement.id"), "token");
    look(&browser, "asked");
    let figures = || browser.run("return document.querySelector('#figures').hidden");
    browser.fill("#token", "a-token-of-operatorz");
    browser.press(ENTER);
    browser.wait_text("#token-told", "That is not the token.");
    assert_eq!(figures(), true);
    browser.fill("#token", "a-token-of-operators");
    browser.press(ENTER);
    browser.wait_text("#state", "serving");
    assert_eq!(figures(), false);
    browser.click("#snapshot");
    browser.wait_text("#said", "Snapshot taken");
    // For this tab it is kept.
    browser.reload();
    browser.wait_text("#state", "serving");
    let kept = browser.run("return [Object.keys(localStorage).length, document.cookie]");
    assert_eq!(kept, json!([0, ""]));
    browser.click("#forget");
    browser.wait_text("#ask-token", "the token of its operators");
    assert_eq!((figures(), browser.run("return sessionStorage.length")), (Value::Bool(true), json!(0)));
    browser.assert_content(&[("/admin/status", 401)]);
}
