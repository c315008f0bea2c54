//! The journal above a log: order, gating, failure, taps, the three modes. Its helpers also serve
//! `ending_tests`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use super::*;

/// Remembers what it was told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) advanced: Mutex<Vec<Lsn>>,
    pub(super) failed: Mutex<Vec<String>>,
}

impl Observer for Told {
    fn advanced(&self, durable: Lsn) {
        self.advanced.lock().unwrap().push(durable);
    }

    fn failed(&self, why: &str) {
        self.failed.lock().unwrap().push(why.to_owned());
    }
}

/// A log that stops before each sync until it is let through, and then does what it is told.
pub(super) struct GatedLog {
    inner: MemoryLog,
    gate: Receiver<Order>,
    calls: Arc<AtomicUsize>,
}

pub(super) enum Order {
    Pass,
    Fail,
    Panic,
}

impl LogStore for GatedLog {
    fn append(&mut self, first: Lsn, frames: u32, epoch: u32, body: &[u8]) -> Result<(), LogError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.inner.append(first, frames, epoch, body)
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.gate.recv() {
            Ok(Order::Pass) | Err(_) => self.inner.sync(),
            Ok(Order::Fail) => Err(LogError::Visit("the disk is gone".to_owned())),
            Ok(Order::Panic) => panic!("told to"),
        }
    }

    fn trim(&mut self, upto: Lsn) -> Result<(), LogError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.inner.trim(upto)
    }
}

pub(super) fn options(durability: Durability) -> JournalOptions {
    JournalOptions { durability, sync_interval: Duration::from_secs(3_600), ..JournalOptions::default() }
}

fn start(log: impl LogStore, durability: Durability, told: &Arc<Told>) -> Journal {
    let observer = Arc::clone(told) as Arc<dyn Observer>;
    Journal::start(Some(Box::new(log)), 0, 1, options(durability), observer).unwrap()
}

pub(super) fn memory(medium: &MemoryMedium, durability: Durability) -> (Journal, Arc<Told>) {
    let told = Arc::new(Told::default());
    let (log, _) = MemoryLog::open(medium, 0, &mut |_| Ok(())).unwrap();
    (start(log, durability, &told), told)
}

pub(super) struct Gated {
    pub(super) journal: Journal,
    pub(super) told: Arc<Told>,
    pub(super) gate: Sender<Order>,
    pub(super) calls: Arc<AtomicUsize>,
    pub(super) medium: MemoryMedium,
}

pub(super) fn gated(durability: Durability) -> Gated {
    let medium = MemoryMedium::new();
    let (inner, _) = MemoryLog::open(&medium, 0, &mut |_| Ok(())).unwrap();
    let (gate, orders) = channel();
    let (calls, told) = (Arc::default(), Arc::default());
    let log = GatedLog { inner, gate: orders, calls: Arc::clone(&calls) };
    Gated { journal: start(log, durability, &told), told, gate, calls, medium }
}

