//! Rows of orders at rest for the offline repair, which sees damaged rows, changes rows, and takes them away: nobody
//! else does.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use super::awaited::{AWAITED, awaited_key};
use super::database::{STATE, begin_write};
use super::orders::{
    COUNTS, KEYS, ORDERS, OWNERS, Trouble, UPTO, VALUE_HEADER_BYTES, WRITTEN, decode, encode, index_key, keeper_key,
    order_key, owner_key, owners,
};
use super::{ColdError, Orders};
use crate::domain::{Order, OrderId};

/// What was changed or taken away, as it was: order id → the value in `orders`. Nobody reads it but people.
const CUT: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("cut");

/// A row as it was found.
#[derive(Debug)]
pub struct RestingRow {
    /// Whose.
    pub id: OrderId,
    /// What is in it.
    pub state: RowState,
}

/// What is in a row.
#[derive(Debug)]
pub enum RowState {
    /// The order, and the LSN that it may rest on.
    Sound(Order, u64),
    /// Damaged. One byte of it differs from what was written, and the checksum says which: this is what was written.
    Mendable(Order, u64),
    /// Damaged; the text says how.
    Lost(String),
}

impl Orders {
    /// Shows every row, damaged ones too, in the order of their ids. Blocks on the disk.
    ///
    /// # Errors
    /// [`ColdError::Failed`], [`ColdError::Closed`]; [`ColdError::Damaged`] if redb does not get through its file.
    pub fn survey(&self, visit: &mut dyn FnMut(RestingRow)) -> Result<(), ColdError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(ColdError::Closed)?;
        self.run(|| {
            for entry in database.begin_read()?.open_table(ORDERS)?.iter()? {
                let (key, value) = entry?;
                let id = OrderId::from_u128(u128::from_be_bytes(*key.value()));
                visit(RestingRow { id, state: state(id, value.value()) });
            }
            Ok(())
        })
    }

    /// Puts rows in place of those that are there, or takes them away, in one transaction: durable when it returns, and
    /// nothing of it if it fails. What was there is kept in a table of its own. Lists, counts, the list of idempotency keys and that of what is confirmed by itself are made anew from the
    /// rows, none of which may be damaged then; and every row says that it rests on no event past `upto`.
    ///
    /// # Errors
    /// As [`Orders::survey`]; [`ColdError::Damaged`] also for a damaged row that is not among the changes.
    pub fn mend(&self, changes: &[(OrderId, Option<Order>)], upto: u64) -> Result<(), ColdError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(ColdError::Closed)?;
        self.run(|| {
            let transaction = begin_write(database)?;
            {
                let mut rows = transaction.open_table(ORDERS)?;
                let mut cut = transaction.open_table(CUT)?;
                for (id, change) in changes {
                    let key = order_key(*id);
                    if let Some(old) = rows.remove(&key)? {
                        // The first repair saw what the engine had written.
                        if cut.get(&key)?.is_none() {
                            cut.insert(&key, old.value())?;
                        }
                    }
                    if let Some(order) = change {
                        rows.insert(&key, encode(*id, order, upto).as_slice())?;
                    }
                }
                transaction.delete_table(OWNERS)?;
                transaction.delete_table(COUNTS)?;
                transaction.delete_table(KEYS)?;
                transaction.delete_table(AWAITED)?;
                let mut awaited = transaction.open_table(AWAITED)?;
                let mut lists = transaction.open_table(OWNERS)?;
                let mut entries = Vec::new();
                let mut counts: BTreeMap<[u8; 6], (u64, u64)> = BTreeMap::new();
                let mut keepers: BTreeMap<[u8; 20], (u128, u64)> = BTreeMap::new();
                let mut later = Vec::new();
                for entry in rows.iter()? {
                    let (key, value) = entry?;
                    let id = OrderId::from_u128(u128::from_be_bytes(*key.value()));
                    let order = decode(id, value.value())?;
                    if rests_on(value.value()) > upto {
                        later.push((*key.value(), encode(id, &order, upto)));
                    }
                    if let Some(key) = awaited_key(id, &order) {
                        awaited.insert(&key, ())?;
                    }
                    for kept in &order.keys {
                        let keeper = keepers.entry(keeper_key(order.buyer, kept.key.scope())).or_default();
                        if keeper.1 <= kept.at {
                            *keeper = (id.as_u128(), kept.at);
                        }
                    }
                    for owner in owners(id, &order) {
                        entries.push(index_key(owner_key(owner), *key.value()));
                        let count = counts.entry(owner_key(owner)).or_default();
                        count.0 += 1;
                        count.1 += u64::from(order.is_open());
                    }
                }
                for (key, value) in &later {
                    rows.insert(key, value.as_slice())?;
                }
                entries.sort_unstable();
                for entry in &entries {
                    lists.insert(entry, ())?;
                }
                let mut table = transaction.open_table(COUNTS)?;
                for (owner, count) in &counts {
                    table.insert(owner, *count)?;
                }
                let mut table = transaction.open_table(KEYS)?;
                for (key, keeper) in &keepers {
                    table.insert(key, *keeper)?;
                }
                let mut table = transaction.open_table(STATE)?;
                let known = |value: Option<redb::AccessGuard<'_, u64>>| value.map_or(0, |value| value.value());
                let (written, known_upto) = (known(table.get(WRITTEN)?), known(table.get(UPTO)?));
                table.insert(WRITTEN, written + changes.len() as u64)?;
                table.insert(UPTO, known_upto.min(upto))?;
            }
            transaction.commit()?;
            Ok(())
        })
    }
}

