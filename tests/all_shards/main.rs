//! One client is served by all shards of a server, as far as its calls ask for it.

#[path = "../support/engines.rs"]
mod engines;
mod false_shards;
mod growth;
mod lies;
mod load;
mod loss;
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/raw_server.rs"]
mod raw_server;
