//! The calls in flight on one connection, and the bytes that ask for the next ones.

use std::io;

use super::recorder::Recorder;
use crate::wire::CALL_ID_AT;

/// Keeps `depth` calls in flight: each answer queues the next request.
///
/// A call id is a sequence number with the call's slot in its low bits, so ids strictly increase
/// and answers are found in any order. Requests are queued in one of two batches of encoded frames
/// while the kernel sends the other; only call ids are written.
pub(super) struct Calls {
    slots: Vec<Slot>,
    slot_bits: u32,
    sequence: u64,
    frame_bytes: usize,
    batches: [Box<[u8]>; 2],
    filling: usize,
    queued: usize,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    call_id: u64,
    queued_at_ns: u64,
}

impl Calls {
    /// With one request for each call in flight, all equally long. A request keeps its place in the
    /// batches, whichever call it is sent for.
    pub(super) fn new(requests: &[Vec<u8>]) -> Self {
        let frame_bytes = requests[0].len();
        assert!(requests.iter().all(|request| request.len() == frame_bytes));
        let depth = requests.len();
        Self {
            slots: vec![Slot::default(); depth],
            slot_bits: depth.next_power_of_two().trailing_zeros(),
            sequence: 0,
            frame_bytes,
            batches: [(); 2].map(|()| requests.concat().into_boxed_slice()),
            filling: 0,
            queued: 0,
        }
    }

    /// Queues the first request of every slot.
    pub(super) fn start(&mut self, now_ns: u64) {
        for slot in 0..self.slots.len() {
            self.queue(slot, now_ns);
        }
    }

    /// Records an answered call and queues the next request in its place.
    #[inline]
    pub(super) fn answered(
        &mut self,
        call_id: u64,
        now_ns: u64,
        recorder: &mut Recorder,
    ) -> io::Result<()> {
        let slot = (call_id & ((1 << self.slot_bits) - 1)) as usize;
        match self.slots.get(slot) {
            Some(call) if call.call_id == call_id => recorder.record(now_ns - call.queued_at_ns),
            _ => return Err(not_in_flight(call_id)),
        }
        self.queue(slot, now_ns);
        Ok(())
    }

    /// Whether requests wait to be sent.
    #[inline]
    pub(super) fn has_queued(&self) -> bool {
        self.queued > 0
    }

    /// The bytes of all queued requests. They stay as they are until the next call of this method,
    /// which must wait for the end of their sending.
    #[inline]
    pub(super) fn take_batch(&mut self) -> &[u8] {
        let bytes = self.queued * self.frame_bytes;
        let batch = &self.batches[self.filling][..bytes];
        self.filling ^= 1;
        self.queued = 0;
        batch
    }

    #[inline]
    fn queue(&mut self, slot: usize, now_ns: u64) {
        self.sequence += 1;
        let call_id = self.sequence << self.slot_bits | slot as u64;
        self.slots[slot] = Slot {
            call_id,
            queued_at_ns: now_ns,
        };
        let at = self.queued * self.frame_bytes + CALL_ID_AT;
        self.batches[self.filling][at..at + 8].copy_from_slice(&call_id.to_le_bytes());
        self.queued += 1;
    }
}

#[cold]
fn not_in_flight(call_id: u64) -> io::Error {
    io::Error::other(format!(
        "the server answered call {call_id:#x}, which is not in flight"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{any_payload, request};

    fn ids(batch: &[u8]) -> Vec<u64> {
        batch
            .chunks(96)
            .map(|frame| u64::from_le_bytes(*frame[CALL_ID_AT..].first_chunk().unwrap()))
            .collect()
    }

    #[test]
    fn ids_increase_and_answers_come_in_any_order() {
        let mut calls = Calls::new(&vec![request(0, &any_payload(64)); 3]);
        let mut recorder = Recorder::new();
        calls.start(100);
        let first = ids(calls.take_batch());
        for id in first.iter().rev() {
            calls.answered(*id, 150, &mut recorder).unwrap();
        }
        let second = ids(calls.take_batch());
        assert!([first.clone(), second].concat().is_sorted_by(|a, b| a < b));
        assert!(
            calls.answered(first[0], 150, &mut recorder).is_err(),
            "twice"
        );
        assert!(!calls.has_queued());
        assert_eq!(recorder.finish().count_at(50), 3);
    }

    #[test]
    fn a_batch_in_flight_is_left_alone() {
        let mut calls = Calls::new(&vec![request(0, &any_payload(64)); 2]);
        let mut recorder = Recorder::new();
        calls.start(0);
        let (batch, sent) = {
            let batch = calls.take_batch();
            (batch.as_ptr(), batch.to_vec())
        };
        for id in ids(&sent) {
            calls.answered(id, 1, &mut recorder).unwrap();
        }
        assert_eq!(&*calls.batches[0], sent, "unchanged while the other fills");
        assert_ne!(calls.take_batch().as_ptr(), batch);
    }
}
