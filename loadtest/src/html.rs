//! The result of a run as one page that needs no other file: it loads nothing and runs nothing.

use std::fmt::Write;

use crate::audit::AuditReport;
use crate::baseline::Comparison;
use crate::chart::{Chart, Line, Scale, number_text, seconds_a_point, thinned};
use crate::document::{Document, Loop, Point};
use crate::report::{Latency, Report, thousands, to_f64};

const STYLE: &str = include_str!("page.css");
/// The tables of seconds and percentiles are folded away.
const FOLDED: &str = "<details class=\"card\">";

/// The whole page.
pub(crate) fn page(document: &Document) -> String {
    let title = title(document);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    let environment = &document.environment;
    let _ = writeln!(out, "<p class=\"sub\">{} · {}</p>", escape(&environment.server.url), environment.started);
    out.push_str(&tiles(document));
    out.push_str("<h2>Over time</h2>\n<div class=\"charts\">\n");
    for chart in over_time(document) {
        out.push_str(&chart.html());
    }
    out.push_str("</div>\n<h2>Latency</h2>\n<div class=\"charts\">\n");
    out.push_str(&percentile_curve(document).html());
    out.push_str(&errors(&document.result));
    out.push_str("</div>\n");
    out.push_str(&routes(&document.result));
    if let Some(baseline) = &document.baseline {
        out.push_str(&comparison(baseline));
    }
    out.push_str(&audit(document.result.audit.as_ref()));
    out.push_str(&facts("The load", &load_facts(document)));
    out.push_str(&facts("The environment", &environment_facts(document)));
    out.push_str(&figures(document));
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn title(document: &Document) -> String {
    let result = &document.result;
    let kind = match document.load.kind {
        Loop::Closed => format!("closed loop, {} connections", thousands(u64::from(result.connections))),
        Loop::Open => {
            format!("open loop, {} requests/s due", number_text(document.load.rate_per_second.unwrap_or_default()))
        }
    };
    format!("{} mix, {}: {kind}", result.mix, result.what())
}

/// Makes any text harmless inside an element or an attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}

fn tiles(document: &Document) -> String {
    let result = &document.result;
    let count = |value: f64| thousands(value.round() as u64);
    let mut tiles = vec![
        (format!("{}/s", result.what()), count(result.operations_per_second), ""),
        ("requests/s".to_owned(), count(result.requests_per_second), ""),
    ];
    if let Some(latency) = &result.latency {
        let [p50, p99, p99_9, _] = latency.ms();
        for (name, ms) in [("p50", p50), ("p99", p99), ("p99.9", p99_9)] {
            tiles.push((name.to_owned(), tile_ms(ms), ""));
        }
    }
    if let Some(us) = result.server_cpu_us_per_request {
        tiles.push(("CPU/request".to_owned(), format!("{us:.1} µs"), ""));
    }
    let errors: u64 = result.errors.values().sum();
    tiles.push(("errors".to_owned(), thousands(errors), if errors == 0 { "good" } else { "bad" }));
    tiles.push(match &result.audit {
        Some(audit) if audit.agrees() => ("audit".to_owned(), "agrees".to_owned(), "good"),
        Some(_) => ("audit".to_owned(), "disagrees".to_owned(), "bad"),
        None => ("audit".to_owned(), "not wanted".to_owned(), ""),
    });
    if result.unanswered > 0 {
        tiles.push(("never answered".to_owned(), thousands(result.unanswered), "bad"));
    }
    if let Some(open) = document.open.as_ref().filter(|open| open.dropped > 0) {
        tiles.push(("never sent".to_owned(), thousands(open.dropped), "bad"));
    }
    if let Some(baseline) = document.baseline.as_ref().filter(|baseline| baseline.permitted.is_some()) {
        let (text, class) = if baseline.holds() { ("holds", "good") } else { ("worse", "bad") };
        tiles.push(("baseline".to_owned(), text.to_owned(), class));
    }
    let mut out = "<div class=\"tiles\">\n".to_owned();
    for (name, value, class) in tiles {
        let _ = writeln!(out, "<div class=\"tile\"><span>{name}</span><b class=\"{class}\">{value}</b></div>");
    }
    out.push_str("</div>\n");
    out
}

/// With three digits, or what it has before the point: a tile is narrow.
fn tile_ms(ms: f64) -> String {
    match ms {
        _ if ms >= 100.0 => format!("{} ms", thousands(ms.round() as u64)),
        _ if ms >= 10.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.2} ms"),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / to_f64(values.len() as u64)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|line| line.points.iter().filter_map(|(_, value)| *value))
}

/// Everything that has a time on its x axis.
fn over_time(document: &Document) -> Vec<Chart> {
    let series = &document.series;
    let together = seconds_a_point(series.len());
    let to = series.last().map_or(1.0, |last| to_f64(last.second) + last.seconds);
    let time = ("seconds since the warm-up", Scale::Linear(0.0, to));
    let line = |name, class, fold: fn(&[f64]) -> f64, figure: &dyn Fn(&crate::series::Second) -> Option<f64>| {
        let points: Vec<_> =
            series.iter().map(|second| (to_f64(second.second) + second.seconds / 2.0, figure(second))).collect();
        Line { name, class, points: thinned(&points, together, fold) }
    };
    let ms = |us: Option<u64>| us.map(|us| to_f64(us) / 1e3);
    let answered = vec![line("requests/s", "a", mean, &|second| {
        // What comes after the measured time are the last answers, not a throughput.
        let is_measured = to_f64(second.second) < document.result.seconds && second.seconds > 0.0;
        is_measured.then(|| to_f64(second.requests) / second.seconds)
    })];
    let latency = vec![
        line("p99.9", "c", most, &|second| ms(second.p99_9_us)),
        line("p99", "b", most, &|second| ms(second.p99_us)),
        line("p50", "a", most, &|second| ms(second.p50_us)),
    ];
    let note = |what: &str| match together {
        1 => String::new(),
        _ => format!("Each point is the {what} of {together} seconds."),
    };
    let mut charts = vec![
        Chart {
            title: "Throughput",
            x: time,
            y: ("requests/s answered", Scale::up_to(values(&answered))),
            lines: answered,
            note: note("average"),
        },
        Chart {
            title: "Latency, of the answers of each second",
            x: time,
            y: ("ms, logarithmic", Scale::around(values(&latency))),
            lines: latency,
            note: note("worst"),
        },
    ];
    let Some(journal) = &document.journal else { return charts };
    let line = |name, class, figure: &dyn Fn(&crate::document::JournalSecond) -> Option<f64>| {
        let points: Vec<_> = journal.iter().map(|second| ((second.second - 0.5).max(0.0), figure(second))).collect();
        Line { name, class, points: thinned(&points, together, mean) }
    };
    let sync = vec![line("µs a sync", "a", &|second| second.sync_us)];
    let batch = vec![line("events a batch", "a", &|second| second.frames_per_batch)];
    charts.push(Chart {
        title: "Time of a journal sync",
        x: time,
        y: ("µs, average of a second", Scale::up_to(values(&sync))),
        lines: sync,
        note: String::new(),
    });
    charts.push(Chart {
        title: "Events in a journal batch",
        x: time,
        y: ("events, average of a second", Scale::up_to(values(&batch))),
        lines: batch,
        note: String::new(),
    });
    charts
}

fn percentile_curve(document: &Document) -> Chart {
    let curve = |name, class, points: &[Point]| Line {
        name,
        class,
        points: points.iter().map(|point| (point.quantile, Some(to_f64(point.us) / 1e3))).collect(),
    };
    let mut lines = vec![curve("this run", "a", &document.percentiles)];
    if let Some(baseline) = document.baseline.as_ref().filter(|baseline| !baseline.percentiles.is_empty()) {
        lines.push(curve("baseline", "before", &baseline.percentiles));
    }
    let answered = document.result.latency.as_ref().map_or(0, |latency| latency.count);
    Chart {
        title: "Percentiles of all latencies",
        x: ("percentile", Scale::Nines(to_f64(answered.max(10)).log10())),
        y: ("ms, logarithmic", Scale::around(values(&lines))),
        lines,
        note: "The right end is the longest of all.".to_owned(),
    }
}

fn errors(result: &Report) -> String {
    // No more than it holds, for most runs have none.
    let mut out = "<figure class=\"short\">\n<h3>Errors by code or kind, warm-up included</h3>\n".to_owned();
    if result.errors.is_empty() {
        out.push_str("<p class=\"good\">None: every request was answered 200.</p>\n</figure>\n");
        return out;
    }
    let most = result.errors.values().copied().max().unwrap_or(1).max(1);
    out.push_str("<table>\n");
    for (kind, count) in &result.errors {
        let share = to_f64(*count) / to_f64(most) * 100.0;
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"bar\"><i style=\"width:{share:.1}%\"></i></td></tr>",
            escape(kind),
            thousands(*count)
        );
    }
    out.push_str("</table>\n</figure>\n");
    out
}

