//! What is acknowledged is there: after a reopen, a failing disk, a loss of power. What is damaged
//! is told as damage, never given out.
#![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

use std::fs;
use std::pin::{Pin, pin};
use std::task::Poll;

use proptest::prelude::*;
use redb::StorageBackend;
use tokio::runtime;

use super::backend::{Backend, Health};
use super::documents::WAITING_BYTES_MAX;
use super::test_disk::TestDisk;
use super::*;
use crate::disk::{Disk, OpenMode, RealDisk};
use crate::domain::DocumentHash;

const CACHE_BYTES: usize = 1 << 20;
const PATH: &str = "/data/documents.redb";

fn open(disk: &Arc<TestDisk>) -> Result<Documents, ColdError> {
    Documents::open(disk.clone() as Arc<dyn Disk>, PATH.as_ref(), CACHE_BYTES)
}

/// A document that compresses to nothing and differs for each number.
fn document(number: u64, bytes: usize) -> Vec<u8> {
    let mut document = vec![0; bytes];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut document);
    document
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

/// Begins all, then waits for all.
async fn together<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut begun = Vec::new();
    for future in futures {
        let mut future = Box::pin(future);
        begun.push(match poll_once(future.as_mut()).await {
            Some(output) => Ok(output),
            None => Err(future),
        });
    }
    let mut outputs = Vec::new();
    for future in begun {
        outputs.push(match future {
            Ok(output) => output,
            Err(future) => future.await,
        });
    }
    outputs
}

#[tokio::test]
async fn documents_come_back_and_survive_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("documents.redb");
    let put: Vec<_> = [0, 1, 100, 5_000, 3_000_000].map(|bytes| document(9, bytes)).into();
    let documents = Documents::open(Arc::new(RealDisk), &path, CACHE_BYTES).unwrap();
    for document in &put {
        let hash = documents.put(document.clone()).await.unwrap();
        assert_eq!(hash, DocumentHash::of(document));
        assert_eq!(documents.get(&hash).await.unwrap().as_ref(), Some(document));
    }
    documents.close().unwrap();

    let documents = Documents::open(Arc::new(RealDisk), &path, CACHE_BYTES).unwrap();
    for document in &put {
        let hash = DocumentHash::of(document);
        assert_eq!(documents.get_blocking(&hash).unwrap().as_ref(), Some(document));
    }
    assert_eq!(documents.get_blocking(&DocumentHash([7; 32])).unwrap(), None);
    drop(documents);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
}

#[tokio::test]
async fn the_bytes_may_be_held_by_anything() {
    let documents = open(&Arc::default()).unwrap();
    let shared: Arc<[u8]> = Arc::from(&b"shared"[..]);
    assert_eq!(documents.put(shared).await.unwrap(), DocumentHash::of(b"shared"));
    assert_eq!(documents.put("text").await.unwrap(), DocumentHash::of(b"text"));
}

#[tokio::test]
async fn a_document_that_is_stored_already_is_not_written_again() {
    let disk = Arc::new(TestDisk::default());
    let documents = open(&disk).unwrap();
    let hash = documents.put(document(1, 100_000)).await.unwrap();
    let changes = disk.changes();
    assert_eq!(documents.put(document(1, 100_000)).await.unwrap(), hash);
    assert_eq!(disk.changes(), changes);
    assert_eq!(documents.commits(), 1);
}

#[tokio::test]
async fn all_that_wait_share_a_commit() {
    let disk = Arc::new(TestDisk::default());
    let documents = open(&disk).unwrap();
    disk.hold_syncs();
    // Twice each: the second of a pair finds the first in the same transaction.
    let mut puts: Vec<_> = (0..64).map(|number| Box::pin(documents.put(document(number / 2, 10_000)))).collect();
    for put in &mut puts {
        assert!(poll_once(put.as_mut()).await.is_none());
    }
    disk.release_syncs();
    for (number, put) in puts.into_iter().enumerate() {
        let hash = put.await.unwrap();
        let document = document(number as u64 / 2, 10_000);
        assert_eq!(documents.get(&hash).await.unwrap(), Some(document));
    }
    // The writer took some at once, and all the others after that.
    assert!(documents.commits() <= 2, "{} commits", documents.commits());
}

