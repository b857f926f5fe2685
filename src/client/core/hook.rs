//! The hook of a client: asked before a call is made, told when it has ended.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::options::CallOptions;
use crate::client::Caller;
use crate::panics;
use crate::rpc::outcome::CallOutcome;
use crate::wire::resolve::MethodDescriptor;
use crate::wire::status::Status;

/// Looks at every call of a client: for deadlines, metrics, traces. All clients take one: by
/// [`ClientBuilder::hook`](crate::ClientBuilder::hook), [`LocalClient::hook`](crate::LocalClient::hook) and
/// [`BlockingClient::hook`](crate::BlockingClient::hook).
///
/// Both functions run where the call is polled or dropped, so they must not wait. A panic in one is contained
/// and logged.
///
/// ```
/// use std::time::Duration;
/// use ringcall::{CallOptions, ClientHook, MethodDescriptor};
///
/// /// No call waits for ever.
/// struct Patience;
///
/// impl ClientHook for Patience {
///     fn before(&self, _method: &'static MethodDescriptor, options: &mut CallOptions) {
///         if options.deadline().is_none() {
///             options.set_deadline(Some(Duration::from_secs(1)));
///         }
///     }
/// }
/// ```
pub trait ClientHook: 'static {
    /// A call is polled for the first time, or waited for. What is set here is what it is made with.
    ///
    /// When this panics, the call is not sent, and fails with INTERNAL. By default nothing is done.
    fn before(&self, _method: &'static MethodDescriptor, _options: &mut CallOptions) {}

    /// The call has ended: it was answered, has failed, or was dropped, after `latency` since
    /// [`ClientHook::before`], which this follows once, if that has not panicked.
    ///
    /// By default nothing is done.
    fn after(
        &self,
        _method: &'static MethodDescriptor,
        _outcome: CallOutcome<'_>,
        _latency: Duration,
    ) {
    }
}

/// Several clients or shards may share one.
macro_rules! shared_by {
    ($($owner:ident)*) => {$(
        impl<H: ClientHook + ?Sized> ClientHook for $owner<H> {
            fn before(&self, method: &'static MethodDescriptor, options: &mut CallOptions) {
                (**self).before(method, options);
            }

            fn after(
                &self,
                method: &'static MethodDescriptor,
                outcome: CallOutcome<'_>,
                latency: Duration,
            ) {
                (**self).after(method, outcome, latency);
            }
        }
    )*};
}

shared_by!(Arc Rc);

/// A hook that a client holds, of which its `Debug` says no more.
#[derive(Clone)]
pub(crate) struct Installed<P>(pub(crate) P);

/// The hook of a client that several threads use.
pub(crate) type SharedHook = Installed<Arc<dyn ClientHook + Send + Sync>>;

impl<P> fmt::Debug for Installed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientHook")
    }
}

/// A call that a hook was told of, and was not told the end of.
pub(crate) struct Told<'a, C: Caller> {
    caller: &'a C,
    method: &'static MethodDescriptor,
    begun_ns: u64,
}

impl<'a, C: Caller> Told<'a, C> {
    /// Tells the hook, if there is one, that a call begins.
    #[inline]
    pub(crate) fn begin(
        caller: &'a C,
        method: &'static MethodDescriptor,
        options: &mut CallOptions,
    ) -> Result<Option<Self>, Status> {
        match caller.hook() {
            None => Ok(None),
            Some(hook) => Self::begin_with(hook, caller, method, options).map(Some),
        }
    }

    #[cold]
    fn begin_with(
        hook: &dyn ClientHook,
        caller: &'a C,
        method: &'static MethodDescriptor,
        options: &mut CallOptions,
    ) -> Result<Self, Status> {
        let begun_ns = caller.now_ns();
        panics::caught(|| hook.before(method, options)).map_err(|text| {
            note_panic(method, &text);
            Status::internal("the client's hook panicked; the call was not sent")
        })?;
        Ok(Self {
            caller,
            method,
            begun_ns,
        })
    }

    /// Tells the hook that the call has ended.
    pub(crate) fn end(self, outcome: CallOutcome<'_>) {
        self.tell(outcome);
        // Its drop would say that the call was given up.
        std::mem::forget(self);
    }

    #[cold]
    fn tell(&self, outcome: CallOutcome<'_>) {
        let Some(hook) = self.caller.hook() else {
            return;
        };
        let latency_ns = self.caller.now_ns().saturating_sub(self.begun_ns);
        let latency = Duration::from_nanos(latency_ns);
        if let Err(text) = panics::caught(|| hook.after(self.method, outcome, latency)) {
            note_panic(self.method, &text);
        }
    }
}

impl<C: Caller> Drop for Told<'_, C> {
    fn drop(&mut self) {
        self.tell(CallOutcome::Cancelled);
    }
}

#[cold]
fn note_panic(method: &MethodDescriptor, text: &str) {
    tracing::error!(
        panic = text,
        method = method.name,
        "the client's hook panicked"
    );
}
