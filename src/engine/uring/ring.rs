//! Our io_uring: starts operations, enters the kernel, hands out completions.
#![allow(
    unsafe_code,
    reason = "submissions carry pointers; here alone it is seen to that what they point to lives long enough"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::net::{SocketFlags, accept_with};

use super::buf_ring::{BufRing, GROUP};
use super::kernel::{Completion, Kernel};
use super::operation::{OpKey, Operation, Operations, Vectors};
use crate::buf::RecvPool;
use crate::client::connecting::refuse_itself;
use crate::client::core::target::Target;
use crate::client::unread::{Unread, look};
use crate::connection::outgoing::Outgoing;
use crate::engine::accept::admit;
use crate::net::options::{StreamOptions, set_stream_options};
use crate::net::transport::Transport;
use crate::platform::uring::refusal::{Refusal, Step};
use crate::platform::uring::ring::{build_ring, ring_bytes};
use crate::shard::ShardCore;
use crate::shard::conn::Conn;
use crate::shard::mailbox::Mailbox;

/// The ring of one shard with everything that the kernel may touch through it.
///
/// Fields are dropped in order: the io_uring first, which ends all operations, then their memory.
pub(super) struct Ring {
    io: IoUring,
    operations: Operations<OwnedFd>,
    buffers: BufRing,
    /// Completions taken off the ring in this turn: `user_data`, result, flags.
    batch: Vec<(u64, i32, u32)>,
    spare_time: Option<Box<Timespec>>,
    spare_vectors: KeptVectors,
    /// Written by whoever wakes the shard from a nap.
    nap_eventfd: Rc<OwnedFd>,
    /// Whether it is being read.
    awaits_wakeup: bool,
    /// Whether the kernel announces pending work in shared memory; else each look is a call.
    announces_work: bool,
}

/// Boxes, because the kernel is given pointers to what is in them.
type KeptVectors = Vec<Box<Vectors>>;

/// Descriptions of messages of several parts that are kept for the next: a KiB each at most.
const SPARE_VECTORS_MAX: usize = 64;

/// Submissions of one turn; when more are started the kernel is entered in between.
pub(super) const SUBMISSIONS: u32 = 1024;
/// Completions that fit before the kernel keeps them aside: multishots make many per submission.
pub(super) const COMPLETIONS: u32 = 16 * SUBMISSIONS;

/// Memory that a shard's ring locks where the kernel counts it.
pub(crate) fn locked_bytes() -> u64 {
    ring_bytes(SUBMISSIONS, COMPLETIONS)
}

impl Ring {
    /// Builds the ring on the shard's thread, which alone may use it, and gives it the buffers.
    pub(super) fn new(pool: Rc<RecvPool>, mailbox: &Mailbox) -> io::Result<Self> {
        // It is a memory limit, as a rule, that a small ring of the probe did not reach.
        let refused = |error: io::Error| {
            io::Error::new(
                error.kind(),
                Refusal::from_io(Step::Setup, &error).to_string(),
            )
        };
        let (io, flags) = build_ring(SUBMISSIONS, COMPLETIONS).map_err(refused)?;
        let buffers = BufRing::register(&io, pool).map_err(refused)?;
        io.submitter()
            .register_eventfd(mailbox.eventfd().as_raw_fd())?;
        let nap_eventfd = Rc::new(mailbox.nap_eventfd()?.try_clone_to_owned()?);
        let mut this = Self {
            io,
            operations: Operations::default(),
            buffers,
            batch: Vec::with_capacity(SUBMISSIONS as usize),
            spare_time: None,
            spare_vectors: Vec::new(),
            nap_eventfd,
            awaits_wakeup: false,
            announces_work: flags.cooperative,
        };
        this.wake_by_eventfd(false);
        Ok(this)
    }

