//! `loadgen run`, as a user and as a script see it. Loads are light and short: what is looked at is
//! what is kept and answered, not how fast it was.

mod support;

use std::fs;
use std::process::Command;
use std::time::Duration;

use loadgen::results::{Completion, ResultReader};
use loadgen::samples::echo::{EchoHandler, EchoServer, Mirror};
use loadgen::units::format_count;
use ringcall::Limits;
use rustix::process::{Pid, Signal, kill_process_group};
use support::measured::{
    Run, assert_consistent, assert_measured, await_interval, await_line, end, json, start,
    start_with,
};
use support::{Serving, complaint, run};

#[test]
fn a_run_leaves_a_folder_that_agrees_with_itself() {
    let one = Run::new(&["--method", "echo=0.5,put=0.3,get=0.2", "--slo", "p50<10s"]);
    let output = one.end();
    assert_measured(&output);
    let report = json(&output);
    let folder = one.folder();
    assert_eq!(report["folder"], folder.to_str().unwrap());

    let counts = assert_consistent(&folder);
    // A Poisson count of 500: ten standard deviations either side.
    assert!((280..=720).contains(&counts.scheduled), "{counts:?}");
    assert_eq!((counts.ok, counts.error), (counts.scheduled, 0));
    let reader = ResultReader::open(&folder).unwrap();
    let summary = reader.summary().unwrap();
    assert_eq!(summary.completion, Completion::Complete);
    let point = &summary.points[0];
    assert_eq!(point.methods.len(), 3);
    assert_eq!(
        point
            .methods
            .iter()
            .map(|method| method.counts.ok)
            .sum::<u64>(),
        counts.ok
    );
    assert!(point.slo.as_ref().unwrap().is_met, "{:?}", point.slo);
    let server = point.server.expect("it was started here");
    assert!(
        server.cpu_us_per_call > 0.0 && server.rss_bytes_max > 1 << 20,
        "{server:?}"
    );
    assert!(!reader.server().unwrap().is_empty() && !reader.shards().unwrap().is_empty());
    let by_little = point.offered_per_s * point.latency.response.mean_ns / 1e9;
    assert!(
        (point.in_flight_mean / by_little - 1.0).abs() < 0.05,
        "{point:?}"
    );

    let manifest = reader.manifest().unwrap();
    let text = fs::read_to_string(folder.join("manifest.json")).unwrap();
    assert!(
        !text.contains(one.out.path().to_str().unwrap()),
        "no path: {text}"
    );
    assert_eq!(manifest.load.methods.len(), 3);
    let hgrm = fs::read_to_string(folder.join("p0.all.response.hgrm")).unwrap();
    assert!(hgrm.contains("1/(1-Percentile)"), "{hgrm}");
}

#[test]
fn a_percentile_without_enough_calls_is_not_told() {
    let one = Run::new(&["--slo", "p99.9<10s"]);
    let output = one.end();
    let report = json(&output);
    let percentiles = report["points"][0]["latency"]["response"]["percentiles"].as_array();
    let told: Vec<f64> = percentiles
        .unwrap()
        .iter()
        .map(|p| p["percentile"].as_f64().unwrap())
        .collect();
    assert!(told.contains(&50.0) && !told.contains(&99.0), "{told:?}");
    // What can't be said was not met.
    assert!(
        matches!(output.status.code(), Some(3 | 4)),
        "{}",
        complaint(&output)
    );
}

#[test]
fn an_objective_that_is_not_met_is_exit_code_3() {
    let output = Run::new(&["--slo", "p50<1ns"]).end();
    assert!(
        matches!(output.status.code(), Some(3 | 4)),
        "{}",
        complaint(&output)
    );
    assert_eq!(json(&output)["points"][0]["slo"]["is_met"], false);
}

#[test]
fn a_load_that_can_not_be_sent_is_invalid() {
    // Each call takes 50 ms, and one may be in flight on each of two connections: 40 per second.
    let arguments = [
        "--method",
        "sleep",
        "--service-time",
        "fixed:50ms",
        "--depth",
        "1",
    ];
    let one = Run::new(&[&arguments[..], &["--timeout", "200ms"]].concat());
    let output = one.end();
    assert_eq!(output.status.code(), Some(4), "{}", complaint(&output));
    assert!(
        complaint(&output).contains("INVALID"),
        "{}",
        complaint(&output)
    );
    let counts = assert_consistent(&one.folder());
    assert!(counts.unsent > counts.sent, "{counts:?}");
}