/// The thread has `n` calls behind it or in hand; an eternal wait is the failure.
pub(super) fn wait_for_calls(calls: &AtomicUsize, n: usize) {
    while calls.load(Ordering::SeqCst) < n {
        thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn replayed(medium: &MemoryMedium) -> Vec<(Lsn, Vec<u8>)> {
    let mut frames = Vec::new();
    MemoryLog::open(medium, 0, &mut |frame| {
        frames.push((frame.lsn, frame.payload.to_vec()));
        Ok(())
    })
    .unwrap();
    frames
}

fn tapped(taps: &Receiver<Vec<u8>>) -> Vec<(Lsn, Vec<u8>)> {
    let batches: Vec<_> = taps.try_iter().collect();
    batches
        .iter()
        .flat_map(|batch| decode_frames(batch))
        .map(|frame| frame.map(|frame| (frame.lsn, frame.payload.to_vec())))
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn eight_threads_append_in_the_order_of_their_lsns() {
    const EACH: u32 = 2_000;
    let medium = MemoryMedium::new();
    let (journal, told) = memory(&medium, Durability::Sync);
    let barrier = Barrier::new(8);
    let given: Vec<Vec<Lsn>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u32)
            .map(|thread| {
                let (journal, barrier) = (journal.clone(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    (0..EACH)
                        .map(|n| {
                            let payload = [thread.to_le_bytes(), n.to_le_bytes()].concat();
                            let lsn = journal.append(1, 1, &payload);
                            if n % 97 == 0 {
                                journal.wait_durable(lsn).unwrap();
                                assert!(journal.durable() >= lsn);
                            }
                            lsn
                        })
                        .collect()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    journal.close().unwrap();

    let mut expected = Vec::new();
    for (thread, lsns) in (0_u32..).zip(&given) {
        assert!(lsns.is_sorted());
        for (n, lsn) in (0_u32..).zip(lsns) {
            expected.push((*lsn, [thread.to_le_bytes(), n.to_le_bytes()].concat()));
        }
    }
    expected.sort();
    assert_eq!(replayed(&medium), expected);
    let all = u64::from(8 * EACH);
    assert_eq!((journal.head(), journal.durable()), (all, all));
    assert_eq!(journal.buffered_bytes(), 0);
    let stats = journal.stats();
    let frame = |lsn| Frame { lsn, epoch: 1, kind: 1, version: 1, payload: &[0; 8] };
    let bytes: usize = (1..=all).map(|lsn| frame(lsn).encoded_len()).sum();
    assert_eq!((stats.frames, stats.bytes), (all, bytes as u64));
    assert_eq!(stats.batches, stats.batch_frames.count);
    assert_eq!(stats.batches, stats.syncs.count, "a sync for each batch");
    let advanced = told.advanced.lock().unwrap();
    assert!(advanced.is_sorted() && advanced.last() == Some(&all));
    assert_eq!(advanced.len() as u64, stats.batches);
}

#[test]
fn what_piles_up_during_a_sync_is_the_next_batch() {
    let gated = gated(Durability::Sync);
    gated.journal.append(1, 1, b"first");
    wait_for_calls(&gated.calls, 2);
    for _ in 0..100 {
        gated.journal.append(1, 1, b"later");
    }
    assert_eq!(gated.journal.durable(), 0, "nothing is synced yet");
    assert!(gated.journal.buffered_bytes() > 100 * FRAME_HEADER_MIN_BYTES);
    gated.gate.send(Order::Pass).unwrap();
    gated.gate.send(Order::Pass).unwrap();
    gated.journal.wait_durable(101).unwrap();
    assert_eq!(gated.journal.stats().batches, 2);
    gated.journal.close().unwrap();
    assert_eq!(*gated.told.advanced.lock().unwrap(), vec![1, 101]);
}

#[test]
fn a_large_pile_is_split_between_frames() {
    let gated = gated(Durability::Sync);
    gated.journal.append(1, 1, b"first");
    wait_for_calls(&gated.calls, 2);
    let large = vec![7; FRAME_PAYLOAD_MAX];
    for _ in 0..3 {
        gated.journal.append(1, 1, &large);
    }
    let Gated { journal, gate, medium, told, .. } = gated;
    drop(gate);
    journal.close().unwrap();
    assert_eq!(replayed(&medium).len(), 4);
    // Two of them and their headers are more than a batch may hold.
    assert_eq!(*told.advanced.lock().unwrap(), vec![1, 2, 3, 4]);
}

fn after_a_failure(order: Order) {
    let gated = gated(Durability::Sync);
    let journal = &gated.journal;
    let (sink, taps) = channel();
    journal.tap(sink);
    gated.gate.send(Order::Pass).unwrap();
    journal.append(1, 1, b"kept");
    journal.wait_durable(1).unwrap();
    journal.append(1, 1, b"in flight");
    wait_for_calls(&gated.calls, 4);
    journal.append(1, 1, b"pending");
    gated.gate.send(order).unwrap();
    assert!(journal.wait_durable(2).is_err());
    assert!(journal.flush_blocking().is_err());
    assert!(journal.is_failed());
    let calls = gated.calls.load(Ordering::SeqCst);

    assert_eq!(journal.append(1, 1, b"later"), 4);
    journal.trim(1);
    assert!(journal.wait_durable(4).is_err());
    assert!(journal.close().is_err() && journal.close().is_err());
    assert_eq!((journal.head(), journal.durable()), (4, 1));
    assert_eq!((journal.synced(), journal.buffered_bytes()), (1, 0));
    assert_eq!(gated.calls.load(Ordering::SeqCst), calls, "never again");
    assert_eq!(*gated.told.advanced.lock().unwrap(), vec![1]);
    assert_eq!(gated.told.failed.lock().unwrap().len(), 1);
    assert_eq!(tapped(&taps), vec![(1, b"kept".to_vec())]);
    gated.medium.crash();
    assert_eq!(replayed(&gated.medium), vec![(1, b"kept".to_vec())]);
}

#[test]
fn a_failed_sync_is_final() {
    after_a_failure(Order::Fail);
}

#[test]
fn a_log_that_panics_is_a_failure() {
    after_a_failure(Order::Panic);
}

#[test]
fn a_frame_that_is_too_long_fails_the_journal() {
    let medium = MemoryMedium::new();
    let (journal, told) = memory(&medium, Durability::Sync);
    journal.append(1, 1, b"good");
    journal.wait_durable(1).unwrap();
    journal.append(1, 1, &vec![0; FRAME_PAYLOAD_MAX + 1]);
    journal.append(1, 1, b"after a hole");
    assert!(journal.wait_durable(3).is_err());
    assert!(journal.close().is_err());
    assert_eq!(told.failed.lock().unwrap().len(), 1);
    assert_eq!(replayed(&medium), vec![(1, b"good".to_vec())]);
}

#[test]
fn closing_keeps_everything_and_takes_nothing_more() {
    let medium = MemoryMedium::new();
    let (journal, told) = memory(&medium, Durability::Buffered);
    for _ in 0..1_000 {
        journal.append(1, 1, b"x");
    }
    journal.close().unwrap();
    assert_eq!(journal.synced(), 1_000);
    assert_eq!(journal.append(1, 1, b"late"), 1_001);
    assert!(journal.wait_durable(1_000).is_ok());
    assert!(journal.wait_durable(1_001).is_err());
    assert!(!journal.is_failed());
    journal.close().unwrap();
    medium.crash();
    assert_eq!(replayed(&medium).len(), 1_000);
    assert!(told.failed.lock().unwrap().is_empty());
}

#[test]
fn dropping_the_last_handle_keeps_what_was_acknowledged() {
    let medium = MemoryMedium::new();
    let (journal, _) = memory(&medium, Durability::Sync);
    let clone = journal.clone();
    drop(journal);
    for _ in 0..100 {
        clone.append(1, 1, b"x");
    }
    clone.wait_durable(60).unwrap();
    let acknowledged = clone.durable();
    drop(clone);
    medium.crash();
    let found = replayed(&medium).len() as u64;
    assert!((acknowledged..=100).contains(&found), "{found}");
}

#[test]
fn an_observer_may_drop_the_last_handle() {
    struct Keeper(Mutex<Option<Journal>>, Sender<()>);
    impl Observer for Keeper {
        fn advanced(&self, _durable: Lsn) {
            drop(self.0.lock().unwrap().take());
            self.1.send(()).unwrap();
        }
        fn failed(&self, _why: &str) {}
    }
    let (log, _) = MemoryLog::open(&MemoryMedium::new(), 0, &mut |_| Ok(())).unwrap();
    let (sender, dropped) = channel();
    let keeper = Arc::new(Keeper(Mutex::new(None), sender));
    let observer = Arc::clone(&keeper) as Arc<dyn Observer>;
    let options = options(Durability::Sync);
    let journal = Journal::start(Some(Box::new(log)), 0, 1, options, observer).unwrap();
    let mut kept = keeper.0.lock().unwrap();
    journal.append(1, 1, b"x");
    *kept = Some(journal);
    drop(kept);
    dropped.recv().unwrap();
}

#[test]
fn a_tap_gets_exactly_the_frames_after_it() {
    let gated = gated(Durability::Sync);
    let journal = &gated.journal;
    journal.append(1, 1, b"in flight");
    wait_for_calls(&gated.calls, 2);
    journal.append(1, 1, b"pending");
    let (sink, taps) = channel();
    assert_eq!(journal.tap(sink), 2);
    journal.append(1, 1, b"three");
    gated.gate.send(Order::Pass).unwrap();
    gated.gate.send(Order::Pass).unwrap();
    journal.wait_durable(3).unwrap();
    assert_eq!(tapped(&taps), vec![(3, b"three".to_vec())]);
    journal.append(1, 1, b"four");
    gated.gate.send(Order::Pass).unwrap();
    journal.wait_durable(4).unwrap();
    journal.untap();
    assert_eq!(tapped(&taps), vec![(4, b"four".to_vec())]);
    gated.gate.send(Order::Pass).unwrap();
    journal.append(1, 1, b"five");
    journal.close().unwrap();
    assert_eq!(tapped(&taps), Vec::new());
    assert!(taps.recv().is_err(), "the journal holds no sender any more");
}

#[test]
fn taps_under_load_miss_and_double_nothing() {
    for durability in [Durability::Sync, Durability::Buffered, Durability::Snapshot] {
        let told = Arc::new(Told::default());
        let journal = match durability {
            Durability::Snapshot => Journal::start(None, 0, 1, options(durability), told).unwrap(),
            _ => memory(&MemoryMedium::new(), durability).0,
        };
        let stop = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        journal.append(1, 1, b"load");
                        thread::yield_now();
                    }
                });
            }
            for round in 0..20 {
                let (sink, taps) = channel();
                let after = journal.tap(sink);
                let target = after + 50;
                while journal.head() < target {
                    thread::yield_now();
                }
                journal.wait_durable(target).unwrap();
                journal.untap();
                let lsns: Vec<_> = tapped(&taps).iter().map(|(lsn, _)| *lsn).collect();
                assert!(lsns.len() >= 50, "{durability:?}: {} frames", lsns.len());
                let contiguous = (after + 1..).take(lsns.len()).collect::<Vec<_>>();
                assert_eq!(lsns, contiguous, "{durability:?}, round {round}");
            }
            stop.store(true, Ordering::SeqCst);
        });
        journal.close().unwrap();
    }
}

