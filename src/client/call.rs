//! A call, whatever client makes it: what it is about, and how it is set up.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::Caller;
use super::core::hook::Told;
use super::core::options::CallOptions;
use crate::rpc::outcome::CallOutcome;
use crate::wire::resolve::{MethodDescriptor, ServiceDescriptor};
use crate::wire::status::Status;

/// A call that was prepared. On a [`Client`](crate::Client) and a [`LocalClient`](crate::LocalClient) it is a
/// future: await it. On a [`BlockingClient`](crate::BlockingClient), [`Call::wait`] makes it. Nothing is sent
/// before.
///
/// It gives a [`Response`](crate::Response), or a [`LocalResponse`](crate::LocalResponse) on a shard, which is
/// read in place. While the server runs as many calls as it permits, or while there is no connection, it waits
/// for its turn. Dropping it cancels the call: the server is told, and drops the handler.
///
/// # Errors
/// What the handler has answered; else DEADLINE_EXCEEDED, UNAVAILABLE when the server can't be
/// reached or the connection is lost (the text says which and why), FAILED_PRECONDITION when both
/// sides define the method differently, UNIMPLEMENTED when the server does not have it,
/// RESOURCE_EXHAUSTED when the request is too long, INVALID_ARGUMENT when it nests too deep,
/// DATA_LOSS when the response is not a valid archive of its type, and INTERNAL when the client's
/// [`ClientHook`](crate::ClientHook) panics.
#[must_use = "a call is sent when it is awaited, or by `wait`"]
pub struct Call<'a, C: Caller, Req, Resp, E> {
    pub(crate) caller: &'a C,
    pub(crate) service: &'static ServiceDescriptor,
    pub(crate) method: u16,
    pub(crate) request: E,
    pub(crate) options: CallOptions,
    /// What its client keeps of it. Given up before the hook hears of that.
    pub(crate) state: C::CallState<'a>,
    told: Option<Told<'a, C>>,
    types: PhantomData<fn(Req) -> Resp>,
}

impl<'a, C: Caller, Req, Resp, E> Call<'a, C, Req, Resp, E> {
    pub(crate) fn new(
        caller: &'a C,
        service: &'static ServiceDescriptor,
        method: u16,
        request: E,
    ) -> Self {
        Self {
            caller,
            service,
            method,
            request,
            options: caller.defaults().clone(),
            state: caller.call_state(),
            told: None,
            types: PhantomData,
        }
    }

    /// Ends the call with DEADLINE_EXCEEDED when it takes longer, counted from its first poll, or from
    /// [`Call::wait`]; the wait for its turn and for a new connection count. The server is told the time that
    /// remains when the call is sent, and drops the handler when it has passed. Overrides the client's
    /// default deadline.
    ///
    /// The server can't be told of more than 71.6 minutes: then it is told of none, its handler sees no
    /// deadline, and this side alone keeps the time.
    ///
    /// An answer that has arrived in time is taken, however late the program comes to look.
    ///
    /// On a [`Client`](crate::Client) it needs a tokio runtime with timers: the one that the call is polled
    /// on, or else the one that the client was made on.
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.options.set_deadline(Some(timeout));
        self
    }

    /// The call begins: its client's hook may change what it is made with.
    #[inline(always)]
    pub(crate) fn tell_begin(&mut self) -> Result<(), Status> {
        let method = self.descriptor();
        self.told = Told::begin(self.caller, method, &mut self.options)?;
        Ok(())
    }

    /// The call has ended so: its client's hook is told.
    #[inline(always)]
    pub(crate) fn tell_end<R>(&mut self, result: Result<R, Status>) -> Result<R, Status> {
        if let Some(told) = self.told.take() {
            told.end(match &result {
                Ok(_) => CallOutcome::Answered,
                Err(status) => CallOutcome::Failed(status),
            });
        }
        result
    }

    /// What it calls.
    fn descriptor(&self) -> &'static MethodDescriptor {
        &self.service.methods[usize::from(self.method)]
    }
}

// Nothing in it is pinned: the request is only ever borrowed.
impl<C: Caller, Req, Resp, E> Unpin for Call<'_, C, Req, Resp, E> {}

impl<C: Caller, Req, Resp, E> fmt::Debug for Call<'_, C, Req, Resp, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.descriptor().name)
            .field("options", &self.options)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
