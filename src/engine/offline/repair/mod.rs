//! The repair of a data directory that an engine refuses to open: what is damaged is cut out, down to a state that was
//! once the shop's, and nothing is destroyed.
//!
//! # Layout
//! - `plan`: reads everything and decides; `rows`: what becomes of orders at rest. `report`: what is told.
//!
//! A repair is first carried out on an overlay, in memory, and recovered from there: so what it is going to be is known
//! before a byte is changed, and one that would not lead to a shop that opens is refused. On the disk each step leaves
//! a directory that an engine refuses, or that it opens as the shop which the repair ends in; so a repair that was cut
//! short is simply begun again. `orders.redb` comes first: while the journal is whole behind its hole, it tells what is
//! ahead.

mod plan;
mod report;
mod rows;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use report::{Lost, RepairReport, RepairStep};

use self::plan::{Plan, RowWork};
use super::check::{self, CheckError};
use crate::cold::{ColdError, Orders};
use crate::disk::{Disk, OverlayDisk, RealDisk};
use crate::engine::{OpenError, Storage, open};

const CACHE_BYTES: usize = 64 << 20;

/// Why nothing was repaired. What was done before the error stays done and is sound; the repair may be begun again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// An engine has it open, or a check or another repair. End that process.
    #[error("{dir} is in use by process {holder}, or a check or a repair of it is running")]
    Locked {
        /// The directory.
        dir: String,
        /// The process id in the lock file, or `unknown`. A check, and a repair that is only planned, write none.
        holder: String,
    },
    /// There is neither a snapshot nor a journal in it.
    #[error("{0} holds no data to repair")]
    NoData(String),
    /// Another version of the program made it. Nothing is known of what it lacks; repair it with that version.
    #[error("the data was made by another version of the program: {0}")]
    OtherVersion(String),
    /// Something cannot be read or written. If the disk itself is broken, copy what it still gives to another one, and
    /// repair the copy.
    #[error("{0}")]
    Unreadable(String),
    /// Somebody changed the data after the repair was planned, which can be only where no lock file was to hold. Nothing
    /// was done. Plan it anew.
    #[error("{0} was changed after the repair was planned; nothing was done, begin again")]
    Changed(String),
    /// What is missing is nowhere in the directory. Restore a backup.
    #[error("it cannot be repaired: {0}")]
    Impossible(String),
}

fn unreadable<T>(what: &str, error: &dyn std::fmt::Display) -> Result<T, RepairError> {
    Err(RepairError::Unreadable(format!("{what}: {error}")))
}

/// A repair that is planned. It holds the directory's lock, so that what it tells stays true until it is carried out. If
/// there is no lock file, as in a restored backup, planning makes none: then it is planned again before it is carried
/// out, and nothing is done if that comes to something else.
#[derive(Debug)]
pub struct Repair {
    disk: Arc<dyn Disk>,
    plan: Plan,
    lock: Option<File>,
    /// A directory of the machine, where there is a lock to take.
    locked_dir: Option<PathBuf>,
}

impl Repair {
    /// Reads all data, and finds out what a repair would do and what it would cost. Changes no byte. Must be called
    /// within a tokio runtime.
    ///
    /// Dropping the future lets the reading go on in the background, which harms nobody.
    ///
    /// # Errors
    /// [`RepairError`] if nothing can be said of the data. That nothing can be saved is told by
    /// [`RepairReport::refused`].
    pub async fn plan(storage: &Storage) -> Result<Repair, RepairError> {
        let (disk, dir, lock): (Arc<dyn Disk>, &Path, _) = match storage {
            Storage::Directory(dir) => (Arc::new(RealDisk), dir, check::lock(dir).map_err(of_check)?),
            Storage::Disk(disk, dir) => (disk.clone(), dir, None),
            Storage::Memory => return Err(RepairError::NoData("memory".to_owned())),
        };
        let locked_dir = matches!(storage, Storage::Directory(_)).then(|| dir.to_owned());
        let (reading, path) = (disk.clone(), dir.to_owned());
        let planned = tokio::task::spawn_blocking(move || plan::plan(&reading, &path)).await;
        let plan = planned.unwrap_or_else(|error| unreadable("the repair was cut short", &error))?;
        let mut repair = Repair { disk, plan, lock, locked_dir };
        repair.try_it().await?;
        Ok(repair)
    }

    /// What is going to be done, and what it costs.
    pub fn report(&self) -> &RepairReport {
        &self.plan.report
    }

    /// Repairs, and returns the report with the files that keep what was cut. May be killed at any point and begun
    /// again. Dropping the future does not stop it.
    ///
    /// # Errors
    /// [`RepairError`]. Nothing is lost then that was not told before.
    pub async fn carry_out(self) -> Result<RepairReport, RepairError> {
        if let Some(why) = self.plan.report.refused {
            return Err(RepairError::Impossible(why));
        }
        let work = move || {
            let Repair { disk, plan, lock, locked_dir } = self;
            let lock = match (lock, locked_dir) {
                (None, Some(dir)) => {
                    let lock = open::lock(&dir).map_err(of_open)?;
                    if !plan::plan(&disk, &dir)?.does_what(&plan) {
                        return Err(RepairError::Changed(dir.display().to_string()));
                    }
                    Some(lock)
                }
                (Some(lock), Some(dir)) => {
                    // Whoever is kept out from now on is told by whom.
                    let path = dir.join("lock");
                    let written = std::fs::write(&path, std::process::id().to_string());
                    written.or_else(|error| unreadable(&path.display().to_string(), &error))?;
                    Some(lock)
                }
                (lock, None) => lock,
            };
            let kept = carry_out(&disk, &plan)?;
            drop(lock);
            Ok(RepairReport { kept, ..plan.report })
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| unreadable("the repair was cut short", &error))
    }

