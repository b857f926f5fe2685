//! Is io_uring usable here, and what of it is there?
//!
//! The answer comes from trying, never from the kernel's version: distributions carry features
//! back, and containers take them away.

use super::memlock::{memlock_sufficient, memlock_warning, raise_memlock};
use super::refusal::{Refusal, Step};
use super::ring::{SetupFlags, build_ring, retry_memory};
use super::selftest;
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use std::fmt;

/// What the engine uses of this kernel beyond what is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// Flags that a ring is built with.
    pub setup: SetupFlags,
}

/// Tries whether io_uring can carry the network and host the shards, in about a millisecond.
///
/// It may be called from any thread, must be called before any executor exists (glommio ends or
/// panics the process where io_uring is refused), and leaves nothing behind but a soft
/// `RLIMIT_MEMLOCK` raised to the hard one.
///
/// # Errors
/// The first thing that is missing, with its likely cause and remedy.
pub(crate) fn probe() -> Result<Features, Refusal> {
    raise_memlock();
    memlock_sufficient()?;
    let (mut ring, setup) = build_ring(PROBE_ENTRIES, PROBE_CQ_ENTRIES)
        .map_err(|error| Refusal::from_io(Step::Setup, &error))?;
    // One of the executor's rings polls its devices; it sets that up without asking before.
    let mut polled = IoUring::<squeue::Entry, cqueue::Entry>::builder();
    polled.setup_iopoll();
    retry_memory(|| polled.build(PROBE_ENTRIES))
        .map(drop)
        .map_err(|error| Refusal::from_io(Step::ExecutorRing, &error))?;

    let mut opcodes = Probe::new();
    ring.submitter()
        .register_probe(&mut opcodes)
        .map_err(|error| Refusal::from_io(Step::OpcodeList, &error))?;
    require_opcodes(&opcodes)?;
    require_features(&ring)?;
    selftest::multishot_recv(&mut ring)?;
    selftest::multishot_accept(&mut ring)?;

    Ok(Features { setup })
}

fn require_opcodes(opcodes: &Probe) -> Result<(), Refusal> {
    for (code, name, since) in ENGINE_OPCODES.iter().chain(EXECUTOR_OPCODES) {
        if !opcodes.is_supported(*code) {
            return Err(Refusal::new(Step::Missing { name, since }));
        }
    }
    Ok(())
}

fn require_features(ring: &IoUring) -> Result<(), Refusal> {
    let parameters = ring.params();
    for (there, name, since) in [
        // Completions beyond the queue's size are kept, not dropped.
        (parameters.is_feature_nodrop(), "IORING_FEAT_NODROP", "5.5"),
        // A wait can have a time-out without an operation of its own.
        (
            parameters.is_feature_ext_arg(),
            "IORING_FEAT_EXT_ARG",
            "5.11",
        ),
    ] {
        if !there {
            return Err(Refusal::new(Step::Missing { name, since }));
        }
    }
    Ok(())
}

impl Features {
    /// What is missing or may be too little for `shards` shards whose rings lock `ring_bytes` each, with its
    /// remedy.
    pub(crate) fn advice(&self, shards: usize, ring_bytes: u64) -> Vec<String> {
        let missing = self.missing();
        let advice = (!missing.is_empty()).then(|| {
            format!(
                "this kernel lacks {}: everything works, and faster on one that has them",
                missing.join(", ")
            )
        });
        let warning = memlock_warning(shards, ring_bytes);
        warning.into_iter().chain(advice).collect()
    }

    /// What only newer kernels have.
    fn missing(&self) -> Vec<&'static str> {
        let expected = [
            (self.setup.submit_all, "submit_all (Linux 5.18)"),
            (self.setup.cooperative, "coop_taskrun (5.19)"),
            (self.setup.deferred, "defer_taskrun (6.1)"),
            (self.setup.no_sqarray, "no_sqarray (6.6)"),
        ];
        let missing = expected.into_iter().filter(|(there, _)| !there);
        missing.map(|(_, name)| name).collect()
    }
}

impl fmt::Display for Features {
    /// Names of what the engine uses, comma separated.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "buffer_ring, multishot_recv, multishot_accept")?;
        for name in self.setup.names() {
            write!(f, ", {name}")?;
        }
        Ok(())
    }
}

/// Sizes of the probe's own ring: room for the few operations of the self-test.
const PROBE_ENTRIES: u32 = 8;
const PROBE_CQ_ENTRIES: u32 = 16;

/// Opcodes by number, name, and the Linux release that brought them (for messages only).
type Opcodes = &'static [(u8, &'static str, &'static str)];

