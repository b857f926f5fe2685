//! Locked memory, which rings take, and how much of it a process may have.

use super::refusal::{Refusal, Step};
use crate::platform::rlimit::{Limit, memlock_limit, raise};
use rustix::process::Resource;
use rustix::thread::{CapabilitySet, capabilities};

/// Raises the soft `RLIMIT_MEMLOCK` to the hard one, and returns what is in force then.
pub(super) fn raise_memlock() -> Limit {
    raise(Resource::Memlock)
}

/// Whether the executor that hosts a shard will start: it refuses to below
/// [`EXECUTOR_MEMLOCK_BYTES_MIN`], even for root, who is never charged.
pub(super) fn memlock_sufficient() -> Result<(), Refusal> {
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
pub(super) fn memlock_warning(shards: usize, shard_bytes: u64) -> Option<String> {
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

/// The soft limit below which glommio 0.9 declines to create an executor, in bytes.
pub(super) const EXECUTOR_MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// What one glommio executor locks where memory is charged: three rings of depth 128 (16 KiB each)
/// and its smallest buffer area (64 KiB, chosen by `io_memory(0)`) registered with each of them.
pub(super) const EXECUTOR_MEMLOCK_BYTES: u64 = 3 * (16 + 64) * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised() {
        let raised = raise_memlock();
        assert_eq!(raised.soft, raised.hard);
        assert_eq!(memlock_limit(), raised);
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
