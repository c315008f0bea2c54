//! Orders at rest beside a journal that ends earlier than they were written.
//!
//! A row may be ahead of the journal's new end, and an order that is ahead of its buyer's wallet would be money out of
//! nothing. Where an order stood at the new end is known, or follows:
//!
//! - What is in the snapshot, or was placed in the journal after it, is in memory after recovery. Its row is not needed:
//!   one that is ahead or damaged goes.
//! - An order that the kept journal only changes goes back to its last event there.
//! - Of any other order nothing happened between the snapshot's walk and the new end. A row that rests on no later event
//!   is as it was. Else the row was written after the end. An id from after the walk says that the order was not there
//!   yet. Of one that was, the first lost event says what came before, if it can be read. If it cannot: an order rests
//!   only if it was paid or canceled, so it has since gone a step on, and goes that step back. Whether it was two steps
//!   makes a difference only to `shipped`, not to money and copies (one that was refunded was paid the step before); it is
//!   told as inferred.

use std::collections::{HashMap, HashSet};

use crate::cold::{ColdError, Orders, RestingRow, RowState};
use crate::domain::{Kept, Order, OrderEvent, OrderId, Record, Scope};
use crate::journal::Lsn;

/// What snapshot and kept journal know of orders.
#[derive(Debug, Default)]
pub(super) struct Known {
    orders: HashMap<OrderId, KnownOrder>,
}

#[derive(Debug, Default, Clone, Copy)]
struct KnownOrder {
    /// Events that happened to it up to the new end.
    seq: u32,
    /// Recovery needs no row at rest for it.
    whole: bool,
}

impl Known {
    pub(super) fn row(&mut self, id: OrderId, order: &Order) {
        let known = self.orders.entry(id).or_default();
        *known = KnownOrder { seq: known.seq.max(order.seq), whole: true };
    }

    pub(super) fn event(&mut self, record: &Record) {
        if let Record::Order(id, seq, _, event) = record {
            let known = self.orders.entry(*id).or_default();
            known.seq = known.seq.max(u32::try_from(*seq).unwrap_or(u32::MAX));
            known.whole |= matches!(event, OrderEvent::Placed(_));
        }
    }
}

/// Where the repaired shop ends, and what is known of what came after.
pub(super) struct End<'a> {
    /// Its newest event.
    pub(super) lsn: Lsn,
    /// When the snapshot was taken that it goes on from; 0 without one.
    pub(super) taken_ms: u64,
    /// What the readable lost events say of orders.
    pub(super) undone: &'a Undone,
    /// Every lost event can be read.
    pub(super) all_readable: bool,
}

/// What readable lost events say of orders.
#[derive(Debug, Default)]
pub(super) struct Undone {
    /// The sequence number of the first one of each order.
    pub(super) first: HashMap<OrderId, u64>,
    /// Idempotency keys that came with them.
    pub(super) keys: HashSet<(OrderId, Scope)>,
}

impl Undone {
    pub(super) fn add(&mut self, record: &Record) {
        let Record::Order(id, seq, _, event) = record else { return };
        self.first.entry(*id).and_modify(|known| *known = (*known).min(*seq)).or_insert(*seq);
        let key = match event {
            OrderEvent::Placed(facts) => facts.key,
            OrderEvent::Paid { key, .. } | OrderEvent::Completed { key, .. } | OrderEvent::Canceled { key, .. } => *key,
            OrderEvent::Shipped { .. } | OrderEvent::ReceiptExtended { .. } => None,
        };
        self.keys.extend(key.map(|key| (*id, key.scope())));
    }
}

/// What becomes of the rows.
#[derive(Debug, Default)]
pub(super) struct RowChanges {
    pub(super) changes: Vec<(OrderId, Option<Order>)>,
    pub(super) mended: Vec<OrderId>,
    pub(super) rewound: Vec<OrderId>,
    pub(super) removed: Vec<OrderId>,
    /// Damaged and nowhere else.
    pub(super) lost: Vec<OrderId>,
    pub(super) inferred: Vec<OrderId>,
    /// Damage that was found, put right or not.
    pub(super) damage: Vec<String>,
    /// Orders that are at rest since before the end, and that the snapshot and the journal do not know.
    pub(super) foreign: u64,
}

/// What becomes of an order's row.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Stay,
    Go,
    /// Back to what it was after so many events; true if that is inferred.
    Back(u32, bool),
}

pub(super) fn judge_rows(orders: &Orders, known: &Known, end: &End<'_>) -> Result<RowChanges, ColdError> {
    let mut changes = RowChanges::default();
    orders.survey(&mut |row| changes.judge(row, known, end))?;
    Ok(changes)
}

impl RowChanges {
    fn judge(&mut self, row: RestingRow, known: &Known, end: &End<'_>) {
        let id = row.id;
        let whole = known.orders.get(&id).is_some_and(|known| known.whole);
        let (order, upto, mended) = match row.state {
            RowState::Sound(order, upto) => (order, upto, false),
            RowState::Mendable(order, upto) => {
                self.damage.push(format!("the row of order {id}: one byte is damaged, which its checksum tells"));
                (order, upto, true)
            }
            RowState::Lost(why) => {
                self.damage.push(why);
                if !whole {
                    self.lost.push(id);
                }
                self.removed.push(id);
                return self.changes.push((id, None));
            }
        };
        match fate(id, &order, upto, known, end) {
            Fate::Stay if mended => {
                self.mended.push(id);
                self.changes.push((id, Some(order)));
            }
            Fate::Stay => self.foreign += u64::from(!known.orders.contains_key(&id)),
            Fate::Go => {
                self.removed.push(id);
                self.changes.push((id, None));
            }
            Fate::Back(seq, inferred) => {
                let before = order.rewound(seq, |kept| stays(id, &order, seq, kept, end.undone));
                match before {
                    Some(_) => self.rewound.push(id),
                    None => self.removed.push(id),
                }
                if inferred {
                    self.inferred.push(id);
                }
                self.changes.push((id, before));
            }
        }
    }
}