#[test]
fn calls_that_take_too_long_are_counted_with_their_time() {
    let arguments = [
        "--method",
        "sleep",
        "--service-time",
        "fixed:500ms",
        "--timeout",
        "50ms",
    ];
    let one = Run::new(&[&arguments[..], &["--rate", "50"]].concat());
    let output = one.end();
    let counts = assert_consistent(&one.folder());
    assert_eq!(
        (counts.ok, counts.timeout),
        (0, counts.sent),
        "{}",
        complaint(&output)
    );
    let reader = ResultReader::open(&one.folder()).unwrap();
    let service = &reader.summary().unwrap().points[0].latency.service;
    assert!(
        service.count == counts.timeout && service.min_ns >= 49_000_000,
        "{service:?}"
    );
}

#[test]
fn a_closed_loop_is_labelled_so() {
    let one = Run::new(&["--closed", "4", "--duration", "300ms"]);
    let mut arguments = one.arguments();
    let at = arguments
        .iter()
        .position(|argument| *argument == "--rate")
        .unwrap();
    arguments.drain(at..at + 2);
    let output = run(&arguments);
    assert_measured(&output);
    assert_eq!(json(&output)["points"][0]["loop_kind"], "closed");
    let counts = assert_consistent(&one.folder());
    assert!(counts.ok > 4, "{counts:?}");
}

#[test]
fn connections_may_be_replaced_and_payloads_vary() {
    let one = Run::new(&[
        "--churn",
        "20",
        "--payload",
        "lognormal:500:1.5",
        "--arrival",
        "gamma:2",
    ]);
    let output = one.end();
    assert_measured(&output);
    let counts = assert_consistent(&one.folder());
    assert_eq!(
        (counts.ok, counts.error),
        (counts.scheduled, 0),
        "{}",
        complaint(&output)
    );
}

#[test]
fn tonic_is_measured_alike() {
    let mix = "echo,hello,add,sum,get,put,spin,sleep";
    let arguments = [
        "--protocol",
        "tonic",
        "--method",
        mix,
        "--service-time",
        "exp:50us",
    ];
    let one = Run::new(&arguments);
    let output = one.end();
    assert_measured(&output);
    let report = json(&output);
    let counts = assert_consistent(&one.folder());
    let methods = report["points"][0]["methods"].as_array().unwrap();
    assert_eq!(methods.len(), 8);
    assert_eq!((counts.ok, counts.error), (counts.scheduled, 0), "{report}");
}

#[test]
fn every_method_is_answered_by_ringcall() {
    let mix = "echo,hello,add,sum,get,put,spin,sleep";
    let one = Run::new(&["--method", mix, "--service-time", "exp:50us"]);
    let output = one.end();
    assert_measured(&output);
    let counts = assert_consistent(&one.folder());
    assert_eq!(
        (counts.ok, counts.error),
        (counts.scheduled, 0),
        "{}",
        json(&output)
    );
}

#[test]
fn without_a_server_the_complaint_says_where_and_why() {
    for protocol in ["ringcall", "tonic"] {
        // Port 1 of the loopback: nobody serves tcpmux.
        let output = Run::new(&["--target", "tcp://127.0.0.1:1", "--protocol", protocol]).end();
        let complaint = complaint(&output);
        assert_eq!(output.status.code(), Some(1), "{complaint}");
        assert!(
            complaint.contains("127.0.0.1:1") && complaint.contains("refused"),
            "{complaint}"
        );
    }
}

#[test]
fn an_interrupted_run_keeps_what_it_has_and_marks_it() {
    let one = Run::new(&["--duration", "60s"]);
    let (child, mut lines) = start(&one);
    await_interval(&mut lines);
    // As a terminal does: to all processes of the group, the server that was started among them.
    kill_process_group(Pid::from_child(&child), Signal::INT).unwrap();
    let output = end(child, lines);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert_eq!(json(&output)["completion"], "interrupted");
    let counts = assert_consistent(&one.folder());
    assert!(counts.ok > 0, "{counts:?}");
    let reader = ResultReader::open(&one.folder()).unwrap();
    let point = &reader.summary().unwrap().points[0];
    assert!(point.window_s > 0.2 && point.window_s < 30.0, "{point:?}");
}

#[test]
fn a_server_that_dies_leaves_a_partial_result() {
    let mut server = Serving::start(&["--listen", "tcp://127.0.0.1:0", "--shards", "1"]);
    let one = Run::new(&["--target", &server.address(), "--duration", "60s"]);
    let (child, mut lines) = start(&one);
    await_interval(&mut lines);
    server.signal(Signal::KILL)();
    let output = end(child, lines);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert_eq!(json(&output)["completion"], "target_lost");
    let counts = assert_consistent(&one.folder());
    assert!(counts.ok > 0 && counts.error > 0, "{counts:?}");
}

