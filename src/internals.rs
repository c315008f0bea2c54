//! Not part of the API: what this crate's own benches, tests and tools need of its inside. Anything in here may
//! change or go in any release, a patch release included. Whoever builds on it builds on sand.

/// The pure rules: see `src/domain`.
pub mod domain {
    pub use crate::domain::*;
}

/// The journal: see `src/journal`.
pub mod journal {
    pub use crate::journal::*;
}

/// Snapshot files: see `src/snapshot`.
pub mod snapshot {
    pub use crate::snapshot::*;
}

/// Histograms: see `src/stats.rs`.
pub mod stats {
    pub use crate::stats::*;
}
