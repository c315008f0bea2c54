//! Data that another version of the program made: nothing is wrong with it, but this one cannot read it. Told before
//! anything else is said of it, or it would be called damaged, and a repair would cut it out.

use std::fmt::Display;
use std::path::Path;

use crate::cold::ColdError;
use crate::disk::Disk;
use crate::domain::{CodecError, EVENT_VERSION, Record, decode, is_known};
use crate::journal::{Frame, LogError, decode_frames, foreign_segment};
use crate::snapshot::{SnapshotError, foreign_snapshot, list_snapshots, read_snapshot};

use super::OpenError;
use super::chunks;

/// A snapshot or a segment of another version, by their headers alone, and what says so. What cannot be read is passed
/// over: whoever reads all of it will tell.
pub(super) fn other_version(disk: &dyn Disk, dir: &Path) -> Option<String> {
    if let Some((path, why)) = foreign_segment(disk, &dir.join("journal")) {
        return Some(format!("{}: {why}", path.display()));
    }
    list_snapshots(disk, dir).unwrap_or_default().into_iter().find_map(|(_, path)| {
        let mut why = foreign_snapshot(disk, &path);
        let _ = read_snapshot(disk, &path, &mut |kind, payload| {
            why = why.take().or(chunks::other_version(kind, payload));
            Err(SnapshotError::Visit("the first chunk is enough".to_owned()))
        });
        why.map(|why| format!("{}: {why}", path.display()))
    })
}

/// What this program does not know of an event: its kind, its version, or a mark in it. The frame is sound: its checksum
/// is right. It decodes the event, so it is asked only of one that did not decode.
pub(super) fn other_event(frame: &Frame<'_>) -> Option<String> {
    let Frame { lsn, kind, version, .. } = *frame;
    if version != EVENT_VERSION {
        return Some(format!("event {lsn} is of version {version}, {EVENT_VERSION} is known"));
    }
    if !is_known(kind, version) {
        return Some(format!("event {lsn} is of kind {kind}, which is not known"));
    }
    match decode(kind, version, frame.payload) {
        Err(error @ CodecError::Unknown(_)) => Some(format!("event {lsn}: {error}")),
        _ => None,
    }
}

/// Why an event or a row is not taken, whatever file it is in.
pub(super) enum Untaken {
    OtherVersion(String),
    Other(String),
}

impl Untaken {
    /// Of this frame, which did not decode or could not be applied.
    pub(super) fn event(frame: &Frame<'_>, error: &dyn Display) -> Self {
        match other_event(frame) {
            Some(what) => Untaken::OtherVersion(what),
            None => Untaken::Other(format!("event {}: {error}", frame.lsn)),
        }
    }
}

impl From<String> for Untaken {
    fn from(why: String) -> Self {
        Untaken::Other(why)
    }
}

impl From<Untaken> for LogError {
    fn from(why: Untaken) -> Self {
        match why {
            Untaken::OtherVersion(what) => LogError::OtherVersion(what),
            Untaken::Other(why) => LogError::Visit(why),
        }
    }
}

impl From<Untaken> for SnapshotError {
    fn from(why: Untaken) -> Self {
        match why {
            Untaken::OtherVersion(what) => SnapshotError::OtherVersion(what),
            Untaken::Other(why) => SnapshotError::Visit(why),
        }
    }
}

/// The event of a sound frame.
pub(super) fn record(frame: &Frame<'_>) -> Result<Record, Untaken> {
    decode(frame.kind, frame.version, frame.payload).map_err(|error| Untaken::event(frame, &error))
}

/// Shows the events of a snapshot's chunk.
pub(super) fn each_record(frames: &[u8], visit: &mut dyn FnMut(&Record)) -> Result<(), SnapshotError> {
    for frame in decode_frames(frames) {
        visit(&record(&frame.map_err(|error| error.to_string())?)?);
    }
    Ok(())
}

/// Why a file of redb cannot be opened.
pub(super) fn cold(file: &str, error: &ColdError) -> OpenError {
    match error {
        ColdError::OtherVersion { .. } => OpenError::OtherVersion(format!("{file}: {error}")),
        error => OpenError::Damaged(format!("{file}: {error}")),
    }
}