    /// Whether completions are announced by the eventfd: only while the shard sleeps.
    pub(super) fn wake_by_eventfd(&mut self, enabled: bool) {
        let completions = self.io.completion();
        if enabled {
            completions.enable_eventfd();
        } else {
            completions.disable_eventfd();
        }
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the entry's pointers lead to memory on the heap that the operation owns
            // (see `describe`), and the operation stays in `operations` until its last
            // completion; its descriptor is kept open with it.
            let pushed = unsafe { self.io.submission().push(entry) };
            match pushed {
                Ok(()) => return Ok(()),
                Err(squeue::PushError { .. }) => self.enter()?,
            }
        }
    }

    /// Sees to it that a wake-up by another thread ends [`Ring::wait`].
    pub(super) fn await_wakeup(&mut self) -> io::Result<()> {
        if !self.awaits_wakeup {
            let fd = Rc::clone(&self.nap_eventfd);
            self.start(
                &fd,
                Operation::Wakeup {
                    count: Box::default(),
                },
            )?;
            self.awaits_wakeup = true;
        }
        Ok(())
    }

    /// Submits what was started and sleeps until something completes, for so many nanoseconds at most.
    pub(super) fn wait(&mut self, at_most_ns: u64) -> io::Result<()> {
        let time = timespec(at_most_ns);
        let arguments = SubmitArgs::new().timespec(&time);
        match self.io.submitter().submit_with_args(1, &arguments) {
            Ok(_) => Ok(()),
            Err(error) => self.after_failed_enter(error),
        }
    }

    #[cold]
    fn after_failed_enter(&mut self, error: io::Error) -> io::Result<()> {
        match EnterFailure::of(&error) {
            // What was not submitted stays in the queue for the next time.
            EnterFailure::TryAgain => Ok(()),
            EnterFailure::ReapFirst => {
                self.fetch();
                Ok(())
            }
            EnterFailure::CompletionLost => {
                // An operation would never end and its memory never be safe to free.
                tracing::error!("the kernel lost a completion (EBADR): aborting");
                std::process::abort();
            }
            EnterFailure::Fatal => Err(error),
        }
    }
}

impl Kernel for Ring {
    type Socket = OwnedFd;

    #[inline]
    fn publish_buffers(&mut self, is_short: bool) {
        self.buffers.publish(is_short);
    }

    fn has_buffers(&self) -> bool {
        self.buffers.has_some()
    }

    fn ran_out_of_buffers(&mut self) -> bool {
        self.buffers.ran_out()
    }

    #[inline]
    fn start(&mut self, socket: &Rc<OwnedFd>, operation: Operation) -> io::Result<OpKey> {
        let key = self.operations.insert(operation, Some(Rc::clone(socket)));
        let entry = describe(self.operations.get(key), Fd(socket.as_raw_fd()));
        self.push(&entry.user_data(key.0))?;
        Ok(key)
    }

    #[inline]
    fn send_of(&mut self, slot: u32, message: Outgoing) -> Operation {
        let is_whole = message.part_count() == 1;
        let vectors = (!is_whole).then(|| self.spare_vectors.pop().unwrap_or_else(no_vectors));
        Operation::Send {
            socket: slot,
            message,
            vectors,
        }
    }

    #[inline]
    fn put_vectors(&mut self, vectors: Option<Box<Vectors>>) {
        if let Some(vectors) = vectors
            && self.spare_vectors.len() < SPARE_VECTORS_MAX
        {
            self.spare_vectors.push(vectors);
        }
    }

    fn start_timeout(&mut self, after_ns: u64, due_ns: u64) -> io::Result<OpKey> {
        let mut time = self.spare_time.take().unwrap_or_default();
        *time = timespec(after_ns);
        // On the heap, where it stays wherever the box moves.
        let address = &raw const *time;
        let timeout = Operation::Timeout { time, due_ns };
        let key = self.operations.insert(timeout, None);
        self.push(&opcode::Timeout::new(address).build().user_data(key.0))?;
        Ok(key)
    }

    fn put_time(&mut self, time: Box<Timespec>) {
        self.spare_time = Some(time);
    }

    fn cancel(&mut self, victim: OpKey) -> io::Result<()> {
        let key = self.operations.insert(Operation::Cancel, None);
        self.push(&opcode::AsyncCancel::new(victim.0).build().user_data(key.0))
    }

    #[inline]
    fn has_pending(&mut self) -> bool {
        let submissions = self.io.submission();
        !submissions.is_empty() || submissions.taskrun() || submissions.cq_overflow()
    }

    #[inline]
    fn announces_work(&self) -> bool {
        self.announces_work
    }

    #[inline]
    fn enter(&mut self) -> io::Result<()> {
        loop {
            match self.io.submit() {
                Ok(_) => return Ok(()),
                // A signal says nothing about what has completed.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return self.after_failed_enter(error),
            }
        }
    }

