//! One point of the grid that is measured.

use std::fmt;
use std::str::FromStr;

use loadgen::units::{format_idle, parse_idle};
use ringcall::Idle;
use serde::Serializer;

/// How many connections, how many calls in flight on each, and how the loops wait: `64x16`,
/// `1x1/spin` (without a mode: park).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Connections, all open during the whole run.
    pub connections: usize,
    /// Calls that each connection keeps in flight.
    pub depth: usize,
    /// How the server waits, and the client too.
    pub idle: Idle,
}

impl FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (grid, idle) = match text.split_once('/') {
            Some((grid, idle)) => (grid, parse_idle(idle)?),
            None => (text, Idle::Park),
        };
        let numbers = grid.split_once('x').and_then(|(connections, depth)| {
            Some((connections.parse().ok()?, depth.parse().ok()?))
        });
        match numbers {
            Some((connections @ 1..=CONNECTIONS_MAX, depth @ 1..=DEPTH_MAX)) => Ok(Self {
                connections,
                depth,
                idle,
            }),
            _ => Err(format!(
                "`{text}` is no cell: write CONNECTIONSxDEPTH or CONNECTIONSxDEPTH/MODE, with at \
                 most {CONNECTIONS_MAX} connections and a depth of at most {DEPTH_MAX}"
            )),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.connections, self.depth)
    }
}

/// Writes how loops wait as it stands on the command line.
pub(crate) fn serialize_idle<S: Serializer>(idle: &Idle, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_idle(*idle))
}

/// Connections of one cell: below the listeners' backlog, since all are opened at once. Where the
/// limit of descriptors is lower than a server needs for them, that server is left out.
pub const CONNECTIONS_MAX: usize = 900;
/// Calls in flight on one connection: a server of default limits runs 1024 at once.
pub const DEPTH_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_names_its_grid_and_mode() {
        let cell: Cell = "64x16".parse().unwrap();
        assert_eq!(
            (cell.connections, cell.depth, cell.idle),
            (64, 16, Idle::Park)
        );
        assert_eq!("1x1/spin".parse::<Cell>().unwrap().idle, Idle::Spin);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["64", "0x1", "1x0", "ax1", "1x1/never", "100000x1"] {
            assert!(text.parse::<Cell>().is_err(), "{text}");
        }
    }
}
