//! A disk in memory that can fail at any operation, hold its syncs, and lose power: then what was
//! not synced is kept, lost or torn, each write by itself, and so are names.
#![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use crate::disk::{Disk, DiskFile, OpenMode};

const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct TestDisk {
    names: Mutex<Names>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Names {
    now: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    durable: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
}

/// What a disk and its open files have in common.
#[derive(Debug, Default)]
struct Shared {
    faults: Mutex<Faults>,
    held: Mutex<bool>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Faults {
    /// Changes until every one fails; none = they never fail.
    changes_left: Option<u64>,
    changes: u64,
    changes_after_failure: u64,
    reads_fail: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(at, written) => {
                let end = at + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(written);
            }
            Change::SetLen(len) => bytes.resize(*len, 0),
        }
    }

    fn torn_to(&self, bytes_kept: usize) -> Self {
        match self {
            Change::Write(at, written) => Change::Write(*at, written[..bytes_kept.min(written.len())].to_vec()),
            Change::SetLen(len) => Change::SetLen(*len),
        }
    }
}

impl TestDisk {
    /// The `changes`-th change from now, and all after it, fail.
    pub(super) fn fail_after(&self, changes: u64) {
        self.shared.faults.lock().unwrap().changes_left = Some(changes);
    }

    pub(super) fn fail_reads(&self) {
        self.shared.faults.lock().unwrap().reads_fail = true;
    }

    /// Writes, length changes and syncs of files so far.
    pub(super) fn changes(&self) -> u64 {
        self.shared.faults.lock().unwrap().changes
    }

    /// Of the same, those that were tried after one had failed.
    pub(super) fn changes_after_failure(&self) -> u64 {
        self.shared.faults.lock().unwrap().changes_after_failure
    }

    pub(super) fn hold_syncs(&self) {
        *self.shared.held.lock().unwrap() = true;
    }

    pub(super) fn release_syncs(&self) {
        *self.shared.held.lock().unwrap() = false;
        self.shared.released.notify_all();
    }

    /// The disk as the next start finds it after a loss of power.
    pub(super) fn after_power_loss(&self, mut seed: u64) -> TestDisk {
        let names = self.names.lock().unwrap();
        let mut survivors = BTreeMap::new();
        // A name may reach the disk before its directory is synced.
        let found = match next(&mut seed) % 2 {
            0 => &names.durable,
            _ => &names.now,
        };
        for (path, content) in found {
            let content = content.lock().unwrap();
            let mut bytes = content.durable.clone();
            for change in &content.unsynced {
                match next(&mut seed) % 4 {
                    0 => {}
                    1 => change.torn_to(SECTOR_BYTES * (next(&mut seed) % 8) as usize).apply(&mut bytes),
                    _ => change.apply(&mut bytes),
                }
            }
            let content = Content { now: bytes.clone(), durable: bytes, unsynced: Vec::new() };
            survivors.insert(path.clone(), Arc::new(Mutex::new(content)));
        }
        let names = Names { now: survivors.clone(), durable: survivors };
        TestDisk { names: Mutex::new(names), shared: Arc::default() }
    }
}

/// splitmix64
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Shared {
    fn change(&self) -> io::Result<()> {
        let mut faults = self.faults.lock().unwrap();
        faults.changes += 1;
        match faults.changes_left {
            None => Ok(()),
            Some(0) => {
                faults.changes_after_failure += 1;
                Err(io::Error::other("failed before"))
            }
            Some(1) => {
                faults.changes_left = Some(0);
                Err(io::Error::other("failed on purpose"))
            }
            Some(left) => {
                faults.changes_left = Some(left - 1);
                Ok(())
            }
        }
    }
}

impl Disk for TestDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut names = self.names.lock().unwrap();
        let content = match (names.now.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(content), _) => Arc::clone(content),
            (None, OpenMode::CreateNew) => {
                let content = Arc::default();
                names.now.insert(path.to_owned(), Arc::clone(&content));
                content
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        let shared = Arc::clone(&self.shared);
        Ok(Arc::new(TestFile { content, shared }))
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names.lock().unwrap();
        let content = names.now.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.now.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.names.lock().unwrap().now.remove(path);
        removed.map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.shared.change()?;
        let mut names = self.names.lock().unwrap();
        names.durable = names.now.clone();
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[derive(Debug)]
struct TestFile {
    content: Arc<Mutex<Content>>,
    shared: Arc<Shared>,
}

impl TestFile {
    fn apply(&self, change: Change) -> io::Result<()> {
        self.shared.change()?;
        let mut content = self.content.lock().unwrap();
        change.apply(&mut content.now);
        content.unsynced.push(change);
        Ok(())
    }
}

impl DiskFile for TestFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if self.shared.faults.lock().unwrap().reads_fail {
            return Err(io::Error::other("read failed on purpose"));
        }
        let content = self.content.lock().unwrap();
        let rest = content.now.get(usize::try_from(offset).unwrap()..).unwrap_or(&[]);
        // Short on purpose: a caller has to ask again.
        let read = rest.len().min(buf.len()).min(65_000);
        buf[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.apply(Change::Write(usize::try_from(offset).unwrap(), bytes.to_vec()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let held = self.shared.held.lock().unwrap();
        drop(self.shared.released.wait_while(held, |held| *held).unwrap());
        self.shared.change()?;
        let mut content = self.content.lock().unwrap();
        for change in std::mem::take(&mut content.unsynced) {
            change.apply(&mut content.durable);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.apply(Change::SetLen(usize::try_from(len).unwrap()))
    }
}
