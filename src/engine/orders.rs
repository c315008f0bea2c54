//! The calls about orders.

use std::sync::Arc;

use super::{By, Core, Credential, Engine, LineView, NewLine, OrderDetails, OrderStep, OrderView, Result, check_id};
use crate::domain::{self, Order, OrderId, OrderMsg, OrderStatus, Outcome, Refusal, SHARDS, Send, StoreNo, Ticket};

impl Engine {
    /// Places an order: all copies are taken, or none. Two lines of one book count together. No lines make an order of
    /// 0 fen. The price is the one of now; the order is canceled by itself unless it is paid within
    /// [`Config::order_ttl`](crate::Config::order_ttl).
    ///
    /// # Errors
    /// 530 for a count below 1 or too many lines; 511, 401, 513, then line by line 515 and 517; 530 for a total of 2^53
    /// fen or more; [`Error::Throttled`](super::Error::Throttled) above
    /// [`Limits::pending_orders_max`](crate::Limits::pending_orders_max).
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation): the order may be there although nobody was told its id.
    /// [`Engine::buyer_orders`] shows it, and it expires by itself.
    pub async fn new_order(
        &self,
        user_id: &str,
        credential: Credential<'_>,
        store_id: &str,
        lines: &[NewLine<'_>],
    ) -> Result<OrderId> {
        self.without_key().new_order(user_id, credential, store_id, lines).await
    }

    /// Pays an order; the seller has the money at once. A second payment of one order is a 527, so a caller who does
    /// not know the outcome of the first may ask again.
    ///
    /// # Errors
    /// 518, 401 (not this user's), 511 (that account is gone or a newer one), 401 (credential), 526, 527, 519, in
    /// this order.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn pay(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<()> {
        self.without_key().pay(user_id, order_id, credential).await
    }

    /// Pays an order to the platform, which holds the money until the order is confirmed.
    ///
    /// # Errors
    /// As [`Engine::pay`], and 400 after 527 if the order is past `paid`.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn pay_to_platform(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<()> {
        self.without_key().pay_to_platform(user_id, order_id, credential).await
    }

    /// Confirms the receipt of an order; what the platform holds goes to the seller.
    ///
    /// # Errors
    /// 518, 401 (not this user's), 401 (credential), 520, 528, in this order.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn confirm(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<()> {
        self.without_key().confirm(user_id, order_id, credential).await
    }

    /// Cancels a pending order; its copies go back to the shelf.
    ///
    /// # Errors
    /// 511, 401, 518 (also somebody else's), 521 (not pending any more), in this order.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn cancel_order(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<()> {
        self.without_key().cancel_order(user_id, order_id, credential).await
    }

    /// Puts off, once, when a shipped order is confirmed by itself: by as long again as it was from the shipping on, at most 30 days. A
    /// second time is a 530, so a caller who does not know the outcome of the first may ask again.
    ///
    /// # Errors
    /// 511, 401, 518 (also somebody else's), 520 (pending, canceled), 528, 530 (not shipped, not confirmed by itself, or
    /// put off before), in this order. From its time on the order is confirmed, so that it is a 528.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn extend_receipt(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<()> {
        check_id("order_id", order_id)?;
        let (user, _) = self.user(user_id, credential).await?;
        let Some(order) = OrderId::parse(order_id) else {
            return self.core.refuse(Refusal::NoOrder(order_id.into())).await;
        };
        let message = |ticket| Send::Order(order.shard(), OrderMsg::ExtendReceipt { ticket, order, user });
        self.core.change(0, message).await.map(|_| ())
    }

    /// Cancels an order that is paid and not shipped: the copies go back to the shelf, and the money to the buyer, from
    /// the platform or from the seller. A seller who was paid directly may have spent it; then nothing happens.
    ///
    /// # Errors
    /// 511, 401, 518 (also somebody else's), 520 (pending: [`Engine::cancel_order`] is for those), 521 (shipped,
    /// completed or canceled), 519 (the seller does not have the money any more), in this order.
    ///
    /// # Cancellation
    /// A [change](Engine#cancellation).
    pub async fn refund_order(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<()> {
        self.without_key().refund_order(user_id, order_id, credential).await
    }

    /// Where an order of this user stands.
    ///
    /// # Errors
    /// 511, 401, 518 (also somebody else's), in this order.
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn order_status(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<OrderStatus> {
        check_id("order_id", order_id)?;
        let (user, _) = self.user(user_id, credential).await?;
        let Some(order) = OrderId::parse(order_id) else {
            return self.core.refuse(Refusal::NoOrder(order_id.into())).await;
        };
        let message = |ticket| Send::Order(order.shard(), OrderMsg::Status { ticket, order, user });
        match self.core.ask(message).await? {
            Outcome::Status(status) => Ok(status),
            outcome => self.core.unexpected(&outcome),
        }
    }

    /// An order of this buyer with its way: when each step was taken, and by whom.
    ///
    /// # Errors
    /// 511, 401, 518 (also somebody else's), in this order.
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn buyer_order(&self, user_id: &str, order_id: &str, credential: Credential<'_>) -> Result<OrderDetails> {
        self.look(user_id, order_id, credential, false).await
    }

    /// As [`Engine::buyer_order`], for an order of any store of this user.
    ///
    /// # Errors
    /// 511, 401, 518 (also an order of somebody else's store), in this order.
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn seller_order(
        &self,
        user_id: &str,
        order_id: &str,
        credential: Credential<'_>,
    ) -> Result<OrderDetails> {
        self.look(user_id, order_id, credential, true).await
    }

    async fn look(
        &self,
        user_id: &str,
        order_id: &str,
        credential: Credential<'_>,
        is_seller: bool,
    ) -> Result<OrderDetails> {
        check_id("order_id", order_id)?;
        let (user, _) = self.user(user_id, credential).await?;
        let Some(order) = OrderId::parse(order_id) else {
            return self.core.refuse(Refusal::NoOrder(order_id.into())).await;
        };
        let message = |ticket| Send::Order(order.shard(), OrderMsg::Look { ticket, order, user, is_seller });
        match self.core.ask(message).await? {
            Outcome::Order(found) => Ok(self.core.details(order, *found)),
            outcome => self.core.unexpected(&outcome),
        }
    }

    /// Every order of a buyer, newest first.
    ///
    /// # Errors
    /// 511, 401, in this order; 530 if there are more than
    /// [`Limits::orders_listed_max`](crate::Limits::orders_listed_max).
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn buyer_orders(&self, user_id: &str, credential: Credential<'_>) -> Result<Vec<OrderView>> {
        let (buyer, _) = self.user(user_id, credential).await?;
        let limit = self.core.config.limits.orders_listed_max;
        let message = |ticket| Send::Order(buyer.shard(), OrderMsg::OfBuyer { ticket, buyer, limit });
        match self.core.ask(message).await? {
            Outcome::Orders(orders) => Ok(self.core.views(orders)),
            outcome => self.core.unexpected(&outcome),
        }
    }

    /// Cancels every pending order past its deadline. The engine does so by itself; this returns when it is done.
    ///
    /// # Errors
    /// Only those of [every call](Engine#errors).
    ///
    /// # Cancellation
    /// Orders that the engine was not asked for yet expire by themselves.
    pub async fn cancel_expired(&self) -> Result<()> {
        let sweep = |shard, ticket| Send::Order(shard, OrderMsg::Sweep { ticket });
        self.ask_shards(sweep).await.map(|_| ())
    }

    /// How many orders the user has placed, whatever their state; 0 for an unknown user.
    ///
    /// # Errors
    /// 530 if the id is out of its bounds, else only those of [every call](Engine#errors).
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn order_count(&self, user_id: &str) -> Result<i64> {
        check_id("user_id", user_id)?;
        let Some(buyer) = self.core.account(user_id) else {
            self.core.pass_gate().await?;
            return Ok(0);
        };
        let message = |ticket| Send::Order(buyer.shard(), OrderMsg::Count { ticket, buyer });
        match self.core.ask(message).await? {
            Outcome::Count(count) => Ok(count as i64),
            outcome => self.core.unexpected(&outcome),
        }
    }

    /// One shard after the other, each with what the limit leaves: so a list that is refused is never in memory as a
    /// whole, nor are sixteen parts of it that are each below the limit.
    pub(super) async fn orders_of_store(&self, store: StoreNo, limit: usize) -> Result<Vec<OrderView>> {
        let mut all = Vec::new();
        for shard in 0..SHARDS {
            let limit = limit - all.len();
            let message = |ticket| Send::Order(shard, OrderMsg::OfStore { ticket, shard, store, limit });
            match self.core.ask(message).await? {
                Outcome::Orders(orders) => all.extend(orders),
                outcome => return self.core.unexpected(&outcome),
            }
        }
        Ok(self.core.views(all))
    }

    /// Asks every shard at once and waits for all.
    async fn ask_shards(&self, message: impl Fn(usize, Ticket) -> Send) -> Result<Vec<Outcome>> {
        let core = &self.core;
        let mut admissions = Vec::with_capacity(SHARDS);
        for shard in 0..SHARDS {
            let admission = core.system.answers.admit(0, None).await;
            let admission = admission.map_err(|busy| core.busy(busy))?;
            core.system.send(message(shard, admission.ticket));
            admissions.push(admission);
        }
        let mut outcomes = Vec::with_capacity(SHARDS);
        for admission in admissions {
            outcomes.push(core.answer(admission).await?);
        }
        Ok(outcomes)
    }
}

impl Core {
    /// Orders as people read them: with ids for numbers, newest first.
    fn views(&self, mut orders: Vec<(OrderId, Order)>) -> Vec<OrderView> {
        orders.sort_unstable_by_key(|(id, order)| std::cmp::Reverse((order.created, *id)));
        orders.into_iter().map(|(id, order)| self.view(id, order)).collect()
    }

    pub(super) fn details(&self, order_id: OrderId, order: Order) -> OrderDetails {
        let by = |by| move |at_ms| OrderStep { at_ms, by };
        let ended = |status| order.ended.filter(|_| order.status == status).map(|(at, who)| by(who)(at));
        OrderDetails {
            payment: order.payment,
            deadline_ms: order.deadline,
            confirm_deadline_ms: order.confirm_by(),
            placed: by(By::Buyer)(order.created),
            paid: order.paid.map(by(By::Buyer)),
            shipped: order.shipped.map(by(By::Seller)),
            extended: order.receipt.as_ref().and_then(|receipt| receipt.extended).map(|(at, _)| by(By::Buyer)(at)),
            confirmed: ended(OrderStatus::Completed),
            canceled: ended(OrderStatus::Canceled),
            order: self.view(order_id, order),
        }
    }

    fn view(&self, order_id: OrderId, order: Order) -> OrderView {
        let name = |found: Option<&Arc<str>>| found.cloned().unwrap_or_default();
        let books = self.system.stores.extra(order.store.0);
        let books = books.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let line = |line: &domain::Line| LineView {
            book_id: name(books.get(line.book.0 as usize)),
            count: line.count,
            price: line.price,
        };
        OrderView {
            order_id,
            user_id: self.system.accounts.name(order.buyer.0).map_or_else(Arc::default, |name| (&**name).into()),
            store_id: name(self.system.stores.name(order.store.0)),
            status: order.status,
            total_price: order.total,
            created_ms: order.created,
            is_shipped: order.is_shipped(),
            lines: order.lines.iter().map(line).collect(),
        }
    }
}
