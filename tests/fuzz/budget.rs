//! How long to go on: a fixed number of inputs, or a time that somebody asked for.

use std::time::{Duration, Instant};

/// `BOOKSTORE_FUZZ_SEED`: another seed gives other inputs. A failure tells the seed and the input's number.
pub fn seed() -> u64 {
    std::env::var("BOOKSTORE_FUZZ_SEED").map_or(1, |text| text.parse().expect("BOOKSTORE_FUZZ_SEED is a number"))
}

/// Calls `one` with the numbers 0, 1, 2 and so on: `inputs` of them, or with `BOOKSTORE_FUZZ_SECONDS` for this target's
/// share of that time.
pub fn run(target: &str, inputs: u64, share_percent: u32, mut one: impl FnMut(u64)) {
    let seconds = std::env::var("BOOKSTORE_FUZZ_SECONDS").ok();
    let all = seconds.map(|text| Duration::from_secs(text.parse().expect("BOOKSTORE_FUZZ_SECONDS is a number")));
    let time = all.map(|all| all * share_percent / 100);
    let began = Instant::now();
    let mut number = 0;
    while time.map_or(number < inputs, |time| began.elapsed() < time) {
        let told = Told { target, number };
        one(number);
        std::mem::forget(told);
        number += 1;
    }
    assert_memory_is_bounded();
    println!("{target}: {number} inputs in {:.1} s", began.elapsed().as_secs_f32());
}

/// Says which input it was, when it panics.
struct Told<'a> {
    target: &'a str,
    number: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        eprintln!("{}: input {} of BOOKSTORE_FUZZ_SEED={}", self.target, self.number, seed());
    }
}

/// A length that is believed before it is checked asks for gigabytes at once; all targets together stay far below. The
/// allocator's own arenas, which are address space only, are as many as there are cores.
fn assert_memory_is_bounded() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    assert!(kib < (3 + cores) << 20, "{kib} KiB of memory were asked for");
}
