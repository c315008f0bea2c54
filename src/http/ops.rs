//! `/readyz` and `/metrics`: for those who operate the service.

use super::answer::{Failure, Reply};
use super::metrics;
use super::routes::Call;
use super::server::Phase;

/// Whether requests should be sent here.
pub(super) fn ready(call: Call<'_>) -> Reply {
    if call.shared.gate.phase() != Phase::Serving {
        return Reply::transport(503, "draining", Failure::Nothing);
    }
    call.engine().not_ready().map_or_else(Reply::ok, |why| Reply::transport(503, why, Failure::Nothing))
}

/// All counters as Prometheus text.
pub(super) fn metrics(call: Call<'_>) -> Reply {
    Reply::metrics(metrics::scrape(call.shared))
}
