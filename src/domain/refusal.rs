//! The business answers that are not "ok". Each is one row of the contract's table of codes.

use std::sync::Arc;

/// Why a command was refused. A refusal leaves no trace: no stock taken, no order, no money moved.
///
/// [`Refusal::code`] is the contract's outcome code and [`std::fmt::Display`] its exact message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// 400: the order was paid to the platform and has left the state `paid`.
    #[error("order is already settled, order id {0}")]
    AlreadySettled(String),
    /// 401: wrong password or token, or something of somebody else.
    #[error("authorization fail")]
    Unauthorized,
    /// 422: the idempotency key was used by this user on this route, with other fields.
    #[error("idempotency key was used with another body")]
    KeyReused,
    /// 511: no such user.
    #[error("non exist user id {0}")]
    NoUser(String),
    /// 512: the user id is taken.
    #[error("exist user id {0}")]
    UserExists(String),
    /// 513: no such store.
    #[error("non exist store id {0}")]
    NoStore(String),
    /// 514: the store id is taken.
    #[error("exist store id {0}")]
    StoreExists(String),
    /// 515: the store has no such book.
    #[error("non exist book id {0}")]
    NoBook(Arc<str>),
    /// 516: the store already has this book.
    #[error("exist book id {0}")]
    BookExists(Arc<str>),
    /// 517: fewer copies than asked for.
    #[error("stock level low, book id {0}")]
    StockLow(Arc<str>),
    /// 518: no such order.
    #[error("invalid order id {0}")]
    NoOrder(String),
    /// 519: the balance of who has to pay, the buyer or for a refund the seller, does not cover the order.
    #[error("not sufficient funds, order id {0}")]
    InsufficientFunds(String),
    /// 520: the order is not paid, or canceled.
    #[error("not be paid, order id {0}")]
    NotPaid(String),
    /// 521: the order is past the state in which it can be canceled.
    #[error("cannot be canceled, order id {0}")]
    NotCancelable(String),
    /// 522: the user owns no store, or not this one.
    #[error("no store for user, user id {0}")]
    NoStoreForUser(String),
    /// 523: no book with these words.
    #[error("book with keyword {0} not found")]
    NotFound(String),
    /// 524: no such store to search in.
    #[error("store with id {0} not found")]
    NoStoreToSearch(String),
    /// 525: no book with these words in the store.
    #[error("book with keyword {keyword} not found in store {store_id}")]
    NotFoundInStore {
        /// What was looked for.
        keyword: String,
        /// Where.
        store_id: String,
    },
    /// 526: the order is canceled.
    #[error("order is canceled, order id {0}")]
    OrderCanceled(String),
    /// 527: the order is paid already.
    #[error("order is paid, order id {0}")]
    OrderPaid(String),
    /// 528: the order is confirmed already.
    #[error("order is confirmed, order id {0}")]
    OrderConfirmed(String),
    /// 529: the order is shipped already.
    #[error("order is shipped, order id {0}")]
    OrderShipped(String),
    /// 530: a field that is wrong in itself or against the state (overdraft, overflow, stock below 0).
    #[error("invalid parameter {field}: {why}")]
    Invalid {
        /// The contract's name of the field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Refusal {
    /// A 530 that names its field.
    pub fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Refusal::Invalid { field, why: why.into() }
    }

    /// The contract's outcome code, which is also the HTTP status.
    pub fn code(&self) -> u16 {
        match self {
            Refusal::AlreadySettled(_) => 400,
            Refusal::Unauthorized => 401,
            Refusal::KeyReused => 422,
            Refusal::NoUser(_) => 511,
            Refusal::UserExists(_) => 512,
            Refusal::NoStore(_) => 513,
            Refusal::StoreExists(_) => 514,
            Refusal::NoBook(_) => 515,
            Refusal::BookExists(_) => 516,
            Refusal::StockLow(_) => 517,
            Refusal::NoOrder(_) => 518,
            Refusal::InsufficientFunds(_) => 519,
            Refusal::NotPaid(_) => 520,
            Refusal::NotCancelable(_) => 521,
            Refusal::NoStoreForUser(_) => 522,
            Refusal::NotFound(_) => 523,
            Refusal::NoStoreToSearch(_) => 524,
            Refusal::NotFoundInStore { .. } => 525,
            Refusal::OrderCanceled(_) => 526,
            Refusal::OrderPaid(_) => 527,
            Refusal::OrderConfirmed(_) => 528,
            Refusal::OrderShipped(_) => 529,
            Refusal::Invalid { .. } => 530,
        }
    }
}
