//! Every byte of both files, for the offline check.

use std::sync::PoisonError;

use redb::{Database, ReadableDatabase, ReadableTable};

use super::backend::Health;
use super::database::guarded;
use super::store::DOCUMENTS;
use super::{ColdError, Documents, Orders};
use crate::domain::DocumentHash;

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

/// redb's checksums, which cover the pages between the rows, too.
fn check_integrity(database: &mut Database, health: &Health) -> Result<Option<String>, ColdError> {
    let integral = guarded(|| Ok(database.check_integrity()?));
    let integral = integral.map_err(|fault| fault.report(health))?;
    Ok((!integral).then(|| "redb's checksums do not hold".to_owned()))
}
