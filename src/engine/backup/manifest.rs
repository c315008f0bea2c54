//! What a backup says of itself: a file that is written last, so that a backup without it was not finished.
//!
//! It is JSON. Its last line but one is a checksum (BLAKE3) of all that stands before that line, in every version, so that
//! a damaged one is not taken for another version's.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Value, json};

use super::BackupError;
use crate::disk::{Disk, OpenMode};
use crate::journal::Lsn;

/// Its name.
pub(crate) const MANIFEST: &str = "backup.json";

/// A backup has a file of this name until it is finished. No engine opens a directory that has it.
pub(crate) const UNFINISHED: &str = "backup.unfinished";

const FORMAT: &str = "bookstore backup";
/// Any change of what is in the file, or of what a backup holds, makes it another one.
const VERSION: u64 = 1;

/// A manifest is some hundred bytes for each file, of which there are few.
const BYTES_MAX: u64 = 64 << 20;

const CHECKSUM: &str = "  \"checksum\": \"";
const END: &str = "\"\n}\n";

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackupFile {
    /// Its path below the backup.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) hash: blake3::Hash,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The newest event.
    pub(crate) lsn: Lsn,
    /// When it was begun, in ms since the Unix epoch.
    pub(crate) made_ms: u64,
    pub(crate) files: Vec<BackupFile>,
}

impl Manifest {
    /// Sum of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    pub(super) fn encode(&self) -> String {
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|file| json!({"name": file.name, "bytes": file.bytes, "blake3": file.hash.to_hex().as_str()}))
            .collect();
        let body = json!({
            "format": FORMAT,
            "version": VERSION,
            "program": env!("CARGO_PKG_VERSION"),
            "lsn": self.lsn,
            "made_ms": self.made_ms,
            "files": files,
        });
        let body = format!("{body:#}");
        let body = format!("{},\n", body.trim_end_matches("\n}"));
        let checksum = blake3::hash(body.as_bytes());
        format!("{body}{CHECKSUM}{}{END}", checksum.to_hex())
    }

    /// Reads the manifest of the backup in `dir`.
    ///
    /// # Errors
    /// [`BackupError::NoBackup`] if there is none or the backup was not finished, [`BackupError::OtherVersion`],
    /// [`BackupError::Damaged`], [`BackupError::Io`].
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, BackupError> {
        let path = dir.join(MANIFEST);
        let names = disk.list(dir).map_err(|source| match source.kind() {
            ErrorKind::NotFound => BackupError::NoBackup { dir: dir.to_path_buf(), why: "there is no such directory" },
            _ => BackupError::io("list", dir)(source),
        })?;
        let no_backup = |why| Err(BackupError::NoBackup { dir: dir.to_path_buf(), why });
        if names.iter().any(|name| name == UNFINISHED) {
            return no_backup("it was not finished: remove it and make another one");
        }
        if !names.iter().any(|name| name == MANIFEST) {
            return no_backup("it has no backup.json");
        }
        let file = disk.open(&path, OpenMode::Read).map_err(BackupError::io("open", &path))?;
        let len = file.len().map_err(BackupError::io("measure", &path))?;
        let damaged = |why: &str| BackupError::Damaged(format!("{}: {why}", path.display()));
        if len > BYTES_MAX {
            return Err(damaged("far longer than it can be"));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(0, &mut bytes).map_err(BackupError::io("read", &path))?;
        let text = String::from_utf8(bytes).map_err(|_| damaged("not text"))?;
        Self::decode(&text).map_err(|wrong| match wrong {
            Wrong::Damaged(why) => damaged(why),
            Wrong::OtherVersion(found) => BackupError::OtherVersion(format!(
                "{}: a backup of version {found}, {VERSION} is known",
                path.display()
            )),
        })
    }

    fn decode(text: &str) -> Result<Self, Wrong> {
        let at = text.rfind(CHECKSUM).ok_or(Wrong::Damaged("it has no checksum"))?;
        let (body, end) = text.split_at(at);
        let checksum = blake3::hash(body.as_bytes());
        if end != format!("{CHECKSUM}{}{END}", checksum.to_hex()) {
            return Err(Wrong::Damaged("its checksum is wrong"));
        }
        let value: Value = serde_json::from_str(text).map_err(|_| Wrong::Damaged("not JSON"))?;
        if value["format"] != FORMAT {
            return Err(Wrong::Damaged("not that of a backup"));
        }
        if value["version"] != VERSION {
            return Err(Wrong::OtherVersion(value["version"].to_string()));
        }
        let number = |value: &Value| value.as_u64().ok_or(Wrong::Damaged("a number is missing"));
        let files = value["files"].as_array().ok_or(Wrong::Damaged("it names no files"))?;
        let files = files.iter().map(|file| {
            let name = file["name"].as_str().filter(|name| is_name(name)).ok_or(Wrong::Damaged("a wrong name"))?;
            let hash = file["blake3"].as_str().and_then(|hex| blake3::Hash::from_hex(hex).ok());
            let hash = hash.ok_or(Wrong::Damaged("a hash is missing"))?;
            Ok(BackupFile { name: name.to_owned(), bytes: number(&file["bytes"])?, hash })
        });
        Ok(Manifest {
            files: files.collect::<Result<_, _>>()?,
            lsn: number(&value["lsn"])?,
            made_ms: number(&value["made_ms"])?,
        })
    }
}

