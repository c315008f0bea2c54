//! What is measured on, and what the kernel knows of this process. Linux: it reads `/proc`.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bookstore::internals::machine::measure_syncs;
pub(crate) use bookstore::internals::machine::{cpu_time, cpu_time_of_all, quantile};

use crate::Failure;

const BLOCKS: usize = 1_024;
/// More of them, to see one in a thousand.
const MANY_BLOCKS: usize = 16 * 1_024;
/// The syncs end after this time, however slow the disk is.
const SYNC_TIME_MAX: Duration = Duration::from_secs(2);

/// Prints the line that every report begins with.
pub(crate) fn print(dir: &Path) -> Result<(), Failure> {
    let mut syncs = measure_syncs(&dir.join("sync-probe"), BLOCKS, SYNC_TIME_MAX)?;
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let count = syncs.len();
    let (p50, p99) = (quantile(&mut syncs, 0.5), quantile(&mut syncs, 0.99));
    let kernel = kernel.trim();
    println!("machine: {cores} cores, kernel {kernel}; fdatasync of 4 KiB: p50 {p50} µs, p99 {p99} µs, {count} syncs");
    Ok(())
}

/// Prints how long syncs take when nothing else runs, and when every core is wanted by another thread: what a disk's answer
/// waits for then is a core.
pub(crate) fn print_busy(dir: &Path) -> Result<(), Failure> {
    let idle = measure_syncs(&dir.join("sync-probe"), MANY_BLOCKS, SYNC_TIME_MAX)?;
    let cores = std::thread::available_parallelism()?.get();
    let stop = AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let measured = measure_syncs(&dir.join("sync-probe"), MANY_BLOCKS, SYNC_TIME_MAX);
        stop.store(true, Ordering::Relaxed);
        measured
    })?;
    for (beside, mut syncs) in [("nothing", idle), ("a busy thread a core", busy)] {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| quantile(&mut syncs, share));
        println!("beside {beside}: p50 {p50} µs, p99 {p99} µs, p99.9 {p999} µs, {} syncs", syncs.len());
    }
    Ok(())
}

/// A line of `/proc/self/status` in bytes: `VmRSS` is resident now, `VmHWM` the most it ever was.
pub(crate) fn memory(name: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("/proc/self/status has no such line")?;
    Ok(kib.trim().parse::<u64>()? * 1_024)
}
