//! What clients send: the body of every route, the bytes of a connection, tokens.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;

use bookstore::http::{HttpConfig, HttpService};
use bookstore::{Config, Credential, Engine};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use tower_service::Service as _;

use super::budget::{run, seed};
use super::common::service::{Answer as Raw, Service};
use super::common::{Answer, Response, book};
use super::mutate::{self, Random};

fn config() -> Config {
    let mut config = Config::memory();
    (config.password_params.memory_kib, config.password_params.iterations) = (8, 1);
    config.limits.throttle_user = 0;
    config.limits.throttle_address = 0;
    config
}

/// A shop with something in it, in this thread.
struct Shop {
    runtime: Runtime,
    engine: Engine,
    service: HttpService,
    token: String,
    orders: Vec<String>,
    /// Path, and names of its fields.
    routes: Vec<(String, Vec<String>)>,
}

impl Shop {
    fn open() -> Shop {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let engine = runtime.block_on(Engine::open(config())).unwrap();
        let service = HttpService::new(engine.clone(), HttpConfig::default());
        let mut shop = Shop { runtime, engine, service, token: String::new(), orders: Vec::new(), routes: Vec::new() };
        let user = json!({"user_id": "anna", "password": "anna"});
        assert_eq!(shop.post("/auth/register", user.to_string().as_bytes()).status, 200);
        let token = shop.post("/auth/login", user.to_string().as_bytes()).text("token");
        shop.token = token;
        let runtime = &shop.runtime;
        let trusted = Credential::Trusted;
        let orders = runtime.block_on(async {
            let engine = &shop.engine;
            engine.add_funds("anna", trusted, 1 << 40).await.unwrap();
            engine.create_store("anna", trusted, "store").await.unwrap();
            let document = book("b", 100).to_string();
            let listed = bookstore::NewBook { id: "b", price: 100, document: &document };
            engine.add_book("anna", trusted, "store", listed, 1 << 40).await.unwrap();
            let mut orders = Vec::new();
            for _ in 0..50 {
                let lines = [bookstore::NewLine { book_id: "b", count: 1 }];
                orders.push(engine.new_order("anna", trusted, "store", &lines).await.unwrap().to_string());
            }
            engine.search_ready().await.unwrap();
            orders
        });
        shop.orders = orders;
        let document = shop.call("GET", "/openapi.json", b"");
        let document: Value = serde_json::from_slice(&document.body).unwrap();
        for (path, operations) in document["paths"].as_object().unwrap() {
            if operations["post"].is_object() {
                let schema = &operations["post"]["requestBody"]["content"]["application/json"]["schema"];
                let fields = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
                shop.routes.push((path.clone(), fields.collect()));
            }
        }
        shop
    }

    fn call(&self, method: &str, path: &str, body: &[u8]) -> Response {
        let request = Request::builder().method(method).uri(path).header("token", &self.token);
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let response = self.runtime.block_on(async {
            let (head, body) = self.service.clone().call(request).await.unwrap().into_parts();
            (head, body.collect().await.unwrap().to_bytes())
        });
        let headers = response.0.headers.iter();
        Response {
            version: "HTTP/1.1".into(),
            status: response.0.status.as_u16(),
            headers: headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect(),
            body: response.1.to_vec(),
        }
    }

    fn post(&self, path: &str, body: &[u8]) -> Answer {
        let response = self.call("POST", path, body);
        Answer::read(path, &response).unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(body)))
    }

    /// Events so far: a refused request adds none.
    fn events(&self) -> u64 {
        self.engine.stats().journal_head
    }

    /// What this route would take, all of it in order.
    fn valid(&self, fields: &[String], random: &mut Random) -> Map<String, Value> {
        let one = |name: &str, random: &mut Random| match name {
            "user_id" => json!(random.pick(&["anna", "anna", "anna", "nobody"])),
            "store_id" => json!("store"),
            "book_id" => json!("b"),
            "order_id" => json!(random.pick(&self.orders)),
            "password" | "oldPassword" | "newPassword" => json!("anna"),
            "terminal" => json!("t"),
            "keyword" => json!(random.pick(&["title", "b", "of", "米"])),
            "search_scope" => json!(random.pick(&["all", "title", "title,author", "isbn x"])),
            "search_in_store" => json!(random.below(2) == 0),
            "page" => json!(1 + random.below(2)),
            "page_size" => json!(20),
            "books" => json!([{"id": "b", "count": 1}, {"id": "b", "count": "2"}]),
            "book_info" => json!({
                "id": format!("b{}", random.below(1 << 40)), "title": "title", "price": 5, "tags": ["a", "米"],
                "pictures": ["aGk="], "pages": null, "author": "x", "extra": {"kept": [1.5, null]},
            }),
            "stock_level" | "add_stock_level" | "add_value" | "price" => json!(random.below(10)),
            other => panic!("this test does not know the field {other}: give it a value"),
        };
        fields.iter().map(|name| (name.clone(), one(name, random))).collect()
    }
}

/// Routes that change nothing when they succeed.
const READS: [&str; 16] = [
    "/seller/query_one_store_orders",
    "/seller/query_all_store_orders",
    "/seller/get_stock_level",
    "/seller/search",
    "/buyer/query_order_status",
    "/buyer/query_buyer_all_orders",
    "/buyer/query_order",
    "/seller/query_order",
    "/buyer/check_stock_level",
    "/buyer/check_order_count",
    "/buyer/query_balance",
    "/buyer/query_book",
    "/buyer/search",
    "/search/search_books",
    "/buyer/auto_cancel_expired_orders",
    "/auth/login",
];

