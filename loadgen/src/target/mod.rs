//! What is measured, when this program starts it: the sample server in a process of its own, on CPUs
//! apart from the load's.

pub(crate) mod child;
pub(crate) mod interrupts;
pub mod placement;