/// A table; all columns but the first hold numbers.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let class = |column: usize| if column == 0 { "" } else { " class=\"n\"" };
    let mut out = "<table>\n<tr>".to_owned();
    for (column, text) in head.iter().enumerate() {
        let _ = write!(out, "<th{}>{text}</th>", class(column));
    }
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for (column, text) in row.iter().enumerate() {
            let _ = write!(out, "<td{}>{text}</td>", class(column));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
    out
}

fn routes(result: &Report) -> String {
    let row = |name: &str, latency: &Latency| {
        let mut row = vec![name.to_owned(), thousands(latency.count)];
        row.extend(latency.ms().map(|ms| format!("{ms:.2}")));
        row
    };
    let routes = result.routes.iter().map(|(route, latency)| row(route.name(), latency));
    let all = result.latency.iter().map(|latency| row(result.all_name(), latency));
    let head = ["route", "answered 200", "p50, ms", "p99, ms", "p99.9, ms", "max, ms"];
    format!("<h2>By route</h2>\n<div class=\"card\">\n{}</div>\n", table(&head, routes.chain(all)))
}

fn comparison(baseline: &Comparison) -> String {
    let mut out = format!("<h2>Beside the baseline</h2>\n<div class=\"card\">\n<p>{}", escape(&baseline.file));
    if let Some(commit) = &baseline.commit {
        let _ = write!(out, ", commit <code>{}</code>", escape(commit));
    }
    if let Some(permitted) = baseline.permitted {
        let _ = write!(
            out,
            "; worse by {} % at most is permitted, and 0.1 points more errors",
            number_text(permitted * 100.0)
        );
    }
    out.push_str("</p>\n");
    for difference in &baseline.differences {
        let _ = writeln!(out, "<p class=\"bad\">Not the same load: {}</p>", escape(difference));
    }
    let figure = |value: f64| if value >= 1_000.0 { number_text(value) } else { format!("{value:.2}") };
    let rows = baseline.changes.iter().map(|change| {
        let class = if change.is_regression { "bad" } else { "" };
        let text = if change.is_regression { " worse" } else { "" };
        vec![
            change.what.clone(),
            figure(change.now),
            figure(change.before),
            format!("<span class=\"{class}\">{}{text}</span>", change.text()),
        ]
    });
    out.push_str(&table(&["", "now", "baseline", "change"], rows));
    out.push_str("</div>\n");
    out
}

