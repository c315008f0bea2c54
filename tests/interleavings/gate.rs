//! Permits, the promise of room, and the gate that keeps an answer back until the journal is durable past it.

use std::sync::{Arc, Mutex};

use loom::future::block_on;
use loom::thread;
use tokio::sync::oneshot::error::TryRecvError;

use crate::answers::{Admission, Answers, Busy};
use crate::domain::{Outcome, Ticket};
use crate::explore;
use crate::journal::{Durability, Journal, Lsn, Observer};
use crate::log::{Deaf, Medium, start};

/// Tells the gate of the journal's progress, as the engine's observer does.
struct Told(Arc<Answers>);

impl Observer for Told {
    fn advanced(&self, durable: Lsn) {
        self.0.advanced(durable);
    }

    fn failed(&self, _why: &str) {
        self.0.fail();
    }
}

fn admitted(answers: &Answers, bytes: usize) -> Result<Admission, Busy> {
    block_on(answers.admit(bytes, None))
}

/// The task that lets answers go; ends with its answers.
fn let_go(answers: &Arc<Answers>, until: impl Future<Output = ()>) {
    use std::task::Poll;
    let mut releasing = Box::pin(answers.release_durable());
    let mut until = Box::pin(until);
    block_on(std::future::poll_fn(|context| {
        if releasing.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        until.as_mut().poll(context)
    }));
}

/// Appends and answers; the answer is not there before the disk has what it rests on, and it comes.
#[test]
fn an_answer_waits_for_the_disk_and_no_longer() {
    explore("gate", || {
        let medium = Medium::default();
        let answers = Arc::new(Answers::new(8, 1_000));
        let journal = start(Durability::Sync, &medium, Arc::new(Told(answers.clone())));
        let mut admission = admitted(&answers, 10).unwrap();
        let actor = {
            let (answers, journal, ticket) = (answers.clone(), journal.clone(), admission.ticket);
            thread::spawn(move || {
                journal.append(1, 1, b"one");
                answers.reply(ticket, Outcome::Done, &journal);
            })
        };
        let on_disk = medium.clone();
        let_go(&answers, async {
            let outcome = (&mut admission.answer).await.unwrap();
            assert!(matches!(outcome, Outcome::Done));
            assert_eq!(on_disk.synced(), 1, "the answer left before its event was on the disk");
        });
        actor.join().unwrap();
        assert_eq!(answers.in_flight(), 0);
        journal.close().unwrap();
    });
}

/// A read that saw an event which is not durable yet waits for it as well.
#[test]
fn a_read_does_not_overtake_what_it_saw() {
    explore("read", || {
        let medium = Medium::default();
        let answers = Arc::new(Answers::new(8, 1_000));
        let journal = start(Durability::Sync, &medium, Arc::new(Told(answers.clone())));
        let seen = Arc::new(loom::sync::atomic::AtomicU64::new(0));
        let writer = {
            let (journal, seen) = (journal.clone(), seen.clone());
            thread::spawn(move || {
                let lsn = journal.append(1, 1, b"one");
                seen.store(lsn, loom::sync::atomic::Ordering::Release);
            })
        };
        let mut admission = admitted(&answers, 0).unwrap();
        let saw = seen.load(loom::sync::atomic::Ordering::Acquire);
        answers.reply(admission.ticket, Outcome::Done, &journal);
        let on_disk = medium.clone();
        let_go(&answers, async {
            assert!(matches!((&mut admission.answer).await.unwrap(), Outcome::Done));
            assert!(on_disk.synced() >= saw, "the answer shows what a crash could take back");
        });
        writer.join().unwrap();
        journal.close().unwrap();
    });
}

/// The journal fails beside an answer: it is what is on the disk, or "unknown", and it comes.
#[test]
fn a_failure_leaves_nobody_waiting_and_tells_no_lie() {
    explore("failing gate", || {
        let medium = Medium::failing_at(1);
        let answers = Arc::new(Answers::new(8, 1_000));
        let journal = start(Durability::Sync, &medium, Arc::new(Told(answers.clone())));
        let admission = admitted(&answers, 10).unwrap();
        journal.append(1, 1, b"one");
        answers.reply(admission.ticket, Outcome::Done, &journal);
        let outcome = block_on(admission.answer).unwrap();
        assert!(matches!(outcome, Outcome::Unknown), "an answer of success without its event");
        // Who comes later hears of it, too.
        match admitted(&answers, 10) {
            Err(busy) => assert_eq!(busy, Busy::Failed),
            Ok(late) => {
                answers.reply(late.ticket, Outcome::Done, &journal);
                assert!(matches!(block_on(late.answer).unwrap(), Outcome::Unknown));
            }
        }
        drop(journal);
        assert_eq!(answers.in_flight(), 0);
    });
}

