//! `loadgen demo` and `loadgen env`, as a user and as a script see them.

mod support;

use std::process::Output;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use support::{complaint, loadgen, run};

/// Demonstrations pin themselves to the same CPUs: two at once would starve each other.
static ALONE: Mutex<()> = Mutex::new(());

fn run_alone(arguments: &[&str]) -> Output {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    run(arguments)
}

#[test]
fn the_demonstration_prints_one_json_object() {
    let output = run_alone(&["demo", "--duration", "1.2s", "--format", "json"]);
    assert!(output.status.success(), "{}", complaint(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();

    assert!(["uring", "epoll"].contains(&report["engine"].as_str().unwrap()));
    let in_place = report["in_place_ratio"].as_f64().unwrap();
    assert!((0.5..=1.0).contains(&in_place), "{in_place}");
    let rows = report["rows"].as_array().unwrap();
    let kinds: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["transport"].as_str().unwrap(),
                row["mode"].as_str().unwrap(),
            )
        })
        .collect();
    let modes = ["closed", "closed-pipelined", "open"];
    let expected = ["tcp", "unix"].map(|transport| modes.map(|mode| (transport, mode)));
    assert_eq!(kinds, expected.as_flattened());
    for row in rows {
        assert_eq!(row["errors"], 0, "{row}");
        for field in [
            "conns",
            "depth",
            "calls_per_s",
            "p50_us",
            "server_cpu_us_per_call",
        ] {
            assert!(row[field].as_f64().unwrap() > 0.0, "{field}: {row}");
        }
        let percentiles = ["p50_us", "p99_us", "p999_us"].map(|p| row[p].as_f64().unwrap());
        assert!(percentiles.is_sorted(), "{row}");
    }
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(progress.contains("1/6 tcp, closed loop\n"), "{progress}");
}

#[test]
fn the_table_is_for_people() {
    // Its page goes where the system keeps what is temporary.
    let folder = tempfile::tempdir().unwrap();
    let mut command = loadgen(&["--duration", "1.2s"]);
    let output = {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        command.env("TMPDIR", folder.path()).output().unwrap()
    };
    assert!(output.status.success(), "{}", complaint(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "calls/s",
        "p99.9",
        "unix        closed loop, pipelined",
        "\nread in place",
        "\nengine ",
        "\nclosed loop    each caller waits",
    ] {
        assert!(text.contains(part), "{part:?}\n{text}");
    }
    let (_, path) = text.split_once("\npictures and report: ").expect("a page");
    let page = std::fs::read_to_string(path.trim_end()).unwrap();
    assert_eq!(page.matches("<svg").count(), 2);
    for part in [
        "Latency over tcp",
        "Latency over unix",
        "p99.9",
        "What was found",
    ] {
        assert!(page.contains(part), "{part:?}");
    }
    // It calls no row valid that the terminal does not, and has its marks.
    let invalid = |text: &str| text.matches(": INVALID").count();
    let table = text.split("\nread in place").next().expect("a table");
    assert_eq!(
        invalid(page.split("</table>").next().expect("a table")),
        invalid(table)
    );
    assert_eq!(page.contains(">~"), table.contains(" ~"));
    // Nothing else is left behind.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn with_one_cpu_it_still_runs_and_says_so() {
    let cpu = rustix::thread::sched_getcpu();
    let pinned = std::thread::spawn(move || {
        // What this thread starts inherits its CPU.
        let mut one = rustix::thread::CpuSet::new();
        one.set(cpu);
        rustix::thread::sched_setaffinity(None, &one).unwrap();
        run_alone(&["--duration", "1.2s"])
    });
    let output = pinned.join().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("only one CPU may be used"), "{text}");
    assert!(text.contains("not pinned"), "{text}");
}

#[test]
fn the_environment_is_told_in_words_and_in_json() {
    let output = run(&["env"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "CPUs allowed ",
        "locked memory ",
        "\nio_uring ",
        "\nengine ",
    ] {
        assert!(text.contains(part), "{part:?}\n{text}");
    }
    let output = run(&["env", "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!report["cpus"].as_array().unwrap().is_empty());
    assert!(report["io_uring"]["state"].is_string() && report["advice"].is_array());
}
