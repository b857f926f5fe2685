//! Typed messages: what may travel, how it is serialised, and how it is read in place.

pub mod bounds;
pub mod encode;
pub mod fingerprint;
mod kept_payloads;
pub mod message;
pub mod received;
pub(crate) mod refusal;
pub mod reply;
pub mod request;
pub(crate) mod scratch;
