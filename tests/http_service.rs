//! Pins the service inside somebody else's server: any kind of body, paths below a prefix, the peer's address, the
//! limits that stay the service's own, and the end.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a failure of the test's own plumbing is a failure of the test")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use bookstore::http::{HttpConfig, HttpService, PeerAddr, ResponseBody};
use bookstore::{Config, Engine};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use hyper::header::{ALLOW, CONNECTION, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode, Version};
use serde_json::{Value, json};
use tower_service::Service;

#[path = "../examples/embed_axum.rs"]
#[allow(dead_code, reason = "its `main` is not called here")]
mod embed_axum;

/// A body of another library's making: its pieces are not `Bytes`, and it can break or stop.
struct Pieces(VecDeque<Piece>);

enum Piece {
    Data(&'static [u8]),
    Break,
    Stall,
}

impl Pieces {
    fn of(pieces: impl IntoIterator<Item = Piece>) -> Self {
        Pieces(pieces.into_iter().collect())
    }

    /// The text, a few bytes a piece.
    fn text(text: String) -> Self {
        Pieces::of(text.leak().as_bytes().chunks(7).map(Piece::Data))
    }
}

impl Body for Pieces {
    type Data = VecDeque<u8>;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<VecDeque<u8>>, std::io::Error>>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(Piece::Data(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes.iter().copied().collect())))),
            Some(Piece::Break) => Poll::Ready(Some(Err(std::io::Error::other("broken")))),
            Some(Piece::Stall) => {
                self.0.push_front(Piece::Stall);
                Poll::Pending
            }
        }
    }
}

async fn engine() -> Engine {
    let mut config = Config::memory();
    config.password_params.memory_kib = 8;
    config.password_params.iterations = 1;
    config.limits.throttle_user = 0;
    config.limits.throttle_address = 2;
    Engine::open(config).await.unwrap()
}

async fn service(change: impl FnOnce(&mut HttpConfig)) -> HttpService {
    let mut config = HttpConfig::default();
    change(&mut config);
    HttpService::new(engine().await, config)
}

fn post(path: &str, body: Pieces) -> Request<Pieces> {
    Request::post(path).body(body).unwrap()
}

