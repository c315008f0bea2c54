//! Opening again, as often as it takes: the engine's own recovery, with crashes in the middle of it, and what must be
//! true of every state that it finds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bookstore::disk::{Disk, MemoryDisk};
use bookstore::internals::actors::{Answers, clock_base};
use bookstore::internals::cold::Orders;
use bookstore::internals::domain::{
    Account, CreditCause, Millis, OrderId, OrderStatus, PayKind, Persistent, Record, SHARDS, decode,
};
use bookstore::internals::engine::{Data, IdSource, Recovery, Tally};
use bookstore::internals::journal::{
    BATCH_HEADER_BYTES, Durability, Journal, JournalOptions, Lsn, Stepped, list_segments, read_segment,
};
use bookstore::internals::snapshot::list_snapshots;

use crate::disk::{Crash, SimDisk};
use crate::process::{Gate, Hub, Noted, Place, Process, Receiver, Slot, Written, lock};
use crate::sim::{Checked, DIR, Sim};

/// Bytes before the first batch of a segment.
const SEGMENT_HEADER_BYTES: usize = 32;

const CACHE_BYTES: usize = 1 << 20;

/// How often in a row a recovery is broken.
const BROKEN_MAX: u32 = 3;

struct Opened {
    process: Process,
    /// The end of what was found.
    last_lsn: Lsn,
    finished_sagas: u64,
}

impl Sim {
    pub(crate) fn open_until_it_works(&mut self) -> Checked {
        self.reopen(Crash::Process)
    }

    /// Opens the engine; sometimes that is interrupted, and sometimes a file is damaged before.
    pub(crate) fn reopen(&mut self, how: Crash) -> Checked {
        let mut lost_power = how != Crash::Process;
        self.damage_journal()?;
        let damaged_snapshot = self.damage_snapshot();
        let mut broken = 0;
        let opened = loop {
            self.opens += 1;
            // The wall clock is set forward and back while nobody looks.
            let far = if self.dice.chance(100) { 3_600_000 } else { 2_000 };
            self.wall = self.wall.wrapping_add_signed(self.dice.roll(2 * far) as i64 - far as i64);
            let fired = self.disk.fired();
            if self.opens > 1 && broken < BROKEN_MAX && self.dice.chance(250) {
                broken += 1;
                let after = self.dice.roll(40);
                match self.dice.chance(700) {
                    true => self.disk.kill_after(after),
                    false => self.disk.fail_after(after),
                }
            }
            let disk = self.disk.clone();
            let opened = self.open(&disk);
            let (dead, fired) = (self.disk.is_dead(), self.disk.fired() > fired);
            match opened {
                Ok(opened) if !dead && !opened.process.hub.journal.is_failed() => break opened,
                Err(why) if !dead && !fired => return Err(format!("the engine does not open: {why}")),
                other => {
                    // A journal that was changed by half an open has to be found as it is.
                    drop(other);
                    let how = if dead { self.how() } else { Crash::Process };
                    lost_power |= how != Crash::Process;
                    self.say(|| format!("the open was interrupted: {how:?}"));
                    self.disk.kill();
                    self.disk.crash(how);
                }
            }
        };
        self.disk.heal();
        let Opened { process, last_lsn, finished_sagas } = opened;
        let (head, base) = (process.hub.journal.head(), process.base);
        self.say(|| format!("open: found {last_lsn}, {finished_sagas} sagas to finish, head {head}, time {base}"));
        let kept_all = last_lsn >= self.shown;
        self.process = Some(process);
        let may_lose = self.weather.durability == Durability::Buffered && lost_power;
        if !kept_all && !may_lose {
            return Err(format!("answers rested on event {}, and only {last_lsn} events are there", self.shown));
        }
        if damaged_snapshot && self.state()?.accounts.is_empty() && !self.shadow.users.is_empty() {
            return Err("a damaged snapshot made the shop empty".into());
        }
        self.shown = head;
        self.compare_with_replay(last_lsn)?;
        if may_lose && !kept_all {
            self.say(|| "the power took what was acknowledged, as `buffered` says".into());
            let state = self.state()?;
            self.shadow.adopt(&state);
            self.sent.clear();
            return Ok(());
        }
        self.check_now()
    }

