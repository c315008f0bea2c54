//! Server and generator with a core each, so that neither takes the other's time.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::Failure;
use crate::machine;
use crate::server::{Server, ServerArgs};

/// Which core is whose.
#[derive(Serialize, Clone, Copy)]
pub(crate) struct Pinning {
    server: usize,
    generator: usize,
}

impl Pinning {
    /// The first and the last of the cores that this process may use.
    pub(crate) fn choose() -> Result<Self, Failure> {
        let cores = machine::cores()?;
        let (Some(&server), Some(&generator)) = (cores.first(), cores.last()) else {
            return Err("this process may use no core".into());
        };
        Ok(Self { server, generator })
    }

    /// There are two cores.
    pub(crate) fn is_apart(self) -> bool {
        self.server != self.generator
    }

    /// Starts a server on its core. From then on the calling thread, with all that it starts, is on the other one.
    pub(crate) async fn start(
        self,
        args: &ServerArgs,
        data_dir: &Path,
        first: &[String],
        timeout: Duration,
    ) -> Result<Server, Failure> {
        // Cheap hashes: logging in is not what is measured. Flags of the user come later and win.
        let cheap = ["--argon2-memory-kib=64", "--argon2-iterations=1"].map(str::to_owned);
        let flags: Vec<String> = cheap.into_iter().chain(first.iter().cloned()).collect();
        // A child has the cores of the thread that starts it.
        machine::pin_to(self.server)?;
        let server = Server::start_real(args, data_dir, &flags, timeout).await;
        machine::pin_to(self.generator)?;
        server
    }
}

impl fmt::Display for Pinning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_apart() {
            true => write!(out, "pinning: the server has core {}, the generator core {}", self.server, self.generator),
            false => {
                write!(out, "pinning: there is one core, so server and generator share it and the figures say little")
            }
        }
    }
}
