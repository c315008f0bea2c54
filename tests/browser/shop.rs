//! `/shop`: what a person does there, by clicks and keys, and what the service knows afterwards.

use std::fs;

use serde_json::json;

use crate::Stage;
use crate::access::assert_accessible;
use crate::common::{Server, User};
use crate::webdriver::{Browser, Size};

/// A picture of one point.
const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 6,
    0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 13, b'I', b'D', b'A', b'T', 0x78, 0xda, 0x63, 0x64, 0x60, 0xf8, 0x5f,
    0x0f, 0, 2, 0x87, 1, 0x80, 0xeb, 0x47, 0xba, 0x92, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];
const ENTER: &str = "\u{e007}";
const TAB: &str = "\u{e004}";

pub fn visit<'a>(stage: &'a Stage, server: &Server, language: &str) -> Browser<'a> {
    let browser = stage.browser(language);
    browser.goto(&format!("http://127.0.0.1:{}/shop", server.port()));
    browser.wait("#keyword");
    browser
}

/// Registers or logs in; `how` is the button.
pub fn enter(browser: &Browser, user: &User, how: &str) {
    browser.click("#go-login");
    browser.fill("#user", &user.id);
    browser.fill("#password", &user.password);
    browser.click(&format!("#{how}"));
    // A long name is cut there.
    browser.wait_text("#go-account", &user.id.chars().take(15).collect::<String>());
    browser.wait("#notice .good");
}

/// The shop, where a new reader has registered.
pub fn reader<'a>(stage: &'a Stage, server: &Server) -> (Browser<'a>, User) {
    let (browser, user) = (visit(stage, server, "en-US"), User::new("reader"));
    enter(&browser, &user, "register");
    (browser, user)
}

fn leave(browser: &Browser) {
    browser.click("#go-account");
    browser.click("#logout");
    browser.wait("#go-login");
}

pub fn open_store(browser: &Browser, store: &str) {
    browser.click("#go-selling");
    browser.fill("#store", store);
    browser.click("#open");
    browser.wait_text("h1", store);
}

pub fn list_samples(browser: &Browser) {
    browser.click("#samples");
    browser.wait_text("#notice", "8");
}

fn search(browser: &Browser, keyword: &str) {
    browser.click("#brand");
    browser.fill("#keyword", keyword);
    browser.click("#search");
}

/// Finds the book by this keyword and puts one copy into the basket.
pub fn choose(browser: &Browser, keyword: &str) {
    search(browser, keyword);
    browser.click(".card h2 a");
    browser.click("#add");
    browser.wait("#notice .good");
}

pub fn put_money_in(browser: &Browser, yuan: &str) {
    browser.click("#go-account");
    browser.fill("#amount", yuan);
    browser.click("#put");
    browser.wait("#notice .good");
}

fn open_first_order(browser: &Browser) {
    browser.click("#go-orders");
    browser.click("[data-order] a[href^='#/order/']");
    browser.wait("#total");
}

pub fn is_in_state(browser: &Browser, state: &str) {
    browser.wait(&format!("#main[data-view=order] [data-status={state}]"));
}

