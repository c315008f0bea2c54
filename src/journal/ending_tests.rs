//! How a journal ends otherwise than by a close: abandoned or halted, and what its callers are told.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;

use super::group_commit_tests::{Order, Told, gated, memory, options, replayed, wait_for_calls};
use super::*;

#[test]
fn an_abandoned_journal_answers_no_wait_in_any_mode() {
    for durability in [Durability::Sync, Durability::Buffered, Durability::Snapshot] {
        let told = Arc::new(Told::default());
        let journal = match durability {
            Durability::Snapshot => Journal::start(None, 0, 1, options(durability), told).unwrap(),
            _ => memory(&MemoryMedium::new(), durability).0,
        };
        let lsn = journal.append(1, 1, b"x");
        journal.flush_blocking().unwrap();
        journal.abandon();
        assert!(journal.flush_blocking().is_err(), "{durability:?}");
        // With a log it is durable, and stays so.
        assert_eq!(journal.wait_durable(lsn).is_ok(), durability != Durability::Snapshot, "{durability:?}");
        let late = journal.append(1, 1, b"late");
        assert!(journal.wait_durable(late).is_err());
        assert_eq!((journal.durable(), journal.is_failed()), (lsn, false));
    }
}

#[test]
fn a_halt_keeps_what_is_pending_from_the_log_and_acknowledges_nothing() {
    let gated = gated(Durability::Sync);
    let journal = gated.journal.clone();
    gated.gate.send(Order::Pass).unwrap();
    journal.append(1, 1, b"kept");
    journal.wait_durable(1).unwrap();
    journal.append(1, 1, b"being synced");
    wait_for_calls(&gated.calls, 4);
    journal.append(1, 1, b"pending");
    let waiter = thread::spawn({
        let journal = journal.clone();
        move || journal.wait_durable(2)
    });
    journal.halt();
    journal.halt();
    assert!(journal.is_failed());
    assert!(waiter.join().unwrap().is_err(), "answered while the sync is in hand");
    assert_eq!(journal.append(1, 1, b"late"), 4);
    gated.gate.send(Order::Pass).unwrap();
    assert!(journal.close().is_err());
    assert_eq!((journal.durable(), journal.buffered_bytes()), (1, 0));
    assert!(journal.flush_blocking().is_err() && journal.wait_durable(2).is_err());
    assert_eq!(*gated.told.advanced.lock().unwrap(), vec![1]);
    assert_eq!(*gated.told.failed.lock().unwrap(), vec!["it was halted".to_owned()]);
    assert_eq!(gated.calls.load(Ordering::SeqCst), 4, "nothing is begun after it");
    let found = replayed(&gated.medium);
    assert_eq!(found.last(), Some(&(2, b"being synced".to_vec())));
}

#[test]
fn a_halt_stops_a_flush_and_a_pile_between_two_operations() {
    let gated = gated(Durability::Buffered);
    let journal = &gated.journal;
    journal.append(1, 1, b"written");
    journal.wait_durable(1).unwrap();
    let flusher = thread::spawn({
        let journal = journal.clone();
        move || journal.flush_blocking()
    });
    wait_for_calls(&gated.calls, 2);
    journal.append(1, 1, b"pending");
    journal.halt();
    assert!(flusher.join().unwrap().is_err());
    gated.gate.send(Order::Pass).unwrap();
    assert!(journal.close().is_err());
    assert_eq!(gated.calls.load(Ordering::SeqCst), 2);
    assert_eq!(replayed(&gated.medium), vec![(1, b"written".to_vec())]);
}

#[test]
fn a_halt_without_a_log_and_one_after_a_close() {
    let told = Arc::new(Told::default());
    let observer = Arc::clone(&told) as Arc<dyn Observer>;
    let journal = Journal::start(None, 0, 1, options(Durability::Snapshot), observer).unwrap();
    journal.append(1, 1, b"x");
    journal.halt();
    assert!(journal.flush_blocking().is_err() && journal.wait_durable(1).is_err());
    assert_eq!((journal.append(1, 1, b"late"), journal.durable()), (2, 1));
    assert!(journal.close().is_err());
    assert_eq!(told.failed.lock().unwrap().len(), 1);

    let medium = MemoryMedium::new();
    let (journal, told) = memory(&medium, Durability::Sync);
    journal.append(1, 1, b"x");
    journal.close().unwrap();
    journal.halt();
    assert!(!journal.is_failed() && journal.close().is_ok() && journal.flush_blocking().is_ok());
    assert!(told.failed.lock().unwrap().is_empty());
}

#[test]
fn an_observer_may_halt() {
    struct Halter(Mutex<Option<Journal>>);
    impl Observer for Halter {
        fn advanced(&self, _durable: Lsn) {
            self.halt();
        }
        fn failed(&self, _why: &str) {
            self.halt();
        }
    }
    impl Halter {
        fn halt(&self) {
            self.0.lock().unwrap().as_ref().unwrap().halt();
        }
    }
    let medium = MemoryMedium::new();
    let (log, _) = MemoryLog::open(&medium, 0, &mut |_| Ok(())).unwrap();
    let halter = Arc::new(Halter(Mutex::new(None)));
    let observer = Arc::clone(&halter) as Arc<dyn Observer>;
    let journal = Journal::start(Some(Box::new(log)), 0, 1, options(Durability::Sync), observer).unwrap();
    *halter.0.lock().unwrap() = Some(journal.clone());
    journal.append(1, 1, b"first");
    assert!(journal.close().is_err());
    assert_eq!(journal.durable(), 1);
    halter.0.lock().unwrap().take();
    journal.append(1, 1, b"late");
    assert_eq!(replayed(&medium).len(), 1);
}
