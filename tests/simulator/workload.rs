//! What callers ask for next.

use std::sync::Arc;

use bookstore::internals::domain::{AccountNo, OrderId, OrderStatus, PayKind};

use super::Sim;
use crate::command::Command;
use crate::shadow::Known;

impl Sim {
    /// The next command; none if the dice came to nothing.
    pub(super) fn throw(&mut self) -> Option<Command> {
        let name = |number: u64| -> Arc<str> { format!("user-{number}").into() };
        self.names += 1;
        let fresh = self.names;
        let key = self.dice.chance(self.weather.keyed).then_some(fresh);
        // Now and then one that was sent before is sent again.
        if self.dice.chance(self.weather.keyed / 4)
            && let Some(again) = self.dice.pick(&self.sent).cloned()
        {
            return self.again(again);
        }
        let dice = &mut self.dice;
        let process = self.process.as_ref()?;
        let users: Vec<u32> = process.hub.users.values().copied().collect();
        let stores: Vec<(Arc<str>, (u32, u32))> =
            process.hub.store_ids.iter().map(|(name, numbers)| (name.clone(), *numbers)).collect();
        if users.len() < 3 || dice.chance(20) {
            return Some(Command::Register { name: name(dice.roll(7)), secret: fresh, number: None });
        }
        let user = *dice.pick(&users)?;
        let is_closed = |store: &u32| self.shadow.shops.get(store).is_some_and(|shop| shop.closed == Known::Yes);
        let closed = stores.iter().filter(|(_, (store, _))| is_closed(store)).count();
        if stores.len() < 2 + closed || dice.chance(10) {
            let name: Arc<str> = format!("store-{}", dice.roll(4 + closed as u64)).into();
            if self.is_taken(&name) {
                return None;
            }
            return Some(Command::CreateStore { user, store: 0, name });
        }
        let (_, (store, owner)) = dice.pick(&stores)?.clone();
        // Now and then somebody asks a closed one all the same.
        if is_closed(&store) && dice.chance(700) {
            return None;
        }
        // Most often one that nobody waits for, since others stay open.
        let mut of_store = self.shadow.orders.values().filter(|order| order.store == store);
        let is_quiet = of_store.all(|order| matches!(order.seen, OrderStatus::Completed | OrderStatus::Canceled));
        if dice.chance(if is_quiet { 60 } else { 8 }) {
            return Some(Command::CloseStore { user: owner, store });
        }
        let books: Vec<Arc<str>> =
            self.shadow.shops.get(&store).map_or_else(Vec::new, |shop| shop.books.keys().cloned().collect());
        if books.len() < 2 || dice.chance(15) {
            let book: Arc<str> = format!("book-{}", dice.roll(4)).into();
            // Who asks for one that is being listed at another price would not know which it was.
            if self.shadow.shops.get(&store)?.books.contains_key(&book) {
                return None;
            }
            let (price, stock) = (1 + dice.roll(500) as i64, dice.roll(40) as i64);
            return Some(Command::AddBook { user: owner, store, book, price, stock });
        }
        let book = dice.pick(&books)?.clone();
        let command = match dice.roll(100) {
            0..18 => {
                let value = 1 + dice.roll(9_999_999) as i64;
                let value = if dice.chance(150) { -value / 1_000 } else { value };
                // Now and then all but a little, so that a seller does not have what a buyer wants back. Never all: two
                // sums of what may have been done must not be alike.
                let left = dice.chance(120).then(|| 1 + dice.roll(40) as i64);
                let balance = |sim: &mut Self| Some(sim.state().ok()?.accounts.get(&user)?.1.balance());
                let taken = left.and_then(|left| Some(balance(self)? - left)).filter(|taken| *taken > 0);
                Command::AddFunds { user, value: taken.map_or(value, |taken| -taken), key }
            }
            18..22 => Command::Balance { user },
            22..24 => Command::Unregister { user },
            24..27 => Command::SetPassword { user, secret: fresh },
            27..33 => {
                // Odd and spread, so that no two sums are alike.
                let delta = 1 + dice.roll(30) as i64 + if dice.chance(300) { 1_000 * dice.roll(500) as i64 } else { 0 };
                let delta = if dice.chance(200) { -(delta % 7) } else { delta };
                Command::AddStock { user: owner, store, book, delta }
            }
            33 if dice.chance(500) => Command::Level { store, book },
            33 => Command::Browse { store, book },
            34 => Command::SetPrice { user: owner, store, book, price: dice.roll(500) as i64 },
            35 => Command::SetListed { user: owner, store, book, listed: dice.chance(700) },
            36..58 => {
                let count = 1 + dice.index(3);
                let lines = (0..count).map(|_| {
                    let book = &books[dice.index(books.len())];
                    (book.clone(), 1 + dice.roll(4) as i64)
                });
                let lines = lines.collect();
                let now = self.now();
                let order = self.process.as_ref()?.ids.next(now, AccountNo(user));
                Command::Place { user, store, order, lines, key }
            }
            58..60 => Command::OfBuyer { user },
            60..62 => Command::OfStore { store, shard: AccountNo(user).shard() },
            62..64 => Command::Count { user },
            64..66 => Command::Sweep { shard: AccountNo(user).shard() },
            roll => return self.throw_on_order(roll, key),
        };
        self.remember(command)
    }

