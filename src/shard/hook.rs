//! The server's hook: asked before a call is handled, told when it has ended.
//!
//! A server with a hook serves each of its services through a [`Hooked`] one, so that without a hook nothing
//! asks for it. A call that its hook has let through is observed: its [`CallObserver`] is told of its end, whoever
//! brings that about, and speaks up by itself when it is dropped. So each is told of once.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::answer::refuse;
use super::call_info::CallInfo;
use super::conn::Conn;
use super::service::{IncomingCall, Service};
use crate::panics;
use crate::rpc::outcome::CallOutcome;
use crate::wire::resolve::ServiceDescriptor;
use crate::wire::status::Status;

/// Looks at every call of a server: for permission, limits, metrics, traces, audit. Install it by
/// [`ServerBuilder::hook`](crate::ServerBuilder::hook); each shard has its own.
///
/// It sees the calls that are about to be handled. Those that are refused before that are in
/// [`Metrics`](crate::Metrics) alone: methods that were not resolved, requests longer than their type permits
/// that were dropped as they arrived, and what comes while the server shuts down or has no memory for more.
///
/// Both functions run on the shard's thread, between calls, so they must not wait. A panic in one is
/// contained: it counts in [`Metrics::panics`](crate::Metrics), is logged, and ends nothing but what it was
/// asked about.
///
/// ```
/// use std::cell::Cell;
/// use ringcall::{CallInfo, ServerHook, Status};
///
/// /// Takes so many calls, and no more.
/// struct Quota(Cell<u32>);
///
/// impl ServerHook for Quota {
///     fn on_call(&self, call: &CallInfo) -> Result<(), Status> {
///         let left = self.0.get().checked_sub(1).ok_or_else(|| {
///             Status::resource_exhausted(format!("no more calls of {}", call.method().name))
///         })?;
///         self.0.set(left);
///         Ok(())
///     }
/// }
/// ```
pub trait ServerHook: 'static {
    /// A call has arrived. Its payload was not looked at yet.
    ///
    /// By default it is let through.
    ///
    /// # Errors
    /// The status that the call is refused with: it reaches no handler, and is not told of again. When this
    /// panics, that is INTERNAL.
    fn on_call(&self, _call: &CallInfo) -> Result<(), Status> {
        Ok(())
    }

    /// A call that was let through has ended, and its answer, if there is one, is queued. This follows each
    /// [`ServerHook::on_call`] that has returned `Ok`, once.
    ///
    /// By default nothing is done.
    fn on_done(&self, _call: &CallInfo, _outcome: CallOutcome<'_>, _timings: CallTimings) {}
}

/// Several clients or shards may share one.
macro_rules! shared_by {
    ($($owner:ident)*) => {$(
        impl<H: ServerHook + ?Sized> ServerHook for $owner<H> {
            fn on_call(&self, call: &CallInfo) -> Result<(), Status> {
                (**self).on_call(call)
            }

            fn on_done(&self, call: &CallInfo, outcome: CallOutcome<'_>, timings: CallTimings) {
                (**self).on_done(call, outcome, timings);
            }
        }
    )*};
}

shared_by!(Arc Rc);

/// When a call went how far, on the clock of its shard, which began with that. Each is no earlier than the one
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallTimings {
    /// Its last bytes were received. Read once a turn, so all that a turn has received has the same.
    pub arrived: Duration,
    /// It was let through, and handed to its handler.
    pub started: Duration,
    /// It has ended, and its answer was queued.
    pub done: Duration,
}

impl CallTimings {
    /// How long it waited for its turn.
    pub fn waited(&self) -> Duration {
        self.started.saturating_sub(self.arrived)
    }

    /// How long it was handled, what its handler waited for included.
    pub fn handled(&self) -> Duration {
        self.done.saturating_sub(self.started)
    }
}

/// Has each of these services serve under a hook.
pub fn hooked(services: Vec<Box<dyn Service>>, hook: Rc<dyn ServerHook>) -> Vec<Box<dyn Service>> {
    let with_hook = |service| -> Box<dyn Service> {
        let hook = Rc::clone(&hook);
        Box::new(Hooked { service, hook })
    };
    services.into_iter().map(with_hook).collect()
}

