//! Looks into entities for who counts and checks them from outside: audits and simulations. Nothing is changed.

use std::collections::BTreeMap;

use super::event::{Book, By, Credit, CreditCause, Hold, Line, PayKind, Refund, Release, Reservation, Secret};
use super::ids::{AccountNo, Fen, Millis, OrderId, StoreNo};
use super::order::{Order, OrderStatus};
use super::{Account, OrderShard, Store};

impl Account {
    /// Its number.
    pub fn number(&self) -> AccountNo {
        self.number
    }

    /// The password's hash.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Events so far.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether it was unregistered.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// In fen, without what is held.
    pub fn balance(&self) -> Fen {
        self.balance
    }

    /// Put in less taken out, in fen.
    pub fn net_put_in(&self) -> Fen {
        self.net_put_in
    }

    /// The stores it owns.
    pub fn stores(&self) -> &[StoreNo] {
        &self.stores
    }

    /// Those of its stores that are closed.
    pub fn closed_stores(&self) -> &[StoreNo] {
        &self.closed_stores
    }

    /// Evidence of payments on their way.
    pub fn holds(&self) -> &BTreeMap<OrderId, Hold> {
        &self.holds
    }

    /// Evidence of credits on their way.
    pub fn credits(&self) -> &BTreeMap<(OrderId, CreditCause), Credit> {
        &self.credits
    }

    /// Evidence of refunds on their way.
    pub fn refunds(&self) -> &BTreeMap<OrderId, Refund> {
        &self.refunds
    }

    /// Evidence of stores that are being opened.
    pub fn openings(&self) -> &BTreeMap<StoreNo, Box<str>> {
        &self.openings
    }
}

impl Store {
    /// Events so far.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Who owns it.
    pub fn owner(&self) -> AccountNo {
        self.owner
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Evidence of a closing that the owner's account may not know of.
    pub fn closure(&self) -> bool {
        self.closure
    }

    /// Its books, by place.
    pub fn books(&self) -> &[Book] {
        &self.books
    }

    /// Evidence of orders that are being placed.
    pub fn reservations(&self) -> &BTreeMap<OrderId, Reservation> {
        &self.reservations
    }

    /// Evidence of cancellations and refunds on their way.
    pub fn releases(&self) -> &BTreeMap<OrderId, Release> {
        &self.releases
    }
}

impl OrderShard {
    /// The orders in memory, by id.
    pub fn in_memory(&self) -> BTreeMap<OrderId, &Order> {
        self.orders.iter().map(|(id, order)| (*id, &**order)).collect()
    }
}

impl Order {
    /// Events so far.
    pub fn seq(&self) -> u32 {
        self.seq
    }

    /// Where it stands.
    pub fn status(&self) -> OrderStatus {
        self.status
    }

    /// How it was paid, if it was.
    pub fn payment(&self) -> Option<PayKind> {
        self.payment
    }

    /// Whether it was shipped.
    pub fn is_shipped(&self) -> bool {
        self.shipped.is_some()
    }

    /// Whether its confirmation was put off.
    pub fn is_extended(&self) -> bool {
        self.receipt.as_ref().is_some_and(|receipt| receipt.extended.is_some())
    }

    /// Who completed or canceled it.
    pub fn ended_by(&self) -> Option<By> {
        self.ended.map(|(_, by)| by)
    }

    /// Who placed it.
    pub fn buyer(&self) -> AccountNo {
        self.buyer
    }

    /// Who is paid.
    pub fn seller(&self) -> AccountNo {
        self.seller
    }

    /// Where it was placed.
    pub fn store(&self) -> StoreNo {
        self.store
    }

    /// Books, copies and prices.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// In fen.
    pub fn total(&self) -> Fen {
        self.total
    }

    /// When it is canceled by itself.
    pub fn deadline(&self) -> Millis {
        self.deadline
    }
}
