//! Whole calls without sockets: what ringcall does between two system calls, which doesn't depend
//! on the machine's mood.

use ringcall::__private::{AlignedBuf, Chunk, MemoryConnection};
use ringcall::Limits;

use ringcall::__private::wire::header::Header;
use ringcall::__private::wire::limits::{HEADER_BYTES, PAYLOAD_BYTES_CEILING};

use crate::servers::Frames;
use crate::servers::ringcall::{URING, service};
use crate::wire::{Answer, CALL_ID_AT};
use crate::work::Work;

/// A shard with one connection, and requests for it.
pub struct MemoryCalls {
    connection: MemoryConnection,
    requests: Vec<u8>,
    request_bytes: usize,
    answers_bytes: usize,
    sent: Vec<u8>,
    call_id: u64,
}

impl MemoryCalls {
    /// With so many calls in each turn, as one receive brings them, or several where one buffer does
    /// not hold them.
    ///
    /// # Panics
    /// When the shard refuses the handshake.
    pub fn new(work: Work, calls_per_turn: usize) -> Self {
        let mut connection = MemoryConnection::new(service(work), Limits::default());
        let mut sent = Vec::new();
        assert!(connection.exchange(&URING.preamble().concat(), &mut sent));
        let answers = answers(&sent);
        let requests: Vec<_> = (0..calls_per_turn)
            .map(|number| URING.request(work, number, &answers).expect("resolved"))
            .collect();
        let answer_bytes = Answer::frame_bytes(URING.answer_bytes(work).expect("an archive"));
        Self {
            connection,
            request_bytes: requests[0].len(),
            requests: requests.concat(),
            answers_bytes: answer_bytes * calls_per_turn,
            sent,
            call_id: 0,
        }
    }

    /// One turn: all requests arrive, and all answers are handed out.
    ///
    /// # Panics
    /// When there is not one answer to each call.
    #[inline]
    pub fn turn(&mut self) {
        for frame in self.requests.chunks_mut(self.request_bytes) {
            self.call_id += 1;
            frame[CALL_ID_AT..CALL_ID_AT + 8].copy_from_slice(&self.call_id.to_le_bytes());
        }
        self.sent.clear();
        for received in self.requests.chunks(RECEIVED_BYTES_MAX) {
            assert!(self.connection.exchange(received, &mut self.sent));
        }
        assert_eq!(self.sent.len(), self.answers_bytes);
    }
}

/// One call without its frame: the method is looked up, the payload validated, the handler polled and
/// its answer encoded.
pub struct MemoryDispatch {
    connection: MemoryConnection,
    method: u16,
    payload: Chunk,
    answer_bytes: usize,
    call_id: u64,
}

impl MemoryDispatch {
    /// # Panics
    /// When the shard refuses the handshake.
    pub fn new(work: Work) -> Self {
        let mut calls = MemoryCalls::new(work, 1);
        // Gives the connection its send buffer.
        calls.turn();
        let wire = calls.requests.first_chunk().expect("a whole frame");
        let header = Header::decode(wire, PAYLOAD_BYTES_CEILING).expect("a valid header");
        let payload = &calls.requests[HEADER_BYTES..][..header.payload_bytes as usize];
        Self {
            connection: calls.connection,
            method: header.selector,
            payload: Chunk::from(AlignedBuf::copy_of(payload)),
            answer_bytes: calls.answers_bytes,
            call_id: calls.call_id,
        }
    }

    /// Runs the call.
    ///
    /// # Panics
    /// When it is not answered.
    #[inline]
    pub fn run(&mut self) {
        self.call_id += 1;
        let answered = self
            .connection
            .dispatch(self.method, self.call_id, &self.payload);
        assert_eq!(answered, self.answer_bytes);
    }
}

fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some(wire) = bytes.first_chunk() {
        let header = Header::decode(wire, PAYLOAD_BYTES_CEILING).expect("a valid header");
        let (frame, rest) = bytes.split_at(HEADER_BYTES + header.body_bytes());
        let payload = &frame[HEADER_BYTES..][..header.payload_bytes as usize];
        answers.push(Answer {
            header,
            payload: payload.to_vec(),
        });
        bytes = rest;
    }
    answers
}

/// Bytes of one receive buffer, of a server's default size; longer turns come in several.
const RECEIVED_BYTES_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Workload;

    #[test]
    fn every_workload_is_answered() {
        let workloads = [
            Workload::Echo,
            Workload::Order,
            Workload::Get,
            Workload::Put,
        ];
        for workload in workloads {
            let work = Work {
                workload,
                payload_bytes: 64,
            };
            let mut calls = MemoryCalls::new(work, 3);
            (0..3).for_each(|_| calls.turn());
            assert_eq!(calls.call_id, 9);
        }
    }

    #[test]
    fn a_turn_of_several_receives_is_answered() {
        let work = Work {
            workload: Workload::Echo,
            payload_bytes: 4096,
        };
        let mut calls = MemoryCalls::new(work, 16);
        assert!(calls.requests.len() > RECEIVED_BYTES_MAX);
        (0..3).for_each(|_| calls.turn());
        assert_eq!(calls.call_id, 48);
    }
}
