//! `loadtest overload`: twice what the server can do.
//!
//! Server and generator have a core each. Capacity is measured by a closed loop, latency without load by a low rate,
//! then an open loop sends more than the capacity for a while and falls back to the low rate. What is judged: memory,
//! the latency of what was accepted, that the rest was refused in order and at once, and how soon all is as before.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Failure;
use crate::args::{Load, Scenario, parse_duration, positive};
use crate::audit::{self, AuditReport, Tally};
use crate::machine::{self, Look, Machine, Watch};
use crate::open::{Figures, Generator, Pace, Rest, Sample, Verdict};
use crate::pinned::Pinning;
use crate::report::{Judged, Latency, to_f64, write_audit, write_json};
use crate::scenario::Plan;
use crate::server::{ServerArgs, TemporaryDirectory};
use crate::traffic::Shop;

/// Between the phases, so that none begins with what the one before has left to do.
const REST: Duration = Duration::from_millis(500);
/// The low rate goes on for this long after the overload, to see when all is as before.
const RECOVERY_WATCHED: Duration = Duration::from_secs(6);
/// All is as before when for this long nothing is refused and p99 is as it was.
const RECOVERED_FOR: Duration = Duration::from_millis(500);
/// How finely that moment is told.
const RECOVERED_STEP: Duration = Duration::from_millis(50);
/// "As it was" for the few requests of such a short time.
const RECOVERED_P99_TIMES: f64 = 2.0;
/// The generator was in its own way if more than one in a hundred left later than this after it was due.
const LATE_US_MAX: u64 = 1_000;
/// A core that is less busy than this at "full capacity" waits for the disk, or for others on the machine.
const CPU_FULL: f64 = 0.85;

/// Flags of `overload`.
#[derive(Args)]
pub(crate) struct OverloadArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Where the data directory is made and removed: must be on a disk.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    temp_dir: PathBuf,
    /// How long the overload lasts.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    duration: Duration,
    /// How much is sent, by the measured capacity.
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    times: f64,
    /// The low rate at which latency without load is measured, by the measured capacity.
    #[arg(long, default_value_t = 0.05, value_parser = positive)]
    low: f64,
    /// How long capacity is measured, and the low rate.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    calm: Duration,
    /// Connections of the open loop: as many requests may be under way. With fewer than the server serves within its
    /// --engine-delay-max it refuses nobody, and requests pile up before the connections instead.
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    connections: u32,
    /// Connections of the closed loop that measures the capacity.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    closed_connections: u32,
    /// Resident memory may grow to this many times what it is at full capacity.
    #[arg(long, default_value_t = 1.5, value_parser = positive)]
    memory_max: f64,
    /// p99 of accepted and of refused requests may grow to this many times the p99 without load.
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    p99_max: f64,
    /// All must be as before this long after the overload.
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    recovery_max: Duration,
    #[command(flatten)]
    load: Load,
    /// How long the server may take to start.
    #[arg(long, default_value = "2m", value_parser = parse_duration)]
    start_timeout: Duration,
    /// Write the result to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures, prints, judges. `false` if the promise was not kept or the audit disagrees.
pub(crate) async fn measure(args: &OverloadArgs) -> Result<bool, Failure> {
    machine::raise_open_files()?;
    let directory = TemporaryDirectory::new(&args.temp_dir)?;
    let machine = Machine::measure(directory.path())?;
    println!("{}", machine.line());
    let pinning = Pinning::choose()?;
    println!("{pinning}");
    let data = directory.path().join("data");
    // What is kept of finished orders would hide what the overload itself takes.
    let first = ["--resting-orders-max=20000".to_owned()];
    let server = pinning.start(&args.server, &data, &first, args.start_timeout).await?;
    let plan = Arc::new(Plan::set_up(server.target.clone(), &args.load).await?);
    let watch = Watch::start(server.pid);
    let tally = Tally::new(plan.orders.len());
    let traffic = Shop::new(Arc::clone(&plan), Scenario::Paid, args.load.seed, tally);
    let (connections, closed) = (args.connections as usize, args.closed_connections as usize);
    let generator = Generator::connect(
        server.target.address,
        connections.max(closed),
        traffic,
        args.load.seed,
        pinning.is_apart(),
    )?;
    let mut run = Run { args, watch, generator, ends: Vec::new() };
    let phases = run.all()?;
    let Run { watch, generator, ends, .. } = run;
    let looks = watch.end();
    let audit = audit::audit(&plan, &generator.traffic.ledger).await?;
    let report = Report::new(args, machine, pinning, &generator, phases, &ends, looks, audit);
    print!("{report}");
    write_json(args.json.as_deref(), &report)?;
    server.stop().await?;
    Ok(report.verdict.kept())
}