fn audit(audit: Option<&AuditReport>) -> String {
    let mut out = "<h2>The audit</h2>\n<div class=\"card\">\n".to_owned();
    let Some(audit) = audit else {
        out.push_str("<p>Not wanted: nobody knows whether what was acknowledged was done.</p>\n</div>\n");
        return out;
    };
    let (class, verdict) = match audit.agrees() {
        true => ("good", "It agrees."),
        false if audit.not_done => ("bad", "It could not be done."),
        false => ("bad", "It disagrees."),
    };
    let _ = writeln!(
        out,
        "<p><b class=\"{class}\">{verdict}</b> {} stock levels, balances and sums and {} orders were compared with \
         what was acknowledged, {} disagree; {} outcomes are unknown. Beside the load {} prices were set, {} books delisted and {} \
         stores closed.</p>",
        thousands(audit.checked),
        thousands(audit.orders_checked),
        thousands(audit.disagreements),
        thousands(audit.unknown_outcomes),
        thousands(audit.prices_set),
        thousands(audit.delisted),
        thousands(audit.closed)
    );
    if let Some(why) = &audit.orders_not_checked {
        let _ = writeln!(out, "<p>No order was asked for by its id: {}.</p>", escape(why));
    }
    if !audit.listed.is_empty() {
        out.push_str("<ul>\n");
        for line in &audit.listed {
            let _ = writeln!(out, "<li>{}</li>", escape(line));
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</div>\n");
    out
}

fn facts(title: &str, facts: &[(&str, String)]) -> String {
    let mut out = format!("<h2>{title}</h2>\n<div class=\"card\">\n<table class=\"facts\">\n");
    for (name, value) in facts {
        let _ = writeln!(out, "<tr><th>{name}</th><td>{value}</td></tr>");
    }
    out.push_str("</table>\n</div>\n");
    out
}

fn load_facts(document: &Document) -> Vec<(&'static str, String)> {
    let (load, result) = (&document.load, &document.result);
    let count = |number: u32| thousands(u64::from(number));
    let mut facts = vec![
        ("Mix and scenario", format!("{}, {}", result.mix, result.scenario)),
        (
            "People",
            format!("{} buyers, {} stores with {} books", count(load.buyers), count(load.stores), count(load.books)),
        ),
        ("Lines of an order", format!("{} to {}", load.lines_min, load.lines_max)),
        ("Measured", format!("{:.1} s after {:.1} s of warm-up", result.seconds, load.warmup_seconds)),
        (
            "Connections",
            format!(
                "{}, {}",
                count(result.connections),
                match result.connection {
                    crate::args::ConnectionMode::Kept => "kept",
                    crate::args::ConnectionMode::PerRequest => "a new one for each request",
                }
            ),
        ),
        ("Idempotency keys", if load.idempotency_keys { "yes" } else { "no" }.to_owned()),
        ("Seed", load.seed.to_string()),
    ];
    if let Some(open) = &document.open {
        facts.push((
            "Due",
            format!(
                "{} requests; {} found every connection occupied, {} were never sent. Latency counts from when a request \
                 was due.",
                thousands(open.due),
                thousands(open.waited_for_a_connection),
                thousands(open.dropped)
            ),
        ));
        if let Some(text) = open.never_sent() {
            facts.push(("Warning", text));
        }
        if let Some(late) = &open.generator_late {
            facts.push(("Sent late by the generator", late.to_string()));
        }
    }
    let cpu = [("server", result.server_cpu_us_per_request), ("client", result.client_cpu_us_per_request)];
    let cpu: Vec<_> = cpu.iter().filter_map(|(whose, us)| Some(format!("{whose} {:.1} µs", (*us)?))).collect();
    if !cpu.is_empty() {
        facts.push(("CPU time a request", cpu.join(", ")));
    }
    facts
}

fn environment_facts(document: &Document) -> Vec<(&'static str, String)> {
    let environment = &document.environment;
    let machine = &environment.machine;
    let command = |words: &[String]| format!("<code>{}</code>", escape(&words.join(" ")));
    let processor = machine.processor.as_ref().map_or_else(String::new, |name| format!(" of {}", escape(name)));
    let mut facts = vec![
        ("Cores", format!("{}{processor}", machine.cores)),
        ("Kernel", escape(&environment.kernel)),
        (
            "Disk sync",
            format!(
                "p50 {} µs, p99 {} µs: {} of 4 KiB, measured before the run in <code>{}</code>",
                thousands(machine.sync_p50_us),
                thousands(machine.sync_p99_us),
                thousands(machine.syncs),
                escape(&environment.sync_directory)
            ),
        ),
        ("Load generator", format!("loadtest {}, result of schema {}", document.version, document.schema)),
        ("Its command", command(&environment.command)),
    ];
    let server = &environment.server;
    let told = [
        ("Server", server.version.as_deref().map(escape)),
        ("Its command", server.command.as_deref().map(command)),
        ("Its rustc", server.rustc.as_deref().map(escape)),
        ("rustc of the generator", environment.rustc.as_deref().map(escape)),
        ("Commit of the working directory", environment.commit.as_deref().map(escape)),
    ];
    facts.extend(told.into_iter().filter_map(|(name, value)| Some((name, value?))));
    facts
}

/// What the charts are made of.
fn figures(document: &Document) -> String {
    let ms = |us: Option<u64>| us.map_or_else(|| "–".to_owned(), |us| format!("{:.2}", to_f64(us) / 1e3));
    let head = ["second", "requests", "errors", "p50, ms", "p99, ms", "p99.9, ms", "max, ms"];
    let seconds = document.series.iter().map(|second| {
        let counts = [second.second, second.requests, second.errors].map(thousands);
        let latencies = [second.p50_us, second.p99_us, second.p99_9_us, second.max_us].map(ms);
        counts.into_iter().chain(latencies).collect()
    });
    let mut out =
        format!("<h2>Figures</h2>\n{FOLDED}<summary>Each second</summary>\n{}</details>\n", table(&head, seconds));
    if let Some(journal) = &document.journal {
        let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
        let rows =
            journal.iter().map(|it| vec![format!("{:.1}", it.second), figure(it.frames_per_batch), figure(it.sync_us)]);
        let table = table(&["until second", "events a batch", "µs a sync"], rows);
        let _ = write!(out, "{FOLDED}<summary>The journal</summary>\n{table}</details>\n");
    }
    let rows = document
        .percentiles
        .iter()
        .map(|point| vec![format!("{:.5}", point.quantile * 100.0), format!("{:.3}", to_f64(point.us) / 1e3)]);
    let table = table(&["percentile", "ms"], rows);
    let _ = write!(out, "{FOLDED}<summary>Percentiles</summary>\n{table}</details>\n");
    out
}
