//! The inventory: books, prices, stock, and the evidence of orders on their way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ORDER_TOTAL_MAX;
use super::account::append_and_answer;
use super::effect::{Effect, Effects, Entity, OnPanic, Outcome, Shelved};
use super::event::{Book, Evidence, Facts, Line, Release, Reservation, StoreEvent};
use super::hash::NumberMap;
use super::ids::{AccountNo, BookNo, Fen, Millis, OrderId, SHARDS, StoreNo, Ticket};
use super::key::Key;
use super::message::{AccountMsg, Address, NewBook, NewLine, OrderMsg, Send, StoreMsg};
use super::refusal::Refusal;
use crate::planted::{Fault, planted};

/// A store. Its row in a snapshot and its dormant form are this struct, encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    pub(crate) number: StoreNo,
    pub(crate) seq: u64,
    pub(crate) owner: AccountNo,
    pub(crate) books: Vec<Book>,
    pub(crate) reservations: BTreeMap<OrderId, Reservation>,
    pub(crate) releases: BTreeMap<OrderId, Release>,
    /// Orders that ever took copies here: whoever looks twice knows whether one came in between.
    pub(crate) placed: u64,
    pub(crate) closed: bool,
    /// Evidence of a closing that the owner's account may not know of yet.
    pub(crate) closure: bool,
    /// Book ids to places; an index, rebuilt by [`Store::index`].
    #[serde(skip)]
    places: HashMap<Arc<str>, BookNo>,
}

impl Store {
    /// A store before its first event.
    pub fn new(number: StoreNo) -> Self {
        Store {
            number,
            seq: 0,
            owner: AccountNo(0),
            books: Vec::new(),
            reservations: BTreeMap::new(),
            releases: BTreeMap::new(),
            placed: 0,
            closed: false,
            closure: false,
            places: HashMap::new(),
        }
    }

    /// Rebuilds the index after the row was decoded.
    pub fn index(&mut self) {
        self.places = (0..).zip(&self.books).map(|(place, book)| (book.id.clone(), BookNo(place))).collect();
    }

    /// Where a book stands.
    pub fn place(&self, id: &str) -> Option<BookNo> {
        self.places.get(id).copied()
    }

    fn find(&self, id: &Arc<str>) -> Result<BookNo, Refusal> {
        self.places.get(id).copied().ok_or_else(|| Refusal::NoBook(id.clone()))
    }

    fn book(&self, place: BookNo) -> &Book {
        &self.books[place.0 as usize]
    }

    fn check_owner(&self, user: AccountNo) -> Result<(), Refusal> {
        if user != self.owner {
            return Err(Refusal::Unauthorized);
        }
        Ok(())
    }

    fn add_book(&self, user: AccountNo, book: NewBook, books_max: usize) -> Result<StoreEvent, Refusal> {
        self.check_owner(user)?;
        if self.places.contains_key(&book.id) {
            return Err(Refusal::BookExists(book.id));
        }
        if self.books.len() >= books_max {
            return Err(Refusal::invalid("book_info", format!("the store has {books_max} books, which is the limit")));
        }
        let NewBook { id, price, stock, document } = book;
        Ok(StoreEvent::BookAdded { id, price, stock, document })
    }

    fn add_stock(&self, user: AccountNo, id: &Arc<str>, delta: i64) -> Result<StoreEvent, Refusal> {
        self.check_owner(user)?;
        let place = self.find(id)?;
        let book = self.book(place);
        let invalid = |why: &str| Err(Refusal::invalid("add_stock_level", why));
        match book.stock.checked_add(delta) {
            Some(level) if level < 0 => invalid("the stock level would fall below 0"),
            // Copies in orders may all come back, so there must be room for them.
            Some(level) if level.checked_add(book.taken).is_some() => Ok(StoreEvent::StockAdded { book: place, delta }),
            _ => invalid("the stock level would overflow"),
        }
    }

