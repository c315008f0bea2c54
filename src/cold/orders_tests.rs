//! What is written is there, in both of its lists and counted once; a crash at any operation leaves a whole commit or
//! none; damage is told.
#![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::test_disk::TestDisk;
use super::{ColdError, Counts, Orders};
use crate::disk::RealDisk;
use crate::domain::{
    AccountNo, KEPT_FOR, Kept, Key, Operation, Order, OrderId, OrdersOf, SHARDS, StoreNo, decode_row, encode_row,
};

const PATH: &str = "/data/orders.redb";
const CACHE_BYTES: usize = 1 << 20;

/// An order as its row says it: status 1 is paid, 4 completed.
fn order(seq: u32, status: u8, buyer: u32, store: u32) -> Order {
    let lines: [(u32, i64, i64); 1] = [(0, 2, 450)];
    let times = (1_000u64, 2_000u64);
    let keys: [Kept; 0] = [];
    // Of the tuples that serde knows, none is so long.
    let (nothing, end) = ((None::<u64>, None::<u64>, None::<u64>, None::<u64>), keys);
    let (a, b, c, d) = nothing;
    let row = (seq, status, Some(0u8), buyer, 9u32, store, lines, 900i64, times.0, times.1, a, b, c, d, end);
    decode_row(&encode_row(&row)).unwrap()
}

fn id(number: u64, buyer: u32) -> OrderId {
    OrderId::new(number << 20, AccountNo(buyer), number)
}

fn open(disk: &TestDisk) -> Result<Orders, ColdError> {
    Orders::open(disk, PATH.as_ref(), CACHE_BYTES)
}

fn of_buyer(orders: &Orders, buyer: u32) -> Vec<(OrderId, Order)> {
    orders.view().unwrap().list(OrdersOf::Buyer(AccountNo(buyer)), &HashSet::new()).unwrap()
}

fn of_store(orders: &Orders, store: u32) -> Vec<(OrderId, Order)> {
    let view = orders.view().unwrap();
    let part = |shard| view.list(OrdersOf::Store(StoreNo(store), shard), &HashSet::new()).unwrap();
    let mut all: Vec<_> = (0..SHARDS).flat_map(part).collect();
    all.sort_by_key(|(id, _)| *id);
    all
}

#[test]
fn a_row_is_in_both_lists_and_a_higher_sequence_number_replaces_it() {
    let disk = TestDisk::default();
    let orders = open(&disk).unwrap();
    assert!(orders.is_empty());
    assert_eq!(orders.get(id(1, 7)).unwrap(), None);
    let paid = [(id(2, 7), order(2, 1, 7, 3)), (id(1, 7), order(2, 1, 7, 4)), (id(3, 8), order(2, 1, 8, 3))];
    assert_eq!(orders.write(&paid, 5).unwrap().len(), 3);
    assert_eq!(orders.len(), 3);
    assert_eq!(of_buyer(&orders, 7).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id(1, 7), id(2, 7)]);
    assert_eq!(of_store(&orders, 3).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id(2, 7), id(3, 8)]);
    let count = |but: &[OrderId]| orders.view().unwrap().count(OrdersOf::Buyer(AccountNo(7)), but).unwrap();
    assert_eq!(count(&[]), Counts { orders: 2, open: 2 });
    assert_eq!(count(&[id(2, 7), id(9, 7)]), Counts { orders: 1, open: 1 });

    // A view stays as it was; what it had is newer afterwards.
    let before = orders.view().unwrap();
    let completed = (id(2, 7), order(3, 4, 7, 3));
    orders.write(std::slice::from_ref(&completed), 9).unwrap();
    assert_eq!(before.get(id(2, 7)).unwrap().unwrap().seq, 2);
    assert_eq!(orders.get(id(2, 7)).unwrap().as_ref(), Some(&completed.1));
    // An older row changes nothing, and is told to be there.
    assert!(orders.write(&paid[..1], 99).unwrap().contains(&id(2, 7)));
    assert_eq!(orders.get(id(2, 7)).unwrap().as_ref(), Some(&completed.1));
    assert_eq!(count(&[]), Counts { orders: 2, open: 1 });
    assert_eq!(orders.len(), 3);
    assert_eq!(orders.view().unwrap().verify(|_| ()).unwrap().orders, 3);
    orders.close().unwrap();
    orders.close().unwrap();
    assert!(matches!(orders.write(&paid, 5), Err(ColdError::Closed)));
    assert!(matches!(orders.view().map(drop), Err(ColdError::Closed)));
    // What had a view when it was closed is told so, and nobody takes it for damage.
    assert!(matches!(before.list(OrdersOf::Buyer(AccountNo(8)), &HashSet::new()), Ok(_) | Err(ColdError::Closed)));
    let orders = open(&disk).unwrap();
    assert_eq!(orders.len(), 3);
    // Three rows and one that was overwritten; what changed nothing does not count.
    assert_eq!((orders.written(), orders.upto()), (4, 9));
}