#[tokio::test]
async fn a_dropped_put_is_stored_all_the_same() {
    let disk = Arc::new(TestDisk::default());
    let documents = open(&disk).unwrap();
    disk.hold_syncs();
    let mut first = Box::pin(documents.put(document(1, 100)));
    let mut second = Box::pin(documents.put(document(2, 100)));
    assert!(poll_once(first.as_mut()).await.is_none());
    assert!(poll_once(second.as_mut()).await.is_none());
    drop((first, second));
    disk.release_syncs();
    documents.close().unwrap();
    let documents = open(&disk).unwrap();
    for number in [1, 2] {
        let document = document(number, 100);
        let hash = DocumentHash::of(&document);
        assert_eq!(documents.get(&hash).await.unwrap(), Some(document));
    }
}

#[tokio::test]
async fn what_waits_is_bounded() {
    let disk = Arc::new(TestDisk::default());
    let bounded = Documents::open_bounded(disk.clone(), PATH.as_ref(), CACHE_BYTES, 10_000);
    let documents = bounded.unwrap();
    disk.hold_syncs();
    // Longer than the bound: it takes all of it.
    let mut large = pin!(documents.put(document(1, 50_000)));
    assert!(poll_once(large.as_mut()).await.is_none());
    let mut dropped = Box::pin(documents.put(document(2, 1)));
    assert!(poll_once(dropped.as_mut()).await.is_none());
    drop(dropped);
    let mut waiting = pin!(documents.put(document(3, 1)));
    assert!(poll_once(waiting.as_mut()).await.is_none());
    disk.release_syncs();
    large.await.unwrap();
    waiting.await.unwrap();
    let never_queued = DocumentHash::of(&document(2, 1));
    assert_eq!(documents.get(&never_queued).await.unwrap(), None);
    const { assert!(WAITING_BYTES_MAX < u32::MAX as usize) };
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let disk = Arc::new(TestDisk::default());
    let documents = open(&disk).unwrap();
    let hash = documents.put(document(1, 100)).await.unwrap();
    disk.hold_syncs();
    let mut queued = pin!(documents.put(document(2, 100)));
    assert!(poll_once(queued.as_mut()).await.is_none());
    disk.release_syncs();
    documents.close().unwrap();
    assert_eq!(queued.await.unwrap(), DocumentHash::of(&document(2, 100)));
    assert!(matches!(documents.put(document(3, 100)).await, Err(ColdError::Closed)));
    assert!(matches!(documents.get(&hash).await, Err(ColdError::Closed)));
    documents.close().unwrap();
}

#[tokio::test]
async fn an_overlong_document_is_refused() {
    let documents = open(&Arc::default()).unwrap();
    // Zeros that nobody touches cost no memory.
    let long = vec![0; DOCUMENT_BYTES_MAX + 1];
    assert!(matches!(documents.put(long).await, Err(ColdError::TooLarge { .. })));
}

#[tokio::test]
async fn after_a_failed_write_or_sync_every_call_fails_and_the_disk_is_left_alone() {
    let mut failures = 0;
    for changes in 1..30 {
        let disk = Arc::new(TestDisk::default());
        let documents = open(&disk).unwrap();
        let before = documents.put(document(1, 10_000)).await.unwrap();
        disk.fail_after(changes);
        let put = documents.put(document(2, 10_000)).await;
        let Err(error) = put else {
            continue;
        };
        failures += 1;
        assert!(matches!(error, ColdError::Failed { .. }), "{error}");
        assert!(error.to_string().contains("failed on purpose"), "{error}");
        for error in [
            documents.put(document(3, 10_000)).await.unwrap_err(),
            documents.get(&before).await.unwrap_err(),
            documents.close().unwrap_err(),
        ] {
            assert!(error.to_string().contains("failed on purpose"), "{error}");
        }
        drop(documents);
        assert_eq!(disk.changes_after_failure(), 0);
    }
    assert!(failures >= 3, "a commit has two syncs and some writes");
}

