//! `bookstore load`: what is loaded is served as if it had always been there; what is wrong is named by its line; and
//! nothing half loaded ever has the directory's name.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bookstore::{Config, Engine, PasswordHash, PasswordParams};
use common::{Done, Server, User, bookstore, bookstore_fed, wait_until};
use serde_json::{Value, json};

const CHEAP: [&str; 4] = ["--argon2-memory-kib", "64", "--argon2-iterations", "1"];

fn cheap() -> PasswordParams {
    PasswordParams { memory_kib: 64, iterations: 1, lanes: 1 }
}

fn load(lines: &str, dir: &Path) -> Done {
    bookstore_fed(&[&"load", &CHEAP[0], &CHEAP[1], &CHEAP[2], &CHEAP[3], &"-", &dir], lines.as_bytes())
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn account(id: &str, balance: i64) -> Value {
    json!({"type": "account", "user_id": id, "password": format!("pw of {id}"), "balance": balance})
}

fn book(id: &str, stock: i64) -> Value {
    let info = json!({"id": id, "title": "米", "price": 100, "pictures": ["aGk="], "mine": [1.5]});
    json!({"type": "book", "store_id": "corner", "stock_level": stock, "book_info": info})
}

fn order(old: &str, status: &str, more: Value) -> Value {
    let mut line = json!({
        "type": "order", "order_id": old, "user_id": "buyer", "store_id": "corner", "status": status,
        "created_time": "2025-03-04T05:06:07.008Z", "books": [{"id": "b1", "count": 2, "price": 90}],
    });
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    line
}

fn with(mut line: Value, fields: &[(&str, Value)]) -> Value {
    let more = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    line.as_object_mut().unwrap().extend(more);
    line
}

/// A seller with a store, a buyer, and an order of every state.
fn shop() -> Vec<Value> {
    let hash = PasswordHash::new(b"pw of buyer", cheap()).unwrap().to_phc();
    vec![
        account("seller", 700),
        json!({"type": "account", "user_id": "buyer", "password_hash": hash, "balance": 1_000}),
        json!({"type": "store", "store_id": "corner", "user_id": "seller"}),
        json!({"type": "store", "store_id": "empty", "user_id": "seller"}),
        json!({"type": "store", "store_id": "closed", "user_id": "seller", "closed": true}),
        book("b1", 10),
        book("b2", 0),
        with(book("b3", 4), &[("price", json!(70)), ("listed", json!(false))]),
        order("old 1", "pending", json!({"deadline": "2090-01-01T00:00:00Z"})),
        order("old 2", "pending", json!({"created_time": 1_700_000_000_000u64})),
        order("old 3", "paid", json!({"paid_to": "platform"})),
        order("old 4", "paid", json!({})),
        order(
            "old 5",
            "shipped",
            json!({"paid_to": "platform", "total_price": 180, "confirm_deadline": "2090-01-01T00:00:00Z"}),
        ),
        order("old 6", "received", json!({})),
        order(
            "old 7",
            "completed",
            json!({"paid_to": "platform", "is_shipped": false, "paid_time": "2025-03-05T00:00:00Z",
                "confirmed_time": 1_741_200_000_000u64}),
        ),
        order(
            "old 8",
            "canceled",
            json!({"canceled_time": "2025-03-06T00:00:00Z", "canceled_by": "deadline", "deadline": 1_741_200_000_000u64}),
        ),
        with(book("b1", 3), &[("store_id", json!("closed"))]),
        order("old 9", "completed", json!({"store_id": "closed"})),
    ]
}

fn loaded_shop() -> Server {
    Server::start_on(&[], |dir| {
        load(&text(&shop()), dir).ok().says("2 accounts (1 passwords hashed), 3 stores, 4 books, 9 orders");
    })
}

#[test]
fn a_loaded_shop_is_served() {
    let mut server = loaded_shop();
    for _ in 0..2 {
        let client = server.client();
        let (buyer, seller) = (User::new("buyer"), User::new("seller"));
        client.login(&buyer).ok();
        client.login(&seller).ok();
        client.login(&buyer.with_password("wrong")).is(401);
        assert_eq!((client.balance(&buyer), client.balance(&seller)), (1_000, 700));
        // The order past its deadline gave its two copies back.
        assert_eq!((client.stock("corner", "b1"), client.stock("corner", "b2")), (12, 0));

        let whole = client.post("/buyer/query_book", json!({"store_id": "corner", "book_id": "b1"}));
        assert_eq!(whole.ok().body["book_info"], book("b1", 10)["book_info"], "pictures and unknown keys included");
        let search = || client.post("/search/search_books", json!({"keyword": "米", "search_scope": "title"}));
        wait_until("the books can be found", || search().status == 200);
        assert_eq!(search().ok().number("total"), 2);

        let mut elsewhere = book("b3", 4)["book_info"].clone();
        elsewhere["price"] = json!(70);
        let whole = client.post("/buyer/query_book", json!({"store_id": "corner", "book_id": "b3"}));
        assert_eq!((&whole.ok().body["book_info"], &whole.body["is_listed"]), (&elsewhere, &json!(false)));

        let orders = client.query_buyer_all_orders(&buyer).ok().orders().clone();
        let mut states: Vec<&str> = orders.iter().map(|order| order["status"].as_str().unwrap()).collect();
        assert_eq!(states.pop(), Some("canceled"), "the oldest comes last and has expired: {orders:?}");
        states.reverse();
        assert_eq!(states, ["pending", "paid", "paid", "shipped", "received", "completed", "canceled", "completed"]);
        assert_eq!(orders[0]["created_time"], "2025-03-04T05:06:07.008Z");
        assert_eq!((&orders[0]["total_price"], &orders[1]["is_shipped"]), (&json!(180), &json!(false)));
        let order = |place: usize| {
            let id = orders[place]["order_id"].as_str().unwrap();
            client.seller_order(&seller, id).ok().body["order"].clone()
        };
        // A time that was not given is that of the step before.
        let (completed, canceled) = (&order(2)["history"], &order(1)["history"]);
        assert_eq!(completed["placed"]["time"], "2025-03-04T05:06:07.008Z");
        assert_eq!(completed["paid"], json!({"time": "2025-03-05T00:00:00.000Z", "by": "buyer"}));
        assert_eq!(completed["confirmed"], json!({"time": "2025-03-05T18:40:00.000Z", "by": "buyer"}));
        assert_eq!((&completed["shipped"], &completed["canceled"]), (&Value::Null, &Value::Null));
        assert_eq!(canceled["canceled"], json!({"time": "2025-03-06T00:00:00.000Z", "by": "deadline"}));
        assert_eq!(order(4)["confirm_deadline"], "2090-01-01T00:00:00.000Z");
        assert_eq!(order(4)["history"]["shipped"], json!({"time": "2025-03-04T05:06:07.008Z", "by": "seller"}));
        assert_eq!(client.order_count("buyer"), 9);
        let of_store = client.query_all_store_orders(&seller);
        assert_eq!(of_store.ok().body["orders"]["corner"].as_array().unwrap().len(), 8);
        assert_eq!(of_store.body["orders"]["empty"], json!([]));
        assert_eq!(of_store.body["orders"]["closed"].as_array().unwrap().len(), 1);
        client.new_order(&client.logged_in(&buyer), "closed", &[("b1", 1)]).refused(513, "closed");
        server.kill9();
        server.restart();
    }
}

#[test]
fn loaded_orders_go_on() {
    let server = loaded_shop();
    let client = server.client();
    let (buyer, seller) = (client.logged_in(&User::new("buyer")), client.logged_in(&User::new("seller")));
    let orders = client.query_buyer_all_orders(&buyer).ok().orders().clone();
    let ids: Vec<&str> = orders.iter().rev().map(|order| order["order_id"].as_str().unwrap()).collect();
    let [_, pending, by_platform, direct, shipped, received, completed, canceled, _] = ids[..] else {
        panic!("{ids:?}")
    };
    client.payment(&buyer, pending).ok();
    client.ship(&seller, "corner", by_platform).ok();
    assert_eq!((client.balance(&buyer), client.balance(&seller)), (820, 880));
    client.confirm(&buyer, by_platform).ok();
    assert_eq!(client.balance(&seller), 1_060, "the platform held the money");
    client.confirm(&buyer, direct).ok();
    assert_eq!(client.balance(&seller), 1_060, "the seller had the money");
    client.confirm(&buyer, shipped).ok();
    client.confirm(&buyer, received).ok();
    assert_eq!(client.balance(&seller), 1_240);
    client.confirm(&buyer, completed).is(528);
    client.payment(&buyer, canceled).is(526);
    // And the shop itself: new orders, books, users.
    client.order(&buyer, "corner", &[("b1", 12)]);
    client.new_order(&buyer, "corner", &[("b1", 1)]).is(517);
    client.add_book(&seller, "corner", common::book("b1", 5), 1).is(516);
    client.add_book(&seller, "empty", common::book("b1", 5), 1).ok();
    client.create_store(&buyer, "corner").is(514);
    client.register(&User::new("buyer")).is(512);
    client.new_user("third");
}

/// Its money is where it was, and its history says that it was paid.
#[test]
fn a_refunded_order_is_loaded_as_one() {
    let refunded = json!({"paid_time": "2025-03-05T00:00:00Z", "canceled_time": "2025-03-06T00:00:00Z"});
    let mut lines = shop();
    lines.push(order("old 10", "canceled", refunded.clone()));
    lines.push(order("old 11", "canceled", json!({"paid_to": "platform", "paid_time": refunded["paid_time"]})));
    let mut server = Server::start_on(&[], |dir| {
        load(&text(&lines), dir).ok().says("11 orders");
    });
    let client = server.client();
    let buyer = User::new("buyer");
    assert_eq!((client.balance(&buyer), client.balance(&User::new("seller"))), (1_000, 700));
    let orders = client.query_buyer_all_orders(&buyer).ok().orders().clone();
    for (element, paid_to) in [(&orders[1], "seller"), (&orders[0], "platform")] {
        assert_eq!((&element["status"], &element["is_paid"]), (&json!("canceled"), &json!(false)));
        let id = element["order_id"].as_str().unwrap();
        let whole = client.buyer_order(&buyer, id).ok().body["order"].clone();
        assert_eq!(whole["paid_to"], paid_to);
        assert_eq!(whole["history"]["paid"]["time"], "2025-03-05T00:00:00.000Z");
        client.refund(&buyer, id).refused(521, id);
        client.payment(&buyer, id).refused(526, id);
    }
    assert!(server.sigterm().success());
    bookstore(&[&"check", &server.data_dir()]).ok();
}

#[test]
fn the_audit_finds_a_loaded_directory_conserved_and_its_documents_whole() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("deep/er/data");
    load(&text(&shop()), &dir).ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Engine::open(Config::directory(&dir)).await.unwrap();
        let report = engine.audit().await.unwrap();
        assert!(report.is_conserved(), "{report:?}");
        assert_eq!((report.balances, report.escrow), (1_700, 360));
        let document = engine.book("corner", "b1").await.unwrap().document;
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document, book("b1", 10)["book_info"], "as it was, pictures and unknown keys included");
        engine.close().await.unwrap();
    });
}

