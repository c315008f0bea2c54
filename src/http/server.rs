//! The accept loop and the drain.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore};
use tracing::{debug, warn};

use super::HttpConfig;
use super::body::Budget;
use super::connection;
use super::metrics::Metrics;
use crate::engine::Engine;

/// Connections over the limit that are told so at once; more are dropped without a word.
const REJECTIONS_MAX: usize = 256;
/// Pause after a failed accept: out of descriptors, and only time helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) config: HttpConfig,
    pub(super) metrics: Metrics,
    pub(super) budget: Budget,
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
            gate: Gate::default(),
            connections: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            compat_hinted: AtomicBool::new(false),
            config,
        }
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

pub(super) async fn serve(
    listener: TcpListener,
    engine: Engine,
    config: HttpConfig,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.local_addr()?;
    let shared = Arc::new(Shared::new(engine, config));
    let rejections = Arc::new(Semaphore::new(REJECTIONS_MAX));
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&shared, &rejections, stream, peer),
            Err(error) if is_of_one_connection(&error) => {
                debug!(%error, "a connection was gone before it was accepted")
            }
            Err(error) => {
                warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    empty_backlog(&listener, &shared, &rejections).await;
    drop(listener);
    drain(&shared).await;
    Ok(())
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

fn admit(shared: &Arc<Shared>, rejections: &Arc<Semaphore>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    if let Ok(permit) = Arc::clone(&shared.connections).try_acquire_owned() {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            connection::run(stream, peer.ip().to_canonical(), shared).await;
            drop(permit);
        });
    } else if let Ok(permit) = Arc::clone(rejections).try_acquire_owned() {
        tokio::spawn(async move {
            connection::reject(stream).await;
            drop(permit);
        });
    }
}

/// Takes the connections that the system had accepted before the drain began: their requests may be on the way.
async fn empty_backlog(listener: &TcpListener, shared: &Arc<Shared>, rejections: &Arc<Semaphore>) {
    for _ in 0..shared.connections_max {
        let next = poll_fn(|cx| match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => Poll::Ready(None),
        });
        match next.await {
            Some(Ok((stream, peer))) => admit(shared, rejections, stream, peer),
            Some(Err(_)) | None => return,
        }
    }
}

async fn drain(shared: &Shared) {
    shared.gate.enter(Phase::Draining);
    // `Shared::new` keeps the number of permits within u32.
    let all = u32::try_from(shared.connections_max).unwrap_or(u32::MAX);
    if tokio::time::timeout(shared.config.drain_timeout, shared.connections.acquire_many(all)).await.is_err() {
        let left = shared.connections_max - shared.connections.available_permits();
        warn!(connections = left, "the drain took too long; the remaining connections are cut");
        shared.gate.enter(Phase::Cut);
    }
}
