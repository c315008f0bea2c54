//! One segment by itself, for tools that look into a log without opening it. Changes nothing.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, OpenMode};

use super::replay::Replay;
use super::scan::{Scanned, Segment};
use super::segment::{SEGMENT_HEADER_BYTES, decode_header, other_version, parse_name, segment_path};
use super::{Frame, LogError, Lsn, file_log};

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSummary {
    /// The frame that it begins with.
    pub first_lsn: Lsn,
    /// The frame that the next segment must begin with.
    pub next_lsn: Lsn,
    /// The epoch of its last frame; 0 if it has none.
    pub last_epoch: u32,
    /// Its frames.
    pub frames: u64,
    /// Where its valid batches end, in bytes.
    pub end: u64,
    /// Bytes behind that which are no valid batch and which the next open of the log would cut.
    pub cut_bytes: u64,
    /// The length of the file, zeros included.
    pub len: u64,
}

/// The segments of the log in `dir`, oldest first.
///
/// # Errors
/// [`LogError::Io`]; [`LogError::Corrupt`] for a file that pretends to be a segment.
pub fn list_segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, LogError> {
    Ok(file_log::list_segments(disk, dir)?.into_iter().map(|lsn| segment_path(dir, lsn)).collect())
}

/// About how many frames there are past `after` in the log of these segments, by their names alone: the last one is taken to
/// be as full as those before it. `None` if there are none before it.
pub fn expected_frames(segments: &[PathBuf], after: Lsn) -> Option<u64> {
    let first_lsn = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<Lsn>().ok();
    let (first, last) = (first_lsn(segments.first()?)?, first_lsn(segments.last()?)?);
    let full = last.checked_sub(first)? / (segments.len() as u64 - 1).max(1);
    (segments.len() > 1).then(|| (last + full - 1).saturating_sub(after.max(first - 1)))
}

/// The first segment in `dir` that another version of this program made, by its header, and what that says. What cannot
/// be read is passed over: whoever reads all of it will tell.
pub fn foreign_segment(disk: &dyn Disk, dir: &Path) -> Option<(PathBuf, String)> {
    let segments = list_segments(disk, dir).unwrap_or_default();
    segments.into_iter().find_map(|path| foreign_header(disk, &path).map(|why| (path, why)))
}

/// What the header of this segment says, if another version of this program made it.
pub fn foreign_header(disk: &dyn Disk, path: &Path) -> Option<String> {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    disk.open(path, OpenMode::Read).ok()?.read_exact_at(0, &mut header).ok()?;
    other_version(&header)
}

/// Reads one segment, batch by batch, and shows its frames in order, each verified before it is shown. `last` says that
/// it is the last one of its log, the only one whose end a crash can have torn.
///
/// # Errors
/// [`LogError::Corrupt`] for what no crash explains; what was shown before is sound. [`LogError::Io`], and whatever
/// `visit` answers.
pub fn read_segment(
    disk: &dyn Disk,
    path: &Path,
    last: bool,
    visit: &mut dyn FnMut(Frame<'_>) -> Result<(), LogError>,
) -> Result<SegmentSummary, LogError> {
    let file = disk.open(path, OpenMode::Read).map_err(LogError::io("open", path))?;
    let len = file.len().map_err(LogError::io("measure", path))?;
    let (dir, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().and_then(|name| name.to_str()));
    // A copy may bear any name; then its header tells.
    let first_lsn = match name.map(|name| parse_name(dir, name)) {
        Some(Ok(Some(lsn))) => lsn,
        _ => {
            let mut header = [0; SEGMENT_HEADER_BYTES];
            if len < header.len() as u64 {
                return Err(LogError::corrupt(path, 0, "shorter than a segment header"));
            }
            file.read_exact_at(0, &mut header).map_err(LogError::io("read", path))?;
            decode_header(&header).map_err(|why| LogError::corrupt(path, 0, why))?
        }
    };
    let mut replay = Replay::new(first_lsn.saturating_sub(1), visit);
    let Scanned { end, cut_bytes } = Segment { file: &*file, path, first_lsn, last }.scan(&mut replay)?;
    Ok(SegmentSummary {
        first_lsn,
        next_lsn: replay.next_lsn(),
        last_epoch: replay.last_epoch(),
        frames: replay.frames(),
        end,
        cut_bytes,
        len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_segment_is_taken_to_be_as_full_as_the_others() {
        let segments = |lsns: &[Lsn]| -> Vec<_> { lsns.iter().map(|lsn| segment_path(Path::new("j"), *lsn)).collect() };
        assert_eq!(expected_frames(&segments(&[]), 0), None);
        assert_eq!(expected_frames(&segments(&[5]), 0), None);
        assert_eq!(expected_frames(&segments(&[1, 11]), 0), Some(20));
        assert_eq!(expected_frames(&segments(&[101, 111, 121]), 0), Some(30));
        assert_eq!(expected_frames(&segments(&[101, 111, 121]), 120), Some(10));
        assert_eq!(expected_frames(&segments(&[101, 111, 121]), 500), Some(0));
    }
}
