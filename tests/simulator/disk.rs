//! A disk as `bookstore::disk` describes it, and as unkind as that allows.
//!
//! What was written is there at once, in the page cache; what was not synced may be lost when the power goes, sector by
//! sector, a sector torn at any byte, each name on its own. A length that was set is kept whole or not at all, as file
//! systems journal it; bytes that are written past the end bring their length with them. When only the process dies the page cache lives, and is
//! still not on the disk. A failed sync leaves some of what it should have written on the disk and forgets the rest,
//! which is still read back until the power goes. The disk may be full.
//!
//! Whether a sector survives hangs on the seed, the file and the sector, not on the order of the writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bookstore::disk::{Disk, DiskFile, OpenMode};

use crate::dice::mix;

const SECTOR_BYTES: usize = 512;

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process dies, the machine lives.
    Process,
    /// The power goes, and takes everything that was not synced.
    PowerTakesAll,
    /// The power goes, and takes some of it.
    PowerTears,
}

#[derive(Clone)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    seed: u64,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Since the last sync of their directories, in their order.
    pending: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    /// Changes so far.
    operations: u64,
    /// From this one on nothing is done any more: the process is dead.
    kill_at: Option<u64>,
    /// This one fails.
    fail_at: Option<u64>,
    /// Bytes that may be added.
    room: Option<usize>,
    /// Faults that came true.
    fired: u64,
    /// Handles of an earlier life do not work any more.
    life: u64,
    crashes: u64,
}

#[derive(Clone, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// The length that the file was given since the last sync, if that made it longer.
    grown: Option<usize>,
}

#[derive(Clone)]
struct NameChange {
    gone: Option<PathBuf>,
    made: Option<(PathBuf, usize)>,
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    life: u64,
    writable: bool,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.inode)
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        let state = State {
            seed,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            dirs: BTreeSet::new(),
            operations: 0,
            kill_at: None,
            fail_at: None,
            room: None,
            fired: 0,
            life: 0,
            crashes: 0,
        };
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `n`-th change from now on (0 is the next) is not done, or done in part, and nothing after it is.
    pub(crate) fn kill_after(&self, n: u64) {
        let mut state = self.state();
        state.kill_at = Some(state.operations + n);
    }

    /// Nothing is done any more.
    pub(crate) fn kill(&self) {
        let mut state = self.state();
        state.kill_at = Some(0);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().is_dead()
    }

    /// The `n`-th change from now on fails.
    pub(crate) fn fail_after(&self, n: u64) {
        let mut state = self.state();
        state.fail_at = Some(state.operations + n);
    }

    /// So many bytes may be added from now on.
    pub(crate) fn fill(&self, room: usize) {
        self.state().room = Some(room);
    }

    /// Nothing fails any more by itself.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        (state.kill_at, state.fail_at, state.room) = (None, None, None);
    }

    /// Faults that came true so far.
    pub(crate) fn fired(&self) -> u64 {
        self.state().fired
    }

    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The end of whoever uses it, and a new beginning.
    pub(crate) fn crash(&self, how: Crash) {
        let mut state = self.state();
        let state = &mut *state;
        state.crashes += 1;
        state.life += 1;
        (state.kill_at, state.fail_at, state.room) = (None, None, None);
        if how == Crash::Process {
            return;
        }
        let luck = mix(state.seed ^ state.crashes << 32);
        let survives = |a: u64, b: u64| match how {
            Crash::PowerTears => mix(luck ^ mix(a) ^ b),
            _ => 0,
        };
        for (number, inode) in state.inodes.iter_mut().enumerate() {
            let len = inode.content.len();
            let long = inode.durable.len();
            // The length is durable with the bytes that need it.
            let limit = inode.settle_length(survives(number as u64 + 1, u64::MAX - 1) & 1 == 1);
            let dirty = std::mem::take(&mut inode.dirty);
            for sector in dirty {
                let fate = survives(number as u64 + 1, sector as u64);
                let start = sector * SECTOR_BYTES;
                let end = (start + SECTOR_BYTES).min(len).min(limit);
                let kept = match fate & 3 {
                    0 => start,
                    1 => start + (fate >> 8) as usize % (SECTOR_BYTES + 1),
                    _ => end,
                };
                let kept = kept.min(end);
                if how == Crash::PowerTears && kept > start {
                    if inode.durable.len() < kept {
                        inode.durable.resize(kept, 0);
                    }
                    inode.durable[start..kept].copy_from_slice(&inode.content[start..kept]);
                }
            }
            if len < long && survives(number as u64 + 1, u64::MAX) & 1 == 1 {
                inode.durable.truncate(len);
            }
            inode.content.clone_from(&inode.durable);
            inode.grown = None;
        }
        let pending = std::mem::take(&mut state.pending);
        for (number, change) in pending.into_iter().enumerate() {
            if survives(0, number as u64) & 1 == 1 {
                change.apply(&mut state.durable_names);
            }
        }
        state.names.clone_from(&state.durable_names);
        state.forget_nameless();
    }

    /// What is there now, on a disk of its own.
    pub(crate) fn copy(&self) -> Self {
        let mut state = self.state().clone();
        state.life += 1;
        (state.kill_at, state.fail_at, state.room) = (None, None, None);
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.names.get(path).map_or_else(Vec::new, |inode| state.inodes[*inode].content.clone())
    }

    /// Flips a bit behind everybody's back; doing it again takes it back.
    pub(crate) fn flip(&self, path: &Path, at: usize) {
        let mut state = self.state();
        let inode = state.names[path];
        let inode = &mut state.inodes[inode];
        inode.content[at] ^= 1;
        if at < inode.durable.len() {
            inode.durable[at] ^= 1;
        }
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        if let Some(gone) = self.gone {
            names.remove(&gone);
        }
        if let Some((path, inode)) = self.made {
            names.insert(path, inode);
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        let paths = self.gone.iter().chain(self.made.iter().map(|(path, _)| path));
        paths.into_iter().any(|path| path.parent() == Some(dir))
    }
}

