//! One call of the blocking client.

use std::time::Instant;

use super::wire::Wire;
use super::{BlockingClient, moment_in};
use crate::client::core::slots::{Failure, Outcome};
use crate::client::{Call, CallTarget, perhaps_executed, timeout_us};
use crate::connection::client::{ClientEvent, Fate};
use crate::rpc::encode::{Encode, encode_payload};
use crate::rpc::message::Message;
use crate::rpc::received::{Response, SharedPayload};
use crate::rpc::refusal::{Unreadable, Unsendable};
use crate::wire::status::Status;

impl<Req: Message, Resp: Message, E: Encode<Req>> Call<'_, BlockingClient, Req, Resp, E> {
    /// Makes the call and waits for its end.
    ///
    /// # Errors
    /// As [`Call`].
    pub fn wait(mut self) -> Result<Response<Resp>, Status> {
        self.tell_begin()?;
        let result = self.answer();
        self.tell_end(result)
    }

    fn answer(&self) -> Result<Response<Resp>, Status> {
        let deadline = moment_in(self.options.deadline());
        let BlockingClient {
            target,
            limits,
            turns,
            ..
        } = self.caller;
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
