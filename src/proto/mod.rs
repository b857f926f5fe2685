pub mod framer;
pub mod handshake;
pub mod header;
pub mod limits;
pub mod resolve;
pub mod status;
pub mod violation;
