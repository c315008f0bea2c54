//! One run: a seed, a disk, a clock, callers, and lives of the engine one after the other.

#[path = "callers.rs"]
mod callers;
#[path = "workload.rs"]
mod workload;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bookstore::internals::actors::Admission;
use bookstore::internals::domain::{
    AccountMsg, AccountNo, Cred, KEPT_FOR, Leaving, Millis, OrderId, OrderMsg, OrderStatus, Persistent, SHARDS, Send,
};
use bookstore::internals::journal::{Durability, Lsn, Stepped};

use crate::command::{Command, TTL, secret};
use crate::dice::{Dice, mix};
use crate::disk::{Crash, SimDisk};
use crate::jobs::{Job, Leave, Snapshot};
use crate::mail::End;
use crate::process::{History, Process, Shown};
use crate::shadow::{Shadow, State};
use crate::trace::Trace;

/// The data directory.
pub(crate) const DIR: &str = "/shop";

/// Wall clock at the first open, in ms since the Unix epoch.
const BEGIN: Millis = 1_800_000_000_000;

/// Steps after which what still moves is stuck.
const STEPS_TO_REST: u32 = 60_000;

/// Answers that wait at once.
const CALLERS: usize = 8;

/// A run may end in the discovery of a fault.
pub(crate) type Checked<T = ()> = Result<T, String>;

/// What is rare and what is not in one run, per mille of steps.
pub(crate) struct Weather {
    crash: u64,
    pub(crate) fault: u64,
    sleep: u64,
    snapshot: u64,
    leave: u64,
    /// Of the commands, those that carry a key.
    keyed: u64,
    steps: u32,
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u64,
}

/// A command that waits for its answer.
struct Waiting {
    command: Command,
    admission: Admission,
    stage: Stage,
    issued: Millis,
    /// What its caller knew when it was sent.
    knew: BTreeMap<OrderId, OrderStatus>,
    knew_placed: bool,
    succeeded_before: bool,
    /// For a look at a book: since when its price and its being for sale are of interest.
    price_since: usize,
    for_sale_since: usize,
    /// For the closing of a store: its orders, and whether one of them may be open.
    may_be_open: (usize, bool),
}

enum Stage {
    /// For the password's hash; the one that the caller gave.
    Secret(u64),
    Command,
}

pub(crate) struct Sim {
    pub(crate) seed: u64,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
    pub(crate) disk: SimDisk,
    pub(crate) weather: Weather,
    /// Since the first open.
    pub(crate) time: Millis,
    /// What the wall clock is ahead of that.
    pub(crate) wall: Millis,
    pub(crate) process: Option<Process>,
    snapshot: Option<Snapshot>,
    leave: Option<Leave>,
    pub(crate) shadow: Shadow,
    pub(crate) history: History,
    waiting: Vec<Waiting>,
    /// The highest journal's head that an answer rested on which somebody got.
    pub(crate) shown: Lsn,
    /// A name for everything that needs one.
    names: u64,
    /// Commands with keys, to be sent again.
    pub(crate) sent: Vec<Command>,
    /// How often the engine was opened.
    pub(crate) opens: u64,
    pub(crate) crashes: u64,
    /// Steps since the engine failed.
    since_failure: u32,
}

/// One thing that can happen next.
#[derive(Clone, Copy)]
enum Event {
    Deliver,
    Journal,
    Release,
    Receive,
    Issue,
    Read,
    Due,
    Clock,
    Sleep,
    Flush,
    BeginSnapshot,
    Snapshot,
    BeginLeave,
    Leave,
}

