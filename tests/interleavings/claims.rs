//! Claims of store ids: one has it, the others wait for what becomes of it.

use std::sync::{Arc, Mutex};

use loom::future::block_on;
use loom::thread;

use crate::domain::{AccountNo, StoreNo};
use crate::explore;
use crate::names::Names;

/// `keep`: whether this claimant creates the store, if it may. Returns whether it did.
fn claim(names: &Arc<Names>, holders: &Mutex<u32>, number: u32, keep: bool) -> bool {
    let id: Arc<str> = "store".into();
    let Some(claim) = block_on(names.claim_store(&id)) else {
        assert!(names.store("store").is_some(), "refused, and nobody has it");
        return false;
    };
    *holders.lock().unwrap() += 1;
    thread::yield_now();
    assert_eq!(*holders.lock().unwrap(), 1, "two hold one id");
    *holders.lock().unwrap() -= 1;
    if keep {
        claim.keep(StoreNo(number), AccountNo(number));
    }
    keep
}

#[test]
fn one_has_the_id_and_nobody_waits_for_ever() {
    for (first, second) in [(true, true), (false, true), (false, false)] {
        explore(&format!("claims, kept: {first}, {second}"), move || {
            let (names, holders) = (Arc::new(Names::new()), Arc::new(Mutex::new(0)));
            let other = {
                let (names, holders) = (names.clone(), holders.clone());
                thread::spawn(move || claim(&names, &holders, 1, first))
            };
            let made = [claim(&names, &holders, 2, second), other.join().unwrap()];
            let made = made.into_iter().filter(|made| *made).count();
            assert_eq!(made, usize::from(first || second));
            assert_eq!(names.store("store").is_some(), made == 1);
        });
    }
}
