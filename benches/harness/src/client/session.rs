//! The client's loop: drain completions, answer each with the next request, send once per
//! connection.
#![allow(
    unsafe_code,
    reason = "sends name the batches of their connection, which outlive them"
)]

use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{cqueue, opcode};
use ringcall::Idle;
use socket2::Socket;

use super::calls::Calls;
use super::frames::FrameReader;
use super::recorder::Recorder;
use super::{Io, Outcome, Plan, ReadUsage};
use crate::cell::Cell;
use crate::uring::buffers::GROUP;

/// All connections of one run. Dropping it closes them and waits for the kernel to let go of
/// their memory.
pub(super) struct Session<'a> {
    io: &'a mut Io,
    cell: Cell,
    /// Length of each answer, header and padding included.
    answer_bytes: usize,
    connections: Vec<Connection>,
    /// Connections with requests to send, each once.
    ready: Vec<usize>,
    /// Connections whose receive ended because no buffer was left.
    starved: Vec<usize>,
    /// Operations that will still complete.
    in_flight: usize,
    clock: Instant,
    recorder: Recorder,
    /// Calls answered since the session began.
    answered: u64,
    /// `answered` as it was at the last progress, and when that was.
    progress: (u64, u64),
}

struct Connection {
    socket: Socket,
    reader: FrameReader,
    calls: Calls,
    sending: bool,
    is_ready: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(io: &'a mut Io, cell: Cell, answer_bytes: usize) -> Self {
        Self {
            io,
            cell,
            answer_bytes,
            connections: Vec::with_capacity(cell.connections),
            ready: Vec::with_capacity(cell.connections),
            starved: Vec::new(),
            in_flight: 0,
            clock: Instant::now(),
            recorder: Recorder::new(),
            answered: 0,
            progress: (0, 0),
        }
    }

    /// Adds a connection that has shaken hands, with one request for each call in flight.
    pub(super) fn add(&mut self, socket: Socket, requests: &[Vec<u8>]) -> io::Result<()> {
        let index = self.connections.len();
        self.connections.push(Connection {
            socket,
            reader: FrameReader::new(self.answer_bytes),
            calls: Calls::new(requests),
            sending: false,
            is_ready: true,
        });
        self.ready.push(index);
        self.receive(index)
    }

    /// Warms up, measures, and says what was measured.
    pub(super) fn drive(mut self, plan: &Plan, usage: ReadUsage<'_>) -> io::Result<Outcome> {
        let now_ns = self.now_ns();
        for connection in &mut self.connections {
            connection.calls.start(now_ns);
        }
        self.beat()?;
        self.drive_until(now_ns + plan.warm_up.as_nanos() as u64)?;

        let before = usage()?;
        self.recorder.reset();
        let answered_before = self.answered;
        let start_ns = self.now_ns();
        let end_ns = self.drive_until(start_ns + plan.measured.as_nanos() as u64)?;
        let elapsed = Duration::from_nanos(end_ns - start_ns);
        let load = usage()?.since(&before, elapsed);

        let recorder = std::mem::replace(&mut self.recorder, Recorder::new());
        Ok(Outcome {
            calls: self.answered - answered_before,
            elapsed,
            latency_ns: recorder.finish(),
            load,
        })
    }

    /// The loop. Returns the time of the last turn that was handled.
    fn drive_until(&mut self, end_ns: u64) -> io::Result<u64> {
        let mut completions = std::mem::take(&mut self.io.completions);
        let mut now_ns = self.now_ns();
        while now_ns < end_ns {
            self.send_ready()?;
            self.io.ring.turn(self.cell.idle)?;
            let drained = self.io.ring.drain(&mut completions);
            if drained.is_empty() {
                continue;
            }
            now_ns = self.now_ns();
            // Before any is handled: an error must not leave the rest uncounted.
            self.in_flight -= last_ones(drained);
            for completion in drained {
                self.handle(completion, now_ns)?;
            }
            if self.io.buffers.publish() {
                self.feed_starved()?;
            }
        }
        self.io.completions = completions;
        Ok(now_ns)
    }

    #[inline]
    fn handle(&mut self, completion: &cqueue::Entry, now_ns: u64) -> io::Result<()> {
        let index = (completion.user_data() & INDEX_MASK) as usize;
        match completion.user_data() & !INDEX_MASK {
            RECV => self.handle_received(index, completion, now_ns),
            SEND => self.handle_sent(index, completion.result()),
            _ => self.handle_beat(now_ns),
        }
    }

    #[inline]
    fn handle_received(
        &mut self,
        index: usize,
        completion: &cqueue::Entry,
        now_ns: u64,
    ) -> io::Result<()> {
        let connection = &mut self.connections[index];
        match completion.result() {
            len @ 1.. => {
                let buffer = cqueue::buffer_select(completion.flags())
                    .expect("a receive from a buffer group names its buffer");
                let bytes = self.io.buffers.filled(buffer, len as usize);
                let (recorder, answered) = (&mut self.recorder, &mut self.answered);
                connection.reader.feed(bytes, |call_id| {
                    *answered += 1;
                    connection.calls.answered(call_id, now_ns, recorder)
                })?;
                self.io.buffers.give_back(buffer);
            }
            NO_BUFFERS => {
                self.starved.push(index);
                return Ok(());
            }
            0 => return Err(io::Error::other("the server closed a connection")),
            error => return Err(io::Error::from_raw_os_error(-error)),
        }
        if !connection.is_ready && !connection.sending && connection.calls.has_queued() {
            connection.is_ready = true;
            self.ready.push(index);
        }
        if cqueue::more(completion.flags()) {
            return Ok(());
        }
        self.receive(index)
    }

