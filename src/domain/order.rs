//! An order and its table of transitions.

use serde::{Deserialize, Serialize};

use super::event::{By, Facts, Line, OrderEvent, PayKind};
use super::history::Receipt;
use super::ids::{AccountNo, Fen, Millis, OrderId, StoreNo};
use super::key::{Kept, Key, Scope};
use super::refusal::Refusal;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum OrderStatus {
    /// Placed; its copies are taken from the shelf.
    Pending,
    /// Paid, to the seller or to the platform.
    Paid,
    /// On its way.
    Shipped,
    /// With the buyer. Confirmation passes through it in one step, so no order rests here.
    Received,
    /// Confirmed; the seller has the money.
    Completed,
    /// Canceled while it was pending, or refunded before it was shipped; its copies are back on the shelf.
    Canceled,
}

impl OrderStatus {
    /// Every status, in the order of an order's life.
    pub const ALL: [OrderStatus; 6] = [
        OrderStatus::Pending,
        OrderStatus::Paid,
        OrderStatus::Shipped,
        OrderStatus::Received,
        OrderStatus::Completed,
        OrderStatus::Canceled,
    ];

    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            OrderStatus::Pending => "pending",
            OrderStatus::Paid => "paid",
            OrderStatus::Shipped => "shipped",
            OrderStatus::Received => "received",
            OrderStatus::Completed => "completed",
            OrderStatus::Canceled => "canceled",
        }
    }
}

impl From<OrderStatus> for u8 {
    fn from(status: OrderStatus) -> u8 {
        status as u8
    }
}

impl TryFrom<u8> for OrderStatus {
    type Error = &'static str;

    fn try_from(byte: u8) -> Result<Self, &'static str> {
        OrderStatus::ALL.get(usize::from(byte)).copied().ok_or("no such order status")
    }
}

/// What can be asked of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// payment.
    Pay,
    /// pay_to_platform.
    PayToPlatform,
    /// ship.
    Ship,
    /// confirm_receipt_and_pay_toseller.
    Confirm,
    /// cancel_order.
    Cancel,
    /// refund_order.
    Refund,
    /// The deadline has come.
    Expire,
    /// extend_receipt.
    ExtendReceipt,
}

/// What the table says to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// The order goes to this status.
    Go(OrderStatus),
    /// The contract's refusal.
    Refuse(Refusal),
    /// Nothing is to be done: a deadline of an order that is not pending any more.
    Ignore,
}

/// The table of transitions. Every cell is asserted by a test.
pub fn judge(status: OrderStatus, command: Command, order: OrderId) -> Judgement {
    use Command::*;
    use Judgement::{Go, Ignore, Refuse};
    use OrderStatus::*;
    let id = || order.to_string();
    match (command, status) {
        (Pay | PayToPlatform, Pending) => Go(Paid),
        (Pay | PayToPlatform, Canceled) => Refuse(Refusal::OrderCanceled(id())),
        (Pay, Paid | Shipped | Received | Completed) | (PayToPlatform, Paid) => Refuse(Refusal::OrderPaid(id())),
        (PayToPlatform, Shipped | Received | Completed) => Refuse(Refusal::AlreadySettled(id())),
        (Ship, Pending | Canceled) => Refuse(Refusal::NotPaid(id())),
        (Ship, Paid) => Go(Shipped),
        (Ship, Shipped | Received | Completed) => Refuse(Refusal::OrderShipped(id())),
        (Confirm, Pending | Canceled) => Refuse(Refusal::NotPaid(id())),
        (Confirm, Paid | Shipped | Received) => Go(Completed),
        (Confirm, Completed) => Refuse(Refusal::OrderConfirmed(id())),
        (Cancel, Pending) => Go(Canceled),
        (Cancel, Paid | Shipped | Received | Completed | Canceled) => Refuse(Refusal::NotCancelable(id())),
        (Refund, Pending) => Refuse(Refusal::NotPaid(id())),
        (Refund, Paid) => Go(Canceled),
        (Refund, Shipped | Received | Completed | Canceled) => Refuse(Refusal::NotCancelable(id())),
        (Expire, Pending) => Go(Canceled),
        (Expire, Paid | Shipped | Received | Completed | Canceled) => Ignore,
        (ExtendReceipt, Pending | Canceled) => Refuse(Refusal::NotPaid(id())),
        (ExtendReceipt, Paid | Received) => Refuse(Refusal::invalid("order_id", "the order is not on its way")),
        (ExtendReceipt, Shipped) => Go(Shipped),
        (ExtendReceipt, Completed) => Refuse(Refusal::OrderConfirmed(id())),
    }
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub(crate) seq: u32,
    pub(crate) status: OrderStatus,
    pub(crate) payment: Option<PayKind>,
    pub(crate) buyer: AccountNo,
    pub(crate) seller: AccountNo,
    pub(crate) store: StoreNo,
    pub(crate) lines: Box<[Line]>,
    pub(crate) total: Fen,
    pub(crate) created: Millis,
    pub(crate) deadline: Millis,
    /// When it was paid.
    pub(crate) paid: Option<Millis>,
    /// When it was shipped.
    pub(crate) shipped: Option<Millis>,
    /// When it is confirmed by itself: from the shipping on, if it ever is.
    pub(crate) receipt: Option<Box<Receipt>>,
    /// When it was completed or canceled, and by whom.
    pub(crate) ended: Option<(Millis, By)>,
    /// Idempotency keys of its events: placed, paid, then completed or canceled.
    pub(crate) keys: Vec<Kept>,
}