enum Wrong {
    Damaged(&'static str),
    OtherVersion(String),
}

/// Whether a file of a backup may have this name: nothing is ever written elsewhere because a manifest says so.
pub(super) fn is_name(name: &str) -> bool {
    let numbered = |name: &str, suffix: &str| {
        let digits = name.strip_suffix(suffix).unwrap_or_default();
        digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    matches!(name, "documents.redb" | "orders.redb" | "token.key")
        || numbered(name, ".snap")
        || name.strip_prefix("journal/").is_some_and(|name| numbered(name, ".seg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = |name: &str, bytes| BackupFile { name: name.to_owned(), bytes, hash: blake3::hash(name.as_bytes()) };
        let files = vec![file("00000000000000000042.snap", 7), file("journal/00000000000000000040.seg", 32)];
        Manifest { lsn: 44, made_ms: 1_700_000_000_000, files }
    }

    #[test]
    fn what_is_written_is_read_and_every_flipped_bit_is_noticed() {
        let text = manifest().encode();
        let read = Manifest::decode(&text).unwrap_or_else(|_| panic!("{text}"));
        assert_eq!(read, manifest());
        assert_eq!(read.bytes(), 39);
        assert!(serde_json::from_str::<Value>(&text).unwrap()["checksum"].is_string());
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let flipped = String::from_utf8(bytes).unwrap();
                assert!(matches!(Manifest::decode(&flipped), Err(Wrong::Damaged(_))), "{at} {bit}");
            }
            assert!(Manifest::decode(&text[..at]).is_err());
        }
    }

    #[test]
    fn a_later_version_is_no_damage() {
        let text = manifest().encode();
        let (body, _) = text.split_once(CHECKSUM).unwrap();
        let body = body.replace("\"version\": 1", "\"version\": 2, \"more\": []");
        let later = format!("{body}{CHECKSUM}{}{END}", blake3::hash(body.as_bytes()).to_hex());
        assert!(matches!(Manifest::decode(&later), Err(Wrong::OtherVersion(found)) if found == "2"));
    }

    #[test]
    fn only_our_names_are_names() {
        assert!(is_name("orders.redb") && is_name("journal/00000000000000000001.seg"));
        for other in ["../orders.redb", "/etc/passwd", "lock", "journal/../00000000000000000001.seg", "42.snap", ""] {
            assert!(!is_name(other), "{other}");
        }
    }
}
