//! What epoll tells: which descriptors are ready.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;

/// What became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// The mailbox's eventfd: a task was woken, or the shard must drain.
    Wakeup,
    /// A listener with connections to accept.
    Listener(u32),
    /// A socket; `life` tells those apart that had the same place.
    Socket { slot: u32, life: u32 },
}

impl Ready {
    fn data(self) -> EventData {
        let (place, number) = match self {
            Self::Wakeup => (WAKEUP, 0),
            Self::Listener(index) => (LISTENER, index),
            Self::Socket { slot, life } => (slot, life),
        };
        EventData::new_u64(u64::from(place) << 32 | u64::from(number))
    }

    fn of(data: EventData) -> Self {
        let data = data.u64();
        let (place, number) = ((data >> 32) as u32, data as u32);
        match place {
            WAKEUP => Self::Wakeup,
            LISTENER => Self::Listener(number),
            slot => Self::Socket { slot, life: number },
        }
    }
}

/// Places that no socket reaches.
const WAKEUP: u32 = u32::MAX;
const LISTENER: u32 = u32::MAX - 1;

/// Events that one call to the kernel brings at most.
const EVENTS_MAX: usize = 256;

/// What a socket tells always. Edges: each change is told once, so what was told is remembered with
/// the socket, and a socket from which nothing is to be read costs no system call.
const ALWAYS: EventFlags = EventFlags::IN
    .union(EventFlags::PRI)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

/// The descriptors of a shard, and what was last told of them.
pub(super) struct Readiness {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Readiness {
    /// # Errors
    /// When the process has no descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            // CLOEXEC: programs that the user starts must not inherit it.
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Has the kernel tell each time the eventfd is written. It need never be read.
    pub(super) fn add_wakeup(&self, eventfd: impl AsFd) -> io::Result<()> {
        let edges = EventFlags::IN | EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            eventfd,
            Ready::Wakeup.data(),
            edges,
        )?)
    }

    /// Has the kernel tell as long as there are connections to accept.
    pub(super) fn add_listener(&self, index: u32, listener: impl AsFd) -> io::Result<()> {
        let data = Ready::Listener(index).data();
        Ok(epoll::add(&self.epoll, listener, data, EventFlags::IN)?)
    }

    /// Has the kernel tell of each connection once, and all shards that share the listener.
    pub(super) fn add_shared_listener(&self, index: u32, listener: impl AsFd) -> io::Result<()> {
        let edges = EventFlags::IN | EventFlags::ET;
        let data = Ready::Listener(index).data();
        Ok(epoll::add(&self.epoll, listener, data, edges)?)
    }

    /// The kernel tells of this listener no more.
    pub(super) fn remove_listener(&self, listener: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, listener)?)
    }

    /// Has the kernel tell when there is something to receive, or the socket has ended or broken,
    /// and, if `and_room`, when there is room for what could not be sent.
    pub(super) fn add_socket(
        &self,
        ready: Ready,
        socket: impl AsFd,
        and_room: bool,
    ) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            socket,
            ready.data(),
            interest(and_room),
        )?)
    }

    /// Changes whether the kernel tells of room. What is so already is told at once.
    pub(super) fn change_socket(
        &self,
        ready: Ready,
        socket: impl AsFd,
        and_room: bool,
    ) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            socket,
            ready.data(),
            interest(and_room),
        )?)
    }

    /// Asks the kernel what became ready, and waits for it up to so many nanoseconds.
    pub(super) fn wait(&mut self, at_most_ns: u64) -> io::Result<()> {
        // Whole milliseconds, rounded up by rustix: the call that is finer is newer than some
        // seccomp profiles.
        let at_most = Timespec {
            tv_sec: (at_most_ns / 1_000_000_000) as i64,
            tv_nsec: (at_most_ns % 1_000_000_000) as i64,
        };
        loop {
            self.events.clear();
            let room = rustix::buffer::spare_capacity(&mut self.events);
            match epoll::wait(&self.epoll, room, Some(&at_most)) {
                // A signal says nothing about sockets. Who waited for them looks at the time, and again.
                Err(Errno::INTR) if at_most_ns == 0 => (),
                Ok(_) | Err(Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Number of events that the last call has brought.
    pub(super) fn count(&self) -> usize {
        self.events.len()
    }

    /// One of them.
    pub(super) fn event(&self, at: usize) -> (Ready, EventFlags) {
        let event = self.events[at];
        // Copied out of a packed structure.
        let (data, flags) = (event.data, event.flags);
        (Ready::of(data), flags)
    }
}

/// Room is not among what is told always: over unix sockets each message that the peer has read makes
/// room, and would wake the shard for nothing.
fn interest(and_room: bool) -> EventFlags {
    if and_room {
        ALWAYS | EventFlags::OUT
    } else {
        ALWAYS
    }
}
