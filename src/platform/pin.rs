//! Pinning a thread to a CPU, and taking the pin off for a moment.

use std::cell::Cell;
use std::io;

use core_affinity::CoreId;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::unpinned;

/// How the calling thread was pinned.
#[derive(Clone, Copy)]
struct Pin {
    cpu: usize,
    /// The CPUs that it might use before.
    before: CpuSet,
}

thread_local! {
    static PIN: Cell<Option<Pin>> = const { Cell::new(None) };
}

/// Pins the calling thread to `cpu`. Threads and programs that it starts from now on are not pinned: they
/// may use the CPUs that it might use before (with glibc; see [`unpinned`]).
///
/// # Errors
/// `EINVAL` when this process may not use that CPU or there is none of that number.
pub(crate) fn pin_current_thread(cpu: usize) -> io::Result<()> {
    if cpu >= CPUS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("CPU {cpu} is beyond the {CPUS_MAX} that an affinity mask holds"),
        ));
    }
    let before = PIN.get().map_or_else(
        // Fails on a machine with more CPUs than the mask holds: then the pin is inherited.
        || sched_getaffinity(None).ok(),
        |pin| Some(pin.before),
    );
    if !core_affinity::set_for_current(CoreId { id: cpu }) {
        // Nothing came between the system call and this.
        return Err(io::Error::last_os_error());
    }
    PIN.set(before.map(|before| Pin { cpu, before }));
    unpinned::arrange();
    Ok(())
}

/// Ends the pin of the calling thread, if it has one.
pub(crate) fn unpin_current_thread() {
    lift();
    PIN.set(None);
}

/// While it exists, the calling thread is not pinned, and nor is what it starts.
pub(crate) struct Lifted(bool);

impl Lifted {
    /// Takes the pin off. Without one, or when the program has changed the thread's CPUs since, it does
    /// nothing.
    pub(crate) fn new() -> Self {
        Self(lift())
    }
}

impl Drop for Lifted {
    fn drop(&mut self) {
        if self.0 {
            settle();
        }
    }
}

/// Takes the pin off; says whether there was one that [`settle`] must put on again.
#[inline]
pub(super) fn lift() -> bool {
    PIN.get().is_some_and(lift_pin)
}

// Neither allocates or logs: they run within `fork`, and around the creation of threads.

#[cold]
fn lift_pin(pin: Pin) -> bool {
    sched_getaffinity(None).is_ok_and(|now| now == only(pin.cpu))
        && sched_setaffinity(None, &pin.before).is_ok()
}

/// Puts the pin on again. It fails when the CPU was taken from the process meanwhile, whose threads the
/// kernel has moved then.
#[cold]
pub(super) fn settle() {
    if let Some(pin) = PIN.get() {
        sched_setaffinity(None, &only(pin.cpu)).unwrap_or_default();
    }
}

/// The calling thread is the only one of a process that has just been forked: no shard.
#[cfg_attr(miri, expect(dead_code, reason = "Miri forks no process"))]
pub(super) fn forget() {
    PIN.set(None);
}

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

/// CPUs in an affinity mask.
pub(crate) const CPUS_MAX: usize = CpuSet::MAX_CPU;

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus() -> CpuSet {
        sched_getaffinity(None).unwrap()
    }

    /// Runs it on a thread of its own, which may be pinned.
    fn apart(test: impl FnOnce(CpuSet) + Send + 'static) {
        std::thread::spawn(move || test(cpus())).join().unwrap();
    }

    fn any_of(set: CpuSet) -> usize {
        (0..CPUS_MAX).find(|&cpu| set.is_set(cpu)).unwrap()
    }

    #[test]
    fn a_pin_is_lifted_and_put_on_again() {
        apart(|all| {
            let cpu = any_of(all);
            pin_current_thread(cpu).unwrap();
            assert_eq!(cpus(), only(cpu));
            {
                let _lifted = Lifted::new();
                assert_eq!(cpus(), all);
                let _again = Lifted::new();
            }
            assert_eq!(cpus(), only(cpu));
            pin_current_thread(cpu).unwrap();
            unpin_current_thread();
            assert_eq!(cpus(), all);
            drop(Lifted::new());
            assert_eq!(cpus(), all);
        });
    }

    #[test]
    fn a_choice_of_the_program_is_left_alone() {
        apart(|all| {
            pin_current_thread(any_of(all)).unwrap();
            sched_setaffinity(None, &all).unwrap();
            drop(Lifted::new());
            assert_eq!(cpus(), all);
        });
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        apart(|all| {
            assert!(pin_current_thread(CPUS_MAX).is_err());
            assert_eq!(cpus(), all);
        });
    }
}
