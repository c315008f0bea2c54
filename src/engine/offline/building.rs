//! A data directory while it is made: beside its place, under a name that says so, and renamed when it is whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Dropping it unfinished removes what was made.
#[derive(Debug)]
pub(super) struct Building {
    /// Where it is made.
    pub(super) dir: PathBuf,
    target: PathBuf,
    finished: bool,
}

/// What failed, and the system's answer.
pub(super) type Failed = (String, io::Error);

impl Building {
    /// Begins in a new directory beside `target`, which must not exist or be an empty directory. `doing` is what is done
    /// meanwhile, for the name and for errors: `load`.
    pub(super) fn begin(target: &Path, doing: &str) -> Result<Building, Failed> {
        let failed = |what: &str, path: &Path| {
            let what = format!("{what} {}", path.display());
            move |error| (what, error)
        };
        let target = match fs::read_dir(target) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    let why = "it exists and is not empty; name a directory that is to be made";
                    return Err((format!("{doing} into {}", target.display()), io::Error::other(why)));
                }
                // The name of `.` and the like.
                fs::canonicalize(target).map_err(failed("find", target))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => target.to_path_buf(),
            Err(error) => return Err(failed("look into", target)(error)),
        };
        let no_name =
            || failed(&format!("{doing} into"), &target)(io::Error::other("that is not the name of a directory"));
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().ok_or_else(no_name)?);
        name.push(format!(".unfinished-{}", std::process::id()));
        fs::create_dir_all(parent(&target)).map_err(failed("create", parent(&target)))?;
        let dir = target.with_file_name(name);
        fs::create_dir(&dir).map_err(failed("create", &dir))?;
        Ok(Building { dir, target, finished: false })
    }

    /// Gives the directory its name. Every file in it is synced.
    pub(super) fn finish(mut self) -> Result<PathBuf, Failed> {
        sync(&self.dir)?;
        // An empty directory of that name is replaced; one that was filled meanwhile is not.
        let rename = fs::rename(&self.dir, &self.target);
        rename.map_err(|error| (format!("rename {} to {}", self.dir.display(), self.target.display()), error))?;
        self.finished = true;
        sync(parent(&self.target))?;
        Ok(self.target.clone())
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed bears a name that nobody takes for a data directory.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn sync(dir: &Path) -> Result<(), Failed> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| (format!("sync {}", dir.display()), error))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
