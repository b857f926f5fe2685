//! What a connection sends, until it has gone, and which answers are queued at all.

use std::cell::{Ref, RefMut};

use super::outgoing::Outgoing;
use super::spare_buffers::SpareBuffers;
use super::{Connection, Role};
use crate::buf::SendQueue;
use crate::wire::frame_writer::append_error;
use crate::wire::status::Status;

/// Which answers the calls of a connection get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    All,
    /// Too much is held for its peer already.
    Brief,
    /// It has ended.
    None,
}

impl Connection {
    /// Whether its calls are answered whatever their answers are.
    #[inline(always)]
    pub(crate) fn takes_all_answers(&self) -> bool {
        self.answers.get() == Answers::All
    }

    /// Has long answers looked at before they are queued.
    pub(crate) fn answer_briefly(&self) {
        if self.is_open() {
            self.answers.set(Answers::Brief);
        }
    }

    /// Takes that back.
    pub(crate) fn answer_all(&self) {
        if self.is_open() {
            self.answers.set(Answers::All);
        }
    }

    /// Largest response that both sides accept, in bytes; zero before the handshake.
    pub(crate) fn response_bytes_max(&self) -> u32 {
        self.response_bytes_max.get()
    }

    /// Notes what the handshake has brought, if it has.
    #[inline]
    pub(crate) fn note_response_bytes_max(&self, bytes_max: u32) {
        self.response_bytes_max.set(bytes_max);
    }

    /// Queues the ERROR of a call.
    pub(crate) fn respond_error(&self, call_id: u64, status: &Status) {
        append_error(self.output.borrow_mut().filling(), call_id, status);
    }

    /// What is queued or being sent.
    #[inline(always)]
    pub(crate) fn output(&self) -> Ref<'_, SendQueue> {
        self.output.borrow()
    }

    /// The same, to be changed.
    #[inline(always)]
    pub(crate) fn output_mut(&self) -> RefMut<'_, SendQueue> {
        self.output.borrow_mut()
    }

    /// Takes what is queued, to be sent by the driver, who says then what has become of it: [`Connection::sent`]
    /// or [`Connection::not_sent`].
    #[inline]
    pub(crate) fn take_output(&self, spare: &SpareBuffers) -> Option<Outgoing> {
        Outgoing::take(&mut self.output.borrow_mut(), spare)
    }

    /// Books that `bytes` of a message have been sent, and whether that was its end.
    #[inline]
    pub(crate) fn sent(&self, bytes: usize, is_whole: bool) {
        self.output.borrow_mut().sent(bytes, is_whole);
    }

    /// Books that the rest of a message will never be sent.
    pub(crate) fn not_sent(&self, message: &Outgoing) {
        self.output.borrow_mut().sent(message.unsent_bytes(), true);
    }

    /// Tells the protocol how output stands; see [`Link::note_output`](super::link::Link::note_output).
    #[inline]
    pub(crate) fn note_output(&self, has_progressed: bool, now_ns: u64) {
        let is_waiting = !self.output.borrow().is_empty();
        match &mut *self.role.borrow_mut() {
            Role::Server(server) => server.link_mut(),
            Role::Client(client) => client.link_mut(),
        }
        .note_output(is_waiting, has_progressed, now_ns);
    }

    /// Whether there is something to do once a message has been sent: the next one, or what waited for
    /// room or for the end.
    #[inline]
    pub(crate) fn goes_on_after_send(&self) -> bool {
        !self.is_open() || self.pause.get().is_some() || self.output.borrow().has_ready()
    }
}
