//! What search costs: listing a book with its index, finding books among 10,000, the rebuild after an open.
//!
//! ```sh
//! cargo bench --bench search
//! cargo test --bench search   # each once, with little data
//! ```
//!
//! For p99 and memory see `examples/figures`, command `search`.

#![allow(clippy::unwrap_used, reason = "a bench ends by panicking")]

mod common;
#[path = "../examples/figures/variations.rs"]
mod variations;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bookstore::{Durability, Engine, NewBook, Search, SearchFields};
use common::{TRUSTED, is_short, open, temporary};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use variations::{Book, Dice, Variations};

/// As in the program: actors box every message.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Books that are searched.
fn books() -> usize {
    if is_short() { 200 } else { 10_000 }
}

async fn shop(dir: Option<&Path>) -> Engine {
    let engine = open(dir, Durability::Buffered).await;
    engine.register("seller", "secret").await.unwrap();
    engine.create_store("seller", TRUSTED, "store").await.unwrap();
    engine
}

/// Lists books of these numbers, many at once.
async fn list(engine: &Engine, variations: &Variations, numbers: std::ops::Range<usize>) {
    let mut tasks = Vec::new();
    for number in numbers {
        let (engine, Book { id, document, .. }) = (engine.clone(), variations.book(number));
        tasks.push(tokio::spawn(async move {
            let book = NewBook { id: &id, price: 1, document: &document };
            engine.add_book("seller", TRUSTED, "store", book, 1).await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// In memory, so that the index is measured and not the disk.
fn list_a_book(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let variations = Variations::load().unwrap();
    let engine = runtime.block_on(shop(None));
    let mut number = 0;
    criterion.bench_function("search/list_a_book", |bencher| {
        bencher.iter_custom(|books| {
            let start = Instant::now();
            runtime.block_on(list(&engine, &variations, number..number + books as usize));
            number += books as usize;
            start.elapsed()
        });
    });
    runtime.block_on(engine.close()).unwrap();
}

fn find(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let variations = Variations::load().unwrap();
    let engine = runtime.block_on(shop(None));
    runtime.block_on(list(&engine, &variations, 0..books()));
    let book = variations.book(Dice::new(1).roll(books() as u64) as usize);
    let rare = Search::new(&book.isbn);
    let searches = [
        ("one_character", Search::new("的")),
        ("two_characters", Search::new("中国")),
        ("two_characters_of_titles", Search::new("红楼").in_fields(SearchFields::TITLE)),
        ("title", Search::new(&book.title)),
        ("two_words", Search::new("中国 历史")),
        ("isbn", rare),
        ("author", Search::new(&book.author)),
        ("late_page", Search::new("的").page(80, 100)),
    ];
    for (name, search) in searches {
        criterion.bench_function(&format!("search/{name}"), |bencher| {
            bencher.iter(|| runtime.block_on(engine.search(black_box(search))).unwrap());
        });
    }
    runtime.block_on(engine.close()).unwrap();
}

fn rebuild(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let variations = Variations::load().unwrap();
    let dir = temporary();
    runtime.block_on(async {
        let engine = shop(Some(dir.path())).await;
        list(&engine, &variations, 0..books()).await;
        engine.close().await.unwrap();
    });
    let once = |dir: &Path| {
        runtime.block_on(async {
            let engine = open(Some(dir), Durability::Buffered).await;
            engine.search_ready().await.unwrap();
            engine.stats().search_rebuild
        })
    };
    let mut group = criterion.benchmark_group("search");
    group.sample_size(10).measurement_time(Duration::from_secs(20));
    group.bench_function("rebuild", |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| once(dir.path())).sum());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = list_a_book, find, rebuild
}
criterion_main!(benches);
