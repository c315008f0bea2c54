//! `bookstore repair`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;

use super::exit::{Exit, scarce};
use super::progress::put as print;
use crate::Storage;
use crate::engine::offline::{Lost, Repair, RepairError, RepairReport, check, is_backup};

/// Names that are printed of one kind.
const NAMES_MAX: usize = 100;

/// Flags of `repair`.
#[derive(Debug, Clone, Args)]
pub(super) struct RepairArgs {
    /// The data directory
    #[arg(env = "BOOKSTORE_DATA_DIR", value_name = "DIR", default_value = "snapshots")]
    dir: PathBuf,
    /// Do it; without this nothing is changed, and what would be done and lost is shown
    #[arg(long)]
    yes: bool,
}

/// What to do with a backup.
const OF_A_COPY: &str =
    "use another one; if there is none, copy it, remove backup.json from the copy, and repair that with --yes";

/// Shows what is to be done, and does it if that is wanted.
pub(super) fn run(args: &RepairArgs) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::not_checked(scarce("cannot start the runtime", &error)))?;
    let ended = runtime.block_on(repair(args));
    runtime.shutdown_background();
    ended
}

async fn repair(args: &RepairArgs) -> Result<(), Exit> {
    let storage = Storage::Directory(args.dir.clone());
    let is_backup = is_backup(&args.dir);
    if args.yes && is_backup {
        return Err(Exit::failure(format!(
            "not repaired: {} is a backup, and would be none any more; {OF_A_COPY}",
            args.dir.display()
        )));
    }
    let repair = Repair::plan(&storage).await.map_err(|error| not_repaired(&error))?;
    let report = repair.report();
    print(&told(report, args))?;
    if let Some(why) = &report.refused {
        return Err(Exit::failure(format!("it cannot be repaired: {why}. Nothing was changed; restore a backup")));
    }
    if report.is_sound() {
        return match report.stays.is_empty() {
            true => Ok(()),
            false => Err(Exit::failure(
                "damaged, and nothing here mends it. Nothing was changed; restore a backup of what is named above",
            )),
        };
    }
    if is_backup {
        return Err(Exit::failure(format!("nothing was changed. It is a backup: {OF_A_COPY}")));
    }
    if !args.yes {
        return Err(Exit::failure("nothing was changed. Copy the directory if there is room, then do it with --yes"));
    }
    let done = repair.carry_out().await.map_err(|error| not_repaired(&error))?;
    for file in &done.kept {
        print(&format!("kept: {}\n", file.display()))?;
    }
    let checked = check(&args.dir, |_| {}).await;
    let checked = checked.map_err(|error| {
        Exit::not_checked(format!("repaired, and not checked: {error}; run `bookstore check` on it"))
    })?;
    for finding in &checked.findings {
        print(&format!("damaged: {finding}\n"))?;
    }
    match checked.is_sound() {
        true => print("repaired; a check finds it sound\n"),
        false => Err(Exit::failure(
            "repaired as far as it goes: the service starts, and what is named above stays, unless a backup is restored",
        )),
    }
}

fn not_repaired(error: &RepairError) -> Exit {
    let not = |advice: &str| Exit::not_checked(format!("not repaired: {error}; {advice}"));
    match error {
        RepairError::Impossible(_) => Exit::failure(format!("{error}; restore a backup")),
        RepairError::Locked { .. } => not("wait for its end, or end that process"),
        RepairError::NoData(_) => not("name the directory that `bookstore serve` has as --data-dir"),
        RepairError::OtherVersion(_) => not("repair it with that version"),
        RepairError::Unreadable(_) => {
            not("look at its owner and mode, and at its disk; if that has read errors, repair a copy")
        }
        RepairError::Changed(_) => Exit::not_checked(format!("not repaired: {error}")),
    }
}

fn told(report: &RepairReport, args: &RepairArgs) -> String {
    let mut text = String::new();
    let mut say = |line: String| text.push_str(&(line + "\n"));
    report.findings.iter().for_each(|finding| say(format!("damaged: {finding}")));
    report.stays.iter().for_each(|what| say(format!("not mended: {what}")));
    if report.refused.is_some() {
        return text;
    }
    if report.is_sound() && report.stays.is_empty() {
        say("nothing to repair".to_owned());
    }
    if report.is_sound() {
        return text;
    }
    let would = if args.yes { "" } else { "would be done: " };
    report.steps.iter().for_each(|step| say(format!("{would}{step}")));
    let base = report.snapshot.as_ref().and_then(|path| path.file_name());
    let base = base.map_or_else(|| "the journal alone".into(), |name| name.to_string_lossy());
    say(format!("the shop goes on from {base}, up to event {}", report.last_lsn));
    text.push_str(&lost(&report.lost));
    if let Some(audit) = &report.audit {
        let _ = writeln!(
            text,
            "then: {} accounts, {} stores, {} orders; balances {} + held by the platform {} = put in {}; on shelves {} + in \
             orders {} = put in {}",
            audit.accounts,
            audit.stores,
            audit.orders,
            audit.balances,
            audit.escrow,
            audit.net_put_in,
            audit.stock,
            audit.ordered,
            audit.stock_put_in,
        );
        if !audit.is_conserved() {
            let money = audit.net_put_in - audit.balances - audit.escrow;
            let copies = audit.stock_put_in - audit.stock - audit.ordered;
            let _ = writeln!(
                text,
                "IT DOES NOT ADD UP: {money} fen and {copies} copies belong to orders that are not there any more; every \
                 later check will say so"
            );
        }
    }
    text
}

fn lost(lost: &Lost) -> String {
    let mut text = String::new();
    if lost.is_nothing() {
        text.push_str("lost: nothing\n");
    }
    if let Some((first, last)) = lost.events {
        let count = last - first + 1;
        let _ = writeln!(
            text,
            "lost: events {first} to {last}, {count} of them, {} of which can still be read; {} bytes",
            lost.readable, lost.bytes
        );
        let kinds: Vec<String> = lost.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if !kinds.is_empty() {
            let _ = writeln!(text, "lost, of those that can be read: {}", kinds.join(", "));
        }
        if lost.readable < count {
            let _ = writeln!(text, "what the other {} did is not known", count - lost.readable);
        }
        if lost.kinds.contains_key("PasswordChanged") || lost.kinds.contains_key("TokenRevoked") {
            text.push_str(
                "passwords and tokens of before are valid again; without token.key every login so far is void\n",
            );
        }
    }
    names(&mut text, "orders named", lost.orders.iter());
    names(&mut text, "accounts named", lost.accounts.iter());
    names(&mut text, "stores named", lost.stores.iter());
    names(&mut text, "lost: orders at rest whose rows are damaged", lost.rows.iter());
    names(&mut text, "inferred, not known, is where these orders stood", lost.inferred.iter());
    text
}

fn names(text: &mut String, what: &str, names: impl ExactSizeIterator<Item = impl std::fmt::Display>) {
    let count = names.len();
    if count == 0 {
        return;
    }
    let some: Vec<String> = names.take(NAMES_MAX).map(|name| name.to_string()).collect();
    let more = if count > NAMES_MAX { format!(" and {} more", count - NAMES_MAX) } else { String::new() };
    let _ = writeln!(text, "{what}, {count}: {}{more}", some.join(" "));
}
