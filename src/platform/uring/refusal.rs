//! Why io_uring can't be used here: the step that failed, the likely cause, and what to do.

use super::memlock::EXECUTOR_MEMLOCK_BYTES_MIN;
use crate::platform::rlimit::{Limit, address_space_limit, memlock_limit, nofile_limit};
use crate::platform::shortage::{NFILE_REMEDY, NOFILE_REMEDY};
use std::fmt;
use std::io;

/// What the probe was doing when it was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Comparing `RLIMIT_MEMLOCK` with what the shard's executor insists on.
    LockedMemory,
    /// `io_uring_setup`.
    Setup,
    /// `io_uring_setup` with `IOPOLL`, one of the rings of the shard's executor.
    ExecutorRing,
    /// `io_uring_register` for the list of opcodes.
    OpcodeList,
    /// An opcode or feature that is not there.
    Missing {
        /// Its name, as the kernel writes it.
        name: &'static str,
        /// The Linux release that brought it, for the reader; it decides nothing.
        since: &'static str,
    },
    /// Trying out something that no list shows.
    SelfTest {
        /// What was tried.
        name: &'static str,
        /// The Linux release that brought it.
        since: &'static str,
        /// What was seen instead of what was expected; empty when the errno says it all.
        seen: String,
    },
}

/// Why io_uring can't be used here. Its `Display` is one line: step, error, cause, remedy.
/// Whoever shows it says what can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What failed.
    pub step: Step,
    /// The error that the kernel answered, if it answered one.
    pub errno: Option<i32>,
    /// Boxed to keep the error small.
    restrictions: Box<Restrictions>,
}

impl Refusal {
    /// A refusal without an errno.
    pub(crate) fn new(step: Step) -> Self {
        Self::under(step, None, Restrictions::now())
    }

    /// A refusal by an error of the system.
    pub(crate) fn from_io(step: Step, error: &io::Error) -> Self {
        Self::under(step, error.raw_os_error(), Restrictions::now())
    }

    fn under(step: Step, errno: Option<i32>, restrictions: Restrictions) -> Self {
        Self {
            step,
            errno,
            restrictions: Box::new(restrictions),
        }
    }

    /// What failed, and the error that the kernel answered, in words.
    pub(crate) fn failure(&self) -> String {
        match self.errno {
            Some(errno) => format!("{}: {}", self.step, io::Error::from_raw_os_error(errno)),
            None => self.step.to_string(),
        }
    }

    /// The likely cause, in words.
    pub(crate) fn cause(&self) -> String {
        self.explain().0
    }

    /// What to do about it, in words.
    pub(crate) fn remedy(&self) -> String {
        self.explain().1
    }

    fn explain(&self) -> (String, String) {
        if self.step == Step::LockedMemory {
            return self.explain_memory();
        }
        match self.errno {
            Some(libc::EPERM | libc::EACCES) => self.explain_permission(),
            Some(libc::ENOSYS | libc::EOPNOTSUPP) => (
                "this kernel or sandbox has no io_uring: built without it, gVisor, or a seccomp filter that says so"
                    .into(),
                "run on a kernel with CONFIG_IO_URING, outside gVisor, and with a seccomp profile that allows it".into(),
            ),
            Some(libc::ENOMEM | libc::EAGAIN) => self.explain_memory(),
            Some(libc::EMFILE) => (
                format!("the process has used up RLIMIT_NOFILE, {}", self.restrictions.nofile),
                NOFILE_REMEDY.into(),
            ),
            Some(libc::ENFILE) => (
                "the whole system has used up its open files (fs.file-max)".into(),
                NFILE_REMEDY.into(),
            ),
            _ => self.explain_missing(),
        }
    }

    fn explain_permission(&self) -> (String, String) {
        match (self.restrictions.disabled, self.restrictions.seccomp_filter) {
            (Some(1), _) => (
                "sysctl kernel.io_uring_disabled is 1: only root and the members of kernel.io_uring_group may use io_uring".into(),
                "put the user into that group, or `sysctl -w kernel.io_uring_disabled=0`".into(),
            ),
            (Some(value @ 2..), _) => (
                format!("sysctl kernel.io_uring_disabled is {value}: io_uring is off for every process"),
                "`sysctl -w kernel.io_uring_disabled=0`".into(),
            ),
            (_, true) => (
                format!(
                    "a seccomp filter forbids io_uring, as the default ones of Docker from 25 on, containerd from 2 on and \
                     Kubernetes (RuntimeDefault) do; {}",
                    self.sysctl_words()
                ),
                "run with a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register (`docker run \
                 --security-opt seccomp=<profile.json>`, seccompProfile of type Localhost in Kubernetes)"
                    .into(),
            ),
            (_, false) => (
                format!(
                    "a security policy (SELinux, AppArmor) or the container runtime forbids io_uring; no seccomp filter is \
                     active, and {}",
                    self.sysctl_words()
                ),
                "look for the denial in the audit log, and allow io_uring to this program".into(),
            ),
        }
    }

    fn sysctl_words(&self) -> String {
        match self.restrictions.disabled {
            Some(value) => format!("sysctl kernel.io_uring_disabled is {value}"),
            None => "this kernel has no sysctl kernel.io_uring_disabled".into(),
        }
    }

