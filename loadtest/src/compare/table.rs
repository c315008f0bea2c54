//! Medians, ranges and ratios of what was measured.

use std::fmt;

use serde::Serialize;

use super::contender::Contender;
use crate::args::Scenario;
use crate::report::{Report, Spread, to_f64};

/// Paid orders a second of the Flask and PostgreSQL service that the contract comes from. It is no part of this
/// repository, so it was measured once and is not measured again.
const PYTHON_REFERENCE_PER_SECOND: f64 = 97.0;

/// One measurement.
#[derive(Serialize)]
pub(super) struct Sample {
    pub(super) round: u32,
    pub(super) contender: Contender,
    pub(super) scenario: Scenario,
    /// Connections, or clients of the database.
    pub(super) clients: u32,
    /// Orders placed, or placed and paid.
    pub(super) operations_per_second: f64,
    /// An order that is paid is two of them, with Redis one.
    pub(super) requests_per_second: f64,
    /// CPU time of the server with all of its processes.
    pub(super) cpu_us_per_request: Option<f64>,
    pub(super) cpu_us_per_operation: Option<f64>,
    /// Of new_order; with Redis of the call. pgbench does not tell.
    pub(super) p99_us: Option<u64>,
    pub(super) payment_p99_us: Option<u64>,
    /// Frames in an average journal batch, if the server tells.
    pub(super) journal_frames_per_batch: Option<f64>,
    /// Average time of a journal sync, if the server tells.
    pub(super) journal_sync_us: Option<f64>,
    /// What an audit found wrong.
    pub(super) wrong: Vec<String>,
    /// More, of those that speak HTTP.
    pub(super) report: Option<Report>,
}

impl Sample {
    /// Nothing measured yet.
    pub(super) fn empty(round: u32, contender: Contender, scenario: Scenario) -> Self {
        Self {
            round,
            contender,
            scenario,
            clients: 0,
            operations_per_second: 0.0,
            requests_per_second: 0.0,
            cpu_us_per_request: None,
            cpu_us_per_operation: None,
            p99_us: None,
            payment_p99_us: None,
            journal_frames_per_batch: None,
            journal_sync_us: None,
            wrong: Vec::new(),
            report: None,
        }
    }

    /// Something was done, and nothing that was checked is wrong.
    pub(super) fn sound(&self) -> bool {
        self.operations_per_second > 0.0 && self.wrong.is_empty() && self.report.as_ref().is_none_or(Report::sound)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}, {}: {:.0}/s", self.contender, self.scenario, self.operations_per_second)?;
        if let Some(us) = self.cpu_us_per_request {
            write!(out, ", {us:.1} µs of CPU a request")?;
        }
        let errors = self.report.iter().flat_map(|report| &report.errors);
        errors.into_iter().try_for_each(|(kind, count)| write!(out, ", errors {kind}: {count}"))?;
        if !self.sound() {
            write!(out, ", NOT SOUND")?;
        }
        self.wrong.iter().try_for_each(|wrong| write!(out, "\n    {wrong}"))
    }
}

/// The rounds of one contender in one scenario.
#[derive(Serialize)]
struct Row {
    contender: Contender,
    clients: u32,
    operations_per_second: Spread,
    requests_per_second: Spread,
    /// Operations a second of the service by those of this one, from the same round.
    service_by_this: Option<Spread>,
    /// Operations a second of this one by those of the bare server, from the same round.
    by_bare: Option<Spread>,
    cpu_us_per_request: Option<Spread>,
    cpu_us_per_operation: Option<Spread>,
    p99_us: Option<Spread>,
    payment_p99_us: Option<Spread>,
    journal_frames_per_batch: Option<Spread>,
    journal_sync_us: Option<Spread>,
    /// Requests of all rounds that were never answered: they are in no latency.
    unanswered: u64,
}

/// All contenders in one scenario.
#[derive(Serialize)]
pub(super) struct Table {
    scenario: Scenario,
    /// The one of this service's that the others are measured by.
    service: Option<Contender>,
    rows: Vec<Row>,
}

