//! What tasks are for.

use std::rc::Rc;

use super::conn::Conn;
use super::hook::{CallObserver, ObservedCall};

/// What a task is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// It runs the handler of a call.
    Call {
        /// Where the call came from.
        conn: Rc<Conn>,
        /// Its id.
        call_id: u64,
        /// While it waits: who is told of its end.
        observer: Option<Box<CallObserver>>,
    },
    /// It was spawned.
    Background,
}

/// A borrowed [`Purpose`]. Most handlers end at their first poll and need no other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    /// A call.
    Call {
        /// Where it came from.
        conn: &'a Rc<Conn>,
        /// Its id.
        call_id: u64,
    },
    /// No call.
    Background,
}

impl Purpose {
    pub(super) fn origin(&self) -> Origin<'_> {
        match self {
            Self::Call { conn, call_id, .. } => Origin::Call {
                conn,
                call_id: *call_id,
            },
            Self::Background => Origin::Background,
        }
    }

    /// It waits, and so does whoever is told of its end.
    pub(super) fn put_off(&mut self, observed: &ObservedCall) {
        if let Self::Call { observer, .. } = self {
            *observer = observed.put_off();
        }
    }

    /// It goes on.
    pub(super) fn go_on(&mut self, observed: &ObservedCall) {
        if let Self::Call { observer, .. } = self {
            observed.resume(observer.take());
        }
    }
}

impl Origin<'_> {
    pub(super) fn to_purpose(self) -> Purpose {
        match self {
            Self::Call { conn, call_id } => Purpose::Call {
                conn: Rc::clone(conn),
                call_id,
                observer: None,
            },
            Self::Background => Purpose::Background,
        }
    }
}
