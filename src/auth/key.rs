//! The key that signs tokens: 32 random bytes in a file that only its owner may read.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{AuthError, random};

/// The length of the key, and of its file.
pub const TOKEN_KEY_BYTES: usize = 32;

/// The key that signs and verifies tokens. Who has it can log in as anybody.
#[derive(Clone)]
pub struct TokenKey([u8; TOKEN_KEY_BYTES]);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

impl TokenKey {
    /// A key of given bytes, for an engine without a data directory.
    pub fn from_bytes(bytes: [u8; TOKEN_KEY_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; TOKEN_KEY_BYTES] {
        &self.0
    }

    /// Reads the key, or makes a new one if the file does not exist. Blocks on the disk.
    ///
    /// The new file appears whole and durable under its name or not at all (temporary file, sync,
    /// rename, directory sync), with mode 0600. The caller holds the data directory's lock.
    ///
    /// # Errors
    /// [`AuthError::KeyFile`] when the system refuses, [`AuthError::KeyUnusable`] when the file
    /// has another length or is not a file, [`AuthError::KeyOpen`] when others may read it; [`AuthError::Password`].
    pub fn load_or_create(path: &Path) -> Result<Self, AuthError> {
        match File::open(path) {
            Ok(file) => Self::read(file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self(random()?);
                key.write(path).map_err(|source| AuthError::KeyFile { path: path.to_owned(), source })?;
                Ok(key)
            }
            Err(source) => Err(AuthError::KeyFile { path: path.to_owned(), source }),
        }
    }

    /// Whether the key, if there is one, could be read and used. Makes none.
    ///
    /// # Errors
    /// As [`TokenKey::load_or_create`].
    pub fn check(path: &Path) -> Result<(), AuthError> {
        match File::open(path) {
            Ok(file) => Self::read(file, path).map(drop),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(AuthError::KeyFile { path: path.to_owned(), source }),
        }
    }

    fn read(mut file: File, path: &Path) -> Result<Self, AuthError> {
        let unusable = |why: String| AuthError::KeyUnusable { path: path.to_owned(), why };
        let failed = |source| AuthError::KeyFile { path: path.to_owned(), source };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(unusable("not a regular file".to_owned()));
        }
        if metadata.len() != TOKEN_KEY_BYTES as u64 {
            let bytes = metadata.len();
            return Err(unusable(format!(
                "{bytes} bytes long, not {TOKEN_KEY_BYTES}; put the right file in its place"
            )));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(AuthError::KeyOpen { path: path.to_owned(), mode });
        }
        let mut key = [0; TOKEN_KEY_BYTES];
        file.read_exact(&mut key).map_err(failed)?;
        Ok(Self(key))
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let temporary = temporary_beside(path);
        // A crash may have left one; it was never the key, because the rename did not happen.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&self.0)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory)?.sync_all()
    }
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_key_is_kept_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.key");
        let key = TokenKey::load_or_create(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o600);
        assert_ne!(key.0, [0; 32]);
        assert_eq!(TokenKey::load_or_create(&path).unwrap().0, key.0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_temporary_file_of_a_crash_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.key");
        fs::write(temporary_beside(&path), b"torn").unwrap();
        let key = TokenKey::load_or_create(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), key.0);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.key");
        TokenKey::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = TokenKey::load_or_create(&path).unwrap_err();
            assert!(matches!(error, AuthError::KeyOpen { .. }), "{error}");
            assert!(error.to_string().contains(&format!("{mode:03o}")), "{error}");
        }
    }

    #[test]
    fn a_wrong_length_is_refused_and_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.key");
        for length in [0, 31, 33] {
            fs::write(&path, vec![7; length]).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let error = TokenKey::load_or_create(&path).unwrap_err();
            assert!(matches!(error, AuthError::KeyUnusable { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap().len(), length);
        }
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none/token.key");
        let error = TokenKey::load_or_create(&path).unwrap_err();
        assert!(matches!(error, AuthError::KeyFile { .. }));
        assert!(error.to_string().contains("none/token.key"));
    }

    #[test]
    fn debug_does_not_print_the_key() {
        assert_eq!(format!("{:?}", TokenKey::from_bytes([7; 32])), "TokenKey(..)");
    }
}
