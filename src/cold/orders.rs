//! Orders that rest: those without a deadline and a saga in flight leave memory and lie here, each as its snapshot
//! row, until a command on them comes.
//!
//! This is the overflow of what would else be in memory, not a copy of the journal: what is in memory counts, and a
//! row here may be older than that. A row is never deleted, only overwritten by one of a higher sequence number.
//!
//! | table | key | value |
//! |---|---|---|
//! | `orders` | order id, 16 bytes, big endian | CRC-32 of what follows; the LSN that the row may rest on, u64, little endian; the row |
//! | `owners` | [`OrdersOf`] as 6 bytes, order id | nothing |
//! | `keys` | buyer's number (big endian), [`Scope`] of an idempotency key | the newest order that keeps it (16 bytes, big endian), since when |
//! | `counts` | [`OrdersOf`] | how many rows, how many of them of open orders |
//! | `awaited` | when the order is confirmed by itself (u64, big endian), order id | nothing |
//! | `state` | `format`; `written`; `upto` | the layout of this file, see `database`; rows written so far, overwritten ones included; the highest LSN that a row may rest on; `newest_key`: the time of the newest idempotency key |
//!
//! `state` tells whether this file belongs to the snapshot and the journal beside it: see `Orders::written` and
//! `Orders::upto`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::ColdError;
use super::awaited::{AWAITED, awaited_key};
use super::backend::Health;
use super::database::{self, Fault, STATE, begin_write, guarded};
use crate::disk::Disk;
use crate::domain::{AccountNo, Kept, Millis, Order, OrderId, OrdersOf, Scope, decode_row, encode_row, is_alive};

pub(super) const ORDERS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("orders");
pub(super) const OWNERS: TableDefinition<'static, &[u8; 22], ()> = TableDefinition::new("owners");
pub(super) const COUNTS: TableDefinition<'static, &[u8; 6], (u64, u64)> = TableDefinition::new("counts");
pub(super) const KEYS: TableDefinition<'static, &[u8; 20], (u128, u64)> = TableDefinition::new("keys");

pub(super) const WRITTEN: &str = "written";
pub(super) const UPTO: &str = "upto";
const NEWEST_KEY: &str = "newest_key";

/// The key of a list: kind, number, shard.
pub(super) fn owner_key(of: OrdersOf) -> [u8; 6] {
    let (kind, number, shard) = match of {
        OrdersOf::Buyer(buyer) => (b'b', buyer.0, 0),
        OrdersOf::Store(store, shard) => (b's', store.0, shard as u8),
    };
    let mut key = [kind, 0, 0, 0, 0, shard];
    key[1..5].copy_from_slice(&number.to_be_bytes());
    key
}

/// The two lists that an order is in.
pub(super) fn owners(id: OrderId, order: &Order) -> [OrdersOf; 2] {
    [OrdersOf::Buyer(order.buyer), OrdersOf::Store(order.store, id.shard())]
}

pub(super) fn index_key(owner: [u8; 6], id: [u8; 16]) -> [u8; 22] {
    let mut key = [0; 22];
    key[..6].copy_from_slice(&owner);
    key[6..].copy_from_slice(&id);
    key
}

pub(super) fn keeper_key(buyer: AccountNo, scope: Scope) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&buyer.0.to_be_bytes());
    key[4..].copy_from_slice(&scope.0);
    key
}

pub(super) fn order_key(id: OrderId) -> [u8; 16] {
    id.as_u128().to_be_bytes()
}

/// How many orders somebody has here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// In any state.
    pub orders: u64,
    /// Neither completed nor canceled.
    pub open: u64,
}

/// What a check of the whole file found sound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Rows.
    pub orders: u64,
    /// Their bytes, with checksums.
    pub bytes: u64,
}

/// Orders at rest, in one redb file. All calls block on the disk, but `is_empty` and `len`.
#[derive(Debug)]
pub struct Orders {
    pub(super) health: Arc<Health>,
    /// Taken out on close. A lock for reading is held over each write, so that closing waits for it.
    pub(super) database: RwLock<Option<Database>>,
    len: AtomicU64,
    written: AtomicU64,
    upto: AtomicU64,
    keys: AtomicU64,
    repaired: bool,
}

