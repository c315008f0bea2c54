//! The seven changes that may carry an idempotency key: orders, payments, confirmations, cancellations, refunds
//! and funds.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::{Core, Credential, Engine, NewLine, Result, check_id};
use crate::domain::{
    self, AccountMsg, AccountNo, Cred, DEPOSITS_MAX, Fen, Key, Operation, OrderId, OrderMsg, Outcome, PayKind, Refusal,
    Send, Ticket,
};
use crate::trace;

/// The longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// What a key is called in the contract.
pub(crate) const KEY_FIELD: &str = "Idempotency-Key";

/// Changes with an idempotency key: however often one is sent, it has one effect. Made by [`Engine::with_key`].
///
/// Each call is as the one of [`Engine`] with the same name, and besides:
///
/// - The key counts for one user and one kind of call: the same text for another user or call is another key. For the
///   same call use a new key for each new intent, such as a UUID.
/// - Only a success is kept, in the same event of the journal that makes the change: both survive a crash, or neither.
///   It is kept for 24 hours at least: 48 of engine time, which jumps when a restart finds another wall clock. A refusal had no effect, so the call is judged anew when it is repeated.
/// - A repeat of what succeeded returns the same again and changes nothing, whatever became of the order meanwhile. While
///   the first is under way a repeat waits for it.
/// - The credential is judged first, for `pay`, `pay_to_platform` and `confirm` after the order and its owner.
/// - [`Refusal::KeyReused`] (422) if the key came with other arguments before; user and credential do not count as such.
/// - [`Error::Throttled`](super::Error::Throttled) if the user has
///   [`Limits::deposit_keys_max`](crate::Limits::deposit_keys_max) deposits and withdrawals with a key that are kept;
///   [`Error::Overloaded`](super::Error::Overloaded) if 64 calls wait for the first under one key.
///
/// After [`Error::OutcomeUnknown`](super::Error::OutcomeUnknown) open the engine anew and make the same call with the
/// same key: it is done then, once.
///
/// # Example
/// ```
/// # use bookstore::{Config, Credential, Engine};
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = Engine::open(Config::memory()).await?;
/// # engine.register("buyer", "secret").await?;
/// let deposit = engine.with_key("deposit-17")?;
/// deposit.add_funds("buyer", Credential::Trusted, 500).await?;
/// deposit.add_funds("buyer", Credential::Trusted, 500).await?;
/// assert_eq!(engine.balance("buyer", Credential::Trusted).await?, 500);
/// # engine.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Keyed<'a> {
    engine: &'a Engine,
    key: Option<&'a str>,
}

impl Engine {
    /// Gives the next changes an idempotency key, 1 to [`KEY_BYTES_MAX`] visible ASCII characters.
    ///
    /// # Errors
    /// 530 if the key is not that.
    pub fn with_key<'a>(&'a self, key: &'a str) -> Result<Keyed<'a>> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refusal::invalid(KEY_FIELD, "must be 1 to 255 visible ASCII characters").into());
        }
        Ok(Keyed { engine: self, key: Some(key) })
    }

    /// The same changes without a key.
    pub(crate) fn without_key(&self) -> Keyed<'_> {
        Keyed { engine: self, key: None }
    }
}

