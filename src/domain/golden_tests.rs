//! The bytes of every event and every kind of row, as 0.1.0 writes them. They are in data directories, so they are
//! promised: whoever changes one of them makes those unreadable. What is to be laid out anew gets a new kind or version
//! beside the old one, and the old one stays readable.
//!
//! `golden.txt` holds them; it only grows.

use super::codec::{EVENT_VERSION, Record, decode, decode_row, encode, encode_row, is_known};
use super::event::*;
use super::ids::*;
use super::key::{Key, Operation};
use super::order::Order;
use super::row::Persistent;
use super::store::Store;
use super::{Account, Entity};

const KNOWN: &str = include_str!("golden.txt");

const AT: Millis = 1_700_000_000_123;

fn order() -> OrderId {
    OrderId::new((1_700_000_000_000 << ORDER_COUNT_BITS) + 5, AccountNo(0x107), 42)
}

fn key(operation: Operation) -> Option<Key> {
    Some(Key::new(operation, "k", [&b"field"[..]]))
}

fn facts(key: Option<Key>) -> Facts {
    let line = |book, count, price| Line { book: BookNo(book), count, price };
    Facts {
        buyer: AccountNo(0x107),
        seller: AccountNo(1),
        store: StoreNo(200),
        lines: Box::new([line(3, 2, 4_500), line(900, 1, 0)]),
        total: 9_000,
        created: AT - 1,
        deadline: AT - 1 + 1_800_000,
        key,
    }
}

fn accounts() -> Vec<AccountEvent> {
    let order = order();
    let secret = Blob(Box::from([7u8; 49]));
    let hold = |kind, key| Hold { kind, seller: AccountNo(1), amount: 9_000, key };
    let credit = |cause, by, key| AccountEvent::Credited { order, credit: Credit { cause, amount: 9_000, by, key } };
    vec![
        AccountEvent::Registered { user_id: "买家:1".into(), secret: secret.clone() },
        AccountEvent::PasswordChanged { secret },
        AccountEvent::TokenRevoked { token: u64::MAX - 1, expires: AT + 86_400_000 },
        AccountEvent::FundsAdded { value: 1_000_000, key: None },
        AccountEvent::FundsAdded { value: -3, key: key(Operation::AddFunds) },
        AccountEvent::StoreOpened { store: StoreNo(4), store_id: "s".into() },
        AccountEvent::Held { order, hold: hold(PayKind::Direct, None) },
        AccountEvent::Held { order, hold: hold(PayKind::Platform, key(Operation::PayToPlatform)) },
        credit(CreditCause::Payment, By::Buyer, None),
        credit(CreditCause::Confirmation, By::Deadline, key(Operation::Confirm)),
        credit(CreditCause::Refund(PayKind::Direct), By::Seller, None),
        credit(CreditCause::Refund(PayKind::Platform), By::Buyer, key(Operation::RefundOrder)),
        AccountEvent::Closed,
        AccountEvent::TakenBack { order, refund: Refund { buyer: AccountNo(0x107), amount: 9_000, key: None } },
        AccountEvent::TakenBack {
            order,
            refund: Refund { buyer: AccountNo(0x107), amount: 9_000, key: key(Operation::RefundOrder) },
        },
        AccountEvent::StoreClosed { store: StoreNo(4) },
    ]
}

fn stores() -> Vec<StoreEvent> {
    let release = |by, key| Release { lines: facts(None).lines, by, key };
    vec![
        StoreEvent::Created { store_id: "书店".into(), owner: AccountNo(1) },
        StoreEvent::BookAdded { id: "米".into(), price: 4_500, stock: 1_000, document: DocumentHash([9; 32]) },
        StoreEvent::StockAdded { book: BookNo(1), delta: -1 },
        StoreEvent::Reserved { order: order(), facts: facts(None) },
        StoreEvent::Reserved { order: order(), facts: facts(key(Operation::NewOrder)) },
        StoreEvent::Released { order: order(), release: release(By::Seller, None) },
        StoreEvent::Released { order: order(), release: release(By::Buyer, key(Operation::CancelOrder)) },
        StoreEvent::PriceSet { book: BookNo(1), price: 0 },
        StoreEvent::Delisted { book: BookNo(1) },
        StoreEvent::Relisted { book: BookNo(2) },
        StoreEvent::Closed,
    ]
}

fn orders() -> Vec<OrderEvent> {
    // No sum of its lines: nobody makes it, but it has a form.
    let odd = Facts { total: 1, ..facts(None) };
    vec![
        OrderEvent::Placed(facts(None)),
        OrderEvent::Placed(facts(key(Operation::NewOrder))),
        OrderEvent::Placed(odd),
        OrderEvent::Paid { kind: PayKind::Direct, key: None },
        OrderEvent::Paid { kind: PayKind::Platform, key: key(Operation::PayToPlatform) },
        OrderEvent::Shipped { confirm_by: None },
        OrderEvent::Shipped { confirm_by: Some(AT + 1_000) },
        OrderEvent::Completed { by: By::Buyer, key: key(Operation::Confirm) },
        OrderEvent::Completed { by: By::Deadline, key: None },
        OrderEvent::Canceled { by: By::Deadline, key: None },
        OrderEvent::Canceled { by: By::Seller, key: key(Operation::RefundOrder) },
        OrderEvent::ReceiptExtended { confirm_by: AT + 2_000 },
    ]
}

