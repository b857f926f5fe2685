//! `cargo bench -p ringcall-benches --bench instructions`: what one call costs between two system
//! calls, in instructions and allocations, which don't depend on the machine's mood.
//!
//! Run alone it counts allocations and times. Run with a number it makes so many turns of calls,
//! for `valgrind --tool=callgrind`.

use std::time::Instant;

use harness::servers::Peer;
use harness::servers::ringcall::{URING, echo_service};
use harness::wire::{Answer, CALL_ID_AT};
use ringcall::__private::MemoryConnection;
use ringcall::Limits;

/// Calls in one turn, as 64 connections with 16 calls each bring them.
const CALLS: usize = 16;

fn main() {
    let turns = std::env::args()
        .skip(1)
        .find_map(|word| word.parse().ok())
        .unwrap_or(200_000);
    let mut connection = MemoryConnection::new(echo_service(), Limits::default());
    let mut sent = Vec::new();
    connection.exchange(&URING.preamble().concat(), &mut sent);
    let resolved = Answer {
        header: ringcall::proto::header::Header::decode(
            sent[80..112].try_into().expect("32 bytes"),
            1 << 20,
        )
        .expect("the answer to RESOLVE"),
        payload: sent[112..].iter().copied().take(2 + 12 * 2).collect(),
    };
    let request = URING.request(64, &[resolved]).expect("resolved");
    let mut requests = request.repeat(CALLS);
    let mut call_id = 0_u64;
    let begun = Instant::now();
    for _ in 0..turns {
        for frame in requests.chunks_mut(request.len()) {
            call_id += 1;
            frame[CALL_ID_AT..CALL_ID_AT + 8].copy_from_slice(&call_id.to_le_bytes());
        }
        sent.clear();
        assert!(connection.exchange(&requests, &mut sent));
        assert_eq!(sent.len(), requests.len());
    }
    let calls = turns * CALLS as u64;
    println!(
        "{calls} calls, {:.1} ns each",
        begun.elapsed().as_nanos() as f64 / calls as f64
    );
}
