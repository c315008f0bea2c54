//! What somebody asks who operates the service: any order, how many there are of each state, how a user stands; with
//! orders in memory, at rest, and both.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use bookstore::{
    Config, Credential, Engine, Error, NewBook, NewLine, OrderStatus, OrderTotals, Refusal, StoreStanding, UserStanding,
};

const T: Credential<'static> = Credential::Trusted;
const PRICE: i64 = 7;

fn config(dir: &Path) -> Config {
    let mut config = Config::directory(dir);
    (config.password_params.memory_kib, config.password_params.iterations) = (64, 1);
    config.segment_bytes = 16 << 20;
    // Orders leave when a test says so.
    config.limits.idle_after = Duration::from_secs(3_600);
    config.limits.throttle_user = 3;
    config
}

async fn shop(dir: &Path) -> Engine {
    let engine = Engine::open(config(dir)).await.unwrap();
    engine.register("seller", "pw").await.unwrap();
    engine.register("buyer", "pw").await.unwrap();
    engine.create_store("seller", T, "store").await.unwrap();
    let document = r#"{"id":"book","title":"米","price":7}"#;
    engine.add_book("seller", T, "store", NewBook { id: "book", price: PRICE, document }, 100).await.unwrap();
    engine.add_funds("buyer", T, 1_000).await.unwrap();
    engine
}

async fn place(engine: &Engine) -> String {
    let lines = [NewLine { book_id: "book", count: 1 }];
    engine.new_order("buyer", T, "store", &lines).await.unwrap().to_string()
}

fn totals(totals: &OrderTotals) -> [u64; 6] {
    OrderStatus::ALL.map(|status| totals.of(status))
}

#[tokio::test]
async fn orders_are_counted_once_in_memory_at_rest_and_in_both() {
    let dir = tempfile::TempDir::new().unwrap();
    let engine = shop(dir.path()).await;
    assert_eq!(engine.order_totals().await.unwrap(), OrderTotals::default());
    let mut orders = Vec::new();
    for _ in 0..6 {
        orders.push(place(&engine).await);
    }
    for order in &orders[1..4] {
        engine.pay_to_platform("buyer", order, T).await.unwrap();
    }
    engine.pay("buyer", &orders[4], T).await.unwrap();
    engine.ship("seller", T, "store", &orders[2]).await.unwrap();
    engine.confirm("buyer", &orders[3], T).await.unwrap();
    engine.cancel_order("buyer", &orders[5], T).await.unwrap();
    let counted = engine.order_totals().await.unwrap();
    assert_eq!((totals(&counted), counted.all()), ([1, 2, 1, 0, 1, 1], 6));
    assert_eq!(counted.escrow, 2 * i128::from(PRICE));

    assert_eq!(engine.offload().await.unwrap(), 5);
    assert_eq!(engine.order_totals().await.unwrap(), counted, "at rest");
    // One comes back and has a row on the disk as well, which is an older one then.
    engine.ship("seller", T, "store", &orders[1]).await.unwrap();
    let shipped = engine.order_totals().await.unwrap();
    assert_eq!((totals(&shipped), shipped.escrow), ([1, 1, 2, 0, 1, 1], 2 * i128::from(PRICE)));
    engine.close().await.unwrap();
    assert_eq!(engine.order_totals().await, Err(Error::Draining));
    assert_eq!(engine.user_standing("buyer").await, Err(Error::Draining));
    assert_eq!(engine.order(&orders[0]).await, Err(Error::Draining));
}

