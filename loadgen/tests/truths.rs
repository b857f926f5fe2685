//! Measurements whose outcome theory knows, over real sockets and processes. They take minutes, and
//! a machine that does nothing else: `cargo test -p loadgen --release --features truths --test
//! truths -- --test-threads 1 --nocapture`. Each prints what it measured and what was expected.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use hdrhistogram::Histogram;
use loadgen::analysis::queueing::{Kind as QueueKind, Queue};
use loadgen::results::{HistogramKey, Kind, PointSummary, ResultReader};
use loadgen::samples::echo::{EchoHandler, EchoServer};
use loadgen::selftest::theory;
use ringcall::{Context, Reply, Request, Status};
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

const STALL: &str = "server stopped for 1 s of 60 s at ρ = 0.2";

/// How far a run with a stall of the server is from what must be seen, at its worst.
fn distance(reader: &ResultReader, kind: Kind) -> f64 {
    let distance = |tenth: u32| {
        let x_s = f64::from(tenth) / 10.0;
        let measured = share_above(reader, kind, x_s);
        let expected = theory::stall_exceedance(x_s, 1.0, 0.2, 60.0);
        let (times, note) = match kind {
            Kind::Service => ("service", "; a clock from the actual sending must miss it"),
            _ => ("response", ""),
        };
        tell(
            &format!("{STALL}: share of {times} times above {x_s} s"),
            format_args!("{:.3} %", measured * 100.0),
            format_args!("{:.3} %{note}", expected * 100.0),
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
    // 2000 calls of 100 µs each second: a fifth of the server's time. 64 may be in flight.
    let mut arguments = spinning("fixed:100us", "2000", "60s", "64");
    arguments.extend(["--target", &target]);
    let running = Running::start(&arguments);
    let stop = server.signal(Signal::STOP);
    let go_on = server.signal(Signal::CONT);
    stop();
    sleep(Duration::from_secs(1));
    go_on();
    let (_, reader, _out) = running.end();
    let response = point(&reader).latency.response;
    for (percent, expected_s) in [(99.0, 0.52), (99.9, 0.952)] {
        let measured_s = response.percentile_ns(percent).expect("120 000 calls") as f64 / 1e9;
        tell(
            &format!("{STALL}: p{percent} of response times"),
            format_args!("{measured_s:.3} s"),
            format_args!("{expected_s} s"),
        );
        let ratio = measured_s / expected_s;
        assert!((0.87..1.15).contains(&ratio), "p{percent}: {ratio}");
    }
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
    let lag_s = point.latency.own_lag.max_ns as f64 / 1e9;
    tell(
        "generator stopped for 1 s: longest own lag",
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

/// What a call costs the server beside the spinning: 200 µs less make calls of 200 µs in all.
fn overhead_s() -> f64 {
    let mut arguments = spinning("fixed:200us", "1", "5s", "16");
    let rate = arguments
        .iter()
        .position(|known| *known == "--rate")
        .expect("a rate");
    arguments.splice(rate..rate + 2, ["--closed", "16"]);
    let (_, reader, _out) = Running::start(&arguments).end();
    // 16 callers wait for one server: each waits for sixteen calls, but when the machine stands still.
    let response = point(&reader).latency.response;
    let median_ns = response.percentile_ns(50.0).expect("25 000 calls");
    let service_s = median_ns as f64 / 1e9 / 16.0;
    tell(
        "time of the server for a call that spins 200 µs",
        format_args!("{:.1} µs", service_s * 1e6),
        "200 µs and what a call costs, which is taken off the spinning below",
    );
    assert!((200e-6..230e-6).contains(&service_s), "{service_s}");
    service_s - 200e-6
}

/// Response times of one spinning server at 4000 calls per second, in seconds.
///
/// A machine that stands still for some milliseconds makes a queue longer for five times as long, and
/// disturbances never make it shorter. So mean and p99 are those of a still second: the lower quartiles
/// over the seconds of the run, which even without any disturbance are about a tenth below the whole's.
struct Waited {
    mean: f64,
    p50: f64,
    p99: f64,
    p999: f64,
}

fn wait(arrival: &str, service: &str) -> Waited {
    let mut arguments = spinning(service, "4000", "30s", "1024");
    arguments.extend(["--arrival", arrival]);
    let (_, reader, _out) = Running::start(&arguments).end();
    let point = point(&reader);
    let response = point.latency.response;
    let mean = response.mean_ns / 1e9;
    let by_little = point.offered_per_s * mean;
    tell(
        &format!(
            "mean in flight, {arrival} arrivals, {}",
            service_name(service)
        ),
        format_args!("{:.3}", point.in_flight_mean),
        format_args!("{by_little:.3} (rate × mean response)"),
    );
    assert!((point.in_flight_mean / by_little - 1.0).abs() < 0.02);
    let intervals = reader.histograms().unwrap();
    let seconds = intervals
        .iter()
        .map(|interval| (&interval.key, &interval.values_ns));
    let seconds: Vec<_> = seconds
        .filter(|(key, _)| key.kind == Kind::Response)
        .collect();
    assert!(seconds.len() >= 30, "{}", seconds.len());
    let still = |of: &dyn Fn(&Histogram<u64>) -> f64| {
        let mut values: Vec<_> = seconds.iter().map(|(_, times)| of(times) / 1e9).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 4]
    };
    let percentile_s =
        |percent| response.percentile_ns(percent).expect("120 000 calls") as f64 / 1e9;
    Waited {
        mean: still(&Histogram::mean),
        p50: percentile_s(50.0),
        p99: still(&|times| times.value_at_quantile(0.99) as f64),
        p999: percentile_s(99.9),
    }
}

fn service_name(service: &str) -> &'static str {
    if service.starts_with("exp") {
        "exponential service"
    } else {
        "fixed service"
    }
}

/// Tells a time and what was expected, and fails if they differ by more than a quarter.
fn compare(what: &str, measured_s: f64, expected_s: f64) {
    tell(
        what,
        format_args!("{:.2} ms", measured_s * 1e3),
        format_args!("{:.2} ms", expected_s * 1e3),
    );
    let ratio = measured_s / expected_s;
    assert!((0.75..1.33).contains(&ratio), "{what}: {ratio}");
}

#[test]
fn one_spinning_server_waits_as_queueing_theory_says() {
    let queue = |kind| Queue {
        kind,
        arrivals_per_s: 4000.0,
        services_per_s: 5000.0,
    };
    let [even, fixed, random] = [
        QueueKind::FixedFixed,
        QueueKind::RandomFixed,
        QueueKind::RandomRandom,
    ]
    .map(queue);
    let spin_us = (200e-6 - overhead_s()) * 1e6;
    let [fixed_time, random_time] =
        ["fixed", "exp"].map(|distribution| format!("{distribution}:{spin_us:.1}us"));

    // Without a queue the median is the service and the way; stalls of the machine are in the mean.
    let measured = wait("uniform", &fixed_time);
    let way_s = measured.p50 - even.mean_s();
    tell(
        "D/D/1, λ = 4000/s, μ = 5000/s: p50",
        format_args!("{:.2} ms", measured.p50 * 1e3),
        "0.20 ms, and the way there and back, which is added to what is expected below",
    );
    assert!((0.0..200e-6).contains(&way_s), "{way_s}");

    let measured = wait("poisson", &fixed_time);
    compare(
        "M/D/1: mean of a still second",
        measured.mean,
        fixed.mean_s() + way_s,
    );
    let measured = wait("poisson", &random_time);
    compare(
        "M/M/1: mean of a still second",
        measured.mean,
        random.mean_s() + way_s,
    );
    compare(
        "M/M/1: p99 of a still second",
        measured.p99,
        random.quantile_s(0.99) + way_s,
    );
    let expected_s = random.quantile_s(0.999) + way_s;
    tell(
        "M/M/1: p99.9 of the whole run",
        format_args!("{:.2} ms", measured.p999 * 1e3),
        format_args!(
            "{:.2} ms, and more where the machine stands still",
            expected_s * 1e3
        ),
    );
    assert!((0.75..3.0).contains(&(measured.p999 / expected_s)));

    search_finds_its_limit(&random_time, way_s);
}

/// p99 = ln 100 ÷ (μ − λ) and the way: at most 5 ms up to some 4079/s.
fn search_finds_its_limit(service: &str, way_s: f64) {
    let out = tempfile::tempdir().unwrap();
    let mut arguments = spinning(service, "2000", "8s", "1024");
    arguments.extend(["--slo", "p99<=5ms", "--no-curve", "--format", "json"]);
    arguments.extend(["--out", out.path().to_str().unwrap()]);
    let output = loadgen(&["search"]).args(&arguments).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        panic!("{error}: {complaint}")
    });
    let rate_per_s = told["study"]["answer"]["rate_per_s"].as_f64().unwrap();
    let expected_per_s = 5000.0 - 100f64.ln() / (5e-3 - way_s);
    tell(
        "M/M/1: `search` for p99 ≤ 5 ms",
        format_args!("{rate_per_s:.0}/s"),
        format_args!("{expected_per_s:.0}/s, rather from below: the upper bound has to pass"),
    );
    let ratio = rate_per_s / expected_per_s;
    // Where the machine stands still now and then, less rate leaves room for it.
    assert!((0.7..1.03).contains(&ratio), "{ratio}");
}

