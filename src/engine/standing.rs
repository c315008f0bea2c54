//! What somebody asks who operates the service: any order, how a user stands, and how many orders there are of each
//! state. No credential is asked for; who may ask is judged by whoever lets him in.

use std::collections::HashSet;
use std::time::Duration;

use super::background::{Urgency, in_background};
use super::walk::ids_of;
use super::{Core, Engine, Error, OrderDetails, OrderTotals, Result, StoreStanding, UserStanding, check_id};
use crate::cold::ColdError;
use crate::domain::{
    Account, AccountNo, CodecError, Order, OrderId, OrderMsg, OrderShard, OrdersOf, Outcome, Persistent, Refusal,
    SHARDS, Send,
};

/// Orders that one shard counts at once: it serves nobody meanwhile.
const COUNTED_AT_ONCE: usize = 2_048;

/// Rest after each of these, so that the traffic goes first.
const PACE: Duration = Duration::from_millis(1);

impl OrderTotals {
    pub(super) fn add(&mut self, order: &Order) {
        self.counts[usize::from(u8::from(order.status))] += 1;
        self.escrow += i128::from(order.escrow());
    }

    fn add_all(&mut self, part: &OrderTotals) {
        for (count, more) in self.counts.iter_mut().zip(part.counts) {
            *count += more;
        }
        self.escrow += part.escrow;
    }
}

impl Engine {
    /// Counts all orders by their state, beside the traffic: each is counted once, at some moment of the count. Orders at
    /// rest are read from the disk with low priority, some hundred thousand a second; so this is for a look now and then.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if an order on disk is damaged, else those of [every call](Engine#errors).
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn order_totals(&self) -> Result<OrderTotals> {
        let core = &self.core;
        if core.system.answers.is_draining() {
            return Err(Error::Draining);
        }
        let (mut totals, mut in_memory) = (OrderTotals::default(), HashSet::new());
        for shard in 0..SHARDS {
            let ids = core.system.look_at_shard(shard, |shard, _| ids_of(shard)).await;
            for ids in ids.ok_or_else(|| core.unknown())?.chunks(COUNTED_AT_ONCE) {
                let asked = ids.to_vec();
                let count = move |shard: &OrderShard, _: &_| count_in(shard, asked);
                let counted = core.system.look_at_shard(shard, count).await;
                let (part, counted) = counted.ok_or_else(|| core.unknown())?;
                totals.add_all(&part);
                in_memory.extend(counted);
                tokio::time::sleep(PACE).await;
            }
        }
        // What was at rest when its shard was asked, or went there since, is on the disk by now.
        if !core.system.resting.is_empty() {
            let resting = core.system.resting.clone();
            let count = move || {
                let mut part = OrderTotals::default();
                resting.view()?.each(|id, order| {
                    if !in_memory.contains(&id) {
                        part.add(&order);
                    }
                })?;
                Ok(part)
            };
            let part = in_background(Urgency::Idle, count).await.ok_or_else(|| core.unknown())?;
            totals.add_all(&part.map_err(|error| core.unreadable(&error))?);
        }
        core.pass_gate().await?;
        Ok(totals)
    }

    /// An order with its way, whoever's it is.
    ///
    /// # Errors
    /// 518.
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn order(&self, order_id: &str) -> Result<OrderDetails> {
        check_id("order_id", order_id)?;
        let Some(order) = OrderId::parse(order_id) else {
            return self.core.refuse(Refusal::NoOrder(order_id.into())).await;
        };
        let whose = |ticket| Send::Order(order.shard(), OrderMsg::Buyer { ticket, order });
        let user = match self.core.ask(whose).await? {
            Outcome::Buyer(buyer) => buyer,
            outcome => return self.core.unexpected(&outcome),
        };
        let look = |ticket| Send::Order(order.shard(), OrderMsg::Look { ticket, order, user, is_seller: false });
        match self.core.ask(look).await? {
            Outcome::Order(found) => Ok(self.core.details(order, *found)),
            outcome => self.core.unexpected(&outcome),
        }
    }

