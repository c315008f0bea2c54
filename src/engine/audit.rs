//! All money and all copies, counted while nothing moves.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{AuditReport, Core, Engine, Error, Result};
use crate::cold::ColdError;
use crate::domain::{Account, CodecError, Order, OrderId, OrderStatus, Persistent, SHARDS, Store, StoreNo, encode_row};

/// How long to wait before looking again whether everything is quiet.
const POLL: Duration = Duration::from_millis(1);

/// Lets commands in again when the audit ends, also by a dropped future.
struct Hold<'a>(&'a Core);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.system.resume_deadlines();
        self.0.system.answers.resume();
    }
}

impl Engine {
    /// Holds new commands at the door, waits until those in flight are done, and counts everything. Commands wait
    /// meanwhile; a million accounts take a few seconds. One audit runs at a time, and none beside a snapshot.
    ///
    /// # Errors
    /// [`Error::Draining`] if the engine is closing or closed; [`Error::OutcomeUnknown`] if it fails, or is closed in
    /// the middle of it; [`Error::Overloaded`] if an order on disk is damaged.
    ///
    /// # Cancellation
    /// Nothing is changed. Dropping the future lets commands in again at once.
    pub async fn audit(&self) -> Result<AuditReport> {
        // One at a time, and no snapshot meanwhile.
        let _alone = self.core.snapshots.newest.lock().await;
        // Nor does an order go from memory to disk, where it would be counted twice or not at all.
        let _no_overflow = self.core.overflow.alone.lock().await;
        if self.core.system.answers.is_draining() {
            return Err(Error::Draining);
        }
        let hold = Hold(&self.core);
        self.core.system.answers.hold();
        self.core.system.pause_deadlines();
        self.core.quiesce().await?;
        let report = self.core.count().await.map(Tally::report);
        drop(hold);
        report
    }
}

