//! The engine inside another program, with no HTTP: open, register, list, order, pay, ship, confirm, audit.
//!
//! ```sh
//! cargo run --release --no-default-features --example embed
//! ```

use bookstore::{Config, Credential, Engine, NewBook, NewLine, OrderStatus};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("bookstore-embed-{}", std::process::id()));
    let engine = Engine::open(Config::directory(&dir)).await?;

    engine.register("seller", "a seller's secret").await?;
    engine.register("buyer", "a buyer's secret").await?;
    // This program knows its users, so it vouches for them; a service would pass passwords or tokens.
    let trusted = Credential::Trusted;
    engine.create_store("seller", trusted, "corner shop").await?;
    let document = r#"{"id": "1000067", "title": "美丽心灵", "price": 3880}"#;
    let book = NewBook { id: "1000067", price: 3_880, document };
    engine.add_book("seller", trusted, "corner shop", book, 100).await?;
    engine.add_funds("buyer", trusted, 20_000).await?;

    let lines = [NewLine { book_id: "1000067", count: 3 }];
    // Under a key a change may be asked for again by who does not know its outcome: it is made once.
    let checkout = engine.with_key("checkout-1")?;
    let order = checkout.new_order("buyer", trusted, "corner shop", &lines).await?.to_string();
    assert_eq!(checkout.new_order("buyer", trusted, "corner shop", &lines).await?.to_string(), order);
    println!("ordered {order}");
    checkout.pay_to_platform("buyer", &order, trusted).await?;
    engine.ship("seller", trusted, "corner shop", &order).await?;
    engine.confirm("buyer", &order, trusted).await?;
    assert_eq!(engine.order_status("buyer", &order, trusted).await?, OrderStatus::Completed);

    let audit = engine.audit().await?;
    println!("balances {} fen, escrow {} fen, {} copies left", audit.balances, audit.escrow, audit.stock);
    assert!(audit.is_conserved());
    engine.close().await?;

    // Everything is still there, and a clean close leaves nothing to replay.
    let engine = Engine::open(Config::directory(&dir)).await?;
    assert_eq!(engine.audit().await?.state_hash, audit.state_hash);
    assert_eq!(engine.recovered().replayed_events, 0);
    println!("seller has {} fen after a restart", engine.balance("seller", trusted).await?);
    engine.close().await?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
