#![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;

fn claims(account: u32, epoch: u32, jti: u64, expires_ms: u64) -> Claims {
    Claims { account, epoch, jti, expires_ms }
}

#[test]
fn a_verified_password_is_remembered_for_its_account_only() {
    let memory = AuthMemory::new(1_000).unwrap();
    let before = memory.generation(7);
    memory.remember_password(7, 3, b"secret", before);
    assert_eq!(memory.password(7, b"secret"), Some(3));
    assert_eq!(memory.password(7, b"Secret"), None);
    assert_eq!(memory.password(8, b"secret"), None);
    assert_eq!(memory.token(7, "secret", 0), None);
}

#[test]
fn a_verified_token_is_remembered_until_it_expires() {
    let memory = AuthMemory::new(1_000).unwrap();
    let given = claims(7, 3, 99, 1_000);
    memory.remember_token("t", &given, memory.generation(7));
    assert_eq!(memory.token(7, "t", 999), Some(given));
    assert_eq!(memory.token(7, "t", 1_000), None);
    assert_eq!(memory.token(7, "u", 0), None);
    assert_eq!(memory.token(8, "t", 0), None, "another account's");
    assert_eq!(memory.password(7, b"t"), None);
}

#[test]
fn invalidate_forgets_and_bars_verifications_in_flight() {
    let memory = AuthMemory::new(1_000).unwrap();
    let before = memory.generation(7);
    memory.remember_password(7, 1, b"old", before);
    memory.remember_token("t", &claims(7, 1, 9, 1_000), before);
    memory.invalidate(7);
    assert_eq!(memory.password(7, b"old"), None);
    assert_eq!(memory.token(7, "t", 0), None);

    memory.remember_password(7, 1, b"old", before);
    memory.remember_token("t", &claims(7, 1, 9, 1_000), before);
    assert_eq!(memory.accounts(), 0, "the verdicts were judged before the change");

    memory.remember_password(7, 2, b"new", memory.generation(7));
    assert_eq!(memory.password(7, b"new"), Some(2));
}

#[test]
fn a_revoked_token_is_forgotten_alone() {
    let memory = AuthMemory::new(1_000).unwrap();
    let before = memory.generation(7);
    memory.remember_password(7, 1, b"p", before);
    memory.remember_token("t", &claims(7, 1, 1, 1_000), before);
    memory.remember_token("u", &claims(7, 1, 2, 1_000), before);
    memory.invalidate_token(7, 1);
    assert_eq!(memory.token(7, "t", 0), None);
    assert!(memory.token(7, "u", 0).is_some());
    assert_eq!(memory.password(7, b"p"), Some(1));
    memory.remember_token("t", &claims(7, 1, 1, 1_000), before);
    assert_eq!(memory.token(7, "t", 0), None, "the verdict was judged before the revocation");
}

#[test]
fn an_account_elsewhere_does_not_bar_this_one() {
    let memory = AuthMemory::new(1_000).unwrap();
    let before = memory.generation(7);
    memory.invalidate(8);
    memory.remember_password(7, 1, b"p", before);
    assert_eq!(memory.password(7, b"p"), Some(1));
}

#[test]
fn a_newer_epoch_empties_the_row_and_an_older_one_is_ignored() {
    let memory = AuthMemory::new(1_000).unwrap();
    let before = memory.generation(7);
    memory.remember_password(7, 2, b"two", before);
    memory.remember_token("t", &claims(7, 2, 1, 1_000), before);
    memory.remember_password(7, 1, b"one", before);
    assert_eq!(memory.password(7, b"one"), None);
    assert_eq!(memory.password(7, b"two"), Some(2));
    memory.remember_password(7, 3, b"three", before);
    assert_eq!(memory.password(7, b"two"), None);
    assert_eq!(memory.token(7, "t", 0), None);
    assert_eq!(memory.password(7, b"three"), Some(3));
}

#[test]
fn of_too_many_tokens_the_soonest_to_expire_goes() {
    let memory = AuthMemory::new(1_000).unwrap();
    let before = memory.generation(7);
    let limit = REMEMBERED_TOKENS_PER_ACCOUNT as u64;
    for number in 0..=limit {
        // The one that expires first is not the first that came.
        let expires_ms = 1_000 + (number + 60) % (limit + 1);
        let given = claims(7, 1, number, expires_ms);
        memory.remember_token(&number.to_string(), &given, before);
        memory.remember_token(&number.to_string(), &given, before);
    }
    let known = |number: u64| memory.token(7, &number.to_string(), 0).is_some();
    assert_eq!((0..=limit).filter(|&number| known(number)).count() as u64, limit);
    assert!(!known(5), "it expires at 1,000");
}

