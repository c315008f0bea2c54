//! A data directory from rows of another system.
//!
//! Accounts and stores stay in memory until the end, because orders change what is known of them; orders and documents
//! are written as they come. All sums are kept such that the audit of the loaded data finds money and copies
//! conserved: an account has put in what it has now, plus what its paid orders cost, minus what it was paid; a book was
//! put on the shelf as often as it is there now and in orders that are not canceled.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::building::Building;
use super::given::{check, check_not_negative, old_id};
use super::hashing::{Hashed, Hashing};
use super::output::{Output, Rows};
use super::rows::{LoadAccount, LoadError, LoadLine, LoadOptions, LoadOrder, LoadPassword, LoadReport};
use crate::auth::PASSWORD_BYTES_MAX;
use crate::catalog::Outline;
use crate::cold::DOCUMENT_BYTES_MAX;
use crate::domain::{
    Account, AccountEvent, AccountNo, Blob, BookNo, By, DEPOSITS_MAX, Entity, Evidence, Fen, Line, Millis,
    ORDER_COUNT_BITS, ORDER_TOTAL_MAX, Order, OrderId, OrderStatus, PayKind, Persistent, Receipt, Secret, Store,
    StoreEvent, StoreNo,
};
use crate::engine::chunks::chunk;
use crate::engine::{NewBook, Progress};

/// The most books in a store and lines in an order: what an engine can be set to at most.
const STORE_BOOKS_MAX: usize = 100_000;
const ORDER_LINES_MAX: usize = 10_000;

/// Makes a data directory from rows: how a shop moves over from another system.
///
/// A row may name only what came before it: a store its owner, a book its store, an order its buyer, store and books.
/// Numbers and order ids are given in the order of the rows, so that the same rows give the same data (but for the
/// salts of passwords that come in clear).
///
/// Nothing has the directory's name before [`Loader::finish`] gave it, with everything in it synced. Dropping the
/// loader removes what was made so far. All of it blocks on the disk.
///
/// ```
/// use bookstore::offline::{LoadAccount, LoadOptions, LoadPassword, Loader};
/// use bookstore::{Config, Credential, Engine, NewBook, PasswordParams};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let parent = tempfile::tempdir()?;
/// # let dir = parent.path().join("shop");
/// let mut options = LoadOptions::default();
/// options.password_params.memory_kib = 64; // for the example
/// let mut loader = Loader::begin(&dir, options)?;
/// loader.account(&LoadAccount { user_id: "seller", password: LoadPassword::Clear("secret"), balance: 500 })?;
/// loader.store("corner", "seller")?;
/// let book = NewBook { id: "1000067", price: 3_880, document: r#"{"id":"1000067","title":"米","price":3880}"# };
/// loader.book("corner", &book, 10)?;
/// assert_eq!(loader.finish()?.books, 1);
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let engine = Engine::open(Config::directory(dir)).await?;
/// assert_eq!(engine.balance("seller", Credential::password("secret")).await?, 500);
/// assert!(engine.audit().await?.is_conserved());
/// # engine.close().await?;
/// # Ok(())
/// # })
/// # }
/// ```
pub struct Loader {
    began: Instant,
    order_ttl_ms: Millis,
    accounts: Vec<LoadedAccount>,
    account_numbers: HashMap<Arc<str>, AccountNo>,
    stores: Vec<(Arc<str>, Store)>,
    store_numbers: HashMap<Arc<str>, StoreNo>,
    /// Stores with orders that are open.
    with_open_orders: HashSet<StoreNo>,
    /// Hashes of the ids that orders had.
    order_ids: HashSet<u128>,
    /// Sum of what paid orders cost.
    turnover: Fen,
    report: LoadReport,
    hashing: Hashing,
    output: Output,
    /// Last, so that the files are closed when it removes them.
    building: Building,
}

struct LoadedAccount {
    name: Arc<str>,
    /// Missing while the password is being hashed.
    secret: Option<Secret>,
    balance: Fen,
    net_put_in: Fen,
    stores: Vec<StoreNo>,
    closed_stores: Vec<StoreNo>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("report", &self.report).finish_non_exhaustive()
    }
}

