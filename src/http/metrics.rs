//! Counters of the service and their Prometheus text.
//!
//! A request touches one atomic counter and one histogram, both found by index: no lock, no hash, no label text.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::routes::{Authority, ROUTES, UNROUTED, Verb};
use crate::engine::Stats;
use crate::stats::{Histogram, HistogramSnapshot};

/// Codes below the business answers, in the order of their slots.
const PLAIN_CODES: [u16; 18] =
    [200, 304, 400, 401, 403, 404, 405, 408, 409, 413, 414, 422, 429, 431, 500, 501, 503, 507];
const FIRST_BUSINESS_CODE: u16 = 511;
const LAST_BUSINESS_CODE: u16 = 530;
const BUSINESS_CODES: usize = (LAST_BUSINESS_CODE - FIRST_BUSINESS_CODE) as usize + 1;
/// The last slot is for codes that are none of these.
const SLOTS: usize = PLAIN_CODES.len() + BUSINESS_CODES + 1;

/// Upper bounds of request times in microseconds.
pub(super) const MICROS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// Times are counted in microseconds and shown in seconds. Divided by, since a product has digits that no bound has.
const MICROS_A_SECOND: f64 = 1e6;

/// One row a route, and one for requests that belong to none.
pub(super) struct Metrics {
    rows: Box<[Row]>,
}

