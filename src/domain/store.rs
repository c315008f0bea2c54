//! The inventory: books, prices, stock, and the evidence of orders on their way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ORDER_TOTAL_MAX;
use super::account::append_and_answer;
use super::effect::{Effect, Effects, Entity, OnPanic, Outcome};
use super::event::{Book, Evidence, Facts, Line, Release, Reservation, StoreEvent};
use super::ids::{AccountNo, BookNo, Fen, Millis, OrderId, StoreNo};
use super::key::Key;
use super::message::{Address, NewBook, NewLine, OrderMsg, Send, StoreMsg};
use super::refusal::Refusal;

/// A store. Its row in a snapshot and its dormant form are this struct, encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    pub(crate) number: StoreNo,
    pub(crate) seq: u64,
    pub(crate) owner: AccountNo,
    pub(crate) books: Vec<Book>,
    pub(crate) reservations: BTreeMap<OrderId, Reservation>,
    pub(crate) releases: BTreeMap<OrderId, Release>,
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

    /// new_order's judgement: per line in request order no such book, then stock low; then the total.
    fn judge_lines(&self, wanted: &[NewLine]) -> Result<(Box<[Line]>, Fen), Refusal> {
        let mut lines: Vec<Line> = Vec::with_capacity(wanted.len());
        // Few lines are searched, many are looked up: a thousand lines must not cost a million comparisons.
        let mut at: HashMap<BookNo, usize> = HashMap::new();
        for line in wanted {
            let place = self.find(&line.book_id)?;
            let book = self.book(place);
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
        match self.judge_lines(wanted) {
            Err(refusal) => fx.push(answer(OrderMsg::NotReserved { order, buyer, refusal })),
            Ok((lines, total)) => {
                let deadline = created.saturating_add(ttl);
                let (seller, store) = (self.owner, self.number);
                let facts = Facts { buyer, seller, store, lines, total, created, deadline, key };
                fx.push(Effect::Append(StoreEvent::Reserved { order, facts: facts.clone() }));
                fx.push(answer(OrderMsg::Reserved { order, facts }));
            }
        }
    }
}

impl Entity for Store {
    type Msg = StoreMsg;
    type Event = StoreEvent;
    type Work = ();

    fn handle(&self, _work: &mut (), msg: StoreMsg, now: Millis, fx: &mut Effects<Self>) {
        match msg {
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
            StoreMsg::Book { ticket, book_id } => {
                let outcome = match self.find(&book_id) {
                    Ok(place) => Outcome::Book(self.book(place).document, self.book(place).stock),
                    Err(refusal) => Outcome::Refused(refusal),
                };
                fx.push(Effect::Reply(ticket, outcome));
            }
            StoreMsg::Shelf { ticket, places } => {
                let shelf = places.into_iter().map(|place| {
                    let book = self.book(place);
                    (book.id.clone(), book.document, book.stock)
                });
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
                self.books.push(Book { id, price, stock, taken: 0, document });
            }
            StoreEvent::StockAdded { book, delta } => self.books[book.0 as usize].stock += delta,
            StoreEvent::Reserved { order, facts } => {
                for line in &facts.lines {
                    let book = &mut self.books[line.book.0 as usize];
                    book.stock -= line.count;
                    book.taken += line.count;
                }
                self.reservations.insert(*order, facts.clone());
            }
            StoreEvent::Released { order, release } => {
                for line in &release.lines {
                    let book = &mut self.books[line.book.0 as usize];
                    book.stock += line.count;
                    book.taken -= line.count;
                }
                self.releases.insert(*order, release.clone());
            }
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
                Evidence::Hold(_) | Evidence::Credit(..) | Evidence::Refund(_) | Evidence::Opening(_) => {}
            }
        }
    }

    fn on_panic(msg: &StoreMsg) -> OnPanic {
        match msg {
            StoreMsg::AddBook { ticket, .. }
            | StoreMsg::AddStock { ticket, .. }
            | StoreMsg::Book { ticket, .. }
            | StoreMsg::Shelf { ticket, .. }
            | StoreMsg::Stock { ticket, .. } => OnPanic::Reply(*ticket),
            StoreMsg::Reserve { order, buyer, .. } => OnPanic::NotReserved(*order, *buyer),
            StoreMsg::Release { order, is_refund: false, .. } => OnPanic::NotReleased(*order),
            StoreMsg::Release { is_refund: true, .. } | StoreMsg::Create { .. } => OnPanic::Stop,
        }
    }
}
