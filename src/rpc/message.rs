//! What may travel: the [`Message`] trait and its implementations for the basic types.

use std::num::NonZeroUsize;

use rkyv::api::access_with_context;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Failure, Strategy};
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::{Archive, Archived, Deserialize, Portable, Serialize};

use super::encode::Encoder;
use super::fingerprint::Fingerprint;
use crate::proto::limits::VALIDATION_DEPTH_MAX;

/// Validates archives: bounds and depth, and no shared pointers at all (`()` can't check them).
pub type Checker<'a> = Strategy<Validator<ArchiveValidator<'a>, ()>, Failure>;

/// Rebuilds owned values from archives.
pub type Reader = Strategy<(), Failure>;

/// A type that can be a request, a response, or a part of one.
///
/// It is implemented for integers of fixed size, floats, `bool`, `char`, `String`, `Vec`, `Option`,
/// `Box`, arrays, tuples and `()`, and for the structs and enums marked
/// [`#[ringcall::message]`](macro@crate::message). Types whose layout or meaning another machine
/// can't know (`usize`, maps with their own hashing, `Rc`, `Arc`, references) are left out on
/// purpose.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel in a ringcall message",
    label = "not a ringcall message",
    note = "mark your own struct or enum with #[ringcall::message]",
    note = "usize and isize: use u64 and i64; maps and sets: use Vec<(K, V)> or Vec<T>; Rc and Arc: use the value or Box<T>; references: use the owned type"
)]
pub trait Message:
    Archive<Archived: for<'a> CheckBytes<Checker<'a>> + Deserialize<Self, Reader> + Portable>
    + for<'a> Serialize<Encoder<'a>>
    + Sized
    + 'static
{
    /// Equal for two types exactly when their archives mean the same.
    const FINGERPRINT: u64;
}

/// Checks `payload` and reads it in place. `None`: it is no valid archive of a `T`.
///
/// The payload must be 16-aligned, which every received payload is.
#[inline]
pub(crate) fn access<T: Message>(payload: &[u8]) -> Option<&Archived<T>> {
    const DEPTH_MAX: Option<NonZeroUsize> = NonZeroUsize::new(VALIDATION_DEPTH_MAX);
    const {
        assert!(
            align_of::<Archived<T>>() <= 16,
            "payloads are 16-aligned, this type needs more"
        )
    };
    let mut checker = Validator::new(ArchiveValidator::with_max_depth(payload, DEPTH_MAX), ());
    access_with_context::<Archived<T>, _, Failure>(payload, &mut checker).ok()
}

/// The owned value of an archive that was validated.
pub(crate) fn to_owned<T: Message>(archived: &Archived<T>) -> T {
    let mut reader = ();
    archived
        .deserialize(Reader::wrap(&mut reader))
        .expect("a validated archive of a message type, which has no shared pointers, deserialises")
}

macro_rules! basic {
    ($($name:ident $tag:literal),* $(,)?) => {
        $(impl Message for $name {
            const FINGERPRINT: u64 = Fingerprint::tag($tag).finish();
        })*
    };
}

basic!(
    u8 "u8", u16 "u16", u32 "u32", u64 "u64", u128 "u128",
    i8 "i8", i16 "i16", i32 "i32", i64 "i64", i128 "i128",
    f32 "f32", f64 "f64", bool "bool", char "char", String "string",
);

impl Message for () {
    const FINGERPRINT: u64 = Fingerprint::tag("unit").finish();
}

impl<T: Message> Message for Vec<T> {
    const FINGERPRINT: u64 = {
        assert!(
            size_of::<Archived<T>>() > 0,
            "a vector of zero-sized elements could claim any length in no bytes: give the element a field"
        );
        Fingerprint::tag("vec").part(T::FINGERPRINT).finish()
    };
}

impl<T: Message> Message for Option<T> {
    const FINGERPRINT: u64 = Fingerprint::tag("option").part(T::FINGERPRINT).finish();
}

impl<T: Message> Message for Box<T> {
    const FINGERPRINT: u64 = Fingerprint::tag("box").part(T::FINGERPRINT).finish();
}

impl<T: Message, const N: usize> Message for [T; N] {
    const FINGERPRINT: u64 = Fingerprint::tag("array")
        .part(N as u64)
        .part(T::FINGERPRINT)
        .finish();
}

macro_rules! tuples {
    ($(($($name:ident),+))*) => {
        $(impl<$($name: Message),+> Message for ($($name,)+) {
            const FINGERPRINT: u64 = Fingerprint::tag("tuple")$(.part($name::FINGERPRINT))+.finish();
        })*
    };
}

tuples!((A)(A, B)(A, B, C)(A, B, C, D)(A, B, C, D, E)(
    A, B, C, D, E, F
));

#[cfg(test)]
mod tests {
    use super::super::encode::encode_payload;
    use super::*;
    use crate::buf::AlignedBuf;

    fn round_trip<T: Message + PartialEq + std::fmt::Debug>(value: T) {
        let mut out = Vec::new();
        encode_payload::<T>(&value, 1 << 20, &mut out).expect("fits");
        let payload = AlignedBuf::copy_of(&out);
        let archived = access::<T>(payload.as_slice()).expect("valid");
        assert_eq!(to_owned::<T>(archived), value);
    }

    #[test]
    fn basic_types_survive() {
        round_trip(());
        round_trip(u128::MAX);
        round_trip(Some(vec![("k\u{fc}".to_owned(), 1.5_f64)]));
        round_trip([Some(Box::new(-3_i16)), None]);
        round_trip(('x', true));
    }

    #[test]
    fn damaged_archives_are_refused() {
        let mut out = Vec::new();
        encode_payload::<String>(&"a string that is not inline".to_owned(), 1 << 20, &mut out)
            .expect("fits");
        for at in 0..out.len() {
            let mut damaged = AlignedBuf::copy_of(&out);
            damaged.as_mut_slice()[at] ^= 0xff;
            if let Some(text) = access::<String>(damaged.as_slice()) {
                assert!(
                    text.len() <= out.len(),
                    "byte {at} made a string longer than its payload"
                );
            }
        }
        let mut wild = AlignedBuf::copy_of(&out);
        let len = wild.len();
        wild.as_mut_slice()[len - 4..].fill(0x7f);
        assert!(access::<String>(wild.as_slice()).is_none());
        assert!(access::<u64>(&[]).is_none());
        assert!(access::<bool>(AlignedBuf::copy_of(&[2]).as_slice()).is_none());
    }
}
