//! What was verified, so that argon2 (24 ms) and HMAC need not run again for every request.
//!
//! Neither passwords nor tokens are kept, but keyed hashes of them; the key is fresh in every
//! process and never leaves it, so a dump of the map alone is nothing to guess from.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use siphasher::sip128::SipHasher24;

use super::{AuthError, Claims, random};
use crate::domain::NumberMap;

/// How many accounts are remembered, unless set.
pub const REMEMBERED_ACCOUNTS_DEFAULT: usize = 1_000_000;

/// How many tokens of one account are remembered. A token beyond them is valid as before; it is
/// verified by its signature each time.
pub const REMEMBERED_TOKENS_PER_ACCOUNT: usize = 64;

const SHARDS_MAX: usize = 1_024;

/// A point in the history of an account's invalidations. See [`AuthMemory::generation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u64);

/// The memory of verified passwords and tokens.
///
/// # Why a verification can never bring back what was invalidated
///
/// A verification runs for milliseconds outside any lock, so the password may change beneath it.
/// The caller takes the [`generation`](AuthMemory::generation) *before* he reads the stored hash
/// (or the state by which he judges a token), and hands it in with what he found. The change
/// becomes visible first, and then [`invalidate`](AuthMemory::invalidate) raises the generation
/// and drops the entry, both under the lock of the account's shard. A `remember_…` compares the
/// generation and inserts under the same lock. So of a `remember_…` and an `invalidate`
/// - either the first comes first: then the entry it made is dropped by the second;
/// - or the second comes first: then the generation differs from one taken before it, and the
///   first does nothing; and one taken after it belongs to a caller who read the new state.
///
/// The generation is one number a shard, not one for the whole memory: else anybody who logs out
/// in a loop would keep everybody's verifications from ever being remembered. That accounts of
/// one shard share it costs a neighbour at most one more verification.
///
/// # Bounds
///
/// At most `capacity` accounts. When an account's shard is full, a new one takes the place of the
/// one that has been there longest since the last round, so nothing is ever refused. A mutex of
/// our own over each shard, rather than a concurrent map, because the generation, the limit and
/// the entry must be judged in one critical section; account numbers are dense, so their
/// remainder spreads them evenly. No lock is held across a hash, an await or another lock.
pub struct AuthMemory {
    password_key: [u8; 32],
    token_key: [u8; 16],
    rows_per_shard: usize,
    shards: Box<[Mutex<Shard>]>,
}

impl fmt::Debug for AuthMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthMemory")
            .field("shards", &self.shards.len())
            .field("rows_per_shard", &self.rows_per_shard)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Shard {
    generation: u64,
    /// Account → index in `rows`.
    places: NumberMap<u32, usize>,
    rows: Vec<Row>,
    /// The row that the next new account replaces when the shard is full.
    hand: usize,
}

struct Row {
    account: u32,
    epoch: u32,
    password: Option<blake3::Hash>,
    tokens: Vec<KnownToken>,
}

struct KnownToken {
    /// SipHash-2-4 of 128 bits: a match by chance is out of reach, the key and the hashes are never seen, and a token
    /// costs a tenth of what it does with blake3, at every request.
    hash: [u8; 16],
    jti: u64,
    expires_ms: u64,
}

impl Row {
    fn new(account: u32, epoch: u32) -> Self {
        Self { account, epoch, password: None, tokens: Vec::new() }
    }

    fn know_token(&mut self, token: KnownToken) {
        if self.tokens.iter().any(|known| known.hash == token.hash) {
            return;
        }
        if self.tokens.is_empty() {
            // Most have one; a vector would begin with four.
            self.tokens.reserve_exact(1);
        }
        if self.tokens.len() < REMEMBERED_TOKENS_PER_ACCOUNT {
            self.tokens.push(token);
        } else if let Some(soonest) = self.tokens.iter_mut().min_by_key(|known| known.expires_ms) {
            *soonest = token;
        }
    }
}

impl Shard {
    fn row(&self, account: u32) -> Option<&Row> {
        self.places.get(&account).map(|&place| &self.rows[place])
    }

    /// The row of an account as of an epoch, made if need be. A newer epoch empties the row; none
    /// if the row is of a newer epoch already.
    fn row_as_of(&mut self, account: u32, epoch: u32, rows_max: usize) -> Option<&mut Row> {
        let place = match self.places.get(&account) {
            Some(&place) => place,
            None => self.add(Row::new(account, epoch), rows_max),
        };
        let row = &mut self.rows[place];
        if row.epoch > epoch {
            return None;
        }
        if row.epoch < epoch {
            *row = Row::new(account, epoch);
        }
        Some(row)
    }

    fn add(&mut self, row: Row, rows_max: usize) -> usize {
        let place = if self.rows.len() < rows_max { self.rows.len() } else { self.hand % rows_max };
        self.places.insert(row.account, place);
        if place == self.rows.len() {
            self.rows.push(row);
        } else {
            self.places.remove(&self.rows[place].account);
            self.rows[place] = row;
            self.hand = place + 1;
        }
        place
    }

