//! Search: the call, and the index that is rebuilt in the background after an open.
//!
//! The index is no state of the shop. It is made from the stores' rows and the documents at every open, while
//! everything else is served already, and a book that is listed meanwhile is added by its own call. It may be ahead of
//! what is durable; answers pass the gate, so that nobody is shown a book that a crash could take back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::background::{Urgency, in_background};
use super::{Core, Engine, Error, FoundBook, Result, Search, SearchPage, Stats};
use crate::actors::Then;
use crate::catalog::{Library, Listed, Outline, Place, Stored, Unread, shown};
use crate::cold::{ColdError, Documents};
use crate::domain::{BookNo, DocumentHash, Outcome, Refusal, Send, Shelved, StoreMsg, StoreNo};

/// The longest keyword in bytes.
pub const KEYWORD_BYTES_MAX: usize = 1_024;

/// The most books on one page.
pub const PAGE_SIZE_MAX: u64 = 100;

/// Bytes of the documents of one page, without pictures; a single book may be longer.
const PAGE_BYTES_MAX: usize = 32 << 20;

/// Books that are taken in without a pause.
const REBUILD_CHUNK: usize = 64;
/// Between two chunks, so that a rebuild leaves time to everybody else.
const REBUILD_PAUSE: Duration = Duration::from_millis(1);

/// Stores that are asked at once for the levels of a page.
const STORES_AT_ONCE: usize = 16;

/// A longer document is studied on the blocking pool.
const STUDIED_HERE_BYTES: usize = 64 << 10;

/// The index and how far it is.
pub(super) struct SearchIndex {
    library: Arc<Library>,
    state: watch::Sender<State>,
    rebuild_micros: AtomicU64,
    unread: AtomicU64,
    /// Pages whose documents are read and put together at the same time: each may take [`PAGE_BYTES_MAX`] and the
    /// longest document.
    pages: tokio::sync::Semaphore,
}

/// Enough for a disk to be busy, and little enough that long documents do not fill the memory.
const PAGES_AT_ONCE: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Rebuilding,
    Ready,
    /// The documents could not be read: out of service until the next open.
    Failed,
    Closed,
}

impl SearchIndex {
    /// An index that is complete already if nothing is listed.
    pub(super) fn new(library: Arc<Library>, is_complete: bool) -> Self {
        let state = if is_complete { State::Ready } else { State::Rebuilding };
        SearchIndex {
            library,
            state: watch::Sender::new(state),
            rebuild_micros: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            pages: tokio::sync::Semaphore::new(PAGES_AT_ONCE),
        }
    }