    /// The engine's own way: orders at rest, recovery, journal, unfinished sagas, a flush.
    fn open(&self, disk: &SimDisk) -> Checked<Opened> {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let dir = Path::new(DIR);
        disk.create_dir_all(dir).map_err(|error| error.to_string())?;
        let resting = Orders::open(disk, &dir.join("orders.redb"), CACHE_BYTES).map_err(|error| error.to_string())?;
        let resting = Arc::new(resting);
        let data = Data {
            disk: &shared,
            dir,
            durability: self.weather.durability,
            segment_bytes: self.weather.segment_bytes,
            threads: false,
            report: &|_| {},
        };
        let mut recovery = Recovery::read(&data, &resting).map_err(|error| error.to_string())?;
        let (log, last_lsn, epoch) = recovery.take_log();
        if lock(&self.history).len() < last_lsn as usize {
            return Err(format!("event {last_lsn} was found and never written"));
        }
        let answers = Arc::new(Answers::new(1_000, 1 << 30));
        let gate = Arc::new(Gate { answers: answers.clone(), failed: AtomicBool::new(false) });
        let log = log.ok_or("there is no log")?;
        let noted = Box::new(Noted { log, history: self.history.clone() });
        let options = JournalOptions {
            durability: self.weather.durability,
            // At the next step, or never by itself: nothing here knows the real time.
            sync_interval: Duration::from_secs(if self.seed.is_multiple_of(2) { 0 } else { 1 << 30 }),
            commit_delay: Duration::ZERO,
        };
        let (journal, mut stepper) =
            Journal::by_hand(Some(noted), last_lsn, epoch, options, gate.clone()).map_err(|error| error.to_string())?;
        let base = clock_base(self.wall + self.time, recovery.newest());
        lock(&self.history).truncate(last_lsn as usize);
        recovery.finish_sagas(&journal, base).map_err(|error| error.to_string())?;
        let flush = journal.request_flush();
        while !journal.is_flushed(&flush).map_err(|error| error.to_string())? {
            if stepper.step() != Stepped::Went {
                return Err("the journal does not become durable".into());
            }
        }
        let finished_sagas = recovery.recovered().finished_sagas;
        let mut receiver = Receiver::default();
        let shards = recovery.hand_over(&mut receiver);
        let mut hub = Hub::new(journal, answers, resting);
        hub.earliest = shards.iter().filter_map(|shard| shard.next_deadline()).min().unwrap_or(Millis::MAX);
        let process = Process {
            stepper,
            gate,
            next_account: receiver.accounts.keys().last().map_or(1, |last| last + 1),
            next_store: receiver.stores.keys().last().map_or(1, |last| last + 1),
            accounts: Default::default(),
            stores: Default::default(),
            works: (0..SHARDS).map(|_| Default::default()).collect(),
            shards,
            // Another one at each open, as in the engine: time may be the same twice.
            ids: IdSource::new(*blake3::hash(&self.opens.to_le_bytes()).as_bytes()),
            epoch,
            base,
            opened: self.time,
            hub,
        };
        Ok(Opened { process: process.with(receiver), last_lsn, finished_sagas })
    }

    /// The state is that of all events up to here, applied one after the other to nothing: no snapshot, no order at
    /// rest, no segment that went has changed it.
    fn compare_with_replay(&mut self, upto: Lsn) -> Checked {
        let base = self.process.as_ref().map_or(0, |process| process.base);
        let history: Vec<Written> = lock(&self.history)[..upto as usize].to_vec();
        let (expected, rows) = replay(&history, Some(base))?;
        let found = self.process.as_ref().map_or(Ok(0), |process| process.tally().map(|report| report.state_hash))?;
        if expected != found {
            let what = self.differences(&rows)?;
            return Err(format!("the recovered state is not that of its {upto} events: {what}"));
        }
        Ok(())
    }

    /// Nothing moves: everything must be as it was told, and as its events make it.
    pub(crate) fn check_at_rest(&mut self) -> Checked {
        let process = self.process.as_ref().ok_or("the engine is not open")?;
        if let Some(shard) = process.works.iter().position(|work| !work.is_quiet()) {
            return Err(format!("shard {shard} still waits for something: {:?}", process.works[shard]));
        }
        let history = lock(&self.history).clone();
        let head = process.hub.journal.head();
        if history.len() as u64 != head {
            return Err(format!("{} events are in the log of {head}", history.len()));
        }
        // What is compared now was seen.
        self.shown = head;
        let (expected, rows) = replay(&history, None)?;
        let found = process.tally()?.state_hash;
        if expected != found {
            let what = self.differences(&rows)?;
            return Err(format!("the live state is not that of its events: {what}"));
        }
        self.check_now()
    }

