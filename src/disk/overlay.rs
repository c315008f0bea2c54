//! A disk that is read from another one and written to memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Disk, DiskFile, OpenMode};

/// Bytes that are copied into memory together when one of them is written.
const BLOCK_BYTES: u64 = 64 * 1024;

/// Shows another disk, and keeps every change to itself: files of the other disk are opened for reading only, and what
/// is written, renamed or removed here is so in memory and nowhere else. For looking at a data directory as recovery
/// would leave it, without touching it. Nobody may change the other disk meanwhile.
#[derive(Debug)]
pub(crate) struct OverlayDisk {
    beneath: Arc<dyn Disk>,
    tree: Mutex<Tree>,
}

#[derive(Debug, Default)]
struct Tree {
    /// Files that were opened, made or renamed here; `None` where one was removed.
    nodes: BTreeMap<PathBuf, Option<Arc<Node>>>,
    dirs: BTreeSet<PathBuf>,
}

/// A file, shared by its name and its open handles.
#[derive(Debug)]
struct Node {
    beneath: Option<Arc<dyn DiskFile>>,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    len: u64,
    /// Up to here the file beneath shows through where nothing was written.
    shown: u64,
    /// What was written, by block. `None` is a block of zeros: a segment's megabytes of them cost nothing.
    blocks: BTreeMap<u64, Option<Box<[u8]>>>,
}

#[derive(Debug)]
struct OverlayFile {
    node: Arc<Node>,
    writable: bool,
}

