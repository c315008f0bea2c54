//! The next segment, prepared while the current one fills, so that a roll does not have to wait for
//! a file of zeros.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::disk::{Disk, DiskFile, OpenMode};

use super::LogError;
use super::segment::create_zeroed;

/// The name of the preparing thread; tests tell its operations from the journal's by it.
const THREAD_NAME: &str = "journal-spare";

/// The spare has its own name until it is used: it is no part of the log before.
const SPARE_NAME: &str = "spare.tmp";

/// Bytes of the next segment that are written already, of the log in `dir`. They are taken from the disk before the log
/// needs them.
pub fn spare_bytes(disk: &dyn Disk, dir: &Path) -> u64 {
    let spare = disk.open(&dir.join(SPARE_NAME), OpenMode::Read);
    spare.and_then(|file| file.len()).unwrap_or(0)
}

type Prepared = Result<Option<Arc<dyn DiskFile>>, LogError>;

#[derive(Debug)]
pub(super) struct Spare {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    segment_bytes: u64,
    stop: Arc<AtomicBool>,
    /// A thread for each spare: there is one in a segment's lifetime, and it has nothing to wait for.
    preparing: Option<JoinHandle<Prepared>>,
    /// Nothing is prepared; it is made when it is needed.
    when_needed: bool,
}

impl Spare {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, segment_bytes: u64) -> Self {
        let path = dir.join(SPARE_NAME);
        Self { disk, path, segment_bytes, stop: Arc::default(), preparing: None, when_needed: false }
    }

    /// One that is made when it is needed, on the journal's own thread.
    pub(super) fn when_needed(disk: Arc<dyn Disk>, dir: &Path, segment_bytes: u64) -> Self {
        let mut spare = Self::new(disk, dir, segment_bytes);
        spare.when_needed = true;
        spare
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to prepare a spare in the background. If that does not work, [`Spare::take`] does it.
    pub(super) fn prepare(&mut self) {
        if self.when_needed {
            return;
        }
        let (disk, path) = (Arc::clone(&self.disk), self.path.clone());
        let (len, stop) = (self.segment_bytes, Arc::clone(&self.stop));
        self.preparing = thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || create_zeroed(&*disk, &path, len, &stop))
            .ok();
    }

    /// The prepared file, still under its own name. A preparation that failed has removed its file and
    /// is tried once more from scratch: the disk may have been full only for a while, and nothing of
    /// the log is in it. Only if that fails as well, the log can not go on.
    pub(super) fn take(&mut self) -> Result<Arc<dyn DiskFile>, LogError> {
        let prepared = self.preparing.take().map(JoinHandle::join);
        if let Some(Ok(Ok(Some(file)))) = prepared {
            return Ok(file);
        }
        match create_zeroed(&*self.disk, &self.path, self.segment_bytes, &AtomicBool::new(false))? {
            Some(file) => Ok(file),
            // Nobody told it to stop.
            None => Err(LogError::Broken),
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(preparing) = self.preparing.take() {
            // Its outcome does not matter: the next open removes the file.
            drop(preparing.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::disk::MemoryDisk;

    const SEGMENT_BYTES: u64 = 3 * 1024 * 1024;

    /// Takes so many writes, then is full.
    #[derive(Debug)]
    struct SmallDisk {
        inner: MemoryDisk,
        writes_left: Arc<AtomicU64>,
    }

    #[derive(Debug)]
    struct SmallFile {
        inner: Arc<dyn DiskFile>,
        writes_left: Arc<AtomicU64>,
    }

    impl Disk for SmallDisk {
        fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
            let inner = self.inner.open(path, mode)?;
            Ok(Arc::new(SmallFile { inner, writes_left: Arc::clone(&self.writes_left) }))
        }

        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            self.inner.list(dir)
        }

        fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
            self.inner.create_dir_all(dir)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.inner.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            self.inner.remove(path)
        }

        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            self.inner.sync_dir(dir)
        }

        fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
            self.inner.free_bytes(dir)
        }
    }

    impl DiskFile for SmallFile {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            self.inner.read_at(offset, buf)
        }

        fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            let left = self.writes_left.load(Ordering::SeqCst);
            self.writes_left.store(left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?, Ordering::SeqCst);
            self.inner.write_all_at(offset, bytes)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.inner.sync_data()
        }

        fn len(&self) -> io::Result<u64> {
            self.inner.len()
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.inner.set_len(len)
        }
    }

    #[test]
    fn a_spare_that_does_not_fit_leaves_nothing_and_is_tried_again() {
        let dir = Path::new("/d");
        let writes_left = Arc::new(AtomicU64::new(2));
        let disk = Arc::new(SmallDisk { inner: MemoryDisk::new(), writes_left: Arc::clone(&writes_left) });
        disk.create_dir_all(dir).unwrap();
        let mut spare = Spare::new(Arc::clone(&disk) as Arc<dyn Disk>, dir, SEGMENT_BYTES);
        spare.prepare();
        while !spare.preparing.as_ref().unwrap().is_finished() {
            thread::yield_now();
        }
        assert_eq!(writes_left.load(Ordering::SeqCst), 0, "a part was written");
        assert!(disk.list(dir).unwrap().is_empty(), "the space is given back");

        writes_left.store(3, Ordering::SeqCst);
        let file = spare.take().unwrap();
        assert_eq!(file.len().unwrap(), SEGMENT_BYTES);
        disk.rename(spare.path(), &dir.join("used")).unwrap();

        writes_left.store(1, Ordering::SeqCst);
        assert!(spare.take().is_err(), "it is needed now");
        assert_eq!(disk.list(dir).unwrap(), vec!["used".to_owned()]);
    }
}
