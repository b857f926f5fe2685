//! The client's end of a connection.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::held_calls::HeldCalls;
use super::link::Link;
use super::pending_calls::{CALLS_MAX, Calls};
use crate::wire::frame_writer::{append, append_bare, append_control};
use crate::wire::framer::{Body, Frame};
use crate::wire::goaway::Goaway;
use crate::wire::handshake::Handshake;
use crate::wire::header::{Header, Kind};
use crate::wire::limits::Limits;
use crate::wire::resolve::{Resolution, ServiceDescriptor, decode_resolved, encode_resolve};
use crate::wire::status::{Code, Status};
use crate::wire::unsent::{first_request, remove_requests};
use crate::wire::violation::Violation;

/// What a client must act on. `W` stands for whoever waits for a call.
#[derive(Debug)]
pub enum ClientEvent<W> {
    /// A call succeeded.
    Response {
        /// Who waits for it.
        waiter: W,
        /// The response's payload, not validated yet.
        body: Body,
    },
    /// A call failed.
    Failed {
        /// Who waits for it.
        waiter: W,
        /// How it failed.
        status: Status,
    },
    /// A call has ended before anything of its request was sent: it may be made elsewhere.
    NotSent {
        /// Who waits for it.
        waiter: W,
        /// Why it was not sent.
        status: Status,
    },
    /// The handshake is done.
    Ready,
    /// The server takes no more calls; those in flight up to `last_call_id` may still end.
    Goaway(Goaway),
}

/// Protocol state of one connection to a server. It knows no socket, clock or runtime.
///
/// *Inputs*: [`ClientConnection::next_event`] with received bytes, until it returns `None`;
/// [`ClientConnection::handle_timeout`] at [`ClientConnection::poll_timeout`].
/// *Commands*: [`ClientConnection::begin_call`] at any time, even before the handshake is done;
/// [`ClientConnection::cancel_call`]. *Outputs*: events, and bytes appended to `out`. When the
/// connection ends, the driver fails the waiters of [`ClientConnection::take_waiters`].
///
/// `out` is what is queued: whole frames of which nothing is sent yet. Requests that lie there when
/// the server stops taking calls are taken out of it.
#[derive(Debug)]
pub struct ClientConnection<W> {
    link: Link,
    calls: Calls<W>,
    /// Calls that may be in flight: what this side and the server permit.
    calls_max: usize,
    services: Vec<Service>,
    held: HeldCalls,
    resolve_ids: u64,
    failures: VecDeque<(W, Fate)>,
    goaway: Option<Goaway>,
    /// Bytes of all requests so far, and how much of that the server has read for certain: it has
    /// answered what comes last in it.
    requested_bytes: u64,
    read_bytes: u64,
    /// Whether a call was begun while no other was in flight, and not asked for since.
    begins_anew: bool,
    /// Whether the server has answered a call.
    has_served: bool,
}

/// What became of a call that ends without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was sent, in whole or in part: whether it was executed is not known.
    Sent,
    /// Nothing of it was sent.
    NotSent(Status),
    /// It has failed, and this is its outcome.
    Failed(Status),
}

/// Requests that the server may not have read, in bytes, up to which it has no reason to stop reading:
/// longer ones may have to wait there until others have ended.
const SMALL_REQUESTS_BYTES: u64 = 16 * 1024;

/// A service that is being or has been resolved on this connection.
#[derive(Debug)]
struct Service {
    descriptor: &'static ServiceDescriptor,
    resolve_id: u64,
    /// One for each method; `None` until the server has answered.
    resolutions: Option<Vec<Resolution>>,
}

impl<W> ClientConnection<W> {
    /// A connection made at `now_ns`; says hello.
    pub fn new(limits: Arc<Limits>, now_ns: u64, out: &mut Vec<u8>) -> Self {
        let hello = Handshake::ours(&limits).encode();
        append_control(out, Header::new(Kind::Hello, 0, 0), |out| {
            out.extend_from_slice(&hello)
        });
        Self {
            calls_max: (limits.calls_in_flight_max as usize).min(CALLS_MAX),
            link: Link::of_client(limits, now_ns),
            calls: Calls::default(),
            services: Vec::new(),
            held: HeldCalls::default(),
            resolve_ids: 0,
            failures: VecDeque::new(),
            goaway: None,
            requested_bytes: 0,
            read_bytes: 0,
            begins_anew: false,
            has_served: false,
        }
    }

