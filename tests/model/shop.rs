//! The shop as the contract describes it, written down as plainly as possible: maps, vectors and early returns. It
//! shares nothing with the engine but the types of its answers.

use std::collections::{BTreeMap, HashMap};

use bookstore::{By, OrderStatus, Refusal};

use super::command::{Answer, Command, Line, Proof, Row, document};

/// The limits that the engine is opened with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) lines: usize,
    pub(crate) pending: usize,
    pub(crate) listed: usize,
    /// Whether shipped orders are confirmed by themselves, later.
    pub(crate) confirms: bool,
}

pub(crate) struct Shop {
    pub(crate) limits: Limits,
    /// Who is called what now.
    users: HashMap<String, usize>,
    /// Every account there ever was; a name that is registered anew is another account.
    accounts: Vec<Account>,
    pub(crate) tokens: Vec<Token>,
    stores: HashMap<String, Store>,
    /// In the order in which they were placed.
    pub(crate) orders: Vec<Order>,
}

struct Account {
    name: String,
    password: String,
    balance: i64,
    stores: Vec<String>,
}

pub(crate) struct Token {
    account: usize,
    valid: bool,
}

struct Store {
    owner: usize,
    closed: bool,
    books: HashMap<String, Book>,
}

struct Book {
    price: i64,
    stock: i64,
    document: String,
    listed: bool,
}

pub(crate) struct Order {
    /// The text that the engine gave.
    pub(crate) id: String,
    buyer: usize,
    pub(crate) store: String,
    lines: Vec<(String, i64, i64)>,
    pub(crate) total: i64,
    pub(crate) status: OrderStatus,
    shipped: bool,
    to_platform: bool,
    way: Vec<(&'static str, By)>,
}

/// What an audit must find.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) accounts: u64,
    pub(crate) stores: u64,
    pub(crate) closed_stores: u64,
    pub(crate) orders: u64,
    pub(crate) balances: i128,
    pub(crate) escrow: i128,
    pub(crate) stock: i128,
    pub(crate) ordered: i128,
}

type Judged<T> = Result<T, Answer>;

fn refuse<T>(refusal: Refusal) -> Judged<T> {
    Err(Answer::Refused(refusal))
}

fn invalid<T>(field: &'static str, why: &str) -> Judged<T> {
    refuse(Refusal::invalid(field, why))
}

impl Shop {
    pub(crate) fn new(limits: Limits) -> Self {
        let (users, stores) = Default::default();
        Shop { limits, users, accounts: Vec::new(), tokens: Vec::new(), stores, orders: Vec::new() }
    }

    /// Does what the command asks for and says how it ends.
    pub(crate) fn run(&mut self, command: &Command) -> Answer {
        self.judge(command).unwrap_or_else(|answer| answer)
    }

