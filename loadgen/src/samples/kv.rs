//! A key-value store on each shard, without locks.

#![expect(
    clippy::disallowed_types,
    reason = "a store that is only ever asked for one key"
)]

use std::cell::RefCell;
use std::collections::HashMap;

use ringcall::{Context, Reply, Request, Status};

/// A value to be kept.
#[ringcall::message]
#[derive(Clone, Debug)]
pub struct Put {
    /// Where to keep it.
    pub key: String,
    /// What to keep.
    pub value: Vec<u8>,
}

/// Keys and values, for each shard its own: a client sees those of the shard that its connection
/// has come to.
#[ringcall::service(name = "kv.v1")]
pub trait Kv {
    /// The value of a key.
    #[idempotent]
    async fn get(key: String) -> Option<Vec<u8>>;
    /// Keeps a value in place of an earlier one; RESOURCE_EXHAUSTED when the store is full.
    #[idempotent]
    async fn put(put: Put);
    /// Forgets a key, and says whether there was one.
    async fn delete(key: String) -> bool;
}

/// The store of one shard. It is neither `Send` nor `Sync`, and needs not be.
#[derive(Debug, Default)]
pub struct Store {
    entries: RefCell<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    values: HashMap<String, Vec<u8>>,
    /// Length of all keys and values.
    bytes: usize,
}

/// Most bytes of keys and values on one shard.
const STORE_BYTES_MAX: usize = 256 << 20;
/// What an entry takes besides its key and its value.
const ENTRY_BYTES: usize = 64;

impl KvHandler for Store {
    async fn get(
        &self,
        _cx: &Context,
        key: Request<String>,
    ) -> Result<Reply<Option<Vec<u8>>>, Status> {
        let entries = self.entries.borrow();
        let value = entries.values.get(key.as_str());
        Ok(Reply::of(value.map(Vec::as_slice)))
    }

    async fn put(&self, _cx: &Context, put: Request<Put>) -> Result<Reply<()>, Status> {
        let mut entries = self.entries.borrow_mut();
        entries.put(put.key.as_str(), &put.value, STORE_BYTES_MAX)?;
        Ok(().into())
    }

    async fn delete(&self, _cx: &Context, key: Request<String>) -> Result<Reply<bool>, Status> {
        Ok(self.entries.borrow_mut().delete(key.as_str()).into())
    }
}

impl Entries {
    fn put(&mut self, key: &str, value: &[u8], bytes_max: usize) -> Result<(), Status> {
        let before = self.values.get(key).map_or(0, |old| entry_bytes(key, old));
        let bytes = self.bytes - before + entry_bytes(key, value);
        if bytes > bytes_max {
            return Err(Status::resource_exhausted(format!(
                "the store holds at most {bytes_max} bytes; delete something first"
            )));
        }
        self.bytes = bytes;
        self.values.insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, key: &str) -> bool {
        let Some(value) = self.values.remove(key) else {
            return false;
        };
        self.bytes -= entry_bytes(key, &value);
        true
    }
}

fn entry_bytes(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_takes_more_after_a_delete() {
        let mut entries = Entries::default();
        let bytes_max = 2 * entry_bytes("a", b"12");
        entries.put("a", b"12", bytes_max).unwrap();
        entries.put("b", b"12", bytes_max).unwrap();
        entries.put("b", b"34", bytes_max).unwrap();
        assert!(entries.put("c", b"1", bytes_max).is_err());
        assert!(entries.delete("a") && !entries.delete("a"));
        entries.put("c", b"1", bytes_max).unwrap();
        assert!(entries.delete("b") && entries.delete("c"));
        assert_eq!(entries.bytes, 0);
    }
}
