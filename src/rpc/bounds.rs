//! What is known of a message by its type alone: how deep its values nest, and how long their
//! payloads are. All of it is computed by the compiler.
//!
//! A bound is an `Option<u32>`: `None` where a type has none, because it contains a `String`, a `Vec`
//! or itself.

use rkyv::Archived;

use super::message::Message;
use crate::wire::limits::{FRAME_ALIGN, NESTING_LEVELS_MAX};

/// Of a value that consists of two: both bounds together.
pub const fn sum(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    match (one, other) {
        (Some(one), Some(other)) => one.checked_add(other),
        _ => None,
    }
}

/// Of a value that is one or the other: the greater bound.
pub const fn greater(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    match (one, other) {
        (Some(one), Some(other)) if one < other => Some(other),
        (Some(one), Some(_)) => Some(one),
        _ => None,
    }
}

/// Of so many values of one type.
pub(super) const fn times(one: Option<u32>, count: usize) -> Option<u32> {
    match one {
        _ if count == 0 => Some(0),
        Some(0) => Some(0),
        Some(one) if count <= u32::MAX as usize => one.checked_mul(count as u32),
        _ => None,
    }
}

/// Bytes of a body of type `T` that stands behind others, with the gap that aligns it, and of what
/// lies outside of it.
pub(super) const fn aligned_bytes<T: Message>() -> Option<u32> {
    let body_bytes = size_of::<Archived<T>>() + align_of::<Archived<T>>() - 1;
    if body_bytes > u32::MAX as usize {
        return None;
    }
    sum(T::OUTSIDE_BYTES_MAX, Some(body_bytes as u32))
}

/// The longest payload that is read as a `T`: the longest that is written, rounded up to the end of
/// the frame that carries it.
pub(super) const fn payload_bytes_max<T: Message>() -> Option<u32> {
    let bytes = match T::OUTSIDE_BYTES_MAX {
        // Nothing stands before the body, so no gap does.
        Some(0) if size_of::<Archived<T>>() <= u32::MAX as usize => {
            Some(size_of::<Archived<T>>() as u32)
        }
        _ => aligned_bytes::<T>(),
    };
    match bytes {
        Some(bytes) => bytes.checked_next_multiple_of(FRAME_ALIGN as u32),
        None => None,
    }
}

/// The longest request of a method that takes a `T`, in bytes; `u32::MAX` where its type has no
/// bound.
pub const fn request_bytes_max<T: Message>() -> u32 {
    match T::PAYLOAD_BYTES_MAX {
        Some(bytes) => bytes,
        None => u32::MAX,
    }
}

/// Whether a value of this type may nest deeper than a receiver follows, so that each has to be
/// looked at before it is sent.
pub(super) const fn may_nest_too_deep<T: Message>() -> bool {
    match T::LEVELS_MAX {
        Some(levels) => levels > NESTING_LEVELS_MAX,
        None => true,
    }
}

/// Whether the pointers of `value` nest at most `levels` deep. Where its type says so already, it is
/// not looked at.
#[inline]
pub fn nests_within<T: Message>(value: &T, levels: u32) -> bool {
    T::LEVELS_MAX.is_some_and(|levels_max| levels_max <= levels) || value.nests_within(levels)
}

#[cfg(test)]
mod tests {
    use super::super::encode::encode_payload;
    use super::*;

    const fn bound<T: Message>() -> Option<u32> {
        T::PAYLOAD_BYTES_MAX
    }

    #[test]
    fn types_of_fixed_size_have_a_bound_and_others_do_not() {
        assert_eq!(bound::<()>(), Some(0));
        assert_eq!(bound::<bool>(), Some(16));
        assert_eq!(bound::<u128>(), Some(16));
        assert_eq!(bound::<[u64; 3]>(), Some(32));
        assert_eq!(bound::<[String; 0]>(), Some(0));
        assert_eq!(bound::<Option<(u64, u8)>>(), Some(32));
        assert_eq!(bound::<String>(), None);
        assert_eq!(bound::<(u8, Vec<u8>)>(), None);
        assert_eq!(bound::<Option<Box<String>>>(), None);
        assert_eq!(
            bound::<Box<[u8; 100]>>(),
            bound::<Box<([u8; 50], [u8; 50])>>()
        );
    }

    /// No value is longer than its type's bound, whatever gaps stand in it.
    #[test]
    fn no_payload_passes_its_bound() {
        fn check<T: Message>(value: T) {
            let mut out = Vec::new();
            encode_payload::<T>(&value, 1 << 20, &mut out).expect("fits");
            let bytes_max = bound::<T>().expect("a type of fixed size") as usize;
            assert!(out.len() <= bytes_max, "{} of {bytes_max}", out.len());
            assert!(
                bytes_max <= 2 * out.len() + 32,
                "{bytes_max} for {}",
                out.len()
            );
        }
        check(Box::new(1_u8));
        check((Box::new(1_u8), Box::new(2_u128), Box::new(3_u8), 4_u64));
        check([Some(Box::new(Box::new((1_u8, 2_u64)))), None]);
        check(Box::new([Box::new(1_u8), Box::new(2_u8), Box::new(3_u8)]));
        check(Box::new(()));
    }

    #[test]
    fn levels_are_counted_by_type() {
        assert_eq!(u64::LEVELS_MAX, Some(0));
        assert_eq!(String::LEVELS_MAX, Some(1));
        assert_eq!(<Option<Vec<(u8, Box<String>)>>>::LEVELS_MAX, Some(3));
        assert_eq!(<[Vec<u8>; 0]>::LEVELS_MAX, Some(0));
    }

    #[test]
    fn bounds_that_pass_u32_are_none() {
        assert_eq!(sum(Some(u32::MAX), Some(1)), None);
        assert_eq!(times(Some(1 << 20), 1 << 20), None);
        assert_eq!(times(None, 0), Some(0));
        assert_eq!(greater(Some(1), None), None);
    }
}
