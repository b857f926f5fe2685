//! io_uring: whether it can be used here, what of it is there, and the rings.

mod memlock;
pub mod probe;
pub mod refusal;
pub mod ring;
mod selftest;

pub use self::probe::{Features, probe};
pub use self::refusal::Refusal;
