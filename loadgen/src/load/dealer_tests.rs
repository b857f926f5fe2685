use std::thread;

use super::*;
use crate::load::schedule::Cursor;
use crate::selftest::statistics::{kolmogorov_smirnov_exponential, kolmogorov_smirnov_limit};

const SECOND: Duration = Duration::from_secs(1);

fn deal(arrival: &Arrival, rate_per_s: f64, threads: usize, seed: u64) -> Vec<Schedule> {
    let workload = Workload::echo(64);
    let dealer = Dealer::new(
        arrival,
        rate_per_s,
        SECOND,
        &workload,
        seed,
        Part::WHOLE,
        threads,
    );
    dealer.start().0
}

fn times_ns(schedule: &mut Schedule) -> Vec<u64> {
    schedule.calls().map(|call| call.intended_ns).collect()
}

fn merged_ns(schedules: &mut [Schedule]) -> Vec<u64> {
    let mut times: Vec<u64> = schedules.iter_mut().flat_map(times_ns).collect();
    times.sort_unstable();
    times
}

/// Gaps between times, in units of their expected mean.
fn gaps(times_ns: &[u64], rate_per_s: f64) -> Vec<f64> {
    let gaps = times_ns.windows(2).map(|pair| (pair[1] - pair[0]) as f64);
    gaps.map(|gap_ns| gap_ns * rate_per_s / 1e9).collect()
}

#[test]
fn poisson_gaps_are_exponential_on_each_thread_and_merged() {
    let mut schedules = deal(&Arrival::Poisson, 60_000.0, 3, 7);
    let merged = (merged_ns(&mut schedules), 60_000.0);
    let streams = schedules.iter_mut().map(|one| (times_ns(one), 20_000.0));
    for (times_ns, rate_per_s) in streams.chain([merged]) {
        let distance = kolmogorov_smirnov_exponential(&mut gaps(&times_ns, rate_per_s));
        let limit = kolmogorov_smirnov_limit(times_ns.len() - 1);
        assert!(distance < limit, "{distance} of {} gaps", times_ns.len());
    }
}

#[test]
fn other_arrivals_are_not_taken_for_poisson() {
    for arrival in [Arrival::Uniform, Arrival::Gamma { cv: 1.2 }] {
        let times_ns = merged_ns(&mut deal(&arrival, 60_000.0, 3, 7));
        let distance = kolmogorov_smirnov_exponential(&mut gaps(&times_ns, 60_000.0));
        assert!(
            distance > kolmogorov_smirnov_limit(times_ns.len() - 1),
            "{arrival}"
        );
    }
}

#[test]
fn gamma_gaps_have_the_mean_and_the_variation_that_was_asked_for() {
    for cv in [0.5, 1.0, 2.0] {
        let times_ns = merged_ns(&mut deal(&Arrival::Gamma { cv }, 100_000.0, 2, 3));
        let gaps = gaps(&times_ns, 100_000.0);
        let count = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / count;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        assert!(
            (variance.sqrt() / mean / cv - 1.0).abs() < 0.05,
            "{cv}: {variance}"
        );
    }
}

#[test]
fn uniform_calls_stay_even_on_every_thread() {
    let mut schedules = deal(&Arrival::Uniform, 1000.0, 4, 1);
    for schedule in &mut schedules {
        assert!(
            gaps(&times_ns(schedule), 250.0)
                .iter()
                .all(|gap| (gap - 1.0).abs() < 1e-6)
        );
    }
    assert_eq!(
        merged_ns(&mut schedules).len(),
        999,
        "the first comes after one gap"
    );
}

#[test]
fn a_seed_fixes_the_stream_whatever_the_number_of_threads() {
    let merged = |threads, seed| merged_ns(&mut deal(&Arrival::Poisson, 5000.0, threads, seed));
    assert_eq!(merged(1, 1), merged(3, 1));
    assert_ne!(merged(1, 1), merged(1, 2));
}

#[test]
fn long_gaps_are_kept() {
    let times_ns_wanted = vec![0, 1, 30_000_000_000, 30_000_000_000, 50_000_000_001];
    let arrival = Arrival::Trace(times_ns_wanted.clone().into());
    let until = Duration::from_secs(60);
    let dealer = Dealer::new(&arrival, 0.0, until, &Workload::echo(1), 1, Part::WHOLE, 1);
    let mut dealt = dealer.start().0;
    assert_eq!(times_ns(&mut dealt[0]), times_ns_wanted);
}

