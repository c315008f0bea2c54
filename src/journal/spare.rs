//! The next segment, prepared while the current one fills, so that a roll does not have to wait for
//! a file of zeros.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::disk::{Disk, DiskFile};

use super::LogError;
use super::segment::create_zeroed;

/// The name of the preparing thread; tests tell its operations from the journal's by it.
const THREAD_NAME: &str = "journal-spare";

/// The spare has its own name until it is used: it is no part of the log before.
const SPARE_NAME: &str = "spare.tmp";

type Prepared = Result<Option<Arc<dyn DiskFile>>, LogError>;

#[derive(Debug)]
pub(super) struct Spare {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    segment_bytes: u64,
    stop: Arc<AtomicBool>,
    /// A thread for each spare: there is one in a segment's lifetime, and it has nothing to wait for.
    preparing: Option<JoinHandle<Prepared>>,
}

impl Spare {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, segment_bytes: u64) -> Self {
        Self { disk, path: dir.join(SPARE_NAME), segment_bytes, stop: Arc::default(), preparing: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to prepare a spare in the background. If that does not work, [`Spare::take`] does it.
    pub(super) fn prepare(&mut self) {
        let (disk, path) = (Arc::clone(&self.disk), self.path.clone());
        let (len, stop) = (self.segment_bytes, Arc::clone(&self.stop));
        self.preparing = thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || create_zeroed(&*disk, &path, len, &stop))
            .ok();
    }

    /// The prepared file, still under its own name. A preparation that failed is tried once more
    /// from scratch: the disk may have been full only for a while, and nothing of the log is in it.
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
