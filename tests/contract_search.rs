//! Search and the whole book: every sentence of the contract about them, over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::shop::{CHEAP, STOCK, STORE};
use common::{Answer, Client, Server, Shop, User, book, wait_until};
use serde_json::{Value, json};

const ROUTES: [&str; 3] = ["/buyer/search", "/seller/search", "/search/search_books"];

fn real_books() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/books.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A server with the real books in two stores, or with books of the test's own.
struct Shelves {
    server: Server,
    client: Client,
    seller: User,
}

impl Shelves {
    fn empty() -> Shelves {
        let server = Server::start(&[]);
        let client = server.client();
        let seller = client.new_user("seller");
        client.create_store(&seller, STORE).ok();
        client.create_store(&seller, "second").ok();
        Shelves { server, client, seller }
    }

    fn with(books: &[Value]) -> Shelves {
        let shelves = Shelves::empty();
        shelves.add(STORE, books);
        shelves
    }

    fn add(&self, store: &str, books: &[Value]) {
        for info in books {
            self.client.add_book(&self.seller, store, info.clone(), STOCK).ok();
        }
    }

    #[track_caller]
    fn search(&self, body: Value) -> Answer {
        self.client.post("/buyer/search", body)
    }

    /// Ids of what is found, in their order.
    #[track_caller]
    fn found(&self, body: Value) -> Vec<String> {
        ids(&self.search(body))
    }

    #[track_caller]
    fn found_by(&self, keyword: &str) -> Vec<String> {
        self.found(json!({"keyword": keyword, "page_size": 100}))
    }

    fn restarted(&mut self) {
        self.server.restart();
        self.client = self.server.client();
        // Everything else is served at once; search says 503 until its index is complete.
        wait_until("the index is complete", || {
            let answer = self.search(json!({"keyword": "x"}));
            assert!([503, 523].contains(&answer.status), "{}", answer.body);
            if answer.status == 503 {
                assert!(answer.header("retry-after").is_some());
            }
            answer.status == 523
        });
    }
}

#[track_caller]
fn books(answer: &Answer) -> &Vec<Value> {
    answer.ok().body["books"].as_array().unwrap()
}

#[track_caller]
fn ids(answer: &Answer) -> Vec<String> {
    books(answer).iter().map(|book| book["id"].as_str().unwrap().to_owned()).collect()
}

fn titled(id: &str, title: &str) -> Value {
    json!({"id": id, "title": title, "price": 1})
}

#[test]
fn every_real_book_is_found_by_its_title_its_parts_its_author_and_its_isbn() {
    let all = real_books();
    let shelves = Shelves::with(&all);
    for info in &all {
        let id = info["id"].as_str().unwrap();
        let title = info["title"].as_str().unwrap();
        let mut keywords: Vec<String> = vec![title.to_owned()];
        let letters: Vec<char> = title.chars().collect();
        let is_letter = |part: &[char]| part.iter().all(|letter| letter.is_alphanumeric());
        for length in [1, 2, 3] {
            let part = letters.windows(length).rfind(|part| is_letter(part));
            keywords.extend(part.map(|part| part.iter().collect()));
        }
        keywords.extend(info["author"].as_str().map(str::to_owned));
        if let Some(isbn) = info["isbn"].as_str().filter(|isbn| isbn.len() == 13) {
            keywords.push(isbn.to_owned());
            keywords.push(format!("{}-{}-{}-{}", &isbn[..3], &isbn[3..4], &isbn[4..12], &isbn[12..]));
        }
        for keyword in keywords.iter().filter(|keyword| !keyword.is_empty()) {
            assert!(shelves.found_by(keyword).contains(&id.to_owned()), "{keyword} does not find {title}");
        }
        let first = shelves.found(json!({"keyword": title, "search_scope": "title"}));
        let named: Vec<_> = all.iter().filter(|other| other["title"] == info["title"]).collect();
        assert!(named.iter().any(|other| other["id"] == json!(first[0])), "{title} finds {first:?} first");
    }
    assert_eq!(shelves.found_by("米")[0], all.iter().find(|info| info["title"] == "米").unwrap()["id"]);
}

