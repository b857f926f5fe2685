use super::*;
use crate::load::work::Workload;
use crate::selftest::statistics::{kolmogorov_smirnov_exponential, kolmogorov_smirnov_limit};

const SECOND: Duration = Duration::from_secs(1);

fn deal(arrival: &Arrival, rate_per_s: f64, threads: usize, seed: u64) -> Vec<Schedule> {
    Schedule::deal(
        arrival,
        rate_per_s,
        SECOND,
        &Workload::echo(64),
        seed,
        Part::WHOLE,
        threads,
    )
}

fn times_ns(schedule: &Schedule) -> Vec<u64> {
    schedule.calls().map(|call| call.intended_ns).collect()
}

fn merged_ns(schedules: &[Schedule]) -> Vec<u64> {
    let mut times: Vec<u64> = schedules.iter().flat_map(times_ns).collect();
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
    let schedules = deal(&Arrival::Poisson, 60_000.0, 3, 7);
    let streams = schedules.iter().map(|one| (times_ns(one), 20_000.0));
    for (times_ns, rate_per_s) in streams.chain([(merged_ns(&schedules), 60_000.0)]) {
        let distance = kolmogorov_smirnov_exponential(&mut gaps(&times_ns, rate_per_s));
        let limit = kolmogorov_smirnov_limit(times_ns.len() - 1);
        assert!(distance < limit, "{distance} of {} gaps", times_ns.len());
    }
}

#[test]
fn other_arrivals_are_not_taken_for_poisson() {
    for arrival in [Arrival::Uniform, Arrival::Gamma { cv: 1.2 }] {
        let times_ns = merged_ns(&deal(&arrival, 60_000.0, 3, 7));
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
        let times_ns = merged_ns(&deal(&Arrival::Gamma { cv }, 100_000.0, 2, 3));
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
    let schedules = deal(&Arrival::Uniform, 1000.0, 4, 1);
    for schedule in &schedules {
        assert!(
            gaps(&times_ns(schedule), 250.0)
                .iter()
                .all(|gap| (gap - 1.0).abs() < 1e-6)
        );
    }
    assert_eq!(
        merged_ns(&schedules).len(),
        999,
        "the first comes after one gap"
    );
}

#[test]
fn a_seed_fixes_the_stream_whatever_the_number_of_threads() {
    let merged = |threads, seed| merged_ns(&deal(&Arrival::Poisson, 5000.0, threads, seed));
    assert_eq!(merged(1, 1), merged(3, 1));
    assert_ne!(merged(1, 1), merged(1, 2));
}

#[test]
fn long_gaps_are_kept() {
    let times_ns_wanted = vec![0, 1, 30_000_000_000, 30_000_000_000, 50_000_000_001];
    let arrival = Arrival::Trace(times_ns_wanted.clone());
    let until = Duration::from_secs(60);
    let dealt = Schedule::deal(&arrival, 0.0, until, &Workload::echo(1), 1, Part::WHOLE, 1);
    assert_eq!(times_ns(&dealt[0]), times_ns_wanted);
}

#[test]
fn traces_are_read_and_judged() {
    assert_eq!(
        parse_trace("# s\n0\n0.5\n\n0.5\n2\n"),
        Ok(vec![0, 500_000_000, 500_000_000, 2_000_000_000])
    );
    for wrong in ["", "1\n0.5", "x", "-1", "nan"] {
        assert!(parse_trace(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_calls_ask_for_is_fixed_with_their_times() {
    let workload = Workload::parse("echo=0.9,put=0.1", "lognormal:100:1", None).unwrap();
    let deal = |seed| {
        Schedule::deal(
            &Arrival::Poisson,
            10_000.0,
            SECOND,
            &workload,
            seed,
            Part::WHOLE,
            1,
        )
        .remove(0)
    };
    assert_eq!(deal(1), deal(1));
    let schedule = deal(1);
    let puts = schedule
        .calls()
        .filter(|call| call.work.method == 1)
        .count();
    let share = puts as f64 / schedule.calls().count() as f64;
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
            let dealt = Schedule::deal(&arrival, 30_000.0, SECOND, &workload, 5, part, threads);
            let calls = dealt.iter().flat_map(Schedule::calls);
            calls
                .map(|call| (call.intended_ns, call.work.method))
                .collect::<Vec<_>>()
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

#[test]
fn no_two_callers_of_closed_loops_ask_for_the_same() {
    let workload = Workload::parse("echo=0.5,add=0.5", "lognormal:100:1", None).unwrap();
    let mut streams = Vec::new();
    for seed in 0..3 {
        for number in 0..2 {
            for thread in 0..2 {
                let part = Part { number, of: 2 };
                let schedule = Schedule::of_closed_loop(&workload, seed, part, thread);
                streams.push((0..50).map(|call| schedule.work(call)).collect::<Vec<_>>());
            }
        }
    }
    for (at, stream) in streams.iter().enumerate() {
        assert!(!streams[..at].contains(stream), "{at}");
    }
}
