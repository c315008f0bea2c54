//! `bookstore health`: whether a service is ready, as an exit status, where there is no curl.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::args::duration;
use super::exit::{Exit, scarce};
use crate::http::client::{Client, Service};

/// Flags of `health`.
#[derive(Debug, Clone, Args)]
pub(super) struct HealthArgs {
    /// Where the service is
    #[arg(long, env = "BOOKSTORE_URL", value_name = "URL", default_value = "http://127.0.0.1:5000")]
    url: String,
    /// PEM file with the certificate of who signed the service's, for an https URL
    #[arg(long, env = "BOOKSTORE_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Time for its answer. A service that recovers takes connections and answers later
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    timeout: Duration,
}

/// Asks `/readyz` once. An error says why the service is not ready, or that nobody is there.
pub(super) fn run(args: &HealthArgs) -> Result<(), Exit> {
    let service = Service::parse(&args.url, args.tls_ca.as_deref()).map_err(Exit::failure)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::failure(scarce("cannot start the runtime", &error)))?;
    let answered = runtime.block_on(Client::new(service, args.timeout).get("/readyz"));
    let answered = answered.map_err(|why| Exit::failure(format!("not ready: {why}; is it at {}?", args.url)))?;
    if answered.status == 200 {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&answered.body);
    Err(Exit::failure(format!("not ready: status {}: {}", answered.status, said.trim())))
}
