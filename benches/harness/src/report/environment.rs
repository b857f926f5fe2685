//! Where a table was measured, and with which software; without it, figures mean nothing. What is
//! said of machine, build and pinning is what the load generator's result folders say.

use std::collections::BTreeMap;
use std::fmt;

use loadgen::environment::{build, machine, now_utc, to_the_second};
use loadgen::results::{Build, Machine, Pinning};
use loadgen::target::placement::Placement;
use serde::Serialize;

use crate::options::CARGO_BENCH;

/// Where a table was measured, and with which software.
#[derive(Debug, Serialize)]
pub struct Environment {
    /// What repeats the measurement.
    pub command: String,
    /// When it began, RFC 3339 in UTC.
    pub started_utc: String,
    /// The program that measured, which holds what was measured too.
    pub build: Build,
    /// The machine, as it was before anything was pinned.
    pub machine: Machine,
    /// Which CPUs did what.
    pub pinning: Pinning,
    /// Versions of what is compared, from the lock file.
    pub versions: BTreeMap<&'static str, &'static str>,
}

impl Environment {
    /// Looks around, before this process is pinned: then it would see one CPU. `bench` is the name of
    /// the bench that asks.
    pub fn of(bench: &str, placement: Option<Placement>) -> Self {
        Self {
            command: command_line(bench, std::env::args().skip(1)),
            started_utc: now_utc(),
            build: build(),
            machine: machine(),
            pinning: Pinning {
                generator_cpus: vec![placement.map(|placement| placement.client)],
                server_cpus: placement.map(|placement| vec![placement.server]),
            },
            versions: versions(include_str!("../../../../Cargo.lock")),
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (build, machine) = (&self.build, &self.machine);
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
        writeln!(
            f,
            "`{}`\n\n{}, commit {}.",
            self.command,
            to_the_second(&self.started_utc),
            build.commit
        )?;
        write!(
            f,
            "{} × {}, Linux {}; ",
            machine.cpus_allowed.len(),
            known(&machine.cpu_model),
            known(&machine.kernel)
        )?;
        match (&self.pinning.server_cpus, &self.pinning.generator_cpus[..]) {
            (Some(servers), [Some(client)]) => {
                write!(f, "server on CPU {}, client on CPU {client}", servers[0])?;
            }
            _ => f.write_str("nothing pinned")?,
        }
        write!(f, "; {}", build.rustc)?;
        for (package, version) in &self.versions {
            write!(f, ", {package} {version}")?;
        }
        f.write_str(".")
    }
}

/// The command without the program's own path, which says nothing to others.
fn command_line(bench: &str, options: impl Iterator<Item = String>) -> String {
    // Where results go does not change them, and the folder is different elsewhere.
    let mut options = options.peekable();
    let mut command = format!("cargo bench --bench {bench}");
    let mut separator = " -- ";
    while let Some(option) = options.next() {
        match option.as_str() {
            CARGO_BENCH => {}
            "--out" => drop(options.next()),
            option if option.starts_with("--out=") => {}
            option => {
                command = command + separator + option;
                separator = " ";
            }
        }
    }
    command
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

/// Packages whose versions are told.
const COMPARED: [&str; 10] = [
    "bincode", "glommio", "h2", "hyper", "io-uring", "prost", "rkyv", "tarpc", "tokio", "tonic",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_build_and_versions_are_told() {
        let placement = Placement {
            server: 3,
            client: 5,
        };
        let environment = Environment::of("x", Some(placement));
        assert_eq!(environment.versions.len(), COMPARED.len());
        let text = environment.to_string();
        assert!(
            text.contains("server on CPU 3, client on CPU 5; rustc "),
            "{text}"
        );
        assert!(text.contains(&environment.build.commit), "{text}");
        assert!(
            Environment::of("x", None)
                .to_string()
                .contains("nothing pinned")
        );
    }

    #[test]
    fn the_command_is_told_without_where_results_go() {
        let command =
            |options: &[&str]| command_line("x", options.iter().map(|&option| option.to_owned()));
        let plain = command(&["--bench"]);
        assert_eq!(plain, "cargo bench --bench x");
        let told = command(&["--out", "a", "--runs", "3", "--out=b", "--bench"]);
        assert_eq!(told, "cargo bench --bench x -- --runs 3");
    }
}
