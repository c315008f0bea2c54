//! redb over the engine's disk trait. It adds nothing to the file's bytes, but the fail-stop.

use std::io;
use std::sync::{Arc, OnceLock};

use redb::StorageBackend;

use super::ColdError;
use crate::disk::DiskFile;

/// Whether the store is sound; once it is not, it never is again.
#[derive(Debug, Default)]
pub(super) struct Health(OnceLock<Arc<str>>);

impl Health {
    /// Puts the store out of service. The first reason is kept.
    pub(super) fn fail(&self, why: &str) {
        self.0.get_or_init(|| Arc::from(why));
    }

    pub(super) fn check(&self) -> Result<(), ColdError> {
        match self.0.get() {
            None => Ok(()),
            Some(why) => Err(ColdError::Failed { why: Arc::clone(why) }),
        }
    }
}

/// A disk file as redb's storage. It takes no locks: the engine locks the data directory.
#[derive(Debug)]
pub(super) struct Backend {
    file: Arc<dyn DiskFile>,
    health: Arc<Health>,
}

impl Backend {
    pub(super) fn new(file: Arc<dyn DiskFile>, health: Arc<Health>) -> Self {
        Self { file, health }
    }

    /// Runs an operation unless an earlier one failed. redb has a latch of its own, but tries
    /// again the writes by which it makes room in its cache; here every error is final.
    fn run<T>(&self, name: &str, operation: impl FnOnce(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        if self.health.check().is_err() {
            return Err(io::Error::other("not tried after an earlier error"));
        }
        operation(&*self.file).inspect_err(|error| {
            self.health.fail(&format!("{name}: {error}"));
        })
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.run("length", |file| file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.run("read", |file| read_exact_at(file, offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.run("set length", |file| file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.run("sync", |file| file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.run("write", |file| file.write_all_at(offset, data))
    }
}

fn read_exact_at(file: &dyn DiskFile, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match file.read_at(offset, out) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                offset += read as u64;
                out = &mut out[read..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
