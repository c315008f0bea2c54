//! Work beside the traffic: a snapshot that is being written, and a round of orders that leave memory. Both are the
//! engine's own steps; here they are made one at a time, whenever the dice say so.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use bookstore::disk::Disk;
use bookstore::internals::domain::{Leaving, Millis};
use bookstore::internals::engine::{Round, RoundStep, Walk, Wanted, Writing, clean_up};

use crate::mail::{End, Mail, Written};
use crate::process::{Process, Shown};

/// A job that goes on, is through, or has failed.
pub(crate) enum Job {
    Goes,
    Over(String),
}

pub(crate) struct Snapshot {
    walk: Walk,
    writing: Writing,
    tap: Receiver<Vec<u8>>,
    /// An entity was asked.
    waits: bool,
    walked: bool,
}

impl Snapshot {
    pub(crate) fn begin(process: &Process, disk: Arc<dyn Disk>, dir: &Path, now: Millis) -> Result<Self, String> {
        let (sink, tap) = channel();
        let start = process.hub.journal.tap(sink);
        let writing = Writing::begin(disk, dir, start, process.epoch, now).map_err(|error| {
            process.hub.journal.untap();
            error.to_string()
        })?;
        let walk = Walk::new(process.next_account, process.next_store, 1_000);
        Ok(Snapshot { walk, writing, tap, waits: false, walked: false })
    }

    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// One step; the snapshot comes back if there are more.
    pub(crate) fn step(mut self, process: &mut Process, disk: &dyn Disk, dir: &Path) -> (Option<Self>, Job) {
        match self.try_step(process) {
            Ok(false) => return (Some(self), Job::Goes),
            Ok(true) => {}
            Err(why) => {
                process.hub.journal.untap();
                return (None, Job::Over(format!("failed: {why}")));
            }
        }
        if process.hub.answers.is_failed() {
            return (None, Job::Over("given up".into()));
        }
        let written = process.hub.resting.written();
        let published = match self.writing.publish(&process.hub.journal, written) {
            Ok((_, lsn)) => lsn,
            Err(error) => {
                process.hub.journal.untap();
                return (None, Job::Over(format!("failed: {error}")));
            }
        };
        let cleaned = clean_up(disk, dir, &process.hub.journal, published);
        (None, Job::Over(format!("published as of {published}, both hold {cleaned:?}")))
    }

    /// True when it may be published.
    fn try_step(&mut self, process: &mut Process) -> Result<bool, String> {
        if self.walked {
            return self.writing.is_ready(&process.hub.journal, &self.tap).map_err(|error| error.to_string());
        }
        match self.walk.wanted() {
            Wanted::Account(number) => match process.accounts.get(&number) {
                Some(slot) if slot.is_awake() => self.ask(process, End::Account(number), Mail::Row),
                slot => {
                    let shown = slot.map(|slot| (slot.name.clone(), slot.row()));
                    let (name, row) = shown.unzip();
                    let chunk = self.walk.account(name.as_deref(), row);
                    self.write(chunk)?;
                }
            },
            Wanted::Store(number) => match process.stores.get(&number) {
                // One that is being created is in the tap.
                Some(slot) if slot.is_awake() => self.ask(process, End::Store(number), Mail::Row),
                slot => {
                    let shown = slot.map(|slot| (slot.name.clone(), slot.row()));
                    let (name, row) = shown.unzip();
                    let chunk = self.walk.store(name.as_deref(), row);
                    self.write(chunk)?;
                }
            },
            Wanted::Ids(shard) => self.ask(process, End::Shard(shard), Mail::Ids),
            Wanted::Orders(shard, ids) => self.ask(process, End::Shard(shard), Mail::Orders(ids)),
            Wanted::Nothing => {
                self.walked = true;
                self.writing.walked(&process.hub.journal);
            }
        }
        Ok(false)
    }

    fn ask(&mut self, process: &mut Process, to: End, mail: Mail) {
        self.waits = true;
        process.hub.post.put(End::Walk, to, mail);
    }

    fn write(&mut self, chunk: Option<(u8, Vec<u8>)>) -> Result<(), String> {
        if let Some((kind, payload)) = chunk {
            self.writing.chunk(kind, &payload).map_err(|error| error.to_string())?;
        }
        self.writing.events(&self.tap).map_err(|error| error.to_string())
    }

    /// What was asked for.
    pub(crate) fn take(&mut self, shown: Shown) -> Result<(), String> {
        self.waits = false;
        let chunk = match shown {
            Shown::Account(name, row) => self.walk.account(Some(&name), Some(row)),
            Shown::Store(name, row) => self.walk.store(Some(&name), row),
            Shown::Ids(ids) => {
                self.walk.ids(ids);
                None
            }
            Shown::Orders(rows) => self.walk.orders(rows),
            Shown::Named(..) | Shown::Rows(..) | Shown::Left(_) => unreachable!("the walk did not ask for that"),
        };
        self.write(chunk)
    }
}

pub(crate) struct Leave {
    round: Round,
    waits: bool,
}

impl Leave {
    pub(crate) fn begin(leaving: Leaving) -> Self {
        Leave { round: Round::new(leaving), waits: false }
    }

    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    pub(crate) fn step(&mut self, process: &mut Process) -> Job {
        let mut ask = |shard, mail| process.hub.post.put(End::Round, End::Shard(shard), mail);
        match self.round.step() {
            RoundStep::Name(shard, leaving) => ask(shard, Mail::Name(leaving)),
            RoundStep::Show(shard, named) => ask(shard, Mail::Show(named)),
            RoundStep::Leave(shard, named, written) => ask(shard, Mail::Leave(named, Written(written))),
            RoundStep::Sync => {
                self.round.sync(&process.hub.journal);
                return match self.round.is_synced(&process.hub.journal) {
                    Ok(_) => Job::Goes,
                    Err(error) => Job::Over(format!("failed: {error}")),
                };
            }
            RoundStep::Write(rows, upto) => {
                return match process.hub.resting.write(&rows, upto) {
                    Ok(written) => {
                        self.round.written(written);
                        Job::Goes
                    }
                    Err(error) => {
                        process.hub.resting_failed(&error);
                        Job::Over(format!("failed: {error}"))
                    }
                };
            }
            RoundStep::Nothing => return Job::Over(format!("{} left", self.round.left_so_far())),
        }
        self.waits = true;
        Job::Goes
    }

    pub(crate) fn take(&mut self, shown: Shown) {
        self.waits = false;
        match shown {
            Shown::Named(named, more) => self.round.named(named, more),
            Shown::Rows(shard, asked, rows) => self.round.shown(shard, &asked, rows),
            Shown::Left(left) => self.round.left(left),
            _ => unreachable!("the round did not ask for that"),
        }
    }
}
