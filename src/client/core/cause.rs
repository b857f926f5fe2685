//! Why connections end.

use std::fmt;
use std::io;

use crate::wire::goaway::Goaway;
use crate::wire::violation::Violation;

/// Why a connection has ended.
#[derive(Debug)]
pub(crate) enum Cause {
    /// The socket failed.
    Io(io::Error),
    /// The server closed it.
    Closed,
    /// The server closed it, after saying why.
    Goaway(Goaway),
    /// The server broke the protocol, or was too slow.
    Violation(Violation),
    /// This side is done with it.
    Finished,
    /// Its task has ended: the runtime shut down, or the task panicked.
    TaskEnded,
}

impl Cause {
    /// Whether a new connection likely works: nobody has made a mistake, and the handshake was done or
    /// its end says nothing of the server.
    pub(crate) fn invites_back(&self, was_ready: bool) -> bool {
        match self {
            Self::TaskEnded => true,
            Self::Goaway(goaway) if goaway.reason == 0 => true,
            _ if !was_ready => false,
            Self::Io(_) | Self::Closed | Self::Finished => true,
            Self::Goaway(goaway) => goaway.invites_back(),
            Self::Violation(violation) => Violation::is_of_time(violation.reason()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Closed => f.write_str("the server closed it"),
            Self::Goaway(goaway) => {
                let reason = Violation::reason_name(goaway.reason);
                write!(f, "the server ended it ({reason}: {})", goaway.message)
            }
            Self::Violation(violation) => write!(f, "given up by this side: {violation}"),
            Self::Finished => f.write_str("closed by this side"),
            Self::TaskEnded => f.write_str(
                "its task has ended (the tokio runtime shut down, or it was built without enable_all())",
            ),
        }
    }
}
