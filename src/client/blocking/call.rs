//! One call of the blocking client.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::wire::Wire;
use super::{BlockingClient, moment_in};
use crate::client::core::slots::{Failure, Outcome};
use crate::client::{CallTarget, perhaps_executed, timeout_us};
use crate::connection::client::{ClientEvent, Fate};
use crate::rpc::encode::{Encode, encode_payload};
use crate::rpc::message::Message;
use crate::rpc::received::{Response, SharedPayload};
use crate::rpc::refusal::{Unreadable, Unsendable};
use crate::wire::resolve::ServiceDescriptor;
use crate::wire::status::Status;

/// A call on a [`BlockingClient`]; [`BlockingCall::wait`] makes it.
#[must_use = "a call is sent by `wait`"]
pub struct BlockingCall<'a, Req, Resp, E> {
    client: &'a BlockingClient,
    service: &'static ServiceDescriptor,
    method: u16,
    request: E,
    timeout: Option<Duration>,
    types: PhantomData<fn(Req) -> Resp>,
}

impl<'a, Req: Message, Resp: Message, E: Encode<Req>> BlockingCall<'a, Req, Resp, E> {
    pub(super) fn new(
        client: &'a BlockingClient,
        service: &'static ServiceDescriptor,
        method: u16,
        request: E,
    ) -> Self {
        Self {
            client,
            service,
            method,
            request,
            timeout: client.default_deadline,
            types: PhantomData,
        }
    }

    /// Ends the call with DEADLINE_EXCEEDED when it takes longer, the wait for calls of other threads
    /// and for a new connection included. The server is told the time that remains when the call is
    /// sent. Overrides [`BlockingClient::default_deadline`].
    ///
    /// The server can't be told of more than 71.6 minutes: then it is told of none, its handler sees no
    /// deadline, and this side alone keeps the time.
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Makes the call and waits for its end.
    ///
    /// # Errors
    /// As [`Call`](crate::Call).
    pub fn wait(self) -> Result<Response<Resp>, Status> {
        let deadline = moment_in(self.timeout);
        let BlockingClient {
            target,
            limits,
            turns,
            ..
        } = self.client;
        let mut kept = turns.wait(deadline).ok_or_else(|| {
            Status::deadline_exceeded(format!(
                "other calls on this client to {target} took all the time; the call was not sent"
            ))
        })?;
        let mut is_first = true;
        loop {
            let wire = kept.connected(target, limits, deadline)?;
            let outcome = self.make(wire, deadline, target);
            kept.settle(target);
            match outcome? {
                Outcome::Answered(payload) => {
                    return Response::validate(payload).map_err(Unreadable::response);
                }
                Outcome::Failed(failure) => match *failure {
                    // It goes to another connection, once.
                    Failure::NotSent(_) if std::mem::take(&mut is_first) => (),
                    Failure::NotSent(why) | Failure::Ended(why) => return Err(why),
                },
            }
        }
    }

    fn make(
        &self,
        wire: &mut Wire,
        deadline: Instant,
        target: &CallTarget,
    ) -> Result<Outcome<SharedPayload>, Status> {
        let timeout_us = timeout_us(deadline.saturating_duration_since(Instant::now()))?;
        let encode = |out: &mut Vec<u8>, bytes_max| {
            encode_payload::<Req>(&self.request, bytes_max, out).map_err(Unsendable::request)
        };
        // There is room: it is the only call, and all that was queued before it is sent.
        let (service, method) = (self.service, self.method);
        let out = &mut wire.out;
        let call_id = wire
            .connection
            .begin_call(service, method, timeout_us, (), encode, out)?;
        loop {
            match wire.next_event(deadline) {
                Ok(Some(ClientEvent::Response { body, .. })) => {
                    return Ok(Outcome::Answered(wire.payload(body)));
                }
                Ok(Some(ClientEvent::Failed { status, .. })) => return Err(status),
                Ok(Some(ClientEvent::NotSent { status, .. })) => {
                    return Ok(Outcome::not_sent(status));
                }
                Ok(Some(ClientEvent::Ready | ClientEvent::Goaway(_))) => (),
                Ok(None) => {
                    wire.cancel(call_id);
                    return Err(Status::deadline_exceeded(format!(
                        "no answer from {target} in time"
                    )));
                }
                Err(cause) => {
                    let why = target.lost(&cause);
                    let invites_back = cause.invites_back(true);
                    return match wire.fate(&why) {
                        Some(Fate::NotSent(why)) if invites_back => Ok(Outcome::not_sent(why)),
                        Some(Fate::NotSent(status) | Fate::Failed(status)) => Err(status),
                        Some(Fate::Sent) | None => Err(perhaps_executed(&why)),
                    };
                }
            }
        }
    }
}

impl<Req, Resp, E> fmt::Debug for BlockingCall<'_, Req, Resp, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingCall")
            .field(
                "method",
                &self.service.methods[usize::from(self.method)].name,
            )
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
