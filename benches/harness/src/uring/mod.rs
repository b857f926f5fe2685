//! The least that a raw io_uring loop needs; shared by the raw server and the client.

pub mod buffers;
pub mod ring;