/// The LSN that a sound value says.
fn rests_on(value: &[u8]) -> u64 {
    let bytes = value.get(4..VALUE_HEADER_BYTES).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

fn state(id: OrderId, value: &[u8]) -> RowState {
    match decode(id, value) {
        Ok(order) => RowState::Sound(order, rests_on(value)),
        Err(Trouble::Row(why)) => match mended(id, value) {
            Some((order, value)) => RowState::Mendable(order, rests_on(&value)),
            None => RowState::Lost(why),
        },
        Err(Trouble::Redb(error)) => RowState::Lost(error.to_string()),
    }
}

/// The value with the one byte put right that makes its checksum true, if there is exactly one such byte and an order
/// of that id comes out. For a row of 200 bytes whose damage is larger than that, it errs in one case of 80,000 before
/// the order is looked at.
fn mended(id: OrderId, value: &[u8]) -> Option<(Order, Vec<u8>)> {
    let (checksum, body) = value.split_first_chunk::<4>()?;
    // A checksum is linear: this is what the damage alone adds to it.
    let damage = u32::from_le_bytes(*checksum) ^ crc32fast::hash(body);
    let mut found: Vec<(Order, Vec<u8>)> = Vec::new();
    let mut consider = |at: usize, flip: u8| {
        let mut candidate = value.to_vec();
        candidate[at] ^= flip;
        if let Ok(order) = decode(id, &candidate) {
            found.push((order, candidate));
        }
    };
    for at in 0..4 {
        let byte = damage.to_le_bytes()[at];
        if u32::from(byte) << (8 * at) == damage {
            consider(at, byte);
        }
    }
    // What a flip in the last byte adds, for each bit; a byte further to the front adds this, carried one byte on.
    let mut bits: [u32; 8] = std::array::from_fn(|bit| carried(1 << bit));
    for at in (4..value.len()).rev() {
        let adds = |flip: u8| (0..8).filter(|bit| flip >> bit & 1 == 1).fold(0, |sum, bit| sum ^ bits[bit]);
        for flip in (1..=u8::MAX).filter(|flip| adds(*flip) == damage) {
            consider(at, flip);
        }
        bits = bits.map(carried);
    }
    let only = found.pop();
    only.filter(|_| found.is_empty())
}

/// CRC-32 carried over one byte of zeros.
fn carried(mut crc: u32) -> u32 {
    for _ in 0..8 {
        crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AccountNo, BookNo, Facts, Line, StoreNo};

    fn order() -> (OrderId, Order) {
        let lines = Box::new([Line { book: BookNo(1), count: 2, price: 4_500 }]);
        let (buyer, seller, store) = (AccountNo(7), AccountNo(1), StoreNo(1));
        let facts = Facts { buyer, seller, store, lines, total: 9_000, created: 1, deadline: 2, key: None };
        (OrderId::new(1_700_000_000_000 << 20, buyer, 5), Order::placed(&facts, 1))
    }

    #[test]
    fn one_damaged_byte_of_a_row_is_put_right_wherever_it_is() {
        let (id, order) = order();
        let value = encode(id, &order, 99);
        assert!(matches!(state(id, &value), RowState::Sound(_, 99)));
        for at in 0..value.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = value.clone();
                damaged[at] ^= flip;
                match state(id, &damaged) {
                    RowState::Mendable(mended, 99) => assert_eq!(mended, order, "byte {at}"),
                    other => panic!("byte {at}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn larger_damage_is_not_put_right() {
        let (id, order) = order();
        let value = encode(id, &order, 99);
        for at in 12..value.len() - 4 {
            let mut damaged = value.clone();
            (damaged[at], damaged[at + 3]) = (damaged[at] ^ 0x41, damaged[at + 3] ^ 0x27);
            assert!(matches!(state(id, &damaged), RowState::Lost(_)), "byte {at}");
        }
        assert!(matches!(state(id, &[]), RowState::Lost(_)));
        assert!(matches!(state(id, &value[..9]), RowState::Lost(_)));
    }
}
