//! Trying out on sockets what no list of opcodes shows: provided buffers and multishot operations.
#![allow(
    unsafe_code,
    reason = "the kernel writes into the provided buffers and hands out raw descriptors"
)]

use super::refusal::{Refusal, Step};
use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::net::{
    AddressFamily, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    getsockname, listen, send, shutdown, socket_with, socketpair,
};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Receives two messages and the end of the stream by one multishot receive into provided buffers.
pub(super) fn multishot_recv(ring: &mut IoUring) -> Result<(), Refusal> {
    let test = Test {
        name: "multishot recv into provided buffers",
        since: "6.0",
    };
    let buffers = Buffers::register(ring)?;
    let (near, far) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| test.io(&error.into()))?;
    let receive = opcode::RecvMulti::new(Fd(near.as_raw_fd()), BUFFER_GROUP).build();
    test.submit(ring, &receive)?;

    let mut used = Vec::new();
    for message in [b"first", b"other"] {
        send(&far, message, SendFlags::NOSIGNAL).map_err(|error| test.io(&error.into()))?;
        let completion = test.wait(ring)?;
        let length = test.result(&completion)?;
        let buffer = cqueue::buffer_select(completion.flags());
        let Some(buffer) = buffer.filter(|id| *id < BUFFERS && !used.contains(id)) else {
            return Err(test.saw(format!(
                "data in buffer {buffer:?}, {used:?} were used before"
            )));
        };
        used.push(buffer);
        if buffers.content(buffer).get(..length) != Some(message) {
            return Err(test.saw(format!("{length} bytes that were not sent")));
        }
        if !cqueue::more(completion.flags()) {
            return Err(test.saw("it ended after one completion".into()));
        }
    }

    shutdown(&far, Shutdown::Write).map_err(|error| test.io(&error.into()))?;
    let completion = test.wait(ring)?;
    if test.result(&completion)? != 0 || cqueue::more(completion.flags()) {
        return Err(test.saw("no end at the end of the stream".into()));
    }
    buffers.unregister(ring, &test)
}

/// Accepts two connections by one multishot accept, and cancels it.
pub(super) fn multishot_accept(ring: &mut IoUring) -> Result<(), Refusal> {
    let test = Test {
        name: "multishot accept",
        since: "5.19",
    };
    let socket = || {
        socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
    };
    let listening = || -> rustix::io::Result<_> {
        let listener = socket()?;
        // An unnamed address makes the kernel choose a free abstract one: no file to clean up.
        bind(&listener, &SocketAddrUnix::new_unnamed())?;
        listen(&listener, 2)?;
        Ok((getsockname(&listener)?, listener))
    };
    let (address, listener) = listening().map_err(|error| test.io(&error.into()))?;
    let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
        .flags(libc::SOCK_CLOEXEC)
        .build()
        .user_data(ACCEPT);
    test.submit(ring, &accept)?;

    for _ in 0..2 {
        let client = socket().map_err(|error| test.io(&error.into()))?;
        connect(&client, &address).map_err(|error| test.io(&error.into()))?;
        let completion = test.wait(ring)?;
        let accepted = test.result(&completion)?;
        // SAFETY: a successful accept hands over a new descriptor, which nothing else owns.
        drop(unsafe { OwnedFd::from_raw_fd(accepted as i32) });
        if !cqueue::more(completion.flags()) {
            return Err(test.saw("it ended after one completion".into()));
        }
    }

    let cancel = opcode::AsyncCancel::new(ACCEPT).build().user_data(CANCEL);
    test.submit(ring, &cancel)?;
    // The cancellation and the end of what it cancels come in either order.
    for _ in 0..2 {
        let completion = test.wait(ring)?;
        let expected = if completion.user_data() == CANCEL {
            0
        } else {
            -libc::ECANCELED
        };
        if completion.result() != expected || cqueue::more(completion.flags()) {
            return Err(test.saw(format!(
                "a cancellation that answers {} instead of {expected}",
                completion.result()
            )));
        }
    }
    Ok(())
}

/// The name of what is tried out, and the ways in which it fails.
struct Test {
    name: &'static str,
    since: &'static str,
}

impl Test {
    fn submit(&self, ring: &mut IoUring, entry: &squeue::Entry) -> Result<(), Refusal> {
        // SAFETY: the entries made here point to nothing but descriptors and registered buffers;
        // `Buffers` says how long those live.
        unsafe { ring.submission().push(entry) }
            .map_err(|_| self.saw("the submission queue is full".into()))?;
        ring.submit().map_err(|error| self.io(&error))?;
        Ok(())
    }

