//! Panics of the program's code: they cost what it was called for, and nothing else.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Runs code of the program's, such as a destructor, a waker or a factory. The error is what its panic
/// said.
pub(crate) fn caught<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(text)
}

/// Wakes a future, whose waker may be the program's own. Says whether it has not panicked.
pub(crate) fn wake(waker: Waker) -> bool {
    is_quiet(|| waker.wake())
}

/// Drops a waker, which may be the last that holds its future.
#[cold]
pub(crate) fn drop_waker(waker: Waker) {
    is_quiet(|| drop(waker));
}

fn is_quiet(act: impl FnOnce()) -> bool {
    let done = caught(act);
    if let Err(text) = &done {
        tracing::error!(panic = text, "a waker panicked");
    }
    done.is_ok()
}

/// What `panic!` said. The payload may be anything, so its destructor may panic too: it runs here, and
/// what it throws in turn is never dropped.
#[cold]
pub(crate) fn text(payload: Box<dyn Any + Send>) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned());
    if let Err(thrown) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(thrown);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;

    struct PanicsWhenDropped(u32);

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(PanicsWhenDropped(self.0 - 1));
            }
        }
    }

    #[test]
    fn a_panic_is_told_by_its_text() {
        assert_eq!(caught(|| panic!("boom")), Err::<(), _>("boom".to_owned()));
        let number = 7;
        assert_eq!(
            caught(|| panic!("boom {number}")),
            Err::<(), _>("boom 7".to_owned())
        );
        assert_eq!(caught(|| number), Ok(7));
    }

    #[test]
    fn payloads_that_panic_when_they_are_dropped_are_contained() {
        for depth in 0..4 {
            let said = caught(|| panic_any(PanicsWhenDropped(depth)));
            assert_eq!(said, Err::<(), _>("a panic without text".to_owned()));
        }
        assert!(caught(|| drop(PanicsWhenDropped(2))).is_err());
    }
}