#[test]
fn bodies() {
    let mut shop = Shop::open();
    let mut codes: BTreeMap<String, BTreeMap<u16, u64>> = BTreeMap::new();
    let mut before = shop.events();
    run("bodies", 50_000, 40, |number| {
        let random = &mut Random::new(seed(), number);
        let (path, fields) = &shop.routes[number as usize % shop.routes.len()];
        let valid = Value::Object(shop.valid(fields, random));
        let body = mutate::json(&valid, random);
        let answer = shop.post(path, &body);
        let shown = || format!("{path} {} {}", String::from_utf8_lossy(&body), answer.body);
        let after = shop.events();
        if answer.status != 200 || READS.contains(&path.as_str()) {
            assert_eq!(before, after, "it was refused, or only read, and has left a trace: {}", shown());
        }
        assert!(![500, 503].contains(&answer.status), "{}", shown());
        before = after;
        *codes.entry(path.clone()).or_default().entry(answer.status).or_default() += 1;
        if path == "/seller/add_book" && answer.status == 200 {
            the_book_is_what_was_sent(&shop, &body);
        }
        // A password that was changed is changed back; a token that was revoked is followed by another.
        if ["/auth/password", "/auth/logout"].contains(&path.as_str()) && answer.status == 200 {
            anna_comes_back(&mut shop);
            before = shop.events();
        }
        if number % 2_000 == 1_999 {
            assert!(shop.runtime.block_on(shop.engine.audit()).unwrap().is_conserved());
        }
    });
    // The inputs are wrong enough, and right enough.
    for (path, codes) in &codes {
        let all: u64 = codes.values().sum();
        let malformed = codes.get(&530).copied().unwrap_or_default();
        let has_body = path != "/buyer/auto_cancel_expired_orders";
        assert!(!has_body || malformed * 8 > all && malformed * 20 < all * 19, "{path}: {codes:?}");
    }
}

fn anna_comes_back(shop: &mut Shop) {
    let back = shop.engine.change_password("anna", Credential::Trusted, "anna");
    shop.runtime.block_on(back).unwrap();
    let login = json!({"user_id": "anna", "password": "anna"});
    shop.token = shop.post("/auth/login", login.to_string().as_bytes()).text("token");
}

/// What a strict reader takes out of a body; what else is in it counts for nothing.
#[derive(serde::Deserialize)]
struct Listing {
    store_id: String,
    book_info: Value,
}

/// Unknown keys and pictures included.
fn the_book_is_what_was_sent(shop: &Shop, body: &[u8]) {
    // Of two fields of one name the last one counts here; a strict reader wants none of it.
    let Ok(sent) = serde_json::from_slice::<Listing>(body) else { return };
    let wanted = json!({"store_id": sent.store_id, "book_id": sent.book_info["id"]});
    let answer = shop.post("/buyer/query_book", wanted.to_string().as_bytes());
    assert_eq!(answer.ok().body["book_info"], sent.book_info);
}

#[test]
fn tokens() {
    let shop = Shop::open();
    let good = shop.token.clone();
    let body = json!({"user_id": "anna", "store_id": "another"}).to_string();
    let before = shop.events();
    run("tokens", 5_000, 5, |number| {
        let random = &mut Random::new(seed(), number);
        let changed = mutate::bytes(good.as_bytes(), random);
        let Ok(header) = hyper::header::HeaderValue::from_bytes(&changed) else { return };
        if header == good.as_str() {
            return;
        }
        let mut request = Request::post("/seller/create_store").body(Full::new(Bytes::from(body.clone()))).unwrap();
        request.headers_mut().insert("token", header);
        let status = shop.runtime.block_on(shop.service.clone().call(request)).unwrap().status();
        assert_eq!(status, 401, "{}", String::from_utf8_lossy(&changed));
    });
    assert_eq!(shop.events(), before);
}

/// Requests as they go over the wire, changed anywhere: the head, the framing, the body, the next request.
#[test]
fn connections() {
    let service = Service::start_with(config(), |_| {});
    let body = |user: u64| json!({"user_id": format!("u{user}"), "password": "p"}).to_string();
    let mut registered = 0;
    run("connections", 6_000, 20, |number| {
        let random = &mut Random::new(seed(), number);
        let mut bytes = Vec::new();
        for part in 0..1 + random.below(3) as u64 {
            let body = body(number * 4 + part);
            if random.below(2) == 0 {
                let length = body.len();
                bytes.extend(
                    format!("POST /auth/register HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
                        .bytes(),
                );
            } else {
                let (one, two) = body.split_at(random.below(body.len() - 2) + 1);
                let head = "POST /auth/register HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
                let chunks = format!("{:x}\r\n{one}\r\n{:X};x=y\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
                bytes.extend((head.to_owned() + &chunks).bytes());
            }
        }
        let bytes = mutate::bytes(&bytes, random);
        let mut stream = service.connect();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let answer = Raw::read(&mut rest);
            if answer.status == 100 {
                continue;
            }
            answer.json(answer.status);
            registered += u64::from(answer.status == 200);
        }
    });
    // What was done is what was answered, and nothing else.
    let audit = service.run(service.engine.audit()).unwrap();
    assert_eq!(audit.accounts, registered);
}
