//! `bookstore backup`, `verify` and `restore`.

use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Args;
use serde_json::Value;

use super::args::duration;
use super::check::told_of;
use super::exit::{Exit, scarce};
use super::progress::{ProgressLines, not_printed, print, put, say};
use super::signals::Asked;
use crate::engine::offline::{VerifyReport, backup, restore, verify};
use crate::engine::{BackupError, BackupReport, Progress};
use crate::http::client::{Answered, Client, Service};

/// Between two looks at how far the service is.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Flags of `backup`.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "bookstore backup [OPTIONS] --url <URL>\n       bookstore backup [OPTIONS] --data-dir <DIR> --to <TARGET>"
)]
pub(super) struct BackupArgs {
    /// The admin port of a running service, as in http://127.0.0.1:5001; it writes to its --backup-dir
    #[arg(long, value_name = "URL", required_unless_present = "data_dir", conflicts_with = "data_dir")]
    url: Option<String>,
    /// PEM file with the certificate of who signed the service's, for an https URL
    #[arg(long, env = "BOOKSTORE_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// File with the token of operators
    #[arg(long, env = "BOOKSTORE_ADMIN_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Time for the whole backup of a running service
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = duration)]
    timeout: Duration,
    /// A data directory that no service has open
    #[arg(long, value_name = "DIR", requires = "to")]
    data_dir: Option<PathBuf>,
    /// The directory to make, with --data-dir
    #[arg(long, value_name = "TARGET", requires = "data_dir")]
    to: Option<PathBuf>,
    /// Say nothing but the path of the backup
    #[arg(long, short)]
    quiet: bool,
}

/// Flags of `verify`.
#[derive(Debug, Clone, Args)]
pub(super) struct VerifyArgs {
    /// The backup
    #[arg(value_name = "BACKUP")]
    dir: PathBuf,
    /// Say nothing but what is wrong
    #[arg(long, short)]
    quiet: bool,
}

/// Flags of `restore`.
#[derive(Debug, Clone, Args)]
pub(super) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "BACKUP")]
    dir: PathBuf,
    /// The data directory to make; it must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Say nothing
    #[arg(long, short)]
    quiet: bool,
}

/// Makes a backup and prints where it is.
pub(super) fn run(args: &BackupArgs) -> Result<(), Exit> {
    if let (Some(dir), Some(to)) = (&args.data_dir, &args.to) {
        let asked = Asked::listen().map_err(|error| Exit::failure(scarce("cannot listen for signals", &error)))?;
        let made = backup(dir, to, &mut until_asked(args.quiet, &asked));
        let report = made.map_err(|error| not_done("no backup", &error, &asked))?;
        if !args.quiet {
            say(&made_of(&report));
        }
        return put_place(&report.dir.display().to_string());
    }
    let url = args.url.as_deref().unwrap_or_default();
    let service = Service::parse(url, args.tls_ca.as_deref()).map_err(Exit::failure)?;
    let token = args.token_file.as_ref().map(|path| token(path)).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::failure(scarce("cannot start the runtime", &error)))?;
    let made = runtime.block_on(ask(args, service, token))?;
    put_place(&made)
}

/// Prints where the backup is. It is there, whatever becomes of that.
fn put_place(made: &str) -> Result<(), Exit> {
    print(&format!("{made}\n")).map_err(|error| {
        let why = not_printed(&error).why;
        Exit::failure(format!("the backup is made, in {made}, but its place could not be told: {why}"))
    })
}

fn token(path: &Path) -> Result<String, Exit> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| Exit::failure(format!("--token-file {}: {error}", path.display())))?;
    Ok(text.trim().to_owned())
}

/// Has a service make a backup, and shows how far it is on another connection. Gives the path at the service.
async fn ask(args: &BackupArgs, service: Service, token: Option<String>) -> Result<String, Exit> {
    let bearer = token.as_deref();
    let mut maker = Client::new(service.clone(), args.timeout);
    let made = maker.act("/admin/backup", bearer, Bytes::new());
    let show = async {
        let mut looker = Client::new(service, LOOK_AGAIN * 10);
        let mut lines = ProgressLines::new(args.quiet);
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if let Ok(answered) = looker.act("/admin/backup_progress", bearer, Bytes::new()).await {
                let at: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
                if let (Some(stage), Some(done)) = (at["stage"].as_str(), at["done"].as_u64()) {
                    lines.at(stage, done, at["total"].as_u64());
                }
            }
        }
    };
    let answered: Answered = tokio::select! {
        made = made => made.map_err(|why| {
            let advice = match ["cannot connect", "no TLS"].iter().any(|before| why.starts_with(before)) {
                true => "--url wants the admin port (`--admin-listen`) of the service",
                false => "the service may go on with it: look into its log and its --backup-dir",
            };
            Exit::failure(format!("no backup: {why}; {advice}"))
        })?,
        never = show => never,
    };
    let value: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
    match (answered.status, value["path"].as_str()) {
        (200, Some(path)) => {
            for damaged in value["damaged"].as_array().into_iter().flatten() {
                say(&format_args!("damaged in the service's own files, and so in the backup: {damaged}"));
            }
            if !args.quiet {
                say(&format_args!(
                    "backed up {} files, {} bytes, up to event {}, in {:.1} s; look at it with `bookstore verify`",
                    value["files"],
                    value["bytes"],
                    value["lsn"],
                    value["took_ms"].as_f64().unwrap_or_default() / 1e3,
                ));
            }
            Ok(path.to_owned())
        }
        (status, _) => {
            let said = value["message"].as_str().map_or_else(|| "no words".to_owned(), str::to_owned);
            let advice = match status {
                404 => "; --url wants the admin port (`--admin-listen`) of a service of this version",
                401 => "; name its file with --token-file",
                507 => "; nothing was made; make room there, or give the service another --backup-dir",
                500 => "; nothing was made; look at the --backup-dir of the service, and at its log",
                _ => "",
            };
            Err(Exit::failure(format!("no backup: {status} {said}{advice}")))
        }
    }
}