struct Row {
    codes: [AtomicU64; SLOTS],
    micros: Histogram,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let row = || Row { codes: [const { AtomicU64::new(0) }; SLOTS], micros: Histogram::new(&MICROS) };
        Metrics { rows: (0..=ROUTES.len()).map(|_| row()).collect() }
    }

    /// Counts an answer. `route` is the index in the table, or the table's length.
    pub(super) fn record(&self, route: usize, code: u16, took: Duration) {
        let Some(row) = self.rows.get(route) else { return };
        row.codes[slot(code)].fetch_add(1, Ordering::Relaxed);
        row.micros.observe(took.as_micros() as u64);
    }

    /// Counts an answer to something that never became a request.
    pub(super) fn record_unrouted(&self, code: u16) {
        if let Some(row) = self.rows.last() {
            row.codes[slot(code)].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What was answered on a route so far, and how fast.
pub(super) struct RouteCounts {
    pub(super) path: &'static str,
    /// Code and number of answers.
    pub(super) codes: Vec<(String, u64)>,
    /// By [`MICROS`].
    pub(super) micros: HistogramSnapshot,
}

impl Metrics {
    /// The routes on which something was answered. Without those that tell of the service itself: who looks at it would
    /// see himself.
    pub(super) fn routes(&self) -> Vec<RouteCounts> {
        let is_work = |(row, _): &(usize, &Row)| {
            ROUTES.get(*row).is_none_or(|route| route.verb == Verb::Post && route.authority != Authority::Operator)
        };
        let counts = |(row, counts): (usize, &Row)| {
            let RowSnapshot { codes, micros } = RowSnapshot::of(counts);
            let codes = codes.into_iter().enumerate().filter(|(_, count)| *count > 0);
            let codes: Vec<_> = codes.map(|(slot, count)| (label(slot), count)).collect();
            (!codes.is_empty()).then(|| RouteCounts { path: route_label(row), codes, micros })
        };
        self.rows.iter().enumerate().filter(is_work).filter_map(counts).collect()
    }
}

fn slot(code: u16) -> usize {
    if (FIRST_BUSINESS_CODE..=LAST_BUSINESS_CODE).contains(&code) {
        return PLAIN_CODES.len() + usize::from(code - FIRST_BUSINESS_CODE);
    }
    PLAIN_CODES.iter().position(|plain| *plain == code).unwrap_or(SLOTS - 1)
}

fn label(slot: usize) -> String {
    match slot.checked_sub(PLAIN_CODES.len()) {
        None => PLAIN_CODES[slot].to_string(),
        Some(business) if business < BUSINESS_CODES => (usize::from(FIRST_BUSINESS_CODE) + business).to_string(),
        Some(_) => "other".to_owned(),
    }
}

fn route_label(row: usize) -> &'static str {
    ROUTES.get(row).map_or(UNROUTED, |route| route.path)
}

impl Metrics {
    /// The text of all metrics, with what the service and the engine say at this moment.
    pub(super) fn scrape(&self, now: Now, engine: Stats) -> String {
        text(Snapshot { rows: self.rows.iter().map(RowSnapshot::of).collect(), now, engine })
    }
}

fn text(snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

/// What the service says of itself at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) connections: u64,
    pub(super) body_bytes: u64,
    /// Requests that were refused since the start because the engine was crowded.
    pub(super) shed: u64,
    /// Commands that may be in the engine; `None` if it is not crowded.
    pub(super) commands_limit: Option<usize>,
    /// There is a place for backups.
    pub(super) has_backup_dir: bool,
    /// When the newest backup was begun that was there at the start.
    pub(super) found_backup: Option<SystemTime>,
}

/// Everything at one moment.
#[derive(Debug)]
struct Snapshot {
    rows: Vec<RowSnapshot>,
    now: Now,
    engine: Stats,
}

#[derive(Debug)]
struct RowSnapshot {
    codes: [u64; SLOTS],
    micros: HistogramSnapshot,
}

impl RowSnapshot {
    fn of(row: &Row) -> Self {
        RowSnapshot {
            codes: std::array::from_fn(|slot| row.codes[slot].load(Ordering::Relaxed)),
            micros: row.micros.snapshot(),
        }
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_http(&mut encoder)?;
        encode_engine(&mut encoder, &self.engine)?;
        self.encode_backups(&mut encoder)
    }
}

impl Snapshot {
    fn encode_http(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests answered, by route and outcome code";
        let mut metric = encoder.encode_descriptor("bookstore_http_requests", help, None, MetricType::Counter)?;
        for (row, counts) in self.rows.iter().enumerate() {
            for (slot, count) in counts.codes.iter().enumerate().filter(|(_, count)| **count > 0) {
                let labels = [("route", route_label(row).to_owned()), ("code", label(slot))];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
            }
        }
        let help = "Time from a request's head to its answer";
        let mut metric =
            encoder.encode_descriptor("bookstore_http_request_seconds", help, None, MetricType::Histogram)?;
        for (row, counts) in self.rows.iter().enumerate().filter(|(_, row)| row.micros.count > 0) {
            let labels = [("route", route_label(row))];
            let micros = &counts.micros;
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                micros.sum as f64 / MICROS_A_SECOND,
                observations(micros),
                &buckets(micros, MICROS_A_SECOND),
                None,
            )?;
        }
        let now = &self.now;
        gauge(encoder, "bookstore_http_connections", "Connections open", now.connections as f64)?;
        let help = "Bytes of request bodies that are read and not answered";
        gauge(encoder, "bookstore_body_bytes_in_flight", help, now.body_bytes as f64)?;
        let help = "Requests refused before their body was read, because the engine was crowded";
        counter(encoder, "bookstore_http_shed", help, now.shed)?;
        let help = "Commands that may be in the engine while it is crowded, 0 when it is not";
        gauge(encoder, "bookstore_commands_limit", help, now.commands_limit.unwrap_or(0) as f64)
    }

    fn encode_backups(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        counter(encoder, "bookstore_backups", "Backups made", self.engine.backups)?;
        counter(encoder, "bookstore_backup_failures", "Backups that failed", self.engine.backup_failures)?;
        let help = "When the newest backup was begun, here or before in --backup-dir, in seconds since the Unix epoch, 0 if none was";
        let name = "bookstore_backup_last_timestamp_seconds";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        if self.now.has_backup_dir {
            let since =
                |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            metric.encode_gauge(&self.engine.last_backup.or(self.now.found_backup).map_or(0.0, since))?;
        }
        Ok(())
    }
}

