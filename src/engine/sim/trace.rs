//! What has happened in a run: a hash, which two runs of one seed share, and on demand its story.

use std::fmt;

/// Everything that happens is told here, in order.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    events: u64,
    /// Told line by line, where somebody listens.
    pub(super) is_told: bool,
}

impl Trace {
    /// Notes an event.
    pub(super) fn note(&mut self, now_ns: u64, what: fmt::Arguments<'_>) {
        self.events += 1;
        let mut hasher = Fnv(self.hash ^ FNV_OFFSET);
        hasher.eat(&now_ns.to_le_bytes());
        fmt::write(&mut hasher, what).expect("hashing can't fail");
        self.hash = hasher.0;
        if self.is_told {
            eprintln!("{:>12.3} ms  {what}", now_ns as f64 / 1e6);
        }
    }

    /// A number that depends on all that has happened.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Number of events.
    pub(super) fn events(&self) -> u64 {
        self.events
    }
}

/// Fowler, Noll and Vo's hash, variant 1a, of 64 bits.
struct Fnv(u64);

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

impl Fnv {
    fn eat(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.eat(text.as_bytes());
        Ok(())
    }
}
