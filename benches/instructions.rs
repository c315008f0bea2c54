//! Instructions of each pure function, counted by valgrind's callgrind: the same on a busy machine as on a quiet one, so
//! it is what CI holds the code to. Time is measured by the other benches.
//!
//! ```sh
//! cargo bench --bench instructions               # counts, and compares with benches/instructions.txt
//! cargo bench --bench instructions -- --update   # writes that file
//! cargo test --bench instructions                # each function once, without valgrind
//! ```
//!
//! A function that got dearer by more than [`DEARER_MAX`] fails the run. Counts depend on the compiler: with another
//! rustc than that of the file only what got dearer by more than [`DEARER_MAX_OTHER_RUSTC`] does. Without valgrind
//! (`apt-get install valgrind`) nothing is counted, which is said and is no failure.

#![allow(clippy::unwrap_used, reason = "a bench ends by panicking")]

#[path = "common/bodies.rs"]
mod bodies;
#[path = "common/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

use bodies::{headers, new_order_body, payment_body};
use bookstore::internals::domain::{
    Account, AccountNo, EVENT_VERSION, Order, OrderId, Persistent, Store, decode, decode_row, encode_row,
};
use bookstore::internals::engine::IdSource;
use bookstore::internals::http::{answer_new_order, answer_payment, parse_new_order, parse_payment};
use bookstore::internals::journal::{Frame, decode_frames, encode_frame};
use world::{NOW, World, encode_record, order_id};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
/// A function may get so much dearer.
const DEARER_MAX: f64 = 0.03;
/// The same, if another rustc built it.
const DEARER_MAX_OTHER_RUSTC: f64 = 0.25;
/// Of a few instructions one more is a lot.
const DEARER_ALWAYS: u64 = 4;
/// What the program is called with under valgrind.
const COUNTED: &str = "--counted";

/// Callgrind writes down what it has counted whenever this is entered.
#[inline(never)]
fn mark_of_callgrind() {
    black_box(());
}

/// Runs functions between marks, and notes their names.
#[derive(Default)]
struct Meter {
    /// Name and number of calls, in the order of the marks.
    done: Vec<(String, u64)>,
}

impl Meter {
    /// Calls a function until it is warm, then so many times.
    fn count<T>(&mut self, name: &str, times: u64, mut call: impl FnMut() -> T) {
        for _ in 0..8 {
            black_box(call());
        }
        self.count_together(name, times, &mut || {
            for _ in 0..times {
                black_box(call());
            }
        });
    }

    /// Runs what makes so many calls.
    fn count_together(&mut self, name: &str, calls: u64, run: &mut dyn FnMut()) {
        mark_of_callgrind();
        run();
        mark_of_callgrind();
        self.done.push((name.to_owned(), calls));
    }
}

/// Everything that is counted.
fn run_all(meter: &mut Meter) {
    steps(meter);
    events(meter);
    rows(meter);
    wire(meter);
    ids_and_frames(meter);
}

/// The steps of an order and its payment: judged and applied.
fn steps(meter: &mut Meter) {
    const ORDERS: u64 = 512;
    for lines in [1, 5] {
        let mut world = World::new();
        world.encodes = false;
        // Maps are as large as they will be.
        world.steps(0..ORDERS, lines, &mut |_, run| run());
        world.steps(ORDERS..2 * ORDERS, lines, &mut |step, run| match step {
            "forget" => run(),
            step => meter.count_together(&format!("handle_apply/{step}_{lines}_lines"), ORDERS, run),
        });
    }
    let mut world = World::new();
    meter.count("handle_apply/add_funds", 100, || world.add_funds(1));
}

/// Events as the journal holds them.
fn events(meter: &mut Meter) {
    for (name, event) in World::new().events_of_a_paid_order(5) {
        let mut bytes = Vec::new();
        let kind = encode_record(&event, &mut bytes);
        let mut out = Vec::new();
        meter.count(&format!("encode_event/{name}"), 100, || encode_record(black_box(&event), &mut out));
        meter.count(&format!("decode_event/{name}"), 100, || decode(kind, EVENT_VERSION, black_box(&bytes)).unwrap());
    }
}