    fn judge(&mut self, command: &Command) -> Judged<Answer> {
        match command {
            Command::Register { user, password } => self.register(user, password),
            Command::Unregister { user, proof } => self.unregister(user, proof),
            Command::Login { user, proof } => {
                let account = self.authorise(user, proof)?;
                self.tokens.push(Token { account, valid: true });
                Ok(Answer::LoggedIn)
            }
            Command::Logout { user, token } => {
                let account = self.authorise(user, &Proof::Token(*token))?;
                assert_eq!(self.tokens[*token].account, account);
                self.tokens[*token].valid = false;
                Ok(Answer::Done)
            }
            Command::ChangePassword { user, proof, new } => {
                if new.is_empty() {
                    return invalid("newPassword", "must be 1 to 1,024 bytes");
                }
                let account = self.authorise(user, proof)?;
                self.accounts[account].password.clone_from(new);
                self.revoke_all(account);
                Ok(Answer::Done)
            }
            Command::CreateStore { user, proof, store } => {
                let owner = self.user(user, proof)?;
                if self.stores.contains_key(store) {
                    return refuse(Refusal::StoreExists(store.clone()));
                }
                self.stores.insert(store.clone(), Store { owner, closed: false, books: HashMap::new() });
                self.accounts[owner].stores.push(store.clone());
                Ok(Answer::Done)
            }
            Command::AddBook { user, proof, store, book, price, stock, document } => {
                for (field, value) in [("price", price), ("stock_level", stock)] {
                    if *value < 0 {
                        return invalid(field, "must be 0 or more");
                    }
                }
                let found = self.own_store(user, proof, store)?;
                if found.books.contains_key(book) {
                    return refuse(Refusal::BookExists(book.as_str().into()));
                }
                let (price, stock, document) = (*price, *stock, document.clone());
                found.books.insert(book.clone(), Book { price, stock, document, listed: true });
                Ok(Answer::Done)
            }
            Command::CloseStore { user, proof, store } => {
                self.own_store(user, proof, store)?;
                let is_open = |order: &Order| !matches!(order.status, OrderStatus::Completed | OrderStatus::Canceled);
                if self.orders.iter().any(|order| order.store == *store && is_open(order)) {
                    return invalid("store_id", "the store has open orders");
                }
                self.own_store(user, proof, store)?.closed = true;
                Ok(Answer::Done)
            }
            Command::SetPrice { user, proof, store, book, price } => {
                if *price < 0 {
                    return invalid("price", "must be 0 or more");
                }
                let found = self.own_book(user, proof, store, book)?;
                (found.price, found.document) = (*price, document(store, book, *price));
                Ok(Answer::Done)
            }
            Command::SetListed { user, proof, store, book, listed } => {
                self.own_book(user, proof, store, book)?.listed = *listed;
                Ok(Answer::Done)
            }
            Command::AddStock { user, proof, store, book, delta } => self.add_stock(user, proof, store, book, *delta),
            Command::NewOrder { user, proof, store, lines } => self.new_order(user, proof, store, lines),
            Command::Pay { user, proof, order, to_platform } => self.pay(user, proof, order, *to_platform),
            Command::Ship { user, proof, store, order } => self.ship(user, proof, store, order),
            Command::Confirm { user, proof, order } => self.confirm(user, proof, order),
            Command::Cancel { user, proof, order } => self.cancel(user, proof, order),
            Command::Refund { user, proof, order } => self.refund(user, proof, order),
            Command::AddFunds { user, proof, value } => self.add_funds(user, proof, *value),
            Command::Balance { user, proof } => {
                let account = self.authorise(user, proof)?;
                Ok(Answer::Number(self.accounts[account].balance))
            }
            Command::StockLevel { store, book } => Ok(Answer::Number(self.book(store, book)?.stock)),
            Command::ReadBook { store, book } => {
                let book = self.book(store, book)?;
                Ok(Answer::Book(book.document.clone(), book.stock, book.price, book.listed))
            }
            Command::OrderStatus { user, proof, order } => {
                let account = self.user(user, proof)?;
                let index = self.order_of(account, order)?;
                Ok(Answer::Status(self.orders[index].status))
            }
            Command::ExtendReceipt { user, proof, order } => self.extend_receipt(user, proof, order),
            Command::LookAtOrder { user, proof, order, as_seller } => {
                let account = self.user(user, proof)?;
                let found = &self.orders[self.find(order)?];
                if account != if *as_seller { self.stores[&found.store].owner } else { found.buyer } {
                    return refuse(Refusal::NoOrder(order.clone()));
                }
                Ok(Answer::Way(Box::new(self.row(found)), found.way.clone()))
            }
            Command::BuyerOrders { user, proof } => {
                let account = self.user(user, proof)?;
                Ok(Answer::Orders(self.list(|order| order.buyer == account)?))
            }
            Command::StoreOrders { user, proof, store } => {
                let Some(account) = self.users.get(user).copied() else {
                    return refuse(Refusal::NoUser(user.clone()));
                };
                let Some(owner) = self.stores.get(store).map(|store| store.owner) else {
                    return refuse(Refusal::NoStore(store.clone()));
                };
                if !self.proves(account, proof) {
                    return refuse(Refusal::Unauthorized);
                }
                if account != owner {
                    return refuse(Refusal::NoStoreForUser(user.clone()));
                }
                Ok(Answer::Orders(self.list(|order| order.store == *store)?))
            }
            Command::AllStoreOrders { user, proof } => self.all_store_orders(user, proof),
            Command::OrderCount { user } => {
                let account = self.users.get(user);
                let count = self.orders.iter().filter(|order| Some(&order.buyer) == account).count();
                Ok(Answer::Number(count as i64))
            }
            // No deadline comes in this test.
            Command::CancelExpired => Ok(Answer::Done),
        }
    }

