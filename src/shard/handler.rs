//! What runs on a shard: handlers of calls, and futures that were spawned.
#![allow(
    unsafe_code,
    reason = "the future of a handler borrows the handler and its context, which lie beside it"
)]

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use pin_project_lite::pin_project;

use super::answer;
use super::conn::Conn;
use super::context::Context;
use super::future_cell::{Fresh, FutureCell, Work};
use super::tasks::Origin;
use crate::proto::status::Status;
use crate::rpc::message::Message;
use crate::rpc::received::Request;
use crate::rpc::reply::Reply;

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

/// What the future of a handler borrows.
pub(super) struct Borrowed<H> {
    handler: Rc<H>,
    cx: Context,
}

/// Puts the future of a handler into its cell.
#[inline(always)]
pub(super) fn put_handler<'a, M: Method<H>, H: 'static>(
    cell: &'a mut FutureCell,
    handler: &Rc<H>,
    conn: &Rc<Conn>,
    deadline_ns: u64,
    request: ManuallyDrop<Request<M::Request>>,
) -> Fresh<'a, Borrowed<H>, impl Work + use<M, H>> {
    let own = || Borrowed {
        handler: Rc::clone(handler),
        cx: Context {
            conn: Rc::clone(conn),
            deadline_ns,
        },
    };
    // SAFETY: `Method::run` takes references of any lifetime, so it can't tell this one from
    // another: all it may do with it is to use it in the future that it returns.
    unsafe {
        cell.put(own, |borrowed| Answer {
            handler: M::run(
                &*borrowed.handler,
                &borrowed.cx,
                ManuallyDrop::into_inner(request),
            ),
            response: PhantomData,
        })
    }
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
        // SAFETY: it is not used again.
        unsafe { ManuallyDrop::drop(&mut polled) };
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
