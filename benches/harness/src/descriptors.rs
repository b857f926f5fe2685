//! How many descriptors a process may have open: one for each socket, and some for everything else.

use std::error::Error;
use std::io;

use rustix::io::Errno;
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

/// Raises the limit so that it permits so many connections, beyond the hard limit too where this
/// process has the privilege. Says how many it permits then, which may be fewer.
pub fn raise_for(connections: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + BESIDES;
    if permitted() < wanted {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum.map(|maximum| maximum.max(wanted)),
        };
        // Refused without privileges; what is permitted then is told.
        setrlimit(Resource::Nofile, raised).ok();
    }
    let permitted = permitted().saturating_sub(BESIDES);
    connections.min(usize::try_from(permitted).unwrap_or(usize::MAX))
}

/// Adds to an error that comes from the limit how to raise it. Others stay as they are.
pub fn explain(error: io::Error) -> io::Error {
    let text = error.to_string();
    // By the text, for that is all that some client libraries keep of an error.
    if !text.contains(&io::Error::from(Errno::MFILE).to_string()) {
        return error;
    }
    io::Error::new(error.kind(), format!("{text}; {}", remedy()))
}

/// What the limit is, and how to raise it.
pub fn remedy() -> String {
    format!(
        "`ulimit -n` permits {} descriptors; raise the hard limit, which `ulimit -Hn` shows: as root, \
         by LimitNOFILE= of a systemd unit, or by `--ulimit nofile=` of a container",
        permitted()
    )
}

/// An error with all its causes, of which client libraries show the last one only.
pub fn with_causes(error: impl Error) -> io::Error {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // Some repeat their cause.
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    io::Error::other(text)
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

    #[derive(Debug)]
    struct Outer(io::Error);

    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("transport error")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn too_many_open_files_are_told_with_a_remedy() {
        let used_up = || io::Error::from(Errno::MFILE);
        for error in [used_up(), with_causes(Outer(used_up()))] {
            let text = explain(error).to_string();
            assert!(text.contains("Too many open files"), "{text}");
            assert!(text.contains("`ulimit -n`"), "{text}");
        }
        let refused = explain(with_causes(Outer(Errno::CONNREFUSED.into())));
        assert_eq!(
            refused.to_string(),
            "transport error: Connection refused (os error 111)"
        );
    }

    #[test]
    fn no_process_has_more_descriptors_than_the_kernel_permits() {
        let all = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap();
        let all: usize = all.trim().parse().unwrap();
        assert!(raise_for(all) < all);
        assert_eq!(raise_for(1), 1);
    }
}