pub fn a_whole_purchase_by_clicks(stage: &Stage) {
    let server = Server::start(&[]);
    let (seller, buyer) = (User::new("卖家"), User::new("买家"));
    let browser = visit(stage, &server, "zh-CN");
    assert_eq!(browser.run("return document.documentElement.lang"), "zh-CN");
    browser.picture("home");

    enter(&browser, &seller, "register");
    browser.click("#go-selling");
    browser.wait_text("main", "您还没有店铺");
    open_store(&browser, "街角书店");
    browser.click("#listing summary");
    for (field, text) in [
        ("title", "美丽心灵"),
        ("price", "３8.79"),
        ("copies", "10"),
        ("author", "[美] 西尔维娅·娜萨"),
        ("isbn", "9787542823823"),
        ("tags", "传记，数学"),
        ("book_intro", "数学家约翰·纳什的传记。"),
    ] {
        browser.fill(&format!("#{field}"), text);
    }
    let directory = tempfile::TempDir::new().unwrap();
    let picture = directory.path().join("cover.png");
    fs::write(&picture, PNG).unwrap();
    browser.attach("#picture", &picture);
    browser.picture("listing");
    browser.click("#list");
    browser.wait_text("#notice", "《美丽心灵》已上架。");
    leave(&browser);

    enter(&browser, &buyer, "register");
    search(&browser, "心灵");
    browser.wait_text("#found", "找到 1 本");
    assert_eq!(browser.text(".card mark"), "心灵");
    browser.wait_text(".card", "¥38.79");
    browser.picture("found");
    browser.click(".card h2 a");
    browser.wait_text("#main", "库存 10 本");
    browser.wait("img[alt='《美丽心灵》的图片']");
    assert_eq!(browser.run("return document.querySelector('.pictures img').naturalWidth"), 1);
    browser.fill("#count", "2");
    browser.click("#add");
    browser.wait_text("#go-basket", "购物车 (2)");
    browser.picture("book");
    browser.click("#go-basket");
    browser.wait_text("#main", "合计 ¥77.58");
    browser.picture("basket");
    browser.click("#order-0");
    is_in_state(&browser, "pending");
    browser.wait_text("#total", "¥77.58");
    browser.picture("order");
    assert_accessible(&browser);

    // Without money the service says so, and the page where to get some.
    browser.click("#pay");
    browser.wait_text("#notice", "余额不足。");
    browser.wait_text("#notice", "519 not sufficient funds, order id ");
    browser.click("#notice a");
    browser.fill("#amount", "100");
    browser.click("#put");
    browser.wait_text("#balance", "¥100.00");
    browser.picture("account");
    open_first_order(&browser);
    browser.click("#pay");
    is_in_state(&browser, "paid");
    browser.wait_text("#main", "货款由平台保管");
    leave(&browser);
    assert_eq!(server.client().balance(&seller), 0);

    enter(&browser, &seller, "login");
    browser.click("#go-selling");
    browser.wait_text("#main", "1 个订单，1 个待发货");
    browser.click("#main li a");
    browser.wait_text("[data-order]", "买家 买家");
    browser.picture("store");
    browser.click(".ship");
    browser.wait_text("#notice", "已发货。");
    leave(&browser);

    enter(&browser, &buyer, "login");
    open_first_order(&browser);
    is_in_state(&browser, "shipped");
    browser.click("#confirm");
    is_in_state(&browser, "completed");
    let steps = browser.run("return [...document.querySelectorAll('.way li')].map(step => step.dataset.step)");
    assert_eq!(steps, json!(["placed", "paid", "shipped", "confirmed"]));

    // Every request is there to be seen, but no secret.
    browser.click("#calls summary");
    browser.run("document.querySelectorAll('#calls-list details').forEach(call => { call.open = true })");
    for shown in [
        "/buyer/confirm_receipt_and_pay_toseller",
        "Idempotency-Key",
        "\"password\": \"•••\"",
        "token: •••",
        "x-request-id: ",
    ] {
        browser.wait_text("#calls", shown);
    }
    let shown = browser.text("#calls");
    assert!(!shown.contains(&seller.password) && !shown.contains(&buyer.password), "{shown}");
    browser.picture("calls");
    browser.assert_content(&[("/seller/query_all_store_orders", 522), ("/buyer/pay_to_platform", 519)]);

    let client = server.client();
    assert_eq!(client.balance(&seller), 7758);
    assert_eq!(client.balance(&buyer), 2242);
    assert_eq!(client.stock("街角书店", "9787542823823"), 8);
}