    /// Framing and liveness.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Framing and liveness, to be told of pauses and output.
    pub fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Whether the handshake is done.
    pub fn is_ready(&self) -> bool {
        self.link.peer().is_some()
    }

    /// What the server said when it stopped taking calls.
    pub fn goaway(&self) -> Option<&Goaway> {
        self.goaway.as_ref()
    }

    /// Whether the server has answered a call: then it works.
    pub fn has_served(&self) -> bool {
        self.has_served
    }

    /// Whether the server takes no more calls and owes no answer: the connection can be closed.
    pub fn is_finished(&self) -> bool {
        self.goaway.is_some() && self.calls.is_empty() && self.failures.is_empty()
    }

    /// Whether calls begin after a time without any, since this was asked last. The driver then looks
    /// whether the server has closed the connection meanwhile, before it sends them.
    pub fn take_begins_anew(&mut self) -> bool {
        std::mem::take(&mut self.begins_anew)
    }

    /// Calls that wait for their result.
    pub fn calls_in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Number of calls that the server would read at once, beside those in flight.
    #[inline]
    pub fn room_for_calls(&self) -> usize {
        self.calls_max.saturating_sub(self.calls.len())
    }

    /// Number of calls that may be sent now, when so many bytes are queued and not sent beside the
    /// requests that are held: none beyond `write_queue_bytes_high`.
    #[inline]
    pub fn room(&self, queued_bytes: usize) -> usize {
        let bytes_high = self.link.limits().write_queue_bytes_high;
        if queued_bytes + self.held_bytes() > bytes_high {
            return 0;
        }
        self.room_for_calls()
    }

    /// Whether the server would read another call at once: fewer are in flight than it permits.
    pub fn has_room_for_calls(&self) -> bool {
        self.room_for_calls() > 0
    }

    /// Bytes of the requests that wait until their service is resolved.
    pub fn held_bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Asks for the indices of a service's methods, unless that was done before.
    pub fn resolve(&mut self, descriptor: &'static ServiceDescriptor, out: &mut Vec<u8>) {
        self.service(descriptor, out);
    }

    /// The place of a service in `services`.
    fn service(&mut self, descriptor: &'static ServiceDescriptor, out: &mut Vec<u8>) -> usize {
        let known = self
            .services
            .iter()
            .position(|known| std::ptr::eq(known.descriptor, descriptor));
        known.unwrap_or_else(|| {
            self.resolve_ids += 1;
            let resolve_id = self.resolve_ids;
            append_control(out, Header::new(Kind::Resolve, resolve_id, 0), |out| {
                encode_resolve(descriptor, out);
            });
            self.services.push(Service {
                descriptor,
                resolve_id,
                resolutions: None,
            });
            self.services.len() - 1
        })
    }

    /// Starts a call: appends its request to `out`, or holds it until its service is resolved.
    /// `timeout_us` is the time that remains, zero for none. `encode` appends the payload, which
    /// may have at most the given number of bytes. On failure nothing was sent or kept.
    pub fn begin_call(
        &mut self,
        descriptor: &'static ServiceDescriptor,
        method: u16,
        timeout_us: u32,
        waiter: W,
        encode: impl FnOnce(&mut Vec<u8>, u32) -> Result<(), Status>,
        out: &mut Vec<u8>,
    ) -> Result<u64, Status> {
        if let Some(goaway) = &self.goaway {
            return Err(retired(goaway));
        }
        let ours = self.link.limits().payload_bytes_max;
        let bytes_max = self
            .link
            .peer()
            .map_or(ours, |peer| peer.payload_bytes_max.min(ours));
        // The call is entered when it is encoded: `encode` may panic.
        let call_id = self.calls.next_id();
        let header = |selector| Header {
            selector,
            timeout_us,
            ..Header::new(Kind::Request, call_id, 0)
        };
        let at = self.service(descriptor, out);
        let frame_bytes = match &self.services[at].resolutions {
            Some(resolutions) if self.held.is_empty() => {
                let index = callable(descriptor, method, &resolutions[usize::from(method)])?;
                let start = out.len();
                append(out, header(index), |out| encode(out, bytes_max))?;
                out.len() - start
            }
            _ => {
                let mut frame = Vec::new();
                append(&mut frame, header(method), |out| encode(out, bytes_max))?;
                let frame_bytes = frame.len();
                self.held.push(at, frame);
                frame_bytes
            }
        };
        self.begins_anew |= self.calls.is_empty();
        self.requested_bytes += frame_bytes as u64;
        self.calls.insert(waiter, self.requested_bytes);
        self.note_unread();
        Ok(call_id)
    }

