//! Tests that run on both engines.

/// Runs each function as two tests, one per engine.
#[allow(unused_macros, reason = "each test binary uses a part of its support")]
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[test]
            fn uring() {
                super::$name(ringcall::Engine::Uring);
            }
            #[test]
            fn epoll() {
                super::$name(ringcall::Engine::Epoll);
            }
        })*
    };
}
#[allow(unused_imports, reason = "see above")]
pub(crate) use on_both_engines;
