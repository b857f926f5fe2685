//! A report of an hour: the log is read interval by interval, never as a whole.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use loadgen::results::{HistogramKey, IntervalHistogram, Kind, ResultReader, ResultWriter};
use nix::sys::resource::{UsageWho, getrusage};

#[test]
fn an_hour_of_three_methods_is_reported_in_bounded_memory() {
    let out = tempfile::tempdir().unwrap();
    // A short run is the frame: its manifest, its summary, its tables.
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args([
        "run",
        "--method",
        "echo=0.4,add=0.3,put=0.3",
        "--rate",
        "300",
    ]);
    command.args([
        "--warmup",
        "50ms",
        "--duration",
        "200ms",
        "--conns",
        "2",
        "--out",
    ]);
    let run = command
        .arg(out.path())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(
        matches!(run.status.code(), Some(0 | 3 | 4)),
        "{:?}",
        run.status
    );
    let short = std::fs::read_dir(out.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let reader = ResultReader::open(&short).unwrap();
    let hour = out.path().join("hour");
    let writer = ResultWriter::create(&hour, &reader.manifest().unwrap(), began()).unwrap();
    let mut summary = reader.summary().unwrap();
    summary.points[0].window_s = INTERVALS as f64;
    writer.write_summary(&summary).unwrap();
    writer.add_point(&reader.points().unwrap()[0]).unwrap();
    let row = reader.intervals().unwrap().remove(0);
    for number in 0..INTERVALS {
        let mut row = row.clone();
        (row.interval, row.start_s, row.length_s) = (number, f64::from(number), 1.0);
        writer.add_intervals(&[row]).unwrap();
        writer.add_histograms(&interval(number)).unwrap();
    }

    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .arg("report")
        .arg(writer.path())
        .stdout(Stdio::null());
    assert!(command.status().unwrap().success());
    // The largest of all children of this process: the run before was smaller.
    let most_kib = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    assert!(most_kib < 300 * 1024, "{most_kib} KiB");
    let report = std::fs::read_to_string(writer.path().join("report.md")).unwrap();
    assert!(
        report.contains("Calls and response times over time"),
        "{report}"
    );
    let page = writer.path().join("report.html").metadata().unwrap();
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
}

#[expect(
    clippy::disallowed_methods,
    reason = "a date is asked for, not a duration"
)]
fn began() -> SystemTime {
    SystemTime::now()
}

/// Response times of three methods between 0.1 and 10 ms: they are told apart by intervals, other times
/// are not.
fn interval(number: u32) -> Vec<IntervalHistogram> {
    let mut random = fastrand::Rng::with_seed(number.into());
    let mut all = Vec::new();
    for method in ["echo", "add", "put"] {
        let mut values_ns = Histogram::new(3).unwrap();
        for _ in 0..100 {
            let ns = 1e5 * 100f64.powf(random.f64());
            values_ns.record(ns as u64).unwrap();
        }
        all.push(IntervalHistogram {
            key: HistogramKey {
                point: 0,
                method: method.into(),
                kind: Kind::Response,
            },
            start: Duration::from_secs(number.into()),
            length: Duration::from_secs(1),
            values_ns,
        });
    }
    all
}

const INTERVALS: u32 = 3600;
