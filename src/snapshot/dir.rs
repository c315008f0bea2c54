//! The directory of snapshots: names, what is there, what may go.

use std::path::{Path, PathBuf};

use crate::disk::Disk;

use super::{Lsn, SnapshotError};

const SUFFIX: &str = ".snap";
const TMP_SUFFIX: &str = ".snap.tmp";

/// Where the snapshot that ends with `lsn` is, or would be.
#[must_use]
pub fn snapshot_path(dir: &Path, lsn: Lsn) -> PathBuf {
    dir.join(format!("{lsn:020}{SUFFIX}"))
}

pub(super) fn tmp_path(dir: &Path, lsn: Lsn) -> PathBuf {
    dir.join(format!("{lsn:020}{TMP_SUFFIX}"))
}

/// The LSN in a published snapshot's file name.
pub(super) fn parse_name(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(SUFFIX)?;
    let ours = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if ours { digits.parse().ok() } else { None }
}

/// The published snapshots in `dir`, newest first. Whether they are sound is not looked at.
///
/// # Errors
/// [`SnapshotError::Io`].
pub fn list_snapshots(disk: &dyn Disk, dir: &Path) -> Result<Vec<(Lsn, PathBuf)>, SnapshotError> {
    let mut snapshots: Vec<_> =
        names(disk, dir)?.iter().filter_map(|name| Some((parse_name(name)?, dir.join(name)))).collect();
    snapshots.sort_unstable_by(|a, b| b.cmp(a));
    Ok(snapshots)
}

/// Removes what a crash left of snapshots that were being written. Only while none is.
///
/// # Errors
/// [`SnapshotError::Io`].
pub fn remove_leftovers(disk: &dyn Disk, dir: &Path) -> Result<(), SnapshotError> {
    for name in names(disk, dir)? {
        if name.ends_with(TMP_SUFFIX) {
            let path = dir.join(name);
            disk.remove(&path).map_err(SnapshotError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Removes all but the `keep` newest snapshots, oldest first, and gives the paths of the removed.
/// The caller has verified what he keeps.
///
/// # Errors
/// [`SnapshotError::Io`].
pub fn retain(disk: &dyn Disk, dir: &Path, keep: usize) -> Result<Vec<PathBuf>, SnapshotError> {
    let mut removed = Vec::new();
    for (_, path) in list_snapshots(disk, dir)?.into_iter().skip(keep).rev() {
        disk.remove(&path).map_err(SnapshotError::io("remove", &path))?;
        removed.push(path);
    }
    if !removed.is_empty() {
        disk.sync_dir(dir).map_err(SnapshotError::io("sync", dir))?;
    }
    Ok(removed)
}

fn names(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, SnapshotError> {
    disk.list(dir).map_err(SnapshotError::io("list", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_snapshots() {
        assert_eq!(parse_name("00000000000000000042.snap"), Some(42));
        for other in ["42.snap", "00000000000000000042.snap.tmp", "+0000000000000000042.snap", "README.md"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
