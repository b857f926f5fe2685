//! The targets, each with what must hold of it.

pub mod archives;
pub mod client_connection;
pub mod decoders;
pub mod framer;
pub mod memory_connection;
pub mod server_connection;

/// A target's name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

pub const ALL: [Target; 6] = [
    ("archives", archives::run),
    ("client_connection", client_connection::run),
    ("decoders", decoders::run),
    ("framer", framer::run),
    ("memory_connection", memory_connection::run),
    ("server_connection", server_connection::run),
];
