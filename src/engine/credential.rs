//! Credentials become a value before a command enters an actor, which judges it in the contract's order of checks.

use std::net::IpAddr;

use super::{Core, Credential, Error, Result};
use crate::auth::{AuthError, PasswordHash};
use crate::domain::{AccountMsg, AccountNo, Blob, Cred, Outcome, Refusal, Secret, Send};

impl Core {
    /// Resolves the credential of an account that exists.
    pub(super) async fn resolve(&self, user_id: &str, account: AccountNo, credential: Credential<'_>) -> Result<Cred> {
        match credential {
            Credential::Trusted => Ok(Cred::Trusted),
            Credential::Token(token) => self.resolve_token(account, token).await,
            Credential::Password { password, from } => self.resolve_password(user_id, account, password, from).await,
        }
    }

    /// As [`Core::resolve`], if it can be done without hashing a password.
    pub(super) fn resolve_at_once(&self, account: AccountNo, credential: Credential<'_>) -> Option<Cred> {
        match credential {
            Credential::Trusted => Some(Cred::Trusted),
            Credential::Token(token) => {
                let claims = self.memory.token(account.0, token, self.system.clock.now())?;
                Some(Cred::Epoch(claims.epoch))
            }
            Credential::Password { password, .. } => {
                self.memory.password(account.0, password.as_bytes()).map(Cred::Epoch)
            }
        }
    }

    /// A password for a user that does not exist counts as any other wrong one, and costs as much: neither the
    /// throttle nor the time of an answer tells which users there are.
    pub(super) async fn refuse_unknown_user(&self, user_id: &str, credential: Credential<'_>) -> Result<()> {
        let Credential::Password { password, from } = credential else { return Ok(()) };
        self.check_throttle(user_id, from)?;
        let turn = self.hasher.turn().await.map_err(|error| self.auth_error(error))?;
        // It may have waited long.
        self.check_throttle(user_id, from)?;
        turn.verify_nobody(password.as_bytes()).await.map_err(|error| self.auth_error(error))?;
        self.throttle.failed(user_id, from, self.system.clock.now());
        Ok(())
    }

    async fn resolve_token(&self, account: AccountNo, token: &str) -> Result<Cred> {
        let now = self.system.clock.now();
        if let Some(claims) = self.memory.token(account.0, token, now) {
            return Ok(Cred::Epoch(claims.epoch));
        }
        let Some(claims) = self.tokens.verify(token, now).filter(|claims| claims.account == account.0) else {
            return Ok(Cred::Refused);
        };
        let before = self.memory.generation(account.0);
        let (epoch, id) = (claims.epoch, claims.jti);
        match self.ask(|ticket| Send::Account(account, AccountMsg::CheckToken { ticket, epoch, token: id })).await {
            Ok(Outcome::Done) => {
                self.memory.remember_token(token, &claims, before);
                Ok(Cred::Epoch(epoch))
            }
            Ok(outcome) => self.unexpected(&outcome),
            Err(Error::Refused(_)) => Ok(Cred::Refused),
            Err(error) => Err(error),
        }
    }

    async fn resolve_password(
        &self,
        user_id: &str,
        account: AccountNo,
        password: &str,
        from: Option<IpAddr>,
    ) -> Result<Cred> {
        if let Some(epoch) = self.memory.password(account.0, password.as_bytes()) {
            return Ok(Cred::Epoch(epoch));
        }
        self.check_throttle(user_id, from)?;
        let before = self.memory.generation(account.0);
        let Some((stored, epoch)) = self.stored_password(account).await? else {
            // Closed since its name was looked up.
            self.refuse_unknown_user(user_id, Credential::Password { password, from }).await?;
            return Ok(Cred::Refused);
        };
        let turn = self.hasher.turn().await.map_err(|error| self.auth_error(error))?;
        // It may have waited long: a burst of one password costs one hash, a burst of guesses stops at the limit.
        if let Some(epoch) = self.memory.password(account.0, password.as_bytes()) {
            return Ok(Cred::Epoch(epoch));
        }
        self.check_throttle(user_id, from)?;
        if turn.verify(password.as_bytes(), stored).await.map_err(|error| self.auth_error(error))? {
            self.memory.remember_password(account.0, epoch, password.as_bytes(), before);
            return Ok(Cred::Epoch(epoch));
        }
        self.throttle.failed(user_id, from, self.system.clock.now());
        Ok(Cred::Refused)
    }

