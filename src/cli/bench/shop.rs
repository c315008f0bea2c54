//! A small shop, and its orders by the engine's API.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::failed;
use super::report::{Load, Work};
use crate::cli::exit::Exit;
use crate::engine::{Credential, Engine, NewBook, NewLine};
use crate::{PasswordHash, PasswordParams};

pub(super) const PASSWORD: &str = "secret";
const BUYERS: usize = 256;
pub(super) const STORES: usize = 8;
/// Books of a store.
const BOOKS: usize = 32;
/// Price of a book in fen.
const PRICE: i64 = 100;
/// More than can be sold, and more than can be spent.
const PLENTY: i64 = 1_000_000_000_000;

pub(super) fn buyer(number: usize) -> String {
    format!("buyer-{}", number % BUYERS)
}

/// Each store has its own: one account takes one payment after the other.
pub(super) fn seller(number: usize) -> String {
    format!("seller-{}", number % STORES)
}

pub(super) fn store(number: usize) -> String {
    format!("store-{}", number % STORES)
}

pub(super) fn book(number: usize) -> String {
    format!("book-{}", number % BOOKS)
}

/// The buyer's password, which is remembered once it was verified, as a service does it.
pub(super) fn credential() -> Credential<'static> {
    Credential::password(PASSWORD)
}

/// Buyers with money, stores with books.
pub(super) async fn fill(engine: &Engine) -> Result<(), Exit> {
    // Hashes are measured for themselves, so all share a cheap one.
    let params = PasswordParams { memory_kib: 8, iterations: 1, lanes: 1 };
    let hash = PasswordHash::new(PASSWORD.as_bytes(), params).map_err(|error| failed("a password", &error))?;
    let mut tasks = JoinSet::new();
    for number in 0..BUYERS {
        let engine = engine.clone();
        tasks.spawn(async move {
            engine.register_hashed(&buyer(number), &hash).await?;
            engine.add_funds(&buyer(number), credential(), PLENTY).await
        });
    }
    for number in 0..STORES {
        let engine = engine.clone();
        tasks.spawn(async move {
            let (seller, store) = (seller(number), store(number));
            engine.register_hashed(&seller, &hash).await?;
            engine.create_store(&seller, Credential::Trusted, &store).await?;
            for number in 0..BOOKS {
                let id = book(number);
                let document = format!(r#"{{"id":"{id}","title":"{id}","price":{PRICE}}}"#);
                let listed = NewBook { id: &id, price: PRICE, document: &document };
                engine.add_book(&seller, Credential::Trusted, &store, listed, PLENTY).await?;
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| failed("filling the shop", &error))?
            .map_err(|error| failed("filling the shop", &error))?;
    }
    Ok(())
}

/// Orders that are paid, by so many callers at once, each one call after the other.
pub(super) async fn load(engine: &Engine, callers: usize, time: Duration) -> Result<Load, Exit> {
    let work = Work::begin(engine, callers, time);
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        tasks.spawn(call(engine.clone(), caller, work.end));
    }
    let mut calls = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|error| failed("orders", &error))?;
        calls.append(&mut done.map_err(|error| failed("orders", &error))?);
    }
    Ok(work.done(engine, calls))
}

/// The microseconds of each call.
async fn call(engine: Engine, caller: usize, end: Instant) -> crate::engine::Result<Vec<u32>> {
    let (user, store) = (buyer(caller), store(caller));
    let mut calls = Vec::new();
    let mut turn = caller;
    while calls.is_empty() || Instant::now() < end {
        let book = book(turn);
        let began = Instant::now();
        let order = engine.new_order(&user, credential(), &store, &[NewLine { book_id: &book, count: 1 }]).await?;
        let ordered = Instant::now();
        engine.pay(&user, &order.to_string(), credential()).await?;
        calls.extend([(ordered - began).as_micros() as u32, ordered.elapsed().as_micros() as u32]);
        turn += 1;
    }
    Ok(calls)
}
