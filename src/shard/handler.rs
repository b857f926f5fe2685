//! What runs on a shard: handlers of calls, and futures that were spawned.
#![allow(
    unsafe_code,
    reason = "the future of a handler borrows the handler and its context, which lie beside it"
)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::Poll;

use pin_project_lite::pin_project;

use super::answer;
use super::call_info::{CallInfo, Facts};
use super::conn::Conn;
use super::context::Context;
use super::future_cell::{Fresh, FutureCell, Keep, Work};
use super::purpose::Origin;
use super::tasks::{Started, Tasks};
use crate::rpc::message::Message;
use crate::rpc::reply::Reply;
use crate::rpc::request::Request;
use crate::wire::status::Status;

/// One method of a service whose handlers are of type `H`. `#[ringcall::service]` implements it.
pub trait Method<H>: 'static {
    /// What the method takes.
    type Request: Message;
    /// What it returns.
    type Response: Message;

    /// Runs it for one call.
    fn run<'a>(
        handler: &'a H,
        cx: &'a Context,
        request: Request<Self::Request>,
    ) -> impl Future<Output = Result<Reply<Self::Response>, Status>> + 'a;
}

/// What lies with its lender until it must be kept; then it is copied, and never changes.
pub(super) struct Lent<T: Copy> {
    /// `None` once it was copied.
    lender: Cell<Option<NonNull<T>>>,
    copy: Cell<MaybeUninit<T>>,
}

impl<T: Copy> Lent<T> {
    /// # Safety
    /// `lender` is neither changed nor gone until this is kept or gone.
    #[inline(always)]
    unsafe fn lend(lender: &T) -> Self {
        Self {
            lender: Cell::new(Some(NonNull::from(lender))),
            copy: Cell::new(MaybeUninit::uninit()),
        }
    }

    /// What nobody lends.
    pub(super) fn owned(value: T) -> Self {
        Self {
            lender: Cell::new(None),
            copy: Cell::new(MaybeUninit::new(value)),
        }
    }

    /// Whether it lies with its lender still.
    #[inline(always)]
    fn is_lent(&self) -> bool {
        self.lender.get().is_some()
    }

    fn keep(&self) {
        self.copy.set(MaybeUninit::new(self.get()));
        self.lender.set(None);
    }

    #[inline]
    pub(super) fn get(&self) -> T {
        match self.lender.get() {
            // SAFETY: it is still there, as `lend` was promised.
            Some(lender) => unsafe { *lender.as_ref() },
            // SAFETY: set where `lender` is, in `owned` and before `keep` takes that away.
            None => unsafe { self.copy.get().assume_init() },
        }
    }
}

/// A clone has a lender of its own: itself.
impl<T: Copy> Clone for Lent<T> {
    fn clone(&self) -> Self {
        Self::owned(self.get())
    }
}

/// What the future of a handler borrows. Most handlers end at their first poll, during which whoever
/// calls them holds both: only those that wait count themselves among the holders.
struct Borrowed<H> {
    handler: ManuallyDrop<Rc<H>>,
    cx: ManuallyDrop<Context>,
}

impl<H> Borrowed<H> {
    /// # Safety
    /// All are held by others until this is kept or gone.
    #[inline(always)]
    unsafe fn lend(handler: &Rc<H>, conn: &Rc<Conn>, facts: &Facts) -> Self {
        // SAFETY: these are second owners that are not counted, which is sound as long as a counted one
        // lives, as the caller promises, and none of them is dropped: `drop` sees to that.
        let (handler, conn) = unsafe {
            (
                Rc::from_raw(Rc::as_ptr(handler)),
                Rc::from_raw(Rc::as_ptr(conn)),
            )
        };
        // SAFETY: the caller's promise.
        let facts = unsafe { Lent::lend(facts) };
        Self {
            handler: ManuallyDrop::new(handler),
            cx: ManuallyDrop::new(Context {
                call: CallInfo { conn, facts },
            }),
        }
    }
}

impl<H: 'static> Keep for Borrowed<H> {
    #[cold]
    fn keep(&self) {
        let CallInfo { conn, facts } = &self.cx.call;
        if facts.is_lent() {
            facts.keep();
            std::mem::forget((Rc::clone(&self.handler), Rc::clone(conn)));
        }
    }
}

