//! What servers and clients alike ask of the network: addresses, and options of sockets.

pub mod address;
pub mod options;
