//! What all connections and requests of one service share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore};

use super::HttpConfig;
use super::body::Budget;
use super::metrics::Metrics;
use crate::engine::Engine;

/// What all connections share.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) config: HttpConfig,
    pub(super) metrics: Metrics,
    pub(super) budget: Budget,
    /// Bytes of long answers that have not left.
    pub(super) answers: Arc<Budget>,
    pub(super) gate: Gate,
    /// One permit a connection. All permits back means that nobody is connected.
    pub(super) connections: Arc<Semaphore>,
    /// The permits there are.
    pub(super) connections_max: usize,
    /// The hint about `--mode compat` was logged.
    pub(super) compat_hinted: AtomicBool,
}

impl Shared {
    pub(super) fn new(engine: Engine, config: HttpConfig) -> Self {
        // The drain takes all permits back with one u32.
        let connections_max = config.connections_max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Shared {
            engine,
            metrics: Metrics::new(),
            budget: Budget::new(config.bodies_in_flight_bytes_max),
            answers: Arc::new(Budget::new(config.bodies_in_flight_bytes_max)),
            gate: Gate::default(),
            connections: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            compat_hinted: AtomicBool::new(false),
            config,
        }
    }
}

impl Shared {
    /// A client that keeps the connection should learn that there is no next request on it.
    pub(super) fn is_ending(&self) -> bool {
        self.gate.phase() != Phase::Serving
    }
}

/// How far the end of the service has come. Later phases are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    Serving,
    /// Finish the request at hand, take no other.
    Draining,
    /// The drain took too long: drop everything.
    Cut,
}

/// Tells every connection of the phase.
#[derive(Default)]
pub(super) struct Gate {
    phase: AtomicU8,
    changed: Notify,
}

impl Gate {
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Cut,
        }
    }

    /// Resolves at the first change after this call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
        self.changed.notify_waiters();
    }
}
