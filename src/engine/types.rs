//! Plain data at the engine's boundary.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::catalog::SearchFields;
pub use crate::domain::{By, OrderId, OrderStatus, PayKind};
use crate::stats::HistogramSnapshot;

/// What a caller proves himself with. Every call that wants one takes any of them.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Credential<'a> {
    /// The user's password. `from` is the client's address, if wrong passwords shall be throttled by it.
    Password {
        /// The password in clear.
        password: &'a str,
        /// The client's address.
        from: Option<IpAddr>,
    },
    /// A token that [`Engine::login`](crate::Engine::login) gave to this user.
    Token(&'a str),
    /// The embedder has authenticated the user himself. Ownership is still judged.
    Trusted,
}

impl<'a> Credential<'a> {
    /// A password with no address: wrong ones are counted by user only.
    pub fn password(password: &'a str) -> Self {
        Credential::Password { password, from: None }
    }

    /// A password from an address, by which wrong ones are counted, too.
    pub fn password_from(password: &'a str, from: IpAddr) -> Self {
        Credential::Password { password, from: Some(from) }
    }
}

impl std::fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credential::Password { .. } => "Password(..)",
            Credential::Token(_) => "Token(..)",
            Credential::Trusted => "Trusted",
        })
    }
}

/// A book as a seller lists it. Whatever else is to be said of a book is in its document; these fields are what the
/// engine itself judges and counts, so there will not be more of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewBook<'a> {
    /// The book's id, unique in its store: 1 to 256 bytes.
    pub id: &'a str,
    /// Price of a copy in fen, 0 or more.
    pub price: i64,
    /// The whole `book_info`, kept byte for byte and given back. It must be a JSON object, else listing it is refused
    /// (530, `book_info`). Search looks at its strings `title`, `author`, `publisher`, `isbn`, `content` and
    /// `book_intro` and its list of strings `tags`; what is of another type is not searched. The value of
    /// `pictures` is stored apart, and once if other books have the same.
    pub document: &'a str,
}

/// A book as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BookView {
    /// The whole `book_info` as it was listed. If the price was set since, that stands as its member `price`, if it
    /// has one.
    pub document: String,
    /// Price of a copy now, in fen.
    pub price: i64,
    /// Copies on the shelf.
    pub stock_level: i64,
    /// Whether it is for sale; see [`Engine::delist_book`](crate::Engine::delist_book).
    pub is_listed: bool,
}

/// What to search for. [`Search::new`] gives the defaults; set fields or chain from there.
///
/// ```
/// use bookstore::{Search, SearchFields};
///
/// let search = Search::new("红楼梦").in_fields(SearchFields::TITLE).in_store("corner").page(2, 50);
/// assert_eq!((search.page, search.page_size), (2, 50));
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Search<'a> {
    /// Words, all of which must match: 1 to [`crate::KEYWORD_BYTES_MAX`] bytes.
    pub keyword: &'a str,
    /// Where they may match. Default: all fields.
    pub fields: SearchFields,
    /// Only books of this store. Default: of all stores.
    pub store_id: Option<&'a str>,
    /// Which page, from 1. Default 1.
    pub page: u64,
    /// Books a page: 1 to [`crate::PAGE_SIZE_MAX`]. Default 20.
    pub page_size: u64,
}

impl<'a> Search<'a> {
    /// A search for `keyword` in all fields of all books; the first page of 20.
    pub fn new(keyword: &'a str) -> Self {
        Search { keyword, fields: SearchFields::ALL, store_id: None, page: 1, page_size: 20 }
    }

    /// Looks at these fields only.
    pub fn in_fields(mut self, fields: SearchFields) -> Self {
        self.fields = fields;
        self
    }

    /// As [`Search::in_fields`], with the contract's `search_scope`; see [`SearchFields::parse`].
    pub fn in_scope(self, scope: &str) -> Self {
        self.in_fields(SearchFields::parse(scope))
    }

    /// Looks at the books of this store only.
    pub fn in_store(mut self, store_id: &'a str) -> Self {
        self.store_id = Some(store_id);
        self
    }

    /// Wants this page, with pages of this many books.
    pub fn page(mut self, page: u64, page_size: u64) -> Self {
        self.page = page;
        self.page_size = page_size;
        self
    }
}

/// A book that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundBook {
    /// The store that lists it.
    pub store_id: std::sync::Arc<str>,
    /// Its id there.
    pub book_id: std::sync::Arc<str>,
    /// The `book_info` as it was listed, a JSON object, but with the price of now as in [`BookView::document`], and
    /// without the keys `pictures`, `store_id` and `stock_level`. For the whole, ask [`crate::Engine::book`].
    pub document: String,
    /// Price of a copy now, in fen.
    pub price: i64,
    /// Copies on the shelf.
    pub stock_level: i64,
}

