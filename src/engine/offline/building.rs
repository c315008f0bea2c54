//! A data directory while it is made. One that is to be made is made beside its place, under a name that says so, and
//! renamed when it is whole. One that is there and empty is filled where it is: it may be a disk of its own, which cannot be
//! renamed, or the only place that may be written to. Either is marked by a file [`UNFINISHED`], which goes last; no
//! engine opens a directory that has it.
//!
//! Whoever makes the directory holds a lock on the mark. So what a process has left that died is told from what is being
//! made, and cleared away.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::disk::RealDisk;
use crate::engine::backup::{UNFINISHED, make_dirs};

const MARK: &[u8] =
    b"This data directory is being made, or was not finished: it is of no use. Make it again, which clears it first.\n";

/// What a new file system has at its top.
const LOST_AND_FOUND: &str = "lost+found";

/// Dropping it unfinished removes what was made.
#[derive(Debug)]
pub(super) struct Building {
    /// Where it is made.
    pub(super) dir: PathBuf,
    target: PathBuf,
    /// Whether `target` was there before, so that it stays.
    in_place: bool,
    /// Open for its lock.
    _mark: File,
    finished: bool,
}

/// What failed, and the system's answer.
pub(super) type Failed = (String, io::Error);

fn failed(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Failed + use<> {
    let what = format!("{what} {}", path.display());
    move |error| (what, error)
}

impl Building {
    /// Begins to make `target`, which must not exist or be an empty directory. `doing` is what is done meanwhile, for
    /// errors: `load`.
    pub(super) fn begin(target: &Path, doing: &str) -> Result<Building, Failed> {
        let into = |path: &Path| failed(&format!("{doing} into"), path);
        let (target, in_place) = match fs::canonicalize(target) {
            Ok(target) => (target, true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (target.to_path_buf(), false),
            Err(error) => return Err(failed("look into", target)(error)),
        };
        let dir = match in_place {
            true => target.clone(),
            false => {
                let mut name = std::ffi::OsString::from(".");
                let no_name = || into(&target)(io::Error::other("that is not the name of a directory"));
                name.push(target.file_name().ok_or_else(no_name)?);
                name.push(".unfinished");
                let dir = target.with_file_name(name);
                make_dirs(&RealDisk, &dir).map_err(failed("create", &dir))?;
                dir
            }
        };
        let left = is_left_over(&dir).map_err(into(&dir))?;
        let mark = mark(&dir).map_err(into(&dir))?;
        // It may have been filled meanwhile.
        if !left && !others(&dir).map_err(into(&dir))?.is_empty() {
            let _ = fs::remove_file(dir.join(UNFINISHED));
            return Err(into(&dir)(not_empty()));
        }
        let building = Building { dir, target, in_place, _mark: mark, finished: false };
        clear(&building.dir).map_err(failed("clear", &building.dir))?;
        sync(&building.dir)?;
        Ok(building)
    }

    /// Gives the directory its name, and takes the mark away. Every file in it is synced.
    pub(super) fn finish(mut self) -> Result<PathBuf, Failed> {
        sync(&self.dir)?;
        if !self.in_place {
            // An empty directory of that name is replaced; one that was filled meanwhile is not.
            let rename = fs::rename(&self.dir, &self.target);
            rename.map_err(|error| (format!("rename {} to {}", self.dir.display(), self.target.display()), error))?;
            self.dir.clone_from(&self.target);
            sync(parent(&self.target))?;
        }
        let mark = self.dir.join(UNFINISHED);
        fs::remove_file(&mark).map_err(failed("remove", &mark))?;
        self.finished = true;
        sync(&self.dir)?;
        Ok(self.target.clone())
    }

    /// Removes what was made, the mark last.
    fn remove(&self) -> io::Result<()> {
        clear(&self.dir)?;
        fs::remove_file(self.dir.join(UNFINISHED))?;
        if self.in_place { Ok(()) } else { fs::remove_dir(&self.dir) }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = self.remove()
        {
            tracing::warn!(%error, dir = %self.dir.display(), "an unfinished data directory could not be removed");
        }
    }
}

fn not_empty() -> io::Error {
    io::Error::new(io::ErrorKind::DirectoryNotEmpty, "it exists and is not empty; name a directory that is to be made")
}

/// What is in it, but for the mark.
fn others(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != UNFINISHED && name != LOST_AND_FOUND {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether there is something in it that was being made when its process died. An error if it is anything else.
fn is_left_over(dir: &Path) -> io::Result<bool> {
    let empty = others(dir)?.is_empty();
    match fs::read(dir.join(UNFINISHED)) {
        Ok(mark) if mark == MARK || empty && MARK.starts_with(&mark) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound && empty => Ok(false),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // A backup that was not finished is somebody else's.
        _ => Err(not_empty()),
    }
}

/// Marks the directory, and locks the mark.
fn mark(dir: &Path) -> io::Result<File> {
    let busy = || io::Error::other("another process is making it: wait for its end");
    let path = dir.join(UNFINISHED);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Whoever had the lock may have finished since this was opened.
    let (ours, there) = (file.metadata()?, fs::metadata(&path));
    if !there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
        return Err(busy());
    }
    file.write_all_at(MARK, 0)?;
    file.sync_all()?;
    Ok(file)
}

fn clear(dir: &Path) -> io::Result<()> {
    for path in others(dir)? {
        match path.symlink_metadata()?.is_dir() {
            true => fs::remove_dir_all(&path)?,
            false => fs::remove_file(&path)?,
        }
    }
    Ok(())
}

fn sync(dir: &Path) -> Result<(), Failed> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
