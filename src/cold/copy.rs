//! Either file as it was at one moment, written to another file while the first one goes on changing: for a backup. Entry
//! by entry, since the pages of a file that is written to are of many moments; so the copy holds no room that is free.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, Value,
};

use super::awaited::AWAITED;
use super::backend::Health;
use super::database::{self, STATE, begin_write};
use super::orders::{self, COUNTS, KEYS, ORDERS, OWNERS, Trouble, UPTO, VALUE_HEADER_BYTES, WRITTEN};
use super::store::DOCUMENTS;
use super::{ColdError, Documents, Orders};
use crate::disk::Disk;
use crate::domain::{DocumentHash, OrderId};

/// Bytes that share a commit, and entries: a commit is synced, and what waits for it is in memory.
const BYTES_AT_ONCE: usize = 8 << 20;
const ENTRIES_AT_ONCE: usize = 1 << 15;

/// redb's cache of the copy.
const CACHE_BYTES: usize = 32 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum File {
    Orders,
    Documents,
}

/// One of the files as it was when this was made. While it is there, room that becomes free in the file is not used again.
pub struct Still {
    transaction: ReadTransaction,
    file: File,
}

impl std::fmt::Debug for Still {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Still").field("file", &self.file).finish_non_exhaustive()
    }
}

/// What a copy came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Whether it is whole: nobody told it to stop.
    pub whole: bool,
    /// Rows or documents that are damaged in the file, and so in the copy.
    pub damaged: Vec<String>,
}

/// Told of the entries that are copied; false to stop.
type GoOn<'a> = dyn FnMut(u64) -> bool + 'a;

impl Orders {
    /// All of it as it is now, to be copied.
    ///
    /// # Errors
    /// [`ColdError::Failed`], [`ColdError::Closed`].
    pub fn still(&self) -> Result<Still, ColdError> {
        self.health.check()?;
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(ColdError::Closed)?;
        let transaction = self.run(|| Ok(database.begin_read()?))?;
        Ok(Still { transaction, file: File::Orders })
    }
}

impl Documents {
    /// All of it as it is now, to be copied.
    ///
    /// # Errors
    /// [`ColdError::Failed`], [`ColdError::Closed`].
    pub fn still(&self) -> Result<Still, ColdError> {
        self.store.health.check()?;
        let database = self.store.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(ColdError::Closed)?;
        let transaction = orders::run(&self.store.health, || Ok(database.begin_read()?))?;
        Ok(Still { transaction, file: File::Documents })
    }
}

impl Still {
    /// Entries that a copy writes: documents, or orders and what is listed of them.
    ///
    /// # Errors
    /// As [`Still::copy_to`].
    pub fn entries(&self) -> Result<u64, ColdError> {
        self.run(|transaction| match self.file {
            File::Orders => Ok(transaction.open_table(ORDERS)?.len()?
                + transaction.open_table(OWNERS)?.len()?
                + transaction.open_table(COUNTS)?.len()?
                + transaction.open_table(KEYS)?.len()?
                + transaction.open_table(AWAITED)?.len()?),
            File::Documents => Ok(transaction.open_table(DOCUMENTS)?.len()?),
        })
    }

    /// Of orders: how many rows were ever written, and the LSN up to which they go.
    ///
    /// # Errors
    /// As [`Still::copy_to`].
    pub fn marks(&self) -> Result<(u64, u64), ColdError> {
        self.run(|transaction| {
            let state = transaction.open_table(STATE)?;
            let number = |key: &str| Ok::<_, Trouble>(state.get(key)?.map_or(0, |value| value.value()));
            Ok((number(WRITTEN)?, number(UPTO)?))
        })
    }

    /// Writes it to a new file, durably. `go_on` is told how many entries are done after each commit. What is damaged is
    /// copied as it is, and told. Blocks on the disk.
    ///
    /// # Errors
    /// [`ColdError::Open`] if the copy cannot be made; [`ColdError::Damaged`] if redb does not get through the file;
    /// [`ColdError::Failed`] if either file fails; [`ColdError::Closed`] if the file was closed meanwhile.
    pub fn copy_to(&self, disk: &dyn Disk, path: &Path, go_on: &mut GoOn<'_>) -> Result<Copied, ColdError> {
        let make = match self.file {
            File::Orders => orders::make_tables,
            File::Documents => {
                |transaction: &redb::WriteTransaction| Ok(transaction.open_table(DOCUMENTS).map(drop)?)
            }
        };
        let health = Arc::new(Health::default());
        let (target, _) = database::open(disk, path, CACHE_BYTES, &health, make, |_| Ok(()))?;
        let mut copied = Copied { whole: true, damaged: Vec::new() };
        let mut done = 0;
        let mut go_on = |more| {
            done += more;
            go_on(done)
        };
        let copying = self.run(|from| {
            let Copied { whole, damaged } = &mut copied;
            let mut look = |wrong: Option<String>| damaged.extend(wrong);
            *whole = match self.file {
                File::Orders => {
                    table(from, &target, ORDERS, &mut |key, value| look(bad_row(key, value)), &mut go_on)?
                        && table(from, &target, OWNERS, &mut |_, _| (), &mut go_on)?
                        && table(from, &target, COUNTS, &mut |_, _| (), &mut go_on)?
                        && table(from, &target, KEYS, &mut |_, _| (), &mut go_on)?
                        && table(from, &target, AWAITED, &mut |_, _| (), &mut go_on)?
                }
                File::Documents => {
                    table(from, &target, DOCUMENTS, &mut |key, value| look(bad_document(key, value)), &mut go_on)?
                }
            };
            // Last: it tells how far the rows go.
            *whole = *whole && table(from, &target, STATE, &mut |_, _| (), &mut |_| true)?;
            Ok(())
        });
        // What failed beneath the copy has more to say than redb.
        health.check()?;
        copying?;
        orders::run(&health, || Ok(target.close().map_err(redb::Error::from)?))?;
        Ok(copied)
    }

