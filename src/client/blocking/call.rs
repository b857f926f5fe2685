//! One call of the blocking client.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::wire::Wire;
use super::{BlockingClient, DEFAULT_TIMEOUT};
use crate::client::cause::Cause;
use crate::client::{CallTarget, timeout_us};
use crate::proto::client::ClientEvent;
use crate::proto::resolve::ServiceDescriptor;
use crate::proto::status::Status;
use crate::rpc::encode::{Encode, encode_payload};
use crate::rpc::message::Message;
use crate::rpc::received::{Response, SharedPayload};
use crate::rpc::refusal::{Unreadable, Unsendable};

/// A call on a [`BlockingClient`]; [`BlockingCall::wait`] makes it.
#[must_use = "a call is sent by `wait`"]
pub struct BlockingCall<'a, Req, Resp, E> {
    client: &'a BlockingClient,
    service: &'static ServiceDescriptor,
    method: u16,
    request: E,
    timeout: Duration,
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
            timeout: DEFAULT_TIMEOUT,
            types: PhantomData,
        }
    }

    /// Ends the call with DEADLINE_EXCEEDED when it takes longer, a new connection included. The
    /// server is told the time. Default 30 s, most 24 h.
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(Duration::from_secs(86_400));
        self
    }

    /// Makes the call and waits for its end.
    ///
    /// # Errors
    /// As [`Call`](crate::Call).
    pub fn wait(self) -> Result<Response<Resp>, Status> {
        let deadline = Instant::now() + self.timeout;
        let target = &self.client.target;
        let payload = self
            .client
            .with_wire(deadline, |wire| self.make(wire, deadline, target))?;
        Response::validate(payload).map_err(Unreadable::response)
    }

    fn make(
        &self,
        wire: &mut Wire,
        deadline: Instant,
        target: &CallTarget,
    ) -> Result<SharedPayload, Status> {
        let timeout_us = timeout_us(deadline.saturating_duration_since(Instant::now()))?;
        let encode = |out: &mut Vec<u8>, bytes_max| {
            encode_payload::<Req>(&self.request, bytes_max, out).map_err(Unsendable::request)
        };
        let (service, method) = (self.service, self.method);
        let out = &mut wire.out;
        let call_id = wire
            .connection
            .begin_call(service, method, timeout_us, (), encode, out)?;
        loop {
            match wire.next_event(deadline) {
                Ok(Some(ClientEvent::Response { body, .. })) => return Ok(wire.payload(body)),
                Ok(Some(ClientEvent::Failed { status, .. })) => return Err(status),
                Ok(Some(ClientEvent::Ready | ClientEvent::Goaway(_))) => (),
                Ok(None) => {
                    wire.cancel(call_id);
                    return Err(Status::deadline_exceeded(format!(
                        "no answer from {target} in time"
                    )));
                }
                Err(cause) => return Err(lost(target, &cause)),
            }
        }
    }
}

fn lost(target: &CallTarget, cause: &Cause) -> Status {
    Status::unavailable(format!(
        "{}; whether the call was executed is not known",
        target.lost(cause).message()
    ))
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
