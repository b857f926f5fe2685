//! Buffers of payloads that are serialised before they can be sent, recycled per thread.

use std::cell::RefCell;

/// Payloads kept per thread, and the largest that is kept: bounds this to 256 KiB.
const KEPT_PAYLOADS_MAX: usize = 8;
const KEPT_PAYLOAD_BYTES_MAX: usize = 32 * 1024;

thread_local! {
    static KEPT_PAYLOADS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer for a payload that is serialised before it can be sent.
#[inline]
pub(crate) fn take() -> Vec<u8> {
    KEPT_PAYLOADS
        .try_with(|kept| kept.borrow_mut().pop())
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Gives a payload's buffer back.
#[inline]
pub(crate) fn put(mut payload: Vec<u8>) {
    if payload.capacity() > KEPT_PAYLOAD_BYTES_MAX {
        return;
    }
    payload.clear();
    // At thread exit there may be nowhere to keep it; then it is freed.
    KEPT_PAYLOADS
        .try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_PAYLOADS_MAX {
                kept.push(payload);
            }
        })
        .unwrap_or_default();
}