    fn remove(&mut self, account: u32) {
        let Some(place) = self.places.remove(&account) else {
            return;
        };
        self.rows.swap_remove(place);
        if let Some(moved) = self.rows.get(place) {
            self.places.insert(moved.account, place);
        }
    }
}

impl AuthMemory {
    /// A memory of at most `capacity` accounts (at least one), with fresh random keys.
    ///
    /// # Errors
    /// [`AuthError::Password`].
    pub fn new(capacity: usize) -> Result<Self, AuthError> {
        let shards = capacity.clamp(1, SHARDS_MAX);
        Ok(Self {
            password_key: random()?,
            token_key: random()?,
            rows_per_shard: (capacity / shards).max(1),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
        })
    }

    /// To be taken before the state is read by which a password or token of this account will be
    /// judged, and handed in with the verdict.
    pub fn generation(&self, account: u32) -> Generation {
        Generation(self.shard(account).generation)
    }

    /// Remembers that this is the account's password as of an epoch. Does nothing if anything in
    /// the account's shard was invalidated since `before`.
    pub fn remember_password(&self, account: u32, epoch: u32, password: &[u8], before: Generation) {
        let hash = self.password_hash(account, password);
        self.remember(account, epoch, before, |row| row.password = Some(hash));
    }

    /// Remembers what a verified token says. Does nothing if anything in the account's shard was
    /// invalidated since `before`.
    pub fn remember_token(&self, token: &str, claims: &Claims, before: Generation) {
        let token = KnownToken { hash: self.token_hash(token), jti: claims.jti, expires_ms: claims.expires_ms };
        self.remember(claims.account, claims.epoch, before, |row| row.know_token(token));
    }

    /// The epoch as of which this was verified to be the account's password; none if it is not
    /// remembered, which says nothing about whether it is right.
    pub fn password(&self, account: u32, password: &[u8]) -> Option<u32> {
        let hash = self.password_hash(account, password);
        let shard = self.shard(account);
        let row = shard.row(account)?;
        // blake3's equality is constant-time.
        (row.password? == hash).then_some(row.epoch)
    }

    /// What a token says, if it was verified for this account and is not expired at `now_ms`;
    /// none says nothing about whether it is valid.
    pub fn token(&self, account: u32, token: &str, now_ms: u64) -> Option<Claims> {
        let hash = self.token_hash(token);
        let shard = self.shard(account);
        let row = shard.row(account)?;
        // Need not be constant-time: without the key nobody can steer the hash of his guess.
        let known = row.tokens.iter().find(|known| known.hash == hash)?;
        (now_ms < known.expires_ms).then_some(Claims {
            account,
            epoch: row.epoch,
            jti: known.jti,
            expires_ms: known.expires_ms,
        })
    }

    /// Whether a password of this account is remembered, and how many tokens that are not expired at `now_ms`.
    pub fn known(&self, account: u32, now_ms: u64) -> (bool, usize) {
        let shard = self.shard(account);
        shard.row(account).map_or((false, 0), |row| {
            (row.password.is_some(), row.tokens.iter().filter(|known| now_ms < known.expires_ms).count())
        })
    }

    /// Forgets all of an account: after its password changed or it was closed. To be called when
    /// the change is what a reader finds, and before it is answered.
    pub fn invalidate(&self, account: u32) {
        let mut shard = self.shard(account);
        shard.generation += 1;
        shard.remove(account);
    }

    /// Forgets one token: after it was revoked. To be called when the revocation is what a reader
    /// finds, and before it is answered. The password and the other tokens stay, so a logout
    /// makes no later request dear.
    pub fn invalidate_token(&self, account: u32, jti: u64) {
        let mut shard = self.shard(account);
        shard.generation += 1;
        if let Some(&place) = shard.places.get(&account) {
            shard.rows[place].tokens.retain(|known| known.jti != jti);
        }
    }

    #[cfg(test)]
    /// How many accounts are remembered. Walks the shards: for metrics.
    pub fn accounts(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).rows.len()).sum()
    }

    fn remember(&self, account: u32, epoch: u32, before: Generation, note: impl FnOnce(&mut Row)) {
        let mut shard = self.shard(account);
        if shard.generation != before.0 {
            return;
        }
        if let Some(row) = shard.row_as_of(account, epoch, self.rows_per_shard) {
            note(row);
        }
    }

    fn shard(&self, account: u32) -> MutexGuard<'_, Shard> {
        lock(&self.shards[account as usize % self.shards.len()])
    }

    /// The account goes in, so that equal passwords of two accounts do not show in the map.
    fn password_hash(&self, account: u32, password: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.password_key).update(&account.to_le_bytes()).update(password).finalize()
    }

    fn token_hash(&self, token: &str) -> [u8; 16] {
        SipHasher24::new_with_key(&self.token_key).hash(token.as_bytes()).as_bytes()
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
