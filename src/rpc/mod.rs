//! Typed messages: what may travel, how it is serialised, and how it is read in place.

pub(crate) mod bounds;
pub(crate) mod encode;
pub(crate) mod fingerprint;
#[cfg(feature = "server")]
mod kept_payloads;
pub(crate) mod message;
pub(crate) mod outcome;
pub(crate) mod received;
pub(crate) mod refusal;
#[cfg(feature = "server")]
pub(crate) mod reply;
#[cfg(feature = "server")]
pub(crate) mod request;
pub(crate) mod scratch;
