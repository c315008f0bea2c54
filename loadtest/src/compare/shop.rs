//! The same shop for those that have no HTTP: people, stores, books and as many orders, of the shape that the load test sets up.

use crate::Failure;
use crate::args::Load;
use crate::scenario::{Random, STOCK_AT_START};

/// Most copies of a book that a line asks for.
const COUNT_MAX: u64 = 5;
/// What each buyer has, in fen. Floats, which Lua has, are exact up to nine times that.
pub(super) const FUNDS_FEN: i64 = 1_000_000_000_000_000;
/// Copies of each book.
pub(super) const STOCK: i64 = STOCK_AT_START;

/// An order by the numbers of what it is about.
pub(super) struct Order {
    pub(super) buyer: u32,
    pub(super) store: u32,
    /// Book and copies; no book twice.
    pub(super) lines: Vec<(usize, u64)>,
    /// What it costs, in fen.
    pub(super) total_fen: u64,
}

/// Everything that is fixed before the load begins.
pub(super) struct Shop {
    pub(super) buyers: u32,
    pub(super) stores: u32,
    /// By book, the same in each store.
    pub(super) prices_fen: Vec<u64>,
    pub(super) orders: Vec<Order>,
}

impl Shop {
    pub(super) fn new(load: &Load) -> Result<Self, Failure> {
        if load.lines.max > load.books as usize {
            return Err(format!("an order of {} lines needs as many books", load.lines.max).into());
        }
        let mut random = Random::new(load.seed);
        let prices_fen: Vec<u64> = (0..load.books).map(|_| 100 + random.below(9_900)).collect();
        let orders = (0..load.mix.orders_prepared(load.buyers, load.stores))
            .map(|_| {
                let (buyer, store) = (random.below(load.buyers.into()) as u32, random.below(load.stores.into()) as u32);
                let count = load.lines.min + random.index(load.lines.max - load.lines.min + 1);
                let books = random.distinct(count, prices_fen.len());
                let lines: Vec<_> = books.into_iter().map(|book| (book, 1 + random.below(COUNT_MAX))).collect();
                let total_fen = lines.iter().map(|(book, count)| prices_fen[*book] * count).sum();
                Order { buyer, store, lines, total_fen }
            })
            .collect();
        Ok(Self { buyers: load.buyers, stores: load.stores, prices_fen, orders })
    }
}

/// The password of a buyer.
pub(super) fn password(buyer: u32) -> String {
    format!("password of buyer {buyer}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        load: Load,
    }

    #[test]
    fn there_are_as_many_orders_as_over_http() {
        for (mix, wanted) in [("reference", 1_024), ("catalogue", 8_192)] {
            let Flags { load } = Flags::parse_from(["loadtest", "--mix", mix]);
            let shop = Shop::new(&load).unwrap();
            assert_eq!((shop.orders.len(), load.mix.orders_prepared(load.buyers, load.stores)), (wanted, wanted));
        }
    }
}
