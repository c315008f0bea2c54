//! What the figures were measured on, and the CPU time of a process. Linux only where `/proc` is read: elsewhere
//! those figures are left out.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::Failure;

/// The kernel counts CPU time for `/proc` in hundredths of a second, on every architecture it runs on today.
const MS_PER_TICK: u64 = 10;
/// What one sync writes, in bytes.
const BLOCK_BYTES: usize = 4 * 1024;
/// Blocks of the file that is synced.
const BLOCKS: usize = 1_024;
/// The measuring ends after this time, however slow the disk is.
const SYNC_TIME_MAX: Duration = Duration::from_secs(2);
/// Pause between two looks at a process.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// The machine and its disk.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Machine {
    /// Cores this process may use.
    pub(crate) cores: usize,
    /// The processor's name, if the system tells it.
    pub(crate) processor: Option<String>,
    /// How many syncs were measured.
    pub(crate) syncs: u64,
    /// Median of an fdatasync of 4 KiB into a pre-zeroed file, in µs.
    pub(crate) sync_p50_us: u64,
    /// Its 99th percentile, in µs.
    pub(crate) sync_p99_us: u64,
}

impl Machine {
    /// Measures in `directory`; leaves no file behind.
    pub(crate) fn measure(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("sync-probe");
        let measured = measure_sync(&path);
        // Gone with its directory in any case; here only to give the room back early.
        let _ = fs::remove_file(&path);
        let sync_us = measured?;
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor(),
            syncs: sync_us.len(),
            sync_p50_us: sync_us.value_at_quantile(0.5),
            sync_p99_us: sync_us.value_at_quantile(0.99),
        })
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        format!(
            "machine: {} cores{}; fdatasync of 4 KiB into a pre-zeroed file: p50 {} µs, p99 {} µs ({} syncs)",
            self.cores,
            self.processor.as_ref().map_or_else(String::new, |name| format!(" of {name}")),
            self.sync_p50_us,
            self.sync_p99_us,
            self.syncs
        )
    }
}

fn measure_sync(path: &Path) -> Result<Histogram<u64>, Failure> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    prepare(&file)?;
    let block = [0x5a; BLOCK_BYTES];
    let mut sync_us = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let began = Instant::now();
    for number in 0..BLOCKS {
        file.write_all_at(&block, (number * BLOCK_BYTES) as u64)?;
        let before = Instant::now();
        file.sync_data()?;
        sync_us.saturating_record(u64::try_from(before.elapsed().as_micros()).unwrap_or(u64::MAX));
        if began.elapsed() > SYNC_TIME_MAX {
            break;
        }
    }
    Ok(sync_us)
}

/// Zeros that are on the disk, as a journal segment has them, so that a sync need not write metadata.
fn prepare(mut file: &File) -> std::io::Result<()> {
    file.write_all(&vec![0; BLOCK_BYTES * BLOCKS])?;
    file.sync_all()
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// CPU time that all threads of a process have used so far, in steps of 10 ms; `None` if it cannot be read.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    Some(Stat::read(pid)?.own)
}

/// The same of these processes and of everything that they have started, ended or not; `None` if it cannot be read, or
/// one of them is gone.
pub(crate) fn tree_cpu_time(roots: &[u32]) -> Option<Duration> {
    let all: BTreeMap<u32, Stat> = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, Stat::read(pid)?))
        })
        .collect();
    tree_sum(&all, roots)
}

/// What ended and was waited for stands in its parent's account.
fn tree_sum(all: &BTreeMap<u32, Stat>, roots: &[u32]) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut open: Vec<u32> = roots.to_vec();
    while let Some(pid) = open.pop() {
        let stat = all.get(&pid)?;
        sum += stat.own + stat.ended;
        open.extend(all.iter().filter(|(_, stat)| stat.parent == pid).map(|(pid, _)| *pid));
    }
    Some(sum)
}