impl Loader {
    /// Begins to make `dir`, which must not exist, or be an empty directory.
    ///
    /// # Errors
    /// [`LoadError::Io`], also if there is something in `dir`; [`LoadError::Failed`].
    pub fn begin(dir: &Path, options: LoadOptions) -> Result<Loader, LoadError> {
        options.password_params.validate().map_err(LoadError::failed)?;
        let building = Building::begin(dir, "load")?;
        let output = Output::create(&building.dir, now_ms())?;
        Ok(Loader {
            began: Instant::now(),
            order_ttl_ms: options.order_ttl.as_millis() as Millis,
            accounts: Vec::new(),
            account_numbers: HashMap::new(),
            stores: Vec::new(),
            store_numbers: HashMap::new(),
            with_open_orders: HashSet::new(),
            order_ids: HashSet::new(),
            turnover: 0,
            report: LoadReport::default(),
            hashing: Hashing::new(options.password_params, options.hash_threads),
            output,
            building,
        })
    }

    /// What was taken so far.
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    /// Takes an account.
    ///
    /// # Errors
    /// [`LoadError::Row`] if the id, the password or the balance is out of its bounds, the id is taken, or the sum of
    /// all balances and of what the platform holds would reach 2^62 fen.
    pub fn account(&mut self, account: &LoadAccount<'_>) -> Result<(), LoadError> {
        check("user_id", account.user_id)?;
        check_not_negative("balance", account.balance)?;
        if self.account_numbers.contains_key(account.user_id) {
            return Err(LoadError::row("user_id", format!("there is an account {:?} already", account.user_id)));
        }
        let secret = match &account.password {
            LoadPassword::Clear(password) if password.is_empty() || password.len() > PASSWORD_BYTES_MAX => {
                return Err(LoadError::row("password", "must be 1 to 1,024 bytes"));
            }
            LoadPassword::Clear(_) => None,
            LoadPassword::Hash(hash) => Some(secret(hash)),
        };
        let number = next_number(self.accounts.len(), "user_id")?;
        self.add_money(account.balance, 0, "balance")?;
        let name: Arc<str> = account.user_id.into();
        self.account_numbers.insert(name.clone(), AccountNo(number));
        let (balance, net_put_in) = (account.balance, account.balance);
        self.accounts.push(LoadedAccount {
            name,
            secret,
            balance,
            net_put_in,
            stores: Vec::new(),
            closed_stores: Vec::new(),
        });
        self.report.accounts += 1;
        // Only now: the hash may be ready at once.
        if let LoadPassword::Clear(password) = &account.password {
            self.hashing.push(AccountNo(number), password);
            self.report.hashed += 1;
        }
        while let Some(hashed) = self.hashing.ready() {
            self.set_secret(hashed)?;
        }
        Ok(())
    }

    /// Takes a store.
    ///
    /// # Errors
    /// [`LoadError::Row`] if the id is out of its bounds or taken, or there is no such owner.
    pub fn store(&mut self, store_id: &str, owner: &str) -> Result<(), LoadError> {
        check("store_id", store_id)?;
        if self.store_numbers.contains_key(store_id) {
            return Err(LoadError::row("store_id", format!("there is a store {store_id:?} already")));
        }
        let owner = self.account_number(owner)?;
        let number = StoreNo(next_number(self.stores.len(), "store_id")?);
        let mut store = Store::new(number);
        store.apply(&StoreEvent::Created { store_id: store_id.into(), owner }, 0);
        let name: Arc<str> = store_id.into();
        self.store_numbers.insert(name.clone(), number);
        self.stores.push((name, store));
        self.account_mut(owner).stores.push(number);
        self.report.stores += 1;
        Ok(())
    }

    /// Says that a store that was taken is closed; see [`Engine::close_store`](crate::Engine::close_store). Its books and
    /// its orders are taken all the same, but none that is open.
    ///
    /// # Errors
    /// [`LoadError::Row`] if there is no such store, or one of its orders is pending, paid or shipped.
    pub fn close_store(&mut self, store_id: &str) -> Result<(), LoadError> {
        let number = self.store_number(store_id)?;
        if self.with_open_orders.contains(&number) {
            return Err(LoadError::row("store_id", "the store has open orders"));
        }
        let (_, store) = &mut self.stores[number.0 as usize - 1];
        if !store.closed {
            store.apply(&StoreEvent::Closed, 0);
            store.forget(&[Evidence::Closure(number)]);
            let owner = store.owner;
            self.account_mut(owner).closed_stores.push(number);
        }
        Ok(())
    }

