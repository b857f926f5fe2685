//! Services, and the table that finds a method by its index.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use pin_project_lite::pin_project;

use super::conn::Conn;
use super::context::Context;
use super::dispatch;
use super::tasks::Purpose;
use crate::proto::limits::METHODS_MAX;
use crate::proto::resolve::{Directory, ServiceDescriptor};
use crate::proto::status::Status;
use crate::rpc::message::Message;
use crate::rpc::received::{LocalPayload, Request};
use crate::rpc::reply::Reply;

/// A service on one shard. `#[ringcall::service]` implements it for its `…Server` type.
pub trait Service: 'static {
    /// The names and type fingerprints of its methods.
    fn descriptor(&self) -> &'static ServiceDescriptor;

    /// Runs the method at this place of the descriptor.
    fn call(&self, method: u16, call: IncomingCall<'_>);
}

/// What the factory of a server makes for each shard: a service, or a tuple of up to six.
pub trait IntoServices {
    /// The services, in order.
    fn into_services(self) -> Vec<Box<dyn Service>>;
}

impl<S: Service> IntoServices for S {
    fn into_services(self) -> Vec<Box<dyn Service>> {
        vec![Box::new(self)]
    }
}

impl IntoServices for Vec<Box<dyn Service>> {
    fn into_services(self) -> Self {
        self
    }
}

macro_rules! tuples {
    ($(($($service:ident),+))*) => {
        $(impl<$($service: Service),+> IntoServices for ($($service,)+) {
            #[expect(non_snake_case, reason = "the type parameters name the variables too")]
            fn into_services(self) -> Vec<Box<dyn Service>> {
                let ($($service,)+) = self;
                vec![$(Box::new($service)),+]
            }
        })*
    };
}

tuples!((A)(A, B)(A, B, C)(A, B, C, D)(A, B, C, D, E)(
    A, B, C, D, E, F
));

/// A call that has arrived, not yet validated.
#[derive(Debug)]
pub struct IncomingCall<'a> {
    pub(super) conn: &'a Rc<Conn>,
    pub(super) call_id: u64,
    pub(super) timeout_us: u32,
    pub(super) arrived_ns: u64,
    pub(super) payload: LocalPayload,
}

impl IncomingCall<'_> {
    /// Validates the request, polls the handler at once, and sends its reply. A request that is
    /// no valid `Req`, or whose deadline has passed while it waited for room, reaches no handler. A
    /// handler that waits goes on as a task.
    #[inline]
    pub fn unary<Req, Resp, F, Fut>(self, handler: F)
    where
        Req: Message,
        Resp: Message,
        F: FnOnce(Context, Request<Req>) -> Fut,
        Fut: Future<Output = Result<Reply<Resp>, Status>> + 'static,
    {
        let Self {
            conn,
            call_id,
            timeout_us,
            arrived_ns,
            payload,
        } = self;
        let shard = &conn.shard;
        let deadline_ns = (timeout_us != 0).then(|| arrived_ns + u64::from(timeout_us) * 1000);
        if deadline_ns.is_some_and(|deadline_ns| deadline_ns <= shard.now_ns()) {
            return dispatch::refuse_expired(conn, call_id);
        }
        let Some(request) = Request::<Req>::validate(payload) else {
            return dispatch::refuse_invalid(conn, call_id);
        };
        shard.counters.requests.add(1);
        let answer = handler(
            Context {
                conn: Rc::clone(conn),
                deadline_ns,
            },
            request,
        );
        let run = RunCall {
            answer,
            conn: Rc::clone(conn),
            call_id,
        };
        let started = shard.tasks.start(run, || Purpose::Call {
            conn: Rc::clone(conn),
            call_id,
        });
        shard.settle_new_call(started, conn, call_id, deadline_ns);
    }

    /// Answers that there is no such method.
    pub fn unimplemented(self) {
        dispatch::refuse_unimplemented(self.conn, self.call_id);
    }
}

pin_project! {
    /// A handler's future and what is needed to send its result. An `async` block would hold the
    /// handler's future twice: as what it captured and as what it awaits.
    struct RunCall<Fut> {
        #[pin]
        answer: Fut,
        conn: Rc<Conn>,
        call_id: u64,
    }
}

impl<Resp, Fut> Future for RunCall<Fut>
where
    Resp: Message,
    Fut: Future<Output = Result<Reply<Resp>, Status>>,
{
    type Output = ();

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let this = self.project();
        let answer = ready!(this.answer.poll(cx));
        dispatch::respond(this.conn, *this.call_id, answer);
        Poll::Ready(())
    }
}

/// All methods of a shard, found by index.
pub(crate) struct ServiceTable {
    /// Emptied when the shard ends: services may hold the shard, which holds this.
    services: RefCell<Vec<Box<dyn Service>>>,
    methods: Vec<Method>,
    by_name: HashMap<&'static str, u16>,
}

#[derive(Debug)]
struct Method {
    fingerprint: u64,
    service: u16,
    method: u16,
}

impl std::fmt::Debug for ServiceTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceTable")
            .field("methods", &self.by_name)
            .finish_non_exhaustive()
    }
}

impl ServiceTable {
    /// Indexes the methods. The error names what stands twice or is too much.
    pub(crate) fn new(services: Vec<Box<dyn Service>>) -> Result<Self, String> {
        let (mut methods, mut by_name) = (Vec::new(), HashMap::new());
        for (number, service) in services.iter().enumerate() {
            for (place, method) in service.descriptor().methods.iter().enumerate() {
                let index = methods.len();
                if index == METHODS_MAX {
                    return Err(format!(
                        "more than {METHODS_MAX} methods: use several servers"
                    ));
                }
                if by_name.insert(method.name, index as u16).is_some() {
                    return Err(format!(
                        "method {} is registered twice: give one of the services another name",
                        method.name
                    ));
                }
                methods.push(Method {
                    fingerprint: method.fingerprint,
                    service: number as u16,
                    method: place as u16,
                });
            }
        }
        Ok(Self {
            services: RefCell::new(services),
            methods,
            by_name,
        })
    }

    /// Whether nothing can be called.
    pub(crate) fn is_empty(&self) -> bool {
        self.methods.is_empty()
    }

    /// Drops the services.
    pub(super) fn clear(&self) {
        drop(self.services.take());
    }

    /// Runs a call of the method with this index, which the connection has resolved.
    #[inline]
    pub(super) fn call(&self, index: u16, call: IncomingCall<'_>) {
        let method = &self.methods[usize::from(index)];
        let services = self.services.borrow();
        services[usize::from(method.service)].call(method.method, call);
    }
}

impl Directory for ServiceTable {
    fn find(&self, name: &str) -> Option<(u16, u64)> {
        let index = *self.by_name.get(name)?;
        Some((index, self.methods[usize::from(index)].fingerprint))
    }
}