    fn register(&mut self, user: &str, password: &str) -> Judged<Answer> {
        if user.is_empty() {
            return invalid("user_id", "must not be empty");
        }
        if password.is_empty() {
            return invalid("password", "must be 1 to 1,024 bytes");
        }
        if self.users.contains_key(user) {
            return refuse(Refusal::UserExists(user.into()));
        }
        self.users.insert(user.into(), self.accounts.len());
        let (name, password) = (user.into(), password.into());
        self.accounts.push(Account { name, password, balance: 0, stores: Vec::new() });
        Ok(Answer::Done)
    }

    fn unregister(&mut self, user: &str, proof: &Proof) -> Judged<Answer> {
        let account = self.authorise(user, proof)?;
        let is_open = |order: &Order| !matches!(order.status, OrderStatus::Completed | OrderStatus::Canceled);
        if self.orders.iter().any(|order| order.buyer == account && is_open(order)) {
            return invalid("user_id", "the user has open orders");
        }
        if self.accounts[account].balance != 0 {
            return invalid("user_id", "the balance is not 0");
        }
        if self.accounts[account].stores.iter().any(|store| !self.stores[store].closed) {
            return invalid("user_id", "the user owns a store");
        }
        self.users.remove(user);
        self.revoke_all(account);
        Ok(Answer::Done)
    }

    fn add_stock(&mut self, user: &str, proof: &Proof, store: &str, id: &str, delta: i64) -> Judged<Answer> {
        let taken = self.orders.iter().filter(|order| order.store == store && order.status != OrderStatus::Canceled);
        let lines = taken.flat_map(|order| &order.lines).filter(|(book, ..)| book == id);
        let taken: i64 = lines.map(|(_, count, _)| count).sum();
        let book = self.own_book(user, proof, store, id)?;
        let level = i128::from(book.stock) + i128::from(delta);
        if level < 0 {
            return invalid("add_stock_level", "the stock level would fall below 0");
        }
        // Copies in orders may come back.
        if level + i128::from(taken) > i128::from(i64::MAX) {
            return invalid("add_stock_level", "the stock level would overflow");
        }
        book.stock += delta;
        Ok(Answer::Done)
    }

    fn new_order(&mut self, user: &str, proof: &Proof, store: &str, wanted: &[Line]) -> Judged<Answer> {
        let limits = self.limits;
        if wanted.len() > limits.lines {
            return invalid("books", &format!("must have at most {} lines", limits.lines));
        }
        if wanted.iter().any(|line| line.count < 1) {
            return invalid("count", "must be 1 or more");
        }
        let buyer = self.user(user, proof)?;
        let Some(found) = self.stores.get_mut(store).filter(|found| !found.closed) else {
            return refuse(Refusal::NoStore(store.into()));
        };
        let pending = |order: &&Order| order.buyer == buyer && order.status == OrderStatus::Pending;
        if self.orders.iter().filter(pending).count() >= limits.pending {
            return Err(Answer::TooManyPending);
        }
        let mut lines: Vec<(String, i64, i64)> = Vec::new();
        for line in wanted {
            let Some(book) = found.books.get(&line.book).filter(|book| book.listed) else {
                return refuse(Refusal::NoBook(line.book.as_str().into()));
            };
            let known = lines.iter_mut().find(|(id, ..)| *id == line.book);
            let before = known.as_ref().map_or(0, |(_, count, _)| *count);
            if i128::from(before) + i128::from(line.count) > i128::from(book.stock) {
                return refuse(Refusal::StockLow(line.book.as_str().into()));
            }
            match known {
                Some((_, count, _)) => *count += line.count,
                None => lines.push((line.book.clone(), line.count, book.price)),
            }
        }
        let total: i128 = lines.iter().map(|(_, count, price)| i128::from(*count) * i128::from(*price)).sum();
        if total >= 1 << 53 {
            return invalid("books", "the total would overflow");
        }
        for (id, count, _) in &lines {
            found.books.get_mut(id).unwrap().stock -= count;
        }
        self.orders.push(Order {
            id: String::new(),
            buyer,
            store: store.into(),
            lines,
            total: total as i64,
            status: OrderStatus::Pending,
            shipped: false,
            to_platform: false,
            way: vec![("placed", By::Buyer)],
        });
        Ok(Answer::Placed)
    }

