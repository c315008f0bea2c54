//! Refund before shipping. Money first, then copies, then the order's `Canceled`:
//!
//! | paid to | steps |
//! |---|---|
//! | the seller | seller: TakenBack → buyer: Credited → store: Released → order: Canceled |
//! | the platform | buyer: Credited → store: Released → order: Canceled |
//!
//! Only the seller can refuse, who may have spent the money; his is the first step, so nothing has changed then. No later
//! step can be refused: a balance cannot overflow, since the sum of all deposits does not, and the shelf has room for
//! all copies in orders.

use super::super::effect::{Effect, Effects};
use super::super::event::{By, Credit, CreditCause, OrderEvent, PayKind, Refund};
use super::super::ids::{Millis, OrderId};
use super::super::key::Key;
use super::super::message::{AccountMsg, OrderMsg, Send};
use super::super::order::{Command, OrderStatus};
use super::super::refusal::Refusal;
use super::{OrderShard, Work, go, refused, release, scope};
use crate::planted::{Fault, planted};

impl OrderShard {
    pub(super) fn refund(&self, work: &mut Work, msg: OrderMsg, now: Millis, fx: &mut Effects<Self>) {
        let OrderMsg::Refund { ticket, order: id, user, key } = msg else {
            return;
        };
        if !self.judge_key(work, user, key, &msg, now, fx) {
            return;
        }
        let Some(order) = self.find(work, id, &msg, now, fx) else {
            return;
        };
        if order.buyer != user {
            return fx.push(refused(ticket, Refusal::NoOrder(id.to_string())));
        }
        if !go(order, Command::Refund, id, ticket, fx) {
            return;
        }
        work.begin(id, ticket, scope(order.buyer, key));
        let (buyer, amount) = (order.buyer, order.total);
        fx.push(Effect::Send(match order.payment {
            Some(PayKind::Direct) => {
                let refund = Refund { buyer, amount, key };
                Send::Account(order.seller, AccountMsg::TakeBack { order: id, refund })
            }
            Some(PayKind::Platform) | None => {
                let cause = CreditCause::Refund(PayKind::Platform);
                let credit = Credit { cause, amount, by: By::Buyer, key };
                Send::Account(buyer, AccountMsg::Credit { order: id, credit })
            }
        }));
    }