    /// The account's password hash and epoch; `None` if it is closed. A hash of a form that is not known here concerns
    /// its user alone: everybody else goes on.
    pub(super) async fn stored_password(&self, account: AccountNo) -> Result<Option<(PasswordHash, u32)>> {
        match self.ask(|ticket| Send::Account(account, AccountMsg::Secret { ticket })).await? {
            Outcome::Secret(secret, epoch) => match PasswordHash::from_stored(&secret.0) {
                Ok(stored) => Ok(Some((stored, epoch))),
                Err(error) => {
                    let user = self.system.accounts.name(account.0).map(|name| name.to_string()).unwrap_or_default();
                    tracing::error!(account = account.0, user, %error, "a stored password is of a form that is not known");
                    let why = "the stored password is of a form that is not known, nothing was done";
                    Err(Error::Refused(Refusal::invalid("request", why)))
                }
            },
            Outcome::AccountGone => Ok(None),
            outcome => self.unexpected(&outcome),
        }
    }

    /// Hashes a new password.
    pub(super) async fn hash_password(&self, password: &str) -> Result<Secret> {
        let hash = self.hasher.hash(password.as_bytes()).await.map_err(|error| self.auth_error(error))?;
        Ok(Blob(hash.to_stored()))
    }

    fn check_throttle(&self, user_id: &str, from: Option<IpAddr>) -> Result<()> {
        self.throttle
            .check(user_id, from, self.system.clock.now())
            .map_err(|wait| Error::Throttled { why: "too many wrong passwords", retry_after_s: wait.seconds })
    }

    /// Hashing changes nothing, so whatever fails there may be tried again.
    pub(super) fn auth_error(&self, error: AuthError) -> Error {
        match error {
            AuthError::Busy => Error::Overloaded("too many password checks are waiting"),
            error => {
                tracing::warn!(%error, "a password check failed");
                Error::Overloaded("a password check failed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::offline::check;
    use crate::engine::{Config, Engine};

    /// A later version may have left it, for one user; it stopped the engine for all of them.
    #[tokio::test]
    async fn a_password_of_an_unknown_form_concerns_its_user_alone() {
        let parent = tempfile::TempDir::new().unwrap();
        let mut config = Config::directory(parent.path());
        (config.password_params.memory_kib, config.password_params.iterations) = (8, 1);
        config.segment_bytes = 16 << 20;
        let engine = Engine::open(config).await.unwrap();
        for user in ["ann", "bob"] {
            engine.register(user, "pw").await.unwrap();
        }
        let secret = Blob([9; 49].into());
        let set = |ticket| {
            Send::Account(AccountNo(1), AccountMsg::SetPassword { ticket, cred: Cred::Trusted, secret: secret.clone() })
        };
        assert!(matches!(engine.core.ask(set).await, Ok(Outcome::Done)));
        for credential in [Credential::password("pw"), Credential::Trusted] {
            let error = engine.login("ann", credential, "t").await.unwrap_err();
            assert!(!error.is_retryable() && error.to_string().contains("nothing was done"), "{error}");
        }
        engine.login("bob", Credential::password("pw"), "t").await.unwrap();
        engine.add_funds("ann", Credential::Trusted, 5).await.unwrap();
        engine.close().await.unwrap();
        let told: Vec<String> =
            check(parent.path(), |_| {}).await.unwrap().findings.iter().map(ToString::to_string).collect();
        assert!(matches!(&told[..], [one] if one.contains("\"ann\"") && one.contains("is not known")), "{told:?}");
    }
}
