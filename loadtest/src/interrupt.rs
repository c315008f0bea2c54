//! Signals that end the tool, so that what it has started and made goes with it.

use std::future::Future;
use std::sync::OnceLock;

use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;

/// Which signal came, for whoever keeps the main thread to himself.
static TOLD: OnceLock<&'static str> = OnceLock::new();

/// An error once a signal has come. An open loop asks now and then, since it never lets go of its thread.
pub(crate) fn check() -> Result<(), Failure> {
    TOLD.get().map_or(Ok(()), |told| Err((*told).into()))
}

/// Does `work` until it is done or a signal comes. Whoever is dropped then ends what it has started.
pub(crate) async fn or_interrupted(work: impl Future<Output = Result<bool, Failure>>) -> Result<bool, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // On another thread, for the main one may be busy.
    let told = tokio::spawn(async move {
        let told = tokio::select! {
            _ = interrupt.recv() => "interrupted",
            _ = terminate.recv() => "told to end",
            _ = hang_up.recv() => "the terminal has gone",
        };
        *TOLD.get_or_init(|| told)
    });
    tokio::select! {
        done = work => done,
        told = told => Err(told?.into()),
    }
}
