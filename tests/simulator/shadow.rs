//! What the callers were told, written down naively and apart from the engine: who exists, what was put in, which
//! orders stand where. A command whose answer never came may have been done or not, and stays open until the next time
//! that nothing moves; then it must have been done as a whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use bookstore::internals::domain::{Account, By, Order, OrderId, OrderStatus, PayKind, Store};

use crate::command::{Command, KeyId};
use crate::setting::Setting;

/// What is known of something that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Asked for; no answer yet, or none ever.
    Perhaps,
    Yes,
    No,
}

/// What moves an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Direct,
    Platform,
    Ship,
    Extend,
    Confirm,
    Cancel,
    Refund,
}

/// What is known of an idempotency key.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyBook {
    /// The fields that it succeeded with.
    succeeded: Option<String>,
    /// The order that was placed under it.
    order: Option<OrderId>,
    /// Fields of a command whose answer never came.
    lost: Option<String>,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) status: OrderStatus,
    pub(crate) payment: Option<PayKind>,
    pub(crate) shipped: bool,
    extended: bool,
    ended_by: Option<By>,
}

#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) name: Arc<str>,
    registered: Known,
    closed: Known,
    /// One of these is the password.
    pub(crate) secrets: Vec<u64>,
    put_in: i64,
    perhaps_put_in: Vec<(Option<KeyId>, i64)>,
}