    /// The same price again is no event: a client that does not know the outcome of its call asks once more.
    fn set_price(&self, user: AccountNo, id: &Arc<str>, price: Fen) -> Result<Option<StoreEvent>, Refusal> {
        self.check_owner(user)?;
        let place = self.find(id)?;
        Ok((self.book(place).price != price).then_some(StoreEvent::PriceSet { book: place, price }))
    }

    /// As `set_price`: what is so already is no event.
    fn set_listed(&self, user: AccountNo, id: &Arc<str>, listed: bool) -> Result<Option<StoreEvent>, Refusal> {
        self.check_owner(user)?;
        let book = self.find(id)?;
        let event = if listed { StoreEvent::Relisted { book } } else { StoreEvent::Delisted { book } };
        Ok((self.book(book).listed != listed).then_some(event))
    }

    fn shelved(&self, place: BookNo) -> Shelved {
        let Book { id, price, stock, document, listed, repriced, .. } = self.book(place).clone();
        Shelved { id, document, stock, price, repriced, listed }
    }

    /// new_order's judgement: per line in request order no such book, then stock low; then the total.
    fn judge_lines(&self, wanted: &[NewLine]) -> Result<(Box<[Line]>, Fen), Refusal> {
        let mut lines: Vec<Line> = Vec::with_capacity(wanted.len());
        // Few lines are searched, many are looked up: a thousand lines must not cost a million comparisons.
        let mut at = NumberMap::<BookNo, usize>::default();
        for line in wanted {
            let place = self.find(&line.book_id)?;
            let book = self.book(place);
            if !book.listed && !planted(Fault::DelistedBookOrdered) {
                return Err(Refusal::NoBook(line.book_id.clone()));
            }
            let known = match wanted.len() {
                0..=16 => lines.iter().position(|line| line.book == place),
                _ => at.get(&place).copied(),
            };
            let before = known.map_or(0, |index| lines[index].count);
            let count = before.checked_add(line.count).filter(|count| *count <= book.stock);
            let Some(count) = count else {
                return Err(Refusal::StockLow(line.book_id.clone()));
            };
            match known {
                Some(index) => lines[index].count = count,
                None => {
                    if wanted.len() > 16 {
                        at.insert(place, lines.len());
                    }
                    lines.push(Line { book: place, count, price: book.price });
                }
            }
        }
        let total = lines.iter().try_fold(0i64, |sum, line| sum.checked_add(line.count.checked_mul(line.price)?));
        match total {
            Some(total) if total < ORDER_TOTAL_MAX => Ok((lines.into(), total)),
            _ => Err(Refusal::invalid("books", "the total would overflow")),
        }
    }

    fn reserve(
        &self,
        order: OrderId,
        buyer: AccountNo,
        wanted: &[NewLine],
        (created, ttl): (Millis, Millis),
        key: Option<Key>,
        fx: &mut Effects<Self>,
    ) {
        let answer = |msg| Effect::Send(Send::Order(order.shard(), msg));
        if let Some(facts) = self.reservations.get(&order) {
            return fx.push(answer(OrderMsg::Reserved { order, facts: facts.clone() }));
        }
        if self.closed {
            return fx.push(answer(OrderMsg::NotReserved { order, buyer, refusal: None }));
        }
        match self.judge_lines(wanted) {
            Err(refusal) => fx.push(answer(OrderMsg::NotReserved { order, buyer, refusal: Some(refusal) })),
            Ok((lines, total)) => {
                let deadline = created.saturating_add(ttl);
                let (seller, store) = (self.owner, self.number);
                let facts = Facts { buyer, seller, store, lines, total, created, deadline, key };
                fx.push(Effect::Append(StoreEvent::Reserved { order, facts: facts.clone() }));
                fx.push(answer(OrderMsg::Reserved { order, facts }));
            }
        }
    }

