//! What an order keeps of its way: when each of its steps was taken, and by whom.

use serde::{Deserialize, Serialize};

use super::event::{By, PayKind};
use super::ids::Millis;
use super::order::{Order, OrderStatus};

/// The most that a buyer can put the confirmation off by: a loaded order may have been shipped long ago.
pub const EXTENSION_MAX: Millis = 30 * 86_400_000;

/// When a shipped order is confirmed by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// As the shipping fixed it.
    pub(crate) confirm_by: Millis,
    /// When the buyer put it off, and until when.
    pub(crate) extended: Option<(Millis, Millis)>,
}

impl Receipt {
    /// When the order is confirmed by itself, as it is now.
    pub fn due(&self) -> Millis {
        self.extended.map_or(self.confirm_by, |(_, until)| until)
    }
}

impl Order {
    /// When it will be confirmed by itself; `None` if it does not wait for that.
    pub fn awaits(&self) -> Option<Millis> {
        self.confirm_by().filter(|_| self.status == OrderStatus::Shipped)
    }

    /// Until when its confirmation is put off if its buyer asks for that: as long again as it was from the shipping on,
    /// at most [`EXTENSION_MAX`]. Else why it cannot be.
    pub fn extension(&self) -> Result<Millis, &'static str> {
        let receipt = self.receipt.as_ref().ok_or("the order is not confirmed by itself")?;
        if receipt.extended.is_some() {
            return Err("its confirmation was put off before");
        }
        let after = receipt.confirm_by.saturating_sub(self.shipped.unwrap_or(self.created));
        Ok(receipt.confirm_by.saturating_add(after.min(EXTENSION_MAX)))
    }

    /// When it took its step `place`, counted from 0, which is its placing; `None` if it has not.
    pub fn step_at(&self, place: u32) -> Option<Millis> {
        self.steps().into_iter().flatten().nth(place as usize)
    }

    /// When it took each of its steps, in their order.
    fn steps(&self) -> [Option<Millis>; 5] {
        let extended = self.receipt.as_ref().and_then(|receipt| receipt.extended);
        [Some(self.created), self.paid, self.shipped, extended.map(|(at, _)| at), self.ended.map(|(at, _)| at)]
    }

    /// When it was or would be confirmed by itself; `None` if never.
    pub fn confirm_by(&self) -> Option<Millis> {
        self.receipt.as_ref().map(|receipt| receipt.due())
    }

    /// Why this cannot be an order's row: what it keeps of its way does not fit where it stands. `None` if it can be.
    pub fn flaw(&self) -> Option<&'static str> {
        let times = self.steps();
        let taken = times.iter().flatten();
        if !taken.clone().is_sorted() {
            return Some("its times are not in the order of its steps");
        }
        if u64::from(self.seq) != taken.count() as u64 {
            return Some("it has another number of events than of steps");
        }
        let steps = (self.paid.is_some(), self.shipped.is_some(), self.ended.is_some());
        let fits = match self.status {
            OrderStatus::Pending => steps == (false, false, false),
            OrderStatus::Paid => steps == (true, false, false),
            OrderStatus::Shipped => steps == (true, true, false),
            OrderStatus::Received => steps.0 && !steps.2,
            OrderStatus::Completed => steps.0 && steps.2,
            OrderStatus::Canceled => !steps.1 && steps.2,
        };
        if !fits || self.payment.is_some() != self.paid.is_some() {
            return Some("its steps are not those of its status");
        }
        if let Some(receipt) = &self.receipt {
            let shipped = self.shipped.filter(|_| self.payment == Some(PayKind::Platform));
            if shipped.is_none_or(|shipped| receipt.confirm_by < shipped) || receipt.due() < receipt.confirm_by {
                return Some("it could not be confirmed by itself at that time");
            }
        }
        let by_fits = match (self.status, self.ended) {
            (OrderStatus::Completed, Some((at, By::Deadline))) => self.confirm_by().is_some_and(|due| due <= at),
            (OrderStatus::Completed, Some((_, by))) => by == By::Buyer,
            (_, Some((_, By::Deadline))) => self.paid.is_none(),
            _ => true,
        };
        (!by_fits).then_some("it was ended by somebody who cannot have")
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Facts, OrderEvent};
    use super::super::ids::{AccountNo, StoreNo};
    use super::*;

    /// Placed at 10, paid at 20, shipped at 30, put off at 40, confirmed by itself at 90.
    fn order() -> Order {
        let (buyer, seller, store) = (AccountNo(1), AccountNo(2), StoreNo(1));
        let facts = Facts { buyer, seller, store, lines: Box::new([]), total: 5, created: 10, deadline: 19, key: None };
        let mut order = Order::placed(&facts, 10);
        order.apply(&OrderEvent::Paid { kind: PayKind::Platform, key: None }, 20);
        order.apply(&OrderEvent::Shipped { confirm_by: Some(60) }, 30);
        order.apply(&OrderEvent::ReceiptExtended { confirm_by: 90 }, 40);
        order.apply(&OrderEvent::Completed { by: By::Deadline, key: None }, 90);
        order
    }

    #[test]
    fn it_is_put_off_by_as_long_again_but_not_by_what_a_loaded_order_lay_before() {
        const DAY: Millis = 86_400_000;
        for (waits, more) in [(10 * DAY, 10 * DAY), (30 * DAY, 30 * DAY), (301 * DAY, 30 * DAY)] {
            let mut order = order();
            order.receipt = Some(Box::new(Receipt { confirm_by: 30 + waits, extended: None }));
            assert_eq!(order.extension(), Ok(30 + waits + more));
        }
    }

    #[test]
    fn what_cannot_be_an_orders_history_is_told() {
        assert_eq!(order().flaw(), None);
        type Change = fn(&mut Order);
        let wrong: [(&str, Change); 14] = [
            ("paid before it was placed", |order| order.paid = Some(9)),
            ("shipped before it was paid", |order| order.shipped = Some(19)),
            ("ended before it was put off", |order| order.ended = Some((39, By::Buyer))),
            ("an event more", |order| order.seq += 1),
            ("an event less", |order| order.seq -= 1),
            ("completed and not ended", |order| (order.ended, order.seq) = (None, 4)),
            ("shipped and ended", |order| order.status = OrderStatus::Shipped),
            ("canceled after it was shipped", |order| order.status = OrderStatus::Canceled),
            ("paid in no way", |order| order.payment = None),
            ("the seller has the money", |order| order.payment = Some(PayKind::Direct)),
            ("confirmed by itself before its time", |order| order.ended = Some((89, By::Deadline))),
            ("confirmed by the seller", |order| order.ended = Some((90, By::Seller))),
            ("never to be confirmed by itself", |order| (order.receipt, order.seq) = (None, 4)),
            ("put off to an earlier time", |order| {
                order.receipt = Some(Box::new(Receipt { confirm_by: 60, extended: Some((40, 59)) }));
            }),
        ];
        for (what, make) in wrong {
            let mut order = order();
            make(&mut order);
            assert!(order.flaw().is_some(), "{what}: {order:?}");
        }
    }
}
