//! Faults that are planted on purpose, so that the simulator in `tests/` can show that it sees them.
//!
//! Each is a place in the engine that asks [`planted`] whether to do the wrong thing. Without the feature
//! `planted-faults` the answer is `false` at compile time and nothing of this is in the program. With it the answer is
//! still `false` on every thread that has not called [`plant`], and only the simulator calls it; an engine works on
//! threads of its own, so not even a program that was built with the feature by mistake does anything wrong.

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted-faults"), allow(dead_code, reason = "named where it would be planted"))]
pub enum Fault {
    /// The journal says that it synced, and did not.
    MissingSync,
    /// A failed sync of the journal is taken for a good one.
    SyncErrorIgnored,
    /// An answer leaves before what it rests on is durable.
    AnswerBeforeGate,
    /// An answer waits for the event before the last.
    GateOffByOne,
    /// An account does not look whether it has the evidence of a credit already.
    CreditEvidenceIgnored,
    /// A credit is given twice.
    DoubleCredit,
    /// The hold of a payment is dropped before the order is paid.
    EvidenceForgottenEarly,
    /// Evidence is never dropped.
    EvidenceKept,
    /// Recovery does not look whether a payment with a hold is through, nor does the coordinator.
    SettledSagaRunAgain,
    /// Recovery drops a reservation whose order was not placed yet.
    ReservationDropped,
    /// A canceled order keeps its copies.
    ReservationNotReleased,
    /// A snapshot is published before the journal is synced past the walk.
    SnapshotBeforeSync,
    /// A snapshot has rows, but not what happened during the walk.
    SnapshotWithoutEvents,
    /// A snapshot is published without a sync of its directory.
    SnapshotNameNotSynced,
    /// Segments go that the older snapshot still needs.
    SegmentDroppedEarly,
    /// An order leaves memory before its row on disk is committed.
    LeftBeforeCommitted,
    /// An order's row is written before the journal is synced past it.
    RowAheadOfJournal,
    /// An order that changed while its row was written leaves memory all the same.
    ChangedOrderLeaves,
    /// Recovery does not look for rows at rest.
    ColdRowIgnored,
    /// Recovery does not finish the sagas that a crash interrupted.
    SagasNotFinished,
    /// Recovery forgets which orders have a deadline.
    DeadlineSkippedAtRecovery,
    /// A payment is taken after the deadline.
    LatePaymentTaken,
    /// The truncation rule accepts a hole with a batch behind it.
    HoleAccepted,
    /// The last segment is not written anew at an open.
    TornTailNotRewritten,
    /// Engine time goes back with the wall clock at a restart.
    ClockGoesBack,
    /// An account does not look whether a deposit was made under its idempotency key.
    DepositKeyIgnored,
    /// A repeat does not wait for the command in flight with its key.
    KeyInFlightIgnored,
    /// Keys of orders at rest are not looked up.
    KeyAtRestIgnored,
    /// Recovery forgets which orders at rest are confirmed by themselves.
    AwaitedSkippedAtRecovery,
    /// An order that leaves memory is not confirmed by itself any more.
    AwaitedForgottenAtRest,
    /// An order whose seller was paid directly is confirmed by itself, and pays him again.
    DirectlyPaidIsAwaited,
    /// A buyer gets the money of a refund twice.
    RefundedTwice,
    /// The seller's money is not taken back by a refund.
    SellerKeepsRefund,
    /// A refunded order keeps its copies.
    RefundedCopiesKept,
    /// The evidence of a payment's credit is taken for that of a refund's, where one account has both.
    CreditCauseIgnored,
    /// Recovery drops what was taken back from a seller and has not come to the buyer yet.
    RefundDropped,
    /// A book that is not for sale is ordered.
    DelistedBookOrdered,
    /// Canceled orders do not give copies back to a book that is not for sale.
    DelistedBookKeepsCopies,
    /// A store closes without a look at its orders.
    ClosedWithoutAsking,
    /// A store closes although an order was placed while its orders were looked at.
    OrderWhileClosingIgnored,
    /// A store closes without a look at its orders at rest.
    OrdersAtRestNotAsked,
    /// Recovery does not tell the owner's account of a store that was closed.
    ClosureDropped,
}

/// Every fault.
#[cfg(feature = "planted-faults")]
pub const FAULTS: [Fault; 42] = [
    Fault::MissingSync,
    Fault::SyncErrorIgnored,
    Fault::AnswerBeforeGate,
    Fault::GateOffByOne,
    Fault::CreditEvidenceIgnored,
    Fault::DoubleCredit,
    Fault::EvidenceForgottenEarly,
    Fault::EvidenceKept,
    Fault::SettledSagaRunAgain,
    Fault::ReservationDropped,
    Fault::ReservationNotReleased,
    Fault::SnapshotBeforeSync,
    Fault::SnapshotWithoutEvents,
    Fault::SnapshotNameNotSynced,
    Fault::SegmentDroppedEarly,
    Fault::LeftBeforeCommitted,
    Fault::RowAheadOfJournal,
    Fault::ChangedOrderLeaves,
    Fault::ColdRowIgnored,
    Fault::SagasNotFinished,
    Fault::DeadlineSkippedAtRecovery,
    Fault::LatePaymentTaken,
    Fault::HoleAccepted,
    Fault::TornTailNotRewritten,
    Fault::ClockGoesBack,
    Fault::DepositKeyIgnored,
    Fault::KeyInFlightIgnored,
    Fault::KeyAtRestIgnored,
    Fault::AwaitedSkippedAtRecovery,
    Fault::AwaitedForgottenAtRest,
    Fault::DirectlyPaidIsAwaited,
    Fault::RefundedTwice,
    Fault::SellerKeepsRefund,
    Fault::RefundedCopiesKept,
    Fault::CreditCauseIgnored,
    Fault::RefundDropped,
    Fault::DelistedBookOrdered,
    Fault::DelistedBookKeepsCopies,
    Fault::ClosedWithoutAsking,
    Fault::OrderWhileClosingIgnored,
    Fault::OrdersAtRestNotAsked,
    Fault::ClosureDropped,
];

#[cfg(feature = "planted-faults")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Plants a fault in whatever this thread does from now on, or takes it out.
#[cfg(feature = "planted-faults")]
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// Whether to do this wrong.
#[cfg(feature = "planted-faults")]
pub(crate) fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Whether to do this wrong: never.
#[cfg(not(feature = "planted-faults"))]
#[inline(always)]
pub(crate) const fn planted(_: Fault) -> bool {
    false
}