#[test]
fn new_order_ids_are_told() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, ids) = (parent.path().join("data"), parent.path().join("ids.jsonl"));
    let done =
        bookstore_fed(&[&"load", &"-", &dir, &"--order-ids", &ids, &CHEAP[0], &CHEAP[1]], text(&shop()).as_bytes());
    done.ok();
    let told: Vec<Value> =
        fs::read_to_string(&ids).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 9);
    assert_eq!(told[3]["order_id"], "old 4");
    assert_eq!(told[3]["new_order_id"].as_str().unwrap().len(), 36);

    // A load that fails leaves no file that tells of orders that are nowhere.
    let (dir, ids) = (parent.path().join("other"), parent.path().join("others.jsonl"));
    bookstore_fed(&[&"load", &"-", &dir, &"--order-ids", &ids], b"{}").ends_with_status(1);
    assert!(!ids.exists() && !dir.exists());
}

/// One wrong line behind a good shop: its number, and words that say what is wrong.
#[test]
fn a_wrong_line_is_named_and_nothing_is_loaded() {
    let good = shop();
    let number = good.len() + 1;
    let hash = PasswordHash::new(b"p", cheap()).unwrap().to_phc();
    let with = |line: Value, field: &str, value: Value| with(line, &[(field, value)]);
    let without = |mut line: Value, field: &str| {
        line.as_object_mut().unwrap().remove(field);
        line
    };
    // Clocks differ, but an order that is ahead of the service's would be paid before it was placed.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let ahead = json!(now + 3_600_000);
    let cases: Vec<(Value, &str)> = vec![
        (order("n", "pending", json!({"created_time": ahead})), "created_time: must be a time after 1970 and not in"),
        (order("n", "paid", json!({"paid_time": ahead})), "paid_time: must not be before the step before it, nor in"),
        (order("n", "shipped", json!({"shipped_time": ahead})), "shipped_time: must not be before"),
        (order("n", "completed", json!({"confirmed_time": ahead})), "confirmed_time: must not be before"),
        (order("n", "canceled", json!({"canceled_time": ahead})), "canceled_time: must not be before"),
        (json!([]), "is not a JSON object"),
        (json!({}), "type: is missing"),
        (json!({"type": "user"}), "type: must be account, store, book or order"),
        (json!({"type": 1}), "type: must be a string"),
        (with(account("x", 1), "balence", json!(1)), "unknown field `balence`"),
        (with(account("x", 1), "store_id", json!("s")), "store_id: does not belong"),
        (account("", 1), "user_id: must not be empty"),
        (account(&"x".repeat(257), 1), "user_id: must be at most 256 bytes"),
        (account("a\nb", 1), "user_id: must not contain control"),
        (account("buyer", 1), "there is an account \"buyer\" already"),
        (account("x", -1), "balance: must be 0 or more"),
        (with(account("x", 1), "balance", json!(1.5)), "balance: must be an integer"),
        (with(account("x", 1), "balance", json!(1i64 << 62)), "balance: the sum of all balances"),
        (without(account("x", 1), "password"), "password: is missing"),
        (with(account("x", 1), "password", json!("")), "password: must not be empty"),
        (with(account("x", 1), "password", json!("x".repeat(1025))), "password: must be at most 1024 bytes"),
        (with(account("x", 1), "password_hash", json!(hash)), "stands beside password_hash"),
        (
            json!({"type": "account", "user_id": "x", "password_hash": "$2b$12$abc"}),
            "password_hash: invalid password hashing parameters: must begin with `$argon2id$`",
        ),
        (json!({"type": "store", "store_id": "s", "user_id": "nobody"}), "no account \"nobody\" came before"),
        (json!({"type": "store", "store_id": "corner", "user_id": "buyer"}), "there is a store \"corner\" already"),
        (json!({"type": "store", "user_id": "buyer"}), "store_id: is missing"),
        (json!({"type": "store", "store_id": "s", "user_id": "buyer", "closed": 1}), "closed: must be true or false"),
        (order("n", "pending", json!({"store_id": "closed"})), "status: the store is closed"),
        (order("n", "shipped", json!({"store_id": "closed"})), "status: the store is closed"),
        (book("b1", 1), "there is a book \"b1\" in this store already"),
        (book("b4", -1), "stock_level: must be 0 or more"),
        (with(book("b4", 1), "price", json!(-1)), "price: must be 0 or more"),
        (with(book("b4", 1), "listed", json!("no")), "listed: must be true or false"),
        (with(account("x", 1), "listed", json!(true)), "listed: does not belong"),
        (with(book("b4", 1), "store_id", json!("nowhere")), "no store \"nowhere\" came before"),
        (with(book("b4", 1), "book_info", json!({"id": "b4", "price": 1})), "title: is missing"),
        (with(book("b4", 1), "book_info", json!({"id": "b4", "title": "t", "price": -1})), "price: must be 0 or more"),
        (order("old 1", "paid", json!({})), "there is an order \"old 1\" already"),
        (order("n", "lost", json!({})), "status: must be pending, paid"),
        (order("n", "paid", json!({"user_id": "nobody"})), "no account \"nobody\""),
        (order("n", "paid", json!({"store_id": "nowhere"})), "no store \"nowhere\""),
        (order("n", "paid", json!({"books": [{"id": "b9", "count": 1, "price": 1}]})), "the store has no book \"b9\""),
        (order("n", "paid", json!({"books": [{"id": "b1", "count": 0, "price": 1}]})), "count: must be 1 or more"),
        (order("n", "paid", json!({"books": [{"id": "b1", "count": 1}]})), "price: is missing"),
        (
            order("n", "paid", json!({"books": [{"id": "b1", "count": 1, "prize": 1}]})),
            "books: must be a list of objects",
        ),
        (
            order(
                "n",
                "paid",
                json!({"books": [{"id": "b1", "count": 1, "price": 1}, {"id": "b1", "count": 1, "price": 1}]}),
            ),
            "stands on two lines",
        ),
        (order("n", "paid", json!({"books": [{"id": "b1", "count": 2, "price": 1i64 << 52}]})), "below 2^53"),
        (order("n", "paid", json!({"books": [{"id": "b1", "count": i64::MAX, "price": 0}]})), "would overflow"),
        (order("n", "paid", json!({"total_price": 179})), "total_price: is 179, but the lines come to 180"),
        (order("n", "paid", json!({"paid_to": "me"})), "paid_to: must be"),
        (order("n", "paid", json!({"is_shipped": true})), "is_shipped: does not fit"),
        (order("n", "shipped", json!({"is_shipped": false})), "is_shipped: does not fit"),
        (order("n", "pending", json!({"paid_time": "2025-04-01T00:00:00Z"})), "paid_time: does not fit"),
        (order("n", "paid", json!({"shipped_time": "2025-04-01T00:00:00Z"})), "shipped_time: does not fit"),
        (order("n", "shipped", json!({"confirmed_time": 1_750_000_000_000u64})), "confirmed_time: does not fit"),
        (order("n", "paid", json!({"canceled_time": 1_750_000_000_000u64})), "canceled_time: does not fit"),
        (order("n", "paid", json!({"canceled_by": "buyer"})), "canceled_by: does not fit"),
        (order("n", "canceled", json!({"canceled_by": "deadline"})), "canceled_by: does not fit"),
        (order("n", "canceled", json!({"canceled_by": "me"})), "canceled_by: must be"),
        (
            order(
                "n",
                "canceled",
                json!({"paid_time": 1_742_000_000_000u64, "canceled_by": "deadline",
                "canceled_time": 1_750_000_000_000u64}),
            ),
            "canceled_by: does not fit",
        ),
        (
            order("n", "canceled", json!({"paid_time": 1_750_000_000_000u64, "canceled_time": 1_742_000_000_000u64})),
            "canceled_time: must not be before",
        ),
        (order("n", "paid", json!({"paid_time": "soon"})), "paid_time: must be a time"),
        (order("n", "paid", json!({"paid_time": "2025-03-04T05:06:07.007Z"})), "paid_time: must not be before"),
        (order("n", "paid", json!({"paid_time": "2999-01-01T00:00:00Z"})), "paid_time: must not be before"),
        (
            order("n", "shipped", json!({"paid_time": 1_750_000_000_000u64, "shipped_time": 1_740_000_000_000u64})),
            "shipped_time: must not be before",
        ),
        (
            order("n", "shipped", json!({"paid_to": "platform", "confirm_deadline": 1_700_000_000_000u64})),
            "confirm_deadline: is only for",
        ),
        (order("n", "shipped", json!({"confirm_deadline": 1_750_000_000_000u64})), "confirm_deadline: is only for"),
        (
            order("n", "paid", json!({"paid_to": "platform", "confirm_deadline": 1_750_000_000_000u64})),
            "confirm_deadline: is only for",
        ),
        (order("n", "paid", json!({"created_time": "yesterday"})), "created_time: must be a time"),
        (
            order("n", "paid", json!({"created_time": "2999-01-01T00:00:00Z"})),
            "created_time: must be a time after 1970",
        ),
    ];
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    for (line, why) in cases {
        let mut lines = good.clone();
        lines.push(line.clone());
        let done = load(&text(&lines), &dir).ends_with_status(1).says(&format!("line {number}: ")).says(why);
        assert!(done.stderr.contains("wrong lines: 1; nothing was loaded"), "{line}: {}", done.stderr);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0, "{line} left something");
    }
    load("{\"type\":\"account\",", &dir).ends_with_status(1).says("line 1: ").says("EOF");
    bookstore_fed(&[&"load", &"-", &dir], b"\xff\xfe\n").ends_with_status(1).says("line 1: is not UTF-8");
}

