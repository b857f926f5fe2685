//! Loads against an invented server on an invented clock, compared with what theory says.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::analysis::queueing::{self, Queue};
use crate::load::arrival::Arrival;
use crate::load::dealer::Dealer;
use crate::load::plan::Part;
use crate::load::record::Record;
use crate::load::work::Workload;
use crate::results::{CallCounts, Latency, Spread};
use crate::selftest::theory;

const NS_PER_S: f64 = 1e9;

/// One server that takes calls in their order, and stands still for some time.
struct Server {
    free_ns: u64,
    stall_ns: std::ops::Range<u64>,
    in_service: VecDeque<(u64, u32)>,
}

impl Server {
    fn new(stall_ns: std::ops::Range<u64>) -> Self {
        Self {
            free_ns: 0,
            stall_ns,
            in_service: VecDeque::new(),
        }
    }

    fn take(&mut self, slot: u32, service_ns: u64, now_ns: u64) {
        let mut start_ns = self.free_ns.max(now_ns);
        if self.stall_ns.contains(&start_ns) {
            start_ns = self.stall_ns.end;
        }
        let mut end_ns = start_ns + service_ns;
        if start_ns < self.stall_ns.start && end_ns > self.stall_ns.start {
            end_ns += self.stall_ns.end - self.stall_ns.start;
        }
        self.free_ns = end_ns;
        self.in_service.push_back((end_ns, slot));
    }
}

/// Runs a load to its end, event by event; the generator is never late.
fn simulate(mut flight: Flight, server: &mut Server, close_ns: u64) -> Box<Record> {
    let mut now_ns = 0;
    loop {
        while let Some(&(end_ns, slot)) = server.in_service.front()
            && end_ns <= now_ns
        {
            server.in_service.pop_front();
            flight.handle_end(slot, CallResult::Ok, end_ns);
        }
        flight.handle_turn(now_ns);
        while let Some(due) = flight.poll_due(now_ns) {
            server.take(due.slot, u64::from(due.work.amount), now_ns);
        }
        if flight.is_over(now_ns) || now_ns >= close_ns {
            flight.handle_close(now_ns);
            return flight.swap_record(Box::new(Record::new(1)));
        }
        let mut next = flight.to_send;
        let due_ns = flight.schedule.next(&mut next).map(|call| call.intended_ns);
        let due_ns = due_ns.filter(|_| !flight.free.is_empty());
        let end_ns = server.in_service.front().map(|(end_ns, _)| *end_ns);
        let window_ns = Some(flight.window.until_ns).filter(|&until_ns| until_ns > now_ns);
        let events = [due_ns, end_ns, window_ns, Some(close_ns)];
        now_ns = events
            .into_iter()
            .flatten()
            .min()
            .expect("the close")
            .max(now_ns + 1);
    }
}

/// An open loop of `seconds` after one of warm-up.
fn open(
    arrival: &Arrival,
    rate_per_s: f64,
    seconds: u64,
    service: &str,
    in_flight_max: usize,
) -> Flight {
    let workload = Workload::parse("spin", "fixed:0", Some(service)).unwrap();
    let window = Window {
        from_ns: 1_000_000_000,
        until_ns: (1 + seconds) * 1_000_000_000,
    };
    let until = Duration::from_nanos(window.until_ns);
    let dealer = Dealer::new(arrival, rate_per_s, until, &workload, 11, Part::WHOLE, 1);
    let mut dealt = dealer.start().0;
    Flight::new(dealt.remove(0), Pacing::Open, window, in_flight_max, 1)
}

fn assert_balanced(record: &Record) -> CallCounts {
    let tally = record.total();
    let latency = Latency {
        response: Spread::of(tally.times.of(Kind::Response)),
        service: Spread::of(tally.times.of(Kind::Service)),
        room_wait: Spread::of(tally.times.of(Kind::RoomWait)),
        own_lag: Spread::of(tally.times.of(Kind::OwnLag)),
    };
    assert_eq!(tally.counts.check(&latency), [""; 0]);
    tally.counts
}

const NO_STALL: std::ops::Range<u64> = 0..0;
const NEVER_NS: u64 = u64::MAX / 2;

/// How far a histogram is from what a stalled server must leave, at its worst, as a ratio.
fn distance_from_stall(record: &Record, kind: Kind) -> f64 {
    let tally = record.total();
    let values = tally.times.of(kind);
    let distance = |tenth: u32| {
        let x_s = f64::from(tenth) / 10.0;
        let above = values.len() - values.count_between(0, (x_s * NS_PER_S) as u64);
        let measured = above as f64 / values.len() as f64;
        let expected = theory::stall_exceedance(x_s, 1.0, 0.2, 60.0);
        (measured / expected - 1.0).abs()
    };
    (1..=9).map(distance).fold(0.0, f64::max)
}

