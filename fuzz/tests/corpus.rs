//! The kept corpus, replayed: by any compiler, in a second.
//!
//! Seeds are made of the vectors of `docs/PROTOCOL.md`. `SEEDS=overwrite cargo test
//! --no-default-features` writes them anew; what a fuzzer has found lies beside them under other
//! names.

#[path = "support/seeds.rs"]
mod seeds;
#[path = "../../tests/protocol_vectors/vectors.rs"]
#[allow(dead_code, reason = "a part of it is enough here")]
mod vectors;

use std::fs;
use std::path::PathBuf;

use ringcall_fuzz::targets;

fn directory(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "corpus", target]
        .iter()
        .collect()
}

#[test]
fn every_kept_case_holds() {
    for (name, run) in targets::ALL {
        let mut count = 0;
        for entry in fs::read_dir(directory(name)).expect("each target has a corpus") {
            let path = entry.expect("readable").path();
            let data = fs::read(&path).expect("readable");
            // Said when the test fails: which case it was.
            println!("{}", path.display());
            run(&data);
            count += 1;
        }
        assert!((4..=100).contains(&count), "{count} cases of {name}");
    }
}

#[test]
fn seeds_are_those_of_the_document() {
    let is_overwriting = std::env::var_os("SEEDS").is_some_and(|how| how == "overwrite");
    for (target, name, data) in seeds::all() {
        let path = directory(target).join(&name);
        if is_overwriting {
            fs::create_dir_all(directory(target)).expect("a directory");
            fs::write(&path, &data).expect("written");
        }
        let kept = fs::read(&path).unwrap_or_default();
        assert!(kept == data, "{} is not what it should be", path.display());
    }
}

/// A few thousand variations of each case, always the same ones: so that also a machine without a fuzzer
/// goes a little beyond what is kept.
#[test]
fn simple_mutations_hold() {
    for (name, run) in targets::ALL {
        for (target, seed_name, data) in seeds::all() {
            if target != name {
                continue;
            }
            println!("{name}: {seed_name}");
            for at in 0..data.len().min(96) {
                let mut changed = data.clone();
                changed[at] ^= 1 << (at % 8);
                run(&changed);
                changed.truncate(at);
                run(&changed);
            }
        }
    }
}