/// Rows as a snapshot and a sleeping entity hold them.
fn rows(meter: &mut Meter) {
    let mut world = World::new();
    let id = world.place(0, 5);
    world.pay(id);
    let order = world.order(id);
    let (account, store) = (&world.seller.entity, &world.store.entity);
    let (account_row, store_row, order_row) = (account.encode(), encode_row(store), encode_row(&*order));
    meter.count("encode_row/account", 100, || black_box(account).encode());
    meter.count("decode_row/account", 100, || Account::decode(black_box(&account_row)).unwrap());
    meter.count("encode_row/order_5_lines", 100, || encode_row(black_box(&*order)));
    meter.count("decode_row/order_5_lines", 100, || decode_row::<Order>(black_box(&order_row)).unwrap());
    meter.count("encode_row/store_1000_books", 2, || encode_row(black_box(store)));
    meter.count("decode_row/store_1000_books", 2, || decode_row::<Store>(black_box(&store_row)).unwrap());
}

/// Bodies of requests and answers.
fn wire(meter: &mut Meter) {
    for lines in [1, 5] {
        let body = new_order_body(lines);
        meter.count(&format!("parse/new_order_{lines}_lines"), 100, || {
            parse_new_order(black_box(body.as_bytes()), 1_000)
        });
    }
    let body = payment_body(order_id(1));
    meter.count("parse/payment", 100, || parse_payment(black_box(body.as_bytes())));
    let headers = headers();
    meter.count("answer/new_order", 100, || answer_new_order(black_box(&headers), black_box(order_id(1))));
    meter.count("answer/payment", 100, || answer_payment(black_box(&headers)));
}

fn ids_and_frames(meter: &mut Meter) {
    let ids = IdSource::new([7; 32]);
    meter.count("order_id/next", 100, || ids.next(NOW, AccountNo(1)));
    let id = order_id(1);
    meter.count("order_id/to_text", 100, || {
        let mut text = [0; 36];
        black_box(id).encode(&mut text).len()
    });
    let text = id.to_string();
    meter.count("order_id/from_text", 100, || OrderId::parse(black_box(&text)).unwrap());
    let payload = [0x5a; 100];
    let frame = Frame { lsn: 1, epoch: 1, kind: 1, version: EVENT_VERSION, payload: &payload };
    let mut bytes = Vec::new();
    meter.count("frame/encode_100_bytes", 100, || {
        bytes.clear();
        encode_frame(&mut bytes, black_box(&frame));
    });
    meter.count("frame/decode_100_bytes", 100, || decode_frames(black_box(&bytes)).all(|frame| frame.is_ok()));
}

/// Runs this program under callgrind; instructions a call by name.
fn counts() -> Result<BTreeMap<String, u64>, String> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let out = dir.path().join("counts");
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-before=*mark_of_callgrind*", "--dump-line=no", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .arg(COUNTED)
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("valgrind: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    let mut counts = BTreeMap::new();
    for (index, line) in names.lines().enumerate() {
        let (name, calls) = line.split_once(' ').ok_or_else(|| format!("{line:?} is no name and number"))?;
        let calls: u64 = calls.parse().map_err(|_| format!("{line:?} has no number of calls"))?;
        // The first mark ends what was done before, the second what is counted.
        let part = dir.path().join(format!("counts.{}", 2 * index + 2));
        counts.insert(name.to_owned(), total(&part)?.div_ceil(calls));
    }
    if counts.is_empty() { Err("nothing was counted".to_owned()) } else { Ok(counts) }
}

/// Instructions in a file of callgrind.
fn total(path: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.ok_or_else(|| format!("{} has no totals", path.display()))
}

fn rustc() -> String {
    let version = Command::new("rustc").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if version.is_empty() { "an unknown rustc".to_owned() } else { version }
}

