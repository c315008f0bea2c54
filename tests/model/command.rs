//! Commands and answers as plain values, how one is thrown, and how the engine is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use bookstore::{
    BookView, By, Credential, Engine, Error, NewBook, NewLine, OrderDetails, OrderStatus, OrderView, Refusal,
};

use super::Dice;
use super::shop::Shop;

#[derive(Debug, Clone)]
pub(crate) enum Proof {
    Password(String),
    /// The token that the n-th login gave; one that was never given is forged.
    Token(usize),
    Trusted,
}

#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) book: String,
    pub(crate) count: i64,
}

#[derive(Debug, Clone)]
#[rustfmt::skip]
pub(crate) enum Command {
    Register { user: String, password: String },
    Unregister { user: String, proof: Proof },
    Login { user: String, proof: Proof },
    Logout { user: String, token: usize },
    ChangePassword { user: String, proof: Proof, new: String },
    CreateStore { user: String, proof: Proof, store: String },
    AddBook { user: String, proof: Proof, store: String, book: String, price: i64, stock: i64, document: String },
    AddStock { user: String, proof: Proof, store: String, book: String, delta: i64 },
    CloseStore { user: String, proof: Proof, store: String },
    SetPrice { user: String, proof: Proof, store: String, book: String, price: i64 },
    SetListed { user: String, proof: Proof, store: String, book: String, listed: bool },
    NewOrder { user: String, proof: Proof, store: String, lines: Vec<Line> },
    Pay { user: String, proof: Proof, order: String, to_platform: bool },
    Ship { user: String, proof: Proof, store: String, order: String },
    Confirm { user: String, proof: Proof, order: String },
    Cancel { user: String, proof: Proof, order: String },
    Refund { user: String, proof: Proof, order: String },
    AddFunds { user: String, proof: Proof, value: i64 },
    Balance { user: String, proof: Proof },
    StockLevel { store: String, book: String },
    ReadBook { store: String, book: String },
    OrderStatus { user: String, proof: Proof, order: String },
    LookAtOrder { user: String, proof: Proof, order: String, as_seller: bool },
    ExtendReceipt { user: String, proof: Proof, order: String },
    BuyerOrders { user: String, proof: Proof },
    StoreOrders { user: String, proof: Proof, store: String },
    AllStoreOrders { user: String, proof: Proof },
    OrderCount { user: String },
    CancelExpired,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) store: String,
    pub(crate) status: OrderStatus,
    pub(crate) total: i64,
    pub(crate) shipped: bool,
    pub(crate) lines: Vec<(String, i64, i64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    LoggedIn,
    Placed,
    Number(i64),
    Status(OrderStatus),
    /// An order, and who took which of its steps.
    Way(Box<Row>, Vec<(&'static str, By)>),
    /// Document, stock level, price, and whether it is for sale.
    Book(String, i64, i64, bool),
    Orders(Vec<Row>),
    OrdersByStore(BTreeMap<String, Vec<Row>>),
    Refused(Refusal),
    TooManyPending,
    /// A 530 that names `orders`; its text says how many, which depends on where the count was broken off.
    TooManyListed,
    /// Nothing that should be seen here.
    Unexpected(Error),
}

/// In episodes in which orders are confirmed by themselves: later than any episode ends.
pub(crate) const CONFIRM_AFTER: Duration = Duration::from_secs(10 * 86_400);

const USERS: u64 = 6;
const STORES: u64 = 5;
const BOOKS: u64 = 5;

/// Throws the next command: mostly what a sensible caller would do, often what he would not.
pub(crate) fn throw(shop: &Shop, dice: &mut Dice) -> Command {
    let mut user = match dice.roll(40) {
        0 => "nobody".to_owned(),
        _ => format!("user {}", dice.roll(USERS)),
    };
    let mut store = format!("store {}", dice.roll(STORES + 1));
    // Who closes one opens another.
    while shop.is_closed(&store) && dice.roll(4) > 0 {
        store.push('+');
    }
    let book = format!("book-{}", dice.roll(BOOKS + 1));
    let kind = dice.roll(105);
    // An order, and nine times of ten the user who may do it.
    let (mut order, mut order_store) = ("no-order".to_owned(), store.clone());
    if !shop.orders.is_empty() && dice.roll(30) > 0 {
        let newest = shop.orders.len() as u64;
        let index = (newest - 1 - dice.roll(newest.min(25))) as usize;
        order.clone_from(&shop.orders[index].id);
        if dice.roll(10) > 0 {
            order_store.clone_from(&shop.orders[index].store);
            let is_shipping = (68..75).contains(&kind);
            let actor = if is_shipping { shop.owner_of(&order_store) } else { Some(shop.buyer_of(index)) };
            if (50..92).contains(&kind) {
                user = actor.unwrap_or("nobody").to_owned();
            }
        }
    } else if dice.roll(2) == 0 {
        order = "01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
    }
    if ((14..30).contains(&kind) || kind >= 100) && dice.roll(5) > 0 {
        user = shop.owner_of(&store).unwrap_or(&user).to_owned();
    }
    let proof = throw_proof(shop, &user, dice);
    match kind {
        0..6 => {
            let user = if dice.roll(50) == 0 { String::new() } else { user };
            Command::Register { user, password: throw_password(dice) }
        }
        6 => Command::Unregister { user, proof },
        7 | 8 => Command::Login { user, proof },
        9 => Command::Logout { token: throw_token(shop, &user, dice), user },
        10 => Command::ChangePassword { user, proof, new: throw_password(dice) },
        11..14 => Command::CreateStore { user, proof, store },
        14..19 => {
            let price = match dice.roll(30) {
                0 => -1,
                1 => i64::MAX,
                2 => 1 << 52,
                3 => 0,
                _ => dice.roll(500) as i64,
            };
            let stock = match dice.roll(30) {
                0 => -1,
                1 => i64::MAX - dice.roll(3) as i64,
                _ => dice.roll(60) as i64,
            };
            let document = document(&store, &book, price);
            Command::AddBook { user, proof, store, book, price, stock, document }
        }
        19..25 => {
            let delta = match dice.roll(30) {
                0 => i64::MAX,
                1 => i64::MIN,
                _ => dice.roll(70) as i64 - 15,
            };
            Command::AddStock { user, proof, store, book, delta }
        }
        25..30 => Command::StoreOrders { user, proof, store },
        30..50 => {
            let count = match dice.roll(8) {
                0 => dice.roll(shop.limits.lines as u64 + 2),
                most => 1 + most % 3,
            };
            let lines = (0..count).map(|_| throw_line(dice)).collect();
            Command::NewOrder { user, proof, store, lines }
        }
        50..60 => Command::Pay { user, proof, order, to_platform: false },
        60..68 => Command::Pay { user, proof, order, to_platform: true },
        68..75 => Command::Ship { user, proof, store: order_store, order },
        75..81 => Command::Confirm { user, proof, order },
        81..83 => Command::Cancel { user, proof, order },
        83..86 => Command::Refund { user, proof, order },
        86 => Command::ExtendReceipt { user, proof, order },
        87 => Command::OrderStatus { user, proof, order },
        88 => {
            let as_seller = dice.roll(2) == 0;
            match shop.owner_of(&order_store) {
                Some(owner) if as_seller && dice.roll(4) > 0 => {
                    let (user, proof) = (owner.to_owned(), throw_proof(shop, owner, dice));
                    Command::LookAtOrder { user, proof, order, as_seller }
                }
                _ => Command::LookAtOrder { user, proof, order, as_seller },
            }
        }
        89..94 => {
            let value = match dice.roll(40) {
                0 => i64::MIN,
                1 => i64::MAX,
                2 => (1 << 62) - 1,
                3..8 => -shop.balance_of(&user),
                8..12 => -shop.balance_of(&user) - 1,
                12..16 => -(dice.roll(500) as i64),
                16 => (1 << 62) - 1 - (shop.totals().balances + shop.totals().escrow) as i64,
                _ => dice.roll(20_000) as i64,
            };
            Command::AddFunds { user, proof, value }
        }
        94 => Command::Balance { user, proof },
        95 => Command::StockLevel { store, book },
        96 => Command::ReadBook { store, book },
        97 => Command::BuyerOrders { user, proof },
        98 => Command::AllStoreOrders { user, proof },
        99 if dice.roll(4) == 0 => Command::CancelExpired,
        99 => Command::OrderCount { user },
        100..102 => {
            let price = match dice.roll(20) {
                0 => -1,
                1 => 1 << 52,
                2 => 0,
                _ => dice.roll(500) as i64,
            };
            Command::SetPrice { user, proof, store, book, price }
        }
        104 if dice.roll(3) == 0 => Command::CloseStore { user, proof, store },
        _ => Command::SetListed { user, proof, store, book, listed: dice.roll(7) > 0 },
    }
}

/// A book's document, which says its price.
pub(crate) fn document(store: &str, book: &str, price: i64) -> String {
    format!(r#"{{"id":"{book}","price":{price},"store":"{store}"}}"#)
}

fn throw_line(dice: &mut Dice) -> Line {
    let count = match dice.roll(30) {
        0 => dice.roll(2) as i64 - 1,
        1 => i64::MAX,
        2..6 => 20 + dice.roll(40) as i64,
        _ => 1 + dice.roll(4) as i64,
    };
    let books = if dice.roll(15) == 0 { BOOKS + 2 } else { BOOKS };
    let book = dice.roll(books);
    Line { book: format!("book-{book}"), count }
}

fn throw_password(dice: &mut Dice) -> String {
    match dice.roll(40) {
        0 => String::new(),
        _ => format!("secret {}", dice.roll(3)),
    }
}

fn throw_token(shop: &Shop, user: &str, dice: &mut Dice) -> usize {
    match shop.token_of(user) {
        Some(token) if dice.roll(6) > 0 => token,
        _ => dice.roll(shop.tokens.len() as u64 + 1) as usize,
    }
}

fn throw_proof(shop: &Shop, user: &str, dice: &mut Dice) -> Proof {
    match dice.roll(20) {
        0..7 => Proof::Trusted,
        7..11 => Proof::Token(throw_token(shop, user, dice)),
        11 => Proof::Password(throw_password(dice)),
        _ => match shop.password_of(user) {
            Some(password) => Proof::Password(password),
            None => Proof::Password(throw_password(dice)),
        },
    }
}

/// Asks the engine. A token or an order id that it gives is put into `given`.
pub(crate) async fn ask(engine: &Engine, command: &Command, tokens: &[String], given: &mut Option<String>) -> Answer {
    let token = |index: &usize| tokens.get(*index).map_or("forged.token.here", String::as_str);
    let cred = |proof| match proof {
        &Proof::Trusted => Credential::Trusted,
        Proof::Password(password) => Credential::password(password),
        Proof::Token(index) => Credential::Token(token(index)),
    };
    let done = |(): ()| Answer::Done;
    let result = match command {
        Command::Register { user, password } => engine.register(user, password).await.map(done),
        Command::Unregister { user, proof } => engine.unregister(user, cred(proof)).await.map(done),
        Command::Login { user, proof } => engine.login(user, cred(proof), "terminal").await.map(|token| {
            *given = Some(token);
            Answer::LoggedIn
        }),
        Command::Logout { user, token: index } => engine.logout(user, token(index)).await.map(done),
        Command::ChangePassword { user, proof, new } => engine.change_password(user, cred(proof), new).await.map(done),
        Command::CreateStore { user, proof, store } => engine.create_store(user, cred(proof), store).await.map(done),
        Command::AddBook { user, proof, store, book, price, stock, document } => {
            let book = NewBook { id: book, price: *price, document };
            engine.add_book(user, cred(proof), store, book, *stock).await.map(done)
        }
        Command::AddStock { user, proof, store, book, delta } => {
            engine.add_stock_level(user, cred(proof), store, book, *delta).await.map(done)
        }
        Command::CloseStore { user, proof, store } => engine.close_store(user, cred(proof), store).await.map(done),
        Command::SetPrice { user, proof, store, book, price } => {
            engine.set_price(user, cred(proof), store, book, *price).await.map(done)
        }
        Command::SetListed { user, proof, store, book, listed: true } => {
            engine.relist_book(user, cred(proof), store, book).await.map(done)
        }
        Command::SetListed { user, proof, store, book, listed: false } => {
            engine.delist_book(user, cred(proof), store, book).await.map(done)
        }
        Command::NewOrder { user, proof, store, lines } => {
            let lines: Vec<_> = lines.iter().map(|line| NewLine { book_id: &line.book, count: line.count }).collect();
            engine.new_order(user, cred(proof), store, &lines).await.map(|order| {
                *given = Some(order.to_string());
                Answer::Placed
            })
        }
        Command::Pay { user, proof, order, to_platform: false } => engine.pay(user, order, cred(proof)).await.map(done),
        Command::Pay { user, proof, order, to_platform: true } => {
            engine.pay_to_platform(user, order, cred(proof)).await.map(done)
        }
        Command::Ship { user, proof, store, order } => engine.ship(user, cred(proof), store, order).await.map(done),
        Command::Confirm { user, proof, order } => engine.confirm(user, order, cred(proof)).await.map(done),
        Command::Cancel { user, proof, order } => engine.cancel_order(user, order, cred(proof)).await.map(done),
        Command::ExtendReceipt { user, proof, order } => {
            engine.extend_receipt(user, order, cred(proof)).await.map(done)
        }
        Command::Refund { user, proof, order } => engine.refund_order(user, order, cred(proof)).await.map(done),
        Command::AddFunds { user, proof, value } => engine.add_funds(user, cred(proof), *value).await.map(done),
        Command::Balance { user, proof } => engine.balance(user, cred(proof)).await.map(Answer::Number),
        Command::StockLevel { store, book } => engine.stock_level(store, book).await.map(Answer::Number),
        Command::ReadBook { store, book } => {
            let book = engine.book(store, book).await;
            book.map(|BookView { document, stock_level, price, is_listed, .. }| {
                Answer::Book(document, stock_level, price, is_listed)
            })
        }
        Command::OrderStatus { user, proof, order } => {
            engine.order_status(user, order, cred(proof)).await.map(Answer::Status)
        }
        Command::LookAtOrder { user, proof, order, as_seller: false } => {
            engine.buyer_order(user, order, cred(proof)).await.map(way)
        }
        Command::LookAtOrder { user, proof, order, as_seller: true } => {
            engine.seller_order(user, order, cred(proof)).await.map(way)
        }
        Command::BuyerOrders { user, proof } => engine.buyer_orders(user, cred(proof)).await.map(rows),
        Command::StoreOrders { user, proof, store } => engine.store_orders(user, cred(proof), store).await.map(rows),
        Command::AllStoreOrders { user, proof } => engine.all_store_orders(user, cred(proof)).await.map(|lists| {
            let lists =
                lists.into_iter().map(|(store, orders)| (store.to_string(), orders.into_iter().map(row).collect()));
            Answer::OrdersByStore(lists.collect())
        }),
        Command::OrderCount { user } => engine.order_count(user).await.map(Answer::Number),
        Command::CancelExpired => engine.cancel_expired().await.map(done),
    };
    result.unwrap_or_else(|error| match error {
        Error::Refused(Refusal::Invalid { field: "orders", .. }) => Answer::TooManyListed,
        Error::Refused(refusal) => Answer::Refused(refusal),
        Error::Throttled { why: "too many pending orders", .. } => Answer::TooManyPending,
        error => Answer::Unexpected(error),
    })
}

fn way(details: OrderDetails) -> Answer {
    let steps = [
        ("placed", Some(details.placed)),
        ("paid", details.paid),
        ("shipped", details.shipped),
        ("extended", details.extended),
        ("confirmed", details.confirmed),
        ("canceled", details.canceled),
    ];
    let taken: Vec<_> = steps.into_iter().filter_map(|(name, step)| step.map(|step| (name, step))).collect();
    assert!(taken.is_sorted_by_key(|(_, step)| step.at_ms), "{taken:?}");
    assert_eq!(details.placed.at_ms, details.order.created_ms);
    if let (Some(shipped), Some(due)) = (details.shipped, details.confirm_deadline_ms) {
        let times = if details.extended.is_some() { 2 } else { 1 };
        assert_eq!(due - shipped.at_ms, times * CONFIRM_AFTER.as_millis() as u64);
    }
    Answer::Way(Box::new(row(details.order)), taken.into_iter().map(|(name, step)| (name, step.by)).collect())
}

fn rows(orders: Vec<OrderView>) -> Answer {
    assert!(orders.is_sorted_by_key(|order| std::cmp::Reverse(order.created_ms)), "newest first");
    Answer::Orders(orders.into_iter().map(row).collect())
}

fn row(order: OrderView) -> Row {
    Row {
        id: order.order_id.to_string(),
        user: order.user_id.to_string(),
        store: order.store_id.to_string(),
        status: order.status,
        total: order.total_price,
        shipped: order.is_shipped,
        lines: order.lines.into_iter().map(|line| (line.book_id.to_string(), line.count, line.price)).collect(),
    }
}