#[test]
fn a_full_memory_takes_new_accounts_and_keeps_its_bound() {
    for capacity in [1, 2, 10, 1_024, 3_000] {
        let memory = AuthMemory::new(capacity).unwrap();
        for account in 0..5_000 {
            memory.remember_password(account, 1, b"p", memory.generation(account));
            assert_eq!(memory.password(account, b"p"), Some(1));
        }
        assert!(memory.accounts() <= capacity);
        assert!(memory.accounts() * 2 > capacity, "it is used");
        let found = (0..5_000).filter(|&account| memory.password(account, b"p").is_some());
        assert_eq!(found.count(), memory.accounts());
    }
    assert!(AuthMemory::new(0).unwrap().accounts() == 0);
}

/// Verifiers and changers at full tilt: what is remembered is never of an epoch that had passed
/// before the look began.
#[test]
fn under_contention_nothing_stale_is_ever_remembered() {
    let memory = AuthMemory::new(10).unwrap();
    // Epoch of one account; its password is the epoch as text.
    let current = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let before = memory.generation(1);
                    let epoch = current.load(Ordering::SeqCst);
                    thread::yield_now();
                    memory.remember_password(1, epoch, epoch.to_string().as_bytes(), before);
                }
            });
        }
        scope.spawn(|| {
            for epoch in 1..=20_000u32 {
                current.store(epoch, Ordering::SeqCst);
                memory.invalidate(1);
                let old = (epoch - 1).to_string();
                assert_eq!(memory.password(1, old.as_bytes()), None);
                thread::yield_now();
                assert_eq!(memory.password(1, old.as_bytes()), None);
            }
        });
    });
}

#[derive(Clone, Debug)]
enum Step {
    Password(u32, u32, u8),
    Token(u32, u32, u64),
    Invalidate(u32),
    InvalidateToken(u32, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let account = 0u32..6;
    let step = prop_oneof![
        (account.clone(), 0u32..3, 0u8..3).prop_map(|(a, e, p)| Step::Password(a, e, p)),
        (account.clone(), 0u32..3, 0u64..4).prop_map(|(a, e, t)| Step::Token(a, e, t)),
        account.clone().prop_map(Step::Invalidate),
        (account, 0u64..4).prop_map(|(a, t)| Step::InvalidateToken(a, t)),
    ];
    prop::collection::vec(step, 0..60)
}

#[derive(Default)]
struct Model {
    epoch: u32,
    password: Option<u8>,
    tokens: Vec<u64>,
}

proptest! {
    /// With room for all, the memory equals a naive one; with less, it never knows more.
    #[test]
    fn agrees_with_a_naive_model(steps in steps(), capacity in 1usize..12) {
        let memory = AuthMemory::new(capacity).unwrap();
        let mut model: BTreeMap<u32, Model> = BTreeMap::new();
        let of_epoch = |model: &mut BTreeMap<u32, Model>, account, epoch| {
            let row = model.entry(account).or_default();
            if row.epoch < epoch {
                *row = Model { epoch, ..Model::default() };
            }
            row.epoch == epoch
        };
        for step in steps {
            match step {
                Step::Password(account, epoch, password) => {
                    memory.remember_password(account, epoch, &[password], memory.generation(account));
                    if of_epoch(&mut model, account, epoch) {
                        model.entry(account).or_default().password = Some(password);
                    }
                }
                Step::Token(account, epoch, jti) => {
                    let given = claims(account, epoch, jti, 1_000);
                    memory.remember_token(&jti.to_string(), &given, memory.generation(account));
                    if of_epoch(&mut model, account, epoch) {
                        model.entry(account).or_default().tokens.push(jti);
                    }
                }
                Step::Invalidate(account) => {
                    memory.invalidate(account);
                    model.remove(&account);
                }
                Step::InvalidateToken(account, jti) => {
                    memory.invalidate_token(account, jti);
                    model.entry(account).and_modify(|row| row.tokens.retain(|known| *known != jti));
                }
            }
            prop_assert!(memory.accounts() <= capacity);
            for account in 0..6 {
                let row = model.get(&account);
                for password in 0..3u8 {
                    let expected = row.filter(|row| row.password == Some(password));
                    let found = memory.password(account, &[password]);
                    if capacity >= 6 {
                        prop_assert_eq!(found, expected.map(|row| row.epoch));
                    } else if let (Some(found), Some(expected)) = (found, expected) {
                        // An evicted row may come back with an older epoch than the model's.
                        prop_assert!(found <= expected.epoch);
                    }
                }
                for jti in 0..4u64 {
                    let expected = row.filter(|row| row.tokens.contains(&jti));
                    let found = memory.token(account, &jti.to_string(), 0);
                    if capacity >= 6 {
                        prop_assert_eq!(
                            found,
                            expected.map(|row| claims(account, row.epoch, jti, 1_000))
                        );
                    }
                }
            }
        }
    }
}