#[test]
fn several_wrong_lines_are_told_together_and_not_for_ever() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    load("{\"type\":\"a\"}\n\n{\"type\":\"b\"}\n", &dir).ends_with_status(1).says("line 1: ").says("line 3: ");
    let done = load(&"nonsense\n".repeat(1_000), &dir).ends_with_status(1).says("wrong lines: 20 or more");
    assert!(!done.stderr.contains("line 21:"), "{}", done.stderr);
}

#[test]
fn a_directory_with_something_in_it_is_refused_and_an_empty_one_is_filled() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    fs::create_dir(&dir).unwrap();
    load(&text(&shop()), &dir).ok();
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names(&dir);
    let told = load(&text(&shop()), &dir).ends_with_status(1).says("not empty");
    assert!(!told.stderr.contains("mode"), "{}", told.stderr);
    assert_eq!(names(&dir), before);
    assert_eq!(names(parent.path()), ["data"]);
}

/// Programs of Windows begin a file with a mark that no editor shows, and end lines in their own way.
#[test]
fn a_file_from_windows_is_loaded() {
    let parent = tempfile::tempdir().unwrap();
    let lines = text(&shop());
    let windows = format!("\u{feff}{}", lines.replace('\n', "\r\n"));
    load(&windows, &parent.path().join("data")).ok().says("3 stores, 4 books, 9 orders");
    // In the middle of a file it is an error as any other.
    let twice = format!("{lines}\u{feff}{{}}\n");
    load(&twice, &parent.path().join("other")).ends_with_status(1).says("line 19: is not a JSON object");
}