/// A server that is stopped for a second in a minute, at a fifth of its capacity. The generator may
/// have 64 calls in flight, so most calls of that second wait at the generator.
fn stalled() -> Box<Record> {
    let flight = open(&Arrival::Uniform, 2000.0, 60, "fixed:100us", 64);
    let mut server = Server::new(20_000_000_000..21_000_000_000);
    simulate(flight, &mut server, NEVER_NS)
}

#[test]
fn a_stalled_server_is_seen_in_full() {
    let record = stalled();
    let distance = distance_from_stall(&record, Kind::Response);
    assert!(distance < 0.02, "{distance}");
    let response = Spread::of(record.total().times.of(Kind::Response));
    for (percentile, expected_s) in [(99.0, 0.52), (99.9, 0.952)] {
        let measured_s = response.percentile_ns(percentile).unwrap() as f64 / NS_PER_S;
        assert!(
            (measured_s / expected_s - 1.0).abs() < 0.01,
            "p{percentile} {measured_s}"
        );
    }
    assert_eq!(assert_balanced(&record).ok, 120_000);
}

#[test]
fn a_clock_that_starts_at_the_actual_sending_fails_the_stall_test() {
    // This is what a generator without intended times would report. The 64 calls in flight are all
    // that it sees of the stall.
    let distance = distance_from_stall(&stalled(), Kind::Service);
    assert!(distance > 0.9, "{distance}");
}

/// Mean and, where it is reported, p99 of the response times of a queue, in seconds.
fn queue(arrival: &Arrival, service: &str) -> (f64, f64) {
    let flight = open(arrival, 4000.0, 200, service, 10_000);
    let record = simulate(flight, &mut Server::new(NO_STALL), NEVER_NS);
    assert_balanced(&record);
    let total = record.total();
    // Little: the calls in the system are the rate times the mean time in it.
    let in_flight = record.in_flight_ns / (200.0 * NS_PER_S);
    let response = Spread::of(total.times.of(Kind::Response));
    let rate_per_s = total.counts.scheduled as f64 / 200.0;
    let by_little = rate_per_s * response.mean_ns / NS_PER_S;
    assert!(
        (in_flight / by_little - 1.0).abs() < 0.02,
        "{in_flight} {by_little}"
    );
    (
        response.mean_ns / NS_PER_S,
        response.percentile_ns(99.0).unwrap() as f64 / NS_PER_S,
    )
}

#[test]
fn queues_are_as_long_as_theory_says() {
    let theory = |kind| Queue {
        kind,
        arrivals_per_s: 4000.0,
        services_per_s: 5000.0,
    };
    let is_near = |measured: f64, expected: f64, tolerance: f64| {
        let ratio = measured / expected;
        assert!((ratio - 1.0).abs() < tolerance, "{measured}, {expected}");
    };
    let (mean_s, _) = queue(&Arrival::Uniform, "fixed:200us");
    is_near(mean_s, theory(queueing::Kind::FixedFixed).mean_s(), 0.01);
    let (mean_s, _) = queue(&Arrival::Poisson, "fixed:200us");
    is_near(mean_s, theory(queueing::Kind::RandomFixed).mean_s(), 0.05);
    let (mean_s, p99_s) = queue(&Arrival::Poisson, "exp:200us");
    let theory = theory(queueing::Kind::RandomRandom);
    is_near(mean_s, theory.mean_s(), 0.08);
    is_near(p99_s, theory.quantile_s(0.99), 0.12);
}

#[test]
fn what_never_ended_and_what_never_went_out_is_counted_with_the_time_it_waited() {
    // The server stops for good in the middle of the window: 4 calls are in flight from then on.
    let flight = open(&Arrival::Uniform, 1000.0, 2, "fixed:100us", 4);
    let mut server = Server::new(2_000_000_000..NEVER_NS);
    let record = simulate(flight, &mut server, 5_000_000_000);
    let counts = assert_balanced(&record);
    assert_eq!((counts.scheduled, counts.unfinished), (2000, 4));
    assert!((990..=1000).contains(&counts.unsent), "{counts:?}");
    let response = Spread::of(record.total().times.of(Kind::Response));
    assert!(response.max_ns >= 2_990_000_000, "{response:?}");
    // All that were due after the stop waited at least 2 s: from 3 s, when the window ended, to 5 s.
    let waited = record
        .total()
        .times
        .of(Kind::Response)
        .count_between(1_900_000_000, u64::MAX);
    assert_eq!(waited, counts.unfinished + counts.unsent);
}

