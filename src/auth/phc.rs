//! Password hashes as other systems write them down: the PHC string
//! `$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>`, salt and hash in base64 without padding.

use super::PasswordError;
use super::password::{HASH_BYTES, PasswordHash, PasswordParams, SALT_BYTES};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl PasswordHash {
    /// Reads a PHC string of argon2id: version 19, a salt of 16 bytes, a hash of 32, the cost within the limits of
    /// [`PasswordParams`]. That is what most libraries write by default.
    ///
    /// # Errors
    /// [`PasswordError::Parameters`] says what is wrong; the text never holds a part of salt or hash.
    pub fn from_phc(text: &str) -> Result<Self, PasswordError> {
        let refuse = |why: &str| PasswordError::Parameters(why.to_owned());
        let mut parts = text.split('$');
        let (before, algorithm) = (parts.next(), parts.next());
        if before != Some("") || algorithm != Some("argon2id") {
            return Err(refuse("must begin with `$argon2id$`"));
        }
        if parts.next() != Some("v=19") {
            return Err(refuse("must be of version 19 (`v=19`)"));
        }
        let params = params(parts.next().unwrap_or_default())
            .ok_or_else(|| refuse("must say its cost as `m=<KiB>,t=<passes>,p=<lanes>`"))?;
        params.validate()?;
        let (salt, hash, end) = (parts.next(), parts.next(), parts.next());
        let salt = salt.and_then(decode::<SALT_BYTES>);
        let salt = salt.ok_or_else(|| refuse("must have a salt of 16 bytes in base64 without padding"))?;
        let hash = hash.and_then(decode::<HASH_BYTES>);
        let hash = hash.ok_or_else(|| refuse("must have a hash of 32 bytes in base64 without padding"))?;
        if end.is_some() {
            return Err(refuse("must end with its hash"));
        }
        Ok(PasswordHash { salt, hash, params })
    }

    /// The hash as a PHC string. It lets whoever reads it guess the password at leisure: keep it as you keep the data
    /// directory.
    pub fn to_phc(&self) -> String {
        let PasswordParams { memory_kib, iterations, lanes } = self.params;
        let (salt, hash) = (encode(&self.salt), encode(&self.hash));
        format!("$argon2id$v=19$m={memory_kib},t={iterations},p={lanes}${salt}${hash}")
    }
}

fn params(text: &str) -> Option<PasswordParams> {
    let mut parts = text.split(',');
    let mut number = |name: &str| -> Option<u32> {
        let digits = parts.next()?.strip_prefix(name)?;
        // `parse` would take a plus sign and leading zeros.
        digits.parse().ok().filter(|number: &u32| number.to_string() == digits)
    };
    let (memory_kib, iterations, lanes) = (number("m=")?, number("t=")?, number("p=")?);
    parts.next().is_none().then_some(PasswordParams { memory_kib, iterations, lanes })
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

/// `N` bytes, and only in their canonical form: the bits that a last letter has to spare are 0.
fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (mut bits, mut held, mut at) = (0u32, 0, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        bits = (bits << 6 | value as u32) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            *bytes.get_mut(at)? = (bits >> held) as u8;
            at += 1;
        }
    }
    let canonical = bits & ((1 << held) - 1) == 0 && held < 6;
    (at == N && canonical).then_some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]
mod tests {
    use proptest::prelude::*;

    use super::super::password::{hash, tests::CHEAP, verify};
    use super::*;

    #[test]
    fn a_hash_of_another_program_verifies() {
        let made = hash(b"password", CHEAP).unwrap();
        let text = made.to_phc();
        assert!(text.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{text}");
        let read = PasswordHash::from_phc(&text).unwrap();
        assert_eq!(read, made);
        assert!(verify(b"password", &read).unwrap());
        assert!(!verify(b"passwort", &read).unwrap());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = hash(b"p", CHEAP).unwrap().to_phc();
        let with = |from: &str, to: &str| good.replace(from, to);
        let cases = [
            (String::new(), "argon2id"),
            ("x".to_owned(), "argon2id"),
            (with("argon2id", "argon2i"), "argon2id"),
            (with("v=19", "v=16"), "version"),
            (with("v=19$", ""), "version"),
            (with("m=8,", "m=+8,"), "cost"),
            (with("m=8,", ""), "cost"),
            (with("p=1", "p=1,x=2"), "cost"),
            (with("m=8", "m=99999999"), "memory_kib"),
            (with("t=1", "t=0"), "iterations"),
            (good[..good.len() - 1].to_owned(), "hash"),
            (format!("{good}="), "hash"),
            (format!("{good}A"), "hash"),
            (format!("{good}$"), "end"),
            (with("p=1$", "p=1$A"), "salt"),
            (with("p=1$", "p=1$$"), "salt"),
        ];
        for (text, what) in cases {
            let why = PasswordHash::from_phc(&text).unwrap_err().to_string();
            assert!(why.contains(what), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn base64_comes_back(bytes: [u8; 16], longer: [u8; 32]) {
            prop_assert_eq!(decode::<16>(&encode(&bytes)), Some(bytes));
            prop_assert_eq!(decode::<32>(&encode(&longer)), Some(longer));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\$?(argon2id)?\\$?(v=19)?\\$?[mtp0-9=,$A-Za-z+/]{0,90}") {
            if let Ok(hash) = PasswordHash::from_phc(&text) {
                prop_assert_eq!(hash.to_phc(), text);
            }
        }
    }
}
