//! `/admin/backup`: the service copies itself below a directory that its operator has set, and tells meanwhile how far it
//! is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use serde_json::json;

use super::answer::{Failure, Reply};
use super::call::{Call, Handled};
use super::shared::Phase;
use crate::engine::{BackupError, BackupReport, Progress};
use crate::offline::{BACKUP_NAME_PREFIX, newest_backup};
use crate::trace;

/// How far the backup under way is; none if there is none.
pub(super) type UnderWay = Arc<Mutex<Option<Progress>>>;

/// Taken away when the backup ends, however it does.
struct Shown(UnderWay);

impl Drop for Shown {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Makes a backup, and answers when it is whole. A client that goes away does not end it, a drain does.
pub(super) async fn make(call: Call<'_>) -> Handled {
    let shared = call.shared;
    let Some(parent) = &shared.config.backup_dir else {
        let message = "there is no place for backups: start the service with --backup-dir DIR";
        return Ok(Reply::failed(501, &message, Failure::Nothing));
    };
    let engine = shared.engine.clone();
    // Whoever reads it may stand elsewhere.
    let parent = std::path::absolute(parent).unwrap_or_else(|_| parent.clone());
    let target = parent.join(name(SystemTime::now(), engine.stats().journal_head));
    let under_way = shared.backup.clone();
    let work = tokio::spawn(trace::carried(async move {
        let shown = under_way.clone();
        let progress = move |at| *shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        let made = engine.backup_with_progress(&target, progress).await;
        match &made {
            Ok(made) => {
                tracing::info!(dir = %made.dir.display(), lsn = made.lsn, bytes = made.bytes, "a backup was made");
                drop(Shown(under_way));
            }
            // The other one goes on.
            Err(BackupError::Running) => {}
            Err(error) => {
                tracing::error!(%error, dir = %target.display(), "a backup failed");
                drop(Shown(under_way));
            }
        }
        made
    }));
    let cut = work.abort_handle();
    let made = tokio::select! {
        made = work => made.unwrap_or(Err(BackupError::CutShort)),
        () = shared.gate.reached(Phase::Draining) => {
            cut.abort();
            Err(BackupError::CutShort)
        }
    };
    match made {
        Ok(made) => Ok(Reply::ok_body(body(&made))),
        Err(BackupError::Engine(error)) => Err(error),
        Err(BackupError::CutShort) => {
            Ok(Reply::failed(503, &"the service ends; what was made of the backup is being removed", Failure::Nothing))
        }
        Err(error) => Ok(Reply::failed(code(&error), &error, Failure::Nothing)),
    }
}

/// Looks for the newest backup that is in this directory, on a thread of its own: until it is found none is told.
pub(super) fn look(parent: PathBuf) -> Arc<OnceLock<SystemTime>> {
    let found = Arc::new(OnceLock::new());
    let sought = found.clone();
    let look = move || newest_backup(&parent).map(|begun| sought.set(begun));
    // Without a thread nothing is found, and the alert about old backups says so.
    let _ = std::thread::Builder::new().name("backups".to_owned()).spawn(look);
    found
}

/// How far the backup under way is.
pub(super) fn progress(call: Call<'_>) -> Reply {
    let at = *call.shared.backup.lock().unwrap_or_else(PoisonError::into_inner);
    let body = json!({
        "code": 200,
        "message": "ok",
        "running": at.is_some(),
        "stage": at.map(|at| at.stage),
        "done": at.map(|at| at.done),
        "total": at.and_then(|at| at.total),
    });
    Reply::ok_body(body.to_string())
}

/// The directory of a backup: they sort by time. The number is the newest event when it was begun; what came meanwhile is in
/// it as well.
fn name(now: SystemTime, lsn: u64) -> PathBuf {
    let time = humantime::format_rfc3339_millis(now).to_string().replace(['-', ':'], "");
    PathBuf::from(format!("{BACKUP_NAME_PREFIX}{time}-{lsn:012}"))
}

fn body(made: &BackupReport) -> String {
    let body = json!({
        "code": 200,
        "message": "ok",
        "path": made.dir.display().to_string(),
        "lsn": made.lsn,
        "files": made.files,
        "bytes": made.bytes,
        "damaged": made.damaged,
        "took_ms": made.took.as_millis() as u64,
    });
    body.to_string()
}

fn code(error: &BackupError) -> u16 {
    match error {
        BackupError::Running => 409,
        BackupError::InMemory => 501,
        BackupError::NoRoom(_) => 507,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_sort_by_time() {
        let at = |seconds| name(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), 42);
        assert_eq!(at(1_700_000_000), PathBuf::from("backup-20231114T221320.000Z-000000000042"));
        assert!(at(1_700_000_000) < at(1_800_000_000));
        // Nor have two in one second of an idle shop the same name.
        let later = |millis| name(SystemTime::UNIX_EPOCH + Duration::from_millis(millis), 42);
        assert!(later(5_001) < later(5_002) && later(5_999) < later(6_000));
    }
}
