//! argon2id at rest. Both functions burn tens of milliseconds of CPU and tens of MiB: call them
//! through [`Hasher`](super::Hasher), never on an async thread.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};

use super::{PasswordError, random};
use crate::varint;

/// The longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

pub(super) const SALT_BYTES: usize = 16;
pub(super) const HASH_BYTES: usize = 32;

/// Above these a hash would rather be an outage. They bound what a decoded hash can ask for, too.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const ITERATIONS_MAX: u32 = 1_000;
const LANES_MAX: u32 = 64;

/// What one argon2id hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordParams {
    /// Memory in KiB: at least 8 for each lane, at most 1 GiB.
    pub memory_kib: u32,
    /// Passes over the memory: 1 to 1,000.
    pub iterations: u32,
    /// Lanes: 1 to 64. They are computed one after the other.
    pub lanes: u32,
}

impl Default for PasswordParams {
    /// 19 MiB, 2 passes, 1 lane: the least that OWASP's password storage guide advises.
    fn default() -> Self {
        Self { memory_kib: 19_456, iterations: 2, lanes: 1 }
    }
}

impl PasswordParams {
    /// Checks the limits that the fields name.
    ///
    /// # Errors
    /// [`PasswordError::Parameters`] with the field and its limits.
    pub fn validate(&self) -> Result<(), PasswordError> {
        let refuse = |why: String| Err(PasswordError::Parameters(why));
        if !(1..=LANES_MAX).contains(&self.lanes) {
            return refuse(format!("lanes is {}, not 1 to {LANES_MAX}", self.lanes));
        }
        if !(1..=ITERATIONS_MAX).contains(&self.iterations) {
            let iterations = self.iterations;
            return refuse(format!("iterations is {iterations}, not 1 to {ITERATIONS_MAX}"));
        }
        let least = 8 * self.lanes;
        if !(least..=MEMORY_KIB_MAX).contains(&self.memory_kib) {
            let memory = self.memory_kib;
            return refuse(format!("memory_kib is {memory}, not {least} to {MEMORY_KIB_MAX}"));
        }
        Ok(())
    }

    fn derive(&self, password: &[u8], salt: &[u8]) -> Result<[u8; HASH_BYTES], PasswordError> {
        self.validate()?;
        let params = Params::new(self.memory_kib, self.iterations, self.lanes, Some(HASH_BYTES))
            .map_err(|error| PasswordError::Parameters(error.to_string()))?;
        let mut hash = [0; HASH_BYTES];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password, salt, &mut hash)
            .map_err(|error| PasswordError::Argon2(error.to_string()))?;
        Ok(hash)
    }
}

/// A password at rest: salt, argon2id hash and what it cost, so that the setting can change while
/// old hashes stay valid.
///
/// `==` compares two stored rows and is not constant-time: it is not how a password is judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordHash {
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) hash: [u8; HASH_BYTES],
    pub(super) params: PasswordParams,
}

impl PasswordHash {
    /// Hashes a password with a salt of its own, which takes as long as `params` say (tens of ms by default).
    /// Blocks the thread.
    ///
    /// # Errors
    /// [`PasswordError`] if the password is not 1 to 1,024 bytes long, `params` are out of bounds, or there are no random
    /// bytes or no memory.
    pub fn new(password: &[u8], params: PasswordParams) -> Result<Self, PasswordError> {
        hash(password, params)
    }

    #[cfg(feature = "server")]
    /// As [`PasswordHash::new`], with a salt of the caller's, so that the hash is the same each time. Only for data
    /// that is made up: a salt that others can guess takes away what a salt is for.
    ///
    /// # Errors
    /// As [`PasswordHash::new`].
    pub(crate) fn salted(
        password: &[u8],
        params: PasswordParams,
        salt: [u8; SALT_BYTES],
    ) -> Result<PasswordHash, PasswordError> {
        hash_salted(password, params, salt)
    }

    /// A hash that no password is known for, to have something to compare with.
    pub(super) fn of_nobody(params: PasswordParams) -> Self {
        PasswordHash { salt: [0; SALT_BYTES], hash: [0; HASH_BYTES], params }
    }

    #[cfg(test)]
    /// What the hash cost.
    pub fn params(&self) -> PasswordParams {
        self.params
    }
}

impl fmt::Debug for PasswordHash {
    /// Leaves out salt and hash, so that no log ever holds material to guess from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").field("params", &self.params).finish_non_exhaustive()
    }
}

