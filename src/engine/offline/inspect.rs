//! A journal segment or a snapshot, row by row. Never more of the file in memory than a batch or a chunk of it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, OpenMode, RealDisk};
use crate::domain::{Account, Order, OrderId, Persistent, Record, Store};
use crate::engine::chunks::{self, Header, Part};
use crate::engine::versions::{self, Untaken};
use crate::journal::{self, Frame, LogError, decode_frames};
use crate::snapshot::{SnapshotError, foreign_snapshot, read_snapshot};

/// What stands in a file.
pub(crate) enum Item {
    /// A snapshot's first chunk.
    Header(Header),
    /// A journaled event.
    Event { lsn: u64, epoch: u32, record: Record },
    /// An account's row with its user id.
    Account(Box<str>, Account),
    /// A store's row with its id.
    Store(Arc<str>, Store),
    /// An order's row.
    Order(OrderId, Order),
}

/// What the end of the file says.
pub(crate) enum Inspected {
    Segment {
        first_lsn: u64,
        frames: u64,
        /// Where the valid batches end.
        end: u64,
        /// Bytes behind that which a crash may have torn, if there is no later segment.
        cut_bytes: u64,
    },
    Snapshot {
        final_lsn: u64,
        chunks: u64,
    },
    /// Whoever was shown the items wanted no more.
    Stopped,
}

/// Why a file was not shown to its end. What was shown before is sound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error("neither a journal segment nor a snapshot")]
    Unknown,
    #[error("{0}")]
    Damaged(String),
    #[error("{0}")]
    Unreadable(String),
    #[error("made by another version of the program: {0}")]
    OtherVersion(String),
}

impl From<LogError> for InspectError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Io { .. } => InspectError::Unreadable(error.to_string()),
            LogError::OtherVersion(what) => InspectError::OtherVersion(what),
            error => InspectError::Damaged(error.to_string()),
        }
    }
}

impl From<SnapshotError> for InspectError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Io { .. } => InspectError::Unreadable(error.to_string()),
            SnapshotError::OtherVersion(what) => InspectError::OtherVersion(what),
            error => InspectError::Damaged(error.to_string()),
        }
    }
}

type Show<'a> = &'a mut dyn FnMut(Item) -> ControlFlow<()>;

/// What the readers take for an error of their visitor; it never comes out.
const STOPPED: &str = "stopped";

/// Shows what stands in a file.
pub(crate) fn inspect(path: &Path, show: Show<'_>) -> Result<Inspected, InspectError> {
    let unreadable = |error: std::io::Error| InspectError::Unreadable(format!("{}: {error}", path.display()));
    let file = RealDisk.open(path, OpenMode::Read).map_err(unreadable)?;
    let mut magic = [0; 8];
    let read = file.read_at(0, &mut magic).map_err(unreadable)?;
    drop(file);
    let mut stopped = false;
    let mut stoppable = |item: Item| {
        stopped = show(item).is_break();
        if stopped { Err(STOPPED.to_owned()) } else { Ok(()) }
    };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let inspected = match &magic[..read] {
        b"BKSTSEG\0" => segment(path, &mut stoppable),
        b"BKSTSNP\0" => snapshot(path, &mut stoppable),
        // A damaged beginning must not make the file look like one of somebody else.
        _ if name.ends_with(".seg") => segment(path, &mut stoppable),
        _ if name.ends_with(".snap") => snapshot(path, &mut stoppable),
        _ => return Err(InspectError::Unknown),
    };
    if stopped { Ok(Inspected::Stopped) } else { inspected }
}

type Visit<'a> = &'a mut dyn FnMut(Item) -> Result<(), String>;

fn segment(path: &Path, visit: Visit<'_>) -> Result<Inspected, InspectError> {
    if let Some(what) = journal::foreign_header(&RealDisk, path) {
        return Err(InspectError::OtherVersion(what));
    }
    let mut show = |frame: Frame<'_>| visit(event(&frame)?).map_err(LogError::Visit);
    let found = journal::read_segment(&RealDisk, path, is_last(path), &mut show)?;
    let (first_lsn, frames, end, cut_bytes) = (found.first_lsn, found.frames, found.end, found.cut_bytes);
    Ok(Inspected::Segment { first_lsn, frames, end, cut_bytes })
}

/// Whether no later segment stands beside it. Of a copy somewhere else nothing is known, so it may be the last.
fn is_last(path: &Path) -> bool {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let segments = journal::list_segments(&RealDisk, dir).unwrap_or_default();
    segments.last().is_none_or(|last| last.file_name() <= path.file_name())
}

fn event(frame: &Frame<'_>) -> Result<Item, Untaken> {
    Ok(Item::Event { lsn: frame.lsn, epoch: frame.epoch, record: versions::record(frame)? })
}

fn snapshot(path: &Path, visit: Visit<'_>) -> Result<Inspected, InspectError> {
    if let Some(what) = foreign_snapshot(&RealDisk, path) {
        return Err(InspectError::OtherVersion(what));
    }
    let mut show = |kind: u8, payload: &[u8]| {
        let mut show = |part: Part<'_>| -> Result<(), Untaken> {
            let item = match part {
                Part::Header(header) => Item::Header(header),
                Part::Account(name, row) => {
                    Item::Account(name, Account::decode(&row).map_err(|error| error.to_string())?)
                }
                Part::Store(name, row) => Item::Store(name, Store::decode(&row).map_err(|error| error.to_string())?),
                Part::Order(id, order) => Item::Order(id, order),
                Part::AtRest(_) => return Ok(()),
                Part::Events(frames) => {
                    return decode_frames(frames)
                        .try_for_each(|frame| Ok(visit(event(&frame.map_err(|error| error.to_string())?)?)?));
                }
            };
            Ok(visit(item)?)
        };
        chunks::read(kind, payload, &mut |part| Ok(show(part)?))
    };
    let found = read_snapshot(&RealDisk, path, &mut show)?;
    Ok(Inspected::Snapshot { final_lsn: found.final_lsn, chunks: found.chunks })
}
