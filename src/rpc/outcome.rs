//! How a call has ended, as hooks are told.

use crate::wire::status::{Code, Status};

/// How a call has ended, as a [`ServerHook`](crate::ServerHook) and a [`ClientHook`](crate::ClientHook) are
/// told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallOutcome<'a> {
    /// On a server: the handler's reply is queued for the caller. On a client: it has come, and is valid.
    Answered,
    /// The call has failed. On a server: this status is queued, the handler's, or RESOURCE_EXHAUSTED or
    /// INTERNAL where its reply can't be sent. On a client: whatever the reason.
    Failed(&'a Status),
    /// On a server: the call reached no handler, since its payload is not valid, its method is not there, or
    /// its deadline had passed. This status is queued.
    Refused(&'a Status),
    /// On a server: the handler has panicked. INTERNAL is queued.
    Panicked,
    /// On a server: the deadline passed while the handler waited, which was dropped. DEADLINE_EXCEEDED is
    /// queued.
    Expired,
    /// The caller gave the call up: on a server its handler was dropped, on a client its future.
    Cancelled,
    /// On a server: the connection has ended, or the server's time to shut down is up. The handler was
    /// dropped, or what it has answered was.
    Disconnected,
}

impl CallOutcome<'_> {
    /// The code that stands for it: that of its status, if it has one; else OK, INTERNAL for a panic,
    /// DEADLINE_EXCEEDED, CANCELLED, or UNAVAILABLE for a connection that has ended.
    pub fn code(&self) -> Code {
        match self {
            Self::Answered => Code::Ok,
            Self::Failed(status) | Self::Refused(status) => status.code(),
            Self::Panicked => Code::Internal,
            Self::Expired => Code::DeadlineExceeded,
            Self::Cancelled => Code::Cancelled,
            Self::Disconnected => Code::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_the_code_that_its_caller_sees() {
        let status = Status::not_found("nothing");
        let codes = [
            (CallOutcome::Answered, Code::Ok),
            (CallOutcome::Failed(&status), Code::NotFound),
            (CallOutcome::Refused(&status), Code::NotFound),
            (CallOutcome::Panicked, Code::Internal),
            (CallOutcome::Expired, Code::DeadlineExceeded),
            (CallOutcome::Cancelled, Code::Cancelled),
            (CallOutcome::Disconnected, Code::Unavailable),
        ];
        for (outcome, code) in codes {
            assert_eq!(outcome.code(), code, "{outcome:?}");
        }
    }
}