/// A server that stands still for 200 ms in every 5 000 calls.
struct Stalling {
    every: u32,
    calls: AtomicU32,
}

impl EchoHandler for Stalling {
    async fn echo(
        &self,
        _cx: &Context,
        payload: Request<Vec<u8>>,
    ) -> Result<Reply<Vec<u8>>, Status> {
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        if before % self.every == self.every - 1 {
            // The whole shard stands still, as it would for a collection of garbage.
            sleep(Duration::from_millis(200));
        }
        Ok(payload.into())
    }
}

fn stalling(every: u32) -> ringcall::Server {
    let server = ringcall::Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(std::num::NonZero::<usize>::MIN);
    let served = server.serve(move |_| {
        let calls = AtomicU32::new(0);
        EchoServer::new(Stalling { every, calls })
    });
    served.expect("a server")
}

#[test]
fn a_server_that_stalls_loses_a_comparison_at_any_cap() {
    let (steady, stalls) = (stalling(u32::MAX), stalling(5000));
    let [a, b] = [&steady, &stalls].map(|server| server.addresses()[0].clone());
    for depth in ["4", "128", "1024"] {
        let out = tempfile::tempdir().unwrap();
        let output = loadgen(&["compare", "--target", &a, "--against", &b])
            .args(["--rate", "5k", "--conns", "1", "--depth", depth])
            .args(["--warmup", "200ms", "--duration", "1500ms", "--rounds", "8"])
            .args(["--timeout", "5s", "--format", "json"])
            .args(["--out", out.path().to_str().unwrap()])
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {complaint}"));
        let findings = told["study"]["findings"].as_array().unwrap();
        let mean = findings.iter().find(|found| found["measure"] == "mean");
        let mean = &mean.expect("the mean is compared")["ratio"]["value"];
        let rounds = told["study"]["rounds"].as_array().unwrap().len();
        tell(
            &format!("200 ms of stall in 5 000 calls, cap {depth}: `compare`"),
            format_args!(
                "exit code {:?}, {rounds} of 8 rounds, mean × {:.1}",
                output.status.code(),
                mean.as_f64().unwrap()
            ),
            "exit code 5",
        );
        assert_eq!(output.status.code(), Some(5), "{complaint}");
        assert!(rounds >= 7, "{complaint}");
    }
}