/// What is expected, and of which rustc.
fn expected() -> Result<(String, BTreeMap<String, u64>), String> {
    let text = std::fs::read_to_string(EXPECTED).map_err(|error| format!("{EXPECTED}: {error}"))?;
    let mut rustc = String::new();
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        if let Some(known) = line.strip_prefix("# built by ") {
            rustc = known.to_owned();
        } else if !line.starts_with('#') {
            let mut words = line.split_whitespace();
            let (name, count) = (words.next().unwrap_or_default(), words.next().and_then(|count| count.parse().ok()));
            counts.insert(name.to_owned(), count.ok_or_else(|| format!("{EXPECTED}: {line:?} is no name and number"))?);
        }
    }
    Ok((rustc, counts))
}

fn update(counts: &BTreeMap<String, u64>) -> Result<(), String> {
    let mut text = String::from(
        "# Instructions a call of each pure function, as callgrind counts them in a release build.\n\
         # cargo bench --bench instructions -- --update writes this file.\n",
    );
    let _ = writeln!(text, "# built by {}", rustc());
    for (name, count) in counts {
        let _ = writeln!(text, "{name:<32} {count:>8}");
    }
    std::fs::write(EXPECTED, text).map_err(|error| format!("{EXPECTED}: {error}"))
}

/// Prints the table. Fails if something got dearer, or if it is not known what it should cost.
fn compare(counts: &BTreeMap<String, u64>) -> Result<(), String> {
    let (built_by, expected) = expected()?;
    let is_same = built_by == rustc();
    let limit = if is_same { DEARER_MAX } else { DEARER_MAX_OTHER_RUSTC };
    if !is_same {
        println!("{EXPECTED} is of {built_by}, this is {}", rustc());
    }
    println!("{:<32} {:>10} {:>10} {:>8}", "instructions a call", "expected", "now", "change");
    let (mut wrong, mut cheaper) = (0, 0);
    for (name, &now) in counts {
        let Some(&was) = expected.get(name) else {
            println!("{name:<32} {:>10} {now:>10} {:>8}  NOT EXPECTED", "-", "-");
            wrong += 1;
            continue;
        };
        let change = now as f64 / was.max(1) as f64 - 1.0;
        let is_dearer = change > limit && now > was + DEARER_ALWAYS;
        let is_cheaper = change < -DEARER_MAX && now + DEARER_ALWAYS < was;
        wrong += usize::from(is_dearer);
        cheaper += usize::from(is_cheaper);
        let verdict = if is_dearer {
            "  DEARER"
        } else if is_cheaper {
            "  cheaper"
        } else {
            ""
        };
        println!("{name:<32} {was:>10} {now:>10} {:>+7.1}%{verdict}", change * 100.0);
    }
    for name in expected.keys().filter(|name| !counts.contains_key(*name)) {
        println!("{name:<32} is expected and was not counted");
        wrong += 1;
    }
    if cheaper > 0 {
        println!("{cheaper} got cheaper: keep that with cargo bench --bench instructions -- --update");
    }
    if wrong > 0 {
        return Err(format!(
            "{wrong} of {} got dearer by more than {:.0} % or are not in {EXPECTED}; if that is meant: \
             cargo bench --bench instructions -- --update",
            counts.len(),
            limit * 100.0,
        ));
    }
    Ok(())
}

fn main() -> ExitCode {
    let has = |wanted| std::env::args().any(|argument| argument == wanted);
    if has(COUNTED) || !has("--bench") {
        let mut meter = Meter::default();
        run_all(&mut meter);
        let lines: Vec<_> = meter.done.iter().map(|(name, calls)| format!("{name} {calls}")).collect();
        println!("{}", lines.join("\n"));
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions: skipped, valgrind is not installed (apt-get install valgrind)");
        return ExitCode::SUCCESS;
    }
    let counted = counts().and_then(|counts| if has("--update") { update(&counts) } else { compare(&counts) });
    match counted {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