    /// The next completion, waited for at most [`WAIT`] (so that a broken kernel can't hang us).
    fn wait(&self, ring: &mut IoUring) -> Result<cqueue::Entry, Refusal> {
        for _ in 0..INTERRUPTIONS_MAX {
            if let Some(completion) = ring.completion().next() {
                return Ok(completion);
            }
            let arguments = SubmitArgs::new().timespec(&WAIT);
            match ring.submitter().submit_with_args(1, &arguments) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => break,
                Err(error) => return Err(self.io(&error)),
            }
        }
        ring.completion()
            .next()
            .ok_or_else(|| self.saw("no completion came".into()))
    }

    fn result(&self, completion: &cqueue::Entry) -> Result<usize, Refusal> {
        usize::try_from(completion.result())
            .map_err(|_| self.io(&io::Error::from_raw_os_error(-completion.result())))
    }

    fn saw(&self, seen: String) -> Refusal {
        Refusal::new(self.step(seen))
    }

    fn io(&self, error: &io::Error) -> Refusal {
        Refusal::from_io(self.step(String::new()), error)
    }

    fn step(&self, seen: String) -> Step {
        Step::SelfTest {
            name: self.name,
            since: self.since,
            seen,
        }
    }
}

/// A registered buffer ring in our own memory, followed by its buffers.
///
/// The memory belongs to the kernel until [`Buffers::unregister`], which frees it. A test that
/// fails before that leaks it (64 KiB, once at start): its receive may still be in flight, and
/// closing the ring ends it at some later time.
struct Buffers {
    memory: NonNull<u8>,
}

impl Buffers {
    fn register(ring: &IoUring) -> Result<Self, Refusal> {
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc_zeroed(BUFFERS_LAYOUT) };
        let memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(BUFFERS_LAYOUT));
        let buffers = Self { memory };
        for buffer in 0..BUFFERS {
            // SAFETY: entry `buffer` lies inside the allocation, is aligned (the ring starts at a
            // page) and zeroed, which is a valid entry; the kernel does not see it yet.
            let entry = unsafe { &mut *buffers.entries().add(usize::from(buffer)) };
            entry.set_addr(buffers.address(buffer) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        // SAFETY: the address is that of entry 0 of a zeroed ring, as `tail` asks for; the tail is
        // an aligned u16 in it, and only ever accessed as an atomic once the kernel reads it.
        let tail = unsafe { &*BufRingEntry::tail(buffers.entries()).cast::<AtomicU16>() };
        // SAFETY: the memory is page-aligned, holds `BUFFERS` entries, and outlives the
        // registration: it is freed by `unregister` or never.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                memory.as_ptr() as u64,
                BUFFERS,
                BUFFER_GROUP,
                0,
            )
        }
        .map_err(|error| {
            let test = Test {
                name: "registering a ring of provided buffers",
                since: "5.19",
            };
            test.io(&error)
        })?;
        tail.store(BUFFERS, Ordering::Release);
        Ok(buffers)
    }

    fn entries(&self) -> *mut BufRingEntry {
        self.memory.as_ptr().cast()
    }

    fn address(&self, buffer: u16) -> *mut u8 {
        assert!(buffer < BUFFERS);
        // SAFETY: `BUFFERS_LAYOUT` has room for all buffers behind the entries.
        unsafe {
            self.memory
                .as_ptr()
                .add(BUFFERS_AT + usize::from(buffer) * BUFFER_BYTES)
        }
    }

    /// What a buffer holds that the kernel has given back with a completion.
    fn content(&self, buffer: u16) -> &[u8] {
        // SAFETY: inside the allocation, initialised, and no longer written: the kernel gave the
        // buffer back, and it is published only once.
        unsafe { std::slice::from_raw_parts(self.address(buffer), BUFFER_BYTES) }
    }

    /// Takes the memory back from the kernel, when no receive is in flight any more.
    fn unregister(self, ring: &IoUring, test: &Test) -> Result<(), Refusal> {
        ring.submitter()
            .unregister_buf_ring(BUFFER_GROUP)
            .map_err(|error| test.io(&error))?;
        // SAFETY: allocated with this layout; the receive has ended and the ring of buffers is
        // unregistered, so the kernel knows the memory no more, and `self` is consumed.
        unsafe { std::alloc::dealloc(self.memory.as_ptr(), BUFFERS_LAYOUT) };
        Ok(())
    }
}

/// Provided buffers: more than are used, and a power of two, as the kernel asks for.
const BUFFERS: u16 = 4;
const BUFFER_BYTES: usize = 64;
/// Any number: the ring is a private one.
const BUFFER_GROUP: u16 = 7;
/// The buffers begin behind the ring's entries.
const BUFFERS_AT: usize = BUFFERS as usize * size_of::<BufRingEntry>();
/// The ring must start at a page; 64 KiB is the largest page of any common machine. The size is as
/// large, so that the page which the kernel pins is ours alone.
const BUFFERS_LAYOUT: Layout = match Layout::from_size_align(1 << 16, 1 << 16) {
    Ok(layout) => layout,
    Err(_) => panic!("size and alignment are powers of two"),
};
const _: () = assert!(BUFFERS_AT + BUFFERS as usize * BUFFER_BYTES <= BUFFERS_LAYOUT.size());

/// Marks of the accept and of its cancellation.
const ACCEPT: u64 = 1;
const CANCEL: u64 = 2;
/// Time for a completion that needs microseconds; generous, because it is spent only on failure.
const WAIT: Timespec = Timespec::new().sec(2);
/// Signals that may interrupt one wait before it counts as failed.
const INTERRUPTIONS_MAX: u32 = 100;