impl Keyed<'_> {
    fn key<'f>(&self, operation: Operation, fields: impl IntoIterator<Item = &'f [u8]>) -> Option<Key> {
        self.key.map(|text| Key::new(operation, text, fields))
    }

    /// As [`Engine::new_order`]. A repeat returns the same order.
    ///
    /// # Errors
    /// As there, and [`Refusal::KeyReused`] after 401.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn new_order(
        &self,
        user_id: &str,
        credential: Credential<'_>,
        store_id: &str,
        lines: &[NewLine<'_>],
    ) -> Result<OrderId> {
        check_id("store_id", store_id)?;
        let core = &self.engine.core;
        let limits = &core.config.limits;
        if lines.len() > limits.order_lines_max {
            let why = format!("must have at most {} lines", limits.order_lines_max);
            return Err(Refusal::invalid("books", why).into());
        }
        let mut bytes = 0;
        let mut wanted = Vec::with_capacity(lines.len());
        for line in lines {
            check_id("id", line.book_id)?;
            if line.count < 1 {
                return Err(Refusal::invalid("count", "must be 1 or more").into());
            }
            // The numbers of a line, in two events.
            bytes += 64;
            wanted.push(domain::NewLine { book_id: line.book_id.into(), count: line.count });
        }
        let counts: Vec<_> = lines.iter().map(|line| line.count.to_le_bytes()).collect();
        let books = lines.iter().zip(&counts).flat_map(|(line, count)| [line.book_id.as_bytes(), &count[..]]);
        let key = self.key(Operation::NewOrder, std::iter::once(store_id.as_bytes()).chain(books));
        let (buyer, _) = self.engine.user(user_id, credential).await?;
        // A closed store judges itself if there is a key, which comes first: it may be that of an order from before.
        let store = core.names.open_store(store_id).or_else(|| core.names.store(store_id).filter(|_| key.is_some()));
        let Some((store, _)) = store else {
            return core.refuse_keyed(buyer, key, Refusal::NoStore(store_id.into())).await;
        };
        let order = core.ids.next(core.system.clock.now(), buyer);
        trace::note("order_id", order);
        let ttl = core.config.order_ttl.as_millis() as u64;
        let pending_max = limits.pending_orders_max;
        let message = |ticket| {
            let place = OrderMsg::Place { ticket, order, buyer, store, lines: wanted, ttl, pending_max, key };
            Send::Order(order.shard(), place)
        };
        match core.change(bytes, message).await? {
            Outcome::Placed(order) => Ok(order),
            Outcome::AccountGone => Err(Refusal::NoUser(user_id.into()).into()),
            Outcome::StoreClosed => Err(Refusal::NoStore(store_id.into()).into()),
            outcome => core.unexpected(&outcome),
        }
    }

    /// As [`Engine::pay`].
    ///
    /// # Errors
    /// As there, and [`Refusal::KeyReused`] after the second 401.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn pay(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<()> {
        self.pay_as(user_id, order_id, credential, PayKind::Direct, Operation::Payment).await
    }

    /// As [`Engine::pay_to_platform`].
    ///
    /// # Errors
    /// As there, and [`Refusal::KeyReused`] after the second 401.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn pay_to_platform(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<()> {
        self.pay_as(user_id, order_id, credential, PayKind::Platform, Operation::PayToPlatform).await
    }

    async fn pay_as(
        &self,
        user_id: &str,
        order_id: &str,
        credential: Credential<'_>,
        kind: PayKind,
        operation: Operation,
    ) -> Result<()> {
        let key = self.key(operation, [order_id.as_bytes()]);
        let gone = |name: &str| (name == user_id).then(|| Refusal::NoUser(user_id.into()));
        let message = move |ticket, order, user, cred| OrderMsg::Pay { ticket, order, user, cred, kind, key };
        self.on_own_order(user_id, order_id, credential, gone, message).await
    }

    /// As [`Engine::confirm`].
    ///
    /// # Errors
    /// As there, and [`Refusal::KeyReused`] after the second 401.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn confirm(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<()> {
        let key = self.key(Operation::Confirm, [order_id.as_bytes()]);
        let message = move |ticket, order, user, cred| OrderMsg::Confirm { ticket, order, user, cred, key };
        self.on_own_order(user_id, order_id, credential, |_| None, message).await
    }

    /// A command on an order whose existence and owner are judged before the credential. `gone` says what an order
    /// of another account answers, given that account's user id; 401 if nothing.
    async fn on_own_order(
        &self,
        user_id: &str,
        order_id: &str,
        credential: Credential<'_>,
        gone: impl Fn(&str) -> Option<Refusal>,
        message: impl FnOnce(Ticket, OrderId, Option<AccountNo>, Cred) -> OrderMsg,
    ) -> Result<()> {
        check_id("user_id", user_id)?;
        check_id("order_id", order_id)?;
        let core = &self.engine.core;
        let not_yours = |buyer: AccountNo| {
            let name = core.system.accounts.name(buyer.0);
            name.and_then(|name| gone(name)).unwrap_or(Refusal::Unauthorized)
        };
        let Some(order) = OrderId::parse(order_id) else {
            return core.refuse(Refusal::NoOrder(order_id.into())).await;
        };
        let user = core.account(user_id);
        let cred = match user.map(|user| (user, core.resolve_at_once(user, credential))) {
            None => Cred::Refused,
            Some((_, Some(cred))) => cred,
            // A password must be hashed; what needs no password is judged first.
            Some((user, None)) => {
                let buyer = |ticket| Send::Order(order.shard(), OrderMsg::Buyer { ticket, order });
                match core.ask(buyer).await? {
                    Outcome::Buyer(buyer) if buyer == user => core.resolve(user_id, user, credential).await?,
                    Outcome::Buyer(buyer) => return Err(not_yours(buyer).into()),
                    outcome => return core.unexpected(&outcome),
                }
            }
        };
        let message = |ticket| Send::Order(order.shard(), message(ticket, order, user, cred));
        match core.change(0, message).await? {
            Outcome::Done | Outcome::Kept => Ok(()),
            Outcome::NotYours(buyer) => Err(not_yours(buyer).into()),
            outcome => core.unexpected(&outcome),
        }
    }

    /// As [`Engine::cancel_order`].
    ///
    /// # Errors
    /// As there, and [`Refusal::KeyReused`] after 401.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn cancel_order(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<()> {
        let message = |ticket, order, user, key| OrderMsg::Cancel { ticket, order, user, key };
        self.end_order(user_id, order_id, credential, Operation::CancelOrder, message).await
    }

    /// As [`Engine::refund_order`].
    ///
    /// # Errors
    /// As there, and [`Refusal::KeyReused`] after 401.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn refund_order(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<()> {
        let message = |ticket, order, user, key| OrderMsg::Refund { ticket, order, user, key };
        self.end_order(user_id, order_id, credential, Operation::RefundOrder, message).await
    }

    /// A command whose credential is judged before the order.
    async fn end_order(
        &self,
        user_id: &str,
        order_id: &str,
        credential: Credential<'_>,
        operation: Operation,
        message: impl FnOnce(Ticket, OrderId, AccountNo, Option<Key>) -> OrderMsg,
    ) -> Result<()> {
        check_id("order_id", order_id)?;
        let core = &self.engine.core;
        let key = self.key(operation, [order_id.as_bytes()]);
        let (user, _) = self.engine.user(user_id, credential).await?;
        // An order of the user is in his shard, and so are his keys.
        let order = OrderId::parse(order_id).filter(|order| key.is_none() || order.shard() == user.shard());
        let Some(order) = order else {
            return core.refuse_keyed(user, key, Refusal::NoOrder(order_id.into())).await;
        };
        let message = |ticket| Send::Order(order.shard(), message(ticket, order, user, key));
        core.change(0, message).await.map(|_| ())
    }

    /// As [`Engine::add_funds`].
    ///
    /// # Errors
    /// As there, and [`Refusal::KeyReused`] after 401.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn add_funds(&self, user_id: &str, credential: Credential<'_>, value: Fen) -> Result<()> {
        let key = self.key(Operation::AddFunds, [&value.to_le_bytes()[..]]);
        let (account, cred) = self.engine.authorise(user_id, credential).await?;
        let core = &self.engine.core;
        let taken = Taken::take(&core.deposits, value.max(0));
        let has_room = taken.is_some();
        let then = Box::new(move |outcome: &Outcome| {
            // Moved in whole: a closure would capture a copy of the one field that it touches.
            let taken = taken;
            if matches!(outcome, Outcome::Done)
                && let Some(mut taken) = taken
            {
                taken.value = (-value).max(0);
            }
        });
        let keys_max = core.config.limits.deposit_keys_max;
        let add = |ticket| AccountMsg::AddFunds { ticket, cred, value, has_room, key, keys_max };
        core.change_then(0, Some(then), |ticket| Send::Account(account, add(ticket))).await.map(|_| ())
    }
}