/// Hashes a password with a fresh salt.
///
/// # Errors
/// [`PasswordError::Length`], [`PasswordError::Parameters`], [`PasswordError::Random`] and
/// [`PasswordError::Argon2`] when memory is short.
pub fn hash(password: &[u8], params: PasswordParams) -> Result<PasswordHash, PasswordError> {
    hash_salted(password, params, random()?)
}

fn hash_salted(password: &[u8], params: PasswordParams, salt: [u8; SALT_BYTES]) -> Result<PasswordHash, PasswordError> {
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Err(PasswordError::Length);
    }
    let hash = params.derive(password, &salt)?;
    Ok(PasswordHash { salt, hash, params })
}

/// Whether a password is the one that was hashed; compared in constant time.
///
/// # Errors
/// [`PasswordError::Argon2`] when memory is short: that says nothing about the password, so it must
/// neither be answered as a wrong one nor count as one.
pub fn verify(password: &[u8], stored: &PasswordHash) -> Result<bool, PasswordError> {
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Ok(false);
    }
    let hash = stored.params.derive(password, &stored.salt)?;
    // The equality of blake3's hash type is constant-time; any 32 bytes can borrow it.
    Ok(blake3::Hash::from_bytes(hash) == blake3::Hash::from_bytes(stored.hash))
}

/// In front of a stored hash that cost what [`PasswordParams::default`] says in 0.1.0, whatever it says later.
const COST_OF_0_1: u8 = 0;
/// In front of one that cost something else: the three numbers of its cost follow.
const COST_FOLLOWS: u8 = 1;

const PARAMS_OF_0_1: PasswordParams = PasswordParams { memory_kib: 19_456, iterations: 2, lanes: 1 };