/// Admitted in the moment of the failure, and never answered by an actor: the caller does not wait for ever.
#[test]
fn who_is_admitted_beside_a_failure_hears_of_it() {
    explore("admission beside a failure", || {
        let answers = Arc::new(Answers::new(8, 1_000));
        let failing = {
            let answers = answers.clone();
            thread::spawn(move || answers.fail())
        };
        if let Ok(admission) = admitted(&answers, 10) {
            assert!(matches!(block_on(admission.answer).unwrap(), Outcome::Unknown));
        }
        failing.join().unwrap();
        assert_eq!(answers.in_flight(), 0);
    });
}

/// However many come at once: never more than permits and room allow, and all of it comes back.
#[test]
fn permits_and_room_are_never_given_twice() {
    explore("permits", || {
        let answers = Arc::new(Answers::new(2, 100));
        let inside = Arc::new(Mutex::new((0, 0)));
        let journal = start(Durability::Snapshot, &Medium::default(), Arc::new(Deaf));
        let come_and_go = |bytes: usize| {
            let (answers, inside, journal) = (answers.clone(), inside.clone(), journal.clone());
            move || {
                let Ok(admission) = admitted(&answers, bytes) else { return };
                {
                    let mut inside = inside.lock().unwrap();
                    *inside = (inside.0 + 1, inside.1 + bytes);
                    assert!(inside.0 <= 2 && inside.1 <= 100, "{inside:?} were admitted");
                }
                thread::yield_now();
                {
                    let mut inside = inside.lock().unwrap();
                    *inside = (inside.0 - 1, inside.1 - bytes);
                }
                answers.reply(admission.ticket, Outcome::Done, &journal);
                assert!(matches!(block_on(admission.answer).unwrap(), Outcome::Done));
            }
        };
        let others = [thread::spawn(come_and_go(60)), thread::spawn(come_and_go(30))];
        come_and_go(50)();
        for other in others {
            other.join().unwrap();
        }
        // All of it is back: as much as there is fits in again.
        let again = admitted(&answers, 100).unwrap();
        answers.reply(again.ticket, Outcome::Done, &journal);
        assert_eq!(answers.in_flight(), 0);
        drop(journal);
    });
}

/// Who drains and then sees nobody in flight has the engine for himself.
#[test]
fn nobody_comes_in_past_a_drain() {
    explore("drain", || {
        let answers = Arc::new(Answers::new(8, 1_000));
        let alone = Arc::new(Mutex::new(false));
        let caller = {
            let (answers, alone) = (answers.clone(), alone.clone());
            thread::spawn(move || match admitted(&answers, 0) {
                Ok(admission) => {
                    assert!(!*alone.lock().unwrap(), "somebody was admitted past the drain");
                    thread::yield_now();
                    assert!(!*alone.lock().unwrap(), "the drain did not wait");
                    answers.fail();
                    let _ = block_on(admission.answer);
                }
                Err(busy) => assert_eq!(busy, Busy::Draining),
            })
        };
        answers.drain();
        let empty = answers.in_flight() == 0;
        if empty {
            *alone.lock().unwrap() = true;
        }
        caller.join().unwrap();
        assert!(answers.is_draining());
    });
}

/// Who is held at the door gets in when it opens, whenever that is.
#[test]
fn nobody_is_forgotten_at_the_door() {
    explore("hold", || {
        let answers = Arc::new(Answers::new(8, 1_000));
        answers.hold();
        let caller = {
            let answers = answers.clone();
            thread::spawn(move || admitted(&answers, 0).map(|admission| admission.ticket))
        };
        assert_eq!(answers.in_flight() & !1, 0);
        answers.resume();
        let ticket: Ticket = caller.join().unwrap().unwrap();
        assert!(ticket.0 > 0);
        assert_eq!(answers.in_flight(), 1);
    });
}
