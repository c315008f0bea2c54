//! A disk that fails, tears and forgets.
//!
//! It keeps what was written apart from what was synced, for contents and for names. A test can let
//! the n-th operation fail, let everything fail from the n-th on (the process was killed), and crash:
//! then what was not synced is lost, kept or torn, sector by sector.
//!
//! Operations of the thread that prepares spare segments are not counted, so that counts repeat.
#![allow(dead_code, reason = "each test crate that includes this file uses its own part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bookstore::disk::{Disk, DiskFile, OpenMode};

pub(crate) const SECTOR_BYTES: usize = 512;

/// What a crash does to writes and names that were not synced.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Crash {
    /// The process died, the machine lives: everything written is there.
    KeepAll,
    /// Nothing that was not synced is there.
    LoseAll,
    /// Each sector and each name on its own is old or new, and the last sector of each write may be
    /// cut at any byte.
    Tear(u64),
    /// As [`Crash::Tear`], but a sector is old or new as a whole.
    TearSectors(u64),
}

#[derive(Clone, Default)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SimDisk")
    }
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    dirs: Vec<PathBuf>,
    /// Counted operations so far.
    operations: u64,
    log: Vec<String>,
    fail_at: Option<u64>,
    killed_from: Option<u64>,
    /// Handles of an earlier life do not work any more.
    life: u64,
}

#[derive(Default, Clone)]
struct Inode {
    content: Vec<u8>,
    synced: Vec<u8>,
    /// Byte ranges written since the last sync.
    dirty: Vec<(usize, usize)>,
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    life: u64,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SimFile({})", self.inode)
    }
}

impl SimDisk {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The `n`-th counted operation from now on (0 is the next) fails with EIO; a write is done by
    /// half.
    pub(crate) fn fail_at(&self, n: u64) {
        let mut state = self.state();
        state.fail_at = Some(state.operations + n);
    }

    /// The `n`-th counted operation from now on and all after it fail: the process was killed.
    pub(crate) fn kill_at(&self, n: u64) {
        let mut state = self.state();
        state.killed_from = Some(state.operations + n);
    }

    /// Operations counted so far: creations, writes, syncs, renames, removals.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// What was counted, for a message and to look for one operation.
    pub(crate) fn operation_log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// Crashes and comes up again. Handles of before fail from now on.
    pub(crate) fn crash(&self, how: Crash) {
        let mut state = self.state();
        state.life += 1;
        state.fail_at = None;
        state.killed_from = None;
        let mut dice = match how {
            Crash::Tear(seed) | Crash::TearSectors(seed) => Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            _ => Dice(1),
        };
        let State { inodes, names, synced_names, .. } = &mut *state;
        let named: BTreeSet<usize> = names.values().chain(synced_names.values()).copied().collect();
        for (number, inode) in inodes.iter_mut().enumerate() {
            // What no name leads to nobody sees again.
            if !named.contains(&number) {
                *inode = Inode::default();
                continue;
            }
            match how {
                Crash::KeepAll => inode.synced.clone_from(&inode.content),
                Crash::LoseAll => inode.content.clone_from(&inode.synced),
                Crash::Tear(_) | Crash::TearSectors(_) => {
                    inode.content = inode.torn(&mut dice, matches!(how, Crash::Tear(_)));
                    inode.synced.clone_from(&inode.content);
                }
            }
            inode.dirty.clear();
        }
        let names = match how {
            Crash::KeepAll => state.names.clone(),
            Crash::LoseAll => state.synced_names.clone(),
            // A rename is one step; so either all pending names of the directory made it or none.
            _ if dice.coin() => state.names.clone(),
            _ => state.synced_names.clone(),
        };
        state.names.clone_from(&names);
        state.synced_names = names;
    }

    /// A copy that shares nothing with this one, as it would be found after the process died.
    pub(crate) fn copy(&self) -> Self {
        let state = self.state();
        let mut inodes = vec![Inode::default(); state.inodes.len()];
        // What has no name any more nobody finds.
        for inode in state.names.values().copied() {
            let content = state.inodes[inode].content.clone();
            inodes[inode] = Inode { synced: content.clone(), content, dirty: Vec::new() };
        }
        Self {
            state: Arc::new(Mutex::new(State {
                inodes,
                names: state.names.clone(),
                synced_names: state.names.clone(),
                dirs: state.dirs.clone(),
                ..State::default()
            })),
        }
    }

