//! Stands in the place of `uring` where ringcall is built without its Cargo feature of that name: io_uring
//! is refused, as it is by many containers.

use std::fmt;

/// What would be used of io_uring. There is no value of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Features {}

/// That there is no io_uring in this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal;

/// Refuses.
///
/// # Errors
/// Always.
pub(crate) fn probe() -> Result<Features, Refusal> {
    Err(Refusal)
}

impl Features {
    /// There is nothing to advise.
    pub(crate) fn advice(&self, _shards: usize, _ring_bytes: u64) -> Vec<String> {
        match *self {}
    }
}

impl Refusal {
    /// What failed.
    pub(crate) fn failure(&self) -> String {
        "this program was built without ringcall's Cargo feature `uring`".into()
    }

    /// Why.
    pub(crate) fn cause(&self) -> String {
        "its Cargo.toml, or that of a crate between, takes ringcall's default features off".into()
    }

    /// What to do about it.
    pub(crate) fn remedy(&self) -> String {
        "name the feature there (`features = [\"uring\"]`), or use Engine::Epoll or Engine::Auto"
            .into()
    }
}

impl fmt::Display for Features {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failure, cause, remedy) = (self.failure(), self.cause(), self.remedy());
        write!(f, "{failure}; likely cause: {cause}; remedy: {remedy}")
    }
}

impl std::error::Error for Refusal {}