impl Order {
    /// An order that is placed at that time.
    pub fn placed(facts: &Facts, at: Millis) -> Self {
        Order {
            seq: 1,
            status: OrderStatus::Pending,
            payment: None,
            buyer: facts.buyer,
            seller: facts.seller,
            store: facts.store,
            lines: facts.lines.clone(),
            total: facts.total,
            created: facts.created,
            deadline: facts.deadline,
            paid: None,
            shipped: None,
            receipt: None,
            ended: None,
            keys: kept(facts.key, at).collect(),
        }
    }

    /// What is kept under this key.
    pub fn kept(&self, scope: Scope) -> Option<&Kept> {
        self.keys.iter().find(|kept| kept.key.scope() == scope)
    }

    /// Takes in an event after `Placed`.
    pub(crate) fn apply(&mut self, event: &OrderEvent, at: Millis) {
        self.seq += 1;
        match event {
            OrderEvent::Placed(_) => {}
            OrderEvent::Paid { kind, key } => {
                self.status = OrderStatus::Paid;
                self.payment = Some(*kind);
                self.paid = Some(at);
                self.keys.extend(kept(*key, at));
            }
            OrderEvent::Shipped { confirm_by } => {
                self.status = OrderStatus::Shipped;
                self.shipped = Some(at);
                self.receipt = confirm_by.map(|confirm_by| Box::new(Receipt { confirm_by, extended: None }));
            }
            OrderEvent::ReceiptExtended { confirm_by } => {
                if let Some(receipt) = &mut self.receipt {
                    receipt.extended = Some((at, *confirm_by));
                }
            }
            OrderEvent::Completed { by, key } => {
                self.status = OrderStatus::Completed;
                self.ended = Some((at, *by));
                self.keys.extend(kept(*key, at));
            }
            OrderEvent::Canceled { by, key } => {
                self.status = OrderStatus::Canceled;
                self.ended = Some((at, *by));
                self.keys.extend(kept(*key, at));
            }
        }
    }

