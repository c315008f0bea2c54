//! The HTTP service inside an axum application: nested under `/shop`, beside a route of the application's own that
//! calls the same engine, with a graceful end. It buys a book from itself, prints what it got, and ends.
//!
//! ```sh
//! cargo run --release --example embed_axum
//! ```
//!
//! `axum::serve` limits neither the connections nor the time for a request's head, so in this form it belongs behind
//! a proxy that does. `bookstore::http::serve` has these limits itself, but takes no routes of others.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::map_request;
use axum::routing::get;
use bookstore::http::{HttpConfig, HttpService, PeerAddr};
use bookstore::{Config, Engine};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The application: a route of its own, and the whole contract under `/shop`.
fn app(engine: &Engine, shop: HttpService) -> Router {
    let of_its_own = engine.clone();
    let stock = move || async move {
        match of_its_own.stock_level("corner", "1000067").await {
            Ok(copies) => format!("{copies} copies left"),
            Err(error) => error.to_string(),
        }
    };
    Router::new().route("/stock", get(stock)).nest_service("/shop", shop).layer(map_request(with_peer))
}

/// Tells the service whose wrong passwords it counts. Behind a proxy this would be the address that the proxy names.
async fn with_peer(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
    request.extensions_mut().insert(PeerAddr(peer.ip()));
    request
}

/// Serves, buys, and ends in order.
pub async fn run() -> Result<()> {
    let engine = Engine::open(Config::memory()).await?; // or Config::directory("snapshots")
    let shop = HttpService::new(engine.clone(), HttpConfig::default());
    let app = app(&engine, shop.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;

    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        // A program that runs for long awaits its signal here, and the failure of its engine: `engine.failed()`.
        let end = async { drop(stopped.await) };
        axum::serve(listener, app).with_graceful_shutdown(end).await
    });
    tokio::task::spawn_blocking(move || buy(address)).await??;

    // In this order: balancers look elsewhere, requests at hand are finished, then the engine is closed.
    shop.drain();
    drop(stop);
    serving.await??;
    engine.close().await?;
    println!("closed");
    Ok(())
}

/// A client of the contract, with blocking sockets.
fn buy(address: SocketAddr) -> Result<()> {
    let post = |path: &str, token: &str, body: Value| -> Result<Value> {
        let body = body.to_string();
        let head = format!("POST {path} HTTP/1.1\r\nhost: shop\r\ntoken: {token}\r\ncontent-length: {}", body.len());
        let answer: Value = serde_json::from_str(&exchange(address, &format!("{head}\r\n{CLOSE}{body}"))?)?;
        if answer["code"] == 200 { Ok(answer) } else { Err(format!("{path} answered {answer}").into()) }
    };
    let mut tokens = Vec::new();
    for user in ["seller", "buyer"] {
        let who = json!({"user_id": user, "password": "secret", "terminal": "example"});
        post("/shop/auth/register", "", who.clone())?;
        tokens.push(post("/shop/auth/login", "", who)?["token"].as_str().unwrap_or_default().to_owned());
    }
    post("/shop/seller/create_store", &tokens[0], json!({"user_id": "seller", "store_id": "corner"}))?;
    let book = json!({"id": "1000067", "title": "美丽心灵", "price": 3_880});
    let listing = json!({"user_id": "seller", "store_id": "corner", "book_info": book, "stock_level": 10});
    post("/shop/seller/add_book", &tokens[0], listing)?;
    post("/shop/buyer/add_funds", "", json!({"user_id": "buyer", "password": "secret", "add_value": 10_000}))?;
    let order = json!({"user_id": "buyer", "store_id": "corner", "books": [{"id": "1000067", "count": 2}]});
    let order = post("/shop/buyer/new_order", &tokens[1], order)?["order_id"].take();
    post("/shop/buyer/payment", "", json!({"user_id": "buyer", "order_id": order, "password": "secret"}))?;
    let left = exchange(address, &format!("GET /stock HTTP/1.1\r\nhost: shop\r\n{CLOSE}"))?;
    println!("bought order {order}; {left}");
    if left == "8 copies left" { Ok(()) } else { Err(format!("/stock answered {left}").into()) }
}

const CLOSE: &str = "connection: close\r\n\r\n";

/// Sends a request on a connection of its own and returns the answer's body.
fn exchange(address: SocketAddr, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a head")?;
    Ok(body.to_owned())
}

#[tokio::main]
async fn main() -> Result<()> {
    run().await
}
