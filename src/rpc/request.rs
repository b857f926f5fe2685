//! Received messages that stay on their shard.

use super::received::Received;
use super::refusal::Unreadable;
use crate::buf::Chunk;
use crate::wire::status::Status;

/// A request in a handler. It stays on its shard.
pub type Request<T> = Received<T, Chunk>;

/// A response to a call made on a shard.
pub type LocalResponse<T> = Received<T, Chunk>;

impl Unreadable {
    /// How the call ends whose request this is.
    #[cold]
    pub(crate) fn request(self) -> Status {
        Status::invalid_argument(self.describe("request"))
    }
}
