//! One ring: set up with the fastest flags that the kernel accepts, then turned.
#![allow(
    unsafe_code,
    reason = "submission entries name memory that the kernel uses later"
)]

use std::io;
use std::mem::MaybeUninit;
use std::time::Instant;

use io_uring::{Builder, IoUring, cqueue, squeue};

use ringcall::Idle;

/// An io_uring of one thread.
pub struct Ring {
    io: IoUring,
    setup: &'static SetupFlags,
}

/// Completions of one turn, copied out of the ring so that handling them may submit.
pub struct Completions(Box<[MaybeUninit<cqueue::Entry>]>);

impl Completions {
    /// Room for as many as the ring can hold.
    pub fn new() -> Self {
        Self(Box::new_uninit_slice(CQ_ENTRIES as usize))
    }
}

impl Default for Completions {
    fn default() -> Self {
        Self::new()
    }
}

impl Ring {
    /// Tries the rungs of the ladder from the best to the plainest.
    pub fn new() -> io::Result<Self> {
        let mut refused = io::Error::other("no set of flags was tried");
        for setup in &LADDER {
            let mut builder = IoUring::builder();
            builder.setup_cqsize(CQ_ENTRIES);
            (setup.choose)(&mut builder);
            match builder.build(SQ_ENTRIES) {
                Ok(io) => return Ok(Self { io, setup }),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The flags in use, for the report.
    pub fn flags(&self) -> &'static str {
        self.setup.name
    }

    pub(super) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.io.submitter()
    }

    /// Queues an operation for the next turn.
    ///
    /// # Safety
    /// The memory that `entry` names must stay valid, and unchanged where the kernel reads it,
    /// until the operation's last completion has been drained.
    #[inline]
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: what the caller promises is what `push` asks for.
        if unsafe { self.io.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.enter(0)?;
        // SAFETY: as above.
        unsafe { self.io.submission().push(entry) }
            .map_err(|_| io::Error::other("the kernel takes no submissions"))
    }

    /// Submits what is queued and waits for completions as `idle` says. With `Idle::Spin` it also
    /// returns when there is none.
    #[inline]
    pub fn turn(&mut self, idle: Idle) -> io::Result<()> {
        let until = match idle {
            Idle::Park => return self.enter(1),
            Idle::Spin => return self.look(),
            Idle::SpinThenPark(time) => Instant::now() + time,
            other => panic!("no server of the benches is idle like {other:?}"),
        };
        loop {
            self.look()?;
            if !self.io.completion().is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                return self.enter(1);
            }
        }
    }

    /// Takes all completions out of the ring.
    #[inline]
    pub fn drain<'a>(&mut self, into: &'a mut Completions) -> &'a [cqueue::Entry] {
        self.io.completion().fill(&mut into.0)
    }

    /// Submits and collects without sleeping, and without a system call when there is nothing to
    /// submit and the kernel has flagged no work.
    #[inline]
    fn look(&mut self) -> io::Result<()> {
        let queue = self.io.submission();
        let quiet =
            self.setup.flags_work && queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
        drop(queue);
        if quiet {
            std::hint::spin_loop();
            return Ok(());
        }
        self.enter(0)
    }

    fn enter(&mut self, completions_min: usize) -> io::Result<()> {
        match self.io.submit_and_wait(completions_min) {
            Ok(_) => Ok(()),
            // EINTR: a signal came; EBUSY: completions must be drained before more is submitted.
            // The caller drains and comes back in both cases.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A set of setup flags.
struct SetupFlags {
    name: &'static str,
    /// Whether the kernel says in shared memory that it has work to run for us.
    flags_work: bool,
    choose: fn(&mut Builder),
}

/// From the best to the plainest; a kernel answers EINVAL to flags that it doesn't know.
static LADDER: [SetupFlags; 3] = [
    SetupFlags {
        name: "SINGLE_ISSUER|DEFER_TASKRUN|COOP_TASKRUN|TASKRUN_FLAG",
        flags_work: true,
        choose: |builder| {
            builder
                // SINGLE_ISSUER: one thread submits, so the kernel needs no lock for it.
                .setup_single_issuer()
                // DEFER_TASKRUN: completion work waits until we enter for it, in one batch.
                .setup_defer_taskrun()
                // COOP_TASKRUN: no interrupt to make this thread run completion work.
                .setup_coop_taskrun()
                // TASKRUN_FLAG: pending work is flagged in memory, so spinning needs no call.
                .setup_taskrun_flag();
        },
    },
    SetupFlags {
        name: "COOP_TASKRUN|TASKRUN_FLAG",
        flags_work: true,
        choose: |builder| {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        },
    },
    SetupFlags {
        name: "none",
        flags_work: false,
        choose: |_| {},
    },
];

/// Submissions between two turns; a full queue is submitted early. Small, so that it stays in the
/// first-level cache.
const SQ_ENTRIES: u32 = 256;
/// Completions between two turns: two for each connection of the largest cell.
const CQ_ENTRIES: u32 = 2048;

const _: () = assert!(CQ_ENTRIES as usize >= 2 * crate::cell::CONNECTIONS_MAX);
