//! The service for connections that somebody else accepts: a [`tower_service::Service`].

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::Body;
use hyper::{Request, Response, Version};
use tower_service::Service;

use super::answer::ResponseBody;
use super::call::Caller;
use super::routes::Door;
use super::shared::{Phase, Shared};
use super::{HttpConfig, service};
use crate::engine::Engine;

/// The address that a client's wrong passwords are counted by, as an extension of its request.
///
/// Whoever accepts the connections knows it, so the embedder puts it there: from the socket, or behind a proxy that
/// he trusts from the proxy's header. Without one wrong passwords are counted by user only.
///
/// ```
/// # let mut request = hyper::Request::new(());
/// use bookstore::http::PeerAddr;
/// request.extensions_mut().insert(PeerAddr([192, 0, 2, 1].into()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub IpAddr);

/// The wire contract as a [`tower_service::Service`], to stand inside another HTTP server. Clones are cheap and are
/// one service: they share its counters and its limit on bodies.
///
/// It takes a request with any body and answers every one of them; its error is [`Infallible`], and it is always
/// ready. It must be called within a tokio runtime with time enabled. Paths are matched from their beginning
/// (`/buyer/new_order`), so a router that stands before it has to take its prefix off, as axum's `nest_service` does.
/// `/healthz`, `/readyz`, `/metrics` and `/openapi.json` are among the paths: the whole world sees what the embedder
/// lets through. The last one tells the paths without the prefix.
///
/// ```
/// use bookstore::http::{HttpConfig, HttpService};
/// use bookstore::{Config, Engine};
/// use http_body_util::{BodyExt, Empty};
/// use hyper::{Request, body::Bytes};
/// use tower_service::Service;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::open(Config::memory()).await?;
/// let mut shop = HttpService::new(engine.clone(), HttpConfig::default());
/// let request = Request::get("/healthz").body(Empty::<Bytes>::new())?;
/// let answer = shop.call(request).await?;
/// assert_eq!(answer.status(), 200);
/// assert_eq!(answer.into_body().collect().await?.to_bytes(), r#"{"code":200,"message":"ok"}"#);
/// engine.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// `examples/embed_axum.rs` nests it in an axum application, with a graceful end.
///
/// # Limits
///
/// What belongs to a request holds here as in [`serve`](super::serve): the bytes of a body, of all bodies together and
/// of the headers, the time for a body, and with [`PeerAddr`] the throttle by address. What belongs to a connection is
/// the embedder's, and his server's defaults may be none at all:
///
/// | [`HttpConfig`] | here | what the embedder sets |
/// |---|---|---|
/// | `connections_max` | not looked at | a limit on connections |
/// | `tls`, `tls_handshake_timeout` | not looked at | TLS |
/// | `header_timeout` | not looked at | a timeout for heads and for idle connections |
/// | `write_timeout` | not looked at | a timeout for clients that do not read |
/// | `drain_timeout` | not looked at | how long to wait at the end |
/// | `header_bytes_max` | judged when the head is whole | the server's own limit, at least as large |
///
/// The metric `bookstore_http_connections` stays 0. A client that does not read its answer is held up for as long as
/// the server lets it be.
///
/// # The log
///
/// Each answer has the header `x-request-id`, the request's own or a new one. With the target `bookstore::saga` at level debug
/// a request is a `tracing` span below the caller's current one, with the fields `request_id`, `route`, `user_id`, `store_id`,
/// `order_id` and `code`, and each step of its saga is a span below that. Lines outside of spans have no id by themselves, as
/// they do in the log of `bookstore serve`: that is made by its formatter.
///
/// # The end
///
/// Call [`HttpService::drain`], let the server finish its requests, then close the engine. A request that comes after
/// that is answered 503.
#[derive(Clone)]
pub struct HttpService {
    shared: Arc<Shared>,
}

impl HttpService {
    /// The service of `engine`. The engine stays the caller's: he closes it at the end.
    #[must_use]
    pub fn new(engine: Engine, config: HttpConfig) -> Self {
        HttpService { shared: Arc::new(Shared::new(engine, config)) }
    }

    /// Says that the end is near: from now on `/readyz` answers 503, so that a balancer looks elsewhere, and every
    /// answer asks an HTTP/1 client to close its connection. Requests are still served.
    pub fn drain(&self) {
        self.shared.gate.enter(Phase::Draining);
    }
}

impl std::fmt::Debug for HttpService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shared = &self.shared;
        f.debug_struct("HttpService").field("engine", &shared.engine).field("config", &shared.config).finish()
    }
}

impl<B> Service<Request<B>> for HttpService
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let shared = Arc::clone(&self.shared);
        ResponseFuture(Box::pin(async move {
            let peer = request.extensions().get().map(|PeerAddr(address)| *address);
            // HTTP/2 has no such header.
            let may_close = request.version() < Version::HTTP_2;
            let (mut reply, working) =
                service::answer(&shared, Caller { peer, door: Door::Only }, false, request).await;
            reply.close = may_close && (reply.close || shared.is_ending());
            Ok(reply.into_response(&working))
        }))
    }
}

/// An answer in the making. Dropping it is as if the client had gone: what the engine was asked for is done all the
/// same, once it was asked.
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>);

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
