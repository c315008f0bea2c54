//! The log of `serve`, on stderr: its lines, each with the id of the request that it is about, and its levels, which may
//! change.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt as log, reload};

use super::args::{LogFormat, ServeArgs};
#[cfg(feature = "otlp")]
use super::otlp::Export;
use super::progress;
use crate::trace;

/// ractor keeps a span for each actor and enters it for each message. We log nothing inside, so it would only cost.
const RACTOR: &str = "ractor";

/// The log of this process.
#[derive(Debug, Clone)]
pub(super) struct Log {
    levels: reload::Handle<Targets, Registry>,
}

impl Log {
    /// Begins it. What else is to hear of requests is in `more`.
    pub(super) fn begin(args: &ServeArgs, #[cfg(feature = "otlp")] more: Option<&Export>) -> Self {
        let (filter, levels) = reload::Layer::new(targets(&args.log_level));
        let lines = log::layer()
            .with_writer(progress::stderr)
            .with_ansi(false)
            .event_format(Lines::new(args.log_format))
            // It would be told on stderr, which is what could not be written; and that panics.
            .log_internal_errors(false)
            .with_filter(filter);
        let all = tracing_subscriber::registry().with(lines);
        #[cfg(feature = "otlp")]
        let all = all.with(more.map(Export::layer));
        // It fails only when there is one already, in a test's process.
        let _ = all.try_init();
        Log { levels }
    }

    /// Takes these levels from now on. True if they are others than before.
    pub(super) fn set(&self, levels: &str) -> bool {
        let new = targets(levels);
        let is_other = self.levels.with_current(|old| *old != new).unwrap_or(false);
        // It fails only when the log is gone, at the end of the process.
        is_other && self.levels.reload(new).is_ok()
    }
}

/// Judges levels: one for all, and others for targets, as in `info,bookstore::saga=debug`.
pub(super) fn judged(levels: &str) -> Result<String, String> {
    for part in levels.split(',') {
        let (target, level) = part.split_once('=').map_or((None, part), |(target, level)| (Some(target), level));
        // Else what is misspelt would be a target of which everything is logged.
        if level.is_empty() || level.parse::<LevelFilter>().is_err() || level.bytes().any(|byte| byte.is_ascii_digit())
        {
            return Err(format!("`{level}` is no level: off, error, warn, info, debug, trace"));
        }
        if target.is_some_and(|target| target.is_empty() || target.contains(['[', ' '])) {
            return Err(format!("`{part}`: a target is a path, as in bookstore::saga=debug"));
        }
    }
    Ok(levels.to_owned())
}

fn targets(levels: &str) -> Targets {
    // Judged before.
    let wanted = levels.parse::<Targets>().unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
    if wanted.iter().any(|(target, _)| target.starts_with(RACTOR)) {
        return wanted;
    }
    let usual = wanted.default_level().unwrap_or(LevelFilter::OFF);
    wanted.with_target(RACTOR, usual.min(LevelFilter::WARN))
}

/// A line for each event: when, how bad, from where, what, and the id of the request.
struct Lines {
    json: Option<Format<Json>>,
}

impl Lines {
    fn new(format: LogFormat) -> Self {
        let json = || log::format().json().with_current_span(false).with_span_list(false);
        Lines { json: (format == LogFormat::Json).then(json) }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let id = trace::current().id();
        if let Some(json) = &self.json {
            let mut line = String::new();
            json.format_event(context, Writer::new(&mut line), event)?;
            return match (id, line.strip_suffix("}\n")) {
                // An id has nothing in it that JSON would escape.
                (Some(id), Some(begun)) => writeln!(out, r#"{begun},"request_id":"{id}"}}"#),
                _ => out.write_str(&line),
            };
        }
        SystemTime.format_time(&mut out)?;
        write!(out, " {:>5} {}: ", event.metadata().level(), event.metadata().target())?;
        context.format_fields(out.by_ref(), event)?;
        match id {
            Some(id) => writeln!(out, " request_id={id}"),
            None => writeln!(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_judged() {
        for good in ["info", "off", "DEBUG", "info,bookstore::saga=debug", "bookstore=trace", "warn,a=off,b::c=error"] {
            assert_eq!(judged(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "inof", "info,", "bookstore::saga", "info,x=loud", "=debug", "3", "x=9", "a[b]=info", "info, a=info"]
        {
            assert!(judged(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ractor_is_asked_for_by_its_name_only() {
        let enabled = |levels: &str, target: &str| targets(levels).would_enable(target, &Level::DEBUG);
        assert!(enabled("debug", "bookstore::engine") && !enabled("debug", "ractor::actor"));
        assert!(enabled("info,ractor=debug", "ractor::actor") && !enabled("info,ractor=debug", "bookstore"));
        assert!(!targets("off").would_enable("ractor", &Level::WARN));
        assert!(targets("info").would_enable("ractor", &Level::WARN));
    }
}