    /// With a health of its own: what a copy stumbles over puts nothing out of service that is not in use.
    fn run<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, Trouble>) -> Result<T, ColdError> {
        orders::run(&Health::default(), || work(&self.transaction))
    }
}

/// Copies a table, showing each entry's bytes to `look`, and telling `go_on` how many a commit had. False if it was told to
/// stop.
fn table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &Database,
    table: TableDefinition<'static, K, V>,
    look: &mut dyn FnMut(&[u8], &[u8]),
    go_on: &mut GoOn<'_>,
) -> Result<bool, Trouble> {
    let source = from.open_table(table)?;
    let mut entries = source.iter()?;
    let mut more = true;
    while more {
        let transaction = begin_write(to)?;
        let mut target = transaction.open_table(table)?;
        let (mut bytes, mut count) = (0, 0);
        while bytes < BYTES_AT_ONCE && count < ENTRIES_AT_ONCE {
            let Some(entry) = entries.next() else {
                more = false;
                break;
            };
            let (key, value) = entry?;
            let (key, value) = (key.value(), value.value());
            let (key_bytes, value_bytes) = (K::as_bytes(&key), V::as_bytes(&value));
            look(key_bytes.as_ref(), value_bytes.as_ref());
            bytes += key_bytes.as_ref().len() + value_bytes.as_ref().len();
            count += 1;
            target.insert(&key, &value)?;
        }
        drop(target);
        transaction.commit()?;
        if !go_on(count as u64) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is wrong with an order's row.
fn bad_row(key: &[u8], value: &[u8]) -> Option<String> {
    let sound = value.len() >= VALUE_HEADER_BYTES && value[..4] == crc32fast::hash(&value[4..]).to_le_bytes();
    let id = key.try_into().map_or(0, u128::from_be_bytes);
    (!sound).then(|| format!("the row of order {}: its checksum is wrong", OrderId::from_u128(id)))
}

/// What is wrong with a document.
fn bad_document(key: &[u8], value: &[u8]) -> Option<String> {
    let hash = key.try_into().map(DocumentHash).unwrap_or(DocumentHash([0; 32]));
    (DocumentHash::of(value) != hash).then(|| format!("the document {hash} has other bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    const CACHE_BYTES: usize = 1 << 20;

    #[test]
    fn a_copy_is_of_one_moment_and_tells_what_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let open = |name: &str| Documents::open(disk.clone(), &path(name), CACHE_BYTES).unwrap();
        let texts: Vec<Vec<u8>> = (0..40_000).map(|number| format!("the document {number}.").into_bytes()).collect();
        let documents = open("one");
        documents.put_all(&texts).unwrap();
        documents.close().unwrap();
        let mut bytes = std::fs::read(path("one")).unwrap();
        let wanted = b"the document 7.";
        let places: Vec<usize> =
            (0..bytes.len() - wanted.len()).filter(|at| bytes[*at..].starts_with(wanted)).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| bytes[at + 1] ^= 1);
        std::fs::write(path("one"), bytes).unwrap();

        let documents = open("one");
        let still = documents.still().unwrap();
        documents.put_all(&[b"later".to_vec()]).unwrap();
        assert_eq!(still.entries().unwrap(), 40_000);
        let mut told = Vec::new();
        let copied = still.copy_to(&RealDisk, &path("two"), &mut |done| {
            told.push(done);
            true
        });
        let copied = copied.unwrap();
        assert_eq!((copied.whole, copied.damaged.len()), (true, 1), "{copied:?}");
        assert_eq!((told.len(), told.last()), (2, Some(&40_000)), "in two commits");
        let copy = open("two");
        assert_eq!(copy.get_blocking(&DocumentHash::of(b"later")).unwrap(), None);
        for text in [&texts[0], &texts[39_999]] {
            assert_eq!(copy.get_blocking(&DocumentHash::of(text)).unwrap().as_ref(), Some(text));
        }
        assert!(matches!(copy.get_blocking(&DocumentHash::of(wanted)), Err(ColdError::Damaged { .. })));
        // Told to stop, and of a file that was closed.
        assert!(!still.copy_to(&RealDisk, &path("three"), &mut |_| false).unwrap().whole);
        drop(documents);
        let late = still.copy_to(&RealDisk, &path("four"), &mut |_| true);
        assert!(matches!(late, Err(ColdError::Closed)), "{late:?}");
    }
}
