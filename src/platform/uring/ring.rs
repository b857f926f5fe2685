//! Setting up a ring with the best flags that this kernel accepts.

use io_uring::IoUring;
use std::fmt;
use std::io;
use std::time::Duration;

/// The optional set-up flags that a ring was built with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetupFlags {
    /// `NO_SQARRAY` (Linux 6.6): submissions are read in order, without an index array between.
    pub no_sqarray: bool,
    /// `SINGLE_ISSUER` and `DEFER_TASKRUN` (6.1): completions are worked out only when the owning
    /// thread enters the kernel for them. The ring belongs to the thread that built it: another
    /// one that enters gets `EEXIST`.
    pub deferred: bool,
    /// `COOP_TASKRUN` and `TASKRUN_FLAG` (5.19): no interrupt of the running thread for each
    /// completion, and a flag in shared memory that tells when there is one to fetch.
    pub cooperative: bool,
    /// `SUBMIT_ALL` (5.18): a submission that fails does not hold up those behind it.
    pub submit_all: bool,
}

/// Builds a ring with `entries` submissions and `cq_entries` completions (the kernel rounds both up
/// to powers of two, and clamps them to its maxima of 32768 and 65536), and says with which flags.
///
/// Call it on the thread that will drive the ring; see [`SetupFlags::deferred`].
///
/// # Errors
/// What `io_uring_setup` answered. `EINVAL` alone means "unknown flag" and is answered by a try
/// with fewer flags; `ENOMEM` is tried again for up to half a second, because the locked memory of
/// a process that has just ended (the previous run of a restarted server) is given back late.
///
/// # Panics
/// When `entries` is 0 or `cq_entries` is smaller than `entries` rounded up.
pub(crate) fn build_ring(entries: u32, cq_entries: u32) -> io::Result<(IoUring, SetupFlags)> {
    assert!(entries > 0, "a ring has at least one submission");
    assert!(
        cq_entries >= entries.next_power_of_two(),
        "a ring has at least as many completions as submissions"
    );
    climb_down(|flags| retry_memory(|| set_up(entries, cq_entries, flags)))
}

/// Repeats an `attempt` that makes rings while it fails with `ENOMEM`, for up to half a second; see
/// [`build_ring`], which needs no other retry around it.
pub(crate) fn retry_memory<T>(attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    retry_memory_with(attempt, || std::thread::sleep(MEMORY_PAUSE))
}

/// Locked memory in bytes that kernels from 6.14 on charge for such a ring to an unprivileged
/// user; earlier ones since 5.12 charge nothing.
pub(crate) fn ring_bytes(entries: u32, cq_entries: u32) -> u64 {
    let pages = |bytes: u64| bytes.next_multiple_of(PAGE_BYTES);
    let entries = u64::from(entries.next_power_of_two());
    let cq_entries = u64::from(cq_entries.next_power_of_two());
    pages(entries * SQE_BYTES) + pages(cq_entries * CQE_BYTES + entries * 4 + RING_HEADER_BYTES)
}

fn set_up(entries: u32, cq_entries: u32, flags: SetupFlags) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    // CQSIZE: multishot operations complete many times per submission.
    builder.setup_cqsize(cq_entries);
    // CLAMP: an oversized request is cut to the kernel's maximum instead of being refused.
    builder.setup_clamp();
    if flags.submit_all {
        builder.setup_submit_all();
    }
    if flags.cooperative {
        builder.setup_coop_taskrun().setup_taskrun_flag();
    }
    if flags.deferred {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    if flags.no_sqarray {
        builder.setup_no_sqarray();
    }
    builder.build(entries)
}

