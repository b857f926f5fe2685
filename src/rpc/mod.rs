//! Typed messages: what may travel, how it is serialised, and how it is read in place.

pub mod bounds;
pub mod encode;
pub mod fingerprint;
#[cfg(feature = "server")]
mod kept_payloads;
pub mod message;
pub mod received;
pub(crate) mod refusal;
#[cfg(feature = "server")]
pub mod reply;
#[cfg(feature = "server")]
pub mod request;
pub(crate) mod scratch;
