//! Resource limits of the process: locked memory and open files.

use super::refusal::{Refusal, Step};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};
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
pub fn memlock_limit() -> Limit {
    limit(Resource::Memlock)
}

/// `RLIMIT_NOFILE`, in descriptors.
pub fn nofile_limit() -> Limit {
    limit(Resource::Nofile)
}

/// `RLIMIT_NPROC`, in threads. The kernel counts what it bounds per user, not per process.
pub fn nproc_limit() -> Limit {
    limit(Resource::Nproc)
}

/// `RLIMIT_AS`, in bytes of address space.
pub fn address_space_limit() -> Limit {
    limit(Resource::As)
}

/// Raises the soft `RLIMIT_MEMLOCK` to the hard one, and returns what is in force then.
pub fn raise_memlock() -> Limit {
    raise(Resource::Memlock)
}

/// Raises the soft `RLIMIT_NOFILE` to the hard one, and returns what is in force then.
pub fn raise_nofile() -> Limit {
    raise(Resource::Nofile)
}

/// Whether the executor that hosts a shard will start: it refuses to below
/// [`EXECUTOR_MEMLOCK_BYTES_MIN`], even for root, who is never charged.
pub fn memlock_sufficient() -> Result<(), Refusal> {
    if memlock_limit().allows(EXECUTOR_MEMLOCK_BYTES_MIN) {
        Ok(())
    } else {
        Err(Refusal::new(Step::LockedMemory))
    }
}

/// A warning when `shards` shards, of which each locks `shard_bytes` for its own rings (see
/// [`ring_bytes`](super::ring::ring_bytes); 16 bytes more per provided buffer), may not fit the
/// limit; `None` when they do.
///
/// It is no error: root is not charged, nor is anybody by kernels 5.12 to 6.13. Where memory is
/// charged and short, a shard fails at its start with `ENOMEM`.
pub fn memlock_warning(shards: usize, shard_bytes: u64) -> Option<String> {
    warning(memlock_limit(), is_charged(), shards, shard_bytes)
}

fn warning(limit: Limit, charged: bool, shards: usize, shard_bytes: u64) -> Option<String> {
    let needed = shards as u64 * (shard_bytes + EXECUTOR_MEMLOCK_BYTES);
    if !charged || limit.allows(needed) {
        return None;
    }
    Some(format!(
        "RLIMIT_MEMLOCK is {limit} bytes, and {shards} shards may lock {needed}: if one fails to start with \
         ENOMEM, raise it (LimitMEMLOCK= of a systemd unit, `--ulimit memlock=` of a container, `ulimit -l` of a \
         shell), or run fewer shards"
    ))
}

/// Whether the kernel counts locked memory of this process: not for holders of `CAP_IPC_LOCK`.
fn is_charged() -> bool {
    capabilities(None).map_or(true, |sets| {
        !sets.effective.contains(CapabilitySet::IPC_LOCK)
    })
}

fn limit(resource: Resource) -> Limit {
    let Rlimit { current, maximum } = getrlimit(resource);
    Limit {
        soft: current,
        hard: maximum,
    }
}

fn raise(resource: Resource) -> Limit {
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

/// The soft limit below which glommio 0.9 declines to create an executor, in bytes.
pub const EXECUTOR_MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// What one glommio executor locks where memory is charged: three rings of depth 128 (16 KiB each)
/// and its smallest buffer area (64 KiB, chosen by `io_memory(0)`) registered with each of them.
pub const EXECUTOR_MEMLOCK_BYTES: u64 = 3 * (16 + 64) * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_raised() {
        for (read, raise) in [
            (
                memlock_limit as fn() -> Limit,
                raise_memlock as fn() -> Limit,
            ),
            (nofile_limit, raise_nofile),
        ] {
            let raised = raise();
            assert_eq!(raised.soft, raised.hard);
            assert_eq!(read(), raised);
        }
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

    #[test]
    fn a_tight_limit_is_warned_of_only_where_memory_is_charged() {
        let limit = Limit {
            soft: Some(8 << 20),
            hard: Some(8 << 20),
        };
        assert_eq!(warning(limit, true, 8, 700_000), None);
        assert_eq!(warning(limit, false, 64, 700_000), None);
        let text = warning(limit, true, 64, 700_000).unwrap();
        assert!(
            text.contains("64 shards") && text.contains("LimitMEMLOCK="),
            "{text}"
        );
    }
}