/// All of it as it was at one moment, whatever is written meanwhile.
pub struct View {
    transaction: ReadTransaction,
    health: Arc<Health>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("health", &self.health).finish_non_exhaustive()
    }
}

/// What redb or a row ended in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Redb(#[from] redb::Error),
    #[error("{0}")]
    Row(String),
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for Trouble {
            fn from(error: $error) -> Self {
                Trouble::Redb(error.into())
            }
        })*
    };
}

from_redb!(redb::TableError, redb::StorageError, redb::TransactionError, redb::CommitError);

impl Orders {
    /// Opens the store at `path`, or makes an empty one if the file does not exist; its directory must. `cache_bytes`
    /// bounds redb's page cache. Blocks on the disk.
    ///
    /// # Errors
    /// [`ColdError::Open`], also when the file is damaged; [`ColdError::OtherVersion`].
    pub fn open(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> Result<Self, ColdError> {
        let health = Arc::new(Health::default());
        let (database, repaired) = database::open(disk, path, cache_bytes, &health, make_tables, |transaction| {
            transaction.open_table(OWNERS)?;
            transaction.open_table(COUNTS)?;
            transaction.open_table(KEYS)?;
            transaction.open_table(AWAITED)?;
            transaction.open_table(ORDERS)?;
            Ok(())
        })?;
        let database = RwLock::new(Some(database));
        let orders =
            Orders { health, database, len: 0.into(), written: 0.into(), upto: 0.into(), keys: 0.into(), repaired };
        let view = orders.view()?;
        orders.len.store(view.len()?, Ordering::Release);
        orders.written.store(view.state(WRITTEN)?, Ordering::Release);
        orders.upto.store(view.state(UPTO)?, Ordering::Release);
        orders.keys.store(view.state(NEWEST_KEY)?, Ordering::Release);
        Ok(orders)
    }

    /// Whether the open had to walk the whole file to repair it; see `Documents::repaired`.
    pub fn repaired(&self) -> bool {
        self.repaired
    }

    /// Whether it is in service: damage of single rows does not put it out of it.
    pub fn is_sound(&self) -> bool {
        self.health.check().is_ok()
    }

    /// Whether there is no row. Does not touch the disk.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows. Does not touch the disk.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Rows that were ever written, overwritten ones included: it only grows. A file with fewer than somebody once saw
    /// here is an older one, or another. Does not touch the disk.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// No row rests on an event past this LSN. A state that ends before it is older than this file. Does not touch the
    /// disk.
    pub fn upto(&self) -> u64 {
        self.upto.load(Ordering::Acquire)
    }

    /// The time of the newest idempotency key that an order here keeps. Does not touch the disk.
    pub fn newest_key(&self) -> Option<Millis> {
        Some(self.keys.load(Ordering::Acquire)).filter(|at| *at > 0)
    }

    /// Writes rows in one transaction; they are durable when it returns. A row that is there already with this or a
    /// higher sequence number stays. The caller has made sure that the journal is synced to `upto`, and that no row
    /// rests on an event past it.
    ///
    /// Returns the orders whose row is here now: all, but those whose stored row is damaged. Such a row is told and
    /// left alone.
    ///
    /// # Errors
    /// [`ColdError::Failed`], [`ColdError::Closed`]; [`ColdError::Damaged`] if the file is damaged beyond single rows.
    pub fn write(&self, orders: &[(OrderId, Order)], upto: u64) -> Result<HashSet<OrderId>, ColdError> {
        self.health.check()?;
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(ColdError::Closed)?;
        let Written { added, written, keys, here } = self.run(|| write(database, orders, upto))?;
        self.keys.fetch_max(keys, Ordering::AcqRel);
        self.len.fetch_add(added, Ordering::AcqRel);
        self.written.fetch_add(written, Ordering::AcqRel);
        if written > 0 {
            self.upto.fetch_max(upto, Ordering::AcqRel);
        }
        Ok(here)
    }

    /// The order's row, or none if it was never written.
    ///
    /// # Errors
    /// [`ColdError::Damaged`] if the row is; [`ColdError::Failed`], [`ColdError::Closed`].
    pub fn get(&self, id: OrderId) -> Result<Option<Order>, ColdError> {
        if self.is_empty() {
            return Ok(None);
        }
        self.view()?.get(id)
    }

    /// All of it as it is now. Cheap, and does not wait for a write.
    ///
    /// # Errors
    /// [`ColdError::Failed`], [`ColdError::Closed`].
    pub fn view(&self) -> Result<View, ColdError> {
        self.health.check()?;
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(ColdError::Closed)?;
        let transaction = self.run(|| Ok(database.begin_read()?))?;
        Ok(View { transaction, health: Arc::clone(&self.health) })
    }

    pub(super) fn run<T>(&self, work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, ColdError> {
        run(&self.health, work)
    }

    /// Closes the file; waits for a write that runs. Every later call ends in [`ColdError::Closed`], but a second
    /// close, which does nothing.
    ///
    /// # Errors
    /// [`ColdError::Failed`] when the store was out of service or the closing failed. What was written is durable
    /// all the same.
    pub fn close(&self) -> Result<(), ColdError> {
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(database) = database else {
            return Ok(());
        };
        let closed = guarded(|| Ok(database.close()?));
        self.health.check()?;
        closed.map_err(|fault| fault.report(&self.health))
    }
}

/// The tables of a new file.
pub(super) fn make_tables(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(ORDERS)?;
    transaction.open_table(OWNERS)?;
    transaction.open_table(COUNTS)?;
    transaction.open_table(KEYS)?;
    transaction.open_table(AWAITED)?;
    Ok(())
}

/// Runs work on redb; damage of a row alone leaves the store in service.
pub(super) fn run<T>(health: &Health, work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, ColdError> {
    health.check()?;
    let outcome = guarded(|| match work() {
        Ok(value) => Ok(Ok(value)),
        Err(Trouble::Row(what)) => Ok(Err(what)),
        Err(Trouble::Redb(error)) => Err(error),
    });
    match outcome.map_err(|fault: Fault| fault.report(health))? {
        Ok(value) => Ok(value),
        Err(what) => Err(ColdError::Damaged { what }),
    }
}

/// What a transaction did.
struct Written {
    /// Rows that are new.
    added: u64,
    /// They and those that were overwritten.
    written: u64,
    /// The time of the newest idempotency key among them.
    keys: Millis,
    /// Whose row is there now.
    here: HashSet<OrderId>,
}

fn write(database: &Database, orders: &[(OrderId, Order)], upto: u64) -> Result<Written, Trouble> {
    // In the order of the keys, so that neighbours go to one page.
    let mut sorted: Vec<_> = orders.iter().map(|(id, order)| (order_key(*id), *id, order)).collect();
    sorted.sort_unstable_by_key(|(key, ..)| *key);
    let mut index = Vec::new();
    let mut changes: BTreeMap<[u8; 6], (i64, i64)> = BTreeMap::new();
    let mut here = HashSet::with_capacity(orders.len());
    let mut added = 0;
    let mut written = 0;
    let mut keys = 0;
    let transaction = begin_write(database)?;
    {
        let mut table = transaction.open_table(ORDERS)?;
        let mut keepers = transaction.open_table(KEYS)?;
        let mut awaited = transaction.open_table(AWAITED)?;
        for (key, id, order) in sorted {
            let stored = match table.get(&key)?.map(|stored| decode(id, stored.value())) {
                Some(Ok(stored)) => Some(stored),
                Some(Err(trouble)) => {
                    tracing::error!(%trouble, "an order at rest cannot be overwritten");
                    continue;
                }
                None => None,
            };
            here.insert(id);
            if stored.as_ref().is_some_and(|stored| stored.seq >= order.seq) {
                continue;
            }
            let row = encode(id, order, upto);
            table.insert(&key, row.as_slice())?;
            if let Some(before) = stored.as_ref().and_then(|stored| awaited_key(id, stored)) {
                awaited.remove(&before)?;
            }
            if let Some(now) = awaited_key(id, order) {
                awaited.insert(&now, ())?;
            }
            for kept in &order.keys {
                keys = keys.max(kept.at);
                let scope = keeper_key(order.buyer, kept.key.scope());
                // One that was used again after its time is the later order's.
                let known = keepers.get(&scope)?.map(|keeper| keeper.value().1);
                if known.is_none_or(|at| at <= kept.at) {
                    keepers.insert(&scope, (id.as_u128(), kept.at))?;
                }
            }
            written += 1;
            added += u64::from(stored.is_none());
            let open = i64::from(order.is_open()) - stored.as_ref().map_or(0, |stored| i64::from(stored.is_open()));
            for owner in owners(id, order) {
                let owner = owner_key(owner);
                let change = changes.entry(owner).or_default();
                change.0 += i64::from(stored.is_none());
                change.1 += open;
                if stored.is_none() {
                    index.push(index_key(owner, key));
                }
            }
        }
        index.sort_unstable();
        let mut table = transaction.open_table(OWNERS)?;
        for key in &index {
            table.insert(key, ())?;
        }
        let mut table = transaction.open_table(COUNTS)?;
        for (owner, (rows, open)) in changes {
            let (known_rows, known_open) = table.get(&owner)?.map_or((0, 0), |counts| counts.value());
            let counts = (known_rows.saturating_add_signed(rows), known_open.saturating_add_signed(open));
            table.insert(&owner, counts)?;
        }
        let mut table = transaction.open_table(STATE)?;
        let known = |value: Option<redb::AccessGuard<'_, u64>>| value.map_or(0, |value| value.value());
        let (known_written, known_upto) = (known(table.get(WRITTEN)?), known(table.get(UPTO)?));
        table.insert(WRITTEN, known_written + written)?;
        table.insert(UPTO, known_upto.max(upto))?;
        let newest_key = known(table.get(NEWEST_KEY)?).max(keys);
        table.insert(NEWEST_KEY, newest_key)?;
    }
    match written {
        0 => transaction.abort()?,
        _ => transaction.commit()?,
    }
    Ok(Written { added, written, keys, here })
}

/// Bytes in front of a row.
pub(super) const VALUE_HEADER_BYTES: usize = 12;

/// The checksum is ours: redb does not check its pages when it reads them. `upto` is for an offline repair, which has to
/// tell the rows that are ahead of a journal that was cut.
pub(super) fn encode(id: OrderId, order: &Order, upto: u64) -> Vec<u8> {
    let row = encode_row(&(id, order));
    let mut value = Vec::with_capacity(VALUE_HEADER_BYTES + row.len());
    value.extend_from_slice(&[0; 4]);
    value.extend_from_slice(&upto.to_le_bytes());
    value.extend_from_slice(&row);
    let checksum = crc32fast::hash(&value[4..]);
    value[..4].copy_from_slice(&checksum.to_le_bytes());
    value
}

pub(super) fn decode(id: OrderId, value: &[u8]) -> Result<Order, Trouble> {
    let damaged = |why: &str| Trouble::Row(format!("the row of order {id}: {why}"));
    let (header, row) = value.split_first_chunk::<VALUE_HEADER_BYTES>().ok_or_else(|| damaged("too short"))?;
    if header[..4] != crc32fast::hash(&value[4..]).to_le_bytes() {
        return Err(damaged("its checksum is wrong"));
    }
    let (named, order): (OrderId, Order) = decode_row(row).map_err(|error| damaged(&error.to_string()))?;
    if named != id {
        return Err(damaged(&format!("it is that of order {named}")));
    }
    Ok(order)
}

impl View {
    /// The order's row, or none.
    ///
    /// # Errors
    /// As [`Orders::get`].
    pub fn get(&self, id: OrderId) -> Result<Option<Order>, ColdError> {
        self.run(|transaction| {
            let table = transaction.open_table(ORDERS)?;
            match table.get(&order_key(id))? {
                Some(value) => decode(id, value.value()).map(Some),
                None => Ok(None),
            }
        })
    }

    /// The newest order that keeps this idempotency key of the buyer at `now`, or none.
    ///
    /// # Errors
    /// As [`Orders::get`]; [`ColdError::Damaged`] also if that order does not keep it.
    pub fn keeper(&self, buyer: AccountNo, scope: Scope, now: Millis) -> Result<Option<(OrderId, Kept)>, ColdError> {
        self.run(|transaction| {
            let keeper = transaction.open_table(KEYS)?.get(&keeper_key(buyer, scope))?.map(|keeper| keeper.value());
            let Some(id) = keeper.filter(|(_, at)| is_alive(*at, now)).map(|(id, _)| OrderId::from_u128(id)) else {
                return Ok(None);
            };
            let row = transaction.open_table(ORDERS)?;
            let row = row.get(&order_key(id))?.ok_or_else(|| missing(id))?;
            let kept = decode(id, row.value())?.kept(scope).copied();
            kept.map(|kept| Some((id, kept))).ok_or_else(|| Trouble::Row(format!("order {id} lost an idempotency key")))
        })
    }

    /// Rows.
    ///
    /// # Errors
    /// As [`Orders::get`].
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> Result<u64, ColdError> {
        self.run(|transaction| Ok(transaction.open_table(ORDERS)?.len()?))
    }

    fn state(&self, key: &str) -> Result<u64, ColdError> {
        self.run(|transaction| Ok(transaction.open_table(STATE)?.get(key)?.map_or(0, |value| value.value())))
    }

    /// How many orders somebody has here, without those of `but`, which are counted elsewhere.
    ///
    /// # Errors
    /// As [`Orders::get`].
    pub fn count(&self, of: OrdersOf, but: &[OrderId]) -> Result<Counts, ColdError> {
        self.run(|transaction| {
            let counted = transaction.open_table(COUNTS)?.get(&owner_key(of))?.map(|counts| counts.value());
            let Some((orders, open)) = counted else {
                return Ok(Counts::default());
            };
            let mut counts = Counts { orders, open };
            let table = transaction.open_table(ORDERS)?;
            for id in but {
                if let Some(value) = table.get(&order_key(*id))? {
                    let order = decode(*id, value.value())?;
                    counts.orders = counts.orders.saturating_sub(1);
                    counts.open = counts.open.saturating_sub(u64::from(order.is_open()));
                }
            }
            Ok(counts)
        })
    }

    /// Somebody's orders in the order of their ids, without those of `but`.
    ///
    /// # Errors
    /// As [`Orders::get`]; [`ColdError::Damaged`] also if a listed order has no row.
    pub fn list(&self, of: OrdersOf, but: &HashSet<OrderId>) -> Result<Vec<(OrderId, Order)>, ColdError> {
        self.run(|transaction| {
            let index = transaction.open_table(OWNERS)?;
            let table = transaction.open_table(ORDERS)?;
            let mut found = Vec::new();
            let (first, last) = (index_key(owner_key(of), [0; 16]), index_key(owner_key(of), [0xff; 16]));
            for entry in index.range::<&[u8; 22]>(&first..=&last)? {
                let id = listed_order(entry?.0.value());
                if !but.contains(&id) {
                    let value = table.get(&order_key(id))?.ok_or_else(|| missing(id))?;
                    found.push((id, decode(id, value.value())?));
                }
            }
            Ok(found)
        })
    }

    /// Shows every order, in the order of their ids.
    ///
    /// # Errors
    /// As [`Orders::get`].
    pub fn each(&self, mut visit: impl FnMut(OrderId, Order)) -> Result<(), ColdError> {
        self.run(|transaction| {
            for entry in transaction.open_table(ORDERS)?.iter()? {
                let (key, value) = entry?;
                let id = OrderId::from_u128(u128::from_be_bytes(*key.value()));
                visit(id, decode(id, value.value())?);
            }
            Ok(())
        })
    }

    pub(super) fn run<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, Trouble>) -> Result<T, ColdError> {
        run(&self.health, || work(&self.transaction))
    }
}

fn listed_order(key: &[u8; 22]) -> OrderId {
    let mut id = [0; 16];
    id.copy_from_slice(&key[6..]);
    OrderId::from_u128(u128::from_be_bytes(id))
}

fn missing(id: OrderId) -> Trouble {
    Trouble::Row(format!("order {id} is listed and has no row"))
}
