//! Tells what the server runs on and what it has counted.

use std::sync::{Arc, OnceLock};

use ringcall::{Context, Reply, Shard, Status};

/// What a shard has counted since it started, and what it runs on.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct ShardStats {
    /// The engine: `uring` or `epoll`.
    pub engine: String,
    /// What the engine found and uses.
    pub engine_features: Vec<String>,
    /// Number of the shard that answers, from 0.
    pub shard: u32,
    /// Number of shards.
    pub shards: u32,
    /// The CPU that it is pinned to.
    pub cpu: Option<u32>,
    /// Connections open now.
    pub connections: u64,
    /// Requests given to a handler, this one included.
    pub requests: u64,
    /// Messages read where they were received.
    pub in_place: u64,
    /// Messages that had to be copied first.
    pub copied: u64,
    /// Large messages received straight into a buffer of their own.
    pub direct: u64,
}

/// Statistics of a server.
#[ringcall::service(name = "stats.v1")]
pub trait Stats {
    /// Those of the shard that the connection has come to.
    #[idempotent]
    async fn read() -> ShardStats;
}

/// The engine of a server and its features. The server knows them only when it has started, which
/// is after its services were made.
pub type EngineInUse = OnceLock<(String, Vec<String>)>;

/// Reads the counters of its shard.
#[derive(Debug)]
pub struct Reader {
    shard: Shard,
    engine: Arc<EngineInUse>,
}

impl Reader {
    /// Statistics of this shard.
    pub fn new(shard: &Shard, engine: &Arc<EngineInUse>) -> Self {
        Self {
            shard: shard.clone(),
            engine: Arc::clone(engine),
        }
    }
}

impl StatsHandler for Reader {
    async fn read(&self, _cx: &Context) -> Result<Reply<ShardStats>, Status> {
        let Some((engine, engine_features)) = self.engine.get().cloned() else {
            return Err(Status::unavailable(
                "the server is still starting; try again",
            ));
        };
        let metrics = self.shard.metrics();
        let stats = ShardStats {
            engine,
            engine_features,
            shard: self.shard.id() as u32,
            shards: self.shard.count() as u32,
            cpu: self.shard.cpu().map(|cpu| cpu as u32),
            connections: metrics.connections,
            requests: metrics.requests,
            in_place: metrics.in_place,
            copied: metrics.copied,
            direct: metrics.direct,
        };
        Ok(stats.into())
    }
}
