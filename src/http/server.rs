//! The accept loops and the drain.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::call::Caller;
use super::routes::Door;
use super::shared::{ADMIN_CONNECTIONS_MAX, Phase, Shared};
use super::{HttpConfig, connection};
use crate::engine::Engine;

/// Connections over the limit that are told so at once; more are dropped without a word.
const REJECTIONS_MAX: usize = 256;
/// Pause after a failed accept: out of descriptors, and only time helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn serve(
    listener: TcpListener,
    admin: Option<TcpListener>,
    engine: Engine,
    config: HttpConfig,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.local_addr()?;
    let shared = Arc::new(Shared::new(engine, config));
    let rejections = Arc::new(Semaphore::new(REJECTIONS_MAX));
    let entrance = |listener, door| Entrance { listener, door, shared: shared.clone(), rejections: rejections.clone() };
    let public = entrance(listener, if admin.is_some() { Door::Public } else { Door::Only });
    let admin = admin.map(|listener| entrance(listener, Door::Admin));
    let accepting = async {
        // In no order, so that a crowd at one door does not keep the other one shut.
        tokio::select! {
            never = public.accept() => never,
            never = accept_if_any(admin.as_ref()) => never,
        }
    };
    tokio::select! {
        biased;
        () = shutdown => {}
        () = shared.console.drain_asked() => {}
        never = accepting => match never {},
    }
    public.empty_backlog().await;
    drop((public, admin));
    drain(&shared).await;
    Ok(())
}

async fn accept_if_any(entrance: Option<&Entrance>) -> Infallible {
    match entrance {
        Some(entrance) => entrance.accept().await,
        None => std::future::pending().await,
    }
}

/// A listener and what those who come in by it find.
struct Entrance {
    listener: TcpListener,
    door: Door,
    shared: Arc<Shared>,
    rejections: Arc<Semaphore>,
}

impl Entrance {
    async fn accept(&self) -> Infallible {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) if is_of_one_connection(&error) => {
                    debug!(%error, "a connection was gone before it was accepted")
                }
                Err(error) => {
                    warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "no TCP_NODELAY");
        }
        let (shared, door) = (Arc::clone(&self.shared), self.door);
        if let Ok(permit) = Arc::clone(shared.connections_of(door)).try_acquire_owned() {
            tokio::spawn(async move {
                connection::run(stream, Caller { peer: Some(peer.ip().to_canonical()), door }, shared).await;
                drop(permit);
            });
        } else if let Ok(permit) = Arc::clone(&self.rejections).try_acquire_owned() {
            tokio::spawn(async move {
                connection::reject(stream, shared).await;
                drop(permit);
            });
        }
    }

    /// Takes the connections that the system had accepted before the drain began: their requests may be on the way.
    async fn empty_backlog(&self) {
        for _ in 0..self.shared.connections_max {
            let next = poll_fn(|cx| match self.listener.poll_accept(cx) {
                Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
                Poll::Pending => Poll::Ready(None),
            });
            match next.await {
                Some(Ok((stream, peer))) => self.admit(stream, peer),
                Some(Err(_)) | None => return,
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

async fn drain(shared: &Shared) {
    shared.gate.enter(Phase::Draining);
    // `Shared::new` keeps the number of permits within u32.
    let all = u32::try_from(shared.connections_max).unwrap_or(u32::MAX);
    let gone = async {
        let admin = shared.admin_connections.acquire_many(ADMIN_CONNECTIONS_MAX).await;
        (admin, shared.connections.acquire_many(all).await)
    };
    if tokio::time::timeout(shared.config.drain_timeout, gone).await.is_err() {
        let left = shared.connections_max - shared.connections.available_permits();
        warn!(connections = left, "the drain took too long; the remaining connections are cut");
        shared.gate.enter(Phase::Cut);
    }
}
