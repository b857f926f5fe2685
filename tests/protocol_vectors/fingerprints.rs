//! Fingerprints: the document's examples, hashed by the crate and once more from scratch.

use ringcall::Message;

use super::payloads::{fingerprints, squeezed};
use super::vectors::{Vector, of_class};

/// Written anew from section 12, so that a mistake in the crate's own can't hide.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn stated(vector: &Vector) -> u64 {
    let hash = u64::from_str_radix(vector.property("fnv"), 16).expect("a number");
    assert_eq!(fnv(&vector.bytes), hash, "{}", vector.name);
    hash
}

#[test]
fn fingerprints_are_as_documented() {
    let types = fingerprints();
    for vector in of_class("fingerprint") {
        let type_name = squeezed(vector.property("type"));
        assert_eq!(types[&type_name], stated(&vector), "{type_name}");
    }
    for vector in of_class("method") {
        let part = |key| types[&squeezed(vector.property(key))];
        let method = ringcall::__private::method_fingerprint(part("request"), part("response"));
        assert_eq!(method, stated(&vector), "{}", vector.name);
    }
}

#[test]
fn basic_types_have_the_documented_fingerprints() {
    macro_rules! basic {
        ($($type:ty),*) => { [$((stringify!($type), <$type>::FINGERPRINT)),*] };
    }
    let basic = basic!(
        u8,
        u16,
        u32,
        u64,
        u128,
        i8,
        i16,
        i32,
        i64,
        i128,
        f32,
        f64,
        bool,
        char,
        String,
        ()
    );
    let [tags] = &of_class("tags")[..] else {
        panic!("one block has all basic types")
    };
    let stated: Vec<(&str, &str)> = tags.properties().collect();
    let basic: Vec<(&str, String)> = basic
        .iter()
        .map(|&(name, hash)| (name, format!("{hash:016x}")))
        .collect();
    assert_eq!(stated.len(), basic.len(), "each basic type once");
    for ((name, hash), (ours, expected)) in stated.iter().zip(&basic) {
        assert_eq!((name, hash), (ours, &expected.as_str()));
    }
}
