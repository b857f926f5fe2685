//! One connection, as the calls and its driver share it.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use crate::proto::client::ClientConnection;
use crate::proto::framer::Body;
use crate::proto::limits::Limits;
use crate::rpc::received::SharedPayload;

/// Protocol state and queued output of one connection. The socket belongs to its driver.
#[derive(Debug)]
pub(super) struct Link {
    /// Names it among all that the client ever had.
    pub(super) id: u64,
    /// The waiters are places in the client's `CallSlots`.
    pub(super) connection: ClientConnection<u32>,
    /// What was queued since the driver last took it.
    pub(super) out: Vec<u8>,
    /// What the driver has taken and not written yet, in bytes.
    pub(super) unwritten_bytes: usize,
    /// Set while the driver sleeps and nothing is queued: whoever queues something wakes it.
    pub(super) driver: Option<Waker>,
    /// Calls that were ended by what the driver read last.
    pub(super) ended_at_once: usize,
    /// Whether the server has ended a call here: then it works.
    pub(super) has_served: bool,
}

impl Link {
    /// A connection that has just been made; says hello.
    pub(super) fn new(id: u64, limits: Arc<Limits>, now_ns: u64) -> Self {
        let mut out = Vec::new();
        Self {
            id,
            connection: ClientConnection::new(limits, now_ns, &mut out),
            out,
            unwritten_bytes: 0,
            driver: None,
            ended_at_once: 0,
            has_served: false,
        }
    }

    /// Number of calls that may be sent now.
    pub(super) fn room(&self) -> usize {
        let bytes_high = self.connection.link().limits().write_queue_bytes_high;
        let queued_bytes = self.out.len() + self.unwritten_bytes + self.connection.held_bytes();
        if queued_bytes > bytes_high {
            return 0;
        }
        self.connection.room_for_calls()
    }

    /// Whether the server takes no more calls and owes no response.
    pub(super) fn is_finished(&self) -> bool {
        self.connection.goaway().is_some() && self.connection.calls_in_flight() == 0
    }
}

/// The bytes of a response; `chunk` is what its frame was cut from.
pub(super) fn payload(body: Body, chunk: &Bytes) -> SharedPayload {
    SharedPayload::new(match body {
        Body::InPlace(range) => chunk.slice(range),
        Body::Gathered(buf) | Body::Direct(buf) => Bytes::from_owner(buf),
    })
}
