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

/// The gate before answers, engine time, and questions about orders at rest: see `src/actors`.
pub mod actors {
    pub use crate::actors::{Admission, Answered, Answers, Busy, Then, answer, clock_base};
}

/// Orders at rest: see `src/cold`.
pub mod cold {
    pub use crate::cold::{ColdError, Counts, Orders, View};
}

/// Recovery, the walk of a snapshot and the round of orders that leave memory, each without a thread and without
/// waiting: see `src/engine`.
pub mod engine {
    pub use crate::engine::{
        Chunk, Data, IdSource, Named, Receive, Recovery, Round, RoundStep, Tally, Walk, Wanted, WriteError, Writing,
        clean_up, encode_orders, hop, ids_of,
    };
}

/// Single stages of a request: see `src/http/stages.rs`.
#[cfg(feature = "server")]
pub mod http {
    pub use crate::http::stages::*;
}

/// What a measurement says of the machine: see `src/machine.rs`.
pub mod machine {
    pub use crate::machine::*;
}

/// Faults on purpose: see `src/planted.rs`.
#[cfg(feature = "planted-faults")]
pub mod planted {
    pub use crate::planted::{FAULTS, Fault, plant};
}

/// Histograms: see `src/stats.rs`.
pub mod stats {
    pub use crate::stats::*;
}