    /// The first row that is not as expected.
    fn differences(&mut self, expected: &Rows) -> Checked<String> {
        let state = self.state()?;
        let mut found = Rows::new();
        found.extend(state.accounts.iter().map(|(number, row)| (format!("account {number}"), format!("{row:?}"))));
        found.extend(state.stores.iter().map(|(number, (_, row))| (format!("store {number}"), row_of(row))));
        found.extend(state.orders.iter().map(|(id, row)| (format!("order {id}"), format!("{row:?}"))));
        let names = found.keys().chain(expected.keys());
        let differs = |name: &&String| found.get(*name) != expected.get(*name);
        let name = names.into_iter().find(differs).ok_or("rows are alike, but the sums are not")?;
        Ok(format!("{name}\nis        {:?}\nshould be {:?}", found.get(name), expected.get(name)))
    }

    /// Money and copies are conserved, no evidence is left, and everybody was told the truth.
    fn check_now(&mut self) -> Checked {
        let report = self.process.as_ref().ok_or("the engine is not open")?.tally()?;
        if !report.is_conserved() {
            return Err(format!("not conserved: {report:?}"));
        }
        let state = self.state()?;
        for (number, (_, account)) in &state.accounts {
            if account.has_evidence() {
                return Err(format!("account {number} has evidence left: {account:?}"));
            }
        }
        if report.contradictions > 0 {
            return Err(format!("contradictions: {report:?}"));
        }
        for (number, (_, store)) in &state.stores {
            if !store.reservations().is_empty() || !store.releases().is_empty() {
                return Err(format!("store {number} has evidence left: {store:?}"));
            }
        }
        for (id, order) in &state.orders {
            if let Some(flaw) = order.flaw() {
                return Err(format!("order {id}: {flaw}: {order:?}"));
            }
        }
        self.shadow.compare(&state)
    }

    /// At any moment: money is in a purse, with the platform, or on its way with evidence of it.
    pub(crate) fn check_money_on_its_way(&mut self) -> Checked {
        let state = self.state()?;
        let status = |id: &OrderId| state.orders.get(id).map(|order| order.status());
        let has_come = |to: u32, id: &OrderId, cause| {
            state.accounts.get(&to).is_some_and(|(_, account)| account.credits().contains_key(&(*id, cause)))
        };
        let mut there: i64 = state.orders.values().map(|order| order.escrow()).sum();
        let mut put_in = 0;
        for (_, account) in state.accounts.values() {
            there += account.balance();
            put_in += account.net_put_in();
            for (id, hold) in account.holds() {
                let arrived = has_come(hold.seller.0, id, CreditCause::Payment);
                if status(id) == Some(OrderStatus::Pending) && !arrived {
                    there += hold.amount;
                }
            }
            for (id, refund) in account.refunds() {
                let arrived = has_come(refund.buyer.0, id, CreditCause::Refund(PayKind::Direct));
                if status(id) == Some(OrderStatus::Paid) && !arrived {
                    there += refund.amount;
                }
            }
            for ((id, cause), credit) in account.credits() {
                let closed = match cause {
                    CreditCause::Confirmation => OrderStatus::Completed,
                    CreditCause::Refund(PayKind::Platform) => OrderStatus::Canceled,
                    CreditCause::Payment | CreditCause::Refund(PayKind::Direct) => continue,
                };
                // It is counted as the platform's, too.
                if status(id) != Some(closed) {
                    there -= credit.amount;
                }
            }
        }
        match there == put_in {
            true => Ok(()),
            false => Err(format!("{put_in} fen were put in, and {there} are there or on their way")),
        }
    }