/// Shows progress, and ends the work when a signal asks for it.
fn until_asked(quiet: bool, asked: &Asked) -> impl FnMut(Progress) -> ControlFlow<()> {
    let (mut lines, asked) = (ProgressLines::new(quiet), asked.clone());
    move |at| {
        lines.at(at.stage, at.done, at.total);
        if asked.by().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn made_of(report: &BackupReport) -> String {
    format!(
        "{} files, {} bytes, up to event {}, in {:.1} s",
        report.files,
        report.bytes,
        report.lsn,
        report.took.as_secs_f64()
    )
}

fn not_done(what: &str, error: &BackupError, asked: &Asked) -> Exit {
    if let (BackupError::CutShort, Some(signal)) = (error, asked.by()) {
        return Exit { status: signal.status(), why: format!("{}: {what}; nothing was made", signal.name) };
    }
    let told = format!("{what}: {error}; {}", advice(error));
    match error {
        BackupError::Locked { .. } | BackupError::OtherVersion(_) => Exit::not_checked(told),
        _ => Exit::failure(told),
    }
}

/// What to do about an error.
fn advice(error: &BackupError) -> &'static str {
    match error {
        BackupError::Target { .. } => "nothing was made",
        BackupError::Io { source, .. } if source.kind() == ErrorKind::DirectoryNotEmpty => "nothing was made",
        BackupError::NoRoom(_) => "nothing was made; make room, or name another disk",
        BackupError::Locked { .. } => {
            "if it is a service, have it make the backup with --url; else wait for the end of that process"
        }
        BackupError::NoData(_) => "name the directory that `bookstore serve` has as --data-dir",
        BackupError::NoBackup { .. } => {
            "name a directory that `bookstore backup` has made; `bookstore check` is for data directories"
        }
        BackupError::OtherVersion(_) => "use that version",
        BackupError::Damaged(_) => {
            "nothing was made; use another backup, or see what `bookstore check` says of the data"
        }
        _ => "nothing was made; look at owner, mode and disk of what is named",
    }
}

/// Looks at a backup and tells what was found.
pub(super) fn run_verify(args: &VerifyArgs) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::not_checked(scarce("cannot start the runtime", &error)))?;
    let verified = runtime.block_on(verify(&args.dir, ProgressLines::shared(args.quiet)));
    runtime.shutdown_background();
    let report = verified.map_err(|error| match error {
        BackupError::NoBackup { .. } => Exit::failure(format!("{error}; {}", advice(&error))),
        BackupError::Damaged(what) => Exit::failure(format!("damaged: {what}; {USE_ANOTHER}")),
        error => {
            let advice = advice(&error).trim_start_matches("nothing was made; ");
            Exit::not_checked(format!("not verified: {error}; {advice}"))
        }
    })?;
    put(&found(&report, args))?;
    match report.is_sound() {
        true => Ok(()),
        false => Err(Exit::failure(USE_ANOTHER)),
    }
}

const USE_ANOTHER: &str = "do not rely on this backup: use another one, and make a new one while the service is well";

fn found(report: &VerifyReport, args: &VerifyArgs) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        text.push_str(&format!("damaged: {finding}\n"));
    }
    if !args.quiet {
        let made = SystemTime::UNIX_EPOCH + Duration::from_millis(report.made_ms);
        text.push_str(&format!(
            "backup of {}, up to event {}: {} files, {} bytes\n",
            humantime::format_rfc3339_seconds(made),
            report.lsn,
            report.files,
            report.bytes
        ));
    }
    if let Some(checked) = &report.check {
        text.push_str(&told_of(checked, &args.dir, args.quiet));
    }
    text
}

/// Makes a data directory from a backup.
pub(super) fn run_restore(args: &RestoreArgs) -> Result<(), Exit> {
    let asked = Asked::listen().map_err(|error| Exit::failure(scarce("cannot listen for signals", &error)))?;
    let made = restore(&args.dir, &args.data_dir, &mut until_asked(args.quiet, &asked));
    let report = made.map_err(|error| not_done("not restored", &error, &asked))?;
    if !args.quiet {
        say(&format_args!(
            "restored {}; start it with `bookstore --data-dir {}`",
            made_of(&report),
            report.dir.display()
        ));
    }
    Ok(())
}
