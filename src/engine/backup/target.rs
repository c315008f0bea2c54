//! The directory that a backup is written to, and its files.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::BackupError;
use super::manifest::{BackupFile, MANIFEST, Manifest, UNFINISHED, is_name};
use crate::disk::{Disk, DiskFile, OpenMode};

/// Bytes that are read, and written, together.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// The file is synced whenever this much was written, so that the journal's sync never queues behind a gigabyte.
const SYNC_BYTES: u64 = 4 << 20;

const MARK: &[u8] =
    b"This backup is being made, or was not finished: it is of no use. Remove it and make another one.\n";

/// A directory in the making. Dropping it unfinished removes what was made; what cannot be removed is marked by a file
/// [`UNFINISHED`].
#[derive(Debug)]
pub(crate) struct Target {
    disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    /// Whether the directory was not there before.
    made: bool,
    pub(super) files: Vec<BackupFile>,
    finished: bool,
}

/// Where a name lies, or will: with what exists of its path taken as what it is, and `..` resolved, also behind what is
/// still to be made.
fn place(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut place = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => drop(place.pop()),
            part => place.push(part),
        }
        if let Ok(real) = place.canonicalize() {
            place = real;
        }
    }
    place
}

/// Whether `dir` is `outer` or below it, wherever links lead.
pub(crate) fn lies_in(dir: &Path, outer: &Path) -> bool {
    dir.starts_with(outer) || place(dir).starts_with(place(outer))
}