    /// Asks one shard after the other whether it has an open order of this store. What was reserved before is in the
    /// shard's mailbox before the question, so it is known there by then.
    fn ask_for_open(&self, ticket: Ticket, shard: usize, fx: &mut Effects<Self>) {
        let (store, placed) = (self.number, self.placed);
        fx.push(Effect::Send(Send::Order(shard, OrderMsg::OpenOfStore { ticket, shard, store, placed })));
    }

    /// A shard has no open order, as of when `placed` orders had taken copies here. Has another one since, the store has
    /// had an open order meanwhile; has none, then after the last shard there is none anywhere. So nobody has to wait.
    fn none_open(&self, ticket: Ticket, shard: usize, placed: u64, fx: &mut Effects<Self>) {
        if placed != self.placed && !planted(Fault::OrderWhileClosingIgnored) {
            return fx.push(Effect::Reply(ticket, Outcome::Refused(open_orders())));
        }
        if shard + 1 < SHARDS {
            return self.ask_for_open(ticket, shard + 1, fx);
        }
        fx.push(Effect::Append(StoreEvent::Closed));
        let told = AccountMsg::StoreClosed { ticket, store: self.number };
        fx.push(Effect::Send(Send::Account(self.owner, told)));
    }
}

/// Why a store stays open.
pub(super) fn open_orders() -> Refusal {
    Refusal::invalid("store_id", "the store has open orders")
}

impl Entity for Store {
    type Msg = StoreMsg;
    type Event = StoreEvent;
    type Work = ();

    fn handle(&self, _work: &mut (), msg: StoreMsg, now: Millis, fx: &mut Effects<Self>) {
        match msg {
            StoreMsg::AddBook { ticket, .. }
            | StoreMsg::AddStock { ticket, .. }
            | StoreMsg::SetPrice { ticket, .. }
            | StoreMsg::SetListed { ticket, .. }
            | StoreMsg::Close { ticket, .. }
            | StoreMsg::NoneOpen { ticket, .. }
                if self.closed =>
            {
                fx.push(Effect::Reply(ticket, Outcome::StoreClosed));
            }
            StoreMsg::Close { ticket, user } => match self.check_owner(user) {
                Ok(()) if planted(Fault::ClosedWithoutAsking) => {
                    self.none_open(ticket, SHARDS, self.placed, fx);
                }
                Ok(()) => self.ask_for_open(ticket, 0, fx),
                Err(refusal) => fx.push(Effect::Reply(ticket, Outcome::Refused(refusal))),
            },
            StoreMsg::NoneOpen { ticket, shard, placed } => self.none_open(ticket, shard, placed, fx),
            StoreMsg::Create { ticket, owner, store_id } => {
                if self.seq == 0 {
                    fx.push(Effect::Append(StoreEvent::Created { store_id, owner }));
                }
                // Sent before the answer, so that it is in the owner's mailbox when nothing is in flight any more.
                fx.push(Effect::Send(Send::Forget(Address::Account(owner), vec![Evidence::Opening(self.number)])));
                fx.push(Effect::Reply(ticket, Outcome::Done));
            }
            StoreMsg::AddBook { ticket, user, book, books_max } => {
                append_and_answer(ticket, self.add_book(user, book, books_max), fx);
            }
            StoreMsg::AddStock { ticket, user, book_id, delta } => {
                append_and_answer(ticket, self.add_stock(user, &book_id, delta), fx);
            }
            StoreMsg::SetPrice { ticket, user, book_id, price } => {
                append_and_answer(ticket, self.set_price(user, &book_id, price), fx);
            }
            StoreMsg::SetListed { ticket, user, book_id, listed } => {
                append_and_answer(ticket, self.set_listed(user, &book_id, listed), fx);
            }
            StoreMsg::Book { ticket, book_id } => {
                let outcome = match self.find(&book_id) {
                    Ok(place) => Outcome::Book(self.shelved(place)),
                    Err(refusal) => Outcome::Refused(refusal),
                };
                fx.push(Effect::Reply(ticket, outcome));
            }
            StoreMsg::Shelf { ticket, places } => {
                let shelf = places.into_iter().map(|place| self.shelved(place));
                fx.push(Effect::Reply(ticket, Outcome::Shelf(shelf.collect())));
            }
            StoreMsg::Stock { ticket, book_id } => {
                let outcome = match self.find(&book_id) {
                    Ok(place) => Outcome::Level(self.book(place).stock),
                    Err(refusal) => Outcome::Refused(refusal),
                };
                fx.push(Effect::Reply(ticket, outcome));
            }
            StoreMsg::Reserve { order, buyer, lines, ttl, key } => {
                self.reserve(order, buyer, &lines, (now, ttl), key, fx);
            }
            StoreMsg::Release { order, release, is_refund: _ } => {
                let first = self.releases.get(&order).unwrap_or(&release);
                let (by, key) = (first.by, first.key);
                if !self.releases.contains_key(&order) {
                    fx.push(Effect::Append(StoreEvent::Released { order, release }));
                }
                fx.push(Effect::Send(Send::Order(order.shard(), OrderMsg::Released { order, by, key })));
            }
        }
    }

