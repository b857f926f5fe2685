//! Which CPUs the server and the load run on.

use std::io;

use ringcall::Environment;
use rustix::thread::{CpuSet, sched_setaffinity};

/// A CPU for the server's process and another for the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// CPU of the server's process.
    pub server: usize,
    /// CPU of the load.
    pub client: usize,
}

impl Placement {
    /// Chooses among the allowed CPUs; with a single one there is nothing to place. Two hardware
    /// threads of one core slow each other down, so they are the last choice.
    pub fn choose(environment: &Environment) -> Option<Self> {
        place(&environment.cpus, siblings)
    }
}

fn place(cpus: &[usize], siblings: impl Fn(usize) -> Vec<usize>) -> Option<Placement> {
    let (&server, others) = cpus.split_first()?;
    let same_core = siblings(server);
    let elsewhere = others.iter().find(|cpu| !same_core.contains(cpu));
    let client = *elsewhere.or(others.first())?;
    Some(Placement { server, client })
}

/// What a reader of the figures should know about where they come from.
pub(crate) fn notes(environment: &Environment, placement: Option<Placement>) -> Vec<String> {
    let mut notes = Vec::new();
    match placement {
        None => notes.push(
            "only one CPU may be used: server and load run unpinned and share it, so the figures show the scheduler \
             more than the server"
                .into(),
        ),
        Some(Placement { server, client }) if siblings(server).contains(&client) => {
            notes.push(format!(
                "CPUs {server} and {client} are hardware threads of one core: each slows the other"
            ));
        }
        Some(_) => (),
    }
    if let Some(quota) = environment.quota_cpus
        && quota < 2.0
    {
        notes.push(format!(
            "a quota of {quota:.2} CPUs stops server and load now and then; see `loadgen env`"
        ));
    }
    notes
}

/// Hardware threads of the same core, as far as the system says.
pub(crate) fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    std::fs::read_to_string(path).map_or_else(|_| Vec::new(), |list| parse_list(list.trim()))
}

/// Reads a list of the kernel, such as `0-3,8`.
pub(crate) fn parse_list(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Keeps the calling thread, and the threads and processes that it starts, on these CPUs.
///
/// # Errors
/// When this process may not use them.
pub fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_core_is_preferred_to_another_thread() {
        let pairs = |cpu: usize| vec![cpu & !1, cpu | 1];
        let placed = |cpus: &[usize]| place(cpus, pairs).map(|two| (two.server, two.client));
        assert_eq!(placed(&[0, 1, 2, 3]), Some((0, 2)));
        assert_eq!(placed(&[0, 1]), Some((0, 1)));
        assert_eq!(placed(&[5]), None);
        assert_eq!(placed(&[]), None);
    }

    #[test]
    fn lists_of_the_kernel_are_read() {
        assert_eq!(parse_list("0-2,8"), [0, 1, 2, 8]);
        assert_eq!(parse_list(""), [0; 0]);
    }
}
