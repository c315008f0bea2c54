//! Callers who get their answers, and whether those can be true.

use std::collections::BTreeMap;

use bookstore::Refusal;
use bookstore::internals::domain::{Cred, OrderId, OrderStatus, Outcome};

use super::{Checked, Sim, Stage, Waiting};
use crate::command::{Command, TTL, secret};
use crate::shadow::{Shadow, is_past};

impl Sim {
    /// Callers take the answers that have left.
    pub(super) fn receive(&mut self) -> Checked {
        let mut index = 0;
        while index < self.waiting.len() {
            match self.waiting[index].admission.answer.try_recv() {
                Ok(outcome) => {
                    let waiting = self.waiting.remove(index);
                    self.answered(waiting, outcome)?;
                }
                Err(_) => index += 1,
            }
        }
        Ok(())
    }

    fn answered(&mut self, waiting: Waiting, outcome: Outcome) -> Checked {
        let ticket = waiting.admission.ticket;
        self.say(|| format!("{} is answered {}", ticket.0, brief(&outcome)));
        let wrong = |why: String| Err(format!("{:?} was answered {}: {why}", waiting.command, brief(&outcome)));
        let rests_on = self.process().hub.answered_at.remove(&ticket.0);
        if let Outcome::Unknown = outcome {
            if !self.process().is_failed() && !self.process().hub.answers.is_failed() {
                return wrong("the engine has not failed".into());
            }
            self.lose(&waiting);
            return Ok(());
        }
        self.shown = self.shown.max(rests_on.unwrap_or(0));
        if let Stage::Secret(given) = waiting.stage {
            return self.secret_came(waiting, given, outcome);
        }
        let now = self.now();
        let command = &waiting.command;
        match &outcome {
            Outcome::Done | Outcome::Kept | Outcome::Placed(_) if is_change(command) => {
                if let (Command::Place { order, .. }, Outcome::Placed(placed)) = (command, &outcome)
                    && order == placed
                    && let Err(why) = self.shadow.judge_for_sale(*order)
                {
                    return wrong(why);
                }
                if let Command::Pay { order, .. } = command {
                    let late = self.shadow.orders.get(order).is_some_and(|order| waiting.issued >= order.deadline_max);
                    let is_repeat = matches!(outcome, Outcome::Kept);
                    if late && !is_repeat {
                        return wrong("its deadline was past".into());
                    }
                }
                let placed = if let Outcome::Placed(order) = &outcome { Some(*order) } else { None };
                if let Err(why) = self.shadow.was_done(command, placed, now + TTL) {
                    return wrong(why);
                }
                if let Command::CreateStore { user, store, name } = command {
                    let (name, numbers) = (name.clone(), (*store, *user));
                    self.process().hub.store_ids.insert(name, numbers);
                }
            }
            Outcome::Refused(refusal) => {
                let refusal = refusal.clone();
                if let Err(why) = self.refused(&waiting, &refusal) {
                    return wrong(why);
                }
            }
            Outcome::AccountGone
            | Outcome::Crowded
            | Outcome::Throttled(_)
            | Outcome::TooMany
            | Outcome::NotYours(_) => {
                self.shadow.was_refused(command);
            }
            Outcome::StoreClosed => {
                if let Err(why) = self.shadow.judge_closed(command) {
                    return wrong(why);
                }
                self.shadow.was_refused(command);
                // The key comes first.
                if command.key_and_fields().is_some() {
                    if waiting.succeeded_before {
                        return wrong("it had succeeded under its key".into());
                    }
                    self.shadow.was_judged_anew(command);
                }
            }
            Outcome::Unreadable => return wrong("the disk is sound".into()),
            _ => {
                if let Err(why) = self.told(&waiting, &outcome) {
                    return wrong(why);
                }
            }
        }
        Ok(())
    }

    fn secret_came(&mut self, waiting: Waiting, given: u64, outcome: Outcome) -> Checked {
        let Outcome::Secret(stored, epoch) = outcome else {
            return Ok(());
        };
        let cred = if stored == secret(given) { Cred::Epoch(epoch) } else { Cred::Refused };
        // What needs no password is judged first, but these.
        let judges_itself = matches!(waiting.command, Command::Pay { .. } | Command::Confirm { .. });
        if cred == Cred::Refused && !judges_itself {
            return Ok(());
        }
        if let Command::CreateStore { name, .. } = &waiting.command
            && self.is_taken(name)
        {
            return Ok(());
        }
        if let Command::AddBook { store, book, .. } = &waiting.command
            && self.shadow.shops.get(store).is_none_or(|shop| shop.books.contains_key(book))
        {
            return Ok(());
        }
        let Some(admission) = self.admit() else { return Ok(()) };
        self.send(Waiting { admission, ..waiting }, cred);
        Ok(())
    }

    /// Whether a store of that name is there or is being created.
    pub(super) fn is_taken(&mut self, name: &str) -> bool {
        let opening = |waiting: &Waiting| {
            matches!((&waiting.command, &waiting.stage),
                (Command::CreateStore { name: other, .. }, Stage::Command) if **other == *name)
        };
        self.waiting.iter().any(opening) || self.process().hub.store_ids.contains_key(name)
    }

