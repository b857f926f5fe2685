//! What the servers are asked to do.

use std::fmt;

use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;

/// The services that are compared; every peer offers the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// A byte vector that comes back as it was sent.
    Echo,
    /// A typed message of 64 bytes: the handler reads its fields and returns a new one.
    Order,
    /// A value out of a store, by its key.
    Get,
    /// A value that is kept in the store.
    Put,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Echo => "echo",
            Self::Order => "order",
            Self::Get => "get",
            Self::Put => "put",
        })
    }
}

/// A service, and how much it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The service.
    pub workload: Workload,
    /// Bytes of the message that carries the body, or the value.
    pub payload_bytes: usize,
}

impl Work {
    /// The bytes that callers send or fetch. They are a little fewer than the payload, so that
    /// ringcall's archive of them is exactly as long as the payload that the raw echo gets; all
    /// other peers carry the same bytes.
    pub fn body(&self) -> Bytes {
        let bytes = self.payload_bytes.saturating_sub(VEC_BYTES);
        (0..bytes).map(|at| at as u8).collect()
    }
}

/// A call, as client libraries make it. Ready to be cloned: bodies are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Echo these bytes.
    Echo(Bytes),
    /// Accept an order.
    Order,
    /// Fetch the value of a key; it has so many bytes.
    Get(String, usize),
    /// Keep a value.
    Put(String, Bytes),
    /// Hold the CPU for so many microseconds.
    Spin(u32),
}

impl Call {
    /// The call number `caller` of a workload; callers use different keys.
    pub fn of(work: Work, caller: usize) -> Self {
        match work.workload {
            Workload::Echo => Self::Echo(work.body()),
            Workload::Order => Self::Order,
            Workload::Get => Self::Get(key(caller), work.body().len()),
            Workload::Put => Self::Put(key(caller), work.body()),
        }
    }
}

/// The key of this number; all are of one length, and all are in the store from the start.
pub fn key(number: usize) -> String {
    format!("key:{:08}", number % KEYS)
}

/// Keys and values that a server's store starts with.
pub fn entries(work: Work) -> impl Iterator<Item = (String, Bytes)> {
    let value = work.body();
    let count = match work.workload {
        Workload::Get | Workload::Put => KEYS,
        Workload::Echo | Workload::Order => 0,
    };
    (0..count).map(move |number| (key(number), value.clone()))
}

/// Bytes of an archived `Vec<u8>` beside its elements.
const VEC_BYTES: usize = 8;
/// Keys in the store: more than the second-level cache holds the entries of, few enough that
/// values of 1 MiB fit into memory.
const KEYS: usize = 1024;
