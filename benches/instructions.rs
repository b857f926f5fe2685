//! `cargo bench --bench instructions`: what a whole unary call costs between two system calls, in
//! instructions and allocations. Neither depends on how noisy the machine is, so a change that costs
//! something shows. Allocations are the same on every run; instructions differ by some thousandths, by
//! where memory happens to lie and how hash maps are seeded.
//!
//! `-- --check` fails when a call costs more than `results/instructions.json` says, and `-- --update`
//! writes that file. Instructions are counted by `valgrind --tool=callgrind`.

use std::io;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use harness::baseline::{Baseline, Cost};
use harness::count::allocator;
use harness::count::page::Page;
use harness::memory::MemoryCalls;
use harness::options::{self, Common};
use harness::work::{Work, Workload};

/// Counts instructions and allocations of one call, and compares them with those on record.
#[derive(Parser)]
#[command(name = NAME)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Fails when a call costs more than is on record
    #[arg(long)]
    check: bool,
    /// Puts what is counted on record
    #[arg(long, conflicts_with = "check")]
    update: bool,
    /// Makes calls of the kind with this number, in the order of the table's source, and does
    /// nothing else: for profilers, and for callgrind
    #[arg(long, num_args = 2, value_names = ["CASE", "TURNS"])]
    turns: Option<Vec<usize>>,
}

/// A kind of call.
struct Case {
    name: &'static str,
    work: Work,
    calls_per_turn: usize,
}

const fn case(
    name: &'static str,
    workload: Workload,
    payload_bytes: usize,
    calls_per_turn: usize,
) -> Case {
    Case {
        name,
        work: Work {
            workload,
            payload_bytes,
        },
        calls_per_turn,
    }
}

/// One call in a turn is what a lone caller causes; 16 are what a pipelining one does.
const CASES: [Case; 7] = [
    case("echo of 64 bytes, alone", Workload::Echo, 64, 1),
    case("echo of 64 bytes, 16 in a turn", Workload::Echo, 64, 16),
    case("echo of 4 KiB, alone", Workload::Echo, 4096, 1),
    case("echo of 4 KiB, 16 in a turn", Workload::Echo, 4096, 16),
    case("order, alone", Workload::Order, 64, 1),
    case("order, 16 in a turn", Workload::Order, 64, 16),
    case("get of 64 bytes, 16 in a turn", Workload::Get, 64, 16),
];

const NAME: &str = "instructions";
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../results/instructions.json");

fn main() -> ExitCode {
    let options: Options = options::begin(NAME);
    let result = match &options.turns {
        Some(turns) => match CASES.get(turns[0]) {
            Some(case) => {
                make_turns(case, turns[1]);
                Ok(())
            }
            None => Err(io::Error::other("there is no such kind of call")),
        },
        None => run(&options),
    };
    options::end(NAME, result)
}

fn run(options: &Options) -> io::Result<()> {
    // From here on, this process counts its own allocations.
    let page = Page::new()?;
    allocator::count_into(page.path())?;
    let allocations: Vec<f64> = CASES.iter().map(|case| allocations(case, &page)).collect();
    if !options.common.bench {
        return no_allocations(&allocations);
    }
    let recorded = std::fs::read_to_string(FILE);
    let recorded: Option<Baseline> = match recorded {
        // What is replaced need not make sense.
        Ok(text) if options.update => serde_json::from_str(&text).ok(),
        Ok(text) => Some(serde_json::from_str(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if !has_valgrind() {
        let text = "valgrind is needed to count instructions: apt-get install valgrind";
        if options.check || options.update {
            return Err(io::Error::other(text));
        }
        options::say(text);
        return no_allocations(&allocations);
    }
    let mut now = Baseline::new();
    for ((index, case), allocations) in CASES.iter().enumerate().zip(allocations) {
        let cost = Cost {
            instructions: instructions(index, case)?,
            allocations,
        };
        now.calls.insert(case.name.into(), cost);
    }
    options
        .common
        .publish(NAME, &now.to_table(recorded.as_ref()), &now)?;
    if options.update {
        return std::fs::write(FILE, serde_json::to_string_pretty(&now)? + "\n");
    }
    match recorded {
        Some(recorded) if options.check => {
            for name in now.cheaper_than(&recorded) {
                options::say(format_args!(
                    "{name}: cheaper than on record; `cargo bench --bench {NAME} -- --update` keeps \
                     it so"
                ));
            }
            now.check(&recorded).map_err(io::Error::other)
        }
        None if options.check => Err(io::Error::other("nothing is on record: use --update")),
        _ => Ok(()),
    }
}

fn make_turns(case: &Case, turns: usize) {
    let mut calls = MemoryCalls::new(case.work, case.calls_per_turn);
    (0..turns).for_each(|_| calls.turn());
}

/// Allocations of one call, once everything that is used again was allocated.
fn allocations(case: &Case, page: &Page) -> f64 {
    const TURNS: usize = 100;
    let mut calls = MemoryCalls::new(case.work, case.calls_per_turn);
    (0..TURNS).for_each(|_| calls.turn());
    let before = page.allocations();
    (0..TURNS).for_each(|_| calls.turn());
    (page.allocations() - before) as f64 / (TURNS * case.calls_per_turn) as f64
}

fn no_allocations(allocations: &[f64]) -> io::Result<()> {
    match CASES
        .iter()
        .zip(allocations)
        .find(|(_, count)| **count > 0.0)
    {
        None => Ok(()),
        Some((case, count)) => Err(io::Error::other(format!(
            "{}: {count} allocations per call",
            case.name
        ))),
    }
}

fn has_valgrind() -> bool {
    let version = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// Instructions of one call: what more turns cost more, so that the start does not count.
fn instructions(index: usize, case: &Case) -> io::Result<f64> {
    const FEW: usize = 100;
    const MANY: usize = 300;
    let few = callgrind(index, FEW)?;
    let many = callgrind(index, MANY)?;
    Ok((many - few) as f64 / ((MANY - FEW) * case.calls_per_turn) as f64)
}

/// Instructions of a process that makes so many turns.
fn callgrind(index: usize, turns: usize) -> io::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--turns", &index.to_string(), &turns.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .filter(|_| output.status.success())
        .ok_or_else(|| io::Error::other(format!("valgrind failed: {said}")))
}
