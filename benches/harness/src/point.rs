//! One point of the grid: what is asked, over which sockets, by how many callers.

use std::fmt;

use loadgen::units::format_idle;

use crate::cell::Cell;
use crate::servers::process::Transport;
use crate::work::Work;

/// What all peers are compared at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// What is asked.
    pub work: Work,
    /// Over which kind of socket.
    pub transport: Transport,
    /// By how many callers, and how both sides wait.
    pub cell: Cell,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            work,
            transport,
            cell,
        } = self;
        let (workload, bytes) = (work.workload, Bytes(work.payload_bytes));
        write!(
            f,
            "{workload} {bytes} {transport} {cell} {}",
            format_idle(cell.idle)
        )
    }
}

/// A size as people say it.
pub struct Bytes(pub usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => {
                write!(f, "{} MiB", bytes >> 20)
            }
            bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => {
                write!(f, "{} KiB", bytes >> 10)
            }
            bytes => write!(f, "{bytes} B"),
        }
    }
}
