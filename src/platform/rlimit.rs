//! Resource limits of the process: locked memory and open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;

/// A resource limit; `None` is "unlimited".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The value in force.
    pub soft: Option<u64>,
    /// What an unprivileged process may raise the soft value to.
    pub hard: Option<u64>,
}

impl Limit {
    /// Whether the value in force allows `amount`.
    pub fn allows(&self, amount: u64) -> bool {
        self.soft.is_none_or(|soft| soft >= amount)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |value: Option<u64>| value.map_or("unlimited".into(), |v| v.to_string());
        write!(f, "{} (hard limit {})", words(self.soft), words(self.hard))
    }
}

/// `RLIMIT_MEMLOCK`, in bytes. The kernel counts what it bounds per user, not per process.
pub(crate) fn memlock_limit() -> Limit {
    limit(Resource::Memlock)
}

/// `RLIMIT_NOFILE`, in descriptors.
pub(crate) fn nofile_limit() -> Limit {
    limit(Resource::Nofile)
}

/// `RLIMIT_NPROC`, in threads. The kernel counts what it bounds per user, not per process.
pub(crate) fn nproc_limit() -> Limit {
    limit(Resource::Nproc)
}

/// `RLIMIT_AS`, in bytes of address space.
pub(crate) fn address_space_limit() -> Limit {
    limit(Resource::As)
}

/// Raises the soft `RLIMIT_NOFILE` to the hard one, and returns what is in force then.
pub(crate) fn raise_nofile() -> Limit {
    raise(Resource::Nofile)
}

fn limit(resource: Resource) -> Limit {
    let Rlimit { current, maximum } = getrlimit(resource);
    Limit {
        soft: current,
        hard: maximum,
    }
}

/// Raises the soft limit to the hard one, and returns what is in force then.
pub(super) fn raise(resource: Resource) -> Limit {
    let before = limit(resource);
    if before.soft != before.hard {
        let raised = Rlimit {
            current: before.hard,
            maximum: before.hard,
        };
        if let Err(error) = setrlimit(resource, raised) {
            tracing::warn!(?resource, limit = %before, %error, "soft limit could not be raised to the hard one");
        }
    }
    limit(resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_raised() {
        let raised = raise_nofile();
        assert_eq!(raised.soft, raised.hard);
        assert_eq!(nofile_limit(), raised);
    }

    #[test]
    fn a_limit_is_written_for_people() {
        let limit = Limit {
            soft: Some(65_536),
            hard: None,
        };
        assert_eq!(limit.to_string(), "65536 (hard limit unlimited)");
        assert!(limit.allows(65_536) && !limit.allows(65_537));
    }
}
