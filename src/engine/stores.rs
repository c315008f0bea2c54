//! The calls about stores, books and stock.

use std::sync::Arc;

use super::{BookView, Credential, Engine, Error, NewBook, OrderView, Result, check_id};
use crate::actors::{System, Then};
use crate::catalog::Outline;
use crate::cold::{ColdError, DOCUMENT_BYTES_MAX};
use crate::domain::{
    self, AccountMsg, AccountNo, Fen, OrderId, OrderMsg, Outcome, Refusal, Send, StoreMsg, StoreNo, Ticket,
};

impl Engine {
    /// Opens a store that this user owns. Store ids are global: of two calls for one id the second waits for the first
    /// one's outcome.
    ///
    /// # Errors
    /// 511, 401, 514, in this order.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation). If it was not admitted the id is free again at once.
    pub async fn create_store(&self, user_id: &str, credential: Credential<'_>, store_id: &str) -> Result<()> {
        check_id("store_id", store_id)?;
        let (owner, cred) = self.user(user_id, credential).await?;
        let core = &self.core;
        let name: Arc<str> = store_id.into();
        core.check_disk()?;
        let Some(claim) = core.names.claim_store(&name).await else {
            return core.refuse(Refusal::StoreExists(store_id.into())).await;
        };
        let store = StoreNo(core.system.stores.allocate());
        core.system.stores.prepare(store.0, name);
        let slot = Slot { system: core.system.clone(), store, kept: false };
        // The claim ends with the answer, or with this closure if the command is not admitted.
        let then = Box::new(move |outcome: &Outcome| {
            let mut slot = slot;
            if let Outcome::Done = outcome {
                slot.kept = true;
                claim.keep(store, owner);
            }
        });
        let message = |ticket| {
            let store_id = store_id.into();
            Send::Account(owner, AccountMsg::OpenStore { ticket, cred, store, store_id })
        };
        core.change_then(2 * store_id.len(), Some(then), message).await.map(|_| ())
    }

