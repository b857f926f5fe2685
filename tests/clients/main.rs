//! The clients: against real servers on both engines, against servers that come and go, and
//! against hostile ones.

mod calls;
mod hostile;
mod loss;
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/raw_server.rs"]
mod raw_server;
mod service;