    /// Takes a book with the copies that are on the shelf now. Orders that are loaded do not change them.
    ///
    /// # Errors
    /// [`LoadError::Row`] if id, price or level is out of its bounds, the document is no JSON object or longer than 256
    /// MiB, there is no such store, the store has this book or 100,000 books; [`LoadError::Failed`] if the document
    /// could not be stored.
    pub fn book(&mut self, store_id: &str, book: &NewBook<'_>, stock_level: i64) -> Result<(), LoadError> {
        check("id", book.id)?;
        check_not_negative("price", book.price)?;
        check_not_negative("stock_level", stock_level)?;
        let number = self.store_number(store_id)?;
        let (_, store) = &self.stores[number.0 as usize - 1];
        if store.place(book.id).is_some() {
            return Err(LoadError::row("id", format!("there is a book {:?} in this store already", book.id)));
        }
        if store.books.len() >= STORE_BOOKS_MAX {
            return Err(LoadError::row(
                "store_id",
                format!("the store has {STORE_BOOKS_MAX} books, which is the limit"),
            ));
        }
        if book.document.len() > DOCUMENT_BYTES_MAX {
            return Err(LoadError::row("book_info", format!("must be at most {DOCUMENT_BYTES_MAX} bytes")));
        }
        let outline = Outline::of(book.document)
            .map_err(|why| LoadError::row("book_info", format!("must be a JSON object: {why}")))?;
        let (document, pictures) = outline.cut(book.document);
        if let Some(pictures) = pictures {
            self.output.document(pictures)?;
        }
        let document = self.output.document(document)?;
        let (id, price) = (book.id.into(), book.price);
        let (_, store) = &mut self.stores[number.0 as usize - 1];
        store.apply(&StoreEvent::BookAdded { id, price, stock: stock_level, document }, 0);
        self.report.books += 1;
        self.report.stock += i128::from(stock_level);
        Ok(())
    }

    /// Sets the price of a book that was taken, as [`Engine::set_price`](crate::Engine::set_price) does: the one in its
    /// document is an old one. Orders say their own prices.
    ///
    /// # Errors
    /// [`LoadError::Row`] if the price is below 0, or there is no such store or book.
    pub fn set_price(&mut self, store_id: &str, book_id: &str, price: Fen) -> Result<(), LoadError> {
        check_not_negative("price", price)?;
        let (store, book) = self.book_of(store_id, book_id)?;
        if store.books[book.0 as usize].price != price {
            store.apply(&StoreEvent::PriceSet { book, price }, 0);
        }
        Ok(())
    }

    /// Says that a book that was taken is not for sale; see [`Engine::delist_book`](crate::Engine::delist_book). Orders
    /// of it are taken all the same.
    ///
    /// # Errors
    /// [`LoadError::Row`] if there is no such store or book.
    pub fn delist_book(&mut self, store_id: &str, book_id: &str) -> Result<(), LoadError> {
        let (store, book) = self.book_of(store_id, book_id)?;
        if store.books[book.0 as usize].listed {
            store.apply(&StoreEvent::Delisted { book }, 0);
        }
        Ok(())
    }

    /// Takes an order and gives it an id, which tells its time and its buyer's shard.
    ///
    /// # Errors
    /// [`LoadError::Row`] if a field is out of its bounds, it names a user, store or book that is not there, its id or
    /// a line is doubled, its total would reach 2^53 fen, or a sum over all would reach 2^62 fen.
    pub fn order(&mut self, order: &LoadOrder<'_>) -> Result<OrderId, LoadError> {
        let old_id = order.order_id.map(old_id).transpose()?;
        if old_id.is_some_and(|id| self.order_ids.contains(&id)) {
            let why = format!("there is an order {:?} already", order.order_id.unwrap_or_default());
            return Err(LoadError::row("order_id", why));
        }
        let buyer = self.account_number(order.user_id)?;
        let store = self.store_number(order.store_id)?;
        let (lines, total) = self.lines(store, order.status, order.lines)?;
        let seller = self.stores[store.0 as usize - 1].1.owner;
        let row = self.order_row(order, buyer, seller, store, lines, total)?;
        if row.is_open() && self.stores[store.0 as usize - 1].1.closed {
            return Err(LoadError::row("status", "the store is closed, so it has no open orders"));
        }
        let id = self.order_id(row.created, buyer);
        self.pay(&row)?;
        // From here on nothing is refused any more.
        if row.is_open() {
            self.with_open_orders.insert(store);
        }
        let (_, store) = &mut self.stores[store.0 as usize - 1];
        if row.status != OrderStatus::Canceled {
            for line in &row.lines {
                store.books[line.book.0 as usize].taken += line.count;
            }
        }
        self.order_ids.extend(old_id);
        self.report.orders += 1;
        self.output.order(id, row)?;
        Ok(id)
    }

