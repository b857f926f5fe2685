//! Modules depend on each other in one direction, and ARCHITECTURE.md tells the way of a call as it is.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

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

/// The program of a file, without comments.
fn program(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("a text");
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules of this package that a program names from its root: `crate::wire::…` names `wire`.
fn named(program: &str) -> Vec<&str> {
    let paths = program.split("crate::").skip(1);
    paths
        .map(|path| {
            let end = path.find(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_');
            let (name, rest) = path.split_at(end.unwrap_or(path.len()));
            assert!(
                !name.is_empty(),
                "one use for each module: crate::{rest:.40}"
            );
            name
        })
        // Types and functions that the root exports belong to whoever may name them there.
        .filter(|name| root().join("src").join(name).is_dir())
        .collect()
}

/// Each folder of `src`, and the folders that it may name: always such as stand before it, so that there is
/// no circle.
const LAYERS: [(&str, &[&str]); 10] = [
    ("buf", &[]),
    ("net", &[]),
    ("wire", &["buf"]),
    ("connection", &["buf", "wire"]),
    ("rpc", &["buf", "wire"]),
    ("client", &["buf", "net", "wire", "connection", "rpc"]),
    (
        "shard",
        &["buf", "net", "wire", "connection", "rpc", "client"],
    ),
    ("platform", &["net"]),
    (
        "engine",
        &[
            "buf",
            "net",
            "wire",
            "connection",
            "rpc",
            "client",
            "shard",
            "platform",
        ],
    ),
    (
        "server",
        &["net", "wire", "connection", "shard", "platform", "engine"],
    ),
];

#[test]
fn modules_depend_on_each_other_in_one_direction() {
    let mut below: Vec<&str> = Vec::new();
    for (layer, may_name) in LAYERS {
        for name in may_name {
            assert!(below.contains(name), "{name} does not stand before {layer}");
        }
        for file in files(&root().join("src").join(layer)) {
            for name in named(&program(&file)) {
                let may = name == layer || may_name.contains(&name);
                assert!(may, "{} names {name}", file.display());
            }
        }
        below.push(layer);
    }
    let folders = fs::read_dir(root().join("src")).expect("a folder of this package");
    let folders = folders.map(|entry| entry.expect("it can be read").path());
    for folder in folders.filter(|path| path.is_dir()) {
        let name = folder.file_name().and_then(|name| name.to_str());
        let name = name.expect("a name");
        assert!(below.contains(&name), "{name} has no layer");
    }
}

/// No file of `folder` names one of these paths.
fn assert_names_none_of(folder: &str, paths: &[&str]) {
    for file in files(&root().join("src").join(folder)) {
        let text = program(&file);
        for path in paths {
            assert!(!text.contains(path), "{} names {path}", file.display());
        }
    }
}

#[test]
fn the_core_of_clients_knows_no_runtime_and_no_front_and_shards_know_the_core_alone() {
    let fronts_and_runtimes = ["client::shared", "client::blocking", "tokio::", "glommio"];
    assert_names_none_of("client/core", &fronts_and_runtimes);
    assert_names_none_of(
        "shard",
        &["client::shared", "client::blocking", "client::unread"],
    );
}

/// Drivers move bytes and carry out plans: what a connection becomes is not theirs to say.
#[test]
fn drivers_decide_nothing_of_a_connection() {
    let decisions = [
        "advance_to",
        "set_pause",
        "set_reads_on",
        "handle_timeout",
        "respond",
        "output_mut",
        "Stage::Lingering",
    ];
    for driver in ["engine/uring", "engine/epoll", "engine/sim"] {
        assert_names_none_of(driver, &decisions);
    }
}

/// Rows of the two tables of the way of a call: `| file | `function` → … |`.
#[test]
fn the_way_of_a_call_is_told_as_it_is() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("a text");
    let told = text.split("<!-- way:begin -->").nth(1);
    let told = told.and_then(|text| text.split("<!-- way:end -->").next());
    let mut functions = 0;
    for row in told.expect("it is there").lines() {
        let Some((file, what)) = row
            .strip_prefix("| `src/")
            .and_then(|row| row.split_once("` | "))
        else {
            continue;
        };
        let program = program(&root().join("src").join(file));
        for path in what.split('`').skip(1).step_by(2) {
            let name = path.rsplit("::").next().expect("a name");
            let is_there = program.contains(&format!("fn {name}("))
                || program.contains(&format!("fn {name}<"));
            assert!(is_there, "{file} has no function {name}");
            functions += 1;
        }
    }
    assert!(functions > 20, "{functions} functions were found");
}
