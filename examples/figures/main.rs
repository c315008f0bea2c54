//! Prints the figures of the engine, each with one command.
//!
//! ```sh
//! cargo run --release --example figures -- paid
//! cargo run --release --example figures -- --help
//! ```
//!
//! Nothing here is a test: the figures depend on the machine, so each report begins with a line about it.

mod bytes;
mod dormant;
mod flags;
mod grow;
mod history;
mod machine;
mod paid;
mod pictures;
mod recover;
mod search;
mod shop;
mod snapshot;
mod variations;

use std::process::ExitCode;

use flags::Flags;

/// As in the program: actors box every message.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever ends a measurement.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const HELP: &str = "\
cargo run --release --example figures -- COMMAND [--flag VALUE]…

machine    cores, kernel, and the time of an fdatasync of 4 KiB, alone and with all cores busy

paid       paid orders a second: new_order and pay, each awaited by its caller
  --callers 1024  --seconds 5  --warm-up 1  --buyers 1000  --stores 8
  --durability sync|buffered|snapshot  --credential password|trusted

bytes      journal bytes per paid order, without idempotency keys and with them
  --orders 100000  --lines 5  --users 100000  --stores 16

dormant    resident bytes per user who does nothing, after an open
  --users 1000000

recover    time until ready after a crash (kill -9): a snapshot, then events after it
  --users 100000  --orders 1000000  --events 1000000  --lines 1
  --keep           leaves the directory;  --from DIR/data  opens such a one again

snapshot   p99 of new_order with snapshots back to back and without, in turns
  --users 1000000  --rate 5000  --rounds 5  --seconds 3  --buyers 1000  --stores 8
  --durability sync|buffered|snapshot

history    resident bytes per finished order, and lists and lookups over them
  --orders 1000000  --buyers 1000

pictures   resident bytes with and without the books' pictures
  --books 2000  --bytes 200000

search     p50 and p99 of searches by two characters, also while books are added; bytes of the index, time to rebuild it
           after an open, time to add a book
  --books 100000  --searches 200 (of each keyword)

grow       paid orders a second and CPU time of each as the shop grows, each size beside a small one in turns
  --of all|users,stores,hot,lines,history  --durability sync|snapshot (both by default)
  --users 10000,100000,1000000,10000000  --stores 100,4,1000,10000  --lines 1,5,10,100  --orders 0,1000000,4000000
  --callers 1024  --rounds 4  --seconds 2  --warm-up 0.5
  --build-only     makes the shops and leaves them;  --from DIR  takes those, and makes what is missing

All take --dir DIR: an existing directory on the disk to measure; what is built in it is removed again.
The default is figures-PID in the directory for temporary files of the build, target/.
";

fn main() -> ExitCode {
    // As `bookstore serve` does, unless told otherwise.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        eprintln!("transparent huge pages stay as they are: {error}");
    }
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    match Flags::parse(args).and_then(|flags| run(&command, flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, mut flags: Flags) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    match command {
        "machine" => {
            let dir = shop::WorkDir::new(&mut flags)?;
            flags.finish()?;
            machine::print(dir.path())?;
            machine::print_busy(dir.path())
        }
        "paid" => runtime.block_on(paid::run(flags)),
        "bytes" => runtime.block_on(bytes::run(flags)),
        "dormant" => runtime.block_on(dormant::run(flags)),
        dormant::CHILD => runtime.block_on(dormant::child(flags)),
        "recover" => runtime.block_on(recover::run(flags)),
        recover::BUILD => runtime.block_on(recover::build(flags)),
        recover::OPEN => runtime.block_on(recover::open(flags)),
        "history" => runtime.block_on(history::run(flags)),
        history::CHILD => runtime.block_on(history::child(flags)),
        "pictures" => runtime.block_on(pictures::run(flags)),
        pictures::CHILD => runtime.block_on(pictures::child(flags)),
        "grow" => runtime.block_on(grow::run(flags)),
        "search" => runtime.block_on(search::run(flags)),
        search::CHILD => runtime.block_on(search::child(flags)),
        "snapshot" => runtime.block_on(snapshot::run(flags)),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("unknown command {other:?}; --help lists them").into()),
    }
}
