//! The hooks of servers, on both engines, and of all clients; and what handlers see of their call.

mod clients;
mod info;
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/rig.rs"]
mod rig;
mod server;