/// The status and the JSON of an answer.
async fn read(answer: Response<ResponseBody>) -> (u16, Value) {
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

async fn ask(service: &HttpService, request: Request<Pieces>) -> (u16, Value) {
    read(service.clone().call(request).await.unwrap()).await
}

fn login(user: &str, from: Option<IpAddr>) -> Request<Pieces> {
    let body = json!({"user_id": user, "password": "wrong", "terminal": "t"}).to_string();
    let mut request = post("/auth/login", Pieces::text(body));
    if let Some(address) = from {
        request.extensions_mut().insert(PeerAddr(address));
    }
    request
}

#[tokio::test]
async fn a_body_of_any_kind_is_read() {
    let service = service(|_| {}).await;
    let body = json!({"user_id": "u", "password": "secret"}).to_string();
    assert_eq!(ask(&service, post("/auth/register", Pieces::text(body.clone()))).await.0, 200);
    assert_eq!(ask(&service, post("/auth/register", Pieces::text(body))).await.0, 512, "the clones are one service");
}

#[tokio::test]
async fn what_the_service_refuses_by_itself_it_refuses_here_too() {
    let service = service(|config| {
        config.body_bytes_max = 100;
        config.header_bytes_max = 200;
        config.body_timeout = Duration::from_millis(50);
        config.bodies_in_flight_bytes_max = 50;
    })
    .await;
    let one = |piece| post("/auth/register", Pieces::of([Piece::Data(b"{"), piece]));
    assert_eq!(ask(&service, one(Piece::Break)).await.0, 400);
    assert_eq!(ask(&service, one(Piece::Stall)).await.0, 408);
    assert_eq!(ask(&service, one(Piece::Data(&[b' '; 100]))).await.0, 413);
    assert_eq!(ask(&service, one(Piece::Data(&[b' '; 60]))).await.0, 503, "all bodies together");
    assert_eq!(ask(&service, post("/shop/auth/register", Pieces::of([]))).await.0, 404);
    let long = Request::post("/auth/register").header("x", "y".repeat(200)).body(Pieces::of([])).unwrap();
    assert_eq!(ask(&service, long).await.0, 431);
    let wrong = Request::builder().method(Method::PUT).uri("/auth/register").body(Pieces::of([])).unwrap();
    let answer = service.clone().call(wrong).await.unwrap();
    assert_eq!((answer.status(), &answer.headers()[ALLOW]), (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap()));
}

#[tokio::test]
async fn wrong_passwords_are_counted_by_the_address_that_the_embedder_names() {
    let service = service(|_| {}).await;
    let here = Some(IpAddr::from([192, 0, 2, 1]));
    // The same address, as a socket that takes both families shows it.
    let mapped = Some(IpAddr::from(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped()));
    for (user, from) in [("a", here), ("b", mapped)] {
        assert_eq!(ask(&service, login(user, from)).await.0, 401);
    }
    let throttled = service.clone().call(login("c", here)).await.unwrap();
    assert_eq!(throttled.status(), 429);
    assert!(throttled.headers().contains_key(RETRY_AFTER));
    assert_eq!(ask(&service, login("d", Some(IpAddr::from([192, 0, 2, 2])))).await.0, 401);
    for user in ["e", "f", "g", "h"] {
        assert_eq!(ask(&service, login(user, None)).await.0, 401, "nobody named an address");
    }
}

#[tokio::test]
async fn the_end_is_told_before_it_comes() {
    let engine = engine().await;
    let mut service = HttpService::new(engine.clone(), HttpConfig::default());
    let health = |version| Request::get("/healthz").version(version).body(Pieces::of([])).unwrap();
    let ready = || Request::get("/readyz").body(Pieces::of([])).unwrap();
    assert_eq!(ask(&service, ready()).await.0, 200);
    assert!(!service.call(health(Version::HTTP_11)).await.unwrap().headers().contains_key(CONNECTION));

    service.drain();
    assert_eq!(ask(&service, ready()).await.0, 503);
    let answer = service.call(health(Version::HTTP_11)).await.unwrap();
    assert_eq!((answer.status(), &answer.headers()[CONNECTION]), (StatusCode::OK, &"close".parse().unwrap()));
    let answer = service.call(health(Version::HTTP_2)).await.unwrap();
    assert!(!answer.headers().contains_key(CONNECTION), "HTTP/2 forbids it");

    engine.close().await.unwrap();
    let late = post("/buyer/check_order_count", Pieces::text(json!({"user_id": "u"}).to_string()));
    let answer = service.call(late).await.unwrap();
    assert!(answer.headers().contains_key(RETRY_AFTER), "nothing was done");
    assert_eq!(answer.status(), 503);
}

/// axum takes the prefix off the path that the service sees, and only that.
#[tokio::test]
async fn an_axum_router_nests_it_below_a_prefix() {
    let shop = service(|_| {}).await;
    let mut app: Router = Router::new().nest_service("/a/shop", shop).fallback(|| async { "not the shop's" });
    let mut ask = async |path: &str| {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        let answer = app.call(request).await.unwrap_or_else(|never: Infallible| match never {});
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let ok = r#"{"code":200,"message":"ok"}"#.to_owned();
    let not_found = r#"{"code":404,"message":"not found"}"#.to_owned();
    assert_eq!(ask("/a/shop/readyz").await, (200, ok));
    assert_eq!(ask("/a/shop").await, (404, not_found.clone()));
    assert_eq!(ask("/a/shop/a/shop/readyz").await, (404, not_found));
    assert_eq!(ask("/readyz").await, (200, "not the shop's".into()));
}

/// The example checks itself: it buys over a socket and closes its engine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_axum_example_runs_to_its_end() {
    embed_axum::run().await.unwrap();
}
