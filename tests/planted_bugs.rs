//! Whether the simulation finds bugs: each of those that can be planted, within so many seeds.
//!
//! The table is part of docs/TESTING.md. When it has changed, `UPDATE=1` writes it there. Without optimisation the
//! search would take too long: then only the seeds of that table are tried.

#[path = "support/sim/mod.rs"]
mod sim;

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use ringcall::__private::Bug;
use sim::Scope;

/// Within so many seeds each bug must show.
const SEEDS_MAX: u64 = 10_000;

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
                    if seed > SEEDS_MAX.min(found.load(Ordering::Relaxed)) {
                        return;
                    }
                    let is_sound = || sim::run_caught(seed, &Scope::default()).is_ok();
                    if sim::run_caught(seed, &scope).is_err() && is_sound() {
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

/// What was seen of a bug, as far as it fits into a table.
fn in_short(why: &str) -> String {
    let line = why.lines().next().unwrap_or_default();
    let short: String = line.chars().take(90).collect();
    short.replace('|', "/")
}

/// The file with the table; what stands before the table, the table, and what stands behind it.
fn documented() -> (&'static str, String, String, String) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/TESTING.md");
    let text = std::fs::read_to_string(path).expect("docs/TESTING.md");
    let (before, rest) = text.split_once(BEGIN).expect("where the table begins");
    let (table, after) = rest.split_once(END).expect("where it ends");
    (path, before.to_owned(), table.to_owned(), after.to_owned())
}

const BEGIN: &str = "<!-- planted -->\n";
const END: &str = "<!-- /planted -->";

/// The seed that the table names for a bug.
fn documented_seed(table: &str, bug: Bug) -> Option<u64> {
    let name = format!("| `{bug:?}` | ");
    let row = table.lines().find_map(|line| line.strip_prefix(&name))?;
    row.split(' ').next()?.parse().ok()
}

#[test]
fn each_is_found_by_its_seed() {
    sim::quieten_panics();
    let (_, _, table, _) = documented();
    for bug in Bug::ALL {
        let seed = documented_seed(&table, bug);
        let seed = seed.unwrap_or_else(|| panic!("docs/TESTING.md does not know {bug:?}"));
        let with = |bug| {
            let scope = Scope {
                bug,
                ..Scope::default()
            };
            sim::run_caught(seed, &scope)
        };
        assert!(
            with(Some(bug)).is_err(),
            "seed {seed} does not show {bug:?}"
        );
        assert_eq!(with(None).err(), None, "seed {seed} without any bug");
    }
}

#[test]
fn each_is_found_within_ten_thousand_seeds() {
    if cfg!(debug_assertions) {
        return println!("only with optimisation: cargo test --release --test planted_bugs");
    }
    sim::quieten_panics();
    let mut table =
        String::from("| planted bug | seeds until found | what was seen |\n|---|---|---|\n");
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        match first_seed(bug) {
            Some((seed, why)) => {
                let row = format!("| `{bug:?}` | {seed} | {} |", in_short(&why));
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
        "not found within {SEEDS_MAX} seeds: {missed:?}"
    );
    let (path, before, written, after) = documented();
    if std::env::var_os("UPDATE").is_some() {
        let text = format!("{before}{BEGIN}{table}{END}{after}");
        std::fs::write(path, text).expect("writes docs/TESTING.md");
    } else {
        assert!(
            written == table,
            "the table in docs/TESTING.md is another one: UPDATE=1 cargo test --release --test planted_bugs"
        );
    }
}