/// What a `/proc/PID/stat` says.
#[derive(PartialEq, Debug)]
struct Stat {
    parent: u32,
    /// User and system time.
    own: Duration,
    /// The same of children that have ended, and of theirs.
    ended: Duration,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name, in brackets, may hold blanks and brackets itself.
    fn parse(text: &str) -> Option<Self> {
        let (_, behind_name) = text.rsplit_once(')')?;
        // Behind the name comes field 3. The parent is field 4; the times are fields 14 to 17.
        let mut fields = behind_name.split_ascii_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        let mut times = fields.skip(9).map(|field| field.parse::<u64>().ok());
        let mut two = || {
            let ticks = times.next()??.checked_add(times.next()??)?;
            Some(Duration::from_millis(ticks.checked_mul(MS_PER_TICK)?))
        };
        Some(Self { parent, own: two()?, ended: two()? })
    }
}

/// Bytes of memory that a process has resident; `None` if they cannot be read.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    parse_resident(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_resident(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1_024)
}

/// The cores that this process may use, by number.
pub(crate) fn cores() -> Result<Vec<usize>, Failure> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect())
}

/// Pins the calling thread, and with it the threads and processes that it starts from now on.
pub(crate) fn pin_to(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Raises the number of files that this process may have open to what the system allows, and gives it.
pub(crate) fn raise_open_files() -> Result<u64, Failure> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// A process's memory and CPU time at one moment.
#[derive(Serialize, Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Since the watch began.
    pub(crate) seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) cpu_seconds: f64,
}

/// Looks at a process every now and then, on a thread of its own, until it is told to stop.
pub(crate) struct Watch {
    began: Instant,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Vec<Look>>,
}

impl Watch {
    /// Begins at once.
    pub(crate) fn start(pid: u32) -> Self {
        let began = Instant::now();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut looks = Vec::new();
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK_PAUSE) {
                let (Some(resident_bytes), Some(cpu)) = (resident_bytes(pid), cpu_time(pid)) else { break };
                let seconds = began.elapsed().as_secs_f64();
                looks.push(Look { seconds, resident_bytes, cpu_seconds: cpu.as_secs_f64() });
            }
            looks
        });
        Self { began, stop, thread }
    }

    /// Since it began, in seconds.
    pub(crate) fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Everything that was seen.
    pub(crate) fn end(self) -> Vec<Look> {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_a_name_with_brackets() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 7 8 20 0 9 0 100";
        let seconds = Duration::from_secs_f64;
        assert_eq!(Stat::parse(stat), Some(Stat { parent: 1, own: seconds(2.0), ended: seconds(0.15) }));
        assert_eq!(Stat::parse("12 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn a_tree_of_processes_counts_each_once() {
        let stat =
            |parent, own, ended| Stat { parent, own: Duration::from_secs(own), ended: Duration::from_secs(ended) };
        let all = BTreeMap::from([
            (1, stat(0, 1_000, 0)),
            (2, stat(1, 1, 10)),
            (3, stat(2, 100, 0)),
            (4, stat(3, 200, 0)),
            (5, stat(1, 5_000, 0)),
        ]);
        assert_eq!(tree_sum(&all, &[2]), Some(Duration::from_secs(311)));
        assert_eq!(tree_sum(&all, &[3, 5]), Some(Duration::from_secs(5_300)));
        assert_eq!(tree_sum(&all, &[6]), None);
        assert!(tree_cpu_time(&[std::process::id()]).is_some());
    }

    #[test]
    fn memory_of_a_process() {
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t    12 kB\nThreads: 1\n"), Some(12 << 10));
        assert_eq!(parse_resident("Name:\tkthreadd\n"), None);
        assert!(resident_bytes(std::process::id()) > Some(100 << 10));
    }

    #[test]
    fn a_thread_that_is_pinned_has_one_core() {
        std::thread::spawn(|| {
            let last = *cores().unwrap().last().unwrap();
            pin_to(last).unwrap();
            assert_eq!(cores().unwrap(), [last]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_disk_is_measured_and_left_clean() {
        let directory = std::env::temp_dir().join(format!("loadtest-machine-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let machine = Machine::measure(&directory).unwrap();
        assert!(machine.syncs > 0 && machine.sync_p50_us <= machine.sync_p99_us);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir(&directory).unwrap();
    }
}
