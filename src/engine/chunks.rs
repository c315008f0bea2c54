//! What is in the chunks of a snapshot file. The only place that writes and reads them: the walk beside the traffic,
//! the loader and recovery all come here, so the format exists once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{Blob, Millis, Order, OrderId, encode_row};
use crate::snapshot::SnapshotError;

/// Chunk kinds of the file.
pub(super) mod chunk {
    pub(in crate::engine) const HEADER: u8 = 1;
    pub(in crate::engine) const ACCOUNTS: u8 = 2;
    pub(in crate::engine) const STORES: u8 = 3;
    pub(in crate::engine) const ORDERS: u8 = 4;
    pub(in crate::engine) const EVENTS: u8 = 5;
    pub(in crate::engine) const AT_REST: u8 = 6;
}

/// Rows that one chunk holds.
pub(super) const CHUNK_ROWS: usize = 512;

/// Bytes after which a chunk is full before it has that many rows.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

const FORMAT: &str = "bookstore snapshot";
const VERSION: u32 = 4;

/// The file's first chunk, a map with names, so that the file explains itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) format: String,
    pub(crate) version: u32,
    /// The journal's epoch when it was taken; 0 if there was no journal yet.
    pub(crate) epoch: u32,
    /// Engine time when the walk began, in ms since the Unix epoch.
    pub(crate) taken_ms: u64,
}

/// What the file of orders at rest had when the snapshot was published. Orders that are not in the snapshot are there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AtRest {
    /// Rows written so far, overwritten ones included.
    pub(crate) written: u64,
}

/// What stands in a chunk.
pub(super) enum Part<'a> {
    Header(Header),
    /// User id and row.
    Account(Box<str>, Box<[u8]>),
    /// Store id and row.
    Store(Arc<str>, Box<[u8]>),
    Order(OrderId, Order),
    /// Journal frames.
    Events(&'a [u8]),
    /// What the snapshot relies on beside it.
    AtRest(AtRest),
}

impl Part<'_> {
    pub(super) fn is_row(&self) -> bool {
        matches!(self, Part::Account(..) | Part::Store(..) | Part::Order(..))
    }
}

/// The payload of the first chunk.
#[expect(clippy::expect_used, reason = "numbers and a short text always encode into memory")]
pub(super) fn header(epoch: u32, taken_ms: Millis) -> Vec<u8> {
    let header = Header { format: FORMAT.into(), version: VERSION, epoch, taken_ms };
    rmp_serde::to_vec_named(&header).expect("plain data always encodes into memory")
}

/// The payload of the chunk about orders at rest.
#[expect(clippy::expect_used, reason = "a number always encodes into memory")]
pub(super) fn at_rest(written: u64) -> Vec<u8> {
    rmp_serde::to_vec_named(&AtRest { written }).expect("plain data always encodes into memory")
}

/// Adds an account's or a store's row to a chunk.
pub(super) fn put_named(chunk: &mut Vec<u8>, name: Option<&str>, row: Box<[u8]>) {
    chunk.extend(encode_row(&(name.unwrap_or_default(), Blob(row))));
}

/// Adds an order's row to a chunk.
pub(super) fn put_order(chunk: &mut Vec<u8>, id: OrderId, order: &Order) {
    chunk.extend(encode_row(&(id, order)));
}

/// Shows what a chunk holds, in order. A kind that is not known is of another version.
pub(super) fn read(
    kind: u8,
    payload: &[u8],
    take: &mut dyn FnMut(Part<'_>) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    match kind {
        chunk::HEADER => {
            if let Some(what) = other_version(kind, payload) {
                return Err(SnapshotError::OtherVersion(what));
            }
            take(Part::Header(read_header(payload)?))
        }
        chunk::ACCOUNTS => each(payload, |(name, Blob(row))| take(Part::Account(name, row))),
        chunk::STORES => each(payload, |(name, Blob(row))| take(Part::Store(name, row))),
        chunk::ORDERS => each(payload, |(id, order)| take(Part::Order(id, order))),
        chunk::EVENTS => take(Part::Events(payload)),
        chunk::AT_REST => take(Part::AtRest(rmp_serde::from_slice(payload).map_err(|error| error.to_string())?)),
        _ => Err(SnapshotError::OtherVersion(format!("it has a chunk of kind {kind}, which is not known"))),
    }
}

fn read_header(payload: &[u8]) -> Result<Header, String> {
    let header: Header = rmp_serde::from_slice(payload).map_err(|error| format!("the header: {error}"))?;
    if header.format != FORMAT || header.version != VERSION {
        return Err(format!("a {:?} of version {}, not of version {VERSION}", header.format, header.version));
    }
    Ok(header)
}

/// What the first chunk says of its version, if that is another one than this program knows.
pub(super) fn other_version(kind: u8, payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        format: String,
        version: u32,
    }
    let named: Named = rmp_serde::from_slice(payload).ok().filter(|_| kind == chunk::HEADER)?;
    let is_other = named.format == FORMAT && named.version != VERSION;
    is_other.then(|| format!("a {FORMAT:?} of version {}, {VERSION} is known", named.version))
}

/// Decodes the MessagePack values that a chunk holds one after the other.
fn each<T: for<'de> Deserialize<'de>>(
    payload: &[u8],
    mut take: impl FnMut(T) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let mut rest = std::io::Cursor::new(payload);
    while (rest.position() as usize) < payload.len() {
        take(rmp_serde::from_read(&mut rest).map_err(|error| error.to_string())?)?;
    }
    Ok(())
}