    fn judge(&self) -> Result<()> {
        match *self.state.borrow() {
            State::Ready => Ok(()),
            State::Rebuilding => Err(Error::Overloaded("the search index is being rebuilt")),
            State::Failed => Err(Error::Overloaded("the search index could not be rebuilt")),
            State::Closed => Err(Error::Draining),
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    fn end_rebuild(&self, state: State) {
        self.state.send_if_modified(|now| {
            let is_under_way = *now == State::Rebuilding;
            if is_under_way {
                *now = state;
            }
            is_under_way
        });
    }

    pub(super) fn fill_stats(&self, stats: &mut Stats) {
        let (books, tokens, bytes) = self.library.size();
        stats.search_books = books as u64;
        stats.search_tokens = tokens as u64;
        stats.search_index_bytes = bytes as u64;
        stats.search_ready = *self.state.borrow() == State::Ready;
        stats.search_rebuild = Duration::from_micros(self.rebuild_micros.load(Ordering::Relaxed));
        stats.search_unread = self.unread.load(Ordering::Relaxed);
    }
}

/// Takes in everything that was listed before the open, on half of the cores.
pub(super) async fn rebuild(core: Arc<Core>, listed: Vec<Listed>) {
    let start = Instant::now();
    let search = &core.search;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let chunks: Arc<Vec<Vec<Listed>>> = Arc::new(listed.chunks(REBUILD_CHUNK).map(<[Listed]>::to_vec).collect());
    let next = Arc::new(AtomicUsize::new(0));
    // They end with this task.
    let mut takers = JoinSet::new();
    for _ in 0..(cores / 2).max(1) {
        takers.spawn(take_in(core.clone(), chunks.clone(), next.clone()));
    }
    while let Some(taken) = takers.join_next().await {
        match taken.unwrap_or(Err(None)) {
            Ok(()) => {}
            Err(Some(ColdError::Closed)) => return,
            Err(why) => {
                let why = why.map_or_else(|| "no thread for it".to_owned(), |error| error.to_string());
                tracing::error!(why, "the search index cannot be rebuilt: there is no search until the next start");
                return search.end_rebuild(State::Failed);
            }
        }
    }
    let took = start.elapsed();
    search.rebuild_micros.store(took.as_micros() as u64, Ordering::Relaxed);
    search.end_rebuild(State::Ready);
    if !listed.is_empty() {
        let unread = search.unread.load(Ordering::Relaxed);
        tracing::info!(books = listed.len(), unread, took_ms = took.as_millis() as u64, "the search index is complete");
    }
}

/// Takes in one chunk after the other, until there is none left. Without a cause a failure is one of threads.
async fn take_in(
    core: Arc<Core>,
    chunks: Arc<Vec<Vec<Listed>>>,
    next: Arc<AtomicUsize>,
) -> std::result::Result<(), Option<ColdError>> {
    loop {
        let place = next.fetch_add(1, Ordering::Relaxed);
        if place >= chunks.len() {
            return Ok(());
        }
        let (shared, chunks) = (core.clone(), chunks.clone());
        // Until it is through there is no search at all.
        let taking = move || shared.search.library.take_in(&shared.documents, &chunks[place]);
        let unread = in_background(Urgency::Awaited, taking).await.ok_or(None)?;
        unread.map_err(Some)?.iter().for_each(|book| core.report_unread(book));
        tokio::time::sleep(REBUILD_PAUSE).await;
    }
}

impl Engine {
    /// Finds books by a keyword. Every word of it must be in the title, author, publisher, ISBN, tags, content or
    /// introduction of the book, or in those of them that [`Search::fields`] says. Best matches first: the whole
    /// title, then titles that begin with the keyword or have it, then the author, then publisher, ISBN and tags, then the
    /// long texts; in each, those that have the keyword in a row before those that have it scattered. Among equals the
    /// order is fixed, so pages are stable. A book that is added meanwhile moves others on, but never past one another.
    ///
    /// A book is found from the moment its `add_book` answers, not any more when `delist_book` has answered, and again
    /// when `relist_book` has. The books of a closed store are not found. A page past the end is empty.
    ///
    /// # Errors
    /// 530 for a keyword, page or page size out of range; 524 (no such store, or it is closed); 525 or 523 when nothing is found; 530
    /// (`page_size`) when the page's documents are longer than 32 MiB together, which a page of one book never is.
    /// [`Error::Overloaded`] until the index is complete after an open; see [`Engine::search_ready`].
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn search(&self, search: Search<'_>) -> Result<SearchPage> {
        check(&search)?;
        let core = &self.core;
        core.search.judge()?;
        let store = match search.store_id {
            None => None,
            Some(store_id) => match core.names.open_store(store_id) {
                Some((store, _)) => Some(store),
                None => return core.refuse(Refusal::NoStoreToSearch(store_id.into())).await,
            },
        };
        let skip = (search.page - 1).saturating_mul(search.page_size);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let found = core.search.library.find(search.keyword, search.fields, store, skip, search.page_size as usize);
        if found.total == 0 {
            let keyword = search.keyword.to_owned();
            return core
                .refuse(match search.store_id {
                    Some(store_id) => Refusal::NotFoundInStore { keyword, store_id: store_id.to_owned() },
                    None => Refusal::NotFound(keyword),
                })
                .await;
        }
        let books = core.show(&found.places).await?;
        Ok(SearchPage { books, total: found.total as u64, page: search.page, page_size: search.page_size })
    }

    /// Waits until the search index is complete after an open, which rebuilds it in the background. Nothing but
    /// searches has to wait for it.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if it cannot be rebuilt before the next open, because the documents cannot be read;
    /// [`Error::Draining`] if the engine was closed meanwhile.
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn search_ready(&self) -> Result<()> {
        let mut state = self.core.search.state.subscribe();
        // The sender lives in the core, so the wait ends with a state.
        let _ = state.wait_for(|state| *state != State::Rebuilding).await;
        self.core.search.judge()
    }
}

fn check(search: &Search<'_>) -> Result<()> {
    let (field, why) = if search.keyword.is_empty() {
        ("keyword", "must not be empty".to_owned())
    } else if search.keyword.len() > KEYWORD_BYTES_MAX {
        ("keyword", format!("must be at most {KEYWORD_BYTES_MAX} bytes long"))
    } else if search.page == 0 {
        ("page", "must be 1 or more".to_owned())
    } else if !(1..=PAGE_SIZE_MAX).contains(&search.page_size) {
        ("page_size", format!("must be 1 to {PAGE_SIZE_MAX}"))
    } else {
        return Ok(());
    };
    Err(Error::Refused(Refusal::invalid(field, why)))
}

/// The documents of a page; `None` if they are too long together.
fn read_page(documents: &Documents, wanted: &[DocumentHash]) -> Option<Vec<ReadDocument>> {
    let (mut read, mut bytes) = (Vec::with_capacity(wanted.len()), 0);
    for hash in wanted {
        let document = documents.get_blocking(hash);
        if let Ok(Some(document)) = &document {
            bytes += document.len();
        }
        if bytes > PAGE_BYTES_MAX && wanted.len() > 1 {
            return None;
        }
        read.push(document);
    }
    Some(read)
}

/// A stored document with the price of now.
fn priced(document: Vec<u8>, book: &Shelved) -> Option<Stored> {
    let mut stored = Stored::read(document)?;
    if book.repriced {
        stored.set_price(book.price)?;
    }
    Some(stored)
}

type ReadDocument = std::result::Result<Option<Vec<u8>>, ColdError>;

impl Core {
    /// The books of a page, in its order.
    async fn show(self: &Arc<Self>, places: &[Place]) -> Result<Vec<FoundBook>> {
        let shelved = self.shelved(places).await?;
        let _page = self.search.pages.acquire().await.map_err(|_| Error::Draining)?;
        let (core, wanted) = (self.clone(), shelved.iter().map(|book| book.document).collect::<Vec<_>>());
        let read = move || read_page(&core.documents, &wanted);
        let documents = tokio::task::spawn_blocking(read).await.map_err(|_| Error::Draining)?;
        let documents = documents.ok_or_else(|| {
            let why = format!("the books of this page are longer than {PAGE_BYTES_MAX} bytes, ask for fewer");
            Refusal::invalid("page_size", why)
        })?;
        let mut books = Vec::with_capacity(places.len());
        for ((place, shelved), document) in places.iter().zip(shelved).zip(documents) {
            let document = match document {
                Ok(Some(bytes)) => {
                    priced(bytes, &shelved).and_then(|stored| shown(&stored.text)).ok_or("it is no JSON")
                }
                Ok(None) => Err("it is not there"),
                Err(ColdError::Damaged { .. }) => Err("it is damaged"),
                Err(ColdError::Closed) => return Err(Error::Draining),
                Err(error) => {
                    tracing::error!(%error, "a book document cannot be read");
                    return Err(Error::Overloaded("the books' documents cannot be read"));
                }
            };
            match document {
                Ok(document) => books.push(FoundBook {
                    store_id: self.system.stores.name(place.store.0).cloned().unwrap_or_default(),
                    book_id: shelved.id,
                    document,
                    price: shelved.price,
                    stock_level: shelved.stock,
                }),
                // Damaged since it was indexed. The others are shown all the same.
                Err(why) => self.report_unread(&Unread { place: *place, why: why.into() }),
            }
        }
        Ok(books)
    }

    /// Asks the stores. Their answers pass the gate, and so does an empty page.
    async fn shelved(self: &Arc<Self>, places: &[Place]) -> Result<Vec<Shelved>> {
        let mut by_store: BTreeMap<StoreNo, Vec<usize>> = BTreeMap::new();
        for (index, place) in places.iter().enumerate() {
            by_store.entry(place.store).or_default().push(index);
        }
        if by_store.is_empty() {
            self.pass_gate().await?;
        }
        let mut shelved: Vec<Option<Shelved>> = vec![None; places.len()];
        let stores: Vec<_> = by_store.into_iter().collect();
        for some in stores.chunks(STORES_AT_ONCE) {
            let mut asked = Vec::with_capacity(some.len());
            for (store, indexes) in some {
                let wanted: Vec<BookNo> = indexes.iter().map(|index| places[*index].book).collect();
                let admission = self.system.answers.admit(0, None).await.map_err(|busy| self.busy(busy))?;
                let ticket = admission.ticket;
                self.system.send(Send::Store(*store, StoreMsg::Shelf { ticket, places: wanted }));
                asked.push((indexes, admission));
            }
            for (indexes, admission) in asked {
                match self.answer(admission).await? {
                    Outcome::Shelf(shelf) => {
                        for (index, book) in indexes.iter().zip(shelf) {
                            shelved[*index] = Some(book);
                        }
                    }
                    outcome => return self.unexpected(&outcome),
                }
            }
        }
        // Each store answers for every place that it was asked for.
        Ok(shelved.into_iter().flatten().collect())
    }

    fn report_unread(&self, book: &Unread) {
        self.search.unread.fetch_add(1, Ordering::Relaxed);
        let store = self.system.stores.name(book.place.store.0).cloned().unwrap_or_default();
        let book_id = self.book_id(book.place).unwrap_or_default();
        tracing::error!(%store, book = %book_id, why = %book.why, "a book's document cannot be read: search goes on without it");
    }

    fn book_id(&self, place: Place) -> Option<Arc<str>> {
        let books = self.system.stores.extra(place.store.0).read().unwrap_or_else(std::sync::PoisonError::into_inner);
        books.get(place.book.0 as usize).cloned()
    }

    /// Stores a book's document, durably, and prepares its entrance into the index, which takes place when the store
    /// has listed the book, whether anybody still waits for that or not.
    pub(super) async fn keep(
        &self,
        document: &str,
        outline: Outline,
        store: StoreNo,
        book_id: &Arc<str>,
    ) -> Result<(DocumentHash, Then)> {
        let library = self.search.library.clone();
        let study = {
            let library = library.clone();
            move |document: &str| (library.study(document, &outline), outline.cut(document))
        };
        let (entrance, (stored, pictures)) = if document.len() <= STUDIED_HERE_BYTES {
            study(document)
        } else {
            let document = document.to_owned();
            tokio::task::spawn_blocking(move || study(&document)).await.map_err(|_| Error::Draining)?
        };
        // Both are durable before the event that names the first, which names the second.
        let hash = match pictures {
            None => self.documents.put(stored).await,
            Some(pictures) => {
                let (pictures, stored) = tokio::join!(self.documents.put(pictures), self.documents.put(stored));
                pictures.and(stored)
            }
        };
        let hash = hash.map_err(|error| match error {
            ColdError::TooLarge { .. } => Refusal::invalid("book_info", error.to_string()).into(),
            ColdError::Closed => Error::Draining,
            error => {
                self.system.fail(format!("a book document could not be stored: {error}"));
                self.unknown()
            }
        })?;
        let (system, book_id) = (self.system.clone(), book_id.clone());
        let then = move |outcome: &Outcome| {
            if !matches!(outcome, Outcome::Done) {
                return;
            }
            // The store has just told its new book, and tells no other before it is done with this one.
            let books = system.stores.extra(store.0).read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let Some(place) = books.iter().rposition(|id| *id == book_id) else { return };
            drop(books);
            library.add(Place { store, book: BookNo(place as u32) }, entrance);
        };
        Ok((hash, Box::new(then)))
    }

    /// A book's document as it was listed, but for its price.
    pub(super) async fn document(&self, book: &Shelved) -> Result<String> {
        match self.whole_document(book).await {
            Ok(Some(document)) => return Ok(document),
            Ok(None) => tracing::error!(document = %book.document, "a book document is not there or damaged"),
            Err(ColdError::Closed) => return Err(Error::Draining),
            Err(error) => tracing::error!(%error, "a book document cannot be read"),
        }
        // An event names it, so it was durable once: the file is damaged.
        Err(Error::Overloaded("the book's document cannot be read"))
    }

    async fn whole_document(&self, book: &Shelved) -> std::result::Result<Option<String>, ColdError> {
        let stored = self.documents.get(&book.document).await?.and_then(|bytes| priced(bytes, book));
        let Some(stored) = stored else { return Ok(None) };
        let Some(pictures) = stored.pictures() else { return Ok(Some(stored.text)) };
        let pictures = self.documents.get(&pictures).await?;
        let pictures = pictures.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(pictures.map(|pictures| stored.with(&pictures)))
    }
}
