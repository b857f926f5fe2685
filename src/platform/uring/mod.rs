//! io_uring: whether it can be used here, what of it is there, and the rings.

mod memlock;
pub(crate) mod probe;
pub(crate) mod refusal;
pub(crate) mod ring;
mod selftest;

pub(crate) use self::probe::{Features, probe};
pub(crate) use self::refusal::Refusal;