    fn pay(&mut self, user: &str, proof: &Proof, id: &str, to_platform: bool) -> Judged<Answer> {
        let index = self.find(id)?;
        let Order { buyer, total, status, .. } = self.orders[index];
        if self.accounts[buyer].name != user {
            return refuse(Refusal::Unauthorized);
        }
        if self.users.get(user) != Some(&buyer) {
            return refuse(Refusal::NoUser(user.into()));
        }
        if !self.proves(buyer, proof) {
            return refuse(Refusal::Unauthorized);
        }
        match status {
            OrderStatus::Pending => {}
            OrderStatus::Canceled => return refuse(Refusal::OrderCanceled(id.into())),
            OrderStatus::Paid => return refuse(Refusal::OrderPaid(id.into())),
            _ if to_platform => return refuse(Refusal::AlreadySettled(id.into())),
            _ => return refuse(Refusal::OrderPaid(id.into())),
        }
        if self.accounts[buyer].balance < total {
            return refuse(Refusal::InsufficientFunds(id.into()));
        }
        self.accounts[buyer].balance -= total;
        if !to_platform {
            self.credit_seller(index);
        }
        self.orders[index].status = OrderStatus::Paid;
        self.orders[index].to_platform = to_platform;
        self.orders[index].way.push(("paid", By::Buyer));
        Ok(Answer::Done)
    }

    fn ship(&mut self, user: &str, proof: &Proof, store: &str, id: &str) -> Judged<Answer> {
        self.own_store(user, proof, store)?;
        let index = self.find(id)?;
        let order = &mut self.orders[index];
        if order.store != store {
            return refuse(Refusal::NoOrder(id.into()));
        }
        match order.status {
            OrderStatus::Paid => {}
            OrderStatus::Pending | OrderStatus::Canceled => return refuse(Refusal::NotPaid(id.into())),
            _ => return refuse(Refusal::OrderShipped(id.into())),
        }
        order.status = OrderStatus::Shipped;
        order.shipped = true;
        order.way.push(("shipped", By::Seller));
        Ok(Answer::Done)
    }

    fn confirm(&mut self, user: &str, proof: &Proof, id: &str) -> Judged<Answer> {
        let index = self.find(id)?;
        let buyer = self.orders[index].buyer;
        if self.users.get(user) != Some(&buyer) || !self.proves(buyer, proof) {
            return refuse(Refusal::Unauthorized);
        }
        match self.orders[index].status {
            OrderStatus::Pending | OrderStatus::Canceled => return refuse(Refusal::NotPaid(id.into())),
            OrderStatus::Completed => return refuse(Refusal::OrderConfirmed(id.into())),
            _ => {}
        }
        if self.orders[index].to_platform {
            self.credit_seller(index);
        }
        self.orders[index].status = OrderStatus::Completed;
        self.orders[index].way.push(("confirmed", By::Buyer));
        Ok(Answer::Done)
    }

    fn extend_receipt(&mut self, user: &str, proof: &Proof, id: &str) -> Judged<Answer> {
        let account = self.user(user, proof)?;
        let index = self.order_of(account, id)?;
        let order = &mut self.orders[index];
        match order.status {
            OrderStatus::Pending | OrderStatus::Canceled => return refuse(Refusal::NotPaid(id.into())),
            OrderStatus::Completed => return refuse(Refusal::OrderConfirmed(id.into())),
            OrderStatus::Shipped => {}
            _ => return invalid("order_id", "the order is not on its way"),
        }
        if !order.to_platform || !self.limits.confirms {
            return invalid("order_id", "the order is not confirmed by itself");
        }
        if order.way.iter().any(|(step, _)| *step == "extended") {
            return invalid("order_id", "its confirmation was put off before");
        }
        order.way.push(("extended", By::Buyer));
        Ok(Answer::Done)
    }

