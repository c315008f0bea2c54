//! Journal bytes per paid order.

use bookstore::{Durability, Engine, NewBook, NewLine};

use crate::flags::Flags;
use crate::{Failure, machine, shop};

/// Bytes in front of the frames of a batch; see ARCHITECTURE.md.
const BATCH_HEADER_BYTES: u64 = 40;
/// Books of a store.
const BOOKS: usize = 500;

pub(crate) async fn run(mut flags: Flags) -> Result<(), Failure> {
    let orders: usize = flags.number("orders", 100_000)?;
    let lines: usize = flags.number("lines", 5)?;
    let users: usize = flags.number("users", 100_000)?;
    let stores: usize = flags.number("stores", 16)?;
    let dir = shop::WorkDir::new(&mut flags)?;
    flags.finish()?;
    if orders == 0 || users == 0 || stores == 0 || !(1..=BOOKS).contains(&lines) {
        return Err(format!("--orders, --users and --stores must be 1 or more, --lines 1 to {BOOKS}").into());
    }
    machine::print(dir.path())?;
    let engine = Engine::open(shop::quiet_config(&dir.path().join("data"), Durability::Sync)).await?;
    shop::register(&engine, users, shop::cheap_hash()?).await?;
    shop::each(&engine, users, |engine, number| async move {
        Ok(engine.add_funds(&shop::buyer(number), shop::TRUSTED, 100_000_000).await?)
    })
    .await?;
    for number in 0..stores {
        engine.create_store(&shop::buyer(number), shop::TRUSTED, &shop::store(number)).await?;
    }
    shop::each(&engine, stores * BOOKS, |engine, number| async move {
        let (place, id) = (number / BOOKS, format!("book-{}", number % BOOKS));
        // 20 to 120 yuan.
        let price = 2_000 + (number * 7_919 % 10_000) as i64;
        let document = format!(r#"{{"id":"{id}","title":"{id}","price":{price}}}"#);
        let listed = NewBook { id: &id, price, document: &document };
        Ok(engine.add_book(&shop::buyer(place), shop::TRUSTED, &shop::store(place), listed, shop::STOCK).await?)
    })
    .await?;
    for keys in [false, true] {
        let before = engine.stats();
        shop::each(&engine, orders, move |engine, number| async move {
            let buyer = shop::buyer(number * 7_919 % users);
            let ids: Vec<String> =
                (0..lines).map(|line| format!("book-{}", (number * 31 + line * 101) % BOOKS)).collect();
            let wanted: Vec<NewLine<'_>> = ids.iter().map(|id| NewLine { book_id: id, count: 1 }).collect();
            let store = shop::store(number % stores);
            if keys {
                let key = format!("{number}");
                let keyed = engine.with_key(&key)?;
                let order = keyed.new_order(&buyer, shop::TRUSTED, &store, &wanted).await?.to_string();
                return Ok(keyed.pay(&buyer, &order, shop::TRUSTED).await?);
            }
            let order = engine.new_order(&buyer, shop::TRUSTED, &store, &wanted).await?.to_string();
            Ok(engine.pay(&buyer, &order, shop::TRUSTED).await?)
        })
        .await?;
        let after = engine.stats();
        let each = |count: u64| count as f64 / orders as f64;
        let frames = after.journal_bytes - before.journal_bytes;
        let batches = after.journal_batches - before.journal_batches;
        let headers = batches * BATCH_HEADER_BYTES;
        println!(
            "bytes: {:.0} journal bytes per paid order of {lines} lines{} ({:.0} of frames, {:.1} of batches of {:.0} frames; \
             {:.1} frames an order; {users} users, {stores} stores of {BOOKS} books)",
            each(frames + headers),
            if keys { " with two idempotency keys" } else { "" },
            each(frames),
            each(headers),
            (after.journal_frames - before.journal_frames) as f64 / batches.max(1) as f64,
            each(after.journal_frames - before.journal_frames),
        );
    }
    engine.close().await?;
    Ok(())
}
