//! What is measured on, and what the kernel knows of this process. Linux: it reads `/proc`.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Failure;

const BLOCK_BYTES: usize = 4 * 1024;
const BLOCKS: usize = 1_024;
/// More of them, to see one in a thousand.
const MANY_BLOCKS: usize = 16 * 1_024;
/// The syncs end after this time, however slow the disk is.
const SYNC_TIME_MAX: Duration = Duration::from_secs(2);
/// The kernel counts CPU time for `/proc` in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Prints the line that every report begins with.
pub(crate) fn print(dir: &Path) -> Result<(), Failure> {
    let mut syncs = measure_syncs(&dir.join("sync-probe"), BLOCKS)?;
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
    let idle = measure_syncs(&dir.join("sync-probe"), MANY_BLOCKS)?;
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
        let measured = measure_syncs(&dir.join("sync-probe"), MANY_BLOCKS);
        stop.store(true, Ordering::Relaxed);
        measured
    })?;
    for (beside, mut syncs) in [("nothing", idle), ("a busy thread a core", busy)] {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| quantile(&mut syncs, share));
        println!("beside {beside}: p50 {p50} µs, p99 {p99} µs, p99.9 {p999} µs, {} syncs", syncs.len());
    }
    Ok(())
}

/// Microseconds of each sync of a block into a file of zeros, as a journal segment is one.
fn measure_syncs(path: &Path, blocks: usize) -> Result<Vec<u32>, Failure> {
    let mut file = File::create(path)?;
    file.write_all(&vec![0; BLOCK_BYTES * blocks])?;
    file.sync_all()?;
    let began = Instant::now();
    let mut micros = Vec::with_capacity(blocks);
    for block in 0..blocks {
        file.write_all_at(&[0x5a; BLOCK_BYTES], (block * BLOCK_BYTES) as u64)?;
        let before = Instant::now();
        file.sync_data()?;
        micros.push(before.elapsed().as_micros() as u32);
        if began.elapsed() > SYNC_TIME_MAX {
            break;
        }
    }
    fs::remove_file(path)?;
    Ok(micros)
}

/// The value that `share` of all values do not exceed; 0 if there are none.
pub(crate) fn quantile(values: &mut [u32], share: f64) -> u32 {
    if values.is_empty() {
        return 0;
    }
    let place = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1;
    *values.select_nth_unstable(place).1
}

/// CPU time of all threads of this process, in steps of 10 ms.
pub(crate) fn cpu_time() -> Result<Duration, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, in brackets, may hold anything; behind it comes field 3. User and system time are fields 14 and 15.
    let fields = stat.rsplit_once(')').ok_or("/proc/self/stat has no name")?.1;
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(TICK * ticks)
}

/// CPU time of everything that runs on this machine, in steps of 10 ms.
pub(crate) fn cpu_time_of_all() -> Result<Duration, Failure> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).ok_or("/proc/stat has no sum")?;
    let ticks: Vec<u64> = fields.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq; what was stolen from this machine is not ours to count.
    let busy = ticks.iter().take(7).enumerate().filter(|(field, _)| !matches!(field, 3 | 4)).map(|(_, ticks)| ticks);
    Ok(Duration::from_millis(busy.sum::<u64>() * 10))
}

/// A line of `/proc/self/status` in bytes: `VmRSS` is resident now, `VmHWM` the most it ever was.
pub(crate) fn memory(name: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("/proc/self/status has no such line")?;
    Ok(kib.trim().parse::<u64>()? * 1_024)
}
