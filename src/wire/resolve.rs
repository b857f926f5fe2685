//! RESOLVE and RESOLVED: names and type fingerprints become small indices, once per connection.
//!
//! ```text
//! RESOLVE   count u16, then per method: fingerprint u64, name_bytes u16, name
//! RESOLVED  count u16, then per method: fingerprint u64, code u16, index u16
//! ```
//! The name is `service/method`. `code` is 0 (the index may be called), 12 UNIMPLEMENTED (no such
//! method) or 9 FAILED_PRECONDITION (other types; `fingerprint` is the server's).

use super::limits::{METHOD_NAME_BYTES_MAX, RESOLVE_METHODS_MAX};
use super::status::Code;
use super::violation::Violation;

/// A method as a caller knows it. Made by `#[ringcall::service]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodDescriptor {
    /// `service/method`, such as `kv.v1/get`.
    pub name: &'static str,
    /// Fingerprint of the request and response types.
    pub fingerprint: u64,
    /// Whether running it twice does no harm.
    pub idempotent: bool,
    /// The longest payload that can be read as its request, in bytes; `u32::MAX` where the type has
    /// no bound.
    pub request_bytes_max: u32,
}

/// A service as a caller knows it. Made by `#[ringcall::service]`.
#[derive(Debug, PartialEq, Eq)]
pub struct ServiceDescriptor {
    /// The service's name, such as `kv.v1`.
    pub name: &'static str,
    /// Its methods, in the order of the trait.
    pub methods: &'static [MethodDescriptor],
}

/// What a server knows of its methods; asked once per method and connection.
pub trait Directory {
    /// Index and fingerprint of the method with this name.
    fn find(&self, name: &str) -> Option<(u16, u64)>;

    /// The longest payload that can be read as a request of the method with this index, in bytes;
    /// `u32::MAX` where it has no bound. What is longer need not be received.
    fn request_bytes_max(&self, _index: u16) -> u32 {
        u32::MAX
    }
}

/// What a server answered for one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The server's fingerprint, or zero when it has no such method.
    pub fingerprint: u64,
    /// `Ok`, `Unimplemented` or `FailedPrecondition`.
    pub code: Code,
    /// What to put into the selector of requests.
    pub index: u16,
}

/// Appends the payload of RESOLVE for a service.
pub fn encode_resolve(service: &ServiceDescriptor, out: &mut Vec<u8>) {
    assert!(
        service.methods.len() <= RESOLVE_METHODS_MAX,
        "checked by #[service]"
    );
    out.extend_from_slice(&(service.methods.len() as u16).to_le_bytes());
    for method in service.methods {
        assert!(
            method.name.len() <= METHOD_NAME_BYTES_MAX,
            "checked by #[service]"
        );
        out.extend_from_slice(&method.fingerprint.to_le_bytes());
        out.extend_from_slice(&(method.name.len() as u16).to_le_bytes());
        out.extend_from_slice(method.name.as_bytes());
    }
}

/// Answers a RESOLVE payload: calls `found` for each index that may now be called, and appends the
/// payload of RESOLVED.
pub fn answer_resolve(
    payload: &[u8],
    directory: &impl Directory,
    mut found: impl FnMut(u16),
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    let mut rest = payload;
    let count = take_u16(&mut rest)?;
    if usize::from(count) > RESOLVE_METHODS_MAX {
        return Err(MALFORMED);
    }
    out.extend_from_slice(&count.to_le_bytes());
    for _ in 0..count {
        let fingerprint = take_u64(&mut rest)?;
        let name_bytes = usize::from(take_u16(&mut rest)?);
        if name_bytes > METHOD_NAME_BYTES_MAX {
            return Err(MALFORMED);
        }
        let (name, after) = rest.split_at_checked(name_bytes).ok_or(MALFORMED)?;
        rest = after;
        let name = std::str::from_utf8(name).map_err(|_| MALFORMED)?;
        let answer = match directory.find(name) {
            None => Resolution {
                fingerprint: 0,
                code: Code::Unimplemented,
                index: 0,
            },
            Some((_, ours)) if ours != fingerprint => Resolution {
                fingerprint: ours,
                code: Code::FailedPrecondition,
                index: 0,
            },
            Some((index, ours)) => {
                found(index);
                Resolution {
                    fingerprint: ours,
                    code: Code::Ok,
                    index,
                }
            }
        };
        out.extend_from_slice(&answer.fingerprint.to_le_bytes());
        out.extend_from_slice(&(answer.code as u16).to_le_bytes());
        out.extend_from_slice(&answer.index.to_le_bytes());
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(MALFORMED)
    }
}