    /// Says whether the server may have stopped reading for the requests that it was sent.
    #[inline]
    fn note_unread(&mut self) {
        let unread_bytes = self.requested_bytes - self.read_bytes;
        self.link.set_backed_up(unread_bytes > SMALL_REQUESTS_BYTES);
    }

    /// Gives up a call: tells the server, and returns the waiter if the call had not ended.
    pub fn cancel_call(&mut self, call_id: u64, out: &mut Vec<u8>) -> Option<W> {
        let waiter = self.calls.remove(call_id)?;
        if !self.held.remove(call_id) {
            append_bare(out, Kind::Cancel, call_id);
        }
        // Others may have waited behind it only.
        self.send_held(out);
        Some(waiter)
    }

    /// Takes every waiter, because the connection has ended, for the reason that `why` gives. From the
    /// request with the id `unsent_from` on nothing was sent; those that are held come after it.
    pub fn take_waiters(&mut self, unsent_from: Option<u64>, why: &Status) -> Vec<(W, Fate)> {
        let unsent_from = unsent_from.or(self.held.first_id()).unwrap_or(u64::MAX);
        let unsent = self.calls.take_from(unsent_from);
        self.held.clear();
        let sent = self.calls.take_all();
        let mut taken: Vec<_> = self.failures.drain(..).collect();
        taken.extend(sent.into_iter().map(|waiter| (waiter, Fate::Sent)));
        let not_sent = |waiter| (waiter, Fate::NotSent(not_executed(why)));
        taken.extend(unsent.into_iter().map(not_sent));
        taken
    }

    /// The next response in `chunk`, from `*at` on, if one lies there whole and aligned and somebody
    /// waits for it: who, and where its payload is. What it leaves there is for
    /// [`ClientConnection::next_event`], which must be asked before the next chunk comes.
    #[inline]
    pub fn next_response(&mut self, chunk: &[u8], at: &mut usize) -> Option<(W, Range<usize>)> {
        if !self.failures.is_empty() || !self.held.is_empty() || !self.is_ready() {
            return None;
        }
        let (call_id, payload, end) = self.link.peek_response(chunk, *at)?;
        let waiter = self.answered(call_id)?;
        self.has_served = true;
        self.link.frame_used_up();
        *at = end;
        Some((waiter, payload))
    }

    /// The next thing to act on in `chunk`, from `*at` on; `None` when it is used up.
    pub fn next_event(
        &mut self,
        chunk: &[u8],
        at: &mut usize,
        now_ns: u64,
        out: &mut Vec<u8>,
    ) -> Result<Option<ClientEvent<W>>, Violation> {
        loop {
            if let Some((waiter, fate)) = self.failures.pop_front() {
                return Ok(Some(match fate {
                    Fate::Failed(status) => ClientEvent::Failed { waiter, status },
                    Fate::NotSent(status) => ClientEvent::NotSent { waiter, status },
                    Fate::Sent => unreachable!("those are not among the failures"),
                }));
            }
            let Some(frame) = self.link.next_frame(chunk, at, now_ns)? else {
                return Ok(None);
            };
            if let Some(event) = self.handle_frame(frame, chunk, now_ns, out)? {
                return Ok(Some(event));
            }
        }
    }

