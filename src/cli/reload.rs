//! SIGHUP: what a service takes anew without an end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use clap::{ArgMatches, Args, Command};
use tracing::{error, info, warn};

use super::args::ServeArgs;
use super::log::Log;
use super::signals::Hangups;
use crate::http::TlsIdentity;

/// What SIGHUP takes anew; the rest waits for a restart.
const TAKEN: [&str; 3] = ["log-level", "tls-cert", "tls-key"];

/// The flags of `serve` as they were written, wherever that was, by their names without the dashes.
#[derive(Default)]
pub(super) struct Settings(BTreeMap<String, Vec<OsString>>);

impl Settings {
    pub(super) fn of(matches: &ArgMatches) -> Self {
        let flags = ServeArgs::augment_args(Command::new("serve"));
        let written = flags.get_arguments().filter_map(|flag| {
            let values = matches.try_get_raw(flag.get_id().as_str()).ok().flatten()?;
            Some((flag.get_long()?.to_owned(), values.map(OsString::from).collect()))
        });
        Settings(written.collect())
    }

    /// The names of those that are other ones now and that only a restart takes.
    fn waiting<'a>(&'a self, now: &'a Settings) -> Vec<&'a str> {
        let names = self.0.keys().chain(now.0.keys().filter(|name| !self.0.contains_key(*name)));
        names
            .map(String::as_str)
            .filter(|name| !TAKEN.contains(name) && self.0.get(*name) != now.0.get(*name))
            .collect()
    }
}

/// What can be taken anew: the levels of the log, and certificate and key.
pub(super) struct Reload {
    /// As of the start.
    pub(super) args: ServeArgs,
    /// The same, as they were written.
    pub(super) settings: Settings,
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
            Ok((args, settings)) => {
                let waiting = self.settings.waiting(settings);
                if !waiting.is_empty() {
                    warn!(settings = waiting.join(" "), "SIGHUP: what else has changed waits for a restart");
                }
                if let Some(why) = args.refused() {
                    error!(%why, "SIGHUP: a restart would not start with these settings");
                }
                args.warn_of_open_secrets();
                args
            }
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
