//! A run beside an earlier one.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Failure;
use crate::chart::number_text;
use crate::document::{LoadShown, Point, SCHEMA};
use crate::report::{Report, to_f64};

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
    requests_per_second: f64,
    latency: Option<EarlierLatency>,
}

#[derive(Deserialize)]
struct EarlierLatency {
    p50_us: u64,
    p99_us: u64,
    p99_9_us: u64,
}

/// A figure then and now.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) what: &'static str,
    pub(crate) before: f64,
    pub(crate) now: f64,
    /// Now by then, less 1.
    pub(crate) change: f64,
    /// How much worse it is, as a share of then; below 0 if it is better.
    pub(crate) worse_by: f64,
    /// Whether more than was permitted is worse.
    pub(crate) is_regression: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_regression { "  REGRESSION" } else { "" };
        let Self { what, before, now, change, .. } = self;
        write!(out, "{what:<18} {now:>12.2} {before:>12.2} {:>+8.1} %{verdict}", change * 100.0)
    }
}

/// This run beside an earlier one.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Comparison {
    pub(crate) file: String,
    /// The commit of the earlier run.
    pub(crate) commit: Option<String>,
    /// The share by which throughput and p99 may be worse.
    pub(crate) permitted: Option<f64>,
    pub(crate) changes: Vec<Change>,
    /// What of the load is not the same: then the figures do not compare.
    pub(crate) differences: Vec<String>,
    /// The earlier curve, for the page.
    #[serde(skip)]
    pub(crate) percentiles: Vec<Point>,
}

impl Comparison {
    /// Reads the earlier run, which must have been written by a tool of the same schema.
    pub(crate) fn with(
        file: &Path,
        permitted: Option<f64>,
        load: &LoadShown,
        result: &Report,
    ) -> Result<Self, Failure> {
        let failed = |error: &dyn fmt::Display| Failure::from(format!("{}: {error}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
        Self::with_text(&text, permitted, load, result)
            .map(|comparison| Self { file: file.display().to_string(), ..comparison })
            .map_err(|error| failed(&error))
    }

    fn with_text(text: &str, permitted: Option<f64>, load: &LoadShown, result: &Report) -> Result<Self, Failure> {
        let earlier: Value = serde_json::from_str(text)?;
        match earlier["schema"].as_u64() {
            Some(schema) if schema == u64::from(SCHEMA) => {}
            Some(schema) => return Err(format!("schema {schema}; this tool reads {SCHEMA}").into()),
            None => return Err("not a result of `loadtest run --json`".into()),
        }
        let earlier = Earlier::deserialize(&earlier)?;
        let now = serde_json::to_value(load)?;
        let now_of = serde_json::to_value(result)?;
        let mut differences = Vec::new();
        let mut compare = |name: &str, before: &Value, now: &Value| {
            if before != now {
                differences.push(format!("{name} {}, was {}", bare(now), bare(before)));
            }
        };
        for (name, value) in now.as_object().into_iter().flatten() {
            compare(name, &earlier.load[name], value);
        }
        let EarlierResult { mix, scenario, connections, connection, requests_per_second, latency } = earlier.result;
        for (name, before) in
            [("mix", mix), ("scenario", scenario), ("connections", connections), ("connection", connection)]
        {
            compare(name, &before, &now_of[name]);
        }
        let mut changes = vec![change("requests/s", requests_per_second, result.requests_per_second, -1.0, permitted)];
        if let (Some(before), Some(now)) = (&latency, &result.latency) {
            let ms = |us: u64| to_f64(us) / 1e3;
            changes.push(change("p50, ms", ms(before.p50_us), ms(now.p50_us), 1.0, None));
            changes.push(change("p99, ms", ms(before.p99_us), ms(now.p99_us), 1.0, permitted));
            changes.push(change("p99.9, ms", ms(before.p99_9_us), ms(now.p99_9_us), 1.0, None));
        }
        let commit = earlier.environment["commit"].as_str().map(str::to_owned);
        Ok(Self { file: String::new(), commit, permitted, changes, differences, percentiles: earlier.percentiles })
    }

    /// Nothing is worse by more than was permitted.
    pub(crate) fn holds(&self) -> bool {
        !self.changes.iter().any(|change| change.is_regression)
    }
}

/// `worse` is 1 if more is worse, and -1 if less is.
fn change(what: &'static str, before: f64, now: f64, worse: f64, permitted: Option<f64>) -> Change {
    let change = if before > 0.0 { now / before - 1.0 } else { 0.0 };
    let worse_by = change * worse;
    Change {
        what,
        before,
        now,
        change,
        worse_by,
        is_regression: permitted.is_some_and(|permitted| worse_by > permitted),
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
        writeln!(out, "  {:<18} {:>12} {:>12} {:>10}", "", "now", "baseline", "change")?;
        for change in &self.changes {
            writeln!(out, "  {change}")?;
        }
        match self.permitted {
            Some(permitted) if !self.holds() => {
                let worse: Vec<_> = self.changes.iter().filter(|it| it.is_regression).map(|it| it.what).collect();
                writeln!(out, "  worse by more than {} %: {}", number_text(permitted * 100.0), worse.join("; "))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Scenario;
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

    fn result(requests_per_second: f64, p99_us: u64) -> Report {
        let latency = Some(Latency { count: 1, p50_us: 1, p99_us, p99_9_us: 9, max_us: 9 });
        Report { requests_per_second, latency, ..Report::empty(Scenario::Paid) }
    }

    fn compared(now: &Report, seed: u64, permitted: Option<f64>) -> Comparison {
        let earlier = serde_json::json!({
            "schema": SCHEMA, "environment": {"commit": "abc"}, "load": load(1), "result": result(1_000.0, 1_000),
        });
        Comparison::with_text(&earlier.to_string(), permitted, &load(seed), now).unwrap()
    }

    #[test]
    fn only_what_is_worse_by_more_is_a_regression() {
        let regressions = |rate, p99_us| -> Vec<&str> {
            let compared = compared(&result(rate, p99_us), 1, Some(0.1));
            compared.changes.iter().filter(|it| it.is_regression).map(|it| it.what).collect()
        };
        assert_eq!(regressions(950.0, 1_050), [""; 0]);
        assert_eq!(regressions(2_000.0, 100), [""; 0]);
        assert_eq!(regressions(850.0, 1_000), ["requests/s"]);
        assert_eq!(regressions(850.0, 1_200), ["requests/s", "p99, ms"]);
        let shown = compared(&result(850.0, 1_200), 1, Some(0.1)).to_string();
        assert!(shown.contains("worse by more than 10 %: requests/s; p99, ms"), "{shown}");
        assert!(compared(&result(1.0, 1_000_000), 1, None).holds(), "nothing was permitted or not");
    }

    #[test]
    fn another_load_is_told() {
        let same = compared(&result(1_000.0, 1_000), 1, None);
        assert_eq!((same.differences.len(), same.commit.as_deref()), (0, Some("abc")));
        let mut other = result(1_000.0, 1_000);
        other.connections = 7;
        assert_eq!(compared(&other, 2, None).differences, ["seed 2, was 1", "connections 7, was 1"]);
    }

    #[test]
    fn another_schema_is_refused() {
        let with = |text: &str| Comparison::with_text(text, None, &load(1), &result(1.0, 1)).unwrap_err().to_string();
        assert_eq!(with(r#"{"schema": 999}"#), format!("schema 999; this tool reads {SCHEMA}"));
        assert_eq!(with("{}"), "not a result of `loadtest run --json`");
    }
}
