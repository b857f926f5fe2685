//! `loadgen selftest`: what the generator itself can do here.

pub mod statistics;
pub mod theory;
