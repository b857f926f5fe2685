//! Faults that clients have to live with: losses, retirements, pauses, panics, servers that stop reading.
//! Each is tried with every client, driven all the time and only while it has something to do.

mod agreement;
mod callers;
mod flow;
mod goaway;
mod held;
mod itself;
mod loss;
mod panics;
mod peer;
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/raw_server.rs"]
mod raw_server;
mod time;