impl<H> Drop for Borrowed<H> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.cx.call.facts.is_lent() {
            // SAFETY: they are counted since `keep`, and not used again.
            unsafe {
                ManuallyDrop::drop(&mut self.handler);
                ManuallyDrop::drop(&mut self.cx);
            }
        }
    }
}

/// Polls the handler of a call for the first time.
#[inline(always)]
pub(super) fn start_handler<M: Method<H>, H: 'static>(
    tasks: &Tasks,
    handler: &Rc<H>,
    conn: &Rc<Conn>,
    facts: &Facts,
    request: Request<M::Request>,
) -> Started {
    // Dropped by the handler. A destructor on this side, were there one, would keep the request from
    // staying in registers.
    let request = ManuallyDrop::new(request);
    // SAFETY: `handler`, `conn` and `facts` are held until this function returns, and `Tasks::start` lets
    // no future live longer that is not kept.
    let own = || unsafe { Borrowed::lend(handler, conn, facts) };
    let call_id = facts.call_id;
    let make = |borrowed: &'static Borrowed<H>| Answer {
        handler: M::run(
            &*borrowed.handler,
            &borrowed.cx,
            ManuallyDrop::into_inner(request),
        ),
        response: PhantomData,
    };
    tasks.start(
        // SAFETY: `Method::run` takes references of any lifetime, so it can't tell this one from
        // another: all it may do with it is to use it in the future that it returns.
        |cell| unsafe { cell.put(own, make) },
        Origin::Call { conn, call_id },
    )
}

/// Puts a future that belongs to no call into its cell.
pub(super) fn put_background<F: Future<Output = ()> + 'static>(
    cell: &mut FutureCell,
    future: F,
) -> Fresh<'_, (), Background<F>> {
    // SAFETY: nothing is borrowed.
    unsafe { cell.put(|| (), |()| Background { future }) }
}

pin_project! {
    /// The future of a handler, whose result is sent to whoever called.
    struct Answer<Fut, Resp> {
        #[pin]
        handler: Fut,
        response: PhantomData<fn() -> Resp>,
    }
}

impl<Resp, Fut> Work for Answer<Fut, Resp>
where
    Resp: Message,
    Fut: Future<Output = Result<Reply<Resp>, Status>> + 'static,
{
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, origin: Origin<'_>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let Origin::Call { conn, call_id } = origin else {
            unreachable!("handlers are started by calls")
        };
        // Looked at where it lies: moving a reply would cost more than sending it.
        let mut polled = ManuallyDrop::new(self.project().handler.poll(cx));
        match &mut *polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(reply)) => {
                answer::respond(conn, call_id, reply);
                if reply.needs_no_drop() {
                    return Poll::Ready(());
                }
            }
            Poll::Ready(Err(status)) => answer::respond_error(conn, call_id, status),
        }
        let tasks = &conn.shard.tasks;
        tasks.is_answered.set(true);
        // SAFETY: it is not used again.
        unsafe { ManuallyDrop::drop(&mut polled) };
        tasks.is_answered.set(false);
        Poll::Ready(())
    }
}

pin_project! {
    /// A future that was spawned.
    pub(super) struct Background<F> {
        #[pin]
        pub(super) future: F,
    }
}

impl<F: Future<Output = ()> + 'static> Work for Background<F> {
    fn poll(
        self: Pin<&mut Self>,
        _origin: Origin<'_>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<()> {
        self.project().future.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_is_read_where_it_lies_until_it_is_kept() {
        let lender = Box::new([7_u64; 3]);
        // SAFETY: it is kept before the lender goes.
        let lent = unsafe { Lent::lend(&*lender) };
        let (copy, early) = (lent.clone(), lent.get());
        assert!(lent.is_lent() && !copy.is_lent());
        lent.keep();
        drop(lender);
        assert!(!lent.is_lent());
        assert_eq!([early, lent.get(), copy.get()], [[7; 3]; 3]);
        assert_eq!(copy.clone().get(), [7; 3]);
    }
}