    fn refused(&mut self, waiting: &Waiting, refusal: &Refusal) -> Checked {
        let command = &waiting.command;
        self.shadow.was_refused(command);
        if refusal.code() == 515
            && let Command::Place { order, .. } = command
        {
            self.shadow.judge_not_for_sale(*order)?;
        }
        if let Command::CreateStore { store, .. } = command {
            let store = *store;
            self.process().stores.remove(&store);
        }
        if let (530, Command::CloseStore { store, .. }) = (refusal.code(), command) {
            let (orders, _) = self.shadow.may_be_open(*store);
            if !waiting.may_be_open.1 && orders == waiting.may_be_open.0 {
                return Err("none of its orders can be open".into());
            }
        }
        let code = refusal.code();
        let (is_keyed, keys_came_first) = (command.key_and_fields().is_some(), ![401, 422, 511].contains(&code));
        if is_keyed && keys_came_first {
            if waiting.succeeded_before {
                return Err("it had succeeded under its key".into());
            }
            self.shadow.was_judged_anew(command);
        }
        let Some(id) = command.order() else { return Ok(()) };
        if code == 518 && waiting.knew_placed && is_mine(command, &self.shadow) {
            return Err("the order was placed".into());
        }
        let told = match code {
            527 => OrderStatus::Paid,
            526 => OrderStatus::Canceled,
            400 => OrderStatus::Shipped,
            528 => OrderStatus::Completed,
            _ => return Ok(()),
        };
        match self.shadow.orders.get_mut(&id) {
            Some(order) => order.see(told),
            None => Err("nobody has placed it".into()),
        }
    }

    /// Somebody was told where an order stands.
    fn saw(&mut self, waiting: &Waiting, order: OrderId, status: OrderStatus) -> Checked {
        if waiting.knew.get(&order).is_some_and(|seen| !is_past(status, *seen)) {
            return Err(format!("it was {:?} before", waiting.knew[&order]));
        }
        let known = self.shadow.orders.get_mut(&order).ok_or("nobody has placed it")?;
        if waiting.issued >= known.deadline_max && status == OrderStatus::Pending {
            return Err("its deadline is past".into());
        }
        if waiting.issued >= known.confirm_max && status == OrderStatus::Shipped {
            return Err("it should have been confirmed".into());
        }
        known.see(status)
    }

    /// A read was answered.
    fn told(&mut self, waiting: &Waiting, outcome: &Outcome) -> Checked {
        let knew = &waiting.knew;
        match (&waiting.command, outcome) {
            (Command::Look { order, .. }, Outcome::Order(found)) => {
                if let Some(flaw) = found.flaw() {
                    return Err(flaw.into());
                }
                self.saw(waiting, *order, found.status())
            }
            (Command::Status { order, .. }, Outcome::Status(status)) => self.saw(waiting, *order, *status),
            (Command::OfBuyer { .. } | Command::OfStore { .. }, Outcome::Orders(orders)) => {
                let there: BTreeMap<OrderId, OrderStatus> =
                    orders.iter().map(|(id, order)| (*id, order.status())).collect();
                if there.len() != orders.len() {
                    return Err("an order is in it twice".into());
                }
                for (id, seen) in knew {
                    match there.get(id) {
                        None => return Err(format!("order {id} is missing")),
                        Some(status) if !is_past(*status, *seen) => {
                            return Err(format!("order {id} is {status:?} and was {seen:?}"));
                        }
                        Some(_) => {}
                    }
                }
                for (id, status) in there {
                    let known = self.shadow.orders.get_mut(&id).ok_or(format!("nobody has placed {id}"))?;
                    if waiting.issued >= known.confirm_max && status == OrderStatus::Shipped {
                        return Err(format!("order {id} should have been confirmed"));
                    }
                    known.see(status).map_err(|why| format!("order {id}: {why}"))?;
                }
                Ok(())
            }
            (Command::Count { user }, Outcome::Count(count)) => {
                let most = self.shadow.perhaps_of(|order| order.buyer == *user);
                if *count < knew.len() || *count > most {
                    return Err(format!("it is {} to {most}", knew.len()));
                }
                Ok(())
            }
            (Command::Browse { store, book }, Outcome::Book(found)) if found.stock >= 0 => {
                let Some(known) = self.shadow.shops.get(store).and_then(|shop| shop.books.get(book)) else {
                    return Err("nobody has listed it".into());
                };
                known.price.judge(waiting.price_since, found.price)?;
                known.for_sale.judge(waiting.for_sale_since, found.listed)
            }
            (Command::Level { .. }, Outcome::Level(level)) if *level >= 0 => Ok(()),
            (Command::Balance { .. }, Outcome::Balance(balance)) if *balance >= 0 => Ok(()),
            (Command::Sweep { .. }, Outcome::Done) => Ok(()),
            _ => Err("that is no answer".into()),
        }
    }
}

fn is_change(command: &Command) -> bool {
    !matches!(
        command,
        Command::Balance { .. }
            | Command::Level { .. }
            | Command::Browse { .. }
            | Command::Status { .. }
            | Command::Look { .. }
            | Command::OfBuyer { .. }
            | Command::OfStore { .. }
            | Command::Count { .. }
            | Command::Sweep { .. }
    )
}

/// Whether the order is the caller's, or of the caller's store.
fn is_mine(command: &Command, shadow: &Shadow) -> bool {
    let Some(order) = command.order().and_then(|id| shadow.orders.get(&id)) else { return false };
    match command {
        Command::Ship { store, .. } => *store == order.store,
        Command::Look { user, is_seller: true, .. } => {
            shadow.shops.get(&order.store).is_some_and(|shop| shop.owner == *user)
        }
        other => other.user() == Some(order.buyer),
    }
}

/// An outcome in a line.
fn brief(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Refused(refusal) => format!("{} {refusal}", refusal.code()),
        Outcome::Orders(orders) => {
            let mut orders: Vec<_> = orders.iter().map(|(id, order)| (*id, order.status())).collect();
            orders.sort_unstable_by_key(|(id, _)| *id);
            format!("{orders:?}")
        }
        other => format!("{other:?}"),
    }
}
