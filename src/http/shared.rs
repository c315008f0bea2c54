//! What all connections and requests of one service share.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore};

use super::HttpConfig;
use super::backup::{self, UnderWay};
use super::body::Budget;
use super::console::Console;
use super::metrics::{Metrics, Now};
use super::routes::{self, Door, Route};
use super::shed::Shed;
use crate::engine::Engine;

/// Connections to the admin port at once. They are counted apart: who operates the service gets in when it is full.
pub(super) const ADMIN_CONNECTIONS_MAX: u32 = 64;

/// What all connections share.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) config: HttpConfig,
    pub(super) metrics: Metrics,
    pub(super) budget: Budget,
    /// Bytes of long answers that have not left.
    pub(super) answers: Arc<Budget>,
    pub(super) gate: Gate,
    pub(super) shed: Shed,
    pub(super) console: Console,
    /// One permit a connection. All permits back means that nobody is connected.
    pub(super) connections: Arc<Semaphore>,
    /// The same for the admin port.
    pub(super) admin_connections: Arc<Semaphore>,
    /// The permits there are, but for the admin port.
    pub(super) connections_max: usize,
    /// The backup that is being made.
    pub(super) backup: UnderWay,
    /// When the newest backup was begun that was there at the start.
    pub(super) found_backup: Arc<OnceLock<SystemTime>>,
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
            console: Console::new(),
            shed: Shed::new(config.engine_delay_max),
            connections: Arc::new(Semaphore::new(connections_max)),
            admin_connections: Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX as usize)),
            connections_max,
            backup: UnderWay::default(),
            found_backup: config.backup_dir.clone().map(backup::look).unwrap_or_default(),
            compat_hinted: AtomicBool::new(false),
            config,
        }
    }
}

impl Shared {
    /// The row of a path with its index, if the route stands here.
    pub(super) fn route(&self, path: &str, door: Door) -> Option<(usize, &'static Route)> {
        routes::find(path).filter(|(_, route)| route.is_at(door, self.config.pages))
    }

    /// The permits of those who come in here.
    pub(super) fn connections_of(&self, door: Door) -> &Arc<Semaphore> {
        if door == Door::Admin { &self.admin_connections } else { &self.connections }
    }

    /// What the service says of itself at this moment.
    pub(super) fn now(&self) -> Now {
        Now {
            connections: (self.connections_max - self.connections.available_permits()) as u64,
            body_bytes: self.budget.used() as u64,
            shed: self.shed.refused(),
            commands_limit: self.shed.limit(),
            has_backup_dir: self.config.backup_dir.is_some(),
            found_backup: self.found_backup.get().copied(),
        }
    }

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

    /// Resolves when this phase, or a later one, has begun.
    pub(super) async fn reached(&self, phase: Phase) {
        loop {
            let mut changed = pin!(self.changed());
            // First registered, then read: a change in between wakes this.
            changed.as_mut().enable();
            if self.phase() >= phase {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
        self.changed.notify_waiters();
    }
}