impl Core {
    /// Waits until no command and no saga is in flight and all evidence is dropped. New commands must be held
    /// and deadlines paused.
    pub(super) async fn quiesce(self: &Arc<Self>) -> Result<()> {
        loop {
            if self.system.answers.is_failed() {
                return Err(self.unknown());
            }
            if self.system.answers.in_flight() == 0 && self.shards_are_quiet().await? {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        self.system.flush_evidence();
        // The shards' messages to others are in their mailboxes once they have answered again.
        self.shards_are_quiet().await.map(|_| ())
    }

    async fn shards_are_quiet(&self) -> Result<bool> {
        let mut quiet = true;
        for shard in 0..SHARDS {
            let look = self.system.look_at_shard(shard, |_, work| work.is_quiet()).await;
            quiet &= look.ok_or_else(|| self.unknown())?;
        }
        Ok(quiet)
    }

    async fn count(&self) -> Result<Tally> {
        let mut report = Tally::new();
        let broken = |error: CodecError| {
            self.system.fail(format!("a row does not decode: {error}"));
            self.unknown()
        };
        for number in 1..self.system.accounts.end() {
            if let Some(row) = self.system.accounts.row(number).await.map_err(|_| self.unknown())? {
                report.add_account(self.system.accounts.name(number).map(|name| &**name), &row).map_err(broken)?;
            }
        }
        for number in 1..self.system.stores.end() {
            if let Some(row) = self.system.stores.row(number).await.map_err(|_| self.unknown())? {
                report.add_store(self.system.stores.name(number).map(|name| &**name), &row).map_err(broken)?;
            }
        }
        let mut in_memory = HashSet::new();
        for shard in 0..SHARDS {
            let mut part = report.clone();
            let count = move |shard: &crate::domain::OrderShard, _: &_| {
                for (id, order) in &shard.orders {
                    part.add_order(*id, order);
                }
                (part, shard.orders.keys().copied().collect::<Vec<_>>())
            };
            let (part, ids) = self.system.look_at_shard(shard, count).await.ok_or_else(|| self.unknown())?;
            report = part;
            in_memory.extend(ids);
        }
        let resting = self.system.resting.clone();
        let add_resting = move || {
            resting.view()?.each(|id, order| {
                // What is in memory is as new or newer.
                if !in_memory.contains(&id) {
                    report.add_order(id, &order);
                }
            })?;
            Ok(report)
        };
        let added = tokio::task::spawn_blocking(add_resting).await.map_err(|_| self.unknown())?;
        added.map_err(|error: ColdError| self.unreadable(&error))
    }
}

/// Counts rows as they come, in any order: for audits, and for who compares states.
#[derive(Debug, Clone)]
pub struct Tally {
    report: AuditReport,
    /// Orders that are open, by store.
    open: HashMap<StoreNo, u64>,
    closed: HashSet<StoreNo>,
    /// Stores that their owners' accounts know to be closed.
    known_closed: HashSet<StoreNo>,
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Tally {
    /// Of an empty shop.
    pub fn new() -> Self {
        let report = AuditReport {
            accounts: 0,
            stores: 0,
            closed_stores: 0,
            orders: 0,
            balances: 0,
            escrow: 0,
            net_put_in: 0,
            stock: 0,
            ordered: 0,
            stock_put_in: 0,
            contradictions: 0,
            state_hash: 0,
        };
        Tally { report, open: HashMap::new(), closed: HashSet::new(), known_closed: HashSet::new() }
    }

    /// What was counted.
    pub fn report(mut self) -> AuditReport {
        self.report.closed_stores = self.closed.len() as u64;
        let open = self.closed.iter().filter_map(|store| self.open.get(store)).sum::<u64>();
        self.report.contradictions += open + self.closed.symmetric_difference(&self.known_closed).count() as u64;
        self.report
    }

    /// Counts an account.
    ///
    /// # Errors
    /// [`CodecError`] if the row is none.
    pub fn add_account(&mut self, name: Option<&str>, row: &[u8]) -> std::result::Result<(), CodecError> {
        let account = Account::decode(row)?;
        self.report.accounts += u64::from(!account.closed);
        self.report.balances += i128::from(account.balance);
        self.report.net_put_in += i128::from(account.net_put_in);
        self.known_closed.extend(&account.closed_stores);
        self.add_to_hash(b'a', name, row);
        Ok(())
    }

    /// Counts a store.
    ///
    /// # Errors
    /// [`CodecError`] if the row is none.
    pub fn add_store(&mut self, name: Option<&str>, row: &[u8]) -> std::result::Result<(), CodecError> {
        let store = Store::decode(row)?;
        self.report.stores += 1;
        if store.closed {
            self.closed.insert(store.number);
            // None is left when nothing moves.
            self.report.contradictions += store.reservations.len() as u64 + u64::from(store.closure);
        }
        for book in &store.books {
            self.report.stock += i128::from(book.stock);
            self.report.stock_put_in += i128::from(book.stock) + i128::from(book.taken);
        }
        self.add_to_hash(b's', name, row);
        Ok(())
    }

    /// Counts an order.
    pub fn add_order(&mut self, id: OrderId, order: &Order) {
        self.report.orders += 1;
        self.report.escrow += i128::from(order.escrow());
        if order.is_open() {
            *self.open.entry(order.store).or_default() += 1;
        }
        if order.status != OrderStatus::Canceled {
            self.report.ordered += order.lines.iter().map(|line| i128::from(line.count)).sum::<i128>();
        }
        self.add_to_hash(b'o', None, &encode_row(&(id, order)));
    }

    /// A sum, so the order of the rows does not matter.
    fn add_to_hash(&mut self, kind: u8, name: Option<&str>, row: &[u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]);
        let name = name.map_or("", |name| name);
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(row);
        let hash = hasher.finalize();
        let half = std::array::from_fn(|index| hash.as_bytes()[index]);
        self.report.state_hash = self.report.state_hash.wrapping_add(u128::from_le_bytes(half));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Account, AccountEvent, AccountNo, Entity, Evidence, Facts, Fen, OrderId, StoreEvent, encode_row,
    };

    const NO_MONEY: Fen = 0;

    fn order() -> (OrderId, Order) {
        let (buyer, seller, store) = (AccountNo(2), AccountNo(1), StoreNo(1));
        let (lines, created, deadline) = (Box::default(), 1, 9);
        let facts = Facts { buyer, seller, store, lines, total: NO_MONEY, created, deadline, key: None };
        (OrderId::new(1 << 20, buyer, 1), Order::placed(&facts, 1))
    }

    /// The seller's account and his store, closed or not.
    fn rows(account_knows: bool, closed: bool) -> (Account, Store) {
        let (mut account, mut store) = (Account::new(AccountNo(1)), Store::new(StoreNo(1)));
        account.apply(&AccountEvent::StoreOpened { store: StoreNo(1), store_id: "s".into() }, 0);
        account.forget(&[Evidence::Opening(StoreNo(1))]);
        store.apply(&StoreEvent::Created { store_id: "s".into(), owner: AccountNo(1) }, 0);
        if closed {
            store.apply(&StoreEvent::Closed, 0);
            store.forget(&[Evidence::Closure(StoreNo(1))]);
        }
        if account_knows {
            account.apply(&AccountEvent::StoreClosed { store: StoreNo(1) }, 0);
        }
        (account, store)
    }

    #[test]
    fn what_contradicts_a_closed_store_is_counted() {
        for (account_knows, closed, has_order, expected) in [
            (false, false, true, 0),
            (true, true, false, 0),
            (true, true, true, 1),
            (false, true, false, 1),
            (true, false, true, 1),
            (false, true, true, 2),
        ] {
            let (account, store) = rows(account_knows, closed);
            let mut tally = Tally::new();
            tally.add_account(None, &account.encode()).unwrap();
            if has_order {
                let (id, order) = order();
                tally.add_order(id, &order);
            }
            tally.add_store(None, &encode_row(&store)).unwrap();
            let report = tally.report();
            assert_eq!(report.contradictions, expected, "{account_knows} {closed} {has_order}");
            assert_eq!((report.stores, report.closed_stores), (1, u64::from(closed)));
        }
        // What is left of a closing is none of it, but not there when nothing moves.
        let (account, mut store) = rows(true, false);
        store.apply(&StoreEvent::Closed, 0);
        let mut tally = Tally::new();
        tally.add_account(None, &account.encode()).unwrap();
        tally.add_store(None, &encode_row(&store)).unwrap();
        assert_eq!(tally.report().contradictions, 1);
    }
}