impl PasswordHash {
    /// The stored form: the cost as one byte or one and three numbers, the salt, the hash. It is the file format.
    pub(crate) fn to_stored(self) -> Box<[u8]> {
        let mut bytes = Vec::with_capacity(1 + SALT_BYTES + HASH_BYTES);
        if self.params == PARAMS_OF_0_1 {
            bytes.push(COST_OF_0_1);
        } else {
            bytes.push(COST_FOLLOWS);
            let PasswordParams { memory_kib, iterations, lanes } = self.params;
            [memory_kib, iterations, lanes].into_iter().for_each(|number| varint::put(&mut bytes, u64::from(number)));
        }
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.hash);
        bytes.into()
    }

    /// The reverse of [`PasswordHash::to_stored`]; an error says what is wrong. Refuses a cost outside the limits.
    pub(crate) fn from_stored(bytes: &[u8]) -> Result<Self, PasswordError> {
        let refuse = || PasswordError::Parameters("it is no stored password hash".to_owned());
        let (cost, mut rest) = bytes.split_first().ok_or_else(refuse)?;
        let params = match *cost {
            COST_OF_0_1 => PARAMS_OF_0_1,
            COST_FOLLOWS => {
                let mut number = || varint::take(&mut rest).and_then(|number| u32::try_from(number).ok());
                let (Some(memory_kib), Some(iterations), Some(lanes)) = (number(), number(), number()) else {
                    return Err(refuse());
                };
                PasswordParams { memory_kib, iterations, lanes }
            }
            _ => return Err(refuse()),
        };
        params.validate()?;
        let (salt, hash) = rest.split_first_chunk().ok_or_else(refuse)?;
        let hash = hash.try_into().map_err(|_| refuse())?;
        Ok(PasswordHash { salt: *salt, hash, params })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The least that argon2 allows, for tests that are not about its cost.
    pub(in crate::auth) const CHEAP: PasswordParams = PasswordParams { memory_kib: 8, iterations: 1, lanes: 1 };

    #[test]
    fn the_right_password_is_accepted_and_every_other_is_not() {
        let stored = hash(b"secret", CHEAP).unwrap();
        assert!(verify(b"secret", &stored).unwrap());
        for wrong in [&b"Secret"[..], b"secre", b"secret ", b"", &[b'x'; 2000]] {
            assert!(!verify(wrong, &stored).unwrap());
        }
    }

    #[test]
    fn the_hash_is_argon2id_as_others_compute_it() {
        // From the reference implementation's own tests:
        // echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32
        let params = PasswordParams { memory_kib: 65_536, iterations: 2, lanes: 1 };
        let reference = params.derive(b"password", b"somesalt").unwrap();
        let hex: String = reference.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
    }

    #[test]
    fn two_hashes_of_one_password_differ() {
        assert_ne!(hash(b"p", CHEAP).unwrap(), hash(b"p", CHEAP).unwrap());
    }

    #[test]
    fn the_cost_travels_with_the_hash() {
        let dear = PasswordParams { memory_kib: 64, iterations: 3, lanes: 2 };
        let stored = hash(b"p", dear).unwrap();
        assert_eq!(stored.params(), dear);
        assert!(verify(b"p", &stored).unwrap());
    }

    #[test]
    fn the_length_of_a_password_is_bounded() {
        assert!(matches!(hash(b"", CHEAP), Err(PasswordError::Length)));
        let longest = [b'x'; PASSWORD_BYTES_MAX];
        assert!(hash(&longest, CHEAP).is_ok());
        let longer = [b'x'; PASSWORD_BYTES_MAX + 1];
        assert!(matches!(hash(&longer, CHEAP), Err(PasswordError::Length)));
    }

    #[test]
    fn parameters_outside_the_limits_are_refused_by_name() {
        let refused = |memory_kib, iterations, lanes, name: &str| {
            let params = PasswordParams { memory_kib, iterations, lanes };
            let message = params.validate().unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
            assert!(matches!(hash(b"p", params), Err(PasswordError::Parameters(_))));
        };
        refused(7, 1, 1, "memory_kib");
        refused(15, 1, 2, "memory_kib");
        refused(MEMORY_KIB_MAX + 1, 1, 1, "memory_kib");
        refused(u32::MAX, u32::MAX, u32::MAX, "lanes");
        refused(8, 0, 1, "iterations");
        refused(8, ITERATIONS_MAX + 1, 1, "iterations");
        refused(8, 1, 0, "lanes");
        assert!(PasswordParams::default().validate().is_ok());
    }

    #[test]
    fn the_bytes_of_the_stored_form() {
        let stored = PasswordHash { salt: [1; 16], hash: [2; 32], params: PARAMS_OF_0_1 };
        let bytes = stored.to_stored();
        assert_eq!((bytes.len(), bytes[0], bytes[16], bytes[17]), (49, 0, 1, 2));
        assert_eq!(PasswordHash::from_stored(&bytes).unwrap(), stored);
        let params = PasswordParams { memory_kib: 300, iterations: 2, lanes: 1 };
        let bytes = PasswordHash { params, ..stored }.to_stored();
        assert_eq!((bytes.len(), &bytes[..6]), (53, &[1, 0xac, 2, 2, 1, 1][..]));
        assert_eq!(PasswordHash::from_stored(&bytes).unwrap(), PasswordHash { params, ..stored });
    }

    #[test]
    fn a_stored_form_with_other_lengths_or_costs_is_refused() {
        let decode = |salt: &[u8], hash: &[u8], cost: (u32, u32, u32)| {
            let mut bytes = vec![COST_FOLLOWS];
            [cost.0, cost.1, cost.2].into_iter().for_each(|number| varint::put(&mut bytes, u64::from(number)));
            bytes.extend(salt);
            bytes.extend(hash);
            PasswordHash::from_stored(&bytes)
        };
        assert!(decode(&[1; 16], &[2; 32], (8, 1, 1)).is_ok());
        assert!(decode(&[1; 15], &[2; 32], (8, 1, 1)).is_err());
        assert!(decode(&[1; 16], &[2; 33], (8, 1, 1)).is_err());
        assert!(decode(&[1; 16], &[2; 32], (u32::MAX, 1, 1)).is_err());
        assert!(decode(&[1; 16], &[2; 32], (8, u32::MAX, 1)).is_err());
        assert!(decode(&[1; 16], &[2; 32], (8, 1, 0)).is_err());
        assert!(PasswordHash::from_stored(&[]).is_err());
        assert!(PasswordHash::from_stored(&[2; 49]).is_err());
    }

    #[test]
    fn debug_prints_neither_salt_nor_hash() {
        let stored = PasswordHash { salt: [0xab; 16], hash: [0xcd; 32], params: CHEAP };
        let text = format!("{stored:?}");
        assert!(text.contains("memory_kib: 8"), "{text}");
        for secret in ["171", "205", "ab", "cd"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn only_the_very_same_bytes_verify(
            password in prop::collection::vec(any::<u8>(), 1..64),
            other in prop::collection::vec(any::<u8>(), 1..64),
        ) {
            let stored = hash(&password, CHEAP).unwrap();
            prop_assert!(verify(&password, &stored).unwrap());
            prop_assert_eq!(verify(&other, &stored).unwrap(), password == other);
        }

        #[test]
        fn any_bytes_decode_to_a_valid_hash_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Ok(stored) = PasswordHash::from_stored(&bytes) {
                prop_assert!(stored.params().validate().is_ok());
            }
        }
    }
}
