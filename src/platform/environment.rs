//! What this machine offers, and what is missing, for people to read.

use std::fmt;
use std::fs::read_to_string;

use super::cpus;
use super::rlimit::{Limit, memlock_limit, nofile_limit};
use super::shortage::NOFILE_REMEDY;
use super::uring::{Features, Refusal, probe};

/// What this machine offers to a server; [`environment`](crate::environment) looks.
///
/// Its `Display` is a few lines for people, the advice included.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Environment {
    /// Release of the kernel, such as `6.12.4`. It decides nothing: what is there is tried.
    pub kernel: Option<String>,
    /// The processor's name for itself.
    pub cpu_model: Option<String>,
    /// Numbers of the CPUs in the affinity mask, ascending.
    pub cpus: Vec<usize>,
    /// CPUs' worth of time that the control groups allow, if they set a quota.
    pub quota_cpus: Option<f64>,
    /// What sets the frequency of the first allowed CPU; `None` where it can't be read, as in most
    /// virtual machines.
    pub governor: Option<String>,
    /// `RLIMIT_MEMLOCK`, in bytes.
    pub memlock: Limit,
    /// `RLIMIT_NOFILE`, in descriptors.
    pub nofile: Limit,
    /// Whether io_uring can be used.
    pub io_uring: IoUring,
    /// What is missing or in the way, each with its remedy. Empty on a good machine.
    pub advice: Vec<String>,
}

/// Whether io_uring can be used, as it turned out by trying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IoUring {
    /// It can, and this is what the engine found of it.
    Usable {
        /// Names, as the kernel writes them.
        features: Vec<String>,
    },
    /// It can't: servers use epoll here.
    Refused {
        /// What failed, and the error.
        failure: String,
        /// The likely cause.
        cause: String,
        /// What to do about it.
        remedy: String,
    },
}

impl Environment {
    /// Looks. A shard's ring locks `ring_bytes`.
    pub(crate) fn look(ring_bytes: u64) -> Self {
        // The probe raises the limit on locked memory.
        let memlock = memlock_limit();
        let mut advice = Vec::new();
        let (cpus, quota_cpus) = match cpus::allowed() {
            Ok(allowed) => (allowed.cpus, allowed.quota_cpus),
            Err(error) => {
                advice.push(error.to_string());
                (Vec::new(), None)
            }
        };
        let probed = probe();
        let environment = Self {
            kernel: first_line("/proc/sys/kernel/osrelease"),
            cpu_model: read_to_string("/proc/cpuinfo")
                .ok()
                .and_then(|text| cpu_model(&text)),
            governor: cpus.first().and_then(|cpu| {
                first_line(&format!(
                    "/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"
                ))
            }),
            cpus,
            quota_cpus,
            memlock,
            nofile: nofile_limit(),
            io_uring: probed
                .as_ref()
                .map_or_else(IoUring::refused, IoUring::usable),
            advice: Vec::new(),
        };
        advice.extend(environment.advice_on_cpus());
        advice.extend(environment.advice_on_descriptors());
        if let Ok(found) = probed {
            advice.extend(found.advice(environment.cpus.len(), ring_bytes));
        }
        Self {
            advice,
            ..environment
        }
    }

    fn advice_on_cpus(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if self.cpus.len() == 1 {
            advice.push(
                "this process may use one CPU only: a load generator beside the server takes its time from it; widen \
                 the affinity mask (`taskset`) or the cpuset"
                    .into(),
            );
        }
        if let Some(quota) = self.quota_cpus
            && quota < self.cpus.len() as f64
        {
            advice.push(format!(
                "the control group's quota is {quota:.2} CPUs: threads that use it up stand still for up to 100 ms; \
                 raise or drop it (CPUQuota= of a systemd unit, `--cpus` of a container, the CPU limit in Kubernetes)"
            ));
        }
        if let Some(governor) = &self.governor
            && governor != "performance"
        {
            advice.push(format!(
                "the CPU frequency governor is `{governor}`: clocks follow the load, and latency with them; \
                 `cpupower frequency-set -g performance`"
            ));
        }
        advice
    }

    fn advice_on_descriptors(&self) -> Option<String> {
        let hard = self.nofile.hard.filter(|&hard| hard < DESCRIPTORS_USUAL)?;
        Some(format!(
            "RLIMIT_NOFILE is at most {hard}, and each connection takes a descriptor: {NOFILE_REMEDY}"
        ))
    }
}

impl IoUring {
    fn usable(features: &Features) -> Self {
        Self::Usable {
            features: features
                .to_string()
                .split(", ")
                .map(str::to_owned)
                .collect(),
        }
    }

