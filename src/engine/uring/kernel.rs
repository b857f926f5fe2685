//! What the engine asks of the system.

use std::io;
use std::rc::Rc;

use super::operation::{OpKey, Operation, Vectors};
use crate::buf::TakenBuffer;
use crate::client::core::target::Target;
use crate::client::unread::Unread;
use crate::connection::outgoing::Outgoing;
use crate::net::options::StreamOptions;
use crate::net::transport::Transport;
use crate::shard::ShardCore;
use crate::shard::conn::Conn;
use io_uring::types::Timespec;

/// A completion. `operation` is the whole operation at its last one, and a copy of what it is for
/// at earlier ones of a multishot.
#[derive(Debug)]
pub(in crate::engine) struct Completion {
    pub(in crate::engine) operation: Operation,
    /// What the system call would have returned, or the error.
    pub(in crate::engine) result: io::Result<u32>,
    /// The receive buffer that the kernel has filled, and so given back.
    pub(in crate::engine) buffer: Option<TakenBuffer>,
    /// Whether the operation has ended.
    pub(in crate::engine) is_last: bool,
}

/// A ring of operations, and what is asked of sockets at once. The one is io_uring; the other is the
/// simulation's, in which whatever may go wrong does.
pub(in crate::engine) trait Kernel {
    /// A socket of this system; closed when it is dropped.
    type Socket;

    /// Starts an operation, which owns its memory and keeps the socket open until its last completion.
    fn start(&mut self, socket: &Rc<Self::Socket>, operation: Operation) -> io::Result<OpKey>;

    /// A send of what a connection has queued.
    fn send_of(&mut self, slot: u32, message: Outgoing) -> Operation;

    /// Takes the memory back that described the parts of a message.
    fn put_vectors(&mut self, vectors: Option<Box<Vectors>>);

    /// Wakes the shard after this time, in nanoseconds, which will be at `due_ns`.
    fn start_timeout(&mut self, after_ns: u64, due_ns: u64) -> io::Result<OpKey>;

    /// Takes the memory of a timeout that has ended, for the next one.
    fn put_time(&mut self, time: Box<Timespec>);

    /// Asks for the end of an operation. Its last completion comes all the same.
    fn cancel(&mut self, victim: OpKey) -> io::Result<()>;

    /// Whether there is something to submit, or work to finish that the kernel has announced.
    fn has_pending(&mut self) -> bool;

    /// Whether the kernel announces work by itself. If not, it is only seen by entering.
    fn announces_work(&self) -> bool;

    /// Submits what was started and lets the kernel finish what is ready, without waiting.
    fn enter(&mut self) -> io::Result<()>;

    /// Takes all completions that are there off the ring; [`Kernel::completion`] hands them out.
    fn fetch(&mut self);

    /// Number of completions that were fetched.
    fn fetched(&self) -> usize;

    /// One of the completions that were fetched.
    fn completion(&mut self, at: usize) -> Completion;

    /// Ends a turn's batch once all of it was handled, or keeps what was fetched meanwhile.
    fn drop_handled(&mut self, handled: usize);

    /// Whether completions wait, on the ring or fetched already.
    fn has_completions(&mut self) -> bool;

    /// Takes note that a shard that napped was woken by another thread.
    fn was_woken(&mut self);

    /// Gives free receive buffers to the kernel; few and short ones while memory is short.
    fn publish_buffers(&mut self, is_short: bool);

    /// Whether the kernel has receive buffers, of which it may have filled some.
    fn has_buffers(&self) -> bool;

    /// Tells that a receive found no buffer. Says whether there was indeed none left.
    fn ran_out_of_buffers(&mut self) -> bool;

    /// A socket that is not connected yet.
    fn open(&mut self, target: &Target, options: &StreamOptions) -> io::Result<Self::Socket>;

    /// The connection that an accept has completed with.
    fn accepted(&mut self, result: u32) -> Self::Socket;

    /// Accepts a connection of a listener that other shards share.
    fn accept_now(&mut self, listener: &Self::Socket) -> io::Result<Self::Socket>;

    /// Enters a fresh socket as a connection, unless there are too many.
    fn admit(
        &self,
        shard: &Rc<ShardCore>,
        options: &StreamOptions,
        transport: Transport,
        socket: &Self::Socket,
    ) -> Option<Rc<Conn>>;

    /// Refuses a socket that is connected to itself.
    fn refuse_itself(&self, socket: &Self::Socket) -> io::Result<()>;

    /// What the next receive would find.
    fn look(&self, socket: &Self::Socket) -> Unread;

    /// Why a socket has broken.
    fn take_error(&self, socket: &Self::Socket) -> Option<io::Error>;

    /// Closes the sending side.
    fn shut_down_writing(&self, socket: &Self::Socket);
}