    fn order_row(
        &self,
        order: &LoadOrder<'_>,
        buyer: AccountNo,
        seller: AccountNo,
        store: StoreNo,
        lines: Box<[Line]>,
        total: Fen,
    ) -> Result<Order, LoadError> {
        let (status, created) = (order.status, order.created_ms);
        // What comes next to the order is at the service's time, which must not be before that.
        let latest = now_ms();
        if created == 0 || created > latest {
            return Err(LoadError::row("created_time", "must be a time after 1970 and not in the future"));
        }
        let was_paid = match status {
            OrderStatus::Pending => false,
            // Then it was refunded.
            OrderStatus::Canceled => order.times.paid_ms.is_some(),
            _ => true,
        };
        let was_shipped = matches!(status, OrderStatus::Shipped | OrderStatus::Received | OrderStatus::Completed);
        let shipped = order.is_shipped.unwrap_or(was_shipped);
        if (shipped && !was_shipped) || (!shipped && status == OrderStatus::Shipped) {
            return Err(LoadError::row("is_shipped", format!("does not fit the status `{}`", status.as_str())));
        }
        let payment = was_paid.then_some(match order.paid_to_platform {
            true => PayKind::Platform,
            false => PayKind::Direct,
        });
        let is_over = matches!(status, OrderStatus::Completed | OrderStatus::Canceled);
        // As many as it took events to come here.
        let seq = 1 + u32::from(was_paid) + u32::from(shipped) + u32::from(is_over);
        let deadline = order.deadline_ms.unwrap_or_else(|| created.saturating_add(self.order_ttl_ms));
        let times = &order.times;
        // The time of each step is that of the one before it, or later.
        let mut before = created;
        let mut step = |field, taken: bool, time: Option<Millis>| match time {
            Some(_) if !taken => Err(LoadError::row(field, format!("does not fit the status `{}`", status.as_str()))),
            Some(time) if time < before || time > latest => {
                Err(LoadError::row(field, "must not be before the step before it, nor in the future"))
            }
            time => {
                before = time.unwrap_or(before);
                Ok(taken.then_some(before))
            }
        };
        let paid = step("paid_time", was_paid, times.paid_ms)?;
        let shipped = step("shipped_time", shipped, times.shipped_ms)?;
        let confirmed = step("confirmed_time", status == OrderStatus::Completed, times.confirmed_ms)?;
        let canceled = step("canceled_time", status == OrderStatus::Canceled, times.canceled_ms)?;
        let canceled_by = times.canceled_by.unwrap_or(By::Buyer);
        let fits = match times.canceled_by {
            None => true,
            Some(By::Buyer) => canceled.is_some(),
            Some(By::Deadline) => !was_paid && canceled.is_some_and(|at| at >= deadline),
            Some(By::Seller) => false,
        };
        if !fits {
            return Err(LoadError::row("canceled_by", "does not fit what is said of the order"));
        }
        let is_on_its_way = status == OrderStatus::Shipped && order.paid_to_platform;
        let receipt = times.confirm_deadline_ms.map(|confirm_by| Box::new(Receipt { confirm_by, extended: None }));
        if receipt.as_ref().is_some_and(|receipt| !is_on_its_way || receipt.confirm_by < before) {
            let why =
                "is only for an order that is shipped and was paid to the platform, and not before it was shipped";
            return Err(LoadError::row("confirm_deadline", why));
        }
        let ended = confirmed.map(|at| (at, By::Buyer)).or(canceled.map(|at| (at, canceled_by)));
        Ok(Order {
            seq,
            status,
            payment,
            buyer,
            seller,
            store,
            lines,
            total,
            created,
            deadline,
            paid,
            shipped,
            receipt,
            ended,
            keys: Vec::new(),
        })
    }

