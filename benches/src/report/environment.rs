//! Where and how a table was measured; without it, figures mean nothing.

use std::time::Duration;

use serde::Serialize;

use crate::cpu::Placement;

/// Where and how a table was measured.
#[derive(Debug, Serialize)]
pub struct Environment {
    /// Options that repeat the measurement.
    pub command: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Model of the CPU.
    pub cpu_model: String,
    /// CPUs of the machine.
    pub cpus: usize,
    /// CPU of the servers; `None` when nothing was pinned.
    pub server_cpu: Option<usize>,
    /// CPU of the client; `None` when nothing was pinned.
    pub client_cpu: Option<usize>,
    /// Runs of each peer.
    pub runs: usize,
    /// Measured seconds of each run.
    pub seconds: f64,
    /// Seconds before them that were not measured.
    pub warm_up_seconds: f64,
    /// Payload of a request, in bytes.
    pub payload_bytes: usize,
}

impl Environment {
    /// Looks around; the rest is told.
    pub fn of(
        command: String,
        placement: Option<Placement>,
        runs: usize,
        measured: Duration,
        warm_up: Duration,
        payload_bytes: usize,
    ) -> Self {
        let system = rustix::system::uname();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let (processor, cpus) = processors(&cpuinfo);
        Self {
            command,
            kernel: system.release().to_string_lossy().into_owned(),
            cpu_model: processor.to_owned(),
            cpus,
            server_cpu: placement.map(|placement| placement.server),
            client_cpu: placement.map(|placement| placement.client),
            runs,
            seconds: measured.as_secs_f64(),
            warm_up_seconds: warm_up.as_secs_f64(),
            payload_bytes,
        }
    }
}

/// Model and number of the machine's CPUs, also of those that we may not use.
fn processors(cpuinfo: &str) -> (&str, usize) {
    let of = |key| {
        cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(move |(name, _)| name.trim() == key)
    };
    let model = of("model name").next();
    let model = model.map_or("CPU of unknown model", |(_, model)| model.trim());
    (model, of("processor").count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A 1\n\nprocessor\t: 1\nmodel name\t: A 1\n";
        assert_eq!(processors(cpuinfo), ("A 1", 2));
    }
}