fn encode_engine(encoder: &mut DescriptorEncoder<'_>, stats: &Stats) -> fmt::Result {
    counter(encoder, "bookstore_journal_batches", "Journal batches written", stats.journal_batches)?;
    counter(encoder, "bookstore_journal_frames", "Journal frames written", stats.journal_frames)?;
    counter(encoder, "bookstore_journal_bytes", "Journal bytes written", stats.journal_bytes)?;
    histogram(encoder, "bookstore_journal_batch_frames", "Frames a journal batch", &stats.journal_batch_frames, 1.0)?;
    histogram(
        encoder,
        "bookstore_journal_sync_seconds",
        "Time of a journal sync",
        &stats.journal_sync_micros,
        MICROS_A_SECOND,
    )?;
    let lag = stats.journal_head.saturating_sub(stats.journal_durable);
    gauge(encoder, "bookstore_watermark_lag", "Events journaled and not durable yet", lag as f64)?;
    gauge(encoder, "bookstore_actors_live", "Actors alive", stats.live_actors as f64)?;
    gauge(encoder, "bookstore_actors_dormant", "Actors asleep", stats.dormant_actors as f64)?;
    gauge(encoder, "bookstore_accounts", "Accounts, closed ones included", stats.accounts as f64)?;
    gauge(encoder, "bookstore_stores", "Stores, closed ones included", stats.stores as f64)?;
    gauge(encoder, "bookstore_orders_in_memory", "Orders in memory", stats.orders_in_memory as f64)?;
    gauge(encoder, "bookstore_orders_resting", "Orders at rest on disk", stats.orders_resting as f64)?;
    counter(encoder, "bookstore_orders_left", "Orders that left memory for the disk", stats.orders_left)?;
    let help = "Age of the newest snapshot, or of the open if there is none";
    gauge(encoder, "bookstore_snapshot_age_seconds", help, stats.snapshot_age.as_secs_f64())?;
    let help = "Time that the newest snapshot of this process took, 0 before it";
    gauge(encoder, "bookstore_snapshot_duration_seconds", help, stats.snapshot_took.as_secs_f64())?;
    counter(encoder, "bookstore_snapshots", "Snapshots published", stats.snapshots)?;
    counter(encoder, "bookstore_snapshot_failures", "Snapshots that failed", stats.snapshot_failures)?;
    gauge(encoder, "bookstore_permits_in_use", "Commands admitted and not answered", stats.permits_in_use as f64)?;
    gauge(encoder, "bookstore_permits_max", "The most commands that are admitted", stats.permits_max as f64)?;
    let help = "1 when the disk is too full for changes";
    gauge(encoder, "bookstore_disk_low", help, f64::from(u8::from(stats.disk_low)))?;
    let help = "Free bytes on the disk of the data directory";
    let mut metric = encoder.encode_descriptor("bookstore_disk_free_bytes", help, None, MetricType::Gauge)?;
    if let Some(free) = stats.disk_free {
        metric.encode_gauge(&(free as f64))?;
    }
    gauge(encoder, "bookstore_search_books", "Books that a search can find", stats.search_books as f64)?;
    let help = "Bytes of the search index, estimated";
    gauge(encoder, "bookstore_search_index_bytes", help, stats.search_index_bytes as f64)?;
    let help = "1 when searches are answered, 0 while the index is rebuilt after a start";
    gauge(encoder, "bookstore_search_ready", help, f64::from(u8::from(stats.search_ready)))?;
    let help = "Time that the search index took to be rebuilt after the start, 0 until it is";
    gauge(encoder, "bookstore_search_rebuild_seconds", help, stats.search_rebuild.as_secs_f64())?;
    let help = "Times that a book's document could not be read for a search or its index";
    counter(encoder, "bookstore_search_unread_documents", help, stats.search_unread)?;
    let help = "Password hashes computed: for new passwords and for checks that memory could not answer";
    counter(encoder, "bookstore_password_hashes", help, stats.password_hashes)
}

/// `name` without `_total`: the encoder appends it.
fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: &HistogramSnapshot,
    unit: f64,
) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Histogram)?.encode_histogram::<NoLabelSet>(
        value.sum as f64 / unit,
        observations(value),
        &buckets(value, unit),
        None,
    )
}

/// Bounds with their counts; the encoder sums them up itself. The last bucket has no bound.
fn buckets(histogram: &HistogramSnapshot, unit: f64) -> Vec<(f64, u64)> {
    let bounds = histogram.bounds.iter().map(|bound| *bound as f64 / unit).chain([f64::INFINITY]);
    bounds.zip(histogram.counts.iter().copied()).collect()
}

