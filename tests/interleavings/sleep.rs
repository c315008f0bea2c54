//! Slots: actors fall asleep and are woken while messages come.

use std::sync::Arc;

use loom::sync::{Mutex, mpsc};
use loom::thread;

use crate::explore;
use crate::slot::{Mailbox, Place};

/// What is in a mailbox.
enum Mail {
    /// From whom, and his how manyeth.
    Msg(u8, u8),
    Sleep,
}

#[derive(Clone)]
struct Sender(Arc<mpsc::Sender<Mail>>);

impl Mailbox<Mail> for Sender {
    fn put(&self, mail: Mail) -> bool {
        self.0.send(mail).is_ok()
    }
}

struct Slot {
    place: Mutex<Place<Sender, Mail>>,
    /// Actors that have the state; std's, so that loom does not take it for synchronisation.
    alive: std::sync::atomic::AtomicUsize,
    spawned: std::sync::Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Slot {
    fn route(self: &Arc<Self>, mail: Mail) {
        let delivered = self.place.lock().unwrap().deliver(mail, 0, |row| Ok(self.spawn(row)));
        delivered.unwrap();
    }

    /// The state is what was received so far, two bytes a message.
    fn spawn(self: &Arc<Self>, row: Option<&[u8]>) -> Sender {
        let (sender, mailbox) = mpsc::channel();
        let sender = Sender(Arc::new(sender));
        let (slot, myself, mut state) = (self.clone(), sender.clone(), row.unwrap_or_default().to_vec());
        let others = self.alive.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(others, 0, "two actors of one id");
        let actor = thread::spawn(move || {
            loop {
                match mailbox.recv().unwrap() {
                    Mail::Msg(from, number) => state.extend([from, number]),
                    Mail::Sleep => {
                        let mut place = slot.place.lock().unwrap();
                        if !place.go_on(&myself, 0) {
                            *place = Place::Dormant(state.into());
                            slot.alive.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            return;
                        }
                    }
                }
            }
        });
        self.spawned.lock().unwrap().push(actor);
        sender
    }

    /// Waits until the state is a row, and gives it.
    fn row(&self) -> Vec<u8> {
        // Who was told to sleep may go on instead, so he is told again.
        let row = loop {
            let mut place = self.place.lock().unwrap();
            if let Place::Dormant(row) = &*place {
                break row.to_vec();
            }
            place.doze(Mail::Sleep);
            drop(place);
            thread::yield_now();
        };
        for actor in self.spawned.lock().unwrap().drain(..) {
            actor.join().unwrap();
        }
        row
    }
}

fn sent(slot: &Arc<Slot>, from: u8, count: u8) {
    for number in 0..count {
        slot.route(Mail::Msg(from, number));
    }
}

fn must_hold(row: &[u8], counts: &[(u8, u8)]) {
    for (from, count) in counts {
        let got: Vec<u8> = row.chunks(2).filter(|mail| mail[0] == *from).map(|mail| mail[1]).collect();
        assert_eq!(got, (0..*count).collect::<Vec<_>>(), "messages of {from}");
    }
    assert_eq!(row.len() / 2, counts.iter().map(|(_, count)| usize::from(*count)).sum::<usize>());
}

fn slot(place: Place<Sender, Mail>) -> Arc<Slot> {
    Arc::new(Slot { place: Mutex::new(place), alive: 0.into(), spawned: std::sync::Mutex::default() })
}

#[test]
fn a_message_beside_falling_asleep_is_not_lost() {
    explore("sleep and wake", || {
        let slot = slot(Place::Dormant(Box::default()));
        sent(&slot, 1, 1);
        let sender = {
            let slot = slot.clone();
            thread::spawn(move || sent(&slot, 2, 2))
        };
        slot.place.lock().unwrap().doze(Mail::Sleep);
        sender.join().unwrap();
        must_hold(&slot.row(), &[(1, 1), (2, 2)]);
    });
}

#[test]
fn two_who_wake_one_start_one_actor() {
    explore("two wake one", || {
        let slot = slot(Place::Fresh);
        let sender = {
            let slot = slot.clone();
            thread::spawn(move || sent(&slot, 2, 2))
        };
        sent(&slot, 1, 2);
        sender.join().unwrap();
        must_hold(&slot.row(), &[(1, 2), (2, 2)]);
    });
}

#[test]
fn a_number_that_was_not_given_takes_no_message() {
    let mut place: Place<Sender, Mail> = Place::Empty;
    place.deliver(Mail::Msg(1, 1), 0, |_| unreachable!()).unwrap_err();
    assert!(!place.doze(Mail::Sleep));
}