    /// How a user stands. What is in different places is of different moments, a few milliseconds apart.
    ///
    /// # Errors
    /// 511; [`Error::Overloaded`] if an order on disk is damaged.
    ///
    /// # Cancellation
    /// A read: the future may be dropped at any time.
    pub async fn user_standing(&self, user_id: &str) -> Result<UserStanding> {
        check_id("user_id", user_id)?;
        let (core, system) = (&self.core, &self.core.system);
        if system.answers.is_draining() {
            return Err(Error::Draining);
        }
        let no_user = || Refusal::NoUser(user_id.into());
        let Some(number) = core.account(user_id) else { return core.refuse(no_user()).await };
        let row = system.accounts.row(number.0).await.map_err(|_gone| core.unknown())?;
        let account = row.map(|row| Account::decode(&row)).transpose().map_err(|error: CodecError| {
            system.fail(format!("a row does not decode: {error}"));
            core.unknown()
        })?;
        let Some(account) = account.filter(|account| !account.closed) else { return core.refuse(no_user()).await };
        let (orders, open_orders) = core.orders_of(number).await?;
        let now = system.clock.now();
        let stores = account.stores.iter().map(|store| StoreStanding {
            store_id: system.stores.name(store.0).cloned().unwrap_or_default(),
            is_closed: account.closed_stores.contains(store),
            books: system.stores.extra(store.0).read().unwrap_or_else(std::sync::PoisonError::into_inner).len() as u64,
        });
        let (is_password_remembered, remembered_tokens) = core.memory.known(number.0, now);
        let standing = UserStanding {
            user_id: user_id.into(),
            balance: account.balance,
            net_put_in: account.net_put_in,
            orders,
            open_orders,
            stores: stores.collect(),
            is_password_remembered,
            remembered_tokens: remembered_tokens as u64,
            revoked_tokens: account.revoked.iter().filter(|(_, until)| *until > now).count() as u64,
            deposit_keys: account.keys.iter().filter(|kept| kept.is_alive(now)).count() as u64,
            wrong_passwords: core.throttle.wrong_of(user_id, now),
            throttled_s: core.throttle.check(user_id, None, now).err().map(|wait| wait.seconds),
        };
        core.pass_gate().await?;
        Ok(standing)
    }
}

/// Counts those of these orders that are in memory, and says which.
fn count_in(shard: &OrderShard, mut ids: Vec<OrderId>) -> (OrderTotals, Vec<OrderId>) {
    let mut part = OrderTotals::default();
    ids.retain(|id| shard.orders.get(id).inspect(|order| part.add(order)).is_some());
    (part, ids)
}

impl Core {
    /// How many orders a buyer has, and how many of them are open.
    async fn orders_of(&self, buyer: AccountNo) -> Result<(u64, u64)> {
        let look = move |shard: &OrderShard, _: &_| shard.orders_of(buyer);
        let (orders, open, on_disk) =
            self.system.look_at_shard(buyer.shard(), look).await.ok_or_else(|| self.unknown())?;
        let (orders, open) = (orders as u64, open as u64);
        if self.system.resting.is_empty() {
            return Ok((orders, open));
        }
        let resting = self.system.resting.clone();
        let count = move || resting.view()?.count(OrdersOf::Buyer(buyer), &on_disk);
        let counted = tokio::task::spawn_blocking(count).await.map_err(|_| self.unknown())?;
        let at_rest = counted.map_err(|error| self.unreadable(&error))?;
        Ok((orders + at_rest.orders, open + at_rest.open))
    }

    /// What orders at rest could not be read for.
    pub(super) fn unreadable(&self, error: &ColdError) -> Error {
        if matches!(error, ColdError::Closed) {
            // In the middle of it; nothing is wrong with them.
            return self.unknown();
        }
        self.system.resting_failed(error);
        Error::Overloaded("an order on disk cannot be read")
    }
}