/// Every event there is, as it is encoded, and what it has to be decoded to.
fn events() -> Vec<(u8, Vec<u8>, Record)> {
    let mut events = Vec::new();
    let mut bytes = Vec::new();
    for event in accounts() {
        let kind = encode(&event, AccountNo(0x107), 3, AT, &mut bytes);
        events.push((kind, bytes.clone(), Record::Account(AccountNo(0x107), 3, AT, event)));
    }
    for event in stores() {
        let kind = encode(&event, StoreNo(200), 300, AT, &mut bytes);
        events.push((kind, bytes.clone(), Record::Store(StoreNo(200), 300, AT, event)));
    }
    for event in orders() {
        let kind = encode(&event, order(), 2, AT, &mut bytes);
        events.push((kind, bytes.clone(), Record::Order(order(), 2, AT, event)));
    }
    events
}

/// Rows of all kinds.
fn rows() -> Vec<(&'static str, Vec<u8>)> {
    let mut plain = Account::new(AccountNo(0x107));
    plain.apply(&accounts()[0], AT);
    plain.apply(&accounts()[3], AT);
    let mut closed = plain.clone();
    closed.apply(&AccountEvent::Closed, AT);
    let full = super::row::tests::full();
    let mut rows = vec![
        ("account", plain.encode().to_vec()),
        ("account", closed.encode().to_vec()),
        ("account", full.encode().to_vec()),
    ];
    let mut store = Store::new(StoreNo(200));
    for event in [&stores()[..2], &stores()[3..4]].concat() {
        store.apply(&adapted(event), AT);
    }
    rows.push(("store", store.encode().to_vec()));
    for event in [&stores()[5..6], &stores()[7..9], &stores()[10..]].concat() {
        store.apply(&adapted(event), AT);
    }
    rows.push(("store", store.encode().to_vec()));
    let ways: [&[OrderEvent]; 5] = [&[], &orders()[3..4], &orders()[4..5], &orders()[10..11], &orders()[9..10]];
    for (place, way) in ways.into_iter().enumerate() {
        let mut order_row = Order::placed(&facts(key(Operation::NewOrder).filter(|_| place > 0)), AT);
        way.iter().for_each(|event| order_row.apply(event, AT + 5));
        rows.push(("order", encode_row(&(order(), &order_row))));
        if place == 2 {
            for event in [6, 11, 7] {
                order_row.apply(&orders()[event], AT + 7);
                rows.push(("order", encode_row(&(order(), &order_row))));
            }
        }
    }
    rows
}

/// Of the one book that the store has.
fn adapted(event: StoreEvent) -> StoreEvent {
    let lines = || -> Box<[Line]> { Box::new([Line { book: BookNo(0), count: 2, price: 4_500 }]) };
    match event {
        StoreEvent::Reserved { order, facts } => {
            StoreEvent::Reserved { order, facts: Facts { lines: lines(), ..facts } }
        }
        StoreEvent::Released { order, release } => {
            StoreEvent::Released { order, release: Release { lines: lines(), ..release } }
        }
        StoreEvent::PriceSet { price, .. } => StoreEvent::PriceSet { book: BookNo(0), price },
        StoreEvent::Delisted { .. } => StoreEvent::Delisted { book: BookNo(0) },
        event => event,
    }
}

fn line(what: &str, bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{what} {hex}\n")
}

#[test]
fn events_and_rows_have_the_bytes_that_are_promised() {
    let mut now: String = events().iter().map(|(kind, bytes, _)| line(&kind.to_string(), bytes)).collect();
    now.extend(rows().iter().map(|(what, bytes)| line(what, bytes)));
    for (now, known) in now.lines().zip(KNOWN.lines()) {
        assert_eq!(now, known);
    }
    assert!(now == KNOWN, "other events or rows than in golden.txt:\n{now}");
}

#[test]
fn what_is_promised_is_read() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    let expected: Vec<Record> = events().into_iter().map(|(_, _, record)| record).collect();
    let mut decoded = Vec::new();
    for line in KNOWN.lines() {
        let (what, bytes) = line.split_once(' ').unwrap();
        let bytes = hex(bytes);
        match what {
            "account" => assert_eq!(&*Account::decode(&bytes).unwrap().encode(), bytes),
            "store" => assert_eq!(&*Store::decode(&bytes).unwrap().encode(), bytes),
            "order" => assert_eq!(encode_row(&decode_row::<(OrderId, Order)>(&bytes).unwrap()), bytes),
            kind => {
                let kind = kind.parse().unwrap();
                assert!((0..bytes.len()).all(|cut| decode(kind, EVENT_VERSION, &bytes[..cut]).is_err()), "{line}");
                assert!(decode(kind, EVENT_VERSION, &[&bytes[..], &[0]].concat()).is_err(), "{line}");
                assert!(decode(kind, EVENT_VERSION + 1, &bytes).is_err());
                decoded.push(decode(kind, EVENT_VERSION, &bytes).unwrap());
            }
        }
    }
    assert_eq!(decoded, expected);
    let kinds: std::collections::BTreeSet<u8> = events().iter().map(|(kind, ..)| *kind).collect();
    let known: std::collections::BTreeSet<u8> = (0..=255).filter(|kind| is_known(*kind, EVENT_VERSION)).collect();
    assert_eq!(kinds, known, "one of each kind");
}
