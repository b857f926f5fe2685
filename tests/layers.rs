//! Modules depend on each other in one direction; see ARCHITECTURE.md.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a folder, and of those in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of this package");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// No file of `folder` names one of these paths.
fn assert_names_none_of(folder: &str, paths: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src")
        .join(folder);
    for file in files(&folder) {
        let text = fs::read_to_string(&file).expect("a text");
        for path in paths {
            assert!(!text.contains(path), "{} names {path}", file.display());
        }
    }
}

#[test]
fn clients_know_no_shard_and_their_core_knows_no_runtime_and_no_front() {
    assert_names_none_of(
        "client",
        &["crate::shard", "crate::engine", "crate::server"],
    );
    let fronts_and_runtimes = ["client::shared", "client::blocking", "tokio::", "glommio"];
    assert_names_none_of("client/core", &fronts_and_runtimes);
}
