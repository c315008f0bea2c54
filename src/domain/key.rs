//! Idempotency keys: what a client sends so that a repeated command has one effect.
//!
//! A key counts for one user and one operation. Only a success is kept, in the event that commits it, so that key and
//! effect are there together or not at all; a refusal had no effect and is judged anew.

use serde::{Deserialize, Serialize};

use super::ids::Millis;

/// How long a success is kept, in ms of engine time since its event. The contract promises a day. Engine time jumps when
/// the wall clock was wrong at the last start, or after the machine slept, so a second day is kept on top of it.
pub const KEPT_FOR: Millis = 48 * 60 * 60 * 1_000;

/// What a key is for. The same key on two operations is two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// new_order.
    NewOrder = 1,
    /// payment.
    Payment = 2,
    /// pay_to_platform.
    PayToPlatform = 3,
    /// confirm_receipt_and_pay_toseller.
    Confirm = 4,
    /// add_funds.
    AddFunds = 5,
    /// cancel_order.
    CancelOrder = 6,
    /// refund_order.
    RefundOrder = 7,
}

/// A key of one user, with its operation: a hash of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(pub [u8; 16]);

/// A key as it travels: its scope, and a fingerprint of the fields that it came with. The text is not kept, so what is
/// stored does not grow with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; Key::BYTES]);

impl Key {
    pub(super) const BYTES: usize = 32;

    /// The key `text` on an operation with these fields.
    pub fn new<'a>(operation: Operation, text: &str, fields: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[operation as u8]);
        hasher.update(text.as_bytes());
        let scope = hasher.finalize();
        let mut hasher = blake3::Hasher::new();
        for field in fields {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        let fields = hasher.finalize();
        let bytes = scope.as_bytes().iter().take(16).chain(fields.as_bytes().iter().take(16));
        let mut key = [0; Key::BYTES];
        key.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Key(key)
    }

    pub(super) fn from_bytes(bytes: [u8; Key::BYTES]) -> Self {
        Key(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; Key::BYTES] {
        &self.0
    }

    /// The key without the fields.
    pub fn scope(&self) -> Scope {
        Scope(std::array::from_fn(|index| self.0[index]))
    }

    /// Whether both came with the same fields.
    pub fn has_fields_of(&self, other: &Key) -> bool {
        self.0[16..] == other.0[16..]
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = super::event::Blob::deserialize(deserializer)?.0;
        let bytes = <[u8; Key::BYTES]>::try_from(&*bytes);
        Ok(Key(bytes.map_err(|_| serde::de::Error::custom("a key has 32 bytes"))?))
    }
}

/// A success that is kept under its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// With the fields it came with.
    pub key: Key,
    /// When the event that commits it was journaled.
    pub at: Millis,
}

impl Kept {
    /// Its time is not over. Whether it is depends on times of events only, so a replay judges as the first run did.
    pub fn is_alive(&self, now: Millis) -> bool {
        is_alive(self.at, now)
    }
}

/// Whether what was kept at `at` still is.
pub fn is_alive(at: Millis, now: Millis) -> bool {
    now < at.saturating_add(KEPT_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_and_fields_are_told_apart() {
        let key = |operation, text, fields: &[&[u8]]| Key::new(operation, text, fields.iter().copied());
        let first = key(Operation::Payment, "k", &[b"order"]);
        assert_eq!(first, key(Operation::Payment, "k", &[b"order"]));
        assert_ne!(first.scope(), key(Operation::Payment, "l", &[b"order"]).scope());
        assert_ne!(first.scope(), key(Operation::PayToPlatform, "k", &[b"order"]).scope());
        let other = key(Operation::Payment, "k", &[b"another order"]);
        assert_eq!(first.scope(), other.scope());
        assert!(!first.has_fields_of(&other) && first.has_fields_of(&first));
        // Fields do not run into one another.
        let (left, right) =
            (key(Operation::Payment, "k", &[b"ab", b"c"]), key(Operation::Payment, "k", &[b"a", b"bc"]));
        assert!(!left.has_fields_of(&right));
    }

    #[test]
    fn a_key_comes_back_from_its_bytes_and_lives_its_time() {
        let kept = Kept { key: Key::new(Operation::AddFunds, "k", []), at: 5 };
        let bytes = rmp_serde::to_vec(&kept).unwrap();
        assert_eq!(rmp_serde::from_slice::<Kept>(&bytes).unwrap(), kept);
        assert!(kept.is_alive(KEPT_FOR + 4) && !kept.is_alive(KEPT_FOR + 5));
    }
}
