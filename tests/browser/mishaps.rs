//! What goes wrong around a person: storage that is refused, answers that are lost, questions nobody answers, ids as nobody
//! would choose them.

use serde_json::json;

use crate::Stage;
use crate::common::{Server, User};
use crate::shop::{choose, enter, is_in_state, list_samples, open_store, put_money_in, reader, visit};
use crate::webdriver::Browser;

const ENTER: &str = "\u{e007}";
const TAB: &str = "\u{e004}";
const NO_STORE: (&str, u16) = ("/seller/query_all_store_orders", 522);
/// What answers from now on is lost, but what was asked is done.
const LOSE_ANSWERS: &str = "const real = window.fetch;
    window.real = real;
    window.fetch = async (...request) => {
        await real(...request);
        throw new TypeError('lost');
    }";

fn go(browser: &Browser, hash: &str) {
    browser.run(&format!("location.hash = {}", json!(hash)));
}

/// A browser may refuse to keep anything, or have no room left; the pages do what they can without.
pub fn a_browser_that_keeps_nothing(stage: &Stage) {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let user = User::new("reader");
    let browser = stage.browser("en-US");
    browser.before_pages(
        "for (const name of ['localStorage', 'sessionStorage']) {
            Object.defineProperty(window, name, {get() { throw new DOMException('refused', 'SecurityError') }});
        }",
    );
    browser.goto(&format!("http://127.0.0.1:{}/shop", server.port()));
    enter(&browser, &user, "register");
    open_store(&browser, "corner");
    list_samples(&browser);
    choose(&browser, "围城");
    browser.click("#go-basket");
    browser.click("#order-0");
    is_in_state(&browser, "pending");
    browser.wait_text("#main", "围城 × 1");
    browser.click("#language");
    browser.wait_text("#go-orders", "我的订单");
    browser.assert_content(&[NO_STORE]);
    browser.goto(&format!("http://127.0.0.1:{}/docs#buyer_new_order", server.port()));
    browser.wait("#buyer_new_order-token");
    browser.goto(&format!("http://127.0.0.1:{}/console", server.admin_port()));
    browser.wait_text("#state", "serving");
    browser.assert_content(&[NO_STORE]);

    let browser = visit(stage, &server, "en-US");
    browser.run("Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }");
    enter(&browser, &user, "login");
    choose(&browser, "背影");
    browser.wait_text("#go-basket", "Basket (1)");
    browser.assert_content(&[]);
}

/// A question for the password that nobody answers is no answer to the next one.
pub fn a_question_that_was_left(stage: &Stage) {
    let server = Server::start(&[]);
    let (browser, user) = reader(stage, &server);
    go(&browser, "#/orders");
    browser.wait_text("h1", "My orders");
    browser.reload();
    browser.wait("#ask[open]");
    go(&browser, "#/account");
    // The heading is drawn, so nobody has stopped.
    browser.wait("#go-account[aria-current=page]");
    browser.wait("#ask[open]");
    browser.run("return new Promise(done => setTimeout(done, 300))");
    assert_eq!(browser.text("#main"), "", "it waits for the password");
    browser.fill("#ask-password", &user.password);
    browser.press(ENTER);
    browser.wait_text("h1", "Account reader");
    assert_eq!(browser.count("#ask *"), 0, "no password stays behind");
    browser.assert_content(&[]);
}