/// The numbers of the phases that are reported.
#[derive(Clone, Copy)]
struct Phases {
    capacity: usize,
    unloaded: usize,
    overload: usize,
    recovery: usize,
    /// What the closed loop did, in answers a second.
    capacity_per_second: f64,
}

/// When a phase began and ended on the watch's clock.
#[derive(Clone, Copy)]
struct Span {
    phase: usize,
    from: f64,
    to: f64,
}

struct Run<'a> {
    args: &'a OverloadArgs,
    watch: Watch,
    generator: Generator<Shop<Tally>>,
    ends: Vec<Span>,
}

impl Run<'_> {
    fn all(&mut self) -> Result<Phases, Failure> {
        let closed = Pace::Closed { connections: self.args.closed_connections as usize };
        self.phase(closed, self.args.load.warmup, false)?;
        let capacity = self.phase(closed, self.args.calm, false)?;
        let capacity_per_second = per_second(self.generator.figures(capacity));
        println!("capacity: {capacity_per_second:.0} requests/s, {} connections", self.args.closed_connections);
        self.rest()?;
        let low = Pace::Open { per_second: capacity_per_second * self.args.low };
        self.phase(low, REST, false)?;
        let unloaded = self.phase(low, self.args.calm, false)?;
        let high = Pace::Open { per_second: capacity_per_second * self.args.times };
        let overload = self.phase(high, self.args.duration, false)?;
        let recovery = self.phase(low, RECOVERY_WATCHED, true)?;
        self.generator.settle(self.args.load.timeout, Rest::Dropped)?;
        Ok(Phases { capacity, unloaded, overload, recovery, capacity_per_second })
    }

    fn phase(&mut self, pace: Pace, time: Duration, with_samples: bool) -> Result<usize, Failure> {
        let from = self.watch.now();
        let phase = self.generator.phase(pace, time, with_samples)?;
        self.ends.push(Span { phase, from, to: self.watch.now() });
        Ok(phase)
    }

    fn rest(&mut self) -> Result<(), Failure> {
        self.generator.settle(self.args.load.timeout, Rest::Dropped)?;
        std::thread::sleep(REST);
        Ok(())
    }
}

fn per_second(figures: &Figures) -> f64 {
    to_f64(figures.accepted_us.len()) / figures.time.as_secs_f64()
}

/// Figures of one phase.
#[derive(Serialize)]
struct PhaseReport {
    seconds: f64,
    due_per_second: f64,
    accepted_per_second: f64,
    accepted: Option<Latency>,
    refused_per_second: f64,
    refused: Option<Latency>,
    /// Requests that found every connection occupied when they were due.
    waited_for_a_connection: u64,
    /// Requests that were never sent: too many waited, or no connection was free before the phases were over.
    dropped: u64,
    /// How late requests left although a connection was free.
    generator_late: Option<Latency>,
    wrong: std::collections::BTreeMap<&'static str, u64>,
    /// Of one core.
    server_cpu: Option<f64>,
}

impl PhaseReport {
    fn new(figures: &Figures, span: Option<Span>, looks: &[Look]) -> Self {
        let seconds = figures.time.as_secs_f64();
        let rate = |histogram: &Histogram<u64>| to_f64(histogram.len()) / seconds;
        Self {
            seconds,
            due_per_second: to_f64(figures.due) / seconds,
            accepted_per_second: rate(&figures.accepted_us),
            accepted: Latency::of(&figures.accepted_us),
            refused_per_second: rate(&figures.refused_us),
            refused: Latency::of(&figures.refused_us),
            waited_for_a_connection: figures.waited,
            dropped: figures.dropped,
            generator_late: Latency::of(&figures.late_us),
            wrong: figures.wrong.clone(),
            server_cpu: span.and_then(|span| cpu_in(span, looks)),
        }
    }
}

/// Looks within a span of time.
fn within(span: Span, looks: &[Look]) -> impl Iterator<Item = &Look> {
    looks.iter().filter(move |look| span.from <= look.seconds && look.seconds <= span.to)
}

fn cpu_in(span: Span, looks: &[Look]) -> Option<f64> {
    let (first, last) = (within(span, looks).next()?, within(span, looks).last()?);
    (last.seconds > first.seconds).then(|| (last.cpu_seconds - first.cpu_seconds) / (last.seconds - first.seconds))
}

#[derive(Serialize)]
struct Ruling {
    lines: Vec<Judged>,
    audit_agrees: bool,
}

impl Ruling {
    fn kept(&self) -> bool {
        self.audit_agrees && self.lines.iter().all(Judged::kept)
    }
}

