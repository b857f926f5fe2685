//! Where a table was measured, and with which software; without it, figures mean nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use serde::Serialize;

use crate::cpu::Placement;
use crate::options::CARGO_BENCH;

/// Where a table was measured, and with which software.
#[derive(Debug, Serialize)]
pub struct Environment {
    /// What repeats the measurement.
    pub command: String,
    /// When it ended, in UTC.
    pub measured_at: String,
    /// The commit of the source, with `-dirty` when anything but results differs from it; `None`
    /// outside of a repository.
    pub commit: Option<String>,
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
            command: command_line(bench, std::env::args().skip(1)),
            measured_at: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            commit: commit(Path::new(env!("CARGO_MANIFEST_DIR"))),
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
            measured_at,
            commit,
            kernel,
            cpu_model,
            cpus,
            rustc,
            ..
        } = self;
        write!(f, "`{command}`\n\n{measured_at}, ")?;
        match commit {
            Some(commit) => writeln!(f, "commit {commit}.")?,
            None => writeln!(f, "outside of a repository.")?,
        }
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

/// The commit that a folder is at, marked when its repository has changes that it does not hold.
/// Results are left out of that: a series of benches writes one after another.
fn commit(folder: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(arguments)
            .output()
            .ok()?;
        let said = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| said.trim().to_owned())
    };
    let hash = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--", ":/", ":(top,exclude)results"])?;
    let mark = if changes.is_empty() { "" } else { "-dirty" };
    Some(hash + mark)
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
    use std::process::Stdio;

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

    #[test]
    fn the_command_is_told_without_where_results_go() {
        let command =
            |options: &[&str]| command_line("x", options.iter().map(|&option| option.to_owned()));
        let plain = command(&["--bench"]);
        assert_eq!(plain, "cargo bench --bench x");
        let told = command(&["--out", "a", "--runs", "3", "--out=b", "--bench"]);
        assert_eq!(told, "cargo bench --bench x -- --runs 3");
    }

    #[test]
    fn a_commit_is_marked_when_the_source_differs_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(commit(path), None);
        let git = |arguments: &[&str]| {
            let identity = ["-c", "user.name=x", "-c", "user.email=x@x", "-C"];
            let mut git = Command::new("git");
            let git = git.args(identity).arg(path).args(arguments);
            assert!(git.stdout(Stdio::null()).status().unwrap().success());
        };
        git(&["init", "--quiet", "--initial-branch", "main"]);
        git(&["commit", "--allow-empty", "--message", "x"]);
        let clean = commit(path).unwrap();
        assert!(!clean.is_empty() && clean.chars().all(|digit| digit.is_ascii_hexdigit()));
        std::fs::create_dir(path.join("results")).unwrap();
        std::fs::write(path.join("results/x.md"), "new").unwrap();
        assert_eq!(commit(path), Some(clean.clone()));
        std::fs::write(path.join("x.rs"), "new").unwrap();
        assert_eq!(commit(path), Some(clean + "-dirty"));
    }
}
