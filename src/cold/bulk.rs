//! Many documents at once, for who has them all and has no runtime: the loader.

use std::sync::PoisonError;

use super::database::guarded;
use super::documents::DOCUMENT_BYTES_MAX;
use super::store::commit;
use super::{ColdError, Documents};
use crate::domain::DocumentHash;

impl Documents {
    /// Stores documents in one commit; they are durable when it returns. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Documents::put`]; if one is too large, none is stored.
    pub fn put_all(&self, documents: &[Vec<u8>]) -> Result<(), ColdError> {
        let too_large = documents.iter().map(Vec::len).find(|bytes| *bytes > DOCUMENT_BYTES_MAX);
        if let Some(bytes) = too_large {
            return Err(ColdError::TooLarge { bytes });
        }
        self.store.health.check()?;
        let named: Vec<(DocumentHash, &[u8])> =
            documents.iter().map(|document| (DocumentHash::of(document), &document[..])).collect();
        let database = self.store.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(ColdError::Closed)?;
        let committed = guarded(|| commit(database, &named));
        committed.map(|_| ()).map_err(|fault| fault.report(&self.store.health))
    }
}