/// Whether a key came with one of the first `seq` events. One that stays with an event that is undone would tell a client
/// that it happened. Which event it came with only its time says: so of two in the same ms none stays, and the client
/// hears how the order stands now.
fn stays(id: OrderId, order: &Order, seq: u32, kept: &Kept, undone: &Undone) -> bool {
    order.step_at(seq).is_none_or(|undone_at| kept.at < undone_at) && !undone.keys.contains(&(id, kept.key.scope()))
}

fn fate(id: OrderId, order: &Order, upto: Lsn, known: &Known, end: &End<'_>) -> Fate {
    if let Some(known) = known.orders.get(&id) {
        return match order.seq > known.seq {
            false => Fate::Stay,
            true if known.whole => Fate::Go,
            true => Fate::Back(known.seq, false),
        };
    }
    if upto <= end.lsn {
        return Fate::Stay;
    }
    // Without a readable event the last one counts, which is in the row.
    let first_lost = end.undone.first.get(&id).map_or(order.seq, |first| u32::try_from(*first).unwrap_or(u32::MAX));
    // It did not rest before it was paid or canceled, so it was not there.
    if first_lost <= 2 || id.millis() > end.taken_ms {
        return Fate::Go;
    }
    Fate::Back(first_lost - 1, first_lost > 3 && !end.all_readable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AccountNo, By, Facts, Key, Operation, PayKind, StoreNo};

    const TAKEN_MS: u64 = 1_700_000_000_000;

    fn id(ms: u64) -> OrderId {
        OrderId::new(ms << 20, AccountNo(1), 1)
    }

    /// An order after so many events: placed, paid, shipped, completed.
    fn order(seq: u32) -> Order {
        let (buyer, seller, store) = (AccountNo(1), AccountNo(2), StoreNo(1));
        let facts = Facts { buyer, seller, store, lines: Box::new([]), total: 1, created: 1, deadline: 2, key: None };
        let mut order = Order::placed(&facts, 1);
        let way = [
            OrderEvent::Paid { kind: PayKind::Platform, key: None },
            OrderEvent::Shipped { confirm_by: None },
            OrderEvent::Completed { by: By::Buyer, key: None },
        ];
        way.iter().take(seq as usize - 1).for_each(|event| order.apply(event, 1));
        order
    }

    /// The refund came in the same ms as the payment: the client who asks again must not be told that it was done.
    #[test]
    fn a_key_goes_with_its_event_even_if_the_one_before_it_is_of_the_same_time() {
        let key = |text| Key::new(Operation::RefundOrder, text, []);
        let (pay, refund) = (key("pay"), key("refund"));
        let of = |paid, canceled| {
            let mut order = order(1);
            order.apply(&OrderEvent::Paid { kind: PayKind::Platform, key: Some(pay) }, paid);
            order.apply(&OrderEvent::Canceled { by: By::Buyer, key: Some(refund) }, canceled);
            let undone = Undone::default();
            let before = order.rewound(2, |kept| stays(id(1), &order, 2, kept, &undone)).unwrap();
            (before.kept(pay.scope()).is_some(), before.kept(refund.scope()).is_some())
        };
        assert_eq!(of(5, 6), (true, false));
        assert_eq!(of(5, 5), (false, false));
    }

    #[test]
    fn every_row_goes_to_where_its_order_stood() {
        let (old, new) = (id(TAKEN_MS - 5), id(TAKEN_MS + 5));
        let event = |id, seq| Record::Order(id, seq, 0, OrderEvent::Shipped { confirm_by: None });
        let mut changed = Known::default();
        changed.event(&event(old, 3));
        let mut whole = Known::default();
        whole.row(old, &order(2));
        whole.event(&event(old, 3));
        let nothing = Known::default();
        let undone = |first: Option<u64>| {
            let first = first.map(|seq| (old, seq)).into_iter().collect();
            Undone { first, ..Undone::default() }
        };
        let judge = |id, seq, upto, known: &Known, first: Option<u64>| {
            let end = End { lsn: 100, taken_ms: TAKEN_MS, undone: &undone(first), all_readable: first.is_some() };
            fate(id, &order(seq), upto, known, &end)
        };
        // Known: the journal's number counts, whatever the row says of itself.
        assert_eq!(judge(old, 3, 150, &changed, None), Fate::Stay);
        assert_eq!(judge(old, 2, 50, &changed, None), Fate::Stay);
        assert_eq!(judge(old, 4, 150, &changed, Some(4)), Fate::Back(3, false));
        assert_eq!(judge(old, 4, 150, &whole, Some(4)), Fate::Go);
        // Not known: as it was, unless it was written later.
        assert_eq!(judge(old, 4, 100, &nothing, None), Fate::Stay);
        assert_eq!(judge(old, 4, 101, &nothing, Some(3)), Fate::Back(2, false));
        assert_eq!(judge(old, 4, 101, &nothing, Some(4)), Fate::Back(3, false));
        assert_eq!(judge(old, 4, 101, &nothing, Some(1)), Fate::Go);
        // Nor is the event readable that took it on.
        assert_eq!(judge(old, 4, 101, &nothing, None), Fate::Back(3, true));
        assert_eq!(judge(old, 3, 101, &nothing, None), Fate::Back(2, false));
        assert_eq!(judge(old, 2, 101, &nothing, None), Fate::Go);
        assert_eq!(judge(new, 4, 101, &nothing, None), Fate::Go);
    }
}