pub fn the_same_in_english(stage: &Stage) {
    let server = Server::start(&[]);
    let (seller, buyer) = (User::new("Sam"), User::new("Bea"));
    let browser = visit(stage, &server, "en-US");
    assert_eq!(browser.text("h1"), "Find a book");
    enter(&browser, &seller, "register");
    open_store(&browser, "corner");
    list_samples(&browser);
    browser.wait_text("#notice", "Sample books listed: 8 new, 0 were there.");
    leave(&browser);

    enter(&browser, &buyer, "register");
    put_money_in(&browser, "20.5");
    choose(&browser, "revolution dickens");
    browser.click("#go-basket");
    browser.click("#order-0");
    is_in_state(&browser, "pending");
    browser.click("#pay-direct");
    browser.click("#pay");
    is_in_state(&browser, "paid");
    browser.wait_text("#main", "The seller has the money");
    assert_eq!(server.client().balance(&seller), 1410);
    // A change of mind.
    browser.click("#refund");
    is_in_state(&browser, "canceled");
    browser.wait_text("#notice", "Refunded; the order is canceled.");
    browser.click("#go-account");
    browser.wait_text("#balance", "¥20.50");

    // In Chinese from now on, here and after a reload.
    browser.click("#language");
    browser.wait_text("h1", "账户 Bea");
    browser.reload();
    browser.wait_text("#brand", "书店");
    browser.assert_content(&[("/seller/query_all_store_orders", 522)]);

    // From a request to what its route does. Who goes elsewhere is not asked for the password any more.
    browser.wait("#ask[open]");
    browser.run("location.hash = '#/'");
    browser.wait_gone("#ask[open]");
    search(&browser, "双城记");
    browser.wait_text("#found", "找到 1 本");
    browser.click("#calls > summary");
    browser.click("#calls-list li:first-child summary");
    browser.click("#calls-list li:first-child a");
    browser.wait_text("#buyer_search[open] .body", "Every word of the keyword must match.");
}

pub fn what_is_clicked_or_sent_twice_is_done_once(stage: &Stage) {
    let server = Server::start(&[]);
    let (browser, user) = reader(stage, &server);
    open_store(&browser, "corner");
    list_samples(&browser);
    let orders = || server.client().order_count(&user.id);

    choose(&browser, "围城");
    browser.click("#go-basket");
    browser.wait("#order-0");
    browser.double_click("#order-0");
    is_in_state(&browser, "pending");
    assert_eq!(orders(), 1);

    // The service does it, and the answer is lost on its way: it is sent again, and done once.
    let lose_one = "const real = window.fetch;
        window.fetch = async (...request) => {
            await real(...request);
            window.fetch = real;
            throw new TypeError('lost');
        }";
    put_money_in(&browser, "50");
    browser.run(lose_one);
    browser.fill("#amount", "7");
    browser.click("#put");
    browser.wait_text("#balance", "¥57.00");
    choose(&browser, "背影");
    browser.click("#go-basket");
    browser.wait("#order-0");
    browser.run(lose_one);
    browser.click("#order-0");
    is_in_state(&browser, "pending");
    assert_eq!(orders(), 2);
    browser.run(lose_one);
    browser.double_click("#pay");
    is_in_state(&browser, "paid");
    browser.assert_content(&[("/seller/query_all_store_orders", 522)]);
    assert_eq!(server.client().balance(&user), 5700 - 450);
}

