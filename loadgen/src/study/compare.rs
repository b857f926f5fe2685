//! One target against another.
//!
//! Each round runs A, B, B, A or B, A, A, B, as a coin decides. See [`paired`] for why that makes the
//! test exact.

use serde::{Deserialize, Serialize};

use super::record::Interval;
use super::{Load, Probe, Side};
use crate::analysis::paired;
use crate::results::PointSummary;

/// A comparison and what it has found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonRecord {
    /// What A is, as on the command line.
    pub a: String,
    /// What B is.
    pub b: String,
    /// How often a comparison may find a regression where there is none.
    pub level: f64,
    /// Whether a coin decided the order; otherwise whatever changed between the measurements of A
    /// and of B counts as their difference.
    pub is_randomised: bool,
    /// What was compared.
    pub rounds: Vec<Round>,
    /// The loads for which rounds were left out.
    pub discarded: Vec<Discarded>,
    /// Loads of A and of B in which the generator was late.
    #[serde(default)]
    pub late: [usize; 2],
    /// All points of B, whether their rounds count or not.
    #[serde(default)]
    pub points_of_b: Vec<u32>,
    /// What came out.
    pub findings: Vec<ComparisonFinding>,
}

/// The points of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Those of A.
    pub a: [u32; 2],
    /// Those of B.
    pub b: [u32; 2],
}

/// A load that was no measurement. Its whole round is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// Which target it went to.
    pub side: Side,
    /// Its point.
    pub point: u32,
    /// Why it was none.
    pub why: String,
}

/// What can be compared; of all of them, more is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Calls offered for one that did not fail.
    CallsPerSuccess,
    /// Mean response time: what seldom stalls shows here, however few calls a stall hits.
    Mean,
    /// Median response time.
    P50,
    /// 99th percentile.
    P99,
    /// CPU time of the server for a call.
    CpuPerCall,
    /// Time for a call in a closed loop: the rate, upside down.
    TimePerCall,
}

/// What a comparison says about one measure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonFinding {
    /// What was compared.
    pub measure: Measure,
    /// B ÷ A.
    pub ratio: Interval,
    /// How likely a ratio at least as high is without any difference, corrected for the number of
    /// measures.
    pub p_value: f64,
    /// Ratios up to 1 ± this are seen when each target is compared with itself.
    pub noise_floor: f64,
    /// Rounds that say something of it.
    #[serde(default)]
    pub rounds: usize,
    /// Whether B is worse: the p-value is at most the level.
    pub is_regression: bool,
}

impl Measure {
    /// All.
    pub const ALL: [Self; 6] = [
        Self::CallsPerSuccess,
        Self::Mean,
        Self::P50,
        Self::P99,
        Self::CpuPerCall,
        Self::TimePerCall,
    ];

    /// What a point says; `None` when it says nothing.
    fn of(self, point: &PointSummary) -> Option<f64> {
        let value = match self {
            // Latencies are those of calls that were answered; this is where the others show.
            Self::CallsPerSuccess => {
                let counts = point.counts;
                let others = counts.scheduled.saturating_sub(counts.failed());
                counts.scheduled as f64 / others.max(1) as f64
            }
            // Of means the generator's part can be taken away, of percentiles it can't.
            Self::Mean => point.latency.response.mean_ns - point.latency.own_lag.mean_ns,
            Self::P50 | Self::P99 if point.validity.is_late => return None,
            Self::P50 => point.latency.response.percentile_ns(50.0)? as f64,
            Self::P99 => point.latency.response.percentile_ns(99.0)? as f64,
            Self::CpuPerCall => point.server?.cpu_us_per_call,
            Self::TimePerCall if point.loop_kind == crate::results::LoopKind::Open => return None,
            Self::TimePerCall => 1.0 / point.achieved_per_s,
        };
        (value > 0.0 && value.is_finite()).then_some(value)
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::CallsPerSuccess => "calls offered per success",
            Self::Mean => "mean response time without own lag",
            Self::P50 => "p50 response time",
            Self::P99 => "p99 response time",
            Self::CpuPerCall => "server CPU per call",
            Self::TimePerCall => "time per call (closed loop)",
        }
    }
}

impl ComparisonRecord {
    /// How many rounds it takes to find a difference in one of its measures alone, if it has fewer and
    /// found none: then it says nothing.
    pub fn rounds_missing(&self) -> Option<u32> {
        let wanted = rounds_min(self.level, self.findings.len().max(1));
        (!self.has_regression() && self.rounds.len() < wanted as usize).then_some(wanted)
    }

