//! Whether the simulation finds bugs: each of those that can be planted, within so many seeds.
//!
//! The table is part of docs/TESTING.md. When it has changed, `UPDATE=1` writes it there.

#[path = "support/sim/mod.rs"]
mod sim;

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use ringcall::__private::Bug;
use sim::Scope;

/// Within so many seeds each bug must show.
fn seeds_max() -> u64 {
    std::env::var("SEEDS").map_or(10_000, |seeds| seeds.parse().expect("a number"))
}

/// The first seed that shows a bug, and how it does.
fn first_seed(bug: Bug) -> Option<(u64, String)> {
    let scope = Scope {
        bug: Some(bug),
        ..Scope::default()
    };
    let (next, found) = (AtomicU64::new(1), AtomicU64::new(u64::MAX));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scoped| {
        for _ in 0..threads {
            scoped.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds_max().min(found.load(Ordering::Relaxed)) {
                        return;
                    }
                    if sim::run_caught(seed, &scope).is_err() {
                        found.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seed = found.into_inner();
    let why = sim::run_caught(seed, &scope).err()?;
    Some((seed, why))
}

/// What was seen of a bug, without what differs from seed to seed.
fn in_short(why: &str) -> String {
    let line = why.lines().next().unwrap_or_default();
    let mut short = String::new();
    for part in line.split_inclusive(|digit: char| !digit.is_ascii_digit()) {
        let is_digit = part.len() == 1 && part.as_bytes()[0].is_ascii_digit();
        if !is_digit {
            short.push_str(part);
        } else if !short.ends_with('…') {
            short.push('…');
        }
    }
    if let Some((at, _)) = short.char_indices().nth(90) {
        short.truncate(at);
    }
    short.replace('|', "/")
}

#[test]
fn each_is_found() {
    sim::quieten_panics();
    let mut table =
        String::from("| planted bug | seeds until found | what was seen |\n|---|---|---|\n");
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        match first_seed(bug) {
            Some((seed, why)) => {
                let why = in_short(&why);
                let row = format!("| `{bug:?}` | {seed} | {why} |");
                println!("{row}");
                writeln!(table, "{row}").expect("a string");
            }
            None => {
                println!("`{bug:?}` was not found");
                missed.push(bug);
            }
        }
    }
    assert!(
        missed.is_empty(),
        "not found within {} seeds: {missed:?}",
        seeds_max()
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/TESTING.md");
    let text = std::fs::read_to_string(path).expect("docs/TESTING.md");
    let (before, rest) = text
        .split_once("<!-- planted -->\n")
        .expect("where the table begins");
    let (written, after) = rest.split_once("<!-- /planted -->").expect("where it ends");
    if std::env::var_os("UPDATE").is_some() {
        let text = format!("{before}<!-- planted -->\n{table}<!-- /planted -->{after}");
        std::fs::write(path, text).expect("writes docs/TESTING.md");
    } else {
        assert!(
            written == table,
            "the table in docs/TESTING.md is another one: UPDATE=1 cargo test --release --test planted_bugs"
        );
    }
}
