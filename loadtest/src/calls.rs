//! The requests of a load, by what they are about, and which one follows which.

use serde::Serialize;

use crate::args::Scenario;
use crate::scenario::OrderId;

/// A request, by the index of its prepared order or of its prepared look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    /// new_order.
    Order(usize),
    /// payment of such an order.
    Payment(usize, OrderId),
    /// pay_to_platform.
    ToPlatform(usize, OrderId),
    /// refund_order.
    Refund(usize, OrderId),
    /// ship.
    Shipping(usize, OrderId),
    /// query_order_status.
    Status(usize, OrderId),
    /// A request that only looks and needs no order.
    Look(usize),
}

impl Call {
    /// What follows in `scenario` when this was done; `order_id` is what new_order answered.
    pub(crate) fn followed_by(self, scenario: Scenario, order_id: Option<OrderId>) -> Option<Self> {
        match (scenario, self) {
            (Scenario::Paid | Scenario::Refunded, Self::Order(index)) => Some(Self::Payment(index, order_id?)),
            (Scenario::Shipped, Self::Order(index)) => Some(Self::ToPlatform(index, order_id?)),
            (Scenario::Refunded, Self::Payment(index, id)) => Some(Self::Refund(index, id)),
            (Scenario::Shipped, Self::ToPlatform(index, id)) => Some(Self::Shipping(index, id)),
            _ => None,
        }
    }

    /// It changes nothing on the server.
    pub(crate) fn only_looks(self) -> bool {
        matches!(self, Self::Status(..) | Self::Look(_))
    }
}

/// Where a request goes: the last part of its path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Route {
    NewOrder,
    Payment,
    PayToPlatform,
    RefundOrder,
    Ship,
    Search,
    QueryBook,
    CheckStockLevel,
    QueryOrderStatus,
    CheckOrderCount,
    QueryBalance,
}

impl Route {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 11] = [
        Self::NewOrder,
        Self::Payment,
        Self::PayToPlatform,
        Self::RefundOrder,
        Self::Ship,
        Self::Search,
        Self::QueryBook,
        Self::CheckStockLevel,
        Self::QueryOrderStatus,
        Self::CheckOrderCount,
        Self::QueryBalance,
    ];

    /// As it stands in the path, and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NewOrder => "new_order",
            Self::Payment => "payment",
            Self::PayToPlatform => "pay_to_platform",
            Self::RefundOrder => "refund_order",
            Self::Ship => "ship",
            Self::Search => "search",
            Self::QueryBook => "query_book",
            Self::CheckStockLevel => "check_stock_level",
            Self::QueryOrderStatus => "query_order_status",
            Self::CheckOrderCount => "check_order_count",
            Self::QueryBalance => "query_balance",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: OrderId = [b'0'; 36];

    /// The whole operation, from new_order on.
    fn steps(scenario: Scenario) -> Vec<Call> {
        std::iter::successors(Some(Call::Order(3)), |call| call.followed_by(scenario, Some(ID))).collect()
    }

    #[test]
    fn operations_have_the_steps_of_their_scenario() {
        assert_eq!(steps(Scenario::NewOrder), [Call::Order(3)]);
        assert_eq!(steps(Scenario::Paid), [Call::Order(3), Call::Payment(3, ID)]);
        assert_eq!(steps(Scenario::Refunded), [Call::Order(3), Call::Payment(3, ID), Call::Refund(3, ID)]);
        assert_eq!(steps(Scenario::Shipped), [Call::Order(3), Call::ToPlatform(3, ID), Call::Shipping(3, ID)]);
        assert_eq!(Call::Order(3).followed_by(Scenario::Paid, None), None);
        assert_eq!(Call::Look(0).followed_by(Scenario::Paid, Some(ID)), None);
    }

    #[test]
    fn routes_are_numbered_as_they_are_listed() {
        assert!(Route::ALL.iter().enumerate().all(|(number, route)| *route as usize == number));
    }
}