#[test]
fn a_result_is_the_book_as_listed_without_pictures_with_its_store_and_stock() {
    let shelves = Shelves::empty();
    let info = json!({
        "id": "b", "title": "红楼梦", "price": 3_879, "author": "曹雪芹", "tags": ["古典"], "pictures": ["aGk=", "eW8="],
        "pages": null, "mine": {"a": [1.5, null], "引": "\u{1f431}"}, "store_id": "not this", "stock_level": "nor this",
    });
    shelves.add(STORE, std::slice::from_ref(&info));
    let mut expected = info;
    expected.as_object_mut().unwrap().remove("pictures");
    expected["store_id"] = json!(STORE);
    expected["stock_level"] = json!(STOCK);
    for route in ROUTES {
        let answer =
            shelves.client.send(&common::request("POST", route, &[], r#"{"keyword":"红楼"}"#.as_bytes())).unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let message = if route == "/search/search_books" { json!([expected]) } else { json!("ok") };
        let whole = json!({
            "code": 200, "message": message, "books": [expected], "total": 1, "page": 1, "page_size": 20,
        });
        assert_eq!(body, whole, "{route}");
    }
    shelves.client.add_stock_level(&shelves.seller, STORE, "b", -3).ok();
    let answer = shelves.search(json!({"keyword": "红楼"}));
    assert_eq!(books(&answer)[0]["stock_level"], json!(STOCK - 3));
}

#[test]
fn the_scope_names_fields_by_blanks_or_commas_and_nothing_known_means_all() {
    let shelves = Shelves::with(&[
        json!({"id": "t", "title": "鲸鱼", "price": 1}),
        json!({"id": "a", "title": "x", "price": 1, "author": "鲸鱼"}),
        json!({"id": "p", "title": "x", "price": 1, "publisher": "鲸鱼"}),
        json!({"id": "i", "title": "x", "price": 1, "isbn": "鲸鱼"}),
        json!({"id": "g", "title": "x", "price": 1, "tags": ["x", "鲸鱼"]}),
        json!({"id": "c", "title": "x", "price": 1, "content": "鲸鱼"}),
        json!({"id": "n", "title": "x", "price": 1, "book_intro": "鲸鱼"}),
        json!({"id": "0", "title": "x", "price": 1, "translator": "鲸鱼", "author_intro": "鲸鱼"}),
    ]);
    let all = ["t", "a", "p", "i", "g", "c", "n"];
    for (scope, expected) in [
        (json!("all"), &all[..]),
        (json!(null), &all),
        (json!(""), &all),
        (json!("translator nonsense"), &all),
        (json!("title"), &["t"]),
        (json!("author"), &["a"]),
        (json!("publisher"), &["p"]),
        (json!("isbn"), &["i"]),
        (json!("tags"), &["g"]),
        (json!("content"), &["c"]),
        (json!("book_intro"), &["n"]),
        (json!("title author"), &["t", "a"]),
        (json!(",tags,, nonsense isbn"), &["i", "g"]),
    ] {
        assert_eq!(shelves.found(json!({"keyword": "鲸鱼", "search_scope": scope})), expected, "{scope}");
    }
    shelves.search(json!({"keyword": "x", "search_scope": "author"})).refused(523, "x");
}

#[test]
fn every_word_must_match_within_the_fields_taken_together() {
    let shelves = Shelves::with(&[
        json!({"id": "both", "title": "呐喊", "price": 1, "author": "鲁迅"}),
        json!({"id": "other", "title": "呐喊", "price": 1, "author": "别人"}),
    ]);
    assert_eq!(shelves.found_by("呐喊 鲁迅"), ["both"]);
    assert_eq!(shelves.found_by("鲁迅《呐喊》"), ["both"]);
    assert_eq!(shelves.found_by("呐喊"), ["both", "other"]);
    shelves.search(json!({"keyword": "呐喊 鲁迅", "search_scope": "title"})).refused(523, "呐喊 鲁迅");
    shelves.search(json!({"keyword": "喊迅"})).is(523);
}

#[test]
fn widths_cases_and_hyphens_do_not_matter() {
    let shelves = Shelves::with(&[
        titled("c", "Ｃ＋＋程序设计 Primer"),
        titled("1984", "１９８４"),
        json!({"id": "isbn", "title": "x", "price": 1, "isbn": "7-302-02368-X"}),
    ]);
    for (keyword, id) in [
        ("c++程序设计", "c"),
        ("PRIMER", "c"),
        ("ｐｒｉｍｅｒ　程序", "c"),
        ("1984", "1984"),
        ("１９８４", "1984"),
        ("730202368x", "isbn"),
        ("7-302-02368-X", "isbn"),
    ] {
        assert_eq!(shelves.found_by(keyword), [id], "{keyword}");
    }
}

#[test]
fn what_has_no_word_finds_nothing_and_what_is_too_long_is_refused() {
    let shelves = Shelves::with(&[titled("b", "？！")]);
    for keyword in ["？！", " ", "\u{0}", "——"] {
        shelves.search(json!({"keyword": keyword})).refused(523, keyword);
    }
    let longest = "米".repeat(341) + "x";
    shelves.search(json!({"keyword": longest})).refused(523, &longest);
    shelves.search(json!({"keyword": longest + "x"})).invalid("keyword");
    shelves.search(json!({"keyword": ""})).invalid("keyword");
}

#[test]
fn a_store_counts_only_with_search_in_store() {
    let shelves = Shelves::with(&[titled("b", "米")]);
    shelves.add("second", &[titled("b", "米"), titled("c", "麦")]);
    let both = shelves.search(json!({"keyword": "米", "store_id": "second"}));
    let stores: Vec<_> = books(&both).iter().map(|book| book["store_id"].as_str().unwrap()).collect();
    assert_eq!(stores, [STORE, "second"]);
    assert_eq!(shelves.found(json!({"keyword": "米", "store_id": "none", "search_in_store": false})).len(), 2);
    assert_eq!(shelves.found(json!({"keyword": "米", "store_id": null, "search_in_store": null})).len(), 2);

    let inside = |store: Value, keyword: &str| {
        shelves.search(json!({"keyword": keyword, "store_id": store, "search_in_store": true}))
    };
    let found = inside(json!("second"), "米");
    assert_eq!((books(&found).len(), &books(&found)[0]["store_id"]), (1, &json!("second")));
    assert_eq!(found.number("total"), 1);
    inside(json!(STORE), "麦").is(525);
    assert_eq!(inside(json!(STORE), "麦").message(), "book with keyword 麦 not found in store store");
    shelves.search(json!({"keyword": "豆"})).refused(523, "豆");
    // The store is judged first.
    inside(json!("none"), "豆").refused(524, "none");
    inside(json!(null), "米").refused(524, "");
    inside(json!(""), "米").refused(524, "");
    shelves.search(json!({"keyword": "米", "search_in_store": true})).refused(524, "");
}

#[test]
fn the_failures_are_the_same_on_every_route() {
    let shelves = Shelves::empty();
    for route in ROUTES {
        let answer = shelves.client.post(route, json!({"keyword": "无"}));
        answer.refused(523, "无");
        assert_eq!(answer.body, json!({"code": 523, "message": "book with keyword 无 not found"}), "{route}");
        shelves
            .client
            .post(route, json!({"keyword": "无", "search_in_store": true, "store_id": "x"}))
            .refused(524, "x");
        shelves.client.post(route, json!({"keyword": 1})).invalid("keyword");
    }
}

#[test]
fn pages_are_stable_and_one_past_the_end_is_empty() {
    let shelves = Shelves::empty();
    let titles = ["海", "海与山", "听海", "山", "海边的书"];
    for number in 0..20 {
        for (place, title) in titles.iter().enumerate() {
            let mut info = titled(&format!("{number}-{place}"), &format!("{title} {number}"));
            if *title == "山" {
                info["book_intro"] = json!("看海");
            }
            let store = if number % 2 == 0 { STORE } else { "second" };
            shelves.add(store, &[info]);
        }
    }
    let page = |page: u64, size: u64| shelves.search(json!({"keyword": "海", "page": page, "page_size": size}));
    let whole = ids(&page(1, 100));
    assert_eq!(whole.len(), 100);
    // Titles come before introductions.
    assert!(whole[80..].iter().all(|id| id.ends_with("-3")), "{whole:?}");
    for size in [1, 7, 50, 99] {
        let pages = (1..=100_u64.div_ceil(size)).flat_map(|number| {
            let answer = page(number, size);
            assert_eq!((answer.number("total"), answer.number("page_size")), (100, size as i64));
            assert_eq!(answer.number("page"), number as i64);
            ids(&answer)
        });
        assert_eq!(pages.collect::<Vec<_>>(), whole, "pages of {size}");
    }
    assert_eq!(ids(&shelves.search(json!({"keyword": "海"}))), whole[..20]);
    for number in [3, i64::MAX as u64] {
        let answer = page(number, 50);
        assert_eq!((books(&answer).len(), answer.number("total")), (0, 100), "page {number}");
    }
    // A book more moves others, but never past one another.
    shelves.add(STORE, &[titled("new", "海")]);
    let after = ids(&page(1, 100));
    assert_eq!(after[0], "new", "the whole title is the best match");
    let others: Vec<_> = after.iter().filter(|id| *id != "new").cloned().collect();
    assert_eq!(others, whole[..99]);
}

#[test]
fn pages_are_counted_from_1_to_at_most_100_books() {
    let shelves = Shelves::with(&[titled("b", "米")]);
    for (field, bad) in [("page", vec![0, -1, i64::MIN]), ("page_size", vec![0, -1, 101, i64::MAX])] {
        for value in bad {
            let mut body = json!({"keyword": "米"});
            body[field] = json!(value);
            shelves.search(body).invalid(field);
        }
    }
    for value in [1, 100] {
        assert_eq!(shelves.found(json!({"keyword": "米", "page_size": value})), ["b"]);
    }
}

#[test]
fn a_book_is_found_as_soon_as_it_is_listed_and_after_a_crash_and_a_restart() {
    let mut shelves = Shelves::empty();
    let mut listed = Vec::new();
    for number in 0..30 {
        let id = format!("b{number}");
        shelves.add(STORE, &[json!({"id": id, "title": format!("鲸{number}"), "price": 1, "pictures": ["aGk="]})]);
        listed.push(id);
        assert_eq!(shelves.found_by("鲸"), listed);
    }
    shelves.server.kill9();
    shelves.restarted();
    assert_eq!(shelves.found_by("鲸"), listed);
    assert_eq!(shelves.found_by("鲸 7"), ["b7"]);
    // One that was listed before is not there twice, and a new one comes on top.
    shelves
        .client
        .add_book(&shelves.client.logged_in(&shelves.seller), STORE, titled("b0", "鲸"), 1)
        .refused(516, "b0");
    shelves.seller = shelves.client.logged_in(&shelves.seller);
    shelves.add(STORE, &[titled("last", "鲸群")]);
    listed.push("last".into());
    assert_eq!(shelves.found_by("鲸").len(), listed.len());
    assert!(shelves.server.sigterm().success());
    shelves.restarted();
    assert_eq!(shelves.found_by("鲸"), listed);
}

#[test]
fn a_refused_book_is_not_found() {
    let shelves = Shelves::with(&[titled("b", "米")]);
    shelves.client.add_book(&shelves.seller, STORE, titled("b", "麦"), 1).refused(516, "b");
    shelves.client.add_book(&shelves.seller, "none", titled("c", "麦"), 1).refused(513, "none");
    shelves.search(json!({"keyword": "麦"})).refused(523, "麦");
}

#[test]
fn search_needs_neither_token_nor_password() {
    let shelves = Shelves::with(&[titled("b", "米")]);
    for route in ROUTES {
        let body = br#"{"keyword":"\u7c73","user_id":5,"password":[]}"#;
        let answer = shelves.client.send(&common::request("POST", route, &[("token", "forged")], body)).unwrap();
        assert_eq!(answer.status, 200, "{route}");
    }
}

#[test]
fn the_counters_tell_of_the_index() {
    let shelves = Shelves::with(&[titled("b", "米"), titled("c", "麦")]);
    let text = shelves.client.get("/metrics").text();
    for line in
        ["bookstore_search_books 2.0", "bookstore_search_ready 1.0", "bookstore_search_unread_documents_total 0"]
    {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

fn query(client: &Client, store: &str, book: &str) -> Answer {
    client.post("/buyer/query_book", json!({"store_id": store, "book_id": book}))
}

#[test]
fn query_book_judges_the_store_and_then_the_book() {
    let shop = Shop::open(&[]);
    query(&shop.client, "none", "none").refused(513, "none");
    query(&shop.client, STORE, "none").refused(515, "none");
    let answer = query(&shop.client, STORE, CHEAP);
    assert_eq!(answer.ok().body["book_info"], book(CHEAP, common::shop::CHEAP_PRICE));
    assert_eq!(answer.number("stock_level"), STOCK);
}

#[test]
fn query_book_gives_the_whole_book_byte_for_byte_also_after_a_crash() {
    let mut shop = Shop::open(&[]);
    let picture = "iVBORw0K".repeat(100 * 1024);
    let infos = [
        format!(r#"{{"id":"w1","title":"米","price":10,"pictures":["{picture}","{picture}"],"x":1.50}}"#),
        format!("{{ \"pictures\" : [ \"{picture}\" ],\t\"id\":\"w2\", \"title\":\"\\u7c73\",\"price\":1 }}"),
        r#"{"id":"w3","title":"t","price":1,"pictures":[],"store_id":"mine"}"#.to_owned(),
        r#"{"id":"w4","title":"t","price":1,"pictures":null}"#.to_owned(),
        // Of a key that comes twice the last one counts; all of it is kept.
        r#"{"id":"w5","title":"t","price":1,"pictures":["aGk="],"pictures":["a"]}"#.to_owned(),
    ];
    for info in &infos {
        let body = format!(r#"{{"user_id":"seller","store_id":"{STORE}","stock_level":3,"book_info":{info}}}"#);
        let headers = [("token", shop.seller.token.as_str())];
        let answer = shop.client.send(&common::request("POST", "/seller/add_book", &headers, body.as_bytes())).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for _ in 0..2 {
        for (number, info) in infos.iter().enumerate() {
            let body = format!(r#"{{"store_id":"{STORE}","book_id":"w{}"}}"#, number + 1);
            let answer = shop.client.send(&common::request("POST", "/buyer/query_book", &[], body.as_bytes())).unwrap();
            let expected =
                format!(r#"{{"code":200,"message":"ok","book_info":{info},"stock_level":3,"is_listed":true}}"#);
            assert!(answer.text() == expected, "w{}", number + 1);
        }
        shop.crash();
    }
}

#[test]
fn equal_pictures_are_stored_once() {
    let shop = Shop::open(&[]);
    let size = || std::fs::metadata(shop.server.data_dir().join("documents.redb")).unwrap().len();
    let picture = "iVBORw0K".repeat(128 * 1024);
    let mut before = 0;
    for number in 0..20 {
        let mut info = titled(&format!("p{number}"), "图");
        info["pictures"] = json!([picture]);
        shop.client.add_book(&shop.seller, STORE, info, 1).ok();
        if number == 2 {
            before = size();
        }
    }
    assert!(size() < before + picture.len() as u64, "{} after {before}", size());
}