    fn apply(&mut self, event: &StoreEvent, _at: Millis) {
        self.seq += 1;
        match event {
            StoreEvent::Created { owner, .. } => self.owner = *owner,
            StoreEvent::BookAdded { id, price, stock, document } => {
                self.places.insert(id.clone(), BookNo(self.books.len() as u32));
                let (id, price, stock, document) = (id.clone(), *price, *stock, *document);
                self.books.push(Book { id, price, stock, taken: 0, document, listed: true, repriced: false });
            }
            StoreEvent::StockAdded { book, delta } => self.books[book.0 as usize].stock += delta,
            StoreEvent::PriceSet { book, price } => {
                let book = &mut self.books[book.0 as usize];
                (book.price, book.repriced) = (*price, true);
            }
            StoreEvent::Delisted { book } => self.books[book.0 as usize].listed = false,
            StoreEvent::Relisted { book } => self.books[book.0 as usize].listed = true,
            StoreEvent::Reserved { order, facts } => {
                for line in &facts.lines {
                    let book = &mut self.books[line.book.0 as usize];
                    book.stock -= line.count;
                    book.taken += line.count;
                }
                self.reservations.insert(*order, facts.clone());
                self.placed += 1;
            }
            StoreEvent::Released { order, release } => {
                for line in &release.lines {
                    if planted(Fault::DelistedBookKeepsCopies) && !self.books[line.book.0 as usize].listed {
                        continue;
                    }
                    let book = &mut self.books[line.book.0 as usize];
                    book.stock += line.count;
                    book.taken -= line.count;
                }
                self.releases.insert(*order, release.clone());
            }
            StoreEvent::Closed => (self.closed, self.closure) = (true, true),
        }
    }

    fn forget(&mut self, evidence: &[Evidence]) {
        for piece in evidence {
            match piece {
                Evidence::Reservation(order) => {
                    self.reservations.remove(order);
                }
                Evidence::Release(order) => {
                    self.releases.remove(order);
                }
                Evidence::Closure(_) => self.closure = false,
                Evidence::Hold(_) | Evidence::Credit(..) | Evidence::Refund(_) | Evidence::Opening(_) => {}
            }
        }
    }

