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

/// Prints a row of the table that `docs/truths.sh` puts into docs/MEASURING.md.
fn tell(what: &str, measured: impl std::fmt::Display, expected: impl std::fmt::Display) {
    println!("TRUTH | {what} | {measured} | {expected} |");
}

/// How far a run with a stall of the server is from what must be seen, at its worst.
fn distance(reader: &ResultReader, kind: Kind) -> f64 {
    let distance = |tenth: u32| {
        let x_s = f64::from(tenth) / 10.0;
        let measured = share_above(reader, kind, x_s);
        let expected = theory::stall_exceedance(x_s, 1.0, 0.2, 60.0);
        tell(
            &format!(
                "server stopped for 1 s of 60 s at ρ = 0.2: share of {kind:?} times above {x_s} s"
            ),
            format_args!("{:.3} %", measured * 100.0),
            format_args!(
                "{:.3} %{}",
                expected * 100.0,
                if kind == Kind::Service {
                    "; the wrong clock must miss it"
                } else {
                    ""
                }
            ),
        );
        (measured / expected - 1.0).abs()
    };
    [2, 5, 8].map(distance).into_iter().fold(0.0, f64::max)
}

#[test]
fn a_stopped_server_is_seen_in_full_and_a_clock_from_the_sending_hides_it() {
    let listen = ["--listen", "tcp://127.0.0.1:0", "--shards", "1"];
    let mut server = Serving::start(&listen);
    let target = server.address();
    // 1000 calls of 200 µs: a fifth of the server's time. 64 may be in flight.
    let mut arguments = spinning("fixed:200us", "1000", "60s", "64");
    arguments.extend(["--target", &target]);
    let running = Running::start(&arguments);
    let stop = server.signal(Signal::STOP);
    let go_on = server.signal(Signal::CONT);
    stop();
    sleep(Duration::from_secs(1));
    go_on();
    let (_, reader, _out) = running.end();
    let response = point(&reader).latency.response;
    let p99_s = response.percentile_ns(99.0).expect("60 000 calls") as f64 / 1e9;
    tell("the same: p99", format_args!("{p99_s:.3} s"), "0.52 s");
    assert!((0.45..0.6).contains(&p99_s), "{p99_s}");
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
    tell(
        "generator stopped for 1 s: longest send lag",
        format_args!("{lag_s:.3} s"),
        "1 s",
    );
    assert_eq!(code, Some(4), "{:?}", point.validity);
    assert!((0.95..1.2).contains(&lag_s), "{lag_s}");
}

/// A load on one server that spins.
fn spinning<'a>(service: &'a str, rate: &'a str, time: &'a str, depth: &'a str) -> Vec<&'a str> {
    let all = [
        "--method",
        "spin",
        "--service-time",
        service,
        "--rate",
        rate,
    ];
    let limits = [
        "--duration",
        time,
        "--conns",
        "1",
        "--depth",
        depth,
        "--timeout",
        "5s",
    ];
    [&all[..], &limits[..]].concat()
}

/// Calls of 200 µs that the server can make per second, and so what one takes of its time.
fn service_s() -> f64 {
    let mut arguments = spinning("fixed:200us", "1", "5s", "16");
    let rate = arguments
        .iter()
        .position(|known| *known == "--rate")
        .expect("a rate");
    arguments.splice(rate..rate + 2, ["--closed", "16"]);
    let (_, reader, _out) = Running::start(&arguments).end();
    1.0 / point(&reader).achieved_per_s
}

/// Mean response time of one spinning server at 4000 calls per second.
fn mean_s(arrival: &str, service: &str) -> f64 {
    let mut arguments = spinning(service, "4000", "30s", "1024");
    arguments.extend(["--arrival", arrival]);
    let (_, reader, _out) = Running::start(&arguments).end();
    let point = point(&reader);
    let mean_s = point.latency.response.mean_ns / 1e9;
    let by_little = point.offered_per_s * mean_s;
    tell(
        &format!("mean in flight, {arrival} arrivals of {service}"),
        format_args!("{:.3}", point.in_flight_mean),
        format_args!("{by_little:.3} (rate × mean response)"),
    );
    assert!((point.in_flight_mean / by_little - 1.0).abs() < 0.02);
    mean_s
}

#[test]
fn one_spinning_server_waits_as_queueing_theory_says() {
    // A call takes more of the server's time than its 200 µs; the formulas get what it really takes.
    let service_s = service_s();
    tell(
        "time of the server for a call that spins 200 µs",
        format_args!("{:.1} µs", service_s * 1e6),
        "200 µs and what a call costs",
    );
    assert!((200e-6..230e-6).contains(&service_s), "{service_s}");
    let even_s = mean_s("uniform", "fixed:200us");
    let way_s = even_s - service_s;
    tell(
        "D/D/1 at 4000/s: mean",
        format_args!("{:.3} ms", even_s * 1e3),
        "0.2 ms and the way there and back",
    );
    assert!((0.0..200e-6).contains(&way_s), "{way_s}");
    for (name, service, variance_s2) in [
        ("M/D/1", "fixed:200us", 0.0),
        ("M/M/1", "exp:200us", 200e-6 * 200e-6),
    ] {
        let expected_s = theory::mg1_mean_s(4000.0, service_s, variance_s2) + way_s;
        let measured_s = mean_s("poisson", service);
        tell(
            &format!("{name} at 4000/s: mean"),
            format_args!("{:.3} ms", measured_s * 1e3),
            format_args!("{:.3} ms", expected_s * 1e3),
        );
        let ratio = measured_s / expected_s;
        assert!((0.75..1.33).contains(&ratio), "{name}: {ratio}");
    }
}
