//! What a message asks for in a word, and the order that it is about: for who follows a saga in a log. The words are an
//! interface: operators look for them.

use super::ids::{OrderId, Ticket};
use super::message::{AccountMsg, OrderMsg, StoreMsg};

impl AccountMsg {
    /// What it asks for, and for which order.
    pub fn step(&self) -> (&'static str, Option<OrderId>) {
        match self {
            AccountMsg::Secret { .. } => ("secret", None),
            AccountMsg::CheckToken { .. } => ("check_token", None),
            AccountMsg::SetPassword { .. } => ("set_password", None),
            AccountMsg::Revoke { .. } => ("revoke", None),
            AccountMsg::AddFunds { .. } => ("add_funds", None),
            AccountMsg::Balance { .. } => ("balance", None),
            AccountMsg::Stores { .. } => ("stores", None),
            AccountMsg::OpenStore { .. } => ("open_store", None),
            AccountMsg::Hold { order, .. } => ("debit", Some(*order)),
            AccountMsg::Credit { order, .. } => ("credit", Some(*order)),
            AccountMsg::TakeBack { order, .. } => ("take_back", Some(*order)),
            AccountMsg::StoreClosed { .. } => ("store_closed", None),
            AccountMsg::Close { .. } => ("close", None),
        }
    }
}

impl StoreMsg {
    /// What it asks for, and for which order.
    pub fn step(&self) -> (&'static str, Option<OrderId>) {
        match self {
            StoreMsg::Create { .. } => ("create", None),
            StoreMsg::AddBook { .. } => ("add_book", None),
            StoreMsg::AddStock { .. } => ("add_stock", None),
            StoreMsg::SetPrice { .. } => ("set_price", None),
            StoreMsg::SetListed { .. } => ("set_listed", None),
            StoreMsg::Book { .. } => ("book", None),
            StoreMsg::Shelf { .. } => ("shelf", None),
            StoreMsg::Stock { .. } => ("stock", None),
            StoreMsg::Reserve { order, .. } => ("reserve", Some(*order)),
            StoreMsg::Close { .. } => ("close", None),
            StoreMsg::NoneOpen { .. } => ("none_open", None),
            StoreMsg::Release { order, .. } => ("release", Some(*order)),
        }
    }
}

impl OrderMsg {
    /// What it asks for, and for which order.
    pub fn step(&self) -> (&'static str, Option<OrderId>) {
        match self {
            OrderMsg::Place { order, .. } => ("place", Some(*order)),
            OrderMsg::Refuse { .. } => ("refuse", None),
            OrderMsg::Reserved { order, .. } => ("reserved", Some(*order)),
            OrderMsg::NotReserved { order, .. } => ("not_reserved", Some(*order)),
            OrderMsg::Pay { order, .. } => ("pay", Some(*order)),
            OrderMsg::NotHeld { order, .. } => ("not_debited", Some(*order)),
            OrderMsg::Held { order, .. } => ("debited", Some(*order)),
            OrderMsg::Credited { order, .. } => ("credited", Some(*order)),
            OrderMsg::Confirm { order, .. } => ("confirm", Some(*order)),
            OrderMsg::NotCredited { order, .. } => ("not_credited", Some(*order)),
            OrderMsg::Ship { order, .. } => ("ship", Some(*order)),
            OrderMsg::ExtendReceipt { order, .. } => ("extend_receipt", Some(*order)),
            OrderMsg::Cancel { order, .. } => ("cancel", Some(*order)),
            OrderMsg::Refund { order, .. } => ("refund", Some(*order)),
            OrderMsg::NotTakenBack { order, .. } => ("not_taken_back", Some(*order)),
            OrderMsg::Released { order, .. } => ("released", Some(*order)),
            OrderMsg::NotReleased { order, .. } => ("not_released", Some(*order)),
            OrderMsg::Status { order, .. } => ("status", Some(*order)),
            OrderMsg::Look { order, .. } => ("look", Some(*order)),
            OrderMsg::Buyer { order, .. } => ("buyer", Some(*order)),
            OrderMsg::OfBuyer { .. } => ("of_buyer", None),
            OrderMsg::OfStore { .. } => ("of_store", None),
            OrderMsg::OpenOfStore { .. } | OrderMsg::OpenOfStoreAtRest { .. } => ("open_of_store", None),
            OrderMsg::Count { .. } => ("count", None),
            OrderMsg::Unregister { .. } | OrderMsg::OpenAtRest { .. } => ("unregister", None),
            OrderMsg::UnregisterEnded { .. } => ("unregister_ended", None),
            OrderMsg::Loaded { order, .. } => ("loaded", Some(*order)),
            OrderMsg::KeyLookedUp { .. } => ("key_looked_up", None),
            OrderMsg::Due => ("due", None),
            OrderMsg::Sweep { .. } => ("sweep", None),
            OrderMsg::Flush => ("flush", None),
            OrderMsg::Overdue { order, .. } => ("overdue", Some(*order)),
            OrderMsg::AsOf { msg, .. } => msg.step(),
            OrderMsg::PartEnded { .. } => ("part_ended", None),
        }
    }

    /// Who waits for its outcome, if somebody does.
    pub fn ticket(&self) -> Option<Ticket> {
        match self {
            OrderMsg::Place { ticket, .. }
            | OrderMsg::Refuse { ticket, .. }
            | OrderMsg::Pay { ticket, .. }
            | OrderMsg::Confirm { ticket, .. }
            | OrderMsg::Ship { ticket, .. }
            | OrderMsg::ExtendReceipt { ticket, .. }
            | OrderMsg::Cancel { ticket, .. }
            | OrderMsg::Refund { ticket, .. }
            | OrderMsg::Status { ticket, .. }
            | OrderMsg::Look { ticket, .. }
            | OrderMsg::Buyer { ticket, .. }
            | OrderMsg::OfBuyer { ticket, .. }
            | OrderMsg::OfStore { ticket, .. }
            | OrderMsg::OpenOfStore { ticket, .. }
            | OrderMsg::OpenOfStoreAtRest { ticket, .. }
            | OrderMsg::Count { ticket, .. }
            | OrderMsg::Unregister { ticket, .. }
            | OrderMsg::OpenAtRest { ticket, .. }
            | OrderMsg::UnregisterEnded { ticket, .. }
            | OrderMsg::Sweep { ticket } => Some(*ticket),
            OrderMsg::AsOf { msg, .. } => msg.ticket(),
            _ => None,
        }
    }
}