/// All that a run found.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    pinning: Pinning,
    capacity_per_second: f64,
    /// Accepted requests under overload, by the capacity.
    goodput: f64,
    capacity: PhaseReport,
    unloaded: PhaseReport,
    overload: PhaseReport,
    recovery: PhaseReport,
    /// Until p99 was as without load and nothing was refused; `None` if that was not seen.
    recovery_seconds: Option<f64>,
    /// The most while the capacity was measured.
    steady_resident_bytes: Option<u64>,
    /// The most under overload and after it.
    overload_resident_bytes: Option<u64>,
    verdict: Ruling,
    audit: AuditReport,
    looks: Vec<Look>,
}

impl Report {
    #[expect(clippy::too_many_arguments, reason = "it is where all that was measured comes together")]
    fn new(
        args: &OverloadArgs,
        machine: Machine,
        pinning: Pinning,
        generator: &Generator<Shop<Tally>>,
        phases: Phases,
        spans: &[Span],
        looks: Vec<Look>,
        audit: AuditReport,
    ) -> Self {
        let span = |phase: usize| spans.iter().find(|span| span.phase == phase).copied();
        let phase = |phase: usize| PhaseReport::new(generator.figures(phase), span(phase), &looks);
        let most = |phase: usize| within(span(phase)?, &looks).map(|look| look.resident_bytes).max();
        let (capacity, unloaded) = (phase(phases.capacity), phase(phases.unloaded));
        let (overload, recovery) = (phase(phases.overload), phase(phases.recovery));
        let steady = most(phases.capacity);
        let most_under_load = most(phases.overload).max(most(phases.recovery));
        let p99 = |latency: &Option<Latency>| latency.as_ref().map(|latency| to_f64(latency.p99_us));
        let unloaded_p99 = p99(&unloaded.accepted);
        let recovered = generator
            .figures(phases.recovery)
            .samples
            .as_deref()
            .zip(unloaded_p99)
            .and_then(|(samples, p99_us)| recovered_after(samples, p99_us * RECOVERED_P99_TIMES));
        let recovery_seconds = recovered.map(|after| after.as_secs_f64());
        let times_unloaded = |latency: &Option<Latency>| Some(p99(latency)? / unloaded_p99?);
        let wrong: u64 = [&capacity, &unloaded, &overload, &recovery]
            .iter()
            .map(|phase| phase.wrong.values().sum::<u64>() + phase.dropped)
            .sum();
        let line = |what, measured, at_most| Judged { what, measured, at_most };
        let mut lines = vec![
            line("memory, by that at full capacity", ratio(most_under_load, steady), args.memory_max),
            line("p99 of accepted, by that without load", times_unloaded(&overload.accepted), args.p99_max),
        ];
        // Who is never in need of refusing does not have to.
        if overload.refused.is_some() {
            let measured = times_unloaded(&overload.refused);
            lines.push(line("p99 of refused, by that of accepted without load", measured, args.p99_max));
        }
        lines.push(line("recovery, seconds", recovery_seconds, args.recovery_max.as_secs_f64()));
        lines.push(line("answers that were neither accepted nor 503 with Retry-After", Some(to_f64(wrong)), 0.0));
        Self {
            machine,
            pinning,
            capacity_per_second: phases.capacity_per_second,
            goodput: overload.accepted_per_second / phases.capacity_per_second,
            capacity,
            unloaded,
            overload,
            recovery,
            recovery_seconds,
            steady_resident_bytes: steady,
            overload_resident_bytes: most_under_load,
            verdict: Ruling { lines, audit_agrees: audit.agrees() },
            audit,
            looks,
        }
    }
}

fn ratio(of: Option<u64>, by: Option<u64>) -> Option<f64> {
    Some(to_f64(of?) / to_f64(by?))
}

