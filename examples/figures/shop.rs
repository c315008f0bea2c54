//! What is built before it is measured: directories, users, shelves.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bookstore::{Config, Credential, Durability, Engine, NewBook, PasswordHash, PasswordParams};

use crate::Failure;
use crate::flags::Flags;

pub(crate) const TRUSTED: Credential<'static> = Credential::Trusted;
pub(crate) const PASSWORD: &str = "secret";
/// Books of one store.
pub(crate) const BOOKS: usize = 100;
/// Price of each book, in fen.
pub(crate) const PRICE: i64 = 100;
/// Copies of each book: more than can be sold.
pub(crate) const STOCK: i64 = 1_000_000_000_000;
/// Callers that build at once.
const BUILDERS: usize = 2_048;
/// Long enough that nothing of its kind happens while it is measured.
pub(crate) const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A directory of our own, removed in the end unless it is kept.
pub(crate) struct WorkDir {
    path: PathBuf,
    keep: bool,
}

impl WorkDir {
    /// In `--dir`, or else beside the program, which is in `target/`.
    pub(crate) fn new(flags: &mut Flags) -> Result<Self, Failure> {
        let parent = match flags.text("dir") {
            Some(dir) => PathBuf::from(dir),
            None => std::env::current_exe()?.parent().ok_or("the program is in no directory")?.to_path_buf(),
        };
        let path = parent.join(format!("figures-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| format!("create {}: {error}", path.display()))?;
        Ok(WorkDir { path, keep: false })
    }

    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if self.keep {
            println!("kept: {}", self.path.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("remove {}: {error}", self.path.display());
        }
    }
}

/// A config that does nothing by itself: no snapshot and no expiry while it is measured.
pub(crate) fn quiet_config(dir: &Path, durability: Durability) -> Config {
    let mut config = Config::directory(dir);
    config.durability = durability;
    config.snapshot_interval = NEVER;
    config.snapshot_journal_bytes = u64::MAX;
    config.order_ttl = NEVER;
    config
}

pub(crate) fn buyer(number: usize) -> String {
    format!("buyer-{number:07}")
}

/// The owner of the store of this number: each has its own, as one account credits one payment after the other.
pub(crate) fn seller(number: usize) -> String {
    format!("seller-{number}")
}

pub(crate) fn store(number: usize) -> String {
    format!("store-{number}")
}

pub(crate) fn book(number: usize) -> String {
    format!("book-{}", number % BOOKS)
}

/// Hashing a password by argon2id takes tens of milliseconds, so all users share one cheap hash.
pub(crate) fn cheap_hash() -> Result<PasswordHash, Failure> {
    let params = PasswordParams { memory_kib: 8, iterations: 1, lanes: 1 };
    Ok(PasswordHash::new(PASSWORD.as_bytes(), params)?)
}

/// Registers buyers 0 to `users`.
pub(crate) async fn register(engine: &Engine, users: usize, hash: PasswordHash) -> Result<(), Failure> {
    each(engine, users, move |engine, number| async move { Ok(engine.register_hashed(&buyer(number), &hash).await?) })
        .await
}

/// Registers sellers, who open a store each and fill its shelves.
pub(crate) async fn open_stores(engine: &Engine, stores: usize) -> Result<(), Failure> {
    let hash = cheap_hash()?;
    for number in 0..stores {
        engine.register_hashed(&seller(number), &hash).await?;
        engine.create_store(&seller(number), TRUSTED, &store(number)).await?;
    }
    each(engine, stores * BOOKS, |engine, number| async move {
        let id = book(number);
        let document = format!(r#"{{"id":"{id}","title":"{id}","price":{PRICE}}}"#);
        let listed = NewBook { id: &id, price: PRICE, document: &document };
        let place = number / BOOKS;
        Ok(engine.add_book(&seller(place), TRUSTED, &store(place), listed, STOCK).await?)
    })
    .await
}

/// Calls `call` with every number below `count`, many at once.
pub(crate) async fn each<F>(
    engine: &Engine,
    count: usize,
    call: impl Fn(Engine, usize) -> F + Clone + Send + Sync + 'static,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = Vec::new();
    for _ in 0..BUILDERS.min(count) {
        let (engine, next, call) = (engine.clone(), next.clone(), call.clone());
        callers.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, Failure>(());
                }
                call(engine.clone(), number).await?;
            }
        }));
    }
    for caller in callers {
        caller.await??;
    }
    Ok(())
}

/// Runs this program again, with a heap that nothing else has used.
pub(crate) fn child(command: &str, flags: &[(&str, String)]) -> Result<Child, Failure> {
    let mut program = Command::new(std::env::current_exe()?);
    program.arg(command).stdout(Stdio::piped());
    for (name, value) in flags {
        program.arg(format!("--{name}")).arg(value);
    }
    Ok(program.spawn()?)
}