#[test]
fn what_calls_ask_for_is_fixed_with_their_times() {
    let workload = Workload::parse("echo=0.9,put=0.1", "lognormal:100:1", None).unwrap();
    let calls = |seed| {
        let arrival = Arrival::Poisson;
        let dealer = Dealer::new(&arrival, 1e4, SECOND, &workload, seed, Part::WHOLE, 1);
        let mut schedule = dealer.start().0.remove(0);
        schedule.calls().collect::<Vec<_>>()
    };
    assert_eq!(calls(1), calls(1));
    let puts = calls(1).iter().filter(|call| call.work.method == 1).count();
    let share = puts as f64 / calls(1).len() as f64;
    assert!((share - 0.1).abs() < 0.02, "{share}");
}

#[test]
fn the_parts_of_several_generators_are_the_whole() {
    let workload = Workload::parse("echo=0.7,add=0.3", "fixed:64", None).unwrap();
    for arrival in [
        Arrival::Uniform,
        Arrival::Poisson,
        Arrival::Gamma { cv: 2.0 },
    ] {
        let calls = |part, threads| {
            let dealer = Dealer::new(&arrival, 3e4, SECOND, &workload, 5, part, threads);
            let mut calls = Vec::new();
            for mut schedule in dealer.start().0 {
                calls.extend(
                    schedule
                        .calls()
                        .map(|call| (call.intended_ns, call.work.method)),
                );
            }
            calls
        };
        let mut whole = calls(Part::WHOLE, 1);
        let parts: Vec<_> = (0..3)
            .map(|number| calls(Part { number, of: 3 }, 2))
            .collect();
        let sizes = parts.iter().map(Vec::len);
        assert!(
            sizes.clone().min() > Some(9000),
            "{:?}",
            sizes.collect::<Vec<_>>()
        );
        let mut merged = parts.concat();
        merged.sort_unstable();
        whole.sort_unstable();
        assert_eq!(merged, whole);
    }
}

/// Two threads of a load of so many calls, which is fed while it runs.
fn fed(calls: f64) -> (Vec<Schedule>, thread::JoinHandle<()>) {
    let workload = Workload::parse("echo=0.7,add=0.3", "fixed:64", None).unwrap();
    let until = Duration::from_secs(100);
    let rate_per_s = calls / until.as_secs_f64();
    let arrival = Arrival::Poisson;
    let dealer = Dealer::new(&arrival, rate_per_s, until, &workload, 3, Part::WHOLE, 2);
    let (schedules, feeder) = dealer.start();
    let feeder = feeder.expect("more calls than are dealt ahead");
    (schedules, thread::spawn(move || feeder.run()))
}

#[test]
fn a_long_load_is_dealt_while_it_runs_in_bounded_memory() {
    let calls = 2.0 * AHEAD_CALLS as f64;
    let (schedules, feeder) = fed(calls);
    let run = |mut schedule: Schedule| {
        thread::spawn(move || {
            let (mut to_send, mut to_count) = (Cursor::default(), Cursor::default());
            let (mut count, mut last_ns, mut most_kept) = (0u64, 0, 0);
            loop {
                // One place goes ahead, as calls come due before they are sent.
                if schedule.next(&mut to_count).is_none() {
                    if !schedule.is_starved() {
                        break;
                    }
                    thread::yield_now();
                }
                while !to_send.is_at(&to_count) {
                    let call = schedule.next(&mut to_send).expect("it was counted");
                    assert!(call.intended_ns >= last_ns);
                    last_ns = call.intended_ns;
                    count += 1;
                }
                schedule.release_before(&to_send, &to_count);
                most_kept = most_kept.max(schedule.blocks.len());
            }
            (count, most_kept)
        })
    };
    let threads: Vec<_> = schedules.into_iter().map(run).collect();
    let ended: Vec<(u64, usize)> = threads.into_iter().map(|one| one.join().unwrap()).collect();
    feeder.join().unwrap();
    let count: u64 = ended.iter().map(|(count, _)| count).sum();
    // Five standard deviations of a Poisson count.
    assert!((count as f64 - calls).abs() < 5.0 * calls.sqrt(), "{count}");
    let blocks_ahead = AHEAD_CALLS / BLOCK_CALLS;
    assert!(
        ended.iter().all(|(_, kept)| *kept <= blocks_ahead + 1),
        "{ended:?}"
    );
}

#[test]
fn nobody_deals_to_a_load_that_was_given_up() {
    let (schedules, feeder) = fed(4.0 * AHEAD_CALLS as f64);
    drop(schedules);
    feeder.join().unwrap();
}
