//! The same orders over loopback, by a service in this process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::report::{Load, Work};
use super::{failed, shop};
use crate::cli::exit::{Exit, scarce};
use crate::engine::Engine;
use crate::http::client::{Client, Service};
use crate::http::{self, HttpConfig};

/// Time for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Orders that are paid, by two requests each, over so many connections that are kept.
pub(super) async fn load(engine: &Engine, connections: usize, time: Duration) -> Result<Load, Exit> {
    let no_port = |error: std::io::Error| Exit::failure(scarce("cannot listen on loopback", &error));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(no_port)?;
    let address = listener.local_addr().map_err(no_port)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        // Also when the sender is dropped.
        let _ = stopped.await;
    };
    let service = tokio::spawn(http::serve(listener, engine.clone(), HttpConfig::default(), shutdown));
    let mut clients = Vec::new();
    for number in 0..connections {
        let token = engine.login(&shop::buyer(number), shop::credential(), "bench").await;
        clients.push((number, token.map_err(|error| failed("a login", &error))?));
    }
    let work = Work::begin(engine, connections, time);
    let mut tasks = JoinSet::new();
    for (number, token) in clients {
        tasks.spawn(call(address, number, token, work.end));
    }
    let mut calls = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|error| failed("orders over HTTP", &error))?;
        calls.append(&mut done.map_err(|why| failed("orders over HTTP", &why))?);
    }
    let load = work.done(engine, calls);
    let _ = stop.send(());
    match service.await {
        Ok(Ok(())) => Ok(load),
        Ok(Err(error)) => Err(failed("the service", &error)),
        Err(error) => Err(failed("the service", &error)),
    }
}

/// The microseconds of each request.
async fn call(address: SocketAddr, number: usize, token: String, end: Instant) -> Result<Vec<u32>, String> {
    let mut client = Client::new(Service::parse(&format!("http://{address}"), None)?, ANSWER_TIME_MAX);
    let (user, store) = (shop::buyer(number), shop::store(number));
    let mut calls = Vec::new();
    let mut turn = number;
    while calls.is_empty() || Instant::now() < end {
        let books = [json!({"id": shop::book(turn), "count": 1})];
        let order = json!({"user_id": user, "store_id": store, "books": books}).to_string();
        let began = Instant::now();
        let answer = post(&mut client, "/buyer/new_order", Some(&token), order).await?;
        let ordered = Instant::now();
        let order = answer["order_id"].as_str().ok_or("an order without an id")?;
        let payment = json!({"user_id": user, "order_id": order, "password": shop::PASSWORD}).to_string();
        let asked = Instant::now();
        post(&mut client, "/buyer/payment", None, payment).await?;
        calls.extend([(ordered - began).as_micros() as u32, asked.elapsed().as_micros() as u32]);
        turn += 1;
    }
    Ok(calls)
}

async fn post(client: &mut Client, path: &str, token: Option<&str>, body: String) -> Result<Value, String> {
    let answered = client.post(path, token, Bytes::from(body)).await?;
    if answered.status != 200 {
        return Err(format!("{path}: {} {}", answered.status, String::from_utf8_lossy(&answered.body)));
    }
    serde_json::from_slice(&answered.body).map_err(|error| format!("{path}: {error}"))
}
