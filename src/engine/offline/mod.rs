//! Work on data directories that no engine has open: making one from rows, checking one, looking into its files.
//!
//! # Layout
//! - `loader`: [`Loader`], a data directory from rows of another system; `rows`: what it takes. `building`: the
//!   directory while it is made; `output`: its files. `hashing`: passwords in clear, hashed on all cores meanwhile.
//! - `backup`: a backup of a directory; `restore`: the way back, and [`verify`], the check of a backup.
//! - `check`: every byte of a data directory, and what adds up in it.
//! - `inspect`: a journal segment or a snapshot, row by row.
//! - `repair`: what is damaged is cut out, after what that costs was told.
//!
//! All but [`check()`], [`verify`] and [`Repair`] blocks on the disk and needs no runtime: call it from a thread that may wait.

mod backup;
mod building;
mod check;
mod given;
mod hashing;
#[cfg(feature = "server")]
mod inspect;
mod loader;
mod output;
mod repair;
mod restore;
mod rows;

#[cfg(feature = "server")]
pub(crate) use super::backup::lies_in;
#[cfg(feature = "server")]
pub(crate) use inspect::{InspectError, Inspected, Item, inspect};
#[cfg(feature = "server")]
pub(crate) use restore::{BACKUP_NAME_PREFIX, is_backup, newest_backup};

pub use backup::backup;
pub use check::{CheckError, CheckReport, Finding, check};

pub use loader::Loader;
pub use restore::{VerifyReport, restore, verify};

pub use repair::{Lost, Repair, RepairError, RepairReport, RepairStep};
pub use rows::{LoadAccount, LoadError, LoadLine, LoadOptions, LoadOrder, LoadPassword, LoadReport, LoadTimes};