/// A page of what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchPage {
    /// The books of the page, in their order; empty past the end. A book whose document was damaged since it was
    /// indexed is left out.
    pub books: Vec<FoundBook>,
    /// Books that match, on all pages.
    pub total: u64,
    /// The page that was asked for, from 1.
    pub page: u64,
    /// Books a page.
    pub page_size: u64,
}

/// A line of an order that is placed. There will not be more fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewLine<'a> {
    /// The book's id in the store.
    pub book_id: &'a str,
    /// Copies, 1 or more.
    pub count: i64,
}

/// A line of an order as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LineView {
    /// The book's id in the store.
    pub book_id: std::sync::Arc<str>,
    /// Copies.
    pub count: i64,
    /// Price of a copy in fen at order time.
    pub price: i64,
}

/// An order as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrderView {
    /// The order's id.
    pub order_id: OrderId,
    /// The buyer's user id.
    pub user_id: std::sync::Arc<str>,
    /// The store's id.
    pub store_id: std::sync::Arc<str>,
    /// Where the order stands.
    pub status: OrderStatus,
    /// Sum over the lines, in fen.
    pub total_price: i64,
    /// When it was placed, in ms since the Unix epoch.
    pub created_ms: u64,
    /// `ship` succeeded once.
    pub is_shipped: bool,
    /// The lines, one per book.
    pub lines: Vec<LineView>,
}

/// A step that an order has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrderStep {
    /// When, in ms since the Unix epoch.
    pub at_ms: u64,
    /// Who took it.
    pub by: By,
}

/// An order with its way. Of a directory that was loaded from another system, a time that it did not know is that of the
/// step before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrderDetails {
    /// As it is listed.
    pub order: OrderView,
    /// How it was paid, if it was.
    pub payment: Option<PayKind>,
    /// When it is canceled if it is still pending, in ms since the Unix epoch.
    pub deadline_ms: u64,
    /// When it is, was or would have been confirmed by itself, in ms since the Unix epoch; `None` if never.
    pub confirm_deadline_ms: Option<u64>,
    /// It was placed.
    pub placed: OrderStep,
    /// It was paid.
    pub paid: Option<OrderStep>,
    /// It was shipped.
    pub shipped: Option<OrderStep>,
    /// The buyer put its confirmation off.
    pub extended: Option<OrderStep>,
    /// It was confirmed.
    pub confirmed: Option<OrderStep>,
    /// It was canceled.
    pub canceled: Option<OrderStep>,
}

/// How many orders there are of each state, and what the platform holds for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrderTotals {
    /// By state, in the order of [`OrderStatus::ALL`].
    pub(super) counts: [u64; OrderStatus::ALL.len()],
    /// Sum over orders that are paid to the platform and not completed, in fen.
    pub escrow: i128,
}

impl OrderTotals {
    /// Orders of this state.
    pub fn of(&self, status: OrderStatus) -> u64 {
        self.counts[usize::from(u8::from(status))]
    }

    /// Orders of all states.
    pub fn all(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// How a user stands, for who operates the service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserStanding {
    /// The user's id.
    pub user_id: String,
    /// The balance in fen, without what is held for a payment under way.
    pub balance: i64,
    /// Put in minus taken out, in fen.
    pub net_put_in: i64,
    /// Orders placed, in any state.
    pub orders: u64,
    /// Those of them that are neither completed nor canceled.
    pub open_orders: u64,
    /// Stores, closed ones included, in the order in which they were opened.
    pub stores: Vec<StoreStanding>,
    /// The password was verified lately, so that it need not be hashed at the next request.
    pub is_password_remembered: bool,
    /// Tokens that were used lately and are valid. Tokens are signed and not kept, so how many there are nobody knows.
    pub remembered_tokens: u64,
    /// Tokens that were revoked and would be valid otherwise.
    pub revoked_tokens: u64,
    /// Idempotency keys of deposits and withdrawals that are kept.
    pub deposit_keys: u64,
    /// Wrong passwords in the last minute.
    pub wrong_passwords: u64,
    /// Seconds until a password of this user is looked at again, if there were too many wrong ones.
    pub throttled_s: Option<u64>,
}

/// A store of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStanding {
    /// The store's id.
    pub store_id: std::sync::Arc<str>,
    /// It is closed, for good.
    pub is_closed: bool,
    /// Books in it, listed or not.
    pub books: u64,
}

/// What [`Engine::open`](crate::Engine::open) found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// Accounts, open and closed.
    pub accounts: u64,
    /// Stores.
    pub stores: u64,
    /// Orders in memory.
    pub orders: u64,
    /// Orders at rest on disk. One that something happened to since the snapshot is in memory, too.
    pub resting_orders: u64,
    /// Events that were replayed from the journal.
    pub replayed_events: u64,
    /// Bytes of a batch that were cut from the journal's end. A crash tore it, before it was acknowledged; or it was
    /// damaged later, which cannot be told apart.
    pub cut_bytes: u64,
    /// Sagas that a crash had interrupted and that were finished.
    pub finished_sagas: u64,
    /// The snapshot that was loaded.
    pub snapshot: Option<PathBuf>,
    /// Snapshots that were damaged and passed over.
    pub damaged_snapshots: Vec<String>,
    /// Time from the start of the open until ready.
    pub took: Duration,
}

