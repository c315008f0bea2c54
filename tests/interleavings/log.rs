//! The journal: callers append, wait, close and fail it, beside its thread.

use std::sync::{Arc, Mutex};

use loom::thread;

use crate::explore;
use crate::journal::{Durability, Journal, JournalOptions, LogError, LogStore, Lsn, Observer, decode_frames};

/// What a log was given. std's locks: no thread waits while it holds one, and loom need not know of them.
#[derive(Clone, Default)]
pub(crate) struct Medium(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    payloads: Vec<Vec<u8>>,
    synced: usize,
    /// This sync, counted from 1, fails; 0: none.
    failing: usize,
    syncs: usize,
}

impl Medium {
    pub(crate) fn failing_at(sync: usize) -> Medium {
        let medium = Medium::default();
        medium.0.lock().unwrap().failing = sync;
        medium
    }

    pub(crate) fn synced(&self) -> Lsn {
        self.0.lock().unwrap().synced as Lsn
    }

    pub(crate) fn payloads(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().payloads.clone()
    }
}

impl LogStore for Medium {
    fn append(&mut self, first_lsn: Lsn, frames: u32, _epoch: u32, body: &[u8]) -> Result<(), LogError> {
        let mut written = self.0.lock().unwrap();
        assert_eq!(first_lsn, written.payloads.len() as Lsn + 1, "a batch goes on where the last one ended");
        let read: Vec<_> = decode_frames(body).map(|frame| frame.unwrap()).collect();
        assert_eq!(read.len(), frames as usize);
        for (place, frame) in read.iter().enumerate() {
            assert_eq!(frame.lsn, first_lsn + place as Lsn);
            written.payloads.push(frame.payload.to_vec());
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        // What another thread may do while the disk works.
        thread::yield_now();
        let mut written = self.0.lock().unwrap();
        written.syncs += 1;
        if written.syncs == written.failing {
            return Err(LogError::Broken);
        }
        written.synced = written.payloads.len();
        Ok(())
    }

    fn trim(&mut self, _upto: Lsn) -> Result<(), LogError> {
        Ok(())
    }
}

pub(crate) struct Deaf;

impl Observer for Deaf {
    fn advanced(&self, _durable: Lsn) {}
    fn failed(&self, _why: &str) {}
}

pub(crate) fn start(durability: Durability, medium: &Medium, observer: Arc<dyn Observer>) -> Journal {
    let log = (durability != Durability::Snapshot).then(|| Box::new(medium.clone()) as Box<dyn LogStore>);
    // So long that no clock has a say.
    let sync_interval = std::time::Duration::from_secs(1_000_000);
    let options = JournalOptions { durability, sync_interval, ..JournalOptions::default() };
    Journal::start(log, 0, 1, options, observer).unwrap()
}

/// Each appends and waits until that is durable; then it is on the disk.
#[test]
fn what_was_waited_for_is_on_the_disk() {
    explore("append and wait", || {
        let medium = Medium::default();
        let journal = start(Durability::Sync, &medium, Arc::new(Deaf));
        let append_and_wait = |text: &'static [u8]| {
            let (journal, medium) = (journal.clone(), medium.clone());
            move || {
                let lsn = journal.append(1, 1, text);
                journal.wait_durable(lsn).unwrap();
                assert!(medium.synced() >= lsn, "{lsn} counts as durable and is not");
            }
        };
        let other = thread::spawn(append_and_wait(b"one"));
        append_and_wait(b"two")();
        other.join().unwrap();
        assert_eq!(journal.durable(), 2);
        journal.close().unwrap();
        assert_eq!((medium.payloads().len(), journal.buffered_bytes()), (2, 0));
    });
}

/// In buffered mode an answer does not wait for the disk; a flush does.
#[test]
fn a_flush_waits_for_the_disk() {
    explore("flush", || {
        let medium = Medium::default();
        let journal = start(Durability::Buffered, &medium, Arc::new(Deaf));
        let flusher = {
            let (journal, medium) = (journal.clone(), medium.clone());
            thread::spawn(move || {
                let lsn = journal.append(1, 1, b"one");
                journal.flush_blocking().unwrap();
                assert!(medium.synced() >= lsn, "{lsn} was flushed and is not on the disk");
            })
        };
        let lsn = journal.append(1, 1, b"two");
        journal.wait_durable(lsn).unwrap();
        assert!(medium.payloads().len() as Lsn >= lsn);
        flusher.join().unwrap();
        drop(journal);
    });
}

