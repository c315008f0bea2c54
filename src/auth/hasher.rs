//! argon2 on the blocking pool: a few at a time, with a bounded queue. Without the bounds a burst
//! of logins takes every core and 19 MiB for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::password::{PasswordHash, PasswordParams, hash, verify};
use super::{AuthError, PasswordError};

/// How many password checks may wait, unless set.
pub const WAITERS_MAX_DEFAULT: usize = 1_024;

/// How many password checks run at once, unless set: the number of cores.
pub fn default_concurrency() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Hashes and verifies passwords beside the async threads.
///
/// Cancellation: a future that is dropped while it waits leaves the queue. One that is dropped
/// while argon2 runs keeps its place until argon2 is through, because the CPU is busy that long;
/// so callers that go away cannot make more hashes run at once than the limit.
#[derive(Debug)]
pub struct Hasher {
    params: PasswordParams,
    /// One permit for each that runs or waits.
    admitted: Arc<Semaphore>,
    /// One permit for each that runs; given in the order of asking.
    running: Arc<Semaphore>,
    /// Hashes that were begun.
    computed: Arc<AtomicU64>,
}

impl Hasher {
    /// `concurrency` hashes run at once (at least one does), `waiters_max` more may wait.
    ///
    /// # Errors
    /// [`AuthError::Password`].
    pub fn new(params: PasswordParams, concurrency: usize, waiters_max: usize) -> Result<Self, AuthError> {
        params.validate()?;
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let admitted = concurrency.saturating_add(waiters_max).min(Semaphore::MAX_PERMITS);
        Ok(Self {
            params,
            admitted: Arc::new(Semaphore::new(admitted)),
            running: Arc::new(Semaphore::new(concurrency)),
            computed: Arc::default(),
        })
    }

    /// How many hashes were computed so far.
    pub fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    /// Waits for a turn to run one hash. Dropping the turn, or the future, gives it back.
    ///
    /// # Errors
    /// [`AuthError::Busy`] at once when too many wait.
    pub async fn turn(&self) -> Result<Turn, AuthError> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| AuthError::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| AuthError::Stopped)?;
        let computed = Arc::clone(&self.computed);
        Ok(Turn { params: self.params, computed, _admitted: admitted, _running: running })
    }

    /// Waits for a turn, then hashes a new password at the set cost.
    ///
    /// # Errors
    /// As [`Hasher::turn`] and [`hash_password`](super::hash_password);
    /// [`AuthError::Stopped`] when the runtime shuts down.
    pub async fn hash(&self, password: &[u8]) -> Result<PasswordHash, AuthError> {
        self.turn().await?.hash(password).await
    }

    #[cfg(test)]
    /// Waits for a turn, then verifies a password.
    ///
    /// # Errors
    /// As [`Hasher::turn`] and [`verify_password`](super::verify_password);
    /// [`AuthError::Stopped`] when the runtime shuts down.
    pub async fn verify(&self, password: &[u8], stored: PasswordHash) -> Result<bool, AuthError> {
        self.turn().await?.verify(password, stored).await
    }
}

/// The right to run one hash now. It is separate from the hashing so that a caller who had to
/// wait can look again whether the hash is still needed, and still allowed.
#[derive(Debug)]
pub struct Turn {
    params: PasswordParams,
    computed: Arc<AtomicU64>,
    _admitted: OwnedSemaphorePermit,
    _running: OwnedSemaphorePermit,
}

impl Turn {
    /// Hashes a new password at the set cost.
    ///
    /// # Errors
    /// As [`hash_password`](super::hash_password); [`AuthError::Stopped`] when the runtime shuts
    /// down.
    pub async fn hash(self, password: &[u8]) -> Result<PasswordHash, AuthError> {
        let password = password.to_vec();
        self.run(move |params| hash(&password, params)).await
    }

    /// Verifies a password.
    ///
    /// # Errors
    /// As [`verify_password`](super::verify_password); [`AuthError::Stopped`] when the runtime
    /// shuts down.
    pub async fn verify(self, password: &[u8], stored: PasswordHash) -> Result<bool, AuthError> {
        let password = password.to_vec();
        self.run(move |_| verify(&password, &stored)).await
    }