    fn cancel(&mut self, user: &str, proof: &Proof, id: &str) -> Judged<Answer> {
        let account = self.user(user, proof)?;
        let index = self.order_of(account, id)?;
        if self.orders[index].status != OrderStatus::Pending {
            return refuse(Refusal::NotCancelable(id.into()));
        }
        self.put_back(index);
        Ok(Answer::Done)
    }

    fn refund(&mut self, user: &str, proof: &Proof, id: &str) -> Judged<Answer> {
        let account = self.user(user, proof)?;
        let index = self.order_of(account, id)?;
        let Order { buyer, total, status, to_platform, .. } = self.orders[index];
        match status {
            OrderStatus::Paid => {}
            OrderStatus::Pending => return refuse(Refusal::NotPaid(id.into())),
            _ => return refuse(Refusal::NotCancelable(id.into())),
        }
        if !to_platform {
            let seller = self.stores[&self.orders[index].store].owner;
            if self.accounts[seller].balance < total {
                return refuse(Refusal::InsufficientFunds(id.into()));
            }
            self.accounts[seller].balance -= total;
        }
        self.accounts[buyer].balance += total;
        self.put_back(index);
        Ok(Answer::Done)
    }

    /// The order is canceled, and its copies are on the shelf again.
    fn put_back(&mut self, index: usize) {
        let order = &mut self.orders[index];
        order.status = OrderStatus::Canceled;
        order.way.push(("canceled", By::Buyer));
        let books = &mut self.stores.get_mut(&order.store).unwrap().books;
        for (book, count, _) in &order.lines {
            books.get_mut(book).unwrap().stock += count;
        }
    }

    fn add_funds(&mut self, user: &str, proof: &Proof, value: i64) -> Judged<Answer> {
        let account = self.authorise(user, proof)?;
        let Totals { balances, escrow, .. } = self.totals();
        if value > 0 && balances + escrow + i128::from(value) >= 1 << 62 {
            return invalid("add_value", "the sum of all deposits would overflow");
        }
        let balance = &mut self.accounts[account].balance;
        if i128::from(*balance) + i128::from(value) < 0 {
            return invalid("add_value", "the balance does not cover the withdrawal");
        }
        *balance += value;
        Ok(Answer::Done)
    }

    fn all_store_orders(&self, user: &str, proof: &Proof) -> Judged<Answer> {
        let account = self.user(user, proof)?;
        let stores = &self.accounts[account].stores;
        if stores.is_empty() {
            return refuse(Refusal::NoStoreForUser(user.into()));
        }
        // The limit counts them all.
        self.list(|order| stores.contains(&order.store))?;
        let mut lists = BTreeMap::new();
        for store in stores {
            lists.insert(store.clone(), self.list(|order| order.store == *store)?);
        }
        Ok(Answer::OrdersByStore(lists))
    }

    /// Newest first, complete or not at all.
    fn list(&self, wanted: impl Fn(&&Order) -> bool) -> Judged<Vec<Row>> {
        let found: Vec<Row> = self.orders.iter().rev().filter(wanted).map(|order| self.row(order)).collect();
        if found.len() > self.limits.listed { Err(Answer::TooManyListed) } else { Ok(found) }
    }

    fn row(&self, order: &Order) -> Row {
        Row {
            id: order.id.clone(),
            user: self.accounts[order.buyer].name.clone(),
            store: order.store.clone(),
            status: order.status,
            total: order.total,
            shipped: order.shipped,
            lines: order.lines.clone(),
        }
    }

    fn credit_seller(&mut self, index: usize) {
        let order = &self.orders[index];
        let seller = self.stores[&order.store].owner;
        self.accounts[seller].balance += order.total;
    }

    fn proves(&self, account: usize, proof: &Proof) -> bool {
        match proof {
            Proof::Trusted => true,
            Proof::Password(password) => self.accounts[account].password == *password,
            Proof::Token(index) => self.tokens.get(*index).is_some_and(|token| token.valid && token.account == account),
        }
    }

