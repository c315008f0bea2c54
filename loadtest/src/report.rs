//! Figures of a run, how they are printed and written as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Failure;
use crate::args::{ConnectionMode, Pace, Scenario};
use crate::audit::AuditReport;
use crate::calls::Route;
use crate::counts::Measured;
use crate::mix::Mix;
use crate::scenario::Plan;

/// Latencies of one route, in µs.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p99_9_us: u64,
    pub(crate) max_us: u64,
}

impl Latency {
    /// `None` if nothing was measured.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p99_9_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        })
    }
}

impl Latency {
    /// p50, p99, p99.9 and the longest, in ms.
    pub(crate) fn ms(&self) -> [f64; 4] {
        [self.p50_us, self.p99_us, self.p99_9_us, self.max_us].map(|us| to_f64(us) / 1e3)
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p99_9, max] = self.ms();
        write!(out, "p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p99_9:.2} ms, max {max:.2} ms")
    }
}

/// All that a run found.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Report {
    pub(crate) mix: Mix,
    pub(crate) scenario: Scenario,
    pub(crate) connections: u32,
    pub(crate) connection: ConnectionMode,
    /// The measured time.
    pub(crate) seconds: f64,
    /// Orders placed, or placed and paid, or refunded as well, in that time.
    pub(crate) operations: u64,
    pub(crate) operations_per_second: f64,
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    /// Of all requests that were answered 200, and of those never sent with what they had waited.
    pub(crate) latency: Option<Latency>,
    /// The same by route.
    pub(crate) routes: BTreeMap<Route, Latency>,
    /// Requests that began in the measured time and were never answered, as when their connection broke: they are in no
    /// latency.
    pub(crate) unanswered: u64,
    /// By code or kind, warm-up included.
    pub(crate) errors: BTreeMap<String, u64>,
    /// User and system time of the server, if its process is known.
    pub(crate) server_cpu_us_per_request: Option<f64>,
    pub(crate) client_cpu_us_per_request: Option<f64>,
    /// Left out if no audit was wanted.
    pub(crate) audit: Option<AuditReport>,
}

impl Report {
    pub(crate) fn new(
        pace: Pace,
        plan: &Plan,
        scenario: Scenario,
        measured: &Measured,
        audit: Option<AuditReport>,
    ) -> Self {
        let seconds = measured.window.as_secs_f64();
        let per_request = |cpu: Option<Duration>| {
            cpu.filter(|_| measured.requests > 0).map(|cpu| ratio(cpu.as_secs_f64() * 1e6, measured.requests))
        };
        let of_route = |route: Route| Some((route, Latency::of(&measured.routes_us[route as usize])?));
        Self {
            mix: plan.mix,
            scenario,
            connections: pace.connections,
            connection: plan.mode,
            seconds,
            operations: measured.operations,
            operations_per_second: to_f64(measured.operations) / seconds,
            requests: measured.requests,
            requests_per_second: to_f64(measured.requests) / seconds,
            latency: measured.all_us().as_ref().and_then(Latency::of),
            unanswered: measured.unanswered,
            routes: Route::ALL.into_iter().filter_map(of_route).collect(),
            errors: measured.errors.clone(),
            server_cpu_us_per_request: per_request(measured.server_cpu),
            client_cpu_us_per_request: per_request(measured.client_cpu),
            audit,
        }
    }

    /// Something was done, and nothing that was checked is wrong.
    pub(crate) fn sound(&self) -> bool {
        self.operations > 0 && self.audit.as_ref().is_none_or(AuditReport::agrees)
    }

    /// Whether the latency of all holds more than answers: what was never sent.
    fn has_unsent(&self) -> bool {
        let answered: u64 = self.routes.values().map(|latency| latency.count).sum();
        self.latency.as_ref().is_some_and(|all| all.count > answered)
    }

    /// The name of that line.
    pub(crate) fn all_name(&self) -> &'static str {
        if self.has_unsent() { "all, and never sent" } else { "all" }
    }

    /// What an operation is, for people.
    pub(crate) fn what(&self) -> &'static str {
        match self.scenario {
            Scenario::Paid => "paid orders",
            Scenario::NewOrder => "orders",
            Scenario::Refunded => "refunded orders",
            Scenario::Shipped => "shipped orders",
        }
    }

    /// A report of nothing, to be filled by tests.
    #[cfg(test)]
    pub(crate) fn empty(scenario: Scenario) -> Self {
        Self {
            mix: Mix::Reference,
            scenario,
            connections: 1,
            connection: ConnectionMode::Kept,
            seconds: 1.0,
            operations: 1,
            operations_per_second: 1.0,
            requests: 1,
            requests_per_second: 1.0,
            latency: None,
            unanswered: 0,
            routes: BTreeMap::new(),
            errors: BTreeMap::new(),
            server_cpu_us_per_request: None,
            client_cpu_us_per_request: None,
            audit: None,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{} mix, {}: {} {}/s ({} requests/s) over {:.1} s, {} connections{}",
            self.mix,
            self.scenario,
            thousands(self.operations_per_second.round() as u64),
            self.what(),
            thousands(self.requests_per_second.round() as u64),
            self.seconds,
            self.connections,
            if self.connection == ConnectionMode::Kept { "" } else { ", a new one for each request" }
        )?;
        let head = ["requests", "p50 ms", "p99 ms", "p99.9 ms", "max ms"];
        let [count, p50, p99, p99_9, max] = head;
        writeln!(out, "  {:<20} {count:>12} {p50:>9} {p99:>9} {p99_9:>9} {max:>9}", "answered 200")?;
        let all = self.latency.iter().filter(|_| self.routes.len() > 1 || self.has_unsent());
        let all = all.map(|latency| (self.all_name(), latency));
        for (name, latency) in self.routes.iter().map(|(route, latency)| (route.name(), latency)).chain(all) {
            let [p50, p99, p99_9, max] = latency.ms();
            let count = thousands(latency.count);
            writeln!(out, "  {name:<20} {count:>12} {p50:>9.2} {p99:>9.2} {p99_9:>9.2} {max:>9.2}")?;
        }
        if self.unanswered > 0 {
            writeln!(out, "  {:<20} {:>12} (sent, and in no latency)", "never answered", thousands(self.unanswered))?;
        }
        for (whose, cpu) in [("server", self.server_cpu_us_per_request), ("client", self.client_cpu_us_per_request)] {
            if let Some(us) = cpu {
                writeln!(out, "  CPU       {us:.1} µs a request, {whose}")?;
            }
        }
        if self.errors.is_empty() {
            writeln!(out, "  errors    none")?;
        }
        for (kind, count) in &self.errors {
            writeln!(out, "  errors    {kind}: {}{}", thousands(*count), hint(kind))?;
        }
        match &self.audit {
            None => writeln!(out, "  audit     not wanted"),
            Some(audit) => write_audit(out, audit),
        }
    }
}

