//! Received messages, read in place.
#![allow(
    unsafe_code,
    reason = "an archive is validated once, when it is received, and not again at each access"
)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

use bytes::Bytes;
use rkyv::Archived;

use super::message::{Message, access, to_owned};
use super::refusal::Unreadable;
use crate::buf::Chunk;

/// The bytes of a message that may go to other threads.
#[derive(Clone, Debug)]
pub struct SharedPayload(Bytes);

/// Owners of received bytes.
///
/// # Safety
/// As long as the owner lives, [`Payload::bytes`] returns the same unchanging bytes at the same
/// address, also after the owner has moved.
pub unsafe trait Payload {
    /// The bytes.
    fn bytes(&self) -> &[u8];
}

// SAFETY: a chunk's bytes are written by nobody, and lie where they are, as long as it lives.
unsafe impl Payload for Chunk {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_slice()
    }
}

// SAFETY: `Bytes` is immutable and points to memory that does not move with it. It is made from
// owners that have no interior mutability: `AlignedBuf`, and frozen parts of a `BytesMut`.
unsafe impl Payload for SharedPayload {
    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl SharedPayload {
    /// A range of a buffer that was filled before and is never written again.
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

/// A received message of type `T`, validated, read in place: it derefs to the archived form.
///
/// It holds the memory that it lies in. Keep it as long as needed; when memory runs low on a shard,
/// later requests are copied out, so that one that is kept long does no harm to others.
pub struct Received<T, P> {
    /// The archived `T` in the payload's bytes.
    root: NonNull<u8>,
    /// The valid bytes.
    pub(super) payload: P,
    message: PhantomData<fn() -> T>,
}

// SAFETY: the root is only a shortcut into the payload's bytes, which nobody writes; archives that
// are messages have no interior mutability. So it may go where the payload may.
unsafe impl<T, P: Send> Send for Received<T, P> {}
// SAFETY: as above.
unsafe impl<T, P: Sync> Sync for Received<T, P> {}

/// A response to a call made from a tokio program or a script. It may go to other threads.
///
/// It holds the receive buffer that it lies in, of 64 KiB, which it shares with others: copy what
/// is kept for long, by [`Received::to_owned`].
pub type Response<T> = Received<T, SharedPayload>;

impl<T: Message, P: Payload> Received<T, P> {
    /// Validates the payload.
    #[inline(always)]
    pub(crate) fn validate(payload: P) -> Result<Self, Unreadable> {
        match access::<T>(payload.bytes()) {
            Some(root) => Ok(Self {
                root: NonNull::from(root).cast(),
                payload,
                message: PhantomData,
            }),
            None => Err(Unreadable::of::<T>(payload.bytes())),
        }
    }

    /// The message as an owned value.
    pub fn to_owned(&self) -> T {
        to_owned::<T>(self)
    }

    /// Length of the message on the wire, in bytes.
    pub fn wire_bytes(&self) -> usize {
        self.payload.bytes().len()
    }
}

impl<T: Message, P: Payload> Deref for Received<T, P> {
    type Target = Archived<T>;

    #[inline]
    fn deref(&self) -> &Archived<T> {
        // SAFETY: `validate`, the only constructor, has found a valid archive of a `T` here, and
        // `Payload` promises that neither the bytes nor their address have changed since.
        unsafe { self.root.cast::<Archived<T>>().as_ref() }
    }
}

impl<T: Message, P: Payload> fmt::Debug for Received<T, P>
where
    Archived<T>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// As the archived form is written: numbers and strings are.
impl<T: Message, P: Payload> fmt::Display for Received<T, P>
where
    Archived<T>: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::encode_payload;
    use super::*;
    use crate::buf::RecvPool;

    #[test]
    fn a_request_holds_its_buffer_until_it_is_dropped() {
        let pool = RecvPool::new(1, 4096);
        let mut wire = Vec::new();
        encode_payload::<Vec<u32>>(&vec![1, 2, 3], 4096, &mut wire).expect("fits");
        let chunk = pool
            .fill_with(pool.take().expect("free"), |memory| {
                memory[..wire.len()].copy_from_slice(&wire);
                Ok::<_, ()>(wire.len())
            })
            .unwrap()
            .expect("filled");
        let request = Received::<Vec<u32>, Chunk>::validate(chunk).expect("valid");
        assert_eq!(pool.free_count(), 0);
        assert_eq!((request.len(), request.to_owned()), (3, vec![1, 2, 3]));
        assert_eq!(
            request.first().map(ToString::to_string).as_deref(),
            Some("1")
        );
        drop(request);
        assert_eq!(pool.free_count(), 1);
    }

    #[test]
    fn responses_may_cross_threads() {
        fn crosses<T: Send + Sync>() {}
        crosses::<Response<Vec<String>>>();
    }
}