    /// A command on an order, most often a young one.
    fn throw_on_order(&mut self, roll: u64, key: Option<u64>) -> Option<Command> {
        let dice = &mut self.dice;
        let skip = match (self.shadow.orders.len(), dice.chance(700)) {
            (0, _) => return None,
            (len, true) => len.saturating_sub(6),
            (_, false) => 0,
        };
        let mut orders: Vec<OrderId> = self.shadow.orders.keys().skip(skip).copied().collect();
        // Few orders stay paid for long; of others nothing comes back, and few of them are shipped and waited for.
        if (85..89).contains(&roll) && dice.chance(600) || (94..97).contains(&roll) && dice.chance(800) {
            let paid = self.shadow.orders.iter().filter(|(_, order)| order.seen == OrderStatus::Paid);
            orders = paid.map(|(id, _)| *id).collect();
        }
        let order = *dice.pick(&orders)?;
        let known = &self.shadow.orders[&order];
        let (user, store) = (known.buyer, known.store);
        let owner = self.shadow.shops.get(&store)?.owner;
        let command = match roll {
            66..77 => Command::Pay { user, order, kind: PayKind::Direct, key },
            77..85 => Command::Pay { user, order, kind: PayKind::Platform, key },
            85..89 => Command::Ship { user: owner, store, order },
            89..91 => Command::Confirm { user, order, key },
            91 => Command::Extend { user, order },
            92..94 => Command::Cancel { user, order, key },
            94..97 => Command::Refund { user, order, key },
            97 => {
                let is_seller = dice.chance(500);
                Command::Look { user: if is_seller { owner } else { user }, order, is_seller }
            }
            _ => Command::Status { user, order },
        };
        self.remember(command)
    }

    fn remember(&mut self, command: Command) -> Option<Command> {
        if command.key_and_fields().is_some() {
            if self.sent.len() >= 12 {
                let index = self.dice.index(self.sent.len());
                self.sent.remove(index);
            }
            self.sent.push(command.clone());
        }
        Some(command)
    }

    /// The same again; an order gets a new id at the door. Sometimes with other fields.
    fn again(&mut self, command: Command) -> Option<Command> {
        let now = self.now();
        let other = self.dice.chance(100);
        let process = self.process.as_ref()?;
        // Both may be gone with a crash before anybody was told of them.
        let is_there = |user: &u32| process.hub.users.values().any(|known| known == user);
        if !command.user().is_some_and(|user| is_there(&user)) {
            return None;
        }
        if let Command::Place { store, lines, .. } = &command {
            let shop = self.shadow.shops.get(store)?;
            if !lines.iter().all(|(book, _)| shop.books.contains_key(book)) {
                return None;
            }
        }
        match command {
            Command::Place { user, store, lines, key, .. } => {
                let order = self.process.as_ref()?.ids.next(now, AccountNo(user));
                Some(Command::Place { user, store, order, lines, key })
            }
            Command::AddFunds { user, value, key } if other => Some(Command::AddFunds { user, value: value + 1, key }),
            command => Some(command),
        }
    }
}
