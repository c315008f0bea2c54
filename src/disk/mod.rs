//! The only way to the file system.
//!
//! Journal and snapshots reach their files through [`Disk`], so that tests can lose, tear and fail
//! any single operation. [`RealDisk`] is the machine's disk; [`MemoryDisk`] is a file system in
//! memory for engines that keep nothing; `OverlayDisk` shows another disk and keeps every change to itself.
//!
//! An engine on a disk of one's own making is opened with [`Storage::Disk`](crate::Storage::Disk); no file is locked
//! there, so whoever opens it sees to it that no second engine does. [`Disk`] and [`DiskFile`] may get new methods,
//! with a default body; their implementations are called from several threads at once and may block.
//!
//! What callers may assume of an implementation, and no more:
//! - Bytes written are read back at once, but survive a power loss only after `sync_data`.
//! - Bytes written and not synced may survive in part, in any order, sector by sector.
//! - A length that was set with `set_len` and not synced survives whole, or the one before it does; bytes that are
//!   written past the end bring their length with them.
//! - A name created, renamed or removed is there at once, but survives only after `sync_dir`.
//! - A rename replaces its target in one step: afterwards there is the old file or the new one.

mod memory;
mod overlay;
mod real;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use memory::MemoryDisk;
pub(crate) use overlay::OverlayDisk;
pub use real::RealDisk;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// To be read; it must exist.
    Read,
    /// To be read and written; it must exist.
    ReadWrite,
    /// Created empty, to be read and written; it must not exist.
    CreateNew,
}

/// A file system, reduced to what the engine needs of it.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Opens or creates a file.
    ///
    /// # Errors
    /// `NotFound` if it must exist and does not, `AlreadyExists` if it must not and does, and
    /// whatever the file system reports.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of the files directly in `dir`, in no particular order; directories are left out.
    ///
    /// # Errors
    /// Whatever the file system reports, `NotFound` included.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory and its missing parents; one that exists is fine.
    ///
    /// # Errors
    /// Whatever the file system reports.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Gives a file another name, replacing a file of that name.
    ///
    /// # Errors
    /// Whatever the file system reports; nothing was renamed then.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Handles that are open stay usable.
    ///
    /// # Errors
    /// Whatever the file system reports, `NotFound` included.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    ///
    /// # Errors
    /// Whatever the file system reports; what is durable is then unknown.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Whether there is nothing in `dir`, directories included, or no such directory.
    ///
    /// # Errors
    /// Whatever the file system reports, but `NotFound`.
    fn is_vacant(&self, dir: &Path) -> io::Result<bool> {
        match self.list(dir) {
            Ok(names) => Ok(names.is_empty()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Removes an empty directory. A disk that has no directories but those of its files need not do anything.
    ///
    /// # Errors
    /// Whatever the file system reports.
    fn remove_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Bytes that an unprivileged process can still write to the file system that holds `dir`.
    ///
    /// # Errors
    /// Whatever the file system reports.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file. All methods take an offset; there is no cursor.
pub trait DiskFile: Send + Sync + Debug {
    /// Reads at most `buf.len()` bytes and says how many; 0 is the end of the file.
    ///
    /// # Errors
    /// Whatever the file system reports.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes`, growing the file if needed.
    ///
    /// # Errors
    /// Whatever the file system reports; a part may have been written.
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content, and the length needed to read it, durable.
    ///
    /// # Errors
    /// Whatever the file system reports. After that nothing is known of the bytes written since the
    /// last success, and a second try proves nothing: the caller has to give up the file.
    fn sync_data(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// Whatever the file system reports.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is nothing in it.
    ///
    /// # Errors
    /// Whatever the file system reports.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// Whatever the file system reports.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Fills `buf` or fails.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before, and whatever the file system reports.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(offset + done as u64, &mut buf[done..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What both implementations must do alike.
    fn behaves_like_a_disk(disk: &dyn Disk, dir: &Path) {
        let dir = dir.join("a/b");
        assert_eq!(disk.list(&dir).unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.create_dir_all(&dir).unwrap();
        disk.create_dir_all(&dir).unwrap();
        assert!(disk.list(&dir).unwrap().is_empty());
        assert!(disk.list(dir.parent().unwrap()).unwrap().is_empty());

        let path = dir.join("one");
        assert_eq!(disk.open(&path, OpenMode::ReadWrite).unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = disk.open(&path, OpenMode::CreateNew).unwrap();
        assert!(file.is_empty().unwrap());
        assert_eq!(disk.open(&path, OpenMode::CreateNew).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        file.write_all_at(3, b"abc").unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), 6);
        let mut buf = [9; 6];
        file.read_exact_at(0, &mut buf).unwrap();
        assert_eq!(&buf, b"\0\0\0abc");
        assert_eq!(file.read_at(6, &mut buf).unwrap(), 0);
        assert_eq!(file.read_exact_at(1, &mut buf).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        file.set_len(4).unwrap();
        file.set_len(5).unwrap();
        file.read_exact_at(0, &mut buf[..5]).unwrap();
        assert_eq!(&buf[..5], b"\0\0\0a\0");
        let reader = disk.open(&path, OpenMode::Read).unwrap();
        assert!(reader.write_all_at(0, b"x").is_err(), "opened for reading");

        let other = dir.join("two");
        disk.open(&other, OpenMode::CreateNew).unwrap();
        disk.rename(&path, &other).unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), vec!["two".to_owned()]);
        assert_eq!(disk.open(&other, OpenMode::Read).unwrap().len().unwrap(), 5, "a rename replaces its target");
        disk.remove(&other).unwrap();
        assert_eq!(disk.remove(&other).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(file.len().unwrap(), 5, "an open file outlives its name");
        assert!(disk.free_bytes(&dir).unwrap() > 0);
    }

    #[test]
    fn the_real_disk_behaves() {
        let dir = tempfile::tempdir().unwrap();
        behaves_like_a_disk(&RealDisk, dir.path());
    }

    #[test]
    fn an_overlay_behaves() {
        behaves_like_a_disk(&OverlayDisk::new(Arc::new(MemoryDisk::new())), Path::new("/nowhere"));
    }

    #[test]
    fn the_memory_disk_behaves() {
        behaves_like_a_disk(&MemoryDisk::new(), Path::new("/nowhere"));
    }
}
