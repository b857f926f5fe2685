//! Who used the two CPUs of a measurement.

use std::io;
use std::time::Duration;

use loadgen::load::cpu_time::ProcessClock;
use loadgen::target::placement::Placement;
use procfs::{CurrentSI, KernelStats};

/// CPU times since some moment in the past, read together.
#[derive(Clone, Copy, Debug)]
pub struct CpuUsage {
    server: Duration,
    client: Duration,
    idle: Option<Duration>,
}

/// Who used the CPUs during some time.
#[derive(Clone, Copy, Debug)]
pub struct CpuLoad {
    /// CPU time of the server process, in user code and in the kernel.
    pub server: Duration,
    /// CPU time of the client process.
    pub client: Duration,
    /// Share of the two CPUs that neither had and that was not idle: other processes, and the
    /// host of a virtual machine. `None` when nothing is pinned.
    pub others: Option<f64>,
    /// Whether others had so little that the run counts.
    pub is_calm: bool,
}

#[cfg(test)]
impl CpuLoad {
    /// Of a run of which others had this share of the CPUs, where 5 % are tolerated.
    pub fn of_others(others: f64) -> Self {
        Self {
            server: Duration::ZERO,
            client: Duration::ZERO,
            others: Some(others),
            is_calm: others <= 0.05,
        }
    }
}

impl CpuUsage {
    /// The usage up to now of this server process and of this process, the client.
    pub fn now(server_pid: u32, placement: Option<Placement>) -> io::Result<Self> {
        Ok(Self {
            server: ProcessClock::of(server_pid)?.now()?,
            client: ProcessClock::of(std::process::id())?.now()?,
            idle: placement.map(idle_time).transpose()?,
        })
    }

    /// The load of the time between `earlier` and this.
    pub fn since(&self, earlier: &Self, elapsed: Duration) -> CpuLoad {
        let server = self.server.saturating_sub(earlier.server);
        let client = self.client.saturating_sub(earlier.client);
        let idle = self.idle.zip(earlier.idle);
        let others = idle.map(|(later, earlier)| {
            let used = server + client + later.saturating_sub(earlier);
            (elapsed * CPUS_USED).saturating_sub(used)
        });
        let others = others.map(|others| others.div_duration_f64(elapsed * CPUS_USED));
        CpuLoad {
            server,
            client,
            others,
            is_calm: others.is_none_or(|others| others <= others_tolerated(elapsed)),
        }
    }
}

/// Share of the two CPUs that others may have in a run of this length that counts. Idle times come
/// in steps, so the shorter a run is, the more of it may seem to have gone to others.
pub fn others_tolerated(elapsed: Duration) -> f64 {
    OTHERS_TOLERATED + IDLE_GRAIN.div_duration_f64(elapsed)
}

/// Time that the two CPUs have spent idle, together.
fn idle_time(placement: Placement) -> io::Result<Duration> {
    let stats = KernelStats::current().map_err(io::Error::other)?;
    [placement.server, placement.client]
        .iter()
        .map(|cpu| {
            let cpu = stats.cpu_time.get(*cpu);
            let cpu = cpu.ok_or_else(|| io::Error::other("the kernel hides a CPU's idle time"))?;
            Ok(cpu.idle_duration() + cpu.iowait_duration().unwrap_or_default())
        })
        .sum()
}

/// One for the server and one for the client.
const CPUS_USED: u32 = 2;
/// Share of the CPUs that others may have in a run that counts, however long it is.
const OTHERS_TOLERATED: f64 = 0.05;
/// The kernel tells idle times in steps of this.
const IDLE_GRAIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_costs_time() {
        let pid = std::process::id();
        let (start, before) = (Instant::now(), CpuUsage::now(pid, None).unwrap());
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let load = CpuUsage::now(pid, None)
            .unwrap()
            .since(&before, start.elapsed());
        assert!(load.server > Duration::ZERO && load.is_calm && load.others.is_none());
    }

    #[test]
    fn time_that_nobody_accounts_for_belongs_to_others() {
        let usage = |server, client, idle| CpuUsage {
            server: Duration::from_millis(server),
            client: Duration::from_millis(client),
            idle: Some(Duration::from_millis(idle)),
        };
        let second = Duration::from_secs(1);
        let calm = usage(900, 900, 200).since(&usage(0, 0, 0), second);
        assert!(calm.is_calm && calm.others == Some(0.0));
        let disturbed = usage(900, 400, 200).since(&usage(0, 0, 0), second);
        assert!(!disturbed.is_calm && disturbed.others == Some(0.25));
        // One step of the idle time of each CPU is a tenth of so short a run.
        let short = Duration::from_millis(100);
        let calm = usage(90, 80, 10).since(&usage(0, 0, 0), short);
        assert!(calm.is_calm && calm.others == Some(0.1));
    }
}