/// A service whose calls pass a hook.
struct Hooked {
    service: Box<dyn Service>,
    hook: Rc<dyn ServerHook>,
}

impl Hooked {
    fn ask(&self, call: &CallInfo) -> Result<(), Status> {
        panics::caught(|| self.hook.on_call(call)).unwrap_or_else(|text| {
            note_panic(call, &text);
            Err(Status::internal(
                "the server's hook panicked; the call was not executed",
            ))
        })
    }
}

impl Service for Hooked {
    fn descriptor(&self) -> &'static ServiceDescriptor {
        self.service.descriptor()
    }

    fn call(&self, method: u16, incoming: IncomingCall<'_>) {
        let (conn, call_id) = (incoming.conn, incoming.facts.call_id);
        let call = CallInfo::new(conn, incoming.facts);
        if let Err(status) = self.ask(&call) {
            conn.shard.counters.refused_by_hook.add(1);
            return refuse(conn, call_id, &status);
        }
        let observed = &conn.shard.tasks.observed;
        observed.go_on_with(CallObserver::new(Rc::clone(&self.hook), call));
        self.service.call(method, incoming);
        observed.end(conn, call_id, CallOutcome::Answered);
    }
}

/// A call that its hook has let through, and has not been told the end of.
pub(crate) struct CallObserver {
    hook: Rc<dyn ServerHook>,
    call: CallInfo,
    arrived_ns: u64,
    started_ns: u64,
    is_told: bool,
}

impl CallObserver {
    fn new(hook: Rc<dyn ServerHook>, call: CallInfo) -> Self {
        Self {
            arrived_ns: call.conn.arrived_ns.get(),
            started_ns: call.conn.shard.clock.now_ns(),
            hook,
            call,
            is_told: false,
        }
    }

    fn is_of(&self, conn: &Rc<Conn>, call_id: u64) -> bool {
        self.call.id() == call_id && Rc::ptr_eq(&self.call.conn, conn)
    }

    /// Tells the hook.
    pub(super) fn end(mut self, outcome: CallOutcome<'_>) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: CallOutcome<'_>) {
        self.is_told = true;
        let timings = CallTimings {
            arrived: Duration::from_nanos(self.arrived_ns),
            started: Duration::from_nanos(self.started_ns),
            done: Duration::from_nanos(self.call.conn.shard.clock.now_ns()),
        };
        let told = panics::caught(|| self.hook.on_done(&self.call, outcome, timings));
        if let Err(text) = told {
            note_panic(&self.call, &text);
        }
    }
}

impl Drop for CallObserver {
    /// Whoever dropped the call has said nothing: its shard ends.
    fn drop(&mut self) {
        if !self.is_told {
            self.tell(CallOutcome::Disconnected);
        }
    }
}

impl std::fmt::Debug for CallObserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallObserver")
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}

#[cold]
fn note_panic(call: &CallInfo, text: &str) {
    call.conn.shard.counters.panics.add(1);
    tracing::error!(
        panic = text,
        peer = call.peer(),
        call_id = call.id(),
        method = call.method().name,
        "the server's hook panicked"
    );
}

/// The call that is being handled, if it is observed.
#[derive(Debug, Default)]
pub(super) struct ObservedCall(RefCell<Option<CallObserver>>);

impl ObservedCall {
    fn go_on_with(&self, observer: CallObserver) {
        *self.0.borrow_mut() = Some(observer);
    }

    /// The call waits.
    pub(super) fn put_off(&self) -> Option<Box<CallObserver>> {
        self.0.borrow_mut().take().map(Box::new)
    }

    /// The call that waited goes on.
    pub(super) fn resume(&self, observer: Option<Box<CallObserver>>) {
        if let Some(observer) = observer {
            self.go_on_with(*observer);
        }
    }

    /// Tells the hook of a call that it has ended, unless that was told.
    pub(super) fn end(&self, conn: &Rc<Conn>, call_id: u64, outcome: CallOutcome<'_>) {
        let is_it = |observer: &mut CallObserver| observer.is_of(conn, call_id);
        let ended = self.0.borrow_mut().take_if(is_it);
        if let Some(observer) = ended {
            observer.end(outcome);
        }
    }
}
