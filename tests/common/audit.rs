//! What no route shows: after a test's server is gone, its data is opened with the library and audited. Money and
//! copies must be conserved, and the state must be the same after recovering twice and after a clean close.

use std::path::Path;
use std::time::Duration;

use bookstore::{AuditReport, Config, Durability, Engine, OpenError};

/// Opens, audits, and ends as in a crash; again, and closes; and once more. `compare` is off where deadlines may pass
/// between the opens and so change the state rightly.
pub fn audit(data: &Path, durability: Durability, compare: bool) {
    if !data.join("token.key").exists() {
        // The server never got as far as to have data.
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let first = open_and_audit(data, durability, false).await;
        let second = open_and_audit(data, durability, true).await;
        if compare {
            assert_eq!(first, second, "recovering twice gives another state");
            assert_eq!(first, open_and_audit(data, durability, false).await, "a clean close changes the state");
        }
    });
}

async fn open_and_audit(data: &Path, durability: Durability, close: bool) -> AuditReport {
    let mut config = Config::directory(data);
    config.durability = durability;
    config.segment_bytes = 16 << 20;
    let engine = open(config).await;
    engine.cancel_expired().await.unwrap();
    let report = engine.audit().await.unwrap();
    assert!(report.is_conserved() && report.contradictions == 0, "{report:?}");
    if close {
        engine.close().await.unwrap();
    }
    report
}

/// A process that another test starts at this moment holds our locks until it has become another program.
async fn open(config: Config) -> Engine {
    for _ in 0..100 {
        match Engine::open(config.clone()).await {
            Err(OpenError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            opened => return opened.unwrap(),
        }
    }
    Engine::open(config).await.unwrap()
}
