//! A disk that asks before it opens or syncs a file: a test can hold the operation, or let it fail.
#![allow(dead_code, reason = "each test crate that includes this file uses its own part of it")]

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bookstore::disk::{Disk, DiskFile, OpenMode};

/// What is asked before an operation; an error is the operation's.
pub(crate) trait Watch: Debug + Send + Sync {
    fn open(&self, _path: &Path, _mode: OpenMode) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// So many bytes are free; `None` leaves the answer to the disk.
    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

#[derive(Debug)]
pub(crate) struct WatchedDisk {
    disk: Arc<dyn Disk>,
    watch: Arc<dyn Watch>,
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    watch: Arc<dyn Watch>,
}

impl WatchedDisk {
    pub(crate) fn new(disk: impl Disk + 'static, watch: Arc<dyn Watch>) -> Self {
        WatchedDisk { disk: Arc::new(disk), watch }
    }
}

impl Disk for WatchedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.watch.open(path, mode)?;
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(WatchedFile { file, path: path.to_owned(), watch: self.watch.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn is_vacant(&self, dir: &Path) -> io::Result<bool> {
        self.disk.is_vacant(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.watch.free_bytes().map_or_else(|| self.disk.free_bytes(dir), Ok)
    }
}

impl DiskFile for WatchedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buf)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch.sync(&self.path)?;
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