/// Who changes the number and clicks on gets what he sees.
pub fn a_basket_is_changed_where_it_stands(stage: &Stage) {
    let server = Server::start(&[]);
    let (browser, user) = reader(stage, &server);
    open_store(&browser, "corner");
    list_samples(&browser);
    choose(&browser, "背影");
    choose(&browser, "围城");
    browser.click("#go-basket");
    browser.fill("#count-0-0", "2");
    browser.press(TAB);
    browser.wait_text("#main", "Total ¥28.00");
    browser.wait_text("#go-basket", "Basket (3)");
    let focused = || browser.run("return document.activeElement.getAttribute('aria-label')");
    assert_eq!(focused(), "Remove 背影", "the place is not lost");
    browser.fill("#count-0-1", "two");
    browser.click("#order-0");
    browser.wait_text("#notice", "Please enter a whole number.");
    assert_eq!(browser.run("return document.activeElement.id"), "count-0-1");
    assert_eq!(server.client().order_count(&user.id), 0);
    browser.fill("#count-0-1", "3");
    browser.click("#order-0");
    is_in_state(&browser, "pending");
    browser.wait_text("#total", "¥66.00");
    browser.assert_content(&[NO_STORE]);
}

/// A change without a key may have been made though no answer came, and the page says so. It waits for none for ever.
pub fn an_answer_that_never_comes(stage: &Stage) {
    let server = Server::start(&[]);
    let (browser, _) = reader(stage, &server);
    put_money_in(&browser, "50");
    open_store(&browser, "corner");
    list_samples(&browser);
    browser.fill("#find", "围城");
    browser.click("#find-go");
    browser.wait(".managed:only-child");
    browser.click(".managed summary");
    browser.fill("#by-1008145", "5");
    browser.run(LOSE_ANSWERS);
    browser.press(ENTER);
    browser.wait_text("#notice", "the change may have been made");
    browser.run("window.fetch = window.real");
    assert_eq!(server.client().stock("corner", "1008145"), 15);

    // Nobody answers, and a minute is short.
    browser.run(
        "const real = window.setTimeout;
        window.setTimeout = (done, ms) => real(done, ms / 1000);
        window.fetch = (path, {signal} = {}) => new Promise((_, lost) => {
            signal?.addEventListener('abort', () => lost(signal.reason));
        })",
    );
    browser.click("#find-go");
    browser.wait_text("#notice", "The shop cannot be reached.");
    assert_eq!(browser.count("[aria-busy]"), 0);
    browser.assert_content(&[NO_STORE]);
}

/// A seller comes to every order, first to those that wait for him, and is told when one cannot be shown.
pub fn a_seller_with_many_orders(stage: &Stage) {
    let server = Server::start(&[]);
    let client = server.client();
    let user = client.buyer_with_funds("reader", 1600);
    client.create_store(&user, "corner").ok();
    client.add_book(&user, "corner", json!({"id": "1", "title": "Momo", "price": 1600}), 100).ok();
    let paid = client.order(&user, "corner", &[("1", 1)]);
    client.pay_to_platform(&user, &paid).ok();
    for _ in 0..24 {
        client.order(&user, "corner", &[("1", 1)]);
    }
    let browser = visit(stage, &server, "en-US");
    enter(&browser, &user, "login");
    go(&browser, "#/store/corner");
    browser.wait_text("h1", "corner");
    assert_eq!(browser.count("[data-order]"), 20);
    assert_eq!(browser.run("return document.querySelector('[data-order]').dataset.order"), paid.as_str());
    browser.click(".more");
    assert_eq!((browser.count("[data-order]"), browser.count(".more:not([hidden])")), (25, 0));
    let place = "return [...document.querySelectorAll('[data-order]')].indexOf(document.activeElement.closest('li[data-order]'))";
    // A link of the 21st.
    browser.wait("[data-order]:nth-child(21) :focus");
    assert_ne!(browser.run(place), -1);

    let way = format!("[data-order='{paid}'] details");
    browser.run(LOSE_ANSWERS);
    browser.click(&format!("{way} summary"));
    browser.wait_text("#notice", "The shop cannot be reached.");
    browser.run("window.fetch = window.real");
    browser.click(&format!("{way} summary"));
    browser.wait_text(&way, "Paid");
    browser.assert_content(&[]);
}

