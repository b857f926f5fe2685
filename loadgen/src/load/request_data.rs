//! What calls carry, made once for a thread.

use std::cell::Cell;

use super::work::{Method, Work, Workload};

/// Payloads and keys.
pub(super) struct RequestData {
    methods: Vec<Method>,
    /// As long as the longest that is sent.
    pub(super) payload: Vec<u8>,
    /// As long as the longest that is sent.
    pub(super) name: String,
    keys: Vec<String>,
    next_key: Cell<usize>,
}

impl RequestData {
    pub(super) fn new(workload: &Workload) -> Self {
        let bytes_max = workload.payload.bytes_max() as usize;
        Self {
            methods: workload.methods.iter().map(|(method, _)| *method).collect(),
            payload: vec![0x5a; bytes_max],
            name: "n".repeat(bytes_max),
            keys: (0..KEYS).map(|key| format!("key:{key:06}")).collect(),
            next_key: Cell::new(0),
        }
    }

    /// The method of a call.
    #[inline]
    pub(super) fn method(&self, work: Work) -> Method {
        self.methods[usize::from(work.method)]
    }

    /// Keys in a fixed order that looks like none.
    pub(super) fn key(&self) -> &str {
        let at = self.next_key.get();
        self.next_key.set((at + KEY_STRIDE) % KEYS);
        &self.keys[at]
    }
}

/// Keys that are read and written.
pub(super) const KEYS: usize = 256;
/// Has no divisor in common with [`KEYS`], so that all of them get their turn.
const KEY_STRIDE: usize = 97;
/// Bytes of a value that is there before the load.
pub(super) const FILL_BYTES_MAX: usize = 4096;