impl State {
    fn is_dead(&self) -> bool {
        self.kill_at.is_some_and(|at| self.operations > at || at == 0)
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_dead() { Err(eio()) } else { Ok(()) }
    }

    /// Counts a change and says whether it may be done.
    fn count(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        if self.fail_at == Some(number) {
            self.fired += 1;
            return Err(eio());
        }
        if self.kill_at == Some(number) {
            self.fired += 1;
            return Err(eio());
        }
        self.alive()
    }

    fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        self.pending.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Nobody has a handle after a crash.
    fn forget_nameless(&mut self) {
        let named: BTreeSet<usize> = self.names.values().copied().collect();
        for (number, inode) in self.inodes.iter_mut().enumerate() {
            if !named.contains(&number) {
                *inode = Inode::default();
            }
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let inode = if mode == OpenMode::CreateNew {
            state.count()?;
            if state.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let inode = state.inodes.len();
            state.inodes.push(Inode::default());
            state.change(NameChange { gone: None, made: Some((path.to_owned(), inode)) });
            inode
        } else {
            state.alive()?;
            state.find(path)?
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode, life: state.life, writable: mode != OpenMode::Read }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let in_dir = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(in_dir.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        state.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.count()?;
        let inode = state.find(from)?;
        state.change(NameChange { gone: Some(from.to_owned()), made: Some((to.to_owned(), inode)) });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.find(path)?;
        state.count()?;
        state.change(NameChange { gone: Some(path.to_owned()), made: None });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.count()?;
        let State { pending, durable_names, .. } = &mut *state;
        for change in pending.extract_if(.., |change| change.is_in(dir)) {
            change.apply(durable_names);
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.state().room.map_or(1 << 40, |room| room as u64))
    }
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life == self.life { Ok(state) } else { Err(eio()) }
    }
}

impl Inode {
    fn write(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if bytes.is_empty() {
            return;
        }
        if self.content.len() < end {
            let old = self.content.len();
            self.content.resize(end, 0);
            self.dirty.extend(old / SECTOR_BYTES..=start / SECTOR_BYTES);
        }
        self.content[start..end].copy_from_slice(bytes);
        self.dirty.extend(start / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
    }

    fn set_len(&mut self, len: usize) {
        let old = self.content.len();
        self.content.resize(len, 0);
        self.grown = None;
        if len > old {
            self.dirty.extend(old / SECTOR_BYTES..=(len - 1) / SECTOR_BYTES);
            self.grown = Some(len);
        }
    }

    /// Decides over a length that was set and not synced. Gives the end of what may survive.
    fn settle_length(&mut self, kept: bool) -> usize {
        match self.grown {
            Some(len) if kept => {
                self.durable.resize(len.max(self.durable.len()), 0);
                self.grown = None;
                usize::MAX
            }
            Some(_) => self.durable.len(),
            None => usize::MAX,
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.content.len(), 0);
        self.grown = None;
        for sector in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(self.content.len());
            if start < end {
                self.durable[start..end].copy_from_slice(&self.content[start..end]);
            }
        }
    }

