//! A whole day with secrets that nobody could mistake for anything else, at the most talkative level there is. Then
//! everything that was said and written is searched for them: log, answers, metrics, every file of the data directory.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bookstore::offline::{LoadAccount, LoadOptions, LoadPassword, Loader};
use bookstore::{Config, PasswordHash};
use common::service::Service;
use common::{Client, Conn, Shop, User, book, request};
use serde_json::{Value, json};
use tempfile::TempDir;

/// In every one of them, and in nothing else.
const MARK: &str = "Zq9xSeCrEtvK7";

/// All that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(hay, needle).is_some()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The ways in which these bytes could stand in a text or a file.
fn spellings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let list = format!("{bytes:?}");
    let lower = hexadecimal(bytes);
    vec![
        bytes.to_vec(),
        lower.to_uppercase().into_bytes(),
        lower.into_bytes(),
        list.as_bytes()[1..list.len() - 1].to_vec(),
    ]
}

#[track_caller]
fn assert_clean(what: &str, hay: &[u8], secrets: &[(String, Vec<u8>)]) {
    for (name, secret) in secrets {
        for spelling in spellings(secret) {
            assert!(!contains(hay, &spelling), "{name} is in {what}");
        }
    }
}

fn user(id: &str) -> User {
    User::new(id).with_password(&format!("{MARK} of {id}"))
}