/// A line of an order, as it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct ShadowLine {
    count: i64,
    /// What a copy cost, once that is known.
    price: Option<i64>,
    price_since: usize,
    for_sale_since: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct ShadowBook {
    pub(crate) listed: Known,
    pub(crate) price: Setting<i64>,
    pub(crate) for_sale: Setting<bool>,
    put_in: i64,
    perhaps_put_in: Vec<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Shop {
    pub(crate) owner: u32,
    created: Known,
    pub(crate) closed: Known,
    /// Closings that have no answer yet.
    closing: usize,
    pub(crate) books: BTreeMap<Arc<str>, ShadowBook>,
}

#[derive(Debug, Clone)]
pub(crate) struct ShadowOrder {
    pub(crate) buyer: u32,
    pub(crate) store: u32,
    /// By book.
    lines: BTreeMap<Arc<str>, ShadowLine>,
    /// Every book of it was surely there when it was asked for.
    books_known: bool,
    /// The store was closed before it was asked for.
    store_closed: bool,
    placed: Known,
    /// At the last time that nothing moved.
    base: Standing,
    done: Vec<Act>,
    perhaps: Vec<(Option<KeyId>, Act)>,
    /// Under which key it was placed.
    key: Option<KeyId>,
    /// Nobody will say what became of it.
    lost: bool,
    /// Somebody was told of this.
    pub(crate) seen: OrderStatus,
    /// Its deadline is not later.
    pub(crate) deadline_max: u64,
    /// It is confirmed by itself not later.
    pub(crate) confirm_max: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Shadow {
    pub(crate) users: BTreeMap<u32, User>,
    pub(crate) shops: BTreeMap<u32, Shop>,
    pub(crate) orders: BTreeMap<OrderId, ShadowOrder>,
    pub(crate) keys: BTreeMap<KeyId, KeyBook>,
    /// Answers that said "done".
    pub(crate) done: u64,
}

/// Everything that there is, when nothing moves.
pub(crate) struct State {
    pub(crate) accounts: BTreeMap<u32, (Arc<str>, Account)>,
    pub(crate) stores: BTreeMap<u32, (Arc<str>, Store)>,
    pub(crate) orders: BTreeMap<OrderId, Order>,
}

const PLACED: Standing =
    Standing { status: OrderStatus::Pending, payment: None, shipped: false, extended: false, ended_by: None };

/// Whether an order of `status` may once have been seen as `seen`.
pub(crate) fn is_past(status: OrderStatus, seen: OrderStatus) -> bool {
    use OrderStatus::{Canceled, Completed, Paid, Pending, Received, Shipped};
    match seen {
        Pending => true,
        // What is canceled may have been refunded.
        Paid => matches!(status, Paid | Shipped | Received | Completed | Canceled),
        Shipped => matches!(status, Shipped | Received | Completed),
        Received | Completed => status == Completed,
        Canceled => status == Canceled,
    }
}

impl Standing {
    fn after(self, act: Act) -> Option<Standing> {
        let ended = |status, by| Some(Standing { status, ended_by: Some(by), ..self });
        match (act, self.status) {
            (Act::Direct, OrderStatus::Pending) => {
                Some(Standing { status: OrderStatus::Paid, payment: Some(PayKind::Direct), ..self })
            }
            (Act::Platform, OrderStatus::Pending) => {
                Some(Standing { status: OrderStatus::Paid, payment: Some(PayKind::Platform), ..self })
            }
            (Act::Cancel, OrderStatus::Pending) => ended(OrderStatus::Canceled, By::Buyer),
            (Act::Extend, OrderStatus::Shipped) if self.awaits() && !self.extended => {
                Some(Standing { extended: true, ..self })
            }
            (Act::Refund, OrderStatus::Paid) => ended(OrderStatus::Canceled, By::Buyer),
            (Act::Ship, OrderStatus::Paid) => Some(Standing { status: OrderStatus::Shipped, shipped: true, ..self }),
            (Act::Confirm, OrderStatus::Paid | OrderStatus::Shipped) => ended(OrderStatus::Completed, By::Buyer),
            _ => None,
        }
    }

    /// What happens to it by itself, when its time has come.
    fn by_itself(self) -> Option<Standing> {
        let status = match self.status {
            OrderStatus::Pending => OrderStatus::Canceled,
            OrderStatus::Shipped if self.awaits() => OrderStatus::Completed,
            _ => return None,
        };
        Some(Standing { status, ended_by: Some(By::Deadline), ..self })
    }

    /// Whether it is confirmed by itself: all are that were shipped while the platform had the money.
    fn awaits(self) -> bool {
        self.status == OrderStatus::Shipped && self.payment == Some(PayKind::Platform)
    }

    pub(crate) fn of(order: &Order) -> Self {
        Standing {
            status: order.status(),
            payment: order.payment(),
            shipped: order.is_shipped(),
            extended: order.is_extended(),
            ended_by: order.ended_by(),
        }
    }
}

/// Whether `now` is what became of `base` by all of `done`, some of `perhaps`, and perhaps the deadline.
fn explains(base: Standing, done: &[Act], perhaps: &[(Option<KeyId>, Act)], now: Standing) -> bool {
    if done.is_empty() && base == now {
        return true;
    }
    if done.is_empty() && base.by_itself() == Some(now) {
        return true;
    }
    fn without<T: Copy>(acts: &[T], index: usize) -> Vec<T> {
        let mut rest = acts.to_vec();
        rest.remove(index);
        rest
    }
    let by_done = (0..done.len())
        .any(|index| base.after(done[index]).is_some_and(|next| explains(next, &without(done, index), perhaps, now)));
    by_done
        || (0..perhaps.len()).any(|index| {
            base.after(perhaps[index].1).is_some_and(|next| explains(next, done, &without(perhaps, index), now))
        })
}

/// Whether `sum` is that of some of `parts`.
fn is_sum(sum: i64, parts: &[i64]) -> bool {
    match parts.split_first() {
        None => sum == 0,
        Some((first, rest)) => is_sum(sum - first, rest) || is_sum(sum, rest),
    }
}

/// Which of `parts` have the sum, if some do.
fn parts_of<K: Copy>(sum: i64, parts: &[(K, i64)]) -> Option<Vec<K>> {
    match parts.split_first() {
        None => (sum == 0).then(Vec::new),
        Some(((key, value), rest)) => {
            let with = parts_of(sum - value, rest).map(|mut found| {
                found.push(*key);
                found
            });
            with.or_else(|| parts_of(sum, rest))
        }
    }
}

impl ShadowOrder {
    fn total(&self) -> i64 {
        self.lines.values().map(|line| line.count * line.price.unwrap_or(0)).sum()
    }

    /// What somebody was told. An error if it was told otherwise before.
    pub(crate) fn see(&mut self, status: OrderStatus) -> Result<(), String> {
        if is_past(status, self.seen) {
            self.seen = status;
        } else if !is_past(self.seen, status) {
            return Err(format!("seen as {status:?} after {:?}", self.seen));
        }
        Ok(())
    }
}

impl Shadow {
    /// A command is on its way.
    pub(crate) fn asked(&mut self, command: &Command) {
        match command {
            Command::Register { number: Some(number), name, secret } => {
                let user = User {
                    name: name.clone(),
                    registered: Known::Perhaps,
                    closed: Known::No,
                    secrets: vec![*secret],
                    put_in: 0,
                    perhaps_put_in: Vec::new(),
                };
                self.users.insert(*number, user);
            }
            Command::CreateStore { user, store, .. } => {
                let shop = Shop {
                    owner: *user,
                    created: Known::Perhaps,
                    closed: Known::No,
                    closing: 0,
                    books: BTreeMap::new(),
                };
                self.shops.insert(*store, shop);
            }
            Command::AddBook { store, book, price, stock, .. } => {
                let shop = self.shops.get_mut(store).unwrap();
                // One that is there is refused.
                shop.books.entry(book.clone()).or_insert_with(|| ShadowBook {
                    listed: Known::Perhaps,
                    price: Setting::new(*price),
                    for_sale: Setting::new(true),
                    put_in: *stock,
                    perhaps_put_in: Vec::new(),
                });
            }
            Command::CloseStore { store, .. } => {
                let shop = self.shop(*store);
                shop.closing += 1;
                if shop.closed == Known::No {
                    shop.closed = Known::Perhaps;
                }
            }
            Command::SetPrice { store, book, price, .. } => self.book(*store, book).price.ask(*price),
            Command::SetListed { store, book, listed, .. } => self.book(*store, book).for_sale.ask(*listed),
            Command::Place { user, store, order, lines, .. } => {
                let shop = &self.shops[store];
                let mut counts = BTreeMap::new();
                for (book, count) in lines {
                    let known = &shop.books[book];
                    let line = counts.entry(book.clone()).or_insert(ShadowLine {
                        count: 0,
                        price: None,
                        price_since: known.price.now_since(),
                        for_sale_since: known.for_sale.now_since(),
                    });
                    line.count += count;
                }
                let books_known = counts.keys().all(|book| shop.books[book].listed == Known::Yes);
                let order_of = ShadowOrder {
                    buyer: *user,
                    store: *store,
                    lines: counts,
                    books_known,
                    store_closed: shop.closed == Known::Yes,
                    placed: Known::Perhaps,
                    base: PLACED,
                    done: Vec::new(),
                    perhaps: Vec::new(),
                    key: command.key_and_fields().map(|(key, _)| key),
                    lost: false,
                    seen: OrderStatus::Pending,
                    deadline_max: u64::MAX,
                    confirm_max: u64::MAX,
                };
                self.orders.insert(*order, order_of);
            }
            Command::Extend { order, .. } => {
                if let Some(order) = self.orders.get_mut(order) {
                    order.confirm_max = u64::MAX;
                }
            }
            _ => {}
        }
    }

    /// A change was acknowledged. `placed`: the order that the answer names.
    pub(crate) fn was_done(
        &mut self,
        command: &Command,
        placed: Option<OrderId>,
        deadline_max: u64,
    ) -> Result<(), String> {
        self.done += 1;
        if let Some((key, fields)) = command.key_and_fields() {
            if let (Command::Place { order, .. }, Some(placed)) = (command, placed)
                && *order != placed
            {
                if self.orders.get(&placed).is_none_or(|order| order.key != Some(key)) {
                    return Err(format!("key {key:?} of order {order} is answered with order {placed}"));
                }
                self.order(*order).placed = Known::No;
            }
            let book = self.keys.entry(key).or_default();
            if let Some(before) = &book.succeeded {
                if *before != fields {
                    return Err(format!("key {key:?} succeeded with {before} and with {fields}"));
                }
                if book.order != placed {
                    return Err(format!("key {key:?} gave {:?} and then {placed:?}", book.order));
                }
                // Nothing more has happened.
                return Ok(());
            }
            (book.succeeded, book.order) = (Some(fields), placed);
            // What was lost under this key was this, or nothing.
            self.forget_lost(key);
            if let Some(placed) = placed {
                let order = self.order(placed);
                order.placed = Known::Yes;
                order.deadline_max = order.deadline_max.min(deadline_max);
                return Ok(());
            }
        }
        match command {
            Command::Register { number: Some(number), .. } => self.user(*number).registered = Known::Yes,
            Command::Unregister { user } => self.user(*user).closed = Known::Yes,
            Command::SetPassword { user, secret, .. } => self.user(*user).secrets.push(*secret),
            Command::AddFunds { user, value, .. } => self.user(*user).put_in += value,
            Command::CreateStore { store, .. } => self.shop(*store).created = Known::Yes,
            Command::AddBook { store, book, .. } => self.book(*store, book).listed = Known::Yes,
            Command::AddStock { store, book, delta, .. } => self.book(*store, book).put_in += delta,
            Command::CloseStore { store, .. } => {
                let shop = self.shop(*store);
                (shop.closed, shop.closing) = (Known::Yes, shop.closing - 1);
            }
            Command::SetPrice { store, book, .. } => self.book(*store, book).price.answered(true),
            Command::SetListed { store, book, .. } => self.book(*store, book).for_sale.answered(true),
            Command::Place { order, .. } => {
                let order = self.order(*order);
                order.placed = Known::Yes;
                order.deadline_max = deadline_max;
            }
            other => {
                if let Some((id, act)) = other.act() {
                    let (status, kind) = match act {
                        Act::Direct => (OrderStatus::Paid, Some(PayKind::Direct)),
                        Act::Platform => (OrderStatus::Paid, Some(PayKind::Platform)),
                        Act::Ship | Act::Extend => (OrderStatus::Shipped, None),
                        Act::Confirm => (OrderStatus::Completed, None),
                        Act::Cancel | Act::Refund => (OrderStatus::Canceled, None),
                    };
                    let is_keyed = other.key_and_fields().is_some();
                    let order = self.orders.get_mut(&id).ok_or("nobody has placed it")?;
                    let was_paid = order.base.payment.is_some();
                    let was_done = is_past(order.base.status, status)
                        && (kind.is_none() || order.base.payment == kind)
                        && (act != Act::Refund || was_paid);
                    // Under a key it may have been done before the last time that nothing moved.
                    if !(is_keyed && was_done) {
                        order.done.push(act);
                    }
                    order.see(status)?;
                }
            }
        }
        Ok(())
    }

    /// What was lost under a key is not there beside what is known of it now.
    fn forget_lost(&mut self, key: KeyId) {
        if let Some(book) = self.keys.get_mut(&key) {
            book.lost = None;
        }
        for user in self.users.values_mut() {
            user.perhaps_put_in.retain(|(of, _)| *of != Some(key));
        }
        for order in self.orders.values_mut() {
            order.perhaps.retain(|(of, _)| *of != Some(key));
        }
    }

    /// Whether a success under this command's key was acknowledged, so that a repeat must not be refused.
    pub(crate) fn has_succeeded(&self, command: &Command) -> bool {
        let known = command.key_and_fields().and_then(|(key, _)| self.keys.get(&key));
        known.is_some_and(|book| book.succeeded.is_some())
    }

    /// Whether a command with this key may be sent with these fields: nobody knows what became of one with others.
    pub(crate) fn may_send(&self, command: &Command) -> bool {
        let Some((key, fields)) = command.key_and_fields() else { return true };
        let lost = self.keys.get(&key).and_then(|book| book.lost.as_ref());
        lost.is_none_or(|lost| *lost == fields)
    }

    /// A repeat was judged anew: so no earlier one under its key has succeeded.
    pub(crate) fn was_judged_anew(&mut self, command: &Command) {
        if let Some((key, _)) = command.key_and_fields() {
            self.forget_lost(key);
            for order in self.orders.values_mut() {
                if order.key == Some(key) && order.lost && order.placed == Known::Perhaps {
                    order.placed = Known::No;
                }
            }
        }
    }

    /// A change was refused, so it left no trace.
    pub(crate) fn was_refused(&mut self, command: &Command) {
        match command {
            Command::Register { number: Some(number), .. } => self.user(*number).registered = Known::No,
            Command::CreateStore { store, .. } => self.shop(*store).created = Known::No,
            Command::AddBook { store, book, .. } => {
                let book = self.book(*store, book);
                if book.listed == Known::Perhaps {
                    book.listed = Known::No;
                }
            }
            Command::CloseStore { store, .. } => {
                let shop = self.shop(*store);
                shop.closing -= 1;
                // One whose answer never comes is never taken off, so that it stays open what became of it.
                if shop.closing == 0 && shop.closed == Known::Perhaps {
                    shop.closed = Known::No;
                }
            }
            Command::SetPrice { store, book, .. } => self.book(*store, book).price.answered(false),
            Command::SetListed { store, book, .. } => self.book(*store, book).for_sale.answered(false),
            Command::Place { order, .. } => self.order(*order).placed = Known::No,
            _ => {}
        }
    }

    /// An order was taken: each of its books was for sale at some time since it was asked for.
    pub(crate) fn judge_for_sale(&self, id: OrderId) -> Result<(), String> {
        let order = &self.orders[&id];
        let shop = &self.shops[&order.store];
        if order.store_closed {
            return Err("the store was closed".into());
        }
        let not = order.lines.iter().find(|(book, line)| !shop.books[*book].for_sale.may_be(line.for_sale_since, true));
        not.map_or(Ok(()), |(book, _)| Err(format!("{book} was not for sale")))
    }

    /// Something was refused because the store is closed: somebody has asked for that.
    pub(crate) fn judge_closed(&self, command: &Command) -> Result<(), String> {
        match command.store().and_then(|store| self.shops.get(&store)) {
            Some(shop) if shop.closed != Known::No => Ok(()),
            _ => Err("nobody has closed it".into()),
        }
    }

    /// Orders of a store that there may be, and whether one of them may be open for all that was told.
    pub(crate) fn may_be_open(&self, store: u32) -> (usize, bool) {
        let orders = self.orders.values().filter(|order| order.store == store && order.placed != Known::No);
        let is_over = |order: &&ShadowOrder| matches!(order.seen, OrderStatus::Completed | OrderStatus::Canceled);
        (orders.clone().count(), orders.clone().any(|order| !is_over(&order)))
    }

    /// An order was refused for a book: one of them was not there, or not for sale.
    pub(crate) fn judge_not_for_sale(&self, id: OrderId) -> Result<(), String> {
        let order = &self.orders[&id];
        let shop = &self.shops[&order.store];
        let not_for_sale =
            order.lines.iter().any(|(book, line)| shop.books[book].for_sale.may_be(line.for_sale_since, false));
        match not_for_sale || !order.books_known {
            true => Ok(()),
            false => Err("all of its books were for sale".into()),
        }
    }

    /// Nobody will ever say what became of a change.
    pub(crate) fn was_lost(&mut self, command: &Command) {
        let key = command.key_and_fields().map(|(key, _)| key);
        if let Command::Place { order, .. } = command {
            self.order(*order).lost = true;
        }
        if let Some((key, fields)) = command.key_and_fields() {
            let book = self.keys.entry(key).or_default();
            // One effect, however often it was sent.
            if book.succeeded.is_some() || book.lost.is_some() {
                return;
            }
            book.lost = Some(fields);
        }
        match command {
            Command::Unregister { user } => {
                let user = self.user(*user);
                if user.closed == Known::No {
                    user.closed = Known::Perhaps;
                }
            }
            Command::SetPassword { user, secret, .. } => self.user(*user).secrets.push(*secret),
            Command::AddFunds { user, value, .. } => self.user(*user).perhaps_put_in.push((key, *value)),
            Command::AddStock { store, book, delta, .. } => self.book(*store, book).perhaps_put_in.push(*delta),
            other => {
                if let Some((id, act)) = other.act()
                    && let Some(order) = self.orders.get_mut(&id)
                {
                    order.perhaps.push((key, act));
                }
            }
        }
    }

    /// Keys of before mean nothing any more.
    pub(crate) fn forget_keys(&mut self) {
        self.keys.clear();
        self.orders.values_mut().for_each(|order| order.key = None);
    }

    fn user(&mut self, number: u32) -> &mut User {
        self.users.get_mut(&number).unwrap()
    }

    fn shop(&mut self, number: u32) -> &mut Shop {
        self.shops.get_mut(&number).unwrap()
    }

    fn book(&mut self, store: u32, book: &Arc<str>) -> &mut ShadowBook {
        self.shop(store).books.get_mut(book).unwrap()
    }

    fn order(&mut self, id: OrderId) -> &mut ShadowOrder {
        self.orders.get_mut(&id).unwrap()
    }

    /// Orders that were acknowledged, with what was told of them.
    pub(crate) fn placed_of(&self, is_mine: impl Fn(&ShadowOrder) -> bool) -> BTreeMap<OrderId, OrderStatus> {
        let orders = self.orders.iter().filter(|(_, order)| order.placed == Known::Yes && is_mine(order));
        orders.map(|(id, order)| (*id, order.seen)).collect()
    }

    /// Orders that may be there.
    pub(crate) fn perhaps_of(&self, is_mine: impl Fn(&ShadowOrder) -> bool) -> usize {
        self.orders.values().filter(|order| order.placed != Known::No && is_mine(order)).count()
    }

    pub(crate) fn is_placed(&self, id: OrderId) -> bool {
        self.orders.get(&id).is_some_and(|order| order.placed == Known::Yes)
    }

    /// Nothing moves: compares everything, and takes what is there for known.
    pub(crate) fn compare(&mut self, state: &State) -> Result<(), String> {
        self.compare_users(state)?;
        self.compare_shops(state)?;
        self.compare_orders(state)?;
        self.compare_stock(state)?;
        self.compare_money(state)?;
        self.settle_books(state);
        self.keys.values_mut().for_each(|book| book.lost = None);
        Ok(())
    }

    /// Prices, and what is for sale, are as they are.
    fn settle_books(&mut self, state: &State) {
        for (number, shop) in &mut self.shops {
            let (_, store) = &state.stores[number];
            for found in store.books() {
                if let Some(book) = shop.books.get_mut(&found.id) {
                    (book.price, book.for_sale) = (Setting::new(found.price), Setting::new(found.listed));
                }
            }
        }
    }

    fn compare_users(&mut self, state: &State) -> Result<(), String> {
        for number in state.accounts.keys() {
            if self.users.get(number).is_none_or(|user| user.registered == Known::No) {
                return Err(format!("account {number} is there and was never registered"));
            }
        }
        for (number, user) in &mut self.users {
            let who = format!("account {number} ({})", user.name);
            let Some((name, account)) = state.accounts.get(number) else {
                if user.registered == Known::Yes {
                    return Err(format!("{who} was registered and is gone"));
                }
                user.registered = Known::No;
                continue;
            };
            user.registered = Known::Yes;
            if *name != user.name {
                return Err(format!("{who} is called {name}"));
            }
            match (user.closed, account.is_closed()) {
                (Known::Yes, false) => return Err(format!("{who} was unregistered and is there")),
                (Known::No, true) => return Err(format!("{who} is closed and nobody asked for it")),
                (_, closed) => user.closed = if closed { Known::Yes } else { Known::No },
            }
            if !account.is_closed() {
                let secret = crate::command::secret_number(account.secret());
                if !user.secrets.contains(&secret) {
                    return Err(format!("{who} has the password {secret}, not one of {:?}", user.secrets));
                }
                user.secrets = vec![secret];
            }
            let Some(done) = parts_of(account.net_put_in() - user.put_in, &user.perhaps_put_in) else {
                let told = (user.put_in, &user.perhaps_put_in);
                return Err(format!("{who} put in {} fen, told were {told:?}", account.net_put_in()));
            };
            for key in done.into_iter().flatten() {
                // A repeat is answered and puts nothing in.
                let book = self.keys.entry(key).or_default();
                book.succeeded = book.lost.take();
            }
            user.put_in = account.net_put_in();
            user.perhaps_put_in.clear();
        }
        // A number that nobody has may be given again.
        self.users.retain(|_, user| user.registered == Known::Yes);
        Ok(())
    }

    fn compare_shops(&mut self, state: &State) -> Result<(), String> {
        for number in state.stores.keys() {
            if self.shops.get(number).is_none_or(|shop| shop.created == Known::No) {
                return Err(format!("store {number} is there and was never created"));
            }
        }
        for (number, shop) in &mut self.shops {
            let Some((_, store)) = state.stores.get(number) else {
                if shop.created == Known::Yes {
                    return Err(format!("store {number} was created and is gone"));
                }
                shop.created = Known::No;
                continue;
            };
            shop.created = Known::Yes;
            if store.owner().0 != shop.owner {
                return Err(format!("store {number} belongs to account {}, not {}", store.owner().0, shop.owner));
            }
            match (shop.closed, store.is_closed()) {
                (Known::Yes, false) => return Err(format!("store {number} was closed and is open")),
                (Known::No, true) => return Err(format!("store {number} is closed and nobody asked for it")),
                (_, closed) => shop.closed = if closed { Known::Yes } else { Known::No },
            }
            shop.closing = 0;
            if !state.accounts.get(&shop.owner).is_some_and(|(_, owner)| owner.stores().contains(&store_no(*number))) {
                return Err(format!("account {} does not know its store {number}", shop.owner));
            }
            let there: BTreeMap<_, _> = store.books().iter().map(|book| (book.id.clone(), book)).collect();
            if there.len() != store.books().len() {
                return Err(format!("store {number} has a book twice"));
            }
            for (id, book) in &mut shop.books {
                match (there.get(id), book.listed) {
                    (None, Known::Yes) => return Err(format!("store {number} lost the book {id}")),
                    (None, _) => book.listed = Known::No,
                    (Some(_), Known::No) => return Err(format!("store {number} has {id}, which was refused")),
                    (Some(found), _) => {
                        book.listed = Known::Yes;
                        let price = book.price.judge(book.price.now_since(), found.price);
                        price.map_err(|why| format!("what {id} of store {number} costs: {why}"))?;
                        let for_sale = book.for_sale.judge(book.for_sale.now_since(), found.listed);
                        for_sale.map_err(|why| format!("whether {id} of store {number} is for sale: {why}"))?;
                    }
                }
            }
            shop.books.retain(|_, book| book.listed == Known::Yes);
            if there.len() != shop.books.len() {
                return Err(format!("store {number} has books that nobody listed"));
            }
        }
        self.shops.retain(|_, shop| shop.created == Known::Yes);
        Ok(())
    }

    fn compare_orders(&mut self, state: &State) -> Result<(), String> {
        for id in state.orders.keys() {
            if self.orders.get(id).is_none_or(|order| order.placed == Known::No) {
                return Err(format!("order {id} is there and was never placed"));
            }
        }
        let mut keys: BTreeMap<KeyId, OrderId> = BTreeMap::new();
        for (id, order) in self.orders.iter().filter(|(id, _)| state.orders.contains_key(id)) {
            if let Some(key) = order.key
                && let Some(other) = keys.insert(key, *id)
            {
                return Err(format!("orders {other} and {id} were placed under one key {key:?}"));
            }
        }
        for (id, order) in &mut self.orders {
            let Some(found) = state.orders.get(id) else {
                if order.placed == Known::Yes {
                    return Err(format!("order {id} was placed and is gone"));
                }
                order.placed = Known::No;
                continue;
            };
            order.placed = Known::Yes;
            let (_, store) = state.stores.get(&order.store).ok_or(format!("order {id} has no store"))?;
            let line = |line: &bookstore::internals::domain::Line| {
                (store.books()[line.book.0 as usize].id.clone(), (line.count, line.price))
            };
            let lines: BTreeMap<_, _> = found.lines().iter().map(line).collect();
            let shop = self.shops.get(&order.store).ok_or(format!("order {id} has no store"))?;
            for (book, line) in order.lines.iter_mut().filter(|(_, line)| line.price.is_none()) {
                let (_, price) = lines.get(book).ok_or(format!("order {id} lacks {book}"))?;
                let judged = shop.books[book].price.judge(line.price_since, *price);
                judged.map_err(|why| format!("what {book} cost in order {id}: {why}"))?;
                line.price = Some(*price);
            }
            let asked_lines =
                order.lines.iter().map(|(book, line)| (book.clone(), (line.count, line.price.unwrap_or(0))));
            let asked_lines: BTreeMap<_, _> = asked_lines.collect();
            let said = (found.buyer().0, found.store().0, found.seller().0, found.total(), &lines);
            let asked = (order.buyer, order.store, shop.owner, order.total(), &asked_lines);
            if said != asked {
                return Err(format!("order {id} is {said:?}, asked for was {asked:?}"));
            }
            let now = Standing::of(found);
            if !explains(order.base, &order.done, &order.perhaps, now) {
                let (base, done, perhaps) = (order.base, &order.done, &order.perhaps);
                return Err(format!("order {id} is {now:?}: it was {base:?}, then {done:?}, perhaps {perhaps:?}"));
            }
            if !is_past(now.status, order.seen) {
                return Err(format!("order {id} is {now:?} and was seen as {:?}", order.seen));
            }
            if let Some(key) = order.key {
                let book = self.keys.entry(key).or_default();
                if book.succeeded.is_none() {
                    (book.succeeded, book.order) = (book.lost.take(), Some(*id));
                }
            }
            order.base = now;
            order.deadline_max = found.deadline();
            order.confirm_max = found.confirm_by().unwrap_or(u64::MAX);
            order.done.clear();
            order.perhaps.clear();
        }
        self.orders.retain(|_, order| order.placed == Known::Yes);
        Ok(())
    }

    fn compare_stock(&mut self, state: &State) -> Result<(), String> {
        for (number, shop) in &mut self.shops {
            let (_, store) = &state.stores[number];
            for found in store.books() {
                let book = shop.books.get_mut(&found.id).unwrap();
                let is_mine =
                    |order: &&ShadowOrder| order.store == *number && order.base.status != OrderStatus::Canceled;
                let ordered = self.orders.values().filter(is_mine);
                let sold: i64 = ordered.filter_map(|order| order.lines.get(&found.id)).map(|line| line.count).sum();
                let put_in = found.stock + sold;
                if found.stock < 0 || !is_sum(put_in - book.put_in, &book.perhaps_put_in) {
                    let (id, told) = (&found.id, (book.put_in, &book.perhaps_put_in));
                    let there = found.stock;
                    return Err(format!("{id} of store {number}: {there} there, {sold} in orders, told were {told:?}"));
                }
                book.put_in = put_in;
                book.perhaps_put_in.clear();
            }
        }
        Ok(())
    }

    fn compare_money(&self, state: &State) -> Result<(), String> {
        for (number, user) in &self.users {
            let mut balance = user.put_in;
            for order in self.orders.values() {
                let shop = &self.shops[&order.store];
                let total = order.total();
                if order.base.status == OrderStatus::Canceled {
                    continue;
                }
                if order.buyer == *number && order.base.payment.is_some() {
                    balance -= total;
                }
                let seller_has_it = match order.base.payment {
                    Some(PayKind::Direct) => true,
                    Some(PayKind::Platform) => order.base.status == OrderStatus::Completed,
                    None => false,
                };
                if shop.owner == *number && seller_has_it {
                    balance += total;
                }
            }
            let (_, account) = &state.accounts[number];
            if account.balance() != balance || balance < 0 {
                return Err(format!("account {number} has {} fen, not {balance}", account.balance()));
            }
        }
        Ok(())
    }

    /// What was acknowledged may be gone (only what the durability promises): takes everything for known as it is.
    pub(crate) fn adopt(&mut self, state: &State) {
        self.forget_keys();
        self.users.retain(|number, _| state.accounts.contains_key(number));
        for (number, user) in &mut self.users {
            let (_, account) = &state.accounts[number];
            (user.registered, user.put_in) = (Known::Yes, account.net_put_in());
            user.perhaps_put_in.clear();
            user.closed = if account.is_closed() { Known::Yes } else { Known::No };
            user.secrets = vec![crate::command::secret_number(account.secret())];
        }
        self.orders.retain(|id, _| state.orders.contains_key(id));
        for (id, order) in &mut self.orders {
            let found = &state.orders[id];
            (order.placed, order.base, order.seen) = (Known::Yes, Standing::of(found), found.status());
            order.deadline_max = found.deadline();
            order.confirm_max = found.confirm_by().unwrap_or(u64::MAX);
            order.done.clear();
            order.perhaps.clear();
            let books = state.stores[&order.store].1.books();
            for line in found.lines() {
                if let Some(known) = order.lines.get_mut(&books[line.book.0 as usize].id) {
                    known.price = Some(line.price);
                }
            }
        }
        self.shops.retain(|number, _| state.stores.contains_key(number));
        for (number, shop) in &mut self.shops {
            shop.created = Known::Yes;
            let (_, store) = &state.stores[number];
            (shop.closed, shop.closing) = (if store.is_closed() { Known::Yes } else { Known::No }, 0);
            shop.books.retain(|id, _| store.books().iter().any(|book| book.id == *id));
            for book in store.books() {
                let shadow = shop.books.get_mut(&book.id).unwrap();
                shadow.listed = Known::Yes;
                (shadow.price, shadow.for_sale) = (Setting::new(book.price), Setting::new(book.listed));
                let ordered = state.orders.values().filter(|order| order.store().0 == *number);
                let sold = ordered.filter(|order| order.status() != OrderStatus::Canceled);
                let of_book = |order: &Order| {
                    let mine = order.lines().iter().filter(|line| store.books()[line.book.0 as usize].id == book.id);
                    mine.map(|line| line.count).sum::<i64>()
                };
                shadow.put_in = book.stock + sold.map(of_book).sum::<i64>();
                shadow.perhaps_put_in.clear();
            }
        }
    }
}

fn store_no(number: u32) -> bookstore::internals::domain::StoreNo {
    bookstore::internals::domain::StoreNo(number)
}