    /// The order as it was when `seq` events had happened to it. That follows from what it is now: it keeps when each of
    /// its steps was taken, and they are always taken in the same order. Which idempotency keys came with those events
    /// does not follow, so the caller says which `stay`. `None` if it was never at `seq`.
    pub fn rewound(&self, seq: u32, stays: impl Fn(&Kept) -> bool) -> Option<Order> {
        if seq == 0 || seq > self.seq {
            return None;
        }
        let mut order = self.clone();
        order.seq = seq;
        order.keys.retain(stays);
        let mut left = seq - 1;
        undo_from(&mut left, &mut order.paid);
        undo_from(&mut left, &mut order.shipped);
        if let Some(receipt) = &mut order.receipt {
            undo_from(&mut left, &mut receipt.extended);
        }
        undo_from(&mut left, &mut order.ended);
        if order.ended != self.ended || order.shipped != self.shipped || order.paid != self.paid {
            order.status = match (order.paid, order.shipped) {
                (_, Some(_)) => OrderStatus::Shipped,
                (Some(_), None) => OrderStatus::Paid,
                (None, None) => OrderStatus::Pending,
            };
        }
        order.payment = order.payment.filter(|_| order.paid.is_some());
        order.receipt = order.receipt.filter(|_| order.shipped.is_some());
        (left == 0).then_some(order)
    }

    /// Not finished: an account with such an order cannot be unregistered.
    pub fn is_open(&self) -> bool {
        !matches!(self.status, OrderStatus::Completed | OrderStatus::Canceled)
    }

    /// Pending and past its deadline.
    pub fn is_expired(&self, now: Millis) -> bool {
        self.status == OrderStatus::Pending && now >= self.deadline
    }

    /// What the platform holds for this order, in fen.
    pub fn escrow(&self) -> Fen {
        match (self.payment, self.status) {
            (Some(PayKind::Platform), OrderStatus::Paid | OrderStatus::Shipped | OrderStatus::Received) => self.total,
            _ => 0,
        }
    }
}

/// Of a step that was taken, and is not one of the `left` ones that stay.
fn undo_from<T>(left: &mut u32, step: &mut Option<T>) {
    if step.is_some() {
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => *step = None,
        }
    }
}

fn kept(key: Option<Key>, at: Millis) -> impl Iterator<Item = Kept> {
    key.into_iter().map(move |key| Kept { key, at })
}

#[cfg(test)]
mod tests {
    use super::super::ids::BookNo;
    use super::super::key::Operation;
    use super::*;

    /// Every way that an order can go, with a key for each event that takes one.
    fn ways() -> Vec<Vec<OrderEvent>> {
        let key = |operation| Some(Key::new(operation, "k", []));
        let completed = |by| OrderEvent::Completed { by, key: key(Operation::Confirm) };
        let canceled = |by| OrderEvent::Canceled { by, key: key(Operation::CancelOrder) };
        let mut ways = vec![vec![canceled(By::Buyer)], vec![canceled(By::Deadline)]];
        for kind in [PayKind::Direct, PayKind::Platform] {
            let paid = OrderEvent::Paid { kind, key: key(Operation::Payment) };
            for by in [By::Buyer, By::Seller] {
                ways.push(vec![paid.clone(), canceled(by)]);
            }
            ways.push(vec![paid.clone(), completed(By::Buyer)]);
            // Later than it is shipped, and the second time than it is put off, whatever times these tests give.
            let confirm_by = (kind == PayKind::Platform).then_some(12);
            for confirm_by in [None, confirm_by] {
                let shipped = OrderEvent::Shipped { confirm_by };
                ways.push(vec![paid.clone(), shipped.clone(), completed(By::Buyer)]);
                if confirm_by.is_some() {
                    let extended = OrderEvent::ReceiptExtended { confirm_by: 13 };
                    ways.push(vec![paid.clone(), shipped, extended, completed(By::Deadline)]);
                }
            }
        }
        ways
    }