#[test]
fn wrong_usage_is_told_as_such() {
    bookstore(&[&"load"]).ends_with_status(2);
    let done = bookstore(&[&"load", &"only one"]).ends_with_status(2).says("directory to make");
    done.says("bookstore load [OPTIONS] <FILE> <DIR>");
    bookstore(&[&"load", &"--generate", &"users=1", &"a", &"b"]).ends_with_status(2).says("directory alone");
    bookstore(&[&"load", &"--generate", &"users", &"a"]).ends_with_status(2);
    bookstore(&[&"load", &"--generate", &"users=1,users=2", &"a"])
        .ends_with_status(2)
        .says("`users` stands there twice");
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    bookstore(&[&"load", &parent.path().join("no file"), &dir]).ends_with_status(1).says("cannot open");
    assert!(!dir.exists());
}

/// While stdin is silent, too: SIGINT ends it, and nothing is left.
#[test]
fn a_signal_leaves_nothing_behind() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let mut child =
        common::tool::command(&[&"load", &"-", &dir]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", account("x", 1)).unwrap();
    wait_until("it begins", || fs::read_dir(parent.path()).unwrap().count() == 1);
    std::thread::sleep(Duration::from_millis(200));
    assert!(!dir.exists());
    let status = Command::new("/bin/kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    drop(stdin);
}

#[test]
fn made_up_data_is_the_same_for_the_same_seed_and_is_served() {
    let spec = "users=40,stores=4,books=30,orders=200";
    let make = |dir: &Path, seed: &str| {
        bookstore(&[
            &"load",
            &"--quiet",
            &"--generate",
            &spec,
            &"--seed",
            &seed,
            &dir,
            &CHEAP[0],
            &CHEAP[1],
            &CHEAP[2],
            &CHEAP[3],
        ])
        .ok()
        .stderr
    };
    let hash = |dir: &Path| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let engine = Engine::open(Config::directory(dir)).await.unwrap();
            let report = engine.audit().await.unwrap();
            assert!(report.is_conserved(), "{report:?}");
            assert_eq!((report.accounts, report.stores, report.orders), (40, 4, 200));
            engine.close().await.unwrap();
            report.state_hash
        })
    };
    let parent = tempfile::tempdir().unwrap();
    let [one, two, other] = ["one", "two", "other"].map(|name| parent.path().join(name));
    assert_eq!(make(&one, "1"), "", "--quiet says nothing");
    make(&two, "1");
    make(&other, "2");
    let first = hash(&one);
    assert_eq!(first, hash(&two));
    assert_ne!(first, hash(&other));

    let server = Server::start_on(&[], |dir| {
        make(dir, "7");
    });
    let client = server.client();
    let user = |number: u64| User::new(&format!("user{number}")).with_password("password");
    let (first, last) = (client.logged_in(&user(0)), client.logged_in(&user(39)));
    assert_eq!(client.balance(&last), 10_000_000);
    assert_eq!(client.stock("store0", "book0"), 10_000);
    let order = client.order(&last, "store3", &[("book0", 1)]);
    client.payment(&last, &order).ok();
    client.add_stock_level(&first, "store0", "book1", 5).ok();
    let orders = client.query_all_store_orders(&first);
    assert!(!orders.ok().body["orders"]["store0"].as_array().unwrap().is_empty());
}

/// The times of a loaded order that waits for its confirmation are the loader's; the service takes them up.
#[test]
fn a_loaded_order_whose_time_has_come_is_confirmed_at_the_start() {
    let mut lines = shop();
    lines.push(order("due", "shipped", json!({"paid_to": "platform", "confirm_deadline": 1_750_000_000_000u64})));
    let server = Server::start_on(&[], |dir| {
        load(&text(&lines), dir).ok();
    });
    let client = server.client();
    let seller = User::new("seller");
    wait_until("the seller is paid", || client.balance(&seller) == 700 + 180);
    let listed = client.query_one_store_orders(&seller, "corner");
    let completed = listed.orders().iter().filter(|order| order["status"] == "completed");
    let by: Vec<_> = completed
        .map(|order| {
            let answer = client.seller_order(&seller, order["order_id"].as_str().unwrap());
            answer.ok().body["order"]["history"]["confirmed"]["by"].clone()
        })
        .collect();
    assert_eq!(by, [json!("deadline"), json!("buyer")]);
}
