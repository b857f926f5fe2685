//! Buffers for payloads that are serialised before they can be sent, recycled per thread.

use std::cell::RefCell;

/// Buffers kept per thread, and the largest that is kept: bounds this to 256 KiB.
const KEPT_MAX: usize = 8;
const KEPT_BYTES_MAX: usize = 32 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub(crate) fn take() -> Vec<u8> {
    KEPT.try_with(|kept| kept.borrow_mut().pop())
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Gives a buffer back.
pub(crate) fn put(mut buffer: Vec<u8>) {
    if buffer.capacity() > KEPT_BYTES_MAX {
        return;
    }
    buffer.clear();
    // At thread exit there may be nowhere to keep it; then it is freed.
    KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    })
    .unwrap_or_default();
}