    fn was_woken(&mut self) {
        self.awaits_wakeup = false;
    }

    #[inline]
    fn fetch(&mut self) {
        let batch = &mut self.batch;
        batch.extend(
            self.io
                .completion()
                .map(|it| (it.user_data(), it.result(), it.flags())),
        );
    }

    #[inline]
    fn fetched(&self) -> usize {
        self.batch.len()
    }

    #[inline]
    fn has_completions(&mut self) -> bool {
        !self.batch.is_empty() || !self.io.completion().is_empty()
    }

    #[inline]
    fn drop_handled(&mut self, handled: usize) {
        self.batch.drain(..handled);
    }

    #[inline(always)]
    fn completion(&mut self, at: usize) -> Completion {
        let (user_data, result, flags) = self.batch[at];
        let key = OpKey(user_data);
        let is_last = !cqueue::more(flags);
        let operation = if is_last {
            self.operations.remove(key)
        } else {
            self.operations.get(key).continued()
        };
        let result = match result {
            0.. => Ok(result as u32),
            _ => Err(io::Error::from_raw_os_error(-result)),
        };
        Completion {
            operation,
            result,
            buffer: cqueue::buffer_select(flags).map(|buffer| self.buffers.given_back(buffer)),
            is_last,
        }
    }

    fn open(&mut self, target: &Target, options: &StreamOptions) -> io::Result<OwnedFd> {
        let socket = socket2::Socket::new(target.address.domain(), socket2::Type::STREAM, None)?;
        set_stream_options(&socket, target.transport, &options.of_client())?;
        Ok(socket.into())
    }

    fn accepted(&mut self, result: u32) -> OwnedFd {
        owned(result)
    }

    fn accept_now(&mut self, listener: &OwnedFd) -> io::Result<OwnedFd> {
        Ok(accept_with(listener, SocketFlags::CLOEXEC)?)
    }

    fn admit(
        &self,
        shard: &Rc<ShardCore>,
        options: &StreamOptions,
        transport: Transport,
        socket: &OwnedFd,
    ) -> Option<Rc<Conn>> {
        admit(shard, options, transport, socket)
    }

    fn refuse_itself(&self, socket: &OwnedFd) -> io::Result<()> {
        refuse_itself(socket)
    }

    fn look(&self, socket: &OwnedFd) -> Unread {
        look(socket)
    }

    fn take_error(&self, socket: &OwnedFd) -> Option<io::Error> {
        socket2::SockRef::from(socket).take_error().ok().flatten()
    }

    fn shut_down_writing(&self, socket: &OwnedFd) {
        // It fails when the peer has gone already, which the receive will say too.
        if let Err(error) = rustix::net::shutdown(socket, rustix::net::Shutdown::Write) {
            tracing::trace!(%error, "shutdown of a connection that is gone");
        }
    }
}

impl Drop for Ring {
    /// Ends every operation and waits for its last completion: closing the ring alone would end
    /// them at some later time, when their memory is gone.
    fn drop(&mut self) {
        for key in self.operations.keys() {
            if let Err(error) = self.cancel(key) {
                tracing::error!(%error, "operations can't be ended: aborting");
                std::process::abort();
            }
        }
        while self.operations.len() > 0 {
            if let Err(error) = self.io.submit_and_wait(1)
                && EnterFailure::of(&error) == EnterFailure::Fatal
            {
                tracing::error!(%error, "operations can't be awaited: aborting");
                std::process::abort();
            }
            self.fetch();
            let count = self.fetched();
            for at in 0..count {
                let completion = self.completion(at);
                // A connection that was accepted at the last moment is closed.
                if let (Operation::Accept { .. }, Ok(fd)) =
                    (&completion.operation, completion.result)
                {
                    drop(owned(fd));
                }
            }
            self.drop_handled(count);
        }
    }
}

/// The connection that an accept has completed with.
fn owned(fd: u32) -> OwnedFd {
    // SAFETY: the number is the result of an accept, a descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn timespec(ns: u64) -> Timespec {
    Timespec::new()
        .sec(ns / 1_000_000_000)
        .nsec((ns % 1_000_000_000) as u32)
}

