//! A run beside an earlier one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Failure;
use crate::args::{ConnectionMode, Scenario};
use crate::chart::number_text;
use crate::document::{LoadShown, Point, SCHEMA};
use crate::mix::Mix;
use crate::report::{Report, to_f64};

/// The name of the share of errors among all that was to be done.
const ERRORS: &str = "errors, %";
/// More than this is a regression, whatever is permitted of throughput and latency: a share of all, not of the errors.
const ERRORS_MORE_MAX: f64 = 0.001;
/// A route with fewer answers has no p99 to judge by.
const JUDGED_MIN: u64 = 100;

/// What is read of an earlier document.
#[derive(Deserialize)]
struct Earlier {
    environment: Value,
    load: Value,
    result: EarlierResult,
    #[serde(default)]
    percentiles: Vec<Point>,
}

#[derive(Deserialize)]
struct EarlierResult {
    mix: Value,
    scenario: Value,
    connections: Value,
    connection: Value,
    seconds: f64,
    operations_per_second: f64,
    requests_per_second: f64,
    latency: Option<EarlierLatency>,
    routes: BTreeMap<String, EarlierLatency>,
    errors: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct EarlierLatency {
    count: u64,
    p50_us: u64,
    p99_us: u64,
    p99_9_us: u64,
}

/// A figure then and now.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) what: String,
    pub(crate) before: f64,
    pub(crate) now: f64,
    /// Now by then, less 1; of a share the difference.
    pub(crate) change: f64,
    /// How much worse it is, as a share of then, or as the difference of the shares; below 0 if it is better.
    pub(crate) worse_by: f64,
    /// Whether more than was permitted is worse.
    pub(crate) is_regression: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_regression { "  REGRESSION" } else { "" };
        let Self { what, before, now, .. } = self;
        write!(out, "{what:<26} {now:>12.2} {before:>12.2} {:>12}{verdict}", self.text())
    }
}

impl Change {
    /// How much it changed.
    pub(crate) fn text(&self) -> String {
        match self.what == ERRORS {
            true => format!("{:+.2} points", self.change * 100.0),
            false => format!("{:+.1} %", self.change * 100.0),
        }
    }
}

/// This run beside an earlier one.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Comparison {
    pub(crate) file: String,
    /// The commit of the earlier run.
    pub(crate) commit: Option<String>,
    /// The share by which what is done in a second and each p99 may be worse.
    pub(crate) permitted: Option<f64>,
    pub(crate) changes: Vec<Change>,
    /// What of the load is not the same: then the figures do not compare.
    pub(crate) differences: Vec<String>,
    /// The earlier curve, for the page.
    #[serde(skip)]
    pub(crate) percentiles: Vec<Point>,
}

/// What a load is beside its [`LoadShown`], as it stands in a result.
#[derive(Serialize)]
pub(crate) struct Kind {
    pub(crate) mix: Mix,
    pub(crate) scenario: Scenario,
    pub(crate) connections: u32,
    pub(crate) connection: ConnectionMode,
}

/// An earlier run, read before there is anything to compare with it.
pub(crate) struct Baseline {
    file: String,
    permitted: Option<f64>,
    earlier: Earlier,
    differences: Vec<String>,
}

