//! Some of the orders that were acknowledged, picked evenly from all of them, and what is known of each: sums may agree
//! though an order is lost, so the audit asks for these one by one.
//!
//! Each order has a rank, which is a hash of its id, and those with the lowest ranks are kept. So whether a step belongs
//! to one of them is told by the id alone: all others cost a hash and a comparison, and only what is kept is looked up.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::calls::Call;
use crate::scenario::{OrderId, Random};

/// So many orders are kept at most.
const KEPT_MAX: usize = 1_000;

/// How far an order has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Placed,
    Paid,
    Refunded,
    Shipped,
}

impl Step {
    /// That of a call about an order that is there.
    fn of(call: Call) -> Option<(Self, OrderId)> {
        match call {
            Call::Payment(_, id) | Call::ToPlatform(_, id) => Some((Self::Paid, id)),
            Call::Refund(_, id) => Some((Self::Refunded, id)),
            Call::Shipping(_, id) => Some((Self::Shipped, id)),
            Call::Order(_) | Call::Status(..) | Call::Look(_) => None,
        }
    }

    /// What a server may call it. What is shipped may be confirmed by itself.
    fn states(self) -> &'static [&'static str] {
        match self {
            Self::Placed => &["pending"],
            Self::Paid => &["paid"],
            Self::Refunded => &["canceled", "refunded"],
            Self::Shipped => &["shipped", "received", "completed"],
        }
    }
}

/// What was answered about an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    /// The index of the prepared order.
    pub(crate) index: usize,
    /// The last step that was acknowledged.
    certain: Step,
    /// A step behind it that was perhaps done.
    perhaps: Option<Step>,
    /// Another order was given the same id.
    pub(crate) is_twice: bool,
}

impl Known {
    /// The states that the order may be in.
    pub(crate) fn states(&self) -> impl Iterator<Item = &'static str> {
        let perhaps = self.perhaps.filter(|perhaps| *perhaps > self.certain);
        [Some(self.certain), perhaps].into_iter().flatten().flat_map(|step| step.states().iter().copied())
    }
}

/// The orders that are kept.
pub(crate) struct Sampled {
    /// By rank, which the id comes behind.
    kept: BTreeMap<(u64, OrderId), Known>,
    /// Only what is below it is kept. It never rises: so a step of an order that is below it finds that order.
    bar: u64,
}

impl Sampled {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { kept: BTreeMap::new(), bar: u64::MAX }
    }

    /// new_order was answered 200, with this id.
    pub(crate) fn placed(&mut self, index: usize, id: OrderId) {
        let rank = rank(&id);
        if rank >= self.bar {
            return;
        }
        match self.kept.entry((rank, id)) {
            Entry::Occupied(mut known) => known.get_mut().is_twice = true,
            Entry::Vacant(place) => {
                place.insert(Known { index, certain: Step::Placed, perhaps: None, is_twice: false });
            }
        }
        if self.kept.len() > KEPT_MAX
            && let Some(((rank, _), _)) = self.kept.pop_last()
        {
            self.bar = rank;
        }
    }

    /// A call was answered 200.
    pub(crate) fn acknowledged(&mut self, call: Call) {
        if let Some((known, step)) = self.kept_of(call) {
            known.certain = known.certain.max(step);
        }
    }

    /// A call was perhaps done.
    pub(crate) fn unknown(&mut self, call: Call) {
        if let Some((known, step)) = self.kept_of(call) {
            known.perhaps = known.perhaps.max(Some(step));
        }
    }

    fn kept_of(&mut self, call: Call) -> Option<(&mut Known, Step)> {
        let (step, id) = Step::of(call)?;
        let rank = rank(&id);
        if rank >= self.bar {
            return None;
        }
        Some((self.kept.get_mut(&(rank, id))?, step))
    }

    /// Each with its id.
    pub(crate) fn orders(&self) -> impl Iterator<Item = (&OrderId, &Known)> {
        self.kept.iter().map(|((_, id), known)| (id, known))
    }
}

/// A hash of an id: ids may be in sequence, ranks are not.
fn rank(id: &OrderId) -> u64 {
    id.chunks(8).fold(0, |rank, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        Random::new(rank ^ u64::from_le_bytes(word)).next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> OrderId {
        let text = format!("{number:036}");
        text.as_bytes().try_into().unwrap()
    }

    fn states(sampled: &Sampled, number: usize) -> Vec<&'static str> {
        let (_, known) = sampled.orders().find(|(kept, _)| **kept == id(number)).unwrap();
        known.states().collect()
    }

    #[test]
    fn orders_are_picked_evenly_and_no_more_than_there_is_room_for() {
        let mut sampled = Sampled::new();
        let orders = 20_000;
        for number in 0..orders {
            sampled.placed(number, id(number));
            sampled.acknowledged(Call::Payment(number, id(number)));
        }
        assert_eq!(sampled.orders().count(), KEPT_MAX);
        // No state but this: whoever was kept from its order on has not missed its payment.
        assert!(sampled.orders().all(|(kept, known)| *kept == id(known.index) && known.states().eq(["paid"])));
        for quarter in 0..4 {
            let range = quarter * orders / 4..(quarter + 1) * orders / 4;
            let here = sampled.orders().filter(|(_, known)| range.contains(&known.index)).count();
            // 250, give or take five times the deviation.
            assert!((181..=319).contains(&here), "{quarter}: {here}");
        }
    }

    #[test]
    fn what_is_acknowledged_is_one_state_and_what_is_unknown_two() {
        let mut sampled = Sampled::new();
        (0..4).for_each(|number| sampled.placed(number, id(number)));
        assert_eq!(states(&sampled, 0), ["pending"]);
        sampled.unknown(Call::ToPlatform(1, id(1)));
        assert_eq!(states(&sampled, 1), ["pending", "paid"]);
        sampled.acknowledged(Call::ToPlatform(1, id(1)));
        assert_eq!(states(&sampled, 1), ["paid"]);
        sampled.unknown(Call::Shipping(1, id(1)));
        assert_eq!(states(&sampled, 1), ["paid", "shipped", "received", "completed"]);
        sampled.acknowledged(Call::Payment(2, id(2)));
        sampled.acknowledged(Call::Refund(2, id(2)));
        sampled.acknowledged(Call::Status(2, id(2)));
        assert_eq!(states(&sampled, 2), ["canceled", "refunded"]);
        // Nobody was told of this one.
        sampled.acknowledged(Call::Payment(9, id(9)));
        assert_eq!(sampled.orders().count(), 4);
    }

    #[test]
    fn an_id_that_is_given_twice_is_noticed() {
        let mut sampled = Sampled::new();
        sampled.placed(0, id(7));
        assert!(sampled.orders().all(|(_, known)| !known.is_twice));
        sampled.placed(1, id(7));
        assert!(sampled.orders().all(|(_, known)| known.is_twice));
    }
}