/// The count has to be the sum of the buckets; one taken by itself could be a moment older or newer.
fn observations(histogram: &HistogramSnapshot) -> u64 {
    histogram.counts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_slot_and_label() {
        let mut seen = std::collections::BTreeSet::new();
        for code in PLAIN_CODES.into_iter().chain(FIRST_BUSINESS_CODE..=LAST_BUSINESS_CODE) {
            assert_eq!(label(slot(code)), code.to_string());
            assert!(seen.insert(slot(code)));
        }
        assert_eq!(label(slot(999)), "other");
        assert_eq!(seen.len() + 1, SLOTS);
    }

    /// The names are an interface: dashboards and alerts use them.
    #[test]
    fn the_names_are_the_promised_ones() {
        let frames = HistogramSnapshot { bounds: vec![1], counts: vec![2, 1], sum: 4, count: 3 };
        let micros = HistogramSnapshot { bounds: vec![500_000], counts: vec![2, 1], sum: 4_000_000, count: 3 };
        let second = Duration::from_secs(1);
        let engine = Stats {
            journal_head: 5,
            journal_durable: 3,
            journal_batches: 1,
            journal_frames: 2,
            journal_bytes: 3,
            journal_batch_frames: frames,
            journal_sync_micros: micros.clone(),
            live_actors: 4,
            dormant_actors: 5,
            orders_in_memory: 12,
            orders_resting: 13,
            orders_left: 14,
            permits_in_use: 6,
            permits_max: 7,
            snapshot_age: second,
            snapshot_took: second,
            snapshots: 8,
            snapshot_failures: 9,
            backups: 23,
            backup_failures: 24,
            last_backup: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(25)),
            disk_low: true,
            disk_free: Some(17),
            accounts: 18,
            stores: 19,
            net_put_in: 20,
            document_commits: 21,
            resting_rows_written: 22,
            search_books: 12,
            search_tokens: 13,
            search_index_bytes: 14,
            search_ready: true,
            search_rebuild: second,
            search_unread: 15,
            password_hashes: 16,
        };
        let metrics = Metrics::new();
        metrics.record(0, 517, Duration::from_millis(1));
        metrics.record_unrouted(400);
        let mut rows: Vec<_> = metrics.rows.iter().map(RowSnapshot::of).collect();
        rows[0].micros = micros;
        let text = text(Snapshot {
            rows,
            now: Now {
                connections: 10,
                body_bytes: 11,
                shed: 16,
                commands_limit: Some(17),
                has_backup_dir: true,
                found_backup: Some(SystemTime::UNIX_EPOCH),
            },
            engine,
        });
        for line in [
            "bookstore_http_requests_total{route=\"/buyer/new_order\",code=\"517\"} 1",
            "bookstore_http_requests_total{route=\"other\",code=\"400\"} 1",
            "bookstore_http_request_seconds_bucket{le=\"0.5\",route=\"/buyer/new_order\"} 2",
            "bookstore_http_request_seconds_bucket{le=\"+Inf\",route=\"/buyer/new_order\"} 3",
            "bookstore_http_request_seconds_count{route=\"/buyer/new_order\"} 3",
            "bookstore_http_connections 10.0",
            "bookstore_body_bytes_in_flight 11.0",
            "bookstore_http_shed_total 16",
            "bookstore_commands_limit 17.0",
            "bookstore_journal_batches_total 1",
            "bookstore_journal_frames_total 2",
            "bookstore_journal_bytes_total 3",
            "bookstore_journal_batch_frames_sum 4.0",
            "bookstore_journal_sync_seconds_bucket{le=\"+Inf\"} 3",
            "bookstore_watermark_lag 2.0",
            "bookstore_actors_live 4.0",
            "bookstore_actors_dormant 5.0",
            "bookstore_orders_in_memory 12.0",
            "bookstore_orders_resting 13.0",
            "bookstore_orders_left_total 14",
            "bookstore_snapshot_age_seconds 1.0",
            "bookstore_snapshot_duration_seconds 1.0",
            "bookstore_snapshots_total 8",
            "bookstore_snapshot_failures_total 9",
            "bookstore_backups_total 23",
            "bookstore_backup_failures_total 24",
            "bookstore_backup_last_timestamp_seconds 25.0",
            "bookstore_accounts 18.0",
            "bookstore_stores 19.0",
            "bookstore_disk_free_bytes 17.0",
            "bookstore_permits_in_use 6.0",
            "bookstore_permits_max 7.0",
            "bookstore_disk_low 1.0",
            "bookstore_search_books 12.0",
            "bookstore_search_index_bytes 14.0",
            "bookstore_search_ready 1.0",
            "bookstore_search_rebuild_seconds 1.0",
            "bookstore_search_unread_documents_total 15",
            "bookstore_password_hashes_total 16",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