pub fn a_wrong_password_and_a_forgotten_one(stage: &Stage) {
    let server = Server::start(&["--throttle-user", "3"]);
    let user = User::new("reader");
    server.client().register(&user).ok();
    let browser = visit(stage, &server, "en-US");
    browser.click("#go-orders");
    browser.wait_text("#main", "Please log in first.");
    browser.fill("#user", &user.id);
    browser.fill("#password", "wrong");
    browser.press(ENTER);
    browser.wait_text("#notice", "The user name or the password is wrong.");
    browser.fill("#password", &user.password);
    browser.press(ENTER);
    // There, where one wanted to go.
    browser.wait_text("#main", "No orders yet.");

    // A reload forgets the password, and a step that needs it asks.
    browser.reload();
    browser.wait("#ask[open]");
    browser.picture("ask");
    assert_accessible(&browser);
    browser.fill("#ask-password", "wrong");
    browser.press(ENTER);
    browser.wait_text("#ask", "That password is wrong.");
    browser.fill("#ask-password", &user.password);
    browser.press(ENTER);
    browser.wait_text("#main", "No orders yet.");
    browser.reload();
    browser.wait("#ask[open]");
    browser.press("\u{e00c}");
    browser.wait_text("#main", "This page cannot be shown without the password.");

    // A token that is no longer valid is renewed on the way.
    browser.click("#main button");
    browser.fill("#ask-password", &user.password);
    browser.press(ENTER);
    browser.wait_text("#main", "No orders yet.");
    browser.run("sessionStorage.setItem('shop.token', 'expired')");
    open_store(&browser, "corner");

    // Too often: the page tells how long to wait.
    leave_without_password(&browser);
    for _ in 0..4 {
        browser.fill("#user", &user.id);
        browser.fill("#password", "wrong again");
        browser.click("#login");
        browser.wait("#notice .bad");
    }
    browser.wait_text("#notice", "Please try again in ");
    browser.wait_text("#notice", "429 ");
    browser.assert_content(&[
        ("/auth/login", 401),
        ("/auth/login", 429),
        ("/buyer/query_buyer_all_orders", 401),
        ("/seller/query_all_store_orders", 522),
        ("/seller/create_store", 401),
    ]);
}

fn leave_without_password(browser: &Browser) {
    browser.run("sessionStorage.clear()");
    browser.reload();
    browser.wait("#user");
}

pub fn a_busy_shop_is_asked_again(stage: &Stage) {
    let server = Server::start(&[]);
    let browser = visit(stage, &server, "zh-CN");
    browser.run(
        "const real = window.fetch;
        window.fetch = async () => {
            window.fetch = real;
            const body = '{\"code\":503,\"message\":\"overloaded: too much to do; nothing was done\"}';
            return new Response(body, {status: 503, headers: {'retry-after': '3'}});
        }",
    );
    search(&browser, "心灵");
    browser.wait_text("#notice", "3 秒后自动再试");
    browser.wait_text("#found", "没有找到“心灵”");
    assert_eq!(browser.count("#calls-list li"), 2);
    assert_eq!(browser.count("#notice *"), 0, "it is not busy any more");
    browser.assert_content(&[("/buyer/search", 523)]);
}

pub fn a_seller_changes_what_is_on_the_shelf(stage: &Stage) {
    let server = Server::start(&[]);
    let seller = User::new("seller");
    let browser = visit(stage, &server, "en-US");
    enter(&browser, &seller, "register");
    open_store(&browser, "corner");
    list_samples(&browser);
    browser.fill("#find", "红楼梦");
    browser.click("#find-go");
    let book = "[data-book='1007305']";
    let open = |css: &str| {
        browser.wait(&format!("{book}:only-child"));
        browser.click(&format!("{book} summary"));
        browser.wait(css);
    };
    open("#price-1007305");
    browser.fill("#price-1007305", "1,0.5.0");
    browser.press(ENTER);
    browser.wait_text("#notice", "Please enter an amount");
    browser.fill("#price-1007305", "60.05");
    browser.press(ENTER);
    browser.wait_text("#notice", "The price is ¥60.05 now");
    assert_eq!(browser.run("return document.activeElement.closest('[data-book]')?.dataset.book"), "1007305");
    open("#by-1007305");
    browser.fill("#by-1007305", "-4");
    browser.press(ENTER);
    browser.wait_text(book, "6 in stock");
    open("#by-1007305");
    browser.fill("#by-1007305", "-7");
    browser.press(ENTER);
    browser.wait_text("#notice", "530 invalid parameter add_stock_level");
    browser.click(&format!("{book} .danger"));
    browser.wait_text(book, "off the shelf");
    search(&browser, "红楼梦");
    browser.wait_text("#found", "Nothing found");
    browser.run("location.hash = '#/book/corner/1007305'");
    browser.wait_text("#main", "off the shelf and cannot be bought");
    browser.wait_text("#main", "¥60.05");
    browser.assert_content(&[
        ("/seller/query_all_store_orders", 522),
        ("/seller/add_stock_level", 530),
        ("/buyer/search", 523),
    ]);
}

