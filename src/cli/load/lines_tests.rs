//! Lines by the thousand, made from valid ones and a seed (see `tests/fuzz.rs`, whose changes and variables these are):
//! a line is taken or is wrong, nothing else, and a wrong one changes nothing.

use serde_json::{Value, json};

use self::budget::{run, seed};
use self::mutate::Random;
use super::*;
use crate::engine::offline::LoadOptions;

#[path = "../../../tests/fuzz/budget.rs"]
mod budget;
#[path = "../../../tests/fuzz/mutate.rs"]
#[expect(dead_code, reason = "shared with tests/fuzz.rs, which uses all of it")]
mod mutate;

fn line(number: u64, random: &mut Random) -> Value {
    match random.below(4) {
        0 => json!({"type": "account", "user_id": format!("u{number}"), "password": "p", "balance": random.below(9)}),
        1 => {
            json!({"type": "store", "user_id": "owner", "store_id": format!("s{number}"), "closed": random.below(2) == 0})
        }
        2 => json!({
            "type": "book", "store_id": "store", "stock_level": 5, "price": random.below(9), "listed": random.below(2) == 0,
            "book_info": {"id": format!("b{number}"), "title": "t", "price": 7, "tags": ["米"], "pictures": ["aGk="]},
        }),
        _ => json!({
            "type": "order", "order_id": format!("o{number}"), "user_id": "owner", "store_id": "store",
            "status": (["pending", "paid", "completed", "canceled"][random.below(4)]), "total_price": 14,
            "created_time": "2026-01-31T12:00:00Z", "books": [{"id": "b", "count": 2, "price": 7}],
        }),
    }
}

/// What counts in a report; hashing goes on beside the lines.
fn loaded(loader: &Loader) -> [i128; 7] {
    let report = loader.report();
    let counts = [report.accounts, report.stores, report.books, report.orders].map(i128::from);
    [counts[0], counts[1], counts[2], counts[3], report.balances.into(), report.escrow.into(), report.stock]
}

#[test]
fn a_line_is_taken_or_wrong() {
    let parent = tempfile::tempdir().unwrap();
    let mut options = LoadOptions::default();
    (options.password_params.memory_kib, options.password_params.iterations) = (8, 1);
    let mut loader = Loader::begin(&parent.path().join("data"), options).unwrap();
    for first in [
        json!({"type": "account", "user_id": "owner", "password": "p"}),
        json!({"type": "store", "user_id": "owner", "store_id": "store"}),
        json!({"type": "book", "store_id": "store", "book_info": {"id": "b", "title": "t", "price": 7}}),
    ] {
        assert!(take(first.to_string().as_bytes(), &mut loader, &mut None).is_ok());
    }
    let (mut taken, mut wrong) = (0_u32, 0_u32);
    run("load lines", 10_000, 10, |number| {
        let random = &mut Random::new(seed(), number);
        let text = mutate::json(&line(number, random), random);
        let before = loaded(&loader);
        match take(&text, &mut loader, &mut None) {
            Ok(()) => taken += 1,
            Err(NotTaken::Wrong(why)) => {
                assert!(!why.is_empty());
                assert_eq!(loaded(&loader), before, "{}", String::from_utf8_lossy(&text));
                wrong += 1;
            }
            Err(NotTaken::Failed(_)) => panic!("the loader failed on {}", String::from_utf8_lossy(&text)),
        }
    });
    assert!(taken > 100 && wrong > 100, "{taken} taken, {wrong} wrong");
    assert!(loader.finish().is_ok());
}
