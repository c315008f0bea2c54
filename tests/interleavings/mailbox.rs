//! Mailboxes: what is put in while somebody handles what was there before.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;

use crate::explore;
use crate::inbox::{Inbox, Put};

struct Actor {
    mailbox: Inbox<(u8, u8)>,
    /// What was handled. Whoever has the turn has it to himself.
    handled: Mutex<Vec<(u8, u8)>>,
    inside: std::sync::atomic::AtomicUsize,
}

impl Actor {
    fn new() -> Arc<Self> {
        Arc::new(Actor { mailbox: Inbox::new(), handled: Mutex::new(Vec::new()), inside: 0.into() })
    }

    /// Sends messages, each with its number, and runs the actor whenever it has to. True if all were taken.
    fn send(&self, from: u8, count: u8) -> bool {
        (0..count).all(|number| match self.mailbox.put((from, number)) {
            Put::Waits => true,
            Put::First => {
                self.run();
                true
            }
            Put::Refused => false,
        })
    }

    fn run(&self) {
        use std::sync::atomic::Ordering::SeqCst;
        let mut mail = Vec::new();
        loop {
            self.mailbox.take(&mut mail);
            assert_eq!(self.inside.fetch_add(1, SeqCst), 0, "two run one actor");
            self.handled.lock().unwrap().append(&mut mail);
            self.inside.fetch_sub(1, SeqCst);
            if !self.mailbox.goes_on() {
                return;
            }
        }
    }
}

fn must_be_in_order(handled: &[(u8, u8)], counts: &[(u8, u8)]) {
    for (from, count) in counts {
        let got: Vec<u8> = handled.iter().filter(|mail| mail.0 == *from).map(|mail| mail.1).collect();
        assert_eq!(got, (0..*count).collect::<Vec<_>>(), "messages of {from}");
    }
}

#[test]
fn each_message_is_handled_once_in_its_order_and_by_one_at_a_time() {
    explore("mailbox", || {
        let actor = Actor::new();
        let others = [1, 2].map(|from| {
            let actor = actor.clone();
            thread::spawn(move || assert!(actor.send(from, 2)))
        });
        assert!(actor.send(0, 1));
        for other in others {
            other.join().unwrap();
        }
        must_be_in_order(&actor.handled.lock().unwrap(), &[(0, 1), (1, 2), (2, 2)]);
    });
}

#[test]
fn a_mailbox_that_is_closed_keeps_nothing() {
    explore("closing a mailbox", || {
        let actor = Actor::new();
        let other = {
            let actor = actor.clone();
            thread::spawn(move || actor.send(1, 2))
        };
        actor.mailbox.close();
        assert!(!actor.send(0, 1));
        let all = other.join().unwrap();
        let mut left = Vec::new();
        actor.mailbox.take(&mut left);
        assert!(left.is_empty(), "something came in past the close");
        let handled = actor.handled.lock().unwrap();
        assert!(all || handled.len() < 2);
        must_be_in_order(&handled, &[(1, handled.len() as u8)]);
    });
}
