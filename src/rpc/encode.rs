//! Serialises messages straight into a send buffer.

use rkyv::rancor::{Failure, Source, Strategy};
use rkyv::ser::{Positional, Serializer, Writer};
use rkyv::string::{ArchivedString, StringResolver};
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Place, Serialize, SerializeUnsized};

use super::bounds;
use super::message::Message;
use super::refusal::Unsendable;
use super::scratch::Scratch;
use crate::wire::limits::NESTING_LEVELS_MAX;

/// The serialiser of every message: into the send buffer, without pointer sharing.
pub type Encoder<'a> = Strategy<Serializer<PayloadWriter<'a>, Scratch, ()>, Failure>;

/// Appends to a send buffer and refuses to pass the largest payload that the peer accepts.
#[derive(Debug)]
pub struct PayloadWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Where the payload starts in `out`; archives are aligned relative to it.
    start: usize,
    /// Lowered to nothing when the message nests too deep: a field that says so would have to be set
    /// for every message.
    payload_bytes_max: usize,
}

impl PayloadWriter<'_> {
    /// Takes no more bytes, because the message nests too deep.
    #[cold]
    fn close(&mut self) -> Failure {
        self.payload_bytes_max = 0;
        Failure
    }

    /// Why the message was refused that might have had so many bytes.
    #[cold]
    fn cause(&self, payload_bytes_max: u32) -> Unsendable {
        if self.payload_bytes_max < payload_bytes_max as usize {
            Unsendable::TooDeep
        } else {
            Unsendable::TooLong
        }
    }
}

impl Positional for PayloadWriter<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.out.len() - self.start
    }
}

impl<E: Source> Writer<E> for PayloadWriter<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        if self.pos() + bytes.len() > self.payload_bytes_max {
            return Err(E::new(Unsendable::TooLong));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// A value whose archive is that of a `T`: a `T` itself, a `&T`, and cheaper stand-ins such as
/// `&str` for `String` and `&[u8]` for `Vec<u8>`, which save the caller an allocation.
///
/// An implementation of your own best ends in that of `T`, which refuses a value that nests too deep
/// before anything follows its pointers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be sent where the method takes `{T}`",
    note = "pass a `{T}` or a reference to one; `&str` stands for `String`, `&[u8]` for `Vec<u8>`, an `Option` of them for an `Option`"
)]
pub trait Encode<T: Message> {
    /// Serialises it.
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), Failure>;
}

/// Appends the payload of `value` to `out`. On failure `out` is as it was.
#[inline(always)]
pub(crate) fn encode_payload<T: Message>(
    value: &impl Encode<T>,
    payload_bytes_max: u32,
    out: &mut Vec<u8>,
) -> Result<(), Unsendable> {
    let start = out.len();
    let writer = PayloadWriter {
        out,
        start,
        payload_bytes_max: payload_bytes_max as usize,
    };
    let mut serializer = Serializer::new(writer, Scratch::default(), ());
    if value.encode(Strategy::wrap(&mut serializer)).is_err() {
        let cause = serializer.writer.cause(payload_bytes_max);
        drop(serializer);
        out.truncate(start);
        return Err(cause);
    }
    Ok(())
}

/// Serialises a whole message. rkyv follows its pointers by recursion, and so does the receiver: one
/// that nests too deep is refused before.
#[inline]
fn encode_message<T: Message>(value: &T, encoder: &mut Encoder<'_>) -> Result<(), Failure> {
    if const { bounds::may_nest_too_deep::<T>() } && !value.nests_within(NESTING_LEVELS_MAX) {
        return Err(encoder.writer.close());
    }
    encode_root(value, encoder)
}

#[inline]
fn encode_root<V>(value: &V, encoder: &mut Encoder<'_>) -> Result<(), Failure>
where
    V: for<'a> SerializeUnsized<Encoder<'a>> + ?Sized,
{
    value.serialize_unsized(encoder).map(|_root_position| ())
}

impl<T: Message> Encode<T> for T {
    #[inline]
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), Failure> {
        encode_message(self, encoder)
    }
}

impl<T: Message> Encode<T> for &T {
    #[inline]
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), Failure> {
        encode_message(*self, encoder)
    }
}

impl Encode<String> for &str {
    #[inline]
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), Failure> {
        encode_root(&AsString(self), encoder)
    }
}

impl Encode<Vec<u8>> for &[u8] {
    #[inline]
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), Failure> {
        encode_root(&AsVec(self), encoder)
    }
}

impl Encode<Option<String>> for Option<&str> {
    #[inline]
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), Failure> {
        encode_root(&self.map(AsString), encoder)
    }
}

impl Encode<Option<Vec<u8>>> for Option<&[u8]> {
    #[inline]
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), Failure> {
        encode_root(&self.map(AsVec), encoder)
    }
}

/// A borrowed string, archived as a `String`.
struct AsString<'a>(&'a str);

impl Archive for AsString<'_> {
    type Archived = ArchivedString;
    type Resolver = StringResolver;

    fn resolve(&self, resolver: StringResolver, out: Place<ArchivedString>) {
        ArchivedString::resolve_from_str(self.0, resolver, out);
    }
}

impl Serialize<Encoder<'_>> for AsString<'_> {
    fn serialize(&self, encoder: &mut Encoder<'_>) -> Result<StringResolver, Failure> {
        ArchivedString::serialize_from_str(self.0, encoder)
    }
}

/// Borrowed bytes, archived as a `Vec<u8>`.
struct AsVec<'a>(&'a [u8]);

impl Archive for AsVec<'_> {
    type Archived = ArchivedVec<u8>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: VecResolver, out: Place<ArchivedVec<u8>>) {
        ArchivedVec::resolve_from_slice(self.0, resolver, out);
    }
}

impl Serialize<Encoder<'_>> for AsVec<'_> {
    fn serialize(&self, encoder: &mut Encoder<'_>) -> Result<VecResolver, Failure> {
        ArchivedVec::serialize_from_slice(self.0, encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded<T: Message>(value: impl Encode<T>) -> Vec<u8> {
        let mut out = Vec::new();
        encode_payload::<T>(&value, 1 << 20, &mut out).expect("fits");
        out
    }

    #[test]
    fn stand_ins_have_the_same_bytes_as_the_type() {
        for text in ["", "short", "a text that is longer than eight bytes"] {
            assert_eq!(encoded::<String>(text), encoded::<String>(text.to_owned()));
            let bytes = text.as_bytes();
            assert_eq!(
                encoded::<Vec<u8>>(bytes),
                encoded::<Vec<u8>>(bytes.to_vec())
            );
            assert_eq!(
                encoded::<Option<Vec<u8>>>(Some(bytes)),
                encoded::<Option<Vec<u8>>>(Some(bytes.to_vec()))
            );
            assert_eq!(
                encoded::<Option<String>>(Some(text)),
                encoded::<Option<String>>(Some(text.to_owned()))
            );
        }
    }

    #[test]
    fn a_message_above_the_maximum_leaves_no_trace() {
        let mut out = b"before".to_vec();
        assert_eq!(
            encode_payload::<Vec<u8>>(&vec![0; 100], 64, &mut out),
            Err(Unsendable::TooLong)
        );
        assert_eq!(out, b"before");
    }

    #[test]
    fn alignment_is_relative_to_the_payload() {
        let mut out = vec![0; 3];
        encode_payload::<Vec<u64>>(&vec![1, 2], 1 << 20, &mut out).expect("fits");
        assert_eq!(out[3..], encoded::<Vec<u64>>(vec![1, 2]));
    }
}
