//! A file system in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Disk, DiskFile, OpenMode};

/// A complete file system in memory, for engines that keep nothing beyond the process. Clones share
/// it. It has no crash semantics: what is written is there, and syncing does nothing.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    tree: Arc<Mutex<Tree>>,
}

/// The bytes of a file, shared by its name and its open handles, so that a handle outlives its name.
type Content = Arc<RwLock<Vec<u8>>>;

#[derive(Debug, Default)]
struct Tree {
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Content>,
}

#[derive(Debug)]
struct MemoryFile {
    content: Content,
    writable: bool,
}

impl MemoryDisk {
    /// An empty file system.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tree {
    fn require_dir(&self, dir: &Path) -> io::Result<()> {
        if self.dirs.contains(dir) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn require_parent(&self, path: &Path) -> io::Result<()> {
        self.require_dir(path.parent().unwrap_or(Path::new("")))
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut tree = self.tree();
        let content = match (mode, tree.files.get(path)) {
            (OpenMode::CreateNew, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew, None) => {
                tree.require_parent(path)?;
                let content = Content::default();
                tree.files.insert(path.to_owned(), Arc::clone(&content));
                content
            }
            (_, None) => return Err(io::ErrorKind::NotFound.into()),
            (_, Some(content)) => Arc::clone(content),
        };
        Ok(Arc::new(MemoryFile { content, writable: mode != OpenMode::Read }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let tree = self.tree();
        tree.require_dir(dir)?;
        Ok(tree
            .files
            .keys()
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.tree().dirs.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        tree.require_parent(to)?;
        let content = tree.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        tree.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.tree().files.remove(path) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.tree().require_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.tree().require_dir(dir)?;
        // There is no limit here; the process' memory is watched elsewhere.
        Ok(u64::MAX)
    }
}

impl MemoryFile {
    fn require_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

/// An offset as an index; one that does not fit lies past any content.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl DiskFile for MemoryFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let from = content.get(index(offset)..).unwrap_or_default();
        let read = from.len().min(buf.len());
        buf[..read].copy_from_slice(&from[..read]);
        Ok(read)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.require_writable()?;
        let start = index(offset);
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        Ok(content.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.require_writable()?;
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        content.resize(index(len), 0);
        Ok(())
    }
}
