//! Signed stateless tokens (JWT, HS256): whoever shows one was given it by us. Whether its account
//! still has that password epoch, and whether it was revoked, is not in the token.

use std::collections::HashSet;
use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::{AuthError, TokenKey, random};

/// The longest token that is looked at, in bytes. Ours stay below it whatever the terminal.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// What is kept of the terminal's name, in bytes. It is for people who read a token; nothing is
/// decided by it, so a longer one is cut rather than refused.
pub const TERMINAL_BYTES_MAX: usize = 128;

/// A new token.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// What the user carries.
    pub token: String,
    /// The token's own number, by which it is revoked.
    pub jti: u64,
    /// Engine time in ms from which the token is no longer valid.
    pub expires_ms: u64,
}

impl fmt::Debug for Issued {
    /// Leaves out the token: who reads it in a log could use it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("jti", &self.jti).field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

/// What a valid token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The account's number.
    pub account: u32,
    /// The password epoch of the account when the token was given.
    pub epoch: u32,
    /// The token's own number, by which it is revoked.
    pub jti: u64,
    /// Engine time in ms from which the token is no longer valid.
    pub expires_ms: u64,
}

/// Gives and verifies tokens.
pub struct Tokens {
    header: Header,
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    ttl_ms: u64,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("ttl_ms", &self.ttl_ms).finish_non_exhaustive()
    }
}

/// The claims as they are written.
#[derive(Serialize, Deserialize)]
struct Wire {
    /// The account's number, as text because RFC 7519 wants a string.
    sub: String,
    epoch: u32,
    /// 16 hexadecimal digits: a JSON number above 2^53 would not survive other readers.
    jti: String,
    iat: u64,
    exp: u64,
    terminal: String,
}

impl Tokens {
    /// Tokens signed by `key`, each valid for `ttl_ms` (rounded up to a whole second).
    pub fn new(key: &TokenKey, ttl_ms: u64) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // The library would compare with the wall clock; the engine has its own time. `verify`
        // judges `exp`, which the claims cannot be without.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims = HashSet::new();
        Self {
            header: Header::new(Algorithm::HS256),
            signing: EncodingKey::from_secret(key.as_bytes()),
            verifying: DecodingKey::from_secret(key.as_bytes()),
            validation,
            ttl_ms,
        }
    }

    /// Gives a token to an account. No two are the same, not even in the same millisecond.
    ///
    /// # Errors
    /// [`AuthError::Random`], [`AuthError::Signing`].
    pub fn issue(&self, account: u32, epoch: u32, terminal: &str, now_ms: u64) -> Result<Issued, AuthError> {
        let jti = u64::from_le_bytes(random()?);
        let exp = now_ms.saturating_add(self.ttl_ms).div_ceil(1_000);
        let claims = Wire {
            sub: account.to_string(),
            epoch,
            jti: format!("{jti:016x}"),
            iat: now_ms / 1_000,
            exp,
            terminal: cut(terminal).to_owned(),
        };
        let token =
            encode(&self.header, &claims, &self.signing).map_err(|error| AuthError::Signing(error.to_string()))?;
        Ok(Issued { token, jti, expires_ms: exp.saturating_mul(1_000) })
    }

    /// What a token says, if it is one of ours and not expired at `now_ms`.
    pub fn verify(&self, token: &str, now_ms: u64) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let wire: Wire = decode(token, &self.verifying, &self.validation).ok()?.claims;
        let expires_ms = wire.exp.saturating_mul(1_000);
        if now_ms >= expires_ms {
            return None;
        }
        Some(Claims {
            account: wire.sub.parse().ok()?,
            epoch: wire.epoch,
            jti: u64::from_str_radix(&wire.jti, 16).ok()?,
            expires_ms,
        })
    }
}

/// As much of a terminal's name as is kept, cut between two characters.
fn cut(terminal: &str) -> &str {
    let mut end = terminal.len().min(TERMINAL_BYTES_MAX);
    while !terminal.is_char_boundary(end) {
        end -= 1;
    }
    &terminal[..end]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]
mod tests {
    use jsonwebtoken::encode;
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    /// Some years ago, so that a look at the wall clock would show.
    const NOW_MS: u64 = 1_500_000_000_123;

    fn tokens() -> Tokens {
        Tokens::new(&TokenKey::from_bytes([7; 32]), HOUR_MS)
    }

    #[test]
    fn a_token_says_what_was_put_in_until_it_expires() {
        let tokens = tokens();
        let issued = tokens.issue(42, 3, "till 1", NOW_MS).unwrap();
        assert_eq!(issued.expires_ms, 1_500_003_601_000);
        let claims = Claims { account: 42, epoch: 3, jti: issued.jti, expires_ms: issued.expires_ms };
        assert_eq!(tokens.verify(&issued.token, NOW_MS), Some(claims));
        assert_eq!(tokens.verify(&issued.token, NOW_MS + HOUR_MS), Some(claims));
        assert_eq!(tokens.verify(&issued.token, issued.expires_ms - 1), Some(claims));
        assert_eq!(tokens.verify(&issued.token, issued.expires_ms), None);
    }

