//! Who buys what where: the named mixes of people, stores and requests.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::LineRange;
use crate::calls::Route;
use crate::scenario::{Random, Store, User};

/// Of a hundred orders of a hot mix, this many go to the hot store, or come from the hot buyer.
const HOT_PERCENT: u64 = 90;
/// Of a hundred operations of the browsing mix, this many place an order.
const ORDERS_PERCENT: u64 = 10;
/// And this many ask for the status of the order that was placed last.
const STATUS_PERCENT: u64 = 10;
/// Orders that are made ready for each buyer, or each store, on average: of 100 buyers 98 have one or more then.
const ORDERS_EACH: usize = 4;
/// And at most: each takes a kilobyte or two.
const ORDERS_PREPARED_MAX: usize = 65_536;
/// Ready-made requests that only look.
const LOOKS_PREPARED: usize = 1_024;

/// Who buys what where. Each flag for buyers, stores, books and lines replaces what the mix says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mix {
    /// What the Python reference is measured with: 10 buyers, 4 stores with 100 books, orders of 1 to 10 books.
    #[default]
    Reference,
    /// 200 buyers and 40 stores with 50 books, all alike.
    Uniform,
    /// As uniform, but nine of ten orders go to the same store.
    HotStore,
    /// As uniform, but nine of ten orders come from the same buyer.
    HotBuyer,
    /// As uniform, but nine of ten operations only look: searches, books, stock levels, order status, order counts,
    /// balances.
    Browse,
    /// 4 stores with 5,000 books each, 100 buyers.
    Catalogue,
}

impl fmt::Display for Mix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Reference => "reference",
            Self::Uniform => "uniform",
            Self::HotStore => "hot-store",
            Self::HotBuyer => "hot-buyer",
            Self::Browse => "browse",
            Self::Catalogue => "catalogue",
        })
    }
}

/// How much of everything a mix has.
pub(crate) struct Shape {
    pub(crate) buyers: u32,
    pub(crate) stores: u32,
    pub(crate) books: u32,
    pub(crate) lines: LineRange,
}

/// What an operation of the load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// new_order and what follows it.
    Order,
    /// The status of an order placed before.
    Status,
    /// One of the requests that need none.
    Look,
}

impl Mix {
    /// What it has unless flags say otherwise.
    pub(crate) fn shape(self) -> Shape {
        let lines = LineRange { min: 1, max: 10 };
        match self {
            Self::Reference => Shape { buyers: 10, stores: 4, books: 100, lines },
            Self::Uniform | Self::HotStore | Self::HotBuyer | Self::Browse => {
                Shape { buyers: 200, stores: 40, books: 50, lines }
            }
            Self::Catalogue => Shape { buyers: 100, stores: 4, books: 5_000, lines },
        }
    }

    /// How many orders are made ready: enough to touch most of what the mix has, and most buyers and stores if there are
    /// more of them.
    pub(crate) fn orders_prepared(self, buyers: u32, stores: u32) -> usize {
        let least = match self {
            Self::Catalogue => 8_192,
            _ => 1_024,
        };
        (ORDERS_EACH * buyers.max(stores) as usize).clamp(least, ORDERS_PREPARED_MAX)
    }

    /// The buyer of an order.
    pub(crate) fn buyer(self, random: &mut Random, buyers: usize) -> usize {
        if self == Self::HotBuyer && random.below(100) < HOT_PERCENT { 0 } else { random.index(buyers) }
    }

    /// The store of an order.
    pub(crate) fn store(self, random: &mut Random, stores: usize) -> usize {
        if self == Self::HotStore && random.below(100) < HOT_PERCENT { 0 } else { random.index(stores) }
    }

    /// What comes next.
    pub(crate) fn operation(self, random: &mut Random) -> Operation {
        if self != Self::Browse {
            return Operation::Order;
        }
        match random.below(100) {
            picked if picked < ORDERS_PERCENT => Operation::Order,
            picked if picked < ORDERS_PERCENT + STATUS_PERCENT => Operation::Status,
            _ => Operation::Look,
        }
    }

    /// The bodies of the requests that only look, each with its path; none if the mix does not look.
    pub(crate) fn looks(
        self,
        random: &mut Random,
        stores: &[Store],
        buyers: &[User],
    ) -> Vec<(Route, &'static str, Value)> {
        if self != Self::Browse {
            return Vec::new();
        }
        (0..LOOKS_PREPARED).map(|_| look(random, stores, buyers)).collect()
    }
}

fn look(random: &mut Random, stores: &[Store], buyers: &[User]) -> (Route, &'static str, Value) {
    let store = &stores[random.index(stores.len())];
    let book = &store.books[random.index(store.books.len())];
    let buyer = &buyers[random.index(buyers.len())];
    let of_book = json!({"user_id": buyer.id, "store_id": store.id, "book_id": book.id});
    match random.below(16) {
        // A title everywhere: a page of as many books as there are stores.
        0 | 1 => (Route::Search, "/buyer/search", json!({"keyword": book.title()})),
        2..=5 => {
            let body = json!({"keyword": book.title(), "search_in_store": true, "store_id": store.id});
            (Route::Search, "/buyer/search", body)
        }
        6..=8 => (Route::QueryBook, "/buyer/query_book", of_book),
        9..=12 => (Route::CheckStockLevel, "/buyer/check_stock_level", of_book),
        13 => (Route::CheckOrderCount, "/buyer/check_order_count", json!({"user_id": buyer.id})),
        _ => {
            let body = json!({"user_id": buyer.id, "password": buyer.password});
            (Route::QueryBalance, "/buyer/query_balance", body)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_of_ten_are_hot() {
        let mut random = Random::new(3);
        let mut hot = |pick: &dyn Fn(&mut Random) -> usize| (0..10_000).filter(|_| pick(&mut random) == 0).count();
        // One in 40 of the others meets it as well.
        assert!((8_900..9_200).contains(&hot(&|random| Mix::HotStore.store(random, 40))));
        assert!((8_900..9_200).contains(&hot(&|random| Mix::HotBuyer.buyer(random, 40))));
        assert!((150..350).contains(&hot(&|random| Mix::HotBuyer.store(random, 40))));
        assert!((150..350).contains(&hot(&|random| Mix::Uniform.buyer(random, 40))));
    }

    #[test]
    fn more_people_have_more_orders() {
        let prepared = |buyers, stores| Mix::Uniform.orders_prepared(buyers, stores);
        assert_eq!(
            [prepared(1, 1), prepared(256, 1), prepared(257, 1), prepared(1, 300)],
            [1_024, 1_024, 1_028, 1_200]
        );
        assert_eq!([prepared(16_384, 1), prepared(100_000, 10_000)], [65_536, 65_536]);
        assert_eq!([Mix::Catalogue.orders_prepared(100, 4), Mix::Catalogue.orders_prepared(4_000, 4)], [8_192, 16_000]);
    }

    #[test]
    fn who_browses_orders_now_and_then() {
        let mut random = Random::new(3);
        let picked: Vec<_> = (0..10_000).map(|_| Mix::Browse.operation(&mut random)).collect();
        let count = |wanted| picked.iter().filter(|it| **it == wanted).count();
        assert!((900..1_100).contains(&count(Operation::Order)));
        assert!((900..1_100).contains(&count(Operation::Status)));
        assert_eq!(Mix::Reference.operation(&mut random), Operation::Order);
    }
}