    /// Closes a store of which no order is open (pending, paid, shipped), for good. From then on it is not there (513)
    /// for all that would change it, and not found; its orders and its books can still be read, and its id stays taken
    /// (514). It does not keep its owner from [unregistering](Engine::unregister) any more.
    ///
    /// Orders are placed while it is looked for open ones; if one comes in between the store stays open.
    ///
    /// # Errors
    /// 511, 401, 513, 401 (somebody else's store), 530 (an order is open), in this order; [`Error::Overloaded`] if an
    /// order on disk cannot be read.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn close_store(&self, user_id: &str, credential: Credential<'_>, store_id: &str) -> Result<()> {
        check_id("store_id", store_id)?;
        let (store, user) = self.own_store(user_id, credential, store_id).await?;
        let message = |ticket| Send::Store(store, StoreMsg::Close { ticket, user });
        self.change_store(store_id, 0, None, message).await
    }

    /// Lists a book with `stock_level` copies. It is durable, can be found and can be ordered when this returns.
    ///
    /// # Errors
    /// 530 for a price or stock level below 0, or a document that is no JSON object or longer than 256 MiB; 511, 401,
    /// 513, 401 (somebody else's store), 516, in this order; 530 for a store that is full.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation), which is admitted only when the document is on the disk. If the future is
    /// dropped before, the document may stay there without a book that names it; listing the book again uses it. Once
    /// it is admitted the book will be found, too.
    pub async fn add_book(
        &self,
        user_id: &str,
        credential: Credential<'_>,
        store_id: &str,
        book: NewBook<'_>,
        stock_level: i64,
    ) -> Result<()> {
        check_id("store_id", store_id)?;
        check_id("id", book.id)?;
        check_not_negative("price", book.price)?;
        check_not_negative("stock_level", stock_level)?;
        let bytes = book.document.len();
        if bytes > DOCUMENT_BYTES_MAX {
            return Err(Refusal::invalid("book_info", ColdError::TooLarge { bytes }.to_string()).into());
        }
        let outline = Outline::of(book.document)
            .map_err(|why| Refusal::invalid("book_info", format!("must be a JSON object: {why}")))?;
        let (store, user) = self.own_store(user_id, credential, store_id).await?;
        let core = &self.core;
        core.check_disk()?;
        let id: Arc<str> = book.id.into();
        // Asked first, so that a refused book leaves no document behind.
        match self.level(store, id.clone()).await {
            Err(Error::Refused(Refusal::NoBook(_))) => {}
            Ok(_) => return core.refuse(Refusal::BookExists(id)).await,
            Err(error) => return Err(error),
        }
        let (document, then) = core.keep(book.document, outline, store, &id).await?;
        let listed = domain::NewBook { id, price: book.price, stock: stock_level, document };
        let books_max = core.config.limits.store_books_max;
        let message = |ticket| Send::Store(store, StoreMsg::AddBook { ticket, user, book: listed, books_max });
        self.change_store(store_id, book.id.len(), Some(then), message).await
    }

    /// Changes a stock level by `delta` copies; a negative one takes copies off the shelf. Also that of a book that is
    /// not for sale.
    ///
    /// # Errors
    /// 511, 401, 513, 401 (somebody else's store), 515, 530 (below 0 or overflow), in this order.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn add_stock_level(
        &self,
        user_id: &str,
        credential: Credential<'_>,
        store_id: &str,
        book_id: &str,
        delta: i64,
    ) -> Result<()> {
        let message = |ticket, user, book_id| StoreMsg::AddStock { ticket, user, book_id, delta };
        self.change_book(user_id, credential, store_id, book_id, message).await
    }

    /// Sets the price of a copy, in fen. Orders that were placed keep theirs. The new price is in the document that
    /// [`Engine::book`] and [`Engine::search`] give, in place of the value of its member `price`, if it has one; the rest
    /// of the text stays as it is to the byte. Setting the price that a book has changes nothing.
    ///
    /// # Errors
    /// 530 for a price below 0; 511, 401, 513, 401 (somebody else's store), 515, in this order.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn set_price(
        &self,
        user_id: &str,
        credential: Credential<'_>,
        store_id: &str,
        book_id: &str,
        price: Fen,
    ) -> Result<()> {
        // Fields are judged in their order: the ids before the price.
        check_book(store_id, book_id)?;
        check_not_negative("price", price)?;
        let message = |ticket, user, book_id| StoreMsg::SetPrice { ticket, user, book_id, price };
        self.change_book(user_id, credential, store_id, book_id, message).await
    }

    /// Takes a book out of sale: it is not ordered (515) and not found any more when this returns. Orders that were
    /// placed go on, and when one is canceled its copies come back to the book. The book can still be read, its stock
    /// level and its price be changed, and its id stays taken. Delisting a book that is not for sale changes nothing.
    ///
    /// # Errors
    /// 511, 401, 513, 401 (somebody else's store), 515, in this order.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn delist_book(
        &self,
        user_id: &str,
        credential: Credential<'_>,
        store_id: &str,
        book_id: &str,
    ) -> Result<()> {
        self.set_listed(user_id, credential, store_id, book_id, false).await
    }

    /// Puts a book that was delisted back on sale, with the stock and the price that it has by now: it can be found and
    /// ordered when this returns. Relisting a book that is for sale changes nothing.
    ///
    /// # Errors
    /// As [`Engine::delist_book`].
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn relist_book(
        &self,
        user_id: &str,
        credential: Credential<'_>,
        store_id: &str,
        book_id: &str,
    ) -> Result<()> {
        self.set_listed(user_id, credential, store_id, book_id, true).await
    }

    /// A change of a book by the owner of its store.
    async fn change_book(
        &self,
        user_id: &str,
        credential: Credential<'_>,
        store_id: &str,
        book_id: &str,
        message: impl FnOnce(Ticket, AccountNo, Arc<str>) -> StoreMsg,
    ) -> Result<()> {
        check_book(store_id, book_id)?;
        let (store, user) = self.own_store(user_id, credential, store_id).await?;
        self.change_store(store_id, 0, None, |ticket| Send::Store(store, message(ticket, user, book_id.into()))).await
    }

    async fn set_listed(
        &self,
        user_id: &str,
        credential: Credential<'_>,
        store_id: &str,
        book_id: &str,
        listed: bool,
    ) -> Result<()> {
        let message = |ticket, user, book_id| StoreMsg::SetListed { ticket, user, book_id, listed };
        self.change_book(user_id, credential, store_id, book_id, message).await
    }

    /// Marks a paid order of this store as shipped. With [`Config::auto_confirm`](crate::Config::auto_confirm) one that
    /// was paid to the platform is confirmed by itself so long after.
    ///
    /// # Errors
    /// 511, 401, 513, 401 (somebody else's store), 518 (also an order of another store), 520 (pending, canceled), 529
    /// (also completed), in this order.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn ship(&self, user_id: &str, credential: Credential<'_>, store_id: &str, order_id: &str) -> Result<()> {
        check_id("store_id", store_id)?;
        let (store, _) = self.own_store(user_id, credential, store_id).await?;
        let Some(order) = OrderId::parse(order_id) else {
            return self.core.refuse(Refusal::NoOrder(order_id.into())).await;
        };
        let confirm_after = self.core.config.auto_confirm.map(|after| after.as_millis() as u64);
        let message = |ticket| Send::Order(order.shard(), OrderMsg::Ship { ticket, order, store, confirm_after });
        self.core.change(0, message).await.map(|_| ())
    }

    /// Every order of a store, newest first. Each shard of orders is asked for itself, so an order that is placed
    /// meanwhile may be in the list or not.
    ///
    /// # Errors
    /// 511, 513, 401, 522 (not this user's store), in this order; 530 if there are more than
    /// [`Limits::orders_listed_max`](crate::Limits::orders_listed_max).
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn store_orders(
        &self,
        user_id: &str,
        credential: Credential<'_>,
        store_id: &str,
    ) -> Result<Vec<OrderView>> {
        check_id("user_id", user_id)?;
        check_id("store_id", store_id)?;
        let core = &self.core;
        if core.account(user_id).is_none() {
            return core.refuse(Refusal::NoUser(user_id.into())).await;
        }
        let Some((store, owner)) = core.names.store(store_id) else {
            return core.refuse(Refusal::NoStore(store_id.into())).await;
        };
        let (user, _) = self.user(user_id, credential).await?;
        if user != owner {
            return core.refuse(Refusal::NoStoreForUser(user_id.into())).await;
        }
        self.orders_of_store(store, core.config.limits.orders_listed_max).await
    }

    /// The orders of every store of the user, by store id; newest first in each. The stores are asked one after the
    /// other, so the lists are not of one moment.
    ///
    /// # Errors
    /// 511, 401, 522 (the user has no store), in this order; 530 if there are more than
    /// [`Limits::orders_listed_max`](crate::Limits::orders_listed_max) in all.
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn all_store_orders(
        &self,
        user_id: &str,
        credential: Credential<'_>,
    ) -> Result<Vec<(Arc<str>, Vec<OrderView>)>> {
        let (account, cred) = self.user(user_id, credential).await?;
        let core = &self.core;
        let message = |ticket| Send::Account(account, AccountMsg::Stores { ticket, cred });
        let stores = match core.ask(message).await? {
            Outcome::Stores(stores) => stores,
            outcome => return core.unexpected(&outcome),
        };
        if stores.is_empty() {
            return core.refuse(Refusal::NoStoreForUser(user_id.into())).await;
        }
        let mut lists = Vec::with_capacity(stores.len());
        let mut left = core.config.limits.orders_listed_max;
        for store in stores {
            let orders = self.orders_of_store(store, left).await?;
            left -= orders.len();
            lists.push((core.system.stores.name(store.0).cloned().unwrap_or_default(), orders));
        }
        Ok(lists)
    }

    /// Copies of a book on the shelf, for everybody to see; also of a book that is not for sale.
    ///
    /// # Errors
    /// 513, 515, in this order.
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn stock_level(&self, store_id: &str, book_id: &str) -> Result<i64> {
        check_id("store_id", store_id)?;
        check_id("book_id", book_id)?;
        let Some((store, _)) = self.core.names.store(store_id) else {
            return self.core.refuse(Refusal::NoStore(store_id.into())).await;
        };
        self.level(store, book_id.into()).await
    }

    /// A book as it was listed, but at the price of now, and how many copies are on the shelf, for everybody to see. Also
    /// a book that is not for sale is shown.
    ///
    /// # Errors
    /// 513, 515, in this order; [`Error::Overloaded`] if its document cannot be read now.
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn book(&self, store_id: &str, book_id: &str) -> Result<BookView> {
        check_id("store_id", store_id)?;
        check_id("book_id", book_id)?;
        let core = &self.core;
        let Some((store, _)) = core.names.store(store_id) else {
            return core.refuse(Refusal::NoStore(store_id.into())).await;
        };
        let book_id = book_id.into();
        let book = match core.ask(|ticket| Send::Store(store, StoreMsg::Book { ticket, book_id })).await? {
            Outcome::Book(book) => book,
            outcome => return core.unexpected(&outcome),
        };
        let document = core.document(&book).await?;
        Ok(BookView { document, price: book.price, stock_level: book.stock, is_listed: book.listed })
    }

    /// A change of a store, which may be closed by the time it comes there.
    async fn change_store(
        &self,
        store_id: &str,
        bytes: usize,
        then: Option<Then>,
        message: impl FnOnce(Ticket) -> Send,
    ) -> Result<()> {
        match self.core.change_then(bytes, then, message).await? {
            Outcome::StoreClosed => Err(Refusal::NoStore(store_id.into()).into()),
            _ => Ok(()),
        }
    }

    async fn level(&self, store: StoreNo, book_id: Arc<str>) -> Result<i64> {
        match self.core.ask(|ticket| Send::Store(store, StoreMsg::Stock { ticket, book_id })).await? {
            Outcome::Level(level) => Ok(level),
            outcome => self.core.unexpected(&outcome),
        }
    }

    /// The contract's first columns of the seller's routes: 511, token, 513 (also a closed store), owner.
    async fn own_store(
        &self,
        user_id: &str,
        credential: Credential<'_>,
        store_id: &str,
    ) -> Result<(StoreNo, AccountNo)> {
        let (user, _) = self.user(user_id, credential).await?;
        match self.core.names.open_store(store_id) {
            None => self.core.refuse(Refusal::NoStore(store_id.into())).await,
            Some((_, owner)) if owner != user => self.core.refuse(Refusal::Unauthorized).await,
            Some((store, _)) => Ok((store, user)),
        }
    }
}

/// A readied slot that is taken back unless its store was created.
struct Slot {
    system: Arc<System>,
    store: StoreNo,
    kept: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.kept {
            self.system.stores.discard(self.store.0);
        }
    }
}

fn check_book(store_id: &str, book_id: &str) -> Result<()> {
    check_id("store_id", store_id)?;
    check_id("book_id", book_id)
}

fn check_not_negative(field: &'static str, value: i64) -> Result<()> {
    if value < 0 {
        return Err(Error::Refused(Refusal::invalid(field, "must be 0 or more")));
    }
    Ok(())
}