/// Makes a directory with its missing parents, whose names then survive a power loss.
pub(crate) fn make_dirs(disk: &dyn Disk, dir: &Path) -> std::io::Result<()> {
    let is_missing = |dir: &&Path| {
        let listed = disk.list(dir);
        !dir.as_os_str().is_empty() && listed.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    disk.create_dir_all(dir)?;
    let parent = |dir: &Path| dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map(Path::to_path_buf);
    missing.iter().rev().try_for_each(|made| disk.sync_dir(&parent(made).unwrap_or_else(|| PathBuf::from("."))))
}

impl Target {
    /// Begins in `dir`, which must not exist or be empty, and not be in the data directory.
    pub(crate) fn begin(disk: Arc<dyn Disk>, data: &Path, dir: &Path) -> Result<Self, BackupError> {
        let refuse = |why| Err(BackupError::Target { dir: dir.to_path_buf(), why });
        if lies_in(dir, data) {
            return refuse("it is in the data directory; name one that is elsewhere, best on another disk");
        }
        if !disk.is_vacant(dir).map_err(BackupError::io("look into", dir))? {
            return refuse("there is something in it; name a directory that is to be made");
        }
        let made = disk.list(dir).is_err();
        make_dirs(&*disk, dir).map_err(BackupError::io("create", dir))?;
        let mut mark = NewFile::create(&*disk, dir, UNFINISHED).inspect_err(|_| {
            // Only if it is empty: somebody else may have begun in it meanwhile.
            if made {
                let _ = disk.remove_dir(dir);
            }
        })?;
        // From here on it is ours, and goes with this.
        let target = Target { disk, dir: dir.to_path_buf(), made, files: Vec::new(), finished: false };
        mark.put(MARK)?;
        mark.finish()?;
        let journal = dir.join("journal");
        target.disk.create_dir_all(&journal).map_err(BackupError::io("create", &journal))?;
        target.sync_dir(&target.dir)?;
        Ok(target)
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Begins a file of the backup.
    pub(super) fn file(&self, name: &str) -> Result<NewFile, BackupError> {
        NewFile::create(&*self.disk, &self.dir, name)
    }

    /// Ends a file of the backup.
    pub(super) fn keep(&mut self, file: NewFile) -> Result<(), BackupError> {
        self.files.push(file.finish()?);
        Ok(())
    }

    /// Takes a file that somebody else made, and synced.
    pub(super) fn adopt(&mut self, name: &str, step: Step<'_>) -> Result<(), BackupError> {
        let path = self.dir.join(name);
        let file = self.disk.open(&path, OpenMode::Read).map_err(BackupError::io("open", &path))?;
        let (bytes, hash) = hash_of(&*file, &path, step)?;
        self.files.push(BackupFile { name: name.to_owned(), bytes, hash });
        Ok(())
    }

    /// Says what is in it, last of all.
    pub(super) fn finish(mut self, lsn: u64, made_ms: u64) -> Result<Manifest, BackupError> {
        let manifest = Manifest { lsn, made_ms, files: std::mem::take(&mut self.files) };
        self.sync_dir(&self.dir.join("journal"))?;
        let made = format!("{MANIFEST}.tmp");
        let mut file = NewFile::create(&*self.disk, &self.dir, &made)?;
        file.put(manifest.encode().as_bytes())?;
        file.finish()?;
        // The names of all other files first, and the mark last.
        self.sync_dir(&self.dir)?;
        let (made, path) = (self.dir.join(made), self.dir.join(MANIFEST));
        self.disk.rename(&made, &path).map_err(BackupError::io("rename", &made))?;
        self.sync_dir(&self.dir)?;
        let mark = self.dir.join(UNFINISHED);
        self.disk.remove(&mark).map_err(BackupError::io("remove", &mark))?;
        self.finished = true;
        self.sync_dir(&self.dir)?;
        Ok(manifest)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), BackupError> {
        self.disk.sync_dir(dir).map_err(BackupError::io("sync", dir))
    }

    /// Removes what was made; the mark goes last.
    fn remove(&self) -> std::io::Result<()> {
        let journal = self.dir.join("journal");
        let names = match self.disk.list(&journal) {
            // It never came so far.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            listed => listed?,
        };
        for name in names {
            if is_name(&format!("journal/{name}")) {
                self.disk.remove(&journal.join(name))?;
            }
        }
        for name in self.disk.list(&self.dir)? {
            let plain = name.strip_suffix(".tmp").unwrap_or(&name);
            if is_name(plain) || plain == MANIFEST {
                self.disk.remove(&self.dir.join(name))?;
            }
        }
        match self.disk.remove_dir(&journal) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match self.disk.remove(&self.dir.join(UNFINISHED)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if self.made { self.disk.remove_dir(&self.dir) } else { Ok(()) }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = self.remove()
        {
            tracing::warn!(%error, dir = %self.dir.display(), "an unfinished backup could not be removed");
        }
    }
}

/// Told of bytes that are done; an error ends the work.
pub(crate) type Step<'a> = &'a mut dyn FnMut(u64) -> Result<(), BackupError>;

/// Length and hash of a file.
pub(crate) fn hash_of(file: &dyn DiskFile, path: &Path, step: Step<'_>) -> Result<(u64, blake3::Hash), BackupError> {
    let mut hasher = blake3::Hasher::new();
    let bytes = each_piece(file, path, |piece, done| {
        hasher.update(piece);
        step(done)
    })?;
    Ok((bytes, hasher.finalize()))
}

/// Shows a file piece by piece, each with the bytes up to its end; gives the file's length.
pub(crate) fn each_piece(
    file: &dyn DiskFile,
    path: &Path,
    mut show: impl FnMut(&[u8], u64) -> Result<(), BackupError>,
) -> Result<u64, BackupError> {
    let len = file.len().map_err(BackupError::io("measure", path))?;
    let mut piece = Vec::new();
    let mut at = 0;
    while at < len {
        piece.resize((len - at).min(PIECE_BYTES as u64) as usize, 0);
        file.read_exact_at(at, &mut piece).map_err(BackupError::io("read", path))?;
        at += piece.len() as u64;
        show(&piece, at)?;
    }
    Ok(len)
}

/// A file that is written from its beginning to its end and hashed on the way.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    name: String,
    buffer: Vec<u8>,
    written: u64,
    synced: u64,
    hasher: blake3::Hasher,
}

impl NewFile {
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, name: &str) -> Result<Self, BackupError> {
        let path = dir.join(name);
        let file = disk.open(&path, OpenMode::CreateNew).map_err(BackupError::io("create", &path))?;
        let (name, hasher) = (name.to_owned(), blake3::Hasher::new());
        Ok(NewFile { file, path, name, buffer: Vec::new(), written: 0, synced: 0, hasher })
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.hasher.update(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<(), BackupError> {
        self.file.write_all_at(self.written, &self.buffer).map_err(BackupError::io("write", &self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written - self.synced >= SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), BackupError> {
        self.file.sync_data().map_err(BackupError::io("sync", &self.path))?;
        self.synced = self.written;
        Ok(())
    }

    /// Makes it durable, but for its name.
    pub(crate) fn finish(mut self) -> Result<BackupFile, BackupError> {
        self.write_out()?;
        self.sync()?;
        Ok(BackupFile { name: self.name, bytes: self.written, hash: self.hasher.finalize() })
    }
}
