//! The throttle on wrong passwords, by user and by address.
//!
//! Failures are counted in slots of ten seconds, and the last seven slots count together: they
//! always cover the last 60 seconds and at most 70. So no minute, wherever it begins, ever sees
//! more failures than the limit, which a window that starts anew each minute cannot promise.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Wrong passwords a minute for one user, unless set.
pub const USER_PER_MINUTE_DEFAULT: u32 = 20;

/// Wrong passwords a minute from one address, unless set.
pub const ADDRESS_PER_MINUTE_DEFAULT: u32 = 1_000;

/// How many users, and how many addresses, are counted at once.
pub const THROTTLE_ENTRIES_MAX: usize = 100_000;

const SLOT_MS: u64 = 10_000;
const SLOTS: usize = 7;
/// Of how many counters the least one gives way when all places are taken.
const EVICTION_SAMPLE: usize = 8;

/// Too many wrong passwords: the next try is allowed after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong passwords, try again in {seconds} s")]
pub struct RetryAfter {
    /// Whole seconds, 1 to 70.
    pub seconds: u64,
}

/// Counts wrong passwords by user and by address, in bounded memory.
///
/// Users are counted by name, whether they exist or not, so that the throttle tells nobody which
/// ones do. Only failures count; a success changes nothing.
#[derive(Debug)]
pub struct Throttle {
    users: Counters<[u8; 16]>,
    addresses: Counters<Network>,
}

impl Throttle {
    /// Limits a minute; 0 = never throttled.
    pub fn new(user_per_minute: u32, address_per_minute: u32) -> Self {
        Self {
            users: Counters::new(user_per_minute, THROTTLE_ENTRIES_MAX),
            addresses: Counters::new(address_per_minute, THROTTLE_ENTRIES_MAX),
        }
    }

    /// Whether a password of this user from this address may be judged at `now_ms` (engine time).
    ///
    /// # Errors
    /// [`RetryAfter`]: the longer of the two times to wait.
    pub fn check(&self, user: &str, address: Option<IpAddr>, now_ms: u64) -> Result<(), RetryAfter> {
        let by_user = self.users.wait_ms(|| user_key(user), now_ms);
        let by_address = address.and_then(|address| self.addresses.wait_ms(|| Network::of(address), now_ms));
        match by_user.max(by_address) {
            None => Ok(()),
            Some(wait_ms) => Err(RetryAfter { seconds: wait_ms.div_ceil(1_000).max(1) }),
        }
    }

    /// Wrong passwords of this user in the last minute; 0 if users are not throttled.
    pub fn wrong_of(&self, user: &str, now_ms: u64) -> u64 {
        let recent = self.users.table().recent.get(&user_key(user)).copied();
        recent.map_or(0, |mut recent| {
            recent.advance(now_ms / SLOT_MS);
            u64::from(recent.total())
        })
    }

    /// Counts a wrong password.
    pub fn failed(&self, user: &str, address: Option<IpAddr>, now_ms: u64) {
        self.users.count(|| user_key(user), now_ms);
        if let Some(address) = address {
            self.addresses.count(|| Network::of(address), now_ms);
        }
    }
}

/// A user by the hash of his name: 16 bytes however long the name.
fn user_key(user: &str) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(user.as_bytes()).as_bytes()[..16]);
    key
}

/// What counts as one address. With IPv6 everybody has a /64 to himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let mut prefix = [0; 8];
                prefix.copy_from_slice(&v6.octets()[..8]);
                Self::V6(prefix)
            }
        }
    }
}

/// The failures of the last seven slots of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    /// The number of the newest slot that is counted.
    newest: u64,
    /// By slot number modulo their count.
    counts: [u32; SLOTS],
}

impl Recent {
    /// Forgets the slots that are too old at `slot`. Time never goes back here: a caller who read
    /// the clock a little earlier than another counts into the newest slot.
    fn advance(&mut self, slot: u64) {
        let passed = slot.saturating_sub(self.newest).min(SLOTS as u64);
        for step in 1..=passed {
            self.counts[index(slot.saturating_sub(passed) + step)] = 0;
        }
        self.newest = self.newest.max(slot);
    }

    fn total(&self) -> u32 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The time in ms from which fewer than `limit` failures count; none if that is so already.
    fn free_at_ms(&self, limit: u32) -> Option<u64> {
        let mut total = self.total();
        if total < limit {
            return None;
        }
        let oldest = self.newest.saturating_sub(SLOTS as u64 - 1);
        for slot in oldest..=self.newest {
            // Saturation of the total can only make it smaller than the counts, never wrap.
            total = total.saturating_sub(self.counts[index(slot)]);
            if total < limit {
                return Some((slot + SLOTS as u64) * SLOT_MS);
            }
        }
        Some((self.newest + SLOTS as u64) * SLOT_MS)
    }
}

fn index(slot: u64) -> usize {
    (slot % SLOTS as u64) as usize
}

#[derive(Debug)]
struct Counters<K> {
    per_minute: u32,
    entries_max: usize,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    recent: HashMap<K, Recent>,
    /// The slot in which the table was last swept of what is past.
    swept: u64,
}

impl<K: Copy + Eq + Hash> Counters<K> {
    fn new(per_minute: u32, entries_max: usize) -> Self {
        let table = Table { recent: HashMap::new(), swept: 0 };
        Self { per_minute, entries_max, table: Mutex::new(table) }
    }

    /// The ms to wait, if the key is above its limit.
    fn wait_ms(&self, key: impl FnOnce() -> K, now_ms: u64) -> Option<u64> {
        if self.per_minute == 0 {
            return None;
        }
        let key = key();
        let mut recent = *self.table().recent.get(&key)?;
        recent.advance(now_ms / SLOT_MS);
        let free_at_ms = recent.free_at_ms(self.per_minute)?;
        Some(free_at_ms.saturating_sub(now_ms))
    }

    fn count(&self, key: impl FnOnce() -> K, now_ms: u64) {
        if self.per_minute == 0 {
            return;
        }
        let key = key();
        let slot = now_ms / SLOT_MS;
        let mut table = self.table();
        if table.recent.len() >= self.entries_max && !table.recent.contains_key(&key) {
            table.make_room(slot, self.entries_max);
        }
        let recent = table.recent.entry(key).or_default();
        recent.advance(slot);
        let newest = index(recent.newest);
        recent.counts[newest] = recent.counts[newest].saturating_add(1);
    }

    fn table(&self) -> MutexGuard<'_, Table<K>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Table<K> {
    /// Drops what is past, at most once a slot because it walks the table. If that is not enough,
    /// the least of a few gives way: who floods the table with new names drops names like them
    /// rather than the one that is being guessed at.
    fn make_room(&mut self, slot: u64, entries_max: usize) {
        if self.swept < slot {
            self.swept = slot;
            self.recent.retain(|_, recent| recent.newest + SLOTS as u64 > slot);
        }
        if self.recent.len() < entries_max {
            return;
        }
        let least =
            self.recent.iter().take(EVICTION_SAMPLE).min_by_key(|(_, recent)| recent.total()).map(|(key, _)| *key);
        if let Some(key) = least {
            self.recent.remove(&key);
        }
    }
}

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod tests;