    /// Whether B is worse in anything.
    pub fn has_regression(&self) -> bool {
        self.findings.iter().any(|finding| finding.is_regression)
    }

    /// The side that a point belongs to.
    pub(super) fn side(&self, point: u32) -> Side {
        let in_rounds = self.rounds.iter().any(|round| round.b.contains(&point));
        let is_b = in_rounds || self.points_of_b.contains(&point);
        if is_b { Side::B } else { Side::A }
    }
}

/// Fewest rounds with which a test of `measures` at a level can find anything: with n rounds no
/// p-value is below 2^-n.
pub fn rounds_min(level: f64, measures: usize) -> u32 {
    (measures as f64 / level).log2().ceil() as u32
}

/// The loads of a comparison, four for each round.
pub fn loads(base: &Load, rounds: u32, seed: u64) -> Vec<Load> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut loads = Vec::new();
    for round in 0..rounds {
        let order = if random.bool() {
            [Side::A, Side::B, Side::B, Side::A]
        } else {
            [Side::B, Side::A, Side::A, Side::B]
        };
        loads.extend(order.into_iter().enumerate().map(|(at, side)| Load {
            side,
            label: format!("{side:?}, round {}", round + 1),
            // First with first and second with second: the schedules of A and B are the same.
            seed: seed + u64::from(round) * 2 + u64::from(at >= 2),
            ..base.clone()
        }));
    }
    loads
}

/// Compares with real loads. Rounds in which a load was no measurement are run, kept, left out and
/// listed; one that was slow for the server's sake is what a comparison is there to find. `observe` sees
/// each point and may end the comparison by returning false.
///
/// # Errors
/// When a load could not be run.
pub fn conduct<P: Probe>(
    probe: &mut P,
    names: [String; 2],
    loads: &[Load],
    level: f64,
    mut observe: impl FnMut(&PointSummary) -> bool,
) -> Result<ComparisonRecord, P::Error> {
    let (mut rounds, mut discarded, mut points_of_b) = (Vec::new(), Vec::new(), Vec::new());
    'rounds: for round in loads.chunks_exact(4) {
        let mut points = Vec::new();
        for load in round {
            let probed = probe.probe(load)?;
            let goes_on = observe(&probed.point);
            if load.side == Side::B {
                points_of_b.push(probed.point.point);
            }
            points.push((load.side, probed.point));
            if !goes_on {
                break 'rounds;
            }
        }
        let unusable = points.iter().filter(|(_, point)| !is_usable(point));
        let before = discarded.len();
        discarded.extend(unusable.map(|(side, point)| Discarded {
            side: *side,
            point: point.point,
            why: point.validity.reasons.join("; "),
        }));
        if discarded.len() == before {
            rounds.push(points);
        }
    }
    let [a, b] = names;
    Ok(ComparisonRecord {
        discarded,
        points_of_b,
        ..evaluate(a, b, level, true, &rounds)
    })
}

/// Whether a point says something of the server: it is a measurement, or would be one if the server had
/// kept up, or the generator. How many calls may be in flight is the same for both sides, whatever it does
/// to them; that the generator was late is taken out of the mean, and such loads have no percentiles.
pub fn is_usable(point: &PointSummary) -> bool {
    let validity = &point.validity;
    validity.is_overloaded || validity.faults().next().is_none()
}

/// Evaluates rounds: four points each, two of either side.
pub fn evaluate(
    a: String,
    b: String,
    level: f64,
    is_randomised: bool,
    rounds: &[Vec<(Side, PointSummary)>],
) -> ComparisonRecord {
    let of_side = |round: &[(Side, PointSummary)], side: Side| -> [PointSummary; 2] {
        let mut of_side = round
            .iter()
            .filter(|(other, _)| *other == side)
            .map(|(_, point)| point.clone());
        let pair = of_side.next().zip(of_side.next());
        let (first, second) = pair.expect("a round has two points of each side");
        [first, second]
    };
    let rounds: Vec<_> = rounds
        .iter()
        .map(|round| (of_side(round, Side::A), of_side(round, Side::B)))
        .collect();
    let numbers = |pair: &[PointSummary; 2]| [pair[0].point, pair[1].point];
    let is_late = |point: &&PointSummary| point.validity.is_late;
    let late = [
        rounds.iter().flat_map(|(a, _)| a).filter(is_late).count(),
        rounds.iter().flat_map(|(_, b)| b).filter(is_late).count(),
    ];
    ComparisonRecord {
        a,
        b,
        level,
        is_randomised,
        rounds: rounds
            .iter()
            .map(|(a, b)| Round {
                a: numbers(a),
                b: numbers(b),
            })
            .collect(),
        discarded: Vec::new(),
        late,
        points_of_b: Vec::new(),
        findings: findings(&rounds, level),
    }
}