/// Ids are texts, whatever is in them, and so is an address.
pub fn ids_that_nobody_would_choose(stage: &Stage) {
    let server = Server::start(&[]);
    let client = server.client();
    let user = client.new_user("reader");
    for (store, book, title) in [("__proto__", "1", "Momo"), ("a/b", "c", "Jim Knopf"), ("a", "b/c", "Krabat")] {
        client.create_store(&user, store).ok();
        client.add_book(&user, store, json!({"id": book, "title": title, "price": 1600}), 10).ok();
    }
    for (store, book) in [("a/b", "c"), ("a", "b/c")] {
        client.order(&user, store, &[(book, 1)]);
    }
    let browser = visit(stage, &server, "en-US");
    enter(&browser, &user, "login");
    for title in ["Jim Knopf", "Krabat", "Momo"] {
        choose(&browser, title);
    }
    browser.wait_text("#go-basket", "Basket (3)");
    browser.click("#go-basket");
    browser.wait_text("section[data-store=__proto__]", "Momo");
    browser.click("#go-orders");
    browser.wait_text("[data-order]:nth-child(1)", "Krabat × 1");
    browser.wait_text("[data-order]:nth-child(2)", "Jim Knopf × 1");
    go(&browser, "#/book/%/1");
    browser.wait_text("#main", "There is no such page.");
    // No script stumbles over an address there either.
    browser.goto(&format!("http://127.0.0.1:{}/docs#%", server.port()));
    browser.wait(".route");
    browser.assert_content(&[]);
}

/// Another language is the same view.
pub fn what_was_typed_stays_in_another_language(stage: &Stage) {
    let server = Server::start(&[]);
    let browser = visit(stage, &server, "en-US");
    browser.click("#go-login");
    browser.fill("#user", "reader");
    browser.fill("#password", "secret");
    browser.click("#language");
    browser.wait_text("h1", "登录或注册");
    let typed = browser.run("return ['user', 'password'].map(id => document.getElementById(id).value)");
    assert_eq!(typed, json!(["reader", "secret"]));
    assert_eq!(browser.run("return document.documentElement.lang"), "zh-CN");
    // One that there is not is none that was chosen.
    browser.run("localStorage.setItem('shop.language', 'fr')");
    browser.reload();
    browser.wait_text("h1", "Log in or register");
    browser.assert_content(&[]);
}

/// An amount is what everybody would read there, or none: nobody pays ten times as much for a comma.
pub fn amounts_are_read_as_they_are_written(stage: &Stage) {
    let server = Server::start(&[]);
    let (browser, user) = reader(stage, &server);
    browser.click("#go-account");
    for wrong in ["1,5", "38元80", "1 2", "1,00", "0.125", "-5", "1e3", "12345678901234"] {
        browser.fill("#amount", wrong);
        browser.press(ENTER);
        browser.wait_text("#notice .bad", "Please enter an amount such as 38.80");
        browser.click("#notice button");
        browser.wait_gone("#notice *");
    }
    assert_eq!(server.client().balance(&user), 0);
    let mut fen = 0;
    for (right, worth) in [("1,000.5", 100_050), ("￥１２．３０", 1230), ("2元", 200), ("12,345,678", 1_234_567_800)]
    {
        browser.fill("#amount", right);
        browser.press(ENTER);
        browser.wait_text("#notice .good", "added.");
        browser.wait("#amount:placeholder-shown");
        fen += worth;
        assert_eq!(server.client().balance(&user), fen, "{right}");
    }
    browser.assert_content(&[]);
}

/// One is logged out here even if the service cannot be told, and hears of it.
pub fn a_logout_whose_answer_is_lost(stage: &Stage) {
    let server = Server::start(&[]);
    let (browser, _) = reader(stage, &server);
    browser.click("#go-account");
    browser.wait("#logout");
    browser.run(LOSE_ANSWERS);
    browser.click("#logout");
    browser.wait("#go-login");
    browser.wait_text("#notice .bad", "The shop cannot be reached.");
    browser.assert_content(&[]);
}