pub fn results_come_in_pages(stage: &Stage) {
    let server = Server::start(&[]);
    let client = server.client();
    let seller = client.new_user("seller");
    for store in ["corner", "market"] {
        client.create_store(&seller, store).ok();
    }
    for number in 0..15 {
        let info = json!({"id": format!("{number}"), "title": format!("Tales {number}"), "price": 100 * number});
        client.add_book(&seller, if number < 13 { "corner" } else { "market" }, info, 1).ok();
    }
    let browser = visit(stage, &server, "en-US");
    search(&browser, "ｔａｌｅｓ");
    browser.wait_text("#found", "15 found");
    assert_eq!((browser.count(".card"), browser.count(".card mark")), (12, 12));
    let first = browser.run("return [...document.querySelectorAll('.card h2')].map(title => title.textContent)");
    browser.click("#page-next");
    browser.wait_text(".pages", "Page 2 of 2");
    assert_eq!(browser.count(".card"), 3);
    let second = browser.run("return [...document.querySelectorAll('.card h2')].map(title => title.textContent)");
    let all: std::collections::BTreeSet<String> =
        [first, second].iter().flat_map(|page| page.as_array().unwrap()).map(ToString::to_string).collect();
    assert_eq!(all.len(), 15, "each is on one page: {all:?}");
    // The way back, and a link that somebody was sent.
    browser.run("history.back()");
    browser.wait_text(".pages", "Page 1 of 2");
    browser.run("location.hash = '#/search?q=tales&store=market&scope=title'");
    browser.wait_text("#found", "2 found");
    assert_eq!(browser.run("return document.getElementById('scope').value"), "title");
    // An order goes to one store.
    for (store, book) in [("market", "13"), ("corner", "12")] {
        browser.run(&format!("location.hash = '#/book/{store}/{book}'"));
        browser.wait_text("h1", &format!("Tales {book}"));
        browser.click("#add");
        browser.wait("#notice .good");
    }
    browser.click("#go-basket");
    browser.wait_text("#main", "books of two stores become two orders");
    assert_eq!(browser.count("section[data-store]"), 2);
    browser.assert_content(&[]);
}

/// With `--auto-confirm` the page tells until when, and gives more time.
pub fn a_buyer_takes_more_time(stage: &Stage) {
    let server = Server::start(&["--auto-confirm", "10d"]);
    let client = server.client();
    let user = client.buyer_with_funds("reader", 1600);
    client.create_store(&user, "corner").ok();
    client.add_book(&user, "corner", json!({"id": "1", "title": "Momo", "price": 1600}), 1).ok();
    let order = client.order(&user, "corner", &[("1", 1)]);
    client.pay_to_platform(&user, &order).ok();
    client.ship(&user, "corner", &order).ok();

    let browser = visit(stage, &server, "en-US");
    enter(&browser, &user, "login");
    open_first_order(&browser);
    is_in_state(&browser, "shipped");
    // The title was never seen in this tab; an order knows the id only.
    browser.wait_text(".lines", "Momo × 1");
    browser.wait_text("#main", "receipt is confirmed automatically at");
    browser.click("#extend");
    browser.wait_text("#notice", "You have more time.");
    browser.wait_gone("#extend");
    browser.click("#confirm");
    is_in_state(&browser, "completed");
    assert_eq!(browser.count(".actions button"), 0);
    browser.assert_content(&[]);
}