/// A snapshot that was published.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SnapshotReport {
    /// The file; `None` for an engine in memory.
    pub path: Option<PathBuf>,
    /// Its bytes.
    pub bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// How long it took.
    pub took: Duration,
}

/// Where all money and all copies are, taken while nothing moves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditReport {
    /// Accounts that are open.
    pub accounts: u64,
    /// Stores, closed ones included.
    pub stores: u64,
    /// Those of them that are closed.
    pub closed_stores: u64,
    /// Orders in any state.
    pub orders: u64,
    /// Sum of all balances, in fen.
    pub balances: i128,
    /// Sum over orders that are paid to the platform and not completed, in fen.
    pub escrow: i128,
    /// Everything ever put in minus everything withdrawn, in fen.
    pub net_put_in: i128,
    /// Copies on the shelves.
    pub stock: i128,
    /// Copies in orders that are not canceled.
    pub ordered: i128,
    /// Copies ever put in, minus those taken out by negative changes.
    pub stock_put_in: i128,
    /// What must not be, counted: orders that are open in a closed store, or on their way there, and stores that are
    /// closed and counted as open by their owner's account, or the other way round. 0 in a sound shop.
    pub contradictions: u64,
    /// Order-independent hash over all rows. It is the same before a clean close and after the open.
    pub state_hash: u128,
}

impl AuditReport {
    /// Whether money and stock are conserved.
    pub fn is_conserved(&self) -> bool {
        self.balances + self.escrow == self.net_put_in && self.stock + self.ordered == self.stock_put_in
    }
}

/// Counters and gauges of a running engine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    /// The newest journaled event.
    pub journal_head: u64,
    /// The newest durable event. The difference to the head is the watermark's lag.
    pub journal_durable: u64,
    /// Batches written since open.
    pub journal_batches: u64,
    /// Frames written since open.
    pub journal_frames: u64,
    /// Bytes written since open.
    pub journal_bytes: u64,
    /// Frames a batch.
    pub journal_batch_frames: HistogramSnapshot,
    /// Time of a sync, in microseconds.
    pub journal_sync_micros: HistogramSnapshot,
    /// Account and store actors that are alive.
    pub live_actors: u64,
    /// Accounts and stores that are asleep.
    pub dormant_actors: u64,
    /// Commands admitted and not answered.
    pub permits_in_use: u64,
    /// The most that may be.
    pub permits_max: u64,
    /// Orders in memory, as of the last second.
    pub orders_in_memory: u64,
    /// Orders at rest on disk, some of which may be in memory as well.
    pub orders_resting: u64,
    /// Orders that left memory since open.
    pub orders_left: u64,
    /// Time since the newest snapshot was published, or since the open if none was in this process.
    pub snapshot_age: Duration,
    /// How long the newest snapshot of this process took; zero before it.
    pub snapshot_took: Duration,
    /// Snapshots published since open.
    pub snapshots: u64,
    /// Snapshots that failed since open.
    pub snapshot_failures: u64,
    /// Backups made since open.
    pub backups: u64,
    /// Backups that failed since open; one that was ended on purpose did not.
    pub backup_failures: u64,
    /// When the newest backup since open was begun, by the clock of the system; `None` before it is whole.
    pub last_backup: Option<SystemTime>,
    /// Free bytes on the data directory's disk are below the limit, so changes are refused.
    pub disk_low: bool,
    /// Free bytes on the data directory's disk, as of the last second; `None` if nobody looked: an engine in memory.
    pub disk_free: Option<u64>,
    /// Accounts, closed ones included.
    pub accounts: u64,
    /// Stores, closed ones included.
    pub stores: u64,
    /// Everything ever put in minus everything withdrawn, in fen, with deposits on their way.
    pub net_put_in: i64,
    /// Commits of books' documents since open.
    pub document_commits: u64,
    /// Rows of orders at rest that were ever written to this directory, overwritten ones included.
    pub resting_rows_written: u64,
    /// Books in the search index, those included that are not for sale.
    pub search_books: u64,
    /// Different tokens in the search index.
    pub search_tokens: u64,
    /// Bytes of the search index, estimated.
    pub search_index_bytes: u64,
    /// The search index is complete, so that searches are answered.
    pub search_ready: bool,
    /// How long the search index took to be rebuilt after the open; zero until it is complete.
    pub search_rebuild: Duration,
    /// Times that a book's document could not be read for a search or the index.
    pub search_unread: u64,
    /// Password hashes computed since the open: for new passwords, and for checks that memory could not answer.
    pub password_hashes: u64,
}
