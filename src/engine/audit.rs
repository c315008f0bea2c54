//! All money and all copies, counted while nothing moves.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{AuditReport, Core, Engine, Error, Result};
use crate::cold::ColdError;
use crate::domain::{Account, CodecError, Order, OrderId, OrderStatus, Persistent, SHARDS, Store, encode_row};

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
                report.add_account(self.system.accounts.name(number), &row).map_err(broken)?;
            }
        }
        for number in 1..self.system.stores.end() {
            if let Some(row) = self.system.stores.row(number).await.map_err(|_| self.unknown())? {
                report.add_store(self.system.stores.name(number), &row).map_err(broken)?;
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
        added.map_err(|error: ColdError| {
            self.system.resting_failed(&error);
            Error::Overloaded("an order on disk cannot be read")
        })
    }
}

/// Counts rows as they come, in any order: for audits, and for who compares states.
#[derive(Debug, Clone)]
pub struct Tally(AuditReport);

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Tally {
    /// Of an empty shop.
    pub fn new() -> Self {
        Tally(AuditReport {
            accounts: 0,
            stores: 0,
            orders: 0,
            balances: 0,
            escrow: 0,
            net_put_in: 0,
            stock: 0,
            ordered: 0,
            stock_put_in: 0,
            state_hash: 0,
        })
    }

    /// What was counted.
    pub fn report(self) -> AuditReport {
        self.0
    }

    /// Counts an account.
    ///
    /// # Errors
    /// [`CodecError`] if the row is none.
    pub fn add_account(&mut self, name: Option<&Arc<str>>, row: &[u8]) -> std::result::Result<(), CodecError> {
        let account = Account::decode(row)?;
        self.0.accounts += u64::from(!account.closed);
        self.0.balances += i128::from(account.balance);
        self.0.net_put_in += i128::from(account.net_put_in);
        self.add_to_hash(b'a', name, row);
        Ok(())
    }

    /// Counts a store.
    ///
    /// # Errors
    /// [`CodecError`] if the row is none.
    pub fn add_store(&mut self, name: Option<&Arc<str>>, row: &[u8]) -> std::result::Result<(), CodecError> {
        let store = Store::decode(row)?;
        self.0.stores += 1;
        for book in &store.books {
            self.0.stock += i128::from(book.stock);
            self.0.stock_put_in += i128::from(book.stock) + i128::from(book.taken);
        }
        self.add_to_hash(b's', name, row);
        Ok(())
    }

    /// Counts an order.
    pub fn add_order(&mut self, id: OrderId, order: &Order) {
        self.0.orders += 1;
        self.0.escrow += i128::from(order.escrow());
        if order.status != OrderStatus::Canceled {
            self.0.ordered += order.lines.iter().map(|line| i128::from(line.count)).sum::<i128>();
        }
        self.add_to_hash(b'o', None, &encode_row(&(id, order)));
    }

    /// A sum, so the order of the rows does not matter.
    fn add_to_hash(&mut self, kind: u8, name: Option<&Arc<str>>, row: &[u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]);
        let name = name.map_or("", |name| name);
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(row);
        let hash = hasher.finalize();
        let half = std::array::from_fn(|index| hash.as_bytes()[index]);
        self.0.state_hash = self.0.state_hash.wrapping_add(u128::from_le_bytes(half));
    }
}