/// Reads the payload of RESOLVED for a service with `count` methods.
pub fn decode_resolved(payload: &[u8], count: usize) -> Result<Vec<Resolution>, Violation> {
    let mut rest = payload;
    if usize::from(take_u16(&mut rest)?) != count {
        return Err(MALFORMED);
    }
    let mut resolutions = Vec::with_capacity(count);
    for _ in 0..count {
        resolutions.push(Resolution {
            fingerprint: take_u64(&mut rest)?,
            code: Code::from_wire(take_u16(&mut rest)?),
            index: take_u16(&mut rest)?,
        });
    }
    if rest.is_empty() {
        Ok(resolutions)
    } else {
        Err(MALFORMED)
    }
}

const MALFORMED: Violation = Violation::Malformed {
    what: "method resolution",
};

fn take_u16(rest: &mut &[u8]) -> Result<u16, Violation> {
    let (bytes, after) = rest.split_first_chunk().ok_or(MALFORMED)?;
    *rest = after;
    Ok(u16::from_le_bytes(*bytes))
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, Violation> {
    let (bytes, after) = rest.split_first_chunk().ok_or(MALFORMED)?;
    *rest = after;
    Ok(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;
    impl Directory for Two {
        fn find(&self, name: &str) -> Option<(u16, u64)> {
            match name {
                "kv.v1/get" => Some((4, 0xaa)),
                "kv.v1/put" => Some((5, 0xbb)),
                _ => None,
            }
        }
    }

    const SERVICE: ServiceDescriptor = ServiceDescriptor {
        name: "kv.v1",
        methods: &[
            MethodDescriptor {
                name: "kv.v1/get",
                fingerprint: 0xaa,
                idempotent: true,
                request_bytes_max: u32::MAX,
            },
            MethodDescriptor {
                name: "kv.v1/put",
                fingerprint: 0xcc,
                idempotent: false,
                request_bytes_max: u32::MAX,
            },
            MethodDescriptor {
                name: "kv.v1/gone",
                fingerprint: 1,
                idempotent: false,
                request_bytes_max: u32::MAX,
            },
        ],
    };

    #[test]
    fn names_become_indices_and_differences_are_named() {
        let (mut ask, mut answer, mut found) = (Vec::new(), Vec::new(), Vec::new());
        encode_resolve(&SERVICE, &mut ask);
        answer_resolve(&ask, &Two, |index| found.push(index), &mut answer).unwrap();
        assert_eq!(found, [4]);
        assert_eq!(
            decode_resolved(&answer, 3).unwrap(),
            [
                Resolution {
                    fingerprint: 0xaa,
                    code: Code::Ok,
                    index: 4
                },
                Resolution {
                    fingerprint: 0xbb,
                    code: Code::FailedPrecondition,
                    index: 0
                },
                Resolution {
                    fingerprint: 0,
                    code: Code::Unimplemented,
                    index: 0
                },
            ]
        );
    }

    #[test]
    fn every_truncation_is_refused() {
        let mut ask = Vec::new();
        encode_resolve(&SERVICE, &mut ask);
        for len in 0..ask.len() {
            let refused = answer_resolve(&ask[..len], &Two, |_| (), &mut Vec::new());
            assert_eq!(refused, Err(MALFORMED), "cut at {len}");
        }
        ask.push(0);
        assert_eq!(
            answer_resolve(&ask, &Two, |_| (), &mut Vec::new()),
            Err(MALFORMED)
        );
    }
}
