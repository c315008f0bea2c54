//! A request as the handlers see it, and what they come to.

use std::net::IpAddr;

use super::Mode;
use super::answer::Reply;
use super::routes::Door;
use super::shared::Shared;
use crate::engine::{Credential, Engine, Error, Keyed};

/// Who asks, as far as his connection tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    /// His address; `None` if it is not known.
    pub(super) peer: Option<IpAddr>,
    /// Where he came in.
    pub(super) door: Door,
}

/// A request whose body has been read, as the handlers see it.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) shared: &'a Shared,
    pub(super) body: &'a [u8],
    /// The `token` header, empty when it is missing or no text.
    pub(super) token: &'a str,
    /// The `Idempotency-Key` header, where the route takes one.
    pub(super) key: Option<&'a str>,
    /// Where wrong passwords are counted; `None` if it is not known.
    pub(super) peer: Option<IpAddr>,
}

impl<'a> Call<'a> {
    pub(super) fn engine(&self) -> &'a Engine {
        &self.shared.engine
    }

    /// The changes that may have an idempotency key, with that of the request.
    pub(super) fn changes(&self) -> Result<Keyed<'a>, Error> {
        match self.key {
            Some(key) => self.engine().with_key(key),
            None => Ok(self.engine().without_key()),
        }
    }

    pub(super) fn is_compat(&self) -> bool {
        self.shared.config.mode == Mode::Compat
    }

    /// The credential of a route that is authorised by the token.
    pub(super) fn by_token(&self) -> Credential<'a> {
        if self.is_compat() { Credential::Trusted } else { Credential::Token(self.token) }
    }

    /// The credential of a route that is authorised by a password.
    pub(super) fn by_password(&self, password: &'a str) -> Credential<'a> {
        Credential::Password { password, from: self.peer }
    }
}

/// What a handler comes to: an answer, or what the engine or a field refused.
pub(super) type Handled = Result<Reply, Error>;