/// Two points of A and two of B.
type Quad = ([PointSummary; 2], [PointSummary; 2]);

fn findings(rounds: &[Quad], level: f64) -> Vec<ComparisonFinding> {
    let mut tested = Vec::new();
    for measure in Measure::ALL {
        let logs: Vec<[f64; 4]> = rounds
            .iter()
            .filter_map(|([a1, a2], [b1, b2])| {
                let [a1, a2, b1, b2] = [a1, a2, b1, b2].map(|point| measure.of(point));
                Some([a1?.ln(), a2?.ln(), b1?.ln(), b2?.ln()])
            })
            .collect();
        // Nothing failed anywhere, say: then there is nothing to test, and no chance to correct for.
        if logs.iter().flatten().all(|log| *log == logs[0][0]) {
            continue;
        }
        let differences: Vec<f64> = logs
            .iter()
            .map(|[a1, a2, b1, b2]| b1.midpoint(*b2) - a1.midpoint(*a2))
            .collect();
        // As many runs on either side of the difference, but each target only against itself.
        let same: Vec<f64> = logs
            .iter()
            .map(|[a1, a2, b1, b2]| (a1 - a2 + b2 - b1) / 2.0)
            .collect();
        let ratio = paired::ratio(&differences, CONFIDENCE, RESAMPLING_SEED);
        let floor = paired::noise_floor(&same, CONFIDENCE, RESAMPLING_SEED);
        // With so few rounds nothing could be found, and the other measures would pay for the trial.
        let has_power = logs.len() >= rounds_min(level, 1) as usize;
        if let (Some(ratio), Some(floor)) = (ratio, floor.filter(|_| has_power)) {
            let p_value = paired::sign_flip_p(&differences);
            tested.push(ComparisonFinding {
                measure,
                ratio: ratio.into(),
                p_value,
                noise_floor: floor,
                rounds: logs.len(),
                is_regression: false,
            });
        }
    }
    let p_values: Vec<f64> = tested.iter().map(|finding| finding.p_value).collect();
    for (finding, p_value) in tested.iter_mut().zip(paired::holm(&p_values)) {
        finding.p_value = p_value;
        finding.is_regression = p_value <= level;
    }
    tested
}

