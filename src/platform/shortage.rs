//! What to say, and do, when the system is short of something that a start needs.

use std::fmt;
use std::io;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::rlimit::{address_space_limit, nofile_limit, nproc_limit};

/// Something that can't be had because the process or the system is short of it. Its `Display` is one line:
/// what it is, the error, and, where these are known, the likely cause and the remedy.
#[derive(Debug)]
#[non_exhaustive]
pub struct Shortage {
    /// What can't be had, such as `the thread of shard 3`.
    pub what: String,
    /// The error of the system.
    pub error: io::Error,
    /// The likely cause.
    pub cause: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Shortage {
    /// An error because of which `what` can't be had.
    pub(crate) fn new(what: impl Into<String>, error: io::Error) -> Self {
        let (cause, remedy) = error.raw_os_error().and_then(explain).unzip();
        Self {
            what: what.into(),
            error,
            cause,
            remedy,
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can't be had: {}", self.what, self.error)?;
        match (&self.cause, &self.remedy) {
            (Some(cause), Some(remedy)) => {
                write!(f, "; likely cause: {cause}; remedy: {remedy}")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Shortage {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The likely cause and the remedy, if an error says that something is short.
pub(crate) fn explained(error: &io::Error) -> Option<String> {
    let (cause, remedy) = explain(error.raw_os_error()?)?;
    Some(format!("likely cause: {cause}; remedy: {remedy}"))
}

/// The likely cause of an error number that says that something is short, and the remedy.
fn explain(errno: i32) -> Option<(String, String)> {
    match errno {
        libc::EMFILE => Some((
            format!("the process has used up RLIMIT_NOFILE, {}", nofile_limit()),
            NOFILE_REMEDY.into(),
        )),
        libc::ENFILE => Some((
            "the whole system has used up its open files (fs.file-max)".into(),
            NFILE_REMEDY.into(),
        )),
        // What `pthread_create` answers for whatever it lacks.
        libc::EAGAIN => Some((
            format!(
                "the user or the container has used up its threads (RLIMIT_NPROC is {}; pids.max of the control \
                 group), or there is no memory for a stack (RLIMIT_AS is {} bytes)",
                nproc_limit(),
                address_space_limit()
            ),
            THREADS_REMEDY.into(),
        )),
        libc::ENOMEM => Some((
            format!(
                "memory is short (RLIMIT_AS is {} bytes), or a limit of its container",
                address_space_limit()
            ),
            MEMORY_REMEDY.into(),
        )),
        libc::ENOSPC => Some((
            "the user has used up sysctl fs.epoll.max_user_watches".into(),
            "raise it with `sysctl -w fs.epoll.max_user_watches=`".into(),
        )),
        _ => None,
    }
}

/// Whether the process may map `bytes` more: a start that would run out of memory half-way is refused
/// before it begins, since not every small allocation on its way can fail gracefully.
///
/// # Errors
/// What is short, and what to do.
pub(crate) fn room_for(what: &str, bytes: usize) -> Result<(), Shortage> {
    let what = || format!("memory for {what}, {} MiB,", bytes >> 20);
    map_and_unmap(bytes).map_err(|error| Shortage::new(what(), error))
}

#[allow(
    unsafe_code,
    reason = "memory is mapped and unmapped at once, and never touched"
)]
fn map_and_unmap(bytes: usize) -> io::Result<()> {
    // SAFETY: the kernel chooses a place where nothing is mapped.
    let memory = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }?;
    // SAFETY: exactly what was just mapped; no reference to it was made.
    unsafe { munmap(memory, bytes) }?;
    Ok(())
}

/// What to do when a process has used up its descriptors.
pub(crate) const NOFILE_REMEDY: &str = "raise it (LimitNOFILE= of a systemd unit, `--ulimit nofile=` of a container, `ulimit -n` of a shell)";
/// What to do when the whole system has no files left.
pub(crate) const NFILE_REMEDY: &str = "close what leaks them, or raise it: `sysctl fs.file-max`";
const THREADS_REMEDY: &str = "raise it (LimitNPROC= and TasksMax= of a systemd unit, `--pids-limit` of a container, `ulimit -u` and \
     `ulimit -v` of a shell), or run fewer shards";
const MEMORY_REMEDY: &str = "raise it (`ulimit -v`, the memory limit of the container), or use fewer shards, or fewer or smaller \
     buffers (ServerBuilder::recv_buffers)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shortage_has_its_remedy() {
        for (errno, cause, remedy) in [
            (libc::EMFILE, "RLIMIT_NOFILE", "LimitNOFILE="),
            (libc::ENFILE, "whole system", "fs.file-max"),
            (libc::EAGAIN, "RLIMIT_NPROC", "ulimit -u"),
            (libc::ENOMEM, "RLIMIT_AS", "ulimit -v"),
            (libc::ENOSPC, "max_user_watches", "sysctl"),
        ] {
            let shortage = Shortage::new("a thing", io::Error::from_raw_os_error(errno));
            let text = shortage.to_string();
            assert!(text.starts_with("a thing can't be had: "), "{text}");
            assert!(text.contains(cause) && text.contains(remedy), "{text}");
            assert!(!text.contains('\n') && !text.contains("  "), "{text}");
        }
        let other = Shortage::new("a thing", io::Error::other("it is blue"));
        assert_eq!(other.to_string(), "a thing can't be had: it is blue");
    }

    #[test]
    fn there_is_room_for_a_little_but_not_for_everything() {
        room_for("a little", 1 << 20).unwrap();
        let text = room_for("everything", 1 << 60).unwrap_err().to_string();
        assert!(
            text.starts_with("memory for everything, 1099511627776 MiB, can't be had: "),
            "{text}"
        );
        assert!(text.contains("remedy"), "{text}");
    }
}
