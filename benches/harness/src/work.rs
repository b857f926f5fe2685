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
    /// Refuses sizes that the service does not have, so that no two peers move different bytes.
    pub fn check(&self) -> Result<(), String> {
        if self.workload == Workload::Order && self.payload_bytes != ORDER_BYTES {
            return Err(format!(
                "an order is a message of {ORDER_BYTES} bytes, and can't have {}: leave `order` out of \
                 --workloads, or measure it alone with --payload-bytes {ORDER_BYTES}",
                self.payload_bytes
            ));
        }
        Ok(())
    }

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

/// Keys and values that a server's store starts with. Each has memory of its own, as in a store that
/// was filled by calls: one that all keys shared would stay in the first-level cache.
pub fn entries(work: Work) -> impl Iterator<Item = (String, Bytes)> {
    let value = work.body();
    let count = match work.workload {
        Workload::Get | Workload::Put => KEYS,
        Workload::Echo | Workload::Order => 0,
    };
    (0..count).map(move |number| (key(number), Bytes::copy_from_slice(&value)))
}

/// Bytes of an archived `Vec<u8>` beside its elements.
const VEC_BYTES: usize = 8;
/// Bytes of an order, which has a fixed layout.
pub const ORDER_BYTES: usize = 64;
/// Keys in the store. With values of 64 bytes all of it fits into a second-level cache, with 4 KiB
/// into none; with 1 MiB it takes 1 GiB of memory.
const KEYS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_one_size() {
        let work = |workload, payload_bytes| Work {
            workload,
            payload_bytes,
        };
        assert!(work(Workload::Order, ORDER_BYTES).check().is_ok());
        assert!(work(Workload::Echo, 4096).check().is_ok());
        let refused = work(Workload::Order, 4096).check().unwrap_err();
        assert!(refused.contains("--payload-bytes 64"), "{refused}");
    }

    #[test]
    fn each_value_has_memory_of_its_own() {
        let work = Work {
            workload: Workload::Get,
            payload_bytes: 64,
        };
        let values: Vec<_> = entries(work).map(|(_, value)| value).collect();
        assert_eq!((values.len(), values[0].len()), (KEYS, 64 - VEC_BYTES));
        assert!(
            values
                .windows(2)
                .all(|pair| pair[0].as_ptr() != pair[1].as_ptr())
        );
    }
}
