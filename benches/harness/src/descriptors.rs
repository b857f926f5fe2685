//! How many descriptors a process may have open: one for each socket, and some for everything else.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of this process as far as that needs no privilege. Servers that it starts
/// inherit it: the usual 1024 are too few for some of them.
pub fn raise_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// Descriptors that this process, and each that it starts, may have open.
pub fn permitted() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Why a server can't hold so many connections here; `None` when it can.
pub fn shortage(connections: usize, per_connection: usize) -> Option<String> {
    let needed = (connections * per_connection) as u64 + BESIDES;
    let permitted = permitted();
    (needed > permitted).then(|| {
        format!(
            "{needed} descriptors are needed, and `ulimit -n` permits {permitted}; raise the hard \
             limit, which `ulimit -Hn` shows"
        )
    })
}

/// Descriptors that a server or its client needs besides those of its connections: standard
/// streams, rings, wakers, a runtime.
const BESIDES: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_the_hard_one() {
        raise_limit().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(permitted(), limit.maximum.unwrap_or(u64::MAX));
    }

    #[test]
    fn a_shortage_names_the_command_that_tells_the_limit() {
        assert_eq!(shortage(1, 1), None);
        let told = shortage(usize::MAX >> 8, 7).unwrap();
        assert!(told.contains("`ulimit -n`"), "{told}");
    }
}