    /// Does the work of [`Turn::verify`] for nobody. Whoever measures how long an answer takes must not learn whether
    /// there was a hash to compare with.
    ///
    /// # Errors
    /// As [`Turn::verify`].
    pub async fn verify_nobody(self, password: &[u8]) -> Result<(), AuthError> {
        let nobody = PasswordHash::of_nobody(self.params);
        self.verify(password, nobody).await.map(drop)
    }

    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(PasswordParams) -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, AuthError> {
        // The turn ends with the work, not with the waiting future. The explicit drop makes the
        // closure own all of it; else it would capture a copy of the parameters and nothing more.
        self.computed.fetch_add(1, Ordering::Relaxed);
        let task = spawn_blocking(move || {
            let outcome = work(self.params);
            drop(self);
            outcome
        });
        Ok(task.await.map_err(|_| AuthError::Stopped)??)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::super::password::tests::CHEAP;
    use super::*;

    fn hasher(concurrency: usize, waiters_max: usize) -> Hasher {
        Hasher::new(CHEAP, concurrency, waiters_max).unwrap()
    }

    #[tokio::test]
    async fn hashes_and_verifies() {
        let hasher = hasher(2, 8);
        let stored = hasher.hash(b"secret").await.unwrap();
        assert_eq!(stored.params(), CHEAP);
        assert!(hasher.verify(b"secret", stored).await.unwrap());
        assert!(!hasher.verify(b"other", stored).await.unwrap());
        assert!(matches!(hasher.hash(b"").await, Err(AuthError::Password(PasswordError::Length))));
    }

    #[test]
    fn wrong_parameters_are_refused_at_once() {
        let params = PasswordParams { lanes: 0, ..CHEAP };
        assert!(matches!(Hasher::new(params, 1, 1), Err(AuthError::Password(PasswordError::Parameters(_)))));
    }

    #[tokio::test]
    async fn more_than_the_queue_holds_is_busy_and_a_dropped_waiter_makes_room() {
        let hasher = hasher(1, 1);
        let turn = hasher.turn().await.unwrap();
        let mut waiter = Box::pin(hasher.turn());
        assert!(poll_once(waiter.as_mut()).await.is_none());
        assert!(matches!(hasher.turn().await, Err(AuthError::Busy)));
        drop(waiter);
        let mut waiter = Box::pin(hasher.turn());
        assert!(poll_once(waiter.as_mut()).await.is_none());
        drop(turn);
        assert!(waiter.await.is_ok());
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_keeps_the_place_until_the_work_is_through() {
        let hasher = hasher(1, 0);
        let (release, released) = mpsc::channel::<()>();
        let turn = hasher.turn().await.unwrap();
        let mut work = Box::pin(turn.run(move |_| {
            released.recv().unwrap();
            Ok(())
        }));
        assert!(poll_once(work.as_mut()).await.is_none());
        drop(work);
        assert!(matches!(hasher.turn().await, Err(AuthError::Busy)));
        release.send(()).unwrap();
        loop {
            match hasher.turn().await {
                Ok(_) => break,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn never_more_at_once_than_the_limit() {
        let hasher = Arc::new(hasher(3, 1_000));
        let now = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let (hasher, now, most) = (hasher.clone(), now.clone(), most.clone());
                tokio::spawn(async move {
                    let work = move |_| {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        Ok(())
                    };
                    hasher.turn().await.unwrap().run(work).await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn a_panic_in_the_work_gives_the_turn_back() {
        let hasher = hasher(1, 0);
        let turn = hasher.turn().await.unwrap();
        let outcome = turn.run::<()>(|_| panic!("a panic on purpose")).await;
        assert!(matches!(outcome, Err(AuthError::Stopped)));
        assert!(hasher.turn().await.is_ok());
    }

    /// Polls a future once.
    async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            let polled = std::pin::Pin::new(&mut future).poll(context);
            std::task::Poll::Ready(match polled {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