    /// An unknown user is a 401 here.
    fn authorise(&self, user: &str, proof: &Proof) -> Judged<usize> {
        match self.users.get(user) {
            Some(account) if self.proves(*account, proof) => Ok(*account),
            _ => refuse(Refusal::Unauthorized),
        }
    }

    /// An unknown user is a 511 here.
    fn user(&self, user: &str, proof: &Proof) -> Judged<usize> {
        if !self.users.contains_key(user) {
            return refuse(Refusal::NoUser(user.into()));
        }
        self.authorise(user, proof)
    }

    fn own_store(&mut self, user: &str, proof: &Proof, store: &str) -> Judged<&mut Store> {
        let account = self.user(user, proof)?;
        match self.stores.get_mut(store).filter(|found| !found.closed) {
            None => refuse(Refusal::NoStore(store.into())),
            Some(found) if found.owner != account => refuse(Refusal::Unauthorized),
            Some(found) => Ok(found),
        }
    }

    fn own_book(&mut self, user: &str, proof: &Proof, store: &str, book: &str) -> Judged<&mut Book> {
        let found = self.own_store(user, proof, store)?.books.get_mut(book);
        found.ok_or_else(|| Answer::Refused(Refusal::NoBook(book.into())))
    }

    fn book(&self, store: &str, book: &str) -> Judged<&Book> {
        let Some(found) = self.stores.get(store) else {
            return refuse(Refusal::NoStore(store.into()));
        };
        found.books.get(book).ok_or_else(|| Answer::Refused(Refusal::NoBook(book.into())))
    }

    fn find(&self, id: &str) -> Judged<usize> {
        let found = self.orders.iter().position(|order| order.id == id);
        found.ok_or_else(|| Answer::Refused(Refusal::NoOrder(id.into())))
    }

    fn order_of(&self, account: usize, id: &str) -> Judged<usize> {
        match self.find(id)? {
            index if self.orders[index].buyer == account => Ok(index),
            _ => refuse(Refusal::NoOrder(id.into())),
        }
    }

    fn revoke_all(&mut self, account: usize) {
        for token in self.tokens.iter_mut().filter(|token| token.account == account) {
            token.valid = false;
        }
    }

    /// For the generator: what a sensible caller would know.
    pub(crate) fn password_of(&self, user: &str) -> Option<String> {
        self.users.get(user).map(|account| self.accounts[*account].password.clone())
    }

    pub(crate) fn balance_of(&self, user: &str) -> i64 {
        self.users.get(user).map_or(0, |account| self.accounts[*account].balance)
    }

    pub(crate) fn buyer_of(&self, order: usize) -> &str {
        &self.accounts[self.orders[order].buyer].name
    }

    pub(crate) fn owner_of(&self, store: &str) -> Option<&str> {
        self.stores.get(store).map(|store| self.accounts[store.owner].name.as_str())
    }

    pub(crate) fn is_closed(&self, store: &str) -> bool {
        self.stores.get(store).is_some_and(|store| store.closed)
    }

    /// The newest token of the user's present account.
    pub(crate) fn token_of(&self, user: &str) -> Option<usize> {
        let account = self.users.get(user)?;
        self.tokens.iter().rposition(|token| token.account == *account)
    }

    pub(crate) fn totals(&self) -> Totals {
        let escrow =
            |order: &&Order| order.to_platform && matches!(order.status, OrderStatus::Paid | OrderStatus::Shipped);
        let not_canceled = self.orders.iter().filter(|order| order.status != OrderStatus::Canceled);
        let books = self.stores.values().flat_map(|store| store.books.values());
        Totals {
            accounts: self.users.len() as u64,
            stores: self.stores.len() as u64,
            closed_stores: self.stores.values().filter(|store| store.closed).count() as u64,
            orders: self.orders.len() as u64,
            balances: self.accounts.iter().map(|account| i128::from(account.balance)).sum(),
            escrow: self.orders.iter().filter(escrow).map(|order| i128::from(order.total)).sum(),
            stock: books.map(|book| i128::from(book.stock)).sum(),
            ordered: not_canceled.flat_map(|order| &order.lines).map(|(_, count, _)| i128::from(*count)).sum(),
        }
    }
}
