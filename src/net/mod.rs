//! What servers and clients alike ask of the network: addresses, and options of sockets.

pub mod address;
pub mod address_error;
pub mod options;
