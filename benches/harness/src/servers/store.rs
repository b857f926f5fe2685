//! The store behind the key-value service of peers whose handlers may run on any thread.

#![expect(
    clippy::disallowed_types,
    reason = "a store that is only ever asked for one key"
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::work::{self, Work};

/// Keys and values. Reading a value shares it; nothing is copied.
#[derive(Clone)]
pub(super) struct Store(Arc<Mutex<HashMap<String, Bytes>>>);

impl Store {
    /// A store that holds what `work` starts with.
    pub(super) fn for_work(work: Work) -> Self {
        Self(Arc::new(Mutex::new(work::entries(work).collect())))
    }

    pub(super) fn get(&self, key: &str) -> Option<Bytes> {
        self.entries().get(key).cloned()
    }

    pub(super) fn put(&self, key: String, value: Bytes) {
        self.entries().insert(key, value);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Bytes>> {
        self.0.lock().expect("a map never panics")
    }
}
