//! Single stages of a call, each by itself, for this crate's own benches; reachable through `internals` only.

use super::Engine;
use crate::domain::SHARDS;

/// One message to a shard's actor through its mailbox and its shell, and word back. `shard` counts round and round.
/// False if the engine stopped.
pub async fn hop(engine: &Engine, shard: usize) -> bool {
    engine.core.system.look_at_shard(shard % SHARDS, |_, _| ()).await.is_some()
}