/// redb has a latch of its own, but not for the writes by which it makes room in its cache.
#[test]
fn the_backend_touches_nothing_after_a_failure() {
    let disk = TestDisk::default();
    let file = disk.open(PATH.as_ref(), OpenMode::CreateNew).unwrap();
    let health = Arc::new(Health::default());
    let backend = Backend::new(file, Arc::clone(&health));
    backend.write(0, b"abc").unwrap();
    backend.read(0, &mut [0; 3]).unwrap();
    disk.fail_after(1);
    assert!(backend.write(3, b"d").is_err());
    assert!(backend.write(3, b"d").is_err());
    assert!(backend.sync_data().is_err());
    assert!(backend.set_len(9).is_err());
    assert!(backend.read(0, &mut [0; 3]).is_err());
    assert_eq!(disk.changes_after_failure(), 0);
    assert!(health.check().unwrap_err().to_string().contains("write: failed on purpose"));
}

#[test]
fn reading_past_the_end_is_a_failure() {
    let disk = TestDisk::default();
    let file = disk.open(PATH.as_ref(), OpenMode::CreateNew).unwrap();
    let health = Arc::new(Health::default());
    let backend = Backend::new(file, Arc::clone(&health));
    backend.write(0, b"abc").unwrap();
    assert!(backend.read(0, &mut [0; 4]).is_err());
    assert!(health.check().is_err());
}

/// Pins quick repair: without it the open after a crash walks the whole file.
#[tokio::test]
async fn the_open_after_a_crash_does_not_walk_the_file() {
    let disk = Arc::new(TestDisk::default());
    let documents = open(&disk).unwrap();
    let puts = (0..2_000).map(|number| documents.put(document(number, 2_000)));
    assert!(together(puts.collect()).await.iter().all(Result::is_ok));
    let disk = Arc::new(disk.after_power_loss(1));
    drop(documents);
    let opened = open(&disk).unwrap();
    assert!(!opened.repaired());
    let document = document(1_999, 2_000);
    let hash = DocumentHash::of(&document);
    assert_eq!(opened.get(&hash).await.unwrap(), Some(document));
}

#[tokio::test]
async fn all_of_a_batch_hear_of_the_failure() {
    let disk = Arc::new(TestDisk::default());
    let documents = open(&disk).unwrap();
    disk.hold_syncs();
    let mut puts: Vec<_> = (0..10).map(|number| Box::pin(documents.put(document(number, 100)))).collect();
    for put in &mut puts {
        assert!(poll_once(put.as_mut()).await.is_none());
    }
    disk.fail_after(1);
    disk.release_syncs();
    for put in puts {
        assert!(matches!(put.await, Err(ColdError::Failed { .. })));
    }
}

#[tokio::test]
async fn a_failed_read_is_final_too() {
    let disk = Arc::new(TestDisk::default());
    let hash = open(&disk).unwrap().put(document(1, 100_000)).await.unwrap();
    let documents = Documents::open(disk.clone(), PATH.as_ref(), 0).unwrap();
    disk.fail_reads();
    assert!(matches!(documents.get(&hash).await, Err(ColdError::Failed { .. })));
    assert!(matches!(documents.put(document(2, 1)).await, Err(ColdError::Failed { .. })));
}