    /// The buyer has his money again: now the copies go back, unless an earlier process has closed the saga.
    pub(super) fn refunded(&self, work: &mut Work, id: OrderId, by: By, key: Option<Key>, fx: &mut Effects<Self>) {
        match self.orders.get(&id) {
            Some(_) if planted(Fault::RefundedCopiesKept) => {
                self.close(work, id, OrderEvent::Canceled { by, key }, fx);
            }
            Some(order) if order.status != OrderStatus::Canceled => fx.push(release(id, order, by, key, true)),
            Some(_) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::account::Account;
    use super::super::super::effect::{Entity, OnPanic, Outcome};
    use super::super::super::event::{AccountEvent, Book, DocumentHash, Evidence, Facts, Line, Release, StoreEvent};
    use super::super::super::ids::{AccountNo, BookNo, Fen, StoreNo, Ticket};
    use super::super::super::message::{Address, Cred, StoreMsg};
    use super::super::super::row::Persistent;
    use super::super::super::store::Store;
    use super::*;

    const BUYER: AccountNo = AccountNo(1);
    const SELLER: AccountNo = AccountNo(2);
    const STORE: StoreNo = StoreNo(1);
    const TOTAL: Fen = 10;

    fn id() -> OrderId {
        OrderId::new(1 << 20, BUYER, 1)
    }

    /// A buyer, a seller and a store; the evidence that is dropped waits until somebody flushes it.
    struct Shop {
        accounts: [Account; 2],
        store: Store,
        shard: OrderShard,
        work: Work,
        answers: Vec<String>,
        forgotten: Vec<(Address, Vec<Evidence>)>,
    }

    impl Shop {
        /// With an order of two copies that is placed, by the seller himself if it is his own store.
        fn new(seller: AccountNo) -> Self {
            let mut store = Store::new(STORE);
            store.apply(&StoreEvent::Created { store_id: "s".into(), owner: seller }, 0);
            let (id_of_book, document) = ("b".into(), DocumentHash([0; 32]));
            store.apply(&StoreEvent::BookAdded { id: id_of_book, price: 5, stock: 3, document }, 0);
            let lines = Box::new([Line { book: BookNo(0), count: 2, price: 5 }]);
            let buyer = BUYER;
            let facts = Facts { buyer, seller, store: STORE, lines, total: TOTAL, created: 0, deadline: 99, key: None };
            store.apply(&StoreEvent::Reserved { order: id(), facts: facts.clone() }, 0);
            store.forget(&[Evidence::Reservation(id())]);
            let mut shard = OrderShard::default();
            shard.apply(&(id(), OrderEvent::Placed(facts)), 0);
            let mut accounts = [BUYER, SELLER].map(Account::new);
            accounts[0].apply(&AccountEvent::FundsAdded { value: TOTAL, key: None }, 0);
            let (work, answers, forgotten) = Default::default();
            Shop { accounts, store, shard, work, answers, forgotten }
        }

        fn account(&mut self, number: AccountNo) -> &mut Account {
            &mut self.accounts[number.0 as usize - 1]
        }

        /// Delivers a message and at most `steps` of those that follow from it.
        fn run(&mut self, first: Send, steps: usize) {
            let mut queue = std::collections::VecDeque::from([first]);
            for _ in 0..steps {
                let Some(message) = queue.pop_front() else { return };
                let (next, answers) = match message {
                    Send::Account(number, msg) => step(self.account(number), &mut (), msg),
                    Send::Store(_, msg) => step(&mut self.store, &mut (), msg),
                    Send::Order(_, msg) => step(&mut self.shard, &mut self.work, msg),
                    Send::Forget(address, evidence) => {
                        self.forgotten.push((address, evidence));
                        continue;
                    }
                };
                queue.extend(next);
                self.answers.extend(answers);
            }
        }

        fn ask(&mut self, msg: OrderMsg) -> String {
            self.run(Send::Order(0, msg), usize::MAX);
            self.answers.pop().unwrap_or_default()
        }

        fn pay(&mut self, kind: PayKind) {
            let (ticket, user, cred) = (Ticket(1), Some(BUYER), Cred::Trusted);
            assert_eq!(self.ask(OrderMsg::Pay { ticket, order: id(), user, cred, kind, key: None }), "Done");
        }

        fn refund(&mut self) -> String {
            self.ask(refund())
        }

        /// Evidence that the shard has collected is dropped.
        fn flush(&mut self) {
            self.run(Send::Order(0, OrderMsg::Flush), usize::MAX);
            for (address, evidence) in std::mem::take(&mut self.forgotten) {
                match address {
                    Address::Account(number) => self.account(number).forget(&evidence),
                    Address::Store(_) => self.store.forget(&evidence),
                }
            }
        }

        fn balances(&self) -> [Fen; 2] {
            [self.accounts[0].balance(), self.accounts[1].balance()]
        }

        fn shelf(&self) -> (i64, i64) {
            let Book { stock, taken, .. } = self.store.books()[0];
            (stock, taken)
        }

        fn status(&self) -> OrderStatus {
            self.shard.orders[&id()].status
        }

        fn has_evidence(&self) -> bool {
            self.accounts.iter().any(Account::has_evidence)
                || !(self.store.reservations().is_empty() && self.store.releases().is_empty())
        }
    }

    fn refund() -> OrderMsg {
        OrderMsg::Refund { ticket: Ticket(2), order: id(), user: BUYER, key: None }
    }

    fn step<E: Entity>(entity: &mut E, work: &mut E::Work, msg: E::Msg) -> (Vec<Send>, Vec<String>) {
        let (mut next, mut answers) = (Vec::new(), Vec::new());
        let mut fx = Vec::new();
        entity.handle(work, msg, 1, &mut fx);
        for effect in fx {
            match effect {
                Effect::Append(event) => entity.apply(&event, 1),
                Effect::Send(message) => next.push(message),
                Effect::Reply(_, Outcome::Refused(refusal)) => answers.push(refusal.code().to_string()),
                Effect::Reply(_, outcome) => answers.push(format!("{outcome:?}")),
                _ => {}
            }
        }
        (next, answers)
    }

    /// Everything is as it was before the payment, whoever sold, whoever was paid, and whether the payment's evidence was
    /// dropped in time.
    #[test]
    fn money_and_copies_come_back_once() {
        for kind in [PayKind::Direct, PayKind::Platform] {
            for seller in [SELLER, BUYER] {
                for flushed in [true, false] {
                    let mut shop = Shop::new(seller);
                    shop.pay(kind);
                    if flushed {
                        shop.flush();
                    }
                    assert_eq!(shop.refund(), "Done", "{kind:?} {seller:?}");
                    assert_eq!((shop.balances(), shop.shelf()), ([TOTAL, 0], (3, 0)), "{kind:?} {seller:?}");
                    assert_eq!((shop.status(), shop.shard.orders[&id()].escrow()), (OrderStatus::Canceled, 0));
                    assert_eq!(shop.refund(), "521");
                    shop.flush();
                    assert!(!shop.has_evidence() && shop.work.is_quiet());
                }
            }
        }
    }

    #[test]
    fn a_seller_who_has_spent_it_is_not_in_debt() {
        let mut shop = Shop::new(SELLER);
        shop.pay(PayKind::Direct);
        shop.account(SELLER).apply(&AccountEvent::FundsAdded { value: -1, key: None }, 1);
        assert_eq!(shop.refund(), "519");
        assert_eq!((shop.balances(), shop.shelf(), shop.status()), ([0, TOTAL - 1], (1, 2), OrderStatus::Paid));
        // He has it again, and so has the buyer.
        shop.account(SELLER).apply(&AccountEvent::FundsAdded { value: 1, key: None }, 1);
        assert_eq!(shop.refund(), "Done");
        assert_eq!((shop.balances(), shop.shelf()), ([TOTAL, 0], (3, 0)));
    }

    #[test]
    fn only_what_is_paid_and_not_shipped_is_refunded() {
        let mut shop = Shop::new(SELLER);
        assert_eq!(shop.refund(), "520");
        shop.pay(PayKind::Platform);
        let stranger = OrderMsg::Refund { ticket: Ticket(2), order: id(), user: SELLER, key: None };
        assert_eq!(shop.ask(stranger), "518");
        assert_eq!(
            shop.ask(OrderMsg::Ship { ticket: Ticket(3), order: id(), store: STORE, confirm_after: None }),
            "Done"
        );
        assert_eq!(shop.refund(), "521");
        assert_eq!((shop.balances(), shop.shelf()), ([0, 0], (1, 2)));
    }

    /// A step that is done again, as recovery does, changes nothing: wherever it was cut, the rest is done once.
    #[test]
    fn cut_anywhere_it_is_finished_once() {
        for kind in [PayKind::Direct, PayKind::Platform] {
            for seller in [SELLER, BUYER] {
                for steps in 1..8 {
                    let mut shop = Shop::new(seller);
                    shop.pay(kind);
                    shop.run(Send::Order(0, refund()), steps);
                    // The process is gone, and with it who waited.
                    shop.work = Work::default();
                    let taken = shop.account(seller).refunds().get(&id()).map(|refund| refund.next(id()));
                    let cause = CreditCause::Refund(kind);
                    let credit = shop.account(BUYER).credits().get(&(id(), cause)).map(|credit| credit.next(id()));
                    let release = shop.store.releases().get(&id()).map(|release| {
                        Send::Order(0, OrderMsg::Released { order: id(), by: release.by, key: release.key })
                    });
                    let unfinished: Vec<_> = [taken, credit, release].into_iter().flatten().collect();
                    let begun = !unfinished.is_empty();
                    unfinished.into_iter().for_each(|message| shop.run(message, usize::MAX));
                    let expected = match begun {
                        true => ([TOTAL, 0], (3, 0), OrderStatus::Canceled),
                        false if kind == PayKind::Direct && seller == SELLER => ([0, TOTAL], (1, 2), OrderStatus::Paid),
                        false if kind == PayKind::Direct => ([TOTAL, 0], (1, 2), OrderStatus::Paid),
                        false => ([0, 0], (1, 2), OrderStatus::Paid),
                    };
                    let found = (shop.balances(), shop.shelf(), shop.status());
                    assert_eq!(found, expected, "{kind:?} {seller:?}, {steps} steps");
                    assert_eq!(shop.shard.orders[&id()].seq(), if begun { 3 } else { 2 });
                }
            }
        }
    }

    /// A panic in any other step would leave half a refund.
    #[test]
    fn only_a_first_step_is_answered_after_a_panic() {
        let (order, amount, by, key) = (id(), TOTAL, By::Buyer, None);
        let credit = |kind| {
            let cause = CreditCause::Refund(kind);
            Account::on_panic(&AccountMsg::Credit { order, credit: Credit { cause, amount, by, key } })
        };
        let refund = Refund { buyer: BUYER, amount, key };
        assert_eq!(Account::on_panic(&AccountMsg::TakeBack { order, refund }), OnPanic::NotTakenBack(order));
        assert_eq!(credit(PayKind::Platform), OnPanic::NotCredited(order));
        assert_eq!(credit(PayKind::Direct), OnPanic::Stop);
        let release = |is_refund| {
            let release = Release { lines: Box::new([]), by, key };
            Store::on_panic(&StoreMsg::Release { order, release, is_refund })
        };
        assert_eq!((release(false), release(true)), (OnPanic::NotReleased(order), OnPanic::Stop));
    }

    #[test]
    fn an_account_with_evidence_comes_back_from_its_row() {
        let mut shop = Shop::new(BUYER);
        shop.pay(PayKind::Direct);
        assert_eq!(shop.refund(), "Done");
        let account = shop.account(BUYER);
        assert_eq!((account.holds().len(), account.credits().len(), account.refunds().len()), (1, 2, 1));
        assert_eq!(Account::decode(&account.encode()).unwrap(), *account);
    }
}