/// Describes an operation to the kernel. Every pointer leads to heap memory that the operation
/// owns: a boxed address, count or time, the buffer of a body, the parts of a message and their vectors.
/// None of it moves when the operation's slot does.
fn describe(operation: &mut Operation, fd: Fd) -> squeue::Entry {
    match operation {
        // CLOEXEC: programs that the user starts must not inherit connections.
        Operation::Accept { .. } => opcode::AcceptMulti::new(fd)
            .flags(libc::SOCK_CLOEXEC)
            .build(),
        Operation::Poll { .. } => opcode::PollAdd::new(fd, libc::POLLIN as u32)
            .multi(true)
            .build(),
        Operation::Receive {
            is_multishot: true, ..
        } => opcode::RecvMulti::new(fd, GROUP).build(),
        // Length 0: as much as the buffer that the kernel takes from the group.
        Operation::Receive {
            is_multishot: false,
            ..
        } => opcode::Recv::new(fd, std::ptr::null_mut(), 0)
            .buf_group(GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT),
        Operation::ReceiveDirect { body, .. } => {
            let memory = body.unfilled();
            opcode::Recv::new(fd, memory.as_mut_ptr(), clamped(memory.len())).build()
        }
        // No event is asked for: an error and the end of both directions are always told.
        Operation::Watch { .. } => opcode::PollAdd::new(fd, 0).build(),
        Operation::Send {
            message, vectors, ..
        } => describe_send(message, vectors, fd),
        Operation::Connect { address, .. } => {
            opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
        }
        Operation::Wakeup { count } => {
            opcode::Read::new(fd, count.as_mut_ptr(), count.len() as u32).build()
        }
        Operation::Timeout { .. } | Operation::Cancel => {
            unreachable!("these have no descriptor and are described where they are started")
        }
    }
}

/// NOSIGNAL: a closed peer is an error, not a SIGPIPE. No WAITALL, with which the kernel goes on
/// after a short send by itself: a peer that reads a large message slowly would look like one that
/// does not read at all, until its end.
const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL;

fn no_vectors() -> Box<Vectors> {
    Box::new(Vectors {
        // SAFETY: all zeros is a valid `msghdr`: null pointers with length zero.
        header: unsafe { std::mem::zeroed() },
        slices: Vec::new(),
    })
}

fn describe_send(message: &Outgoing, vectors: &mut Option<Box<Vectors>>, fd: Fd) -> squeue::Entry {
    if message.part_count() == 1 {
        let bytes = message.unsent().next().unwrap_or_default();
        return opcode::Send::new(fd, bytes.as_ptr(), clamped(bytes.len()))
            .flags(SEND_FLAGS)
            .build();
    }
    let vectors = vectors.get_or_insert_with(no_vectors);
    vectors.slices.clear();
    vectors
        .slices
        .extend(message.unsent().map(|bytes| libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        }));
    vectors.header.msg_iov = vectors.slices.as_mut_ptr();
    vectors.header.msg_iovlen = vectors.slices.len() as _;
    opcode::SendMsg::new(fd, &raw const vectors.header)
        .flags(SEND_FLAGS as u32)
        .build()
}

/// Lengths of one operation stay below 1 GiB; what is left is sent or received by the next.
fn clamped(bytes: usize) -> u32 {
    bytes.min(1 << 30) as u32
}

/// What to do when `io_uring_enter` fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnterFailure {
    /// A signal came, or memory was short for a moment.
    TryAgain,
    /// The completion queue is full: completions first.
    ReapFirst,
    /// The kernel could not keep a completion.
    CompletionLost,
    /// The ring can't be used any more.
    Fatal,
}

impl EnterFailure {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EINTR | libc::EAGAIN | libc::ENOMEM | libc::ETIME) => Self::TryAgain,
            Some(libc::EBUSY) => Self::ReapFirst,
            Some(libc::EBADR) => Self::CompletionLost,
            _ => Self::Fatal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_entering_are_told_apart() {
        let of = |errno| EnterFailure::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(libc::EINTR), EnterFailure::TryAgain);
        assert_eq!(of(libc::EBUSY), EnterFailure::ReapFirst);
        assert_eq!(of(libc::EBADR), EnterFailure::CompletionLost);
        assert_eq!(of(libc::EBADF), EnterFailure::Fatal);
    }
}