/// Tries the rungs from the top; only `EINVAL` leads to the next one.
fn climb_down<T>(
    mut attempt: impl FnMut(SetupFlags) -> io::Result<T>,
) -> io::Result<(T, SetupFlags)> {
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for flags in LADDER {
        match attempt(flags) {
            Ok(ring) => return Ok((ring, flags)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

fn retry_memory_with<T>(
    mut attempt: impl FnMut() -> io::Result<T>,
    mut pause: impl FnMut(),
) -> io::Result<T> {
    for _ in 0..MEMORY_RETRIES_MAX {
        match attempt() {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => pause(),
            other => return other,
        }
    }
    attempt()
}

impl SetupFlags {
    /// Names of the flags that are on, as the kernel writes them.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.no_sqarray, "no_sqarray"),
            (self.deferred, "single_issuer"),
            (self.deferred, "defer_taskrun"),
            (self.cooperative, "coop_taskrun"),
            (self.cooperative, "taskrun_flag"),
            (self.submit_all, "submit_all"),
        ]
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
    }
}

impl fmt::Display for SetupFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == NO_FLAGS {
            return write!(f, "none");
        }
        for (index, name) in self.names().enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

const ALL_FLAGS: SetupFlags = SetupFlags {
    no_sqarray: true,
    deferred: true,
    cooperative: true,
    submit_all: true,
};
const NO_FLAGS: SetupFlags = SetupFlags {
    no_sqarray: false,
    deferred: false,
    cooperative: false,
    submit_all: false,
};
/// From best to plainest; each rung drops what is newest in the one before.
const LADDER: [SetupFlags; 5] = [
    ALL_FLAGS,
    SetupFlags {
        no_sqarray: false,
        ..ALL_FLAGS
    },
    SetupFlags {
        cooperative: true,
        submit_all: true,
        ..NO_FLAGS
    },
    SetupFlags {
        submit_all: true,
        ..NO_FLAGS
    },
    NO_FLAGS,
];

/// Locked memory of an ended process came back after 20 to 35 ms; this allows twenty times that
/// on a loaded machine, and costs half a second where memory really is short.
const MEMORY_RETRIES_MAX: u32 = 25;
const MEMORY_PAUSE: Duration = Duration::from_millis(20);

/// Bytes of a submission entry, of a completion entry, and of the rings' shared head and tail
/// fields (rounded up), as the kernel lays them out.
const SQE_BYTES: u64 = 64;
const CQE_BYTES: u64 = 16;
const RING_HEADER_BYTES: u64 = 320;
/// The estimate in [`ring_bytes`] counts the usual pages; larger ones round up a little more.
const PAGE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    #[test]
    fn einval_drops_the_newest_flags_one_group_at_a_time() {
        for accepted in 0..LADDER.len() {
            let mut tried = Vec::new();
            let (_, flags) = climb_down(|flags| {
                tried.push(flags);
                if tried.len() > accepted {
                    Ok(())
                } else {
                    Err(errno(libc::EINVAL))
                }
            })
            .unwrap();
            assert_eq!(flags, LADDER[accepted]);
            assert_eq!(tried, LADDER[..=accepted]);
        }
    }

    #[test]
    fn every_rung_has_fewer_flags_than_the_one_above() {
        for pair in LADDER.windows(2) {
            let below: Vec<_> = pair[1].names().collect();
            assert!(below.len() < pair[0].names().count());
            assert!(
                below
                    .iter()
                    .all(|name| pair[0].names().any(|above| above == *name))
            );
        }
    }

    #[test]
    fn another_error_ends_the_search_at_once() {
        let mut tries = 0;
        let refused = climb_down(|_| -> io::Result<()> {
            tries += 1;
            Err(errno(libc::EPERM))
        });
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(tries, 1);
        let refused = climb_down(|_| -> io::Result<()> { Err(errno(libc::EINVAL)) });
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn missing_memory_is_tried_again_but_not_for_ever() {
        let (mut tries, mut pauses) = (0, 0);
        let got = retry_memory_with(
            || {
                tries += 1;
                if tries < 4 {
                    Err(errno(libc::ENOMEM))
                } else {
                    Ok(tries)
                }
            },
            || pauses += 1,
        );
        assert_eq!((got.unwrap(), pauses), (4, 3));
        let mut pauses = 0;
        let refused = retry_memory_with(
            || -> io::Result<()> { Err(errno(libc::ENOMEM)) },
            || pauses += 1,
        );
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENOMEM));
        assert_eq!(pauses, MEMORY_RETRIES_MAX);
    }

    #[test]
    fn flags_are_listed_by_name() {
        assert_eq!(NO_FLAGS.to_string(), "none");
        assert_eq!(
            LADDER[2].to_string(),
            "coop_taskrun, taskrun_flag, submit_all"
        );
    }

    #[test]
    fn ring_memory_is_what_was_measured_on_a_kernel_that_charges_it() {
        // 32 rings of 128/256, six of 256/4096 and one of 1024/16384 fitted in 512 KiB.
        for (fitted, entries, cq_entries) in [(32, 128, 256), (6, 256, 4096), (1, 1024, 16_384)] {
            assert_eq!(512 * 1024 / ring_bytes(entries, cq_entries), fitted);
        }
    }
}
