//! Segments of a log that goes on being written to, for a copy of it: opened once, so that they can be read whatever is
//! trimmed meanwhile, and read up to an LSN that was synced before. What lies behind that LSN may be in the middle of a
//! write and is not looked at.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode};

use super::batch::BATCH_HEADER_BYTES;
use super::file_log::list_segments;
use super::scan::Segment;
use super::segment::{SEGMENT_HEADER_BYTES, encode_header, segment_path};
use super::{LogError, Lsn};

/// A segment that stays readable, also when it was removed.
#[derive(Debug)]
pub struct HeldSegment {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    first_lsn: Lsn,
    /// The last LSN that is wanted of it.
    upto: Lsn,
    /// Whether all of it is wanted.
    whole: bool,
}

/// Opens the segments of the log in `dir` that hold the frames past `after` up to `upto`, which must be synced; at least
/// the one that comes after `upto`. None of them may be trimmed until this returns.
///
/// # Errors
/// [`LogError::Io`]; [`LogError::Corrupt`] if there is no such segment.
pub fn hold_segments(disk: &dyn Disk, dir: &Path, after: Lsn, upto: Lsn) -> Result<Vec<HeldSegment>, LogError> {
    let all: Vec<Lsn> = list_segments(disk, dir)?.into();
    let mut held = Vec::new();
    for (place, first_lsn) in all.iter().copied().enumerate().filter(|(_, first_lsn)| *first_lsn <= upto + 1) {
        let next = all.get(place + 1).copied().filter(|next| *next <= upto + 1);
        if next.is_some_and(|next| next - 1 <= after) {
            continue;
        }
        let path = segment_path(dir, first_lsn);
        let file = disk.open(&path, OpenMode::Read).map_err(LogError::io("open", &path))?;
        let last = next.map_or(upto, |next| next - 1);
        held.push(HeldSegment { file, path, first_lsn, upto: last, whole: next.is_some() });
    }
    match held.first() {
        Some(first) if first.first_lsn <= after + 1 => Ok(held),
        _ => Err(LogError::corrupt(dir, 0, format!("no segment holds frame {}", after + 1))),
    }
}

impl HeldSegment {
    /// The name of its file.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The length of its file, of which less may be wanted; 0 if that cannot be told.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    pub fn len(&self) -> u64 {
        self.file.len().unwrap_or(0)
    }

    /// Shows its bytes in pieces, from the header to the end of the batch with the last frame that is wanted, each batch
    /// verified before it is shown, with the LSN up to which it goes.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if the frames are not there; [`LogError::OtherVersion`], [`LogError::Io`]; whatever `show`
    /// answers.
    pub fn read<E: From<LogError>>(&self, mut show: impl FnMut(&[u8], Lsn) -> Result<(), E>) -> Result<(), E> {
        let segment = Segment { file: &*self.file, path: &self.path, first_lsn: self.first_lsn, last: !self.whole };
        let len = self.file.len().map_err(LogError::io("measure", &self.path))?;
        if let Err(why) = segment.check_header(len)? {
            return Err(LogError::corrupt(&self.path, 0, why).into());
        }
        // What is reserved in a header that was found sound is 0.
        show(&encode_header(self.first_lsn), self.first_lsn - 1)?;
        let (mut at, mut next) = (SEGMENT_HEADER_BYTES as u64, self.first_lsn);
        let mut body = Vec::new();
        while next <= self.upto {
            let corrupt = |why: String| LogError::corrupt(&self.path, at, why);
            let Some(header) = segment.batch_at(at, len, &mut body)? else {
                return Err(corrupt(format!("no valid batch, but frame {next} was synced")).into());
            };
            if header.first_lsn != next {
                return Err(corrupt(format!("frame {} stands where {next} should", header.first_lsn)).into());
            }
            next += Lsn::from(header.frames);
            let bytes: [u8; BATCH_HEADER_BYTES] = header.bytes();
            show(&bytes, next - 1)?;
            show(&body, next - 1)?;
            at += header.batch_len();
        }
        if self.whole && next - 1 != self.upto {
            return Err(LogError::corrupt(&self.path, at, "it goes on past the next segment's first frame").into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use crate::journal::{FileLog, FileLogOptions, Frame, LogStore, encode_frame};

    const DIR: &str = "/log";

    /// A log of segments that hold three batches of one frame each.
    fn log(disk: &Arc<dyn Disk>, frames: Lsn) -> FileLog {
        let mut frame = Vec::new();
        encode_frame(&mut frame, &Frame { lsn: 1, epoch: 1, kind: 1, version: 1, payload: &[7; 100] });
        let batch = (BATCH_HEADER_BYTES + frame.len()) as u64;
        let options = FileLogOptions { segment_bytes: SEGMENT_HEADER_BYTES as u64 + 3 * batch };
        let (mut log, _) =
            FileLog::open_without_thread(disk.clone(), Path::new(DIR), options, 0, &mut |_| Ok(())).unwrap();
        for lsn in 1..=frames {
            frame.clear();
            encode_frame(&mut frame, &Frame { lsn, epoch: 1, kind: 1, version: 1, payload: &[7; 100] });
            log.append(lsn, 1, 1, &frame).unwrap();
            log.sync().unwrap();
        }
        log
    }

    /// Copies what is held to another log, and reads the frames of that.
    fn copied(held: &[HeldSegment]) -> Result<Vec<Lsn>, LogError> {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        disk.create_dir_all(Path::new(DIR)).unwrap();
        for segment in held {
            let file = disk.open(&Path::new(DIR).join(segment.name()), OpenMode::CreateNew).unwrap();
            segment.read(|bytes, _| {
                file.write_all_at(file.len().unwrap(), bytes).unwrap();
                Ok::<_, LogError>(())
            })?;
        }
        let mut lsns = Vec::new();
        let after = held[0].first_lsn - 1;
        FileLog::open_without_thread(disk, Path::new(DIR), FileLogOptions { segment_bytes: 4_096 }, after, &mut |f| {
            lsns.push(f.lsn);
            Ok(())
        })?;
        Ok(lsns)
    }

    #[test]
    fn what_is_held_is_what_was_asked_for_whatever_is_trimmed_or_written_then() {
        for frames in 0..8 {
            for upto in 0..=frames {
                for after in 0..=upto {
                    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
                    let mut log = log(&disk, frames);
                    let held = hold_segments(&*disk, Path::new(DIR), after, upto).unwrap();
                    log.trim(frames).unwrap();
                    // No segment more than is needed.
                    let first = held[0].first_lsn;
                    assert!(first <= after + 1 && held.get(1).is_none_or(|next| next.first_lsn > after + 1));
                    assert_eq!(copied(&held).unwrap(), (first..=upto).collect::<Vec<_>>(), "{after} {upto} {frames}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_there_or_is_damaged_is_told() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let mut log = log(&disk, 7);
        log.trim(4).unwrap();
        assert!(hold_segments(&*disk, Path::new(DIR), 2, 7).is_err(), "frame 3 was trimmed");
        let held = hold_segments(&*disk, Path::new(DIR), 3, 7).unwrap();
        let file = disk.open(&segment_path(Path::new(DIR), 4), OpenMode::ReadWrite).unwrap();
        file.write_all_at(SEGMENT_HEADER_BYTES as u64 + 60, b"x").unwrap();
        let told = copied(&held).unwrap_err().to_string();
        assert!(told.contains("frame 4 was synced"), "{told}");
    }
}
