//! What may travel: the [`Message`] trait and its implementations for the basic types.

use std::num::NonZeroUsize;

use rkyv::api::access_with_context;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Failure, Strategy};
use rkyv::string::repr::INLINE_CAPACITY;
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::{Archive, Archived, Deserialize, Portable, Serialize};

use super::bounds::{self, nests_within};
use super::encode::Encoder;
use super::fingerprint::Fingerprint;
use crate::wire::limits::NESTING_LEVELS_MAX;

/// Validates archives: bounds and depth, and no shared pointers at all (`()` can't check them).
pub(crate) type Checker<'a> = Strategy<Validator<ArchiveValidator<'a>, ()>, Failure>;

/// Rebuilds owned values from archives.
pub(crate) type Reader = Strategy<(), Failure>;

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

    /// Levels of `Vec`, `Box` and `String` within each other at most; `None` for a type that contains
    /// itself.
    const LEVELS_MAX: Option<u32>;

    /// Bytes at most that lie outside of a value's own body, with the gaps that align them; `None`
    /// where there is no bound, as in a `String` or a `Vec`.
    const OUTSIDE_BYTES_MAX: Option<u32>;

    /// Bytes at most of a payload that is read as this type; `None` where there is no bound. A longer
    /// one consists of bytes that mean nothing, and is refused.
    const PAYLOAD_BYTES_MAX: Option<u32> = bounds::payload_bytes_max::<Self>();

    /// Whether at most so many levels of `Vec`, `Box` and text of more than eight bytes lie within
    /// each other in this value.
    fn nests_within(&self, levels: u32) -> bool;
}

/// Checks `payload` and reads it in place, if it can be: otherwise [`Unreadable::of`](super::refusal::Unreadable::of) says why not.
///
/// The payload must be 16-aligned, which every received payload is.
#[inline]
pub(crate) fn access<T: Message>(payload: &[u8]) -> Option<&Archived<T>> {
    // The root is a level too, and rkyv refuses the level that uses the last.
    const DEPTH_MAX: Option<NonZeroUsize> = NonZeroUsize::new(NESTING_LEVELS_MAX as usize + 2);
    const {
        assert!(
            align_of::<Archived<T>>() <= 16,
            "payloads are 16-aligned, this type needs more"
        )
    };
    if let Some(bytes_max) = T::PAYLOAD_BYTES_MAX
        && payload.len() > bytes_max as usize
    {
        return None;
    }
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
            const LEVELS_MAX: Option<u32> = Some(0);
            const OUTSIDE_BYTES_MAX: Option<u32> = Some(0);

            fn nests_within(&self, _levels: u32) -> bool {
                true
            }
        })*
    };
}

basic!(
    u8 "u8", u16 "u16", u32 "u32", u64 "u64", u128 "u128",
    i8 "i8", i16 "i16", i32 "i32", i64 "i64", i128 "i128",
    f32 "f32", f64 "f64", bool "bool", char "char",
);

impl Message for () {
    const FINGERPRINT: u64 = Fingerprint::tag("unit").finish();
    const LEVELS_MAX: Option<u32> = Some(0);
    const OUTSIDE_BYTES_MAX: Option<u32> = Some(0);

    fn nests_within(&self, _levels: u32) -> bool {
        true
    }
}

impl Message for String {
    const FINGERPRINT: u64 = Fingerprint::tag("string").finish();
    const LEVELS_MAX: Option<u32> = Some(1);
    const OUTSIDE_BYTES_MAX: Option<u32> = None;

    fn nests_within(&self, levels: u32) -> bool {
        levels > 0 || self.len() <= INLINE_CAPACITY
    }
}

impl<T: Message> Message for Vec<T> {
    const FINGERPRINT: u64 = {
        assert!(
            size_of::<Archived<T>>() > 0,
            "a vector of zero-sized elements could claim any length in no bytes: give the element a field"
        );
        Fingerprint::tag("vec").part(T::FINGERPRINT).finish()
    };
    const LEVELS_MAX: Option<u32> = bounds::sum(T::LEVELS_MAX, Some(1));
    const OUTSIDE_BYTES_MAX: Option<u32> = None;

    fn nests_within(&self, levels: u32) -> bool {
        // Also when it is empty: its pointer is followed.
        levels.checked_sub(1).is_some_and(|levels| {
            T::LEVELS_MAX.is_some_and(|levels_max| levels_max <= levels)
                || self.iter().all(|element| element.nests_within(levels))
        })
    }
}

impl<T: Message> Message for Option<T> {
    const FINGERPRINT: u64 = Fingerprint::tag("option").part(T::FINGERPRINT).finish();
    const LEVELS_MAX: Option<u32> = T::LEVELS_MAX;
    const OUTSIDE_BYTES_MAX: Option<u32> = T::OUTSIDE_BYTES_MAX;

    fn nests_within(&self, levels: u32) -> bool {
        self.as_ref()
            .is_none_or(|value| nests_within(value, levels))
    }
}

impl<T: Message> Message for Box<T> {
    const FINGERPRINT: u64 = Fingerprint::tag("box").part(T::FINGERPRINT).finish();
    const LEVELS_MAX: Option<u32> = bounds::sum(T::LEVELS_MAX, Some(1));
    const OUTSIDE_BYTES_MAX: Option<u32> = bounds::aligned_bytes::<T>();

    fn nests_within(&self, levels: u32) -> bool {
        levels
            .checked_sub(1)
            .is_some_and(|levels| nests_within(&**self, levels))
    }
}

impl<T: Message, const N: usize> Message for [T; N] {
    const FINGERPRINT: u64 = Fingerprint::tag("array")
        .part(N as u64)
        .part(T::FINGERPRINT)
        .finish();
    const LEVELS_MAX: Option<u32> = if N == 0 { Some(0) } else { T::LEVELS_MAX };
    const OUTSIDE_BYTES_MAX: Option<u32> = bounds::times(T::OUTSIDE_BYTES_MAX, N);

    fn nests_within(&self, levels: u32) -> bool {
        self.iter().all(|element| nests_within(element, levels))
    }
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),+))*) => {
        $(impl<$($name: Message),+> Message for ($($name,)+) {
            const FINGERPRINT: u64 = Fingerprint::tag("tuple")$(.part($name::FINGERPRINT))+.finish();
            const LEVELS_MAX: Option<u32> = {
                let levels = Some(0);
                $(let levels = bounds::greater(levels, $name::LEVELS_MAX);)+
                levels
            };
            const OUTSIDE_BYTES_MAX: Option<u32> = {
                let bytes = Some(0);
                $(let bytes = bounds::sum(bytes, $name::OUTSIDE_BYTES_MAX);)+
                bytes
            };

            fn nests_within(&self, levels: u32) -> bool {
                $(nests_within(&self.$index, levels))&&+
            }
        })*
    };
}

tuples!(
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
);

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