impl Core {
    /// Refuses a command that cannot be done, unless its key was used: then the key says what to answer.
    async fn refuse_keyed<T>(&self, buyer: AccountNo, key: Option<Key>, refusal: Refusal) -> Result<T> {
        let Some(key) = key else {
            return self.refuse(refusal).await;
        };
        let message = |ticket| Send::Order(buyer.shard(), OrderMsg::Refuse { ticket, buyer, key, refusal });
        // The one outcome is a refusal.
        self.ask(message).await.and_then(|outcome| self.unexpected(&outcome))
    }
}

/// Room among the deposits that is given back when this is dropped, unless the money was put in: also if the command is
/// not admitted, when it is dropped with what would have run then.
struct Taken {
    deposits: Arc<AtomicI64>,
    value: Fen,
}

impl Taken {
    /// Takes the room before the deposit is judged, so that two deposits cannot both take the last of it.
    fn take(deposits: &Arc<AtomicI64>, value: Fen) -> Option<Self> {
        let room =
            |sum: i64| if value == 0 { Some(sum) } else { sum.checked_add(value).filter(|sum| *sum < DEPOSITS_MAX) };
        deposits.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).ok()?;
        Some(Taken { deposits: deposits.clone(), value })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.deposits.fetch_sub(self.value, Ordering::AcqRel);
    }
}