    fn on_panic(msg: &StoreMsg) -> OnPanic {
        match msg {
            StoreMsg::AddBook { ticket, .. }
            | StoreMsg::AddStock { ticket, .. }
            | StoreMsg::SetPrice { ticket, .. }
            | StoreMsg::SetListed { ticket, .. }
            // Nothing has happened before the last of these.
            | StoreMsg::Close { ticket, .. }
            | StoreMsg::NoneOpen { ticket, .. }
            | StoreMsg::Book { ticket, .. }
            | StoreMsg::Shelf { ticket, .. }
            | StoreMsg::Stock { ticket, .. } => OnPanic::Reply(*ticket),
            StoreMsg::Reserve { order, buyer, .. } => OnPanic::NotReserved(*order, *buyer),
            StoreMsg::Release { order, is_refund: false, .. } => OnPanic::NotReleased(*order),
            StoreMsg::Release { is_refund: true, .. } | StoreMsg::Create { .. } => OnPanic::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELLER: AccountNo = AccountNo(1);
    const BUYER: AccountNo = AccountNo(2);

    /// Hands a message over with all its effects; gives events, messages and answers as words.
    fn tell(store: &mut Store, msg: StoreMsg) -> Vec<String> {
        let mut fx = Effects::<Store>::new();
        store.handle(&mut (), msg, 10, &mut fx);
        let first_word = |text: String| text.split(['(', '{', ' ']).next().unwrap_or_default().to_owned();
        let mut told = Vec::new();
        for effect in fx {
            told.push(match effect {
                Effect::Append(event) => {
                    store.apply(&event, 10);
                    first_word(format!("{event:?}"))
                }
                Effect::Reply(_, Outcome::Refused(refusal))
                | Effect::Send(Send::Order(_, OrderMsg::NotReserved { refusal: Some(refusal), .. })) => {
                    refusal.code().to_string()
                }
                Effect::Send(Send::Order(_, OrderMsg::Reserved { facts, .. })) => facts.total.to_string(),
                Effect::Send(Send::Account(_, msg)) => first_word(format!("{msg:?}")),
                Effect::Send(Send::Order(_, msg)) => first_word(format!("{msg:?}")),
                Effect::Reply(_, outcome) => first_word(format!("{outcome:?}")),
                other => first_word(format!("{other:?}")),
            });
        }
        told
    }

    /// A store with one book at 5 fen.
    fn store() -> Store {
        let mut store = Store::new(StoreNo(1));
        store.apply(&StoreEvent::Created { store_id: "s".into(), owner: SELLER }, 0);
        let document = super::super::event::DocumentHash([0; 32]);
        store.apply(&StoreEvent::BookAdded { id: "b".into(), price: 5, stock: 10, document }, 0);
        store
    }

    fn id(number: u64) -> OrderId {
        OrderId::new(number << 20, BUYER, number)
    }

    fn reserve(store: &mut Store, number: u64, count: i64) -> Vec<String> {
        let lines = vec![NewLine { book_id: "b".into(), count }];
        tell(store, StoreMsg::Reserve { order: id(number), buyer: BUYER, lines, ttl: 100, key: None })
    }

    fn set_price(store: &mut Store, user: AccountNo, book: &str, price: Fen) -> Vec<String> {
        tell(store, StoreMsg::SetPrice { ticket: Ticket(1), user, book_id: book.into(), price })
    }

    fn set_listed(store: &mut Store, user: AccountNo, book: &str, listed: bool) -> Vec<String> {
        tell(store, StoreMsg::SetListed { ticket: Ticket(1), user, book_id: book.into(), listed })
    }

    #[test]
    fn what_is_so_already_is_answered_and_is_no_event() {
        let mut store = store();
        assert_eq!(set_price(&mut store, SELLER, "b", 5), ["Done"]);
        assert!(!store.books[0].repriced);
        assert_eq!(set_price(&mut store, SELLER, "b", 6), ["PriceSet", "Done"]);
        assert_eq!(set_listed(&mut store, SELLER, "b", true), ["Done"]);
        assert_eq!(set_listed(&mut store, SELLER, "b", false), ["Delisted", "Done"]);
        assert_eq!(set_listed(&mut store, SELLER, "b", false), ["Done"]);
        assert_eq!(set_listed(&mut store, SELLER, "b", true), ["Relisted", "Done"]);
        // The owner comes before the book.
        for (user, book, code) in [(BUYER, "none", "401"), (SELLER, "none", "515")] {
            assert_eq!(set_price(&mut store, user, book, 7), [code]);
            assert_eq!(set_listed(&mut store, user, book, false), [code]);
        }
    }

    #[test]
    fn an_order_costs_what_its_book_cost_when_it_was_reserved() {
        let mut store = store();
        assert_eq!(reserve(&mut store, 1, 2), ["Reserved", "10"]);
        set_price(&mut store, SELLER, "b", 7);
        assert_eq!(reserve(&mut store, 2, 2), ["Reserved", "14"]);
        // Asked again, the first is as it was.
        assert_eq!(reserve(&mut store, 1, 2), ["10"]);
    }

    #[test]
    fn a_delisted_book_is_not_reserved_and_takes_its_copies_back() {
        let mut store = store();
        reserve(&mut store, 1, 4);
        set_listed(&mut store, SELLER, "b", false);
        assert_eq!(reserve(&mut store, 2, 1), ["515"]);
        // What was reserved before is, whoever asks again.
        assert_eq!(reserve(&mut store, 1, 4), ["20"]);
        let release =
            Release { lines: store.reservations[&id(1)].lines.clone(), by: crate::domain::By::Buyer, key: None };
        assert_eq!(
            tell(&mut store, StoreMsg::Release { order: id(1), release, is_refund: false }),
            ["Released", "Released"]
        );
        assert_eq!((store.books[0].stock, store.books[0].taken, store.books[0].listed), (10, 0, false));
        set_listed(&mut store, SELLER, "b", true);
        assert_eq!(reserve(&mut store, 2, 10), ["Reserved", "50"]);
    }

    fn close(store: &mut Store, user: AccountNo) -> Vec<String> {
        tell(store, StoreMsg::Close { ticket: Ticket(1), user })
    }

    fn none_open(store: &mut Store, shard: usize, placed: u64) -> Vec<String> {
        tell(store, StoreMsg::NoneOpen { ticket: Ticket(1), shard, placed })
    }

    #[test]
    fn a_store_closes_when_every_shard_has_none_open_and_none_came_meanwhile() {
        let mut store = store();
        assert_eq!(close(&mut store, BUYER), ["401"]);
        assert_eq!(close(&mut store, SELLER), ["OpenOfStore"]);
        for shard in 0..SHARDS - 1 {
            assert_eq!(none_open(&mut store, shard, 0), ["OpenOfStore"]);
        }
        reserve(&mut store, 1, 1);
        assert_eq!(none_open(&mut store, SHARDS - 1, 0), ["530"]);
        assert!(!store.closed);
        assert_eq!(none_open(&mut store, SHARDS - 1, 1), ["Closed", "StoreClosed"]);
        assert!(store.closed && store.closure);
        store.forget(&[Evidence::Closure(StoreNo(1))]);
        assert!(store.closed && !store.closure);
    }

    #[test]
    fn a_closed_store_takes_nothing_more_and_is_there_for_who_asks() {
        let mut store = store();
        assert_eq!(none_open(&mut store, SHARDS - 1, 0), ["Closed", "StoreClosed"]);
        assert_eq!(reserve(&mut store, 1, 1), ["NotReserved"]);
        // Before the owner: to everybody it is as if it were not there.
        for user in [SELLER, BUYER] {
            assert_eq!(set_price(&mut store, user, "b", 7), ["StoreClosed"]);
            assert_eq!(set_listed(&mut store, user, "none", false), ["StoreClosed"]);
            assert_eq!(close(&mut store, user), ["StoreClosed"]);
        }
        assert_eq!(none_open(&mut store, SHARDS - 1, 0), ["StoreClosed"]);
        assert_eq!(tell(&mut store, StoreMsg::Stock { ticket: Ticket(1), book_id: "b".into() }), ["Level"]);
        let row = super::super::encode_row(&store);
        let mut again: Store = super::super::decode_row(&row).unwrap();
        again.index();
        assert_eq!(again, store);
    }
}