impl Sim {
    pub(crate) fn new(seed: u64, verbose: bool) -> Self {
        let mut dice = Dice::new(seed);
        let durability = if dice.chance(200) { Durability::Buffered } else { Durability::Sync };
        let weather = Weather {
            crash: [0, 1, 2, 5][dice.index(4)],
            fault: [0, 1, 3][dice.index(3)],
            sleep: [0, 5, 30][dice.index(3)],
            snapshot: [2, 8, 25][dice.index(3)],
            leave: [0, 5, 20][dice.index(3)],
            keyed: [0, 300, 800][dice.index(3)],
            steps: 900 + dice.roll(1_500) as u32,
            durability,
            segment_bytes: 2_048 << dice.roll(4),
        };
        Sim {
            seed,
            trace: Trace::new(verbose),
            disk: SimDisk::new(dice.next()),
            dice,
            weather,
            time: 0,
            wall: BEGIN,
            process: None,
            snapshot: None,
            leave: None,
            shadow: Shadow::default(),
            history: History::default(),
            waiting: Vec::new(),
            shown: 0,
            names: 0,
            sent: Vec::new(),
            opens: 0,
            crashes: 0,
            since_failure: 0,
        }
    }

    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
        let time = self.time;
        self.trace.say(|| format!("{time:>6} {}", what()));
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the engine is open")
    }

    fn now(&self) -> Millis {
        self.process.as_ref().map_or(0, |process| process.now(self.time))
    }

    /// The whole run.
    pub(crate) fn run(&mut self) -> Checked {
        self.open_until_it_works()?;
        for step in 0..self.weather.steps {
            self.maybe_break();
            self.step(true)?;
            self.after_step()?;
            // What has failed does not journal what it does.
            if step % 16 == 0 && !self.process().is_failed() {
                self.check_money_on_its_way()?;
                self.check_closed_stores()?;
            }
            if step % 64 == 63 && self.dice.chance(60) {
                self.rest()?;
                if self.dice.chance(200) {
                    self.keys_grow_old();
                }
            }
        }
        self.rest()?;
        // All deadlines come.
        self.time += TTL * 4;
        self.rest()?;
        self.check_nothing_is_due()?;
        self.crash(Crash::PowerTakesAll)?;
        self.rest()?;
        self.check_recovery_again()
    }

    /// A day goes by while nothing moves: what succeeded under a key is forgotten, and the key may mean something new.
    fn keys_grow_old(&mut self) {
        self.say(|| "a day goes by".into());
        self.time += KEPT_FOR;
        self.sent.clear();
        self.shadow.forget_keys();
    }

    /// Lets something fail soon.
    fn maybe_break(&mut self) {
        if self.dice.chance(self.weather.crash) {
            // At one of the next changes of the disk; else between two steps.
            let after = self.dice.roll(12);
            self.say(|| format!("the process will die after {after} changes"));
            self.disk.kill_after(after);
        }
        if self.dice.chance(self.weather.fault) {
            match self.dice.roll(4) {
                0 => {
                    let room = self.dice.roll(6_000) as usize;
                    self.say(|| format!("the disk has {room} bytes left"));
                    self.disk.fill(room);
                }
                _ => {
                    let after = self.dice.roll(20);
                    self.say(|| format!("change {after} from now will fail"));
                    self.disk.fail_after(after);
                }
            }
        }
    }

    fn after_step(&mut self) -> Checked {
        if self.disk.is_dead() {
            let how = self.how();
            return self.crash(how);
        }
        if self.dice.chance(self.weather.crash / 2) {
            let how = self.how();
            return self.crash(how);
        }
        self.process().notice_failure();
        if self.process().is_failed() {
            self.since_failure += 1;
            // The program ends; perhaps the machine with it.
            if self.since_failure > 30 {
                let how = self.how();
                return self.crash(how);
            }
        }
        Ok(())
    }

    pub(crate) fn how(&mut self) -> Crash {
        [Crash::Process, Crash::PowerTakesAll, Crash::PowerTears][self.dice.index(3)]
    }

    /// One thing happens.
    fn step(&mut self, busy: bool) -> Checked {
        let now = self.now();
        let process = self.process.as_ref().expect("the engine is open");
        let healthy = !process.is_failed();
        let weather = &self.weather;
        let may = |can: bool, weight: u64| if can { weight } else { 0 };
        let events = [
            (Event::Deliver, may(!process.hub.post.is_empty(), 300)),
            (Event::Journal, 90),
            (Event::Release, 40),
            (Event::Receive, may(!self.waiting.is_empty(), 60)),
            (Event::Issue, may(busy && self.waiting.len() < CALLERS, 200)),
            (Event::Read, may(!process.hub.readings.is_empty(), 60)),
            (Event::Due, may(process.hub.earliest <= now, 40)),
            (Event::Clock, may(busy, 12)),
            (Event::Sleep, may(busy, weather.sleep)),
            (Event::Flush, may(busy, 5)),
            (Event::BeginSnapshot, may(busy && healthy && self.snapshot.is_none(), weather.snapshot)),
            (Event::Snapshot, may(self.snapshot.as_ref().is_some_and(|job| !job.waits()), 100)),
            (Event::BeginLeave, may(busy && healthy && self.leave.is_none(), weather.leave)),
            (Event::Leave, may(self.leave.as_ref().is_some_and(|job| !job.waits()), 100)),
        ];
        let mut point = self.dice.roll(events.iter().map(|(_, weight)| weight).sum());
        let mut event = Event::Journal;
        for (candidate, weight) in events {
            if point < weight {
                event = candidate;
                break;
            }
            point -= weight;
        }
        if self.dice.chance(250) {
            self.time += 1;
        }
        self.happen(event)
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Deliver => self.deliver()?,
            Event::Journal => {
                if self.process().stepper.step() == Stepped::Went {
                    let journal = &self.process().hub.journal;
                    let (head, durable, synced) = (journal.head(), journal.durable(), journal.synced());
                    self.say(|| format!("journal: head {head}, durable {durable}, synced {synced}"));
                }
            }
            Event::Release => self.process().hub.answers.release_ready(),
            Event::Receive => self.receive()?,
            Event::Issue => self.issue()?,
            Event::Read => {
                let waiting = self.process().hub.readings.len();
                let index = self.dice.index(waiting);
                self.say(|| format!("reads at rest, {index} of {waiting}"));
                self.process().hub.read(index);
            }
            Event::Due => {
                self.say(|| "deadlines are due".into());
                let hub = &mut self.process().hub;
                hub.earliest = Millis::MAX;
                for shard in 0..SHARDS {
                    hub.post.send(End::Timer, Send::Order(shard, OrderMsg::Due));
                }
            }
            Event::Clock => {
                self.time += match self.dice.roll(40) {
                    0 => TTL,
                    1 => TTL / 3,
                    _ => self.dice.roll(8),
                };
            }
            Event::Sleep => self.sleep(),
            Event::Flush => self.process().flush_evidence(),
            Event::BeginSnapshot => self.begin_snapshot(),
            Event::Snapshot => self.step_snapshot(),
            Event::BeginLeave => {
                let now = self.now();
                let keep = [0, 0, 0, 1][self.dice.index(4)];
                let idle = if self.dice.chance(600) { 0 } else { self.dice.roll(30) };
                let leaving = Leaving { now, idle, keep, at_most: 1 + self.dice.index(6) };
                self.say(|| format!("a round of orders that leave begins: {leaving:?}"));
                self.leave = Some(Leave::begin(leaving));
            }
            Event::Leave => self.step_leave(),
        }
        Ok(())
    }

    fn deliver(&mut self) -> Checked {
        let now = self.now();
        let era = mix(self.seed ^ (self.time / 16));
        let process = self.process.as_mut().expect("the engine is open");
        let Some((from, to, mail)) = process.hub.post.take(&mut self.dice, era) else {
            return Ok(());
        };
        let time = self.time;
        self.trace.say(|| format!("{time:>6} {from:?} -> {to:?}: {mail:?}"));
        let Some(shown) = process.deliver(to, mail, now) else {
            return Ok(());
        };
        match (from, shown) {
            (End::Walk, shown) => {
                if let Some(snapshot) = &mut self.snapshot
                    && let Err(why) = snapshot.take(shown)
                {
                    process.hub.journal.untap();
                    self.snapshot = None;
                    self.say(|| format!("the snapshot failed: {why}"));
                }
            }
            (_, shown @ (Shown::Named(..) | Shown::Rows(..) | Shown::Left(_))) => {
                if let Some(leave) = &mut self.leave {
                    leave.take(shown);
                }
            }
            _ => return Err("somebody showed what nobody asked for".into()),
        }
        Ok(())
    }

    fn sleep(&mut self) {
        let process = self.process.as_mut().expect("the engine is open");
        let accounts: Vec<u32> =
            process.accounts.iter().filter(|(_, slot)| slot.is_awake()).map(|(number, _)| *number).collect();
        let stores: Vec<u32> =
            process.stores.iter().filter(|(_, slot)| slot.is_awake()).map(|(number, _)| *number).collect();
        if let Some(number) = self.dice.pick(&accounts).copied() {
            process.accounts.get_mut(&number).expect("it is there").sleep();
            self.say(|| format!("account {number} sleeps"));
        }
        let process = self.process.as_mut().expect("the engine is open");
        if let Some(number) = self.dice.pick(&stores).copied() {
            let slot = process.stores.get_mut(&number).expect("it is there");
            // One that is not created yet has no row.
            if slot.wake().seq() > 0 {
                slot.sleep();
                self.say(|| format!("store {number} sleeps"));
            }
        }
    }

    fn begin_snapshot(&mut self) {
        let now = self.now();
        let disk = Arc::new(self.disk.clone());
        let begun = Snapshot::begin(self.process(), disk, Path::new(DIR), now);
        match begun {
            Ok(snapshot) => {
                self.snapshot = Some(snapshot);
                self.say(|| "a snapshot begins".into());
            }
            Err(why) => self.say(|| format!("a snapshot does not begin: {why}")),
        }
    }

    fn step_snapshot(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            let process = self.process.as_mut().expect("the engine is open");
            let (rest, job) = snapshot.step(process, &self.disk, Path::new(DIR));
            self.snapshot = rest;
            if let Job::Over(how) = job {
                let published = how.starts_with("published");
                self.say(|| format!("the snapshot is over: {how}"));
                // It is the moment at which the most can go wrong.
                if published && self.weather.crash > 0 && self.dice.chance(200) {
                    let after = self.dice.roll(4);
                    self.say(|| format!("the process will die after {after} changes"));
                    self.disk.kill_after(after);
                }
            }
        }
    }

    fn step_leave(&mut self) {
        if let Some(leave) = &mut self.leave {
            let process = self.process.as_mut().expect("the engine is open");
            if let Job::Over(how) = leave.step(process) {
                self.leave = None;
                self.say(|| format!("the round is over: {how}"));
            }
        }
    }

    fn admit(&mut self) -> Option<Admission> {
        let process = self.process.as_mut().expect("the engine is open");
        let mut admit = std::pin::pin!(process.hub.answers.admit(2_000, None));
        match admit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(admission)) => Some(admission),
            _ => None,
        }
    }

    /// A caller asks for something.
    fn issue(&mut self) -> Checked {
        let Some(command) = self.throw() else { return Ok(()) };
        if !self.shadow.may_send(&command) {
            return Ok(());
        }
        let Some(admission) = self.admit() else { return Ok(()) };
        let now = self.now();
        let ticket = admission.ticket;
        // With a password, right or wrong, or trusted.
        let with_password = command.user().is_some() && self.dice.chance(150);
        self.say(|| format!("{} asks {}: {command:?}", ticket.0, if with_password { "with a password" } else { "" }));
        let knew = match &command {
            Command::OfBuyer { user } | Command::Count { user } => self.shadow.placed_of(|order| order.buyer == *user),
            Command::OfStore { store, shard } => {
                let mut knew = self.shadow.placed_of(|order| order.store == *store);
                knew.retain(|id, _| id.shard() == *shard);
                knew
            }
            other => {
                let known = other.order().and_then(|id| Some((id, self.shadow.orders.get(&id)?.seen)));
                known.into_iter().collect()
            }
        };
        let knew_placed = command.order().is_some_and(|id| self.shadow.is_placed(id));
        let succeeded_before = self.shadow.has_succeeded(&command);
        let known = match &command {
            Command::Browse { store, book } => self.shadow.shops.get(store).and_then(|shop| shop.books.get(book)),
            _ => None,
        };
        let (price_since, for_sale_since) =
            known.map_or((0, 0), |book| (book.price.now_since(), book.for_sale.now_since()));
        let may_be_open = match &command {
            Command::CloseStore { store, .. } => self.shadow.may_be_open(*store),
            _ => (0, false),
        };
        let mut waiting = Waiting {
            command,
            admission,
            stage: Stage::Command,
            issued: now,
            knew,
            knew_placed,
            succeeded_before,
            price_since,
            for_sale_since,
            may_be_open,
        };
        if let (true, Some(user)) = (with_password, waiting.command.user()) {
            let known =
                self.shadow.users.get(&user).map_or(0, |user| user.secrets[self.dice.index(user.secrets.len())]);
            waiting.stage = Stage::Secret(if self.dice.chance(100) { u64::MAX } else { known });
            let ask = Send::Account(AccountNo(user), AccountMsg::Secret { ticket });
            self.process().hub.post.send(End::Door, ask);
            self.waiting.push(waiting);
            return Ok(());
        }
        self.send(waiting, Cred::Trusted);
        Ok(())
    }

    /// The command itself goes to its entity.
    fn send(&mut self, mut waiting: Waiting, cred: Cred) {
        let now = self.now();
        waiting.stage = Stage::Command;
        let ticket = waiting.admission.ticket;
        if let Command::Register { name, secret: number, number: given } = &mut waiting.command {
            let (name, secret) = (name.clone(), secret(*number));
            *given = self.process().register(&name, &secret.0, ticket, now);
            self.shadow.asked(&waiting.command);
        } else {
            if let Command::CreateStore { store, name, .. } = &mut waiting.command {
                let name = name.clone();
                *store = self.process().prepare_store(&name);
            }
            self.shadow.asked(&waiting.command);
            let message = waiting.command.message(ticket, cred);
            self.process().hub.post.send(End::Door, message);
        }
        self.waiting.push(waiting);
    }

    fn lose(&mut self, waiting: &Waiting) {
        if let Stage::Command = waiting.stage {
            self.shadow.was_lost(&waiting.command);
        }
    }

    /// Everything in memory is gone; the disk is as `how` says. Comes back when the engine is open again.
    pub(crate) fn crash(&mut self, how: Crash) -> Checked {
        self.crashes += 1;
        self.since_failure = 0;
        let operations = self.disk.operations();
        self.say(|| format!("crash: {how:?}, after {operations} changes of the disk"));
        self.disk.kill();
        for waiting in std::mem::take(&mut self.waiting) {
            self.lose(&waiting);
        }
        // What they do on their way out comes to nothing.
        (self.snapshot, self.leave, self.process) = (None, None, None);
        self.disk.crash(how);
        self.reopen(how)
    }

    /// Lets everything come to its end, and compares.
    pub(crate) fn rest(&mut self) -> Checked {
        self.disk.heal();
        let mut steps = 0;
        loop {
            self.come_to_rest(&mut steps)?;
            let head = self.process().hub.journal.head();
            self.process().flush_evidence();
            self.come_to_rest(&mut steps)?;
            // Meanwhile a deadline may have come.
            if self.process().hub.journal.head() == head {
                break;
            }
        }
        self.say(|| "nothing moves".into());
        self.check_at_rest()
    }

    fn come_to_rest(&mut self, steps: &mut u32) -> Checked {
        while self.moves() {
            self.step(false)?;
            self.process().notice_failure();
            if self.process().is_failed() {
                // A fault from before has come to light.
                let how = self.how();
                self.crash(how)?;
            }
            *steps += 1;
            if *steps > STEPS_TO_REST {
                return Err(self.what_is_stuck());
            }
        }
        Ok(())
    }

    fn moves(&mut self) -> bool {
        let now = self.now();
        let (snapshot, leave, waiting) = (self.snapshot.is_some(), self.leave.is_some(), !self.waiting.is_empty());
        let process = self.process();
        let journal = &process.hub.journal;
        let durable = journal.durable() >= journal.head();
        !process.hub.post.is_empty()
            || !process.hub.readings.is_empty()
            || process.hub.earliest <= now
            || (snapshot || leave || waiting)
            || (!durable && !process.is_failed())
            || process.is_failed()
    }

    fn what_is_stuck(&mut self) -> String {
        let waiting: Vec<String> = self
            .waiting
            .iter()
            .map(|waiting| format!("{}: {:?}", waiting.admission.ticket.0, waiting.command))
            .collect();
        let (snapshot, leave) = (self.snapshot.is_some(), self.leave.is_some());
        format!("stuck: snapshot {snapshot}, round {leave}, waiting: {}", waiting.join("; "))
    }

    /// What is there, for who compares.
    pub(crate) fn state(&mut self) -> Checked<State> {
        let process = self.process();
        let mut state = State { accounts: BTreeMap::new(), stores: BTreeMap::new(), orders: process.orders()? };
        for (number, slot) in &process.accounts {
            let account = Persistent::decode(&slot.row()).map_err(|error| error.to_string())?;
            state.accounts.insert(*number, (slot.name.clone(), account));
        }
        for (number, slot) in &process.stores {
            let store: bookstore::internals::domain::Store =
                Persistent::decode(&slot.row()).map_err(|error| error.to_string())?;
            if store.seq() > 0 {
                state.stores.insert(*number, (slot.name.clone(), store));
            }
        }
        Ok(state)
    }
}
