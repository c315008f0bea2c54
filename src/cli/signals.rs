//! SIGTERM and SIGINT: the first ends the service in order, the second at once. SIGHUP: it reads some of its settings again.

use std::io;

/// The exit status that shells give for a process that died of signal N.
const DIED_OF: u8 = 128;

/// A signal that asks for the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signal {
    pub(super) name: &'static str,
    number: u8,
}

impl Signal {
    /// The exit status when the signal ends the process at once.
    pub(super) fn status(self) -> u8 {
        DIED_OF + self.number
    }
}

const INTERRUPT: Signal = Signal { name: "SIGINT", number: 2 };
#[cfg(unix)]
const TERMINATE: Signal = Signal { name: "SIGTERM", number: 15 };

/// Listens from its making on.
#[cfg(unix)]
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Takes over from the system's default, which would kill the process.
    pub(super) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one. Cancelling it loses none.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => INTERRUPT,
            _ = self.terminate.recv() => TERMINATE,
        }
    }
}

/// Listens for SIGHUP from its making on.
#[cfg(unix)]
pub(super) struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangups {
    /// Takes over from the system's default, which would kill the process.
    pub(super) fn new() -> io::Result<Self> {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).map(Hangups)
    }

    /// The next one. Cancelling it loses none.
    pub(super) async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// There is none.
#[cfg(not(unix))]
pub(super) struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Hangups)
    }

    pub(super) async fn next(&mut self) {
        std::future::pending().await
    }
}

/// Where there is no SIGTERM, Ctrl-C is all.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Signals)
    }

    pub(super) async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            // Nobody can ask any more.
            std::future::pending::<()>().await;
        }
        INTERRUPT
    }
}

/// Whether a signal asked work that blocks to end.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(std::sync::Arc<std::sync::OnceLock<Signal>>);

impl Asked {
    /// Listens on a thread of its own from now on. The second signal ends the process on the spot.
    pub(super) fn listen() -> io::Result<Self> {
        let asked = Asked::default();
        let told = asked.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _in_runtime = runtime.enter();
            Signals::new()?
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                let first = signals.next().await;
                told.0.get_or_init(|| first);
                let second = signals.next().await;
                std::process::exit(i32::from(second.status()));
            });
        })?;
        Ok(asked)
    }

    /// The signal, if there was one.
    pub(super) fn by(&self) -> Option<Signal> {
        self.0.get().copied()
    }
}
