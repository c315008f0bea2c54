//! The headers inside a snapshot file.

/// The longest payload of a chunk, in bytes; checked before anything is allocated.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(super) const FILE_HEADER_BYTES: usize = 16;
pub(super) const CHUNK_HEADER_BYTES: usize = 16;
/// The kind of the end chunk; callers may use all others.
pub(super) const END_KIND: u8 = u8::MAX;

const MAGIC: [u8; 8] = *b"BKSTSNP\0";
const VERSION: u32 = 1;
const END_FIXED_BYTES: usize = 28;

pub(super) fn encode_file_header() -> [u8; FILE_HEADER_BYTES] {
    let mut bytes = [0; FILE_HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

pub(super) fn check_file_header(bytes: &[u8; FILE_HEADER_BYTES]) -> Result<(), String> {
    match version_of(bytes) {
        Some(VERSION) => Ok(()),
        Some(other) => Err(format!("snapshot of version {other}, {VERSION} is known")),
        None => Err("not a snapshot header".to_owned()),
    }
}

/// The version that a sound header names.
fn version_of(bytes: &[u8; FILE_HEADER_BYTES]) -> Option<u32> {
    (bytes[..8] == MAGIC && u32_at(bytes, 12) == crc32fast::hash(&bytes[..12])).then(|| u32_at(bytes, 8))
}

/// What is wrong with the file's version, if its header is sound and names another one.
pub(super) fn other_version(bytes: &[u8; FILE_HEADER_BYTES]) -> Option<String> {
    version_of(bytes).filter(|version| *version != VERSION).and_then(|_| check_file_header(bytes).err())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    pub(super) len: u32,
    pub(super) index: u32,
    crc: u32,
    pub(super) kind: u8,
    reserved: [u8; 3],
}

impl ChunkHeader {
    pub(super) fn new(index: u32, kind: u8, payload: &[u8]) -> Self {
        let mut header = Self {
            // Callers check the length against `CHUNK_BYTES_MAX`.
            len: payload.len() as u32,
            index,
            crc: 0,
            kind,
            reserved: [0; 3],
        };
        header.crc = header.checksum(payload);
        header
    }

    pub(super) fn encode(&self) -> [u8; CHUNK_HEADER_BYTES] {
        let mut bytes = [0; CHUNK_HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.index.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.crc.to_le_bytes());
        bytes[12] = self.kind;
        bytes[13..].copy_from_slice(&self.reserved);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; CHUNK_HEADER_BYTES]) -> Self {
        Self {
            len: u32_at(bytes, 0),
            index: u32_at(bytes, 4),
            crc: u32_at(bytes, 8),
            kind: bytes[12],
            reserved: [bytes[13], bytes[14], bytes[15]],
        }
    }

    pub(super) fn matches(&self, payload: &[u8]) -> bool {
        self.checksum(payload) == self.crc
    }

    /// What is reserved is 0 in all that this version writes.
    pub(super) fn is_known(&self) -> bool {
        self.reserved == [0; 3]
    }

    fn checksum(&self, payload: &[u8]) -> u32 {
        let header = self.encode();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header[..8]);
        hasher.update(&header[12..]);
        hasher.update(payload);
        hasher.finalize()
    }
}

/// What the end chunk says of all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    pub(super) crc: u32,
    pub(super) final_lsn: u64,
}

impl End {
    pub(super) fn encode(&self, end_payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(END_FIXED_BYTES + end_payload.len());
        bytes.extend_from_slice(&self.chunks.to_le_bytes());
        bytes.extend_from_slice(&self.bytes.to_le_bytes());
        bytes.extend_from_slice(&self.crc.to_le_bytes());
        bytes.extend_from_slice(&self.final_lsn.to_le_bytes());
        bytes.extend_from_slice(end_payload);
        bytes
    }

    /// The end and the caller's part of its payload.
    pub(super) fn decode(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (fixed, end_payload) = payload.split_first_chunk::<END_FIXED_BYTES>()?;
        let end = Self {
            chunks: u64_at(fixed, 0),
            bytes: u64_at(fixed, 8),
            crc: u32_at(fixed, 16),
            final_lsn: u64_at(fixed, 20),
        };
        Some((end, end_payload))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}
