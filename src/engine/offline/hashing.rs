//! Passwords in clear are hashed on threads of their own while the rows go on: a hash takes tens of milliseconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::auth::{PasswordError, PasswordHash, PasswordParams};
use crate::domain::AccountNo;

/// Passwords that wait for a thread; who brings more waits.
const WAITING_MAX: usize = 256;

/// A hash that is ready.
pub(super) type Hashed = (AccountNo, Result<PasswordHash, PasswordError>);

/// Threads that hash. They start with the first password. Dropping it leaves undone what waits.
#[derive(Debug)]
pub(super) struct Hashing {
    params: PasswordParams,
    threads_max: usize,
    running: Option<Running>,
    waiting: u64,
}

#[derive(Debug)]
struct Running {
    jobs: Option<SyncSender<(AccountNo, Box<str>)>>,
    results: Receiver<Hashed>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Hashing {
    pub(super) fn new(params: PasswordParams, threads_max: usize) -> Self {
        Hashing { params, threads_max: threads_max.max(1), running: None, waiting: 0 }
    }

    /// Passwords that have no hash yet.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Hands a password over; waits if too many wait already.
    pub(super) fn push(&mut self, account: AccountNo, password: &str) {
        let (params, threads) = (self.params, self.threads_max);
        let running = self.running.get_or_insert_with(|| Running::start(params, threads));
        if let Some(jobs) = &running.jobs
            && jobs.send((account, password.into())).is_ok()
        {
            self.waiting += 1;
        }
    }

    /// A hash that is ready by now.
    pub(super) fn ready(&mut self) -> Option<Hashed> {
        let hashed = self.running.as_ref()?.results.try_recv().ok()?;
        self.waiting -= 1;
        Some(hashed)
    }

    /// The next hash; waits for it. `None` when none is missing any more.
    pub(super) fn next(&mut self) -> Option<Hashed> {
        if self.waiting == 0 {
            return None;
        }
        let hashed = self.running.as_ref()?.results.recv().ok()?;
        self.waiting -= 1;
        Some(hashed)
    }
}

impl Running {
    fn start(params: PasswordParams, threads: usize) -> Running {
        let (jobs, work) = sync_channel::<(AccountNo, Box<str>)>(WAITING_MAX);
        let (done, results) = channel();
        let work = Arc::new(Mutex::new(work));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..threads)
            .map(|_| {
                let (work, done, stop) = (work.clone(), done.clone(), stop.clone());
                thread::spawn(move || hash(&work, &done, &stop, params))
            })
            .collect();
        Running { jobs: Some(jobs), results, threads, stop }
    }
}

fn hash(
    work: &Mutex<Receiver<(AccountNo, Box<str>)>>,
    done: &Sender<Hashed>,
    stop: &AtomicBool,
    params: PasswordParams,
) {
    loop {
        // The lock is held while this waits: whoever has it takes the next password, the others wait for the lock.
        let job = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((account, password)) = job else { return };
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if done.send((account, PasswordHash::new(password.as_bytes(), params))).is_err() {
            return;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing to say any more.
            let _ = thread.join();
        }
    }
}