    #[test]
    fn two_tokens_of_one_millisecond_differ() {
        let tokens = tokens();
        let given: HashSet<String> = (0..1_000).map(|_| tokens.issue(1, 1, "t", NOW_MS).unwrap().token).collect();
        assert_eq!(given.len(), 1_000);
    }

    #[test]
    fn another_key_verifies_nothing() {
        let issued = tokens().issue(1, 1, "t", NOW_MS).unwrap();
        let other = Tokens::new(&TokenKey::from_bytes([8; 32]), HOUR_MS);
        assert_eq!(other.verify(&issued.token, NOW_MS), None);
    }

    #[test]
    fn every_single_changed_character_is_noticed() {
        let tokens = tokens();
        let issued = tokens.issue(1, 1, "t", NOW_MS).unwrap();
        for at in 0..issued.token.len() {
            for replacement in ['A', 'B', '.'] {
                let mut forged = issued.token.clone();
                forged.replace_range(at..=at, &replacement.to_string());
                let accepted = tokens.verify(&forged, NOW_MS).is_some();
                assert_eq!(accepted, forged == issued.token, "at {at}: {forged}");
            }
        }
        assert_eq!(tokens.verify(&issued.token[..issued.token.len() - 1], NOW_MS), None);
    }

    #[test]
    fn other_algorithms_and_none_are_refused() {
        let tokens = tokens();
        let claims = |sub: &str, jti: &str| Wire {
            sub: sub.to_owned(),
            epoch: 1,
            jti: jti.to_owned(),
            iat: 0,
            exp: u64::MAX,
            terminal: String::new(),
        };
        let signed = |algorithm, wire: &Wire| encode(&Header::new(algorithm), wire, &tokens.signing).unwrap();
        let wire = claims("1", "1");
        assert!(tokens.verify(&signed(Algorithm::HS256, &wire), NOW_MS).is_some());
        assert!(tokens.verify(&signed(Algorithm::HS512, &wire), NOW_MS).is_none());
        // {"alg":"none"}.{"sub":"1"} without a signature
        assert!(tokens.verify("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", NOW_MS).is_none());
        for wire in [claims("x", "1"), claims("4294967296", "1"), claims("1", "g")] {
            assert!(tokens.verify(&signed(Algorithm::HS256, &wire), NOW_MS).is_none());
        }
    }

    #[test]
    fn a_terminal_is_cut_between_characters_and_the_token_stays_within_its_limit() {
        let tokens = tokens();
        for terminal in ["\u{0}".repeat(9_999), "书".repeat(9_999), "é".repeat(64), String::new()] {
            let issued = tokens.issue(u32::MAX, u32::MAX, &terminal, NOW_MS).unwrap();
            assert!(issued.token.len() <= TOKEN_BYTES_MAX);
            assert!(tokens.verify(&issued.token, NOW_MS).is_some());
        }
    }

    #[test]
    fn an_overlong_token_is_not_even_parsed() {
        let tokens = tokens();
        let long = format!("{}{}", "A".repeat(TOKEN_BYTES_MAX), ".B.C");
        assert_eq!(tokens.verify(&long, NOW_MS), None);
        // A token that is rightly signed and too long shows that the length is what is judged.
        let wire = Wire {
            sub: "1".to_owned(),
            epoch: 1,
            jti: "1".to_owned(),
            iat: 0,
            exp: u64::MAX,
            terminal: "t".repeat(TOKEN_BYTES_MAX),
        };
        let signed = encode(&tokens.header, &wire, &tokens.signing).unwrap();
        assert_eq!(tokens.verify(&signed, NOW_MS), None);
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let tokens = Tokens::new(&TokenKey::from_bytes([7; 32]), u64::MAX);
        let issued = tokens.issue(1, 1, "t", u64::MAX).unwrap();
        assert_eq!(issued.expires_ms, u64::MAX);
        assert!(tokens.verify(&issued.token, u64::MAX - 1).is_some());
        assert!(tokens.verify(&issued.token, u64::MAX).is_none());
    }

    #[test]
    fn debug_does_not_print_the_token() {
        let issued = tokens().issue(1, 1, "t", NOW_MS).unwrap();
        assert!(!format!("{issued:?}").contains(&issued.token));
    }

    proptest! {
        #[test]
        fn any_account_epoch_terminal_and_time_survive(
            account: u32, epoch: u32, terminal: String, now_ms in 0..1u64 << 50,
        ) {
            let tokens = tokens();
            let issued = tokens.issue(account, epoch, &terminal, now_ms).unwrap();
            let claims = tokens.verify(&issued.token, now_ms + HOUR_MS - 1).unwrap();
            prop_assert_eq!((claims.account, claims.epoch), (account, epoch));
            prop_assert_eq!((claims.jti, claims.expires_ms), (issued.jti, issued.expires_ms));
            prop_assert!(issued.expires_ms - now_ms >= HOUR_MS);
            prop_assert!(issued.expires_ms - now_ms < HOUR_MS + 1_000);
        }

        #[test]
        fn no_text_is_a_token(text: String) {
            prop_assert_eq!(tokens().verify(&text, NOW_MS), None);
        }
    }
}
