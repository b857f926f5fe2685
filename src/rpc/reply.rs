//! What a handler answers.

use std::marker::PhantomData;

use bytes::Bytes;

use super::encode::{Encode, encode_payload};
use super::kept_payloads;
use super::message::Message;
use super::received::Received;
use super::refusal::{Unsendable, nests_too_deep};
use crate::buf::{Chunk, Part};
use crate::wire::handshake::{RKYV_FORMAT, RKYV_FORMAT_USUAL};
use crate::wire::response_writer::ResponseWriter;
use crate::wire::status::Status;

/// A successful result of a handler. Make it from the value, `Ok(value.into())`: it is serialised
/// straight into the connection's send buffer when the handler has returned. [`Reply::of`] saves
/// cloning what the service holds, [`Reply::from_bytes`] saves every copy of a large body.
#[derive(Debug)]
pub struct Reply<T> {
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Value(T),
    /// Serialised already, from borrowed data.
    Payload(Result<Vec<u8>, Unsendable>, PhantomData<fn() -> T>),
    /// Received as it is, and validated then. `None` once it was copied out.
    Received(Option<Chunk>),
    /// A body that is sent from where it lies, and what follows it in the payload. Boxed, because
    /// small replies should not be moved about in the size of the largest.
    Body(Box<(Bytes, Root)>),
}

impl<T: Message> Reply<T> {
    /// Answers with a value.
    pub fn new(value: T) -> Self {
        Self {
            content: Content::Value(value),
        }
    }

    /// Answers with borrowed data that stands for a `T`, such as `&str` for a `String` or
    /// `Option<&[u8]>` for an `Option<Vec<u8>>`. It is serialised now, so the handler need not
    /// clone what it holds.
    pub fn of(value: impl Encode<T>) -> Self {
        let mut payload = kept_payloads::take();
        // The receiver's limit is checked when the reply is sent; archives end at 2 GiB.
        let encoded = encode_payload::<T>(&value, u32::MAX >> 1, &mut payload);
        Self {
            content: Content::Payload(encoded.map(|()| payload), PhantomData),
        }
    }

    /// Whether dropping it would do nothing.
    #[inline(always)]
    pub(crate) fn needs_no_drop(&self) -> bool {
        match self.content {
            Content::Value(_) => !std::mem::needs_drop::<T>(),
            Content::Received(None) => true,
            _ => false,
        }
    }

    /// Writes the payload of a response; on failure nothing stays behind. It is written once: the reply
    /// is not taken by value only because moving it would cost more than all else here.
    #[inline(always)]
    pub(crate) fn write(&mut self, response: ResponseWriter<'_>) -> Result<(), Unsendable> {
        match &mut self.content {
            Content::Value(value) => {
                let bytes_max = response.payload_bytes_max();
                response.encode(|out| encode_payload::<T>(&*value, bytes_max, out))
            }
            Content::Received(received) => match received.take() {
                Some(chunk) if chunk.as_slice().len() < COPY_BYTES_MAX => {
                    write_copy(chunk.as_slice(), response)
                }
                Some(chunk) => write_part(Part::Received(chunk), &[], response),
                None => unreachable!("a reply is written once"),
            },
            other => other.write(response),
        }
    }
}

impl<T> Content<T> {
    /// Writes what is serialised already.
    #[inline(never)]
    fn write(&mut self, response: ResponseWriter<'_>) -> Result<(), Unsendable> {
        match self {
            Self::Value(_) | Self::Received(_) => unreachable!("the reply writes these itself"),
            Self::Payload(payload, _) => {
                let payload = std::mem::replace(payload, Err(Unsendable::TooLong))?;
                if payload.len() >= COPY_BYTES_MAX {
                    let part = Part::Body(Bytes::from(payload).into());
                    return write_part(part, &[], response);
                }
                let written = write_copy(&payload, response);
                kept_payloads::put(payload);
                written
            }
            Self::Body(body) => {
                let (body, root) = &mut **body;
                let body = std::mem::take(body);
                write_body(body, *root, response)
            }
        }
    }
}

#[inline(always)]
fn write_copy(payload: &[u8], response: ResponseWriter<'_>) -> Result<(), Unsendable> {
    if payload.len() > response.payload_bytes_max() as usize {
        return Err(Unsendable::TooLong);
    }
    response.copy(payload);
    Ok(())
}

