//! Several agents and their coordinator, as processes that speak over loopback.

mod support;

use loadgen::results::{Completion, ResultReader};
use rustix::process::{Pid, Signal, kill_process};
use support::measured::{
    Run, assert_consistent, assert_measured, await_interval, end, json, start,
};
use support::{Serving, complaint};

/// A server, and agents to load it from.
struct Fleet {
    _server: Serving,
    agents: Vec<Serving>,
    target: String,
    addresses: String,
}

impl Fleet {
    fn start(count: usize) -> Self {
        let mut server = Serving::start(&["--listen", "tcp://127.0.0.1:0", "--shards", "1"]);
        let mut agents: Vec<_> = (0..count).map(|_| Serving::agent()).collect();
        let addresses: Vec<_> = agents.iter_mut().map(Serving::address).collect();
        Self {
            target: server.address(),
            addresses: addresses.join(","),
            _server: server,
            agents,
        }
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let mut all = vec!["--target", &self.target, "--agents", &self.addresses];
        all.extend(arguments);
        Run::new(&all)
    }
}

#[test]
fn several_agents_make_the_calls_of_one_schedule() {
    let fleet = Fleet::start(2);
    let together = fleet.run(&["--method", "echo=0.5,add=0.5", "--conns", "3"]);
    let output = together.end();
    assert_measured(&output);
    let counts = assert_consistent(&together.folder());
    // One generator with the same seed has the same schedule.
    let alone = Run::new(&["--method", "echo=0.5,add=0.5", "--target", &fleet.target]);
    assert_measured(&alone.end());
    assert_eq!(
        counts.scheduled,
        assert_consistent(&alone.folder()).scheduled
    );
    assert_eq!((counts.ok, counts.error), (counts.scheduled, 0));
    let reader = ResultReader::open(&together.folder()).unwrap();
    let manifest = reader.manifest().unwrap();
    assert_eq!(manifest.agents.len(), 2);
    assert_eq!(manifest.load.threads, 2);
    // One second in quarters, and perhaps one more for what came after.
    let intervals = reader.intervals().unwrap().len();
    assert!((4..=5).contains(&intervals), "{intervals}");
}

#[test]
fn even_streams_and_callers_are_shared_out() {
    let fleet = Fleet::start(2);
    let even = fleet.run(&["--arrival", "uniform"]);
    assert_measured(&even.end());
    let counts = assert_consistent(&even.folder());
    assert!((499..=501).contains(&counts.scheduled), "{counts:?}");
    let closed = Run::closed(&["--target", &fleet.target, "--agents", &fleet.addresses]);
    let output = closed.end();
    assert_measured(&output);
    let counts = assert_consistent(&closed.folder());
    assert!(counts.ok > 0, "{counts:?}");
    let point = &json(&output)["points"][0];
    // Three callers, whoever they belong to, wait for one answer each.
    let in_flight = point["in_flight_mean"].as_f64().unwrap();
    assert!(in_flight > 1.0 && in_flight <= 3.0, "{in_flight}");
}

#[test]
fn an_agent_that_dies_leaves_a_partial_result_that_names_it() {
    let mut fleet = Fleet::start(2);
    let run = fleet.run(&["--duration", "60s"]);
    let (child, mut lines) = start(&run);
    await_interval(&mut lines);
    fleet.agents[1].signal(Signal::KILL)();
    let output = end(child, lines);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    let summary = json(&output);
    assert_eq!(summary["completion"], "agent_lost");
    let reasons = summary["points"][0]["validity"]["reasons"].to_string();
    assert!(reasons.contains("agent 2 was lost"), "{reasons}");
    let reader = ResultReader::open(&run.folder()).unwrap();
    let point = &reader.summary().unwrap().points[0];
    assert_eq!(point.completion, Completion::AgentLost);
    assert!(point.counts.ok > 0 && point.window_s < 30.0, "{point:?}");
    // The other one was stopped, and is there for the next.
    fleet.agents.truncate(1);
    let address = fleet.addresses.split(',').next().unwrap();
    let next = Run::new(&["--target", &fleet.target, "--agents", address]);
    assert_measured(&next.end());
}

#[test]
fn a_busy_agent_refuses_and_is_free_after_an_interrupt() {
    let fleet = Fleet::start(1);
    let first = fleet.run(&["--duration", "60s"]);
    let (child, mut lines) = start(&first);
    await_interval(&mut lines);
    let refused = fleet.run(&[]).end();
    assert_eq!(refused.status.code(), Some(1));
    let why = complaint(&refused);
    assert!(
        why.contains("agent 1") && why.contains("another coordinator"),
        "{why}"
    );
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = end(child, lines);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert_eq!(json(&output)["completion"], "interrupted");
    let counts = assert_consistent(&first.folder());
    assert!(counts.ok > 0, "{counts:?}");
    assert_measured(&fleet.run(&[]).end());
}

#[test]
fn the_load_of_a_coordinator_that_vanishes_is_ended() {
    let fleet = Fleet::start(1);
    let run = fleet.run(&["--duration", "60s"]);
    let (mut child, mut lines) = start(&run);
    await_interval(&mut lines);
    child.kill().unwrap();
    child.wait().unwrap();
    // Until its lease has ended the agent is busy.
    let mut refusals = 0;
    let output = loop {
        let output = fleet.run(&[]).end();
        if output.status.code() != Some(1) {
            break output;
        }
        let why = complaint(&output);
        assert!(why.contains("another coordinator"), "{why}");
        refusals += 1;
        assert!(refusals < 10_000, "the agent never gets free: {why}");
    };
    assert_measured(&output);
    assert!(refusals > 0, "the agent did not wait for its coordinator");
}

#[test]
fn agents_that_are_not_there_are_named() {
    let fleet = Fleet::start(1);
    let addresses = format!("{},tcp://127.0.0.1:1", fleet.addresses);
    let output = Run::new(&["--target", &fleet.target, "--agents", &addresses]).end();
    let why = complaint(&output);
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(
        why.contains("agent 2 (tcp://127.0.0.1:1)") && why.contains("refused"),
        "{why}"
    );
    // A server that is no agent.
    let output = Run::new(&["--target", &fleet.target, "--agents", &fleet.target]).end();
    let why = complaint(&output);
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(why.contains("UNIMPLEMENTED"), "{why}");
    // And a target that nobody serves, seen from the agent.
    let output = Run::new(&[
        "--target",
        "tcp://127.0.0.1:1",
        "--agents",
        &fleet.addresses,
    ])
    .end();
    let why = complaint(&output);
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(
        why.contains("agent 1") && why.contains("127.0.0.1:1"),
        "{why}"
    );
}

#[test]
fn options_that_agents_can_not_follow_are_refused() {
    let trace = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trace.path(), "0\n1\n").unwrap();
    let trace = format!("trace:{}", trace.path().display());
    for (arguments, word) in [
        (&["--agents", "tcp://127.0.0.1:1"][..], "--target"),
        (
            &[
                "--agents",
                "tcp://127.0.0.1:1",
                "--target",
                "tcp://127.0.0.1:1",
                "--pin",
                "0",
            ],
            "--pin",
        ),
        (
            &[
                "--agents",
                "tcp://127.0.0.1:1",
                "--target",
                "tcp://127.0.0.1:1",
                "--arrival",
                &trace,
            ],
            "trace",
        ),
    ] {
        let output = Run::new(arguments).end();
        let why = complaint(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {why}");
        assert!(why.contains(word), "{why}");
    }
}