/// The first moment from which on nothing is refused and p99 is at most `p99_us` for a while. Samples are told by the
/// moment they were due, so one that came late counts where it was asked for.
fn recovered_after(samples: &[Sample], p99_us: f64) -> Option<Duration> {
    let last = samples.iter().map(|sample| sample.due).max()?;
    let mut from = Duration::ZERO;
    while from + RECOVERED_FOR <= last {
        let window = samples.iter().filter(|sample| (from..from + RECOVERED_FOR).contains(&sample.due));
        let mut took: Vec<Duration> = Vec::new();
        let mut all_accepted = true;
        for sample in window {
            all_accepted &= sample.verdict == Verdict::Accepted;
            took.push(sample.took);
        }
        took.sort_unstable();
        let worst_but_one_percent = took.len().saturating_sub(1 + took.len() / 100);
        let p99 = took.get(worst_but_one_percent).map(Duration::as_micros);
        if all_accepted && p99.is_some_and(|p99| p99 as f64 <= p99_us) {
            return Some(from);
        }
        from += RECOVERED_STEP;
    }
    None
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, phase) in [
            ("capacity", &self.capacity),
            ("unloaded", &self.unloaded),
            ("overload", &self.overload),
            ("recovery", &self.recovery),
        ] {
            phase.write(out, name)?;
        }
        writeln!(out, "goodput   {:.2} of the capacity", self.goodput)?;
        if self.capacity.server_cpu.is_some_and(|cpu| cpu < CPU_FULL) {
            writeln!(
                out,
                "note      the closed loop did not fill the server's core: more --closed-connections can do more"
            )?;
        }
        if let (Some(steady), Some(most)) = (self.steady_resident_bytes, self.overload_resident_bytes) {
            let mib = |bytes: u64| to_f64(bytes) / f64::from(1 << 20);
            writeln!(
                out,
                "memory    {:.1} MiB at full capacity, at most {:.1} MiB from then on",
                mib(steady),
                mib(most)
            )?;
        }
        for line in &self.verdict.lines {
            writeln!(out, "{line}")?;
        }
        write_audit(out, &self.audit)
    }
}

impl PhaseReport {
    fn write(&self, out: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let cpu = self.server_cpu.map_or_else(String::new, |cpu| format!(", server at {:.0} % of a core", cpu * 100.0));
        writeln!(
            out,
            "{name}: {:.0} requests/s due over {:.1} s, {:.0}/s accepted, {:.0}/s refused{cpu}",
            self.due_per_second, self.seconds, self.accepted_per_second, self.refused_per_second
        )?;
        for (kind, latency) in [("accepted", &self.accepted), ("refused", &self.refused)] {
            if let Some(latency) = latency {
                writeln!(out, "  {kind:<9} {latency}")?;
            }
        }
        if let Some(late) = self.generator_late.as_ref().filter(|late| late.p99_us > LATE_US_MAX) {
            writeln!(out, "  warning   the generator fell behind its schedule: {late}")?;
        }
        if self.waited_for_a_connection > 0 {
            writeln!(
                out,
                "  waited    {} requests found every connection occupied (it is in their latency), {} were never sent",
                self.waited_for_a_connection, self.dropped
            )?;
        }
        for (kind, count) in &self.wrong {
            writeln!(out, "  wrong     {kind}: {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(due_ms: u64, took_us: u64, verdict: Verdict) -> Sample {
        Sample { due: Duration::from_millis(due_ms), took: Duration::from_micros(took_us), verdict }
    }

    #[test]
    fn recovered_is_from_the_last_bad_moment_on() {
        let calm = |from: u64| (from..2_000).map(|ms| sample(ms, 100, Verdict::Accepted));
        assert_eq!(recovered_after(&calm(0).collect::<Vec<_>>(), 200.0), Some(Duration::ZERO));
        let refused: Vec<_> = (0..300).map(|ms| sample(ms, 100, Verdict::Refused)).chain(calm(300)).collect();
        assert_eq!(recovered_after(&refused, 200.0), Some(Duration::from_millis(300)));
        let slow: Vec<_> = (0..520).map(|ms| sample(ms, 900, Verdict::Accepted)).chain(calm(520)).collect();
        // One in a hundred may be slow.
        assert_eq!(recovered_after(&slow, 200.0), Some(Duration::from_millis(550)));
        let never: Vec<_> = (0..2_000).map(|ms| sample(ms, 900, Verdict::Accepted)).collect();
        assert_eq!(recovered_after(&never, 200.0), None);
        assert_eq!(recovered_after(&[], 200.0), None);
    }

    #[test]
    fn a_wrong_audit_breaks_the_promise() {
        let line = |measured| Judged { what: "x", measured: Some(measured), at_most: 2.0 };
        let kept = |measured, audit_agrees| Ruling { lines: vec![line(measured)], audit_agrees }.kept();
        assert!(kept(1.0, true) && !kept(1.0, false) && !kept(3.0, true));
    }

    #[test]
    fn cpu_and_memory_are_read_off_the_span() {
        let look = |tenths: u32| Look {
            seconds: f64::from(tenths) / 10.0,
            resident_bytes: u64::from(tenths),
            cpu_seconds: f64::from(tenths) / 20.0,
        };
        let looks: Vec<_> = (0..100).map(look).collect();
        let span = Span { phase: 0, from: 2.0, to: 4.0 };
        assert!((cpu_in(span, &looks).unwrap() - 0.5).abs() < 1e-9);
        assert_eq!(within(span, &looks).map(|look| look.resident_bytes).max(), Some(40));
        assert_eq!(cpu_in(Span { from: 50.0, to: 60.0, ..span }, &looks), None);
    }
}