/// Every kind of request, also those that fail, and those that are no request. Gives all tokens that were given, and all
/// answers but those that give one.
fn a_day(client: &Client, port: u16) -> (Vec<String>, Vec<u8>) {
    let mut tokens = Vec::new();
    let mut answers = Vec::new();
    let mut login = |user: &User| {
        let user = user.with_token(&client.login(user).ok().text("token"));
        tokens.push(user.token.clone());
        user
    };
    let (seller, buyer) = (user("seller"), user("buyer"));
    client.register(&seller).ok();
    client.register(&buyer).ok();
    let (seller, buyer) = (login(&seller), login(&buyer));
    client.create_store(&seller, "store").ok();
    client.add_book(&seller, "store", book("b", 100), 100).ok();
    client.add_stock_level(&seller, "store", "b", 1).ok();
    client.add_funds(&buyer, 10_000).ok();
    for pay in ["/buyer/payment", "/buyer/pay_to_platform"] {
        let order = client.order(&buyer, "store", &[("b", 1)]);
        client.try_on_order(pay, &buyer, &order).unwrap().ok();
        client.ship(&seller, "store", &order).ok();
        client.confirm(&buyer, &order).ok();
        client.order_status(&buyer, &order).ok();
    }
    let order = client.order(&buyer, "store", &[("b", 1)]);
    client.cancel(&buyer, &order).ok();
    client.query_one_store_orders(&seller, "store").ok();
    client.query_all_store_orders(&seller).ok();
    client.query_buyer_all_orders(&buyer).ok();

    // What is refused must not tell what it was refused for.
    let mut refused = |answer: common::Answer| {
        assert_ne!(answer.status, 200, "{}: {}", answer.path, answer.body);
        answers.extend(answer.body.to_string().into_bytes());
        answers.extend(format!("{:?}", answer.headers).into_bytes());
    };
    let wrong = buyer.with_password(&format!("{MARK} wrong"));
    refused(client.login(&wrong));
    refused(client.login(&wrong.with_id("nobody")));
    refused(client.query_balance(&wrong));
    refused(client.payment(&wrong, &order));
    refused(client.change_password(&wrong, &format!("{MARK} new")));
    refused(client.register(&buyer));
    refused(client.register(&user("long").with_password(&MARK.repeat(200))));
    refused(client.create_store(&seller.with_token(&format!("{MARK}.{MARK}.{MARK}")), "x"));
    refused(client.create_store(&buyer.with_token(&seller.token), "x"));
    refused(client.logout(&buyer.with_token(&format!("Bearer {}", buyer.token))));
    for value in [json!([MARK]), json!({MARK: MARK}), json!({"a": [MARK]})] {
        refused(client.post("/auth/login", json!({"user_id": "buyer", "password": value})));
        refused(
            client
                .post("/buyer/add_funds", json!({"user_id": "buyer", "password": buyer.password, "add_value": value})),
        );
    }
    for body in [
        format!(r#"{{"user_id": "buyer", "password": "{MARK}"#),
        format!(r#"{{"user_id": "buyer", "password": "{MARK}\ud800"}}"#),
        format!(r#"{{"user_id": "buyer", "password": {MARK}}}"#),
        format!(r#"{{"user_id": "buyer", "password": "{MARK}", "password": "{MARK}"}}"#),
        format!("user_id=buyer&password={MARK}"),
        format!("\"{MARK}\""),
    ] {
        refused(client.post_bytes("/auth/login", body.as_bytes()));
        refused(client.post_bytes("/auth/password", body.as_bytes()));
    }
    // Malformed and misplaced, with a secret in each place.
    for bytes in [
        request("GET", &format!("/{MARK}"), &[("token", &buyer.token)], b""),
        request("POST", &format!("/auth/login?password={MARK}"), &[("token", &buyer.token)], b"{}"),
        request("PUT", "/auth/login", &[("authorization", &format!("Basic {MARK}"))], MARK.as_bytes()),
        format!("POST /auth/login HTTP/1.1\r\ntoken : {MARK}\r\n\r\n").into_bytes(),
        format!("{MARK} {MARK}\r\n\r\n").into_bytes(),
        format!(
            "POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\ntoken: {MARK}\r\n\r\n"
        )
        .into_bytes(),
        format!("POST /auth/login HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{MARK}\r\n").into_bytes(),
    ] {
        let response = client.another().send(&bytes).unwrap();
        answers.extend(&response.body);
        answers.extend(format!("{:?}", response.headers).into_bytes());
    }
    // A client that goes away in the middle.
    let body = json!({"user_id": "buyer", "password": buyer.password}).to_string();
    let cut = request("POST", "/buyer/query_balance", &[], body.as_bytes());
    Conn::open(port).unwrap().send(&cut[..cut.len() - 3]).unwrap();

    client.change_password(&buyer, &format!("{MARK} changed")).ok();
    let buyer = login(&buyer.with_password(&format!("{MARK} changed")));
    client.logout(&buyer).ok();
    let gone = user("gone");
    client.register(&gone).ok();
    client.unregister(&gone).ok();
    answers.extend(client.get("/metrics").body);
    answers.extend(client.get("/openapi.json").body);
    (tokens, answers)
}

/// Every file, and the pages of the databases with them. The key of the tokens may stand in its own file only.
fn assert_files_clean(data: &Path, secrets: &[(String, Vec<u8>)]) {
    let files = common::files::content(data);
    assert!(files.keys().any(|path| path.extension().is_some_and(|extension| extension == "snap")), "{files:?}");
    assert!(files.keys().any(|path| path.extension().is_some_and(|extension| extension == "seg")));
    for (path, bytes) in &files {
        if !path.ends_with("token.key") {
            assert_clean(&path.display().to_string(), bytes, secrets);
        }
    }
}

fn named(tokens: Vec<String>) -> Vec<(String, Vec<u8>)> {
    let mut secrets = vec![("a password".to_owned(), MARK.as_bytes().to_vec())];
    for token in tokens {
        // The signature is what makes it one.
        let signature = token.rsplit('.').next().unwrap().as_bytes().to_vec();
        secrets.push(("a token".into(), token.into_bytes()));
        secrets.push(("a token's signature".into(), signature));
    }
    secrets
}

/// The argon2id hash that a loaded user has: known to the byte, so it can be looked for.
const SALT: [u8; 16] = *b"\x91\xa2\xb3\xc4\xd5\xe6\xf7\x08\x19\x2a\x3b\x4c\x5d\x6e\x7f\x90";
const HASH: [u8; 32] =
    *b"\xf1\xe2\xd3\xc4\xb5\xa6\x97\x88\x79\x6a\x5b\x4c\x3d\x2e\x1f\x0f\xf0\xe1\xd2\xc3\xb4\xa5\x96\x87\x78\x69\x5a\x4b\x3c\x2d\x1e\x0d";

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            text.push(LETTERS[(number >> (18 - 6 * place) & 63) as usize].into());
        }
    }
    text
}

#[test]
fn no_secret_is_logged_answered_counted_or_written_at_any_level() {
    let log = Log::default();
    let sink = log.clone();
    // The level that shows everything, of every crate.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || sink.clone())
        .init();
    let parent = TempDir::new().unwrap();
    let data = parent.path().join("data");
    let phc =
        PasswordHash::from_phc(&format!("$argon2id$v=19$m=8,t=1,p=1${}${}", base64(&SALT), base64(&HASH))).unwrap();
    let mut loader = Loader::begin(&data, LoadOptions::default()).unwrap();
    let account = LoadAccount { user_id: "loaded", password: LoadPassword::Hash(phc), balance: 5 };
    loader.account(&account).unwrap();
    loader.finish().unwrap();

    let mut config = Config::directory(&data);
    (config.password_params.memory_kib, config.password_params.iterations) = (8, 1);
    // Less to search.
    config.segment_bytes = 16 << 20;
    let service = Service::start_with(config.clone(), |_| {});
    let client = Client::new(service.address.port());
    let (tokens, mut answers) = a_day(&client, service.address.port());
    client.login(&user("loaded")).unauthorised();
    service.run(service.engine.snapshot()).unwrap();
    client.register(&user("after the snapshot")).ok();
    answers.extend(format!("{:?} {:?}", service.engine, service.engine.stats()).into_bytes());
    service.run(service.engine.close()).unwrap();
    answers.extend(
        client.post("/auth/login", json!({"user_id": "seller", "password": MARK})).body.to_string().into_bytes(),
    );
    drop(service);
    // The next start reads what the day wrote, and says what it found.
    let service = Service::start_with(config, |_| {});
    Client::new(service.address.port()).login(&user("seller")).ok();
    drop(service);

    let mut secrets = named(tokens);
    assert!(secrets.len() > 5);
    assert_files_clean(&data, &secrets);
    secrets.push(("the token key".into(), std::fs::read(data.join("token.key")).unwrap()));
    for path in common::files::content(&data).keys().filter(|path| !path.ends_with("token.key")) {
        assert_clean(&path.display().to_string(), &std::fs::read(path).unwrap(), &secrets[secrets.len() - 1..]);
    }
    // Salted hashes are in the files, that is their place. Nowhere else.
    for (name, secret) in [("a salt", &SALT[..]), ("a hash", &HASH[..])] {
        secrets.push((name.into(), secret.to_vec()));
        secrets.push((name.into(), base64(secret).into_bytes()));
    }
    assert!(
        contains(&std::fs::read(common::files::files(&data, ".snap").pop().unwrap()).unwrap(), &HASH),
        "the search finds"
    );
    let log = log.0.lock().unwrap();
    assert!(contains(&log, b"TRACE") || contains(&log, b"DEBUG"), "nothing was logged, so nothing was searched");
    assert_clean("the log", &log, &secrets);
    assert_clean("an answer", &answers, &secrets);
}

/// The program itself: both streams, both formats, tools included.
#[test]
fn the_program_prints_no_secret() {
    for format in ["text", "json"] {
        let mut shop =
            Shop::open(&["--log-format", format, "--snapshot-interval", "1s", "--segment-bytes", "16777216"]);
        let (tokens, answers) = a_day_in(&shop);
        assert!(shop.server.sigterm().success());
        let mut secrets = named(tokens);
        assert_files_clean(&shop.server.data_dir(), &secrets);
        let data = shop.server.data_dir();
        secrets.push(("the token key".into(), std::fs::read(data.join("token.key")).unwrap()));
        assert_clean("what the program printed", shop.server.output().as_bytes(), &secrets);
        assert_clean("an answer", &answers, &secrets);
        for file in common::files::files(&data, ".snap").iter().chain(&common::files::files(&data, ".seg")) {
            let shown = common::bookstore(&[&"inspect", file]);
            assert_clean("what inspect shows", shown.stdout.as_bytes(), &secrets);
            let hashes = shown.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            assert!(hashes.into_iter().all(|line| !line.to_string().contains("argon2id$")), "a hash without --secrets");
        }
        shop.server.restart();
    }
}

fn a_day_in(shop: &Shop) -> (Vec<String>, Vec<u8>) {
    // The shop has users of these names.
    for id in [&shop.seller, &shop.buyer] {
        assert_eq!(shop.client.login(id).status, 200);
    }
    let client = shop.server.client();
    let mut tokens = Vec::new();
    let user = user("distinct");
    client.register(&user).ok();
    tokens.push(client.login(&user).ok().text("token"));
    let mut answers = client.login(&user.with_password(&format!("{MARK} wrong"))).body.to_string().into_bytes();
    let user = user.with_token(&tokens[0]);
    client.create_store(&user, "distinct").ok();
    answers.extend(client.create_store(&user.with_token(MARK), "x").body.to_string().into_bytes());
    answers.extend(client.create_store(&user.with_token(""), "x").body.to_string().into_bytes());
    (tokens, answers)
}
