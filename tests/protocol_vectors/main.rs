//! `docs/PROTOCOL.md` against the code: every test vector, and the tables of numbers.

#[path = "../support/raw.rs"]
mod raw;
mod vectors;

mod connections;
mod fingerprints;
mod frames;
mod payloads;
mod tables;

use ringcall::Engine;
use vectors::DOCUMENT;

const ENGINES: [Engine; 2] = [Engine::Uring, Engine::Epoll];

/// Fails when a vector is added whose class no test here knows, or when many have gone.
#[test]
fn every_vector_belongs_to_a_test() {
    let mut names = Vec::new();
    for vector in vectors::all() {
        let known = [
            "frame",
            "tags",
            "fingerprint",
            "method",
            "payload",
            "invalid",
            "tolerated",
            "violation",
            "session",
        ];
        assert!(known.contains(&vector.class.as_str()), "{vector:?}");
        names.push((vector.class, vector.name));
    }
    assert!(names.len() >= 100, "only {} vectors are left", names.len());
    assert_eq!(names.len(), DOCUMENT.matches("```vector").count());
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "two vectors have the same name");
}
