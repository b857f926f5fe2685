//! Moves the bytes of one connection.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::channel::Channel;
use super::driving::{Blocked, Output};
use super::reader::Reader;
use crate::client::core::cause::Cause;
use crate::client::unread::{Unread, look};
use crate::wire::unsent::first_request;

/// Owns the socket of a link: reads what arrives, writes what the calls have queued, and keeps the
/// connection's time limits.
///
/// What tokio knows of the socket is as old as its last look at all sockets. After the runtime was not
/// driven for a while, or the program was stopped, timers fire and calls are made before that. So in these
/// cases the driver asks the socket itself.
#[derive(Debug)]
pub(super) struct Driver<S> {
    channel: Arc<Channel>,
    link: u64,
    stream: S,
    reader: Reader,
    /// What is being written, and how much of it has been.
    writing: Vec<u8>,
    written_bytes: usize,
    /// Whether others were given the chance to queue more before the next write.
    has_waited: bool,
    /// Memory for those whom a batch of responses wakes.
    woken: Vec<Waker>,
    /// Whether the next bytes belong to a large body, which is received into its place.
    wants_direct: bool,
    /// When to look at the time limits, and when the timer fires, which may be earlier.
    due_ns: u64,
    timer: Pin<Box<Sleep>>,
    timer_ns: u64,
}

/// Its drop says what it has not written, also when the runtime drops it.
impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        let unwritten_from = first_request(&self.writing, self.written_bytes);
        self.channel
            .with(|state| state.link(self.link).unwritten_from = unwritten_from);
    }
}