/// The service may have other data than when one logged in: one must be able to leave.
pub fn an_account_that_is_gone(stage: &Stage) {
    let server = Server::start(&[]);
    let (browser, user) = reader(stage, &server);
    server.client().unregister(&user).ok();
    browser.click("#go-orders");
    browser.wait_text("#main", "There is no such user.");
    browser.click("#logout");
    browser.wait("#go-login");
    browser.wait_text("#notice", "You are logged out.");
    browser.assert_content(&[("/buyer/query_buyer_all_orders", 511), ("/auth/logout", 401)]);
}

/// Whatever people write is shown as they wrote it, and found again.
pub fn what_people_write_is_text(stage: &Stage) {
    let server = Server::start(&[]);
    let client = server.client();
    let user = client.new_user("a/b?c#d%25 <i>&amp;</i>");
    let (store, id) = ("<s>/../%2f#?&'\"", "1/2 %? &lt;#");
    let title = "<img src=x onerror=alert(1)> </script> {user} ${1} &copy;";
    client.create_store(&user, store).ok();
    let info = json!({"id": id, "title": title, "price": 9_007_199_254_740_993_i64, "tags": ["<b>tag</b>"], "pictures": ["javascript:1"]});
    client.add_book(&user, store, info, 3).ok();

    let browser = visit(stage, &server, "en-US");
    enter(&browser, &user, "login");
    search(&browser, "onerror");
    browser.wait_text(".card h2", title);
    browser.wait_text(".card", "<b>tag</b>");
    // To the fen, though a number of a script ends before.
    browser.wait_text(".card", "¥90,071,992,547,409.93");
    browser.click(".card h2 a");
    browser.wait_text("h1", title);
    assert_eq!(browser.count("#main img, #main b, #main i, #main s"), 0);
    browser.click("#add");
    browser.wait_text("#notice", title);
    browser.click("#go-basket");
    browser.wait_text("#main", store);
    // Nobody can order for as much; and what an order costs is told before it is paid.
    client.set_price(&user, store, id, 450).ok();
    browser.click("#order-0");
    is_in_state(&browser, "pending");
    browser.wait_text("#main", title);
    browser.wait_text("#pay", "¥4.50");
    browser.click("#go-selling");
    browser.click("#main li a");
    browser.wait_text("h1", store);
    browser.wait_text("[data-order]", &user.id);
    browser.assert_content(&[]);
}

pub fn it_fits_a_phone(stage: &Stage) {
    let server = Server::start(&[]);
    let user = User::new("a reader with a name that is long enough for two lines");
    let browser = visit(stage, &server, "zh-CN");
    browser.resize(Size::Phone);
    // The first key leads past the navigation.
    browser.press(TAB);
    assert_eq!(browser.run("return document.activeElement.id"), "skip");
    enter(&browser, &user, "register");
    open_store(&browser, "街角书店");
    list_samples(&browser);
    choose(&browser, "小说");
    for dark in [false, true] {
        browser.prefer_dark(dark);
        let shade = if dark { "dark" } else { "light" };
        for (view, place) in [
            ("home", "#/"),
            ("found", "#/search?q=小说"),
            ("book", "#/book/街角书店/1007305"),
            ("basket", "#/basket"),
            ("account", "#/account"),
            ("store", "#/store/街角书店"),
            ("orders", "#/orders"),
        ] {
            browser.run(&format!("document.getElementById('main').dataset.view = ''; location.hash = '{place}'"));
            browser.wait("#main:not([data-view='']):not([aria-busy]) h1");
            assert_eq!(browser.excess(), 0, "{view}");
            assert_accessible(&browser);
            browser.picture(&format!("{view}-{shade}"));
        }
    }
    browser.assert_content(&[("/seller/query_all_store_orders", 522)]);
}
