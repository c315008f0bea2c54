//! What `/admin/status` tells: everything of the moment in one object, for the page `/console` and for programs.
//!
//! It reads counters and stops nothing. Two things in it are older than the moment, and say how old: orders by state, which
//! are counted beside the traffic while somebody looks, and the last audit that was asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::metrics::{MICROS, RouteCounts};
use super::shared::Shared;
use crate::engine::{AuditReport, Engine, Error, OrderStatus, OrderTotals, Stats};
use crate::stats::HistogramSnapshot;

/// The shortest time between two counts of the orders.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// A count that took long is not made again before so many times as long: it takes a fiftieth of a core at most.
const COUNT_REST: u32 = 50;

/// What the routes for operators remember from one request to the next.
pub(super) struct Console {
    started: Instant,
    drain: Notify,
    audit: Mutex<Option<(Instant, Value)>>,
    totals: Arc<Totals>,
}

/// The last count of the orders.
#[derive(Default)]
struct Totals {
    /// One at a time.
    is_counting: AtomicBool,
    last: Mutex<Option<Counted>>,
}

struct Counted {
    at: Instant,
    took: Duration,
    totals: Result<OrderTotals, Error>,
}

impl Counted {
    /// Whether it is time for another one.
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= COUNT_EVERY.max(self.took * COUNT_REST)
    }
}

/// Somebody counts; nobody does when it is dropped, however it came to that.
struct Counting<'a>(&'a Totals);

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.0.is_counting.store(false, Ordering::Release);
    }
}

impl Console {
    pub(super) fn new() -> Self {
        Console {
            started: Instant::now(),
            drain: Notify::new(),
            audit: Mutex::default(),
            totals: Arc::new(Totals::default()),
        }
    }

    /// Ends the service as its `shutdown` does.
    pub(super) fn drain(&self) {
        // Kept until somebody waits for it.
        self.drain.notify_one();
    }

    /// Resolves when an operator wants the service to end.
    pub(super) fn drain_asked(&self) -> Notified<'_> {
        self.drain.notified()
    }

    /// Remembers an audit, and gives what is told of it.
    pub(super) fn audited(&self, report: &AuditReport, took: Duration) -> Value {
        let told = audit(report, took);
        *self.audit.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), told.clone()));
        told
    }

    fn last_audit(&self) -> Value {
        let last = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map_or(Value::Null, |(at, told)| {
            let mut told = told.clone();
            told["age_s"] = seconds(at.elapsed());
            told
        })
    }

    /// The last count of the orders. Begins the next one, if it is time for it.
    fn orders(&self, engine: &Engine) -> Value {
        let (told, is_old) = {
            let last = self.totals.last.lock().unwrap_or_else(PoisonError::into_inner);
            let is_old = last.as_ref().is_none_or(|last| last.is_old(Instant::now()));
            (last.as_ref().map_or(Value::Null, counted), is_old)
        };
        if is_old && !self.totals.is_counting.swap(true, Ordering::AcqRel) {
            let (totals, engine) = (self.totals.clone(), engine.clone());
            tokio::spawn(async move {
                let _counting = Counting(&totals);
                let began = Instant::now();
                let counted =
                    Counted { totals: engine.order_totals().await, at: Instant::now(), took: began.elapsed() };
                *totals.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(counted);
            });
        }
        told
    }
}

/// The whole of `/admin/status`.
pub(super) fn status(shared: &Shared) -> String {
    let (engine, console) = (&shared.engine, &shared.console);
    let stats = engine.stats();
    let state = match engine.not_ready() {
        _ if shared.is_ending() => "draining",
        None => "serving",
        Some(why) => why,
    };
    let mut body = json!({
        "code": 200,
        "message": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "state": state,
        "uptime_ms": console.started.elapsed().as_millis() as u64,
        "http": http(shared),
        "permits": { "in_use": stats.permits_in_use, "max": stats.permits_max },
        "orders": console.orders(engine),
        "audit": console.last_audit(),
    });
    if let Some(body) = body.as_object_mut() {
        put_engine(body, &stats);
    }
    body.to_string()
}

fn http(shared: &Shared) -> Value {
    let now = shared.now();
    json!({
        "mode": shared.config.mode.as_str(),
        "connections": now.connections,
        "connections_max": shared.connections_max,
        "body_bytes": now.body_bytes,
        "body_bytes_max": shared.config.bodies_in_flight_bytes_max,
        "shed": now.shed,
        "commands_limit": now.commands_limit,
        "bounds_us": MICROS,
        "routes": shared.metrics.routes().into_iter().map(route).collect::<Value>(),
    })
}