    /// At any moment: no order of a closed store is open, or on its way to be.
    pub(crate) fn check_closed_stores(&mut self) -> Checked {
        let state = self.state()?;
        for (number, (_, store)) in state.stores.iter().filter(|(_, (_, store))| store.is_closed()) {
            let of_store = state.orders.iter().filter(|(_, order)| order.store().0 == *number);
            if let Some((id, order)) = of_store.clone().find(|(_, order)| order.is_open()) {
                return Err(format!("store {number} is closed, and order {id} is {:?}", order.status()));
            }
            if let Some(id) = store.reservations().keys().find(|id| !state.orders.contains_key(id)) {
                return Err(format!("store {number} is closed, and order {id} is being placed"));
            }
        }
        Ok(())
    }

    /// All deadlines are past, and every message was delivered.
    pub(crate) fn check_nothing_is_due(&mut self) -> Checked {
        let now = self.process.as_ref().map_or(0, |process| process.now(self.time));
        let pending = |(id, order): (_, bookstore::internals::domain::Order)| {
            (order.status() == OrderStatus::Pending && order.deadline() <= now).then_some(id)
        };
        let orders = self.state()?.orders;
        let overdue = |(id, order): (&_, &bookstore::internals::domain::Order)| {
            order.awaits().is_some_and(|at| at <= now).then_some(*id)
        };
        if let Some(id) = orders.iter().find_map(overdue) {
            return Err(format!("order {id} is shipped, and its time to be confirmed is past"));
        }
        match orders.into_iter().find_map(pending) {
            None => Ok(()),
            Some(id) => Err(format!("order {id} is pending, and its deadline is past")),
        }
    }

    /// Opening a copy, and a copy of that after a crash in the middle, gives the same.
    pub(crate) fn check_recovery_again(&mut self) -> Checked {
        let expected = self.process.as_ref().ok_or("the engine is not open")?.tally()?.state_hash;
        let history = lock(&self.history).clone();
        let disk = self.disk.copy();
        let again = |sim: &Sim, disk: &SimDisk| -> Checked {
            let opened = sim.open(disk)?;
            let found = opened.process.tally()?.state_hash;
            disk.kill();
            drop(opened);
            disk.crash(Crash::Process);
            match found == expected {
                true => Ok(()),
                false => Err(format!("recovered again it is {found:032x}, before it was {expected:032x}")),
            }
        };
        again(self, &disk)?;
        disk.kill_after(self.dice.roll(15));
        drop(self.open(&disk));
        disk.kill();
        let how = self.how();
        disk.crash(how);
        again(self, &disk)?;
        *lock(&self.history) = history;
        Ok(())
    }

    /// Now and then the newest of two snapshots is damaged: the older one must do.
    fn damage_snapshot(&mut self) -> bool {
        if !self.dice.chance(150) {
            return false;
        }
        let Ok(snapshots) = list_snapshots(&self.disk, Path::new(DIR)) else { return false };
        let [(_, newest), _, ..] = &snapshots[..] else { return false };
        let len = self.disk.content(newest).len() as u64;
        let at = self.dice.roll(len) as usize;
        self.say(|| format!("a bit flips in {}", newest.display()));
        self.disk.flip(newest, at);
        true
    }

    /// Now and then a bit flips in a batch of the journal that others follow: the engine must not open, and change
    /// nothing. Then the bit flips back.
    fn damage_journal(&mut self) -> Checked {
        if !self.dice.chance(150) || self.weather.durability != Durability::Sync {
            return Ok(());
        }
        let Some((path, at)) = self.find_old_batch() else { return Ok(()) };
        self.say(|| format!("a bit flips in {} at {at}", path.display()));
        self.disk.flip(&path, at);
        let copy = self.disk.copy();
        let opened = self.open(&copy);
        self.disk.flip(&path, at);
        match opened {
            Ok(_) => Err(format!("the engine opens, with a bit flipped in {} at {at}", path.display())),
            Err(why) => {
                self.say(|| format!("refused: {why}"));
                Ok(())
            }
        }
    }

