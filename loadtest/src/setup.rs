//! People, stores and books come about: over several connections, for a call waits for the server's disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Failure;
use crate::api::Api;
use crate::client::Target;
use crate::live::Live;
use crate::scenario::{Store, User};

/// How long a search may take to find what was laid out.
const FOUND_WITHIN: Duration = Duration::from_secs(60);
/// Between two searches for it.
const FOUND_PAUSE: Duration = Duration::from_millis(50);
/// The contract's code for that.
const NOT_FOUND_IN_STORE: u16 = 525;
/// So many calls may share a sync of the server.
const CONNECTIONS: usize = 16;

/// What is to be done, and afterwards what has been done.
enum Job {
    /// Its owner is enrolled, and it is opened.
    Store(Store),
    /// One book of an open store is laid out.
    Book(Arc<Store>, usize),
    /// Is enrolled and gets his money.
    Buyer(User),
}

impl Job {
    async fn work(&mut self, api: &mut Api) -> Result<(), Failure> {
        match self {
            Self::Store(store) => {
                api.enrol(&mut store.owner).await?;
                api.create_store(&store.owner, &store.id).await
            }
            Self::Book(store, place) => {
                let book = &store.books[*place];
                let info = json!({
                    "id": book.id, "title": book.title(), "price": book.price_fen, "author": "An author",
                    "tags": ["load"], "pages": 321,
                });
                api.add_book(&store.owner, &store.id, &info, book.stock).await
            }
            Self::Buyer(buyer) => {
                api.enrol(buyer).await?;
                api.add_funds(buyer, buyer.balance_fen).await
            }
        }
    }
}

/// Opens and fills the stores, registers and funds the buyers; `live` is told how far it has come.
pub(crate) async fn set_up(
    target: &Target,
    live: &Arc<Live>,
    stores: Vec<Store>,
    buyers: Vec<User>,
) -> Result<(Vec<Store>, Vec<User>), Failure> {
    let books: usize = stores.iter().map(|store| store.books.len()).sum();
    live.set_up_has((stores.len() + books + buyers.len()) as u64);
    let opened = side_by_side(target, live, stores.into_iter().map(Job::Store).collect()).await?;
    let stores: Vec<Arc<Store>> = opened
        .into_iter()
        .filter_map(|job| match job {
            Job::Store(store) => Some(Arc::new(store)),
            _ => None,
        })
        .collect();
    let mut jobs: Vec<Job> = buyers.into_iter().map(Job::Buyer).collect();
    for store in &stores {
        jobs.extend((0..store.books.len()).map(|place| Job::Book(Arc::clone(store), place)));
    }
    let mut buyers = Vec::new();
    for job in side_by_side(target, live, jobs).await? {
        if let Job::Buyer(buyer) = job {
            buyers.push(buyer);
        }
    }
    Ok((stores.into_iter().filter_map(Arc::into_inner).collect(), buyers))
}

/// Waits until the server's search finds the book that was laid out last: it may follow the shelves a moment later. A
/// server without a search is not waited for.
pub(crate) async fn wait_for_search(target: &Target, stores: &[Store]) -> Result<(), Failure> {
    let Some((store, book)) = stores.iter().filter_map(|store| Some((store, store.books.last()?))).next_back() else {
        return Ok(());
    };
    let body = json!({"keyword": book.title(), "search_in_store": true, "store_id": store.id});
    let mut api = Api::new(target.clone());
    let patience = Instant::now() + FOUND_WITHIN;
    loop {
        match api.ask("/buyer/search", None, &body).await? {
            (NOT_FOUND_IN_STORE, _) if Instant::now() < patience => tokio::time::sleep(FOUND_PAUSE).await,
            (NOT_FOUND_IN_STORE, answer) => return Err(format!("the search does not find a book: {answer}").into()),
            _ => return Ok(()),
        }
    }
}

type Queue = Arc<Mutex<std::iter::Enumerate<std::vec::IntoIter<Job>>>>;

/// Does all jobs and gives them back in their order.
async fn side_by_side(target: &Target, live: &Arc<Live>, jobs: Vec<Job>) -> Result<Vec<Job>, Failure> {
    let queue = Arc::new(Mutex::new(jobs.into_iter().enumerate()));
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|_| tokio::spawn(work(Api::new(target.clone()), Arc::clone(live), Arc::clone(&queue))))
        .collect();
    let mut done = Vec::new();
    for worker in workers {
        done.append(&mut worker.await??);
    }
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, job)| job).collect())
}

async fn work(mut api: Api, live: Arc<Live>, queue: Queue) -> Result<Vec<(usize, Job)>, Failure> {
    let mut done = Vec::new();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some((number, mut job)) = next else { return Ok(done) };
        job.work(&mut api).await?;
        live.set_up_did_one();
        done.push((number, job));
    }
}