#[test]
fn results_that_can_not_be_written_are_a_failure_with_a_way_out() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("occupied");
    fs::write(&file, "").unwrap();
    let output = Run::new(&["--out", file.to_str().unwrap()]).end();
    let why = complaint(&output);
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(why.contains("occupied"), "{why}");
}

#[test]
fn a_full_disk_leaves_a_partial_result_that_can_be_reported() {
    let one = Run::new(&["--rate", "5k", "--duration", "20s", "--interval", "20ms"]);
    // No file may grow beyond 24 blocks of 512 bytes; the log of histograms is the first that would.
    let program = env!("CARGO_BIN_EXE_loadgen");
    let script = r#"ulimit -f 24; trap "" XFSZ; exec "$@""#;
    let output = Command::new("sh")
        .args(["-c", script, "sh", program])
        .args(one.arguments())
        .output()
        .unwrap();
    let why = complaint(&output);
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(
        why.contains("latency.hlog") && why.contains("too large"),
        "{why}"
    );
    let reader = ResultReader::open(&one.folder()).unwrap();
    assert_ne!(reader.summary().unwrap().completion, Completion::Complete);
    assert!(!reader.histograms().unwrap().is_empty());
    let report = run(&["report", one.folder().to_str().unwrap()]);
    assert!(report.status.success(), "{}", complaint(&report));
    let text = fs::read_to_string(one.folder().join("report.md")).unwrap();
    assert!(text.contains("ended early"), "{text}");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    for arguments in [
        &["--method", "spin"][..],
        &["--method", "nothing"],
        &["--rate", "1000M"],
        &["--slo", "p99"],
        &["--pin", "9999"],
        &["--arrival", "sometimes"],
        &["--closed", "1", "--conns", "2", "--rate", "1"],
        &["--shards", "2", "--target", "tcp://127.0.0.1:1"],
        &["--tui"],
    ] {
        let output = Run::new(arguments).end();
        let why = complaint(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {why}");
        assert!(!why.is_empty() && output.stdout.is_empty());
    }
}

#[test]
fn the_summary_for_people_says_what_counts() {
    let mix = ["--method", "echo=0.6,add=0.4"];
    let one = Run::new(&[&mix[..], &["--format", "text", "--slo", "p50<10s,err<1%"]].concat());
    let output = one.end();
    assert_measured(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "\nload ",
        "\nrate ",
        "\ncalls ",
        "response time",
        "room wait",
        "own lag",
        "\n   echo ",
        "\n   add ",
        "open loop",
        "p50<10s met",
        "\nresults ",
    ] {
        assert!(text.contains(part), "{part:?}\n{text}");
    }
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(progress.contains("warm-up"), "{progress}");
    let patience = Duration::from_secs(1);
    assert!(
        progress.contains(&format!("{patience:?} measured")),
        "{progress}"
    );
}

#[test]
fn calls_that_all_time_out_violate_the_objective_that_nobody_named() {
    let arguments = ["--method", "sleep", "--service-time", "fixed:1s"];
    let limits = ["--timeout", "50ms", "--format", "text"];
    let one = Run::new(&[&arguments[..], &limits].concat());
    let output = one.end();
    assert_eq!(output.status.code(), Some(3), "{}", complaint(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("FAILED     "), "{text}");
    assert!(
        text.contains("(100.00 %)") && text.contains("--timeout"),
        "{text}"
    );
    assert!(text.contains("err<1% VIOLATED: 100.0000 %"), "{text}");
}

#[test]
fn calls_that_are_all_refused_violate_it_too() {
    let server = ringcall::Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(std::num::NonZero::<usize>::MIN)
        .serve(|_| EchoServer::new(Refusing));
    let server = server.expect("a server");
    let address = server.addresses()[0].clone();
    let one = Run::new(&["--target", &address, "--format", "text"]);
    let output = one.end();
    assert_eq!(output.status.code(), Some(3), "{}", complaint(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("FAILED     "), "{text}");
    let counts = assert_consistent(&one.folder());
    let line = format!(
        "{} × the server: NOT_FOUND: gone",
        format_count(counts.error)
    );
    assert!(text.contains(&line), "{text}");
    assert!(
        text.contains(", 0 that this side failed, 0 without"),
        "{text}"
    );
    let progress = complaint(&output);
    assert!(
        progress.contains("FAILED, most with: NOT_FOUND: gone"),
        "{progress}"
    );
    // By text and over time.
    let errors = ResultReader::open(&one.folder()).unwrap().errors().unwrap();
    assert!(errors.len() > 1 && errors.iter().all(|error| error.is_of_server));
    assert_eq!(
        errors.iter().map(|error| error.count).sum::<u64>(),
        counts.error
    );
    assert!(
        run(&["report", one.folder().to_str().unwrap()])
            .status
            .success()
    );
    let report = fs::read_to_string(one.folder().join("report.md")).unwrap();
    assert!(
        report.contains("Failures") && report.contains("plots/failures_over_time.svg"),
        "{report}"
    );
}

struct Refusing;

impl EchoHandler for Refusing {
    async fn echo(
        &self,
        _cx: &ringcall::Context,
        _payload: ringcall::Request<Vec<u8>>,
    ) -> Result<ringcall::Reply<Vec<u8>>, ringcall::Status> {
        Err(ringcall::Status::not_found("gone"))
    }
}

#[test]
fn what_this_side_refuses_is_told_apart() {
    let mut limits = Limits::default();
    limits.payload_bytes_max = 65_536;
    let server = ringcall::Server::builder()
        .listen("tcp://127.0.0.1:0")
        .shards(std::num::NonZero::<usize>::MIN)
        .limits(limits)
        .serve(|_| EchoServer::new(Mirror));
    let server = server.expect("a server");
    let address = server.addresses()[0].clone();
    let large = ["--payload", "fixed:70000", "--format", "text"];
    let one = Run::new(&[&["--target", &address][..], &large].concat());
    let output = one.end();
    assert_eq!(output.status.code(), Some(3), "{}", complaint(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let counts = assert_consistent(&one.folder());
    let line = format!(
        "{} × this side: RESOURCE_EXHAUSTED",
        format_count(counts.error)
    );
    assert!(counts.error > 0 && text.contains(&line), "{text}");
    assert!(text.contains(": 0 with an error of the server"), "{text}");
}

#[test]
fn a_load_that_keeps_going_outlives_its_server() {
    let mut server = Serving::start(&["--listen", "tcp://127.0.0.1:0", "--shards", "1"]);
    let address = server.address();
    let one = Run::new(&["--target", &address, "--duration", "60s"]);
    let mut arguments = one.arguments();
    arguments.push("--keep-going");
    let (child, mut lines) = start_with(&arguments);
    await_line(&mut lines, "/s, p99");
    server.signal(Signal::KILL)();
    server.wait();
    // Longer than a load bears that does not keep going.
    for _ in 0..6 {
        await_line(&mut lines, "FAILED, most with: UNAVAILABLE");
    }
    let again = Serving::start(&["--listen", &address, "--shards", "1"]);
    while await_line(&mut lines, "/s, p99").contains("FAILED") {}
    kill_process_group(Pid::from_child(&child), Signal::INT).unwrap();
    let output = end(child, lines);
    drop(again);
    assert_eq!(
        json(&output)["completion"],
        "interrupted",
        "{}",
        complaint(&output)
    );
    let counts = assert_consistent(&one.folder());
    assert!(counts.ok > 0 && counts.error > 0, "{counts:?}");
    let summary = ResultReader::open(&one.folder())
        .unwrap()
        .summary()
        .unwrap();
    assert_eq!(summary.points[0].failures.of_generator(), counts.error);
}

#[test]
fn an_answer_that_takes_longer_than_the_warm_up_is_no_failure() {
    let arguments = ["--method", "sleep", "--service-time", "fixed:200ms"];
    let limits = ["--warmup", "20ms", "--slo", "p50<10s", "--format", "text"];
    let one = Run::new(&[&arguments[..], &limits].concat());
    let output = one.end();
    assert_measured(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("p50<10s met"), "{text}");
    assert!(text.contains("the warm-up of 20.0 ms is shorter"), "{text}");
}

#[test]
fn the_selftest_tries_the_generator_and_the_machine() {
    let output = run(&["selftest", "--duration", "0.2s", "--format", "json"]);
    assert!(output.status.success(), "{}", complaint(&output));
    let report = json(&output);
    assert!(report["clock_ns"].as_f64().unwrap() > 0.0, "{report}");
    let tried = report["tried"].as_array().unwrap();
    assert!(tried.len() > 1, "{report}");
    assert!(
        tried
            .iter()
            .all(|tried| tried["answered_per_s"].as_f64().unwrap() > 0.0),
        "{report}"
    );
    for arrivals in report["arrivals"].as_array().unwrap() {
        assert!(
            arrivals["distance"].as_f64() < arrivals["limit"].as_f64(),
            "{arrivals}"
        );
    }
}