#[test]
fn a_receiver_that_went_away_is_forgotten() {
    let told = Arc::new(Told::default());
    let journal = Journal::start(None, 0, 1, options(Durability::Snapshot), told).unwrap();
    let (sink, taps) = channel();
    journal.tap(sink);
    drop(taps);
    for _ in 0..1_000 {
        journal.append(1, 1, b"nobody listens");
    }
    let (sink, taps) = channel();
    assert_eq!(journal.tap(sink), 1_000);
    journal.append(1, 1, b"heard");
    journal.flush_blocking().unwrap();
    assert_eq!(tapped(&taps), vec![(1_001, b"heard".to_vec())]);
    assert_eq!(journal.buffered_bytes(), 0);
}

#[test]
fn without_a_log_every_frame_is_durable_at_once() {
    let told = Arc::new(Told::default());
    let observer = Arc::clone(&told) as Arc<dyn Observer>;
    let journal = Journal::start(None, 41, 1, options(Durability::Snapshot), observer).unwrap();
    assert_eq!(journal.append(1, 1, b"x"), 42);
    assert_eq!((journal.head(), journal.durable()), (42, 42));
    assert_eq!((journal.synced(), journal.buffered_bytes()), (41, 0));
    journal.wait_durable(42).unwrap();
    journal.flush_blocking().unwrap();
    journal.trim(42);
    journal.close().unwrap();
    assert_eq!(journal.stats().batches, 0);
    assert!(told.advanced.lock().unwrap().is_empty());
}

