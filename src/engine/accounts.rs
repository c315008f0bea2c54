//! The calls about users, their passwords and their money.

use super::names::Given;
use super::{COMMAND_BYTES, Credential, Engine, Error, Result, check_id, check_password};
use crate::actors::Directory;
use crate::auth::PasswordHash;
use crate::domain::{
    Account, AccountEvent, AccountMsg, AccountNo, Blob, Cred, EVENT_VERSION, Entity, Fen, OrderMsg, Outcome,
    Persistent, Refusal, Secret, Send,
};

impl Given for Directory<Account> {
    fn id(&self, number: u32) -> &str {
        self.name(number).map_or("", |name| name)
    }
}

impl Engine {
    /// Registers a user with balance 0. The password is hashed first, which costs some 25 ms of a core by default; see
    /// [`Config::password_params`](crate::Config::password_params).
    ///
    /// # Errors
    /// 530 if the id or the password is out of its bounds; 512 if the id is taken; [`Error::Overloaded`] if more than
    /// 1,024 password checks wait.
    ///
    /// # Cancellation
    /// Until the password is hashed dropping the future leaves no user behind; then it is done.
    pub async fn register(&self, user_id: &str, password: &str) -> Result<()> {
        check_id("user_id", user_id)?;
        check_password("password", password)?;
        let core = &self.core;
        if core.account(user_id).is_some() {
            return core.refuse(Refusal::UserExists(user_id.into())).await;
        }
        let secret = core.hash_password(password).await?;
        self.register_secret(user_id, secret).await
    }

    /// As [`Engine::register`], with a hash that was made before: to move users over from another system without
    /// hashing each password anew. See [`PasswordHash::new`](crate::PasswordHash::new).
    ///
    /// # Errors
    /// 530 if the id is out of its bounds; 512 if it is taken.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation), which is admitted at the first poll unless an audit is under way.
    pub async fn register_hashed(&self, user_id: &str, password: &PasswordHash) -> Result<()> {
        check_id("user_id", user_id)?;
        self.register_secret(user_id, Blob(password.to_stored())).await
    }

    async fn register_secret(&self, user_id: &str, secret: Secret) -> Result<()> {
        let core = &self.core;
        core.check_disk()?;
        let bytes = user_id.len() + COMMAND_BYTES;
        let admission = core.system.answers.admit(bytes, None).await.map_err(|busy| core.busy(busy))?;
        let system = &core.system;
        let claimed = core.names.claim_account(user_id, &system.accounts, || {
            let number = AccountNo(system.accounts.allocate());
            // No actor is needed: nobody else knows the number yet.
            system.accounts.create(number.0, user_id.into(), || {
                let mut account = Account::new(number);
                let event = AccountEvent::Registered { user_id: user_id.into(), secret };
                let mut bytes = Vec::new();
                let at = system.clock.now();
                let kind = account.encode_event(&event, at, &mut bytes);
                system.journal.append(kind, EVENT_VERSION, &bytes);
                account.apply(&event, at);
                account.encode()
            });
            number
        });
        let outcome = match claimed {
            Some(_) => Outcome::Done,
            None => Outcome::Refused(Refusal::UserExists(user_id.into())),
        };
        system.answers.reply(admission.ticket, outcome, &system.journal);
        core.answer(admission).await.map(|_| ())
    }

    /// Closes the account. Its id may be registered anew, as a new account that inherits nothing: no order, no token.
    ///
    /// # Errors
    /// 401 for an unknown user or a wrong credential; 530 unless the balance is 0, no order of the user is open
    /// (pending, paid, shipped) and the user owns no store that is not [closed](Engine::close_store).
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn unregister(&self, user_id: &str, credential: Credential<'_>) -> Result<()> {
        let (buyer, cred) = self.authorise(user_id, credential).await?;
        let message = |ticket| Send::Order(buyer.shard(), OrderMsg::Unregister { ticket, buyer, cred });
        self.core.change(0, message).await.map(|_| ())
    }

    /// Gives a token that authorises this user for [`Config::token_ttl`](crate::Config::token_ttl). Many can be valid
    /// at once; changing the password voids all of them. `terminal` names the device and is only recorded in the token.
    ///
    /// # Errors
    /// 401 for an unknown user or a wrong credential.
    ///
    /// # Cancellation
    /// Nothing is changed, so the future may be dropped at any time.
    pub async fn login(&self, user_id: &str, credential: Credential<'_>, terminal: &str) -> Result<String> {
        let (account, cred) = self.authorise(user_id, credential).await?;
        let epoch = match cred {
            Cred::Epoch(epoch) => epoch,
            _ => match self.core.stored_password(account).await? {
                Some((_, epoch)) => epoch,
                None => return Err(Error::Refused(Refusal::Unauthorized)),
            },
        };
        let core = &self.core;
        let issued = core
            .tokens
            .issue(account.0, epoch, terminal, core.system.clock.now())
            .map_err(|error| core.auth_error(error))?;
        // Otherwise a login of a user whose registration is not durable yet could be told.
        core.pass_gate().await?;
        Ok(issued.token)
    }

