//! Rows that are made up, the same for the same numbers and seed. docs/load-format.md tells their ids, which a load
//! test relies on.

use std::str::FromStr;

use serde_json::json;

use super::{LoadArgs, ProgressLines, Stopped};
use crate::PasswordHash;
use crate::cli::signals::Asked;
use crate::engine::offline::{LoadAccount, LoadError, LoadLine, LoadOrder, LoadPassword, LoadTimes, Loader};
use crate::engine::{NewBook, OrderStatus};

/// 100,000 yuan for everybody.
const BALANCE_FEN: i64 = 10_000_000;
const STOCK: i64 = 10_000;

/// 2026-01-01T00:00:00Z; orders were placed in the year before it.
const ORDERS_END_MS: u64 = 1_767_225_600_000;
const YEAR_MS: u64 = 365 * 86_400_000;
/// 2100-01-01T00:00:00Z: what is pending stays so.
const PENDING_UNTIL_MS: u64 = 4_102_444_800_000;

const THINGS: [&str; 16] = [
    "美丽心灵",
    "深夜食堂",
    "小王子",
    "三体",
    "红楼梦",
    "活着",
    "围城",
    "边城",
    "The Garden",
    "A River",
    "The Long Road",
    "Small Numbers",
    "Night Trains",
    "Salt",
    "The Lighthouse",
    "Maps",
];
const KINDS: [&str; 8] = ["传", "全集", "插图本", "选", "Revisited", "in Winter", "for Beginners", "and Other Stories"];
const AUTHORS: [&str; 8] = ["王小明", "李华", "张爱华", "陈默", "A. Smith", "M. Jones", "J. Novak", "E. Berg"];
const PUBLISHERS: [&str; 4] = ["人民文学出版社", "上海译文出版社", "North Press", "Harbour Books"];
const TAGS: [&str; 8] = ["小说", "传记", "历史", "数学", "novel", "travel", "science", "poetry"];

/// How much of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    users: u64,
    stores: u64,
    books: u64,
    orders: u64,
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut spec = Spec { users: 0, stores: 0, books: 0, orders: 0 };
        let mut seen = Vec::new();
        for part in text.split(',') {
            let (name, number) = part.split_once('=').ok_or_else(|| format!("`{part}` is not NAME=N"))?;
            let number: u64 =
                number.parse().map_err(|_not_one| format!("`{number}` is not a whole number below 2^64"))?;
            if seen.contains(&name) {
                return Err(format!("`{name}` stands there twice"));
            }
            seen.push(name);
            *match name {
                "users" => &mut spec.users,
                "stores" => &mut spec.stores,
                "books" => &mut spec.books,
                "orders" => &mut spec.orders,
                _ => return Err(format!("`{name}` is none of users, stores, books, orders")),
            } = number;
        }
        if spec.stores > 0 && spec.users == 0 {
            return Err("stores need users to own them".into());
        }
        if spec.books > 0 && spec.stores == 0 {
            return Err("books need stores to stand in".into());
        }
        if spec.orders > 0 && spec.books < spec.stores.max(1) * 2 {
            return Err("orders need two books a store, so that every store has one".into());
        }
        Ok(spec)
    }
}

impl Spec {
    /// Books in the stores before this one: the sizes rise evenly, from half of the mean to one and a half.
    fn books_before(&self, store: u64) -> u64 {
        let (books, store, stores) = (u128::from(self.books), u128::from(store), u128::from(self.stores));
        (books * store * (stores + store) / (2 * stores * stores)) as u64
    }

    fn books_in(&self, store: u64) -> u64 {
        self.books_before(store + 1) - self.books_before(store)
    }
}

/// Numbers that look random and depend on the seed and on what they are for, not on what was asked before.
struct Dice(u64);

impl Dice {
    fn new(seed: u64, what: u8, number: u64) -> Self {
        let mut input = [0; 17];
        input[0] = what;
        input[1..9].copy_from_slice(&seed.to_le_bytes());
        input[9..].copy_from_slice(&number.to_le_bytes());
        let hash = blake3::hash(&input);
        Dice(u64::from_le_bytes(std::array::from_fn(|place| hash.as_bytes()[place])) | 1)
    }

    /// Below `below`, which is not 0.
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.roll(from.len() as u64) as usize]
    }
}

struct Making<'a> {
    spec: &'a Spec,
    seed: u64,
    loader: &'a mut Loader,
    progress: &'a mut ProgressLines,
    asked: &'a Asked,
}

/// Makes all rows up.
pub(super) fn load(
    spec: &Spec,
    args: &LoadArgs,
    loader: &mut Loader,
    progress: &mut ProgressLines,
    asked: &Asked,
) -> Result<(), Stopped> {
    // One hash for all, and always the same: nobody's secret is in it.
    let salt = std::array::from_fn(|place| b"bookstore sample"[place]);
    let hash = PasswordHash::salted(args.password.as_bytes(), args.hash.params(), salt);
    let hash = hash.map_err(|error| Stopped::Input(error.to_string()))?;
    let mut making = Making { spec, seed: args.seed, loader, progress, asked };
    for user in 0..spec.users {
        let account = LoadAccount { user_id: &user_id(user), password: LoadPassword::Hash(hash), balance: BALANCE_FEN };
        making.loader.account(&account)?;
        making.tell("users", user, spec.users)?;
    }
    for store in 0..spec.stores {
        making.loader.store(&store_id(store), &user_id(store % spec.users))?;
        for book in 0..spec.books_in(store) {
            making.book(store, book)?;
        }
        making.tell("stores", store, spec.stores)?;
    }
    for order in 0..spec.orders {
        making.order(order)?;
        making.tell("orders", order, spec.orders)?;
    }
    Ok(())
}

