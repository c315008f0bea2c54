//! Every byte of the documents' file, for the offline check.

use std::sync::PoisonError;

use redb::{ReadableDatabase, ReadableTable};

use super::database::guarded;
use super::documents::DOCUMENTS;
use super::{ColdError, Documents};
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
        let integral = guarded(|| Ok(database.check_integrity()?));
        match integral.map_err(|fault| fault.report(&self.store.health))? {
            true => {}
            false => damaged.push("redb's checksums do not hold".to_owned()),
        }
        Ok(damaged)
    }
}