impl Table {
    /// `None` if nobody did it.
    pub(super) fn of(scenario: Scenario, samples: &[Sample]) -> Option<Self> {
        let samples: Vec<&Sample> = samples.iter().filter(|sample| sample.scenario == scenario).collect();
        let mut contenders: Vec<Contender> = samples.iter().map(|sample| sample.contender).collect();
        contenders.sort_unstable();
        contenders.dedup();
        let service = contenders.iter().copied().find(|contender| contender.durability().is_some());
        let rows: Vec<Row> =
            contenders.into_iter().filter_map(|contender| Row::of(contender, service, &samples)).collect();
        (!rows.is_empty()).then_some(Self { scenario, service, rows })
    }

    /// The heads of the columns.
    fn heads(&self) -> Vec<String> {
        let what = if self.scenario == Scenario::Paid { "paid orders/s" } else { "orders/s" };
        let heads =
            ["", what, "the service ÷ this", "this ÷ bare", "server CPU, µs a request", "µs an order", "p99, ms"];
        heads.map(str::to_owned).to_vec()
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let show = |spread: Option<Spread>, digits| spread.map_or_else(|| "–".to_owned(), |spread| spread.show(digits));
        let ms = |us: Spread| Spread { median: us.median / 1e3, min: us.min / 1e3, max: us.max / 1e3 };
        let mut cells: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                let is_itself = self.service == Some(row.contender);
                vec![
                    format!("{}, {} clients", row.contender, row.clients),
                    row.operations_per_second.show(0),
                    show(row.service_by_this.filter(|_| !is_itself), 2),
                    show(row.by_bare.filter(|_| row.contender != Contender::Bare), 2),
                    show(row.cpu_us_per_request, 1),
                    show(row.cpu_us_per_operation, 1),
                    show(row.p99_us.map(ms), 1),
                ]
            })
            .collect();
        let service = self.rows.iter().find(|row| Some(row.contender) == self.service);
        if let (Scenario::Paid, Some(service)) = (self.scenario, service) {
            let ratio = service.operations_per_second.median / PYTHON_REFERENCE_PER_SECOND;
            let none = || "–".to_owned();
            cells.push(vec![
                "the Python reference, measured once, not here".to_owned(),
                format!("{PYTHON_REFERENCE_PER_SECOND}"),
                format!("{ratio:.0}"),
                none(),
                none(),
                none(),
                none(),
            ]);
        }
        cells
    }

    /// The journal, and what is in no latency, below the table.
    fn notes(&self) -> Vec<String> {
        let note = |row: &Row| {
            let (frames, sync) = (row.journal_frames_per_batch?, row.journal_sync_us);
            let sync = sync.map_or_else(String::new, |us| format!(", a sync takes {} µs", us.show(0)));
            Some(format!("{}: {} frames a journal batch{sync}", row.contender, frames.show(1)))
        };
        let unanswered = |row: &Row| {
            let count = (row.unanswered > 0).then_some(row.unanswered)?;
            Some(format!("{}: {count} requests were never answered and are in no latency", row.contender))
        };
        self.rows.iter().filter_map(note).chain(self.rows.iter().filter_map(unanswered)).collect()
    }

    /// As a table of Markdown.
    pub(super) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("{}, median (least to most) over the rounds:\n\n", self.scenario);
        let heads = self.heads();
        text.push_str(&line(&heads));
        text.push_str(&line(&vec!["---".to_owned(); heads.len()]));
        self.cells().iter().for_each(|cells| text.push_str(&line(cells)));
        self.notes().iter().for_each(|note| text.push_str(&format!("\n{note}\n")));
        text
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<Vec<String>> = std::iter::once(self.heads()).chain(self.cells()).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        writeln!(out, "{}: median (least to most) over the rounds", self.scenario)?;
        for line in &lines {
            let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(out, "  {}", cells.join("  ").trim_end())?;
        }
        self.notes().iter().try_for_each(|note| writeln!(out, "  {note}"))
    }
}