/// Sends a payload from where it lies, and its last bytes behind it.
fn write_part(part: Part, tail: &[u8], response: ResponseWriter<'_>) -> Result<(), Unsendable> {
    if part.as_slice().len() + tail.len() > response.payload_bytes_max() as usize {
        return Err(Unsendable::TooLong);
    }
    response.send(part, tail);
    Ok(())
}

impl Unsendable {
    /// How the call ends whose response this is, where a response may have so many bytes.
    #[cold]
    pub(crate) fn response(self, bytes_max: u32) -> Status {
        match self {
            Self::TooLong => Status::internal(format!(
                "the response is longer than the {bytes_max} bytes that both sides accept"
            )),
            Self::TooDeep => Status::internal(format!("the response {}", nests_too_deep())),
        }
    }
}

impl<T: Message> From<Received<T, Chunk>> for Reply<T> {
    /// Answers with a message as it was received, such as the response of a server that was asked
    /// in turn. Its bytes are not serialised again.
    fn from(received: Received<T, Chunk>) -> Self {
        Self {
            content: Content::Received(Some(received.payload)),
        }
    }
}

impl<T: Message> From<T> for Reply<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl Reply<Vec<u8>> {
    /// Answers with bytes that are sent from where they lie, without a copy. The caller reads an
    /// ordinary `Vec<u8>`.
    pub fn from_bytes(body: Bytes) -> Self {
        if !is_sent_in_place(&body) {
            return Self::of(&body[..]);
        }
        Self {
            content: Content::Body(Box::new((body, Root::Vec))),
        }
    }
}

impl Reply<Option<Vec<u8>>> {
    /// Answers `Some` with bytes that are sent from where they lie, without a copy.
    pub fn from_some_bytes(body: Bytes) -> Self {
        if !is_sent_in_place(&body) {
            return Self::of(Some(&body[..]));
        }
        Self {
            content: Content::Body(Box::new((body, Root::SomeVec))),
        }
    }
}

/// Below this many bytes copying is cheaper than sending in parts.
const COPY_BYTES_MAX: usize = 16 * 1024;

/// Whether a body goes out from where it lies. What follows it is written by hand, in rkyv's usual
/// format; a build that has chosen another leaves it to rkyv.
fn is_sent_in_place(body: &Bytes) -> bool {
    body.len() >= COPY_BYTES_MAX && RKYV_FORMAT == RKYV_FORMAT_USUAL
}

/// The archived root that follows a body in the payload.
#[derive(Clone, Copy, Debug)]
enum Root {
    Vec,
    SomeVec,
}

impl Root {
    /// The root's bytes when it stands at `position` and the body at the payload's start.
    fn encode(self, position: usize, body_bytes: usize) -> ([u8; 12], usize) {
        let (tag, tag_bytes): (&[u8], usize) = match self {
            Self::Vec => (&[], 0),
            // The tag of `Some`, and three bytes of padding.
            Self::SomeVec => (&[1, 0, 0, 0], 4),
        };
        let back_to_start = -((position + tag_bytes) as i32);
        let mut root = [0; 12];
        root[..tag_bytes].copy_from_slice(tag);
        root[tag_bytes..tag_bytes + 4].copy_from_slice(&back_to_start.to_le_bytes());
        root[tag_bytes + 4..tag_bytes + 8].copy_from_slice(&(body_bytes as u32).to_le_bytes());
        (root, tag_bytes + 8)
    }
}

