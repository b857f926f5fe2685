//! Where a table was measured, and with which software; without it, figures mean nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::cpu::Placement;

/// Where a table was measured, and with which software.
#[derive(Debug, Serialize)]
pub struct Environment {
    /// What repeats the measurement.
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
    /// The compiler.
    pub rustc: &'static str,
    /// Versions of what is compared, from the lock file.
    pub versions: BTreeMap<&'static str, &'static str>,
}

impl Environment {
    /// Looks around. `bench` is the name of the bench that asks.
    pub fn of(bench: &str, placement: Option<Placement>) -> Self {
        let system = rustix::system::uname();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let (processor, cpus) = processors(&cpuinfo);
        Self {
            command: command_line(bench),
            kernel: system.release().to_string_lossy().into_owned(),
            cpu_model: processor.to_owned(),
            cpus,
            server_cpu: placement.map(|placement| placement.server),
            client_cpu: placement.map(|placement| placement.client),
            rustc: RUSTC,
            versions: versions(include_str!("../../../../Cargo.lock")),
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            kernel,
            cpu_model,
            cpus,
            rustc,
            ..
        } = self;
        writeln!(f, "`{command}`\n")?;
        write!(f, "{cpus} × {cpu_model}, Linux {kernel}; ")?;
        match (self.server_cpu, self.client_cpu) {
            (Some(server), Some(client)) => {
                write!(f, "server on CPU {server}, client on CPU {client}")?;
            }
            _ => f.write_str("nothing pinned")?,
        }
        write!(f, "; {rustc}")?;
        for (package, version) in &self.versions {
            write!(f, ", {package} {version}")?;
        }
        f.write_str(".")
    }
}

/// The command without the program's own path, which says nothing to others.
fn command_line(bench: &str) -> String {
    // Where results go does not change them, and the folder is different elsewhere.
    let mut options = std::env::args().skip(1).peekable();
    let mut command = format!("cargo bench --bench {bench}");
    let mut separator = " -- ";
    while let Some(option) = options.next() {
        match option.as_str() {
            "--bench" => {}
            "--out" => drop(options.next()),
            _ => {
                command = command + separator + &option;
                separator = " ";
            }
        }
    }
    command
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

/// Versions of the packages in a lock file that figures depend on.
fn versions(lock: &'static str) -> BTreeMap<&'static str, &'static str> {
    let quoted = |line: &'static str, key| {
        let value = line.strip_prefix(key)?.trim();
        value.strip_prefix('"')?.strip_suffix('"')
    };
    let lines = lock.lines().zip(lock.lines().skip(1));
    lines
        .filter_map(|(first, second)| {
            let name = quoted(first, "name =")?;
            let version = quoted(second, "version =")?;
            COMPARED.contains(&name).then_some((name, version))
        })
        .collect()
}

/// The compiler that built this.
pub const RUSTC: &str = env!("RUSTC_VERSION");
/// Packages whose versions are told.
const COMPARED: [&str; 10] = [
    "bincode", "glommio", "h2", "hyper", "io-uring", "prost", "rkyv", "tarpc", "tokio", "tonic",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A 1\n\nprocessor\t: 1\nmodel name\t: A 1\n";
        assert_eq!(processors(cpuinfo), ("A 1", 2));
    }

    #[test]
    fn the_lock_file_names_every_version() {
        let environment = Environment::of("x", None);
        assert_eq!(environment.versions.len(), COMPARED.len());
        assert!(environment.rustc.starts_with("rustc "));
    }
}
