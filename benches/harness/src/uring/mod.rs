//! The least that a raw io_uring loop needs; shared by the raw server and the client.

pub mod buffers;
pub mod ring;

use std::io;

use ringcall::IoUring;

use crate::descriptors;

/// Why there is no ring, in the words that the library has for it: cause and remedy.
pub fn explain(error: io::Error) -> io::Error {
    match ringcall::environment().io_uring {
        IoUring::Refused {
            failure,
            cause,
            remedy,
        } => io::Error::new(
            error.kind(),
            format!("io_uring can't be used: {failure}; likely cause: {cause}; remedy: {remedy}"),
        ),
        // The library could have a ring: what is wrong is told by the error itself.
        IoUring::Usable { .. } => descriptors::explain(error),
    }
}
