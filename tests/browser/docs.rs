//! `/docs`: the description of the API, drawn, and a form for each route that sends what one wants to try.

use std::process::Command;

use serde_json::Value;

use crate::Stage;
use crate::access::assert_accessible;
use crate::common::{Server, User};
use crate::webdriver::Size;

fn at(server: &Server, place: &str) -> String {
    format!("http://127.0.0.1:{}/docs{place}", server.port())
}

pub fn every_route_is_told(stage: &Stage) {
    let server = Server::start(&[]);
    let document = server.client().get("/openapi.json").json();
    let verbs = document["paths"].as_object().unwrap().values().map(|verbs| verbs.as_object().unwrap());
    let operations: Vec<&Value> = verbs.flat_map(|verbs| verbs.values()).collect();
    let browser = stage.browser("en-US");
    browser.goto(&at(&server, "#buyer_new_order"));

    let route = "#buyer_new_order[open]";
    browser.wait_text(&format!("{route} summary"), "Place an order");
    browser.wait_text(&format!("{route} .body"), "All or nothing: stock is taken for every line or for none.");
    browser.wait_text(&format!("{route} .body"), "books[].count");
    browser.wait_text(&format!("{route} .body"), "stock level low, book id {book_id}");
    browser.wait_text(&format!("{route} .body"), "What comes next: /buyer/");
    browser.wait_text("#found", &format!("{} routes", operations.len()));
    browser.picture("route");

    // Each of them can be drawn, with all its codes.
    browser.run("document.querySelectorAll('.route').forEach(route => { route.open = true })");
    for operation in &operations {
        let id = operation["operationId"].as_str().unwrap();
        browser.wait(&format!("#{id} .try button[type=submit]"));
        let codes = browser.run(&format!(
            "return [...document.querySelectorAll('#{id} [aria-label=Codes] tbody th')].map(code => code.textContent)"
        ));
        let told: Vec<&str> = operation["responses"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(codes, serde_json::json!(told), "{id}");
        assert_eq!(browser.count(&format!("#{id} .body")), 1, "{id}");
    }

    // Keys come to a table that scrolls, and pass by the others.
    assert_eq!(browser.count("#auth_login .scroll[tabindex], #auth_login pre[tabindex]"), 0);
    browser.run("document.querySelector('#auth_login .scroll').style.width = '4rem'");
    browser.wait("#auth_login .scroll[tabindex='0']");
    browser.run("document.querySelector('#auth_login .scroll').style.width = ''");
    browser.wait_gone("#auth_login .scroll[tabindex]");

    // By a code and a word; a link leads to what the filter hides.
    browser.fill("#filter", "517 stock");
    browser.wait_text("#found", &format!("1 of {} routes", operations.len()));
    browser.run("location.hash = 'auth_login'");
    browser.wait_text("#found", &format!("{} routes", operations.len()));
    assert_eq!(browser.run("return document.activeElement.closest('details').id"), "auth_login");
    browser.assert_content(&[]);
}

pub fn a_route_is_tried(stage: &Stage) {
    let server = Server::start(&[]);
    let browser = stage.browser("en-US");
    browser.goto(&at(&server, "#auth_register"));
    let send = |id: &str| browser.click(&format!("#{id} .try button[type=submit]"));

    browser.fill("#auth_register-body", r#"{"user_id": "it's 卖家", "password": "pw of it's 卖家"}"#);
    send("auth_register");
    browser.wait_text("#auth_register .answer", "200 ok");
    // The link to login takes what was sent along, and login's token goes where tokens are wanted.
    let go_on = |id: &str, path: &str| {
        let css = format!("#{id} .answer button");
        browser.wait(&css);
        browser.run(&format!(
            "[...document.querySelectorAll('{css}')].find(button => button.textContent == '{path}').click()"
        ));
    };
    go_on("auth_register", "/auth/login");
    send("auth_login");
    browser.wait_text("#auth_login .answer", "200 ok");
    go_on("auth_login", "/seller/create_store");
    assert!(browser.url().ends_with("#seller_create_store"));
    send("seller_create_store");
    browser.wait_text("#seller_create_store .answer", "200 ok");
    browser.picture("tried");

    // A second time, by the key where one is, it is refused; in the same words by the shown curl command.
    browser.press("\u{e007}");
    browser.wait_text("#seller_create_store .answer", "514 exist store id corner");
    browser.wait_text("#seller_create_store .answer", "content-type: application/json");
    let shown = browser.text("#seller_create_store .curl");
    let done = Command::new("sh").args(["-c", &shown]).output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(said.ends_with(r#"{"code":514,"message":"exist store id corner"}"#), "{shown}\n{said}");

    // What is no JSON is sent as well: one may want to see what is answered.
    browser.fill("#seller_create_store-body", "{");
    send("seller_create_store");
    browser.wait_text("#seller_create_store .answer", "530 invalid parameter body");
    // The token stays for this tab.
    let token = browser.run("return document.querySelector('#seller_create_store-token').value");
    browser.reload();
    browser.wait("#seller_create_store-token");
    assert_eq!(browser.run("return document.querySelector('#seller_create_store-token').value"), token);
    browser.assert_content(&[("/seller/create_store", 514), ("/seller/create_store", 530)]);
    let seller = User::new("it's 卖家").with_token(token.as_str().unwrap());
    server.client().create_store(&seller, "corner").is(514);
}

pub fn it_fits_a_phone(stage: &Stage) {
    let server = Server::start(&[]);
    let browser = stage.browser("en-US");
    browser.resize(Size::Phone);
    for dark in [false, true] {
        browser.prefer_dark(dark);
        browser.goto(&at(&server, "#seller_add_book"));
        browser.wait("#seller_add_book[open] .try");
        assert_eq!(browser.excess(), 0);
        assert_accessible(&browser);
        browser.picture(if dark { "dark" } else { "light" });
    }
    browser.assert_content(&[]);
}
