//! The accept loop and the drain.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::shared::{Phase, Shared};
use super::{HttpConfig, connection};
use crate::engine::Engine;

/// Connections over the limit that are told so at once; more are dropped without a word.
const REJECTIONS_MAX: usize = 256;
/// Pause after a failed accept: out of descriptors, and only time helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