    fn handle_frame(
        &mut self,
        frame: Frame,
        chunk: &[u8],
        now_ns: u64,
        out: &mut Vec<u8>,
    ) -> Result<Option<ClientEvent<W>>, Violation> {
        let header = frame.header;
        let call_id = header.call_id;
        match (header.kind, self.is_ready()) {
            (Kind::Response, true) => {
                let waiter = self.take_waiter(call_id)?;
                self.send_held(out);
                return Ok(waiter.map(|waiter| ClientEvent::Response {
                    waiter,
                    body: frame.body,
                }));
            }
            (Kind::Error, true) => {
                let failed = self.handle_error(&frame, chunk);
                self.send_held(out);
                return failed;
            }
            (Kind::Welcome, false) => {
                let peer = Handshake::decode_answer(frame.payload(chunk))?;
                self.calls_max = self.calls_max.min(peer.calls_in_flight_max as usize);
                self.link.accept_peer(peer);
                return Ok(Some(ClientEvent::Ready));
            }
            // A server that refuses the handshake says why in a GOAWAY.
            (Kind::Goaway, _) => {
                self.link.handle_bare(now_ns)?;
                return self.handle_goaway(frame.payload(chunk), out);
            }
            (_, false) => return Err(Violation::NotRingcall),
            (Kind::Resolved, true) => self.handle_resolved(call_id, frame.payload(chunk), out)?,
            (Kind::Ping, true) => self.link.handle_ping(call_id, now_ns, out)?,
            (Kind::Pong, true) => self.link.handle_bare(now_ns)?,
            (kind, true) => return Err(Violation::Unexpected { kind: kind as u8 }),
        }
        Ok(None)
    }

    /// The waiter of a finished call; `None` when it was cancelled meanwhile.
    fn take_waiter(&mut self, call_id: u64) -> Result<Option<W>, Violation> {
        // What is held was not sent, and all that was made later is held too.
        let is_held = self.held.first_id().is_some_and(|first| call_id >= first);
        if is_held || !self.calls.was_made(call_id) {
            return Err(Violation::UnknownCall { call_id });
        }
        self.has_served = true;
        Ok(self.answered(call_id))
    }

    /// Takes the waiter of a call that the server has answered.
    #[inline]
    fn answered(&mut self, call_id: u64) -> Option<W> {
        let (waiter, end) = self.calls.answer(call_id)?;
        self.read_bytes = self.read_bytes.max(end);
        self.note_unread();
        Some(waiter)
    }

    fn handle_error(
        &mut self,
        frame: &Frame,
        chunk: &[u8],
    ) -> Result<Option<ClientEvent<W>>, Violation> {
        let status = Status::decode_payload(frame.header.selector, frame.payload(chunk))
            .ok_or(Violation::Malformed { what: "error" })?;
        let waiter = self.take_waiter(frame.header.call_id)?;
        Ok(waiter.map(|waiter| ClientEvent::Failed { waiter, status }))
    }