fn hint(kind: &str) -> &'static str {
    match kind {
        "429" => " (perhaps too many pending orders of one user: raise --buyers, or shorten the run)",
        _ => "",
    }
}

pub(crate) fn write_audit(out: &mut impl fmt::Write, audit: &AuditReport) -> fmt::Result {
    let verdict = match audit.agrees() {
        true => "agrees",
        false if audit.not_done => "NOT DONE",
        false => "DISAGREES",
    };
    writeln!(
        out,
        "  audit     {verdict}: {} stock levels, balances and sums and {} orders compared, {} disagree, {} outcomes unknown; \
         {} prices set, {} books delisted and {} stores closed beside the load",
        audit.checked,
        audit.orders_checked,
        audit.disagreements,
        audit.unknown_outcomes,
        audit.prices_set,
        audit.delisted,
        audit.closed
    )?;
    if let Some(why) = &audit.orders_not_checked {
        writeln!(out, "            no order was asked for by its id: {why}")?;
    }
    for line in &audit.listed {
        writeln!(out, "            {line}")?;
    }
    Ok(())
}

/// What was promised, as far as it can be read off.
#[derive(Serialize)]
pub(crate) struct Judged {
    pub(crate) what: &'static str,
    /// What was measured; without it the promise is not kept.
    pub(crate) measured: Option<f64>,
    pub(crate) at_most: f64,
}

impl Judged {
    pub(crate) fn kept(&self) -> bool {
        self.measured.is_some_and(|measured| measured <= self.at_most)
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.kept() { "kept  " } else { "BROKEN" };
        let measured = self.measured.map_or_else(|| "unknown".to_owned(), |measured| format!("{measured:.2}"));
        write!(out, "{verdict}    {}: {measured}, at most {}", self.what, self.at_most)
    }
}

/// Writes `value` as JSON, if a file for it was named.
pub(crate) fn write_json(file: Option<&Path>, value: &impl Serialize) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// Median and extremes of the same figure over several rounds.
#[derive(Serialize, Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` for no values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, min, max })
    }

    /// `median (min to max)`, with `digits` behind the point.
    pub(crate) fn show(self, digits: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
    }
}

fn ratio(sum: f64, count: u64) -> f64 {
    sum / to_f64(count)
}

/// With a comma at every thousand.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Counts of a run lie far below 2^53, where every integer has an exact float.
pub(crate) fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread { median: 2.0, min: 1.0, max: 3.0 }.show(1), "2.0 (1.0 to 3.0)");
    }

    #[test]
    fn thousands_have_commas() {
        let shown = [0, 999, 1_000, 12_345_678].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "12,345,678"]);
    }

    #[test]
    fn what_was_never_sent_is_not_said_to_be_answered() {
        let latency = |count| Latency { count, p50_us: 1, p99_us: 1, p99_9_us: 1, max_us: 1 };
        let of = |all| Report {
            routes: BTreeMap::from([(Route::NewOrder, latency(5))]),
            latency: Some(latency(all)),
            ..Report::empty(Scenario::NewOrder)
        };
        assert!(!of(5).to_string().contains("  all"), "it is the same line again");
        assert!(of(7).to_string().contains("  all, and never sent             7"), "{}", of(7));
    }

    #[test]
    fn what_was_not_measured_is_not_kept() {
        let judged = |measured| Judged { what: "x", measured, at_most: 2.0 };
        assert_eq!([Some(1.0), Some(2.0), Some(2.1), None].map(|it| judged(it).kept()), [true, true, false, false]);
        assert_eq!(judged(None).to_string(), "BROKEN    x: unknown, at most 2");
    }

    #[test]
    fn latencies_of_nothing_are_left_out() {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        assert!(Latency::of(&histogram).is_none());
        for us in 1..=1_000 {
            histogram.record(us).unwrap();
        }
        let latency = Latency::of(&histogram).unwrap();
        assert_eq!((latency.p50_us, latency.p99_us, latency.p99_9_us, latency.max_us), (500, 990, 999, 1_000));
        assert_eq!(latency.to_string(), "p50 0.50 ms, p99 0.99 ms, p99.9 1.00 ms, max 1.00 ms");
    }
}
