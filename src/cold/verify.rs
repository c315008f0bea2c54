//! Every byte of both files, for the offline check.

use std::collections::{BTreeMap, HashSet};
use std::sync::PoisonError;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::awaited::{AWAITED, awaited_key};
use super::backend::Health;
use super::database::guarded;
use super::orders::{
    COUNTS, KEYS, ORDERS, OWNERS, Trouble, Verified, View, decode, index_key, keeper_key, owner_key, owners,
};
use super::store::DOCUMENTS;
use super::{ColdError, Documents, Orders};
use crate::domain::{DocumentHash, OrderId};

impl Documents {
    /// Shows every document that is sound, and names the others. Then verifies redb's own checksums, which cover the
    /// pages between them, too. Blocks on the disk.
    ///
    /// # Errors
    /// [`ColdError::Damaged`] if the file is damaged such that redb does not get through it; [`ColdError::Failed`],
    /// [`ColdError::Closed`].
    pub fn verify(&self, show: &mut dyn FnMut(DocumentHash, &[u8])) -> Result<Vec<String>, ColdError> {
        self.store.health.check()?;
        let mut database = self.store.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_mut().ok_or(ColdError::Closed)?;
        let mut damaged = Vec::new();
        let walked = guarded(|| {
            let table = database.begin_read()?.open_table(DOCUMENTS)?;
            for entry in table.iter()? {
                let (hash, document) = entry?;
                let (hash, document) = (DocumentHash(*hash.value()), document.value());
                if DocumentHash::of(document) == hash {
                    show(hash, document);
                } else {
                    damaged.push(format!("the document {hash} has other bytes"));
                }
            }
            Ok(())
        });
        walked.map_err(|fault| fault.report(&self.store.health))?;
        damaged.extend(check_integrity(database, &self.store.health)?);
        Ok(damaged)
    }
}

impl Orders {
    /// Checks every row, lists, counts and redb's own checksums. Returns how many rows there are, and what is damaged.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// As [`Documents::verify`].
    pub fn verify(&self, progress: impl FnMut(u64)) -> Result<(u64, Vec<String>), ColdError> {
        let mut damaged = Vec::new();
        let rows = match self.view()?.verify(progress) {
            Ok(verified) => verified.orders,
            Err(ColdError::Damaged { what }) => {
                damaged.push(what);
                self.len()
            }
            Err(error) => return Err(error),
        };
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_mut().ok_or(ColdError::Closed)?;
        damaged.extend(check_integrity(database, &self.health)?);
        Ok((rows, damaged))
    }
}

impl View {
    /// Checks every row, and that lists and counts are those of the rows. `progress` is told the rows so far.
    ///
    /// # Errors
    /// [`ColdError::Damaged`] names what is wrong first; [`ColdError::Failed`].
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verified, ColdError> {
        self.run(|transaction| {
            let index = transaction.open_table(OWNERS)?;
            let keepers = transaction.open_table(KEYS)?;
            let awaited = transaction.open_table(AWAITED)?;
            let mut awaiting = 0;
            let mut keepers_of_rows = HashSet::new();
            let mut verified = Verified::default();
            let mut counts: BTreeMap<[u8; 6], (u64, u64)> = BTreeMap::new();
            for entry in transaction.open_table(ORDERS)?.iter()? {
                let (key, value) = entry?;
                let id = OrderId::from_u128(u128::from_be_bytes(*key.value()));
                let order = decode(id, value.value())?;
                for owner in owners(id, &order) {
                    if index.get(&index_key(owner_key(owner), *key.value()))?.is_none() {
                        return Err(Trouble::Row(format!("order {id} is not in the list of {owner:?}")));
                    }
                    let count = counts.entry(owner_key(owner)).or_default();
                    count.0 += 1;
                    count.1 += u64::from(order.is_open());
                }
                for kept in &order.keys {
                    let scope = keeper_key(order.buyer, kept.key.scope());
                    match keepers.get(&scope)?.map(|keeper| keeper.value()) {
                        Some((keeper, _)) if keeper == id.as_u128() => keepers_of_rows.insert(scope),
                        Some((_, at)) if at >= kept.at => continue,
                        _ => return Err(Trouble::Row(format!("an idempotency key of order {id} is not listed"))),
                    };
                }
                if let Some(key) = awaited_key(id, &order) {
                    awaiting += 1;
                    if awaited.get(&key)?.is_none() {
                        return Err(Trouble::Row(format!("when order {id} is confirmed by itself is not listed")));
                    }
                }
                verified.orders += 1;
                verified.bytes += value.value().len() as u64;
                progress(verified.orders);
            }
            if index.len()? != 2 * verified.orders {
                let (listed, rows) = (index.len()?, verified.orders);
                return Err(Trouble::Row(format!("{listed} list entries for {rows} orders; two each are due")));
            }
            if keepers.len()? != keepers_of_rows.len() as u64 {
                let (listed, kept) = (keepers.len()?, keepers_of_rows.len());
                return Err(Trouble::Row(format!("{listed} idempotency keys are listed, orders keep {kept}")));
            }
            if awaited.len()? != awaiting {
                let listed = awaited.len()?;
                return Err(Trouble::Row(format!("{listed} orders are listed to be confirmed, {awaiting} are")));
            }
            for entry in transaction.open_table(COUNTS)?.iter()? {
                let (owner, counted) = entry?;
                if counts.remove(owner.value()) != Some(counted.value()) {
                    return Err(Trouble::Row(format!("the count of owner {:02x?} is wrong", owner.value())));
                }
            }
            match counts.pop_first() {
                None => Ok(verified),
                Some((owner, _)) => Err(Trouble::Row(format!("the count of owner {owner:02x?} is missing"))),
            }
        })
    }
}

/// redb's checksums, which cover the pages between the rows, too.
fn check_integrity(database: &mut Database, health: &Health) -> Result<Option<String>, ColdError> {
    let integral = guarded(|| Ok(database.check_integrity()?));
    let integral = integral.map_err(|fault| fault.report(health))?;
    Ok((!integral).then(|| "redb's checksums do not hold".to_owned()))
}
