//! One load from several hosts: agents make the calls, a coordinator says what and when.
//!
//! The coordinator is `loadgen run` (or a study) with `--agents`. It gives each agent its part of one
//! plan ([`wire::Assignment`]), waits until all have their connections, and lets them begin together. Each
//! agent draws the same schedule from the same seed and keeps its own part, so what the server sees is
//! the schedule of a single generator. While the load runs the coordinator asks for what was recorded,
//! interval by interval, and adds up counts and histograms by the interval's number.
//!
//! Clocks are never compared: every time in a record is a difference that one host measured, and the
//! beginning is told as a delay, from which half of the round trip is taken. Agents begin apart by
//! less than a round trip; nothing but the edges of intervals depends on it.
//!
//! Each side survives the other: an agent whose coordinator is silent for [`LEASE`] ends its load, and
//! a coordinator that loses an agent stops the others, keeps what came, and says which one was lost.

pub mod agent;
pub(crate) mod coordinator;
mod load;
pub mod wire;

use std::time::Duration;

/// An agent ends the load of a coordinator that it hears nothing from for so long.
pub const LEASE: Duration = Duration::from_secs(5);
