//! What servers and clients alike ask of the network: addresses, and options of sockets.

pub(crate) mod address;
pub(crate) mod address_error;
pub(crate) mod options;
pub(crate) mod transport;