#[test]
fn foreign_and_empty_files_are_refused_and_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("documents.redb");
    for content in [&b""[..], b"x", &[7; 100_000]] {
        fs::write(&path, content).unwrap();
        let error = Documents::open(Arc::new(RealDisk), &path, CACHE_BYTES).unwrap_err();
        assert!(matches!(error, ColdError::Open { .. }));
        assert!(error.to_string().contains("documents.redb"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    let missing = dir.path().join("none/documents.redb");
    assert!(Documents::open(Arc::new(RealDisk), &missing, CACHE_BYTES).is_err());
}

#[tokio::test]
async fn a_damaged_document_is_told_and_mended_by_the_same_document() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("documents.redb");
    let documents = Documents::open(Arc::new(RealDisk), &path, CACHE_BYTES).unwrap();
    let hash = documents.put(document(1, 500_000)).await.unwrap();
    let other = documents.put(document(2, 500_000)).await.unwrap();
    documents.close().unwrap();

    let mut bytes = fs::read(&path).unwrap();
    let needle = &document(1, 500_000)[250_000..250_032];
    let at = bytes.windows(32).position(|window| window == needle).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();

    let documents = Documents::open(Arc::new(RealDisk), &path, CACHE_BYTES).unwrap();
    assert!(matches!(documents.get(&hash).await, Err(ColdError::Damaged { .. })));
    assert_eq!(documents.get(&other).await.unwrap(), Some(document(2, 500_000)));
    documents.put(document(1, 500_000)).await.unwrap();
    assert_eq!(documents.get(&hash).await.unwrap(), Some(document(1, 500_000)));
}

/// Pages that hold redb's own structure: it may panic over them, but no wrong bytes and no panic
/// may leave this room.
#[test]
fn damage_anywhere_never_gives_out_wrong_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("documents.redb");
    let put: Vec<_> = (0..50).map(|number| document(number, 200)).collect();
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    let documents = Documents::open(Arc::new(RealDisk), &path, CACHE_BYTES).unwrap();
    runtime.block_on(async {
        for document in &put {
            documents.put(document.clone()).await.unwrap();
        }
    });
    documents.close().unwrap();
    let sound = fs::read(&path).unwrap();
    let written = sound.chunks(4_096).enumerate().filter(|(_, page)| page.iter().any(|b| *b != 0));
    let mut noticed = 0;
    for (page, _) in written {
        for at in [0, 1, 4, 9, 64, 200, 2_000] {
            let mut bytes = sound.clone();
            bytes[page * 4_096 + at] ^= 0xff;
            fs::write(&path, bytes).unwrap();
            let Ok(documents) = Documents::open(Arc::new(RealDisk), &path, CACHE_BYTES) else {
                noticed += 1;
                continue;
            };
            for document in &put {
                match documents.get_blocking(&DocumentHash::of(document)) {
                    Ok(Some(found)) => assert_eq!(&found, document),
                    // A damaged key makes its document missing: the caller knows that it was put.
                    Ok(None) | Err(_) => noticed += 1,
                }
            }
        }
    }
    assert!(noticed > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The disk fails at any operation, then the power is lost, and again during the recovery:
    /// every acknowledged document is there.
    #[test]
    fn what_was_acknowledged_survives_a_loss_of_power(
        changes in 1u64..150,
        changes_in_recovery in 1u64..15,
        seed: u64,
        batch in 1u64..5,
    ) {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        let disk = Arc::new(TestDisk::default());
        disk.fail_after(changes);
        let mut acknowledged = Vec::new();
        if let Ok(documents) = open(&disk) {
            runtime.block_on(async {
                for round in 0..12 {
                    let numbers = round * batch..(round + 1) * batch;
                    let puts = numbers.clone().map(|number| documents.put(document(number, 9_000)));
                    let outcomes = together(puts.collect()).await;
                    let stored = numbers.zip(outcomes).filter(|(_, outcome)| outcome.is_ok());
                    acknowledged.extend(stored.map(|(number, _)| number));
                }
            });
        }
        prop_assert!(disk.changes_after_failure() == 0);

        let disk = Arc::new(disk.after_power_loss(seed));
        disk.fail_after(changes_in_recovery);
        drop(open(&disk));

        let disk = Arc::new(disk.after_power_loss(seed ^ 1));
        let documents = open(&disk).unwrap();
        for number in acknowledged {
            let document = document(number, 9_000);
            let found = documents.get_blocking(&DocumentHash::of(&document)).unwrap();
            prop_assert_eq!(found, Some(document));
        }
        runtime.block_on(documents.put(document(1_000, 9_000))).unwrap();
    }
}