fn write_body(body: Bytes, root: Root, response: ResponseWriter<'_>) -> Result<(), Unsendable> {
    let position = body.len().next_multiple_of(4);
    if position + 12 > i32::MAX as usize {
        return Err(Unsendable::TooLong);
    }
    let (root, root_bytes) = root.encode(position, body.len());
    // Up to three zeros, and the root.
    let gap = position - body.len();
    let mut tail = [0; 3 + 12];
    tail[gap..gap + root.len()].copy_from_slice(&root);
    write_part(Part::Body(body.into()), &tail[..gap + root_bytes], response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::{AlignedBuf, SendQueue};
    use crate::wire::limits::HEADER_BYTES;

    fn send<T: Message>(
        reply: &mut Reply<T>,
        payload_bytes_max: u32,
        queue: &mut SendQueue,
    ) -> Result<(), Unsendable> {
        reply.write(ResponseWriter::new(queue, 7, payload_bytes_max))
    }

    fn wire<T: Message>(mut reply: Reply<T>) -> Vec<u8> {
        let mut queue = SendQueue::default();
        send(&mut reply, 1 << 20, &mut queue).expect("fits");
        let mut wire = Vec::new();
        while let Some(part) = queue.take(Vec::new) {
            wire.extend_from_slice(part.as_slice());
        }
        wire
    }

    #[test]
    fn a_body_sent_from_its_place_has_the_bytes_of_the_value() {
        // Under Miri, which is slow, one length that needs a gap is enough.
        for extra in if cfg!(miri) { 3..4 } else { 0..5 } {
            let value: Vec<u8> = (0..COPY_BYTES_MAX + extra).map(|at| at as u8).collect();
            let body = Bytes::from(value.clone());
            let copied = wire(Reply::new(value.clone()));
            assert_eq!(wire(Reply::<Vec<u8>>::from_bytes(body.clone())), copied);
            let copied = wire(Reply::new(Some(value)));
            assert_eq!(
                wire(Reply::<Option<Vec<u8>>>::from_some_bytes(body)),
                copied
            );
        }
    }

    #[test]
    fn a_borrowed_reply_has_the_bytes_of_the_value() {
        assert_eq!(
            wire(Reply::<String>::of("text")),
            wire(Reply::new("text".to_owned()))
        );
    }

    #[test]
    fn a_received_message_is_passed_on_as_it_came() {
        let text = "more than eight bytes";
        let copied = wire(Reply::<String>::of(text));
        let payload_bytes = u32::from_le_bytes([copied[0], copied[1], copied[2], copied[3]]);
        let payload = &copied[HEADER_BYTES..][..payload_bytes as usize];
        let received = || {
            let payload = Chunk::from(AlignedBuf::copy_of(payload));
            Received::<String, _>::validate(payload).expect("valid")
        };
        assert_eq!(wire(Reply::from(received())), copied);
        let mut queue = SendQueue::default();
        let sent = send(&mut Reply::from(received()), payload_bytes - 1, &mut queue);
        assert_eq!((sent, queue.is_empty()), (Err(Unsendable::TooLong), true));
    }

    #[test]
    fn a_large_message_goes_out_from_where_it_lies() {
        for len in [COPY_BYTES_MAX - 9, COPY_BYTES_MAX, COPY_BYTES_MAX + 5] {
            let value: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let copied = wire(Reply::new(value.clone()));
            assert_eq!(wire(Reply::<Vec<u8>>::of(&value[..])), copied);
            let payload_bytes = u32::from_le_bytes([copied[0], copied[1], copied[2], copied[3]]);
            let payload = &copied[HEADER_BYTES..][..payload_bytes as usize];
            let chunk = Chunk::from(AlignedBuf::copy_of(payload));
            let received = Received::<Vec<u8>, _>::validate(chunk).expect("valid");
            assert_eq!(wire(Reply::from(received)), copied);
        }
    }

    #[test]
    fn frames_behind_a_body_are_as_they_are_alone() {
        let body = vec![7; COPY_BYTES_MAX + 3];
        let mut queue = SendQueue::default();
        let mut alone = Vec::new();
        for small in [1_u32, 2] {
            let mut large = Reply::<Vec<u8>>::from_bytes(Bytes::from(body.clone()));
            send(&mut large, 1 << 20, &mut queue).expect("fits");
            send(&mut Reply::new(small), 1 << 20, &mut queue).expect("fits");
            alone.extend(wire(Reply::new(body.clone())));
            alone.extend(wire(Reply::new(small)));
        }
        let mut together = Vec::new();
        while let Some(part) = queue.take(Vec::new) {
            together.extend_from_slice(part.as_slice());
        }
        assert!(together == alone);
    }

    #[test]
    fn a_reply_that_is_too_long_leaves_nothing() {
        let mut queue = SendQueue::default();
        let body = Bytes::from(vec![0; 20_000]);
        for mut reply in [
            Reply::new(vec![0; 20_000]),
            Reply::of(&[0; 20_000][..]),
            Reply::<Vec<u8>>::from_bytes(body),
        ] {
            assert_eq!(
                send(&mut reply, 16_384, &mut queue),
                Err(Unsendable::TooLong)
            );
            assert!(queue.is_empty());
        }
    }
}
