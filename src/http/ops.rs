//! `/readyz` and `/metrics`: for those who operate the service.

use super::answer::{Failure, Reply};
use super::call::Call;

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
    Reply::metrics(shared.metrics.scrape(shared.now(), shared.engine.stats()))
}