    /// Repairs in memory, recovers from there and counts.
    async fn try_it(&mut self) -> Result<(), RepairError> {
        if self.plan.report.refused.is_some() {
            return Ok(());
        }
        let overlay: Arc<dyn Disk> = Arc::new(OverlayDisk::new(self.disk.clone()));
        carry_out(&overlay, &self.plan)?;
        let opened = check::open_in_memory(overlay, &self.plan.dir, |_| {}).await;
        let engine = match opened {
            Ok(engine) => engine,
            Err(OpenError::Damaged(what)) => {
                self.plan.report.steps.clear();
                self.plan.report.refused =
                    Some(format!("what is left does not fit together: {what}; restore a backup"));
                return Ok(());
            }
            Err(OpenError::OtherVersion(what)) => return Err(RepairError::OtherVersion(what)),
            Err(error) => return unreadable("recovery", &error),
        };
        let (head, promised) = (engine.stats().journal_head, self.plan.report.last_lsn);
        if head < promised {
            self.plan.report.steps.clear();
            self.plan.report.refused = Some(format!(
                "events up to {promised} can be read, but what is left would lead to event {head} only; restore a backup"
            ));
            return Ok(());
        }
        let audit = engine.audit().await.or_else(|error| unreadable("the audit", &error))?;
        self.plan.report.audit = Some(audit);
        for (number, name) in std::mem::take(&mut self.plan.named) {
            let known = engine.core.system.accounts.name(number.0).map(|name| name.to_string());
            let name = if name.is_empty() { known } else { Some(name) };
            self.plan.report.lost.accounts.extend(name);
        }
        Ok(())
    }
}

fn of_check(error: CheckError) -> RepairError {
    match error {
        CheckError::Locked { dir, holder } => RepairError::Locked { dir, holder },
        CheckError::NoData(dir) => RepairError::NoData(dir),
        CheckError::OtherVersion(what) => RepairError::OtherVersion(what),
        CheckError::Unreadable(why) => RepairError::Unreadable(why),
    }
}

fn of_open(error: OpenError) -> RepairError {
    match error {
        OpenError::Locked { dir, holder } => RepairError::Locked { dir, holder },
        error => RepairError::Unreadable(error.to_string()),
    }
}

/// Carries a plan out. Returns the files that keep what is cut.
fn carry_out(disk: &Arc<dyn Disk>, plan: &Plan) -> Result<Vec<PathBuf>, RepairError> {
    let mut kept = Vec::new();
    let dir = &plan.dir;
    match &plan.rows {
        None => {}
        Some(RowWork::Mend(changes, upto)) => {
            let mended = Orders::open(&**disk, &dir.join("orders.redb"), CACHE_BYTES).and_then(|orders| {
                orders.mend(changes, *upto)?;
                orders.close()
            });
            mended.or_else(|error: ColdError| unreadable("orders.redb", &error))?;
        }
        Some(RowWork::Anew(old)) => {
            let path = dir.join("orders.redb");
            if *old {
                kept.push(set_aside(&**disk, dir, &path)?);
            }
            let made = Orders::open(&**disk, &path, CACHE_BYTES).and_then(|orders| orders.close());
            made.or_else(|error: ColdError| unreadable("orders.redb", &error))?;
        }
    }
    for snapshot in &plan.snapshots {
        kept.push(set_aside(&**disk, dir, snapshot)?);
    }
    for change in &plan.journal {
        let changed = change.carry_out(&**disk, &dir.join("journal"));
        kept.extend(changed.or_else(|error| unreadable("the journal", &error))?);
    }
    Ok(kept)
}

/// Gives a file a name that no engine looks at, durably.
fn set_aside(disk: &dyn Disk, dir: &Path, file: &Path) -> Result<PathBuf, RepairError> {
    let failed = |error: std::io::Error| RepairError::Unreadable(format!("set {} aside: {error}", file.display()));
    let names = disk.list(dir).map_err(failed)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut aside = format!("{name}.damaged");
    let mut number = 1;
    while names.contains(&aside) {
        number += 1;
        aside = format!("{name}.damaged.{number}");
    }
    let aside = dir.join(aside);
    disk.rename(file, &aside).map_err(failed)?;
    disk.sync_dir(dir).map_err(failed)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Credential;
    use crate::disk::OpenMode;
    use crate::engine::{Config, Engine};
    use crate::journal::Change;

    /// A plan that takes out what it says it keeps opens without complaint, from the snapshot. It is refused all the
    /// same.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_plan_that_leads_to_less_than_it_promises_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        let engine = Engine::open(Config::directory(&dir)).await.unwrap();
        engine.register("ann", "pw").await.unwrap();
        engine.snapshot().await.unwrap();
        engine.add_funds("ann", Credential::Trusted, 1).await.unwrap();
        let head = engine.stats().journal_head;
        drop(engine);
        // It ends in the background.
        let mut repair = loop {
            match Repair::plan(&Storage::Directory(dir.clone())).await {
                Err(RepairError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                planned => break planned.unwrap(),
            }
        };
        assert_eq!((repair.report().last_lsn, &repair.report().refused), (head, &None));
        for name in RealDisk.list(&dir.join("journal")).unwrap() {
            let file = dir.join("journal").join(name);
            repair.plan.journal.push(Change::Aside { file });
        }
        repair.try_it().await.unwrap();
        let why = repair.report().refused.clone().unwrap();
        assert!(why.contains(&format!("events up to {head} can be read")), "{why}");
        assert!(repair.report().steps.is_empty());
        assert!(matches!(repair.carry_out().await, Err(RepairError::Impossible(_))));
        assert!(RealDisk.open(&dir.join("journal/00000000000000000001.seg"), OpenMode::Read).is_ok());
    }
}