fn route(counts: RouteCounts) -> Value {
    let codes: Map<String, Value> = counts.codes.into_iter().map(|(code, count)| (code, count.into())).collect();
    json!({ "path": counts.path, "codes": codes, "us": counts.micros.counts })
}

fn put_engine(body: &mut Map<String, Value>, stats: &Stats) {
    let parts = json!({
        "journal": {
            "head": stats.journal_head,
            "durable": stats.journal_durable,
            "batches": stats.journal_batches,
            "events": stats.journal_frames,
            "bytes": stats.journal_bytes,
            "syncs": histogram(&stats.journal_sync_micros),
        },
        "snapshots": {
            "age_s": seconds(stats.snapshot_age),
            "took_ms": stats.snapshot_took.as_millis() as u64,
            "taken": stats.snapshots,
            "failures": stats.snapshot_failures,
        },
        "actors": { "awake": stats.live_actors, "asleep": stats.dormant_actors },
        "accounts": stats.accounts,
        "stores": stats.stores,
        "net_put_in": stats.net_put_in,
        "password_hashes": stats.password_hashes,
        "cold": {
            "orders_in_memory": stats.orders_in_memory,
            "orders_at_rest": stats.orders_resting,
            "orders_left": stats.orders_left,
            "rows_written": stats.resting_rows_written,
            "document_commits": stats.document_commits,
        },
        "disk": { "free_bytes": stats.disk_free, "low": stats.disk_low },
        "search": {
            "books": stats.search_books,
            "tokens": stats.search_tokens,
            "index_bytes": stats.search_index_bytes,
            "ready": stats.search_ready,
            "rebuild_ms": stats.search_rebuild.as_millis() as u64,
            "unread": stats.search_unread,
        },
    });
    if let Value::Object(parts) = parts {
        body.extend(parts);
    }
}

fn histogram(histogram: &HistogramSnapshot) -> Value {
    json!({ "bounds_us": histogram.bounds, "us": histogram.counts })
}

fn counted(counted: &Counted) -> Value {
    let mut told = match &counted.totals {
        Ok(totals) => {
            let states = OrderStatus::ALL.map(|status| (status.as_str().to_owned(), Value::from(totals.of(status))));
            json!({ "by_state": Map::from_iter(states), "escrow": whole(totals.escrow) })
        }
        Err(error) => json!({ "error": error.to_string() }),
    };
    told["age_s"] = seconds(counted.at.elapsed());
    told["took_ms"] = (counted.took.as_millis() as u64).into();
    told
}

fn audit(report: &AuditReport, took: Duration) -> Value {
    json!({
        "is_conserved": report.is_conserved(),
        "accounts": report.accounts,
        "stores": report.stores,
        "closed_stores": report.closed_stores,
        "orders": report.orders,
        "balances": whole(report.balances),
        "escrow": whole(report.escrow),
        "net_put_in": whole(report.net_put_in),
        "stock": whole(report.stock),
        "ordered": whole(report.ordered),
        "stock_put_in": whole(report.stock_put_in),
        "contradictions": report.contradictions,
        "state_hash": format!("{:032x}", report.state_hash),
        "took_ms": took.as_millis() as u64,
        "age_s": 0.0,
    })
}

/// To the tenth.
fn seconds(time: Duration) -> Value {
    ((time.as_millis() as f64 / 100.0).round() / 10.0).into()
}

/// As a number, which every sum of ours is unless it is wrong.
fn whole(sum: i128) -> Value {
    i64::try_from(sum).map_or_else(|_| sum.to_string().into(), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_rests_as_long_as_it_is_dear() {
        let at = Instant::now();
        let counted = |took| Counted { at, took, totals: Ok(OrderTotals::default()) };
        let (quick, slow) = (counted(Duration::from_millis(10)), counted(Duration::from_secs(2)));
        let after = |seconds| at + Duration::from_secs(seconds);
        assert!(!quick.is_old(after(4)) && quick.is_old(after(5)));
        assert!(!slow.is_old(after(99)) && slow.is_old(after(100)));
    }

    #[test]
    fn sums_are_numbers_and_never_wrong_ones() {
        assert_eq!(whole(-5), json!(-5));
        assert_eq!(whole(i128::from(i64::MAX) + 1), json!("9223372036854775808"));
        assert_eq!(seconds(Duration::from_millis(1_260)).to_string(), "1.3");
    }
}