/// A count that is under way does not hold up the end, and the end is no failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_closes_in_the_middle_of_a_count() {
    let dir = tempfile::TempDir::new().unwrap();
    let engine = shop(dir.path()).await;
    for _ in 0..50 {
        let order = place(&engine).await;
        engine.cancel_order("buyer", &order, T).await.unwrap();
    }
    engine.offload().await.unwrap();
    let counting = tokio::spawn({
        let engine = engine.clone();
        async move { while engine.order_totals().await.is_ok() {} }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    engine.close().await.unwrap();
    counting.await.unwrap();
    let again = Engine::open(config(dir.path())).await.unwrap();
    assert_eq!(again.order_totals().await.unwrap().of(OrderStatus::Canceled), 50);
    again.close().await.unwrap();
}

#[tokio::test]
async fn an_order_is_shown_whoevers_it_is() {
    let dir = tempfile::TempDir::new().unwrap();
    let engine = shop(dir.path()).await;
    let order = place(&engine).await;
    engine.pay("buyer", &order, T).await.unwrap();
    let shown = engine.order(&order).await.unwrap();
    assert_eq!(shown, engine.buyer_order("buyer", &order, T).await.unwrap());
    engine.offload().await.unwrap();
    assert_eq!(engine.order(&order).await.unwrap(), shown, "at rest");
    for unknown in ["00000000-0000-7000-8000-000000000000", "none"] {
        assert_eq!(engine.order(unknown).await, Err(Error::Refused(Refusal::NoOrder(unknown.to_owned()))));
    }
    engine.close().await.unwrap();
}

#[tokio::test]
async fn a_user_stands_as_he_does() {
    let dir = tempfile::TempDir::new().unwrap();
    let engine = shop(dir.path()).await;
    let stranger = engine.user_standing("nobody").await;
    assert_eq!(stranger, Err(Error::Refused(Refusal::NoUser("nobody".to_owned()))));

    let fresh = engine.user_standing("buyer").await.unwrap();
    let UserStanding { balance, net_put_in, orders, open_orders, .. } = fresh;
    assert_eq!((balance, net_put_in, orders, open_orders), (1_000, 1_000, 0, 0));
    assert_eq!((fresh.remembered_tokens, fresh.revoked_tokens, fresh.is_password_remembered), (0, 0, false));

    for _ in 0..3 {
        let order = place(&engine).await;
        engine.pay("buyer", &order, T).await.unwrap();
    }
    engine.offload().await.unwrap();
    let pending = place(&engine).await;
    let login = || engine.login("buyer", Credential::password("pw"), "terminal");
    let (kept, revoked) = (login().await.unwrap(), login().await.unwrap());
    for token in [&kept, &revoked] {
        engine.new_order("buyer", Credential::Token(token), "store", &[]).await.unwrap();
    }
    engine.logout("buyer", &revoked).await.unwrap();
    engine.with_key("a-key").unwrap().add_funds("buyer", T, 1).await.unwrap();
    // Remembered as right, so it is not counted as wrong.
    for _ in 0..3 {
        assert!(engine.balance("buyer", Credential::password("wrong")).await.is_err());
    }
    let used = engine.user_standing("buyer").await.unwrap();
    assert_eq!((used.balance, used.net_put_in), (1_001 - 3 * PRICE, 1_001));
    assert_eq!((used.orders, used.open_orders), (6, 6), "at rest, and in memory");
    assert_eq!((used.is_password_remembered, used.remembered_tokens, used.revoked_tokens), (true, 1, 1));
    assert_eq!((used.deposit_keys, used.wrong_passwords), (1, 3));
    assert!(used.throttled_s.is_some_and(|seconds| (1..=70).contains(&seconds)), "{used:?}");

    engine.cancel_order("buyer", &pending, T).await.unwrap();
    assert_eq!(engine.user_standing("buyer").await.unwrap().open_orders, 5);

    engine.register("keeper", "pw").await.unwrap();
    engine.create_store("keeper", T, "second").await.unwrap();
    engine.create_store("keeper", T, "first").await.unwrap();
    engine.close_store("keeper", T, "second").await.unwrap();
    let stores = engine.user_standing("keeper").await.unwrap().stores;
    let plain: Vec<_> = stores
        .iter()
        .map(|StoreStanding { store_id, is_closed, books, .. }| (&**store_id, *is_closed, *books))
        .collect();
    assert_eq!(plain, [("second", true, 0), ("first", false, 0)]);
    assert_eq!(engine.user_standing("seller").await.unwrap().stores[0].books, 1);

    engine.close_store("keeper", T, "first").await.unwrap();
    engine.unregister("keeper", T).await.unwrap();
    assert!(matches!(engine.user_standing("keeper").await, Err(Error::Refused(Refusal::NoUser(_)))));
    engine.close().await.unwrap();
}