impl Baseline {
    /// Reads the earlier run, which must have been written by a tool of the same schema, and of the same load if more
    /// is wanted than to see both: `permitted` is by how much the coming one may be worse.
    pub(crate) fn read(file: &Path, permitted: Option<f64>, load: &LoadShown, kind: &Kind) -> Result<Self, Failure> {
        let failed = |error: &dyn fmt::Display| Failure::from(format!("{}: {error}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
        Self::of_text(&text, permitted, load, kind)
            .map(|baseline| Self { file: file.display().to_string(), ..baseline })
            .map_err(|error| failed(&error))
    }

    fn of_text(text: &str, permitted: Option<f64>, load: &LoadShown, kind: &Kind) -> Result<Self, Failure> {
        let earlier: Value = serde_json::from_str(text)?;
        match earlier["schema"].as_u64() {
            Some(schema) if schema == u64::from(SCHEMA) => {}
            Some(schema) => return Err(format!("schema {schema}; this tool reads {SCHEMA}").into()),
            None => return Err("not a result of `loadtest run --json`".into()),
        }
        let earlier = Earlier::deserialize(&earlier)?;
        let (load, kind) = (serde_json::to_value(load)?, serde_json::to_value(kind)?);
        let mut differences = Vec::new();
        let mut compare = |name: &str, before: &Value, now: &Value| {
            if before != now {
                differences.push(format!("{name} {}, was {}", bare(now), bare(before)));
            }
        };
        for (name, value) in load.as_object().into_iter().flatten() {
            compare(name, &earlier.load[name], value);
        }
        let EarlierResult { mix, scenario, connections, connection, .. } = &earlier.result;
        for (name, before) in
            [("mix", mix), ("scenario", scenario), ("connections", connections), ("connection", connection)]
        {
            compare(name, before, &kind[name]);
        }
        if permitted.is_some() && !differences.is_empty() {
            let text = "not the same load, so whether it got worse cannot be told (--fail-on-regression)";
            return Err(format!("{text}: {}", differences.join("; ")).into());
        }
        Ok(Self { file: String::new(), permitted, earlier, differences })
    }

    /// The run that has come about beside it.
    pub(crate) fn compare(self, result: &Report) -> Comparison {
        let Self { file, permitted, earlier: Earlier { environment, result: earlier, percentiles, .. }, differences } =
            self;
        let done = |counts: &mut dyn Iterator<Item = u64>| to_f64(counts.sum());
        let before_done = done(&mut earlier.routes.values().map(|latency| latency.count));
        let now_done = done(&mut result.routes.values().map(|latency| latency.count));
        let (before_second, now_second) = (before_done / earlier.seconds, now_done / result.seconds);
        let (before_whole, now_whole) = (earlier.operations_per_second, result.operations_per_second);
        let mut changes = vec![
            // Any answer counts here, and a refusal is soon given: it judges nothing.
            change("requests/s", earlier.requests_per_second, result.requests_per_second, -1.0, None),
            change("answered 200/s", before_second, now_second, -1.0, permitted),
            change("operations/s", before_whole, now_whole, -1.0, permitted),
        ];
        let share = |errors: &BTreeMap<String, u64>, done: f64| {
            let errors = to_f64(errors.values().sum());
            if errors > 0.0 { errors / (errors + done) } else { 0.0 }
        };
        changes.push(more_errors(share(&earlier.errors, before_done), share(&result.errors, now_done), permitted));
        let ms = |us: u64| to_f64(us) / 1e3;
        if let (Some(before), Some(now)) = (&earlier.latency, &result.latency) {
            changes.push(change("p50, ms", ms(before.p50_us), ms(now.p50_us), 1.0, None));
            changes.push(change("p99, ms", ms(before.p99_us), ms(now.p99_us), 1.0, permitted));
            changes.push(change("p99.9, ms", ms(before.p99_9_us), ms(now.p99_9_us), 1.0, None));
        }
        for (route, now) in &result.routes {
            let Some(before) = earlier.routes.get(route.name()) else { continue };
            let judged = permitted.filter(|_| before.count.min(now.count) >= JUDGED_MIN);
            let what = format!("p99, ms, {}", route.name());
            changes.push(change(&what, ms(before.p99_us), ms(now.p99_us), 1.0, judged));
        }
        let commit = environment["commit"].as_str().map(str::to_owned);
        Comparison { file, commit, permitted, changes, differences, percentiles }
    }
}

impl Comparison {
    /// Nothing is worse by more than was permitted.
    pub(crate) fn holds(&self) -> bool {
        !self.changes.iter().any(|change| change.is_regression)
    }
}

/// `worse` is 1 if more is worse, and -1 if less is.
fn change(what: &str, before: f64, now: f64, worse: f64, permitted: Option<f64>) -> Change {
    let change = if before > 0.0 { now / before - 1.0 } else { 0.0 };
    let worse_by = change * worse;
    Change {
        what: what.to_owned(),
        before,
        now,
        change,
        worse_by,
        is_regression: permitted.is_some_and(|permitted| worse_by > permitted),
    }
}

/// The shares of errors; what is permitted of the rest permits no more of these.
fn more_errors(before: f64, now: f64, permitted: Option<f64>) -> Change {
    let more = now - before;
    Change {
        what: ERRORS.to_owned(),
        before: before * 100.0,
        now: now * 100.0,
        change: more,
        worse_by: more,
        is_regression: permitted.is_some() && more > ERRORS_MORE_MAX,
    }
}

/// Without the quotes of a text.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commit = self.commit.as_ref().map_or_else(String::new, |commit| format!(" of {commit}"));
        writeln!(out, "  baseline  {}{commit}", self.file)?;
        for difference in &self.differences {
            writeln!(out, "  warning   not the same load: {difference}")?;
        }
        writeln!(out, "  {:<26} {:>12} {:>12} {:>12}", "", "now", "baseline", "change")?;
        for change in &self.changes {
            writeln!(out, "  {change}")?;
        }
        match self.permitted {
            Some(permitted) if !self.holds() => {
                let worse: Vec<_> = self.changes.iter().filter(|it| it.is_regression).map(|it| &*it.what).collect();
                let (permitted, points) = (number_text(permitted * 100.0), ERRORS_MORE_MAX * 100.0);
                writeln!(out, "  worse by more than {permitted} % (errors: {points:.1} points): {}", worse.join("; "))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Route;
    use crate::counts::NEVER_SENT;
    use crate::document::Loop;
    use crate::report::Latency;

    fn load(seed: u64) -> LoadShown {
        LoadShown {
            kind: Loop::Closed,
            rate_per_second: None,
            warmup_seconds: 1.0,
            buyers: 1,
            stores: 1,
            books: 1,
            lines_min: 1,
            lines_max: 1,
            idempotency_keys: true,
            seed,
        }
    }

    /// Of a second in which two routes were answered 200 as often as `per_second` says.
    fn result(per_second: f64, p99_us: u64) -> Report {
        let latency = |count, p99_us| Latency { count, p50_us: 1, p99_us, p99_9_us: 9, max_us: 9 };
        let count = per_second as u64;
        Report {
            operations_per_second: per_second,
            requests_per_second: per_second * 2.0,
            latency: Some(latency(count * 2, p99_us)),
            routes: BTreeMap::from([
                (Route::NewOrder, latency(count, 1_000)),
                (Route::Payment, latency(count, 1_000)),
                (Route::Search, latency(JUDGED_MIN - 1, 1_000)),
            ]),
            ..Report::empty(Scenario::Paid)
        }
    }

    fn kind(connections: u32) -> Kind {
        let Report { mix, scenario, connection, .. } = Report::empty(Scenario::Paid);
        Kind { mix, scenario, connections, connection }
    }

    fn earlier() -> String {
        let result = result(1_000.0, 1_000);
        let environment = serde_json::json!({"commit": "abc"});
        serde_json::json!({"schema": SCHEMA, "environment": environment, "load": load(1), "result": result}).to_string()
    }

    fn compared(now: &Report, permitted: Option<f64>) -> Comparison {
        Baseline::of_text(&earlier(), permitted, &load(1), &kind(1)).unwrap().compare(now)
    }

    fn regressions(now: &Report) -> Vec<String> {
        compared(now, Some(0.1)).changes.into_iter().filter(|it| it.is_regression).map(|it| it.what).collect()
    }

    #[test]
    fn only_what_is_worse_by_more_is_a_regression() {
        let of = |per_second, p99_us| regressions(&result(per_second, p99_us));
        assert_eq!(of(950.0, 1_050), [""; 0]);
        assert_eq!(of(2_000.0, 100), [""; 0]);
        assert_eq!(of(850.0, 1_000), ["answered 200/s", "operations/s"]);
        assert_eq!(of(850.0, 1_200), ["answered 200/s", "operations/s", "p99, ms"]);
        let shown = compared(&result(1_000.0, 1_200), Some(0.1)).to_string();
        assert!(shown.contains("worse by more than 10 % (errors: 0.1 points): p99, ms\n"), "{shown}");
        assert!(compared(&result(1.0, 1_000_000), None).holds(), "nothing was permitted or not");
    }

    #[test]
    fn who_refuses_fast_is_worse_though_there_are_more_answers() {
        let mut now = result(800.0, 500);
        now.requests_per_second = 50_000.0;
        assert_eq!(regressions(&now), ["answered 200/s", "operations/s"]);
    }

    #[test]
    fn each_route_is_judged_if_it_was_asked_often_enough() {
        let mut now = result(1_000.0, 1_000);
        now.routes.get_mut(&Route::Payment).unwrap().p99_us = 1_200;
        now.routes.get_mut(&Route::Search).unwrap().p99_us = 9_000;
        assert_eq!(regressions(&now), ["p99, ms, payment"]);
    }

    #[test]
    fn more_errors_are_a_regression_whatever_is_permitted() {
        let with = |kind: &str, count| {
            let mut now = result(1_000.0, 1_000);
            now.errors.insert(kind.to_owned(), count);
            now
        };
        // Of 2,099 that were answered and these.
        assert_eq!(regressions(&with("503", 2)), [""; 0]);
        assert_eq!(regressions(&with("503", 3)), ["errors, %"]);
        assert_eq!(regressions(&with(NEVER_SENT, 3)), ["errors, %"]);
        let shown = compared(&with("503", 21), Some(10.0)).to_string();
        assert!(shown.contains("+0.99 points  REGRESSION"), "{shown}");
        assert!(compared(&with("503", 21), None).holds());
    }

    #[test]
    fn another_load_is_told_and_not_judged() {
        let same = compared(&result(1_000.0, 1_000), None);
        assert_eq!((same.differences.len(), same.commit.as_deref()), (0, Some("abc")));
        let other = |permitted| Baseline::of_text(&earlier(), permitted, &load(2), &kind(7));
        let told = other(None).unwrap().compare(&result(1_000.0, 1_000));
        assert_eq!(told.differences, ["seed 2, was 1", "connections 7, was 1"]);
        let refused = other(Some(0.1)).err().unwrap().to_string();
        assert!(refused.contains("not the same load") && refused.contains("seed 2, was 1; connections 7"), "{refused}");
    }

    #[test]
    fn another_schema_is_refused() {
        let with = |text: &str| Baseline::of_text(text, None, &load(1), &kind(1)).err().unwrap().to_string();
        assert_eq!(with(r#"{"schema": 999}"#), format!("schema 999; this tool reads {SCHEMA}"));
        assert_eq!(with("{}"), "not a result of `loadtest run --json`");
    }
}