    /// Changes the password. Every token of the user is void when this returns. The new password is hashed as in
    /// [`Engine::register`].
    ///
    /// # Errors
    /// 530 if the new password is out of its bounds; 401 for an unknown user or a wrong credential.
    ///
    /// # Cancellation
    /// Until the new password is hashed dropping the future changes nothing; then it is done.
    pub async fn change_password(&self, user_id: &str, credential: Credential<'_>, new_password: &str) -> Result<()> {
        check_password("newPassword", new_password)?;
        let (account, cred) = self.authorise(user_id, credential).await?;
        let secret = self.core.hash_password(new_password).await?;
        let message = |ticket| Send::Account(account, AccountMsg::SetPassword { ticket, cred, secret });
        self.core.change(0, message).await.map(|_| ())
    }

    /// Revokes the token. Other tokens of the user stay valid.
    ///
    /// # Errors
    /// 401 for an unknown user, or a token that is forged, expired, revoked, or of somebody else.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn logout(&self, user_id: &str, token: &str) -> Result<()> {
        check_id("user_id", user_id)?;
        let core = &self.core;
        let claims = core.tokens.verify(token, core.system.clock.now());
        let account = core.account(user_id);
        let (Some(account), Some(claims)) = (account, claims) else {
            return core.refuse(Refusal::Unauthorized).await;
        };
        if claims.account != account.0 {
            return core.refuse(Refusal::Unauthorized).await;
        }
        let (epoch, token, expires) = (claims.epoch, claims.jti, claims.expires_ms);
        let message = |ticket| Send::Account(account, AccountMsg::Revoke { ticket, epoch, token, expires });
        core.change(0, message).await.map(|_| ())
    }

    /// Puts `value` fen in, or takes `-value` fen out if it is negative; 0 is allowed.
    ///
    /// # Errors
    /// 401 for an unknown user or a wrong credential; 530 if the balance would fall below 0 or the sum of all
    /// deposits would reach 2^62 fen.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn add_funds(&self, user_id: &str, credential: Credential<'_>, value: Fen) -> Result<()> {
        self.without_key().add_funds(user_id, credential, value).await
    }

    /// The balance in fen, without what is held for a payment under way.
    ///
    /// # Errors
    /// 401 for an unknown user or a wrong credential.
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn balance(&self, user_id: &str, credential: Credential<'_>) -> Result<Fen> {
        let (account, cred) = self.authorise(user_id, credential).await?;
        let message = |ticket| Send::Account(account, AccountMsg::Balance { ticket, cred });
        match self.core.ask(message).await? {
            Outcome::Balance(balance) => Ok(balance),
            outcome => self.core.unexpected(&outcome),
        }
    }

    /// The account and its credential, where an unknown user is a 401 like a wrong credential.
    pub(super) async fn authorise(&self, user_id: &str, credential: Credential<'_>) -> Result<(AccountNo, Cred)> {
        check_id("user_id", user_id)?;
        let core = &self.core;
        let Some(account) = core.account(user_id) else {
            core.refuse_unknown_user(user_id, credential).await?;
            return core.refuse(Refusal::Unauthorized).await;
        };
        self.authorise_account(user_id, account, credential).await
    }

    async fn authorise_account(
        &self,
        user_id: &str,
        account: AccountNo,
        credential: Credential<'_>,
    ) -> Result<(AccountNo, Cred)> {
        match self.core.resolve(user_id, account, credential).await? {
            Cred::Refused => self.core.refuse(Refusal::Unauthorized).await,
            cred => Ok((account, cred)),
        }
    }

    /// The account and its credential, where an unknown user is a 511.
    pub(super) async fn user(&self, user_id: &str, credential: Credential<'_>) -> Result<(AccountNo, Cred)> {
        check_id("user_id", user_id)?;
        match self.core.account(user_id) {
            None => self.core.refuse(Refusal::NoUser(user_id.into())).await,
            Some(account) => self.authorise_account(user_id, account, credential).await,
        }
    }
}