/// A close takes along what was appended before it, and later appends are dropped, not half written.
#[test]
fn a_close_beside_appends_leaves_a_prefix() {
    explore("close", || {
        let medium = Medium::default();
        let journal = start(Durability::Sync, &medium, Arc::new(Deaf));
        journal.append(1, 1, b"before");
        let appender = {
            let journal = journal.clone();
            thread::spawn(move || {
                let lsn = journal.append(1, 1, b"beside");
                journal.wait_durable(lsn).is_ok().then_some(lsn)
            })
        };
        journal.close().unwrap();
        let told = appender.join().unwrap();
        assert_eq!(medium.payloads()[0], b"before");
        assert_eq!(medium.synced(), medium.payloads().len() as Lsn, "a closed journal is synced");
        assert!(told.is_none_or(|lsn| medium.synced() >= lsn));
    });
}

/// Nothing counts as durable after a failed sync or a halt, and nobody waits for ever.
#[test]
fn after_a_failure_nothing_becomes_durable() {
    explore("failed sync", || {
        let medium = Medium::failing_at(1);
        let journal = start(Durability::Sync, &medium, Arc::new(Deaf));
        let waiter = {
            let journal = journal.clone();
            thread::spawn(move || {
                let lsn = journal.append(1, 1, b"one");
                journal.wait_durable(lsn).unwrap_err();
            })
        };
        let lsn = journal.append(1, 1, b"two");
        journal.wait_durable(lsn).unwrap_err();
        waiter.join().unwrap();
        assert_eq!((journal.durable(), medium.synced()), (0, 0));
        assert!(journal.is_failed());
    });
    explore("halt", || {
        let medium = Medium::default();
        let journal = start(Durability::Sync, &medium, Arc::new(Deaf));
        let waiter = {
            let (journal, medium) = (journal.clone(), medium.clone());
            thread::spawn(move || {
                let lsn = journal.append(1, 1, b"one");
                if journal.wait_durable(lsn).is_ok() {
                    assert!(medium.synced() >= lsn);
                }
            })
        };
        journal.halt();
        let durable = journal.durable();
        waiter.join().unwrap();
        assert_eq!(journal.durable(), durable, "it moves after a halt");
    });
}

/// A tap gets every frame once and in order, and has it before it counts as durable.
#[test]
fn a_tap_misses_nothing() {
    for durability in [Durability::Sync, Durability::Snapshot] {
        explore(&format!("tap, {durability:?}"), move || {
            let journal = start(durability, &Medium::default(), Arc::new(Deaf));
            let appender = {
                let journal = journal.clone();
                thread::spawn(move || {
                    journal.append(1, 1, b"one");
                    journal.append(1, 1, b"two");
                })
            };
            let (sink, taken) = std::sync::mpsc::channel();
            let after = journal.tap(sink);
            appender.join().unwrap();
            journal.flush_blocking().unwrap();
            journal.untap();
            let lsns: Vec<Lsn> = taken
                .try_iter()
                .flat_map(|batch| decode_frames(&batch).map(|frame| frame.unwrap().lsn).collect::<Vec<_>>())
                .collect();
            assert_eq!(lsns, (after + 1..=2).collect::<Vec<_>>());
            drop(journal);
        });
    }
}

/// The last handle goes while others still hold one: the thread ends, and the one that goes last waits for it.
#[test]
fn a_journal_that_is_dropped_ends() {
    explore("drop", || {
        let journal = start(Durability::Sync, &Medium::default(), Arc::new(Deaf));
        let other = {
            let journal = journal.clone();
            thread::spawn(move || {
                journal.append(1, 1, b"one");
            })
        };
        drop(journal);
        other.join().unwrap();
    });
}