/// What the network engine uses.
const ENGINE_OPCODES: Opcodes = &[
    (opcode::Accept::CODE, "IORING_OP_ACCEPT", "5.5"),
    (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL", "5.5"),
    (opcode::Close::CODE, "IORING_OP_CLOSE", "5.6"),
    (opcode::Connect::CODE, "IORING_OP_CONNECT", "5.5"),
    (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD", "5.1"),
    (opcode::Read::CODE, "IORING_OP_READ", "5.6"),
    (opcode::Recv::CODE, "IORING_OP_RECV", "5.6"),
    (opcode::Send::CODE, "IORING_OP_SEND", "5.6"),
    (opcode::SendMsg::CODE, "IORING_OP_SENDMSG", "5.3"),
    (opcode::Timeout::CODE, "IORING_OP_TIMEOUT", "5.4"),
];

/// What the executor that hosts a shard checks for besides: it exits the process without them.
const EXECUTOR_OPCODES: Opcodes = &[
    (opcode::Nop::CODE, "IORING_OP_NOP", "5.1"),
    (opcode::Readv::CODE, "IORING_OP_READV", "5.1"),
    (opcode::Writev::CODE, "IORING_OP_WRITEV", "5.1"),
    (opcode::Fsync::CODE, "IORING_OP_FSYNC", "5.1"),
    (opcode::ReadFixed::CODE, "IORING_OP_READ_FIXED", "5.1"),
    (opcode::WriteFixed::CODE, "IORING_OP_WRITE_FIXED", "5.1"),
    (opcode::PollRemove::CODE, "IORING_OP_POLL_REMOVE", "5.1"),
    (opcode::RecvMsg::CODE, "IORING_OP_RECVMSG", "5.3"),
    (
        opcode::TimeoutRemove::CODE,
        "IORING_OP_TIMEOUT_REMOVE",
        "5.5",
    ),
    (opcode::LinkTimeout::CODE, "IORING_OP_LINK_TIMEOUT", "5.5"),
    (opcode::Fallocate::CODE, "IORING_OP_FALLOCATE", "5.6"),
    (opcode::OpenAt::CODE, "IORING_OP_OPENAT", "5.6"),
    (opcode::Statx::CODE, "IORING_OP_STATX", "5.6"),
    (opcode::Write::CODE, "IORING_OP_WRITE", "5.6"),
];

#[cfg(test)]
#[path = "../../../tests/support/refuse.rs"]
mod refuse;

#[cfg(test)]
mod tests {
    use super::refuse::refuse_io_uring;
    use super::*;
    use std::process::Command;

    /// Holds the errno that the child refuses io_uring with.
    const CHILD_ERRNO: &str = "RINGCALL_TEST_REFUSE_ERRNO";

    #[test]
    fn io_uring_is_usable_or_the_refusal_says_why() {
        match probe() {
            Ok(features) => {
                let names = features.to_string();
                assert!(names.starts_with("buffer_ring, multishot_recv"), "{names}");
                assert_eq!(names.contains("defer_taskrun"), features.setup.deferred);
                assert_eq!(names.contains("no_sqarray"), features.setup.no_sqarray);
                assert!(!names.contains("send_zc"), "not used: {names}");
            }
            // Where tests run in a container that refuses it, the epoll engine is what is tested.
            Err(refusal) => assert!(refusal.to_string().contains("remedy:"), "{refusal}"),
        }
    }

    #[test]
    fn it_works_twice_and_from_another_thread() {
        let here = probe();
        let there = std::thread::spawn(probe).join().unwrap();
        assert_eq!(here, there);
    }

    #[test]
    fn a_refusing_container_is_recognised() {
        for errno in [libc::EPERM, libc::ENOSYS] {
            // A filter can't be taken off again, so it goes onto a process of its own.
            let child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "platform::uring::probe::tests::child_without_io_uring",
                ])
                .env(CHILD_ERRNO, errno.to_string())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stdout);
            assert!(
                child.status.success() && said.contains("1 passed"),
                "{said}"
            );
        }
    }

    /// Does nothing unless the test above runs it.
    #[test]
    fn child_without_io_uring() {
        let Ok(errno) = std::env::var(CHILD_ERRNO) else {
            return;
        };
        let errno = errno.parse().unwrap();
        refuse_io_uring(errno);
        let refusal = probe().unwrap_err();
        assert_eq!(refusal.step, Step::Setup);
        assert_eq!(refusal.errno, Some(errno));
        let expected = if errno == libc::EPERM {
            "seccomp filter forbids"
        } else {
            "no io_uring"
        };
        assert!(refusal.cause().contains(expected), "{refusal}");
        assert!(refusal.remedy().contains("seccomp"), "{refusal}");
    }
}