impl Row {
    fn of(contender: Contender, service: Option<Contender>, samples: &[&Sample]) -> Option<Self> {
        let mine: Vec<&&Sample> = samples.iter().filter(|sample| sample.contender == contender).collect();
        let spread = |figure: &dyn Fn(&Sample) -> Option<f64>| {
            Spread::of(mine.iter().filter_map(|sample| figure(sample)).collect())
        };
        // What somebody did in the round of a sample.
        let did = |who: Option<Contender>, round: u32| {
            let sample = samples.iter().find(|sample| Some(sample.contender) == who && sample.round == round)?;
            Some(sample.operations_per_second).filter(|per_second| *per_second > 0.0)
        };
        Some(Self {
            contender,
            clients: mine.first()?.clients,
            operations_per_second: spread(&|sample| Some(sample.operations_per_second))?,
            requests_per_second: spread(&|sample| Some(sample.requests_per_second))?,
            service_by_this: spread(&|sample| Some(did(service, sample.round)? / did(Some(contender), sample.round)?)),
            by_bare: spread(&|sample| Some(sample.operations_per_second / did(Some(Contender::Bare), sample.round)?)),
            cpu_us_per_request: spread(&|sample| sample.cpu_us_per_request),
            cpu_us_per_operation: spread(&|sample| sample.cpu_us_per_operation),
            p99_us: spread(&|sample| sample.p99_us.map(to_f64)),
            payment_p99_us: spread(&|sample| sample.payment_p99_us.map(to_f64)),
            journal_frames_per_batch: spread(&|sample| sample.journal_frames_per_batch),
            journal_sync_us: spread(&|sample| sample.journal_sync_us),
            unanswered: mine.iter().filter_map(|sample| sample.report.as_ref()).map(|report| report.unanswered).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(round: u32, contender: Contender, operations_per_second: f64) -> Sample {
        Sample { clients: 64, operations_per_second, ..Sample::empty(round, contender, Scenario::Paid) }
    }

    fn table() -> Table {
        let samples = [
            sample(1, Contender::Postgres, 10.0),
            sample(1, Contender::Bare, 100.0),
            sample(1, Contender::Sync, 50.0),
            sample(2, Contender::Sync, 15.0),
            sample(2, Contender::Bare, 20.0),
        ];
        assert!(Table::of(Scenario::NewOrder, &samples).is_none());
        Table::of(Scenario::Paid, &samples).unwrap()
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let table = table();
        let who: Vec<Contender> = table.rows.iter().map(|row| row.contender).collect();
        assert_eq!(who, [Contender::Bare, Contender::Sync, Contender::Postgres]);
        assert_eq!(table.service, Some(Contender::Sync));
        assert_eq!(table.rows[0].operations_per_second.median, 60.0);
        assert_eq!(table.rows[1].by_bare, Some(Spread { median: 0.625, min: 0.5, max: 0.75 }));
        assert_eq!(table.rows[2].service_by_this, Some(Spread { median: 5.0, min: 5.0, max: 5.0 }));
    }

    #[test]
    fn tables_of_markdown_have_as_many_cells_in_each_line() {
        let text = table().markdown();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(lines.iter().all(|line| line.matches('|').count() == 8), "{text}");
        assert!(
            lines[4].starts_with("| PostgreSQL functions, pgbench, 64 clients | 10 (10 to 10) | 5.00 (5.00 to 5.00) |")
        );
        assert!(lines[5].contains("measured once"), "{text}");
    }

    #[test]
    fn what_was_never_answered_is_told() {
        let broken = |round, unanswered| Sample {
            report: Some(Report { unanswered, ..Report::empty(Scenario::Paid) }),
            ..sample(round, Contender::Sync, 1.0)
        };
        let table = |samples: &[Sample]| Table::of(Scenario::Paid, samples).unwrap();
        let told = "bookstore, sync: 5 requests were never answered and are in no latency\n";
        let broken_twice = table(&[broken(1, 2), broken(2, 3), sample(1, Contender::Bare, 2.0)]);
        assert!(broken_twice.markdown().ends_with(told) && broken_twice.to_string().ends_with(told), "{broken_twice}");
        assert!(!table(&[broken(1, 0)]).to_string().contains("answered"));
    }

    #[test]
    fn nothing_done_is_not_sound() {
        assert!(sample(1, Contender::Sync, 1.0).sound());
        assert!(!sample(1, Contender::Sync, 0.0).sound());
        assert!(!Sample { wrong: vec!["x".to_owned()], ..sample(1, Contender::Sync, 1.0) }.sound());
    }
}