    /// Makes everything durable, gives the directory its name, and says what is in it.
    ///
    /// # Errors
    /// [`LoadError::Io`], [`LoadError::Failed`]; nothing is left then.
    pub fn finish(self) -> Result<LoadReport, LoadError> {
        self.finish_with_progress(&mut |_| ControlFlow::Continue(()))
    }

    /// As [`Loader::finish`]; `progress` is told of passwords that wait for their hash (`passwords`) and of rows
    /// written (`accounts`, `stores`), and can end it.
    ///
    /// # Errors
    /// As [`Loader::finish`], and [`LoadError::CutShort`].
    pub fn finish_with_progress(
        mut self,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<LoadReport, LoadError> {
        let mut tell = |stage, done, total| match progress(Progress { stage, done, total: Some(total) }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(LoadError::CutShort),
        };
        while let Some(hashed) = self.hashing.next() {
            self.set_secret(hashed)?;
            tell("passwords", self.report.hashed - self.hashing.waiting(), self.report.hashed)?;
        }
        self.account_numbers = HashMap::new();
        let mut rows = Rows::new(chunk::ACCOUNTS);
        for (number, loaded) in (1..).zip(std::mem::take(&mut self.accounts)) {
            let name = loaded.name.clone();
            rows.named(&name, loaded.into_row(AccountNo(number))?);
            self.output.rows(&mut rows)?;
            tell("accounts", u64::from(number), self.report.accounts)?;
        }
        self.output.last_rows(rows)?;
        for (done, (name, store)) in (1..).zip(std::mem::take(&mut self.stores)) {
            // One a chunk: a store may be large.
            let mut rows = Rows::new(chunk::STORES);
            rows.named(&name, store.encode());
            self.output.last_rows(rows)?;
            tell("stores", done, self.report.stores)?;
        }
        self.report.snapshot_bytes = self.output.finish()?;
        self.report.dir = self.building.finish()?;
        self.report.took = self.began.elapsed();
        Ok(self.report)
    }

    fn set_secret(&mut self, (account, hash): Hashed) -> Result<(), LoadError> {
        let hash = hash.map_err(LoadError::failed)?;
        self.account_mut(account).secret = Some(secret(&hash));
        Ok(())
    }

    fn account_mut(&mut self, account: AccountNo) -> &mut LoadedAccount {
        &mut self.accounts[account.0 as usize - 1]
    }

    fn account_number(&self, user_id: &str) -> Result<AccountNo, LoadError> {
        let found = self.account_numbers.get(user_id).copied();
        found.ok_or_else(|| LoadError::row("user_id", format!("no account {user_id:?} came before")))
    }

    fn store_number(&self, store_id: &str) -> Result<StoreNo, LoadError> {
        let found = self.store_numbers.get(store_id).copied();
        found.ok_or_else(|| LoadError::row("store_id", format!("no store {store_id:?} came before")))
    }

    fn book_of(&mut self, store_id: &str, book_id: &str) -> Result<(&mut Store, BookNo), LoadError> {
        let number = self.store_number(store_id)?;
        let (_, store) = &mut self.stores[number.0 as usize - 1];
        let place = store.place(book_id);
        let place =
            place.ok_or_else(|| LoadError::row("id", format!("no book {book_id:?} of this store came before")))?;
        Ok((store, place))
    }

    fn lines(
        &self,
        store: StoreNo,
        status: OrderStatus,
        lines: &[LoadLine<'_>],
    ) -> Result<(Box<[Line]>, Fen), LoadError> {
        if lines.len() > ORDER_LINES_MAX {
            return Err(LoadError::row("books", format!("must have at most {ORDER_LINES_MAX} lines")));
        }
        let (_, store) = &self.stores[store.0 as usize - 1];
        let mut books = HashSet::with_capacity(lines.len());
        let mut total: Fen = 0;
        let mut taken = Vec::with_capacity(lines.len());
        for line in lines {
            check_not_negative("price", line.price)?;
            if line.count < 1 {
                return Err(LoadError::row("count", "must be 1 or more"));
            }
            let place = store.place(line.book_id);
            let no_book = || LoadError::row("books", format!("the store has no book {:?}", line.book_id));
            let place = place.ok_or_else(no_book)?;
            if !books.insert(place) {
                return Err(LoadError::row("books", format!("the book {:?} stands on two lines", line.book_id)));
            }
            let book = &store.books[place.0 as usize];
            let all = book.taken.checked_add(line.count).and_then(|taken| taken.checked_add(book.stock));
            if status != OrderStatus::Canceled && all.is_none() {
                return Err(LoadError::row("count", "the copies of this book in all orders would overflow"));
            }
            let sum = line.count.checked_mul(line.price).and_then(|price| total.checked_add(price));
            total = sum
                .filter(|sum| *sum < ORDER_TOTAL_MAX)
                .ok_or_else(|| LoadError::row("books", "the total must stay below 2^53 fen"))?;
            taken.push(Line { book: place, count: line.count, price: line.price });
        }
        Ok((taken.into(), total))
    }

    /// Books what an order has moved already: out of the buyer's hands, into the seller's or the platform's.
    fn pay(&mut self, order: &Order) -> Result<(), LoadError> {
        // What was refunded is where it was.
        if order.payment.is_none() || order.status == OrderStatus::Canceled {
            return Ok(());
        }
        let turnover = self.turnover.checked_add(order.total).filter(|sum| *sum < DEPOSITS_MAX);
        let turnover =
            turnover.ok_or_else(|| LoadError::row("books", "the sum of all paid orders must stay below 2^62 fen"))?;
        self.add_money(0, order.escrow(), "books")?;
        self.turnover = turnover;
        // Neither can overflow: both sums, over all accounts, are below 2^62.
        self.account_mut(order.buyer).net_put_in += order.total;
        self.account_mut(order.seller).net_put_in -= order.total - order.escrow();
        Ok(())
    }

    fn add_money(&mut self, balance: Fen, escrow: Fen, field: &'static str) -> Result<(), LoadError> {
        let balances = self.report.balances.checked_add(balance);
        let held = self.report.escrow.checked_add(escrow);
        match balances.zip(held) {
            Some((balances, held)) if balances.checked_add(held).is_some_and(|sum| sum < DEPOSITS_MAX) => {
                (self.report.balances, self.report.escrow) = (balances, held);
                Ok(())
            }
            _ => Err(LoadError::row(
                field,
                "the sum of all balances and of what the platform holds must stay below 2^62 fen",
            )),
        }
    }

    /// Ids of orders of the same millisecond sort by the order in which they came.
    fn order_id(&self, created: Millis, buyer: AccountNo) -> OrderId {
        let index = self.report.orders;
        let stamp = created << ORDER_COUNT_BITS | (index & ((1 << ORDER_COUNT_BITS) - 1));
        let hash = blake3::hash(&index.to_le_bytes());
        OrderId::new(stamp, buyer, u64::from_le_bytes(std::array::from_fn(|place| hash.as_bytes()[place])))
    }
}

impl LoadedAccount {
    fn into_row(self, number: AccountNo) -> Result<Box<[u8]>, LoadError> {
        let secret = self.secret.ok_or_else(|| LoadError::failed("a password was not hashed"))?;
        let mut account = Account::new(number);
        account.apply(&AccountEvent::Registered { user_id: Box::from(&*self.name), secret }, 0);
        (account.balance, account.net_put_in) = (self.balance, self.net_put_in);
        (account.stores, account.closed_stores) = (self.stores, self.closed_stores);
        Ok(account.encode())
    }
}

fn now_ms() -> Millis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as Millis)
}

fn secret(hash: &crate::auth::PasswordHash) -> Secret {
    Blob(hash.to_stored())
}

/// Numbers begin with 1; the last one is kept free for who counts past it.
fn next_number(given: usize, field: &'static str) -> Result<u32, LoadError> {
    let number = u32::try_from(given + 1).ok().filter(|number| *number < u32::MAX);
    number.ok_or_else(|| LoadError::row(field, "there are 4 billion already"))
}