#[test]
fn a_damaged_row_is_told_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orders.redb");
    let open = |path: &Path| Orders::open(&RealDisk, path, CACHE_BYTES).unwrap();
    let orders = open(&path);
    let both = [(id(1, 7), order(2, 1, 7, 3)), (id(2, 8), order(2, 1, 8, 3))];
    orders.write(&both, 0).unwrap();
    orders.close().unwrap();
    let row = encode_row(&both[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    let places: Vec<_> =
        bytes.windows(row.len()).enumerate().filter(|(_, part)| *part == row).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + 25] ^= 1;
    }
    std::fs::write(&path, bytes).unwrap();
    let orders = open(&path);
    let told = orders.get(id(1, 7)).unwrap_err();
    assert!(matches!(told, ColdError::Damaged { .. }), "{told}");
    assert!(told.to_string().contains("checksum"), "{told}");
    let view = orders.view().unwrap();
    assert!(matches!(view.list(OrdersOf::Buyer(AccountNo(7)), &HashSet::new()), Err(ColdError::Damaged { .. })));
    assert!(matches!(view.verify(|_| ()), Err(ColdError::Damaged { .. })));
    assert!(matches!(view.each(|_, _| ()), Err(ColdError::Damaged { .. })));
    // The store goes on, and what cannot be overwritten is not said to be there.
    let newer = [(id(1, 7), order(3, 4, 7, 3)), (id(2, 8), order(3, 4, 8, 3))];
    assert_eq!(orders.write(&newer, 0).unwrap(), HashSet::from([id(2, 8)]));
    assert_eq!(orders.get(id(2, 8)).unwrap().unwrap().seq, 3);
    assert!(orders.is_sound());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The disk fails at any operation, then the power is lost: every write that was told is there, one that was not
    /// told is whole or not there at all, and lists and counts are those of the rows.
    #[test]
    fn a_write_survives_a_loss_of_power_whole(
        changes in 1u64..150,
        seed: u64,
        batches in prop::collection::vec(prop::collection::vec((0u64..20, 1u32..5, 0u32..3), 1..8), 1..6),
    ) {
        let disk = Arc::new(TestDisk::default());
        disk.fail_after(changes);
        let mut told: BTreeMap<OrderId, u32> = BTreeMap::new();
        let mut asked: BTreeMap<OrderId, u32> = BTreeMap::new();
        if let Ok(orders) = open(&disk) {
            for batch in &batches {
                // An order's buyer and store never change.
                let rows: BTreeMap<_, _> = batch
                    .iter()
                    .map(|(number, seq, _)| {
                        let buyer = (*number % 3) as u32;
                        (id(*number, buyer), order(*seq, if *seq > 2 { 4 } else { 1 }, buyer, (*number % 2) as u32))
                    })
                    .collect();
                let rows: Vec<_> = rows.into_iter().collect();
                let outcome = orders.write(&rows, 0);
                for (id, order) in &rows {
                    let latest = |map: &mut BTreeMap<OrderId, u32>| {
                        let seq = map.entry(*id).or_default();
                        *seq = order.seq.max(*seq);
                    };
                    latest(&mut asked);
                    if outcome.is_ok() {
                        latest(&mut told);
                    }
                }
            }
        }
        prop_assert!(disk.changes_after_failure() == 0);
        let disk = disk.after_power_loss(seed);
        let orders = open(&disk).unwrap();
        let verified = orders.view().unwrap().verify(|_| ()).unwrap();
        prop_assert_eq!(verified.orders, orders.len());
        prop_assert!((told.len()..=asked.len()).contains(&(verified.orders as usize)));
        for (id, seq) in told {
            let found = orders.get(id).unwrap().unwrap().seq;
            prop_assert!((seq..=asked[&id]).contains(&found));
        }
        orders.write(&[(id(99, 1), order(2, 1, 1, 1))], 0).unwrap();
    }
}

/// An order with keys, each with the time of its event.
fn keyed(seq: u32, buyer: u32, keys: &[(&str, u64)]) -> Order {
    let kept = |(text, at): &(&str, u64)| Kept { key: Key::new(Operation::Payment, text, []), at: *at };
    Order { keys: keys.iter().map(kept).collect(), ..order(seq, 1, buyer, 3) }
}

#[test]
fn an_idempotency_key_leads_to_the_newest_order_that_keeps_it() {
    let disk = TestDisk::default();
    let orders = open(&disk).unwrap();
    let keeper = |orders: &Orders, buyer: u32, text: &str| {
        let scope = Key::new(Operation::Payment, text, []).scope();
        orders.view().unwrap().keeper(AccountNo(buyer), scope, 40).unwrap().map(|(id, kept)| (id, kept.at))
    };
    orders.write(&[(id(1, 7), order(2, 1, 7, 3))], 5).unwrap();
    assert_eq!(orders.newest_key(), None);
    assert_eq!(keeper(&orders, 7, "k"), None);
    orders
        .write(&[(id(2, 7), keyed(2, 7, &[("k", 10)])), (id(3, 7), keyed(2, 7, &[("k", 20), ("l", 20)]))], 9)
        .unwrap();
    assert_eq!(orders.newest_key(), Some(20));
    assert_eq!(keeper(&orders, 7, "k"), Some((id(3, 7), 20)));
    assert_eq!(keeper(&orders, 8, "k"), None);
    // The earlier order is written anew, with another key.
    orders.write(&[(id(2, 7), keyed(3, 7, &[("k", 10), ("m", 30)]))], 12).unwrap();
    assert_eq!(keeper(&orders, 7, "k"), Some((id(3, 7), 20)));
    assert_eq!(keeper(&orders, 7, "m"), Some((id(2, 7), 30)));
    assert_eq!(orders.verify(|_| {}).unwrap(), (3, vec![]));
    orders.close().unwrap();
    let orders = open(&disk).unwrap();
    assert_eq!(orders.newest_key(), Some(30));
    assert_eq!(keeper(&orders, 7, "k"), Some((id(3, 7), 20)));
    // Its time is over.
    let scope = Key::new(Operation::Payment, "k", []).scope();
    assert_eq!(orders.view().unwrap().keeper(AccountNo(7), scope, 20 + KEPT_FOR).unwrap(), None);
}
