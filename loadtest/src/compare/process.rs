//! Programs that are looked for, started and ended, and the CPU time of all that they started.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use crate::Failure;
use crate::machine;

/// How long a program that was told to end may take for it.
const END_WAIT: Duration = Duration::from_secs(10);
/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// How much of a log is shown if a program does not start.
const LOG_LINES_SHOWN: usize = 5;

/// The first of `directories` in which the program lies.
pub(super) fn find_in(directories: impl IntoIterator<Item = PathBuf>, program: &str) -> Option<PathBuf> {
    directories.into_iter().map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// The directories of `PATH`.
pub(super) fn search_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map_or_else(Vec::new, |path| std::env::split_paths(&path).collect())
}

/// A program that was started and is ended with this value, however that comes about.
pub(super) struct Daemon {
    child: Child,
    /// What tells it to end at once, and to take all of its own processes along.
    end: Signal,
    log: PathBuf,
}

impl Daemon {
    /// Starts it. What it prints goes to the file `log`.
    pub(super) fn start(command: &mut Command, end: Signal, log: PathBuf) -> Result<Self, Failure> {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Self { child, end, log })
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `is_ready` says so; an error if the program ends before, or takes longer than `timeout`.
    pub(super) async fn wait_until<F: Future<Output = bool>>(
        &mut self,
        timeout: Duration,
        mut is_ready: impl FnMut() -> F,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        while !is_ready().await {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().rev().take(LOG_LINES_SHOWN).collect();
                let told: Vec<&str> = lines.into_iter().rev().collect();
                return Err(format!("did not get ready: {}", told.join("\n")).into());
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended already. It is not waited for yet, so the number is still its own.
            let _ = kill_process(pid, self.end);
        }
        let deadline = Instant::now() + END_WAIT;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }
}

/// Measures the CPU time of processes, with all that they have started, from one moment to another, counted from now.
/// Gives CPU seconds a second.
///
/// It sleeps on a thread of its own, so that it is not late when the runtime is busy, and nobody has to wait for it.
pub(super) fn meter(roots: Vec<u32>, from: Duration, to: Duration) -> oneshot::Receiver<Option<f64>> {
    let (tell, told) = oneshot::channel();
    let began = Instant::now();
    std::thread::spawn(move || {
        let look = |at: Duration| {
            std::thread::sleep(at.saturating_sub(began.elapsed()));
            Some((machine::tree_cpu_time(&roots)?, Instant::now()))
        };
        let cores = look(from).zip(look(to)).map(|((cpu_before, before), (cpu_after, after))| {
            cpu_after.saturating_sub(cpu_before).as_secs_f64() / after.duration_since(before).as_secs_f64()
        });
        // Nobody may want it any more.
        let _ = tell.send(cores);
    });
    told
}

/// Somebody who may run what root must not: the user's and the group's number.
pub(super) fn unprivileged(passwd: &str) -> Option<(u32, u32)> {
    let users: HashMap<&str, (u32, u32)> = passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let mut numbers = fields.skip(1).map(str::parse);
            Some((name, (numbers.next()?.ok()?, numbers.next()?.ok()?)))
        })
        .collect();
    ["postgres", "nobody"].iter().find_map(|name| users.get(name)).copied()
}

/// Gives a directory to a user.
pub(super) fn give(directory: &Path, (user, group): (u32, u32)) -> Result<(), Failure> {
    Ok(std::os::unix::fs::chown(directory, Some(user), Some(group))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_where_they_are() {
        assert_eq!(find_in([], "sh"), None);
        let directories = ["/nowhere", "/bin", "/usr/bin"].map(PathBuf::from);
        assert_eq!(find_in(directories.clone(), "sh"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(find_in(directories, "no-such-program"), None);
    }

    #[test]
    fn users_are_found_by_name() {
        let passwd =
            "root:x:0:0::/root:/bin/bash\nnobody:x:65534:65533:n:/:/x\npostgres:x:101:104:P,,,:/var:/bin/bash\n";
        assert_eq!(unprivileged(passwd), Some((101, 104)));
        assert_eq!(unprivileged("root:x:0:0::/:/\nnobody:x:65534:65533:n:/:/x"), Some((65534, 65533)));
        assert_eq!(unprivileged("root:x:0:0::/root:/bin/bash\nbroken\n"), None);
    }

    #[tokio::test]
    async fn a_daemon_ends_with_its_value_and_its_children_are_metered() {
        let log = std::env::temp_dir().join(format!("loadtest-daemon-{}", std::process::id()));
        let mut command = Command::new("/bin/sh");
        // A child that works, and one that has ended.
        command.args(["-c", "echo it works; (while :; do :; done) & wait"]);
        let mut daemon = Daemon::start(&mut command, Signal::TERM, log.clone()).unwrap();
        let (pid, path) = (daemon.pid(), log.clone());
        daemon
            .wait_until(Duration::from_secs(10), || {
                let told = fs::read_to_string(&path).is_ok_and(|log| log == "it works\n");
                std::future::ready(told)
            })
            .await
            .unwrap();
        let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        while children().is_empty() {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        let child: i32 = children().trim().parse().unwrap();
        let cores = meter(vec![pid], Duration::ZERO, Duration::from_millis(500)).await.unwrap();
        assert!(cores.unwrap() > 0.0);
        drop(daemon);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        // The shell does not take its child along, as a real server does.
        kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
        fs::remove_file(log).unwrap();
    }

    #[tokio::test]
    async fn what_ends_early_shows_its_log() {
        let log = std::env::temp_dir().join(format!("loadtest-early-{}", std::process::id()));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo cannot work >&2"]);
        let mut daemon = Daemon::start(&mut command, Signal::KILL, log.clone()).unwrap();
        let error = daemon.wait_until(Duration::from_secs(10), || std::future::ready(false)).await.unwrap_err();
        assert_eq!(error.to_string(), "did not get ready: cannot work");
        fs::remove_file(log).unwrap();
    }
}
