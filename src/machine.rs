//! What a measurement says of the machine that it ran on: how fast the disk makes a write durable, what kind of file system
//! that is, and how busy the processor was. For `bookstore bench` and the example `figures`; no engine asks for it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a write that is synced.
pub const BLOCK_BYTES: usize = 4 * 1024;

/// The kernel counts CPU time for `/proc` in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Microseconds of each sync of a block into a file of zeros, as a journal segment is one. Makes the file and removes it.
/// Ends after so many blocks, or after `time_max`, however slow the disk is.
///
/// # Errors
/// The disk's.
pub fn measure_syncs(path: &Path, blocks: usize, time_max: Duration) -> io::Result<Vec<u32>> {
    let mut file = File::create(path)?;
    file.write_all(&vec![0; BLOCK_BYTES * blocks])?;
    file.sync_all()?;
    let began = Instant::now();
    let mut micros = Vec::with_capacity(blocks);
    for block in 0..blocks {
        write_at(&file, &[0x5a; BLOCK_BYTES], (block * BLOCK_BYTES) as u64)?;
        let before = Instant::now();
        file.sync_data()?;
        micros.push(u32::try_from(before.elapsed().as_micros()).unwrap_or(u32::MAX));
        if began.elapsed() > time_max {
            break;
        }
    }
    fs::remove_file(path)?;
    Ok(micros)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

/// The value that `share` of all values do not exceed; 0 if there are none.
pub fn quantile(values: &mut [u32], share: f64) -> u32 {
    if values.is_empty() {
        return 0;
    }
    let place = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1;
    *values.select_nth_unstable(place).1
}

/// CPU time of all threads of this process, in steps of 10 ms.
///
/// # Errors
/// There is no `/proc`, or it looks otherwise.
pub fn cpu_time() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, in brackets, may hold anything; behind it comes field 3. User and system time are fields 14 and 15.
    let fields = stat.rsplit_once(')').ok_or_else(|| io::Error::other("/proc/self/stat has no name"))?.1;
    let ticks: Result<u32, _> = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<u32>).sum();
    ticks.map(|ticks| TICK * ticks).map_err(io::Error::other)
}

/// CPU time of everything that runs on this machine, in steps of 10 ms.
///
/// # Errors
/// As [`cpu_time`].
pub fn cpu_time_of_all() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields = stat.lines().next().and_then(|line| line.strip_prefix("cpu "));
    let fields = fields.ok_or_else(|| io::Error::other("/proc/stat has no sum"))?;
    let ticks: Result<Vec<u64>, _> = fields.split_ascii_whitespace().map(str::parse).collect();
    let ticks = ticks.map_err(io::Error::other)?;
    // user, nice, system, idle, iowait, irq, softirq; what was stolen from this machine is not ours to count.
    let busy = ticks.iter().take(7).enumerate().filter(|(field, _)| !matches!(field, 3 | 4)).map(|(_, ticks)| ticks);
    Ok(Duration::from_millis(busy.sum::<u64>() * 10))
}

/// What kind of file system the path is on, by its usual name; `None` if it has none here.
#[cfg(target_os = "linux")]
#[must_use]
pub fn file_system(path: &Path) -> Option<&'static str> {
    /// Of `statfs(2)`.
    const NAMES: [(u64, &str); 13] = [
        (0xef53, "ext4"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x2fc1_2fc1, "zfs"),
        (0xf2f5_2010, "f2fs"),
        (0x0102_1994, "tmpfs"),
        (0x8584_58f6, "ramfs"),
        (0x794c_7630, "overlay"),
        (0x6969, "nfs"),
        (0xff53_4d42, "cifs"),
        (0xfe53_4d42, "cifs"),
        (0x6573_5546, "fuse"),
        (0x0102_1997, "9p"),
    ];
    let kind = rustix::fs::statfs(path).ok()?.f_type as u64 & 0xffff_ffff;
    NAMES.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}

/// What kind of file system the path is on, by its usual name; `None` if it has none here.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn file_system(_: &Path) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let mut values: Vec<u32> = (1..=100).rev().collect();
        for (share, expected) in [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (1.0, 100)] {
            assert_eq!(quantile(&mut values, share), expected, "{share}");
        }
        assert_eq!((quantile(&mut [], 0.5), quantile(&mut [7], 0.01)), (0, 7));
    }

    #[test]
    fn syncs_are_measured_one_by_one_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("probe");
        assert_eq!(measure_syncs(&path, 5, Duration::from_secs(600)).unwrap().len(), 5);
        assert_eq!(measure_syncs(&path, 500, Duration::ZERO).unwrap().len(), 1);
        assert!(!path.exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_tells_of_the_processor_and_of_file_systems() {
        let (own, all) = (cpu_time().unwrap(), cpu_time_of_all().unwrap());
        assert!(all > own, "{own:?} of {all:?}");
        assert_eq!(file_system(Path::new("/proc")), None);
        assert_eq!(file_system(Path::new("/no such place")), None);
    }
}
