//! The search index beside the shop: rebuilt after an open while everything else is served, never ahead of what an
//! answer may say, and going on without a document that is damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "common/watched_disk.rs"]
mod watched_disk;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use bookstore::disk::MemoryDisk;
use bookstore::{Config, Credential, Engine, Error, NewBook, Search, SearchFields, Storage};
use watched_disk::{Watch, WatchedDisk};

const T: Credential<'static> = Credential::Trusted;

fn cheap(mut config: Config) -> Config {
    config.password_params.memory_kib = 64;
    config.password_params.iterations = 1;
    config.segment_bytes = 16 << 20;
    config
}

async fn open(dir: &Path) -> Engine {
    Engine::open(cheap(Config::directory(dir))).await.unwrap()
}

async fn shop(engine: &Engine) {
    engine.register("seller", "pw").await.unwrap();
    for store in ["s0", "s1", "s2"] {
        engine.create_store("seller", T, store).await.unwrap();
    }
}

async fn list(engine: &Engine, store: &str, id: &str, title: &str) -> Result<(), Error> {
    let document = format!(r#"{{"id":"{id}","title":"{title}","price":1,"pictures":["aGk="]}}"#);
    engine.add_book("seller", T, store, NewBook { id, price: 1, document: &document }, 7).await
}

/// All that is found, as store and book, on pages of 30.
async fn found(engine: &Engine, keyword: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for page in 1.. {
        let found = engine.search(Search::new(keyword).page(page, 30)).await.unwrap();
        if found.books.is_empty() {
            assert_eq!(all.len() as u64, found.total);
            break;
        }
        all.extend(found.books.into_iter().map(|book| (book.store_id.to_string(), book.book_id.to_string())));
    }
    all
}

fn code(error: &Error) -> u16 {
    match error {
        Error::Refused(refusal) => refusal.code(),
        error => panic!("{error:?}"),
    }
}

/// The runtime has one thread, and this test does not yield between the open and the search: so the index cannot be
/// complete, whatever the machine does.
#[tokio::test(flavor = "current_thread")]
async fn until_the_index_is_complete_search_is_overloaded_and_everything_else_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    shop(&engine).await;
    list(&engine, "s0", "b", "米").await.unwrap();
    engine.close().await.unwrap();
    assert_eq!(engine.search(Search::new("米")).await, Err(Error::Draining));
    drop(engine);

    let engine = open(dir.path()).await;
    let refused = engine.search(Search::new("米")).await;
    assert_eq!(refused, Err(Error::Overloaded("the search index is being rebuilt")));
    assert!(!engine.stats().search_ready);
    assert_eq!(engine.not_ready(), None);
    // What is out of range is told all the same.
    assert_eq!(code(&engine.search(Search::new("")).await.unwrap_err()), 530);
    assert_eq!(engine.stock_level("s0", "b").await, Ok(7));
    assert!(engine.book("s0", "b").await.unwrap().document.contains("aGk="));
    engine.search_ready().await.unwrap();
    assert_eq!(found(&engine, "米").await, [("s0".into(), "b".into())]);
    let stats = engine.stats();
    assert!(stats.search_ready && stats.search_rebuild > Duration::ZERO && stats.search_index_bytes > 0, "{stats:?}");
    assert_eq!((stats.search_books, stats.search_unread), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_that_are_listed_during_the_rebuild_are_found_once_and_pages_stay_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    shop(&engine).await;
    let mut expected = BTreeSet::new();
    for number in 0..600 {
        let (store, id) = (format!("s{}", number % 3), format!("old {number}"));
        list(&engine, &store, &id, "鲸与海").await.unwrap();
        expected.insert((store, id));
    }
    let before = found(&engine, "鲸与").await;
    engine.close().await.unwrap();
    drop(engine);

    let engine = open(dir.path()).await;
    let mut tasks = Vec::new();
    for number in 0..200 {
        let (store, id) = (format!("s{}", number % 3), format!("new {number}"));
        expected.insert((store.clone(), id.clone()));
        let engine = engine.clone();
        tasks.push(tokio::spawn(async move { list(&engine, &store, &id, "鲸与海").await.unwrap() }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    engine.search_ready().await.unwrap();
    let all = found(&engine, "鲸与").await;
    assert_eq!(all.len(), expected.len(), "one is there twice");
    assert_eq!(all.iter().cloned().collect::<BTreeSet<_>>(), expected);
    let old: Vec<_> = all.into_iter().filter(|(_, id)| id.starts_with("old")).collect();
    assert_eq!(old, before, "the order changed over the restart");
}

#[tokio::test]
async fn dropping_the_engine_ends_the_rebuild_and_closing_it_ends_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    shop(&engine).await;
    for number in 0..300 {
        list(&engine, "s0", &format!("b{number}"), "米").await.unwrap();
    }
    drop(engine);
    for _ in 0..3 {
        // Each open needs the lock of the one before, which goes with all of it.
        drop(open(dir.path()).await);
    }
    let engine = open(dir.path()).await;
    let waiting = tokio::spawn({
        let engine = engine.clone();
        async move { engine.search_ready().await }
    });
    engine.close().await.unwrap();
    assert!(matches!(waiting.await.unwrap(), Ok(()) | Err(Error::Draining)));
}

/// However often it was polled before it was dropped.
#[tokio::test]
async fn a_book_whose_caller_went_away_is_listed_and_found_or_neither() {
    let engine = Engine::open(cheap(Config::memory())).await.unwrap();
    shop(&engine).await;
    // How many polls a call takes depends on the disk's thread, so it is tried until each kind of cut was seen.
    let (mut untouched, mut cut) = (0, 0);
    for round in 0..600 {
        let polls = round % 12;
        let (id, title) = (format!("b{round}"), format!("鲸{round}"));
        let mut done = false;
        {
            let mut call = pin!(list(&engine, "s0", &id, &title));
            for _ in 0..polls {
                if poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await.is_ready() {
                    done = true;
                    break;
                }
                // What it waits for may come meanwhile.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        // The store answers after whatever was sent to it before.
        let is_listed = engine.stock_level("s0", &id).await.is_ok();
        let is_found = engine.search(Search::new(&format!("鲸 {round}"))).await.is_ok();
        assert_eq!(is_listed, is_found, "after {polls} polls");
        untouched += usize::from(!is_listed);
        cut += usize::from(is_listed && !done);
        if round >= 12 && untouched > 0 && cut > 0 {
            return;
        }
    }
    panic!("{untouched} calls were cut before their command and {cut} behind it");
}

/// Holds the syncs of the journal, and lets them fail.
#[derive(Debug, Default)]
struct Hold {
    is_held: Mutex<bool>,
    changed: Condvar,
    fails: AtomicBool,
}

impl Watch for Hold {
    fn sync(&self, path: &Path) -> io::Result<()> {
        if !path.parent().is_some_and(|dir| dir.ends_with("journal")) {
            return Ok(());
        }
        let held = self.is_held.lock().unwrap();
        drop(self.changed.wait_while(held, |held| *held).unwrap());
        match self.fails.load(Ordering::SeqCst) {
            true => Err(io::Error::other("lost")),
            false => Ok(()),
        }
    }
}

async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_never_tells_of_a_book_that_a_crash_takes_back() {
    let hold = Arc::new(Hold::default());
    let disk = WatchedDisk::new(MemoryDisk::new(), hold.clone());
    let storage = Storage::Disk(Arc::new(disk), "/data".into());
    let engine = Engine::open(cheap(Config::with(storage))).await.unwrap();
    shop(&engine).await;
    *hold.is_held.lock().unwrap() = true;
    let adding = tokio::spawn({
        let engine = engine.clone();
        async move { list(&engine, "s0", "b", "米").await }
    });
    wait_until("the book is indexed", || engine.stats().search_books == 1).await;
    let search = |keyword: &'static str| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.search(Search::new(keyword)).await })
    };
    let page = |page| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.search(Search::new("米").page(page, 20)).await })
    };
    let searches = [search("米"), page(9), search("无")];
    // The book, the three searches.
    wait_until("all wait for the journal", || engine.stats().permits_in_use == 4).await;
    assert!(searches.iter().all(|search| !search.is_finished()));
    hold.fails.store(true, Ordering::SeqCst);
    *hold.is_held.lock().unwrap() = false;
    hold.changed.notify_all();
    assert!(matches!(adding.await.unwrap(), Err(Error::OutcomeUnknown(_))));
    for search in searches {
        let told = search.await.unwrap();
        assert!(matches!(told, Err(Error::OutcomeUnknown(_))), "{told:?}");
    }
}

/// Flips a byte of a document in the file.
fn damage(file: &Path, text: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let places: Vec<_> =
        bytes.windows(text.len()).enumerate().filter(|(_, part)| *part == text.as_bytes()).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{text} is not in the file");
    places.into_iter().for_each(|at| bytes[at] ^= 1);
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn search_goes_on_without_a_document_that_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).await;
    shop(&engine).await;
    for (id, title) in [("a", "鲸一"), ("b", "鲸二"), ("c", "鲸三")] {
        list(&engine, "s0", id, title).await.unwrap();
    }
    engine.close().await.unwrap();
    drop(engine);
    damage(&dir.path().join("documents.redb"), "鲸二");

    let engine = open(dir.path()).await;
    engine.search_ready().await.unwrap();
    assert_eq!(found(&engine, "鲸").await, [("s0".into(), "a".into()), ("s0".into(), "c".into())]);
    assert_eq!((engine.stats().search_books, engine.stats().search_unread), (2, 1));
    // It is still there, and says so.
    assert_eq!(engine.stock_level("s0", "b").await, Ok(7));
    assert_eq!(engine.book("s0", "b").await, Err(Error::Overloaded("the book's document cannot be read")));
    assert_eq!(engine.not_ready(), None);
}

