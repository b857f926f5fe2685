//! Which CPUs this process may use, and how many shards to run on them.

use super::cgroup;
use super::pin::{CPUS_MAX, Lifted};
use std::fmt;
use std::io;
use std::num::NonZeroUsize;

/// The CPUs that this process may use.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CpuSet {
    /// Numbers of the CPUs in the affinity mask, ascending. Cpusets of control groups, `taskset`
    /// and the like all show here.
    pub cpus: Vec<usize>,
    /// CPUs' worth of time that the control groups allow, if they set a quota.
    pub quota_cpus: Option<f64>,
}

/// Reads affinity mask and quota. The mask is the calling thread's; of one that [`super::pin`] has
/// pinned, that before the pin.
///
/// # Errors
/// When the mask can't be read: on a machine with more than 1024 possible CPUs.
pub(crate) fn allowed() -> Result<CpuSet, CpusError> {
    let _lifted = Lifted::new();
    let unreadable = || CpusError::Unreadable {
        error: io::Error::last_os_error(),
    };
    let cores = core_affinity::get_core_ids().ok_or_else(unreadable)?;
    Ok(CpuSet {
        cpus: cores.into_iter().map(|core| core.id).collect(),
        quota_cpus: cgroup::cpu_quota(),
    })
}

/// The CPU of each shard. By default there is one shard per allowed CPU, but no more than the
/// quota rounded up: a thread that the quota stops stalls its connections for the rest of the
/// period, up to 100 ms.
///
/// `requested` shards are placed as asked, whatever the quota; more of them than CPUs share these
/// in turn, which serves for tests but costs latency.
///
/// # Errors
/// When more than [`SHARDS_MAX`] are requested, or the CPUs can't be determined.
pub(crate) fn shard_cpus(requested: Option<NonZeroUsize>) -> Result<Vec<usize>, CpusError> {
    place(&allowed()?, requested)
}

fn place(allowed: &CpuSet, requested: Option<NonZeroUsize>) -> Result<Vec<usize>, CpusError> {
    let cpus = &allowed.cpus;
    if cpus.is_empty() {
        return Err(CpusError::None);
    }
    let shards = match requested.map(NonZeroUsize::get) {
        Some(shards) if shards > SHARDS_MAX => {
            return Err(CpusError::TooManyShards {
                shards,
                shards_max: SHARDS_MAX,
                cpus: cpus.len(),
            });
        }
        Some(shards) => shards,
        None => {
            let by_quota = allowed
                .quota_cpus
                .map_or(usize::MAX, |quota| quota.ceil() as usize);
            cpus.len().min(by_quota.max(1)).min(SHARDS_MAX)
        }
    };
    Ok(cpus.iter().copied().cycle().take(shards).collect())
}

/// Most shards of one server.
pub(crate) const SHARDS_MAX: usize = 1024;

/// Why shards can't be placed on CPUs.
#[derive(Debug)]
#[non_exhaustive]
pub enum CpusError {
    /// The affinity mask can't be read.
    Unreadable {
        /// The error of the system.
        error: io::Error,
    },
    /// The affinity mask is empty.
    None,
    /// More shards are requested than a server may have.
    TooManyShards {
        /// How many are requested.
        shards: usize,
        /// How many there may be.
        shards_max: usize,
        /// CPUs that the process may use.
        cpus: usize,
    },
}

impl fmt::Display for CpusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { error } => write!(
                f,
                "the CPU affinity mask can't be read: {error}; a machine with more than {CPUS_MAX} possible CPUs must \
                 be booted with nr_cpus={CPUS_MAX}"
            ),
            Self::None => f.write_str("the CPU affinity mask is empty; widen it with `taskset`"),
            Self::TooManyShards {
                shards,
                shards_max,
                cpus,
            } => write!(
                f,
                "{shards} shards are requested; at most {shards_max} are possible, and one per CPU ({cpus} here) is best"
            ),
        }
    }
}

impl std::error::Error for CpusError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { error } => Some(error),
            Self::None | Self::TooManyShards { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pin::pin_current_thread;
    use super::*;

    fn set(cpus: &[usize], quota_cpus: Option<f64>) -> CpuSet {
        CpuSet {
            cpus: cpus.to_vec(),
            quota_cpus,
        }
    }

    #[test]
    fn one_shard_per_cpu_within_the_quota() {
        let cpus = [0, 2, 5, 7];
        for (quota, expected) in [
            (None, &cpus[..]),
            (Some(16.0), &cpus),
            (Some(2.0), &cpus[..2]),
            (Some(1.5), &cpus[..2]),
            (Some(0.1), &cpus[..1]),
        ] {
            assert_eq!(place(&set(&cpus, quota), None).unwrap(), expected);
        }
    }

    #[test]
    fn a_request_is_met_even_beyond_the_cpus() {
        let two = set(&[3, 4], Some(1.0));
        let placed = |shards| place(&two, NonZeroUsize::new(shards)).unwrap();
        assert_eq!(placed(1), [3]);
        assert_eq!(placed(5), [3, 4, 3, 4, 3]);
        assert_eq!(placed(SHARDS_MAX).len(), SHARDS_MAX);
    }

    #[test]
    fn a_senseless_request_is_refused_with_words() {
        let one = set(&[0], None);
        let error = place(&one, NonZeroUsize::new(SHARDS_MAX + 1)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("1025") && text.contains("1024"), "{text}");
        let error = place(&set(&[], None), None).unwrap_err();
        assert!(error.to_string().contains("taskset"), "{error}");
    }

    #[test]
    fn this_machine_has_cpus_and_a_thread_can_be_pinned_to_each() {
        let allowed = allowed().unwrap();
        assert!(!allowed.cpus.is_empty() && allowed.cpus.is_sorted());
        assert!(!shard_cpus(None).unwrap().is_empty());
        std::thread::spawn(move || {
            for &cpu in &allowed.cpus {
                pin_current_thread(cpu).unwrap();
                assert_eq!(rustix::thread::sched_getcpu(), cpu);
                assert_eq!(super::allowed().unwrap().cpus, allowed.cpus);
            }
        })
        .join()
        .unwrap();
    }
}
