//! SIGHUP: what a service takes anew without an end.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::args::ServeArgs;
use super::log::Log;
use super::signals::Hangups;
use crate::http::TlsIdentity;

/// What can be taken anew: the levels of the log, and certificate and key.
pub(super) struct Reload {
    /// As of the start.
    pub(super) args: ServeArgs,
    pub(super) log: Log,
    pub(super) tls: Option<TlsIdentity>,
}

impl Reload {
    /// Takes it anew at each SIGHUP. Ends only when its task is aborted.
    pub(super) async fn watch(self, mut hangups: Hangups) {
        let reload = Arc::new(self);
        loop {
            hangups.next().await;
            let reload = reload.clone();
            // Files are read. A panic is told by its own line, and the service goes on.
            let _ = tokio::task::spawn_blocking(move || reload.now()).await;
        }
    }

    /// Whatever is wrong leaves as it is what it is about.
    fn now(&self) {
        let read = super::reread();
        let args = match &read {
            Ok(args) => args,
            Err(why) => {
                error!(%why, "SIGHUP: the settings cannot be read: they stay");
                &self.args
            }
        };
        if read.is_ok() && self.log.set(&args.log_level) {
            info!(log_level = args.log_level, "SIGHUP: the log has other levels");
        }
        match (&self.tls, args.tls.identity()) {
            (Some(shown), Ok(Some(identity))) => {
                shown.replace(&identity);
                info!("SIGHUP: new connections are shown the certificate as it is in its file now");
            }
            (Some(_), Err(why)) => error!(%why, "SIGHUP: certificate and key stay"),
            (Some(_), Ok(None)) => warn!("SIGHUP: TLS stays: it can be turned off by a restart only"),
            (None, Ok(Some(_)) | Err(_)) => warn!("SIGHUP: no TLS: it can be turned on by a restart only"),
            (None, Ok(None)) => {}
        }
    }
}
