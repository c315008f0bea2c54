#![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

use proptest::prelude::*;

use super::*;

const NOW_MS: u64 = 1_700_000_000_000;

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn a_user_is_throttled_at_the_limit_and_let_in_again() {
    let throttle = Throttle::new(20, 1_000);
    for _ in 0..20 {
        assert_eq!(throttle.check("anna", None, NOW_MS), Ok(()));
        throttle.failed("anna", None, NOW_MS);
    }
    let RetryAfter { seconds } = throttle.check("anna", None, NOW_MS).unwrap_err();
    assert!((60..=70).contains(&seconds), "{seconds}");
    assert_eq!(throttle.check("bert", None, NOW_MS), Ok(()));
    let almost = NOW_MS + 59_999;
    assert_eq!(throttle.check("anna", None, almost), Err(RetryAfter { seconds: seconds - 59 }));
    assert_eq!(throttle.check("anna", None, NOW_MS + seconds * 1_000), Ok(()));
}

#[test]
fn an_address_is_throttled_over_all_users() {
    let throttle = Throttle::new(20, 100);
    let from = address("192.0.2.1");
    for number in 0..100 {
        let user = number.to_string();
        assert_eq!(throttle.check(&user, from, NOW_MS), Ok(()));
        throttle.failed(&user, from, NOW_MS);
    }
    assert!(throttle.check("somebody", from, NOW_MS).is_err());
    assert!(throttle.check("somebody", address("::ffff:192.0.2.1"), NOW_MS).is_err());
    assert_eq!(throttle.check("somebody", address("192.0.2.2"), NOW_MS), Ok(()));
    assert_eq!(throttle.check("somebody", None, NOW_MS), Ok(()));
}

#[test]
fn ipv6_counts_by_its_first_64_bits() {
    let throttle = Throttle::new(0, 2);
    throttle.failed("a", address("2001:db8:1:2::1"), NOW_MS);
    throttle.failed("a", address("2001:db8:1:2:ffff::9"), NOW_MS);
    assert!(throttle.check("a", address("2001:db8:1:2:3:4:5:6"), NOW_MS).is_err());
    assert_eq!(throttle.check("a", address("2001:db8:1:3::1"), NOW_MS), Ok(()));
}

#[test]
fn the_longer_wait_is_answered() {
    let throttle = Throttle::new(1, 1);
    let from = address("192.0.2.1");
    throttle.failed("anna", None, NOW_MS);
    throttle.failed("bert", from, NOW_MS + 30_000);
    let both = throttle.check("anna", from, NOW_MS + 30_000).unwrap_err();
    let user = throttle.check("anna", None, NOW_MS + 30_000).unwrap_err();
    assert_eq!(both.seconds, user.seconds + 30);
}

#[test]
fn zero_never_throttles_and_counts_nothing() {
    let throttle = Throttle::new(0, 0);
    for _ in 0..5_000 {
        throttle.failed("anna", address("192.0.2.1"), NOW_MS);
    }
    assert_eq!(throttle.check("anna", address("192.0.2.1"), NOW_MS), Ok(()));
    assert!(throttle.users.table().recent.is_empty());
    assert!(throttle.addresses.table().recent.is_empty());
}

#[test]
fn memory_is_bounded_and_the_past_goes_first() {
    let counters = Counters::new(3, 50);
    for key in 0..40u32 {
        counters.count(|| key, NOW_MS);
    }
    for key in 100..110u32 {
        counters.count(|| key, NOW_MS + 40_000);
    }
    counters.count(|| 200, NOW_MS + 70_000);
    let table = counters.table();
    assert_eq!(table.recent.len(), 11, "the 40 old ones were dropped, no other");
    assert!((100..110).all(|key| table.recent.contains_key(&key)));
}

#[test]
fn a_flood_of_new_names_does_not_free_the_one_that_is_guessed_at() {
    let counters = Counters::new(3, 50);
    for _ in 0..3 {
        counters.count(|| 0u32, NOW_MS);
    }
    for key in 1..10_000 {
        counters.count(|| key, NOW_MS);
        assert!(counters.table().recent.len() <= 50);
    }
    assert!(counters.wait_ms(|| 0, NOW_MS).is_some());
}

#[test]
fn a_failure_of_an_earlier_clock_counts_with_the_newest() {
    let throttle = Throttle::new(2, 0);
    throttle.failed("anna", None, NOW_MS + 35_000);
    throttle.failed("anna", None, NOW_MS);
    assert!(throttle.check("anna", None, NOW_MS + 94_999).is_err());
    assert_eq!(throttle.check("anna", None, NOW_MS + 105_000), Ok(()));
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    let throttle = Throttle::new(1, 1);
    throttle.failed("a", None, 0);
    assert!(throttle.check("a", None, 0).is_err());
    throttle.failed("a", None, u64::MAX / 2);
    assert!(throttle.check("a", None, 0).is_err(), "an earlier clock is no way out");
    assert!(throttle.check("a", None, u64::MAX / 2).is_err());
}

proptest! {
    /// Whatever the rhythm: no 60 seconds hold more failures than the limit, a try is refused
    /// only with `limit` failures in the last 70 seconds, and waiting as told helps.
    #[test]
    fn keeps_the_limit_in_every_minute(
        limit in 1u32..6,
        gaps_ms in prop::collection::vec(prop_oneof![0u64..50, 0u64..20_000, 0u64..200_000], 1..80),
    ) {
        let throttle = Throttle::new(limit, 0);
        let mut now_ms = NOW_MS;
        let mut failures: Vec<u64> = Vec::new();
        for gap_ms in gaps_ms {
            now_ms += gap_ms;
            let within = |window_ms: u64| {
                failures.iter().filter(|at_ms| now_ms - **at_ms < window_ms).count()
            };
            match throttle.check("anna", None, now_ms) {
                Ok(()) => {
                    prop_assert!(within(60_000) < limit as usize);
                    throttle.failed("anna", None, now_ms);
                    failures.push(now_ms);
                }
                Err(RetryAfter { seconds }) => {
                    prop_assert!(within(70_000) >= limit as usize);
                    prop_assert!((1..=70).contains(&seconds));
                    prop_assert_eq!(throttle.check("anna", None, now_ms + seconds * 1_000), Ok(()));
                }
            }
        }
    }
}
