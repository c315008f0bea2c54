//! Spans to a collector, over OTLP/HTTP in protobuf: gathered by a thread, sent in batches. What cannot be sent is lost, and
//! nothing else suffers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tracing::{Level, Subscriber, info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::http::client::{Client, Service};
use crate::trace;

/// What the service is called, unless the environment has another name.
const NAME: &str = "bookstore";
const NAME_VARIABLE: &str = "OTEL_SERVICE_NAME";
/// Where a collector takes spans.
const PATH: &str = "/v1/traces";
/// For one batch.
const SEND_TIME: Duration = Duration::from_secs(5);
/// For what is left at the end.
const END_TIME: Duration = Duration::from_secs(3);

/// Judges the URL of a collector.
pub(super) fn judged(url: &str) -> Result<String, String> {
    if !url.starts_with("http://") {
        return Err("must begin with http://; a collector nearby sends them on by https".into());
    }
    Service::parse(url, None).map_err(|why| why.trim_start_matches("--url ").to_owned())?;
    Ok(url.trim_end_matches('/').trim_end_matches(PATH).to_owned())
}

/// Sends spans for as long as the service runs.
pub(super) struct Export {
    provider: SdkTracerProvider,
}

impl Export {
    /// Begins, if there is a collector to send to. Nothing is sent yet, so the collector need not be there.
    pub(super) fn begin(endpoint: Option<&str>, runtime: &Handle) -> Result<Option<Self>, String> {
        let Some(endpoint) = endpoint else { return Ok(None) };
        let client = Mutex::new(Client::new(Service::parse(endpoint, None)?, SEND_TIME));
        let collector = Collector { runtime: runtime.clone(), client: Arc::new(client), fails: AtomicBool::new(false) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(collector)
            .with_timeout(SEND_TIME)
            .with_endpoint(format!("{endpoint}{PATH}"))
            .build()
            .map_err(|error| format!("--otlp-endpoint {endpoint}: {error}"))?;
        let resource = Resource::builder();
        let resource = match std::env::var_os(NAME_VARIABLE) {
            Some(_) => resource,
            None => resource.with_service_name(NAME),
        };
        let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = resource.with_attribute(version).build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Some(Export { provider }))
    }

    /// What hears of the spans of requests, and of warnings and errors within them.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let heard = Targets::new().with_target(NAME, Level::WARN).with_target(trace::TARGET, Level::DEBUG);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(NAME))
            // Parents are named, and nobody else here asks for the span of a thread.
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_threads(false)
            .with_location(false)
            .with_filter(heard)
    }

    /// Sends what is left, as far as that is possible within some seconds.
    pub(super) fn end(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(END_TIME) {
            warn!(%error, "the last spans did not all leave");
        }
    }
}

/// The way to the collector. It is walked on the service's runtime, whoever sends.
#[derive(Debug)]
struct Collector {
    runtime: Handle,
    client: Arc<Mutex<Client>>,
    /// The last batch was lost.
    fails: AtomicBool,
}

impl Collector {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { client.lock().await.send_whole(request).await }).await;
        let answered = match sent {
            Ok(answered) => answered,
            Err(_) => Err("the service has ended".to_owned()),
        };
        self.note(match &answered {
            Ok(answered) if (200..300).contains(&answered.status) => None,
            Ok(answered) => Some(format!("status {}", answered.status)),
            Err(why) => Some(why.clone()),
        });
        let answered = answered?;
        Ok(Response::builder().status(answered.status).body(answered.body)?)
    }

    /// Tells when batches begin to be lost, and when they arrive again.
    fn note(&self, why: Option<String>) {
        let failed = self.fails.swap(why.is_some(), Ordering::Relaxed);
        match why {
            Some(why) if !failed => warn!(%why, "spans do not reach the collector and are lost until they do"),
            None if failed => info!("spans reach the collector again"),
            _ => {}
        }
    }
}

impl HttpClient for Collector {
    // As the attribute `async_trait` would write it, whose crate is not needed for this alone.
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.send(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_with_or_without_its_path() {
        for url in ["http://127.0.0.1:4318", "http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"] {
            assert_eq!(judged(url).as_deref(), Ok("http://127.0.0.1:4318"));
        }
        assert_eq!(judged("http://x/y/v1/traces").as_deref(), Ok("http://x/y"));
        assert!(judged("127.0.0.1:4318").is_err() && judged("https://x").is_err());
    }
}
