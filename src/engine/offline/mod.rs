//! Work on data directories that no engine has open: making one from rows, checking one, looking into its files.
//!
//! # Layout
//! - `loader`: [`Loader`], a data directory from rows of another system; `rows`: what it takes. `building`: the
//!   directory while it is made; `output`: its files. `hashing`: passwords in clear, hashed on all cores meanwhile.
//!
//! Everything here blocks on the disk and needs no runtime: call it from a thread that may wait.

mod building;
mod hashing;
mod loader;
mod output;
mod rows;

pub use loader::Loader;
pub use rows::{LoadAccount, LoadError, LoadLine, LoadOptions, LoadOrder, LoadPassword, LoadReport};