#[test]
fn buffered_frames_are_durable_when_written_and_synced_when_asked() {
    let medium = MemoryMedium::new();
    let (journal, told) = memory(&medium, Durability::Buffered);
    journal.append(1, 1, b"synced");
    journal.flush_blocking().unwrap();
    assert_eq!(journal.synced(), 1);
    journal.append(1, 1, b"written");
    journal.wait_durable(2).unwrap();
    assert_eq!((journal.durable(), journal.synced()), (2, 1));
    // The journal goes down with the machine, not by `close`.
    drop(journal);
    assert_eq!(told.advanced.lock().unwrap().len(), 2);
    medium.crash();
    assert_eq!(replayed(&medium), vec![(1, b"synced".to_vec())]);
}

#[test]
fn buffered_frames_are_synced_after_the_interval_with_nobody_asking() {
    let medium = MemoryMedium::new();
    let (log, _) = MemoryLog::open(&medium, 0, &mut |_| Ok(())).unwrap();
    let options = JournalOptions {
        durability: Durability::Buffered,
        sync_interval: Duration::from_millis(5),
        ..JournalOptions::default()
    };
    let told = Arc::new(Told::default());
    let journal = Journal::start(Some(Box::new(log)), 0, 1, options, told).unwrap();
    for lsn in 1..=3 {
        journal.append(1, 1, b"x");
        while journal.synced() < lsn {
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(journal.stats().syncs.count, 3, "none when nothing is new");
}

#[test]
fn trimming_happens_between_batches() {
    let gated = gated(Durability::Sync);
    for lsn in 1..=2 {
        gated.gate.send(Order::Pass).unwrap();
        gated.journal.append(1, 1, b"x");
        gated.journal.wait_durable(lsn).unwrap();
    }
    gated.journal.trim(1);
    wait_for_calls(&gated.calls, 5);
    gated.journal.close().unwrap();
    assert!(MemoryLog::open(&gated.medium, 0, &mut |_| Ok(())).is_err());
    let (_, recovered) = MemoryLog::open(&gated.medium, 1, &mut |_| Ok(())).unwrap();
    assert_eq!(recovered.frames, 1);
}

#[test]
fn without_a_log_no_head_is_seen_that_is_not_durable() {
    let told = Arc::new(Told::default());
    let journal = Journal::start(None, 0, 1, options(Durability::Snapshot), told).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut ahead = 0_u64;
                    while !stop.load(Ordering::SeqCst) {
                        let head = journal.head();
                        ahead += u64::from(journal.durable() < head);
                    }
                    ahead
                })
            })
            .collect();
        for _ in 0..1_000_000 {
            journal.append(1, 1, b"x");
        }
        stop.store(true, Ordering::SeqCst);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 0, "times that a head was not durable");
        }
    });
}

#[test]
fn a_log_goes_with_every_mode_but_snapshot() {
    let told = Arc::new(Told::default());
    assert!(Journal::start(None, 0, 1, options(Durability::Sync), told.clone()).is_err());
    let (log, _) = MemoryLog::open(&MemoryMedium::new(), 0, &mut |_| Ok(())).unwrap();
    let log: Box<dyn LogStore> = Box::new(log);
    assert!(Journal::start(Some(log), 0, 1, options(Durability::Snapshot), told).is_err());
}
