//! `/readyz` and `/metrics`: for those who operate the service.

use super::answer::{Failure, Reply};
use super::call::Call;
use super::metrics::Now;

/// Whether requests should be sent here.
pub(super) fn ready(call: Call<'_>) -> Reply {
    if call.shared.is_ending() {
        return Reply::transport(503, "draining", Failure::Nothing);
    }
    call.engine().not_ready().map_or_else(Reply::ok, |why| Reply::transport(503, why, Failure::Nothing))
}

/// All counters as Prometheus text.
pub(super) fn metrics(call: Call<'_>) -> Reply {
    let shared = call.shared;
    let now = Now {
        connections: (shared.connections_max - shared.connections.available_permits()) as u64,
        body_bytes: shared.budget.used() as u64,
        shed: shared.shed.refused(),
        commands_limit: shared.shed.limit(),
    };
    Reply::metrics(shared.metrics.scrape(now, shared.engine.stats()))
}