const CONFIDENCE: f64 = 0.95;
/// The same points always give the same interval.
const RESAMPLING_SEED: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::queueing::Kind;
    use crate::study::simulated::Server;

    fn compare(cost_of_b: f64, window_s: f64, seed: u64) -> ComparisonRecord {
        let mut server = Server {
            kind: Kind::RandomFixed,
            cost_of_b,
            luck: 0.02,
            window_s,
            random: fastrand::Rng::with_seed(seed),
            ..Server::random(50_000.0)
        };
        let loads = loads(&Load::at_rate(6000.0, 0), 8, seed);
        let names = ["a".to_owned(), "b".to_owned()];
        conduct(&mut server, names, &loads, 0.05, |_| true).unwrap()
    }

    #[test]
    fn a_server_that_fails_calls_is_worse() {
        let mut server = Server::random(50_000.0);
        let mut rounds = Vec::new();
        for round in 0..8 {
            let mut points = Vec::new();
            for side in [Side::A, Side::B, Side::B, Side::A] {
                let load = Load::at_rate(1000.0, round);
                let Ok(probed) = server.probe(&load);
                let mut point = probed.point;
                if side == Side::B {
                    // Those that succeed are as fast as A's.
                    point.counts.error = point.counts.ok / 2;
                    point.counts.ok -= point.counts.error;
                }
                points.push((side, point));
            }
            rounds.push(points);
        }
        let record = evaluate("a".into(), "b".into(), 0.05, true, &rounds);
        let failures = &record.findings[0];
        assert_eq!(failures.measure, Measure::CallsPerSuccess);
        assert!(failures.is_regression && (1.9..2.1).contains(&failures.ratio.value));
    }

    #[test]
    fn every_round_is_balanced_and_a_coin_decides() {
        let loads = loads(&Load::at_rate(1.0, 0), 40, 3);
        let mut a_first = 0;
        for round in loads.chunks(4) {
            let sides: Vec<_> = round.iter().map(|load| load.side).collect();
            assert_eq!((sides[0], sides[1]), (sides[3], sides[2]));
            assert_ne!(sides[0], sides[1]);
            assert_eq!(round[0].seed, round[1].seed);
            a_first += u32::from(sides[0] == Side::A);
        }
        assert!((10..=30).contains(&a_first), "{a_first}");
    }

    #[test]
    fn an_added_cost_of_three_percent_is_found_and_named() {
        let record = compare(0.03, 2.0, 5);
        assert!(record.has_regression(), "{record:?}");
        let cpu = record
            .findings
            .iter()
            .find(|finding| finding.measure == Measure::CpuPerCall)
            .unwrap();
        assert!(cpu.is_regression && cpu.p_value <= 0.05, "{cpu:?}");
        assert!(
            cpu.ratio.lower <= 1.03 && 1.03 <= cpu.ratio.upper,
            "{cpu:?}"
        );
        assert!((0.0..0.02).contains(&cpu.noise_floor), "{cpu:?}");
        assert_eq!(record.rounds.len(), 8);
        assert_eq!(record.side(record.rounds[2].b[1]), Side::B);
        assert_eq!(record.side(record.rounds[2].a[1]), Side::A);
    }

    #[test]
    fn the_same_against_itself_raises_no_more_alarms_than_the_level() {
        let alarms = (0..40).filter(|seed| compare(0.0, 0.3, *seed).has_regression());
        // Of 40 comparisons at 5 %, more than 6 alarms come once in a hundred times.
        assert!(alarms.count() <= 6);
    }

    #[test]
    fn an_improvement_is_no_regression() {
        assert!(!compare(-0.1, 0.3, 1).has_regression());
    }

    /// Six rounds whose points are spoilt, those of both sides alike.
    fn spoilt(spoil: impl Fn(&mut PointSummary)) -> ComparisonRecord {
        struct Spoilt<F>(Server, F);
        impl<F: Fn(&mut PointSummary)> Probe for Spoilt<F> {
            type Error = std::convert::Infallible;

            fn probe(&mut self, load: &Load) -> Result<crate::study::Probed, Self::Error> {
                let mut probed = self.0.probe(load)?;
                self.1(&mut probed.point);
                Ok(probed)
            }
        }
        let mut server = Server::random(50_000.0);
        server.window_s = 0.2;
        let mut probe = Spoilt(server, spoil);
        let loads = loads(&Load::at_rate(6000.0, 0), 6, 1);
        let names = ["a".to_owned(), "b".to_owned()];
        let record = conduct(&mut probe, names, &loads, 0.05, |_| true).unwrap();
        assert_eq!(probe.0.loads.len(), 24);
        record
    }

    #[test]
    fn rounds_with_loads_that_are_no_measurement_are_left_out_and_listed() {
        let record = spoilt(|point| {
            point.validity.is_valid = point.point != 5;
            if point.point == 5 {
                point.validity.reasons = vec!["the counts do not balance".into()];
            }
        });
        assert_eq!(record.rounds.len(), 5);
        assert_eq!(record.discarded.len(), 1);
        assert_eq!(record.discarded[0].point, 5);
        assert_eq!(record.points_of_b.len(), 12);
        assert!(record.findings.iter().all(|finding| finding.rounds == 5));
    }

    #[test]
    fn a_late_generator_is_taken_out_of_the_mean_and_has_no_percentiles() {
        let record = spoilt(|point| {
            point.validity.is_valid = false;
            point.validity.lags = vec!["late".into()];
            point.validity.reasons = point.validity.lags.clone();
            point.validity.is_late = true;
            // As much as it takes to be late by a millisecond.
            point.latency.own_lag.mean_ns = 1e6;
            point.latency.response.mean_ns += 1e6;
        });
        assert_eq!((record.rounds.len(), record.late), (6, [12, 12]));
        let of = |measure| {
            let mut findings = record.findings.iter();
            findings.find(|finding| finding.measure == measure)
        };
        assert!(of(Measure::P99).is_none() && of(Measure::P50).is_none());
        let undisturbed = spoilt(|_| ());
        let mut means = undisturbed.findings.iter();
        let mean = means
            .find(|finding| finding.measure == Measure::Mean)
            .unwrap();
        let ratio = of(Measure::Mean).unwrap().ratio.value;
        assert!(
            (ratio / mean.ratio.value - 1.0).abs() < 1e-9,
            "{ratio} {mean:?}"
        );
    }

    #[test]
    fn few_rounds_can_not_find_anything() {
        assert_eq!(rounds_min(0.05, 1), 5);
        assert_eq!(rounds_min(0.05, 3), 6);
    }
}