    /// What an order keeps of its way: when each of its steps was taken, and by whom.
    #[test]
    fn an_order_keeps_when_it_went_where_and_by_whom() {
        for way in ways() {
            let mut order = placed();
            for (at, event) in (10..).zip(&way) {
                order.apply(event, at);
                assert_eq!(order.flaw(), None, "{order:?}");
            }
            let at = |is: &dyn Fn(&OrderEvent) -> bool| way.iter().position(is).map(|index| 10 + index as Millis);
            assert_eq!(order.paid, at(&|event| matches!(event, OrderEvent::Paid { .. })), "{way:?}");
            assert_eq!(order.shipped, at(&|event| matches!(event, OrderEvent::Shipped { .. })), "{way:?}");
            let extended = at(&|event| matches!(event, OrderEvent::ReceiptExtended { .. })).map(|at| (at, 13));
            assert_eq!(order.receipt.and_then(|receipt| receipt.extended), extended, "{way:?}");
            let (OrderEvent::Completed { by, .. } | OrderEvent::Canceled { by, .. }) = way.last().unwrap() else {
                panic!("{way:?}")
            };
            assert_eq!(order.ended, Some((9 + way.len() as Millis, *by)), "{way:?}");
        }
    }

    fn placed() -> Order {
        let lines = Box::new([Line { book: BookNo(0), count: 2, price: 5 }]);
        let (buyer, seller, store) = (AccountNo(1), AccountNo(2), StoreNo(1));
        let key = Some(Key::new(Operation::NewOrder, "k", []));
        Order::placed(&Facts { buyer, seller, store, lines, total: 10, created: 1, deadline: 9, key }, 1)
    }

    #[test]
    fn an_order_that_is_rewound_is_what_it_was() {
        for way in ways() {
            let mut states = vec![placed()];
            for (at, event) in (2..).zip(&way) {
                let mut next = states.last().unwrap().clone();
                next.apply(event, at);
                states.push(next);
            }
            for now in &states {
                for was in &states {
                    let expected = (was.seq <= now.seq).then(|| was.clone());
                    // Each event came at the time of its number.
                    let rewound = now.rewound(was.seq, |kept| kept.at <= Millis::from(was.seq));
                    assert_eq!(rewound, expected, "{now:?} to {}", was.seq);
                }
                assert_eq!(now.rewound(0, |_| true), None);
            }
        }
    }

    /// The contract's §2, cell by cell: rows are commands, columns the states in the order of `ALL`.
    #[test]
    fn every_cell_of_the_table_of_transitions() {
        const IGNORE: u16 = 0;
        const GO: u16 = 200;
        #[rustfmt::skip]
        let table = [
            //                        pending paid shipped received completed canceled
            (Command::Pay,           [GO,     527, 527,    527,     527,      526]),
            (Command::PayToPlatform, [GO,     527, 400,    400,     400,      526]),
            (Command::Ship,          [520,    GO,  529,    529,     529,      520]),
            (Command::Confirm,       [520,    GO,  GO,     GO,      528,      520]),
            (Command::Cancel,        [GO,     521, 521,    521,     521,      521]),
            (Command::Refund,        [520,    GO,  521,    521,     521,      521]),
            (Command::Expire,        [GO,     IGNORE, IGNORE, IGNORE, IGNORE, IGNORE]),
            (Command::ExtendReceipt, [520,    530, GO,     530,     528,      520]),
        ];
        let target = |command| match command {
            Command::Pay | Command::PayToPlatform => OrderStatus::Paid,
            Command::Ship | Command::ExtendReceipt => OrderStatus::Shipped,
            Command::Confirm => OrderStatus::Completed,
            Command::Cancel | Command::Refund | Command::Expire => OrderStatus::Canceled,
        };
        let id = OrderId::new(1, AccountNo(1), 1);
        for (command, row) in table {
            for (status, expected) in OrderStatus::ALL.into_iter().zip(row) {
                let got = judge(status, command, id);
                match expected {
                    IGNORE => assert_eq!(got, Judgement::Ignore, "{command:?} {status:?}"),
                    GO => assert_eq!(got, Judgement::Go(target(command)), "{command:?} {status:?}"),
                    code => match got {
                        Judgement::Refuse(refusal) => {
                            assert_eq!(refusal.code(), code, "{command:?} {status:?}");
                            let names_it = refusal.to_string().ends_with(&format!("order id {id}"));
                            assert!(names_it || code == 530);
                        }
                        other => panic!("{command:?} {status:?}: {other:?}"),
                    },
                }
            }
        }
    }
}