    #[inline]
    fn handle_sent(&mut self, index: usize, result: i32) -> io::Result<()> {
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        let connection = &mut self.connections[index];
        connection.sending = false;
        if !connection.is_ready && connection.calls.has_queued() {
            connection.is_ready = true;
            self.ready.push(index);
        }
        Ok(())
    }

    /// Gives up when nothing was answered for too long, so that no run hangs.
    fn handle_beat(&mut self, now_ns: u64) -> io::Result<()> {
        if self.progress.0 != self.answered {
            self.progress = (self.answered, now_ns);
        }
        let silence = Duration::from_nanos(now_ns - self.progress.1);
        if silence > SILENCE_MAX {
            return Err(io::Error::other(format!(
                "the server has answered nothing for {silence:?}"
            )));
        }
        self.beat()
    }

    #[inline]
    fn send_ready(&mut self) -> io::Result<()> {
        for index in self.ready.drain(..) {
            let connection = &mut self.connections[index];
            connection.is_ready = false;
            connection.sending = true;
            let batch = connection.calls.take_batch();
            let socket = Fd(connection.socket.as_raw_fd());
            let entry = opcode::Send::new(socket, batch.as_ptr(), batch.len() as u32)
                .flags(SEND_FLAGS)
                .build()
                .user_data(SEND | index as u64);
            // SAFETY: a batch is on the heap, freed only with the session, which waits for all
            // completions, and not written before `sending` ends: until then, nothing takes the
            // other batch, so that this one is not filled.
            unsafe { self.io.ring.push(&entry)? };
            self.in_flight += 1;
        }
        Ok(())
    }

    fn feed_starved(&mut self) -> io::Result<()> {
        for index in std::mem::take(&mut self.starved) {
            self.receive(index)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let socket = Fd(self.connections[index].socket.as_raw_fd());
        let entry = opcode::RecvMulti::new(socket, GROUP)
            .build()
            .user_data(RECV | index as u64);
        // SAFETY: the kernel writes only into the registered buffers, which are never freed.
        unsafe { self.io.ring.push(&entry)? };
        self.in_flight += 1;
        Ok(())
    }

    /// Makes the loop look around even when nothing arrives.
    fn beat(&mut self) -> io::Result<()> {
        static BEAT: Timespec = Timespec::new().nsec(20_000_000);
        let entry = opcode::Timeout::new(&BEAT).build().user_data(TIMER);
        // SAFETY: the time is static.
        unsafe { self.io.ring.push(&entry)? };
        self.in_flight += 1;
        Ok(())
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Ends all operations: a receive on a socket that is shut down completes, and so does a send. As a
    /// rule: once in some thousand runs Linux 6.18 left a multishot receive waiting for ever, so all
    /// are cancelled too.
    fn close(&mut self) -> io::Result<()> {
        for connection in &self.connections {
            // When it fails, the server was first and the socket is down already.
            connection.socket.shutdown(Shutdown::Both).ok();
        }
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any())
            .build()
            .user_data(CANCEL);
        // SAFETY: the operation names no memory.
        unsafe { self.io.ring.push(&cancel)? };
        self.in_flight += 1;
        let mut completions = std::mem::take(&mut self.io.completions);
        while self.in_flight > 0 {
            self.io.ring.turn(Idle::Park)?;
            let drained = self.io.ring.drain(&mut completions);
            self.in_flight -= last_ones(drained);
            for completion in drained {
                if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                    self.io.buffers.give_back(buffer);
                }
            }
            self.io.buffers.publish();
        }
        self.io.completions = completions;
        Ok(())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            // The kernel still reads from our memory, and we can't learn when it stops.
            eprintln!("the client's ring failed: {error}");
            std::process::abort();
        }
    }
}

/// How many of these completions are the last of their operation.
#[inline]
fn last_ones(completions: &[cqueue::Entry]) -> usize {
    let is_last = |completion: &&cqueue::Entry| !cqueue::more(completion.flags());
    completions.iter().filter(is_last).count()
}

/// MSG_WAITALL: the kernel goes on by itself after a short write, so that one completion means all.
/// MSG_NOSIGNAL: a server that is gone is an error of this send instead of a SIGPIPE.
const SEND_FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// A receive found no buffer; it goes on when some were given back.
const NO_BUFFERS: i32 = -libc::ENOBUFS;
/// Time without any answer after which a run fails.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Completions carry the operation in the upper half and the connection in the lower.
const INDEX_MASK: u64 = u32::MAX as u64;
const RECV: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const TIMER: u64 = 3 << 32;
const CANCEL: u64 = 4 << 32;