    /// Some of it is on the disk, and the rest is taken for it.
    fn sync_badly(&mut self, luck: u64) {
        let limit = self.settle_length(mix(luck ^ u64::MAX) & 1 == 1);
        let content = std::mem::take(&mut self.content);
        for sector in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(content.len()).min(limit);
            if start < end && mix(luck ^ sector as u64) & 1 == 1 {
                if self.durable.len() < end {
                    self.durable.resize(end, 0);
                }
                self.durable[start..end].copy_from_slice(&content[start..end]);
            }
        }
        self.content = content;
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.state()?;
        state.alive()?;
        let content = &state.inodes[self.inode].content;
        let from = content.get(offset as usize..).unwrap_or_default();
        let read = from.len().min(buf.len());
        buf[..read].copy_from_slice(&from[..read]);
        Ok(read)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let was_dead = state.is_dead();
        let counted = state.count();
        if was_dead {
            return counted;
        }
        let start = offset as usize;
        let grows = (start + bytes.len()).saturating_sub(state.inodes[self.inode].content.len());
        let full = state.room.is_some_and(|room| grows > room);
        let outcome = match counted {
            Ok(()) if full => {
                state.fired += 1;
                Err(io::ErrorKind::StorageFull.into())
            }
            other => other,
        };
        // What fails may have been done in part.
        let part = match outcome {
            Ok(()) => bytes.len(),
            Err(_) if full => 0,
            Err(_) => mix(state.seed ^ state.operations) as usize % (bytes.len() + 1),
        };
        if let Some(room) = &mut state.room {
            *room = room.saturating_sub(if full { 0 } else { grows });
        }
        state.inodes[self.inode].write(start, &bytes[..part]);
        outcome
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let was_dead = state.is_dead();
        let counted = state.count();
        if was_dead {
            return counted;
        }
        let luck = mix(state.seed ^ state.operations);
        let killed = state.is_dead();
        let inode = &mut state.inodes[self.inode];
        match &counted {
            Ok(()) => inode.sync(),
            // It never ran.
            Err(_) if killed => {}
            Err(_) => inode.sync_badly(luck),
        }
        counted
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.state()?;
        state.alive()?;
        Ok(state.inodes[self.inode].content.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.count()?;
        let grows = (len as usize).saturating_sub(state.inodes[self.inode].content.len());
        if state.room.is_some_and(|room| grows > room) {
            state.fired += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some(room) = &mut state.room {
            *room -= grows;
        }
        state.inodes[self.inode].set_len(len as usize);
        Ok(())
    }
}