fn user_id(number: u64) -> String {
    format!("user{number}")
}

fn store_id(number: u64) -> String {
    format!("store{number}")
}

fn book_id(number: u64) -> String {
    format!("book{number}")
}

impl Making<'_> {
    fn tell(&mut self, stage: &'static str, done: u64, total: u64) -> Result<(), Stopped> {
        if done.is_multiple_of(64) {
            self.progress.at(stage, done, Some(total));
            if self.asked.by().is_some() {
                return Err(Stopped::Failed(LoadError::CutShort));
            }
        }
        Ok(())
    }

    /// The price is needed again by orders.
    fn price(&self, store: u64, book: u64) -> i64 {
        let number = self.spec.books_before(store) + book;
        500 + Dice::new(self.seed, b'p', number).roll(9_500) as i64
    }

    fn book(&mut self, store: u64, book: u64) -> Result<(), Stopped> {
        let number = self.spec.books_before(store) + book;
        let mut dice = Dice::new(self.seed, b'b', number);
        let (id, price) = (book_id(book), self.price(store, book));
        let (thing, kind, author) = (dice.pick(&THINGS), dice.pick(&KINDS), dice.pick(&AUTHORS));
        let (publisher, tags) = (dice.pick(&PUBLISHERS), [dice.pick(&TAGS), dice.pick(&TAGS)]);
        let info = json!({
            "id": id, "title": format!("{thing} {kind}"), "author": author, "publisher": publisher,
            "pub_year": format!("{}", 1980 + dice.roll(46)), "pages": 80 + dice.roll(900), "price": price,
            "currency_unit": "元", "isbn": format!("978{:010}", number % 10_000_000_000), "tags": tags,
            "book_intro": format!("{author}: {thing}. {}, {}.", tags[0], tags[1]),
        });
        let document = info.to_string();
        let listed = NewBook { id: &id, price, document: &document };
        self.loader.book(&store_id(store), &listed, STOCK)?;
        // Books are many and stores may be few.
        if number.is_multiple_of(4_096) { self.tell("books", number, self.spec.books) } else { Ok(()) }
    }

    fn order(&mut self, number: u64) -> Result<(), Stopped> {
        let mut dice = Dice::new(self.seed, b'o', number);
        let (buyer, store) = (dice.roll(self.spec.users), dice.roll(self.spec.stores));
        let books = self.spec.books_in(store).max(1);
        let lines = (1 + dice.roll(3)).min(books);
        let first = dice.roll(books);
        let ids: Vec<(u64, String)> =
            (0..lines).map(|line| (first + line) % books).map(|book| (book, book_id(book))).collect();
        let lines: Vec<LoadLine<'_>> = ids
            .iter()
            .map(|(book, id)| LoadLine { book_id: id, count: 1 + dice.roll(3) as i64, price: self.price(store, *book) })
            .collect();
        let status = match dice.roll(100) {
            0..90 => OrderStatus::Completed,
            90..94 => OrderStatus::Canceled,
            94..96 => OrderStatus::Paid,
            96..98 => OrderStatus::Shipped,
            _ => OrderStatus::Pending,
        };
        let order = LoadOrder {
            order_id: None,
            user_id: &user_id(buyer),
            store_id: &store_id(store),
            status,
            paid_to_platform: dice.roll(2) == 0,
            is_shipped: None,
            times: LoadTimes::default(),
            created_ms: ORDERS_END_MS - YEAR_MS
                + (u128::from(YEAR_MS) * u128::from(number) / u128::from(self.spec.orders)) as u64,
            deadline_ms: (status == OrderStatus::Pending).then_some(PENDING_UNTIL_MS),
            lines: &lines,
        };
        self.loader.order(&order)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_is_read_or_refused() {
        let spec: Spec = "users=10,stores=3,books=20,orders=5".parse().unwrap();
        assert_eq!(spec, Spec { users: 10, stores: 3, books: 20, orders: 5 });
        assert_eq!("users=1".parse::<Spec>().unwrap().stores, 0);
        for bad in
            ["", "users", "users=x", "users=-1", "user=1", "stores=1", "users=1,books=1", "users=1,stores=2,orders=1"]
        {
            assert!(bad.parse::<Spec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_books_of_all_stores_are_as_many_as_were_asked_for() {
        for (stores, books) in [(1, 0), (1, 7), (3, 20), (10, 20), (997, 123_456)] {
            let spec = Spec { users: 1, stores, books, orders: 0 };
            let sizes: Vec<u64> = (0..stores).map(|store| spec.books_in(store)).collect();
            assert_eq!(sizes.iter().sum::<u64>(), books);
            if books >= 2 * stores {
                assert!(sizes.iter().all(|size| *size >= 1), "{sizes:?}");
            }
        }
    }
}