    fn explain_memory(&self) -> (String, String) {
        let memlock = self.restrictions.memlock;
        let cause = if memlock.allows(EXECUTOR_MEMLOCK_BYTES_MIN) {
            format!(
                "the user's locked memory has reached RLIMIT_MEMLOCK, {memlock} bytes (kernels from 6.14 on, and before 5.12, \
                 count rings in it, those of the user's other processes too), or memory is short (RLIMIT_AS is {} bytes)",
                address_space_limit()
            )
        } else {
            format!(
                "RLIMIT_MEMLOCK is {memlock} bytes; a shard needs at least {EXECUTOR_MEMLOCK_BYTES_MIN}"
            )
        };
        let remedy = "raise it to some MiB (LimitMEMLOCK= of a systemd unit, `--ulimit memlock=` of a container, `ulimit -l` \
                      and `ulimit -v` of a shell)";
        (cause, remedy.into())
    }

    fn explain_missing(&self) -> (String, String) {
        let (name, since) = match &self.step {
            Step::Missing { name, since } | Step::SelfTest { name, since, .. } => (*name, *since),
            Step::OpcodeList => ("the list of opcodes", "5.6"),
            Step::LockedMemory | Step::Setup | Step::ExecutorRing => ("io_uring", "5.1"),
        };
        (
            format!(
                "this kernel or sandbox lacks {name}, which Linux {since} brought, or restricts it"
            ),
            format!(
                "run on a kernel that has it: Linux {since}, or a distribution's that carries it back"
            ),
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LockedMemory => write!(f, "locked memory is too small"),
            Self::Setup => write!(f, "io_uring_setup failed"),
            Self::ExecutorRing => write!(f, "io_uring_setup with IOPOLL failed"),
            Self::OpcodeList => write!(f, "io_uring_register for the list of opcodes failed"),
            Self::Missing { name, .. } => write!(f, "{name} is missing"),
            Self::SelfTest { name, seen, .. } if seen.is_empty() => {
                write!(f, "trying out {name} failed")
            }
            Self::SelfTest { name, seen, .. } => write!(f, "trying out {name}: {seen}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cause, remedy) = self.explain();
        let failure = self.failure();
        write!(f, "{failure}; likely cause: {cause}; remedy: {remedy}")
    }
}

impl std::error::Error for Refusal {}

/// What this process may not do or have, as it was at the refusal: it decides between causes that share an errno.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Restrictions {
    /// Sysctl `kernel.io_uring_disabled`; `None` where there is no such sysctl.
    disabled: Option<u32>,
    /// Whether a seccomp filter is in force on this thread.
    seccomp_filter: bool,
    memlock: Limit,
    nofile: Limit,
}

impl Restrictions {
    fn now() -> Self {
        Self {
            disabled: std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            seccomp_filter: std::fs::read_to_string("/proc/thread-self/status")
                .is_ok_and(|status| has_seccomp_filter(&status)),
            memlock: memlock_limit(),
            nofile: nofile_limit(),
        }
    }
}

/// Reads a `/proc/<pid>/status`; mode 2 is a filter, 1 the strict mode in which no program is here.
fn has_seccomp_filter(status: &str) -> bool {
    status
        .lines()
        .filter_map(|line| line.strip_prefix("Seccomp:"))
        .any(|mode| mode.trim() == "2")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(step: Step, errno: Option<i32>, disabled: Option<u32>, filter: bool) -> String {
        let limit = |soft| Limit {
            soft: Some(soft),
            hard: None,
        };
        let restrictions = Restrictions {
            disabled,
            seccomp_filter: filter,
            memlock: limit(65_536),
            nofile: limit(1024),
        };
        let text = Refusal::under(step, errno, restrictions).to_string();
        assert!(!text.contains('\n') && !text.contains("  "), "{text}");
        text
    }

    #[test]
    fn eperm_is_told_apart_by_sysctl_and_filter() {
        let eperm = |disabled, filter| refusal(Step::Setup, Some(libc::EPERM), disabled, filter);
        assert!(eperm(Some(2), true).contains("io_uring_disabled is 2"));
        assert!(eperm(Some(1), false).contains("kernel.io_uring_group"));
        let filtered = eperm(Some(0), true);
        assert!(filtered.contains("Docker") && filtered.contains("io_uring_disabled is 0"));
        assert!(filtered.contains("Operation not permitted (os error 1)"));
        assert!(eperm(None, true).contains("has no sysctl"));
        assert!(eperm(Some(0), false).contains("SELinux"));
    }

    #[test]
    fn every_errno_has_its_cause_and_remedy() {
        for (errno, cause, remedy) in [
            (libc::ENOSYS, "gVisor", "CONFIG_IO_URING"),
            (libc::EOPNOTSUPP, "gVisor", "seccomp"),
            (libc::ENOMEM, "RLIMIT_MEMLOCK is 65536", "LimitMEMLOCK="),
            (libc::EAGAIN, "RLIMIT_MEMLOCK", "ulimit -l"),
            (libc::EMFILE, "RLIMIT_NOFILE, 1024", "LimitNOFILE="),
            (libc::ENFILE, "fs.file-max", "sysctl"),
            (libc::EINVAL, "Linux 5.1 ", "run on a kernel"),
        ] {
            let text = refusal(Step::Setup, Some(errno), None, false);
            assert!(text.contains(cause) && text.contains(remedy), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_release() {
        let text = refusal(
            Step::SelfTest {
                name: "multishot recv",
                since: "6.0",
                seen: "no completion".into(),
            },
            None,
            None,
            false,
        );
        assert!(text.contains("trying out multishot recv: no completion"));
        assert!(text.contains("Linux 6.0"), "{text}");
        let text = refusal(Step::LockedMemory, None, None, false);
        assert!(text.contains("65536 (hard limit unlimited)") && text.contains("524288"));
    }

    #[test]
    fn a_filter_is_seen_in_the_status() {
        assert!(has_seccomp_filter(
            "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"
        ));
        assert!(!has_seccomp_filter("Seccomp:\t0\nSeccomp_filters:\t2\n"));
        assert!(!has_seccomp_filter(""));
    }
}
