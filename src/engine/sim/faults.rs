//! What may go wrong in a run, and how often: drawn from its seed, too.

use fastrand::Rng;

/// Chances are parts of 1.
#[derive(Clone, Debug)]
pub struct Faults {
    /// That a send or receive moves fewer bytes than it could.
    pub cut: f64,
    /// The most bytes that a cut one moves.
    pub cut_bytes_max: usize,
    /// That an operation takes longer than it must.
    pub slow_operation: f64,
    /// That a multishot operation ends although there is more to come.
    pub multishot_ends: f64,
    /// That a receive is told that there is no buffer although there is one.
    pub no_buffer: f64,
    /// That an accept fails for want of descriptors.
    pub accept_fails: f64,
    /// That a connection is refused.
    pub refused: f64,
    /// That whoever connects never hears of it.
    pub swallowed: f64,
    /// Time that bytes are on their way, in nanoseconds: at least this much, and at most.
    pub latency_ns: (u64, u64),
    /// Bytes that a peer takes without reading them.
    pub window_bytes: usize,
    /// That something happens to the world within a millisecond.
    pub disaster: f64,
    /// That a turn takes as long as a handler that holds its thread.
    pub long_turn: f64,
}

impl Faults {
    /// Each kind of fault is absent from some runs, so that what one hides, another shows.
    pub(super) fn drawn(rng: &mut Rng) -> Self {
        let chance = |rng: &mut Rng, most: f64| {
            if rng.bool() {
                0.0
            } else {
                most * rng.f64() * rng.f64()
            }
        };
        let latency_ns = 1_000 + rng.u64(0..200_000);
        Self {
            cut: chance(rng, 1.0),
            cut_bytes_max: 1 << rng.u32(0..14),
            slow_operation: chance(rng, 0.5),
            multishot_ends: chance(rng, 0.3),
            no_buffer: chance(rng, 0.2),
            accept_fails: chance(rng, 0.3),
            refused: chance(rng, 0.3),
            swallowed: chance(rng, 0.1),
            latency_ns: (latency_ns, latency_ns + rng.u64(0..2_000_000)),
            window_bytes: 1 << rng.u32(10..19),
            disaster: chance(rng, 0.05),
            long_turn: chance(rng, 0.01),
        }
    }

    /// Whether nothing holds anybody up for long.
    pub(super) fn are_calm(&self) -> bool {
        let all = [self.disaster, self.long_turn, self.cut, self.swallowed];
        all == [0.0; 4] && self.window_bytes >= 16 << 10
    }

    /// A world in which nothing fails any more. Bytes still take their time, and come in pieces.
    pub(super) fn end(&mut self) {
        self.slow_operation = 0.0;
        self.no_buffer = 0.0;
        self.accept_fails = 0.0;
        self.refused = 0.0;
        self.swallowed = 0.0;
        self.disaster = 0.0;
        self.long_turn = 0.0;
    }
}