    /// A byte of the first batch of the last segment, if two more follow it.
    fn find_old_batch(&self) -> Option<(PathBuf, usize)> {
        let path = list_segments(&self.disk, &Path::new(DIR).join("journal")).ok()?.pop()?;
        let summary = read_segment(&self.disk, &path, true, &mut |_| Ok(())).ok()?;
        let content = self.disk.content(&path);
        let mut at = SEGMENT_HEADER_BYTES;
        for _ in 0..2 {
            let len = u32::from_le_bytes(content.get(at + 4..at + 8)?.try_into().ok()?) as usize;
            at += BATCH_HEADER_BYTES + len;
        }
        // Two whole batches and the beginning of a third.
        (at < summary.end as usize).then_some((path, SEGMENT_HEADER_BYTES + BATCH_HEADER_BYTES + 3))
    }
}

impl Process {
    fn with(mut self, receiver: Receiver) -> Self {
        for (number, (name, closed, row)) in receiver.accounts {
            let name: Arc<str> = name.into();
            if !closed {
                self.hub.users.insert(name.clone(), number);
            }
            self.accounts.insert(number, Slot { name, place: Place::Row(row) });
        }
        for (number, (name, store)) in receiver.stores {
            self.hub.store_ids.insert(name.clone(), (number, store.owner().0));
            self.stores.insert(number, Slot { name, place: Place::Awake(Box::new(store)) });
        }
        self
    }
}

thread_local! {
    /// A store of orders with nothing in it.
    static NOTHING_AT_REST: Arc<Orders> = {
        let disk = MemoryDisk::new();
        disk.create_dir_all(Path::new(DIR)).unwrap();
        Arc::new(Orders::open(&disk, &Path::new(DIR).join("nothing.redb"), CACHE_BYTES).unwrap())
    };
}

/// Rows in words, for a message.
type Rows = BTreeMap<String, String>;

/// A store's row without its index, which has no order.
fn row_of(store: &bookstore::internals::domain::Store) -> String {
    format!("{:?} {:?} {:?}", store.books(), store.reservations(), store.releases())
}

/// The state hash of these events alone; with the sagas finished that they leave open, if a time for that is given.
fn replay(history: &[Written], finish_at: Option<Millis>) -> Checked<(u128, Rows)> {
    NOTHING_AT_REST.with(|nothing| {
        let mut recovery = Recovery::nothing(nothing);
        let mut newest = 0;
        for (place, written) in history.iter().enumerate() {
            let lsn = place + 1;
            let record = decode(written.kind, written.version, &written.payload);
            let record = record.map_err(|error| format!("event {lsn}: {error}"))?;
            let (Record::Account(_, _, at, _) | Record::Store(_, _, at, _) | Record::Order(_, _, at, _)) = record;
            if at < newest {
                return Err(format!("event {lsn} is of {at}, and one before it of {newest}"));
            }
            newest = at;
            let applied = recovery.apply(written.kind, written.version, &written.payload);
            applied.map_err(|why| format!("event {lsn}: {why}"))?;
        }
        // It journals what it does, which is of no interest here.
        let gate = Gate { answers: Arc::new(Answers::new(1, 1)), failed: AtomicBool::new(false) };
        let options = JournalOptions { durability: Durability::Snapshot, ..JournalOptions::default() };
        let (journal, _) = Journal::by_hand(None, history.len() as u64, 1, options, Arc::new(gate))
            .map_err(|error| error.to_string())?;
        let head = journal.head();
        recovery.finish_sagas(&journal, finish_at.unwrap_or(newest)).map_err(|error| error.to_string())?;
        if finish_at.is_none() && journal.head() != head {
            return Err("the events leave sagas open, and nothing moves".into());
        }
        let mut receiver = Receiver::default();
        let shards = recovery.hand_over(&mut receiver);
        let mut tally = Tally::new();
        let mut rows = Rows::new();
        for (number, (name, _, row)) in &receiver.accounts {
            let account: Account = Persistent::decode(row).map_err(|error| error.to_string())?;
            rows.insert(format!("account {number}"), format!("{:?}", (name, account)));
            tally.add_account(Some(name), row).map_err(|error| error.to_string())?;
        }
        for (number, (name, store)) in &receiver.stores {
            rows.insert(format!("store {number}"), row_of(store));
            let row = Persistent::encode(store);
            tally.add_store(Some(name), &row).map_err(|error| error.to_string())?;
        }
        for shard in &shards {
            for (id, order) in shard.in_memory() {
                rows.insert(format!("order {id}"), format!("{order:?}"));
                tally.add_order(id, order);
            }
        }
        Ok((tally.report().state_hash, rows))
    })
}