#[tokio::test]
async fn a_document_is_a_json_object_and_what_is_no_string_in_it_is_not_searched() {
    let engine = Engine::open(cheap(Config::memory())).await.unwrap();
    shop(&engine).await;
    let add = |id: &'static str, document: &'static str| {
        let engine = engine.clone();
        async move { engine.add_book("seller", T, "s0", NewBook { id, price: 1, document }, 1).await }
    };
    for document in ["", "米", "[]", "null", "{", "{} x"] {
        let refused = add("no", document).await.unwrap_err();
        assert_eq!(code(&refused), 530, "{document}");
        assert!(refused.to_string().starts_with("invalid parameter book_info: must be a JSON object"), "{refused}");
    }
    assert_eq!(code(&engine.stock_level("s0", "no").await.unwrap_err()), 515);
    add("odd", r#"{"title":["米"],"author":5,"tags":["鲸",1,null],"content":"\ud800"}"#).await.unwrap();
    add("empty", "{}").await.unwrap();
    assert_eq!(found(&engine, "鲸").await, [("s0".into(), "odd".into())]);
    assert_eq!(code(&engine.search(Search::new("米")).await.unwrap_err()), 523);
    assert_eq!(engine.book("s0", "empty").await.unwrap().document, "{}");
}

#[tokio::test]
async fn a_page_has_at_most_32_mib_but_a_single_book_is_always_shown() {
    let engine = Engine::open(cheap(Config::memory())).await.unwrap();
    shop(&engine).await;
    for (id, mib) in [("a", 15), ("b", 15), ("c", 15), ("d", 40)] {
        let document = format!(r#"{{"id":"{id}","title":"鲸","content":"{}"}}"#, "x".repeat(mib << 20));
        engine.add_book("seller", T, "s0", NewBook { id, price: 1, document: &document }, 1).await.unwrap();
    }
    let page = |page, size| engine.search(Search::new("鲸").page(page, size));
    assert_eq!(page(1, 2).await.unwrap().books.len(), 2);
    let refused = page(1, 3).await.unwrap_err();
    assert!(refused.to_string().starts_with("invalid parameter page_size: "), "{refused}");
    assert_eq!(page(4, 1).await.unwrap().books.len(), 1);
    assert_eq!(engine.stats().permits_in_use, 0);
}

#[tokio::test]
async fn a_search_of_the_library_says_what_it_found() {
    let engine = Engine::open(cheap(Config::memory())).await.unwrap();
    shop(&engine).await;
    list(&engine, "s1", "b", "鲸").await.unwrap();
    let search = Search::new("鲸").in_fields(SearchFields::TITLE).in_store("s1").page(1, 5);
    let page = engine.search(search).await.unwrap();
    assert_eq!((page.total, page.page, page.page_size, page.books.len()), (1, 1, 5, 1));
    let book = &page.books[0];
    assert_eq!((&*book.store_id, &*book.book_id, book.stock_level), ("s1", "b", 7));
    assert_eq!(book.document, r#"{"id":"b","title":"鲸","price":1}"#);
    assert_eq!(code(&engine.search(search.in_store("s2")).await.unwrap_err()), 525);
    assert_eq!(code(&engine.search(search.in_store("x")).await.unwrap_err()), 524);
    assert_eq!(code(&engine.search(search.in_fields(SearchFields::AUTHOR)).await.unwrap_err()), 525);
    for (search, field) in [
        (Search::new(""), "keyword"),
        (search.page(0, 5), "page"),
        (search.page(1, 0), "page_size"),
        (search.page(1, 101), "page_size"),
    ] {
        let refused = engine.search(search).await.unwrap_err();
        assert!(refused.to_string().starts_with(&format!("invalid parameter {field}: ")), "{refused}");
    }
    assert_eq!(engine.search(search.page(u64::MAX, 100)).await.unwrap().books, []);
}
