//! Services, and the table that finds a method by its index.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::answer;
use super::conn::Conn;
use super::handler::{Method, start_handler};
use super::tasks::Started;
use crate::buf::Chunk;
use crate::panics;
use crate::rpc::request::Request;
use crate::wire::limits::METHODS_MAX;
use crate::wire::resolve::{Directory, ServiceDescriptor};

/// A service on one shard. `#[ringcall::service]` implements it for its `…Server` type.
pub trait Service: 'static {
    /// The names and type fingerprints of its methods.
    fn descriptor(&self) -> &'static ServiceDescriptor;

    /// Runs the method at this place of the descriptor.
    fn call(&self, method: u16, call: IncomingCall<'_>);
}

/// What the factory of a server makes for each shard: a service, a tuple of up to six, or a `Result` of
/// either whose error says why they can't be made.
pub trait IntoServices {
    /// The services, in order.
    ///
    /// # Errors
    /// Why there are none, in words.
    fn into_services(self) -> Result<Vec<Box<dyn Service>>, String>;
}

impl<S: IntoServices, E: std::fmt::Display> IntoServices for Result<S, E> {
    fn into_services(self) -> Result<Vec<Box<dyn Service>>, String> {
        self.map_err(|error| error.to_string())?.into_services()
    }
}

impl<S: Service> IntoServices for S {
    fn into_services(self) -> Result<Vec<Box<dyn Service>>, String> {
        Ok(vec![Box::new(self)])
    }
}

impl IntoServices for Vec<Box<dyn Service>> {
    fn into_services(self) -> Result<Vec<Box<dyn Service>>, String> {
        Ok(self)
    }
}

macro_rules! tuples {
    ($(($($service:ident),+))*) => {
        $(impl<$($service: Service),+> IntoServices for ($($service,)+) {
            #[expect(non_snake_case, reason = "the type parameters name the variables too")]
            fn into_services(self) -> Result<Vec<Box<dyn Service>>, String> {
                let ($($service,)+) = self;
                Ok(vec![$(Box::new($service)),+])
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
    /// `u64::MAX`: none.
    pub(super) deadline_ns: u64,
    pub(super) payload: Chunk,
}

impl IncomingCall<'_> {
    /// Validates the request, polls the handler at once, and sends its reply. A request that is
    /// no valid `Req`, or whose deadline has passed while it waited for room, reaches no handler. A
    /// handler that waits goes on as a task.
    #[inline(always)]
    pub fn unary<M: Method<H>, H: 'static>(self, handler: &Rc<H>) {
        let Self {
            conn,
            call_id,
            deadline_ns,
            payload,
        } = self;
        let shard = &conn.shard;
        // By the clock, not the turn: handlers before this one may have taken long.
        if deadline_ns != u64::MAX && deadline_ns <= shard.clock.now_ns() {
            return answer::refuse_expired(conn, call_id);
        }
        let request = match Request::<M::Request>::validate(payload) {
            Ok(request) => request,
            Err(cause) => return answer::refuse_invalid(conn, call_id, cause),
        };
        shard.counters.requests.add(1);
        let started =
            start_handler::<M, H>(&shard.tasks, handler, conn, call_id, deadline_ns, request);
        match started {
            // Most handlers; they are entered in no book.
            Started::Done => (),
            Started::Waiting(task) => shard.await_call(conn, call_id, task, deadline_ns),
            Started::Panicked(text) => shard.answer_panic(conn, call_id, &text),
        }
    }

    /// Answers that there is no such method.
    pub fn unimplemented(self) {
        answer::refuse_unimplemented(self.conn, self.call_id);
    }
}

/// All methods of a shard, found by index.
pub(crate) struct ServiceTable {
    /// Emptied when the shard ends: services may hold the shard, which holds this.
    methods: RefCell<Vec<Entry>>,
    /// Place and type fingerprint of each.
    by_name: HashMap<&'static str, (u16, u64)>,
    /// The longest request of each, in bytes.
    request_bytes_max: Vec<u32>,
}

/// Where a call goes.
struct Entry {
    /// Boxed apart from its count, so that the way to it is the same for every type.
    service: Rc<Box<dyn Service>>,
    /// Place of the method in the service's descriptor.
    method: u16,
    /// Length of a long answer that it gave last while memory was short; zero when it was short. `None`:
    /// it has given none yet.
    expected_bytes: Cell<Option<usize>>,
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
        let mut request_bytes_max = Vec::new();
        for service in services.into_iter().map(Rc::new) {
            for (place, method) in service.descriptor().methods.iter().enumerate() {
                let index = methods.len();
                if index == METHODS_MAX {
                    return Err(format!(
                        "more than {METHODS_MAX} methods: use several servers"
                    ));
                }
                let found = (index as u16, method.fingerprint);
                if by_name.insert(method.name, found).is_some() {
                    return Err(format!(
                        "method {} is registered twice: give one of the services another name",
                        method.name
                    ));
                }
                request_bytes_max.push(method.request_bytes_max);
                methods.push(Entry {
                    service: Rc::clone(&service),
                    method: place as u16,
                    expected_bytes: Cell::new(None),
                });
            }
        }
        Ok(Self {
            methods: RefCell::new(methods),
            by_name,
            request_bytes_max,
        })
    }

    /// Whether nothing can be called.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Drops the services, each apart from the others, and tells what the panics of their drops say.
    pub(super) fn clear(&self, mut panicked: impl FnMut(String)) {
        for entry in self.methods.take() {
            if let Err(text) = panics::caught(|| drop(entry)) {
                panicked(text);
            }
        }
    }

    /// For some calls.
    #[inline]
    pub(super) fn open(&self) -> OpenTable<'_> {
        OpenTable(self.methods.borrow())
    }
}

/// Shorter answers are not worth expecting.
const LONG_ANSWER_BYTES_MIN: usize = 16 << 10;

/// The table while calls are made.
pub(super) struct OpenTable<'a>(Ref<'a, Vec<Entry>>);

impl OpenTable<'_> {
    /// Runs a call of the method with this index, which the connection has resolved.
    #[inline(always)]
    pub(super) fn call(&self, index: u16, call: IncomingCall<'_>) {
        let entry = &self.0[usize::from(index)];
        entry.service.call(entry.method, call);
    }

    /// Length of an answer of this method that there should be memory for before it is called. As long as
    /// nothing is known, that is the length of the request.
    pub(super) fn expected_bytes(&self, index: u16, request_bytes: usize) -> usize {
        let expected = self.0[usize::from(index)].expected_bytes.get();
        expected.unwrap_or(request_bytes)
    }

    /// Learns from an answer what to expect of the next. It is forgotten more slowly than learnt.
    pub(super) fn learn(&self, index: u16, answer_bytes: usize) {
        let expected = &self.0[usize::from(index)].expected_bytes;
        let forgotten = expected.get().unwrap_or_default() / 2;
        let bytes = answer_bytes.max(forgotten);
        let is_long = bytes >= LONG_ANSWER_BYTES_MIN;
        expected.set(Some(if is_long { bytes } else { 0 }));
    }
}

impl Directory for ServiceTable {
    fn find(&self, name: &str) -> Option<(u16, u64)> {
        self.by_name.get(name).copied()
    }

    fn request_bytes_max(&self, index: u16) -> u32 {
        let found = self.request_bytes_max.get(usize::from(index));
        found.copied().unwrap_or(u32::MAX)
    }
}