#[test]
fn failures_are_in_the_books_and_not_in_the_times() {
    let mut flight = open(&Arrival::Uniform, 1000.0, 1, "fixed:1us", 8);
    let mut ends = [
        CallResult::Ok,
        CallResult::Error {
            text: "refused".into(),
            is_of_server: true,
        },
        CallResult::Timeout,
    ]
    .into_iter()
    .cycle();
    for now_ns in (0..=2_000_000_000).step_by(1_000_000) {
        flight.handle_turn(now_ns);
        while let Some(due) = flight.poll_due(now_ns) {
            flight.handle_end(due.slot, ends.next().unwrap(), now_ns);
        }
    }
    assert!(flight.is_over(2_000_000_000));
    flight.handle_close(2_000_000_000);
    let record = flight.swap_record(Box::new(Record::new(1)));
    let counts = assert_balanced(&record);
    assert_eq!(counts.scheduled, 1000);
    assert!(
        counts.error.abs_diff(333) <= 1 && counts.timeout.abs_diff(333) <= 1,
        "{counts:?}"
    );
    let failures: Vec<_> = record.failures.iter().collect();
    assert_eq!(failures.len(), 1);
    assert_eq!(
        (&*failures[0].text, failures[0].count),
        ("refused", counts.error)
    );
    assert_eq!(record.answered, counts.ok);
}

#[test]
fn the_calls_that_have_waited_longest_expire_first_and_once() {
    let mut flight = open(&Arrival::Uniform, 1000.0, 1, "fixed:1us", 8);
    let mut sent = Vec::new();
    for now_ns in (0..6_000_000).step_by(1_000_000) {
        flight.handle_turn(now_ns);
        sent.extend(std::iter::from_fn(|| flight.poll_due(now_ns)).map(|due| due.slot));
    }
    assert!(sent.len() >= 5, "{sent:?}");
    // From the middle, from the end, and from the beginning of those in flight.
    for ended in [sent[2], sent[sent.len() - 1], sent[0]] {
        flight.handle_end(ended, CallResult::Ok, 6_000_000);
    }
    let expired = |flight: &mut Flight, until_ns| {
        let mut found = Vec::new();
        flight.expire(until_ns, |slot| found.push(slot));
        found
    };
    let second_ns = flight.slots[sent[1] as usize].sent_ns;
    assert_eq!(expired(&mut flight, second_ns - 1), [0; 0]);
    assert_eq!(expired(&mut flight, second_ns), [sent[1]]);
    assert!(flight.is_expired(sent[1]) && !flight.is_expired(sent[3]));
    assert_eq!(expired(&mut flight, u64::MAX), sent[3..sent.len() - 1]);
    assert_eq!(expired(&mut flight, u64::MAX), [0; 0]);
    flight.handle_end(sent[1], CallResult::Timeout, 7_000_000);
    flight.handle_turn(8_000_000);
    let next = flight.poll_due(8_000_000).expect("one is due").slot;
    assert_eq!((flight.oldest, flight.newest), (next, next));
    assert!(!flight.is_expired(next));
}

#[test]
fn a_stopped_load_owes_nothing_that_was_due_later() {
    let mut flight = open(&Arrival::Uniform, 1000.0, 10, "fixed:1us", 8);
    for now_ns in (0..=2_000_000_000).step_by(1_000_000) {
        flight.handle_turn(now_ns);
        while let Some(due) = flight.poll_due(now_ns) {
            flight.handle_end(due.slot, CallResult::Ok, now_ns);
        }
    }
    flight.handle_stop(2_000_000_000);
    assert!(flight.is_over(2_000_000_001));
    flight.handle_close(2_100_000_000);
    let counts = assert_balanced(&flight.swap_record(Box::new(Record::new(1))));
    assert!(
        counts.ok.abs_diff(1000) <= 1 && counts.unsent == 0,
        "{counts:?}"
    );
}

#[test]
fn a_closed_loop_calls_again_when_it_has_its_answer() {
    let workload = Workload::parse("spin", "fixed:0", Some("fixed:100us")).unwrap();
    let window = Window {
        from_ns: 100_000_000,
        until_ns: 1_100_000_000,
    };
    let schedule = Schedule::of_closed_loop(&workload, 1, Part::WHOLE, 0);
    let flight = Flight::new(schedule, Pacing::Closed { callers: 4 }, window, 100, 1);
    let record = simulate(flight, &mut Server::new(NO_STALL), NEVER_NS);
    let counts = assert_balanced(&record);
    assert!(counts.ok.abs_diff(10_000) <= 4, "{counts:?}");
    let total = record.total();
    let service = Spread::of(total.times.of(Kind::Service));
    assert!(
        (service.mean_ns / 400_000.0 - 1.0).abs() < 0.01,
        "{service:?}"
    );
    assert_eq!(Spread::of(total.times.of(Kind::RoomWait)).max_ns, 0);
    assert_eq!(Spread::of(total.times.of(Kind::OwnLag)).max_ns, 0);
}
