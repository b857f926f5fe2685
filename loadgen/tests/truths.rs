//! Measurements whose outcome theory knows, over real sockets and processes. They take minutes, and
//! a machine that does nothing else: `cargo test -p loadgen --release --features truths --test
//! truths -- --test-threads 1 --nocapture`. Each prints what it measured and what was expected.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};
use std::thread::sleep;
use std::time::Duration;

use loadgen::results::{HistogramKey, Kind, PointSummary, ResultReader};
use loadgen::selftest::theory;
use rustix::process::{Pid, Signal, kill_process};
use support::{Serving, loadgen};
use tempfile::TempDir;

/// A run in the background.
struct Running {
    out: TempDir,
    child: Child,
    lines: BufReader<ChildStderr>,
}

impl Running {
    /// Starts it and returns when its first interval is over.
    fn start(arguments: &[&str]) -> Self {
        let out = tempfile::tempdir().unwrap();
        let mut command = loadgen(&[
            "run",
            "--format",
            "json",
            "--out",
            out.path().to_str().unwrap(),
        ]);
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("/s, p99") {
            line.clear();
            assert!(
                lines.read_line(&mut line).unwrap() > 0,
                "it ended before an interval did"
            );
        }
        Self { out, child, lines }
    }

    /// Its exit code and its folder.
    fn end(mut self) -> (Option<i32>, ResultReader, TempDir) {
        let mut text = String::new();
        self.lines.read_to_string(&mut text).unwrap();
        let status = self.child.wait().unwrap();
        let mut folders = std::fs::read_dir(self.out.path()).unwrap();
        let folder = folders.next().unwrap().unwrap().path();
        (
            status.code(),
            ResultReader::open(&folder).unwrap(),
            self.out,
        )
    }
}

fn point(reader: &ResultReader) -> PointSummary {
    reader.summary().unwrap().points.remove(0)
}

/// Share of the values above a time, from the histogram log.
fn share_above(reader: &ResultReader, kind: Kind, x_s: f64) -> f64 {
    let (mut above, mut all) = (0, 0);
    for interval in reader.histograms().unwrap() {
        let HistogramKey { kind: of, .. } = interval.key;
        if of == kind {
            let values_ns = interval.values_ns;
            above += values_ns.len() - values_ns.count_between(0, (x_s * 1e9) as u64);
            all += values_ns.len();
        }
    }
    above as f64 / all as f64
}

fn stop_for(pid: Pid, time: Duration) {
    kill_process(pid, Signal::STOP).unwrap();
    sleep(time);
    kill_process(pid, Signal::CONT).unwrap();
}

/// How far a run with a stall of the server is from what must be seen, at its worst.
fn distance(reader: &ResultReader, kind: Kind) -> f64 {
    let distance = |tenth: u32| {
        let x_s = f64::from(tenth) / 10.0;
        let measured = share_above(reader, kind, x_s);
        let expected = theory::stall_exceedance(x_s, 1.0, 0.2, 60.0);
        eprintln!("{kind:?} above {x_s} s: {measured:.5}, expected {expected:.5}");
        (measured / expected - 1.0).abs()
    };
    (2..=8).map(distance).fold(0.0, f64::max)
}

#[test]
fn a_stopped_server_is_seen_in_full_and_a_clock_from_the_sending_hides_it() {
    let listen = ["--listen", "tcp://127.0.0.1:0", "--shards", "1"];
    let mut server = Serving::start(&listen);
    let target = server.address();
    // 1000 calls of 200 µs: a fifth of the server's time. 64 may be in flight.
    let running = Running::start(&[
        "--target",
        &target,
        "--method",
        "spin",
        "--service-time",
        "fixed:200us",
        "--rate",
        "1000",
        "--duration",
        "60s",
        "--conns",
        "1",
        "--depth",
        "64",
        "--timeout",
        "5s",
    ]);
    let stop = server.signal(Signal::STOP);
    let go_on = server.signal(Signal::CONT);
    stop();
    sleep(Duration::from_secs(1));
    go_on();
    let (_, reader, _out) = running.end();
    let response = point(&reader).latency.response;
    eprintln!("p99 {:?} ns, expected 0.52 s", response.percentile_ns(99.0));
    let right = distance(&reader, Kind::Response);
    assert!(right < 0.15, "{right}");
    let wrong = distance(&reader, Kind::Service);
    assert!(
        wrong > 0.8,
        "a clock from the actual sending must fail: {wrong}"
    );
}

#[test]
fn a_stopped_generator_makes_the_measurement_invalid() {
    let running = Running::start(&["--rate", "2000", "--duration", "10s", "--warmup", "1s"]);
    stop_for(Pid::from_child(&running.child), Duration::from_secs(1));
    let (code, reader, _out) = running.end();
    let point = point(&reader);
    let lag_s = point.latency.send_lag.max_ns as f64 / 1e9;
    eprintln!("longest send lag {lag_s:.3} s, expected about 1 s");
    assert_eq!(code, Some(4), "{:?}", point.validity);
    assert!((0.9..2.0).contains(&lag_s), "{lag_s}");
}

/// Mean response time of one spinning server at 4000 calls per second of 200 µs, above the shortest.
fn mean_wait_s(arrival: &str, service: &str) -> f64 {
    let running = Running::start(&[
        "--method",
        "spin",
        "--service-time",
        service,
        "--rate",
        "4000",
        "--arrival",
        arrival,
        "--duration",
        "30s",
        "--conns",
        "1",
        "--depth",
        "1024",
        "--timeout",
        "5s",
    ]);
    let (_, reader, _out) = running.end();
    let point = point(&reader);
    let mean_s = point.latency.response.mean_ns / 1e9;
    let by_little = point.offered_per_s * mean_s;
    eprintln!(
        "{arrival} {service}: mean {:.3} ms; in flight {:.3}, by Little's law {by_little:.3}",
        mean_s * 1e3,
        point.in_flight_mean
    );
    assert!((point.in_flight_mean / by_little - 1.0).abs() < 0.02);
    mean_s
}

#[test]
fn one_spinning_server_waits_as_queueing_theory_says() {
    // What a call takes besides its service adds to the time that the server is busy with it, so
    // the queue is longer than the formula by more than that time: the bounds are wide above.
    let even_s = mean_wait_s("uniform", "fixed:200us");
    assert!((200e-6..500e-6).contains(&even_s), "D/D/1: {even_s}");
    let base_s = even_s - 200e-6;
    for (service, expected_s) in [
        ("fixed:200us", theory::md1_mean_s(4000.0, 200e-6)),
        ("exp:200us", theory::mm1_mean_s(4000.0, 200e-6)),
    ] {
        let ratio = mean_wait_s("poisson", service) / (expected_s + base_s);
        eprintln!("{service}: {ratio:.3} of what is expected");
        assert!((0.8..1.6).contains(&ratio), "{service}: {ratio}");
    }
}
