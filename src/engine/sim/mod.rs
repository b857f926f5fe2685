//! A simulated world: real shards with the io_uring engine, on a system that is made of one seed.
//!
//! Time passes only when the simulation says so, and every choice that a network, a kernel or a machine
//! makes is drawn from the seed: where a stream is cut, what takes how long, in which order operations
//! complete, what fails, who is stopped. So a run can be repeated exactly, and what goes wrong in one is
//! found again by its number.
//!
//! What runs is the production code from the engine's turn upwards: only [`Kernel`] is another one.
//!
//! [`Kernel`]: super::uring::kernel::Kernel

mod faults;
mod kernel;
mod network;
mod node;
mod trace;
mod world;

pub use self::faults::Faults;
pub use self::world::{NodeId, Simulation};
