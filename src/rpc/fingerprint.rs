//! Type fingerprints: equal when two peers agree on what the bytes of a message mean.
//!
//! A fingerprint is the 64-bit FNV-1a hash of a tag and of what the type consists of, so that any
//! language can compute it. Field and variant names count, because renaming one usually changes
//! its meaning; names of types do not.

/// 64-bit FNV-1a, in the middle of hashing.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Starts with a tag such as `u32`, `vec` or `struct`.
    pub const fn tag(tag: &str) -> Self {
        Self(0xcbf2_9ce4_8422_2325).bytes(tag.as_bytes())
    }

    /// Adds a name, ended by a zero byte.
    pub const fn name(self, name: &str) -> Self {
        self.bytes(name.as_bytes()).bytes(&[0])
    }

    /// Adds the fingerprint of a part, as eight little-endian bytes.
    pub const fn part(self, fingerprint: u64) -> Self {
        self.bytes(&fingerprint.to_le_bytes())
    }

    /// The finished fingerprint.
    pub const fn finish(self) -> u64 {
        self.0
    }

    const fn bytes(mut self, bytes: &[u8]) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self.0 = (self.0 ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            at += 1;
        }
        self
    }
}

/// Stands for a type inside its own definition.
pub const SELF: u64 = Fingerprint::tag("self").finish();

/// Fingerprint of a method: of its request and its response.
pub const fn method(request: u64, response: u64) -> u64 {
    Fingerprint::tag("method")
        .part(request)
        .part(response)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fnv_1a() {
        // Published test vectors of the FNV authors.
        assert_eq!(Fingerprint::tag("").finish(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Fingerprint::tag("a").finish(), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(Fingerprint::tag("foobar").finish(), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn names_end() {
        let split = |a, b| Fingerprint::tag("struct").name(a).name(b).finish();
        assert_ne!(split("ab", "c"), split("a", "bc"));
    }
}