    fn refused(refusal: &Refusal) -> Self {
        Self::Refused {
            failure: refusal.failure(),
            cause: refusal.cause(),
            remedy: refusal.remedy(),
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = "not readable here";
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| unknown.into());
        let line = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| {
            writeln!(f, "{name:<14}  {value}")
        };
        line(f, "kernel", &or_unknown(&self.kernel))?;
        line(f, "processor", &or_unknown(&self.cpu_model))?;
        let cpus = format_args!("{} ({})", self.cpus.len(), list(&self.cpus)).to_string();
        line(f, "CPUs allowed", &cpus)?;
        let quota = self.quota_cpus.map(|cpus| format!("{cpus:.2} CPUs"));
        line(f, "CPU quota", &quota.unwrap_or_else(|| "none".into()))?;
        line(f, "governor", &or_unknown(&self.governor))?;
        line(f, "locked memory", &in_kib(self.memlock))?;
        line(f, "open files", &self.nofile)?;
        match &self.io_uring {
            IoUring::Usable { features } => {
                line(f, "io_uring", &"usable")?;
                line(f, "  features", &features.join(", "))?;
                line(f, "engine", &"uring")?;
            }
            IoUring::Refused {
                failure,
                cause,
                remedy,
            } => {
                line(f, "io_uring", &format!("refused: {failure}"))?;
                line(f, "  likely cause", cause)?;
                line(f, "  remedy", remedy)?;
                line(f, "engine", &"epoll, because io_uring is refused")?;
            }
        }
        for (at, advice) in self.advice.iter().enumerate() {
            line(f, if at == 0 { "advice" } else { "" }, advice)?;
        }
        Ok(())
    }
}

/// A limit of bytes, in words.
fn in_kib(limit: Limit) -> String {
    let words = |bytes: Option<u64>| {
        bytes.map_or("unlimited".into(), |bytes| format!("{} KiB", bytes / 1024))
    };
    format!("{} (hard limit {})", words(limit.soft), words(limit.hard))
}

/// Numbers as `taskset -c` takes them: `0-3,8`.
fn list(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|before, after| before + 1 == *after);
    let texts = runs.map(|run| match run {
        [one] => one.to_string(),
        _ => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    texts.collect::<Vec<_>>().join(",")
}

/// The model's name in a `/proc/cpuinfo`; not every architecture writes one.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")
        .map(|(_, model)| model.trim().to_owned())
}

fn first_line(path: &str) -> Option<String> {
    let text = read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

/// Descriptors below which a busy server may run out of them.
const DESCRIPTORS_USUAL: u64 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn modest() -> Environment {
        let limit = |hard| Limit {
            soft: Some(1024),
            hard: Some(hard),
        };
        Environment {
            kernel: Some("6.1.0".into()),
            cpu_model: None,
            cpus: vec![3],
            quota_cpus: Some(0.5),
            governor: Some("powersave".into()),
            memlock: limit(65_536),
            nofile: limit(4096),
            io_uring: IoUring::Refused {
                failure: "io_uring_setup failed".into(),
                cause: "a filter".into(),
                remedy: "another filter".into(),
            },
            advice: Vec::new(),
        }
    }

    #[test]
    fn this_machine_is_described() {
        let environment = Environment::look(100_000);
        let text = environment.to_string();
        assert!(text.contains("\nio_uring        ") && text.contains("\nengine          "));
        assert!(!environment.cpus.is_empty() && environment.kernel.is_some());
    }

    #[test]
    fn what_is_in_the_way_comes_with_its_remedy() {
        let advice = modest().advice_on_cpus().join("\n");
        for word in [
            "taskset",
            "quota is 0.50",
            "CPUQuota=",
            "`powersave`",
            "cpupower",
        ] {
            assert!(advice.contains(word), "{word}: {advice}");
        }
        let advice = modest().advice_on_descriptors().expect("too few");
        assert!(advice.contains("at most 4096") && advice.contains("LimitNOFILE="));
    }

    #[test]
    fn a_refusal_is_told_with_cause_and_remedy() {
        let text = modest().to_string();
        for line in [
            "io_uring        refused: io_uring_setup failed\n",
            "  likely cause  a filter\n",
            "  remedy        another filter\n",
            "engine          epoll",
            "CPUs allowed    1 (3)\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn numbers_are_listed_in_runs() {
        assert_eq!(list(&[0, 1, 2, 5, 8, 9]), "0-2,5,8-9");
        assert_eq!(list(&[]), "");
    }

    #[test]
    fn the_model_is_read() {
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n").as_deref(),
            Some("Some CPU @ 2 GHz")
        );
        assert_eq!(cpu_model("Processor : ARM\n"), None);
    }
}