    /// Paths of all files, sorted.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.inodes[state.names[path]].content.clone()
    }

    /// Changes a file behind everybody's back, durably.
    pub(crate) fn alter(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = state.names[path];
        let inode = &mut state.inodes[inode];
        change(&mut inode.content);
        inode.synced = inode.content.clone();
        inode.dirty.clear();
    }

    /// Makes a file behind everybody's back, durably.
    pub(crate) fn plant(&self, path: &Path, content: &[u8]) {
        let mut state = self.state();
        let inode = state.inodes.len();
        state.inodes.push(Inode { content: content.to_vec(), synced: content.to_vec(), dirty: Vec::new() });
        state.names.insert(path.to_owned(), inode);
        state.synced_names.insert(path.to_owned(), inode);
    }

    /// Removes a file behind everybody's back, durably.
    pub(crate) fn steal(&self, path: &Path) {
        let mut state = self.state();
        state.names.remove(path);
        state.synced_names.remove(path);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts an operation and says whether it may happen.
    fn count(&mut self, what: impl FnOnce() -> String) -> io::Result<()> {
        if std::thread::current().name() == Some("journal-spare") {
            return self.alive();
        }
        let number = self.operations;
        self.operations += 1;
        self.log.push(what());
        if self.fail_at == Some(number) {
            return Err(eio());
        }
        self.alive()
    }

    fn alive(&self) -> io::Result<()> {
        match self.killed_from {
            Some(from) if self.operations > from => Err(eio()),
            _ => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn name_of(&self, inode: usize) -> String {
        self.names
            .iter()
            .find(|(_, found)| **found == inode)
            .map_or_else(|| "(no name)".to_owned(), |(path, _)| path.display().to_string())
    }
}

impl Inode {
    /// The synced content with a random part of the later writes.
    fn torn(&self, dice: &mut Dice, at_bytes: bool) -> Vec<u8> {
        let mut torn = self.synced.clone();
        if torn.len() < self.content.len() {
            resize(&mut torn, self.content.len());
        } else if dice.coin() {
            torn.truncate(self.content.len());
        }
        for (start, end) in self.dirty.iter().copied() {
            let end = end.min(self.content.len());
            let mut at = start;
            while at < end {
                let sector_end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if dice.coin() {
                    let cut = match !at_bytes || dice.coin() {
                        true => sector_end,
                        false => at + dice.below(sector_end - at + 1),
                    };
                    if cut <= torn.len() {
                        torn[at..cut].copy_from_slice(&self.content[at..cut]);
                    }
                }
                at = sector_end;
            }
        }
        torn
    }
}

/// xorshift; a test needs no better.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn coin(&mut self) -> bool {
        (self.next() >> 32) & 1 == 1
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }
}

/// As `Vec::resize`, which without optimisation goes byte by byte, and segments are large.
fn resize(content: &mut Vec<u8>, len: usize) {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    content.truncate(len);
    while content.len() < len {
        let more = (len - content.len()).min(ZEROS.len());
        content.extend_from_slice(&ZEROS[..more]);
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let inode = if mode == OpenMode::CreateNew {
            state.count(|| format!("create {}", path.display()))?;
            if state.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let inode = state.inodes.len();
            state.inodes.push(Inode::default());
            state.names.insert(path.to_owned(), inode);
            inode
        } else {
            state.alive()?;
            state.find(path)?
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode, life: state.life }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        if !state.dirs.iter().any(|known| known == dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(state
            .names
            .keys()
            .filter(|path| path.parent() == Some(dir))
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        if !state.dirs.iter().any(|known| known == dir) {
            state.dirs.push(dir.to_owned());
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.count(|| format!("rename {} {}", from.display(), to.display()))?;
        let inode = state.find(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.find(path)?;
        state.count(|| format!("remove {}", path.display()))?;
        state.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.count(|| format!("sync-dir {}", dir.display()))?;
        let in_dir = |path: &PathBuf| path.parent() == Some(dir);
        let State { names, synced_names, .. } = &mut *state;
        synced_names.retain(|path, _| !in_dir(path));
        synced_names.extend(names.iter().filter(|(path, _)| in_dir(path)).map(|(path, inode)| (path.clone(), *inode)));
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life == self.life { Ok(state) } else { Err(eio()) }
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
        let name = state.name_of(self.inode);
        let counted = state.count(|| format!("write {name} {offset} {}", bytes.len()));
        let killed = state.alive().is_err();
        // A write that fails may have been done in part; one that never ran was not.
        let bytes = match counted {
            Ok(()) => bytes,
            Err(error) if killed => return Err(error),
            Err(_) => &bytes[..bytes.len() / 2],
        };
        let start = offset as usize;
        let end = start + bytes.len();
        let inode = &mut state.inodes[self.inode];
        if inode.content.len() < end {
            resize(&mut inode.content, end);
        }
        inode.content[start..end].copy_from_slice(bytes);
        inode.dirty.push((start, end));
        counted
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let name = state.name_of(self.inode);
        state.count(|| format!("sync {name}"))?;
        let inode = &mut state.inodes[self.inode];
        let Inode { content, synced, dirty } = inode;
        // Only what changed is copied: segments are large and synced often.
        resize(synced, content.len());
        for (start, end) in dirty.drain(..) {
            let end = end.min(content.len());
            if start < end {
                synced[start..end].copy_from_slice(&content[start..end]);
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.inodes[self.inode].content.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let name = state.name_of(self.inode);
        state.count(|| format!("set-len {name} {len}"))?;
        let inode = &mut state.inodes[self.inode];
        let old = inode.content.len();
        resize(&mut inode.content, len as usize);
        inode.dirty.push((old.min(len as usize), len as usize));
        Ok(())
    }
}