    fn handle_goaway(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<ClientEvent<W>>, Violation> {
        let goaway = Goaway::decode_payload(payload)?;
        if self.goaway.is_some() {
            // The first has said which calls are executed, and that stays so.
            return Ok(None);
        }
        let queued = remove_requests(out);
        let unsent_from = queued.or(self.held.first_id()).unwrap_or(u64::MAX);
        for waiter in self.calls.take_from(unsent_from) {
            let fate = Fate::NotSent(retired(&goaway));
            self.failures.push_back((waiter, fate));
        }
        self.held.clear();
        // These crossed the GOAWAY on their way: the server does not execute them.
        let crossed_from = goaway.last_call_id.saturating_add(1);
        for waiter in self.calls.take_from(crossed_from) {
            let fate = Fate::Failed(retired(&goaway));
            self.failures.push_back((waiter, fate));
        }
        self.goaway = Some(goaway.clone());
        Ok(Some(ClientEvent::Goaway(goaway)))
    }

    /// The id of the first request of which nothing was sent, if `out` is what is queued.
    pub fn first_unsent(&self, out: &[u8]) -> Option<u64> {
        first_request(out, 0).or(self.held.first_id())
    }

    /// Learns the indices of a service's methods, and sends what was held for them.
    fn handle_resolved(
        &mut self,
        resolve_id: u64,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        const UNASKED: Violation = Violation::Malformed {
            what: "method resolution",
        };
        let service = self
            .services
            .iter_mut()
            .find(|service| service.resolve_id == resolve_id && service.resolutions.is_none())
            .ok_or(UNASKED)?;
        let methods = service.descriptor.methods.len();
        service.resolutions = Some(decode_resolved(payload, methods)?);
        self.send_held(out);
        Ok(())
    }

    /// Sends held requests in their order, up to the first whose service is not resolved yet, and as far as
    /// the server permits. Before its WELCOME nobody knew how far that is; what it has to hold itself would
    /// keep it from seeing that others were given up.
    fn send_held(&mut self, out: &mut Vec<u8>) {
        let peer_bytes_max = self.link.peer().map_or(0, |peer| peer.payload_bytes_max);
        let services = &self.services;
        while self.calls.len() - self.held.len() < self.calls_max
            && let Some(held) = self
                .held
                .pop_if(|held| services[held.service].resolutions.is_some())
        {
            let Service {
                descriptor,
                resolutions: Some(resolutions),
                ..
            } = &services[held.service]
            else {
                unreachable!("it was just looked at")
            };
            let method = held.header.selector;
            let index = callable(descriptor, method, &resolutions[usize::from(method)]);
            match index {
                Ok(index) if held.header.payload_bytes <= peer_bytes_max => held.send(index, out),
                refused => {
                    if let Some(waiter) = self.calls.remove(held.header.call_id) {
                        let status = refused.err().unwrap_or_else(Status::request_too_long);
                        self.failures.push_back((waiter, Fate::Failed(status)));
                    }
                }
            }
        }
    }

    /// See [`Link::poll_timeout`].
    pub fn poll_timeout(&self) -> u64 {
        self.link.poll_timeout()
    }

    /// See [`Link::handle_timeout`]. All that lies in the socket must have been received before.
    pub fn handle_timeout(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Result<(), Violation> {
        if now_ns.saturating_sub(self.poll_timeout()) > LATE_NS {
            self.link.forgive_pause(now_ns);
        }
        self.link.handle_timeout(now_ns, out)
    }
}

/// A timer that is acted on later than this was not looked at: the program or the machine had stopped.
const LATE_NS: u64 = 1_000_000_000;

/// The index of a method, or why it can't be called.
#[inline]
fn callable(
    descriptor: &ServiceDescriptor,
    method: u16,
    resolution: &Resolution,
) -> Result<u16, Status> {
    match resolution.code {
        Code::Ok => Ok(resolution.index),
        code => Err(uncallable(descriptor, method, resolution, code)),
    }
}

#[cold]
fn uncallable(
    descriptor: &ServiceDescriptor,
    method: u16,
    resolution: &Resolution,
    code: Code,
) -> Status {
    let ours = &descriptor.methods[usize::from(method)];
    match code {
        Code::FailedPrecondition => Status::failed_precondition(format!(
            "method {} has other types here than at the server: fingerprint {:016x} here, {:016x} there; \
             build both from the same definition, or give the new version of the method a new name",
            ours.name, ours.fingerprint, resolution.fingerprint
        )),
        Code::Unimplemented => {
            Status::unimplemented(format!("the server has no method {}", ours.name))
        }
        // A later version may have more of them.
        code => Status::unimplemented(format!(
            "the server does not let method {} be called on this connection: it answered {code} when it was asked \
             for its index",
            ours.name
        )),
    }
}

/// Why no call can start after a GOAWAY.
fn retired(goaway: &Goaway) -> Status {
    Status::unavailable(format!(
        "the server takes no more calls on this connection ({}: {}); the call was not executed",
        Violation::reason_name(goaway.reason),
        goaway.message
    ))
}

/// The status of a call of which nothing was sent before its connection ended.
fn not_executed(why: &Status) -> Status {
    Status::unavailable(format!("{}; the call was not executed", why.message()))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
