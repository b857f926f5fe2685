//! Services, and the table that finds a method by its index.

use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::answer;
use super::call_info::Facts;
use super::conn::Conn;
use super::handler::{Method, start_handler};
use super::tasks::Started;
use crate::buf::Chunk;
use crate::panics;
use crate::rpc::request::Request;
use crate::wire::header::Header;
use crate::wire::limits::METHODS_MAX;
use crate::wire::resolve::{Directory, MethodDescriptor, ServiceDescriptor};

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
    pub(super) facts: Facts,
    pub(super) conn: &'a Rc<Conn>,
    pub(super) payload: Chunk,
}

impl IncomingCall<'_> {
    /// Validates the request, polls the handler at once, and sends its reply. A request that is
    /// no valid `Req`, or whose deadline has passed while it waited for room, reaches no handler. A
    /// handler that waits goes on as a task.
    #[inline(always)]
    pub fn unary<M: Method<H>, H: 'static>(self, handler: &Rc<H>) {
        // Not taken out: they are lent to the handler from where they lie, and looked up there.
        let facts = &self.facts;
        let (conn, payload) = (self.conn, self.payload);
        let shard = &conn.shard;
        // By the clock, not the turn: handlers before this one may have taken long.
        if facts.deadline_ns != u64::MAX && facts.deadline_ns <= shard.clock.now_ns() {
            return answer::refuse_expired(conn, facts.call_id);
        }
        let request = match Request::<M::Request>::validate(payload) {
            Ok(request) => request,
            Err(cause) => return answer::refuse_invalid(conn, facts.call_id, cause),
        };
        shard.counters.requests.add(1);
        match start_handler::<M, H>(&shard.tasks, handler, conn, facts, request) {
            // Most handlers; they are entered in no book.
            Started::Done => (),
            Started::Waiting(task) => {
                shard.await_call(conn, facts.call_id, task, facts.deadline_ns);
            }
            Started::Panicked(text) => shard.answer_panic(conn, facts.call_id, &text),
        }
    }

    /// Answers that there is no such method.
    pub fn unimplemented(self) {
        answer::refuse_unimplemented(self.conn, self.facts.call_id);
    }
}

/// All methods of a shard, found by index.
pub(crate) struct ServiceTable {
    /// Emptied when the shard ends: services may hold the shard, which holds this.
    methods: RefCell<Vec<Entry>>,
    /// Place and type fingerprint of each.
    by_name: BTreeMap<&'static str, (u16, u64)>,
}

/// Where a call goes.
struct Entry {
    /// Boxed apart from its count, so that the way to it is the same for every type.
    service: Rc<Box<dyn Service>>,
    /// Place of the method in the service's descriptor, and what stands there.
    method: u16,
    descriptor: &'static MethodDescriptor,
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
        let (mut methods, mut by_name) = (Vec::new(), BTreeMap::new());
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
                methods.push(Entry {
                    service: Rc::clone(&service),
                    method: place as u16,
                    descriptor: method,
                    expected_bytes: Cell::new(None),
                });
            }
        }
        Ok(Self {
            methods: RefCell::new(methods),
            by_name,
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
    /// Runs a call that arrived then, of a method that the connection has resolved. Its caller's time runs
    /// from there.
    #[inline(always)]
    pub(super) fn call(&self, conn: &Rc<Conn>, header: &Header, arrived_ns: u64, payload: Chunk) {
        let entry = &self.0[usize::from(header.selector)];
        let facts = Facts {
            call_id: header.call_id,
            deadline_ns: match header.timeout_us {
                0 => u64::MAX,
                timeout_us => arrived_ns + u64::from(timeout_us) * 1000,
            },
            method: entry.descriptor,
        };
        let call = IncomingCall {
            facts,
            conn,
            payload,
        };
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
        let methods = self.methods.borrow();
        let found = methods.get(usize::from(index));
        found.map_or(u32::MAX, |entry| entry.descriptor.request_bytes_max)
    }
}