impl OverlayDisk {
    /// Shows this disk.
    #[must_use]
    pub(crate) fn new(beneath: Arc<dyn Disk>) -> Self {
        OverlayDisk { beneath, tree: Mutex::default() }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of that name, taken from beneath the first time.
    fn node(&self, tree: &mut Tree, path: &Path) -> io::Result<Arc<Node>> {
        match tree.nodes.get(path) {
            Some(Some(node)) => Ok(Arc::clone(node)),
            Some(None) => Err(io::ErrorKind::NotFound.into()),
            None => {
                let file = self.beneath.open(path, OpenMode::Read)?;
                let len = file.len()?;
                let state = State { len, shown: len, blocks: BTreeMap::new() };
                let node = Arc::new(Node { beneath: Some(file), state: RwLock::new(state) });
                tree.nodes.insert(path.to_owned(), Some(Arc::clone(&node)));
                Ok(node)
            }
        }
    }
}

impl Disk for OverlayDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut tree = self.tree();
        let found = self.node(&mut tree, path);
        let node = match (mode, found) {
            (OpenMode::CreateNew, Ok(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                let node = Arc::new(Node { beneath: None, state: RwLock::default() });
                tree.nodes.insert(path.to_owned(), Some(Arc::clone(&node)));
                node
            }
            (_, found) => found?,
        };
        Ok(Arc::new(OverlayFile { node, writable: mode != OpenMode::Read }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let tree = self.tree();
        let mut names: BTreeSet<String> = match self.beneath.list(dir) {
            Ok(names) => names.into_iter().collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && tree.dirs.contains(dir) => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        for (path, node) in &tree.nodes {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|_| path.parent() == Some(dir)) else { continue };
            match node {
                Some(_) => names.insert(name.to_owned()),
                None => names.remove(name),
            };
        }
        Ok(names.into_iter().collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.tree().dirs.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let node = self.node(&mut tree, from)?;
        tree.nodes.insert(from.to_owned(), None);
        tree.nodes.insert(to.to_owned(), Some(node));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        self.node(&mut tree, path)?;
        tree.nodes.insert(path.to_owned(), None);
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        // It is memory that is filled, and that is watched elsewhere.
        Ok(u64::MAX)
    }
}

impl Node {
    /// Fills `into` with what is at `at`, which was never written here.
    fn read_beneath(&self, shown: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        into.fill(0);
        let visible = shown.saturating_sub(at).min(into.len() as u64) as usize;
        match &self.beneath {
            Some(file) if visible > 0 => file.read_exact_at(at, &mut into[..visible]),
            _ => Ok(()),
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let total = state.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < total {
            let at = offset + done as u64;
            let within = (at % BLOCK_BYTES) as usize;
            let part = (BLOCK_BYTES as usize - within).min(total - done);
            let into = &mut buf[done..done + part];
            match state.blocks.get(&(at / BLOCK_BYTES)) {
                Some(Some(block)) => into.copy_from_slice(&block[within..within + part]),
                Some(None) => into.fill(0),
                None => self.read_beneath(state.shown, at, into)?,
            }
            done += part;
        }
        Ok(total)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (number, within) = (at / BLOCK_BYTES, (at % BLOCK_BYTES) as usize);
            let part = (BLOCK_BYTES as usize - within).min(bytes.len() - done);
            let from = &bytes[done..done + part];
            done += part;
            let is_zero = from.iter().all(|byte| *byte == 0);
            let shown = state.shown;
            let begin = number * BLOCK_BYTES;
            let was_zero = match state.blocks.get(&number) {
                Some(block) => block.is_none(),
                None => begin >= shown || part as u64 == BLOCK_BYTES,
            };
            if is_zero && was_zero {
                state.blocks.insert(number, None);
                continue;
            }
            if !matches!(state.blocks.get(&number), Some(Some(_))) {
                let mut block = vec![0; BLOCK_BYTES as usize].into_boxed_slice();
                if !state.blocks.contains_key(&number) {
                    self.read_beneath(shown, begin, &mut block)?;
                }
                state.blocks.insert(number, Some(block));
            }
            if let Some(Some(block)) = state.blocks.get_mut(&number) {
                block[within..within + part].copy_from_slice(from);
            }
        }
        state.len = state.len.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if len < state.len {
            // What is cut off must not come back when the file grows again.
            let last = len / BLOCK_BYTES;
            state.blocks.split_off(&(last + 1));
            if let Some(Some(block)) = state.blocks.get_mut(&last) {
                block[(len % BLOCK_BYTES) as usize..].fill(0);
            }
            state.shown = state.shown.min(len);
        }
        state.len = len;
        Ok(())
    }
}

impl OverlayFile {
    fn require_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl DiskFile for OverlayFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.node.read_at(offset, buf)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.require_writable()?;
        self.node.write_at(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.node.state.read().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.require_writable()?;
        self.node.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{MemoryDisk, RealDisk};
    use super::*;

    /// Writes and cuts of a file that was there before look as on any disk, and the file beneath stays as it was.
    fn apply(disk: &dyn Disk, path: &Path, steps: &[(u64, Option<Vec<u8>>)]) -> Vec<u8> {
        let file = disk.open(path, OpenMode::ReadWrite).unwrap();
        for (at, bytes) in steps {
            match bytes {
                Some(bytes) => file.write_all_at(*at, bytes).unwrap(),
                None => file.set_len(*at).unwrap(),
            }
        }
        let mut content = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(0, &mut content).unwrap();
        content
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_reads_as_if_it_had_been_written(
            before in prop::collection::vec(any::<u8>(), 0..1_000),
            beyond in 0..3 * BLOCK_BYTES,
            steps in prop::collection::vec(
                (0..3 * BLOCK_BYTES, prop::option::of((any::<bool>(), 0..150_000usize))), 0..8),
        ) {
            let steps: Vec<(u64, Option<Vec<u8>>)> = steps
                .into_iter()
                .map(|(at, write)| (at, write.map(|(zeros, len)| vec![if zeros { 0 } else { at as u8 | 1 }; len])))
                .collect();
            let path = Path::new("/d/file");
            let (plain, beneath) = (MemoryDisk::new(), MemoryDisk::new());
            for disk in [&plain, &beneath] {
                disk.create_dir_all(Path::new("/d")).unwrap();
                let file = disk.open(path, OpenMode::CreateNew).unwrap();
                file.write_all_at(beyond, &before).unwrap();
            }
            let was = apply(&beneath, path, &[]);
            let overlay = OverlayDisk::new(Arc::new(beneath.clone()));
            prop_assert_eq!(apply(&overlay, path, &steps), apply(&plain, path, &steps));
            prop_assert_eq!(apply(&beneath, path, &[]), was);
        }
    }

    #[test]
    fn names_change_here_only() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two, three] = ["one", "two", "three"].map(|name| dir.path().join(name));
        std::fs::write(&one, b"1").unwrap();
        std::fs::write(&two, b"2").unwrap();
        let overlay = OverlayDisk::new(Arc::new(RealDisk));
        overlay.rename(&one, &three).unwrap();
        overlay.remove(&two).unwrap();
        assert_eq!(overlay.list(dir.path()).unwrap(), ["three"]);
        assert!(overlay.open(&one, OpenMode::Read).is_err() && overlay.remove(&two).is_err());
        overlay.open(&two, OpenMode::CreateNew).unwrap().write_all_at(0, b"new").unwrap();
        assert_eq!(overlay.list(dir.path()).unwrap(), ["three", "two"]);
        assert_eq!(std::fs::read(&two).unwrap(), b"2");
        assert!(one.exists() && !three.exists());
    }
}
