//! Runs a load and looks at what it leaves behind.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use loadgen::results::{CallCounts, Kind, ResultReader};
use serde_json::Value;
use tempfile::TempDir;

use super::{complaint, loadgen, run};

/// A load that any machine bears, in a folder of its own.
pub struct Run {
    pub out: TempDir,
    arguments: Vec<String>,
}

impl Run {
    pub fn new(arguments: &[&str]) -> Self {
        let out = tempfile::tempdir().unwrap();
        let mut all: Vec<String> = [
            "run",
            "--rate",
            "500",
            "--warmup",
            "100ms",
            "--duration",
            "1s",
        ]
        .map(str::to_owned)
        .to_vec();
        all.extend(
            [
                "--interval",
                "250ms",
                "--conns",
                "2",
                "--format",
                "json",
                "--out",
            ]
            .map(str::to_owned),
        );
        all.push(out.path().to_str().unwrap().to_owned());
        for &argument in arguments {
            // Options given twice are refused: what is asked for here replaces what stands before.
            if argument.starts_with("--")
                && let Some(at) = all.iter().position(|known| known == argument)
            {
                all.drain(at..at + 2);
            }
            all.push(argument.to_owned());
        }
        Self {
            out,
            arguments: all,
        }
    }

    /// Three callers in a closed loop instead.
    pub fn closed(arguments: &[&str]) -> Self {
        let mut run = Self::new(arguments);
        let at = run.arguments.iter().position(|known| known == "--rate");
        let at = at.expect("a rate");
        run.arguments
            .splice(at..at + 2, ["--closed".to_owned(), "3".to_owned()]);
        run
    }

    pub fn arguments(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }

    pub fn end(&self) -> Output {
        run(&self.arguments())
    }

    pub fn folder(&self) -> PathBuf {
        let mut folders = fs::read_dir(self.out.path()).unwrap();
        let folder = folders.next().expect("a folder").unwrap().path();
        assert!(folders.next().is_none(), "one folder");
        folder
    }
}

pub fn json(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}{}", complaint(output));
    serde_json::from_str(&text).unwrap()
}

/// A measurement on a busy machine may be invalid; it must not fail in any other way.
pub fn assert_measured(output: &Output) {
    assert!(
        matches!(output.status.code(), Some(0 | 4)),
        "{}",
        complaint(output)
    );
}

/// What the folder holds agrees with itself.
pub fn assert_consistent(folder: &Path) -> CallCounts {
    let reader = ResultReader::open(folder).unwrap();
    let summary = reader.summary().unwrap();
    let point = &summary.points[0];
    let intervals = reader.histograms().unwrap();
    for (kind, spread) in [
        (Kind::Response, &point.latency.response),
        (Kind::Service, &point.latency.service),
        (Kind::RoomWait, &point.latency.room_wait),
        (Kind::OwnLag, &point.latency.own_lag),
    ] {
        let of_kind = intervals
            .iter()
            .filter(|interval| interval.key.kind == kind);
        let count: u64 = of_kind.map(|interval| interval.values_ns.len()).sum();
        assert_eq!(
            count, spread.count,
            "{kind:?} in the log and in the summary"
        );
    }
    let counts = point.counts;
    assert_eq!(counts.check(&point.latency), [""; 0]);
    let rows = reader.points().unwrap();
    assert_eq!(
        (rows.len(), rows[0].scheduled, rows[0].ok),
        (1, counts.scheduled, counts.ok)
    );
    let sent: u64 = reader.intervals().unwrap().iter().map(|row| row.sent).sum();
    assert_eq!(sent, counts.sent);
    counts
}

/// A run in the background, whose standard error is read line by line.
pub fn start(one: &Run) -> (Child, BufReader<std::process::ChildStderr>) {
    start_with(&one.arguments())
}

/// The same with these arguments.
pub fn start_with(arguments: &[&str]) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut command = loadgen(arguments);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, which can be sent signals.
        .process_group(0)
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap());
    (child, lines)
}

/// Waits until an interval of the window is over.
pub fn await_interval(lines: &mut impl BufRead) {
    await_line(lines, "/s, p99");
}

/// Waits for a line with this text.
pub fn await_line(lines: &mut impl BufRead, text: &str) -> String {
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(
            lines.read_line(&mut line).unwrap() > 0,
            "it ended before it said `{text}`"
        );
    }
    line
}

pub fn end(mut child: Child, mut lines: impl Read) -> Output {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    lines.read_to_end(&mut stderr).unwrap();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut stdout)
        .unwrap();
    Output {
        status: child.wait().unwrap(),
        stdout,
        stderr,
    }
}