/// Reads after which queued output gets its turn.
const READS_PER_TURN: usize = 8;
/// A send buffer that has grown beyond this many bytes is not kept.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
/// The timer never sleeps longer.
const TIMER_LONGEST_NS: u64 = 3600 * 1_000_000_000;

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin> Driver<S> {
    pub(super) fn new(channel: Arc<Channel>, link: u64, stream: S) -> Self {
        Self {
            channel,
            link,
            stream,
            reader: Reader::default(),
            writing: Vec::new(),
            written_bytes: 0,
            has_waited: false,
            woken: Vec::new(),
            wants_direct: false,
            due_ns: 0,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_ns: 0,
        }
    }

    /// Drives the connection until it ends, and says why.
    pub(super) async fn run(mut self) -> Cause {
        let cause = std::future::poll_fn(|cx| self.poll(cx)).await;
        if let Cause::Finished = cause {
            // All that was queued has been written; the server reads it and then the end.
            let closed = std::future::poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx));
            if let Err(error) = closed.await {
                tracing::trace!(%error, "shutdown of a connection that is gone");
            }
        }
        match self.channel.with(|state| state.goaway(self.link)) {
            Some(goaway) if matches!(cause, Cause::Closed | Cause::Io(_)) => Cause::Goaway(goaway),
            _ => cause,
        }
    }

    /// Reads, writes what that and the callers have queued, and looks at the time, until nothing is
    /// left to do. Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        loop {
            if let Poll::Ready(Err(cause)) = self.poll_read(cx) {
                return Poll::Ready(cause);
            }
            if let Poll::Ready(Err(cause)) = self.poll_write(cx) {
                return Poll::Ready(cause);
            }
            match ready!(self.poll_time(cx)) {
                Ok(()) => (),
                Err(cause) => return Poll::Ready(cause),
            }
        }
    }

    /// Ready only when the connection has ended.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        for _ in 0..READS_PER_TURN {
            let chunk = if self.wants_direct {
                ready!(self.poll_direct(cx))?
            } else {
                let chunk = ready!(self.reader.poll_chunk(&mut self.stream, cx));
                let chunk = chunk.map_err(Cause::Io)?;
                if chunk.is_empty() {
                    return Poll::Ready(Err(Cause::Closed));
                }
                chunk
            };
            self.receive(&chunk)?;
        }
        // There may be more, after the others' turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn receive(&mut self, chunk: &Bytes) -> Result<(), Cause> {
        let now_ns = self.channel.now_ns();
        let target = &self.channel.target;
        self.wants_direct = self.channel.with_many(&mut self.woken, |state| {
            state.receive(self.link, chunk, now_ns, target)
        })?;
        Ok(())
    }

    /// Reads all that lies in the socket. Pending when that is so much that others have their turn first.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        let begun = self.channel.with(|state| state.begin_look(self.link));
        for _ in 0..READS_PER_TURN {
            let now_ns = self.channel.now_ns();
            match look(&self.stream) {
                Unread::Nothing => {
                    self.channel
                        .with(|state| state.end_look(self.link, begun, now_ns));
                    return Poll::Ready(Ok(()));
                }
                Unread::Bytes => self.read_now()?,
                Unread::End => return Poll::Ready(Err(Cause::Closed)),
                Unread::Broken(error) => return Poll::Ready(Err(Cause::Io(error))),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads a part of what lies in the socket.
    fn read_now(&mut self) -> Result<(), Cause> {
        let id = self.link;
        let lent = self
            .channel
            .with(|state| state.link(id).connection.link_mut().take_direct());
        let chunk = match lent {
            Some(mut body) => {
                let read = self.reader.read_direct_now(&self.stream, &mut body);
                self.channel
                    .with(|state| state.link(id).connection.link_mut().put_direct(body));
                read.map(|_| Bytes::new())
            }
            None => self.reader.read_now(&self.stream),
        };
        match chunk {
            Ok(chunk) => self.receive(&chunk),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(Cause::Io(error)),
        }
    }

    /// Writes what the socket takes of what is being written, whatever tokio knows of it.
    fn write_now(&mut self, cx: &mut Context<'_>) -> Result<(), Cause> {
        while self.written_bytes < self.writing.len() {
            let unwritten = &self.writing[self.written_bytes..];
            // NOSIGNAL: a closed peer is an error, not a SIGPIPE.
            match send(
                &self.stream,
                unwritten,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(bytes) => self.written_bytes += bytes,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(Cause::Io(error.into())),
            }
            let unwritten_bytes = self.writing.len() - self.written_bytes;
            let now_ns = self.channel.now_ns();
            self.channel
                .with(|state| state.note_blocked(self.link, unwritten_bytes, now_ns, cx.waker()));
        }
        Ok(())
    }

    /// Reads a part of a large body into its place. The link has the body back whenever nothing is
    /// being read, so that it knows how much has arrived. No bytes are left to look at.
    fn poll_direct(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Cause>> {
        let id = self.link;
        let lent = self
            .channel
            .with(|state| state.link(id).connection.link_mut().take_direct());
        let Some(mut body) = lent else {
            return Poll::Ready(Ok(Bytes::new()));
        };
        let polled = self.reader.poll_direct(&mut self.stream, &mut body, cx);
        self.channel
            .with(|state| state.link(id).connection.link_mut().put_direct(body));
        Poll::Ready(match ready!(polled) {
            Ok(0) => Err(Cause::Closed),
            Ok(_) => Ok(Bytes::new()),
            Err(error) => Err(Cause::Io(error)),
        })
    }

    /// Ready only when the connection has ended.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        loop {
            if self.written_bytes == self.writing.len() {
                ready!(self.poll_output(cx))?;
            }
            let unwritten = &self.writing[self.written_bytes..];
            match Pin::new(&mut self.stream).poll_write(cx, unwritten) {
                Poll::Ready(Ok(0)) => {
                    let error = io::ErrorKind::WriteZero.into();
                    return Poll::Ready(Err(Cause::Io(error)));
                }
                Poll::Ready(Ok(bytes)) => self.written_bytes += bytes,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Cause::Io(error))),
                Poll::Pending => {
                    let unwritten_bytes = unwritten.len();
                    let now_ns = self.channel.now_ns();
                    let Blocked { due_ns, must_look } = self.channel.with(|state| {
                        state.note_blocked(self.link, unwritten_bytes, now_ns, cx.waker())
                    });
                    self.due_ns = due_ns;
                    if must_look {
                        ready!(self.poll_look(cx))?;
                        continue;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes what is queued, once all that was taken before has been written. Pending when there
    /// is nothing to write now.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        self.writing.clear();
        self.writing.shrink_to(BUFFER_BYTES_KEPT);
        self.written_bytes = 0;
        let output = loop {
            let now_ns = self.channel.now_ns();
            let output = self.channel.with(|state| {
                let may_wait = !self.has_waited;
                state.take_output(self.link, &mut self.writing, may_wait, now_ns, cx.waker())
            });
            self.has_waited |= output == Output::Later;
            match output {
                Output::Look => ready!(self.poll_look(cx))?,
                Output::Connect => self.channel.connect_on(&Handle::current(), Duration::ZERO),
                other => break other,
            }
        };
        self.has_waited = output == Output::Later;
        match output {
            Output::Write => Poll::Ready(Ok(())),
            Output::Later => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Output::Sleep { due_ns } => {
                self.due_ns = due_ns;
                Poll::Pending
            }
            Output::Finish => Poll::Ready(Err(Cause::Finished)),
            Output::Look | Output::Connect => unreachable!("that was done"),
        }
    }

    /// Ready when a time limit was due and was acted on, or has ended the connection.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        loop {
            if self.due_ns < self.timer_ns {
                self.set_timer();
            }
            ready!(self.timer.as_mut().poll(cx));
            // The timer is moved to an earlier time at once, to a later one only here.
            let now_ns = self.channel.now_ns();
            let is_due = now_ns >= self.due_ns;
            if is_due {
                // What the server has said or taken meanwhile counts, however late it is noticed.
                ready!(self.poll_look(cx))?;
                self.write_now(cx)?;
                self.due_ns = self
                    .channel
                    .with(|state| state.handle_timeout(self.link, now_ns))?;
            }
            self.set_timer();
            if is_due {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn set_timer(&mut self) {
        let longest_ns = self.channel.now_ns() + TIMER_LONGEST_NS;
        self.timer_ns = self.due_ns.min(longest_ns);
        let deadline = self.channel.instant(self.timer_ns);
        self.timer.as_mut().reset(deadline.into());
    }
}
