//! Where it is measured.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::exit::Exit;

/// Threads of an engine that is gone may still write; what they make is removed, too.
const REMOVE_TIME_MAX: Duration = Duration::from_secs(5);

/// A directory of our own, removed in the end.
pub(super) struct WorkDir(PathBuf);

impl WorkDir {
    /// In a directory that is there.
    pub(super) fn within(parent: &Path) -> Result<Self, Exit> {
        let path = parent.join(format!("bookstore-bench-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| {
            Exit::failure(format!(
                "cannot make {}: {error}; name a directory on the disk to measure with --dir, in which you may write",
                path.display()
            ))
        })?;
        Ok(WorkDir(path))
    }

    /// On the disk of a data directory: beside it, or in it where a disk of its own is mounted, or where it would come to be.
    pub(super) fn beside(data: &Path) -> Result<Self, Exit> {
        let data = std::path::absolute(data).unwrap_or_else(|_| data.to_path_buf());
        let is_there = |path: &&Path| path.is_dir();
        let Some(nearest) = data.ancestors().find(is_there) else {
            return Err(Exit::failure(format!("{} leads nowhere; name a directory with --dir", data.display())));
        };
        match nearest.parent() {
            Some(parent) if nearest == data && is_one_disk(parent, nearest) => WorkDir::within(parent),
            _ => WorkDir::within(nearest),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Removes it with all that is in it.
    pub(super) fn remove(self) -> Result<(), Exit> {
        let began = Instant::now();
        loop {
            match fs::remove_dir_all(&self.0) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) if began.elapsed() > REMOVE_TIME_MAX => {
                    let path = self.0.display();
                    return Err(Exit::failure(format!("cannot remove {path}: {error}; remove it by hand")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

#[cfg(unix)]
fn is_one_disk(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let disk = |path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    disk(one) == disk(other)
}

#[cfg(not(unix))]
fn is_one_disk(_: &Path, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_beside_the_data_or_where_the_data_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let data = root.join("data");
        for (given, parent) in [(&data, &root), (&data.join("not/yet"), &root)] {
            let made = WorkDir::beside(given).unwrap();
            assert_eq!(made.path().parent(), Some(parent.as_path()), "{}", given.display());
            assert!(made.path().is_dir());
            made.remove().unwrap();
        }
        fs::create_dir(&data).unwrap();
        let made = WorkDir::beside(&data).unwrap();
        assert_eq!(made.path().parent(), Some(root.as_path()));
        fs::create_dir(made.path().join("inside")).unwrap();
        made.remove().unwrap();
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
        assert!(WorkDir::within(&root.join("none")).is_err_and(|exit| exit.why.contains("--dir")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_is_mounted_there_is_measured_and_not_the_one_around_it() {
        assert!(!is_one_disk(Path::new("/"), Path::new("/proc")));
        assert!(is_one_disk(Path::new("/"), Path::new("/")));
    }
}
